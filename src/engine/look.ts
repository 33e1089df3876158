import type { Platform } from '../platform.js';

interface LookOptions {
  readonly platform: Pick<Platform, 'clock' | 'hop'>;
  readonly once: () => Promise<void>;
  readonly failed: (error: unknown) => void;
  /** After a look that is not followed by another one. */
  readonly rested: () => void;
}

/** Looks for due work, one look at a time; what asks for one meanwhile gets one more. */
export function createLook({ platform, once, failed, rested }: LookOptions) {
  let isLooking = false;
  let looksAgain = false;
  let isClosed = false;
  /** While a look is under way. */
  let letGo: (() => void) | undefined;

  const begin = async () => {
    // What is asked for together (by runs that end in one group of commits) is given by one look.
    await new Promise<void>((resolve) => platform.hop(resolve));
    looksAgain = false;
    if (!isClosed) await once();
  };
  const look = (): void => {
    if (isClosed) return;
    if (isLooking) {
      looksAgain = true;
      return;
    }
    isLooking = true;
    const release = platform.clock.hold?.();
    letGo = release;
    begin()
      .catch(failed)
      .finally(() => {
        isLooking = false;
        if (looksAgain) look();
        else rested();
        release?.();
      });
  };

  return {
    look,
    isLooking: () => isLooking,
    /** One more behind the look that is under way. */
    again: () => void (looksAgain = true),
    close() {
      isClosed = true;
      letGo?.();
    },
  };
}
