import { afterEach, expect, it } from 'vitest';
import type { EventRecord, RunRecord } from '../../adapters/indexeddb/schema.js';
import {
  claim,
  countCalls,
  countTransactions,
  dueQuery,
  freshName,
  newEvent,
  newRun,
  now,
  openStore,
  raw,
  sabotagePut,
  started,
} from './indexeddb-kit.js';

/*
 * Pins: commits that queue up share a transaction; one that fails spoils no other; nothing of a failed one is kept;
 * failures of the platform come out as typed errors, and the store goes on after them.
 */

let undo = (): unknown => undefined;
afterEach(() => void undo());

const ids = (events: readonly { id: string }[]) => events.map(({ id }) => id);

it('a hundred commits asked for at once take a few transactions', async () => {
  const store = await openStore(freshName());
  const counter = countTransactions();
  undo = counter.stop;
  const outcomes = await Promise.all(
    Array.from({ length: 100 }, (_, i) => store.commit({ now, starts: [newRun(`run-${i}`)] })),
  );
  expect(counter.stop()).toBeLessThanOrEqual(2);
  expect(outcomes.every(({ kind }) => kind === 'committed')).toBe(true);
  expect((await store.list({ limit: 200 })).runs).toHaveLength(100);
  await store.close();
});

it('commits of one group see each other in the order in which they were asked for', async () => {
  const store = await openStore(freshName());
  const [first, second, third] = await Promise.all([
    store.commit({ now, starts: [newRun('one', { idempotencyKey: 'k' })] }),
    store.commit({ now, starts: [newRun('two', { idempotencyKey: 'k' })] }),
    store.commit({ now, run: { runId: 'one', fence: 0, append: [started()], state: waitingFor('e') } }),
  ]);
  expect([first, second, third]).toMatchObject([
    { starts: [{ kind: 'created', runId: 'one' }] },
    { starts: [{ kind: 'exists', runId: 'one' }] },
    { kind: 'committed' },
  ]);
  expect((await store.load('one'))?.journal).toHaveLength(2);
  await store.close();
});

it('Q2: commits of one group count the slots that those before them have taken and given back', async () => {
  const store = await openStore(freshName());
  const queue = 'queue';
  await store.commit({ now, starts: ['one', 'two', 'three'].map((runId) => newRun(runId)) });
  const take = (runId: string) => {
    const { state, ...run } = claim(runId, 0);
    return store.commit({ now, run: { ...run, state: { ...state!, slot: queue }, concurrency: 1 } });
  };
  const giveBack = (runId: string) =>
    store.commit({ now, run: { runId, fence: 1, append: [], state: { ...waitingFor('e'), slot: undefined } } });
  const counts = countCalls(IDBIndex.prototype, 'count');
  undo = counts.stop;
  const outcomes = await Promise.all([take('one'), take('two'), giveBack('one'), take('three')]);
  expect(outcomes.map(({ kind }) => kind)).toEqual(['committed', 'no-slot', 'committed', 'committed']);
  expect(counts.stop()).toHaveLength(1); // the rest is known
  await store.close();
});

it('Q2, Q6: and the slot of a run that one of them deletes', async () => {
  const store = await openStore(freshName());
  await store.commit({ now, starts: ['old', 'one', 'two'].map((runId) => newRun(runId)) });
  const ended = { status: 'completed', version: 1, waits: [], endedAt: now, slot: 'queue' } as const;
  await store.commit({ now, run: { runId: 'old', fence: 0, append: [], state: ended } });
  const take = (runId: string) => {
    const { state, ...run } = claim(runId, 0);
    return store.commit({ now, run: { ...run, state: { ...state!, slot: 'queue' }, concurrency: 1 } });
  };
  const deletes = [{ runId: 'old', fence: 0, fingerprint: '' }];
  const outcomes = await Promise.all([take('one'), store.commit({ now, deletes }), take('two')]);
  expect(outcomes.map(({ kind }) => kind)).toEqual(['no-slot', 'committed', 'committed']);
  await store.close();
});

it('Q1: what a group of starts and claims looks at is asked for at once, before anything is written', async () => {
  const store = await openStore(freshName());
  await store.commit({ now, starts: [newRun('there')] });
  let sinceFirstWrite: ReturnType<typeof countCalls> | undefined;
  const undoPut = sabotagePut(() => void (sinceFirstWrite ??= countCalls(IDBObjectStore.prototype, 'get')));
  undo = () => [sinceFirstWrite?.stop(), undoPut()];
  const starts = ['a', 'b', 'there', 'a'].map((runId) => store.commit({ now, starts: [newRun(runId)] }));
  const outcomes = await Promise.all([...starts, store.commit({ now, run: claim('there', 0) })]);
  expect(outcomes.slice(0, 4)).toMatchObject([
    { starts: [{ kind: 'created' }] },
    { starts: [{ kind: 'created' }] },
    { starts: [{ kind: 'exists', runId: 'there' }] },
    { starts: [{ kind: 'exists', runId: 'a' }] },
  ]);
  expect(sinceFirstWrite!.stop()).toEqual([]);
  await store.close();
});

it('the durability that was asked for is that of every transaction', async () => {
  for (const durability of ['relaxed', 'strict'] as const) {
    const store = await openStore(freshName(), { durability });
    const counter = countTransactions();
    undo = counter.stop;
    await store.commit({ now, starts: [newRun('run')] });
    expect(counter.durabilities).toEqual([durability]);
    counter.stop();
    expect(store.capabilities.durability).toBe(durability === 'strict' ? 'power' : 'process');
    await store.close();
  }
});

