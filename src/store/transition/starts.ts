import type { NewRun, StartOutcome } from '../batch.js';
import type { RunRow, RunState } from '../rows.js';
import { noteEnded } from './runs.js';
import { holderOf, holdsUnique, offersFor, type Scope, written } from './scope.js';
import { tombstoneKeys } from './state.js';
import { read, type Work } from './work.js';

/** Creates a run, unless it is there, is remembered, or another holds its unique key (spec Q1, Q2). */
export function* start(scope: Scope, given: NewRun): Work<StartOutcome> {
  const { entries, state, moves: _, merged: __, dueAt = scope.now, ...rest } = given;
  const { runId, version } = given;
  // The copy of a run that has ended, or started, does not hold what that run held before.
  const unique = given.unique && state && !holdsUnique(given.unique, state) ? undefined : given.unique;
  const known = yield* findKnown(scope, given);
  if (known) return known;
  const held = unique && (yield* findUnique(scope, { ...given, unique }));
  if (held) {
    rememberMerged(scope, given, held.runId);
    return held;
  }
  const first: RunState = state ?? { status: dueAt > scope.now ? 'scheduled' : 'queued', version, dueAt, waits: [] };
  const counts = { seq: scope.tick(), createdAt: entries[0]!.at, fence: 0, length: entries.length };
  scope.put(Object.assign(definedOf(Object.assign(rest, { unique })), first, counts), entries);
  if (state) yield* catchUp(scope, runId, state);
  return { kind: 'created', runId };
}

/** What of an object is there. */
function definedOf<T extends object>(given: T): T {
  const defined: Partial<T> = {};
  for (const key in given) if (given[key] !== undefined) defined[key] = given[key];
  return defined as T;
}

/** A copy may wait for what is there already: nothing else would wake it (rules S3, S9). */
function* catchUp(scope: Scope, runId: string, { waits }: RunState): Work<void> {
  yield* noteEnded(scope, runId);
  const offers = yield* offersFor((pair, after) => scope.events(pair, after), runId, waits, scope.now);
  if (offers.length) scope.wake((yield* scope.run(runId))!);
}

function* findKnown(scope: Scope, { runId, job, idempotencyKey }: NewRun): Work<StartOutcome | undefined> {
  if (yield* scope.run(runId)) return { kind: 'exists', runId };
  if (idempotencyKey !== undefined) {
    const same = (row: RunRow) => row.job === job && row.idempotencyKey === idempotencyKey;
    const found = written(scope, same) ?? (yield* read(scope.reads.runByKey(job, idempotencyKey)));
    if (found !== undefined) return { kind: 'exists', runId: found };
  }
  for (const key of tombstoneKeys({ runId, job, idempotencyKey })) {
    const remembered = yield* scope.state(key);
    if (remembered) return { kind: 'exists', ...(remembered.value as Tombstone) };
  }
  return undefined;
}

/** A start that another run has answered, so that it gives that run however often it is repeated (spec Q1). */
function rememberMerged(scope: Scope, { merged, ...given }: NewRun, runId: string): void {
  if (!merged || merged.until <= scope.now) return;
  const { fingerprint, until } = merged;
  const value: Tombstone = { runId, fingerprint, isUnique: true };
  scope.putState({ key: tombstoneKeys(given).at(-1)!, value, expiresAt: until });
}

function* findUnique(scope: Scope, { job, unique, moves, dueAt = scope.now }: NewRun): Work<StartOutcome | undefined> {
  if (!unique) return undefined;
  const runId = yield* holderOf(scope, job, unique);
  const row = runId === undefined ? undefined : yield* scope.run(runId);
  if (!row?.unique) return undefined;
  if (!moves || row.unique.until === 'end') return { kind: 'exists', runId: row.runId, isUnique: true };
  if (row.status !== 'scheduled' || row.dueAt! <= scope.now) {
    // Too late to move it: the new run takes its place, so that never two rows hold one key.
    const { unique: _, ...rest } = row;
    scope.put(rest);
    return undefined;
  }
  scope.put({ ...row, dueAt, length: row.length + 1 }, [moves]);
  return { kind: 'moved', runId: row.runId, isUnique: true };
}

/** What a deleted run leaves, or a start that another run has answered: enough to recognise one that is repeated. */
type Tombstone = { readonly runId: string; readonly fingerprint: string; readonly isUnique?: true };
