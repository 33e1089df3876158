import { describe, expect, it } from 'vitest';
import { defineJob, type HandlerContext, type Stepfast } from '../src/index.js';
import { media, onEveryStore, world } from './harness.js';

// Pins: spec E12, F7, F9 and O1 with several contexts open at once; those that drive at once, on stores that allow it.

const runsOf = async (stepfast: Stepfast, job: string) => (await stepfast.runs.list({ job })).runs;

onEveryStore('one context drives, another has no job', (medium) => {
  const open = () => world(medium);

  it('E12: a parent here has a child ended, and cancelled, by a context that has no job at all', async () => {
    const w = open();
    const ours = w.engine((stepfast) => {
      const child = stepfast.job('child', ({ step }) => step.waitForEvent('never'));
      stepfast.job('parent', ({ step }) => step.call(child).catch((error: Error) => (error.cause as Error).message));
    });
    const run = await ours.start('parent');
    await w.clock.idle();
    const stranger = w.engine();
    await stranger.runs.cancel((await runsOf(stranger, 'child'))[0]!.id);
    expect(await run.result()).toMatch(/cancelled/);
  });

  it('F9: cancelling a parent aborts what its children and grandchildren have in flight in another context', async () => {
    const w = open();
    const signals: AbortSignal[] = [];
    const ends: (() => void)[] = [];
    const leaf = defineJob('leaf', {}, async ({ step, signal }: HandlerContext<undefined>) => {
      signals.push(signal);
      await step.run('work', (context) => {
        signals.push(context.signal);
        return new Promise<void>((resolve) => ends.push(resolve));
      });
      await step.run('after', () => void w.log.push('after'));
    });
    const driver = w.engine((stepfast) => {
      stepfast.register(leaf);
      const middle = stepfast.job('middle', ({ step }) => step.call(leaf));
      stepfast.job('top', ({ step }) => step.call(middle));
    });
    const run = await driver.start('top');
    await expect.poll(() => signals.length).toBe(2);
    const other = w.engine();
    await other.runs.cancel(run.id);
    await expect.poll(() => signals.map(({ aborted }) => aborted)).toEqual([true, true]);
    for (const job of ['top', 'middle', 'leaf']) expect((await runsOf(other, job))[0]!.status).toBe('cancelled');
    for (const end of ends) end();
    await w.clock.idle();
    expect(w.log).toEqual([]);
  });

  it('F7, F9: cancelled by a context that lacks the job, the run is undone by one that has it', async () => {
    const w = open();
    const driver = w.engine((stepfast) => {
      stepfast.job('order', async ({ step }) => {
        await step.run('reserve', () => 'r1', { undo: ({ result }) => void w.log.push(`undo ${result}`) });
        await step.waitForEvent('never');
      });
    });
    await driver.start('order', undefined, { id: 'o' });
    await w.clock.idle();
    const stranger = w.engine();
    await stranger.runs.cancel('o');
    expect((await stranger.runs.get('o'))!.status).toBe('cancelled'); // final, whoever may undo
    await expect.poll(() => w.log).toEqual(['undo r1']);
    await w.clock.idle();
    expect(await driver.runs.get('o')).not.toHaveProperty('undoing');
  });
});

