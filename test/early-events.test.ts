import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { z } from 'zod';
import type { Batch, Stepfast } from '../src/index.js';
import { crashEverywhere, everyWay } from './crash-everywhere.js';
import type { World } from './harness.js';

// Pins: spec E1, E2: an event that is there before its wait is opened, or comes while its run does something else, is
// found by whoever drives the run next: nothing has to come after it.

beforeEach(() => void vi.spyOn(console, 'warn').mockImplementation(() => undefined));
afterEach(() => void vi.restoreAllMocks());

type Define = (stepfast: Stepfast) => void;

const run = async (engine: Stepfast, id = 'r') => (await engine.runs.get(id))!;
const reopen = async (w: World, define: Define): Promise<Stepfast> => {
  const engine = w.engine(define);
  await engine.ready();
  await w.clock.idle();
  return engine;
};
/** An engine that dies right after the first commit of which this is so; `before` comes first. */
function mortal(
  w: World,
  define: Define,
  isLast: (batch: Batch) => boolean,
  before = async () => undefined as unknown,
) {
  const store = w.store();
  const { commit } = store;
  const death = { isOver: false };
  store.commit = async (batch) => {
    if (death.isOver || !isLast(batch)) return commit.call(store, batch);
    death.isOver = true;
    await before();
    await commit.call(store, batch);
    w.crash(engine);
    throw new Error('the context is gone');
  };
  const engine: Stepfast = w.engine(define, { store });
  return { engine, death };
}
const records = (kind: string, name: string) => (batch: Batch) =>
  batch.run?.append.some((entry) => entry.kind === kind && 'id' in entry && entry.id?.[0] === name) ?? false;

