import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { defineJob, type HandlerContext, type Stepfast, StepfastError } from '../src/index.js';
import { LIMITS } from '../src/limits.js';
import { everyWay } from './crash-everywhere.js';

// Pins: spec D5, R5, R8, R12 and Q2 for child runs: stores that fail, parents that end early, code that changes.

const { backoffMs } = LIMITS;
beforeAll(() => {
  LIMITS.backoffMs = 20; // real patience with the store
});
afterAll(() => {
  LIMITS.backoffMs = backoffMs;
});
const runsOf = async (stepfast: Stepfast, job: string) => (await stepfast.runs.list({ job })).runs;

everyWay('children in trouble', (open) => {
  it('D5: a store that fails while a child is started costs no attempt, and the child is started once', async () => {
    const w = open();
    const store = w.store();
    const { commit } = store;
    let failures = 0;
    store.commit = async (batch) => {
      if (!batch.starts?.some(({ parentId }) => parentId) || ++failures > 3) return commit.call(store, batch);
      if (failures === 2) await commit.call(store, batch); // it has happened, and the answer is lost
      throw new StepfastError('STORE_UNAVAILABLE', 'The disk is gone for a moment.');
    };
    const define = (stepfast: Stepfast) => {
      const child = stepfast.job('child', ({ step }) => step.run('work', () => w.log.push('work')));
      stepfast.job('parent', { retry: { maxAttempts: 1 } }, ({ step }: HandlerContext<undefined>) => step.call(child));
    };
    const engine = w.engine(define, { store });
    const run = await engine.start('parent');
    expect(await run.result()).toBe(1);
    expect((await engine.runs.get(run.id))!.attempts).toEqual([]);
    expect(await runsOf(engine, 'child')).toHaveLength(1);
    expect(failures).toBeGreaterThanOrEqual(4);
    expect(w.errors.map((error) => (error as StepfastError).code)).toEqual(Array(3).fill('STORE_UNAVAILABLE'));
  });

  it('D5: a store that fails when the end of a child is to be read, or journaled, delays its parent, no more', async () => {
    const w = open();
    const store = w.store();
    const { commit, load } = store;
    let isFailing = false;
    let failures = 0;
    const fail = () => {
      failures++;
      if (failures >= 4) isFailing = false;
      throw new StepfastError('STORE_UNAVAILABLE', 'The disk is gone for a moment.');
    };
    store.commit = async (batch) => (isFailing && batch.run?.runId === 'p' ? fail() : commit.call(store, batch));
    store.load = async (runId) => (isFailing && runId === 'c' ? fail() : load.call(store, runId));
    const define = (stepfast: Stepfast) => {
      const child = stepfast.job('child', ({ step }) => step.waitForEvent('go'));
      stepfast.job('parent', async ({ step }) => {
        const { payload } = await step.call(child, undefined, { id: 'c' });
        return step.run('after', () => w.log.push('after') && payload);
      });
    };
    const engine = w.engine(define, { store });
    const run = await engine.start('parent', undefined, { id: 'p' });
    await w.clock.idle();
    isFailing = true;
    await engine.dispatch('go', 'hello');
    await expect.poll(() => isFailing, { timeout: 10_000 }).toBe(false);
    expect(await run.result()).toBe('hello');
    expect(w.log).toEqual(['after']);
  });

  it('R8: a call that nobody awaits is started, and its end is not waited for', async () => {
    vi.spyOn(console, 'warn').mockImplementation(() => undefined);
    const w = open();
    const engine = w.engine((stepfast) => {
      const child = stepfast.job('child', async ({ step }) => {
        await step.waitForEvent('go');
        throw new Error('later');
      });
      stepfast.job('parent', ({ step }) => {
        void step.call(child);
        return 'done';
      });
    });
    const run = await engine.start('parent');
    await w.clock.idle();
    expect(await engine.runs.get(run.id)).toMatchObject({ status: 'completed', result: 'done', waitingFor: [] });
    expect((await runsOf(engine, 'child'))[0]).toMatchObject({ status: 'waiting', parentId: run.id });
    await engine.dispatch('go');
    await w.clock.advance('1h');
    expect((await runsOf(engine, 'child'))[0]!.status).toBe('failed');
    expect(await run.status()).toBe('completed');
    vi.restoreAllMocks();
  });

  it('R5: what was recorded as a call and is asked for as something else blocks the parent; its child goes on', async () => {
    const w = open();
    const child = defineJob('child', {}, ({ step }: HandlerContext<undefined>) => step.waitForEvent('go'));
    const parent = (handler: (context: HandlerContext<undefined>) => unknown) => (stepfast: Stepfast) => {
      stepfast.register(child);
      stepfast.job('parent', handler);
    };
    const calling = parent(async ({ step }) => (await step.call(child, undefined, { name: 'x' })).payload);
    const before = w.engine(calling);
    await before.start('parent', undefined, { id: 'p' });
    await w.clock.idle();
    await before.close();
    const others = [
      parent(({ step }) => step.start(child, undefined, { name: 'x' })),
      parent(({ step }) => step.run('x', () => w.log.push('x'))),
    ];
    let isSent = false;
    for (const define of others) {
      const other = w.engine(define);
      await other.ready();
      if (!isSent) await other.dispatch('go', 'hello');
      isSent = true;
      await w.clock.idle();
      expect(await other.runs.get('p')).toMatchObject({ status: 'blocked', error: { code: 'REPLAY_MISMATCH' } });
      expect((await runsOf(other, 'child')).map(({ status }) => status)).toEqual(['completed']);
      await other.close();
    }
    const after = w.engine(calling);
    await after.ready();
    await w.clock.idle();
    expect(await after.runs.get('p')).toMatchObject({ status: 'completed', result: 'hello' });
    expect(w.log).toEqual([]);
  });

  it('R5: bad arguments of a call block the run, and start nothing', async () => {
    const w = open();
    const bad = [
      ['', undefined, {}],
      ['child', undefined, { retry: { maxAttempts: 0 } }],
      ['child', undefined, { name: '' }],
      [undefined, undefined, {}],
      ['child', undefined, { allowUnregistered: true }],
      ['child', undefined, { prioriti: 1 }],
      ['elsewhere', undefined, {}],
    ];
    const engine = w.engine((stepfast) => {
      stepfast.job('child', () => void w.log.push('child'));
      stepfast.job<number>('parent', ({ payload, step }) => step.call(...(bad[payload] as [string])));
    });
    for (const index of bad.keys()) {
      const run = await engine.start('parent', index);
      await w.clock.idle();
      expect(await run.status(), `arguments ${index}`).toBe('blocked');
      const { message } = (await engine.runs.get(run.id))!.error!;
      if (index === 4 || index === 5) expect(message).toMatch(/Give name, id, .*, tags, retry\. \[/);
      if (index === 6) expect(message).toMatch(/Register it, or load this run where it is\. \[UNKNOWN_JOB\]/);
    }
    expect(w.log).toEqual([]);
  });

  it('Q2: a singleton child is shared by those who call it while it is active, whatever their payloads', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const queue = { name: 'one', singleton: true } as const;
      const child = stepfast.job('child', { queue }, async ({ payload, step }: HandlerContext<string>) => {
        await step.waitForEvent('go');
        return payload;
      });
      stepfast.job<string>('parent', ({ payload, step }) => step.call(child, payload));
    });
    const runs = [await engine.start('parent', 'a'), await engine.start('parent', 'b')];
    await w.clock.idle();
    expect(await runsOf(engine, 'child')).toHaveLength(1);
    await engine.dispatch('go');
    await w.clock.idle();
    expect(await runs[0]!.result()).toBe(await runs[1]!.result());
  });

  it('Q2: a debounced child that is moved by another call is awaited by both', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const queue = { name: 'calm', debounce: { delay: '10s' } } as const;
      const child = stepfast.job('child', { queue }, ({ payload }: HandlerContext<string>) => payload);
      stepfast.job<string>('parent', ({ payload, step }) => step.call(child, payload));
    });
    const first = await engine.start('parent', 'a');
    await w.clock.advance('5s');
    const second = await engine.start('parent', 'b');
    await w.clock.advance('9s');
    expect(await first.status()).toBe('waiting');
    await w.clock.advance('1s');
    for (const run of [first, second]) expect(await run.result()).toBe('b');
    expect(await runsOf(engine, 'child')).toHaveLength(1);
  });

  it('E12: a restarted parent calls anew: the children of each round are its own', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const child = stepfast.job('child', {}, ({ payload, step }: HandlerContext<number>) =>
        step.run('work', () => w.log.push(String(payload))),
      );
      stepfast.job<number>('parent', async ({ payload, step }) => {
        const number = await step.call(child, 7);
        return payload < 3 ? step.restart(payload + 1) : number;
      });
    });
    const run = await engine.start('parent', 1);
    await w.clock.idle();
    expect(await run.result()).toBe(3);
    expect(await runsOf(engine, 'child')).toHaveLength(3);
  });
});
