import { StepfastError } from './errors.js';
import type { RetryOptions } from './retry.js';
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

const MAX_NAME = 256;

/** A name of a job, step, event, wait or queue; anything else is `INVALID_NAME`. */
export function checkName(name: unknown, what: string): string {
  if (typeof name === 'string' && name !== '' && name.length <= MAX_NAME && !name.startsWith('stepfast:')) return name;
  const found = typeof name === 'string' ? JSON.stringify(name.slice(0, 40)) : String(typeof name);
  throw new StepfastError(
    'INVALID_NAME',
    `The name of ${what} is ${found}. Give it 1 to ${MAX_NAME} characters, not starting with "stepfast:".`,
  );
}

/** An integer of at least `min`; anything else is `INVALID_OPTION`. */
export function checkInteger(value: unknown, option: string, min: number): void {
  if (Number.isInteger(value) && (value as number) >= min) return;
  throw new StepfastError('INVALID_OPTION', `${option} is ${show(value)}. Give an integer of at least ${min}.`);
}

/** A value for an error message: short, and never a payload. */
export const show = (value: unknown): string =>
  typeof value === 'string'
    ? JSON.stringify(value.slice(0, 60))
    : typeof value === 'object'
      ? Object.prototype.toString.call(value)
      : String(value);

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
  if (typeof handler !== 'function')
    throw new StepfastError('INVALID_OPTION', `The handler of job "${name}" is ${show(handler)}. Give a function.`);
  checkInteger(options.version ?? 1, `version of job "${name}"`, 1);
  checkInteger(options.maxInterruptions ?? 10, `maxInterruptions of job "${name}"`, 1);
  const { queue } = options;
  if (queue !== undefined) checkName(typeof queue === 'string' ? queue : queue.name, `the queue of job "${name}"`);
  if (typeof queue === 'object') checkInteger(queue.concurrency ?? 1, `queue.concurrency of job "${name}"`, 1);
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
