import { checkDispatch, type Dispatch, type DispatchOptions } from '../door/dispatch.js';
import type { EventType } from '../door/event.js';
import type { AnyJob } from '../door/job.js';
import { CHILD_OPTIONS, checkStart, type Start } from '../door/start.js';
import { EventTimeoutError, isStepfastError, StepError, StepfastError } from '../errors.js';
import type { Platform } from '../platform.js';
import type { MadeWord, OutcomeEntry } from '../store/journal.js';
import { check, checkName, checkOptions, checkPlain, quoted } from '../values/check.js';
import type { Codec } from '../values/codec.js';
import { durationMs, instantMs, positiveMs } from '../values/duration.js';
import { nameOf } from '../values/kinds.js';
import { checkRetry } from '../values/retry.js';
import type { Command, FunctionCommand, InnerContext, StepContext } from './command.js';
import type { ChildOptions, Step } from './language.js';
import type { Replay } from './replay.js';
import { StepPromise } from './step-promise.js';
import { eventNames, type GivenEvent, type WaitOptions, waitCommand, waitName } from './wait.js';

export interface StepHost {
  readonly codec: Codec;
  readonly platform: Platform;
  readonly start: Start;
  readonly dispatch: Dispatch;
  /** Whether the store shares a database with the app. */
  readonly transact?: unknown;
}

interface StepPass {
  readonly host: StepHost;
  replay(): Replay;
  /** A step that can be undone was asked for. */
  undoable(key: string, command: FunctionCommand): void;
  /** Steps and sleeps that nobody has awaited yet, by their promises. */
  readonly unheard?: Map<object, string>;
}

/**
 * The bad arguments of a `step.*` call are a fault of the code: the run is blocked, nothing is thrown at the handler.
 *
 * @param step Under which name it was asked for: part of what is said.
 */
const guarded = <T>(read: () => T, step?: unknown): { readonly value?: T; readonly fault?: Error } => {
  try {
    return { value: read() };
  } catch (fault) {
    if (isStepfastError(fault) && typeof step === 'string') Object.assign(fault, { step });
    return { fault: fault as Error };
  }
};

/** What a promise of ours stands for in a race: one ask, or those of what it was made of, which a chain finds one by one. */
interface Member {
  readonly keys: readonly string[];
  readonly of: readonly Member[];
  /** It was in a race, and that is decided. */
  isOver?: true;
}
const NONE: readonly never[] = [];

const STEP_OPTIONS = ['retry', 'timeout', 'when', 'undo'];

