import { describe, expect, it, vi } from 'vitest';
import { fileStore } from '../adapters/file/index.js';
import { indexedDBStore } from '../adapters/indexeddb/index.js';
import { memoryStore } from '../adapters/memory/index.js';
import { connectStepfast, serveStepfast } from '../plugins/bridge/index.js';
import { encryption } from '../plugins/encryption/index.js';
import { schedules } from '../plugins/schedules/index.js';
import { transfer } from '../plugins/transfer/index.js';
import { createStepfast, defineJob, FatalError, isStepfastError, type Step, type Stepfast } from '../src/index.js';
import { crashEverywhere, failingStore, simulatedClock, testRun } from '../src/testing/index.js';
import { freshFolder, media, onEveryStore, world } from './harness.js';

// Pins: spec B where somebody errs in a way that types would have caught: misspelt options, values that are no jobs, and
// what is said of it; listeners that fail later; spec Q1 and E8 for payloads that are equal by value.

const asAny = (value: unknown) => value as never;
const codeOf = async (call: () => unknown): Promise<unknown> => {
  try {
    await call();
    return 'nothing was refused';
  } catch (error) {
    return (error as { code?: unknown }).code ?? error;
  }
};

describe('misspelt options', () => {
  const open = () => {
    const w = world(media.memory!);
    const define = (stepfast: Stepfast) => void stepfast.job('job', () => 1);
    const engine = w.engine(define, { use: [transfer(), schedules()] });
    return { ...w, engine };
  };
  const job = defineJob('job', () => 1);
  const keys = { key: new Uint8Array(32), indexKey: new Uint8Array(32) };
  const port = () => asAny({ postMessage: () => undefined, addEventListener: () => undefined });
  const doors: readonly (readonly [what: string, call: (engine: Stepfast) => unknown])[] = [
    ['start', (engine) => engine.start('job', undefined, asAny({ idempotencykey: 'a' }))],
    ['dispatch', (engine) => engine.dispatch('event', 1, asAny({ corelationKey: 'a' }))],
    ['a job', (engine) => engine.job('other', asAny({ retires: {} }), () => 1)],
    ['the queue of a job', (engine) => engine.job('other', { queue: asAny({ name: 'q', concurency: 1 }) }, () => 1)],
    ['the retry of a job', (engine) => engine.job('other', { retry: asAny({ attempts: 3 }) }, () => 1)],
    ['a list', (engine) => engine.runs.list(asAny({ state: 'waiting' }))],
    ['a retry', (engine) => engine.runs.retry('r', asAny({ form: 'step' }))],
    ['register', (engine) => engine.register({ name: 'x', options: {}, handler: () => 1 }, asAny({ replaces: true }))],
    ['an engine', () => createStepfast(asAny({ stroe: 1 }))],
    ['a fork', (engine) => engine.runs.fork('r', asAny({ before: 'a', paylod: 1 }))],
    ['state.set', ({ state }) => state.set('k', 1, asAny({ tll: '1h' }))],
    ['state.increment', ({ state }) => state.increment('k', 1, asAny({ tt: 1 }))],
    ['state.lock', ({ state }) => state.lock('k', asAny({ ttl: '1m', foo: 1 }))],
    ['an export', (engine) => engine.runs.export('r', asAny({ redcat: true }))],
    ['an import', (engine) => engine.runs.import(asAny({}), asAny({ runId: 'r' }))],
    ['schedules()', () => schedules(asAny({ croner: 1 }))],
    ['a schedule', (engine) => engine.schedule('s', asAny({ every: '1h', foo: 1 }), 'job')],
    ['encryption()', () => encryption(asAny({ ...keys, kei: 1 }))],
    ['a memory store', () => memoryStore(asAny({ meduim: 1 }))],
    ['an IndexedDB store', () => indexedDBStore(asAny({ nam: 'a' }))],
    ['a file store', () => fileStore(asAny({ dir: freshFolder(), durablity: 'relaxed' }))],
    ['a bridge', (engine) => serveStepfast(engine, port(), asAny({ heartbeet: '1s' }))],
    ['a connection', () => connectStepfast(port(), asAny({ onlost: 1 }))],
    ['a simulated clock', () => simulatedClock(asAny({ at: 5 }))],
    ['a fault of a store', () => failingStore(memoryStore(), [asAny({ onn: 'commit' })])],
    ['testRun', () => testRun(job, {}, asAny({ stroe: 1 }))],
    ['a scenario', () => testRun(job, asAny({ stepps: {} }))],
    ['crashEverywhere', () => crashEverywhere(job, {}, asAny({ duoble: true }))],
  ];

  it.each(doors)('B: of %s are refused by name, with those that there are', async (_, call) => {
    const { engine, commits } = open();
    await engine.ready();
    const before = commits();
    const said = await Promise.resolve()
      .then(() => call(engine))
      .then(
        () => undefined,
        (error: unknown) => error as Error,
      );
    expect(said).toMatchObject({ code: 'INVALID_OPTION' });
    expect(said?.message).toMatch(/is "\w+"\. Give \w+[,.]/);
    expect(commits()).toBe(before);
  });

  it('B: a fork without options is told which one it needs', async () => {
    const { engine } = open();
    const { id } = await engine.start(engine.job('plain', () => 1));
    await engine.runs.cancel(id);
    await expect(engine.runs.fork(id, asAny(undefined))).rejects.toThrow(/^before is undefined/);
  });

  it.each([
    ['memoryStore', () => memoryStore(asAny(null))],
    ['indexedDBStore', () => indexedDBStore(asAny(null))],
    ['fileStore', () => fileStore(asAny(null))],
    ['simulatedClock', () => simulatedClock(asAny(null))],
    ['simulatedClock of no instant', () => simulatedClock(asAny({ now: 'today' }))],
    ['connectStepfast', () => connectStepfast(port(), asAny(null))],
    ['a fork', ({ runs }: Stepfast) => runs.fork('r', asAny(null))],
    ['state.set', ({ state }: Stepfast) => state.set('k', 1, asAny(null))],
    ['state.lock', ({ state }: Stepfast) => state.lock('k', asAny([]))],
    ['a status', ({ runs }: Stepfast) => runs.list({ status: asAny(null) })],
    ['the plug-ins of an engine', () => createStepfast({ store: memoryStore(), use: asAny(null) })],
  ] as const)('B: %s is refused null, and what is no object', async (_, call) => {
    const { engine, commits } = open();
    await engine.ready();
    const before = commits();
    expect(await codeOf(() => call(engine))).toBe('INVALID_OPTION');
    expect(commits()).toBe(before);
  });

  it('B: of the state fail the step that gives them, at once, and nothing is written', async () => {
    const w = world(media.memory!);
    const engine = w.engine((stepfast) => {
      stepfast.job('job', ({ step }) => step.run('a', ({ state }) => state.set('k', 1, asAny({ tll: '1h' }))));
    });
    await expect((await engine.start('job')).result()).rejects.toMatchObject({ cause: { code: 'INVALID_OPTION' } });
    expect(await engine.state.get('k')).toBeUndefined();
  });

  it('O6: what migrate gives and there is not blocks the run, which goes on when it can', async () => {
    const w = world(media.memory!);
    const define =
      (options: object = {}) =>
      (stepfast: Stepfast) =>
        void stepfast.job('job', options, ({ step }) => step.waitForEvent('go'));
    const old = w.engine(define());
    await old.start('job', undefined, { id: 'r' });
    await w.clock.idle();
    await old.close();
    const engine = w.engine(define({ version: 2, migrate: () => ({ renames: { go: 'gone' } }) }));
    await engine.dispatch('go');
    await w.clock.idle();
    const run = await engine.runs.get('r');
    expect(run).toMatchObject({ status: 'blocked', error: { code: 'MIGRATION_FAILED' } });
    expect(run!.error!.message).toContain('"renames"');
  });

  const words: readonly (readonly [word: string, call: (step: Step) => unknown])[] = [
    ['run', (step) => step.run('a', () => 1, asAny({ timeOut: '1s' }))],
    ['waitForEvent', (step) => step.waitForEvent('a', asAny({ timeOut: '1s' }))],
    ['dispatch', (step) => step.dispatch('a', 1, asAny({ timeToLive: '1s' }))],
    ['call', (step) => step.call('a', 1, asAny({ key: 'k' }))],
    ['start', (step) => step.start('a', 1, asAny({ startAt: 'tomorrow' }))],
    ['waitForEvent of no names', (step) => step.waitForEvent(asAny([10n]))],
    ['waitForEvent with a schema that is none', (step) => step.waitForEvent('a', { schema: asAny(5) })],
  ];
  it.each(words)('R5, B: of step.%s block the run, which is told with job, run and step', async (_, call) => {
    const w = world(media.memory!);
    const engine = w.engine((stepfast) => void stepfast.job('job', ({ step }) => call(step)));
    await engine.start('job', undefined, { id: 'r' });
    await w.clock.advance('1h');
    const { status, error } = (await engine.runs.get('r'))!;
    expect([status, error?.code]).toEqual(['blocked', expect.stringMatching(/^INVALID_/)]);
    expect(error?.message).toMatch(/^Run r of job "job"/);
    expect(w.errors).toMatchObject([{ runId: 'r', job: 'job' }]);
  });
});

