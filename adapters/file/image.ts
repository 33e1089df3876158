import type { JournalEntry } from '../../src/journal.js';
import type { RunRow } from '../../src/store.js';
import { Tables } from '../../src/tables.js';
import type { Writes } from '../../src/transition.js';
import { corrupt, type Damage } from './damage.js';
import { encodeRecord, type Header, type RecordState, WITNESSES } from './record.js';

/*
 * What a segment of the log says, in memory: rows and events in `Tables`, and for each run where its journal lies.
 * Built by a scan (scan.ts), carried on by `stage`, thrown away and built again whenever disk and memory may differ.
 */

/** Where a run's journal lies: pairs of offsets, adjacent records joined. */
export interface Place {
  revision: number;
  /** Number of its last record: a later record of this run proves that none before was lost. */
  n: number;
  readonly ranges: number[];
}

export interface Image {
  readonly segment: number;
  /** As errors name it, relative to the store's folder. */
  readonly file: string;
  readonly tables: Tables;
  readonly places: Map<string, Place>;
  readonly quarantined: Map<string, Damage>;
  readonly quarantinedKeys: Map<string, string>;
  /** Numbers of records that are gone and not yet attributed to runs. */
  readonly missing: Map<number, Damage>;
  /** What was found by this scan, to be reported. Empty when the segment is sound. */
  readonly losses: Damage[];
  /** Bytes that are read and believed; the next record begins here. */
  length: number;
  n: number;
  fence: number;
  head: string;
  /** The snapshot at the start of the segment ends with this record. */
  snapshotEnd: number;
  /** Runs of the latest records, for the witnesses of the next headers. */
  recent: string[][];
}

export const segmentName = (segment: number): string => `${String(segment).padStart(8, '0')}.jsonl`;

export const emptyImage = (segment: number, file: string, after?: Image): Image => ({
  segment,
  file,
  tables: new Tables(),
  places: new Map(),
  quarantined: new Map(),
  quarantinedKeys: new Map(),
  missing: new Map(),
  losses: [],
  length: 0,
  n: after?.n ?? 0,
  fence: after?.fence ?? 0,
  head: after?.head ?? '',
  snapshotEnd: 0,
  recent: [],
});

export const keyText = (job: string, idempotencyKey: string): string => JSON.stringify([job, idempotencyKey]);

/** Puts a run aside: it keeps its id and key, and answers `STORE_CORRUPT` to everything. */
export function quarantine(image: Image, damage: Damage & { readonly runId: string }): void {
  const { runId } = damage;
  if (image.quarantined.has(runId)) return;
  const row = image.tables.run(runId);
  const key = damage.key ?? (row?.idempotencyKey === undefined ? undefined : ([row.job, row.idempotencyKey] as const));
  const kept = { ...damage, ...(key && { key }) };
  image.tables.dropRun(runId);
  image.places.delete(runId);
  image.quarantined.set(runId, kept);
  if (key) image.quarantinedKeys.set(keyText(...key), runId);
}

/** Throws when the run is quarantined. */
export function assertSound(image: Image, runId: string): void {
  const damage = image.quarantined.get(runId);
  if (damage) throw corrupt(damage);
}

function remember(image: Image, header: Pick<Header, 'n' | 'f' | 'runs'>, head: string): void {
  image.n = header.n;
  image.fence = header.f;
  image.head = head;
  image.recent.push(header.runs.map(([runId]) => runId));
  if (image.recent.length > WITNESSES[1]) image.recent.shift();
}

function extend(image: Image, row: RunRow, revision: number, n: number, from: number, to: number): void {
  const place = image.places.get(row.runId) ?? { revision, n, ranges: [] };
  const grows = row.length > (image.tables.run(row.runId)?.length ?? 0);
  image.places.set(row.runId, place);
  place.revision = revision;
  place.n = n;
  if (!grows) return;
  if (place.ranges.at(-1) === from) place.ranges[place.ranges.length - 1] = to;
  else place.ranges.push(from, to);
}

/** Takes over the gaps that a record's header reveals: lost records before it, of the store and of its runs. */
export function attribute(image: Image, header: Header, damage: Damage): void {
  if (image.length > 0) for (let n = image.n + 1; n < header.n; n++) image.missing.set(n, damage);
  if (image.missing.size)
    for (const [index, distance] of WITNESSES.entries()) {
      const lost = image.missing.get(header.n - distance);
      if (!lost) continue;
      for (const runId of header.was[index] ?? []) quarantine(image, { ...lost, runId });
      image.missing.delete(header.n - distance);
    }
  for (const [runId, revision] of header.runs) {
    const known = image.places.get(runId)?.revision ?? 0;
    if (!image.quarantined.has(runId) && revision !== known + 1) quarantine(image, { ...damage, runId });
  }
}

