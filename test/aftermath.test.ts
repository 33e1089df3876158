import { describe, expect, it } from 'vitest';
import { FatalError, type JobOptions, type Stepfast } from '../src/index.js';
import { LIMITS } from '../src/limits.js';
import { away, gate, hands, kindsOf, never, settle, soon, type World } from './hand-kit.js';

// Pins: what follows the end of a run, one thing after the other (spec F7, F9): its steps are undone, then `onFailed` is told
// (F6); each is recorded before and after, tried again, and given up in the end (F1, F5).

const fixed = { maxAttempts: 3, initialDelay: '1s', factor: 1, jitter: false } as const;
const fatal = () => {
  throw new FatalError('no way');
};
const entriesOf = (h: World, kind: RegExp) =>
  h.journal('r').filter((entry) => kind.test(entry.kind)) as unknown as readonly {
    readonly [field: string]: unknown;
  }[];
const undone = (h: World) => entriesOf(h, /^undone$/).map(({ id }) => (id as readonly [string])[0]);
const isOver = (h: World) => h.row('r')!.endedAt !== undefined && !h.row('r')!.undoing;

/** A run that does `a`, which can be undone, and then fails. */
const failing =
  (undo: (context: never) => unknown, options: JobOptions = {}, result: unknown = 1) =>
  (stepfast: Stepfast) =>
    stepfast.job('job', options, async ({ step }) => {
      await step.run('a', () => result, { undo: undo as never });
      await step.run('b', fatal);
    });
async function play(define: (stepfast: Stepfast) => unknown, start: object = {}) {
  const h = hands();
  const engine = h.engine(define);
  await engine.start('job', 'p', { id: 'r', ...start });
  await settle();
  return { h, engine };
}

