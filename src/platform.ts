/*
 * The seams between the core and where it runs. The core asks these and nothing else for time, timers, randomness and
 * ids; `system.ts` is their standard implementation, `stepfast/testing` has a simulated clock.
 */

declare global {
  // The platform's own type where there is one; the core is compiled without any platform's types.
  interface AbortSignal {
    readonly aborted: boolean;
  }
}

/** Time, as the engine sees it. */
export interface Clock {
  /** Epoch milliseconds. May jump either way; stored instants decide, never differences. */
  now(): number;
  /**
   * Calls back once: when the clock shows `at`, or when as much time is over as there was up to then, though the clock was set
   * back since; in both cases a little later is allowed. Returns its undoing. `isIdle`: nothing is missed if the process ends
   * before.
   */
  setTimer(at: number, callback: () => void, isIdle?: boolean): () => void;
  /** Told that work is under way until the returned function is called. A simulated clock waits for it. */
  hold?(): Hold;
}

/** Ends a hold of a clock. */
export interface Hold {
  (): void;
  /** Whether the clock has lost its patience with this work, and moved on without it. */
  readonly hangs?: () => boolean;
}

/** What the platform gives to an engine. */
export interface Platform {
  readonly clock: Clock;
  /** A macrotask: calls back after every microtask that is queued now, and those that they queue. */
  hop(callback: () => void): void;
  /** Real time, even under a simulated clock: how long to be patient with things that no clock moves. */
  patience(ms: number, callback: () => void): () => void;
  newId(): string;
  /** A random UUID (version 4). */
  newUuid(): string;
  /** Calls a step's function: while it runs, as far as the platform can tell, `isInStep` is true (spec R9). */
  inStep<T>(fn: () => T): T;
  /** What `inStep` has called is over: it threw, or what it returned has settled. Once for each call. */
  leaveStep(): void;
  /** Calls what does not belong to the step function that happens to have caused it. */
  outOfStep<T>(fn: () => T): T;
  isInStep(): boolean;
  /** Whether there is a network, as far as the platform can tell. */
  isOnline(): boolean;
  /** 0 to 1, 1 excluded. */
  random(): number;
  /** The signal is made when it is first asked for: few functions do. */
  newAbort(): { readonly signal: AbortSignal; abort(reason: unknown): void };
  /** Calls back when the page became visible, was thawed, or is online again. Returns its undoing. */
  onWake(callback: () => void): () => void;
  /** For developers; silent in production. */
  warn(message: string): void;
  /** Errors that nobody else hears of. */
  report(error: unknown): void;
  readonly URL: new (href: string) => unknown;
}
