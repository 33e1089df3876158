import { expect, it } from 'vitest';
import { memoryStore } from '../adapters/memory/index.js';
import { createStepfast, type HandlerContext, type QueueOptions, type Stepfast } from '../src/index.js';
import { media, onEveryStore, world } from './harness.js';

// Pins: spec Q2 and F4: queues are lanes of a store, with concurrency, rate, debounce and singleton.

/** Functions that stay in flight until the test lets them end. */
function gates() {
  const open = new Map<string, () => void>();
  let most = 0;
  return {
    most: () => most,
    inFlight: () => [...open.keys()],
    pass(name: string) {
      return new Promise<void>((resolve) => {
        open.set(name, resolve);
        most = Math.max(most, open.size);
      });
    },
    let(name: string) {
      open.get(name)!();
      open.delete(name);
    },
  };
}

const until = (fact: () => unknown) => expect.poll(fact, { timeout: 10_000, interval: 5 }).toBe(true);

onEveryStore('queues', (medium) => {
  it('Q2: no more runs of a queue than its concurrency have a function in flight; the next is the oldest', async () => {
    const w = world(medium);
    const gate = gates();
    const engine = w.engine((stepfast) => {
      const define = (name: string, queue: string | QueueOptions) =>
        stepfast.job(name, { queue }, ({ run, step }) => step.run('go', () => gate.pass(run.id)));
      define('a', { name: 'q', concurrency: 2 });
      define('b', 'q'); // shares the lane
      define('elsewhere', 'other');
    });
    for (const [job, id] of [
      ['a', '1'],
      ['b', '2'],
      ['a', '3'],
      ['b', '4'],
      ['elsewhere', 'x'],
    ] as const)
      await engine.start(job, undefined, { id });
    await until(() => gate.inFlight().length === 3);
    expect(gate.inFlight().sort()).toEqual(['1', '2', 'x']);
    expect(await engine.runs.get('3')).toMatchObject({ status: 'queued' });
    gate.let('2');
    await until(() => gate.inFlight().includes('3'));
    expect(gate.inFlight()).not.toContain('4');
    gate.let('1');
    await until(() => gate.inFlight().includes('4'));
    for (const id of gate.inFlight()) gate.let(id);
    await until(async () => (await engine.runs.list({ status: 'completed' })).runs.length === 5);
  });

  it('Q2: however many runs of a full queue are due before it, a run of another queue is not kept waiting', async () => {
    const w = world(medium);
    const gate = gates();
    const writer = w.engine();
    for (let index = 0; index < 70; index++)
      await writer.start('slow', undefined, { id: `s${index}`, queue: 'slow', allowUnregistered: true });
    await writer.start('quick', undefined, { id: 'x', queue: 'quick', allowUnregistered: true });
    await writer.close();
    const engine = w.engine((stepfast) => {
      stepfast.job('slow', { queue: { name: 'slow', concurrency: 1 } }, ({ run, step }) =>
        step.run('go', () => gate.pass(run.id)),
      );
      stepfast.job('quick', { queue: 'quick' }, () => 'done');
    });
    await engine.ready();
    await until(() => gate.inFlight().length === 1);
    await until(async () => (await engine.runs.get('x'))?.status === 'completed');
    expect(gate.inFlight()).toEqual(['s0']);
  });

  it('Q2: a run that waits holds no slot, and claims one again when it goes on', async () => {
    const w = world(medium);
    const gate = gates();
    const engine = w.engine((stepfast) => {
      stepfast.job('waits', { queue: { name: 'q', concurrency: 1 } }, async ({ run, step }) => {
        await step.waitForEvent('go', { correlationKey: run.id });
        await step.run('then', () => gate.pass(run.id));
      });
    });
    for (const id of ['1', '2', '3']) await engine.start('waits', undefined, { id });
    await w.clock.idle();
    for (const id of ['3', '1', '2']) await engine.dispatch('go', undefined, { correlationKey: id });
    for (let run = 1; run <= 3; run++) {
      await until(() => gate.inFlight().length === 1);
      expect(gate.most()).toBe(1);
      gate.let(gate.inFlight()[0]!);
    }
    await until(async () => (await engine.runs.list({ status: 'completed' })).runs.length === 3);
    expect(gate.most()).toBe(1);
  });

  it('F4: retries and sleeps that are overdue after a closed period start oldest first, no more at once than the concurrency', async () => {
    const w = world(medium);
    const gate = gates();
    let fails = true;
    const define = (stepfast: Stepfast) =>
      stepfast.job<number>(
        'flaky',
        { queue: { name: 'q', concurrency: 2 }, retry: { initialDelay: '1h', jitter: false } },
        async ({ payload, run, step }) => {
          await step.sleep('nap', payload);
          await step.run('go', () => {
            if (fails) throw new Error('not yet');
            return gate.pass(run.id);
          });
        },
      );
    const before = w.engine(define);
    for (const [id, nap] of [
      ['late', 3],
      ['early', 1],
      ['mid', 2],
      ['last', 4],
    ] as const)
      await before.start('flaky', nap, { id });
    await w.clock.advance(10);
    expect((await before.runs.list({ status: 'retrying' })).runs).toHaveLength(4);
    await before.close();
    fails = false;
    await w.clock.advance('2 days');
    const after = w.engine(define);
    await after.ready();
    await until(() => gate.inFlight().length === 2);
    expect(gate.inFlight().sort()).toEqual(['early', 'mid']);
    gate.let('early');
    await until(() => gate.inFlight().includes('late'));
    gate.let('mid');
    await until(() => gate.inFlight().includes('last'));
    for (const id of gate.inFlight()) gate.let(id);
    await until(async () => (await after.runs.list({ status: 'completed' })).runs.length === 4);
    expect(gate.most()).toBe(2);
  });

  it('Q2: a rate limit lets so many begin within its time, and the next when there is room again', async () => {
    const w = world(medium);
    const define = (stepfast: Stepfast) =>
      stepfast.job('rated', { queue: { name: 'q', rateLimit: { limit: 2, per: '1m' } } }, ({ run, step }) =>
        step.run('go', () => void w.log.push(run.id)),
      );
    const before = w.engine(define);
    for (const id of ['1', '2', '3', '4', '5', '6']) await before.start('rated', undefined, { id });
    await w.clock.idle();
    expect(w.log).toEqual(['1', '2']);
    await w.clock.advance(59_999);
    expect(w.log).toEqual(['1', '2']);
    await w.clock.advance(1);
    expect(w.log).toEqual(['1', '2', '3', '4']);
    w.crash(before);
    const after = w.engine(define); // what was given out is known to the store
    await after.ready();
    await w.clock.advance('59s');
    expect(w.log).toEqual(['1', '2', '3', '4']);
    await w.clock.advance('1s');
    expect(w.log).toEqual(['1', '2', '3', '4', '5', '6']);
    expect(w.errors).toEqual([]);
  });

  it('Q2: a queue that is used up by its rate leaves the others alone', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      const define = (name: string, queue: QueueOptions) =>
        stepfast.job(name, { queue }, ({ run, step }) => step.run('go', () => void w.log.push(run.id)));
      define('rated', { name: 'q', rateLimit: { limit: 1, per: '1h' } });
      define('free', { name: 'free' });
    });
    for (const id of ['1', '2', '3']) await engine.start('rated', undefined, { id });
    await w.clock.idle();
    for (const id of ['x', 'y']) await engine.start('free', undefined, { id });
    await w.clock.idle();
    expect(w.log).toEqual(['1', 'x', 'y']);
    await w.clock.advance('2h');
    expect(w.log).toEqual(['1', 'x', 'y', '2', '3']);
  });

  it('Q2: each start within the delay of a debounce postpones the one run; the last payload counts', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job<string>('save', { queue: { name: 'q', debounce: { delay: '1m' } } }, ({ payload, step }) =>
        step.run('go', () => {
          w.log.push(payload);
          return payload;
        }),
      );
    });
    const first = await engine.start('save', 'a');
    expect(first.created).toBe(true);
    expect(await first.status()).toBe('scheduled');
    await w.clock.advance('59s');
    expect(await engine.start('save', 'b')).toMatchObject({ id: first.id, created: false });
    await w.clock.advance('59s');
    expect(await engine.start('save', 'c')).toMatchObject({ id: first.id, created: false });
    await w.clock.advance('59s');
    expect(w.log).toEqual([]);
    await w.clock.advance('1s');
    expect(w.log).toEqual(['c']);
    expect(await first.result()).toBe('c');
    expect(await engine.runs.get(first.id)).toMatchObject({ payload: 'c' });
    const kinds = (await engine.runs.timeline(first.id)).map(({ kind }) => kind);
    expect(kinds.slice(0, 3)).toEqual(['started', 'rescheduled', 'rescheduled']);
    const next = await engine.start('save', 'd');
    expect(next.created).toBe(true);
    expect(next.id).not.toBe(first.id);
    await w.clock.advance('1m');
    expect(w.log).toEqual(['c', 'd']);
  });

  it('Q2: a debounce with a key puts off only starts of the same key; the payload is what the schema made of it', async () => {
    const w = world(medium);
    const engine = w.engine();
    engine.job<{ doc: string; text: string }>(
      'save',
      {
        queue: { name: 'q', debounce: { delay: '1m', key: ({ doc }: { doc: string }) => doc } },
      },
      ({ payload, step }) => step.run('go', () => void w.log.push(payload.doc + payload.text)),
    );
    const one = await engine.start('save', { doc: 'x', text: '1' });
    const two = await engine.start('save', { doc: 'y', text: '1' });
    expect(two.id).not.toBe(one.id);
    await w.clock.advance('30s');
    expect((await engine.start('save', { doc: 'x', text: '2' })).id).toBe(one.id);
    await w.clock.advance('30s');
    expect(w.log).toEqual(['y1']);
    await w.clock.advance('30s');
    expect(w.log).toEqual(['y1', 'x2']);
  });

  it('Q2: a run that debounces outlives a crash, and is started by its last payload once', async () => {
    const w = world(medium);
    const define = (stepfast: Stepfast) =>
      stepfast.job<string>('save', { queue: { name: 'q', debounce: { delay: '1m' } } }, ({ payload, step }) =>
        step.run('go', () => void w.log.push(payload)),
      );
    const before = w.engine(define, { replay: 'always' });
    await before.start('save', 'a');
    await before.start('save', 'b');
    w.crash(before);
    const after = w.engine(define, { replay: 'always' });
    await after.start('save', 'c');
    await w.clock.advance('1m');
    expect(w.log).toEqual(['c']);
    expect((await after.runs.list()).runs).toHaveLength(1);
  });

  it('Q2: while a run of a singleton is active, a start gives that run, whatever the payload', async () => {
    const w = world(medium);
    const define = (stepfast: Stepfast) =>
      stepfast.job<number>('sync', { queue: { name: 'q', singleton: true } }, async ({ payload, step }) => {
        await step.waitForEvent('go');
        return payload;
      });
    const before = w.engine(define);
    const first = await before.start('sync', 1);
    const many = await Promise.all([2, 3, 4].map((payload) => before.start('sync', payload)));
    for (const run of many) expect(run).toMatchObject({ id: first.id, created: false });
    await w.clock.idle();
    w.crash(before);
    const after = w.engine(define);
    expect(await after.start('sync', 5, { idempotencyKey: 'k' })).toMatchObject({ id: first.id, created: false });
    await after.dispatch('go');
    await w.clock.idle();
    expect(await after.runs.get(first.id)).toMatchObject({ status: 'completed', result: 1 });
    const next = await after.start('sync', 6);
    expect(next.created).toBe(true);
    await next.cancel();
    expect((await after.start('sync', 7)).created).toBe(true);
  });

  it('Q2, F6: a failed run of a singleton is not retried beside an active one, and is active itself once it is', async () => {
    const w = world(medium);
    let isBad = true;
    const engine = w.engine((stepfast) => {
      const queue = { name: 'q', singleton: { key: (user: unknown) => String(user) } };
      stepfast.job<string>('sync', { queue, retry: { maxAttempts: 1 } }, async ({ step }) => {
        await step.run('try', () => (isBad ? Promise.reject(new Error('no')) : 'done'));
        await step.waitForEvent('go');
      });
    });
    const failed = await engine.start('sync', 'ada');
    await failed.result().catch(() => undefined);
    isBad = false;
    const next = await engine.start('sync', 'ada');
    expect(next.created).toBe(true);
    await w.clock.idle();
    await expect(failed.retry()).rejects.toMatchObject({ code: 'RUN_ACTIVE', runId: failed.id });
    expect((await engine.runs.get(failed.id))!.status).toBe('failed');
    await next.cancel();
    await failed.retry();
    await w.clock.idle();
    expect((await engine.runs.get(failed.id))!.status).toBe('waiting');
    expect(await engine.start('sync', 'ada')).toMatchObject({ id: failed.id, created: false });
    expect((await engine.start('sync', 'bob')).created).toBe(true);
  });

  it('Q2: a singleton with a key has one active run for each key', async () => {
    const w = world(medium);
    const engine = w.engine();
    const sync = engine.job<{ user: string }>(
      'sync',
      { queue: { name: 'q', singleton: { key: ({ user }) => user } } },
      async ({ step }) => void (await step.waitForEvent('go')),
    );
    const ada = await engine.start(sync, { user: 'ada' });
    const bob = await engine.start(sync, { user: 'bob' });
    expect(bob.created).toBe(true);
    expect(await engine.start(sync, { user: 'ada' })).toMatchObject({ id: ada.id, created: false });
    await expect(engine.start(sync, { user: '' })).rejects.toMatchObject({ code: 'INVALID_KEY' });
    expect((await engine.runs.list()).runs).toHaveLength(2);
  });

  it('Q1: an idempotency key is looked up before a singleton: another payload under it is a conflict', async () => {
    const w = world(medium);
    const engine = w.engine();
    const sync = engine.job<number>('sync', { queue: { name: 'q', singleton: true } }, ({ payload }) => payload);
    const first = await engine.start(sync, 1, { idempotencyKey: 'k' });
    expect(await engine.start(sync, 1, { idempotencyKey: 'k' })).toMatchObject({ id: first.id, created: false });
    const other = engine.start(sync, 2, { idempotencyKey: 'k' });
    await expect(other).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
  });

  it('Q1: a start that the run of a singleton has answered gives that run when it is sent again, also once it has ended', async () => {
    const w = world(medium);
    const define = (stepfast: Stepfast) => {
      const queue = { name: 'q', singleton: true } as const;
      stepfast.job<number>('sync', { queue }, async ({ payload, step }) => {
        await step.waitForEvent('go');
        return payload;
      });
      stepfast.job('parent', async ({ step }) => (await step.start('sync', 9)).id);
    };
    const before = w.engine(define);
    const first = await before.start('sync', 1);
    const answered = { id: first.id, created: false };
    for (const options of [{ idempotencyKey: 'k' }, { id: 'named' }])
      expect(await before.start('sync', 2, options)).toMatchObject(answered);
    const parent = await before.start('parent', undefined, { id: 'p' });
    expect(await w.clock.skipUntil(parent.result())).toBe(first.id);
    await before.dispatch('go');
    await w.clock.idle();
    w.crash(before);
    const after = w.engine(define);
    for (const options of [{ idempotencyKey: 'k' }, { id: 'named' }]) {
      expect(await after.start('sync', 2, options)).toMatchObject(answered);
      await expect(after.start('sync', 3, options)).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
    }
    expect((await after.runs.list({ job: 'sync' })).runs).toHaveLength(1);
    await w.clock.advance('31d');
    expect((await after.start('sync', 3, { idempotencyKey: 'k' })).created).toBe(true);
  });

  it('Q1: a start that has put a run off does not do so again when it is sent again', async () => {
    const w = world(medium);
    const engine = w.engine();
    const seen: number[] = [];
    const save = engine.job<number>('save', { queue: { name: 'q', debounce: { delay: '1m' } } }, ({ payload, step }) =>
      step.run('save', () => void seen.push(payload)),
    );
    const first = await engine.start(save, 1, { idempotencyKey: 'one' });
    await w.clock.advance('30s');
    expect(await engine.start(save, 2, { idempotencyKey: 'two' })).toMatchObject({ id: first.id, created: false });
    await w.clock.advance('40s');
    expect(seen).toEqual([]);
    expect(await engine.start(save, 2, { idempotencyKey: 'two' })).toMatchObject({ id: first.id, created: false });
    await w.clock.advance('20s');
    expect(seen).toEqual([2]);
    expect(await engine.start(save, 2, { idempotencyKey: 'two' })).toMatchObject({ id: first.id, created: false });
    await w.clock.advance('2m');
    expect(seen).toEqual([2]);
  });
});

