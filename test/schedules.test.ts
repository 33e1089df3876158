import { Cron } from 'croner';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { type SchedulesOptions, schedules } from '../plugins/schedules/index.js';
import { createEngine } from '../src/engine/engine.js';
import type { EngineOptions, ScheduleOptions, Stepfast, Store } from '../src/index.js';
import { systemPlatform } from '../src/system.js';
import { media, onEveryStore, type World, world } from './harness.js';

// Pins: spec Q4, Q5: each tick of a schedule starts one run, what was missed starts one with its count, and neither
// crashes, other contexts nor clocks change that.

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const scheduled = (w: World, define: (stepfast: Stepfast) => void, options: Partial<EngineOptions> = {}) =>
  w.engine(define, { ...options, use: [schedules({ cron: Cron }), ...(options.use ?? [])] });

/** A job that a schedule starts by this rule. */
const tidying =
  (when: ScheduleOptions, payload: unknown = 'drafts') =>
  (stepfast: Stepfast) => {
    const kept = { retention: Number.POSITIVE_INFINITY };
    stepfast.job('tidy', kept, ({ payload, run }) => ({ payload, schedule: run.schedule }));
    stepfast.schedule('tidy up', when, 'tidy', payload);
  };

/** Ticks that have started a run, oldest first: instant (relative to `origin`) and number of missed ones. */
async function ticksOf(engine: Stepfast, origin = 0): Promise<(readonly [tick: number, missed: number])[]> {
  const { runs } = await engine.runs.list({ job: 'tidy' });
  const found = await Promise.all(
    runs.map(async ({ id }) => {
      const [first] = await engine.runs.timeline(id);
      const { tick, missed } = first!.schedule as { tick: number; missed: number };
      return [tick - origin, missed] as const;
    }),
  );
  return found.reverse();
}

const instants = async (engine: Stepfast) => (await ticksOf(engine)).map(([tick]) => new Date(tick).toJSON());

/** A store of which every commit that starts a run goes through `commit`. */
const around = (
  store: Store,
  commit: (inner: () => ReturnType<Store['commit']>) => ReturnType<Store['commit']>,
): Store => {
  const inner = store.commit.bind(store);
  store.commit = (batch) => (batch.starts?.length ? commit(() => inner(batch)) : inner(batch));
  return store;
};

