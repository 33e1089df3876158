import '../fake-locks.js';
import { expect, it, vi } from 'vitest';
import { addStores, indexedDBStore } from '../../adapters/indexeddb/index.js';
import { createStepfast, type HandlerContext, type Stepfast } from '../../src/index.js';
import { keyBytes, plugin } from '../encryption-kit.js';
import { claim, dueQuery, freshName, leaseMs, newRun, now, openStore, stepped } from './indexeddb-kit.js';

/*
 * Pins: a database that was deleted while in use (the site's data was cleared, at a logout for example) and made anew. What
 * is known of the runs before means nothing in it, though ids and fences are the same.
 */

const deleted = (name: string) =>
  new Promise<void>((resolve, reject) => {
    const request = indexedDB.deleteDatabase(name);
    request.onsuccess = () => resolve();
    request.onblocked = () => reject(new Error('blocked'));
  });

interface Visit {
  readonly user: string;
}

/** An engine whose step `first` lasts until it is let go. */
function visitor(stepfast: Stepfast, who: string) {
  const log: string[] = [];
  let go: (() => void) | undefined;
  stepfast.job('visit', async ({ payload, step }: HandlerContext<Visit>) => {
    const first = await step.run('first', async () => {
      log.push(payload.user);
      await new Promise<void>((resolve) => (go = resolve));
      return `${payload.user} by ${who}`;
    });
    return [payload.user, first, await step.run('second', () => `${payload.user} by ${who}`)];
  });
  stepfast.job('wait', async ({ step }) => (await step.waitForEvent('go', { correlationKey: 'k' })).payload);
  return { stepfast, log, isIn: () => vi.waitFor(() => expect(go).toBeTypeOf('function')), go: () => go?.() };
}

const open = (name: string, who: string) => {
  const errors: unknown[] = [];
  const onError = (error: unknown) => void errors.push(error);
  return Object.assign(visitor(createStepfast({ store: indexedDBStore({ name }), onError }), who), { errors });
};

it('O1: who drove a run of the database before writes nothing to one of the same id, fence and length', async () => {
  const name = freshName();
  const old = await openStore(name, { owner: 'a' });
  await old.commit({ now, starts: [newRun('run')] });
  await old.commit({ now, run: claim('run', 0, 'a') });
  await deleted(name);
  const other = await openStore(name, { owner: 'b' });
  await other.commit({ now, starts: [newRun('run')] });
  await other.commit({ now, run: claim('run', 0, 'b') });
  const late = { runId: 'run', fence: 1, length: 2, append: [stepped('mine')] };
  expect(await old.commit({ now, run: late })).toEqual({ kind: 'fenced', fence: 0 });
  expect((await other.load('run'))?.journal).toHaveLength(2);
  // What it learns from now on is of the new one.
  expect((await old.due(dueQuery({ owner: 'a' }))).runs).toHaveLength(0);
  for (const store of [old, other]) await store.close();
});

it('O1, D5: a step that was under way as the data was cleared gives nothing to a new run of the same id', async () => {
  const name = freshName();
  const a = open(name, 'a');
  const b = open(name, 'b');
  await b.stepfast.start('visit', { user: 'ada' }, { id: 'W' });
  await b.isIn();
  await a.stepfast.ready();
  await deleted(name);
  const { created } = await b.stepfast.start('visit', { user: 'bob' }, { id: 'W' });
  expect(created).toBe(true);
  b.go(); // ada's
  const driver = await vi.waitFor(() => {
    const found = [a, b].find(({ log }) => log.includes('bob'));
    expect(found).toBeDefined();
    return found!;
  }, 10_000);
  driver.go();
  await vi.waitFor(async () => {
    driver.go();
    expect((await a.stepfast.runs.get('W'))?.status).toBe('completed');
  }, 10_000);
  const by = driver === a ? 'a' : 'b';
  expect((await a.stepfast.runs.get('W'))?.result).toEqual(['bob', `bob by ${by}`, `bob by ${by}`]);
  const kinds = (await a.stepfast.runs.timeline('W')).map(({ kind }) => kind);
  expect(kinds.filter((kind) => kind === 'completed')).toHaveLength(1);
  for (const { stepfast } of [a, b]) await stepfast.close();
});

