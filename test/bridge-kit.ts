import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { afterEach } from 'vitest';
import { memoryMedium, memoryStore } from '../adapters/memory/index.js';
import {
  type BridgePort,
  type ConnectOptions,
  connectStepfast,
  type ServeOptions,
  type Serving,
  serveStepfast,
} from '../plugins/bridge/index.js';
import { createStepfast, type EngineOptions, type RunHandle, type RunSnapshot, type Stepfast } from '../src/index.js';

/*
 * An engine, a channel of Node, and who uses the engine over it.
 */

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const each of cleanups.splice(0).reverse()) await each();
});
export const cleanup = (fn: () => unknown): void => void cleanups.push(fn);

export const channel = (): { readonly port1: MessagePort; readonly port2: MessagePort } => {
  const { port1, port2 } = new MessageChannel();
  cleanup(() => {
    port1.close();
    port2.close();
  });
  return { port1, port2 };
};

export interface Pair {
  readonly engine: Stepfast;
  readonly remote: Stepfast;
  readonly serving: Serving;
  readonly port1: MessagePort;
  readonly port2: MessagePort;
  /** What the client heard of: errors without a caller, and losses. */
  readonly errors: unknown[];
  readonly lost: unknown[];
  /** One more client, on a channel of its own. */
  another(): Stepfast;
}

export interface PairOptions {
  readonly engine?: Partial<EngineOptions>;
  readonly serve?: ServeOptions;
  readonly connect?: ConnectOptions;
}

export function pair(define: (stepfast: Stepfast) => void = () => undefined, options: PairOptions = {}): Pair {
  const errors: unknown[] = [];
  const lost: unknown[] = [];
  const onError = (error: unknown) => void errors.push(error);
  const store = memoryStore({ medium: memoryMedium() });
  const engine = createStepfast({ store, onError, ...options.engine });
  define(engine);
  cleanup(() => engine.close());
  const connect = (port: BridgePort) => {
    const client = connectStepfast(port, { onError, onLost: (error) => void lost.push(error), ...options.connect });
    cleanup(() => client.close());
    return client;
  };
  const { port1, port2 } = channel();
  const serving = serveStepfast(engine, port1, { onError, ...options.serve });
  cleanup(() => serving.close());
  return {
    ...{ engine, serving, port1, port2, errors, lost },
    remote: connect(port2),
    another() {
      const more = channel();
      const served = serveStepfast(engine, more.port1, { onError, ...options.serve });
      cleanup(() => served.close());
      return connect(more.port2);
    },
  };
}

export const until = (runs: Stepfast['runs'], runId: string, status: RunSnapshot['status']): Promise<RunSnapshot> =>
  new Promise((resolve) => {
    const undo = runs.subscribe(runId, (snapshot) => {
      if (snapshot.status !== status) return;
      queueMicrotask(() => undo());
      resolve(snapshot);
    });
  });

/** Until the condition holds; the test's own timeout ends it otherwise. */
export const eventually = async (holds: () => boolean): Promise<void> => {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve));
};

/** What a promise rejects with. */
export const failureOf = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    (value) => {
      throw new Error(`resolved with ${String(value)}`);
    },
    (error: Error) => error,
  );

export type { RunHandle };
