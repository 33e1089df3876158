import { type ErrorCode, EventTimeoutError, FatalError, RetryableError, StepError, StepfastError } from '../errors.js';
import type { RecordedError } from '../store/journal.js';
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
  /**
   * Whether two trees are of equal values: whatever the order of their keys, and whatever of them is one object. Blobs are
   * read.
   */
  isSame(a: Json, b: Json): Promise<boolean>;
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

type Bag = Record<PropertyKey, unknown>;
type Class = new (...args: unknown[]) => object;

// What `decode` takes from the global object is named here, in full: a tag in a damaged file can ask for nothing else.
const VIEWS = /^(((Big)?(Int|Uint)\d+|Float(32|64)|Uint8Clamped)Array|DataView)$/;
const ERRORS = /^(Eval|Range|Reference|Syntax|Type|URI|Aggregate)Error$/;
/** Our own, so that `instanceof` says the same of an error that was recorded as of one that was thrown. */
const ownClass = (name: string): { readonly prototype: Error } | undefined =>
  [StepfastError, StepError, EventTimeoutError, FatalError, RetryableError].find(
    (each) => each.prototype.name === name,
  );
const builtin = (name: unknown) => (globalThis as unknown as Bag)[name as string] as Class;

const { getPrototypeOf, hasOwn, keys } = Object;
const tagOf = (value: unknown): string => Object.prototype.toString.call(value).slice(8, -1);
const isError = (value: unknown): value is object => value instanceof Error || tagOf(value) === 'Error';
const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null;

/** `Object.prototype`, of any realm, or nothing at all. */
const isRoot = (proto: object | null): boolean =>
  proto === null || (getPrototypeOf(proto) === null && hasOwn(proto, 'hasOwnProperty'));

/** The tag of a plain object or of an instance of a built-in class itself; a subclass has a longer chain. */
function builtinOf(value: object): string | undefined {
  const tag = tagOf(value);
  const proto = getPrototypeOf(value);
  if (isRoot(proto)) return tag === 'Object' ? tag : undefined;
  let base = getPrototypeOf(proto);
  if (/^File|.Array$/.test(tag)) base = getPrototypeOf(base);
  return tag !== 'Object' && isRoot(base) && proto.constructor.name === tag ? tag : undefined;
}

const pathText = (path: readonly PropertyKey[]): string =>
  path.reduce<string>((text, key) => {
    if (typeof key !== 'string') return `${text}[${String(key)}]`;
    return text + (/^[a-z_$][\w$]{0,63}$/i.test(key) ? `.${key}` : `[${JSON.stringify(key.slice(0, 64))}]`);
  }, '$');

/** What `read` returns, or nothing when it throws: reporting a failure must go on (C3). */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {} // left out
}

