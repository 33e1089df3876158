import type { State } from '../door/state.js';
import type { Log } from '../run/log.js';
import type { RunChange } from '../store/batch.js';
import type { MadeWord, StepWord } from '../store/journal.js';
import type { Duration } from '../values/duration.js';
import type { Json } from '../values/json.js';
import type { RetryOptions } from '../values/retry.js';

/*
 * What a handler can ask for, as data: made by step.ts, carried by replay.ts, executed by driver.ts.
 */

/** What the function of a step is called with. */
export interface StepContext {
  /** From 1. Counts failures and interruptions, so it may skip a number after a takeover. */
  readonly attempt: number;
  /** The same for every attempt of this step of this run: hand it to the server that does the work. */
  readonly idempotencyKey: string;
  /** Aborts when the attempt times out, the run is cancelled, the engine closes or another owner takes the run. */
  readonly signal: AbortSignal;
  /** Shared state: what is set here is written with the result of this attempt, or not at all. */
  readonly state: State;
  /** Lines that are kept with the run. */
  readonly log: Log;
  /** Tells subscribers how far the step is; only the latest is kept. */
  progress(value: unknown): void;
}

/** What the undoing of a step is called with. */
export interface UndoContext<Value = unknown> {
  /** What the step returned; `undefined` when that is not known: it was begun, and may or may not have happened. */
  readonly result: Value | undefined;
  readonly attempt: number;
  /** That of the step, with `/undo` behind it; of what a fork was given, the one that the step had in the other run. */
  readonly idempotencyKey: string;
  readonly signal: AbortSignal;
  readonly log: Log;
}

export interface StepOptions<Value = unknown> {
  /** Over those of the start, the job and the engine, field by field. */
  readonly retry?: RetryOptions;
  /** An attempt that takes longer is aborted and counts as failed. Default: none. */
  readonly timeout?: Duration;
  /** `online`: no attempt is begun while the platform is offline. */
  readonly when?: 'online';
  /** Takes the step back when the run fails or is cancelled; steps are undone in reverse order, with their retries. */
  readonly undo?: (context: UndoContext<Value>) => unknown;
}

/** A step, as what is entered: a function of the user, or one of ours that stands for it. */
export interface FunctionCommand {
  readonly kind: 'run' | StepWord;
  readonly fn: (context: StepContext, inner: InnerContext) => unknown;
  readonly retry?: RetryOptions;
  readonly timeoutMs?: number;
  readonly isOnline?: boolean;
  readonly undo?: (context: UndoContext<never>) => unknown;
  /** Of `transaction`, which calls this and not `fn`: the app's part of one transaction with its result. */
  readonly shared?: { readonly scope: readonly string[]; readonly body: (tx: never) => unknown };
  /** Of `call`: the job, for the timeline. */
  readonly job?: string;
}

/** What our own functions get besides: whom they act for. */
export interface InnerContext {
  readonly runId: string;
  /** With the idempotency key, names what the step starts and sends: another run may have this id one day. */
  readonly createdAt: number;
  /** To be committed along: nothing happens for an owner that has lost the run. */
  readonly confirm: RunChange;
}

export interface WaitCommand {
  readonly kind: 'wait';
  readonly events: readonly string[];
  readonly key?: string;
  readonly timeoutMs?: number;
  readonly onTimeout: 'fail' | 'continue' | 'cancel';
  readonly lookbackMs?: number;
  /** Whether a payload is what the wait is for, and what the handler gets of it. Absent: every one is. */
  readonly judge?: (payload: unknown) => Promise<Verdict>;
}

/** What a wait says of an event that fits it by name and key. */
export type Verdict =
  | { readonly kind: 'fits'; readonly payload: Json }
  /** `match` said no. */
  | { readonly kind: 'other' }
  /** The schema said no: `reason`. */
  | { readonly kind: 'refused'; readonly reason: string };

/** What an ask wants done. The replay itself looks at `kind` alone. */
export type Command =
  | FunctionCommand
  | WaitCommand
  | { readonly kind: 'sleep'; readonly until: (now: number) => number }
  | { readonly kind: 'make'; readonly word: MadeWord; readonly make: () => Json };

/** The command of an ask that has a function to enter. */
export const functionOf = (command: Command): FunctionCommand | undefined => ('fn' in command ? command : undefined);