onEveryStore('schedules', (medium) => {
  it('Q5: a record that was cleared with all the data costs a living schedule no tick, and not its phase', async () => {
    const w = world(medium);
    const start = w.clock.now();
    const store = w.store();
    const engine = scheduled(w, tidying({ every: '10s' }), { store });
    await engine.ready();
    await w.clock.advance('11s');
    await store.commit({ now: w.clock.now(), state: [{ kind: 'delete', key: 'stepfast:schedule:tidy up' }] });
    await w.clock.advance('10s');
    expect((await ticksOf(engine, start)).map(([tick]) => tick)).toEqual([10 * SECOND, 20 * SECOND]);
  });

  it('Q5: a tick that falls due while that of another schedule is started is not left for the next one', async () => {
    const w = world(medium);
    const store = around(w.store(), (inner) => {
      w.clock.jump(w.clock.now() + 10); // it takes a while
      return inner();
    });
    const engine = scheduled(w, (stepfast) => stepfast.job('tick', ({ run }) => run.schedule?.name), { store });
    engine.schedule('a', { every: '1m' }, 'tick');
    await engine.ready();
    await w.clock.idle();
    await w.clock.advance(4);
    engine.schedule('b', { every: '1m' }, 'tick');
    await w.clock.idle();
    await w.clock.advance('61s');
    const { runs } = await engine.runs.list({ job: 'tick' });
    expect(runs.map(({ result }) => result).sort()).toEqual(['a', 'b']);
  });

  it('Q5: a schedule starts one run at each tick, counted from its first declaration, also over reloads', async () => {
    const w = world(medium);
    const start = w.clock.now();
    const define = tidying({ every: '1h' });
    const before = scheduled(w, define);
    await before.ready();
    await w.clock.advance(HOUR - 1);
    expect(await ticksOf(before, start)).toEqual([]);
    await w.clock.advance(1);
    expect(await ticksOf(before, start)).toEqual([[HOUR, 0]]);
    await w.clock.advance('80m');
    await before.close();
    await w.clock.advance('10m');
    const after = scheduled(w, define);
    await after.ready();
    await w.clock.advance('30m');
    expect(await ticksOf(after, start)).toEqual([
      [HOUR, 0],
      [2 * HOUR, 0],
      [3 * HOUR, 0],
    ]);
    const [last] = (await after.runs.list()).runs;
    expect(last).toMatchObject({
      status: 'completed',
      createdAt: start + 3 * HOUR,
      result: { payload: 'drafts', schedule: { name: 'tidy up', tick: start + 3 * HOUR, missed: 0 } },
    });
    expect(w.errors).toEqual([]);
  });

  it('F6: a fork of a run that a schedule has started is of the same tick', async () => {
    const w = world(medium);
    const engine = scheduled(w, (stepfast) => {
      stepfast.job('digest', async ({ run, step }) => [run.schedule!.tick, await step.run('send', () => 'sent')]);
      stepfast.schedule('hourly', { every: '1h' }, 'digest');
    });
    await engine.ready();
    await w.clock.advance('1h');
    const [first] = (await engine.runs.list()).runs;
    const fork = await engine.runs.fork(first!.id, { before: 'send' });
    expect(await w.clock.skipUntil(fork.result())).toEqual(first!.result);
  });

  it('Q5: a schedule that was missed while closed runs once, with the number of missed ticks', async () => {
    const w = world(medium);
    const start = w.clock.now();
    const define = tidying({ every: '1h' });
    const before = scheduled(w, define);
    await before.ready();
    await w.clock.advance('90m');
    w.crash(before);
    await w.clock.advance('1 day');
    const after = scheduled(w, define);
    await after.ready();
    await w.clock.idle();
    expect(await ticksOf(after, start)).toEqual([
      [HOUR, 0],
      [25 * HOUR, 23],
    ]);
    await w.clock.advance('30m');
    expect((await ticksOf(after, start)).at(-1)).toEqual([26 * HOUR, 0]);
  });

  it('Q5: two contexts that are open at once start each tick once, missed ones too', async () => {
    const w = world(medium);
    const start = w.clock.now();
    const define = tidying({ every: '1h' });
    const first = scheduled(w, define);
    await first.ready();
    await w.clock.idle();
    await first.close();
    await w.clock.advance('150m');
    const engines = [scheduled(w, define), scheduled(w, define)] as const;
    await Promise.all(engines.map((engine) => engine.runs.list()));
    await w.clock.idle();
    expect(await ticksOf(engines[0], start)).toEqual([[2 * HOUR, 1]]);
    await w.clock.advance('2h');
    expect(await ticksOf(engines[1], start)).toEqual([
      [2 * HOUR, 1],
      [3 * HOUR, 0],
      [4 * HOUR, 0],
    ]);
    expect(w.errors).toEqual([]);
  });

  it.each([
    ['before', false],
    ['after', true],
  ])('Q5: a crash right %s the commit of a tick neither loses nor doubles its run', async (_, happens) => {
    const w = world(medium);
    const start = w.clock.now();
    const define = tidying({ every: '1h' });
    const store = around(w.store(), async (commit) => {
      if (happens) await commit();
      w.crash(before);
      throw new Error('the context is gone');
    });
    const before = scheduled(w, define, { store });
    await before.ready();
    await w.clock.advance('61m');
    const after = scheduled(w, define);
    await after.ready();
    await w.clock.idle();
    expect(await ticksOf(after, start)).toEqual([[HOUR, 0]]);
    await w.clock.advance('1h');
    expect(await ticksOf(after, start)).toHaveLength(2);
  });

  it.each([
    ['failed', false],
    ['was lost', true],
  ])('Q5, S8: when the answer to the commit of a tick %s, one run is started in the end', async (_, happens) => {
    const w = world(medium);
    const start = w.clock.now();
    let isBroken = true;
    const store = around(w.store(), async (commit) => {
      if (!isBroken) return commit();
      if (happens) await commit();
      throw new Error('no answer');
    });
    const engine = scheduled(w, tidying({ every: '1h' }), { store });
    await engine.ready();
    await w.clock.advance('61m');
    expect(w.errors).toEqual([new Error('no answer')]);
    isBroken = false;
    await w.clock.advance('1h');
    expect(await ticksOf(engine, start)).toEqual(
      happens
        ? [
            [HOUR, 0],
            [2 * HOUR, 0],
          ]
        : [[2 * HOUR, 1]],
    );
  });

  it('Q5: a later release with another rule goes on from the last tick, and without the call it stops', async () => {
    const w = world(medium);
    const start = w.clock.now();
    const hourly = scheduled(w, tidying({ every: '1h' }));
    await hourly.ready();
    await w.clock.advance('65m');
    await hourly.close();
    const often = scheduled(w, tidying({ every: '20m' }));
    await often.ready();
    await w.clock.advance('14m');
    expect(await ticksOf(often, start)).toEqual([[HOUR, 0]]);
    await w.clock.advance('1m');
    expect((await ticksOf(often, start)).at(-1)).toEqual([80 * MINUTE, 0]);
    await often.close();
    const byCron = scheduled(w, tidying({ cron: '0 * * * *' }));
    await byCron.ready();
    await w.clock.advance('40m');
    expect((await ticksOf(byCron, start)).at(-1)).toEqual([2 * HOUR, 0]);
    await byCron.close();
    const without = scheduled(w, (stepfast) => void stepfast.job('tidy', () => undefined));
    await without.ready();
    await w.clock.advance('1 day');
    expect(await ticksOf(without, start)).toHaveLength(3);
  });

  it('Q4: a clock that is set back starts no tick twice, and is set right again without a loss', async () => {
    const w = world(medium);
    const start = w.clock.now();
    const define = tidying({ every: '1h' });
    const before = scheduled(w, define);
    await before.ready();
    await w.clock.advance('3h');
    w.clock.jump(start + HOUR / 2);
    await before.close();
    const after = scheduled(w, define);
    await after.ready();
    await w.clock.advance('3h');
    expect(await ticksOf(after, start)).toEqual([
      [HOUR, 0],
      [2 * HOUR, 0],
      [3 * HOUR, 0],
    ]);
    await w.clock.advance('1h');
    expect((await ticksOf(after, start)).at(-1)).toEqual([4 * HOUR, 0]);
  });

  it('Q4: a clock that is set forward starts once what is due by it, and once corrected freezes nothing', async () => {
    const w = world(medium);
    const start = w.clock.now();
    const define = tidying({ every: '1h' });
    const before = scheduled(w, define);
    await before.ready();
    await w.clock.advance('90m');
    w.clock.jump(start + 100 * DAY);
    await w.clock.advance(0);
    expect(await ticksOf(before, start)).toEqual([
      [HOUR, 0],
      [100 * DAY, 2398],
    ]);
    await before.close();
    w.clock.jump(start + 95 * MINUTE);
    const after = scheduled(w, define);
    await after.ready();
    await w.clock.advance('2h');
    expect((await ticksOf(after, start)).slice(2)).toEqual([
      [2 * HOUR, 0],
      [3 * HOUR, 0],
    ]);
  });

  it('Q4: ticks far apart do not come early, and each comes once', async () => {
    const w = world(medium);
    const start = w.clock.now();
    const engine = scheduled(w, tidying({ every: '60 days' }));
    await engine.ready();
    await w.clock.advance(60 * DAY - 1);
    expect(await ticksOf(engine)).toEqual([]);
    await w.clock.advance(1);
    expect(await ticksOf(engine, start)).toEqual([[60 * DAY, 0]]);
    await w.clock.advance('20 days');
    expect(await ticksOf(engine, start)).toHaveLength(1);
  });

  it('Q5: a tick whose start is refused is reported, does not stop the schedule, and counts as missed', async () => {
    const w = world(medium);
    const start = w.clock.now();
    const define = (folders: readonly [string, ...string[]]) => (stepfast: Stepfast) => {
      stepfast.job('tidy', { payload: z.enum(folders) }, () => undefined);
      stepfast.schedule('tidy up', { every: '1h' }, 'tidy', 'drafts');
    };
    const before = scheduled(w, define(['inbox']));
    await before.ready();
    await w.clock.advance('150m');
    expect(w.errors).toMatchObject([
      { code: 'INVALID_PAYLOAD', job: 'tidy', cause: { code: 'INVALID_PAYLOAD' } },
      { code: 'INVALID_PAYLOAD' },
    ]);
    expect((w.errors[0] as Error).message).toContain('"tidy up"');
    expect(await ticksOf(before)).toEqual([]);
    await before.close();
    const after = scheduled(w, define(['inbox', 'drafts']));
    await after.ready();
    await w.clock.idle();
    expect(await ticksOf(after, start)).toEqual([[2 * HOUR, 1]]);
  });

  it('Q5: only a context that has the job registered starts it, as soon as it has', async () => {
    const w = world(medium);
    const start = w.clock.now();
    const engine = scheduled(w, (stepfast) => {
      stepfast.job('other', () => undefined);
      stepfast.schedule('tidy up', { every: '1h' }, 'tidy');
    });
    await engine.ready();
    await w.clock.advance('61m');
    expect((await engine.runs.list()).runs).toEqual([]);
    engine.job('tidy', () => 'tidied');
    await w.clock.idle();
    expect(await ticksOf(engine, start)).toEqual([[HOUR, 0]]);
    expect(w.errors).toEqual([]);
  });

  it('declares, stops and reads a schedule at once, and opens the engine by itself, as any call does', async () => {
    const w = world(medium);
    const start = w.clock.now();
    const engine = scheduled(w, (stepfast) => void stepfast.job('tidy', () => undefined));
    const hourly = engine.schedule('hourly', { every: '1h' }, 'tidy');
    const daily = engine.schedule('daily', { cron: '0 6 * * *' }, 'tidy');
    expect(hourly.next()).toBeUndefined();
    expect(daily.next()).toEqual(new Date(start + 6 * HOUR));
    await expect.poll(() => hourly.next()).toEqual(new Date(start + HOUR));
    const late = engine.schedule('late', { every: '90m' }, 'tidy');
    await w.clock.idle();
    expect(late.next()).toEqual(new Date(start + 90 * MINUTE));
    hourly.stop();
    hourly.stop();
    expect(hourly.next()).toBeUndefined();
    await w.clock.advance('80m');
    expect(await ticksOf(engine)).toEqual([]);
    engine.schedule('hourly', { every: '1h' }, 'tidy');
    await w.clock.advance('10m');
    expect(await ticksOf(engine, start)).toEqual([
      [HOUR, 0],
      [90 * MINUTE, 0],
    ]);
    await engine.close();
  });

  it('a schedule of an engine that is closed at once, or whose store fails, is told of once, and harms nothing', async () => {
    const w = world(medium);
    const closed = scheduled(w, tidying({ every: '1h' }));
    await closed.close();
    await w.clock.idle();
    expect(w.errors).toEqual([]);
    const store = w.store();
    const { open } = store;
    store.open = () => Promise.reject(new Error('no store'));
    const failing = scheduled(w, tidying({ every: '1h' }), { store });
    await w.clock.idle();
    await expect.poll(() => w.errors).toMatchObject([{ message: 'no store' }]);
    store.open = open;
    await failing.ready();
    await w.clock.advance('1h');
    expect(await ticksOf(failing)).toHaveLength(1);
  });

  it('Q4: does not poll: between ticks the store hears nothing of a schedule', async () => {
    const w = world(medium);
    const store = w.store();
    let reads = 0;
    const { state } = store;
    store.state = (key) => {
      reads++;
      return state.call(store, key);
    };
    const engine = scheduled(w, tidying({ every: '30 days' }), { store });
    await engine.ready();
    await w.clock.idle();
    const [commits, before] = [w.commits(), reads];
    await w.clock.advance('29 days');
    expect([w.commits() - commits, reads - before]).toEqual([0, 0]);
    await w.clock.advance('1 day');
    expect(reads - before).toBe(1);
  });

  it('Q4: a page that was frozen while ticks passed starts the run when it wakes up', async () => {
    const w = world(medium);
    const start = w.clock.now();
    const wakes: (() => void)[] = [];
    const onWake = (callback: () => void) => {
      wakes.push(callback);
      return () => void wakes.splice(wakes.indexOf(callback), 1);
    };
    const platform = { ...systemPlatform(w.clock), onWake };
    const use = [schedules()];
    const engine = createEngine(platform, { store: w.store(), use, onError: (error) => w.errors.push(error) });
    tidying({ every: '1h' })(engine);
    await engine.ready();
    await w.clock.idle();
    w.clock.jump(start + 150 * MINUTE); // no timer fires
    for (const wake of [...wakes, ...wakes]) wake();
    await w.clock.idle();
    expect(await ticksOf(engine, start)).toEqual([[2 * HOUR, 1]]);
    await engine.close();
    expect(wakes).toEqual([]);
    expect(w.errors).toEqual([]);
  });

  it('hands queue, priority, tags and retry to each run', async () => {
    const w = world(medium);
    const engine = scheduled(w, (stepfast) => {
      stepfast.job('tidy', () => undefined);
      stepfast.schedule('tidy up', { every: '1h' }, 'tidy', undefined, {
        tags: ['nightly'],
        queue: 'slow',
        priority: 2,
      });
    });
    await engine.ready();
    await w.clock.advance('1h');
    const [run] = (await engine.runs.list({ tag: 'nightly' })).runs;
    expect(run).toMatchObject({ status: 'completed', tags: ['nightly'] });
  });
});

