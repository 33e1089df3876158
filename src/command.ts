import type { RetryOptions } from './retry.js';

/*
 * What a handler can ask for, as data: made by step.ts, carried by replay.ts, executed by driver.ts.
 */

/** What the function of a step is called with. */
export interface StepContext {
  /** From 1. Counts failures and interruptions, so it may skip a number after a takeover. */
  readonly attempt: number;
  /** The same for every attempt of this step of this run: hand it to the server that does the work. */
  readonly idempotencyKey: string;
  /** Aborts when the run is cancelled, the engine closes or another owner takes the run. */
  readonly signal: AbortSignal;
}

export interface StepOptions {
  /** Over those of the start, the job and the engine, field by field. */
  readonly retry?: RetryOptions;
}

/** What an ask wants done. The replay itself looks at `kind` alone. */
export type Command =
  | {
      readonly kind: 'run';
      readonly fn: (context: StepContext) => unknown;
      readonly options: { readonly retry?: RetryOptions };
    }
  | { readonly kind: 'sleep'; readonly until: (now: number) => number }
  | {
      readonly kind: 'wait';
      readonly events: readonly string[];
      readonly key?: string;
      readonly timeoutMs?: number;
      readonly onTimeout: 'fail' | 'continue' | 'cancel';
      readonly lookbackMs?: number;
    };
