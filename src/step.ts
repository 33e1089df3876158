import { check, checkKey, checkName } from './check.js';
import type { Codec } from './codec.js';
import type { Command, StepContext, StepOptions } from './command.js';
import { type Duration, durationMs, instantMs } from './duration.js';
import { EventTimeoutError, StepError, StepfastError } from './errors.js';
import type { Identity, JournalEntry, OutcomeEntry } from './journal.js';
import type { Replay } from './replay.js';
import { resolveRetry } from './retry.js';

/** An event that a wait has taken. */
export interface ReceivedEvent<Payload> {
  readonly timedOut: false;
  readonly id: string;
  readonly name: string;
  readonly payload: Payload;
  readonly correlationKey?: string;
  /** Epoch milliseconds. */
  readonly acceptedAt: number;
}

/** What a wait with `onTimeout: 'continue'` gives when its deadline has passed. */
export interface TimedOut {
  readonly timedOut: true;
  /** Epoch milliseconds. */
  readonly deadline: number;
}

export interface WaitOptions {
  /** The wait's own name. Default: the name of the event. */
  readonly name?: string;
  /** Only an event dispatched with the same key fits; without one, only an event without one. */
  readonly correlationKey?: string;
  /** From the moment of recording, e.g. `'24h'`. Default: no timeout. */
  readonly timeout?: Duration;
  /** `fail` throws an `EventTimeoutError`; `continue` returns `{ timedOut: true }`; `cancel` ends the run. Default `fail`. */
  readonly onTimeout?: 'fail' | 'continue' | 'cancel';
  /** Also take events that no run has taken from before this run was started: all, or this far back. */
  readonly lookback?: 'any' | Duration;
}

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
  run<Value>(name: string, fn: (context: StepContext) => Value | Promise<Value>, options?: StepOptions): Promise<Value>;
  /**
   * Waits until an event named `event` is dispatched with the same correlation key, and returns that event.
   *
   * The wait is recorded before it starts, so it outlives reloads and crashes; an event that came after the run was
   * started, but before the wait, is not lost.
   *
   * @throws {EventTimeoutError} `EVENT_TIMEOUT` when the timeout passes and `onTimeout` is `'fail'`.
   * @example const { payload } = await step.waitForEvent<{ code: string }>('email.verified', { correlationKey: userId, timeout: '24h' });
   */
  waitForEvent<Payload = unknown>(
    event: string | readonly string[],
    options: WaitOptions & { readonly onTimeout: 'continue' },
  ): Promise<ReceivedEvent<Payload> | TimedOut>;
  waitForEvent<Payload = unknown>(
    event: string | readonly string[],
    options?: WaitOptions,
  ): Promise<ReceivedEvent<Payload>>;
  /**
   * Pauses for a duration, weeks if need be; the instant of waking is recorded once.
   *
   * @example await step.sleep('cool-down', '30 days');
   */
  sleep(name: string, duration: Duration): Promise<void>;
  /** Pauses until an instant: a `Date`, epoch milliseconds, or ISO 8601 with offset. Already past: goes on at once. */
  sleepUntil(name: string, instant: Date | number | string): Promise<void>;
}

/** The bad arguments of a `step.*` call are a fault of the code: the run is blocked, nothing is thrown at the handler. */
const guarded = <T>(read: () => T): { readonly value?: T; readonly fault?: Error } => {
  try {
    return { value: read() };
  } catch (fault) {
    return { fault: fault as Error };
  }
};

