import { expect, it } from 'vitest';
import { defineJob, FatalError, type HandlerContext, type Stepfast } from '../src/index.js';
import { crashEverywhere, everyWay } from './crash-everywhere.js';
import type { World } from './harness.js';

// Pins: spec F9 and E12: cancelling a run, and its children with it, for good.

const runsOf = async (stepfast: Stepfast, job: string) => (await stepfast.runs.list({ job })).runs;
const statusesOf = async (stepfast: Stepfast, ...jobs: string[]) =>
  (await Promise.all(jobs.map((job) => runsOf(stepfast, job)))).flat().map(({ status }) => status as string);

/** top calls middle, middle calls one leaf and starts another; leaves wait for an event, then say so. */
const family = (w: World) => (stepfast: Stepfast) => {
  const leaf = stepfast.job('leaf', async ({ step }) => {
    await step.waitForEvent('go');
    await step.run('after', () => void w.log.push('leaf'));
  });
  const middle = stepfast.job('middle', async ({ step }) => {
    await step.start(leaf, undefined, { name: 'other' });
    await step.call(leaf);
    await step.run('after', () => void w.log.push('middle'));
  });
  stepfast.job('top', async ({ step }) => {
    await step.call(middle);
    await step.run('after', () => void w.log.push('top'));
  });
};
const FAMILY = ['top', 'middle', 'leaf'];

