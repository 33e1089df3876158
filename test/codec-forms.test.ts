import { describe, expect, test, vi } from 'vitest';
import { EventTimeoutError, FatalError, RetryableError, StepError, StepfastError } from '../src/errors.js';
import { createCodec } from '../src/values/codec.js';
import type { Json } from '../src/values/json.js';
import { MAX_CAUSE_DEPTH, MAX_DEPTH } from '../src/values/kinds.js';

// Pins: the forms in which values are kept, which are for ever (spec D7); what is said of values that are refused; how deep
// errors may go; which values count as equal (spec Q1, E8).

const codec = createCodec({ URL });
const live = createCodec({ URL, blobs: true });
const trip = (value: unknown): unknown => codec.decode(JSON.parse(JSON.stringify(codec.encode(value))));
const refusal = (value: unknown, using = codec): StepfastError => {
  try {
    using.encode(value);
  } catch (error) {
    return error as StepfastError;
  }
  throw new Error('was accepted');
};
/** Why a tree can not be read. */
const damage = (json: unknown, using = codec): unknown => {
  try {
    using.decode(json as Json);
  } catch (error) {
    expect(error).toMatchObject({ code: 'STORE_CORRUPT', message: expect.stringContaining('stored value') });
    return ((error as Error).cause as Error).message;
  }
  throw new Error('was accepted');
};
const hidden = (value: object, key: PropertyKey, of: unknown) => Object.defineProperty(value, key, { value: of });
const nested = (levels: number, value: unknown = 'end'): unknown => {
  let found = value;
  for (let level = 0; level < levels; level++) found = [found];
  return found;
};

describe('C4: the form in which a value is kept', () => {
  const date = new Date(5);
  const shared = { a: 1 };
  test.each<[string, unknown, unknown]>([
    ['a text', 'x', 'x'],
    ['a number', 1.5, 1.5],
    ['a negative number', -3, -3],
    ['nothing', undefined, { $: ['undefined'] }],
    ['no number', Number.NaN, { $: ['number', 'NaN'] }],
    ['infinity', Number.NEGATIVE_INFINITY, { $: ['number', '-Infinity'] }],
    ['minus zero', -0, { $: ['number', '-0'] }],
    ['a bigint', 5n, { $: ['bigint', '5'] }],
    ['a date', date, { $: ['Date', '1970-01-01T00:00:00.005Z'] }],
    ['no date', new Date(Number.NaN), { $: ['Date', null] }],
    ['an expression', /a\/b/gi, { $: ['RegExp', 'a\\/b', 'gi'] }],
    ['an empty array', [], []],
    ['a map', new Map([['k', date]]), { $: ['Map', [['k', { $: ['Date', date.toJSON()] }]]] }],
    ['a set', new Set([1, 'b']), { $: ['Set', [1, 'b']] }],
    ['bytes', new Uint8Array([1, 2]), { $: ['Uint8Array', 'AQI='] }],
    ['a buffer', new Uint8Array([1, 2, 3]).buffer, { $: ['ArrayBuffer', 'AQID'] }],
    ['a view', new DataView(new Uint8Array([255]).buffer), { $: ['DataView', '/w=='] }],
    ['a URL', new URL('https://x.y/z'), { $: ['URL', 'https://x.y/z'] }],
    ['an object without a prototype', Object.assign(Object.create(null), shared), { $: ['null', shared] }],
    ['an object that looks like a tag', { $: ['Date'] }, { $: ['object', { $: ['Date'] }] }],
    ['what occurs again', [shared, shared], [shared, { $: ['ref', 1] }]],
  ])('%s', (_, value, form) => {
    expect(codec.encode(value)).toStrictEqual(form);
    expect(live.encode(value)).toStrictEqual(form);
    expect(trip(value)).toStrictEqual(value);
  });

  test('an error is kept by what it says, and lists only what it has', () => {
    const cause = new TypeError('b');
    const error = Object.assign(new Error('a', { cause }), { code: 7, step: 's', identity: ['step', 's', '2'] });
    for (const each of [error, cause]) each.stack = 'where';
    const recorded = { name: 'Error', message: 'a', code: 7, step: 's', identity: ['step', 's', 2], stack: 'where' };
    const inner = { name: 'TypeError', message: 'b', stack: 'where' };
    expect(codec.encode(error)).toStrictEqual({ $: ['Error', { ...recorded, cause: inner }] });
    expect(codec.encodeError(error)).toStrictEqual({ ...recorded, cause: inner });
    expect(codec.encodeError(undefined)).toStrictEqual({
      ...{ name: 'Error', message: 'undefined', data: { $: ['undefined'] } },
    });
  });

  test('a blob and a file are kept with what tells them apart unread', () => {
    const blob = new Blob(['abc'], { type: 'text/plain' });
    const file = new File(['abcd'], 'a.txt', { type: 'text/plain' });
    expect(live.encode(blob)).toStrictEqual({ $: ['Blob', blob, 3, 'text/plain', null] });
    expect(live.encode(file)).toStrictEqual({ $: ['File', file, 4, 'text/plain', 'a.txt'] });
    expect(refusal(blob, createCodec({ blobs: true, maxBytes: 10 })).code).toBe('VALUE_TOO_LARGE');
  });

  test('what is hidden on an object stays behind', () => {
    expect(codec.encode(hidden(hidden({ a: 1 }, Symbol('x'), 1), 'b', 2))).toStrictEqual({ a: 1 });
  });
});

