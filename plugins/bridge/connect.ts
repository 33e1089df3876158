import type { DispatchOptions } from '../../src/door/dispatch.js';
import { checkEvent, type EventType } from '../../src/door/event.js';
import type { AnyJob } from '../../src/door/job.js';
import { recordedAs, type StartOptions } from '../../src/door/start.js';
import type { Stepfast } from '../../src/engine/engine.js';
import { heard } from '../../src/engine/heard.js';
import type { RunHandle, Runs } from '../../src/engine/runs.js';
import type { Schedule } from '../../src/engine/words.js';
import { StepfastError } from '../../src/errors.js';
import type { Clock } from '../../src/platform.js';
import type { RunSnapshot } from '../../src/run/inspect.js';
import { isPromise } from '../../src/store/transition/work.js';
import { check, checkClock, checkName, checkOptions, checkText, quoted } from '../../src/values/check.js';
import type { Duration } from '../../src/values/duration.js';
import { nameOf } from '../../src/values/kinds.js';
import { type Calls, createCalls } from './calls.js';
import { systemClock } from './clock.js';
import { isNote, removeNotes, writeNotes, writtenNotes } from './notes.js';
import { type BridgePort, reporter } from './port.js';
import { remoteSchedule } from './remote-schedule.js';
import { checkBridge } from './serve.js';
import { createPacker, type Packed, type Packer, type Word } from './wire.js';

/** How an engine elsewhere is used. */
export interface ConnectOptions {
  /**
   * While something depends on the engine (a call, a subscription) and nothing is heard of it for this long, it is asked
   * whether it is there; when it has not answered after as long again, it is lost. An engine whose steps block its thread
   * can not answer. `Infinity`: never asked. Default 15 seconds. Where ports say when they end, nobody waits.
   */
  readonly heartbeat?: Duration;
  /** Default: the platform's. */
  readonly clock?: Clock;
  /** The port is lost (`PORT_LOST`), or leads to another release (`OUTDATED`): connect anew. Not called by `close`. */
  readonly onLost?: (error: StepfastError) => void;
  /** Hears of everything that went wrong and has no caller to tell. Default: the console. */
  readonly onError?: (error: unknown) => void;
}

/** What the client's parts share. */
export interface Remote {
  readonly calls: Calls;
  readonly packer: Packer;
  readonly clock: Clock;
  report(error: unknown): void;
  ask(word: Word, ...given: readonly Packed[]): Promise<unknown>;
}

const notOverPort = (what: string, advice: string) =>
  new StepfastError('NOT_OVER_PORT', `${what} can not cross a port: functions stay where they are. ${advice}.`);
const jobsStay = (what: string) =>
  notOverPort(
    what,
    'Define and register jobs where the engine is, and start them by name, or by the job itself, from here',
  );

/** Tells the engine's side about handles that nobody holds any more. */
const createHandles = ({ calls, packer, report, ask }: Remote) => {
  const registry = new FinalizationRegistry<number>((id) => calls.forget(id));
  return (started: { readonly id: string; readonly created: boolean }, id: number): RunHandle => {
    const held = { id, started };
    registry.register(held, id);
    const own = () => packer.value(held.id);
    const run = () => packer.value(held.started.id);
    return {
      id: started.id,
      created: started.created,
      status: () => ask('handle.status', own()) as Promise<RunSnapshot['status']>,
      result: () => ask('handle.result', own()),
      cancel: () => ask('runs.cancel', run()) as Promise<void>,
      retry: () => ask('runs.retry', run()) as Promise<void>,
      subscribe: (listener) => subscribing({ calls, packer, report }, held.started.id, listener),
    };
  };
};

const subscribing = (
  { calls, packer, report }: Pick<Remote, 'calls' | 'packer' | 'report'>,
  runId: string,
  listener: (snapshot: RunSnapshot) => void,
) => {
  calls.check();
  // At the other end, where the engine checks as well, nobody is left to throw to.
  checkText(runId, 'runId', 'INVALID_ID');
  check(typeof listener === 'function', 'listener', listener, 'a function');
  return calls.subscribe(packer.value(runId), (value) =>
    heard(() => listener(packer.open(value) as RunSnapshot), report),
  );
};

