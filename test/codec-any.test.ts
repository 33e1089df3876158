import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { createCodec } from '../src/values/codec.js';
import type { Json } from '../src/values/json.js';
import { sameJson } from '../src/values/same.js';

const codec = createCodec({ URL });

const pristine = Reflect.ownKeys(Object.prototype);
afterEach(() => {
  expect(Reflect.ownKeys(Object.prototype)).toEqual(pristine);
  expect(Object.getPrototypeOf(Object.prototype)).toBe(null);
});

describe('whatever goes in comes out', () => {
  const leaf = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.double(),
    fc.integer(),
    fc.boolean(),
    fc.bigInt(),
    fc.date({ noInvalidDate: true }),
    fc.constantFrom(null, undefined, -0, 0, 1, '1', Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY),
    fc.constantFrom(/a+/giu, new URL('https://example.com/a?b=c#d')),
    fc.uint8Array(),
    fc.int16Array(),
    fc.float64Array(),
    fc.bigInt64Array(),
    fc.uint8Array().map((bytes) => bytes.slice().buffer),
    fc.uint8Array().map((bytes) => new DataView(bytes.slice().buffer)),
  );
  const key = fc.oneof(
    fc.string(),
    fc.constantFrom('$', '$$', '__proto__', 'constructor', 'toString', 'hasOwnProperty', '0'),
  );
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof(
      { maxDepth: 5, withCrossShrink: true },
      leaf,
      fc.array(tie('tree')),
      fc.dictionary(key, tie('tree')),
      fc.array(fc.tuple(tie('tree'), tie('tree'))).map((pairs) => new Map(pairs)),
      fc.array(tie('tree')).map((items) => new Set(items)),
    ),
  }));

  test('any supported value is deep-equal after a round trip, and the tree is left alone', () => {
    fc.assert(
      fc.property(tree, (value) => {
        const json = codec.encode(value);
        const text = JSON.stringify(json);
        expect(isDeepStrictEqual(codec.decode(json), value)).toBe(true);
        expect(JSON.stringify(json)).toBe(text);
        expect(isDeepStrictEqual(codec.decode(JSON.parse(text)), value)).toBe(true);
        expect(sameJson(json, JSON.parse(text))).toBe(true);
      }),
      { numRuns: 400 },
    );
  });

  test('B: the limit is the size of the JSON text in UTF-8, to the byte; of a text alone, without its quotes', () => {
    const wide = fc.string({ unit: 'binary' }).map((text) => new Error(text));
    fc.assert(
      fc.property(fc.oneof(tree, wide, fc.array(fc.oneof(tree, wide))), (value) => {
        const size = Buffer.byteLength(JSON.stringify(codec.encode(value))) - (typeof value === 'string' ? 2 : 0);
        expect(() => createCodec({ URL, maxBytes: size }).encode(value)).not.toThrow();
        const small = createCodec({ URL, maxBytes: size - 1 });
        expect(() => small.encode(value)).toThrow(expect.objectContaining({ code: 'VALUE_TOO_LARGE' }));
      }),
      { numRuns: 400 },
    );
  });

  test('JSON values stay readable: they are kept as they are', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        fc.pre(!JSON.stringify(value).includes('"$"') && !/-0\b/.test(fc.stringify(value)));
        expect(codec.encode(value)).toStrictEqual(value);
      }),
    );
  });

  test('hostile JSON text never reaches a prototype and never gets another error than STORE_CORRUPT', () => {
    const tags = fc.constantFrom(
      'ref',
      'Map',
      'Set',
      'Error',
      'Date',
      'null',
      'object',
      'Uint8Array',
      'Function',
      'URL',
      'Blob',
      'bigint',
    );
    const { json } = fc.letrec((tie) => ({
      json: fc.oneof(
        fc.constantFrom(null, 0, 1, 'x', '__proto__'),
        fc.array(tie('json')),
        fc.dictionary(key, tie('json')),
        fc.tuple(tags, tie('json')).map((pair) => ({ $: pair })),
      ),
    }));
    fc.assert(
      fc.property(json, (value) => {
        try {
          createCodec({ URL, blobs: true }).decode(JSON.parse(JSON.stringify(value)) as Json);
        } catch (error) {
          expect(error).toMatchObject({ code: 'STORE_CORRUPT' });
        }
      }),
      { numRuns: 400 },
    );
  });
});
