import type { StepfastError } from '../../src/errors.js';
import type { NewEvent, NewRun } from '../../src/store/batch.js';
import type { JournalEntry, RecordedError } from '../../src/store/journal.js';
import type { EventRow, OpenWait, RunRow, RunState, StoredRun } from '../../src/store/rows.js';
import type { Json } from '../../src/values/json.js';
import { type Bounded, keyIdOf, type Place, type Vault } from './seal.js';

/*
 * Runs, waits and events as they lie in the store, and back. Persisted for ever, like the journal.
 *
 * L1. Names of jobs and events carry a mark: a context without the plug-in finds no job of that name and no wait for
 *     that event, so that it can not drive a run of which it sees nothing.
 * L2. The last tag of a row is its label: what the row had in plain text (tags, keys), sealed. Stores copy tags from
 *     row to row, whatever becomes of a run. Its key id tells which key the run needs.
 * L3. The first wait of a row may carry a mark (hidden.ts): waits are written anew with each commit of an owner, who drops it.
 * L4. An entry is `{ kind, at, sealed }`. Only `cancelled` may come without: a store writes it into the journals of the
 *     children of a cancelled run.
 */

const MARK = 'stepfast:sealed:';
/** The tag by which runs are found that need a key which is not the default one. */
export const KEY_TAG = 'stepfast:key:';

export const marked = (name: string): string => MARK + name;
export const isMarked = (name: string): boolean => name.startsWith(MARK);
export const unmarked = (name: string): string => (isMarked(name) ? name.slice(MARK.length) : name);

interface SealedEntry {
  readonly kind: JournalEntry['kind'];
  readonly at: number;
  readonly sealed?: string;
  /** Of an entry that was not meant for the run that was to be started, but for the one with the same unique key. */
  readonly unique?: string;
}
/** On a run that is due for nothing but events that can not be opened: which, and when it is due apart from them. */
export interface Mark {
  readonly seqs: readonly number[];
  readonly dueAt?: number | undefined;
}
type SealedWait = OpenWait & { readonly sealed?: string; readonly mark?: Mark };

interface Label {
  readonly tags?: readonly string[];
  readonly idempotencyKey?: string;
  readonly unique?: string;
}
interface EventContent {
  readonly name: string;
  readonly key?: string;
  readonly idempotencyKey?: string;
  readonly payload: Json;
  readonly given?: Json;
}

/** Sealed correlation keys of open waits: they are given again with each commit of their run. */
export type WaitMemo = Bounded<Promise<string>>;

// ---- entries --------------------------------------------------------------------------------------------------------

export async function sealEntry(
  vault: Vault,
  keyId: string,
  runId: string,
  entry: JournalEntry,
): Promise<JournalEntry> {
  const { kind, at, ...rest } = entry;
  const sealed = await vault.seal(keyId, ['entry', runId, kind, String(at)], rest);
  return { kind, at, sealed } as SealedEntry as unknown as JournalEntry;
}

export const hashUnique = (vault: Vault, job: string, key: string): Promise<string> =>
  vault.hash('unique', JSON.stringify([job, key]));

/** Which run will get it is decided in the store, by job and unique key. */
async function sealMove(vault: Vault, keyId: string, job: string, unique: string, entry: JournalEntry) {
  const { kind, at, ...rest } = entry;
  const sealed = await vault.seal(keyId, ['moved', job, unique, kind, String(at)], rest);
  return { kind, at, sealed, unique } as SealedEntry as unknown as JournalEntry;
}

async function openEntry(vault: Vault, { runId, job }: RunRow, entry: JournalEntry): Promise<JournalEntry> {
  const { kind, at, sealed, unique } = entry as SealedEntry;
  if (sealed === undefined && kind === 'cancelled') return { kind, at };
  const place = unique === undefined ? ['entry', runId] : ['moved', unmarked(job), unique];
  const rest = (await vault.open([...place, kind, String(at)], sealed)) as object;
  return { kind, at, ...rest } as JournalEntry;
}

// ---- marks ----------------------------------------------------------------------------------------------------------

