import { describe, expect, it } from 'vitest';
import { memoryStore } from '../adapters/memory/index.js';
import { createState, type State, stateRefusal } from '../src/door/state.js';
import type { Platform } from '../src/platform.js';
import type { StateChange } from '../src/store/batch.js';
import { simulatedClock } from '../src/testing/clock.js';
import { quoted } from '../src/values/check.js';
import { createCodec } from '../src/values/codec.js';

// Pins: the words of the shared state, alone, over a store in memory: what they refuse, what they hand in, and locks as their
// holders see them (spec D8).

const now = 1_000;
const given = (value: unknown) => value as never;
const saying = (code: string, said: string) =>
  expect.objectContaining({ code, message: expect.stringContaining(said) });

/** What is shared, and the words that somebody has for it. */
function shared() {
  const clock = simulatedClock({ now });
  const store = memoryStore();
  const changes: StateChange[][] = [];
  const fails: Error[] = [];
  let count = 0;
  let lost = 0;
  const platform = given({ clock, newId: () => `id${++count}` }) as Platform;
  const words = (more: { readonly holder?: string; check?(word: keyof State, key: string): void } = {}): State =>
    createState({
      ...{ codec: createCodec(), platform, losses: () => lost, read: (key) => store.state(key) },
      async commit(state) {
        changes.push([...state]);
        const failure = fails.shift();
        if (failure) throw failure;
        const outcome = await store.commit({ now: clock.now(), state });
        if (outcome.kind === 'refused') throw stateRefusal(outcome, state);
        return outcome.kind === 'committed' ? outcome.state : [];
      },
      ...more,
    });
  return { clock, store, changes, fails, words, lose: () => void lost++ };
}

describe('a value', () => {
  it('is what was set last, until it is deleted', async () => {
    const { words, changes } = shared();
    const state = words();
    expect(await state.get('k')).toBeUndefined();
    await state.set('k', { at: new Date(5) });
    expect(await state.get('k')).toEqual({ at: new Date(5) });
    await state.delete('k');
    expect(await state.get('k')).toBeUndefined();
    expect(changes).toStrictEqual([
      [{ kind: 'set', key: 'k', value: { at: { $: ['Date', '1970-01-01T00:00:00.005Z'] } } }],
      [{ kind: 'delete', key: 'k' }],
    ]);
    await expect(state.set('k', () => 1)).rejects.toEqual(
      saying('NOT_SERIALIZABLE', 'Can not store the value of "k": $ is a function'),
    );
  });

  it('is forgotten at its instant, and not before', async () => {
    const { words, clock, changes } = shared();
    const state = words();
    await state.set('a', 1, { ttl: '1s' });
    await state.set('b', 2, { expiresAt: now + 2_000 });
    await state.increment('c', 3, { ttl: 500 });
    expect(changes.flat().map((change) => 'expiresAt' in change && change.expiresAt)).toEqual([2_000, 3_000, 1_500]);
    const read = () => Promise.all(['a', 'b', 'c'].map((key) => state.get(key)));
    for (const [at, found] of [
      [1_499, [1, 2, 3]],
      [1_500, [1, 2, undefined]],
      [1_999, [1, 2, undefined]],
      [2_000, [undefined, 2, undefined]],
      [3_000, [undefined, undefined, undefined]],
    ] as const) {
      clock.jump(at);
      expect(await read()).toEqual(found);
    }
  });

  it('counts from nothing, by one or by what is said, and keeps the instant that it has', async () => {
    const { words, changes, clock } = shared();
    const state = words();
    expect([await state.increment('k'), await state.increment('k', 4), await state.increment('k', -0.5)]).toEqual([
      ...[1, 5, 4.5],
    ]);
    await state.set('l', 1, { ttl: 5 });
    expect(await state.increment('l')).toBe(2);
    clock.jump(now + 5);
    expect(await state.increment('l')).toBe(1);
    expect(changes[0]).toStrictEqual([{ kind: 'increment', key: 'k', by: 1 }]);
    await state.set('text', 'x');
    await expect(state.increment('text')).rejects.toEqual(
      saying(
        'NOT_A_NUMBER',
        'The shared value "text" is not a number. Set it to one before it is incremented. Nothing',
      ),
    );
  });
});

