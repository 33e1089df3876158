import { createEngine, type Stepfast } from './engine/engine.js';
import type { EngineOptions } from './engine/options.js';
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

export type { DispatchOptions, Receipt } from './door/dispatch.js';
export { defineEvent, type EventType } from './door/event.js';
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
  SchemaIssue,
  StandardSchema,
} from './door/job.js';
// Jobs and steps
export { defineJob } from './door/job.js';
export type { QueueOptions } from './door/queue.js';
export type { Start, Started, StartInner, StartOptions } from './door/start.js';
export type { Expiry, Lock, State } from './door/state.js';
// The engine and its runs
export type { Stepfast } from './engine/engine.js';
export type { EngineOptions } from './engine/options.js';
export type { Committed, Plugin, PluginHost } from './engine/plugin.js';
export type { ForkOptions, RunHandle, Runs } from './engine/runs.js';
export type { ListFilter } from './engine/views.js';
export type {
  ExportedRun,
  ExportOptions,
  Schedule,
  Scheduled,
  ScheduleOptions,
  ScheduleStartOptions,
  Transfer,
} from './engine/words.js';
export type { ErrorCode, ErrorPlace } from './errors.js';
// Errors
export { EventTimeoutError, FatalError, isStepfastError, RetryableError, StepError, StepfastError } from './errors.js';
export type { Clock, Platform } from './platform.js';
export type { StepContext, StepOptions, UndoContext } from './replay/command.js';
export type { ChildOptions, Step } from './replay/language.js';
export type { ReceivedEvent, TimedOut, WaitOptions } from './replay/wait.js';
export type { RunError, RunSnapshot, RunStatus, TimelineEntry, WaitingFor } from './run/inspect.js';
export type { Log } from './run/log.js';
// For authors of stores and platforms
export type * from './store/batch.js';
export type { JournalEntry, RecordedError } from './store/journal.js';
export type * from './store/rows.js';
export type * from './store/store.js';
export type { Codec } from './values/codec.js';
export type { Duration } from './values/duration.js';
export type { Json } from './values/json.js';
export type { RetryOptions } from './values/retry.js';