export const markOf = (row: RunRow): Mark | undefined => (row.waits[0] as SealedWait | undefined)?.mark;

export const markedFor = ([first, ...others]: readonly OpenWait[], { seqs, dueAt }: Mark): readonly OpenWait[] => [
  { ...first!, mark: { seqs, ...(dueAt !== undefined && { dueAt }) } } as SealedWait,
  ...others,
];

// ---- runs -----------------------------------------------------------------------------------------------------------

/** A wait for comparison alone: nothing of it is kept. */
export async function hashWait(vault: Vault, wait: OpenWait): Promise<OpenWait> {
  const events = wait.events.map(marked);
  return wait.key === undefined ? { ...wait, events } : { ...wait, events, key: await vault.hash('key', wait.key) };
}

export async function sealState(
  vault: Vault,
  keyId: string,
  runId: string,
  state: RunState,
  memo: WaitMemo,
): Promise<RunState> {
  const sealWait = async (wait: OpenWait): Promise<SealedWait> => {
    const hashed = await hashWait(vault, wait);
    if (wait.key === undefined) return hashed;
    const name = JSON.stringify([keyId, runId, hashed.key]);
    const sealed = memo.get(name) ?? vault.seal(keyId, ['wait', runId], wait.key);
    memo.set(name, sealed);
    sealed.catch(() => memo.delete(name));
    return { ...hashed, sealed: await sealed };
  };
  const { progress } = state;
  const [waits, said] = await Promise.all([
    Promise.all(state.waits.map(sealWait)),
    progress === undefined ? undefined : vault.seal(keyId, ['progress', runId], progress),
  ]);
  return { ...state, waits, ...(said !== undefined && { progress: said }) };
}

export async function sealStart(
  vault: Vault,
  keyId: string,
  isOwn: boolean,
  given: NewRun,
  memo: WaitMemo,
): Promise<NewRun> {
  const { runId, job, tags = [], idempotencyKey, unique, entries, state, moves, merged } = given;
  const { hash } = vault;
  const label: Label = {
    ...(given.tags && { tags }),
    ...(idempotencyKey !== undefined && { idempotencyKey }),
    ...(unique && { unique: unique.key }),
  };
  const shown = isOwn ? [...tags, KEY_TAG + keyId] : tags;
  const uniqueKey = unique && (await hashUnique(vault, job, unique.key));
  const [hashes, sealedLabel, key, journal, first, moved, print] = await Promise.all([
    Promise.all(shown.map((tag) => hash('tag', tag))),
    vault.seal(keyId, ['row', runId, job], label),
    idempotencyKey === undefined ? undefined : hash('start', JSON.stringify([job, idempotencyKey])),
    Promise.all(entries.map((entry) => sealEntry(vault, keyId, runId, entry))),
    state && sealState(vault, keyId, runId, state, memo),
    moves && uniqueKey !== undefined ? sealMove(vault, keyId, job, uniqueKey, moves) : undefined,
    merged && vault.seal(keyId, mergedPlace(given), merged.fingerprint),
  ]);
  const { idempotencyKey: _, moves: __, merged: ___, ...rest } = given;
  return {
    ...rest,
    job: marked(job),
    tags: [...hashes, sealedLabel],
    entries: journal,
    ...(key !== undefined && { idempotencyKey: key }),
    ...(unique && { unique: { ...unique, key: uniqueKey! } }),
    ...(first && { state: first }),
    ...(moved && { moves: moved }),
    ...(merged && { merged: { ...merged, fingerprint: print! } }),
  };
}

/** Which run answers the start is decided in the store: what is remembered belongs to what it is remembered by. */
export const mergedPlace = ({ job, idempotencyKey, runId }: NewRun): Place => ['merged', job, idempotencyKey ?? runId];

/** The id of the key that a stored run needs. */
export const keyIdOfRow = (row: RunRow): string | undefined => keyIdOf(row.tags?.at(-1));

