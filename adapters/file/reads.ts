import type { Batch } from '../../src/store/batch.js';
import type { JournalEntry } from '../../src/store/journal.js';
import type { RunRow, StoredRun } from '../../src/store/rows.js';
import type { Reads, Writes } from '../../src/store/transition/scope.js';
import type { Archive } from './archive.js';
import { assertSound, type Image, isRemoved, keyText } from './image.js';
import type { Removal } from './record.js';
import { stateOf } from './shared.js';

/*
 * What a transition reads: the rows in memory, and the archive behind them. A run that is quarantined answers with its
 * damage; its id and key are known, so that nothing starts a second one in its place.
 *
 * The archive holds runs that have ended and that nobody undoes: they wait for nothing, hold no slot and no unique key,
 * and are not cancelled with their parent. So only their ids and idempotency keys are asked for there.
 */

/** Runs that a transition has read from the archive. */
export type Adopted = Map<string, StoredRun>;

/** A run of the archive, unless the log says that it is deleted. */
export async function archivedRun(
  archive: Archive,
  image: Image | undefined,
  runId: string,
): Promise<StoredRun | undefined> {
  const run = archive.has(runId) ? await archive.read(runId) : undefined;
  return run && !isRemoved(image, run.row) ? run : undefined;
}

export function readsOf(image: Image, archive: Archive, adopted: Adopted, { now, state }: Batch): Reads {
  const { tables } = image;
  const archived = async (runId: string): Promise<RunRow | undefined> => {
    const run = await archivedRun(archive, image, runId);
    if (run) adopted.set(runId, run);
    return run?.row;
  };
  const archivedKey = async (job: string, key: string) => {
    const runId = await archive.runByKey(job, key);
    if (runId === undefined || !image.removed.has(runId)) return runId;
    // What is left of a deleted run. Its id may have been used again, with this key or another one.
    const row = tables.run(runId) ?? (await archivedRun(archive, image, runId))?.row;
    return row?.job === job && row.idempotencyKey === key ? runId : undefined;
  };
  return {
    clock: () => tables.clock(),
    run: (runId) => {
      assertSound(image, runId);
      return tables.run(runId) ?? (archive.has(runId) ? archived(runId) : undefined);
    },
    runByKey: (job, key) =>
      tables.runByKey(job, key) ?? image.quarantinedKeys.get(keyText(job, key)) ?? archivedKey(job, key),
    runByUnique: (job, key) => tables.runByUnique(job, key),
    waiting: (pair) => tables.waiting(pair),
    awaiting: (runId) => tables.awaiting(runId),
    children: (runId) => tables.children(runId),
    events: (pair, after) => tables.events(pair, after),
    event: (seq) => tables.event(seq),
    eventById: (id) => tables.eventById(id),
    eventByKey: (pair, key) => tables.eventByKey(pair, key),
    backlog: (pair) => tables.backlog(pair),
    expired: (at) => tables.expired(at),
    slots: (queue) => tables.slots(queue),
    state: (key) => {
      const first = image.lostState.has(key) ? state?.find((change) => change.key === key) : undefined;
      // Whatever was lost, it is written over: this is how a damaged value is made good.
      const isReplaced = first?.kind === 'delete' || (first?.kind === 'set' && first.ifRevision === undefined);
      return isReplaced ? undefined : stateOf(image, key, now);
    },
    expiredState: (at) => tables.expiredState(at),
  };
}

/** A run that comes back from the archive brings its journal along: from here on the log alone tells of it. */
export function adopt(writes: Writes, image: Image, adopted: Adopted): void {
  for (const [runId, write] of writes.runs) {
    const before: readonly JournalEntry[] | undefined = image.tables.run(runId)
      ? undefined
      : adopted.get(runId)?.journal;
    if (before && !write.reset) writes.runs.set(runId, { ...write, append: [...before, ...write.append] });
  }
}

/** What is to be remembered of the runs that a transition deletes. */
export function removalsOf(writes: Writes, image: Image, adopted: Adopted): Removal[] {
  return [...writes.deletes].map((runId) => {
    const row = image.tables.run(runId) ?? adopted.get(runId)?.row;
    const key = row?.idempotencyKey === undefined ? undefined : ([row.job, row.idempotencyKey] as const);
    return { runId, seq: writes.clock.seq, ...(key && { key }) };
  });
}
