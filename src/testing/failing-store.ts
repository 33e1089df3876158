import { type ErrorCode, StepfastError } from '../errors.js';
import type { Store } from '../store/store.js';
import { check, checkInteger, checkOptions, checkStore } from '../values/check.js';
import { isErrorCode } from './codes.js';

/*
 * A store that fails when it is told to. Everything else it leaves to the store within.
 */

/** What of a store can fail: the calls that go to the medium. */
export type StoreCall = 'open' | 'commit' | 'transact' | 'due' | 'load' | 'list' | 'state';

const CALLS: readonly StoreCall[] = ['open', 'commit', 'transact', 'due', 'load', 'list', 'state'];

/** One thing that goes wrong. */
export interface StoreFault {
  /** Which calls. Default: `commit`. */
  readonly on?: StoreCall | readonly StoreCall[];
  /** The how manieth of these calls from now on, counted from 1. Default 1. */
  readonly at?: number;
  /** `before`: nothing has happened. `after`: it was done, and the answer is lost. Default: `before`. */
  readonly when?: 'before' | 'after';
  /** `once`, or from then on `until-healed`. Default: `once`. */
  readonly lasts?: 'once' | 'until-healed';
  /** What the caller gets: an error, or the code of one. A full disk is `QUOTA_EXCEEDED`. Default: `STORE_UNAVAILABLE`. */
  readonly error?: ErrorCode | Error;
}

/** A store, and the switches of its failures. */
export interface FailingStore extends Store {
  /** Something more that goes wrong, counted from now. */
  fail(fault?: StoreFault): void;
  /** Nothing goes wrong any more; faults that have not come yet are forgotten. */
  heal(): void;
  /** How often it was called so far, by what, or altogether. Failed calls count. */
  calls(call?: StoreCall): number;
}

/** Puts `around` between a store and its callers: it gets the name of the call, what is given, and how to make it. */
export function wrapStore(
  store: Store,
  around: <Answer>(name: StoreCall, given: unknown, call: () => Promise<Answer>) => Promise<Answer>,
): Store {
  const through = <Given, Answer>(name: StoreCall, call: (given: Given) => Promise<Answer>) => {
    return async (given: Given) => around(name, given, () => call(given));
  };
  return {
    name: store.name,
    get capabilities() {
      return store.capabilities;
    },
    open: through('open', (given) => store.open(given)),
    close: () => store.close(),
    commit: through('commit', (given) => store.commit(given)),
    due: through('due', (given) => store.due(given)),
    load: through('load', (given) => store.load(given)),
    list: through('list', (given) => store.list(given)),
    state: through('state', (given) => store.state(given)),
    watch: (listener) => store.watch(listener),
    ...(store.transact && { transact: (work) => around('transact', work, () => store.transact!(work)) }),
    ...(store.abandon && { abandon: () => store.abandon!() }),
  };
}

const errorOf = (error: ErrorCode | Error, name: StoreCall): Error =>
  typeof error === 'string'
    ? new StepfastError(error, `The failing store was told to fail, and did so at \`${name}\`.`)
    : error;

function checkFault(fault: StoreFault): void {
  checkOptions(fault, ['on', 'at', 'when', 'lasts', 'error'], 'The fault of a store');
  const { on = 'commit', at = 1, when = 'before', lasts = 'once', error } = fault;
  for (const name of [on].flat()) check(CALLS.includes(name), 'on', name, `one or several of ${CALLS.join(', ')}`);
  checkInteger(at, 'at', 1);
  check(when === 'before' || when === 'after', 'when', when, '"before" or "after"');
  check(lasts === 'once' || lasts === 'until-healed', 'lasts', lasts, '"once" or "until-healed"');
  const isError = error === undefined || (typeof error === 'string' ? isErrorCode(error) : error instanceof Error);
  check(isError, 'error', error, 'an error, or a code that errors of stepfast have');
}

/**
 * Wraps any store so that chosen calls fail: to see what an app does when its disk is full, or its database is gone.
 *
 * The engine pauses a run whose commit has failed and tries again later, in real time (from one second on).
 *
 * @param faults What goes wrong; `fail` adds more at any time.
 * @throws {StepfastError} `INVALID_OPTION`.
 * @example
 * const store = failingStore(memoryStore());
 * store.fail({ error: 'QUOTA_EXCEEDED', lasts: 'until-healed' });
 * await expect(stepfast.start(order, cart)).rejects.toMatchObject({ code: 'QUOTA_EXCEEDED' });
 * store.heal();
 */
export function failingStore(store: Store, faults: readonly StoreFault[] = []): FailingStore {
  checkStore(store);
  check(Array.isArray(faults), 'faults', faults, 'an array, such as [{ at: 3 }]');
  const counts = new Map<StoreCall, number>();
  let pending: { readonly fault: StoreFault; left: number }[] = [];
  const fail = (fault: StoreFault = {}) => {
    checkFault(fault);
    pending.push({ fault, left: fault.at ?? 1 });
  };

  /** The fault that this call meets, if any. */
  const take = (name: StoreCall): StoreFault | undefined => {
    let met: StoreFault | undefined;
    pending = pending.filter((each) => {
      const { on = 'commit', lasts } = each.fault;
      if (![on].flat().includes(name) || --each.left > 0) return true;
      met ??= each.fault;
      return lasts === 'until-healed';
    });
    return met;
  };

  const failing = wrapStore(store, async (name, _, call) => {
    counts.set(name, (counts.get(name) ?? 0) + 1);
    const fault = take(name);
    if (!fault) return call();
    if (fault.when === 'after') await call();
    throw errorOf(fault.error ?? 'STORE_UNAVAILABLE', name);
  });
  for (const fault of faults) fail(fault);
  return Object.assign(failing, {
    fail,
    heal: () => void (pending = []),
    calls: (call?: StoreCall) => {
      check(call === undefined || CALLS.includes(call), 'call', call, `one of ${CALLS.join(', ')}`);
      const all = [...counts].filter(([name]) => call === undefined || name === call);
      return all.reduce((sum, [, count]) => sum + count, 0);
    },
  });
}
