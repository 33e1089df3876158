import { identityKey, isOutcome, type JournalEntry, namespaceOf } from '../store/journal.js';
import { pairKey } from '../store/transition/scope.js';
import type { Json } from '../values/json.js';
import type { Digest, EntryOf } from './digest.js';
import { forgetNames, rename, retried } from './forget.js';
import { incrementKey } from './keys.js';

/*
 * How a digest grows: forward, entry by entry, each in the same way whether it was recorded now or long ago.
 */

/** Kinds that tell what an identity is recorded as. */
const SHAPES = /^(step|attempt|value|sleep|wait|child)-|^event-taken/;

/** Kinds that tell that an identity is open. */
const OPENS = /^(sleep|wait|child|undo)-set|^attempt-failed/;

/** What may be said of a run that gets no further. */
const NO_PROGRESS: ReadonlySet<string> = new Set(['claimed', 'released', 'logged']);

/** Of an entry without a value, as many as make a line. */
const LINE = 100;
const bytesOf = (entry: JournalEntry): number => {
  const { value, payload, error, data } = entry as { readonly [field: string]: Json | undefined };
  const kept = value ?? payload ?? error ?? data;
  return LINE + (typeof kept === 'string' ? kept.length : kept instanceof Object ? JSON.stringify(kept).length : 0);
};

/** Takes one more entry in. */
export const fold = (digest: Digest, entry: JournalEntry): void => {
  const index = digest.entries.push(entry) - 1;
  digest.bytes += bytesOf(entry);
  const key = 'id' in entry && entry.id ? identityKey(namespaceOf(entry), entry.id) : '';
  if (key && SHAPES.test(entry.kind)) digest.shapes.set(key, entry);
  if (OPENS.test(entry.kind) && !digest.since.has(key)) digest.since.set(key, index);
  if (isOutcome(entry)) {
    const at = entry.before === undefined ? -1 : digest.outcomes.findIndex(({ index }) => index === entry.before);
    digest.outcomes.splice(at < 0 ? digest.outcomes.length : at, 0, { key, index, entry });
    digest.outcomeKeys.add(key);
    digest.since.delete(key);
    digest.handlerFailures = undefined;
  }
  if (!NO_PROGRESS.has(entry.kind)) digest.interruptions = 0;
  switch (entry.kind) {
    case 'started':
      digest.payload = entry.payload;
      digest.retry = entry.retry;
      digest.schedule = entry.schedule;
      digest.isFork = entry.forkedFrom !== undefined;
      digest.isWhole = !digest.isFork;
      digest.generation = entry.generation ?? 0;
      if (entry.generation && !digest.isFork) digest.begunAt = entry.at; // in the hands of its owner
      for (const [pair, seq] of entry.floors ?? []) digest.lastTaken.set(pair, seq);
      for (const [pair, seqs] of entry.left ?? []) digest.left.set(pair, seqs);
      break;
    case 'rescheduled':
      digest.payload = entry.payload;
      break;
    case 'imported':
      digest.isWhole = false;
      // Events are numbered by their store.
      digest.takenSeqs.clear();
      digest.lastTaken.clear();
      digest.skipped.clear();
      digest.left.clear();
      for (const [key, undo] of entry.from === undefined ? [] : digest.undos)
        if (digest.end || digest.outcomeKeys.has(key)) digest.undos.set(key, { runId: entry.from, ...undo });
      break;
    case 'released':
      if (entry.blocked) digest.blockedSince = entry.at;
      break;
    case 'claimed':
      digest.begunAt ??= entry.at;
      digest.claimedAt = index;
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
      turn(digest, index);
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
      if (digest.shapes.size) digest.isWhole = false; // what was recorded may be of other code
      if (entry.payload !== undefined) digest.payload = entry.payload;
      if (entry.renames?.length) rename(digest, new Map(entry.renames));
      digest.forgotten.push(...(entry.forgets ?? []));
      if (!digest.end) forgetNames(digest);
      break;
    case 'retried':
      digest.isWhole = false;
      turn(digest, index);
      retried(digest, entry);
      break;
    case 'completed':
    case 'failed':
    case 'cancelled':
      digest.end = entry;
  }
};

/**
 * What has failed has nothing to undo; of those of unknown outcome, or cut off in the hands of an owner before (it was set
 * before the claim, and no failure has come since), nobody knows (spec F7).
 */
function failed(digest: Digest, key: string, { isUnknown }: EntryOf<'attempt-failed' | 'step-failed'>): void {
  const { undos, claimedAt } = digest;
  const undo = undos.get(key);
  if (undo && (isUnknown || undo.index < claimedAt)) undos.set(key, { ...undo, isUnknown: true });
  else if (!undo?.isUnknown) undos.delete(key);
}

function turn(digest: Digest, index: number): void {
  digest.turnedAt = index;
  digest.handlerLogs = 0;
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