for (const name of ['memory', 'indexeddb'])
  it(`Q2: two contexts share concurrency, rate and singletons of a store (${name})`, async () => {
    const w = world(media[name]!);
    let inFlight = 0;
    let most = 0;
    const turn = () => new Promise((resolve) => setImmediate(resolve));
    const define = (stepfast: Stepfast) => {
      stepfast.job('slow', { queue: { name: 'q', concurrency: 2 } }, ({ step }) =>
        step.run('go', async () => {
          most = Math.max(most, ++inFlight);
          for (let turns = 0; turns < 60; turns++) await turn();
          inFlight--;
        }),
      );
      stepfast.job('rated', { queue: { name: 'r', rateLimit: { limit: 3, per: '1h' } } }, ({ run, step }) =>
        step.run('go', () => void w.log.push(run.id)),
      );
      stepfast.job('one', { queue: { name: 's', singleton: true } }, ({ step }) => step.waitForEvent('never'));
    };
    const tabs = [w.engine(define), w.engine(define)] as const;
    for (let run = 1; run <= 6; run++) {
      await tabs[run % 2]!.start('slow', undefined, { id: `s${run}` });
      await tabs[run % 2]!.start('rated', undefined, { id: `r${run}` });
    }
    const isDone = async () => {
      await w.clock.advance('3s'); // a context whose queue is full by others looks again in a while
      return (await tabs[0].runs.list({ status: 'completed', job: 'slow' })).runs.length === 6;
    };
    await until(isDone);
    expect(most).toBe(2);
    expect(w.log).toHaveLength(3);
    await w.clock.advance('1h');
    await until(() => w.log.length === 6);
    expect(new Set(w.log).size).toBe(6);
    const ones = await Promise.all([0, 1, 0, 1].map((tab) => tabs[tab]!.start('one')));
    expect(new Set(ones.map(({ id }) => id)).size).toBe(1);
    expect(ones.filter(({ created }) => created)).toHaveLength(1);
  });

