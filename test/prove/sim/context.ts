import type { Stepfast } from '../../../src/engine/engine.js';
import type { Platform } from '../../../src/platform.js';
import { systemPlatform } from '../../../src/system.js';
import type { Random } from './random.js';
import { type Life, PATIENCE, type Scheduler } from './scheduler.js';

/*
 * One context: a tab or a process, with a clock of its own and a platform whose every callback is a task of the
 * scheduler.
 */

export interface Context extends Life {
  readonly clock: OwnClock;
  /** Of the job that it has. */
  readonly version: number;
  readonly platform: Platform;
  engine: Stepfast;
  /** The engine's own name for itself, once its store is open. */
  owner: string | undefined;
  isOnline: boolean;
  /** It was closed in good order, or is about to be. */
  isClosing: boolean;
  /** The others take it for dead; it may not be. */
  isPresumedDead: boolean;
  /** It was frozen, and has gone on. */
  wasFrozen: boolean;
  /** Calls the listeners of `onWake`. */
  wake(): void;
}

/** A clock that may run at another rate than true time, and be set. */
export interface OwnClock {
  now(): number;
  /** Moves it by so many milliseconds. */
  jump(ms: number): void;
  /** True time from here on. */
  correct(): void;
  /** When, in true time, it was set last. */
  setAt(): number;
  /** The latest instant it has ever shown, and the earliest. */
  latest(): number;
  earliest(): number;
  rate(): number;
}

export function ownClock(trueNow: () => number, skew: { readonly rate: number; readonly offset: number }): OwnClock {
  let { rate } = skew;
  let since = trueNow();
  let base = since + skew.offset;
  let setAt = -Infinity;
  let latest = 0;
  let earliest = Infinity;
  const now = () => {
    const shown = Math.floor(base + (trueNow() - since) * rate);
    latest = Math.max(latest, shown);
    earliest = Math.min(earliest, shown);
    return shown;
  };
  return {
    now,
    jump(ms) {
      base = now() + ms;
      since = setAt = trueNow();
    },
    correct() {
      base = since = setAt = trueNow();
      rate = 1;
    },
    setAt: () => setAt,
    latest: () => latest,
    earliest: () => earliest,
    rate: () => rate,
  };
}

const standard = systemPlatform();
/** How often an engine may ask for the time in one turn. */
const MAX_CALLS = 20_000;

/** What the platform gives an engine in here. */
export function platformOf(
  life: Life,
  {
    scheduler,
    random,
    clock,
    report,
    wrong,
    isOnline,
    wakes,
  }: {
    readonly scheduler: Scheduler;
    readonly random: Random;
    readonly clock: OwnClock;
    readonly report: (error: unknown) => void;
    readonly wrong: (what: string) => void;
    readonly isOnline: () => boolean;
    readonly wakes: Set<() => void>;
  },
): Platform {
  let ids = 0;
  let isSync = false;
  let choice = 0;
  let calls = 0;
  /** A loop without a macrotask would never come back: it asks for the time, though, and is told where it ends. */
  const now = () => {
    if (scheduler.choices() !== choice) calls = 0;
    choice = scheduler.choices();
    if (++calls <= MAX_CALLS) return clock.now();
    wrong(`Q4: ${life.name} spins`);
    throw new Error('The engine spins.');
  };
  const within = <T>(value: boolean, fn: () => T): T => {
    const before = isSync;
    isSync = value;
    try {
      return fn();
    } finally {
      isSync = before;
    }
  };
  return {
    ...standard,
    clock: {
      now,
      // As in a real one: how long is worked out once, and then time itself counts, whatever the clock is set to.
      setTimer: (at, callback) => scheduler.after(life, (at - clock.now()) / clock.rate(), 'timer', callback),
    },
    hop: (callback) => scheduler.soon(life, 'hop', callback),
    patience(ms, callback) {
      let undo: () => void = () => undefined;
      const wait = (waitMs: number) => {
        undo = scheduler.after(life, waitMs, PATIENCE, () => (scheduler.isBusy(life) ? wait(1) : callback()));
      };
      wait(ms);
      return () => undo();
    },
    newId: () => `${life.name}-${++ids}`,
    newUuid: () => `${life.name}-uuid-${++ids}`,
    inStep: (fn) => within(true, fn),
    leaveStep: () => undefined,
    outOfStep: (fn) => within(false, fn),
    isInStep: () => isSync,
    isOnline,
    random: random.next,
    onWake(callback) {
      wakes.add(callback);
      return () => wakes.delete(callback);
    },
    warn: () => undefined,
    report,
  };
}
