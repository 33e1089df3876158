import { expect, it } from 'vitest';
import { defineJob, FatalError, type HandlerContext, type Stepfast } from '../src/index.js';
import { crashEverywhere, everyWay } from './crash-everywhere.js';
import type { World } from './harness.js';

// Pins: spec E12, R1, F6 and Q6 for child runs over crashes, closed apps, long times, and retries.

const runsOf = async (stepfast: Stepfast, job: string) => (await stepfast.runs.list({ job })).runs;
const distinct = (log: readonly string[]) => [...new Set(log)];

/** A family of three generations, whose steps say that they ran. */
const family = (w: World) => {
  const leaf = defineJob('leaf', {}, ({ payload, run, step }: HandlerContext<string>) =>
    step.run('work', () => {
      w.log.push(`${payload} of ${run.id}`);
      return payload.toUpperCase();
    }),
  );
  const middle = defineJob('middle', {}, async ({ payload, step }: HandlerContext<string>) => {
    const first = await step.call(leaf, `${payload}1`);
    const { id } = await step.start(leaf, `${payload}2`);
    return `${first} ${id}`;
  });
  return (stepfast: Stepfast) => {
    stepfast.register(leaf);
    stepfast.register(middle);
    stepfast.job('top', async ({ step }) => {
      const [a, b] = await Promise.all([step.call(middle, 'a'), step.call(leaf, 'b')]);
      return [a.split(' ')[0], b];
    });
  };
};

everyWay(
  'children over crashes',
  (open) => {
    it('E12, R1: whichever commit the context dies at, every child is started once and awaited', async () => {
      const commits = await crashEverywhere(open, {
        define: (stepfast, w) => family(w)(stepfast),
        async play(stepfast, w) {
          await stepfast.start('top', undefined, { id: 'top' });
          await w.clock.idle();
        },
        async check(stepfast, w, where) {
          const top = await stepfast.runs.get('top');
          expect(top, where).toMatchObject({ status: 'completed', result: ['A1', 'B'] });
          const leaves = await runsOf(stepfast, 'leaf');
          expect(leaves.map(({ payload }) => payload).sort(), where).toEqual(['a1', 'a2', 'b']);
          for (const { status } of leaves) expect(status, where).toBe('completed');
          expect(await runsOf(stepfast, 'middle'), where).toHaveLength(1);
          // One run of each leaf, and no recorded step again: only what was in flight may have run twice.
          expect(distinct(w.log), where).toHaveLength(3);
          expect(w.log.length, where).toBeLessThanOrEqual(3 + 2);
        },
      });
      expect(commits).toBeGreaterThan(10);
    });

    it('E12: the failure of a child reaches its parent once, whichever commit the context dies at', async () => {
      await crashEverywhere(open, {
        define(stepfast, w) {
          const child = stepfast.job(
            'child',
            { retry: { maxAttempts: 2, initialDelay: '1s', jitter: false } },
            ({ step }) =>
              step.run('work', () => {
                throw new Error('no');
              }),
          );
          stepfast.job('parent', async ({ step }) => {
            const said = await step.call(child).catch((error: Error & { cause: Error }) => String(error.cause.message));
            return step.run('after', () => {
              w.log.push('after');
              return said;
            });
          });
        },
        async play(stepfast, w) {
          await stepfast.start('parent', undefined, { id: 'p' });
          await w.clock.advance('2s');
        },
        async check(stepfast, w, where) {
          const parent = await stepfast.runs.get('p');
          expect(parent, where).toMatchObject({ status: 'completed', result: expect.stringMatching(/"work".*no/) });
          expect(await runsOf(stepfast, 'child'), where).toHaveLength(1);
          expect(w.log.length, where).toBeLessThanOrEqual(2);
          const ends = (await stepfast.runs.timeline('p')).filter(({ kind }) => kind === 'child-failed');
          expect(ends, where).toHaveLength(1);
        },
      });
    });

    it('F6: each retry starts one child more, whichever commit the context dies at', async () => {
      await crashEverywhere(open, {
        define(stepfast, w) {
          const child = stepfast.job('child', { retry: { maxAttempts: 1 } }, ({ step }) =>
            step.run('work', () => {
              if (!w.log.includes('mended')) throw new Error('broken');
              return 'whole';
            }),
          );
          stepfast.job('parent', ({ step }) => step.call(child));
        },
        async play(stepfast, w) {
          const run = await stepfast.start('parent', undefined, { id: 'p' });
          await w.clock.idle();
          if ((await run.status()) !== 'failed') return;
          w.log.push('mended');
          await run.retry();
          await w.clock.idle();
        },
        async check(stepfast, _, where) {
          expect(await stepfast.runs.get('p'), where).toMatchObject({ status: 'completed', result: 'whole' });
          const children = await runsOf(stepfast, 'child');
          expect(
            children.map(({ status }) => status),
            where,
          ).toEqual(['completed', 'failed']);
        },
      });
    });
  },
  { isLong: true },
);

