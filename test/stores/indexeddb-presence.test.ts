import { afterEach, describe, expect, it, vi } from 'vitest';
import { lockManager } from '../fake-locks.js';
import {
  claim,
  dueQuery,
  freshName,
  leaseMs,
  newEvent,
  newRun,
  now,
  type Opened,
  openStore,
  raw,
  waitUntil,
} from './indexeddb-kit.js';

/*
 * Pins: how owners are told alive from dead, with Web Locks and without: who holds its lock but does not answer is dead
 * in the end, who answers is alive although its lease ran out; who died is noticed at once, and not asked about for ever.
 */

let passed = 0;
const realNow = performance.now.bind(performance);
vi.spyOn(performance, 'now').mockImplementation(() => realNow() + passed);
afterEach(() => vi.unstubAllGlobals());

/** Two stores on one database; the first has claimed a run. */
async function twoOwners() {
  const name = freshName();
  const [a, b] = [await openStore(name, { owner: 'a' }), await openStore(name, { owner: 'b' })];
  await a.commit({ now, starts: [newRun('run')] });
  await a.commit({ now, run: claim('run', 0, 'a') });
  return { name, a, b };
}
const look = (store: Opened, at = now) => store.due(dueQuery({ owner: 'b', now: at }));
/** Lets messages between the two go both ways. */
const exchange = async () => {
  for (let n = 0; n < 50; n++) await new Promise((resolve) => setTimeout(resolve, 1));
};
/** What `look` says when it is asked again every three seconds, each time after messages had time to go both ways. */
async function looks(store: Opened, times: number, at = now): Promise<string[]> {
  const said: string[] = [];
  for (let n = 0; n < times; n++) {
    const { runs, foreign } = await look(store, at);
    said.push(runs[0] ? `taken, interrupted: ${runs[0].interrupted}` : `left: ${foreign}`);
    await exchange();
    passed += 3_000;
  }
  return said;
}
/** As if the context was frozen: it hears nothing any more. Its lock, or lease, stays. */
function deafen() {
  const original = BroadcastChannel.prototype.postMessage;
  BroadcastChannel.prototype.postMessage = function (message) {
    if ((message as { here?: string }).here !== 'a') original.call(this, message);
  };
  return () => {
    BroadcastChannel.prototype.postMessage = original;
  };
}
const left = 'left: true';
const taken = 'taken, interrupted: true';

