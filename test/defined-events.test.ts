import { expect, it } from 'vitest';
import { z } from 'zod';
import { defineEvent, type Stepfast } from '../src/index.js';
import { media, onEveryStore, world } from './harness.js';

// Pins: spec E9 and B: an event that was defined with a schema is checked at `dispatch`, wherever its name would do.

const verified = defineEvent('email.verified', z.object({ userId: z.string(), at: z.coerce.date() }));

const waits = (stepfast: Stepfast) =>
  stepfast.job('waits', async ({ step }) => {
    const { payload } = await step.waitForEvent('email.verified', { correlationKey: 'k' });
    return payload;
  });

onEveryStore('defined events', (medium) => {
  it('E9: a defined event is dispatched by its name, and what its schema makes of the payload is stored', async () => {
    const w = world(medium);
    const engine = w.engine(waits);
    const run = await engine.start('waits');
    await w.clock.idle();
    const receipt = await engine.dispatch(verified, { userId: '42', at: '2026-03-01' }, { correlationKey: 'k' });
    expect(receipt).toMatchObject({ deduplicated: false, resumed: [run.id] });
    expect(await run.result()).toEqual({ userId: '42', at: new Date('2026-03-01') });
  });

  it('E9: a payload that does not fit is refused with the issues of the schema, and nothing is stored', async () => {
    const w = world(medium);
    const engine = w.engine(waits);
    const run = await engine.start('waits');
    await w.clock.idle();
    const before = w.commits();
    const wrong = engine.dispatch(verified, { userId: 42 } as never, { correlationKey: 'k' });
    await expect(wrong).rejects.toMatchObject({ code: 'INVALID_PAYLOAD', issues: [{ path: ['userId'] }, {}] });
    expect(w.commits()).toBe(before);
    expect(await run.status()).toBe('waiting');
  });

  it('B: what is shaped like a defined event, and has no schema, is refused: it would pass for a checked one', async () => {
    const w = world(medium);
    const engine = w.engine(waits);
    await engine.ready();
    const before = w.commits();
    for (const odd of [{ name: 'email.verified' }, { name: 'email.verified', schema: {} }] as never[])
      await expect(engine.dispatch(odd)).rejects.toMatchObject({
        code: 'INVALID_OPTION',
        message: expect.stringContaining('The schema of event "email.verified" is'),
      });
    expect(w.commits()).toBe(before);
  });

  it('E8: an idempotency key compares what the schema made of the payloads', async () => {
    const engine = world(medium).engine(waits);
    const options = { idempotencyKey: 'once' };
    const first = await engine.dispatch(verified, { userId: '42', at: '2026-03-01' }, options);
    const again = await engine.dispatch(verified, { at: new Date('2026-03-01'), userId: '42' }, options);
    expect(again).toEqual({ ...first, deduplicated: true });
    const other = engine.dispatch(verified, { userId: '43', at: '2026-03-01' }, options);
    await expect(other).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
  });

  it('E8: dispatched again, a payload of which the schema makes something else each time is the same', async () => {
    const w = world(medium);
    let made = 0;
    const schema = z.object({ userId: z.string(), token: z.number().default(() => ++made) });
    const numbered = defineEvent('email.verified', schema);
    const engine = w.engine();
    const options = { idempotencyKey: 'once', correlationKey: 'k' };
    const first = await engine.dispatch(numbered, { userId: '42' }, options);
    expect(await engine.dispatch(numbered, { userId: '42' }, options)).toEqual({ ...first, deduplicated: true });
    expect(made).toBe(2);
    const other = engine.dispatch(numbered, { userId: '42', token: 7 }, options);
    await expect(other).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
  });

  it('E9: a schema that answers later is waited for', async () => {
    const w = world(medium);
    const slow = defineEvent(
      'email.verified',
      z.string().refine(async (text) => text !== 'no'),
    );
    const engine = w.engine(waits);
    const run = await engine.start('waits');
    await expect(engine.dispatch(slow, 'no', { correlationKey: 'k' })).rejects.toMatchObject({
      code: 'INVALID_PAYLOAD',
    });
    await engine.dispatch(slow, 'yes', { correlationKey: 'k' });
    expect(await run.result()).toBe('yes');
  });
});

it.each(['', 'stepfast:end', 'n'.repeat(257), 42, null])('B: an event of the name %s is not defined', (name) => {
  expect(() => defineEvent(name as string, z.string())).toThrow(expect.objectContaining({ code: 'INVALID_NAME' }));
});

it.each([undefined, null, {}, 'text'])('B: %s is no schema of an event', (schema) => {
  const define = () => defineEvent('go', schema as never);
  expect(define).toThrow(expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringContaining('"go"') }));
});

it('B: a schema that throws refuses with a code, and its error as the cause', async () => {
  const schema = z.string().transform((): string => {
    throw new RangeError('no');
  });
  const engine = world(media.memory!).engine((stepfast) => void stepfast.job('job', { payload: schema }, () => 1));
  const refusal = { code: 'INVALID_PAYLOAD', cause: expect.any(RangeError) };
  await expect(engine.dispatch(defineEvent('go', schema), 'x')).rejects.toMatchObject(refusal);
  await expect(engine.start('job', 'x')).rejects.toMatchObject(refusal);
  expect((await engine.runs.list()).runs).toEqual([]);
});
