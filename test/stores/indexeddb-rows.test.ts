import { afterEach, expect, it } from 'vitest';
import type { RunChange } from '../../src/store/batch.js';
import type { RunState } from '../../src/store/rows.js';
import {
  claim,
  countCalls,
  dueQuery,
  freshName,
  newRun,
  now,
  openStore,
  raw,
  released,
  started,
  stepped,
  waitUntil,
} from './indexeddb-kit.js';

/*
 * Pins: where rows of the shared state, keys, children and priorities are kept and found; that deleting a run and
 * beginning its journal anew leave nothing behind; how much is read for it.
 */

let undo = (): unknown => undefined;
afterEach(() => void undo());

const numbered = (count: number) => Array.from({ length: count }, (_, i) => i);
const completed = (runId: string, at = now): RunChange => ({
  runId,
  fence: 0,
  append: [{ kind: 'completed', at, value: null }],
  state: { status: 'completed', version: 1, waits: [], endedAt: at },
});
const running: RunState = { status: 'running', version: 1, owner: 'a', dueAt: now, waits: [] };
/** 150 outcomes, one a commit, all in as few transactions as possible: two chunks in `spill`, and a tail. */
const longJournal = (runId: string, fence = 0): RunChange[] =>
  numbered(150).map((i) => ({ runId, fence, append: [stepped(`s${i}`)], state: running }));

it('D8: a state row is kept as the transition made it, and expires without being read again', async () => {
  const name = freshName();
  const store = await openStore(name);
  await store.commit({
    now,
    state: [
      { kind: 'set', key: 'theme', value: 'dark' },
      { kind: 'increment', key: 'visits', by: 2, expiresAt: now + 10 },
      { kind: 'set', key: 'gone', value: 1 },
      { kind: 'delete', key: 'gone' },
    ],
  });
  const db = await raw(name);
  expect(await db.getAll('stepfast:state')).toStrictEqual([
    { key: 'theme', value: 'dark', revision: 1 },
    { key: 'visits', value: 2, expiresAt: now + 10, revision: 2 },
  ]);
  expect(await store.state('visits')).toStrictEqual({ key: 'visits', value: 2, expiresAt: now + 10, revision: 2 });
  expect(await store.state('gone')).toBeUndefined();
  await store.commit({ now: now + 10, state: [{ kind: 'increment', key: 'other', by: 1 }] });
  expect(await db.getAllKeys('stepfast:state')).toEqual(['other', 'theme']);
  db.close();
  await store.close();
});

it('D8: rows that have expired are swept a few at a time, and those without an end stay', async () => {
  const name = freshName();
  const store = await openStore(name);
  const state = numbered(20).map((i) => ({ kind: 'set', key: `k${i}`, value: i, expiresAt: now + i }) as const);
  await store.commit({ now, state: [...state, { kind: 'set', key: 'stays', value: 0 }] });
  const db = await raw(name);
  const counts: number[] = [];
  for (const _ of numbered(3)) {
    await store.commit({ now: now + 100, state: [{ kind: 'delete', key: 'nothing' }] });
    counts.push(await db.count('stepfast:state'));
  }
  expect(counts).toEqual([13, 5, 1]);
  expect(await store.state('stays')).toMatchObject({ value: 0 });
  db.close();
  await store.close();
});

it('D8: commits of one group see the state that those before them have written', async () => {
  const store = await openStore(freshName());
  const commits = numbered(10).map(() => store.commit({ now, state: [{ kind: 'increment', key: 'n', by: 1 }] }));
  const values = (await Promise.all(commits)).map((outcome) => outcome.kind === 'committed' && outcome.state[0]?.value);
  expect(values).toEqual(numbered(10).map((i) => i + 1));
  await store.close();
});

