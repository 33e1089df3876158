import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { defineJob, type State, type Stepfast } from '../src/index.js';
import { crashEverywhere, everyWay } from './crash-everywhere.js';
import type { World } from './harness.js';

// Pins: spec F8 (the timeout of a step), F1 and F2 (its own retries), and the timeout of a job (RUN_TIMEOUT).

beforeEach(() => void vi.spyOn(console, 'warn').mockImplementation(() => undefined));
afterEach(() => void vi.restoreAllMocks());

type Define = (stepfast: Stepfast) => void;
const SECOND = 1_000;
const HOUR = 3_600_000;

async function reload(w: World, engine: Stepfast, define: Define): Promise<Stepfast> {
  w.crash(engine);
  const next = w.engine(define);
  await next.ready();
  await w.clock.idle();
  return next;
}
const run = async (engine: Stepfast, id = 'r') => (await engine.runs.get(id))!;
const never = () => new Promise<never>(() => undefined);

/** An engine whose functions may hang: the clock is not patient with them, so conditions are waited for. */
const impatient = (w: World, define: Define) =>
  w.engine(define, { clock: { now: w.clock.now, setTimer: w.clock.setTimer } });
/** Lets time pass, half a second at a time, until this is so. */
const until = (w: World, isSo: () => unknown) =>
  expect
    .poll(
      async () => {
        await w.clock.advance(SECOND / 2);
        return isSo();
      },
      { timeout: 20_000, interval: 5 },
    )
    .toBeTruthy();
const hasEnded = (engine: Stepfast) => async () => (await run(engine)).endedAt;

everyWay('the timeout of a step', (open) => {
  it('F8: an attempt that takes longer is aborted, counts as failed, and is tried again', async () => {
    const w = open();
    const seen: { readonly attempt: number; readonly reason: unknown }[] = [];
    const engine = impatient(w, (stepfast) =>
      stepfast.job('slow', { retry: { maxAttempts: 3, initialDelay: '1s', jitter: false } }, ({ step }) =>
        step.run(
          'work',
          async ({ attempt, signal }) => {
            if (attempt === 3) return 'in time';
            await new Promise<void>((resolve) => {
              (signal as AbortSignal & EventTarget).addEventListener('abort', () => resolve());
            });
            seen.push({ attempt, reason: (signal as AbortSignal & { reason: { code: string } }).reason.code });
            return 'too late';
          },
          { timeout: '5s' },
        ),
      ),
    );
    await engine.start('slow', undefined, { id: 'r' });
    await until(w, hasEnded(engine));
    const { status, result, attempts, startedAt } = await run(engine);
    expect([status, result]).toEqual(['completed', 'in time']);
    const failed = { step: 'work', error: { code: 'STEP_TIMEOUT' } };
    expect(attempts).toMatchObject([
      { ...failed, attempt: 1, at: expect.any(Number) },
      { ...failed, attempt: 2 },
    ]);
    expect(attempts[0]!.at - startedAt!).toBeGreaterThanOrEqual(5 * SECOND);
    expect(attempts[1]!.at - attempts[0]!.at).toBeGreaterThanOrEqual(6 * SECOND);
    expect(seen).toEqual([
      { attempt: 1, reason: 'STEP_TIMEOUT' },
      { attempt: 2, reason: 'STEP_TIMEOUT' },
    ]);
  });

  it('F8: the last attempt that takes longer fails the step for good', async () => {
    const w = open();
    const engine = impatient(w, (stepfast) =>
      stepfast.job('slow', async ({ step }) => {
        const options = { timeout: '5s', retry: { maxAttempts: 1 } } as const;
        return step.run('work', never, options).catch((error: Error & { cause: { code: string } }) => error.cause.code);
      }),
    );
    await engine.start('slow', undefined, { id: 'r' });
    await until(w, hasEnded(engine));
    expect((await run(engine)).result).toBe('STEP_TIMEOUT');
  });

  it('F8: what the attempt returns, throws, writes or says afterwards is refused; the next one is not touched', async () => {
    const w = open();
    const late: { state: State; progress: (value: unknown) => void; number: PromiseLike<number> }[] = [];
    let finish: (value: string) => void = () => undefined;
    const engine = impatient(w, (stepfast) =>
      stepfast.job('slow', { retry: { initialDelay: '1s', jitter: false } }, async ({ step }) => {
        const value = await step.run(
          'work',
          async ({ attempt, state, progress }) => {
            progress(attempt);
            await state.set('before', attempt);
            if (attempt > 1) return `attempt ${attempt}`;
            late.push({ state, progress, number: state.increment('late') });
            return new Promise<string>((resolve) => {
              finish = resolve;
            });
          },
          { timeout: '5s' },
        );
        await step.waitForEvent('go');
        return value;
      }),
    );
    await engine.start('slow', undefined, { id: 'r' });
    await until(w, async () => (await run(engine)).attempts.length === 1);
    expect(await engine.state.get('before')).toBeUndefined();
    const [{ state, progress, number }] = late as [(typeof late)[number]];
    const codes = await Promise.all(
      [state.set('late', 1), state.delete('late'), state.get('late'), state.increment('late'), number].map((each) =>
        Promise.resolve(each).then(
          () => 'taken',
          (error: { code: string }) => error.code,
        ),
      ),
    );
    expect(codes).toEqual(codes.map(() => 'STEP_TIMEOUT'));
    expect(() => progress('late')).toThrow('STEP_TIMEOUT');
    finish('late');
    await until(w, async () => (await run(engine)).status === 'waiting');
    expect(await run(engine)).toMatchObject({ progress: 2 });
    await engine.dispatch('go');
    await until(w, hasEnded(engine));
    expect((await run(engine)).result).toBe('attempt 2');
    expect([await engine.state.get('late'), await engine.state.get('before')]).toEqual([undefined, 2]);
  });

  it('F8: an attempt in time is not touched by the instant of its timeout, and a reload begins it anew', async () => {
    const w = open();
    let isStuck = true;
    let isEntered = false; // and so the step before it is recorded
    const define: Define = (stepfast) =>
      stepfast.job('slow', async ({ step }) => {
        await step.run('quick', () => w.log.push('quick'), { timeout: '5s' });
        const slow = () => {
          isEntered = true;
          return isStuck ? never() : w.log.push('slow');
        };
        await step.run('slow', slow, { timeout: '1h' });
        await step.sleep('nap', '1h');
      });
    const before = w.engine(define);
    await before.start('slow', undefined, { id: 'r' });
    await expect.poll(() => isEntered).toBe(true);
    w.clock.jump(w.clock.now() + 50 * 60 * SECOND);
    isStuck = false;
    const after = await reload(w, before, define);
    await w.clock.advance(2 * HOUR);
    expect(await run(after)).toMatchObject({ status: 'completed', attempts: [] });
    expect(w.log).toEqual(['quick', 'slow']);
  });

  it.each([['0s'], [-1], ['soon'], [Number.NaN]])('B, R5: a timeout of %s blocks the run', async (timeout) => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job('bad', ({ step }) => step.run('work', () => 1, { timeout: timeout as '1s' })),
    );
    await engine.start('bad', undefined, { id: 'r' });
    await w.clock.idle();
    expect(await run(engine)).toMatchObject({ status: 'blocked', error: { code: 'INVALID_DURATION' } });
  });
});

