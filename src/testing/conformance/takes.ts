import {
  caseGroup,
  claimed,
  commit,
  dispatch,
  ended,
  ids,
  load,
  now,
  openWait,
  refused,
  rowOf,
  running,
  start,
  take,
  timedOut,
  wait,
  waiting,
} from './env.js';
import { equal, range } from './kit.js';

const { cases, fact } = caseGroup('taking events');

/** The cases about taking events, timeouts and wake-ups (spec E3-E5; rules S4, T3). */
export const takes = cases;

fact('taking an event marks it taken for everyone', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r', 'other');
  const { seq } = await dispatch(store, 'e');
  await commit(store, { run: take('r', seq) });
  equal(
    (await wait(store, 'other', openWait())).map(({ id, taken }) => [id, taken]),
    [['e', true]],
    'the event',
  );
});

fact('one event is taken by every run that it was offered to', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r', 'other');
  const { seq } = await dispatch(store, 'e');
  for (const runId of ['r', 'other']) equal((await commit(store, { run: take(runId, seq) })).fence, 1, runId);
});

fact('taking an event that must be untaken is refused when it is taken, and tells what is left', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r', 'other');
  const { seq } = await dispatch(store, 'e');
  const last = await dispatch(store, 'f');
  await wait(store, 'r', openWait({ after: last.seq, lookbackFrom: 0 }));
  await commit(store, { run: take('other', seq) });
  const before = await load(store, 'r');
  const outcome = await refused(store, { run: take('r', seq, true) }, 'overtaken');
  equal(outcome.kind === 'overtaken' && ids(outcome.offers), ['f'], 'the events left');
  equal(await load(store, 'r'), before, 'the run');
});

fact('of many runs that look back for one event exactly one takes it', async ({ open }) => {
  const store = await open();
  const runIds = range(10).map((index) => `r${index}`);
  await claimed(store, ...runIds);
  const { seq } = await dispatch(store, 'e');
  const outcomes = await Promise.all(runIds.map((runId) => store.commit({ now, run: take(runId, seq, true) })));
  equal(outcomes.filter(({ kind }) => kind === 'committed').length, 1, 'the number of takers');
  equal(outcomes.filter(({ kind }) => kind === 'overtaken').length, 9, 'the number of refusals');
});

fact('E7: a run may take an event whose time is over and that is gone by now', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r', 'other');
  const { seq } = await dispatch(store, 'e', { ttlMs: 10 });
  for (const index of range(5)) await dispatch(store, `later ${index}`, { name: 'later' }, now + 10);
  await commit(store, { run: take('r', seq) });
  await commit(store, { run: take('other', seq, true) });
});

fact('a timeout is refused when an event fits its wait, and is given the event', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const look = openWait({ deadline: now + 10 });
  await wait(store, 'r', look);
  await dispatch(store, 'e', {}, now + 10);
  const outcome = await store.commit({ now: now + 20, run: timedOut('r', [look]) });
  equal(outcome.kind === 'overtaken' && ids(outcome.offers), ['e'], 'the event');
});

fact('a timeout that is refused is given the events that came too late as well', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const look = openWait({ deadline: now + 10 });
  await wait(store, 'r', look);
  await dispatch(store, 'late', {}, now + 11);
  await dispatch(store, 'in time', {}, now + 10); // the clock was set back: older by its number
  const outcome = await store.commit({ now: now + 20, run: timedOut('r', [look]) });
  equal(outcome.kind === 'overtaken' && ids(outcome.offers), ['late', 'in time'], 'the events');
});

fact('a timeout goes through when no event fits its wait', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const look = openWait({ deadline: now + 10, key: 'k' });
  await wait(store, 'r', look);
  await dispatch(store, 'late', { key: 'k' }, now + 11);
  await dispatch(store, 'other key', { key: 'l' }, now + 11);
  await commit(store, { now: now + 20, run: timedOut('r', [look]) });
  equal((await rowOf(store, 'r')).waits, [], 'the waits left');
});

fact('of a timeout and an event at once exactly one wins', async ({ open, openOther }) => {
  const [store, other] = [await open(), await openOther()];
  for (const index of range(30)) {
    const runId = `r${index}`;
    await claimed(store, runId);
    const look = openWait({ key: runId, deadline: now });
    await wait(store, runId, look);
    const timesOut = () => store.commit({ now, run: timedOut(runId, [look]) });
    const sends = () => dispatch(index % 3 ? other : store, `e${index}`, { key: runId });
    const order = index % 2 ? [timesOut, sends] : [sends, timesOut];
    const results = await Promise.all(order.map((act) => act()));
    const wins = results.some(({ kind }) => kind === 'committed');
    const { resumed } = results.find((result) => result.kind === 'accepted') as { resumed: readonly string[] };
    equal(resumed, wins ? [] : [runId], `round ${index}, where the timeout ${wins ? 'wins' : 'loses'}`);
  }
});

