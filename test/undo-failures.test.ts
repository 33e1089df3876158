import { expect, it } from 'vitest';
import { FatalError, RetryableError, type Stepfast } from '../src/index.js';
import { everyWay } from './crash-everywhere.js';

// Pins: spec F7 where undos fail, apps close in the middle, and runs are taken up again afterwards.

const kindsOf = async (stepfast: Stepfast, id: string, kinds: RegExp) =>
  (await stepfast.runs.timeline(id)).filter(({ kind }) => kinds.test(kind)).map(({ kind, name }) => `${kind} ${name}`);
const fatal = () => {
  throw new FatalError('no way');
};

everyWay('undos that fail', (open) => {
  it('F7, F1: an undo is tried again by the policy of its step, and those before it wait for it', async () => {
    const w = open();
    const began = w.clock.now();
    const seen: string[] = [];
    const define = (stepfast: Stepfast) => {
      const undo = (name: string, failures: number) => (context: { attempt: number; idempotencyKey: string }) => {
        const { attempt, idempotencyKey } = context;
        seen.push(`${name} ${attempt} at ${(w.clock.now() - began) / 1_000} ${idempotencyKey}`);
        if (attempt <= failures) throw new Error('not yet');
      };
      const retry = { initialDelay: '10s', factor: 1, jitter: false } as const;
      stepfast.job('order', { retry }, async ({ step }) => {
        await step.run('a', () => 1, { undo: undo('a', 1) });
        await step.run('b', () => 1, { undo: undo('b', 2), retry: { initialDelay: '1m' } });
        await step.waitForEvent('never');
      });
    };
    const before = w.engine(define);
    const run = await before.start('order', undefined, { id: 'o' });
    await w.clock.idle();
    await run.cancel();
    await w.clock.advance('30s');
    expect(await before.runs.get('o')).toMatchObject({ status: 'cancelled', undoing: true });
    w.crash(before); // the time of the next attempt is stored
    const after = w.engine(define);
    await after.ready();
    await w.clock.advance('10m');
    expect(seen).toEqual([
      'b 1 at 0 o/0/b/1/undo',
      'b 2 at 60 o/0/b/1/undo',
      'b 3 at 120 o/0/b/1/undo',
      'a 1 at 120 o/0/a/1/undo',
      'a 2 at 130 o/0/a/1/undo',
    ]);
    expect(await after.runs.get('o')).not.toHaveProperty('undoing');
  });

  it('F3, F7: RetryableError sets the delay of an undo', async () => {
    const w = open();
    const at: number[] = [];
    const engine = w.engine((stepfast) => {
      stepfast.job('order', async ({ step }) => {
        await step.run('a', () => 1, {
          undo: () => {
            at.push(w.clock.now());
            if (at.length === 1) throw new RetryableError('later', { after: '2h' });
          },
        });
        await step.run('b', fatal);
      });
    });
    await engine.start('order');
    await w.clock.advance('3h');
    expect(at.map((each) => each - at[0]!)).toEqual([0, 7_200_000]);
  });

  it('F7: an undo that exhausts its attempts is reported and kept in the timeline, and the others go on', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const retry = { maxAttempts: 2, initialDelay: '1s', jitter: false } as const;
      stepfast.job('order', { retry }, async ({ step }) => {
        await step.run('a', () => 1, { undo: () => void w.log.push('undo a') });
        await step.run('b', () => 1, {
          undo: ({ attempt }) => {
            w.log.push(`undo b ${attempt}`);
            throw new Error('it is stuck');
          },
        });
        await step.run('c', () => 1, { undo: () => void w.log.push('undo c') });
        await step.run('d', fatal);
      });
    });
    const run = await engine.start('order');
    await w.clock.advance('1h');
    expect(w.log).toEqual(['undo c', 'undo b 1', 'undo b 2', 'undo a']);
    const cause = expect.objectContaining({ message: 'it is stuck' });
    expect(w.errors).toMatchObject([
      { code: 'STEP_FAILED', job: 'order', step: 'b', runId: expect.any(String), cause },
    ]);
    const snapshot = await engine.runs.get(run.id);
    expect(snapshot).toMatchObject({ status: 'failed', error: { step: 'd' } });
    expect(snapshot).not.toHaveProperty('undoing');
    const timeline = await engine.runs.timeline(run.id);
    expect(timeline.filter(({ kind }) => /^undo-/.test(kind) && kind !== 'undo-set')).toMatchObject([
      { kind: 'undo-attempt-failed', name: 'b', attempt: 1, error: { message: 'it is stuck' } },
      { kind: 'undo-failed', name: 'b', attempt: 2, error: { name: 'Error', message: 'it is stuck' } },
    ]);
  });

  it('F5, F7: an undo that is cut off by close() is begun again, and close aborts its signal', async () => {
    const w = open();
    const signals: AbortSignal[] = [];
    let isSlow = true;
    const define = (stepfast: Stepfast) => {
      stepfast.job('order', { maxInterruptions: 1 }, async ({ step }) => {
        await step.run('a', () => 1, {
          undo: ({ signal, attempt }) => {
            signals.push(signal);
            w.log.push(`undo ${attempt}`);
            return isSlow ? new Promise(() => undefined) : undefined;
          },
        });
        await step.run('b', fatal);
      });
    };
    for (let round = 1; round <= 3; round++) {
      const engine = w.engine(define);
      await engine.start('order', undefined, { id: 'o' });
      await expect.poll(() => signals.length).toBe(round);
      await engine.close();
      expect(signals.at(-1)!.aborted).toBe(true);
    }
    isSlow = false;
    const engine = w.engine(define);
    await engine.ready();
    await w.clock.idle();
    expect(await kindsOf(engine, 'o', /^undo(ne|-f)/)).toEqual(['undone a']); // a clean release is no interruption
    expect(w.log).toEqual(['undo 1', 'undo 1', 'undo 1', 'undo 1']);
    expect(w.errors).toEqual([]);
  });
});

