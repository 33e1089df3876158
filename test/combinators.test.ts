import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { FatalError, type Step, type Stepfast } from '../src/index.js';
import { crashEverywhere, everyWay } from './crash-everywhere.js';
import type { World } from './harness.js';

// Pins: spec R6, R7, R8: promises of all words, combined with those of the language, in any mix; and handlers that await
// something else besides.

const unhandled: unknown[] = [];
const onUnhandled = (reason: unknown) => void unhandled.push(reason);
beforeEach(() => {
  vi.spyOn(console, 'warn').mockImplementation(() => undefined);
  unhandled.length = 0;
  process.on('unhandledRejection', onUnhandled);
});
afterEach(() => {
  vi.restoreAllMocks();
  process.off('unhandledRejection', onUnhandled);
});

type Define = (stepfast: Stepfast) => void;

async function reload(w: World, engine: Stepfast, define: Define): Promise<Stepfast> {
  w.crash(engine);
  const next = w.engine(define);
  await next.ready();
  await w.clock.idle();
  return next;
}
const run = async (engine: Stepfast, id = 'r') => (await engine.runs.get(id))!;
const later = () => new Promise<void>((resolve) => setTimeout(resolve, 1));
const range = (length: number) => Array.from({ length }, (_, index) => index);

/** One of each word: what it gives, or that it failed. */
const parts = (step: Step, w: World) => ({
  ran: step.run('ran', () => {
    w.log.push('ran');
    return 'ran';
  }),
  failed: step.run('failed', () => {
    w.log.push('failed');
    throw new FatalError('failed');
  }),
  slept: step.sleep('slept', '1h').then(() => 'slept'),
  heard: step.waitForEvent<string>('heard').then(({ payload }) => payload),
  late: step.waitForEvent('late', { timeout: '30m' }).then(() => 'came'),
  sent: step.dispatch('told', 1).then(({ deduplicated }) => deduplicated),
  called: step.call('child', 20),
  made: step.now().then((now) => now > 0),
});
const mixed =
  (w: World): Define =>
  (stepfast) => {
    stepfast.job<number>('child', async ({ payload, step }) => payload + (await step.run('one', () => 1)));
    stepfast.job('mixed', async ({ step }) => {
      const all = parts(step, w);
      const settled = await Promise.allSettled(Object.values(all));
      const seen = settled.map((each) =>
        each.status === 'fulfilled' ? each.value : (each.reason as { readonly code: string }).code,
      );
      const first = await Promise.race([all.slept, all.made]);
      const any = await Promise.any([all.failed, all.late, all.heard]);
      const none = await Promise.any([all.failed, all.late]).catch((error: AggregateError) => error.errors.length);
      const caught = await Promise.all([all.ran, all.failed]).catch((error: Error) => error.name);
      return [seen, first, any, none, caught];
    });
  };
const everything = [
  ['ran', 'STEP_FAILED', 'slept', 'hello', 'EVENT_TIMEOUT', false, 21, true],
  'slept',
  'hello',
  2,
  'StepError',
];

