import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createEngine } from '../src/engine/engine.js';
import type { EngineOptions } from '../src/engine/options.js';
import type { Stepfast, Store } from '../src/index.js';
import { systemPlatform } from '../src/system.js';
import { onEveryStore, type World, world } from './harness.js';

// Pins: spec F8, Q2, V1: a step with `when: 'online'` begins no attempt while there is no network, and goes on with it.

beforeEach(() => void vi.spyOn(console, 'warn').mockImplementation(() => undefined));
afterEach(() => void vi.restoreAllMocks());

type Define = (stepfast: Stepfast) => void;

/** A world with a network that comes and goes. */
function networked(w: World, replay: EngineOptions['replay']) {
  const network = { isOnline: false, wakes: new Set<() => void>() };
  const engines = new Map<Stepfast, Store>();
  /** Another context that sees this network. */
  const engine = (define: Define, store = w.store()) => {
    const platform = {
      ...systemPlatform(w.clock),
      isOnline: () => network.isOnline,
      onWake(callback: () => void) {
        network.wakes.add(callback);
        return () => network.wakes.delete(callback);
      },
    };
    const made = createEngine(platform, { store, clock: w.clock, replay, onError: (error) => w.errors.push(error) });
    engines.set(made, store);
    define(made);
    return made;
  };
  return {
    engine,
    network,
    set(isOnline: boolean) {
      network.isOnline = isOnline;
      for (const wake of [...network.wakes]) wake();
    },
    async reload(before: Stepfast, define: Define) {
      engines.get(before)!.abandon!();
      await before.close().catch(() => undefined);
      const after = engine(define);
      await after.ready();
      await w.clock.idle();
      return after;
    },
  };
}
const run = async (engine: Stepfast, id = 'r') => (await engine.runs.get(id))!;

