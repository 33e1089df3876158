import { expect, it } from 'vitest';
import type { Stepfast } from '../src/index.js';
import { media, world } from './harness.js';

// Pins: spec F4, F5, F9, O1 and Q1 with two contexts open at once. Not for stores that let one context drive at a time.

const medium = media.memory!;
const soon = () => new Promise<void>((resolve) => setTimeout(resolve, 0));

it('the same start from two contexts at once makes one run, and both get its result', async () => {
  for (let round = 0; round < 20; round++) {
    const w = world(medium);
    const define = (stepfast: Stepfast) => {
      stepfast.job<number>('once', ({ payload, step }) =>
        step.run('once', () => {
          w.log.push('once');
          return payload;
        }),
      );
    };
    const [a, b] = [w.engine(define), w.engine(define)];
    const runs = await Promise.all([a, b].map((each) => each.start('once', round, { idempotencyKey: 'k' })));
    expect(runs.map(({ created }) => created).sort()).toEqual([false, true]);
    expect(runs[0]!.id).toBe(runs[1]!.id);
    expect(await Promise.all(runs.map((run) => run.result()))).toEqual([round, round]);
    expect(w.log).toEqual(['once']);
  }
});

it('different payloads under one key from two contexts at once: one run, one refusal', async () => {
  const w = world(medium);
  const define = (stepfast: Stepfast) => {
    stepfast.job<number>('once', ({ payload }) => payload);
  };
  const [a, b] = [w.engine(define), w.engine(define)];
  const outcomes = await Promise.allSettled([
    a.start('once', 1, { idempotencyKey: 'k' }),
    b.start('once', 2, { idempotencyKey: 'k' }),
  ]);
  expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  expect(outcomes.find(({ status }) => status === 'rejected')).toMatchObject({
    reason: { code: 'IDEMPOTENCY_CONFLICT' },
  });
  expect((await a.runs.list()).runs).toHaveLength(1);
});

it('cancel from another context aborts the signals in flight, and what the step returns later starts nothing', async () => {
  const w = world(medium);
  let settle: () => void = () => undefined;
  const signals: AbortSignal[] = [];
  const driver = w.engine((stepfast) => {
    stepfast.job('slow', async ({ step, signal }) => {
      signals.push(signal);
      await step.run('call', (context) => {
        signals.push(context.signal);
        return new Promise<void>((resolve) => (settle = resolve));
      });
      await step.run('next', () => void w.log.push('next'));
    });
  });
  const run = await driver.start('slow');
  await expect.poll(() => signals.length).toBe(2);
  const other = w.engine(); // has not even registered the job
  await other.runs.cancel(run.id);
  await expect.poll(() => signals.map(({ aborted }) => aborted)).toEqual([true, true]);
  settle();
  await w.clock.idle();
  expect(await run.status()).toBe('cancelled');
  expect(w.log).toEqual([]);
});

it('a second attempt is not entered once another context has cancelled the run', async () => {
  const w = world(medium);
  let settle: () => void = () => undefined;
  const driver = w.engine((stepfast) => {
    stepfast.job('pair', { retry: { initialDelay: '1m', jitter: false } }, async ({ step }) => {
      const slow = step.run('slow', () => new Promise<void>((resolve) => (settle = resolve)));
      const flaky = step.run('flaky', ({ attempt }) => {
        w.log.push(`flaky ${attempt}`);
        if (attempt === 1) throw new Error('not yet');
      });
      await Promise.all([slow, flaky]);
    });
  });
  const run = await driver.start('pair');
  await expect.poll(async () => (await driver.runs.get(run.id))?.attempts.length).toBe(1);
  await w.engine().runs.cancel(run.id);
  await w.clock.advance('1h');
  settle();
  await w.clock.idle();
  expect(w.log).toEqual(['flaky 1']);
  expect(await run.status()).toBe('cancelled');
});

it('a failed run that two contexts retry at once is taken up once', async () => {
  const w = world(medium);
  let isBroken = true;
  const define = (stepfast: Stepfast) => {
    stepfast.job('flaky', { retry: { maxAttempts: 1 } }, ({ step }) =>
      step.run('call', () => {
        w.log.push('call');
        if (isBroken) throw new Error('no');
      }),
    );
  };
  const [a, b] = [w.engine(define), w.engine(define)];
  const run = await a.start('flaky');
  await run.result().catch(() => undefined);
  isBroken = false;
  const outcomes = await Promise.allSettled([a.runs.retry(run.id), b.runs.retry(run.id)]);
  for (const outcome of outcomes)
    if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'RUN_NOT_FAILED' });
  await run.result();
  await w.clock.idle();
  expect(w.log).toEqual(['call', 'call']);
  const retried = (await a.runs.timeline(run.id)).filter(({ kind }) => kind === 'retried');
  expect(retried).toHaveLength(1);
});

it('a subscriber in one context sees what another does', async () => {
  const w = world(medium);
  const driver = w.engine((stepfast) => {
    stepfast.job('wait', ({ step }) => step.waitForEvent('go'));
  });
  const { id } = await driver.start('wait');
  await w.clock.idle();
  const viewer = w.engine();
  const seen: string[] = [];
  viewer.runs.subscribe(id, ({ status }) => seen.push(status));
  await expect.poll(() => seen.at(-1)).toBe('waiting');
  await driver.dispatch('go');
  await expect.poll(() => seen.at(-1)).toBe('completed');
});

it('a context that crashes is replaced by one that is open already', async () => {
  const w = world(medium);
  let isStuck = true;
  const define = (stepfast: Stepfast) => {
    stepfast.job('slow', ({ step }) =>
      step.run('call', async ({ attempt }) => {
        w.log.push(`attempt ${attempt}`);
        if (isStuck) await new Promise(() => undefined);
      }),
    );
  };
  const owner = w.engine(define);
  const { id } = await owner.start('slow');
  await expect.poll(() => w.log.length).toBe(1);
  const standby = w.engine(define);
  await standby.ready();
  for (let turn = 0; turn < 20; turn++) await soon();
  expect(w.log).toEqual(['attempt 1']);
  isStuck = false;
  w.crash(owner);
  await w.clock.advance('1m'); // the standby checks every few seconds whether the owner still lives
  expect((await standby.runs.get(id))?.status).toBe('completed');
  expect(w.log).toEqual(['attempt 1', 'attempt 2']);
});

it.each([
  'its owner',
  'the other one',
])('F9: a step in flight is undone where it is in flight, with its late result, when %s cancels the run', async (who) => {
  for (const job of ['order', 'family']) {
    const w = world(medium);
    let end: (value: string) => void = () => undefined;
    const define = (name: string) => (stepfast: Stepfast) => {
      stepfast.job('order', ({ step }) =>
        step.run('charge', () => new Promise<string>((resolve) => (end = resolve)), {
          undo: ({ result }) => void w.log.push(`${name} refunds ${result}`),
        }),
      );
      stepfast.job('family', ({ step }) => step.call('order'));
    };
    const a = w.engine(define('a'));
    const { id } = await a.start(job);
    await expect.poll(() => end.length).toBe(1); // entered
    const b = w.engine(define('b'));
    await b.ready();
    await (who === 'its owner' ? a : b).runs.cancel(id);
    await expect.poll(async () => (await b.runs.list({ job: 'order' })).runs[0]!.undoing).toBe(true);
    for (let turns = 0; turns < 50; turns++) await soon(); // time enough for the other one
    expect(w.log).toEqual([]);
    end('c-42');
    await expect.poll(() => w.log.length).toBe(1);
    expect(w.log).toEqual(['a refunds c-42']);
    await a.close();
    await b.close();
  }
});
