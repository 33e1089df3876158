import type { EventRow, JournalEntry, RunRow, StateRow } from '../../../src/index.js';

/*
 * What a sound folder of the file store says, read without the store: lines of JSON, no checksums, no recovery. The
 * technique asks it what every prefix of the log has acknowledged.
 */

interface Line {
  readonly n: number;
  readonly state: {
    readonly rows?: readonly RunRow[];
    readonly reset?: readonly number[];
    readonly removed?: readonly { readonly runId: string }[];
    readonly events?: readonly EventRow[];
    readonly drops?: readonly number[];
    readonly shared?: readonly StateRow[];
    readonly unset?: readonly string[];
    readonly snapshot?: { readonly records: number };
  };
  readonly journal: readonly (readonly JournalEntry[])[];
}

/** All that can be asked of a store, as text: `run <id>`, `value <key>`, `event <id>`, `key <job> <key>`. */
export type Facts = ReadonlyMap<string, string>;

export type Folder = ReadonlyMap<string, Buffer>;

export const isLog = (path: string): boolean => /^log\/\d+\.jsonl$/.test(path);
export const logOf = (folder: Folder): string => [...folder.keys()].filter(isLog).sort().at(-1)!;

/** Where each line begins, and the end. */
export function boundsOf(log: Buffer): number[] {
  const bounds = [0];
  for (let at = log.indexOf(10); at >= 0; at = log.indexOf(10, at + 1)) bounds.push(at + 1);
  return bounds;
}

/** Up to which byte the log is the snapshot that it began with. */
export function snapshotEndOf(log: Buffer): number {
  const bounds = boundsOf(log);
  const first = JSON.parse(log.toString('utf8', 0, bounds[1])) as Line;
  return bounds[first.state.snapshot!.records + 1]!;
}

/** @param length Of the log: how many of its bytes, in whole lines, count. */
export function factsOf(folder: Folder, length = Number.POSITIVE_INFINITY): Facts {
  const runs = new Map<string, { row: RunRow; journal: JournalEntry[] }>();
  for (const [path, bytes] of folder) {
    if (!path.startsWith('runs/')) continue;
    const { row, journal } = JSON.parse(bytes.toString()) as { row: RunRow; journal: JournalEntry[] };
    runs.set(row.runId, { row, journal });
  }
  const values = new Map<string, StateRow>();
  const events = new Map<number, EventRow>();
  const log = folder.get(logOf(folder))!;
  const bounds = boundsOf(log);
  for (const [index, to] of bounds.slice(1).entries()) {
    if (to > length) break;
    const { state, journal } = JSON.parse(log.toString('utf8', bounds[index], to)) as Line;
    for (const [at, row] of (state.rows ?? []).entries()) {
      const before =
        state.reset?.includes(at) || isArchived(folder, runs, row) ? [] : (runs.get(row.runId)?.journal ?? []);
      runs.set(row.runId, { row, journal: [...before, ...(journal[at] ?? [])] });
    }
    for (const { runId } of state.removed ?? []) runs.delete(runId);
    for (const event of state.events ?? []) events.set(event.seq, event);
    for (const seq of state.drops ?? []) events.delete(seq);
    for (const row of state.shared ?? []) values.set(row.key, row);
    for (const key of state.unset ?? []) values.delete(key);
  }
  const facts = new Map<string, string>();
  for (const [runId, run] of runs) facts.set(`run ${runId}`, JSON.stringify([run.row, run.journal]));
  for (const [key, row] of values) facts.set(`value ${key}`, JSON.stringify(row));
  for (const { id } of events.values()) facts.set(`event ${id}`, 'known');
  for (const { row } of runs.values())
    if (row.idempotencyKey !== undefined) facts.set(`key ${row.job} ${row.idempotencyKey}`, row.runId);
  return facts;
}

/** A run that comes back from the archive brings its journal along: the log's first record of it is the whole. */
function isArchived(
  folder: Folder,
  runs: ReadonlyMap<string, { readonly row: RunRow; readonly journal: readonly unknown[] }>,
  row: RunRow,
): boolean {
  const known = runs.get(row.runId);
  return (
    known !== undefined &&
    [...folder].some(
      ([path, bytes]) => path.startsWith('runs/') && bytes.includes(`"runId": ${JSON.stringify(row.runId)}`),
    ) &&
    known.row.endedAt !== undefined
  );
}
