import '../fake-locks.js';
import { openDB, unwrap } from 'idb';
import { afterEach, expect, it, vi } from 'vitest';
import { addStores, indexedDBStore } from '../../adapters/indexeddb/index.js';
import type { Store } from '../../src/store/store.js';
import { claim, dueQuery, freshName, leaseMs, newRun, now, raw } from './indexeddb-kit.js';

/*
 * Pins: a database of the app as the store: who prepares it, who opens it, who closes it, and what is said when it is
 * not as it must be.
 */

const cleanup: (() => unknown)[] = [];
afterEach(async () => {
  for (const each of cleanup.splice(0)) await each();
});

/** The app's own database, opened as apps do it. */
function openApp(name: string, version = 1, upgrade: (db: IDBDatabase) => void = addStores): Promise<IDBDatabase> {
  const request = indexedDB.open(name, version);
  request.onupgradeneeded = () => {
    const db = request.result;
    if (!db.objectStoreNames.contains('orders')) db.createObjectStore('orders', { keyPath: 'id' });
    upgrade(db);
  };
  return new Promise((resolve, reject) => {
    request.onsuccess = () => {
      cleanup.push(() => request.result.close());
      resolve(request.result);
    };
    request.onerror = () => reject(request.error);
  });
}

async function opened(store: Store, owner = 'a'): Promise<Store> {
  await store.open({ owner, now, leaseMs, mode: 'drive', onError: () => undefined });
  cleanup.unshift(() => store.close());
  return store;
}

it('runs are kept in the database of the app, which stays open when the store is closed', async () => {
  const name = freshName();
  const database = await openApp(name);
  const store = await opened(indexedDBStore({ database }));
  await store.commit({ now, starts: [newRun('run')] });
  expect((await store.due(dueQuery())).runs).toHaveLength(1);
  expect((await store.list({ limit: 10 })).runs).toHaveLength(1);
  await store.close();
  expect(database.transaction('orders').objectStore('orders').name).toBe('orders');
  expect((await indexedDB.databases()).map((each) => each.name)).not.toContain('stepfast');
  const again = await opened(indexedDBStore({ database: () => database }));
  expect((await again.load('run'))?.journal).toHaveLength(1);
});

it('the object stores are those of our own database, and none of the names can be one of the app', async () => {
  const [own, app] = [freshName(), freshName()];
  await (await opened(indexedDBStore({ name: own }))).close();
  await openApp(app);
  const layoutOf = async (name: string) => {
    const db = await raw(name);
    const names = [...db.objectStoreNames].filter((each) => each !== 'orders');
    const tx = db.transaction(names);
    const layout = names.map((each) => [each, tx.objectStore(each).keyPath, ...tx.objectStore(each).indexNames]);
    db.close();
    return layout;
  };
  expect(await layoutOf(app)).toEqual(await layoutOf(own));
  expect((await layoutOf(own)).every(([each]) => String(each).startsWith('stepfast:'))).toBe(true);
});

it('addStores leaves what is there as it is', async () => {
  const name = freshName();
  const first = await openApp(name);
  const store = await opened(indexedDBStore({ database: first }));
  await store.commit({ now, starts: [newRun('run')], state: [{ kind: 'set', key: 'k', value: 1 }] });
  await store.close();
  first.close();
  const second = await opened(indexedDBStore({ database: await openApp(name, 2) }));
  expect(await second.load('run')).toBeDefined();
  expect(await second.commit({ now, starts: [newRun('next')] })).toMatchObject({ kind: 'committed' });
  expect((await second.load('next'))?.row.seq).toBe(3);
});

it('a database that was not prepared is refused, with what to do', async () => {
  const database = await openApp(freshName(), 1, () => undefined);
  await expect(opened(indexedDBStore({ database }))).rejects.toMatchObject({
    code: 'STORE_UNAVAILABLE',
    message: expect.stringMatching(/no object store "stepfast:runs".*addStores\(db\)/),
  });
});

