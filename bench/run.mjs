// `npm run bench`: everything in one run, in rounds, each cell in a fresh process, so that what drifts drifts for all.
//
//   --json FILE   write the figures        --only W1,W2   some workloads        --rounds N   default 3
//   --quick       small sizes, 1 round     --full         long ones too         --peers      also those of bench/peers
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { bareNode, prepare, resume, talk } from './cold.mjs';
import { footprint } from './footprint.mjs';
import { fsyncsPerStep, hasStrace } from './fsyncs.mjs';
import { describeDisk, describeMachine } from './machine.mjs';
import { installedPeers } from './peers/install.mjs';
import { floorOf, workloads } from './plan.mjs';
import { median, spread } from './stats.mjs';

const { values: flags } = parseArgs({
  options: {
    json: { type: 'string' },
    only: { type: 'string' },
    rounds: { type: 'string' },
    dir: { type: 'string' },
    quick: { type: 'boolean', default: false },
    full: { type: 'boolean', default: false },
    peers: { type: 'boolean', default: false },
  },
});
const rounds = Number(flags.rounds ?? (flags.quick ? 1 : 3));
const only = flags.only?.split(',');
const isWanted = (id) => !only || only.includes(id);
const CELL = new URL('cell.mjs', import.meta.url).pathname;
const began = Date.now();
const base = mkdtempSync(join(flags.dir ?? tmpdir(), 'stepfast-bench-'));
const disk = describeDisk(base);
if (/tmpfs|ramfs/.test(disk.type))
  throw new Error(`${base} is in memory (${disk.type}). Name a folder on a disk: --dir.`);

const peers = flags.peers ? installedPeers() : {};
const plan = workloads({ ...flags, peers }).filter(({ id, engines }) => isWanted(id) && engines.length > 0);
const nodeOf = (engine) => peers[engine]?.node ?? process.execPath;
/** What each engine says of its durability, in the processes that have loaded it. */
const infoOf = new Map();

/** By engine and figure, one value a round; and what it was compared with in that very round. */
const samples = new Map();
const note = (engine, workload, unit, value, ratios = {}) => {
  const key = JSON.stringify([engine, workload]);
  const found = samples.get(key) ?? { engine, workload, unit, values: [], toRaw: [], toFloor: [] };
  samples.set(key, found);
  found.values.push(value);
  if (ratios.raw) found.toRaw.push(value / ratios.raw);
  if (ratios.floor) found.toFloor.push(value / ratios.floor);
};
const say = (text) => process.stderr.write(`${((Date.now() - began) / 1000).toFixed(0).padStart(4)} s  ${text}\n`);
const failures = [];

/** One round of one workload: the floors come first, the others are compared with them. */
async function measure(each, round) {
  const floors = new Map();
  for (const engine of each.engines) {
    const node = nodeOf(engine);
    const place = join(base, `${plan.indexOf(each)}-${engine.replace(/\W+/g, '-')}`);
    try {
      const found = each.isCold
        ? await resume(node, { engine, dir: place, ...each.options }, round)
        : await inFolder((dir) =>
            talk(node, [CELL, JSON.stringify({ engine, workload: each.workload, dir, ...each.options })]),
          );
      if (engine.startsWith('floor')) floors.set(engine, found);
      if (found.info) infoOf.set(engine, found.info);
      for (const { name, of, unit } of each.figures) {
        const floor = floors.get(floorOf(engine));
        const raw = unit === 'steps/s' ? found.raw : undefined;
        note(engine, name, unit, of(found), {
          raw,
          floor: engine.startsWith('floor') || !floor ? undefined : of(floor),
        });
      }
    } catch (error) {
      failures.push({ engine, workload: each.id, error: String(error.message).slice(0, 600) });
      say(`FAILED ${engine}, ${each.id}: ${String(error.message).slice(0, 400)}`);
    }
  }
}

