/*
 * Which runs of one context may have functions in flight together: all of them, but for a suspect (spec F5), which has its
 * context to itself. Should that die, nobody else is blamed for it, and nobody else is for the suspect.
 */

/** Gives turns: a suspect waits until nothing else is in flight, and while one waits or is at work, others wait for it. */
export function createTurns() {
  const waiting: (() => void)[] = [];
  let inFlight = 0;
  let isSolo = false;
  let suspects = 0;
  return {
    /** @returns Gives the turn back. */
    async take(isSuspect: boolean): Promise<() => void> {
      if (isSuspect) suspects++;
      while (isSolo || (isSuspect ? inFlight > 0 : suspects > 0))
        await new Promise<void>((resolve) => waiting.push(resolve));
      isSolo = isSuspect;
      inFlight++;
      return () => {
        inFlight--;
        if (isSuspect) {
          isSolo = false;
          suspects--;
        }
        for (const resolve of waiting.splice(0)) resolve();
      };
    },
  };
}
