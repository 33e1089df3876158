import type { NewRun } from '../../store/batch.js';
import type { JournalEntry } from '../../store/journal.js';
import type { Unique } from '../../store/rows.js';
import type { Store } from '../../store/store.js';
import {
  cancel,
  cancelling,
  caseGroup,
  claim,
  claimed,
  commit,
  due,
  dueIds,
  end,
  ended,
  load,
  newRun,
  now,
  refused,
  rowOf,
  running,
  spoiled,
  started,
  waiting,
} from './env.js';
import { equal, hostileStrings, lookalikePairs, range } from './kit.js';

const { cases, fact } = caseGroup('unique keys');

/** The cases about runs that keep others with their key from being started (spec Q2: `singleton`, `debounce`). */
export const uniqueKeys = cases;

const single = (runId: string, over: Partial<NewRun> = {}, until: Unique['until'] = 'end'): NewRun =>
  newRun(runId, { unique: { key: 'k', until }, ...over });

const rescheduled = (payload: string, dueAt: number): JournalEntry => ({
  kind: 'rescheduled',
  at: now,
  payload,
  dueAt,
});

/** A start that is put off with each next one: due at this instant, with this payload. */
const debounced = (runId: string, dueAt: number, over: Partial<NewRun> = {}): NewRun =>
  single(runId, { dueAt, entries: [started(runId)], moves: rescheduled(runId, dueAt), ...over }, 'start');

/** The outcomes of these starts, in one batch, as `kind runId`. */
const starting = async (store: Store, ...runs: NewRun[]): Promise<string[]> =>
  (await commit(store, { starts: runs })).starts.map(({ kind, runId }) => `${kind} ${runId}`);

fact('Q2: a run keeps others with its unique key from being started until it ends', async ({ open }) => {
  const store = await open();
  equal(await starting(store, single('a')), ['created a'], 'the first start');
  const refusedStart = async (when: string) => {
    const { starts } = await commit(store, { starts: [single('b')] });
    equal(starts, [{ kind: 'exists', runId: 'a', isUnique: true }], when);
    equal(await store.load('b'), undefined, `the second run, ${when}`);
  };
  await refusedStart('queued');
  await commit(store, { run: claim('a', 0) });
  await refusedStart('running');
  await commit(store, { run: { runId: 'a', fence: 1, append: [], state: waiting([]) } });
  await refusedStart('waiting');
  await end(store, 'a');
  equal(await starting(store, single('b')), ['created b'], 'the second start after the end');
  equal(await starting(store, single('c')), ['exists b'], 'the third start');
});

fact('Q2: a unique key is free again however its run ends', async ({ open }) => {
  const store = await open();
  for (const status of ['completed', 'failed', 'cancelled'] as const) {
    await commit(store, { starts: [single(status)] });
    await commit(store, { run: claim(status, 0) });
    await end(store, status, status);
  }
  equal(await starting(store, single('outside')), ['created outside'], 'the start after three ends');
  await cancel(store, 'outside');
  equal(await starting(store, single('last')), ['created last'], 'the start after a cancel');
});

fact('Q2: a run that is kept from others until it starts lets them be from its claim on', async ({ open }) => {
  const store = await open();
  equal(await starting(store, single('a', {}, 'start')), ['created a'], 'the first start');
  equal(await starting(store, single('b', {}, 'start')), ['exists a'], 'the second start');
  equal(await starting(store, single('b', { dueAt: now + 5 }, 'start')), ['exists a'], 'a start that is due later');
  await commit(store, { run: claim('a', 0) });
  equal(await starting(store, single('b', {}, 'start')), ['created b'], 'the second start after the claim');
  equal(await starting(store, single('c', {}, 'start')), ['exists b'], 'the third start');
});

fact('Q2: a scheduled run is kept from others until it starts, also when its time has come', async ({ open }) => {
  const store = await open();
  equal(await starting(store, single('a', { dueAt: now + 5 }, 'start')), ['created a'], 'the first start');
  equal(await starting(store, single('b', {}, 'start')), ['exists a'], 'the second start');
  const { starts } = await commit(store, { now: now + 9, starts: [single('b', {}, 'start')] });
  equal(starts[0]?.runId, 'a', 'the run of a start after its time');
  await cancel(store, 'a');
  equal(await starting(store, single('b', {}, 'start')), ['created b'], 'the start after a cancel');
});

