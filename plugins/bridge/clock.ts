import type { Clock } from '../../src/platform.js';

/** The platform's time, for what is only a matter of patience. In Node its timers keep no process alive. */
export const systemClock: Clock = {
  now: () => Date.now(),
  setTimer(at, callback) {
    const id: unknown = setTimeout(callback, Math.max(at - Date.now(), 0));
    if (typeof id === 'object') (id as { unref?(): void } | null)?.unref?.();
    return () => clearTimeout(id as never);
  },
};
