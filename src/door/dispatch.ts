import { StepfastError } from '../errors.js';
import type { Platform } from '../platform.js';
import type { Batch, CommitOutcome, RunChange } from '../store/batch.js';
import { checkKey, checkOptions, checkText, quoted } from '../values/check.js';
import type { Codec } from '../values/codec.js';
import { type Duration, positiveMs } from '../values/duration.js';
import { nameOf } from '../values/kinds.js';
import { checkEvent, type EventType } from './event.js';
import { conflict, lostBy, recordedAs } from './start.js';

/*
 * Handing in an event: durable before it resolves (spec E1).
 */

export interface DispatchOptions {
  /** Only waits with the same key may take the event; without one, only waits without one. */
  readonly correlationKey?: string;
  /** The same key (on this name and correlation key) and payload give the first receipt, for the event's life. */
  readonly idempotencyKey?: string;
  /** How long the event is kept, taken or not. More than 0; default 30 days. */
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

/** What a dispatch has besides, when it is not made by the user directly. */
export interface DispatchInner {
  /** The event's own id: the same one again gives the first receipt, whatever the payload. */
  readonly id?: string;
  /** Goes into the same commit: an owner that has lost its run sends nothing. */
  readonly run?: RunChange;
}

export type Dispatch = ReturnType<typeof createDispatch>;

interface DispatchHost {
  readonly platform: Platform;
  readonly codec: Codec;
  commit(parts: Omit<Batch, 'now'>): Promise<CommitOutcome>;
  /** There may be due work. */
  look(): void;
}

const EVENT_TTL_MS = 30 * 86_400_000;
const MAX_BACKLOG = 1_000;

const OPTIONS = ['correlationKey', 'idempotencyKey', 'ttl', 'runId'];

/** Refuses what can not be dispatched; the length of its life in milliseconds. */
export function checkDispatch(
  event: string | EventType,
  options: DispatchOptions,
  { warn }: Pick<Platform, 'warn'>,
  more: readonly string[] = [],
): { readonly ttlMs: number } {
  checkEvent(event);
  checkOptions(options, [...more, ...OPTIONS], 'The options of dispatch');
  const { correlationKey, idempotencyKey, ttl, runId } = options;
  checkKey(correlationKey, warn);
  if (idempotencyKey !== undefined) checkText(idempotencyKey, 'idempotencyKey', 'INVALID_KEY');
  if (runId !== undefined) checkText(runId, 'runId', 'INVALID_ID');
  return { ttlMs: ttl === undefined ? EVENT_TTL_MS : positiveMs(ttl, 'ttl') };
}

export function createDispatch({ platform, codec, commit, look }: DispatchHost) {
  return async (
    event: string | EventType,
    payload?: unknown,
    options: DispatchOptions = {},
    inner: DispatchInner = {},
  ): Promise<Receipt> => {
    const name = nameOf(event);
    const { ttlMs } = checkDispatch(event, options, platform);
    const { correlationKey, idempotencyKey, runId } = options;
    const schema = typeof event === 'object' ? event.schema : undefined;
    const said = await recordedAs(codec, schema, payload, `payload of event "${name}"`);
    const { payload: encoded, given = encoded } = said;
    const ownId = inner.id ?? platform.newId();
    const outcome = await commit({
      events: [
        {
          id: ownId,
          name,
          // With what was given: a schema may make something else of the same payload each time.
          ...(idempotencyKey === undefined ? { payload: encoded } : said),
          ttlMs,
          maxBacklog: MAX_BACKLOG,
          ...(correlationKey !== undefined && { key: correlationKey }),
          ...(idempotencyKey !== undefined && { idempotencyKey }),
          ...(runId !== undefined && { runId }),
        },
      ],
      ...(inner.run && { run: inner.run }),
    });
    if (outcome.kind === 'refused') {
      const said =
        outcome.code === 'RUN_NOT_FOUND'
          ? `There is no active run ${quoted(runId)} for event "${name}".`
          : `${MAX_BACKLOG} events "${name}" with this correlation key wait to be taken. Let runs take them, or give them a shorter ttl.`;
      throw new StepfastError(outcome.code, `${said} Nothing was stored.`, runId === undefined ? {} : { runId });
    }
    if (outcome.kind !== 'committed') throw lostBy(outcome, inner.run);
    const { id, kind, resumed, payload: first = null, given: firstGiven = first, runId: firstTo } = outcome.events[0]!;
    const deduplicated = kind === 'deduplicated' && id !== ownId;
    const isThere = firstTo === runId;
    const isSame = async () => isThere && ((await codec.isSame(firstGiven, given)) || codec.isSame(first, encoded));
    if (deduplicated && !(await isSame()))
      throw conflict('idempotencyKey', idempotencyKey, `${isThere ? '' : ' or for another run'} (event "${name}")`);
    if (resumed.length) look();
    return { id, deduplicated, resumed };
  };
}