it('Q6: a run that is deleted leaves neither row, chunks nor keys, and its id begins with an empty journal', async () => {
  const name = freshName();
  const store = await openStore(name);
  const unique = { key: 'u', until: 'end' } as const;
  const again = newRun('long', { idempotencyKey: 'k', unique });
  await store.commit({ now, starts: [again, newRun('lon'), newRun('long2')] });
  await Promise.all([...longJournal('long'), ...longJournal('long2')].map((run) => store.commit({ now, run })));
  await store.commit({ now, run: completed('long') });
  const db = await raw(name);
  expect((await db.getAllKeys('stepfast:spill')).length).toBeGreaterThan(3);
  const heard: unknown[] = [];
  store.watch((runId, isOwn) => heard.push([runId, isOwn]));
  await store.commit({ now, deletes: [{ runId: 'long', fence: 0, fingerprint: 'f' }] });
  expect(heard).toEqual([['long', true]]);
  expect(await db.getAllKeys('stepfast:runs')).toEqual(['lon', 'long2']);
  expect([...new Set((await db.getAllKeys('stepfast:spill')).map((key) => (key as [string])[0]))]).toEqual(['long2']);
  expect(await store.load('long')).toBeUndefined();
  expect(await store.commit({ now, starts: [again] })).toMatchObject({ starts: [{ kind: 'created' }] });
  expect((await store.load('long'))?.journal).toEqual([started()]);
  expect((await store.load('long2'))?.journal).toHaveLength(151);
  db.close();
  await store.close();
});

it('Q6: a run that is deleted is not there for the next commit of the same transaction', async () => {
  const name = freshName();
  const store = await openStore(name);
  await store.commit({ now, starts: [newRun('run', { idempotencyKey: 'k' })] });
  await Promise.all(longJournal('run').map((run) => store.commit({ now, run })));
  await store.commit({ now, run: completed('run') });
  const outcomes = await Promise.all([
    store.commit({ now, deletes: [{ runId: 'run', fence: 0, fingerprint: 'f' }] }),
    store.commit({ now, deletes: [{ runId: 'run', fence: 0, fingerprint: 'f' }] }),
    store.commit({ now, starts: [newRun('run', { idempotencyKey: 'k', entries: [started('second')] })] }),
    store.commit({ now, run: { runId: 'run', fence: 0, append: [stepped('s')], state: running } }),
  ]);
  expect(outcomes).toMatchObject([
    { kind: 'committed' },
    { kind: 'fenced', fence: 0 },
    { starts: [{ kind: 'created' }] },
    { kind: 'committed' },
  ]);
  expect((await store.load('run'))?.journal).toEqual([started('second'), stepped('s')]);
  const db = await raw(name);
  expect(await db.count('stepfast:spill')).toBe(0);
  db.close();
  await store.close();
});

it('Q6: another context hears of a run that was deleted', async () => {
  const name = freshName();
  const [a, b] = await Promise.all([openStore(name, { owner: 'a' }), openStore(name, { owner: 'b' })]);
  await a.commit({ now, starts: [newRun('run')] });
  await a.commit({ now, run: completed('run') });
  const heard: unknown[] = [];
  b.watch((runId) => heard.push(runId));
  await a.commit({ now, deletes: [{ runId: 'run', fence: 0, fingerprint: 'f' }] });
  await a.commit({ now, starts: [newRun('last')] });
  await waitUntil(() => heard.includes('last'));
  expect(heard.slice(-2)).toEqual(['run', 'last']);
  await Promise.all([a.close(), b.close()]);
});

it('a journal that begins anew leaves no chunk of the old one, and grows into chunks again', async () => {
  const name = freshName();
  const store = await openStore(name);
  await store.commit({ now, starts: [newRun('run'), newRun('other')] });
  await Promise.all([...longJournal('run'), ...longJournal('other')].map((run) => store.commit({ now, run })));
  const reset: RunChange = { runId: 'run', fence: 0, reset: true, append: [started('anew')], state: running };
  const [outcome] = await Promise.all([
    store.commit({ now, run: reset }),
    store.commit({ now, run: { runId: 'run', fence: 0, length: 1, append: [stepped('next')], state: running } }),
  ]);
  expect(outcome).toMatchObject({ kind: 'committed' });
  const db = await raw(name);
  const chunks = async () => (await db.getAllKeys('stepfast:spill')) as [string, number][];
  expect((await chunks()).filter(([runId]) => runId === 'run')).toEqual([]);
  const found = await store.load('run');
  expect(found).toMatchObject({ row: { length: 2 }, journal: [started('anew'), stepped('next')] });
  await Promise.all(longJournal('run').map((run) => store.commit({ now, run })));
  expect((await chunks()).filter(([runId]) => runId === 'run')).toEqual([
    ['run', 0],
    ['run', 1],
  ]);
  expect((await store.load('run'))?.journal).toEqual([
    started('anew'),
    stepped('next'),
    ...longJournal('run').flatMap(({ append }) => append),
  ]);
  expect((await store.load('other'))?.journal).toHaveLength(151);
  db.close();
  await store.close();
});

