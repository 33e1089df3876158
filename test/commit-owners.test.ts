import { describe, expect, it } from 'vitest';
import { type Stepfast, StepfastError } from '../src/index.js';
import { gate, hands, holds, isConfirmation, kindsOf, never, settle, soon, unfit } from './hand-kit.js';

// Pins: whose a run is: fences, leases, letting go, and what counts as an interruption (spec F5, O1).

const LEASE_MS = 15_000;

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

  it('O1, Q2: a run that its owner could not go on with for want of a slot is taken by nobody once it does, though the other has found it before', async () => {
    const h = hands();
    const log: string[] = [];
    const busy = gate<void>();
    const define = (name: string) => (stepfast: Stepfast) => {
      stepfast.job<boolean>('job', { queue: { name: 'q', concurrency: 1 } }, async ({ payload, step }) => {
        if (payload) return step.run('busy', () => busy.promise);
        return step.run('a', ({ attempt }) => {
          log.push(`${name} ${attempt}`);
          return attempt === 1 ? Promise.reject(new Error('no')) : never();
        });
      });
    };
    const first = h.engine(define('first'));
    await first.start('job', false, { id: 'r' });
    await settle();
    await first.start('job', true, { id: 'busy' });
    await settle();
    await h.advance(10_000); // its second attempt is due for long, and has no slot
    expect(log).toEqual(['first 1']);
    const second = h.engine(define('second'));
    const claim = holds(second.own, ({ run }) => run?.runId === 'r' && run.raise === true, false);
    await second.ready();
    await settle();
    expect(claim.isHeld).toBe(true);
    busy.open();
    await settle();
    expect(log).toEqual(['first 1', 'first 2']);
    claim.answer();
    await settle();
    expect([log, h.row('r')!.fence]).toEqual([['first 1', 'first 2'], 1]);
    for (const each of [first, second]) each.own.abandon!();
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