everyWay('promises of steps', (open) => {
  it('R7: all, allSettled, race and any over every word, live and over a reload', async () => {
    for (const reloads of [false, true]) {
      const w = open();
      const define = mixed(w);
      let engine = w.engine(define);
      await engine.start('mixed', undefined, { id: 'r' });
      await w.clock.idle();
      if (reloads) engine = await reload(w, engine, define);
      await w.clock.advance('31m');
      if (reloads) engine = await reload(w, engine, define);
      await engine.dispatch('heard', 'hello');
      await w.clock.advance('1h');
      const { status, result } = await run(engine);
      // All are settled by then: a race of settled promises is won by the first of them.
      expect([status, result]).toEqual(['completed', everything]);
      expect(w.log.sort()).toEqual(['failed', 'ran']);
      expect(unhandled).toEqual([]);
    }
  });

  it('R1, R7: the same mix, whichever commit the app dies at', async () => {
    await crashEverywhere(open, {
      define: (stepfast, w) => mixed(w)(stepfast),
      async play(engine, w) {
        await engine.start('mixed', undefined, { id: 'r' });
        await w.clock.idle();
        await engine.dispatch('heard', 'hello', { idempotencyKey: 'h' });
        await w.clock.advance('90m');
      },
      async check(engine, w, where) {
        await w.clock.advance('90m');
        expect((await run(engine)).result, where).toEqual(everything);
        expect((await engine.runs.list({ job: 'child' })).runs.length, where).toBe(1);
        // At least once: what was in flight may have run twice.
        for (const name of ['ran', 'failed'])
          expect([1, 2], where).toContain(w.log.filter((line) => line === name).length);
      },
    });
  });

  it('1,000 parallel steps of one run are entered once each and come back in their places', async () => {
    const w = open();
    const entered = new Map<number, number>();
    const define: Define = (stepfast) => {
      stepfast.job('wide', async ({ step }) => {
        const all = await Promise.all(
          range(1_000).map((at) =>
            step.run('part', async () => {
              entered.set(at, (entered.get(at) ?? 0) + 1);
              if (at % 7 === 0) await later();
              return at;
            }),
          ),
        );
        await step.waitForEvent('go');
        return all.reduce((sum, at, index) => sum + (at === index ? 1 : 0), 0);
      });
    };
    const before = w.engine(define);
    const enough = { timeout: 30_000 };
    await before.start('wide', undefined, { id: 'r' });
    await expect.poll(async () => (await run(before)).status, enough).toBe('waiting');
    const after = await reload(w, before, define);
    await after.dispatch('go');
    await expect.poll(async () => (await run(after)).result, enough).toBe(1_000);
    expect([entered.size, Math.max(...entered.values())]).toEqual([1_000, 1]);
  });
});

everyWay('a handler that awaits something else', (open) => {
  it.each([
    ['has no steps at all', false],
    ['has had steps before', true],
  ])('R7: as the last thing it does, and %s: its run ends all the same', async (_, steps) => {
    const w = open();
    const engine = w.engine((stepfast) => {
      stepfast.job('returns', async ({ step }) => {
        if (steps) await step.run('work', () => 1);
        await later();
        return 'returned';
      });
      stepfast.job('throws', { retry: { maxAttempts: 1 } }, async ({ step }) => {
        if (steps) await step.run('work', () => 1);
        await later();
        throw new TypeError('thrown');
      });
    });
    await engine.start('returns', undefined, { id: 'r' });
    await engine.start('throws', undefined, { id: 't' });
    await expect.poll(async () => (await run(engine)).result).toBe('returned');
    await expect.poll(() => run(engine, 't')).toMatchObject({ status: 'failed', error: { name: 'TypeError' } });
    await w.clock.idle();
    const third = await engine.start('returns', undefined, { id: 'slot is free' });
    await expect.poll(() => third.status()).toBe('completed');
  });

  it('R8: ends while a step and a wait are open: the step is finished first, the wait is withdrawn', async () => {
    const w = open();
    let finish = (): void => undefined;
    const engine = w.engine((stepfast) =>
      stepfast.job('leaves', async ({ step }) => {
        void step.run('slow', async () => {
          await new Promise<void>((resolve) => {
            finish = resolve;
            w.log.push('begun');
          });
          w.log.push('slow');
        });
        void step.waitForEvent('never');
        await later();
        w.log.push('left');
        return 'left';
      }),
    );
    await engine.start('leaves', undefined, { id: 'r' });
    await expect.poll(() => w.log).toEqual(expect.arrayContaining(['begun', 'left']));
    expect((await run(engine)).status).toBe('running');
    finish();
    await expect.poll(() => run(engine)).toMatchObject({ status: 'completed', result: 'left', waitingFor: [] });
    expect(w.log.at(-1)).toBe('slow');
  });

  it('R6: dies meanwhile: it is replayed and ends', async () => {
    const w = open();
    let isStuck = true;
    const define: Define = (stepfast) => {
      stepfast.job('returns', async ({ step }) => {
        const value = await step.run('work', () => w.log.push('work'));
        if (isStuck) await new Promise(() => undefined);
        await later();
        return value;
      });
    };
    const before = w.engine(define);
    await before.start('returns', undefined, { id: 'r' });
    await expect.poll(async () => (await before.runs.timeline('r')).length).toBe(3);
    isStuck = false;
    w.crash(before);
    const after = w.engine(define);
    await after.ready();
    await expect.poll(() => run(after)).toMatchObject({ status: 'completed', result: 1 });
    expect(w.log).toEqual(['work']);
  });
});
