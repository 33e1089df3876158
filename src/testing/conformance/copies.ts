import type { NewRun } from '../../store/batch.js';
import type { JournalEntry } from '../../store/journal.js';
import type { RunState } from '../../store/rows.js';
import type { Store } from '../../store/store.js';
import {
  awaitEnds,
  caseGroup,
  claim,
  claimed,
  commit,
  dispatch,
  due,
  dueIds,
  end,
  ended,
  ids,
  load,
  newRun,
  now,
  openWait,
  refused,
  rowOf,
  running,
  start,
  started,
  stepped,
  waiting,
} from './env.js';
import { equal, range } from './kit.js';

const { cases, fact } = caseGroup('copies of runs');

/** The cases about runs that begin with a journal, or with a state (`fork`, `import`; rules S3, S9). */
export const copies = cases;

const journal: readonly JournalEntry[] = [started({ a: 1 }), stepped('s', [1]), stepped('t', { b: null })];

const copy = (runId: string, state: RunState, over: Partial<NewRun> = {}): NewRun =>
  newRun(runId, { entries: [...journal], state, ...over });
const { owner: _, ...unowned } = waiting([]);
const waits = (over: Partial<RunState>): RunState => ({ ...unowned, ...over });

const startAll = (store: Store, ...starts: NewRun[]) => commit(store, { starts });
const told = async (store: Store, runId: string) => {
  const { woken, ended: gone, dueAt } = await rowOf(store, runId);
  return { woken, ended: gone, dueAt };
};

fact('a run that begins with several entries has them all, and goes on after them', async ({ open }) => {
  const store = await open();
  await start(store, 'r', { entries: journal });
  const { row, journal: kept } = await load(store, 'r');
  equal(kept, journal, 'the journal');
  equal([row.length, row.status, row.dueAt, row.createdAt], [3, 'queued', now, now], 'the row');
  await refused(store, { run: { ...claim('r', 0), length: 1 } }, 'fenced');
  await commit(store, { run: { ...claim('r', 0), length: 3 } });
  await store.close();
  const again = await open();
  equal((await load(again, 'r')).journal, [...journal, ...claim('r', 0).append], 'the journal when opened again');
});

fact('a run may begin with a journal of several hundred entries', async ({ open }) => {
  const store = await open();
  const entries = [started(), ...range(700).map((index) => stepped(`s${index}`, index))];
  await start(store, 'r', { entries });
  await commit(store, { run: claim('r', 0) });
  await store.close();
  const { row, journal: kept } = await load(await open(), 'r');
  equal([row.length, kept.length], [702, 702], 'the lengths');
  equal(kept.slice(0, 701), entries, 'the journal');
});

fact('a run is created at the instant of its first entry', async ({ open }) => {
  const store = await open();
  const first = { ...started(), at: now - 5000 };
  await start(store, 'r', { entries: [first, stepped('s')] });
  equal((await rowOf(store, 'r')).createdAt, now - 5000, 'the instant');
});

fact('a copy of a run that has ended is kept, listed and not due', async ({ open }) => {
  const store = await open();
  const statuses = ['completed', 'failed', 'cancelled'] as const;
  for (const status of statuses)
    await startAll(store, copy(status, { ...ended(status), version: 4, startedAt: now - 9 }, { tags: [status] }));
  for (const status of statuses) {
    const { runs } = await store.list({ status, limit: 9 });
    equal(
      runs.map(({ row }) => row.runId),
      [status],
      `the list of ${status}`,
    );
    equal(runs[0]!.journal, journal, 'its journal');
    const { version, startedAt, endedAt, dueAt, fence, length, tags } = runs[0]!.row;
    equal(
      [version, startedAt, endedAt, dueAt, fence, length, tags],
      [4, now - 9, now, undefined, 0, 3, [status]],
      'its row',
    );
  }
  equal((await store.list({ endedBefore: now + 1, limit: 9 })).runs.length, 3, 'those that ended before');
  equal(await due(store, { jobs: { job: 9 }, now: now + 1e9 }), { runs: [], foreign: false }, 'what is due');
  await store.close();
  equal((await load(await open(), 'failed')).journal, journal, 'the journal when opened again');
});

fact('a copy of a run that has ended is taken up again, or deleted, by who knows its fence', async ({ open }) => {
  const store = await open();
  await startAll(store, copy('r', ended('failed')), copy('x', ended()));
  equal((await commit(store, { run: claim('r', 0) })).fence, 1, 'the fence');
  await commit(store, { deletes: [{ runId: 'x', fence: 0, fingerprint: '' }] });
  equal(await store.load('x'), undefined, 'the deleted run');
});