export async function openRow(vault: Vault, row: RunRow): Promise<RunRow> {
  const { tags: stored, idempotencyKey, unique, progress, ...rest } = row;
  const { runId } = row;
  const job = unmarked(row.job);
  const openWait = async ({ sealed, mark: _, ...wait }: SealedWait): Promise<OpenWait> => {
    const events = wait.events.map(unmarked);
    if (wait.key === undefined) return { ...wait, events };
    return { ...wait, events, key: (await vault.open(['wait', runId], sealed)) as string };
  };
  const [label, waits, said] = await Promise.all([
    vault.open(['row', runId, job], stored?.at(-1)) as unknown as Promise<Label>,
    Promise.all(row.waits.map(openWait)),
    progress === undefined ? undefined : vault.open(['progress', runId], progress),
  ]);
  // Left due for events that can not be opened, it is shown as due when it is apart from them (hidden.ts).
  const mark = row.woken ? undefined : markOf(row);
  return {
    ...rest,
    ...(mark && { dueAt: mark.dueAt }),
    job,
    waits,
    ...(label.tags && { tags: label.tags }),
    ...(idempotencyKey !== undefined && { idempotencyKey: label.idempotencyKey! }),
    ...(unique && { unique: { ...unique, key: label.unique! } }),
    ...(said !== undefined && { progress: said }),
  };
}

export async function openRun(vault: Vault, stored: StoredRun): Promise<StoredRun> {
  const [row, journal] = await Promise.all([
    openRow(vault, stored.row),
    Promise.all(stored.journal.map((entry) => openEntry(vault, stored.row, entry))),
  ]);
  return { row, journal };
}

/** A run that can not be opened, as lists show it: what is readable of the row, and why there is no more. */
export function standIn({ row }: StoredRun, error: StepfastError): StoredRun {
  const { tags: _, idempotencyKey: __, unique: ___, progress: ____, ...rest } = row;
  const nothing: Json = { $: ['undefined'] };
  const recorded: RecordedError = { name: error.name, message: error.message, code: error.code };
  const at = row.endedAt ?? row.createdAt;
  const ends: { readonly [status: string]: JournalEntry } = {
    completed: { kind: 'completed', at, value: nothing },
    failed: { kind: 'failed', at, error: recorded },
    cancelled: { kind: 'cancelled', at },
  };
  const end = ends[row.status];
  const waits = (row.waits as readonly SealedWait[]).map(({ sealed: _, key: __, mark: ___, ...wait }) => ({
    ...wait,
    events: wait.events.map(unmarked),
  }));
  const started: JournalEntry = { kind: 'started', at: row.createdAt, payload: nothing };
  return { row: { ...rest, job: unmarked(row.job), waits }, journal: end ? [started, end] : [started] };
}

// ---- events ---------------------------------------------------------------------------------------------------------

export async function sealEvent(vault: Vault, keyId: string, event: NewEvent): Promise<NewEvent> {
  const { id, name, key, idempotencyKey, payload, given, ...rest } = event;
  const { hash } = vault;
  const [hashedKey, hashedOnce, sealed] = await Promise.all([
    key === undefined ? undefined : hash('key', key),
    idempotencyKey === undefined ? undefined : hash('event', JSON.stringify([name, key ?? null, idempotencyKey])),
    vault.seal(keyId, ['event', id], { name, key, idempotencyKey, payload, given } satisfies {
      [K in keyof EventContent]: unknown;
    }),
  ]);
  return {
    ...rest,
    id,
    name: marked(name),
    payload: sealed,
    ...(hashedKey !== undefined && { key: hashedKey }),
    ...(hashedOnce !== undefined && { idempotencyKey: hashedOnce }),
  };
}

export async function openEvent(vault: Vault, event: Pick<EventRow, 'id' | 'payload'>): Promise<EventContent> {
  return (await vault.open(['event', event.id], event.payload)) as unknown as EventContent;
}

export async function openEventRow(vault: Vault, row: EventRow): Promise<EventRow> {
  const { name, key, idempotencyKey, payload } = await openEvent(vault, row);
  const { key: _, idempotencyKey: __, ...rest } = row;
  return {
    ...rest,
    // The sealed one: what the row says could have been changed.
    name,
    payload,
    ...(key !== undefined && { key }),
    ...(idempotencyKey !== undefined && { idempotencyKey }),
  };
}
