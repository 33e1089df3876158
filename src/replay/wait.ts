import type { EventType } from '../door/event.js';
import { checkSchema, type StandardSchema, sayIssues } from '../door/job.js';
import type { Platform } from '../platform.js';
import { check, checkKey, checkName, checkOptions } from '../values/check.js';
import type { Codec } from '../values/codec.js';
import { type Duration, durationMs } from '../values/duration.js';
import { nameOf } from '../values/kinds.js';
import type { Verdict, WaitCommand } from './command.js';

/** An event that a wait has taken. */
export interface ReceivedEvent<Payload, Name extends string = string> {
  readonly timedOut: false;
  readonly id: string;
  readonly name: Name;
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

export interface WaitOptions<Payload = unknown> {
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
  /** Only an event whose payload this says yes to; others stay for whoever else wants them. Pure: it may be asked again. One that throws says no, and `onError` is told. */
  readonly match?: (payload: Payload) => boolean;
  /** Only an event whose payload fits; one that does not is left, and the timeline says so. Its output is what the handler gets. */
  readonly schema?: StandardSchema<Payload, unknown>;
}

const OPTIONS = ['name', 'correlationKey', 'timeout', 'onTimeout', 'lookback', 'match', 'schema'];

export type GivenEvent = string | EventType;

/** The names that a wait listens to, as given. */
export const eventNames = (given: GivenEvent | readonly GivenEvent[]): string[] =>
  [given].flat().map((each) => nameOf(each as GivenEvent));

/** The name of a wait that was given none: that of its event, or all of theirs. */
export const waitName = (given: unknown, events: readonly string[]): string => {
  const [first] = events;
  const areTexts = events.every((event) => typeof event === 'string');
  return Array.isArray(given) && areTexts ? JSON.stringify(events) : (first as string);
};

/** Checks a wait's arguments and makes its command. */
export function waitCommand(
  events: readonly string[],
  options: WaitOptions<never>,
  { codec, platform }: { readonly codec: Codec; readonly platform: Platform },
): WaitCommand {
  checkOptions(options, OPTIONS, 'The options of waitForEvent');
  const { correlationKey, timeout, onTimeout = 'fail', lookback, match, schema } = options;
  check(!!events.length, 'The names of waitForEvent', events, 'at least one', 'INVALID_NAME');
  for (const event of events) checkName(event, 'an event');
  checkKey(correlationKey, platform.warn);
  const isKnown = ['fail', 'continue', 'cancel'].includes(onTimeout);
  check(isKnown, 'onTimeout', onTimeout, '"fail", "continue" or "cancel"');
  check(match === undefined || typeof match === 'function', 'match', match, 'a function');
  if (schema !== undefined) checkSchema(schema, 'schema');
  return {
    kind: 'wait',
    events,
    onTimeout,
    ...(correlationKey !== undefined && { key: correlationKey }),
    ...(timeout !== undefined && { timeoutMs: durationMs(timeout, 'timeout') }),
    ...(lookback !== undefined && { lookbackMs: lookback === 'any' ? Infinity : durationMs(lookback, 'lookback') }),
    ...((match || schema) && { judge: judgeOf(match, schema, codec) }),
  };
}

/** The schema first: `match` may rely on the shape. */
const judgeOf =
  (match: WaitOptions<never>['match'], schema: StandardSchema | undefined, codec: Codec) =>
  async (given: unknown): Promise<Verdict> => {
    const checked = schema ? await schema['~standard'].validate(given) : { value: given };
    if (checked.issues) return { kind: 'refused', reason: sayIssues(checked.issues) };
    const isFit: unknown = match ? match(checked.value as never) : true;
    // A promise would count as yes, whatever it says later.
    const isPromise = typeof (isFit as { readonly then?: unknown } | undefined)?.then === 'function';
    check(!isPromise, 'What match gave', isFit, 'an answer at once: true or false, not a promise');
    if (!isFit) return { kind: 'other' };
    return { kind: 'fits', payload: codec.encode(checked.value, 'what the schema of a wait made of an event') };
  };