describe('steps are undone', () => {
  it('F7: in the reverse of the order in which they have ended, one at a time; what was in flight, by its beginning', async () => {
    const h = hands();
    const log: string[] = [];
    const gates = { first: gate<number>(), second: gate<number>() };
    let inside = 0;
    const results: unknown[] = [];
    const undo = (name: string) => ({
      undo: async ({ result }: { result: unknown }) => {
        results.push(result);
        expect(++inside).toBe(1);
        await settle(2);
        inside--;
        log.push(name);
      },
    });
    const engine = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        const slow = step.run('slow', never, undo('slow'));
        const both = [
          step.run('first', () => gates.first.promise, undo('first')),
          step.run('second', () => gates.second.promise, undo('second')),
        ];
        await Promise.all(both);
        await step.run('last', () => 3, undo('last'));
        await slow;
      }),
    );
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    gates.second.open(2);
    await settle();
    gates.first.open(1);
    await settle();
    await engine.runs.cancel('r');
    await settle(200);
    await h.impatient(LIMITS.lateMs); // `slow` may return yet: it is waited for
    await settle(200);
    expect(log).toEqual(['last', 'first', 'second', 'slow']);
    expect(results).toEqual([3, 1, 2, undefined]);
    expect([undone(h), isOver(h), h.row('r')!.status]).toEqual([log, true, 'cancelled']);
    await soon(engine.close());
  });

  it('F7: with what they have returned, a key of their own, and a signal; of what is unknown, with nothing', async () => {
    const seen: { result: unknown; attempt: number; idempotencyKey: string; signal: AbortSignal }[] = [];
    const { h, engine } = await play(failing((context) => void seen.push(context), {}, new Date(5)));
    expect(seen).toMatchObject([
      { result: new Date(5), attempt: 1, idempotencyKey: 'r/0/a/1/undo', signal: { aborted: false } },
    ]);
    expect(entriesOf(h, /^undo/)).toMatchObject([
      { kind: 'undo-set', id: ['a', 1] },
      { kind: 'undone', id: ['a', 1], attempt: 1, at: h.clock.now() },
    ]);
    expect(isOver(h)).toBe(true);
    await soon(engine.close());
    seen.length = 0;
    const unknown = await play((stepfast) =>
      stepfast.job('job', ({ step }) =>
        step.run('a', never, {
          timeout: '1s',
          retry: { maxAttempts: 1 },
          undo: (context) => void seen.push(context as never),
        }),
      ),
    );
    await unknown.h.advance(1_000);
    await unknown.h.impatient(); // with what is in flight
    expect(seen).toMatchObject([{ result: undefined }]);
    await soon(unknown.engine.close());
  });

  it('F9: with what they return late, after the run has ended without them', async () => {
    const inside = gate<string>();
    const seen: unknown[] = [];
    const { h, engine } = await play((stepfast) =>
      stepfast.job('job', ({ step }) =>
        step.run('a', () => inside.promise, {
          undo: ({ result }: { result: unknown }) => void seen.push(result),
        } as never),
      ),
    );
    await engine.runs.cancel('r');
    await settle();
    expect([seen, isOver(h)]).toEqual([[], false]);
    inside.open('late');
    await settle();
    expect([seen, isOver(h)]).toEqual([['late'], true]);
    await soon(engine.close());
  });

  it('F7: not what was never entered, has failed, or was undone before; nothing of a run that has completed', async () => {
    const log: string[] = [];
    const undo = (name: string) => ({ undo: () => void log.push(name) });
    const { h, engine } = await play((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        await step.run('done', () => 1, undo('done'));
        await step.run('failed', fatal, undo('failed')).catch(() => undefined);
        await step.run('end', fatal, undo('end'));
        await step.run('never', () => 1, undo('never'));
      }),
    );
    expect([log, isOver(h)]).toEqual([['done'], true]);
    await soon(engine.close());
    log.length = 0;
    const fine = await play((stepfast) => stepfast.job('job', ({ step }) => step.run('a', () => 1, undo('a'))));
    expect([log, fine.h.row('r')!.status]).toEqual([[], 'completed']);
    await soon(fine.engine.close());
  });

  it('F1, F7: an undo that fails is tried again by the rules of its step, with the same key; given up, it is told', async () => {
    for (const own of [undefined, { ...fixed, maxAttempts: 2, initialDelay: '5s' }] as const) {
      const seen: unknown[] = [];
      const h = hands();
      const engine = h.engine((stepfast) =>
        stepfast.job('job', { retry: fixed }, async ({ step }) => {
          await step.run('a', () => 1, {
            ...(own && { retry: own }),
            undo({ attempt, idempotencyKey }) {
              seen.push([attempt, idempotencyKey]);
              throw new Error(`no ${attempt}`);
            },
          });
          await step.run('b', fatal);
        }),
      );
      await engine.start('job', undefined, { id: 'r' });
      await settle();
      const delay = own ? 5_000 : 1_000;
      const at = h.clock.now();
      expect(h.row('r')).toMatchObject({ status: 'failed', undoing: true, dueAt: at + delay });
      await h.advance(delay - 1);
      expect(seen).toHaveLength(1);
      for (let times = 0; times < 3; times++) await h.advance(delay);
      const attempts = own ? 2 : 3;
      expect(seen).toEqual(Array.from({ length: attempts }, (_, nth) => [nth + 1, 'r/0/a/1/undo']));
      expect(entriesOf(h, /^undo-attempt-failed$/)).toHaveLength(attempts - 1);
      expect(entriesOf(h, /^undo-attempt-failed$/)[0]).toMatchObject({
        ...{ id: ['a', 1], attempt: 1, at, retryAt: at + delay, error: { message: 'no 1' } },
      });
      expect(entriesOf(h, /^undo-failed$/)).toMatchObject([
        { id: ['a', 1], attempt: attempts, error: { message: `no ${attempts}` } },
      ]);
      const place = { code: 'STEP_FAILED', runId: 'r', job: 'job', step: 'a', cause: new Error(`no ${attempts}`) };
      expect(h.errors).toMatchObject([place]);
      expect(String(h.errors[0])).toContain(
        `The undo of step "a" failed for good at attempt ${attempts}: no ${attempts}`,
      );
      expect(isOver(h)).toBe(true);
      await soon(engine.close());
    }
  });

  it('F7: one that is given up does not keep the others from being undone, nor one that backs off those before it in line', async () => {
    const log: string[] = [];
    const { h, engine } = await play((stepfast) =>
      stepfast.job('job', { retry: fixed }, async ({ step }) => {
        await step.run('a', () => 1, { undo: () => void log.push('a') });
        await step.run('b', () => 1, { undo: fatal });
        await step.run('c', fatal);
      }),
    );
    expect([log, isOver(h), entriesOf(h, /^undo-failed$/).length]).toEqual([['a'], true, 1]);
    await soon(engine.close());
  });
});

