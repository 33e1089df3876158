import { crc32 } from 'node:zlib';
import type { CommitOutcome } from '../../src/store/batch.js';
import { FORMAT_VERSION, type JournalEntry } from '../../src/store/journal.js';
import type { EventRow, RunRow, StateRow } from '../../src/store/rows.js';
import type { StoreClock } from '../../src/store/transition/scope.js';
import type { Damage, LostValue } from './damage.js';

/*
 * One line of the log: one committed batch.
 *
 *   {"v":1,"n":7,"f":2,"g":7,"seq":4,"runs":[["id",3]],"was":[["id"],[]],"prev":"<crc>","size":[210,98],
 *    "sum":["<crc>","<crc>"],"head":"<crc>","state":{...},"journal":[...]}
 *
 * F1. `{"v":N,` opens and `"head"` checks the header in every version, for ever: so a newer one can be told from damage.
 * F2. `n` numbers the records without a gap, each run's pair numbers the records of that run: a lost record shows.
 * F3. The header has its own checksum and names the runs, so damage of the rest can be attributed to them; `was` names
 *     the runs of the records 1 and 16 before, so that a damaged header, or a damaged disk page, can be as well. `keys`
 *     and `wasKeys` do the same for the shared state, and are absent where there is nothing to name.
 * F4. `g` is the first record that was not known to be on disk when this one was written: only what comes after the
 *     last record with another `g` can be torn. `f` is the fence of the lock that the writer held.
 * F5. `state` (rows, events, shared values) is all that a start-up parses; `journal[i]`, entries of the i-th run, stays
 *     on disk. A run that is `reset` begins anew there: no earlier record holds any of its journal.
 * F6. The last of the header's runs are those that the record deletes. Their pairs are numbered on, also when the same
 *     id is used again later: a gap shows whichever life of the run has lost a record.
 */

/** Distances of the earlier records whose runs a header names. */
export const WITNESSES = [1, 16] as const;

/**
 * A shared value that a record writes: its key, from when on nothing but the token of it matters (`null`: never, 0: it is
 * deleted, or a lock that is free), and that token.
 */
export type StateMark = readonly [key: string, until: number | null, token?: number];

/** A deleted run: what the archive may still hold of it does not count. */
export interface Removal {
  readonly runId: string;
  /** Only of what the archive holds up to this number: the id may have been used again since. */
  readonly seq: number;
  readonly key?: readonly [job: string, idempotencyKey: string];
}

export interface Header {
  readonly v: number;
  readonly n: number;
  readonly f: number;
  readonly g: number;
  readonly seq: number;
  readonly runs: readonly (readonly [runId: string, revision: number])[];
  readonly was: readonly (readonly string[])[];
  readonly keys?: readonly StateMark[];
  readonly wasKeys?: readonly (readonly StateMark[])[];
  /** `head` of the record before. */
  readonly prev: string;
  readonly size: readonly [state: number, journal: number];
  readonly sum: readonly [state: string, journal: string];
}

/** What was decided of a request of another process, by its name. */
export type Asked = readonly [id: string, outcome: CommitOutcome];

/** The part of a record that is kept in memory. */
export interface RecordState {
  /** In the order of the header's `runs`. */
  readonly rows?: readonly RunRow[];
  /** Which of the rows are `reset`. */
  readonly reset?: readonly number[];
  /** In the order of the header's `runs`, after the rows. */
  readonly removed?: readonly Removal[];
  readonly events?: readonly EventRow[];
  readonly drops?: readonly number[];
  /** Rows of the shared state, and keys without one from now on. */
  readonly shared?: readonly StateRow[];
  readonly unset?: readonly string[];
  /** The request that asked for this record; of a snapshot, those that may be asked for again. Older code reads past it. */
  readonly asked?: readonly Asked[];
  readonly clock?: StoreClock;
  /** The first record of a segment: how many records its snapshot has, and what earlier damage has cost. */
  readonly snapshot?: {
    readonly segment: number;
    readonly records: number;
    readonly quarantined: readonly Damage[];
    readonly lost?: readonly LostValue[];
  };
}

export type Found =
  | {
      readonly kind: 'record';
      readonly header: Header;
      readonly head: string;
      readonly end: number;
      readonly state: readonly [from: number, to: number];
      readonly journal: readonly [from: number, to: number];
    }
  /** The header is sound, what it describes is not, or not all there. */
  | { readonly kind: 'damaged' | 'cut'; readonly header: Header; readonly head: string; readonly end: number }
  /** The header is sound and of a version that this code does not know. */
  | { readonly kind: 'too-new'; readonly version: number }
  | { readonly kind: 'garbage' };

