// W6: what an app takes on: size and packages when installed, time of the import, size of a bundle for browsers.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { talk } from './cold.mjs';

const ROOT = new URL('..', import.meta.url).pathname;

/** Bytes and packages of a `node_modules`. */
export function sizeOf(folder) {
  let bytes = 0;
  let packages = 0;
  const walk = (path) => {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      const at = join(path, entry.name);
      if (entry.isDirectory()) walk(at);
      else if (entry.isFile()) bytes += statSync(at).size;
      if (entry.name === 'package.json' && /node_modules\/(@[^/]+\/)?[^/]+\/package\.json$/.test(at)) packages++;
    }
  };
  walk(folder);
  return { bytes, packages };
}

/** Milliseconds of an import in fresh processes of which each has imported nothing else. */
export async function importMs(node, specifier, cwd, times = 5) {
  const found = [];
  const script = `const t = performance.now(); ${specifier ? `await import(${JSON.stringify(specifier)});` : ''} console.log(performance.now() - t)`;
  const file = join(cwd, '.bench-import.mjs');
  writeFileSync(file, script);
  try {
    for (let index = 0; index < times; index++) found.push(await talk(node, [file]));
  } finally {
    rmSync(file);
  }
  return found;
}

/** Minified and gzipped, as a bundler for browsers makes it of these lines. Throws when it can not. */
export async function bundleBytes(code, resolveDir) {
  const stdin = { contents: code, resolveDir };
  const { outputFiles } = await build({
    ...{ stdin, bundle: true, minify: true, write: false, format: 'esm', platform: 'browser', logLevel: 'silent' },
  });
  return gzipSync(outputFiles[0].contents, { level: 9 }).length;
}

/** stepfast as users get it: packed, and installed by npm in a folder of its own. */
export function installPacked() {
  const folder = mkdtempSync(join(tmpdir(), 'stepfast-footprint-'));
  const npm = (args, cwd) => execFileSync('npm', args, { cwd, stdio: ['ignore', 'pipe', 'ignore'] });
  const [{ filename }] = JSON.parse(npm(['pack', '--ignore-scripts', '--json', '--pack-destination', folder], ROOT));
  writeFileSync(join(folder, 'package.json'), '{ "type": "module", "private": true }');
  npm(['install', '--no-audit', '--no-fund', join(folder, filename)], folder);
  return folder;
}

export async function footprint(node) {
  const folder = installPacked();
  try {
    const installed = sizeOf(join(folder, 'node_modules'));
    const empty = await importMs(node, undefined, folder);
    const imports = await importMs(node, 'stepfast', folder);
    const bundle = await bundleBytes("export * from 'stepfast'", folder);
    const withStore = await bundleBytes("export * from 'stepfast'; export * from 'stepfast/indexeddb'", folder);
    return { ...installed, empty, imports, bundle, withStore };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
