import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';

/*
 * `npm run golden`: makes test/golden/v<N>, the stores of the present format in every intermediate state that
 * a run can have. Done once for each format, before it is released; an existing version is never written over.
 */

const root = new URL('..', import.meta.url).pathname;
process.chdir(root);
const outfile = join(root, 'node_modules', '.golden', 'make.mjs');
await build({
  entryPoints: [join(root, 'test', 'golden', 'make.ts')],
  bundle: true,
  platform: 'node',
  format: 'esm',
  packages: 'external',
  outfile,
  logLevel: 'error',
});
process.on('exit', () => rmSync(join(outfile, '..'), { recursive: true, force: true }));
await import(pathToFileURL(outfile).href);