fact('a copy of a run that waits is woken by an event', async ({ open }) => {
  const store = await open();
  await startAll(store, copy('r', waits({ waits: [openWait({ key: 'k' })] })));
  equal(
    [await told(store, 'r'), (await rowOf(store, 'r')).status],
    [{ woken: undefined, ended: undefined, dueAt: undefined }, 'waiting'],
    'before',
  );
  await store.close();
  const again = await open();
  equal((await dispatch(again, 'e', { key: 'k' })).resumed, ['r'], 'the runs told');
  const { runs } = await due(again);
  equal(
    runs.map(({ row, offers }) => [row.runId, ids(offers)]),
    [['r', ['e']]],
    'what is due',
  );
});

fact('S3: a copy of a run that waits for an event which is there already is woken', async ({ open }) => {
  const store = await open();
  const { seq } = await dispatch(store, 'e');
  await startAll(
    store,
    copy('takes', waits({ waits: [openWait()] })),
    copy('came later', waits({ waits: [openWait({ after: seq })] })),
    copy('other key', waits({ waits: [openWait({ key: 'k' })] })),
  );
  const { runs } = await due(store);
  equal(
    runs.map(({ row, offers }) => [row.runId, row.woken, ids(offers)]),
    [['takes', true, ['e']]],
    'what is due',
  );
});

fact('S9: a copy of a run that awaits others is told of those that have ended, now and later', async ({ open }) => {
  const store = await open();
  await claimed(store, 'over', 'under way');
  await end(store, 'over');
  await startAll(
    store,
    copy('both', waits({ awaits: ['over', 'under way'] })),
    copy('one', waits({ awaits: ['under way'] })),
  );
  equal(await told(store, 'both'), { woken: true, ended: ['over'], dueAt: now }, 'of the one that had ended');
  equal(await told(store, 'one'), { woken: undefined, ended: undefined, dueAt: undefined }, 'of the one that had not');
  await end(store, 'under way');
  equal(await told(store, 'both'), { woken: true, ended: ['over', 'under way'], dueAt: now }, 'of both');
  equal(await told(store, 'one'), { woken: true, ended: ['under way'], dueAt: now }, 'of one');
});

fact('S9: whoever awaits a run that is not there yet is told before a copy of it comes', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p');
  equal((await awaitEnds(store, 'p', 'c')).ended, ['c'], 'the outcome');
  await startAll(store, copy('c', ended()));
  equal(await told(store, 'p'), { woken: true, ended: ['c'], dueAt: now }, 'the row');
});

fact('a copy that sleeps is due at its instant, with its slot and its state', async ({ open }) => {
  const store = await open();
  const state: RunState = {
    status: 'sleeping',
    version: 2,
    waits: [],
    dueAt: now + 10,
    slot: 'queue',
    progress: { p: 1 },
  };
  await startAll(store, copy('r', state, { dueAt: now + 999, version: 1 }));
  const { status, version, dueAt, slot, progress } = await rowOf(store, 'r');
  equal({ status, version, dueAt, slot, progress, waits: [] }, state, 'the state');
  const jobs = { job: 2 };
  equal([dueIds(await due(store, { jobs })), (await due(store, { jobs })).nextDueAt], [[], now + 10], 'before');
  equal(dueIds(await due(store, { jobs, now: now + 10 })), ['r'], 'at the instant');
  await start(store, 'next');
  const run = claim('next', 0, 'a', { state: running('a', { slot: 'queue' }), concurrency: 1 });
  await refused(store, { run }, 'no-slot');
});

fact('Q1: a copy is known by its id and idempotency key like any other run', async ({ open }) => {
  const store = await open();
  await startAll(store, copy('r', ended(), { idempotencyKey: 'k' }));
  const { starts } = await startAll(store, copy('r', ended('failed')), newRun('x', { idempotencyKey: 'k' }));
  equal(
    starts.map(({ kind, runId }) => [kind, runId]),
    range(2).map(() => ['exists', 'r']),
    'the outcomes',
  );
  equal((await rowOf(store, 'r')).status, 'completed', 'the status');
});

fact('Q2: a copy holds a unique key only as long as such a run would', async ({ open }) => {
  const store = await open();
  const unique = (until: 'start' | 'end') => ({ unique: { key: 'k', until } });
  await startAll(
    store,
    copy('over', ended(), unique('end')),
    copy('under way', waits({}), unique('start')),
    newRun('holds', unique('end')),
    copy('over too', ended(), unique('end')),
  );
  equal((await store.list({ limit: 9 })).runs.length, 4, 'the number of runs');
  const held = (await store.list({ limit: 9 })).runs.filter(({ row }) => row.unique).map(({ row }) => row.runId);
  equal(held, ['holds'], 'the run that holds the key');
  await startAll(store, copy('waits', waits({}), { job: 'other', ...unique('end') }));
  const { starts } = await startAll(store, newRun('x', { job: 'other', ...unique('end') }));
  equal(starts, [{ kind: 'exists', runId: 'waits', isUnique: true }], 'a start while a copy holds the key');
});

fact('F7: a copy of a run that is undoing is due', async ({ open }) => {
  const store = await open();
  await startAll(store, copy('r', { ...ended('failed'), undoing: true, dueAt: now }));
  equal(dueIds(await due(store)), ['r'], 'the due runs');
});
