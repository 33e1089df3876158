import { expect, test } from 'vitest';
import { type MemoryMedium, memoryMedium, memoryStore } from '../adapters/memory/index.js';
import { createStepfast, type EngineOptions, FatalError, type Stepfast, type Store } from '../src/index.js';
import type { Batch } from '../src/store/store.js';
import { type SimulatedClock, simulatedClock } from '../src/testing/clock.js';

// Pins: what the simulation (test/prove/sim) has found, each in a world of its own: answers that come late or never,
// clocks that are set, handlers that await something else, wake-ups of runs that nobody has claimed.

const never = () => new Promise<never>(() => undefined);
const until = async (fact: () => unknown) => {
  while (!(await fact())) await new Promise((resolve) => setTimeout(resolve, 1));
};
const quiet = { onError: () => undefined };

interface World {
  readonly medium: MemoryMedium;
  readonly clock: SimulatedClock;
  engine(options?: Partial<EngineOptions>): Stepfast & { readonly own: Store };
}
function newWorld(): World {
  const medium = memoryMedium();
  const clock = simulatedClock();
  return {
    medium,
    clock,
    engine(options = {}) {
      const own = options.store ?? memoryStore({ medium });
      return Object.assign(createStepfast({ clock, ...quiet, ...options, store: own }), { own });
    },
  };
}

const kindsOf = ({ run }: Batch) => (run?.append ?? []).map(({ kind }) => kind);

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

test('Q4: the store is not asked again and again while a step is undone', async () => {
  const store = memoryStore();
  const due = store.due.bind(store);
  let looks = 0;
  store.due = (query) => {
    looks++;
    return due(query);
  };
  let end: (() => void) | undefined;
  const undo = () => new Promise<void>((resolve) => (end = resolve));
  const stepfast = createStepfast({ store, ...quiet }); // by a real clock: what is overdue calls at once
  const failing = stepfast.job('failing', async ({ step }) => {
    await step.run('a', () => 1, { undo });
    throw new FatalError('no way');
  });
  const other = stepfast.job('other', ({ step }) => step.run('b', () => 2));
  const failed = await stepfast.start(failing);
  await until(() => end);
  await (await stepfast.start(other)).result();
  looks = 0;
  for (let turns = 0; turns < 200; turns++) await new Promise((resolve) => setTimeout(resolve, 0));
  expect(looks).toBeLessThan(10);
  end!();
  await until(async () => (await stepfast.runs.timeline(failed.id)).some(({ kind }) => kind === 'undone'));
  await stepfast.close();
});

/** An engine that claims a run again before it hears that the commit which made the run due has happened. */
const overtaken = (kind: 'retried' | 'cancelled') => {
  const { medium, engine } = newWorld();
  const store = memoryStore({ medium });
  const commit = store.commit.bind(store);
  let answer: (() => void) | undefined;
  store.commit = async (batch) => {
    const outcome = await commit(batch);
    if (kindsOf(batch).includes(kind)) await new Promise<void>((resolve) => (answer = resolve));
    return outcome;
  };
  return { medium, stepfast: engine({ store }), answered: () => answer };
};

test('F6: a run goes on that was claimed before the answer to its retry has come', async () => {
  const { medium, stepfast, answered } = overtaken('retried');
  let entered = 0;
  let go: (() => void) | undefined;
  const job = stepfast.job('job', ({ step }) =>
    step.run('a', async () => {
      if (++entered === 1) throw new FatalError('once');
      await new Promise<void>((resolve) => (go = resolve));
    }),
  );
  const { id } = await stepfast.start(job);
  await until(() => medium.tables.run(id)?.status === 'failed');
  const retried = stepfast.runs.retry(id);
  await until(answered);
  await stepfast.ready(); // it looks for work
  await until(() => go);
  answered()!();
  await retried;
  go!();
  await until(() => medium.tables.run(id)?.status === 'completed');
  await stepfast.close();
  expect(entered).toBe(2);
});

