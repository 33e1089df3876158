import { describe, expect, it } from 'vitest';
import { createTail } from '../adapters/file/tail.js';

// Pins: the latest bytes of a log in memory (adapters/file/tail.ts): what is given back is what was added, however much that
// was and wherever it stands.

const CAPACITY = 4 << 20;
/** Bytes of which each says where it stands in the log. */
const bytesAt = (position: number, length: number) => {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at++) bytes[at] = ((position + at) * 2_654_435_761) >>> 24;
  return bytes;
};
function tailOf(lengths: readonly number[], from = 0) {
  const tail = createTail();
  let end = from;
  for (const length of lengths) {
    tail.add(bytesAt(end, length), end);
    end += length;
  }
  return { tail, end };
}

describe('the tail of a log', () => {
  it.each([
    ['nothing is there', [], 0],
    ['a little', [10, 20, 30], 60],
    ['as much as it first has room for, to the byte', [60_000, (64 << 10) - 60_000], 64 << 10],
    ['one byte more', [64 << 10, 1], (64 << 10) + 1],
    ['grown by one addition', [10, 300_000], 300_010],
    ['grown by many', Array<number>(50).fill(40_001), 50 * 40_001],
    ['all that it may hold, to the byte', [CAPACITY - 1, 1], CAPACITY],
  ])('%s: all of it is there', (_, lengths, length) => {
    const { tail } = tailOf(lengths, 7);
    if (length) expect(tail.at(7, length)?.equals(bytesAt(7, length))).toBe(true);
    expect(tail.at(7, length + 1)).toBeUndefined();
    expect(tail.at(6, 1)).toBeUndefined();
  });

  it('holds the latest half at least, where more was added than it may hold', () => {
    const { tail, end } = tailOf([CAPACITY, 100], 3);
    const kept = CAPACITY / 2 + 100;
    expect(tail.at(end - kept, kept)?.equals(bytesAt(end - kept, kept))).toBe(true);
    expect(tail.at(3, 1)).toBeUndefined();
  });

  it('begins anew behind a gap, and behind more than it may hold at once', () => {
    const { tail, end } = tailOf([1_000]);
    tail.add(bytesAt(end + 5, 10), end + 5);
    expect([tail.at(0, 1), tail.at(end + 5, 10)?.equals(bytesAt(end + 5, 10))]).toEqual([undefined, true]);
    tail.add(bytesAt(end + 15, CAPACITY + 1), end + 15);
    expect([tail.at(end + 5, 10), tail.at(end + 15, 1)]).toEqual([undefined, undefined]);
    const next = end + 15 + CAPACITY + 1;
    tail.add(bytesAt(next, 10), next);
    expect(tail.at(next, 10)?.equals(bytesAt(next, 10))).toBe(true);
  });
});