describe('what is no job', () => {
  it.each([
    null,
    undefined,
    5,
    {},
    { name: 'a', options: {} },
    { name: '', options: {}, handler: () => 1 },
  ])('B: %j is refused by register', async (job) => {
    const engine = world(media.memory!).engine();
    expect(await codeOf(() => engine.register(asAny(job)))).toMatch(/^INVALID_(OPTION|NAME)$/);
  });
});

describe('listeners that fail later', () => {
  it('B: an asynchronous listener, a hook and onError that reject are told of, and never reach the process', async () => {
    const unhandled = vi.fn();
    process.on('unhandledRejection', unhandled);
    const reported: string[] = [];
    const fails = async (what: string) => {
      throw new Error(what);
    };
    const plugin = { name: 'p', committed: () => fails('hook') as never };
    const w = world(media.memory!);
    const onError = (error: unknown) => {
      reported.push((error as Error).message);
      return fails('onError') as never;
    };
    const engine = w.engine((stepfast) => void stepfast.job('job', () => 1), { onError, use: [plugin] });
    const run = await engine.start('job');
    run.subscribe(() => fails('listener') as never);
    await run.result();
    await vi.waitFor(() => expect(new Set(reported)).toEqual(new Set(['hook', 'listener'])));
    await new Promise((resolve) => setTimeout(resolve, 20));
    process.off('unhandledRejection', unhandled);
    expect(unhandled).not.toHaveBeenCalled();
  });
});