describe('O2: with Web Locks', () => {
  it('an owner that answers keeps its run, however long the step takes', async () => {
    const { a, b } = await twoOwners();
    expect(new Set(await looks(b, 8))).toEqual(new Set([left]));
    await Promise.all([a.close(), b.close()]);
  });

  it('an owner that holds its lock and does not answer loses its run after three questions', async () => {
    const { a, b } = await twoOwners();
    const undo = deafen();
    expect(await looks(b, 4)).toEqual([left, left, left, taken]);
    undo();
    expect(await looks(b, 3), 'it was only slow').toEqual([taken, left, left]);
    await Promise.all([a.close(), b.close()]);
  });

  it('a context that was asleep itself does not take that for the silence of others', async () => {
    const { a, b } = await twoOwners();
    const undo = deafen();
    expect((await look(b)).foreign).toBe(true);
    passed += 8 * 3_600_000;
    expect((await look(b)).foreign).toBe(true);
    undo();
    await Promise.all([a.close(), b.close()]);
  });

  it('O1: in a page, a note does not make an owner gone that holds its lock: a page that only used it may have left that', async () => {
    const { name, a, b } = await twoOwners();
    const notes = new Map([[`stepfast:${name}:left:a`, '1']]);
    vi.stubGlobal('localStorage', {
      getItem: (key: string) => notes.get(key) ?? null,
      setItem: (key: string, value: string) => void notes.set(key, value),
      removeItem: (key: string) => void notes.delete(key),
    });
    expect(await looks(b, 4)).toEqual([left, left, left, left]);
    a.abandon?.();
    expect(await look(b), 'gone, in order as the note says').toMatchObject({ runs: [{ interrupted: false }] });
    await b.close();
  });

  it('F5: in a worker, a note of its page says how an owner went, not that it is gone, and counts once it was seen alive no more', async () => {
    type Notes = { readonly left: Set<string>; readonly own: Set<string> };
    const notes = () => (globalThis as unknown as { readonly [name: symbol]: Notes })[Symbol.for('stepfast.notes')]!;
    const { name, a, b } = await twoOwners();
    const note = `stepfast:${name}:left:a`;
    expect(notes().own.has(note)).toBe(true);
    notes().left.add(note);
    expect(await looks(b, 4), 'its page was in the cache, and is back').toEqual([left, left, left, left]);
    a.abandon?.();
    expect(notes().own.has(note)).toBe(false);
    expect(await look(b), 'a crash since').toMatchObject({ runs: [{ interrupted: true }] });
    notes().left.add(note);
    expect(await look(b), 'left in order').toMatchObject({ runs: [{ interrupted: false }] });
    await b.close();
  });

  it('an owner that is gone is not taken for alive while another is just being told, who holds its lock for that moment', async () => {
    const { name, a, b } = await twoOwners();
    a.abandon?.();
    const found = await navigator.locks.request(`stepfast:${name}:a`, {}, () => look(b));
    expect(found).toMatchObject({ runs: [{ interrupted: true }] });
    await b.close();
  });

  it('is told at once when an owner with due work is gone', async () => {
    const { a, b } = await twoOwners();
    expect((await look(b)).foreign).toBe(true);
    const heard = new Promise<string | undefined>((resolve) => b.watch(resolve));
    a.abandon?.();
    expect(await heard).toBeUndefined();
    expect(await look(b)).toMatchObject({ runs: [{ interrupted: true }] });
    await b.close();
  });

  it('one that answers and goes at once, so that its answer is heard when its lock is free, is gone', async () => {
    const { name, a, b } = await twoOwners();
    expect((await look(b)).foreign).toBe(true);
    await exchange();
    a.abandon?.();
    const channel = new BroadcastChannel(`stepfast:${name}`);
    channel.postMessage({ here: 'a' });
    await exchange();
    channel.close();
    expect(await look(b)).toMatchObject({ runs: [{ interrupted: true }] });
    await b.close();
  });

  it('contexts with lock managers of their own, as after `Clear-Site-Data`, leave each other their runs for as long as they answer', async () => {
    const name = freshName();
    const a = await openStore(name, { owner: 'a' });
    vi.stubGlobal('navigator', { locks: lockManager() });
    const b = await openStore(name, { owner: 'b' });
    await exchange();
    await a.commit({ now, starts: [newRun('run'), newRun('other')] });
    await a.commit({ now, run: claim('run', 0, 'a') });
    await b.commit({ now, run: claim('other', 0, 'b') });
    const lookOf = async (store: Opened, owner: string) => {
      const { runs, foreign } = await store.due(dueQuery({ owner, now }));
      return { runs: runs.length, foreign };
    };
    for (let n = 0; n < 8; n++) {
      expect(await lookOf(b, 'b')).toEqual({ runs: 0, foreign: true });
      expect(await lookOf(a, 'a')).toEqual({ runs: 0, foreign: true });
      await exchange();
      passed += 3_000;
    }
    a.abandon?.();
    expect(await looks(b, 4)).toEqual([left, left, left, taken]);
    await b.close();
  });
});

