import { runInNewContext } from 'node:vm';
import { afterEach, describe, expect, test } from 'vitest';
import { StepfastError } from '../src/errors.js';
import { createCodec } from '../src/values/codec.js';
import type { Json } from '../src/values/json.js';
import { MAX_CAUSE_DEPTH, MAX_CAUSES, MAX_DEPTH, MAX_ERROR_TEXT } from '../src/values/kinds.js';
import { sameJson } from '../src/values/same.js';

const codec = createCodec({ URL });
/** Through JSON text, as the file store does it. */
const trip = (value: unknown): unknown => codec.decode(JSON.parse(JSON.stringify(codec.encode(value))));
const refusal = (value: unknown, using = codec): StepfastError => {
  try {
    using.encode(value, 'the payload');
  } catch (error) {
    return error as StepfastError;
  }
  throw new Error('was accepted');
};

const pristine = Reflect.ownKeys(Object.prototype);
afterEach(() => {
  expect(Reflect.ownKeys(Object.prototype)).toEqual(pristine);
  expect(Object.getPrototypeOf(Object.prototype)).toBe(null);
});

describe('what goes in comes out', () => {
  test("1 stays a number and '1' stays a string", () => {
    expect(trip([1, '1'])).toStrictEqual([1, '1']);
    expect(
      trip(
        new Map<unknown, unknown>([
          [1, 'a'],
          ['1', 'b'],
        ]),
      ),
    ).toStrictEqual(
      new Map<unknown, unknown>([
        [1, 'a'],
        ['1', 'b'],
      ]),
    );
  });

  test('-0, NaN, infinities, undefined, bigint and dates keep their kind', () => {
    const value = [
      -0,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
      undefined,
      10n ** 30n,
      new Date(5),
    ];
    expect(trip(value)).toStrictEqual(value);
    expect((trip(new Date(Number.NaN)) as Date).getTime()).toBeNaN();
    expect(trip({ a: undefined })).toStrictEqual({ a: undefined });
  });

  test('regular expressions and URLs keep their text', () => {
    const [pattern, url] = trip([/a+/giu, new URL('https://example.com/a?b=c#d')]) as [RegExp, URL];
    expect(String(pattern)).toBe('/a+/giu');
    expect(url).toBeInstanceOf(URL);
    expect(url.href).toBe('https://example.com/a?b=c#d');
  });

  test('an object of the user that looks like a tag stays an object', () => {
    const value = { $: ['Date', '2026-01-01T00:00:00.000Z'], and: { $: { $: 1 } } };
    expect(trip(value)).toStrictEqual(value);
  });

  test('a key __proto__ is data, in both directions', () => {
    const value = JSON.parse('{"a":{"__proto__":{"polluted":true},"b":1}}');
    const copy = trip(value) as { a: object };
    expect(Object.hasOwn(copy.a, '__proto__')).toBe(true);
    expect(Object.getPrototypeOf(copy.a)).toBe(Object.prototype);
    expect(JSON.stringify(copy)).toBe(JSON.stringify(value));
    expect(({} as { polluted?: true }).polluted).toBeUndefined();
  });

  test('an object without a prototype stays one', () => {
    const value = Object.assign(Object.create(null), { a: 1, $: 2 });
    const copy = trip(value) as object;
    expect(Object.getPrototypeOf(copy)).toBe(null);
    expect({ ...copy }).toEqual({ a: 1, $: 2 });
  });

  test('cycles and shared references are kept', () => {
    const shared = { at: new Date(1) };
    const value: Record<string, unknown> = { first: shared, again: shared, date: shared.at, list: [] };
    value.self = value;
    (value.list as unknown[]).push(value.list, new Map([[shared, value]]), new Set([value]));
    const copy = trip(value) as typeof value & { list: [unknown, Map<unknown, unknown>, Set<unknown>] };
    expect(copy.self).toBe(copy);
    expect(copy.again).toBe(copy.first);
    expect(copy.date).toBe((copy.first as typeof shared).at);
    expect(copy.list[0]).toBe(copy.list);
    expect(copy.list[1].get(copy.first)).toBe(copy);
    expect(copy.list[2].has(copy)).toBe(true);
    expect(copy).not.toBe(value);
  });

  test('every class of typed arrays comes back as what it was; one that is not known here is not read as another', () => {
    const ints = ['Int8', 'Uint8', 'Uint8Clamped', 'Int16', 'Uint16', 'Int32', 'Uint32', 'BigInt64', 'BigUint64'];
    for (const name of [...ints, 'Float16', 'Float32', 'Float64']) {
      const Class = (globalThis as unknown as { [name: string]: new (length: number) => ArrayBufferView })[
        `${name}Array`
      ];
      const stored = { $: [`${name}Array`, 'AAAAAAAAAAA='] };
      if (!Class) {
        expect(() => codec.decode(stored)).toThrow(expect.objectContaining({ code: 'STORE_CORRUPT' }));
        continue; // Float16Array: from Node 24 on
      }
      expect(trip(new Class(2))).toStrictEqual(new Class(2));
      expect(codec.decode(stored)).toBeInstanceOf(Class);
    }
  });

  test('a view keeps its bytes and nothing of the buffer around them', () => {
    const view = new Uint16Array(new ArrayBuffer(1000), 10, 3);
    view.set([1, 2, 65_535]);
    const copy = trip(view) as Uint16Array;
    expect(copy).toStrictEqual(new Uint16Array([1, 2, 65_535]));
    expect(copy.buffer.byteLength).toBe(6);
    const bytes = Uint8Array.from({ length: 256 }, (_, index) => index);
    expect(codec.encode(bytes)).toEqual({ $: ['Uint8Array', Buffer.from(bytes).toString('base64')] });
  });

  test('proxies of plain objects are just read', () => {
    const state = new Proxy({ list: new Proxy([1, { a: 2 }], {}) }, {});
    expect(trip(state)).toStrictEqual({ list: [1, { a: 2 }] });
  });

  test('objects of another realm are plain objects, and errors are errors', () => {
    expect(trip(runInNewContext('({ a: [1], m: new Map([[1, new Date(5)]]), u: new Uint8Array(2) })'))).toStrictEqual({
      a: [1],
      m: new Map([[1, new Date(5)]]),
      u: new Uint8Array(2),
    });
    expect(trip(runInNewContext('new TypeError("x")'))).toBeInstanceOf(TypeError);
  });

  test('a Blob or File goes through as it is where the store allows it', () => {
    const blob = new Blob(['abc'], { type: 'text/plain' });
    const file = new File(['abcd'], 'a.txt');
    const live = createCodec({ blobs: true });
    const copy = live.decode(live.encode({ blob, file, again: blob })) as Record<string, unknown>;
    expect(copy.blob).toBe(blob);
    expect(copy.file).toBe(file);
    expect(copy.again).toBe(blob);
    expect(sameJson(live.encode(blob), live.encode(new Blob(['ab'], { type: 'text/plain' })))).toBe(false);
    expect(refusal({ blob })).toMatchObject({ code: 'NOT_SERIALIZABLE', path: '$.blob' });
  });
});

