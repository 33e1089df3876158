import type { AnyJob } from '../door/job.js';
import { type ErrorCode, StepfastError } from '../errors.js';
import { LIMITS } from '../limits.js';
import type { DriverHost } from './host.js';
import type { Draft, LiveRun } from './live-run.js';
import { openWaits } from './questions.js';

interface BoundsOptions {
  readonly host: Pick<DriverHost, 'maxOutcomes' | 'maxRunBytes'>;
  readonly run: LiveRun;
  readonly job: AnyJob;
  /** Records the end of the run. */
  fail(draft: Draft, error: unknown): void;
}

/** What no run may exceed: its time, what it records, how often its process dies. One that does fails for good. */
export function createBounds({ host, run, job, fail }: BoundsOptions) {
  const { runId, job: jobName } = run.row;
  const place = { runId, job: jobName };

  const exceed = (draft: Draft, code: ErrorCode, what: string, or = '') =>
    fail(draft, new StepfastError(code, `Run ${runId} has more than ${what}. Split the job in two${or}.`, place));
  const overflow = (draft: Draft, what: string, option: string) =>
    exceed(draft, 'JOURNAL_FULL', what, `, begin anew with step.restart, or raise ${option}`);

  return {
    /** Whether the run has room for no other outcome. */
    isFull(draft: Draft): boolean {
      if (run.digest.outcomes.length < host.maxOutcomes) return false;
      overflow(draft, `${host.maxOutcomes} outcomes`, 'maxOutcomes');
      return true;
    },
    checkLimits(draft: Draft, deadline: number) {
      const { digest } = run;
      if (digest.end) return;
      const limit = job.options.maxInterruptions ?? 10;
      // Counted by another claim already, where a context without fitting code has given the slot back.
      if (!run.isOwner && digest.interruptions + (run.isInterrupted ? 1 : 0) >= limit)
        return fail(
          draft,
          new StepfastError(
            'CRASH_LOOP',
            `Run ${runId} was interrupted ${limit} times in a row without progress. Find what crashes, then call runs.retry.`,
            place,
          ),
        );
      if (digest.bytes > host.maxRunBytes) return overflow(draft, `${host.maxRunBytes} bytes recorded`, 'maxRunBytes');
      if (deadline <= draft.now)
        return fail(
          draft,
          new StepfastError('RUN_TIMEOUT', `Run ${runId} has not ended within the timeout of job "${jobName}".`, place),
        );
    },
    /** When the handler has asked: a run that only waits would hear of it at its next wake-up. */
    checkWaits(draft: Draft) {
      if (openWaits(run).length > LIMITS.openWaits && !run.digest.end && !draft.isReset)
        exceed(draft, 'TOO_MANY_WAITS', `${LIMITS.openWaits} open waits`);
    },
  };
}
