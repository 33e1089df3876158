import type { DuePage, DueQuery, DueRun, RunRow } from './store.js';
import { offersFor, type Reads } from './transition/scope.js';

/*
 * What an engine should do next, out of the rows that have something due.
 */

/** Changes with everything that can make a run fit to be driven: its owner, its journal, a wake-up. */
export const stampOf = (row: RunRow): string => `${row.fence}:${row.length}:${row.woken ?? ''}`;

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
    const isHeld = row.status === 'running' || row.unsettled || row.undoing;
    if (owner === query.owner && isHeld && !row.woken) continue;
    if (row.slot === undefined && query.full?.includes(row.queue)) continue;
    const left = query.skip?.get(row.runId);
    if (left !== undefined && left === stampOf(row)) continue;
    const mine = owner === undefined || owner === query.owner;
    if (!mine && isAlive(owner) && (isHeld || dueAt > query.now - query.graceMs)) {
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
export async function withOffers(reads: Pick<Reads, 'events'>, picked: Picked, now: number): Promise<DuePage> {
  const runs: DueRun[] = [];
  for (const run of picked.runs)
    runs.push({ ...run, offers: await offersFor(reads, run.row.runId, run.row.waits, now) });
  return { ...picked, runs };
}
