import type { RunRow } from '../../src/store/rows.js';
import { Tables } from '../../src/store/tables.js';
import { corrupt, type Damage, type LostValue } from './damage.js';
import { type Asked, type Header, type RecordState, type Removal, type StateMark, WITNESSES } from './record.js';
import { keepState, loseState, loseStateBefore } from './shared.js';

/*
 * What a segment of the log says, in memory: rows and events in `Tables`, and for each run where its journal lies.
 * Built by a scan (scan.ts), carried on by `stage` (stage.ts), thrown away and built again whenever disk and memory may differ.
 */

/** Where a run's journal lies: pairs of offsets, adjacent records joined. */
export interface Place {
  /** How many records name the run in this segment, its deletions included. */
  revision: number;
  /** Number of its last record: a later record of this run proves that none before was lost. */
  n: number;
  readonly ranges: number[];
}

/** A run that a record of this segment deletes, kept until the archive is known to be without it. */
export interface Removed extends Removal {
  readonly revision: number;
  /** Number of that record. */
  readonly n: number;
}

/** What a record touches, for the witnesses of later headers. */
export interface Touched {
  readonly runs: readonly string[];
  readonly keys: readonly StateMark[];
}

export interface Image {
  readonly segment: number;
  /** As errors name it, relative to the store's folder. */
  readonly file: string;
  readonly tables: Tables;
  readonly places: Map<string, Place>;
  readonly removed: Map<string, Removed>;
  /** Number of the last record that wrote a key of the shared state. */
  readonly stateRecords: Map<string, number>;
  readonly lostState: Map<string, LostValue>;
  /** What was decided of requests that wrote shared state, by their names (inbox.ts): their outcome, whoever is asked again. */
  readonly decided: Map<string, Asked[1]>;
  /** Above that, those that are answered are forgotten (decide.ts). */
  mostDecided: number;
  readonly quarantined: Map<string, Damage>;
  readonly quarantinedKeys: Map<string, string>;
  /** Of runs, made out in damaged records. */
  readonly keyHints: Map<string, NonNullable<Damage['key']>>;
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
  /** In bytes: what the last compaction has left. */
  snapshotLength: number;
  /** Of the latest records, for the witnesses of the next headers. */
  recent: Touched[];
}

export const segmentName = (segment: number): string => `${String(segment).padStart(8, '0')}.jsonl`;

/** About as many as wait in the inbox at a time, of a dozen processes (guest.ts). */
export const MOST_DECIDED = 1_024;

export const emptyImage = (segment: number, file: string, after?: Image): Image => ({
  segment,
  file,
  tables: new Tables(false), // a snapshot that is written is asked for nothing, and a log not before it is read (scan.ts)
  places: new Map(),
  removed: new Map(),
  stateRecords: new Map(),
  lostState: new Map(),
  decided: new Map(),
  mostDecided: MOST_DECIDED,
  quarantined: new Map(),
  quarantinedKeys: new Map(),
  keyHints: new Map(),
  missing: new Map(),
  losses: [],
  length: 0,
  n: after?.n ?? 0,
  fence: after?.fence ?? 0,
  head: after?.head ?? '',
  snapshotEnd: 0,
  snapshotLength: 0,
  recent: [],
});

export const keyText = (job: string, idempotencyKey: string): string => JSON.stringify([job, idempotencyKey]);

const keyOfRow = (row: RunRow | undefined): Damage['key'] =>
  row?.idempotencyKey === undefined ? undefined : [row.job, row.idempotencyKey];

/** A later record of a run that is put aside says what a damaged one did not: its key. */
function learn(image: Image, row: RunRow): void {
  const damage = image.quarantined.get(row.runId)!;
  const { job } = row;
  const key = keyOfRow(row) ?? damage.key; // what was known was perhaps made out in the damage itself
  image.quarantined.set(row.runId, { ...damage, job, ...(key && { key }) });
  if (key) image.quarantinedKeys.set(keyText(...key), row.runId);
}

