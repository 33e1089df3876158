import { check, checkInteger, checkName } from './check.js';
import { StepfastError } from './errors.js';
import { type RetryOptions, resolveRetry } from './retry.js';
import type { Step } from './step.js';

/** The interface of https://standardschema.dev (version 1), as far as it is needed: zod 4, valibot, arktype have it. */
export interface StandardSchema<Output = unknown> {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
    readonly types?: { readonly input: unknown; readonly output: Output } | undefined;
  };
}
type SchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly { readonly message: string }[] };

/** What a handler is called with. */
export interface HandlerContext<Payload> {
  /** A copy of what `start` was given, as the schema left it. */
  readonly payload: Payload;
  readonly step: Step;
  readonly run: {
    readonly id: string;
    readonly job: string;
    readonly createdAt: number;
    readonly tags: readonly string[];
  };
  /** Aborts when the run is cancelled, the engine closes or another owner takes the run. */
  readonly signal: AbortSignal;
}

/** The durable function itself. Between steps it must do nothing but compute: it is replayed. */
export type Handler<Payload, Result> = (context: HandlerContext<Payload>) => Result | Promise<Result>;

/** How a job behaves. */
export interface JobOptions<Payload = unknown, Result = unknown> {
  /** Schema of the payload, checked at `start`. */
  readonly payload?: StandardSchema<Payload>;
  /** Schema of the result, checked before the run completes. A result that fails it fails the run. */
  readonly result?: StandardSchema<Result>;
  /** Default: that of the engine. */
  readonly retry?: RetryOptions;
  /** A run is only driven by code of its version or a later one. Integer from 1. Default 1. */
  readonly version?: number;
  /** The lane it waits in. Default: `default`, shared by all jobs that name none. */
  readonly queue?: string | { readonly name: string; readonly concurrency?: number };
  /** Interruptions in a row without progress before the run fails with `CRASH_LOOP`. Default 10. */
  readonly maxInterruptions?: number;
}

/** A job: a name, a handler, and how it behaves. Create one with `stepfast.job` or `defineJob`. */
export interface Job<Payload = unknown, Result = unknown> {
  readonly name: string;
  readonly options: JobOptions<Payload, Result>;
  readonly handler: Handler<Payload, Result>;
}

/** A job of any payload and result, for places that only pass it on. */
export interface AnyJob {
  readonly name: string;
  readonly options: JobOptions;
  readonly handler: (context: HandlerContext<never>) => unknown;
}

/** Both ways to define a job: with options first (payload and result inferred), or the handler alone. */
export interface DefineJob {
  <Payload, Result>(
    name: string,
    options: JobOptions<Payload, Result>,
    handler: Handler<Payload, Result>,
  ): Job<Payload, Result>;
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
  checkName(name, 'a job');
  const of = (option: string) => `${option} of job "${name}"`;
  check(typeof options === 'object' && options !== null, of('The options'), options, 'an object');
  check(typeof handler === 'function', of('The handler'), handler, 'a function');
  const { payload, result, retry, version = 1, maxInterruptions = 10, queue = 'default' } = options;
  for (const [option, schema] of Object.entries({ payload, result }))
    check(!schema || '~standard' in schema, of(option), schema, 'a Standard Schema, such as one of zod 4');
  resolveRetry(retry);
  checkInteger(version, of('version'), 1);
  checkInteger(maxInterruptions, of('maxInterruptions'), 1);
  const { name: lane, concurrency = 1 } = typeof queue === 'string' ? { name: queue } : queue;
  checkName(lane, of('the queue'));
  checkInteger(concurrency, of('queue.concurrency'), 1);
  return { name, options, handler };
};

/** Runs a value through a schema; `INVALID_PAYLOAD` (or the code given) with the schema's issues. */
export async function validate(schema: StandardSchema | undefined, value: unknown, what: string): Promise<unknown> {
  if (!schema) return value;
  const checked = await schema['~standard'].validate(value);
  if (!checked.issues) return checked.value;
  const said = checked.issues.map((issue) => issue.message).join('; ');
  throw new StepfastError('INVALID_PAYLOAD', `${what} does not fit its schema: ${said}.`, { issues: checked.issues });
}