it('a database of somebody else under our name is refused, and left as it is', async () => {
  const name = freshName();
  (await openApp(name, 1, () => undefined)).close();
  await expect(opened(indexedDBStore({ name }))).rejects.toMatchObject({
    code: 'STORE_UNAVAILABLE',
    message: expect.stringContaining('Give indexedDBStore another name'),
  });
  const db = await raw(name);
  expect([...db.objectStoreNames]).toEqual(['orders']);
  db.close();
});

it('a function that opens the database is called when it is needed, and again when the app has closed it', async () => {
  const name = freshName();
  const connections: IDBDatabase[] = [];
  const open = async () => {
    const db = await openApp(name);
    connections.push(db);
    return db;
  };
  const store = indexedDBStore({ database: open });
  expect(connections).toHaveLength(0);
  await opened(store);
  await Promise.all([store.commit({ now, starts: [newRun('run')] }), store.load('run'), store.due(dueQuery())]);
  expect(connections).toHaveLength(1);
  connections[0]!.close();
  expect(await store.load('run')).toBeDefined();
  connections[1]!.close();
  expect(await store.commit({ now, run: claim('run', 0) })).toMatchObject({ kind: 'committed', fence: 1 });
  expect(connections).toHaveLength(3);
});

it('a connection that was given and then closed is reported, with what to do', async () => {
  const database = await openApp(freshName());
  const store = await opened(indexedDBStore({ database }));
  database.close();
  for (const call of [() => store.load('run'), () => store.commit({ now, starts: [newRun('run')] })])
    await expect(call()).rejects.toMatchObject({
      code: 'STORE_UNAVAILABLE',
      message: expect.stringContaining('Give indexedDBStore a function that opens it'),
      cause: { name: 'InvalidStateError' },
    });
});

it('O2: who has a connection that the app has closed for good keeps no run from the others', async () => {
  const name = freshName();
  const given = await openApp(name);
  const a = await opened(indexedDBStore({ database: given }));
  const b = await opened(indexedDBStore({ database: await openApp(name) }), 'b');
  await a.commit({ now, starts: [newRun('run')] });
  await a.commit({ now, run: claim('run', 0, 'a') });
  const look = () => b.due(dueQuery({ owner: 'b', now }));
  expect(await look()).toMatchObject({ runs: [], foreign: true });
  given.close();
  await expect(a.load('run')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
  await vi.waitFor(async () => expect(await look()).toMatchObject({ runs: [{ interrupted: true }] }));
});

it('O2, O6: who finds the database of the app raised to a version that it does not know keeps no run from the others', async () => {
  const name = freshName();
  const first = await openApp(name);
  let given = first;
  let isRaised = false;
  const open = async () => {
    if (isRaised) throw new DOMException('The version is less.', 'VersionError');
    return given;
  };
  const a = await opened(indexedDBStore({ database: open }));
  await a.commit({ now, starts: [newRun('run')] });
  await a.commit({ now, run: claim('run', 0, 'a') });
  first.close();
  isRaised = true;
  given = await openApp(name, 2);
  const b = await opened(indexedDBStore({ database: given }), 'b');
  const look = () => b.due(dueQuery({ owner: 'b', now }));
  expect(await look()).toMatchObject({ runs: [], foreign: true });
  await expect(a.due(dueQuery({ owner: 'a', now }))).rejects.toMatchObject({ code: 'STORE_TOO_NEW' });
  await vi.waitFor(async () => expect(await look()).toMatchObject({ runs: [{ interrupted: true }] }));
});

it('D5: a database for which there is no space is told as such, and is opened when there is', async () => {
  let isFull = true;
  const { open } = IDBFactory.prototype;
  vi.spyOn(IDBFactory.prototype, 'open').mockImplementation(function (this: IDBFactory, ...given) {
    const request = open.apply(this, given);
    request.addEventListener('upgradeneeded', () => {
      if (!isFull) return;
      Object.defineProperty(request.transaction!, 'error', { value: new DOMException('full', 'QuotaExceededError') });
      request.transaction!.abort();
    });
    return request;
  });
  cleanup.push(() => vi.restoreAllMocks());
  const store = indexedDBStore({ name: freshName() });
  await expect(opened(store)).rejects.toMatchObject({ code: 'QUOTA_EXCEEDED' });
  isFull = false;
  await opened(store);
  expect(await store.commit({ now, starts: [newRun('run')] })).toMatchObject({ kind: 'committed' });
});

it('B: an error of the function that opens the database has a code, and the next call tries again', async () => {
  const database = await openApp(freshName());
  let failures = 1;
  const store = indexedDBStore({
    database: async () => {
      if (failures-- > 0) throw new Error('not yet');
      return database;
    },
  });
  const refusal = { code: 'STORE_UNAVAILABLE', cause: { message: 'not yet' } };
  await expect(opened(store)).rejects.toMatchObject(refusal);
  await opened(store);
  expect(await store.commit({ now, starts: [newRun('run')] })).toMatchObject({ kind: 'committed' });
});

it('a database that the package idb has opened will do, wrapped or not', async () => {
  const name = freshName();
  const db = await openDB(name, 1, { upgrade: (upgraded) => addStores(unwrap(upgraded)) });
  cleanup.push(() => db.close());
  for (const [owner, database] of Object.entries({ wrapped: db as unknown as IDBDatabase, native: unwrap(db) })) {
    const store = await opened(indexedDBStore({ database }), owner);
    expect(await store.commit({ now, starts: [newRun(owner)] })).toMatchObject({ kind: 'committed' });
  }
});

it('B: a name or a durability that makes no sense is refused before anything is opened', () => {
  const bad = [
    { name: '' },
    { name: 5 },
    { durability: 'never' },
    { persist: 'yes' },
    { database: null },
    { database: 5 },
  ];
  for (const options of bad)
    expect(() => indexedDBStore(options as never)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }));
});

