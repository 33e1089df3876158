import { afterEach, expect, it, vi } from 'vitest';
import type { StartOptions, Stepfast } from '../src/index.js';
import { systemPlatform } from '../src/system.js';
import { onEveryStore, type World, world } from './harness.js';

// Pins: spec Q3, Q4, E5: instants are stored once, long timers do not fire early, and a clock may be set either way.

const DAY = 86_400_000;
const HOUR = 3_600_000;

/** A job that does one thing with time, and notes when it went on. */
const nap =
  (w: World, woke: number[], duration: number | '30 days' | '90 days' | '1h' | '10h') => (stepfast: Stepfast) =>
    stepfast.job('nap', async ({ step }) => {
      await step.sleep('nap', duration);
      await step.run('wake', () => void woke.push(w.clock.now()));
    });

onEveryStore('time', (medium) => {
  it.each([
    ['30 days', 30],
    ['90 days', 90],
  ] as const)('a sleep of %s does not end early, and ends once', async (duration, days) => {
    const w = world(medium);
    const woke: number[] = [];
    const start = w.clock.now();
    const engine = w.engine(nap(w, woke, duration));
    const { id } = await engine.start('nap');
    await w.clock.idle();
    for (let day = 10; day < days; day += 10) {
      await w.clock.advance('10 days');
      expect(woke).toEqual([]);
      expect((await engine.runs.get(id))?.status).toBe('sleeping');
    }
    await w.clock.advance(10 * DAY - 1);
    expect(woke).toEqual([]);
    await w.clock.advance(1);
    expect(woke).toEqual([start + days * DAY]);
    expect((await engine.runs.get(id))?.status).toBe('completed');
    await w.clock.advance('100 days');
    expect(woke).toHaveLength(1);
  });

  it('Q3, E5: what is over already goes on at once, also beside a step that takes long', async () => {
    const w = world(medium);
    let end = (): void => undefined;
    const engine = w.engine((stepfast) =>
      stepfast.job('busy', async ({ step }) => {
        const past = w.clock.now() - 1_000;
        const nothing = { timeout: 0, onTimeout: 'continue' } as const;
        const first = Promise.race([
          step.run('long', () => new Promise<string>((resolve) => (end = () => resolve('long')))),
          step.sleep('none', 0).then(() => 'sleep'),
        ]);
        const [won] = await Promise.all([
          first.then((winner) => step.run('won', () => w.log.push(`won ${winner}`)).then(() => winner)),
          step.sleepUntil('before', past).then(() => step.run('slept', () => w.log.push('slept'))),
          step.waitForEvent('never', nothing).then(({ timedOut }) => step.run('out', () => w.log.push(`${timedOut}`))),
        ]);
        await step.sleep('again', 0);
        await step.run('end', () => void w.log.push('end'));
        return won;
      }),
    );
    const { id } = await engine.start('busy');
    for (let turn = 0; turn < 200 && !w.log.includes('end'); turn++)
      await new Promise((resolve) => setTimeout(resolve, 1));
    expect(w.log.slice().sort()).toEqual(['end', 'slept', 'true', 'won sleep']);
    end();
    await w.clock.idle();
    expect(await engine.runs.get(id)).toMatchObject({ status: 'completed', result: 'sleep' });
  });

  it.each([
    false,
    true,
  ])('Q4, E3: an event is taken by a wait from when the clock was ahead, though it lives no longer than that (reopened: %s)', async (isReopened) => {
    const w = world(medium);
    const define = (stepfast: Stepfast) =>
      stepfast.job('waits', async ({ step }) => (await step.waitForEvent('e')).payload);
    let engine = w.engine(define);
    await engine.ready();
    const now = w.clock.now();
    w.clock.jump(now + HOUR);
    const { id } = await engine.start('waits');
    await w.clock.idle();
    w.clock.jump(now);
    await w.clock.idle();
    if (isReopened) {
      await engine.close();
      engine = w.engine(define);
      await engine.ready();
    }
    const { resumed } = await engine.dispatch('e', 'here', { ttl: '5m' });
    await w.clock.idle();
    expect([resumed, await engine.runs.get(id)]).toEqual([
      [id],
      expect.objectContaining({ status: 'completed', result: 'here' }),
    ]);
  });

  it('Q4: a sleep does not end before its instant, whatever else the run does meanwhile', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) =>
      stepfast.job('busy', async ({ step }) => {
        const nap = step.sleep('nap', '2h').then(() => w.log.push(`awake at ${w.clock.now() - start}`));
        await step.run('work', () => void w.log.push('worked'));
        await step.sleep('short', '1h');
        await step.run('more', () => void w.log.push('worked more'));
        await nap;
      }),
    );
    const start = w.clock.now();
    const { id } = await engine.start('busy');
    await w.clock.idle();
    expect(w.log).toEqual(['worked']);
    await w.clock.advance('1h');
    expect(w.log).toEqual(['worked', 'worked more']);
    await w.clock.advance(HOUR - 1);
    expect((await engine.runs.get(id))?.status).toBe('sleeping');
    await w.clock.advance(1);
    expect(w.log).toEqual(['worked', 'worked more', `awake at ${2 * HOUR}`]);
    expect((await engine.runs.get(id))?.status).toBe('completed');
  });

  it('a sleep of 90 days outlives a crash every ten days, and adds nothing to the journal meanwhile', async () => {
    const w = world(medium);
    const woke: number[] = [];
    const define = nap(w, woke, '90 days');
    let engine = w.engine(define);
    const start = w.clock.now();
    const { id } = await engine.start('nap');
    await w.clock.idle();
    const { length } = await engine.runs.timeline(id);
    for (let day = 10; day <= 80; day += 10) {
      w.crash(engine);
      engine = w.engine(define);
      await engine.ready();
      await w.clock.advance('10 days');
      expect(woke).toEqual([]);
      expect(await engine.runs.timeline(id)).toHaveLength(length);
    }
    await w.clock.advance('10 days');
    expect(woke).toEqual([start + 90 * DAY]);
    expect((await engine.runs.get(id))?.status).toBe('completed');
  });

  it('a sleep that ended while everything was closed goes on at once when it is opened', async () => {
    const w = world(medium);
    const woke: number[] = [];
    const define = nap(w, woke, '30 days');
    const before = w.engine(define);
    await before.start('nap');
    await w.clock.idle();
    await before.close();
    await w.clock.advance('31 days');
    expect(woke).toEqual([]);
    const after = w.engine(define);
    await after.ready();
    await w.clock.idle();
    expect(woke).toEqual([w.clock.now()]);
  });

  it('a reload moves neither the end of a sleep nor the deadline of a wait', async () => {
    const w = world(medium);
    const define = (stepfast: Stepfast) => {
      stepfast.job('sleep', ({ step }) => step.sleep('nap', '10h'));
      stepfast.job('wait', ({ step }) => step.waitForEvent('go', { timeout: '10h', onTimeout: 'continue' }));
    };
    const start = w.clock.now();
    const deadline = start + 10 * HOUR;
    let engine = w.engine(define);
    await engine.start('sleep', undefined, { id: 'sleep' });
    await engine.start('wait', undefined, { id: 'wait' });
    await w.clock.idle();
    for (let reload = 0; reload < 3; reload++) {
      await w.clock.advance('3h');
      w.crash(engine);
      engine = w.engine(define);
      await engine.ready();
      await w.clock.idle();
      expect((await engine.runs.get('wait'))?.waitingFor).toMatchObject([{ deadline }]);
    }
    await w.clock.advance(HOUR - 1);
    expect((await engine.runs.get('sleep'))?.status).toBe('sleeping');
    expect((await engine.runs.get('wait'))?.status).toBe('waiting');
    await w.clock.advance(1);
    expect(await engine.runs.get('sleep')).toMatchObject({ status: 'completed', endedAt: deadline });
    expect(await engine.runs.get('wait')).toMatchObject({
      status: 'completed',
      endedAt: deadline,
      result: { timedOut: true, deadline },
    });
  });

  it('timers end in the order of their instants, whatever the order in which they were asked for', async () => {
    const w = world(medium);
    const define = (stepfast: Stepfast) => {
      stepfast.job('three', async ({ step }) => {
        const after = async (name: string, hours: number) => {
          await step.sleep(name, hours * HOUR);
          w.log.push(name);
          return name;
        };
        return Promise.race([after('third', 3), after('first', 1), after('second', 2)]);
      });
    };
    const before = w.engine(define);
    const { id } = await before.start('three');
    await w.clock.idle();
    w.crash(before);
    await w.clock.advance('1 day'); // all three are overdue when it is opened again
    const after = w.engine(define);
    await after.ready();
    await w.clock.idle();
    expect(await after.runs.get(id)).toMatchObject({ status: 'completed', result: 'first' });
    expect(w.log[0]).toBe('first');
  });

  it('a clock that is set back fires nothing twice', async () => {
    const w = world(medium);
    const woke: number[] = [];
    const start = w.clock.now();
    const define = nap(w, woke, '1h');
    const before = w.engine(define);
    const { id } = await before.start('nap');
    await w.clock.advance('2h');
    expect(woke).toEqual([start + HOUR]);
    w.clock.jump(start - DAY);
    await w.clock.advance('2 days');
    w.crash(before);
    w.clock.jump(start - DAY);
    const after = w.engine(define);
    await after.ready();
    await w.clock.advance('2 days');
    expect(woke).toHaveLength(1);
    expect((await after.runs.get(id))?.status).toBe('completed');
  });

  it('a clock that is set back and corrected again freezes nothing', async () => {
    const w = world(medium);
    const woke: number[] = [];
    const start = w.clock.now();
    const engine = w.engine(nap(w, woke, '1h'));
    await engine.start('nap');
    await w.clock.advance('30m');
    w.clock.jump(start - 365 * DAY);
    await w.clock.advance('1m');
    expect(woke).toEqual([]);
    w.clock.jump(start + HOUR / 2);
    await w.clock.advance('30m');
    expect(woke).toEqual([start + HOUR]);
  });

  it('a clock that is set forward fires what is due by it, once, also when it is corrected', async () => {
    const w = world(medium);
    const woke: number[] = [];
    const start = w.clock.now();
    const engine = w.engine(nap(w, woke, '1h'));
    await engine.start('nap');
    await w.clock.idle();
    w.clock.jump(start + DAY);
    await w.clock.advance(0);
    expect(woke).toEqual([start + DAY]);
    w.clock.jump(start);
    await w.clock.advance('2 days');
    expect(woke).toHaveLength(1);
  });

  it('work that is started, retried and dispatched while the clock is set back goes on', async () => {
    const w = world(medium);
    const define = (stepfast: Stepfast) => {
      stepfast.job('busy', async ({ step }) => {
        await step.run('flaky', ({ attempt }) => {
          if (attempt === 1) throw new Error('not yet');
        });
        await step.sleep('nap', '1m');
        return (await step.waitForEvent<string>('go')).payload;
      });
    };
    const before = w.engine(define);
    await before.start('busy', undefined, { id: 'before' });
    await w.clock.idle();
    w.crash(before);
    w.clock.jump(w.clock.now() - 30 * DAY);
    const after = w.engine(define);
    await after.start('busy', undefined, { id: 'after' });
    await w.clock.advance('10m');
    const { resumed } = await after.dispatch('go', 'hello');
    expect([...resumed].sort()).toEqual(['after', 'before']);
    await w.clock.idle();
    for (const id of ['before', 'after'])
      expect(await after.runs.get(id)).toMatchObject({ status: 'completed', result: 'hello' });
  });

  it.each([
    'when it is opened again',
    'at the next look',
  ])('Q4: what was queued, woken, backing off or to be undone by a clock that was ahead goes on %s, once that is corrected', async (when) => {
    const w = world(medium);
    const correct = w.clock.now();
    let isAhead = true;
    const define = (stepfast: Stepfast) => {
      stepfast.job('backs off', async ({ step }) => {
        await step.run('flaky', () => {
          if (isAhead) throw new Error('not yet');
        });
      });
      stepfast.job('fails', async () => {
        if (isAhead) throw new Error('not yet');
      });
      stepfast.job('undoes', async ({ step }) => {
        await step.run('done', () => 'done', {
          undo: () => {
            if (isAhead) throw new Error('not yet');
            w.log.push('undone');
          },
        });
        await step.waitForEvent('never');
      });
      if (!isAhead) stepfast.job('queued', async () => 'done');
    };
    let engine = w.engine(define);
    w.clock.jump(correct + 365 * DAY);
    for (const job of ['backs off', 'fails', 'undoes']) await engine.start(job, undefined, { id: job });
    await engine.start('queued', undefined, { id: 'queued', allowUnregistered: true });
    await w.clock.idle();
    await engine.runs.cancel('undoes');
    await w.clock.idle();
    isAhead = false;
    if (when === 'at the next look') engine.job('queued', async () => 'done');
    else w.crash(engine);
    w.clock.jump(correct);
    if (when !== 'at the next look') engine = w.engine(define);
    await engine.start('queued');
    await w.clock.advance(0);
    for (const id of ['backs off', 'fails', 'queued'])
      expect((await engine.runs.get(id))?.status, id).toBe('completed');
    expect(w.log).toEqual(['undone']);
  });

  it('Q4: what a clock that was ahead has woken goes on once that is corrected', async () => {
    const w = world(medium);
    const correct = w.clock.now();
    const define = (stepfast: Stepfast) =>
      stepfast.job('waits', async ({ step }) => (await step.waitForEvent<string>('go')).payload);
    const before = w.engine(define);
    await before.start('waits', undefined, { id: 'w' });
    await w.clock.idle();
    await before.close();
    w.clock.jump(correct + 365 * DAY);
    const sender = w.engine(() => {});
    expect((await sender.dispatch('go', 'hello')).resumed).toEqual(['w']);
    await sender.close();
    w.clock.jump(correct);
    const after = w.engine(define);
    await after.ready();
    await w.clock.idle();
    expect(await after.runs.get('w')).toMatchObject({ status: 'completed', result: 'hello' });
  });

  it('Q4, F8: while nobody touches it, a step times out and a backoff ends after their time, though they began by a clock that was ahead', async () => {
    const w = world(medium);
    const start = w.clock.now();
    const engine = w.engine((stepfast) => {
      stepfast.job('slow', ({ step }) =>
        step.run('slow', ({ signal }) => new Promise((resolve) => signal.addEventListener('abort', resolve)), {
          timeout: '3s',
          retry: { maxAttempts: 1 },
        }),
      );
      stepfast.job('flaky', ({ step }) =>
        step.run(
          'flaky',
          ({ attempt }) => {
            w.log.push(`attempt ${attempt}`);
            if (attempt === 1) throw new Error('again');
          },
          { retry: { initialDelay: '4s', jitter: false } },
        ),
      );
    });
    await engine.ready();
    w.clock.jump(start + 4 * DAY);
    const slow = await engine.start('slow');
    const flaky = await engine.start('flaky');
    await w.clock.advance('1s');
    expect(w.log).toEqual(['attempt 1']);
    w.clock.jump(start + 1_000);
    await w.clock.advance('2s');
    expect(await engine.runs.get(slow.id)).toMatchObject({ status: 'failed', error: { step: 'slow' } });
    await w.clock.advance('1s');
    expect(w.log).toEqual(['attempt 1', 'attempt 2']);
    expect(await flaky.status()).toBe('completed');
  });

  it('after a clock was set forward and corrected, an event that comes before the deadline of a wait is taken', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('wait', async ({ step }) => (await step.waitForEvent<string>('go', { timeout: '1h' })).payload);
    });
    const start = w.clock.now();
    w.clock.jump(start + 10 * DAY);
    await engine.dispatch('something else');
    w.clock.jump(start);
    const { id } = await engine.start('wait');
    await w.clock.idle();
    await engine.dispatch('go', 'in time');
    await w.clock.advance('2h');
    expect(await engine.runs.get(id)).toMatchObject({ status: 'completed', result: 'in time' });
  });

  it.each([
    ['a Date', (at: number) => new Date(at)],
    ['epoch milliseconds', (at: number) => at],
    ['ISO 8601 in UTC', (at: number) => new Date(at).toISOString()],
    ['ISO 8601 with an offset', (at: number) => new Date(at + 2 * HOUR).toISOString().replace('Z', '+02:00')],
  ])('sleepUntil takes %s', async (_, as) => {
    const w = world(medium);
    const start = w.clock.now();
    const engine = w.engine((stepfast) => {
      stepfast.job('until', ({ step }) => step.sleepUntil('then', as(start + DAY)));
    });
    const { id } = await engine.start('until');
    await w.clock.advance(DAY - 1);
    expect((await engine.runs.get(id))?.status).toBe('sleeping');
    await w.clock.advance(1);
    expect(await engine.runs.get(id)).toMatchObject({ status: 'completed', endedAt: start + DAY });
  });

  it('an instant that is past, now, or a sleep of nothing goes on at once', async () => {
    const w = world(medium);
    const start = w.clock.now();
    const engine = w.engine((stepfast) => {
      stepfast.job('past', async ({ step }) => {
        await step.sleepUntil('long ago', new Date(0));
        await step.sleepUntil('yesterday', start - DAY);
        await step.sleepUntil('now', start);
        await step.sleep('nothing', 0);
        return 'done';
      });
    });
    const { id } = await engine.start('past');
    await w.clock.idle();
    expect(await engine.runs.get(id)).toMatchObject({ status: 'completed', result: 'done', endedAt: start });
  });

  it.each([
    ['a text with two units', '1h30m'],
    ['a text without a meaning', 'soon'],
    ['an empty text', ''],
    ['NaN', Number.NaN],
    ['a negative number', -1],
    ['Infinity', Number.POSITIVE_INFINITY],
    ['nothing', undefined],
  ])('a sleep for %s blocks the run instead of sleeping for nothing, until the code is mended', async (_, duration) => {
    const w = world(medium);
    const define = (given: unknown) => (stepfast: Stepfast) => {
      stepfast.job('bad', async ({ step }) => {
        await step.sleep('nap', given as number);
        w.log.push('awake');
      });
    };
    const before = w.engine(define(duration));
    const { id } = await before.start('bad');
    await w.clock.advance('1h');
    expect(await before.runs.get(id)).toMatchObject({ status: 'blocked', error: { code: 'INVALID_DURATION' } });
    expect(w.log).toEqual([]);
    w.crash(before);
    const after = w.engine(define('1m'));
    await after.ready();
    await w.clock.advance('1h');
    expect((await after.runs.get(id))?.status).toBe('completed');
  });

  it.each([
    ['text without an offset', '2026-01-02T00:00:00'],
    ['a date alone', '2026-01-02'],
    ['an invalid Date', new Date(Number.NaN)],
    ['a day that does not exist', '2026-02-30T00:00:00Z'],
    ['null', null],
  ])('sleepUntil %s blocks the run', async (_, instant) => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('bad', ({ step }) => step.sleepUntil('then', instant as string));
    });
    const { id } = await engine.start('bad');
    await w.clock.advance('2 days');
    expect(await engine.runs.get(id)).toMatchObject({ status: 'blocked', error: { code: 'INVALID_OPTION' } });
  });
});

