import { type IDBPTransaction, wrap } from 'idb';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { addStores, indexedDBStore } from '../../adapters/indexeddb/index.js';
import type { Batch } from '../../src/store/batch.js';
import type { SharedOutcome, Store } from '../../src/store/store.js';
import {
  claim,
  countTransactions,
  freshName,
  leaseMs,
  newEvent,
  newRun,
  now,
  sabotagePut,
  stepped,
} from './indexeddb-kit.js';

/*
 * Pins: rows of the app and the journal are written both or not at all, whatever the function of the transaction does:
 * throws, waits for something else, fails a request, aborts, commits; whose fault it was is told apart.
 */

interface Order {
  readonly id: string;
  readonly text?: string;
}

let database: IDBDatabase;
let store: Store;
let undo = (): unknown => undefined;
const heard: unknown[] = [];

beforeEach(async () => {
  const request = indexedDB.open(freshName(), 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore('orders', { keyPath: 'id' });
    addStores(request.result);
  };
  database = await promised(request);
  store = indexedDBStore({ database });
  await store.open({ owner: 'a', now, leaseMs, mode: 'drive', onError: () => undefined });
  await store.commit({ now, starts: [newRun('run')] });
  await store.commit({ now, run: claim('run', 0) });
  heard.length = 0;
  store.watch((runId) => heard.push(runId));
});
afterEach(async () => {
  undo();
  undo = () => undefined;
  await store.close();
  database.close();
});

