import type { Batch } from '../../store/batch.js';
import type { Store } from '../../store/store.js';
import {
  caseGroup,
  claim,
  claimed,
  commit,
  dispatch,
  ended,
  eventsOf,
  ids,
  load,
  newEvent,
  newRun,
  openWait,
  refused,
  rowOf,
  running,
  start,
  stepped,
  wait,
  waiting,
} from './env.js';
import { check, equal, range } from './kit.js';

const { cases, fact } = caseGroup('atomicity');

/** The cases about batches: all or nothing, one part after the other (spec D2; rules S1, S8, T1). */
export const atomicity = cases;

const step = (over: Partial<NonNullable<Batch['run']>> = {}) => ({
  runId: 'r',
  fence: 1,
  append: [stepped('s')],
  state: running(),
  ...over,
});

/** Runs `r` (claimed) and `other`, then a batch that must be refused, and looks for anything that it left behind. */
async function leavesNothing(
  store: Store,
  batch: Partial<Batch>,
  kind: 'fenced' | 'ended' | 'no-slot' | 'overtaken' | 'refused',
) {
  const before = await load(store, 'r');
  const parts = { starts: [newRun('new', { idempotencyKey: 'k' })], events: [newEvent('new')] };
  const outcome = await refused(store, { ...parts, ...batch }, kind);
  equal(await load(store, 'r'), before, 'the run');
  equal(await store.load('new'), undefined, 'the started run');
  equal(
    (await start(store, 'later', { idempotencyKey: 'k' })).starts[0]?.kind,
    'created',
    'a later start with its key',
  );
  check(!ids(await eventsOf(store)).includes('new'), 'the event was kept');
  equal((await dispatch(store, 'new')).kind, 'accepted', 'a later event with its id');
  return outcome;
}

fact('an empty batch is committed and has no fence', async ({ open }) => {
  const store = await open();
  const nothing = { kind: 'committed', fence: 0, offers: [], ended: [], state: [], starts: [], events: [] };
  equal(await commit(store, {}), nothing, 'the outcome');
});

fact('a fenced batch starts nothing and dispatches nothing', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await leavesNothing(store, { run: step({ fence: 0 }) }, 'fenced');
});

fact('a batch that comes after the end of its run starts nothing and dispatches nothing', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await commit(store, { run: step({ state: ended() }) });
  await leavesNothing(store, { run: step({ fence: 'any' }) }, 'ended');
});

fact('a batch without a slot starts nothing and dispatches nothing', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r', 'holder');
  await commit(store, { run: { runId: 'holder', fence: 1, append: [], state: running('a', { slot: 'q' }) } });
  await leavesNothing(store, { run: step({ state: running('a', { slot: 'q' }), concurrency: 1 }) }, 'no-slot');
});

fact('an overtaken batch starts nothing and dispatches nothing', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await dispatch(store, 'early');
  await leavesNothing(store, { run: step({ unless: [openWait()] }) }, 'overtaken');
});

fact('an event that is refused for its backlog undoes the whole batch and is named', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await dispatch(store, 'full', { name: 'full' });
  const events = [newEvent('new'), newEvent('one too many', { name: 'full', maxBacklog: 1 })];
  const outcome = await leavesNothing(store, { run: step(), events }, 'refused');
  equal(outcome, { kind: 'refused', code: 'EVENT_BACKLOG_FULL', index: 1 }, 'the outcome');
});

fact('an event for a run that is not there undoes the whole batch and is named', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const events = [newEvent('new'), newEvent('addressed', { runId: 'nobody' })];
  const outcome = await leavesNothing(store, { run: step(), events }, 'refused');
  equal(outcome, { kind: 'refused', code: 'RUN_NOT_FOUND', index: 1 }, 'the outcome');
});

fact('a refused batch does not mark the events that it would have taken', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r', 'other');
  const { seq } = await dispatch(store, 'e');
  const events = [newEvent('addressed', { runId: 'nobody' })];
  await refused(store, { run: step({ takes: [{ seq }] }), events }, 'refused');
  equal(ids(await wait(store, 'other', openWait({ after: seq, lookbackFrom: 0 }))), ['e'], 'untaken events');
});

fact('a refused batch wakes nobody', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await wait(store, 'r', openWait());
  const before = await rowOf(store, 'r');
  const events = [newEvent('fits'), newEvent('addressed', { runId: 'nobody' })];
  await refused(store, { events }, 'refused');
  equal(await rowOf(store, 'r'), before, 'the waiting run');
});

fact('all parts of a committed batch are there together', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const outcome = await commit(store, {
    run: step(),
    starts: [newRun('x'), newRun('y')],
    events: [newEvent('e'), newEvent('f')],
  });
  equal(
    outcome.starts.map(({ kind }) => kind),
    ['created', 'created'],
    'the starts',
  );
  equal(
    outcome.events.map(({ kind }) => kind),
    ['accepted', 'accepted'],
    'the events',
  );
  equal((await load(store, 'r')).journal.at(-1), stepped('s'), 'the last entry');
  check(Boolean((await store.load('x')) && (await store.load('y'))), 'both runs are there');
  equal(ids(await eventsOf(store)), ['e', 'f'], 'the events kept');
});

