import type { Batch, Deletion, NewRun } from '../../store/batch.js';
import type { Store } from '../../store/store.js';
import {
  awaitEnds,
  caseGroup,
  claim,
  claimed,
  commit,
  deletion,
  dispatch,
  due,
  end,
  ended,
  eventsOf,
  ids,
  load,
  newEvent,
  newRun,
  now,
  openWait,
  over,
  refused,
  remove,
  rowOf,
  running,
  spoiled,
  start,
  started,
  stepped,
  take,
  wait,
} from './env.js';
import { equal, hostileStrings, range } from './kit.js';

const { cases, fact } = caseGroup('deletions');

/** The cases about deleting runs that have ended, and about what is left of them (spec Q6). */
export const deletions = cases;

const startOutcome = async (store: Store, runId: string, given: Partial<NewRun> = {}, at = now) =>
  (await commit(store, { now: at, starts: [newRun(runId, given)] })).starts[0]!;

const listed = async (store: Store) => (await store.list({ limit: 999 })).runs.map(({ row }) => row.runId);

/** Commits deletions that must be refused, with other parts, and looks for anything that they left behind. */
async function leavesAll(store: Store, deletes: readonly Deletion[], fence: number): Promise<void> {
  const runs = () => store.list({ limit: 999 });
  const before = structuredClone(await runs());
  const name = `with ${JSON.stringify(deletes)}`;
  const parts: Partial<Batch> = {
    state: [{ kind: 'set', key: 'k', value: 1 }],
    starts: [newRun('new')],
    events: [newEvent('new', { name })],
  };
  equal(await refused(store, { ...parts, deletes }, 'fenced'), { kind: 'fenced', fence }, 'the outcome');
  equal(await runs(), before, 'the runs');
  equal(await store.state('k'), undefined, 'the state');
  equal(ids(await eventsOf(store, name)), [], 'the events');
}

fact('Q6: a deleted run is neither loaded nor listed any more', async ({ open, openOther }) => {
  const [store, other] = [await open(), await openOther()];
  await over(store, 'a', 'b', 'c');
  await remove(store, 'b');
  for (const each of [store, other]) {
    equal(await each.load('b'), undefined, 'the run');
    equal(await listed(each), ['c', 'a'], 'the list');
  }
  equal((await store.list({ status: 'completed', limit: 9 })).runs.length, 2, 'the number of completed runs');
  await store.close();
  const again = await open();
  equal([await again.load('b'), await listed(again)], [undefined, ['c', 'a']], 'when the store is opened again');
});

fact('Q6: several runs are deleted in one batch', async ({ open }) => {
  const store = await open();
  const runIds = range(20).map((index) => `r${index}`);
  await over(store, ...runIds);
  await remove(store, ...runIds.slice(1));
  equal(await listed(store), ['r0'], 'the list');
});

fact('Q6: a run that is not there is not deleted', async ({ open }) => {
  const store = await open();
  await over(store, 'r');
  await leavesAll(store, [deletion('r'), deletion('nobody')], 0);
});

fact('Q6: a run that has not ended is not deleted', async ({ open }) => {
  const store = await open();
  await over(store, 'over');
  await start(store, 'queued');
  await claimed(store, 'running', 'waiting');
  await wait(store, 'waiting', openWait({ key: 'k' }));
  for (const [runId, fence] of [
    ['queued', 0],
    ['running', 1],
    ['waiting', 1],
  ] as const)
    await leavesAll(store, [deletion('over'), deletion(runId, fence)], fence);
});

fact('Q6: a run that is undoing is not deleted', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await commit(store, { run: { runId: 'r', fence: 1, append: [], state: { ...ended('failed'), undoing: true } } });
  await leavesAll(store, [deletion('r')], 1);
  await end(store, 'r', 'failed');
  await remove(store, 'r');
});

