import { describe, expect, it } from 'vitest';
import { type ErrorCode, FatalError, RetryableError, type RetryOptions, StepfastError } from '../src/index.js';
import { carriesFailure, createRetries, isOutage } from '../src/run/failures.js';
import type { LiveRun } from '../src/run/live-run.js';
import type { RecordedError } from '../src/store/journal.js';
import { createCodec } from '../src/values/codec.js';

// Pins: what a failure means, alone: whether it is tried again, and when (spec F1, F2, F3, R5).

const codec = createCodec({ URL, blobs: true });
const fixed = (seconds: number, maxAttempts = 3): RetryOptions => ({
  initialDelay: `${seconds}s`,
  factor: 1,
  jitter: false,
  maxAttempts,
});

function open(given: { start?: RetryOptions; job?: RetryOptions; engine?: RetryOptions } = {}) {
  const errors: unknown[] = [];
  const retry = given.start && codec.encode(given.start, '');
  const { retryDelay } = createRetries({
    host: {
      codec,
      platform: { random: () => 0.5 } as never,
      retry: given.engine,
      report: (error) => void errors.push(error),
    },
    run: { digest: { retry } } as unknown as LiveRun,
    job: { options: { retry: given.job } } as never,
  });
  return { errors, retryDelay };
}

describe('an attempt that failed', () => {
  it('F1: is tried again after the delay of the policy, until there have been enough', () => {
    const { retryDelay } = open();
    const error = new Error('no');
    expect([1, 2, 3, 4].map((failures) => retryDelay(error, fixed(5), failures))).toEqual([
      5_000,
      5_000,
      undefined,
      undefined,
    ]);
  });

  it('F1: what the step says goes before the start, that before the job, and that before the engine', () => {
    const [step, start, job, engine] = [fixed(1), fixed(2), fixed(3), fixed(4)];
    const delay = (given: Parameters<typeof open>[0], own?: RetryOptions) =>
      open(given).retryDelay(new Error('no'), own, 1);
    expect(delay({ start, job, engine }, step)).toBe(1_000);
    expect(delay({ start, job, engine })).toBe(2_000);
    expect(delay({ job, engine })).toBe(3_000);
    expect(delay({ engine })).toBe(4_000);
    expect(delay({})).toBeGreaterThan(0);
  });

  it('F3: a FatalError is never tried again, be it of a subclass, or of another copy of the library', () => {
    const { retryDelay } = open();
    class Mine extends FatalError {}
    class Foreign extends Error {
      static {
        Foreign.prototype.name = 'FatalError';
      }
    }
    const named = Object.assign(new Error('own'), { name: 'FatalError' });
    for (const error of [new FatalError('no'), new Mine('no'), new Foreign('no'), named])
      expect(retryDelay(error, fixed(5), 1)).toBeUndefined();
    for (const error of ['FatalError', undefined, null, 1, { name: 'Other' }])
      expect(retryDelay(error, fixed(5), 1)).toBe(5_000);
    const odd = new Proxy(new Error('odd'), {
      getPrototypeOf() {
        throw new Error('not readable');
      },
    });
    expect(retryDelay(odd, fixed(5), 1)).toBe(5_000);
  });

  it('F3: a refusal that would be the same the next time is not tried again; any other error of the library is', () => {
    const { retryDelay } = open();
    const delay = (code: string) => retryDelay(new StepfastError(code as ErrorCode, 'no'), fixed(5), 1);
    const fatal =
      'NOT_SERIALIZABLE VALUE_TOO_LARGE NESTED_STEP IDEMPOTENCY_CONFLICT RUN_NOT_FOUND INVALID_OPTION INVALID_PAYLOAD';
    for (const code of fatal.split(' ')) expect([code, delay(code)]).toEqual([code, undefined]);
    for (const code of ['STORE_UNAVAILABLE', 'STEP_TIMEOUT', 'NOT_A_NUMBER'])
      expect([code, delay(code)]).toEqual([code, 5_000]);
    // An error of somebody else may have such a code.
    expect(retryDelay(Object.assign(new Error('theirs'), { code: 'NOT_SERIALIZABLE' }), fixed(5), 1)).toBe(5_000);
  });

  it('F3: a RetryableError says when; one that says nothing of use is told, and the policy decides', () => {
    const { retryDelay, errors } = open();
    expect(retryDelay(new RetryableError('later', { after: '7s' }), fixed(5), 1)).toBe(7_000);
    expect(retryDelay(new RetryableError('later', { after: '7s' }), fixed(5), 3)).toBeUndefined();
    expect(retryDelay(Object.assign(new RetryableError('later'), { after: undefined }), fixed(5), 1)).toBe(5_000);
    expect(retryDelay(Object.assign(new Error('no'), { after: '7s' }), fixed(5), 1)).toBe(5_000);
    expect(errors).toEqual([]);
    expect(retryDelay(Object.assign(new RetryableError('later'), { after: 'soon' }), fixed(5), 1)).toBe(5_000);
    expect(errors).toEqual([expect.objectContaining({ code: 'INVALID_DURATION' })]);
    expect(String(errors[0])).toContain('RetryableError.after');
  });
});

describe('what kind of failure it is', () => {
  it('D5: an outage of the store is one of its codes', () => {
    const error = (code: string) => new StepfastError(code as ErrorCode, 'no');
    expect(['STORE_UNAVAILABLE', 'QUOTA_EXCEEDED'].map((code) => isOutage(error(code)))).toEqual([true, true]);
    expect(['STORE_CORRUPT', 'CLOSED'].map((code) => isOutage(error(code)))).toEqual([false, false]);
    expect([isOutage(Object.assign(new Error('theirs'), { code: 'QUOTA_EXCEEDED' })), isOutage(undefined)]).toEqual([
      false,
      false,
    ]);
  });

  it('F2: one that is, or carries, a recorded failure is told at any depth', () => {
    const error = (code?: string, more: object = {}): RecordedError => ({
      name: 'Error',
      message: 'm',
      ...(code && { code }),
      ...more,
    });
    for (const code of ['STEP_FAILED', 'EVENT_TIMEOUT']) {
      expect(carriesFailure(error(code))).toBe(true);
      expect(carriesFailure(error('E', { cause: error(code) }))).toBe(true);
      expect(carriesFailure(error('E', { errors: [error(), error('E', { cause: error(code) })] }))).toBe(true);
    }
    expect([carriesFailure(error()), carriesFailure(error('E', { cause: error('F'), errors: [error('G')] }))]).toEqual([
      false,
      false,
    ]);
  });
});
