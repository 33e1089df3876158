import type { AnyJob } from '../door/job.js';
import { placeOf } from '../door/queue.js';
import { fingerprintOfRun, lostBy, payloadOf } from '../door/start.js';
import { StepfastError } from '../errors.js';
import { type Digest, digestOf, extend, undosLeft } from '../replay/digest.js';
import { recordedNames, retryOf } from '../replay/forget.js';
import { payloadIn } from '../replay/glance.js';
import type { RunSnapshot } from '../run/inspect.js';
import type { Batch, CommitOutcome, RunChange } from '../store/batch.js';
import { identityKey } from '../store/journal.js';
import type { RunRow, RunState, StoredRun } from '../store/rows.js';
import { check, checkOptions } from '../values/check.js';
import type { Json } from '../values/json.js';
import { forkJournal } from './fork.js';
import { createViews, type RunsSeen, type ViewsOptions } from './views.js';
import { missing, type Transfer } from './words.js';

/*
 * Runs, commanded from outside: from any context, whoever drives them. (How they are seen: views.ts.)
 */

/** A run, as its starter holds it. */
export interface RunHandle<Result = unknown> {
  readonly id: string;
  /** False: a run with this id or idempotency key was there already. */
  readonly created: boolean;
  status(): Promise<RunSnapshot['status']>;
  /** Resolves with what the handler returned; rejects with the error that ended the run. */
  result(): Promise<Result>;
  cancel(): Promise<void>;
  retry(): Promise<void>;
  /** Calls back with a new snapshot at each change, the first at once. Returns its undoing. */
  subscribe(listener: (snapshot: RunSnapshot<Result>) => void): () => void;
}

export interface ForkOptions {
  /** The name of a step or wait that the run has recorded: its first use, and all that came after it, run anew. */
  readonly before: string;
  /** Default: that of the other run. */
  readonly payload?: unknown;
}

/** Runs, seen and commanded from outside. */
export interface Runs extends RunsSeen, Transfer {
  /**
   * Ends a run for good; one that has ended stays as it is.
   *
   * @throws {StepfastError} `RUN_NOT_FOUND`.
   */
  cancel(runId: string): Promise<void>;
  /**
   * Takes a failed run up again: completed steps are kept, failures forgotten, budgets fresh; steps that were undone run
   * again. `from`: redo from a step.
   *
   * @throws {StepfastError} `RUN_NOT_FOUND`, `RUN_NOT_FAILED`, `RUN_ACTIVE` while its steps are being undone, or another
   * run holds the key of its `singleton` (where the job is registered here).
   */
  retry(runId: string, options?: { readonly from?: string }): Promise<void>;
  /**
   * Starts a new run of the same job that has the steps of this one up to `before`: what they returned is reused.
   *
   * The other run stays as it is; it must have ended, be blocked, or wait for something.
   *
   * @throws {StepfastError} `RUN_NOT_FOUND`, `RUN_ACTIVE`, `INVALID_OPTION` when it has recorded no such step,
   * `INVALID_PAYLOAD`.
   */
  fork(runId: string, options: ForkOptions): Promise<RunHandle>;
  /**
   * Deletes a run that has ended. Its id and idempotency key are remembered as long as they would have been.
   *
   * @throws {StepfastError} `RUN_ACTIVE`, also while another run has yet to read its result. A run that is not there is
   * no error.
   */
  delete(runId: string): Promise<void>;
}

/** In these nothing of a run is under way: its journal can be copied. */
const RESTS: ReadonlySet<string> = new Set(['waiting', 'sleeping', 'retrying']);

const active = ({ runId, status }: RunRow, done: string, advice: string) =>
  new StepfastError('RUN_ACTIVE', `Run ${runId} is ${status} and can not be ${done}. ${advice}.`, { runId });
const UNDOING = "Wait until its steps are undone (`when: 'online'`: when online)";
const another = (row: RunRow, done: string) =>
  active(row, done, 'Another run of its job is active, and there may be only one: wait until that has ended');

/** An undo may be half done: nobody could tell whether its step still counts as completed. */
const isUndoing = ({ row, journal }: StoredRun) => row.undoing && undosLeft(digestOf(journal)).length > 0;

interface RunsOptions extends ViewsOptions {
  readonly jobs: ReadonlyMap<string, AnyJob>;
  commit(parts: Omit<Batch, 'now'>): Promise<CommitOutcome>;
}