everyWay('children over time', (open) => {
  it('E12, Q4: a parent waits for weeks, through reloads, for a child that sleeps', async () => {
    const w = open();
    const define = (stepfast: Stepfast) => {
      const child = stepfast.job('child', async ({ step }) => {
        await step.sleep('long', '60 days');
        return 'late';
      });
      stepfast.job('parent', ({ step }) => step.call(child));
    };
    let engine = w.engine(define);
    await engine.start('parent', undefined, { id: 'p' });
    for (let week = 0; week < 8; week++) {
      await w.clock.advance('7 days');
      expect((await engine.runs.get('p'))!.status).toBe('waiting');
      w.crash(engine);
      engine = w.engine(define);
      await engine.ready();
    }
    const { length } = await engine.runs.timeline('p');
    await w.clock.advance('4 days');
    expect(await engine.runs.get('p')).toMatchObject({ status: 'completed', result: 'late' });
    expect(length).toBe(3); // started, claimed, child-set: a reload adds nothing (spec R12)
  });

  it('E12, Q6: a child ends, and its retention passes, while nobody can go on with its parent', async () => {
    const w = open();
    const child = defineJob('child', { retention: '1 day' }, async ({ step }: HandlerContext<undefined>) => {
      const { payload } = await step.waitForEvent<string>('go');
      return payload;
    });
    const both = (stepfast: Stepfast) => {
      stepfast.register(child);
      stepfast.job('parent', ({ step }) => step.call(child));
    };
    const first = w.engine(both);
    await first.start('parent', undefined, { id: 'p' });
    await w.clock.idle();
    await first.close();
    const second = w.engine((stepfast) => stepfast.register(child));
    await second.dispatch('go', 'gone');
    await w.clock.advance('10 days');
    expect((await runsOf(second, 'child'))[0]).toMatchObject({ status: 'completed' });
    expect((await second.runs.get('p'))!.status).toBe('blocked'); // ready to go on, elsewhere (spec R5)
    await second.close();
    const third = w.engine(both);
    await third.ready();
    await w.clock.idle();
    expect(await third.runs.get('p')).toMatchObject({ status: 'completed', result: 'gone' });
  });

  it('E12: everything was closed when the child was ended from another context', async () => {
    const w = open();
    const define = (stepfast: Stepfast) => {
      const child = stepfast.job('child', ({ step }) => step.waitForEvent('never'));
      stepfast.job('parent', ({ step }) => step.call(child).catch((error: Error) => (error.cause as Error).name));
    };
    const before = w.engine(define);
    await before.start('parent', undefined, { id: 'p' });
    await w.clock.idle();
    w.crash(before);
    const stranger = w.engine();
    await stranger.runs.cancel((await runsOf(stranger, 'child'))[0]!.id);
    await stranger.close();
    const after = w.engine(define);
    await after.ready();
    await w.clock.idle();
    expect(await after.runs.get('p')).toMatchObject({ status: 'completed', result: 'StepfastError' });
  });

  it('E12: a child is not deleted before its parent could look, also where the parent is not known', async () => {
    const w = open();
    const child = defineJob('child', {}, async ({ step }: HandlerContext<undefined>) => {
      await step.waitForEvent('go');
      return 'done';
    });
    const both = (stepfast: Stepfast) => {
      stepfast.register(child);
      stepfast.job('parent', ({ step }) => step.call(child));
    };
    const first = w.engine(both);
    await first.start('parent', undefined, { id: 'p' });
    await w.clock.idle();
    await first.close();
    const second = w.engine((stepfast) => stepfast.register(child));
    await second.dispatch('go');
    await w.clock.idle();
    const { id } = (await runsOf(second, 'child'))[0]!;
    await expect(second.runs.delete(id)).rejects.toMatchObject({ code: 'RUN_ACTIVE', runId: id });
    await second.close();
    const third = w.engine(both);
    await third.ready();
    await w.clock.idle();
    expect(await third.runs.get('p')).toMatchObject({ status: 'completed', result: 'done' });
    await third.runs.delete(id);
  });
});