it('D5, Q1: a waiting run that is gone is told of, and one that is started anew under its id goes on', async () => {
  const name = freshName();
  const { stepfast, errors } = open(name, 'a');
  const lost = await stepfast.start('wait', undefined, { id: 'V' });
  const left = await stepfast.start('wait', undefined, { id: 'W' });
  const results = Promise.allSettled([lost.result(), left.result()]);
  await vi.waitFor(async () => expect(await lost.status()).toBe('waiting'));
  await deleted(name);
  const again = await stepfast.start('wait', undefined, { id: 'W' });
  expect(again.created).toBe(true);
  expect(errors).toMatchObject([{ code: 'STORE_UNAVAILABLE', message: expect.stringContaining('was deleted') }]);
  await vi.waitFor(async () => expect(await again.status()).toBe('waiting'));
  await stepfast.dispatch('go', 7, { correlationKey: 'k' });
  expect(await again.result()).toBe(7);
  const gone = { reason: { code: 'RUN_NOT_FOUND' } };
  expect(await results, 'also of the one whose id is another’s by now').toMatchObject([gone, gone]);
  await stepfast.close();
});

it('D8: a lock of the database before that is given back takes nothing from who holds it in the new one', async () => {
  const name = freshName();
  const [a, b, c] = [open(name, 'a'), open(name, 'b'), open(name, 'c')].map(({ stepfast }) => stepfast) as [
    Stepfast,
    Stepfast,
    Stepfast,
  ];
  const options = { ttl: '10m' } as const;
  const old = [await a.state.lock('door', options), await b.state.lock('gate', options)];
  await deleted(name);
  expect(await b.state.lock('door', options)).toBeDefined();
  expect(await a.state.get('nothing'), 'it has noticed').toBeUndefined();
  await deleted(name);
  expect(await c.state.lock('door', options)).toBeDefined();
  expect(await c.state.lock('gate', options)).toBeDefined();
  await old[0]!.release();
  await old[1]!.release().catch(() => undefined); // the first that it asks for since
  expect(await c.state.lock('door', options)).toBeUndefined();
  expect(await c.state.lock('gate', options)).toBeUndefined();
  for (const stepfast of [a, b, c]) await stepfast.close();
});

it('D5: the loss is noticed though nothing is asked for', async () => {
  const name = freshName();
  const { stepfast, errors } = open(name, 'a');
  const lost = await stepfast.start('wait', undefined, { id: 'V' });
  await vi.waitFor(async () => expect(await lost.status()).toBe('waiting'));
  const result = lost.result();
  await deleted(name);
  await expect(result).rejects.toMatchObject({ code: 'RUN_NOT_FOUND' });
  expect(errors).toMatchObject([{ message: expect.stringContaining('was deleted') }]);
  await stepfast.close();
});

it('D5: the loss of a database of the app, opened anew by the app, is told of as well', async () => {
  const name = freshName();
  const database = () =>
    new Promise<IDBDatabase>((resolve, reject) => {
      const request = indexedDB.open(name, 1);
      request.onupgradeneeded = () => addStores(request.result);
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        request.result.onversionchange = () => request.result.close();
        resolve(request.result);
      };
    });
  const errors: unknown[] = [];
  const store = indexedDBStore({ database });
  await store.open({ owner: 'a', now, leaseMs, mode: 'drive', onError: (error) => void errors.push(error) });
  await store.commit({ now, starts: [newRun('run')] });
  await deleted(name);
  expect(await store.load('run')).toBeUndefined();
  expect(errors).toMatchObject([{ message: expect.stringContaining(`"${name}" was deleted while in use`) }]);
  await store.close();
});

it('D5: with encryption, a database that was made anew is held to the keys of who writes to it first, not to those of who opens it first', async () => {
  const name = freshName();
  const sealed = (fill: number) =>
    createStepfast({
      store: indexedDBStore({ name }),
      use: [plugin({ key: keyBytes(fill) })],
      onError: () => undefined,
    });
  const a = sealed(1);
  a.job('wait', ({ step }) => step.waitForEvent('go'));
  await a.ready();
  await deleted(name);
  await a.start('wait', undefined, { id: 'first' });
  await vi.waitFor(async () => expect((await a.runs.get('first'))?.status).toBe('waiting'), 10_000);
  const wrong = sealed(2);
  await expect(wrong.ready()).rejects.toMatchObject({ code: 'KEY_MISSING' });
  await wrong.close();
  const right = sealed(1);
  expect((await right.runs.get('first'))?.status).toBe('waiting');
  expect((await right.dispatch('go')).resumed).toEqual(['first']);
  for (const each of [right, a]) await each.close();
});
