import { afterEach, expect, it, vi } from 'vitest';
import { indexedDBStore } from '../../adapters/indexeddb/index.js';
import { memoryStore } from '../../adapters/memory/index.js';
import { createStepfast } from '../../src/index.js';
import { claim, freshName, newRun, now, openStore, started } from './indexeddb-kit.js';

/*
 * Pins: where the IndexedDB of the page is dead for good, that of a fresh iframe is used; where there is none at all, the
 * fallback; what is asked of the browser, and what developers are told, about data that it may delete.
 */

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

/** A page whose IndexedDB can die, as WebKit's does: what is open is dead, and opening fails. Iframes have another. */
function mortalPage() {
  const real = globalThis.indexedDB;
  const frames: { isThere: boolean }[] = [];
  let isDead = false;
  const lost = () => new DOMException('Connection to Indexed Database server lost. Refresh the page.', 'UnknownError');
  const open = (...args: Parameters<IDBFactory['open']>) => {
    if (isDead) throw lost();
    return real.open(...args);
  };
  vi.stubGlobal('indexedDB', { open });
  vi.stubGlobal('document', {
    addEventListener: () => undefined,
    removeEventListener: () => undefined,
    documentElement: { append: (frame: { isThere: boolean }) => void (frame.isThere = true) },
    createElement() {
      const frame = {
        isThere: false,
        contentWindow: { indexedDB: real },
        remove: () => void (frame.isThere = false),
      };
      frames.push(frame);
      return frame;
    },
  });
  return {
    frames,
    die() {
      isDead = true;
      const { transaction } = IDBDatabase.prototype;
      const dead = new WeakSet<IDBDatabase>();
      let deaths = 0;
      vi.spyOn(IDBDatabase.prototype, 'transaction').mockImplementation(function (this: IDBDatabase, ...args) {
        if (!deaths++) dead.add(this);
        if (dead.has(this)) throw new DOMException('dead', 'InvalidStateError');
        return transaction.apply(this, args);
      });
    },
  };
}

it('D5: when the IndexedDB of the page is dead for good, that of an iframe takes over, and nothing is lost', async () => {
  const page = mortalPage();
  const store = await openStore(freshName());
  await store.commit({ now, starts: [newRun('run')] });
  page.die();
  expect(await store.load('run')).toMatchObject({ journal: [started()] });
  expect(await store.commit({ now, run: claim('run', 0) })).toMatchObject({ kind: 'committed' });
  expect(page.frames).toMatchObject([{ isThere: true }]);
  await store.close();
  await vi.waitUntil(() => !page.frames[0]!.isThere);
});

it('D5: an iframe is removed when what was under way in it has ended, for without it that would never end', async () => {
  const page = mortalPage();
  const store = await openStore(freshName());
  await store.commit({ now, starts: [newRun('run')] });
  page.die();
  await store.load('run');
  const begun = vi.mocked(IDBDatabase.prototype.transaction).mock.calls;
  const before = begun.length;
  const committing = store.commit({ now, run: claim('run', 0) });
  for (let turn = 0; turn < 100 && begun.length === before; turn++) await undefined;
  store.abandon?.();
  expect(page.frames[0]!.isThere).toBe(true);
  const wasThere = committing.then(() => page.frames[0]!.isThere);
  expect(await committing).toMatchObject({ kind: 'committed' });
  expect(await wasThere).toBe(true);
  await vi.waitUntil(() => !page.frames[0]!.isThere);
});

it('D5: in a worker, where there are no iframes, a dead IndexedDB is told as unavailable', async () => {
  const page = mortalPage();
  const store = await openStore(freshName());
  page.die();
  vi.stubGlobal('document', undefined);
  await expect(store.load('run')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
  store.abandon?.();
});

it('a fallback that is no function is refused', () => {
  for (const fallback of [null, 0, '', Number.NaN, {}] as never[])
    expect(() => indexedDBStore({ fallback })).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }));
  expect(() => indexedDBStore({ fallback: undefined as never })).not.toThrow();
});

it('without IndexedDB the fallback is the store, and shows that it keeps nothing', async () => {
  vi.stubGlobal('indexedDB', undefined);
  const store = indexedDBStore({ fallback: memoryStore });
  expect(store.capabilities.durability).toBe('none');
  await expect(
    indexedDBStore().open({ owner: 'a', now, leaseMs: 1, mode: 'drive', onError: () => undefined }),
  ).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE', message: expect.stringContaining('fallback') });
});

const failing = (message: string, name: string) => ({
  open() {
    throw new DOMException(message, name);
  },
});