for (const name of ['memory', 'indexeddb'])
  it(`Q2: a queue is what a job says of it, also where that job is not registered (${name})`, async () => {
    const w = world(media[name]!);
    let inFlight = 0;
    let most = 0;
    const turn = () => new Promise((resolve) => setImmediate(resolve));
    const work = ({ run, step }: HandlerContext<undefined>) =>
      step.run('go', async () => {
        most = Math.max(most, ++inFlight);
        for (let turns = 0; turns < 60; turns++) await turn();
        inFlight--;
        w.log.push(run.id);
      });
    const queue = { name: 'q', concurrency: 2, rateLimit: { limit: 3, per: '1h' } } as const;
    const knows = w.engine((stepfast) => void stepfast.job('knows', { queue }, work));
    await knows.ready();
    await w.clock.idle();
    w.crash(knows); // what it has said holds on
    const ours = w.engine((stepfast) => void stepfast.job('ours', work));
    const all = Array.from({ length: 10 }, (_, run) => `r${run}`);
    for (const id of all) await ours.start('ours', undefined, { id, queue: 'q' });
    await until(() => w.log.length === 3);
    for (let looks = 0; looks < 5; looks++) await w.clock.advance('3s');
    expect([w.log.length, most]).toEqual([3, 2]);
    const other = w.engine((stepfast) => void stepfast.job('knows', { queue: 'q' }, work)); // says nothing any more
    await other.ready();
    await w.clock.advance('1h');
    await until(() => w.log.length === 10);
    expect([w.log.sort(), most, w.errors]).toEqual([all, 7, []]);
  });

