import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { FatalError, type Stepfast } from '../src/index.js';
import { crashEverywhere, everyWay } from './crash-everywhere.js';
import type { World } from './harness.js';

// Pins: `step.restart` (spec 2, R2, R8, Q1, J3): a run that begins anew under its id, for loops without end.

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
const kindsOf = async (engine: Stepfast, id = 'r') =>
  (await engine.runs.timeline(id)).map(({ kind }) => kind as string);
const range = (length: number) => Array.from({ length }, (_, index) => index);

everyWay('step.restart', (open) => {
  it('J3: a loop of many rounds keeps the journal of one, at a commit or two a round', async () => {
    const w = open();
    const rounds = 200;
    const define: Define = (stepfast) =>
      stepfast.job<{ round: number }>('loop', async ({ payload, step, run: self }) => {
        const round = await step.run('work', () => payload.round + 1);
        if (round < rounds) return step.restart({ round });
        return { round, generation: self.generation };
      });
    const engine = w.engine(define);
    await engine.start('loop', { round: 0 }, { id: 'r' });
    await engine.runs.get('r');
    await expect.poll(async () => (await run(engine)).status, { timeout: 30_000 }).toBe('completed');
    expect((await run(engine)).result).toEqual({ round: rounds, generation: rounds - 1 });
    expect((await kindsOf(engine)).length).toBeLessThan(6);
    expect(w.commits()).toBeLessThanOrEqual(2 * rounds);
  });

  it('R3: the new generation has the payload it was given, decoded, and so does the snapshot', async () => {
    const w = open();
    const seen: unknown[] = [];
    const define: Define = (stepfast) =>
      stepfast.job<unknown>('anew', async ({ payload, step, run: self }) => {
        seen.push(payload);
        if (self.generation === 0) return step.restart({ at: new Date(5), tags: new Set(['a']), none: undefined });
        await step.waitForEvent('go');
        return payload;
      });
    const before = w.engine(define);
    await before.start('anew', 'first', { id: 'r', tags: ['kept'] });
    await w.clock.idle();
    const wanted = { at: new Date(5), tags: new Set(['a']), none: undefined };
    expect(await run(before)).toMatchObject({ status: 'waiting', payload: wanted, tags: ['kept'], attempts: [] });
    const after = await reload(w, before, define);
    await after.dispatch('go');
    await w.clock.idle();
    expect((await run(after)).result).toEqual(wanted);
    expect(seen.slice(0, 2)).toEqual(['first', wanted]);
    for (const payload of seen.slice(1)) expect(payload).toEqual(wanted);
  });

  it('nothing behind it is reached, neither catch nor finally; what was recorded before is gone', async () => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job<number>('anew', async ({ payload, step }) => {
        const count = await step.run('count', () => w.log.push('count'));
        if (payload === 1) return count;
        try {
          await step.restart(1);
          w.log.push('behind');
        } catch {
          w.log.push('caught');
        } finally {
          w.log.push('finally');
        }
      }),
    );
    await engine.start('anew', 0, { id: 'r' });
    await w.clock.idle();
    expect((await run(engine)).result).toBe(2);
    expect(w.log).toEqual(['count', 'count']);
  });

  it('R2: idempotency keys differ between generations, and stay within one', async () => {
    const w = open();
    const keys: string[] = [];
    const engine = w.engine((stepfast) =>
      stepfast.job<number>('keys', { retry: { initialDelay: '1s' } }, async ({ payload, step }) => {
        await step.run('work', ({ attempt, idempotencyKey }) => {
          keys.push(idempotencyKey);
          if (attempt === 1) throw new Error('once more');
        });
        if (payload < 2) await step.restart(payload + 1);
      }),
    );
    await engine.start('keys', 0, { id: 'r' });
    await w.clock.advance('1m');
    expect((await run(engine)).status).toBe('completed');
    expect(keys.length).toBe(6);
    for (const at of [0, 2, 4]) expect(keys[at]).toBe(keys[at + 1]);
    expect(new Set(keys).size).toBe(3);
  });

  it('R2, E12: nothing of a run that was retried and begins anew has a key that was used before', async () => {
    const w = open();
    const keys: string[] = [];
    let isBroken = true;
    const engine = w.engine((stepfast) => {
      stepfast.job<number>('child', async ({ step, payload, run: self }) =>
        step.run('work', () => {
          if (isBroken) throw new FatalError('not yet');
          return `${payload} of ${self.id}`;
        }),
      );
      stepfast.job<number>('rounds', async ({ step, payload }) => {
        await step.run('charge', ({ idempotencyKey }) => void keys.push(idempotencyKey), { undo: () => undefined });
        const found = await step.call('child', payload);
        w.log.push(String(found));
        if (payload < 2) await step.restart(payload + 1);
      });
    });
    await engine.start('rounds', 0, { id: 'r' });
    await w.clock.advance('1m');
    expect((await run(engine)).status).toBe('failed');
    isBroken = false;
    await engine.runs.retry('r');
    await w.clock.advance('1m');
    expect(await run(engine)).toMatchObject({ status: 'completed' });
    expect(keys.length).toBe(4);
    expect(new Set(keys).size).toBe(4);
    expect(new Set(w.log).size).toBe(3);
    expect([...w.log].sort().map((text) => text[0])).toEqual(['0', '1', '2']);
  });

  it('Q1: an id that is used again, once it was forgotten, gets nothing of what the run before has started and sent', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      stepfast.job('child', ({ step }) => step.run('report', () => w.log.push('report')));
      stepfast.job('daily', { retention: '1h' }, async ({ step }) => {
        await step.dispatch('day');
        return step.call('child');
      });
      stepfast.job('listens', async ({ step }) => {
        for (let day = 0; day < 3; day++) await step.waitForEvent('day');
      });
    });
    const listener = await engine.start('listens');
    for (let day = 1; day <= 3; day++) {
      const handle = await engine.start('daily', undefined, { id: 'daily', idempotencyTtl: '1h' });
      expect(handle.created).toBe(true);
      await w.clock.idle();
      expect(await handle.result()).toBe(day);
      await w.clock.advance('1d');
    }
    expect(await listener.status()).toBe('completed');
  });

  it('Q1: the start is remembered as it was: its key and payload give the same run, another payload none', async () => {
    const w = open();
    const define: Define = (stepfast) => {
      stepfast.job<number>('loop', async ({ payload, step }) => {
        if (payload < 3) return step.restart(payload + 1);
        await step.waitForEvent('go');
        return payload;
      });
    };
    const before = w.engine(define);
    await before.start('loop', 0, { id: 'r', idempotencyKey: 'k' });
    await w.clock.idle();
    const after = await reload(w, before, define);
    expect((await run(after)).payload).toBe(3);
    expect(await after.start('loop', 0, { idempotencyKey: 'k' })).toMatchObject({ id: 'r', created: false });
    expect(await after.start('loop', 0, { id: 'r' })).toMatchObject({ id: 'r', created: false });
    for (const options of [{ idempotencyKey: 'k' }, { id: 'r' }])
      await expect(after.start('loop', 3, options)).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
  });

  it('R8: steps in flight are finished first, retries that wait and open waits are withdrawn', async () => {
    const w = open();
    let finish = (): void => undefined;
    const engine = w.engine((stepfast) =>
      stepfast.job<number>('flight', async ({ payload, step }) => {
        if (payload === 1) {
          await step.waitForEvent('go');
          return w.log.length;
        }
        void step.run('bad', () => {
          w.log.push('bad');
          throw new Error('no');
        });
        void step.run('slow', async () => {
          await new Promise<void>((resolve) => {
            finish = resolve;
          });
          w.log.push('slow');
        });
        void step.waitForEvent('never');
        await step.run('quick', () => w.log.push('quick'));
        await step.restart(1);
      }),
    );
    await engine.start('flight', 0, { id: 'r' });
    await expect.poll(async () => (await run(engine)).attempts.length).toBe(1);
    await expect.poll(() => w.log.length).toBe(2);
    expect(await run(engine)).toMatchObject({ payload: 0, status: 'running' });
    finish();
    await w.clock.idle();
    expect(await run(engine)).toMatchObject({ payload: 1, status: 'waiting', waitingFor: [{ events: ['go'] }] });
    await w.clock.advance('1h');
    await engine.dispatch('go');
    await w.clock.idle();
    expect((await run(engine)).result).toBe(3);
    expect(w.log.sort()).toEqual(['bad', 'quick', 'slow']);
  });

  it('a loop that sleeps goes round with the clock, over reloads', async () => {
    const w = open();
    const define: Define = (stepfast) =>
      stepfast.job<number>('hourly', async ({ payload, step }) => {
        await step.run('work', () => w.log.push(`${payload}`));
        await step.sleep('nap', '1h');
        return step.restart(payload + 1);
      });
    let engine = w.engine(define);
    await engine.start('hourly', 0, { id: 'r' });
    await w.clock.advance('10h');
    expect(await run(engine)).toMatchObject({ status: 'sleeping', payload: 10 });
    engine = await reload(w, engine, define);
    await w.clock.advance('10h');
    expect(await run(engine)).toMatchObject({ status: 'sleeping', payload: 20 });
    expect(w.log).toEqual(range(21).map(String));
    expect((await kindsOf(engine)).length).toBeLessThan(6);
  });

  it('F9: a loop is cancelled like any run, whatever it is at', async () => {
    const w = open();
    const define: Define = (stepfast) => {
      stepfast.job<number>('busy', async ({ payload, step }) => {
        await step.run('work', () => w.log.push('work'));
        return step.restart(payload + 1);
      });
    };
    const engine = w.engine(define);
    const handle = await engine.start('busy', 0, { id: 'r' });
    await expect.poll(() => w.log.length).toBeGreaterThan(5);
    await handle.cancel();
    await w.clock.idle();
    const after = await reload(w, engine, define);
    const done = w.log.length;
    expect((await run(after)).status).toBe('cancelled');
    await w.clock.advance('1h');
    expect([(await run(after)).status, w.log.length]).toEqual(['cancelled', done]);
  });

  it('R5: a payload that can not be stored is a fault of the code: the run is blocked, its journal kept', async () => {
    const w = open();
    const define = (payload: unknown) => (stepfast: Stepfast) => {
      stepfast.job<unknown>('anew', async ({ payload: given, step }) => {
        if (given === 'anew') return 'done';
        await step.run('work', () => w.log.push('work'));
        return step.restart(payload);
      });
    };
    const before = w.engine(define({ onClick: () => 1 }));
    await before.start('anew', 'first', { id: 'r' });
    await w.clock.idle();
    expect(await run(before)).toMatchObject({
      status: 'blocked',
      payload: 'first',
      error: { code: 'NOT_SERIALIZABLE' },
    });
    const after = await reload(w, before, define('anew'));
    expect(await run(after)).toMatchObject({ status: 'completed', result: 'done' });
    expect(w.log).toEqual(['work']);
  });

  it('R1, D8: each round counts once, whichever commit the app dies at', async () => {
    await crashEverywhere(open, {
      define: (stepfast) =>
        stepfast.job<number>('loop', async ({ payload, step }) => {
          await step.run('count', ({ state }) => void state.increment('rounds'));
          return payload < 3 ? step.restart(payload + 1) : payload;
        }),
      async play(engine, w) {
        await engine.start('loop', 1, { id: 'r' });
        await w.clock.idle();
      },
      async check(engine, _, where) {
        expect([(await run(engine)).result, await engine.state.get('rounds')], where).toEqual([3, 3]);
      },
    });
  });
});
