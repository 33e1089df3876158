import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';
import { ensurePackages } from './setup.mjs';

/*
 * `npm run prove [-- techniques...] [--minutes N] [--seed N]`: runs the techniques of test/prove, in processes of their
 * own, two at a time, and prints one table. Exit code 1 on any violation.
 *
 * Without names: all of them. With `--minutes` each technique goes on for its share of the time, with seeds that were not
 * used before (kept in .prove/seeds.json); without, it does its fixed amount of work from seed 1.
 */

/**
 * In how many parts each is done, those in one part first: so both lanes are busy up to the end. The simulation takes as
 * long on any machine.
 */
const PARTS = { kills: 1, chromium: 1, sim: 2, disk: 4, crash: 4 };
/** What is interesting has to happen in one of twenty seeds in which it could; of so many seeds a share means something. */
const [LEAST, ENOUGH] = [0.05, 150];
/** A lane is one core: threads of the collector would take the other, and small young generations half of the time. */
const FLAGS = ['--enable-source-maps', '--max-semi-space-size=64', '--single-threaded-gc'];

ensurePackages();
const root = new URL('..', import.meta.url).pathname;
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { minutes: { type: 'string' }, seed: { type: 'string' } },
});
const folder = join(root, 'test', 'prove');
const known = Object.keys(PARTS);
const unknown = positionals.filter((name) => !known.includes(name));
const minutes = values.minutes === undefined ? undefined : Number(values.minutes);
if (unknown.length || Number.isNaN(minutes)) {
  console.error(`npm run prove -- [${known.join('|')}]... [--minutes N] [--seed N]`);
  process.exit(1);
}
const IN_BROWSER = ['chromium'];
const skipped = process.env.STEPFAST_SKIP_BROWSERS === '1' ? IN_BROWSER : [];
if (skipped.length) console.log(`STEPFAST_SKIP_BROWSERS=1: ${skipped.join(', ')} is left out.`);
const chosen = known.filter((name) => (!positionals.length || positionals.includes(name)) && !skipped.includes(name));
const lanes = Math.min(2, availableParallelism());
// One case, shown again: whichever part it is in.
const partsOf = (name) => (process.env.CRASH_CASE ? 1 : PARTS[name]);

const seedFile = join(root, '.prove', 'seeds.json');
const used = existsSync(seedFile) ? JSON.parse(readFileSync(seedFile, 'utf8')) : {};
const firstSeedOf = (name) => (values.seed ? Number(values.seed) : minutes ? (used[name] ?? 1_000_000) : 1);

const out = join(root, 'node_modules', `.prove-${process.pid}`);
const bundle = (name) =>
  build({
    stdin: {
      contents: `
        import { technique } from './${name}/index.ts';
        const [budgetMs, firstSeed, part] = JSON.parse(process.argv[2]);
        const say = (line) => process.stderr.write(line + '\\n');
        const proof = await technique.prove({ budgetMs: budgetMs ?? undefined, firstSeed, part, say });
        process.stdout.write('\\n' + JSON.stringify({ title: technique.title, ...proof }), () => process.exit());`,
      resolveDir: folder,
      loader: 'ts',
    },
    bundle: true,
    platform: 'node',
    format: 'esm',
    packages: 'external',
    tsconfig: join(root, 'tsconfig.json'),
    outfile: join(out, `${name}.mjs`),
    sourcemap: 'inline',
    logLevel: 'error',
  });

/** A part that does not tell its result has proved nothing: that is a violation. */
async function prove({ name, index, of }) {
  const started = Date.now();
  const budgetMs = minutes && (minutes * 60_000 * lanes) / chosen.length / of;
  let proof;
  try {
    const args = JSON.stringify([budgetMs, firstSeedOf(name), { index, of }]);
    const options = { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] };
    const child = spawn(process.execPath, [...FLAGS, join(out, `${name}.mjs`), args], options);
    let text = '';
    child.stdout.on('data', (chunk) => (text += chunk));
    await new Promise((ended) => child.on('close', ended));
    proof = JSON.parse(text.slice(text.lastIndexOf('\n') + 1));
  } catch (error) {
    proof = { title: name, cases: 0, seeds: 0, counts: {}, violations: [`${name} ended without a result: ${error}`] };
  }
  return { ...proof, name, seconds: (Date.now() - started) / 1000 };
}

/** What the parts of one technique have proved together. */
function sumOf(parts) {
  const [{ title, name }] = parts;
  const counts = {};
  const interesting = {};
  for (const part of parts) {
    for (const [what, count] of Object.entries(part.counts))
      counts[what] = what === 'flows' ? count : (counts[what] ?? 0) + count;
    for (const [what, [happened, could]] of Object.entries(part.interesting ?? {})) {
      const [before, couldBefore] = interesting[what] ?? [0, 0];
      interesting[what] = [before + happened, couldBefore + could];
    }
  }
  const violations = parts.flatMap((part) => part.violations);
  for (const [what, [happened, could]] of Object.entries(interesting))
    if (could >= ENOUGH && happened < could * LEAST)
      violations.push(`too tame: "${what}" in ${happened} of ${could} seeds in which it could happen`);
  const sum = (pick) => parts.reduce((total, part) => total + pick(part), 0);
  return {
    ...{ title, name, counts, interesting, violations },
    cases: sum((part) => part.cases),
    seconds: sum((part) => part.seconds),
    seeds: Math.max(...parts.map((part) => part.seeds)),
  };
}

const started = Date.now();
mkdirSync(out, { recursive: true });
await Promise.all(chosen.map(bundle));
const queue = chosen.flatMap((name) =>
  Array.from({ length: partsOf(name) }, (_, index) => ({ name, index, of: partsOf(name) })),
);
const parts = [];
await Promise.all(
  Array.from({ length: lanes }, async () => {
    for (let part = queue.shift(); part; part = queue.shift()) parts.push(await prove(part));
  }),
);
rmSync(out, { recursive: true, force: true });
const proofs = chosen.map((name) => sumOf(parts.filter((part) => part.name === name)));
if (minutes) {
  for (const { name, seeds } of proofs) used[name] = firstSeedOf(name) + seeds;
  mkdirSync(join(root, '.prove'), { recursive: true });
  writeFileSync(seedFile, `${JSON.stringify(used, null, 2)}\n`);
}

const width = Math.max(...proofs.map(({ title }) => title.length), 9);
console.log(`\n${'technique'.padEnd(width)}  ${'cases'.padStart(8)}  violations  seconds`);
for (const { title, cases, violations, seconds, counts, interesting } of proofs) {
  console.log(
    `${title.padEnd(width)}  ${String(cases).padStart(8)}  ${String(violations.length).padStart(10)}  ${seconds.toFixed(1).padStart(7)}`,
  );
  const told = Object.entries(counts).map(([what, count]) => `${what} ${count}`);
  if (told.length) console.log(`  ${told.join(' · ')}`);
  const share = ([happened, could]) => `${((100 * happened) / Math.max(1, could)).toFixed(0)} %`;
  const events = Object.entries(interesting).map(([what, pair]) => `${what} ${pair[0]} (${share(pair)})`);
  if (events.length) console.log(`  seeds with ${events.join(' · ')}`);
}
console.log(`${((Date.now() - started) / 1000).toFixed(0)} seconds in all, ${lanes} at a time`);
for (const { violations } of proofs) for (const violation of violations) console.log(`VIOLATION ${violation}`);
process.exitCode = proofs.some(({ violations }) => violations.length) ? 1 : 0;