it('Q2: due runs of the greatest priority come first, over more rows than are read at once', async () => {
  const store = await openStore(freshName());
  const lane = (priority: number, count: number, dueAt: (i: number) => number) =>
    numbered(count).map((i) => newRun(`${priority}/${i}`, { priority, dueAt: dueAt(i) }));
  await store.commit({
    now,
    starts: [
      ...lane(0, 100, (i) => now - i),
      ...lane(5, 100, () => now - 1),
      ...lane(5.5, 70, (i) => now + 7000 + i), // later, and more than a page
      ...lane(-1, 70, (i) => now - 500 + i),
      newRun('plain', { dueAt: now - 1000 }),
    ],
  });
  const ids = async (limit: number) => (await store.due(dueQuery({ limit }))).runs.map(({ row }) => row.runId);
  const expected = [
    ...numbered(100).map((i) => `5/${i}`),
    'plain',
    ...numbered(100).map((i) => `0/${99 - i}`),
    ...numbered(70).map((i) => `-1/${i}`),
  ];
  expect(await ids(1000)).toEqual(expected);
  expect(await ids(150)).toEqual(expected.slice(0, 150));
  expect(await store.due(dueQuery({ limit: 1000 }))).toMatchObject({ nextDueAt: now + 7000 });
  await store.close();
});

it('Q2: a run that is not due yet does not hold up one of a lower priority', async () => {
  const store = await openStore(freshName());
  await store.commit({
    now,
    starts: [
      newRun('urgent but later', { priority: 9, dueAt: now + 50 }),
      newRun('late', { dueAt: now + 20 }),
      newRun('due', { priority: -3 }),
      newRun('last', { priority: -3, dueAt: now + 30 }),
    ],
  });
  expect(await store.due(dueQuery())).toMatchObject({ runs: [{ row: { runId: 'due' } }], nextDueAt: now + 20 });
  await store.close();
});

it('a look for work is one request while all rows fit a page, and two when most of them are due later', async () => {
  const store = await openStore(freshName());
  await store.commit({ now, starts: [newRun('due'), newRun('later', { dueAt: now + 1, priority: 1 })] });
  const asked: number[] = [];
  for (const more of [0, 500]) {
    const starts = numbered(more).map((i) => newRun(`later-${i}`, { dueAt: now + 10 + i }));
    await store.commit({ now, starts });
    const calls = countCalls(IDBIndex.prototype, 'getAll');
    undo = calls.stop;
    await store.due(dueQuery());
    asked.push(calls.stop().filter((index) => (index as IDBIndex).name === 'due').length);
  }
  expect(asked).toEqual([1, 2]);
  await store.close();
});

it('a look brings the journals that stand in the rows, and not those that were moved to chunks', async () => {
  const store = await openStore(freshName());
  await store.commit({ now, starts: [newRun('short'), newRun('long')] });
  const append = numbered(70).map((i) => stepped(`step-${i}`));
  const state: RunState = { status: 'queued', version: 1, dueAt: now, waits: [] };
  await store.commit({ now, run: { runId: 'long', fence: 0, append, state } });
  const { runs } = await store.due(dueQuery());
  expect(runs.map(({ row, journal }) => [row.runId, journal?.length])).toEqual([
    ['short', 1],
    ['long', undefined],
  ]);
  expect(runs[0]!.journal).toEqual((await store.load('short'))!.journal);
  await store.close();
});

