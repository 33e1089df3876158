import {
  caseGroup,
  claim,
  claimed,
  commit,
  dispatch,
  due,
  dueIds,
  ended,
  ids,
  leaseMs,
  now,
  openWait,
  rowOf,
  running,
  slept,
  start,
  wait,
  waiting,
} from './env.js';
import { check, equal, eventually } from './kit.js';

const { cases, fact } = caseGroup('owners of due work');

/** The cases about whose due work is (spec F5, O1). */
export const ownedWork = cases;

fact('a run that its owner is running is not offered to it', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  equal(await due(store), { runs: [], foreign: false }, 'the page');
});

fact('what an owner is running does not hide other due work', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await start(store, 'behind');
  await start(store, 'ahead', { dueAt: now + 5 });
  const { runs, nextDueAt } = await due(store);
  equal([runs.map(({ row }) => row.runId), nextDueAt], [['behind'], now + 5], 'the runs and the next instant');
});

fact('a run that its owner is running is offered to it when it was woken', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await commit(store, { run: { runId: 'r', fence: 1, append: [], state: running('a', { waits: [openWait()] }) } });
  await dispatch(store, 'e');
  const { runs } = await due(store);
  equal(
    runs.map(({ row, interrupted }) => [row.runId, interrupted]),
    [['r', false]],
    'the runs',
  );
});

fact('a run whose handler has not settled is left to its owner until it is woken', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const state = waiting([openWait()], { dueAt: now, unsettled: true });
  await commit(store, { run: { runId: 'r', fence: 1, append: [], state } });
  equal((await rowOf(store, 'r')).unsettled, true, 'the mark');
  equal(dueIds(await due(store)), [], 'the runs before');
  await dispatch(store, 'e');
  equal(dueIds(await due(store)), ['r'], 'the runs after');
});

fact('a run that its owner put to sleep is offered to it when it is due', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await commit(store, { run: slept('r', now + 10, 'a') });
  equal((await due(store)).nextDueAt, now + 10, 'the instant');
  equal(dueIds(await due(store, { now: now + 10 })), ['r'], 'the runs');
});

fact('a woken run comes with the events that it may take, oldest first', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await wait(store, 'r', openWait({ events: ['x', 'y'] }));
  for (const [id, name] of [
    ['e', 'y'],
    ['f', 'x'],
    ['g', 'z'],
  ] as const)
    await dispatch(store, id, { name });
  const { runs } = await due(store);
  equal(
    runs.map(({ row, offers }) => [row.runId, ids(offers)]),
    [['r', ['e', 'f']]],
    'the runs',
  );
});

fact('a run that waits without a deadline is not due', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await wait(store, 'r', openWait());
  equal(await due(store, { now: now + 1e12 }), { runs: [], foreign: false }, 'the page');
});

fact('a run that has ended is never due', async ({ open }) => {
  const store = await open();
  for (const status of ['completed', 'failed', 'cancelled'] as const) {
    await start(store, status);
    await commit(store, { run: claim(status, 0, 'a', { state: ended(status) }) });
  }
  equal(await due(store, { now: now + 1e12 }), { runs: [], foreign: false }, 'the page');
});

fact('a released run is offered to the next context and was not interrupted', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const { owner: _, ...state } = running();
  await commit(store, { run: { runId: 'r', fence: 1, append: [{ kind: 'released', at: now }], state } });
  await store.close();
  const { runs } = await due(await open('drive', 'b'), { owner: 'b' });
  equal(
    runs.map(({ row, interrupted }) => [row.runId, interrupted]),
    [['r', false]],
    'the runs',
  );
});

fact(
  'a run that a crashed owner was running is interrupted',
  async ({ open }) => {
    const store = await open('drive', 'a');
    await claimed(store, 'r');
    store.abandon!();
    const at = now + 10 * leaseMs;
    const next = await open('drive', 'b', { now: at });
    const found = await eventually(
      async () => (await due(next, { owner: 'b', now: at })).runs[0],
      'the run is offered',
    );
    equal([found.row.runId, found.interrupted], ['r', true], 'the run');
  },
  { abandons: true },
);

fact(
  'a run that a crashed owner had put to sleep was not interrupted',
  async ({ open }) => {
    const store = await open('drive', 'a');
    await claimed(store, 'r');
    await commit(store, { run: slept('r', now, 'a') });
    store.abandon!();
    const at = now + 10 * leaseMs;
    const next = await open('drive', 'b', { now: at });
    const found = await eventually(
      async () => (await due(next, { owner: 'b', now: at })).runs[0],
      'the run is offered',
    );
    equal([found.row.runId, found.interrupted], ['r', false], 'the run');
  },
  { abandons: true },
);

fact('a run that an owner was running when it closed is offered to the next', async ({ open }) => {
  const store = await open('drive', 'a');
  await claimed(store, 'r');
  await store.close();
  const next = await open('drive', 'b');
  const found = await eventually(async () => (await due(next, { owner: 'b' })).runs[0], 'the run is offered');
  equal([found.row.runId, found.interrupted], ['r', true], 'the run');
});

fact(
  'a run that a living owner is running is not offered to another, however long it takes',
  async ({ open, openOther }) => {
    const [store, other] = [await open(), await openOther()];
    await claimed(store, 'r');
    equal(await due(other, { owner: 'b', now: now + 6_000 }), { runs: [], foreign: true }, 'the page');
    await start(store, 'behind');
    const { runs, foreign } = await due(other, { owner: 'b', now: now + 6_000 });
    equal([runs.map(({ row }) => row.runId), foreign], [['behind'], true], 'the page with work that nobody owns');
  },
  { owners: 'many' },
);

fact(
  'a due run of a living owner is offered to others after the time of grace',
  async ({ open, openOther }) => {
    const [store, other] = [await open(), await openOther()];
    await claimed(store, 'r');
    await commit(store, { run: slept('r', now, 'a') });
    equal(await due(other, { owner: 'b', now: now + 4_999 }), { runs: [], foreign: true }, 'the page before');
    const { runs, foreign } = await due(other, { owner: 'b', now: now + 5_000 });
    equal(
      [runs.map(({ row, interrupted }) => [row.runId, interrupted]), foreign],
      [[['r', false]], false],
      'the page after',
    );
  },
  { owners: 'many' },
);

fact(
  'work that nobody owns is offered to every driver',
  async ({ open, openOther }) => {
    const [store, other] = [await open(), await openOther()];
    await start(store, 'r');
    for (const [each, owner] of [
      [store, 'a'],
      [other, 'b'],
    ] as const)
      equal([dueIds(await due(each, { owner })), (await due(each, { owner })).foreign], [['r'], false], owner);
  },
  { owners: 'many' },
);

fact('looking for work changes nothing', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await wait(store, 'r', openWait());
  await dispatch(store, 'e');
  const before = await rowOf(store, 'r');
  const pages = [await due(store), await due(store)];
  equal(pages[1], pages[0], 'the second page');
  equal(await rowOf(store, 'r'), before, 'the row');
  check(before.woken === true, 'the run was woken');
});
