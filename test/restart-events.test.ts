import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { Stepfast } from '../src/index.js';
import { crashEverywhere, everyWay } from './crash-everywhere.js';
import { media, type World, world } from './harness.js';

// Pins: E3, E4, E9 and E1 over `step.restart`: of the events of a run none is lost and none taken twice, in however many
// generations it takes them.

beforeEach(() => void vi.spyOn(console, 'warn').mockImplementation(() => undefined));
afterEach(() => void vi.restoreAllMocks());

type Define = (stepfast: Stepfast) => void;

const run = async (engine: Stepfast, id = 'r') => (await engine.runs.get(id))!;
const range = (length: number) => Array.from({ length }, (_, index) => index);
const idle = async (w: World, engine: Stepfast) => {
  await engine.ready();
  await w.clock.idle();
};

/** A loop that takes one event a generation and remembers them all in its payload, until it has so many. */
const collector =
  (count: number): Define =>
  (stepfast) => {
    stepfast.job<number[]>('collector', async ({ payload, step }) => {
      const { payload: item } = await step.waitForEvent<number>('item');
      const all = [...payload, item];
      return all.length < count ? step.restart(all) : all;
    });
  };

everyWay('events over step.restart', (open) => {
  it('E4: each is taken once and in order, whichever commit the app dies at', async () => {
    await crashEverywhere(open, {
      define: collector(3),
      async play(engine) {
        await engine.start('collector', [], { id: 'r' });
        for (const item of [1, 2, 3]) await engine.dispatch('item', item, { idempotencyKey: `${item}` });
      },
      async check(engine, _, where) {
        expect((await run(engine)).result, where).toEqual([1, 2, 3]);
      },
    });
  });

  it('E4: many events while it loops, dies and comes back: none is lost, none comes twice', async () => {
    const w = open();
    const define = collector(40);
    let engine = w.engine(define);
    await engine.start('collector', [], { id: 'r' });
    for (const item of range(40)) {
      await engine.dispatch('item', item);
      if (item % 5 === 3) await w.clock.idle();
      if (item % 9 !== 7) continue;
      w.crash(engine); // in the middle of whatever it does
      engine = w.engine(define);
    }
    await idle(w, engine);
    expect((await run(engine)).result).toEqual(range(40));
  });

  it('E11, E4: a loop that waits for several names takes each event once', async () => {
    const w = open();
    const define: Define = (stepfast) =>
      stepfast.job<string[]>('several', async ({ payload, step }) => {
        const first = await step.waitForEvent<number>(['a', 'b'], { timeout: '1h', onTimeout: 'continue' });
        if (first.timedOut) return payload;
        return step.restart([...payload, `${first.name}${first.payload}`]);
      });
    let engine = w.engine(define);
    await engine.start('several', [], { id: 'r' });
    for (const item of range(4)) await engine.dispatch('a', item);
    await w.clock.idle();
    w.crash(engine);
    engine = w.engine(define);
    await idle(w, engine);
    for (const item of range(2)) await engine.dispatch('b', item);
    await engine.dispatch('a', 4);
    await w.clock.advance('2h');
    expect((await run(engine)).result).toEqual(['a0', 'a1', 'a2', 'a3', 'b0', 'b1', 'a4']);
  });

  it('E9: what one generation passed over, a later one takes, also after a reload', async () => {
    for (const reloads of [false, true]) {
      const w = open();
      const define: Define = (stepfast) =>
        stepfast.job<number[]>('picky', async ({ payload, step }) => {
          const least = payload.length < 3 ? 10 : 0;
          const { payload: item } = await step.waitForEvent<number>('item', { match: (amount) => amount >= least });
          const all = [...payload, item];
          return all.length < 6 ? step.restart(all) : all;
        });
      let engine = w.engine(define);
      await engine.start('picky', [], { id: 'r' });
      for (const item of [1, 10, 2, 11]) await engine.dispatch('item', item);
      await w.clock.idle();
      if (reloads) {
        w.crash(engine);
        engine = w.engine(define);
        await idle(w, engine);
      }
      for (const item of [3, 12]) await engine.dispatch('item', item);
      await w.clock.idle();
      expect((await run(engine)).result).toEqual([10, 11, 12, 1, 2, 3]);
    }
  });

  it('E9: a predicate is asked anew by each generation: what was no for one is yes for the next', async () => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job<number>('turn', async ({ payload, step }) => {
        await step.waitForEvent<number>('item', { match: (item) => item === payload });
        return payload < 3 ? step.restart(payload + 1) : payload;
      }),
    );
    await engine.start('turn', 1, { id: 'r' });
    await w.clock.idle();
    for (const item of [3, 2, 1]) {
      await engine.dispatch('item', item);
      await w.clock.idle();
    }
    expect(await run(engine)).toMatchObject({ status: 'completed', result: 3 });
  });

  it('E3: lookback takes what no run has taken from before the start, once, over generations', async () => {
    const w = open();
    const define: Define = (stepfast) =>
      stepfast.job<number[]>('back', async ({ payload, step }) => {
        const options = { lookback: 'any', timeout: '1h', onTimeout: 'continue' } as const;
        const event = await step.waitForEvent<number>('item', options);
        return event.timedOut ? payload : step.restart([...payload, event.payload]);
      });
    const engine = w.engine(define);
    for (const item of [1, 2]) await engine.dispatch('item', item);
    await engine.start('back', [], { id: 'r' });
    for (const item of [3, 4]) await engine.dispatch('item', item);
    await w.clock.advance('2h');
    expect((await run(engine)).result).toEqual([1, 2, 3, 4]);
  });
});