onEveryStore('starting later', (medium) => {
  it.each([
    ['delay', () => ({ delay: '2 days' })],
    ['startAt with a Date', (now: number) => ({ startAt: new Date(now + 2 * DAY) })],
    ['startAt with milliseconds', (now: number) => ({ startAt: now + 2 * DAY })],
    ['startAt with ISO 8601', (now: number) => ({ startAt: new Date(now + 2 * DAY).toISOString() })],
  ] satisfies [string, (now: number) => StartOptions][])('%s: the run is scheduled until then', async (_, options) => {
    const w = world(medium);
    const start = w.clock.now();
    const define = (stepfast: Stepfast) => {
      stepfast.job('later', () => void w.log.push('ran'));
    };
    const before = w.engine(define);
    const run = await before.start('later', undefined, options(start));
    await w.clock.advance('1 day');
    expect(await run.status()).toBe('scheduled');
    w.crash(before);
    const after = w.engine(define);
    await after.ready();
    await w.clock.advance(DAY - 1);
    expect(await after.runs.get(run.id)).toMatchObject({ status: 'scheduled', createdAt: start });
    expect(w.log).toEqual([]);
    await w.clock.advance(1);
    expect(await after.runs.get(run.id)).toMatchObject({ status: 'completed', startedAt: start + 2 * DAY });
    await w.clock.advance('10 days');
    expect(w.log).toEqual(['ran']);
  });

  it('a start time that is past starts at once', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('now', () => 'done');
    });
    const { id } = await engine.start('now', undefined, { startAt: w.clock.now() - DAY });
    await w.clock.idle();
    expect((await engine.runs.get(id))?.status).toBe('completed');
  });

  it.each([
    ['a delay that is none', { delay: 'soon' }, 'INVALID_DURATION'],
    ['a negative delay', { delay: -1 }, 'INVALID_DURATION'],
    ['a time without an offset', { startAt: '2026-01-02T00:00:00' }, 'INVALID_OPTION'],
    ['NaN', { startAt: Number.NaN }, 'INVALID_OPTION'],
    ['both', { startAt: 0, delay: 0 }, 'INVALID_OPTION'],
  ])('%s is refused at the call, and nothing is written', async (_, options, code) => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('later', () => undefined);
    });
    await expect(engine.start('later', undefined, options as StartOptions)).rejects.toMatchObject({ code });
    expect((await engine.runs.list()).runs).toEqual([]);
  });
});