/** Makes the step object of one pass. */
export function createStep({ host, replay, undoable, unheard }: StepPass): Step {
  const { codec, platform } = host;
  const members = new WeakMap<object, Member>();
  /** What is made of it with `then`, `catch` or `finally` stands in a race for the same, and for what its reactions ask for. */
  const claim = <T extends Promise<unknown>>(promise: T, member: Member): T => {
    const { then } = promise;
    members.set(promise, member);
    promise.then = (...reactions: unknown[]) => {
      const chain: Member = { keys: NONE, of: [member] };
      const linked = reactions.map((reaction) =>
        typeof reaction === 'function' ? link(reaction as never, chain) : reaction,
      );
      return claim(then.apply(promise, linked as []), chain) as never;
    };
    return promise;
  };
  const link = (reaction: (given: unknown) => unknown, chain: Member) => (given: unknown) => {
    const made = reaction(given);
    const next = members.get(Object(made));
    if (next) (chain.of as Member[]).push(next);
    if (next && chain.isOver) withdraw(next);
    return made;
  };
  const withdraw = (member: Member) => {
    if (member.isOver) return;
    member.isOver = true;
    for (const key of member.keys) replay().withdraw(key);
    member.of.forEach(withdraw);
  };
  const refuseNested = (what: string) => {
    if (!platform.isInStep()) return;
    const said = `${what} is asked for inside the function of a step. Call step.* from the handler only, before or after that step.`;
    throw new StepfastError('NESTED_STEP', said);
  };

  /** A copy of options, of which nothing is known yet: a getter that throws is a fault as well. */
  const copyOf = <Options extends object>(given: Options | undefined): Partial<Options> => {
    const { value = {}, fault } = guarded(() => ({ ...given }));
    if (fault) replay().refuse(fault);
    return value;
  };

  const ask = <Value>(
    namespace: 'step' | 'wait',
    name: unknown,
    read: () => Command,
    settled: (outcome: OutcomeEntry) => unknown,
    isOurs = false,
  ): Promise<Value> => {
    const called = typeof name === 'string' ? name : quoted(name); // an object may not be made a text of
    refuseNested(`"${called}"`);
    const { value, fault } = guarded(() => {
      if (!isOurs) checkName(name, namespace === 'step' ? 'a step' : 'a wait (by default that of its events)');
      return read();
    }, name);
    let key: string | undefined;
    const promise = new StepPromise<Value>((resolve, reject) => {
      const settle = (outcome: OutcomeEntry) => {
        try {
          resolve(settled(outcome) as Value);
        } catch (error) {
          reject(error);
        }
      };
      key = replay().ask(namespace, called, value ?? ({} as Command), settle, fault);
    });
    promise.catch(() => undefined); // R8: a step nobody awaits never reaches the process as an unhandled rejection
    if (key === undefined) return promise;
    claim(promise, { keys: [key], of: NONE });
    if (value && 'fn' in value && value.undo) undoable(key, value);
    if (unheard && (value?.kind === 'sleep' || (value && 'fn' in value))) {
      promise.unheard = unheard;
      unheard.set(promise, called);
    }
    return promise;
  };

  const entered = (name: unknown, read: () => FunctionCommand) =>
    ask<never>('step', name, read, (outcome) => {
      if (outcome.kind === 'step-completed' || outcome.kind === 'child-completed') return codec.decode(outcome.value);
      const { error, id } = outcome as Extract<OutcomeEntry, { kind: 'step-failed' | 'child-failed' }>;
      const said =
        outcome.kind === 'child-failed'
          ? `The child run of step "${id[0]}" did not complete`
          : `Step "${id[0]}" failed for good at attempt ${(outcome as { readonly attempt: number }).attempt}`;
      const cause = codec.decodeError(error);
      throw new StepError(
        'STEP_FAILED',
        `${said}: ${error.message}`,
        { step: id[0], identity: ['step', ...id] },
        { cause },
      );
    });

  const sleep = (name: string, read: () => (now: number) => number) =>
    ask<void>(
      'step',
      name,
      () => ({ kind: 'sleep', until: read() }),
      () => undefined,
    );

  const make = <Value extends number | string>(word: MadeWord, made: () => Value) =>
    ask<Value>(
      'step',
      `stepfast:${word}`,
      () => ({ kind: 'make', word, make: made }),
      (outcome) => (outcome as Extract<OutcomeEntry, { kind: 'value-made' }>).value,
      true,
    );

  /** A child run under a key of this very step: however often the step is repeated, it is one child. */
  const child = (kind: 'call' | 'start', job: string | AnyJob, payload: unknown, options?: ChildOptions) => {
    const jobName = nameOf(job);
    const { name = jobName, ...start } = copyOf(options);
    return entered(name, () => {
      checkName(jobName, 'a job');
      checkPlain(options, `The options of step.${kind}`);
      checkStart(start, `The options of step.${kind}`, CHILD_OPTIONS);
      return {
        kind,
        job: jobName,
        async fn({ idempotencyKey }: StepContext, { runId, createdAt, confirm }: InnerContext) {
          const inner = { parentId: runId, key: `stepfast:child:${createdAt}/${idempotencyKey}`, run: confirm };
          const { runId: id } = await host.start(job, payload, start, inner);
          // By its id, a key or a singleton: it would wait for its own end, and keep that key for ever.
          check(kind === 'start' || id !== runId, `The run that step.call gave`, id, 'another than the run itself');
          return { id };
        },
      };
    });
  };

  return {
    run: (name, fn, options) =>
      entered(name, () => {
        checkOptions(options, STEP_OPTIONS, `The options of step "${name}"`);
        const { retry, timeout, when, undo } = options ?? {};
        check(typeof fn === 'function', `The function of step "${name}"`, fn, 'a function');
        check(undo === undefined || typeof undo === 'function', `undo of step "${name}"`, undo, 'a function');
        check(when === undefined || when === 'online', `when of step "${name}"`, when, '"online", or leave it out');
        checkRetry(retry);
        return {
          kind: 'run',
          fn,
          retry,
          undo,
          isOnline: when === 'online',
          timeoutMs: timeout === undefined ? undefined : positiveMs(timeout, `timeout of step "${name}"`),
        };
      }),
    transaction: (name, scope, fn, options) =>
      entered(name, () => {
        checkOptions(options, ['retry'], `The options of transaction "${name}"`);
        const { retry } = options ?? {};
        const isScope = Array.isArray(scope) && scope.length > 0 && scope.every((each) => typeof each === 'string');
        check(isScope, `The scope of transaction "${name}"`, scope, 'an array of names of object stores');
        check(typeof fn === 'function', `The function of transaction "${name}"`, fn, 'a function');
        const wanted = 'a store that shares a database with the app, such as indexedDBStore({ database })';
        check(host.transact !== undefined, 'What the store shares with the app', host.transact, wanted);
        checkRetry(retry);
        return { kind: 'transaction', fn: () => undefined, shared: { scope, body: fn as never }, retry };
      }),
    waitForEvent: ((event: GivenEvent | readonly GivenEvent[], given?: WaitOptions<never>) => {
      const events = eventNames(event);
      const options = copyOf(given);
      const { name = waitName(event, events) } = options;
      return ask(
        'wait',
        name,
        () => {
          checkPlain(given, 'The options of step.waitForEvent');
          return waitCommand(events, options, host);
        },
        (outcome) => {
          if (outcome.kind === 'event-taken') {
            const { eventId, event, key, payload, acceptedAt } = outcome;
            const correlated = key !== undefined && { correlationKey: key };
            const value = codec.decode(payload);
            return { timedOut: false, id: eventId, name: event, payload: value, ...correlated, acceptedAt };
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
    dispatch: ((event: string | EventType, payload?: unknown, given?: DispatchOptions & { readonly name?: string }) => {
      const { name = nameOf(event), ...options } = copyOf(given);
      return entered(name, () => {
        checkPlain(given, 'The options of step.dispatch');
        checkDispatch(event, options, platform, ['name']);
        return {
          kind: 'dispatch',
          fn: ({ idempotencyKey }, { createdAt, confirm }) =>
            host.dispatch(event, payload, options, { id: `stepfast:${createdAt}/${idempotencyKey}`, run: confirm }),
        };
      });
    }) as Step['dispatch'],
    call: (job: string | AnyJob, payload?: unknown, options?: ChildOptions) => child('call', job, payload, options),
    start: (job: string | AnyJob, payload?: unknown, options?: ChildOptions) => child('start', job, payload, options),
    race(steps) {
      refuseNested('step.race');
      const isRace = Array.isArray(steps) && steps.length > 0;
      if (!isRace)
        replay().refuse(guarded(() => check(false, 'What step.race is given', steps, 'an array of steps')).fault!);
      const of = isRace ? steps.flatMap((each) => members.get(Object(each)) ?? []) : NONE;
      const race: Member = { keys: NONE, of };
      const first = Promise.race(isRace ? steps : []).finally(() => withdraw(race));
      first.catch(() => undefined);
      return claim(first, race) as never;
    },
    restart(payload) {
      refuseNested('step.restart');
      const { value, fault } = guarded(() => codec.encode(payload, 'the payload of step.restart'));
      if (fault) replay().refuse(fault);
      else replay().restart(value!);
      return new Promise<never>(() => undefined);
    },
    now: () => make('now', platform.clock.now),
    uuid: () => make('uuid', platform.newUuid),
    random: () => make('random', platform.random),
  };
}