/** Puts a run aside: it keeps its id and key, and answers `STORE_CORRUPT` to everything. */
export function quarantine(image: Image, damage: Damage & { readonly runId: string }): void {
  const { runId } = damage;
  if (image.quarantined.has(runId)) return;
  const row = image.tables.run(runId);
  const key = damage.key ?? keyOfRow(row) ?? image.keyHints.get(runId);
  const job = damage.job ?? row?.job;
  const kept = { ...damage, ...(job !== undefined && { job }), ...(key && { key }) };
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

export function remember(image: Image, header: Pick<Header, 'n' | 'f' | 'runs' | 'keys'>, head: string): void {
  image.n = header.n;
  image.fence = header.f;
  image.head = head;
  image.recent.push({ runs: header.runs.map(([runId]) => runId), keys: header.keys ?? [] });
  if (image.recent.length > WITNESSES[1]) image.recent.shift();
}

/** Number of the last record of a run; it goes on when the id of a deleted run is used again. */
export const revisionOf = ({ places, removed }: Image, runId: string): number =>
  places.get(runId)?.revision ?? removed.get(runId)?.revision ?? 0;

/** Whether the log says of this run of the archive that it is deleted. */
export const isRemoved = (image: Image | undefined, { runId, seq }: Pick<RunRow, 'runId' | 'seq'>): boolean =>
  seq <= (image?.removed.get(runId)?.seq ?? -1);

/** A record of a run at these offsets, before `tables` know of its row. */
export function extend(
  image: Image,
  row: RunRow,
  record: { readonly revision: number; readonly n: number; readonly isReset: boolean },
  from: number,
  to: number,
): void {
  const { revision, n, isReset } = record;
  const place = image.places.get(row.runId) ?? { revision, n, ranges: [] };
  const before = isReset ? 0 : (image.tables.run(row.runId)?.length ?? 0);
  image.places.set(row.runId, place);
  place.revision = revision;
  place.n = n;
  if (isReset) place.ranges.length = 0; // a reader under way has its own copy
  if (row.length <= before) return;
  if (place.ranges.at(-1) === from) place.ranges[place.ranges.length - 1] = to;
  else place.ranges.push(from, to);
}

/** A record that deletes a run. */
export function remove(image: Image, removed: Removed): void {
  const { runId } = removed;
  image.tables.dropRun(runId);
  image.places.delete(runId);
  image.removed.set(runId, removed);
  const damage = image.quarantined.get(runId);
  // What had put it aside does not matter any more; unless it is a later life of the same id that a snapshot knows of.
  if (!damage || removed.n <= image.snapshotEnd) return;
  image.quarantined.delete(runId);
  if (damage.key) image.quarantinedKeys.delete(keyText(...damage.key));
}

/** Takes over the gaps that a record's header reveals: lost records before it, of the store and of its runs. */
export function attribute(image: Image, header: Header, damage: Damage): void {
  // When nothing at all was believed before, all that is known to be lost is the record before this one.
  const from = image.n === 0 ? header.n - 1 : image.n + 1;
  if (image.length > 0) for (let n = from; n < header.n; n++) image.missing.set(n, damage);
  if (image.missing.size)
    for (const [index, distance] of WITNESSES.entries()) {
      const n = header.n - distance;
      const lost = image.missing.get(n);
      if (!lost) continue;
      for (const runId of header.was[index] ?? [])
        if ((image.removed.get(runId)?.n ?? 0) < n) quarantine(image, { ...lost, runId });
      for (const mark of header.wasKeys?.[index] ?? []) loseState(image, mark, lost, n);
      image.missing.delete(n);
    }
  for (const [runId, revision] of header.runs)
    if (!image.quarantined.has(runId) && revision !== revisionOf(image, runId) + 1)
      quarantine(image, { ...damage, runId });
}

/** Takes over a sound record. */
export function accept(image: Image, header: Header, head: string, state: RecordState, from: number, to: number): void {
  const { rows = [], reset, removed = [] } = state;
  const { n } = header;
  for (const [index, row] of rows.entries()) {
    if (image.quarantined.has(row.runId)) {
      learn(image, row);
      continue;
    }
    const isReset = reset?.includes(index) ?? false;
    extend(image, row, { revision: header.runs[index]![1], n, isReset }, from, to);
    image.tables.putRun(row);
  }
  for (const [index, removal] of removed.entries())
    remove(image, { ...removal, revision: header.runs[rows.length + index]![1], n });
  for (const event of state.events ?? []) image.tables.putEvent(event);
  for (const seq of state.drops ?? []) image.tables.dropEvent(seq);
  for (const row of state.shared ?? []) keepState(image, row.key, row, n);
  for (const key of state.unset ?? []) keepState(image, key, undefined, n);
  for (const [id, outcome] of state.asked ?? []) image.decided.set(id, outcome);
  if (state.clock) image.tables.lastClock = state.clock;
  if (state.snapshot) {
    image.snapshotEnd = n + state.snapshot.records;
    for (const damage of state.snapshot.quarantined)
      if (damage.runId !== undefined) quarantine(image, { ...damage, runId: damage.runId });
    for (const lost of state.snapshot.lost ?? []) image.lostState.set(lost.key, lost);
  }
  remember(image, header, head);
  image.length = to;
  if (n <= image.snapshotEnd) image.snapshotLength = to;
}

/** Takes over a record whose header is sound and whose rest is not: its runs are put aside, its values are lost. */
export function acceptDamaged(image: Image, header: Header, head: string, damage: Damage, to: number): void {
  for (const [runId] of header.runs) quarantine(image, { ...damage, runId });
  for (const mark of header.keys ?? []) loseState(image, mark, damage, header.n);
  const { seq } = image.tables.lastClock;
  image.tables.lastClock = { seq: Math.max(seq, header.seq) };
  remember(image, header, head);
  image.length = to;
}

/** Numbers that may have been given out by a record that is gone are not given out again. */
const LOST_SEQUENCE = 10_000;

/** Ends a scan: records that nothing later accounts for may have hit every run and key that has no later record. */
export function settle(image: Image): void {
  if (image.n === 0) {
    // Not a single record: a segment has one from its first moment.
    const damage = { file: image.file, offset: 0 };
    if (!image.losses.length) image.losses.push(damage);
    image.missing.set(1, damage);
  }
  if (image.n < image.snapshotEnd) {
    const damage = { file: image.file, offset: image.length };
    image.losses.push(damage);
    for (let n = image.n + 1; n <= image.snapshotEnd; n++) image.missing.set(n, damage);
    image.n = image.snapshotEnd;
  }
  if (!image.missing.size) return;
  let last = 0;
  for (const n of image.missing.keys()) last = Math.max(last, n);
  const damage = image.missing.get(last)!;
  for (const [runId, place] of [...image.places]) if (place.n < last) quarantine(image, { ...damage, runId });
  const { seq } = image.tables.lastClock;
  image.tables.lastClock = { seq: seq + LOST_SEQUENCE };
  loseStateBefore(image, last, damage);
  image.missing.clear();
}
