import type { DBSchema, IDBPDatabase, IDBPTransaction } from 'idb';
import { StepfastError } from '../../src/errors.js';
import { FORMAT_VERSION, type JournalEntry } from '../../src/store/journal.js';
import type { EventRow, RunRow, StateRow } from '../../src/store/rows.js';
import type { StoreClock } from '../../src/store/transition/scope.js';
import { check } from '../../src/values/check.js';
import { unreadableFile } from '../../src/values/same.js';

/*
 * What the database holds. The version of our own is 1 for ever: an upgrade that one frozen tab holds up blocks `open()`
 * in every tab, and old code can not open a newer version. Records carry a format instead; a new layout takes a new
 * database. In a database of the app the object stores are the same, beside those of the app.
 *
 * I1. A property that is absent, or no valid key, is not indexed: `dueAt`, `slot`, `awaits`, `unique` and the like are
 *     indexed while present, also as a part of a key.
 * I2. A run is one record with the end of its journal inside, so that a commit is one `put` and a resume one `get`;
 *     a tail that has grown is moved to `spill` as one chunk and never written again.
 */

export interface RunRecord {
  readonly row: RunRow;
  /** Orders due runs: `laneOf` the row. */
  readonly rank: number;
  /** The last entries of the journal, after `chunks` chunks in `spill`. */
  readonly tail: readonly JournalEntry[];
  readonly chunks: number;
  /** Characters of JSON in the tail. */
  readonly size: number;
  /** What the open waits of the run listen to. */
  readonly pairs: string[];
}

export interface EventRecord {
  readonly row: EventRow;
  readonly pair: string;
  /** The pair, as long as no run has taken the event. */
  readonly untaken?: string;
}

/** Code of a lower version than these must not read, or not write, this database. */
export interface Format {
  readonly minReader: number;
  readonly minWriter: number;
}

/** Without Web Locks: until when an owner counts as alive. */
export interface Lease {
  readonly owner: string;
  readonly until: number;
}

export interface Schema extends DBSchema {
  'stepfast:runs': {
    key: string;
    value: RunRecord;
    indexes: {
      seq: number;
      due: [rank: number, dueAt: number, seq: number];
      pairs: string;
      key: [job: string, idempotencyKey: string];
      unique: [job: string, key: string];
      slot: string;
      awaits: string;
      parent: string;
      ended: [endedAt: number, seq: number];
    };
  };
  'stepfast:spill': { key: [runId: string, chunk: number]; value: readonly JournalEntry[] };
  'stepfast:events': {
    key: number;
    value: EventRecord;
    indexes: { pair: [pair: string, seq: number]; untaken: string; id: string; key: [string, string]; expires: number };
  };
  'stepfast:state': { key: string; value: StateRow; indexes: { expires: number } };
  'stepfast:meta': { key: string; value: StoreClock | Format | Lease | string };
}

export type StoreName = `stepfast:${'runs' | 'spill' | 'events' | 'state' | 'meta'}`;
export const STORE_NAMES: StoreName[] = [
  'stepfast:runs',
  'stepfast:spill',
  'stepfast:events',
  'stepfast:state',
  'stepfast:meta',
];
export type Database = IDBPDatabase<Schema>;
export type WriteTx = IDBPTransaction<Schema, StoreName[], 'readwrite'>;

/** A transaction for reading. Its requests tell of a failure; its end has nobody listening, and must not be "unhandled". */
export function reading<Names extends StoreName[]>(db: Database, ...names: Names) {
  const tx = db.transaction(names);
  tx.done.catch(() => undefined);
  return tx;
}

/** Where the chunks of a run's journal are. */
export const chunksOf = (runId: string): IDBKeyRange => IDBKeyRange.bound([runId], [runId, Infinity]);

/**
 * Creates the object stores of stepfast in a database of the app, for `indexedDBStore({ database })`. They are named
 * `stepfast:...`; a database that has them already stays as it is.
 *
 * @param db The native database, inside of its upgrade (`upgradeneeded`). Of the package idb: `unwrap(db)`.
 * @example
 * const request = indexedDB.open('my-app', 2);
 * request.onupgradeneeded = () => addStores(request.result);
 */
