import { describe, expect, it } from 'vitest';
import type { EngineOptions } from '../src/engine/options.js';
import {
  FatalError,
  type HandlerContext,
  type JobOptions,
  type StepContext,
  type Stepfast,
  StepfastError,
} from '../src/index.js';
import { LIMITS } from '../src/limits.js';
import { codeOf, gate, hands, kindsOf, never, settle, soon, unfit } from './hand-kit.js';

// Pins: one run, round by round (spec R11): what is recorded of what has happened, in which order, and when it is committed;
// what ends a run that its handler does not end (R12, F5, F8), and what its code may get wrong (R5).

type World = ReturnType<typeof hands>;
type Context = HandlerContext<string>;
type Handler = (context: Context) => unknown;
const fixed = { maxAttempts: 3, initialDelay: '1s', factor: 1, jitter: false } as const;
const away = () => new StepfastError('STORE_UNAVAILABLE', 'Away.');

/** A run `r` of a job with this handler, as far as it comes by itself. */
async function play(handler: Handler, options: JobOptions = {}, engineOptions: Partial<EngineOptions> = {}) {
  const h = hands();
  const engine = h.engine((stepfast) => stepfast.job('job', options, handler as never), engineOptions);
  const run = await engine.start('job', 'p', { id: 'r' });
  await settle();
  return { h, engine, run };
}
const statusOf = (h: World) => h.row('r')!.status;
const entriesOf = (h: World, kind: string) =>
  h.journal('r').filter((entry) => entry.kind === kind) as unknown as readonly { readonly [field: string]: unknown }[];

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

describe('the end of a run', () => {
  it('R8: is what the handler returns; a value that can not be kept fails it', async () => {
    const fine = await play(() => new Date(5) as never);
    expect([await soon(fine.run.result()), entriesOf(fine.h, 'completed').length]).toEqual([new Date(5), 1]);
    await soon(fine.engine.close());
    const odd = await play(() => (() => 1) as never);
    await expect(soon(odd.run.result())).rejects.toMatchObject({ code: 'NOT_SERIALIZABLE' });
    await expect(soon(odd.run.result())).rejects.toThrow('the result of job "job"');
    expect(odd.h.kinds('r')).not.toContain('handler-failed');
    await soon(odd.engine.close());
  });

  it('B: is checked by the job where that says what it is', async () => {
    const result = {
      '~standard': {
        version: 1,
        vendor: 'test',
        validate: (value: unknown) => (value === 1 ? { value: 'made of it' } : { issues: [{ message: 'not one' }] }),
      },
    };
    const fine = await play(() => 1 as never, { result } as never);
    expect(await soon(fine.run.result())).toBe('made of it');
    await soon(fine.engine.close());
    const odd = await play(() => 2 as never, { result } as never);
    const said = /The result of job "job" does not fit its schema at \$:.*; the run has failed\./s;
    await expect(soon(odd.run.result())).rejects.toThrow(said);
    await soon(odd.engine.close());
  });

  it('F2: a handler that throws is tried again as steps are, from where it was; a recorded failure ends it', async () => {
    const log: string[] = [];
    let passes = 0;
    const { h, engine, run } = await play(
      async ({ step }: Context) => {
        await step.run('a', () => void log.push('a'));
        if (++passes < 3) throw new Error(`handler ${passes}`);
        return passes;
      },
      { retry: fixed },
    );
    const at = h.clock.now();
    expect(h.row('r')).toMatchObject({ status: 'retrying', dueAt: at + 1_000 });
    await h.advance(999);
    expect(passes).toBe(1);
    await h.advance(1);
    await h.advance(1_000);
    expect(await soon(run.result())).toBe(3);
    expect(entriesOf(h, 'handler-failed')).toMatchObject([
      { attempt: 1, at, retryAt: at + 1_000, error: { message: 'handler 1' } },
      { attempt: 2, at: at + 1_000, retryAt: at + 2_000 },
    ]);
    expect(log).toEqual(['a']);
    await soon(engine.close());
    const failing = await play(
      ({ step }: Context) =>
        step.run('a', () => {
          throw new FatalError('no way');
        }),
      { retry: fixed },
    );
    expect([statusOf(failing.h), failing.h.kinds('r')]).toEqual([
      ...['failed', ['started', 'claimed', 'step-failed', 'failed']],
    ]);
    await soon(failing.engine.close());
  });

  it('R8: waits for functions that are still in flight; a handler that has ended takes nothing more', async () => {
    const inside = gate();
    const { h, engine, run } = await play(({ step }: Context) => {
      void step.run('slow', () => inside.promise);
      return 'early' as never;
    });
    expect([statusOf(h), h.warnings.length]).toEqual(['running', 1]);
    expect(h.warnings[0]).toMatch(/ended without awaiting "slow"/);
    inside.open();
    await settle();
    expect([await soon(run.result()), h.kinds('r').slice(-2)]).toEqual(['early', ['step-completed', 'completed']]);
    await soon(engine.close());
  });
});

