import { expect, test } from 'vitest';
import { memoryStore } from '../adapters/memory/index.js';
import { FatalError, type Stepfast } from '../src/index.js';
import { kindsOf, never, newWorld, until } from './late-kit.js';

// Pins: what the simulation (test/prove/sim) has found, each in a world of its own: answers that come late or never,
// clocks that are set, handlers that await something else, wake-ups of runs that nobody has claimed.

test('R1: no function is entered before the commit that allows it is durable: the first, the next, another attempt, an undo', async () => {
  const { medium, clock, engine } = newWorld();
  const store = memoryStore({ medium });
  const commit = store.commit.bind(store);
  const log: string[] = [];
  store.commit = async (batch) => {
    log.push('asked');
    // It takes its time: whoever does not wait for it has all the time to be wrong.
    for (let turns = 0; turns < 20; turns++) await new Promise((resolve) => setImmediate(resolve));
    const outcome = await commit(batch);
    log.push('durable');
    return outcome;
  };
  const stepfast = engine({ store });
  const job = stepfast.job('job', async ({ step }) => {
    await step.run('a', () => void log.push('a'), { undo: () => void log.push('undo a') });
    await step.run('b', ({ attempt }) => {
      log.push(`b${attempt}`);
      throw attempt === 1 ? new Error('once') : new FatalError('for good');
    });
  });
  const { id } = await stepfast.start(job);
  await until(async () => {
    await clock.advance('1m');
    const row = medium.tables.run(id);
    return row?.endedAt !== undefined && !row.undoing;
  });
  await stepfast.close();
  const entered = log.flatMap((word, index) =>
    /^(a|b|undo)/.test(word) && word !== 'asked' ? [[word, log[index - 1]]] : [],
  );
  expect(entered).toEqual(['a', 'b1', 'b2', 'undo a'].map((word) => [word, 'durable']));
});

test('F5: a function is not entered when the answer to its commit came later than the lease, and the run is lost', async () => {
  const { medium, clock, engine } = newWorld();
  const store = memoryStore({ medium });
  const commit = store.commit.bind(store);
  let answer: (() => void) | undefined;
  store.commit = async (batch) => {
    const outcome = await commit(batch);
    if (batch.run?.state?.status === 'running' && !answer) await new Promise<void>((resolve) => (answer = resolve));
    return outcome;
  };
  let entered = 0;
  const late = engine({ store });
  const job = late.job('job', ({ step }) => step.run('a', () => void entered++));
  const { id } = await late.start(job);
  await until(() => answer);
  clock.jump(clock.now() + 20_000);
  await engine().runs.cancel(id);
  answer!();
  await until(async () => medium.tables.run(id)?.status === 'cancelled');
  await clock.idle();
  await late.close();
  expect(entered).toBe(0);
});

test('D8: a function hears the number that was counted for it, though the fence could not be confirmed behind that commit', async () => {
  const { medium, clock, engine } = newWorld();
  const store = memoryStore({ medium });
  const commit = store.commit.bind(store);
  let failed = 0;
  store.commit = async (batch) => {
    const outcome = await commit(batch);
    // Its answer comes later than the lease: the function that is to begin beside it is not entered unconfirmed.
    if (kindsOf(batch).includes('state-incremented')) clock.jump(clock.now() + 20_000);
    if (batch.run && !batch.run.state && !failed++) throw new Error('the answer was lost');
    return outcome;
  };
  const heard: number[] = [];
  const stepfast = engine({ store });
  const job = stepfast.job('job', async ({ step }) => {
    const counting = step.run('count', async ({ state }) => void heard.push(await state.increment('n')));
    await step.run('beside', () => 1);
    await Promise.all([counting, step.run('next', () => 2)]);
    return 'done';
  });
  const run = await stepfast.start(job);
  await until(() => failed);
  await clock.idle();
  expect(heard).toEqual([1]);
  await until(async () => {
    await clock.advance('10s');
    return (await run.status()) === 'completed';
  });
  await stepfast.close();
});

