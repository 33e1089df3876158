import { expect, test } from 'vitest';
import { memoryStore } from '../adapters/memory/index.js';
import type { Stepfast } from '../src/index.js';
import type { Batch } from '../src/store/batch.js';
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

test('E5: a run is not timed out by who read its journal later than which events it may take', async () => {
  const { medium, clock, engine } = newWorld();
  const first = engine();
  const define = (stepfast: Stepfast) =>
    stepfast.job('job', async ({ step }) => {
      await step.waitForEvent('never', { timeout: '1m', onTimeout: 'continue' });
      const old = await step.waitForEvent('old', { lookback: 'any', timeout: '1m', onTimeout: 'continue' });
      return !old.timedOut && old.payload;
    });
  await first.dispatch('old', 1);
  const { id } = await first.start(define(first));
  await until(() => medium.tables.run(id)?.status === 'waiting');
  const store = memoryStore({ medium });
  const load = store.load.bind(store);
  let go: (() => void) | undefined;
  store.load = async (runId) => {
    if (!go) await new Promise<void>((resolve) => (go = resolve));
    return load(runId);
  };
  let aheadMs = 90_000;
  const ahead = { ...clock, now: () => clock.now() + aheadMs };
  const second = engine({ store, clock: ahead });
  define(second);
  await second.ready(); // due by its clock
  await until(() => go);
  let answered: (() => void) | undefined;
  const commit = first.own.commit.bind(first.own);
  first.own.commit = async (batch) => {
    const outcome = await commit(batch);
    if (batch.run?.state?.waits.some(({ events }) => events.includes('old')))
      await new Promise<void>((resolve) => (answered = resolve)); // it hears nothing of it, and goes no further
    return outcome;
  };
  void clock.advance('1m');
  await until(() => answered);
  aheadMs = 300_000;
  go!();
  await until(async () => {
    await Promise.race([clock.advance('1m'), new Promise((resolve) => setTimeout(resolve, 5))]);
    return medium.tables.run(id)?.endedAt;
  });
  expect((await second.runs.get(id))?.result).toBe(1);
  answered!();
  await Promise.all([first.close(), second.close()]);
});

test('O1: a run that begins anew is not left because its fence of before, asked for meanwhile, is no more', async () => {
  const { medium, engine } = newWorld();
  const store = memoryStore({ medium });
  const commit = store.commit.bind(store);
  let ask: (() => void) | undefined;
  let isAnswered = false;
  store.commit = async (batch) => {
    const isConfirming = batch.run && !batch.run.state && !batch.starts && !batch.events;
    if (!isConfirming || ask) return commit(batch);
    await new Promise<void>((resolve) => (ask = resolve));
    const outcome = await commit(batch);
    isAnswered = true;
    return outcome;
  };
  const stepfast = engine({ store });
  let end: (() => void) | undefined;
  let goOn: (() => void) | undefined;
  const job = stepfast.job<number>('job', async ({ payload, step }) => {
    if (payload === 1) return step.run('b', () => new Promise<string>((resolve) => (goOn = () => resolve('done'))));
    void step.waitForEvent('poke');
    await step.run('a', () => new Promise<void>((resolve) => (end = resolve)));
    return step.restart(1);
  });
  const { id } = await stepfast.start(job, 0);
  await until(() => end);
  const other = engine();
  await other.dispatch('poke'); // what another context has changed may have been the owner
  await until(() => ask);
  end!();
  await until(() => goOn);
  ask!();
  await until(() => isAnswered);
  goOn!();
  await until(() => medium.tables.run(id)?.endedAt);
  expect((await stepfast.runs.get(id))?.result).toBe('done');
  await Promise.all([stepfast.close(), other.close()]);
});

test('O6: a run that code of a later version begins anew is of that version from this very commit on', async () => {
  const { medium, engine } = newWorld();
  const before = engine();
  const first = before.job('job', async ({ step }) => void (await step.waitForEvent('go')));
  const { id } = await before.start(first);
  await until(() => medium.tables.run(id)?.status === 'waiting');
  await before.close();
  const store = memoryStore({ medium });
  const commit = store.commit.bind(store);
  const versions: number[] = [];
  store.commit = async (batch) => {
    const outcome = await commit(batch);
    if (batch.run?.reset) versions.push(medium.tables.run(id)!.version);
    return outcome;
  };
  const after = engine({ store });
  after.job('job', { version: 2, upgrade: 'restart' }, ({ step }) => step.run('a', () => 1));
  await after.dispatch('go');
  await until(() => medium.tables.run(id)?.endedAt);
  expect(versions).toEqual([2]);
  await after.close();
});

test('Q2, Q4: a queue whose rate is free again while a look is under way that thought it full is looked for', async () => {
  const { medium, engine } = newWorld();
  const store = memoryStore({ medium });
  const due = store.due.bind(store);
  let now = Date.parse('2026-01-01T00:00:00Z');
  const timers = new Set<{ readonly at: number; readonly ring: () => void }>();
  const clock = {
    now: () => now,
    setTimer(at: number, ring: () => void) {
      const timer = { at, ring };
      timers.add(timer);
      return () => void timers.delete(timer);
    },
  };
  let jumps = false;
  let looks = 0;
  store.due = async (query) => {
    const page = await due(query);
    if (jumps) now += 61_000; // it lasts, and no timer has had its turn meanwhile
    jumps = false;
    looks++;
    return page;
  };
  const stepfast = engine({ store, clock });
  const queue = { name: 'rated', rateLimit: { limit: 1, per: '1m' } } as const;
  const job = stepfast.job('job', { queue }, ({ step }) => step.run('work', () => 'done'));
  await (await stepfast.start(job)).result();
  const second = await stepfast.start(job);
  await until(() => [...timers].some(({ at }) => at === now + 60_000));
  jumps = true;
  const before = looks;
  await stepfast.start(job, undefined, { id: 'far', delay: '1h' });
  await until(() => looks > before);
  const turns = setInterval(() => {
    for (const timer of [...timers]) if (timer.at <= now && timers.delete(timer)) timer.ring();
  }, 1);
  expect(await second.result()).toBe('done');
  clearInterval(turns);
  await stepfast.close();
});
