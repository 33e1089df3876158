import type { OpenWait } from '../../store/rows.js';
import type { Store } from '../../store/store.js';
import {
  caseGroup,
  claim,
  claimed,
  commit,
  dispatch,
  due,
  dueIds,
  ids,
  load,
  type newEvent,
  now,
  openWait,
  rowOf,
  take,
  wait,
  waiting,
} from './env.js';
import { check, equal, hostileStrings, lookalikePairs, range } from './kit.js';

const { cases, fact } = caseGroup('waits');

/** The cases about how waits and events meet (spec E1-E5, E10, E11; rules S3, S4, T3). */
export const waits = cases;

/** Which of these events wake a run that waits like this. Each is dispatched to a run of its own. */
async function wakes(store: Store, look: OpenWait, given: Parameters<typeof newEvent>[1]): Promise<boolean> {
  const runId = `${JSON.stringify([look, given])}`;
  await claimed(store, runId);
  await wait(store, runId, look);
  return (await dispatch(store, runId, given)).resumed.includes(runId);
}

fact('an event that comes before the wait is offered to it', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await dispatch(store, 'e', { payload: 'x' });
  const offers = await wait(store, 'r', openWait());
  equal(
    offers.map(({ id, payload }) => [id, payload]),
    [['e', 'x']],
    'the events',
  );
});

fact('an event that comes after the wait wakes its run', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  equal(await wait(store, 'r', openWait()), [], 'the events before');
  equal((await dispatch(store, 'e')).resumed, ['r'], 'the runs told');
  const { woken, dueAt, status } = await rowOf(store, 'r');
  equal([woken, dueAt, status], [true, now, 'waiting'], 'the row');
});

fact('E1: a run that is offered an event is due, until a commit of its owner is offered none', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await dispatch(store, 'e');
  equal(ids(await wait(store, 'r', openWait())), ['e'], 'offered to a wait that is opened');
  equal((await rowOf(store, 'r')).dueAt, now, 'when it is due then');
  equal(ids(await wait(store, 'r', openWait())), [], 'offered once its owner has heard of it');
  equal((await rowOf(store, 'r')).dueAt, undefined, 'when it is due after that');
  await dispatch(store, 'f');
  const both = await wait(store, 'r', openWait(), openWait({ id: ['other', 1], events: ['other'] }));
  equal([ids(both), (await rowOf(store, 'r')).dueAt], [['e', 'f'], now], 'after a wake-up');
  await commit(store, { run: { runId: 'r', fence: 1, append: [], state: waiting([], { dueAt: now - 7 }) } });
  equal(ids(await wait(store, 'r', openWait())), ['e', 'f'], 'offered to a wait that is opened again');
  equal((await rowOf(store, 'r')).dueAt, now, 'when it is due in the end');
  for (const [name, at, expected] of [
    ['ahead', now + 7, now],
    ['overdue', now - 7, now - 7],
  ] as const) {
    const state = waiting([openWait({ id: [name, 1] })], { dueAt: at });
    await commit(store, { run: { runId: 'r', fence: 1, append: [], state } });
    equal((await rowOf(store, 'r')).dueAt, expected, `when it is due, where its owner says ${name}`);
  }
});

fact('E3: of each of its events a wait may take only those after the instant of its own', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const seqs: number[] = [];
  for (const name of ['a', 'b', 'a', 'b']) seqs.push((await dispatch(store, `${name}${seqs.length}`, { name })).seq);
  const several = openWait({ events: ['a', 'b'], after: seqs[0]! - 1, afters: [seqs[2]!, seqs[0]! - 1] });
  equal(ids(await wait(store, 'r', several)), ['b1', 'b3'], 'the events offered');
  equal(await wakes(store, { ...several, id: ['x', 1], afters: [1e9, 0] }, { name: 'a' }), false, 'woken too early');
  equal(await wakes(store, { ...several, id: ['x', 1], afters: [1e9, 0] }, { name: 'b' }), true, 'woken by the other');
});

fact('an event from another context wakes the run', async ({ open, openOther }) => {
  const [store, other] = [await open(), await openOther()];
  await claimed(store, 'r');
  await wait(store, 'r', openWait());
  equal((await dispatch(other, 'e')).resumed, ['r'], 'the runs told');
  equal((await rowOf(store, 'r')).woken, true, 'woken');
});

