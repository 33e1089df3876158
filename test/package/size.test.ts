import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { afterAll, describe, expect, it } from 'vitest';
import { freshProject, root } from './fresh-project.js';

/*
 * Pins: what stepfast costs a page, against the budgets in package.json, which the README quotes. Measured on the packed
 * tarball: everything that an entry exports, bundled by esbuild with all dependencies, minified, ES2022, `gzip -9`.
 */

const project = freshProject();
afterAll(project.remove);

/** Budgets are in bytes, in steps of this many: small enough to see a change, large enough not to fail for a word. */
const STEP = 100;
const budgets: Readonly<Record<string, number>> = project.manifest.sizeBudget;
const readme = readFileSync(join(root, 'README.md'), 'utf8');

const measured: readonly (readonly [entry: string, specifiers: readonly string[]])[] = [
  ['.', ['stepfast']],
  ['./indexeddb', ['stepfast', 'stepfast/indexeddb']],
  ['./schedules', ['stepfast', 'stepfast/schedules']],
  ['./encryption', ['stepfast', 'stepfast/encryption']],
  // A full app: with IndexedDB and all plug-ins.
  ['./transfer', ['stepfast', 'stepfast/indexeddb', 'stepfast/schedules', 'stepfast/encryption', 'stepfast/transfer']],
];

async function sizeOf(specifiers: readonly string[]): Promise<number> {
  const { outputFiles } = await build({
    stdin: {
      contents: specifiers.map((name) => `export * from '${name}';`).join('\n'),
      resolveDir: project.dir,
    },
    bundle: true,
    minify: true,
    platform: 'browser',
    format: 'esm',
    target: 'es2022',
    legalComments: 'none',
    write: false,
  });
  return gzipSync(outputFiles[0]!.contents, { level: 9 }).length;
}

/** What is wrong with a budget, in words that say what to do. */
function verdict(entry: string, size: number, budget: number): string {
  if (size > budget)
    return `"${entry}" is ${size} bytes: ${size - budget} over its budget of ${budget}. Make it smaller, or decide to raise sizeBudget["${entry}"] to ${Math.ceil(size / STEP) * STEP}.`;
  const lowest = Math.ceil(size / STEP) * STEP;
  if (lowest < budget)
    return `"${entry}" is ${size} bytes: ${budget - size} under its budget of ${budget}. Lower sizeBudget["${entry}"] by ${budget - lowest}, to ${lowest}.`;
  return 'fits';
}

describe('size', () => {
  it('a budget for each entry that pages load, and for nothing else', () => {
    expect(Object.keys(budgets)).toEqual(measured.map(([entry]) => entry));
    for (const budget of Object.values(budgets)) expect(budget % STEP).toBe(0);
  });

  it.each(measured)('%s stays within its budget, and the budget stays close', async (entry, specifiers) => {
    const size = await sizeOf(specifiers);
    expect(size).toBeGreaterThan(1_000);
    expect(verdict(entry, size, budgets[entry]!)).toBe('fits');
  });

  it.each(measured)('the README quotes the budget of %s', (entry) => {
    // In the row of the entry in the table of entries; `24.3 kB` is 24,300 bytes.
    const name = entry === '.' ? 'stepfast' : `stepfast${entry.slice(1)}`;
    const row = readme.split('\n').find((line) => line.startsWith(`| \`${name}\` |`)) ?? '';
    const quoted = /(\d+\.\d) kB/.exec(row)?.[0];
    expect(quoted, `the row of ${name} in README.md: ${row}`).toBe(`${(budgets[entry]! / 1_000).toFixed(1)} kB`);
  });

  it('a budget that is missed, or could be lowered, says by how much', () => {
    expect(verdict('.', 1_001, 1_000)).toContain('1 over its budget of 1000');
    expect(verdict('.', 1_001, 1_000)).toContain('to 1100');
    expect(verdict('.', 850, 1_000)).toContain('150 under its budget of 1000. Lower sizeBudget["."] by 100, to 900');
    expect(verdict('.', 901, 1_000)).toBe('fits');
  });

  it('the size is that of `gzip -9`', { skip: spawnSync('gzip', ['--version']).status !== 0 }, () => {
    const text = readme.repeat(3);
    const { stdout } = spawnSync('gzip', ['-9', '-n', '-c'], { input: text });
    // Another build of zlib may differ by a few bytes.
    expect(Math.abs(stdout.length - gzipSync(text, { level: 9 }).length)).toBeLessThan(100);
  });
});
