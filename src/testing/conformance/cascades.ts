import type { RunState } from '../../store/rows.js';
import type { Store } from '../../store/store.js';
import {
  awaitEnds,
  cancel,
  cancelling,
  caseGroup,
  claim,
  claimed,
  commit,
  dispatch,
  due,
  end,
  ended,
  load,
  newEvent,
  newRun,
  now,
  openWait,
  refused,
  rowOf,
  running,
  spoiled,
  start,
  started,
  waiting,
} from './env.js';
import { equal, hostileStrings, range } from './kit.js';

const { cases, fact } = caseGroup('cancelled with their parent');

/** The cases about children of a cancelled run (spec F9; rule T3). */
export const cascades = cases;

/** Starts a run for each pair of an id and the id of its parent, and claims it: its fence is 1 then. */
async function family(store: Store, pairs: readonly (readonly [runId: string, parentId: string])[]): Promise<void> {
  for (const [runId, parentId] of pairs) {
    await start(store, runId, { parentId });
    await commit(store, { run: claim(runId, 0) });
  }
}

const statuses = (store: Store, ...runIds: string[]) =>
  Promise.all(runIds.map(async (runId) => (await rowOf(store, runId)).status));

const undoing = (over: Partial<RunState> = {}): RunState => ({ ...ended('cancelled'), undoing: true, ...over });

fact('F9: the children of a cancelled run are cancelled in the same commit, over two levels', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p', 'other');
  await family(store, [
    ['c', 'p'],
    ['d', 'p'],
    ['g', 'c'],
    ['o', 'other'],
  ]);
  await cancel(store, 'p');
  equal(
    await statuses(store, 'p', 'c', 'd', 'g', 'other', 'o'),
    ['cancelled', 'cancelled', 'cancelled', 'cancelled', 'running', 'running'],
    'the statuses',
  );
});

fact('F9: a child that is cancelled with its parent has a last entry, a raised fence and an end', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p');
  await start(store, 'c', { parentId: 'p', tags: ['t'], version: 3 });
  const over = { waits: [openWait()], awaits: ['p'], slot: 'queue', version: 3, startedAt: now - 7 };
  await commit(store, { run: claim('c', 0, 'a', { state: running('a', { ...over, unsettled: true }) }) });
  const at = now + 5;
  await commit(store, { now: at, run: { ...cancelling('p'), state: { ...ended('cancelled'), endedAt: at } } });
  const { row, journal } = await load(store, 'c');
  equal(journal.slice(2), [{ kind: 'cancelled', at }], 'the entries after the claim');
  const { status, fence, length, endedAt, startedAt, version, tags, parentId } = row;
  equal(
    { status, fence, length, endedAt, startedAt, version, tags, parentId },
    {
      status: 'cancelled',
      fence: 2,
      length: 3,
      endedAt: at,
      startedAt: now - 7,
      version: 3,
      tags: ['t'],
      parentId: 'p',
    },
    'what the row says',
  );
  const gone = ['owner', 'dueAt', 'slot', 'awaits', 'unsettled', 'undoing', 'woken', 'ended'] as const;
  equal([row.waits, gone.filter((field) => row[field] !== undefined)], [[], []], 'what is left of the state');
});

fact(
  'F9: a child that has ended is not touched when its parent is cancelled, nor is what is below it',
  async ({ open }) => {
    const store = await open();
    await claimed(store, 'p');
    await family(store, [
      ['completed', 'p'],
      ['failed', 'p'],
      ['undoing', 'p'],
      ['under way', 'p'],
      ['below', 'completed'],
    ]);
    await end(store, 'completed');
    await end(store, 'failed', 'failed');
    await commit(store, { run: { runId: 'undoing', fence: 1, append: [], state: undoing({ dueAt: now }) } });
    await commit(store, { run: { runId: 'under way', fence: 1, append: [], state: running() } });
    const runIds = ['completed', 'failed', 'undoing', 'below'];
    const runs = () => Promise.all(runIds.map((runId) => load(store, runId)));
    const before = await runs();
    await cancel(store, 'p');
    equal(await runs(), before, 'the runs');
    equal(await statuses(store, 'under way'), ['cancelled'], 'the status of the one that had not ended');
  },
);

fact('F9: an owner that ends its run as cancelled ends its children, any other end leaves them', async ({ open }) => {
  const store = await open();
  for (const status of ['completed', 'failed', 'cancelled'] as const) {
    await claimed(store, status);
    await family(store, [[`child of ${status}`, status]]);
    await end(store, status, status);
  }
  equal(
    await statuses(store, 'child of completed', 'child of failed', 'child of cancelled'),
    ['running', 'running', 'cancelled'],
    'the statuses',
  );
});

fact('F9: a queued, a scheduled and a waiting child are cancelled with their parent', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p');
  await start(store, 'queued', { parentId: 'p' });
  await start(store, 'scheduled', { parentId: 'p', dueAt: now + 100 });
  await family(store, [['waiting', 'p']]);
  await commit(store, { run: { runId: 'waiting', fence: 1, append: [], state: waiting([openWait()]) } });
  await cancel(store, 'p');
  equal(
    await statuses(store, 'queued', 'scheduled', 'waiting'),
    range(3).map(() => 'cancelled'),
    'the statuses',
  );
  equal(await due(store, { now: now + 1e9 }), { runs: [], foreign: false }, 'what is due');
  equal((await dispatch(store, 'e')).resumed, [], 'the runs that an event resumes');
  equal((await store.list({ status: 'cancelled', limit: 9 })).runs.length, 4, 'the number of cancelled runs listed');
});

