import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FatalError, isStepfastError, type Step, type Stepfast, StepfastError } from '../src/index.js';
import { type Medium, media, onEveryStore, type World, world } from './harness.js';

// Pins: spec R6, R7, R8 through the engine: a race has one winner, on the live pass, on replay and after any crash.

const ticks = async (count: number) => {
  for (let tick = 0; tick < count; tick++) await null;
};
const macrotask = () => new Promise<void>((resolve) => setTimeout(resolve, 1));

/** Crashes `engine`, and waits until another one with the same code has done what can be done. */
async function reload(w: World, engine: Stepfast, define: (stepfast: Stepfast) => void): Promise<Stepfast> {
  w.crash(engine);
  const next = w.engine(define);
  await next.ready();
  await w.clock.idle();
  return next;
}

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

onEveryStore('races', (medium) => {
  it.each([
    ['first', ['first', 'second']],
    ['second', ['second', 'first']],
  ])('a race of two steps that %s wins has the same winner after a reload', async (winner, order) => {
    const w = world(medium);
    const seen: string[] = [];
    const opens = new Map<string, () => void>();
    const define = (stepfast: Stepfast) => {
      stepfast.job('race', async ({ step }) => {
        const one = (name: string) =>
          step.run(name, async () => {
            w.log.push(name);
            await new Promise<void>((resolve) => opens.set(name, resolve));
            return name;
          });
        const both = [one('first'), one('second')];
        const won = await Promise.race(both);
        seen.push(won);
        await Promise.all(both);
        await step.waitForEvent('go');
        return won;
      });
    };
    const engine = w.engine(define);
    await engine.start('race', undefined, { id: 'r' });
    await expect.poll(() => opens.size).toBe(2);
    opens.get(order[0]!)!();
    await expect.poll(() => seen).toEqual([winner]);
    opens.get(order[1]!)!();
    await w.clock.idle();
    expect((await engine.runs.get('r'))?.status).toBe('waiting');
    const after = await reload(w, engine, define);
    await after.dispatch('go');
    await w.clock.idle();
    expect(await after.runs.get('r')).toMatchObject({ status: 'completed', result: winner });
    expect(seen).toEqual([winner, winner]);
    expect(w.log.sort()).toEqual(['first', 'second']);
  });

  it.each([
    'step',
    'event',
  ])('a race of a step and a wait that the %s wins has one winner on every pass', async (won) => {
    const w = world(medium);
    const seen: string[] = [];
    let finish = (): void => undefined;
    const define = (stepfast: Stepfast) => {
      stepfast.job('race', async ({ step }) => {
        const work = step.run('work', async () => {
          await new Promise<void>((resolve) => {
            finish = resolve;
          });
          return 'step';
        });
        const event = step.waitForEvent('came').then(() => 'event');
        const winner = await Promise.race([event, work]);
        seen.push(winner);
        await Promise.all([event, work]);
        await step.waitForEvent('go');
        return winner;
      });
    };
    const engine = w.engine(define);
    await engine.start('race', undefined, { id: 'r' });
    await expect.poll(async () => (await engine.runs.get('r'))?.waitingFor.length).toBe(1);
    const acts = [async () => finish(), async () => void (await engine.dispatch('came'))];
    await acts[won === 'step' ? 0 : 1]!();
    await expect.poll(() => seen).toEqual([won]);
    await acts[won === 'step' ? 1 : 0]!();
    await w.clock.idle();
    const after = await reload(w, engine, define);
    await after.dispatch('go');
    await w.clock.idle();
    expect(await after.runs.get('r')).toMatchObject({ status: 'completed', result: won });
    expect(seen).toEqual([won, won]);
  });

  it('an event and a sleep of one instant: the event is first, live and after a closed period', async () => {
    for (const isClosed of [false, true]) {
      const w = world(medium);
      const define = (stepfast: Stepfast) => {
        stepfast.job('race', async ({ step }) => {
          const nap = step.sleep('nap', '1h').then(() => 'sleep');
          const event = step.waitForEvent('came').then(() => 'event');
          return Promise.race([nap, event]);
        });
      };
      let engine = w.engine(define);
      await engine.start('race', undefined, { id: 'r' });
      await w.clock.idle();
      w.clock.jump(w.clock.now() + 60 * 60_000);
      if (isClosed) {
        w.crash(engine);
        const sender = w.engine();
        await sender.dispatch('came');
        await sender.close();
        await w.clock.advance('1h');
        engine = w.engine(define);
        await engine.ready();
      } else await engine.dispatch('came');
      await w.clock.idle();
      expect((await engine.runs.get('r'))?.result).toBe('event');
    }
  });

  it('two sleeps that ended while the app was closed end in the order of their instants', async () => {
    const w = world(medium);
    const define = (stepfast: Stepfast) => {
      stepfast.job('race', async ({ step }) => {
        const late = step.sleep('late', '2h').then(() => 'late');
        const early = step.sleep('early', '1h').then(() => 'early');
        return Promise.race([late, early]);
      });
    };
    const engine = w.engine(define);
    await engine.start('race', undefined, { id: 'r' });
    await w.clock.idle();
    w.crash(engine);
    await w.clock.advance('3h');
    const after = w.engine(define);
    await after.ready();
    await w.clock.idle();
    expect((await after.runs.get('r'))?.result).toBe('early');
  });

  it('all, allSettled and any take the same ways on replay', async () => {
    const w = world(medium);
    const seen: unknown[] = [];
    const define = (stepfast: Stepfast) => {
      stepfast.job('mix', async ({ step }) => {
        const ok = (name: string) => step.run(name, () => name);
        const bad = (name: string) =>
          step.run(name, () => {
            throw new FatalError(name);
          });
        const pass: unknown[] = [];
        pass.push(await Promise.all([ok('a'), ok('b'), step.sleep('nap', '1m')]));
        pass.push((await Promise.allSettled([bad('c'), ok('d')])).map(({ status }) => status));
        pass.push(await Promise.any([bad('e'), ok('f'), step.waitForEvent('never')]));
        pass.push(await Promise.all([ok('g'), bad('h')]).catch((error: Error) => error.message));
        pass.push(
          await Promise.any([bad('i'), bad('j')]).catch((error: AggregateError) =>
            error.errors.map((each) => each.cause.message),
          ),
        );
        seen.push(pass);
        await step.waitForEvent('go');
        return pass;
      });
    };
    const engine = w.engine(define);
    await engine.start('mix', undefined, { id: 'm' });
    await w.clock.advance('2m');
    const after = await reload(w, engine, define);
    await after.dispatch('go');
    await w.clock.idle();
    const expected = [
      ['a', 'b', undefined],
      ['rejected', 'fulfilled'],
      'f',
      expect.stringContaining('"h"'),
      ['i', 'j'],
    ];
    expect(await after.runs.get('m')).toMatchObject({ status: 'completed', result: expected });
    expect(seen).toEqual([expected, expected]);
    expect(unhandled).toEqual([]);
  });

  it.each(['live', 'after a reload'])('a sleep beside a step that has ended still ends in time (%s)', async (when) => {
    const w = world(medium);
    const define = (stepfast: Stepfast) => {
      stepfast.job('beside', async ({ step }) => {
        const [value] = await Promise.all([step.run('work', () => 'worked'), step.sleep('nap', '1h')]);
        return value;
      });
    };
    let engine = w.engine(define);
    await engine.start('beside', undefined, { id: 'b' });
    await w.clock.idle();
    if (when === 'after a reload') engine = await reload(w, engine, define);
    await w.clock.advance('1h');
    expect(await engine.runs.get('b')).toMatchObject({ status: 'completed', result: 'worked' });
  });

  it('a deadline beside a step that has ended still passes in time', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('beside', async ({ step }) => {
        const waited = step.waitForEvent('never', { timeout: '1h', onTimeout: 'continue' });
        return (await Promise.all([waited, step.run('work', () => 'worked')]))[0].timedOut;
      });
    });
    await engine.start('beside', undefined, { id: 'b' });
    await w.clock.advance('1h');
    expect(await engine.runs.get('b')).toMatchObject({ status: 'completed', result: true });
  });

  it('300 parallel steps run once each and come back in their places', async () => {
    const w = world(medium);
    const define = (stepfast: Stepfast) => {
      stepfast.job('wide', async ({ step }) => {
        const all = await Promise.all(
          Array.from({ length: 300 }, (_, index) =>
            step.run('part', async () => {
              w.log.push(`${index}`);
              if (index % 3) await macrotask();
              return index;
            }),
          ),
        );
        await step.waitForEvent('go');
        return all;
      });
    };
    const engine = w.engine(define);
    await engine.start('wide', undefined, { id: 'w' });
    await w.clock.idle();
    const after = await reload(w, engine, define);
    await after.dispatch('go');
    await w.clock.idle();
    expect(await after.runs.get('w')).toMatchObject({
      status: 'completed',
      result: Array.from({ length: 300 }, (_, index) => index),
    });
    expect(w.log.length).toBe(300);
  });

  it('a branch that only computes after a step keeps its lead over one that runs another step', async () => {
    const w = world(medium);
    const seen: string[] = [];
    const define = (stepfast: Stepfast) => {
      stepfast.job('lead', async ({ step }) => {
        const first = step.run('first', () => 1);
        const computes = first.then(async () => {
          await ticks(20);
          return 'computed';
        });
        const runs = first.then(() => step.run('second', () => 'stepped'));
        const winner = await Promise.race([computes, runs]);
        await runs;
        seen.push(winner);
        await step.run(`after ${winner}`, () => void w.log.push(winner));
        await step.waitForEvent('go');
        return winner;
      });
    };
    const engine = w.engine(define);
    await engine.start('lead', undefined, { id: 'l' });
    await w.clock.idle();
    expect(seen).toEqual(['computed']);
    const after = await reload(w, engine, define);
    await after.dispatch('go');
    await w.clock.idle();
    expect(await after.runs.get('l')).toMatchObject({ status: 'completed', result: 'computed' });
    expect(w.log).toEqual(['computed']);
  });

  it('two steps that end together after a crash are told to the handler one after the other', async () => {
    const w = world(medium);
    const seen: string[] = [];
    let isStuck = true;
    const define = (stepfast: Stepfast) => {
      stepfast.job('careful', async ({ step }) => {
        const one = (name: string) =>
          step.run(name, async () => {
            w.log.push(name);
            if (isStuck) await new Promise(() => undefined);
            return name;
          });
        const slow = one('slow').then(async (value) => {
          await ticks(20);
          return value;
        });
        const quick = one('quick');
        const winner = await Promise.race([slow, quick]);
        await Promise.all([slow, quick]);
        seen.push(winner);
        await step.waitForEvent('go');
        return winner;
      });
    };
    const engine = w.engine(define);
    await engine.start('careful', undefined, { id: 'c' });
    await expect.poll(() => w.log).toEqual(['slow', 'quick']);
    isStuck = false;
    const second = await reload(w, engine, define);
    const third = await reload(w, second, define);
    await third.dispatch('go');
    await w.clock.idle();
    expect((await third.runs.get('c'))?.status).toBe('completed');
    expect(seen).toEqual([seen[0], seen[0]]);
  });

  it.each([
    ['a macrotask', macrotask],
    ['an import', () => import('node:path')],
    ['many microtasks', () => ticks(200)],
  ])('awaiting %s between steps neither swaps occurrences nor flips a race', async (_, something) => {
    const w = world(medium);
    const seen: unknown[] = [];
    let slowness = () => something();
    // The slow branch is the first to ask for `same name` when it is lived: only what was recorded can keep it first.
    let slowAsks = () => {};
    const slowHasAsked = new Promise<void>((resolve) => {
      slowAsks = resolve;
    });
    const define = (stepfast: Stepfast) => {
      stepfast.job('outside', async ({ step }) => {
        const pass: unknown[] = [];
        const branch = async (name: string) => {
          await step.run('open', async () => {
            if (name === 'quick') await slowHasAsked;
            return name;
          });
          if (name === 'slow') await slowness();
          const value = await step.run('same name', () => {
            if (name === 'slow') slowAsks();
            w.log.push(name);
            return name;
          });
          pass.push([name, value]);
          return name;
        };
        const branches = [branch('slow'), branch('quick')];
        pass.push(await Promise.race(branches));
        await Promise.all(branches);
        await slowness();
        pass.push(await step.run('last', () => 'last'));
        seen.push(pass);
        await step.waitForEvent('go');
        return pass;
      });
    };
    let engine = w.engine(define);
    await engine.start('outside', undefined, { id: 'o' });
    await expect.poll(async () => (await engine.runs.get('o'))?.waitingFor.length).toBe(1);
    await w.clock.idle();
    for (const replayed of [something, async () => undefined, macrotask]) {
      slowness = replayed;
      engine = await reload(w, engine, define);
    }
    slowness = something;
    await engine.dispatch('go');
    await expect.poll(async () => (await engine.runs.get('o'))?.status).toBe('completed');
    for (const pass of seen) expect(pass).toEqual(seen[0]);
    expect(w.log.sort()).toEqual(['quick', 'slow']);
    const kinds = (await engine.runs.timeline('o')).map(({ kind }) => kind);
    expect(kinds).not.toContain('drift');
  });

  it('awaiting anything but steps between steps warns the developer', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('outside', async ({ step }) => {
        await step.run('a', () => 1);
        for (let turns = 0; turns < 5; turns++) await macrotask(); // one may still belong to the turn before
        await step.run('b', () => 1);
      });
    });
    const run = await engine.start('outside');
    await run.result();
    expect(vi.mocked(console.warn).mock.calls.flat().join()).toContain('outside');
  });
});

