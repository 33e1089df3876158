import fs from 'node:fs';
import { StepfastError } from '../../src/errors.js';
import type { JournalEntry } from '../../src/journal.js';
import type { Batch, CommitOutcome, RunRow, StoredRun } from '../../src/store.js';
import { type Reads, transition, type Writes } from '../../src/transition.js';
import type { Archive } from './archive.js';
import { corrupt } from './damage.js';
import type { Disk } from './disk.js';
import { APPEND, openRegular, removeFile, storeError, writeAll } from './files.js';
import { assertSound, type Image, keyText, quarantine, segmentName, stage } from './image.js';
import type { Lock } from './lock.js';
import { readJournal } from './scan.js';
import {
  CORRUPT,
  dismiss,
  LOG,
  reading,
  readSegment,
  retire,
  type Segment,
  segmentPath,
  segmentsIn,
  writeSnapshot,
} from './segments.js';

/*
 * The one who holds the lock and writes.
 *
 * W1. A group of batches is decided in order, written in one go, synced once, and only then answered.
 * W2. Memory runs ahead of the disk only inside `flush`, and nobody reads meanwhile (the store's turn). If the write or
 *     the sync fails, the file is cut back to where the group began, memory is built again from it, and all are refused.
 * W3. The lock is looked at before each write: a second line behind its proof of death.
 */

export interface Waiting {
  readonly batch: Batch;
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

// One call that returns when the bytes are on disk: measured 1.4 times faster than write and fdatasync, one commit at a
// time. Elsewhere the flag is absent or does not reach the medium (macOS), and `datasync` does it.
const SYNCED = process.platform === 'linux' ? fs.constants.O_DSYNC : 0;

export function createOwner(options: OwnerOptions): Owner {
  const { disk, dir, lock, archive, isStrict, compactAt, onError } = options;
  let segment: Segment | undefined;
  let appendFd: number | undefined;
  /** The file may hold bytes of a refused group behind this length. */
  let cutTo: { readonly path: string; readonly length: number } | undefined;
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
    if (!cutTo) return;
    const fd = await openRegular(disk, cutTo.path, APPEND);
    if (fd !== undefined)
      try {
        await disk.truncate(fd, cutTo.length);
        await disk.sync(fd);
      } finally {
        await disk.close(fd);
      }
    cutTo = undefined;
  };

  async function* storedRuns(from: Segment, rows: readonly RunRow[]): AsyncGenerator<StoredRun> {
    for (const row of rows) {
      const { runId } = row;
      const ranges = from.image.places.get(runId)?.ranges ?? [];
      yield { row, journal: await readJournal(disk, from.fd, from.image.file, runId, ranges) };
    }
  }

  /** Begins the next segment with these runs, and goes over to it. */
  const rewrite = async (from: Segment, rows: readonly RunRow[], isDamaged: boolean): Promise<Segment> => {
    const next = from.image.segment + 1;
    const runs = storedRuns(from, rows);
    await writeSnapshot(disk, dir, { segment: next, fence: lock.fence, from: from.image, runs, count: rows.length });
    const fresh = await readSegment(disk, dir, next, 'own');
    if (!fresh || fresh.image.losses.length || fresh.end !== 'done') {
      // What was just written does not read back: the old one stays, and its bytes are all there.
      if (fresh) await retire(disk, fresh);
      await removeFile(disk, segmentPath(dir, next));
      throw new StepfastError(
        'STORE_UNAVAILABLE',
        `"${segmentName(next)}" did not read back as it was written; the log before it stays in use.`,
      );
    }
    await dismiss(disk, dir, from.image.segment, isDamaged).catch(onError); // a leftover; the next open removes it
    return fresh;
  };

  /** Damage of a run found while its journal is copied puts it aside, and the copy is tried again without it. */
  const rewriteSound = async (from: Segment): Promise<Segment> => {
    for (;;)
      try {
        return await rewrite(from, [...from.image.tables.runs.values()], true);
      } catch (error) {
        const { code, runId, file, offset } = error as StepfastError;
        if (code !== 'STORE_CORRUPT' || runId === undefined) throw error;
        quarantine(from.image, { runId, file: file ?? from.image.file, offset: offset ?? 0 });
      }
  };

  const report = (image: Image) => {
    const told = new Set([...image.quarantined.values()].map((damage) => `${damage.file}:${damage.offset}`));
    for (const damage of image.quarantined.values()) onError(corrupt(damage));
    for (const damage of image.losses) if (!told.has(`${damage.file}:${damage.offset}`)) onError(corrupt(damage));
  };

  const recover = async (): Promise<Segment> => {
    assertHeld();
    const segments = segmentsIn(dir);
    const highest = segments.at(-1);
    const path = segmentPath(dir, highest ?? 1);
    if (highest === undefined)
      await writeSnapshot(disk, dir, {
        segment: 1,
        fence: lock.fence,
        runs: storedRuns(undefined as never, []),
        count: 0,
      });
    const limit = cutTo?.path === path ? cutTo.length : undefined;
    let found = await readSegment(disk, dir, highest ?? 1, 'own', limit);
    if (!found)
      throw new StepfastError('STORE_UNAVAILABLE', `"${path}" was removed while the store was opened.`, { file: path });
    try {
      if (found.end === 'torn') {
        cutTo = { path, length: found.image.length };
        await cut();
      }
      report(found.image);
      if (found.image.losses.length) {
        const damaged = found;
        found = await rewriteSound(damaged);
        await retire(disk, damaged);
      }
      const kept = new Set([...found.image.quarantined.values()].map((damage) => damage.file));
      for (const leftover of segments.slice(0, -1))
        await dismiss(disk, dir, leftover, kept.has(`${LOG}/${segmentName(leftover)}${CORRUPT}`));
      return found;
    } catch (error) {
      await retire(disk, found);
      throw error;
    }
  };

