import { type IDBPDatabase, openDB, unwrap, wrap } from 'idb';
import { StepfastError } from '../../src/errors.js';
import { check } from '../../src/values/check.js';
import { addStores, assertFormat, assertStores, type Database, reading, type Schema, storeError } from './schema.js';

/*
 * The connection to the database: opened when it is first needed, and anew when it has died. One of the app is the
 * app's: it is never closed here, and what it hears of upgrades is the app's business.
 */

/** A connection of the app, or what opens one: called again when the one before is closed or has died. */
export type AppDatabase = IDBDatabase | (() => IDBDatabase | PromiseLike<IDBDatabase>);

export interface Connection {
  /** Runs `body` on the connection; once more on a new one if that proves dead. For what may be done twice. */
  use<T>(body: (db: Database) => T | Promise<T>): Promise<T>;
  /** Lets go of it. What is under way comes to its end; later calls reject with `CLOSED`. */
  end(): void;
}

export function connectionTo(options: {
  readonly name: string;
  readonly database: AppDatabase | undefined;
  /** Our own database had to be created. */
  onCreated(): void;
}): Connection {
  const { name, database } = options;
  let current: Promise<Database> | undefined;
  let isEnded = false;

  const forget = (lost: Promise<Database> | undefined) => {
    if (lost === current) current = undefined;
    if (database) return;
    lost?.then(
      (db) => db.close(),
      () => undefined, // it never opened, and whoever asked for it has been told
    );
  };

  const openOwn = (drop: () => void): Promise<Database> => {
    if (!globalThis.indexedDB)
      throw new StepfastError(
        'STORE_UNAVAILABLE',
        'There is no IndexedDB here (switched off, or not a browser). Use memoryStore() from "stepfast/memory" to go on without durability, or fileStore() from "stepfast/file" in Node.',
      );
    const upgrade = (db: Database) => {
      addStores(unwrap(db));
      options.onCreated();
    };
    // Another context that wants to delete the database, or to upgrade it, must not wait for us: `blocking`.
    return openDB<Schema>(name, 1, { upgrade, blocking: drop, terminated: drop });
  };

  const openApps = async (drop: () => void): Promise<Database> => {
    const given = typeof database === 'function' ? await database() : database!;
    check(
      typeof given?.transaction === 'function',
      'database',
      given,
      'an open IDBDatabase, or a function that opens one',
    );
    const native: IDBDatabase = unwrap(given as unknown as IDBPDatabase) ?? given; // idb's own wrapping is welcome, where it is the same idb
    native.addEventListener('close', drop, { once: true });
    return wrap(native) as unknown as Database;
  };

  const firstLook = async (db: Database) => {
    assertStores(db, database !== undefined);
    try {
      assertFormat(await reading(db, 'stepfast:meta').objectStore('stepfast:meta').get('format'), 'minReader');
    } catch (error) {
      if (typeof database !== 'object' || (error as Error).name !== 'InvalidStateError') throw error;
      throw new StepfastError(
        'STORE_UNAVAILABLE',
        `The connection to the database "${db.name}" is closed. Give indexedDBStore a function that opens it, so that it can be opened again.`,
        {},
        { cause: error },
      );
    }
  };

  const connected = (): Promise<Database> => {
    if (isEnded) throw new StepfastError('CLOSED', `The store "${name}" is closed. Create a new one to go on.`);
    if (current) return current;
    const drop = () => forget(mine);
    const mine = (async () => {
      const db = await (database ? openApps(drop) : openOwn(drop));
      try {
        await firstLook(db);
      } catch (error) {
        if (!database) db.close();
        throw error;
      }
      return db;
    })();
    mine.catch(drop);
    return (current = mine);
  };

  return {
    async use(body) {
      for (let isLast = false; ; isLast = true) {
        const mine = connected();
        try {
          return await body(await mine);
        } catch (error) {
          const isDead = error instanceof DOMException && /^(InvalidState|Unknown|Abort)/.test(error.name);
          if (isDead) forget(mine);
          if (!isDead || isLast) throw storeError(error);
        }
      }
    },
    end() {
      isEnded = true;
      forget(current);
    },
  };
}
