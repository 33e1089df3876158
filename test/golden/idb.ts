/*
 * IndexedDB databases as JSON: object stores, indexes and records, put together again without the store's own code.
 */

interface DumpedStore {
  readonly name: string;
  readonly keyPath: string | string[] | null;
  readonly indexes: readonly {
    readonly name: string;
    readonly keyPath: string | string[];
    readonly unique: boolean;
    readonly multiEntry: boolean;
  }[];
  readonly records: readonly (readonly [key: IDBValidKey, value: unknown])[];
}

export interface Dump {
  readonly version: number;
  readonly stores: readonly DumpedStore[];
}

const done = <T>(request: IDBRequest<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

export async function dumpDatabase(name: string): Promise<Dump> {
  const db = await done(indexedDB.open(name));
  const stores: DumpedStore[] = [];
  for (const storeName of db.objectStoreNames) {
    const store = db.transaction(storeName).objectStore(storeName);
    const indexes = [...store.indexNames].map((index) => {
      const { keyPath, unique, multiEntry } = store.index(index);
      return { name: index, keyPath, unique, multiEntry };
    });
    const [keys, values] = await Promise.all([done(store.getAllKeys()), done(store.getAll())]);
    const records = keys.map((key, index) => [key, values[index] as unknown] as const);
    stores.push({ name: storeName, keyPath: store.keyPath, indexes, records });
  }
  db.close();
  return { version: db.version, stores };
}

export async function restoreDatabase(name: string, { version, stores }: Dump): Promise<void> {
  const request = indexedDB.open(name, version);
  request.onupgradeneeded = () => {
    for (const { name: storeName, keyPath, indexes, records } of stores) {
      const store = request.result.createObjectStore(storeName, { keyPath });
      for (const { name: index, keyPath: path, ...of } of indexes) store.createIndex(index, path, of);
      for (const [key, value] of records) store.put(value, ...(keyPath === null ? [key] : []));
    }
  };
  (await done(request)).close();
}
