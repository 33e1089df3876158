import { describe, expect, it } from 'vitest';
import { simulatedClock } from '../src/testing/clock.js';
import { media, onEveryStore, world } from './harness.js';

// Pins: the simulated clock of stepfast/testing, as far as it moves by itself.

const day = 86_400_000;

onEveryStore('skipping time', (medium) => {
  it('skipUntil: sleeps, retries and timeouts take no time', async () => {
    const w = world(medium);
    let tries = 0;
    const engine = w.engine((stepfast) => {
      stepfast.job('slow', async ({ step }) => {
        await step.sleep('a-month', '30 days');
        await step.run('flaky', () => {
          if (++tries < 3) throw new Error('busy');
        });
        const answer = await step.waitForEvent('never', { timeout: '7 days', onTimeout: 'continue' });
        return answer.timedOut;
      });
    });
    const began = w.clock.now();
    const run = await engine.start('slow');
    expect(await w.clock.skipUntil(run.result())).toBe(true);
    expect(w.clock.now() - began).toBeGreaterThan(37 * day);
    expect(w.clock.now() - began).toBeLessThan(38 * day);
  });

  it('skip: one due instant, and false when nothing is left, not even for what retention will do', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => void stepfast.job('two', ({ step }) => step.sleep('nap', 5_000)));
    const began = w.clock.now();
    await engine.start('two');
    await engine.start('two', undefined, { delay: 1_000 });
    const moved: number[] = [];
    while (await w.clock.skip()) moved.push(w.clock.now() - began);
    expect(moved).toEqual([1_000, 5_000, 6_000]);
    expect((await engine.runs.list({ status: 'completed' })).runs).toHaveLength(2);
  });
});

describe('what is no instant', () => {
  it.each([
    Number.NaN,
    '0',
    new Date(Number.NaN),
    null,
    {},
    -1,
    '1969-12-31T23:59:59Z',
  ])('Q3: %s is refused, and nothing moves', (value) => {
    const at = value as number;
    expect(() => simulatedClock({ now: at })).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }));
    const clock = simulatedClock();
    const before = clock.now();
    expect(() => clock.jump(at)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }));
    expect(clock.now()).toBe(before);
  });

  it('Q3: a Date and ISO 8601 text are instants', () => {
    const at = Date.UTC(2026, 5, 1);
    expect(simulatedClock({ now: new Date(at) }).now()).toBe(at);
    expect(simulatedClock({ now: '2026-06-01T00:00:00Z' }).now()).toBe(at);
  });
});

describe('patience', () => {
  it('idle waits as long as work goes on, though there was never a moment without any (a busy machine)', async () => {
    const clock = simulatedClock();
    let isOver = false;
    const work = async () => {
      let release = clock.hold!();
      for (const until = performance.now() + 3_000; performance.now() < until; ) {
        await new Promise((resolve) => setTimeout(resolve, 50));
        const next = clock.hold!();
        release();
        release = next;
      }
      isOver = true;
      release();
    };
    void work();
    await clock.idle();
    expect(isOver).toBe(true);
  });
});

describe('a promise that nothing settles', () => {
  it('skipUntil says so, and what to look at', async () => {
    const w = world(media.memory!);
    const engine = w.engine((stepfast) => void stepfast.job('stuck', ({ step }) => step.waitForEvent('go')));
    const run = await engine.start('stuck');
    const result = run.result();
    await expect(w.clock.skipUntil(result)).rejects.toMatchObject({ code: 'NOTHING_DUE' });
    await engine.dispatch('go');
    await w.clock.skipUntil(result);
  });

  it('skipUntil rejects with what the promise rejects with', async () => {
    const w = world(media.memory!);
    await expect(w.clock.skipUntil(Promise.reject(new Error('own')))).rejects.toThrow('own');
  });
});
