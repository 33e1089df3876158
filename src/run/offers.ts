import type { EventRow } from '../store/rows.js';
import { pairKey } from '../store/transition/scope.js';
import { LazyMap } from '../values/lazy-map.js';

/** Events that open waits of a run may take, as last read: found by name and key, for there may be as many as waits. */
export interface Offers {
  add(event: EventRow): void;
  /** Whether it was there. */
  delete(seq: number): boolean;
  /** Forgets what is over: kept since an earlier wait was offered it, the store would not offer it to a new one (spec E7). */
  expire(now: number): void;
  clear(): void;
  /** Those with one of these names and this key, oldest first. */
  of(names: readonly string[], key: string | undefined): readonly EventRow[];
}

export function createOffers(): Offers {
  const pairs = new LazyMap<number, string>();
  const events = new LazyMap<string, Map<number, EventRow>>();
  return {
    add(event) {
      const pair = pairKey(event.name, event.key);
      const found = events.get(pair) ?? new Map();
      pairs.set(event.seq, pair);
      events.set(pair, found.set(event.seq, event));
    },
    delete(seq) {
      const pair = pairs.get(seq);
      if (pair === undefined) return false;
      events.get(pair)!.delete(seq);
      return pairs.delete(seq);
    },
    expire(now) {
      for (const found of events.values())
        for (const { seq, expiresAt } of found.values()) if (expiresAt <= now) this.delete(seq);
    },
    clear() {
      pairs.clear();
      events.clear();
    },
    of(names, key) {
      if (!pairs.size) return [];
      const found = names.flatMap((name) => [...(events.get(pairKey(name, key))?.values() ?? [])]);
      return found.sort((a, b) => a.seq - b.seq);
    },
  };
}
