import type { ExportedRow, RedactPlace } from '../../src/engine/words.js';
import type { JournalEntry, RecordedError } from '../../src/store/journal.js';
import type { Json } from '../../src/values/json.js';

/*
 * Where in a run the values, texts and errors of its user stand. What else is there are names, ids, numbers and instants.
 */

/** What is made of each part on its way out. */
export interface Visit {
  value(json: Json, place: RedactPlace): Json;
  text(text: string, place: RedactPlace): string;
  /** Text that may be left out. */
  option(text: string, place: RedactPlace): string | undefined;
  number(value: number, place: RedactPlace): number;
  error(error: RecordedError): RecordedError;
}

/** Steps whose results are the library's own: ids and receipts. */
const OWN_WORDS: readonly unknown[] = ['dispatch', 'start', 'call'];

/** The journal without what only its store can tell. */
export function visitJournal(journal: readonly JournalEntry[], visit: Visit): JournalEntry[] {
  const owners = new Map<string, string>();
  const aliasOf = (owner: string) => {
    const alias = owners.get(owner) ?? `owner ${owners.size + 1}`;
    owners.set(owner, alias);
    return alias;
  };
  return journal.map((entry) =>
    entry.kind === 'claimed' ? { ...entry, owner: aliasOf(entry.owner) } : visitEntry(entry, visit),
  );
}

function visitEntry(entry: JournalEntry, visit: Visit): JournalEntry {
  const name = 'id' in entry && entry.id ? entry.id[0] : undefined;
  const at = (kind: RedactPlace['kind'], of = name): RedactPlace => ({ kind, ...(of !== undefined && { name: of }) });
  switch (entry.kind) {
    case 'started': {
      const { nonce: _, floors: _floors, left: _left, ...kept } = entry;
      return { ...kept, ...payloads(entry, visit) };
    }
    case 'rescheduled':
      return { ...entry, ...payloads(entry, visit) };
    case 'upgraded':
      return entry.payload === undefined ? entry : { ...entry, payload: visit.value(entry.payload, at('payload')) };
    case 'step-completed':
      return OWN_WORDS.includes(entry.word) ? entry : { ...entry, value: visit.value(entry.value, at('step')) };
    case 'value-made':
      return { ...entry, value: visit.value(entry.value, at('made', entry.word)) };
    case 'child-completed':
      return { ...entry, value: visit.value(entry.value, at('child')) };
    case 'completed':
      return { ...entry, value: visit.value(entry.value, at('result')) };
    case 'state-incremented':
      return { ...entry, value: visit.number(entry.value, at('state')), ...keyed(entry, 'state', visit) };
    case 'event-taken':
      return {
        ...entry,
        payload: visit.value(entry.payload, at('event', entry.event)),
        ...keyed(entry, entry.event, visit),
      };
    case 'wait-set':
      return { ...entry, ...keyed(entry, entry.events[0], visit) };
    case 'event-skipped':
      return { ...entry, reason: visit.text(entry.reason, at('reason', entry.event)) };
    case 'logged': {
      const { data } = entry;
      const message = visit.text(entry.message, at('log'));
      return { ...entry, message, ...(data !== undefined && { data: visit.value(data, at('log-data')) }) };
    }
    default:
      return 'error' in entry ? { ...entry, error: visit.error(entry.error) } : entry;
  }
}

function payloads({ payload, given }: { readonly payload: Json; readonly given?: Json }, visit: Visit) {
  const place = { kind: 'payload' } as const;
  return {
    payload: visit.value(payload, place),
    ...(given !== undefined && { given: visit.value(given, place) }),
  };
}

/** A correlation key, where there is one. */
const keyed = ({ key }: { readonly key?: string }, name: string | undefined, visit: Visit) =>
  key === undefined ? {} : { key: visit.text(key, { kind: 'key', ...(name !== undefined && { name }) }) };

/** The row, in the same way. */
export function visitRow(row: ExportedRow, visit: Visit): ExportedRow {
  const { idempotencyKey, unique, tags, progress, waits, ...rest } = row;
  const option = (text: string | undefined, name: string) =>
    text === undefined ? undefined : visit.option(text, { kind: 'key', name });
  const key = option(idempotencyKey, 'idempotencyKey');
  const uniqueKey = option(unique?.key, 'unique');
  return {
    ...rest,
    waits: waits.map((wait) => ({ ...wait, ...keyed(wait, wait.events[0], visit) })),
    ...(key !== undefined && { idempotencyKey: key }),
    ...(unique && uniqueKey !== undefined && { unique: { ...unique, key: uniqueKey } }),
    ...(tags && { tags: tags.flatMap((tag) => visit.option(tag, { kind: 'tag' }) ?? []) }),
    ...(progress !== undefined && { progress: visit.value(progress, { kind: 'progress' }) }),
  };
}
