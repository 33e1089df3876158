import type { JournalEntry } from '../store/journal.js';
import type { Json } from '../values/json.js';

/*
 * What is read of a journal without folding all of it (digest.ts): most who look at a run want no more than this.
 */

type EntryOf<K extends JournalEntry['kind']> = Extract<JournalEntry, { readonly kind: K }>;

/** From the end, because what counts stands there. */
function lastOf(journal: readonly JournalEntry[], fits: (entry: JournalEntry) => boolean): JournalEntry | undefined {
  for (let index = journal.length - 1; index >= 0; index--) if (fits(journal[index]!)) return journal[index];
  return undefined;
}

/** How the run has ended, if it has. */
export function endOf(journal: readonly JournalEntry[]): EntryOf<'completed' | 'failed' | 'cancelled'> | undefined {
  const last = lastOf(journal, ({ kind }) => /^(completed|failed|cancelled|retried)$/.test(kind));
  return last?.kind === 'retried' ? undefined : (last as EntryOf<'completed' | 'failed' | 'cancelled'> | undefined);
}

const PAYLOADS = ['started', 'rescheduled', 'upgraded'];

/** The payload that counts. */
export function payloadIn(journal: readonly JournalEntry[]): Json {
  const last = lastOf(
    journal,
    (entry) => PAYLOADS.includes(entry.kind) && 'payload' in entry && entry.payload !== undefined,
  );
  return (last as EntryOf<'started'> | undefined)?.payload ?? null;
}