everyWay('the retries of a step', (open) => {
  it('F1: those of the step count over those of start, job and engine, field by field', async () => {
    const w = open();
    const engine = w.engine(
      (stepfast) =>
        stepfast.job('fails', { retry: { initialDelay: '10s', factor: 1 } }, async ({ step }) => {
          const fails = (name: string, retry?: object) =>
            step.run(name, () => Promise.reject(new Error('no')), { ...(retry && { retry }) }).catch(() => undefined);
          await fails('own', { maxAttempts: 2 });
          await fails('theirs');
        }),
      { retry: { maxAttempts: 9, jitter: false } },
    );
    await engine.start('fails', undefined, { id: 'r', retry: { maxAttempts: 3 } });
    await w.clock.advance(HOUR);
    const { attempts, createdAt, status } = await run(engine);
    expect(status).toBe('completed');
    expect(attempts.map(({ step, at }) => [step, (at - createdAt) / SECOND])).toEqual([
      ['own', 0],
      ['own', 10],
      ['theirs', 10],
      ['theirs', 20],
      ['theirs', 30],
    ]);
  });

  it('R5: retries that are none block the run, and run nothing', async () => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job('bad', ({ step }) => step.run('work', () => w.log.push('ran'), { retry: { maxAttempts: 0 } })),
    );
    await engine.start('bad', undefined, { id: 'r' });
    await w.clock.idle();
    expect(await run(engine)).toMatchObject({ status: 'blocked', error: { code: 'INVALID_OPTION' } });
    expect(w.log).toEqual([]);
  });
});