/** A store as in a page, whose document and window tests can tell of events. */
async function inPage(name: string) {
  const page = Object.assign(new EventTarget(), { visibilityState: 'hidden' });
  const window = new EventTarget();
  vi.stubGlobal('document', page);
  vi.stubGlobal('addEventListener', window.addEventListener.bind(window));
  const store = await openStore(name, { owner: 'a' });
  vi.unstubAllGlobals();
  const leaves = (persisted: boolean) => void window.dispatchEvent(Object.assign(new Event('pagehide'), { persisted }));
  return {
    store,
    leaves,
    freezes: () => void page.dispatchEvent(new Event('freeze')),
    resumes: () => void page.dispatchEvent(new Event('resume')),
    isShown: () => void window.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true })),
  };
}
/** The transactions that are open, until `restore`. */
function watchTransactions() {
  const open = new Set<IDBTransaction>();
  const { prototype } = IDBDatabase;
  const original = prototype.transaction;
  prototype.transaction = function (...args) {
    const tx = original.apply(this, args);
    open.add(tx);
    for (const end of ['complete', 'abort']) tx.addEventListener(end, () => open.delete(tx));
    return tx;
  };
  return { open, restore: () => void (prototype.transaction = original) };
}
type Page = Awaited<ReturnType<typeof inPage>>;

it.each<[string, (page: Page) => void, (page: Page) => void]>([
  ['is frozen', (page) => page.freezes(), (page) => page.resumes()],
  // WebKit keeps the transactions of a cached page open, and the site's other pages waiting.
  ['goes into the back/forward cache', (page) => page.leaves(true), (page) => page.isShown()],
])('O2: a page that %s leaves no transaction open, begins none, and goes on when it is back', async (_, goes, returns) => {
  const name = freshName();
  const page = await inPage(name);
  const a = page.store;
  const b = await openStore(name, { owner: 'b' });
  const { open, restore } = watchTransactions();
  const committing = a.commit({ now, starts: [newRun('run')] });
  await waitUntil(() => open.size > 0);
  goes(page);
  const dueLater = a.due(dueQuery());
  await waitUntil(() => open.size === 0);
  await exchange();
  expect(open.size, 'begun while frozen').toBe(0);
  expect(await b.load('run')).toBeUndefined();
  expect(await b.commit({ now, starts: [newRun('other')] })).toMatchObject({ kind: 'committed' });
  returns(page);
  expect(await committing).toMatchObject({ kind: 'committed' });
  expect((await dueLater).runs.length).toBeGreaterThan(0);
  expect(await b.load('run')).toBeDefined();
  restore();
  await Promise.all([a.close(), b.close()]);
});

/** The channels that are listened to, until `restore`. */
function watchChannels() {
  const listening = new Set<BroadcastChannel>();
  const { prototype } = BroadcastChannel;
  const { close } = prototype;
  const onmessage = Object.getOwnPropertyDescriptor(prototype, 'onmessage')!;
  Object.defineProperty(prototype, 'onmessage', {
    ...onmessage,
    set(this: BroadcastChannel, hear) {
      listening.add(this);
      onmessage.set!.call(this, hear);
    },
  });
  prototype.close = function () {
    listening.delete(this);
    close.call(this);
  };
  const restore = () => {
    Object.defineProperty(prototype, 'onmessage', onmessage);
    prototype.close = close;
  };
  return { listening, restore };
}

it.each<[string, (page: Page) => void, (page: Page) => void]>([
  ['is frozen', (page) => page.freezes(), (page) => page.resumes()],
  // In Chromium it would lose its place there with the first message.
  ['goes into the back/forward cache', (page) => page.leaves(true), (page) => page.isShown()],
  [
    'hears of both',
    (page) => {
      page.leaves(true);
      page.freezes();
    },
    (page) => {
      page.resumes();
      page.isShown();
    },
  ],
])('O2, V1: a page that %s listens to nobody, looks at everything when it is back, and listens again', async (_, goes, returns) => {
  const name = freshName();
  const b = await openStore(name, { owner: 'b' });
  const { listening, restore } = watchChannels();
  const page = await inPage(name);
  const heard: (string | undefined)[] = [];
  page.store.watch((runId) => void heard.push(runId));
  expect(listening.size).toBe(1);
  goes(page);
  expect(listening.size).toBe(0);
  await b.commit({ now, starts: [newRun('missed')] });
  await exchange();
  expect(heard).toEqual([]);
  returns(page);
  const [again] = listening;
  returns(page);
  expect([listening.size, [...listening][0] === again], 'told of it twice').toEqual([1, true]);
  await waitUntil(() => heard.length > 0);
  expect(heard).toEqual([undefined]);
  await b.commit({ now, starts: [newRun('run')] });
  await waitUntil(() => heard.length > 1);
  expect(heard[1]).toBe('run');
  goes(page);
  await page.store.close();
  returns(page);
  expect(listening.size, 'closed while it was away').toBe(0);
  restore();
  await b.close();
});

