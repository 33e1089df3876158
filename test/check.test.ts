import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import {
  check,
  checkClock,
  checkInteger,
  checkKey,
  checkName,
  checkOptions,
  checkStore,
  checkText,
  quoted,
} from '../src/values/check.js';

// Pins: what is refused at the door, with which code, and that the refusal names what was wrong with its value (spec B, V4).

type Refusal = { readonly code: string; readonly message: string };
const refusal = (call: () => void): Refusal | undefined => {
  try {
    call();
  } catch (error) {
    return error as Refusal;
  }
};
const accepted = undefined;
const given = (value: unknown) => value as never;

describe('a refused value', () => {
  it('V4: is shown short, and never with its inside', () => {
    expect(['a "text"', 5, true, null, undefined, Number.NaN].map(quoted)).toEqual([
      ...['"a \\"text\\""', '5', 'true', 'null', 'undefined', 'NaN'],
    ]);
    expect([() => 'secret', ['secret'], [], { secret: 1 }, new Map()].map(quoted)).toEqual([
      ...['a function', 'an array', 'an empty array', 'an object', 'an object'],
    ]);
    const { proxy, revoke } = Proxy.revocable([], {}); // a draft of immer, for example, that was kept
    revoke();
    expect([10n, proxy, Symbol('s')].map(quoted)).toEqual(['10n', 'an object', 'Symbol(s)']);
    expect(refusal(() => checkOptions(proxy, [], 'The options of start'))).toMatchObject({ code: 'INVALID_OPTION' });
    expect([quoted('x'.repeat(64)), quoted('x'.repeat(65))]).toEqual([
      ...[`"${'x'.repeat(64)}"`, `"${'x'.repeat(64)}..."`],
    ]);
  });

  it('is told with its option and what to give, and nothing where it fits', () => {
    expect(refusal(() => check(false, 'limit', 0, 'a number from 1'))).toMatchObject({
      ...{ code: 'INVALID_OPTION', message: 'limit is 0. Give a number from 1. [INVALID_OPTION]' },
    });
    expect(refusal(() => check(false, 'id', '', 'a text', 'INVALID_ID'))?.code).toBe('INVALID_ID');
    expect(refusal(() => check(true, 'limit', 0, 'a number'))).toBe(accepted);
  });
});

describe('options', () => {
  const of = (options: unknown) => refusal(() => checkOptions(options, ['tags', 'delay'], 'The options of start'));

  it('may be left out, and are an object of those that there are', () => {
    const bare = Object.assign(Object.create(null), { delay: 1 });
    const foreign = runInNewContext('({ tags: [] })');
    for (const fine of [undefined, {}, { tags: [], delay: undefined }, bare, foreign]) expect(of(fine)).toBe(accepted);
    for (const [options, said] of [
      [null, 'null'],
      [[], 'an empty array'],
      ['x', '"x"'],
      [() => 1, 'a function'],
      [new Map([['tags', []]]), 'an object'],
      [new Date(), 'an object'],
      [new (class Options {})(), 'an object'],
      [Object.create({ tags: [] }), 'an object'],
    ] as const)
      expect(of(options)).toMatchObject({
        ...{
          code: 'INVALID_OPTION',
          message: expect.stringContaining(`The options of start is ${said}. Give a plain object`),
        },
      });
  });

  it('that are misspelt are named, with those that there are', () => {
    const said = of({ tags: [], dealy: 1 })?.message;
    expect(said).toContain('An option in the options of start is "dealy". Give tags, delay.');
  });
});

describe('a name', () => {
  const of = (name: unknown) => refusal(() => checkName(name, 'a job'));

  it('has 1 to 256 characters, and does not start as ours do', () => {
    for (const name of ['a', ' ', 'x'.repeat(256), 'my stepfast:', 'stepfast']) expect(of(name)).toBe(accepted);
    for (const [name, said] of [
      ['', '""'],
      ['x'.repeat(257), '"xxx'],
      ['stepfast:job', '"stepfast:job"'],
      [5, '5'],
      [undefined, 'undefined'],
    ] as const) {
      const refused = of(name);
      expect(refused?.code).toBe('INVALID_NAME');
      expect(refused?.message).toContain(`The name of a job is ${said}`);
      expect(refused?.message).toContain('Give 1 to 256 characters, not starting with "stepfast:"');
    }
  });
});