fact('Q2: the unique key of another job is another key', async ({ open }) => {
  const store = await open();
  const runs = ['x', 'y', 'z'].map((job) => single(`of ${job}`, { job }));
  equal(await starting(store, ...runs), ['created of x', 'created of y', 'created of z'], 'the starts');
});

fact('Q2: job and unique key are compared as a pair, never as joined text', async ({ open }) => {
  const store = await open();
  const runs = lookalikePairs.map(([job, key], index) => newRun(`r${index}`, { job, unique: { key, until: 'end' } }));
  for (const run of runs) equal(await starting(store, run), [`created ${run.runId}`], JSON.stringify(run.unique));
});

fact('Q2: unique and idempotency keys are apart', async ({ open }) => {
  const store = await open();
  equal(await starting(store, single('a'), newRun('b', { idempotencyKey: 'k' })), ['created a', 'created b'], 'starts');
  equal(await starting(store, newRun('c', { idempotencyKey: 'k' })), ['exists b'], 'the idempotency key');
  equal(await starting(store, single('c')), ['exists a'], 'the unique key');
});

fact('Q2: a start that is known by id or idempotency key is not told of a unique key', async ({ open }) => {
  const store = await open();
  await commit(store, { starts: [single('a', { idempotencyKey: 'i' })] });
  for (const again of [single('a'), single('other', { idempotencyKey: 'i' })])
    equal((await commit(store, { starts: [again] })).starts, [{ kind: 'exists', runId: 'a' }], again.runId);
});

/** A start that, when another run answers it, is to be remembered up to this instant. */
const kept = (runId: string, until: number, over: Partial<NewRun> = {}): NewRun =>
  single(runId, { merged: { fingerprint: `of ${runId}`, until }, ...over });

fact('Q1: a start that the holder of its unique key has answered is remembered by its key', async ({ open }) => {
  const store = await open();
  await commit(store, { starts: [single('a')] });
  equal(await starting(store, kept('b', now + 100, { idempotencyKey: 'i' })), ['exists a'], 'the start');
  await commit(store, { run: claim('a', 0) });
  await end(store, 'a');
  await store.close();
  const again = await open();
  const startAt = async (at: number) =>
    (await commit(again, { now: at, starts: [kept('c', now + 500, { idempotencyKey: 'i' })] })).starts;
  const known = [{ kind: 'exists', runId: 'a', fingerprint: 'of b', isUnique: true }];
  equal(await startAt(now + 99), known, 'repeated, when that run has ended and the store was opened again');
  equal(await startAt(now + 100), [{ kind: 'created', runId: 'c' }], 'repeated, when its time is over');
});

fact('Q1: such a start without a key is remembered by its id, and one that is not to be is not', async ({ open }) => {
  const store = await open();
  await commit(store, { starts: [single('a'), kept('b', now + 100), single('c'), kept('d', now)] });
  await commit(store, { run: claim('a', 0) });
  await end(store, 'a');
  equal(await starting(store, newRun('b'), newRun('c'), newRun('d')), ['exists a', 'created c', 'created d'], 'starts');
});

fact('Q1: a start that has put another run off is remembered, and does not do so again', async ({ open }) => {
  const store = await open();
  const merged = { fingerprint: 'of b', until: now + 100 };
  await commit(store, { starts: [debounced('a', now + 10)] });
  equal(await starting(store, debounced('b', now + 20, { idempotencyKey: 'i', merged })), ['moved a'], 'the start');
  equal(await starting(store, debounced('c', now + 30, { idempotencyKey: 'i' })), ['exists a'], 'repeated');
  equal((await rowOf(store, 'a')).dueAt, now + 20, 'when that is due');
});

fact('Q1: a start that made a run of its own leaves nothing else to be remembered by', async ({ open }) => {
  const store = await open();
  await commit(store, { starts: [kept('a', now + 100, { idempotencyKey: 'i' })] });
  const { starts } = await commit(store, { starts: [newRun('b', { idempotencyKey: 'i' })] });
  equal(starts, [{ kind: 'exists', runId: 'a' }], 'repeated');
  equal('merged' in (await rowOf(store, 'a')), false, 'whether the row has it');
});

fact('Q2: two starts with one unique key in one batch make one run', async ({ open }) => {
  const store = await open();
  equal(await starting(store, single('a'), single('b')), ['created a', 'exists a'], 'the starts');
  equal(await store.load('b'), undefined, 'the second run');
});

