import { afterEach, expect, it } from 'vitest';
import { indexedDBStore } from '../../adapters/indexeddb/index.js';
import { storeError } from '../../adapters/indexeddb/schema.js';
import type { RunRow } from '../../src/store/rows.js';
import {
  claim,
  dueQuery,
  freshName,
  leaseMs,
  newEvent,
  newRun,
  now,
  openStore,
  raw,
  started,
  stepped,
} from './indexeddb-kit.js';

/*
 * Pins: the layout of the database, which is for ever; that newer formats are refused untouched; that a long journal is
 * not rewritten with each commit; how owners are told alive from dead; what other contexts hear.
 */

let undo = (): unknown => undefined;
afterEach(() => void undo());

it('the layout of the database stays as released', async () => {
  const name = freshName();
  const store = await openStore(name);
  const db = await raw(name);
  expect(db.version).toBe(1);
  const layout = Object.fromEntries(
    [...db.objectStoreNames].map((storeName) => {
      const objectStore = db.transaction(storeName).store;
      const indexes = [...objectStore.indexNames].map((indexName) => {
        const { keyPath, unique, multiEntry } = objectStore.index(indexName);
        return `${indexName}: ${keyPath}${unique ? ' unique' : ''}${multiEntry ? ' multiEntry' : ''}`;
      });
      return [`${storeName}: ${objectStore.keyPath}`, indexes];
    }),
  );
  expect(layout).toEqual({
    'stepfast:events: row.seq': [
      'expires: row.expiresAt',
      'id: row.id',
      'key: pair,row.idempotencyKey',
      'pair: pair,row.seq',
      'untaken: untaken',
    ],
    'stepfast:meta: null': [],
    'stepfast:runs: row.runId': [
      'awaits: row.awaits multiEntry',
      'due: rank,row.dueAt,row.seq',
      'ended: row.endedAt,row.seq',
      'key: row.job,row.idempotencyKey unique',
      'pairs: pairs multiEntry',
      'parent: row.parentId',
      'seq: row.seq',
      'slot: row.slot',
      'unique: row.job,row.unique.key',
    ],
    'stepfast:spill: null': [],
    'stepfast:state: key': ['expires: expiresAt'],
  });
  expect(await db.get('stepfast:meta', 'format')).toEqual({ minReader: 1, minWriter: 1 });
  db.close();
  await store.close();
});

it('a row comes back exactly as the transition made it, without what the indexes need', async () => {
  const store = await openStore(freshName());
  await store.commit({ now, starts: [newRun('run', { idempotencyKey: 'k' })] });
  const expected: RunRow = {
    runId: 'run',
    job: 'job',
    version: 1,
    queue: 'queue',
    idempotencyKey: 'k',
    dueAt: now,
    seq: 1,
    status: 'queued',
    createdAt: now,
    fence: 0,
    length: 1,
    waits: [],
  };
  expect((await store.load('run'))?.row).toStrictEqual(expected);
  expect((await store.list({ limit: 1 })).runs[0]?.row).toStrictEqual(expected);
  expect((await store.due(dueQuery())).runs[0]?.row).toStrictEqual(expected);
  await store.close();
});

it('a long journal is kept in chunks that are written once, and read back in order', async () => {
  const name = freshName();
  const store = await openStore(name);
  await store.commit({ now, starts: [newRun('run')] });
  await store.commit({ now, run: claim('run', 0) });
  for (let i = 0; i < 150; i++)
    await store.commit({
      now,
      run: { runId: 'run', fence: 1, append: [stepped(`s${i}`)], state: claim('run', 0).state! },
    });
  const db = await raw(name);
  const { tail, chunks } = await db.get('stepfast:runs', 'run');
  expect(chunks).toBe(2);
  expect(tail).toHaveLength(152 - 128);
  expect(await db.getAllKeys('stepfast:spill')).toEqual([
    ['run', 0],
    ['run', 1],
  ]);
  db.close();
  const steps = Array.from({ length: 150 }, (_, i) => `s${i}`);
  for (const found of [await store.load('run'), (await store.list({ limit: 1 })).runs[0]]) {
    expect(found?.journal).toHaveLength(found!.row.length);
    expect(found?.journal.flatMap((entry) => (entry.kind === 'step-completed' ? [entry.id[0]] : []))).toEqual(steps);
  }
  await store.close();
});

it('large values do not stay in the record that each commit rewrites', async () => {
  const name = freshName();
  const store = await openStore(name);
  await store.commit({ now, starts: [newRun('run', { entries: [started('x'.repeat(100_000))] })] });
  await store.commit({ now, run: claim('run', 0) });
  const db = await raw(name);
  expect((await db.get('stepfast:runs', 'run')).tail).toHaveLength(1);
  expect(await db.count('stepfast:spill')).toBe(1);
  db.close();
  expect((await store.load('run'))?.journal.map(({ kind }) => kind)).toEqual(['started', 'claimed']);
  await store.close();
});

