import { describe, expect, it } from 'vitest';
import type { HandlerContext, JobOptions, Stepfast } from '../src/index.js';
import { StepfastError } from '../src/index.js';
import { codeOf, gate, hands, kindsOf, never, play, settle, soon } from './hand-kit.js';

// Pins: the handler of a run, brought to where the facts are in one round (spec R5, R8, R11, R12): what is recorded beside its
// end or its fault, what is not, and in which commit.

type Context = HandlerContext<string>;
type World = ReturnType<typeof hands>;
const job =
  (handler: (context: Context) => unknown, options: JobOptions = {}) =>
  (stepfast: Stepfast) =>
    stepfast.job('job', options, handler as never);
const statusOf = (h: World) => h.row('r')!.status;
const ended = (h: World) => h.journal('r').flatMap((entry) => (entry.kind === 'step-completed' ? [entry.id[0]] : []));

describe('a fault of the handler', () => {
  it('R5: is not its end, though it goes on and throws: the run waits for other code', async () => {
    const { h, engine } = await play(({ step }) => {
      void step.run('', () => 1);
      throw new Error('of the handler');
    });
    expect([(await engine.runs.get('r'))!.status, h.kinds('r')]).toEqual(['blocked', ['started']]);
    await soon(engine.close());
  });

  it('R5: lets nothing of it go on that waited for what ends beside it', async () => {
    const inside = gate();
    const log: string[] = [];
    const { h, engine } = await play(async ({ step }) => {
      void step.run('slow', () => inside.promise).then(() => log.push('went on'));
      await step.run('a', () => 1);
      void step.run('', () => 2);
      await never();
    });
    inside.open();
    await settle();
    expect([ended(h), log]).toEqual([['a', 'slow'], []]);
    await soon(engine.close());
  });

  it('R5, D8: refuses numbers that its functions wait for: nothing is counted for it', async () => {
    const [before, inside] = [gate(), gate()];
    const heard: unknown[] = [];
    const { h, engine } = await play(async ({ step }) => {
      void step.run('before', () => before.promise);
      void step.run('counts', async ({ state }) => {
        await inside.promise;
        await state.increment('n').catch((error: unknown) => heard.push(error));
      });
      await step.run('a', () => inside.promise);
      void step.run('', () => 1);
      await never();
    });
    const held = gate();
    engine.own.onCommit = async (batch, pass) => {
      if (batch.run) await held.promise;
      return pass();
    };
    before.open();
    await settle();
    inside.open(); // while a commit is under way: the next round hears of both
    await settle();
    held.open();
    await settle();
    expect(heard).toEqual([codeOf('INVALID_NAME')]);
    expect([ended(h), await engine.state.get('n')]).toEqual([['before', 'a', 'counts'], undefined]);
    await soon(engine.close());
  });

  it('R11: that does not come again leaves no trace: outcomes go with what the handler asks for in reaction', async () => {
    let isBad = true;
    const { h, engine } = await play(async ({ step }) => {
      await step.run('a', () => 1);
      if (isBad) {
        isBad = false;
        void step.run('', () => 2);
      }
      await step.run('b', () => 3);
      await step.sleep('s', '1h');
    });
    const commits = engine.own.batches.map((batch) => kindsOf(batch)).filter((kinds) => kinds.length);
    expect(commits).toEqual([['claimed'], ['step-completed'], ['step-completed', 'sleep-set']]);
    expect(statusOf(h)).toBe('sleeping');
    await soon(engine.close());
  });
});

describe('a handler that has ended', () => {
  it('R8: waits for no further attempt of what it has not awaited, also in a run that was interrupted', async () => {
    const inside = gate();
    const h = hands();
    const first = h.engine(job(({ step }) => step.run('slow', never)));
    await first.start('job', 'p', { id: 'r' });
    await settle();
    first.own.abandon!();
    const fails = async () => {
      await inside.promise;
      throw new Error('not yet');
    };
    const second = h.engine(job(({ step }) => void step.run('slow', fails)));
    await second.ready();
    await settle();
    expect(statusOf(h)).toBe('running');
    inside.open();
    await settle();
    expect(h.kinds('r').slice(-2)).toEqual(['attempt-failed', 'completed']);
    await soon(second.close());
  });

  it('R8: what ends while it looks into an event, of which it then ends, is recorded before its end', async () => {
    const [inside, looked] = [gate(), gate()];
    let looks = 0;
    const schema = {
      '~standard': {
        version: 1 as const,
        vendor: 'test',
        async validate(value: unknown) {
          looks++;
          await looked.promise;
          return { value };
        },
      },
    };
    const { h, engine, run } = await play(async ({ step }) => {
      void step.run('slow', () => inside.promise);
      return (await step.waitForEvent('go', { schema })).payload;
    });
    await engine.dispatch('go', 'of it');
    await settle();
    expect(looks).toBe(1);
    inside.open();
    await settle();
    looked.open();
    expect(await soon(run.result())).toBe('of it');
    expect([ended(h), h.kinds('r').at(-1)]).toEqual([['slow'], 'completed']);
    await soon(engine.close());
  });

  it('D5: backs off though the answer was lost that said so; who waits for a number of an attempt hears that it is over', async () => {
    const heard: unknown[] = [];
    let tries = 0;
    const h = hands();
    const engine = h.engine(
      job(
        async ({ step }) => {
          await step.run('a', ({ state }) => {
            void state.increment('n').catch((error: unknown) => heard.push(error));
          });
          if (++tries === 1) throw new Error('once');
          return tries;
        },
        { retry: { initialDelay: '1m', jitter: false } },
      ),
    );
    let isLost = false;
    engine.own.onCommit = async (batch, pass) => {
      const outcome = await pass();
      if (isLost || !kindsOf(batch).includes('handler-failed')) return outcome;
      isLost = true;
      throw new StepfastError('STORE_UNAVAILABLE', 'The answer was lost.');
    };
    const run = await engine.start('job', 'p', { id: 'r' });
    await settle();
    await h.impatient(1_000);
    expect([heard, tries]).toEqual([[new Error('The attempt is over.')], 1]);
    await h.advance(60_000);
    expect([await soon(run.result()), await engine.state.get('n')]).toEqual([2, 1]);
    await soon(engine.close());
  });
});

describe('a run that has ended', () => {
  it('R12, D8: counts no number that is asked for in the round which has ended it', async () => {
    const inside = gate();
    const { h, engine } = await play(
      ({ step }) =>
        Promise.all([
          step.run('a', () => 1),
          step.run('b', () => inside.promise),
          step.run('counts', async ({ state }) => {
            await inside.promise;
            await state.increment('n');
          }),
        ]),
      {},
      { maxOutcomes: 1 },
    );
    inside.open();
    await settle();
    expect(h.kinds('r').slice(2)).toEqual(['step-completed', 'failed']);
    expect(await engine.state.get('n')).toBeUndefined();
    await soon(engine.close());
  });
});
