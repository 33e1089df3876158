import { StepfastError } from '../../src/errors.js';
import { check, checkText } from '../../src/values/check.js';
import { isPlain } from '../../src/values/kinds.js';

/*
 * Where keys come from. Nothing here keeps what a function of the app has returned: a key that is gone there is gone
 * here with the next call of the store.
 */

/** A `CryptoKey`, as far as it matters here: also in projects that compile without the types of a platform. */
export interface CryptoKeyLike {
  readonly type: string;
  readonly extractable: boolean;
  readonly algorithm: { readonly name: string };
  readonly usages: readonly string[];
}

/** 32 bytes, or a `CryptoKey`: of AES-GCM with 256 bits, or of HKDF where it is an index key. */
export type EncryptionKey = Uint8Array | CryptoKeyLike;

/** A key, or a function that gives it when it is needed. `undefined`: it is not here (any more). */
export type KeySource =
  | EncryptionKey
  | ((keyId: string) => EncryptionKey | undefined | Promise<EncryptionKey | undefined>);

/** What a key is for. */
interface Purpose {
  readonly algorithm: 'AES-GCM' | 'HKDF';
  readonly usages: readonly ('encrypt' | 'decrypt' | 'deriveKey')[];
}
const SEAL: Purpose = { algorithm: 'AES-GCM', usages: ['encrypt', 'decrypt'] };
const INDEX: Purpose = { algorithm: 'HKDF', usages: ['deriveKey'] };

const KEY_BYTES = 32;

/** A refused key as a message shows it: never the key, also where somebody gave a password. */
function shape(value: unknown): string {
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  const { algorithm, usages } = (value ?? {}) as Partial<CryptoKeyLike>;
  const { name, length } = (algorithm ?? {}) as { readonly name?: string; readonly length?: number };
  if (name !== undefined) return `a CryptoKey of ${[name, length].filter(Boolean).join(' ')} for ${usages}`;
  return typeof value === 'object' && value ? 'an object' : value === undefined ? 'undefined' : `a ${typeof value}`;
}

function fits(value: unknown, { algorithm, usages }: Purpose): value is EncryptionKey {
  if (value instanceof Uint8Array) return value.length === KEY_BYTES;
  const key = value as Partial<CryptoKeyLike> | undefined | null;
  const { name, length = 256 } = (key?.algorithm ?? {}) as { readonly name?: string; readonly length?: number };
  return name === algorithm && length === 256 && usages.every((usage) => key!.usages?.includes(usage));
}

function checkKey(value: unknown, option: string, purpose: Purpose): asserts value is EncryptionKey {
  if (fits(value, purpose)) return;
  const { algorithm, usages } = purpose;
  throw new StepfastError(
    'INVALID_OPTION',
    `${option} is ${shape(value)}. Give a Uint8Array of ${KEY_BYTES} bytes, a CryptoKey of ${algorithm} for ${usages.join(' and ')}, or a function that returns one.`,
  );
}

/** WebCrypto, which pages have in secure contexts alone. */
export function subtle(): SubtleCrypto {
  const found = globalThis.crypto?.subtle as SubtleCrypto | undefined;
  if (found) return found;
  throw new StepfastError(
    'STORE_UNAVAILABLE',
    'There is no WebCrypto here: pages have it over https and on localhost only. Serve the page from there, or leave encryption out.',
  );
}

/** A key in the form that WebCrypto takes. */
type Imported = () => Promise<CryptoKey | undefined>;

const imported = async (key: EncryptionKey, { algorithm, usages }: Purpose): Promise<CryptoKey> =>
  key instanceof Uint8Array
    ? subtle().importKey('raw', key as Uint8Array<ArrayBuffer>, algorithm, false, usages)
    : (key as CryptoKey);

/** Checks a source at the door, and gives how it is asked. */
function sourceOf(source: KeySource, option: string, keyId: string, purpose: Purpose): Imported {
  if (typeof source === 'function')
    return async () => {
      const key = await source(keyId);
      if (key === undefined) return undefined;
      checkKey(key, `What ${option} returned`, purpose);
      return imported(key, purpose);
    };
  checkKey(source, option, purpose);
  // The caller may overwrite its bytes once the option is given.
  const own = source instanceof Uint8Array ? source.slice() : source;
  let ready: Promise<CryptoKey> | undefined;
  return () => {
    ready ??= imported(own, purpose);
    ready.catch(() => (ready = undefined)); // whoever awaits it hears; the next call tries again
    return ready;
  };
}

export interface KeyOptions {
  readonly key: KeySource;
  readonly keyId?: string;
  readonly previous?: { readonly [keyId: string]: KeySource };
  readonly indexKey: KeySource;
  readonly keys?: (keyId: string) => EncryptionKey | undefined | Promise<EncryptionKey | undefined>;
}

/** Keys by id. */
export interface KeyRing {
  /** The id of the key for new data. */
  readonly current: string;
  /** Ids of the keys before it. */
  readonly previous: readonly string[];
  /** The key of this id, or `undefined` when it is not here. */
  key(keyId: string): Promise<CryptoKey | undefined>;
  /** The key under which what is looked up is hashed. */
  readonly index: Imported;
}

/** Checks all keys that are given as such; asks for none that is given as a function. */
export function keyRing({ key, keyId = 'default', previous = {}, indexKey, keys }: KeyOptions): KeyRing {
  checkText(keyId, 'keyId', 'INVALID_OPTION');
  check(isPlain(previous), 'previous', previous, 'a plain object of keys by their ids');
  check(keys === undefined || typeof keys === 'function', 'keys', keys, 'a function, or leave it out');
  check(
    !Object.hasOwn(previous, keyId),
    'keyId',
    keyId,
    'an id of its own to each key: this one is in `previous` already',
  );
  const sources = new Map([[keyId, sourceOf(key, 'key', keyId, SEAL)]]);
  for (const [id, source] of Object.entries(previous))
    sources.set(id, sourceOf(source, `previous[${JSON.stringify(id)}]`, id, SEAL));
  return {
    current: keyId,
    previous: Object.keys(previous),
    key: (id) => {
      const source = sources.get(id) ?? (keys && sourceOf(keys, 'keys', id, SEAL));
      return source ? source() : Promise.resolve(undefined);
    },
    index: sourceOf(indexKey, 'indexKey', 'index', INDEX),
  };
}
