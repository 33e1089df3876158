import { expect, test } from 'vitest';
import { memoryStore } from '../adapters/memory/index.js';
import type { Batch } from '../src/store/store.js';
import { never, newWorld, until } from './late-kit.js';

// Pins: what the simulation (test/prove/sim) has found about events that come while a commit is under way.

test('E1: an event is not lost that wakes a run while the commit is under way by which it passed over the one before', async () => {
  const { medium, clock, engine } = newWorld();
  const store = memoryStore({ medium });
  const commit = store.commit.bind(store);
  const due = store.due.bind(store);
  let looks = 0;
  store.due = async (query) => {
    const page = await due(query);
    looks++;
    return page;
  };
  let holds = false;
  let answer: (() => void) | undefined;
  store.commit = async (batch) => {
    const outcome = await commit(batch);
    if (holds && batch.run?.state) await new Promise<void>((resolve) => (answer = resolve));
    return outcome;
  };
  const stepfast = engine({ store });
  const job = stepfast.job('job', async ({ step }) => {
    void step.run('a', () => 1).then(never); // it may be about to ask for something: its row is held
    const { payload } = await step.waitForEvent<number>('tick', { match: (n) => n % 2 === 0 });
    return payload;
  });
  const { id } = await stepfast.start(job);
  await until(() => medium.tables.run(id)?.status === 'waiting');
  await clock.idle();
  holds = true;
  await stepfast.dispatch('tick', 1);
  await until(() => answer && !medium.tables.run(id)?.woken);
  holds = false;
  const before = looks;
  await stepfast.dispatch('tick', 2);
  await until(() => looks > before);
  answer!();
  await until(() => medium.tables.run(id)?.endedAt);
  expect((await stepfast.runs.get(id))?.result).toBe(2);
  await stepfast.close();
});

test('E3: a run whose commit was refused for an event of its next wait takes no younger one in the place of what it was to take', async () => {
  const { medium, engine } = newWorld();
  const lookback = 'any';
  const other = engine();
  await other.dispatch('tick', 1);
  await other.dispatch('tick', 2);
  const { id } = await other.start('job', undefined, { allowUnregistered: true });
  await other.dispatch('tick', 3);
  await other.dispatch('tock', 4);
  const store = memoryStore({ medium });
  const commit = store.commit.bind(store);
  let go: (() => void) | undefined;
  store.commit = async (batch: Batch) => {
    if (!go && batch.run?.takes?.length) await new Promise<void>((resolve) => (go = resolve));
    return commit(batch);
  };
  const stepfast = engine({ store });
  stepfast.job('job', async ({ step }) => {
    const first = await step.waitForEvent<number>('tick', { lookback });
    const second = await step.waitForEvent<number>('tock', { timeout: '1h' });
    return [first.payload, second.payload];
  });
  await stepfast.ready();
  await until(() => go);
  // Somebody else is the first to take what it looks back for.
  const thief = other.job('thief', async ({ step }) => (await step.waitForEvent<number>('tick', { lookback })).payload);
  expect(await (await other.start(thief)).result()).toBe(1);
  go!();
  await until(() => medium.tables.run(id)?.endedAt);
  expect((await stepfast.runs.get(id))?.result).toEqual([2, 4]);
  await Promise.all([stepfast.close(), other.close()]);
});
