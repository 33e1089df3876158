import { StepfastError } from '../errors.js';
import type { Platform } from '../platform.js';
import type { CommitOutcome, StateChange, StateOutcome } from '../store/batch.js';
import type { StateRow } from '../store/rows.js';
import { check, checkOptions, checkOwn, checkText, quoted } from '../values/check.js';
import type { Codec } from '../values/codec.js';
import { type Duration, durationMs, instantMs, positiveMs } from '../values/duration.js';

/*
 * Values that all runs of a store share (spec D8). The same words serve the engine, a handler and a step function;
 * they differ in where they read, and in which commit their writes go.
 */

/** When a value is forgotten; one of the two. Default: never. */
export interface Expiry {
  /** From now on, e.g. `'1h'`. */
  readonly ttl?: Duration;
  /** A `Date`, epoch milliseconds, or ISO 8601 with offset. */
  readonly expiresAt?: Date | number | string;
}

/** A lock that was taken. */
export interface Lock {
  /** Greater than that of any holder before: hand it to what the lock guards, so that it can refuse a late holder. */
  readonly token: number;
  /** Gives the lock back before its time; nothing when it is over already. */
  release(): Promise<void>;
}

/** Values that all runs of a store share, under keys of 1 to 256 characters that do not start with `stepfast:`. */
export interface State {
  /** The value, or `undefined` when there is none or it has expired. */
  get<Value = unknown>(key: string): Promise<Value | undefined>;
  /** Puts a value in the place of any before; its expiry too is new. */
  set(key: string, value: unknown, options?: Expiry): Promise<void>;
  delete(key: string): Promise<void>;
  /**
   * Adds to a number, as one atomic change, and returns the sum. Where there is none it counts from 0.
   *
   * @param by Any finite number. Default 1.
   * @param options A new expiry. Default: the value keeps the one it has.
   * @throws {StepfastError} `NOT_A_NUMBER` when the present value is something else.
   */
  increment(key: string, by?: number, options?: Expiry): Promise<number>;
  /**
   * Takes the lock of this name, or gives `undefined` when somebody holds it. Locks have names of their own: one may be
   * named like the value it guards.
   *
   * @param options.ttl After this long it is free again, whatever became of its holder.
   * @example const lock = await state.lock('mailbox', { ttl: '1m' });
   */
  lock(key: string, options: { readonly ttl: Duration }): Promise<Lock | undefined>;
}

/** Where shared state is read and written. */
export interface StateHost {
  /** The row as it is stored; it may have expired. */
  read(key: string): Promise<StateRow | undefined>;
  /** One commit; rejects when a change is refused. */
  commit(changes: readonly StateChange[]): Promise<readonly StateOutcome[]>;
  /** How often all was lost: tokens of locks begin anew. */
  losses(): number;
}

interface StateOptions extends StateHost {
  readonly codec: Codec;
  readonly platform: Platform;
  /** Called before anything else at each use; throws what refuses it. */
  check?(word: keyof State, key: string): void;
  /** Who takes locks: the same holder may take one again that an attempt before has left. Default: a new one for each call. */
  readonly holder?: string;
}

/** A lock that this very object has given out: to one caller at a time, whoever the store takes them for. */
interface Held {
  turn: Promise<unknown>;
  token?: number;
  until: number;
}

/** Locks live beside the values, under keys that no user can give. */
const lockKey = (key: string) => `stepfast:lock:${key}`;

export function createState({ codec, platform, read, commit, losses, check: refuse, holder }: StateOptions): State {
  const { clock } = platform;
  const held = new Map<string, Held>();
  const checked = (word: keyof State, key: string) => {
    checkText(key, 'The key', 'INVALID_KEY');
    checkOwn(key, 'The key');
    refuse?.(word, key);
  };
  const expiry = (options: Expiry = {}): { readonly expiresAt?: number } => {
    checkOptions(options, ['ttl', 'expiresAt'], 'The options');
    const { ttl, expiresAt } = options;
    check(ttl === undefined || expiresAt === undefined, 'ttl beside expiresAt', ttl, 'one of ttl and expiresAt');
    if (ttl !== undefined) return { expiresAt: clock.now() + durationMs(ttl, 'ttl') };
    return expiresAt === undefined ? {} : { expiresAt: instantMs(expiresAt, 'expiresAt') };
  };
  const lockOf = (key: string, token: number | undefined, released?: (token: number) => void): Lock | undefined => {
    if (token === undefined) return undefined;
    const before = losses();
    const release = async () => {
      if (losses() === before) await commit([{ kind: 'unlock', key, token }]);
      released?.(token);
    };
    return { token, release };
  };
  return {
    async get<Value>(key: string) {
      checked('get', key);
      const row = await read(key);
      return row && (row.expiresAt ?? Infinity) > clock.now() ? (codec.decode(row.value) as Value) : undefined;
    },
    async set(key, value, options) {
      checked('set', key);
      await commit([
        { kind: 'set', key, value: codec.encode(value, `the value of ${quoted(key)}`), ...expiry(options) },
      ]);
    },
    async delete(key) {
      checked('delete', key);
      await commit([{ kind: 'delete', key }]);
    },
    async increment(key, by = 1, options) {
      checked('increment', key);
      check(Number.isFinite(by), 'by', by, 'a finite number');
      const [outcome] = await commit([{ kind: 'increment', key, by, ...expiry(options) }]);
      return outcome!.value!;
    },
    async lock(key, options) {
      checked('lock', key);
      checkOptions(options, ['ttl'], 'The options of lock');
      const expiresAt = clock.now() + positiveMs(options?.ttl, 'ttl');
      const of = { key: lockKey(key), holder: holder ?? platform.newId(), expiresAt };
      const take = async () => (await commit([{ kind: 'lock', ...of }]))[0]!.token;
      if (holder === undefined) return lockOf(of.key, await take());
      const own = held.get(key) ?? { turn: Promise.resolve(), until: 0 };
      held.set(key, own);
      const taking = own.turn.then(async () => {
        const token = own.until > clock.now() ? undefined : await take();
        return token === undefined ? undefined : Object.assign(own, { token, until: expiresAt }).token;
      });
      own.turn = taking.catch(() => undefined);
      return lockOf(of.key, await taking, (token) => {
        if (own.token === token) own.until = 0;
      });
    },
  };
}

/** What the user is told when a commit is refused for a change of state. */
export const stateRefusal = (
  { code, index }: Extract<CommitOutcome, { readonly kind: 'refused' }>,
  changes: readonly StateChange[],
): StepfastError => {
  const key = quoted(changes[index]?.key);
  const said =
    code === 'NOT_A_NUMBER'
      ? `The shared value ${key} is not a number. Set it to one before it is incremented.`
      : `The shared value ${key} was changed by somebody else. Read it again and decide anew.`;
  return new StepfastError(code, `${said} Nothing was stored.`);
};
