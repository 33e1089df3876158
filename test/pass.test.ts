import { describe, expect, it } from 'vitest';
import { FatalError, type HandlerContext, type JobOptions, type Stepfast, type StepfastError } from '../src/index.js';
import { LIMITS } from '../src/limits.js';
import { codeOf, gate, hands, kindsOf, never, settle, soon } from './hand-kit.js';

// Pins: the handler of a run, live in memory (spec R6, R11, R5): what it is called with, what it may do outside of steps, what
// is told to who develops, and what becomes of it when it is dropped.

type Context = HandlerContext<string>;
async function play(handler: (context: Context) => unknown, options: JobOptions = {}, start: object = {}) {
  const h = hands();
  const engine = h.engine((stepfast) => stepfast.job('job', options, handler as never));
  const run = await engine.start('job', 'p', { id: 'r', ...start });
  await settle();
  return { h, engine, run };
}
const linesOf = (h: ReturnType<typeof hands>) =>
  h.journal('r').flatMap((entry) => (entry.kind === 'logged' ? [entry.message] : []));

describe('a handler', () => {
  it('is called with its payload, and with what its run is', async () => {
    const seen: unknown[] = [];
    const { h, engine } = await play(({ payload, run }) => void seen.push({ payload, run }), {}, { tags: ['t'] });
    const { createdAt } = h.row('r')!;
    expect(seen).toEqual([{ payload: 'p', run: { id: 'r', job: 'job', createdAt, tags: ['t'], generation: 0 } }]);
    expect('schedule' in (seen[0] as { run: object }).run).toBe(false);
    await engine.start('job', 'q');
    await settle();
    expect((seen[1] as { run: { tags: unknown } }).run.tags).toEqual([]);
    const schedule = { name: 's', tick: 5, missed: 0 };
    const entries = [{ kind: 'started', at: h.clock.now(), payload: 'x', schedule }] as const;
    await engine.own.commit({
      ...{ now: h.clock.now() },
      starts: [{ runId: 'scheduled', job: 'job', version: 1, queue: 'default', entries: entries as never }],
    });
    h.wake();
    await settle();
    expect((seen[2] as { run: { schedule: unknown } }).run.schedule).toEqual(schedule);
    await soon(engine.close());
  });

  it('F9: is told by its signal that its run has ended from outside', async () => {
    let signal: AbortSignal | undefined;
    const { engine, run } = await play((context) => {
      signal = context.signal as AbortSignal;
      return context.step.waitForEvent('go');
    });
    expect(signal!.aborted).toBe(false);
    await run.cancel();
    await settle();
    expect(signal!.aborted).toBe(true);
    await soon(engine.close());
  });

  it('V3: says each line once, however often it is replayed, and none when it is nobody’s any more', async () => {
    const outside = gate();
    const h = hands();
    let passes = 0;
    const define = (stepfast: Stepfast) =>
      stepfast.job('job', async ({ step, log }) => {
        const pass = ++passes;
        log.info('begins');
        await step.run('a', () => 1);
        log.info('goes on');
        if (pass === 1) void outside.promise.then(() => log.info('of a pass that was dropped'));
        await step.waitForEvent('go');
        log.info('ends');
      });
    const first = h.engine(define);
    await first.start('job', undefined, { id: 'r' });
    await settle();
    await soon(first.close());
    outside.open();
    await settle();
    const second = h.engine(define);
    await second.ready();
    await second.dispatch('go');
    await settle();
    expect([passes, linesOf(h)]).toEqual([2, ['begins', 'goes on', 'ends']]);
    await soon(second.close());
  });

  it('R6: says and asks nothing any more once its pass is dropped, though it still runs', async () => {
    const h = hands();
    const outside = gate();
    const entered: string[] = [];
    let passes = 0;
    const engine = h.engine(
      (stepfast) =>
        stepfast.job('job', async ({ step, log }) => {
          passes++;
          const later = outside.promise.then(() => {
            log.info('said');
            return step.run('b', () => void entered.push('b'));
          });
          await step.run('a', () => 1);
          await step.waitForEvent('go');
          await later;
        }),
      { replay: 'always' },
    );
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect(passes).toBe(2);
    outside.open();
    await settle();
    expect([linesOf(h), entered]).toEqual([['said'], ['b']]);
    expect(h.warnings).toHaveLength(1);
    await soon(engine.close());
  });

  it('V3, R12: has so many lines, and goes on without more', async () => {
    const { logs } = LIMITS;
    LIMITS.logs = 3;
    try {
      const { h, engine } = await play(async ({ step, log }) => {
        log.info('1');
        await step.run('a', () => 1);
        for (const line of ['2', '3', '4', '5']) log.info(line);
      });
      expect([linesOf(h), h.row('r')!.status]).toEqual([['1', '2', '3'], 'completed']);
      expect(h.warnings).toEqual(['Run r has 3 log lines: no more are kept.']);
      await soon(engine.close());
    } finally {
      LIMITS.logs = logs;
    }
  });
});