it('Q2: what a queue is costs a commit when it changes, and none when it is as it was', async () => {
  const w = world(media.memory!);
  const define = (concurrency?: number) => (stepfast: Stepfast) =>
    void stepfast.job('job', { queue: { name: 'q', ...(concurrency && { concurrency }) } }, () => 1);
  const costs: number[] = [];
  for (const concurrency of [undefined, 2, 2, 3, undefined, undefined]) {
    const before = w.commits();
    const engine = w.engine(define(concurrency));
    await engine.ready();
    await w.clock.idle();
    costs.push(w.commits() - before);
    await engine.close();
  }
  expect(costs).toEqual([0, 1, 0, 1, 1, 0]);
});

for (const name of ['memory', 'indexeddb'])
  it(`Q2: a slot that another context gives back is taken at once, and not when a timer looks again (${name})`, async () => {
    const w = world(media[name]!);
    const gate = gates();
    const define = (job: string) => (stepfast: Stepfast) =>
      stepfast.job(job, { queue: { name: 'q', concurrency: 1 } }, ({ step }) => step.run('go', () => gate.pass(job)));
    const [theirs, ours] = [w.engine(define('theirs')), w.engine(define('ours'))];
    await theirs.start('theirs');
    await until(() => gate.inFlight().includes('theirs'));
    const run = await ours.start('ours');
    for (let turns = 0; turns < 50; turns++) await new Promise((resolve) => setImmediate(resolve));
    expect(await run.status()).toBe('queued');
    gate.let('theirs');
    await until(() => gate.inFlight().includes('ours')); // nobody moves the clock
    gate.let('ours');
    await run.result();
    expect(gate.most()).toBe(1);
  });

