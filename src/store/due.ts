import type { RunRow } from './rows.js';
import type { DuePage, DueQuery, DueRun } from './store.js';
import { offersFor, type Reads, storedEvents } from './transition/scope.js';
import { type Awaitable, perform, type Work } from './transition/work.js';

/*
 * What an engine should do next, out of the rows that have something due.
 */

/** Changes with everything that can make a run fit to be driven: its owner, its journal, a wake-up. */
export const stampOf = (row: RunRow): string => `${row.fence}:${row.length}:${row.woken ?? ''}`;

/** How far a clock may have been ahead and still counts as right: a backoff is then longer by as much. */
export const SKEW_MS = 60_000;

/** Whether this was set by a clock that was ahead, and has been corrected since (spec Q4). */
export const isAhead = (setAt: number | undefined, now: number): boolean => setAt! > now + SKEW_MS;

/** Its `dueAt` is an instant that the user knows of, whatever happens to clocks. */
const isTimed = ({ status, woken, setAt }: RunRow): boolean => !(status === 'queued' || woken || setAt !== undefined);

/**
 * Orders rows with something due, the least first: by priority, and by how far their instants are to be relied upon. Rows
 * of a lane whose instants are can be read up to the first that is ahead; of the others (queued, woken, backing off) each is
 * looked at.
 */
export const laneOf = (row: RunRow): number => (isTimed(row) ? -0.5 : 0) - (row.priority ?? 0);

/** What is queued or woken is due at once, and a backoff that was set by a clock that was ahead is over. */
export const isDue = (row: RunRow, now: number): boolean =>
  row.dueAt! <= now || row.status === 'queued' || !!row.woken || isAhead(row.setAt, now);

/** Whether this owner is at the run, and no look of its own has to find it. */
export const isHeldBy = (row: RunRow, owner: string): boolean => row.owner === owner && isAtWork(row);

/** Its owner has something of it under way: nobody else takes it up while that one lives. */
export const isAtWork = ({ status, unsettled, undoing }: RunRow) => status === 'running' || !!unsettled || !!undoing;

/** Ended from outside, and not taken up since: the owner that it names is to undo its steps, and does not hold it (spec F9). */
export const isLeftOver = ({ undoing, woken }: RunRow): boolean => !!undoing && !!woken;

/** Whether code for this version of its job is there. */
export const isKnown = ({ job, version }: RunRow, jobs: DueQuery['jobs']): boolean => version <= (jobs[job] ?? 0);

export interface Picked {
  readonly runs: Omit<DueRun, 'offers'>[];
  readonly nextDueAt?: number;
  readonly foreign: boolean;
  readonly isOver?: true;
}

/**
 * Picks what an engine should do next out of rows of one lane in order of (`dueAt`, `seq`). `isOver`: the rest of the lane
 * is ahead.
 *
 * @param limit How many at most. Default: that of the query.
 */
export function selectDue(
  rows: Iterable<RunRow>,
  query: DueQuery,
  isAlive: (owner: string) => boolean,
  limit = query.limit,
): Picked {
  const runs: Omit<DueRun, 'offers'>[] = [];
  let foreign = false;
  let nextDueAt = Infinity;
  for (const row of rows) {
    const { dueAt, owner } = row;
    if (runs.length >= limit) break;
    const known = isKnown(row, query.jobs);
    // Whatever its job, once its owner is dead: somebody has to give the slot back.
    const inSlot = row.slot !== undefined && owner !== undefined && owner !== query.owner;
    if (dueAt === undefined || !(known || inSlot)) continue;
    if (!isDue(row, query.now)) {
      nextDueAt = Math.min(nextDueAt, dueAt);
      if (isTimed(row)) return { runs, nextDueAt, foreign, isOver: true };
      continue;
    }
    if (isHeldBy(row, query.owner) && !row.woken) continue;
    if (row.slot === undefined && query.full?.includes(row.queue)) continue;
    const left = query.skip?.get(row.runId);
    if (left !== undefined && left === stampOf(row)) continue;
    const mine = owner === undefined || owner === query.owner;
    const isBegun = !isLeftOver(row);
    const isFresh = dueAt > query.now - query.graceMs && dueAt <= query.now;
    if (!mine && isAlive(owner) && (!known || (isAtWork(row) && isBegun) || isFresh)) {
      foreign = true;
      continue;
    }
    runs.push({ row, interrupted: !mine && isBegun && (row.status === 'running' || row.undoing === true) });
  }
  return { runs, foreign, ...(nextDueAt < Infinity && { nextDueAt }) };
}

/** `selectDue` over several lanes, in their order. */
export function selectByLane(
  lanes: Iterable<Iterable<RunRow>>,
  query: DueQuery,
  isAlive: (owner: string) => boolean,
): Picked {
  const runs: Picked['runs'] = [];
  let nextDueAt = Infinity;
  let foreign = false;
  for (const rows of lanes) {
    const picked = selectDue(rows, query, isAlive, query.limit - runs.length);
    runs.push(...picked.runs);
    nextDueAt = Math.min(nextDueAt, picked.nextDueAt ?? Infinity);
    foreign ||= picked.foreign;
    if (runs.length >= query.limit) break;
  }
  return { runs, foreign, ...(nextDueAt < Infinity && runs.length < query.limit && { nextDueAt }) };
}

/** The rest of a look for work: the events that each picked run may take. */
export const withOffers = (reads: Pick<Reads, 'events'>, picked: Picked, now: number): Awaitable<DuePage> =>
  perform(offering(reads, picked, now));

function* offering(reads: Pick<Reads, 'events'>, picked: Picked, now: number): Work<DuePage> {
  const runs: DueRun[] = [];
  for (const run of picked.runs) {
    const { runId, waits } = run.row;
    runs.push(Object.assign({}, run, { offers: yield* offersFor(storedEvents(reads), runId, waits, now) }));
  }
  return Object.assign({}, picked, { runs });
}
