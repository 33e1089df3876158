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

async function runSuite(prefix: string): Promise<readonly SuiteResult[]> {
  let media = 0;
  const results = await runConformance(() => {
    const name = `${prefix}-${++media}`;
    return Object.assign(() => indexedDBStore({ name }), { dispose: () => void indexedDB.deleteDatabase(name) });
  });
  return results.map((result) => {
    const { kind, name } = result;
    if (result.kind === 'passed') return { kind, name };
    const detail = result.kind === 'skipped' ? result.reason : String((result.error as Error)?.stack ?? result.error);
    return { kind, name, detail };
  });
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

const tools = { runSuite, suiteInWorker, openStore, openShared };

declare global {
  /** The tools of this page. */
  var lab: typeof tools;
  /** Kept by a test between two calls of `page.evaluate`. */
  var store: Store;
}

globalThis.lab = tools;
if (typeof document === 'undefined') void runSuite('worker').then((results) => postMessage(results));