test('F7, F9: steps are undone of a run that was claimed before the answer to its cancelling has come', async () => {
  const { medium, stepfast, answered } = overtaken('cancelled');
  let go: (() => void) | undefined;
  const undo = () => new Promise<void>((resolve) => (go = resolve));
  const job = stepfast.job('job', async ({ step }) => {
    await step.run('a', () => 1, { undo });
    await step.waitForEvent('never');
  });
  const { id } = await stepfast.start(job);
  await until(() => medium.tables.run(id)?.status === 'waiting');
  const cancelled = stepfast.runs.cancel(id);
  await until(answered);
  await stepfast.ready();
  await until(() => go);
  answered()!();
  await cancelled;
  go!();
  await until(() => !medium.tables.run(id)?.undoing);
  expect((await stepfast.runs.timeline(id)).at(-1)).toMatchObject({ kind: 'undone' });
  await stepfast.close();
});

test('E3: of two runs that look back for one event, the one that comes too late waits for the next', async () => {
  const { medium, clock, engine } = newWorld();
  const stepfast = engine();
  const job = stepfast.job('job', async ({ step }) => {
    const { payload } = await step.waitForEvent<number>('tick', { lookback: 'any' });
    return payload;
  });
  await stepfast.dispatch('tick', 1);
  const runs = await Promise.all([stepfast.start(job), stepfast.start(job)]);
  const ended = () => runs.filter(({ id }) => medium.tables.run(id)?.endedAt);
  await until(() => ended().length);
  await clock.idle();
  expect(runs.map(({ id }) => medium.tables.run(id)?.status).sort()).toEqual(['completed', 'waiting']);
  await stepfast.dispatch('tick', 2);
  expect((await Promise.all(runs.map((run) => run.result()))).sort()).toEqual([1, 2]);
  await stepfast.close();
});

test('E3: an event that came too late for a wait is left for the next one, also when the clock was set back since', async () => {
  const { medium, clock, engine } = newWorld();
  const define = (stepfast: Stepfast) =>
    stepfast.job('job', async ({ step }) => {
      const first = await step.waitForEvent<number>('tick', { name: 'first', timeout: '1m', onTimeout: 'continue' });
      const second = await step.waitForEvent<number>('tick', { name: 'second', timeout: '1m', onTimeout: 'continue' });
      return [first, second].map((event) => !event.timedOut && event.payload);
    });
  const before = engine();
  const { id } = await before.start(define(before));
  await until(() => medium.tables.run(id)?.status === 'waiting');
  await before.close();
  const sender = engine();
  const now = clock.now();
  clock.jump(now + 90_000);
  await sender.dispatch('tick', 1);
  clock.jump(now + 45_000);
  await sender.dispatch('tick', 2);
  await sender.close();
  const after = engine();
  define(after);
  await after.ready();
  await until(async () => {
    await clock.advance('1m');
    return medium.tables.run(id)?.endedAt;
  });
  expect((await after.runs.get(id))?.result).toEqual([2, 1]);
  await after.close();
});

test('O6: a run that newer code takes up while it is being cancelled stays of the newer version', async () => {
  const { medium, engine } = newWorld();
  const store = memoryStore({ medium });
  const commit = store.commit.bind(store);
  let go: (() => void) | undefined;
  store.commit = async (batch) => {
    if (kindsOf(batch).includes('cancelled')) await new Promise<void>((resolve) => (go = resolve));
    return commit(batch);
  };
  const old = engine({ store });
  const { id } = await old.start('job', undefined, { allowUnregistered: true });
  const cancelled = old.runs.cancel(id);
  await until(() => go);
  const other = engine();
  const undone: string[] = [];
  other.job('job', { version: 2 }, async ({ step }) => {
    await step.run('a', () => 1, { undo: () => undone.push('a') });
    await step.waitForEvent('never');
  });
  await other.ready();
  await until(() => medium.tables.run(id)?.status === 'waiting');
  const { version, startedAt } = medium.tables.run(id)!;
  go!();
  await cancelled;
  expect(medium.tables.run(id)).toMatchObject({ status: 'cancelled', version, startedAt });
  expect(version).toBe(2);
  await until(() => undone.length && !medium.tables.run(id)?.undoing);
  await Promise.all([old.close(), other.close()]);
});
