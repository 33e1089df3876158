import { type ErrorPlace, StepfastError } from '../errors.js';
import type { Platform } from '../platform.js';
import type { Batch, CommitOutcome, NewRun, RunChange, StartOutcome, StateChange } from '../store/batch.js';
import type { JournalEntry } from '../store/journal.js';
import type { StoredRun } from '../store/rows.js';
import { type Awaitable, perform, type Work } from '../store/transition/work.js';
import { check, checkName, checkOptions, checkOwn, checkText, quoted } from '../values/check.js';
import type { Codec } from '../values/codec.js';
import { type Duration, durationMs, instantMs } from '../values/duration.js';
import { fingerprintOf } from '../values/fingerprint.js';
import type { Json } from '../values/json.js';
import { nameOf } from '../values/kinds.js';
import { checkRetry, type RetryOptions } from '../values/retry.js';
import { sameJson } from '../values/same.js';
import { type AnyJob, type StandardSchema, validate } from './job.js';
import { checkPriority, placeOf, queueOf } from './queue.js';
import { assertReadable } from './readable.js';
import { stateRefusal } from './state.js';

/*
 * Starting a run: checked at the door, then one commit (spec Q1, R11).
 */

export interface StartOptions {
  /** The run's own id, 1 to 256 characters. Default: a new one. */
  readonly id?: string;
  /** The same key and payload give the same run, also from two tabs at once. */
  readonly idempotencyKey?: string;
  /** How long id and idempotency key are remembered though the run be deleted. Default 30 days. */
  readonly idempotencyTtl?: Duration;
  /** The lane it waits in. Default: that of the job. */
  readonly queue?: string;
  readonly startAt?: Date | number | string;
  readonly delay?: Duration;
  /** Of runs that wait for a slot, those with a greater one go first. An integer. Default: that of the job's queue, or 0. */
  readonly priority?: number;
  readonly tags?: readonly string[];
  readonly retry?: RetryOptions;
  /**
   * Queues a run of a job that is not registered here, for a context that has it. What the job's options say of starts
   * (schema, queue, debounce, singleton) is not known then.
   */
  readonly allowUnregistered?: boolean;
}

/** What a start has besides, when it is not made by the user directly. */
export interface StartInner {
  readonly parentId?: string;
  /** The idempotency key where the options give none; users can give none that begins with `stepfast:`. */
  readonly key?: string;
  /** Goes into the same commit: an owner that has lost its run starts nothing. */
  readonly run?: RunChange;
  /** Goes into the same commit; refused (`STATE_CHANGED`), nothing is started. */
  readonly state?: readonly StateChange[];
  /** The tick of a schedule. */
  readonly schedule?: { readonly name: string; readonly tick: number; readonly missed: number };
}

export interface Started {
  readonly runId: string;
  /** False: a run with this id, idempotency key or unique key was there already. */
  readonly created: boolean;
}

export type Start = ReturnType<typeof createStart>;

interface StartHost {
  readonly platform: Platform;
  readonly codec: Codec;
  readonly jobs: ReadonlyMap<string, AnyJob>;
  commit(parts: Omit<Batch, 'now'>): Promise<CommitOutcome>;
  load(runId: string): Promise<StoredRun | undefined>;
  /** There may be due work. */
  look(): void;
}

type StartedEntry = Extract<JournalEntry, { readonly kind: 'started' }>;

/** How long ids and keys that an app gives are remembered, unless it says otherwise (spec Q1). */
export const IDEMPOTENCY_TTL_MS = 30 * 86_400_000;

/** What tells the payload of a run, as it was given, from another: kept when the run is deleted. */
export const fingerprintOfRun = ({ row, journal }: StoredRun): string => printOf(row.job, givenOf(journal));

const printOf = (job: string, given: Json) => fingerprintOf([job, given]);

const givenOf = (journal: readonly JournalEntry[]): Json => {
  const { given, payload } = journal[0] as StartedEntry;
  return given ?? payload;
};

/** A commit that another owner, or the end of the run, has overtaken. */
export const lostBy = (outcome: CommitOutcome, run: RunChange | undefined): StepfastError =>
  run && (outcome.kind === 'fenced' || outcome.kind === 'ended')
    ? new StepfastError('LEASE_LOST', `Run ${run.runId} was ended from outside, or another context drives it now.`, {
        runId: run.runId,
      })
    : new StepfastError(
        'STORE_UNAVAILABLE',
        `The store answered "${outcome.kind}" to a commit that can not get this answer.`,
      );