afterEach(() => {
  vi.useRealTimers();
});

it('a timer of the platform beyond 2^31-1 ms is never handed to setTimeout, which would fire it at once', () => {
  vi.useFakeTimers();
  const setTimeout = vi.spyOn(globalThis, 'setTimeout');
  const fired = vi.fn();
  const undo = systemPlatform().clock.setTimer(Date.now() + 90 * DAY, fired);
  expect(setTimeout.mock.calls[0]?.[1]).toBeLessThanOrEqual(2 ** 31 - 1);
  vi.advanceTimersByTime(1_000);
  expect(fired).not.toHaveBeenCalled();
  undo();
  vi.advanceTimersByTime(100 * DAY);
  expect(fired).not.toHaveBeenCalled();
});

it('Q4: a timer of the platform fires on time, and soon after the clock has passed it: set forward, or asleep with its machine', () => {
  vi.useFakeTimers();
  const setTimeout = vi.spyOn(globalThis, 'setTimeout');
  const { clock } = systemPlatform();
  const start = Date.now();
  const fired: number[] = [];
  clock.setTimer(start + 40 * DAY, () => void fired.push(Date.now() - start));
  vi.advanceTimersByTime(40 * DAY - 1);
  expect(fired).toEqual([]);
  vi.advanceTimersByTime(1);
  expect(fired).toEqual([40 * DAY]);
  clock.setTimer(Date.now() + 3_600_000, () => void fired.push(1));
  vi.setSystemTime(Date.now() + 8 * 3_600_000); // timers stand still meanwhile
  vi.advanceTimersByTime(60_000);
  expect(fired).toEqual([40 * DAY, 1]);
  const { length } = setTimeout.mock.calls;
  vi.advanceTimersByTime(DAY);
  expect(setTimeout.mock.calls, 'nothing looks at the clock when nothing is waited for').toHaveLength(length);
});

