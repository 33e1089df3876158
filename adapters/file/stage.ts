import type { JournalEntry } from '../../src/store/journal.js';
import type { StateRow } from '../../src/store/rows.js';
import type { Writes } from '../../src/store/transition/scope.js';
import { extend, type Image, remember, remove, revisionOf } from './image.js';
import { type Asked, encodeRecord, marksOf, type RecordState, type Removal, WITNESSES } from './record.js';
import { noteState } from './shared.js';

/** What becomes one record. */
export interface Staged {
  readonly writes: Writes;
  /** What is to be remembered of the runs in `writes.deletes`. */
  readonly removals?: readonly Removal[];
  /** Entries that are text already. */
  readonly texts?: ReadonlyMap<JournalEntry, string>;
  /** The request of another process that asked for it. */
  readonly asked?: Asked | undefined;
}

/**
 * Encodes what a committed transition writes and carries the image on. The line is not on disk yet: whoever calls this
 * shows the image to nobody before it is, and builds it anew if that fails.
 */
export function stage(
  image: Image,
  { writes, removals = [], texts, asked }: Staged,
  fence: number,
  group: number,
): string {
  const runs = [...writes.runs.values()];
  const { clock } = writes;
  const { state, keys } = encodeState(writes, removals, asked);
  const textOf = (entry: JournalEntry) => texts?.get(entry) ?? JSON.stringify(entry);
  const journal = `[${runs.map(({ append }) => `[${append.map(textOf).join(',')}]`).join(',')}]`;
  const touched = [...runs.map(({ row }) => row.runId), ...removals.map(({ runId }) => runId)];
  const pairs = touched.map((runId) => [runId, revisionOf(image, runId) + 1] as const);
  const n = image.n + 1;
  const header = { n, f: fence, g: group, seq: clock.seq, runs: pairs, keys, ...witnesses(image), prev: image.head };
  const { line, head } = encodeRecord(header, state, journal);
  const to = image.length + Buffer.byteLength(line);
  for (const [index, { row, reset: isReset = false }] of runs.entries())
    extend(image, row, { revision: pairs[index]![1], n, isReset }, image.length, to);
  image.tables.apply(writes);
  for (const [index, removal] of removals.entries())
    remove(image, { ...removal, revision: pairs[runs.length + index]![1], n });
  for (const key of writes.state.keys()) noteState(image, key, n);
  if (asked) image.decided.set(...asked);
  remember(image, header, head);
  image.length = to;
  return line;
}

/** Encoding may throw (nesting too deep): it is done before anything in memory changes. */
function encodeState({ runs, events, drops, state, clock }: Writes, removed: readonly Removal[], asked?: Asked) {
  const rows = [...runs.values()];
  const reset = rows.flatMap((run, index) => (run.reset ? [index] : []));
  const shared: StateRow[] = [];
  const unset: string[] = [];
  for (const [key, row] of state)
    if (row) shared.push(row);
    else unset.push(key);
  const written: { -readonly [K in keyof RecordState]: RecordState[K] } = {};
  if (rows.length) written.rows = rows.map(({ row }) => row);
  if (reset.length) written.reset = reset;
  if (removed.length) written.removed = removed;
  if (events.size) written.events = [...events.values()];
  if (drops.size) written.drops = [...drops];
  if (shared.length) written.shared = shared;
  if (unset.length) written.unset = unset;
  if (asked) written.asked = [asked];
  written.clock = clock;
  return { state: JSON.stringify(written), keys: marksOf({ shared, unset }) };
}

/** What the records 1 and 16 before the next one have touched. */
export function witnesses({ recent }: Pick<Image, 'recent'>) {
  const seen = WITNESSES.map((distance) => recent[recent.length - distance]);
  return { was: seen.map((touched) => touched?.runs ?? []), wasKeys: seen.map((touched) => touched?.keys ?? []) };
}