export const conflict = (what: string, key: unknown, by: string, place?: ErrorPlace) =>
  new StepfastError(
    'IDEMPOTENCY_CONFLICT',
    `${what} ${quoted(key)} was used before, with another payload${by}. Use a new ${what} for new work, or the old payload to get the old answer.`,
    place,
  );

/** What every start may be given; one of an app, also this. */
const OPTIONS = ['id', 'idempotencyKey', 'idempotencyTtl', 'queue', 'startAt', 'delay', 'priority', 'tags', 'retry'];
const OWN = [...OPTIONS, 'allowUnregistered'];
/** And a child. */
export const CHILD_OPTIONS = ['name', ...OPTIONS];

/** Refuses options that can not be started with. */
export function checkStart(options: StartOptions, what = 'The options of start', known: readonly string[] = OWN): void {
  checkOptions(options, known, what);
  const { id, idempotencyKey, idempotencyTtl, tags = [], retry, startAt, delay, queue, priority } = options;
  const { allowUnregistered = false } = options;
  if (id !== undefined) checkText(id, 'id', 'INVALID_ID');
  if (idempotencyKey !== undefined) {
    checkText(idempotencyKey, 'idempotencyKey', 'INVALID_KEY');
    checkOwn(idempotencyKey, 'idempotencyKey');
  }
  if (idempotencyTtl !== undefined) durationMs(idempotencyTtl, 'idempotencyTtl');
  checkRetry(retry);
  if (queue !== undefined) checkName(queue, 'a queue');
  if (priority !== undefined) checkPriority(priority, 'priority');
  check(Array.isArray(tags), 'tags', tags, 'an array of texts');
  for (const tag of tags) checkText(tag, 'An entry of tags', 'INVALID_OPTION');
  check(startAt === undefined || delay === undefined, 'startAt beside delay', startAt, 'one of startAt and delay');
  check(typeof allowUnregistered === 'boolean', 'allowUnregistered', allowUnregistered, 'true or false');
  dueOf(options, 0);
}

/** When the run is due by what the start says. */
function dueOf({ startAt, delay }: StartOptions, now: number): number {
  if (delay !== undefined) return now + durationMs(delay, 'delay');
  return startAt === undefined ? now : Math.max(instantMs(startAt, 'startAt'), now);
}

/** A payload as it is recorded: what its schema makes of it, and (where that differs) as it was given. */
export interface Recorded {
  readonly payload: Json;
  readonly given?: Json;
}

/**
 * What a schema makes of a payload. At once, unless the schema takes its time: so calls that are made in one turn are
 * committed in their order (spec E3: an event that is dispatched behind a start comes after the run).
 */
export const recordedAs = (
  codec: Codec,
  schema: StandardSchema | undefined,
  value: unknown,
  what: string,
): Awaitable<Recorded> => perform(recording(codec, schema, value, what));

function* recording(codec: Codec, schema: StandardSchema | undefined, value: unknown, what: string): Work<Recorded> {
  // Encoded as it was given, too: a promise would pass for what it comes to.
  const raw = codec.encode(value, `the ${what}`);
  if (!schema) return { payload: raw };
  const checked = codec.encode(yield* validate(schema, value, `The ${what}`), `the ${what}`);
  return { payload: checked, ...(!sameJson(raw, checked) && { given: raw }) };
}

/** The same of the payload of a run. */
export const payloadOf = (codec: Codec, job: AnyJob | undefined, name: string, payload: unknown): Awaitable<Recorded> =>
  recordedAs(codec, job?.options.payload, payload, `payload of job "${name}"`);

