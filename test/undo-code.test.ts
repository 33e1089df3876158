import { expect, it } from 'vitest';
import { defineJob, FatalError, type HandlerContext, type Stepfast, StepfastError } from '../src/index.js';
import { LIMITS } from '../src/limits.js';
import { everyWay } from './crash-everywhere.js';
import type { World } from './harness.js';

// Pins: spec F7 where code changes, or the store fails, while a run is undone.

const kindsOf = async (stepfast: Stepfast, id: string, kinds: RegExp) =>
  (await stepfast.runs.timeline(id)).filter(({ kind }) => kinds.test(kind)).map(({ kind, name }) => `${kind} ${name}`);
const fatal = () => {
  throw new FatalError('no way');
};
/** As long as the handler may still ask for what is missing, in real time, nothing is said. */
const blockedAfterPatience = (engine: Stepfast) =>
  expect.poll(async () => (await engine.runs.get('o'))!.status, { timeout: 30_000 }).toBe('blocked');

everyWay('undo meanwhile', (open) => {
  it('F7: code that is replaced while an undo waits for its next attempt takes that over, at its time', async () => {
    const w = open();
    const order = (version: string) =>
      defineJob('order', {}, async ({ step }: HandlerContext<undefined>) => {
        const retry = { initialDelay: '1h', maxDelay: '1h', jitter: false } as const;
        const undo = ({ attempt }: { readonly attempt: number }) => {
          w.log.push(`${version} ${attempt}`);
          if (version === 'old') throw new Error('not yet');
        };
        await step.run('a', () => 1, { retry, undo });
        await step.run('b', fatal);
      });
    const engine = w.engine((stepfast) => stepfast.register(order('old')));
    const run = await engine.start('order');
    await w.clock.advance('30m');
    engine.register(order('new'), { replace: true });
    await w.clock.advance('29m');
    expect(w.log).toEqual(['old 1']);
    await w.clock.advance('1m');
    expect(w.log).toEqual(['old 1', 'new 2']);
    expect(await engine.runs.get(run.id)).not.toHaveProperty('undoing');
  });

  it('D5: a store that fails while steps are undone delays that; what it has recorded is not undone again', async () => {
    const w = open();
    const store = w.store();
    const { commit } = store;
    const failing = { next: 0, count: 0 };
    store.commit = async (batch) => {
      const isUndoing = batch.run?.state?.undoing || batch.run?.append.some(({ kind }) => kind === 'undone');
      if (!isUndoing) return commit.call(store, batch);
      // In turn: before it happens, after it has happened, not at all.
      const turn = failing.next++ % 3;
      if (turn === 1) await commit.call(store, batch);
      if (turn === 2) return commit.call(store, batch);
      failing.count++;
      throw new StepfastError('STORE_UNAVAILABLE', 'The disk is gone for a moment.');
    };
    const engine = w.engine(
      (stepfast) => {
        stepfast.job('order', async ({ step }) => {
          for (const name of ['a', 'b', 'c'])
            await step.run(name, () => name, { undo: ({ result }) => void w.log.push(`undo ${result}`) });
          await step.run('d', fatal);
        });
      },
      { store },
    );
    const { backoffMs } = LIMITS;
    LIMITS.backoffMs = 10; // real patience with the store
    try {
      const run = await engine.start('order');
      const isOver = async () => {
        const { endedAt, undoing } = (await engine.runs.get(run.id))!;
        return endedAt !== undefined && !undoing;
      };
      await expect.poll(isOver, { timeout: 10_000 }).toBe(true);
      expect(w.log.filter((line, index) => line !== w.log[index - 1])).toEqual(['undo c', 'undo b', 'undo a']);
      expect(await kindsOf(engine, run.id, /undone/)).toEqual(['undone c', 'undone b', 'undone a']);
      expect(failing.count).toBeGreaterThan(2);
    } finally {
      LIMITS.backoffMs = backoffMs;
    }
  });
});

