import { assertReadable } from '../door/readable.js';
import { isStepfastError, StepfastError } from '../errors.js';
import type { Platform } from '../platform.js';
import { endOf, payloadIn } from '../replay/glance.js';
import {
  lostSnapshotOf,
  type RunSnapshot,
  type RunStatus,
  snapshotOf,
  type TimelineEntry,
  timelineOf,
} from '../run/inspect.js';
import type { RunRow, StoredRun } from '../store/rows.js';
import type { ListQuery, Store } from '../store/store.js';
import { fitsList } from '../store/tables.js';
import { check, checkInteger, checkOptions, checkText, quoted } from '../values/check.js';
import type { Codec } from '../values/codec.js';
import type { Json } from '../values/json.js';
import { haveSameBlobs, sameJson } from '../values/same.js';
import { heard } from './heard.js';
import type { Scheduler } from './scheduler.js';

/*
 * Runs, seen from outside: from any context, whoever drives them.
 */

export interface ListFilter {
  /**
   * `blocked`: as seen from here. Its pages may hold fewer than `limit`. Runs whose stored data is damaged are among them,
   * and those that have ended and whose steps can not be undone, both beyond the limit, on the first page. Damage of a run
   * that has ended may show only where it is read: in `get`, and in lists without a status.
   */
  readonly status?: RunStatus | readonly RunStatus[];
  readonly job?: string;
  readonly tag?: string;
  /** 1 to 1,000. Default 100. */
  readonly limit?: number;
}

/** While somebody waits for the end of a run: how often to look if no hint comes from the context that drives it. */
const RECHECK_MS = 3_000;
const MAX_PAGE = 1_000;
const ACTIVE: readonly unknown[] = 'scheduled queued running retrying sleeping waiting'.split(' ');
const STORED: readonly unknown[] = [...ACTIVE, 'completed', 'failed', 'cancelled'];
const STATUSES: readonly unknown[] = [...STORED, 'blocked'];

export interface ViewsOptions {
  readonly platform: Platform;
  readonly codec: Codec;
  readonly store: Store;
  readonly scheduler: Scheduler;
  open(): Promise<void>;
  refuseClosed(): void;
  load(runId: string): Promise<StoredRun | undefined>;
  /** How often the store has lost all that it held. */
  losses(): number;
  report(error: unknown): void;
}

/** What an app sees of runs. */
export interface RunsSeen {
  /** The run as it is now, or `undefined`. */
  get(runId: string): Promise<RunSnapshot | undefined>;
  /** A page of runs, newest first; hand `cursor` back for the next. */
  list(
    filter?: ListFilter,
    cursor?: string,
  ): Promise<{ readonly runs: readonly RunSnapshot[]; readonly cursor?: string }>;
  /** All that happened to a run, in order. */
  timeline(runId: string): Promise<readonly TimelineEntry[]>;
  /** Calls back with a new snapshot of the run at each change of it, and at no other, the first at once. Returns its undoing. */
  subscribe(runId: string, listener: (snapshot: RunSnapshot) => void): () => void;
}

export interface Views extends RunsSeen {
  load(runId: string): Promise<StoredRun | undefined>;
  /** @throws {StepfastError} `RUN_NOT_FOUND` */
  found(runId: string): Promise<StoredRun>;
  status(runId: string): Promise<RunStatus>;
  /** Resolves with what the handler returned; rejects with the error that ended the run. */
  result(runId: string): Promise<unknown>;
  /** Tells those who listen to a run, with its row where it is known. `undefined`: anything may have changed. */
  changed(runId: string | undefined, row?: RunRow): void;
}

/** Nothing of the run can be told but that it is there: it is damaged, or another engine's to read. */
const isLost = (error: unknown): error is StepfastError =>
  isStepfastError(error, 'STORE_CORRUPT') || isStepfastError(error, 'MISSING_PLUGIN');