export function createCodec({ URL, maxBytes = MAX_VALUE_BYTES, blobs }: CodecOptions = {}): Codec {
  /**
   * The state of one encoding.
   *
   * @param isApart What occurs twice is written twice, and only what is inside of itself is a `ref`, to its ancestor of
   * that depth: then the tree depends on the value alone. For comparing, never for keeping.
   */
  function writer(what: string, isApart = false) {
    let seen = new Map<unknown, number>();
    const path: PropertyKey[] = [];
    let bytes = 0;
    let causes = 0;

    const refuse = (why: string, options?: ErrorOptions, code: ErrorCode = 'NOT_SERIALIZABLE'): never => {
      const place = { path: pathText(path) };
      const message = `Can not store ${what}: ${place.path} ${why}. Store a reference or plain data, or leave it out.`;
      throw new StepfastError(code, message, place, options);
    };

    const spend = (count: number): void => {
      bytes += count;
      if (bytes <= maxBytes) return;
      refuse(`goes over the limit of ${maxBytes} bytes (at least ${Math.ceil(bytes)})`, {}, 'VALUE_TOO_LARGE');
    };
    const text = (value: string): string => {
      spend(value.length);
      return value;
    };

    const at = (key: string | number, holder: unknown, depth: number, visit = write): Json => {
      path.push(key);
      const json = visit((holder as Bag)[key], depth);
      path.pop();
      return json;
    };
    const pair = (entry: unknown, depth: number): Json => [at(0, entry, depth), at(1, entry, depth)];

    /** Enumerable keys. Hidden ones are bookkeeping of frameworks, and stay behind. */
    const keysOf = (value: object): string[] => {
      for (const symbol of Object.getOwnPropertySymbols(value)) {
        if (!Object.prototype.propertyIsEnumerable.call(value, symbol)) continue;
        path.push(symbol);
        refuse('has a symbol as its key');
      }
      return keys(value);
    };

    const write = (value: unknown, depth: number): Json => {
      if (typeof value === 'string') return text(value);
      spend(8);
      if (value === null || typeof value === 'boolean') return value;
      if (typeof value === 'number' || typeof value === 'bigint') {
        const shown = Object.is(value, -0) ? '-0' : String(value);
        return Number.isFinite(value) && shown !== '-0' ? (value as number) : { $: [typeof value, text(shown)] };
      }
      if (value === undefined) return { $: ['undefined'] };
      if (typeof value !== 'object') return refuse(`is a ${typeof value}`);

      const known = seen.get(value);
      if (known !== undefined) return { $: ['ref', known] };
      if (depth > MAX_DEPTH) refuse(`is nested deeper than ${MAX_DEPTH} levels`);
      if (isError(value)) {
        const recorded = record(value, depth, 0) as unknown as Json;
        spend(0);
        if (isApart) seen.delete(value);
        return { $: ['Error', recorded] };
      }
      seen.set(value, seen.size);
      const written = writeObject(value as never, depth + 1);
      if (isApart) seen.delete(value);
      return written;
    };

    const writeObject = (value: Bag & unknown[] & Date & RegExp & ArrayBufferView, depth: number): Json => {
      const tag = builtinOf(value) as string;
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
          refuse('has holes or extra properties');
        }
        return found.map((_, index) => at(index, value, depth));
      }
      if (tag === 'URL' && URL) return { $: [tag, text(String(value.href))] };
      if (blobs && (tag === 'Blob' || tag === 'File')) {
        spend(Number(value.size));
        // Size, type and name let `sameJson` tell two of them apart without reading them.
        return { $: [tag, value, value.size, value.type, value.name ?? null] as Json };
      }
      if (tag === 'ArrayBuffer' || VIEWS.test(tag)) {
        const { buffer = value as never, byteOffset, byteLength } = value;
        spend(byteLength * 1.4);
        return { $: [tag, toBase64(new Uint8Array(buffer, byteOffset, byteLength))] };
      }
      if (tag === 'Date' || tag === 'RegExp' || tag === 'Map' || tag === 'Set') {
        if (keysOf(value).length) refuse('has extra properties');
        if (tag === 'Date') return { $: [tag, value.toJSON()] };
        if (tag === 'RegExp') return { $: [tag, text(value.source), value.flags] };
        // The path counts entries as `[...map]` would show them.
        const entries = Array.from(value);
        return { $: [tag, entries.map((_, index) => at(index, entries, depth, tag === 'Set' ? write : pair))] };
      }
      return refuse(`is a class instance (${getPrototypeOf(value)?.constructor?.name ?? tagOf(value)})`);
    };

    /** An error that stands in a value has a number (C2); those that it carries (`level` > 0) have none. */
    const record = (error: unknown, depth: number, level: number): RecordedError => {
      const source: object = isError(error) ? error : { message: error, data: error };
      if (level === 0) {
        causes = MAX_CAUSES;
        seen.set(source, seen.size);
      }
      const get = (key: string): unknown => attempt(() => (source as Bag)[key]);
      const show = (value: unknown): string => {
        const shown = attempt(() => String(value).slice(0, MAX_ERROR_TEXT)) ?? 'unknown';
        bytes += shown.length;
        return shown;
      };
      const showText = (value: unknown) => (typeof value === 'string' ? show(value) : undefined);
      const follow = (cause: unknown): RecordedError[] =>
        level < MAX_CAUSE_DEPTH && causes-- > 0 ? [record(cause, depth + 1, level + 1)] : [];

      const [code, identity, cause, errors] = ['code', 'identity', 'cause', 'errors'].map(get);
      const recorded: { -readonly [K in keyof RecordedError]: unknown } = {
        name: show(get('name') ?? 'Error'),
        message: show(get('message')),
        code: Number.isFinite(code) ? code : showText(code),
        step: showText(get('step')),
        identity: Array.isArray(identity) ? [identity[0], show(identity[1]), Number(identity[2])] : undefined,
        stack: showText(get('stack')),
        // `read` visits in this order too: cause, errors, data.
        cause: cause === undefined ? cause : follow(cause)[0],
        errors: Array.isArray(errors) ? errors.slice(0, MAX_CAUSES).flatMap(follow) : undefined,
      };
      const [before, size, length] = [bytes, seen.size, path.length];
      const data = get('data');
      try {
        if (data !== undefined || source !== error) recorded.data = write(data, depth + 1);
      } catch {
        // Left out (C3), and forgotten: the numbers of C2 count only what was written.
        seen = new Map([...seen].slice(0, size));
        bytes = before;
        path.length = length;
      }
      for (const key of keys(recorded) as (keyof RecordedError)[])
        if (recorded[key] === undefined) delete recorded[key];
      return recorded as never;
    };
    return { write, record, refuse };
  }

  const decode = (json: Json): unknown => {
    const seen: unknown[] = [];
    const keep = <T>(value: T): T => {
      seen.push(value);
      return value;
    };
    // Defined, where assigning would find a setter or a frozen prototype: a key `__proto__` is data.
    const put = (target: object, key: string, value: unknown, enumerable = true) => {
      if (enumerable && !(key in target)) (target as Bag)[key] = value;
      else Object.defineProperty(target, key, { value, enumerable, configurable: true, writable: true });
    };

    const fill = (target: object, fields: Json, depth: number): object => {
      for (const key of keys(fields as Bag)) put(target, key, read((fields as Record<string, Json>)[key], depth + 1));
      return target;
    };
    /** `carried` marks the errors within an error, which have no number (C2). */
    const read = (json: Json | undefined, depth: number, carried = false): unknown => {
      if (!isObject(json)) return json;
      if (depth > MAX_DEPTH + MAX_CAUSE_DEPTH + 1) throw new RangeError('nested too deeply');
      if (Array.isArray(json)) {
        const list: unknown[] = keep([]);
        for (const item of json) list.push(read(item, depth + 1));
        return list;
      }
      if (!hasOwn(json, '$')) return fill(keep({}), json, depth);

      const [tag, first, second] = (json as { $: Json[] }).$ as [string, never, never];
      switch (tag) {
        case 'undefined':
          return undefined;
        case 'number':
          return Number(first);
        case 'bigint':
          return BigInt(first);
        case 'ref':
          if (typeof first === 'number' && first in seen) return seen[first];
          break;
        case 'object':
          return fill(keep({}), first, depth);
        case 'null':
          return fill(keep(Object.create(null)), first, depth);
        case 'Date':
          return keep(new Date(first ?? Number.NaN));
        case 'RegExp':
          return keep(new RegExp(first, second));
        case 'Map': {
          const map = keep(new Map());
          (first as Json[][]).forEach(([key, value]) => {
            map.set(read(key, depth + 1), read(value, depth + 1));
          });
          return map;
        }
        case 'Set': {
          const set = keep(new Set());
          (first as Json[]).forEach((item) => {
            set.add(read(item, depth + 1));
          });
          return set;
        }
        case 'ArrayBuffer':
          return keep(fromBase64(first));
        case 'URL':
          if (URL) return keep(new URL(first));
          break;
        case 'Blob':
        case 'File':
          if (blobs && tagOf(first) === tag) return keep(first);
          break;
        case 'Error': {
          const { name, message, code, step, stack, cause, errors, data } = first as RecordedError;
          const error = new (ERRORS.test(name) ? builtin(name) : Error)([] as never) as Error;
          if (!carried) keep(error);
          const inner = (recorded: RecordedError) => read({ $: ['Error', recorded as never] }, depth + 1, true);
          const set = (key: string, value: unknown, shown = false) =>
            value !== undefined && put(error, key, value, shown);
          set('message', message);
          set('stack', stack ?? `${name}: ${message}`);
          const own = ownClass(name);
          if (own) Object.setPrototypeOf(error, own.prototype);
          if (error.name !== name) set('name', name);
          set('cause', cause && inner(cause));
          set('errors', errors?.map(inner));
          set('code', code, true);
          set('step', step, true);
          if (data !== undefined) put(error, 'data', read(data, depth + 1));
          return error;
        }
      }
      if (VIEWS.test(tag)) return keep(new (builtin(tag))(fromBase64(first)));
      throw new TypeError('unknown tag');
    };

    try {
      return read(json, 0);
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
    decode,
    async isSame(a, b) {
      const apart = (json: Json) => writer('', true).write(decode(json), 0);
      const isAlike = async (one: Json, other: Json) => sameJson(one, other) && haveSameBlobs(one, other);
      try {
        return (await isAlike(a, b)) || (await isAlike(apart(a), apart(b)));
      } catch {
        return false; // too large, once nothing in it is shared; or a blob that can not be read
      }
    },
    // It takes the number 0, as in `decodeError`, also when what was thrown is no error.
    encodeError: (error) => attempt(() => writer('').record(error, 0, 0)) ?? { name: 'Error', message: 'unknown' },
    decodeError: (recorded) => decode({ $: ['Error', recorded as unknown as Json] }) as Error,
  };
}

