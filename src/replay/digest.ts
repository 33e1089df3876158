import type { JournalEntry, RecordedError } from '../store/journal.js';
import type { Json } from '../values/json.js';
import { LazyMap, LazySet } from '../values/lazy-map.js';
import { fold } from './fold.js';
import type { Recorded } from './replay.js';

/*
 * What a journal says: the same for a live run and for one that was just loaded.
 */

export type EntryOf<K extends JournalEntry['kind']> = Extract<JournalEntry, { readonly kind: K }>;

/** Failed attempts of one identity, or of the handler. */
export interface Failures {
  readonly count: number;
  /** The number of the last one. */
  readonly attempt: number;
  /** When the last one failed, and when the next one is due. */
  readonly at: number;
  readonly retryAt: number;
  readonly error: RecordedError;
}

/** An entry that has a place in the journal. */
interface Placed {
  readonly index: number;
}

/** The state that a journal adds up to. */
export interface Digest {
  readonly entries: JournalEntry[];
  /** In the order of their release. */
  readonly outcomes: Recorded[];
  readonly outcomeKeys: Set<string>;
  /** The latest entry of each identity: what it is recorded as. */
  readonly shapes: Map<string, JournalEntry>;
  /** The journal index of the first entry of each that is open: it has no outcome yet. */
  readonly since: Map<string, number>;
  /** Nothing of it was forgotten, and it is all of this run's own life. */
  isWhole: boolean;
  readonly failures: Map<string, Failures>;
  /** Open when there is no outcome of the same key; the same for waits. */
  readonly sleeps: Map<string, EntryOf<'sleep-set'> & Placed>;
  readonly waits: Map<string, EntryOf<'wait-set'> & Placed>;
  /** Children whose end is awaited. */
  readonly children: Map<string, EntryOf<'child-set'>>;
  /**
   * Steps to undo should the run fail or be cancelled: completed, or begun and not known to have failed; oldest first.
   * `isUnknown`: an attempt of it has timed out or was cut off, whatever came of others. `runId`: done in an import, before
   * it was given its present id.
   */
  readonly undos: Map<string, EntryOf<'undo-set'> & Placed & { readonly runId?: string }>;
  /** What came of undoing: the step is undone, or that was given up. */
  readonly undone: Map<string, 'undone' | 'undo-failed'>;
  readonly undoFailures: Map<string, Failures>;
  /** How often an identity was begun anew: part of its idempotency key (spec R2). */
  readonly generations: Map<string, number>;
  /**
   * What a name is called in idempotency keys, where `migrate` has renamed: as it was first known, and from which generation
   * on, if a name was given away and something new has it now.
   */
  readonly names: Map<string, { readonly name: string; readonly beyond: number }>;
  /** Numbers that increments of a step have returned. */
  readonly increments: Map<string, Map<string, number>>;
  /** Events that the schema of a wait has refused. */
  readonly skipped: Set<string>;
  readonly takenSeqs: Set<number>;
  /** Up to there all events of a pair were taken, but for those that were left; the latest pair comes last. */
  readonly lastTaken: Map<string, number>;
  readonly left: Map<string, readonly number[]>;
  readonly aside: Set<string>;
  /** Names that `migrate` forgets though the run has ended: what is to be undone still counts. */
  readonly forgotten: string[];
  slack: number;
  /** Interruptions in a row since the last progress (spec F5). */
  interruptions: number;
  /** Journal indexes of all interrupted claims, and of the last one of any kind. */
  readonly interruptedAt: number[];
  claimedAt: number;
  /** The payload that counts, and the retry options of the start. */
  payload: Json;
  retry: Json | undefined;
  schedule: EntryOf<'started'>['schedule'];
  /** It begins with what another run has recorded. */
  isFork: boolean;
  /** The run's own: how often `step.restart` began it anew. */
  generation: number;
  handlerFailures: Failures | undefined;
  /** Characters of JSON in all values, about. */
  bytes: number;
  /** Log lines of the run, and those that the handler itself wrote after `turnedAt`. */
  logs: number;
  handlerLogs: number;
  /** Journal index of the last retry of the run, or failure of its handler: from there on it may go another way. */
  turnedAt: number;
  /** From when the timeout of its job counts: its first claim, or the first one after a retry. */
  begunAt: number | undefined;
  /** How long no code at hand could go on with it, and since when that is so. */
  blockedMs: number;
  blockedSince: number | undefined;
  end: EntryOf<'completed' | 'failed' | 'cancelled'> | undefined;
}

/** Reads a journal. */
export function digestOf(entries: readonly JournalEntry[]): Digest {
  const digest: Digest = {
    entries: [],
    outcomes: [],
    outcomeKeys: new Set(),
    shapes: new Map(),
    since: new LazyMap(),
    isWhole: true,
    failures: new LazyMap(),
    sleeps: new LazyMap(),
    waits: new LazyMap(),
    children: new LazyMap(),
    undos: new LazyMap(),
    undone: new LazyMap(),
    undoFailures: new LazyMap(),
    generations: new LazyMap(),
    names: new LazyMap(),
    increments: new LazyMap(),
    skipped: new LazySet(),
    takenSeqs: new LazySet(),
    lastTaken: new LazyMap(),
    left: new LazyMap(),
    aside: new LazySet(),
    forgotten: [],
    slack: 0,
    interruptions: 0,
    interruptedAt: [],
    claimedAt: 0,
    payload: null,
    retry: undefined,
    schedule: undefined,
    isFork: false,
    generation: 0,
    handlerFailures: undefined,
    bytes: 0,
    logs: 0,
    handlerLogs: 0,
    turnedAt: 0,
    begunAt: undefined,
    blockedMs: 0,
    blockedSince: undefined,
    end: undefined,
  };
  extend(digest, entries);
  return digest;
}

/** Steps that are still to be undone, should the run have ended. */
export const undosLeft = ({ undos, undone }: Digest): string[] => [...undos.keys()].filter((key) => !undone.has(key));

/** Folds new entries in. */
export const extend = (digest: Digest, entries: readonly JournalEntry[]): void => {
  for (const entry of entries) fold(digest, entry);
};
