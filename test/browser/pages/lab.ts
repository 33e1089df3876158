import { addStores, indexedDBStore } from '../../../adapters/indexeddb/index.js';
import type { Store } from '../../../src/store/store.js';
import { runConformance } from '../../../src/testing/conformance.js';

/*
 * A page, or a worker, in which tests call the store. `lab` is what tests reach through `page.evaluate`.
 */

/** A result of the conformance suite, as it can leave the page. */
export interface SuiteResult {
  readonly kind: 'passed' | 'skipped' | 'failed';
  readonly name: string;
  readonly detail?: string;
}

/** The cases of the suite that have ended so far: where it hangs, the one behind the last is the one. */
const progress: string[] = [];

async function runSuite(prefix: string): Promise<readonly SuiteResult[]> {
  let media = 0;
  const results = await runConformance(
    () => {
      const name = `${prefix}-${++media}`;
      return Object.assign(() => indexedDBStore({ name }), { dispose: () => void indexedDB.deleteDatabase(name) });
    },
    { onResult: ({ name }) => void progress.push(name) },
  );
  return results.map((result) => {
    const { kind, name } = result;
    if (result.kind === 'passed') return { kind, name };
    const detail = result.kind === 'skipped' ? result.reason : String((result.error as Error)?.stack ?? result.error);
    return { kind, name, detail };
  });
}

/** From now on the page's own IndexedDB is dead for good, as WebKit's can be: what is open fails, and so does opening. */
function killIndexedDB(): void {
  const own = indexedDB;
  const { open } = IDBFactory.prototype;
  const { transaction } = IDBDatabase.prototype;
  const opened = new WeakSet<IDBDatabase>();
  let isDead = false;
  IDBFactory.prototype.open = function (...args) {
    if (this === own) throw new DOMException('Connection to Indexed Database server lost.', 'UnknownError');
    return open.apply(this, args);
  };
  IDBDatabase.prototype.transaction = function (...args) {
    // The first that is used after the death is the one that was open.
    if (!isDead) opened.add(this);
    isDead = true;
    if (opened.has(this)) throw new DOMException('The database connection is closing.', 'InvalidStateError');
    return transaction.apply(this, args);
  };
}

/** A store whose IndexedDB dies between two commits; what it holds then, and what it has put into the page. */
async function heals(name: string): Promise<{ frames: number; runs: string[] }> {
  const store = await openStore(name, 'owner');
  const now = Date.now();
  const start = (runId: string) =>
    store.commit({
      now,
      starts: [
        {
          ...{ runId, job: 'job', version: 1, queue: 'queue', dueAt: now },
          entries: [{ kind: 'started', at: now, payload: null }],
        },
      ],
    });
  await start('run-1');
  killIndexedDB();
  await start('run-2');
  const frames = document.querySelectorAll('iframe').length;
  const { runs } = await store.list({ limit: 10 }); // walks a cursor
  await store.close();
  await until(() => !document.querySelector('iframe')); // it has not left anything behind
  return { frames, runs: runs.map(({ row }) => row.runId).sort() };
}

const until = async (fits: () => boolean): Promise<void> => {
  while (!fits()) await new Promise((resolve) => setTimeout(resolve, 5));
};

/** The suite where each store is opened with another IndexedDB than the page's own. */
function suiteInFrames(): Promise<readonly SuiteResult[]> {
  const own = indexedDB;
  const { open } = IDBFactory.prototype;
  IDBFactory.prototype.open = function (...args) {
    if (this === own) throw new DOMException('Connection to Indexed Database server lost.', 'UnknownError');
    return open.apply(this, args);
  };
  return runSuite('frames');
}

function suiteInWorker(): Promise<readonly SuiteResult[]> {
  const worker = new Worker('/lab.js', { type: 'module' });
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => {
      worker.terminate();
      resolve(data as readonly SuiteResult[]);
    };
    worker.onerror = (event) => reject(new Error(event.message));
  });
}

async function openStore(name: string, owner: string, durability: 'relaxed' | 'strict' = 'relaxed'): Promise<Store> {
  const store = indexedDBStore({ name, durability });
  await store.open({ owner, now: Date.now(), leaseMs: 15_000, mode: 'drive', onError: console.error });
  return store;
}

/** A store in a database of the app, beside the app's own object store `orders`. */
async function openShared(name: string): Promise<{ store: Store; database: IDBDatabase }> {
  const request = indexedDB.open(name, 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore('orders', { keyPath: 'id' });
    addStores(request.result);
  };
  const database = await new Promise<IDBDatabase>((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  const store = indexedDBStore({ database });
  await store.open({ owner: 'owner', now: Date.now(), leaseMs: 15_000, mode: 'drive', onError: console.error });
  return { store, database };
}

const tools = { progress, runSuite, suiteInFrames, heals, suiteInWorker, openStore, openShared };

declare global {
  /** The tools of this page. */
  var lab: typeof tools;
  /** Kept by a test between two calls of `page.evaluate`. */
  var store: Store;
}

globalThis.lab = tools;
if (typeof document === 'undefined') void runSuite('worker').then((results) => postMessage(results));