fact('Q2: an end and the next start with its unique key are one batch', async ({ open }) => {
  const store = await open();
  await commit(store, { starts: [single('a')] });
  await commit(store, { run: claim('a', 0) });
  const run = { runId: 'a', fence: 1, append: [], state: ended() };
  equal((await commit(store, { run, starts: [single('b')] })).starts, [{ kind: 'created', runId: 'b' }], 'the start');
  equal(await starting(store, single('c')), ['exists b'], 'the next one');
});

fact('Q2: a run that is cancelled with its parent leaves its unique key to the same batch', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p');
  await commit(store, { starts: [single('a', { parentId: 'p' })] });
  const { starts } = await commit(store, { run: cancelling('p'), starts: [single('b')] });
  equal(starts, [{ kind: 'created', runId: 'b' }], 'the start');
  equal(await starting(store, single('c')), ['exists b'], 'the next one');
});

fact('Q2: a start that is refused holds no unique key', async ({ open }) => {
  const store = await open();
  await refused(store, { starts: [single('a')], ...spoiled }, 'refused');
  equal(await starting(store, single('b')), ['created b'], 'the next start');
});

fact('Q2: 64 concurrent starts with one unique key from two contexts make one run', async ({ open, openOther }) => {
  const stores = [await open(), await openOther()];
  const outcomes = await Promise.all(
    range(64).map(async (index) => (await commit(stores[index % 2]!, { starts: [single(`r${index}`)] })).starts[0]!),
  );
  equal(outcomes.filter(({ kind }) => kind === 'created').length, 1, 'the number of created runs');
  equal(new Set(outcomes.map(({ runId }) => runId)).size, 1, 'the number of run ids told');
});

fact('Q2: a unique key is still held, or free, when the store is opened again', async ({ open }) => {
  const store = await open();
  await commit(store, { starts: [single('a'), single('x', { job: 'other' })] });
  await commit(store, { run: claim('x', 0, 'a', { state: ended() }) });
  await store.close();
  const again = await open();
  equal(await starting(again, single('b')), ['exists a'], 'the start of the held key');
  equal(await starting(again, single('y', { job: 'other' })), ['created y'], 'the start of the free key');
});

fact('Q2: hostile strings are unique keys like any other', async ({ open }) => {
  const store = await open();
  const of = (runId: string, key: string) => newRun(runId, { unique: { key, until: 'end' } });
  for (const [index, key] of hostileStrings.entries())
    equal(await starting(store, of(`r${index}`, key)), [`created r${index}`], JSON.stringify(key));
  for (const [index, key] of hostileStrings.entries())
    equal(await starting(store, of('x', key)), [`exists r${index}`], JSON.stringify(key));
});

fact('Q2: a start with the same debounce key puts a scheduled run off, with an entry', async ({ open }) => {
  const store = await open();
  equal(await starting(store, debounced('a', now + 10)), ['created a'], 'the first start');
  const { starts } = await commit(store, { starts: [debounced('b', now + 20)] });
  equal(starts, [{ kind: 'moved', runId: 'a', isUnique: true }], 'the second start');
  const { row, journal } = await load(store, 'a');
  equal(journal, [started('a'), rescheduled('b', now + 20)], 'the journal');
  equal([row.dueAt, row.length, row.fence, row.status], [now + 20, 2, 0, 'scheduled'], 'the row');
  equal(await store.load('b'), undefined, 'the second run');
  equal((await due(store, { now: now + 19 })).nextDueAt, now + 20, 'the next instant');
  equal(dueIds(await due(store, { now: now + 20 })), ['a'], 'the due runs');
});

fact('Q2: a scheduled run is put off again and again, also to an earlier instant', async ({ open }) => {
  const store = await open();
  const instants = [now + 10, now + 30, now + 20, now + 40];
  for (const [index, dueAt] of instants.entries()) await commit(store, { starts: [debounced(`r${index}`, dueAt)] });
  const { row, journal } = await load(store, 'r0');
  equal([row.dueAt, row.length, journal.length], [now + 40, 4, 4], 'the row and the journal');
  equal(
    journal.slice(1),
    [1, 2, 3].map((index) => rescheduled(`r${index}`, instants[index]!)),
    'the entries',
  );
});

