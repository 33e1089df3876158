import type { CommitOutcome, Deletion } from '../batch.js';
import type { Scope } from './scope.js';
import { tombstoneKeys } from './state.js';
import { read, type Work } from './work.js';

/** Deletes a run that has ended; its id and key are remembered as long as was promised (spec Q1, Q6). */
export function* deleteRun(scope: Scope, { runId, fence, fingerprint }: Deletion): Work<CommitOutcome | undefined> {
  const row = yield* scope.run(runId);
  if (!row) return { kind: 'fenced', fence: 0 };
  if (row.fence !== fence || row.endedAt === undefined || row.undoing) return { kind: 'fenced', fence: row.fence };
  // Its record is the only place that says how it ended: who awaits it has not read that yet (spec E12).
  if ((yield* scope.awaiting(runId)).some(({ endedAt }) => endedAt === undefined))
    return { kind: 'fenced', fence: row.fence };
  scope.writes.runs.delete(runId);
  scope.writes.deletes.add(runId);
  if (row.keyUntil === undefined || row.keyUntil <= scope.now) return undefined;
  const value = { runId, fingerprint };
  for (const key of tombstoneKeys(row)) scope.putState({ key, value, expiresAt: row.keyUntil });
  return undefined;
}

/** A little tidying with each commit that touches the state: nothing else removes what has expired. */
export function* forgetExpired({ reads, writes, now }: Scope): Work<void> {
  for (const key of yield* read(reads.expiredState(now))) if (!writes.state.has(key)) writes.state.set(key, undefined);
}
