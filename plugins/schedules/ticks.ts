import type { Rule } from './rule.js';

/*
 * What is kept of a schedule in the store, and what is due by it. Pure of clocks and storage.
 *
 * K1. Ticks up to `until` are done with: started, or counted as missed by a later one.
 * K2. A tick in `fired` has started a run, and starts none again, though a clock be set back before it (spec Q4).
 */

/** Under `stepfast:schedule:<name>` in the shared state. Fields are persisted for ever. */
export interface Kept {
  /** When the schedule was first declared on this store. */
  readonly anchor: number;
  readonly until: number;
  /** The latest ticks that have started a run, ascending. */
  readonly fired: readonly number[];
}

/** So many are remembered; beyond that, the idempotency key still keeps a tick from starting two runs. */
const MAX_FIRED = 32;

export const firstKept = (now: number): Kept => ({ anchor: now, until: now, fired: [] });

/** A tick to start, and how many before it nobody has started. */
export interface DueTick {
  readonly tick: number;
  readonly missed: number;
}

/** The one tick that is due: the last of all that were missed (spec Q5). */
export async function dueTick(rule: Rule, { anchor, until, fired }: Kept, now: number): Promise<DueTick | undefined> {
  let span = await rule.span(until, now, anchor);
  while (span && fired.includes(span.last)) span = await rule.span(until, span.last - 1, anchor);
  if (!span) return undefined;
  const { last, count } = span;
  const done = fired.filter((at) => at > until && at < last && rule.next(at - 1, anchor) === at);
  return { tick: last, missed: count - 1 - done.length };
}

/** The first tick later than `now` that has not started a run. */
export function nextTick(rule: Rule, { anchor, fired }: Pick<Kept, 'anchor' | 'fired'>, now: number) {
  let at = rule.next(now, anchor);
  while (at !== undefined && fired.includes(at)) at = rule.next(at, anchor);
  return at;
}

/** What to keep when this tick starts its run. */
export const keptAfter = ({ anchor, fired }: Kept, tick: number): Kept => ({
  anchor,
  until: tick,
  fired: [...fired, tick].sort((a, b) => a - b).slice(-MAX_FIRED),
});

/**
 * What to keep when the clock was set back before `until`: what is due between `lived` and now is due again, if it has
 * not fired. `lived`: the last instant up to which an engine on this clock is known to have done all that was due.
 */
export const rewound = (kept: Kept, now: number, lived: number): Kept => ({
  ...kept,
  until: kept.anchor > now ? lived : Math.max(lived, kept.anchor), // one ahead tells nothing of this clock
});
