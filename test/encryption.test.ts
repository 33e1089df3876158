import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Encryption, EncryptionOptions } from '../plugins/encryption/index.js';
import { transfer } from '../plugins/transfer/index.js';
import type { RunSnapshot, Stepfast } from '../src/index.js';
import { keyBytes, keyVault, plugin } from './encryption-kit.js';
import { onboard } from './fixtures/onboarding.js';
import { onEveryStore, type World, world } from './harness.js';

// Pins: engines work on an encrypted store as on any other; keys can be changed while runs wait, and no event is lost
// by it; a key that is dropped takes its runs away and leaves the others; a wrong one changes nothing.

beforeEach(() => void vi.spyOn(console, 'warn').mockImplementation(() => undefined));
afterEach(() => vi.restoreAllMocks());

const code = (code: string) => expect.objectContaining({ code });
const before = { key: keyBytes(1), keyId: 'k1' };
const after = { key: keyBytes(2), keyId: 'k2', previous: { k1: keyBytes(1) } };

const visits = (w: World) => (stepfast: Stepfast) =>
  void stepfast.job<{ user: string }>('visit', async ({ payload, step }) => {
    await step.run('greet', () => void w.log.push(`greet ${payload.user}`));
    const event = await step.waitForEvent<{ page: string }>('page.opened', { correlationKey: payload.user });
    await step.run('count', () => void w.log.push(`${payload.user} opened ${event.payload.page}`));
    return { page: event.payload.page };
  });

/** An engine that drives visits, with this encryption. */
const engineOf = (
  w: World,
  options?: Partial<EncryptionOptions>,
  define: (stepfast: Stepfast) => void = visits(w),
): Stepfast => w.engine(define, { use: [plugin(options)] });

const visit = (stepfast: Stepfast, user: string, options = {}) =>
  stepfast.start('visit', { user }, { tags: [user], ...options });
const open = (stepfast: Stepfast, user: string, page: string) =>
  stepfast.dispatch('page.opened', { page }, { correlationKey: user });
const byId = async (stepfast: Stepfast): Promise<Record<string, RunSnapshot>> =>
  Object.fromEntries((await stepfast.runs.list()).runs.map((run) => [run.id, run]));

