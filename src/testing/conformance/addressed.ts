import {
  caseGroup,
  claim,
  claimed,
  commit,
  dispatch,
  ended,
  ids,
  newEvent,
  newRun,
  openWait,
  refused,
  rowOf,
  start,
  wait,
} from './env.js';
import { equal, hostileStrings } from './kit.js';

const { cases, fact } = caseGroup('addressed events');

/** The cases about events for one run (spec E4). */
export const addressed = cases;

fact('an addressed event wakes that run alone', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r', 'other');
  for (const runId of ['r', 'other']) await wait(store, runId, openWait());
  equal((await dispatch(store, 'e', { runId: 'r' })).resumed, ['r'], 'the runs told');
  equal((await rowOf(store, 'other')).woken, undefined, 'whether the other was woken');
});

fact('an addressed event is offered to that run alone', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r', 'other');
  await dispatch(store, 'e', { runId: 'r' });
  equal(ids(await wait(store, 'other', openWait())), [], 'what the other is offered');
  equal(ids(await wait(store, 'r', openWait())), ['e'], 'what it is offered');
});

fact('the name and the key of an addressed event must still match', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await wait(store, 'r', openWait({ key: 'k' }));
  equal((await dispatch(store, 'e', { runId: 'r' })).resumed, [], 'without a key');
  equal((await dispatch(store, 'f', { runId: 'r', key: 'l' })).resumed, [], 'with another key');
  equal((await dispatch(store, 'g', { runId: 'r', key: 'k', name: 'other' })).resumed, [], 'with another name');
});

fact('an event for a run that is not there is refused and not kept', async ({ open }) => {
  const store = await open();
  for (const runId of ['nobody', '__proto__', '../x']) {
    const outcome = await refused(store, { events: [newEvent('e', { runId })] }, 'refused');
    equal(outcome, { kind: 'refused', code: 'RUN_NOT_FOUND', index: 0 }, 'the outcome');
  }
  equal((await dispatch(store, 'e')).kind, 'accepted', 'a later event of that id');
});

fact('an event for a run that has ended is refused and not kept', async ({ open }) => {
  const store = await open();
  for (const status of ['completed', 'failed', 'cancelled'] as const) {
    await start(store, status);
    await commit(store, { run: claim(status, 0, 'a', { state: ended(status) }) });
    const outcome = await refused(store, { events: [newEvent('e', { runId: status })] }, 'refused');
    equal(outcome, { kind: 'refused', code: 'RUN_NOT_FOUND', index: 0 }, 'the outcome');
  }
  equal((await dispatch(store, 'e')).kind, 'accepted', 'a later event of that id');
});

fact(
  'E4: an event that has not gone through the plug-in that has written a run is not for that run, nor the other way round',
  async ({ open }) => {
    const store = await open();
    const sealed = 'stepfast:sealed:';
    await commit(store, { starts: [newRun('sealed', { job: `${sealed}job` }), newRun('plain')] });
    for (const [runId, name] of [
      ['sealed', 'event'],
      ['plain', `${sealed}event`],
    ] as const) {
      const outcome = await refused(store, { events: [newEvent('e', { runId, name })] }, 'refused');
      equal(outcome, { kind: 'refused', code: 'RUN_NOT_FOUND', index: 0 }, `the outcome for the ${runId} one`);
    }
    for (const [runId, name] of [
      ['sealed', `${sealed}event`],
      ['plain', 'event'],
    ] as const)
      equal((await dispatch(store, runId, { runId, name })).kind, 'accepted', `its own event for the ${runId} one`);
  },
);

fact(
  'a repeat of an addressed event is recognised when its run has ended since, and told for whom it was',
  async ({ open }) => {
    const store = await open();
    await claimed(store, 'r');
    const first = await dispatch(store, 'e', { runId: 'r', idempotencyKey: 'i' });
    await commit(store, { run: { runId: 'r', fence: 1, append: [], state: ended() } });
    const expected = { ...first, kind: 'deduplicated', payload: 'e', runId: 'r' };
    equal(await dispatch(store, 'e', { runId: 'r' }), expected, 'the receipt');
    equal(await dispatch(store, 'f', { runId: 's', idempotencyKey: 'i' }), expected, 'the receipt by key');
  },
);

fact('hostile strings are names, keys and ids of events like any other', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  for (const text of hostileStrings)
    await dispatch(store, text, { name: text, key: text, idempotencyKey: text, payload: text });
  const waits = hostileStrings.map((text) => openWait({ id: [text, 1], events: [text], key: text }));
  const offers = await wait(store, 'r', ...waits);
  const found = offers.map(({ id, name, key, idempotencyKey, payload }) => [id, name, key, idempotencyKey, payload]);
  equal(
    found,
    hostileStrings.map((text) => [text, text, text, text, text]),
    'the events',
  );
});
