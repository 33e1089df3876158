import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { checkRetry, resolveRetry, retryDelayMs } from '../src/values/retry.js';

describe('the retry policy', () => {
  test('has documented defaults', () => {
    const defaults = { maxAttempts: 5, initialDelayMs: 1000, factor: 2, maxDelayMs: 60_000, jitter: true };
    expect(resolveRetry()).toEqual(defaults);
    expect(resolveRetry(undefined, {}, { maxAttempts: undefined })).toEqual(defaults);
  });

  test('takes each field from the first layer that has it', () => {
    const step = { maxAttempts: 1, jitter: false };
    const job = { maxAttempts: 9, initialDelay: '5s', factor: 1 } as const;
    const engine = { initialDelay: 1, maxDelay: '1h', jitter: true } as const;
    expect(resolveRetry(step, undefined, job, engine)).toEqual({
      maxAttempts: 1,
      initialDelayMs: 5000,
      factor: 1,
      maxDelayMs: 3_600_000,
      jitter: false,
    });
  });

  test('may never give up', () => {
    expect(resolveRetry({ maxAttempts: Number.POSITIVE_INFINITY }).maxAttempts).toBe(Number.POSITIVE_INFINITY);
  });

  test.each([
    [{ maxAttempts: 0 }, 'INVALID_OPTION', 'retry.maxAttempts is 0. Give a whole number from 1, or Infinity'],
    [{ maxAttempts: 1.5 }, 'INVALID_OPTION', 'retry.maxAttempts is 1.5'],
    [{ maxAttempts: '3' }, 'INVALID_OPTION', 'retry.maxAttempts is "3"'],
    [{ maxAttempts: Number.NaN }, 'INVALID_OPTION', 'retry.maxAttempts is NaN'],
    [{ maxAttempts: null }, 'INVALID_OPTION', 'retry.maxAttempts is null'],
    [{ factor: 0.5 }, 'INVALID_OPTION', 'retry.factor is 0.5. Give a finite number from 1'],
    [{ factor: Number.POSITIVE_INFINITY }, 'INVALID_OPTION', 'retry.factor is Infinity'],
    [{ jitter: 'full' }, 'INVALID_OPTION', 'retry.jitter is "full". Give true or false'],
    [{ initialDelay: 'soon' }, 'INVALID_DURATION', 'retry.initialDelay is "soon"'],
    [{ maxDelay: -1 }, 'INVALID_DURATION', 'retry.maxDelay is -1'],
    [3, 'INVALID_OPTION', 'retry is 3. Give an object'],
    [null, 'INVALID_OPTION', 'retry is null'],
  ])('%j is refused at the door', (layer, code, text) => {
    expect(() => resolveRetry(undefined, layer as never)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(text) }),
    );
  });

  test('is made of options that there are: one that is misspelt is named, and where it stands', () => {
    const every = { maxAttempts: 3, initialDelay: '1s', factor: 2, maxDelay: '1m', jitter: true } as const;
    for (const retry of [undefined, {}, every]) expect(() => checkRetry(retry)).not.toThrow();
    const code = 'INVALID_OPTION';
    const refusing = (text: string) => expect.objectContaining({ code, message: expect.stringContaining(text) });
    expect(() => checkRetry({ attempts: 3 } as never)).toThrow(refusing('option in retry is "attempts"'));
    expect(() => checkRetry({ attempts: 3 } as never, (option) => `${option} of job "mail"`)).toThrow(
      refusing('option in retry of job "mail" is "attempts"'),
    );
    expect(() => checkRetry({ factor: 0 })).toThrow(refusing('retry.factor is 0'));
    expect(() => checkRetry(5 as never)).toThrow(refusing('retry is 5. Give a plain object'));
  });
});

describe('the delay before a retry', () => {
  test('doubles up to the maximum', () => {
    const policy = resolveRetry({ jitter: false });
    const delays = [1, 2, 3, 4, 5, 6, 7, 8].map((failed) => retryDelayMs(policy, failed, 0.5));
    expect(delays).toEqual([1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
  });

  test('is half certain and half random', () => {
    const policy = resolveRetry();
    expect(retryDelayMs(policy, 1, 0)).toBe(500);
    expect(retryDelayMs(policy, 1, 0.5)).toBe(750);
    expect(retryDelayMs(policy, 1, 0.9999)).toBe(1000);
  });

  test('is a number within its bounds whatever the policy', () => {
    const numbers = fc.record({
      initialDelay: fc.oneof(fc.constant(0), fc.nat()),
      factor: fc.double({ min: 1, max: 1e308, noNaN: true }),
      maxDelay: fc.nat(),
      jitter: fc.boolean(),
    });
    const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
    fc.assert(
      fc.property(numbers, fc.oneof(fc.nat(), fc.constant(1e300)), random, (options, failed, draw) => {
        const delay = retryDelayMs(resolveRetry(options), failed, draw);
        const full = retryDelayMs(resolveRetry({ ...options, jitter: false }), failed, draw);
        expect(delay).toBeGreaterThanOrEqual(Math.floor(full / 2));
        expect(delay).toBeLessThanOrEqual(full);
        expect(full).toBeLessThanOrEqual(options.maxDelay);
        expect(full).toBeGreaterThanOrEqual(Math.min(options.initialDelay, options.maxDelay));
      }),
    );
  });
});
