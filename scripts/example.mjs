import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';

/*
 * `npm run example -- checkout`: plays one of demo/examples on a memory store and a simulated clock, and prints what is
 * said and what comes out.
 */

const [name] = process.argv.slice(2);
const root = new URL('..', import.meta.url).pathname;
const folder = await mkdtemp(join(root, 'node_modules', '.example-'));
try {
  const entry = `
    export { examples } from '${root}demo/examples/index.ts';
    export { createStepfast } from 'stepfast';
    export { memoryMedium, memoryStore } from 'stepfast/memory';
    export { simulatedClock } from 'stepfast/testing';`;
  const outfile = join(folder, 'example.mjs');
  await build({
    stdin: { contents: entry, resolveDir: root, loader: 'ts' },
    bundle: true,
    platform: 'node',
    format: 'esm',
    tsconfig: join(root, 'tsconfig.json'),
    outfile,
    logLevel: 'error',
  });
  const { examples, createStepfast, memoryMedium, memoryStore, simulatedClock } = await import(pathToFileURL(outfile));
  const example = examples[name];
  if (!example) {
    console.log(`Give the name of an example: ${Object.keys(examples).join(', ')}.`);
    process.exitCode = 1;
  } else {
    const medium = memoryMedium();
    const clock = simulatedClock();
    let open;
    const outcome = await example({
      clock,
      say: (line) => console.log(line),
      open(define, options = {}) {
        open?.abandon();
        const store = memoryStore({ medium });
        open = store;
        const stepfast = createStepfast({ clock, onError: () => undefined, ...options, store });
        define(stepfast);
        return stepfast;
      },
    });
    console.log(outcome);
    process.exit(); // engines that were killed on the way still have timers
  }
} finally {
  await rm(folder, { recursive: true, force: true });
}
