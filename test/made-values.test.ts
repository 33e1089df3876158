import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { Step, Stepfast } from '../src/index.js';
import { crashEverywhere, everyWay } from './crash-everywhere.js';
import { media, type World, world } from './harness.js';

// Pins: `step.now`, `step.uuid`, `step.random` (spec 2, R7, R11, R12): values that are made once, and the same on replay.

beforeEach(() => void vi.spyOn(console, 'warn').mockImplementation(() => undefined));
afterEach(() => void vi.restoreAllMocks());

type Define = (stepfast: Stepfast) => void;

async function reload(w: World, engine: Stepfast, define: Define): Promise<Stepfast> {
  w.crash(engine);
  const next = w.engine(define);
  await next.ready();
  await w.clock.idle();
  return next;
}
const run = async (engine: Stepfast, id = 'r') => (await engine.runs.get(id))!;
const UUID_V4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const make = async (step: Step) => [await step.now(), await step.uuid(), await step.random()] as const;

everyWay('step.now, step.uuid, step.random', (open) => {
  it('are what they say, and the same on every pass', async () => {
    const w = open();
    const passes: (readonly unknown[])[] = [];
    const define: Define = (stepfast) => {
      stepfast.job('makes', async ({ step }) => {
        const before = await make(step);
        await step.sleep('nap', '1h');
        const all = [...before, ...(await make(step))];
        await step.waitForEvent('go');
        passes.push(all);
        return all;
      });
    };
    const began = w.clock.now();
    let engine = w.engine(define);
    await engine.start('makes', undefined, { id: 'r' });
    await w.clock.advance('90m');
    engine = await reload(w, engine, define);
    await engine.dispatch('go');
    await w.clock.idle();
    const result = (await run(engine)).result as (string | number)[];
    expect(result[0]).toBe(began);
    expect(result[3]).toBe(began + 3_600_000);
    for (const at of [1, 4]) expect(result[at]).toMatch(UUID_V4);
    for (const at of [2, 5]) {
      expect(result[at]).toBeGreaterThanOrEqual(0);
      expect(result[at]).toBeLessThan(1);
    }
    expect(new Set(result).size).toBe(6);
    for (const pass of passes) expect(pass).toEqual(result);
    const made = (await engine.runs.timeline('r')).filter(({ kind }) => kind === 'value-made');
    expect(made.map(({ word, value }) => [word, value])).toEqual(
      ['now', 'uuid', 'random', 'now', 'uuid', 'random'].map((word, at) => [word, result[at]]),
    );
  });

  it('R11: cost no commit of their own, wherever they stand', async () => {
    const commits: number[] = [];
    for (const makes of [false, true]) {
      const w = open();
      const engine = w.engine((stepfast) =>
        stepfast.job('makes', async ({ step }) => {
          const some = () => (makes ? make(step) : undefined);
          await some();
          await step.run('one', () => 1);
          await some();
          await Promise.all([step.run('two', () => 2), some(), step.run('three', () => 3)]);
          await some();
          await step.sleep('nap', '1h');
          await some();
        }),
      );
      await engine.start('makes', undefined, { id: 'r' });
      await w.clock.advance('2h');
      expect((await run(engine)).status).toBe('completed');
      commits.push(w.commits());
    }
    expect(commits[1]).toBe(commits[0]);
  });

  it('R7: among steps in Promise.all, race and any they keep their places and their winners', async () => {
    const w = open();
    const seen: unknown[] = [];
    const define: Define = (stepfast) => {
      stepfast.job('mixed', async ({ step }) => {
        const all = await Promise.all([
          step.run('a', () => 'a'),
          step.uuid(),
          step.now().then((now) => step.run('b', () => now)),
          step.uuid(),
        ]);
        const first = await step.race([step.waitForEvent('never'), step.uuid(), step.sleep('nap', '1h')]);
        const any = await Promise.any([step.run('c', () => 'c'), step.random()]);
        await step.waitForEvent('go');
        seen.push([all, first, any]);
        return [all, first, any];
      });
    };
    let engine = w.engine(define);
    await engine.start('mixed', undefined, { id: 'r' });
    await w.clock.idle();
    expect(await run(engine)).toMatchObject({ status: 'waiting', waitingFor: [{ events: ['go'] }] });
    engine = await reload(w, engine, define);
    await engine.dispatch('go');
    await w.clock.idle();
    const [all, first, any] = (await run(engine)).result as [unknown[], unknown, unknown];
    expect(all).toEqual(['a', expect.stringMatching(UUID_V4), w.clock.now(), expect.stringMatching(UUID_V4)]);
    expect(all[1]).not.toBe(all[3]);
    expect(first).toMatch(UUID_V4);
    expect(any).toEqual(expect.any(Number));
    for (const pass of seen) expect(pass).toEqual([all, first, any]);
  });

  it('R1: what a step was given is what is recorded, whichever commit the app dies at', async () => {
    await crashEverywhere(open, {
      define: (stepfast, w) =>
        stepfast.job('makes', async ({ step }) => {
          const first = await step.uuid();
          await step.run('one', () => w.log.push(`one ${first}`));
          const [second] = await Promise.all([step.uuid(), step.run('two', () => w.log.push(`two ${first}`))]);
          await step.run('three', () => w.log.push(`three ${second}`));
          return [first, second];
        }),
      async play(engine, w) {
        await engine.start('makes', undefined, { id: 'r' });
        await w.clock.idle();
      },
      async check(engine, w, where) {
        const [first, second] = (await run(engine)).result as [string, string];
        expect([...new Set(w.log)], where).toEqual([`one ${first}`, `two ${first}`, `three ${second}`]);
      },
    });
  });

  it('500 of them in a row are made in one commit', async () => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job('many', async ({ step }) => {
        const all = new Set<string>();
        for (let count = 0; count < 500; count++) all.add(await step.uuid());
        return all.size;
      }),
    );
    await engine.start('many', undefined, { id: 'r' });
    await w.clock.idle();
    expect((await run(engine)).result).toBe(500);
    expect(w.commits()).toBe(2);
  });

  it('R4: another of them in its place is an inserted one: it simply runs', async () => {
    const w = open();
    const define = (word: 'now' | 'uuid') => (stepfast: Stepfast) => {
      stepfast.job('changed', async ({ step }) => {
        const value = await step[word]();
        await step.waitForEvent('go');
        return value;
      });
    };
    const before = w.engine(define('now'));
    await before.start('changed', undefined, { id: 'r' });
    await w.clock.idle();
    const after = await reload(w, before, define('uuid'));
    await after.dispatch('go');
    await w.clock.idle();
    expect((await run(after)).result).toMatch(UUID_V4);
  });
});

