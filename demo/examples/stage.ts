import type { EngineOptions, Stepfast } from 'stepfast';
import type { SimulatedClock } from 'stepfast/testing';

/*
 * What an example plays on: one store, one clock, and an app that can be closed or killed and opened again. The tests
 * give every store; `npm run example -- checkout` gives a memory store and prints what is said.
 */

export interface Stage {
  readonly clock: SimulatedClock;
  /** Opens the app: a new engine on the same store. One that is still open is killed first, as a crash would. */
  open(define: (stepfast: Stepfast) => void, options?: Partial<EngineOptions>): Stepfast;
  /** For whoever watches. */
  say(line: string): void;
}

/** One example: what it returns is what its test looks at. */
export type Example<Outcome = unknown> = (stage: Stage) => Promise<Outcome>;