it('a format that only newer code may read is refused at opening, and left as it is', async () => {
  const name = freshName();
  await (await openStore(name)).close();
  const db = await raw(name);
  const format = { minReader: 2, minWriter: 2 };
  await db.put('stepfast:meta', format, 'format');
  await expect(openStore(name)).rejects.toMatchObject({ code: 'STORE_TOO_NEW' });
  expect(await db.get('stepfast:meta', 'format')).toEqual(format);
  expect(await db.count('stepfast:runs')).toBe(0);
  db.close();
});

it('a database of a higher version is refused as too new', async () => {
  const name = freshName();
  (await raw(name, 2)).close();
  await expect(openStore(name)).rejects.toMatchObject({ code: 'STORE_TOO_NEW', cause: { name: 'VersionError' } });
});

it('an open store stops writing when newer code has raised the format, and still reads', async () => {
  const name = freshName();
  const store = await openStore(name);
  await store.commit({ now, starts: [newRun('run')] });
  const db = await raw(name);
  await db.put('stepfast:meta', { minReader: 1, minWriter: 2 }, 'format');
  await expect(store.commit({ now, starts: [newRun('late')] })).rejects.toMatchObject({ code: 'STORE_TOO_NEW' });
  expect(await db.getAllKeys('stepfast:runs')).toEqual(['run']);
  expect(await store.load('run')).toBeDefined();
  db.close();
  await store.close();
});

it('where there is no IndexedDB, opening says what to do', async () => {
  const { indexedDB } = globalThis;
  undo = () => Object.assign(globalThis, { indexedDB });
  Object.assign(globalThis, { indexedDB: undefined });
  await expect(openStore(freshName())).rejects.toMatchObject({
    code: 'STORE_UNAVAILABLE',
    message: expect.stringContaining('memoryStore'),
  });
});

it('creating a store touches nothing', async () => {
  const name = freshName();
  indexedDBStore({ name });
  expect((await indexedDB.databases()).map((database) => database.name)).not.toContain(name);
});

it('a store that is closed while it opens stays closed', async () => {
  const store = indexedDBStore({ name: freshName() });
  const opening = store.open({ owner: 'a', now, leaseMs, mode: 'drive', onError: () => undefined });
  await store.close();
  await expect(opening).rejects.toMatchObject({ code: 'CLOSED' });
});

it('a store does not hold up another context that deletes the database, and reports it', async () => {
  const name = freshName();
  const store = await openStore(name);
  await store.commit({ now, starts: [newRun('run')] });
  await new Promise<void>((deleted, failed) => {
    const request = indexedDB.deleteDatabase(name);
    request.onsuccess = () => deleted();
    request.onblocked = () => failed(new Error('blocked'));
  });
  expect(await store.load('run')).toBeUndefined();
  expect(store.errors).toMatchObject([{ message: expect.stringContaining('was deleted while in use') }]);
  await store.close();
});

it('without Web Locks, an owner that looks for work stays alive', async () => {
  const name = freshName();
  const a = await openStore(name, { owner: 'a' });
  const b = await openStore(name, { owner: 'b' });
  await a.commit({ now, starts: [newRun('run')] });
  await a.commit({ now, run: claim('run', 0, 'a') });
  for (let at = now; at <= now + 4 * leaseMs; at += leaseMs / 2) {
    await a.due(dueQuery({ now: at }));
    expect(await b.due(dueQuery({ owner: 'b', now: at }))).toMatchObject({ runs: [], foreign: true });
  }
  await Promise.all([a.close(), b.close()]);
});

it('a page that was left in an orderly way did not crash', async () => {
  const name = freshName();
  const notes = new Map<string, string>();
  Object.assign(globalThis, { localStorage: storageOver(notes) });
  undo = () => Reflect.deleteProperty(globalThis, 'localStorage');
  const a = await openStore(name, { owner: 'a' });
  const b = await openStore(name, { owner: 'b' });
  await a.commit({ now, starts: [newRun('run')] });
  await a.commit({ now, run: claim('run', 0, 'a') });
  a.abandon?.();
  notes.set(`stepfast:${name}:left:a`, '1');
  expect((await b.due(dueQuery({ owner: 'b' }))).runs).toMatchObject([{ row: { runId: 'run' }, interrupted: false }]);
  await b.close();
});

it('notes of pages that were left are kept for the last five hundred', async () => {
  const name = freshName();
  const notes = new Map(Array.from({ length: 510 }, (_, i) => [`stepfast:${name}:left:${i}`, String(i)]));
  notes.set('of another', '0');
  Object.assign(globalThis, { localStorage: storageOver(notes) });
  undo = () => Reflect.deleteProperty(globalThis, 'localStorage');
  await (await openStore(name)).close();
  expect(notes.size).toBe(501);
  expect(notes.has(`stepfast:${name}:left:509`)).toBe(true);
  expect(notes.has(`stepfast:${name}:left:9`)).toBe(false);
});

