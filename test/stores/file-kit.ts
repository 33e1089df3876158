import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { FileStoreOptions } from '../../adapters/file/index.js';
import { createFileStore, type FileStoreInternals } from '../../adapters/file/store.js';
import type { Batch, CommitOutcome, NewRun, StateChange } from '../../src/store/batch.js';
import type { JournalEntry } from '../../src/store/journal.js';
import type { RunState } from '../../src/store/rows.js';
import type { OpenOptions, Store } from '../../src/store/store.js';

export const now = 1_800_000_000_000;

export interface Opened {
  readonly store: Store;
  /** What `onError` has heard. */
  readonly errors: (Error & {
    readonly code?: string;
    readonly file?: string;
    readonly offset?: number;
    runId?: string;
  })[];
}

export async function openStore(
  options: FileStoreOptions,
  mode: OpenOptions['mode'] = 'drive',
  internals: FileStoreInternals = {},
  at = now,
): Promise<Opened> {
  const store = createFileStore(options, internals);
  const errors: Opened['errors'] = [];
  const onError = (error: unknown) => void errors.push(error as Error);
  await store.open({ owner: 'a', now: at, leaseMs: 10_000, mode, isPatient: true, onError });
  return { store, errors };
}

export const newRun = (runId: string, more: Partial<NewRun> = {}): NewRun => ({
  runId,
  job: 'job',
  version: 1,
  queue: 'default',
  dueAt: now,
  entries: [{ kind: 'started', at: now, payload: { of: runId } }],
  ...more,
});

export const startOf = (runId: string, more: Partial<NewRun> = {}): Batch => ({ now, starts: [newRun(runId, more)] });

export const dispatchOf = (id: string, key?: string): Batch => ({
  now,
  events: [{ id, name: 'e', payload: { of: id }, ttlMs: 60_000, maxBacklog: 1_000, ...(key !== undefined && { key }) }],
});

export const running: RunState = { status: 'running', version: 1, owner: 'a', waits: [] };
export const completed: RunState = { status: 'completed', version: 1, waits: [], endedAt: now };

export const stepDone = (index: number): JournalEntry => ({
  kind: 'step-completed',
  at: now,
  id: ['step', index],
  asked: index,
  attempt: 1,
  value: { result: index },
});

/** One step of a run nobody has claimed: fence 0 all along. */
export const stepOf = (runId: string, index: number, state: RunState = running): Batch => ({
  now,
  run: { runId, fence: 0, append: [stepDone(index)], state },
});

export const endOf = (runId: string): Batch => ({
  now,
  run: { runId, fence: 0, append: [{ kind: 'completed', at: now, value: 'done' }], state: completed },
});

export const cancelOf = (runId: string): Batch => ({
  now,
  run: {
    runId,
    fence: 'any',
    raise: true,
    append: [{ kind: 'cancelled', at: now }],
    state: { status: 'cancelled', version: 1, waits: [], endedAt: now },
  },
});

export async function committed(store: Store, batch: Batch): Promise<CommitOutcome & { kind: 'committed' }> {
  const outcome = await store.commit(batch);
  if (outcome.kind !== 'committed') throw new Error(`expected a commit, got ${JSON.stringify(outcome)}`);
  return outcome;
}

export const stateOf = (...state: StateChange[]): Batch => ({ now, state });
export const setOf = (key: string, value: number | string, expiresAt?: number): Batch =>
  stateOf({ kind: 'set', key, value, ...(expiresAt !== undefined && { expiresAt }) });

export const deleteOf = (runId: string, fence = 0): Batch => ({
  now,
  deletes: [{ runId, fence, fingerprint: `of ${runId}` }],
});

/** Starts a run and ends it, in one commit each. */
export async function ended(store: Store, runId: string, more: Partial<NewRun> = {}): Promise<void> {
  await committed(store, startOf(runId, more));
  await committed(store, endOf(runId));
}

/** Where the archive keeps a run, and where its key. */
export const archivePath = (dir: string, kind: 'runs' | 'keys', text: string): string => {
  const name = createHash('sha256').update(text).digest('hex');
  return join(dir, kind, name.slice(0, 2), `${name}.json`);
};
export const keyPath = (dir: string, idempotencyKey: string): string =>
  archivePath(dir, 'keys', JSON.stringify(['job', idempotencyKey]));

export const logPath = (dir: string, segment = 1): string =>
  join(dir, 'log', `${String(segment).padStart(8, '0')}.jsonl`);

/** Where each line of a log begins. */
export function linesOf(log: Buffer): number[] {
  const starts = [0];
  for (let at = log.indexOf(10); at >= 0 && at < log.length - 1; at = log.indexOf(10, at + 1)) starts.push(at + 1);
  return starts;
}