type Handles = ReturnType<typeof createHandles>;

function remoteRuns(remote: Remote, handle: Handles): Runs {
  const { calls, packer, ask } = remote;
  const { value } = packer;
  return {
    get: async (runId) => (await ask('runs.get', value(runId))) as RunSnapshot | undefined,
    async list(filter, cursor) {
      const page = await calls.call('runs.list', value(filter), value(cursor)).answer;
      const next = page.kind === 'rows' ? page.cursor : undefined;
      return { runs: packer.open(page) as RunSnapshot[], ...(next !== undefined && { cursor: next }) };
    },
    timeline: async (runId) => (await ask('runs.timeline', value(runId))) as never,
    subscribe: (runId, listener) => subscribing(remote, runId, listener),
    cancel: async (runId) => void (await ask('runs.cancel', value(runId))),
    retry: async (runId, options) => void (await ask('runs.retry', value(runId), value(options))),
    async fork(runId, options) {
      const { id, answer } = calls.call('runs.fork', value(runId), value(options, 'the options of fork'));
      return handle(packer.open(await answer) as never, id);
    },
    delete: async (runId) => void (await ask('runs.delete', value(runId))),
    async export(runId, options) {
      if (typeof options?.redact === 'function')
        throw notOverPort('A function `redact`', 'Give true, or export where the engine is');
      return (await ask('runs.export', value(runId), value(options))) as never;
    },
    import: async (run, options) => (await ask('runs.import', { kind: 'plain', value: run }, value(options))) as never,
  };
}

const remoteState = ({ calls, packer, ask }: Remote): Stepfast['state'] => {
  const { value } = packer;
  return {
    get: async (key) => (await ask('state.get', value(key))) as never,
    set: async (key, given, options) =>
      void (await ask('state.set', value(key), value(given, `the value of ${quoted(key)}`), value(options))),
    delete: async (key) => void (await ask('state.delete', value(key))),
    increment: async (key, by, options) =>
      (await ask('state.increment', value(key), value(by), value(options))) as number,
    async lock(key, options) {
      const { id, answer } = calls.call('state.lock', value(key), value(options));
      const taken = packer.open(await answer) as { readonly token: number } | undefined;
      return taken && { token: taken.token, release: async () => void (await ask('lock.release', value(id))) };
    },
  };
};

/** A page that is still here so long after `beforeunload` stays: what was asked for was a download, or its user said no. */
const STAYS_MS = 3_000;

/** What becomes of a page it says itself: most browsers tell nobody at the other end of its ports. */
function onLeaving(leave: () => void, { tell, greet }: Calls, notes: () => readonly string[]): () => void {
  if (typeof addEventListener !== 'function' || typeof document === 'undefined') return () => undefined;
  const hide = ({ persisted }: PageTransitionEvent) => {
    writeNotes(notes());
    if (persisted) tell('away');
    else leave();
  };
  const show = ({ persisted }: PageTransitionEvent) => {
    if (!persisted) return;
    removeNotes(notes());
    tell('back');
  };
  let staying: ReturnType<typeof setTimeout> | undefined;
  const mayLeave = () => {
    clearTimeout(staying);
    tell('leaving');
    staying = setTimeout(() => tell('back'), STAYS_MS);
  };
  /** Another tab has written a note: its runs may be taken up here. */
  const hear = ({ key, newValue }: StorageEvent) => {
    if (newValue !== null && isNote(key)) greet();
  };
  addEventListener('pagehide', hide);
  addEventListener('pageshow', show);
  addEventListener('storage', hear);
  // WebKit stops a worker a moment after it lets its requests fail and its page hear `pagehide`. What the worker begins in
  // between, as when a step has failed, it could not even undo any more. In others, this listener would cost the cache.
  if (/^Apple/.test(globalThis.navigator?.vendor ?? '')) addEventListener('beforeunload', mayLeave);
  return () => {
    clearTimeout(staying);
    removeEventListener('beforeunload', mayLeave);
    removeEventListener('pagehide', hide);
    removeEventListener('pageshow', show);
    removeEventListener('storage', hear);
  };
}

