import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { Stepfast } from '../src/index.js';
import { crashEverywhere, everyWay } from './crash-everywhere.js';
import type { World } from './harness.js';

// Pins: spec E11, R7 and R5: a `step.race` has one winner, on every pass; its losers are withdrawn, and do nothing more.

beforeEach(() => void vi.spyOn(console, 'warn').mockImplementation(() => undefined));
afterEach(() => void vi.restoreAllMocks());

type Define = (stepfast: Stepfast) => void;

/** The app dies and is opened again. */
async function reload(w: World, engine: Stepfast, define: Define): Promise<Stepfast> {
  w.crash(engine);
  const next = w.engine(define);
  await next.ready();
  await w.clock.idle();
  return next;
}
/** A promise with a handle. */
function gate<Value = void>() {
  let open: (value: Value) => void = () => undefined;
  const promise = new Promise<Value>((resolve) => {
    open = resolve;
  });
  return { promise, open };
}
const timelineOf = async (engine: Stepfast, id: string) =>
  (await engine.runs.timeline(id)).map(({ kind, name }) => (name === undefined ? kind : `${kind} ${name}`));
const run = async (engine: Stepfast, id = 'r') => (await engine.runs.get(id))!;

everyWay('step.race', (open) => {
  it('R6, R8: a race that the handler did not wait for is decided once: its loser is not entered again after a crash', async () => {
    const w = open();
    const long = gate<string>();
    const define: Define = (stepfast) =>
      void stepfast.job('race', async ({ step }) => {
        void step.race([
          step.run('loser', ({ signal }) => {
            w.log.push('loser');
            return new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
          }),
          step.run('winner', () => void w.log.push('winner')),
        ]);
        void step.run('long', () => {
          w.log.push('long');
          return long.promise;
        });
        return 'done';
      });
    const engine = w.engine(define);
    await engine.start('race', undefined, { id: 'r' });
    await w.clock.idle();
    expect(w.log).toEqual(['loser', 'winner', 'long']);
    const next = await reload(w, engine, define);
    expect(w.log).toEqual(['loser', 'winner', 'long', 'long']);
    long.open('over');
    await w.clock.idle();
    expect(await run(next)).toMatchObject({ status: 'completed', result: 'done' });
  });

  it('E3, E5: of two events the one that was accepted first wins, by the store and not by clocks, also while the app was closed', async () => {
    for (const isOpen of [true, false])
      for (const setBackMs of [0, 3_600_000]) {
        const w = open();
        const define: Define = (stepfast) =>
          void stepfast.job('race', async ({ step }) => {
            const first = await step.race([step.waitForEvent('a'), step.waitForEvent('b')]);
            return first.name;
          });
        const engine = w.engine(define);
        await engine.start('race', undefined, { id: 'r' });
        await w.clock.idle();
        if (!isOpen) await engine.close();
        const other = isOpen ? engine : w.engine();
        await other.dispatch('b');
        if (isOpen) await w.clock.idle();
        w.clock.jump(w.clock.now() - setBackMs);
        await other.dispatch('a');
        await other.close();
        const next = w.engine(define);
        await next.ready();
        await w.clock.advance('2h');
        expect((await next.runs.get('r'))?.result).toBe('b');
        await next.close();
      }
  });

  it.each(['event', 'sleep'])('E11: of an event and a sleep the %s wins, and again after a reload', async (winner) => {
    const w = open();
    const seen: unknown[] = [];
    const define: Define = (stepfast) =>
      stepfast.job('race', async ({ step }) => {
        const first = await step.race([step.waitForEvent<string>('paid'), step.sleep('patience', '1h')]);
        seen.push(first?.payload ?? 'slept');
        await step.waitForEvent('go');
        return first?.payload ?? 'slept';
      });
    const before = w.engine(define);
    await before.start('race', undefined, { id: 'r' });
    await w.clock.idle();
    if (winner === 'event') await before.dispatch('paid', 'paid');
    await w.clock.advance('2h');
    expect(await run(before)).toMatchObject({ status: 'waiting', waitingFor: [{ events: ['go'] }] });
    const after = await reload(w, before, define);
    await after.dispatch('go');
    await w.clock.idle();
    const wanted = winner === 'event' ? 'paid' : 'slept';
    expect(await run(after)).toMatchObject({ status: 'completed', result: wanted });
    expect(new Set(seen)).toEqual(new Set([wanted]));
  });

  it('E11: the loser takes no later event: that stays for another run, and for a later wait', async () => {
    const w = open();
    const define: Define = (stepfast) => {
      stepfast.job('race', async ({ step }) => {
        await step.race([step.waitForEvent('paid', { name: 'first' }), step.sleep('patience', '1h')]);
        await step.waitForEvent('go');
        return (await step.waitForEvent('paid', { name: 'second' })).payload;
      });
      stepfast.job('other', async ({ step }) => (await step.waitForEvent('paid')).payload);
    };
    const before = w.engine(define);
    await before.start('race', undefined, { id: 'r' });
    await w.clock.advance('1h');
    await before.start('other', undefined, { id: 'o' });
    await w.clock.idle();
    expect((await before.dispatch('paid', 'late')).resumed).toEqual(['o']);
    const after = await reload(w, before, define);
    expect((await run(after, 'o')).result).toBe('late');
    await after.dispatch('go');
    await w.clock.idle();
    expect((await run(after)).result).toBe('late');
    const taken = (await after.runs.timeline('r')).filter(({ kind }) => kind === 'event-taken');
    expect(taken.map(({ name }) => name)).toEqual(['go', 'second']);
  });

  it('E11: winner and withdrawal are one commit', async () => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job('race', async ({ step }) => {
        await step.race([step.waitForEvent('a'), step.waitForEvent('b'), step.sleep('nap', '1h')]);
        await step.waitForEvent('go');
      }),
    );
    await engine.start('race', undefined, { id: 'r' });
    await w.clock.idle();
    const commits = w.commits();
    await engine.dispatch('b');
    await w.clock.idle();
    expect(w.commits() - commits).toBe(2); // the event, and taking it
    expect(await run(engine)).toMatchObject({ status: 'waiting', waitingFor: [{ events: ['go'] }] });
  });

  it('E11: waitForEvent of several names says which event came, and takes one alone', async () => {
    const w = open();
    const define: Define = (stepfast) =>
      stepfast.job('several', async ({ step }) => {
        const first = await step.waitForEvent<number>(['a', 'b'], { name: 'either' });
        const second = await step.waitForEvent<number>(['a', 'b'], { name: 'again' });
        await step.waitForEvent('go');
        return [first.name, first.payload, second.name, second.payload];
      });
    const before = w.engine(define);
    await before.start('several', undefined, { id: 'r' });
    await w.clock.idle();
    expect(await run(before)).toMatchObject({ waitingFor: [{ events: ['a', 'b'] }] });
    await before.dispatch('b', 1);
    await before.dispatch('a', 2);
    await before.dispatch('a', 3);
    await w.clock.idle();
    const after = await reload(w, before, define);
    await after.dispatch('go');
    await w.clock.idle();
    expect((await run(after)).result).toEqual(['b', 1, 'a', 2]);
  });

  it('E11: the same two waits raced give the first event, whichever is asked for first', async () => {
    for (const order of [
      ['a', 'b'],
      ['b', 'a'],
    ]) {
      const w = open();
      const engine = w.engine((stepfast) =>
        stepfast.job('race', async ({ step }) => {
          await step.waitForEvent('begin');
          return (await step.race(order.map((name) => step.waitForEvent(name)))).name;
        }),
      );
      await engine.start('race', undefined, { id: 'r' });
      await w.clock.idle();
      for (const name of ['b', 'begin']) await engine.dispatch(name);
      await w.clock.idle();
      expect((await run(engine)).result).toBe('b');
      await engine.start('race', undefined, { id: 'both' });
      await w.clock.idle();
      for (const name of ['a', 'b', 'begin']) {
        await engine.dispatch(name);
        w.clock.jump(w.clock.now() + 1);
      }
      await w.clock.idle();
      expect((await run(engine, 'both')).result).toBe('a');
    }
  });

  it.each([
    'a',
    'b',
  ])('R7, E11: of two steps %s wins; the signal of the other aborts, its late result is dropped', async (winner) => {
    const w = open();
    const gates = { a: gate<string>(), b: gate<string>() };
    const signals: Record<string, AbortSignal> = {};
    const define: Define = (stepfast) =>
      stepfast.job('race', async ({ step }) => {
        const each = (name: 'a' | 'b') =>
          step.run(name, ({ signal }) => {
            signals[name] = signal;
            w.log.push(name);
            return gates[name].promise;
          });
        const first = await step.race([each('a'), each('b')]);
        await step.waitForEvent('go');
        return first;
      });
    const before = w.engine(define);
    await before.start('race', undefined, { id: 'r' });
    await expect.poll(() => w.log.length).toBe(2);
    const loser = winner === 'a' ? 'b' : 'a';
    gates[winner as 'a'].open(`${winner} won`);
    await w.clock.idle();
    expect([signals[winner]!.aborted, signals[loser]!.aborted]).toEqual([false, true]);
    expect(await run(before)).toMatchObject({ status: 'waiting' }); // nothing is in flight any more
    gates[loser].open('too late');
    await w.clock.idle();
    const after = await reload(w, before, define);
    await after.dispatch('go');
    await w.clock.idle();
    expect((await run(after)).result).toBe(`${winner} won`);
    expect(w.log.sort()).toEqual(['a', 'b']); // not even after the reload is the loser entered again
    expect(await timelineOf(after, 'r')).not.toContain(`step-completed ${loser}`);
  });

  it('R7: two functions that end at once: the first wins, and the second is not recorded', async () => {
    const w = open();
    const both = gate();
    const define: Define = (stepfast) =>
      stepfast.job('race', async ({ step }) => {
        const each = (name: string) =>
          step.run(name, async () => {
            w.log.push(name);
            await both.promise;
            return name;
          });
        const first = await step.race([each('a'), each('b')]);
        return [first, await step.run('after', () => 'after')];
      });
    const engine = w.engine(define);
    await engine.start('race', undefined, { id: 'r' });
    await expect.poll(() => w.log.length).toBe(2);
    both.open();
    await w.clock.idle();
    expect((await run(engine)).result).toEqual(['a', 'after']);
    expect(await timelineOf(engine, 'r')).not.toContain('step-completed b');
  });

  it('R7: the failure of a step wins as a result does, and the wait beside it is withdrawn', async () => {
    const w = open();
    const define: Define = (stepfast) =>
      stepfast.job('race', async ({ step }) => {
        const bad = step.run('bad', () => Promise.reject(new Error('no')), { retry: { maxAttempts: 1 } });
        const caught = await step.race([step.waitForEvent('came'), bad]).catch((error: Error) => error.name);
        await step.waitForEvent('go');
        return caught;
      });
    const before = w.engine(define);
    await before.start('race', undefined, { id: 'r' });
    await w.clock.idle();
    expect(await run(before)).toMatchObject({ waitingFor: [{ events: ['go'] }] });
    const after = await reload(w, before, define);
    await after.dispatch('go');
    await w.clock.idle();
    expect((await run(after)).result).toBe('StepError');
  });

  it('E11: a step that backs off and loses is not tried again', async () => {
    const w = open();
    const define: Define = (stepfast) =>
      stepfast.job('race', async ({ step }) => {
        const bad = step.run('bad', () => {
          w.log.push('try');
          throw new Error('no');
        });
        await step.race([bad, step.waitForEvent('enough')]);
        await step.waitForEvent('go');
      });
    const before = w.engine(define);
    await before.start('race', undefined, { id: 'r' });
    await w.clock.idle();
    expect((await run(before)).status).toBe('retrying');
    await before.dispatch('enough');
    await w.clock.idle();
    expect((await run(before)).status).toBe('waiting');
    const after = await reload(w, before, define);
    await w.clock.advance('10m');
    expect(w.log).toEqual(['try']);
    expect((await run(after)).status).toBe('waiting');
  });

  it('E11: members that `then`, `catch` and `finally` were called on are withdrawn all the same', async () => {
    const w = open();
    const define: Define = (stepfast) =>
      stepfast.job('race', async ({ step }) => {
        const first = await step.race([
          step.waitForEvent('a').then(() => 'a'),
          step
            .waitForEvent('b')
            .catch(() => 'failed')
            .then(() => 'b'),
          step.sleep('nap', '1h').finally(() => undefined),
        ]);
        return [first, (await step.waitForEvent('a', { name: 'later' })).payload];
      });
    const engine = w.engine(define);
    await engine.start('race', undefined, { id: 'r' });
    await w.clock.idle();
    await engine.dispatch('b');
    await w.clock.idle();
    expect(await run(engine)).toMatchObject({ status: 'waiting', waitingFor: [{ events: ['a'] }] });
    const after = await reload(w, engine, define);
    await after.dispatch('a', 'kept');
    await w.clock.idle();
    expect((await run(after)).result).toEqual(['b', 'kept']);
  });

  it('E11: a race within a race: when it loses, all of its members are withdrawn', async () => {
    const w = open();
    const signals: AbortSignal[] = [];
    const define: Define = (stepfast) =>
      stepfast.job('nested', async ({ step }) => {
        const slow = step.run('slow', ({ signal }) => {
          signals.push(signal);
          return new Promise<string>(() => undefined);
        });
        const inner = step.race([slow, step.waitForEvent('inner')]);
        const outer = await step.race([inner, step.waitForEvent<string>('outer')]);
        await step.waitForEvent('go');
        return typeof outer === 'string' ? outer : outer.name;
      });
    const before = w.engine(define);
    await before.start('nested', undefined, { id: 'r' });
    await expect.poll(() => signals.length).toBe(1);
    await before.dispatch('outer');
    await w.clock.idle();
    expect(signals[0]!.aborted).toBe(true);
    expect(await run(before)).toMatchObject({ status: 'waiting', waitingFor: [{ events: ['go'] }] });
    expect((await before.dispatch('inner')).resumed).toEqual([]);
    const after = await reload(w, before, define);
    await after.dispatch('go');
    await w.clock.idle();
    expect((await run(after)).result).toBe('outer');
    expect(signals.length).toBe(1);
  });

  it('E11: a race within a race that wins: its own losers and those of the outer one are withdrawn', async () => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job('nested', async ({ step }) => {
        const inner = step.race([step.waitForEvent('a'), step.waitForEvent('b')]);
        const outer = await step.race([step.sleep('nap', '1h'), inner, step.waitForEvent('c')]);
        await step.waitForEvent('go');
        return outer?.name;
      }),
    );
    await engine.start('nested', undefined, { id: 'r' });
    await w.clock.idle();
    await engine.dispatch('b');
    await w.clock.advance('2h');
    expect(await run(engine)).toMatchObject({ waitingFor: [{ events: ['go'] }] });
    await engine.dispatch('go');
    await w.clock.idle();
    expect((await run(engine)).result).toBe('b');
  });

  it('R7: races in a loop keep their winners apart over a crash at each commit', async () => {
    await crashEverywhere(open, {
      define: (stepfast) =>
        stepfast.job('loop', async ({ step }) => {
          const won: unknown[] = [];
          for (const nap of ['10 years', '1h', '10 years', '1h'] as const) {
            const first = await step.race([step.waitForEvent<number>('came'), step.sleep('nap', nap)]);
            won.push(first ? first.payload : 'slept');
            await step.waitForEvent('next');
          }
          return won;
        }),
      async play(engine, w) {
        await engine.start('loop', undefined, { id: 'r' });
        for (const round of [0, 1, 2, 3]) {
          await w.clock.idle();
          if (round % 2 === 0) await engine.dispatch('came', round, { idempotencyKey: `${round}` });
          else await w.clock.advance('1h');
          await engine.dispatch('next', round, { idempotencyKey: `${round}` });
        }
      },
      async check(engine, _, where) {
        expect((await run(engine)).result, where).toEqual([0, 'slept', 2, 'slept']);
      },
    });
  });

  it('E11: a plain promise that wins withdraws the steps beside it, also when the handler only returns', async () => {
    for (const goesOn of [true, false]) {
      const w = open();
      const signals: AbortSignal[] = [];
      const outside = gate<string>();
      const engine = w.engine((stepfast) =>
        stepfast.job('plain', async ({ step }) => {
          const slow = step.run('slow', ({ signal }) => {
            signals.push(signal);
            return new Promise<string>(() => undefined);
          });
          const first = await step.race([slow, outside.promise, step.waitForEvent('came')]);
          if (goesOn) await step.waitForEvent('go');
          return first;
        }),
      );
      await engine.start('plain', undefined, { id: 'r' });
      await expect.poll(() => signals.length).toBe(1);
      outside.open('outside');
      await expect.poll(() => signals[0]!.aborted).toBe(true);
      if (goesOn) await expect.poll(async () => (await run(engine)).waitingFor).toMatchObject([{ events: ['go'] }]);
      expect((await engine.dispatch('came')).resumed).toEqual([]);
      if (goesOn) await engine.dispatch('go');
      await expect.poll(async () => (await run(engine)).result).toBe('outside');
    }
  });

  it('E11: a step wins against a plain promise that comes later', async () => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job('plain', async ({ step }) =>
        step.race([new Promise<never>(() => undefined), step.run('quick', () => 'quick'), step.waitForEvent('came')]),
      ),
    );
    await engine.start('plain', undefined, { id: 'r' });
    await w.clock.idle();
    expect(await run(engine)).toMatchObject({ status: 'completed', result: 'quick' });
  });

  it.each([
    ['an empty array', []],
    ['no array', 'steps'],
    ['nothing', undefined],
  ])('R5: a race of %s is a fault of the code: the run is blocked, and goes on with code that fits', async (_, steps) => {
    const w = open();
    const before = w.engine((stepfast) =>
      stepfast.job('bad', async ({ step }) => {
        await step.run('before', () => w.log.push('before'));
        return step.race(steps as never);
      }),
    );
    await before.start('bad', undefined, { id: 'r' });
    await w.clock.idle();
    expect(await run(before)).toMatchObject({ status: 'blocked', error: { code: 'INVALID_OPTION' } });
    w.crash(before);
    const after = w.engine((stepfast) =>
      stepfast.job('bad', async ({ step }) => {
        await step.run('before', () => w.log.push('before'));
        return step.race([step.run('after', () => 'done')]);
      }),
    );
    await after.ready();
    await w.clock.idle();
    expect(await run(after)).toMatchObject({ status: 'completed', result: 'done' });
    expect(w.log).toEqual(['before']);
  });

  it('a loser that waits for the number of its increment is told, and calls for nothing while the handler backs off', async () => {
    const w = open();
    let fails = 1;
    const told: unknown[] = [];
    const engine = w.engine((stepfast) => {
      stepfast.job('race', async ({ step }) => {
        const counts = (name: string) =>
          step.run(name, async ({ state }) => {
            await state.increment('n', 1).catch((error: Error) => told.push(error.message));
            await new Promise(() => undefined);
          });
        await step.race([counts('one'), counts('two'), step.run('wins', () => 'at once')]);
        if (fails-- > 0) throw new Error('not yet');
      });
    });
    await engine.start('race', undefined, { id: 'r' });
    await w.clock.idle();
    expect(await run(engine)).toMatchObject({ status: 'retrying' });
    expect(told).not.toHaveLength(0);
    await w.clock.advance('1m');
    expect(await run(engine)).toMatchObject({ status: 'completed' });
  });
});
