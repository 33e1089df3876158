import { describe, expect, it } from 'vitest';
import { isPromise, perform, read, type Work } from '../src/store/transition/work.js';

// Pins: reads of a transition cost no promise where the store answers at once, and are waited for, one after the other,
// where it does not.

const thenable = <T>(value: T): PromiseLike<T> => ({
  then: (done) => Promise.resolve(value).then(done),
});

function* sum(...found: (number | PromiseLike<number>)[]): Work<number> {
  let total = 0;
  for (const each of found) total += yield* read(each);
  return total;
}

describe('a promise', () => {
  it('is whatever has a then to call: of any kind', () => {
    expect([Promise.resolve(), thenable(1)].map(isPromise)).toEqual([true, true]);
    const others = [undefined, null, 0, '', 'then', {}, { then: 1 }, [], () => 1];
    expect(others.map(isPromise)).toEqual(others.map(() => false));
  });
});

describe('work', () => {
  it('is done at once while everything that it reads is there', () => {
    expect(perform(sum())).toBe(0);
    expect(perform(sum(1, 2, 3))).toBe(6);
  });

  it('waits for what is not there yet, in the order in which it reads', async () => {
    expect(await perform(sum(Promise.resolve(1)))).toBe(1);
    expect(await perform(sum(1, Promise.resolve(2), 3, thenable(4), Promise.resolve(5)))).toBe(15);
    const order: string[] = [];
    function* noting(): Work<string> {
      for (const word of ['a', 'b']) {
        order.push(`asks ${word}`);
        order.push(yield* read(Promise.resolve(`has ${word}`)));
      }
      return 'done';
    }
    const work = perform(noting());
    expect(order).toEqual(['asks a']);
    expect(await work).toBe('done');
    expect(order).toEqual(['asks a', 'has a', 'asks b', 'has b']);
  });

  it('a read that fails is thrown where it was read, at whichever place', async () => {
    const bad = () => Promise.reject(new Error('gone'));
    await expect(perform(sum(bad()))).rejects.toThrow('gone');
    await expect(perform(sum(Promise.resolve(1), bad()))).rejects.toThrow('gone');
    function* careful(): Work<string> {
      try {
        yield* read(bad());
      } catch (error) {
        return `${(error as Error).message}, and ${yield* read(Promise.resolve('noticed'))}`;
      }
      return 'never';
    }
    expect(await perform(careful())).toBe('gone, and noticed');
  });

  it('what the work throws itself is thrown, and is what its promise rejects with', async () => {
    function* throwing(first?: Promise<number>): Work<never> {
      if (first) yield* read(first);
      throw new Error('own');
    }
    expect(() => perform(throwing())).toThrow('own');
    await expect(perform(throwing(Promise.resolve(1)))).rejects.toThrow('own');
  });
});
