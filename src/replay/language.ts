import type { DispatchOptions, Receipt } from '../door/dispatch.js';
import type { EventType } from '../door/event.js';
import type { Job } from '../door/job.js';
import type { StartOptions } from '../door/start.js';
import type { Duration } from '../values/duration.js';
import type { StepContext, StepOptions } from './command.js';
import type { GivenEvent, ReceivedEvent, TimedOut, WaitOptions } from './wait.js';

/*
 * The words of the step language, as a handler sees them. What they do is in step.ts.
 */

/** Options of `step.call` and `step.start`: those of a start, and the name under which it is recorded. */
export interface ChildOptions extends Omit<StartOptions, 'allowUnregistered'> {
  /** Default: the name of the job. */
  readonly name?: string;
}

type ChildArguments<Payload> = undefined extends Payload
  ? [payload?: Payload, options?: ChildOptions]
  : [payload: Payload, options?: ChildOptions];

/** What a wait gets: of several events one of them. Of a plain name nothing is known but the name. */
type ReceivedOf<Given> = Given extends readonly (infer Event)[]
  ? ReceivedOf<Event>
  : Given extends EventType<infer Payload, infer _, infer Name>
    ? ReceivedEvent<Payload, Name>
    : ReceivedEvent<unknown, Given & string>;
type PayloadOf<Given> = ReceivedOf<Given>['payload'];
/** `Payload` comes from elsewhere: it was named, or a `schema` or `match` of the wait says it. Else it is `never`. */
type ListedAs<Payload> = [Payload] extends [never] ? never : NamedAs<Payload> | readonly NamedAs<Payload>[];
type NamedAs<Payload> = string | EventType<NoInfer<Payload>>;
type NotContinued = { readonly onTimeout?: 'fail' | 'cancel' };

