import { describe, expect, it } from 'vitest';
import type { JobOptions, StepContext, Stepfast } from '../src/index.js';
import { LIMITS } from '../src/limits.js';
import { entriesOf, gate, hands, kindsOf, left, never, settle, soon, unfit, type World } from './hand-kit.js';

// Pins: rounds of runs that do not go on as they did: after a crash, with other code, while they stand still (spec F5, O6, R5).

const fixed = { maxAttempts: 3, initialDelay: '1s', factor: 1, jitter: false } as const;

const statusOf = (h: World) => h.row('r')!.status;

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
    const h = await left(async ({ step }) => {
      await step.run('a', () => 1);
      await step.waitForEvent('go');
    });
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
    const log: string[] = [];
    const h = await left(async ({ step, log: say }) => {
      say.info('old');
      await step.run('a', () => void log.push('a'), { undo: () => void log.push('undo a') });
      await step.waitForEvent('go');
    });
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

describe('a run that stands still', () => {
  it('R7: goes on without what its code does not ask for any more, and says so', async () => {
    const h = await left(async ({ step }) => {
      await step.run('a', () => 'a');
      await step.run('b', () => 'b');
      await step.waitForEvent('go');
    });
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