const HEAD = Buffer.from(',"head":"');
const STATE = '","state":';
const JOURNAL = ',"journal":';
const END = '}\n';
const NEWLINE = 10;
/** Most headers are found within this, without a look at how long their line is. */
const HEAD_NEAR = 1 << 16;
const OPENING = Buffer.from('{"v":');
const STATE_MARK = Buffer.from(STATE);
const JOURNAL_MARK = Buffer.from(JOURNAL);

/** Byte by byte: for a few bytes faster than any call of `Buffer`, and a start-up does it for each record. */
function hasText(bytes: Buffer, at: number, text: Buffer): boolean {
  for (let index = 0; index < text.length; index++) if (bytes[at + index] !== text[index]) return false;
  return true;
}

const hex = (sum: number): string => sum.toString(16).padStart(8, '0');
const checksum = (bytes: string | Buffer): string => hex(crc32(bytes));
/** For sums of a header that is sound itself: numbers are compared faster than texts. */
const fits = (bytes: Buffer, sum: string): boolean => crc32(bytes) === Number.parseInt(sum, 16);

/** A record as text, with the checksum of its header for the next one. */
export function encodeRecord(
  place: Omit<Header, 'v' | 'size' | 'sum'>,
  state: string,
  journal: string,
): { line: string; head: string } {
  const { n, f, g, seq, runs, was, keys, wasKeys, prev } = place;
  const size = [Buffer.byteLength(state), Buffer.byteLength(journal)];
  const sum = [checksum(state), checksum(journal)];
  const header = Object.assign(
    { v: FORMAT_VERSION, n, f, g, seq, runs, was },
    keys?.length && { keys },
    wasKeys?.some((marks) => marks.length) && { wasKeys },
    { prev, size, sum },
  );
  const text = JSON.stringify(header).slice(0, -1);
  const head = checksum(text);
  return { line: `${text},"head":"${head}${STATE}${state}${JOURNAL}${journal}${END}`, head };
}

function parseHeader(bytes: Buffer): Header | undefined {
  try {
    return JSON.parse(bytes.toString('utf8') + '}') as Header;
  } catch {
    return undefined; // not a header, whatever its checksum: the caller treats it as damage
  }
}

/** Reads the record that begins at `at`. Nothing is believed that its checksum does not confirm. */
export function findRecord(bytes: Buffer, at: number): Found {
  if (!hasText(bytes, at, OPENING)) return { kind: 'garbage' };
  let mark = bytes.subarray(at, at + HEAD_NEAR).indexOf(HEAD);
  // The header of a commit of thousands of runs is longer, but never longer than its line.
  if (mark < 0) mark = bytes.subarray(at, lineEnd(bytes, at)).indexOf(HEAD);
  if (mark < 0) return { kind: 'garbage' };
  const text = bytes.subarray(at, at + mark);
  const headAt = at + mark + HEAD.length;
  const head = bytes.toString('latin1', headAt, headAt + 8);
  if (checksum(text) !== head) return { kind: 'garbage' };
  const header = parseHeader(text);
  if (!header) return { kind: 'garbage' };
  if (header.v > FORMAT_VERSION) return { kind: 'too-new', version: header.v };
  const stateAt = headAt + 8 + STATE.length;
  const stateEnd = stateAt + header.size[0];
  const journalAt = stateEnd + JOURNAL.length;
  const journalEnd = journalAt + header.size[1];
  const end = journalEnd + END.length;
  if (end > bytes.length) return { kind: 'cut', header, head, end };
  const sound =
    hasText(bytes, headAt + 8, STATE_MARK) &&
    hasText(bytes, stateEnd, JOURNAL_MARK) &&
    fits(bytes.subarray(stateAt, stateEnd), header.sum[0]) &&
    fits(bytes.subarray(journalAt, journalEnd), header.sum[1]);
  // The last two bytes carry nothing: damage of them alone costs nothing.
  if (!sound) return { kind: 'damaged', header, head, end };
  return { kind: 'record', header, head, end, state: [stateAt, stateEnd], journal: [journalAt, journalEnd] };
}

const SIZES = /"size":\[(\d+),(\d+)\],"sum":\["\w{8}","(\w{8})"\]$/;
const SIZES_LENGTH = 80;

/**
 * The journals of a record that was found sound before: its header is checked again, of the rest only they are, and the
 * header is parsed only where there are several. `undefined`: it is damaged by now.
 */
