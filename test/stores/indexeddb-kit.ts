import 'fake-indexeddb/auto';
import { type IDBPDatabase, openDB } from 'idb';
import { indexedDBStore } from '../../adapters/indexeddb/index.js';
import type { NewEvent, NewRun, RunChange } from '../../src/store/batch.js';
import type { JournalEntry } from '../../src/store/journal.js';
import type { DueQuery, Store } from '../../src/store/store.js';
import type { Json } from '../../src/values/json.js';

export const now = 1_750_000_000_000;
export const leaseMs = 15_000;

let names = 0;
export const freshName = (): string => `test-${++names}`;

export interface Opened extends Store {
  readonly errors: unknown[];
}

export async function openStore(
  name: string,
  options: { owner?: string; at?: number; durability?: 'relaxed' | 'strict' } = {},
): Promise<Opened> {
  const { owner = 'a', at = now, ...rest } = options;
  const errors: unknown[] = [];
  const store = indexedDBStore({ name, ...rest });
  await store.open({ owner, now: at, leaseMs, mode: 'drive', onError: (error) => void errors.push(error) });
  return { ...store, errors };
}

/** The database as it is, beside the store. */
export const raw = (name: string, version?: number): Promise<IDBPDatabase> => openDB(name, version);

export const started = (payload: Json = null): JournalEntry => ({ kind: 'started', at: now, payload });

export const newRun = (runId: string, over: Partial<NewRun> = {}): NewRun => ({
  runId,
  job: 'job',
  version: 1,
  queue: 'queue',
  dueAt: now,
  entries: [started()],
  ...over,
});

export const newEvent = (id: string, over: Partial<NewEvent> = {}): NewEvent => ({
  id,
  name: 'event',
  payload: id,
  ttlMs: 1000,
  maxBacklog: 1000,
  ...over,
});

export const claim = (runId: string, fence: number, owner = 'a'): RunChange => ({
  runId,
  fence,
  raise: true,
  append: [{ kind: 'claimed', at: now, owner, fence: fence + 1 }],
  state: { status: 'running', version: 1, owner, dueAt: now, waits: [] },
});

export const stepped = (name: string, value: Json = null): JournalEntry => ({
  kind: 'step-completed',
  at: now,
  id: [name, 1],
  asked: 1,
  attempt: 1,
  value,
});

export const dueQuery = (over: Partial<DueQuery> = {}): DueQuery => ({
  now,
  owner: 'a',
  jobs: { job: 1 },
  limit: 100,
  graceMs: 5000,
  ...over,
});

export const released = (at: number): JournalEntry => ({ kind: 'released', at });

/** Resolves when `fits` does; polled, as nothing tells of messages between contexts. */
export async function waitUntil(fits: () => boolean): Promise<void> {
  while (!fits()) await new Promise((resolve) => setImmediate(resolve));
}

/** Records on what a method was called, until `stop`, which tells. */
export function countCalls<Method extends string>(
  prototype: Record<Method, (...args: never[]) => unknown>,
  method: Method,
): { stop(): readonly unknown[] } {
  const original = prototype[method];
  const targets: unknown[] = [];
  prototype[method] = function (this: unknown, ...args: never[]) {
    targets.push(this);
    return original.apply(this, args);
  };
  return {
    stop() {
      prototype[method] = original;
      return targets;
    },
  };
}

/** Counts the readwrite transactions that are begun until `stop`. */
export function countTransactions(): { readonly durabilities: (string | undefined)[]; stop(): number } {
  const original = IDBDatabase.prototype.transaction;
  const durabilities: (string | undefined)[] = [];
  IDBDatabase.prototype.transaction = function (names, mode, options) {
    if (mode === 'readwrite') durabilities.push(options?.durability);
    return original.call(this, names, mode, options);
  };
  return {
    durabilities,
    stop() {
      IDBDatabase.prototype.transaction = original;
      return durabilities.length;
    },
  };
}

/** Makes one of the requests of object stores fail as `fail` says, until the returned function is called. */
export function sabotagePut(fail: (store: IDBObjectStore, value: unknown) => void): () => void {
  const original = IDBObjectStore.prototype.put;
  IDBObjectStore.prototype.put = function (value, key) {
    fail(this, value);
    return key === undefined ? original.call(this, value) : original.call(this, value, key);
  };
  return () => {
    IDBObjectStore.prototype.put = original;
  };
}
