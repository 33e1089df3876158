import type { JournalEntry } from '../../src/store/journal.js';
import type { RunRow, StoredRun } from '../../src/store/rows.js';
import { corrupt } from './damage.js';
import type { Disk } from './disk.js';
import { readAt } from './files.js';
import { journalsAt } from './record.js';
import type { Segment } from './segments.js';

/*
 * Journals stay on disk; memory knows where (`Place`). Each record is checked again when it is read back.
 *
 * A single run is read by its ranges, neighbours in one read. Who wants many runs of a segment (compaction, a rewrite)
 * reads the segment once, in one go: a call of the thread pool costs more than the copy of a hundred records.
 */

/** Where bytes of a segment come from. */
export interface Bytes {
  /** Those that are in memory; used before anything else is awaited. */
  at(position: number, length: number): Buffer | undefined;
  read(position: number, length: number): Promise<Buffer>;
}

/** Reads nearer to each other than this are one read. */
const READ_GAP = 16 << 10;
const READ_LIMIT = 4 << 20;
/** Beyond this a segment is not held in memory as a whole. */
const WHOLE_LIMIT = 32 << 20;

export const bytesOf = (disk: Disk, { fd, tail }: Segment): Bytes => ({
  at: tail.at,
  read: (position, length) => readAt(disk, fd, position, length),
});

/** A record that several runs share, parsed: who reads many runs does not parse it once for each. */
interface Parsed {
  readonly size: number;
  readonly journals: ReadonlyMap<string, readonly JournalEntry[]>;
}
type Memo = Map<number, Parsed>;
const MEMO_SIZE = 8;

/**
 * Reads a run's journal back from its ranges.
 *
 * @param memo Of this segment. Entries of journals that are read with the same one are shared.
 */
export async function readJournal(
  source: Bytes,
  file: string,
  runId: string,
  ranges: readonly number[],
  memo: Memo = new Map(),
): Promise<JournalEntry[]> {
  const journal: JournalEntry[] = [];
  const parse = (bytes: Buffer, at: number, offset: number): Parsed => {
    const found = journalsAt(bytes, at);
    if (!found) throw corrupt({ runId, file, offset });
    const { journals: all, end } = found;
    const size = end - at;
    if (all.length === 1) return { size, journals: new Map([[runId, all[0]!]]) }; // whose else: it lies in a range of this run
    const runs = found.runs();
    const parsed = { size, journals: new Map(all.map((each, index) => [runs[index]![0], each])) };
    memo.set(offset, parsed);
    if (memo.size > MEMO_SIZE) memo.delete(memo.keys().next().value!);
    return parsed;
  };
  /** `bytes` begin at `base`. */
  const take = (bytes: Buffer, base: number, from: number, to: number) => {
    for (let offset = from; offset < to; ) {
      const { size, journals } = memo.get(offset) ?? parse(bytes, offset - base, offset);
      for (const entry of journals.get(runId) ?? []) journal.push(entry);
      offset += size;
    }
  };
  for (let index = 0; index < ranges.length; ) {
    const from = ranges[index]!;
    const here = source.at(from, ranges[index + 1]! - from);
    if (here) {
      take(here, from, from, ranges[index + 1]!);
      index += 2;
      continue;
    }
    let next = index + 2;
    while (
      next < ranges.length &&
      ranges[next]! - ranges[next - 1]! < READ_GAP &&
      ranges[next + 1]! - from < READ_LIMIT
    )
      next += 2;
    const bytes = await source.read(from, ranges[next - 1]! - from);
    for (; index < next; index += 2) take(bytes, from, ranges[index]!, ranges[index + 1]!);
  }
  return journal;
}

/** A run, and where its journal lay when the row was taken down: both change with the next commit. */
export interface Located {
  readonly row: RunRow;
  readonly ranges: readonly number[];
}

export const locate = ({ image }: Segment, row: RunRow): Located => ({
  row,
  ranges: [...(image.places.get(row.runId)?.ranges ?? [])],
});

/** These runs of a segment, with their journals. */
export async function* storedRuns(disk: Disk, from: Segment, runs: readonly Located[]): AsyncGenerator<StoredRun> {
  const { length, file } = from.image;
  const { read } = bytesOf(disk, from);
  const whole = runs.length > 1 && length <= WHOLE_LIMIT ? await read(0, length) : Buffer.alloc(0);
  const at = (position: number, count: number) =>
    position + count <= whole.length ? whole.subarray(position, position + count) : undefined;
  const memo: Memo = new Map();
  for (const { row, ranges } of runs) {
    const { runId } = row;
    const journal = await readJournal({ at, read }, file, runId, ranges, memo);
    if (journal.length !== row.length) throw corrupt({ runId, file, offset: ranges[0] ?? 0 });
    yield { row, journal };
  }
}
