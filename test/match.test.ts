import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { z } from 'zod';
import type { Stepfast } from '../src/index.js';
import { crashEverywhere, everyWay } from './crash-everywhere.js';
import type { World } from './harness.js';

// Pins: spec E9, E10 and E5 for waits that look into events (`match`, `schema`): which one is taken, and that nothing of
// the others is lost.

beforeEach(() => void vi.spyOn(console, 'warn').mockImplementation(() => undefined));
afterEach(() => void vi.restoreAllMocks());

type Define = (stepfast: Stepfast) => void;

async function reload(w: World, engine: Stepfast, define: Define): Promise<Stepfast> {
  w.crash(engine);
  const next = w.engine(define);
  await next.ready();
  await w.clock.idle();
  return next;
}
const run = async (engine: Stepfast, id = 'r') => (await engine.runs.get(id))!;
const entries = async (engine: Stepfast, kind: string, id = 'r') =>
  (await engine.runs.timeline(id)).filter((entry) => entry.kind === kind);
interface Paid {
  readonly amount: number;
}
/** A job that waits for a large payment, and then for any. */
const twoWaits: Define = (stepfast) => {
  stepfast.job('two', async ({ step }) => {
    const large = await step.waitForEvent<Paid>('paid', { match: ({ amount }) => amount >= 100, name: 'large' });
    await step.waitForEvent('go');
    const any = await step.waitForEvent<Paid>('paid', { name: 'any' });
    return [large.payload.amount, any.payload.amount];
  });
};

