import { dirname } from 'node:path';
import { StepfastError } from '../../src/errors.js';
import type { RunRow } from '../../src/store/rows.js';
import type { Archive } from './archive.js';
import { decide, type Waiting } from './decide.js';
import type { Disk } from './disk.js';
import { APPEND, exists, openRegular, storeError, syncFile, syncFolder, writeAll } from './files.js';
import type { Image, Removed } from './image.js';
import { type Located, locate, storedRuns } from './journals.js';
import type { Lock } from './lock.js';
import { type Cut, cutBack, recover, rewrite, rewriteSound } from './recovery.js';
import { CORRUPT, reading, retire, type Segment } from './segments.js';

/*
 * The one who holds the lock and writes.
 *
 * W1. A group of batches is decided in order, written in one go, synced once, and only then answered.
 * W2. Memory runs ahead of the disk only inside `flush`, and nobody reads meanwhile (the store's turn). If the write or
 *     the sync fails, the file is cut back to where the group began, memory is built again from it, and all are refused.
 * W3. What a group deletes goes from the archive after the group is on disk, never before (archive.ts, A2).
 * W4. The lock is looked at before each write: a second line behind its proof of death.
 */

export interface OwnerOptions {
  readonly disk: Disk;
  readonly dir: string;
  readonly lock: Lock;
  readonly archive: Archive;
  readonly isStrict: boolean;
  /** Compaction begins at this size, or at twice what it left the last time, whichever is more; beside commits at four times that. */
  readonly compactAt: number;
  /** What an owner before has compacted counts for nothing. */
  readonly isEager: boolean;
  /** The latest instant that the store was told. */
  readonly now: () => number;
  readonly onError: (error: unknown) => void;
}

export interface Owner {
  /** Everything acknowledged, and nothing else. */
  segment(): Promise<Segment>;
  /** @returns The runs that changed, and whether by commits of this store object alone. */
  flush(group: readonly Waiting[]): Promise<ReadonlyMap<string, boolean>>;
  /** Whether the archive may hold something of runs that were deleted. */
  hasRemovals(): boolean;
  /** Removes it; never rejects. What can not be removed is reported, and tried again when the log is compacted or opened. */
  sweep(isWanted: () => boolean): Promise<void>;
  /** Whether the log is worth to be compacted. `isBusy`: commits are coming, and would wait for it. */
  isLarge(isBusy: boolean): boolean;
  /** Never while `sweep` is under way. `alone` gives the store's turn: commits wait only while the new segment is written, not for the archive. */
  compact(alone: <T>(body: () => Promise<T>) => Promise<T>, isWanted: () => boolean): Promise<void>;
  close(): Promise<void>;
}

/** What of a segment can leave the log, as it was when the commits up to then were on disk. */
interface Stock {
  readonly old: Segment;
  readonly runs: readonly Located[];
  readonly revisions: ReadonlyMap<string, number | undefined>;
  readonly removals: readonly Removed[];
}

const isOver = ({ endedAt, undoing }: RunRow) => endedAt !== undefined && !undoing;

/** Whether the next compaction takes runs out of the log: an owner before has not come to that. */
const hasLeft = ({ tables, removed }: Image) => removed.size > 0 || [...tables.runs.values()].some(isOver);

function stockOf(old: Segment): Stock {
  const { tables, places, removed } = old.image;
  const rows = [...tables.runs.values()].filter(isOver);
  const revisions = new Map(rows.map(({ runId }) => [runId, places.get(runId)?.revision]));
  return { old, runs: rows.map((row) => locate(old, row)), revisions, removals: [...removed.values()] };
}

/** How many deleted runs are swept before a closing store is asked for again. */
const SWEEP_COUNT = 64;

