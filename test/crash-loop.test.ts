import { expect, it, onTestFinished, vi } from 'vitest';
import type { JobOptions, Stepfast } from '../src/index.js';
import { onEveryStore, type World, world } from './harness.js';

// Pins: spec F5: what a step costs that was started and never ended, and how a poisonous one is stopped.

const never = () => new Promise<never>(() => undefined);
const soon = () => new Promise<void>((resolve) => setTimeout(resolve, 0));

/** A job of one step that hangs while `isStuck`, and a way to be killed within it. */
function poisonous(w: World, options: JobOptions = {}) {
  const entered: { readonly attempt: number; readonly key: string }[] = [];
  const state = { isStuck: true };
  const define = (stepfast: Stepfast) => {
    stepfast.job('poison', options as JobOptions<undefined, unknown>, ({ step }) =>
      step.run('bite', async ({ attempt, idempotencyKey }) => {
        entered.push({ attempt, key: idempotencyKey });
        if (state.isStuck) await never();
        return 'done';
      }),
    );
  };
  /** Opens the app, waits until the step has begun, and kills the app. */
  const dieInStep = async () => {
    const before = entered.length;
    const engine = w.engine(define);
    await engine.ready();
    await expect.poll(() => entered.length).toBe(before + 1);
    w.crash(engine);
  };
  /** Starts a run, and dies in its step. */
  const start = async (id: string) => {
    const engine = w.engine(define);
    await engine.start('poison', undefined, { id });
    await expect.poll(() => entered.length).toBe(1);
    w.crash(engine);
  };
  const open = async () => {
    const engine = w.engine(define);
    await engine.ready();
    await w.clock.idle();
    return engine;
  };
  return { define, entered, state, dieInStep, start, open };
}

