import { expect, it } from 'vitest';
import { onEveryStore, world } from './harness.js';

// Pins: spec D7, D8 and B for `stepfast.state`: values that all runs of a store share.

onEveryStore('shared state', (medium) => {
  it('D8: a value is there for every context of the store, and after a crash', async () => {
    const w = world(medium);
    const before = w.engine();
    await before.state.set('user', { name: 'Ada', at: new Date(0), tags: new Set(['a']) });
    expect(await before.state.get('user')).toEqual({ name: 'Ada', at: new Date(0), tags: new Set(['a']) });
    w.crash(before);
    const after = w.engine();
    expect(await after.state.get('user')).toEqual({ name: 'Ada', at: new Date(0), tags: new Set(['a']) });
    expect(await after.state.get('nobody')).toBeUndefined();
  });

  it('D7: what is read is a copy: changing it changes nothing', async () => {
    const { state } = world(medium).engine();
    const given = { list: [1] };
    await state.set('k', given);
    given.list.push(2);
    const read = (await state.get<{ list: number[] }>('k'))!;
    expect(read).toEqual({ list: [1] });
    read.list.push(3);
    expect(await state.get('k')).toEqual({ list: [1] });
  });

  it('D8: set replaces, delete removes, and deleting nothing is no error', async () => {
    const { state } = world(medium).engine();
    await state.set('k', 1);
    await state.set('k', 'two');
    expect(await state.get('k')).toBe('two');
    await state.delete('k');
    await state.delete('k');
    expect(await state.get('k')).toBeUndefined();
    await state.set('k', undefined);
    expect(await state.get('k')).toBeUndefined();
  });

  it.each([
    ['a ttl', () => ({ ttl: '1h' as const })],
    ['an instant', (now: number) => ({ expiresAt: now + 3_600_000 })],
    ['a date', (now: number) => ({ expiresAt: new Date(now + 3_600_000) })],
  ])('D8: a value with %s is forgotten when it is over', async (_, options) => {
    const w = world(medium);
    const { state } = w.engine();
    await state.set('k', 'here', options(w.clock.now()));
    await w.clock.advance(3_599_999);
    expect(await state.get('k')).toBe('here');
    await w.clock.advance(1);
    expect(await state.get('k')).toBeUndefined();
    expect(await state.increment('k')).toBe(1);
  });

  it('D8: a value that is set again has the new expiry, or none', async () => {
    const w = world(medium);
    const { state } = w.engine();
    await state.set('k', 1, { ttl: '1h' });
    await state.set('k', 2);
    await w.clock.advance('2h');
    expect(await state.get('k')).toBe(2);
  });

  it('D8: increments count from 0, by any number, and return the sum; none is lost when many come at once', async () => {
    const { state } = world(medium).engine();
    expect(await state.increment('n')).toBe(1);
    expect(await state.increment('n', 2.5)).toBe(3.5);
    expect(await state.increment('n', -4)).toBe(-0.5);
    const sums = await Promise.all(Array.from({ length: 50 }, () => state.increment('many')));
    expect(sums.sort((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, index) => index + 1));
    expect(await state.get('many')).toBe(50);
    await state.set('set', 41);
    expect(await state.increment('set')).toBe(42);
  });

  it('D8: an increment keeps the expiry, unless it gives a new one', async () => {
    const w = world(medium);
    const { state } = w.engine();
    await state.increment('n', 1, { ttl: '1h' });
    await w.clock.advance('30m');
    expect(await state.increment('n')).toBe(2);
    await w.clock.advance('29m');
    expect(await state.increment('n', 1, { ttl: '1h' })).toBe(3);
    await w.clock.advance('59m');
    expect(await state.get('n')).toBe(3);
    await w.clock.advance('1m');
    expect(await state.get('n')).toBeUndefined();
  });

  it.each([['text'], [null], [Number.NaN], [1n], [{ n: 1 }]])('D8: %s is not incremented, and stays', async (value) => {
    const { state } = world(medium).engine();
    await state.set('k', value);
    await expect(state.increment('k')).rejects.toMatchObject({ code: 'NOT_A_NUMBER' });
    expect(await state.get('k')).toEqual(value);
  });

  it('D7, D8: -0 is a number that is incremented, alone and inside of a step, told and asked', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('count', ({ step }) =>
        step.run('count', async ({ state }) => {
          void state.increment('told', 2);
          return state.increment('asked', 3);
        }),
      );
    });
    for (const key of ['alone', 'told', 'asked']) await engine.state.set(key, -0);
    expect(await engine.state.get('alone')).toBe(-0);
    expect(await engine.state.increment('alone')).toBe(1);
    expect(await (await engine.start('count')).result()).toBe(3);
    expect(await engine.state.get('told')).toBe(2);
  });

  it('D8: a lock has one holder; when it is released, or its time is over, another takes it with a greater token', async () => {
    const w = world(medium);
    const { state } = w.engine();
    const first = (await state.lock('door', { ttl: '1m' }))!;
    expect(await state.lock('door', { ttl: '1m' })).toBeUndefined();
    expect(await state.lock('window', { ttl: '1m' })).toMatchObject({ token: expect.any(Number) });
    await first.release();
    const second = (await state.lock('door', { ttl: '1m' }))!;
    expect(second.token).toBeGreaterThan(first.token);
    await first.release(); // it is no longer his to give back
    expect(await state.lock('door', { ttl: '1m' })).toBeUndefined();
    await w.clock.advance('1m');
    const third = (await state.lock('door', { ttl: '1m' }))!;
    expect(third.token).toBeGreaterThan(second.token);
  });

  it('D8: a crash of its holder does not lose a lock, nor keep it beyond its time', async () => {
    const w = world(medium);
    const before = w.engine();
    const { token } = (await before.state.lock('door', { ttl: '1m' }))!;
    w.crash(before);
    const { state } = w.engine();
    expect(await state.lock('door', { ttl: '1m' })).toBeUndefined();
    await w.clock.advance('1m');
    expect((await state.lock('door', { ttl: '1m' }))!.token).toBeGreaterThan(token);
  });

  it('D8: of many that want a lock at once, one gets it', async () => {
    const { state } = world(medium).engine();
    const taken = await Promise.all(Array.from({ length: 10 }, () => state.lock('door', { ttl: '1m' })));
    expect(taken.filter((lock) => lock !== undefined)).toHaveLength(1);
  });

  it('D8: a lock may be named like the value that it guards: neither touches the other', async () => {
    const { state } = world(medium).engine();
    await state.set('balance', 100);
    const lock = (await state.lock('balance', { ttl: '1m' }))!;
    expect(await state.get('balance')).toBe(100);
    await state.set('balance', 99);
    await state.delete('balance');
    expect(await state.lock('balance', { ttl: '1m' })).toBeUndefined();
    await lock.release();
    expect(await state.get('balance')).toBeUndefined();
  });

  const words = ['get', 'set', 'delete', 'increment', 'lock'] as const;
  it.each(['', 'stepfast:run:r', 'k'.repeat(257), 42, undefined, null])('B: %s is no key', async (key) => {
    const w = world(medium);
    const { state } = w.engine();
    for (const word of words)
      await expect((state[word] as (key: unknown) => Promise<unknown>)(key)).rejects.toMatchObject({
        code: 'INVALID_KEY',
      });
    expect(w.commits()).toBe(0);
  });

  it('B: bad numbers, durations and options are refused before anything is written', async () => {
    const w = world(medium);
    const { state } = w.engine();
    const refused: readonly (readonly [Promise<unknown>, string])[] = [
      [state.increment('k', Number.NaN), 'INVALID_OPTION'],
      [state.increment('k', Infinity), 'INVALID_OPTION'],
      [state.increment('k', '1' as never), 'INVALID_OPTION'],
      [state.set('k', 1, { ttl: 'soon' as never }), 'INVALID_DURATION'],
      [state.set('k', 1, { expiresAt: 'tomorrow' }), 'INVALID_OPTION'],
      [state.set('k', 1, { ttl: '1h', expiresAt: 0 }), 'INVALID_OPTION'],
      [state.set('k', 1, 5 as never), 'INVALID_OPTION'],
      [state.set('k', () => 1), 'NOT_SERIALIZABLE'],
      [state.set('k', 'x'.repeat(2_000_000)), 'VALUE_TOO_LARGE'],
      [state.lock('k', {} as never), 'INVALID_DURATION'],
      [(state.lock as (key: string) => Promise<unknown>)('k'), 'INVALID_DURATION'],
    ];
    for (const [promise, code] of refused) await expect(promise).rejects.toMatchObject({ code });
    expect(w.commits()).toBe(0);
  });

  it('B: after close() every word is refused with CLOSED', async () => {
    const engine = world(medium).engine();
    await engine.state.set('k', 1);
    await engine.close();
    const { state } = engine;
    const calls = [
      state.get('k'),
      state.set('k', 1),
      state.delete('k'),
      state.increment('k'),
      state.lock('k', { ttl: 1 }),
    ];
    for (const call of calls) await expect(call).rejects.toMatchObject({ code: 'CLOSED' });
  });
});
