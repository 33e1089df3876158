import { describe, expect, it } from 'vitest';
import { defineJob, FatalError, type HandlerContext, type Stepfast, StepfastError } from '../src/index.js';
import { away, codeOf, gate, type HandStore, hands, kindsOf, left, never, settle, soon } from './hand-kit.js';

// Pins: what a look for work costs and what becomes of what it finds (spec Q4, R5, O1, O6): no look for nothing, no reading of
// what is known, and an engine that closes or is outdated meanwhile.

type Handler = (context: HandlerContext<string>) => unknown;
const job = (handler: Handler) => (stepfast: Stepfast) => stepfast.job('job', handler as never);
const loadsOf = (store: HandStore) => {
  const loads: string[] = [];
  store.onLoad = async (runId) => void loads.push(runId);
  return loads;
};
const listsOf = (store: HandStore) => {
  const list = store.list.bind(store);
  const counted = { lists: 0 };
  store.list = (query) => {
    counted.lists++;
    return list(query);
  };
  return counted;
};

describe('no look is made', () => {
  it('Q4: for a run that goes to rest, or at work in a queue that is full', async () => {
    const h = hands();
    const ends: (() => void)[] = [];
    const engine = h.engine((stepfast) => {
      stepfast.job('waits', ({ step }) => step.waitForEvent('go'));
      stepfast.job('works', { queue: { name: 'q', concurrency: 1 } }, async ({ step }) => {
        for (const name of ['a', 'b']) await step.run(name, () => new Promise<void>((resolve) => ends.push(resolve)));
      });
    });
    await engine.ready();
    await settle();
    const looks = engine.own.looks;
    await engine.start('waits');
    await settle();
    expect(engine.own.looks - looks).toBe(1);
    for (const id of ['first', 'second']) await engine.start('works', undefined, { id });
    await settle();
    const before = engine.own.looks;
    ends[0]!();
    await settle();
    expect([ends.length, engine.own.looks - before]).toEqual([2, 0]);
    await soon(engine.close());
  });

  it('R5: for one that does not fit, which is not read again as long as it stays as it is', async () => {
    const h = await left(async ({ step }) => {
      await step.run('a', () => 1);
      await step.waitForEvent('go');
    });
    const second = h.engine(job(({ step }) => step.sleep('a', '1h')));
    await second.ready();
    await settle();
    expect([h.errors, second.own.looks]).toEqual([[codeOf('REPLAY_MISMATCH')], 1]);
    const loads = loadsOf(second.own);
    h.wake();
    await settle();
    expect(loads).toEqual([]);
    // Another, whose job has a timeout, writes that it is blocked: read again, it fits no better, and nobody is told twice.
    const third = h.engine((stepfast) => stepfast.job('job', { timeout: '1d' }, ({ step }) => step.sleep('a', '1h')));
    await third.ready();
    await settle();
    expect([h.kinds('r').at(-1), loads.length, h.errors.length]).toEqual(['released', 1, 2]);
    await soon(third.close());
    await soon(second.close());
  });

  it('Q4: nor is a sweep, while a look is under way, or where there are no jobs', async () => {
    const h = hands();
    const store = h.store();
    const counted = listsOf(store);
    const page = gate();
    const inside = gate();
    store.onDue = async (pass) => {
      const found = await pass();
      if (store.looks > 1) await page.promise;
      return found;
    };
    const engine = h.engine(
      job(async ({ step }) => {
        await step.run('a', () => inside.promise);
        await step.waitForEvent('go');
      }),
      { store },
    );
    await engine.start('job', 'p', { id: 'r' });
    await settle();
    h.wake();
    await settle();
    inside.open();
    await settle();
    expect([h.row('r')!.status, counted.lists]).toEqual(['waiting', 0]);
    page.open();
    await settle();
    expect(counted.lists).toBeGreaterThan(0);
    const plain = h.store();
    const none = listsOf(plain);
    const other = h.engine(undefined, { store: plain });
    await other.ready();
    h.wake();
    await settle();
    expect(none.lists).toBe(0);
    await soon(other.close());
    await soon(engine.close());
  });
});

