import { describe, expect, it } from 'vitest';
import { FatalError, type Stepfast, StepfastError } from '../src/index.js';
import { away, codeOf, gate, hands, kindsOf, never, settle, soon } from './hand-kit.js';

// Pins: what becomes of a run in memory when the answer to a commit is late or lost (spec D3, D5).

describe('a commit whose answer was lost', () => {
  it('F9, O1: is not taken for the claim of a run that was ended from outside meanwhile, and names its owner', async () => {
    const h = hands();
    const log: string[] = [];
    const engine = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        await step.run('a', () => 1, { undo: () => void log.push('undo a') });
        await step.run('b', never, { undo: () => void log.push('undo b') });
      }),
    );
    let isBad = true;
    engine.own.onCommit = async (batch, pass) => {
      if (!isBad || !kindsOf(batch).includes('step-completed')) return pass();
      isBad = false;
      await pass();
      h.lostHints();
      await h.engine().runs.cancel('r');
      throw new StepfastError('STORE_UNAVAILABLE', 'The answer was lost.');
    };
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    const { fence } = h.row('r')!;
    engine.own.batches.length = 0;
    await h.impatient();
    await h.advance(60_000);
    await h.impatient();
    const [first] = engine.own.batches.filter(({ run }) => run?.runId === 'r');
    expect(first?.run).toMatchObject({ fence, raise: true }); // it claims, and writes nothing before
    expect([log, h.kinds('r').slice(-4)]).toEqual([
      ['undo b', 'undo a'],
      ['cancelled', 'claimed', 'undone', 'undone'],
    ]);
    await soon(engine.close());
  });
});

