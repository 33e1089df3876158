import { join } from 'node:path';
import type { EventRow, StateRow, StoredRun } from '../../src/store/rows.js';
import type { RunWrite, Writes } from '../../src/store/transition/scope.js';
import { renameOver, TEMPORARY } from './atomic-write.js';
import type { Disk } from './disk.js';
import {
  CREATE,
  exists,
  freshName,
  namesIn,
  openRegular,
  READ,
  readAt,
  removeFile,
  syncFolder,
  writeAll,
} from './files.js';
import { emptyImage, type Image, segmentName } from './image.js';
import { askedIn } from './inbox.js';
import { encodeRecord, type Removal } from './record.js';
import { type ScanEnd, scan } from './scan.js';
import { livingState } from './shared.js';
import { type Staged, stage, witnesses } from './stage.js';
import { createTail, type Tail } from './tail.js';

/*
 * Segments `log/<k>.jsonl`. Each is complete in itself: it opens with a snapshot of everything that lived when it was
 * begun, so the highest one is the log and lower ones are leftovers.
 *
 * What makes a switch safe: the new segment is written under another name, synced, and renamed, and the folder is
 * synced, before the old one is touched. A crash before the rename leaves the old segment as the highest, after it the
 * new one, which holds the same; a leftover is removed by the next owner. A damaged segment is not removed but renamed
 * to `.corrupt`, and its quarantined runs are named in the snapshot.
 */

export const LOG = 'log';
export const CORRUPT = '.corrupt';

export const segmentsIn = (dir: string): number[] =>
  namesIn(join(dir, LOG), '.jsonl')
    .map((name) => (/^\d{8,15}\.jsonl$/.test(name) ? Number.parseInt(name, 10) : 0))
    .filter((segment) => segment > 0)
    .sort((a, b) => a - b);

export const segmentPath = (dir: string, segment: number): string => join(dir, LOG, segmentName(segment));

/** An image together with the file it was read from. */
export interface Segment {
  readonly image: Image;
  readonly path: string;
  /** For reading; stays valid when the file is replaced or removed. */
  readonly fd: number;
  end: ScanEnd;
  readonly tail: Tail;
  /** Readers under way; the file is closed when the last one is done. */
  readers: number;
  isRetired: boolean;
}

/** Opens and reads a segment up to `limit` bytes. `undefined` when the file is gone. */
export async function readSegment(
  disk: Disk,
  dir: string,
  segment: number,
  mode: 'own' | 'follow',
  limit = Number.POSITIVE_INFINITY,
): Promise<Segment | undefined> {
  const path = segmentPath(dir, segment);
  const fd = await openRegular(disk, path, READ);
  if (fd === undefined) return undefined;
  try {
    const image = emptyImage(segment, `${LOG}/${segmentName(segment)}${mode === 'own' ? CORRUPT : ''}`);
    const size = Math.min(limit, (await disk.stat(fd)).size);
    const end = scan(image, await readAt(disk, fd, 0, size), mode);
    return { image, path, fd, end, tail: createTail(), readers: 0, isRetired: false };
  } catch (error) {
    await disk.close(fd);
    throw error;
  }
}

/** Reads on in a segment that another process may have appended to. */
export async function readOn(disk: Disk, segment: Segment): Promise<ScanEnd> {
  const { size } = await disk.stat(segment.fd);
  if (size < segment.image.length) return 'rewritten';
  if (size === segment.image.length) return 'done';
  const bytes = await readAt(disk, segment.fd, segment.image.length, size - segment.image.length);
  segment.end = scan(segment.image, bytes, 'follow');
  return segment.end;
}

/** Lets go of a segment, once its readers are done. */
export async function retire(disk: Disk, segment: Segment): Promise<void> {
  segment.isRetired = true;
  if (segment.readers === 0) await disk.close(segment.fd);
}

/** Runs a read on a segment's file, which stays open meanwhile. */
export async function reading<T>(disk: Disk, segment: Segment, read: () => Promise<T>): Promise<T> {
  segment.readers++;
  try {
    return await read();
  } finally {
    segment.readers--;
    if (segment.isRetired && segment.readers === 0) await disk.close(segment.fd);
  }
}

const CHUNK = 1 << 20;
/** Rows of one kind that share a record: few enough for a line to stay small. */
const ROWS_A_RECORD = 256;