describe('what ends a run from within', () => {
  it('R12: more outcomes than it may have', async () => {
    const handler = async ({ step }: Context) => {
      for (let nth = 0; nth < 3; nth++) await step.run('a', () => nth);
    };
    const { h, engine, run } = await play(handler, {}, { maxOutcomes: 2 });
    await expect(soon(run.result())).rejects.toEqual(codeOf('JOURNAL_FULL'));
    await expect(soon(run.result())).rejects.toThrow(
      /Run r has more than 2 outcomes.*Split the job.*step\.restart.*maxOutcomes/,
    );
    expect(entriesOf(h, 'step-completed')).toHaveLength(2);
    await soon(engine.close());
    const enough = await play(handler, {}, { maxOutcomes: 3 });
    expect(statusOf(enough.h)).toBe('completed');
    await soon(enough.engine.close());
  });

  it('R12: more bytes than it may record', async () => {
    const { engine, run } = await play(
      async ({ step }: Context) => {
        for (let nth = 0; nth < 3; nth++) await step.run('a', () => 'x'.repeat(1_000));
      },
      {},
      { maxRunBytes: 1_500 },
    );
    await expect(soon(run.result())).rejects.toMatchObject({ code: 'JOURNAL_FULL' });
    await expect(soon(run.result())).rejects.toThrow(/Run r has more than 1500 bytes recorded.*maxRunBytes/);
    await soon(engine.close());
  });

  it('R12: more open waits than it may have', async () => {
    const handler =
      (count: number) =>
      ({ step }: Context) =>
        Promise.all(Array.from({ length: count }, (_, nth) => step.waitForEvent('go', { correlationKey: `${nth}` })));
    const { openWaits } = LIMITS;
    LIMITS.openWaits = 3;
    try {
      const { engine, run } = await play(handler(4) as never);
      await expect(soon(run.result())).rejects.toMatchObject({ code: 'TOO_MANY_WAITS' });
      await expect(soon(run.result())).rejects.toThrow(/Run r has more than 3 open waits\. Split the job in two\./);
      await soon(engine.close());
      const enough = await play(handler(3) as never);
      expect(statusOf(enough.h)).toBe('waiting');
      await soon(enough.engine.close());
    } finally {
      LIMITS.openWaits = openWaits;
    }
  });

  it('F8: the timeout of its job, counted from its first claim, to the millisecond', async () => {
    const { h, engine, run } = await play(({ step }: Context) => step.waitForEvent('go'), { timeout: '1m' });
    await h.advance(59_999);
    expect(statusOf(h)).toBe('waiting');
    await h.advance(1);
    expect(statusOf(h)).toBe('failed');
    await expect(soon(run.result())).rejects.toEqual(codeOf('RUN_TIMEOUT'));
    await expect(soon(run.result())).rejects.toThrow(/Run r has not ended within the timeout of job "job"/);
    await expect(soon(run.result())).rejects.toThrow(/timeout of job "job"/);
    await soon(engine.close());
  });

  it('F8, R5: time in which its code did not fit does not count', async () => {
    const h = hands();
    await h.engine().start('job', undefined, { id: 'r', allowUnregistered: true });
    const blocked = h.engine((stepfast) => stepfast.job('job', { version: 2, migrate: unfit, timeout: '1m' }, never));
    await blocked.ready();
    await settle();
    expect(h.kinds('r').at(-1)).toBe('released');
    await soon(blocked.close());
    await h.advance(600_000);
    const fits = h.engine((stepfast) => stepfast.job('job', { timeout: '1m' }, ({ step }) => step.waitForEvent('go')));
    await fits.ready();
    await settle();
    expect(statusOf(h)).toBe('waiting');
    await h.advance(59_999);
    expect(statusOf(h)).toBe('waiting');
    await h.advance(1);
    expect(statusOf(h)).toBe('failed');
    await soon(fits.close());
  });

  it('F5: so many interruptions in a row without progress', async () => {
    for (const [limit, dies] of [
      [2, 2],
      [3, 3],
    ] as const) {
      const h = hands();
      const log: number[] = [];
      const define = (stepfast: Stepfast) =>
        stepfast.job('job', { maxInterruptions: limit }, ({ step }) =>
          step.run('a', ({ attempt }) => {
            log.push(attempt);
            return never();
          }),
        );
      for (let lives = 0; lives <= dies; lives++) {
        const engine = h.engine(define);
        if (!lives) await engine.start('job', undefined, { id: 'r' });
        else await engine.ready();
        await settle();
        engine.own.abandon!();
      }
      expect([limit, log.length, statusOf(h)]).toEqual([limit, limit, 'failed']);
      const last = h.engine();
      expect(await last.runs.get('r')).toMatchObject({ error: { code: 'CRASH_LOOP' } });
      expect((await last.runs.get('r'))!.error!.message).toMatch(
        new RegExp(`Run r was interrupted ${limit} times in a row.*runs.retry`),
      );
      await soon(last.close());
    }
  });

  it('F5: progress is recorded where a run was interrupted before, and counts as such', async () => {
    const h = hands();
    const define = (stepfast: Stepfast) =>
      stepfast.job('job', { maxInterruptions: 2 }, ({ step }) =>
        step.run('a', ({ progress }) => {
          progress('on');
          return never();
        }),
      );
    for (let lives = 0; lives < 5; lives++) {
      const engine = h.engine(define);
      if (!lives) await engine.start('job', undefined, { id: 'r' });
      else await engine.ready();
      await settle();
      expect(entriesOf(h, 'progressed').length).toBe(lives);
      engine.own.abandon!();
    }
    expect(entriesOf(h, 'progressed')[0]).toMatchObject({ id: ['a', 1] });
    expect(statusOf(h)).toBe('running');
  });
});

