// biome-ignore-all lint/complexity/noThisInStatic: by its own name in it, esbuild would call the class `_StepError`
import type { Duration } from './values/duration.js';

/**
 * Every code a `StepfastError` can carry. A closed list; codes never change once released. When each comes, and what to do:
 * docs/errors.md.
 */
export type ErrorCode =
  | 'INVALID_NAME'
  | 'INVALID_PAYLOAD'
  | 'INVALID_DURATION'
  | 'INVALID_OPTION'
  | 'INVALID_KEY'
  | 'INVALID_ID'
  | 'NOT_SERIALIZABLE'
  | 'VALUE_TOO_LARGE'
  | 'UNKNOWN_JOB'
  | 'DUPLICATE_JOB'
  | 'IDEMPOTENCY_CONFLICT'
  | 'EVENT_BACKLOG_FULL'
  | 'RUN_NOT_FOUND'
  | 'RUN_NOT_FAILED'
  | 'RUN_ACTIVE'
  | 'NOT_A_NUMBER'
  | 'STATE_CHANGED'
  | 'NESTED_STEP'
  | 'STEP_TIMEOUT'
  | 'TRANSACTION_ENDED'
  | 'RUN_TIMEOUT'
  | 'MISSING_PLUGIN'
  | 'UPGRADE_BLOCKED'
  | 'MIGRATION_FAILED'
  | 'RUN_CANCELLED'
  | 'EVENT_TIMEOUT'
  | 'STEP_FAILED'
  | 'CRASH_LOOP'
  | 'JOURNAL_FULL'
  | 'TOO_MANY_WAITS'
  | 'REPLAY_MISMATCH'
  | 'LEASE_LOST'
  | 'CLOSED'
  | 'STORE_LOCKED'
  | 'STORE_CORRUPT'
  | 'STORE_TOO_NEW'
  | 'STORE_UNAVAILABLE'
  | 'QUOTA_EXCEEDED'
  | 'KEY_MISSING'
  | 'NOTHING_DUE'
  | 'NOT_CRASH_SAFE'
  | 'PORT_LOST'
  | 'NOT_OVER_PORT'
  | 'OUTDATED';

/** Where something happened. Ids and names only, never payloads (spec V4). */
export interface ErrorPlace {
  readonly job?: string;
  readonly runId?: string;
  readonly step?: string;
  /** Of a recorded failure: what it is in the journal, for `runs.retry`. */
  readonly identity?: readonly ['step' | 'wait', string, number];
  /** Path inside a value, e.g. `$.user.onClick`. */
  readonly path?: string;
  /** What a schema said: it may quote the value. Of the error as it was thrown, never of a recorded one. */
  readonly issues?: readonly unknown[];
  /** File and byte offset of damaged data. */
  readonly file?: string;
  readonly offset?: number;
  /** Process that holds a file store. */
  readonly pid?: number;
  /** Of the original error, when it had one. */
  readonly data?: unknown;
}

/** The one family of errors that stepfast throws. Match by `code`, not by `instanceof`: a page can hold two copies. */
export class StepfastError extends Error implements ErrorPlace {
  static {
    this.prototype.name = 'StepfastError'; // a literal: minifiers rename classes, journals keep names
  }
  readonly code: ErrorCode;
  declare readonly job?: string;
  declare readonly runId?: string;
  declare readonly step?: string;
  declare readonly identity?: readonly ['step' | 'wait', string, number];
  declare readonly path?: string;
  declare readonly issues?: readonly unknown[];
  declare readonly file?: string;
  declare readonly offset?: number;
  declare readonly pid?: number;
  declare readonly data?: unknown;
  constructor(code: ErrorCode, message: string, place: ErrorPlace = {}, options?: ErrorOptions) {
    super(`${message} [${code}]`, options);
    this.code = code;
    Object.assign(this, place);
  }
}
/** A step failed for good: thrown into the handler, with the original in `cause`. */
export class StepError extends StepfastError {
  static {
    this.prototype.name = 'StepError';
  }
}

/** A wait with `onTimeout: 'fail'` passed its deadline. */
export class EventTimeoutError extends StepfastError {
  static {
    this.prototype.name = 'EventTimeoutError';
  }
}

/** Throw it from a step or a handler: it will not be retried. */
export class FatalError extends Error {
  static {
    this.prototype.name = 'FatalError';
  }
}

/** Throw it from a step to set the delay before the next attempt yourself. */
export class RetryableError extends Error {
  static {
    this.prototype.name = 'RetryableError';
  }
  /** Milliseconds, or a duration such as `'30s'`. */
  readonly after: Duration | undefined;
  constructor(message: string, options?: ErrorOptions & { readonly after?: Duration }) {
    super(message, options);
    this.after = options?.after;
  }
}

/**
 * Whether `error` is a `StepfastError`, and with this code if one is given. Also one of another copy of the library or of
 * another realm, and the `error` of a snapshot: its code decides, never its class.
 */
export function isStepfastError(error: unknown, code?: ErrorCode): error is StepfastError {
  try {
    const { code: found, message } = (error ?? {}) as Partial<StepfastError>;
    return (
      typeof found === 'string' &&
      typeof message === 'string' &&
      message.endsWith(`[${code ?? found}]`) &&
      (code === undefined || found === code)
    );
  } catch {
    return false; // it can not even be read: a getter that throws, a proxy that was revoked
  }
}
