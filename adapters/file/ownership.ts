import { join } from 'node:path';
import type { Archive } from './archive.js';
import type { Disk } from './disk.js';
import { claimFormat } from './format.js';
import { type Acquired, acquire, type Lock } from './lock.js';
import { createOwner, type Owner, type OwnerOptions } from './owner.js';

/*
 * Taking a folder, and giving it back. Where that fails half-way, the lock is given back all the same, or remembered: while this
 * process lives, nobody else would ever get it.
 */

export interface OwnershipOptions extends Pick<OwnerOptions, 'isStrict' | 'compactAt' | 'isEager' | 'now'> {
  readonly disk: Disk;
  readonly dir: () => string;
  /** What this code writes. */
  readonly format: () => number;
  readonly archive: () => Archive;
  /** The folder is owned from here on. */
  readonly owned: () => Promise<void>;
  readonly tell: (error: unknown) => void;
}

export interface Ownership {
  owner(): Owner | undefined;
  /** Takes the lock if it is free. */
  take(state?: 'held' | 'passing'): Promise<Acquired>;
  /** Reads the folder and owns it. Where that fails, the lock is given back. */
  own(taken: Lock): Promise<Owner>;
  disown(): Promise<void>;
  /** As `disown`, once and for all: a lock that can not be given back is marked as given back. */
  end(): Promise<void>;
  /** Marks the lock at once, without waiting for the disk. The returned function goes on when all that was under way is over. */
  abandon(state: 'leaving' | 'released'): () => Promise<void>;
}

export function createOwnership(options: OwnershipOptions): Ownership {
  const { disk, dir, format, archive, owned, tell, ...rest } = options;
  let lock: Lock | undefined;
  let owner: Owner | undefined;
  /** A lock that could not be given back. */
  let unreleased: Lock | undefined;

  const giveBack = async (held: Lock) => {
    unreleased = held;
    await held.release();
    unreleased = undefined;
  };

  const disown = async () => {
    const was = owner;
    const held = lock;
    owner = undefined;
    lock = undefined;
    try {
      await was?.close();
    } finally {
      if (held) await giveBack(held);
    }
  };

  return {
    owner: () => owner,
    async take(state = 'held') {
      if (unreleased) await giveBack(unreleased);
      return acquire(disk, join(dir(), 'lock'), { state });
    },
    async own(taken) {
      await claimFormat(disk, dir(), format()).catch(async (error) => {
        await taken.release().catch(tell);
        throw error;
      });
      const made = createOwner({ ...rest, disk, dir: dir(), lock: taken, archive: archive(), onError: tell });
      try {
        await made.segment();
      } catch (error) {
        await made.close().catch(tell);
        await giveBack(taken).catch(tell);
        throw error;
      }
      lock = taken;
      owner = made;
      await owned().catch(tell); // it is owned all the same
      return made;
    },
    disown,
    async end() {
      try {
        await disown();
        if (unreleased) await giveBack(unreleased);
      } catch (error) {
        unreleased?.drop('released'); // the last that can be done
        throw error;
      }
    },
    abandon(state) {
      const held = lock;
      held?.drop(state);
      return async () => {
        await owner?.close();
        (lock ?? held)?.drop('released'); // an open under way may have taken it since
      };
    },
  };
}
