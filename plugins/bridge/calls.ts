import { StepfastError } from '../../src/errors.js';
import type { Clock } from '../../src/platform.js';
import { type BridgePort, lineOver } from './port.js';
import { createPulse } from './pulse.js';
import {
  type Envelope,
  newId,
  type Packed,
  type Packer,
  type PageNews,
  PROTOCOL,
  type ToClient,
  type ToEngine,
  type Word,
} from './wire.js';

/*
 * A client's end of the line: questions and their answers, what is pushed, and the end of it all.
 */

export interface Calls {
  /** Asks the engine. Rejects with its error, or with why the line has ended. */
  call(word: Word, ...given: readonly Packed[]): Call;
  /** Calls back with what is pushed, until the returned function is called. */
  subscribe(run: Packed, heard: (value: Packed) => void): () => void;
  /** What the engine's side keeps for this id is needed no longer. */
  forget(id: number): void;
  /** Says what becomes of the client's page. */
  tell(kind: PageNews): void;
  /** Tells of notes that were written since. */
  greet(): void;
  /** Throws why the line has ended, if it has. */
  check(): void;
  /** Something is kept at the engine's side: whether it is there matters, until the returned function is called. */
  keep(): () => void;
  end(error: StepfastError): void;
}

export interface Call {
  readonly id: number;
  readonly answer: Promise<Packed>;
}

interface CallsOptions {
  readonly port: BridgePort;
  readonly packer: Packer;
  readonly clock: Clock;
  readonly everyMs: number;
  report(error: unknown): void;
  /** The line has ended, other than by `end`. */
  lost(error: StepfastError): void;
  /** Notes of visits that ended in an orderly way. */
  left(): readonly string[];
  /** Notes to be written when this page goes. */
  noted(notes: readonly string[]): void;
}

interface Pending {
  resolve(value: Packed): void;
  reject(error: Error): void;
}

const lostPort = (why: string, options?: ErrorOptions) =>
  new StepfastError(
    'PORT_LOST',
    `${why}. What was under way may have happened or not. Connect again and ask; idempotency keys make it safe to repeat.`,
    {},
    options,
  );

/** Structured cloning refuses a value, a `Blob` over a port of processes, say, or a getter in it has thrown. */
const uncarried = (cause: unknown) =>
  new StepfastError(
    'NOT_SERIALIZABLE',
    'This port can not carry a value that was given. Give plain data, or use another kind of port.',
    {},
    { cause },
  );

const outdated = (theirs: number) =>
  new StepfastError(
    'OUTDATED',
    theirs > PROTOCOL
      ? 'The engine at the other end of the port is of a newer release of stepfast. Load this context anew to get the newer code.'
      : 'The engine at the other end of the port is of an older release of stepfast. Load its context anew to get the newer code.',
  );

export function createCalls({ port, packer, clock, everyMs, report, lost, left, noted }: CallsOptions): Calls {
  const client = newId();
  const pending = new Map<number, Pending>();
  const subscriptions = new Map<number, (value: Packed) => void>();
  const outbox: ToEngine[] = [];
  let engine: string | undefined;
  let ended: StepfastError | undefined;
  let order = 0;
  let kept = 0;

  const post = (message: ToEngine) => {
    try {
      line.post({ v: PROTOCOL, to: 'engine', client, ...(engine !== undefined && { engine }), ...message });
    } catch (cause) {
      if (message.kind !== 'call') return lose(lostPort('The port to the engine can not be written to', { cause }));
      post({ kind: 'ping' }); // what users hand in is not to blame where this throws as well: then every call is lost
      refuse(message.id, uncarried(cause));
    }
  };
  const greet = () => post({ kind: 'hello', left: left() });
  /** Nobody may listen yet: then it is kept back until somebody does. */
  const send = (message: ToEngine) => {
    if (engine === undefined) outbox.push(message);
    else post(message);
    pulse.need();
  };
  const refuse = (id: number, error: Error) => {
    pending.get(id)?.reject(error);
    pending.delete(id);
  };
  const end = (error: StepfastError) => {
    if (ended) return;
    ended = error;
    pulse.stop();
    line.close();
    outbox.length = 0;
    subscriptions.clear();
    for (const { reject } of pending.values()) reject(error);
    pending.clear();
  };
  const lose = (error: StepfastError) => {
    if (ended) return;
    end(error);
    lost(error);
  };
  const pulse = createPulse({
    clock,
    everyMs,
    isNeeded: () => pending.size + subscriptions.size + kept > 0,
    ask: () => (engine === undefined ? greet() : post({ kind: 'ping' })),
    lost: () => lose(lostPort('Nobody answers at the other end of the port')),
  });
  const settle = (message: Extract<ToClient, { readonly id: number }>) => {
    if (message.kind === 'snapshot') return subscriptions.get(message.id)?.(message.value);
    if (message.kind === 'error') {
      const error = packer.openError(message.error);
      if (subscriptions.delete(message.id)) report(error); // who subscribed has gone on since
      return refuse(message.id, error);
    }
    pending.get(message.id)?.resolve(message.value);
    pending.delete(message.id);
  };
  const heard = (message: Partial<Envelope & ToClient>) => {
    const { to, v, client: id, kind } = message;
    if (ended || to !== 'client' || typeof v !== 'number' || typeof message.engine !== 'string') return;
    if (id !== undefined ? id !== client : kind !== 'here') return;
    if (engine !== undefined && message.engine !== engine) return;
    if (v !== PROTOCOL) return lose(outdated(v));
    pulse.heard();
    if (kind === 'here' && engine === undefined) greet();
    else if (kind === 'notes') noted(message.notes ?? []);
    else if (kind === 'welcome') {
      engine = message.engine;
      for (const each of outbox.splice(0)) post(each);
    } else if (kind === 'ping') post({ kind: 'pong' });
    else if (kind === 'bye') lose(lostPort('The engine is no longer served'));
    else settle(message as Extract<ToClient, { readonly id: number }>);
  };
  const gone = () => lose(lostPort('The port to the engine was closed'));
  const line = lineOver(port, { heard, gone, report });
  greet();

  return {
    call(word, ...given) {
      const id = ++order;
      const answer = new Promise<Packed>((resolve, reject) => {
        if (ended) throw ended;
        pending.set(id, { resolve, reject });
        send({ kind: 'call', id, word, given });
      });
      return { id, answer };
    },
    subscribe(run, listener) {
      const id = ++order;
      subscriptions.set(id, listener);
      send({ kind: 'subscribe', id, run });
      return () => {
        if (subscriptions.delete(id)) send({ kind: 'forget', id });
      };
    },
    forget(id) {
      if (!ended) send({ kind: 'forget', id });
    },
    tell(kind) {
      if (!ended && engine !== undefined) post({ kind });
    },
    greet() {
      if (!ended) greet();
    },
    check() {
      if (ended) throw ended;
    },
    keep() {
      kept++;
      let isKept = true;
      pulse.need();
      return () => {
        if (isKept) kept--;
        isKept = false;
      };
    },
    end(error) {
      const isOpen = ended === undefined;
      end(error);
      ended = error; // a lost port that is closed as well: what its user did last says more
      if (isOpen) post({ kind: 'bye' });
    },
  };
}
