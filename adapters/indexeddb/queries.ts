import { laneOf, type Picked, selectByLane, selectDue } from '../../src/store/due.js';
import type { RunRow, StoredRun } from '../../src/store/rows.js';
import type { DueQuery, ListPage, ListQuery } from '../../src/store/store.js';
import { fitsList } from '../../src/store/tables.js';
import type { Connection } from './connection.js';
import { chunksOf, type Database, type RunRecord, reading } from './schema.js';

/*
 * What is read outside of commits. Inside one transaction nothing is awaited but its own requests (W1).
 */

/** Rows looked at in one go when looking for due runs. */
const PAGE = 64;

type LoadTx = ReturnType<typeof reading<('stepfast:runs' | 'stepfast:spill')[]>>;

const stored = ({ row, tail }: RunRecord, chunks: readonly StoredRun['journal'][]): StoredRun => ({
  row,
  journal: [...chunks.flat(), ...tail],
});

/** The chunks of a journal are asked for where there are some: most runs have none. */
async function loadFrom(tx: LoadTx, runId: string): Promise<StoredRun | undefined> {
  const record = await tx.objectStore('stepfast:runs').get(runId);
  if (!record) return undefined;
  return stored(record, record.chunks ? await tx.objectStore('stepfast:spill').getAll(chunksOf(runId)) : []);
}

/** Loads runs: those that are asked for in one turn in one transaction, which costs more than what it reads. */
export function createLoads(use: Connection['use']): (runId: string) => Promise<StoredRun | undefined> {
  const load = (runIds: readonly string[]) =>
    use((db) => {
      const tx = reading(db, 'stepfast:runs', 'stepfast:spill');
      return Promise.all(runIds.map((runId) => loadFrom(tx, runId)));
    });
  let next: { readonly runIds: string[]; readonly found: Promise<(StoredRun | undefined)[]> } | undefined;
  const begin = () => {
    const runIds: string[] = [];
    const found = Promise.resolve().then(() => {
      next = undefined;
      return load(runIds);
    });
    return { runIds, found };
  };
  return async (runId) => {
    next ??= begin();
    const { runIds, found } = next;
    const index = runIds.push(runId) - 1;
    try {
      return (await found)[index];
    } catch (error) {
      if (runIds.length === 1) throw error;
      return (await load([runId]))[0]; // what ails one of them is not to hide the others
    }
  };
}

/**
 * Picks due runs, page by page of the index, until there are enough. Where rows of one lane are not due yet, the next
 * page begins at the next lane: one request for all, unless there are more rows than a page. (Rows that were written
 * before there were lanes stand in another place of the index, and are found there.)
 */
export async function pickDue(
  db: Database,
  query: DueQuery,
  whoIsAlive: () => Promise<(owner: string) => boolean>,
): Promise<Picked> {
  // By id: a row that a commit has moved on between two pages counts as it was last seen.
  const records = new Map<string, RunRecord>();
  let from: IDBValidKey[] = [];
  for (;;) {
    const index = reading(db, 'stepfast:runs').objectStore('stepfast:runs').index('due');
    const page = await index.getAll(IDBKeyRange.lowerBound(from, true), PAGE);
    for (const record of page) {
      records.delete(record.row.runId);
      records.set(record.row.runId, record);
    }
    // Asked after the rows were read: who has claimed one of them by then is seen.
    const isAlive = await whoIsAlive();
    const lanes = byLane(records.values());
    const picked = selectByLane(lanes.values(), query, isAlive);
    const last = page.at(-1);
    if (!last || page.length < PAGE || picked.runs.length >= query.limit) {
      return { ...picked, runs: picked.runs.map((run) => withJournal(run, records.get(run.row.runId)!)) };
    }
    const { rank, row } = last;
    const unlimited = selectDue(lanes.get(rank) ?? [], query, isAlive, Infinity);
    // Lists come after all numbers: `[rank, []]` is behind every row of the rank.
    from = unlimited.isOver ? [rank, []] : [rank, row.dueAt!, row.seq];
  }
}

/** A short journal came with the row. */
const withJournal = (run: Picked['runs'][number], { chunks, tail }: RunRecord) =>
  chunks ? run : { ...run, journal: tail };

/** Rows in the order of the index, apart by lane. */
function byLane(records: Iterable<RunRecord>): Map<number, RunRow[]> {
  const lanes = new Map<number, RunRow[]>();
  for (const { row } of records) {
    const same = lanes.get(laneOf(row));
    if (same) same.push(row);
    else lanes.set(laneOf(row), [row]);
  }
  return lanes;
}

/** One page of runs, newest first. */
export async function listRuns(db: Database, query: ListQuery): Promise<ListPage> {
  const tx = reading(db, 'stepfast:runs', 'stepfast:spill');
  const runs: StoredRun[] = [];
  for await (const record of newestFirst(tx.objectStore('stepfast:runs'), query)) {
    const { row, chunks } = record;
    if (!fitsList(row, query)) continue;
    if (runs.length >= query.limit) return { runs, nextCursor: String(runs.at(-1)!.row.seq) };
    runs.push(stored(record, chunks ? await tx.objectStore('stepfast:spill').getAll(chunksOf(row.runId)) : []));
  }
  return { runs };
}

type Runs = ReturnType<typeof runsOf>;
const runsOf = (db: Database) => reading(db, 'stepfast:runs', 'stepfast:spill').objectStore('stepfast:runs');

/** Records that a list query may ask for, by descending `seq`, beginning at its cursor. */
async function* newestFirst(runs: Runs, { cursor, endedBefore }: ListQuery): AsyncGenerator<RunRecord> {
  const before = cursor === undefined ? Infinity : Number(cursor) || 0;
  if (endedBefore === undefined) {
    let at = await runs.index('seq').openCursor(IDBKeyRange.upperBound(before, true), 'prev');
    for (; at; at = await at.continue()) yield at.value;
    return;
  }
  // Keys alone are walked, of those runs alone that have ended: few, where there is somebody who sweeps.
  const found: [seq: number, runId: string][] = [];
  let at = await runs.index('ended').openKeyCursor(IDBKeyRange.upperBound([endedBefore], true));
  for (; at; at = await at.continue()) if (at.key[1] < before) found.push([at.key[1], at.primaryKey]);
  found.sort(([a], [b]) => b - a);
  for (const [, runId] of found) yield (await runs.get(runId))!;
}
