import type { StateHost } from '../door/state.js';
import { StepfastError } from '../errors.js';
import type { Platform } from '../platform.js';
import type { InnerContext, StepContext, UndoContext } from '../replay/command.js';
import { stepKeyOf } from '../replay/keys.js';
import type { Ask } from '../replay/replay.js';
import type { StateChange } from '../store/batch.js';
import type { Identity } from '../store/journal.js';
import type { Codec } from '../values/codec.js';
import type { Json } from '../values/json.js';
import { attemptState } from './attempt-state.js';
import { withLazy } from './lazy.js';
import type { LiveRun } from './live-run.js';
import { createLog, keepLine, type Log } from './log.js';

/*
 * One attempt of one step: what its function is called with, and when it counts as over.
 *
 * A1. What the function writes to the shared state is kept with its result (attempt-state.ts).
 * A2. After its timeout an attempt writes nothing more (spec F8).
 */

export interface AttemptHost {
  readonly platform: Platform;
  readonly codec: Codec;
  readonly state: StateHost;
  readonly run: LiveRun;
  /** Something was said that a commit is to carry. */
  pump(): void;
}

/** The log of a step, or of its undoing. */
export const stepLog = ({ run, codec, platform }: Pick<AttemptHost, 'run' | 'codec' | 'platform'>, id: Identity): Log =>
  createLog(
    {
      codec,
      now: platform.clock.now,
      write: (line) => void keepLine(run, platform, line),
    },
    id,
  );

/** What became of a function: the value is encoded. */
export type Outcome = Settled<Json>;

/** `isUnknown`: it may have done all it was to do: given up waiting for; or it returned, with what can not be kept (spec F7). */
type Settled<Value> = { readonly value: Value } | { readonly error: unknown; readonly isUnknown?: true | undefined };

/** Calls a step's function, which may also throw at once; `keep` makes of its value what is kept, `heard` is told before the promise. */
const settled = async <Value, Kept = Value>(
  platform: Platform,
  fn: () => Value | PromiseLike<Value>,
  keep: (value: Value) => Kept = (value) => value as never,
  heard?: (outcome: Settled<Kept>) => void,
): Promise<Settled<Kept>> => {
  let outcome: Settled<Kept>;
  let isUnknown: true | undefined;
  try {
    const value = await platform.inStep(fn);
    isUnknown = true;
    outcome = { value: keep(value) };
  } catch (error) {
    await undefined; // it may have thrown at once: who has called is to be back before anybody hears of it
    outcome = { error, isUnknown };
  }
  platform.leaveStep();
  heard?.(outcome);
  return outcome;
};

/**
 * Begins an attempt. `end` aborts it from outside; `done` is called once, unless that came first. `late` is what the
 * function comes to in any case.
 */
export function beginAttempt(
  host: AttemptHost,
  ask: Ask,
  call: {
    readonly attempt: number;
    readonly inner: InnerContext;
    readonly done: (outcome: Outcome, state: readonly StateChange[]) => void;
  },
): { readonly end: (reason: unknown) => void; readonly late: Promise<Outcome> } {
  const { platform, codec, run } = host;
  const { id } = ask;
  const { fn, timeoutMs } = ask.command as Extract<Ask['command'], { readonly fn: unknown }>;
  const abort = platform.newAbort();
  const idempotencyKey = stepKeyOf(run, ask.key, id);
  let isOver = false;
  let why: Error | undefined;
  let undoTimer: (() => void) | undefined;

  /** Made when it is needed: the stack of an error costs more than all else of an attempt. */
  const refuse = () => {
    if (isOver)
      throw (why ??= new StepfastError(
        'STEP_FAILED',
        `This attempt of step "${id[0]}" is over: it writes nothing more.`,
      ));
  };
  let shared: ReturnType<typeof attemptState> | undefined;
  let log: Log | undefined;
  const given = {
    attempt: call.attempt,
    idempotencyKey,
    progress(value: unknown) {
      refuse();
      run.progress = codec.encode(value, `the progress of step "${id[0]}"`);
      run.progressed = ask;
      host.pump();
    },
  };
  const context: StepContext = withLazy(given, {
    state: () => (shared ??= attemptState(host, ask, idempotencyKey, refuse)).state,
    log: () => (log ??= stepLog(host, id)),
    signal: () => abort.signal,
  });
  const finish = (outcome: Outcome, changes: readonly StateChange[], error?: Error) => {
    if (isOver) return;
    isOver = true;
    why = error;
    undoTimer?.();
    call.done(outcome, changes);
  };
  if (timeoutMs !== undefined) {
    const late = new StepfastError(
      'STEP_TIMEOUT',
      `Attempt ${call.attempt} of step "${id[0]}" took longer than its timeout.`,
      {
        step: id[0],
      },
    );
    const timer = () => {
      finish({ error: late, isUnknown: true }, [], late);
      abort.abort(late);
    };
    undoTimer = platform.clock.setTimer(platform.clock.now() + timeoutMs, timer);
  }
  const late = settled(
    platform,
    () => fn(context, call.inner),
    (value) => codec.encode(value, `what step "${id[0]}" returned`),
    (outcome) => finish(...('value' in outcome && shared ? shared.withChanges(outcome) : ([outcome, []] as const))),
  );
  return {
    late,
    end(reason) {
      isOver = true;
      undoTimer?.();
      abort.abort(reason);
    },
  };
}

/** Begins to undo a step; its outcome is the promise. */
export const callUndo = (
  host: Pick<AttemptHost, 'run' | 'codec' | 'platform'>,
  undo: (context: UndoContext<never>) => unknown,
  id: Identity,
  context: Omit<UndoContext, 'log'>,
) => settled(host.platform, () => undo({ ...context, log: stepLog(host, id) } as UndoContext<never>));