fact('Q6: a run that was changed since it was looked at is not deleted', async ({ open }) => {
  const store = await open();
  await over(store, 'r');
  for (const fence of [0, 2]) await leavesAll(store, [deletion('r', fence)], 1);
  await commit(store, { run: claim('r', 1) });
  await refused(store, { deletes: [deletion('r')] }, 'fenced');
  await refused(store, { deletes: [deletion('r', 2)] }, 'fenced');
  equal((await rowOf(store, 'r')).status, 'running', 'the status');
});

fact('Q6: of a deletion and a claim at once exactly one wins', async ({ open, openOther }) => {
  const [store, other] = [await open(), await openOther()];
  for (const index of range(16)) {
    const runId = `r${index}`;
    await over(store, runId);
    const acts = [
      () => store.commit({ now, run: claim(runId, 1) }),
      () => other.commit({ now, deletes: [deletion(runId)] }),
    ];
    const outcomes = await Promise.all((index % 2 ? acts : acts.reverse()).map((act) => act()));
    equal(outcomes.filter(({ kind }) => kind === 'committed').length, 1, `the winners of round ${index}`);
  }
});

fact('Q6: a run is deleted in the same batch as other parts', async ({ open }) => {
  const store = await open();
  await over(store, 'gone');
  await claimed(store, 'r');
  const run = { runId: 'r', fence: 1, append: [stepped('s')], state: running() };
  await commit(store, {
    run,
    state: [{ kind: 'set', key: 'k', value: 1 }],
    starts: [newRun('new')],
    events: [newEvent('e')],
    deletes: [deletion('gone')],
  });
  equal(await listed(store), ['new', 'r'], 'the list');
  equal([(await load(store, 'r')).journal.length, (await store.state('k'))?.value], [3, 1], 'the other parts');
  equal(ids(await eventsOf(store)), ['e'], 'the events');
});

fact('Q6: a run may be deleted in the batch that ends it', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const run = { runId: 'r', fence: 1, append: [], state: ended() };
  await commit(store, { run, deletes: [deletion('r')] });
  equal(await store.load('r'), undefined, 'the run');
});

fact('Q6: a deletion in a batch that is refused deletes nothing', async ({ open }) => {
  const store = await open();
  await over(store, newRun('r', { keyUntil: now + 100 }));
  const before = await load(store, 'r');
  await refused(store, { deletes: [deletion('r')], ...spoiled }, 'refused');
  equal(await load(store, 'r'), before, 'the run');
  equal(await startOutcome(store, 'r'), { kind: 'exists', runId: 'r' }, 'the outcome of a start with its id');
});

fact('Q6: a run that was deleted is due no more, and nothing of it is changed', async ({ open }) => {
  const store = await open();
  await over(store, 'r');
  await remove(store, 'r');
  equal(await due(store, { now: now + 1e9 }), { runs: [], foreign: false }, 'what is due');
  for (const fence of [1, 2, 'any'] as const)
    equal(
      await refused(store, { run: { ...claim('r', 1), fence } }, 'fenced'),
      { kind: 'fenced', fence: 0 },
      `a change with fence ${fence}`,
    );
  equal(await refused(store, { deletes: [deletion('r')] }, 'fenced'), { kind: 'fenced', fence: 0 }, 'a deletion');
  const events = [newEvent('e', { runId: 'r' })];
  equal(
    await refused(store, { events }, 'refused'),
    { kind: 'refused', code: 'RUN_NOT_FOUND', index: 0 },
    'an event for it',
  );
});

fact('Q6: a run is deleted with all of a long journal', async ({ open }) => {
  const store = await open();
  const entries = range(600).map((index) => stepped(`s${index}`, index));
  await claimed(store, 'r');
  for (const at of range(3))
    await commit(store, {
      run: { runId: 'r', fence: 1, append: entries.slice(at * 200, at * 200 + 200), state: running() },
    });
  await end(store, 'r');
  await remove(store, 'r');
  await start(store, 'r');
  await store.close();
  equal((await load(await open(), 'r')).journal, [started()], 'the journal of the next run of that id');
});

