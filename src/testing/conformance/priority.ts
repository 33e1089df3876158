import type { NewRun } from '../../store/batch.js';
import { stampOf } from '../../store/due.js';
import type { RunState } from '../../store/rows.js';
import type { Store } from '../../store/store.js';
import {
  caseGroup,
  claim,
  claimed,
  commit,
  dispatch,
  due,
  dueIds,
  end,
  newEvent,
  newRun,
  now,
  openWait,
  rowOf,
  slept,
  start,
  wait,
} from './env.js';
import { equal, range } from './kit.js';

const { cases, fact } = caseGroup('priorities');

/** The cases about which of several due runs goes first (spec Q2). */
export const priorities = cases;

/** Starts runs, each with a priority and the instant when it is due. */
async function startAll(store: Store, runs: readonly (readonly [string, number | undefined, number])[]): Promise<void> {
  for (const [runId, priority, dueAt] of runs)
    await start(store, runId, { dueAt, ...(priority !== undefined && { priority }) });
}

fact('Q2: due runs come by priority, then by their instants, then in the order of their creation', async ({ open }) => {
  const store = await open();
  await startAll(store, [
    ['low', -1, now - 900],
    ['none late', undefined, now - 1],
    ['high second', 5, now - 2],
    ['zero early', 0, now - 8],
    ['high first', 5, now - 3],
    ['none early', undefined, now - 8],
    ['highest', 2 ** 31, now],
    ['a half', 0.5, now],
    ['lowest', -(2 ** 31), now - 5000],
  ]);
  const expected = [
    'highest',
    'high first',
    'high second',
    'a half',
    'zero early',
    'none early',
    'none late',
    'low',
    'lowest',
  ];
  equal(dueIds(await due(store)), expected, 'the runs');
  await store.close();
  equal(dueIds(await due(await open())), expected, 'the runs when opened again');
});

fact('Q2: a priority is kept over the commits of the owner of its run', async ({ open }) => {
  const store = await open();
  await startAll(store, [
    ['other', undefined, now - 50],
    ['r', 3, now],
  ]);
  await commit(store, { run: claim('r', 0) });
  await commit(store, { run: slept('r', now - 1) });
  equal((await rowOf(store, 'r')).priority, 3, 'the priority');
  equal(dueIds(await due(store)), ['r', 'other'], 'the runs');
});

fact('Q2: a page of due work is filled from the greatest priority on', async ({ open }) => {
  const store = await open();
  await startAll(store, [
    ...range(3).map((index) => [`low ${index}`, -1, now - 9] as const),
    ...range(3).map((index) => [`high ${index}`, 1, now - index] as const),
    ...range(3).map((index) => [`none ${index}`, undefined, now - 5] as const),
  ]);
  const high = ['high 2', 'high 1', 'high 0'];
  for (const [limit, expected] of [
    [2, high.slice(0, 2)],
    [3, high],
    [4, [...high, 'none 0']],
    [7, [...high, 'none 0', 'none 1', 'none 2', 'low 0']],
  ] as const)
    equal(dueIds(await due(store, { limit })), expected, `with a limit of ${limit}`);
});

fact(
  'Q2: within a priority what is timed goes before what is queued, woken or backs off, on every page',
  async ({ open }) => {
    const store = await open();
    const states: { readonly [kind: string]: Partial<RunState> } = {
      timed: { status: 'sleeping' },
      queued: { status: 'queued' },
      'backs off': { status: 'retrying', setAt: now - 900 },
      deadline: { status: 'waiting' },
      woken: { status: 'waiting', waits: [openWait()] },
    };
    for (const [kind, state] of Object.entries(states))
      for (const priority of [undefined, 2, -1])
        for (const age of [5, 50]) {
          // The older of a lane is created last: its instant goes first.
          const runId = `${kind} ${priority ?? 0} ${age}`;
          const dueAt = now - age * 10 - Object.keys(states).indexOf(kind);
          const { waits = [] } = state;
          await start(store, runId, {
            dueAt,
            ...(priority !== undefined && { priority }),
            state: { version: 1, dueAt, status: 'queued', ...state, waits },
          });
        }
    await commit(store, { now: now - 700, events: [newEvent('e')] });
    const [timed, others] = [
      ['deadline', 'timed'],
      ['backs off', 'queued'],
    ];
    const lane = (priority: number) => [
      ...[50, 5].flatMap((age) => timed.map((kind) => `${kind} ${priority} ${age}`)),
      ...[5, 50].map((age) => `woken ${priority} ${age}`),
      ...[50, 5].flatMap((age) => others.map((kind) => `${kind} ${priority} ${age}`)),
    ];
    const expected = [2, 0, -1].flatMap(lane);
    equal(dueIds(await due(store)), expected, 'all of them');
    for (const limit of [1, 3, 5, 8, 13, 29])
      equal(dueIds(await due(store, { limit })), expected.slice(0, limit), `with a limit of ${limit}`);
    const skip = new Map<string, string>();
    for (let index = 0; index < expected.length; index += 7) {
      const { runs } = await due(store, { limit: 7, skip });
      equal(
        dueIds({ runs, foreign: false }),
        expected.slice(index, index + 7),
        `the page after ${index} that are skipped`,
      );
      for (const { row } of runs) skip.set(row.runId, stampOf(row));
    }
  },
);

