import { expect, test } from 'vitest';
import { memoryStore } from '../adapters/memory/index.js';
import { createStepfast, FatalError, type Stepfast } from '../src/index.js';
import { kindsOf, never, newWorld, quiet, until } from './late-kit.js';

// Pins: what the simulation (test/prove/sim) has found, each in a world of its own: commands that hear late that they were
// done, runs that look back for one event, engines that call themselves again and again.

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

test('F7: steps are undone of a run that was cancelled while its journal was read to be listened to', async () => {
  const { medium, clock, engine } = newWorld();
  let undone = 0;
  const define = (stepfast: Stepfast) =>
    stepfast.job('job', async ({ step }) => {
      const taken = step.waitForEvent('tick');
      await step.run('a', () => 1, { undo: () => void undone++ });
      await Promise.race([never(), taken]); // something else, as far as the engine can tell
    });
  const first = engine();
  const { id } = await first.start(define(first));
  await until(() => medium.tables.run(id)?.unsettled);
  await first.close();

  const store = memoryStore({ medium });
  const load = store.load.bind(store);
  let answer: (() => void) | undefined;
  store.load = async (runId) => {
    const stored = await load(runId);
    if (!answer) await new Promise<void>((resolve) => (answer = resolve));
    return stored;
  };
  const second = engine({ store });
  define(second);
  void second.ready(); // it looks for work
  await until(() => answer);
  await second.runs.cancel(id);
  answer!();
  await clock.idle();
  expect({ undone, undoing: medium.tables.run(id)?.undoing }).toEqual({ undone: 1, undoing: undefined });
  await second.close();
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

test.each([
  'increment',
  'progress',
] as const)('F7: an engine does not spin while it undoes a run out of time, whose function asked for %s', async (word) => {
  const { medium, clock, engine } = newWorld();
  let calls = 0;
  const now = () => {
    if (++calls > 20_000) throw new Error('The engine spins.'); // nothing else would end a loop without a macrotask
    return clock.now();
  };
  const reported: unknown[] = [];
  const stepfast = engine({ clock: { ...clock, now }, onError: (error) => reported.push(error) });
  let go: (() => void) | undefined;
  let tries = 0;
  const undo = () => {
    if (++tries === 1) throw new Error('not yet');
  };
  const job = stepfast.job('job', { timeout: '1m' }, async ({ step }) => {
    await step.run('a', () => 1, { undo });
    await step.run('b', async ({ state, progress }) => {
      await new Promise<void>((resolve) => (go = resolve));
      if (word === 'progress') progress(1);
      else await state.increment('n', 1);
    });
  });
  const { id } = await stepfast.start(job);
  await until(() => go);
  clock.jump(clock.now() + 120_000);
  go!();
  await until(() => tries || calls > 20_000);
  await clock.advance('1m');
  await until(() => !medium.tables.run(id)?.undoing || calls > 20_000);
  expect(reported.map(String).filter((said) => said.includes('spins'))).toEqual([]);
  expect([tries, medium.tables.run(id)?.status, medium.tables.state('n')?.value]).toEqual([2, 'failed', undefined]);
  await stepfast.close();
});

test('R8, Q2: a run holds no slot for a step that lost a race in the very round that counted for it', async () => {
  const { medium, clock, engine } = newWorld();
  const stepfast = engine();
  const job = stepfast.job('job', async ({ step }) => {
    await step.race([step.run('a', ({ state }) => state.increment('n', 1)), step.waitForEvent('go')]);
    await step.waitForEvent('end');
  });
  const { id } = await stepfast.start(job, undefined, { delay: '1m' });
  await stepfast.dispatch('go');
  await clock.advance('1m');
  await until(() => medium.tables.run(id)?.waits[0]?.id[0] === 'end');
  await clock.idle();
  expect(medium.tables.run(id)).toMatchObject({ status: 'waiting' });
  expect(medium.tables.run(id)?.slot).toBeUndefined();
  await stepfast.close();
});

test('Q4: a timer is set anew by the next look when the clock was set forward since, though its instant is no sooner', async () => {
  let now = Date.UTC(2026, 0, 1);
  const timers = new Set<{ readonly ms: number }>();
  const clock = {
    now: () => now,
    setTimer(at: number) {
      const timer = { ms: at - now };
      timers.add(timer);
      return () => timers.delete(timer);
    },
  };
  const { medium, engine } = newWorld();
  const stepfast = engine({ clock });
  const job = stepfast.job<number>('job', ({ payload, step }) => step.sleep('pause', payload));
  const { id } = await stepfast.start(job, 10_000);
  await until(() => medium.tables.run(id)?.status === 'sleeping');
  await until(() => [...timers].some(({ ms }) => ms === 10_000));
  await stepfast.start(job, 20_000, { id: 'later' });
  await until(() => medium.tables.run('later')?.status === 'sleeping');
  await stepfast.runs.cancel(id); // the other one is waited for
  await until(() => [...timers].some(({ ms }) => ms === 20_000));
  now += 6_000; // and no time has passed: a platform would call 6 s late
  await stepfast.ready();
  await until(() => [...timers].some(({ ms }) => ms === 14_000));
  await stepfast.close();
});

test('E5: a wait that looks back is not timed out before its events were asked for, though its handler backed off', async () => {
  const { medium, clock, engine } = newWorld();
  const stepfast = engine();
  let passes = 0;
  const job = stepfast.job('job', async ({ step }) => {
    const old = step.waitForEvent<number>('old', { lookback: 'any', timeout: '100ms', onTimeout: 'continue' });
    if (++passes === 1) throw new Error('not yet');
    return old;
  });
  await stepfast.dispatch('old', 1);
  const { id } = await stepfast.start(job);
  await until(() => medium.tables.run(id)?.status === 'retrying');
  await until(async () => {
    await clock.advance('1m');
    return medium.tables.run(id)?.endedAt;
  });
  expect((await stepfast.runs.get(id))?.result).toMatchObject({ timedOut: false, payload: 1 });
  await stepfast.close();
});

test('Q2: a run that was only listened to, and found no slot when it asked for a step, goes on when one is free', async () => {
  const { medium, clock, engine } = newWorld();
  const queue = { name: 'narrow', concurrency: 1 };
  const define = (stepfast: Stepfast, gate: Promise<unknown>) =>
    stepfast.job('job', { queue }, async ({ step }) => {
      void step.waitForEvent('never');
      await step.run('a', () => 1);
      await gate; // something else, as far as the engine can tell
      await step.run('b', () => 2);
    });
  const first = engine();
  const { id } = await first.start(define(first, new Promise(() => undefined)));
  await until(() => medium.tables.run(id)?.unsettled);
  await first.close();
  const store = memoryStore({ medium });
  const commit = store.commit.bind(store);
  let refused = 0;
  store.commit = async (batch) => {
    const outcome = await commit(batch);
    if (outcome.kind === 'no-slot') refused++;
    return outcome;
  };
  const second = engine({ store });
  let open: (value?: unknown) => void = () => undefined;
  define(second, new Promise((resolve) => (open = resolve)));
  let end: (() => void) | undefined;
  const busy = second.job('busy', { queue }, ({ step }) =>
    step.run('c', () => new Promise<void>((resolve) => (end = resolve))),
  );
  await second.ready();
  await clock.idle();
  await second.start(busy);
  await until(() => end);
  open();
  await until(() => refused);
  end!();
  await until(async () => {
    await clock.advance('10s');
    return medium.tables.run(id)?.endedAt;
  });
  await second.close();
});

test('Q2: a slot that becomes free while a look is under way, which still counted it as taken, is looked for', async () => {
  const { medium, clock, engine } = newWorld();
  const store = memoryStore({ medium });
  const due = store.due.bind(store);
  let isAsked = false;
  let gate: Promise<void> | undefined;
  store.due = async (query) => {
    const page = await due(query);
    isAsked = true;
    await gate;
    return page;
  };
  const stepfast = engine({ store });
  const queue = { name: 'narrow', concurrency: 1 };
  let endUndo: (() => void) | undefined;
  const retry = { initialDelay: '1m', jitter: false } as const;
  const fails = stepfast.job('fails', { queue }, async ({ step }) => {
    const undo = ({ attempt }: { readonly attempt: number }) => {
      if (attempt === 1) throw new Error('not yet');
      return new Promise<void>((resolve) => (endUndo = resolve));
    };
    await step.run('a', () => 1, { undo, retry });
    throw new FatalError('no way');
  });
  const next = stepfast.job('next', { queue }, ({ step }) => step.run('b', () => 2));
  const first = await stepfast.start(fails);
  await until(() => (medium.tables.run(first.id)?.dueAt ?? 0) > clock.now());
  const second = await stepfast.start(next, undefined, { startAt: medium.tables.run(first.id)?.dueAt ?? 0 });
  await clock.idle(); // all looks until now have seen a free slot
  let open: () => void = () => undefined;
  gate = new Promise((resolve) => (open = resolve));
  isAsked = false;
  void clock.advance('1m');
  await until(() => isAsked && endUndo);
  endUndo!();
  await until(() => !medium.tables.run(first.id)?.undoing);
  await new Promise((resolve) => setTimeout(resolve, 20)); // it is out of memory
  gate = undefined;
  open();
  await until(() => medium.tables.run(second.id)?.endedAt);
  await stepfast.close();
});

test('F7: a branch that awaits something else before it asks for what is undone is waited for, beside one that sleeps', async () => {
  const { medium, clock, engine } = newWorld();
  const undone: number[] = [];
  const define = (stepfast: Stepfast) =>
    stepfast.job('job', async ({ step }) => {
      const late = new Promise((resolve) => setTimeout(resolve, 30)).then(() =>
        step.run('a', () => 1, { undo: ({ result }) => void undone.push(result ?? 0) }),
      );
      await Promise.all([late, step.sleep('pause', '1h')]);
    });
  const first = engine();
  const { id } = await first.start(define(first));
  await until(() => medium.tables.run(id)?.undoable && medium.tables.run(id)?.status === 'sleeping');
  await first.close();
  const second = engine();
  define(second);
  await second.runs.cancel(id);
  await until(() => !medium.tables.run(id)?.undoing);
  await clock.idle();
  expect(undone).toEqual([1]);
  await second.close();
});
