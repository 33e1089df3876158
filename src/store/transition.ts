import type { Batch, CommitOutcome, EventOutcome, StartOutcome, StateOutcome } from './batch.js';
import { deleteRun, forgetExpired } from './transition/deletions.js';
import { dispatch } from './transition/events.js';
import { changeRun, noteEnded } from './transition/runs.js';
import { type Reads, type Scope, scopeOf, type Writes } from './transition/scope.js';
import { start } from './transition/starts.js';
import { changeState } from './transition/state.js';
import { type Awaitable, perform, type Work } from './transition/work.js';

/*
 * What a commit does, once for all stores: a function from a batch and what the store holds to the outcome and the
 * rows to write. A store calls it inside its own atomic scope (a transaction, or one batch at a time) and then writes
 * everything in `Writes`, or nothing when the outcome is not `committed`.
 *
 * T1. All checks come before any write, and later parts of a batch see the rows that earlier parts have written.
 * T2. `seq` is given here, from the store's last one: it grows with the order of commits, and alone gives order (spec E3).
 *     `acceptedAt` is the instant of the commit, as deadlines are: a clock that ran ahead and was corrected leaves no
 *     trace (spec E5, Q4).
 * T3. A run is woken by an event, or by the end of a run that it awaits, never written: only `woken`, `ended` and
 *     `dueAt` of its row change (spec E4, E12). The one exception is cancelling, which ends its children as well.
 */

/**
 * Decides a batch: at once where the store's reads answer at once. The caller writes `writes` when, and only when, the
 * outcome is `committed`.
 */
export const transition = (reads: Reads, batch: Batch): Awaitable<Transition> => perform(transitionOf(reads, batch));

export interface Transition {
  readonly outcome: CommitOutcome;
  readonly writes: Writes;
}

function* transitionOf(reads: Reads, batch: Batch): Work<Transition> {
  const scope = yield* scopeOf(reads, batch.now);
  const outcome = yield* decide(scope, batch);
  return { outcome, writes: scope.writes };
}

function* decide(scope: Scope, batch: Batch): Work<CommitOutcome> {
  const run = batch.run ? yield* changeRun(scope, batch.run) : { fence: 0, offers: [], ended: [] };
  if ('kind' in run) return run;
  const state: StateOutcome[] = [];
  for (const [index, change] of (batch.state ?? []).entries()) {
    const done = yield* changeState(scope, change, index);
    if ('kind' in done) return done;
    state.push(done);
  }
  const starts: StartOutcome[] = [];
  for (const each of batch.starts ?? []) starts.push(yield* start(scope, each));
  const ended = batch.run?.state ? yield* noteEnded(scope, batch.run.runId) : run.ended;
  const events: EventOutcome[] = [];
  for (const [index, event] of (batch.events ?? []).entries()) {
    const done = yield* dispatch(scope, event, index);
    if ('acceptedAt' in done) events.push(done);
    else return done;
  }
  for (const each of batch.deletes ?? []) {
    const refused = yield* deleteRun(scope, each);
    if (refused) return refused;
  }
  if (scope.writes.state.size) yield* forgetExpired(scope);
  const { fence, offers } = run;
  return { kind: 'committed', fence, offers, ended, state, starts, events };
}
