import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';

/*
 * `npm run sim -- --seed N [--trace]`: runs one seed of the simulation and prints what it drew, how often what happened,
 * and what was broken; with `--trace` everything, in order. Exit code 1 when something was broken.
 * `--count N`: so many seeds from there on.
 */

const { values } = parseArgs({
  options: { seed: { type: 'string' }, count: { type: 'string', default: '1' }, trace: { type: 'boolean' } },
});
const seed = Number(values.seed);
const count = Number(values.count);
if (!Number.isInteger(seed) || !Number.isInteger(count)) {
  console.error('npm run sim -- --seed N [--count N] [--trace]');
  process.exit(1);
}

const root = new URL('..', import.meta.url).pathname;
const folder = await mkdtemp(join(root, 'node_modules', '.sim-'));
try {
  const outfile = join(folder, 'sim.mjs');
  await build({
    entryPoints: [join(root, 'test', 'prove', 'sim', 'simulate.ts')],
    bundle: true,
    platform: 'node',
    format: 'esm',
    packages: 'external',
    tsconfig: join(root, 'tsconfig.json'),
    outfile,
    sourcemap: 'inline',
    logLevel: 'error',
  });
  const { simulate } = await import(pathToFileURL(outfile));
  const log = values.trace ? (line) => console.log(line) : undefined;
  const started = performance.now();
  let broken = 0;
  for (let each = seed; each < seed + count; each++) {
    const { mix, counts, wrongs, choices, commits } = await simulate(each, { log });
    if (wrongs.length) broken++;
    if (count > 1) {
      for (const wrong of wrongs) console.log(`seed ${each}: ${wrong}`);
      continue;
    }
    console.log(JSON.stringify(mix));
    for (const [what, times] of counts) console.log(`${String(times).padStart(6)} ${what}`);
    console.log(`${choices} choices, ${commits} commits`);
    for (const wrong of wrongs) console.log(`VIOLATION ${wrong}`);
  }
  if (count > 1) {
    const seconds = (performance.now() - started) / 1000;
    console.log(`${count} seeds, ${broken} broken, ${seconds.toFixed(1)} s, ${(count / seconds).toFixed(0)} seeds/s`);
  }
  process.exitCode = broken ? 1 : 0;
} finally {
  await rm(folder, { recursive: true, force: true });
}