describe('an integer', () => {
  it('is whole, and not below the least', () => {
    const of = (value: unknown) => refusal(() => checkInteger(value, 'version', 1));
    expect([of(1), of(2 ** 40)]).toEqual([accepted, accepted]);
    for (const value of [0, 1.5, '2', Infinity, Number.NaN, null])
      expect(of(value)).toMatchObject({
        code: 'INVALID_OPTION',
        message: expect.stringContaining(`version is ${quoted(value)}. Give an integer of at least 1`),
      });
  });
});

describe('an id or a key', () => {
  it('is a text of 1 to 256 characters', () => {
    const of = (value: unknown) => refusal(() => checkText(value, 'runId', 'INVALID_ID'));
    expect([of('a'), of('x'.repeat(256)), of('stepfast:a')]).toEqual([accepted, accepted, accepted]);
    for (const value of ['', 'x'.repeat(257), 5, null])
      expect(of(value)).toMatchObject({
        code: 'INVALID_ID',
        message: expect.stringContaining(`runId is ${quoted(value)}. Give a text of 1 to 256 characters`),
      });
  });
});

describe('E2: a correlation key', () => {
  it('is left out, or a text that is not empty, however long', () => {
    const said: string[] = [];
    const of = (key: unknown) => refusal(() => checkKey(given(key), (message) => said.push(message)));
    for (const key of [undefined, 'a', 'x'.repeat(10_000), 'stepfast:a']) expect(of(key)).toBe(accepted);
    for (const key of ['', null, 5])
      expect(of(key)).toMatchObject({
        code: 'INVALID_KEY',
        message: expect.stringContaining(`correlationKey is ${quoted(key)}. Give a text that is not empty`),
      });
    expect(said).toEqual([]);
  });

  it('that looks like a missing value is told, and taken', () => {
    const told = (key: string) => {
      const said: string[] = [];
      checkKey(key, (message) => said.push(message));
      return said;
    };
    for (const key of ['user-undefined', 'null', 'user-NaN', '[object Object]'])
      expect(told(key)).toEqual([expect.stringContaining(`The correlation key ${JSON.stringify(key)}`)]);
    for (const key of ['user-1', 'ZONaNge3']) expect(told(key)).toEqual([]); // an id is anything
  });
});

it('B: a store and a clock have all that is asked of them, and are named where they have not', () => {
  const fn = () => undefined;
  const methods = ['open', 'close', 'commit', 'due', 'load', 'list', 'state', 'watch'];
  const store = { ...Object.fromEntries(methods.map((name) => [name, fn])), capabilities: {} };
  const storeSaid = {
    code: 'INVALID_OPTION',
    message: expect.stringMatching(/^store is .*Give a store, for example memoryStore/),
  };
  expect(refusal(() => checkStore(store))).toBe(accepted);
  for (const missing of [...methods, 'capabilities'])
    expect([missing, refusal(() => checkStore({ ...store, [missing]: undefined }))]).toEqual([
      missing,
      expect.objectContaining(storeSaid),
    ]);
  for (const odd of [undefined, null, {}]) expect(refusal(() => checkStore(odd))).toMatchObject(storeSaid);
  const clockSaid = {
    code: 'INVALID_OPTION',
    message: expect.stringMatching(/^clock is .*Give a clock, or leave it out/),
  };
  expect(refusal(() => checkClock({ now: fn, setTimer: fn }))).toBe(accepted);
  for (const odd of [null, { now: fn }, { setTimer: fn }])
    expect(refusal(() => checkClock(odd))).toMatchObject(clockSaid);
});