everyWay('children and runs.retry', (open) => {
  /** A child that fails until it is told otherwise, and a parent with a step before and after it. */
  const fragile = (w: World) => {
    const state = { isBroken: true };
    const child = defineJob('child', { retry: { maxAttempts: 1 } }, ({ step }: HandlerContext<undefined>) =>
      step.run('work', () => {
        w.log.push('work');
        if (state.isBroken) throw new Error('broken');
        return 'whole';
      }),
    );
    const both = (stepfast: Stepfast) => {
      stepfast.register(child);
      stepfast.job('parent', async ({ step }) => {
        await step.run('before', () => void w.log.push('before'));
        return step.call(child);
      });
    };
    return { state, both };
  };

  it.each([
    'has completed',
    'waits for an event',
  ])('F6: the retry of a parent whose child was retried before, and %s since, awaits that child', async (when) => {
    const w = open();
    let isDown = true;
    const define = (stepfast: Stepfast) => {
      stepfast.job('invoice', async ({ step }) => {
        await step.run('send', () => {
          if (isDown) throw new FatalError('down');
          w.log.push('sent');
        });
        if (when !== 'has completed') await step.waitForEvent('paid');
        return 'done';
      });
      stepfast.job('order', async ({ step }) => [await step.call('invoice'), await step.run('after', () => 'after')]);
    };
    const before = w.engine(define);
    await before.start('order', undefined, { id: 'o' });
    await w.clock.idle();
    isDown = false;
    const { runs } = await before.runs.list({ status: 'failed' });
    expect(runs.map(({ job }) => job)).toEqual(['invoice', 'order']);
    for (const { id } of runs) {
      await before.runs.retry(id);
      await w.clock.idle();
    }
    w.crash(before);
    const engine = w.engine(define);
    await engine.dispatch('paid');
    await w.clock.advance('1m');
    expect(await engine.runs.get('o')).toMatchObject({ status: 'completed', result: ['done', 'after'] });
    expect(w.log).toEqual(['sent']);
    expect((await engine.runs.list()).runs).toHaveLength(2);
  });

  it('F6: the retry of a parent whose child failed keeps its steps and starts a new child', async () => {
    const w = open();
    const f = fragile(w);
    const before = w.engine(f.both);
    const run = await before.start('parent', undefined, { id: 'p' });
    await w.clock.idle();
    expect(await before.runs.get('p')).toMatchObject({ status: 'failed', error: { step: 'child' } });
    f.state.isBroken = false;
    await run.retry();
    await w.clock.idle();
    expect(await before.runs.get('p')).toMatchObject({ status: 'completed', result: 'whole', waitingFor: [] });
    expect(w.log).toEqual(['before', 'work', 'work']);
    const children = await runsOf(before, 'child');
    expect(children.map(({ status }) => status)).toEqual(['completed', 'failed']);
    expect(children.map(({ parentId }) => parentId)).toEqual(['p', 'p']);
    w.crash(before);
    const after = w.engine(f.both);
    expect(await after.runs.get('p')).toMatchObject({ status: 'completed', result: 'whole' });
  });

  it('F6: a child that failed and is retried before its parent has looked is waited for again', async () => {
    const w = open();
    let isBroken = true;
    const sleeper = defineJob('child', { retry: { maxAttempts: 1 } }, async ({ step }: HandlerContext<undefined>) => {
      await step.waitForEvent('go');
      return step.run('work', () => {
        if (isBroken) throw new Error('broken');
        return 'whole';
      });
    });
    const both = (stepfast: Stepfast) => {
      stepfast.register(sleeper);
      stepfast.job('parent', ({ step }) => step.call(sleeper));
    };
    const first = w.engine(both);
    await first.start('parent', undefined, { id: 'p' });
    await w.clock.idle();
    await first.close();
    const second = w.engine((stepfast) => stepfast.register(sleeper));
    await second.dispatch('go');
    await w.clock.idle();
    const [failed] = await runsOf(second, 'child');
    expect(failed!.status).toBe('failed');
    isBroken = false;
    await second.runs.retry(failed!.id);
    await w.clock.idle();
    expect((await second.runs.get(failed!.id))!.status).toBe('completed');
    await second.close();
    const third = w.engine(both);
    await third.ready();
    await w.clock.idle();
    expect(await third.runs.get('p')).toMatchObject({ status: 'completed', result: 'whole' });
    expect(await runsOf(third, 'child')).toHaveLength(1);
  });

  it('F6: the parent takes the end of a child that it finds retried and still running, and no other', async () => {
    const w = open();
    let isBroken = true;
    const child = defineJob('child', { retry: { maxAttempts: 1 } }, async ({ step }: HandlerContext<undefined>) => {
      await step.waitForEvent('go');
      await step.run('work', () => {
        if (isBroken) throw new Error('broken');
      });
      await step.waitForEvent('end');
      return 'whole';
    });
    const both = (stepfast: Stepfast) => {
      stepfast.register(child);
      stepfast.job('parent', ({ step }) => step.call(child));
    };
    const first = w.engine(both);
    await first.start('parent', undefined, { id: 'p' });
    await w.clock.idle();
    await first.close();
    const second = w.engine((stepfast) => stepfast.register(child));
    await second.dispatch('go');
    await w.clock.idle();
    isBroken = false;
    await second.runs.retry((await runsOf(second, 'child'))[0]!.id);
    await w.clock.idle();
    await second.close();
    const third = w.engine(both);
    await third.ready();
    await w.clock.idle();
    expect(await third.runs.get('p')).toMatchObject({ status: 'waiting' });
    await third.dispatch('end');
    await w.clock.idle();
    expect(await third.runs.get('p')).toMatchObject({ status: 'completed', result: 'whole' });
  });

  it('F6: retried from a call, it and what follows run anew; what was before is kept', async () => {
    const w = open();
    let isBroken = true;
    const engine = w.engine((stepfast) => {
      const child = stepfast.job('child', {}, ({ payload, step }: HandlerContext<string>) =>
        step.run('work', () => w.log.push(payload)),
      );
      stepfast.job('parent', { retry: { maxAttempts: 1 } }, async ({ step }) => {
        const numbers = [
          await step.call(child, 'a', { name: 'first' }),
          await step.call(child, 'b', { name: 'second' }),
        ];
        await step.run('end', () => {
          if (isBroken) throw new Error('broken');
        });
        return numbers;
      });
    });
    const run = await engine.start('parent');
    await w.clock.idle();
    expect(await run.status()).toBe('failed');
    isBroken = false;
    await engine.runs.retry(run.id, { from: 'second' });
    await w.clock.idle();
    expect(await run.result()).toEqual([1, 3]);
    expect(w.log).toEqual(['a', 'b', 'b']);
    expect(await runsOf(engine, 'child')).toHaveLength(3);
  });
});