fact('an event never writes a journal', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await wait(store, 'r', openWait());
  const { journal, row } = await load(store, 'r');
  await dispatch(store, 'e');
  const after = await load(store, 'r');
  equal([after.journal, after.row.length, after.row.fence], [journal, row.length, row.fence], 'the run');
});

fact('a wait and an event that meet are never lost, whichever comes first', async ({ open, openOther }) => {
  const [store, other] = [await open(), await openOther()];
  for (const index of range(40)) {
    const runId = `r${index}`;
    await claimed(store, runId);
    const pair = { key: `k${index}` };
    const asks = () => wait(store, runId, openWait(pair));
    const sends = () => dispatch(index % 3 ? other : store, `e${index}`, pair);
    const [offers, receipt] =
      index % 2
        ? await Promise.all([asks(), sends()])
        : ((await Promise.all([sends(), asks()])).reverse() as [
            Awaited<ReturnType<typeof asks>>,
            Awaited<ReturnType<typeof sends>>,
          ]);
    const { woken } = await rowOf(store, runId);
    equal(
      [offers.length === 1, receipt.resumed.length === 1],
      [!woken, Boolean(woken)],
      `round ${index}: offered, woken`,
    );
  }
});

fact('an event without a key meets only a wait without one', async ({ open }) => {
  const store = await open();
  check(await wakes(store, openWait(), {}), 'neither has a key');
  for (const key of ['undefined', 'null', ' ', '0', 'event']) {
    check(!(await wakes(store, openWait(), { key })), `only the event has a key: ${key}`);
    check(!(await wakes(store, openWait({ key }), {})), `only the wait has a key: ${key}`);
  }
});

fact('name and key are compared as a pair, never as joined text', async ({ open }) => {
  const store = await open();
  const pairs = [...lookalikePairs, ['a:b:c', undefined], ['["a","b:c"]', undefined]] as const;
  const as = ([name, key]: (typeof pairs)[number]) => ({ ...(key !== undefined && { key }), name });
  for (const [index, pair] of pairs.entries()) {
    const { name, ...key } = as(pair);
    await claimed(store, `r${index}`);
    await wait(store, `r${index}`, openWait({ events: [name], ...key }));
  }
  for (const [index, pair] of pairs.entries())
    equal((await dispatch(store, `e${index}`, as(pair))).resumed, [`r${index}`], JSON.stringify(pair));
});

fact('keys that differ in case, form or surrounding space do not meet', async ({ open }) => {
  const store = await open();
  for (const [index, key] of hostileStrings.entries()) {
    await claimed(store, `r${index}`);
    await wait(store, `r${index}`, openWait({ key }));
  }
  for (const [index, key] of hostileStrings.entries())
    equal((await dispatch(store, `e${index}`, { key })).resumed, [`r${index}`], JSON.stringify(key));
});

fact('a wait is offered only events that came after its mark', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const seqs: number[] = [];
  for (const id of ['e', 'f', 'g']) seqs.push((await dispatch(store, id)).seq);
  equal(ids(await wait(store, 'r', openWait({ after: seqs[0]! }))), ['f', 'g'], 'the events');
});

fact('a run is not offered the events of before its creation', async ({ open }) => {
  const store = await open();
  await dispatch(store, 'early');
  await claimed(store, 'r');
  await dispatch(store, 'late');
  equal(ids(await wait(store, 'r', openWait({ after: (await rowOf(store, 'r')).seq }))), ['late'], 'the events');
});

fact('lookback offers earlier events that no run has taken', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r', 'other');
  const taken = await dispatch(store, 'taken');
  const { seq } = await dispatch(store, 'untaken');
  await commit(store, { run: take('other', taken.seq) });
  equal(ids(await wait(store, 'r', openWait({ after: seq, lookbackFrom: 0 }))), ['untaken'], 'the events');
});

fact('lookback reaches back to its instant and no further', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  for (const [id, at] of [
    ['older', now],
    ['at', now + 10],
    ['newer', now + 20],
  ] as const)
    await dispatch(store, id, {}, at);
  const after = Number.MAX_SAFE_INTEGER;
  equal(ids(await wait(store, 'r', openWait({ after, lookbackFrom: now + 10 }))), ['at', 'newer'], 'the events');
});

