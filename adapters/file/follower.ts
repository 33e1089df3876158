import type { Disk } from './disk.js';
import { readOn, readSegment, retire, type Segment, segmentsIn } from './segments.js';

/*
 * Reading a log that another process writes: before each answer the new bytes are read, and when the owner has gone
 * over to a new segment, or cut off a refused group, everything is read again. Unfinished bytes at the end are left
 * alone, they may be a write under way.
 */

export interface Follower {
  /** `undefined`: nobody has ever written here. */
  segment(): Promise<Segment | undefined>;
  close(): Promise<void>;
}

/** An owner that switches segments faster than they can be opened would be a fault elsewhere. */
const TRIES = 100;

export function createFollower(disk: Disk, dir: string): Follower {
  let segment: Segment | undefined;
  const close = async () => {
    const old = segment;
    segment = undefined;
    if (old) await retire(disk, old);
  };
  return {
    async segment() {
      for (let tries = 0; tries < TRIES; tries++) {
        const highest = segmentsIn(dir).at(-1);
        if (highest === undefined) return undefined;
        if (segment?.image.segment === highest) {
          if ((await readOn(disk, segment)) !== 'rewritten') return segment;
        }
        await close();
        segment = await readSegment(disk, dir, highest, 'follow');
        // Cut back between two looks: what was read may mix two states, so it is read once more.
        if (segment && segment.end !== 'rewritten') return segment;
      }
      await close();
      return undefined;
    },
    close,
  };
}
