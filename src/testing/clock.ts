import { StepfastError } from '../errors.js';
import type { Clock } from '../platform.js';
import { check, checkOptions } from '../values/check.js';
import { type Duration, durationMs, instantMs } from '../values/duration.js';

/** Time in the hands of a test. */
export interface SimulatedClock extends Clock {
  /**
   * Moves time forward, firing what becomes due in order, and resolves when the engines on this clock are idle: no function
   * of a step is in flight, and no handler awaits something else between its steps. For what hangs there is `patience`.
   */
  advance(duration: Duration): Promise<void>;
  /** Resolves when the engines on this clock have nothing left to do at this instant, or the patience with them is over. */
  idle(): Promise<void>;
  /**
   * Moves time to the next instant at which something is due, and resolves when the engines are idle. False: nothing is
   * due, however long one waits; what may as well not happen (retention) does not count.
   */
  skip(): Promise<boolean>;
  /**
   * Skips from one due instant to the next until the promise settles: sleeps, retries and timeouts take no time.
   *
   * @returns What the promise resolves with.
   * @throws {StepfastError} `NOTHING_DUE` when the promise is pending and nothing is left to become due.
   * @example const result = await clock.skipUntil(run.result());
   */
  skipUntil<Value>(promise: Promise<Value>): Promise<Value>;
  /** Sets time, forward or back, firing nothing by itself: what a user who changes the system clock does. */
  jump(to: number | Date | string): void;
}

interface Timer {
  readonly at: number;
  /** By how much time has to move for it, whatever is made of the clock: as with real timers. */
  readonly lasts: number;
  readonly callback: () => void;
  readonly isIdle: boolean | undefined;
}

/** So many macrotasks in a row without work, the last of them a timer. */
const QUIET = 3;

/**
 * How long, in real time, work is waited for of which nothing is begun or ended: below the 5 s that test runners give a
 * test, so that what is said of it is read.
 */
export const PATIENCE = '4s';
/** And so many times as long for work that goes on without a pause: a busy machine needs some time, an engine that spins never ends. */
const MOST_PATIENT = 3;

export const durationText = (duration: Duration): string =>
  typeof duration === 'number' ? `${duration} ms` : duration;

/**
 * How long, in real time, `skipUntil` gives what no engine is busy with, at least: a read that was just begun, a store that
 * failed and is tried again after a while.
 */
const STUCK_MS = 5_000;

const nothingDue = () =>
  new StepfastError(
    'NOTHING_DUE',
    'The promise is pending, and nothing is left to become due. Dispatch the event that is waited for; `waitingFor` of the run names it.',
  );

/** How a simulated clock is made. */
export interface ClockOptions {
  /** Instant to begin with, from 1970 on: epoch milliseconds, a Date, or ISO 8601 text. Default: 2026-01-01T00:00:00Z. */
  readonly now?: number | Date | string;
  /**
   * How long, in real time, work is waited for of which nothing is heard: a step in flight, a handler that awaits something
   * else between its steps. Then it counts as hanging: time moves on without it, and a warning says so. Default `'4s'`.
   */
  readonly patience?: Duration;
}

/** The clock of a play, which is asked for more than one that users have. */
export interface StageClock extends SimulatedClock {
  /** Whether the patience with some work is over: nothing was heard of it since. */
  isHanging(): boolean;
  /** `skip`, with no more patience for what hangs already. */
  skipOn(): Promise<boolean>;
  /** Real time for what no engine is busy with. False: nothing has come of it. */
  stirs(ms: number): Promise<boolean>;
}

/** An instant that a clock can show: rows that are due at once, and fences that are not confirmed, have the instant 0. */
function simulated(given: number | Date | string, option: string): number {
  const at = instantMs(given, option);
  check(at >= 0, option, given, 'an instant from 1970 on');
  return at;
}

/** Resolves with the promise, or when that takes too long. */
async function within(ms: number, promise: Promise<unknown>): Promise<void> {
  let timeout: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<void>((resolve) => {
    timeout = setTimeout(resolve, ms);
  });
  await Promise.race([promise, late]);
  clearTimeout(timeout);
}

/**
 * A clock that stands still until it is told to move. I/O stays real.
 *
 * @throws {StepfastError} `INVALID_OPTION`, `INVALID_DURATION`.
 * @example
 * const clock = simulatedClock();
 * const stepfast = createStepfast({ store: memoryStore(), clock });
 * await clock.advance('24h');
 */
export function simulatedClock(options: ClockOptions = {}): SimulatedClock {
  checkOptions(options, ['now', 'patience'], 'The options of simulatedClock');
  const { patience = PATIENCE } = options;
  return stageClock(options, () =>
    console.warn(
      `stepfast: The simulated clock moves on, though work is under way of which nothing was heard for ${durationText(patience)} of real time: a step that hangs, or a handler that awaits something. What is only slow needs simulatedClock({ patience }).`,
    ),
  );
}