/** All figures so far: in the file after each round, so that a run that is stopped has not been for nothing. */
function report(roundsDone) {
  const cells = [...samples.values()].map(({ engine, workload, unit, values, toRaw, toFloor }) => {
    const { durability, flush } = infoOf.get(engine) ?? {};
    return {
      ...{ engine, workload, value: median(values), unit, spread: spread(values), samples: values.length },
      ratioToRaw: toRaw.length ? median(toRaw) : null,
      ratioToFloor: toFloor.length ? median(toFloor) : null,
      ...(durability && { durability, flush }),
      ...(peers[engine]?.node24 && { node: '24' }),
    };
  });
  const seconds = Math.round((Date.now() - began) / 1000);
  const all = { ...describeMachine(), disk, seconds, rounds: roundsDone, flags, cells, failures };
  if (flags.json) writeFileSync(flags.json, `${JSON.stringify(all, null, 1)}\n`);
  return { cells, seconds };
}

async function inFolder(use) {
  const dir = mkdtempSync(join(base, 'cell-'));
  try {
    return await use(dir);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

for (const each of plan.filter(({ isCold }) => isCold))
  for (const engine of each.engines) {
    say(`${each.id} ${engine}: preparing`);
    await prepare(nodeOf(engine), {
      engine,
      dir: join(base, `${plan.indexOf(each)}-${engine.replace(/\W+/g, '-')}`),
      ...each.options,
    });
  }
for (let round = 0; round < rounds; round++) {
  if (isWanted('raw')) {
    say(`round ${round + 1}: raw`);
    const raw = await inFolder((dir) => talk(process.execPath, [CELL, JSON.stringify({ engine: 'raw', dir })]));
    for (const [form, value] of Object.entries(raw)) note('raw', form, 'records/s', value, { raw: raw.sync });
  }
  if (isWanted('W4')) note('bare Node', 'W4 1,000 steps', 'ms', await bareNode(process.execPath));
  for (const each of plan) {
    say(`round ${round + 1}: ${each.id} ${each.title}`);
    await measure(each, round);
  }
  report(round + 1);
}
if (isWanted('fsyncs') && hasStrace())
  for (const engine of ['floor', 'stepfast file']) {
    say(`fsyncs of ${engine}`);
    const { sequential, atOnce } = fsyncsPerStep(process.execPath, base, engine, { concurrency: 100 });
    note(engine, 'fsyncs a step, in sequence', 'fsyncs', sequential);
    note(engine, 'fsyncs a step, 100 at once', 'fsyncs', atOnce);
  }
if (isWanted('W6')) {
  say('W6 install, import, bundle');
  const found = await footprint(process.execPath);
  note('stepfast', 'W6 installed', 'KiB', found.bytes / 1024);
  note('stepfast', 'W6 packages', 'packages', found.packages);
  for (const value of found.imports) note('stepfast', 'W6 import', 'ms', value);
  for (const value of found.empty) note('bare Node', 'W6 import', 'ms', value);
  note('stepfast', 'W6 bundle', 'bytes', found.bundle);
  note('stepfast with IndexedDB', 'W6 bundle', 'bytes', found.withStore);
}
rmSync(base, { recursive: true });

const { cells, seconds } = report(rounds);
const show = (value) =>
  value === null || value === undefined ? '' : value >= 100 ? value.toFixed(0) : value.toPrecision(3);
console.log(
  `${'engine'.padEnd(26)}${'workload'.padEnd(28)}${'value'.padStart(10)} ${'unit'.padEnd(10)}spread   /raw  /floor`,
);
for (const { engine, workload, value, unit, spread: wide, ratioToRaw, ratioToFloor } of cells)
  console.log(
    engine.padEnd(26) +
      workload.padEnd(28) +
      show(value).padStart(10) +
      ` ${unit.padEnd(10)}` +
      `±${(wide * 50).toFixed(0)}%`.padEnd(7) +
      show(ratioToRaw).padStart(7) +
      show(ratioToFloor).padStart(8),
  );
console.log(`\n${seconds} s, ${cells.length} cells${failures.length ? `, ${failures.length} FAILED` : ''}`);
process.exitCode = failures.length ? 1 : 0;