describe('what a look finds', () => {
  it('D3: and can not be made sense of is told, keeps no other from going on, and is tried again', async () => {
    const h = hands();
    const engine = h.engine(job(() => 'done'));
    const other = h.engine();
    for (const id of ['bad', 'fine']) await other.start('job', 'p', { id, allowUnregistered: true });
    const journal = h.medium.journals.get('bad')!;
    h.medium.journals.set('bad', [undefined as never]);
    await engine.ready();
    await settle();
    expect([h.row('bad')!.status, h.row('fine')!.status, h.errors.length > 0]).toEqual(['queued', 'completed', true]);
    h.medium.journals.set('bad', journal);
    await h.impatient(3_000);
    expect(h.row('bad')!.status).toBe('completed');
    await soon(engine.close());
  });

  it('E5: is looked for anew where its owner has gone on before it was read: events were looked up for its waits of before', async () => {
    const h = hands();
    const define = job(async ({ step }) => {
      await step.waitForEvent('never', { timeout: '1m', onTimeout: 'continue' });
      const old = await step.waitForEvent('old', { lookback: 'any', timeout: '1m', onTimeout: 'continue' });
      return !old.timedOut && old.payload;
    });
    const first = h.engine(define);
    await first.dispatch('old', 'came');
    await first.start('job', 'p', { id: 'r' });
    await settle();
    let aheadMs = 90_000;
    const ahead = { ...h.clock, now: () => h.clock.now() + aheadMs };
    const second = h.engine(define, {}, { clock: ahead });
    const [read, answer] = [gate(), gate()];
    second.own.onLoad = () => read.promise;
    await second.ready(); // due by its clock
    await settle();
    first.own.onCommit = async (batch, pass) => {
      const outcome = await pass();
      if (kindsOf(batch).includes('wait-timed-out')) await answer.promise; // it hears nothing, and goes no further
      return outcome;
    };
    await h.advance(60_000);
    expect(h.row('r')!.waits).toMatchObject([{ id: ['old', 1] }]);
    aheadMs = 300_000;
    read.open();
    await settle();
    await h.advance(60_000);
    expect((await second.runs.get('r'))!.result).toBe('came');
    answer.open();
    await soon(first.close());
    await soon(second.close());
  });

  it('F6, Q4: is not left for a command that has made it due, though the claim is still under way', async () => {
    const h = hands();
    let isBad = true;
    const engine = h.engine(
      job(({ step }) =>
        step.run('a', () => {
          if (isBad) throw new FatalError('once');
          return 'done';
        }),
      ),
    );
    const run = await engine.start('job', 'p', { id: 'r' });
    await settle();
    isBad = false;
    const [answer, claim] = [gate(), gate()];
    engine.own.onCommit = async (batch, pass) => {
      if (kindsOf(batch).includes('claimed')) await claim.promise;
      const outcome = await pass();
      if (kindsOf(batch).includes('retried')) await answer.promise;
      return outcome;
    };
    const retrying = engine.runs.retry('r');
    h.wake();
    await settle();
    h.lostHints();
    answer.open();
    await retrying;
    await settle();
    claim.open();
    expect(await soon(run.result())).toBe('done');
    expect(engine.own.outcomes.filter((kind) => kind !== 'committed')).toEqual([]);
    await soon(engine.close());
  });

  it('O6, D5: with other code is let go for it at the second try, where the store has failed at the first', async () => {
    const h = hands();
    const coded = (name: string) =>
      defineJob('job', async ({ step }) => {
        void step.waitForEvent('go');
        await step.run('a', () => 1);
        if (name === 'old') await never();
        await step.run('b', () => 2);
      });
    const engine = h.engine((stepfast) => stepfast.register(coded('old')));
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    let fails = true;
    engine.own.onCommit = async (batch, pass) => {
      if (!fails || !batch.run) return pass();
      fails = false;
      throw away();
    };
    engine.register(coded('new'), { replace: true });
    await settle();
    expect([h.errors, [...h.patience.values()].map(({ ms }) => ms)]).toEqual([[codeOf('STORE_UNAVAILABLE')], [3_000]]);
    await h.impatient();
    expect(h.row('r')!.status).toBe('completed');
    await soon(engine.close());
  });
});

