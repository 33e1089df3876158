import { createDispatch, type DispatchOptions, type Receipt } from '../door/dispatch.js';
import type { EventType } from '../door/event.js';
import { type AnyJob, checkJob, type DefineJob, defineJob, type Job } from '../door/job.js';
import { checkShared } from '../door/queue.js';
import { createStart, lostBy, type StartOptions } from '../door/start.js';
import { createState, type State, type StateHost, stateRefusal } from '../door/state.js';
import { StepfastError } from '../errors.js';
import { LIMITS } from '../limits.js';
import type { Platform } from '../platform.js';
import type { Batch, CommitOutcome } from '../store/batch.js';
import type { Store } from '../store/store.js';
import { check, checkOptions } from '../values/check.js';
import { type Codec, createCodec } from '../values/codec.js';
import { positiveMs } from '../values/duration.js';
import { createDriving } from './driving.js';
import { heard } from './heard.js';
import { checkEngine, type EngineOptions } from './options.js';
import { createRuns, type RunHandle, type Runs } from './runs.js';
import { createScheduler } from './scheduler.js';
import { createUse } from './use.js';
import { missingNow, type Schedule } from './words.js';

/** An engine: what `createStepfast` returns. */
export interface Stepfast {
  /** Defines a job and registers it here. */
  readonly job: DefineJob;
  /** Registers a job that was defined elsewhere. `replace`: for hot reload; without it `DUPLICATE_JOB` for a name that is taken. */
  register(job: AnyJob, options?: { readonly replace?: boolean }): void;
  /**
   * Opens the store and goes on with what was left. Call it at each load, with the jobs defined: these touch nothing by
   * themselves; any other call opens the store as well. `STORE_LOCKED` where another process drives it.
   */
  ready(): Promise<void>;
  /** Stops cleanly: runs are let go, the store is closed. */
  close(): Promise<void>;
  /**
   * Starts a run, or gives the one that this start, or another with its id or key, has made.
   *
   * @throws {StepfastError} `UNKNOWN_JOB`, `INVALID_PAYLOAD`, `IDEMPOTENCY_CONFLICT`, `NOT_SERIALIZABLE`, `VALUE_TOO_LARGE`, and
   * other `INVALID_...` for its options: nothing was written.
   */
  start<Payload, Result, Input>(
    job: Job<Payload, Result, Input>,
    ...rest: undefined extends Input
      ? [payload?: NoInfer<Input>, options?: StartOptions]
      : [payload: NoInfer<Input>, options?: StartOptions]
  ): Promise<RunHandle<Result>>;
  start(job: string, payload?: unknown, options?: StartOptions): Promise<RunHandle>;
  /**
   * Hands an event to every run that waits for it, or will.
   *
   * @throws {StepfastError} `INVALID_PAYLOAD`, `IDEMPOTENCY_CONFLICT`, `EVENT_BACKLOG_FULL`, `RUN_NOT_FOUND` with a `runId`,
   * `NOT_SERIALIZABLE`, `VALUE_TOO_LARGE`, and other `INVALID_...` for its options: nothing was stored.
   */
  dispatch(name: string, payload?: unknown, options?: DispatchOptions): Promise<Receipt>;
  dispatch<Payload, Input>(
    event: EventType<Payload, Input>,
    ...rest: undefined extends Input
      ? [payload?: Input, options?: DispatchOptions]
      : [payload: Input, options?: DispatchOptions]
  ): Promise<Receipt>;
  readonly runs: Runs;
  /** Values that all runs of the store share. */
  readonly state: State;
  readonly schedule: Schedule;
  [Symbol.asyncDispose](): Promise<void>;
}

const LEASE_MS = 15_000;

/** Stores that engines have: each tells who lives by the one that opened it, and is closed with it (spec O1). */
const taken = new WeakSet<Store>();

function refuseTaken(store: Store): void {
  if (taken.has(store))
    throw new StepfastError(
      'INVALID_OPTION',
      'This store has been given to another engine. Make one for each, also where the other engine is closed: two stores of one name or folder share their runs.',
    );
}

