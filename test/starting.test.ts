import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { Start } from '../src/door/start.js';
import type { Json, PluginHost, Stepfast } from '../src/index.js';
import { fingerprintOf } from '../src/values/fingerprint.js';
import { sameJson } from '../src/values/same.js';
import { media, onEveryStore, world } from './harness.js';

// Pins: spec Q1 and Q2 for one start: how long it is remembered, and what goes first.

const keep = (stepfast: Stepfast) => {
  stepfast.job<unknown>('keep', ({ payload }) => payload);
  stepfast.job<unknown>('other', ({ payload }) => payload);
};

onEveryStore('starting', (medium) => {
  it.each([
    ['idempotency key', { idempotencyKey: 'k' }],
    ['id', { id: 'k' }],
  ])('Q1: a deleted run is recognised by its %s and payload for 30 days, and by nothing else', async (_, options) => {
    const w = world(medium);
    const engine = w.engine(keep);
    const payload = () => ({ user: 1n, at: new Date(0) });
    const first = await engine.start('keep', payload(), options);
    await w.clock.idle();
    await engine.runs.delete(first.id);
    await w.clock.advance(30 * 86_400_000 - 1);
    const again = await engine.start('keep', payload(), options);
    expect(again).toMatchObject({ id: first.id, created: false });
    await expect(again.status()).rejects.toMatchObject({ code: 'RUN_NOT_FOUND', runId: first.id });
    await expect(again.result()).rejects.toMatchObject({ code: 'RUN_NOT_FOUND' });
    const refused = { code: 'IDEMPOTENCY_CONFLICT' };
    await expect(engine.start('keep', { user: 2n, at: new Date(0) }, options)).rejects.toMatchObject(refused);
    if ('id' in options) await expect(engine.start('other', payload(), options)).rejects.toMatchObject(refused);
    else expect((await engine.start('other', payload(), options)).created).toBe(true);
    await w.clock.advance(1);
    expect((await engine.start('keep', 'new', options)).created).toBe(true);
  });

  it('Q1: idempotencyTtl says how long; a run that is kept longer is remembered as long as it is kept', async () => {
    const w = world(medium);
    const engine = w.engine(keep);
    const options = { idempotencyKey: 'k', idempotencyTtl: '1h' } as const;
    const first = await engine.start('keep', 1, options);
    await w.clock.advance('2h');
    expect(await engine.start('keep', 1, options)).toMatchObject({ id: first.id, created: false });
    await engine.runs.delete(first.id);
    const second = await engine.start('keep', 1, options);
    expect(second.created).toBe(true);
    await w.clock.idle();
    await engine.runs.delete(second.id);
    await w.clock.advance('59m');
    expect(await engine.start('keep', 1, options)).toMatchObject({ id: second.id, created: false });
    await w.clock.advance('1m');
    expect((await engine.start('keep', 1, options)).created).toBe(true);
  });

  it('Q1: a start that a store was asked for twice, its answer being lost, has created its run; a later one has not', async () => {
    const w = world(medium);
    const store = w.store();
    const { commit } = store;
    store.commit = async (batch) => {
      if (batch.starts) await commit.call(store, batch); // as a guest does whose owner has died before it answered
      return commit.call(store, batch);
    };
    const engine = w.engine(keep, { store });
    for (const options of [{ id: 'r' }, { idempotencyKey: 'k' }, {}]) {
      const first = await engine.start('keep', 1, options);
      expect(first.created).toBe(true);
      await w.clock.idle();
      if ('id' in options || 'idempotencyKey' in options)
        expect(await engine.start('keep', 1, options)).toMatchObject({ id: first.id, created: false });
      expect((await engine.runs.timeline(first.id))[0]).not.toHaveProperty('nonce');
    }
    await expect(engine.start('keep', 2, { id: 'r' })).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
  });

  it('Q1: a crash does not make a deleted run forgotten', async () => {
    const w = world(medium);
    const before = w.engine(keep);
    const first = await before.start('keep', 1, { idempotencyKey: 'k' });
    await w.clock.idle();
    await before.runs.delete(first.id);
    w.crash(before);
    const after = w.engine(keep);
    expect(await after.start('keep', 1, { idempotencyKey: 'k' })).toMatchObject({ id: first.id, created: false });
  });

  it('O1: a start in the name of a run happens only while that run is owned as it was', async () => {
    const w = world(medium);
    let start: Start | undefined;
    const use = [{ name: 'host', words: (host: PluginHost) => ({ again: (start = host.start) }) }];
    const engine = w.engine(
      (stepfast) => {
        keep(stepfast);
        stepfast.job('parent', ({ step }) => step.waitForEvent('never'));
      },
      { use },
    );
    const { id: parentId } = await engine.start('parent');
    await w.clock.idle();
    const { fence } = (await engine.runs.timeline(parentId)).find(({ kind }) => kind === 'claimed') as never;
    const inner = { parentId, key: 'stepfast:child:1' };
    const of = (fence: number | 'any') => ({ ...inner, run: { runId: parentId, fence, append: [] } });
    const child = await start!('keep', 1, {}, of(fence));
    expect(child.created).toBe(true);
    expect(await start!('keep', 1, {}, of(fence))).toEqual({ runId: child.runId, created: false });
    expect(await engine.runs.get(child.runId)).toMatchObject({ parentId });
    for (const stale of [of((fence as number) - 1), of((fence as number) + 1)])
      await expect(start!('keep', 1, { id: 'late' }, stale)).rejects.toMatchObject({ code: 'LEASE_LOST' });
    await engine.runs.cancel(parentId);
    await expect(start!('keep', 1, { id: 'late' }, of('any'))).rejects.toMatchObject({ code: 'LEASE_LOST' });
    expect(await engine.runs.get('late')).toBeUndefined();
  });

  it('Q2: of runs that wait for a slot, those with a greater priority go first, then those that came first', async () => {
    const w = world(medium);
    const engine = w.engine();
    const given: readonly (readonly [string, number | undefined])[] = [
      ['a0', undefined],
      ['b0', 0],
      ['c9', 9],
      ['d-1', -1],
      ['e9', 9],
      ['f5', 5],
    ];
    for (const [id, priority] of given)
      await engine.start('one', undefined, {
        id,
        allowUnregistered: true,
        queue: 'q',
        ...(priority !== undefined && { priority }),
      });
    engine.job('one', { queue: { name: 'q', concurrency: 1 } }, ({ run, step }) =>
      step.run('go', () => void w.log.push(run.id)),
    );
    await engine.ready();
    await w.clock.idle();
    expect(w.log).toEqual(['c9', 'e9', 'f5', 'a0', 'b0', 'd-1']);
  });

  it('Q2: the priority of a job counts unless the start gives one', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('blocker', { queue: { name: 'q', concurrency: 1 } }, ({ step }) =>
        step.run('go', async () => {
          await engine.start('low', undefined, { id: 'low' });
          await engine.start('high', undefined, { id: 'high' });
          await engine.start('low', undefined, { id: 'raised', priority: 8 });
          await engine.start('high', undefined, { id: 'lowered', priority: 0 });
        }),
      );
      for (const [name, priority] of [
        ['low', undefined],
        ['high', 7],
      ] as const)
        stepfast.job(name, { queue: { name: 'q', ...(priority && { priority }) } }, ({ run, step }) =>
          step.run('go', () => void w.log.push(run.id)),
        );
    });
    await engine.start('blocker');
    await w.clock.idle();
    expect(w.log).toEqual(['raised', 'high', 'low', 'lowered']);
  });

  it.each([
    ['priority', { priority: 1.5 }, 'INVALID_OPTION'],
    ['priority', { priority: Number.NaN }, 'INVALID_OPTION'],
    ['priority', { priority: '1' }, 'INVALID_OPTION'],
    ['idempotencyTtl', { idempotencyKey: 'k', idempotencyTtl: 'soon' }, 'INVALID_DURATION'],
    ['idempotencyTtl', { idempotencyTtl: -1 }, 'INVALID_DURATION'],
    ['idempotencyKey', { idempotencyKey: 'stepfast:child:r' }, 'INVALID_KEY'],
  ])('B: a bad %s starts nothing: %j', async (option, options, code) => {
    const w = world(medium);
    const engine = w.engine(keep);
    const refused = engine.start('keep', 1, options as object);
    await expect(refused).rejects.toMatchObject({ code, message: expect.stringContaining(option) });
    expect(w.commits()).toBe(0);
  });
});