describe('an engine that looks no more', () => {
  it('O6: has nobody to tell that a run could not be let go of for other code', async () => {
    const h = hands();
    const coded = () =>
      defineJob('job', async ({ step }) => {
        void step.waitForEvent('go');
        await step.run('a', () => 1);
        await never();
      });
    const engine = h.engine((stepfast) => stepfast.register(coded()));
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    const held = gate();
    engine.own.onCommit = async () => {
      await held.promise;
      throw away();
    };
    engine.register(coded(), { replace: true });
    await settle();
    await soon(engine.close());
    held.open();
    await settle();
    expect([h.errors, h.patience.size]).toEqual([[], 0]);
  });

  it('O6: tells its functions that its release is too old, and waits for nothing', async () => {
    const h = hands();
    let signal: AbortSignal | undefined;
    const engine = h.engine(
      job(({ step }) =>
        Promise.all([
          step.sleep('s', '1h'),
          step.run('a', (context) => {
            signal = context.signal as AbortSignal;
            return never();
          }),
        ]),
      ),
    );
    await engine.start('job', 'p', { id: 'r' });
    await settle();
    h.medium.minWriter = 999;
    await engine.state.set('k', 1).catch(() => undefined);
    await settle();
    expect([signal!.reason, h.wanted()]).toEqual([codeOf('STORE_TOO_NEW'), []]);
    await soon(engine.close());
  });

  it('Q4: as it closes: asks, reads and tells nothing from then on', async () => {
    for (const where of ['before', 'due', 'load'] as const) {
      const h = hands();
      const engine = h.engine(job(() => 'done'));
      await engine.ready();
      await settle();
      const held = gate();
      const loads: string[] = [];
      engine.own.onDue = async (pass) => {
        const page = await pass();
        if (where === 'due') await held.promise;
        return page;
      };
      engine.own.onLoad = async (runId) => {
        loads.push(runId);
        await held.promise;
        throw away();
      };
      await engine.start('job', 'p', { id: 'r' });
      const looks = engine.own.looks;
      if (where !== 'before') await settle();
      const closing = engine.close();
      held.open();
      await closing;
      await settle();
      expect([where, loads.length, engine.own.looks - looks, h.errors]).toEqual([
        ...[where, where === 'load' ? 1 : 0, where === 'before' ? 0 : 1, []],
      ]);
    }
  });
});

describe('what jobs say of their queues', () => {
  const says = (stepfast: Stepfast) => stepfast.job('says', { queue: { name: 'q', concurrency: 2 } }, () => 1);
  const rows = [{ job: 'says', queue: 'q', concurrency: 2 }];
  const toldTo = (own: HandStore) => {
    const told: unknown[] = [];
    own.onCommit = async (batch, pass) => {
      for (const change of batch.state ?? [])
        if (change.kind === 'set') told.push([change.key, change.value, change.ifRevision]);
      return pass();
    };
    return told;
  };

  it('Q2, D3: is written over where it is damaged, and driving goes on', async () => {
    const h = hands();
    const engine = h.engine(says);
    engine.own.state = async () => {
      throw new StepfastError('STORE_CORRUPT', 'Bits are gone.');
    };
    const told = toldTo(engine.own);
    const run = await engine.start('says');
    expect(await soon(run.result())).toBe(1);
    expect(told).toEqual([['stepfast:lanes', rows, undefined]]);
    await soon(engine.close());
  });

  it('Q2: is not written over where it can not be read for now: nothing is driven until it is', async () => {
    const h = hands();
    const engine = h.engine(says);
    const state = engine.own.state.bind(engine.own);
    let isAway = true;
    engine.own.state = async (key) => {
      if (isAway) throw new StepfastError('STORE_UNAVAILABLE', 'The disk is away.');
      return state(key);
    };
    const told = toldTo(engine.own);
    const run = await engine.start('says');
    await settle();
    expect([told, h.row(run.id)!.status, h.errors]).toEqual([[], 'queued', [codeOf('STORE_UNAVAILABLE')]]);
    isAway = false;
    await h.impatient();
    expect(await soon(run.result())).toBe(1);
    expect(told).toEqual([['stepfast:lanes', rows, 0]]);
    await soon(engine.close());
  });

  it('Q2: of a job that is registered later is told by the next look, and said once', async () => {
    const h = hands();
    const engine = h.engine((stepfast) => stepfast.job('silent', () => 0));
    const told = toldTo(engine.own);
    await soon((await engine.start('silent')).result());
    expect(told).toEqual([]);
    says(engine);
    for (const result of [1, 1]) expect(await soon((await engine.start('says')).result())).toBe(result);
    expect(told).toEqual([['stepfast:lanes', rows, 0]]);
    await soon(engine.close());
  });

  it('Q2: is told again where another context was faster', async () => {
    const h = hands();
    const engine = h.engine(says);
    const told = toldTo(engine.own);
    const state = engine.own.state.bind(engine.own);
    let reads = 0;
    engine.own.state = async (key) => {
      const row = await state(key);
      return ++reads === 1 ? { key, value: [], revision: 99 } : row;
    };
    const run = await engine.start('says');
    expect(await soon(run.result())).toBe(1);
    await settle();
    expect(told).toEqual([
      ['stepfast:lanes', rows, 99],
      ['stepfast:lanes', rows, 0],
    ]);
    await soon(engine.close());
  });
});
