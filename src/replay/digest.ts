import {
  type Identity,
  identityKey,
  isOutcome,
  type JournalEntry,
  namespaceOf,
  type RecordedError,
} from '../store/journal.js';
import { pairKey } from '../store/transition/scope.js';
import type { Json } from '../values/json.js';
import { LazyMap, LazySet } from '../values/lazy-map.js';
import { forgetNames, generationsUsed, rename, retried } from './forget.js';
import type { Recorded } from './replay.js';

/*
 * What a journal says, folded forward entry by entry: the same for a live run and for one that was just loaded.
 */

type EntryOf<K extends JournalEntry['kind']> = Extract<JournalEntry, { readonly kind: K }>;

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
  readonly failures: Map<string, Failures>;
  /** Open when there is no outcome of the same key; the same for waits. */
  readonly sleeps: Map<string, EntryOf<'sleep-set'> & Placed>;
  readonly waits: Map<string, EntryOf<'wait-set'> & Placed>;
  /** Children whose end is awaited. */
  readonly children: Map<string, EntryOf<'child-set'>>;
  /**
   * Steps to undo should the run fail or be cancelled: completed, or begun and not known to have failed; oldest first.
   * `isUnknown`: an attempt of it has timed out, whatever came of others.
   */
  readonly undos: Map<string, EntryOf<'undo-set'> & Placed & { readonly isUnknown?: true }>;
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
  /** Journal indexes of all interrupted claims. */
  readonly interruptedAt: number[];
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
  /** Log lines of the run, and those of them that the handler itself wrote. */
  logs: number;
  handlerLogs: number;
  /** From when the timeout of its job counts: its first claim, or the first one after a retry. */
  begunAt: number | undefined;
  /** How long no code at hand could go on with it, and since when that is so. */
  blockedMs: number;
  blockedSince: number | undefined;
  end: EntryOf<'completed' | 'failed' | 'cancelled'> | undefined;
}

/** Under which the number of an increment of a step is found. */
export const incrementKey = ({ key, nth }: { readonly key: string; readonly nth: number }): string =>
  JSON.stringify([key, nth]);

/** Kinds that tell what an identity is recorded as. */
const SHAPES = /^(step|attempt|value|sleep|wait|child)-|^event-taken/;

/** Of an entry without a value, as many as make a line. */
const LINE = 100;
const bytesOf = (entry: JournalEntry): number => {
  const { value, payload, error, data } = entry as { readonly [field: string]: Json | undefined };
  const kept = value ?? payload ?? error ?? data;
  return LINE + (typeof kept === 'string' ? kept.length : kept instanceof Object ? JSON.stringify(kept).length : 0);
};

const add = (digest: Digest, entry: JournalEntry): void => {
  const index = digest.entries.push(entry) - 1;
  digest.bytes += bytesOf(entry);
  const key = 'id' in entry && entry.id ? identityKey(namespaceOf(entry), entry.id) : '';
  if (key && SHAPES.test(entry.kind)) digest.shapes.set(key, entry);
  if (isOutcome(entry)) {
    const at = entry.before === undefined ? -1 : digest.outcomes.findIndex(({ index }) => index === entry.before);
    digest.outcomes.splice(at < 0 ? digest.outcomes.length : at, 0, { key, index, entry });
    digest.outcomeKeys.add(key);
    digest.handlerFailures = undefined;
  }
  if (!/^(claimed|released|logged)$/.test(entry.kind)) digest.interruptions = 0;
  switch (entry.kind) {
    case 'started':
      digest.payload = entry.payload;
      digest.retry = entry.retry;
      digest.schedule = entry.schedule;
      digest.isFork = entry.forkedFrom !== undefined;
      digest.generation = entry.generation ?? 0;
      if (entry.generation) digest.begunAt = entry.at; // in the hands of its owner
      for (const [pair, seq] of entry.floors ?? []) digest.lastTaken.set(pair, seq);
      for (const [pair, seqs] of entry.left ?? []) digest.left.set(pair, seqs);
      break;
    case 'rescheduled':
      digest.payload = entry.payload;
      break;
    case 'imported':
      // Events are numbered by their store.
      digest.takenSeqs.clear();
      digest.lastTaken.clear();
      digest.skipped.clear();
      digest.left.clear();
      break;
    case 'released':
      if (entry.blocked) digest.blockedSince = entry.at;
      break;
    case 'claimed':
      digest.begunAt ??= entry.at;
      if (digest.blockedSince !== undefined) digest.blockedMs += Math.max(0, entry.at - digest.blockedSince);
      digest.blockedSince = undefined;
      if (!entry.interrupted) break;
      digest.interruptions++;
      digest.interruptedAt.push(index);
      break;
    case 'step-failed':
      failed(digest, key, entry);
      break;
    case 'attempt-failed':
      failed(digest, key, entry); // the next attempt is recorded again, once it begins
      digest.failures.set(key, { ...entry, count: (digest.failures.get(key)?.count ?? 0) + 1 });
      break;
    case 'handler-failed':
      digest.handlerFailures = { ...entry, count: (digest.handlerFailures?.count ?? 0) + 1 };
      break;
    case 'sleep-set':
      digest.sleeps.set(key, Object.assign({ index }, entry));
      break;
    case 'wait-set':
      digest.waits.set(key, Object.assign({ index }, entry));
      break;
    case 'child-set':
      digest.children.set(key, entry);
      break;
    case 'undo-set':
      digest.undos.set(key, Object.assign({ index }, entry));
      break;
    case 'undone':
    case 'undo-failed':
      digest.undone.set(key, entry.kind);
      break;
    case 'undo-attempt-failed':
      digest.undoFailures.set(key, { ...entry, count: (digest.undoFailures.get(key)?.count ?? 0) + 1 });
      break;
    case 'state-incremented':
      digest.increments.set(key, new Map(digest.increments.get(key)).set(incrementKey(entry), entry.value));
      break;
    case 'event-skipped':
      digest.skipped.add(`${key}:${entry.seq}`);
      break;
    case 'logged':
      digest.logs++;
      if (!entry.id && !entry.earlier) digest.handlerLogs++;
      break;
    case 'event-taken':
      take(digest, entry);
      break;
    case 'drift':
      for (const [namespace, ...id] of entry.ids) digest.aside.add(identityKey(namespace, id));
      digest.slack += entry.slack;
      break;
    case 'upgraded':
      if (entry.payload !== undefined) digest.payload = entry.payload;
      if (entry.renames?.length) rename(digest, new Map(entry.renames));
      digest.forgotten.push(...(entry.forgets ?? []));
      if (!digest.end) forgetNames(digest);
      break;
    case 'retried':
      retried(digest, entry);
      break;
    case 'completed':
    case 'failed':
    case 'cancelled':
      digest.end = entry;
  }
};

