import type { Store } from '../../src/store/store.js';
import { check, checkOptions as checkNames, checkText } from '../../src/values/check.js';
import type { AppDatabase } from './connection.js';

/** How `indexedDBStore` keeps its runs. */
export interface IndexedDBStoreOptions {
  /** Name of the database; contexts of one origin that name the same share its runs. Default: `'stepfast'`. */
  readonly name?: string;
  /**
   * Instead of a database of our own: one of the app, so that a step can write the app's rows and its own record in one
   * commit (`step.transaction`). An open connection, or a function that opens one, called again when it was closed. The app
   * creates our object stores in it with `addStores`, and closes it itself.
   */
  readonly database?: AppDatabase;
  /**
   * `'relaxed'`: what was acknowledged outlives a crash of the browser. `'strict'`: also a loss of power; commits
   * take about half as long again. Default: `'relaxed'`.
   */
  readonly durability?: 'relaxed' | 'strict';
  /**
   * Asks the browser not to delete the data of this site by itself (`navigator.storage.persist`). Some ask the user, so
   * give it at a time when that makes sense. Default: false.
   */
  readonly persist?: boolean;
  /**
   * Makes the store to go on with where there is no IndexedDB at all, or it is forbidden (site data blocked, a sandboxed
   * frame), for example `memoryStore`; what the app's `database` rejects with tells as well. `step.transaction` is not
   * available in it, and blocks its run. It shows in `store.capabilities.durability`, which is `'none'` then, once the engine is
   * ready. Default: none, and every call fails with `STORE_UNAVAILABLE`.
   */
  readonly fallback?: () => Store;
}

/** @throws {StepfastError} `INVALID_OPTION` */
export function checkOptions(options: IndexedDBStoreOptions): void {
  checkNames(options, ['name', 'database', 'durability', 'persist', 'fallback'], 'The options of indexedDBStore');
  const { name, database, durability = 'relaxed', persist, fallback } = options;
  check(['relaxed', 'strict'].includes(durability), 'durability', durability, '"relaxed" or "strict"');
  if (name !== undefined) checkText(name, 'name', 'INVALID_OPTION');
  const isFallback = fallback === undefined || typeof fallback === 'function';
  check(isFallback, 'fallback', fallback, 'a function that makes a store');
  check(persist === undefined || typeof persist === 'boolean', 'persist', persist, 'true or false');
  const isDatabase = typeof database === 'function' || typeof database?.transaction === 'function';
  check(
    isDatabase || database === undefined,
    'database',
    database,
    'an open IDBDatabase, or a function that opens one',
  );
  check(!database || name === undefined, 'name', name, 'it, or `database`, but not both');
}