it('Q2: two jobs must agree on what a queue is, and are refused where they do not', () => {
  const engine = () => createStepfast({ store: memoryStore() });
  const refused = (option: string) =>
    expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringContaining(option) });
  const pair = (a: QueueOptions | string, b: QueueOptions | string) => () => {
    const stepfast = engine();
    stepfast.job('a', { queue: a }, () => undefined);
    stepfast.job('b', { queue: b }, () => undefined);
  };
  expect(pair({ name: 'q', concurrency: 2 }, { name: 'q', concurrency: 3 })).toThrow(refused('queue.concurrency'));
  const rate = (limit: number, per: '1m' | 60_000 | '1h') => ({ name: 'q', rateLimit: { limit, per } });
  expect(pair(rate(1, '1m'), rate(2, '1m'))).toThrow(refused('queue.rateLimit'));
  expect(pair(rate(1, '1m'), rate(1, '1h'))).toThrow(refused('queue.rateLimit'));
  expect(pair(rate(1, '1m'), rate(1, 60_000))).not.toThrow();
  expect(pair({ name: 'q', concurrency: 2 }, 'q')).not.toThrow();
  expect(pair({ name: 'q', concurrency: 2 }, { name: 'q', priority: 1 })).not.toThrow();
  expect(pair({ name: 'q', concurrency: 2 }, { name: 'p', concurrency: 3 })).not.toThrow();
  const stepfast = engine();
  const job = stepfast.job('a', { queue: { name: 'q', concurrency: 2 } }, () => undefined);
  stepfast.register({ ...job, options: { queue: { name: 'q', concurrency: 3 } } }, { replace: true });
});

