import { isStepfastError } from '../errors.js';
import { extend } from '../replay/digest.js';
import type { Ask } from '../replay/replay.js';
import type { OutcomeEntry } from '../store/journal.js';
import { rowWith, stateOfRow } from '../store/transition/scope.js';
import type { DriverHost } from './host.js';
import { hear, type LiveRun } from './live-run.js';

/*
 * `step.transaction`: rows of the app and the outcome of the step in one transaction of the store, so that neither can be
 * there without the other. A crash before its end leaves nothing; after it the step never runs again.
 */

/**
 * Runs the step. What it throws is an attempt that failed; a store that fails rejects, as for any commit. One that the body
 * has committed by itself has failed for good: rows are kept, and each attempt would keep them once more. False: the run is
 * not ours any more.
 */
export async function shareStep(
  { transact, codec, platform, committed, changed }: DriverHost,
  run: LiveRun,
  ask: Ask,
  attempt: number,
): Promise<boolean> {
  const { id, key, command } = ask;
  const { scope, body } = (command as Extract<Ask['command'], { readonly fn: unknown }>).shared!;
  const { runId, fence, length, job } = run.row;
  const at = platform.clock.now();
  const state = stateOfRow(run.row);
  let entry: OutcomeEntry | undefined;
  const work = transact!({
    scope,
    async body(tx) {
      try {
        return await platform.inStep(() => body(tx));
      } finally {
        platform.leaveStep();
      }
    },
    batchOf(value: unknown) {
      const encoded = codec.encode(value, `what transaction "${id[0]}" returned`);
      const position = { at, id, attempt, word: 'transaction' as const, ...run.replay!.position(key) };
      entry = { kind: 'step-completed', ...position, value: encoded };
      return { now: at, run: { runId, fence, append: [entry], state } };
    },
  });
  let isFinal = false;
  const outcome = await work.catch((error: unknown) => {
    isFinal = isStepfastError(error, 'TRANSACTION_ENDED');
    if (isFinal) return { kind: 'threw', error } as const;
    if (!isStepfastError(error, 'INVALID_OPTION')) throw error;
    // Names of object stores that are not there: a fault of the code, which the next round finds (spec R5).
    run.fault = Object.assign(error, { runId, job, step: id[0] });
    run.isStirred = true;
  });
  if (!outcome) return true;
  if (outcome.kind === 'threw') {
    run.facts.push({ ask, attempt, at: platform.clock.now(), outcome: { error: outcome.error }, state: [], isFinal });
    return true;
  }
  if (outcome.kind !== 'committed') return false;
  run.row = rowWith(run.row, state, { fence, length: length + 1 });
  run.confirmedAt = at;
  hear(run, outcome, outcome.offers);
  extend(run.digest, [entry!]);
  const index = run.digest.entries.length - 1;
  run.asks.delete(key);
  run.feeds.push(() => run.replay!.feed(key, entry!, index));
  run.isStirred = true;
  committed(runId, job, [entry!]);
  changed(runId, run.row);
  return true;
}
