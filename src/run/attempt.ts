import { createState, type State, type StateHost } from '../door/state.js';
import { StepfastError } from '../errors.js';
import { LIMITS } from '../limits.js';
import type { Platform } from '../platform.js';
import type { InnerContext, StepContext, UndoContext } from '../replay/command.js';
import { incrementKey, originOf } from '../replay/digest.js';
import type { Ask } from '../replay/replay.js';
import type { StateChange } from '../store/batch.js';
import type { Identity } from '../store/journal.js';
import type { StateRow } from '../store/rows.js';
import type { Codec } from '../values/codec.js';
import type { Json } from '../values/json.js';
import { sumOf } from '../values/sum.js';
import { notANumber } from './increments.js';
import { withLazy } from './lazy.js';
import type { LiveRun } from './live-run.js';
import { createLog, type Log } from './log.js';

/*
 * One attempt of one step: what its function is called with, and when it counts as over.
 *
 * A1. What the function writes to the shared state waits for its result and is committed with it, or not at all; reads
 *     see it before. Increments are kept as deltas; only one whose number is asked for is committed at once, and
 *     journaled, so that a repeated attempt gets the number and counts nothing again (spec D8). Deltas that the attempt has
 *     not asked about are not in it: committed with it, they would stay though the attempt fails, and another attempt may
 *     have others to add.
 * A2. After its timeout an attempt writes nothing more (spec F8).
 */

interface AttemptHost {
  readonly platform: Platform;
  readonly codec: Codec;
  readonly state: StateHost;
  readonly run: LiveRun;
  /** Something was said that a commit is to carry. */
  pump(): void;
}

/** Run, generation and identity as one text that fits into an HTTP header; injective, as each part is escaped. */
export const idempotencyKeyOf = (runId: string, generation: number, [name, occurrence]: Identity): string => {
  const safe = (text: string) =>
    /^[\w.-]*$/.test(text) ? text : encodeURIComponent(JSON.stringify(text).slice(1, -1));
  return `${safe(runId)}/${generation}/${safe(name)}/${occurrence}`;
};

/** The key of all attempts of a step: it stays what it was when `migrate` gives the step another name. */
export const stepKeyOf = ({ row, digest }: Pick<LiveRun, 'row' | 'digest'>, key: string, id: Identity): string =>
  idempotencyKeyOf(row.runId, ...originOf(digest, key, id));

/** The log of a step, or of its undoing. */
export const stepLog = ({ run, codec, platform }: Pick<AttemptHost, 'run' | 'codec' | 'platform'>, id: Identity): Log =>
  createLog(
    {
      codec,
      now: platform.clock.now,
      write: (line) => {
        if (run.digest.logs + run.logs.length < LIMITS.logs) run.logs.push(line);
      },
    },
    id,
  );

/** What became of a function: the value is encoded. */
export type Outcome = Settled<Json>;

type Settled<Value> = { readonly value: Value } | { readonly error: unknown };