const promised = <T>(request: IDBRequest<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
const ordersOf = (tx: IDBTransaction) => tx.objectStore('orders');
const add = (tx: IDBTransaction, order: Order) => promised(ordersOf(tx).add(order));
/** Timers, as many as it takes: a single one may, on a busy machine, ring while the transaction is still there. */
const elsewhere = async (tx: IDBTransaction) => {
  let isOver = false;
  for (const type of ['complete', 'abort']) tx.addEventListener(type, () => (isOver = true));
  while (!isOver) await new Promise((resolve) => setTimeout(resolve, 0));
};

const recorded = (value: unknown, fence = 1): Batch => ({
  now,
  run: { runId: 'run', fence, append: [stepped('order', String(value))], state: claim('run', 0).state! },
});
const transact = <Value>(
  body: (tx: IDBTransaction) => Value | Promise<Value>,
  batchOf: (value: Value) => Batch = recorded,
  scope: readonly string[] = ['orders'],
): Promise<SharedOutcome> => store.transact!({ scope, body, batchOf });

/** What is kept: ids of the app's rows, and the kinds of the journal. */
async function kept() {
  const orders = (await promised(ordersOf(database.transaction('orders')).getAll())) as Order[];
  const { journal = [], row } = (await store.load('run')) ?? {};
  expect(journal).toHaveLength(row!.length);
  return { orders: orders.map(({ id }) => id), journal: journal.map(({ kind }) => kind) };
}
const NOTHING = { orders: [], journal: ['started', 'claimed'] };

it('D2: rows of the app and the journal are one commit, made of what the function returned', async () => {
  const counter = countTransactions();
  undo = counter.stop;
  const outcome = await transact(
    async (tx) => {
      expect(tx).toBeInstanceOf(IDBTransaction);
      await add(tx, { id: '1' });
      await add(tx, { id: '2' });
      return promised(ordersOf(tx).count());
    },
    (count) => ({ ...recorded(count), state: [{ kind: 'increment', key: 'orders', by: count }] }),
  );
  expect(counter.stop()).toBe(1);
  expect(outcome).toMatchObject({ kind: 'committed', fence: 1, state: [{ value: 2 }] });
  expect(await kept()).toEqual({ orders: ['1', '2'], journal: ['started', 'claimed', 'step-completed'] });
  expect((await store.load('run'))?.journal.at(-1)).toMatchObject({ value: '2' });
  expect(await store.state('orders')).toMatchObject({ value: 2 });
  expect(heard).toEqual(['run']);
});

it('D2: what the function throws undoes its rows, and is the outcome', async () => {
  const error = new Error('out of stock');
  const outcome = await transact(async (tx) => {
    await add(tx, { id: '1' });
    throw error;
  });
  expect(outcome).toStrictEqual({ kind: 'threw', error });
  const sync = await transact((tx): string => {
    ordersOf(tx).add({ id: '1' });
    throw error;
  });
  expect(sync).toStrictEqual({ kind: 'threw', error });
  expect(await kept()).toEqual(NOTHING);
  expect(heard).toEqual([]);
});

it('D2: what is thrown while the commit is made of the value undoes the rows, too', async () => {
  const error = new Error('not encodable');
  const outcome = await transact(
    (tx) => add(tx, { id: '1' }),
    () => {
      throw error;
    },
  );
  expect(outcome).toStrictEqual({ kind: 'threw', error });
  expect(await kept()).toEqual(NOTHING);
});

it('O1: an owner that has lost the run writes neither journal nor rows', async () => {
  expect(
    await transact(
      (tx) => add(tx, { id: '1' }),
      () => recorded('x', 0),
    ),
  ).toEqual({ kind: 'fenced', fence: 1 });
  const full = { ...recorded('x'), events: [newEvent('e', { maxBacklog: 0 })] };
  expect(
    await transact(
      (tx) => add(tx, { id: '1' }),
      () => full,
    ),
  ).toMatchObject({ kind: 'refused', code: 'EVENT_BACKLOG_FULL' });
  expect(await kept()).toEqual(NOTHING);
});

it('a function may read, walk a cursor, use the package idb, and be slow to begin, as long as it awaits requests', async () => {
  const outcome = await transact(async (tx) => {
    for (let i = 0; i < 50; i++) await undefined;
    for (let i = 0; i < 30; i++) void add(tx, { id: String(i).padStart(2, '0') });
    let last = '';
    const orders = (wrap(tx) as unknown as IDBPTransaction<unknown, string[], 'readwrite'>).objectStore('orders');
    for (let cursor = await orders.openCursor(); cursor; cursor = await cursor.continue()) {
      last = String(cursor.key);
      for (let i = 0; i < 5; i++) await undefined;
      if (Number(cursor.key) % 2) await cursor.delete();
    }
    await orders.put({ id: last, text: 'last' });
    return last;
  });
  expect(outcome).toMatchObject({ kind: 'committed' });
  expect((await kept()).orders).toHaveLength(16);
  expect((await store.load('run'))?.journal.at(-1)).toMatchObject({ value: '29' });
});

it('a function without any request is committed like others', async () => {
  expect(await transact(() => 'plain')).toMatchObject({ kind: 'committed' });
  expect(await transact(async () => undefined, recorded, [])).toMatchObject({ kind: 'committed' });
});

for (const [what, wait] of Object.entries<(tx: IDBTransaction) => Promise<unknown>>({
  'a timer': elsewhere,
  'a commit of the store': () => store.commit({ now, starts: [newRun('other')] }),
  'another transaction': () => promised(ordersOf(database.transaction('orders')).count()),
  'the end of its transaction': (tx) => wrap(tx).done,
}))
  it(`W1: a function that awaits ${what} fails with a clear error, and nothing of it is kept`, async () => {
    let isOver: Promise<unknown> = Promise.resolve();
    const broken = (isFirst: boolean) => (tx: IDBTransaction) => {
      const run = async () => {
        if (!isFirst) await add(tx, { id: '1' });
        await wait(tx);
        if (isFirst) await add(tx, { id: '1' });
      };
      return (isOver = run());
    };
    for (const isFirst of [true, false]) {
      const outcome = await transact(broken(isFirst));
      expect(outcome).toMatchObject({
        kind: 'threw',
        error: { code: 'TRANSACTION_ENDED', message: expect.stringContaining('no request of its transaction') },
      });
      await isOver.catch(() => undefined);
    }
    expect(await kept()).toEqual(NOTHING);
    expect(await store.commit(recorded('after'))).toMatchObject({ kind: 'committed' });
  });

it('a request that fails undoes all, and its error is the outcome', async () => {
  const outcome = await transact(async (tx) => {
    await add(tx, { id: '1' });
    await add(tx, { id: '1' });
  });
  expect(outcome).toMatchObject({ kind: 'threw', error: { name: 'ConstraintError' } });
  expect(await kept()).toEqual(NOTHING);
});

it('a request whose failure the function swallows undoes all the same, and the outcome says why', async () => {
  for (const isAwaited of [true, false]) {
    const outcome = await transact(async (tx) => {
      await add(tx, { id: '1' });
      const failing = add(tx, { id: '1' }).catch(() => undefined);
      if (isAwaited) await failing;
    });
    expect(outcome).toMatchObject({
      kind: 'threw',
      error: {
        code: 'TRANSACTION_ENDED',
        message: expect.stringContaining('ConstraintError'),
        cause: { name: 'ConstraintError' },
      },
    });
  }
  expect(await kept()).toEqual(NOTHING);
});

it('a request of a function that has returned, which fails when all is written, is a fault of the function', async () => {
  let isWritten = false;
  undo = sabotagePut((objectStore) => void (isWritten ||= objectStore.name === 'stepfast:runs'));
  let isOver: Promise<unknown> = Promise.resolve();
  const outcome = await transact((tx) => {
    const goOn = async () => {
      while (!isWritten) await promised(ordersOf(tx).count());
      await add(tx, { id: '1' });
      await add(tx, { id: '1' });
    };
    isOver = goOn().catch((error: unknown) => error);
  });
  expect(await isOver).toMatchObject({ name: 'ConstraintError' });
  expect(outcome).toMatchObject({
    kind: 'threw',
    error: { code: 'TRANSACTION_ENDED', cause: { name: 'ConstraintError' } },
  });
  expect(await kept()).toEqual(NOTHING);
});

it('a request whose failure is forgiven as IndexedDB has it undoes nothing', async () => {
  const outcome = await transact(async (tx) => {
    await add(tx, { id: '1' });
    const request = ordersOf(tx).add({ id: '1' });
    return new Promise<string>((resolve) => {
      request.onerror = (event) => {
        event.preventDefault();
        resolve('known');
      };
    });
  });
  expect(outcome).toMatchObject({ kind: 'committed' });
  expect(await kept()).toEqual({ orders: ['1'], journal: ['started', 'claimed', 'step-completed'] });
});

it('a function that aborts has its own error told, or else that it has aborted', async () => {
  const error = new Error('changed my mind');
  const thrown = await transact(async (tx) => {
    await add(tx, { id: '1' });
    tx.abort();
    throw error;
  });
  expect(thrown).toStrictEqual({ kind: 'threw', error });
  const aborts = [
    async (tx: IDBTransaction) => {
      await add(tx, { id: '1' });
      tx.abort();
    },
    async (tx: IDBTransaction) => {
      tx.abort();
      await add(tx, { id: '1' });
    },
    async (tx: IDBTransaction) => {
      const adding = add(tx, { id: '1' });
      tx.abort();
      await adding;
    },
  ];
  for (const body of aborts)
    expect(await transact(body)).toMatchObject({
      kind: 'threw',
      error: { code: 'TRANSACTION_ENDED', message: expect.stringContaining('has aborted it') },
    });
  expect(await kept()).toEqual(NOTHING);
});

it('a function can not commit its rows without the journal', async () => {
  for (const commit of [(tx: IDBTransaction) => tx.commit(), (tx: IDBTransaction) => wrap(tx).commit()]) {
    const outcome = await transact(async (tx) => {
      await add(tx, { id: '1' });
      commit(tx);
    });
    expect(outcome).toMatchObject({
      kind: 'threw',
      error: { code: 'TRANSACTION_ENDED', message: expect.stringContaining('called commit()') },
    });
  }
  expect(await kept()).toEqual(NOTHING);
});

it('S8: one that commits in spite of that is an error, as nobody knows what was kept', async () => {
  const broken = transact(async (tx) => {
    await add(tx, { id: '1' });
    IDBTransaction.prototype.commit.call(tx);
  });
  await expect(broken).rejects.toMatchObject({ code: 'TRANSACTION_ENDED' });
  expect((await kept()).journal).toEqual(NOTHING.journal);
});

it('D5: want of quota is a failure of the store, whoever wanted too much, and nothing is kept', async () => {
  const isFull = (fits: (store: IDBObjectStore) => boolean) => {
    undo = sabotagePut((objectStore) => {
      if (!fits(objectStore)) return;
      const { transaction } = objectStore;
      Object.defineProperty(transaction, 'error', { value: new DOMException('full', 'QuotaExceededError') });
      transaction.abort();
    });
  };
  for (const name of ['orders', 'stepfast:runs']) {
    isFull((objectStore) => objectStore.name === name);
    const refused = transact(async (tx) => {
      await promised(ordersOf(tx).put({ id: '1' }));
      return 'x';
    });
    await expect(refused).rejects.toMatchObject({ code: 'QUOTA_EXCEEDED', cause: { name: 'QuotaExceededError' } });
    undo();
  }
  expect(await kept()).toEqual(NOTHING);
  expect(await transact((tx) => add(tx, { id: '1' }))).toMatchObject({ kind: 'committed' });
});

it('a commit that can not be stored is refused as a whole, rows included', async () => {
  const poison = (() => 'not cloneable') as unknown as string;
  const refused = transact(
    (tx) => add(tx, { id: '1' }),
    () => ({ ...recorded('x'), events: [newEvent('poisoned', { payload: poison })] }),
  );
  await expect(refused).rejects.toMatchObject({ code: 'NOT_SERIALIZABLE' });
  expect(await kept()).toEqual(NOTHING);
});

it('a request of ours that fails is a failure of the store', async () => {
  await store.commit({ now, starts: [newRun('first', { idempotencyKey: 'k' })] });
  undo = sabotagePut((_, value) => {
    const { row } = value as { row?: { runId?: string } };
    if (row?.runId === 'clash') Object.assign(row, { idempotencyKey: 'k' });
  });
  const refused = transact(
    (tx) => add(tx, { id: '1' }),
    () => ({ ...recorded('x'), starts: [newRun('clash')] }),
  );
  await expect(refused).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE', cause: { name: 'ConstraintError' } });
  undo();
  expect(await kept()).toEqual(NOTHING);
});

it('D4: the function is not entered when newer code has raised the format', async () => {
  const meta = database.transaction('stepfast:meta', 'readwrite').objectStore('stepfast:meta');
  await promised(meta.put({ minReader: 1, minWriter: 2 }, 'format'));
  let entered = 0;
  await expect(transact(() => entered++)).rejects.toMatchObject({ code: 'STORE_TOO_NEW' });
  expect(entered).toBe(0);
});

it('object stores that are not there, or are ours, are refused before the function is entered', async () => {
  let entered = 0;
  for (const name of ['nothing', 'stepfast:runs', ''])
    await expect(transact(() => entered++, recorded, ['orders', name])).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining(JSON.stringify(name)),
    });
  expect(entered).toBe(0);
});

it('transactions and commits asked for at once all take place', async () => {
  const outcomes = await Promise.all([
    store.commit(recorded('a')),
    transact((tx) => add(tx, { id: '1' })),
    store.commit(recorded('b')),
    transact((tx) => add(tx, { id: '2' })),
    store.commit(recorded('c')),
  ]);
  expect(outcomes.map(({ kind }) => kind)).toEqual(Array.from({ length: 5 }, () => 'committed'));
  const { orders, journal } = await kept();
  expect(orders).toEqual(['1', '2']);
  expect(journal).toHaveLength(7);
});

it('close waits for a transaction under way, and none begins after it', async () => {
  const working = transact((tx) => add(tx, { id: '1' }));
  const closing = store.close();
  await expect(transact(() => 'late')).rejects.toMatchObject({ code: 'CLOSED' });
  await closing;
  expect(await working).toMatchObject({ kind: 'committed' });
});

it('a store with a database of its own has no data of the app to share a transaction with', () => {
  expect(indexedDBStore({ name: freshName() }).transact).toBeUndefined();
});
