import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { defineJob, type Handler, type Stepfast } from '../src/index.js';
import { codeOf } from './hand-kit.js';
import { onEveryStore, type World, world } from './harness.js';

// Pins: spec R4, R5, O6: code is replaced under live runs; what does not fit blocks a run and never harms it.

beforeEach(() => void vi.spyOn(console, 'warn').mockImplementation(() => undefined));
afterEach(() => void vi.restoreAllMocks());

type Body = Handler<undefined, unknown>;
const app =
  (handler: Body, version = 1) =>
  (stepfast: Stepfast) => {
    stepfast.job('app', { version }, handler);
  };
const kindsOf = async (engine: Stepfast) => (await engine.runs.timeline('r')).map(({ kind }) => kind);
const statusOf = async (engine: Stepfast) => (await engine.runs.get('r'))?.status;

/** Starts run `r` with the old code and waits until it can go no further. */
async function begin(w: World, handler: Body): Promise<Stepfast> {
  const engine = w.engine(app(handler));
  await engine.start('app', undefined, { id: 'r' });
  await w.clock.idle();
  return engine;
}
/** The page is loaded again, with other code. */
async function deploy(w: World, engine: Stepfast, handler: Body, version = 1): Promise<Stepfast> {
  w.crash(engine);
  const next = w.engine(app(handler, version));
  await next.ready();
  await w.clock.idle();
  return next;
}
const logged = (w: World, word: string) => () => {
  w.log.push(word);
  return word;
};