fact('an outcome and an event in one batch wake the run that waits for the event', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r', 'waiter');
  await wait(store, 'waiter', openWait());
  const { events } = await commit(store, { run: step(), events: [newEvent('e')] });
  equal(events[0]?.resumed, ['waiter'], 'the runs told');
  equal((await rowOf(store, 'waiter')).woken, true, 'woken');
});

fact('an event wakes the very run whose wait its batch opens', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const { events } = await commit(store, { run: step({ state: waiting([openWait()]) }), events: [newEvent('e')] });
  equal(events[0]?.resumed, ['r'], 'the runs told');
  const { woken, length } = await rowOf(store, 'r');
  equal([woken, length], [true, 3], 'the row');
});

fact('an event does not wake the run whose wait its batch withdraws', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await wait(store, 'r', openWait());
  const { events } = await commit(store, { run: step(), events: [newEvent('e')] });
  equal(events[0]?.resumed, [], 'the runs told');
  equal((await rowOf(store, 'r')).woken, undefined, 'woken');
});

fact('an event may address a run that its batch starts', async ({ open }) => {
  const store = await open();
  const { events } = await commit(store, { starts: [newRun('new')], events: [newEvent('e', { runId: 'new' })] });
  equal(events[0]?.kind, 'accepted', 'the event');
});

fact('an event may not address the run that its batch ends', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const events = [newEvent('e', { runId: 'r' })];
  const outcome = await refused(store, { run: step({ state: ended() }), events }, 'refused');
  equal(outcome, { kind: 'refused', code: 'RUN_NOT_FOUND', index: 0 }, 'the outcome');
});

fact('one event twice in a batch is accepted once', async ({ open }) => {
  const store = await open();
  const { events } = await commit(store, { events: [newEvent('e'), newEvent('e', { payload: 'again' })] });
  equal(
    events.map(({ kind, seq, payload }) => [kind, seq, payload]),
    [
      ['accepted', events[0]?.seq, undefined],
      ['deduplicated', events[0]?.seq, 'e'],
    ],
    'the events',
  );
  equal(ids(await eventsOf(store)), ['e'], 'the events kept');
});

fact('one idempotency key twice in a batch is one event', async ({ open }) => {
  const store = await open();
  const { events } = await commit(store, { events: ['e', 'f'].map((id) => newEvent(id, { idempotencyKey: 'k' })) });
  equal(ids(events), ['e', 'e'], 'the receipts');
  equal(ids(await eventsOf(store)), ['e'], 'the events kept');
});

fact('the backlog counts earlier events of the batch', async ({ open }) => {
  const store = await open();
  const events = ['e', 'f', 'g'].map((id) => newEvent(id, { maxBacklog: 2 }));
  const outcome = await refused(store, { events }, 'refused');
  equal(outcome, { kind: 'refused', code: 'EVENT_BACKLOG_FULL', index: 2 }, 'the outcome');
});

fact('an event that the batch takes leaves room in the backlog for one that it dispatches', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const { seq } = await dispatch(store, 'e', { maxBacklog: 1 });
  const { events } = await commit(store, {
    run: step({ takes: [{ seq }] }),
    events: [newEvent('f', { maxBacklog: 1 })],
  });
  equal(events[0]?.kind, 'accepted', 'the event');
});

fact('entries of one commit are kept in their order', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const entries = range(50).map((index) => stepped(`s${index}`, index));
  await commit(store, { run: step({ append: entries }) });
  equal((await load(store, 'r')).journal.slice(2), entries, 'the journal');
});

fact('length counts the entries of every commit', async ({ open }) => {
  const store = await open();
  await start(store, 'r');
  const lengths = [(await rowOf(store, 'r')).length];
  await commit(store, { run: claim('r', 0) });
  lengths.push((await rowOf(store, 'r')).length);
  for (const count of [0, 1, 3]) {
    await commit(store, { run: step({ append: range(count).map((index) => stepped(`s${index}`)) }) });
    lengths.push((await rowOf(store, 'r')).length);
  }
  equal(lengths, [1, 2, 2, 3, 6], 'the lengths');
  equal((await load(store, 'r')).journal.length, 6, 'the number of entries');
});

fact('a commit replaces the state as a whole', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await commit(store, { run: step({ state: running('a', { slot: 'q', startedAt: 5, waits: [openWait()] }) }) });
  await commit(store, { run: step({ state: { status: 'sleeping', version: 2, waits: [] } }) });
  const { status, version, owner, dueAt, slot, startedAt, waits, endedAt } = await rowOf(store, 'r');
  equal(
    [status, version, owner, dueAt, slot, startedAt, waits, endedAt],
    ['sleeping', 2, undefined, undefined, undefined, undefined, [], undefined],
    'the state',
  );
});
