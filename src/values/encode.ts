import { type ErrorCode, StepfastError } from '../errors.js';
import type { RecordedError } from '../store/journal.js';
import { toBase64 } from './base64.js';
import type { Json } from './json.js';
import { type Bag, isError, MAX_CAUSE_DEPTH, MAX_CAUSES, MAX_DEPTH, MAX_ERROR_TEXT, tagOf, VIEWS } from './kinds.js';

/*
 * One encoding of a value, or of an error (codec.ts, C1-C4).
 */

export interface WriterOptions {
  /** Names the value in messages. */
  readonly what: string;
  readonly maxBytes: number;
  readonly URL?: unknown;
  readonly blobs?: boolean | undefined;
  /**
   * What occurs twice is written twice, and only what is inside of itself is a `ref`, to its ancestor of that depth: then
   * the tree depends on the value alone. For comparing, never for keeping.
   */
  readonly isApart?: boolean;
}

const { getPrototypeOf, hasOwn, keys } = Object;

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
export function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {} // left out
}

/** What was thrown and is no error. Some libraries throw plain objects that look like one. */
function thrown(value: unknown): object {
  const [name, message, code] = ['name', 'message', 'code'].map((key) => attempt(() => (value as Bag)[key]));
  if (typeof message !== 'string') return { message: value, data: value };
  return { message, code, data: value, ...(typeof name === 'string' && { name }) };
}

/** A class, because one is made for each value: its words are made once. */
export class Writer {
  readonly #options: WriterOptions;
  #seen = new Map<unknown, number>();
  readonly #path: PropertyKey[] = [];
  #bytes = 0;
  #causes = 0;
  /** How many errors deep it is in what hangs on them: they share one count of causes. */
  #within = 0;

  constructor(options: WriterOptions) {
    this.#options = options;
  }

  refuse(why: string, options?: ErrorOptions, code: ErrorCode = 'NOT_SERIALIZABLE'): never {
    const place = { path: pathText(this.#path) };
    const said = `Can not store ${this.#options.what}: ${place.path} ${why}. Store a reference or plain data, or leave it out.`;
    throw new StepfastError(code, said, place, options);
  }

  #spend(count: number): void {
    this.#bytes += count;
    const { maxBytes } = this.#options;
    if (this.#bytes <= maxBytes) return;
    this.refuse(`goes over the limit of ${maxBytes} bytes (at least ${Math.ceil(this.#bytes)})`, {}, 'VALUE_TOO_LARGE');
  }
  #text(value: string): string {
    this.#spend(value.length);
    return value;
  }

  #at(key: string | number, holder: unknown, depth: number): Json {
    this.#path.push(key);
    const json = this.write((holder as Bag)[key], depth);
    this.#path.pop();
    return json;
  }
  #pair(index: number, entries: readonly unknown[], depth: number): Json {
    this.#path.push(index);
    const pair = [this.#at(0, entries[index], depth), this.#at(1, entries[index], depth)];
    this.#path.pop();
    return pair;
  }