export function journalsAt(
  bytes: Buffer,
  at: number,
): { readonly journals: JournalEntry[][]; readonly runs: () => Header['runs']; readonly end: number } | undefined {
  const mark = bytes.subarray(at, at + HEAD_NEAR).indexOf(HEAD);
  const text = bytes.subarray(at, at + mark);
  const sizes = mark > 0 && SIZES.exec(text.toString('latin1', Math.max(0, mark - SIZES_LENGTH)));
  if (!sizes || checksum(text) !== bytes.toString('latin1', at + mark + HEAD.length, at + mark + HEAD.length + 8)) {
    const found = findRecord(bytes, at); // a very long header, or damage
    if (found.kind !== 'record') return undefined;
    return { journals: journalsOf(bytes, found), runs: () => found.header.runs, end: found.end };
  }
  const from = at + mark + HEAD.length + 8 + STATE.length + Number(sizes[1]) + JOURNAL.length;
  const journal = bytes.subarray(from, from + Number(sizes[2]));
  if (!fits(journal, sizes[3]!)) return undefined;
  const end = from + journal.length + END.length;
  return { journals: JSON.parse(journal.toString('utf8')), runs: () => parseHeader(text)!.runs, end };
}

/** Where the line at `at` ends: after its newline, or with the bytes. */
export function lineEnd(bytes: Buffer, at: number): number {
  const newline = bytes.indexOf(NEWLINE, at);
  return newline < 0 ? bytes.length : newline + 1;
}

export const stateOf = (bytes: Buffer, found: Found & { kind: 'record' }): RecordState =>
  JSON.parse(bytes.toString('utf8', ...found.state)) as RecordState;

const journalsOf = (bytes: Buffer, found: Found & { kind: 'record' }): JournalEntry[][] =>
  JSON.parse(bytes.toString('utf8', ...found.journal)) as JournalEntry[][];

/** What no header has: control characters, and bytes that are none of UTF-8. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
const NO_TEXT = /[\x00-\x1f\ufffd]/g;
const FEW = 4;

/** What a record whose header is damaged wrote, if the rest still reads: a guess, used only to name what may be hit. */
export function guessTouched(line: Buffer): { runs: string[]; marks: StateMark[] } | undefined {
  // What does not even begin like a record may be the rest of another one, behind it.
  if (OPENING.filter((byte, index) => line[index] === byte).length < OPENING.length - 2) return undefined;
  const text = line.toString('utf8');
  const from = text.indexOf(STATE);
  const to = text.lastIndexOf(JOURNAL);
  if (from < 0 || to < from) return undefined;
  // A stretch may have swallowed the end of its line and the beginning of a later one, whose rest would tell of that alone.
  if ((text.slice(0, from).match(NO_TEXT)?.length ?? 0) > FEW) return undefined;
  try {
    const state = JSON.parse(text.slice(from + STATE.length, to)) as RecordState;
    const { rows = [], removed = [] } = state;
    return { runs: [...rows, ...removed].map(({ runId }) => runId), marks: marksOf(state) };
  } catch {
    return undefined; // the rest is damaged too: the caller suspects more
  }
}

const TEXT = '("(?:[^"\\\\]|\\\\.)*")';
const KEYED = new RegExp(`"runId":${TEXT},"job":${TEXT}[^{}]*?"idempotencyKey":${TEXT}`, 'g');

/**
 * The idempotency keys of runs, as far as they can be made out in a damaged record: guesses, so that a key still leads to
 * its run, which is put aside, and does not start a second one (spec Q1, D3).
 */
export function guessKeys(line: Buffer): Map<string, readonly [job: string, idempotencyKey: string]> {
  const found = new Map<string, readonly [string, string]>();
  for (const [, ...texts] of line.toString('utf8').matchAll(KEYED))
    try {
      const [runId, job, key] = texts.map((text) => JSON.parse(text) as string);
      found.set(runId!, [job!, key!]);
    } catch {
      // no text any more: nothing to be made out of it
    }
  return found;
}

/** What a header says of the shared values of its record. */
export const marksOf = ({ shared = [], unset = [] }: Pick<RecordState, 'shared' | 'unset'>): StateMark[] => [
  ...shared.map(markOf),
  ...unset.map((key): StateMark => [key, 0]),
];

/** Of a lock only the token counts once its time is over (transition/state.ts). */
export const markOf = ({ key, value, expiresAt, token }: StateRow): StateMark =>
  token === undefined
    ? [key, expiresAt ?? null]
    : [key, (value as { readonly heldUntil?: number }).heldUntil ?? 0, token];
