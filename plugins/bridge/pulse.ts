import type { Clock } from '../../src/platform.js';

/*
 * Whether somebody is still there, for ports that do not say when they end. Nothing is asked while nothing depends on it.
 */

export interface Pulse {
  /** Something begins to depend on the other side, or may have: asks from now on, until nothing does. */
  need(): void;
  /** A message came: somebody is there. */
  heard(): void;
  stop(): void;
}

interface PulseOptions {
  readonly clock: Clock;
  readonly everyMs: number;
  isNeeded(): boolean;
  ask(): void;
  /** Nothing was heard for a whole interval, nor for another one after it was asked for. */
  lost(): void;
}

export function createPulse({ clock, everyMs, isNeeded, ask, lost }: PulseOptions): Pulse {
  let undo: (() => void) | undefined;
  let isSilent = true;
  let isAsked = false;
  const set = () => {
    const at = clock.now() + everyMs;
    undo = clock.setTimer(at, () => tick(clock.now() - at), true);
  };
  const tick = (late: number) => {
    undo = undefined;
    if (!isNeeded()) return;
    // A context that was frozen, or a machine that slept, has heard nothing for want of hearing: it asks anew.
    if (late > everyMs || !isSilent) isAsked = false;
    else if (isAsked) return lost();
    if (isSilent) {
      isAsked = true;
      ask();
    }
    isSilent = true;
    set();
  };
  return {
    need() {
      if (undo || !Number.isFinite(everyMs) || !isNeeded()) return;
      isSilent = true;
      isAsked = false;
      set();
    },
    heard() {
      isSilent = false;
    },
    stop() {
      undo?.();
      undo = undefined;
    },
  };
}
