import { type ErrorCode, StepfastError } from '../errors.js';
import type { RecordedError } from '../store/journal.js';
import { toBase64 } from './base64.js';
import type { Json } from './json.js';
import {
  type Bag,
  builtinOf,
  isError,
  isPlain,
  MAX_CAUSE_DEPTH,
  MAX_CAUSES,
  MAX_DEPTH,
  MAX_ERROR_TEXT,
  MAX_LISTED,
  tagOf,
  VIEWS,
} from './kinds.js';

/*
 * One encoding of a value, or of an error (codec.ts, C1-C4).
 */

export interface WriterOptions {
  /** Names the value in messages. */
  readonly what: string;
  readonly maxBytes: number;
  readonly URL?: unknown;
  readonly blobs?: boolean | undefined;
  /** Counts what texts take in UTF-8, escapes and all, which is dear: for what may not fit (`Writer.isSure`). */
  readonly isExact?: boolean | undefined;
  /**
   * What occurs twice is written twice, and only what is inside of itself is a `ref`, to its ancestor of that depth: then
   * the tree depends on the value alone. For comparing, never for keeping.
   */
  readonly isApart?: boolean | undefined;
}

const { getPrototypeOf, hasOwn, keys } = Object;

/** A place in a value, as messages show it: `$.user.list[2]`. */
export const pathText = (path: readonly PropertyKey[]): string =>
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
  const get = (key: string): unknown => attempt(() => (value as Bag)[key]);
  const [name, message, code] = ['name', 'message', 'code'].map(get);
  const carried = { data: value, ...(attempt(() => isPlain(value)) && { cause: get('cause'), errors: get('errors') }) };
  if (typeof message !== 'string') return { ...carried, message: value };
  return { ...carried, message, code, ...(typeof name === 'string' && { name }) };
}

/** Bytes of a JSON text in UTF-8. Of what is two units in it and four bytes, both are there: JSON escapes a lone one. */
function bytesOf(json: string): number {
  let bytes = json.length;
  for (let at = 0; at < json.length; at++) {
    const unit = json.charCodeAt(at);
    if (unit > 0x7f) bytes += unit < 0x800 || unit >> 11 === 27 ? 1 : 2;
  }
  return bytes;
}

/** A class, because one is made for each value: its words are made once. */
export class Writer {
  readonly #options: WriterOptions;
  #seen = new Map<unknown, number>();
  readonly #path: PropertyKey[] = [];
  /** Of the JSON text in UTF-8, and in `#live` those of blobs: at least, where it is not exact, for each of the `#units` may take six. */
  #bytes = 0;
  #live = 0;
  #units = 0;
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

  /** Whether what was written fits, however its texts count. */
  get isSure(): boolean {
    const { isExact, maxBytes } = this.#options;
    return isExact || this.#bytes + this.#live + 5 * this.#units <= maxBytes;
  }