describe('a run that was interrupted', () => {
  it('F5: is claimed as it stood before its handler is called; its outcomes are durable before that hears of them', async () => {
    const h = hands();
    const log: string[] = [];
    const define = (isFirst: boolean) => (stepfast: Stepfast) =>
      stepfast.job('job', async ({ step }) => {
        log.push('handler');
        await step.run('a', () => (isFirst ? never() : 1));
        log.push(`heard at ${h.kinds('r').filter((kind) => kind === 'step-completed').length}`);
        await step.run('b', () => 2);
      });
    const first = h.engine(define(true));
    await first.start('job', undefined, { id: 'r' });
    await settle();
    first.own.abandon!();
    const second = h.engine(define(false));
    const claimed = gate();
    second.own.onCommit = async (batch, pass) => {
      if (kindsOf(batch).includes('claimed')) await claimed.promise;
      return pass();
    };
    await second.ready();
    await settle();
    expect(log).toEqual(['handler']);
    claimed.open();
    await settle();
    expect(log).toEqual(['handler', 'handler', 'heard at 1']);
    expect(entriesOf(h, 'claimed')).toMatchObject([{ fence: 1 }, { fence: 2, interrupted: true }]);
    expect(statusOf(h)).toBe('completed');
    await soon(second.close());
  });

  it('F5: where that claim is refused, its handler is not called', async () => {
    const h = hands();
    const log: string[] = [];
    const first = h.engine((stepfast) => stepfast.job('job', ({ step }) => step.run('a', never)));
    await first.start('job', undefined, { id: 'r' });
    await settle();
    first.own.abandon!();
    const second = h.engine((stepfast) => stepfast.job('job', () => void log.push('called')));
    second.own.onCommit = async (batch, pass) => {
      if (kindsOf(batch).includes('claimed')) await h.engine().runs.cancel('r');
      return pass();
    };
    await second.ready();
    await settle();
    expect([log, statusOf(h)]).toEqual([[], 'cancelled']);
    await soon(second.close());
  });
});