onEveryStore('the warning for handlers that await something else', (medium) => {
  it('is not given to a handler that awaits steps alone, also after a crash in the middle of a step', async () => {
    const w = world(medium);
    let isStuck = true;
    const define = (stepfast: Stepfast) => {
      stepfast.job('good', async ({ step }) => {
        await step.run('a', async () => {
          w.log.push('a');
          if (isStuck) await new Promise(() => undefined);
        });
        await step.run('b', () => 1);
        await step.sleep('nap', '1m');
        await Promise.all([step.run('c', () => 1), step.run('d', () => 1)]);
      });
    };
    const engine = w.engine(define);
    await engine.start('good', undefined, { id: 'g' });
    await expect.poll(() => w.log).toEqual(['a']);
    isStuck = false;
    const after = await reload(w, engine, define);
    await w.clock.advance('1h');
    expect((await after.runs.get('g'))?.status).toBe('completed');
    expect(vi.mocked(console.warn).mock.calls).toEqual([]);
  });
});

onEveryStore('the end of the handler', (medium) => {
  it('steps that nobody awaits are finished before the run completes', async () => {
    const w = world(medium);
    let finish = (): void => undefined;
    const engine = w.engine((stepfast) => {
      stepfast.job('loose', async ({ step }) => {
        void step.run('loose', async () => {
          await new Promise<void>((resolve) => {
            finish = resolve;
          });
          w.log.push('finished');
        });
        return 'end';
      });
    });
    await engine.start('loose', undefined, { id: 'l' });
    await expect.poll(async () => (await engine.runs.get('l'))?.status).toBe('running');
    await macrotask();
    expect((await engine.runs.get('l'))?.status).toBe('running');
    finish();
    await w.clock.idle();
    expect(await engine.runs.get('l')).toMatchObject({ status: 'completed', result: 'end' });
    expect(w.log).toEqual(['finished']);
    const kinds = (await engine.runs.timeline('l')).map(({ kind }) => kind);
    expect(kinds.slice(-2)).toEqual(['step-completed', 'completed']);
  });

  it('a step that nobody awaits is finished after a crash, before the run completes', async () => {
    const w = world(medium);
    let isStuck = true;
    const define = (stepfast: Stepfast) => {
      stepfast.job('loose', async ({ step }) => {
        void step.run('loose', async () => {
          w.log.push('entered');
          if (isStuck) await new Promise(() => undefined);
          w.log.push('finished');
        });
        return 'end';
      });
    };
    const engine = w.engine(define);
    await engine.start('loose', undefined, { id: 'l' });
    await expect.poll(() => w.log).toEqual(['entered']);
    isStuck = false;
    const after = await reload(w, engine, define);
    expect(await after.runs.get('l')).toMatchObject({ status: 'completed', result: 'end' });
    expect(w.log).toEqual(['entered', 'entered', 'finished']);
  });

  it('the rejection of a step that nobody awaits is no unhandled rejection, and does not fail the run', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('loose', async ({ step }) => {
        void step.run('bad', () => {
          throw new FatalError('nobody hears');
        });
        void step.waitForEvent('never', { timeout: '1m', onTimeout: 'fail' });
        await step.sleep('nap', '2m');
        void step.run('bad at the end', async () => {
          await macrotask();
          throw new FatalError('nobody hears');
        });
        return 'end';
      });
    });
    await engine.start('loose', undefined, { id: 'l' });
    await w.clock.advance('3m');
    await macrotask();
    expect(await engine.runs.get('l')).toMatchObject({ status: 'completed', result: 'end' });
    expect(unhandled).toEqual([]);
  });

  it('a pending retry of a step that nobody awaits is withdrawn with the end', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('loose', async ({ step }) => {
        void step.run('flaky', () => {
          w.log.push('flaky');
          throw new Error('again');
        });
        await step.sleep('blink', 1);
        return 'end';
      });
    });
    await engine.start('loose', undefined, { id: 'l' });
    await w.clock.advance(1);
    expect(await engine.runs.get('l')).toMatchObject({ status: 'completed', result: 'end' });
    await w.clock.advance('1h');
    expect(w.log).toEqual(['flaky']);
    expect(unhandled).toEqual([]);
  });

  it('open waits and sleeps are withdrawn: a later event resumes nobody', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('loose', async ({ step }) => {
        void step.waitForEvent('late');
        void step.sleep('long', '365 days');
        await step.sleep('nap', '1m');
        return 'end';
      });
    });
    await engine.start('loose', undefined, { id: 'l' });
    await w.clock.advance('1m');
    expect(await engine.runs.get('l')).toMatchObject({ status: 'completed', waitingFor: [] });
    expect((await engine.dispatch('late')).resumed).toEqual([]);
  });

  it('steps that are not awaited warn the developer', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('loose', async ({ step }) => {
        void step.run('forgotten', macrotask);
        return 'end';
      });
    });
    const run = await engine.start('loose');
    await run.result();
    expect(vi.mocked(console.warn).mock.calls.flat().join()).toContain('forgotten');
  });
});

