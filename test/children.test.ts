import { expect, expectTypeOf, it } from 'vitest';
import { z } from 'zod';
import { defineJob, FatalError, type HandlerContext, type RunSnapshot, type Stepfast } from '../src/index.js';
import { everyWay } from './crash-everywhere.js';

// Pins: spec E12, R3, R10, B and Q2 for child runs: what `step.call` and `step.start` give, and when they fail.

const soon = () => new Promise<void>((resolve) => setTimeout(resolve, 0));
const kindsOf = async (stepfast: Stepfast, id: string) =>
  (await stepfast.runs.timeline(id)).map(({ kind }) => kind as string);
const runsOf = async (stepfast: Stepfast, job: string) => (await stepfast.runs.list({ job })).runs;

/** Defines a job that calls this one with its own payload, and gives what it got or how that failed. */
const caller = (stepfast: Stepfast, job: Parameters<Stepfast['register']>[0], options = {}) =>
  stepfast.job<unknown>('parent', ({ payload, step }) =>
    step.call(job as never, payload as never, options).catch((error: unknown) => ({ error })),
  );
interface Caught {
  readonly error: Error & { readonly code: string; readonly step: string; readonly cause: Record<string, unknown> };
}

everyWay('step.call', (open) => {
  it('E12, R3: gives the decoded copy of what the child returned, typed, and the same on replay', async () => {
    const w = open();
    const child = defineJob('child', {}, async ({ payload, step }: HandlerContext<{ n: bigint }>) => {
      const at = await step.run('at', () => new Date(payload.n === 7n ? 1 : 2));
      return { at, tags: new Map([['n', payload.n]]), none: undefined };
    });
    const live: unknown[] = [];
    const define = (stepfast: Stepfast) => {
      stepfast.register(child);
      stepfast.job('parent', async ({ step }) => {
        const result = await step.call(child, { n: 7n });
        expectTypeOf(result).toEqualTypeOf<{ at: Date; tags: Map<string, bigint>; none: undefined }>();
        live.push(result);
        await step.sleep('nap', '1h');
        return result;
      });
    };
    const before = w.engine(define);
    await before.start('parent', undefined, { id: 'p' });
    await w.clock.idle();
    await before.close();
    const after = w.engine(define);
    await after.ready();
    await w.clock.advance('1h');
    const wanted = { at: new Date(1), tags: new Map([['n', 7n]]), none: undefined };
    expect(await after.runs.get('p')).toMatchObject({ status: 'completed', result: wanted });
    expect(live.length).toBeGreaterThan(1);
    for (const each of live) expect(each).toEqual(wanted);
    expect(new Set(live).size).toBe(live.length); // copies
  });

  it('E12, V1: a waiting parent shows its child, the child its parent', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const child = stepfast.job('child', ({ step }) => step.waitForEvent('go'));
      stepfast.job('parent', ({ step }) => step.call(child));
    });
    await engine.start('parent', undefined, { id: 'p' });
    await w.clock.idle();
    const [child] = await runsOf(engine, 'child');
    expect(child).toMatchObject({ parentId: 'p', status: 'waiting' });
    const parent = (await engine.runs.get('p')) as RunSnapshot;
    expect(parent).toMatchObject({ status: 'waiting', waitingFor: [{ events: [], runId: child!.id }] });
    expect(parent).not.toHaveProperty('parentId');
    await engine.dispatch('go', 1);
    await w.clock.idle();
    expect(await engine.runs.get('p')).toMatchObject({ status: 'completed', waitingFor: [] });
    expect(await kindsOf(engine, 'p')).toEqual(['started', 'claimed', 'child-set', 'child-completed', 'completed']);
  });

  it('E12, R10: a child that fails for good is a StepError whose cause is its error', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const child = stepfast.job<unknown>('child', { retry: { maxAttempts: 2, initialDelay: '1s' } }, ({ step }) =>
        step.run('work', () => {
          throw Object.assign(new TypeError('no such table'), { code: 'E_TABLE' });
        }),
      );
      caller(stepfast, child);
    });
    const run = await engine.start('parent', null);
    await w.clock.advance('1m');
    const { error } = (await run.result()) as Caught;
    expect(error).toMatchObject({ name: 'StepError', code: 'STEP_FAILED', step: 'child' });
    expect(error.cause).toMatchObject({ name: 'StepError', code: 'STEP_FAILED', step: 'work' });
    expect(error.cause.cause).toMatchObject({ name: 'TypeError', message: 'no such table', code: 'E_TABLE' });
    const [child] = await runsOf(engine, 'child');
    expect(child).toMatchObject({ status: 'failed', parentId: run.id });
    expect(child!.attempts).toHaveLength(2);
  });

  it('E12, F2: a parent that does not catch fails at once, and names the call', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const child = stepfast.job('child', () => {
        throw new FatalError('broken');
      });
      stepfast.job('parent', async ({ step }) => {
        w.log.push('pass');
        await step.call(child, undefined, { name: 'the call' });
      });
    });
    await engine.start('parent', undefined, { id: 'p' });
    await w.clock.advance('1h');
    expect(await engine.runs.get('p')).toMatchObject({
      status: 'failed',
      error: { name: 'StepError', code: 'STEP_FAILED', step: 'the call' },
    });
    expect(await runsOf(engine, 'child')).toHaveLength(1);
  });

  it('E12: a child that is cancelled is a StepError with RUN_CANCELLED as its cause', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      caller(
        stepfast,
        stepfast.job<unknown>('child', ({ step }) => step.waitForEvent('never')),
      );
    });
    const run = await engine.start('parent', null);
    await w.clock.idle();
    const [child] = await runsOf(engine, 'child');
    await engine.runs.cancel(child!.id);
    await w.clock.idle();
    const { error } = (await run.result()) as Caught;
    expect(error).toMatchObject({ code: 'STEP_FAILED', step: 'child', cause: { code: 'RUN_CANCELLED' } });
    expect(await run.status()).toBe('completed');
  });

  it('E12: a child may have children, and each is its own parent’s', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const leaf = stepfast.job('leaf', {}, ({ payload, step }: HandlerContext<number>) =>
        step.run('square', () => payload * payload),
      );
      const middle = stepfast.job('middle', {}, async ({ payload, step }: HandlerContext<number>) => {
        const squares = [await step.call(leaf, payload), await step.call(leaf, payload + 1)];
        return squares[0]! + squares[1]!;
      });
      stepfast.job('top', async ({ step }) => Promise.all([step.call(middle, 1), step.call(middle, 3)]));
    });
    const run = await engine.start('top');
    await w.clock.idle();
    expect(await run.result()).toEqual([5, 25]);
    const middles = await runsOf(engine, 'middle');
    expect(middles.map(({ parentId }) => parentId)).toEqual([run.id, run.id]);
    const parents = (await runsOf(engine, 'leaf')).map(({ parentId }) => parentId).sort();
    expect(parents).toEqual([...middles, ...middles].map(({ id }) => id).sort());
  });

  it('E12, Q2: 100 children at once, never more than 5 of a queue of 5, all awaited', async () => {
    const w = open();
    let inFlight = 0;
    let most = 0;
    const engine = w.engine((stepfast) => {
      const queue = { name: 'narrow', concurrency: 5 };
      const child = stepfast.job('child', { queue }, ({ payload, step }: HandlerContext<number>) =>
        step.run('work', async () => {
          most = Math.max(most, ++inFlight);
          while (most < 5) await soon(); // the first ones stay until all lanes are full
          await soon();
          inFlight--;
          return payload * 2;
        }),
      );
      stepfast.job('parent', ({ step }) =>
        Promise.all(Array.from({ length: 100 }, (_, index) => step.call(child, index))),
      );
    });
    const run = await engine.start('parent');
    expect(await run.result()).toEqual(Array.from({ length: 100 }, (_, index) => index * 2));
    expect(most).toBe(5);
    expect((await engine.runs.list({ job: 'child', status: 'completed', limit: 200 })).runs).toHaveLength(100);
  });

  it('Q2: a parent that waits holds no slot: one lane of one is enough for three generations', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const options = { queue: { name: 'one', concurrency: 1 } };
      const leaf = stepfast.job('leaf', options, ({ step }) => step.run('work', () => 'leaf'));
      const middle = stepfast.job('middle', options, ({ step }) => step.call(leaf));
      stepfast.job('top', options, ({ step }) => step.call(middle));
    });
    const run = await engine.start('top');
    await w.clock.idle();
    expect(await run.result()).toBe('leaf');
  });

  it('E12: a child that ended before it was awaited is not missed', async () => {
    const w = open();
    const define = (stepfast: Stepfast) => {
      const child = stepfast.job('child', ({ step }) => step.run('work', () => 'done'));
      stepfast.job('parent', async ({ step }) => {
        const called = step.call(child);
        await step.sleep('nap', '1h');
        return called;
      });
    };
    const before = w.engine(define);
    await before.start('parent', undefined, { id: 'p' });
    await w.clock.idle();
    expect((await runsOf(before, 'child'))[0]!.status).toBe('completed');
    expect((await before.runs.get('p'))!.status).toBe('sleeping');
    w.crash(before);
    const after = w.engine(define);
    await after.ready();
    await w.clock.advance('1h');
    expect(await after.runs.get('p')).toMatchObject({ status: 'completed', result: 'done' });
  });

  it('E12: with an id it attaches to a run that has ended, however long ago, and is not its parent', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const child = stepfast.job('child', { retention: Infinity }, ({ payload, step }: HandlerContext<number>) =>
        step.run('work', () => w.log.push('work') + payload),
      );
      stepfast.job<number>('parent', ({ payload, step }) =>
        step.call(child, payload, { id: 'c' }).catch((error: unknown) => ({ error })),
      );
    });
    await engine.start('child', 5, { id: 'c' });
    await w.clock.advance('60 days'); // longer than any event lives
    const run = await engine.start('parent', 5);
    await w.clock.idle();
    expect(await run.result()).toBe(6);
    expect(w.log).toEqual(['work']);
    expect(await engine.runs.get('c')).not.toHaveProperty('parentId');
    const other = await engine.start('parent', 6);
    await w.clock.idle();
    const { error } = (await other.result()) as Caught;
    expect(error.cause).toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
    expect(await runsOf(engine, 'child')).toHaveLength(1);
  });

  it('E12, Q1: two parents with one idempotency key share one child, active or ended', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const child = stepfast.job('child', ({ step }) => step.waitForEvent('go'));
      stepfast.job('parent', async ({ step }) => {
        const { id } = await step.call(child, undefined, { idempotencyKey: 'k' });
        return id;
      });
    });
    const runs = [await engine.start('parent'), await engine.start('parent')];
    await w.clock.idle();
    const { id } = await engine.dispatch('go');
    await w.clock.idle();
    runs.push(await engine.start('parent'));
    await w.clock.idle();
    for (const run of runs) expect(await run.result()).toBe(id);
    expect(await runsOf(engine, 'child')).toHaveLength(1);
  });

  it('B: a payload that its schema refuses is not tried again, and starts nothing', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      caller(
        stepfast,
        stepfast.job('child', { payload: z.object({ n: z.number() }) }, () => void w.log.push('child')),
      );
    });
    const run = await engine.start('parent', { n: 'one' });
    await w.clock.advance('1h');
    const { error } = (await run.result()) as Caught;
    expect(error).toMatchObject({ code: 'STEP_FAILED', cause: { code: 'INVALID_PAYLOAD' } });
    expect((await engine.runs.get(run.id))!.attempts).toHaveLength(1);
    expect(await runsOf(engine, 'child')).toEqual([]);
  });

  it('B, R5: where the job of a child is not registered the run is blocked, no attempt is lost, and it goes on when it is', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      stepfast.job<string>('parent', async ({ payload, step }) => {
        await step.run('before', () => w.log.push('before'));
        return step.call(payload).catch((error: unknown) => ({ error }));
      });
    });
    const run = await engine.start('parent', 'late');
    await w.clock.advance('1h');
    expect(await engine.runs.get(run.id)).toMatchObject({
      status: 'blocked',
      error: { code: 'UNKNOWN_JOB' },
      attempts: [],
    });
    engine.job('late', () => 'here');
    await w.clock.advance('1h');
    expect(await run.result()).toBe('here');
    expect(w.log).toEqual(['before']);
  });

  it('E12: a call that would give the run itself, by a singleton or an id, is refused instead of waited for', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      stepfast.job<number>('crawl', { queue: { name: 'crawl', singleton: true } }, async ({ payload, step }) =>
        payload > 0 ? 1 + ((await step.call('crawl', payload - 1)) as number) : 0,
      );
      stepfast.job('own', async ({ step, run }) => {
        const started = await step.start('own', undefined, { id: run.id });
        const called = await step.call('own', undefined, { id: run.id }).catch((error) => error.code);
        return [started.id, called];
      });
    });
    await engine.start('crawl', 2, { id: 'C' });
    await engine.start('own', undefined, { id: 'O' });
    await w.clock.idle();
    const crawl = await engine.runs.get('C');
    expect(crawl).toMatchObject({
      status: 'failed',
      error: { code: 'STEP_FAILED' },
    });
    expect(crawl!.error!.message).toContain('another than the run itself');
    expect(await engine.runs.get('O')).toMatchObject({ status: 'completed', result: ['O', 'STEP_FAILED'] });
  });

  it('E12, R4: a child with a name of its own, or of no name at all, is one identity each', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const child = stepfast.job('child', {}, ({ payload }: HandlerContext<string>) => payload);
      stepfast.job('parent', async ({ step }) => [
        await step.call(child, 'a'),
        await step.call(child, 'b'),
        await step.call('child', 'c', { name: 'other' }),
        await step.run('other', () => 'd'),
      ]);
    });
    const run = await engine.start('parent');
    await w.clock.idle();
    expect(await run.result()).toEqual(['a', 'b', 'c', 'd']);
    const ended = (await engine.runs.timeline(run.id)).filter(({ kind }) => /child-completed|step-/.test(kind));
    expect(ended.map(({ name, occurrence }) => [name, occurrence])).toEqual([
      ['child', 1],
      ['child', 2],
      ['other', 1],
      ['other', 2],
    ]);
  });

  it('E11, E12: a call that loses a race is withdrawn: its end wakes nobody, and the child goes on', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const child = stepfast.job('child', async ({ step }) => {
        await step.waitForEvent('child');
        w.log.push('child done');
      });
      stepfast.job('parent', async ({ step }) => {
        const first = await step.race([step.call(child), step.sleep('patience', '1h').then(() => 'late')]);
        const second = await step.race([step.call(child), step.waitForEvent('parent').then(() => 'told')]);
        return [first, second];
      });
    });
    const run = await engine.start('parent');
    await w.clock.advance('1h');
    expect((await engine.runs.get(run.id))!.waitingFor).toHaveLength(2); // the second child, and the event
    await engine.dispatch('child');
    await w.clock.idle();
    expect(await run.result()).toEqual(['late', undefined]);
    expect(w.log).toEqual(['child done', 'child done']);
  });

  it('E12: step.start gives the id and does not wait; the child outlives a parent that completes', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const child = stepfast.job('child', {}, async ({ payload, step }: HandlerContext<string>) => {
        await step.sleep('nap', '1h');
        return payload;
      });
      stepfast.job('parent', async ({ step }) => {
        const started = await step.start(child, 'x');
        expectTypeOf(started).toEqualTypeOf<{ readonly id: string }>();
        return started;
      });
    });
    const run = await engine.start('parent');
    await w.clock.idle();
    const { id } = (await run.result()) as { id: string };
    expect(await engine.runs.get(id)).toMatchObject({ status: 'sleeping', parentId: run.id, payload: 'x' });
    await w.clock.advance('1h');
    expect(await engine.runs.get(id)).toMatchObject({ status: 'completed', result: 'x' });
  });
});
