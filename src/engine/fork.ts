import { digestOf } from '../replay/digest.js';
import { identityKey, isOutcome, type JournalEntry, namespaceOf, type OutcomeEntry } from '../store/journal.js';
import { check } from '../values/check.js';

/*
 * The journal of a run that is forked from another (spec F6): what had an outcome before a step, and nothing else. What
 * was only begun (failed attempts, open waits and sleeps) begins anew, with a fresh budget and fresh deadlines.
 */

type StartedEntry = Extract<JournalEntry, { readonly kind: 'started' }>;

/** The journal index from which on nothing is taken over: where the step of this name first appears and still counts. */
function cutOf(journal: readonly JournalEntry[], before: string): number | undefined {
  const counting = new Map<string, number>();
  let first: number | undefined;
  for (const [index, entry] of journal.entries()) {
    if (entry.kind === 'retried') {
      for (const [namespace, ...id] of entry.forgets) counting.delete(identityKey(namespace, id));
      continue;
    }
    if (!('id' in entry) || entry.kind === 'logged' || entry.id[0] !== before) continue;
    first ??= index;
    const key = identityKey(namespaceOf(entry), entry.id);
    if (!counting.has(key)) counting.set(key, index);
  }
  return counting.size ? Math.min(...counting.values()) : first;
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
export function forkJournal(journal: readonly JournalEntry[], { runId, before, at, said }: Fork): JournalEntry[] {
  const cut = cutOf(journal, before);
  check(cut !== undefined, 'before', before, `the name of a step that run ${runId} has recorded`);
  const { schedule: _, ...first } = journal[0] as StartedEntry;
  // As a retry would see it: without what is forgotten or undone (spec F7).
  const { outcomes, payload } = digestOf([...journal, { kind: 'retried', at, forgets: [] }]);
  const kept = outcomes.filter(({ index }) => index < cut);
  const rank = new Map(kept.map(({ index }, order) => [index, order]));
  const outcomeAt = new Map(kept.map(({ key, index }) => [key, index]));
  const isKept = (entry: JournalEntry, index: number) => {
    if (index >= cut || entry.kind === 'logged') return false;
    if (isOutcome(entry)) return rank.has(index);
    if ('id' in entry) return index < (outcomeAt.get(identityKey(namespaceOf(entry), entry.id)) ?? 0);
    return entry.kind === 'drift';
  };
  const { payload: _old, given: _given, ...rest } = first;
  const entries: JournalEntry[] = [
    { ...rest, at, ...(said ?? whatCounts(journal, first, payload)), forkedFrom: { runId, before } },
  ];
  /** Outcomes written so far: order of release, and index in the new journal. */
  const written: { readonly order: number; readonly index: number }[] = [];
  for (const [index, entry] of journal.entries()) {
    if (!isKept(entry, index)) continue;
    if (!isOutcome(entry)) {
      entries.push(entry);
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

/** The payload that the run has in the end, and as it was given. */
function whatCounts(
  journal: readonly JournalEntry[],
  first: StartedEntry,
  payload: StartedEntry['payload'],
): Pick<StartedEntry, 'payload' | 'given'> {
  const last = [first, ...journal.filter((entry) => entry.kind === 'rescheduled')].at(-1)!;
  return { payload, ...(last.given !== undefined && last.payload === payload && { given: last.given }) };
}
