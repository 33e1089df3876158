import { describe, expect, it } from 'vitest';
import { FatalError, type HandlerContext, type Stepfast, StepfastError } from '../src/index.js';
import { away, codeOf, entriesOf, gate, hands, kindsOf, never, play, settle, soon, type World } from './hand-kit.js';

// Pins: one run, round by round (spec R11): what is recorded of what has happened, in which order, and when it is committed.

type Context = HandlerContext<string>;
const fixed = { maxAttempts: 3, initialDelay: '1s', factor: 1, jitter: false } as const;

const statusOf = (h: World) => h.row('r')!.status;

describe('what is recorded', () => {
  it('R11: what the handler asks for goes with what it has heard of, in one commit', async () => {
    const { h, engine } = await play(async ({ step }: Context) => {
      const { run, sleep, waitForEvent } = step;
      await run('a', () => 1);
      await Promise.all([
        sleep('s', 1_000),
        waitForEvent('go', { correlationKey: 'k', timeout: '1m', lookback: '1h' }),
      ]);
    });
    const now = h.clock.now();
    const commits = engine.own.batches.filter(({ run }) => run).map((batch) => kindsOf(batch));
    expect(commits).toEqual([['claimed'], ['step-completed', 'sleep-set', 'wait-set']]);
    expect(entriesOf(h, 'sleep-set')).toMatchObject([{ at: now, id: ['s', 1], dueAt: now + 1_000 }]);
    expect(entriesOf(h, 'wait-set')).toMatchObject([
      {
        id: ['go', 1],
        events: ['go'],
        key: 'k',
        deadline: now + 60_000,
        onTimeout: 'fail',
        lookbackFrom: now - 3_600_000,
      },
    ]);
    await h.advance(1_000);
    expect(entriesOf(h, 'sleep-ended')).toMatchObject([{ at: h.clock.now(), id: ['s', 1] }]);
    expect(h.warnings).toEqual([]);
    await soon(engine.close());
  });

  it('E3: a wait that looks back beyond the beginning of time begins with it', async () => {
    const { h, engine } = await play(({ step }: Context) => step.waitForEvent('go', { lookback: 'any' }));
    expect(entriesOf(h, 'wait-set')[0]!.lookbackFrom).toBe(0);
    await soon(engine.close());
  });

  it('E10: two open waits on one event and key are told to who develops', async () => {
    for (const [options, count] of [
      [[{}, {}], 1],
      [[{ correlationKey: 'a' }, { correlationKey: 'b' }], 0],
      [[{ correlationKey: 'a' }, {}], 0],
      [[{ correlationKey: 'a' }, { correlationKey: 'a' }], 1],
    ] as const) {
      const { h, engine } = await play(({ step }: Context) =>
        Promise.all(options.map((each) => step.waitForEvent('go', each))),
      );
      expect([options, h.warnings.length]).toEqual([options, count]);
      for (const warning of h.warnings) expect(warning).toContain('Job "job" has two open waits');
      await soon(engine.close());
    }
    const { h, engine } = await play(({ step }: Context) =>
      Promise.all(['go', 'other'].map((name) => step.waitForEvent(name))),
    );
    expect(h.warnings).toEqual([]);
    await soon(engine.close());
  });

  it('R2: values that are made on the spot are recorded with what comes next, and are the same on replay', async () => {
    const seen: unknown[] = [];
    const { h, engine } = await play(
      async ({ step }: Context) => {
        const { uuid, run } = step;
        seen.push(await uuid());
        await run('a', () => 1);
        seen.push(await uuid());
      },
      {},
      { replay: 'always' },
    );
    expect(statusOf(h)).toBe('completed');
    const made = entriesOf(h, 'value-made');
    expect(made).toMatchObject([{ word: 'uuid', at: h.clock.now() }, { word: 'uuid' }]);
    expect(new Set(seen)).toEqual(new Set(made.map(({ value }) => value)));
    expect(seen.length).toBeGreaterThan(2); // the handler was replayed
    await soon(engine.close());
  });

  it('V3, R11: what a step has said stands before its end, in the same commit', async () => {
    const { h, engine } = await play(({ step }: Context) => step.run('a', ({ log }) => log.info('m')));
    expect(h.kinds('r')).toEqual(['started', 'claimed', 'logged', 'step-completed', 'completed']);
    await soon(engine.close());
  });

  it('F1: each attempt that failed, with its number and when the next is; then the failure, or the result', async () => {
    for (const isDone of [true, false]) {
      const { h, engine } = await play(
        ({ step }: Context) =>
          step.run('a', ({ attempt }) => {
            if (isDone && attempt === 3) return 'third';
            throw new Error(`no ${attempt}`);
          }),
        { retry: fixed },
      );
      const at = h.clock.now();
      expect(h.row('r')).toMatchObject({ status: 'retrying', dueAt: at + 1_000, setAt: at });
      await h.advance(1_000);
      await h.advance(1_000);
      expect(entriesOf(h, 'attempt-failed')).toMatchObject([
        { attempt: 1, at, retryAt: at + 1_000, error: { message: 'no 1' } },
        { attempt: 2, at: at + 1_000, retryAt: at + 2_000 },
      ]);
      if (isDone) expect(entriesOf(h, 'step-completed')).toMatchObject([{ attempt: 3, value: 'third' }]);
      else expect(entriesOf(h, 'step-failed')).toMatchObject([{ attempt: 3, error: { message: 'no 3' } }]);
      expect(statusOf(h)).toBe(isDone ? 'completed' : 'failed');
      await soon(engine.close());
    }
  });

  it('E9: an event that a schema refuses is told of once, and left for others; a predicate that throws says no', async () => {
    const { h, engine, run } = await play(async ({ step }: Context) => {
      const schema = {
        '~standard': {
          version: 1 as const,
          vendor: 'test',
          validate: (value: unknown) => (value === 'fits' ? { value: 'made' } : { issues: [{ message: 'no fit' }] }),
        },
      };
      const match = (payload: string) => {
        if (payload === 'bad') throw new Error('mine');
        return payload === 'yes';
      };
      const { waitForEvent } = step;
      return [(await waitForEvent('go', { schema })).payload, (await waitForEvent('go', { match })).payload];
    });
    const refused = await engine.dispatch('go', 'bad');
    await settle();
    h.wake();
    await engine.dispatch('unrelated');
    await settle();
    expect(entriesOf(h, 'event-skipped')).toMatchObject([
      { id: ['go', 1], eventId: refused.id, event: 'go', reason: 'does not fit its schema at $' },
    ]);
    expect(h.errors).toEqual([]);
    await engine.dispatch('go', 'fits');
    await settle();
    const place = { runId: 'r', job: 'job', step: 'go', cause: new Error('mine') };
    expect(h.errors).toMatchObject([{ code: 'INVALID_OPTION', ...place }]);
    expect(h.errors[0]).toHaveProperty('message', expect.stringMatching(/^Run r of job "job", step "go": match or/));
    expect(String(h.errors[0])).not.toContain('mine'); // it may quote the payload (spec V4)
    await engine.dispatch('go', 'yes');
    await settle();
    expect(await soon(run.result())).toEqual(['made', 'yes']);
    expect(entriesOf(h, 'event-skipped')).toHaveLength(1);
    expect(entriesOf(h, 'event-taken')).toMatchObject([{ payload: 'made' }, { payload: 'yes' }]);
    await soon(engine.close());
  });

  it('E5, F9: a wait that times out says so: to the handler, or as the end of the run', async () => {
    for (const onTimeout of ['fail', 'continue', 'cancel'] as const) {
      const { h, engine, run } = await play(async ({ step }: Context) => {
        const { waitForEvent } = step;
        return (await waitForEvent('go', { timeout: '1m', onTimeout })).timedOut;
      });
      const deadline = h.clock.now() + 60_000;
      await h.advance(60_000);
      expect(entriesOf(h, 'wait-timed-out')).toMatchObject([{ id: ['go', 1], deadline }]);
      expect(statusOf(h)).toBe({ fail: 'failed', continue: 'completed', cancel: 'cancelled' }[onTimeout]);
      if (onTimeout === 'continue') expect(await soon(run.result())).toBe(true);
      if (onTimeout === 'fail') await expect(soon(run.result())).rejects.toEqual(codeOf('EVENT_TIMEOUT'));
      await soon(engine.close());
    }
  });

  it('E3: events that a timeout has passed by are for the next wait', async () => {
    const { h, engine, run } = await play(async ({ step }: Context) => {
      const { waitForEvent } = step;
      const match = (n: number) => n > 5;
      const first = await waitForEvent('go', { timeout: '1m', onTimeout: 'continue', match });
      const second = await waitForEvent('go');
      return [first.timedOut, second.payload];
    });
    await engine.dispatch('go', 1);
    await settle();
    await h.advance(60_000);
    expect(await soon(run.result())).toEqual([true, 1]);
    await soon(engine.close());
  });

  it('E12: a call says which run it has started, and then how that has ended', async () => {
    const h = hands();
    const engine = h.engine((stepfast) => {
      stepfast.job('child', async ({ step }) => (await step.waitForEvent('end')).payload);
      stepfast.job('job', ({ step }) => step.call('child'));
    });
    const run = await engine.start('job', undefined, { id: 'r' });
    await settle();
    const [set] = entriesOf(h, 'child-set');
    expect(set).toMatchObject({ id: ['child', 1], job: 'child', runId: expect.any(String) });
    expect(h.row('r')!.awaits).toEqual([set!.runId]);
    await engine.dispatch('end', 'v');
    expect(await soon(run.result())).toBe('v');
    expect(entriesOf(h, 'child-completed')).toMatchObject([{ id: ['child', 1], runId: set!.runId, value: 'v' }]);
    await soon(engine.close());
  });

  it('R5, E12: a child whose job is not registered here makes its run wait for a context that has it', async () => {
    const h = hands();
    const engine = h.engine((stepfast) => stepfast.job('job', ({ step }) => step.call('child')));
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect(await engine.runs.get('r')).toMatchObject({ status: 'blocked', error: { code: 'UNKNOWN_JOB' } });
    expect(entriesOf(h, 'attempt-failed')).toEqual([]);
    engine.job('child', () => 'end');
    await settle();
    expect(statusOf(h)).toBe('completed');
    await soon(engine.close());
  });

  it('D5: a store that fails under one of our own words is no attempt of the step; under the app’s own call it is', async () => {
    const h = hands();
    let isAway = true;
    const engine = h.engine((stepfast) => {
      stepfast.job('child', () => 'end');
      stepfast.job('job', ({ step }) => step.call('child'));
      stepfast.job('own', { retry: fixed }, ({ step }) =>
        step.run('a', () => {
          throw away();
        }),
      );
    });
    engine.own.onCommit = async (batch, pass) => {
      if (isAway && batch.starts && batch.run) throw away();
      return pass();
    };
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect([entriesOf(h, 'attempt-failed'), statusOf(h), h.errors]).toEqual([
      [],
      'running',
      [codeOf('STORE_UNAVAILABLE')],
    ]);
    isAway = false;
    await h.impatient(1_000);
    expect(statusOf(h)).toBe('completed');
    await engine.start('own', undefined, { id: 'own' });
    await settle();
    expect(h.kinds('own')).toContain('attempt-failed');
    await soon(engine.close());
  });
});

