import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Batch, CommitOutcome } from '../../src/store/batch.js';
import type { DueQuery } from '../../src/store/store.js';
import { type Browser, launchBrowser } from './chromium.js';
import { type Site, servePages } from './site.js';

/*
 * Pins: what a page was told is durable outlives SIGKILL of the browser, and no commit is ever seen in half; who is
 * alive among tabs; who left in an orderly way and who crashed; that rows of the app and the journal are one commit.
 */

let browser: Browser;
let site: Site;
beforeAll(async () => {
  [browser, site] = await Promise.all([launchBrowser(), servePages('lab')]);
});
afterAll(async () => {
  await Promise.all([browser?.close(), site?.close()]);
});

const openPage = (name: string, owner: string, durability: 'relaxed' | 'strict' = 'relaxed'): Promise<Page> =>
  browser.open(`${site.origin}/lab`).then(async (page) => {
    await page.evaluate(
      async ([name, owner, durability]) => {
        globalThis.store = await lab.openStore(name, owner, durability);
      },
      [name, owner, durability] as const,
    );
    return page;
  });

for (const durability of ['relaxed', 'strict'] as const)
  it(`no commit that was acknowledged is lost when the browser is killed, and none is torn (${durability})`, async () => {
    // Three kills on one database. Should the browser delete it by itself, the three begin anew, on another.
    for (let wiped = 0; !(await survives(`kill-${durability}-${wiped}`, durability)); wiped++) {
      console.warn('Chromium found its database damaged after the kill, and deleted it.');
      expect(wiped, 'databases deleted by Chromium in a row').toBeLessThan(3);
    }
  });

/** Kills the browser three times while commits are made. False: Chromium deleted its own database. */
async function survives(name: string, durability: 'relaxed' | 'strict'): Promise<boolean> {
  let offset = 0;
  for (const enough of [7, 60, 23]) {
    const acknowledged: number[] = [];
    const page = await openPage(name, `owner-${offset}`, durability);
    let kill: () => void = () => undefined;
    const isTime = new Promise<void>((resolve) => (kill = resolve));
    await page.exposeFunction('acknowledge', (n: number) => {
      if (acknowledged.push(n) >= enough) kill();
    });
    // Three commits at a time, so that they share transactions. Never ends: it is killed.
    const loop = page.evaluate((from) => {
      const { acknowledge } = globalThis as unknown as { acknowledge(n: number): Promise<void> };
      const now = Date.now();
      const commit = (n: number) =>
        store.commit({
          now,
          starts: [
            {
              ...{ runId: `run-${n}`, job: 'job', version: 1, queue: 'queue', dueAt: now },
              entries: [{ kind: 'started', at: now, payload: 'x'.repeat(n % 5 === 0 ? 20_000 : 100) }],
            },
          ],
          events: [{ id: `event-${n}`, name: 'event', payload: n, ttlMs: 1e9, maxBacklog: 1e9 }],
        });
      const loop = async (n: number): Promise<never> => {
        await commit(n);
        void acknowledge(n);
        return loop(n + 3);
      };
      return Promise.all([loop(from + 1), loop(from + 2), loop(from + 3)]);
    }, offset);
    // It can only end by failing: before its time is a fault of the test, later is the kill.
    await Promise.race([isTime, loop]);
    loop.catch(() => undefined);
    await browser.killAndReopen();

    const after = await openPage(name, 'reader');
    const found = await after.evaluate(
      async (last) => {
        const runs: { runId: string; length: number; entries: number }[] = [];
        for (let cursor: string | undefined; ; ) {
          const page = await store.list({ limit: 100, ...(cursor !== undefined && { cursor }) });
          for (const { row, journal } of page.runs)
            runs.push({ runId: row.runId, length: row.length, entries: journal.length });
          if ((cursor = page.nextCursor) === undefined) break;
        }
        // Known events are deduplicated, unknown ones accepted: one beyond the last shows which of both happens.
        const known: number[] = [];
        for (let n = 1; n <= last + 50; n++) {
          const event = { id: `event-${n}`, name: 'event', payload: n, ttlMs: 1e9, maxBacklog: 0 };
          const outcome = await store.commit({ now: Date.now(), events: [event] });
          if (outcome.kind === 'committed') known.push(n);
        }
        return { runs, known };
      },
      Math.max(...acknowledged),
    );
    const runs = found.runs.map(({ runId }) => Number(runId.slice('run-'.length))).sort((a, b) => a - b);
    if (!runs.length && browser.hasWiped()) return false;
    expect(runs, runs.length ? '' : `everything is gone:\n${browser.databaseFiles()}`).not.toEqual([]);
    expect(runs).toEqual(found.known);
    expect(found.runs.every(({ length, entries }) => length === 1 && entries === 1)).toBe(true);
    expect(runs).toEqual(expect.arrayContaining(acknowledged));
    await after.close();
    offset = Math.max(...runs);
  }
  return true;
}