fact('Q2: a run is put off only while its time is ahead; then the next start makes a new one', async ({ open }) => {
  const store = await open();
  await commit(store, { starts: [debounced('a', now + 10)] });
  const at = async (instant: number, run: NewRun) =>
    (await commit(store, { now: instant, starts: [run] })).starts.map(({ kind, runId }) => `${kind} ${runId}`);
  equal(await at(now + 9, debounced('b', now + 20)), ['moved a'], 'one millisecond before');
  equal(await at(now + 20, debounced('c', now + 30)), ['created c'], 'at the instant');
  equal((await load(store, 'a')).journal.length, 2, 'the length of the first journal');
  equal(await at(now + 21, debounced('d', now + 40)), ['moved c'], 'the run that is put off then');
  await commit(store, { now: now + 21, run: claim('a', 0) });
  equal(await at(now + 22, debounced('e', now + 50)), ['moved c'], 'after the claim of the first');
  await cancel(store, 'c');
  equal(await at(now + 23, debounced('f', now + 60)), ['created f'], 'after the cancel of the second');
});

fact('Q2: of the runs of a debounce key only one has the key at any time', async ({ open }) => {
  const store = await open();
  await commit(store, { starts: [debounced('a', now + 10)] });
  await commit(store, { now: now + 10, starts: [debounced('b', now + 20)] });
  const keys = async () => [(await rowOf(store, 'a')).unique, (await rowOf(store, 'b')).unique];
  equal(await keys(), [undefined, { key: 'k', until: 'start' }], 'the keys');
  await commit(store, { run: claim('b', 0, 'a', { state: running() }) });
  equal(await keys(), [undefined, undefined], 'the keys after the claim of the second');
  equal(await starting(store, debounced('c', now + 30)), ['created c'], 'the next start');
});

fact('Q2: a run that is not scheduled is not put off', async ({ open }) => {
  const store = await open();
  await commit(store, { starts: [debounced('a', now)] });
  equal(await starting(store, debounced('b', now + 10)), ['created b'], 'the start');
  equal((await load(store, 'a')).journal.length, 1, 'the length of the first journal');
});

fact('Q2: a run that is unique until its end is not put off', async ({ open }) => {
  const store = await open();
  await commit(store, { starts: [single('a', { dueAt: now + 10 })] });
  const moving = { ...debounced('b', now + 20), unique: { key: 'k', until: 'end' } } as const;
  equal(await starting(store, moving), ['exists a'], 'the start');
  equal([(await rowOf(store, 'a')).dueAt, (await rowOf(store, 'a')).length], [now + 10, 1], 'the row');
});

fact('Q2: a debounced start without an entry of its own leaves the scheduled run as it is', async ({ open }) => {
  const store = await open();
  await commit(store, { starts: [debounced('a', now + 10)] });
  equal(await starting(store, single('b', { dueAt: now + 20 }, 'start')), ['exists a'], 'the start');
  equal((await rowOf(store, 'a')).dueAt, now + 10, 'the instant');
});

fact('Q2: several debounced starts of one batch make one run, put off by the last', async ({ open }) => {
  const store = await open();
  const runs = ['a', 'b', 'c'].map((runId, index) => debounced(runId, now + 10 * (index + 1)));
  equal(await starting(store, ...runs), ['created a', 'moved a', 'moved a'], 'the starts');
  const { row, journal } = await load(store, 'a');
  equal([row.dueAt, row.length], [now + 30, 3], 'the row');
  equal(journal, [started('a'), rescheduled('b', now + 20), rescheduled('c', now + 30)], 'the journal');
});

fact('Q2: a run that was put off and claimed has all its entries', async ({ open }) => {
  const store = await open();
  await commit(store, { starts: [debounced('a', now + 10)] });
  await commit(store, { starts: [debounced('b', now + 20)] });
  await refused(store, { run: { ...claim('a', 0), length: 1 } }, 'fenced');
  await commit(store, { now: now + 20, run: { ...claim('a', 0), length: 2 } });
  await store.close();
  const { row, journal } = await load(await open(), 'a');
  equal([row.length, journal.map(({ kind }) => kind)], [3, ['started', 'rescheduled', 'claimed']], 'the run');
});

fact('Q2, F6: a run that is taken up again holds its unique key, unless another one does', async ({ open }) => {
  const store = await open();
  await commit(store, { starts: [single('r')] });
  await commit(store, { run: claim('r', 0, 'a', { state: ended('failed') }) });
  await commit(store, { starts: [single('next')] });
  const unique: Unique = { key: 'k', until: 'end' };
  const again = { ...claim('r', 1, 'a', { state: waiting([]) }), unique };
  equal(await refused(store, { run: again }, 'fenced'), { kind: 'fenced', fence: 1 }, 'the outcome');
  equal((await rowOf(store, 'r')).status, 'failed', 'the run');
  await commit(store, { run: cancelling('next') });
  await commit(store, { run: again });
  equal(await starting(store, single('third')), ['exists r'], 'a start after it');
});