describe('schedules by cron', () => {
  const medium = media.memory!;
  const ticking = async (cron: string, timezone: string | undefined, from: string, forMs: number) => {
    const w = world(medium);
    w.clock.jump(Date.parse(from));
    const engine = scheduled(w, tidying(timezone === undefined ? { cron } : { cron, timezone }));
    await engine.ready();
    await w.clock.advance(forMs);
    return instants(engine);
  };

  it('Q5: ticks by the wall clock of its time zone, or of UTC', async () => {
    expect(await ticking('0 9 * * MON-FRI', 'Europe/Vienna', '2026-01-01T00:00:00Z', 5 * DAY)).toEqual([
      '2026-01-01T08:00:00.000Z',
      '2026-01-02T08:00:00.000Z',
      '2026-01-05T08:00:00.000Z',
    ]);
    expect(await ticking('0 9 * * *', undefined, '2026-07-01T00:00:00Z', DAY)).toEqual(['2026-07-01T09:00:00.000Z']);
  });

  it('Q5: six fields begin with seconds', async () => {
    expect(await ticking('*/20 0 * * * *', 'UTC', '2026-01-01T00:00:00Z', 2 * MINUTE)).toEqual([
      '2026-01-01T00:00:20.000Z',
      '2026-01-01T00:00:40.000Z',
    ]);
  });

  it('Q5: a time of day that daylight saving leaves out ticks after the gap, one that comes twice ticks once', async () => {
    expect(await ticking('30 2 * * *', 'Europe/Berlin', '2026-03-28T02:00:00Z', 2 * DAY)).toEqual([
      '2026-03-29T01:00:00.000Z',
      '2026-03-30T00:30:00.000Z',
    ]);
    expect(await ticking('30 2 * * *', 'Europe/Berlin', '2026-10-24T02:00:00Z', 2 * DAY)).toEqual([
      '2026-10-25T00:30:00.000Z',
      '2026-10-26T01:30:00.000Z',
    ]);
  });

  it('Q5: any other pattern ticks whenever the wall clock fits, twice where an hour comes twice', async () => {
    expect(await ticking('0,30 * * * *', 'Europe/Berlin', '2026-10-25T00:00:00Z', 2 * HOUR)).toEqual([
      '2026-10-25T00:30:00.000Z',
      '2026-10-25T01:00:00.000Z',
      '2026-10-25T01:30:00.000Z',
      '2026-10-25T02:00:00.000Z',
    ]);
    expect(await ticking('30 2,14 * * *', 'Europe/Berlin', '2026-03-28T14:00:00Z', DAY)).toEqual([
      '2026-03-29T12:30:00.000Z',
    ]);
  });

  it('Q5: counts what was missed, over a change to summer time, and up to 1,000', async () => {
    const w = world(medium);
    w.clock.jump(Date.parse('2026-03-28T12:00:00Z'));
    const define = (cron: string) => (stepfast: Stepfast) => {
      stepfast.job('tidy', () => undefined);
      stepfast.schedule('tidy up', { cron, timezone: 'Europe/Berlin' }, 'tidy');
    };
    const before = scheduled(w, define('0 * * * *'));
    await before.ready();
    await w.clock.idle();
    await before.close();
    w.clock.jump(Date.parse('2026-03-29T12:30:00Z'));
    const after = scheduled(w, define('0 * * * *'));
    await after.ready();
    await w.clock.idle();
    expect(await ticksOf(after, Date.parse('2026-03-29T12:00:00Z'))).toEqual([[0, 23]]);
    await after.close();
    w.clock.jump(Date.parse('2027-03-29T12:30:30.500Z'));
    const yearLater = scheduled(w, define('* * * * * *'));
    await yearLater.ready();
    await w.clock.idle();
    expect((await ticksOf(yearLater, Date.parse('2027-03-29T12:30:30Z'))).at(-1)).toEqual([0, 999]);
  });

  it('Q5: a rule by cron starts no tick twice when the clock is set back over a few of them', async () => {
    const w = world(medium);
    const start = w.clock.now();
    const define = tidying({ cron: '*/10 * * * *' });
    const before = scheduled(w, define);
    await before.ready();
    await w.clock.advance('35m');
    await before.close();
    for (const minutes of [5, 35]) {
      w.clock.jump(start + minutes * MINUTE);
      const after = scheduled(w, define);
      await after.ready();
      await w.clock.idle();
      expect(await ticksOf(after, start)).toHaveLength(3);
      await after.close();
    }
    w.clock.jump(start + 45 * MINUTE);
    const again = scheduled(w, define);
    await again.ready();
    await w.clock.idle();
    expect(await ticksOf(again, start)).toEqual([
      [10 * MINUTE, 0],
      [20 * MINUTE, 0],
      [30 * MINUTE, 0],
      [40 * MINUTE, 0],
    ]);
  });

  it.each([
    { every: '1h' },
    { cron: '0 * * * *' },
  ] as const)('Q4: %j goes on by the right time while nobody touches it, after its clock was ahead for days', async (rule) => {
    const w = world(medium);
    const start = w.clock.now();
    const engine = scheduled(w, tidying(rule));
    await engine.ready();
    await w.clock.advance('1h');
    w.clock.jump(start + 4 * DAY + HOUR);
    await w.clock.advance('1m');
    w.clock.jump(start + HOUR + HOUR / 2);
    await w.clock.advance('4h');
    const hours = ['01', '02', '03', '04', '05'].map((hour) => `2026-01-01T${hour}:00:00.000Z`);
    expect((await instants(engine)).sort()).toEqual([...hours, '2026-01-05T01:00:00.000Z']);
  });

  it('Q4: an open engine that finds its clock corrected starts the tick that passed meanwhile', async () => {
    const w = world(medium);
    const start = w.clock.now();
    const engine = scheduled(w, tidying({ cron: '0 0 1 * *' }));
    engine.job('other', () => undefined);
    await engine.ready();
    await w.clock.advance('28 days');
    w.clock.jump(start + 400 * DAY);
    await w.clock.advance(0);
    w.clock.jump(start + 32 * DAY);
    engine.schedule('another', { every: '1 day' }, 'other'); // whatever makes it look
    await w.clock.idle();
    expect(await instants(engine)).toEqual(['2027-02-01T00:00:00.000Z', '2026-02-01T00:00:00.000Z']);
    await w.clock.advance('27 days');
    expect((await instants(engine)).slice(2)).toEqual(['2026-03-01T00:00:00.000Z']);
  });

  it.each([
    ['long before a tick', '0 9 * * *', '08:20', [9 * HOUR]],
    ['to the same time of the day', '0 9 * * *', '08:30', [9 * HOUR]],
    ['so that it is noticed behind a tick', '0 9 * * *', '08:50', [9 * HOUR]],
    ['by a little more than a day', '*/20 * * * *', '08:29', [8.5 * HOUR + 10 * MINUTE, 9 * HOUR]],
    ['behind the tick of the day', '0 9 * * *', '09:10', []],
  ] as const)('Q4, Q5: a schedule declared by a clock a day ahead, corrected %s, loses nothing that comes after', async (_, cron, to, wanted) => {
    const w = world(medium);
    const today = Date.parse('2026-01-10T00:00:00Z');
    w.clock.jump('2026-01-11T08:30:00Z');
    const engine = scheduled(w, tidying({ cron }));
    await engine.ready();
    await w.clock.idle();
    w.clock.jump(`2026-01-10T${to}:00Z`);
    await w.clock.advance('40m');
    expect(await ticksOf(engine, today)).toEqual(wanted.map((tick) => [tick, 0]));
  });

  it('Q4, Q5: a clock set back while the next tick is waited for loses not even the one at which that is noticed', async () => {
    const w = world(medium);
    const start = w.clock.now();
    const engine = scheduled(w, tidying({ cron: '* * * * *' }));
    await engine.ready();
    await w.clock.advance('1m');
    w.clock.jump(start - 2 * HOUR + MINUTE);
    await w.clock.advance('3m');
    const set = [2, 3, 4].map((minute) => [-2 * HOUR + minute * MINUTE, 0]);
    expect(await ticksOf(engine, start)).toEqual([[MINUTE, 0], ...set]);
  });

  it.each([
    ['a context that is open', true],
    ['one that is opened then', false],
  ])('Q4, Q5: a correction that %s hears of within a minute costs no tick that came in between', async (_, isOpen) => {
    const w = world(medium);
    w.clock.jump('2026-01-11T08:30:00Z');
    const define = (stepfast: Stepfast) => {
      stepfast.job('other', () => undefined);
      tidying({ cron: '0 9 * * *' })(stepfast);
    };
    const before = scheduled(w, define);
    await before.ready();
    await w.clock.idle();
    if (!isOpen) await before.close();
    w.clock.jump('2026-01-10T09:00:50Z'); // corrected at 08:59:55
    const engine = isOpen ? before : scheduled(w, define);
    await engine.ready();
    engine.schedule('another', { every: '1 day' }, 'other'); // whatever makes it look
    await w.clock.idle();
    expect(await instants(engine)).toEqual(['2026-01-10T09:00:00.000Z']);
    await w.clock.advance('1 day');
    expect((await instants(engine)).slice(1)).toEqual(['2026-01-11T09:00:00.000Z']);
  });

  it('Q4, Q5: nor does code that can not start it yet when the correction is noticed', async () => {
    const w = world(medium);
    w.clock.jump('2026-01-11T08:30:00Z');
    const engine = scheduled(w, (stepfast) => {
      stepfast.job('other', () => undefined);
      stepfast.schedule('tidy up', { cron: '0 9 * * *' }, 'tidy');
    });
    await engine.ready();
    await w.clock.idle();
    w.clock.jump('2026-01-10T08:50:00Z');
    await w.clock.advance('31m');
    engine.schedule('another', { every: '1 day' }, 'other'); // one more look
    await w.clock.idle();
    expect(w.errors).toEqual([]);
    engine.job('tidy', () => undefined);
    await w.clock.idle();
    expect(await instants(engine)).toEqual(['2026-01-10T09:00:00.000Z']);
  });

  it('Q4, Q5: nor does a store that fails when the correction is noticed', async () => {
    const w = world(medium);
    w.clock.jump('2026-01-11T08:30:00Z');
    const store = w.store();
    const { state } = store;
    const engine = scheduled(w, tidying({ cron: '0 9 * * *' }), { store });
    await engine.ready();
    await w.clock.idle();
    w.clock.jump('2026-01-10T08:50:00Z');
    store.state = () => Promise.reject(new Error('no store'));
    await w.clock.advance('31m');
    expect(w.errors).toEqual([new Error('no store')]);
    store.state = state;
    engine.job('later', () => undefined);
    engine.schedule('another', { every: '1 day' }, 'later'); // whatever makes it look
    await w.clock.idle();
    expect(await instants(engine)).toEqual(['2026-01-10T09:00:00.000Z']);
  });
});

