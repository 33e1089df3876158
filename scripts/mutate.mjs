import { cpSync, existsSync } from 'node:fs';
import { ensurePackages, run } from './setup.mjs';

/*
 * `npm run mutate [-- src/file.ts[:10-20]...]`: Stryker changes one operator, constant or statement at a time, and runs the tests
 * that reach it. What survives is either no fault or a test that is missing. Exit code 1 below the threshold in
 * stryker.config.json. Its packages (test/mutate) are installed by this command alone.
 */

/** What a journal adds up to. */
const DIGEST = [
  'digest',
  ...['replay', 'resume', 'retries', 'retry-runs', 'crash-loop', 'step-state', 'code-changes', 'upgrades', 'restart'],
  ...['restart-events', 'early-events', 'wait-for-event', 'children', 'children-life', 'undo', 'undo-failures'],
  ...['on-failed', 'transfer', 'fork'],
];

/** What the simulation has found, and a part of it. */
const FOUND = ['late-answers', 'late-commands', 'late-wakes', 'mutate/seeds'];
/** What a handler asks for, live and again. */
const REPLAY = [
  ...[
    'replay',
    'replay-turns',
    'race',
    'races',
    'combinators',
    'nested',
    'made-values',
    'resume',
    'restart',
    'undo',
    'step-dispatch',
  ],
  ...['code-changes', 'undo-code', 'log', ...FOUND],
];
const WAITS = [
  'matching',
  'wait-for-event',
  'early-events',
  'match',
  'race',
  'defined-events',
  'code-changes',
  'bad-input',
];
/** What a store does with a batch, on two of them. */
const STORE = [
  'due',
  'matching',
  'stores/memory',
  'stores/indexeddb',
  'golden',
  'wait-for-event',
  'early-events',
  'queues',
  ...FOUND,
];

/**
 * Small files whose every operator matters, and the tests that are to notice. What is known to survive, and why: docs/reliability.md.
 */
const TESTS = {
  'src/values/duration.ts': ['duration'],
  'src/replay/digest.ts': DIGEST,
  'src/replay/forget.ts': DIGEST,
  'src/replay/replay.ts': REPLAY,
  'src/replay/wait.ts': [...WAITS, ...FOUND],
  'src/replay/mismatch.ts': [
    'matching',
    'code-changes',
    'upgrades',
    'combinators',
    'children-life',
    'undo-code',
    'transaction',
    'fork',
  ],
  'src/store/due.ts': [...STORE, 'clock', 'time', 'resume'],
  'src/store/transition/scope.ts': STORE,
  'src/run/questions.ts': ['questions', ...WAITS, 'children', 'online', 'queues', 'undo', 'retries', ...FOUND],
  'src/run/offers.ts': ['questions', 'early-events'],
  'src/engine/alarm.ts': ['alarm', ...FOUND, 'clock', 'time', 'resume', 'schedules'],
  'src/engine/turns.ts': ['alarm', 'crash-loop', 'undo-crash-loop'],
  'src/engine/unfit.ts': ['code-changes', 'upgrades', 'undo-code', 'children-trouble'],
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