onEveryStore('payloads that are equal by value', (medium) => {
  it('Q1, E8: whether parts of it are one object, and in which order keys stand, makes no difference', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => void stepfast.job('job', () => 1));
    const key = { idempotencyKey: 'k' };
    const one = { street: 'x' };
    const shared = { billing: one, shipping: { at: one } };
    const apart = { shipping: { at: { street: 'x' } }, billing: { street: 'x' } };
    expect((await engine.start('job', shared, key)).created).toBe(true);
    expect((await engine.start('job', apart, key)).created).toBe(false);
    const other = { shipping: { at: { street: 'y' } }, billing: { street: 'x' } };
    expect(await codeOf(() => engine.start('job', other, key))).toBe('IDEMPOTENCY_CONFLICT');
    await engine.dispatch('event', apart, key);
    expect((await engine.dispatch('event', shared, key)).deduplicated).toBe(true);
    expect(await codeOf(() => engine.dispatch('event', other, key))).toBe('IDEMPOTENCY_CONFLICT');
    type Ring = { name: string; next?: Ring };
    const ring = (length: number): Ring => {
      const first: Ring = { name: 'a' };
      let last = first;
      for (let count = 1; count < length; count++) last = last.next = { name: 'a' };
      last.next = first;
      return first;
    };
    await engine.start('job', ring(2), { id: 'ring' });
    expect((await engine.start('job', ring(2), { id: 'ring' })).created).toBe(false);
    expect(await codeOf(() => engine.start('job', ring(3), { id: 'ring' }))).toBe('IDEMPOTENCY_CONFLICT');
  });

  it('D7: a promise is refused as the payload of an event, as it is of a start', async () => {
    const engine = world(medium).engine();
    expect(await codeOf(() => engine.dispatch('event', Promise.resolve(1)))).toBe('NOT_SERIALIZABLE');
  });
});

describe('a start that meets a run which can not be read', () => {
  it('D3: is not told that its payload was another one', async () => {
    const w = world(media.memory!);
    const store = w.store();
    const engine = w.engine((stepfast) => void stepfast.job('job', () => 1), { store });
    await engine.start('job', 'x', { id: 'r', idempotencyKey: 'k' });
    await w.clock.idle();
    store.load = async () => undefined;
    const said = await engine.start('job', 'x', { idempotencyKey: 'k' }).catch((error: unknown) => error);
    expect(said).toMatchObject({ code: 'STORE_CORRUPT', runId: 'r' });
  });
});

onEveryStore('runs as they are listed', (medium) => {
  it('V1, R5: a filter by status gives none of another, as seen from here', async () => {
    const w = world(medium);
    const first = w.engine((stepfast) => void stepfast.job('job', ({ step }) => step.waitForEvent('go')));
    await first.start('job', undefined, { id: 'r' });
    await w.clock.idle();
    await first.close();
    const stranger = w.engine((stepfast) => void stepfast.job('other', () => 1));
    await stranger.dispatch('go');
    await w.clock.idle();
    const ids = async (status: 'waiting' | 'blocked') =>
      (await stranger.runs.list({ status })).runs.map((run) => `${run.id} ${run.status}`);
    expect([await ids('waiting'), await ids('blocked')]).toEqual([[], ['r blocked']]);
  });

  it('B: the error of a snapshot is known by its code', async () => {
    const w = world(medium);
    const engine = w.engine(
      (stepfast) =>
        void stepfast.job('job', ({ step }) =>
          step.run('a', () => {
            throw new FatalError('no way');
          }),
        ),
    );
    const run = await engine.start('job');
    await w.clock.idle();
    const { error } = (await engine.runs.get(run.id))!;
    expect([isStepfastError(error, 'STEP_FAILED'), isStepfastError(error, 'CLOSED')]).toEqual([true, false]);
  });
});