const now = 1_750_000_000_000;
const start: Batch = {
  now,
  starts: [
    {
      ...{ runId: 'run', job: 'job', version: 1, queue: 'queue', dueAt: now },
      entries: [{ kind: 'started', at: now, payload: null }],
    },
  ],
};
const claimBy = (owner: string): Batch => ({
  now,
  run: {
    runId: 'run',
    fence: 0,
    raise: true,
    append: [{ kind: 'claimed', at: now, owner, fence: 1 }],
    state: { status: 'running', version: 1, owner, dueAt: now, waits: [] },
  },
});
const look = (owner: string): DueQuery => ({ now, owner, jobs: { job: 1 }, limit: 10, graceMs: 5_000 });

/** As text: Playwright's types of what crosses into the page are too deep for rows that hold any JSON. */
const commitIn = async (page: Page, batch: Batch): Promise<CommitOutcome> =>
  JSON.parse(
    await page.evaluate(async (text) => JSON.stringify(await store.commit(JSON.parse(text))), JSON.stringify(batch)),
  );

/** Two tabs; the first has claimed a run. */
async function twoTabs(name: string): Promise<{ first: Page; second: Page; due(): ReturnType<typeof dueIn> }> {
  const first = await openPage(name, 'first');
  const second = await openPage(name, 'second');
  for (const batch of [start, claimBy('first')]) await commitIn(first, batch);
  expect(await dueIn(second)).toEqual({ runs: [], foreign: true });
  return { first, second, due: () => dueIn(second) };
}
const dueIn = (page: Page) =>
  page.evaluate(async (query) => {
    const { runs, foreign } = await store.due(query);
    return { runs: runs.map(({ row, interrupted }) => ({ runId: row.runId, interrupted })), foreign };
  }, look('second'));
/** Waits for the browser to notice that a context is gone. */
async function dueSoon(due: () => ReturnType<typeof dueIn>) {
  for (;;) {
    const page = await due();
    if (page.runs.length) return page;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

it('the run of a tab that crashed is due in another one, as interrupted', async () => {
  const { first, second, due } = await twoTabs('crash');
  const session = await browser.context.newCDPSession(first);
  session.send('Page.crash').catch(() => undefined); // no answer comes from a crashed page
  expect(await dueSoon(due)).toEqual({ runs: [{ runId: 'run', interrupted: true }], foreign: false });
  await Promise.all([first.close(), second.close()]);
});

it('the run of a tab that was closed is due in another one, and not interrupted', async () => {
  const { first, second, due } = await twoTabs('close');
  await first.close({ runBeforeUnload: true });
  expect(await dueSoon(due)).toEqual({ runs: [{ runId: 'run', interrupted: false }], foreign: false });
  await second.close();
});

it('the run of a page that was navigated away is due in another one, and not interrupted', async () => {
  const { first, second, due } = await twoTabs('navigate');
  await first.goto('about:blank');
  expect(await dueSoon(due)).toEqual({ runs: [{ runId: 'run', interrupted: false }], foreign: false });
  await Promise.all([first.close(), second.close()]);
});

it('a page that comes back from the back/forward cache is alive again', async () => {
  const { first, second, due } = await twoTabs('bfcache');
  await first.evaluate(() => {
    dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }));
  });
  expect((await dueSoon(due)).runs).toEqual([{ runId: 'run', interrupted: false }]);
  const hinted = await first.evaluate(() => {
    const heard = new Promise<string>((resolve) => store.watch((runId) => resolve(String(runId))));
    dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }));
    return heard;
  });
  expect(hinted).toBe('undefined');
  expect(await due()).toEqual({ runs: [], foreign: true });
  await Promise.all([first.close(), second.close()]);
});

