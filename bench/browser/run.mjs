// `npm run bench:browser`: in a real Chromium. `--json FILE`, `--rounds N` (default 3, each a fresh profile), `--quick`.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';
import { findChromium } from '../../scripts/setup.mjs';
import { describeDisk, describeMachine } from '../machine.mjs';
import { median, spread } from '../stats.mjs';

const { values: flags } = parseArgs({
  options: { json: { type: 'string' }, rounds: { type: 'string' }, quick: { type: 'boolean', default: false } },
});
const rounds = Number(flags.rounds ?? (flags.quick ? 1 : 3));
const batches = flags.quick ? 5 : 15;
const HERE = new URL('.', import.meta.url).pathname;
const began = Date.now();
const executablePath = findChromium();
if (!executablePath) throw new Error('No Chromium was found. Name it in STEPFAST_CHROMIUM.');
if (!existsSync(join(HERE, 'node_modules')))
  execFileSync('npm', ['install', '--no-audit', '--no-fund', '--no-package-lock'], { cwd: HERE, stdio: 'inherit' });

const { outputFiles } = await build({
  ...{
    entryPoints: [join(HERE, 'page.mjs')],
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    target: 'es2022',
  },
});
const script = outputFiles[0].text;
const PAGE =
  '<!doctype html><script>scriptStart = performance.now()</script><script type="module" src="/page.js"></script>';
const server = createServer(({ url }, response) => {
  const isScript = url === '/page.js';
  response.writeHead(200, { 'content-type': isScript ? 'text/javascript' : 'text/html' });
  response.end(isScript ? script : PAGE);
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const origin = `http://localhost:${server.address().port}`;

const samples = new Map();
const note = (engine, workload, unit, values, raw) => {
  const key = JSON.stringify([engine, workload]);
  const found = samples.get(key) ?? { engine, workload, unit, values: [], toRaw: [] };
  samples.set(key, found);
  found.values.push(...values);
  if (raw) found.toRaw.push(...values.map((value, index) => value / raw[index]));
};

let version = '';
for (let round = 0; round < rounds; round++) {
  const profile = mkdtempSync(join(tmpdir(), 'stepfast-bench-chromium-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    args: ['--no-sandbox', '--disable-gpu'],
  });
  version = context.browser()?.version() ?? version;
  const page = await context.newPage();
  const ready = () => page.waitForFunction(() => 'bench' in globalThis);
  await page.goto(origin);
  await ready();
  process.stderr.write(`round ${round + 1}: one commit\n`);
  const one = await page.evaluate((count) => globalThis.bench.oneByOne(count), batches);
  for (const [engine, values] of Object.entries(one)) note(engine, 'B1 one commit', 'ms', values, one.raw);
  process.stderr.write(`round ${round + 1}: 100 at once\n`);
  const many = await page.evaluate((count) => globalThis.bench.atOnce(count), Math.ceil(batches / 3));
  for (const [engine, values] of Object.entries(many)) note(engine, 'B2 100 at once', 'commits/s', values, many.raw);
  process.stderr.write(`round ${round + 1}: resume after a reload\n`);
  await page.evaluate(() => globalThis.bench.prepare('resume', 1_000));
  // From an address of its own, so that it is loaded anew: by itself the page does not wait for this process.
  await page.goto(`${origin}/again#resume`);
  await ready();
  const { ms, again } = await page.evaluate(() => globalThis.bench.resumed);
  if (again !== 0) throw new Error(`${again} steps ran again`);
  note('stepfast IndexedDB', 'B3 resume', 'ms', [ms]);
  await context.close();
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
}
server.close();

const durability = { raw: 'relaxed', Dexie: 'relaxed', 'stepfast IndexedDB': 'relaxed, as is its default' };
const cells = [...samples.values()].map(({ values, toRaw, ...cell }) => ({
  ...cell,
  ...{ value: median(values), spread: spread(values), samples: values.length },
  ratioToRaw: toRaw.length ? median(toRaw) : null,
  ratioToFloor: null,
  durability: durability[cell.engine],
}));
const seconds = Math.round((Date.now() - began) / 1000);
const report = {
  ...describeMachine(),
  disk: describeDisk(tmpdir()),
  browser: `Chromium ${version}`,
  rounds,
  seconds,
  cells,
};
if (flags.json) writeFileSync(flags.json, `${JSON.stringify(report, null, 1)}\n`);
for (const { engine, workload, value, unit, spread: wide, ratioToRaw } of cells)
  console.log(
    `${workload.padEnd(18)}${engine.padEnd(22)}${value.toPrecision(3).padStart(8)} ${unit.padEnd(10)} ±${(wide * 50).toFixed(0)}%  ${ratioToRaw?.toFixed(2) ?? ''}`,
  );
console.log(`\n${seconds} s, Chromium ${version}`);