it('many runs of living owners do not hide a due one', async () => {
  const name = freshName();
  const a = await openStore(name, { owner: 'a' });
  const b = await openStore(name, { owner: 'b' });
  const runIds = Array.from({ length: 200 }, (_, i) => `busy-${i}`);
  await Promise.all(runIds.map((runId) => a.commit({ now, starts: [newRun(runId, { dueAt: now - 1 })] })));
  await Promise.all(runIds.map((runId) => a.commit({ now, run: withDue(claim(runId, 0), now - 1) })));
  await a.commit({ now, starts: [newRun('free'), newRun('later', { dueAt: now + 5000 })] });
  const page = await b.due(dueQuery({ owner: 'b' }));
  expect(page.runs.map(({ row }) => row.runId)).toEqual(['free']);
  expect(page).toMatchObject({ foreign: true, nextDueAt: now + 5000 });
  await Promise.all([a.close(), b.close()]);
});

it('the next due time is found behind many runs of jobs that are not registered', async () => {
  const store = await openStore(freshName());
  const unknown = Array.from({ length: 200 }, (_, i) => newRun(`other-${i}`, { job: 'other', dueAt: now + i - 100 }));
  await store.commit({ now, starts: [...unknown, newRun('later', { dueAt: now + 5000 })] });
  expect(await store.due(dueQuery())).toEqual({ runs: [], nextDueAt: now + 5000, foreign: false });
  await store.close();
});

it('no more runs are returned than asked for, the oldest first', async () => {
  const store = await openStore(freshName());
  await store.commit({ now, starts: Array.from({ length: 300 }, (_, i) => newRun(`run-${i}`, { dueAt: now - i })) });
  const { runs } = await store.due(dueQuery({ limit: 3 }));
  expect(runs.map(({ row }) => row.runId)).toEqual(['run-299', 'run-298', 'run-297']);
  await store.close();
});

it('another context hears which runs have changed, and no nonsense', async () => {
  const name = freshName();
  const a = await openStore(name, { owner: 'a' });
  const b = await openStore(name, { owner: 'b' });
  const heard: (string | undefined)[] = [];
  const all = new Promise<void>((done) => {
    b.watch((runId) => {
      heard.push(runId);
      if (runId === 'last') done();
    });
  });
  const stranger = new BroadcastChannel(`stepfast:${name}`);
  stranger.postMessage({ not: 'a list' });
  stranger.postMessage([1, null, { runId: 'x' }]);
  await a.commit({ now, starts: [newRun('run')], events: [newEvent('e')] });
  await a.commit({ now, starts: [newRun('last')] });
  await all;
  expect(heard).toEqual(['run', 'last']);
  stranger.close();
  await Promise.all([a.close(), b.close()]);
});

it('a listener that throws is reported and does not disturb the commit', async () => {
  const store = await openStore(freshName());
  store.watch(() => {
    throw new Error('of the listener');
  });
  await store.commit({ now, starts: [newRun('run')] });
  expect(store.errors).toMatchObject([{ message: 'of the listener' }]);
  await store.close();
});

it('an event that has expired does not shadow a younger one of the same id or key', async () => {
  const store = await openStore(freshName());
  const event = newEvent('same', { idempotencyKey: 'k', ttlMs: 10 });
  // Older events that expire earlier, so that the sweep of a few at a time does not reach ours.
  await store.commit({ now, events: Array.from({ length: 20 }, (_, i) => newEvent(`old-${i}`, { ttlMs: 5 })) });
  await store.commit({ now, events: [event] });
  const second = await store.commit({ now: now + 11, events: [event] });
  const third = await store.commit({ now: now + 12, events: [event] });
  expect(second).toMatchObject({ events: [{ kind: 'accepted' }] });
  const { seq } = (second.kind === 'committed' && second.events[0]) || {};
  expect(third).toMatchObject({ events: [{ kind: 'deduplicated', seq }] });
  await store.close();
});

function withDue<T extends { readonly state?: object }>(change: T, dueAt: number): T {
  return { ...change, state: { ...change.state, dueAt } };
}

function storageOver(notes: Map<string, string>): Storage {
  const methods = {
    getItem: (key: string) => notes.get(key) ?? null,
    setItem: (key: string, value: string) => void notes.set(key, value),
    removeItem: (key: string) => void notes.delete(key),
  };
  return new Proxy(methods, {
    ownKeys: () => [...notes.keys()],
    getOwnPropertyDescriptor: () => ({ enumerable: true, configurable: true }),
  }) as unknown as Storage;
}

it('D7, F3: a file that can not be read any more is told as such, and not as a store that is away', () => {
  for (const [name, message] of [
    ['DataError', 'Failed to write blobs (InvalidBlob)'],
    ['NotReadableError', 'The requested file could not be read'],
  ] as const)
    expect(storeError(new DOMException(message, name))).toMatchObject({ code: 'NOT_SERIALIZABLE' });
  expect(storeError(new DOMException('Data provided to an operation', 'DataError'))).toMatchObject({
    code: 'STORE_UNAVAILABLE',
  });
});