everyWay('match', (open) => {
  it.each([
    ['match', { match: 'n > 1' }, 'a function'],
    ['schema', { schema: { type: 'object' } }, 'Standard Schema'],
    ['onTimeout', { onTimeout: 'wait' }, '"fail", "continue" or "cancel"'],
  ])('B: a wait whose %s is none blocks its run, and takes nothing', async (option, given, wanted) => {
    const w = open();
    const engine = w.engine((stepfast: Stepfast) =>
      stepfast.job('odd', async ({ step }) => step.waitForEvent('tick', given as never)),
    );
    await engine.start('odd', undefined, { id: 'r' });
    await w.clock.idle();
    await engine.dispatch('tick', { n: 2 });
    await w.clock.idle();
    const run = await engine.runs.get('r');
    expect(run).toMatchObject({ status: 'blocked', error: { code: 'INVALID_OPTION' } });
    for (const said of [option, wanted]) expect(run!.error!.message).toContain(said);
    expect((await engine.runs.timeline('r')).map(({ kind }) => kind)).not.toContain('event-taken');
  });

  it('E9: an event that does not match is left, and a later wait takes it, also after a reload', async () => {
    for (const reloads of [false, true]) {
      const w = open();
      let engine = w.engine(twoWaits);
      await engine.start('two', undefined, { id: 'r' });
      await w.clock.idle();
      for (const amount of [1, 2]) await engine.dispatch('paid', { amount });
      await w.clock.idle();
      expect(await run(engine)).toMatchObject({ status: 'waiting', waitingFor: [{ events: ['paid'] }] });
      expect(await entries(engine, 'event-taken')).toEqual([]);
      await engine.dispatch('paid', { amount: 100 });
      await w.clock.idle();
      if (reloads) engine = await reload(w, engine, twoWaits);
      await engine.dispatch('go');
      await w.clock.idle();
      expect(await run(engine)).toMatchObject({ status: 'completed', result: [100, 1] });
    }
  });

  it('E9: events that came before the wait are looked into, oldest first', async () => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job('late', async ({ step }) => {
        await step.waitForEvent('begin');
        return (await step.waitForEvent<Paid>('paid', { match: ({ amount }) => amount > 1 })).payload.amount;
      }),
    );
    await engine.start('late', undefined, { id: 'r' });
    await w.clock.idle();
    for (const amount of [1, 3, 2]) await engine.dispatch('paid', { amount });
    await engine.dispatch('begin');
    await w.clock.idle();
    expect((await run(engine)).result).toBe(3);
  });

  it('E4, E9: what one run leaves, another takes', async () => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job<number>('wants', async ({ payload, step }) => {
        const { payload: paid } = await step.waitForEvent<Paid>('paid', { match: ({ amount }) => amount === payload });
        return paid.amount;
      }),
    );
    for (const amount of [1, 2]) await engine.start('wants', amount, { id: `${amount}` });
    await w.clock.idle();
    await engine.dispatch('paid', { amount: 2 });
    await w.clock.idle();
    expect([(await run(engine, '1')).status, (await run(engine, '2')).result]).toEqual(['waiting', 2]);
    await engine.dispatch('paid', { amount: 1 });
    await w.clock.idle();
    expect((await run(engine, '1')).result).toBe(1);
  });

  it('E10: of two open waits on one pair the first that an event fits takes it, in the order of asking', async () => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job('rivals', async ({ step }) => {
        const wait = (name: string, least: number) =>
          step.waitForEvent<Paid>('paid', { name, match: ({ amount }) => amount >= least });
        const all = await Promise.all([wait('large', 100), wait('medium', 10), wait('any', 0)]);
        return all.map(({ payload }) => payload.amount);
      }),
    );
    await engine.start('rivals', undefined, { id: 'r' });
    await w.clock.idle();
    for (const amount of [50, 200, 300]) await engine.dispatch('paid', { amount });
    await w.clock.idle();
    expect((await run(engine)).result).toEqual([200, 50, 300]);
  });

  it('E5, E9: with only events that do not match, the wait times out at its deadline', async () => {
    for (const reloads of [false, true]) {
      const w = open();
      const define: Define = (stepfast) => {
        stepfast.job('deadline', async ({ step }) => {
          const options = { timeout: '1h', onTimeout: 'continue', match: () => false } as const;
          const first = await step.waitForEvent('paid', options);
          const { payload } = await step.waitForEvent('paid', { name: 'after' });
          return [first.timedOut && first.deadline, payload];
        });
      };
      let engine = w.engine(define);
      await engine.start('deadline', undefined, { id: 'r' });
      await w.clock.idle();
      const deadline = w.clock.now() + 3_600_000;
      await w.clock.advance('30m');
      await engine.dispatch('paid', 'left');
      await w.clock.idle();
      if (reloads) engine = await reload(w, engine, define);
      await w.clock.advance('29m');
      expect((await run(engine)).status).toBe('waiting');
      if (reloads) w.crash(engine);
      await w.clock.advance('2h');
      if (reloads) engine = w.engine(define);
      await engine.ready();
      await w.clock.idle();
      expect((await run(engine)).result).toEqual([deadline, 'left']);
      expect((await entries(engine, 'wait-timed-out')).length).toBe(1);
    }
  });

  it('E9: an event that matches and one that does not, both before the deadline: taken, however late the app opens', async () => {
    const w = open();
    const define: Define = (stepfast) => {
      stepfast.job('deadline', async ({ step }) =>
        step.waitForEvent<Paid>('paid', { timeout: '1h', onTimeout: 'continue', match: ({ amount }) => amount > 1 }),
      );
    };
    const engine = w.engine(define);
    await engine.start('deadline', undefined, { id: 'r' });
    await w.clock.idle();
    w.crash(engine);
    const sender = w.engine();
    for (const amount of [1, 2]) await sender.dispatch('paid', { amount });
    await sender.close();
    await w.clock.advance('2 days');
    const after = w.engine(define);
    await after.ready();
    await w.clock.idle();
    expect((await run(after)).result).toMatchObject({ timedOut: false, payload: { amount: 2 } });
  });

  it('B, E9: a predicate that gives a promise is reported and says no, whatever the promise says later', async () => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job('promises', async ({ step }) => {
        const match = (async () => true) as never;
        await step.waitForEvent('came', { match });
      }),
    );
    await engine.start('promises', undefined, { id: 'r' });
    await w.clock.idle();
    await engine.dispatch('came', {});
    await w.clock.idle();
    expect((await run(engine)).status).toBe('waiting');
    expect(w.errors).toMatchObject([{ code: 'INVALID_OPTION', message: expect.stringContaining('What match gave') }]);
  });

  it('B, E9: a predicate that throws is reported and says no; the event stays', async () => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job('throws', async ({ step }) => {
        const match = (payload: { readonly user: { readonly id: number } }) => payload.user.id === 1;
        const first = await step.waitForEvent('came', { match });
        return [first.payload, (await step.waitForEvent('came', { name: 'rest' })).payload];
      }),
    );
    await engine.start('throws', undefined, { id: 'r' });
    await w.clock.idle();
    await engine.dispatch('came', {});
    await w.clock.idle();
    expect((await run(engine)).status).toBe('waiting');
    expect(w.errors).toMatchObject([{ runId: 'r', job: 'throws', step: 'came', cause: expect.any(TypeError) }]);
    await engine.dispatch('came', { user: { id: 1 } });
    await w.clock.idle();
    expect((await run(engine)).result).toEqual([{ user: { id: 1 } }, {}]);
  });

  it('E4, E9: nothing is lost and nothing taken twice, whichever commit the app dies at', async () => {
    await crashEverywhere(open, {
      define: twoWaits,
      async play(engine) {
        await engine.start('two', undefined, { id: 'r' });
        const send = (amount: number) => engine.dispatch('paid', { amount }, { idempotencyKey: `${amount}` });
        for (const amount of [7, 100, 8]) await send(amount);
        await engine.dispatch('go', undefined, { idempotencyKey: 'go' });
      },
      async check(engine, _, where) {
        expect((await run(engine)).result, where).toEqual([100, 7]);
        expect((await entries(engine, 'event-taken')).map(({ name }) => name)).toEqual(['large', 'go', 'any']);
      },
    });
  });

  it('E7: an event whose time is over is nothing for a wait that is opened later, live as after a reload', async () => {
    for (const reloads of [false, true]) {
      const w = open();
      let engine = w.engine(twoWaits);
      await engine.start('two', undefined, { id: 'r' });
      await w.clock.idle();
      await engine.dispatch('paid', { amount: 1 }, { ttl: '1m' });
      await engine.dispatch('paid', { amount: 100 });
      await w.clock.advance('2m');
      if (reloads) engine = await reload(w, engine, twoWaits);
      await engine.dispatch('go');
      await engine.dispatch('paid', { amount: 5 });
      await w.clock.idle();
      expect((await run(engine)).result).toEqual([100, 5]);
    }
  });
});

