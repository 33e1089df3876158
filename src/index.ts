import { createEngine, type EngineOptions, type Stepfast } from './engine.js';
import { systemPlatform } from './system.js';

/**
 * Creates an engine. Synchronous, no I/O, no side effect until first use.
 *
 * @param options.store Where runs are kept, for example `indexedDBStore()` or `fileStore({ dir })`.
 * @throws {StepfastError} `INVALID_OPTION`, `INVALID_DURATION`.
 * @example const stepfast = createStepfast({ store: indexedDBStore({ name: 'app' }) });
 */
export const createStepfast = (options: EngineOptions): Stepfast =>
  createEngine(systemPlatform(options?.clock), options ?? {});

export type { StepContext, StepOptions } from './command.js';
export type { DispatchOptions, Receipt } from './dispatch.js';
export type { Duration } from './duration.js';
// The engine and its runs
export type { EngineOptions, Stepfast } from './engine.js';
export type { ErrorCode, ErrorPlace } from './errors.js';
// Errors
export { EventTimeoutError, FatalError, isStepfastError, RetryableError, StepError, StepfastError } from './errors.js';
export { defineEvent, type EventType } from './event.js';
export type { RunError, RunSnapshot, RunStatus, TimelineEntry } from './inspect.js';
export type {
  AnyJob,
  DefineJob,
  FailedContext,
  Handler,
  HandlerContext,
  Job,
  JobOptions,
  MigratedRun,
  Migration,
  RetentionOptions,
  StandardSchema,
} from './job.js';
// Jobs and steps
export { defineJob } from './job.js';
export type { JournalEntry } from './journal.js';
export type { Json } from './json.js';
export type { Log } from './log.js';
export type { Clock } from './platform.js';
export type { Committed, Plugin, PluginHost } from './plugin.js';
export type { QueueOptions } from './queue.js';
export type { RetryOptions } from './retry.js';
export type { ForkOptions, ListFilter, RunHandle, Runs } from './runs.js';
export type { StartOptions } from './start.js';
export type { Expiry, Lock, State } from './state.js';
export type { ChildOptions, Step } from './step.js';
// For authors of stores and platforms
export type * from './store.js';
export type { ReceivedEvent, TimedOut, WaitOptions } from './wait.js';
export type {
  ExportedRun,
  ExportOptions,
  Schedule,
  Scheduled,
  ScheduleOptions,
  ScheduleStartOptions,
  Transfer,
} from './words.js';
