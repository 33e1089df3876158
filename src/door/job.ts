import { StepfastError } from '../errors.js';
import type { Step } from '../replay/language.js';
import type { RunError } from '../run/inspect.js';
import type { Log } from '../run/log.js';
import { read, type Work } from '../store/transition/work.js';
import { check, checkInteger, checkName, checkOptions } from '../values/check.js';
import { type Duration, durationMs, positiveMs } from '../values/duration.js';
import { pathText } from '../values/encode.js';
import { isObject } from '../values/kinds.js';
import { checkRetry, type RetryOptions } from '../values/retry.js';
import { checkQueue, type QueueOptions } from './queue.js';
import type { State } from './state.js';

/** The interface of https://standardschema.dev (version 1), as far as it is needed: zod 4, valibot, arktype have it. */
export interface StandardSchema<Output = unknown, Input = Output> {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  };
}
type SchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly SchemaIssue[] };
export interface SchemaIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/** What a handler is called with. */
export interface HandlerContext<Payload> {
  /** A copy of what `start` was given, as the schema left it. */
  readonly payload: Payload;
  readonly step: Step;
  /** Shared state, live: reads are fresh at each replay, writes happen at least once. Inside a step it is exact: prefer that. */
  readonly state: State;
  /** Lines that are kept with the run, silent while it is replayed. */
  readonly log: Log;
  readonly run: {
    readonly id: string;
    readonly job: string;
    readonly createdAt: number;
    readonly tags: readonly string[];
    /** How often `step.restart` began it anew. */
    readonly generation: number;
    /** The tick of the schedule that started it, and how many before it were missed. */
    readonly schedule?: { readonly name: string; readonly tick: number; readonly missed: number };
  };
  /** Aborts when the run is cancelled, the engine closes or another owner takes the run. */
  readonly signal: AbortSignal;
}

/** The durable function itself. Between steps it must do nothing but compute: it is replayed. */
export type Handler<Payload, Result> = (context: HandlerContext<Payload>) => Result | Promise<Result>;

/** How a job behaves. */
export interface JobOptions<Payload = unknown, Result = unknown, Input = Payload> {
  /** Schema of the payload, checked at `start`: given its input, the handler gets its output. */
  readonly payload?: StandardSchema<Payload, Input>;
  /** Schema of the result, checked before the run completes. A result that fails it fails the run (`INVALID_PAYLOAD`). */
  readonly result?: StandardSchema<Result, unknown>;
  /** Default: that of the engine. */
  readonly retry?: RetryOptions;
  /** A run is only driven by code of its version or a later one. Integer from 1. Default 1. */
  readonly version?: number;
  /** The lane it waits in. Default: `default`, shared by all jobs that name none. */
  readonly queue?: string | QueueOptions<Payload>;
  /** Interruptions in a row without progress before the run fails with `CRASH_LOOP`. Default 10. */
  readonly maxInterruptions?: number;
  /**
   * From the first claim, the time for which code did not fit it (`blocked`) left out; then the run fails with `RUN_TIMEOUT`.
   * Time in which no open context has the job counts, for nothing is written then. Default: none.
   */
  readonly timeout?: Duration;
  /** How long a run is kept once it has ended. `Infinity` keeps it. One duration for all, or one for each end. */
  readonly retention?: Duration | RetentionOptions;
  /** Called when a run has failed for good: at least once, where the job is registered. */
  onFailed?(context: FailedContext<Payload>): void | Promise<void>;
  /**
   * What becomes of runs that code of an earlier version has begun: `continue` replays them, `restart` begins them anew
   * with their payload, `migrate` asks `migrate`, `abandon` cancels them, `block` leaves them alone. Default: `migrate`
   * where there is such a function, else `continue`.
   */
  readonly upgrade?: 'continue' | 'restart' | 'migrate' | 'abandon' | 'block';
  /** Fits a run that code of an earlier version has begun to this code. Must be pure. */
  readonly migrate?: (run: MigratedRun) => Migration;
}

/** How long a run is kept once it has ended, by its end. `Infinity` keeps it. */
export interface RetentionOptions {
  /** Default 7 days. */
  readonly completed?: Duration;
  /** Default 30 days. */
  readonly failed?: Duration;
  /** Default 7 days. */
  readonly cancelled?: Duration;
}

/** What `onFailed` is called with. */
export interface FailedContext<Payload = unknown> {
  readonly run: Pick<HandlerContext<Payload>['run'], 'id' | 'job' | 'createdAt' | 'tags'>;
  readonly payload: Payload;
  readonly error: RunError;
  /** Aborts when the engine closes or another owner takes the run. */
  readonly signal: AbortSignal;
}

/** A run that code of an earlier version has begun. */
export interface MigratedRun {
  readonly id: string;
  /** The version that it was begun with. */
  readonly version: number;
  readonly payload: unknown;
  /** What is recorded of it, in order. `value` is absent where a step has failed or is under way. */
  readonly steps: readonly { readonly name: string; readonly occurrence: number; readonly value?: unknown }[];
}

/** How a run is made to fit the present code; what is left out stays as it is. */
export interface Migration {
  readonly payload?: unknown;
  /** New names of steps and waits, by those that they have now: one may take what another gives up. What a run has not come to is passed over. */
  readonly rename?: Readonly<Record<string, string>>;
  /** Names of steps and waits that run anew. What a run has not come to is passed over. */
  readonly forget?: readonly string[];
}

/** A job: a name, a handler, and how it behaves. Create one with `stepfast.job` or `defineJob`. */
export interface Job<Payload = unknown, Result = unknown, Input = Payload> {
  readonly name: string;
  readonly options: JobOptions<Payload, Result, Input>;
  readonly handler: Handler<Payload, Result>;
}