describe('a refusal says why', () => {
  class User {}
  const tagged = (value: object) => hidden(value, Symbol.toStringTag, 'Map');
  test.each<[string, unknown, string]>([
    ['of a function', () => 1, '$ is a function'],
    ['of a symbol', { a: Symbol('x') }, '$.a is a symbol'],
    ['of a symbol as key', { [Symbol('x')]: 1 }, '$[Symbol(x)] has a symbol as its key'],
    ['of a class, with its name', [new User()], '$[0] is a class instance (User)'],
    ['of a class that has none', Object.create(Object.create(null)), '$ is a class instance (Object)'],
    ['of an object that bears a tag', tagged({}), '$ is a class instance (Object)'],
    ['of one without a prototype, too', tagged(Object.create(null)), '$ is a class instance (Map)'],
    [
      'of one whose prototype looks like a root',
      Object.create({ hasOwnProperty: 1 }),
      '$ is a class instance (Object)',
    ],
    ['of what hangs on a map', Object.assign(new Map(), { x: 1 }), '$ has extra properties'],
    ['of what hangs on an array', Object.assign([1], { x: 1 }), '$ has holes or extra properties'],
    ['of depth', nested(MAX_DEPTH + 1, {}), 'is nested deeper than'],
    ['of a boxed text', Object('x'), '$ is a class instance (String)'],
  ])('%s', (_, value, said) => {
    const error = refusal(value);
    expect(error.code).toBe('NOT_SERIALIZABLE');
    expect(error.message).toContain('Can not store the value: $');
    expect(error.message).toContain(`${said}`);
    expect(error.message).toContain('Store a reference or plain data');
  });

  test('of a getter that throws, with what it has thrown', () => {
    const cause = new Error('no');
    const error = refusal({
      get a() {
        throw cause;
      },
    });
    expect(error.message).toContain('$.a can not be read');
    expect(error.cause).toBe(cause);
  });

  test('and shows no more than the beginning of a key', () => {
    const { path } = refusal({ ['k '.repeat(500)]: () => 1 });
    expect(path).toBe(`$["${'k '.repeat(32)}"]`);
    expect(refusal({ ['k'.repeat(64)]: () => 1 }).path).toBe(`$.${'k'.repeat(64)}`);
    expect(refusal({ ['k'.repeat(65)]: () => 1 }).path).toBe(`$["${'k'.repeat(64)}"]`);
    expect(refusal({ a1$: { '1a': { a: { 'b-c': () => 1 } } } }).path).toBe('$.a1$["1a"].a["b-c"]');
  });

  test('of an error that is too long, as of a text', () => {
    const error = Object.assign(new Error('m'.repeat(600)), { stack: '' });
    const small = createCodec({ maxBytes: 500 });
    expect(refusal(error, small).code).toBe('VALUE_TOO_LARGE');
    expect(refusal([error, 1], createCodec({ maxBytes: 620 })).code).toBe('VALUE_TOO_LARGE');
    expect(small.encodeError(error).message).toHaveLength(600);
  });
});

