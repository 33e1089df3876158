import type { ListQuery, Store } from '../../store/store.js';
import { caseGroup, claim, commit, ended, load, now, start, started, waiting } from './env.js';
import { equal, range } from './kit.js';

const { cases, fact } = caseGroup('lists');

/** The cases about pages of runs (rule S5). */
export const lists = cases;

const page = async (store: Store, query: Partial<ListQuery> = {}) => {
  const { runs, ...rest } = await store.list({ limit: 100, ...query });
  return { runIds: runs.map(({ row }) => row.runId), ...rest };
};

/** No case has so many runs. */
const MOST_PAGES = 1_000;

/** All pages, one after the other. */
async function pages(store: Store, query: Partial<ListQuery>): Promise<string[][]> {
  const found: string[][] = [];
  for (let cursor: string | undefined, more = true; more; more = cursor !== undefined) {
    const { runIds, nextCursor } = await page(store, { ...query, ...(cursor !== undefined && { cursor }) });
    found.push(runIds);
    equal(found.length > MOST_PAGES, false, `whether there are more than ${MOST_PAGES} pages: is the cursor followed?`);
    cursor = nextCursor;
  }
  return found;
}

async function filled(store: Store): Promise<void> {
  await start(store, 'queued', { tags: ['red', 'blue'] });
  await start(store, 'scheduled', { dueAt: Number.MAX_SAFE_INTEGER, job: 'other', tags: ['red'] });
  await start(store, 'waiting', { job: 'other' });
  await commit(store, { run: claim('waiting', 0, 'a', { state: waiting([]) }) });
  await start(store, 'failed', { tags: ['blue'] });
  await commit(store, { run: claim('failed', 0, 'a', { state: ended('failed') }) });
}

fact('an empty store lists nothing and has no next page', async ({ open }) => {
  equal(await (await open()).list({ limit: 10 }), { runs: [] }, 'the page');
});

fact('runs are listed newest first', async ({ open }) => {
  const store = await open();
  for (const runId of ['b', 'a', 'c', '10', '9']) await start(store, runId);
  equal(await page(store), { runIds: ['9', '10', 'c', 'a', 'b'] }, 'the page');
});

fact('a listed run comes with its row and its journal', async ({ open }) => {
  const store = await open();
  await start(store, 'r', { entries: [started({ a: 1 })] });
  await commit(store, { run: claim('r', 0) });
  equal((await store.list({ limit: 1 })).runs, [await load(store, 'r')], 'the runs');
});

fact('runs are listed by status', async ({ open }) => {
  const store = await open();
  await filled(store);
  for (const status of ['queued', 'scheduled', 'waiting', 'failed'] as const)
    equal(await page(store, { status }), { runIds: [status] }, status);
  equal(await page(store, { status: 'completed' }), { runIds: [] }, 'a status that no run has');
});

fact('runs are listed by any of several statuses', async ({ open }) => {
  const store = await open();
  await filled(store);
  equal(
    await page(store, { status: ['queued', 'failed', 'running'] }),
    { runIds: ['failed', 'queued'] },
    'two of three',
  );
  equal(await page(store, { status: [] }), { runIds: [] }, 'no status');
});

fact('a run is listed under the status that it has now', async ({ open }) => {
  const store = await open();
  await start(store, 'r');
  await commit(store, { run: claim('r', 0) });
  equal(await page(store, { status: 'queued' }), { runIds: [] }, 'the status before');
  equal(await page(store, { status: 'running' }), { runIds: ['r'] }, 'the status now');
});

fact('runs are listed by job', async ({ open }) => {
  const store = await open();
  await filled(store);
  equal(await page(store, { job: 'other' }), { runIds: ['waiting', 'scheduled'] }, 'the page');
});

fact('runs are listed by tag', async ({ open }) => {
  const store = await open();
  await filled(store);
  equal(await page(store, { tag: 'red' }), { runIds: ['scheduled', 'queued'] }, 'red');
  equal(await page(store, { tag: 're' }), { runIds: [] }, 'a part of a tag');
});