  #spend(count: number): void {
    this.#bytes += count;
    const { maxBytes } = this.#options;
    const bytes = this.#bytes + this.#live;
    if (bytes > maxBytes)
      this.refuse(`goes over the limit of ${maxBytes} bytes (at least ${bytes})`, {}, 'VALUE_TOO_LARGE');
  }
  #text(value: string, quotes = 2): string {
    this.#spend(value.length + quotes);
    this.#units += value.length;
    if (this.#options.isExact) this.#spend(bytesOf(JSON.stringify(value)) - 2 - value.length);
    return value;
  }
  /** Brackets and commas of so many. */
  #list(count: number): void {
    this.#spend(Math.max(2, count + 1));
  }
  /** `parts` are counted where they are written. */
  #tagged(tag: string, ...parts: Json[]): Json {
    this.#spend(10 + tag.length + parts.length);
    return { $: [tag, ...parts] };
  }

  #at(key: string | number, holder: unknown, depth: number): Json {
    this.#path.push(key);
    const json = this.write((holder as Bag)[key], depth);
    this.#path.pop();
    return json;
  }
  #pair(index: number, entries: readonly unknown[], depth: number): Json {
    this.#path.push(index);
    this.#list(2);
    const pair = [this.#at(0, entries[index], depth), this.#at(1, entries[index], depth)];
    this.#path.pop();
    return pair;
  }

  /** Enumerable keys, which are many where it `isLong`. Hidden ones are bookkeeping of frameworks, and stay behind. */
  #keysOf(value: object, isLong = false): string[] {
    for (const symbol of Object.getOwnPropertySymbols(value)) {
      if (!Object.prototype.propertyIsEnumerable.call(value, symbol)) continue;
      this.#path.push(symbol);
      this.refuse('has a symbol as its key');
    }
    return isLong ? [] : keys(value);
  }
  /** Refuses what hangs on an object beside the `own` ones of its keys: it would be lost. */
  #noMore(found: readonly string[], own = 0): void {
    if (found.length !== own) this.refuse('has extra properties');
  }

  write(value: unknown, depth: number): Json {
    if (typeof value === 'string') return this.#text(value, depth && 2); // alone, it counts without quotes
    if (value === null || typeof value === 'boolean') {
      this.#spend(value === false ? 5 : 4);
      return value;
    }
    if (typeof value === 'number' || typeof value === 'bigint') {
      const shown = Object.is(value, -0) ? '-0' : String(value);
      if (!Number.isFinite(value) || shown === '-0') return this.#tagged(typeof value, this.#text(shown));
      this.#spend(shown.length);
      return value as number;
    }
    if (value === undefined) return this.#tagged('undefined');
    if (typeof value !== 'object') return this.refuse(`is a ${typeof value}`);

    const { isApart } = this.#options;
    const known = this.#seen.get(value);
    if (known !== undefined) return this.#tagged('ref', this.write(known, depth));
    if (depth > MAX_DEPTH) this.refuse(`is nested deeper than ${MAX_DEPTH} levels`);
    if (isError(value)) {
      const before = this.#bytes;
      const recorded = this.record(value, depth, 0) as unknown as Json;
      this.#bytes = before;
      this.#spend(bytesOf(JSON.stringify(recorded)));
      if (isApart) this.#seen.delete(value);
      return this.#tagged('Error', recorded);
    }
    this.#seen.set(value, this.#seen.size);
    const written = this.#writeObject(value as never, depth + 1);
    if (isApart) this.#seen.delete(value);
    return written;
  }

  #writeObject(value: Bag & unknown[] & Date & RegExp & ArrayBufferView, depth: number): Json {
    const tag = builtinOf(value) as string;
    if (tag === 'Object') {
      const found = this.#keysOf(value);
      this.#list(2 * found.length); // a colon each
      const fields = Object.fromEntries(found.map((key) => [this.#text(key), this.#at(key, value, depth)]));
      if (getPrototypeOf(value) === null) return this.#tagged('null', fields);
      return hasOwn(fields, '$') ? this.#tagged('object', fields) : fields;
    }
    if (tag === 'Array') return this.#writeArray(value, depth);
    const { URL, blobs } = this.#options;
    if (tag === 'URL' && URL) {
      this.#noMore(this.#keysOf(value));
      return this.#tagged(tag, this.#text(String(value.href)));
    }
    if (blobs && (tag === 'Blob' || tag === 'File')) {
      this.#noMore(keys(value)); // Node's have symbols of their own
      this.#live += Number(value.size);
      this.#spend(2);
      // Size, type and name let `sameJson` tell two of them apart without reading them.
      const told = [value.size, value.type, value.name ?? null].map((each) => this.write(each, depth));
      return this.#tagged(tag, value as never, ...told);
    }
    if (tag === 'ArrayBuffer' || VIEWS.test(tag)) {
      // Each element of a typed array is a key: to list those of a long one costs more than to write it down.
      const count = tag.endsWith('Array') ? value.length : 0;
      const isLong = count > MAX_LISTED;
      this.#noMore(this.#keysOf(value, isLong), isLong ? 0 : count);
      const { buffer = value as never, byteOffset, byteLength } = value;
      if (tagOf(buffer) !== 'ArrayBuffer') this.refuse('is a view of shared memory');
      this.#spend(Math.ceil(byteLength / 3) * 4 + 2);
      return this.#tagged(tag, toBase64(new Uint8Array(buffer, byteOffset, byteLength)));
    }
    if (tag === 'Date' || tag === 'RegExp' || tag === 'Map' || tag === 'Set') {
      this.#noMore(this.#keysOf(value));
      if (tag === 'Date') return this.#tagged(tag, this.write(value.toJSON(), depth));
      if (tag === 'RegExp') return this.#tagged(tag, this.#text(value.source), this.#text(value.flags));
      // The path counts entries as `[...map]` would show them.
      const entries = Array.from(value);
      const each = (_: unknown, index: number) =>
        tag === 'Set' ? this.#at(index, entries, depth) : this.#pair(index, entries, depth);
      this.#list(entries.length);
      return this.#tagged(tag, entries.map(each));
    }
    return this.refuse(`is a class instance (${getPrototypeOf(value)?.constructor?.name ?? tagOf(value)})`);
  }

  #writeArray(value: readonly unknown[], depth: number): Json {
    this.#list(value.length);
    const found = this.#keysOf(value);
    // Index keys come first and ascend: with the right count and the right last one, none is missing.
    if (found.length !== value.length || (found.at(-1) ?? '-1') !== String(value.length - 1))
      this.refuse('has holes or extra properties');
    return found.map((_, index) => this.#at(index, value, depth));
  }

  /**
   * An error that stands in a value has a number (C2); those that it carries (`level` > 0) have none. What `isWithin` something
   * that is no error is kept in the data of that: only what it says is told, so that its failures are found (spec F2, F6).
   */
  record(error: unknown, depth: number, level: number, isWithin = false): RecordedError {
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
      level < MAX_CAUSE_DEPTH && this.#causes-- > 0
        ? [this.record(cause, depth + 1, level + 1, isWithin || source !== error)]
        : [];

    const [code, identity, cause, errors] = ['code', 'identity', 'cause', 'errors'].map(get);
    const recorded: { -readonly [K in keyof RecordedError]: unknown } = {
      name: show(get('name') ?? 'Error'),
      message: show(get('message')),
      code: Number.isFinite(code) ? code : showText(code),
      step: showText(get('step')),
      identity: Array.isArray(identity) ? [identity[0], show(identity[1]), Number(identity[2])] : undefined,
      stack: isWithin ? undefined : showText(get('stack')),
      // `read` visits in this order too: cause, errors, data.
      cause: cause === undefined ? cause : follow(cause)[0],
      errors: Array.isArray(errors) ? errors.slice(0, MAX_CAUSES).flatMap(follow) : undefined,
    };
    const data = isWithin ? undefined : get('data');
    if (data !== undefined || (source !== error && !isWithin)) recorded.data = this.#kept(data, depth + 1);
    // Carried by an error, it comes back as it was; what was thrown to us becomes an error.
    if (level > 0 && source !== error && recorded.data !== undefined) recorded.isValue = true;
    for (const key of keys(recorded) as (keyof RecordedError)[]) if (recorded[key] === undefined) delete recorded[key];
    return recorded as never;
  }

  /** What hangs on an error, if it can be kept. Else it is left out (C3), and forgotten: the numbers of C2 count only what was written. */
  #kept(data: unknown, depth: number): Json | undefined {
    const [before, live, size, length] = [this.#bytes, this.#live, this.#seen.size, this.#path.length];
    this.#within++;
    try {
      return this.write(data, depth);
    } catch {
      this.#seen = new Map([...this.#seen].slice(0, size));
      [this.#bytes, this.#live] = [before, live];
      this.#path.length = length;
      return undefined;
    } finally {
      this.#within--;
    }
  }
}