it('Q2: of runs that were given one unique key in turn, the last one holds it', async () => {
  for (const [first, second] of [
    ['a', 'b'],
    ['b', 'a'],
  ] as const) {
    const store = await openStore(freshName());
    const debounced = (runId: string, at: number) =>
      store.commit({
        now: at,
        starts: [newRun(runId, { unique: { key: 'u', until: 'start' }, dueAt: at + 10, moves: started() })],
      });
    expect(await debounced(first, now)).toMatchObject({ starts: [{ kind: 'created' }] });
    // The first is due, but nobody has claimed it yet: its key is free, its row still has it.
    expect(await debounced(second, now + 20)).toMatchObject({ starts: [{ kind: 'created' }] });
    expect(await debounced('c', now + 25)).toMatchObject({ starts: [{ kind: 'moved', runId: second }] });
    expect((await store.load(second))?.row.dueAt).toBe(now + 35);
    const other = newRun('d', { job: 'other', unique: { key: 'u', until: 'start' } });
    expect(await store.commit({ now: now + 25, starts: [other] })).toMatchObject({ starts: [{ kind: 'created' }] });
    await store.close();
  }
});

it('Q2: a unique key is free once its run has ended, and for another run of the same transaction as well', async () => {
  const store = await openStore(freshName());
  const single = (runId: string) => newRun(runId, { unique: { key: 'u', until: 'end' } });
  await store.commit({ now, starts: [single('one')] });
  const outcomes = await Promise.all([
    store.commit({ now, starts: [single('two')] }),
    store.commit({ now, run: completed('one') }),
    store.commit({ now, starts: [single('three')] }),
    store.commit({ now, starts: [single('four')] }),
  ]);
  expect(outcomes).toMatchObject([
    { starts: [{ kind: 'exists', runId: 'one', isUnique: true }] },
    { kind: 'committed' },
    { starts: [{ kind: 'created' }] },
    { starts: [{ kind: 'exists', runId: 'three' }] },
  ]);
  await store.close();
});

it('F9: cancelling a run cancels its children and their children, long journals included', async () => {
  const store = await openStore(freshName());
  await store.commit({
    now,
    starts: [
      newRun('parent'),
      newRun('child', { parentId: 'parent' }),
      newRun('second', { parentId: 'parent' }),
      newRun('grandchild', { parentId: 'child' }),
      newRun('stranger', { parentId: 'nobody' }),
    ],
  });
  await Promise.all(longJournal('child').map((run) => store.commit({ now, run })));
  await store.commit({
    now,
    run: {
      runId: 'parent',
      fence: 'any',
      raise: true,
      append: [{ kind: 'cancelled', at: now }],
      state: { status: 'cancelled', version: 1, waits: [], endedAt: now },
    },
  });
  const statuses = Object.fromEntries(
    (await store.list({ limit: 10 })).runs.map(({ row, journal }) => [
      row.runId,
      [row.status, journal.length, journal.at(-1)?.kind],
    ]),
  );
  expect(statuses).toEqual({
    parent: ['cancelled', 2, 'cancelled'],
    child: ['cancelled', 152, 'cancelled'],
    second: ['cancelled', 2, 'cancelled'],
    grandchild: ['cancelled', 2, 'cancelled'],
    stranger: ['queued', 1, 'started'],
  });
  await store.close();
});

it('E12: the end of a run wakes those who await it, once, and nobody else', async () => {
  const store = await openStore(freshName());
  const awaiting = (runId: string, awaits: readonly string[]): RunChange => ({
    runId,
    fence: 0,
    append: [],
    state: { status: 'waiting', version: 1, waits: [], awaits },
  });
  await store.commit({ now, starts: ['one', 'two', 'idle', 'child', 'other'].map((runId) => newRun(runId)) });
  await Promise.all([
    store.commit({ now, run: awaiting('one', ['child', 'other']) }),
    store.commit({ now, run: awaiting('two', ['child']) }),
    store.commit({ now, run: awaiting('idle', ['other']) }),
  ]);
  await store.commit({ now: now + 5, run: completed('child', now + 5) });
  for (const runId of ['one', 'two'])
    expect((await store.load(runId))?.row).toMatchObject({ ended: ['child'], woken: true, dueAt: now + 5 });
  expect((await store.load('idle'))?.row).toMatchObject({ status: 'waiting', awaits: ['other'] });
  expect((await store.load('idle'))?.row.dueAt).toBeUndefined();
  const done = await store.commit({ now, run: { ...awaiting('one', ['other']), append: [released(now)] } });
  expect(done).toMatchObject({ kind: 'committed', ended: [] });
  expect((await store.load('one'))?.row.ended).toBeUndefined();
  await store.close();
});

