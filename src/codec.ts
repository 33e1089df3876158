import { StepfastError } from './errors.js';
import type { RecordedError } from './journal.js';
import type { Json } from './json.js';

/*
 * Users' values <-> the plain JSON that stores keep (spec D7). Lossless or refused, never changed in silence.
 *
 * C1. JSON values are kept as they are, so that a person can read a journal. Everything else is `{ "$": [tag, ...] }`,
 *     and so is a user's object that has a key `$` of its own: the two can not be confused.
 * C2. Both directions number objects in the same pre-order; `{ "$": ["ref", n] }` is the n-th again. A store must
 *     therefore keep the order of keys.
 * C3. Errors are recorded leniently: reporting a failure must not fail because of what hangs on it.
 * C4. Tags are persisted for ever; they are the names of built-in classes, or lower-case words.
 */

/** Objects may be nested this deep: neither direction can overflow the stack. */
export const MAX_DEPTH = 200;
/** Message and stack of a recorded error are cut off here, in characters. */
export const MAX_ERROR_TEXT = 8_192;
/** `cause` and `errors` of a recorded error are followed this deep ... */
export const MAX_CAUSE_DEPTH = 8;
/** ... and to this many errors in all. */
export const MAX_CAUSES = 64;
/** Default limit of one encoded value, in approximate bytes. */
export const MAX_VALUE_BYTES = 1_048_576;

/** Maps values and errors to what a store keeps, and back. */
export interface Codec {
  /**
   * The JSON tree of a value.
   *
   * @param what Names the value in messages, e.g. `'the payload'`.
   * @throws {StepfastError} `NOT_SERIALIZABLE` with the `path`, or `VALUE_TOO_LARGE`.
   */
  encode(value: unknown, what?: string): Json;
  /** The value of a tree: always fresh objects. Throws `STORE_CORRUPT` for what `encode` can not have made. */
  decode(json: Json): unknown;
  /** Never throws; what can not be kept of an error is left out. */
  encodeError(error: unknown): RecordedError;
  decodeError(recorded: RecordedError): Error;
}

export interface CodecOptions {
  /** The platform's `URL`. Without it URLs are refused. */
  readonly URL?: (new (href: string) => unknown) | undefined;
  /** Default: 1 MiB. */
  readonly maxBytes?: number | undefined;
  /** Pass `Blob` and `File` through as live leaves, for stores that can keep them. */
  readonly blobs?: boolean | undefined;
}

type Key = string | number | symbol;
type Bag = Record<string, unknown>;

// What `decode` takes from the global object is named here, in full: a tag in a damaged file can ask for nothing else.
const VIEWS = /^((Int|Uint)(8|16|32)|Uint8Clamped|Float(32|64)|Big(Int|Uint)64)Array$|^DataView$/;
const ERRORS = /^(Eval|Range|Reference|Syntax|Type|URI|Aggregate)Error$/;
const builtin = (name: string): unknown => (globalThis as unknown as Bag)[name];

const { getPrototypeOf, hasOwn, keys, defineProperty } = Object;
const tagOf = (value: unknown): string => Object.prototype.toString.call(value).slice(8, -1);
const isError = (value: unknown): boolean => value instanceof Error || tagOf(value) === 'Error';

/** `Object.prototype`, of any realm. */
const isRoot = (proto: object | null): boolean =>
  proto !== null && getPrototypeOf(proto) === null && hasOwn(proto, 'hasOwnProperty');

/** The tag of a plain object or of an instance of a built-in class itself; a subclass has a longer chain. */
function builtinOf(value: object): string | undefined {
  const tag = tagOf(value);
  const proto = getPrototypeOf(value);
  if (proto === null || isRoot(proto)) return tag === 'Object' ? tag : undefined;
  let base = getPrototypeOf(proto);
  if (tag === 'File' || (ArrayBuffer.isView(value) && tag !== 'DataView')) base = getPrototypeOf(base);
  return tag !== 'Object' && isRoot(base) && proto.constructor.name === tag ? tag : undefined;
}

const pathText = (path: readonly Key[]): string =>
  path.reduce<string>((text, key) => {
    if (typeof key !== 'string') return `${text}[${String(key)}]`;
    return text + (/^[a-z_$][\w$]{0,63}$/i.test(key) ? `.${key}` : `[${JSON.stringify(key.slice(0, 64))}]`);
  }, '$');

