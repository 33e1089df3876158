import type { DispatchOptions } from '../../src/door/dispatch.js';
import type { EventType } from '../../src/door/event.js';
import type { Stepfast } from '../../src/engine/engine.js';
import { heard } from '../../src/engine/heard.js';
import type { RunHandle } from '../../src/engine/runs.js';
import type { Clock } from '../../src/platform.js';
import type { RunSnapshot } from '../../src/run/inspect.js';
import { durationMs } from '../../src/values/duration.js';
import type { Shared } from './shared.js';
import type { Packed, Packer, ToClient, ToEngine, Word } from './wire.js';

/*
 * One client, as the engine's side knows it: what it has asked for and not given back.
 */

export interface Session {
  heard(message: ToEngine): void;
  /** Whether something here is kept for the client. */
  isInUse(): boolean;
  /** Gives everything back that the client holds. Work under way is not stopped, and not answered. */
  end(): void;
}

interface SessionOptions {
  readonly stepfast: Stepfast;
  readonly packer: Packer;
  readonly clock: Clock;
  readonly shared: Shared;
  post(message: ToClient): void;
  report(error: unknown): void;
}

/** A lock that was given out, until it is over by itself. */
interface HeldLock {
  readonly expiresAt: number;
  release(): Promise<void>;
}

/** A defined event whose schema was asked at the other end: this is what it made of what was given there. */
const eventOf = (name: string, value: unknown): EventType => ({
  name,
  schema: { '~standard': { version: 1, vendor: 'stepfast', validate: () => ({ value }) } },
});

export function createSession({ stepfast, packer, clock, shared, post, report }: SessionOptions): Session {
  const { runs, state } = stepfast;
  const subscriptions = new Map<number, () => void>();
  const handles = new Map<number, RunHandle>();
  const locks = new Map<number, HeldLock>();
  const declared = new Map<number, { next(): Date | undefined; stop(): void }>();

  const held = (handle: RunHandle, id: number) => {
    handles.set(id, handle);
    return { id: handle.id, created: handle.created };
  };
  const handleOf = (id: unknown): RunHandle => {
    const handle = handles.get(id as number);
    if (!handle) throw new TypeError('A handle that this session did not give out.');
    return handle;
  };
  const lock = async (id: number, key: string, options: { readonly ttl: number }) => {
    const taken = await state.lock(key, options);
    const now = clock.now();
    for (const [each, { expiresAt }] of locks) if (expiresAt <= now) locks.delete(each);
    if (!taken) return undefined;
    locks.set(id, { expiresAt: now + durationMs(options.ttl, 'ttl'), release: taken.release });
    return { token: taken.token };
  };
  const release = async (id: number) => {
    const taken = locks.get(id);
    await taken?.release();
    locks.delete(id);
  };

  // What clients hand in is checked by the engine, as what any caller does: here it is only passed on.
  const words: { readonly [word in Word]: (id: number, ...given: never[]) => unknown } = {
    ready: () => stepfast.ready(),
    start: async (id, ...given: [string]) => held(await stepfast.start(...given), id),
    dispatch: (_, name: string, payload: unknown, options: DispatchOptions, ...raw: unknown[]) =>
      raw.length
        ? stepfast.dispatch(eventOf(name, payload), raw[0], options)
        : stepfast.dispatch(name, payload, options),
    'runs.get': (_, runId: string) => runs.get(runId),
    'runs.list': (_, ...given: []) => runs.list(...given),
    'runs.timeline': (_, runId: string) => runs.timeline(runId),
    'runs.cancel': (_, runId: string) => runs.cancel(runId),
    'runs.retry': (_, ...given: [string]) => runs.retry(...given),
    'runs.fork': async (id, ...given: Parameters<typeof runs.fork>) => held(await runs.fork(...given), id),
    'runs.delete': (_, runId: string) => runs.delete(runId),
    'runs.export': (_, ...given: [string]) => runs.export(...given),
    'runs.import': async (_, ...given: Parameters<typeof runs.import>) => {
      const { id, created } = await runs.import(...given);
      return { id, created };
    },
    'state.get': (_, key: string) => state.get(key),
    'state.set': (_, ...given: [string, unknown]) => state.set(...given),
    'state.delete': (_, key: string) => state.delete(key),
    'state.increment': (_, ...given: [string]) => state.increment(...given),
    'state.lock': lock,
    'lock.release': (_, id: number) => release(id),
    'handle.status': (_, id: number) => handleOf(id).status(),
    'handle.result': (_, id: number) => shared.result(handleOf(id)),
    schedule: (id, ...given: Parameters<Shared['schedule']>) => {
      const scheduled = shared.schedule(...given);
      declared.set(id, scheduled);
      return scheduled.next();
    },
    'schedule.next': (_, id: number) => declared.get(id)?.next(),
    'schedule.stop': (_, id: number) => {
      declared.get(id)?.stop();
      declared.delete(id);
    },
  };

  const packed = (word: Word, value: unknown): Packed => {
    if (word === 'runs.list') {
      const { runs: rows, cursor } = value as Awaited<ReturnType<typeof runs.list>>;
      return { ...packer.rows(rows), ...(cursor !== undefined && { cursor }) } as Packed;
    }
    if (word === 'runs.timeline') return packer.rows(value as object[]);
    if (word === 'runs.export') return { kind: 'plain', value };
    return word === 'runs.get' ? packer.row(value) : packer.value(value);
  };
  const refusal = (id: number, error: unknown): ToClient => ({ kind: 'error', id, error: packer.error(error) });
  const answer = async (id: number, word: Word, given: readonly Packed[]) => {
    let message: ToClient;
    try {
      const call = Object.hasOwn(words, word) ? words[word] : undefined;
      if (!call) throw new TypeError(`This engine's side of the bridge knows no "${word}".`);
      const value = await call(id, ...(given.map(packer.open) as never[]));
      message = { kind: 'value', id, value: packed(word, value) };
    } catch (error) {
      message = refusal(id, error);
    }
    try {
      post(message);
    } catch (error) {
      post(refusal(id, error)); // the port can not carry what is in it
    }
  };
  const unsubscribe = (id: number) => {
    const undo = subscriptions.get(id);
    subscriptions.delete(id);
    if (undo) heard(undo, report);
  };
  const subscribe = (id: number, run: Packed) => {
    unsubscribe(id);
    const push = (snapshot: RunSnapshot) => post({ kind: 'snapshot', id, value: packer.row(snapshot) });
    try {
      subscriptions.set(id, runs.subscribe(packer.open(run) as string, push));
    } catch (error) {
      post(refusal(id, error));
    }
  };
  return {
    heard(message) {
      if (message.kind === 'call') answer(message.id, message.word, message.given).catch(report);
      else if (message.kind === 'subscribe') subscribe(message.id, message.run);
      else if (message.kind === 'forget') {
        unsubscribe(message.id);
        handles.delete(message.id);
      }
    },
    isInUse: () => subscriptions.size + handles.size + declared.size > 0,
    end() {
      for (const id of subscriptions.keys()) unsubscribe(id);
      for (const scheduled of declared.values()) heard(scheduled.stop, report);
      for (const map of [handles, locks, declared]) map.clear();
    },
  };
}
