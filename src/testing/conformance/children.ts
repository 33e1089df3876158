import type { RunRow } from '../../store/rows.js';
import type { Store } from '../../store/store.js';
import {
  awaitEnds,
  cancel,
  caseGroup,
  claim,
  claimed,
  commit,
  dispatch,
  due,
  dueIds,
  end,
  ended,
  load,
  now,
  openWait,
  rowOf,
  running,
  start,
  waiting,
} from './env.js';
import { equal, hostileStrings, range } from './kit.js';

const { cases, fact } = caseGroup('awaited runs');

/** The cases about awaiting the end of other runs (spec E12; rules S9, T3). */
export const children = cases;

/** What a wake-up by the end of another run leaves in a row. */
const marks = ({ woken, ended: gone, dueAt }: RunRow) => ({ woken, ended: gone && [...gone].sort(), dueAt });
export const marksOf = async (store: Store, runId = 'p') => marks(await rowOf(store, runId));

export const asleep = { woken: undefined, ended: undefined, dueAt: undefined };
export const wokenBy = (...runIds: string[]) => ({ woken: true, ended: runIds, dueAt: now });

fact('E12: a run is woken by the end of the run that it awaits', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p', 'c');
  const { ended: told } = await awaitEnds(store, 'p', 'c');
  const { awaits } = await rowOf(store, 'p');
  equal([told, awaits, await marksOf(store)], [[], ['c'], asleep], 'before the end');
  await end(store, 'c');
  equal(await marksOf(store), wokenBy('c'), 'after the end');
});

fact('E12: a run that awaits one which has ended is told at once', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p', 'c');
  await end(store, 'c');
  equal((await awaitEnds(store, 'p', 'c')).ended, ['c'], 'the outcome');
  equal(await marksOf(store), wokenBy('c'), 'the row');
});

fact('E12: a run that is not there counts as ended for who awaits it', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p');
  equal((await awaitEnds(store, 'p', 'nobody')).ended, ['nobody'], 'the outcome');
  equal(await marksOf(store), wokenBy('nobody'), 'the row');
});

fact('E12: whoever awaits a run is woken however it ends', async ({ open }) => {
  const store = await open();
  for (const status of ['completed', 'failed', 'cancelled'] as const) {
    await claimed(store, `p ${status}`, status);
    await awaitEnds(store, `p ${status}`, status);
    await end(store, status, status);
    equal(await marksOf(store, `p ${status}`), wokenBy(status), status);
  }
  await claimed(store, 'p', 'c');
  await awaitEnds(store, 'p', 'c');
  await cancel(store, 'c');
  equal(await marksOf(store), wokenBy('c'), 'cancelled from outside');
});

fact('E12: what is not the end of a run wakes nobody who awaits it', async ({ open }) => {
  const store = await open();
  await start(store, 'c');
  await claimed(store, 'p');
  await awaitEnds(store, 'p', 'c');
  await commit(store, { run: claim('c', 0) });
  await commit(store, { run: { runId: 'c', fence: 1, append: [], state: waiting([openWait()]) } });
  await dispatch(store, 'e');
  equal(await marksOf(store), asleep, 'the row');
});

fact('E12: the end of a run that nobody awaits wakes nobody', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p', 'c', 'other');
  await awaitEnds(store, 'p', 'c');
  await end(store, 'other');
  equal(await marksOf(store), asleep, 'the row');
});

fact('E12: the end of a run writes nothing into the journal of who awaits it', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p', 'c');
  await awaitEnds(store, 'p', 'c');
  const before = await load(store, 'p');
  await end(store, 'c');
  const { row, journal } = await load(store, 'p');
  equal([row.fence, row.length, journal], [1, before.row.length, before.journal], 'fence, length and journal');
});

fact(
  'E12: an end and the wait for it, at once from two contexts, never miss each other',
  async ({ open, openOther }) => {
    const [store, other] = [await open(), await openOther()];
    for (const index of range(30)) {
      const [p, c] = [`p${index}`, `c${index}`];
      await claimed(store, p, c);
      const acts = [() => awaitEnds(store, p, c), () => cancel(other, c)];
      await Promise.all((index % 2 ? acts : acts.reverse()).map((act) => act()));
      equal(await marksOf(store, p), wokenBy(c), `round ${index}`);
    }
  },
);

