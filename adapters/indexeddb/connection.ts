import { type IDBPDatabase, unwrap, wrap } from 'idb';
import { isStepfastError, StepfastError } from '../../src/errors.js';
import { check } from '../../src/values/check.js';
import { createFactory } from './factory.js';
import { addStores, assertFormat, assertStores, type Database, reading, storeError } from './schema.js';

/*
 * The connection to the database: opened when it is first needed, and anew when it has died; if need be with the IndexedDB
 * of another realm (factory.ts). One of the app is the
 * app's: it is never closed here, and what it hears of upgrades is the app's business.
 */

/** A connection of the app, or what opens one: called again when the one before is closed or has died. */
export type AppDatabase = IDBDatabase | (() => IDBDatabase | PromiseLike<IDBDatabase>);

export interface Connection {
  /** Runs `body` on the connection; once more on a new one if that proves dead. For what may be done twice. */
  use<T>(body: (db: Database) => T | Promise<T>): Promise<T>;
  /** Lets go of it. What is under way comes to its end; later calls reject with `CLOSED`. */
  end(): void;
  /**
   * The page is about to be frozen. A transaction that it left open would hold up every other context of the site until
   * Chromium gives it up, after two minutes: those that are open are undone, and none is begun before `thaw`. Of a
   * connection of the app, only the latter.
   */
  freeze(): void;
  /** The same may come: nothing is begun before `thaw`, and what is open comes to its end. */
  pause(): void;
  thaw(): void;
  /** Whether `freeze` has undone the transaction: nothing of it was kept. */
  wasFrozen(tx: IDBTransaction): boolean;
  /** For how long nothing was begun, in all. What was asked for before that is late by as much. */
  pausedMs(): number;
  /** How often the database has been found to be another one. */
  births(): number;
}

/** Notes which transactions of our own connection are open; tells of each that has ended. */
function track(native: IDBDatabase, open: Set<IDBTransaction>, ended: () => void): void {
  native.transaction = (...args) => {
    const tx = IDBDatabase.prototype.transaction.apply(native, args);
    open.add(tx);
    const end = () => {
      open.delete(tx);
      ended();
    };
    for (const kind of ['complete', 'abort']) tx.addEventListener(kind, end);
    return tx;
  };
}

/** What the app's function opens. Whatever it fails with comes out with a code (spec B). */
async function openedBy(open: () => IDBDatabase | PromiseLike<IDBDatabase>): Promise<IDBDatabase> {
  try {
    return await open();
  } catch (cause) {
    if (cause instanceof DOMException || isStepfastError(cause)) throw cause; // its name says more
    throw new StepfastError(
      'STORE_UNAVAILABLE',
      'The function given as `database` has failed, which is the `cause`. It is called again at the next call.',
      {},
      { cause },
    );
  }
}

