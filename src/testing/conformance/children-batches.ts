import { asleep, marksOf, wokenBy } from './children.js';
import {
  awaitEnds,
  caseGroup,
  claim,
  claimed,
  commit,
  end,
  ended,
  newEvent,
  newRun,
  openWait,
  refused,
  spoiled,
  start,
  waiting,
} from './env.js';
import { equal } from './kit.js';

const { cases, fact } = caseGroup('awaited runs in batches');

/** The cases about ends, starts and events in the batch of who awaits a run (spec E12; rules T1, S9). */
export const awaitingBatches = cases;

fact('E12: a run may await what its own batch starts', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p');
  const run = { runId: 'p', fence: 1, append: [], state: waiting([], { awaits: ['c'] }) };
  const { ended: told } = await commit(store, { run, starts: [newRun('c', { parentId: 'p' })] });
  equal([told, await marksOf(store)], [[], asleep], 'before the end');
  await commit(store, { run: claim('c', 0, 'a', { state: ended() }) });
  equal(await marksOf(store), wokenBy('c'), 'after the end');
});

fact('E12: what a batch awaits and does not get to start counts as ended', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p', 'gone');
  await start(store, 'other', { idempotencyKey: 'k' });
  await end(store, 'gone');
  const run = { runId: 'p', fence: 1, append: [], state: waiting([], { awaits: ['c', 'gone'] }) };
  const starts = [newRun('c', { parentId: 'p', idempotencyKey: 'k' }), newRun('gone', { parentId: 'p' })];
  const outcome = await commit(store, { run, starts });
  equal(
    outcome.starts.map(({ runId }) => runId),
    ['other', 'gone'],
    'the starts',
  );
  equal([outcome.ended, await marksOf(store)], [['c', 'gone'], wokenBy('c', 'gone')], 'the ends');
});

fact('E12: an end and an event of one batch both wake the run that awaits both', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p', 'c');
  const state = waiting([openWait()], { awaits: ['c'] });
  await commit(store, { run: { runId: 'p', fence: 1, append: [], state } });
  const { events } = await commit(store, {
    run: { runId: 'c', fence: 1, append: [], state: ended() },
    events: [newEvent('e')],
  });
  equal([events[0]?.resumed, await marksOf(store)], [['p'], wokenBy('c')], 'the wake-up');
  const { offers, ended: told } = await commit(store, { run: { runId: 'p', fence: 1, append: [], state } });
  equal([offers.map(({ id }) => id), told], [['e'], ['c']], 'what the owner is told');
});

fact('E12: an event does not undo that its run was told of an end in the same batch', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p');
  const state = waiting([openWait()], { awaits: ['nobody'] });
  const run = { runId: 'p', fence: 1, append: [], state };
  const { events } = await commit(store, { run, events: [newEvent('e')] });
  equal([events[0]?.resumed, await marksOf(store)], [['p'], wokenBy('nobody')], 'the wake-up');
});

fact('T1: an end that is refused wakes nobody', async ({ open }) => {
  const store = await open();
  await claimed(store, 'p', 'c');
  await awaitEnds(store, 'p', 'c');
  await refused(store, { run: { runId: 'c', fence: 1, append: [], state: ended() }, ...spoiled }, 'refused');
  equal(await marksOf(store), asleep, 'the row');
});