/** What has failed has nothing to undo; of what was only given up waiting for, nobody knows (spec F7). */
function failed({ undos }: Digest, key: string, { error }: EntryOf<'attempt-failed' | 'step-failed'>): void {
  const undo = undos.get(key);
  if (undo && error.code === 'STEP_TIMEOUT') undos.set(key, { ...undo, isUnknown: true });
  else if (!undo?.isUnknown) undos.delete(key);
}

/** Notes which events of a pair are taken, in a form that does not grow with their number. */
function take({ takenSeqs, lastTaken, left }: Digest, { seq, event, key, over = [] }: EntryOf<'event-taken'>): void {
  const pair = pairKey(event, key);
  takenSeqs.add(seq);
  const last = Math.max(seq, lastTaken.get(pair) ?? 0);
  lastTaken.delete(pair);
  lastTaken.set(pair, last);
  const rest = [...(left.get(pair) ?? []).filter((other) => other !== seq), ...over];
  if (rest.length) left.set(pair, rest);
  else left.delete(pair);
}

/** The generation of the journal that `step.restart` puts in the place of this one: no key of this one is used again. */
export const nextGeneration = (digest: Digest): number => digest.generation + generationsUsed(digest) + 1;

/** Generation and name that an idempotency key has of a step (spec R2): those of all its attempts, whatever it is called now. */
export function originOf(
  digest: Digest,
  key: string,
  [name, occurrence]: Identity,
): [generation: number, id: Identity] {
  const { name: first, beyond } = digest.names.get(name) ?? { name, beyond: 0 };
  return [digest.generation + beyond + (digest.generations.get(key) ?? 0), [first, occurrence]];
}

/** Reads a journal. */
export function digestOf(entries: readonly JournalEntry[]): Digest {
  const digest: Digest = {
    entries: [],
    outcomes: [],
    outcomeKeys: new Set(),
    shapes: new Map(),
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
    payload: null,
    retry: undefined,
    schedule: undefined,
    isFork: false,
    generation: 0,
    handlerFailures: undefined,
    bytes: 0,
    logs: 0,
    handlerLogs: 0,
    begunAt: undefined,
    blockedMs: 0,
    blockedSince: undefined,
    end: undefined,
  };
  for (const entry of entries) add(digest, entry);
  return digest;
}

/** Steps that are still to be undone, should the run have ended. */
export const undosLeft = ({ undos, undone }: Digest): string[] => [...undos.keys()].filter((key) => !undone.has(key));

/** Folds new entries in. */
export const extend = (digest: Digest, entries: readonly JournalEntry[]): void => {
  for (const entry of entries) add(digest, entry);
};

/** The attempt number of a function that is entered now: every failure and every interruption since it was asked for. */
export function attemptOf(digest: Digest, key: string, released: number): number {
  const since = released ? (digest.outcomes[released - 1]?.index ?? 0) : 0;
  return 1 + (digest.failures.get(key)?.count ?? 0) + interruptionsSince(digest, since);
}

/** That of one which undoes: every failure of undoing, and every interruption since the one before was over (spec R2). */
export function undoAttemptOf(digest: Digest, key: string): number {
  const isOver = digest.entries.map(({ kind }) => /^(failed|cancelled|undone|undo-failed)$/.test(kind));
  return 1 + (digest.undoFailures.get(key)?.count ?? 0) + interruptionsSince(digest, isOver.lastIndexOf(true));
}

const interruptionsSince = ({ interruptedAt }: Digest, since: number): number =>
  interruptedAt.filter((index) => index > since).length;