/** Calls a step's function, which may also throw at once; `keep` makes of its value what is kept, `heard` is told before the promise. */
const settled = async <Value, Kept = Value>(
  platform: Platform,
  fn: () => Value | PromiseLike<Value>,
  keep: (value: Value) => Kept = (value) => value as never,
  heard?: (outcome: Settled<Kept>) => void,
): Promise<Settled<Kept>> => {
  let outcome: Settled<Kept>;
  try {
    outcome = { value: keep(await platform.inStep(fn)) };
  } catch (error) {
    await undefined; // it may have thrown at once: who has called is to be back before anybody hears of it
    outcome = { error };
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
    state: () => (shared ??= attemptState(host, ask, idempotencyKey, refuse, () => isOver)).state,
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
      finish({ error: late }, [], late);
      abort.abort(late);
    };
    undoTimer = platform.clock.setTimer(platform.clock.now() + timeoutMs, timer);
  }
  const late = settled(
    platform,
    () => fn(context, call.inner),
    (value) => codec.encode(value, `what step "${id[0]}" returned`),
    (outcome) => finish(outcome, 'value' in outcome && shared ? shared.changes() : []),
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

/** The shared state as one attempt sees it (A1). */
function attemptState(
  host: AttemptHost,
  ask: Ask,
  holder: string,
  check: () => void,
  isOver: () => boolean,
): { readonly state: State; readonly changes: () => readonly StateChange[] } {
  const { run, platform } = host;
  let pending: StateChange[] = [];
  const numbers = new Map<string, number>();

  const isPresent = (row: StateRow | undefined) => (row?.expiresAt ?? Infinity) > platform.clock.now();
  /** The row as it would be with what was written before this change; absent: with all of it. */
  const read = async (key: string, until?: StateChange): Promise<StateRow | undefined> => {
    const stored = await host.state.read(key);
    let row = isPresent(stored) ? stored : undefined;
    for (const change of pending) {
      if (change === until) break;
      if (change.key === key) row = applied(row, change);
    }
    return row;
  };
  const commit: StateHost['commit'] = async (changes) => {
    if (changes.some(({ kind }) => kind === 'lock' || kind === 'unlock')) return host.state.commit(changes);
    pending.push(...changes);
    return changes.map(() => ({}));
  };
  const options = { ...host, read: (key: string) => read(key), losses: () => host.state.losses(), holder, check };
  const state = createState({ ...options, commit });

  /** The number that an increment gives, once it is asked for. */
  const numberOf = async (change: Extract<StateChange, { kind: 'increment' }>): Promise<number> => {
    check();
    const { key } = change;
    const earlier = pending.slice(0, pending.indexOf(change));
    if (earlier.some((other) => other.key === key && other.kind !== 'increment')) {
      // What it adds to is this attempt's own: nobody else counts there before the result is committed.
      const sum = sumOf((await read(key, change))?.value, change.by);
      if (sum === undefined) {
        pending = pending.filter((other) => other !== change); // refused here, and not once more with the result
        throw notANumber(change);
      }
      return sum;
    }
    const nth = (numbers.get(key) ?? 0) + 1;
    numbers.set(key, nth);
    pending = pending.filter((other) => other !== change);
    const known = run.digest.increments.get(ask.key)?.get(incrementKey({ key, nth }));
    if (known !== undefined) return known;
    return new Promise((resolve, reject) => {
      run.increments.push({ ask, nth, change, resolve, reject });
      host.pump();
    });
  };

  const increment: State['increment'] = (key, by, expiry) => {
    let change: StateChange | undefined;
    const take: StateHost['commit'] = async (changes) => {
      change = changes[0];
      return [{ value: 0 }];
    };
    const checked = createState({ ...options, commit: take }).increment(key, by, expiry);
    if (change?.kind !== 'increment') return checked; // refused at the door
    pending.push(change);
    return lazily(numberOf, change);
  };
  /** What comes when the attempt is over is refused to who awaits it; nobody may, and that is no fault of the process (spec R8). */
  const heardOrNot =
    <Given extends readonly unknown[], Value>(use: (...given: Given) => Promise<Value>) =>
    (...given: Given): Promise<Value> => {
      const answer = use(...given);
      if (isOver()) answer.catch(() => undefined);
      return answer;
    };
  const words = Object.entries({ ...state, increment }).map(([word, use]) => [word, heardOrNot(use as never)]);
  return { state: Object.fromEntries(words), changes: () => pending };
}

const applied = (row: StateRow | undefined, change: StateChange): StateRow | undefined => {
  const { key } = change;
  if (change.kind === 'set') return { key, value: change.value, revision: 0, expiresAt: change.expiresAt };
  if (change.kind !== 'increment') return undefined;
  const value = sumOf(row?.value, change.by);
  // Refused with the result; until then it is what it was.
  return value === undefined ? row : { key, value, revision: 0, expiresAt: change.expiresAt ?? row?.expiresAt };
};

/** A promise whose work begins when somebody asks for its value. */
function lazily<Argument, Value>(work: (argument: Argument) => Promise<Value>, argument: Argument): Promise<Value> {
  let begun: Promise<Value> | undefined;
  const begin = () => (begun ??= work(argument));
  return {
    then: (resolve, reject) => begin().then(resolve, reject),
    catch: (reject) => begin().catch(reject),
    finally: (settle) => begin().finally(settle),
    [Symbol.toStringTag]: 'Promise',
  };
}