onEveryStore('steps that come and go', (medium) => {
  it('an inserted step runs, and recorded ones around it do not run again', async () => {
    const w = world(medium);
    const old = await begin(w, async ({ step }) => {
      await step.run('a', logged(w, 'a'));
      await step.run('b', logged(w, 'b'));
      await step.waitForEvent('go');
    });
    const after = await deploy(w, old, async ({ step }) => {
      await step.run('a', logged(w, 'a'));
      await step.run('inserted', logged(w, 'inserted'));
      const b = await step.run('b', logged(w, 'b'));
      await step.waitForEvent('go');
      return b;
    });
    await after.dispatch('go');
    await w.clock.idle();
    expect(await after.runs.get('r')).toMatchObject({ status: 'completed', result: 'b' });
    expect(w.log).toEqual(['a', 'b', 'inserted']);
  });

  it('an inserted step is recorded: another reload does not run it again', async () => {
    const w = world(medium);
    const fresh: Body = async ({ step }) => {
      await step.run('a', logged(w, 'a'));
      await step.run('inserted', logged(w, 'inserted'));
      await step.run('b', logged(w, 'b'));
      await step.waitForEvent('go');
      await step.waitForEvent('end');
      return 'end';
    };
    let engine = await begin(w, async ({ step }) => {
      await step.run('a', logged(w, 'a'));
      await step.run('b', logged(w, 'b'));
      await step.waitForEvent('go');
    });
    engine = await deploy(w, engine, fresh);
    await engine.dispatch('go');
    await w.clock.idle();
    expect(w.log).toEqual(['a', 'b', 'inserted']);
    engine = await deploy(w, engine, fresh);
    await engine.dispatch('end');
    await w.clock.idle();
    expect(await engine.runs.get('r')).toMatchObject({ status: 'completed', result: 'end' });
    expect(w.log).toEqual(['a', 'b', 'inserted']);
  });

  it('a step inserted before a sleep leaves the instant of waking as it was', async () => {
    const w = world(medium);
    const old = await begin(w, async ({ step }) => {
      await step.sleep('nap', '1h');
    });
    await w.clock.advance('30m');
    const after = await deploy(w, old, async ({ step }) => {
      await step.run('inserted', logged(w, 'inserted'));
      await step.sleep('nap', '5h');
      return 'end';
    });
    await w.clock.advance('30m');
    expect(await statusOf(after)).toBe('completed');
    expect(w.log).toEqual(['inserted']);
  });

  it('a renamed step runs as new under its new name', async () => {
    const w = world(medium);
    const old = await begin(w, async ({ step }) => {
      await step.run('old name', logged(w, 'old name'));
      await step.waitForEvent('go');
    });
    const after = await deploy(w, old, async ({ step }) => {
      const value = await step.run('new name', logged(w, 'new name'));
      await step.waitForEvent('go');
      return value;
    });
    await after.dispatch('go');
    await w.clock.idle();
    expect(await after.runs.get('r')).toMatchObject({ status: 'completed', result: 'new name' });
    expect(w.log).toEqual(['old name', 'new name']);
  });

  it('an open wait of removed code takes no event any more', async () => {
    const w = world(medium);
    const old = await begin(w, async ({ step }) => {
      await step.waitForEvent('old');
      w.log.push('old');
    });
    const after = await deploy(w, old, async ({ step }) => {
      await step.waitForEvent('new');
      return 'new';
    });
    await after.dispatch('old'); // replays the run at the latest; a waiting run need not be replayed at each load
    await w.clock.idle();
    expect((await after.runs.get('r'))?.waitingFor).toEqual([{ events: ['new'] }]);
    expect(await kindsOf(after)).not.toContain('event-taken');
    expect((await after.dispatch('old')).resumed).toEqual([]);
    expect((await after.dispatch('new')).resumed).toEqual(['r']);
    await w.clock.idle();
    expect(await after.runs.get('r')).toMatchObject({ status: 'completed', result: 'new' });
  });

  it('an open sleep of removed code wakes nobody', async () => {
    const w = world(medium);
    const old = await begin(w, async ({ step }) => {
      await step.sleep('nap', '1h');
    });
    const after = await deploy(w, old, async ({ step }) => {
      await step.waitForEvent('go');
      return 'end';
    });
    await w.clock.advance('2h');
    expect(await statusOf(after)).toBe('waiting');
    expect(await kindsOf(after)).not.toContain('sleep-ended');
    await after.dispatch('go');
    await w.clock.idle();
    expect(await statusOf(after)).toBe('completed');
  });

  it('replay goes on without a removed step after the stall limit, leaves a drift entry, and does not stall again', async () => {
    const w = world(medium);
    let engine = await begin(w, async ({ step }) => {
      await step.run('a', logged(w, 'a'));
      await step.run('removed', logged(w, 'removed'));
      await step.run('b', logged(w, 'b'));
      await step.waitForEvent('go');
    });
    let hasWaited = false;
    const shorter: Body = async ({ step }) => {
      await step.run('a', logged(w, 'a'));
      await step.run('b', logged(w, 'b'));
      hasWaited = true;
      await step.waitForEvent('go');
      return step.run('end', logged(w, 'end'));
    };
    engine = await deploy(w, engine, shorter);
    await engine.dispatch('go');
    await expect.poll(() => statusOf(engine), { timeout: 10_000 }).toBe('completed');
    expect(hasWaited).toBe(true);
    expect(w.log).toEqual(['a', 'removed', 'b', 'end']);
    const timeline = await engine.runs.timeline('r');
    expect(timeline.filter(({ kind }) => kind === 'drift')).toMatchObject([{ ids: [['step', 'removed', 1]] }]);
  });

  it('after a drift the next replay does not stall: it is there within the same instant', async () => {
    const w = world(medium);
    let engine = await begin(w, async ({ step }) => {
      await step.run('removed', logged(w, 'removed'));
      await step.run('a', logged(w, 'a'));
      await step.waitForEvent('first');
      await step.waitForEvent('second');
    });
    const shorter: Body = async ({ step }) => {
      await step.run('a', logged(w, 'a'));
      await step.waitForEvent('first');
      await step.run('b', logged(w, 'b'));
      w.log.push('b is known');
      await step.waitForEvent('second');
      return 'end';
    };
    engine = await deploy(w, engine, shorter);
    await engine.dispatch('first');
    await expect.poll(() => w.log.includes('b is known'), { timeout: 10_000 }).toBe(true);
    await w.clock.idle();
    engine = await deploy(w, engine, shorter);
    await engine.dispatch('second');
    await w.clock.idle();
    expect(await engine.runs.get('r')).toMatchObject({ status: 'completed', result: 'end' });
    expect(w.log).toEqual(['removed', 'a', 'b', 'b is known', 'b is known']);
    expect((await kindsOf(engine)).filter((kind) => kind === 'drift').length).toBe(1);
  });
});

