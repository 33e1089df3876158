import type { RunState } from '../../store/rows.js';
import type { Store } from '../../store/store.js';
import {
  cancel,
  caseGroup,
  claim,
  claimed,
  commit,
  due,
  dueIds,
  end,
  ended,
  leaseMs,
  now,
  rowOf,
  running,
  start,
} from './env.js';
import { equal, eventually } from './kit.js';

const { cases, fact } = caseGroup('runs to be undone');

/** The cases about runs that have ended and have steps to undo (spec F7). */
export const undoings = cases;

const undoing = (over: Partial<RunState> = {}): RunState => ({ ...ended('cancelled'), undoing: true, ...over });

fact('F7: a run with steps to undo is undoing and due once it is cancelled from outside', async ({ open }) => {
  const store = await open();
  for (const runId of ['undoable', 'other']) {
    await start(store, runId);
    const state = running('a', runId === 'undoable' ? { undoable: true } : {});
    await commit(store, { run: claim(runId, 0, 'a', { state }) });
    await cancel(store, runId);
  }
  const { status, undoing: isUndoing, dueAt, endedAt } = await rowOf(store, 'undoable');
  equal([status, isUndoing, dueAt, endedAt], ['cancelled', true, now, now], 'the row');
  const other = await rowOf(store, 'other');
  equal([other.undoing, other.dueAt], [undefined, undefined], 'the row of the one with nothing to undo');
  equal(dueIds(await due(store)), ['undoable'], 'the due runs');
});

fact('F7: a child with steps to undo is undoing and due once it is cancelled with its parent', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p');
  await start(store, 'c', { parentId: 'p' });
  await commit(store, { run: claim('c', 0, 'a', { state: running('a', { undoable: true }) }) });
  await cancel(store, 'p');
  const { status, undoing: isUndoing, dueAt } = await rowOf(store, 'c');
  equal([status, isUndoing, dueAt], ['cancelled', true, now], 'the row');
  equal(dueIds(await due(store)), ['c'], 'the due runs');
});

fact('F7: a run that its own owner ends is undoing only where the owner says so', async ({ open }) => {
  const store = await open();
  await start(store, 'r');
  await commit(store, { run: claim('r', 0, 'a', { state: running('a', { undoable: true }) }) });
  await end(store, 'r', 'cancelled');
  const { undoing: isUndoing, dueAt } = await rowOf(store, 'r');
  equal([isUndoing, dueAt], [undefined, undefined], 'the row');
});

fact('F7: a change from outside that does not end a run leaves nothing to undo', async ({ open }) => {
  const store = await open();
  await start(store, 'r');
  await commit(store, { run: claim('r', 0, 'a', { state: running('a', { undoable: true }) }) });
  const state: RunState = { status: 'queued', version: 1, waits: [], dueAt: now + 3 };
  await commit(store, { run: { runId: 'r', fence: 'any', append: [], state } });
  const { undoing: isUndoing, dueAt } = await rowOf(store, 'r');
  equal([isUndoing, dueAt], [undefined, now + 3], 'the row');
});

fact('F7: an ended run that is undoing is claimed, left to its owner, and done at last', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await commit(store, { run: { runId: 'r', fence: 1, append: [], state: undoing({ dueAt: now }) } });
  equal(
    (await due(store)).runs.map(({ row, interrupted }) => [row.runId, interrupted]),
    [['r', false]],
    'the due runs',
  );
  await commit(store, { run: claim('r', 1, 'a', { state: undoing({ dueAt: now, owner: 'a' }) }) });
  equal(await due(store), { runs: [], foreign: false }, 'the page while its owner is at work');
  await commit(store, { run: { runId: 'r', fence: 2, append: [], state: undoing({ dueAt: now + 9, owner: 'a' }) } });
  equal((await due(store)).nextDueAt, now + 9, 'the instant of the next attempt');
  await commit(store, { run: { runId: 'r', fence: 2, append: [], state: ended('cancelled') } });
  const { undoing: isUndoing, status, endedAt } = await rowOf(store, 'r');
  equal([isUndoing, status, endedAt], [undefined, 'cancelled', now], 'the row');
});

fact(
  'F9: a run that is cancelled while its living owner is at work is left to it for a while, with its children, then to whoever can',
  async ({ open, openOther }) => {
    const [store, other] = [await open(), await openOther()];
    const state = running('a', { undoable: true });
    await start(store, 'p');
    await start(store, 'c', { parentId: 'p' });
    for (const runId of ['p', 'c']) await commit(store, { run: claim(runId, 0, 'a', { state }) });
    await cancel(other, 'p');
    const asked = async (from: Store, owner: string, at: number) =>
      (await due(from, { owner, now: at })).runs.map(({ row, interrupted }) => [row.runId, interrupted]);
    equal(await asked(other, 'b', now), [], 'what another is offered at once');
    equal((await asked(store, 'a', now)).length, 2, 'what the owner is offered at once');
    equal(
      (await asked(other, 'b', now + 60_000)).sort(),
      [
        ['c', false],
        ['p', false],
      ],
      'what another is offered later',
    );
  },
  { owners: 'many' },
);

fact(
  'F7: an ended run that a living owner is undoing is not offered to another',
  async ({ open, openOther }) => {
    const [store, other] = [await open(), await openOther()];
    await claimed(store, 'r');
    const state = undoing({ dueAt: now, owner: 'a' });
    await commit(store, { run: { runId: 'r', fence: 1, append: [], state } });
    equal(await due(other, { owner: 'b', now: now + 9_000 }), { runs: [], foreign: true }, 'the page');
  },
  { owners: 'many' },
);

fact(
  'F7: an ended run that a crashed owner was undoing is interrupted',
  async ({ open }) => {
    const store = await open('drive', 'a');
    await claimed(store, 'r');
    const state = undoing({ dueAt: now, owner: 'a' });
    await commit(store, { run: { runId: 'r', fence: 1, append: [], state } });
    store.abandon!();
    const at = now + 10 * leaseMs;
    const next = await open('drive', 'b', { now: at });
    const look = async () => (await due(next, { owner: 'b', now: at })).runs[0];
    const found = await eventually(look, 'the run is offered');
    equal([found.row.runId, found.interrupted], ['r', true], 'the run');
  },
  { abandons: true },
);

fact('F7: an ended run that is undoing is still so when the store is opened again', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await commit(store, { run: { runId: 'r', fence: 1, append: [], state: undoing({ dueAt: now }) } });
  await store.close();
  const again = await open();
  equal(dueIds(await due(again)), ['r'], 'the due runs');
  equal((await rowOf(again, 'r')).undoing, true, 'the mark');
});