// ---- random programs --------------------------------------------------------------------------------------------------

/** A tree of what a handler can do. Ids are given by `number` below, names are few, so that occurrences matter. */
type Program =
  | { readonly kind: 'step' | 'bad'; readonly name: string; readonly ticks: number }
  | { readonly kind: 'sleep'; readonly minutes: number }
  | { readonly kind: 'wait'; readonly key: string; readonly minutes: number }
  | { readonly kind: 'series' | 'all' | 'race' | 'settled'; readonly parts: readonly Program[] }
  | { readonly kind: 'try'; readonly body: Program; readonly rescue: Program };

const name = fc.constantFrom('a', 'b');
const spin = fc.constantFrom(0, 0, 1, 7);
const programs = fc.letrec<{ program: Program }>((tie) => ({
  program: fc.oneof(
    { maxDepth: 4, depthIdentifier: 'program', withCrossShrink: true },
    fc.record({ kind: fc.constant('step' as const), name, ticks: spin }),
    fc.record({ kind: fc.constant('bad' as const), name, ticks: spin }),
    fc.record({ kind: fc.constant('sleep' as const), minutes: fc.constantFrom(1, 2, 3, 5, 8) }),
    fc.record({
      kind: fc.constant('wait' as const),
      key: fc.constantFrom('x', 'y'),
      minutes: fc.constantFrom(2, 6, 20),
    }),
    fc.record({
      kind: fc.constantFrom('series' as const, 'series' as const, 'all' as const, 'race' as const, 'settled' as const),
      parts: fc.array(tie('program'), { minLength: 1, maxLength: 4, depthIdentifier: 'program' }),
    }),
    fc.record({ kind: fc.constant('try' as const), body: tie('program'), rescue: tie('program') }),
  ),
})).program;