it.each<[option: string, queue: unknown, code: string]>([
  ['queue', 5, 'INVALID_OPTION'],
  ['queue', null, 'INVALID_OPTION'],
  ['queue', '', 'INVALID_NAME'],
  ['queue', {}, 'INVALID_NAME'],
  ['queue.concurrency', { name: 'q', concurrency: 0 }, 'INVALID_OPTION'],
  ['queue.concurrency', { name: 'q', concurrency: 1.5 }, 'INVALID_OPTION'],
  ['queue.priority', { name: 'q', priority: '1' }, 'INVALID_OPTION'],
  ['queue.rateLimit', { name: 'q', rateLimit: 5 }, 'INVALID_OPTION'],
  ['queue.rateLimit.limit', { name: 'q', rateLimit: { limit: 0, per: '1m' } }, 'INVALID_OPTION'],
  ['queue.rateLimit.limit', { name: 'q', rateLimit: { limit: 1_001, per: '1m' } }, 'INVALID_OPTION'],
  ['queue.rateLimit.per', { name: 'q', rateLimit: { limit: 1 } }, 'INVALID_DURATION'],
  ['queue.rateLimit.per', { name: 'q', rateLimit: { limit: 1, per: 0 } }, 'INVALID_DURATION'],
  ['queue.debounce', { name: 'q', debounce: '1m' }, 'INVALID_OPTION'],
  ['queue.debounce', { name: 'q', debounce: { delay: '1m' }, singleton: true }, 'INVALID_OPTION'],
  ['queue.debounce.delay', { name: 'q', debounce: { delay: 0 } }, 'INVALID_DURATION'],
  ['queue.debounce.key', { name: 'q', debounce: { delay: '1m', key: 'doc' } }, 'INVALID_OPTION'],
  ['queue.singleton', { name: 'q', singleton: false }, 'INVALID_OPTION'],
  ['queue.singleton.key', { name: 'q', singleton: {} }, 'INVALID_OPTION'],
])('B: a bad %s of a job is refused: %j', (option, queue, code) => {
  const stepfast = createStepfast({ store: memoryStore() });
  const define = () => stepfast.job('bad', { queue: queue as never }, () => undefined);
  expect(define).toThrow(expect.objectContaining({ code, message: expect.stringContaining(option) }));
  expect(define).toThrow('bad');
});
