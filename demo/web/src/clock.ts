import type { Clock } from 'stepfast';
import { read, write } from './storage.js';

/*
 * A clock that can be put forward, so that nobody has to wait a day to see a timeout. How far is kept in localStorage:
 * all tabs share it, and a reload keeps it.
 */

const KEY = 'clock-offset';
const MAX_TIMEOUT_MS = 2 ** 30;

const offset = () => read<number>(KEY, 0);
const timers = new Set<() => void>();

export const clock: Clock = {
  now: () => Date.now() + offset(),
  setTimer(at, callback) {
    let id: ReturnType<typeof setTimeout>;
    const arm = () => {
      clearTimeout(id);
      id = setTimeout(fire, Math.min(Math.max(at - clock.now(), 0), MAX_TIMEOUT_MS));
    };
    const fire = () => {
      timers.delete(arm);
      callback();
    };
    timers.add(arm);
    arm();
    return () => {
      timers.delete(arm);
      clearTimeout(id);
    };
  },
};

/** The clock was put forward, here or in another tab: what was far away may be due. */
export function rearm(): void {
  for (const arm of [...timers]) arm();
}

export function fastForward(ms: number): void {
  write(KEY, offset() + ms);
  rearm();
}

/** Hours that the clock is ahead of the real one. */
export const hoursAhead = () => Math.round(offset() / 3_600_000);