describe('what is refused', () => {
  const calls: Record<keyof State, (state: State, key: string) => Promise<unknown>> = {
    get: (state, key) => state.get(key),
    set: (state, key) => state.set(key, 1),
    delete: (state, key) => state.delete(key),
    increment: (state, key) => state.increment(key),
    lock: (state, key) => state.lock(key, { ttl: 5 }),
  };

  it.each(Object.entries(calls))('%s: of keys, those that are none, or ours', async (_, call) => {
    const { words, changes } = shared();
    for (const [key, shown] of [
      ['', '""'],
      [5, '5'],
      ['x'.repeat(257), '"xxx'],
      ['stepfast:a', '"stepfast:a". Give one that does not start with "stepfast:"'],
    ] as const)
      await expect(call(words(), given(key))).rejects.toEqual(saying('INVALID_KEY', `The key is ${shown}`));
    expect(changes).toEqual([]);
    await expect(call(words(), 'my stepfast:')).resolves.not.toBe(null);
  });

  it.each(
    Object.entries(calls),
  )('%s: wherever its place forbids it, before anything is asked of the store', async (word, call) => {
    const { words, changes } = shared();
    const seen: unknown[] = [];
    const check = (...what: unknown[]) => {
      seen.push(what);
      throw new Error('not here');
    };
    await expect(call(words({ check }), 'k')).rejects.toThrow('not here');
    expect([seen, changes]).toEqual([[[word, 'k']], []]);
  });

  it('of options, those that there are not, or not together', async () => {
    const { words, changes } = shared();
    const state = words();
    for (const [options, code, said] of [
      [{ tll: 1 }, 'INVALID_OPTION', 'An option in the options is "tll". Give ttl, expiresAt'],
      [{ ttl: 1, expiresAt: 5 }, 'INVALID_OPTION', 'ttl beside expiresAt is 1. Give one of ttl and expiresAt'],
      [{ ttl: 'long' }, 'INVALID_DURATION', 'ttl is "long"'],
      [{ expiresAt: 'soon' }, 'INVALID_OPTION', 'expiresAt is "soon"'],
    ] as const) {
      await expect(state.set('k', 1, given(options))).rejects.toEqual(saying(code, said));
      await expect(state.increment('k', 1, given(options))).rejects.toEqual(saying(code, said));
    }
    for (const by of ['1', Number.NaN, Infinity])
      await expect(state.increment('k', given(by))).rejects.toEqual(
        saying('INVALID_OPTION', `by is ${quoted(by)}. Give a finite number`),
      );
    await expect(state.lock('k', given({ tll: 1 }))).rejects.toEqual(
      saying('INVALID_OPTION', 'An option in the options of lock is "tll". Give ttl'),
    );
    await expect(state.lock('k', given(undefined))).rejects.toEqual(saying('INVALID_DURATION', 'ttl is undefined'));
    await expect(state.lock('k', { ttl: 0 })).rejects.toEqual(
      saying('INVALID_DURATION', 'ttl is 0. Give a duration that is longer than nothing'),
    );
    expect(changes).toEqual([]);
  });

  it('by the store is told with the key that it was for', () => {
    const changes = ['a', 'b'].map((key) => ({ kind: 'delete', key }) as const);
    expect(stateRefusal({ kind: 'refused', code: 'STATE_CHANGED', index: 1 }, changes)).toEqual(
      saying(
        'STATE_CHANGED',
        'The shared value "b" was changed by somebody else. Read it again and decide anew. Nothing',
      ),
    );
    expect(stateRefusal({ kind: 'refused', code: 'NOT_A_NUMBER', index: 0 }, changes)).toEqual(
      saying('NOT_A_NUMBER', 'The shared value "a" is not a number'),
    );
    expect(stateRefusal({ kind: 'refused', code: 'STATE_CHANGED', index: 9 }, changes).message).toContain('undefined');
  });
});