it('O2, V1: what a page that goes can no longer undo is told to the others', async () => {
  const name = freshName();
  const page = await inPage(name);
  const b = await openStore(name, { owner: 'b' });
  const heard = new Promise<void>((resolve) => b.watch((runId) => void (runId === 'run' && resolve())));
  const { commit } = IDBTransaction.prototype;
  IDBTransaction.prototype.commit = function () {
    commit.call(this);
    IDBTransaction.prototype.commit = commit;
    page.leaves(true);
  };
  await page.store.commit({ now, starts: [newRun('run')] });
  await heard;
  await Promise.all([page.store.close(), b.close()]);
});

it('D8, E5: what a page asked for as it was frozen happens when it is back, by the time of then', async () => {
  const name = freshName();
  const page = await inPage(name);
  const a = page.store;
  const b = await openStore(name, { owner: 'b' });
  const clock = vi.spyOn(Date, 'now');
  const lock = (holder: string, at: number) =>
    ({ now: at, state: [{ kind: 'lock', key: 'l', holder, expiresAt: at + 600_000 }] }) as const;
  const event = { ...newEvent('late'), ttlMs: 1_000 };
  clock.mockReturnValue(now);
  page.freezes();
  const locking = a.commit(lock('a', now));
  const dispatching = a.commit({ now, events: [event] });
  clock.mockReturnValue(now + 65_000);
  expect(await b.commit(lock('b', now + 65_000))).toMatchObject({ state: [{ token: 1 }] });
  clock.mockReturnValue(now + 67_000);
  page.resumes();
  expect(await locking, 'held by another').toMatchObject({ state: [{}] });
  expect(await locking).not.toMatchObject({ state: [{ token: expect.anything() }] });
  await dispatching;
  const { store } = (await raw(name)).transaction('stepfast:events');
  expect(await store.getAll()).toMatchObject([{ row: { acceptedAt: now + 67_000, expiresAt: now + 68_000 } }]);
  clock.mockRestore();
  await Promise.all([a.close(), b.close()]);
});

it('O2: a worker whose page may be about to go ends what is open, begins nothing, and goes on when it is told to', async () => {
  const worker = new EventTarget();
  vi.stubGlobal('addEventListener', worker.addEventListener.bind(worker));
  const store = await openStore(freshName(), { owner: 'a' });
  vi.unstubAllGlobals();
  const tell = (kind: string) => void worker.dispatchEvent(Object.assign(new Event(kind), { persisted: true }));
  const { open, restore } = watchTransactions();
  const committing = store.commit({ now, starts: [newRun('run')] });
  await waitUntil(() => open.size > 0);
  tell('beforeunload');
  const later = store.commit({ now, starts: [newRun('later')] });
  expect(await committing, 'it was not undone').toMatchObject({ kind: 'committed' });
  await exchange();
  expect(open.size, 'begun while it waits').toBe(0);
  tell('pagehide'); // it goes
  tell('pageshow');
  expect(await later).toMatchObject({ kind: 'committed' });
  tell('beforeunload');
  const last = store.commit({ now, starts: [newRun('last')] });
  tell('pageshow'); // it has stayed
  expect(await last).toMatchObject({ kind: 'committed' });
  restore();
  await store.close();
});

