import { EventTimeoutError, isStepfastError, StepError, StepfastError } from '../../src/errors.js';
import type { RecordedError } from '../../src/store/journal.js';
import { type Codec, createCodec } from '../../src/values/codec.js';
import type { Json } from '../../src/values/json.js';

/*
 * What travels. Values go as the codec writes them, for structured cloning is another thing: it loses the class and code
 * of errors, and a run must see the same value whether it was started here or there (spec D7).
 *
 * B1. Every message names its protocol version, and who it is for: several clients, and several engines, can share a port.
 * B2. A client says nothing but `hello` until an engine has answered: what is sent before somebody listens may be lost.
 * B3. Payloads, results and such are encoded each by itself, so that their depth and size are judged as in one context.
 */

/** Of the messages below. Both sides must have the same. */
export const PROTOCOL = 1;

/** What a client can ask of the engine; names of the public API, and of what hangs on its results. */
export type Word =
  | 'ready'
  | 'start'
  | 'dispatch'
  | `runs.${'get' | 'list' | 'timeline' | 'cancel' | 'retry' | 'fork' | 'delete' | 'export' | 'import'}`
  | `state.${'get' | 'set' | 'delete' | 'increment' | 'lock'}`
  | 'lock.release'
  | `handle.${'status' | 'result'}`
  | 'schedule'
  | `schedule.${'next' | 'stop'}`;

type Fields = { readonly [field: string]: Json };

export type Packed =
  | { readonly kind: 'value'; readonly json: Json }
  | { readonly kind: 'row'; readonly fields: Fields }
  | { readonly kind: 'rows'; readonly rows: readonly Fields[]; readonly cursor?: string }
  /** JSON already: an exported run. */
  | { readonly kind: 'plain'; readonly value: unknown };

export interface PackedError {
  readonly recorded: RecordedError;
  /** It was an instance of the class of its name, and has fields of its own. */
  readonly fields?: Fields;
}

/** The client's page may be about to go; goes into the back/forward cache; is back from there, or has stayed. */
export type PageNews = 'leaving' | 'away' | 'back';

export type ToEngine =
  | { readonly kind: 'ping' | 'pong' | 'bye' }
  /** `left`: notes of visits that ended in an orderly way. */
  | { readonly kind: 'hello'; readonly left: readonly string[] }
  | { readonly kind: PageNews }
  | { readonly kind: 'call'; readonly id: number; readonly word: Word; readonly given: readonly Packed[] }
  | { readonly kind: 'subscribe'; readonly id: number; readonly run: Packed }
  /** The end of a subscription, or of a handle that nobody holds any more. */
  | { readonly kind: 'forget'; readonly id: number };

export type ToClient =
  /** `here`: somebody listens now, to all whom it may concern. `welcome` answers `hello`. */
  | { readonly kind: 'here' | 'welcome' | 'ping' | 'pong' | 'bye' }
  /** To be written when the client's page goes, and the worker of the engine with it. */
  | { readonly kind: 'notes'; readonly notes: readonly string[] }
  | { readonly kind: 'value' | 'snapshot'; readonly id: number; readonly value: Packed }
  | { readonly kind: 'error'; readonly id: number; readonly error: PackedError };

/** Around each message. */
export interface Envelope {
  readonly v: number;
  readonly to: 'engine' | 'client';
  readonly client?: string;
  readonly engine?: string;
}

export interface Packer {
  readonly codec: Codec;
  value(value: unknown, what?: string): Packed;
  /** An object whose fields are values of their own. Anything else is packed as a value. */
  row(value: unknown): Packed;
  rows(value: readonly object[]): Packed;
  open(packed: Packed): unknown;
  error(error: unknown): PackedError;
  openError(packed: PackedError): Error;
}

const FAMILY: Readonly<Record<string, typeof StepfastError>> = { StepfastError, StepError, EventTimeoutError };
/** What the codec keeps of an error by itself. */
const RECORDED = new Set(['name', 'message', 'stack', 'cause', 'errors', 'code', 'step', 'data']);

export function createPacker(): Packer {
  // The engine's own limits decide; here nothing is too large, and a `Blob` goes as the port carries it.
  const codec = createCodec({ URL, blobs: true, maxBytes: Infinity });
  const pack = (row: object): Fields =>
    Object.fromEntries(Object.entries(row).map(([field, value]) => [field, codec.encode(value)]));
  const unpack = (fields: Fields) =>
    Object.fromEntries(Object.entries(fields).map(([field, json]) => [field, codec.decode(json)]));
  const value = (given: unknown, what?: string): Packed => ({ kind: 'value', json: codec.encode(given, what) });
  /** Fields of an error that say where it happened; what a validator hangs on its issues may not be data. */
  const fieldsOf = (error: Error): Fields => {
    const fields: Record<string, Json> = {};
    for (const [field, given] of Object.entries(error).filter(([field]) => !RECORDED.has(field)))
      try {
        fields[field] = codec.encode(given);
      } catch {
        const issues = field === 'issues' && Array.isArray(given) ? given : [];
        fields[field] = issues.map((issue) => ({ message: String(issue?.message) }));
      }
    return fields;
  };
  return {
    codec,
    value,
    row: (given) => (typeof given === 'object' && given ? { kind: 'row', fields: pack(given) } : value(given)),
    rows: (given) => ({ kind: 'rows', rows: given.map(pack) }),
    open(packed) {
      if (packed.kind === 'value') return codec.decode(packed.json);
      if (packed.kind === 'row') return unpack(packed.fields);
      return packed.kind === 'rows' ? packed.rows.map(unpack) : packed.value;
    },
    error(error) {
      const recorded = codec.encodeError(error);
      const isInstance = isStepfastError(error) && Object.getPrototypeOf(error) !== Error.prototype;
      return { recorded, ...(isInstance && { fields: fieldsOf(error) }) };
    },
    openError({ recorded, fields }) {
      const error = codec.decodeError(recorded);
      const family = fields && FAMILY[recorded.name];
      if (!family) return error;
      Object.setPrototypeOf(error, family.prototype);
      Reflect.deleteProperty(error, 'name'); // that of its class
      return Object.assign(error, unpack(fields));
    },
  };
}

/** Ids of clients and engines on one port: apart from each other, never a secret. */
export const newId = (): string => Math.random().toString(36).slice(2) + Math.random().toString(36).slice(2);