export function createViews({
  platform,
  codec,
  store,
  scheduler,
  open,
  refuseClosed,
  load: read,
  losses,
  report,
}: ViewsOptions): Views {
  const listeners = new Map<string, Set<(row?: RunRow) => void>>();

  const load = async (runId: string) => {
    checkText(runId, 'runId', 'INVALID_ID');
    const run = await read(runId);
    if (run) assertReadable(run.row);
    return run;
  };

  const changed = (runId: string | undefined, row?: RunRow) => {
    const heard = runId === undefined ? [...listeners.values()] : [listeners.get(runId) ?? []];
    for (const set of heard) for (const listener of [...set]) listener(row);
  };
  const listen = (runId: string, listener: (row?: RunRow) => void) => {
    const set = listeners.get(runId) ?? new Set();
    listeners.set(runId, set.add(listener));
    return () => {
      set.delete(listener);
      if (!set.size && listeners.get(runId) === set) listeners.delete(runId);
    };
  };

  /** What can not be read is shown as damaged, and hides nothing else (spec D3). */
  const view = (run: StoredRun): RunSnapshot => {
    try {
      assertReadable(run.row);
      return snapshotOf(run, codec, scheduler.blockedBy(run.row));
    } catch (error) {
      if (!isLost(error)) throw error;
      const { runId, job, createdAt, tags = [] } = run.row;
      return { ...lostSnapshotOf(Object.assign(error, { runId, job }), codec), createdAt, tags };
    }
  };
  const known = <Found>(runId: string, run: Found | undefined): Found => {
    if (run) return run;
    throw new StepfastError('RUN_NOT_FOUND', `There is no run ${quoted(runId)}.`, { runId });
  };
  const found = async (runId: string): Promise<StoredRun> => known(runId, await load(runId));
  const seen = async (runId: string): Promise<readonly [snapshot?: RunSnapshot, run?: StoredRun]> => {
    try {
      const run = await load(runId);
      return run ? [view(run), run] : [];
    } catch (error) {
      if (isLost(error) && error.runId === runId) return [lostSnapshotOf(error, codec)];
      throw error;
    }
  };
  const get = async (runId: string) => (await seen(runId))[0];
  /** All that a snapshot shows and that changes: values as they are stored, an error without its stack, which tells who looked. */
  const markOf = ({ status, error, attempts, waitingFor, undoing }: RunSnapshot, run?: StoredRun) => {
    const { createdAt, startedAt, endedAt, progress } = run?.row ?? {};
    const { generation } = (run?.journal[0] ?? {}) as { readonly generation?: number };
    const payload = run && payloadIn(run.journal);
    const shown = { status, message: error?.message, attempts: attempts.length, waitingFor, undoing, generation };
    return { ...shown, createdAt, startedAt, endedAt, progress, payload } as unknown as Json;
  };

  /** That have ended, and whose steps can not be undone here: no status of the store tells them from others that have ended. */
  const blockedEnds = async ({ job, tag }: ListFilter): Promise<StoredRun[]> => {
    const found = await Promise.all([...scheduler.blockedRuns()].map(load));
    return found.filter((run): run is StoredRun => {
      if (run?.row.endedAt === undefined || !scheduler.blockedBy(run.row)) return false;
      return fitsList(run.row, { job, tag, limit: 1 });
    });
  };

  const list: Views['list'] = async (given = {}, cursor) => {
    checkOptions(given, ['limit', 'status', 'job', 'tag'], 'The filter of list');
    const { limit = 100, ...filter } = given;
    for (const [option, text] of Object.entries({ job: filter.job, tag: filter.tag }))
      if (text !== undefined) checkText(text, option, 'INVALID_OPTION');
    checkInteger(limit, 'limit', 1);
    check(limit <= MAX_PAGE, 'limit', limit, `at most ${MAX_PAGE}`);
    const wanted: readonly unknown[] = filter.status === undefined ? [] : [filter.status].flat();
    for (const each of wanted)
      check(STATUSES.includes(each), 'status', each, `one or several of ${STATUSES.join(', ')}`);
    const isCursor = cursor === undefined || (typeof cursor === 'string' && /^\d+$/.test(cursor));
    check(isCursor, 'cursor', cursor, 'what the page before returned');
    await open();
    // No store knows `blocked`: it is how an active run looks from here.
    const isView = wanted.includes('blocked');
    const status = isView ? STORED.filter((each) => ACTIVE.includes(each) || wanted.includes(each)) : filter.status;
    let from = cursor;
    for (;;) {
      const query = { ...filter, ...(status && { status }), limit, ...(from !== undefined && { cursor: from }) };
      const page = await store.list(query as ListQuery);
      from = page.nextCursor;
      const more = isView && query.cursor === undefined ? await blockedEnds(filter) : [];
      const shown = [...more, ...page.runs.filter(({ row }) => !more.some((each) => each.row.runId === row.runId))];
      const views = [...(page.lost ?? []).map((error) => lostSnapshotOf(error, codec)), ...shown.map(view)];
      const runs = views.filter((run) => !wanted.length || wanted.includes(run.status));
      if (runs.length || from === undefined) return { runs, ...(from !== undefined && { cursor: from }) };
    }
  };

  const subscribe = (runId: string, listener: (snapshot: RunSnapshot) => void) => {
    refuseClosed();
    checkText(runId, 'runId', 'INVALID_ID');
    check(typeof listener === 'function', 'listener', listener, 'a function');
    let isReading = false;
    let isStale = true;
    let mark: Json = null;
    const read = async () => {
      isStale = true;
      if (isReading) return;
      isReading = true;
      try {
        while (isStale) {
          isStale = false;
          const [snapshot, run] = await seen(runId);
          if (!snapshot || isUndone) continue;
          const last = mark;
          mark = markOf(snapshot, run);
          // Some hints tell only that something has changed somewhere, and a new object would be drawn again (spec V1).
          const isSame = sameJson(mark, last) && (await haveSameBlobs(mark, last).catch(() => false));
          if (!isSame && !isUndone) heard(() => listener(snapshot), report);
        }
      } catch (error) {
        if (!isStepfastError(error, 'CLOSED')) report(error);
      } finally {
        isReading = false;
      }
    };
    let isUndone = false;
    const unlisten = listen(runId, () => void read());
    void read();
    return () => {
      isUndone = true;
      unlisten();
    };
  };
  const result = async (runId: string): Promise<unknown> => {
    const before = losses();
    for (;;) {
      let unlisten: (() => void) | undefined;
      let undoPatience: (() => void) | undefined;
      const news = new Promise<void>((resolve) => {
        unlisten = listen(runId, (row) => {
          if (!row || row.endedAt !== undefined) resolve();
        });
        // Hints may be lost; what this engine drives it hears of itself, and nothing is read for it (spec Q4).
        const recheck = () => {
          if (scheduler.drivesRun(runId)) undoPatience = platform.patience(RECHECK_MS, recheck);
          else resolve();
        };
        undoPatience = platform.patience(RECHECK_MS, recheck);
      });
      try {
        const run = await load(runId);
        // Another may have its id by now, in what came after a loss.
        const { row, journal } = known(runId, losses() === before ? run : undefined);
        const end = endOf(journal);
        if (row.endedAt !== undefined && end?.kind === 'completed') return codec.decode(end.value);
        if (row.endedAt !== undefined && end?.kind === 'failed') throw codec.decodeError(end.error);
        if (row.endedAt !== undefined)
          throw new StepfastError('RUN_CANCELLED', `Run ${runId} was cancelled.`, { runId });
        await news;
      } finally {
        unlisten?.();
        undoPatience?.();
      }
    }
  };

  return {
    found,
    load,
    get,
    status: async (runId) => known(runId, await get(runId)).status,
    list,
    timeline: async (runId) => timelineOf(await found(runId), codec),
    subscribe,
    result,
    changed,
  };
}