describe('code that does not fit', () => {
  it('R5: blocks the run where it stands, and says whose fault it is; what fits goes on', async () => {
    const h = hands();
    const first = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        await step.run('a', () => 1);
        await step.waitForEvent('go');
      }),
    );
    await first.start('job', undefined, { id: 'r' });
    await settle();
    await soon(first.close());
    await h.engine().dispatch('go');
    const second = h.engine((stepfast) => stepfast.job('job', ({ step }) => step.sleep('a', '1h')));
    await second.ready();
    await settle();
    const { status, error } = (await second.runs.get('r'))!;
    expect([status, error!.code, error!.step]).toEqual(['blocked', 'REPLAY_MISMATCH', 'a']);
    expect(error!.message).toMatch(/Run r of job "job".*"a"/);
    expect(h.errors).toHaveLength(1);
    expect(h.row('r')).toMatchObject({ status: 'waiting', fence: 1 }); // nothing was written
    await soon(second.close());
    const third = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        await step.run('a', () => 1);
        await step.waitForEvent('go');
        return 'fits';
      }),
    );
    await third.ready();
    await settle();
    expect(statusOf(h)).toBe('completed');
    await soon(third.close());
  });

  it('R5: of a bad command that follows an outcome, the outcome is kept; functions in flight are waited for', async () => {
    const h = hands();
    const inside = gate();
    const log: string[] = [];
    const engine = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        const slow = step.run('slow', () => inside.promise);
        await step.run('a', () => void log.push('a'));
        (step.run as Function)('', () => 1).catch?.(() => undefined);
        await slow;
      }),
    );
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect([entriesOf(h, 'step-completed').map(({ id }) => id), statusOf(h)]).toEqual([[['a', 1]], 'running']);
    inside.open();
    await settle();
    expect(entriesOf(h, 'step-completed').map(({ id }) => id)).toEqual([
      ['a', 1],
      ['slow', 1],
    ]);
    expect(['failed', 'blocked']).toContain((await engine.runs.get('r'))!.status);
    expect(log).toEqual(['a']);
    await soon(engine.close());
  });
});

describe('code of a later version', () => {
  const upgrading = async (options: JobOptions) => {
    const h = hands();
    const log: string[] = [];
    const first = h.engine((stepfast) =>
      stepfast.job('job', async ({ step, log: say }) => {
        say.info('old');
        await step.run('a', () => void log.push('a'), { undo: () => void log.push('undo a') });
        await step.waitForEvent('go');
      }),
    );
    await first.start('job', 'p', { id: 'r' });
    await settle();
    await soon(first.close());
    await h.engine().dispatch('go');
    const second = h.engine((stepfast) =>
      stepfast.job('job', { version: 2, ...options }, async ({ step, payload, run }) => {
        await step.run('a', () => void log.push('a again'), { undo: () => void log.push('undo a') });
        await step.waitForEvent('go', { lookback: 'any', timeout: '1m', onTimeout: 'continue' });
        return [payload, run.generation];
      }),
    );
    await second.ready();
    await settle();
    return { h, log, second };
  };
  it('O6: goes on, and says in its first commit that it is of that version', async () => {
    const { h, log, second } = await upgrading({});
    expect([log, statusOf(h), h.row('r')!.version]).toEqual([['a'], 'completed', 2]);
    expect(entriesOf(h, 'upgraded')).toMatchObject([{ from: 1, to: 2 }]);
    await soon(second.close());
  });
  it('O6: begins anew, under its id and with what it was given', async () => {
    const { h, log, second } = await upgrading({ upgrade: 'restart' });
    expect(log).toEqual(['a', 'a again']);
    expect(h.kinds('r').slice(0, 2)).toEqual(['started', 'upgraded']);
    expect(h.row('r')).toMatchObject({ version: 2, fence: 2 });
    await h.advance(60_000);
    expect((await second.runs.get('r'))!.result).toEqual(['p', 1]);
    await soon(second.close());
  });
  it('O6, F7: is given up, and what it has done is undone', async () => {
    const { h, log, second } = await upgrading({ upgrade: 'abandon' });
    expect([statusOf(h), log]).toEqual(['cancelled', ['a', 'undo a']]);
    expect(h.kinds('r').filter((kind) => /upgraded|cancelled/.test(kind))).toEqual(['upgraded', 'cancelled']);
    await soon(second.close());
  });
});

