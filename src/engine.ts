import { check, checkInteger, checkKey, checkName, checkText, quoted } from './check.js';
import { type Codec, createCodec, sameJson } from './codec.js';
import { type Duration, durationMs, instantMs } from './duration.js';
import { isStepfastError, StepfastError } from './errors.js';
import { type AnyJob, type DefineJob, defineJob, type Job, validate } from './job.js';
import type { JournalEntry } from './journal.js';
import type { Clock, Platform } from './platform.js';
import { type RetryOptions, resolveRetry } from './retry.js';
import { createRuns, type RunHandle, type Runs } from './runs.js';
import { createScheduler } from './scheduler.js';
import type { Batch, CommitOutcome, Store } from './store.js';

/** How an engine is made. */
export interface EngineOptions {
  /** Where runs are kept. */
  readonly store: Store;
  /** Time. Default: that of the platform. `stepfast/testing` has a simulated one. */
  readonly clock?: Clock;
  /** Hears of everything that went wrong and has no caller to tell: never payloads. Default: the console. */
  readonly onError?: (error: unknown) => void;
  /** Retries of every step, unless job, start or step say otherwise. */
  readonly retry?: RetryOptions;
  /** How long the store's word that a run is ours is good for, in milliseconds. Default 15,000. */
  readonly leaseMs?: number;
  /** Largest encoded value, in bytes. Default 1 MiB. */
  readonly maxValueBytes?: number;
  /** `always` drops the handler at each outcome, so that every wake-up is a replay: for tests. Default `resume`. */
  readonly replay?: 'resume' | 'always';
}

export interface StartOptions {
  /** The run's own id, 1 to 256 characters. Default: a new one. */
  readonly id?: string;
  /** The same key and payload give the same run, also from two tabs at once. */
  readonly idempotencyKey?: string;
  readonly queue?: string;
  readonly startAt?: Date | number | string;
  readonly delay?: Duration;
  readonly tags?: readonly string[];
  readonly retry?: RetryOptions;
  /** Queues a run of a job that is not registered here, for a context that has it. */
  readonly allowUnregistered?: boolean;
}

export interface DispatchOptions {
  /** Only waits with the same key may take the event; without one, only waits without one. */
  readonly correlationKey?: string;
  /** The same key (on this name and correlation key) and payload give the first receipt, for the event's life. */
  readonly idempotencyKey?: string;
  /** How long the event is kept, taken or not. Default 30 days. */
  readonly ttl?: Duration;
  /** For this run alone. */
  readonly runId?: string;
}

/** What `dispatch` resolves with: the event is durable. */
export interface Receipt {
  readonly id: string;
  readonly deduplicated: boolean;
  /** Runs that had an open matching wait. */
  readonly resumed: readonly string[];
}

/** An engine: what `createStepfast` returns. */
export interface Stepfast {
  /** Defines a job and registers it here. */
  readonly job: DefineJob;
  /** Registers a job that was defined elsewhere. `replace`: for hot reload. */
  register(job: AnyJob, options?: { readonly replace?: boolean }): void;
  /** Opens the store and recovers what was left; any other call does so by itself. */
  ready(): Promise<void>;
  /** Stops cleanly: runs are let go, the store is closed. */
  close(): Promise<void>;
  start<Payload, Result>(
    job: Job<Payload, Result>,
    ...rest: undefined extends Payload
      ? [payload?: Payload, options?: StartOptions]
      : [payload: Payload, options?: StartOptions]
  ): Promise<RunHandle<Result>>;
  start(job: string, payload?: unknown, options?: StartOptions): Promise<RunHandle>;
  /** Hands an event to every run that waits for it, or will. */
  dispatch(name: string, payload?: unknown, options?: DispatchOptions): Promise<Receipt>;
  readonly runs: Runs;
  [Symbol.asyncDispose](): Promise<void>;
}

const EVENT_TTL_MS = 30 * 24 * 60 * 60 * 1000;
const MAX_BACKLOG = 1_000;
const LEASE_MS = 15_000;
function checkEngine({ store, retry, replay, maxValueBytes, onError }: EngineOptions, clock: Clock): void {
  check(typeof store?.commit === 'function', 'store', store, 'a store, for example memoryStore()');
  check(typeof clock?.setTimer === 'function', 'clock', clock, 'a clock, or leave it out');
  check(!onError || typeof onError === 'function', 'onError', onError, 'a function');
  check(['resume', 'always'].includes(replay ?? 'resume'), 'replay', replay, '"resume" or "always"');
  if (maxValueBytes !== undefined) checkInteger(maxValueBytes, 'maxValueBytes', 1);
  resolveRetry(retry);
}