/** The words a handler has. Each is recorded under its name; what is recorded never runs again. */
export interface Step {
  /**
   * Runs `fn` once and records what it returns; after a reload or crash the recorded value is returned instead.
   *
   * A failing attempt is retried (default: 5 attempts, 1 s to 1 min apart). The value is a copy of what was stored.
   *
   * @param name 1 to 256 characters; the second use of a name in a run is its second occurrence.
   * @throws {StepError} `STEP_FAILED` when the last attempt has failed; the original is its `cause`.
   * @example const user = await step.run('create-user', ({ idempotencyKey }) => api.create(email, idempotencyKey));
   */
  run<Value>(
    name: string,
    fn: (context: StepContext) => Value | Promise<Value>,
    options?: StepOptions<Value>,
  ): Promise<Value>;
  /**
   * Writes rows of the app and the step's result in one transaction: exactly once, where `run` is at least once.
   *
   * Needs a store that shares a database with the app: `indexedDBStore({ database })`. Elsewhere the run is blocked.
   *
   * @param scope What `fn` reads and writes; IndexedDB: names of object stores of the app.
   * @param fn Awaits nothing but requests of `tx`. Its result is what the step gives.
   * @throws {StepError} `STEP_FAILED` when the last attempt has failed: what `fn` threw is its `cause`.
   * @example await step.transaction('book', ['seats'], (tx: IDBTransaction) => void tx.objectStore('seats').put(seat));
   */
  transaction<Value, Transaction = unknown>(
    name: string,
    scope: readonly string[],
    fn: (tx: Transaction) => Value | Promise<Value>,
    options?: Pick<StepOptions, 'retry'>,
  ): Promise<Value>;
  /**
   * Waits until an event is dispatched with the same correlation key, and returns that event.
   *
   * The wait is recorded before it starts, so it outlives reloads and crashes; an event that came after the run was
   * started, but before the wait, is not lost. Of several events the first one ends the wait; its `name` says which.
   *
   * @throws {EventTimeoutError} `EVENT_TIMEOUT` when the timeout passes and `onTimeout` is `'fail'`.
   * @example const { payload } = await step.waitForEvent<{ code: string }>('email.verified', { correlationKey: userId, timeout: '24h' });
   */
  waitForEvent<Payload = unknown>(
    event: string | EventType<Payload>,
    options?: WaitOptions<Payload> & NotContinued,
  ): Promise<ReceivedEvent<Payload>>;
  /** With `onTimeout: 'continue'`, or where the type leaves that open, the deadline may have passed: look at `timedOut`. */
  waitForEvent<Payload = unknown>(
    event: string | EventType<Payload>,
    options: WaitOptions<Payload>,
  ): Promise<ReceivedEvent<Payload> | TimedOut>;
  /** Of several events, whose payload is named or checked here. */
  waitForEvent<Payload = never>(
    events: ListedAs<Payload>,
    options?: WaitOptions<Payload> & NotContinued,
  ): Promise<ReceivedEvent<NoInfer<Payload>>>;
  waitForEvent<Payload = never>(
    events: ListedAs<Payload>,
    options: WaitOptions<Payload>,
  ): Promise<ReceivedEvent<NoInfer<Payload>> | TimedOut>;
  /** Of several events: it is one of them, and its `name` says which payload it has. That of a plain name is unknown. */
  waitForEvent<const Given extends GivenEvent | readonly GivenEvent[]>(
    events: Given,
    options?: WaitOptions<PayloadOf<Given>> & NotContinued,
  ): Promise<ReceivedOf<Given>>;
  waitForEvent<const Given extends GivenEvent | readonly GivenEvent[]>(
    events: Given,
    options: WaitOptions<PayloadOf<Given>>,
  ): Promise<ReceivedOf<Given> | TimedOut>;
  /**
   * Pauses for a duration, weeks if need be; the instant of waking is recorded once.
   *
   * @example await step.sleep('cool-down', '30 days');
   */
  sleep(name: string, duration: Duration): Promise<void>;
  /** Pauses until an instant: a `Date`, epoch milliseconds, or ISO 8601 with offset. Already past: goes on at once. */
  sleepUntil(name: string, instant: Date | number | string): Promise<void>;
  /**
   * Dispatches an event exactly once, however often the step is repeated.
   *
   * @param options.name What it is recorded as. Default: the name of the event.
   * @throws {StepError} `STEP_FAILED` when the event is refused for good, e.g. with `RUN_NOT_FOUND`.
   */
  dispatch(event: string, payload?: unknown, options?: DispatchOptions & { readonly name?: string }): Promise<Receipt>;
  dispatch<Payload, Input>(
    event: EventType<Payload, Input>,
    ...rest: undefined extends Input
      ? [payload?: Input, options?: DispatchOptions & { readonly name?: string }]
      : [payload: Input, options?: DispatchOptions & { readonly name?: string }]
  ): Promise<Receipt>;
  /**
   * Starts a child run and waits for its end, weeks if need be. Cancelling this run cancels it.
   *
   * @throws {StepError} `STEP_FAILED` when the child has failed or was cancelled; its error is the `cause`.
   * @example const invoice = await step.call(createInvoice, { orderId });
   */
  call<Payload, Result, Input>(
    job: Job<Payload, Result, Input>,
    ...rest: ChildArguments<NoInfer<Input>>
  ): Promise<Result>;
  call(job: string, payload?: unknown, options?: ChildOptions): Promise<unknown>;
  /** Starts a child run and does not wait for it. Cancelling this run cancels it. */
  start<Payload, Result, Input>(
    job: Job<Payload, Result, Input>,
    ...rest: ChildArguments<NoInfer<Input>>
  ): Promise<{ readonly id: string }>;
  start(job: string, payload?: unknown, options?: ChildOptions): Promise<{ readonly id: string }>;
  /**
   * Like `Promise.race`, and the losers are withdrawn: a wait takes no event any more, a function's `signal` aborts and
   * its result is dropped, a child run goes on unwatched.
   *
   * @param steps What `step.*` returned; other promises may stand among them.
   * @example const first = await step.race([step.waitForEvent('paid'), step.sleep('patience', '1h')]);
   */
  race<const Steps extends readonly unknown[]>(steps: Steps): Promise<Awaited<Steps[number]>>;
  /**
   * Ends this journal and begins the run anew with this payload, under the same id: for loops without end.
   *
   * Never returns; what stands behind it is not reached. Steps in flight are finished first.
   *
   * @example return step.restart({ ...payload, round: payload.round + 1 });
   */
  restart(payload?: unknown): Promise<never>;
  /** Epoch milliseconds, the same on every replay. */
  now(): Promise<number>;
  /** A random UUID, the same on every replay. */
  uuid(): Promise<string>;
  /** A number from 0 to 1, 1 excluded, the same on every replay. */
  random(): Promise<number>;
}
