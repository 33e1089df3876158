import { cpSync, existsSync } from 'node:fs';
import { ensurePackages, run } from './setup.mjs';

/*
 * `npm run mutate [-- src/file.ts[:10-20]...]`: Stryker changes one operator, constant or statement at a time, and runs the tests
 * that reach it. What survives is either no fault or a test that is missing. Exit code 1 below the threshold in
 * stryker.config.json. Its packages (test/mutate) are installed by this command alone.
 */

/**
 * Files whose every operator matters, and the tests that are to notice: those that are about the file alone, for whole flows
 * notice less and take a hundred times as long. What is known to survive, and why: docs/reliability.md.
 */
const TESTS = {
  'src/values/duration.ts': ['duration'],
  'src/replay/replay.ts': ['replay', 'replay-turns'],
  'src/replay/digest.ts': ['digest'],
  'src/replay/forget.ts': ['digest'],
  'src/replay/wait.ts': ['matching', 'match'],
  'src/replay/mismatch.ts': ['matching'],
  'src/store/transition/scope.ts': ['matching', 'stores/memory'],
  'src/store/due.ts': ['due', 'stores/memory'],
  'src/run/questions.ts': ['questions'],
  'src/engine/alarm.ts': ['alarm'],
  'src/engine/turns.ts': ['alarm'],
};

ensurePackages();
const files = process.argv.slice(2);
/** Without the lines: `src/file.ts:10-20` is a part of one. */
const nameOf = (file) => file.split(':')[0];
const unknown = files.filter((file) => !(nameOf(file) in TESTS));
if (unknown.length) {
  console.error(`npm run mutate [-- src/file.ts[:10-20]]...; of ${Object.keys(TESTS).join(', ')}`);
  process.exit(1);
}
const folder = 'node_modules/.mutate';
const bin = `${folder}/node_modules/@stryker-mutator/core/bin/stryker.js`;
if (!existsSync(bin)) {
  for (const name of ['package.json', 'package-lock.json']) cpSync(`test/mutate/${name}`, `${folder}/${name}`);
  // Its peers are those of this project, which it finds above itself.
  const ci = ['ci', '--legacy-peer-deps', '--ignore-scripts', '--no-audit', '--no-fund'];
  if (!run('npm', ci, { cwd: folder })) process.exit(1);
}
const failed = (files.length ? files : Object.keys(TESTS)).filter((file) => {
  const tests = TESTS[nameOf(file)].map((name) => `test/${name}.test.ts`);
  const env = { ...process.env, MUTATE_TESTS: tests.join(',') };
  return !run(process.execPath, [bin, 'run', '--mutate', file], { env, shell: false });
});
process.exitCode = failed.length ? 1 : 0;