fact('Q2: lanes of many runs come one after the other', async ({ open }) => {
  const store = await open();
  const of = (lane: string, over: Partial<NewRun>) =>
    range(100).map((index) => newRun(`${lane} ${index}`, { dueAt: now - 500 + index, ...over }));
  const state = (index: number): RunState => ({ status: 'sleeping', version: 1, waits: [], dueAt: now - index });
  const timed = of('timed', {}).map((run, index) => ({ ...run, state: state(index) }));
  const lanes = [of('low', { priority: -1 }), of('queued', {}), timed.reverse(), of('high', { priority: 1 })];
  for (const starts of lanes) await commit(store, { starts });
  const expected = lanes.reverse().flatMap((runs) => runs.map(({ runId }) => runId));
  for (const limit of [99, 101, 170, 250, 400])
    equal(dueIds(await due(store, { limit })), expected.slice(0, limit), `with a limit of ${limit}`);
});

fact('Q2: the next instant is the least over all priorities', async ({ open }) => {
  const store = await open();
  await startAll(store, [
    ['high', 5, now + 300],
    ['none', undefined, now + 100],
    ['low', -5, now + 200],
    ['ready', 1, now],
  ]);
  const { runs, nextDueAt } = await due(store);
  equal([runs.map(({ row }) => row.runId), nextDueAt], [['ready'], now + 100], 'the runs and the instant');
  equal((await due(store, { now: now + 100 })).nextDueAt, now + 200, 'the instant after it');
  equal((await due(store, { now: now + 200 })).nextDueAt, now + 300, 'the last one');
  equal('nextDueAt' in (await due(store, { now: now + 300 })), false, 'whether one is told when nothing is ahead');
});

fact('Q2: a page that is full tells the least next instant, or none', async ({ open }) => {
  const store = await open();
  await startAll(store, [
    ['high ahead', 5, now + 300],
    ['ready', 1, now],
    ['ready ahead', 1, now + 200],
    ['none ahead', undefined, now + 100],
  ]);
  const { runs, nextDueAt = now + 100 } = await due(store, { limit: 1 });
  equal([runs.map(({ row }) => row.runId), nextDueAt], [['ready'], now + 100], 'the runs and the instant');
});

fact('Q2: due runs of a low priority are found behind those of a high one that are ahead', async ({ open }) => {
  const store = await open();
  await startAll(store, [
    ['high ahead', 9, now + 1],
    ['low', -9, now],
  ]);
  const { runs, nextDueAt } = await due(store);
  equal([runs.map(({ row }) => row.runId), nextDueAt], [['low'], now + 1], 'the runs and the instant');
});

fact('Q2: runs of other jobs, newer versions and full queues do not hold up lower priorities', async ({ open }) => {
  const store = await open();
  await start(store, 'other job', { priority: 9, job: 'other' });
  await start(store, 'newer', { priority: 9, version: 2 });
  await start(store, 'full', { priority: 9, queue: 'busy' });
  await start(store, 'skipped', { priority: 9 });
  await startAll(store, [
    ['high', 1, now],
    ['low', -1, now],
  ]);
  const skip = new Map([['skipped', stampOf(await rowOf(store, 'skipped'))]]);
  equal(dueIds(await due(store, { limit: 2, full: ['busy'], skip })), ['high', 'low'], 'the runs');
});

fact('Q2: a run that waits keeps its priority for when it is woken', async ({ open }) => {
  const store = await open();
  await start(store, 'high', { priority: 2 });
  await commit(store, { run: claim('high', 0) });
  await start(store, 'none', { dueAt: now - 100 });
  await wait(store, 'high', openWait());
  equal(dueIds(await due(store)), ['none'], 'the runs before');
  await dispatch(store, 'e');
  equal(dueIds(await due(store)), ['high', 'none'], 'the runs after');
});

fact('Q2: a run that has ended is due under no priority', async ({ open }) => {
  const store = await open();
  await start(store, 'high', { priority: 2 });
  await commit(store, { run: claim('high', 0) });
  await end(store, 'high');
  equal(await due(store, { now: now + 1e9 }), { runs: [], foreign: false }, 'the page');
});

fact(
  'Q2: work of another living owner is told of under every priority',
  async ({ open, openOther }) => {
    const [store, other] = [await open(), await openOther()];
    await claimed(store, 'foreign');
    await startAll(store, [
      ['high', 1, now],
      ['low', -1, now],
    ]);
    const { runs, foreign } = await due(other, { owner: 'b' });
    equal([runs.map(({ row }) => row.runId), foreign], [['high', 'low'], true], 'the page');
  },
  { owners: 'many' },
);
