import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { FatalError, type HandlerContext, type Stepfast } from '../src/index.js';
import { everyWay } from './crash-everywhere.js';
import type { World } from './harness.js';

// Pins: spec Q4 and R12: when everything has ended, nothing is left behind: no timer, no hold, no listener.

const never = () => new Promise<never>(() => undefined);
const fatal = () => {
  throw new FatalError('no way');
};

/** A clock that knows what was asked of it and not given back. Idle timers (of the sweep) may stay while it is open. */
function counting({ clock }: World) {
  const timers = new Map<object, boolean>();
  let held = 0;
  return {
    busyTimers: () => [...timers.values()].filter((isIdle) => !isIdle).length,
    timers: () => timers.size,
    held: () => held,
    clock: {
      ...clock,
      setTimer(at: number, callback: () => void, isIdle = false) {
        const token = {};
        timers.set(token, isIdle);
        const undo = clock.setTimer(at, () => {
          timers.delete(token);
          callback();
        });
        return () => {
          timers.delete(token);
          undo();
        };
      },
      hold() {
        held++;
        const release = clock.hold!();
        let isHeld = true;
        return () => {
          if (isHeld) held--;
          isHeld = false;
          release();
        };
      },
    },
  };
}

/** Listeners of the page, and of stores. */
let listening = 0;
beforeEach(() => {
  listening = 0;
  vi.stubGlobal('addEventListener', () => void listening++);
  vi.stubGlobal('removeEventListener', () => void listening--);
});
afterEach(() => vi.unstubAllGlobals());

/** Everything that a run can meet, in jobs that end by themselves or are cancelled. */
const define = (stepfast: Stepfast) => {
  const child = stepfast.job('child', {}, async ({ payload, step }: HandlerContext<string>) => {
    if (payload === 'patient') await step.waitForEvent('never', { timeout: '90 days' });
    if (payload === 'busy') await step.run('hang', never, { undo: () => undefined });
    if (payload === 'sleepy') await step.sleep('nap', '90 days');
    if (payload === 'offline') await step.run('call', () => 1, { when: 'online' });
    if (payload === 'retrying') await step.run('call', () => Promise.reject(new Error('no')), { timeout: '30 days' });
    return payload;
  });
  stepfast.job('completes', async ({ step }) => {
    await step.race([step.run('hang', never), step.run('quick', () => 1)]);
    await step.race([step.sleep('nap', '1s'), step.sleep('long', '80 days')]);
    await step.race([step.call(child, 'quick'), step.waitForEvent('never', { timeout: '80 days' })]);
    await step.run('slow', () => 1, { timeout: '80 days' });
    return step.call(child, 'quick');
  });
  const told = { count: 0 };
  const onFailed = () => (++told.count === 1 ? Promise.reject(new Error('not yet')) : undefined);
  stepfast.job('fails', { onFailed }, async ({ step }: HandlerContext<undefined>) => {
    await step.run('a', () => 1, { undo: fatal });
    await step.run('b', () => 1, { undo: () => undefined });
    void step.waitForEvent('never', { timeout: '90 days' });
    await step.run('c', fatal);
  });
  stepfast.job('cancelled', ({ step }) =>
    Promise.all(
      ['patient', 'busy', 'sleepy', 'offline', 'retrying'].map((payload) =>
        step.call(child, payload, { retry: { initialDelay: '1h', maxDelay: '1h' } }),
      ),
    ),
  );
};

everyWay('what is left behind', (open) => {
  it('Q4, R12: once every run has ended, nothing is held, no timer is set, and no listener is left but the engine’s own', async () => {
    vi.spyOn(console, 'warn').mockImplementation(() => undefined);
    vi.stubGlobal('navigator', { onLine: false });
    const w = open();
    const c = counting(w);
    const engine = w.engine(define, { clock: c.clock });
    await engine.ready();
    const own = listening;
    const cancelled = await engine.start('cancelled');
    await expect.poll(async () => (await engine.runs.list({ job: 'child', status: 'running' })).runs.length).toBe(1);
    await expect.poll(async () => (await engine.runs.list({ job: 'child', status: 'retrying' })).runs.length).toBe(1);
    expect(listening).toBeGreaterThan(own); // one run waits for the network
    await cancelled.cancel();
    await w.clock.idle();
    expect(listening).toBe(own);
    await engine.start('fails');
    await engine.start('completes');
    await w.clock.advance('1h');
    const { runs } = await engine.runs.list({ limit: 100 });
    for (const { job, status, undoing } of runs) expect([job, status, undoing]).not.toContain('running');
    expect(runs.filter(({ endedAt, undoing }) => endedAt === undefined || undoing)).toEqual([]);
    expect(runs.map(({ status }) => status).sort()).toEqual([
      ...Array(6).fill('cancelled'),
      ...Array(3).fill('completed'),
      'failed',
    ]);
    expect(c.held()).toBe(0);
    expect(c.busyTimers()).toBe(0);
    expect(listening).toBe(own);
    await engine.close();
    expect([c.held(), c.timers(), listening]).toEqual([0, 0, 0]);
  });

  it('Q4: close() in the middle of everything leaves nothing behind, whatever still hangs', async () => {
    vi.spyOn(console, 'warn').mockImplementation(() => undefined);
    const w = open();
    const c = counting(w);
    let undoes = 0;
    const engine = w.engine(
      (stepfast) => {
        define(stepfast);
        const onFailed = () => never();
        stepfast.job('told', { onFailed }, fatal);
        stepfast.job('undone', async ({ step }) => {
          await step.run('a', () => 1, {
            undo() {
              undoes++;
              return never();
            },
          });
          await step.run('b', fatal);
        });
      },
      { clock: c.clock },
    );
    for (const job of ['cancelled', 'completes', 'fails', 'told', 'undone']) await engine.start(job);
    await expect.poll(() => undoes).toBe(1);
    await expect.poll(() => c.held()).toBeGreaterThan(0);
    await engine.close();
    expect([c.held(), c.timers(), listening]).toEqual([0, 0, 0]);
  });

  it('V1: whoever listened to runs that have ended and stops is forgotten; results that were waited for as well', async () => {
    const w = open();
    const c = counting(w);
    const store = w.store();
    let watching = 0;
    const { watch } = store;
    store.watch = (listener) => {
      watching++;
      const undo = watch.call(store, listener);
      return () => {
        watching--;
        undo();
      };
    };
    const engine = w.engine(
      (stepfast) => {
        const child = stepfast.job('child', ({ step }) => step.waitForEvent('go'));
        stepfast.job('parent', ({ step }) => step.call(child));
      },
      { clock: c.clock, store },
    );
    const run = await engine.start('parent');
    const seen: string[] = [];
    const stop = run.subscribe(({ status }) => void seen.push(status));
    const results = [run.result(), run.result()];
    await w.clock.idle();
    await engine.dispatch('go');
    await Promise.all(results);
    await expect.poll(() => seen.at(-1)).toBe('completed');
    stop();
    await w.clock.idle();
    expect([c.held(), c.busyTimers(), watching]).toEqual([0, 0, 1]);
    await engine.close();
    expect([c.held(), c.timers(), watching]).toEqual([0, 0, 0]);
  });
});