onEveryStore('code that does not fit', (medium) => {
  const mismatches: [title: string, old: (w: World) => Body, next: (w: World) => Body, shapes: RegExp[]][] = [
    [
      'a step that is a sleep now',
      (w) =>
        async ({ step }) => {
          await step.run('x', logged(w, 'x'));
          await step.waitForEvent('go');
        },
      (w) =>
        async ({ step }) => {
          await step.sleep('x', '1h');
          w.log.push('wrong');
        },
      [/function/, /sleep/],
    ],
    [
      'an open sleep that is a step now',
      () =>
        async ({ step }) => {
          void step.sleep('x', '1h');
          await step.waitForEvent('go');
        },
      (w) =>
        async ({ step }) => {
          void step.run('x', logged(w, 'wrong'));
          await step.waitForEvent('go');
        },
      [/sleep/, /function/],
    ],
    [
      'an open wait with another key',
      () =>
        async ({ step }) => {
          await step.waitForEvent('go', { correlationKey: 'old-key' });
        },
      () =>
        async ({ step }) => {
          await step.waitForEvent('go', { correlationKey: 'new-key' });
        },
      [/old-key/, /new-key/],
    ],
    [
      'an open wait that has lost its key',
      () =>
        async ({ step }) => {
          await step.waitForEvent('go', { correlationKey: 'old-key' });
        },
      () =>
        async ({ step }) => {
          await step.waitForEvent('go');
        },
      [/old-key/, /absent/],
    ],
    [
      'a named wait for other events',
      () =>
        async ({ step }) => {
          await step.waitForEvent('old-event', { name: 'approval' });
        },
      () =>
        async ({ step }) => {
          await step.waitForEvent(['new-event', 'old-event'], { name: 'approval' });
        },
      [/old-event/, /new-event/],
    ],
    [
      'a wait that has taken its event, with another key now',
      () =>
        async ({ step }) => {
          await step.waitForEvent('early', { name: 'early', timeout: '1h', onTimeout: 'continue' });
          await step.waitForEvent('go');
        },
      (w) =>
        async ({ step }) => {
          await step.waitForEvent('early', { name: 'early', correlationKey: 'new-key' });
          w.log.push('wrong');
        },
      [/absent/, /new-key/],
    ],
  ];

  it.each(
    mismatches,
  )('%s: blocked, both shapes quoted, nothing written, and goes on with fitting code', async (...row) => {
    const [, oldCode, newCode, shapes] = row;
    const w = world(medium);
    const first = await begin(w, oldCode(w));
    await first.dispatch('early');
    await w.clock.idle();
    const timeline = await first.runs.timeline('r');
    const commits = w.commits();
    w.crash(first);
    const second = w.engine(app(newCode(w)));
    await second.dispatch('go', undefined, { runId: 'r' }); // something to look at the run for
    await second.dispatch('go', undefined, { runId: 'r', correlationKey: 'old-key' });
    await second.dispatch('old-event');
    await w.clock.advance('1m');
    const blocked = await second.runs.get('r');
    expect(blocked).toMatchObject({ status: 'blocked', error: { code: 'REPLAY_MISMATCH' } });
    for (const shape of shapes) expect(blocked?.error?.message).toMatch(shape);
    expect(await second.runs.timeline('r')).toEqual(timeline);
    expect(w.commits()).toBe(commits + 3); // the three dispatches
    expect(w.log).not.toContain('wrong');
    expect(w.errors).toContainEqual(expect.objectContaining({ code: 'REPLAY_MISMATCH' }));

    second.register(defineJob('app', oldCode(w)), { replace: true });
    await w.clock.advance('2h');
    expect(await statusOf(second)).toBe('completed');
    expect(w.log.length).toBe(new Set(w.log).size); // nothing ran twice
  });

  it('R5: contexts that have all found a run unfit leave it alone, though each had claimed it to find that out', async () => {
    const w = world(medium);
    const first = await begin(w, async ({ step }) => {
      await step.run('x', logged(w, 'x'));
      await step.waitForEvent('go');
    });
    w.crash(first);
    const wrong = app(async ({ step }) => {
      await new Promise((resolve) => setTimeout(resolve, 2)); // at work, and claimed, before it asks for anything
      await step.sleep('x', '1h');
    });
    const engines = w.isShared ? [w.engine(wrong), w.engine(wrong), w.engine(wrong)] : [w.engine(wrong)];
    for (const engine of engines) await engine.ready();
    await engines[0]!.dispatch('go');
    const unfit = () => w.errors.filter((error) => (error as { code?: string }).code === 'REPLAY_MISMATCH').length;
    await vi.waitFor(() => expect(unfit()).toBe(engines.length), 5_000);
    const commits = w.commits();
    for (let looks = 0; looks < 10; looks++) {
      await w.clock.advance('1m');
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect([unfit(), w.commits()]).toEqual([engines.length, commits]);
    for (const engine of engines) expect(await statusOf(engine)).toBe('blocked');
    engines[0]!.register(
      defineJob('app', async ({ step }) => step.run('x', () => 'again')),
      { replace: true },
    );
    await w.clock.advance('1m');
    expect(await engines[0]!.runs.get('r')).toMatchObject({ status: 'completed', result: 'x' });
  });

  it('R5: jobs that come later do not try what they have no part in, and onError hears of it once', async () => {
    const w = world(medium);
    const first = await begin(w, async ({ step }) => {
      await step.run('x', logged(w, 'x'));
      await step.waitForEvent('go');
    });
    w.crash(first);
    let tried = 0;
    const wrong = async ({ step }: Parameters<Body>[0]) => {
      tried++;
      await step.sleep('x', '1h');
    };
    const engine = w.engine(app(wrong));
    await engine.dispatch('go');
    await w.clock.idle();
    for (const name of ['a', 'b', 'c']) {
      engine.job(name, () => 1);
      await w.clock.idle();
    }
    expect([tried, w.errors, await statusOf(engine)]).toEqual([1, [codeOf('REPLAY_MISMATCH')], 'blocked']);
    engine.register(defineJob('app', wrong), { replace: true });
    await w.clock.idle();
    expect([tried, w.errors, await statusOf(engine)]).toEqual([2, [codeOf('REPLAY_MISMATCH')], 'blocked']);
    const right = async ({ step }: Parameters<Body>[0]) => {
      await step.run('x', logged(w, 'again'));
      await step.waitForEvent('go');
      await step.waitForEvent('on');
    };
    engine.register(defineJob('app', right), { replace: true });
    await w.clock.idle();
    expect([w.errors.length, await statusOf(engine)]).toEqual([1, 'waiting']);
    engine.register(defineJob('app', wrong), { replace: true });
    await engine.dispatch('on');
    await w.clock.idle();
    expect([w.errors, await statusOf(engine)]).toEqual([Array(2).fill(codeOf('REPLAY_MISMATCH')), 'blocked']);
  });

  it('code that takes the place of other code drives a run from its next wait or sleep on, also one that is in a step', async () => {
    const w = world(medium);
    let finish: (() => void) | undefined;
    const code = (version: string) =>
      defineJob('app', async ({ step }) => {
        await step.run('a', () => {
          w.log.push(`${version} a`);
          return new Promise<void>((resolve) => (finish = resolve));
        });
        await step.waitForEvent('go');
        await step.run('b', () => void w.log.push(`${version} b`));
        await step.sleep('night', '1h');
        return version;
      });
    const engine = w.engine();
    engine.register(code('old'));
    await engine.start('app', undefined, { id: 'r' });
    await vi.waitFor(() => expect(finish).toBeDefined());
    engine.register(code('new'), { replace: true });
    await w.clock.idle();
    finish!();
    await vi.waitFor(async () => expect(await statusOf(engine)).toBe('waiting'));
    await engine.dispatch('go');
    await vi.waitFor(async () => expect(await statusOf(engine)).toBe('sleeping'));
    expect(w.log).toEqual(['old a', 'new b']);
    await w.clock.advance('2h');
    expect(await engine.runs.get('r')).toMatchObject({ status: 'completed', result: 'new' });
    expect((await engine.runs.timeline('r')).filter((entry) => 'interrupted' in entry && entry.interrupted)).toEqual(
      [],
    );
  });

  it('R5: runs.list finds the blocked ones, among others and page by page', async () => {
    const w = world(medium);
    const first = await begin(w, async ({ step }) => {
      await step.run('x', logged(w, 'x'));
      await step.waitForEvent('go');
    });
    for (const id of ['waits', 'ends']) await first.start('app', undefined, { id }).then(() => w.clock.idle());
    await first.runs.cancel('ends');
    w.crash(first);
    const second = w.engine(app(async ({ step }) => step.sleep('x', '1h')));
    await second.dispatch('go', 'came', { runId: 'r' });
    await w.clock.idle();
    const idsOf = async (...status: ('blocked' | 'waiting' | 'cancelled')[]) =>
      (await second.runs.list({ status })).runs.map(({ id }) => id);
    expect(await idsOf('blocked')).toEqual(['r']);
    expect(await idsOf('blocked', 'cancelled')).toEqual(['ends', 'r']);
    expect(await idsOf('waiting', 'blocked')).toEqual(['waits', 'r']);
    expect((await second.runs.list({ status: 'blocked', limit: 1 })).runs).toMatchObject([
      { id: 'r', status: 'blocked', error: { code: 'REPLAY_MISMATCH' } },
    ]);
    expect((await second.runs.list({ status: 'blocked', job: 'other' })).runs).toEqual([]);
  });

  it('a blocked run goes on in another engine whose code fits', async () => {
    const w = world(medium);
    const fits: Body = async ({ step }) => {
      await step.run('x', logged(w, 'x'));
      return (await step.waitForEvent('go')).payload;
    };
    const first = await begin(w, fits);
    w.crash(first);
    const second = w.engine(
      app(async ({ step }) => {
        await step.sleep('x', '1h');
      }),
    );
    await second.dispatch('go', 'came');
    await w.clock.idle();
    expect(await statusOf(second)).toBe('blocked');
    const third = await deploy(w, second, fits);
    expect(await third.runs.get('r')).toMatchObject({ status: 'completed', result: 'came' });
    expect(w.log).toEqual(['x']);
  });

  it('a mismatch that comes up after a recorded outcome keeps that outcome', async () => {
    // The live code branches on what only this pass knows: the fault comes with the outcome of "work".
    const w = world(medium);
    const first = await begin(w, async ({ step }) => {
      void step.sleep('x', '10h');
      await step.waitForEvent('go');
      await step.run('work', logged(w, 'work'));
      await step.waitForEvent('end');
    });
    const second = await deploy(w, first, async ({ step }) => {
      void step.sleep('x', '10h');
      await step.waitForEvent('go');
      await step.run('work', logged(w, 'work'));
      await step.waitForEvent('');
    });
    await second.dispatch('go');
    await w.clock.idle();
    expect(await second.runs.get('r')).toMatchObject({ status: 'blocked', error: { code: 'INVALID_NAME' } });
    expect(await kindsOf(second)).toContain('step-completed');
    const third = await deploy(w, second, async ({ step }) => {
      void step.sleep('x', '10h');
      await step.waitForEvent('go');
      await step.run('work', logged(w, 'work'));
      return (await step.waitForEvent('end')).payload;
    });
    await third.dispatch('end', 'bye');
    await w.clock.idle();
    expect(await third.runs.get('r')).toMatchObject({ status: 'completed', result: 'bye' });
    expect(w.log).toEqual(['work']);
  });
});

onEveryStore('bad arguments to step.*', (medium) => {
  const wrong = <T>(value: unknown) => value as T;
  const faults: [title: string, code: string, call: (step: Parameters<Body>[0]['step']) => Promise<unknown>][] = [
    ['an empty step name', 'INVALID_NAME', (step) => step.run('', () => 1)],
    ['a name that is no text', 'INVALID_NAME', (step) => step.run(wrong(5), () => 1)],
    ['a name of 257 characters', 'INVALID_NAME', (step) => step.run('x'.repeat(257), () => 1)],
    ['a step without a function', 'INVALID_OPTION', (step) => step.run('x', wrong(undefined))],
    ['a retry option that is none', 'INVALID_OPTION', (step) => step.run('x', () => 1, { retry: { maxAttempts: 0 } })],
    ['a sleep without a duration', 'INVALID_DURATION', (step) => step.sleep('x', wrong(undefined))],
    ['a sleep of "24 parsecs"', 'INVALID_DURATION', (step) => step.sleep('x', wrong('24 parsecs'))],
    ['a sleep of NaN', 'INVALID_DURATION', (step) => step.sleep('x', Number.NaN)],
    ['an instant that is none', 'INVALID_OPTION', (step) => step.sleepUntil('x', new Date(Number.NaN))],
    ['an empty event name', 'INVALID_NAME', (step) => step.waitForEvent('')],
    ['a wait for no events', 'INVALID_NAME', (step) => step.waitForEvent([], { name: 'x' })],
    ['an event that is no text', 'INVALID_NAME', (step) => step.waitForEvent(wrong<string>(undefined))],
    ['an empty correlation key', 'INVALID_KEY', (step) => step.waitForEvent('e', { correlationKey: '' })],
    ['an onTimeout that is none', 'INVALID_OPTION', (step) => step.waitForEvent('e', { onTimeout: wrong('explode') })],
    ['a timeout that is none', 'INVALID_DURATION', (step) => step.waitForEvent('e', { timeout: wrong('soon') })],
  ];

  it.each(
    faults,
  )('%s: the step before is kept, the run is blocked, and goes on with fixed code', async (_, code, call) => {
    const w = world(medium);
    const engine = await begin(w, async ({ step }) => {
      try {
        const before = await step.run('before', logged(w, 'before'));
        await call(step);
        return before;
      } catch {
        w.log.push('catch');
        return 'caught';
      } finally {
        w.log.push('finally');
      }
    });
    expect(await engine.runs.get('r')).toMatchObject({ status: 'blocked', error: { code } });
    expect(w.log).toEqual(['before']);
    expect(await kindsOf(engine)).toContain('step-completed');
    const length = (await kindsOf(engine)).length;
    await w.clock.advance('1h');
    expect((await kindsOf(engine)).length).toBe(length); // it is not tried again and again

    const fixed: Body = async ({ step }) => step.run('before', logged(w, 'before'));
    engine.register(defineJob('app', fixed), { replace: true });
    await w.clock.idle();
    expect(await engine.runs.get('r')).toMatchObject({ status: 'completed', result: 'before' });
    expect(w.log).toEqual(['before']);
  });

  it('bad arguments as the first thing a handler does block the run before anything is written', async () => {
    const w = world(medium);
    const engine = await begin(w, async ({ step }) => {
      await step.run('', () => 1);
    });
    expect(await engine.runs.get('r')).toMatchObject({ status: 'blocked', error: { code: 'INVALID_NAME' } });
    expect(await kindsOf(engine)).toEqual(['started']);
  });

  it('bad arguments beside a step that runs: its outcome is recorded, and it does not run again', async () => {
    const w = world(medium);
    let finish = (): void => undefined;
    const engine = await begin(w, async ({ step }) => {
      await step.run('first', () => 1);
      const work = step.run('work', async () => {
        w.log.push('work');
        await new Promise<void>((resolve) => {
          finish = resolve;
        });
        return 'worked';
      });
      await step.run('second', () => 2);
      await step.sleep('x', Number.NaN);
      return work;
    });
    await expect.poll(() => w.log).toEqual(['work']);
    finish();
    await w.clock.idle();
    expect(await statusOf(engine)).toBe('blocked');
    engine.register(
      defineJob('app', async ({ step }) => {
        await step.run('first', () => 1);
        const work = step.run('work', logged(w, 'again'));
        await step.run('second', () => 2);
        await step.sleep('x', '1m');
        return work;
      }),
      { replace: true },
    );
    await w.clock.advance('1m');
    expect(await engine.runs.get('r')).toMatchObject({ status: 'completed', result: 'worked' });
    expect(w.log).toEqual(['work']);
  });

  it('one blocked run does not hold up the others of its queue', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('bad', async ({ step }) => void (await step.run('', () => 1)));
      stepfast.job('good', async ({ step }) => step.run('x', () => 'good'));
    });
    for (let at = 0; at < 20; at++) await engine.start('bad');
    const run = await engine.start('good');
    await w.clock.idle();
    expect(await run.status()).toBe('completed');
  });
});