everyWay('the timeout of a job (spec 2)', (open) => {
  it.each([
    ['waits', { status: 'waiting' }],
    ['sleeps', { status: 'sleeping' }],
    ['backs off', { status: 'retrying' }],
  ])('a run that %s fails with RUN_TIMEOUT when its time since the first claim is over', async (what, meanwhile) => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job('late', { timeout: '1h', retry: { initialDelay: '3h', maxDelay: '3h' } }, async ({ step }) => {
        if (what === 'waits') await step.waitForEvent('never');
        if (what === 'sleeps') await step.sleep('nap', '2h');
        if (what === 'backs off') await step.run('bad', () => Promise.reject(new Error('no')));
      }),
    );
    await engine.start('late', undefined, { id: 'r', delay: '30m' });
    await w.clock.advance('30m');
    await w.clock.advance(HOUR - 1);
    expect(await run(engine)).toMatchObject(meanwhile);
    await w.clock.advance(1);
    const { status, error, startedAt, endedAt } = await run(engine);
    expect([status, error?.code, endedAt! - startedAt!]).toEqual(['failed', 'RUN_TIMEOUT', HOUR]);
    await engine.dispatch('never');
    await w.clock.advance('5h');
    expect((await run(engine)).endedAt).toBe(endedAt);
  });

  it('a function that is in flight then is aborted, and its late result is of no use', async () => {
    const w = open();
    const signals: AbortSignal[] = [];
    let finish: (value: string) => void = () => undefined;
    const engine = impatient(w, (stepfast) =>
      stepfast.job('late', { timeout: '1m' }, ({ step }) =>
        step.run('slow', ({ signal }) => {
          signals.push(signal);
          return new Promise<string>((resolve) => {
            finish = resolve;
          });
        }),
      ),
    );
    await engine.start('late', undefined, { id: 'r' });
    await until(w, hasEnded(engine));
    expect(await run(engine)).toMatchObject({ status: 'failed', error: { code: 'RUN_TIMEOUT' } });
    await expect.poll(() => signals[0]!.aborted).toBe(true);
    finish('late');
    await w.clock.idle();
    expect((await run(engine)).status).toBe('failed');
  });

  it('it counts over reloads and closed periods, from the first claim', async () => {
    const w = open();
    const define: Define = (stepfast) => {
      stepfast.job('late', { timeout: '1h' }, ({ step }) => step.waitForEvent('never'));
    };
    let engine = w.engine(define);
    await engine.start('late', undefined, { id: 'r' });
    await w.clock.idle();
    for (let reloads = 0; reloads < 3; reloads++) {
      await w.clock.advance(15 * 60 * SECOND);
      engine = await reload(w, engine, define);
      expect((await run(engine)).status).toBe('waiting');
    }
    w.crash(engine);
    await w.clock.advance(15 * 60 * SECOND);
    engine = w.engine(define);
    await engine.ready();
    await w.clock.idle();
    expect(await run(engine)).toMatchObject({ status: 'failed', error: { code: 'RUN_TIMEOUT' } });
  });

  it('a run that ends in time is left alone, and blocked time does not count', async () => {
    const w = open();
    const define = (isBad: boolean) => (stepfast: Stepfast) => {
      stepfast.job('late', { timeout: '1h' }, async ({ step }) => {
        await step.run('work', () => 'done');
        if (isBad) await step.sleep('', 1);
        await step.sleep('nap', '30m');
        return 'in time';
      });
    };
    const before = w.engine(define(true));
    await before.start('late', undefined, { id: 'r' });
    await w.clock.advance(3 * HOUR);
    expect((await run(before)).status).toBe('blocked');
    const after = await reload(w, before, define(false));
    await w.clock.advance(30 * 60 * SECOND);
    expect(await run(after)).toMatchObject({ status: 'completed', result: 'in time' });
    await w.clock.advance(3 * HOUR);
    expect((await run(after)).status).toBe('completed');
  });

  it.each([
    'in one life',
    'over a reload',
  ])('blocked time does not count, also where the mismatch is found before the run is claimed, %s', async (how) => {
    const w = open();
    const define = (isFit: boolean) => (stepfast: Stepfast) =>
      stepfast.register(
        defineJob('j', { timeout: '1h' }, async ({ step }) => {
          if (isFit) await step.sleep('s', '10m');
          else await step.run('s', () => 1);
          return step.run('x', () => 'done');
        }),
        { replace: true },
      );
    let engine = w.engine(define(true));
    await engine.start('j', undefined, { id: 'r' });
    await w.clock.idle();
    const renew = async (isFit: boolean) => {
      if (how === 'in one life') return define(isFit)(engine);
      await engine.close();
      engine = w.engine(define(isFit));
      await engine.ready();
    };
    await renew(false);
    await w.clock.advance('10m');
    expect((await run(engine)).status).toBe('blocked');
    const commits = w.commits();
    await w.clock.advance('5h');
    expect(w.commits()).toBe(commits);
    expect((await run(engine)).status).toBe('blocked');
    await renew(true);
    await w.clock.idle();
    expect(await run(engine)).toMatchObject({ status: 'completed', result: 'done' });
  });

  it('whichever commit the app dies at, the run fails with RUN_TIMEOUT once its time is over', async () => {
    await crashEverywhere(open, {
      define: (stepfast) =>
        stepfast.job('late', { timeout: '1h' }, async ({ step }) => {
          await step.run('work', () => undefined);
          await step.waitForEvent('never');
        }),
      async play(engine, w) {
        await engine.start('late', undefined, { id: 'r' });
        await w.clock.idle();
      },
      async check(engine, w, where) {
        await w.clock.advance(HOUR);
        expect(await run(engine), where).toMatchObject({ status: 'failed', error: { code: 'RUN_TIMEOUT' } });
      },
    });
  });
});