export function createOwner(options: OwnerOptions): Owner {
  const { disk, dir, lock, archive, isStrict, compactAt, isEager, now, onError } = options;
  const recovery = { disk, dir, fence: lock.fence, now, onError };
  const deciding = { dir, archive, isStrict, fence: lock.fence };
  let segment: Segment | undefined;
  let appendFd: number | undefined;
  /** The file may hold bytes of a refused group behind this length. */
  let cutTo: Cut | undefined;
  let sizeAfterCompaction = 0;
  /** Deletions that are on disk, and not yet carried out in the archive. */
  let unswept: Removed[] = [];

  const assertHeld = () => {
    if (!lock.isHeld())
      throw new StepfastError(
        'STORE_LOCKED',
        `The lock of "${dir}" was taken away or removed. Close this store and open a new one.`,
      );
  };

  const letGo = async () => {
    const old = segment;
    const fd = appendFd;
    segment = undefined;
    appendFd = undefined;
    if (old) await retire(disk, old);
    if (fd !== undefined) await disk.close(fd);
  };

  const cut = async () => {
    if (cutTo) await cutBack(disk, cutTo);
    cutTo = undefined;
  };

  const open = async (): Promise<Segment> => {
    assertHeld();
    const found = await recover(recovery, cutTo, (torn) => {
      cutTo = torn;
      return cut();
    });
    const { path, image } = found;
    try {
      // What an owner that crashed has written may be in the system's cache alone: nothing is answered from there. So may
      // the name of the segment, when the sync of its folder failed after the rename.
      if (isStrict || image.removed.size) await syncFile(disk, path);
      await syncFolder(disk, dirname(path));
    } catch (error) {
      await retire(disk, found);
      throw error;
    }
    unswept = [...image.removed.values()];
    if (!isEager && !hasLeft(image)) sizeAfterCompaction = Math.max(sizeAfterCompaction, image.snapshotLength);
    segment = found;
    return found;
  };
  const ready = async (): Promise<Segment> => segment ?? open();

  /**
   * Somebody has removed the log under us (a program that cleans up, a quarantine). What it held is in memory, and in the
   * file, which stays readable as long as it is open: it is written anew, before anything is acknowledged into nothing.
   */
  const restored = async (at: Segment): Promise<Segment> => {
    if (exists(at.path)) return at;
    const fresh = await rewriteSound(recovery, at);
    await letGo();
    segment = fresh;
    const file = at.image.file.replace(CORRUPT, '');
    onError(
      new StepfastError(
        'STORE_UNAVAILABLE',
        `"${file}" was removed while in use. It was written anew, with all it held.`,
        { file },
      ),
    );
    return fresh;
  };

  const write = async (at: Segment, text: string, start: number, isSynced: boolean) => {
    await cut();
    if (appendFd === undefined) appendFd = await openRegular(disk, at.path, APPEND);
    if (appendFd === undefined)
      throw new StepfastError('STORE_UNAVAILABLE', `"${at.path}" is gone. Close the store and look at its folder.`, {
        file: at.path,
      });
    cutTo = { path: at.path, length: start };
    const bytes = Buffer.from(text);
    await writeAll(disk, appendFd, bytes);
    if (isSynced) await disk.datasync(appendFd);
    cutTo = undefined;
    at.tail.add(bytes, start);
  };

  const flush = async (group: readonly Waiting[]): Promise<ReadonlyMap<string, boolean>> => {
    let at: Segment;
    try {
      at = await ready();
      assertHeld();
      at = await restored(at);
    } catch (error) {
      for (const { reject } of group) reject(storeError(error, 'opening', dir));
      return new Map();
    }
    const start = at.image.length;
    const { text, changed, deleted, answered } = await decide(deciding, at.image, group);
    try {
      // A deletion is carried out in the archive at once, so it may not be lost, whatever the durability.
      if (text) await write(at, text, start, isStrict || deleted.length > 0);
    } catch (error) {
      const refusal = storeError(error, 'writing', at.image.file.replace(CORRUPT, ''));
      await letGo().catch(onError);
      await cut().catch(onError); // tried again before the next write
      for (const [{ reject }] of answered) reject(refusal);
      return new Map();
    }
    for (const runId of deleted) unswept.push(at.image.removed.get(runId)!);
    for (const [{ resolve }, outcome] of answered) resolve(outcome);
    return changed;
  };

  /** Goes over to a segment without what the archive has taken over; a run that changed since stays in the log. */
  const dropArchived = async ({ old, revisions }: Stock, swept: ReadonlySet<Removed>) => {
    const { tables, places, removed } = old.image;
    const isArchived = (runId: string) => revisions.has(runId) && revisions.get(runId) === places.get(runId)?.revision;
    const rows = [...tables.runs.values()].filter((row) => !isArchived(row.runId));
    const removals = [...removed.values()].filter((removal) => !swept.has(removal));
    try {
      assertHeld();
      await cut();
      const fresh = await rewrite(recovery, old, { rows, removals }, false);
      await letGo();
      segment = fresh;
      sizeAfterCompaction = fresh.image.length;
    } catch (error) {
      // The new segment may stand under its name already, and the highest counts: look again before writing.
      await letGo().catch(onError);
      sizeAfterCompaction = old.image.length; // not again at each commit of a full disk
      throw error;
    }
  };

  return {
    segment: ready,
    flush,
    hasRemovals: () => unswept.length > 0,
    async sweep(isWanted) {
      while (unswept.length && isWanted()) {
        const some = unswept.splice(0, SWEEP_COUNT).filter((removal) => archive.mayHold(removal));
        if (!lock.isHeld()) return; // the next owner finds them in the log
        if (some.length)
          await archive.remove(some, false).catch((error) => onError(storeError(error, 'removing runs in', dir)));
      }
    },
    isLarge(isBusy) {
      if (!segment) return false;
      const size = Math.max(compactAt, 2 * sizeAfterCompaction);
      return segment.image.length > (isBusy ? 4 * size : size);
    },
    async compact(alone, isWanted) {
      // In a turn: what a group that is being written deletes may yet be refused.
      const stock = await alone(async () => stockOf(await ready()));
      const { old, runs, removals } = stock;
      await reading(disk, old, () => archive.write(storedRuns(disk, old, runs), isWanted));
      if (!isWanted()) return;
      const swept = await archive.remove(removals, true);
      await alone(async () => {
        if (segment === old && isWanted()) await dropArchived(stock, swept);
      });
    },
    async close() {
      if (segment && lock.isHeld()) await restored(segment).catch(onError);
      await letGo();
    },
  };
}