onEveryStore('crash loop', (medium) => {
  it('an interruption costs no attempt, and the attempt number grows with each', async () => {
    const w = world(medium);
    const p = poisonous(w, { retry: { maxAttempts: 1 } });
    await p.start('r');
    for (let crash = 0; crash < 4; crash++) await p.dieInStep();
    p.state.isStuck = false;
    const engine = await p.open();
    expect(await engine.runs.get('r')).toMatchObject({ status: 'completed', result: 'done', attempts: [] });
    const attempts = p.entered.map(({ attempt }) => attempt);
    expect(attempts).toHaveLength(6);
    expect(attempts).toEqual([...new Set(attempts)].sort((a, b) => a - b));
    expect(new Set(p.entered.map(({ key }) => key)).size).toBe(1);
  });

  it('failures after interruptions still have the whole budget, and are numbered on', async () => {
    const w = world(medium);
    const attempts: number[] = [];
    const define = (stepfast: Stepfast) => {
      stepfast.job('poison', { retry: { maxAttempts: 3, jitter: false } }, ({ step }) =>
        step.run('bite', async ({ attempt }) => {
          attempts.push(attempt);
          if (attempts.length <= 2) await never();
          throw new Error('no');
        }),
      );
    };
    const first = w.engine(define);
    await first.start('poison', undefined, { id: 'r' });
    await expect.poll(() => attempts.length).toBe(1);
    w.crash(first);
    const second = w.engine(define);
    await second.ready();
    await expect.poll(() => attempts.length).toBe(2);
    w.crash(second);
    const third = w.engine(define);
    await third.ready();
    await w.clock.advance('10m');
    expect((await third.runs.get('r'))?.status).toBe('failed');
    expect((await third.runs.get('r'))?.attempts).toHaveLength(3);
    expect(attempts).toEqual([1, 2, 3, 4, 5]);
  });

  it('ten interruptions in a row fail the run with CRASH_LOOP, and the step is not entered again', async () => {
    const w = world(medium);
    const p = poisonous(w);
    await p.start('r');
    for (let crash = 1; crash < 10; crash++) await p.dieInStep();
    const engine = await p.open();
    expect(await engine.runs.get('r')).toMatchObject({ status: 'failed', error: { code: 'CRASH_LOOP' } });
    expect(p.entered).toHaveLength(10);
    expect((await engine.runs.list({ status: 'failed' })).runs.map(({ id }) => id)).toEqual(['r']);
    const claims = (await engine.runs.timeline('r')).filter((entry) => entry.interrupted);
    expect(claims).toHaveLength(10);
  });

  it('a run that failed with CRASH_LOOP is revived by runs.retry, with as many interruptions to go', async () => {
    const w = world(medium);
    const p = poisonous(w, { maxInterruptions: 3 });
    await p.start('r');
    await p.dieInStep();
    await p.dieInStep();
    const failed = await p.open();
    expect((await failed.runs.get('r'))?.error?.code).toBe('CRASH_LOOP');
    await failed.runs.retry('r');
    await expect.poll(() => p.entered.length).toBe(4);
    w.crash(failed);
    await p.dieInStep();
    p.state.isStuck = false;
    const engine = await p.open();
    expect(await engine.runs.get('r')).toMatchObject({ status: 'completed', result: 'done' });
  });

  it('F5: a handler that kills its process between its steps is stopped like a step', async () => {
    const w = world(medium);
    let deaths = 0;
    let entered = 0;
    let engine: Stepfast;
    const define = (stepfast: Stepfast) => {
      stepfast.job('poison', { maxInterruptions: 4 }, async ({ step }) => {
        await step.run('one', () => void entered++);
        deaths++;
        w.crash(engine);
        await never();
      });
    };
    engine = w.engine(define);
    await engine.start('poison', undefined, { id: 'r' });
    await expect.poll(() => deaths).toBe(1);
    // The outcome of the step, recorded in the second life, is progress: four in a row come after it.
    for (let life = 2; life <= 5; life++) {
      engine = w.engine(define);
      await engine.ready();
      await expect.poll(() => deaths).toBe(life);
    }
    engine = w.engine(define);
    await engine.ready();
    await w.clock.idle();
    expect(await engine.runs.get('r')).toMatchObject({ status: 'failed', error: { code: 'CRASH_LOOP' } });
    expect(deaths).toBe(5);
    expect(entered).toBeLessThanOrEqual(2);
  });

  it('maxInterruptions sets how many', async () => {
    const w = world(medium);
    const p = poisonous(w, { maxInterruptions: 1 });
    await p.start('r');
    const engine = await p.open();
    expect((await engine.runs.get('r'))?.error?.code).toBe('CRASH_LOOP');
    expect(p.entered).toHaveLength(1);
  });

  it('interruptions with progress between them are not in a row', async () => {
    const w = world(medium);
    const entered: string[] = [];
    const define = (stepfast: Stepfast) => {
      stepfast.job('long', { maxInterruptions: 3 }, async ({ step }) => {
        for (const name of ['a', 'b', 'c'])
          await step.run(name, async () => {
            entered.push(name);
            if (entered.filter((each) => each === name).length < 3) await never();
          });
        return 'done';
      });
    };
    let engine = w.engine(define);
    await engine.start('long', undefined, { id: 'r' });
    for (const length of [1, 2, 4, 5, 7, 8]) {
      await expect.poll(() => entered.length).toBe(length);
      w.crash(engine);
      engine = w.engine(define);
      await engine.ready();
    }
    await w.clock.idle();
    expect(await engine.runs.get('r')).toMatchObject({ status: 'completed', result: 'done' });
    expect(entered.join('')).toBe('aaabbbccc');
  });

  it('an interruption draws no warning about the code of the user', async () => {
    const w = world(medium);
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
    onTestFinished(() => warn.mockRestore());
    const entered: string[] = [];
    const define = (stepfast: Stepfast) => {
      stepfast.job('two', async ({ step }) => {
        for (const name of ['a', 'b'])
          await step.run(name, async () => {
            entered.push(name);
            if (entered.length === 1) await never();
          });
      });
    };
    const before = w.engine(define);
    await before.start('two', undefined, { id: 'r' });
    await expect.poll(() => entered.length).toBe(1);
    w.crash(before);
    const after = w.engine(define);
    await after.ready();
    await w.clock.idle();
    expect((await after.runs.get('r'))?.status).toBe('completed');
    expect(warn.mock.calls).toEqual([]);
  });

  it('close() is a clean release: it does not count, and the next engine goes on at once', async () => {
    const w = world(medium);
    const p = poisonous(w, { maxInterruptions: 2 });
    let engine = w.engine(p.define);
    await engine.start('poison', undefined, { id: 'r' });
    for (let closed = 1; closed <= 12; closed++) {
      await expect.poll(() => p.entered.length).toBe(closed);
      await engine.close();
      engine = w.engine(p.define);
      await engine.ready();
    }
    await expect.poll(() => p.entered.length).toBe(13);
    expect((await engine.runs.timeline('r')).filter((entry) => entry.interrupted)).toEqual([]);
    await engine.close();
    p.state.isStuck = false;
    engine = await p.open();
    expect(await engine.runs.get('r')).toMatchObject({ status: 'completed', attempts: [] });
    expect(new Set(p.entered.map(({ key }) => key)).size).toBe(1);
  });

  it('close() aborts the signals of what is in flight, and what comes later is not recorded', async () => {
    const w = world(medium);
    let settle: (value: string) => void = () => undefined;
    const signals: AbortSignal[] = [];
    const define = (stepfast: Stepfast) => {
      stepfast.job('slow', async ({ step, signal }) => {
        signals.push(signal);
        return step.run('call', (context) => {
          signals.push(context.signal);
          return new Promise<string>((resolve) => (settle = resolve));
        });
      });
    };
    const before = w.engine(define);
    await before.start('slow', undefined, { id: 'r' });
    await expect.poll(() => signals.length).toBe(2);
    await before.close();
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, true]);
    settle('of the old engine');
    await soon();
    const after = w.engine(define);
    await after.ready();
    await expect.poll(() => signals.length).toBe(4);
    settle('of the new engine');
    await w.clock.idle();
    expect(await after.runs.get('r')).toMatchObject({ status: 'completed', result: 'of the new engine' });
  });

  it('a crash while a run waits or sleeps is no interruption', async () => {
    const w = world(medium);
    const define = (stepfast: Stepfast) => {
      stepfast.job('patient', { maxInterruptions: 1 }, async ({ step }) => {
        await step.run('a', () => undefined);
        await step.waitForEvent('go');
        await step.sleep('nap', '1h');
        return 'done';
      });
    };
    let engine = w.engine(define);
    await engine.start('patient', undefined, { id: 'r' });
    await w.clock.idle();
    w.crash(engine);
    engine = w.engine(define);
    await engine.dispatch('go');
    await w.clock.idle();
    w.crash(engine);
    engine = w.engine(define);
    await engine.ready();
    await w.clock.advance('1h');
    expect(await engine.runs.get('r')).toMatchObject({ status: 'completed', result: 'done' });
  });

  it('after two interruptions a function enters alone', async () => {
    const w = world(medium);
    const entered: string[] = [];
    const ends: (() => void)[] = [];
    const define = (stepfast: Stepfast) => {
      stepfast.job<string>('suspect', ({ payload, step }) =>
        step.run('call', async () => {
          entered.push(payload);
          await new Promise<void>((resolve) => ends.push(resolve));
        }),
      );
    };
    let engine = w.engine(define);
    await engine.start('suspect', 'a', { id: 'a' });
    await engine.start('suspect', 'b', { id: 'b' });
    for (let crash = 1; crash <= 2; crash++) {
      await expect.poll(() => entered.length).toBe(2 * crash); // side by side so far
      w.crash(engine);
      engine = w.engine(define);
      await engine.ready();
    }
    await expect.poll(() => entered.length).toBe(5);
    for (let turn = 0; turn < 50; turn++) await soon();
    expect(entered).toHaveLength(5);
    ends.at(-1)!();
    await expect.poll(() => entered.length).toBe(6);
    ends.at(-1)!();
    expect(new Set(entered.slice(4))).toEqual(new Set(['a', 'b']));
    await w.clock.idle();
    for (const id of ['a', 'b']) expect((await engine.runs.get(id))?.status).toBe('completed');
  });

  it('an innocent run beside a poisonous one is not failed with it', async () => {
    const w = world(medium);
    let crashes = 0;
    let bites = 0;
    let isSlow = false;
    const define = (stepfast: Stepfast) => {
      stepfast.job('poison', ({ step }) =>
        step.run('bite', () => {
          bites++;
          return never();
        }),
      );
      stepfast.job('innocent', ({ step }) =>
        step.run('work', async () => {
          isSlow = crashes < 2;
          if (isSlow) await never(); // in flight when the first two crashes come, and done in no time later
          return 'fine';
        }),
      );
    };
    let engine = w.engine(define);
    await engine.start('poison', undefined, { id: 'poison' });
    await engine.start('innocent', undefined, { id: 'innocent' });
    for (; crashes < 30; ) {
      await expect
        .poll(async () => bites > crashes || (await engine.runs.get('poison'))?.status === 'failed')
        .toBe(true);
      if (crashes < 2) await expect.poll(() => isSlow).toBe(true);
      if (bites <= crashes) break;
      crashes++;
      w.crash(engine);
      isSlow = false;
      engine = w.engine(define);
      await engine.ready();
    }
    await w.clock.idle();
    expect(await engine.runs.get('poison')).toMatchObject({ status: 'failed', error: { code: 'CRASH_LOOP' } });
    expect(await engine.runs.get('innocent')).toMatchObject({ status: 'completed', result: 'fine' });
  });

  it('a function that waits for its turn is not entered any more once its run is cancelled', async () => {
    const w = world(medium);
    const entered: string[] = [];
    const ends: (() => void)[] = [];
    const define = (stepfast: Stepfast) => {
      stepfast.job<string>('suspect', ({ payload, step }) =>
        step.run('call', async () => {
          entered.push(payload);
          await new Promise<void>((resolve) => ends.push(resolve));
        }),
      );
    };
    let engine = w.engine(define);
    await engine.start('suspect', 'a', { id: 'a' });
    await engine.start('suspect', 'b', { id: 'b' });
    for (let crash = 1; crash <= 2; crash++) {
      await expect.poll(() => entered.length).toBe(2 * crash);
      w.crash(engine);
      engine = w.engine(define);
      await engine.ready();
    }
    await expect.poll(() => entered.length).toBe(5);
    const other = entered.at(-1) === 'a' ? 'b' : 'a';
    await engine.runs.cancel(other);
    ends.at(-1)!();
    await w.clock.idle();
    expect((await engine.runs.get(other))?.status).toBe('cancelled');
    expect(entered).toHaveLength(5);
  });

  it('a function that waits for its turn is not entered any more once the engine is closed', async () => {
    const w = world(medium);
    const entered: string[] = [];
    const ends: (() => void)[] = [];
    const define = (stepfast: Stepfast) => {
      stepfast.job<string>('suspect', ({ payload, step }) =>
        step.run('call', async () => {
          entered.push(payload);
          await new Promise<void>((resolve) => ends.push(resolve));
        }),
      );
    };
    let engine = w.engine(define);
    await engine.start('suspect', 'a', { id: 'a' });
    await engine.start('suspect', 'b', { id: 'b' });
    for (let crash = 1; crash <= 2; crash++) {
      await expect.poll(() => entered.length).toBe(2 * crash);
      w.crash(engine);
      engine = w.engine(define);
      await engine.ready();
    }
    await expect.poll(() => entered.length).toBe(5);
    await engine.close();
    ends.at(-1)!();
    for (let turn = 0; turn < 50; turn++) await soon();
    expect(entered).toHaveLength(5);
  });

  it('a function is entered only if the store confirmed the fence less than leaseMs ago', async () => {
    const w = world(medium);
    let end: () => void = () => undefined;
    const seen: number[] = [];
    const define = (stepfast: Stepfast) => {
      stepfast.job('pair', { retry: { initialDelay: '1m', factor: 1, jitter: false } }, async ({ step }) => {
        const slow = step.run('slow', () => new Promise<void>((resolve) => (end = resolve)));
        const flaky = step.run('flaky', ({ attempt }) => {
          seen.push(w.commits());
          if (attempt === 1) throw new Error('not yet');
          end();
        });
        await Promise.all([slow, flaky]);
      });
    };
    const engine = w.engine(define, { leaseMs: 15_000 });
    const { id } = await engine.start('pair');
    await expect.poll(async () => (await engine.runs.get(id))?.attempts.length).toBe(1);
    const commits = w.commits();
    await w.clock.advance('1m');
    expect(seen).toHaveLength(2);
    expect(seen[1]).toBeGreaterThan(commits);
    expect((await engine.runs.get(id))?.status).toBe('completed');
  });

  it('a fence that was confirmed a moment ago is not confirmed again', async () => {
    const w = world(medium);
    let end: () => void = () => undefined;
    const seen: number[] = [];
    const define = (stepfast: Stepfast) => {
      stepfast.job('pair', { retry: { initialDelay: '5s', factor: 1, jitter: false } }, async ({ step }) => {
        const slow = step.run('slow', () => new Promise<void>((resolve) => (end = resolve)));
        const flaky = step.run('flaky', ({ attempt }) => {
          seen.push(w.commits());
          if (attempt === 1) throw new Error('not yet');
          end();
        });
        await Promise.all([slow, flaky]);
      });
    };
    const engine = w.engine(define, { leaseMs: 15_000 });
    const { id } = await engine.start('pair');
    await expect.poll(async () => (await engine.runs.get(id))?.attempts.length).toBe(1);
    const commits = w.commits();
    await w.clock.advance('5s');
    expect(seen).toHaveLength(2);
    expect(seen[1]).toBe(commits);
    expect((await engine.runs.get(id))?.status).toBe('completed');
  });

  it('a function that had to wait for its turn longer than leaseMs is entered after a new confirmation', async () => {
    const w = world(medium);
    const entered: string[] = [];
    const ends: (() => void)[] = [];
    const confirmed: string[] = [];
    const define = (stepfast: Stepfast) => {
      stepfast.job('suspect', ({ run, step }) =>
        step.run('call', async () => {
          entered.push(run.id);
          confirmed.push(`${run.id} entered`);
          await new Promise<void>((resolve) => ends.push(resolve));
        }),
      );
    };
    const open = () => {
      const store = w.store();
      const { commit } = store;
      store.commit = async (batch) => {
        const outcome = await commit.call(store, batch);
        if (batch.run && outcome.kind === 'committed') confirmed.push(`${batch.run.runId} confirmed`);
        return outcome;
      };
      return w.engine(define, { leaseMs: 15_000, store });
    };
    let engine = open();
    await engine.start('suspect', undefined, { id: 'a' });
    await engine.start('suspect', undefined, { id: 'b' });
    for (let crash = 1; crash <= 2; crash++) {
      await expect.poll(() => entered.length).toBe(2 * crash);
      w.crash(engine);
      engine = open();
      await engine.ready();
    }
    await expect.poll(() => entered.length).toBe(5);
    const other = entered.at(-1) === 'a' ? 'b' : 'a';
    w.clock.jump(w.clock.now() + 60_000);
    confirmed.length = 0;
    ends.at(-1)!();
    await expect.poll(() => entered.length).toBe(6);
    expect(confirmed.filter((line) => line.startsWith(other))).toEqual([`${other} confirmed`, `${other} entered`]);
    ends.at(-1)!();
    await w.clock.idle();
    for (const id of ['a', 'b']) expect((await engine.runs.get(id))?.status).toBe('completed');
  });
});
