// What the demo needs before it can begin: packages, and the built package that it imports like any user.
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ensurePackages, run } from '../scripts/setup.mjs';

const newestIn = (path) => {
  const found = statSync(path);
  if (!found.isDirectory()) return found.mtimeMs;
  return Math.max(...readdirSync(path).map((name) => newestIn(join(path, name))), 0);
};
const builtAt = () => statSync('dist/index.js', { throwIfNoEntry: false })?.mtimeMs ?? 0;

/** Installs and builds what is missing or older than its sources. Works in the package's own folder. */
export function ensureBuilt() {
  ensurePackages();
  if (builtAt() > Math.max(...['src', 'adapters', 'tsup.config.ts'].map(newestIn))) return;
  console.log('== build');
  if (!run(process.execPath, [join('node_modules', 'tsup', 'dist', 'cli-default.js'), '--silent']))
    throw new Error('The package could not be built.');
}