describe('the shared state in a handler', () => {
  it('D8: is read and written when what the handler has heard of is durable', async () => {
    const h = hands();
    const log: string[] = [];
    const engine = h.engine((stepfast) =>
      stepfast.job('job', async ({ step, state }) => {
        await step.run('a', () => 1);
        log.push(`read ${await state.get('k')}`);
        await state.set('k', 'mine');
        log.push('written');
        return 'done';
      }),
    );
    await engine.state.set('k', 'before');
    const held = gate();
    engine.own.onCommit = async (batch, pass) => {
      if (kindsOf(batch).includes('step-completed')) await held.promise;
      return pass();
    };
    const run = await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect(log).toEqual([]);
    await engine.state.set('k', 'meanwhile');
    held.open();
    expect(await soon(run.result())).toBe('done');
    expect([log, await engine.state.get('k')]).toEqual([['read meanwhile', 'written'], 'mine']);
    expect(h.warnings.filter((warning) => warning.includes('increments'))).toEqual([]);
    await soon(engine.close());
  });

  it('D8: counts again at each replay, which is told to who develops', async () => {
    const { h, engine, run } = await play(async ({ state }) => state.increment('n'));
    expect(await soon(run.result())).toBe(1);
    expect(h.warnings.filter((warning) => warning.includes('increments'))).toEqual([
      expect.stringMatching(/Job "job" increments outside of a step/),
    ]);
    await soon(engine.close());
  });
});

describe('what is told to who develops', () => {
  it('R7: that a handler awaits something else between its steps', async () => {
    const outside = gate();
    const { h, engine } = await play(async ({ step }) => {
      await step.run('a', () => 1);
      await outside.promise;
      await step.run('b', () => 2);
    });
    expect(h.warnings).toEqual([]);
    outside.open();
    await settle();
    expect(h.warnings).toEqual([expect.stringMatching(/Job "job" awaits something else between its steps/)]);
    expect(h.row('r')!.status).toBe('completed');
    await soon(engine.close());
  });

  it('R8: which steps it has not awaited when it ended; of waits it says nothing', async () => {
    const { h, engine } = await play(({ step }) => {
      void step.waitForEvent('go');
      for (const name of ['a', 'b']) void step.run(name, () => 1);
    });
    expect(h.warnings).toEqual([expect.stringMatching(/Job "job" ended without awaiting "a", "b"/)]);
    await soon(engine.close());
    const plain = await play(({ step }) => {
      void step.waitForEvent('go');
    });
    expect(plain.h.warnings).toEqual([]);
    await soon(plain.engine.close());
  });

  it.each([
    ['returns', 'without awaiting', () => undefined],
    [
      'throws',
      'before the end of',
      () => {
        throw new FatalError('no way');
      },
    ],
  ])('R8: which steps are in flight when it %s, though it has looked at them', async (_, how, end) => {
    const inside = gate();
    const { h, engine } = await play(async ({ step }) => {
      await Promise.race([step.run('slow', () => inside.promise), step.run('fast', () => 1), step.waitForEvent('go')]);
      end();
    });
    expect(h.warnings).toEqual([expect.stringContaining(`ended ${how} "slow". `)]);
    inside.open();
    await soon(engine.close());
  });

  it('R8: nor which steps it has not awaited and that have ended since, failed even, and sleeps', async () => {
    const { h, engine } = await play(
      async ({ step }) => {
        void step.run('fast', () => 1);
        void step.run('bad', () => {
          throw new Error('own');
        });
        void step.sleep('nap', '1h');
        void step.dispatch('told');
        await step.run('last', () => 2);
        await step.run('very last', () => 3);
      },
      { retry: { maxAttempts: 1 } },
    );
    expect(h.row('r')!.status).toBe('completed');
    expect(h.warnings).toEqual([expect.stringMatching(/ended without awaiting "fast", "bad", "nap", "told"\. /)]);
    await soon(engine.close());
  });

  it.each<[string, (context: Context) => unknown]>([
    ['Promise.all', ({ step }) => Promise.all([step.run('a', () => 1), step.run('b', () => 2)])],
    ['Promise.race', async ({ step }) => void (await Promise.race([step.run('a', () => 1), step.sleep('b', '1h')]))],
    ['step.race', async ({ step }) => void (await step.race([step.run('a', () => 1), step.sleep('b', '1h')]))],
    ['a return', ({ step }) => step.run('a', () => 1)],
    ['an async return', async ({ step }) => step.run('a', () => 1)],
    ['then', async ({ step }) => void (await step.run('a', () => 1).then((value) => value + 1))],
    [
      'finally, in a promise that is left',
      async ({ step }) => {
        void step.run('a', () => 1).finally(() => undefined);
        await step.run('b', () => 2);
        await step.run('c', () => 3);
      },
    ],
    [
      'an await that comes late',
      async ({ step }) => {
        const first = step.run('a', () => 1);
        await step.run('b', () => 2);
        await first;
      },
    ],
    [
      'a handler that throws before it comes to it',
      async ({ step }) => {
        const first = step.run('a', () => 1);
        await step.run('b', () => 2);
        const refuse = () => Promise.reject(new FatalError('own'));
        await refuse();
        await first;
      },
    ],
  ])('R8: nothing of steps that are looked at, here by %s', async (_, handler) => {
    const { h, engine } = await play(handler);
    expect(h.row('r')!.status).toMatch(/completed|failed/);
    expect(h.warnings).toEqual([]);
    await soon(engine.close());
  });
});

