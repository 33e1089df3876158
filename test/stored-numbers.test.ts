import { describe, expect, it } from 'vitest';
import { fromBase64, toBase64 } from '../src/values/base64.js';
import { createCodec } from '../src/values/codec.js';
import { canonical, fingerprintOf } from '../src/values/fingerprint.js';
import type { Json } from '../src/values/json.js';
import { sumOf } from '../src/values/sum.js';

// Pins: numbers that are made of stored values, for ever the same: sums of the shared state (spec D8), fingerprints of
// payloads (spec Q1), bytes as text (spec D7).

describe('D8: a sum', () => {
  const stored = (value: unknown) => createCodec().encode(value);

  it('is of what is stored and what is added; of nothing it counts from 0', () => {
    expect([sumOf(undefined, 2), sumOf(5, 2), sumOf(5, -7), sumOf(0.5, 0.25)]).toEqual([2, 7, -2, 0.75]);
    expect(sumOf(stored(-0), 3)).toBe(3);
  });

  it('is none where something else is stored, or the sum can not be counted with', () => {
    for (const value of [null, '5', true, {}, [], Number.NaN, Infinity, 5n, '-0', new Date(0), { $: ['number', '-0'] }])
      expect(sumOf(stored(value), 1)).toBeUndefined();
    expect(sumOf({ $: ['bigint', '-0'] }, 1)).toBeUndefined();
    expect(sumOf(Number.MAX_VALUE, Number.MAX_VALUE)).toBeUndefined();
    expect(sumOf(1, Number.NaN)).toBeUndefined();
  });
});

describe('Q1: a fingerprint', () => {
  it('is made of a text that does not depend on the order of keys, and tells all else apart', () => {
    expect(canonical({ b: [1, 'x', null], a: { d: true, c: '"' } })).toBe(
      '{"a":{"c":"\\"","d":true},"b":[1,"x",null]}',
    );
    expect([canonical([]), canonical({}), canonical(null), canonical('a')]).toEqual(['[]', '{}', 'null', '"a"']);
    expect(canonical({ c: 1, a: 2, b: 3 })).toBe('{"a":2,"b":3,"c":1}');
    expect([canonical(['1', '2']), canonical(['1,2'])]).toEqual(['["1","2"]', '["1,2"]']);
  });

  it('is kept for as long as the run is remembered: it stays what it was', () => {
    const values: Json[] = [
      null,
      {},
      [],
      'a',
      1,
      '',
      { job: 'mail', payload: { to: 'ada@example.com', n: 7 } },
      'é€😀',
    ];
    expect(values.map(fingerprintOf)).toEqual([
      '69fcb93abcdf4ce4',
      '5a56d1e762b9de1e',
      '79b28c9e6b8fff3d',
      'c02e5f8708d1eb7b',
      'e4fa6648fd7c50ea',
      '8dddd9f709437f18',
      '47e298e6b68b3324',
      '23b88bc0f61d245e',
    ]);
    expect(fingerprintOf({ a: 1, b: 2 })).toBe(fingerprintOf({ b: 2, a: 1 }));
  });

  it('has 16 digits whatever it is of, and few of many are alike', () => {
    const prints = Array.from({ length: 2_000 }, (_, index) => fingerprintOf({ index }));
    expect(prints.every((print) => /^[0-9a-f]{16}$/.test(print))).toBe(true);
    expect([0, 8].map((at) => new Set(prints.map((print) => print.slice(at, at + 8))).size)).toEqual([2_000, 2_000]);
  });
});

describe('D7: bytes as text', () => {
  it('are base64 as everywhere, whatever their number', () => {
    const bytes = Uint8Array.from({ length: 256 }, (_, index) => 255 - index);
    for (const length of [0, 1, 2, 3, 4, 5, 6, 256]) {
      const part = bytes.subarray(0, length);
      const text = Buffer.from(part).toString('base64');
      expect(toBase64(part)).toBe(text);
      expect(new Uint8Array(fromBase64(text))).toEqual(part);
    }
  });

  it('are refused where the text is none', () => {
    for (const text of ['A*==', '=AAA', 'AA=A', 'AA A', 'é'])
      expect(() => fromBase64(text)).toThrow(new TypeError('not base64'));
  });
});
