import type { CommitOutcome } from '../../src/store/batch.js';
import type { Prepared } from './batch.js';
import type { Waiting } from './decide.js';

/*
 * Batches that come while a group is written are the next group: one write and one sync for all of them.
 */

export interface Group {
  add(prepared: Prepared, foreign?: Pick<Waiting, 'isForeign' | 'request'>): Promise<CommitOutcome>;
  /** Refuses what has not been begun. */
  drop(error: Error): void;
}

/** @param write Called with one group at a time, in a turn of its own. */
export function createGroup(
  alone: (body: () => Promise<void>) => Promise<void>,
  write: (group: readonly Waiting[]) => Promise<void>,
): Group {
  let pending: Waiting[] = [];
  let isFlushQueued = false;
  /** How many commits were written together the last time. */
  let lastGroup = 0;

  const flush = async () => {
    // Those who were answered together go on together, each in a macrotask of its own: wait for all of them.
    if (lastGroup > 1) await new Promise((resolve) => setImmediate(resolve));
    isFlushQueued = false;
    const group = pending;
    lastGroup = group.length;
    pending = [];
    if (group.length) await write(group);
  };

  return {
    add: (prepared, foreign) =>
      new Promise((resolve, reject) => {
        pending.push(Object.assign(prepared, { resolve, reject }, foreign));
        if (isFlushQueued) return;
        isFlushQueued = true;
        alone(flush).catch((error) => {
          isFlushQueued = false;
          for (const item of pending.splice(0)) item.reject(error);
          reject(error);
        });
      }),
    drop(error) {
      for (const item of pending.splice(0)) item.reject(error);
    },
  };
}