export function addStores(db: IDBDatabase): void {
  check(typeof db?.createObjectStore === 'function', 'What addStores is given', db, 'the native IDBDatabase');
  const create = (name: StoreName, keyPath?: string) =>
    db.objectStoreNames.contains(name) ? undefined : db.createObjectStore(name, keyPath ? { keyPath } : {});
  const runs = create('stepfast:runs', 'row.runId');
  runs?.createIndex('seq', 'row.seq');
  runs?.createIndex('due', ['rank', 'row.dueAt', 'row.seq']);
  runs?.createIndex('pairs', 'pairs', { multiEntry: true });
  runs?.createIndex('key', ['row.job', 'row.idempotencyKey'], { unique: true });
  runs?.createIndex('unique', ['row.job', 'row.unique.key']);
  runs?.createIndex('slot', 'row.slot');
  runs?.createIndex('awaits', 'row.awaits', { multiEntry: true });
  runs?.createIndex('parent', 'row.parentId');
  runs?.createIndex('ended', ['row.endedAt', 'row.seq']);
  create('stepfast:spill');
  const events = create('stepfast:events', 'row.seq');
  events?.createIndex('pair', ['pair', 'row.seq']);
  events?.createIndex('untaken', 'untaken');
  events?.createIndex('id', 'row.id');
  events?.createIndex('key', ['pair', 'row.idempotencyKey']);
  events?.createIndex('expires', 'row.expiresAt');
  create('stepfast:state', 'key')?.createIndex('expires', 'expiresAt');
  const meta = create('stepfast:meta');
  // Fences begin at 0 in each database: what an engine knows of the one before means nothing in one that was made anew.
  meta?.put(crypto.getRandomValues(new Uint32Array(4)).join('-'), 'born');
  meta?.put({ seq: 0 }, 'clock');
  meta?.put({ minReader: FORMAT_VERSION, minWriter: FORMAT_VERSION }, 'format');
}

/** Refuses a database that is not, or not yet, prepared. */
export function assertStores(db: Database, isApps: boolean): void {
  const missing = STORE_NAMES.find((name) => !db.objectStoreNames.contains(name));
  if (missing === undefined) return;
  const advice = isApps
    ? 'Call addStores(db), from "stepfast/indexeddb", in the upgrade of the database, and raise its version.'
    : 'Something else has created it. Give indexedDBStore another name; to share a database with the app, give it as `database`, prepared with addStores(db).';
  throw new StepfastError('STORE_UNAVAILABLE', `The database "${db.name}" has no object store "${missing}". ${advice}`);
}

/** Refuses what newer code has written, before anything of it is touched (spec D4, O6). */
export function assertFormat(format: unknown, need: keyof Format, known = FORMAT_VERSION): void {
  const version = (format as Format | undefined)?.[need] ?? 1;
  if (version <= known) return;
  throw new StepfastError(
    'STORE_TOO_NEW',
    `The database was written by a newer stepfast (format ${version}, this one knows ${known}). Reload the page to get the newer code; nothing was changed.`,
  );
}

/** Keeps code that writes an older format from writing here, from now on; refuses when this code is such. */
export async function raiseFormat(db: Database, known: number): Promise<void> {
  const read = async (): Promise<Format | undefined> =>
    reading(db, 'stepfast:meta').objectStore('stepfast:meta').get('format') as Promise<Format | undefined>;
  const isLess = (format: Format | undefined) => (format?.minWriter ?? 1) < known;
  assertFormat(await read(), 'minWriter', known);
  if (!isLess(await read())) return;
  const tx = db.transaction('stepfast:meta', 'readwrite');
  const format = (await tx.store.get('format')) as Format | undefined;
  if (isLess(format)) await tx.store.put({ minReader: 1, ...format, minWriter: known }, 'format');
  await tx.done;
  assertFormat(format, 'minWriter', known);
}

const CODES = {
  QuotaExceededError: [
    'QUOTA_EXCEEDED',
    'The browser refused to store more for this site. Nothing of the commit was kept; free some space and it is tried again.',
  ],
  VersionError: [
    'STORE_TOO_NEW',
    'The database has a higher version than this code knows. Reload the page to get the newer code; nothing was changed.',
  ],
  SecurityError: [
    'STORE_UNAVAILABLE',
    'IndexedDB is forbidden here (site data is blocked, or this is a sandboxed frame). Give indexedDBStore a `fallback` to go on without durability.',
  ],
  DataCloneError: ['NOT_SERIALIZABLE', 'A value can not be stored in IndexedDB. Nothing of the commit was kept.'],
} as const;

/** A file that somebody has changed since it was picked, or one that can not be read: it will not be better the next time. */
const isUnreadableFile = ({ name, message }: DOMException) =>
  name === 'NotReadableError' || (name === 'DataError' && /blob/i.test(message));

/** The error a caller sees for one of the platform's; errors that are not the platform's stay as they are. */
export function storeError(error: unknown): unknown {
  if (!(error instanceof DOMException)) return error;
  if (isUnreadableFile(error)) return unreadableFile(error);
  const [code, message] = CODES[error.name as keyof typeof CODES] ?? [
    'STORE_UNAVAILABLE',
    `IndexedDB failed (${error.name}: ${error.message}). It is opened anew at the next call; if this persists, reload the page.`,
  ];
  return new StepfastError(code, message, {}, { cause: error });
}
