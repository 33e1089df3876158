import { expect, it } from 'vitest';
import { FatalError, type Stepfast } from '../src/index.js';
import { everyWay } from './crash-everywhere.js';
import type { World } from './harness.js';

// Pins: spec F5 for what follows the end of a run: an undo, or `onFailed`, that kills its context is given up in the end.

const never = () => new Promise<never>(() => undefined);
const soon = () => new Promise<void>((resolve) => setTimeout(resolve, 0));
const fatal = () => {
  throw new FatalError('no way');
};
const kindsOf = async (stepfast: Stepfast, id: string, kinds: RegExp) =>
  (await stepfast.runs.timeline(id)).filter(({ kind }) => kinds.test(kind)).map(({ kind, name }) => `${kind} ${name}`);

/** Opens the app again and again; each time it dies as soon as one more line is logged, until nothing more comes. */
async function dieAgainAndAgain(
  w: World,
  define: (stepfast: Stepfast) => void,
  isOver: (stepfast: Stepfast) => Promise<boolean>,
) {
  for (let deaths = 0; ; deaths++) {
    const lines = w.log.length;
    const engine = w.engine(define);
    await engine.ready();
    let ends = false;
    await expect.poll(async () => (ends = await isOver(engine)) || w.log.length > lines).toBe(true);
    if (ends) return { engine, deaths };
    if (deaths > 40) throw new Error('it is never given up');
    w.crash(engine);
  }
}
const hasEnded = (id: string) => async (stepfast: Stepfast) => {
  const run = await stepfast.runs.get(id);
  return run?.endedAt !== undefined && !run.undoing;
};

