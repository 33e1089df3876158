import { expect, expectTypeOf, it } from 'vitest';
import { z } from 'zod';
import { defineJob, type FailedContext, FatalError, type HandlerContext, type Stepfast } from '../src/index.js';
import { crashEverywhere, everyWay } from './crash-everywhere.js';

// Pins: spec F6: `onFailed` is told of every run that has failed for good, at least once, where its job is registered.

const fatal = () => {
  throw new FatalError('no way');
};
const timelineOf = async (stepfast: Stepfast, id: string) =>
  (await stepfast.runs.timeline(id)).map(({ kind, name }) => (name === undefined ? kind : `${kind} ${name}`));

everyWay('onFailed', (open) => {
  it('F6: hears of run, decoded payload and error, after the steps are undone', async () => {
    const w = open();
    const heard: FailedContext<{ at: Date }>[] = [];
    const engine = w.engine((stepfast) => {
      stepfast.job(
        'order',
        {
          payload: z.object({ at: z.date() }),
          onFailed(context) {
            expectTypeOf(context.payload).toEqualTypeOf<{ at: Date }>();
            w.log.push('told');
            heard.push(context);
          },
        },
        async ({ step }) => {
          await step.run('a', () => 1, { undo: () => void w.log.push('undo a') });
          await step.run('b', fatal);
        },
      );
    });
    const run = await engine.start('order', { at: new Date(3) }, { id: 'o', tags: ['t'] });
    await w.clock.idle();
    expect(w.log).toEqual(['undo a', 'told']);
    expect(heard).toHaveLength(1);
    const { run: of, payload, error, signal } = heard[0]!;
    expect(of).toEqual({ id: 'o', job: 'order', createdAt: w.clock.now(), tags: ['t'] });
    expect(payload).toEqual({ at: new Date(3) });
    const snapshot = await engine.runs.get('o');
    expect(error).toEqual(snapshot!.error);
    expect(error).toMatchObject({ code: 'STEP_FAILED', name: 'StepError', step: 'b' });
    expect(signal.aborted).toBe(false);
    expect(snapshot).not.toHaveProperty('undoing');
    expect(await run.status()).toBe('failed');
    await w.clock.advance('1 day');
    expect(heard).toHaveLength(1);
    expect(w.errors).toEqual([]);
  });

  it('F6: is not told of runs that complete or are cancelled', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const onFailed = () => void w.log.push('told');
      stepfast.job<string>('quick', { onFailed }, () => 'done');
      stepfast.job('long', { onFailed }, async ({ step }) => {
        await step.run('a', () => 1, { undo: () => void w.log.push('undo a') });
        await step.waitForEvent('go', { timeout: '1h', onTimeout: 'cancel' });
      });
    });
    await engine.start('quick');
    const run = await engine.start('long');
    await engine.start('long');
    await w.clock.idle();
    await run.cancel();
    await w.clock.advance('2h');
    expect((await engine.runs.list({ status: 'cancelled' })).runs).toHaveLength(2);
    expect(w.log).toEqual(['undo a', 'undo a']);
  });

  it.each([
    ['a step', { retry: { maxAttempts: 1 } }, 'STEP_FAILED'],
    ['the handler', {}, 'E_HANDLER'],
    ['a timeout of the run', { timeout: '1h' }, 'RUN_TIMEOUT'],
  ] as const)('F6: is told of a failure by %s', async (how, options, code) => {
    const w = open();
    const codes: unknown[] = [];
    const engine = w.engine((stepfast) => {
      stepfast.job(
        'order',
        { ...options, onFailed: ({ error }) => void codes.push(error.code) },
        async ({ step }: HandlerContext<undefined>) => {
          if (how === 'a step') await step.run('b', fatal);
          if (how === 'the handler') throw Object.assign(new FatalError('no'), { code: 'E_HANDLER' });
          await step.waitForEvent('never');
        },
      );
    });
    const run = await engine.start('order');
    await w.clock.advance('2h');
    expect(await run.status()).toBe('failed');
    expect(codes).toEqual([code]);
  });

  it('F6, F1: when it throws, it is told again by the policy of its job; the last failure is reported', async () => {
    const w = open();
    const at: number[] = [];
    const define = (stepfast: Stepfast) => {
      const retry = { maxAttempts: 3, initialDelay: '1m', factor: 1, jitter: false } as const;
      const onFailed = () => {
        at.push(w.clock.now());
        throw new Error(`refused ${at.length}`);
      };
      stepfast.job('order', { retry, onFailed }, fatal);
    };
    const began = w.clock.now();
    const before = w.engine(define);
    await before.start('order', undefined, { id: 'o' });
    await w.clock.idle();
    expect(await before.runs.get('o')).toMatchObject({ status: 'failed', undoing: true });
    await before.close();
    const after = w.engine(define);
    await after.ready();
    await w.clock.advance('1h');
    expect(at.map((each) => each - began)).toEqual([0, 60_000, 120_000]);
    expect(w.errors.map(String)).toEqual([
      expect.stringMatching(/onFailed of job "order" failed for good at attempt 3: refused 3/),
    ]);
    expect(await after.runs.get('o')).not.toHaveProperty('undoing');
    expect(await timelineOf(after, 'o')).toContain('undo-failed stepfast:onFailed');
  });

  it('F6: a failure in a context without onFailed is not told later, for there it was registered without', async () => {
    const w = open();
    const before = w.engine((stepfast) => {
      stepfast.job('order', fatal);
    });
    const run = await before.start('order');
    await w.clock.idle();
    expect(await run.status()).toBe('failed');
    expect(await before.runs.get(run.id)).not.toHaveProperty('undoing');
  });

  it('F6: is told where the job is registered, however long after', async () => {
    const w = open();
    let isClosed = false;
    const order = defineJob(
      'order',
      {
        async onFailed({ signal }: FailedContext<undefined>) {
          w.log.push('told');
          if (!isClosed) await new Promise((resolve) => signal.addEventListener('abort', resolve));
        },
      },
      fatal,
    );
    const before = w.engine((stepfast) => stepfast.register(order));
    await before.start('order', undefined, { id: 'o' });
    await expect.poll(() => w.log).toEqual(['told']);
    isClosed = true;
    await before.close(); // in the middle of it: nobody knows that it was told
    const stranger = w.engine((stepfast) => {
      stepfast.job('other', () => undefined);
    });
    await stranger.ready();
    await w.clock.advance('1 day');
    expect(w.log).toEqual(['told']);
    expect(await stranger.runs.get('o')).toMatchObject({ status: 'failed', undoing: true });
    await stranger.close();
    const after = w.engine((stepfast) => stepfast.register(order));
    await after.ready();
    await w.clock.idle();
    expect(w.log).toEqual(['told', 'told']);
    expect(await after.runs.get('o')).not.toHaveProperty('undoing');
  });

  it('F6: a run that is retried and fails again is told again; one that then completes is not', async () => {
    const w = open();
    let isBroken = true;
    const engine = w.engine((stepfast) => {
      const onFailed = () => void w.log.push('told');
      stepfast.job('order', { retry: { maxAttempts: 1 }, onFailed }, ({ step }: HandlerContext<undefined>) =>
        step.run('b', () => {
          if (isBroken) throw new Error('broken');
          return 'whole';
        }),
      );
    });
    const run = await engine.start('order');
    await w.clock.idle();
    await run.retry();
    await w.clock.idle();
    expect(w.log).toEqual(['told', 'told']);
    isBroken = false;
    await run.retry();
    await w.clock.idle();
    expect(await run.result()).toBe('whole');
    expect(w.log).toEqual(['told', 'told']);
  });

  it('F6: it may retry the run itself', async () => {
    const w = open();
    let rounds = 0;
    const engine = w.engine((stepfast) => {
      const onFailed = ({ run }: FailedContext<undefined>) => stepfast.runs.retry(run.id);
      stepfast.job('order', { retry: { maxAttempts: 1 }, onFailed }, ({ step }: HandlerContext<undefined>) =>
        step.run('b', () => {
          if (++rounds < 3) throw new Error('broken');
          return rounds;
        }),
      );
    });
    const run = await engine.start('order');
    await w.clock.idle();
    expect(await engine.runs.get(run.id)).toMatchObject({ status: 'completed', result: 3 });
    expect(w.errors).toEqual([]);
  });

  it('F6: a child that fails tells its own, then its parent’s', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const child = stepfast.job('child', { onFailed: () => void w.log.push('child') }, fatal);
      stepfast.job(
        'parent',
        { onFailed: ({ error }) => void w.log.push(`parent ${error.step}`) },
        ({ step }: HandlerContext<undefined>) => step.call(child),
      );
    });
    await engine.start('parent');
    await w.clock.idle();
    expect([...w.log].sort()).toEqual(['child', 'parent child']);
  });
});

everyWay(
  'onFailed over crashes',
  (open) => {
    it('F6: whichever commit the context dies at, it is told, after the undo steps, at most once more', async () => {
      await crashEverywhere(open, {
        define(stepfast, w) {
          stepfast.job('order', { onFailed: () => void w.log.push('told') }, async ({ step }) => {
            await step.run('a', () => 1, { undo: () => void w.log.push('undo a') });
            await step.run('b', fatal);
          });
        },
        async play(stepfast, w) {
          await stepfast.start('order', undefined, { id: 'o' });
          await w.clock.idle();
        },
        async check(stepfast, w, where) {
          expect(await stepfast.runs.get('o'), where).toMatchObject({ status: 'failed', error: { step: 'b' } });
          expect(await stepfast.runs.get('o'), where).not.toHaveProperty('undoing');
          expect([...new Set(w.log)], where).toEqual(['undo a', 'told']);
          expect(w.log.length, where).toBeLessThanOrEqual(3);
          expect(w.log.at(-1), where).toBe('told');
        },
      });
    });
  },
  { isLong: true },
);
