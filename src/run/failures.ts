import type { AnyJob } from '../door/job.js';
import { isStepfastError } from '../errors.js';
import type { RecordedError } from '../store/journal.js';
import { durationMs } from '../values/duration.js';
import { type RetryOptions, type RetryPolicy, resolveRetry, retryDelayMs } from '../values/retry.js';
import type { DriverHost } from './host.js';
import type { LiveRun } from './live-run.js';

/*
 * What a failure means: whether it is tried again, and when.
 */

export interface Retries {
  /**
   * The delay before the next attempt; `undefined`: there is none (spec F1, F3).
   *
   * @param options Those of the step itself.
   * @param failures How many attempts have failed, with this one.
   */
  retryDelay(error: unknown, options: RetryOptions | undefined, failures: number): number | undefined;
}

export function createRetries({
  host: { codec, platform, retry, report },
  run,
  job,
}: {
  readonly host: Pick<DriverHost, 'codec' | 'platform' | 'retry' | 'report'>;
  readonly run: LiveRun;
  readonly job: AnyJob;
}): Retries {
  const policyOf = (step?: RetryOptions): RetryPolicy => {
    const start = run.digest.retry === undefined ? undefined : (codec.decode(run.digest.retry) as RetryOptions);
    return resolveRetry(step, start, job.options.retry, retry);
  };
  return {
    retryDelay(error, options, failures) {
      const policy = policyOf(options);
      if (failures >= policy.maxAttempts || isNamed(error, 'FatalError')) return undefined;
      if (isStepfastError(error) && FATAL.test(error.code)) return undefined;
      if (isNamed(error, 'RetryableError'))
        try {
          const { after } = error as { readonly after?: unknown };
          if (after !== undefined) return durationMs(after, 'RetryableError.after');
        } catch (invalid) {
          report(invalid); // the step failed, whatever is wrong with its wish: the policy decides
        }
      return retryDelayMs(policy, failures, platform.random());
    },
  };
}

/** Refusals that say the same however often they are asked. */
const FATAL = /^(NOT_SERIALIZABLE|VALUE_TOO_LARGE|NESTED_STEP|IDEMPOTENCY_CONFLICT|RUN_NOT_FOUND|INVALID_\w+)$/;

export const isOutage = (error: unknown) =>
  isStepfastError(error) && /^(STORE_UNAVAILABLE|QUOTA_EXCEEDED)$/.test(error.code);

/** Whether an error is of this class or a subclass, of this or another copy of the library. */
const isNamed = (error: unknown, name: string): boolean => {
  try {
    for (let proto = error; proto instanceof Object; proto = Object.getPrototypeOf(proto))
      if (Object.hasOwn(proto, 'name') && (proto as { readonly name?: unknown }).name === name) return true;
  } catch {} // what can not be read is of no class
  return false;
};

/** Whether an error is, or carries, a failure that is recorded: trying the handler again would repeat it (spec F2). */
export const carriesFailure = ({ code, cause, errors = [] }: RecordedError): boolean =>
  code === 'STEP_FAILED' || code === 'EVENT_TIMEOUT' || [...errors, ...(cause ? [cause] : [])].some(carriesFailure);
