import { describe, expect, it } from 'vitest';
import { FatalError, type Stepfast, StepfastError } from '../src/index.js';
import type { Batch } from '../src/store/batch.js';
import { codeOf, gate, type HandStore, hands, kindsOf, never, settle, soon, unfit } from './hand-kit.js';

// Pins: what becomes of a run in memory when a commit does not happen, or its answer is late or lost (spec D3, D5), and whose
// a run is: fences, leases, and letting go (F5, O1).

const LEASE_MS = 15_000;
const of = (runId: string) => (batch: Batch) => batch.run?.runId === runId;
const isConfirmation = ({ run }: Batch) => run !== undefined && !run.append.length && !run.state;

/** The answer of the first commit that fits is held back: decided or (`isDecided` false) not even that. */
function holds(store: HandStore, fits: (batch: Batch) => boolean, isDecided = true) {
  const { promise, open } = gate();
  const held = { isHeld: false, answer: open };
  store.onCommit = async (batch, pass) => {
    if (held.isHeld || !fits(batch)) return pass();
    held.isHeld = true;
    if (!isDecided) await promise;
    const outcome = await pass();
    await promise;
    return outcome;
  };
  return held;
}

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

describe('whose a run is', () => {
  const waits = (stepfast: Stepfast, log: string[] = []) =>
    stepfast.job('job', async ({ step }) => {
      await step.run('a', () => void log.push('a'));
      await step.waitForEvent('go');
      await step.run('b', () => void log.push('b'));
    });

  it.each([
    ['later than the lease', LEASE_MS, 1],
    ['within the lease', LEASE_MS - 1, 0],
    ['by a clock that was set back', -1, 1],
    ['at once', 0, 0],
  ])('F5: an answer that comes %s: the function is entered once the store has said again that the run is ours', async (_, ms, confirmations) => {
    const h = hands();
    const log: string[] = [];
    const engine = h.engine((stepfast) => waits(stepfast, log));
    const held = holds(engine.own, ({ run }) => run?.state?.status === 'running');
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect([held.isHeld, log]).toEqual([true, []]);
    h.jump(ms);
    held.answer();
    await settle();
    expect(log).toEqual(['a']);
    expect(engine.own.batches.filter(isConfirmation)).toHaveLength(confirmations);
    await soon(engine.close());
  });

  it('F5: a confirmation that comes late itself is asked for again; one that is refused enters nothing', async () => {
    for (const isLost of [false, true]) {
      const h = hands();
      const log: string[] = [];
      const engine = h.engine((stepfast) => waits(stepfast, log));
      let lates = 0;
      engine.own.onCommit = async (batch, pass) => {
        const outcome = await pass();
        if (batch.run?.state?.status === 'running' || (isConfirmation(batch) && ++lates === 1)) h.jump(LEASE_MS);
        if (isLost && lates === 1) await h.engine().runs.cancel('r');
        return outcome;
      };
      await engine.start('job', undefined, { id: 'r' });
      await settle();
      expect([lates, log]).toEqual([2, isLost ? [] : ['a']]);
      await soon(engine.close());
    }
  });

  it('F5, O1: a run that another context has taken is left at once: its functions are told, and their results are nobody’s', async () => {
    const h = hands();
    const inside = gate<number>();
    let signal: AbortSignal | undefined;
    const engine = h.engine((stepfast) =>
      stepfast.job('job', ({ step }) =>
        step.run('a', (context) => {
          signal = context.signal;
          return inside.promise;
        }),
      ),
    );
    const other = h.engine();
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    await other.state.set('something', 'else');
    await settle();
    expect(signal!.aborted).toBe(false);
    await other.runs.cancel('r');
    await settle();
    expect(signal!.aborted).toBe(true);
    inside.open(1);
    await settle();
    expect(h.kinds('r')).toEqual(['started', 'claimed', 'cancelled']);
    await soon(engine.close());
  });

  it('F5: one that is lost is told so at once, though a commit of it is under way', async () => {
    const h = hands();
    const inside = gate();
    let signal: AbortSignal | undefined;
    const engine = h.engine((stepfast) =>
      stepfast.job('job', ({ step }) =>
        Promise.all([
          step.run('a', () => inside.promise),
          step.run('b', (context) => {
            signal = context.signal;
            return never();
          }),
        ]),
      ),
    );
    const other = h.engine();
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    const held = holds(engine.own, (batch) => kindsOf(batch).includes('step-completed'), false);
    inside.open();
    await settle();
    await other.runs.cancel('r');
    await settle();
    expect([held.isHeld, signal!.aborted]).toEqual([true, true]);
    held.answer();
    await settle();
    expect(h.kinds('r')).toEqual(['started', 'claimed', 'cancelled']);
    await soon(engine.close());
  });

  const restarting = (h: ReturnType<typeof hands>, inside: readonly Promise<void>[]) =>
    h.engine((stepfast) =>
      stepfast.job<number>('job', async ({ payload, step }) => {
        await step.run('a', () => inside[payload]);
        if (!payload) await step.restart(1);
        return 'anew';
      }),
    );
  it.each([
    ['while that is under way', false],
    ['after it', true],
  ])('F5: a confirmation that the store decides behind the commit which begins the run anew, and tells %s, takes nothing away', async (_, isAfter) => {
    const h = hands();
    const [inside, anew] = [gate(), gate()];
    const engine = restarting(h, [inside.promise, anew.promise]);
    const asked = gate();
    const reset = gate();
    const told = gate();
    engine.own.onCommit = async (batch, pass) => {
      if (isConfirmation(batch)) {
        asked.open();
        await reset.promise;
        const outcome = await pass();
        if (isAfter) await told.promise;
        return outcome;
      }
      const outcome = await pass();
      if (batch.run?.reset) {
        reset.open();
        await (isAfter ? settle() : told.promise);
      }
      return outcome;
    };
    const run = await engine.start('job', 0, { id: 'r' });
    await settle();
    for (const listener of h.medium.listeners) listener('r', h.store()); // as if another context had changed it
    await asked.promise;
    inside.open();
    await settle();
    await settle(120);
    told.open();
    await settle();
    expect(h.row('r')).toMatchObject({ fence: 2, status: 'running' });
    anew.open();
    expect(await soon(run.result())).toBe('anew');
    expect(h.row('r')).toMatchObject({ fence: 2, status: 'completed' });
    expect(h.kinds('r').filter((kind) => kind === 'claimed')).toEqual([]);
    await soon(engine.close());
  });

  it('F5: closing lets a run go as it is: whoever is next takes it up at once, and counts no interruption', async () => {
    const h = hands();
    const engine = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        const event = step.waitForEvent('go', { timeout: '1h' });
        await step.run(
          'a',
          ({ progress }) => {
            progress('half');
            return never();
          },
          { undo: () => undefined },
        );
        await event;
      }),
    );
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    const before = h.row('r')!;
    expect(before).toMatchObject({ status: 'running', slot: 'default', progress: 'half', fence: 1, undoable: true });
    h.jump(1_000);
    await soon(engine.close());
    const { owner: _, slot: __, ...rest } = before;
    const length = before.length + 1;
    expect(h.row('r')).toEqual({ ...rest, status: 'queued', dueAt: h.clock.now(), length });
    expect(h.journal('r').at(-1)).toEqual({ kind: 'released', at: h.clock.now() });
    const next = h.engine((stepfast) => stepfast.job('job', () => 'done'));
    await next.ready();
    await settle();
    expect(h.journal('r').find((entry) => entry.kind === 'claimed' && entry.fence === 2)).not.toHaveProperty(
      'interrupted',
      true,
    );
    await soon(next.close());
  });

  it('F7: closing while steps are undone leaves the end as it is, and the instant of the next attempt', async () => {
    for (const backsOff of [true, false]) {
      const h = hands();
      const engine = h.engine((stepfast) =>
        stepfast.job('job', { retry: { initialDelay: '1m', jitter: false } }, async ({ step }) => {
          const undo = () => (backsOff ? Promise.reject(new Error('not now')) : never());
          await step.run('a', () => 1, { undo });
          await step.waitForEvent('go');
        }),
      );
      await engine.start('job', undefined, { id: 'r' });
      await settle();
      await engine.runs.cancel('r');
      await settle();
      const before = h.row('r')!;
      expect(before).toMatchObject({
        status: 'cancelled',
        undoing: true,
        dueAt: backsOff ? h.clock.now() + 60_000 : 0,
      });
      h.jump(1_000);
      await soon(engine.close());
      const { status, endedAt, undoing, dueAt, owner, fence } = h.row('r')!;
      expect({ status, endedAt, undoing, owner, fence }).toEqual({
        ...{ status: 'cancelled', endedAt: before.endedAt, undoing: true, owner: undefined, fence: before.fence },
      });
      expect(dueAt).toBe(backsOff ? before.dueAt : h.clock.now());
    }
  });

  it('R5, F5: what can not go on here is let go of by who claims it: the slot that a dead owner left is free, its crash counts', async () => {
    const h = hands();
    const first = h.engine((stepfast) => stepfast.job('job', ({ step }) => step.run('a', never)));
    await first.start('job', undefined, { id: 'r' });
    await settle();
    first.own.abandon!();
    const second = h.engine((stepfast) => stepfast.job('job', { version: 2, upgrade: 'block' }, () => 'never'));
    await second.ready();
    await settle();
    expect(h.journal('r').slice(2)).toMatchObject([
      { kind: 'claimed', fence: 2, interrupted: true },
      { kind: 'released', blocked: true },
    ]);
    const row = h.row('r')!;
    expect([row.status, row.slot, row.owner, row.fence, row.length]).toEqual(['queued', undefined, undefined, 2, 4]);
    expect((await second.runs.get('r'))!.status).toBe('blocked');
    await settle();
    expect(h.row('r')!.fence).toBe(2); // and is left alone from then on
    await soon(second.close());
  });
});

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

