import { nanoid } from 'nanoid';
import type { Clock, Platform } from './platform.js';

/*
 * The standard implementation of the seams: the one file of the core that touches globals, imported by index.ts alone.
 * Nothing happens at import; a channel or listener exists only once an engine asks for it.
 */

/** `setTimeout` fires at once beyond 2^31-1 ms (all engines): longer timers wake early and the engine looks again. */
const MAX_TIMEOUT_MS = 2 ** 30;

/** Written so that bundlers, which replace `process.env.NODE_ENV`, can answer it where there is no `process`. */
const isProduction = () => {
  try {
    return process.env.NODE_ENV === 'production';
  } catch {
    return false; // a page without a bundler: somebody is developing
  }
};

const timer = (ms: number, callback: () => void) => {
  const id = setTimeout(callback, Math.min(Math.max(ms, 0), MAX_TIMEOUT_MS));
  return () => clearTimeout(id);
};

const systemClock: Clock = {
  now: () => Date.now(),
  setTimer: (at, callback) => timer(at - Date.now(), callback),
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

/** When a page that was hidden, frozen or offline is back, its timers may be late: look at once (spec Q4). */
function onWake(callback: () => void): () => void {
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

/** What the platform gives, with another clock if one is handed in. */
export function systemPlatform(clock: Clock = systemClock): Platform {
  return {
    clock,
    hop: createHop(),
    patience: timer,
    newId: () => nanoid(),
    random: Math.random,
    newAbort() {
      let controller: AbortController | undefined;
      let isAborted: { readonly reason: unknown } | undefined;
      return {
        get signal() {
          controller ??= new AbortController();
          if (isAborted) controller.abort(isAborted.reason);
          return controller.signal;
        },
        abort(reason) {
          isAborted ??= { reason };
          controller?.abort(reason);
        },
      };
    },
    onWake,
    warn: (message) => {
      if (!isProduction()) console.warn(`stepfast: ${message}`);
    },
    report: (error) => console.error('stepfast:', error),
    URL,
  };
}