describe('a run that begins anew', () => {
  it('E3: remembers which events it has taken, and which it has left', async () => {
    const { h, engine, run } = await play(async ({ step, payload }: Context) => {
      const { waitForEvent, restart } = step;
      const match = (n: number) => n % 2 === 0;
      const { payload: n } = await waitForEvent('go', payload === 'p' ? { match } : {});
      if (payload === 'p') return restart('again');
      return n;
    });
    await engine.dispatch('go', 1);
    await engine.dispatch('go', 2);
    await settle();
    expect(await soon(run.result())).toBe(1);
    const started = entriesOf(h, 'started');
    expect(started).toMatchObject([{ payload: 'again', given: 'p', generation: 1, at: h.clock.now() }]);
    expect([started[0]!.floors, started[0]!.left]).toEqual([
      [['["go"]', expect.any(Number)]],
      [['["go"]', [expect.any(Number)]]],
    ]);
    await soon(engine.close());
    const plain = await play(async ({ step, payload }: Context) => (payload === 'p' ? step.restart('again') : 'done'));
    expect(statusOf(plain.h)).toBe('completed');
    const [anew] = entriesOf(plain.h, 'started');
    expect(['floors' in anew!, 'left' in anew!]).toEqual([false, false]);
    await soon(plain.engine.close());
  });

  it('R11: is held, due at any time, and starts to count from then', async () => {
    const inside = gate();
    const h = hands();
    const engine = h.engine((stepfast) =>
      stepfast.job<number>('job', async ({ payload, step }) => {
        await step.run('a', () => (payload ? inside.promise : undefined));
        if (!payload) await step.restart(1);
      }),
    );
    await engine.start('job', 0, { id: 'r' });
    h.jump(500);
    await settle();
    expect(h.row('r')).toMatchObject({
      status: 'running',
      dueAt: 0,
      slot: 'default',
      waits: [],
      version: 1,
      startedAt: h.clock.now(),
    });
    inside.open();
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

describe('a run that stands still', () => {
  it('R7: goes on without what its code does not ask for any more, and says so', async () => {
    const h = hands();
    const first = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        await step.run('a', () => 'a');
        await step.run('b', () => 'b');
        await step.waitForEvent('go');
      }),
    );
    await first.start('job', undefined, { id: 'r' });
    await settle();
    await soon(first.close());
    await h.engine().dispatch('go');
    const second = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        const b = await step.run('b', () => 'b again');
        await step.waitForEvent('go');
        return b;
      }),
    );
    await second.ready();
    await settle();
    expect(statusOf(h)).not.toBe('completed');
    await h.impatient(LIMITS.stallMs);
    expect(statusOf(h)).toBe('completed');
    expect((await second.runs.get('r'))!.result).toBe('b');
    expect(entriesOf(h, 'drift')).toMatchObject([{ ids: [['step', 'a', 1]] }]);
    await soon(second.close());
  });

  it('R5: that it is blocked is written once, whoever finds it so later; its handler is not called', async () => {
    const h = hands();
    await h.engine().start('job', undefined, { id: 'r', allowUnregistered: true });
    let calls = 0;
    for (let lives = 0; lives < 3; lives++) {
      const engine = h.engine((stepfast) =>
        stepfast.job('job', { version: 2, migrate: unfit, timeout: '1d' }, () => void calls++),
      );
      await engine.ready();
      await settle();
      expect((await engine.runs.get('r'))!.error!.code).toBe('MIGRATION_FAILED');
      await soon(engine.close());
    }
    expect([h.kinds('r'), calls]).toEqual([['started', 'claimed', 'released'], 0]);
  });

  it('F5: a suspect waits until nothing else is in flight, and while it is at work nothing else is entered', async () => {
    const h = hands();
    const log: string[] = [];
    const [beside, inside] = [gate(), gate()];
    const define = (dies: boolean) => (stepfast: Stepfast) => {
      stepfast.job('job', ({ step }) =>
        step.run('a', () => {
          if (dies) return never();
          log.push('suspect');
          return inside.promise;
        }),
      );
      stepfast.job('beside', ({ run, step }) =>
        step.run('b', () => {
          log.push(run.id);
          return run.id === 'before' ? beside.promise : undefined;
        }),
      );
    };
    for (let lives = 0; lives < 2; lives++) {
      const engine = h.engine(define(true));
      if (!lives) await engine.start('job', undefined, { id: 'r' });
      else await engine.ready();
      await settle();
      engine.own.abandon!();
    }
    const engine = h.engine(define(false));
    let isHeld = true;
    engine.own.onDue = async (pass) => {
      const page = await pass();
      return isHeld ? { ...page, runs: page.runs.filter(({ row }) => row.runId !== 'r') } : page;
    };
    await engine.start('beside', undefined, { id: 'before' });
    await settle();
    isHeld = false;
    h.wake();
    await settle();
    expect([log, h.row('r')!.fence]).toEqual([['before'], 2]); // not even claimed
    beside.open();
    await settle();
    expect(log).toEqual(['before', 'suspect']);
    await engine.start('beside', undefined, { id: 'after' });
    await settle();
    expect([log, h.row('after')!.status]).toEqual([['before', 'suspect'], 'queued']);
    inside.open();
    await settle();
    expect([log, statusOf(h), h.row('after')!.status]).toEqual([
      ['before', 'suspect', 'after'],
      'completed',
      'completed',
    ]);
    await soon(engine.close());
  });

  it('D2: an engine that closes while the commit is under way enters nothing', async () => {
    const h = hands();
    const log: string[] = [];
    const engine = h.engine((stepfast) => stepfast.job('job', ({ step }) => step.run('a', () => void log.push('a'))));
    const held = gate();
    engine.own.onCommit = async (batch, pass) => {
      const outcome = await pass();
      if (batch.run?.state?.status === 'running') await held.promise;
      return outcome;
    };
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    const closing = engine.close();
    held.open();
    await closing;
    expect([log, h.row('r')]).toMatchObject([[], { status: 'queued', fence: 1 }]);
    expect(h.kinds('r')).toEqual(['started', 'claimed', 'released']);
  });
});

