import { EventTimeoutError, FatalError, RetryableError, StepError, StepfastError } from '../errors.js';
import type { RecordedError } from '../store/journal.js';
import { fromBase64 } from './base64.js';
import type { Json } from './json.js';
import { type Bag, isObject, MAX_CAUSE_DEPTH, MAX_DEPTH, tagOf, VIEWS } from './kinds.js';

/*
 * One decoding of a tree (codec.ts, C1-C4): always fresh objects.
 */

export interface ReaderOptions {
  readonly URL?: (new (href: string) => unknown) | undefined;
  readonly blobs?: boolean | undefined;
}

type Class = new (...args: unknown[]) => object;

const { hasOwn, keys } = Object;
const ERRORS = /^(Eval|Range|Reference|Syntax|Type|URI|Aggregate)Error$/;
/** Our own, so that `instanceof` says the same of an error that was recorded as of one that was thrown. */
const ownClass = (name: string): { readonly prototype: Error } | undefined =>
  [StepfastError, StepError, EventTimeoutError, FatalError, RetryableError].find(
    (each) => each.prototype.name === name,
  );
const builtin = (name: unknown) => (globalThis as unknown as Bag)[name as string] as Class;

/** Defined, where assigning would find a setter or a frozen prototype: a key `__proto__` is data. */
function put(target: object, key: string, value: unknown, enumerable = true): void {
  if (enumerable && !(key in target)) (target as Bag)[key] = value;
  else Object.defineProperty(target, key, { value, enumerable, configurable: true, writable: true });
}

export class Reader {
  readonly #options: ReaderOptions;
  readonly #seen: unknown[] = [];

  constructor(options: ReaderOptions) {
    this.#options = options;
  }

  #keep<T>(value: T): T {
    this.#seen.push(value);
    return value;
  }
  #fill(target: object, fields: Json, depth: number): object {
    for (const key of keys(fields as Bag))
      put(target, key, this.read((fields as Record<string, Json>)[key], depth + 1));
    return target;
  }

  /** `carried` marks the errors within an error, which have no number (C2). Throws whatever for what `encode` can not have made. */
  read(json: Json | undefined, depth: number, carried = false): unknown {
    if (!isObject(json)) return json;
    if (depth > MAX_DEPTH + MAX_CAUSE_DEPTH + 1) throw new RangeError('nested too deeply');
    if (Array.isArray(json)) {
      const list: unknown[] = this.#keep([]);
      for (const item of json) list.push(this.read(item, depth + 1));
      return list;
    }
    if (!hasOwn(json, '$')) return this.#fill(this.#keep({}), json, depth);
    return this.#tagged((json as { $: Json[] }).$, depth, carried);
  }

  #tagged(parts: Json[], depth: number, carried: boolean): unknown {
    const [tag, first, second] = parts as [string, never, never];
    const { URL, blobs } = this.#options;
    switch (tag) {
      case 'undefined':
        return undefined;
      case 'number':
        return Number(first);
      case 'bigint':
        return BigInt(first);
      case 'ref':
        if (typeof first === 'number' && first in this.#seen) return this.#seen[first];
        break;
      case 'object':
        return this.#fill(this.#keep({}), first, depth);
      case 'null':
        return this.#fill(this.#keep(Object.create(null)), first, depth);
      case 'Date':
        return this.#keep(new Date(first ?? Number.NaN));
      case 'RegExp':
        return this.#keep(new RegExp(first, second));
      case 'Map': {
        const map = this.#keep(new Map());
        (first as Json[][]).forEach(([key, value]) => {
          map.set(this.read(key, depth + 1), this.read(value, depth + 1));
        });
        return map;
      }
      case 'Set': {
        const set = this.#keep(new Set());
        (first as Json[]).forEach((item) => {
          set.add(this.read(item, depth + 1));
        });
        return set;
      }
      case 'ArrayBuffer':
        return this.#keep(fromBase64(first));
      case 'URL':
        if (URL) return this.#keep(new URL(first));
        break;
      case 'Blob':
      case 'File':
        if (blobs && tagOf(first) === tag) return this.#keep(first);
        break;
      case 'Error':
        return this.#error(first, depth, carried);
    }
    if (VIEWS.test(tag)) return this.#keep(new (builtin(tag))(fromBase64(first)));
    throw new TypeError('unknown tag');
  }

  #error(recorded: RecordedError, depth: number, carried: boolean): unknown {
    const { name, message, code, step, stack, cause, errors, data } = recorded;
    if (carried && recorded.isValue) return this.read(data, depth + 1);
    const error = new (ERRORS.test(name) ? builtin(name) : Error)([] as never) as Error;
    if (!carried) this.#keep(error);
    const inner = (recorded: RecordedError) => this.read({ $: ['Error', recorded as never] }, depth + 1, true);
    const set = (key: string, value: unknown, shown = false) => value !== undefined && put(error, key, value, shown);
    set('message', message);
    set('stack', stack ?? `${name}: ${message}`);
    const own = ownClass(name);
    if (own) Object.setPrototypeOf(error, own.prototype);
    if (error.name !== name) set('name', name);
    set('cause', cause && inner(cause));
    set('errors', errors?.map(inner));
    set('code', code, true);
    set('step', step, true);
    if (data !== undefined) put(error, 'data', this.read(data, depth + 1));
    return error;
  }
}