/**
 * Uses an engine in another context, over a port on whose other end `serveStepfast` was called: as if it were here.
 *
 * - Values cross as a store would keep them, errors with their class, code, message, data and place.
 * - Jobs are defined where the engine is. `job`, `register`, and a function `redact` throw `NOT_OVER_PORT`.
 * - An event of `defineEvent` is checked here, a payload where the job is registered.
 * - `schedule` returns at once, so that what refuses it is told to `onError`; it lasts as long as a client has it. `next()`
 *   gives what was heard last. `subscribe` checks what it is given; that the engine is closed is told to `onError`.
 * - `close` ends this use of the engine; the engine, and the port, stay as they are.
 *
 * @param port What leads there: a MessagePort, a Worker, ...
 * @throws {StepfastError} `INVALID_OPTION`, `INVALID_DURATION`. Every call: what the engine throws; `PORT_LOST` when it may
 * have happened or not; `OUTDATED` when the other end is of another release; `CLOSED`.
 * @example
 * const worker = new Worker(new URL('./engine.js', import.meta.url), { type: 'module' });
 * const stepfast = connectStepfast(worker);
 * await stepfast.start('userOnboarding', { userId: '42' });
 */
export function connectStepfast(port: BridgePort, options: ConnectOptions = {}): Stepfast {
  checkOptions(options, ['heartbeat', 'clock', 'onLost', 'onError'], 'The options of connectStepfast');
  const { heartbeat = '15s', clock = systemClock, onLost, onError } = options;
  checkClock(clock);
  const everyMs = checkBridge(port, heartbeat);
  for (const [option, fn] of Object.entries({ onLost, onError }))
    check(fn === undefined || typeof fn === 'function', option, fn, 'a function, or leave it out');
  const report = reporter(onError);
  const packer = createPacker();
  let stay: () => void = () => undefined;
  const lost = (error: StepfastError) => {
    stay();
    heard(() => (onLost ?? report)(error), report);
  };
  let notes: readonly string[] = [];
  const noted = (given: readonly string[]) => {
    notes = given;
  };
  const calls = createCalls({ port, packer, clock, everyMs, report, lost, left: writtenNotes, noted });
  const leave = () => calls.end(new StepfastError('CLOSED', 'This connection is closed. Connect again to go on.'));
  stay = onLeaving(leave, calls, () => notes);
  const ask = async (word: Word, ...given: readonly Packed[]) => packer.open(await calls.call(word, ...given).answer);
  const remote: Remote = { calls, packer, clock, report, ask };
  const handle = createHandles(remote);
  const close = async () => {
    stay();
    leave();
  };
  const refuse = (what: string) => (): never => {
    throw jobsStay(what);
  };
  return {
    job: refuse('stepfast.job') as never,
    register: refuse('stepfast.register'),
    ready: async () => void (await ask('ready')),
    close,
    start: (async (job: string | AnyJob, payload?: unknown, given?: StartOptions) => {
      const name = nameOf(job);
      checkName(name, 'a job');
      const { value } = packer;
      const label = `the payload of job "${name}"`;
      const { id, answer } = calls.call('start', value(name), value(payload, label), value(given));
      return handle(packer.open(await answer) as never, id);
    }) as Stepfast['start'],
    dispatch: (async (event: string | EventType, payload?: unknown, given?: DispatchOptions) => {
      checkEvent(event);
      const name = nameOf(event);
      const schema = typeof event === 'object' ? event.schema : undefined;
      const recording = recordedAs(packer.codec, schema, payload, `payload of event "${name}"`);
      const said = isPromise(recording) ? await recording : recording; // calls are sent in their order, if they can
      const raw = said.given === undefined ? [] : [said.given]; // what an idempotency key compares
      const [made, ...rest] = [said.payload, ...raw].map((json): Packed => ({ kind: 'value', json }));
      return ask('dispatch', packer.value(name), made!, packer.value(given), ...rest);
    }) as Stepfast['dispatch'],
    runs: remoteRuns(remote, handle),
    state: remoteState(remote),
    schedule: remoteSchedule(remote, nameOf) as Schedule,
    [Symbol.asyncDispose ?? 'dispose']: close,
  } as Stepfast;
}