describe('after an answer that was lost', () => {
  const away = () => new StepfastError('STORE_UNAVAILABLE', 'The disk is away.');
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

describe('interruptions', () => {
  /** A run whose owner has died in its step, which waits for the network. */
  const crashed = async () => {
    const h = hands();
    const first = h.engine((stepfast) => stepfast.job('job', ({ step }) => step.run('a', never, { when: 'online' })));
    await first.start('job', undefined, { id: 'r' });
    await settle();
    first.own.abandon!();
    const log: number[] = [];
    const next = h.engine((stepfast) => {
      stepfast.job('job', ({ step }) => step.run('a', ({ attempt }) => void log.push(attempt), { when: 'online' }));
      stepfast.job('beside', ({ step }) => step.run('b', never));
    });
    return { h, next, log };
  };
  const claims = (h: ReturnType<typeof hands>) => h.journal('r').filter(({ kind }) => kind === 'claimed');

  it.each([
    ['as usual', undefined],
    ['with an answer that was lost', true],
    ['at the second try', false],
  ])('F5: one that was interrupted once, and is claimed %s, counts that once, and is at work beside others', async (_, isDone) => {
    const { h, next, log } = await crashed();
    h.isOnline = false;
    let isLost = isDone === undefined;
    next.own.onCommit = async (batch, pass) => {
      if (isLost || !kindsOf(batch).includes('claimed')) return pass();
      isLost = true;
      if (isDone) await pass();
      throw new StepfastError('STORE_UNAVAILABLE', 'The disk is away.');
    };
    await next.ready();
    await settle();
    await h.impatient(1_000);
    expect(claims(h)).toMatchObject([{ fence: 1 }, { fence: 2, interrupted: true }]);
    next.own.onCommit = undefined;
    await next.start('beside', undefined, { id: 'other' });
    await settle();
    expect(h.row('other')!.status).toBe('running');
    expect(log).toEqual([]);
    h.isOnline = true;
    h.wake();
    await settle();
    expect([log, h.row('r')!.status]).toEqual([[2], 'completed']);
    await soon(next.close());
  });

  it('F5, F7: one that was interrupted once while it was undone is undone beside others, also if the answer to its claim is lost', async () => {
    const h = hands();
    const log: string[] = [];
    const define = (undo: () => unknown) => (stepfast: Stepfast) => {
      stepfast.job('job', async ({ step }) => {
        await step.run('a', () => 1, { undo });
        await step.waitForEvent('go');
      });
      stepfast.job('beside', ({ step }) => step.run('b', never));
    };
    const first = h.engine(define(never));
    await first.start('job', undefined, { id: 'r' });
    await settle();
    await first.runs.cancel('r');
    await settle();
    expect(h.row('r')).toMatchObject({ undoing: true, dueAt: 0 });
    first.own.abandon!();
    const next = h.engine(define(() => void log.push('undo a')));
    let isLost = false;
    next.own.onCommit = async (batch, pass) => {
      const outcome = await pass();
      if (isLost || !kindsOf(batch).includes('claimed')) return outcome;
      isLost = true;
      throw new StepfastError('STORE_UNAVAILABLE', 'The disk is away.');
    };
    await next.ready();
    await settle();
    expect(isLost).toBe(true);
    await next.start('beside', undefined, { id: 'other' });
    await settle();
    expect(h.row('other')!.status).toBe('running');
    await h.impatient(1_000);
    expect([log, claims(h).length]).toEqual([['undo a'], 3]);
    await soon(next.close());
  });

  it('R5: one that is let go of as it does not fit was not interrupted', async () => {
    const h = hands();
    const first = h.engine((stepfast) => stepfast.job('job', ({ step }) => step.sleep('pause', '1h')));
    await first.start('job', undefined, { id: 'r' });
    await settle();
    await soon(first.close());
    await h.advance(3_600_000);
    const second = h.engine((stepfast) =>
      stepfast.job('job', { version: 2, upgrade: 'block', timeout: '1d' }, () => 'never'),
    );
    await second.ready();
    await settle();
    const [, claimed] = claims(h);
    expect(claimed).toMatchObject({ fence: 2 });
    expect((claimed as { readonly interrupted?: true }).interrupted).toBeUndefined();
    expect(h.journal('r').at(-1)).toMatchObject({ kind: 'released', blocked: true });
    await soon(second.close());
  });

  it('R5: one that others go on with meanwhile is not shown as blocked by who could not', async () => {
    const h = hands();
    await h.engine().start('job', undefined, { id: 'r', allowUnregistered: true });
    const blocked = h.engine((stepfast) =>
      stepfast.job('job', { version: 2, migrate: unfit, timeout: '1d' }, () => 'never'),
    );
    const held = holds(blocked.own, (batch) => kindsOf(batch).includes('released'), false);
    await blocked.ready();
    await settle();
    expect(held.isHeld).toBe(true);
    const fits = h.engine((stepfast) => stepfast.job('job', ({ step }) => step.waitForEvent('go')));
    await fits.ready();
    await settle();
    expect(h.kinds('r')).toEqual(['started', 'claimed', 'wait-set']);
    held.answer();
    await settle();
    expect((await blocked.runs.get('r'))!.status).toBe('waiting');
    await soon(blocked.close());
    await soon(fits.close());
  });
});

describe('where hints are lost', () => {
  it('F5: a run whose commit is refused is looked for at once', async () => {
    const h = hands();
    const log: string[] = [];
    const inside = gate();
    const define = (name: string, wait?: Promise<void>) => (stepfast: Stepfast) =>
      stepfast.job('job', ({ step }) =>
        step.run('a', async () => {
          log.push(name);
          await wait;
        }),
      );
    const engine = h.engine(define('first', inside.promise));
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    h.medium.listeners.clear();
    h.medium.owners.clear(); // it counts as dead
    const other = h.engine(define('second', never()));
    await other.ready();
    await settle();
    h.medium.listeners.clear();
    await soon(other.close());
    expect(h.row('r')).toMatchObject({ status: 'queued', fence: 2 });
    inside.open();
    await settle();
    expect(h.row('r')).toMatchObject({ status: 'completed', fence: 3 });
    expect(log).toEqual(['first', 'second', 'first']);
    await soon(engine.close());
  });

  it('Q2: the slot of a run that is lost is given to the next at once', async () => {
    const h = hands();
    const queue = { name: 'q', concurrency: 2 } as const;
    const inside = gate();
    const define = (stepfast: Stepfast) =>
      stepfast.job<boolean>('job', { queue }, ({ payload, step }) =>
        step.run('a', () => (payload ? inside.promise : never())),
      );
    const [engine, other] = [h.engine(define), h.engine(define)];
    await engine.start('job', true, { id: 'r' });
    await settle();
    await other.start('job', false, { id: 'others' });
    await settle();
    await engine.start('job', false, { id: 'next' });
    await settle();
    expect(['r', 'others', 'next'].map((id) => h.row(id)!.status)).toEqual(['running', 'running', 'queued']);
    h.medium.listeners.clear();
    await other.runs.cancel('r');
    await settle();
    expect(h.row('next')!.status).toBe('queued');
    inside.open();
    await settle();
    expect(h.row('next')!.status).toBe('running');
    await soon(engine.close());
    await soon(other.close());
  });

  it('F5, F7: so is one whose confirmation is refused: what it has done is undone', async () => {
    const h = hands();
    const log: string[] = [];
    const inside = gate();
    const engine = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        const b = step.run('b', () => inside.promise);
        await step.run('a', () => 1, { undo: () => void log.push('undo a') });
        await b;
        await step.run('c', () => void log.push('c'));
      }),
    );
    const other = h.engine();
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    const held = holds(engine.own, (batch) => kindsOf(batch).includes('step-completed'));
    inside.open();
    await settle();
    expect(held.isHeld).toBe(true);
    h.medium.listeners.clear();
    await other.runs.cancel('r');
    h.jump(LEASE_MS);
    held.answer();
    await settle();
    expect(log).toEqual(['undo a']);
    expect(h.row('r')!.undoing).toBeUndefined();
    await soon(engine.close());
    await soon(other.close());
  });
});