describe('after an answer that was lost', () => {
  const open = (log: string[], define?: (stepfast: Stepfast) => unknown) => {
    const h = hands();
    const engine = h.engine(
      define ??
        ((stepfast) =>
          stepfast.job('job', async ({ step }) => {
            await step.run('a', () => void log.push('a'), { undo: () => void log.push('undo a') });
            await step.waitForEvent('go');
            await step.run('b', () => void log.push('b'));
          })),
    );
    return { h, engine };
  };
  /** The answer to the commit with this entry is lost; `meanwhile` comes before the run is looked at again. */
  const losing = async (kind: string, meanwhile: (h: ReturnType<typeof hands>) => unknown, isDone = true) => {
    const log: string[] = [];
    const { h, engine } = open(log);
    let isLost = false;
    engine.own.onCommit = async (batch, pass) => {
      if (isLost || !kindsOf(batch).includes(kind)) return pass();
      isLost = true;
      if (isDone) await pass();
      throw away();
    };
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect([isLost, h.errors]).toEqual([true, [codeOf('STORE_UNAVAILABLE')]]);
    await meanwhile(h);
    await h.impatient(1_000);
    return { h, engine, log };
  };

  it('D5: a run that was cancelled meanwhile is left, and undone by whoever finds it', async () => {
    const { h, engine, log } = await losing('step-completed', (h) => h.engine().runs.cancel('r'));
    await h.advance(3_000);
    expect(h.row('r')).toMatchObject({ status: 'cancelled' });
    expect(h.row('r')!.undoing).toBeUndefined();
    expect(log).toEqual(['a', 'undo a']);
    expect(h.kinds('r').filter((kind) => kind === 'step-completed')).toHaveLength(1);
    await soon(engine.close());
  });

  it('D5, F7: of a run whose end was told by that answer, the steps are undone', async () => {
    const log: string[] = [];
    const { h, engine } = open(log, (stepfast) =>
      stepfast.job('job', async ({ step }) => {
        await step.run('a', () => 1, { undo: () => void log.push('undo a') });
        throw new FatalError('no way');
      }),
    );
    let isLost = false;
    engine.own.onCommit = async (batch, pass) => {
      const outcome = await pass();
      if (isLost || !kindsOf(batch).includes('failed')) return outcome;
      isLost = true;
      throw away();
    };
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    await h.impatient(1_000);
    expect([log, h.row('r')!.undoing, h.row('r')!.fence]).toEqual([['undo a'], undefined, 1]);
    await soon(engine.close());
  });

  it('V1: who waits for a result hears of the end whose answer was lost', async () => {
    const { h, engine } = open([], (stepfast) => stepfast.job('job', ({ step }) => step.run('a', () => 'done')));
    engine.own.onCommit = async (batch, pass) => {
      const outcome = await pass();
      if (kindsOf(batch).includes('completed')) throw away();
      return outcome;
    };
    const run = await engine.start('job', undefined, { id: 'r' });
    let result: unknown;
    void run.result().then((value) => (result = value));
    await settle();
    expect(h.errors).toHaveLength(1);
    await h.impatient(1_000);
    expect(result).toBe('done');
    await soon(engine.close());
  });

  it('V3: what is said twice is told twice, where only one of both is durable', async () => {
    const log: string[] = [];
    const inside = gate();
    const { h, engine } = open(log, (stepfast) =>
      stepfast.job('job', ({ step }) =>
        step.run('a', async ({ log: told, progress }) => {
          told.info('the same');
          progress('half');
          await inside.promise;
          told.info('the same');
        }),
      ),
    );
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect(h.kinds('r').filter((kind) => kind === 'logged')).toHaveLength(1);
    let isLost = false;
    engine.own.onCommit = async (_, pass) => {
      if (isLost) return pass();
      isLost = true;
      throw away();
    };
    inside.open();
    await settle();
    await h.impatient(1_000);
    expect(h.kinds('r').filter((kind) => kind === 'logged')).toHaveLength(2);
    expect(h.row('r')!.status).toBe('completed');
    await soon(engine.close());
  });

  it('E11: what a loser comes to after its race asks the store for nothing', async () => {
    const late = gate();
    const { h, engine } = open([], (stepfast) =>
      stepfast.job('job', async ({ step }) => {
        await step.race([step.run('fast', () => 1), step.run('slow', () => late.promise)]);
        await step.waitForEvent('go');
      }),
    );
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    const commits = engine.own.batches.length;
    expect(h.row('r')!.status).toBe('waiting');
    late.open();
    await settle();
    expect(engine.own.batches.length).toBe(commits);
    await soon(engine.close());
  });

  it('F3: what the store can not keep, and nothing of the run is to blame for, is tried again after a while', async () => {
    const { h, engine } = open([], (stepfast) => stepfast.job('job', ({ step }) => step.run('a', () => 1)));
    engine.own.onCommit = async (batch, pass) => {
      if (!batch.run) return pass();
      throw new StepfastError('NOT_SERIALIZABLE', 'It can not be kept.');
    };
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    const tries = engine.own.batches.length;
    await settle();
    expect(engine.own.batches.length).toBe(tries); // it does not spin
    await h.impatient(1_000);
    expect(engine.own.batches.length).toBeGreaterThan(tries);
    engine.own.onCommit = undefined;
    await h.impatient();
    await settle();
    expect(h.row('r')!.endedAt).toBeDefined();
    await soon(engine.close());
  });

  it('R2, E11: a race that a commit has failed to decide is open: who would have lost it is in flight as before', async () => {
    for (const isDone of [false, true]) {
      let entered = 0;
      const signals: AbortSignal[] = [];
      const { h, engine } = open([], (stepfast) =>
        stepfast.job('job', async ({ step }) => {
          const won = await step.race([
            step.waitForEvent<string>('go'),
            step.waitForEvent<string>('never'),
            step.run('slow', ({ signal }) => {
              entered++;
              signals.push(signal);
              return never();
            }),
          ]);
          return won.payload;
        }),
      );
      await engine.start('job', undefined, { id: 'r' });
      await settle();
      let isLost = false;
      engine.own.onCommit = async (batch, pass) => {
        if (isLost || !kindsOf(batch).includes('event-taken')) return pass();
        isLost = true;
        if (isDone) await pass();
        expect(signals.map(({ aborted }) => aborted)).toEqual([false]);
        throw away();
      };
      await engine.dispatch('go', 'went');
      await settle();
      await h.impatient(1_000);
      expect([isLost, entered, h.row('r')!.status]).toEqual([true, 1, 'completed']);
      expect(signals.map(({ aborted }) => aborted)).toEqual([true]);
      await soon(engine.close());
    }
  });

  it.each([
    ['lost', true],
    ['told', false],
  ])('R4, E11: a loser of the generation before is not taken for its namesake where the answer to the restart is %s', async (_, isLosing) => {
    const late = gate();
    const signals: AbortSignal[] = [];
    const undone: unknown[] = [];
    const refused: unknown[] = [];
    const { h, engine } = open([], (stepfast) =>
      stepfast.job('job', async ({ step, run: { generation } }) => {
        const slow = step.run(
          'slow',
          async ({ signal, state }) => {
            signals.push(signal);
            if (!generation) await late.promise.then(() => state.increment('n')).catch((error) => refused.push(error));
            return generation;
          },
          { undo: ({ result }) => void undone.push(result) },
        );
        if (generation) {
          await slow;
          throw new FatalError('for good');
        }
        await step.race([step.waitForEvent('go'), slow]);
        return step.restart();
      }),
    );
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    engine.own.onCommit = async (batch, pass) => {
      const outcome = await pass();
      if (!batch.run?.reset) return outcome;
      late.open(); // and the function asks for a number, while nobody knows yet that its race is lost
      await settle();
      if (isLosing) throw away();
      return outcome;
    };
    await engine.dispatch('go');
    await settle();
    await settle();
    await h.impatient(1_000);
    await settle();
    expect(h.row('r')).toMatchObject({ status: 'failed' });
    expect([signals.map(({ aborted }) => aborted), undone]).toEqual([[true, false], [1]]);
    expect(refused).toEqual([new Error('The step has lost a race.')]);
    await soon(engine.close());
  });

  it('D5: a run that is gone by then is nobody’s', async () => {
    const { h, engine, log } = await losing('claimed', async (h) => {
      const other = h.engine();
      await other.runs.cancel('r');
      await settle();
      h.medium.tables.apply({
        ...{ runs: new Map(), events: new Map(), drops: new Set(), state: new Map() },
        ...{ deletes: new Set(['r']), clock: { seq: 99 } },
      });
      h.medium.journals.delete('r');
    });
    await h.advance(3_000);
    expect([log, await engine.runs.get('r'), h.errors.length]).toEqual([[], undefined, 1]);
    await soon(engine.close());
  });

  it('D5, E1: an event that comes meanwhile is taken by the one who waits', async () => {
    const { h, engine, log } = await losing('wait-set', (h) => h.engine().dispatch('go'));
    await settle();
    expect(h.row('r')).toMatchObject({ status: 'completed', fence: 1 });
    expect(log).toEqual(['a', 'b']);
    await soon(engine.close());
  });

  it('D5, E1: so is one that its lost answer had told of', async () => {
    const log: string[] = [];
    const { h, engine } = open(log);
    let isLost = false;
    const inside = gate();
    engine.own.onCommit = async (batch, pass) => {
      if (kindsOf(batch).includes('wait-set') && !isLost) {
        isLost = true;
        await inside.promise;
        await pass();
        throw away();
      }
      return pass();
    };
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    await engine.dispatch('go');
    inside.open();
    await settle();
    await h.impatient(1_000);
    expect(h.row('r')).toMatchObject({ status: 'completed', fence: 1 });
    expect(log).toEqual(['a', 'b']);
    await soon(engine.close());
  });

  it('D5: where another context has claimed it meanwhile, what is done here is not recorded', async () => {
    const log: string[] = [];
    const h = hands();
    const [inside, others] = [gate(), gate()];
    const define = (name: string, wait: Promise<void>) => (stepfast: Stepfast) =>
      stepfast.job('job', ({ step }) =>
        step.run('a', async () => {
          log.push(name);
          await wait;
          return name;
        }),
      );
    const engine = h.engine(define('first', inside.promise));
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    engine.own.onCommit = async (batch, pass) => {
      if (kindsOf(batch).includes('step-completed') && !h.errors.length) throw away();
      return pass();
    };
    inside.open();
    await settle();
    expect(h.errors).toHaveLength(1);
    h.medium.owners.clear(); // it counts as dead
    const other = h.engine(define('second', others.promise));
    await other.ready();
    await settle();
    await h.impatient(1_000);
    expect(h.row('r')).toMatchObject({ status: 'running', fence: 2, length: 3 });
    others.open();
    await settle();
    expect(h.row('r')).toMatchObject({ status: 'completed', fence: 2 });
    expect(h.journal('r').filter(({ kind }) => kind === 'step-completed')).toMatchObject([{ value: 'second' }]);
    expect(log).toEqual(['first', 'second']);
    await soon(engine.close());
    await soon(other.close());
  });

  it('D5: patience with a store that goes on failing grows, up to half a minute, and is what it was once it answers', async () => {
    const h = hands();
    let isAway = false;
    const engine = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        for (let nth = 0; nth < 2; nth++) {
          await step.waitForEvent('go');
          await step.run('a', () => 1);
        }
      }),
    );
    engine.own.onCommit = async (batch, pass) => {
      if (isAway && batch.run) throw away();
      return pass();
    };
    const run = await engine.start('job', undefined, { id: 'r' });
    await settle();
    for (let nth = 0; nth < 2; nth++) {
      isAway = true;
      await engine.dispatch('go');
      const waits: number[] = [];
      for (let tries = 0; tries < 7; tries++) {
        await settle();
        waits.push(...[...h.patience.values()].map(({ ms }) => ms));
        await h.impatient();
      }
      expect(waits).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
      isAway = false;
      await h.impatient();
    }
    await soon(run.result());
    await soon(engine.close());
  });
});
