import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { faults } from '../test/prove/bugs/faults.mjs';
import { ensurePackages } from './setup.mjs';

/*
 * `npm run prove:bugs [-- --only NAME]... [-- --slice 1/3]`: puts deliberate faults (test/prove/bugs/faults.mjs) one at a time into a
 * copy of the source, runs the tests and proofs that should catch it, and tells which did, after how long. Exit code 1
 * when one survives that is not explained, when an explained one is caught after all, or when the sound copy does not
 * pass. The latest result of each is kept in .prove/bugs.json; once all have one, the table goes into docs/reliability.md.
 */

ensurePackages();
const root = new URL('..', import.meta.url).pathname;
const { only, slice } = parseArgs({
  options: { only: { type: 'string', multiple: true }, slice: { type: 'string', default: '1/1' } },
}).values;
const [part, parts] = slice.split('/').map(Number);
const chosen = faults.filter(({ name }, at) => (only ? only.includes(name) : at % parts === part - 1));
if (!chosen.length) {
  console.error(`npm run prove:bugs [-- --only NAME]... [-- --slice 1/3]; the names are those of test/prove/bugs.`);
  process.exit(1);
}
const lanes = Math.min(2, availableParallelism());
const TIMEOUT_MS = 180_000;

function freshCopy() {
  const folder = mkdtempSync(join(tmpdir(), 'stepfast-bugs-'));
  for (const name of [
    'docs',
    'src',
    'adapters',
    'plugins',
    'test',
    'scripts',
    'package.json',
    'package-lock.json',
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

/** The command behind the words of `by`: a test file, perhaps only some of its tests, or cases of a proof. */
function commandOf(words) {
  const [file, ...rest] = words.split(' ');
  if (file !== 'prove') {
    const vitest = ['node_modules/vitest/vitest.mjs', 'run', '--project', 'unit', '--bail', '1'];
    return { args: [...vitest, file, ...rest], env: { CHAOS_COUNT: '40' } };
  }
  const [technique, cases] = rest;
  return { args: ['scripts/prove.mjs', technique], env: { CRASH_CASE: cases } };
}

function runTests(folder, words) {
  const { args, env } = commandOf(words);
  const child = spawn(process.execPath, args, {
    cwd: folder,
    env: { ...process.env, NO_COLOR: '1', ...env },
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

/** What made it fail: a test that failed, a violation, or that it never came to its end. Anything else has caught nothing. */
function caughtBy({ status, text }) {
  if (status === 0) return undefined;
  if (status === null) return 'it hangs';
  const violation = /VIOLATION (CRASH_CASE=\S+ npm run prove -- \w+)/.exec(text)?.[1];
  if (violation) return violation;
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
const kept = join(root, '.prove', 'bugs.json');
const results = existsSync(kept) ? JSON.parse(readFileSync(kept, 'utf8')) : {};
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
  results[fault.name] = { caught, seconds: seconds.trim() };
  const said = caught ? `caught by ${caught}` : fault.survives ? `survives: ${fault.survives}` : 'SURVIVES';
  console.log(`${fault.name.padEnd(width)}  ${seconds} s  ${said}`);
  if (!caught && !fault.survives) problems.push(`"${fault.name}" survives`);
  if (caught && fault.survives) problems.push(`"${fault.name}" is caught after all: take its explanation away`);
});
for (const problem of problems) console.error(problem);
console.log(`\n${chosen.length} faults, ${problems.length} problems`);
mkdirSync(join(root, '.prove'), { recursive: true });
writeFileSync(kept, JSON.stringify(results, undefined, 2));
if (faults.every(({ name, survives }) => results[name]?.caught || (results[name] && survives))) writeTable();
process.exitCode = problems.length ? 1 : 0;

/** What kind of test that was. */
function techniqueOf(caught) {
  if (/^CRASH_CASE/.test(caught)) return 'crash at every operation';
  if (/^test\/stores\/(memory|indexeddb|file)\.test/.test(caught)) return 'conformance suite';
  if (/^test\/(golden|chaos)/.test(caught)) return /golden/.test(caught) ? 'golden stores' : 'chaos';
  return caught.startsWith('test/stores') ? 'tests of one store' : 'tests of behaviour';
}

/** What caught each fault, for people. */
function writeTable() {
  const file = join(root, 'docs', 'reliability.md');
  const counts = new Map();
  const cell = (text) => text.replaceAll('|', '\\|').replaceAll('<', '&lt;');
  const rows = faults.map(({ name, survives }) => {
    const { caught, seconds } = results[name];
    const how = caught ? techniqueOf(caught) : 'none';
    counts.set(how, (counts.get(how) ?? 0) + 1);
    return `| ${cell(name)} | ${how} | ${cell(caught ?? `survives: ${survives}`)} | ${seconds} |`;
  });
  const most = [...counts].sort(([, a], [, b]) => b - a);
  const sum = `${faults.length} faults, caught by: ${most.map(([how, count]) => `${how} ${count}`).join(', ')}.`;
  const table = [sum, '', '| fault | technique | test or case | seconds |', '|---|---|---|---|', ...rows].join('\n');
  const [before, , after] = readFileSync(file, 'utf8').split('<!-- faults -->');
  writeFileSync(file, `${before}<!-- faults -->\n\n${table}\n\n<!-- faults -->${after}`);
}
