import type { RunChange } from '../../store/batch.js';
import {
  caseGroup,
  claim,
  claimed,
  commit,
  due,
  dueIds,
  ended,
  load,
  now,
  openWait,
  refused,
  rowOf,
  running,
  start,
  waiting,
} from './env.js';
import { equal, range } from './kit.js';

const { cases, fact } = caseGroup('slots');

/** The cases about how many runs of a queue are under way (spec Q2). */
export const slots = cases;

const takes = (runId: string, concurrency: number, slot = 'queue'): RunChange =>
  claim(runId, 0, 'a', { state: running('a', { slot }), concurrency });

fact('a claim beyond the concurrency of its queue is refused and changes nothing', async ({ open }) => {
  const store = await open();
  for (const runId of ['a', 'b', 'c']) await start(store, runId);
  for (const runId of ['a', 'b']) await commit(store, { run: takes(runId, 2) });
  const before = await load(store, 'c');
  equal(await refused(store, { run: takes('c', 2) }, 'no-slot'), { kind: 'no-slot' }, 'the outcome');
  equal(await load(store, 'c'), before, 'the run');
});

fact('a run does not count its own slot', async ({ open }) => {
  const store = await open();
  await start(store, 'r');
  await commit(store, { run: takes('r', 1) });
  const again = { ...takes('r', 1), fence: 1 };
  equal((await commit(store, { run: again })).fence, 2, 'the fence');
});

fact('a run that waits gives its slot back', async ({ open }) => {
  const store = await open();
  for (const runId of ['a', 'b']) await start(store, runId);
  await commit(store, { run: takes('a', 1) });
  await commit(store, { run: { runId: 'a', fence: 1, append: [], state: waiting([openWait()]) } });
  equal((await rowOf(store, 'a')).slot, undefined, 'the slot kept');
  await commit(store, { run: takes('b', 1) });
});

fact('a run that ends gives its slot back', async ({ open }) => {
  const store = await open();
  for (const runId of ['a', 'b']) await start(store, runId);
  await commit(store, { run: takes('a', 1) });
  await commit(store, { run: { runId: 'a', fence: 1, append: [], state: ended() } });
  await commit(store, { run: takes('b', 1) });
});

fact('slots are counted for each queue on its own', async ({ open }) => {
  const store = await open();
  for (const [index, slot] of ['queue', 'other', '__proto__', 'queue '].entries()) {
    await start(store, `r${index}`);
    await commit(store, { run: takes(`r${index}`, 1, slot) });
  }
  await start(store, 'more');
  for (const slot of ['queue', 'other', '__proto__', 'queue '])
    await refused(store, { run: takes('more', 1, slot) }, 'no-slot');
});

fact('a run that moves to another queue gives the first slot back', async ({ open }) => {
  const store = await open();
  for (const runId of ['a', 'b']) await start(store, runId);
  await commit(store, { run: takes('a', 1, 'x') });
  await commit(store, { run: { ...takes('a', 1, 'y'), fence: 1 } });
  await commit(store, { run: takes('b', 1, 'x') });
});

fact('a claim without a limit takes a slot that others count', async ({ open }) => {
  const store = await open();
  for (const runId of ['a', 'b', 'c']) await start(store, runId);
  for (const runId of ['a', 'b']) {
    const { concurrency: _, ...unlimited } = takes(runId, 1);
    await commit(store, { run: unlimited });
  }
  await refused(store, { run: takes('c', 2) }, 'no-slot');
});

fact('of many concurrent claims no more get a slot than there are', async ({ open, owners, openOther }) => {
  const store = await open();
  const stores = owners === 'many' ? [store, await openOther()] : [store];
  for (const index of range(16)) await start(store, `r${index}`);
  const outcomes = await Promise.all(
    range(16).map((index) => stores[index % stores.length]!.commit({ now, run: takes(`r${index}`, 3) })),
  );
  equal(outcomes.filter(({ kind }) => kind === 'committed').length, 3, 'the number of slots');
  equal(outcomes.filter(({ kind }) => kind === 'no-slot').length, 13, 'the number of refusals');
});

fact('slots are still held when the store is opened again', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await commit(store, { run: { runId: 'r', fence: 1, append: [], state: running('a', { slot: 'queue' }) } });
  await store.close();
  const again = await open();
  await start(again, 'other');
  await refused(again, { run: takes('other', 1) }, 'no-slot');
});

fact('R5: a run that a dead owner has left in a slot is due whatever its job', async ({ open }) => {
  const store = await open('drive', 'dead');
  const states = {
    slot: running('dead', { slot: 'queue' }),
    newer: running('dead', { slot: 'queue', version: 2 }),
    none: running('dead'),
  };
  for (const [runId, state] of Object.entries(states)) {
    await start(store, runId, { version: state.version });
    await commit(store, { run: claim(runId, 0, 'dead', { state }) });
  }
  await store.close();
  const next = await open('drive', 'b');
  const look = (job: string) => due(next, { owner: 'b', jobs: { [job]: 1 } });
  equal(dueIds(await look('other')), ['slot', 'newer'], 'for whom its job is not registered');
  equal(dueIds(await look('job')), ['slot', 'newer', 'none'], 'for whom it is, up to version 1');
});
