import type { JournalEntry } from '../../src/journal.js';
import type { RunRow, StoredRun } from '../../src/store.js';
import { corrupt } from './damage.js';
import type { Disk } from './disk.js';
import { readAt } from './files.js';
import { findRecord, journalsOf } from './record.js';
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

/** Reads a run's journal back from its ranges. */
export async function readJournal(
  source: Bytes,
  file: string,
  runId: string,
  ranges: readonly number[],
): Promise<JournalEntry[]> {
  const journal: JournalEntry[] = [];
  /** `bytes` begin at `base`. */
  const take = (bytes: Buffer, base: number, from: number, to: number) => {
    for (let at = from - base; at < to - base; ) {
      const found = findRecord(bytes, at);
      if (found.kind !== 'record') throw corrupt({ runId, file, offset: base + at });
      const mine = found.header.runs.findIndex(([id]) => id === runId);
      if (mine >= 0) for (const entry of journalsOf(bytes, found)[mine]!) journal.push(entry);
      at = found.end;
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

/** These runs of a segment, with their journals. */
export async function* storedRuns(disk: Disk, from: Segment, rows: readonly RunRow[]): AsyncGenerator<StoredRun> {
  const { length, file, places } = from.image;
  const { read } = bytesOf(disk, from);
  const whole = rows.length > 1 && length <= WHOLE_LIMIT ? await read(0, length) : Buffer.alloc(0);
  const at = (position: number, count: number) =>
    position + count <= whole.length ? whole.subarray(position, position + count) : undefined;
  for (const row of rows) {
    const ranges = places.get(row.runId)?.ranges ?? [];
    yield { row, journal: await readJournal({ at, read }, file, row.runId, ranges) };
  }
}
