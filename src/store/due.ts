import type { DuePage, DueQuery, DueRun, RunRow } from './store.js';
import { offersFor, type Reads, storedEvents } from './transition/scope.js';
import { type Awaitable, perform, type Work } from './transition/work.js';

/*
 * What an engine should do next, out of the rows that have something due.
 */

/** Changes with everything that can make a run fit to be driven: its owner, its journal, a wake-up. */
export const stampOf = (row: RunRow): string => `${row.fence}:${row.length}:${row.woken ?? ''}`;

/** Whether this owner is at the run, and no look of its own has to find it. */
export const isHeldBy = (row: RunRow, owner: string): boolean => row.owner === owner && isAtWork(row);

const isAtWork = ({ status, unsettled, undoing }: RunRow) => status === 'running' || !!unsettled || !!undoing;

export interface Picked {
  readonly runs: Omit<DueRun, 'offers'>[];
  readonly nextDueAt?: number;
  readonly foreign: boolean;
}

/**
 * Picks what an engine should do next out of rows of one priority in order of (`dueAt`, `seq`). The caller may stop
 * feeding rows once it meets one that is due later than `query.now` and of a job of the query.
 */
export function selectDue(rows: Iterable<RunRow>, query: DueQuery, isAlive: (owner: string) => boolean): Picked {
  const runs: Omit<DueRun, 'offers'>[] = [];
  let foreign = false;
  for (const row of rows) {
    const { dueAt, owner } = row;
    if (runs.length >= query.limit) break;
    if (dueAt === undefined || !(row.version <= (query.jobs[row.job] ?? 0))) continue;
    if (dueAt > query.now) return { runs, nextDueAt: dueAt, foreign };
    if (isHeldBy(row, query.owner) && !row.woken) continue;
    if (row.slot === undefined && query.full?.includes(row.queue)) continue;
    const left = query.skip?.get(row.runId);
    if (left !== undefined && left === stampOf(row)) continue;
    const mine = owner === undefined || owner === query.owner;
    if (!mine && isAlive(owner) && (isAtWork(row) || dueAt > query.now - query.graceMs)) {
      foreign = true;
      continue;
    }
    runs.push({ row, interrupted: !mine && (row.status === 'running' || row.undoing === true) });
  }
  return { runs, foreign };
}

/** `selectDue` over several priorities, the greatest first. */
export function selectByPriority(
  priorities: Iterable<Iterable<RunRow>>,
  query: DueQuery,
  isAlive: (owner: string) => boolean,
): Picked {
  const runs: Picked['runs'] = [];
  let nextDueAt = Infinity;
  let foreign = false;
  for (const rows of priorities) {
    const picked = selectDue(rows, { ...query, limit: query.limit - runs.length }, isAlive);
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
  for (const run of picked.runs)
    runs.push({ ...run, offers: yield* offersFor(storedEvents(reads), run.row.runId, run.row.waits, now) });
  return { ...picked, runs };
}
