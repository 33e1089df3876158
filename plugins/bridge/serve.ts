import type { Stepfast } from '../../src/engine/engine.js';
import type { Clock } from '../../src/platform.js';
import { check, checkClock, checkOptions } from '../../src/values/check.js';
import { type Duration, durationMs } from '../../src/values/duration.js';
import { systemClock } from './clock.js';
import { workerNotes } from './notes.js';
import { type BridgePort, lineOver, reporter } from './port.js';
import { createPulse, type Pulse } from './pulse.js';
import { createSession, type Session } from './session.js';
import { sharedOf } from './shared.js';
import { createPacker, type Envelope, newId, type PageNews, PROTOCOL, type ToClient, type ToEngine } from './wire.js';

/** How an engine is served. */
export interface ServeOptions {
  /**
   * A client that has something here (a subscription, a schedule) and is silent for two to three times as long, though
   * asked, is given up, and told so. `Infinity`: never. Default one minute. Where ports say when they end, nobody waits.
   */
  readonly heartbeat?: Duration;
  /** Default: the platform's. */
  readonly clock?: Clock;
  /** Hears of what could not be told to a client. Default: the console. */
  readonly onError?: (error: unknown) => void;
}

/** An engine that is served over a port. */
export interface Serving {
  /** Serves it no longer: clients see their port as lost. The engine stays as it is, and so does the port. */
  close(): void;
}

interface Client {
  readonly session: Session;
  readonly pulse: Pulse;
}

/** Refuses what can not carry messages; a beat in milliseconds. */
export function checkBridge(port: BridgePort, heartbeat: Duration): number {
  const speaks = typeof port?.postMessage === 'function';
  const hears = typeof port?.addEventListener === 'function' || typeof port?.on === 'function';
  check(speaks && hears, 'The port', port, 'a MessagePort, a Worker, or what has postMessage and on("message")');
  return heartbeat === Infinity ? Infinity : durationMs(heartbeat, 'heartbeat');
}

/**
 * A dedicated worker stops with its page, and hears nothing of it: in WebKit in the middle of a transaction, for which all
 * other pages of the site then wait. So it is told, and what listens for that in a page (the IndexedDB store) listens here.
 */
function relay(kind: PageNews): void {
  dispatchEvent(Object.assign(new Event(EVENTS[kind]), { persisted: true }));
}

const EVENTS = { leaving: 'beforeunload', away: 'pagehide', back: 'pageshow' } as const satisfies Record<
  PageNews,
  string
>;

/**
 * Lets other contexts use this engine: they call `connectStepfast` on the other end of the port.
 *
 * Whoever has the other end can do what the engine can: start jobs that are registered here, dispatch, cancel, read all.
 *
 * @param port One for each page or window, or one that several share.
 * @throws {StepfastError} `INVALID_OPTION`, `INVALID_DURATION`.
 * @example
 * // in a worker
 * const stepfast = createStepfast({ store: indexedDBStore({ name: 'app' }) });
 * serveStepfast(stepfast, self);
 * await stepfast.ready();
 */
export function serveStepfast(stepfast: Stepfast, port: BridgePort, options: ServeOptions = {}): Serving {
  check(typeof stepfast?.dispatch === 'function', 'The engine', stepfast, 'what createStepfast returns');
  checkOptions(options, ['heartbeat', 'clock', 'onError'], 'The options of serveStepfast');
  const { heartbeat = '1m', clock = systemClock, onError } = options;
  checkClock(clock);
  const everyMs = checkBridge(port, heartbeat);
  check(onError === undefined || typeof onError === 'function', 'onError', onError, 'a function, or leave it out');
  const report = reporter(onError);
  const engine = newId();
  const packer = createPacker();
  const shared = sharedOf(stepfast, packer);
  const clients = new Map<string, Client>();
  let isClosed = false;

  const post = (message: ToClient, client?: string) =>
    line.post({ v: PROTOCOL, to: 'client', engine, ...(client !== undefined && { client }), ...message });
  const tell = (message: ToClient, client?: string) => {
    try {
      post(message, client);
    } catch (error) {
      report(error);
    }
  };
  const leave = (id: string) => {
    clients.get(id)?.pulse.stop();
    clients.get(id)?.session.end();
    clients.delete(id);
  };
  const leaveAll = () => {
    for (const id of [...clients.keys()]) leave(id);
  };
  const meet = (id: string) => {
    if (clients.has(id)) return;
    const session = createSession({
      ...{ stepfast, packer, clock, shared, report },
      post(message) {
        if (clients.get(id)?.session !== session) return;
        post(message, id);
        pulse.need();
      },
    });
    const pulse = createPulse({
      clock,
      everyMs,
      isNeeded: session.isInUse,
      ask: () => tell({ kind: 'ping' }, id),
      lost() {
        leave(id);
        tell({ kind: 'bye' }, id); // it may only have been frozen, and must not believe that it still hears of changes
      },
    });
    clients.set(id, { session, pulse });
  };
  const heard = (message: Partial<Envelope & ToEngine>) => {
    const { to, v, client: id, kind } = message;
    if (to !== 'engine' || typeof id !== 'string') return;
    if (kind === 'hello') {
      if (v === PROTOCOL) meet(id);
      if (isOfPage) for (const note of message.left ?? []) workerNotes().left.add(note);
      tell({ kind: 'welcome' }, id); // of another version: it finds out by this answer
      return tellNotes();
    }
    if (v !== PROTOCOL || message.engine !== engine) return;
    if (kind === 'bye') return leave(id);
    if (kind === 'leaving' || kind === 'away' || kind === 'back') return isOfPage ? relay(kind) : undefined;
    const client = clients.get(id);
    if (!client) return tell({ kind: 'bye' }, id); // given up, and back: what it had here is gone
    const { session, pulse } = client;
    pulse.heard();
    if (kind === 'ping') tell({ kind: 'pong' }, id);
    session.heard(message as ToEngine);
    pulse.need();
  };
  /** Over any other port may be one page of several, with which nothing here ends. */
  const isOfPage = port === (globalThis as unknown);
  const tellNotes = () => {
    if (isOfPage) for (const id of clients.keys()) tell({ kind: 'notes', notes: [...workerNotes().own] }, id);
  };
  if (isOfPage) workerNotes().changed = tellNotes;
  const line = lineOver(port, { heard, gone: leaveAll, report });
  tell({ kind: 'here' });
  return {
    close() {
      if (isClosed) return;
      isClosed = true;
      for (const id of clients.keys()) tell({ kind: 'bye' }, id);
      leaveAll();
      line.close();
    },
  };
}