const slow = () => new Promise<void>((resolve) => setTimeout(resolve, 1));
const isVerified = z.object({ userId: z.string(), at: z.coerce.date() });
const schemas = {
  'a schema': isVerified,
  'an asynchronous schema': isVerified.refine(async () => {
    await slow();
    return true;
  }),
};

everyWay('schema', (open) => {
  it.each(
    Object.entries(schemas),
  )('E9: %s: its output is what the handler gets, live and on replay', async (_, schema) => {
    const w = open();
    const seen: unknown[] = [];
    const define: Define = (stepfast) => {
      stepfast.job('checked', async ({ step }) => {
        const { payload } = await step.waitForEvent('verified', { schema });
        seen.push(payload);
        await step.waitForEvent('go');
        return payload.at.getTime();
      });
    };
    const before = w.engine(define);
    await before.start('checked', undefined, { id: 'r' });
    await w.clock.idle();
    await before.dispatch('verified', { userId: 42 });
    await before.dispatch('verified', { userId: '42', at: '2026-03-01', more: 'is stripped' });
    await w.clock.idle();
    const after = await reload(w, before, define);
    await after.dispatch('go');
    await w.clock.idle();
    expect((await run(after)).result).toBe(Date.UTC(2026, 2, 1));
    for (const payload of seen) expect(payload).toEqual({ userId: '42', at: new Date('2026-03-01') });
    expect(seen.length).toBeGreaterThan(1);
  });

  it('E9, V2: an event that it refuses is left untaken, with one entry in the timeline, also after reloads', async () => {
    const w = open();
    const define: Define = (stepfast) => {
      stepfast.job('checked', async ({ step }) => {
        const { payload } = await step.waitForEvent('verified', { schema: isVerified, name: 'checked' });
        return [payload.userId, (await step.waitForEvent('verified', { name: 'rest' })).payload];
      });
    };
    let engine = w.engine(define);
    await engine.start('checked', undefined, { id: 'r' });
    await w.clock.idle();
    const { id } = await engine.dispatch('verified', { userId: 42 });
    await w.clock.idle();
    for (let reloads = 0; reloads < 3; reloads++) engine = await reload(w, engine, define);
    const skipped = await entries(engine, 'event-skipped');
    expect(skipped).toMatchObject([{ name: 'checked', event: 'verified', eventId: id }]);
    expect(skipped[0]!.reason).toEqual(expect.stringMatching(/./));
    await engine.dispatch('verified', { userId: 'ok', at: 0 });
    await w.clock.idle();
    expect((await run(engine)).result).toEqual(['ok', { userId: 42 }]);
    expect((await entries(engine, 'event-skipped')).length).toBe(1);
  });

  it('E9: match comes after the schema, and sees what it made', async () => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job('both', async ({ step }) => {
        const match = ({ at }: z.infer<typeof isVerified>) => at.getTime() > 0;
        return (await step.waitForEvent('verified', { schema: isVerified, match })).payload.userId;
      }),
    );
    await engine.start('both', undefined, { id: 'r' });
    await w.clock.idle();
    for (const event of [{}, { userId: 'a', at: 0 }, { userId: 'b', at: 1 }]) await engine.dispatch('verified', event);
    await w.clock.idle();
    expect((await run(engine)).result).toBe('b');
  });

  it('E9: refusals and events that fit over a crash at each commit', async () => {
    await crashEverywhere(open, {
      define: (stepfast) =>
        stepfast.job('checked', async ({ step }) => {
          const first = await step.waitForEvent('verified', { schema: schemas['an asynchronous schema'] });
          return first.payload.userId;
        }),
      async play(engine) {
        await engine.start('checked', undefined, { id: 'r' });
        for (const userId of [1, 'a', 'b'])
          await engine.dispatch('verified', { userId, at: 0 }, { idempotencyKey: `${userId}` });
      },
      async check(engine, _, where) {
        expect((await run(engine)).result, where).toBe('a');
        expect((await entries(engine, 'event-skipped')).length, where).toBeLessThanOrEqual(1);
      },
    });
  });
});