it('O2: a page that is left for good undoes nothing of what it was committing', async () => {
  const name = freshName();
  const page = await inPage(name);
  const { open, restore } = watchTransactions();
  const committing = page.store.commit({ now, starts: [newRun('run')] });
  await waitUntil(() => open.size > 0);
  page.leaves(false);
  expect(await committing).toMatchObject({ kind: 'committed' });
  restore();
  await page.store.close();
});

it('V1, E1: what a page commits in the moment in which it goes is looked for by the others, though it tells nobody', async () => {
  const name = freshName();
  const page = await inPage(name);
  const b = await openStore(name, { owner: 'b' });
  const looks: string[] = [];
  b.watch((runId) => {
    looks.push(String(runId));
    void b.load('run').then((found) => looks.push(found ? 'there' : 'not there'));
  });
  page.leaves(false);
  await exchange();
  expect(looks, 'nothing was under way').toEqual([]);
  const { postMessage } = BroadcastChannel.prototype;
  const { open, restore } = watchTransactions();
  void page.store.commit({ now, starts: [newRun('run')] });
  await waitUntil(() => open.size > 0);
  page.leaves(false);
  // Its code runs no more: what was begun is done, and nothing is said of it.
  BroadcastChannel.prototype.postMessage = () => undefined;
  await waitUntil(() => looks.filter((look) => look === 'undefined').length === 2);
  await exchange();
  expect(looks.at(-1)).toBe('there');
  BroadcastChannel.prototype.postMessage = postMessage;
  restore();
  await Promise.all([page.store.close(), b.close()]);
});

describe('O2: without Web Locks', () => {
  it('an owner whose lease ran out keeps its run as long as it answers', async () => {
    vi.stubGlobal('navigator', {}); // as on plain http
    const { a, b } = await twoOwners();
    expect(new Set(await looks(b, 6, now + leaseMs + 1))).toEqual(new Set([left]));
    await Promise.all([a.close(), b.close()]);
  });

  it('an owner that died is gone when its lease has ended and nobody answers', async () => {
    vi.stubGlobal('navigator', {});
    const { a, b } = await twoOwners();
    a.abandon?.();
    expect(await looks(b, 4, now + leaseMs + 1)).toEqual([left, left, left, taken]);
    await b.close();
  });

  it('nor where there is no BroadcastChannel either: then the lease alone tells', async () => {
    vi.stubGlobal('navigator', {});
    vi.stubGlobal('BroadcastChannel', undefined);
    const { a, b } = await twoOwners();
    expect((await look(b)).foreign).toBe(true);
    expect((await look(b, now + leaseMs + 1)).runs).toMatchObject([{ interrupted: true }]);
    await Promise.all([a.close(), b.close()]);
  });

  it('an owner that closed is gone at once', async () => {
    vi.stubGlobal('navigator', {});
    const name = freshName();
    const a = await openStore(name, { owner: 'a' });
    const b = await openStore(name, { owner: 'b' });
    await a.commit({ now, starts: [newRun('run')] });
    await a.commit({ now, run: claim('run', 0, 'a') });
    await a.close();
    expect((await b.due(dueQuery({ owner: 'b' }))).runs).toHaveLength(1);
    await b.close();
  });

  it('leases of those who have long been gone are deleted', async () => {
    vi.stubGlobal('navigator', {});
    const { name, a, b } = await twoOwners();
    a.abandon?.();
    b.abandon?.();
    const c = await openStore(name, { owner: 'c', at: now + 2 * 86_400_000 });
    const leases = (await (await raw(name)).getAllKeys('stepfast:meta')).filter((key) =>
      String(key).startsWith('lease:'),
    );
    expect(leases).toEqual(['lease:c']);
    await c.close();
  });
});