everyWay('cancelling a family', (open) => {
  it('F9: children are cancelled with their parent, over two levels, and nothing revives them', async () => {
    const w = open();
    const before = w.engine(family(w));
    const run = await before.start('top');
    await w.clock.idle();
    expect(await statusesOf(before, ...FAMILY)).toEqual(['waiting', 'waiting', 'waiting', 'waiting']);
    await run.cancel();
    const cancelled = await Promise.all(FAMILY.map((job) => runsOf(before, job)));
    for (const each of cancelled.flat())
      expect(each).toMatchObject({ status: 'cancelled', endedAt: w.clock.now(), waitingFor: [] });
    expect((await before.dispatch('go')).resumed).toEqual([]);
    await w.clock.advance('1m');
    w.crash(before);
    const after = w.engine(family(w));
    await after.ready();
    expect((await after.dispatch('go')).resumed).toEqual([]);
    await w.clock.advance('1h');
    expect(await Promise.all(FAMILY.map((job) => runsOf(after, job)))).toEqual(cancelled);
    for (const { id } of cancelled.flat()) {
      const kinds = (await after.runs.timeline(id)).map(({ kind }) => kind);
      expect(kinds.filter((kind) => kind === 'cancelled')).toHaveLength(1);
      expect(kinds.at(-1)).toBe('cancelled');
    }
    expect(w.log).toEqual([]);
    expect(w.errors).toEqual([]);
  });

  it('F9: a context without any of the jobs cancels them all', async () => {
    const w = open();
    const before = w.engine(family(w));
    const { id } = await before.start('top');
    await w.clock.idle();
    await before.close();
    const stranger = w.engine();
    await stranger.runs.cancel(id);
    expect(await statusesOf(stranger, ...FAMILY)).toEqual(Array(4).fill('cancelled'));
    await stranger.close();
    const after = w.engine(family(w));
    expect((await after.dispatch('go')).resumed).toEqual([]);
    await w.clock.advance('1h');
    expect(await statusesOf(after, ...FAMILY)).toEqual(Array(4).fill('cancelled'));
    expect(w.log).toEqual([]);
  });

  it('F9: the signals of a child and a grandchild abort, and what they return later is not kept', async () => {
    const w = open();
    const signals = new Map<string, AbortSignal>();
    const ends: (() => void)[] = [];
    const engine = w.engine((stepfast) => {
      const hang = (name: string, signal: AbortSignal) => {
        signals.set(name, signal);
        return new Promise<void>((resolve) => ends.push(resolve));
      };
      const leaf = stepfast.job('leaf', async ({ step }) => {
        await step.run('hang', ({ signal }) => hang('leaf', signal));
        await step.run('after', () => void w.log.push('leaf'));
      });
      const middle = stepfast.job('middle', async ({ step, signal }) => {
        signals.set('handler of middle', signal);
        const called = step.call(leaf);
        await step.run('hang', (context) => hang('middle', context.signal));
        await called;
        w.log.push('middle');
      });
      stepfast.job('top', ({ step }) => step.call(middle));
    });
    const run = await engine.start('top');
    await expect.poll(() => signals.size).toBe(3);
    await run.cancel();
    await expect.poll(() => [...signals.values()].map(({ aborted }) => aborted)).toEqual([true, true, true]);
    for (const end of ends) end();
    await w.clock.advance('1h');
    expect(w.log).toEqual([]);
    for (const job of FAMILY) {
      const [found] = await runsOf(engine, job);
      expect(found!.status).toBe('cancelled');
      expect((await engine.runs.timeline(found!.id)).at(-1)!.kind).toBe('cancelled');
    }
    expect(w.errors).toEqual([]);
  });

  it('F9: children that are scheduled, sleeping or retrying are cancelled too; one that has ended stays as it is', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const child = stepfast.job('child', {}, async ({ payload, step }: HandlerContext<string>) => {
        if (payload === 'quick') return 'done';
        if (payload === 'sleeping') await step.sleep('nap', '1h');
        await step.run('call', ({ attempt }) => {
          if (payload === 'retrying' && attempt === 1) throw new Error('no');
          w.log.push(payload);
        });
        return 'late';
      });
      stepfast.job('top', ({ step }) =>
        Promise.all([
          step.call(child, 'quick', { id: 'quick' }),
          step.call(child, 'sleeping', { id: 'sleeping' }),
          step.call(child, 'retrying', { id: 'retrying', retry: { initialDelay: '1m' } }),
          step.call(child, 'scheduled', { id: 'scheduled', delay: '1h' }),
        ]),
      );
    });
    const run = await engine.start('top');
    await w.clock.idle();
    for (const id of ['sleeping', 'retrying', 'scheduled']) expect((await engine.runs.get(id))!.status).toBe(id);
    await run.cancel();
    await w.clock.advance('1 day');
    expect(await engine.runs.get('quick')).toMatchObject({ status: 'completed', result: 'done' });
    for (const id of ['sleeping', 'retrying', 'scheduled'])
      expect((await engine.runs.get(id))!.status).toBe('cancelled');
    expect(w.log).toEqual([]);
  });

  it('F9: cancelling a child, or a run that has ended, leaves the others alone', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const child = stepfast.job('child', async ({ step }) => {
        await step.waitForEvent('go');
        return 'done';
      });
      stepfast.job('parent', async ({ step }) => {
        const other = await step.start(child, undefined, { id: 'other' });
        const end = await step.call(child, undefined, { id: 'called' }).catch(() => 'caught');
        return [other.id, end];
      });
    });
    const run = await engine.start('parent');
    await w.clock.idle();
    await engine.runs.cancel('called');
    await w.clock.idle();
    expect(await run.result()).toEqual(['other', 'caught']);
    await run.cancel(); // it has ended: its child is on its own
    expect((await engine.runs.get('other'))!.status).toBe('waiting');
    await engine.dispatch('go');
    await w.clock.idle();
    expect((await engine.runs.get('other'))!.status).toBe('completed');
    expect(await run.status()).toBe('completed');
  });

  it('F9: a run that it only attached to is not its child, and goes on', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const child = stepfast.job('child', ({ step }) => step.waitForEvent('go'));
      stepfast.job('parent', ({ step }) => step.call(child, undefined, { id: 'c' }));
    });
    await engine.start('child', undefined, { id: 'c' });
    const run = await engine.start('parent');
    await w.clock.idle();
    await run.cancel();
    expect((await engine.runs.get('c'))!.status).toBe('waiting');
    expect((await engine.dispatch('go')).resumed).toEqual(['c']);
  });

  it('E6, F9: a wait that cancels its run cancels the children of the run', async () => {
    const w = open();
    const signals: AbortSignal[] = [];
    const engine = w.engine((stepfast) => {
      const child = stepfast.job('child', ({ step }) =>
        step.run('hang', ({ signal }) => {
          signals.push(signal);
          return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
        }),
      );
      stepfast.job('parent', async ({ step }) => {
        const called = step.call(child);
        await step.waitForEvent('go', { timeout: '1h', onTimeout: 'cancel' });
        return called;
      });
    });
    const run = await engine.start('parent');
    await expect.poll(() => signals.length).toBe(1);
    await w.clock.advance('1h');
    expect(await run.status()).toBe('cancelled');
    expect(await statusesOf(engine, 'child')).toEqual(['cancelled']);
    expect(signals.map(({ aborted }) => aborted)).toEqual([true]);
  });

  it.each([
    ['before', 'cancelled'],
    ['after', 'failed'],
  ])('F7, F9: a child whose parent is cancelled just %s its failure is durable has %s, and is undone', async (when, status) => {
    const w = open();
    const store = w.store();
    const { commit } = store;
    store.commit = async (batch) => {
      if (!batch.run?.append.some(({ kind }) => kind === 'failed')) return commit.call(store, batch);
      if (when === 'before') await engine.runs.cancel('p');
      const outcome = await commit.call(store, batch);
      if (when === 'after') await engine.runs.cancel('p');
      return outcome;
    };
    const engine = w.engine(
      (stepfast) => {
        const child = stepfast.job('child', async ({ step }) => {
          await step.run('a', () => 1, { undo: () => void w.log.push('undo') });
          await step.run('b', () => {
            throw new FatalError('no');
          });
        });
        stepfast.job('parent', ({ step }) => step.call(child));
      },
      { store },
    );
    const run = await engine.start('parent', undefined, { id: 'p' });
    await expect.poll(() => run.status()).toBe('cancelled');
    await w.clock.idle();
    const [child] = await runsOf(engine, 'child');
    expect(child).toMatchObject({ status });
    expect(child).not.toHaveProperty('undoing');
    expect(w.log).toEqual(['undo']);
  });

  it('F9: two cancels at once, and one more, are one', async () => {
    const w = open();
    const engine = w.engine(family(w));
    const run = await engine.start('top');
    await w.clock.idle();
    await Promise.all([run.cancel(), engine.runs.cancel(run.id)]);
    const timeline = await engine.runs.timeline(run.id);
    expect(timeline.filter(({ kind }) => kind === 'cancelled')).toHaveLength(1);
    await w.clock.advance('1m');
    await run.cancel();
    expect(await engine.runs.timeline(run.id)).toEqual(timeline);
    await expect(run.result()).rejects.toMatchObject({ code: 'RUN_CANCELLED', runId: run.id });
    await expect(run.retry()).rejects.toMatchObject({ code: 'RUN_NOT_FAILED' });
  });
});