describe('onFailed', () => {
  it('F6: is told of a failure, behind all that is undone: of which run, with what, and why', async () => {
    const log: unknown[] = [];
    const options: JobOptions = {
      onFailed: ({ run, payload, error, signal }) =>
        void log.push({ run, payload, error, aborted: (signal as AbortSignal).aborted }),
    };
    const { h, engine } = await play(
      failing(() => void log.push('undo a'), options),
      { tags: ['t'] },
    );
    expect(log).toEqual([
      'undo a',
      {
        run: { id: 'r', job: 'job', createdAt: h.row('r')!.createdAt, tags: ['t'] },
        ...{ payload: 'p', aborted: false },
        error: expect.objectContaining({ code: 'STEP_FAILED', message: expect.any(String) }),
      },
    ]);
    expect(entriesOf(h, /^undone$/)).toMatchObject([{ id: ['a', 1] }, { id: ['stepfast:onFailed', 1], attempt: 1 }]);
    expect(isOver(h)).toBe(true);
    await soon(engine.close());
    const plain = await play(failing(() => undefined, { onFailed: ({ run }) => void log.push(run.tags) }));
    expect(log.at(-1)).toEqual([]);
    await soon(plain.engine.close());
  });

  it('F6: is told of nothing that was cancelled or has completed; what it throws is tried again', async () => {
    const log: string[] = [];
    let isBad = true;
    const onFailed = () => {
      log.push('told');
      if (isBad) throw new Error('not yet');
    };
    const define = (stepfast: Stepfast) =>
      stepfast.job<string>('job', { onFailed, retry: fixed }, async ({ payload, step }) => {
        if (payload === 'fails') await step.run('a', fatal);
        if (payload === 'waits') await step.waitForEvent('go');
      });
    const h = hands();
    const engine = h.engine(define);
    await engine.start('job', 'fine');
    const waits = await engine.start('job', 'waits');
    await settle();
    await waits.cancel();
    await settle();
    expect(log).toEqual([]);
    await engine.start('job', 'fails', { id: 'r' });
    await settle();
    expect([log.length, isOver(h)]).toEqual([1, false]);
    expect(entriesOf(h, /^undo-attempt-failed$/)).toMatchObject([{ attempt: 1, error: { message: 'not yet' } }]);
    isBad = false;
    await h.advance(1_000);
    expect([log.length, isOver(h), h.errors]).toEqual([2, true, []]);
    isBad = true;
    await engine.start('job', 'fails', { id: 's' });
    for (let times = 0; times < 3; times++) await h.advance(1_000);
    expect(log).toHaveLength(5);
    expect(h.errors).toMatchObject([{ code: 'STEP_FAILED', runId: 's', job: 'job', cause: { message: 'not yet' } }]);
    expect(String(h.errors[0])).toContain('onFailed of job "job" failed for good at attempt 3: not yet');
    expect(h.errors[0]).not.toHaveProperty('step');
    await soon(engine.close());
  });
});

