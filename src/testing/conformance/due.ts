import { stampOf } from '../../store/due.js';
import type { RunState } from '../../store/rows.js';
import type { DueRun } from '../../store/store.js';
import {
  cancelling,
  caseGroup,
  claim,
  claimed,
  commit,
  due,
  dueIds,
  load,
  newEvent,
  newRun,
  now,
  openWait,
  rowOf,
  running,
  slept,
  start,
  stepped,
  waiting,
} from './env.js';
import { equal, hostileStrings, range } from './kit.js';

const { cases, fact } = caseGroup('due work');

/** The cases about looking for work (spec F4, O1, O6, Q4). */
export const dueWork = cases;

fact('nothing is due in an empty store', async ({ open }) => {
  equal(await due(await open()), { runs: [], foreign: false }, 'the page');
});

fact('a queued run is due, with its row as it is kept', async ({ open }) => {
  const store = await open();
  await start(store, 'r', { tags: ['t'] });
  const [{ journal: _, ...run }] = (await due(store)).runs as [DueRun];
  equal(run, { row: await rowOf(store, 'r'), offers: [], interrupted: false }, 'the run');
});

fact('a journal that comes with due work is the whole of it, as it was with the row', async ({ open }) => {
  const store = await open();
  await start(store, 'short');
  await start(store, 'long');
  const queued: RunState = { status: 'queued', version: 1, dueAt: now, waits: [] };
  const append = range(150).map((i) => stepped(`step-${i}`));
  for (const half of [append.slice(0, 75), append.slice(75)])
    await commit(store, { run: { runId: 'long', fence: 0, append: half, state: queued } });
  const { runs } = await due(store);
  equal(
    runs.map(({ row }) => [row.runId, row.length]),
    [
      ['short', 1],
      ['long', 151],
    ],
    'the runs',
  );
  for (const { row, journal } of runs)
    if (journal) equal(journal, (await load(store, row.runId)).journal, `the journal of "${row.runId}"`);
});

fact('due runs come in the order of their instants', async ({ open }) => {
  const store = await open();
  for (const [runId, dueAt] of [
    ['third', now - 1],
    ['first', now - 9],
    ['second', now - 5],
    ['last', now],
  ] as const)
    await start(store, runId, { dueAt });
  equal(dueIds(await due(store)), ['first', 'second', 'third', 'last'], 'the runs');
});

fact('runs that are due at one instant come in the order of their creation', async ({ open }) => {
  const store = await open();
  const runIds = ['b', 'a', 'd', 'c', '10', '9'];
  for (const runId of runIds) await start(store, runId);
  equal(dueIds(await due(store)), runIds, 'the runs');
});

fact('a page of due work keeps to its limit and starts with the oldest', async ({ open }) => {
  const store = await open();
  for (const runId of ['a', 'b', 'c', 'd']) await start(store, runId);
  equal(dueIds(await due(store, { limit: 2 })), ['a', 'b'], 'the runs');
});

fact('only runs of the asked jobs are due', async ({ open }) => {
  const store = await open();
  await start(store, 'a', { job: 'x' });
  await start(store, 'b', { job: 'y' });
  await start(store, 'c', { job: 'z' });
  equal(dueIds(await due(store, { jobs: { x: 1, z: 1 } })), ['a', 'c'], 'the runs');
  equal(dueIds(await due(store, { jobs: {} })), [], 'the runs of no job');
});

fact('jobs with hostile names are looked up as data', async ({ open }) => {
  const store = await open();
  for (const [index, job] of hostileStrings.entries()) await start(store, `r${index}`, { job });
  equal(dueIds(await due(store, { jobs: {} })), [], 'the runs of no job');
  for (const [index, job] of hostileStrings.entries())
    equal(dueIds(await due(store, { jobs: Object.fromEntries([[job, 1]]) })), [`r${index}`], JSON.stringify(job));
});

fact('runs of a newer version of their job are left to who has it', async ({ open }) => {
  const store = await open();
  await start(store, 'old', { version: 1 });
  await start(store, 'same', { version: 2 });
  await start(store, 'new', { version: 3 });
  equal(dueIds(await due(store, { jobs: { job: 2 } })), ['old', 'same'], 'the runs');
});

fact('a run to be skipped is left out until something of it changes', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await start(store, 'other');
  await commit(store, { run: slept('r', now) });
  const skip = new Map([['r', stampOf(await rowOf(store, 'r'))]]);
  equal(dueIds(await due(store, { skip })), ['other'], 'the runs');
  await commit(store, { run: { ...slept('r', now), append: [stepped('s')] } });
  equal(dueIds(await due(store, { skip })), ['r', 'other'], 'the runs after a commit');
});