describe('what can not be kept is refused, with its path', () => {
  class User {
    name = 'ada';
  }
  const holes: unknown[] = [1];
  holes[2] = 3;
  test.each<[string, unknown, string]>([
    ['a function', { user: { onClick: () => {} } }, '$.user.onClick'],
    ['a symbol', [Symbol('x')], '$[0]'],
    ['a symbol as key', { a: { [Symbol('x')]: 1 } }, '$.a[Symbol(x)]'],
    ['a promise', { a: Promise.resolve() }, '$.a'],
    ['a class instance', { 'the user': new User() }, '$["the user"]'],
    ['an object with a prototype of its own', Object.create({ a: 1 }), '$'],
    ['a class without base', Object.create(Object.create(null, { constructor: { value: Date } })), '$'],
    ['an array with a hole', { a: holes }, '$.a'],
    ['an array of nothing but a length', new Array(5), '$'],
    ['an array with an extra property', Object.assign([1], { x: 1 }), '$'],
    ['an array with a hole and an extra property', Object.assign([1], { length: 2, x: 1 }), '$'],
    ['a WeakMap', new WeakMap(), '$'],
    ['a boxed number', Object(1), '$'],
    ['a subclass of Map', new (class Map2 extends Map {})(), '$'],
    [
      'a subclass that is called Map',
      new (class extends Map {
        static override readonly name = 'Map';
      })(),
      '$',
    ],
    ['a subclass of Date', new (class extends Date {})(), '$'],
    ['a subclass of Array', new (class extends Array {})(), '$'],
    ['a Buffer', Buffer.from('x'), '$'],
    ['a Date with extra properties', Object.assign(new Date(), { x: 1 }), '$'],
    [
      'a class that borrows a tag',
      new (class {
        get [Symbol.toStringTag]() {
          return 'Map';
        }
      })(),
      '$',
    ],
    ['a proxy of a Map', new Proxy(new Map(), {}), '$'],
    ['a generator', (function* () {})(), '$'],
    ['a SharedArrayBuffer', new SharedArrayBuffer(1), '$'],
    ['a view over a SharedArrayBuffer', { a: new Uint8Array(new SharedArrayBuffer(2)) }, '$.a'],
    ['a DataView over a SharedArrayBuffer', new DataView(new SharedArrayBuffer(2)), '$'],
    ['a function inside a Map', { m: new Map([['k', { f() {} }]]) }, '$.m[0][1].f'],
    ['a function inside a Set', new Set([1, () => {}]), '$[1]'],
    [
      'a getter that throws',
      {
        a: {
          get b() {
            throw new Error('no');
          },
        },
      },
      '$.a.b',
    ],
  ])('%s', (_, value, path) => {
    const error = refusal(value);
    expect(error).toBeInstanceOf(StepfastError);
    expect(error).toMatchObject({ code: 'NOT_SERIALIZABLE', path });
    expect(error.message).toContain(`Can not store the payload: ${path} `);
    expect(error.message).not.toContain('ada');
  });

  test('D7: what hangs on bytes, a URL or a blob, and would be lost', () => {
    const live = createCodec({ URL, blobs: true });
    const makers: (() => object)[] = [
      ...[() => new Uint8Array(2), () => new Float64Array(0), () => new BigInt64Array(256)],
      ...[() => new ArrayBuffer(1), () => new DataView(new ArrayBuffer(1)), () => new URL('https://a.b')],
    ];
    for (const make of [...makers, () => new Blob(['x']), () => new File(['x'], 'n')]) {
      expect(() => live.encode([make()])).not.toThrow();
      const error = refusal([1, Object.assign(make(), { x: 1 })], live);
      expect([error.code, error.path]).toEqual(['NOT_SERIALIZABLE', '$[1]']);
      expect(error.message).toContain('has extra properties');
    }
    for (const make of [...makers, () => new Uint8Array(100_000)])
      expect(refusal([Object.assign(make(), { [Symbol('x')]: 1 })], live)).toMatchObject({ path: '$[0][Symbol(x)]' });
  });

  test('a URL, where the platform has none', () => {
    expect(refusal(new URL('https://x.y'), createCodec())).toMatchObject({ code: 'NOT_SERIALIZABLE' });
  });

  test('nesting is kept up to the limit and refused beyond it', () => {
    const nest = (levels: number): unknown => {
      let value: unknown = {};
      for (let i = 0; i < levels; i++) value = i % 2 ? { v: value } : i % 4 ? new Map([[1, value]]) : [value];
      return value;
    };
    expect(() => trip(nest(MAX_DEPTH))).not.toThrow();
    expect(refusal(nest(MAX_DEPTH + 1)).message).toContain(String(MAX_DEPTH));
    expect(refusal(nest(100_000))).toMatchObject({ code: 'NOT_SERIALIZABLE' });
  });

  test('a value over the size limit is refused early, with limit and size', () => {
    expect(() => codec.encode('x'.repeat(1_048_576))).not.toThrow();
    expect(refusal('x'.repeat(1_048_577))).toMatchObject({ code: 'VALUE_TOO_LARGE' });
    let reads = 0;
    const list = Array.from({ length: 1000 }, () => ({
      get a() {
        reads++;
        return 'x'.repeat(100);
      },
    }));
    const error = refusal(list, createCodec({ maxBytes: 2000 }));
    expect(error.code).toBe('VALUE_TOO_LARGE');
    expect(error.message).toMatch(/limit of 2000 bytes \(at least 20\d\d/);
    expect(reads).toBeLessThan(20);
    expect(refusal(new Uint8Array(1_000_000))).toMatchObject({ code: 'VALUE_TOO_LARGE' });
    expect(refusal(new Array(4e9))).toMatchObject({ code: 'VALUE_TOO_LARGE' });
  });

  test('B: the size of a value is that of its JSON, in bytes of UTF-8: what fits is kept, what does not is refused', () => {
    const [MiB, limit] = [1_048_576, 60_007];
    const small = createCodec({ maxBytes: limit });
    const fits = (value: unknown) => {
      try {
        small.encode(value);
        return true;
      } catch (error) {
        expect(error).toMatchObject({ code: 'VALUE_TOO_LARGE' });
        return false;
      }
    };
    for (const [unit, bytes] of Object.entries({ '€': 3, é: 2, '😀': 4, '"': 2, '\n': 2, '\0': 6, '\ud800': 6 })) {
      const most = Math.floor(limit / bytes);
      expect([unit, fits(unit.repeat(most)), fits(unit.repeat(most + 1))]).toEqual([unit, true, false]);
      expect(fits({ [unit.repeat(most)]: 1 })).toBe(false);
    }
    for (const [item, bytes] of [
      [0, 2],
      [true, 5],
      [false, 6],
      [null, 5],
      [1234567890, 11],
      ['', 3],
    ] as const) {
      const most = Math.floor((limit - 1) / bytes);
      const list = (count: number) => new Array(count).fill(item);
      expect([item, fits(list(most)), fits(list(most + 1))]).toEqual([item, true, false]);
    }
    expect(() => codec.encode('€'.repeat(Math.floor(MiB / 3)))).not.toThrow();
    const message = `limit of ${MiB} bytes (at least 3145728)`;
    expect(refusal('€'.repeat(MiB))).toMatchObject({ message: expect.stringContaining(message) });
  });

  test('B: what hangs on an error is left out once it is too large, in the same measure', () => {
    const small = createCodec({ maxBytes: 200 });
    const data = (count: number) => small.encodeError({ message: 'm', text: '€'.repeat(count) }).data;
    expect([data(50), data(70)]).toEqual([{ message: 'm', text: '€'.repeat(50) }, undefined]);
  });
});

describe('a damaged tree is reported as STORE_CORRUPT', () => {
  test.each<[string, Json]>([
    ['unknown tag', { $: ['Function', 'alert(1)'] }],
    ['tag that is no list', { $: 1 }],
    ['null for a tag', { $: null }],
    ['reference to nothing', { $: ['ref', 7] }],
    ['reference to a property of the list', [{ $: ['ref', 'length'] }]],
    ['bytes that are no base64', { $: ['Uint8Array', '<>'] }],
    ['number of bytes that does not fit', { $: ['Float64Array', 'AAAA'] }],
    ['bigint', { $: ['bigint', 'x'] }],
    ['live leaf where none is allowed', { $: ['Blob', {}] }],
  ])('%s', (_, json) => {
    expect(() => codec.decode(json)).toThrow(expect.objectContaining({ code: 'STORE_CORRUPT' }));
  });

  test('nesting that would overflow the stack', () => {
    let json: Json = 1;
    let error: Record<string, Json> = { name: 'Error', message: '' };
    for (let i = 0; i < 100_000; i++)
      [json, error] = [i % 2 ? [json] : { a: json }, { name: 'Error', message: '', cause: error }];
    const corrupt = expect.objectContaining({
      code: 'STORE_CORRUPT',
      cause: expect.objectContaining({ message: 'nested too deeply' }),
    });
    expect(() => codec.decode(json)).toThrow(corrupt);
    expect(() => codec.decode({ $: ['Error', error] })).toThrow(corrupt);
  });
});

describe('errors', () => {
  test('name, message, stack, code, cause, errors and data survive as a value', () => {
    class PaymentError extends Error {
      override name = 'PaymentError';
      code = 'CARD_DECLINED';
      data = { reasons: new Set(['limit']) };
    }
    const original = new PaymentError('declined', { cause: new AggregateError([new TypeError('a'), 'b'], 'both') });
    const copy = trip({ error: original, again: original }) as {
      error: PaymentError & { cause: AggregateError };
      again: unknown;
    };
    expect(copy.again).toBe(copy.error);
    const { error } = copy;
    expect(error).toMatchObject({ message: 'declined', code: 'CARD_DECLINED', data: original.data });
    expect([error.name, error.stack]).toEqual(['PaymentError', original.stack]);
    expect(Object.keys(error).sort()).toEqual(['code', 'data']);
    expect(error.cause).toBeInstanceOf(AggregateError);
    expect(error.cause.errors[0]).toBeInstanceOf(TypeError);
    expect(error.cause.errors[1]).toBe('b');
  });

  test.each([
    ['an object', { status: 404, at: new Date(5) }],
    ['one that looks like an error', { name: 'HttpError', message: 'no', code: 'E' }],
    ['a text', 'no'],
    ['a number', -0],
    ['null', null],
    ['a list', [1, [2]]],
    ['a map', new Map([['a', 1]])],
  ])('D7: a cause that is no error comes back as it was: %s', (_, cause) => {
    const value = new Error('outer', { cause: new AggregateError([cause, new Error('in'), cause], 'all', { cause }) });
    const shared = typeof cause === 'object';
    for (const copy of [trip(value) as Error, codec.decodeError(codec.encodeError(value))]) {
      const { cause: inner, errors } = copy.cause as AggregateError;
      expect([inner, errors[0], errors[2]]).toStrictEqual([cause, cause, cause]);
      expect(errors[1]).toBeInstanceOf(Error);
      if (shared) expect(errors[0]).toBe(errors[2]);
    }
  });

  test('F2: what a plain object carries as its cause and errors is told, as deep as causes go', () => {
    const inner = Object.assign(new StepfastError('STEP_FAILED', 'm', { step: 's' }), { identity: ['step', 's', 1] });
    const told = { code: 'STEP_FAILED', step: 's', identity: ['step', 's', 1] };
    const shared = { a: 1 };
    const plain = { message: 'w', cause: { errors: [shared, { cause: inner }] }, shared };
    expect(codec.encodeError(plain)).toMatchObject({ message: 'w', cause: { errors: [{}, { cause: told }] } });
    const carried = codec.encodeError(new Error('o', { cause: plain }));
    expect(carried.cause).toMatchObject({ isValue: true, cause: { errors: [{}, { cause: told }] } });
    for (const copy of [trip([new Error('o', { cause: plain }), shared]), [codec.decodeError(carried), shared]]) {
      const [error, again] = copy as [Error & { cause: typeof plain }, object];
      expect(again).toStrictEqual(shared);
      expect(error.cause.cause.errors[0]).toBe(error.cause.shared);
      expect((error.cause.cause.errors[1] as Error).cause).toMatchObject({ code: 'STEP_FAILED', step: 's' });
    }
    expect(codec.decodeError(codec.encodeError(plain))).toMatchObject({ data: { message: 'w', shared } });

    const loop: { cause?: unknown } = {};
    loop.cause = loop;
    let depth = 0;
    for (let at = codec.encodeError(loop).cause; at; at = at.cause) depth++;
    expect(depth).toBe(MAX_CAUSE_DEPTH);
    for (const cause of [[inner], { error: inner }, new Map([['cause', inner]])])
      expect(codec.encodeError({ message: 'w', cause }).cause).not.toHaveProperty('cause');
  });

  test('C3: of a cause that can not be kept, what it says is', () => {
    const value = new Error('outer', { cause: () => 5 });
    expect(codec.decodeError(codec.encodeError(value)).cause).toMatchObject({ message: '() => 5' });
  });

  test.each([
    EvalError,
    RangeError,
    ReferenceError,
    SyntaxError,
    TypeError,
    URIError,
  ])('%o comes back as itself', (Class) => {
    const copy = trip(new Class('m')) as Error;
    expect(copy).toBeInstanceOf(Class);
    expect(Object.hasOwn(copy, 'name')).toBe(false);
  });

  test('a DOMException keeps its name', () => {
    expect(trip(new DOMException('m', 'AbortError'))).toMatchObject({ name: 'AbortError', message: 'm' });
  });

  test.each([
    ['x', 'x'],
    [undefined, 'undefined'],
    [null, 'null'],
    [42, '42'],
    [{ a: 1 }, '[object Object]'],
  ])('a thrown %j is recorded with the value', (thrown, message) => {
    const recorded = codec.encodeError(thrown);
    expect(recorded).toMatchObject({ name: 'Error', message });
    const error = codec.decodeError(JSON.parse(JSON.stringify(recorded)));
    expect(error).toMatchObject({ message });
    expect((error as { data?: unknown }).data).toStrictEqual(thrown);
  });

  test('what can not be kept of an error is left out, and reporting never throws', () => {
    expect(codec.encodeError(Object.assign(new Error('m'), { code: 11_000, data: { f() {} } }))).toMatchObject({
      message: 'm',
      code: 11000,
    });
    expect(codec.encodeError(Object.assign(new Error('m'), { code: {}, data: { f() {} } }))).not.toHaveProperty('data');
    expect(codec.encodeError(Object.assign(new Error('m'), { code: {} }))).not.toHaveProperty('code');
    for (const thrown of [
      Symbol('s'),
      () => {},
      Object.create(null),
      new Proxy(
        {},
        {
          get() {
            throw 1;
          },
        },
      ),
      new Proxy(new Error('m'), {
        get() {
          throw new Error('no');
        },
      }),
    ]) {
      expect(codec.encodeError(thrown)).toMatchObject({ name: 'Error', message: expect.any(String) });
    }
    const tiny = createCodec({ maxBytes: 10 });
    expect(tiny.encodeError(Object.assign(new Error('m'.repeat(50)), { data: 'd'.repeat(50) })).message).toHaveLength(
      50,
    );
  });

  test('R10: a plain object that was thrown, and looks like an error, is told as one, and is its data', () => {
    const thrown = { name: 'PostgrestError', message: 'duplicate key', code: '23505', details: 'k' };
    const recorded = codec.encodeError(thrown);
    expect(recorded).toStrictEqual({ name: 'PostgrestError', message: 'duplicate key', code: '23505', data: thrown });
    expect(codec.decodeError(recorded)).toMatchObject({ ...recorded, data: thrown });
    expect(codec.encodeError({ message: 'only that', name: 5 })).toMatchObject({ name: 'Error', message: 'only that' });
    expect(codec.encodeError({ message: 5 })).toMatchObject({ name: 'Error', message: '[object Object]' });
    expect(codec.encodeError('text')).toStrictEqual({ name: 'Error', message: 'text', data: 'text' });
    expect(codec.encodeError(undefined)).toMatchObject({ name: 'Error', message: 'undefined' });
  });

  test('what was left out does not shift the references after it', () => {
    const shared = { a: 1 };
    const error = Object.assign(new Error('m'), { data: [shared, {}, () => {}] });
    const copy = trip([error, shared, shared, error]) as unknown[];
    expect(copy[1]).toStrictEqual({ a: 1 });
    expect(copy[2]).toBe(copy[1]);
    expect(copy[3]).toBe(copy[0]);
  });

  test('stack and message are cut off at their limit', () => {
    const recorded = codec.encodeError(Object.assign(new Error('m'.repeat(20_000)), { stack: 's'.repeat(20_000) }));
    expect([recorded.message.length, recorded.stack?.length]).toEqual([MAX_ERROR_TEXT, MAX_ERROR_TEXT]);
  });

  test('cycles of causes end at the named depth, and wide ones at the named count', () => {
    const loop = new Error('loop');
    loop.cause = loop;
    let depth = 0;
    for (let at = codec.encodeError(loop).cause; at; at = at.cause) depth++;
    expect(depth).toBe(MAX_CAUSE_DEPTH);

    const wide = new AggregateError([], 'wide');
    wide.errors = Array.from({ length: 50 }, () => wide);
    expect(JSON.stringify(codec.encodeError(wide)).match(/"message"/g)).toHaveLength(MAX_CAUSES + 1);
    expect(() => trip(wide)).not.toThrow();
  });

  test('errors in the data of errors do not begin a count of their own', () => {
    const tree = (depth: number): Error =>
      Object.assign(new AggregateError(depth ? Array.from({ length: 20 }, () => tree(depth - 1)) : [], 'tree'), {
        data: { why: new AggregateError([new Error('deep')], 'why', { cause: new Error('cause') }) },
      });
    const recorded = JSON.stringify(codec.encodeError(tree(2)));
    // Each that is followed may have one more in its data, and nothing behind that once the count is used up.
    expect(recorded.match(/"message"/g)!.length).toBeLessThanOrEqual(2 * (MAX_CAUSES + 1));
  });

  test('an error within its own data is the same error again', () => {
    const error = Object.assign(new Error('m'), { data: {} as Record<string, unknown> });
    error.data.self = [error, error];
    const copy = trip(error) as typeof error;
    expect(copy.data.self).toEqual([copy, copy]);
    const again = codec.decodeError(codec.encodeError(error)) as typeof error;
    expect((again.data.self as unknown[])[1]).toBe(again);
  });

  test('an error at the deepest level comes back with its causes', () => {
    let value: unknown = new Error('a', { cause: new Error('b') });
    for (let i = 0; i < MAX_DEPTH - 1; i++) value = [value];
    let copy = trip(value);
    while (Array.isArray(copy)) copy = copy[0];
    expect(copy).toMatchObject({ message: 'a', cause: { message: 'b' } });
  });

  test('the step of an error is kept', () => {
    const recorded = codec.encodeError(new StepfastError('STEP_FAILED', 'm', { step: 'charge' }));
    expect(recorded).toMatchObject({ name: 'StepfastError', code: 'STEP_FAILED', step: 'charge' });
    expect(codec.decodeError(recorded)).toMatchObject({ name: 'StepfastError', code: 'STEP_FAILED', step: 'charge' });
  });

  test('an error without a stack does not show where it was decoded', () => {
    expect(codec.decodeError({ name: 'X', message: 'm' }).stack).toBe('X: m');
  });
});

describe('equality of encoded values', () => {
  test('ignores the order of keys and nothing else', () => {
    expect(sameJson({ a: 1, b: [1, { c: null }] }, { b: [1, { c: null }], a: 1 })).toBe(true);
    for (const [a, b] of [
      [
        [1, 2],
        [2, 1],
      ],
      [1, '1'],
      [null, {}],
      [{}, []],
      [[], {}],
      [{ a: 1 }, { b: 1 }],
      [{ a: 1 }, {}],
      [{}, { a: 1 }],
      [{ toString: 1 }, { a: 1 }],
    ] as [Json, Json][]) {
      expect(sameJson(a, b)).toBe(false);
    }
    expect(sameJson(codec.encode(-0), codec.encode(0))).toBe(false);
    expect(sameJson(codec.encode(new Date(1)), codec.encode(new Date(1)))).toBe(true);
  });
});
