import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { schedules } from '../plugins/schedules/index.js';
import { transfer } from '../plugins/transfer/index.js';
import {
  defineEvent,
  defineJob,
  FatalError,
  type HandlerContext,
  isStepfastError,
  type RunSnapshot,
  StepError,
  type Stepfast,
  StepfastError,
} from '../src/index.js';
import { simulatedClock } from '../src/testing/index.js';
import { eventually, failureOf, pair, until } from './bridge-kit.js';

/*
 * Pins: an engine used over a port answers as it does at home (spec O5): same words, same values, same errors.
 */

const greet = defineJob('greet', {}, async ({ payload, step }: HandlerContext<string>) =>
  step.run('say', () => `hello ${payload}`),
);
const echo = (stepfast: Stepfast) => stepfast.job('echo', {}, ({ payload }: HandlerContext<unknown>) => payload);
const asking = (stepfast: Stepfast) =>
  stepfast.job('asking', async ({ step }) => {
    await step.run('first', () => 1);
    const { payload } = await step.waitForEvent<{ by: string }>('answer', { correlationKey: 'k' });
    return payload.by;
  });

describe('O5: the words of an engine, over a port', () => {
  it('O5: a run is started by name and by the job, its result comes back, and the same start gives the same run', async () => {
    const { remote, engine } = pair((stepfast) => stepfast.register(greet));
    await remote.ready();
    const byName = await remote.start('greet', 'Ada', { idempotencyKey: 'once', tags: ['t'] });
    expect(byName.created).toBe(true);
    expect(await byName.result()).toBe('hello Ada');
    expect(await byName.status()).toBe('completed');
    const byJob = await remote.start(greet, 'Ada', { idempotencyKey: 'once' });
    expect([byJob.id, byJob.created]).toEqual([byName.id, false]);
    expect(await remote.runs.get(byName.id)).toEqual(await engine.runs.get(byName.id));
    expect(await remote.runs.get('nobody')).toBeUndefined();
  });

  it('O5: an event that is dispatched over the port resumes the run, and its schema is asked here', async () => {
    const answer = defineEvent('answer', z.object({ by: z.string().transform((text) => text.toUpperCase()) }));
    const { remote } = pair(asking);
    const handle = await remote.start('asking');
    await until(remote.runs, handle.id, 'waiting');
    const refused = await failureOf(remote.dispatch(answer, { by: 7 } as never, { correlationKey: 'k' }));
    expect(refused).toMatchObject({ code: 'INVALID_PAYLOAD' });
    const receipt = await remote.dispatch(answer, { by: 'ada' }, { correlationKey: 'k', idempotencyKey: 'e' });
    expect(receipt).toEqual({ id: expect.any(String), deduplicated: false, resumed: [handle.id] });
    expect(await handle.result()).toBe('ADA');
    const again = await remote.dispatch('answer', { by: 'ADA' }, { correlationKey: 'k', idempotencyKey: 'e' });
    expect(again).toEqual({ ...receipt, deduplicated: true });
  });

  it('O5: a payload is what was given: what would pass for a promise is refused, as at home', async () => {
    const { remote, engine } = pair(asking);
    const { schema } = defineEvent('answer', z.any());
    for (const stepfast of [engine, remote])
      for (const event of ['answer', { name: 'answer', schema }])
        for (const odd of [Promise.resolve({ by: 'ada' }), { then: (done: (value: unknown) => void) => done('ada') }])
          await expect(stepfast.dispatch(event as string, odd)).rejects.toMatchObject({ code: 'NOT_SERIALIZABLE' });
    const thenable = { name: 'answer', schema: z.any().transform(() => ({ then: 1, by: () => 1 })) };
    await expect(remote.dispatch(thenable, 1)).rejects.toMatchObject({ code: 'NOT_SERIALIZABLE' });
    const rejected = Promise.reject(new Error('mine'));
    await expect(remote.dispatch('answer', rejected)).rejects.toMatchObject({ code: 'NOT_SERIALIZABLE' });
    await expect(rejected).rejects.toThrow('mine');
  });

  it('E8: an equal payload is the same event, here and there, whatever its schema makes of it each time', async () => {
    let made = 0;
    const stamped = defineEvent(
      'answer',
      z.object({ by: z.string() }).transform((value) => ({ ...value, stamp: ++made })),
    );
    const { remote, engine } = pair(asking);
    const handle = await remote.start('asking');
    const options = { idempotencyKey: 'e', correlationKey: 'k' };
    const first = await remote.dispatch(stamped, { by: 'ada' }, options);
    for (const stepfast of [remote, engine, remote])
      expect(await stepfast.dispatch(stamped, { by: 'ada' }, options)).toEqual({ ...first, deduplicated: true });
    await expect(remote.dispatch(stamped, { by: 'bob' }, options)).rejects.toMatchObject({
      code: 'IDEMPOTENCY_CONFLICT',
    });
    expect(await handle.result()).toBe('ada');
    expect((await engine.runs.timeline(handle.id)).find(({ kind }) => kind === 'event-taken')).toMatchObject({
      payload: { by: 'ada', stamp: 1 },
    });
  });

  it('O5: runs are listed page by page, read, cancelled, retried, forked, deleted, exported and imported', async () => {
    let fails = true;
    const { remote, engine } = pair(
      (stepfast) => {
        asking(stepfast);
        stepfast.job('brittle', async ({ step }) =>
          step.run('try', () => {
            if (fails) throw new FatalError('no');
            return 'yes';
          }),
        );
      },
      { engine: { use: [transfer()] } },
    );
    const asked = await remote.start('asking');
    const brittle = await remote.start('brittle');
    await until(remote.runs, brittle.id, 'failed');
    await until(remote.runs, asked.id, 'waiting');
    const first = await remote.runs.list({ limit: 1 });
    expect(first).toEqual(await engine.runs.list({ limit: 1 }));
    expect((await remote.runs.list({ limit: 1 }, first.cursor)).runs.map(({ id }) => id)).toEqual([asked.id]);
    expect((await remote.runs.list({ status: 'failed' })).cursor).toBeUndefined();
    expect(await remote.runs.timeline(brittle.id)).toEqual(await engine.runs.timeline(brittle.id));
    fails = false;
    await brittle.retry();
    expect(await brittle.result()).toBe('yes');
    const fork = await remote.runs.fork(brittle.id, { before: 'try' });
    expect(await fork.result()).toBe('yes');
    const exported = await remote.runs.export(brittle.id, { redact: true });
    expect(exported).toEqual(await engine.runs.export(brittle.id, { redact: true }));
    expect(await remote.runs.import(exported, { id: 'copy' })).toEqual({ id: 'copy', created: true });
    await remote.runs.delete(brittle.id);
    expect(await engine.runs.get(brittle.id)).toBeUndefined();
    await asked.cancel();
    expect(await failureOf(asked.result())).toMatchObject({ code: 'RUN_CANCELLED', runId: asked.id });
    await remote.runs.cancel(fork.id);
    expect(await failureOf(remote.runs.retry(fork.id))).toMatchObject({ code: 'RUN_NOT_FAILED' });
  });

  it('B: what is no name, or no key, is refused with its code', async () => {
    const { remote } = pair();
    const symbol = Symbol('no name') as never;
    expect(await failureOf(remote.start(symbol))).toMatchObject({ code: 'INVALID_NAME' });
    expect(await failureOf(remote.dispatch(symbol))).toMatchObject({ code: 'INVALID_NAME' });
    expect(await failureOf(remote.state.set(symbol, 1))).toMatchObject({ code: expect.any(String) });
  });

  it('O5: shared state is read, written, counted and locked', async () => {
    const { remote, engine } = pair();
    await remote.state.set('k', new Map([['a', 1n]]), { ttl: '1h' });
    expect(await engine.state.get('k')).toEqual(new Map([['a', 1n]]));
    expect(await remote.state.get('k')).toEqual(new Map([['a', 1n]]));
    expect([await remote.state.increment('n'), await remote.state.increment('n', 2)]).toEqual([1, 3]);
    await remote.state.delete('k');
    expect(await remote.state.get('k')).toBeUndefined();
    const lock = await remote.state.lock('door', { ttl: '1m' });
    expect(await engine.state.lock('door', { ttl: '1m' })).toBeUndefined();
    expect(await remote.state.lock('door', { ttl: '1m' })).toBeUndefined();
    await lock!.release();
    expect((await engine.state.lock('door', { ttl: '1m' }))!.token).toBeGreaterThan(lock!.token);
    await lock!.release(); // over already: nothing
    expect(await engine.state.lock('door', { ttl: '1m' })).toBeUndefined();
  });

  it('V1: snapshots are pushed, the first at once, until the subscription is undone', async () => {
    const { remote, errors } = pair(asking);
    const handle = await remote.start('asking');
    const seen: RunSnapshot[] = [];
    const other: string[] = [];
    const undo = handle.subscribe((snapshot) => void seen.push(snapshot));
    remote.runs.subscribe(handle.id, ({ status }) => {
      other.push(status);
      if (status === 'waiting') throw new Error('a listener that throws');
    });
    await eventually(() => seen.at(-1)?.status === 'waiting' && other.at(-1) === 'waiting');
    expect(seen.at(-1)).toEqual(await remote.runs.get(handle.id));
    expect(seen.at(-1)!.waitingFor).toEqual([{ events: ['answer'], correlationKey: 'k' }]);
    undo();
    const before = seen.length;
    await handle.cancel();
    await eventually(() => other.at(-1) === 'cancelled');
    expect(seen.length).toBe(before);
    expect(errors.map(String)).toContain('Error: a listener that throws');
  });

  it('O5: what is a function can not cross, and says what to do', async () => {
    const { remote } = pair(echo, { engine: { use: [transfer()] } });
    expect(() => remote.job('here', () => 1)).toThrow(/Define and register jobs where the engine is.*NOT_OVER_PORT/);
    expect(() => remote.register(greet)).toThrow(/NOT_OVER_PORT/);
    const redacted = await failureOf(remote.runs.export('r', { redact: (value) => value }));
    expect(redacted).toMatchObject({ code: 'NOT_OVER_PORT' });
    expect(await failureOf(remote.start('echo', { a: { onClick: () => 1 } }))).toMatchObject({
      code: 'NOT_SERIALIZABLE',
      path: '$.a.onClick',
    });
  });
});

