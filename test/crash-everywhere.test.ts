import { describe, expect, it } from 'vitest';
import { memoryMedium, memoryStore } from '../adapters/memory/index.js';
import { defineJob, FatalError, type Stepfast, type Store } from '../src/index.js';
import { type CrashReport, crashEverywhere } from '../src/testing/index.js';
import { media } from './harness.js';

// Pins: crashEverywhere of stepfast/testing finds what it looks for, and nothing where there is nothing.

interface Bank {
  readonly charges: Map<string, number>;
  sent: number;
}

const freshBank = (): Bank => ({ charges: new Map(), sent: 0 });
let bank = freshBank();

const order = defineJob<{ total: number }, string>('order', async ({ payload, step }) => {
  const [id] = await Promise.all([
    step.run('charge', async ({ idempotencyKey }) => {
      await undefined;
      bank.charges.set(idempotencyKey, payload.total);
      return 'c1';
    }),
    step.sleep('nap', '1h'),
  ]);
  const { payload: place } = await step.waitForEvent<string>('packed', { correlationKey: id, timeout: '1d' });
  return place;
});

const scenario = () => {
  bank = freshBank();
  return {
    payload: { total: 12 },
    events: { packed: 'shelf 7' },
    effects: () => [[...bank.charges.values()], bank.sent],
  };
};

const reportOf = async (promise: Promise<CrashReport>): Promise<CrashReport> => {
  const error = await promise.then(
    () => undefined,
    (thrown: Error & { code?: string; data?: CrashReport }) => thrown,
  );
  expect(error).toMatchObject({ code: 'NOT_CRASH_SAFE' });
  return error!.data!;
};

describe('crashEverywhere', () => {
  it('R5: a flow that is blocked when nothing happens shows nothing, and is refused; one that waits says so', async () => {
    const lost = defineJob('lost', ({ step }) => step.call('nobody'));
    const { violations, crashes, status } = await reportOf(crashEverywhere(lost));
    expect([violations.map(({ kind, crash }) => [kind, crash]), crashes, status]).toEqual([
      [['broke', 'no crash']],
      0,
      'blocked',
    ]);
    expect(violations[0]!.message).toContain('job "lost": ');
    const unsent = { payload: { total: 12 } };
    expect((await crashEverywhere(defineJob('waits', ({ step }) => step.waitForEvent('go')))).status).toBe('waiting');
    expect((await crashEverywhere(order, unsent)).status).toBe('failed');
  });

  for (const [name, store] of Object.entries(media))
    it(`R1: a flow that is safe is found safe, and says which steps have to be (${name})`, async () => {
      const report = await crashEverywhere(order, scenario, { store });
      expect(report.commits).toBeGreaterThanOrEqual(5);
      expect(report).toEqual({
        status: 'completed',
        commits: report.commits,
        crashes: 2 * report.commits,
        repeated: ['charge'],
        violations: [],
      });
    });

  it('R2: a second crash at every commit after the first', async () => {
    const report = await crashEverywhere(order, scenario, { double: true });
    expect(report.crashes).toBeGreaterThan(4 * report.commits);
  });

  it('a step that is not idempotent is named, with the crash and both ends of the world', async () => {
    const careless = defineJob('careless', async ({ step }) => {
      await step.run('look', () => undefined);
      await step.run('send', () => void bank.sent++);
    });
    const played = crashEverywhere(careless, () => ({ ...scenario(), payload: undefined }));
    await expect(played).rejects.toThrow(/Not idempotent: "send", entered twice.*ended as \[\[\],2\] instead of/);
    const { violations } = await reportOf(played);
    expect(violations).not.toHaveLength(0);
    for (const each of violations) expect(each).toMatchObject({ kind: 'effects', step: 'send' });
    expect(violations[0]!.crash).toMatch(/^crash before commit \d$/);
  });

  it('an undo that is not idempotent is named', async () => {
    const trip = defineJob('trip', async ({ step }) => {
      await step.run('book', () => undefined, { undo: () => void bank.sent-- });
      throw new FatalError('no');
    });
    const { violations, repeated } = await reportOf(
      crashEverywhere(trip, () => ({ ...scenario(), payload: undefined })),
    );
    expect(repeated).toEqual(['book', 'undo of book']);
    expect(violations.map(({ step }) => step)).toEqual(['undo of book']);
  });

  it('R1: a store that loses an acknowledged outcome is caught: the step is entered again', async () => {
    const losing = () => {
      const medium = memoryMedium();
      return () => {
        const store = memoryStore({ medium });
        const { commit } = store;
        store.commit = (batch) => {
          const { run } = batch;
          const isOutcome = run?.append.some(({ kind }) => kind === 'step-completed');
          if (!isOutcome) return commit(batch);
          const append = run!.append.filter(({ kind }) => kind === 'claimed');
          return commit({ ...batch, run: { ...run!, append, state: { ...run!.state!, dueAt: 0 } } });
        };
        return store;
      };
    };
    const two = defineJob('two', async ({ step }) => {
      await step.run('one', () => undefined);
      await step.sleep('nap', '1h');
      return step.run('two', () => 2);
    });
    // What it has lost, and what it has kept behind that, stalls a replay for a while (R7).
    const played = crashEverywhere(two, {}, { store: losing, patience: '3s' });
    const { violations } = await reportOf(played);
    expect(violations.some(({ kind, step }) => kind === 'entered-again' && step === 'one')).toBe(true);
  });

  it('a flow that ends otherwise after a crash is caught', async () => {
    let lives = 0;
    const moody = defineJob('moody', async ({ step }) => step.run('look', () => ++lives > 1));
    const fresh = () => {
      lives = 0;
      return {};
    };
    const { violations } = await reportOf(crashEverywhere(moody, fresh));
    expect(violations.map(({ kind, step }) => [kind, step])).toContainEqual(['outcome', 'look']);
  });

  it('a scenario that differs from itself without a crash is told at once', async () => {
    let plays = 0;
    const counting = defineJob('counting', ({ step }) => step.run('count', () => ++plays));
    const report = await reportOf(crashEverywhere(counting, {}));
    expect(report.crashes).toBe(0);
    expect(report.violations).toMatchObject([{ crash: 'no crash', kind: 'outcome' }]);
  });

  it('a flow that can not go on after a crash is caught', async () => {
    const plain = defineJob('plain', ({ step }) => step.sleep('nap', '1h'));
    let sent = 0;
    // Not repeatable: after a crash the same key comes with another payload.
    const play = (stepfast: Stepfast) => stepfast.dispatch('e', sent++, { idempotencyKey: 'k' });
    const { violations } = await reportOf(crashEverywhere(plain, { play }));
    expect(violations.some(({ kind, message }) => kind === 'broke' && message.includes('IDEMPOTENCY_CONFLICT'))).toBe(
      true,
    );
  });

  it('what the first play meets is thrown as it is, and a store that can not crash is refused', async () => {
    await expect(crashEverywhere(order, { payload: { total: () => 1 } as never })).rejects.toMatchObject({
      code: 'NOT_SERIALIZABLE',
    });
    const plain = (): Store => {
      const { abandon: _, ...store } = memoryStore();
      return store;
    };
    await expect(crashEverywhere(order, scenario, { store: () => plain })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
    });
  });
});