/** What one pass of the handler has seen, in order. */
type Trace = string[];

/** What a scenario left behind. */
interface Played {
  readonly result: unknown;
  /** Of each pass, in order. */
  readonly traces: readonly Trace[];
  /** Identities of steps that were entered although their outcome was durable. */
  readonly repeated: readonly string[];
  readonly entered: readonly string[];
  readonly commits: number;
  readonly errors: readonly unknown[];
}

/** Plays a program to its end; the engine dies right after its `crashAfter`-th commit of a run, and another takes over. */
async function play(
  program: Program,
  medium: Medium,
  { replay = 'resume', crashAfter = Infinity }: { replay?: 'resume' | 'always'; crashAfter?: number } = {},
): Promise<Played> {
  const w = world(medium);
  const traces: Trace[] = [];
  const completed = new Set<string>();
  const repeated: string[] = [];
  const entered: string[] = [];
  let commits = 0;

  const interpret = (step: Step, trace: Trace) => {
    const number = new Map<Program, number>();
    const idOf = (node: Program) => number.get(node)!;
    const visit = (node: Program): void => {
      number.set(node, number.size + 1);
      if ('parts' in node) node.parts.forEach(visit);
      if (node.kind === 'try') [node.body, node.rescue].forEach(visit);
    };
    visit(program);
    const see = (node: Program, what: unknown) => {
      trace.push(`${idOf(node)} ${node.kind} ${what}`);
      return what;
    };
    const run = async (node: Program): Promise<unknown> => {
      switch (node.kind) {
        case 'step':
        case 'bad': {
          const value = await step.run(node.name, ({ idempotencyKey }) => {
            entered.push(idempotencyKey);
            if (completed.has(idempotencyKey)) repeated.push(idempotencyKey);
            if (node.kind === 'bad') throw new FatalError(`bad ${idOf(node)}`);
            return idOf(node);
          });
          await ticks(node.ticks);
          return see(node, value);
        }
        case 'sleep':
          return see(node, await step.sleep('sleep', `${node.minutes}m`));
        case 'wait': {
          const event = await step.waitForEvent('event', {
            name: `wait ${node.key}`,
            correlationKey: node.key,
            timeout: `${node.minutes}m`,
            onTimeout: 'continue',
          });
          return see(node, event.timedOut ? 'timeout' : event.payload);
        }
        case 'series': {
          const values: unknown[] = [];
          for (const part of node.parts) values.push(await run(part));
          return see(node, values);
        }
        case 'all':
          return see(node, await Promise.all(node.parts.map(run)));
        case 'race':
          return see(node, await Promise.race(node.parts.map(run)));
        case 'settled':
          return see(
            node,
            (await Promise.allSettled(node.parts.map(run))).map(({ status }) => status),
          );
        case 'try':
          try {
            return see(node, await run(node.body));
          } catch (error) {
            see(node, `caught ${(error as { cause?: Error }).cause?.message}`);
            return run(node.rescue);
          }
      }
    };
    return run(program);
  };
  const define = (stepfast: Stepfast) => {
    stepfast.job('program', async ({ step }) => {
      const trace: Trace = [];
      traces.push(trace);
      try {
        await interpret(step, trace);
      } catch (error) {
        trace.push(`failed ${(error as { cause?: Error }).cause?.message}`);
      }
      const seen = [...trace];
      traces[traces.indexOf(trace)] = seen; // what losers of a race see after the end is nobody's
      return seen;
    });
  };

  let engine: Stepfast;
  const open = () => {
    const store = w.store();
    const { commit } = store;
    let isDead = false;
    store.commit = async (batch) => {
      if (isDead) throw new StepfastError('CLOSED', 'This context has crashed.');
      const outcome = await commit.call(store, batch);
      if (!batch.run || outcome.kind !== 'committed') return outcome;
      for (const entry of batch.run.append)
        if (entry.kind === 'step-completed' || entry.kind === 'step-failed')
          completed.add(`p/0/${entry.id[0]}/${entry.id[1]}`);
      if (++commits !== crashAfter) return outcome;
      isDead = true;
      const release = w.clock.hold!();
      w.crash(engine);
      open();
      void engine.ready().finally(release);
      throw new StepfastError('CLOSED', 'This context has crashed.');
    };
    engine = w.engine(define, { store, replay });
  };
  open();
  await engine!.start('program', undefined, { id: 'p' });
  await w.clock.idle();
  for (let minute = 0; minute < 120; minute++) {
    if (minute % 4 === 1 && minute < 40)
      await engine!.dispatch('event', `event ${minute}`, { correlationKey: minute % 8 === 1 ? 'x' : 'y' });
    await w.clock.advance('30s');
    await w.clock.advance('30s');
    const snapshot = await engine!.runs.get('p');
    if (snapshot?.endedAt !== undefined) break;
  }
  const snapshot = await engine!.runs.get('p');
  const played = {
    result: snapshot?.status === 'completed' ? snapshot.result : snapshot,
    traces,
    repeated,
    entered,
    commits,
    errors: w.errors.filter((error) => !isStepfastError(error, 'CLOSED')), // the crashed context may say so
  };
  await engine!.close();
  return played;
}

