import type { AnyJob } from '../door/job.js';
import type { Commits } from './commits.js';
import type { DriverHost } from './host.js';
import { countUp, refuseIncrements } from './increments.js';
import type { Draft, LiveRun } from './live-run.js';
import type { Pass } from './pass.js';
import { placed } from './placed.js';
import { mayBeDue, retryAt, startable } from './questions.js';
import type { Recorder } from './recorder.js';
import { upgradeOf } from './upgrade.js';

/*
 * One round of a run that has not ended: the handler is brought to where the facts are; or, where its code does not fit
 * what is recorded, the run is let go.
 */

interface AdvanceOptions {
  readonly host: DriverHost;
  readonly run: LiveRun;
  readonly job: AnyJob;
  readonly pass: Pass;
  readonly recorder: Recorder;
  readonly commits: Pick<Commits, 'letGo' | 'rebuild'>;
  leave(reason: unknown): void;
}

export function createAdvance({ host, run, job, pass, recorder, commits, leave }: AdvanceOptions) {
  const { platform } = host;
  /** An outcome is committed before the handler hears of it: what it asked for in reaction was bad. */
  let isCareful = false;

  /** Code of a later version takes the run up: what its job wants of that. True: there is nothing to replay. */
  const upgrade = (draft: Draft): boolean => {
    try {
      const found = upgradeOf(run, job, host.codec, draft.now);
      if (!found) return false;
      recorder.record(draft, found.entry);
      if (found.then === 'abandon') recorder.record(draft, { kind: 'cancelled', at: draft.now });
      if (found.then === 'restart') {
        recorder.restart(draft, run.digest.payload);
        draft.entries.push(found.entry);
      }
      return found.then !== 'continue';
    } catch (error) {
      run.fault = placed(error as Error, run.row);
      return true;
    }
  };

  /** Brings the handler to where the facts are. */
  const advance = async (draft: Draft) => {
    if (!run.isOwner && upgrade(draft)) return;
    if (!run.replay) {
      // A function in flight: the handler has been tried again since, and the clock was set back.
      if (retryAt(run.digest.handlerFailures, draft.now) > draft.now && !run.running.size) {
        run.isStirred = false; // the handler backs off
        run.facts = []; // durable all: only the answer to their commit was lost
        refuseIncrements(run, () => new Error('The attempt is over.')); // no function is in flight: left, they would call for ever
        return;
      }
      pass.start();
    }
    const drift = pass.takeDrift();
    if (drift) recorder.record(draft, drift);
    if (run.isStirred) await pass.react(draft);
    if (run.progressed && run.digest.interruptions > 0)
      recorder.record(draft, { kind: 'progressed', at: draft.now, id: run.progressed.id });
    run.progressed = undefined;
    // A run that was interrupted since its last progress does not fold: its handler may be what crashes (spec R11).
    if (run.facts.length && (isCareful || run.digest.interruptions > 0)) {
      const hasFault = run.fault !== undefined;
      run.fault = undefined;
      isCareful = false;
      await recorder.takeFacts(draft, true);
      run.isStirred = true; // a handler that has ended may have waited for nothing but these
      if (hasFault) draft.later.splice(0, Infinity, pass.restart); // a new pass finds the fault again
      return;
    }
    if (run.facts.length) await recorder.takeFacts(draft, false);
    if (mayBeDue(run)) await recorder.takeDue(draft);
    if (!run.fault && !run.digest.end && run.increments.length) await countUp(run, host, recorder, draft);
    if (run.fault || run.digest.end || !run.ending || run.running.size) return;
    if (run.facts.some((fact) => !draft.facts.has(fact))) return; // ended since this round began: recorded by the next
    if (startable(run, draft, platform.isOnline()).length) return;
    if ((await recorder.end(draft, run.ending)) === 'retries') pass.drop();
  };

  /** The code does not fit the journal: outcomes are kept, the run is let go for a context whose code fits (spec R5). */
  const block = async ({ now }: Draft) => {
    const error = run.fault!;
    commits.rebuild();
    run.progressed = undefined;
    refuseIncrements(run, () => error);
    if (run.facts.length) {
      // A bad command fails alone: the outcome that led to it is committed first, without it.
      isCareful = run.isStirred = true;
      return;
    }
    if (run.running.size) return; // their outcomes are recorded as they come
    // Also a slot that a dead owner left: a run that can not go on must not keep others of its queue waiting. And once
    // where the job has a timeout, from which this time is to be left out.
    const isTimed = job.options.timeout !== undefined && run.digest.blockedSince === undefined;
    if (run.isOwner || run.row.slot !== undefined || isTimed)
      await commits.letGo(now, [{ kind: 'released', at: now, blocked: true }]);
    host.blocked(run.row, error, run.digest.entries);
    leave(error);
  };

  return { advance, block };
}