export function createRuns(options: RunsOptions) {
  const { platform, codec, scheduler, jobs, commit } = options;
  const { load, found, changed, status, result, ...seen } = createViews(options);
  const { clock } = platform;
  /** The key under which an active run of the job keeps others out, where there may be only one. */
  const singletonOf = (job: string, payload: Json) => {
    const { unique } = placeOf(jobs.get(job), () => codec.decode(payload));
    return unique?.until === 'end' && { unique };
  };

  /** Changes a run from outside: whoever drives it loses the fence. Nothing when somebody else was faster. */
  const command = async (
    change: Pick<RunChange, 'runId' | 'fence' | 'append' | 'unique'>,
    row: RunRow,
    state: Partial<RunState>,
  ) => {
    const { version, startedAt } = row;
    const full = { status: row.status, version, startedAt, waits: [], ...state };
    const outcome = await commit({ run: { ...change, raise: true, state: full } });
    if (outcome.kind === 'fenced' && change.unique && outcome.fence === change.fence) throw another(row, 'retried');
    if (outcome.kind !== 'committed') return;
    scheduler.look();
  };
  const cancel = async (runId: string) => {
    const { row } = await found(runId);
    if (row.endedAt !== undefined) return;
    const at = clock.now();
    const append = [{ kind: 'cancelled', at }] as const;
    await command({ runId, fence: 'any', append }, row, { status: 'cancelled', endedAt: at });
  };
  /** Calls that have failed with children which go on since, or have completed: their work is not done twice. */
  const rejoinedBy = async ({ children }: Digest, forgets: ReturnType<typeof retryOf>['failed']) => {
    const isBack = async ([namespace, ...id]: (typeof forgets)[number]) => {
      const child = children.get(identityKey(namespace, id));
      const row = child && (await load(child.runId))?.row;
      return row !== undefined && (row.endedAt === undefined || row.status === 'completed');
    };
    const found = await Promise.all(forgets.map(isBack));
    return forgets.filter((_, index) => found[index]);
  };
  /** Calls that are open, and whose child has ended and was deleted since: they start another one. */
  const orphanedIn = async ({ children, outcomeKeys }: Digest) => {
    const open = [...children].filter(([key]) => !outcomeKeys.has(key));
    const found = await Promise.all(open.map(([, child]) => load(child.runId)));
    return open.flatMap(([key], index) => (found[index] ? [] : [JSON.parse(key) as readonly ['step', string, number]]));
  };
  const retry = async (runId: string, options: { readonly from?: string } = {}) => {
    checkOptions(options, ['from'], 'The options of retry');
    const { from } = options;
    const { row, journal } = await found(runId);
    const place = { runId };
    if (row.status !== 'failed')
      throw new StepfastError(
        'RUN_NOT_FAILED',
        `Run ${runId} is ${row.status}; only a failed run can be retried.`,
        place,
      );
    const digest = digestOf(journal);
    if (isUndoing({ row, journal })) throw active(row, 'retried', UNDOING);
    const at = clock.now();
    const isKnown = from === undefined || recordedNames(digest).has(from);
    check(isKnown, 'from', from, `the name of a step that run ${runId} has recorded`);
    const { forgets: forgotten, failed } = retryOf(digest, from, at);
    const rejoins = await rejoinedBy(digest, failed);
    const forgets = [...forgotten, ...(await orphanedIn(digest))];
    const append = [{ kind: 'retried', at, forgets, ...(rejoins.length && { rejoins }) }] as const;
    const unique = singletonOf(row.job, digest.payload);
    // A step whose undoing was given up is still done: should the run end from outside, it is to be undone again.
    extend(digest, append);
    const undoable = undosLeft(digest).length > 0 && ({ undoable: true } as const);
    await command({ runId, fence: row.fence, append, ...unique }, row, { status: 'queued', dueAt: at, ...undoable });
  };

  const fork = async (runId: string, options = {} as ForkOptions): Promise<RunHandle> => {
    checkOptions(options, ['before', 'payload'], 'The options of fork');
    const { before, ...given } = options;
    const run = await found(runId);
    const { row, journal } = run;
    const rests = row.endedAt !== undefined || RESTS.has(row.status) || scheduler.blockedBy(row) !== undefined;
    if (!rests || isUndoing(run)) throw active(row, 'forked', 'Wait until it waits for something, or has ended');
    const said = 'payload' in given && (await payloadOf(codec, jobs.get(row.job), row.job, given.payload));
    const at = clock.now();
    const entries = forkJournal(journal, { runId, before, at, ...(said && { said }) });
    const { job, version, queue, tags, priority } = row;
    const unique = singletonOf(job, payloadIn(entries));
    const born = { runId: platform.newId(), job, version, queue, entries };
    // Should it be cancelled before it is claimed, what it was given is to be undone (spec F7).
    const undoable = undosLeft(digestOf(entries)).length > 0;
    const state = undoable && { state: { status: 'queued', version, dueAt: at, waits: [], undoable } as const };
    const start = { ...born, ...unique, ...state, ...(tags && { tags }), ...(priority !== undefined && { priority }) };
    const outcome = await commit({ starts: [start] });
    if (outcome.kind !== 'committed') throw lostBy(outcome, undefined);
    // There already, under the id that it was just given: asked for once more, because the first answer was lost.
    if (outcome.starts[0]!.runId !== born.runId) throw another(row, 'forked');
    scheduler.look();
    return handle(born.runId, true);
  };
  const remove = async (runId: string): Promise<void> => {
    for (;;) {
      const run = await load(runId);
      if (!run) return;
      const { endedAt, undoing, fence } = run.row;
      if (undoing) throw active(run.row, 'deleted', UNDOING);
      if (endedAt === undefined) throw active(run.row, 'deleted', 'Cancel it, or wait until it has ended');
      const outcome = await commit({ deletes: [{ runId, fence, fingerprint: fingerprintOfRun(run) }] });
      if (outcome.kind === 'fenced' && outcome.fence === fence && !(await load(runId))?.row.undoing)
        throw active(run.row, 'deleted', 'Another run waits for its result and has not read it yet');
      if (outcome.kind === 'fenced') continue; // taken up again, or deleted, since it was read
      if (outcome.kind !== 'committed') throw lostBy(outcome, undefined);
      return;
    }
  };

  const handle = (runId: string, created: boolean): RunHandle => ({
    id: runId,
    created,
    status: () => status(runId),
    result: () => result(runId),
    cancel: () => cancel(runId),
    retry: () => retry(runId),
    subscribe: (listener) => seen.subscribe(runId, listener),
  });

  const api: Runs = {
    ...seen,
    cancel,
    retry,
    fork,
    delete: remove,
    export: missing('runs.export', 'stepfast/transfer'),
    import: missing('runs.import', 'stepfast/transfer'),
  };
  return { api, found, handle, changed };
}