describe('a handler that ends', () => {
  it('R8: what ends while it returns is recorded before its end', async () => {
    const inside = gate();
    const { h, engine, run } = await play(async ({ step }: Context) => {
      void step.run('slow', () => inside.promise);
      await step.run('a', () => 1);
      inside.open();
      return 'early';
    });
    expect(await soon(run.result())).toBe('early');
    expect(entriesOf(h, 'step-completed').map(({ id }) => id)).toEqual([
      ['a', 1],
      ['slow', 1],
    ]);
    expect(h.kinds('r').at(-1)).toBe('completed');
    await soon(engine.close());
  });

  it('R8, R12: a run has one end, though its handler had returned already', async () => {
    const inside = gate();
    const { h, engine } = await play(
      async ({ step }: Context) => {
        void step.run('slow', () => inside.promise);
        await step.run('a', () => 1);
        return 'early';
      },
      {},
      { maxOutcomes: 1 },
    );
    inside.open();
    await settle();
    expect([statusOf(h), h.kinds('r').filter((kind) => /^(completed|failed)$/.test(kind))]).toEqual([
      'failed',
      ['failed'],
    ]);
    await soon(engine.close());
  });
});

describe('a call that can not be made here', () => {
  const beside = (fn: (context: StepContext) => unknown, isFirst: boolean) => {
    const h = hands();
    const engine = h.engine((stepfast) =>
      stepfast.job('job', { retry: fixed }, ({ step }) => {
        const calls = [() => step.call('child'), () => step.run('a', fn)];
        return Promise.all((isFirst ? calls.reverse() : calls).map((call) => call()));
      }),
    );
    return { h, engine };
  };
  it('R5: does not undo what has ended before it', async () => {
    const log: string[] = [];
    const { h, engine } = beside(() => void log.push('a'), true);
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect([(await engine.runs.get('r'))!.status, entriesOf(h, 'step-completed').length]).toEqual(['blocked', 1]);
    expect(h.row('r')).toMatchObject({ status: 'queued' });
    engine.job('child', () => 'end');
    await settle();
    expect([log, statusOf(h)]).toEqual([['a'], 'completed']);
    await soon(engine.close());
  });
});
