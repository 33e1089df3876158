import { describe, expect, it } from 'vitest';
import { FatalError, type HandlerContext, type Stepfast } from '../src/index.js';
import { LIMITS } from '../src/limits.js';
import { codeOf, entriesOf, gate, hands, never, play, settle, soon, unfit, type World } from './hand-kit.js';

// Pins: how a run ends, round by round: by its handler, from within where its handler does not end it (spec R8, R12, F5, F8), and
// anew.

type Context = HandlerContext<string>;
const fixed = { maxAttempts: 3, initialDelay: '1s', factor: 1, jitter: false } as const;

const statusOf = (h: World) => h.row('r')!.status;

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