describe('what is noted of it', () => {
  it('F6: a run that was cancelled has its steps undone, and onFailed is not told', async () => {
    const log: string[] = [];
    const { h, engine } = await play((stepfast) =>
      stepfast.job('job', { onFailed: () => void log.push('told') }, async ({ step }) => {
        await step.run('a', () => 1, { undo: () => void log.push('undo a') });
        await step.waitForEvent('go');
      }),
    );
    await engine.runs.cancel('r');
    await settle();
    expect([log, isOver(h), entriesOf(h, /^undo-attempt|^undo-failed/)]).toEqual([['undo a'], true, []]);
    await soon(engine.close());
  });

  it('R2: attempts are counted for each undo: what was interrupted before it, or before the end, is none of it', async () => {
    const h = hands();
    const seen: string[] = [];
    const lives = { nth: 0 };
    const define = (stepfast: Stepfast) =>
      stepfast.job('job', async ({ step }) => {
        const undo = (name: string, dies: number) => ({
          undo({ attempt }: { attempt: number }) {
            seen.push(`${name} ${attempt}`);
            return lives.nth === dies ? never() : undefined;
          },
        });
        await step.run('a', () => 1, undo('a', 9));
        await step.run('b', () => (lives.nth === 0 ? never() : 1), undo('b', 1));
        await step.run('c', fatal);
      });
    for (; lives.nth < 3; lives.nth++) {
      const engine = h.engine(define);
      if (!lives.nth) await engine.start('job', undefined, { id: 'r' });
      else await engine.ready();
      await settle();
      if (lives.nth < 2) engine.own.abandon!();
      else await soon(engine.close());
    }
    expect(seen).toEqual(['b 1', 'b 2', 'a 1']);
    expect(entriesOf(h, /^undone$/)).toMatchObject([
      { id: ['b', 1], attempt: 2 },
      { id: ['a', 1], attempt: 1 },
    ]);
    expect(isOver(h)).toBe(true);
  });

  it('F5: one that is tried again counts as begun from then on: should its context die, that is an interruption', async () => {
    const h = hands();
    const define = (stepfast: Stepfast) =>
      failing(
        ({ attempt }: { attempt: number }) =>
          attempt === 1 ? Promise.reject(new Error('no')) : attempt === 2 ? never() : undefined,
        {
          retry: fixed,
        },
      )(stepfast);
    const first = h.engine(define);
    await first.start('job', undefined, { id: 'r' });
    await settle();
    expect(h.row('r')!.dueAt).toBe(h.clock.now() + 1_000);
    await h.advance(1_000);
    expect(h.row('r')).toMatchObject({ undoing: true, dueAt: 0 });
    first.own.abandon!();
    const second = h.engine(define);
    await second.ready();
    await settle();
    expect(entriesOf(h, /^claimed$/).at(-1)).toMatchObject({ interrupted: true });
    expect(entriesOf(h, /^undone$/)).toMatchObject([{ attempt: 3 }]);
    await soon(second.close());
  });

  it('F8: one that needs the network waits for it, in one commit: nothing of it is under way, and who dies then is not blamed', async () => {
    const h = hands();
    const log: string[] = [];
    const undo = { undo: () => void log.push(`undone ${h.isOnline ? 'online' : 'offline'}`) };
    const define = (stepfast: Stepfast) =>
      stepfast.job('job', { onFailed: () => void log.push('told') }, async ({ step }) => {
        await step.run('a', () => 1, { ...undo, when: 'online' });
        await step.run('b', () => void (h.isOnline = false), undo);
        await step.run('c', fatal);
      });
    const first = h.engine(define);
    await first.start('job', undefined, { id: 'r' });
    await settle();
    expect(log).toEqual(['undone offline']); // what needs no network is taken back without it
    const at = h.clock.now();
    expect(h.row('r')).toMatchObject({
      status: 'failed',
      undoing: true,
      owner: expect.any(String),
      dueAt: at,
      setAt: at,
    });
    const commits = first.own.batches.length;
    h.wake();
    await h.advance(60_000);
    expect([first.own.batches.length, h.row('r')!.dueAt]).toEqual([commits, at]);
    first.own.abandon!();
    const second = h.engine(define);
    await second.ready();
    await h.advance(60_000);
    expect(second.own.batches.filter(({ run }) => run)).toEqual([]);
    h.isOnline = true;
    h.wake();
    await settle();
    expect(log).toEqual(['undone offline', 'undone online', 'told']);
    expect(entriesOf(h, /^claimed$/).at(-1)).not.toHaveProperty('interrupted');
    expect([isOver(h), h.errors]).toEqual([true, []]);
    await soon(second.close());
  });

  it('F5, F8: where there is none at the end of the run, its last commit says that nothing is under way', async () => {
    const h = hands();
    const undo = { undo: () => undefined };
    const first = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        await step.run('a', () => 1, { ...undo, when: 'online' });
        await step.run('b', () => {
          h.isOnline = false;
          fatal();
        });
      }),
    );
    await first.start('job', undefined, { id: 'r' });
    await settle();
    expect(kindsOf(first.own.batches.at(-1)!)).toContain('failed');
    expect(h.row('r')).toMatchObject({ undoing: true, dueAt: h.clock.now(), setAt: h.clock.now() });
    first.own.abandon!();
    await soon(first.close());
  });

  it('F7, F8: one that is done, and whose commit failed, is recorded without a network, and not done again', async () => {
    const log: string[] = [];
    const h = hands();
    const engine = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        await step.run('a', () => 1, { undo: () => void log.push('undone'), when: 'online' });
        await step.run('b', fatal);
      }),
    );
    let lost = 0;
    engine.own.onCommit = async (batch, pass) => {
      if (!kindsOf(batch).includes('undone') || lost++) return pass();
      h.isOnline = false;
      throw away();
    };
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    await h.impatient(LIMITS.backoffMs);
    await settle();
    expect([log, undone(h), isOver(h)]).toEqual([['undone'], ['a'], true]);
    await soon(engine.close());
  });

  it('F5, F8: nor is one that was interrupted too often held back: it is given up', async () => {
    const h = hands();
    const define = (stepfast: Stepfast) =>
      stepfast.job('job', { maxInterruptions: 1 }, async ({ step }) => {
        await step.run('a', () => 1, { undo: never, when: 'online' });
        await step.run('b', fatal);
      });
    const first = h.engine(define);
    await first.start('job', undefined, { id: 'r' });
    await settle();
    first.own.abandon!();
    const second = h.engine(define);
    second.own.onCommit = (_, pass) => pass().then(never); // it dies before it hears the answer
    await second.ready();
    await settle();
    second.own.abandon!();
    expect(entriesOf(h, /^claimed$/)).toHaveLength(2);
    h.isOnline = false;
    const third = h.engine(define);
    await third.ready();
    await settle();
    expect(entriesOf(h, /^undo-failed$/)).toMatchObject([{ error: { code: 'CRASH_LOOP' } }]);
    expect(isOver(h)).toBe(true);
    await soon(third.close());
  });

  it('F8: only an undo that waits for the network listens for it', async () => {
    const h = hands();
    const local = gate();
    const engine = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        await step.run('a', () => 1, { undo: () => undefined, when: 'online' });
        await step.run('b', () => 1, { undo: () => local.promise });
        await step.run('c', fatal);
      }),
    );
    await engine.ready();
    const idle = h.listeners();
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect(h.listeners()).toBe(idle);
    h.isOnline = false;
    local.open();
    await settle();
    expect(h.listeners()).toBe(idle + 1);
    h.isOnline = true;
    h.wake();
    await settle();
    expect([h.listeners(), isOver(h)]).toEqual([idle, true]);
    await soon(engine.close());
  });

  it('R11: one commit for each thing that is done', async () => {
    const { h, engine } = await play((stepfast) =>
      stepfast.job('job', { onFailed: () => undefined }, async ({ step }) => {
        for (const name of ['a', 'b']) await step.run(name, () => 1, { undo: () => undefined });
        await step.run('c', fatal);
      }),
    );
    const commits = engine.own.batches.filter(({ run }) => run).map((batch) => kindsOf(batch));
    expect(commits.slice(commits.findIndex((kinds) => kinds.includes('failed')) + 1)).toEqual([
      ['undone'],
      ['undone'],
      ['undone'],
    ]);
    expect(isOver(h)).toBe(true);
    await soon(engine.close());
  });

  it('F6: a run whose code wants to be told no more is over, and that is written', async () => {
    const h = hands();
    const first = h.engine(failing(() => undefined, { onFailed: never }));
    await first.start('job', undefined, { id: 'r' });
    await settle();
    expect(h.row('r')!.undoing).toBe(true);
    first.own.abandon!();
    const second = h.engine(failing(() => undefined));
    await second.ready();
    await settle();
    expect([isOver(h), h.row('r')!.status, h.row('r')!.fence]).toEqual([true, 'failed', 2]);
    const commits = second.own.batches.length;
    h.wake();
    await settle();
    expect(second.own.batches.length).toBe(commits);
    await soon(second.close());
  });
});