it('Q1: the fingerprint of a payload does not depend on the order of keys, and tells unequal ones apart', () => {
  const seen = new Map<string, Json>();
  const reversed = (value: Json): Json => {
    if (Array.isArray(value)) return value.map(reversed);
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(
      Object.entries(value)
        .reverse()
        .map(([key, each]) => [key, reversed(each)]),
    );
  };
  const json = fc.jsonValue({ noUnicodeString: false } as object) as fc.Arbitrary<Json>;
  fc.assert(
    fc.property(json, (value) => {
      const print = fingerprintOf(value);
      expect(print).toMatch(/^[0-9a-f]{16}$/);
      expect(fingerprintOf(reversed(value))).toBe(print);
      const other = seen.get(print);
      if (other !== undefined)
        expect(sameJson(JSON.parse(JSON.stringify(other)), JSON.parse(JSON.stringify(value)))).toBe(true);
      seen.set(print, value);
    }),
    { numRuns: 2_000 },
  );
  for (const [a, b] of [
    ['1', 1],
    [
      [1, 2],
      [2, 1],
    ],
    [{ a: 1 }, { a: 1, b: null }],
    [null, 'null'],
    [{}, []],
  ] as const)
    expect(fingerprintOf(a)).not.toBe(fingerprintOf(b));
});

