import { describe, expect, it } from 'vitest';
import { type Stepfast, StepfastError } from '../src/index.js';
import type { Batch } from '../src/store/batch.js';
import { codeOf, gate, hands, holds, kindsOf, never, settle, soon } from './hand-kit.js';

// Pins: what becomes of a run in memory when a commit does not happen (spec D3, D5), and what the store is not asked for.

const of = (runId: string) => (batch: Batch) => batch.run?.runId === runId;

describe('whichever commit of a run fails', () => {
  const flow = (log: string[]) => (stepfast: Stepfast) => {
    stepfast.job('child', ({ step }) => step.run('c', () => void log.push('child')));
    stepfast.job<number>('flow', async ({ payload, step, log: say, run }) => {
      say.info(`generation ${run.generation}`);
      const n = await step.run('count', async ({ state, log: told }) => {
        log.push(`count ${run.generation}`);
        told.info(`counting ${run.generation}`);
        await state.set('seen', run.generation);
        return state.increment('n');
      });
      say.info('so far');
      if (run.generation === 0) return step.restart(payload + 1);
      await step.call('child');
      const { payload: word } = await step.waitForEvent<string>('go');
      say.info(word);
      await Promise.all(
        ['left', 'right'].map((name) =>
          step.run(name, ({ log: told }) => {
            told.info(name);
            log.push(name);
          }),
        ),
      );
      return [n, payload, word];
    });
  };
  const play = async (fails?: { readonly nth: number; readonly isDone: boolean }) => {
    const h = hands();
    const log: string[] = [];
    const engine = h.engine(flow(log));
    let nth = 0;
    let failed = 0;
    engine.own.onCommit = async (batch, pass) => {
      const isIt = of('r')(batch) && nth++ === fails?.nth;
      if (!isIt) return pass();
      failed++;
      if (fails.isDone) await pass();
      throw new StepfastError('STORE_UNAVAILABLE', 'The disk is away.');
    };
    const run = await engine.start('flow', 0, { id: 'r' });
    await engine.dispatch('go', 'word');
    for (let tries = 0; tries < 10 && h.row('r')?.endedAt === undefined; tries++) {
      await settle();
      await h.impatient(1_000);
    }
    const result = await soon(run.result());
    const lines = (await engine.runs.timeline('r')).filter(({ kind }) => kind === 'logged');
    const seen = await engine.state.get('seen');
    const { fence, status } = h.row('r')!;
    const told = lines.map(({ message, name, earlier }) => [name, message, earlier].filter(Boolean).join());
    await soon(engine.close());
    return { result, log, told, seen, fence, status, failed, errors: h.errors.length };
  };
  const told = [
    ...['so far,true', 'generation 1', 'count,counting 1', 'so far'],
    ...['word', 'left,left', 'right,right'],
  ];
  const done = ['count 0', 'count 1', 'child', 'left', 'right'];

  it('F5: its fence grows with each owner and each generation, and with nothing else', async () => {
    const { fence, log, result, ...rest } = await play();
    expect(fence).toBe(2);
    expect(log).toEqual(done);
    expect(result).toEqual([2, 1, 'word']);
    expect(rest.told).toEqual(told);
  });

  for (let nth = 0; nth < 16; nth++)
    it.each([
      ['did not happen', false],
      ['has happened, and its answer was lost', true],
    ])(`D5, R1: its ${nth + 1}. commit ${'%s'}: nothing is done twice, counted twice or told twice`, async (_, isDone) => {
      const { log, failed, errors, ...after } = await play({ nth, isDone });
      expect([...log].sort()).toEqual([...done].sort());
      // Of the generation before, only what was said when it ended is told (J3).
      expect(after.told.filter((line) => !/ 0,true$/.test(line)).sort()).toEqual([...told].sort());
      expect(after).toMatchObject({ result: [2, 1, 'word'], fence: 2, seen: 1, status: 'completed' });
      expect(errors).toBe(failed);
    });
});