everyWay('events that are there already', (open) => {
  it('E3: calls of one turn are committed in their order, so that an event behind a start comes after the run', async () => {
    const w = open();
    const asked = z.object({ n: z.number() });
    const engine = w.engine((stepfast) => {
      stepfast.job('plain', async ({ step }) => (await step.waitForEvent('early')).payload);
      stepfast.job('checked', { payload: asked }, async ({ step }) => (await step.waitForEvent('early')).payload);
    });
    const plain = engine.start('plain', undefined, { id: 'plain' });
    const checked = engine.start('checked', { n: 1 }, { id: 'checked' });
    const sent = engine.dispatch('early', 'kept');
    const late = engine.start('plain', undefined, { id: 'late' });
    await Promise.all([plain, checked, sent, late]);
    await w.clock.idle();
    for (const id of ['plain', 'checked'])
      expect(await run(engine, id)).toMatchObject({ status: 'completed', result: 'kept' });
    expect(await run(engine, 'late')).toMatchObject({ status: 'waiting' });
  });

  it('E2: the app dies after the commit that opens the wait: the event is taken when it comes back', async () => {
    const w = open();
    const define: Define = (stepfast) => {
      stepfast.job('waits', async ({ step }) => {
        await step.run('first', () => 1);
        return (await step.waitForEvent('early', { timeout: '1h' })).payload;
      });
    };
    const { engine, death } = mortal(w, define, records('wait-set', 'early'));
    await engine.start('waits', undefined, { id: 'r' });
    await engine.dispatch('early', 'kept');
    await expect.poll(() => death.isOver).toBe(true);
    await w.clock.idle();
    const after = await reopen(w, define);
    expect(await run(after)).toMatchObject({ status: 'completed', result: 'kept' });
  });

  it('E1: it comes while another commit is under way, after which the app dies: it is taken', async () => {
    const w = open();
    const define: Define = (stepfast) => {
      stepfast.job('both', async ({ step }) => {
        const event = step.waitForEvent('came');
        await step.run('beside', () => 1);
        void step.waitForEvent('never'); // it has asked for something: nobody would replay it for nothing
        return (await event).payload;
      });
    };
    const sender = w.engine();
    const sends = () => sender.dispatch('came', 'kept');
    const { engine, death } = mortal(w, define, records('step-completed', 'beside'), sends);
    await engine.start('both', undefined, { id: 'r' });
    await expect.poll(() => death.isOver).toBe(true);
    await w.clock.idle();
    await sender.close();
    const after = await reopen(w, define);
    expect(await run(after)).toMatchObject({ status: 'completed', result: 'kept' });
  });

  it.each([
    ['an event that comes meanwhile is not lost', true],
    ['its handler goes on when it comes back', false],
  ])('R11: an interrupted run records an outcome first, and dies right after: %s', async (_, sends) => {
    const w = open();
    let isStuck = true;
    const define: Define = (stepfast) => {
      stepfast.job('both', async ({ step }) => {
        const event = step.waitForEvent('came');
        await step.run('beside', async () => {
          w.log.push('beside');
          if (isStuck) await new Promise(() => undefined);
        });
        await step.run('after', () => w.log.push('after'));
        return (await event).payload;
      });
    };
    const first = w.engine(define);
    await first.start('both', undefined, { id: 'r' });
    await expect.poll(() => w.log.length).toBe(1);
    w.crash(first); // in flight: an interruption
    isStuck = false;
    const sender = w.engine();
    const meanwhile = async () => sends && sender.dispatch('came', 'kept');
    const { engine, death } = mortal(w, define, records('step-completed', 'beside'), meanwhile);
    await engine.ready();
    await expect.poll(() => death.isOver).toBe(true);
    await w.clock.idle();
    await sender.close();
    const after = await reopen(w, define);
    expect(w.log).toEqual(['beside', 'beside', 'after']);
    expect(await run(after)).toMatchObject(sends ? { status: 'completed', result: 'kept' } : { status: 'waiting' });
  });

  it('E1, E2: several of them, each sent once, whichever commit the app dies at', async () => {
    await crashEverywhere(open, {
      define: (stepfast) =>
        stepfast.job('several', async ({ step }) => {
          const a = (await step.waitForEvent('a')).payload;
          const [b] = await Promise.all([step.waitForEvent('b'), step.run('beside', () => 1)]);
          return [a, b.payload, (await step.waitForEvent(['c', 'd'])).payload];
        }),
      async play(engine) {
        await engine.start('several', undefined, { id: 'r' });
        for (const name of ['d', 'b', 'a']) await engine.dispatch(name, name, { idempotencyKey: name });
      },
      async check(engine, _, where) {
        expect((await run(engine)).result, where).toEqual(['a', 'b', 'd']);
      },
    });
  });

  it('E9: one that does not match does not keep its run, nor the engine, busy', async () => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job('picky', async ({ step }) => {
        await step.waitForEvent('begin');
        return (await step.waitForEvent<number>('early', { match: (payload) => payload > 1 })).payload;
      }),
    );
    await engine.start('picky', undefined, { id: 'r' });
    await w.clock.idle();
    await engine.dispatch('early', 1);
    await engine.dispatch('begin');
    await w.clock.idle();
    const commits = w.commits();
    await w.clock.advance('1 day');
    expect([(await run(engine)).status, w.commits()]).toEqual(['waiting', commits]);
    await engine.dispatch('early', 2);
    await w.clock.idle();
    expect((await run(engine)).result).toBe(2);
  });

  /** Its sleep ends unheard by anybody: the row says `unsettled`, and the next context replays it with nothing to do. */
  const unsettled: Define = (stepfast) => {
    stepfast.job('races', async ({ step }) => {
      const nap = step.sleep('nap', '1h').then(() => 'nap');
      await Promise.race([step.waitForEvent('first').then(() => 'first'), nap]);
      return (await step.waitForEvent('second', { match: (payload) => payload !== 'not this' })).payload;
    });
  };
  const leaveUnsettled = async (w: World) => {
    const engine = w.engine(unsettled);
    await engine.start('races', undefined, { id: 'r' });
    await w.clock.idle();
    await engine.dispatch('first');
    await w.clock.advance('1h');
    await engine.close();
  };

  it('E1: an event that comes between the look that finds a run and its replay is taken', async () => {
    const w = open();
    await leaveUnsettled(w);
    const store = w.store();
    const { due } = store;
    let comes: Promise<unknown> | undefined;
    store.due = async (query) => {
      const page = await due.call(store, query);
      if (page.runs.length) await (comes ??= engine.dispatch('second', 'kept'));
      return page;
    };
    const engine = w.engine(unsettled, { store });
    await engine.ready();
    await w.clock.idle();
    expect(await run(engine)).toMatchObject({ status: 'completed', result: 'kept' });
  });

  it('E1: an event after one that did not match is taken by a run that nobody has claimed since', async () => {
    const w = open();
    await leaveUnsettled(w);
    const engine = await reopen(w, unsettled);
    await engine.dispatch('second', 'not this');
    await w.clock.idle();
    expect(await run(engine)).toMatchObject({ status: 'waiting' });
    await engine.dispatch('second', 'this');
    await w.clock.idle();
    expect(await run(engine)).toMatchObject({ status: 'completed', result: 'this' });
  });
});

everyWay('events of a clock that was set back', (open) => {
  it('E3, E5: one that came too late for a wait, before a younger one in time, is taken by the next wait', async () => {
    const w = open();
    const define: Define = (stepfast) => {
      stepfast.job('waits', async ({ step }) => {
        const first = await step.waitForEvent<string>('e', { timeout: '1h' });
        const second = await step.waitForEvent<string>('e', { timeout: '4h' });
        return [first.payload, second.payload];
      });
    };
    const engine = w.engine(define);
    await engine.start('waits', undefined, { id: 'r' });
    await w.clock.idle();
    w.crash(engine);
    const begun = w.clock.now();
    const sender = w.engine();
    w.clock.jump(begun + 2 * 3_600_000);
    await sender.dispatch('e', 'too late for the first');
    w.clock.jump(begun + 1_800_000);
    await sender.dispatch('e', 'in time');
    await sender.close();
    const after = await reopen(w, define);
    expect(await run(after)).toMatchObject({ result: ['in time', 'too late for the first'] });
  });
});