describe('nothing of that is done', () => {
  it('U1, D2: before the store has said that it is ours to do, and has noted that it begins', async () => {
    const h = hands();
    const log: string[] = [];
    const engine = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        await step.run('a', () => 1, { undo: () => void log.push('undo a') });
        await step.waitForEvent('go');
      }),
    );
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    const held = gate();
    engine.own.onCommit = async (batch, pass) => {
      if (batch.run?.state?.undoing) await held.promise;
      return pass();
    };
    await engine.runs.cancel('r');
    await settle();
    expect([log, h.row('r')!.undoing]).toEqual([[], true]);
    held.open();
    await settle();
    expect([log, isOver(h)]).toEqual([['undo a'], true]);
    expect(h.kinds('r').slice(-3)).toEqual(['cancelled', 'claimed', 'undone']);
    await soon(engine.close());
  });

  it('U1, O1: where another context has claimed it first', async () => {
    const h = hands();
    const log: string[] = [];
    const define = (name: string) => (stepfast: Stepfast) =>
      stepfast.job('job', async ({ step }) => {
        await step.run('a', () => 1, { undo: () => void log.push(name) });
        await step.waitForEvent('go');
      });
    const engine = h.engine(define('here'));
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    const held = gate();
    engine.own.onCommit = async (batch, pass) => {
      if (batch.run?.state?.undoing) await held.promise;
      return pass();
    };
    await engine.runs.cancel('r');
    await settle();
    const other = h.engine(define('there'));
    await other.ready();
    await settle();
    expect([log, isOver(h)]).toEqual([['there'], true]);
    held.open();
    await settle();
    expect([log, undone(h)]).toEqual([['there'], ['a']]);
    await soon(engine.close());
    await soon(other.close());
  });

  it('F5: where the answer comes later than the lease, and others have it by then', async () => {
    const h = hands();
    const log: string[] = [];
    const define = (stepfast: Stepfast) =>
      stepfast.job('job', async ({ step }) => {
        await step.run('a', () => 1, { undo: () => void log.push('undo a') });
        await step.waitForEvent('go');
      });
    const engine = h.engine(define);
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    let isLate = false;
    engine.own.onCommit = async (batch, pass) => {
      const outcome = await pass();
      if (!isLate && batch.run?.state?.undoing) {
        isLate = true;
        h.jump(15_000);
        h.lostHints();
        h.medium.owners.clear(); // it counts as dead
        const other = h.engine(define);
        await other.ready();
        await settle();
        expect(log).toEqual(['undo a']);
      }
      return outcome;
    };
    await engine.runs.cancel('r');
    await settle(300);
    expect([isLate, log, isOver(h)]).toEqual([true, ['undo a'], true]);
    await soon(engine.close());
  });

  it('D5: twice, where it was done and only its commit has failed', async () => {
    for (const isDone of [true, false]) {
      const h = hands();
      const log: string[] = [];
      const engine = h.engine(failing(() => void log.push('undo a')));
      let isLost = false;
      engine.own.onCommit = async (batch, pass) => {
        if (isLost || !kindsOf(batch).includes('undone')) return pass();
        isLost = true;
        if (isDone) await pass();
        throw away();
      };
      await engine.start('job', undefined, { id: 'r' });
      await settle();
      await h.impatient(1_000);
      expect([log, undone(h), isOver(h)]).toEqual([['undo a'], ['a'], true]);
      await soon(engine.close());
    }
  });

  it('F5: by an engine that closes; the next one goes on with it', async () => {
    const h = hands();
    const log: string[] = [];
    let signal: AbortSignal | undefined;
    const engine = h.engine(
      failing(({ signal: given }: { signal: AbortSignal }) => {
        signal = given;
        log.push('begun');
        return never();
      }),
    );
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect([log, signal!.aborted]).toEqual([['begun'], false]);
    await soon(engine.close());
    expect([signal!.aborted, h.row('r')!.undoing]).toEqual([true, true]);
    const next = h.engine(failing(() => void log.push('undone')));
    await next.ready();
    await settle();
    expect([log, isOver(h)]).toEqual([['begun', 'undone'], true]);
    await soon(next.close());
  });

  it('F5: for ever, where it kills its context again and again', async () => {
    const h = hands();
    const attempts: number[] = [];
    const options: JobOptions = { maxInterruptions: 3, onFailed: never };
    const define = failing(({ attempt }: { attempt: number }) => {
      attempts.push(attempt);
      return never();
    }, options);
    for (let lives = 0; lives < 4; lives++) {
      const engine = h.engine(define);
      if (!lives) await engine.start('job', undefined, { id: 'r' });
      else await engine.ready();
      await settle();
      if (lives < 3) engine.own.abandon!();
      else {
        expect(attempts).toEqual([1, 2, 3]);
        expect(entriesOf(h, /^undo-failed$/)).toMatchObject([
          { id: ['a', 1], error: { code: 'CRASH_LOOP', step: 'a' } },
        ]);
        expect(h.errors).toMatchObject([{ code: 'CRASH_LOOP', runId: 'r', job: 'job', step: 'a' }]);
        expect(String(h.errors[0])).toMatch(/The undo of step "a" was interrupted too often/);
        engine.own.abandon!(); // while onFailed is told
      }
    }
    for (let lives = 0; lives < 3; lives++) {
      const engine = h.engine(define);
      await engine.ready();
      await settle();
      if (lives < 2) engine.own.abandon!();
      else await soon(engine.close());
    }
    expect(String(h.errors.at(-1))).toMatch(/onFailed of job "job" was interrupted too often/);
    expect(isOver(h)).toBe(true);
  });
});

