import { StepfastError } from '../../src/errors.js';
import type { CommitOutcome } from '../../src/store.js';
import { transition } from '../../src/transition.js';
import type { Archive } from './archive.js';
import { notSerializable, type Prepared } from './batch.js';
import type { Disk } from './disk.js';
import { APPEND, openRegular, storeError, writeAll } from './files.js';
import { stage } from './image.js';
import { storedRuns } from './journals.js';
import type { Lock } from './lock.js';
import { type Adopted, adopt, readsOf } from './reads.js';
import { type Cut, cutBack, recover, rewrite } from './recovery.js';
import { CORRUPT, reading, retire, type Segment } from './segments.js';

/*
 * The one who holds the lock and writes.
 *
 * W1. A group of batches is decided in order, written in one go, synced once, and only then answered.
 * W2. Memory runs ahead of the disk only inside `flush`, and nobody reads meanwhile (the store's turn). If the write or
 *     the sync fails, the file is cut back to where the group began, memory is built again from it, and all are refused.
 * W3. The lock is looked at before each write: a second line behind its proof of death.
 */

export interface Waiting extends Prepared {
  /** Sent by another process. */
  readonly isForeign?: true;
  readonly resolve: (outcome: CommitOutcome) => void;
  readonly reject: (error: unknown) => void;
}

export interface OwnerOptions {
  readonly disk: Disk;
  readonly dir: string;
  readonly lock: Lock;
  readonly archive: Archive;
  readonly isStrict: boolean;
  /** Compaction begins at this size, or at twice what it left the last time, whichever is more. */
  readonly compactAt: number;
  readonly onError: (error: unknown) => void;
}

export interface Owner {
  /** Everything acknowledged, and nothing else. */
  segment(): Promise<Segment>;
  /** @returns The runs that changed, and whether by commits of this store object alone. */
  flush(group: readonly Waiting[]): Promise<ReadonlyMap<string, boolean>>;
  isLarge(): boolean;
  /** `alone` gives the store's turn: commits wait only while the new segment is written, not for the archive. */
  compact(alone: <T>(body: () => Promise<T>) => Promise<T>, isWanted: () => boolean): Promise<void>;
  close(): Promise<void>;
}

/** What a group of batches comes to, before it is on disk. */
interface Decided {
  readonly text: string;
  readonly changed: ReadonlyMap<string, boolean>;
  readonly answered: readonly (readonly [waiting: Waiting, outcome: CommitOutcome])[];
}

export function createOwner(options: OwnerOptions): Owner {
  const { disk, dir, lock, archive, isStrict, compactAt, onError } = options;
  const recovery = { disk, dir, fence: lock.fence, onError };
  let segment: Segment | undefined;
  let appendFd: number | undefined;
  /** The file may hold bytes of a refused group behind this length. */
  let cutTo: Cut | undefined;
  let sizeAfterCompaction = 0;

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
    segment = await recover(recovery, cutTo, (torn) => {
      cutTo = torn;
      return cut();
    });
    return segment;
  };
  const ready = async (): Promise<Segment> => segment ?? open();

  const write = async (at: Segment, text: string, start: number) => {
    await cut();
    if (appendFd === undefined) appendFd = await openRegular(disk, at.path, APPEND);
    if (appendFd === undefined)
      throw new StepfastError('STORE_UNAVAILABLE', `"${at.path}" is gone. Close the store and look at its folder.`, {
        file: at.path,
      });
    cutTo = { path: at.path, length: start };
    const bytes = Buffer.from(text);
    await writeAll(disk, appendFd, bytes);
    if (isStrict) await disk.datasync(appendFd);
    cutTo = undefined;
    at.tail.add(bytes, start);
  };

  /** Decides a group in order. A batch that can not be decided or encoded is refused alone. */
  const decide = async ({ image }: Segment, group: readonly Waiting[]): Promise<Decided> => {
    const first = isStrict ? image.n + 1 : image.snapshotEnd + 1;
    const answered: [Waiting, CommitOutcome][] = [];
    const changed = new Map<string, boolean>();
    let text = '';
    for (const waiting of group)
      try {
        const adopted: Adopted = new Map();
        const { outcome, writes } = await transition(readsOf(image, archive, adopted), waiting.batch);
        if (outcome.kind === 'committed' && (writes.runs.size || writes.events.size || writes.drops.size)) {
          adopt(writes, image, adopted);
          text += stage(image, writes, lock.fence, first, waiting.texts);
          const isOwn = !waiting.isForeign;
          for (const runId of writes.runs.keys()) changed.set(runId, isOwn && changed.get(runId) !== false);
        }
        answered.push([waiting, outcome]);
      } catch (error) {
        waiting.reject(notSerializable(error) ?? storeError(error, 'reading', dir));
      }
    return { text, changed, answered };
  };

  const flush = async (group: readonly Waiting[]): Promise<ReadonlyMap<string, boolean>> => {
    let at: Segment;
    try {
      at = await ready();
      assertHeld();
    } catch (error) {
      for (const { reject } of group) reject(storeError(error, 'opening', dir));
      return new Map();
    }
    const start = at.image.length;
    const { text, changed, answered } = await decide(at, group);
    try {
      if (text) await write(at, text, start);
    } catch (error) {
      const refusal = storeError(error, 'writing', at.image.file.replace(CORRUPT, ''));
      await letGo().catch(onError);
      await cut().catch(onError); // tried again before the next write
      for (const [{ reject }] of answered) reject(refusal);
      return new Map();
    }
    for (const [{ resolve }, outcome] of answered) resolve(outcome);
    return changed;
  };

  /** Goes over to a segment without the runs that the archive has; one that changed since stays in the log. */
  const dropArchived = async (old: Segment, revisions: ReadonlyMap<string, number | undefined>) => {
    const { tables, places } = old.image;
    const isArchived = (runId: string) => revisions.has(runId) && revisions.get(runId) === places.get(runId)?.revision;
    const kept = [...tables.runs.values()].filter((row) => !isArchived(row.runId));
    try {
      assertHeld();
      await cut();
      const fresh = await rewrite(recovery, old, kept, false);
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
    isLarge: () => segment !== undefined && segment.image.length > Math.max(compactAt, 2 * sizeAfterCompaction),
    async compact(alone, isWanted) {
      const old = await alone(ready);
      const rows = [...old.image.tables.runs.values()].filter((row) => row.endedAt !== undefined);
      const revisions = new Map(rows.map(({ runId }) => [runId, old.image.places.get(runId)?.revision]));
      await reading(disk, old, () => archive.write(storedRuns(disk, old, rows), isWanted));
      if (!isWanted()) return;
      await alone(async () => {
        if (segment === old && isWanted()) await dropArchived(old, revisions);
      });
    },
    close: letGo,
  };
}