everyWay('runs.retry after undo', (open) => {
  it('R2, F6, F7: undone steps run again under a new key, the others are reused', async () => {
    const w = open();
    let isBroken = true;
    const define = (stepfast: Stepfast) => {
      stepfast.job('order', { retry: { maxAttempts: 1 } }, async ({ step }) => {
        const said = (name: string, result: unknown) => {
          w.log.push(name);
          return result;
        };
        const a = await step.run('a', ({ idempotencyKey }) => said(idempotencyKey, w.log.length), {
          undo: ({ result, idempotencyKey }) => void w.log.push(`${idempotencyKey} ${result}`),
        });
        const plain = await step.run('plain', ({ idempotencyKey }) => said(idempotencyKey, w.log.length));
        await step.run('end', ({ idempotencyKey }) => {
          w.log.push(idempotencyKey);
          if (isBroken) throw new Error('broken');
        });
        return [a, plain];
      });
    };
    const before = w.engine(define);
    const run = await before.start('order', undefined, { id: 'o' });
    await w.clock.idle();
    const first = ['o/0/a/1', 'o/0/plain/1', 'o/0/end/1', 'o/0/a/1/undo 0'];
    expect(w.log).toEqual(first);
    await run.retry();
    await w.clock.idle();
    const second = ['o/1/a/1', 'o/0/end/1', 'o/1/a/1/undo 4'];
    expect(w.log).toEqual([...first, ...second]);
    expect(await run.status()).toBe('failed');
    w.crash(before);
    isBroken = false;
    const after = w.engine(define);
    await after.runs.retry('o');
    await w.clock.idle();
    expect(w.log).toEqual([...first, ...second, 'o/2/a/1', 'o/0/end/1']);
    expect(await after.runs.get('o')).toMatchObject({ status: 'completed', result: [7, 1] });
  });

  it('F6, F7: a step whose undo was given up is still done: a retry reuses it', async () => {
    const w = open();
    let isBroken = true;
    const engine = w.engine((stepfast) => {
      stepfast.job('order', { retry: { maxAttempts: 1 } }, async ({ step }) => {
        const paid = await step.run('pay', () => w.log.push('pay'), { undo: fatal });
        await step.run('end', () => {
          if (isBroken) throw new Error('broken');
        });
        return paid;
      });
    });
    const run = await engine.start('order');
    await w.clock.idle();
    expect(await kindsOf(engine, run.id, /undo-failed/)).toEqual(['undo-failed pay']);
    await run.retry();
    await w.clock.idle();
    expect(await kindsOf(engine, run.id, /undo-failed/)).toHaveLength(2); // tried once more when the run failed again
    isBroken = false;
    await run.retry();
    await w.clock.idle();
    expect(await run.result()).toBe(1);
    expect(w.log).toEqual(['pay']);
  });

  it('F6, F7: a run whose steps are being undone is not retried before that is over', async () => {
    const w = open();
    let end: () => void = () => undefined;
    let isBroken = true;
    const engine = w.engine((stepfast) => {
      stepfast.job('order', { retry: { maxAttempts: 1 } }, async ({ step }) => {
        await step.run('a', () => void w.log.push('a'), {
          undo: () => new Promise<void>((resolve) => (end = resolve)),
        });
        await step.run('b', () => {
          if (isBroken) throw new Error('broken');
        });
        return 'done';
      });
    });
    const run = await engine.start('order');
    await expect.poll(async () => (await engine.runs.get(run.id))!.undoing).toBe(true);
    await expect(run.retry()).rejects.toMatchObject({ code: 'RUN_ACTIVE', runId: run.id });
    end();
    await w.clock.idle();
    isBroken = false;
    await run.retry();
    await w.clock.idle();
    expect(await run.result()).toBe('done');
    expect(w.log).toEqual(['a', 'a']);
  });

  it('F6, F7: retried from a step, the steps that were undone run again wherever they stand', async () => {
    const w = open();
    let isBroken = true;
    const engine = w.engine((stepfast) => {
      stepfast.job('order', { retry: { maxAttempts: 1 } }, async ({ step }) => {
        await step.run('a', () => void w.log.push('a'), { undo: () => void w.log.push('undo a') });
        await step.run('b', () => void w.log.push('b'));
        await step.run('c', () => void w.log.push('c'));
        await step.run('d', () => {
          if (isBroken) throw new Error('broken');
        });
        return 'done';
      });
    });
    const run = await engine.start('order');
    await w.clock.idle();
    isBroken = false;
    await engine.runs.retry(run.id, { from: 'c' });
    await w.clock.idle();
    expect(await run.result()).toBe('done');
    expect(w.log).toEqual(['a', 'b', 'c', 'undo a', 'a', 'c']);
  });
});