describe('a commit that the store does not take', () => {
  it('E5: a timeout gives way to an event that came in time while its commit was under way', async () => {
    const h = hands();
    const engine = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        const event = await step.waitForEvent('go', { timeout: '1m', onTimeout: 'fail' });
        return event.payload;
      }),
    );
    const run = await engine.start('job', undefined, { id: 'r' });
    await settle();
    const held = holds(engine.own, (batch) => kindsOf(batch).includes('wait-timed-out'), false);
    await h.advance(60_000);
    expect(held.isHeld).toBe(true);
    await engine.dispatch('go', 'came');
    held.answer();
    await settle();
    expect(await soon(run.result())).toBe('came');
    expect(h.kinds('r')).toEqual(['started', 'claimed', 'wait-set', 'event-taken', 'completed']);
    expect(engine.own.batches.filter(({ run }) => run?.unless?.length)).toHaveLength(1);
    await soon(engine.close());
  });

  it('E7: an event that is looked back for, and that another run has taken meanwhile, is not asked for again', async () => {
    const h = hands();
    const define = (stepfast: Stepfast) =>
      stepfast.job('job', async ({ step }) => {
        await step.run('before', () => 1);
        return (await step.waitForEvent('go', { lookback: 'any' })).payload;
      });
    const [engine, other] = [h.engine(define), h.engine(define)];
    await engine.dispatch('go', 'first');
    const held = holds(engine.own, (batch) => kindsOf(batch).includes('event-taken'), false);
    const run = await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect(held.isHeld).toBe(true);
    expect(await (await other.start('job', undefined, { id: 'faster' })).result()).toBe('first');
    held.answer();
    await settle();
    expect(h.row('r')).toMatchObject({ status: 'waiting', fence: 1 });
    expect(h.row('r')!.dueAt).toBeUndefined();
    await other.dispatch('go', 'second');
    await settle();
    expect(await soon(run.result())).toBe('second');
    expect(h.errors).toEqual([]);
    await soon(engine.close());
    await soon(other.close());
  });

  it('D8: a write that is refused fails the attempt that wanted it, and no other', async () => {
    const h = hands();
    const both = gate();
    const log: string[] = [];
    const engine = h.engine((stepfast) =>
      stepfast.job('job', { retry: { maxAttempts: 2, initialDelay: '1s', jitter: false } }, async ({ step }) => {
        const one = step.run('wants', async ({ attempt, state }) => {
          log.push(`wants ${attempt}`);
          await both.promise;
          await state.set('own', attempt);
          if (attempt === 1) void state.increment('text', 1);
          return attempt;
        });
        const two = step.run('other', async ({ state }) => {
          log.push('other');
          await both.promise;
          await state.set('other', 'kept');
          return 'fine';
        });
        return Promise.all([one, two]);
      }),
    );
    await engine.state.set('text', 'no number');
    const run = await engine.start('job', undefined, { id: 'r' });
    await settle();
    both.open();
    await settle();
    expect(h.journal('r').find(({ kind }) => kind === 'attempt-failed')).toMatchObject({
      ...{ id: ['wants', 1], attempt: 1, error: { code: 'NOT_A_NUMBER' } },
    });
    expect(h.kinds('r').filter((kind) => kind === 'step-completed')).toHaveLength(1);
    expect([await engine.state.get('own'), await engine.state.get('other')]).toEqual([undefined, 'kept']);
    await h.advance(1_000);
    expect(await soon(run.result())).toEqual([2, 'fine']);
    expect(log).toEqual(['wants 1', 'other', 'wants 2']);
    expect([await engine.state.get('own'), await engine.state.get('text')]).toEqual([2, 'no number']);
    await soon(engine.close());
  });

  const queue = { name: 'q', concurrency: 1 } as const;
  it('Q2: a run that finds its queue full enters nothing, keeps its wake-up, and goes on when there is a slot', async () => {
    const h = hands();
    const log: string[] = [];
    const inside = gate();
    const define = (stepfast: Stepfast) => {
      stepfast.job('waits', { queue }, async ({ step }) => {
        await step.waitForEvent('go');
        await step.run('a', () => void log.push('a'));
      });
      stepfast.job('holds', { queue }, ({ step }) => step.run('b', () => inside.promise));
    };
    const [engine, other] = [h.engine(define), h.engine(define)];
    const run = await engine.start('waits', undefined, { id: 'r' });
    await settle();
    await other.start('holds', undefined, { id: 'holder' });
    await settle();
    const owner = h.row('holder')!.owner;
    const mine = engine.own.batches.length;
    await engine.dispatch('go');
    await settle();
    expect([log, h.row('r')!.status, h.row('r')!.fence]).toEqual([[], 'waiting', 1]);
    expect(h.row('r')).toMatchObject({ woken: true });
    expect(engine.own.batches.length - mine).toBeLessThan(4); // it is not tried again and again
    inside.open();
    await settle();
    await h.advance(3_000);
    await settle();
    expect(await soon(run.result())).toBeUndefined();
    expect([log, h.row('holder')!.status, owner !== undefined]).toEqual([['a'], 'completed', true]);
    await soon(engine.close());
    await soon(other.close());
  });

  it('Q2, F8: one that was held while it waited for the network is let go of, so that any context finds it', async () => {
    const h = hands();
    const log: string[] = [];
    const inside = gate();
    h.isOnline = false;
    const define = (stepfast: Stepfast) => {
      stepfast.job('listens', { queue }, async ({ step }) => {
        await step.run('a', () => void log.push('a'));
        await step.run('b', () => void log.push('b'), { when: 'online' });
      });
      stepfast.job('holds', { queue }, ({ step }) => step.run('c', () => inside.promise));
    };
    const [engine, other] = [h.engine(define), h.engine(define)];
    const run = await engine.start('listens', undefined, { id: 'r' });
    await settle();
    expect(h.row('r')).toMatchObject({ unsettled: true, fence: 1 });
    await other.start('holds', undefined, { id: 'holder' });
    await settle();
    expect(h.row('holder')).toMatchObject({ status: 'running' });
    h.isOnline = true;
    h.wake();
    await settle();
    const { owner, status, dueAt, unsettled, slot } = h.row('r')!;
    expect([owner, status, dueAt, unsettled, slot]).toEqual([undefined, 'queued', h.clock.now(), undefined, undefined]);
    expect(log).toEqual(['a']);
    await soon(engine.close());
    inside.open();
    await settle();
    await h.advance(3_000);
    await settle();
    expect(h.row('r')).toMatchObject({ status: 'completed', fence: 2 });
    expect(log).toEqual(['a', 'b']);
    await expect(soon(run.result())).rejects.toEqual(codeOf('CLOSED'));
    await soon(other.close());
  });

  it('E1: one whose next wait is offered nothing that it takes does not stay due', async () => {
    const h = hands();
    const engine = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        const match = (n: number) => n > 1;
        await step.run('before', () => 1);
        return (await step.waitForEvent<number>('go', { match })).payload;
      }),
    );
    const held = holds(engine.own, ({ run }) => run?.state?.status === 'running');
    const run = await engine.start('job', undefined, { id: 'r' });
    await settle();
    await engine.dispatch('go', 1); // before the wait is there
    held.answer();
    await settle();
    expect(h.row('r')).toMatchObject({ status: 'waiting', fence: 1 });
    expect(h.row('r')!.dueAt).toBeUndefined();
    const commits = engine.own.batches.length;
    const looks = [...h.timers.values()].filter(({ isIdle }) => !isIdle).length;
    await h.advance(60_000);
    expect([engine.own.batches.length, looks]).toEqual([commits, 0]);
    expect(new Set(engine.own.outcomes)).toEqual(new Set(['committed']));
    await engine.dispatch('go', 1); // and when it is there
    await settle();
    expect(h.row('r')).toMatchObject({ status: 'waiting', fence: 1 });
    expect([h.row('r')!.dueAt, h.row('r')!.woken]).toEqual([undefined, undefined]);
    await engine.dispatch('go', 2);
    await settle();
    expect(await soon(run.result())).toBe(2);
    await soon(engine.close());
  });
});