/** Deep equality of two encoded values, whatever the order of their keys. */
export function sameJson(a: Json, b: Json): boolean {
  if (a === b) return true;
  if (!isObject(a) || !isObject(b) || Array.isArray(a) !== Array.isArray(b)) return false;
  const found = keys(a);
  const same = (key: string) => hasOwn(b, key) && sameJson(a[key as never], b[key as never]);
  return found.length === keys(b).length && found.every(same);
}

/** A `Blob`, as far as it is needed here. */
type Readable = { arrayBuffer(): Promise<ArrayBuffer> };
const isReadable = (json: unknown): json is Readable => typeof (json as Partial<Readable>).arrayBuffer === 'function';
const blobsIn = (json: Json): readonly Readable[] => {
  if (!isObject(json)) return [];
  if (isReadable(json)) return [json];
  return keys(json)
    .sort()
    .flatMap((key) => blobsIn(json[key as never]));
};

/** Whether the blobs of two trees that are alike otherwise, their sizes too, hold the same bytes. */
async function haveSameBlobs(a: Json, b: Json): Promise<boolean> {
  const others = blobsIn(b);
  for (const [index, blob] of blobsIn(a).entries()) {
    const [own, other] = await Promise.all(
      [blob, others[index]!].map(async (each) => new Uint8Array(await each.arrayBuffer())),
    );
    if (own!.some((byte, at) => byte !== other![at])) return false;
  }
  return true;
}

// Base64 by hand: `btoa` and `Buffer` are platform API.
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

function toBase64(bytes: Uint8Array): string {
  let text = '';
  let bits = 0;
  let count = 0;
  for (const byte of bytes) {
    bits = (bits << 8) | byte;
    for (count += 8; count >= 6; ) text += ALPHABET[(bits >> (count -= 6)) & 63];
  }
  if (count > 0) text += ALPHABET[(bits << (6 - count)) & 63];
  while (text.length % 4) text += '=';
  return text;
}

function fromBase64(text: string): ArrayBuffer {
  const bytes: number[] = [];
  let bits = 0;
  let count = 0;
  for (const char of text.replace(/=+$/, '')) {
    const value = ALPHABET.indexOf(char);
    if (value < 0) throw new TypeError('not base64');
    bits = (bits << 6) | value;
    count += 6;
    if (count >= 8) bytes.push(bits >> (count -= 8));
  }
  return new Uint8Array(bytes).buffer;
}