fact(
  'an event that a commit takes by lookback is not offered to the next lookback of that commit',
  async ({ open }) => {
    const store = await open();
    await claimed(store, 'r');
    const { seq } = await dispatch(store, 'e');
    const look = { after: seq, lookbackFrom: 0 };
    await wait(store, 'r', openWait(look));
    const state = waiting([openWait({ ...look, id: ['event', 2] })]);
    const { offers } = await commit(store, { run: { ...take('r', seq, true), state } });
    equal(ids(offers), [], 'the events');
  },
);

fact(
  'E1: a claim is offered what the owner before was offered and has not taken, and the run stays due',
  async ({ open }) => {
    const store = await open();
    await claimed(store, 'r');
    const look = openWait();
    await wait(store, 'r', look);
    await dispatch(store, 'e');
    // The owner takes off the mark, and is offered the event; who claims the run has looked before that.
    equal(
      ids((await commit(store, { run: { runId: 'r', fence: 1, append: [], state: waiting([look]) } })).offers),
      ['e'],
      'its events',
    );
    const { offers } = await commit(store, { run: claim('r', 1, 'b', { state: waiting([look], { owner: 'b' }) }) });
    equal(ids(offers), ['e'], 'the events of the next owner');
    equal(dueIds(await due(store, { owner: 'c' })), ['r'], 'the due runs');
  },
);

fact('an event accepted at the deadline fits, a later one does not', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r', 'late');
  await wait(store, 'r', openWait({ deadline: now + 10 }));
  await dispatch(store, 'e', {}, now + 10);
  equal((await rowOf(store, 'r')).woken, true, 'woken at the deadline');
  await wait(store, 'late', openWait({ deadline: now + 9 }));
  await dispatch(store, 'f', {}, now + 11);
  equal((await rowOf(store, 'late')).woken, undefined, 'woken after the deadline');
});

fact('an event that was accepted before the deadline is offered long after it', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await dispatch(store, 'in time', {}, now + 10);
  await dispatch(store, 'late', {}, now + 11);
  const run = { runId: 'r', fence: 1, append: [], state: waiting([openWait({ deadline: now + 10 })]) };
  equal(ids((await commit(store, { now: now + 1_000_000, run })).offers), ['in time'], 'the events');
});

fact(
  'E3: an event that came too late is offered before a younger one that is in time: a clock was set back',
  async ({ open }) => {
    const store = await open();
    await claimed(store, 'r');
    for (const [id, at] of [
      ['late', now + 11],
      ['in time', now + 10],
      ['late too', now + 12],
    ] as const)
      await dispatch(store, id, {}, at);
    const run = { runId: 'r', fence: 1, append: [], state: waiting([openWait({ deadline: now + 10 })]) };
    equal(ids((await commit(store, { now: now + 1_000_000, run })).offers), ['late', 'in time'], 'the events');
    const taken = { runId: 'r', fence: 1, append: [], unless: [openWait({ deadline: now + 5 })], state: waiting([]) };
    equal((await store.commit({ now: now + 1_000_000, run: taken })).kind, 'committed', 'late ones overtake nothing');
  },
);

fact('a wait for any of several events is offered each of them, oldest first', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  for (const [index, name] of ['b', 'a', 'c', 'b', 'x'].entries()) await dispatch(store, `e${index}`, { name });
  equal(ids(await wait(store, 'r', openWait({ events: ['a', 'b', 'c'] }))), ['e0', 'e1', 'e2', 'e3'], 'the events');
});

fact('a wait for any of several events is woken by each of them', async ({ open }) => {
  const store = await open();
  for (const name of ['a', 'b', 'c'])
    check(await wakes(store, openWait({ events: ['a', 'b', 'c'], key: name }), { name, key: name }), name);
  check(
    !(await wakes(store, openWait({ events: ['a', 'b', 'c'], key: 'd' }), { name: 'd', key: 'd' })),
    'another event',
  );
});

fact('an event that fits two waits of a run is offered once', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await dispatch(store, 'e');
  equal(ids(await wait(store, 'r', openWait(), openWait({ id: ['event', 2] }))), ['e'], 'the events');
});