/** Wires the parts; decides little. */
export function createEngine(platform: Platform, options: EngineOptions): Stepfast {
  const { clock } = platform;
  checkEngine(options, clock);
  const leaseMs = options.leaseMs === undefined ? LEASE_MS : positiveMs(options.leaseMs, 'leaseMs');
  refuseTaken(options.store);
  const owner = platform.newId();
  const jobs = new Map<string, AnyJob>();
  const undo: (() => void)[] = [];
  // An error handler that throws has nobody left to tell, and must not break a run (spec B).
  const report = (error: unknown) =>
    heard(
      () => (options.onError ?? platform.report)(error),
      () => undefined,
    );
  const use = createUse(options.use ?? [], report);
  const store = use.around(options.store);
  const codec: Codec = createCodec({
    URL: platform.URL,
    blobs: store.capabilities.blobs,
    ...(options.maxValueBytes !== undefined && { maxBytes: options.maxValueBytes }),
  });
  let isClosed = false;
  /** How often the store has lost all that it held. */
  let losses = 0;
  let opening: Promise<void> | undefined;

  // ---- life ---------------------------------------------------------------------------------------------------------

  const {
    refused,
    use: openToUse,
    drive,
    tryDrive,
    rests,
  } = createDriving({
    store,
    owner,
    leaseMs,
    clock,
    report,
    onOutdated: options.onOutdated,
    halt: (error) => scheduler.halt(error),
  });
  const refuseClosed = () => {
    if (isClosed) throw new StepfastError('CLOSED', 'This engine is closed. Create a new one to go on.');
  };
  const open = async () => {
    refuseClosed();
    opening ??= (async () => {
      if (jobs.size === 0 || !(await tryDrive())) await openToUse();
      undo.push(
        store.watch((runId, isOwn) => {
          if (isOwn && runId === undefined) {
            losses++;
            scheduler.lost();
            return runs.changed(undefined);
          }
          // Who drives a run tells of it, and knows more.
          if (isOwn && scheduler.drivesRun(runId!)) return;
          runs.changed(runId);
          if (!isOwn && !rests()) scheduler.hint(runId);
        }),
        platform.onWake(scheduler.look),
      );
      scheduler.look();
      use.opened();
    })().catch((error) => {
      opening = undefined;
      throw error;
    });
    await opening;
  };
  /** What was changed from outside, by a command or a plug-in, is driven here no longer. */
  const takeOver = ({ run, deletes = [] }: Omit<Batch, 'now'>, fence: number) => {
    const isCancelled = run?.state?.status === 'cancelled';
    if (run?.raise) scheduler.stop(run.runId, fence, isCancelled);
    for (const { runId } of deletes) scheduler.stop(runId, Infinity, false);
    for (const { runId } of run?.raise ? [run, ...deletes] : deletes) runs.changed(runId);
  };
  const commit = async (parts: Omit<Batch, 'now'>): Promise<CommitOutcome> => {
    await open();
    const release = clock.hold?.();
    try {
      const outcome = await store.commit({ now: clock.now(), ...parts });
      if (outcome.kind === 'committed') takeOver(parts, outcome.fence);
      return outcome;
    } catch (error) {
      if (!isClosed) scheduler.look(); // it may have happened (S8), and nobody else would tell
      return refused(error);
    } finally {
      release?.();
    }
  };
  const state: StateHost = {
    losses: () => losses,
    async read(key) {
      await open();
      const release = clock.hold?.();
      return store.state(key).finally(release);
    },
    async commit(changes) {
      const outcome = await commit({ state: changes });
      if (outcome.kind === 'refused') throw stateRefusal(outcome, changes);
      if (outcome.kind !== 'committed') throw lostBy(outcome, undefined);
      return outcome.state;
    },
  };
  const load = async (runId: string) => {
    await open();
    return store.load(runId);
  };
  const look = () => scheduler.look();
  const base = { platform, codec, store, jobs, report, open, commit, load, look };
  const start = createStart(base);
  const dispatch = createDispatch(base);
  const scheduler = createScheduler({
    ...base,
    owner,
    leaseMs,
    alwaysReplays: options.replay === 'always',
    retry: options.retry,
    maxOutcomes: options.maxOutcomes ?? LIMITS.outcomes,
    maxRunBytes: options.maxRunBytes ?? LIMITS.runBytes,
    start,
    dispatch,
    state,
    drives: tryDrive,
    refused,
    changed: (runId, row) => runs.changed(runId, row),
    committed: (runId, job, entries) => use.committed({ runId, job, entries }),
  });
  const runs = createRuns({ ...base, losses: state.losses, scheduler, refuseClosed });

  const register: Stepfast['register'] = (job, options = {}) => {
    refuseClosed();
    checkJob(job);
    checkOptions(options, ['replace'], 'The options of register');
    const { replace = false } = options;
    check(typeof replace === 'boolean', 'replace', replace, 'true or false');
    const isKnown = jobs.has(job.name);
    if (isKnown && jobs.get(job.name) !== job && !replace)
      throw new StepfastError(
        'DUPLICATE_JOB',
        `Job "${job.name}" is registered already. Give one another name, or register(job, { replace: true }).`,
        { job: job.name },
      );
    checkShared(job, jobs.values());
    jobs.set(job.name, job);
    scheduler.refit(job, isKnown);
    if (opening) scheduler.look();
    use.registered();
  };
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => (closing ??= end());
  const end = async () => {
    isClosed = true;
    await opening?.catch(() => undefined); // its caller was told
    for (const each of undo) each();
    if (opening) use.closed();
    await scheduler.close();
    await store.close();
    runs.changed(undefined);
  };

  const engine = {
    job: ((name: string, ...rest: [never]) => {
      const job = defineJob(name, ...rest);
      register(job);
      return job;
    }) as DefineJob,
    register,
    async ready() {
      await open();
      await drive(true);
      scheduler.look();
    },
    close,
    start: (async (...given: Parameters<typeof start>) => {
      refuseClosed();
      const { runId, created } = await start(given[0], given[1], given[2]);
      return runs.handle(runId, created);
    }) as Stepfast['start'],
    dispatch: ((event: string | EventType, payload?: unknown, given?: DispatchOptions) =>
      dispatch(event, payload, given)) as Stepfast['dispatch'],
    runs: runs.api,
    state: createState({ ...base, ...state }),
    schedule: missingNow('schedule', 'stepfast/schedules'),
    [Symbol.asyncDispose ?? 'dispose']: close,
  } as Stepfast;
  use.words({ ...base, start }, engine);
  taken.add(options.store); // last: what a plug-in refuses has taken nothing
  return engine;
}