onEveryStore('a job that is not registered here', (medium) => {
  it('a run that is ready to go on is blocked, and goes on where the job is registered', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('other', async () => 1);
    });
    await engine.start('app', undefined, { id: 'r', allowUnregistered: true });
    await w.clock.idle();
    expect(await engine.runs.get('r')).toMatchObject({ status: 'blocked', error: { code: 'UNKNOWN_JOB' } });
    expect(await kindsOf(engine)).toEqual(['started']);
    engine.register(defineJob('app', async () => 'end'));
    await w.clock.idle();
    expect(await engine.runs.get('r')).toMatchObject({ status: 'completed', result: 'end' });
  });

  it('a waiting run stays waiting, is blocked once its event has come, and loses nothing', async () => {
    const w = world(medium);
    const code: Body = async ({ step }) => {
      await step.run('a', logged(w, 'a'));
      return (await step.waitForEvent('go')).payload;
    };
    const first = await begin(w, code);
    w.crash(first);
    const second = w.engine((stepfast) => {
      stepfast.job('other', async () => 1);
    });
    await second.ready();
    await w.clock.idle();
    expect(await statusOf(second)).toBe('waiting');
    expect((await second.dispatch('go', 'came')).resumed).toEqual(['r']);
    await w.clock.idle();
    expect(await statusOf(second)).toBe('blocked');
    const third = await deploy(w, second, code);
    expect(await third.runs.get('r')).toMatchObject({ status: 'completed', result: 'came' });
    expect(w.log).toEqual(['a']);
  });

  it('a sleeping run stays sleeping until its instant, then it is blocked', async () => {
    const w = world(medium);
    const code: Body = async ({ step }) => {
      await step.sleep('nap', '1h');
      return 'end';
    };
    const first = await begin(w, code);
    w.crash(first);
    const second = w.engine((stepfast) => {
      stepfast.job('other', async () => 1);
    });
    await second.ready();
    expect(await statusOf(second)).toBe('sleeping');
    await w.clock.advance('2h');
    expect(await statusOf(second)).toBe('blocked');
    const third = await deploy(w, second, code);
    expect(await statusOf(third)).toBe('completed');
  });
});

