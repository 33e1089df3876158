import {
  identityKey,
  isOutcome,
  type JournalEntry,
  type Namespace,
  namespaceOf,
  type RecordedError,
} from './journal.js';
import type { Recorded } from './replay.js';
import { pairKey } from './transition.js';

/*
 * What a journal says, folded forward entry by entry: the same for a live run and for one that was just loaded.
 */

type EntryOf<K extends JournalEntry['kind']> = Extract<JournalEntry, { readonly kind: K }>;

/** Failed attempts of one identity, or of the handler. */
export interface Failures {
  readonly count: number;
  readonly retryAt: number;
  readonly error: RecordedError;
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
  readonly sleeps: Map<string, EntryOf<'sleep-set'>>;
  readonly waits: Map<string, EntryOf<'wait-set'>>;
  readonly takenSeqs: Set<number>;
  /** The last event taken from a pair: earlier ones need not be looked at again. */
  readonly lastTaken: Map<string, number>;
  readonly aside: Set<string>;
  slack: number;
  /** Interruptions in a row since the last progress (spec F5). */
  interruptions: number;
  /** Journal indexes of all interrupted claims. */
  readonly interruptedAt: number[];
  handlerFailures: Failures | undefined;
  end: EntryOf<'completed' | 'failed' | 'cancelled'> | undefined;
}

const add = (digest: Digest, entry: JournalEntry): void => {
  const index = digest.entries.push(entry) - 1;
  const key = 'id' in entry ? identityKey(namespaceOf(entry), entry.id) : '';
  if (key) digest.shapes.set(key, entry);
  if (isOutcome(entry)) {
    const at = entry.before === undefined ? -1 : digest.outcomes.findIndex(({ index }) => index === entry.before);
    digest.outcomes.splice(at < 0 ? digest.outcomes.length : at, 0, { key, index, entry });
    digest.outcomeKeys.add(key);
    digest.handlerFailures = undefined;
  }
  if (entry.kind !== 'claimed' && entry.kind !== 'released') digest.interruptions = 0;
  switch (entry.kind) {
    case 'claimed':
      if (!entry.interrupted) break;
      digest.interruptions++;
      digest.interruptedAt.push(index);
      break;
    case 'attempt-failed':
      digest.failures.set(key, { ...entry, count: (digest.failures.get(key)?.count ?? 0) + 1 });
      break;
    case 'handler-failed':
      digest.handlerFailures = { ...entry, count: (digest.handlerFailures?.count ?? 0) + 1 };
      break;
    case 'sleep-set':
      digest.sleeps.set(key, entry);
      break;
    case 'wait-set':
      digest.waits.set(key, entry);
      break;
    case 'event-taken':
      digest.takenSeqs.add(entry.seq);
      digest.lastTaken.set(pairKey(entry.event, entry.key), entry.seq);
      break;
    case 'drift':
      for (const [namespace, ...id] of entry.ids) digest.aside.add(identityKey(namespace, id));
      digest.slack += entry.slack;
      break;
    case 'retried':
      for (const [namespace, ...id] of entry.forgets) forget(digest, identityKey(namespace, id));
      digest.handlerFailures = undefined;
      digest.end = undefined;
      break;
    case 'completed':
    case 'failed':
    case 'cancelled':
      digest.end = entry;
  }
};

/** Entries of this identity so far no longer count. */
function forget(digest: Digest, key: string): void {
  digest.sleeps.delete(key);
  digest.waits.delete(key);
  digest.failures.delete(key);
  digest.shapes.delete(key);
  digest.outcomeKeys.delete(key);
  const at = digest.outcomes.findIndex((recorded) => recorded.key === key);
  if (at >= 0) digest.outcomes.splice(at, 1);
}

/** Reads a journal. */
export function digestOf(entries: readonly JournalEntry[]): Digest {
  const digest: Digest = {
    entries: [],
    outcomes: [],
    outcomeKeys: new Set(),
    shapes: new Map(),
    failures: new Map(),
    sleeps: new Map(),
    waits: new Map(),
    takenSeqs: new Set(),
    lastTaken: new Map(),
    aside: new Set(),
    slack: 0,
    interruptions: 0,
    interruptedAt: [],
    handlerFailures: undefined,
    end: undefined,
  };
  for (const entry of entries) add(digest, entry);
  return digest;
}

/** Folds new entries in. */
export const extend = (digest: Digest, entries: readonly JournalEntry[]): void => {
  for (const entry of entries) add(digest, entry);
};

/** What `runs.retry` has to forget (spec F6). */
export function forgetsFor(
  digest: Digest,
  from: string | undefined,
): readonly (readonly [Namespace, string, number])[] {
  const reachable = new Set<string>();
  const collect = (error: RecordedError | undefined) => {
    if (!error) return;
    if (error.identity) reachable.add(JSON.stringify(error.identity));
    collect(error.cause);
    error.errors?.forEach(collect);
  };
  if (from === undefined) collect(digest.end?.kind === 'failed' ? digest.end.error : undefined);
  const isFailure = (kind: string) => kind === 'step-failed' || kind === 'wait-timed-out';
  let isPast = false;
  const ids: (readonly [Namespace, string, number])[] = [];
  for (const { key, entry } of digest.outcomes) {
    isPast ||= from === undefined ? isFailure(entry.kind) && reachable.has(key) : entry.id[0] === from;
    if (isPast && (from !== undefined || isFailure(entry.kind))) ids.push([namespaceOf(entry), ...entry.id] as const);
  }
  if (from !== undefined)
    for (const key of digest.failures.keys()) {
      const [namespace, name, occurrence] = JSON.parse(key) as [Namespace, string, number];
      if (isPast && !digest.outcomeKeys.has(key)) ids.push([namespace, name, occurrence]);
    }
  return ids;
}

/** The attempt number of a function that is entered now: every failure and every interruption since it was asked for. */
export function attemptOf(digest: Digest, key: string, released: number): number {
  const since = released ? (digest.outcomes[released - 1]?.index ?? 0) : 0;
  const interruptions = digest.interruptedAt.filter((index) => index > since).length;
  return 1 + (digest.failures.get(key)?.count ?? 0) + interruptions;
}