test('R11: an engine does not spin while a handler backs off, when the answer to the commit that said so was lost', async () => {
  const { medium, clock, engine } = newWorld();
  const store = memoryStore({ medium });
  const commit = store.commit.bind(store);
  let lost = 0;
  store.commit = async (batch) => {
    const outcome = await commit(batch);
    if (!lost && kindsOf(batch).includes('handler-failed') && ++lost) throw new Error('the answer was lost');
    return outcome;
  };
  let passes = 0;
  const stepfast = engine({ store });
  const job = stepfast.job('job', async ({ step }) => {
    const value = await step.run('a', () => 1);
    if (++passes === 1) throw new Error('once');
    return value;
  });
  const { id } = await stepfast.start(job);
  await until(() => lost);
  await until(async () => {
    await clock.advance(500);
    return medium.tables.run(id)?.endedAt;
  });
  expect([medium.tables.run(id)?.status, passes]).toEqual(['completed', 2]);
  await stepfast.close();
});

test('F7: steps are undone by a handler that awaits something else before it asks for them', async () => {
  const { medium, clock, engine } = newWorld();
  const undone: string[] = [];
  const define = (stepfast: Stepfast, undo: () => unknown) =>
    stepfast.job('job', async ({ step }) => {
      await new Promise((resolve) => setTimeout(resolve, 5));
      await step.run('a', () => 1, { undo });
      throw new FatalError('no way');
    });
  const first = engine();
  let isUndoing = false;
  const { id } = await first.start(
    define(first, () => {
      isUndoing = true;
      return never();
    }),
  );
  await until(() => isUndoing);
  first.own.abandon!();
  const second = engine();
  define(second, () => undone.push('a'));
  await second.ready();
  await until(() => undone.length);
  await clock.idle();
  expect([undone, medium.tables.run(id)?.undoing]).toEqual([['a'], undefined]);
  await second.close();
});

test('Q4: a run is not left due when its next wait is offered only what it does not take', async () => {
  const { medium, clock, engine } = newWorld();
  const stepfast = engine();
  const job = stepfast.job('job', async ({ step }) => {
    const match = ({ n }: { n: number }) => n % 2 === 0;
    await step.waitForEvent<{ n: number }>('tick', { name: 'first', match });
    await step.run('between', () => 1);
    await step.waitForEvent<{ n: number }>('tick', { name: 'second', match });
  });
  const { id } = await stepfast.start(job);
  await stepfast.dispatch('tick', { n: 1 });
  await stepfast.dispatch('tick', { n: 2 });
  await until(() => medium.tables.run(id)?.waits[0]?.id[0] === 'second');
  await clock.idle();
  expect(medium.tables.run(id)).toMatchObject({ status: 'waiting' });
  expect(medium.tables.run(id)?.dueAt).toBeUndefined();
  await stepfast.close();
});

test('Q4: a clock that is set forward past a timer does not keep later instants from being waited for', async () => {
  let now = Date.UTC(2026, 0, 1);
  const timers = new Set<{ readonly at: number }>();
  const clock = {
    now: () => now,
    setTimer(at: number) {
      const timer = { at };
      timers.add(timer);
      return () => timers.delete(timer);
    },
  };
  const { medium, engine } = newWorld();
  const stepfast = engine({ clock });
  const job = stepfast.job<number>('job', ({ payload, step }) => step.sleep('pause', payload));
  await stepfast.start(job, 10_000, { id: 'early' });
  await until(() => medium.tables.run('early')?.status === 'sleeping');
  now += 3_600_000; // nobody calls: the timer of a platform counts on as before
  timers.clear();
  await stepfast.start(job, 5_000, { id: 'late' });
  await until(() => medium.tables.run('late')?.status === 'sleeping');
  await until(() => [...timers].some(({ at }) => at <= medium.tables.run('late')!.dueAt!));
  await stepfast.close();
});

test('E1: a wake-up of a run that is only listened to is seen, also when it was woken before', async () => {
  const { medium, clock, engine } = newWorld();
  const define = (stepfast: Stepfast) =>
    stepfast.job('job', async ({ step }) => {
      const match = ({ n }: { n: number }) => n % 2 === 0;
      const taken = step.waitForEvent<{ n: number }>('tick', { match });
      await step.run('a', () => 1);
      await Promise.race([never(), taken]); // something else, as far as the engine can tell
      return 'done';
    });
  const first = engine();
  const { id } = await first.start(define(first));
  await until(() => medium.tables.run(id)?.unsettled);
  await first.close();
  const second = engine();
  define(second);
  await second.ready();
  await clock.idle();
  await second.dispatch('tick', { n: 1 });
  await clock.idle();
  await second.dispatch('tick', { n: 2 });
  await until(() => medium.tables.run(id)?.endedAt);
  expect(medium.tables.run(id)?.status).toBe('completed');
  await second.close();
});
