import { heard as called } from '../../src/engine/heard.js';

/*
 * One way to hear and to speak, whatever carries the messages: a `MessagePort` of the platform or of Node, a `Worker` (or
 * `self` inside it), Electron's `MessagePortMain`, a pair of functions over any other pipe that keeps the order.
 */

/**
 * What carries the messages: it has `postMessage`, and `addEventListener` or `on`.
 *
 * A port is lent: it is never closed, only no longer listened to. Messages that others send over it are left alone.
 */
export interface BridgePort {
  postMessage(message: unknown): void;
  addEventListener?(type: string, listener: (event: unknown) => void): void;
  removeEventListener?(type: string, listener: (event: unknown) => void): void;
  on?(type: string, listener: (...given: unknown[]) => void): unknown;
  off?(type: string, listener: (...given: unknown[]) => void): unknown;
  /** Where there is one, messages are held back until it is called. */
  start?(): void;
}

/** How a port says that the other side is gone, where it says so at all: Node's threads exit, everything else closes. */
const ENDINGS = ['close', 'exit'];

/** Every message of the bridge has it; anything without it is somebody else's. */
const MARK = 'bridge';

type Bag = Readonly<Record<string, unknown>>;

const isOurs = (value: unknown): value is Bag =>
  typeof value === 'object' && value !== null && (value as Bag).stepfast === MARK;

/** A listener gets the message, an event that has it as `data`, or (Electron's `ipcRenderer`) both, in either order. */
function messageIn(given: readonly unknown[]): Bag | undefined {
  for (const each of given) {
    if (isOurs(each)) return each;
    const { data } = (each ?? {}) as Bag;
    if (isOurs(data)) return data;
  }
  return undefined;
}

export interface Line {
  /** Throws what the port throws: it may be closed, or unable to carry what is in the message. */
  post(message: object): void;
  close(): void;
}

interface Listening {
  heard(message: Bag): void;
  /** The port says that there is nobody at the other end any more. */
  gone(): void;
  report(error: unknown): void;
}

/** Tells of errors without a caller. An `onError` that throws has nobody left to tell. */
export const reporter =
  (onError: (error: unknown) => unknown = (error) => console.error('stepfast:', error)) =>
  (error: unknown): void =>
    called(
      () => onError(error),
      () => undefined,
    );

/** Listens until it is closed. */
export function lineOver(port: BridgePort, { heard, gone, report }: Listening): Line {
  const onMessage = (...given: unknown[]) => {
    const message = messageIn(given);
    if (message) heard(message);
  };
  // Whatever arrives, and whatever it leads to: thrown out of a listener of a port, it would end the process (spec B).
  const contained =
    (listener: (...given: unknown[]) => void) =>
    (...given: unknown[]) =>
      called(() => listener(...given), report);
  const onEnd = contained(gone);
  const listeners = [['message', contained(onMessage)] as const, ...ENDINGS.map((type) => [type, onEnd] as const)];
  const isTarget = typeof port.addEventListener === 'function';
  for (const [type, listener] of listeners) {
    if (isTarget) port.addEventListener?.(type, listener);
    else port.on?.(type, listener);
  }
  port.start?.();
  return {
    post: (message) => port.postMessage({ stepfast: MARK, ...message }),
    close() {
      for (const [type, listener] of listeners) {
        if (isTarget) port.removeEventListener?.(type, listener);
        else port.off?.(type, listener);
      }
    },
  };
}