  /** Enumerable keys. Hidden ones are bookkeeping of frameworks, and stay behind. */
  #keysOf(value: object): string[] {
    for (const symbol of Object.getOwnPropertySymbols(value)) {
      if (!Object.prototype.propertyIsEnumerable.call(value, symbol)) continue;
      this.#path.push(symbol);
      this.refuse('has a symbol as its key');
    }
    return keys(value);
  }

  write(value: unknown, depth: number): Json {
    if (typeof value === 'string') return this.#text(value);
    this.#spend(8);
    if (value === null || typeof value === 'boolean') return value;
    if (typeof value === 'number' || typeof value === 'bigint') {
      const shown = Object.is(value, -0) ? '-0' : String(value);
      return Number.isFinite(value) && shown !== '-0' ? (value as number) : { $: [typeof value, this.#text(shown)] };
    }
    if (value === undefined) return { $: ['undefined'] };
    if (typeof value !== 'object') return this.refuse(`is a ${typeof value}`);

    const { isApart } = this.#options;
    const known = this.#seen.get(value);
    if (known !== undefined) return { $: ['ref', known] };
    if (depth > MAX_DEPTH) this.refuse(`is nested deeper than ${MAX_DEPTH} levels`);
    if (isError(value)) {
      const recorded = this.record(value, depth, 0) as unknown as Json;
      this.#spend(0);
      if (isApart) this.#seen.delete(value);
      return { $: ['Error', recorded] };
    }
    this.#seen.set(value, this.#seen.size);
    const written = this.#writeObject(value as never, depth + 1);
    if (isApart) this.#seen.delete(value);
    return written;
  }

  #writeObject(value: Bag & unknown[] & Date & RegExp & ArrayBufferView, depth: number): Json {
    const tag = builtinOf(value) as string;
    if (tag === 'Object') {
      const fields = Object.fromEntries(
        this.#keysOf(value).map((key) => [this.#text(key), this.#at(key, value, depth)]),
      );
      if (getPrototypeOf(value) === null) return { $: ['null', fields] };
      return hasOwn(fields, '$') ? { $: ['object', fields] } : fields;
    }
    if (tag === 'Array') return this.#writeArray(value, depth);
    const { URL, blobs } = this.#options;
    if (tag === 'URL' && URL) return { $: [tag, this.#text(String(value.href))] };
    if (blobs && (tag === 'Blob' || tag === 'File')) {
      this.#spend(Number(value.size));
      // Size, type and name let `sameJson` tell two of them apart without reading them.
      return { $: [tag, value, value.size, value.type, value.name ?? null] as Json };
    }
    if (tag === 'ArrayBuffer' || VIEWS.test(tag)) {
      const { buffer = value as never, byteOffset, byteLength } = value;
      this.#spend(byteLength * 1.4);
      return { $: [tag, toBase64(new Uint8Array(buffer, byteOffset, byteLength))] };
    }
    if (tag === 'Date' || tag === 'RegExp' || tag === 'Map' || tag === 'Set') {
      if (this.#keysOf(value).length) this.refuse('has extra properties');
      if (tag === 'Date') return { $: [tag, value.toJSON()] };
      if (tag === 'RegExp') return { $: [tag, this.#text(value.source), value.flags] };
      // The path counts entries as `[...map]` would show them.
      const entries = Array.from(value);
      const each = (_: unknown, index: number) =>
        tag === 'Set' ? this.#at(index, entries, depth) : this.#pair(index, entries, depth);
      return { $: [tag, entries.map(each)] };
    }
    return this.refuse(`is a class instance (${getPrototypeOf(value)?.constructor?.name ?? tagOf(value)})`);
  }

  #writeArray(value: readonly unknown[], depth: number): Json {
    this.#spend(value.length);
    const found = this.#keysOf(value);
    // Index keys come first and ascend: with the right count and the right last one, none is missing.
    if (found.length !== value.length || (found.at(-1) ?? '-1') !== String(value.length - 1))
      this.refuse('has holes or extra properties');
    return found.map((_, index) => this.#at(index, value, depth));
  }

  /** An error that stands in a value has a number (C2); those that it carries (`level` > 0) have none. */
  record(error: unknown, depth: number, level: number): RecordedError {
    const source: object = isError(error) ? error : thrown(error);
    if (level === 0) {
      if (!this.#within) this.#causes = MAX_CAUSES;
      this.#seen.set(source, this.#seen.size);
    }
    const get = (key: string): unknown => attempt(() => (source as Bag)[key]);
    const show = (value: unknown): string => {
      const shown = attempt(() => String(value).slice(0, MAX_ERROR_TEXT)) ?? 'unknown';
      this.#bytes += shown.length;
      return shown;
    };
    const showText = (value: unknown) => (typeof value === 'string' ? show(value) : undefined);
    const follow = (cause: unknown): RecordedError[] =>
      level < MAX_CAUSE_DEPTH && this.#causes-- > 0 ? [this.record(cause, depth + 1, level + 1)] : [];

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
    const data = get('data');
    if (data !== undefined || source !== error) recorded.data = this.#kept(data, depth + 1);
    // Carried by an error, it comes back as it was; what was thrown to us becomes an error.
    if (level > 0 && source !== error && recorded.data !== undefined) recorded.isValue = true;
    for (const key of keys(recorded) as (keyof RecordedError)[]) if (recorded[key] === undefined) delete recorded[key];
    return recorded as never;
  }

  /** What hangs on an error, if it can be kept. Else it is left out (C3), and forgotten: the numbers of C2 count only what was written. */
  #kept(data: unknown, depth: number): Json | undefined {
    const [before, size, length] = [this.#bytes, this.#seen.size, this.#path.length];
    this.#within++;
    try {
      return this.write(data, depth);
    } catch {
      this.#seen = new Map([...this.#seen].slice(0, size));
      this.#bytes = before;
      this.#path.length = length;
      return undefined;
    } finally {
      this.#within--;
    }
  }
}
