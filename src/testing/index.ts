/** Tools for tests of jobs and of stores. */
export { type SimulatedClock, simulatedClock } from './clock.js';
export {
  type ConformanceCase,
  type ConformanceEnv,
  type ConformanceResult,
  conformanceCases,
  type FreshMedium,
  runConformance,
  storeConformance,
} from './conformance.js';
export { type CrashOptions, type CrashReport, type CrashViolation, crashEverywhere } from './crash-everywhere.js';
export { type FailingStore, failingStore, type StoreCall, type StoreFault } from './failing-store.js';
export { type ReplayableRun, type ReplayedAsk, type ReplayOptions, type ReplayReport, replay } from './replay.js';
export type { OpenedWait, PlayOptions, Scenario, StepFake, UndoFake } from './scenario.js';
export { type TestedRun, testRun } from './test-run.js';
