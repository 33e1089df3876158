import type { NewRun } from '../../store/batch.js';
import type { Store } from '../../store/store.js';
import { caseGroup, claim, commit, ended, load, newRun, now, rowOf, start, started } from './env.js';
import { check, equal, hostileStrings, lookalikePairs, range } from './kit.js';

const { cases, fact } = caseGroup('starts');

/** The cases about starting runs (spec Q1; rules S5, T1). */
export const starts = cases;

const keyed = (runId: string, idempotencyKey: string, job = 'job') => newRun(runId, { idempotencyKey, job });

async function startAll(store: Store, runs: readonly NewRun[]): Promise<void> {
  for (const run of runs)
    equal((await commit(store, { starts: [run] })).starts, [{ kind: 'created', runId: run.runId }], run.runId);
}

fact('a start creates a run with its row and its first journal entry', async ({ open }) => {
  const store = await open();
  const entry = started({ a: [1] });
  const { starts: outcomes } = await start(store, 'r', { entries: [entry] });
  equal(outcomes, [{ kind: 'created', runId: 'r' }], 'the outcome');
  const { row, journal } = await load(store, 'r');
  equal(journal, [entry], 'the journal');
  const { seq, ...rest } = row;
  check(seq > 0, 'seq is greater than 0');
  const expected = { runId: 'r', job: 'job', version: 1, queue: 'queue', dueAt: now, status: 'queued', createdAt: now };
  equal(rest, { ...expected, fence: 0, length: 1, waits: [] }, 'the row');
});

fact('optional fields of a start are kept', async ({ open }) => {
  const store = await open();
  const given = { idempotencyKey: 'k', parentId: 'p', tags: ['t', 'u'], queue: 'slow', version: 7, job: 'other' };
  await start(store, 'r', given);
  const { idempotencyKey, parentId, tags, queue, version, job } = await rowOf(store, 'r');
  equal({ idempotencyKey, parentId, tags, queue, version, job }, given, 'the row');
});

fact('optional fields of a start outlive the commits of its owner', async ({ open }) => {
  const store = await open();
  await start(store, 'r', { idempotencyKey: 'k', parentId: 'p', tags: ['t'] });
  await commit(store, { run: claim('r', 0) });
  const { idempotencyKey, parentId, tags, createdAt } = await rowOf(store, 'r');
  equal(
    { idempotencyKey, parentId, tags, createdAt },
    { idempotencyKey: 'k', parentId: 'p', tags: ['t'], createdAt: now },
    'the row',
  );
});

fact('an empty store has no run of any id', async ({ open }) => {
  const store = await open();
  for (const runId of hostileStrings) equal(await store.load(runId), undefined, JSON.stringify(runId));
});

fact('a start with a known run id gives the run that is there and changes nothing', async ({ open }) => {
  const store = await open();
  await start(store, 'r', { entries: [started('first')] });
  const before = await load(store, 'r');
  const second = await start(store, 'r', { entries: [started('second')], queue: 'other' });
  equal(second.starts, [{ kind: 'exists', runId: 'r' }], 'the outcome');
  equal(await load(store, 'r'), before, 'the run');
});

fact('a start with a known idempotency key of its job gives the first run', async ({ open }) => {
  const store = await open();
  await commit(store, { starts: [keyed('first', 'k')] });
  const second = await commit(store, { starts: [keyed('second', 'k')] });
  equal(second.starts, [{ kind: 'exists', runId: 'first' }], 'the outcome');
  equal(await store.load('second'), undefined, 'the second run');
});

fact('the idempotency key of another job is another key', async ({ open }) => {
  const store = await open();
  await startAll(store, [keyed('a', 'k', 'job-a'), keyed('b', 'k', 'job-b')]);
});

fact('job and idempotency key are compared as a pair, never as joined text', async ({ open }) => {
  const store = await open();
  await startAll(
    store,
    lookalikePairs.map(([job, key], index) => keyed(`r${index}`, key, job)),
  );
});

fact('starts without an idempotency key are never taken for each other', async ({ open }) => {
  const store = await open();
  await startAll(store, [newRun('a'), newRun('b'), newRun('c')]);
});

fact('an idempotency key is remembered when its run has ended', async ({ open }) => {
  const store = await open();
  await commit(store, { starts: [keyed('first', 'k')] });
  await commit(store, { run: claim('first', 0, 'a', { state: ended() }) });
  equal((await commit(store, { starts: [keyed('second', 'k')] })).starts[0]?.runId, 'first', 'the run of the key');
});

fact('an idempotency key is remembered when the store is opened again', async ({ open }) => {
  const store = await open();
  await commit(store, { starts: [keyed('first', 'k')] });
  await store.close();
  const again = await open();
  equal((await commit(again, { starts: [keyed('second', 'k')] })).starts[0]?.runId, 'first', 'the run of the key');
});

fact('two starts with one idempotency key in one batch make one run', async ({ open }) => {
  const store = await open();
  const { starts: outcomes } = await commit(store, { starts: [keyed('first', 'k'), keyed('second', 'k')] });
  equal(
    outcomes.map(({ runId }) => runId),
    ['first', 'first'],
    'the runs',
  );
  equal(await store.load('second'), undefined, 'the second run');
});

