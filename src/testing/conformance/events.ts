import {
  caseGroup,
  claimed,
  commit,
  dispatch,
  eventsOf,
  ids,
  newEvent,
  now,
  openWait,
  refused,
  rowOf,
  running,
  start,
  wait,
} from './env.js';
import { check, equal, lookalikePairs, range } from './kit.js';

const { cases, fact } = caseGroup('events');

/** The cases about what is dispatched: acceptance, order, repeats, lifetime, backlog, addresses (spec E1, E4, E7, E8). */
export const events = cases;

const day = 86_400_000;

fact('an event for nobody is kept and resumes nobody', async ({ open }) => {
  const store = await open();
  const { kind, id, acceptedAt, resumed } = await dispatch(store, 'e', { payload: { a: 1 } });
  equal({ kind, id, acceptedAt, resumed }, { kind: 'accepted', id: 'e', acceptedAt: now, resumed: [] }, 'the receipt');
  equal(ids(await eventsOf(store)), ['e'], 'the events kept');
});

fact('an event is kept with all its fields', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const given = { key: 'k', payload: { a: [null, 'x'] }, idempotencyKey: 'i', runId: 'r' };
  const { seq } = await dispatch(store, 'e', { ...given, ttlMs: 5 });
  const offers = await wait(store, 'r', openWait({ key: 'k' }));
  const row = { ...given, id: 'e', name: 'event', seq, acceptedAt: now, expiresAt: now + 5, resumed: [] };
  equal(offers, [row], 'the event');
});

fact('events are offered in the order in which they were accepted', async ({ open, openOther }) => {
  const stores = [await open(), await openOther()];
  const given = range(12).map((index) => `e${index}`);
  for (const [index, id] of given.entries()) await dispatch(stores[index % 2]!, id);
  equal(ids(await eventsOf(stores[0]!)), given, 'the events');
});

fact('runs and events are numbered by one sequence', async ({ open }) => {
  const store = await open();
  await start(store, 'first');
  const { seq } = await dispatch(store, 'e');
  await start(store, 'second');
  const [before, after] = [(await rowOf(store, 'first')).seq, (await rowOf(store, 'second')).seq];
  check(before < seq && seq < after, `out of order: run ${before}, event ${seq}, run ${after}`);
});

fact(
  '100 concurrent events from two contexts are all kept, each with a number of its own',
  async ({ open, openOther }) => {
    const stores = [await open(), await openOther()];
    const receipts = await Promise.all(range(100).map((index) => dispatch(stores[index % 2]!, `e${index}`)));
    equal(new Set(receipts.map(({ seq }) => seq)).size, 100, 'the number of sequence numbers');
    const inOrder = [...receipts].sort((a, b) => a.seq - b.seq);
    equal(ids(await eventsOf(stores[0]!)), ids(inOrder), 'the events kept');
  },
);

fact(
  'acceptedAt is the instant of the commit, also when the clock goes back; seq alone gives order',
  async ({ open }) => {
    const store = await open();
    const given = [now, now + 50, now + 20, now - 1000, now + 60];
    const receipts: { readonly acceptedAt: number; readonly seq: number }[] = [];
    for (const [index, at] of given.entries()) receipts.push(await dispatch(store, `e${index}`, {}, at));
    equal(
      receipts.map(({ acceptedAt }) => acceptedAt),
      given,
      'the instants',
    );
    const numbers = receipts.map(({ seq }) => seq);
    equal(
      [...numbers].sort((a, b) => a - b),
      numbers,
      'the sequence numbers',
    );
  },
);

fact('an event with a known id gives the first receipt', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await wait(store, 'r', openWait());
  const first = await dispatch(store, 'e', { payload: 'first' });
  const { payload, ...second } = await dispatch(store, 'e', { payload: 'second' }, now + 5);
  equal(second, { ...first, kind: 'deduplicated' }, 'the receipt');
  equal(payload, 'first', 'the payload of the first');
  equal(first.resumed, ['r'], 'the runs told');
});

fact('an event with a known idempotency key on its pair gives the first receipt', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await wait(store, 'r', openWait({ key: 'k' }));
  const first = await dispatch(store, 'e', { key: 'k', idempotencyKey: 'i', payload: { n: 1 } });
  const second = await dispatch(store, 'f', { key: 'k', idempotencyKey: 'i', payload: { n: 2 } }, now + 5);
  equal(second, { ...first, kind: 'deduplicated', payload: { n: 1 } }, 'the receipt');
  equal(ids(await eventsOf(store, 'event', 'k')), ['e'], 'the events kept');
});