describe('a lock', () => {
  const ttl = { ttl: '1s' } as const;

  it('is held by one at a time, until it is given back or its time is over; its token grows', async () => {
    const { words, clock, changes } = shared();
    const [one, other] = [words(), words()];
    const first = (await one.lock('k', ttl))!;
    expect(changes).toStrictEqual([[{ kind: 'lock', key: 'stepfast:lock:k', holder: 'id1', expiresAt: now + 1_000 }]]);
    expect([await other.lock('k', ttl), await one.lock('k', ttl)]).toEqual([undefined, undefined]);
    expect((await other.lock('l', ttl))?.token).toBe(1); // one of another name
    await first.release();
    const second = (await other.lock('k', ttl))!;
    expect(second.token).toBeGreaterThan(first.token);
    await first.release(); // over already: nothing
    expect(await one.lock('k', ttl)).toBeUndefined();
    clock.jump(now + 1_000);
    expect((await one.lock('k', ttl))!.token).toBeGreaterThan(second.token);
    expect(await one.get('k')).toBeUndefined(); // locks are no values
  });

  it('of a step is taken again by its next attempt, and within one attempt held by one caller', async () => {
    const { words, clock } = shared();
    const attempt = words({ holder: 'step' });
    const both = await Promise.all([attempt.lock('k', ttl), attempt.lock('k', ttl)]);
    expect([both[0]?.token, both[1]]).toEqual([1, undefined]);
    expect((await attempt.lock('l', ttl))?.token).toBe(1);
    expect(await words().lock('k', ttl)).toBeUndefined();
    const again = (await words({ holder: 'step' }).lock('k', ttl))!;
    expect(again.token).toBe(2);
    await both[0]!.release(); // of the attempt before: it takes nothing from this one
    expect(await words().lock('k', ttl)).toBeUndefined();
    await again.release();
    expect((await words().lock('k', ttl))?.token).toBe(3);
    clock.jump(now + 1_000);
    expect((await attempt.lock('k', ttl))?.token).toBe(4);
  });

  it('of a step is free for its next caller when it was given back, or its time is over', async () => {
    const { words, clock } = shared();
    const state = words({ holder: 'step' });
    const first = (await state.lock('k', ttl))!;
    await first.release();
    const second = (await state.lock('k', ttl))!;
    await first.release(); // of a lock before: the second still holds
    expect(await state.lock('k', ttl)).toBeUndefined();
    clock.jump(now + 999);
    expect(await state.lock('k', ttl)).toBeUndefined();
    clock.jump(now + 1_000);
    expect((await state.lock('k', ttl))!.token).toBeGreaterThan(second.token);
  });

  it('that could not be taken for a fault of the store is asked for again', async () => {
    const { words, fails } = shared();
    const state = words({ holder: 'step' });
    fails.push(new Error('disk'));
    await expect(state.lock('k', ttl)).rejects.toThrow('disk');
    expect((await state.lock('k', ttl))?.token).toBe(1);
  });

  it('from before all was lost is not given back: its token may be that of another by now', async () => {
    for (const holder of [{}, { holder: 'step' }]) {
      const { words, changes, lose } = shared();
      const lock = (await words(holder).lock('k', ttl))!;
      lose();
      await lock.release();
      expect(changes.flat().map(({ kind }) => kind)).toEqual(['lock']);
      await (await words(holder).lock('l', ttl))!.release();
      expect(changes.flat().map(({ kind }) => kind)).toEqual(['lock', 'lock', 'unlock']);
    }
  });
});