export function createCodec({ URL, maxBytes = MAX_VALUE_BYTES, blobs }: CodecOptions = {}): Codec {
  /** The state of one encoding. */
  function writer(what: string) {
    const seen = new Map<object, number>();
    const path: Key[] = [];
    let bytes = 0;

    const fail = (code: 'NOT_SERIALIZABLE' | 'VALUE_TOO_LARGE', why: string, options?: ErrorOptions): never => {
      const place = { path: pathText(path) };
      throw new StepfastError(code, `Can not store ${what}: ${place.path} ${why}`, place, options);
    };
    const refuse = (is: string, options?: ErrorOptions): never =>
      fail(
        'NOT_SERIALIZABLE',
        `${is}. Convert it to plain data (JSON, Date, Map, Set, bytes) or leave it out.`,
        options,
      );

    const spend = (count: number): void => {
      bytes += count;
      if (bytes <= maxBytes) return;
      const size = Math.ceil(bytes);
      fail(
        'VALUE_TOO_LARGE',
        `goes over the limit of ${maxBytes} bytes (at least ${size}). Store a reference instead.`,
      );
    };

    const text = (value: string): string => {
      spend(value.length);
      return value;
    };

    const within = <T>(key: Key, visit: () => T): T => {
      path.push(key);
      const result = visit();
      path.pop();
      return result;
    };
    const at = (key: string | number, holder: object, depth: number): Json =>
      within(key, () => write((holder as Bag)[key], depth));

    /** Enumerable keys. Hidden ones are bookkeeping of frameworks, and stay behind. */
    const keysOf = (value: object): string[] => {
      for (const symbol of Object.getOwnPropertySymbols(value)) {
        if (!Object.prototype.propertyIsEnumerable.call(value, symbol)) continue;
        within(symbol, () => refuse('has a symbol as its key'));
      }
      return keys(value);
    };

    const write = (value: unknown, depth: number): Json => {
      if (typeof value === 'string') return text(value);
      spend(8);
      if (value === null || typeof value === 'boolean') return value;
      if (typeof value === 'number') {
        if (Object.is(value, -0)) return { $: ['number', '-0'] };
        return Number.isFinite(value) ? value : { $: ['number', String(value)] };
      }
      if (value === undefined) return { $: ['undefined'] };
      if (typeof value === 'bigint') return { $: ['bigint', text(String(value))] };
      if (typeof value !== 'object') return refuse(`is a ${typeof value}`);

      const known = seen.get(value);
      if (known !== undefined) return { $: ['ref', known] };
      if (depth > MAX_DEPTH) refuse(`is nested deeper than ${MAX_DEPTH} levels`);
      seen.set(value, seen.size);
      if (!isError(value)) return writeObject(value as never, depth + 1);
      const json: Json = { $: ['Error', record(value, depth, 0, { left: MAX_CAUSES }) as unknown as Json] };
      spend(0);
      return json;
    };

    const writeObject = (value: Bag & unknown[] & Date & RegExp & ArrayBufferView, depth: number): Json => {
      const tag = builtinOf(value);
      if (tag === 'Object') {
        const fields = Object.fromEntries(keysOf(value).map((key) => [text(key), at(key, value, depth)]));
        if (getPrototypeOf(value) === null) return { $: ['null', fields] };
        return hasOwn(fields, '$') ? { $: ['object', fields] } : fields;
      }
      if (tag === 'Array') {
        spend(value.length);
        const found = keysOf(value);
        // Index keys come first and ascend: with the right count and the right last one, none is missing.
        if (found.length !== value.length || (found.at(-1) ?? '-1') !== String(value.length - 1)) {
          refuse('is an array with holes or extra properties');
        }
        return found.map((_, index) => at(index, value, depth));
      }
      if (tag === 'URL' && URL) return { $: [tag, text(String(value.href))] };
      if (blobs && (tag === 'Blob' || tag === 'File')) {
        spend(Number(value.size));
        // Size, type and name let `sameJson` tell two of them apart without reading them.
        return { $: [tag, value, value.size, value.type, value.name ?? null] as Json };
      }
      if (tag === 'ArrayBuffer' || VIEWS.test(tag as string)) {
        const { buffer = value as never, byteOffset, byteLength } = value;
        spend(byteLength * 1.4);
        return { $: [tag as string, toBase64(new Uint8Array(buffer, byteOffset, byteLength))] };
      }
      if (tag === 'Date' || tag === 'RegExp' || tag === 'Map' || tag === 'Set') {
        if (keysOf(value).length > 0) refuse(`is a ${tag} with extra properties`);
        if (tag === 'Date') return { $: [tag, value.toJSON()] };
        if (tag === 'RegExp') return { $: [tag, text(value.source), value.flags] };
        // The path counts entries as `[...map]` would show them.
        const entry = (item: unknown, index: number): Json =>
          within(index, () =>
            tag === 'Set' ? write(item, depth) : [at(0, item as object, depth), at(1, item as object, depth)],
          );
        return { $: [tag, Array.from(value, entry)] };
      }
      return refuse(`is a class instance (${getPrototypeOf(value)?.constructor?.name ?? tagOf(value)})`);
    };

    /** `causes` is shared by an error and all that it carries: how many more may be followed. */
    const record = (error: unknown, depth: number, level: number, causes: { left: number }): RecordedError => {
      const real = isError(error);
      const get = (key: string): unknown => {
        try {
          return real ? (error as Bag)[key] : undefined;
        } catch {
          return undefined; // a getter that throws (C3)
        }
      };
      const show = (value: unknown): string => {
        let shown = 'unknown';
        try {
          shown = String(value).slice(0, MAX_ERROR_TEXT);
        } catch {} // nothing that String() takes (C3)
        bytes += shown.length;
        return shown;
      };
      const follow = (cause: unknown): RecordedError[] =>
        level < MAX_CAUSE_DEPTH && depth < MAX_DEPTH && causes.left-- > 0
          ? [record(cause, depth + 1, level + 1, causes)]
          : [];
      const data = (holder: object): { data?: Json } => {
        const mark = { bytes, size: seen.size, length: path.length };
        try {
          return { data: at('data', holder, depth + 1) };
        } catch {
          // Left out (C3), and forgotten: the numbers of C2 count only what was written.
          for (const [object, number] of seen) if (number >= mark.size) seen.delete(object);
          bytes = mark.bytes;
          path.length = mark.length;
          return {};
        }
      };
      const { code, step, identity, stack, cause, errors } = Object.fromEntries(
        ['code', 'step', 'identity', 'stack', 'cause', 'errors'].map((key) => [key, get(key)]),
      );
      const [recordedCause] = cause === undefined ? [] : follow(cause);
      // `read` visits in this order too: cause, errors, data.
      return {
        name: show(get('name') ?? 'Error'),
        message: show(real ? get('message') : error),
        ...((typeof code === 'string' || typeof code === 'number') && {
          code: typeof code === 'string' ? show(code) : code,
        }),
        ...(typeof step === 'string' && { step: show(step) }),
        ...(Array.isArray(identity) && { identity: [identity[0], show(identity[1]), Number(identity[2])] as never }),
        ...(typeof stack === 'string' && { stack: show(stack) }),
        ...(recordedCause && { cause: recordedCause }),
        ...(Array.isArray(errors) && { errors: errors.slice(0, MAX_CAUSES).flatMap(follow) }),
        ...(real ? get('data') !== undefined && data(error as object) : data({ data: error })),
      };
    };
    return { seen, write, record, refuse };
  }

  /** The state of one decoding. Whatever it throws becomes `STORE_CORRUPT`. */
  function reader() {
    const seen: unknown[] = [];
    const keep = <T>(value: T): T => {
      seen.push(value);
      return value;
    };
    const check = (depth: number): void => {
      if (depth > MAX_DEPTH + 1) throw new RangeError('nested too deeply');
    };

    const read = (json: Json | undefined, depth: number): unknown => {
      if (typeof json !== 'object' || json === null) return json;
      check(depth);
      const each = (list: Json | undefined, visit: (item: Json) => void): void => (list as Json[]).forEach(visit);
      const next = (item: Json | undefined): unknown => read(item, depth + 1);
      const fill = (target: object, fields: Json | undefined): object => {
        // Defined, not assigned: a key `__proto__` is data.
        for (const key of keys(fields as Bag)) {
          const value = next((fields as Record<string, Json>)[key]);
          defineProperty(target, key, { value, configurable: true, enumerable: true, writable: true });
        }
        return target;
      };
      if (Array.isArray(json)) {
        const list: unknown[] = keep([]);
        each(json, (item) => list.push(next(item)));
        return list;
      }
      if (!hasOwn(json, '$')) return fill(keep({}), json);

      const [tag, first, second] = (json as { $: Json[] }).$;
      switch (tag) {
        case 'undefined':
          return undefined;
        case 'number':
          return Number(first);
        case 'bigint':
          return BigInt(first as string);
        case 'ref':
          if (typeof first === 'number' && first in seen) return seen[first];
          break;
        case 'object':
          return fill(keep({}), first);
        case 'null':
          return fill(keep(Object.create(null)), first);
        case 'Date':
          return keep(new Date((first as string | null) ?? Number.NaN));
        case 'RegExp':
          return keep(new RegExp(first as string, second as string));
        case 'Error':
          return revive(first as unknown as RecordedError, depth, keep);
        case 'Map': {
          const map = keep(new Map());
          each(first, (pair) => map.set(next((pair as Json[])[0]), next((pair as Json[])[1])));
          return map;
        }
        case 'Set': {
          const set = keep(new Set());
          each(first, (item) => set.add(next(item)));
          return set;
        }
        case 'ArrayBuffer':
          return keep(fromBase64(first as string));
        case 'URL':
          if (URL) return keep(new URL(first as string));
          break;
        case 'Blob':
        case 'File':
          if (blobs && tagOf(first) === tag) return keep(first);
      }
      if (VIEWS.test(tag as string)) {
        return keep(new (builtin(tag as string) as new (buffer: ArrayBuffer) => object)(fromBase64(first as string)));
      }
      throw new TypeError('unknown tag');
    };

    /** Only an error that stands in a value has a number (C2); those it carries have none. */
    const revive = (recorded: RecordedError, depth: number, number = <T>(error: T): T => error): Error => {
      check(depth - MAX_CAUSE_DEPTH);
      const { name, message, code, step, stack, cause, errors, data } = recorded;
      const Class = (ERRORS.test(name) ? builtin(name) : Error) as new (errors: []) => Error;
      const error = number(new Class([]));
      const hide = (key: string, value: unknown): unknown =>
        defineProperty(error, key, { value, configurable: true, enumerable: false, writable: true });
      hide('message', message);
      hide('stack', stack ?? `${name}: ${message}`);
      if (error.name !== name) hide('name', name);
      if (cause) hide('cause', revive(cause, depth + 1));
      if (errors)
        hide(
          'errors',
          errors.map((inner) => revive(inner, depth + 1)),
        );
      return Object.assign(
        error,
        code !== undefined && { code },
        step !== undefined && { step },
        hasOwn(recorded, 'data') && { data: read(data, depth + 1) },
      );
    };
    return { read, revive, keep };
  }

  const decoded = <T>(read: () => T): T => {
    try {
      return read();
    } catch (cause) {
      const message = 'A stored value can not be read: it is damaged, or of a type unknown here.';
      throw new StepfastError('STORE_CORRUPT', message, {}, { cause });
    }
  };

  return {
    encode(value, what = 'the value') {
      const { write, refuse } = writer(what);
      try {
        return write(value, 0);
      } catch (cause) {
        if (cause instanceof StepfastError) throw cause;
        return refuse('can not be read', { cause }); // a getter or a proxy of the user that throws
      }
    },
    decode: (json) => decoded(() => reader().read(json, 0)),
    encodeError(error) {
      const { seen, record } = writer('the error');
      // It takes the number 0, as in `decodeError`, also when what was thrown is no error.
      seen.set(isError(error) ? (error as object) : {}, 0);
      return record(error, 0, 0, { left: MAX_CAUSES });
    },
    decodeError: (recorded) =>
      decoded(() => {
        const { revive, keep } = reader();
        return revive(recorded, 0, keep);
      }),
  };
}