export function createStart({ platform, codec, jobs, commit, load, look }: StartHost) {
  const { clock } = platform;

  /** Whether a start that met a run is the same start again; `own`: it has made that run. Absent: the run is gone meanwhile. */
  const isSame = async ({ runId, fingerprint }: StartOutcome, name: string, raw: Json, nonce: string | undefined) => {
    if (fingerprint !== undefined) return fingerprint === printOf(name, raw);
    const old = await load(runId);
    if (old) assertReadable(old.row);
    if (nonce !== undefined && (old?.journal[0] as StartedEntry | undefined)?.nonce === nonce) return 'own';
    return old && old.row.job === name && codec.isSame(givenOf(old.journal), raw);
  };

  return async (
    given: string | AnyJob,
    payload?: unknown,
    options: StartOptions = {},
    inner: StartInner = {},
  ): Promise<Started> => {
    const name = nameOf(given);
    checkName(name, 'a job');
    checkStart(options);
    const job = jobs.get(name);
    if (!job && !options.allowUnregistered) {
      const other =
        inner.parentId === undefined
          ? 'start it with allowUnregistered for a context that has it'
          : 'load this run where it is';
      throw new StepfastError('UNKNOWN_JOB', `Job "${name}" is not registered here. Register it, or ${other}.`, {
        job: name,
      });
    }
    const { id, idempotencyKey = inner.key, idempotencyTtl = IDEMPOTENCY_TTL_MS, tags = [], retry } = options;
    const said = await payloadOf(codec, job, name, payload);
    const { delayMs, unique } = placeOf(job, () => codec.decode(said.payload));
    const now = clock.now();
    const dueAt = Math.max(dueOf(options, now), now + delayMs);
    const ownId = id ?? platform.newId();
    // A run whose id was made here is known by that.
    const nonce = id === undefined ? undefined : platform.newId();
    const entry: JournalEntry = {
      kind: 'started',
      at: now,
      ...said,
      ...(nonce !== undefined && { nonce }),
      ...(retry && { retry: codec.encode(retry) }),
      ...(inner.schedule && { schedule: inner.schedule }),
    };
    const queue = queueOf(job);
    const isKeyed = id !== undefined || options.idempotencyKey !== undefined;
    const keyUntil = now + durationMs(idempotencyTtl, 'idempotencyTtl');
    // Not ticks of a schedule: none is started again, and there may be one each minute.
    const isRemembered = unique && !inner.schedule && (id ?? idempotencyKey) !== undefined;
    const start: NewRun = {
      runId: ownId,
      job: name,
      version: job?.options.version ?? 1,
      queue: options.queue ?? queue.name,
      // Else at once, by the word of the store: the clock may be set back before that is asked (spec Q4).
      ...(dueAt > now && { dueAt }),
      entries: [entry],
      ...(idempotencyKey !== undefined && { idempotencyKey }),
      ...(inner.parentId !== undefined && { parentId: inner.parentId }),
      ...(tags.length && { tags: [...tags] }),
      ...((options.priority ?? queue.priority) && { priority: options.priority ?? queue.priority! }),
      ...(unique && { unique }),
      ...(isKeyed && { keyUntil }),
      ...(isRemembered && {
        merged: { fingerprint: printOf(name, said.given ?? said.payload), until: keyUntil },
      }),
      ...(unique?.until === 'start' && { moves: { kind: 'rescheduled', at: now, ...said, dueAt } }),
    };
    for (let tries = 0; ; tries++) {
      const { run, state } = inner;
      const outcome = await commit({ starts: [start], ...(run && { run }), ...(state && { state }) });
      if (outcome.kind === 'refused' && state) throw stateRefusal(outcome, state);
      if (outcome.kind !== 'committed') throw lostBy(outcome, run);
      const found = outcome.starts[0]!;
      const { runId, kind } = found;
      // An id that was made for this call is this call's run, though a lost answer made the store be asked twice.
      const created = kind === 'created' || (runId === ownId && id === undefined);
      if (created || kind === 'moved') look();
      if (created || (found.isUnique && found.fingerprint === undefined)) return { runId, created };
      const same = await isSame(found, name, said.given ?? said.payload, nonce);
      if (same) return { runId, created: created || same === 'own' };
      if (same === undefined && tries)
        throw new StepfastError(
          'STORE_CORRUPT',
          `Run ${runId}, which was started with this id or key, is known to the store and can not be read. Use a new key for new work.`,
          { runId },
        );
      if (same === false)
        throw runId === id || idempotencyKey === undefined
          ? conflict('id', id, ' or job', { runId })
          : conflict('idempotencyKey', idempotencyKey, ` (run ${runId} of job "${name}")`, { runId, job: name });
    }
  };
}
