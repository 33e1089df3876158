import { expect, it } from 'vitest';
import {
  type Duration,
  FatalError,
  type HandlerContext,
  RetryableError,
  type RetryOptions,
  type StepError,
  type Stepfast,
} from '../src/index.js';
import { onEveryStore, type World, world } from './harness.js';

// Pins: spec F1 to F4 and R10, as a user sees them: when a step is tried again, how often, and what the handler hears.

const FIXED = { initialDelay: '10s', factor: 1, jitter: false } as const;

/** Defines a job of one step that notes when each attempt begins and fails the first `failures` times. */
const flaky =
  (w: World, at: number[], failures: number, retry?: { readonly job?: RetryOptions; readonly step?: RetryOptions }) =>
  (stepfast: Stepfast) =>
    stepfast.job('flaky', { ...(retry?.job && { retry: retry.job }) }, ({ step }) =>
      step.run(
        'call',
        () => {
          at.push(w.clock.now());
          if (at.length <= failures) throw new Error(`failure ${at.length}`);
          return 'done';
        },
        retry?.step ? { retry: retry.step } : {},
      ),
    );

const gaps = (at: readonly number[]) => at.slice(1).map((each, index) => each - at[index]!);

onEveryStore('retries', (medium) => {
  it('by default a step is tried five times, each delay twice the last and drawn from its upper half', async () => {
    const w = world(medium);
    const drawn: number[][] = [];
    for (let run = 0; run < 8; run++) {
      const at: number[] = [];
      const engine = w.engine(flaky(w, at, Infinity));
      const { id } = await engine.start('flaky', undefined, { id: `r${run}` });
      await w.clock.advance('5m');
      expect(await engine.runs.get(id)).toMatchObject({
        status: 'failed',
        error: { code: 'STEP_FAILED', name: 'StepError', step: 'call' },
      });
      expect(at).toHaveLength(5);
      for (const [index, gap] of gaps(at).entries()) {
        expect(gap).toBeGreaterThanOrEqual(500 * 2 ** index);
        expect(gap).toBeLessThanOrEqual(1_000 * 2 ** index);
      }
      drawn.push(gaps(at));
      await engine.close();
    }
    // Equal in all of 32 draws out of hundreds of values each: then nothing is drawn.
    expect(new Set(drawn.map((each) => each.join())).size).toBeGreaterThan(1);
  });

  it('no delay is longer than maxDelay, and without jitter delays are exact', async () => {
    const w = world(medium);
    const at: number[] = [];
    const retry = { maxAttempts: 6, initialDelay: '10s', factor: 3, maxDelay: '50s', jitter: false } as const;
    const engine = w.engine(flaky(w, at, 5, { step: retry }));
    const { id } = await engine.start('flaky');
    await w.clock.advance('10m');
    expect(await engine.runs.get(id)).toMatchObject({ status: 'completed', result: 'done' });
    expect(gaps(at)).toEqual([10_000, 30_000, 50_000, 50_000, 50_000]);
  });

  it('a step goes over the start, the start over the job, the job over the engine, field by field', async () => {
    const w = world(medium);
    const at: number[] = [];
    const define = flaky(w, at, Infinity, {
      job: { maxAttempts: 9, initialDelay: '9s', factor: 2 },
      step: { maxAttempts: 4 },
    });
    const engine = w.engine(define, {
      retry: { maxAttempts: 8, initialDelay: '8s', factor: 8, maxDelay: '7s', jitter: false },
    });
    await engine.start('flaky', undefined, { retry: { maxAttempts: 3, initialDelay: '2s' } });
    await w.clock.advance('10m');
    expect(gaps(at)).toEqual([2_000, 4_000, 7_000]); // step: 4 attempts; start: 2 s; job: factor 2; engine: at most 7 s
  });

  it('the retry options of a start outlive a crash', async () => {
    const w = world(medium);
    const at: number[] = [];
    const define = flaky(w, at, Infinity);
    const before = w.engine(define);
    await before.start('flaky', undefined, { retry: { ...FIXED, maxAttempts: 3 } });
    await w.clock.idle();
    w.crash(before);
    const after = w.engine(define);
    await after.ready();
    await w.clock.advance('10m');
    expect(gaps(at)).toEqual([10_000, 10_000]);
  });

  it('a start may ask for attempts without end', async () => {
    const w = world(medium);
    const at: number[] = [];
    const engine = w.engine(flaky(w, at, 20));
    const { id } = await engine.start('flaky', undefined, { retry: { ...FIXED, maxAttempts: Infinity } });
    await w.clock.advance('10m');
    expect(await engine.runs.get(id)).toMatchObject({ status: 'completed', result: 'done' });
    expect(at).toHaveLength(21);
  });

  it('a retry field that is given as undefined is a field that is not given', async () => {
    const w = world(medium);
    const at: number[] = [];
    const engine = w.engine(flaky(w, at, Infinity, { job: { ...FIXED, maxAttempts: 2 } }));
    await engine.start('flaky', undefined, { retry: { maxAttempts: undefined, initialDelay: '3s' } });
    await w.clock.advance('10m');
    expect(gaps(at)).toEqual([3_000]);
  });

  it('each step counts its own failures', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('two', { retry: { ...FIXED, maxAttempts: 3 } }, async ({ step }) => {
        for (const name of ['a', 'b', 'a'])
          await step.run(name, ({ attempt }) => {
            w.log.push(`${name} ${attempt}`);
            if (attempt < 3) throw new Error('not yet');
          });
      });
    });
    const { id } = await engine.start('two');
    await w.clock.advance('10m');
    expect((await engine.runs.get(id))?.status).toBe('completed');
    expect(w.log).toEqual(['a 1', 'a 2', 'a 3', 'b 1', 'b 2', 'b 3', 'a 1', 'a 2', 'a 3']);
  });

  it('failed attempts are in the snapshot, with step, number, error and time, and the run is seen retrying', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('twice', { retry: { ...FIXED, maxAttempts: 3 } }, ({ step }) =>
        step.run('call', ({ attempt }) => {
          if (attempt < 3) throw new TypeError(`no ${attempt}`);
        }),
      );
    });
    const start = w.clock.now();
    const { id } = await engine.start('twice');
    await w.clock.idle();
    expect((await engine.runs.get(id))?.status).toBe('retrying');
    await w.clock.advance('10m');
    const snapshot = await engine.runs.get(id);
    expect(snapshot?.status).toBe('completed');
    expect(snapshot?.attempts).toMatchObject([
      { step: 'call', attempt: 1, error: { name: 'TypeError', message: 'no 1' }, at: start },
      { step: 'call', attempt: 2, error: { name: 'TypeError', message: 'no 2' }, at: start + 10_000 },
    ]);
  });

  it('the time of the next attempt is stored: a crash neither loses nor renews it', async () => {
    const w = world(medium);
    const at: number[] = [];
    const define = flaky(w, at, 1, { step: { ...FIXED, initialDelay: '50s' } });
    const before = w.engine(define);
    const start = w.clock.now();
    const { id } = await before.start('flaky');
    await w.clock.advance('20s');
    const failed = (await before.runs.timeline(id)).find(({ kind }) => kind === 'attempt-failed');
    expect(failed).toMatchObject({ name: 'call', attempt: 1, at: start, retryAt: start + 50_000 });
    w.crash(before);
    const after = w.engine(define);
    await after.ready();
    await w.clock.advance('29s');
    expect(at).toEqual([start]);
    await w.clock.advance('1s');
    expect(at).toEqual([start, start + 50_000]);
    expect((await after.runs.get(id))?.status).toBe('completed');
  });

  it('a retry that became due while everything was closed starts at once, and once', async () => {
    const w = world(medium);
    const at: number[] = [];
    const define = flaky(w, at, 1);
    const before = w.engine(define);
    const { id } = await before.start('flaky');
    await w.clock.idle();
    await before.close();
    await w.clock.advance('3 days');
    expect(at).toHaveLength(1);
    const after = w.engine(define);
    await after.ready();
    await w.clock.idle();
    expect(at).toHaveLength(2);
    expect((await after.runs.get(id))?.status).toBe('completed');
  });

  it('overdue retries start oldest first, no more at once than the concurrency of the queue', async () => {
    const w = world(medium);
    const order = ['e', 'b', 'd', 'a', 'c']; // as started; due in the order of the alphabet
    let isFirst = true;
    let inFlight = 0;
    let most = 0;
    const define = (stepfast: Stepfast) => {
      stepfast.job(
        'overdue',
        { queue: { name: 'narrow', concurrency: 2 }, retry: { factor: 1, jitter: false } },
        ({ payload, step }: HandlerContext<string>) =>
          step.run('call', async () => {
            if (isFirst) throw new Error('not yet');
            w.log.push(payload);
            most = Math.max(most, ++inFlight);
            // Until a second one is in flight, or none is left to come.
            while (inFlight < 2 && w.log.length < order.length) await new Promise((resolve) => setTimeout(resolve, 0));
            inFlight--;
          }),
      );
    };
    const before = w.engine(define);
    for (const name of order)
      await before.start('overdue', name, { id: name, retry: { initialDelay: (name.charCodeAt(0) - 96) * 10_000 } });
    await w.clock.idle();
    for (const name of order) expect((await before.runs.get(name))?.status).toBe('retrying');
    w.crash(before);
    await w.clock.advance('1 day');
    isFirst = false;
    const after = w.engine(define);
    await after.ready();
    await w.clock.idle();
    // Two that start at once read their journals together: which function is entered first is left open.
    const left = [...order].sort();
    for (const name of w.log) {
      expect(left.slice(0, 2)).toContain(name);
      left.splice(left.indexOf(name), 1);
    }
    expect(left).toEqual([]);
    expect(most).toBe(2);
    for (const name of order) expect((await after.runs.get(name))?.status).toBe('completed');
  });

  it('a FatalError is not retried', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('fatal', ({ step }) =>
        step.run('call', () => {
          w.log.push('call');
          throw new FatalError('card expired');
        }),
      );
    });
    const { id } = await engine.start('fatal');
    await w.clock.advance('10m');
    expect(w.log).toEqual(['call']);
    expect(await engine.runs.get(id)).toMatchObject({
      status: 'failed',
      error: { code: 'STEP_FAILED', step: 'call' },
      attempts: [{ step: 'call', attempt: 1, error: { name: 'FatalError', message: 'card expired' } }],
    });
  });

  it('an error class of the user that extends FatalError is fatal too, whatever its name', async () => {
    const w = world(medium);
    class CardExpired extends FatalError {
      override name = 'CardExpired';
    }
    const engine = w.engine((stepfast) => {
      stepfast.job('fatal', ({ step }) =>
        step.run('call', () => {
          w.log.push('call');
          throw new CardExpired('card expired');
        }),
      );
    });
    await engine.start('fatal');
    await w.clock.advance('10m');
    expect(w.log).toEqual(['call']);
  });

  it.each([
    ['a duration', '5m', 300_000],
    ['milliseconds', 1_234, 1_234],
    ['zero', 0, 0],
  ] as const)('a RetryableError sets its own delay, given as %s, even beyond maxDelay', async (_, after, gap) => {
    const w = world(medium);
    const at: number[] = [];
    const engine = w.engine((stepfast) => {
      stepfast.job('limited', ({ step }) =>
        step.run('call', () => {
          at.push(w.clock.now());
          if (at.length === 1) throw new RetryableError('too many requests', { after });
        }),
      );
    });
    const { id } = await engine.start('limited');
    await w.clock.advance('10m');
    expect(gaps(at)).toEqual([gap]);
    expect((await engine.runs.get(id))?.status).toBe('completed');
  });

  it('a RetryableError without a delay follows the policy, and each one costs an attempt', async () => {
    const w = world(medium);
    const at: number[] = [];
    const engine = w.engine((stepfast) => {
      stepfast.job('limited', { retry: { ...FIXED, maxAttempts: 3 } }, ({ step }) =>
        step.run('call', () => {
          at.push(w.clock.now());
          throw new RetryableError('too many requests', at.length === 1 ? {} : { after: '20s' });
        }),
      );
    });
    const { id } = await engine.start('limited');
    await w.clock.advance('10m');
    expect(gaps(at)).toEqual([10_000, 20_000]);
    expect((await engine.runs.get(id))?.status).toBe('failed');
  });

  it('a RetryableError with a delay that is none does not hang the run', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('limited', { retry: { ...FIXED, maxAttempts: 2 } }, ({ step }) =>
        step.run('call', () => {
          throw new RetryableError('too many requests', { after: 'soon' as Duration });
        }),
      );
    });
    const { id } = await engine.start('limited');
    await w.clock.advance('10m');
    expect((await engine.runs.get(id))?.status).toBe('failed');
  });

  it('a value that cannot be encoded is not retried, and the handler hears where it is', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('closure', ({ step }) =>
        step.run('make', () => {
          w.log.push('make');
          return { user: { onClick: () => undefined } };
        }),
      );
    });
    const { id } = await engine.start('closure');
    await w.clock.advance('10m');
    expect(w.log).toEqual(['make']);
    const snapshot = await engine.runs.get(id);
    expect(snapshot).toMatchObject({ status: 'failed', attempts: [{ error: { code: 'NOT_SERIALIZABLE' } }] });
    expect(snapshot?.attempts[0]?.error.message).toContain('$.user.onClick');
  });

  it.each([
    undefined,
    null,
    'text',
    42,
    { code: 'E' },
  ])('whatever is thrown is a failed attempt: %s', async (thrown) => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('odd', { retry: { ...FIXED, maxAttempts: 3 } }, ({ step }) =>
        step.run('call', ({ attempt }) => {
          if (attempt < 3) throw thrown;
          return 'done';
        }),
      );
    });
    const { id } = await engine.start('odd');
    await w.clock.advance('10m');
    expect(await engine.runs.get(id)).toMatchObject({
      status: 'completed',
      attempts: [{ attempt: 1 }, { attempt: 2 }],
    });
  });

  it('the final failure is thrown as StepError with the original as cause, the same on every pass', async () => {
    const w = world(medium);
    class Declined extends Error {
      override name = 'Declined';
      readonly code = 'E_CARD';
      readonly data = { limit: 3n, at: new Date(0) };
    }
    const seen: unknown[] = [];
    const define = (stepfast: Stepfast) => {
      stepfast.job('shop', { retry: { ...FIXED, maxAttempts: 2 } }, async ({ step }) => {
        let way = 'paid';
        try {
          await step.run('pay', () => {
            w.log.push('pay');
            throw new Declined('card declined');
          });
        } catch (error) {
          const { name, code, step: place, cause } = error as StepError;
          const { name: causeName, message, stack, code: causeCode, data } = cause as Declined;
          seen.push({ name, code, place, cause: { name: causeName, message, stack, code: causeCode, data } });
          way = await step.run(causeCode === 'E_CARD' ? 'invoice' : 'give up', () => {
            w.log.push('invoice');
            return 'invoiced';
          });
        }
        await step.waitForEvent('go');
        return way;
      });
    };
    const before = w.engine(define);
    const { id } = await before.start('shop');
    await w.clock.advance('1m');
    expect((await before.runs.get(id))?.status).toBe('waiting');
    w.crash(before);
    const after = w.engine(define);
    await after.dispatch('go');
    await w.clock.idle();
    expect(await after.runs.get(id)).toMatchObject({ status: 'completed', result: 'invoiced' });
    expect(w.log).toEqual(['pay', 'pay', 'invoice']);
    expect(seen).toHaveLength(2);
    expect(seen[1]).toEqual(seen[0]);
    expect(seen[0]).toMatchObject({
      name: 'StepError',
      code: 'STEP_FAILED',
      place: 'pay',
      cause: {
        name: 'Declined',
        message: 'card declined',
        stack: expect.stringContaining('retries.test.ts'),
        code: 'E_CARD',
        data: { limit: 3n, at: new Date(0) },
      },
    });
  });

  it('an attempt that will be retried reaches neither the handler nor the caller of result()', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('calm', async ({ step }) => {
        try {
          return await step.run('call', ({ attempt }) => {
            if (attempt < 5) throw new Error('not yet');
            return 'done';
          });
        } catch {
          return 'caught';
        }
      });
    });
    const run = await engine.start('calm');
    const result = run.result();
    await w.clock.advance('5m');
    expect(await result).toBe('done');
  });

  it('a handler that throws outside of its steps is tried again by the same policy, then the run fails with its error', async () => {
    const w = world(medium);
    const at: number[] = [];
    const engine = w.engine((stepfast) => {
      stepfast.job('clumsy', { retry: { ...FIXED, maxAttempts: 3 } }, async ({ step }) => {
        await step.run('once', () => void w.log.push('once'));
        at.push(w.clock.now());
        throw new RangeError('out of range');
      });
    });
    const { id } = await engine.start('clumsy');
    await w.clock.advance('10m');
    expect(await engine.runs.get(id)).toMatchObject({
      status: 'failed',
      error: { name: 'RangeError', message: 'out of range' },
    });
    expect(gaps(at)).toEqual([10_000, 10_000]);
    expect(w.log).toEqual(['once']);
  });

  it('errors of the handler are counted apart from those of steps, and a new outcome resets them', async () => {
    const w = world(medium);
    let passes = 0;
    const engine = w.engine((stepfast) => {
      stepfast.job('clumsy', { retry: { ...FIXED, maxAttempts: 3 } }, async ({ step }) => {
        const pass = ++passes;
        if (pass <= 2) throw new Error(`before the first step, pass ${pass}`);
        await step.run('call', ({ attempt }) => {
          if (attempt < 3) throw new Error('step failure');
        });
        if (pass <= 4) throw new Error(`after the first step, pass ${pass}`);
        await step.run('last', () => undefined);
        return 'done';
      });
    });
    const { id } = await engine.start('clumsy');
    await w.clock.advance('10m');
    expect(await engine.runs.get(id)).toMatchObject({ status: 'completed', result: 'done' });
  });

  it('the count of handler errors, and the time of its next try, outlive a crash', async () => {
    const w = world(medium);
    const at: number[] = [];
    const define = (stepfast: Stepfast) => {
      stepfast.job('clumsy', { retry: { ...FIXED, maxAttempts: 3 } }, async () => {
        at.push(w.clock.now());
        throw new Error('always');
      });
    };
    let engine = w.engine(define);
    const { id } = await engine.start('clumsy');
    await w.clock.idle();
    for (let crash = 0; crash < 3; crash++) {
      w.crash(engine);
      engine = w.engine(define);
      await engine.ready();
      await w.clock.advance('4s');
    }
    await w.clock.advance('10m');
    expect((await engine.runs.get(id))?.status).toBe('failed');
    expect(gaps(at)).toEqual([10_000, 10_000]);
  });

  it.each([
    ['the StepError itself', (error: unknown) => error],
    ['a StepError in cause', (error: unknown) => new Error('wrapped', { cause: error })],
    ['a StepError deep in cause', (error: unknown) => new Error('a', { cause: new Error('b', { cause: error }) })],
    ['a StepError in errors', (error: unknown) => new AggregateError([new Error('other'), error], 'all failed')],
    ['a StepError in cause of a plain object', (error: unknown) => ({ message: 'w', cause: error })],
    ['a StepError in cause of a cause that is none', (error: unknown) => new Error('w', { cause: { cause: error } })],
  ])('a handler that ends with %s fails the run at once', async (_, wrap) => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('wrapping', async ({ step }) => {
        w.log.push('pass');
        try {
          await step.run('call', () => {
            throw new FatalError('no');
          });
        } catch (error) {
          throw wrap(error);
        }
      });
    });
    const { id } = await engine.start('wrapping');
    await w.clock.idle();
    expect((await engine.runs.get(id))?.status).toBe('failed');
    await w.clock.advance('10m');
    expect(w.log).toEqual(['pass']);
  });

  it('a handler whose Promise.any over steps fails does not run again', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('any', async ({ step }) => {
        w.log.push('pass');
        const fail = (name: string) =>
          step.run(name, () => {
            throw new FatalError(name);
          });
        return Promise.any([fail('a'), fail('b')]);
      });
    });
    const { id } = await engine.start('any');
    await w.clock.advance('10m');
    expect(await engine.runs.get(id)).toMatchObject({ status: 'failed', error: { name: 'AggregateError' } });
    expect(w.log).toEqual(['pass']);
  });

  it('an uncaught EventTimeoutError, also wrapped, fails the run at once', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('late', async ({ step }) => {
        try {
          await step.waitForEvent('go', { timeout: '1h' });
        } catch (error) {
          w.log.push((error as { code: string }).code);
          throw new Error('nobody came', { cause: error });
        }
      });
    });
    const { id } = await engine.start('late');
    await w.clock.advance('1h');
    expect(await engine.runs.get(id)).toMatchObject({ status: 'failed', error: { message: 'nobody came' } });
    await w.clock.advance('10m');
    expect(w.log).toEqual(['EVENT_TIMEOUT']);
  });

  it('a FatalError of the handler is not retried, and a RetryableError of it sets the delay', async () => {
    const w = world(medium);
    const at: number[] = [];
    const engine = w.engine((stepfast) => {
      stepfast.job('clumsy', async () => {
        at.push(w.clock.now());
        if (at.length === 1) throw new RetryableError('later', { after: '5m' });
        throw new FatalError('never');
      });
    });
    const { id } = await engine.start('clumsy');
    await w.clock.advance('1h');
    expect(gaps(at)).toEqual([300_000]);
    expect(await engine.runs.get(id)).toMatchObject({ status: 'failed', error: { name: 'FatalError' } });
  });

  const unreadable: { [what: string]: () => unknown } = {
    'a proxy that was revoked'() {
      const { proxy, revoke } = Proxy.revocable({}, {});
      revoke();
      return proxy;
    },
  };
  for (const name of ['message', 'name', 'code', 'after'])
    unreadable[`an error whose ${name} can not be read`] = () =>
      Object.defineProperty(name === 'after' ? new RetryableError('x') : new Error('x'), name, {
        get() {
          throw new Error('not for you');
        },
      });

  it.each(Object.entries(unreadable))('F2: %s fails an attempt like any other', async (_, make) => {
    for (const where of ['step', 'handler']) {
      const w = world(medium);
      let calls = 0;
      const fail = () => {
        calls++;
        throw make();
      };
      const engine = w.engine((stepfast) =>
        stepfast.job('odd', { retry: { maxAttempts: 2, initialDelay: '1s' } }, async ({ step }) =>
          where === 'step' ? step.run('a', fail) : fail(),
        ),
      );
      const { id } = await engine.start('odd');
      await w.clock.advance('1m');
      expect(await engine.runs.get(id)).toMatchObject({ status: 'failed', error: { message: expect.any(String) } });
      expect(calls).toBe(2);
    }
  });
});