it.each([
  ['The operation is insecure.', 'SecurityError'],
  ['The user denied permission to access the database.', 'UnknownError'],
])('where IndexedDB is forbidden, the fallback takes its place as soon as it is opened: %s', async (message, name) => {
  vi.stubGlobal('indexedDB', failing(message, name));
  const store = indexedDBStore({ fallback: memoryStore });
  const errors: unknown[] = [];
  const engine = createStepfast({ store, onError: (error) => errors.push(error) });
  engine.job('job', ({ step }) => step.run('work', () => 'done'));
  const seen: string[] = [];
  engine.runs.subscribe('r', ({ status }) => void seen.push(status));
  expect(await (await engine.start('job', undefined, { id: 'r' })).result()).toBe('done');
  expect([store.capabilities.durability, store.name, errors]).toEqual(['none', 'memory', []]);
  await vi.waitFor(() => expect(seen.at(-1)).toBe('completed'));
  await engine.close();
});

it('where the database of the app is forbidden, the fallback takes its place; transactions are blocked in it', async () => {
  const database = () => Promise.reject(new DOMException('The operation is insecure.', 'SecurityError'));
  const store = indexedDBStore({ database, fallback: memoryStore });
  const errors: unknown[] = [];
  const engine = createStepfast({ store, onError: (error) => errors.push(error) });
  engine.job('job', ({ step }) => step.run('work', () => 'done'));
  engine.job('shared', ({ step }) => step.transaction('both', ['orders'], () => 1));
  expect(await (await engine.start('job')).result()).toBe('done');
  expect(store.capabilities.durability).toBe('none');
  const shared = await engine.start('shared');
  await vi.waitFor(async () => expect(await shared.status()).toBe('blocked'));
  expect((await engine.runs.get(shared.id))?.error?.message).toContain('a store that shares a database with the app');
  await engine.close();
});

it('where IndexedDB fails for any other reason, there may be runs in it: the fallback is not made', async () => {
  vi.stubGlobal('indexedDB', failing('Internal error opening backing store.', 'UnknownError'));
  const fallback = vi.fn(memoryStore);
  const open = { owner: 'a', now, leaseMs: 1, mode: 'drive', onError: () => undefined } as const;
  await expect(indexedDBStore({ fallback }).open(open)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
  expect(fallback).not.toHaveBeenCalled();
});

it('with IndexedDB the fallback is not made', () => {
  const fallback = vi.fn(memoryStore);
  expect(indexedDBStore({ fallback }).capabilities.durability).toBe('process');
  expect(fallback).not.toHaveBeenCalled();
  expect(() => indexedDBStore({ fallback: 'memory' as never })).toThrow('[INVALID_OPTION]');
  // Also where the fallback would be taken: what is wrong in one browser is in all.
  vi.stubGlobal('indexedDB', undefined);
  const database = (() => undefined) as never;
  expect(() => indexedDBStore({ name: 'x', database, fallback: memoryStore })).toThrow('[INVALID_OPTION]');
  vi.unstubAllGlobals();
});

it('persistence is asked for when the app wants it, and not else', async () => {
  const persist = vi.fn(async () => true);
  vi.stubGlobal('navigator', { storage: { persist } });
  const open = { owner: 'a', now, leaseMs: 1, mode: 'drive', onError: () => undefined } as const;
  const stores = [indexedDBStore({ name: freshName() }), indexedDBStore({ name: freshName(), persist: true })];
  await stores[0]!.open(open);
  expect(persist).not.toHaveBeenCalled();
  await stores[1]!.open(open);
  expect(persist).toHaveBeenCalledOnce();
  for (const store of stores) await store.close();
});

it.each([
  ['Apple Computer, Inc.', false, 8, 1],
  ['Apple Computer, Inc.', true, 8, 0],
  ['Apple Computer, Inc.', false, 6, 0],
  ['Google Inc.', false, 8, 0],
])('%s, persistent %s, a wait of %s days: %s warnings', async (vendor, isPersistent, days, warnings) => {
  vi.stubGlobal('navigator', { vendor, storage: { persisted: async () => isPersistent } });
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
  const store = await openStore(freshName());
  await store.commit({ now, starts: [newRun('run')] });
  const change = claim('run', 0);
  const waiting = {
    ...change,
    state: { ...change.state!, status: 'sleeping', dueAt: now + days * 86_400_000 },
  } as const;
  await store.commit({ now, run: waiting });
  await store.commit({ now, run: { ...waiting, fence: 1 } });
  await store.close();
  expect(warn).toHaveBeenCalledTimes(warnings);
});