it('R12: a loop of them without end fails the run with JOURNAL_FULL', { timeout: 60_000 }, async () => {
  const w = world(media.memory!);
  const engine = w.engine((stepfast) =>
    stepfast.job('endless', async ({ step }) => {
      for (;;) await step.now();
    }),
  );
  await engine.start('endless', undefined, { id: 'r' });
  await expect.poll(async () => (await run(engine)).status, { timeout: 50_000 }).toBe('failed');
  expect((await run(engine)).error?.code).toBe('JOURNAL_FULL');
});

it('R12: more than 1,000 open waits fail the run with TOO_MANY_WAITS when they are asked for, and none is left', async () => {
  const w = world(media.memory!);
  const engine = w.engine((stepfast) =>
    stepfast.job<number>('many', async ({ step, payload }) => {
      await Promise.all(Array.from({ length: payload }, (_, index) => step.waitForEvent(`event ${index}`)));
    }),
  );
  await engine.start('many', 1_000, { id: 'fits' });
  await engine.start('many', 1_001, { id: 'r' });
  await w.clock.idle();
  expect(await run(engine, 'fits')).toMatchObject({ status: 'waiting' });
  expect(await run(engine)).toMatchObject({ status: 'failed', error: { code: 'TOO_MANY_WAITS' }, waitingFor: [] });
});
