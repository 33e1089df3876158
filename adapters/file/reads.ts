import type { JournalEntry } from '../../src/journal.js';
import type { Reads, Writes } from '../../src/transition.js';
import type { Archive } from './archive.js';
import { assertSound, type Image, keyText } from './image.js';

/*
 * What a transition reads: the rows in memory, and the archive behind them. A run that is quarantined answers with its
 * damage; its id and key are known, so that nothing starts a second one in its place.
 */

/** Journals of runs that a transition has read from the archive. */
export type Adopted = Map<string, readonly JournalEntry[]>;

export function readsOf(image: Image, archive: Archive, adopted: Adopted): Reads {
  const { tables } = image;
  const archived = async (runId: string) => {
    const run = await archive.read(runId);
    if (run) adopted.set(runId, run.journal);
    return run?.row;
  };
  return {
    clock: () => tables.clock(),
    run: (runId) => {
      assertSound(image, runId);
      return tables.run(runId) ?? (archive.has(runId) ? archived(runId) : undefined);
    },
    runByKey: (job, key) =>
      tables.runByKey(job, key) ?? image.quarantinedKeys.get(keyText(job, key)) ?? archive.runByKey(job, key),
    waiting: (pair) => tables.waiting(pair),
    events: (pair, after) => tables.events(pair, after),
    event: (seq) => tables.event(seq),
    eventById: (id) => tables.eventById(id),
    eventByKey: (pair, key) => tables.eventByKey(pair, key),
    backlog: (pair) => tables.backlog(pair),
    expired: (now) => tables.expired(now),
    slots: (queue) => tables.slots(queue),
  };
}

/** A run that comes back from the archive brings its journal along: from here on the log alone tells of it. */
export function adopt(writes: Writes, image: Image, adopted: Adopted): void {
  for (const [runId, { row, append }] of writes.runs) {
    const before = image.tables.run(runId) ? undefined : adopted.get(runId);
    if (before) writes.runs.set(runId, { row, append: [...before, ...append] });
  }
}
