import { spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { faults } from '../test/prove/bugs/faults.mjs';
import { ensurePackages } from './setup.mjs';

/*
 * `npm run prove:bugs [-- words of a name...]`: puts deliberate faults (test/prove/bugs/faults.mjs) one at a time into a
 * copy of the source, runs the tests that should catch it, and tells which did, after how long. Exit code 1 when one
 * survives that is not explained, when an explained one is caught after all, or when the sound copy does not pass.
 */

ensurePackages();
const root = new URL('..', import.meta.url).pathname;
const words = process.argv.slice(2);
const chosen = faults.filter(({ name }) => words.every((word) => name.includes(word)));
const lanes = Math.min(2, availableParallelism());
const TIMEOUT_MS = 180_000;

function freshCopy() {
  const folder = mkdtempSync(join(tmpdir(), 'stepfast-bugs-'));
  for (const name of [
    'src',
    'adapters',
    'plugins',
    'test',
    'scripts',
    'package.json',
    'tsconfig.json',
    'vitest.config.ts',
  ])
    cpSync(join(root, name), join(folder, name), { recursive: true });
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'), 'dir');
  return folder;
}

/** A change that fits nowhere, or in two places, proves nothing: the table has to be mended first. */
function apply(folder, { name, file, find, instead }) {
  const path = join(folder, file);
  const before = readFileSync(path, 'utf8');
  const count = before.split(find).length - 1;
  if (count !== 1) throw new Error(`"${name}": its text is ${count} times in ${file}, not once. Mend the table.`);
  writeFileSync(
    path,
    before.replace(find, () => instead),
  );
  return () => writeFileSync(path, before);
}

/** Runs one test file, perhaps only some of its tests. */
function runTests(folder, words) {
  const [file, ...rest] = words.split(' ');
  const args = ['node_modules/vitest/vitest.mjs', 'run', '--project', 'unit', '--bail', '1', file, ...rest];
  const child = spawn(process.execPath, args, {
    cwd: folder,
    env: { ...process.env, NO_COLOR: '1', CHAOS_COUNT: '40' },
  });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (text += chunk));
  const timer = setTimeout(() => child.kill('SIGKILL'), TIMEOUT_MS);
  return new Promise((ended) =>
    child.on('close', (status) => {
      clearTimeout(timer);
      ended({ status, text });
    }),
  );
}

/** What made it fail: a test that failed, or that never came to its end. Anything else has caught nothing. */
function caughtBy({ status, text }) {
  if (status === 0) return undefined;
  if (status === null) return 'it hangs';
  const failed = /FAIL\s+(.+)/.exec(text)?.[1];
  if (!failed) throw new Error(`the tests did not run:\n${text.slice(-2_000)}`);
  return failed.replace(/^\|?unit\|?\s*/, '');
}

const copies = Array.from({ length: lanes }, freshCopy);
const soundCopy = freshCopy();
process.on('exit', () => {
  for (const folder of [...copies, soundCopy]) rmSync(folder, { recursive: true, force: true });
});
for (const fault of chosen) apply(copies[0], fault)(); // before anything is run: all fit

const problems = [];
async function eachOf(items, work) {
  const queue = [...items];
  await Promise.all(
    copies.map(async (folder) => {
      for (let item = queue.shift(); item; item = queue.shift()) await work(folder, item);
    }),
  );
}

/** That these tests pass on the sound copy: asked once for each, by whoever needs it first. */
const sound = new Map();
const isSound = (words) => {
  if (!sound.has(words))
    sound.set(
      words,
      runTests(soundCopy, words).then(({ status, text }) => {
        if (status !== 0) problems.push(`the sound copy does not pass ${words}:\n${text.slice(-1_500)}`);
        return status === 0;
      }),
    );
  return sound.get(words);
};

const width = Math.max(...chosen.map(({ name }) => name.length));
await eachOf(chosen, async (folder, fault) => {
  const tests = [];
  for (const words of fault.by) if (await isSound(words)) tests.push(words);
  const undo = apply(folder, fault);
  const started = Date.now();
  let caught;
  try {
    for (const words of tests) caught ??= caughtBy(await runTests(folder, words));
  } catch (error) {
    problems.push(`"${fault.name}": ${error.message}`);
  }
  undo();
  const seconds = ((Date.now() - started) / 1000).toFixed(1).padStart(6);
  const said = caught ? `caught by ${caught}` : fault.survives ? `survives: ${fault.survives}` : 'SURVIVES';
  console.log(`${fault.name.padEnd(width)}  ${seconds} s  ${said}`);
  if (!caught && !fault.survives) problems.push(`"${fault.name}" survives`);
  if (caught && fault.survives) problems.push(`"${fault.name}" is caught after all: take its explanation away`);
});
for (const problem of problems) console.error(problem);
console.log(`\n${chosen.length} faults, ${problems.length} problems`);
process.exitCode = problems.length ? 1 : 0;