fact(
  'E8: a repeated event is told what the first was given, where its schema has made something else of it',
  async ({ open }) => {
    const store = await open();
    const first = await dispatch(store, 'e', { idempotencyKey: 'i', payload: 1, given: '1' });
    const expected = { ...first, kind: 'deduplicated', payload: 1, given: '1' };
    equal(await dispatch(store, 'f', { idempotencyKey: 'i', payload: 2, given: '1' }), expected, 'the receipt');
    await store.close();
    equal(await dispatch(await open(), 'e', { payload: 3 }), expected, 'the receipt when opened again');
  },
);

fact('the first receipt is given again when the store is opened again', async ({ open }) => {
  const store = await open();
  const first = await dispatch(store, 'e', { idempotencyKey: 'i' });
  await store.close();
  const again = await open();
  const expected = { ...first, kind: 'deduplicated', payload: 'e' };
  equal(await dispatch(again, 'f', { idempotencyKey: 'i' }), expected, 'the receipt by key');
  equal(await dispatch(again, 'e'), expected, 'the receipt by id');
});

fact('one idempotency key on two pairs is two events', async ({ open }) => {
  const store = await open();
  const pairs = [{}, { key: 'k' }, { key: 'l' }, { name: 'other' }, { name: 'other', key: 'k' }];
  for (const [index, pair] of pairs.entries())
    equal(
      (await dispatch(store, `e${index}`, { ...pair, idempotencyKey: 'i' })).kind,
      'accepted',
      JSON.stringify(pair),
    );
});

fact('one idempotency key on pairs with the same joined text is as many events', async ({ open }) => {
  const store = await open();
  for (const [index, [name, key]] of lookalikePairs.entries())
    equal((await dispatch(store, `e${index}`, { name, key, idempotencyKey: 'i' })).kind, 'accepted', `${name}, ${key}`);
});

fact('equal events without an idempotency key are two events', async ({ open }) => {
  const store = await open();
  for (const id of ['e', 'f']) equal((await dispatch(store, id, { payload: 'same' })).kind, 'accepted', id);
  equal(ids(await eventsOf(store)), ['e', 'f'], 'the events kept');
});

fact('a repeated event does not wake a run again', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await wait(store, 'r', openWait());
  await dispatch(store, 'e', { idempotencyKey: 'i' });
  await wait(store, 'r', openWait({ id: ['event', 2] }));
  await dispatch(store, 'f', { idempotencyKey: 'i' });
  equal((await rowOf(store, 'r')).woken, undefined, 'woken');
});

fact('64 concurrent dispatches of one event from two contexts are one event', async ({ open, openOther }) => {
  const stores = [await open(), await openOther()];
  const receipts = await Promise.all(
    range(64).map((index) => dispatch(stores[index % 2]!, index < 32 ? 'same' : `e${index}`, { idempotencyKey: 'i' })),
  );
  equal(receipts.filter(({ kind }) => kind === 'accepted').length, 1, 'the number accepted');
  equal(new Set(receipts.map(({ seq }) => seq)).size, 1, 'the number of events told');
  equal((await eventsOf(stores[0]!)).length, 1, 'the number of events kept');
});

fact('an event is offered until it expires, and not from that instant on', async ({ open }) => {
  const store = await open();
  await dispatch(store, 'e', { ttlMs: 100 });
  equal(ids(await eventsOf(store, 'event', undefined, now + 99)), ['e'], 'one millisecond before');
  equal(ids(await eventsOf(store, 'event', undefined, now + 100)), [], 'at the instant');
});

fact('an expired event does not count in the backlog', async ({ open }) => {
  const store = await open();
  for (const id of ['e', 'f']) await dispatch(store, id, { ttlMs: 100, maxBacklog: 2 });
  equal((await dispatch(store, 'g', { maxBacklog: 2 }, now + 100)).kind, 'accepted', 'the event');
});

fact('expired events count in no backlog, however long the events before them live', async ({ open }) => {
  const store = await open();
  await dispatch(store, 'long', { ttlMs: 30 * day });
  for (const index of range(20)) await dispatch(store, `e${index}`, { ttlMs: 100 });
  equal((await dispatch(store, 'next', { maxBacklog: 2 }, now + 100)).kind, 'accepted', 'the event');
  equal(ids(await eventsOf(store, 'event', undefined, now + 100)), ['long', 'next'], 'the events kept');
});

