import { isStepfastError, type StepfastError } from '../../src/errors.js';
import { copyOf } from '../../src/store/copy.js';
import type { RunRow, StoredRun } from '../../src/store/rows.js';
import type { ListPage, ListQuery } from '../../src/store/store.js';
import { listPage } from '../../src/store/tables.js';
import type { Archive } from './archive.js';
import { corrupt, type Damage } from './damage.js';
import type { Disk } from './disk.js';
import { storeError } from './files.js';
import { assertSound, type Image, isRemoved, segmentName } from './image.js';
import { bytesOf, locate, readJournal } from './journals.js';
import { archivedRun } from './reads.js';
import { LOG, reading, type Segment } from './segments.js';

/*
 * Reading runs: live ones from a segment, ended ones from the archive.
 *
 * G1. Row and ranges are taken down in the store's turn, while memory and disk are known to agree; the journal is read
 *     after it, so that a long read holds up no commit. The segment's file stays open until then (`readers`).
 * G2. Damage found while reading is told to `onDamage`: the next use reads the segment again and puts the run aside.
 */

const ENDED = new Set(['completed', 'failed', 'cancelled']);

export interface ReadSource {
  readonly disk: Disk;
  readonly archive: Archive;
  /** `undefined`: nothing was ever written. */
  readonly segment: Segment | undefined;
  readonly onDamage: () => void;
  readonly onError: (error: unknown) => void;
}

export type TakenDown<T> = () => Promise<T>;

/** Takes down what is needed to read a run later. */
export function takeDownRun(source: ReadSource, runId: string): TakenDown<StoredRun | undefined> {
  const { disk, archive, segment, onDamage, onError } = source;
  if (segment) assertSound(segment.image, runId);
  const row = segment?.image.tables.run(runId);
  if (!segment || !row)
    return () =>
      archivedRun(archive, segment?.image, runId).catch((error: unknown) => {
        throw storeError(error, 'reading', 'runs');
      });
  const { ranges } = locate(segment, row);
  const file = `${LOG}/${segmentName(segment.image.segment)}`;
  segment.readers++; // held from now on, also if the segment is replaced before the read begins
  return async () => {
    try {
      const journal = await reading(disk, segment, () => readJournal(bytesOf(disk, segment), file, runId, ranges));
      if (journal.length !== row.length) throw corrupt({ runId, file, offset: ranges[0] ?? 0 });
      return { row: copyOf(row), journal };
    } catch (error) {
      onDamage();
      throw storeError(error, 'reading', file);
    } finally {
      segment.readers--;
      if (segment.isRetired && segment.readers === 0) await disk.close(segment.fd).catch(onError);
    }
  };
}

/**
 * Takes down one page of runs. One damaged run does not hide the others; a disk that fails does not pass for a run that is
 * not there.
 */
export async function takeDownPage(source: ReadSource, query: ListQuery): Promise<TakenDown<ListPage>> {
  const { archive, segment, onError } = source;
  const rows = new Map<string, RunRow>();
  const statuses = query.status === undefined ? undefined : [query.status].flat();
  const lost = putAside(segment?.image, query);
  if (!statuses || statuses.some((status) => ENDED.has(status)))
    for (const [runId, row] of await archive.rows())
      if (!segment?.image.quarantined.has(runId) && !isRemoved(segment?.image, row)) rows.set(runId, row);
  for (const [runId, row] of segment?.image.tables.runs ?? []) rows.set(runId, row);
  const { rows: page, ...rest } = listPage(rows.values(), query);
  const reads = page.map((row) => ({ row, read: takeDownRun(source, row.runId) }));
  return async () => {
    const runs: StoredRun[] = [];
    for (const { row, read } of reads)
      try {
        const run = await read();
        if (run) runs.push(run);
        else await assertGone(source, row);
      } catch (error) {
        if (isStepfastError(error, 'STORE_UNAVAILABLE')) throw error;
        onError(error);
        if (isStepfastError(error, 'STORE_CORRUPT')) lost.push(error);
      }
    return { runs, ...(lost.length && { lost }), ...rest };
  };
}

/** A run that is listed, and not there: the store takes it off the list before it removes the file. */
async function assertGone({ archive, segment }: ReadSource, { runId, job, seq }: RunRow): Promise<void> {
  if (isRemoved(segment?.image, { runId, seq }) || (await archive.rows()).get(runId)?.seq !== seq) return;
  throw corrupt({ runId, job, file: archive.fileOf(runId), offset: 0 });
}

/** What is put aside belongs to no place of the order: it comes with the first page. Its status is not known. */
function putAside(image: Image | undefined, query: ListQuery): StepfastError[] {
  if (!image || query.cursor !== undefined || query.tag !== undefined || query.endedBefore !== undefined) return [];
  const fits = ({ job }: Damage) => query.job === undefined || job === undefined || job === query.job;
  return [...image.quarantined.values()].filter(fits).map(corrupt);
}