describe('what is recorded once', () => {
  /** The answer to the first commit with this entry is lost; it has happened. */
  const losing = async (kind: string, define: (stepfast: Stepfast) => unknown) => {
    const h = hands();
    const engine = h.engine(define);
    let isLost = false;
    engine.own.onCommit = async (batch, pass) => {
      const outcome = await pass();
      if (isLost || !kindsOf(batch).includes(kind)) return outcome;
      isLost = true;
      throw away();
    };
    await engine.start('job', 'p', { id: 'r' });
    await settle();
    expect(isLost).toBe(true);
    const commits = engine.own.batches.length;
    await h.impatient(1_000);
    return { h, engine, commits };
  };

  it('D5, F1: an attempt that failed, also where another fails at the same instant', async () => {
    const define = (stepfast: Stepfast) =>
      stepfast.job('job', { retry: { ...fixed, initialDelay: 0 } }, ({ step }) =>
        step.run('a', ({ attempt }) => {
          if (attempt < 3) throw new Error(`no ${attempt}`);
          return attempt;
        }),
      );
    const { h, engine } = await losing('attempt-failed', define);
    await h.advance(1);
    expect(entriesOf(h, 'attempt-failed').map(({ attempt }) => attempt)).toEqual([1, 2]);
    expect([statusOf(h), new Set(entriesOf(h, 'attempt-failed').map(({ at }) => at)).size]).toEqual(['completed', 1]);
    await soon(engine.close());
  });

  it('D5, R1: an outcome, and a child', async () => {
    const define = (stepfast: Stepfast) => {
      stepfast.job('child', () => 'end');
      stepfast.job('job', async ({ step }) => [await step.run('a', () => 1), await step.call('child')]);
    };
    for (const kind of ['step-completed', 'child-set', 'child-completed']) {
      const { h, engine } = await losing(kind, define);
      for (const each of ['step-completed', 'child-set', 'child-completed'])
        expect([kind, each, entriesOf(h, each).length]).toEqual([kind, each, 1]);
      expect(statusOf(h)).toBe('completed');
      await soon(engine.close());
    }
  });

  it('R11, F2: a handler that backs off does so, and does not ask the store again and again until then', async () => {
    let passes = 0;
    const define = (stepfast: Stepfast) =>
      stepfast.job('job', { retry: fixed }, async ({ step }) => {
        await step.run('a', () => 1);
        if (++passes === 1) throw new Error('once');
        return passes;
      });
    const { h, engine, commits } = await losing('handler-failed', define);
    await settle();
    expect([passes, engine.own.batches.length - commits < 2]).toEqual([1, true]);
    await h.advance(1_000);
    expect([passes, statusOf(h), entriesOf(h, 'step-completed').length]).toEqual([2, 'completed', 1]);
    await soon(engine.close());
  });

  it('E11: of a race that both have ended, the one that has won', async () => {
    const { h, engine } = await play(({ step }: Context) =>
      step.race([step.run('a', () => 1), step.run('b', () => 2)]),
    );
    expect([statusOf(h), entriesOf(h, 'step-completed').map(({ id }) => id)]).toEqual(['completed', [['a', 1]]]);
    await soon(engine.close());
  });

  it('R12: nothing behind the entry that has ended it', async () => {
    const { h, engine } = await play(
      ({ step }: Context) => Promise.all(['a', 'b', 'c'].map((name) => step.run(name, () => 1))),
      {},
      { maxOutcomes: 1 },
    );
    expect(h.kinds('r')).toEqual(['started', 'claimed', 'step-completed', 'failed']);
    await soon(engine.close());
  });
});