onEveryStore('when: online', (medium) => {
  for (const replay of ['resume', 'always'] as const)
    describe(replay === 'always' ? 'replayed at every step' : 'live', () => {
      const open = () => {
        const w = world(medium);
        const net = networked(w, replay);
        const close = async (engine: Stepfast) => void (await engine.close());
        return { w, net, close };
      };
      /** One step that needs the network, between two that do not. */
      const define =
        (w: World): Define =>
        (stepfast) => {
          stepfast.job('sync', async ({ step }) => {
            await step.run('before', () => w.log.push('before'));
            await step.run('upload', () => w.log.push('upload'), { when: 'online' });
            await step.run('after', () => w.log.push('after'));
          });
        };

      it('F8, V1: no attempt is begun while offline; the run shows as waiting, and goes on when back', async () => {
        const { w, net, close } = open();
        const engine = net.engine(define(w));
        await engine.start('sync', undefined, { id: 'r' });
        await w.clock.idle();
        await w.clock.advance('1 day');
        expect(w.log).toEqual(['before']);
        expect(await run(engine)).toMatchObject({ status: 'waiting', attempts: [] });
        net.set(true);
        await w.clock.idle();
        expect(w.log).toEqual(['before', 'upload', 'after']);
        expect((await run(engine)).status).toBe('completed');
        expect(net.network.wakes.size).toBe(1); // the engine's own: the run does not listen any more
        await close(engine);
      });

      it('F8: also after reloads while offline, which add nothing to the journal', async () => {
        const { w, net, close } = open();
        let engine = net.engine(define(w));
        await engine.start('sync', undefined, { id: 'r' });
        await w.clock.idle();
        const timeline = await engine.runs.timeline('r');
        for (let reloads = 0; reloads < 3; reloads++) engine = await net.reload(engine, define(w));
        expect((await run(engine)).status).toBe('waiting');
        expect(await engine.runs.timeline('r')).toEqual(timeline);
        net.set(true);
        await w.clock.idle();
        expect(w.log).toEqual(['before', 'upload', 'after']);
        await close(engine);
      });

      it('F8: opened again when the network is back, it goes on without a wake-up', async () => {
        const { w, net, close } = open();
        let engine = net.engine(define(w));
        await engine.start('sync', undefined, { id: 'r' });
        await w.clock.idle();
        net.network.isOnline = true;
        engine = await net.reload(engine, define(w));
        expect((await run(engine)).status).toBe('completed');
        await close(engine);
      });

      it('F7, F8: what needs the network is undone with it: no attempt is begun while offline, however often it is opened', async () => {
        const { w, net, close } = open();
        net.network.isOnline = true;
        const define: Define = (stepfast) => {
          stepfast.job('charge', { maxInterruptions: 1 }, async ({ step }) => {
            await step.run('local', () => 1, { undo: () => void w.log.push('local undone') });
            const undo = () => void w.log.push(`refunded ${net.network.isOnline ? 'online' : 'offline'}`);
            await step.run('charge', () => void w.log.push('charged'), {
              when: 'online',
              undo,
              retry: { maxAttempts: 1 },
            });
            await step.waitForEvent('shipped');
          });
        };
        let engine = net.engine(define);
        await engine.start('charge', undefined, { id: 'r' });
        await w.clock.idle();
        net.set(false);
        await engine.runs.cancel('r');
        await w.clock.advance('1 day');
        const timeline = await engine.runs.timeline('r');
        for (let reloads = 0; reloads < 3; reloads++) engine = await net.reload(engine, define);
        expect(w.log).toEqual(['charged']);
        expect(await run(engine)).toMatchObject({ status: 'cancelled', undoing: true });
        expect(await engine.runs.timeline('r')).toEqual(timeline);
        net.set(true);
        await w.clock.idle();
        expect(w.log).toEqual(['charged', 'refunded online', 'local undone']);
        expect((await run(engine)).undoing).toBeUndefined();
        expect(w.errors).toEqual([]);
        expect(net.network.wakes.size).toBe(1);
        await close(engine);
      });

      it('F8: a network that comes back while the run is being put to wait is not missed', async () => {
        const { w, net, close } = open();
        const store = w.store();
        const { commit } = store;
        store.commit = async (batch) => {
          const outcome = await commit.call(store, batch);
          if (batch.run?.state?.status === 'waiting') net.set(true);
          return outcome;
        };
        const engine = net.engine(define(w), store);
        await engine.start('sync', undefined, { id: 'r' });
        await w.clock.idle();
        expect((await run(engine)).status).toBe('completed');
        await close(engine);
      });

      it('F8: an attempt that fails for want of the network waits for both, its delay and the network', async () => {
        const { w, net, close } = open();
        net.set(true);
        const engine = net.engine((stepfast) =>
          stepfast.job('sync', { retry: { initialDelay: '10s', jitter: false } }, ({ step }) =>
            step.run(
              'upload',
              ({ attempt }) => {
                w.log.push(`${attempt}`);
                if (attempt === 1) {
                  net.set(false);
                  throw new Error('the network is gone');
                }
              },
              { when: 'online' },
            ),
          ),
        );
        await engine.start('sync', undefined, { id: 'r' });
        await w.clock.advance('1m');
        expect(w.log).toEqual(['1']);
        expect((await run(engine)).status).toBe('waiting');
        net.set(true);
        await w.clock.idle();
        expect([w.log, (await run(engine)).status]).toEqual([['1', '2'], 'completed']);
        net.set(true);
        await engine.start('sync', undefined, { id: 'again' });
        await w.clock.idle();
        net.set(true); // back before the delay is over
        await w.clock.idle();
        expect(w.log).toEqual(['1', '2', '1']);
        await w.clock.advance('10s');
        expect(w.log).toEqual(['1', '2', '1', '2']);
        await close(engine);
      });

      it('Q2: a run that waits for the network holds no slot of its queue', async () => {
        const { w, net, close } = open();
        const engine = net.engine((stepfast) => {
          const queue = { name: 'narrow', concurrency: 1 };
          stepfast.job('sync', { queue }, ({ step }) =>
            step.run('upload', () => w.log.push('upload'), { when: 'online' }),
          );
          stepfast.job('local', { queue }, ({ step }) => step.run('work', () => w.log.push('local')));
        });
        for (const id of ['a', 'b']) await engine.start('sync', undefined, { id });
        await engine.start('local', undefined, { id: 'r' });
        await w.clock.idle();
        expect([w.log, (await run(engine)).status]).toEqual([['local'], 'completed']);
        net.set(true);
        await expect.poll(() => w.log).toEqual(['local', 'upload', 'upload']);
        await w.clock.idle();
        expect(w.errors).toEqual([]);
        await close(engine);
      });

      it('F8, Q2: back online, those that waited go one after the other through the slots, at once', async () => {
        const { w, net, close } = open();
        // Those that are refused the slot are let go of when the one that has it has ended.
        const store = w.store();
        const { commit } = store;
        store.commit = async (batch) => {
          if (batch.run?.state?.status === 'queued')
            for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
          return commit.call(store, batch);
        };
        const engine = net.engine((stepfast) => {
          stepfast.job<number>('form', { queue: { name: 'forms', concurrency: 1 } }, ({ payload, step }) =>
            step.run('send', () => void w.log.push(String(payload)), { when: 'online' }),
          );
        }, store);
        for (let n = 0; n < 5; n++) await engine.start('form', n);
        await w.clock.idle();
        expect(w.log).toEqual([]);
        net.set(true);
        await w.clock.idle();
        expect(w.log.sort()).toEqual(['0', '1', '2', '3', '4']);
        await close(engine);
      });

      it('F8: what stands beside it goes on meanwhile: steps, events, and the race that it may lose', async () => {
        const { w, net, close } = open();
        const job: Define = (stepfast) =>
          stepfast.job('beside', async ({ step }) => {
            const upload = step.run('upload', () => 'uploaded', { when: 'online' });
            const local = await step.run('local', () => 'local');
            const first = await step.race([upload, step.waitForEvent<string>('skip')]);
            const told = await step.waitForEvent<string>('go');
            return [local, typeof first === 'string' ? first : first.payload, told.payload];
          });
        let engine = net.engine(job);
        await engine.start('beside', undefined, { id: 'r' });
        await w.clock.idle();
        engine = await net.reload(engine, job);
        await engine.dispatch('skip', 'skipped');
        await w.clock.idle();
        expect(await run(engine)).toMatchObject({ status: 'waiting', waitingFor: [{ events: ['go'] }] });
        net.set(true);
        await w.clock.idle();
        await engine.dispatch('go', 'gone');
        await w.clock.idle();
        expect((await run(engine)).result).toEqual(['local', 'skipped', 'gone']);
        await close(engine);
      });

      it('F9: a run that waits for the network can be cancelled, and does nothing when it is back', async () => {
        const { w, net, close } = open();
        const engine = net.engine(define(w));
        const handle = await engine.start('sync', undefined, { id: 'r' });
        await w.clock.idle();
        await handle.cancel();
        net.set(true);
        await w.clock.idle();
        expect([w.log, (await run(engine)).status]).toEqual([['before'], 'cancelled']);
        await close(engine);
      });

      it('R5: any other when blocks the run', async () => {
        const { w, net, close } = open();
        const engine = net.engine((stepfast) =>
          stepfast.job('bad', ({ step }) => step.run('work', () => 1, { when: 'offline' as 'online' })),
        );
        await engine.start('bad', undefined, { id: 'r' });
        await w.clock.idle();
        expect(await run(engine)).toMatchObject({ status: 'blocked', error: { code: 'INVALID_OPTION' } });
        await close(engine);
      });
    });
});
