import { isStepfastError, StepfastError } from '../../src/errors.js';
import type { StateChange } from '../../src/store/batch.js';
import type { Store } from '../../src/store/store.js';
import type { KeyRing } from './keys.js';
import { isMarked } from './rows.js';
import { keyMissing, type Vault } from './seal.js';

/*
 * What is checked when a store is opened. Two rows of the shared state hold a known text: one hashed under the index
 * key, one sealed under each default key. A wrong key is found before anything is written under it, which nothing could
 * put right afterwards: with another index key no event would find its wait.
 */

const INDEX_ROW = 'stepfast:encryption:index';
const keyRow = (keyId: string) => `stepfast:encryption:key:${keyId}`;
const MAX_TRIES = 8;

const wrongKey = (what: string, options?: ErrorOptions) =>
  new StepfastError(
    'KEY_MISSING',
    `${what} is another than this store was written with. Give the one from then; a new key takes a new keyId, the index key stays the same for ever. Nothing was changed.`,
    {},
    options,
  );

/** Throws unless the keys fit the store; the first context leaves the texts to compare with. */
export async function verifyKeys(inner: Store, ring: KeyRing, vault: Vault, now: number): Promise<void> {
  if (!(await vault.has(ring.current))) throw keyMissing(ring.current);
  const mark = await vault.hash('check', '');
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const missing: StateChange[] = [];
    const index = await inner.state(INDEX_ROW);
    if (!index) missing.push({ kind: 'set', key: INDEX_ROW, value: mark, ifRevision: 0 });
    else if (index.value !== mark) throw wrongKey('The index key');
    for (const keyId of [ring.current, ...ring.previous]) {
      const key = keyRow(keyId);
      const row = await inner.state(key);
      if (row) await verifyKey(vault, keyId, row.value);
      else if (keyId === ring.current)
        missing.push({ kind: 'set', key, value: await vault.seal(keyId, ['check', keyId], null), ifRevision: 0 });
    }
    if (!missing.length) return;
    if (!index && (await inner.list({ limit: 1 })).runs.some(({ row }) => !isMarked(row.job)))
      throw new StepfastError(
        'INVALID_OPTION',
        'The store holds runs that were written without encryption. Give encrypted runs a store of their own: another name, or another folder.',
      );
    // Refused when another context was faster: its texts are then compared with.
    if ((await inner.commit({ now, state: missing })).kind === 'committed') return;
  }
  throw new StepfastError('STORE_UNAVAILABLE', 'The store could not keep what its keys are checked by. Try again.');
}

async function verifyKey(vault: Vault, keyId: string, value: unknown): Promise<void> {
  try {
    await vault.open(['check', keyId], value);
  } catch (cause) {
    // One of the keys before may be gone: what needs it says so.
    if (isStepfastError(cause, 'KEY_MISSING')) return;
    throw isStepfastError(cause, 'STORE_CORRUPT') ? wrongKey(`The key ${JSON.stringify(keyId)}`, { cause }) : cause;
  }
}