fact('Q6: runs are listed that ended before an instant', async ({ open }) => {
  const store = await open();
  for (const [index, endedAt] of [now + 20, now + 10, now + 30, now + 10].entries()) {
    await start(store, `r${index}`, index ? {} : { tags: ['t'] });
    await commit(store, { run: claim(`r${index}`, 0, 'a', { state: { ...ended(), endedAt } }) });
  }
  await start(store, 'has not ended');
  equal(await page(store, { endedBefore: now + 10 }), { runIds: [] }, 'at the instant of the first');
  equal(await page(store, { endedBefore: now + 11 }), { runIds: ['r3', 'r1'] }, 'after it');
  equal(await page(store, { endedBefore: now + 1e9 }), { runIds: ['r3', 'r2', 'r1', 'r0'] }, 'after all');
  equal(await page(store, { endedBefore: now + 30, tag: 't', status: 'completed' }), { runIds: ['r0'] }, 'narrowed');
  equal(await pages(store, { endedBefore: now + 30, limit: 2 }), [['r3', 'r1'], ['r0']], 'the pages');
  await store.close();
  equal(await page(await open(), { endedBefore: now + 11 }), { runIds: ['r3', 'r1'] }, 'when opened again');
});

fact('status, job and tag narrow a list together', async ({ open }) => {
  const store = await open();
  await filled(store);
  equal(await page(store, { tag: 'blue', job: 'job', status: ['failed'] }), { runIds: ['failed'] }, 'the page');
  equal(await page(store, { tag: 'blue', job: 'other' }), { runIds: [] }, 'no run fits');
});

fact('pages together are the whole list, each run once', async ({ open }) => {
  const store = await open();
  for (const index of range(7)) await start(store, `r${index}`);
  equal(await pages(store, { limit: 3 }), [['r6', 'r5', 'r4'], ['r3', 'r2', 'r1'], ['r0']], 'the pages');
});

fact('a full last page has no next page', async ({ open }) => {
  const store = await open();
  for (const index of range(4)) await start(store, `r${index}`);
  equal(
    await pages(store, { limit: 2 }),
    [
      ['r3', 'r2'],
      ['r1', 'r0'],
    ],
    'the pages',
  );
});

fact('pages of a narrowed list are full', async ({ open }) => {
  const store = await open();
  for (const index of range(12)) await start(store, `r${index}`, { job: index % 3 ? 'other' : 'job' });
  equal(
    await pages(store, { limit: 2, job: 'job' }),
    [
      ['r9', 'r6'],
      ['r3', 'r0'],
    ],
    'the pages',
  );
});

fact(
  'every page of a list is narrowed as the first is: by status, by job, by tag, and by all of them',
  async ({ open }) => {
    const store = await open();
    for (const index of range(24)) {
      const [runId, job] = [`r${index}`, index & 1 ? 'job' : 'other'];
      await start(store, runId, { job, ...(index & 2 && { tags: ['t', 'u'] }) });
      if (index & 4) await commit(store, { run: claim(runId, 0, 'a', { state: ended('failed') }) });
    }
    const fitting = (mask: number) => range(24).filter((index) => (index & mask) === mask);
    const narrowings: readonly (readonly [number, Partial<ListQuery>])[] = [
      [1, { job: 'job' }],
      [2, { tag: 't' }],
      [4, { status: 'failed' }],
      [4, { status: ['failed', 'completed'] }],
      [7, { job: 'job', tag: 'u', status: 'failed' }],
    ];
    for (const [mask, query] of narrowings) {
      const all = fitting(mask)
        .map((index) => `r${index}`)
        .reverse();
      const expected = range(Math.ceil(all.length / 2)).map((index) => all.slice(2 * index, 2 * index + 2));
      equal(await pages(store, { limit: 2, ...query }), expected, `the pages of ${JSON.stringify(query)}`);
    }
  },
);

fact('the next page stays where it is when runs are added', async ({ open, openOther }) => {
  const [store, other] = [await open(), await openOther()];
  for (const index of range(4)) await start(store, `r${index}`);
  const first = await page(store, { limit: 2 });
  for (const index of range(3)) await start(other, `new ${index}`);
  const second = await page(store, { limit: 2, cursor: first.nextCursor! });
  equal(
    [first.runIds, second.runIds],
    [
      ['r3', 'r2'],
      ['r1', 'r0'],
    ],
    'the pages',
  );
});