describe('code that changes', () => {
  it('F7, R5: that no longer says how a step is undone blocks the run; code that does goes on', async () => {
    const h = hands();
    const first = h.engine(failing(never));
    await first.start('job', undefined, { id: 'r' });
    await settle();
    first.own.abandon!();
    const second = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        await step.run('a', () => 1);
        await step.run('b', fatal);
      }),
    );
    await second.ready();
    await settle();
    expect(await second.runs.get('r')).toMatchObject({
      status: 'blocked',
      error: { code: 'REPLAY_MISMATCH', step: 'a' },
    });
    expect((await second.runs.get('r'))!.error!.message).toMatch(/Step "a" of job "job" is to be undone/);
    expect(h.errors).toHaveLength(1);
    expect(h.row('r')).toMatchObject({ status: 'failed', undoing: true, fence: 1 });
    await soon(second.close());
    const third = h.engine(failing(() => undefined));
    await third.ready();
    await settle();
    expect(isOver(h)).toBe(true);
    await soon(third.close());
  });

  it('F7, R5: that says it of some is let go of behind them, so that other code goes on with the rest at once', async () => {
    const h = hands();
    const log: string[] = [];
    const define = (names: readonly string[]) => (stepfast: Stepfast) =>
      stepfast.job('job', async ({ step }) => {
        for (const name of ['a', 'b'])
          await step.run(name, () => 1, names.includes(name) ? { undo: () => void log.push(name) } : {});
        await step.waitForEvent('go');
      });
    const first = h.engine(define(['a', 'b']));
    await first.start('job', undefined, { id: 'r' });
    await settle();
    await soon(first.close());
    await h.engine().runs.cancel('r');
    const some = h.engine(define(['b']));
    await some.ready();
    await settle();
    await h.impatient(LIMITS.stallMs); // its handler might have asked for more
    expect([log, (await some.runs.get('r'))!.status]).toEqual([['b'], 'blocked']);
    const all = h.engine(define(['a', 'b']));
    await all.ready();
    await settle();
    expect([log, isOver(h)]).toEqual([['b', 'a'], true]);
    await soon(some.close());
    await soon(all.close());
  });

  it('F7, O6: undoes steps by the names that they have by now, and says so in its first commit', async () => {
    const h = hands();
    const log: string[] = [];
    const first = h.engine(failing(never));
    await first.start('job', undefined, { id: 'r' });
    await settle();
    first.own.abandon!();
    const broken = h.engine((stepfast) =>
      stepfast.job('job', { version: 2, migrate: () => ({ rename: { a: 'b' } }) }, never),
    );
    await broken.ready();
    await settle();
    expect((await broken.runs.get('r'))!.error!.code).toBe('MIGRATION_FAILED');
    await soon(broken.close());
    const second = h.engine((stepfast) =>
      stepfast.job('job', { version: 2, migrate: () => ({ rename: { a: 'x' } }) }, async ({ step }) => {
        await step.run('x', () => 1, { undo: ({ idempotencyKey }) => void log.push(idempotencyKey) });
        await step.run('b', fatal);
      }),
    );
    await second.ready();
    await settle();
    expect([log, isOver(h), h.row('r')!.version]).toEqual([['r/0/a/1/undo'], true, 2]);
    expect(entriesOf(h, /^upgraded$/)).toHaveLength(1);
    expect(undone(h)).toEqual(['x']);
    await soon(second.close());
  });

  it('F7: that awaits something else before it asks for the step is waited for, and then given up on', async () => {
    for (const comes of [true, false]) {
      const h = hands();
      const log: string[] = [];
      const first = h.engine(failing(never));
      await first.start('job', undefined, { id: 'r' });
      await settle();
      first.own.abandon!();
      const outside = gate();
      const second = h.engine((stepfast) =>
        stepfast.job('job', async ({ step }) => {
          await outside.promise;
          await step.run('a', () => 1, { undo: () => void log.push('undo a') });
          await step.run('b', fatal);
        }),
      );
      await second.ready();
      await settle();
      expect([log, (await second.runs.get('r'))!.status]).toEqual([[], 'failed']);
      if (comes) outside.open();
      else await h.impatient(LIMITS.stallMs);
      await settle();
      expect([log, (await second.runs.get('r'))!.status]).toEqual(comes ? [['undo a'], 'failed'] : [[], 'blocked']);
      await soon(second.close());
    }
  });
});

describe('a run that ends from within', () => {
  it('F8, F9: tells the functions that are in flight so', async () => {
    let signal: AbortSignal | undefined;
    const { h, engine } = await play((stepfast) =>
      stepfast.job('job', { timeout: '1m' }, ({ step }) =>
        step.run('a', (context) => {
          signal = context.signal;
          return never();
        }),
      ),
    );
    await h.advance(60_000);
    expect([h.row('r')!.status, signal!.aborted]).toEqual(['failed', true]);
    expect((signal as { reason?: unknown }).reason).toMatchObject({ code: 'LEASE_LOST', runId: 'r' });
    expect(String((signal as { reason?: unknown }).reason)).toContain('Run r has ended');
    await soon(engine.close());
  });
});
