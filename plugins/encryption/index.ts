import type { Plugin, PluginHost } from '../../src/engine/plugin.js';
import { check, checkOptions } from '../../src/values/check.js';
import { isObject } from '../../src/values/kinds.js';
import type { KeySubject } from './batch.js';
import { forget } from './forget.js';
import { type EncryptionKey, type KeySource, keyRing } from './keys.js';
import { createHash } from './seal.js';
import { sealedStore } from './store.js';

export type { KeySubject } from './batch.js';
export type { CryptoKeyLike, EncryptionKey, KeySource } from './keys.js';

/** How `encryption` gets its keys. */
export interface EncryptionOptions {
  /** Seals all new data that `keyOf` gives no key to. 32 bytes, a `CryptoKey` of AES-GCM, or a function. */
  readonly key: KeySource;
  /** Written beside everything that `key` seals. A new key takes a new id. Default: `'default'`. */
  readonly keyId?: string;
  /** Keys of before, by their ids: what they have sealed stays readable. */
  readonly previous?: { readonly [keyId: string]: KeySource };
  /**
   * Hashes what is looked up: correlation keys, idempotency keys, tags, state keys. 32 bytes, a `CryptoKey` of HKDF, or a
   * function. It stays the same for ever: with another one no event would find its wait.
   */
  readonly indexKey: KeySource;
  /**
   * The id of the key for a run, an event or a value of the shared state, so that all of one person can be forgotten by
   * dropping one key. Of a run it is asked once, when it is started. Default, and when it returns `undefined`: the key of
   * its parent for a child, else `key`.
   */
  readonly keyOf?: (subject: KeySubject) => string | undefined;
  /** The key of an id that `keyOf` gave; `undefined` when it was dropped. Asked with each call of the store. */
  readonly keys?: (keyId: string) => EncryptionKey | undefined | Promise<EncryptionKey | undefined>;
}

const OPTIONS = ['key', 'keyId', 'previous', 'indexKey', 'keyOf', 'keys'] satisfies (keyof EncryptionOptions)[];

/** The plug-in, for `createStepfast({ use: [...] })` of one engine. */
export interface Encryption extends Plugin {
  /**
   * Ends and deletes every run under this key id, and resolves with their number; nothing of them is undone. The key
   * itself is the app's to drop, before or after. Ids and idempotency keys stay remembered until their time.
   *
   * A run whose end another run awaits is deleted when that has read that it was cancelled. This is waited for, up to two
   * seconds: where the other run can not go on here, this one stays in the store as `cancelled`, and is not counted.
   *
   * @throws {StepfastError} `INVALID_OPTION` before the plug-in is used in an engine.
   * @example await vault.forget('user:42');
   */
  forget(keyId: string): Promise<number>;
}

/**
 * Encrypts what the store keeps: payloads, results, events, state, errors, logs and progress with AES-256-GCM; what is
 * looked up (correlation keys, idempotency keys, tags, state keys) becomes hashes. Names of jobs, events, queues and
 * schedules, run ids, key ids, statuses and instants stay readable.
 *
 * `step.transaction` is not available with it: nothing can be encrypted while a transaction waits.
 *
 * @throws {StepfastError} `INVALID_OPTION` for what is no key. From the engine: `KEY_MISSING` where a key is not here, or
 * is another than the store was written with; `STORE_CORRUPT` for data that was changed.
 * @example
 * const stepfast = createStepfast({ store: indexedDBStore(), use: [encryption({ key, indexKey })] });
 */
export function encryption(options: EncryptionOptions): Encryption {
  check(isObject(options), 'The options of encryption', options, '{ key, indexKey }');
  checkOptions(options, OPTIONS, 'The options of encryption');
  const { keyOf, keys } = options;
  check(keyOf === undefined || typeof keyOf === 'function', 'keyOf', keyOf, 'a function, or leave it out');
  check(
    keyOf === undefined || keys !== undefined,
    'keys',
    keys,
    'a function: `keyOf` gives ids, this gives their keys',
  );
  const ring = keyRing(options);
  const hash = createHash(ring);
  let engine: PluginHost | undefined;
  return {
    name: 'encryption',
    store: (inner) => sealedStore(inner, { ring, hash, keyOf, look: () => engine?.look() }),
    words(host) {
      engine = host;
      return {};
    },
    async forget(keyId) {
      check(engine !== undefined, 'The engine of this plug-in', engine, 'it to createStepfast({ use: [...] }) first');
      return forget(engine, keyId);
    },
  };
}