/** Makes the step object of one pass. */
export function createStep(replay: () => Replay, codec: Codec, warn: (message: string) => void): Step {
  const ask = <Value>(
    namespace: 'step' | 'wait',
    name: unknown,
    read: () => Command,
    settled: (outcome: OutcomeEntry) => unknown,
  ): Promise<Value> => {
    const { value, fault } = guarded(() => {
      checkName(name, namespace === 'step' ? 'a step' : 'a wait');
      return read();
    });
    const promise = new Promise<Value>((resolve, reject) => {
      const settle = (outcome: OutcomeEntry) => {
        try {
          resolve(settled(outcome) as Value);
        } catch (error) {
          reject(error);
        }
      };
      replay().ask(namespace, String(name), value ?? ({} as Command), settle, fault);
    });
    promise.catch(() => undefined); // R8: a step nobody awaits never reaches the process as an unhandled rejection
    return promise;
  };
  const sleep = (name: string, read: () => (now: number) => number) =>
    ask<void>(
      'step',
      name,
      () => ({ kind: 'sleep', until: read() }),
      () => undefined,
    );

  return {
    run: (name, fn, options = {}) =>
      ask(
        'step',
        name,
        () => {
          check(typeof fn === 'function', `The function of step "${name}"`, fn, 'a function');
          resolveRetry(options.retry);
          return { kind: 'run', fn, options };
        },
        (outcome) => {
          if (outcome.kind === 'step-completed') return codec.decode(outcome.value);
          const { error, attempt } = outcome as Extract<OutcomeEntry, { kind: 'step-failed' }>;
          const cause = codec.decodeError(error);
          throw new StepError(
            'STEP_FAILED',
            `Step "${name}" failed for good at attempt ${attempt}: ${error.message}`,
            { step: name, identity: ['step', ...outcome.id] },
            { cause },
          );
        },
      ),
    waitForEvent: ((event: string | readonly string[], options: WaitOptions = {}) => {
      const events = typeof event === 'string' ? [event] : event;
      const { name = Array.isArray(event) ? JSON.stringify(event) : event } = options;
      return ask(
        'wait',
        name,
        () => waitCommand(events, options, warn),
        (outcome) => {
          if (outcome.kind === 'event-taken') {
            const { eventId, event, key, payload, acceptedAt } = outcome;
            const correlated = key !== undefined && { correlationKey: key };
            return {
              timedOut: false,
              id: eventId,
              name: event,
              payload: codec.decode(payload),
              ...correlated,
              acceptedAt,
            };
          }
          const { deadline } = outcome as Extract<OutcomeEntry, { kind: 'wait-timed-out' }>;
          if (options.onTimeout === 'continue') return { timedOut: true, deadline };
          throw new EventTimeoutError(
            'EVENT_TIMEOUT',
            `No event ${events.map((each) => `"${each}"`).join(' or ')} came by ${new Date(deadline).toISOString()}.`,
            { step: String(name), identity: ['wait', ...outcome.id] },
          );
        },
      );
    }) as Step['waitForEvent'],
    sleep: (name, duration) =>
      sleep(name, () => {
        const ms = durationMs(duration, `The duration of sleep "${name}"`);
        return (now) => now + ms;
      }),
    sleepUntil: (name, instant) =>
      sleep(name, () => {
        const at = instantMs(instant, `The instant of sleep "${name}"`);
        return () => at;
      }),
  };
}

function waitCommand(events: readonly string[], options: WaitOptions, warn: (message: string) => void): Command {
  const { correlationKey, timeout, onTimeout = 'fail', lookback } = options;
  if (!events.length) checkName('', 'an event');
  for (const event of events) checkName(event, 'an event');
  checkKey(correlationKey, warn);
  const isKnown = ['fail', 'continue', 'cancel'].includes(onTimeout);
  check(isKnown, 'onTimeout', onTimeout, '"fail", "continue" or "cancel"');
  return {
    kind: 'wait',
    events,
    onTimeout,
    ...(correlationKey !== undefined && { key: correlationKey }),
    ...(timeout !== undefined && { timeoutMs: durationMs(timeout, 'timeout') }),
    ...(lookback !== undefined && { lookbackMs: lookback === 'any' ? Infinity : durationMs(lookback, 'lookback') }),
  };
}

const wordOf = (kind: string) =>
  kind.startsWith('sleep') ? 'sleep' : kind[0] === 'w' || kind[0] === 'e' ? 'wait' : 'run';

const shapeOf = (kind: string, events?: readonly string[], key?: string) =>
  kind === 'wait'
    ? `a wait for ${JSON.stringify(events)} with correlation key ${key === undefined ? 'absent' : JSON.stringify(key)}`
    : kind === 'run'
      ? 'a step that runs a function'
      : 'a sleep';

/** Whether an ask fits what its identity is recorded as; if not, the error that quotes both (spec R5). */
export function mismatch(
  { id, command }: { readonly id: Identity; readonly command: Command },
  recorded: JournalEntry | undefined,
  wait: Extract<JournalEntry, { kind: 'wait-set' }> | undefined,
): StepfastError | undefined {
  if (!recorded) return undefined;
  const kind = wordOf(recorded.kind);
  const isWait = command.kind === 'wait';
  const fits =
    kind === command.kind &&
    (!isWait || !wait || (wait.key === command.key && JSON.stringify(wait.events) === JSON.stringify(command.events)));
  if (fits) return undefined;
  const was = shapeOf(kind, wait?.events, wait?.key);
  const is = isWait ? shapeOf('wait', command.events, command.key) : shapeOf(command.kind);
  return new StepfastError(
    'REPLAY_MISMATCH',
    `"${id[0]}" (occurrence ${id[1]}) was recorded as ${was}, but the handler now asks for ${is}. Give the new one another name, or keep the old. The run is blocked, nothing is lost, and it goes on when fitting code is loaded.`,
    { step: id[0] },
  );
}