it('Q1, E8: blobs of one size and type are told apart by what is in them', async () => {
  const engine = world(media.memory!).engine(keep);
  const file = (text: string) => ({ file: new Blob([text], { type: 'text/plain' }), name: 'f' });
  const again = (text: string) => ({ name: 'f', file: new Blob([text], { type: 'text/plain' }) });
  const first = await engine.start('keep', file('AAAA'), { idempotencyKey: 'k' });
  expect(await engine.start('keep', again('AAAA'), { idempotencyKey: 'k' })).toMatchObject({ id: first.id });
  const other = engine.start('keep', again('BBBB'), { idempotencyKey: 'k' });
  await expect(other).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
  await engine.dispatch('photo', file('AAAA'), { idempotencyKey: 'k' });
  expect(await engine.dispatch('photo', again('AAAA'), { idempotencyKey: 'k' })).toMatchObject({ deduplicated: true });
  const event = engine.dispatch('photo', again('AAAB'), { idempotencyKey: 'k' });
  await expect(event).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
});

it('Q1: one blob that stands in two places is as good as two of the same bytes, and no better', async () => {
  const engine = world(media.memory!).engine(keep);
  const blob = (text: string) => new Blob([text]);
  const one = blob('AAAA');
  const first = await engine.start('keep', { a: one, b: one }, { idempotencyKey: 'k' });
  const again = await engine.start('keep', { a: blob('AAAA'), b: blob('AAAA') }, { idempotencyKey: 'k' });
  expect(again).toMatchObject({ id: first.id, created: false });
  const other = engine.start('keep', { a: blob('AAAA'), b: blob('BBBB') }, { idempotencyKey: 'k' });
  await expect(other).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
});

it.each([
  ['singleton', { singleton: { key: () => nothing.at } }],
  ['debounce', { debounce: { delay: '1s', key: () => nothing.at } }],
] as const)('B: a key of a %s that throws refuses the start with a code', async (kind, unique) => {
  const engine = world(media.memory!).engine((stepfast) => {
    stepfast.job('job', { queue: { name: 'q', ...unique } as never }, () => 1);
  });
  const refusal = { code: 'INVALID_KEY', cause: expect.any(TypeError), message: expect.stringContaining(kind) };
  await expect(engine.start('job')).rejects.toMatchObject(refusal);
  expect((await engine.runs.list()).runs).toEqual([]);
});
const nothing = undefined as unknown as { readonly at: string };
