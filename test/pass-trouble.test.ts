import { describe, expect, it } from 'vitest';
import type { HandlerContext, Stepfast, StepfastError } from '../src/index.js';
import { LIMITS } from '../src/limits.js';
import { gate, hands, left, never, play, settle, soon, type World } from './hand-kit.js';

// Pins: the handler of a run in trouble (spec R5, R7, R11): how a fault of its code is told, what is kept beside one, what
// replay goes on without, and what a handler may do that was dropped and still runs.

type Context = HandlerContext<string>;
type Handler = (context: Context) => unknown;
const job = (handler: Handler) => (stepfast: Stepfast) => stepfast.job('job', handler as never);

const taken = async (h: World, handler: Handler) => {
  const engine = h.engine(job(handler));
  await engine.ready();
  await settle();
  return engine;
};
const driftsOf = (h: World) => h.journal('r').filter(({ kind }) => kind === 'drift');

describe('a fault of the code', () => {
  it('R5: of no step names none', async () => {
    const { h, engine } = await play(({ step }) => step.race('nothing' as never));
    const [error] = h.errors as StepfastError[];
    expect(error).toMatchObject({ code: 'INVALID_OPTION', runId: 'r', job: 'job' });
    expect(error!.message).toMatch(/^Run r of job "job": What step\.race is given/);
    expect(error).not.toHaveProperty('step');
    await soon(engine.close());
  });

  it('R5: of a step names it, also where what is wrong does not say so', async () => {
    const { h, engine } = await play(({ step }) => step.call('child', undefined, 5 as never));
    const [error] = h.errors as StepfastError[];
    expect(error).toMatchObject({ code: 'INVALID_OPTION', runId: 'r', job: 'job', step: 'child' });
    expect(error!.message).toMatch(/^Run r of job "job", step "child": The options of step\.call/);
    await soon(engine.close());
  });

  it('B: that the app has thrown itself is told as it is', async () => {
    const mine = new TypeError('mine');
    const options = {
      get retry(): never {
        throw mine;
      },
    };
    const { h, engine } = await play(({ step }) => step.run('a', () => 1, options));
    expect(h.errors).toEqual([mine]);
    expect(h.errors[0]).toBe(mine);
    await soon(engine.close());
  });

  it('R5: keeps what ends beside it, and nothing of what was asked for with it', async () => {
    const inside = gate();
    const { h, engine } = await play(async ({ step }) => {
      const slow = step.run('slow', () => inside.promise);
      await step.run('a', () => 1);
      void step.sleep('s', '1h');
      void step.run('', () => 2);
      await slow;
    });
    inside.open();
    await settle();
    expect(h.kinds('r')).toEqual(['started', 'claimed', 'step-completed', 'step-completed', 'released']);
    expect((await engine.runs.get('r'))!.status).toBe('blocked');
    await soon(engine.close());
  });
});

