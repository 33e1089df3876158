import { describe, expect, it, vi } from 'vitest';
import { withLazy } from '../src/run/lazy.js';
import { LazyMap, LazySet } from '../src/values/lazy-map.js';

// Pins: maps and sets that cost nothing while they are empty are as those of the language, empty, filled and emptied again;
// and what a context is given lazily is its own.

type Give<T> = (collection: T) => unknown;

/** What can be seen of a map. */
const seenOfMap: Give<Map<string, number>> = (map) => {
  const told: unknown[] = [];
  map.forEach((value, key, whole) => {
    told.push([value, key, whole === map]);
  });
  return {
    ...{ told, size: map.size, all: [...map], keys: [...map.keys()], values: [...map.values()] },
    ...{ entries: [...map.entries()], a: [map.get('a'), map.has('a')], b: [map.get('b'), map.has('b')] },
  };
};
/** What can be seen of a set. */
const seenOfSet: Give<Set<string>> = (set) => {
  const told: unknown[] = [];
  set.forEach((value, again, whole) => {
    told.push([value, again, whole === set]);
  });
  return {
    ...{ told: told.map((each) => (each as unknown[]).slice(0, 2)), size: set.size, all: [...set] },
    ...{
      keys: [...set.keys()],
      values: [...set.values()],
      entries: [...set.entries()],
      a: set.has('a'),
      b: set.has('b'),
    },
  };
};

describe('a lazy map', () => {
  const acts: { readonly [title: string]: Give<Map<string, number>> } = {
    'that nothing was put into': () => undefined,
    'that was cleared and deleted from while it was empty': (map) => [map.delete('a'), map.clear()],
    'with one key': (map) => map.set('a', 1) === map,
    'with a key that was set twice': (map) => [map.set('a', 1).set('b', 2).set('a', 3).size],
    'of which a key was deleted': (map) => [map.set('a', 1).set('b', 2).delete('a'), map.delete('a')],
    'that was cleared': (map) => map.set('a', 1).clear(),
    'that was cleared and filled again': (map) => [map.set('a', 1).clear(), map.set('b', 2).size],
  };
  it.each(Object.entries(acts))('%s is as one of the language', (_, act) => {
    const lazy = new LazyMap<string, number>();
    const plain = new Map<string, number>();
    expect(act(lazy)).toEqual(act(plain));
    const told = (seen: unknown) => (seen as { told: unknown[][] }).told.map((each) => each.slice(0, 2));
    const [ours, theirs] = [seenOfMap(lazy), seenOfMap(plain)] as [object, object];
    expect({ ...ours, told: told(ours) }).toEqual({ ...theirs, told: told(theirs) });
  });

  it('that is empty shares nothing with another', () => {
    const one = new LazyMap<string, number>();
    const other = new LazyMap<string, number>();
    one.set('a', 1);
    expect([other.size, [...other]]).toEqual([0, []]);
    expect(Object.prototype.toString.call(one)).toBe('[object LazyMap]');
  });
});

describe('a lazy set', () => {
  const acts: { readonly [title: string]: Give<Set<string>> } = {
    'that nothing was put into': () => undefined,
    'that was cleared and deleted from while it was empty': (set) => [set.delete('a'), set.clear()],
    'with one value': (set) => set.add('a') === set,
    'with a value that was added twice': (set) => set.add('a').add('b').add('a').size,
    'of which a value was deleted': (set) => [set.add('a').add('b').delete('a'), set.delete('a')],
    'that was cleared': (set) => set.add('a').clear(),
    'that was cleared and filled again': (set) => [set.add('a').clear(), set.add('b').size],
  };
  it.each(Object.entries(acts))('%s is as one of the language', (_, act) => {
    const lazy = new LazySet<string>();
    const plain = new Set<string>();
    expect(act(lazy)).toEqual(act(plain));
    expect(seenOfSet(lazy)).toEqual(seenOfSet(plain));
  });

  it('that is empty shares nothing with another', () => {
    const one = new LazySet<string>();
    const other = new LazySet<string>();
    one.add('a');
    expect([other.size, [...other]]).toEqual([0, []]);
    expect(Object.prototype.toString.call(one)).toBe('[object LazySet]');
  });
});

describe('a context', () => {
  it('has state, log and signal of its own, made when they are asked for and for this context alone', () => {
    const makers = (word: string) => ({
      state: vi.fn(() => `state of ${word}` as never),
      log: vi.fn(() => `log of ${word}` as never),
      signal: vi.fn(() => `signal of ${word}` as never),
    });
    const [first, second] = [makers('one'), makers('two')];
    const [one, two] = [withLazy({ attempt: 1 }, first), withLazy({ attempt: 2 }, second)];
    for (const maker of Object.values(first)) expect(maker).not.toHaveBeenCalled();
    expect([one.signal, two.log]).toEqual(['signal of one', 'log of two']);
    expect([first.signal, first.state, first.log].map(({ mock }) => mock.calls.length)).toEqual([1, 0, 0]);
    expect({ ...one }).toEqual({ attempt: 1, state: 'state of one', log: 'log of one', signal: 'signal of one' });
    expect(Object.keys(two)).toEqual(['attempt', 'state', 'log', 'signal']);
  });
});