onEveryStore('encryption', (medium) => {
  it('the flow of section 0 runs unchanged', async () => {
    const w = world(medium);
    const stepfast = engineOf(w, before, () => undefined);
    await onboard(stepfast, {
      createUser: async (user) => user,
      sendVerificationEmail: async (email) => void w.log.push(email),
      unlockAccount: async (userId) => void w.log.push(userId),
    });
    await w.clock.idle();
    const { runs } = await stepfast.runs.list();
    expect(runs).toMatchObject([{ status: 'completed', payload: { userId: '42' }, result: { onboarded: true } }]);
    expect(w.log).toEqual(['ada@example.com', '42']);
    expect(w.errors).toEqual([]);
  });

  it('R1: a run goes on after a crash, and no recorded step runs again', async () => {
    const w = world(medium);
    const first = engineOf(w);
    const { id } = await visit(first, 'ada');
    await w.clock.idle();
    w.crash(first);
    const second = engineOf(w);
    expect((await open(second, 'ada', 'home')).resumed).toEqual([id]);
    await w.clock.idle();
    expect(await second.runs.get(id)).toMatchObject({ status: 'completed', result: { page: 'home' }, tags: ['ada'] });
    expect(w.log).toEqual(['greet ada', 'ada opened home']);
  });

  it('R3: the same is seen live and on replay', async () => {
    const w = world(medium);
    const stepfast = w.engine(visits(w), { use: [plugin()], replay: 'always' });
    const { id } = await visit(stepfast, 'ada');
    await w.clock.idle();
    expect((await stepfast.runs.get(id))?.waitingFor).toEqual([{ events: ['page.opened'], correlationKey: 'ada' }]);
    await open(stepfast, 'ada', 'home');
    await w.clock.idle();
    expect(w.log).toEqual(['greet ada', 'ada opened home']);
  });

  it('R11: encryption adds no commit to a run', async () => {
    const counts: number[] = [];
    for (const use of [[], [plugin()]]) {
      const w = world(medium);
      const stepfast = w.engine(visits(w), { use });
      await stepfast.ready();
      const atStart = w.commits();
      await visit(stepfast, 'ada');
      await w.clock.idle();
      await open(stepfast, 'ada', 'home');
      await w.clock.idle();
      counts.push(w.commits() - atStart);
    }
    expect(counts[1]).toBe(counts[0]);
  });

  it('E1: a key that is changed while a run waits loses no event', async () => {
    const w = world(medium);
    const first = engineOf(w, before);
    const { id } = await visit(first, 'ada');
    await w.clock.idle();
    await first.close();
    const second = engineOf(w, after);
    expect((await open(second, 'ada', 'home')).resumed).toEqual([id]);
    await w.clock.idle();
    expect(await second.runs.get(id)).toMatchObject({ status: 'completed', payload: { user: 'ada' } });
    expect(w.log).toEqual(['greet ada', 'ada opened home']);
    expect(w.errors).toEqual([]);
  });

  it('E2: an event that was dispatched before the key was changed is taken after it', async () => {
    const w = world(medium);
    const slow = (stepfast: Stepfast) =>
      void stepfast.job<{ user: string }>('visit', async ({ payload, step }) => {
        await step.sleep('nap', '1h');
        return (await step.waitForEvent('page.opened', { correlationKey: payload.user })).payload;
      });
    const first = engineOf(w, before, slow);
    const { id } = await visit(first, 'ada');
    await open(first, 'ada', 'early');
    await w.clock.idle();
    await first.close();
    const second = engineOf(w, after, slow);
    await second.ready();
    await w.clock.advance('2h');
    expect(await second.runs.get(id)).toMatchObject({ status: 'completed', result: { page: 'early' } });
  });

  it('Q1, E8: starts and dispatches are recognised after the key was changed', async () => {
    const w = world(medium);
    const first = engineOf(w, before);
    const once = { idempotencyKey: 'once' };
    const { id } = await visit(first, 'ada', once);
    const click = () => ['page.opened', { page: 'home' }, { correlationKey: 'ada', ...once }] as const;
    const receipt = await first.dispatch(...click());
    await w.clock.idle();
    await first.close();
    const second = engineOf(w, after);
    expect(await visit(second, 'ada', once)).toMatchObject({ id, created: false });
    expect(await second.dispatch(...click())).toMatchObject({ id: receipt.id, deduplicated: true });
    await expect(visit(second, 'bob', once)).rejects.toEqual(code('IDEMPOTENCY_CONFLICT'));
    await second.runs.get(id);
    expect((await second.runs.list({ tag: 'ada' })).runs.map((run) => run.id)).toEqual([id]);
    expect((await second.runs.list({ tag: 'bob' })).runs).toEqual([]);
  });

  it('after a change of keys new entries are sealed with the new one', async () => {
    const w = world(medium);
    const first = engineOf(w, before);
    const { id } = await visit(first, 'ada');
    await w.clock.idle();
    await first.close();
    const second = engineOf(w, after);
    await open(second, 'ada', 'home');
    await w.clock.idle();
    await second.close();
    const raw = w.store();
    await raw.open({ owner: 'raw', now: w.clock.now(), leaseMs: 1_000, mode: 'use', onError: () => undefined });
    const keyIds = (await raw.load(id))!.journal.map((entry) => {
      const { sealed } = entry as unknown as { readonly sealed: string };
      return sealed.split('.').at(-1);
    });
    await raw.close();
    expect([...new Set(keyIds)]).toEqual(['k1', 'k2']);
    expect(keyIds).toEqual([...keyIds].sort());
  });

  it('a dropped key takes its runs away and leaves the others; given back, they go on', async () => {
    const w = world(medium);
    const vault = keyVault('user:1', 'user:2');
    const stepfast = engineOf(w, vault.options);
    const [{ id: one }, { id: two }] = [await visit(stepfast, 'user:1'), await visit(stepfast, 'user:2')];
    const { id: nobodys } = await visit(stepfast, 'guest');
    await w.clock.idle();
    await stepfast.close();

    vault.keys.delete('user:1');
    const second = engineOf(w, vault.options);
    for (const user of ['user:2', 'guest']) await open(second, user, 'home');
    await expect(open(second, 'user:1', 'home')).rejects.toEqual(code('KEY_MISSING'));
    await w.clock.idle();
    await expect(second.runs.get(one)).rejects.toEqual(expect.objectContaining({ code: 'KEY_MISSING', runId: one }));
    const runs = await byId(second);
    expect(runs[two]).toMatchObject({ status: 'completed', result: { page: 'home' } });
    expect(runs[nobodys]).toMatchObject({ status: 'completed' });
    expect(runs[one]).toMatchObject({ status: 'waiting', job: 'visit', payload: undefined, tags: [], attempts: [] });
    expect(runs[one]?.waitingFor).toEqual([{ events: ['page.opened'] }]);

    vault.keys.set('user:1', keyBytes(100));
    await open(second, 'user:1', 'again');
    await w.clock.idle();
    expect(await second.runs.get(one)).toMatchObject({ status: 'completed', result: { page: 'again' } });
    expect(w.log.filter((line) => line === 'greet user:1')).toHaveLength(1);
  });

  it('once a key is back its runs go on after any dispatch or start, whoever that is for', async () => {
    for (const call of ['dispatch', 'start'] as const) {
      const w = world(medium);
      const vault = keyVault('user:1');
      const define = (stepfast: Stepfast) =>
        void stepfast.job('visit', async ({ step }) => {
          await step.sleep('nap', '1h');
          return 'awake';
        });
      const stepfast = engineOf(w, vault.options, define);
      const guest = { id: 'guest' };
      await visit(stepfast, 'guest', guest);
      const { id } = await visit(stepfast, 'user:1');
      await w.clock.idle();
      vault.keys.clear();
      await w.clock.advance('2h');
      await stepfast.dispatch('for.nobody');
      await w.clock.idle();
      vault.keys.set('user:1', keyBytes(100));
      if (call === 'dispatch') await stepfast.dispatch('for.nobody');
      else expect(await visit(stepfast, 'guest', guest)).toMatchObject({ created: false });
      await w.clock.idle();
      expect(await stepfast.runs.get(id)).toMatchObject({ status: 'completed', result: 'awake' });
    }
  });

  it('a child has the key of its parent, unless it is given one', async () => {
    const w = world(medium);
    const vault = keyVault('user:1', 'user:2');
    const define = (stepfast: Stepfast) => {
      const child = stepfast.job<string>('child', ({ payload }) => payload);
      stepfast.job('visit', async ({ step }) => {
        await step.call(child, 'inherited');
        await step.call(child, 'own', { tags: ['user:2'] });
      });
    };
    const stepfast = engineOf(w, vault.options, define);
    await visit(stepfast, 'user:1');
    await w.clock.idle();
    vault.keys.delete('user:1');
    const { runs } = await stepfast.runs.list({ job: 'child' });
    expect(runs.map(({ payload, result }) => [payload, result])).toEqual([
      ['own', 'own'],
      [undefined, undefined],
    ]);
  });

  it('O1: a run whose key is dropped while it is driven is let go, and nothing of it is lost', async () => {
    const w = world(medium);
    const vault = keyVault('user:1');
    const entered = { quick: 0, long: 0 };
    let finish = () => {};
    const held = new Promise<void>((resolve) => (finish = resolve));
    const aborted: unknown[] = [];
    const define = (stepfast: Stepfast) =>
      void stepfast.job('visit', ({ step }) =>
        Promise.all([
          step.run('quick', async () => {
            if (++entered.quick === 1) await held;
            return 'quick';
          }),
          step.run('long', async ({ signal }) => {
            if (++entered.long > 1) return 'long';
            return new Promise<never>((_, reject) =>
              signal.addEventListener('abort', () => {
                aborted.push(signal.reason);
                reject(signal.reason);
              }),
            );
          }),
        ]),
      );
    const stepfast = engineOf(w, vault.options, define);
    const { id } = await visit(stepfast, 'user:1');
    await vi.waitFor(() => expect(entered).toEqual({ quick: 1, long: 1 }));
    vault.keys.clear();
    finish();
    await vi.waitFor(() => expect(aborted).toEqual([code('LEASE_LOST')]));
    await w.clock.idle();
    expect(w.errors).toEqual([code('KEY_MISSING')]);
    await stepfast.close();
    vault.keys.set('user:1', keyBytes(100));
    const second = engineOf(w, vault.options, define);
    await second.ready();
    await w.clock.idle();
    expect(await second.runs.get(id)).toMatchObject({ status: 'completed', result: ['quick', 'long'] });
  });

  it('R5: a run whose key is gone does not keep the slot that a crash has left it', async () => {
    const w = world(medium);
    const vault = keyVault('user:1');
    let isStuck = true;
    const define = (stepfast: Stepfast) =>
      void stepfast.job<{ user: string }>('visit', { queue: { name: 'q', concurrency: 1 } }, ({ step, payload }) =>
        step.run('work', ({ attempt }) => {
          w.log.push(`${payload.user} ${attempt}`);
          return payload.user === 'user:1' && isStuck ? new Promise<never>(() => undefined) : payload.user;
        }),
      );
    const first = engineOf(w, vault.options, define);
    const { id } = await visit(first, 'user:1');
    await vi.waitFor(() => expect(w.log).toEqual(['user:1 1']));
    w.crash(first);
    vault.keys.clear();
    isStuck = false;
    const second = engineOf(w, vault.options, define);
    const other = await visit(second, 'guest');
    await w.clock.idle();
    expect(await other.status()).toBe('completed');
    vault.keys.set('user:1', keyBytes(100));
    await second.ready();
    await w.clock.idle();
    expect(await second.runs.get(id)).toMatchObject({ status: 'completed', result: 'user:1' });
    expect(w.log).toEqual(['user:1 1', 'guest 1', 'user:1 2']);
  });

  it('B, D3: an engine without the plug-in sees sealed runs as blocked, and can do nothing to them', async () => {
    const w = world(medium);
    let isBad = true;
    const define = (stepfast: Stepfast) => {
      visits(w)(stepfast);
      stepfast.job('bad', { retry: { maxAttempts: 1 } }, ({ step }) =>
        step.run('a', () => {
          if (isBad) throw new Error('no');
          return 'mended';
        }),
      );
    };
    const sealed = engineOf(w, before, define);
    await visit(sealed, 'ada', { id: 'good' });
    await sealed.start('bad', undefined, { id: 'bad' });
    await w.clock.idle();
    expect((await byId(sealed)).bad?.status).toBe('failed');
    await sealed.close();

    const plain = w.engine(define, { use: [transfer()] });
    const refused = code('MISSING_PLUGIN');
    expect(await plain.runs.get('bad')).toMatchObject({
      id: 'bad',
      status: 'blocked',
      error: { code: 'MISSING_PLUGIN' },
    });
    expect(Object.values(await byId(plain)).map(({ status }) => status)).toEqual(['blocked', 'blocked']);
    for (const id of ['good', 'bad']) {
      await expect(plain.runs.retry(id)).rejects.toEqual(refused);
      await expect(plain.runs.cancel(id)).rejects.toEqual(refused);
      await expect(plain.runs.delete(id)).rejects.toEqual(refused);
      await expect(plain.runs.timeline(id)).rejects.toEqual(refused);
      await expect(plain.runs.export(id)).rejects.toEqual(refused);
      await expect(plain.runs.fork(id, { before: 'a' })).rejects.toEqual(refused);
    }
    await expect(plain.start('bad', undefined, { id: 'bad' })).rejects.toEqual(refused);
    // It would go to the store in plain text, and be heard by nobody.
    const forOne = plain.dispatch('page.opened', { page: 'plain' }, { correlationKey: 'ada', runId: 'good' });
    await expect(forOne).rejects.toEqual(code('RUN_NOT_FOUND'));
    await plain.close();

    isBad = false;
    const again = engineOf(w, before, define);
    await again.runs.retry('bad');
    await again.dispatch('page.opened', { page: 'home' }, { correlationKey: 'ada', runId: 'good' });
    await w.clock.idle();
    const { good, bad } = await byId(again);
    expect([good?.result, bad?.result]).toEqual([{ page: 'home' }, 'mended']);
  });

  it('forget removes every run of a key, with the key or without it, and no other', async () => {
    for (const isDropped of [false, true]) {
      const w = world(medium);
      const vault = keyVault('user:1', 'user:2');
      const own: Encryption = plugin(vault.options);
      const stepfast = w.engine(visits(w), { use: [own] });
      for (const user of ['user:1', 'user:1', 'user:2', 'guest']) await visit(stepfast, user);
      await open(stepfast, 'user:1', 'home');
      await w.clock.idle();
      await visit(stepfast, 'user:1');
      await w.clock.idle();
      if (isDropped) vault.keys.delete('user:1');
      expect(await own.forget('user:1')).toBe(3);
      expect(await own.forget('user:1')).toBe(0);
      const { runs } = await stepfast.runs.list();
      expect(runs.map(({ tags, status }) => [tags[0], status])).toEqual([
        ['guest', 'waiting'],
        ['user:2', 'waiting'],
      ]);
      await open(stepfast, 'guest', 'home');
      await w.clock.idle();
      expect(w.log).toContain('guest opened home');
    }
  });

  it('F9: forget stops what this very engine drives: signals abort, results are told', async () => {
    const w = world(medium);
    const vault = keyVault('user:1');
    const own = plugin(vault.options);
    let signal: AbortSignal | undefined;
    const stepfast = w.engine(
      (engine) => {
        engine.job('visit', async ({ step }) => {
          const { payload } = await step.waitForEvent('never');
          return payload;
        });
        engine.job('long', ({ step }) =>
          step.run('work', (context) => {
            signal = context.signal;
            return new Promise(() => undefined);
          }),
        );
      },
      { use: [own] },
    );
    const waiting = await visit(stepfast, 'user:1');
    const long = await stepfast.start('long', undefined, { tags: ['user:1'] });
    const told = Promise.all([waiting, long].map((run) => run.result().catch((error) => error.code)));
    await vi.waitFor(() => expect(signal).toBeDefined());
    await w.clock.idle();
    expect(await own.forget('user:1')).toBe(2);
    expect(signal!.aborted).toBe(true);
    for (const code of await told) expect(code).toMatch(/^RUN_(CANCELLED|NOT_FOUND)$/);
  });

  it('forget removes a run whose steps were to be undone, and undoes nothing', async () => {
    const w = world(medium);
    const vault = keyVault('user:1');
    const own = plugin(vault.options);
    const define = (stepfast: Stepfast) =>
      void stepfast.job('visit', async ({ step }) => {
        await step.run('charge', () => w.log.push('charge'), { undo: () => void w.log.push('refund') });
        await step.waitForEvent('never');
      });
    const stepfast = w.engine(define, { use: [own] });
    await visit(stepfast, 'user:1');
    await w.clock.idle();
    vault.keys.clear();
    expect(await own.forget('user:1')).toBe(1);
    await w.clock.idle();
    expect((await stepfast.runs.list()).runs).toEqual([]);
    expect(w.log).toEqual(['charge']);
  });

  it('D4: a wrong key or index key is refused when the store is opened, and nothing is changed', async () => {
    const w = world(medium);
    const first = engineOf(w, before);
    const { id } = await visit(first, 'ada');
    await w.clock.idle();
    await first.close();
    for (const wrong of [{ key: keyBytes(66) }, { indexKey: keyBytes(66) }]) {
      const engine = engineOf(w, { ...before, ...wrong });
      await expect(engine.ready()).rejects.toEqual(code('KEY_MISSING'));
      await expect(open(engine, 'ada', 'home')).rejects.toEqual(code('KEY_MISSING'));
      await engine.close();
    }
    const right = engineOf(w, before);
    await open(right, 'ada', 'home');
    await w.clock.idle();
    expect(await right.runs.get(id)).toMatchObject({ status: 'completed' });
  });

  it('F6: errors, attempts, the timeline, log lines and progress are seen as they were', async () => {
    const w = world(medium);
    const define = (stepfast: Stepfast) =>
      void stepfast.job('visit', async ({ step, log }) => {
        log.info('on the way', { to: 'nowhere' });
        await step.run('fail', ({ progress }) => {
          progress({ done: 1 });
          throw Object.assign(new Error('out of luck'), { code: 'E_LUCK' });
        });
      });
    const stepfast = w.engine(define, { use: [plugin()], retry: { maxAttempts: 1 } });
    const { id, result } = await visit(stepfast, 'ada');
    await expect(result()).rejects.toMatchObject({ cause: { message: 'out of luck', code: 'E_LUCK' } });
    const run = await stepfast.runs.get(id);
    expect(run).toMatchObject({ status: 'failed', attempts: [{ step: 'fail', error: { message: 'out of luck' } }] });
    expect(await stepfast.runs.timeline(id)).toEqual(
      expect.arrayContaining([expect.objectContaining({ kind: 'logged', message: 'on the way' })]),
    );
    await w.clock.idle();
  });

  it('D8: runs share counters and values', async () => {
    const w = world(medium);
    const define = (stepfast: Stepfast) =>
      void stepfast.job('visit', ({ step }) => step.run('count', ({ state }) => state.increment('visits')));
    const stepfast = engineOf(w, vault().options, define);
    const runs = await Promise.all(['a', 'b', 'c', 'd', 'e'].map((user) => visit(stepfast, user)));
    await w.clock.idle();
    const results = await Promise.all(runs.map(({ result }) => result()));
    expect(results.sort()).toEqual([1, 2, 3, 4, 5]);
    expect(await stepfast.state.increment('visits', 10)).toBe(15);
    await stepfast.state.set('who', new Map([['ada', 1]]));
    expect(await stepfast.state.get('who')).toEqual(new Map([['ada', 1]]));
    await expect(stepfast.state.increment('who')).rejects.toEqual(code('NOT_A_NUMBER'));
    await stepfast.state.set('less', -0);
    expect(await stepfast.state.increment('less', 2)).toBe(2);
    const lock = await stepfast.state.lock('door', { ttl: '1m' });
    expect(await stepfast.state.lock('door', { ttl: '1m' })).toBeUndefined();
    await lock!.release();
    expect((await stepfast.state.lock('door', { ttl: '1m' }))?.token).toBe(2);
  });

  it('Q6: ended runs are swept, also those whose key is gone', async () => {
    const w = world(medium);
    const vault = keyVault('user:1');
    const define = (stepfast: Stepfast) => void stepfast.job('visit', () => 'over');
    const stepfast = engineOf(w, vault.options, define);
    for (const user of ['user:1', 'guest']) await visit(stepfast, user);
    await w.clock.idle();
    vault.keys.clear();
    expect((await stepfast.runs.list()).runs.map(({ status }) => status)).toEqual(['completed', 'completed']);
    await w.clock.advance('8d');
    expect((await stepfast.runs.list()).runs).toEqual([]);
  });

  it('Q6: a parent whose key is gone keeps its children, and does not stop the sweep of others', async () => {
    const w = world(medium);
    const vault = keyVault('user:1');
    const define = (stepfast: Stepfast) => {
      const child = stepfast.job('child', () => 'over');
      stepfast.job('visit', async ({ step, run }) => {
        if (!run.tags.includes('user:1')) return;
        await step.start(child);
        await step.waitForEvent('never');
      });
    };
    const stepfast = engineOf(w, vault.options, define);
    await visit(stepfast, 'guest');
    await visit(stepfast, 'user:1');
    await w.clock.idle();
    vault.keys.clear();
    await w.clock.advance('8d');
    const { runs } = await stepfast.runs.list();
    expect(runs.map(({ job, status }) => [job, status])).toEqual([
      ['child', 'completed'],
      ['visit', 'waiting'],
    ]);
  });
});

const vault = () => keyVault();

describe('encryption beside other contexts', () => {
  it('forget before the plug-in is used says what is missing', async () => {
    await expect(plugin().forget('user:1')).rejects.toEqual(code('INVALID_OPTION'));
  });
});