fact('E12: an end is told and keeps its run due until a commit no longer awaits it', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p', 'c');
  await awaitEnds(store, 'p', 'c');
  await end(store, 'c');
  for (const round of range(3)) {
    equal((await awaitEnds(store, 'p', 'c')).ended, ['c'], `the outcome of round ${round}`);
    equal(await marksOf(store), wokenBy('c'), `the row of round ${round}`);
  }
  const last = { runId: 'p', fence: 1, append: [], state: waiting([]) };
  equal((await commit(store, { run: last })).ended, [], 'the outcome of a commit that does not await it');
  equal(await marksOf(store), asleep, 'the row then');
});

fact('E12: an end outlives a claim and a takeover', async ({ open }) => {
  const store = await open();
  await start(store, 'p');
  await claimed(store, 'c');
  await commit(store, { run: claim('p', 0, 'a', { state: running('a', { awaits: ['c'] }) }) });
  await end(store, 'c');
  for (const [fence, owner] of [
    [1, 'a'],
    [2, 'b'],
  ] as const) {
    const run = claim('p', fence, owner, { state: running(owner, { awaits: ['c'] }) });
    equal((await commit(store, { run })).ended, ['c'], `the outcome for ${owner}`);
    equal(await marksOf(store), wokenBy('c'), `the row of ${owner}`);
  }
});

fact('E12: an end is there when the store is opened again', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p', 'c');
  await awaitEnds(store, 'p', 'c');
  await end(store, 'c');
  await store.close();
  const again = await open();
  equal(await marksOf(again), wokenBy('c'), 'the row');
  equal((await awaitEnds(again, 'p', 'c')).ended, ['c'], 'the outcome');
});

fact('E12: a run still awaits another when the store is opened again', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p', 'c');
  await awaitEnds(store, 'p', 'c');
  await store.close();
  const again = await open();
  await end(again, 'c');
  equal(await marksOf(again), wokenBy('c'), 'the row');
});

fact('E12: a confirmation of the fence tells of ends and changes nothing', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p', 'c');
  const confirm = () => commit(store, { run: { runId: 'p', fence: 1, append: [] } });
  await awaitEnds(store, 'p', 'c');
  equal((await confirm()).ended, [], 'the outcome before');
  await end(store, 'c');
  const before = await load(store, 'p');
  equal((await confirm()).ended, ['c'], 'the outcome after');
  equal(await load(store, 'p'), before, 'the run');
});

fact('E12: of several awaited runs each end is told, and withdrawn with its wait', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p', 'a', 'b', 'c');
  await awaitEnds(store, 'p', 'a', 'b', 'c');
  await end(store, 'b');
  equal(await marksOf(store), wokenBy('b'), 'after one');
  await end(store, 'a');
  equal(await marksOf(store), wokenBy('a', 'b'), 'after two');
  equal((await awaitEnds(store, 'p', 'a', 'c')).ended, ['a'], 'the outcome without the first');
  equal(await marksOf(store), wokenBy('a'), 'the row without the first');
  equal((await awaitEnds(store, 'p', 'c')).ended, [], 'the outcome without both');
  equal(await marksOf(store), asleep, 'the row without both');
  await end(store, 'c');
  equal(await marksOf(store), wokenBy('c'), 'after the third');
});

fact('E12: one end wakes every run that awaits it', async ({ open }) => {
  const store = await open();
  const runIds = range(10).map((index) => `p${index}`);
  await claimed(store, 'c', ...runIds);
  // Every other one has ended by then, though its last state still awaits the run.
  const isOver = (runId: string) => runIds.indexOf(runId) % 2 === 0;
  const state = { ...ended(), awaits: ['c'] };
  for (const runId of runIds)
    if (isOver(runId)) await commit(store, { run: { runId, fence: 1, append: [], state } });
    else await awaitEnds(store, runId, 'c');
  await end(store, 'c');
  for (const runId of runIds) equal(await marksOf(store, runId), isOver(runId) ? asleep : wokenBy('c'), runId);
});

fact('E12: an end makes a run due now, unless it was due already', async ({ open }) => {
  const store = await open();
  await claimed(store, 'later', 'overdue', 'c');
  const at = { later: now + 1000, overdue: now - 1000 };
  const awaiting = (runId: string, dueAt: number, awaits: readonly string[]) =>
    commit(store, { run: { runId, fence: 1, append: [], state: waiting([], { awaits, dueAt }) } });
  const instants = async () => [(await rowOf(store, 'later')).dueAt, (await rowOf(store, 'overdue')).dueAt];
  for (const [runId, dueAt] of Object.entries(at)) await awaiting(runId, dueAt, ['c']);
  await end(store, 'c');
  equal(await instants(), [now, now - 1000], 'the instants after the end');
  for (const [runId, dueAt] of Object.entries(at)) await awaiting(runId, dueAt, ['c']);
  equal(await instants(), [now, now - 1000], 'the instants while it is awaited');
  for (const [runId, dueAt] of Object.entries(at)) await awaiting(runId, dueAt, []);
  equal(await instants(), [now + 1000, now - 1000], 'the instants afterwards');
});