/** Wires the parts; decides little. */
export function createEngine(platform: Platform, options: EngineOptions): Stepfast {
  const { store } = options;
  const { clock } = platform;
  checkEngine(options, clock);
  const leaseMs = options.leaseMs === undefined ? LEASE_MS : durationMs(options.leaseMs, 'leaseMs');
  const owner = platform.newId();
  const jobs = new Map<string, AnyJob>();
  const undo: (() => void)[] = [];
  const codec: Codec = createCodec({
    URL: platform.URL,
    blobs: store.capabilities.blobs,
    ...(options.maxValueBytes !== undefined && { maxBytes: options.maxValueBytes }),
  });
  let isClosed = false;
  let isDriving = false;
  let opening: Promise<void> | undefined;

  const report = (error: unknown) => {
    try {
      (options.onError ?? platform.report)(error);
    } catch {
      // An error handler that throws has nobody left to tell, and must not break a run (spec B).
    }
  };
  // ---- life ---------------------------------------------------------------------------------------------------------

  const openAs = (mode: 'drive' | 'use') => store.open({ owner, now: clock.now(), leaseMs, mode, onError: report });
  const drive = async () => {
    if (isDriving) return;
    await openAs('drive');
    isDriving = true;
  };
  /** Drives if it can; where another process does, this one uses the store through it (spec O3). */
  const tryDrive = async () => {
    try {
      await drive();
      return true;
    } catch (error) {
      if (isStepfastError(error, 'STORE_LOCKED')) return false;
      throw error;
    }
  };
  const open = async () => {
    if (isClosed) throw new StepfastError('CLOSED', 'This engine is closed. Create a new one to go on.');
    opening ??= (async () => {
      if (jobs.size === 0 || !(await tryDrive())) await openAs('use');
      undo.push(
        store.watch((runId, isOwn) => {
          if (isOwn) return; // whoever made the commit tells, and knows more
          runs.changed(runId);
          scheduler.hint(runId);
        }),
        platform.onWake(scheduler.look),
      );
      scheduler.look();
    })().catch((error) => {
      opening = undefined;
      throw error;
    });
    await opening;
  };
  const scheduler = createScheduler({
    platform,
    codec,
    owner,
    leaseMs,
    alwaysReplays: options.replay === 'always',
    retry: options.retry,
    store,
    jobs,
    drives: tryDrive,
    changed: (runId, row) => runs.changed(runId, row),
    report,
  });
  const runs = createRuns({ platform, codec, store, scheduler, open, commit: (run) => commit({ run }), report });

  // ---- start and dispatch -------------------------------------------------------------------------------------------

  const commit = async (parts: Omit<Batch, 'now'>): Promise<CommitOutcome> => {
    await open();
    const release = clock.hold?.();
    try {
      return await store.commit({ now: clock.now(), ...parts });
    } catch (error) {
      if (!isClosed) scheduler.look(); // it may have happened (S8), and nobody else would tell
      throw error;
    } finally {
      release?.();
    }
  };
  const conflict = (what: string, key: unknown) =>
    new StepfastError(
      'IDEMPOTENCY_CONFLICT',
      `${what} ${quoted(key)} was used before, with another payload. Use a new key for new work, or the old payload to get the old answer.`,
    );

  const start = async (given: string | AnyJob, payload?: unknown, startOptions: StartOptions = {}) => {
    const name = typeof given === 'object' && given ? given.name : given;
    checkName(name, 'a job');
    const { id, idempotencyKey, tags = [], retry, startAt, delay, queue } = startOptions;
    const job = jobs.get(name);
    if (!job && !startOptions.allowUnregistered)
      throw new StepfastError(
        'UNKNOWN_JOB',
        `Job "${name}" is not registered here. Register it, or start it with allowUnregistered for a context that has it.`,
        { job: name },
      );
    if (id !== undefined) checkText(id, 'id', 'INVALID_ID');
    if (idempotencyKey !== undefined) checkText(idempotencyKey, 'idempotencyKey', 'INVALID_KEY');
    resolveRetry(retry);
    if (queue !== undefined) checkName(queue, 'a queue');
    check(Array.isArray(tags), 'tags', tags, 'an array of texts');
    for (const tag of tags) checkText(tag, 'An entry of tags', 'INVALID_OPTION');
    check(startAt === undefined || delay === undefined, 'startAt beside delay', startAt, 'one of startAt and delay');
    const raw = codec.encode(payload, `the payload of job "${name}"`);
    const checked = job?.options.payload
      ? codec.encode(await validate(job.options.payload, payload, `The payload of job "${name}"`), 'the payload')
      : raw;
    const now = clock.now();
    const due =
      delay !== undefined
        ? now + durationMs(delay, 'delay')
        : startAt !== undefined
          ? instantMs(startAt, 'startAt')
          : now;
    const entry: JournalEntry = {
      kind: 'started',
      at: now,
      payload: checked,
      ...(!sameJson(raw, checked) && { given: raw }),
      ...(retry && { retry: codec.encode(retry) }),
    };
    const ownId = id ?? platform.newId();
    const outcome = await commit({
      starts: [
        {
          runId: ownId,
          job: name,
          version: job?.options.version ?? 1,
          queue: queue ?? scheduler.queueOf(job),
          dueAt: Math.max(due, now),
          entry,
          idempotencyKey,
          tags: tags.length ? [...tags] : undefined,
        },
      ],
    });
    if (outcome.kind !== 'committed') throw unexpected(outcome);
    const { runId, kind } = outcome.starts[0]!;
    // An id that was made for this call is this call's run, though a lost answer made the store be asked twice.
    const created = kind === 'created' || (runId === ownId && id === undefined);
    if (!created) {
      const old = await runs.found(runId);
      const first = old.journal[0] as Extract<JournalEntry, { kind: 'started' }>;
      if (old.row.job !== name || !sameJson(first.given ?? first.payload, raw))
        throw conflict(id === undefined ? 'idempotencyKey' : 'id', id ?? idempotencyKey);
    } else scheduler.look();
    return runs.handle(runId, created);
  };

  const dispatch = async (name: string, payload?: unknown, dispatchOptions: DispatchOptions = {}): Promise<Receipt> => {
    checkName(name, 'an event');
    const { correlationKey, idempotencyKey, ttl, runId } = dispatchOptions;
    checkKey(correlationKey, platform.warn);
    if (idempotencyKey !== undefined) checkText(idempotencyKey, 'idempotencyKey', 'INVALID_KEY');
    if (runId !== undefined) checkText(runId, 'runId', 'INVALID_ID');
    const encoded = codec.encode(payload, `the payload of event "${name}"`);
    const ownId = platform.newId();
    const outcome = await commit({
      events: [
        {
          id: ownId,
          name,
          payload: encoded,
          ttlMs: ttl === undefined ? EVENT_TTL_MS : durationMs(ttl, 'ttl'),
          maxBacklog: MAX_BACKLOG,
          key: correlationKey,
          idempotencyKey,
          runId,
        },
      ],
    });
    if (outcome.kind === 'refused') {
      const said =
        outcome.code === 'RUN_NOT_FOUND'
          ? `There is no active run ${quoted(runId)} for event "${name}".`
          : `${MAX_BACKLOG} events "${name}" with this correlation key wait to be taken. Let runs take them, or give them a shorter ttl.`;
      throw new StepfastError(outcome.code, `${said} Nothing was stored.`, runId === undefined ? {} : { runId });
    }
    if (outcome.kind !== 'committed') throw unexpected(outcome);
    const { id, kind, resumed, payload: first } = outcome.events[0]!;
    const deduplicated = kind === 'deduplicated' && id !== ownId;
    if (deduplicated && !sameJson(first ?? null, encoded)) throw conflict('idempotencyKey', idempotencyKey);
    if (resumed.length) scheduler.look();
    return { id, deduplicated, resumed };
  };

  const register: Stepfast['register'] = (job, { replace = false } = {}) => {
    if (jobs.has(job.name) && jobs.get(job.name) !== job && !replace)
      throw new StepfastError(
        'DUPLICATE_JOB',
        `Job "${job.name}" is registered already. Give one another name, or register(job, { replace: true }).`,
        { job: job.name },
      );
    jobs.set(job.name, job);
    scheduler.refit(job);
    if (opening) scheduler.look();
  };
  const close = async () => {
    if (isClosed) return;
    isClosed = true;
    await opening?.catch(() => undefined); // its caller was told
    for (const each of undo) each();
    await scheduler.close();
    await store.close();
    runs.changed(undefined);
  };

  return {
    job: ((name: string, ...rest: [never]) => {
      const job = defineJob(name, ...rest);
      register(job);
      return job;
    }) as DefineJob,
    register,
    async ready() {
      await open();
      await drive();
      scheduler.look();
    },
    close,
    start: start as Stepfast['start'],
    dispatch,
    runs: runs.api,
    [Symbol.asyncDispose ?? 'dispose']: close,
  } as Stepfast;
}

const unexpected = (outcome: CommitOutcome) =>
  new StepfastError(
    'STORE_UNAVAILABLE',
    `The store answered "${outcome.kind}" to a commit that can not get this answer.`,
  );