everyWay('undo without its code', (open) => {
  const first = (w: World) => (stepfast: Stepfast) => {
    stepfast.job('order', async ({ step }) => {
      await step.run('a', () => 'A', { undo: ({ result }) => void w.log.push(`old undo ${result}`) });
      await step.run('b', () => 'B', { undo: ({ result }) => void w.log.push(`old undo ${result}`) });
      await step.waitForEvent('never');
    });
  };
  /** Later code: what `has` names can be undone. */
  const later = (w: World, has: string) =>
    defineJob('order', {}, async ({ step }: HandlerContext<undefined>) => {
      for (const name of ['a', 'b']) {
        const undo = ({ result }: { readonly result: unknown }) => void w.log.push(`undo ${result}`);
        await step.run(name, () => name, has.includes(name) ? { undo } : {});
      }
      await step.waitForEvent('never');
    });
  const cancelled = async (w: World) => {
    const before = w.engine(first(w));
    const run = await before.start('order', undefined, { id: 'o' });
    await w.clock.idle();
    await before.close();
    const stranger = w.engine();
    await stranger.runs.cancel(run.id);
    expect(await stranger.runs.get('o')).toMatchObject({ status: 'cancelled', undoing: true });
    await stranger.close();
  };

  it('F7, R5: where the code lacks an undo, the run is blocked, and goes on when a job that has it is registered', async () => {
    const w = open();
    await cancelled(w);
    const engine = w.engine((stepfast) => stepfast.register(later(w, 'b')));
    await engine.ready();
    await w.clock.advance('1h');
    expect(w.log).toEqual(['undo B']); // what can be done is
    await blockedAfterPatience(engine);
    const blocked = await engine.runs.get('o');
    expect(blocked).toMatchObject({ status: 'blocked', undoing: true, error: { code: 'REPLAY_MISMATCH', step: 'a' } });
    expect(blocked!.error!.message).toMatch(/"a".*undo/);
    for (const status of ['blocked', ['blocked', 'failed', 'cancelled']] as const)
      expect((await engine.runs.list({ status })).runs).toEqual([blocked]);
    expect(w.errors).toMatchObject([{ code: 'REPLAY_MISMATCH' }]); // said once
    engine.register(later(w, 'ab'), { replace: true });
    await w.clock.idle();
    expect(w.log).toEqual(['undo B', 'undo A']);
    expect((await engine.runs.get('o'))!.status).toBe('cancelled');
    expect(await engine.runs.get('o')).not.toHaveProperty('undoing');
  });

  it('R5: a run that has failed, and can not be undone, says why, and why it failed', async () => {
    const w = open();
    const failing = (has: boolean) =>
      defineJob('order', { retry: { maxAttempts: 1 } }, async ({ step }: HandlerContext<undefined>) => {
        await step.run('a', () => 'A', has ? { undo: () => void w.log.push('undo A') } : {});
        if (has) await step.waitForEvent('go', { timeout: '1h' });
        await step.run('b', fatal);
      });
    const first = w.engine((stepfast) => stepfast.register(failing(true)));
    const run = await first.start('order', undefined, { id: 'o' });
    await w.clock.idle();
    first.register(failing(false), { replace: true });
    await w.clock.advance('2h');
    await blockedAfterPatience(first);
    const blocked = await first.runs.get('o');
    expect(blocked).toMatchObject({ status: 'blocked', undoing: true, error: { code: 'REPLAY_MISMATCH', step: 'a' } });
    expect(blocked!.attempts).toMatchObject([{ step: 'b', error: { name: 'FatalError' } }]);
    await expect(run.result()).rejects.toMatchObject({ code: 'STEP_FAILED', step: 'b' });
    first.register(failing(true), { replace: true });
    await w.clock.idle();
    expect([w.log, (await first.runs.get('o'))!.error?.code]).toEqual([['undo A'], 'STEP_FAILED']);
  });

  it('F7, R5: where the step is gone from the code, the run is blocked, nothing is lost', async () => {
    const w = open();
    await cancelled(w);
    const without = w.engine((stepfast) => {
      stepfast.job('order', ({ step }) => step.waitForEvent('never'));
    });
    await without.ready();
    await w.clock.idle();
    await blockedAfterPatience(without);
    expect(w.log).toEqual([]);
    await without.close();
    const after = w.engine(first(w));
    await after.ready();
    await w.clock.idle();
    expect(w.log).toEqual(['old undo B', 'old undo A']);
  });

  it('F7, R5: a mismatch on the way to an undo blocks, and runs nothing of the handler', async () => {
    const w = open();
    await cancelled(w);
    const other = w.engine((stepfast) => {
      stepfast.job('order', async ({ step }) => {
        await step.sleep('a', '1h');
        await step.run('new', () => void w.log.push('new'));
      });
    });
    await other.ready();
    await w.clock.advance('2h');
    expect(await other.runs.get('o')).toMatchObject({
      status: 'blocked',
      error: { code: 'REPLAY_MISMATCH', step: 'a' },
    });
    expect(w.log).toEqual([]);
  });

  it('F7: nothing that the handler asks for on the way is done', async () => {
    const w = open();
    await cancelled(w);
    const engine = w.engine((stepfast) => {
      stepfast.job('order', async ({ step }) => {
        const extra = step.run('extra', () => void w.log.push('extra'));
        const child = step.start('other');
        const sent = step.dispatch('sent');
        await step.run('a', () => 'A', { undo: ({ result }) => void w.log.push(`undo ${result}`) });
        await step.run('b', () => 'B', { undo: ({ result }) => void w.log.push(`undo ${result}`) });
        await Promise.all([extra, child, sent]);
      });
      stepfast.job('other', () => void w.log.push('other'));
    });
    await engine.ready();
    await w.clock.idle();
    expect(w.log).toEqual(['undo B', 'undo A']);
    expect((await engine.runs.list()).runs).toHaveLength(1);
  });
});