it('Q4: a timer of the platform that was set by a clock that was ahead fires after its time, though the clock was corrected', () => {
  vi.useFakeTimers();
  const { clock } = systemPlatform();
  const fired: string[] = [];
  vi.setSystemTime(Date.now() + 4 * DAY);
  const start = performance.now();
  const seconds = () => Math.round((performance.now() - start) / 1_000);
  clock.setTimer(Date.now() + 3_000, () => void fired.push(`short ${seconds()}`));
  clock.setTimer(Date.now() + 3_600_000, () => void fired.push(`long ${seconds()}`));
  vi.advanceTimersByTime(1_000);
  vi.setSystemTime(Date.now() - 4 * DAY);
  vi.advanceTimersByTime(3_600_000);
  expect(fired).toEqual(['short 3', 'long 3600']);
});

it('Q4: a clock that was set back is told of within a minute, once, as long as somebody waits for something', () => {
  vi.useFakeTimers();
  const { clock, onWake } = systemPlatform();
  const woken = vi.fn();
  const undo = onWake(woken);
  const fired = vi.fn();
  clock.setTimer(Date.now() + DAY, fired);
  vi.advanceTimersByTime(300_000);
  expect(woken).not.toHaveBeenCalled();
  vi.setSystemTime(Date.now() - DAY);
  vi.advanceTimersByTime(60_000);
  expect(woken).toHaveBeenCalledOnce();
  vi.advanceTimersByTime(300_000);
  expect(woken).toHaveBeenCalledOnce();
  vi.setSystemTime(Date.now() - DAY);
  vi.advanceTimersByTime(60_000);
  expect(woken).toHaveBeenCalledTimes(2);
  undo();
  vi.setSystemTime(Date.now() - DAY);
  vi.advanceTimersByTime(60_000);
  expect(woken).toHaveBeenCalledTimes(2);
  expect(fired).not.toHaveBeenCalled();
});