for (const name of ['memory', 'indexeddb'] as const)
  describe(`children and parents in two contexts (${name})`, () => {
    const open = () => world(media[name]!);

    it('E12: the end of a child that another context drives wakes the parent here', async () => {
      const w = open();
      const child = defineJob('child', {}, async ({ step }: HandlerContext<undefined>) => {
        const { payload } = await step.waitForEvent<string>('go');
        return step.run('work', () => payload);
      });
      const theirs = w.engine((stepfast) => stepfast.register(child));
      await theirs.start('child', undefined, { id: 'c' });
      await w.clock.idle();
      const ours = w.engine((stepfast) => {
        stepfast.register(child);
        stepfast.job('parent', ({ step }) => step.call(child, undefined, { id: 'c' }));
      });
      const run = await ours.start('parent');
      await w.clock.idle();
      expect(await ours.runs.get(run.id)).toMatchObject({ status: 'waiting', waitingFor: [{ runId: 'c' }] });
      const { length } = await ours.runs.timeline('c');
      await theirs.dispatch('go', 'hello');
      expect(await run.result()).toBe('hello');
      const claims = (await ours.runs.timeline('c')).slice(length).filter(({ kind }) => kind === 'claimed');
      expect(claims).toEqual([]); // the other context has driven it to its end
    });

    it('O1, E12: two contexts drive many families at once, and every step runs once', async () => {
      const w = open();
      const define = (stepfast: Stepfast) => {
        const child = stepfast.job('child', {}, async ({ payload, step }: HandlerContext<string>) => {
          await step.run('first', () => void w.log.push(`${payload} first`));
          await step.run('second', () => void w.log.push(`${payload} second`));
          return payload.toUpperCase();
        });
        stepfast.job<string>('parent', ({ payload, step }) =>
          Promise.all(['a', 'b', 'c'].map((each) => step.call(child, `${payload}${each}`))),
        );
      };
      const engines = [w.engine(define), w.engine(define)];
      const runs = await Promise.all(
        Array.from({ length: 8 }, (_, index) => engines[index % 2]!.start('parent', String(index))),
      );
      for (const [index, run] of runs.entries())
        expect(await run.result()).toEqual(['A', 'B', 'C'].map((each) => `${index}${each}`));
      expect(w.log).toHaveLength(8 * 3 * 2);
      expect(new Set(w.log).size).toBe(w.log.length);
      expect(w.errors).toEqual([]);
    });

    it('E12: the context that drove the parent dies while the child runs elsewhere: who has both jobs goes on', async () => {
      const w = open();
      const child = defineJob('child', {}, async ({ step }: HandlerContext<undefined>) => {
        await step.waitForEvent('go');
        return 'done';
      });
      const both = (stepfast: Stepfast) => {
        stepfast.register(child);
        stepfast.job('parent', ({ step }) => step.call(child, undefined, { id: 'c' }));
      };
      const theirs = w.engine((stepfast) => stepfast.register(child));
      await theirs.start('child', undefined, { id: 'c' });
      await w.clock.idle();
      const first = w.engine(both);
      await first.start('parent', undefined, { id: 'p' });
      await w.clock.idle();
      w.crash(first);
      await theirs.dispatch('go');
      await w.clock.idle();
      expect((await theirs.runs.get('c'))!.status).toBe('completed');
      expect((await theirs.runs.get('p'))!.status).toBe('blocked'); // ready, and its job is not here
      const second = w.engine(both);
      await second.ready();
      await w.clock.advance('10s');
      expect(await second.runs.get('p')).toMatchObject({ status: 'completed', result: 'done' });
    });

    it('F7, O1: of two contexts that have the job, one undoes', async () => {
      for (let round = 0; round < 5; round++) {
        const w = open();
        const define = (stepfast: Stepfast) => {
          stepfast.job('order', async ({ step }) => {
            for (const part of ['a', 'b', 'c'])
              await step.run(part, () => part, { undo: ({ result }) => void w.log.push(`undo ${result}`) });
            await step.waitForEvent('never');
          });
        };
        const engines = [w.engine(define), w.engine(define)];
        await engines[0]!.start('order', undefined, { id: 'o' });
        await engines[1]!.ready();
        await w.clock.idle();
        await engines[round % 2]!.runs.cancel('o');
        await expect.poll(() => w.log.length).toBe(3);
        await w.clock.advance('1m');
        expect(w.log).toEqual(['undo c', 'undo b', 'undo a']);
        expect(await engines[0]!.runs.get('o')).not.toHaveProperty('undoing');
      }
    });

    it('F7, O2: the context that undoes dies in the middle: the other one goes on with the rest', async () => {
      const w = open();
      let isStuck = true;
      const define = (who: string) => (stepfast: Stepfast) => {
        stepfast.job('order', async ({ step }) => {
          for (const part of ['a', 'b', 'c'])
            await step.run(part, () => part, {
              async undo({ result }) {
                w.log.push(`${who} ${result}`);
                if (result === 'b' && isStuck) await new Promise(() => undefined);
              },
            });
          await step.waitForEvent('never');
        });
      };
      const first = w.engine(define('first'));
      await first.start('order', undefined, { id: 'o' });
      await w.clock.idle();
      const second = w.engine(define('second'));
      await second.ready();
      await first.runs.cancel('o');
      await expect.poll(() => w.log.length).toBe(2);
      expect((await second.runs.get('o'))!.undoing).toBe(true);
      const [who] = w.log[0]!.split(' ');
      isStuck = false;
      w.crash(who === 'first' ? first : second);
      await w.clock.advance('1m');
      const other = who === 'first' ? 'second' : 'first';
      expect(w.log).toEqual([`${who} c`, `${who} b`, `${other} b`, `${other} a`]);
    });
  });
