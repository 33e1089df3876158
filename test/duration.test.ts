import { describe, expect, expectTypeOf, test } from 'vitest';
import { type Duration, durationMs, instantMs, MAX_DURATION_MS, positiveMs } from '../src/values/duration.js';

describe('durations', () => {
  test.each([
    ['24h', 86_400_000],
    ['1 day', 86_400_000],
    ['1.5h', 5_400_000],
    ['90s', 90_000],
    ['1m', 60_000],
    ['250', 250],
    ['100 years', MAX_DURATION_MS],
    ['1.1h', 3_960_000],
    [`${'0'.repeat(62)}1s`, 1000],
    [0, 0],
    [1500, 1500],
    [1.4, 1],
  ])('%j is %d milliseconds', (value, expected) => {
    expect(durationMs(value, 'timeout')).toBe(expected);
  });

  test('-0 is 0', () => {
    expect(Object.is(durationMs(-0, 'timeout'), 0)).toBe(true);
    expect(Object.is(durationMs('-0s', 'timeout'), 0)).toBe(true);
  });

  test.each([
    '',
    ' ',
    'soon',
    '24 parsecs',
    '-1h',
    '1h30m',
    '1h ',
    '1e3',
    'NaN',
    'Infinity',
    '101 years',
    `${'0'.repeat(64)}1s`,
    -1,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    MAX_DURATION_MS + 1,
    undefined,
    null,
    true,
    5n,
    Symbol('x'),
    {},
    [],
    ['1h'],
    new Date(0),
    () => 1,
    Object.create(null),
  ])('%s is refused, never 0 or NaN', (value) => {
    expect(() => durationMs(value, 'retry.maxDelay')).toThrow(
      expect.objectContaining({ code: 'INVALID_DURATION', message: expect.stringMatching(/^retry\.maxDelay is /) }),
    );
  });

  test('the refusal quotes the value, cut short, and says what would do', () => {
    expect(() => durationMs('1h30m', 'timeout')).toThrow(/timeout is "1h30m".*"1\.5h"/);
    expect(() => durationMs(-5, 'timeout')).toThrow(/timeout is -5,/);
    expect(() => durationMs({ secret: 'hunter2' }, 'timeout')).toThrow(/^timeout is an object,/);
    const message = (() => {
      try {
        durationMs('z'.repeat(1_000_000), 'timeout');
      } catch (error) {
        return (error as Error).message;
      }
      return '';
    })();
    expect(message).toContain('zzz...');
    expect(message.length).toBeLessThan(400);
  });

  test('a unit that does not exist does not compile', () => {
    expectTypeOf<'24h'>().toExtend<Duration>();
    expectTypeOf<'24 parsecs'>().not.toExtend<Duration>();
  });
});

test('a duration of something is longer than nothing', () => {
  expect([positiveMs('1s', 'delay'), positiveMs(1, 'delay')]).toEqual([1000, 1]);
  const refused = expect.objectContaining({ code: 'INVALID_DURATION', message: expect.stringContaining('delay is 0') });
  expect(() => positiveMs(0, 'delay')).toThrow(refused);
});

describe('instants', () => {
  const at = Date.UTC(2026, 2, 1, 9);
  test.each([
    [new Date(at), at],
    [at, at],
    [-1, -1],
    [0, 0],
    [8.64e15, 8.64e15],
    ['2026-03-01T09:00:00Z', at],
    ['2026-03-01T09:00Z', at],
    ['2026-03-01T09:00:00.250Z', at + 250],
    ['2026-03-01T10:00:00+01:00', at],
    ['2024-02-29T00:00:00Z', Date.UTC(2024, 1, 29)],
  ])('%j is accepted', (value, expected) => {
    expect(instantMs(value, 'startAt')).toBe(expected);
  });

  test('-0 is 0', () => {
    expect(Object.is(instantMs(-0, 'startAt'), 0)).toBe(true);
  });

  test.each([
    new Date(Number.NaN),
    Number.NaN,
    Number.POSITIVE_INFINITY,
    8.64e15 + 2,
    '',
    'tomorrow',
    '2026-03-01',
    '2026-03-01T09:00:00',
    '2026-03-01 09:00:00Z',
    '2026-02-30T09:00:00Z',
    '2026-02-29T09:00:00Z',
    '2026-13-01T09:00:00Z',
    '2026-03-01T25:00:00Z',
    '2026-03-01T09:00:00+0100',
    '2026-03-01T09:00:00Z ',
    '2026-03-01 (2026-03-01T09:00:00Z', // Date.parse takes it for a date and a comment
    '1772355600000',
    null,
    undefined,
    true,
    5n,
    {},
  ])('%s is refused', (value) => {
    expect(() => instantMs(value, 'startAt')).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringMatching(/^startAt is /) }),
    );
  });
});
