import { check, checkOptions } from './check.js';
import { type Duration, durationMs } from './duration.js';
import { isObject } from './kinds.js';

/** How often, and how soon, a failed attempt is repeated. Fields left out come from the job, then the engine. */
export interface RetryOptions {
  /** Attempts in all, the first one included; `1` never retries, `Infinity` never gives up. Default: 5. */
  readonly maxAttempts?: number | undefined;
  /** Delay after the first failed attempt. Default: `'1s'`. */
  readonly initialDelay?: Duration | undefined;
  /** Each further delay is this many times longer; 1 or more. Default: 2. */
  readonly factor?: number | undefined;
  /** No delay is longer. Default: `'1m'`. */
  readonly maxDelay?: Duration | undefined;
  /** Draw each delay between half of it and all of it, so that clients do not retry in step. Default: `true`. */
  readonly jitter?: boolean | undefined;
}

/** Resolved `RetryOptions`. JSON-safe except for `maxAttempts: Infinity`: what stores it goes through the codec. */
export interface RetryPolicy {
  readonly maxAttempts: number;
  readonly initialDelayMs: number;
  readonly factor: number;
  readonly maxDelayMs: number;
  readonly jitter: boolean;
}

const FIELDS = ['maxAttempts', 'initialDelay', 'factor', 'maxDelay', 'jitter'];

/** Refuses retry options at the door; what was recorded by other code is read by `resolveRetry` alone. */
export function checkRetry(retry: RetryOptions | undefined, of = (option: string) => option): void {
  if (retry === undefined) return;
  checkOptions(retry, FIELDS, of('retry'));
  resolveRetry(retry);
}

const DEFAULTS: Required<RetryOptions> = {
  maxAttempts: 5,
  initialDelay: '1s',
  factor: 2,
  maxDelay: '1m',
  jitter: true,
};

/**
 * One policy out of several layers, field by field; the first layer that has a field wins.
 *
 * @throws {StepfastError} `INVALID_OPTION` or `INVALID_DURATION`, with the option's name and value.
 */
export function resolveRetry(...layers: readonly (RetryOptions | undefined)[]): RetryPolicy {
  for (const layer of layers) {
    check(layer === undefined || isObject(layer), 'retry', layer, 'an object of retry options');
  }
  const pick = (key: keyof RetryOptions): unknown =>
    [...layers, DEFAULTS].find((layer) => layer?.[key] !== undefined)?.[key];

  const maxAttempts = pick('maxAttempts');
  const factor = pick('factor');
  const jitter = pick('jitter');
  const whole = Number.isInteger(maxAttempts) || maxAttempts === Number.POSITIVE_INFINITY;
  check(whole && (maxAttempts as number) >= 1, 'retry.maxAttempts', maxAttempts, 'a whole number from 1, or Infinity');
  check(Number.isFinite(factor) && (factor as number) >= 1, 'retry.factor', factor, 'a finite number from 1');
  check(typeof jitter === 'boolean', 'retry.jitter', jitter, 'true or false');
  return {
    maxAttempts: maxAttempts as number,
    initialDelayMs: durationMs(pick('initialDelay'), 'retry.initialDelay'),
    factor: factor as number,
    maxDelayMs: durationMs(pick('maxDelay'), 'retry.maxDelay'),
    jitter: jitter as boolean,
  };
}

/** Delay before the next attempt after `failedAttempts` (1 or more) have failed; `random` is in [0, 1). */
export function retryDelayMs(policy: RetryPolicy, failedAttempts: number, random: number): number {
  // factor ** 2000 is Infinity, and 0 * Infinity would be NaN.
  const growth = Math.min(policy.factor ** Math.max(0, failedAttempts - 1), Number.MAX_VALUE);
  const delay = Math.min(policy.initialDelayMs * growth, policy.maxDelayMs);
  // Equal jitter (M. Brooker, "Exponential Backoff and Jitter"): half is certain, so a retry is never at once.
  return Math.round(policy.jitter ? (delay / 2) * (1 + random) : delay);
}