onEveryStore('versions', (medium) => {
  const code =
    (w: World, version: number): Body =>
    async ({ step }) => {
      await step.run('a', logged(w, `a of ${version}`));
      await step.waitForEvent('go');
      return step.run('b', logged(w, `b of ${version}`));
    };

  it('a run is not claimed by code of a lower version than it was driven by', async () => {
    const w = world(medium);
    const first = w.engine(app(code(w, 2), 2));
    await first.start('app', undefined, { id: 'r' });
    await w.clock.idle();
    const second = await deploy(w, first, code(w, 1), 1);
    await second.dispatch('go');
    await w.clock.idle();
    expect(await statusOf(second)).toBe('blocked');
    expect(w.log).toEqual(['a of 2']);
    const third = await deploy(w, second, code(w, 3), 3);
    expect(await third.runs.get('r')).toMatchObject({ status: 'completed', result: 'b of 3' });
    expect(w.log).toEqual(['a of 2', 'b of 3']);
  });

  it('a claim raises the version of the run: the older code does not get it back', async () => {
    const w = world(medium);
    const handler: Body = async ({ step, run }) => {
      for (const event of ['one', 'two']) {
        await step.waitForEvent(event);
        await step.run(event, logged(w, event));
      }
      return run.id;
    };
    const first = await begin(w, handler);
    const second = await deploy(w, first, handler, 2);
    await second.dispatch('one');
    await w.clock.idle();
    expect(w.log).toEqual(['one']);
    const third = await deploy(w, second, handler, 1);
    await third.dispatch('two');
    await w.clock.idle();
    expect(await statusOf(third)).toBe('blocked');
    expect(w.log).toEqual(['one']);
    const fourth = await deploy(w, third, handler, 2);
    expect(await statusOf(fourth)).toBe('completed');
    expect(w.log).toEqual(['one', 'two']);
  });
});

onEveryStore('registering', (medium) => {
  it('two jobs of one name are refused, unless one replaces the other', async () => {
    const w = world(medium);
    const engine = w.engine();
    const job = defineJob('app', async () => 'first');
    engine.register(job);
    engine.register(job);
    const other = defineJob('app', async () => 'second');
    expect(() => engine.register(other)).toThrow(/DUPLICATE_JOB/);
    engine.register(other, { replace: true });
    const run = await engine.start('app');
    await w.clock.idle();
    expect(await run.result()).toBe('second');
  });
});
