import type { DBSchema, IDBPDatabase, IDBPTransaction } from 'idb';
import { StepfastError } from '../../src/errors.js';
import { FORMAT_VERSION, type JournalEntry } from '../../src/journal.js';
import type { EventRow, RunRow } from '../../src/store.js';
import type { StoreClock } from '../../src/transition.js';

/*
 * What the database holds. Its version is 1 for ever: an upgrade that one frozen tab holds up blocks `open()` in every
 * tab, and old code can not open a newer version. Records carry a format instead; a new layout takes a new database.
 *
 * I1. A property that is absent, or no valid key, is not indexed: `dueAt`, `slot`, `untaken` are indexed while present.
 * I2. A run is one record with the end of its journal inside, so that a commit is one `put` and a resume one `get`;
 *     a tail that has grown is moved to `spill` as one chunk and never written again.
 */

export interface RunRecord {
  readonly row: RunRow;
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
  runs: {
    key: string;
    value: RunRecord;
    indexes: {
      seq: number;
      due: [dueAt: number, seq: number];
      pairs: string;
      key: [job: string, idempotencyKey: string];
      slot: string;
      parent: string;
      ended: number;
    };
  };
  spill: { key: [runId: string, chunk: number]; value: readonly JournalEntry[] };
  events: {
    key: number;
    value: EventRecord;
    indexes: { pair: [pair: string, seq: number]; untaken: string; id: string; key: [string, string]; expires: number };
  };
  meta: { key: string; value: StoreClock | Format | Lease };
}

export type StoreName = 'runs' | 'spill' | 'events' | 'meta';
export const STORE_NAMES: StoreName[] = ['runs', 'spill', 'events', 'meta'];
export type Database = IDBPDatabase<Schema>;
export type WriteTx = IDBPTransaction<Schema, StoreName[], 'readwrite'>;

/** Creates the object stores. Everything inside one upgrade transaction: no await of anything else (it would end it). */
export function createStores(db: Database): void {
  const runs = db.createObjectStore('runs', { keyPath: 'row.runId' });
  runs.createIndex('seq', 'row.seq');
  runs.createIndex('due', ['row.dueAt', 'row.seq']);
  runs.createIndex('pairs', 'pairs', { multiEntry: true });
  runs.createIndex('key', ['row.job', 'row.idempotencyKey'], { unique: true });
  runs.createIndex('slot', 'row.slot');
  runs.createIndex('parent', 'row.parentId');
  runs.createIndex('ended', 'row.endedAt');
  db.createObjectStore('spill');
  const events = db.createObjectStore('events', { keyPath: 'row.seq' });
  events.createIndex('pair', ['pair', 'row.seq']);
  events.createIndex('untaken', 'untaken');
  events.createIndex('id', 'row.id');
  events.createIndex('key', ['pair', 'row.idempotencyKey']);
  events.createIndex('expires', 'row.expiresAt');
  const meta = db.createObjectStore('meta');
  void meta.put({ seq: 0 }, 'clock');
  void meta.put({ minReader: FORMAT_VERSION, minWriter: FORMAT_VERSION }, 'format');
}

/** Refuses what newer code has written, before anything of it is touched (spec D4). */
export function assertFormat(format: unknown, need: keyof Format): void {
  const version = (format as Format | undefined)?.[need] ?? 1;
  if (version <= FORMAT_VERSION) return;
  throw new StepfastError(
    'STORE_TOO_NEW',
    `The database was written by a newer stepfast (format ${version}, this one knows ${FORMAT_VERSION}). Reload the page to get the newer code; nothing was changed.`,
  );
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
  DataCloneError: ['NOT_SERIALIZABLE', 'A value can not be stored in IndexedDB. Nothing of the commit was kept.'],
} as const;

/** The error a caller sees for one of the platform's; errors that are not the platform's stay as they are. */
export function storeError(error: unknown): unknown {
  if (!(error instanceof DOMException)) return error;
  const [code, message] = CODES[error.name as keyof typeof CODES] ?? [
    'STORE_UNAVAILABLE',
    `IndexedDB failed (${error.name}: ${error.message}). It is opened anew at the next call; if this persists, reload the page.`,
  ];
  return new StepfastError(code, message, {}, { cause: error });
}
