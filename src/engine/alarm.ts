import type { Clock } from '../platform.js';

/*
 * The one timer of an engine. What is due is always asked of the store; this only says when to ask again (spec Q4).
 */

export type Alarm = ReturnType<typeof createAlarm>;

/** @param rings Called when the earliest instant that was asked for has come. */
export function createAlarm(clock: Clock, rings: () => void) {
  let setFor = Infinity;
  /** The earliest instant that was asked for since the last look began. */
  let wanted = Infinity;
  let isClosed = false;
  let unset: (() => void) | undefined;

  const ring = (at: number): void => {
    wanted = Math.min(wanted, at);
    // Due, and not called: the clock was set forward since, and the timer counts on as before.
    const isLate = setFor <= clock.now();
    if (isClosed || !(at < setFor || isLate)) return;
    unset?.();
    setFor = Math.min(at, setFor);
    unset = clock.setTimer(setFor, () => {
      setFor = Infinity;
      unset = undefined;
      rings();
    });
  };

  return {
    /** Rings at this instant, or before. */
    ring,
    lookBegins(): void {
      wanted = Infinity;
    },
    /**
     * What a look has found, and what was asked for since it began, is all there is to wait for. Set anew also where the
     * instant stays: how long that is depends on what the clock says by now.
     */
    lookEnds(found: number): void {
      unset?.();
      unset = undefined;
      setFor = Infinity;
      ring(Math.min(found, wanted));
    },
    close(): void {
      isClosed = true;
      unset?.();
    },
  };
}
