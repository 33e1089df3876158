import type { AnyJob } from '../door/job.js';
import { isStepfastError, StepfastError } from '../errors.js';
import { isDue, stampOf } from '../store/due.js';
import type { JournalEntry } from '../store/journal.js';
import type { RunRow, StoredRun } from '../store/rows.js';

/*
 * Runs that this context leaves alone: its code does not fit them, or there is nothing to do for them here. Derived where
 * it is seen and never written, so that a context without the code can not stop one that has it (spec R5).
 */

/** Why a run can not go on here. */
interface Reason {
  readonly job: string;
  readonly error: Error;
  /** What its journal says, `saidIn`. */
  readonly said: string;
  readonly stamp: string;
}

/** Changes with what a journal says, beside who has held the run: others that find it unfit change no more than that. */
const saidIn = ([first, ...entries]: readonly JournalEntry[]): string => {
  const { generation = 0 } = first as { readonly generation?: number };
  return `${generation}:${entries.filter(({ kind }) => !/^(claimed|released)$/.test(kind)).length}`;
};

export type Unfit = ReturnType<typeof createUnfit>;

export function createUnfit(jobs: ReadonlyMap<string, AnyJob>, now: () => number) {
  const unfit = new Map<string, Reason>();
  const skip = new Map<string, string>();
  /** What was told of them, and what their journals said then. */
  const told = new Map<string, string>();
  const leave = (row: RunRow, found: Omit<Reason, 'stamp'>) => {
    const stamp = stampOf(row);
    unfit.set(row.runId, { ...found, stamp });
    skip.set(row.runId, stamp);
  };
  return {
    /** Runs that looks leave out as long as nothing has changed. */
    skip: skip as ReadonlyMap<string, string>,
    /** The code here does not fit this journal. False: that was found before, and it has not fitted since. */
    blocked(row: RunRow, error: Error, journal: readonly JournalEntry[]): boolean {
      const said = saidIn(journal);
      leave(row, { error, said, job: row.job });
      const tells = `${row.seq}:${said}:${error}`; // by its `seq` a later run of the same id is another one
      const isNew = told.get(row.runId) !== tells;
      told.set(row.runId, tells);
      return isNew;
    },
    /** There is nothing to do for it here now. */
    idle: (row: RunRow) => void skip.set(row.runId, stampOf(row)),
    /** It is driven here, and fits. */
    fits: (runId: string) => void told.delete(runId),
    /** Nobody listens to it any more. */
    forget: (runId: string) => void skip.delete(runId),
    /**
     * The registrations have changed: what was unfit may fit now. Where a job was `added` to them, only runs of that, and
     * those that were in want of one.
     */
    clear(added?: string) {
      const isKept = (found: Reason | undefined) =>
        added !== undefined && found && found.job !== added && !isStepfastError(found.error, 'UNKNOWN_JOB');
      for (const runId of skip.keys()) if (!isKept(unfit.get(runId))) skip.delete(runId);
      for (const [runId, found] of unfit) if (!isKept(found)) unfit.delete(runId);
    },
    /**
     * Whether it was found unfit as it stands: others have tried it as well since, and nothing has come of that. Not where
     * one of them has died with a slot: it is to be given up.
     */
    isStill({ row, journal }: StoredRun): boolean {
      const found = unfit.get(row.runId);
      if (!found || row.slot !== undefined || found.said !== saidIn(journal)) return false;
      leave(row, found);
      return true;
    },
    /** Why a run can not go on here, as far as it is known (spec R5). */
    blockedBy(row: RunRow): Error | undefined {
      const found = unfit.get(row.runId);
      if (found?.stamp === stampOf(row)) return found.error;
      // One that has ended has its final status, also where somebody else has to undo its steps.
      const isActive = row.endedAt === undefined && row.status !== 'running';
      const isReady = isActive && row.dueAt !== undefined && isDue(row, now());
      const job = jobs.get(row.job);
      if (!isReady || (job && (job.options.version ?? 1) >= row.version)) return undefined;
      const lacks = job ? `version ${row.version} of job "${row.job}"` : `job "${row.job}"`;
      return new StepfastError(
        'UNKNOWN_JOB',
        `This context has not registered ${lacks}. Register it, and the run goes on.`,
        { runId: row.runId, job: row.job },
      );
    },
    /** Runs that could not go on here when last tried. */
    runs: () => unfit.keys(),
  };
}