describe('what the store is not asked for', () => {
  it('Q2, R11: what a queue allows, but when a slot of it is taken', async () => {
    const h = hands();
    const engine = h.engine((stepfast) =>
      stepfast.job('job', { queue: { name: 'q', concurrency: 3 } }, async ({ step }) => {
        await step.run('a', () => 1);
        await step.run('b', () => 2);
        await step.waitForEvent('go');
        await step.run('c', () => 3);
      }),
    );
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    await engine.dispatch('go');
    await settle();
    const commits = engine.own.batches.filter(of('r')).map((batch) => [...kindsOf(batch), batch.run!.concurrency]);
    expect(commits).toEqual([
      ['claimed', 3],
      ['step-completed', undefined],
      ['step-completed', 'wait-set', undefined],
      ['event-taken', 3],
      ['step-completed', 'completed', undefined],
    ]);
    await soon(engine.close());
  });

  it('R11: an event that a run at work does not take costs it one commit', async () => {
    const h = hands();
    const engine = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        await Promise.all([step.run('a', never), step.waitForEvent<number>('go', { match: (n: number) => n > 1 })]);
      }),
    );
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    const count = () => engine.own.batches.filter(of('r')).length;
    const before = count();
    await engine.dispatch('go', 1);
    await settle();
    expect([count() - before, h.row('r')!.dueAt, h.row('r')!.status]).toEqual([1, 0, 'running']);
    await soon(engine.close());
  });

  const queue = { name: 'q', concurrency: 1 } as const;
  const offline = (log: string[], inside: Promise<void>) => (stepfast: Stepfast) => {
    stepfast.job('listens', { queue }, ({ step }) => step.run('b', () => void log.push('b'), { when: 'online' }));
    stepfast.job('holds', { queue }, ({ step }) => step.run('c', () => inside));
  };

  it('F5: one that another context has claimed is left without another word', async () => {
    const h = hands();
    const log: string[] = [];
    h.isOnline = false;
    const engine = h.engine(offline(log, never()));
    await engine.start('listens', undefined, { id: 'r' });
    await settle();
    expect(h.row('r')!.unsettled).toBe(true);
    h.medium.listeners.clear();
    h.medium.owners.clear(); // it counts as dead
    const other = h.engine(offline(log, never()));
    await other.ready();
    await other.runs.cancel('r');
    h.medium.listeners.clear();
    const asked = engine.own.batches.length;
    h.isOnline = true;
    h.wake();
    await settle();
    expect([engine.own.outcomes.slice(asked), log]).toEqual([['fenced'], []]);
    await soon(engine.close());
    await soon(other.close());
  });

  it('Q2: one that a dead owner has left is not claimed where its queue is full', async () => {
    const h = hands();
    const log: string[] = [];
    const inside = gate();
    h.isOnline = false;
    const first = h.engine(offline(log, never()));
    await first.start('listens', undefined, { id: 'r' });
    await settle();
    first.own.abandon!();
    const other = h.engine((stepfast) =>
      stepfast.job('holds', { queue }, ({ step }) => step.run('c', () => inside.promise)),
    );
    await other.start('holds', undefined, { id: 'holder' });
    await settle();
    h.isOnline = true;
    const engine = h.engine(offline(log, never()));
    await engine.ready();
    await settle();
    expect(h.row('r')).toMatchObject({ fence: 1, length: 2 });
    inside.open();
    await settle();
    await h.advance(3_000);
    expect([log, h.row('r')!.status]).toEqual([['b'], 'completed']);
    await soon(engine.close());
    await soon(other.close());
  });
});