describe('replay that stands still', () => {
  const recorded = () =>
    left(async ({ step }) => {
      await step.run('a', () => 'a');
      await step.run('b', () => 'b');
      await step.waitForEvent('go');
    });

  it('R7: goes on without one that another has taken the place of, and says which', async () => {
    const h = await recorded();
    const engine = await taken(h, async ({ step }) => {
      const other = step.waitForEvent('other');
      await step.run('b', () => 'b again');
      await Promise.all([step.waitForEvent('go'), other]);
    });
    expect(driftsOf(h)).toEqual([]);
    await h.impatient(LIMITS.stallMs);
    expect(driftsOf(h)).toMatchObject([{ ids: [['step', 'a', 1]], slack: 0, at: h.clock.now() }]);
    await soon(engine.close());
  });

  it('R7: and where the code asks for less than it did, by how much', async () => {
    const h = await left(async ({ step }) => {
      void step.waitForEvent('other');
      await step.run('a', () => 'a');
      await step.waitForEvent('go');
    });
    const engine = await taken(h, async ({ step }) => {
      await step.run('a', () => 'a again');
      await step.waitForEvent('go');
    });
    expect(driftsOf(h)).toEqual([]);
    await h.impatient(LIMITS.stallMs);
    expect(driftsOf(h)).toMatchObject([{ ids: [], slack: 1 }]);
    expect(h.row('r')!.status).toBe('completed');
    await soon(engine.close());
  });

  it('R7: and where all that is asked for was open when what is missing was recorded', async () => {
    const h = await left(async ({ step }) => {
      const going = step.waitForEvent('go');
      for (const name of ['a', 'b']) await step.run(name, () => name);
      await going;
    });
    const engine = await taken(h, async ({ step }) => void (await step.waitForEvent('go')));
    expect([h.row('r')!.status, driftsOf(h)]).toEqual(['waiting', []]);
    await h.impatient(LIMITS.stallMs);
    const gone = [
      ['step', 'a', 1],
      ['step', 'b', 1],
    ];
    expect(driftsOf(h)).toMatchObject([{ ids: gone, slack: 0 }]);
    expect(h.row('r')!.status).toBe('completed');
    await soon(engine.close());
  });

  it('R7: of one that was let go of in the middle of a turn nothing is waited for', async () => {
    const h = await left(async ({ step }) => {
      const going = step.waitForEvent('go');
      await step.run('a', () => 'a');
      await going;
    });
    const hop = { isHeld: false, release: (): void => undefined };
    const define = job(async ({ step }) => void (await step.waitForEvent('go')));
    const held = (callback: () => void) => {
      if (hop.isHeld) hop.release = () => void setImmediate(callback);
      else setImmediate(callback);
    };
    const engine = h.engine(define, {}, { hop: held });
    engine.own.onLoad = async () => void (hop.isHeld = true);
    await engine.ready();
    await settle();
    expect(hop.isHeld, 'in the middle of its first turn').toBe(true);
    const closing = engine.close();
    hop.isHeld = false;
    hop.release();
    await soon(closing);
    await settle();
    await h.impatient(LIMITS.stallMs);
    expect([driftsOf(h), h.errors]).toEqual([[], []]);
  });

  it('R7: a step in flight since before a pass comes behind what was recorded since, whatever else is asked for', async () => {
    const [inside, outside] = [gate(), gate()];
    let passes = 0;
    const { h, engine } = await play(
      async ({ step }) => {
        const isFirst = ++passes === 1;
        const loser = step.run('loser', () => inside.promise.then(() => 'loser'));
        const winner = (isFirst ? Promise.resolve() : outside.promise).then(() => step.run('winner', () => 'winner'));
        // In the place of the winner: as many are asked for as when that was recorded.
        if (!isFirst) void step.run('new', () => 'new');
        return [await Promise.race([loser, winner]), await loser];
      },
      {},
      { replay: 'always' },
    );
    expect([passes > 1, h.kinds('r')]).toEqual([true, expect.arrayContaining(['step-completed'])]);
    inside.open();
    await settle();
    outside.open();
    await settle();
    expect(h.row('r')!.status).toBe('completed');
    expect(await (await engine.start('job', 'p', { id: 'r' })).result()).toEqual(['winner', 'loser']);
    await soon(engine.close());
  });

  it('R7: nor does one come before a value that was made when it was asked for', async () => {
    const [inside, outside, last] = [gate(), gate(), gate()];
    let passes = 0;
    const { h, engine } = await play(
      async ({ step }) => {
        const before = ++passes === 1 ? Promise.resolve() : outside.promise;
        void before.then(() => step.run('beside', () => last.promise));
        const slow = step.run('slow', () => inside.promise.then(() => 'slow'));
        const won = await Promise.race([slow, step.now().then(() => 'value')]);
        return [await step.run(`act on ${won}`, () => last.promise.then(() => won)), await slow];
      },
      {},
      { replay: 'always' },
    );
    expect(passes).toBeGreaterThan(1);
    for (const each of [inside, outside, last]) {
      each.open();
      await settle();
    }
    expect(h.row('r')!.status).toBe('completed');
    expect(await (await engine.start('job', 'p', { id: 'r' })).result()).toEqual(['value', 'slow']);
    await soon(engine.close());
  });

  it('R7, E11: of one that has lost a race by the time when patience is over, nothing is said', async () => {
    const h = await recorded();
    const outside = gate();
    const engine = await taken(h, async ({ step }) => {
      await step.race([step.run('b', () => 'b again'), outside.promise as never]);
      await step.waitForEvent('go');
    });
    outside.open();
    for (let turn = 0; turn < 20; turn++) await undefined;
    await h.impatient(LIMITS.stallMs);
    expect([h.row('r')!.status, driftsOf(h)]).toEqual(['completed', []]);
    await soon(engine.close());
  });

  it('F7: as often as it has to, before a step is undone', async () => {
    const undone: string[] = [];
    const undo = { undo: () => void undone.push('c') };
    const h = hands();
    const first = h.engine(
      job(async ({ step }) => {
        for (const name of ['x', 'a', 'y', 'b']) await step.run(name, () => 1);
        await step.run('c', () => 1, undo);
        await step.waitForEvent('never');
      }),
    );
    await first.start('job', 'p', { id: 'r' });
    await settle();
    await soon(first.close());
    await h.engine().runs.cancel('r');
    const engine = await taken(h, async ({ step }) => {
      for (const name of ['a', 'b']) await step.run(name, () => 1);
      await step.run('c', () => 1, undo);
    });
    for (let times = 0; times < 2; times++) {
      expect(undone).toEqual([]);
      await h.impatient(LIMITS.stallMs);
    }
    expect([undone, h.errors]).toEqual([['c'], []]);
    await soon(engine.close());
  });
});