describe('a damaged tree', () => {
  test.each<[string, unknown, string]>([
    ['a tag that is no class of bytes', { $: ['Boolean', 'AAAA'] }, 'unknown tag'],
    ['a reference that is no number', [{ $: ['ref', '0'] }], 'unknown tag'],
    ['a live blob, where there are none', { $: ['Blob', new Blob(['a'])] }, 'unknown tag'],
    ['bytes that are no base64', { $: ['Uint8Array', '<>'] }, 'not base64'],
    ['bytes with an end in the middle', { $: ['Uint8Array', 'AA==AA'] }, 'not base64'],
    ...['Map', 'Set'].map((tag): [string, unknown, string] => {
      let json: unknown = 1;
      for (let level = 0; level < 300; level++) json = { $: [tag, tag === 'Map' ? [[json, 1]] : [json]] };
      return [`a ${tag} that is nested too deeply`, json, 'nested too deeply'];
    }),
  ])('%s', (_, json, said) => {
    expect(damage(json)).toBe(said);
  });

  test('values of a map and data of an error count as levels, too', () => {
    let map: unknown = 1;
    let error: unknown = 1;
    for (let level = 0; level < 300; level++) {
      map = { $: ['Map', [['k', map]]] };
      error = { $: ['Error', { name: 'E', message: 'm', data: error }] };
    }
    expect([damage(map), damage(error)]).toEqual(['nested too deeply', 'nested too deeply']);
  });

  test('asks for no class of the page, though it be named like one of bytes', () => {
    for (const tag of ['MyUint8Array', 'DataViewOfMine']) {
      vi.stubGlobal(tag, class {});
      expect(damage({ $: [tag, 'AAAA'] })).toBe('unknown tag');
    }
    vi.unstubAllGlobals();
  });

  test('a URL where the platform has none, and a blob that is another thing', () => {
    expect(damage({ $: ['URL', 'https://x.y'] }, createCodec())).toBe('unknown tag');
    for (const leaf of [{}, new File(['a'], 'a'), 'text'])
      expect(damage({ $: ['Blob', leaf] }, live)).toBe('unknown tag');
    expect(damage({ $: ['File', new Blob(['a'])] }, live)).toBe('unknown tag');
  });
});

describe('an error that comes back', () => {
  test.each([StepfastError, StepError, EventTimeoutError])('is of our own class: %o', (Class) => {
    const error = new Class('STEP_FAILED', 'm', { step: 'charge', data: 1 });
    const copy = codec.decodeError(codec.encodeError(error));
    expect(Object.getPrototypeOf(copy)).toBe(Class.prototype);
    expect(copy).toMatchObject({ name: Class.prototype.name, code: 'STEP_FAILED', step: 'charge', data: 1 });
    expect(Object.keys(copy)).toEqual(['code', 'step', 'data']);
  });
  test.each([FatalError, RetryableError])('is of our own class: %o', (Class) => {
    expect(codec.decodeError(codec.encodeError(new Class('m')))).toBeInstanceOf(Class);
  });

  test('is of no class that only sounds like a built-in one', () => {
    for (const name of ['MyTypeError', 'TypeErrorOfMine', 'Error', 'Function', 'Object']) {
      const copy = codec.decodeError({ name, message: 'm' });
      expect([copy.name, Object.getPrototypeOf(copy)]).toEqual([name, Error.prototype]);
    }
  });

  test('has no field that it did not have, and each can be set anew', () => {
    const copy = trip(new Error('m')) as Error;
    expect(Reflect.ownKeys(copy).sort()).toEqual(['message', 'stack']);
    copy.message = 'n';
    expect(copy.message).toBe('n');
    expect([Reflect.deleteProperty(copy, 'message'), copy.message]).toEqual([true, '']);
    const data = trip(JSON.parse('{"__proto__":1}')) as Record<string, unknown>;
    expect(Reflect.ownKeys(data)).toEqual(['__proto__']);
    expect(Reflect.deleteProperty(data, '__proto__')).toBe(true);
  });

  test('C2: counts as one object, whatever errors it carries', () => {
    const shared = { a: 1 };
    const error = new AggregateError([new Error('b')], 'a', { cause: new Error('c') });
    const [first, second, third, last] = trip([error, shared, shared, error]) as unknown[];
    expect([first === last, second === third, second]).toEqual([true, true, shared]);
  });
});

