import type { Clock } from '../platform.js';
import { type Duration, durationMs } from '../values/duration.js';

/** Time in the hands of a test. */
export interface SimulatedClock extends Clock {
  /** Moves time forward, firing what becomes due in order, and resolves when the engines on this clock are idle. */
  advance(duration: Duration): Promise<void>;
  /** Resolves when the engines on this clock have nothing left to do at this instant. */
  idle(): Promise<void>;
  /** Sets time, forward or back, firing nothing by itself: what a user who changes the system clock does. */
  jump(to: number): void;
}

/** How long, in real time, `advance` is patient with work that does not end by itself (a function that hangs). */
const PATIENCE_MS = 2_000;

/**
 * A clock that stands still until it is told to move. I/O stays real.
 *
 * @param options.now Epoch milliseconds to begin with. Default: 2026-01-01T00:00:00Z.
 * @example
 * const clock = simulatedClock();
 * const stepfast = createStepfast({ store: memoryStore(), clock });
 * await clock.advance('24h');
 */
export function simulatedClock(options: { readonly now?: number } = {}): SimulatedClock {
  let now = options.now ?? Date.UTC(2026, 0, 1);
  let holds = 0;
  let order = 0;
  const timers = new Map<number, { readonly at: number; readonly callback: () => void }>();
  const waiting = new Set<() => void>();

  const macrotask = () => new Promise<void>((resolve) => setTimeout(resolve, 0));
  const idle = async () => {
    // Idle means: nobody holds, also not after the callbacks that are queued now have run.
    for (let quiet = 0; quiet < 3; ) {
      if (holds === 0) {
        quiet++;
        await macrotask();
        continue;
      }
      quiet = 0;
      let timeout: ReturnType<typeof setTimeout> | undefined;
      const isOver = await new Promise<boolean>((resolve) => {
        const done = () => resolve(false);
        waiting.add(done);
        timeout = setTimeout(() => {
          waiting.delete(done);
          resolve(true);
        }, PATIENCE_MS);
      });
      clearTimeout(timeout);
      if (isOver) return;
    }
  };

  return {
    now: () => now,
    setTimer(at, callback) {
      const id = ++order;
      timers.set(id, { at, callback });
      return () => timers.delete(id);
    },
    hold() {
      holds++;
      let isHeld = true;
      return () => {
        if (!isHeld) return;
        isHeld = false;
        if (--holds > 0) return;
        for (const resolve of waiting) resolve();
        waiting.clear();
      };
    },
    idle,
    jump(to) {
      now = to;
    },
    async advance(duration) {
      const end = now + durationMs(duration, 'duration');
      await idle();
      for (;;) {
        let next: [number, { readonly at: number; readonly callback: () => void }] | undefined;
        for (const entry of timers) if (entry[1].at <= end && (!next || entry[1].at < next[1].at)) next = entry;
        if (!next) break;
        timers.delete(next[0]);
        now = Math.max(now, next[1].at);
        next[1].callback();
        await idle();
      }
      now = Math.max(now, end);
      await idle();
    },
  };
}
