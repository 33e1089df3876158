import { StepfastError } from '../../src/errors.js';
import { quoted } from '../../src/values/check.js';
import type { Json } from '../../src/values/json.js';
import { type KeyRing, subtle } from './keys.js';
import { fromBase64, fromText, toBase64, toText } from './text.js';

/*
 * Sealing: a value as text that says nothing without its key. `<format>.<iv and ciphertext, base64>.<key id>`.
 *
 * K1. AES-256-GCM with a random IV of 96 bits each time. The additional data is the place where the text stands, so that
 *     a text that was moved to another run, event or key does not open.
 * K2. What stores look up (correlation keys, idempotency keys, tags, ...) is HMAC-SHA-256 under keys derived from the
 *     index key, one for each use: equal texts of two uses do not look alike. The index key is for ever.
 * K3. Every key is asked for once in a call of the store, and forgotten with its end.
 */

const FORMAT = 1;
const IV_BYTES = 12;
const SEALED = /^(\d+)\.([A-Za-z0-9+/]+=*)\.(.+)$/s;
/** Hashes that are kept at hand: a wait is hashed with every commit of its run. */
const MAX_HASHES = 10_000;

/** What a hash is for. Persisted: another name is another hash. */
export type Use = 'key' | 'start' | 'event' | 'unique' | 'tag' | 'state' | 'lock' | 'check';

/** Where a sealed text stands. Persisted: another place does not open it. */
export type Place = readonly string[];

/** A map that forgets its oldest entries. */
export class Bounded<Value> {
  readonly #entries = new Map<string, Value>();
  readonly #max: number;
  constructor(max: number) {
    this.#max = max;
  }
  get(key: string): Value | undefined {
    return this.#entries.get(key);
  }
  set(key: string, value: Value): void {
    this.#entries.delete(key);
    this.#entries.set(key, value);
    if (this.#entries.size > this.#max) this.delete(this.#entries.keys().next().value!);
  }
  delete(key: string): void {
    this.#entries.delete(key);
  }
}

const bytesOf = (text: string) => new TextEncoder().encode(text);

/** The id of the key that a text was sealed with, or `undefined` for what is no sealed text. */
export const keyIdOf = (sealed: unknown): string | undefined =>
  typeof sealed === 'string' ? SEALED.exec(sealed)?.[3] : undefined;

export const keyMissing = (keyId: string): StepfastError =>
  new StepfastError(
    'KEY_MISSING',
    `The key ${quoted(keyId)} is not here, and what was sealed with it can not be read. Give the key back, or forget the runs that need it.`,
    { data: { keyId } },
  );

const corrupt = (what: string, options?: ErrorOptions) =>
  new StepfastError('STORE_CORRUPT', `A stored value ${what}. Nothing was changed.`, {}, options);

/** Hashes of what stores look up, for as long as the plug-in lives. */
export type Hash = (use: Use, text: string) => Promise<string>;

export function createHash(ring: KeyRing): Hash {
  const known = new Bounded<Promise<string>>(MAX_HASHES);
  const derived = new Map<Use, Promise<CryptoKey>>();
  const derive = async (use: Use): Promise<CryptoKey> => {
    const base = await ring.index();
    if (!base) throw keyMissing('index');
    const hkdf = { name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(0), info: bytesOf(`stepfast/${use}`) };
    const hmac = { name: 'HMAC', hash: 'SHA-256', length: 256 };
    return subtle().deriveKey(hkdf, base, hmac, false, ['sign']);
  };
  const keyFor = (use: Use): Promise<CryptoKey> => {
    const made = derived.get(use) ?? derive(use);
    derived.set(use, made);
    made.catch(() => derived.delete(use));
    return made;
  };
  const compute = async (use: Use, text: string): Promise<string> => {
    // JSON text: as bytes, all lone surrogates would look alike.
    const signed = await subtle().sign('HMAC', await keyFor(use), bytesOf(JSON.stringify(text)));
    return toBase64(new Uint8Array(signed)).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
  };
  return (use, text) => {
    const name = `${use} ${text}`;
    const found = known.get(name) ?? compute(use, text);
    known.set(name, found);
    found.catch(() => known.delete(name));
    return found;
  };
}

/** Seals and opens for one call of the store. */
export interface Vault {
  readonly hash: Hash;
  /** Throws `KEY_MISSING` when the key is not here. */
  seal(keyId: string, place: Place, value: unknown): Promise<string>;
  /** Throws `KEY_MISSING`, or `STORE_CORRUPT` for what was not sealed with this key, and for this place. */
  open(place: Place, sealed: unknown): Promise<Json>;
  /** Whether the key is here. */
  has(keyId: string): Promise<boolean>;
}

export function createVault(ring: KeyRing, hash: Hash, blobs: boolean): Vault {
  const asked = new Map<string, Promise<CryptoKey | undefined>>();
  const ask = (keyId: string) => {
    const found = asked.get(keyId) ?? ring.key(keyId);
    asked.set(keyId, found);
    return found;
  };
  const keyFor = async (keyId: string): Promise<CryptoKey> => {
    const key = await ask(keyId);
    if (!key) throw keyMissing(keyId);
    return key;
  };
  const gcm = (iv: Uint8Array<ArrayBuffer>, place: Place) => ({
    name: 'AES-GCM',
    iv,
    additionalData: bytesOf(JSON.stringify([FORMAT, ...place])),
  });

  return {
    hash,
    has: async (keyId) => (await ask(keyId)) !== undefined,
    async seal(keyId, place, value) {
      const [key, text] = await Promise.all([keyFor(keyId), toText(value, blobs)]);
      const iv = globalThis.crypto.getRandomValues(new Uint8Array(IV_BYTES));
      const sealed = new Uint8Array(await subtle().encrypt(gcm(iv, place), key, bytesOf(text)));
      const bytes = new Uint8Array(IV_BYTES + sealed.length);
      bytes.set(iv);
      bytes.set(sealed, IV_BYTES);
      return `${FORMAT}.${toBase64(bytes)}.${keyId}`;
    },
    async open(place, sealed) {
      const [, format, body, keyId] = (typeof sealed === 'string' && SEALED.exec(sealed)) || [];
      if (!format || !body || !keyId) throw corrupt('is not sealed: it was written without encryption, or changed');
      if (Number(format) > FORMAT)
        throw new StepfastError('STORE_TOO_NEW', 'A stored value was sealed by a newer stepfast. Nothing was changed.');
      const key = await keyFor(keyId);
      try {
        const bytes = fromBase64(body);
        const opened = await subtle().decrypt(gcm(bytes.subarray(0, IV_BYTES), place), key, bytes.subarray(IV_BYTES));
        return fromText(new TextDecoder().decode(opened));
      } catch (cause) {
        throw corrupt(`does not open with the key ${quoted(keyId)}: it was changed, or sealed with another key`, {
          cause,
        });
      }
    },
  };
}