/** Takes over a sound record. */
export function accept(image: Image, header: Header, head: string, state: RecordState, from: number, to: number): void {
  for (const [index, row] of (state.rows ?? []).entries()) {
    if (image.quarantined.has(row.runId)) continue;
    extend(image, row, header.runs[index]![1], header.n, from, to);
    image.tables.putRun(row);
  }
  for (const event of state.events ?? []) image.tables.putEvent(event);
  for (const seq of state.drops ?? []) image.tables.dropEvent(seq);
  if (state.clock) image.tables.lastClock = state.clock;
  if (state.snapshot) {
    image.snapshotEnd = header.n + state.snapshot.records;
    for (const damage of state.snapshot.quarantined)
      if (damage.runId !== undefined) quarantine(image, { ...damage, runId: damage.runId });
  }
  remember(image, header, head);
  image.length = to;
}

/** Takes over a record whose header is sound and whose rest is not: its runs are put aside. */
export function acceptDamaged(image: Image, header: Header, head: string, damage: Damage, to: number): void {
  for (const [runId] of header.runs) quarantine(image, { ...damage, runId });
  const { seq } = image.tables.lastClock;
  image.tables.lastClock = { seq: Math.max(seq, header.seq) };
  remember(image, header, head);
  image.length = to;
}

/** Numbers that may have been given out by a record that is gone are not given out again. */
const LOST_SEQUENCE = 10_000;

/** Ends a scan: records that nothing later accounts for may have hit every run that has no later record. */
export function settle(image: Image): void {
  if (image.n < image.snapshotEnd) {
    const damage = { file: image.file, offset: image.length };
    image.losses.push(damage);
    for (let n = image.n + 1; n <= image.snapshotEnd; n++) image.missing.set(n, damage);
    image.n = image.snapshotEnd;
  }
  if (!image.missing.size) return;
  const last = Math.max(...image.missing.keys());
  const damage = image.missing.get(last)!;
  for (const [runId, place] of [...image.places]) if (place.n < last) quarantine(image, { ...damage, runId });
  const { seq } = image.tables.lastClock;
  image.tables.lastClock = { seq: seq + LOST_SEQUENCE };
  image.missing.clear();
}

/**
 * Encodes what a committed transition writes and carries the image on. The line is not on disk yet: whoever calls this
 * shows the image to nobody before it is, and builds it anew if that fails.
 *
 * @param texts Entries that are text already.
 */
export function stage(
  image: Image,
  writes: Writes,
  fence: number,
  group: number,
  texts?: ReadonlyMap<JournalEntry, string>,
): string {
  const runs = [...writes.runs.values()];
  const { clock } = writes;
  const events = [...writes.events.values()];
  const drops = [...writes.drops];
  // Encoding may throw (nesting too deep): before anything in memory changes.
  const state = JSON.stringify({
    ...(runs.length && { rows: runs.map(({ row }) => row) }),
    ...(events.length && { events }),
    ...(drops.length && { drops }),
    clock,
  });
  const textOf = (entry: JournalEntry) => texts?.get(entry) ?? JSON.stringify(entry);
  const journal = `[${runs.map(({ append }) => `[${append.map(textOf).join(',')}]`).join(',')}]`;
  const pairs = runs.map(({ row }) => [row.runId, (image.places.get(row.runId)?.revision ?? 0) + 1] as const);
  const header = {
    n: image.n + 1,
    f: fence,
    g: group,
    seq: clock.seq,
    runs: pairs,
    was: witnesses(image),
    prev: image.head,
  };
  const { line, head } = encodeRecord(header, state, journal);
  const to = image.length + Buffer.byteLength(line);
  for (const [index, { row }] of runs.entries()) extend(image, row, pairs[index]![1], header.n, image.length, to);
  image.tables.apply(writes);
  remember(image, header, head);
  image.length = to;
  return line;
}

export const witnesses = (image: Pick<Image, 'recent'>): string[][] =>
  WITNESSES.map((distance) => image.recent[image.recent.length - distance] ?? []);