it('Q6: runs that ended early are listed newest first, page by page, and the others are not read', async () => {
  const store = await openStore(freshName());
  await store.commit({ now, starts: numbered(300).map((i) => newRun(`run-${i}`)) });
  // The order of the index, that of their ends, is not that of the list.
  const early = [60, 100, 20, 80, 40];
  await Promise.all(
    early.map((i) => store.commit({ now, run: completed(`run-${i}`, now - 100 + 20 * early.indexOf(i)) })),
  );
  await store.commit({ now, run: completed('run-7', now) });
  const gets = countCalls(IDBObjectStore.prototype, 'get');
  const cursors = countCalls(IDBIndex.prototype, 'openCursor');
  undo = () => [gets.stop(), cursors.stop()];
  const pages: string[][] = [];
  for (let cursor: string | undefined; ; ) {
    const query = { endedBefore: now, limit: 2, ...(cursor !== undefined && { cursor }) };
    const { runs, nextCursor } = await store.list(query);
    pages.push(runs.map(({ row }) => row.runId));
    if ((cursor = nextCursor) === undefined) break;
  }
  expect(pages).toEqual([['run-100', 'run-80'], ['run-60', 'run-40'], ['run-20']]);
  expect(gets.stop().length).toBeLessThanOrEqual(early.length + 2);
  expect(cursors.stop()).toEqual([]);
  expect((await store.list({ endedBefore: now - 50, limit: 9, status: 'completed' })).runs).toHaveLength(3);
  expect((await store.list({ endedBefore: now - 50, limit: 9, status: 'failed' })).runs).toEqual([]);
  const retried: RunChange = { runId: 'run-20', fence: 0, raise: true, append: [], state: claim('', 0).state! };
  await store.commit({ now, run: retried });
  expect((await store.list({ endedBefore: now - 50, limit: 9 })).runs.map(({ row }) => row.runId)).toEqual([
    'run-100',
    'run-60',
  ]);
  await store.close();
});

it('runs that are loaded in one turn share a transaction, and chunks are asked for where there are some', async () => {
  const name = freshName();
  const store = await openStore(name);
  await store.commit({ now, starts: [newRun('long'), newRun('short')] });
  await Promise.all(longJournal('long').map((run) => store.commit({ now, run })));
  const transactions = countCalls(IDBDatabase.prototype, 'transaction');
  const lists = countCalls(IDBObjectStore.prototype, 'getAll');
  const found = await Promise.all(['short', 'none', 'long', 'short'].map((runId) => store.load(runId)));
  expect(lists.stop()).toHaveLength(1);
  expect(transactions.stop()).toHaveLength(1);
  expect(found.map((run) => run?.journal.length)).toEqual([1, undefined, 151, 1]);
  expect(found[0]).toEqual(found[3]);
  expect(found[0]).not.toBe(found[3]);
  await store.close();
});

it('D3: a run that can not be read hides none that is loaded in the same turn', async () => {
  const store = await openStore(freshName());
  await store.commit({ now, starts: [newRun('bad'), newRun('good')] });
  const get = IDBObjectStore.prototype.get;
  IDBObjectStore.prototype.get = function (key) {
    if (key === 'bad') throw new DOMException('can not be read', 'DataError');
    return get.call(this, key);
  };
  undo = () => {
    IDBObjectStore.prototype.get = get;
  };
  const [bad, good] = await Promise.allSettled([store.load('bad'), store.load('good')]);
  undo();
  expect(bad).toMatchObject({ status: 'rejected', reason: { code: 'STORE_UNAVAILABLE' } });
  expect(good).toMatchObject({ status: 'fulfilled', value: { row: { runId: 'good' } } });
  await store.close();
});