fact('an expired event frees its idempotency key', async ({ open }) => {
  const store = await open();
  await dispatch(store, 'e', { ttlMs: 100, idempotencyKey: 'i' });
  equal((await dispatch(store, 'f', { idempotencyKey: 'i' }, now + 99)).kind, 'deduplicated', 'one millisecond before');
  equal((await dispatch(store, 'g', { idempotencyKey: 'i' }, now + 100)).kind, 'accepted', 'at the instant');
  equal((await dispatch(store, 'h', { idempotencyKey: 'i' }, now + 101)).id, 'g', 'the event of the key from then on');
});

fact('E7: events whose time is over go away some time, and no others do', async ({ open }) => {
  const store = await open();
  for (const index of range(20)) await dispatch(store, `e${index}`, { ttlMs: 10 });
  await dispatch(store, 'longer', { ttlMs: 12 });
  for (const index of range(30)) await dispatch(store, `later ${index}`, { name: 'later' }, now + 11);
  // The clock is set back: what is there still would be offered again.
  equal(ids(await eventsOf(store)), ['longer'], 'the events');
  equal((await eventsOf(store, 'later')).length, 30, 'the number of later events');
});

fact('a taken event lives on until it expires', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const { seq } = await dispatch(store, 'e', { ttlMs: 100, idempotencyKey: 'i' });
  await commit(store, { run: { runId: 'r', fence: 1, append: [], state: running(), takes: [{ seq }] } });
  equal((await dispatch(store, 'f', { idempotencyKey: 'i' }, now + 99)).kind, 'deduplicated', 'the event');
});

fact('an event beyond the backlog of its pair is refused', async ({ open }) => {
  const store = await open();
  for (const id of ['e', 'f', 'g']) await dispatch(store, id, { maxBacklog: 3 });
  const outcome = await refused(store, { events: [newEvent('h', { maxBacklog: 3 })] }, 'refused');
  equal(outcome, { kind: 'refused', code: 'EVENT_BACKLOG_FULL', index: 0 }, 'the outcome');
  equal(ids(await eventsOf(store)), ['e', 'f', 'g'], 'the events kept');
});

fact('a backlog is counted for each pair on its own', async ({ open }) => {
  const store = await open();
  const pairs = [{}, { key: 'k' }, { key: 'l' }, { name: 'other' }];
  for (const [index, pair] of pairs.entries())
    equal((await dispatch(store, `e${index}`, { ...pair, maxBacklog: 1 })).kind, 'accepted', JSON.stringify(pair));
});

fact('a backlog is not shared by pairs with the same joined text', async ({ open }) => {
  const store = await open();
  for (const [index, [name, key]] of lookalikePairs.entries())
    equal((await dispatch(store, `e${index}`, { name, key, maxBacklog: 1 })).kind, 'accepted', `${name}, ${key}`);
});

fact('taking one event of a full backlog makes room for one', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const { seq } = await dispatch(store, 'e', { maxBacklog: 2 });
  await dispatch(store, 'f', { maxBacklog: 2 });
  for (const _ of [1, 2])
    await commit(store, { run: { runId: 'r', fence: 1, append: [], state: running(), takes: [{ seq }] } });
  equal((await dispatch(store, 'g', { maxBacklog: 2 })).kind, 'accepted', 'the event');
  await refused(store, { events: [newEvent('h', { maxBacklog: 2 })] }, 'refused');
});

fact('of many events at once no more are accepted than the backlog allows', async ({ open, openOther }) => {
  const stores = [await open(), await openOther()];
  const outcomes = await Promise.all(
    range(20).map((index) => stores[index % 2]!.commit({ now, events: [newEvent(`e${index}`, { maxBacklog: 5 })] })),
  );
  equal(outcomes.filter(({ kind }) => kind === 'committed').length, 5, 'the number accepted');
  equal((await eventsOf(stores[0]!)).length, 5, 'the number kept');
});

fact('a repeated event is recognised even when the backlog is full', async ({ open }) => {
  const store = await open();
  await dispatch(store, 'e', { maxBacklog: 1 });
  equal((await dispatch(store, 'e', { maxBacklog: 1 })).kind, 'deduplicated', 'the event');
});
