import 'fake-indexeddb/auto';
import { IDBObjectStore as FakeObjectStore } from 'fake-indexeddb';
import { addStores, indexedDBStore } from '../../../adapters/indexeddb/index.js';
import { memoryMedium, memoryStore } from '../../../adapters/memory/index.js';
import { StepfastError } from '../../../src/errors.js';
import type { Store } from '../../../src/store/store.js';
import { wrapStore } from '../../../src/testing/failing-store.js';
import { type Action, DATABASE_MODES, DISK_MODES, type Injector, type Keep, type Mode, STORE_MODES } from './faults.js';
import { fileMedium } from './files.js';

// Not a bare import: the package says that its modules have no side effects, and a bundler would leave it out.
await import('../../fake-locks.js');

/*
 * Where flows are kept, with the place at which faults strike.
 */

/** A context that uses the medium; `die` ends it and throws. */
export interface Life {
  readonly isOver: boolean;
  die(keep: Keep): never;
}

export interface Medium {
  /** A new context on what the one before has left. */
  open(life: Life): Store;
  /** The context has died: what of the medium is left. */
  crashed(keep: Keep): void;
  /** What lies about when the last context was closed in order, in words. */
  leftovers(): Promise<readonly string[]>;
  dispose(): void;
}

export interface MediumKind {
  readonly modes: Readonly<Record<string, Mode>>;
  fresh(injector: Injector): Medium;
}

export const gone = () => new StepfastError('STORE_UNAVAILABLE', 'The context is gone.');

const failed = ({ code }: Action & { readonly kind: 'fail' }): StepfastError =>
  code === 'full'
    ? new StepfastError('QUOTA_EXCEEDED', 'The medium is full.')
    : new StepfastError('STORE_UNAVAILABLE', 'The medium is broken.');

/** Faults at the methods of a store. */
const struck = (store: Store, life: Life, injector: Injector): Store =>
  wrapStore(store, async (name, _, call) => {
    if (life.isOver) throw gone();
    const action = injector.meet(name);
    if (action?.kind === 'die' && action.when === 'before') life.die(action.keep);
    if (action?.kind === 'fail' && action.when === 'before') throw failed(action);
    const answer = await call();
    if (action?.kind === 'die') life.die(action.keep);
    if (action?.kind === 'fail') throw failed(action);
    return answer;
  });

const memory: MediumKind = {
  modes: STORE_MODES,
  fresh(injector) {
    const medium = memoryMedium();
    return {
      open: (life) => struck(memoryStore({ medium }), life, injector),
      crashed: () => undefined,
      leftovers: async () => [...medium.owners].map((owner) => `owner ${owner}`),
      dispose: () => undefined,
    };
  },
};

// ---- IndexedDB --------------------------------------------------------------------------------------------------------

/** The parts of fake-indexeddb by which a transaction can be made to fail as a browser makes it fail. */
interface FakeTransaction {
  readonly db: { readonly name: string };
  readonly mode: string;
  _state: string;
  _abort(name: string): void;
}

const injectors = new Map<string, Injector>();

/** A full disk shows in the middle of a transaction: it is aborted as a whole, with the reason as its error. */
for (const operation of ['put', 'delete'] as const) {
  const real = FakeObjectStore.prototype[operation] as (...given: unknown[]) => unknown;
  const patched = function (this: { readonly transaction: FakeTransaction }, ...given: unknown[]) {
    const request = real.apply(this, given);
    const { transaction } = this;
    const isMeant = transaction.mode === 'readwrite' && injectors.get(transaction.db.name)?.meet(operation);
    if (isMeant && transaction._state === 'active') transaction._abort('QuotaExceededError');
    return request;
  };
  Object.defineProperty(FakeObjectStore.prototype, operation, { value: patched, configurable: true });
}

let databases = 0;
/** The object store of the app beside ours, for `step.transaction`. */
export const SEATS = 'seats';

const openDatabase = (name: string) =>
  new Promise<IDBDatabase>((resolve, reject) => {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => {
      addStores(request.result);
      request.result.createObjectStore(SEATS);
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

export const done = <T>(request: IDBRequest<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

const indexeddb: MediumKind = {
  modes: DATABASE_MODES,
  fresh(injector) {
    const name = `crash-${++databases}`;
    injectors.set(name, injector);
    const connections: IDBDatabase[] = [];
    const connect = async () => {
      const database = await openDatabase(name);
      connections.push(database);
      return database;
    };
    return {
      open: (life) => struck(indexedDBStore({ database: connect }), life, injector),
      crashed: () => undefined,
      async leftovers() {
        injectors.delete(name);
        const database = await connect();
        const tx = database.transaction(['stepfast:meta', SEATS]);
        const keys = await done(tx.objectStore('stepfast:meta').getAllKeys());
        const seats = await done(tx.objectStore(SEATS).getAll());
        return [
          ...keys.filter((key) => String(key).startsWith('lease:')).map(String),
          ...seats.map((n) => `seats ${n}`),
        ];
      },
      dispose() {
        injectors.delete(name);
        for (const connection of connections) connection.close();
        indexedDB.deleteDatabase(name);
      },
    };
  },
};

const file: MediumKind = { modes: DISK_MODES, fresh: fileMedium };

export const MEDIA: Readonly<Record<string, MediumKind>> = { memory, indexeddb, file };
