import type { AnyJob } from '../door/job.js';
import { fingerprintOfRun } from '../door/start.js';
import { isStepfastError } from '../errors.js';
import type { Platform } from '../platform.js';
import type { JournalEntry } from '../store/journal.js';
import type { RunRow, StoredRun } from '../store/rows.js';
import type { Store } from '../store/store.js';
import { durationMs } from '../values/duration.js';

/*
 * Deletes runs whose time is over (spec Q6): when nothing else is to be done, in small commits. Each deletion names the
 * fence that was read, so a run that somebody takes up again in the meantime stays.
 */

const DAY_MS = 86_400_000;
const RETENTION_MS = { completed: 7 * DAY_MS, failed: 30 * DAY_MS, cancelled: 7 * DAY_MS };
/** Runs deleted in one commit. */
const BATCH = 50;
/** No sweep follows the one before sooner. */
const SWEEP_MS = 6 * 60 * 60_000;

type End = keyof typeof RETENTION_MS;
const ENDS = Object.keys(RETENTION_MS) as End[];

/** How long the job itself says that its runs are kept. */
function retentionMs(job: AnyJob | undefined, end: End): number | undefined {
  const { retention } = job?.options ?? {};
  const own = typeof retention === 'object' ? retention[end] : retention;
  return own === undefined || own === Infinity ? own : durationMs(own, 'retention');
}

/** Which of its children a parent may still ask for. */
type Needs = (child: RunRow) => boolean;

function needsOf(parent: StoredRun | undefined): Needs {
  if (!parent || (parent.row.endedAt !== undefined && !parent.row.undoing)) return () => false;
  const [first, ...entries] = parent.journal;
  const { generation, at } = first as Extract<JournalEntry, { kind: 'started' }>;
  const named = new Set(entries.map((entry) => 'runId' in entry && entry.runId));
  return ({ runId, createdAt }) => !generation || createdAt >= at || named.has(runId);
}

interface SweepOptions {
  readonly platform: Platform;
  readonly store: Store;
  readonly jobs: ReadonlyMap<string, AnyJob>;
  /** Nothing else is to be done. */
  isIdle(): boolean;
  changed(runId: string): void;
  report(error: unknown): void;
}

export function createSweep({ platform, store, jobs, isIdle, changed, report }: SweepOptions) {
  const { clock } = platform;
  let dueAt = Number.NEGATIVE_INFINITY;
  let isSweeping = false;
  let isClosed = false;
  let undoTimer: (() => void) | undefined;

  const mayGo = () => !isClosed && isIdle();

  /**
   * Children are kept as long as their parent is active: it may not have seen how they ended. Not those of a journal that
   * `step.restart` has put another in the place of: nothing asks for them any more, unless the new one names them too.
   */
  const isNeeded = async ({ row }: StoredRun, parents: Map<string, Needs>): Promise<boolean> => {
    const { parentId } = row;
    if (parentId === undefined) return false;
    let needs = parents.get(parentId);
    if (!needs) {
      needs = await store.load(parentId).then(needsOf, (error) => {
        // One that can not be read may be active, and must not keep others from being swept.
        if (isStepfastError(error, 'STORE_CORRUPT') || isStepfastError(error, 'KEY_MISSING')) return () => true;
        throw error;
      });
      parents.set(parentId, needs);
    }
    return needs(row);
  };

  /** Deletes what of one page is to go: all at once, or, if that is refused, one by one what is still to go. */
  const remove = async (runs: readonly StoredRun[]): Promise<void> => {
    if (!runs.length) return;
    const deletes = runs.map((run) => ({
      runId: run.row.runId,
      fence: run.row.fence,
      fingerprint: fingerprintOfRun(run),
    }));
    if ((await store.commit({ now: clock.now(), deletes })).kind === 'committed')
      for (const { runId } of deletes) changed(runId);
    else if (runs.length > 1) for (const run of runs) await remove([run]);
  };

  /** Runs of one end: of one job, or of all that say nothing about it. False: not all was looked at. */
  const sweepEnd = async (end: End, keptMs: number, job?: string): Promise<boolean> => {
    const parents = new Map<string, Needs>();
    let cursor: string | undefined;
    do {
      await new Promise<void>(platform.hop);
      if (!mayGo()) return false;
      const query = { status: end, endedBefore: clock.now() - keptMs, limit: BATCH };
      const page = await store.list({
        ...query,
        ...(job !== undefined && { job }),
        ...(cursor !== undefined && { cursor }),
      });
      const gone: StoredRun[] = [];
      for (const run of page.runs) {
        const isOthers = job === undefined && retentionMs(jobs.get(run.row.job), end) !== undefined;
        // Of a copy from another store the time counts from when it came here.
        const isNew = run.journal.some(({ kind, at }) => kind === 'imported' && at > clock.now() - keptMs);
        if (!isOthers && !isNew && !run.row.undoing && !(await isNeeded(run, parents))) gone.push(run);
      }
      await remove(gone);
      cursor = page.nextCursor;
    } while (cursor !== undefined);
    return true;
  };

  const sweep = async (): Promise<boolean> => {
    for (const end of ENDS) {
      for (const job of [...jobs.values()]) {
        const own = retentionMs(job, end);
        if (own !== undefined && own !== Infinity && !(await sweepEnd(end, own, job.name))) return false;
      }
      if (!(await sweepEnd(end, RETENTION_MS[end]))) return false;
    }
    return true;
  };

  /** Called whenever there may be nothing else to do: sweeps if it is time. */
  const poke = (): void => {
    const now = clock.now();
    const isTime = now >= dueAt || dueAt > now + SWEEP_MS; // or the clock was set back
    if (isSweeping || !isTime || !mayGo()) return;
    isSweeping = true;
    const release = clock.hold?.();
    sweep()
      .catch((error) => {
        if (!isClosed && !isStepfastError(error, 'CLOSED')) report(error);
        return true; // what is left is found the next time
      })
      .then((isDone) => {
        isSweeping = false;
        if (isDone && !isClosed) {
          dueAt = clock.now() + SWEEP_MS;
          undoTimer?.();
          undoTimer = clock.setTimer(dueAt, poke, true);
        }
        release?.();
        if (!isDone) poke(); // it may be idle again already
      });
  };
  return {
    poke,
    close() {
      isClosed = true;
      undoTimer?.();
    },
  };
}
