import { cpSync, existsSync } from 'node:fs';
import { ensurePackages, run } from './setup.mjs';

/*
 * `npm run mutate [-- src/file.ts[:10-20]...]`: Stryker changes one operator, constant or statement at a time, and runs the tests
 * that reach it. What survives is either no fault or a test that is missing. Exit code 1 below the threshold of a file. Its
 * packages (test/mutate) are installed by this command alone.
 */

const COMMITS = ['commits', 'commit-answers', 'commit-owners'];
const ROUNDS = ['rounds', 'round-ends', 'round-stands'];
const SCHEDULER = ['scheduler', 'scheduler-owners'];

/**
 * Files whose every operator matters, the tests that are to notice, and how many percent of the mutants they notice `atLeast`.
 * The tests are those that are about the file alone, for whole flows notice less and take a hundred times as long. What is
 * known to survive, and why: docs/reliability.md.
 */
const FILES = {
  'src/values/duration.ts': { tests: ['duration'], atLeast: 95 },
  'src/values/base64.ts': { tests: ['stored-numbers'], atLeast: 90 },
  'src/values/check.ts': { tests: ['check', 'definitions', 'ways-in', 'step-options'], atLeast: 90 },
  'src/values/codec.ts': { tests: ['codec', 'codec-forms'], atLeast: 90 },
  'src/values/decode.ts': { tests: ['codec', 'codec-forms'], atLeast: 90 },
  'src/values/encode.ts': { tests: ['codec', 'codec-forms'], atLeast: 90 },
  'src/values/fingerprint.ts': { tests: ['stored-numbers'], atLeast: 90 },
  'src/values/kinds.ts': { tests: ['codec', 'codec-forms', 'check'], atLeast: 90 },
  'src/values/retry.ts': { tests: ['retry'], atLeast: 90 },
  'src/values/same.ts': { tests: ['codec', 'codec-forms'], atLeast: 90 },
  'src/values/sum.ts': { tests: ['stored-numbers'], atLeast: 90 },
  'src/values/lazy-map.ts': { tests: ['lazy'], atLeast: 90 },
  'src/replay/replay.ts': { tests: ['replay', 'replay-turns'], atLeast: 95 },
  'src/replay/digest.ts': { tests: ['digest'], atLeast: 95 },
  'src/replay/fold.ts': { tests: ['digest'], atLeast: 95 },
  'src/replay/keys.ts': { tests: ['digest', 'attempt', 'aftermath'], atLeast: 95 },
  'src/replay/forget.ts': { tests: ['digest', 'runs'], atLeast: 95 },
  'src/replay/wait.ts': { tests: ['matching', 'match'], atLeast: 95 },
  'src/replay/mismatch.ts': { tests: ['matching'], atLeast: 95 },
  'src/replay/step.ts': { tests: ['step', 'pass', 'race-chains'], atLeast: 95 },
  'src/replay/step-promise.ts': { tests: ['pass'], atLeast: 95 },
  'src/replay/command.ts': { tests: ['questions'], atLeast: 95 },
  'src/replay/glance.ts': { tests: ['glance'], atLeast: 95 },
  'src/store/transition.ts': { tests: ['transitions', 'stores/memory'], atLeast: 95 },
  'src/store/transition/scope.ts': { tests: ['matching', 'stores/memory'], atLeast: 95 },
  'src/store/transition/runs.ts': { tests: ['transitions', 'stores/memory'], atLeast: 95 },
  'src/store/transition/starts.ts': { tests: ['transitions', 'stores/memory'], atLeast: 95 },
  'src/store/transition/events.ts': { tests: ['transitions', 'stores/memory'], atLeast: 95 },
  'src/store/transition/state.ts': { tests: ['transitions', 'stores/memory'], atLeast: 95 },
  'src/store/transition/deletions.ts': { tests: ['transitions', 'stores/memory'], atLeast: 95 },
  'src/store/transition/foreseen.ts': { tests: ['foreseen'], atLeast: 95 },
  'src/store/transition/work.ts': { tests: ['work'], atLeast: 95 },
  'src/store/copy.ts': { tests: ['glance'], atLeast: 90 },
  'src/store/tables.ts': { tests: ['tables'], atLeast: 90 },
  'src/store/journal.ts': { tests: ['digest'], atLeast: 90 },
  'src/store/due.ts': { tests: ['due', 'stores/memory'], atLeast: 95 },
  'src/door/job.ts': { tests: ['definitions'], atLeast: 90 },
  'src/door/event.ts': { tests: ['definitions', 'ways-in'], atLeast: 90 },
  'src/door/queue.ts': { tests: ['definitions', 'lanes'], atLeast: 90 },
  'src/door/start.ts': { tests: ['ways-in'], atLeast: 90 },
  'src/door/dispatch.ts': { tests: ['ways-in'], atLeast: 90 },
  'src/door/readable.ts': { tests: ['ways-in'], atLeast: 90 },
  'src/door/state.ts': { tests: ['state-words'], atLeast: 90 },
  'src/run/questions.ts': { tests: ['questions'], atLeast: 95 },
  'src/run/lazy.ts': { tests: ['lazy'], atLeast: 90 },
  'src/run/offers.ts': { tests: ['questions'], atLeast: 90 },
  'src/engine/family.ts': { tests: ['family'], atLeast: 90 },
  'src/engine/exported.ts': { tests: ['exported'], atLeast: 90 },
  'src/errors.ts': { tests: ['errors'], atLeast: 90 },
  'src/system.ts': { tests: ['system'], atLeast: 90 },
  'src/engine/alarm.ts': { tests: ['alarm'], atLeast: 95 },
  'src/engine/turns.ts': { tests: ['alarm'], atLeast: 95 },
  'src/engine/engine.ts': { tests: ['engine', ...SCHEDULER], atLeast: 90 },
  'src/engine/options.ts': { tests: ['engine'], atLeast: 90 },
  'src/engine/driving.ts': { tests: ['driving'], atLeast: 95 },
  'src/engine/heard.ts': { tests: ['use'], atLeast: 90 },
  'src/engine/use.ts': { tests: ['use'], atLeast: 90 },
  'src/engine/words.ts': { tests: ['use'], atLeast: 90 },
  'src/engine/unfit.ts': { tests: ['unfit'], atLeast: 90 },
  'src/engine/sweep.ts': { tests: ['sweep'], atLeast: 90 },
  'src/engine/fork.ts': { tests: ['fork-journal', 'fork'], atLeast: 90 },
  'src/engine/views.ts': { tests: ['views'], atLeast: 90 },
  'src/engine/runs.ts': { tests: ['runs'], atLeast: 90 },
  'src/run/driver.ts': {
    tests: [
      ...['driver', 'wakes', 'slots', 'unkept', 'shared-step', 'aftermath', 'test-patience'],
      ...[...COMMITS, ...ROUNDS, ...SCHEDULER],
    ],
    atLeast: 95,
  },
  'src/run/round.ts': { tests: ['claims', 'wakes', ...ROUNDS, ...COMMITS, 'shared-step', 'aftermath'], atLeast: 95 },
  'src/engine/scheduler.ts': {
    tests: [...SCHEDULER, 'slots', 'looks', 'resident', 'engine', 'driver', 'wakes', 'shared-step'],
    atLeast: 90,
  },
  'src/engine/intake.ts': {
    tests: [...SCHEDULER, 'slots', 'looks', 'resident', 'engine', 'driver', 'wakes', 'shared-step'],
    atLeast: 90,
  },
  'src/engine/look.ts': { tests: [...SCHEDULER, 'slots', 'looks', 'engine'], atLeast: 90 },
  'src/engine/slots.ts': { tests: [...SCHEDULER, 'slots', 'looks'], atLeast: 90 },
  'src/run/commits.ts': { tests: [...COMMITS, 'unkept'], atLeast: 95 },
  'src/run/recorder.ts': { tests: [...ROUNDS, ...COMMITS], atLeast: 90 },
  'src/run/bounds.ts': { tests: [...ROUNDS, ...COMMITS], atLeast: 90 },
  'src/run/judge.ts': { tests: ['judge'], atLeast: 90 },
  'src/run/aftermath.ts': { tests: ['aftermath'], atLeast: 90 },
  'src/run/advance.ts': { tests: ['advance', ...ROUNDS, ...COMMITS], atLeast: 95 },
  'src/run/pass.ts': { tests: ['pass', 'pass-trouble', ...ROUNDS, 'aftermath', 'log'], atLeast: 95 },
  'src/run/upgrade.ts': { tests: ['upgrade'], atLeast: 90 },
  'src/run/failures.ts': { tests: ['failures'], atLeast: 90 },
  'src/run/inspect.ts': { tests: ['inspect'], atLeast: 90 },
  'src/run/log.ts': { tests: ['inspect', 'pass', 'attempt', 'log'], atLeast: 90 },
  'src/run/placed.ts': { tests: ['pass', ...ROUNDS, 'match'], atLeast: 90 },
  'src/run/attempt.ts': { tests: ['attempt'], atLeast: 90 },
  'src/run/attempt-state.ts': { tests: ['attempt'], atLeast: 90 },
  'src/run/increments.ts': { tests: ['attempt'], atLeast: 90 },
  'src/run/children.ts': { tests: ['live-run'], atLeast: 90 },
  'src/run/live-run.ts': { tests: ['live-run'], atLeast: 90 },
  'src/run/functions.ts': { tests: ['functions', 'live-run', 'shared-step', 'undo-late', ...COMMITS], atLeast: 90 },
  'src/run/shared-step.ts': { tests: ['shared-step'], atLeast: 90 },
};

ensurePackages();
const files = process.argv.slice(2);
/** Without the lines: `src/file.ts:10-20` is a part of one. */
const nameOf = (file) => file.split(':')[0];
const unknown = files.filter((file) => !(nameOf(file) in FILES));
if (unknown.length) {
  console.error(`npm run mutate [-- src/file.ts[:10-20]]...; of ${Object.keys(FILES).join(', ')}`);
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
const failed = (files.length ? files : Object.keys(FILES)).filter((file) => {
  const { tests, atLeast } = FILES[nameOf(file)];
  const paths = tests.map((name) => `test/${name}.test.ts`);
  const env = { ...process.env, MUTATE_TESTS: paths.join(','), MUTATE_AT_LEAST: `${atLeast}` };
  return !run(process.execPath, [bin, 'run', '--mutate', file], { env, shell: false });
});
process.exitCode = failed.length ? 1 : 0;