describe('what a round does not mix up', () => {
  it('R7, F5: an interrupted handler hears of its outcomes one by one, each behind a commit', async () => {
    const h = hands();
    const both = gate();
    const define = (isFirst: boolean) => (stepfast: Stepfast) =>
      stepfast.job('job', ({ step }) =>
        Promise.all(['a', 'b'].map((name) => step.run(name, () => (isFirst ? never() : both.promise)))),
      );
    const first = h.engine(define(true));
    await first.start('job', undefined, { id: 'r' });
    await settle();
    first.own.abandon!();
    const second = h.engine(define(false));
    await second.ready();
    await settle();
    both.open();
    await settle();
    const commits = second.own.batches
      .map((batch) => kindsOf(batch))
      .filter((kinds) => kinds.includes('step-completed'));
    expect(commits[0]).toEqual(['step-completed']);
    expect(statusOf(h)).toBe('completed');
    await soon(second.close());
  });

  it('F1: what a step throws is its own failure, whatever code it has', async () => {
    const { h, engine } = await play(
      ({ step }: Context) =>
        step.run('a', () => {
          throw new StepfastError('UNKNOWN_JOB', 'Mine.');
        }),
      { retry: fixed },
    );
    expect(entriesOf(h, 'attempt-failed')).toMatchObject([{ id: ['a', 1], error: { code: 'UNKNOWN_JOB' } }]);
    expect(entriesOf(h, 'attempt-failed')[0]!.word).toBeUndefined();
    await soon(engine.close());
  });

  it('R5: what has ended beside a call that can not be made here is kept', async () => {
    const h = hands();
    const log: string[] = [];
    const engine = h.engine((stepfast) =>
      stepfast.job('job', ({ step }) => Promise.all([step.call('child'), step.run('a', () => void log.push('a'))])),
    );
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect((await engine.runs.get('r'))!.status).toBe('blocked');
    engine.job('child', () => 'end');
    await settle();
    expect([log, statusOf(h)]).toEqual([['a'], 'completed']);
    expect(entriesOf(h, 'step-completed')[0]!.word).toBeUndefined();
    await soon(engine.close());
  });

  it('R8: a handler that has ended takes no event any more, though a function of it is in flight', async () => {
    const inside = gate();
    const { h, engine } = await play(({ step }: Context) => {
      void step.waitForEvent('go');
      void step.run('slow', () => inside.promise);
      return 'early';
    });
    await engine.dispatch('go', 'left');
    await settle();
    inside.open();
    await settle();
    expect([statusOf(h), entriesOf(h, 'event-taken')]).toEqual(['completed', []]);
    await soon(engine.close());
  });

  it('E4: an event is for every run that waits for it', async () => {
    const h = hands();
    const engine = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => (await step.waitForEvent('go')).payload),
    );
    for (const id of ['r', 's', 't']) await engine.start('job', undefined, { id });
    await settle();
    await engine.dispatch('go', 'all');
    await settle();
    expect(['r', 's', 't'].map((id) => h.row(id)!.status)).toEqual(['completed', 'completed', 'completed']);
    expect(new Set(engine.own.outcomes)).toEqual(new Set(['committed']));
    await soon(engine.close());
  });

  it('E5: an event in time overtakes the timeout of a wait that has passed another one over', async () => {
    const { h, engine, run } = await play(async ({ step }: Context) => {
      const match = (n: number) => n > 5;
      const event = await step.waitForEvent<number>('go', { timeout: '1m', onTimeout: 'continue', match });
      return event.timedOut ? 'late' : event.payload;
    });
    await engine.dispatch('go', 1);
    await settle();
    const held = gate();
    let isHeld = false;
    engine.own.onCommit = async (batch, pass) => {
      if (!isHeld && kindsOf(batch).includes('wait-timed-out')) {
        isHeld = true;
        await held.promise;
      }
      return pass();
    };
    await h.advance(60_000);
    expect(isHeld).toBe(true);
    await engine.dispatch('go', 9);
    held.open();
    await settle();
    expect(await soon(run.result())).toBe(9);
    await soon(engine.close());
  });

  it('E12: a child that fails is a failure of the call', async () => {
    const h = hands();
    const engine = h.engine((stepfast) => {
      stepfast.job('child', () => {
        throw new FatalError('of the child');
      });
      stepfast.job('job', ({ step }) => step.call('child').catch((error: Error) => `caught ${String(error.cause)}`));
    });
    const run = await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect(entriesOf(h, 'child-failed')).toMatchObject([{ id: ['child', 1], error: { message: 'of the child' } }]);
    expect(entriesOf(h, 'child-failed')[0]!.runId).toBe(entriesOf(h, 'child-set')[0]!.runId);
    expect(await soon(run.result())).toContain('of the child');
    await soon(engine.close());
  });
});
