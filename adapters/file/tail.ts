/*
 * The latest bytes of the log that this process has written and synced, in memory: a run is mostly read while it is
 * young (its claim, its result), and a read by the thread pool costs more than all the rest of a commit.
 */

/**
 * About what is written between two compactions. Measured: 1,000 runs of 5 steps go from 350 to 580 runs/s, since reads
 * that come back one by one also tear groups of commits apart.
 */
const CAPACITY = 4 << 20;
/** Grown as it is needed: memory that was never written to costs nothing itself, but the collector counts it. */
const FIRST = 64 << 10;

export interface Tail {
  /** Takes over bytes that are on disk at this position, which is where the bytes before ended. */
  add(bytes: Buffer, position: number): void;
  /** These bytes, if all of them are here. Valid until the next `add`: use them at once. */
  at(position: number, length: number): Buffer | undefined;
}

export function createTail(): Tail {
  let bytes: Buffer | undefined;
  let start = 0;
  let length = 0;
  /** Room for so many, up to the capacity. */
  const grown = (needed: number): Buffer => {
    if (bytes && bytes.length >= Math.min(needed, CAPACITY)) return bytes;
    let size = bytes?.length ?? FIRST;
    while (size < needed && size < CAPACITY) size *= 2;
    const larger = Buffer.allocUnsafeSlow(size);
    bytes?.copy(larger, 0, 0, length);
    return larger;
  };
  return {
    add(added, position) {
      const room = CAPACITY - added.length;
      if (room < 0 || position !== start + length) {
        start = position;
        length = 0;
      }
      if (room < 0) return;
      bytes = grown(length + added.length);
      if (length > room) {
        // At least half goes at once, so that bytes are moved rarely.
        const kept = Math.min(room, CAPACITY >> 1);
        bytes.copyWithin(0, length - kept, length);
        start += length - kept;
        length = kept;
      }
      length += added.copy(bytes, length);
    },
    at(position, count) {
      const from = position - start;
      return from < 0 || from + count > length ? undefined : bytes?.subarray(from, from + count);
    },
  };
}