/** What a segment begins with. */
export interface Snapshot {
  readonly segment: number;
  readonly fence: number;
  readonly now: number;
  /** The segment before, if there was one. */
  readonly from?: Image;
  /** Runs to carry over, with their journals, and how many there are. */
  readonly runs: AsyncIterable<StoredRun>;
  readonly count: number;
  /** Deleted runs that the archive may still hold something of. */
  readonly removals: readonly Removal[];
}

const groupsOf = <T>(items: readonly T[]): T[][] =>
  Array.from({ length: Math.ceil(items.length / ROWS_A_RECORD) }, (_, index) =>
    items.slice(index * ROWS_A_RECORD, (index + 1) * ROWS_A_RECORD),
  );

/** The records of a snapshot after the first one, and how many they are. */
function recordsOf({ from, runs, count, removals }: Snapshot, values: readonly StateRow[]) {
  const clock = from?.tables.lastClock ?? { seq: 0 };
  const nothing = (): Writes => ({
    runs: new Map<string, RunWrite>(),
    events: new Map<number, EventRow>(),
    drops: new Set(),
    state: new Map<string, StateRow | undefined>(),
    deletes: new Set(),
    clock,
  });
  const removed = groupsOf(removals);
  const events = groupsOf([...(from?.tables.log.values() ?? [])]);
  const states = groupsOf(values);
  async function* records(): AsyncGenerator<Staged> {
    // Before the runs: the id of a deleted one may have been used again.
    for (const each of removed) yield { writes: nothing(), removals: each };
    for await (const { row, journal } of runs)
      yield { writes: { ...nothing(), runs: new Map([[row.runId, { row, append: journal }]]) } };
    for (const each of events)
      yield { writes: { ...nothing(), events: new Map(each.map((event) => [event.seq, event])) } };
    for (const each of states) yield { writes: { ...nothing(), state: new Map(each.map((row) => [row.key, row])) } };
  }
  return { records: records(), count: removed.length + count + events.length + states.length };
}

/** Writes the segment that follows another (or the first one): a snapshot of what that one says, with these runs. */
export async function writeSnapshot(disk: Disk, dir: string, snapshot: Snapshot): Promise<void> {
  const { segment, fence, from, now } = snapshot;
  const image = emptyImage(segment, segmentName(segment), from);
  image.recent = []; // witnesses of another segment's records would be of no use
  const { rows, lost } = from ? livingState(from, now) : { rows: [], lost: [] };
  const { records, count } = recordsOf(snapshot, rows);
  const clock = from?.tables.lastClock ?? { seq: 0 };
  const folder = join(dir, LOG);
  const temporary = join(folder, freshName() + TEMPORARY);
  const fd = await disk.open(temporary, CREATE);
  try {
    await disk.chmod(fd, 0o600);
    const place = {
      n: image.n + 1,
      f: fence,
      g: image.n + 1,
      seq: clock.seq,
      runs: [],
      ...witnesses(image),
      prev: image.head,
    };
    const quarantined = [...(from?.quarantined.values() ?? [])];
    const described = { segment, records: count, quarantined, ...(lost.length && { lost }) };
    const decided = [...(from?.decided ?? [])];
    const stillAsked = decided.length ? askedIn(dir) : new Set();
    const asked = decided.filter(([id]) => stillAsked.has(id));
    const state = JSON.stringify({ snapshot: described, clock, ...(asked.length && { asked }) });
    const first = encodeRecord(place, state, '[]');
    image.n++;
    image.head = first.head;
    let pending = first.line;
    for await (const record of records) {
      pending += stage(image, record, fence, image.n + 1);
      if (pending.length < CHUNK) continue;
      await writeAll(disk, fd, Buffer.from(pending));
      pending = '';
    }
    await writeAll(disk, fd, Buffer.from(pending));
    await disk.sync(fd);
    await disk.close(fd);
  } catch (error) {
    await disk.close(fd).catch(() => undefined); // the first error says more
    await removeFile(disk, temporary).catch(() => undefined);
    throw error;
  }
  await renameOver(disk, temporary, segmentPath(dir, segment));
  await syncFolder(disk, folder);
}

/** Removes a segment that a newer one has replaced; a damaged one is kept under another name. */
export async function dismiss(disk: Disk, dir: string, segment: number, isDamaged: boolean): Promise<void> {
  const path = segmentPath(dir, segment);
  if (!isDamaged) await removeFile(disk, path);
  else if (exists(path)) await renameOver(disk, path, path + CORRUPT);
  await syncFolder(disk, join(dir, LOG));
}