everyWay(
  'cancelling a family over crashes',
  (open) => {
    it('F9: whichever commit the context dies at, parent and children end cancelled, or none does', async () => {
      const leaf = (w: World) =>
        defineJob('leaf', {}, async ({ step }: HandlerContext<undefined>) => {
          await step.run('begin', () => void w.log.push('begin'));
          await step.waitForEvent('go');
          await step.run('after', () => void w.log.push('after'));
        });
      await crashEverywhere(open, {
        define(stepfast, w) {
          const made = leaf(w);
          stepfast.register(made);
          stepfast.job('top', ({ step }) => step.call(made));
        },
        async play(stepfast, w) {
          const run = await stepfast.start('top', undefined, { id: 'top' });
          await w.clock.idle();
          await run.cancel();
          expect(await statusesOf(stepfast, 'top', 'leaf')).toEqual(['cancelled', 'cancelled']);
          await stepfast.dispatch('go');
          await w.clock.idle();
        },
        async check(stepfast, w, where) {
          expect(await statusesOf(stepfast, 'top', 'leaf'), where).toEqual(['cancelled', 'cancelled']);
          expect(w.log, where).not.toContain('after');
          expect(await stepfast.runs.get('top'), where).not.toHaveProperty('undoing');
        },
      });
    });
  },
  { isLong: true },
);