it('commits of one tab are hinted to the other', async () => {
  const { first, second } = await twoTabs('hints');
  const heard = second.evaluate(() => new Promise((resolve) => store.watch(resolve)));
  // Nothing tells when the listener above is in place, so the same is said until it is heard.
  const saying = { isOver: false };
  const say = async () => {
    for (let n = 0; !saying.isOver; n++)
      await commitIn(first, {
        now,
        run: { runId: 'run', fence: 1, append: [{ kind: 'released', at: n }], state: claimBy('first').run!.state! },
      });
  };
  const said = say();
  expect(await heard).toBe('run');
  saying.isOver = true;
  await said;
  await Promise.all([first.close(), second.close()]);
});

it('a site that may not store more refuses a commit as a whole, and takes one that fits', async () => {
  // An origin of its own, limited before its first write: Chromium remembers for a while how much room there was.
  const other = await servePages('lab');
  const { origin } = other;
  const page = await browser.open(`${origin}/lab`);
  const session = await browser.context.newCDPSession(page);
  await session.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: 8_000_000 });
  await page.evaluate(async () => {
    globalThis.store = await lab.openStore('quota', 'owner');
  });
  const refusal = await page.evaluate(async (text) => {
    const batch: Batch = JSON.parse(text);
    // Not compressible: the quota is of bytes on the disk.
    const payload = Array.from({ length: 500_000 }, () => String.fromCharCode(Math.random() * 0xd000)).join('');
    for (let n = 0; n < 50; n++) {
      const event = { id: `big-${n}`, name: 'event', payload, ttlMs: 1e9, maxBacklog: 1e9 };
      const start = { ...batch.starts![0]!, runId: `run-${n}` };
      try {
        await store.commit({ now: batch.now, starts: [start], events: [event] });
      } catch (error) {
        const kept = await store.load(start.runId);
        return { code: (error as { code?: string }).code, isKept: kept !== undefined, before: n };
      }
    }
    return undefined;
  }, JSON.stringify(start));
  expect(refusal).toMatchObject({ code: 'QUOTA_EXCEEDED', isKept: false });
  expect(await commitIn(page, start), 'a small commit still fits').toMatchObject({ kind: 'committed' });
  await page.close();
  await other.close();
});

/** What functions of a transaction do, and what is to become of it: the error, or none. */
const FUNCTIONS = {
  'adds rows': undefined,
  'begins with a long turn': undefined,
  'walks a cursor': undefined,
  'forgives a failure': undefined,
  'awaits a timer': 'TRANSACTION_ENDED',
  'awaits a timer, and asks for more': 'TRANSACTION_ENDED',
  'awaits the network': 'TRANSACTION_ENDED',
  'awaits the end of its transaction': 'TRANSACTION_ENDED',
  'awaits another transaction': 'TRANSACTION_ENDED',
  'swallows a failure': 'TRANSACTION_ENDED',
  'fails a request': 'ConstraintError',
  aborts: 'TRANSACTION_ENDED',
  commits: 'TRANSACTION_ENDED',
  throws: 'Error',
} as const;