it('E4: a pair that is used in every round is remembered, whatever the number of pairs that were used once', async () => {
  const w = world(media.memory!);
  const rounds = 1_050;
  const engine = w.engine((stepfast) =>
    stepfast.job<number[]>('pairs', async ({ payload, step }) => {
      const round = payload[0]!;
      const { payload: tick } = await step.waitForEvent<number>('tick');
      await step.waitForEvent('once', { correlationKey: `${round}` });
      if (tick !== round) return step.restart([round + 1, ...payload.slice(1), tick]);
      return round < rounds ? step.restart([round + 1, ...payload.slice(1)]) : payload;
    }),
  );
  await engine.start('pairs', [0], { id: 'r' });
  for (const round of range(rounds + 1)) {
    await engine.dispatch('tick', round);
    await engine.dispatch('once', round, { correlationKey: `${round}` });
    if (round % 50 === 0) await w.clock.idle();
  }
  await expect.poll(async () => (await run(engine)).status, { timeout: 50_000 }).toBe('completed');
  expect((await run(engine)).result).toEqual([rounds]);
});

it('E4, E9: an event that is passed over for ever does not make a loop forget what it has taken', async () => {
  const w = world(media.memory!);
  const rounds = 1_050;
  const define: Define = (stepfast) => {
    stepfast.job<number>('picky', async ({ payload, step }) => {
      const { payload: item } = await step.waitForEvent<number>('item', { match: (amount) => amount >= 0 });
      if (item !== payload) return `took ${item} in round ${payload}`;
      if (payload < rounds) return step.restart(payload + 1);
      return (await step.waitForEvent<number>('item', { name: 'left' })).payload;
    });
  };
  let engine = w.engine(define);
  await engine.start('picky', 0, { id: 'r' });
  await engine.dispatch('item', -1);
  for (const round of range(rounds)) {
    await engine.dispatch('item', round);
    if (round % 50 === 0) await w.clock.idle();
  }
  await w.clock.idle();
  w.crash(engine);
  engine = w.engine(define);
  await idle(w, engine);
  await engine.dispatch('item', rounds);
  await expect.poll(async () => (await run(engine)).status, { timeout: 50_000 }).toBe('completed');
  expect((await run(engine)).result).toBe(-1);
  expect((await engine.runs.timeline('r')).length).toBeLessThan(10);
});
