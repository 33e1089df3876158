import type { Owner } from './owner.js';

/*
 * Work that can wait: deleted runs leave the archive, a log that has grown is compacted. In the background, one thing at
 * a time.
 *
 * Y1. A new segment is written in the store's turn, and commits wait for it: so it is begun when the store has been quiet
 *     for a while, never beside the first commits after a start; or, for a log that has grown far beyond that, at once.
 * Y2. No timer of it keeps a process alive: what is not done now is done by the next owner. A log that has grown far beyond
 *     what is worth it is compacted before the store closes, if that takes but a moment: owners may all be short-lived.
 */

/** How long a store that is closed goes on with what it can not leave to the next owner again and again. */
const FINISH_MS = 5_000;

export interface TidyOptions {
  /** Who drives the folder here, as long as the store is served. */
  readonly owner: () => Owner | undefined;
  readonly isClosed: () => boolean;
  /** The store's turn. */
  readonly alone: <T>(body: () => Promise<T>) => Promise<T>;
  readonly quietMs: number;
  readonly failed: (error: unknown, doing: string) => void;
}

export type Tidy = ReturnType<typeof createTidy>;

export function createTidy({ owner, isClosed, alone, quietMs, failed }: TidyOptions) {
  let underWay: Promise<void> | undefined;
  let busyUntil = 0;
  let timer: NodeJS.Timeout | undefined;

  /** Looks again when it will have been quiet for long enough. */
  const later = () => {
    timer ??= setTimeout(() => {
      timer = undefined;
      look();
    }, quietMs);
    timer.unref();
  };
  /** Whether to compact now; if it is better done in a quiet moment, that is waited for. */
  const isTime = (at: Owner) => {
    if (at.isLarge(performance.now() < busyUntil)) return true;
    if (at.isLarge(false)) later();
    return false;
  };

  const work = async (at: Owner) => {
    const isWanted = () => !isClosed() && owner() === at;
    await at.sweep(isWanted);
    if (!isWanted() || !isTime(at)) return;
    try {
      await at.compact(alone, isWanted);
    } catch (error) {
      if (isClosed()) return;
      failed(error, 'compacting');
      await alone(() => at.close()).catch((failure) => failed(failure, 'using')); // read again before the next write: damage is then found and put aside
    }
  };

  const look = (): void => {
    const at = owner();
    if (underWay || !at) return;
    if (!at.hasRemovals() && !isTime(at)) return;
    underWay = work(at)
      .catch((error) => {
        if (!isClosed()) failed(error, 'tidying');
      })
      .finally(() => {
        underWay = undefined;
        if (!isClosed() && owner() === at && at.hasRemovals()) look(); // deleted meanwhile
      });
  };

  return {
    /** The store was opened, or has committed something. */
    stirred(): void {
      busyUntil = performance.now() + quietMs;
      look();
    },
    isUnderWay: () => underWay !== undefined,
    /** Before the store closes: where no owner lives long enough to come to it, a log would grow for ever. */
    finish(): Promise<void> | undefined {
      if (!owner()?.isLarge(true)) return undefined;
      look();
      let late: NodeJS.Timeout | undefined;
      const patience = new Promise<void>((resolve) => {
        late = setTimeout(resolve, FINISH_MS);
      });
      return Promise.race([underWay, patience]).finally(() => clearTimeout(late));
    },
    /** Resolves when nothing is under way; `isClosed` keeps more from being begun. */
    async over(): Promise<void> {
      clearTimeout(timer);
      await underWay;
    },
  };
}