it('D2, W1: rows of the app and the journal are kept both or not at all, whatever the function does', async () => {
  const page = await browser.open(`${site.origin}/lab`);
  const results = await page.evaluate(
    async ([names, starting, claiming]) => {
      const { store, database } = await lab.openShared('shared');
      for (const text of [starting, claiming]) await store.commit(JSON.parse(text));
      const promised = <T>(request: IDBRequest<T>) =>
        new Promise<T>((resolve, reject) => {
          request.onsuccess = () => resolve(request.result);
          request.onerror = () => reject(request.error);
        });
      const timer = () => new Promise((resolve) => setTimeout(resolve, 5));
      type Body = (add: () => IDBRequest<IDBValidKey>, tx: IDBTransaction) => unknown;
      const bodies: Record<string, Body> = {
        'adds rows': async (add) => {
          for (let n = 0; n < 20; n++) await promised(add());
        },
        'begins with a long turn': async (add) => {
          for (let n = 0; n < 1000; n++) await undefined;
          await promised(add());
        },
        'walks a cursor': async (add, tx) => {
          for (let n = 0; n < 200; n++) add();
          const request = tx.objectStore('orders').openCursor();
          await new Promise<void>((resolve) => {
            request.onsuccess = () => (request.result ? request.result.continue() : resolve());
          });
        },
        'forgives a failure': async (add, tx) => {
          await promised(add());
          const request = tx
            .objectStore('orders')
            .add({ id: await promised(tx.objectStore('orders').getAllKeys()).then((keys) => keys[0]) });
          await new Promise<void>((resolve) => {
            request.onerror = (event) => {
              event.preventDefault();
              resolve();
            };
          });
        },
        'awaits a timer': async (add) => {
          await promised(add());
          await timer();
        },
        'awaits a timer, and asks for more': async (add) => {
          await promised(add());
          await timer();
          await promised(add());
        },
        'awaits the network': async (add) => {
          await promised(add());
          await fetch('/effect/inside-a-transaction');
          await promised(add());
        },
        'awaits the end of its transaction': async (add, tx) => {
          add();
          await new Promise((resolve) => tx.addEventListener('complete', resolve));
        },
        'awaits another transaction': async (add) => {
          await promised(add());
          await promised(database.transaction('orders').objectStore('orders').count());
        },
        'swallows a failure': async (add, tx) => {
          await promised(add());
          const [id] = await promised(tx.objectStore('orders').getAllKeys());
          await promised(tx.objectStore('orders').add({ id })).catch(() => undefined);
        },
        'fails a request': async (add, tx) => {
          await promised(add());
          const [id] = await promised(tx.objectStore('orders').getAllKeys());
          await promised(tx.objectStore('orders').add({ id }));
        },
        aborts: async (add, tx) => {
          await promised(add());
          tx.abort();
        },
        commits: async (add, tx) => {
          await promised(add());
          tx.commit();
        },
        throws: async (add) => {
          await promised(add());
          throw new Error('of the function');
        },
      };
      const stored = async (name: string) => {
        const keys = await promised(database.transaction('orders').objectStore('orders').getAllKeys());
        const { journal = [] } = (await store.load('run')) ?? {};
        return {
          hasRows: keys.some((key) => String(key).startsWith(`${name}/`)),
          isRecorded: journal.some((entry) => entry.kind === 'step-completed' && entry.id[0] === name),
        };
      };
      const { run, now } = JSON.parse(claiming) as Batch;
      const results: Record<string, unknown> = {};
      for (const name of names) {
        let rows = 0;
        const outcome = await store.transact!({
          scope: ['orders'],
          body: (tx: IDBTransaction) =>
            bodies[name]!(() => tx.objectStore('orders').add({ id: `${name}/${++rows}` }), tx) as Promise<void>,
          batchOf: () => ({
            now,
            run: {
              ...{ runId: 'run', fence: 1, state: run!.state! },
              append: [{ kind: 'step-completed', at: now, id: [name, 1], asked: 1, attempt: 1, value: null }],
            },
          }),
        });
        const { code, name: errorName } = (outcome.kind === 'threw' ? outcome.error : {}) as {
          code?: unknown;
          name?: string;
        };
        const error = typeof code === 'string' ? code : errorName;
        results[name] = { kind: outcome.kind, ...(error && { error }), ...(await stored(name)) };
      }
      await store.close();
      return results;
    },
    [Object.keys(FUNCTIONS), JSON.stringify(start), JSON.stringify(claimBy('owner'))] as const,
  );
  const expected = Object.entries(FUNCTIONS).map(([name, error]) => [
    name,
    error
      ? { kind: 'threw', error, hasRows: false, isRecorded: false }
      : { kind: 'committed', hasRows: true, isRecorded: true },
  ]);
  expect(results).toEqual(Object.fromEntries(expected));
  await page.close();
});
