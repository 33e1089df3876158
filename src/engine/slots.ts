import type { Lanes } from '../door/queue.js';
import type { Driver } from '../run/driver.js';
import type { RunRow } from '../store/rows.js';

/**
 * Which queues have room, as far as one look knows: by the slots that are in use here. A queue whose slots other contexts
 * hold counts as full for a while.
 */
export function slotsOf(lanes: Lanes, drivers: Iterable<Driver>) {
  const used = new Map<string, number>();
  for (const driver of drivers) {
    const { queue } = driver.row();
    if (driver.isActive()) used.set(queue, (used.get(queue) ?? 0) + 1);
  }
  for (const queue of lanes.full().keys()) {
    const taken = lanes.stirred.has(queue) ? lanes.concurrency(queue) - 1 : Infinity;
    used.set(queue, Math.max(used.get(queue) ?? 0, taken));
  }
  const isFull = (queue: string) => (used.get(queue) ?? 0) >= lanes.concurrency(queue);
  const full = [...used.keys()].filter(isFull);
  return {
    /** Full before anything was found. */
    full,
    /** Whether the run has a slot, or gets one. */
    take({ queue, slot }: RunRow): boolean {
      if (slot !== undefined) return true;
      if (isFull(queue)) return false;
      used.set(queue, (used.get(queue) ?? 0) + 1);
      return true;
    },
    isAnyFull: () => [...used.keys()].some(isFull),
    /** Whether there may be runs of a queue with room behind a page: also where all of it was of one that this look has filled. */
    mayHaveRoom: () => [...used.keys()].some((queue) => !isFull(queue) || !full.includes(queue)),
  };
}