fact('F9: the owner of a child that was cancelled with its parent is fenced', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p');
  await family(store, [['c', 'p']]);
  await cancel(store, 'p');
  const late = { runId: 'c', fence: 1, append: [], state: running() };
  equal(await refused(store, { run: late }, 'fenced'), { kind: 'fenced', fence: 2 }, 'the outcome');
});

fact('F9: a child that is cancelled with its parent gives its slot back', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p');
  await start(store, 'c', { parentId: 'p' });
  await start(store, 'next');
  const takes = (runId: string) => claim(runId, 0, 'a', { state: running('a', { slot: 'queue' }), concurrency: 1 });
  await commit(store, { run: takes('c') });
  await cancel(store, 'p');
  await commit(store, { run: takes('next') });
});

fact('F9: whoever awaits a run that is cancelled with its parent is woken', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p', 'awaits');
  await family(store, [
    ['c', 'p'],
    ['g', 'c'],
  ]);
  await awaitEnds(store, 'awaits', 'c', 'g');
  await cancel(store, 'p');
  const { woken, ended: gone, dueAt } = await rowOf(store, 'awaits');
  equal([woken, [...(gone ?? [])].sort(), dueAt], [true, ['c', 'g'], now], 'the row');
});

fact('F9: a run that is cancelled with its parent is not woken by the end of its own children', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p');
  await family(store, [
    ['c', 'p'],
    ['g', 'c'],
  ]);
  await awaitEnds(store, 'p', 'c');
  await awaitEnds(store, 'c', 'g');
  await cancel(store, 'p');
  for (const runId of ['p', 'c']) {
    const { woken, ended: gone, dueAt } = await rowOf(store, runId);
    equal([woken, gone, dueAt], [undefined, undefined, undefined], runId);
  }
});

fact('F9: a child that was started in the same batch as a change of its parent is its child', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p');
  const run = { runId: 'p', fence: 1, append: [], state: waiting([]) };
  await commit(store, { run, starts: [newRun('c', { parentId: 'p' }), newRun('g', { parentId: 'c' })] });
  await cancel(store, 'p');
  equal(await statuses(store, 'c', 'g'), ['cancelled', 'cancelled'], 'the statuses');
});

fact('F9: a run is still the child of another when the store is opened again', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p');
  await family(store, [['c', 'p']]);
  await store.close();
  const again = await open();
  await cancel(again, 'p');
  const { row, journal } = await load(again, 'c');
  equal([row.status, journal.length, journal[0]], ['cancelled', 3, started()], 'the child');
});

fact('F9: a hundred children are cancelled with their parent', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p');
  const runIds = range(100).map((index) => `c${index}`);
  await commit(store, { starts: runIds.map((runId) => newRun(runId, { parentId: 'p' })) });
  await cancel(store, 'p');
  equal(
    await statuses(store, ...runIds),
    runIds.map(() => 'cancelled'),
    'the statuses',
  );
});

fact('T1: a cancel that is refused leaves the children as they were', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p');
  await family(store, [['c', 'p']]);
  const before = await load(store, 'c');
  await refused(store, { run: cancelling('p'), ...spoiled }, 'refused');
  equal(await load(store, 'c'), before, 'the child');
});

fact('T1: an event may not address a child that its batch cancels', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p');
  await family(store, [['c', 'p']]);
  const events = [newEvent('e', { runId: 'c' })];
  const outcome = await refused(store, { run: cancelling('p'), events }, 'refused');
  equal(outcome, { kind: 'refused', code: 'RUN_NOT_FOUND', index: 0 }, 'the outcome');
});

fact(
  'F9: of a cancel of the parent and commits of the child, at once, no half is seen',
  async ({ open, openOther }) => {
    const [store, other] = [await open(), await openOther()];
    for (const index of range(10)) {
      const [p, c] = [`p${index}`, `c${index}`];
      await claimed(store, p);
      await family(store, [[c, p]]);
      const acts = [
        () => store.commit({ now, run: { runId: c, fence: 1, append: [], state: ended() } }),
        () => other.commit({ now, run: cancelling(p) }),
      ];
      await Promise.all((index % 2 ? acts : acts.reverse()).map((act) => act()));
      const { row, journal } = await load(store, c);
      equal([row.length, row.endedAt], [journal.length, now], `the child of round ${index}`);
      equal(journal.length, row.status === 'cancelled' ? 3 : 2, `the length of round ${index}`);
      equal((await rowOf(store, p)).status, 'cancelled', `the parent of round ${index}`);
    }
  },
);

fact('F9: runs with hostile ids have children like any other', async ({ open }) => {
  const store = await open();
  await commit(store, { starts: hostileStrings.map((runId) => newRun(runId)) });
  await commit(store, { starts: hostileStrings.map((parentId, index) => newRun(`child ${index}`, { parentId })) });
  for (const [index, runId] of hostileStrings.entries()) {
    await cancel(store, runId);
    equal((await rowOf(store, `child ${index}`)).status, 'cancelled', JSON.stringify(runId));
    const next = await store.load(`child ${index + 1}`);
    equal(next?.row.status ?? 'queued', 'queued', `the next child after ${JSON.stringify(runId)}`);
  }
});
