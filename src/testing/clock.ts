import { StepfastError } from '../errors.js';
import type { Clock } from '../platform.js';
import { checkOptions } from '../values/check.js';
import { type Duration, durationMs, instantMs } from '../values/duration.js';

/** Time in the hands of a test. */
export interface SimulatedClock extends Clock {
  /** Moves time forward, firing what becomes due in order, and resolves when the engines on this clock are idle. */
  advance(duration: Duration): Promise<void>;
  /** Resolves when the engines on this clock have nothing left to do at this instant. */
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

/** How long, in real time, `advance` is patient with work of which nothing is begun or ended (a function that hangs). */
const PATIENCE_MS = 2_000;
/** And with work that goes on without a pause: a busy machine needs some time, an engine that spins never ends. */
const MOST_PATIENT = 3;

/**
 * How long, in real time, `skipUntil` gives what no engine is busy with: a read that was just begun, a store that failed
 * and is tried again after a while.
 */
const STUCK_MS = 5_000;

const nothingDue = () =>
  new StepfastError(
    'NOTHING_DUE',
    'The promise is pending, and nothing is left to become due. Dispatch the event that is waited for; `waitingFor` of the run names it.',
  );

/** Resolves with the promise, or when that takes too long. */
async function within(ms: number, promise: Promise<void>): Promise<void> {
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
 * @param options.now Instant to begin with: epoch milliseconds, a Date, or ISO 8601 text. Default: 2026-01-01T00:00:00Z.
 * @example
 * const clock = simulatedClock();
 * const stepfast = createStepfast({ store: memoryStore(), clock });
 * await clock.advance('24h');
 */
export function simulatedClock(options: { readonly now?: number | Date | string } = {}): SimulatedClock {
  checkOptions(options, ['now'], 'The options of simulatedClock');
  const { now: from = Date.UTC(2026, 0, 1) } = options;
  let now = instantMs(from, 'now');
  /** How far time was moved in all, jumps left out. */
  let moved = 0;
  let holds = 0;
  /** Holds taken and let go so far: as long as this grows, work goes on, however slow the machine. */
  let moves = 0;
  let order = 0;
  const timers = new Map<number, Timer>();
  const waiting = new Set<() => void>();

  /** Timers cost a millisecond each, and far more on a busy machine; immediates cost nothing, where there are any. */
  const macrotask = (isTimer: boolean) =>
    new Promise<void>((resolve) => {
      if (isTimer || typeof setImmediate !== 'function') setTimeout(resolve, 0);
      else setImmediate(resolve);
    });
  const idle = async () => {
    // Idle means: nobody holds, also not after the callbacks that are queued now have run.
    for (let quiet = 0, patient = 0; quiet < QUIET; ) {
      if (holds === 0) {
        patient = 0;
        await macrotask(++quiet === QUIET);
        continue;
      }
      quiet = 0;
      let timeout: ReturnType<typeof setTimeout> | undefined;
      const before = moves;
      const isOver = await new Promise<boolean>((resolve) => {
        const done = () => resolve(false);
        waiting.add(done);
        timeout = setTimeout(() => {
          waiting.delete(done);
          resolve(moves === before || ++patient >= MOST_PATIENT);
        }, PATIENCE_MS);
      });
      clearTimeout(timeout);
      if (isOver) return;
    }
  };

  const move = (ms: number) => {
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
    await idle();
    return true;
  };
  const isBefore = (one: Timer, other: Timer) =>
    waitOf(one) < waitOf(other) || (waitOf(one) === waitOf(other) && one.at < other.at);
  const skip = async () => {
    await idle();
    if (!(await fireNext((timer) => !timer.isIdle))) return false;
    while (await fireNext((timer) => waitOf(timer) === 0)); // of the same instant
    return true;
  };

  return {
    now: () => now,
    setTimer(at, callback, isIdle) {
      const id = ++order;
      timers.set(id, { at, lasts: moved + at - now, callback, isIdle });
      return () => timers.delete(id);
    },
    hold() {
      holds++;
      moves++;
      let isHeld = true;
      return () => {
        if (!isHeld) return;
        isHeld = false;
        moves++;
        if (--holds > 0) return;
        for (const resolve of waiting) resolve();
        waiting.clear();
      };
    },
    idle,
    skip,
    async skipUntil(promise) {
      let isOver = false;
      const over = promise.then(
        () => void (isOver = true),
        () => void (isOver = true),
      );
      for (await idle(); !isOver; ) {
        if (await skip()) continue;
        await within(STUCK_MS, over);
        if (!isOver && !(await skip())) throw nothingDue();
      }
      return promise;
    },
    jump(to) {
      now = instantMs(to, 'to');
    },
    async advance(duration) {
      const end = moved + durationMs(duration, 'duration');
      await idle();
      while (await fireNext((timer) => moved + waitOf(timer) <= end));
      move(Math.max(0, end - moved));
      await idle();
    },
  };
}