  const ready = async (): Promise<Segment> => (segment ??= await recover());

  const write = async (at: Segment, text: string, start: number) => {
    await cut();
    if (appendFd === undefined) appendFd = await openRegular(disk, at.path, APPEND | (isStrict ? SYNCED : 0));
    if (appendFd === undefined)
      throw new StepfastError('STORE_UNAVAILABLE', `"${at.path}" is gone. Close the store and look at its folder.`, {
        file: at.path,
      });
    cutTo = { path: at.path, length: start };
    await writeAll(disk, appendFd, Buffer.from(text));
    if (isStrict && !SYNCED) await disk.datasync(appendFd);
    cutTo = undefined;
  };

  const readsOf = (image: Image, adopted: Map<string, readonly JournalEntry[]>): Reads => {
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
  };

  /** A run that comes back from the archive brings its journal along: from here on the log alone tells of it. */
  const adopt = (writes: Writes, image: Image, adopted: ReadonlyMap<string, readonly JournalEntry[]>) => {
    for (const [runId, { row, append }] of writes.runs) {
      const before = image.tables.run(runId) ? undefined : adopted.get(runId);
      if (before) writes.runs.set(runId, { row, append: [...before, ...append] });
    }
  };

  return {
    segment: ready,
    async flush(group) {
      let at: Segment;
      try {
        at = await ready();
        assertHeld();
      } catch (error) {
        for (const { reject } of group) reject(storeError(error, 'opening', dir));
        return new Map();
      }
      const { image } = at;
      const start = image.length;
      const first = image.n + 1;
      const answers: (() => void)[] = [];
      const refusals: Waiting['reject'][] = [];
      const changed = new Map<string, boolean>();
      let text = '';
      for (const { batch, isForeign, resolve, reject } of group)
        try {
          const adopted = new Map<string, readonly JournalEntry[]>();
          const { outcome, writes } = await transition(readsOf(image, adopted), batch);
          if (outcome.kind === 'committed' && (writes.runs.size || writes.events.size || writes.drops.size)) {
            adopt(writes, image, adopted);
            text += stage(image, writes, lock.fence, isStrict ? first : image.snapshotEnd + 1);
            for (const runId of writes.runs.keys()) changed.set(runId, !isForeign && changed.get(runId) !== false);
          }
          answers.push(() => resolve(outcome));
          refusals.push(reject);
        } catch (error) {
          reject(encodingError(error, dir));
        }
      try {
        if (text) await write(at, text, start);
      } catch (error) {
        const refusal = storeError(error, 'writing', image.file.replace(CORRUPT, ''));
        await letGo().catch(onError);
        await cut().catch(onError); // tried again before the next write
        for (const reject of refusals) reject(refusal);
        return new Map();
      }
      for (const answer of answers) answer();
      return changed;
    },
    isLarge: () => segment !== undefined && segment.image.length > Math.max(compactAt, 2 * sizeAfterCompaction),
    async compact(alone, isWanted) {
      const old = await alone(ready);
      const rows = [...old.image.tables.runs.values()].filter((row) => row.endedAt !== undefined);
      const revisions = new Map(rows.map(({ runId }) => [runId, old.image.places.get(runId)?.revision]));
      await reading(disk, old, () => archive.write(storedRuns(old, rows), isWanted));
      if (!isWanted()) return;
      await alone(async () => {
        if (segment !== old || !isWanted()) return;
        const { tables, places } = old.image;
        // A run that changed since it was archived stays in the log.
        const isArchived = (runId: string) =>
          revisions.has(runId) && revisions.get(runId) === places.get(runId)?.revision;
        const kept = [...tables.runs.values()].filter((row) => !isArchived(row.runId));
        try {
          assertHeld();
          await cut();
          const fresh = await rewrite(old, kept, false);
          await letGo();
          segment = fresh;
          sizeAfterCompaction = fresh.image.length;
        } catch (error) {
          // The new segment may stand under its name already, and the highest counts: look again before writing.
          await letGo().catch(onError);
          sizeAfterCompaction = old.image.length; // not again at each commit of a full disk
          throw error;
        }
      });
    },
    close: letGo,
  };
}

/** A value that can not be encoded is the batch's own fault; everything else is the store's. */
export function encodingError(error: unknown, dir: string): unknown {
  if (error instanceof RangeError || error instanceof TypeError)
    return new StepfastError(
      'NOT_SERIALIZABLE',
      'A value of this commit can not be written as JSON (nested too deep?). Nothing of it was kept.',
      {},
      { cause: error },
    );
  return storeError(error, 'reading', dir);
}