fact('two starts with one run id in one batch make one run', async ({ open }) => {
  const store = await open();
  const { starts: outcomes } = await commit(store, { starts: [newRun('r'), newRun('r')] });
  equal(
    outcomes.map(({ kind }) => kind),
    ['created', 'exists'],
    'the outcomes',
  );
  equal((await load(store, 'r')).journal.length, 1, 'the length of the journal');
});

fact('64 concurrent starts with one idempotency key from two contexts make one run', async ({ open, openOther }) => {
  const stores = [await open(), await openOther()];
  const outcomes = await Promise.all(
    range(64).map(
      async (index) => (await commit(stores[index % 2]!, { starts: [keyed(`r${index}`, 'k')] })).starts[0]!,
    ),
  );
  equal(outcomes.filter(({ kind }) => kind === 'created').length, 1, 'the number of created runs');
  equal(new Set(outcomes.map(({ runId }) => runId)).size, 1, 'the number of run ids told');
  equal((await stores[0]!.list({ limit: 100 })).runs.length, 1, 'the number of runs');
});

fact('64 concurrent starts with one run id from two contexts make one run', async ({ open, openOther }) => {
  const stores = [await open(), await openOther()];
  const outcomes = await Promise.all(range(64).map(async (index) => (await start(stores[index % 2]!, 'r')).starts[0]!));
  equal(outcomes.filter(({ kind }) => kind === 'created').length, 1, 'the number of created runs');
  equal((await load(stores[0]!, 'r')).journal.length, 1, 'the length of the journal');
});

fact('a run that is due now is queued', async ({ open }) => {
  const store = await open();
  await start(store, 'r', { dueAt: now });
  equal((await rowOf(store, 'r')).status, 'queued', 'the status');
});

fact('a run whose start time is ahead is scheduled', async ({ open }) => {
  const store = await open();
  await start(store, 'r', { dueAt: now + 1 });
  const { status, dueAt } = await rowOf(store, 'r');
  equal([status, dueAt], ['scheduled', now + 1], 'the status and the start time');
});

fact('seq grows with every run that is started', async ({ open, openOther }) => {
  const stores = [await open(), await openOther()];
  const seqs: number[] = [];
  for (const index of range(10)) {
    await start(stores[index % 2]!, `r${index}`);
    seqs.push((await rowOf(stores[0]!, `r${index}`)).seq);
  }
  for (const index of range(9)) check(seqs[index + 1]! > seqs[index]!, `seq does not grow: ${seqs}`);
});

fact('seq goes on growing when the store is opened again', async ({ open }) => {
  const store = await open();
  await start(store, 'first');
  const { seq } = await rowOf(store, 'first');
  await store.close();
  const again = await open();
  await start(again, 'second');
  check((await rowOf(again, 'second')).seq > seq, 'the second run has a greater seq');
});

fact('hostile strings are run ids like any other', async ({ open }) => {
  const store = await open();
  await startAll(
    store,
    hostileStrings.map((runId) => newRun(runId, { entries: [started(runId)] })),
  );
  for (const runId of hostileStrings) {
    const { row, journal } = await load(store, runId);
    equal([row.runId, journal], [runId, [started(runId)]], 'the run');
  }
});

fact('runs with hostile ids are there when the store is opened again', async ({ open }) => {
  const store = await open();
  await commit(store, { starts: hostileStrings.map((runId) => newRun(runId, { entries: [started(runId)] })) });
  await store.close();
  const again = await open();
  for (const runId of hostileStrings)
    equal((await load(again, runId)).journal, [started(runId)], JSON.stringify(runId));
});

fact('hostile strings are idempotency keys like any other', async ({ open }) => {
  const store = await open();
  await startAll(
    store,
    hostileStrings.map((key, index) => keyed(`r${index}`, key)),
  );
  for (const [index, key] of hostileStrings.entries())
    equal((await commit(store, { starts: [keyed('x', key)] })).starts[0]?.runId, `r${index}`, JSON.stringify(key));
});

fact('hostile strings are names of jobs and queues, tags and owners like any other', async ({ open }) => {
  const store = await open();
  for (const [index, text] of hostileStrings.entries()) {
    const runId = `r${index}`;
    await start(store, runId, { job: text, queue: text, tags: [text] });
    await commit(store, { run: claim(runId, 0, text) });
    const { job, queue, tags, owner } = await rowOf(store, runId);
    equal({ job, queue, tags, owner }, { job: text, queue: text, tags: [text], owner: text }, 'the row');
    equal(
      (await store.list({ tag: text, job: text, limit: 100 })).runs.map(({ row }) => row.runId),
      [runId],
      'the list',
    );
  }
});

fact('hostile strings as ids, keys and names leave the prototypes of the platform alone', async ({ open }) => {
  const store = await open();
  const before = [Object.prototype, Array.prototype, Function.prototype].map((each) =>
    Object.getOwnPropertyNames(each),
  );
  for (const text of ['__proto__', 'constructor', 'prototype']) {
    await start(store, text, { job: text, queue: text, idempotencyKey: text, tags: [text] });
    await commit(store, { run: claim(text, 0, text) });
  }
  const after = [Object.prototype, Array.prototype, Function.prototype].map((each) => Object.getOwnPropertyNames(each));
  equal(after, before, 'the own properties of the prototypes');
});