describe('O5: schedules', () => {
  const scheduling = (clock = simulatedClock()) => {
    const started: unknown[] = [];
    const made = pair(
      (stepfast) => stepfast.job('tick', {}, ({ payload }: HandlerContext<unknown>) => void started.push(payload)),
      {
        engine: { clock, use: [schedules()] },
        connect: { clock, heartbeat: Infinity },
        serve: { clock, heartbeat: Infinity },
      },
    );
    return { ...made, clock, started };
  };

  it('O5: a schedule is declared over the port, tells its next tick, and is stopped', async () => {
    const { remote, clock, started } = scheduling();
    await remote.ready();
    const scheduled = remote.schedule('tidy', { every: '1h' }, 'tick', { folder: 'drafts' });
    await eventually(() => scheduled.next() !== undefined);
    expect(scheduled.next()).toEqual(new Date(clock.now() + 3_600_000));
    await clock.advance('1h');
    await eventually(() => started.length === 1);
    expect(started).toEqual([{ folder: 'drafts' }]);
    await eventually(() => scheduled.next() !== undefined);
    scheduled.stop();
    expect(scheduled.next()).toBeUndefined();
    await remote.state.get('anything'); // what was said before it has been heard
    await clock.advance('3h');
    expect(started.length).toBe(1);
    const again = remote.schedule('tidy', { every: '1h' }, 'tick');
    await eventually(() => again.next() !== undefined);
  });

  it('Q5: two windows that declare the same schedule share it, and it lasts as long as one of them', async () => {
    const { remote, engine, another, clock, started, errors } = scheduling();
    const second = another();
    await remote.ready();
    const [a, b] = [remote, second].map((each) => each.schedule('tidy', { every: '1h' }, 'tick', 1));
    await eventually(() => a!.next() !== undefined && b!.next() !== undefined);
    a!.stop();
    await remote.state.get('anything');
    await clock.advance('1h');
    await eventually(() => started.length === 1);
    await second.close();
    await engine.ready();
    const stopped = () => engine.schedule('tidy', { every: '2h' }, 'tick');
    let declared: { stop(): void } | undefined;
    await eventually(() => {
      try {
        declared = stopped(); // refused as long as the name is in use
      } catch {}
      return declared !== undefined;
    });
    declared!.stop();
    await clock.advance('2h');
    expect(errors).toEqual([]);
    expect(started.length).toBe(1);
  });

  it('B: a schedule that is refused is told to onError, and never ticks', async () => {
    const { remote, errors } = scheduling();
    const scheduled = remote.schedule('tidy', { every: 'sometimes' as never }, 'tick');
    await eventually(() => errors.length === 1);
    expect(errors[0]).toMatchObject({ code: 'INVALID_DURATION' });
    expect(scheduled.next()).toBeUndefined();
  });
});