describe('a run that has ended', () => {
  it('R12, F7: is replayed to be undone, and nothing is recorded of what its code asks for beyond', async () => {
    const undone: string[] = [];
    const undo = { undo: () => void undone.push('a') };
    const h = hands();
    const first = h.engine(
      job(async ({ step }) => {
        await step.run('a', () => 1, undo);
        await step.waitForEvent('never');
      }),
    );
    await first.start('job', 'p', { id: 'r' });
    await settle();
    await soon(first.close());
    await h.engine().runs.cancel('r');
    const engine = await taken(h, ({ step }) => Promise.all([step.sleep('new', '1h'), step.run('a', () => 1, undo)]));
    expect([undone, h.kinds('r').slice(-2)]).toEqual([['a'], ['claimed', 'undone']]);
    expect(h.kinds('r')).not.toContain('sleep-set');
    await soon(engine.close());
  });
});

describe('a handler that was dropped and still runs', () => {
  it('V3, R6: says nothing any more, and is told of to nobody', async () => {
    const outside = gate();
    let passes = 0;
    const { h, engine } = await play(
      async ({ step, log }) => {
        const pass = ++passes;
        const later = outside.promise.then(() => {
          log.info(`of pass ${pass}`);
          return step.run('b', () => 1);
        });
        await step.run('a', () => 1);
        await Promise.all([step.waitForEvent('go'), later]);
      },
      {},
      { replay: 'always' },
    );
    expect(passes).toBe(2);
    outside.open();
    await settle();
    const lines = h.journal('r').flatMap((entry) => (entry.kind === 'logged' ? [entry.message] : []));
    expect([lines[0], h.warnings.length]).toEqual(['of pass 2', 1]);
    await soon(engine.close());
  });

  it('S8, D8: gives no lock back that the store has lost: its token may be that of another by now', async () => {
    const outside = gate();
    const h = hands();
    const engine = h.engine(
      job(async ({ step, state }) => {
        const lock = await state.lock('k', { ttl: '1h' });
        void outside.promise.then(() => lock!.release());
        await step.waitForEvent('go');
      }),
    );
    await engine.start('job', 'p', { id: 'r' });
    await settle();
    engine.own.tell(undefined, true);
    await settle();
    const commits = engine.own.batches.length;
    outside.open();
    await settle();
    expect(engine.own.batches.slice(commits).filter(({ state }) => state)).toEqual([]);
    await soon(engine.close());
  });
});

describe('who has lost a race', () => {
  it('E11, D8: hears that of a number that it still waits for, which is not counted', async () => {
    const heard: unknown[] = [];
    const { h, engine, run } = await play(({ step }) => {
      const fast = gate();
      return step.race([
        step.run('fast', () => fast.promise),
        step.run('slow', async ({ state }) => {
          const number = state.increment('n');
          fast.open();
          await number.catch((error: unknown) => heard.push(error));
          return never();
        }),
      ]);
    });
    await soon(run.result());
    await settle();
    expect([heard, await engine.state.get('n')]).toEqual([[new Error('The step has lost a race.')], undefined]);
    expect(h.kinds('r')).not.toContain('state-incremented');
    await soon(engine.close());
  });
});