export function connectionTo(options: {
  readonly name: string;
  readonly database: AppDatabase | undefined;
  /** The connection was closed by others: the site's data was cleared, perhaps, and nobody else would tell. */
  onDropped(): void;
  /** The database of this name is another one than before: that was deleted, with all its runs. */
  onReborn(name: string): void;
  /** The app has closed its connection, and has given no function that opens another: there will be none any more. */
  onGone(): void;
}): Connection {
  const { name, database } = options;
  let current: Promise<Database> | undefined;
  /** Which database it was when it was last opened. */
  let born: unknown;
  let births = 0;
  let isEnded = false;
  const factory = createFactory();
  const open = new Set<IDBTransaction>();
  const undone = new WeakSet<IDBTransaction>();
  let frozen: { readonly over: Promise<void>; readonly thaw: () => void; readonly since: number } | undefined;
  let paused = 0;
  const pausing = () => (frozen ? Math.max(0, Date.now() - frozen.since) : 0);

  /** The iframe goes last: what is under way in one that is removed never settles, in Firefox at least. */
  let opening = 0;
  const endFrame = () => {
    if (isEnded && !open.size && !opening) factory.end();
  };
  const ended = () => {
    if (isEnded) setTimeout(endFrame); // when all who listen to the same event have heard of it
  };

  const pause = () => {
    if (frozen) return; // nobody asks for it after the end
    let thaw!: () => void;
    const over = new Promise<void>((resolve) => {
      thaw = resolve;
    });
    frozen = { over, thaw, since: Date.now() };
  };

  const forget = (lost: Promise<Database> | undefined) => {
    if (lost === current) current = undefined;
    if (database) return;
    lost?.then(
      (db) => db.close(),
      () => undefined, // it never opened, and whoever asked for it has been told
    );
  };

  const openOwn = async (drop: () => void): Promise<Database> => {
    const indexedDB = factory.current();
    if (!indexedDB)
      throw new StepfastError(
        'STORE_UNAVAILABLE',
        'There is no IndexedDB here (switched off, or not a browser). Give indexedDBStore a `fallback`, for example memoryStore from "stepfast/memory", to go on without durability, or use fileStore() from "stepfast/file" in Node.',
      );
    const request = indexedDB.open(name, 1);
    let upgrade: IDBTransaction | null = null;
    request.addEventListener('upgradeneeded', () => {
      upgrade = request.transaction;
      addStores(request.result);
    });
    const db = (await wrap(request).catch((error: unknown) => {
      throw upgrade?.error ?? error; // why it was undone (no space): the request only says that it was
    })) as unknown as Database;
    // Another context that wants to delete the database, or to upgrade it, must not wait for us.
    db.addEventListener('versionchange', ({ newVersion }) => {
      drop();
      if (newVersion === null) options.onDropped();
    });
    db.addEventListener('close', () => {
      drop();
      options.onDropped();
    });
    track(unwrap(db), open, ended);
    return db;
  };

  const openApps = async (drop: () => void): Promise<Database> => {
    const given = typeof database === 'function' ? await openedBy(database) : database!;
    check(
      typeof given?.transaction === 'function',
      'database',
      given,
      'an open IDBDatabase, or a function that opens one',
    );
    const native: IDBDatabase = unwrap(given as unknown as IDBPDatabase) ?? given; // idb's own wrapping is welcome, where it is the same idb
    const lost = () => {
      drop();
      options.onDropped();
    };
    native.addEventListener('close', lost, { once: true });
    return wrap(native) as unknown as Database;
  };

  const firstLook = async (db: Database) => {
    assertStores(db, database !== undefined);
    try {
      const meta = reading(db, 'stepfast:meta').objectStore('stepfast:meta');
      const [format, found] = await Promise.all([meta.get('format'), meta.get('born')]);
      assertFormat(format, 'minReader');
      const isReborn = births > 0 && found !== born;
      born = found;
      if (isReborn || !births) births++;
      if (isReborn) options.onReborn(db.name);
    } catch (error) {
      if (typeof database !== 'object' || (error as Error).name !== 'InvalidStateError') throw error;
      options.onGone();
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
      opening++;
      try {
        const db = await (database ? openApps(drop) : openOwn(drop));
        try {
          await firstLook(db);
        } catch (error) {
          if (!database) db.close();
          throw error;
        }
        return db;
      } finally {
        opening--;
        ended();
      }
    })();
    mine.catch(drop);
    return (current = mine);
  };

  return {
    async use(body) {
      // Once more on a new connection, and once more with another IndexedDB.
      for (let failures = 0; ; failures++) {
        await frozen?.over;
        const mine = connected();
        try {
          return await body(await mine);
        } catch (error) {
          const isDead = error instanceof DOMException && /^(InvalidState|Unknown|Abort)/.test(error.name);
          if (isDead) forget(mine);
          if (isDead && frozen) failures = -1;
          else if (!isDead || failures > 1 || (failures === 1 && (database || !factory.renew())))
            throw storeError(error);
        }
      }
    },
    end() {
      isEnded = true;
      forget(current);
      frozen?.thaw();
      endFrame();
    },
    pause,
    freeze() {
      if (isEnded) return;
      pause();
      for (const tx of open)
        try {
          tx.abort();
          undone.add(tx);
        } catch {
          // it is at its end, and needs nothing of us any more
        }
    },
    thaw() {
      paused += pausing();
      frozen?.thaw();
      frozen = undefined;
    },
    wasFrozen: (tx) => undone.has(tx),
    pausedMs: () => paused + pausing(),
    births: () => births,
  };
}