describe('D7: values cross as a store keeps them', () => {
  const cycle: Record<string, unknown> = { name: 'cycle' };
  cycle.self = cycle;
  const shared = { shared: true };
  const nested = (depth: number): unknown => (depth ? [nested(depth - 1)] : 'deep');
  const values: Readonly<Record<string, unknown>> = {
    undefined,
    numbers: [NaN, Infinity, -Infinity, -0, 0.1],
    bigint: 2n ** 70n,
    dates: [new Date(0), new Date(NaN)],
    regexp: /a+/giu,
    url: new URL('https://example.com/?a=1'),
    map: new Map<unknown, unknown>([[{ a: 1 }, new Set([1, undefined])]]),
    bytes: [new Uint8Array([1, 2, 3]).buffer, new Float64Array([1.5]), new Uint8Array([1, 2, 3, 4]).subarray(1, 3)],
    error: Object.assign(new RangeError('out', { cause: new Error('why') }), { code: 'E_RANGE', data: { a: 1n } }),
    cycle,
    twice: [shared, shared],
    'own $': { $: ['Date', 'not one'] },
    'own __proto__': JSON.parse('{"__proto__": {"polluted": true}}'),
    'null prototype': Object.assign(Object.create(null), { a: 1 }),
    'as deep as can be': nested(201),
  };

  it.each(Object.entries(values))('D7: %s', async (_, value) => {
    const { remote, engine } = pair(echo);
    const there = await remote.start('echo', value);
    const here = await engine.start('echo', value);
    expect(await there.result()).toStrictEqual(await here.result());
    const [seen, known] = [(await remote.runs.get(there.id))!, (await engine.runs.get(there.id))!];
    expect(seen).toStrictEqual(known);
    expect(await remote.runs.timeline(there.id)).toStrictEqual(await engine.runs.timeline(there.id));
    const { runs } = await remote.runs.list();
    expect(runs.map(({ payload }) => payload)).toStrictEqual([seen.payload, seen.payload]);
  });

  it('D7: what the caller changes after the call is not seen', async () => {
    const { remote } = pair(echo);
    const payload = { n: 1 };
    const starting = remote.start('echo', payload);
    payload.n = 2;
    expect(await (await starting).result()).toEqual({ n: 1 });
  });
});