it('a commit that can not be stored fails alone, and its neighbours in the group are kept', async () => {
  const store = await openStore(freshName());
  const poison = (() => 'not cloneable') as unknown as string;
  const results = await Promise.allSettled([
    store.commit({ now, starts: [newRun('before')] }),
    store.commit({ now, starts: [newRun('half')], events: [newEvent('poisoned', { payload: poison })] }),
    store.commit({ now, starts: [newRun('after')] }),
  ]);
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
  expect(results[1]).toMatchObject({ reason: { code: 'NOT_SERIALIZABLE', cause: { name: 'DataCloneError' } } });
  expect((await store.list({ limit: 10 })).runs.map(({ row }) => row.runId)).toEqual(['after', 'before']);
  await store.close();
});

it('nothing of a commit is kept when a write in its middle throws', async () => {
  const store = await openStore(freshName());
  undo = sabotagePut((_, value) => {
    if ((value as EventRecord).row?.id === 'bad') throw new DOMException('no', 'DataCloneError');
  });
  const results = await Promise.allSettled([
    store.commit({ now, starts: [newRun('before')] }),
    store.commit({ now, starts: [newRun('half')], events: [newEvent('bad')] }),
    store.commit({ now, starts: [newRun('after')] }),
  ]);
  undo();
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
  expect((await store.list({ limit: 10 })).runs.map(({ row }) => row.runId)).toEqual(['after', 'before']);
  await store.close();
});

it('a commit refused for want of quota is refused as a whole, and the store goes on', async () => {
  const store = await openStore(freshName());
  // As browsers do it: the transaction is aborted with that error, and no request hears of it.
  undo = sabotagePut((objectStore, value) => {
    if ((value as RunRecord).row?.runId !== 'big') return;
    const { transaction } = objectStore;
    Object.defineProperty(transaction, 'error', { value: new DOMException('full', 'QuotaExceededError') });
    transaction.abort();
  });
  const results = await Promise.allSettled([
    store.commit({ now, starts: [newRun('small')] }),
    store.commit({ now, starts: [newRun('big')] }),
  ]);
  undo();
  expect(results).toMatchObject([
    { status: 'fulfilled' },
    { status: 'rejected', reason: { code: 'QUOTA_EXCEEDED', cause: { name: 'QuotaExceededError' } } },
  ]);
  expect(await store.load('big')).toBeUndefined();
  await store.commit({ now, starts: [newRun('big')] });
  expect(await store.load('big')).toBeDefined();
  await store.close();
});

it('a failing request takes its commit back and names the cause', async () => {
  const name = freshName();
  const store = await openStore(name);
  await store.commit({ now, starts: [newRun('first', { idempotencyKey: 'k' })] });
  // Two runs with one key are impossible through `transition`; the index refuses them as well.
  undo = sabotagePut((_, value) => {
    const record = value as RunRecord;
    if (record.row?.runId === 'clash') Object.assign(record.row, { idempotencyKey: 'k' });
  });
  const results = await Promise.allSettled([
    store.commit({ now, starts: [newRun('clash')], events: [newEvent('with it')] }),
    store.commit({ now, starts: [newRun('second')] }),
  ]);
  undo();
  expect(results).toMatchObject([
    { status: 'rejected', reason: { code: 'STORE_UNAVAILABLE', cause: { name: 'ConstraintError' } } },
    { status: 'fulfilled' },
  ]);
  const db = await raw(name);
  expect(ids((await db.getAll('stepfast:events')).map(({ row }) => row))).toEqual([]);
  db.close();
  await store.close();
});

it('a connection that has died is opened anew, once, without the caller noticing', async () => {
  const name = freshName();
  const store = await openStore(name);
  await store.commit({ now, starts: [newRun('run')] });
  const original = IDBDatabase.prototype.transaction;
  let failures = 0;
  const dead = new WeakSet<IDBDatabase>();
  IDBDatabase.prototype.transaction = function (...args) {
    if (!failures++) dead.add(this);
    if (dead.has(this)) throw new DOMException('server lost', 'InvalidStateError');
    return original.apply(this, args);
  };
  undo = () => {
    IDBDatabase.prototype.transaction = original;
  };
  expect(await store.commit({ now, starts: [newRun('next')] })).toMatchObject({ kind: 'committed' });
  expect(await store.load('run')).toBeDefined();
  await store.close();
});

it('a database that stays dead is reported as unavailable, with the cause', async () => {
  const store = await openStore(freshName());
  const original = IDBDatabase.prototype.transaction;
  IDBDatabase.prototype.transaction = () => {
    throw new DOMException('server lost', 'InvalidStateError');
  };
  undo = () => {
    IDBDatabase.prototype.transaction = original;
  };
  const refused = { code: 'STORE_UNAVAILABLE', cause: { name: 'InvalidStateError' } };
  await expect(store.commit({ now, starts: [newRun('run')] })).rejects.toMatchObject(refused);
  await expect(store.load('run')).rejects.toMatchObject(refused);
  await expect(store.due(dueQuery())).rejects.toMatchObject(refused);
  undo();
  expect(await store.load('run')).toBeUndefined();
  await store.close();
});

it('close waits for the commits that were asked for before it, and refuses later ones', async () => {
  const name = freshName();
  const store = await openStore(name);
  const commits = Array.from({ length: 5 }, (_, i) => store.commit({ now, starts: [newRun(`run-${i}`)] }));
  const closing = store.close();
  await expect(store.commit({ now, starts: [newRun('late')] })).rejects.toMatchObject({ code: 'CLOSED' });
  await closing;
  await Promise.all(commits);
  const again = await openStore(name);
  expect((await again.list({ limit: 10 })).runs).toHaveLength(5);
  await again.close();
});

function waitingFor(event: string) {
  return {
    status: 'waiting',
    version: 1,
    owner: 'a',
    waits: [{ id: [event, 1] as const, events: [event], after: 0 }],
  } as const;
}
