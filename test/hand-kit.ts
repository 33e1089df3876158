import { expect } from 'vitest';
import { type MemoryMedium, memoryMedium, memoryStore } from '../adapters/memory/index.js';
import { createEngine, type Stepfast } from '../src/engine/engine.js';
import type { EngineOptions } from '../src/engine/options.js';
import { type HandlerContext, type JobOptions, StepfastError } from '../src/index.js';
import type { Platform } from '../src/platform.js';
import type { Batch, CommitOutcome } from '../src/store/batch.js';
import type { DuePage, DueQuery, OpenOptions, Store, StoreListener } from '../src/store/store.js';
import { systemPlatform } from '../src/system.js';

/*
 * Engines whose platform and store are in the hands of a test: time, patience and the network are what it says, and the
 * answers of the store come when and as it says. Nothing sleeps: what is under way is given turns of the event loop.
 */

/** Lets everything that is under way go on, as far as it can. */
export const settle = async (turns = 60): Promise<void> => {
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
};
/** What a promise comes to by itself: one that stays pending fails its test at once, and does not hang it. */
export async function soon<Value>(promise: Promise<Value>): Promise<Value> {
  let isOver = false;
  const over = () => {
    isOver = true;
  };
  promise.then(over, over);
  for (let rounds = 0; rounds < 5 && !isOver; rounds++) await settle();
  if (!isOver) throw new Error('It is still pending, and nothing is under way.');
  return promise;
}
export const never = () => new Promise<never>(() => undefined);
export const kindsOf = ({ run }: Pick<Batch, 'run'>): string[] => (run?.append ?? []).map(({ kind }) => kind);
export const codeOf = (code: string) => expect.objectContaining({ code });
export const away = () => new StepfastError('STORE_UNAVAILABLE', 'Away.');

/** A `migrate` that no run fits: also one that no code has begun is blocked by it. */
export const unfit = (): never => {
  throw new Error('No run of before fits.');
};

/** What the store does with a commit: `pass` is what it would have done. */
export type OnCommit = (batch: Batch, pass: () => Promise<CommitOutcome>) => Promise<CommitOutcome>;
export interface HandStore extends Store {
  onCommit: OnCommit | undefined;
  readonly batches: Batch[];
  readonly outcomes: CommitOutcome['kind'][];
  /** How often it was asked for due work. */
  looks: number;
  onDue: ((pass: () => Promise<DuePage>, query: DueQuery) => Promise<DuePage>) | undefined;
  onLoad: ((runId: string) => Promise<unknown>) | undefined;
  onOpen: ((mode: OpenOptions['mode'], options: OpenOptions) => Promise<unknown>) | undefined;
  /** Tells the engine on this store, as the store would. */
  tell: StoreListener;
}

/** A promise that the test settles. */
export function gate<Value = void>() {
  let open: (value: Value) => void = () => undefined;
  const promise = new Promise<Value>((resolve) => {
    open = resolve;
  });
  return { promise, open };
}

/** The answer of the first commit that fits is held back: decided or (`isDecided` false) not even that. */
export function holds(store: HandStore, fits: (batch: Batch) => boolean, isDecided = true) {
  const { promise, open } = gate();
  const held = { isHeld: false, answer: open };
  store.onCommit = async (batch, pass) => {
    if (held.isHeld || !fits(batch)) return pass();
    held.isHeld = true;
    if (!isDecided) await promise;
    const outcome = await pass();
    await promise;
    return outcome;
  };
  return held;
}
export const isConfirmation = ({ run }: Batch) => run !== undefined && !run.append.length && !run.state;

export type World = ReturnType<typeof hands>;

type Handler = (context: HandlerContext<string>) => unknown;

/** A run `r` of a job with this handler, as far as it comes by itself. */
export async function play(handler: Handler, options: JobOptions = {}, engineOptions: Partial<EngineOptions> = {}) {
  const h = hands();
  const engine = h.engine((stepfast) => stepfast.job('job', options, handler as never), engineOptions);
  const run = await engine.start('job', 'p', { id: 'r' });
  await settle();
  return { h, engine, run };
}
/** The run `r` as code of before has left it, waiting for what never comes; it is looked at again at once. */
export async function left(handler: Handler) {
  const { h, engine } = await play(handler);
  await soon(engine.close());
  await h.engine().dispatch('go');
  return h;
}
/** Of the run `r`: its entries of this kind. */
export const entriesOf = (h: World, kind: string) =>
  h.journal('r').filter((entry) => entry.kind === kind) as unknown as readonly { readonly [field: string]: unknown }[];