describe('how deep errors go', () => {
  test('an error at the deepest level keeps all its causes, and the last of them what was thrown', () => {
    let error: unknown = -0;
    for (let level = 0; level < MAX_CAUSE_DEPTH; level++) error = new Error(`${level}`, { cause: error });
    let copy = trip(nested(MAX_DEPTH, error)) as { cause: unknown };
    while (Array.isArray(copy)) copy = copy[0];
    let count = 1;
    for (; typeof copy.cause === 'object'; count++) copy = copy.cause as typeof copy;
    expect([count, copy.cause]).toEqual([MAX_CAUSE_DEPTH, -0]);
  });

  test('C3: what hangs on an error counts from where the error is: what can be written can be read', () => {
    const deep = (levels: number, wrap: (inner: unknown) => Error) => {
      let error = wrap(undefined);
      for (let level = 0; level < levels; level++) error = wrap(error);
      return error;
    };
    const last = Object.assign(new Error('last'), { data: nested(MAX_DEPTH + 5) });
    const causes = deep(MAX_CAUSE_DEPTH - 1, (cause) => new Error('m', { cause: cause ?? last }));
    expect(trip(causes)).toMatchObject({ message: 'm', cause: { message: 'm' } });
    const datas = deep(20, (inner) => Object.assign(new Error('m'), { data: inner ?? nested(MAX_DEPTH - 5) }));
    expect(trip(datas)).toMatchObject({ message: 'm', data: { message: 'm' } });
  });

  test('C3: of what can not even be told it is said that it is unknown', () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    expect(codec.encodeError(proxy)).toStrictEqual({ name: 'Error', message: 'unknown' });
    expect(codec.encodeError(Object.create(null)).message).toBe('unknown');
  });
});

describe('Q1, E8: two values are the same', () => {
  const same = (a: unknown, b: unknown) => live.isSame(live.encode(a), live.encode(b));
  const blob = (text: string) => new Blob([text], { type: 'text/plain' });
  const ring = (length: number) => {
    const first: Record<string, unknown> = {};
    let last = first;
    for (let count = 1; count < length; count++) last = (last.next = {}) as typeof first;
    last.next = first;
    return first;
  };

  test('whatever the order of their keys, and whatever of them is one object', async () => {
    const one = { street: 'x' };
    const error = new Error('m');
    expect(await same({ a: 1, b: 2 }, { b: 2, a: 1 })).toBe(true);
    expect(await same([one, one, 1], [{ ...one }, { ...one }, 1])).toBe(true);
    expect(await same([one, one], [one, { street: 'y' }])).toBe(false);
    expect(await same([error, error], [error, Object.assign(new Error('m'), { stack: error.stack })])).toBe(true);
    expect([await same(ring(2), ring(2)), await same(ring(2), ring(3))]).toEqual([true, false]);
  });

  test('when their blobs hold the same bytes', async () => {
    expect(await same({ b: blob('abc') }, { b: blob('abc') })).toBe(true);
    expect(await same({ b: blob('abc') }, { b: blob('abd') })).toBe(false);
    expect(await same([blob('a'), blob('b')], [blob('a'), blob('c')])).toBe(false);
    expect(await same({ a: blob('a'), b: blob('b') }, { b: blob('b'), a: blob('a') })).toBe(true);
    expect(await same({ a: blob('a'), b: blob('b') }, { b: blob('a'), a: blob('b') })).toBe(false);
    const both = blob('abc');
    expect(await same([both, both], [blob('abc'), blob('abc')])).toBe(true);
  });

  test('never, where that can not be found out', async () => {
    const small = createCodec({ maxBytes: 300 });
    const text = { t: 'x'.repeat(100) };
    const shared = small.encode([text, text, text]);
    expect(await small.isSame(shared, small.encode([text, text, { ...text, u: 1 }].slice(0, 2)))).toBe(false);
    const broken = hidden(blob('abc'), 'arrayBuffer', () => Promise.reject(new Error('gone')));
    expect(await same([broken], [blob('abc')])).toBe(false);
    expect(await live.isSame({ $: ['ref', 9] }, { $: ['ref', 8] })).toBe(false);
  });
});
