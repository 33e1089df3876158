/*
 * Notes of visits that ended in an orderly way, for an engine in a dedicated worker (spec F5: that is no crash). A page
 * writes them in `pagehide`, where only what is synchronous is sure to happen: into localStorage, which workers do not have.
 * So the page of a worker does it for it, and tells the next worker what is written. The store in the worker (of IndexedDB) and
 * `serveStepfast` meet at one object of the worker's global; neither knows the other.
 *
 * A note that is lost costs an interruption, nothing more; whoever is noted and lives all the same is refused by the fence.
 */

/** Of a worker: which notes are to be written when it ends, and which were written for others. */
export interface WorkerNotes {
  readonly own: Set<string>;
  readonly left: Set<string>;
  /** Called when `own` has changed. */
  changed?: () => void;
}

const NAME = Symbol.for('stepfast.notes');

/** That of this worker. */
export const workerNotes = (): WorkerNotes =>
  ((globalThis as { [NAME]?: WorkerNotes })[NAME] ??= { own: new Set(), left: new Set() });

/** As many are kept. */
const MAX_NOTES = 500;
const IS_NOTE = /^stepfast:.*:left:/;
export const isNote = (key: string | null): boolean => key !== null && IS_NOTE.test(key);

const storage = (): Storage | undefined => {
  try {
    return globalThis.localStorage;
  } catch {
    return undefined; // forbidden here
  }
};

/** All that are written, the latest first; those beyond the limit are removed. */
export function writtenNotes(): string[] {
  const notes = storage();
  const keys = Object.keys(notes ?? {}).filter(isNote);
  keys.sort((a, b) => Number(notes!.getItem(b)) - Number(notes!.getItem(a)));
  for (const key of keys.splice(MAX_NOTES)) notes!.removeItem(key);
  return keys;
}

export function writeNotes(keys: readonly string[]): void {
  try {
    for (const key of keys) storage()?.setItem(key, String(Date.now()));
  } catch {
    // full: as if there were none
  }
}

export function removeNotes(keys: readonly string[]): void {
  for (const key of keys) storage()?.removeItem(key);
}