export function hands() {
  const medium: MemoryMedium = memoryMedium();
  const timers = new Map<number, { readonly at: number; readonly fire: () => void; readonly isIdle: boolean }>();
  const patience = new Map<number, { readonly ms: number; readonly over: () => void }>();
  const wakes = new Set<() => void>();
  const errors: unknown[] = [];
  const warnings: string[] = [];
  let now = Date.UTC(2026, 0, 1);
  let count = 0;
  const clock = {
    now: () => now,
    setTimer(at: number, fire: () => void, isIdle = false) {
      const id = ++count;
      timers.set(id, { at, fire, isIdle });
      return () => void timers.delete(id);
    },
  };
  const hand = {
    medium,
    clock,
    errors,
    warnings,
    timers,
    patience,
    isOnline: true,
    /** How many listen for the network, or for the device to wake. */
    listeners: () => wakes.size,
    /** Sets time, firing nothing. */
    jump(ms: number) {
      now += ms;
    },
    /** When the engine wants to be called next; what may as well not happen is left out. */
    wanted: () => [...timers.values()].filter(({ isIdle }) => !isIdle).map(({ at }) => at - now),
    /** Hints of what others have done do not come from here on. */
    lostHints: () => medium.listeners.clear(),
    /** Time passes, and what becomes due is called in order. */
    async advance(ms: number) {
      const end = now + ms;
      for (;;) {
        await settle();
        const [next] = [...timers].filter(([, { at }]) => at <= end).sort(([, a], [, b]) => a.at - b.at);
        if (!next) break;
        timers.delete(next[0]);
        now = Math.max(now, next[1].at);
        next[1].fire();
      }
      now = Math.max(now, end);
      await settle();
    },
    /** The patience that engines have now, with what is as long as `ms`, is over. */
    async impatient(ms = Infinity) {
      for (const [id, each] of [...patience]) if (each.ms <= ms && patience.delete(id)) each.over();
      await settle();
    },
    wake() {
      for (const each of [...wakes]) each();
    },
    store(): HandStore {
      const store = memoryStore({ medium });
      const { commit, due, load, open, watch } = store;
      const listeners = new Set<StoreListener>();
      const made: HandStore = Object.assign(store, {
        ...{ batches: [], outcomes: [], looks: 0 },
        ...{ onCommit: undefined, onDue: undefined, onLoad: undefined, onOpen: undefined },
        tell(runId: string | undefined, isOwn?: boolean) {
          for (const listener of listeners) listener(runId, isOwn);
        },
      });
      made.commit = async (batch) => {
        made.batches.push(batch);
        const outcome = await (made.onCommit ? made.onCommit(batch, () => commit(batch)) : commit(batch));
        made.outcomes.push(outcome.kind);
        return outcome;
      };
      made.due = async (query) => {
        made.looks++;
        return made.onDue ? made.onDue(() => due(query), query) : due(query);
      };
      made.load = async (runId) => {
        await made.onLoad?.(runId);
        return load(runId);
      };
      made.open = async (options) => {
        await made.onOpen?.(options.mode, options);
        return open(options);
      };
      made.watch = (listener) => {
        listeners.add(listener);
        const unwatch = watch(listener);
        return () => {
          listeners.delete(listener);
          unwatch();
        };
      };
      return made;
    },
    engine(
      define: (stepfast: Stepfast) => unknown = () => undefined,
      options: Partial<EngineOptions> = {},
      over: Partial<Platform> = {},
    ) {
      const own = (options.store as HandStore | undefined) ?? hand.store();
      const platform: Platform = {
        ...systemPlatform(clock),
        patience(ms, callback) {
          const id = ++count;
          patience.set(id, { ms, over: callback });
          return () => void patience.delete(id);
        },
        onWake(callback) {
          wakes.add(callback);
          return () => void wakes.delete(callback);
        },
        isOnline: () => hand.isOnline,
        warn: (message) => void warnings.push(message),
        random: () => 0.5,
        ...over,
      };
      const stepfast = Object.assign(
        createEngine(platform, { onError: (error) => errors.push(error), ...options, store: own }),
        { own },
      );
      define(stepfast);
      return stepfast;
    },
    row: (runId: string) => medium.tables.run(runId),
    journal: (runId: string) => medium.journals.get(runId) ?? [],
    kinds: (runId: string) => (medium.journals.get(runId) ?? []).map(({ kind }) => kind),
  };
  return hand;
}