/** Every pass sees what the pass before it saw, and goes on from there. */
const expectSteady = ({ traces, repeated, errors }: Played) => {
  for (const [at, trace] of traces.entries()) {
    const before = traces[at - 1] ?? [];
    expect(trace.slice(0, before.length)).toEqual(before);
  }
  expect(repeated).toEqual([]);
  expect(errors).toEqual([]);
};

describe('random programs', () => {
  it("give the same trace and result with replay: 'resume' and replay: 'always', and no step runs twice", async () => {
    await fc.assert(
      fc.asyncProperty(programs, async (program) => {
        const live = await play(program, media.memory!);
        expect(live.traces).toEqual([live.result]);
        expect(new Set(live.entered).size).toBe(live.entered.length);
        const replayed = await play(program, media.memory!, { replay: 'always' });
        expectSteady(replayed);
        expect(replayed.result).toEqual(live.result);
        expect(new Set(replayed.entered).size).toBe(replayed.entered.length);
        expect(unhandled).toEqual([]);
      }),
      { numRuns: Number(process.env.STEPFAST_RUNS ?? 40) },
    );
  });

  it('give the same trace and result when the process dies after any one of their commits', async () => {
    await fc.assert(
      fc.asyncProperty(programs, async (program) => {
        const live = await play(program, media.memory!);
        for (let crashAfter = 1; crashAfter <= live.commits; crashAfter++) {
          const crashed = await play(program, media.memory!, { crashAfter });
          expectSteady(crashed);
          expect(crashed.result).toEqual(live.result);
        }
      }),
      { numRuns: Number(process.env.STEPFAST_RUNS ?? 15) },
    );
  });
});
