import { describe, expect, it } from 'vitest';
import { addStores, indexedDBStore } from '../adapters/indexeddb/index.js';
import { memoryStore } from '../adapters/memory/index.js';
import { defineJob, type Stepfast } from '../src/index.js';
import { freshName, media, world } from './harness.js';

/*
 * `step.transaction`: rows of the app and the outcome of the step in one transaction of the app's own database.
 */

/** The app's database, with object stores of its own beside ours. */
const openApp = (name: string) =>
  new Promise<IDBDatabase>((resolve, reject) => {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => {
      addStores(request.result);
      request.result.createObjectStore('seats');
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

const done = <T>(request: IDBRequest<T>) =>
  new Promise<T>((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

const seats = (db: IDBDatabase): Promise<number | undefined> =>
  done(db.transaction('seats').objectStore('seats').get('taken'));

/** One seat more, and how many there are now. */
const take = async (tx: IDBTransaction): Promise<number> => {
  const store = tx.objectStore('seats');
  const taken = ((await done(store.get('taken'))) ?? 0) + 1;
  await done(store.put(taken, 'taken'));
  return taken;
};

const define = (stepfast: Stepfast) => {
  stepfast.job('book', async ({ step }) => {
    const first = await step.transaction('take', ['seats'], take);
    await step.run('mail', () => 'sent');
    const second = await step.transaction('take', ['seats'], take);
    return [first, second];
  });
};

for (const replay of ['resume', 'always'] as const)
  describe(`step.transaction on IndexedDB, replay: '${replay}'`, () => {
    const setUp = async () => {
      const database = await openApp(freshName());
      const w = world(() => () => indexedDBStore({ database }));
      return { database, w, open: () => w.engine(define, { replay }) };
    };

    it('D2: writes the rows of the app with the result', async () => {
      const { database, w, open } = await setUp();
      const engine = open();
      const { id } = await engine.start('book');
      await w.clock.idle();
      expect(await engine.runs.get(id)).toMatchObject({ status: 'completed', result: [1, 2] });
      expect(await seats(database)).toBe(2);
    });

    it('R1: is exactly once, wherever the context dies', async () => {
      for (let at = 1; at <= 8; at++)
        for (const when of ['before', 'after'] as const) {
          const { database, w } = await setUp();
          let count = 0;
          let isDead = false;
          let tell: () => void = () => undefined;
          const died = new Promise<void>((resolve) => {
            tell = resolve;
          });
          let bury: (reason: unknown) => void = () => undefined;
          const buried = new Promise<never>((_, reject) => {
            bury = reject;
          });
          buried.catch(() => undefined); // also where it died with nothing under way
          const never = () => {
            tell();
            return buried;
          };
          const store = indexedDBStore({ database });
          const dying =
            <Arguments extends unknown[], Result>(call: (...given: Arguments) => Promise<Result>) =>
            async (...given: Arguments): Promise<Result> => {
              if (++count === at && when === 'before') isDead = true;
              if (isDead) return never();
              const result = await call(...given);
              if (count >= at) isDead = true;
              return isDead ? never() : result;
            };
          const { commit, transact } = store;
          store.commit = dying((batch) => commit.call(store, batch));
          store.transact = dying((work) => transact!.call(store, work as never)) as never;
          const mortal = w.engine(define, { store, replay });
          void mortal.start('book', undefined, { id: 'r' }).catch(() => undefined);
          await Promise.race([died, w.clock.idle()]);
          w.crash(mortal);
          bury(new Error('This context is dead.'));
          const engine = w.engine(define, { replay });
          await engine.start('book', undefined, { id: 'r' });
          await w.clock.advance('1m');
          const run = await engine.runs.get('r');
          expect({ at, when, status: run?.status, result: run?.result, seats: await seats(database) }).toEqual({
            at,
            when,
            status: 'completed',
            result: [1, 2],
            seats: 2,
          });
        }
    }, 120_000);

    it('F1: what the function throws is a failed attempt, of which no row is kept', async () => {
      const { database, w } = await setUp();
      let calls = 0;
      const engine = w.engine(
        (stepfast) =>
          stepfast.job('book', ({ step }) =>
            step.transaction('take', ['seats'], async (tx: IDBTransaction) => {
              const taken = await take(tx);
              if (++calls < 3) throw new Error('not yet');
              return taken;
            }),
          ),
        { replay },
      );
      const { id } = await engine.start('book');
      await w.clock.advance('1m');
      const run = await engine.runs.get(id);
      expect(run).toMatchObject({ status: 'completed', result: 1 });
      expect(run!.attempts).toHaveLength(2);
      expect(await seats(database)).toBe(1);
    });

    it('F3: a function that commits by the prototype fails its step, for its rows are kept, and would be once more', async () => {
      const { database, w } = await setUp();
      const engine = w.engine(
        (stepfast) =>
          stepfast.job('book', ({ step }) =>
            step.transaction('take', ['seats'], async (tx: IDBTransaction) => {
              await take(tx);
              IDBTransaction.prototype.commit.call(tx);
            }),
          ),
        { replay },
      );
      const { id } = await engine.start('book');
      await w.clock.advance('1h');
      const { status, error, attempts } = (await engine.runs.get(id))!;
      expect([status, error?.step, attempts.length, await seats(database)]).toEqual(['failed', 'take', 1, 1]);
      const cause = { code: 'TRANSACTION_ENDED', message: expect.stringContaining('is kept') };
      expect(attempts[0]!.error).toMatchObject(cause);
      expect(w.errors).toEqual([]);
    });

    it('O1: a stale owner writes neither the outcome nor the rows', async () => {
      const { database, w } = await setUp();
      const id = 'r';
      const store = indexedDBStore({ database });
      const { transact } = store;
      const stale = w.engine(define, { store, replay });
      const other = w.engine(() => undefined);
      store.transact = (async (work: never) => {
        await other.runs.cancel(id);
        return transact!.call(store, work);
      }) as never;
      await stale.start('book', undefined, { id });
      await w.clock.idle();
      expect((await other.runs.get(id))?.status).toBe('cancelled');
      expect(await seats(database)).toBeUndefined();
    });
  });

it.each([
  ['seat'],
  ['stepfast:runs'],
])('R5, Q2: object stores that are not there block the run, and its slot is free: %s', async (name) => {
  const database = await openApp(freshName());
  const w = world(() => () => indexedDBStore({ database }));
  const queue = { name: 'one', concurrency: 1 } as const;
  const engine = w.engine((stepfast) => {
    stepfast.job('book', { queue }, ({ step }) => step.transaction('take', [name], take as never));
    stepfast.job('other', { queue }, ({ step }) => step.run('work', () => 'done'));
  });
  const { id } = await engine.start('book');
  const other = await engine.start('other');
  expect(await other.result()).toBe('done');
  await w.clock.idle();
  const run = { status: 'blocked', error: { code: 'INVALID_OPTION' } };
  expect(await engine.runs.get(id)).toMatchObject(run);
  expect(w.errors).toMatchObject([{ code: 'INVALID_OPTION', runId: id, step: 'take' }]);
  engine.register(
    defineJob('book', { queue }, ({ step }) => step.transaction('take', ['seats'], take as never)),
    {
      replace: true,
    },
  );
  await w.clock.idle();
  expect(await engine.runs.get(id)).toMatchObject({ status: 'completed', result: 1 });
});

describe('step.transaction elsewhere', () => {
  it.each(
    Object.entries({ ...media, own: () => () => memoryStore() }),
  )('R5: blocks the run on a store that shares no database with the app (%s)', async (_, medium) => {
    const w = world(medium);
    const engine = w.engine(define);
    const { id } = await engine.start('book');
    await w.clock.idle();
    const run = (await engine.runs.get(id))!;
    expect(run).toMatchObject({ status: 'blocked', error: { code: 'INVALID_OPTION' } });
    expect(run.error!.message).toContain('indexedDBStore({ database })');
  });
});