fact('the mark of a wake-up is cleared by the next commit of the owner', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await wait(store, 'r', openWait());
  await dispatch(store, 'e');
  await commit(store, { run: { runId: 'r', fence: 1, append: [] } });
  equal((await rowOf(store, 'r')).woken, true, 'woken after a confirmation of the fence');
  await commit(store, { run: { runId: 'r', fence: 1, append: [], state: running() } });
  equal((await rowOf(store, 'r')).woken, undefined, 'woken after a commit');
});

fact('after a wake-up the next commit is offered the events of all its waits', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const both = [openWait(), openWait({ id: ['other', 1], events: ['other'] })];
  await wait(store, 'r', ...both);
  await dispatch(store, 'e');
  await dispatch(store, 'f', { name: 'other' });
  equal(ids(await wait(store, 'r', ...both)), ['e', 'f'], 'the events');
});

fact('without a wake-up a commit is offered the events of newly opened waits alone', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await dispatch(store, 'e');
  await dispatch(store, 'f', { name: 'other' });
  equal(ids(await wait(store, 'r', openWait())), ['e'], 'the events of the first wait');
  const both = [openWait(), openWait({ id: ['other', 1], events: ['other'] })];
  equal(ids(await wait(store, 'r', ...both)), ['f'], 'the events of the second wait');
});

fact('a withdrawn wait takes no event any more', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await wait(store, 'r', openWait(), openWait({ id: ['other', 1], events: ['other'] }));
  await wait(store, 'r', openWait({ id: ['other', 1], events: ['other'] }));
  equal((await dispatch(store, 'e')).resumed, [], 'the runs of the withdrawn wait');
  equal((await dispatch(store, 'f', { name: 'other' })).resumed, ['r'], 'the runs of the other wait');
});

fact('a run that has ended is not woken', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await wait(store, 'r', openWait());
  await commit(store, { run: { runId: 'r', fence: 1, append: [], state: ended() } });
  const before = await rowOf(store, 'r');
  equal((await dispatch(store, 'e')).resumed, [], 'the runs told');
  equal(await rowOf(store, 'r'), before, 'the row');
});

fact('one event wakes every run that waits for it', async ({ open }) => {
  const store = await open();
  const runIds = range(20).map((index) => `r${index}`);
  await claimed(store, ...runIds);
  for (const runId of runIds) await wait(store, runId, openWait({ key: 'k' }));
  await start(store, 'bystander');
  equal([...(await dispatch(store, 'e', { key: 'k' })).resumed].sort(), [...runIds].sort(), 'the runs told');
  for (const runId of runIds) equal((await rowOf(store, runId)).woken, true, runId);
});

fact('E4: of the runs that wait for an event only those that may take it are woken', async ({ open }) => {
  const store = await open();
  const looks = {
    a: openWait({ after: 1e9 }),
    b: openWait(),
    c: openWait({ deadline: now - 1 }),
    d: openWait({ deadline: now }),
    e: openWait({ after: 1e9 }),
  };
  await claimed(store, ...Object.keys(looks));
  for (const [runId, look] of Object.entries(looks)) await wait(store, runId, look);
  equal([...(await dispatch(store, 'event')).resumed].sort(), ['b', 'd'], 'the runs told');
  for (const runId of Object.keys(looks))
    equal((await rowOf(store, runId)).woken, ['b', 'd'].includes(runId) || undefined, runId);
});

fact('E2: a wait that may not take an event is not helped by other waits of its run', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const others = [
    openWait({ id: ['name', 1], events: ['other'], key: 'k' }),
    openWait({ id: ['key', 1], key: 'l' }),
    openWait({ id: ['no key', 1] }),
  ];
  await wait(store, 'r', openWait({ key: 'k', after: 1e9 }), ...others);
  equal((await dispatch(store, 'e', { key: 'k' })).resumed, [], 'the runs told');
  equal((await rowOf(store, 'r')).woken, undefined, 'woken');
});

fact('a wake-up makes a run due now, unless it was due already', async ({ open }) => {
  const store = await open();
  await claimed(store, 'later', 'overdue');
  const at = { later: now + 1000, overdue: now - 1000 };
  for (const [runId, dueAt] of Object.entries(at))
    await commit(store, { run: { runId, fence: 1, append: [], state: waiting([openWait()], { dueAt }) } });
  await dispatch(store, 'e');
  equal(
    [(await rowOf(store, 'later')).dueAt, (await rowOf(store, 'overdue')).dueAt],
    [now, now - 1000],
    'the instants',
  );
});

fact('open waits are kept as they were given', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const given = [
    openWait({ id: ['__proto__', 2], events: ['a', '__proto__'], key: 'k', after: 3, lookbackFrom: 4, deadline: 5 }),
    openWait(),
  ];
  await wait(store, 'r', ...given);
  equal((await rowOf(store, 'r')).waits, given, 'the waits');
});

fact('a run still waits when the store is opened again', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await wait(store, 'r', openWait({ key: 'k' }));
  await store.close();
  const again = await open();
  equal((await dispatch(again, 'e', { key: 'k' })).resumed, ['r'], 'the runs told');
});
