import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { z } from 'zod';
import { defineEvent, type Receipt, type Stepfast } from '../src/index.js';
import { crashEverywhere, everyWay } from './crash-everywhere.js';
import type { World } from './harness.js';

// Pins: `step.dispatch` (spec 2, E1, E4, E8, R1, R2, O1): an event that a run sends, once, however often it dies.

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

/** A job that takes every `sent` until none comes for an hour. */
const hears: Define = (stepfast) => {
  stepfast.job('hears', async ({ step }) => {
    const heard: unknown[] = [];
    for (;;) {
      const event = await step.waitForEvent('sent', { timeout: '1h', onTimeout: 'continue' });
      if (event.timedOut) return heard;
      heard.push(event.payload);
    }
  });
};

everyWay('step.dispatch', (open) => {
  it('E1, R1: exactly once, whichever commit the app dies at', async () => {
    await crashEverywhere(open, {
      define: (stepfast) => {
        hears(stepfast);
        stepfast.job('sends', async ({ step }) => {
          const first = await step.dispatch('sent', 1);
          const both = await Promise.all([step.dispatch('sent', 2), step.dispatch('sent', 3)]);
          return [first, ...both].map(({ id }) => id);
        });
      },
      async play(engine, w) {
        await engine.start('hears', undefined, { id: 'h' });
        await engine.start('sends', undefined, { id: 'r' });
        await w.clock.idle();
      },
      async check(engine, w, where) {
        await w.clock.advance('2h');
        expect((await run(engine, 'h')).result, where).toEqual([1, 2, 3]);
        const taken = (await engine.runs.timeline('h')).filter(({ kind }) => kind === 'event-taken');
        expect((await run(engine)).result, where).toEqual(taken.map(({ eventId }) => eventId));
      },
    });
  });

  it('R3, V2: the receipt is recorded, and is the same on replay', async () => {
    const w = open();
    const seen: Receipt[] = [];
    const define: Define = (stepfast) => {
      hears(stepfast);
      stepfast.job('sends', async ({ step }) => {
        const receipt = await step.dispatch('sent', { at: new Date(0) }, { name: 'tell' });
        seen.push(receipt);
        await step.waitForEvent('go');
        return receipt;
      });
    };
    const before = w.engine(define);
    await before.start('hears', undefined, { id: 'h' });
    await w.clock.idle();
    await before.start('sends', undefined, { id: 'r' });
    await w.clock.idle();
    const after = await reload(w, before, define);
    await after.dispatch('go');
    await w.clock.advance('2h');
    expect((await run(after)).result).toEqual({ id: expect.any(String), deduplicated: false, resumed: ['h'] });
    for (const receipt of seen) expect(receipt).toEqual((await run(after)).result);
    expect(await after.runs.timeline('r')).toContainEqual(
      expect.objectContaining({ kind: 'step-completed', name: 'tell', word: 'dispatch' }),
    );
    expect((await run(after, 'h')).result).toEqual([{ at: new Date(0) }]);
  });

  it('R4: its name is that of the event unless it has one of its own; occurrences are counted', async () => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job('sends', async ({ step }) => {
        await step.dispatch('sent');
        await step.dispatch('sent');
        await step.dispatch('sent', 1, { name: 'own' });
        await step.run('sent', () => 1);
      }),
    );
    await engine.start('sends', undefined, { id: 'r' });
    await w.clock.idle();
    const steps = (await engine.runs.timeline('r')).filter(({ kind }) => kind === 'step-completed');
    expect(steps.map(({ name, occurrence, word }) => [name, occurrence, word])).toEqual([
      ['sent', 1, 'dispatch'],
      ['sent', 2, 'dispatch'],
      ['own', 1, 'dispatch'],
      ['sent', 3, undefined],
    ]);
  });

  it('E2, E4, E7, E8: correlation key, run id, ttl and idempotency key count as they do outside', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      stepfast.job<string | undefined>('waits', async ({ payload, step }) => {
        const options = payload === undefined ? {} : { correlationKey: payload };
        return (await step.waitForEvent('sent', options)).payload;
      });
      stepfast.job('sends', async ({ step }) => {
        await step.dispatch('sent', 'keyed', { correlationKey: 'k' });
        await step.dispatch('sent', 'addressed', { runId: 'two' });
        const first = await step.dispatch('other', 1, { idempotencyKey: 'i', ttl: '1m' });
        const again = await step.dispatch('other', 1, { idempotencyKey: 'i' });
        await step.sleep('nap', '2m');
        const later = await step.dispatch('other', 2, { idempotencyKey: 'i' });
        return [again.id === first.id, again.deduplicated, later.deduplicated];
      });
    });
    await engine.start('waits', 'k', { id: 'keyed' });
    for (const id of ['one', 'two']) await engine.start('waits', undefined, { id });
    await w.clock.idle();
    await engine.start('sends', undefined, { id: 'r' });
    await w.clock.advance('5m');
    expect((await run(engine)).result).toEqual([true, true, false]);
    expect((await run(engine, 'keyed')).result).toBe('keyed');
    expect((await run(engine, 'two')).result).toBe('addressed');
    expect((await run(engine, 'one')).status).toBe('waiting');
  });

  it.each([
    ['a run that has ended', { runId: 'over' }, 'RUN_NOT_FOUND'],
    ['a run that never was', { runId: 'nobody' }, 'RUN_NOT_FOUND'],
    ['a key that was used with another payload', { idempotencyKey: 'used' }, 'IDEMPOTENCY_CONFLICT'],
  ])('E4, E8, F3: an event for %s fails the step at its first attempt, and nothing is stored', async (_, options, code) => {
    const w = open();
    const engine = w.engine((stepfast) => {
      hears(stepfast);
      stepfast.job('over', () => undefined);
      stepfast.job('sends', ({ step }) =>
        step
          .dispatch('sent', 'refused', options)
          .catch((error: Error & { code: string; cause: { code: string } }) => [
            error.name,
            error.code,
            error.cause.code,
          ]),
      );
    });
    await engine.start('over', undefined, { id: 'over' });
    await engine.dispatch('sent', 'first', { idempotencyKey: 'used' });
    await engine.start('hears', undefined, { id: 'h' });
    await w.clock.idle();
    await engine.start('sends', undefined, { id: 'r' });
    await w.clock.advance('2h');
    expect((await run(engine)).result).toEqual(['StepError', 'STEP_FAILED', code]);
    expect((await run(engine)).attempts.length).toBe(1);
    expect((await run(engine, 'h')).result).toEqual([]);
  });

  it('E7, F1: a full backlog may empty: the step is tried again', async () => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job('sends', { retry: { initialDelay: '1h', maxDelay: '1h', jitter: false } }, ({ step }) =>
        step.dispatch('sent', 'in'),
      ),
    );
    await Promise.all(Array.from({ length: 1_000 }, (_, at) => engine.dispatch('sent', at, { ttl: '30m' })));
    await engine.start('sends', undefined, { id: 'r' });
    await w.clock.idle();
    expect(await run(engine)).toMatchObject({
      status: 'retrying',
      attempts: [{ error: { code: 'EVENT_BACKLOG_FULL' } }],
    });
    await w.clock.advance('1h');
    expect((await run(engine)).status).toBe('completed');
  });

  it('E4: a run may wait for what it sends itself, at once or later', async () => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job('self', async ({ step }) => {
        const [event] = await Promise.all([step.waitForEvent('sent'), step.dispatch('sent', 1)]);
        await step.dispatch('sent', 2);
        return [event.payload, (await step.waitForEvent('sent')).payload];
      }),
    );
    await engine.start('self', undefined, { id: 'r' });
    await w.clock.idle();
    expect((await run(engine)).result).toEqual([1, 2]);
  });

  it('E9: a defined event is checked, and stored as its schema has made it; one that does not fit fails the step', async () => {
    const w = open();
    const sent = defineEvent('sent', z.object({ at: z.coerce.date() }));
    const engine = w.engine((stepfast) => {
      hears(stepfast);
      stepfast.job('sends', async ({ step }) => {
        await step.dispatch(sent, { at: '2026-03-01' as never });
        return step
          .dispatch(sent, { at: 'never' as never })
          .catch((error: { cause: { code: string } }) => error.cause.code);
      });
    });
    await engine.start('hears', undefined, { id: 'h' });
    await w.clock.idle();
    await engine.start('sends', undefined, { id: 'r' });
    await w.clock.advance('2h');
    expect(await run(engine)).toMatchObject({ result: 'INVALID_PAYLOAD', attempts: [{ step: 'sent', attempt: 1 }] });
    expect((await run(engine, 'h')).result).toEqual([{ at: new Date('2026-03-01') }]);
  });

  it('O1, F9: an owner that has lost its run sends nothing', async () => {
    const w = open();
    const store = w.store();
    const { commit } = store;
    store.commit = async (batch) => {
      if (batch.events?.[0]?.payload === 'from the run') await sender.runs.cancel('r');
      return commit.call(store, batch);
    };
    const sender: Stepfast = w.engine(
      (stepfast) => {
        hears(stepfast);
        stepfast.job('sends', ({ step }) => step.dispatch('sent', 'from the run'));
      },
      { store },
    );
    await sender.start('hears', undefined, { id: 'h' });
    await w.clock.idle();
    await sender.start('sends', undefined, { id: 'r' });
    await w.clock.advance('2h');
    expect((await run(sender)).status).toBe('cancelled');
    expect((await run(sender, 'h')).result).toEqual([]);
  });

  it.each<[what: string, args: readonly unknown[], code: string]>([
    ['an empty name', [''], 'INVALID_NAME'],
    ['an empty correlation key', ['sent', 1, { correlationKey: '' }], 'INVALID_KEY'],
    ['an empty run id', ['sent', 1, { runId: '' }], 'INVALID_ID'],
    ['a ttl that is no duration', ['sent', 1, { ttl: 'soon' }], 'INVALID_DURATION'],
    ['options that are none', ['sent', 1, null], 'INVALID_OPTION'],
  ])('R5: %s blocks the run, and nothing is sent', async (_, args, code) => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job('bad', ({ step }) => step.dispatch(...(args as Parameters<typeof step.dispatch>))),
    );
    await engine.start('bad', undefined, { id: 'r' });
    await w.clock.idle();
    expect(await run(engine)).toMatchObject({ status: 'blocked', error: { code }, attempts: [] });
  });
});
