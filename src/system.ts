import type { Clock, Platform } from './platform.js';

/*
 * The standard implementation of the seams: the one file of the core that touches globals, imported by index.ts alone.
 * Nothing happens at import; a channel or listener exists only once an engine asks for it.
 */

/** `setTimeout` fires at once beyond 2^31-1 ms (all engines): longer ones wake early. */
const MAX_TIMEOUT_MS = 2 ** 30;
/** How often a timer looks at the clock: a machine that sleeps stops timers, and in Node nobody tells of a clock that was set. */
const LOOK_MS = 60_000;
/** What timers are late by, or early, where nobody has touched the clock. */
const SLACK_MS = 1_000;

/** Written so that bundlers, which replace `process.env.NODE_ENV`, can answer it where there is no `process`. */
const isProduction = () => {
  try {
    return process.env.NODE_ENV === 'production';
  } catch {
    return false; // a page without a bundler: somebody is developing
  }
};

const timer = (ms: number, callback: () => void, isIdle?: boolean) => {
  const id = setTimeout(callback, Math.min(Math.max(ms, 0), MAX_TIMEOUT_MS));
  // In Node a timer keeps the process alive unless told otherwise; elsewhere it is a number.
  if (isIdle && typeof id === 'object') id.unref();
  return () => clearTimeout(id);
};

/** Who looks at what is due when the clock may have been set: see `onWake`. */
const wakers = new Set<() => void>();

/**
 * A timer ends when the clock says so, or once it has taken as long as it was to take: set by a clock that was ahead and is
 * corrected since, it might not end for years. What others have computed by that clock they are told to look at.
 */
const systemClock: Clock = {
  now: () => Date.now(),
  setTimer(at, callback, isIdle) {
    let unset: () => void = () => undefined;
    let leftMs = at - Date.now();
    /** By how much the clock was set back, as far as others were told. */
    let toldMs = 0;
    const wait = (ms: number) => {
      leftMs -= ms;
      unset = timer(ms, look, isIdle);
    };
    const look = () => {
      const aheadMs = at - Date.now();
      const backMs = aheadMs - leftMs;
      if (aheadMs <= 0 || (leftMs <= 0 && backMs > SLACK_MS)) return callback();
      wait(Math.min(aheadMs, leftMs > 0 ? leftMs : aheadMs, LOOK_MS));
      if (backMs <= toldMs + SLACK_MS) return;
      toldMs = backMs;
      for (const waker of [...wakers]) waker();
    };
    wait(Math.min(leftMs, LOOK_MS));
    return () => unset();
  },
};

/** A macrotask: `setImmediate` in Node, else a message to oneself (0.015 ms, where `setTimeout` costs 4). */
function createHop(): Platform['hop'] {
  if (typeof setImmediate === 'function') return (callback) => void setImmediate(callback);
  const waiting: (() => void)[] = [];
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => waiting.shift()?.();
  return (callback) => {
    waiting.push(callback);
    port2.postMessage(0);
  };
}

/**
 * When a page that was hidden, frozen or offline is back, its timers may be late; and what was computed by a clock that was
 * ahead is to be computed anew: look at once (spec Q4).
 */
function onWake(callback: () => void): () => void {
  const own = () => callback(); // the same may be given twice, and hears of no event
  wakers.add(own);
  const unlisten = listen(own);
  return () => {
    wakers.delete(own);
    unlisten();
  };
}

function listen(callback: () => void): () => void {
  if (typeof addEventListener !== 'function') return () => undefined;
  const targets = [
    [globalThis, 'pageshow'],
    [globalThis, 'online'],
    ...(typeof document === 'undefined'
      ? []
      : ([
          [document, 'visibilitychange'],
          [document, 'resume'],
        ] as const)),
  ] as const;
  for (const [target, type] of targets) target.addEventListener(type, callback);
  return () => {
    for (const [target, type] of targets) target.removeEventListener(type, callback);
  };
}

/** The part of `AsyncLocalStorage` that is used; only Node has it, and it is asked for without an import. */
interface Context {
  run<T>(store: unknown, fn: () => T): T;
  getStore(): unknown;
  disable(): void;
}
type Builtins = { getBuiltinModule?(name: string): { readonly AsyncLocalStorage: new () => Context } | undefined };

/** One for all engines, made when the first one asks, and how many functions are in flight in all of them. */
let shared: { readonly context: Context | undefined; inFlight: number } | undefined;
const sharedContext = () => {
  const node = (globalThis as { process?: Builtins }).process;
  const AsyncLocalStorage = node?.getBuiltinModule?.('node:async_hooks')?.AsyncLocalStorage;
  return (shared ??= { context: AsyncLocalStorage && new AsyncLocalStorage(), inFlight: 0 });
};

/**
 * Tells whether a step's function is running: in its synchronous part everywhere, after an `await` in Node. Up to Node 22
 * that makes every promise of the process slower, the app's own as well: it is on only while functions are in flight.
 */
function stepContext(): Pick<Platform, 'inStep' | 'leaveStep' | 'outOfStep' | 'isInStep'> {
  const all = sharedContext();
  const { context } = all;
  const mine = {};
  let isSync = false;
  const within = <T>(value: boolean, fn: () => T): T => {
    const before = isSync;
    isSync = value;
    try {
      return fn();
    } finally {
      isSync = before;
    }
  };
  return {
    inStep(fn) {
      all.inFlight++;
      return within(true, () => (context ? context.run(mine, fn) : fn()));
    },
    leaveStep() {
      if (--all.inFlight === 0) context?.disable();
    },
    // It may be inside while none is in flight: since Node 24, what has begun there keeps its context when that is switched off.
    outOfStep: (fn) => within(false, () => (context?.getStore() ? context.run(undefined, fn) : fn())),
    isInStep: () => isSync || (all.inFlight > 0 && context?.getStore() === mine),
  };
}

/** `randomUUID` is missing on plain http; random bytes are not. */
function newUuid(): string {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

const ID_ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

const ID_LENGTH = 21;

/** 21 characters of 6 random bits each: fewer than those of a UUID, and as hard to guess. Asking for random bytes costs far more than using them. */
function createNewId(): Platform['newId'] {
  const random = new Uint8Array(ID_LENGTH * 64);
  let used = random.length;
  return () => {
    if (used === random.length) {
      crypto.getRandomValues(random);
      used = 0;
    }
    const own = random.subarray(used, used + ID_LENGTH);
    used += ID_LENGTH;
    return Array.from(own, (byte) => ID_ALPHABET[byte & 63]).join('');
  };
}

/** A controller is made when somebody asks for its signal: it costs more than all else of a step, and few do. */
class LazyAbort {
  #controller: AbortController | undefined;
  #aborted: { readonly reason: unknown } | undefined;

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#aborted) this.#controller.abort(this.#aborted.reason);
    return this.#controller.signal;
  }
  abort(reason: unknown): void {
    this.#aborted ??= { reason };
    this.#controller?.abort(reason);
  }
}

/** What the platform gives, with another clock if one is handed in. */
export function systemPlatform(clock: Clock = systemClock): Platform {
  return {
    clock,
    hop: createHop(),
    patience: timer,
    newId: createNewId(),
    newUuid,
    ...stepContext(),
    isOnline: () => (globalThis as { navigator?: { readonly onLine?: boolean } }).navigator?.onLine !== false,
    random: Math.random,
    newAbort: () => new LazyAbort(),
    onWake,
    warn: (message) => {
      if (!isProduction()) console.warn(`stepfast: ${message}`);
    },
    report: (error) => console.error('stepfast:', error),
    URL,
  };
}