fact('E12: a run that was woken by an end is offered to the owner that runs it', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p', 'c');
  await commit(store, { run: { runId: 'p', fence: 1, append: [], state: running('a', { awaits: ['c'] }) } });
  equal(dueIds(await due(store)), [], 'the runs before');
  await end(store, 'c');
  equal(dueIds(await due(store)), ['p'], 'the runs after');
});

fact('E12: a run that has ended is not touched by the end of what it awaited', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p', 'before', 'after');
  await end(store, 'before');
  const state = { ...ended('failed'), awaits: ['before', 'after'] };
  equal((await commit(store, { run: { runId: 'p', fence: 1, append: [], state } })).ended, [], 'the outcome');
  equal(await marksOf(store), asleep, 'the row');
  const before = await load(store, 'p');
  await end(store, 'after');
  equal(await load(store, 'p'), before, 'the run');
});

fact('E12: a run is not woken by the end of one that it awaits no more', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p', 'c');
  await awaitEnds(store, 'p', 'c');
  await awaitEnds(store, 'p');
  await end(store, 'c');
  equal(await marksOf(store), asleep, 'the row');
  equal((await awaitEnds(store, 'p', 'c')).ended, ['c'], 'the outcome of awaiting it again');
});

fact('E12: a run that ends again is told once', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p', 'c');
  await awaitEnds(store, 'p', 'c');
  await end(store, 'c', 'failed');
  await commit(store, { run: claim('c', 1) });
  await commit(store, { run: { runId: 'c', fence: 2, append: [], state: ended() } });
  equal(await marksOf(store), wokenBy('c'), 'the row');
});

fact('E12: a run that is taken up again has not ended for who has not noted its end yet', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p', 'q', 'other', 'over', 'c', 'd');
  await awaitEnds(store, 'p', 'c', 'd');
  await awaitEnds(store, 'q', 'c');
  await awaitEnds(store, 'other', 'd');
  for (const runId of ['c', 'd']) await end(store, runId, 'failed');
  const state = { ...ended(), awaits: ['c'] };
  await commit(store, { run: { runId: 'over', fence: 1, append: [], state } });
  await commit(store, { run: claim('c', 1) });
  const gone = async (runId: string) => (await rowOf(store, runId)).ended ?? [];
  equal([await gone('p'), await gone('q'), await gone('other')], [['d'], [], ['d']], 'the ends told');
  equal((await awaitEnds(store, 'p', 'c', 'd')).ended, ['d'], 'the outcome for one that awaits both');
  equal((await awaitEnds(store, 'q', 'c')).ended, [], 'the outcome for the other');
  equal(await marksOf(store, 'q'), asleep, 'the row of the other');
  await commit(store, { run: { runId: 'c', fence: 2, append: [], state: ended() } });
  equal([await marksOf(store), await marksOf(store, 'q')], [wokenBy('c', 'd'), wokenBy('c')], 'after the second end');
});

fact('E12: a run that counts as ended, comes and ends at last is told once', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p');
  await awaitEnds(store, 'p', 'c');
  await claimed(store, 'c');
  equal(await marksOf(store), wokenBy('c'), 'while it is under way');
  await end(store, 'c');
  equal(await marksOf(store), wokenBy('c'), 'after its end');
});

fact('E12: what a run writes after its end wakes nobody again', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p', 'c');
  await commit(store, { run: { runId: 'c', fence: 1, append: [], state: { ...ended('failed'), undoing: true } } });
  await awaitEnds(store, 'p', 'c');
  await awaitEnds(store, 'p');
  await end(store, 'c', 'failed');
  equal(await marksOf(store), asleep, 'the row');
});

fact('E12: runs with hostile ids are awaited like any other', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p', ...hostileStrings);
  equal((await awaitEnds(store, 'p', ...hostileStrings)).ended, [], 'the outcome before');
  for (const [index, runId] of hostileStrings.entries()) {
    await end(store, runId);
    equal(await marksOf(store), wokenBy(...hostileStrings.slice(0, index + 1).sort()), JSON.stringify(runId));
  }
});