fact('Q6: an event that a deleted run has taken stays taken, and stays', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r', 'other');
  const { seq } = await dispatch(store, 'e');
  await commit(store, { run: take('r', seq) });
  await end(store, 'r');
  await remove(store, 'r');
  equal(
    (await wait(store, 'other', openWait())).map(({ id, taken }) => [id, taken]),
    [['e', true]],
    'the event',
  );
  equal((await dispatch(store, 'e')).kind, 'deduplicated', 'the event once more');
});

fact('Q6: children of a deleted run are runs like any other', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p');
  await start(store, 'c', { parentId: 'p' });
  await end(store, 'p');
  await remove(store, 'p');
  equal((await rowOf(store, 'c')).parentId, 'p', 'the parent that the row names');
  await over(store, 'other');
  await commit(store, { run: claim('c', 0, 'a', { state: ended() }) });
  await remove(store, 'c');
  equal(await listed(store), ['other'], 'the list');
});

fact('Q6: a deleted run is not met by what looks for others', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p', 'c');
  await start(store, 'r', { parentId: 'p' });
  // More than a run that has ended should still say, so that every look-up could find it.
  const state = { ...ended(), awaits: ['c'], waits: [openWait()], slot: 'queue', dueAt: now };
  await commit(store, { run: claim('r', 0, 'a', { state }) });
  await remove(store, 'r');
  await end(store, 'c');
  await end(store, 'p', 'cancelled');
  equal((await dispatch(store, 'e')).resumed, [], 'the runs that an event resumes');
  equal(await due(store), { runs: [], foreign: false }, 'what is due');
  await start(store, 'next');
  await commit(store, { run: claim('next', 0, 'a', { state: running('a', { slot: 'queue' }), concurrency: 1 }) });
  equal(await store.load('r'), undefined, 'the run');
});

fact('Q6, E12: a run is not deleted before who awaits it has read how it ended', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p', 'c');
  await awaitEnds(store, 'p', 'c');
  await end(store, 'c');
  await refused(store, { deletes: [deletion('c')] }, 'fenced');
  equal((await awaitEnds(store, 'p', 'c')).ended, ['c'], 'the outcome of the next commit');
  await refused(store, { deletes: [deletion('c')] }, 'fenced');
  await awaitEnds(store, 'p');
  await remove(store, 'c');
  equal(await listed(store), ['p'], 'the list');
});

fact('Q6: who awaited a run and has ended itself does not keep it', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p', 'c');
  await awaitEnds(store, 'p', 'c');
  await end(store, 'p');
  await end(store, 'c');
  await remove(store, 'c');
  equal(await listed(store), ['p'], 'the list');
});

fact('Q6: runs with hostile ids and keys are deleted and remembered like any other', async ({ open }) => {
  const store = await open();
  const runs = hostileStrings.map((text) => newRun(text, { idempotencyKey: text, keyUntil: now + 100 }));
  await over(store, ...runs, 'stays');
  for (const runId of hostileStrings) await remove(store, runId);
  equal(await listed(store), ['stays'], 'the list');
  for (const text of hostileStrings) {
    const known = { kind: 'exists', runId: text, fingerprint: `of ${text}` };
    equal(await startOutcome(store, text), known, `the id ${JSON.stringify(text)}`);
    equal(await startOutcome(store, 'another id', { idempotencyKey: text }), known, `the key ${JSON.stringify(text)}`);
  }
});

fact(
  'Q6: a run that was deleted before a crash is gone after it',
  async ({ open }) => {
    const store = await open('drive', 'a');
    await over(store, 'r', 'stays');
    await remove(store, 'r');
    store.abandon!();
    const again = await open('drive', 'b');
    equal([await again.load('r'), await listed(again)], [undefined, ['stays']], 'the runs');
  },
  { abandons: true },
);