/** Deep equality of two encoded values, whatever the order of their keys. */
export function sameJson(a: Json, b: Json): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || !a || !b || Array.isArray(a) !== Array.isArray(b)) return false;
  const [left, right] = [a, b] as { readonly [key: string]: Json }[];
  const found = keys(a);
  return (
    found.length === keys(b).length &&
    found.every((key) => hasOwn(b, key) && sameJson(left?.[key] as Json, right?.[key] as Json))
  );
}

// Base64 by hand: `btoa` and `Buffer` are platform API.
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

function toBase64(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i += 3) {
    const bits = ((bytes[i] ?? 0) << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    for (let shift = 18; shift >= 0; shift -= 6) text += ALPHABET[(bits >> shift) & 63];
  }
  const pad = (3 - (bytes.length % 3)) % 3;
  return text.slice(0, text.length - pad) + '='.repeat(pad);
}

function fromBase64(text: string): ArrayBuffer {
  const length = text.replace(/=+$/, '').length;
  const bytes = new Uint8Array((length * 3) >> 2);
  let bits = 0;
  for (let i = 0; i < length; i++) {
    const value = ALPHABET.indexOf(text[i] as string);
    if (value < 0) throw new TypeError('not base64');
    bits = (bits << 6) | value;
    // The character at i completes byte ceil(i * 3 / 4) - 1, unless it is the first of its four.
    if (i % 4) bytes[Math.ceil((i * 3) / 4) - 1] = bits >> (6 - 2 * (i % 4));
  }
  return bytes.buffer;
}