describe('O5: errors are those of the engine', () => {
  const define = (stepfast: Stepfast) => {
    echo(stepfast);
    stepfast.job('strict', { payload: z.object({ n: z.number() }) }, () => 1);
    stepfast.job('fails', async ({ step }) => {
      await step.run('pay', () => {
        throw Object.assign(new FatalError('no money', { cause: new TypeError('empty') }), { code: 402, data: [1n] });
      });
    });
    stepfast.job('throws', { retry: { maxAttempts: 1 } }, () => {
      throw Object.assign(new SyntaxError('bad'), { code: 'E_BAD' });
    });
    stepfast.job('late', async ({ step }) => step.waitForEvent('never', { timeout: 1, onTimeout: 'fail' }));
  };
  const calls: Readonly<Record<string, (stepfast: Stepfast) => Promise<unknown>>> = {
    'an unknown job': (stepfast) => stepfast.start('nobody'),
    'an empty name': (stepfast) => stepfast.dispatch(''),
    'no name': (stepfast) => stepfast.start(undefined as never),
    'a payload that does not fit': (stepfast) => stepfast.start('strict', { n: 'one' }),
    'a value that is too large': (stepfast) => stepfast.start('echo', { text: 'x'.repeat(2_000_000) }),
    'a class instance': (stepfast) => stepfast.state.set('k', { at: new (class Point {})() }),
    'a bad option': (stepfast) => stepfast.runs.list({ limit: 0 }),
    'a bad duration': (stepfast) => stepfast.start('echo', 1, { delay: '24 parsecs' as never }),
    'a conflict': async (stepfast) => {
      await stepfast.start('echo', 1, { idempotencyKey: 'k' });
      await stepfast.start('echo', 2, { idempotencyKey: 'k' });
    },
    'a run that is not there': (stepfast) => stepfast.runs.timeline('nobody'),
    'state that is no number': async (stepfast) => {
      await stepfast.state.set('text', 'a');
      await stepfast.state.increment('text');
    },
    'a missing plug-in': (stepfast) => stepfast.runs.export('r'),
    'a step that failed': async (stepfast) => (await stepfast.start('fails')).result(),
    'a handler that threw': async (stepfast) => (await stepfast.start('throws')).result(),
    'a wait that timed out': async (stepfast) => (await stepfast.start('late')).result(),
  };
  /** All that can be seen of an error, but for ids, instants and stacks, which differ between two runs. */
  const seen = (error: unknown): unknown => {
    if (!(error instanceof Error)) return error;
    const { runId: _, cause, ...fields } = { ...error, cause: error.cause } as Record<string, unknown>;
    const family = Object.getPrototypeOf(error).constructor.name;
    const message = error.message.replace(/run [\w-]{21}/g, 'run ID').replace(/by 2.*Z/, 'by then');
    return { family, name: error.name, message, ...fields, cause: seen(cause), stack: typeof error.stack };
  };

  it.each(Object.entries(calls))('O5: %s', async (_, call) => {
    const { remote, engine } = pair(define);
    const [there, here] = [await failureOf(call(remote)), await failureOf(call(engine))];
    expect(seen(there)).toEqual(seen(here));
    expect(isStepfastError(there)).toBe(isStepfastError(here));
    expect('runId' in there).toBe('runId' in here);
  });

  it('O5: classes of the family are instances again', async () => {
    const { remote, serving, engine } = pair((stepfast) => stepfast);
    expect(await failureOf(remote.start('nobody'))).toBeInstanceOf(StepfastError);
    // What ends a run is read from the store, at home too, and is matched by its code.
    expect(await failureOf(remote.start('nobody'))).not.toBeInstanceOf(StepError);
    expect(Object.keys(await failureOf(remote.start('nobody')))).toEqual(['code', 'job']);
    serving.close();
    await engine.close();
  });

  it('B: an engine that was closed says so', async () => {
    const { remote, engine } = pair(echo);
    await engine.close();
    expect(await failureOf(remote.start('echo'))).toMatchObject({ code: 'CLOSED' });
  });
});