describe('a fault of the code', () => {
  it('R5: says of which run, job and step it is, each once', async () => {
    const h = hands();
    const first = h.engine((stepfast) => stepfast.job('job', ({ step }) => step.run('a', never)));
    await first.start('job', undefined, { id: 'r' });
    await settle();
    await soon(first.close());
    await h
      .engine()
      .runs.cancel('none')
      .catch(() => undefined);
    const recorded = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        await step.run('a', () => 1);
        await step.waitForEvent('go');
      }),
    );
    await recorded.ready();
    await settle();
    await soon(recorded.close());
    const changed = h.engine((stepfast) => stepfast.job('job', ({ step }) => step.sleep('a', '1h')));
    await h.engine().dispatch('go');
    await changed.ready();
    await settle();
    const [error] = h.errors as StepfastError[];
    expect(error).toMatchObject({ code: 'REPLAY_MISMATCH', runId: 'r', job: 'job', step: 'a' });
    expect(error!.message.match(/job "job"/g)).toHaveLength(1);
    expect(error!.message.match(/\[REPLAY_MISMATCH\]/g)).toHaveLength(1);
    expect(error!.message).toMatch(/^Run r of job "job": .*"a".*sleep/); // the step is named once
    await soon(changed.close());
  });
});

describe('who has lost a race', () => {
  it('E11, D8: is told so, and numbers that it waits for are refused', async () => {
    const reasons: unknown[] = [];
    const counted: unknown[] = [];
    const first = gate();
    const { h, engine, run } = await play(({ step }) =>
      step.race([
        step.run('fast', () => first.promise),
        step.run('slow', async ({ signal, state }) => {
          signal.addEventListener('abort', () => reasons.push((signal as AbortSignal).reason));
          await first.promise;
          await state.increment('n').catch((error: unknown) => counted.push(error));
        }),
      ]),
    );
    first.open();
    await soon(run.result());
    await settle();
    expect(reasons).toEqual([new Error('The step has lost a race.')]);
    expect([counted.length <= 1, h.row('r')!.status]).toEqual([true, 'completed']);
    expect(await engine.state.get('n')).toBeUndefined();
    await soon(engine.close());
  });
});

describe('values that are made on the spot', () => {
  it('R8: are not recorded for a handler that has ended', async () => {
    const { h, engine } = await play(({ step }) => {
      void step.uuid();
      return 'done';
    });
    expect(h.kinds('r')).toEqual(['started', 'claimed', 'completed']);
    await soon(engine.close());
  });

  it('R12: nor behind the entry that has ended the run', async () => {
    const h = hands();
    const engine = h.engine(
      (stepfast) => stepfast.job('job', ({ step }) => Promise.all([step.uuid(), step.uuid(), step.uuid()])),
      { maxOutcomes: 1 },
    );
    const run = await engine.start('job', undefined, { id: 'r' });
    await expect(soon(run.result())).rejects.toEqual(codeOf('JOURNAL_FULL'));
    expect(h.kinds('r')).toEqual(['started', 'claimed', 'value-made', 'failed']);
    await soon(engine.close());
  });
});