/** @param passes Time moves on over work that hangs. Called once for what hangs at the time. */
export function stageClock(options: ClockOptions, passes: () => void): StageClock {
  const { now: from = Date.UTC(2026, 0, 1), patience = PATIENCE } = options;
  const patienceMs = durationMs(patience, 'patience');
  let now = simulated(from, 'now');
  /** How far time was moved in all, jumps left out. */
  let moved = 0;
  /** Holds taken and let go so far, and when the last was: as long as this grows, work goes on, however slow the machine. */
  let moves = 0;
  let stirredAt = 0;
  let order = 0;
  const holds = new Set<object>();
  /** Of these, the ones with which the patience is over. */
  const hanging = new Set<object>();
  const timers = new Map<number, Timer>();
  let waiting = new Set<() => void>();
  let stirred: (() => void) | undefined;

  const wake = () => {
    const resolved = waiting;
    waiting = new Set();
    for (const resolve of resolved) resolve();
  };
  const stir = () => {
    moves++;
    stirredAt = Date.now();
    stirred?.();
  };
  const isBusy = () => holds.size > hanging.size;

  /** Timers cost a millisecond each, and far more on a busy machine; immediates cost nothing, where there are any. */
  const macrotask = (isTimer: boolean) =>
    new Promise<void>((resolve) => {
      if (isTimer || typeof setImmediate !== 'function') setTimeout(resolve, 0);
      else setImmediate(resolve);
    });
  const hang = () => {
    for (const hold of holds) hanging.add(hold);
  };
  /** Waits until nobody holds, also not after the callbacks that are queued now have run; or until the patience is over. */
  const settle = async () => {
    let since: number | undefined;
    for (let quiet = 0; quiet < QUIET; ) {
      if (!isBusy()) {
        since = undefined;
        await macrotask(++quiet === QUIET);
        continue;
      }
      quiet = 0;
      since ??= Date.now();
      const end = Math.min(Math.max(stirredAt, since) + patienceMs, since + MOST_PATIENT * patienceMs);
      if (end > Date.now()) await within(end - Date.now(), new Promise<void>((resolve) => waiting.add(resolve)));
      else return hang();
    }
  };
  const idle = () => {
    hanging.clear();
    return settle();
  };

  let told = new Set<object>();
  const move = (ms: number) => {
    if (ms > 0 && [...hanging].some((hold) => !told.has(hold))) {
      told = new Set(hanging);
      passes();
    }
    now += ms;
    moved += ms;
  };
  /** In how much time a timer fires: once the clock shows its instant, or its time is over though the clock was set back. */
  const waitOf = ({ at, lasts }: Timer) => Math.max(0, Math.min(at - now, lasts - moved));
  /** Fires the earliest of the timers, and what follows from it. False: there is none. */
  const fireNext = async (isMeant: (timer: Timer) => boolean): Promise<boolean> => {
    let next: [number, Timer] | undefined;
    for (const entry of timers) if (isMeant(entry[1]) && (!next || isBefore(entry[1], next[1]))) next = entry;
    if (!next) return false;
    timers.delete(next[0]);
    move(waitOf(next[1]));
    next[1].callback();
    await settle();
    return true;
  };
  const isBefore = (one: Timer, other: Timer) =>
    waitOf(one) < waitOf(other) || (waitOf(one) === waitOf(other) && one.at < other.at);
  const skipOn = async () => {
    await settle();
    if (!(await fireNext((timer) => !timer.isIdle))) return false;
    while (await fireNext((timer) => waitOf(timer) === 0)); // of the same instant
    return true;
  };
  const skip = () => {
    hanging.clear();
    return skipOn();
  };

  return {
    now: () => now,
    setTimer(at, callback, isIdle) {
      const id = ++order;
      timers.set(id, { at, lasts: moved + at - now, callback, isIdle });
      return () => timers.delete(id);
    },
    hold() {
      const hold = {};
      holds.add(hold);
      stir();
      const release = () => {
        if (!holds.delete(hold)) return;
        hanging.delete(hold);
        stir();
        if (!isBusy()) wake();
      };
      return Object.assign(release, { hangs: () => hanging.has(hold) });
    },
    idle,
    skip,
    skipOn,
    isHanging: () => hanging.size > 0,
    async stirs(ms) {
      const before = moves;
      await within(ms, new Promise<void>((resolve) => (stirred = resolve)));
      stirred = undefined;
      return moves !== before;
    },
    async skipUntil(promise) {
      check(typeof promise?.then === 'function', 'The promise', promise, 'a promise, such as run.result()');
      let isOver = false;
      const over = promise.then(
        () => void (isOver = true),
        () => void (isOver = true),
      );
      for (await idle(); !isOver; ) {
        if (await skipOn()) continue;
        await within(Math.max(STUCK_MS, patienceMs), over);
        if (!isOver && !(await skip())) throw nothingDue();
      }
      return promise;
    },
    jump(to) {
      now = simulated(to, 'to');
    },
    async advance(duration) {
      const end = moved + durationMs(duration, 'duration');
      await idle();
      while (await fireNext((timer) => moved + waitOf(timer) <= end));
      move(Math.max(0, end - moved));
      await settle();
    },
  };
}