describe('what schedules refuse', () => {
  const medium = media.memory!;
  const everyHour: ScheduleOptions = { every: '1h' };
  const refusal = (declare: (stepfast: Stepfast) => unknown, options: SchedulesOptions = { cron: Cron }) => {
    const w = world(medium);
    const engine = w.engine((stepfast) => void stepfast.job('tidy', () => undefined), { use: [schedules(options)] });
    try {
      declare(engine);
    } catch (error) {
      expect(w.commits()).toBe(0);
      return error as Error & { code: string };
    }
    throw new Error('it was not refused');
  };

  it.each([
    ['an empty name', '', everyHour, 'INVALID_NAME'],
    ['a reserved name', 'stepfast:x', everyHour, 'INVALID_NAME'],
    ['a name that is too long', 'x'.repeat(257), everyHour, 'INVALID_NAME'],
    ['a name that is no text', 5, everyHour, 'INVALID_NAME'],
    ['no rule', 'x', undefined, 'INVALID_OPTION'],
    ['an empty rule', 'x', {}, 'INVALID_OPTION'],
    ['two rules', 'x', { every: '1h', cron: '* * * * *' }, 'INVALID_OPTION'],
    ['less than a second', 'x', { every: 999 }, 'INVALID_OPTION'],
    ['no duration', 'x', { every: 'soon' }, 'INVALID_DURATION'],
    ['a zone beside every', 'x', { every: '1h', timezone: 'UTC' }, 'INVALID_OPTION'],
    ['a cron that is no text', 'x', { cron: 5 }, 'INVALID_OPTION'],
    ['four fields', 'x', { cron: '* * * *' }, 'INVALID_OPTION'],
    ['seven fields', 'x', { cron: '* * * * * * *' }, 'INVALID_OPTION'],
    ['a nickname', 'x', { cron: '@daily' }, 'INVALID_OPTION'],
    ['a date', 'x', { cron: '2026-01-01T00:00:00Z' }, 'INVALID_OPTION'],
    ['a minute that is none', 'x', { cron: '61 * * * *' }, 'INVALID_OPTION'],
    ['a day that never comes', 'x', { cron: '0 0 30 2 *' }, 'INVALID_OPTION'],
    ['a zone that is none', 'x', { cron: '* * * * *', timezone: 'Europe/Wien' }, 'INVALID_OPTION'],
    ['an empty zone', 'x', { cron: '* * * * *', timezone: '' }, 'INVALID_OPTION'],
    ['an offset', 'x', { cron: '* * * * *', timezone: '+02:00' }, 'INVALID_OPTION'],
    ['a zone that is nothing', 'x', { cron: '* * * * *', timezone: null }, 'INVALID_OPTION'],
    ['a zone that is no text', 'x', { cron: '* * * * *', timezone: 120 }, 'INVALID_OPTION'],
  ])('B: %s', (_, name, when, code) => {
    const error = refusal((stepfast) => stepfast.schedule(name as string, when as ScheduleOptions, 'tidy'));
    expect(error).toMatchObject({ code });
    expect(error.message).toMatch(/ is .+\. Give /s);
  });

  it.each([
    ['id', 'x'],
    ['idempotencyKey', 'x'],
    ['delay', '1h'],
    ['startAt', 0],
    ['allowUnregistered', true],
    ['tags', 'nightly'],
    ['queue', ''],
    ['priority', 0.5],
  ])('B: %s, which would not fit every run', (option, value) => {
    const options = { [option]: value };
    const error = refusal((stepfast) => stepfast.schedule('x', everyHour, 'tidy', undefined, options));
    expect(error.code).toMatch(/INVALID_(OPTION|NAME)/);
  });

  it('B: a payload that can not be stored, with its path', () => {
    const error = refusal((stepfast) => stepfast.schedule('x', everyHour, 'tidy', { at: () => 0 }));
    expect(error).toMatchObject({ code: 'NOT_SERIALIZABLE', path: '$.at' });
  });

  it('B: a name that this engine has already', () => {
    const error = refusal((stepfast) => {
      stepfast.schedule('x', everyHour, 'tidy');
      stepfast.schedule('x', { every: '2h' }, 'tidy');
    });
    expect(error).toMatchObject({ code: 'INVALID_NAME' });
    expect(error.message).toContain('stop()');
  });

  it('B: cron without the library, saying how to hand it in', () => {
    const error = refusal((stepfast) => stepfast.schedule('x', { cron: '* * * * *' }, 'tidy'), {});
    expect(error).toMatchObject({ code: 'INVALID_OPTION' });
    expect(error.message).toContain('schedules({ cron: Cron })');
  });

  it('B: a schedule without the plug-in, after close, and a plug-in that two engines share', async () => {
    const w = world(medium);
    expect(() => w.engine().schedule('x', everyHour, 'tidy')).toThrow(
      expect.objectContaining({ code: 'MISSING_PLUGIN', message: expect.stringContaining('stepfast/schedules') }),
    );
    const use = [schedules()];
    const engine = w.engine(() => undefined, { use });
    expect(() => w.engine(() => undefined, { use })).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }));
    await engine.ready();
    await engine.close();
    expect(() => engine.schedule('x', everyHour, 'tidy')).toThrow(expect.objectContaining({ code: 'CLOSED' }));
  });

  it('B: keys of ticks are out of reach of users', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => void stepfast.job('tidy', () => undefined));
    const idempotencyKey = 'stepfast:schedule:x:0';
    await expect(engine.start('tidy', undefined, { idempotencyKey })).rejects.toMatchObject({ code: 'INVALID_KEY' });
    await expect(engine.state.set('stepfast:schedule:x', 0)).rejects.toMatchObject({ code: 'INVALID_KEY' });
  });
});