/** A job of any payload and result, for places that only pass it on. */
export interface AnyJob {
  readonly name: string;
  readonly options: JobOptions<unknown, unknown, unknown>;
  readonly handler: (context: HandlerContext<never>) => unknown;
}

/** Both ways to define a job: with options first (payload and result inferred), or the handler alone. */
export interface DefineJob {
  <Payload, Result = unknown, Input = Payload>(
    name: string,
    options: JobOptions<Payload, Result, Input>,
    handler: Handler<Payload, Result>,
  ): Job<Payload, Result, Input>;
  <Payload = undefined, Result = unknown>(name: string, handler: Handler<Payload, Result>): Job<Payload, Result>;
}

/**
 * Defines a job that lives in a module of its own; hand it to `stepfast.register`.
 *
 * @param name 1 to 256 characters; recorded with each run, so it must not change.
 * @throws {StepfastError} `INVALID_NAME`, `INVALID_OPTION`.
 * @example export const greet = defineJob('greet', async ({ step }) => step.run('say', () => 'hello'));
 */
export const defineJob: DefineJob = <Payload, Result>(
  name: string,
  ...rest: [Handler<Payload, Result>] | [JobOptions<Payload, Result>, Handler<Payload, Result>]
): Job<Payload, Result> => {
  const [options, handler] = rest.length === 2 ? rest : [{}, rest[0]];
  const job = { name, options, handler };
  checkJob(job);
  return job;
};

/** Refuses what is no job, also where it was made by hand. */
export function checkJob(job: AnyJob): void {
  check(isObject(job), 'The job', job, 'what defineJob returns');
  const { name, options, handler } = job;
  checkName(name, 'a job');
  const of = (option: string) => `${option} of job "${name}"`;
  check(isObject(options), of('The options'), options, 'an object');
  check(typeof handler === 'function', of('The handler'), handler, 'a function');
  checkJobOptions(options as JobOptions, of);
}

/** Refuses what is not a schema. One may be an object or a function. */
export const checkSchema = (schema: StandardSchema | undefined, option: string): void => {
  const { validate } = schema?.['~standard'] ?? {};
  check(typeof validate === 'function', option, schema, 'a Standard Schema, such as one of zod 4');
};

const UPGRADES: readonly unknown[] = ['continue', 'restart', 'migrate', 'abandon', 'block'];

const OPTIONS = [
  ...['payload', 'result', 'retry', 'version', 'queue', 'maxInterruptions', 'timeout', 'retention'],
  ...['onFailed', 'upgrade', 'migrate'],
];

/** Refuses options of a job that can not work; `of` names them in the refusal. */
function checkJobOptions(options: JobOptions, of: (option: string) => string): void {
  const { payload, result, retry, version = 1, maxInterruptions = 10, queue, timeout, retention } = options;
  const { upgrade, migrate, onFailed } = options;
  checkOptions(options, OPTIONS, of('The options'));
  if (payload !== undefined) checkSchema(payload, of('payload'));
  if (result !== undefined) checkSchema(result, of('result'));
  checkRetry(retry, of);
  checkInteger(version, of('version'), 1);
  checkInteger(maxInterruptions, of('maxInterruptions'), 1);
  if (queue !== undefined) checkQueue(queue, of);
  if (timeout !== undefined) positiveMs(timeout, of('timeout'));
  const isByEnd = isObject(retention);
  if (isByEnd) checkOptions(retention, ['completed', 'failed', 'cancelled'], of('retention'));
  for (const [end, value] of Object.entries(isByEnd ? { ...retention } : { retention }))
    if (value !== undefined && value !== Infinity) durationMs(value, of(isByEnd ? `retention.${end}` : end));
  for (const [option, fn] of Object.entries({ migrate, onFailed }))
    check(fn === undefined || typeof fn === 'function', of(option), fn, 'a function, or leave it out');
  check(upgrade === undefined || UPGRADES.includes(upgrade), of('upgrade'), upgrade, `one of ${UPGRADES.join(', ')}`);
  check(upgrade !== 'migrate' || !!migrate, of('upgrade'), upgrade, 'migrate (a function) beside it');
}

/**
 * Runs a value through a schema; `INVALID_PAYLOAD` with the schema's issues, which are not recorded, and what has become of it
 * then.
 */
export function* validate(
  schema: StandardSchema | undefined,
  value: unknown,
  what: string,
  then = 'nothing was written',
): Work<unknown> {
  if (!schema) return value;
  let checked: Awaited<ReturnType<StandardSchema['~standard']['validate']>>;
  try {
    checked = yield* read(schema['~standard'].validate(value));
    if (checked !== Object(checked)) throw new TypeError('It gave neither a `value` nor `issues`.');
  } catch (cause) {
    const said = `${what} could not be checked: its schema has thrown, which is its \`cause\`; ${then}.`;
    throw new StepfastError('INVALID_PAYLOAD', said, {}, { cause });
  }
  if (!checked.issues) return checked.value;
  const { issues } = checked;
  const said = `${what} ${sayIssues(issues)}: \`issues\`, which are not recorded, say why. Give one that fits; ${then}.`;
  throw new StepfastError('INVALID_PAYLOAD', said, { issues });
}

/** Where a value does not fit its schema: places alone, for what a schema says of them may quote the value (spec V4). */
export function sayIssues(issues: readonly SchemaIssue[]): string {
  const places = issues.map(({ path = [] }) => pathText(path.map((at) => (typeof at === 'object' ? at.key : at))));
  return `does not fit its schema at ${[...new Set(places)].join(', ')}`;
}
