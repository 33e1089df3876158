import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';
import { ensurePackages } from './setup.mjs';

/*
 * `npm run prove [-- techniques...] [--minutes N] [--seed N]`: runs the techniques of test/prove, each in a process of
 * its own, two at a time, and prints one table. Exit code 1 on any violation.
 *
 * Without names: all of them. With `--minutes` each technique goes on for its share of the time, with seeds that were not
 * used before (kept in .prove/seeds.json); without, it does its fixed amount of work from seed 1.
 */

ensurePackages();
const root = new URL('..', import.meta.url).pathname;
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { minutes: { type: 'string' }, seed: { type: 'string' } },
});
const folder = join(root, 'test', 'prove');
const known = readdirSync(folder).filter((name) => existsSync(join(folder, name, 'index.ts')));
const unknown = positionals.filter((name) => !known.includes(name));
const minutes = values.minutes === undefined ? undefined : Number(values.minutes);
if (unknown.length || Number.isNaN(minutes)) {
  console.error(`npm run prove -- [${known.join('|')}]... [--minutes N] [--seed N]`);
  process.exit(1);
}
const IN_BROWSER = ['chromium'];
const skipped = process.env.STEPFAST_SKIP_BROWSERS === '1' ? IN_BROWSER : [];
if (skipped.length) console.log(`STEPFAST_SKIP_BROWSERS=1: ${skipped.join(', ')} is left out.`);
const chosen = (positionals.length ? positionals : known).filter((name) => !skipped.includes(name));
const lanes = Math.min(2, availableParallelism(), chosen.length);

const seedFile = join(root, '.prove', 'seeds.json');
const used = existsSync(seedFile) ? JSON.parse(readFileSync(seedFile, 'utf8')) : {};
const firstSeedOf = (name) => (values.seed ? Number(values.seed) : minutes ? (used[name] ?? 1_000_000) : 1);

const out = join(root, 'node_modules', `.prove-${process.pid}`);
const bundle = (name) =>
  build({
    stdin: {
      contents: `
        import { technique } from './${name}/index.ts';
        const [budgetMs, firstSeed] = JSON.parse(process.argv[2]);
        const say = (line) => process.stderr.write(line + '\\n');
        const proof = await technique.prove({ budgetMs: budgetMs ?? undefined, firstSeed, say });
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

/** A technique that does not tell its result has proved nothing: that is a violation. */
async function prove(name) {
  const started = Date.now();
  const budgetMs = minutes && (minutes * 60_000 * lanes) / chosen.length;
  let proof;
  try {
    await bundle(name);
    const args = ['--enable-source-maps', join(out, `${name}.mjs`), JSON.stringify([budgetMs, firstSeedOf(name)])];
    const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.on('data', (chunk) => (text += chunk));
    await new Promise((ended) => child.on('close', ended));
    proof = JSON.parse(text.slice(text.lastIndexOf('\n') + 1));
  } catch (error) {
    proof = { title: name, cases: 0, seeds: 0, counts: {}, violations: [`${name} ended without a result: ${error}`] };
  }
  if (minutes) used[name] = firstSeedOf(name) + proof.seeds;
  return { ...proof, seconds: (Date.now() - started) / 1000 };
}

mkdirSync(out, { recursive: true });
const queue = [...chosen];
const proofs = [];
await Promise.all(
  Array.from({ length: lanes }, async () => {
    for (let name = queue.shift(); name; name = queue.shift()) proofs.push(await prove(name));
  }),
);
rmSync(out, { recursive: true, force: true });
if (minutes) {
  mkdirSync(join(root, '.prove'), { recursive: true });
  writeFileSync(seedFile, `${JSON.stringify(used, null, 2)}\n`);
}

const width = Math.max(...proofs.map(({ title }) => title.length), 9);
console.log(`\n${'technique'.padEnd(width)}  ${'cases'.padStart(8)}  violations  seconds`);
for (const { title, cases, violations, seconds, counts } of proofs) {
  console.log(
    `${title.padEnd(width)}  ${String(cases).padStart(8)}  ${String(violations.length).padStart(10)}  ${seconds.toFixed(1).padStart(7)}`,
  );
  const told = Object.entries(counts).map(([what, count]) => `${what} ${count}`);
  if (told.length) console.log(`  ${told.join(' · ')}`);
}
for (const { violations } of proofs) for (const violation of violations) console.log(`VIOLATION ${violation}`);
process.exitCode = proofs.some(({ violations }) => violations.length) ? 1 : 0;