everyWay('an undo that kills its context', (open) => {
  const poisonous = (w: World, undone: string[]) => (stepfast: Stepfast) => {
    stepfast.job('order', async ({ step }) => {
      await step.run('a', () => 'A', { undo: ({ result }) => void undone.push(`undo ${result}`) });
      await step.run('b', () => 'B', {
        undo() {
          w.log.push('bite');
          return never();
        },
      });
      await step.run('c', fatal);
    });
  };

  it('F5, F7: is given up after ten interruptions in a row, reported, and the others are undone', async () => {
    const w = open();
    const undone: string[] = [];
    const define = poisonous(w, undone);
    const first = w.engine(define);
    await first.start('order', undefined, { id: 'o' });
    await expect.poll(() => w.log.length).toBe(1);
    w.crash(first);
    const { engine, deaths } = await dieAgainAndAgain(w, define, hasEnded('o'));
    expect(deaths).toBe(9);
    expect(w.log).toHaveLength(10);
    expect(undone).toEqual(['undo A']);
    expect(await kindsOf(engine, 'o', /^undo(ne|-failed)/)).toEqual(['undo-failed b', 'undone a']);
    const given = (await engine.runs.timeline('o')).find(({ kind }) => kind === 'undo-failed');
    expect(given).toMatchObject({ name: 'b', error: { code: 'CRASH_LOOP' } });
    expect(w.errors.filter((error) => (error as { code?: string }).code === 'CRASH_LOOP')).toHaveLength(1);
    expect(await engine.runs.get('o')).toMatchObject({ status: 'failed', error: { step: 'c' } });
  });

  it('F5: maxInterruptions says how often, for each undo anew', async () => {
    const w = open();
    const define = (stepfast: Stepfast) => {
      stepfast.job('order', { maxInterruptions: 2 }, async ({ step }) => {
        for (const name of ['a', 'b'])
          await step.run(name, () => name, {
            undo: ({ result, attempt }) => {
              w.log.push(`bite ${result} ${attempt}`);
              return never();
            },
          });
        await step.run('c', fatal);
      });
    };
    const first = w.engine(define);
    await first.start('order', undefined, { id: 'o' });
    await expect.poll(() => w.log.length).toBe(1);
    w.crash(first);
    const { engine } = await dieAgainAndAgain(w, define, hasEnded('o'));
    expect(w.log).toEqual(['bite b 1', 'bite b 2', 'bite a 1', 'bite a 2']); // spec R2: what was cut off has a higher attempt
    expect(await kindsOf(engine, 'o', /^undo(ne|-failed)/)).toEqual(['undo-failed b', 'undo-failed a']);
  });

  it('F5, F6: onFailed is given up in the same way, and named in the report', async () => {
    const w = open();
    const define = (stepfast: Stepfast) => {
      const onFailed = () => {
        w.log.push('bite');
        return never();
      };
      stepfast.job('order', { maxInterruptions: 3, onFailed }, fatal);
    };
    const first = w.engine(define);
    await first.start('order', undefined, { id: 'o' });
    await expect.poll(() => w.log.length).toBe(1);
    w.crash(first);
    await dieAgainAndAgain(w, define, hasEnded('o'));
    expect(w.log).toHaveLength(3);
    const said = w.errors.filter((error) => (error as { code?: string }).code === 'CRASH_LOOP').map(String);
    expect(said).toEqual([expect.stringMatching(/onFailed of job "order"/)]);
  });

  it('F5: interruptions of the run before its end do not count against its undos', async () => {
    const w = open();
    const undone: string[] = [];
    const define = (stepfast: Stepfast) => {
      stepfast.job('order', { maxInterruptions: 3 }, ({ step }) =>
        step.run(
          'a',
          () => {
            w.log.push('bite');
            return never();
          },
          { undo: ({ result, attempt }) => void undone.push(`undo ${result} ${attempt}`) },
        ),
      );
    };
    const first = w.engine(define);
    await first.start('order', undefined, { id: 'o' });
    await expect.poll(() => w.log.length).toBe(1);
    w.crash(first);
    const { engine } = await dieAgainAndAgain(w, define, hasEnded('o'));
    expect(await engine.runs.get('o')).toMatchObject({ status: 'failed', error: { code: 'CRASH_LOOP' } });
    expect(undone).toEqual(['undo undefined 1']); // an attempt of unknown outcome (spec F7)
  });

  it('F5: a crash while an undo only waits for its next attempt is no interruption', async () => {
    const w = open();
    const define = (stepfast: Stepfast) => {
      const retry = { initialDelay: '1h', jitter: false } as const;
      stepfast.job('order', { maxInterruptions: 1, retry }, async ({ step }) => {
        await step.run('a', () => 'A', {
          undo({ attempt }) {
            w.log.push(`undo ${attempt}`);
            if (attempt === 1) throw new Error('not yet');
          },
        });
        await step.run('b', fatal);
      });
    };
    let engine = w.engine(define);
    await engine.start('order', undefined, { id: 'o' });
    await w.clock.idle();
    for (let crash = 0; crash < 3; crash++) {
      w.crash(engine);
      engine = w.engine(define);
      await engine.ready();
      await w.clock.idle();
    }
    expect(w.log).toEqual(['undo 1']);
    await w.clock.advance('1h');
    expect(await kindsOf(engine, 'o', /^undo(ne|-failed)/)).toEqual(['undone a']);
    expect(w.log).toEqual(['undo 1', 'undo 2']);
  });

  it('F5: an innocent undo, and an innocent step, beside a poisonous undo are not given up with it', async () => {
    const w = open();
    const done: string[] = [];
    /** Long enough to be in flight when the context dies, whenever it is in flight beside what kills it. */
    const work = async (name: string) => {
      for (let turn = 0; turn < 60; turn++) await soon();
      done.push(name);
    };
    const define = (stepfast: Stepfast) => {
      poisonous(w, done)(stepfast);
      stepfast.job('innocent', async ({ step }) => {
        await step.run('a', () => 'A', { undo: () => work('undo') });
        await step.run('b', fatal);
      });
      stepfast.job('worker', ({ step }) => step.run('work', () => work('work')));
    };
    const isOver = hasEnded('order');
    let engine = w.engine(define);
    for (const job of ['order', 'innocent', 'worker']) await engine.start(job, undefined, { id: job });
    for (let bites = 0; bites < 40; bites++) {
      await expect.poll(async () => w.log.length > bites || (await isOver(engine))).toBe(true);
      if (w.log.length === bites) break;
      for (let turn = 0; turn < 20; turn++) await soon(); // what may begin beside it has begun
      w.crash(engine);
      engine = w.engine(define);
      await engine.ready();
    }
    await w.clock.idle();
    expect(await kindsOf(engine, 'order', /^undo(ne|-failed)/)).toEqual(['undo-failed b', 'undone a']);
    expect(await kindsOf(engine, 'innocent', /^undo(ne|-failed)/)).toEqual(['undone a']);
    expect(await engine.runs.get('worker')).toMatchObject({ status: 'completed' });
    expect([...new Set(done)].sort()).toEqual(['undo', 'undo A', 'work']);
  });
});
