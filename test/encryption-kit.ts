import { type EncryptionKey, type EncryptionOptions, encryption } from '../plugins/encryption/index.js';
import type { Batch, CommitOutcome, NewRun, RunChange } from '../src/store/batch.js';
import type { JournalEntry } from '../src/store/journal.js';
import type { Store } from '../src/store/store.js';
import type { Json } from '../src/values/json.js';

/*
 * What the tests of encryption share: keys, and short words for a store that is used without an engine.
 */

/** A key that is easy to tell from others. */
export const keyBytes = (fill: number): Uint8Array => new Uint8Array(32).fill(fill);

export const plugin = (options: Partial<EncryptionOptions> = {}) =>
  encryption({ key: keyBytes(1), keyId: 'k1', indexKey: keyBytes(9), ...options });

/** The keys of users, as an app would keep them: what is deleted is gone. */
export function keyVault(...keyIds: string[]) {
  const keys = new Map<string, EncryptionKey>(keyIds.map((keyId, index) => [keyId, keyBytes(100 + index)]));
  const asked: string[] = [];
  return {
    keys,
    asked,
    /** Each run, event and state value belongs to the user that its first tag, or its key, names. */
    options: {
      keyOf: (subject) => {
        const name =
          subject.kind === 'run' ? subject.tags[0] : subject.kind === 'event' ? subject.correlationKey : subject.key;
        return name?.startsWith('user:') ? name : undefined;
      },
      keys: async (keyId) => {
        asked.push(keyId);
        return keys.get(keyId);
      },
    } satisfies Partial<EncryptionOptions>,
  };
}

export const now = Date.UTC(2026, 0, 1);

export async function openStore(store: Store, owner = 'a', onError: (error: unknown) => void = () => undefined) {
  await store.open({ owner, now, leaseMs: 15_000, mode: 'drive', onError });
  return store;
}

export const started = (payload: Json): JournalEntry => ({ kind: 'started', at: now, payload });

export const newRun = (runId: string, over: Partial<NewRun> = {}): NewRun => ({
  runId,
  job: 'job',
  version: 1,
  queue: 'queue',
  dueAt: now,
  entries: [started(`payload of ${runId}`)],
  ...over,
});

export const claim = (runId: string, fence = 0, over: Partial<RunChange> = {}): RunChange => ({
  runId,
  fence,
  raise: true,
  append: [{ kind: 'claimed', at: now, owner: 'a', fence: fence + 1 }],
  state: { status: 'running', version: 1, owner: 'a', dueAt: now, waits: [] },
  ...over,
});

export async function commit(store: Store, batch: Partial<Batch>) {
  const outcome = await store.commit({ now, ...batch });
  if (outcome.kind !== 'committed') throw new Error(`not committed: ${JSON.stringify(outcome)}`);
  return outcome as Extract<CommitOutcome, { readonly kind: 'committed' }>;
}

export const look = (store: Store, limit = 100) =>
  store.due({ now, owner: 'a', jobs: { job: 1 }, limit, graceMs: 5_000 });