it('a name and a database, or something that is no database, are refused', async () => {
  const database = await openApp(freshName());
  expect(() => indexedDBStore({ name: 'x', database })).toThrow(/name is "x".*\[INVALID_OPTION\]/);
  const nonsense = 'app' as unknown as IDBDatabase;
  expect(() => indexedDBStore({ database: nonsense })).toThrow(/database is "app".*\[INVALID_OPTION\]/);
  expect(() => addStores(null as unknown as IDBDatabase)).toThrow(/null.*\[INVALID_OPTION\]/);
  const nothing = (() => undefined) as unknown as () => IDBDatabase;
  await expect(opened(indexedDBStore({ database: nothing }))).rejects.toMatchObject({ code: 'INVALID_OPTION' });
});

it('O2: contexts that share the database of the app know of each other, and hear of commits', async () => {
  const name = freshName();
  const a = await opened(indexedDBStore({ database: () => openApp(name) }), 'a');
  const b = await opened(indexedDBStore({ database: () => openApp(name) }), 'b');
  const heard = new Promise((resolve) => b.watch(resolve));
  await a.commit({ now, starts: [newRun('run')] });
  await a.commit({ now, run: claim('run', 0, 'a') });
  expect(await heard).toBe('run');
  expect(await b.due(dueQuery({ owner: 'b' }))).toMatchObject({ runs: [], foreign: true });
  await a.close();
  expect((await b.due(dueQuery({ owner: 'b' }))).runs).toHaveLength(1);
});

it('D4: a format that only newer code may read is refused in a database of the app as well', async () => {
  const database = await openApp(freshName());
  const meta = database.transaction('stepfast:meta', 'readwrite').objectStore('stepfast:meta');
  meta.put({ minReader: 2, minWriter: 2 }, 'format');
  await expect(opened(indexedDBStore({ database }))).rejects.toMatchObject({ code: 'STORE_TOO_NEW' });
});
