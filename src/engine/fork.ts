import { type Digest, digestOf } from '../replay/digest.js';
import { forgottenBy } from '../replay/forget.js';
import { stepKeyOf } from '../replay/keys.js';
import { identityKey, isOutcome, type JournalEntry, namespaceOf, type OutcomeEntry } from '../store/journal.js';
import { check } from '../values/check.js';

/*
 * The journal of a run that is forked from another (spec F6): what had an outcome before a step, and nothing else. What
 * was only begun (failed attempts, open waits and sleeps) begins anew, with a fresh budget and fresh deadlines.
 */

type StartedEntry = Extract<JournalEntry, { readonly kind: 'started' }>;
type UpgradedEntry = Extract<JournalEntry, { readonly kind: 'upgraded' }>;
type UndoEntry = Extract<JournalEntry, { readonly kind: 'undo-set' }>;
type Ids = Extract<JournalEntry, { readonly kind: 'drift' }>['ids'];

/** The journal index from which on nothing is taken over: where the step of this name first appears and still counts. */
function cutOf(journal: readonly JournalEntry[], before: string): number | undefined {
  const counting = new Map<string, number>();
  let first: number | undefined;
  for (const [index, entry] of journal.entries()) {
    if (entry.kind === 'retried')
      for (const key of forgottenBy(digestOf(journal.slice(0, index)), entry)) counting.delete(key);
    if (entry.kind === 'upgraded' && entry.forgets?.includes(before)) counting.clear();
    if (!('id' in entry) || entry.kind === 'logged' || entry.id[0] !== before) continue;
    first ??= index;
    const key = identityKey(namespaceOf(entry), entry.id);
    if (!counting.has(key)) counting.set(key, index);
  }
  return counting.size ? Math.min(...counting.values()) : first;
}

/**
 * The journal as if it had always had the names that it has now: the copy is of the version that the run has come to, and
 * nobody will ask `migrate` about it again (spec O6).
 */
function presentNames(journal: readonly JournalEntry[]): JournalEntry[] {
  const entries = [...journal];
  for (const [at, { renames = [], ...upgraded }] of (journal as readonly Partial<UpgradedEntry>[]).entries()) {
    if (!renames.length) continue;
    const before = entries.slice(0, at).map((entry) => renamed(entry, new Map(renames)));
    entries.splice(0, at + 1, ...before, upgraded as UpgradedEntry); // what is read of it here renames nothing once more
  }
  return entries;
}

function renamed(entry: JournalEntry, names: ReadonlyMap<string, string>): JournalEntry {
  const present = (name: string) => names.get(name) ?? name;
  const all = (ids: Ids) => ids.map(([namespace, name, nth]) => [namespace, present(name), nth] as const);
  if ('id' in entry && entry.id) return { ...entry, id: [present(entry.id[0]), entry.id[1]] };
  if (entry.kind === 'retried')
    return { ...entry, forgets: all(entry.forgets), ...(entry.rejoins && { rejoins: all(entry.rejoins) }) };
  if (entry.kind === 'drift') return { ...entry, ids: all(entry.ids) };
  if (entry.kind === 'upgraded' && entry.forgets) return { ...entry, forgets: entry.forgets.map(present) };
  return entry;
}

/** What a run can be forked with. */
interface Fork {
  readonly runId: string;
  /** The name of the step that is the first to run anew. */
  readonly before: string;
  readonly at: number;
  /** Absent: the payload of the other run. */
  readonly said?: Pick<StartedEntry, 'payload' | 'given'>;
}

/** The journal to begin with. */
export function forkJournal(recorded: readonly JournalEntry[], { runId, before, at, said }: Fork): JournalEntry[] {
  const journal = presentNames(recorded);
  const cut = cutOf(journal, before);
  check(cut !== undefined, 'before', before, `the name of a step that run ${runId} has recorded`);
  const first = journal[0] as StartedEntry;
  // As a retry would see it: without what is forgotten or undone (spec F7).
  const digest = digestOf([...recorded, { kind: 'retried', at, forgets: [] }]);
  const { outcomes, payload } = digest;
  // Recorded behind the cut, and told to the handler before it: done again after a retry, or asked for by later code.
  const isLate = ({ index, entry }: (typeof outcomes)[number]) => index >= cut && entry.before === undefined;
  const isCut = ({ entry }: (typeof outcomes)[number]) => entry.id[0] === before;
  const end = outcomes.findIndex((each) => isLate(each) || isCut(each));
  // What was recorded before the cut, and told to the handler behind it, was done before the step was done again.
  const behind = outcomes.findIndex(isCut);
  const isBehind = (order: number) => behind >= 0 && order > behind;
  const kept = outcomes.filter(({ index }, order) => (index < cut && !isBehind(order)) || order < end);
  const rank = new Map(kept.map(({ index }, order) => [index, order]));
  const outcomeAt = new Map(kept.map(({ key, index }) => [key, index]));
  const isKept = (entry: JournalEntry, index: number) => {
    // What was undone and done again is done; what was undone and left is not there at all.
    if (entry.kind === 'logged' || /^undo(ne|-failed|-attempt-failed)$/.test(entry.kind)) return false;
    if (isOutcome(entry)) return rank.has(index);
    if ('id' in entry) return index < (outcomeAt.get(identityKey(namespaceOf(entry), entry.id)) ?? 0);
    return entry.kind === 'drift' && index < cut;
  };
  const { payload: _old, given: _given, nonce: _nonce, ...rest } = first;
  const entries: JournalEntry[] = [
    { ...rest, at, ...(said ?? whatCounts(journal, first, payload)), forkedFrom: { runId, before } },
  ];
  /** Outcomes written so far: order of release, and index in the new journal. */
  const written: { readonly order: number; readonly index: number }[] = [];
  for (const [index, entry] of journal.entries()) {
    if (!isKept(entry, index)) continue;
    if (!isOutcome(entry)) {
      entries.push(entry.kind === 'undo-set' ? copiedUndo(entry, digest, runId) : entry);
      continue;
    }
    const order = rank.get(index)!;
    const { before: _before, ...outcome } = entry;
    const next = written.filter((other) => other.order > order).sort((a, b) => a.order - b.order)[0];
    written.push({ order, index: entries.length });
    entries.push({ ...outcome, ...(next && { before: next.index }) } as OutcomeEntry);
  }
  return entries;
}

/** Undone by the copy, it is undone under the key that it was done under (spec R2), also if nobody knows whether it was. */
function copiedUndo(entry: UndoEntry, digest: Digest, runId: string): UndoEntry {
  const key = identityKey('step', entry.id);
  const undo = digest.undos.get(key);
  if (!undo) return entry; // it has failed: there is nothing to undo
  const idempotencyKey = stepKeyOf({ row: { runId }, digest }, key, entry.id);
  return { ...entry, idempotencyKey, ...(undo.isUnknown && { isUnknown: true }) };
}

/** The payload that the run has in the end, and as it was given. */
function whatCounts(
  journal: readonly JournalEntry[],
  first: StartedEntry,
  payload: StartedEntry['payload'],
): Pick<StartedEntry, 'payload' | 'given'> {
  const last = [first, ...journal.filter((entry) => entry.kind === 'rescheduled')].at(-1)!;
  return { payload, ...(last.given !== undefined && last.payload === payload && { given: last.given }) };
}