fact('skipped runs do not use up the limit', async ({ open }) => {
  const store = await open();
  for (const runId of ['a', 'b', 'c']) await start(store, runId);
  const skip = new Map([['a', stampOf(await rowOf(store, 'a'))]]);
  equal(dueIds(await due(store, { skip, limit: 2 })), ['b', 'c'], 'the runs');
});

fact('runs without a slot are left out where their queue is full', async ({ open }) => {
  const store = await open();
  await claimed(store, 'holds');
  await commit(store, {
    run: { runId: 'holds', fence: 1, append: [], state: { ...slept('', now).state, slot: 'queue' } },
  });
  await start(store, 'needs');
  await start(store, 'elsewhere', { queue: 'other' });
  equal(dueIds(await due(store, { full: ['queue'] })), ['holds', 'elsewhere'], 'the runs');
});

fact('the next instant ahead is told, of the asked jobs and versions alone', async ({ open }) => {
  const store = await open();
  await start(store, 'now');
  await start(store, 'later', { dueAt: now + 500 });
  await start(store, 'sooner', { dueAt: now + 400 });
  await start(store, 'other job', { dueAt: now + 100, job: 'other' });
  await start(store, 'newer version', { dueAt: now + 200, version: 2 });
  const { runs, nextDueAt } = await due(store);
  equal([runs.map(({ row }) => row.runId), nextDueAt], [['now'], now + 400], 'the runs and the instant');
});

fact('no next instant is told when nothing is ahead', async ({ open }) => {
  const store = await open();
  await start(store, 'r');
  equal('nextDueAt' in (await due(store)), false, 'whether it is told');
});

fact('a scheduled run is due from its instant on', async ({ open }) => {
  const store = await open();
  await start(store, 'r', { dueAt: now + 100 });
  equal(dueIds(await due(store, { now: now + 99 })), [], 'one millisecond before');
  equal(dueIds(await due(store, { now: now + 100 })), ['r'], 'at the instant');
});

fact(
  'Q4: a run that is queued, woken or left to be undone is due, whatever a clock that was ahead has said',
  async ({ open }) => {
    const store = await open();
    const then = now + 86_400_000;
    await start(store, 'sleeps');
    await commit(store, { run: claim('sleeps', 0) });
    await commit(store, { run: slept('sleeps', now + 500) });
    for (const runId of ['waits', 'undoable']) {
      await start(store, runId);
      await commit(store, { run: claim(runId, 0, 'a', { state: running('a', { undoable: true }) }) });
    }
    await commit(store, { run: { runId: 'waits', fence: 1, append: [], state: waiting([openWait()]) } });
    await commit(store, { now: then, run: cancelling('undoable') });
    await commit(store, { now: then, starts: [newRun('queued', { dueAt: then })] });
    await commit(store, { now: then, events: [newEvent('e')] });
    const { runs, nextDueAt } = await due(store);
    equal(
      [dueIds({ runs, foreign: false }).sort(), nextDueAt],
      [['queued', 'undoable', 'waits'], now + 500],
      'the page',
    );
  },
);

fact('Q4: a backoff is over where it was set by a clock that was ahead, and by no other', async ({ open }) => {
  const store = await open();
  for (const [runId, setAt] of [
    ['by a right clock', now],
    ['a little ahead', now + 1_000],
    ['a day ahead', now + 86_400_000],
  ] as const) {
    await start(store, runId);
    await commit(store, { run: claim(runId, 0) });
    const state: RunState = { ...slept('', setAt + 5_000).state!, status: 'retrying', setAt };
    await commit(store, { run: { runId, fence: 1, append: [], state } });
  }
  const { runs, nextDueAt } = await due(store);
  equal([runs.map(({ row }) => row.runId), nextDueAt], [['a day ahead'], now + 5_000], 'the page');
});

fact('Q4: runs that back off do not hide what is due behind them, however many there are', async ({ open }) => {
  const store = await open();
  const state: RunState = { ...slept('', now + 5_000).state!, status: 'retrying', setAt: now };
  for (const index of range(150)) {
    await start(store, `backs off ${index}`);
    await commit(store, { run: claim(`backs off ${index}`, 0, 'a', { state }) });
  }
  await commit(store, { now: now + 9_000, starts: [newRun('queued', { dueAt: now + 9_000 })] });
  equal(dueIds(await due(store)), ['queued'], 'the runs');
});

fact('timers beyond 2^31 milliseconds are kept and told', async ({ open }) => {
  const store = await open();
  const dueAt = now + 2 ** 31 + 5;
  await start(store, 'r', { dueAt });
  equal((await due(store)).nextDueAt, dueAt, 'the instant');
});
