import { dirname } from 'node:path';
import { StepfastError } from '../../src/errors.js';
import type { RunRow } from '../../src/store/rows.js';
import { corrupt, corruptValue } from './damage.js';
import type { Disk } from './disk.js';
import { APPEND, openRegular, removeFile, syncFolder } from './files.js';
import { type Image, quarantine, segmentName } from './image.js';
import { locate, storedRuns } from './journals.js';
import type { Removal } from './record.js';
import {
  CORRUPT,
  dismiss,
  LOG,
  readSegment,
  retire,
  type Segment,
  segmentPath,
  segmentsIn,
  writeSnapshot,
} from './segments.js';

/*
 * What an owner does to the log before it writes to it, and when it goes over to a new segment.
 *
 * V1. A torn tail is cut off; nothing of it was acknowledged (scan.ts).
 * V2. Damage is reported, and what is sound goes into a new segment, read back before the damaged one is put aside.
 * V3. Whatever fails on the way leaves the segment before in use, with all its bytes.
 */

/** Bytes behind this length belong to nobody. */
export interface Cut {
  readonly path: string;
  readonly length: number;
}

export interface Recovery {
  readonly disk: Disk;
  readonly dir: string;
  readonly fence: number;
  /** The latest instant that the store was told. */
  readonly now: () => number;
  readonly onError: (error: unknown) => void;
}

export async function cutBack(disk: Disk, { path, length }: Cut): Promise<void> {
  const fd = await openRegular(disk, path, APPEND);
  if (fd === undefined) return;
  try {
    await disk.truncate(fd, length);
    await disk.sync(fd);
  } finally {
    await disk.close(fd);
  }
}

/** What of a segment goes into the next one, beside the rest that always does. */
export interface Kept {
  readonly rows: readonly RunRow[];
  readonly removals: readonly Removal[];
}

/** Begins the next segment with these runs, and goes over to it. */
export async function rewrite(
  { disk, dir, fence, now, onError }: Recovery,
  from: Segment,
  { rows, removals }: Kept,
  isDamaged: boolean,
): Promise<Segment> {
  const { image } = from;
  const next = image.segment + 1;
  const located = rows.map((row) => locate(from, row));
  const runs = storedRuns(disk, from, located);
  const snapshot = { segment: next, fence, now: now(), from: image, runs, count: rows.length, removals };
  await writeSnapshot(disk, dir, snapshot);
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
  await dismiss(disk, dir, image.segment, isDamaged).catch(onError); // a leftover; the next open removes it
  return fresh;
}

/** Damage of a run found while its journal is copied puts it aside, and the copy is tried again without it. */
export async function rewriteSound(recovery: Recovery, from: Segment): Promise<Segment> {
  for (;;)
    try {
      const { tables, removed } = from.image;
      return await rewrite(recovery, from, { rows: [...tables.runs.values()], removals: [...removed.values()] }, true);
    } catch (error) {
      const { code, runId, file, offset } = error as StepfastError;
      if (code !== 'STORE_CORRUPT' || runId === undefined) throw error;
      quarantine(from.image, { runId, file: file ?? from.image.file, offset: offset ?? 0 });
    }
}

function report({ quarantined, lostState, losses }: Image, onError: (error: unknown) => void): void {
  const hit = [...quarantined.values(), ...lostState.values()];
  const told = new Set(hit.map((damage) => `${damage.file}:${damage.offset}`));
  for (const damage of quarantined.values()) onError(corrupt(damage));
  for (const lost of lostState.values()) onError(corruptValue(lost));
  for (const damage of losses) if (!told.has(`${damage.file}:${damage.offset}`)) onError(corrupt(damage));
}

async function* none() {}

/**
 * The segment that counts, of these: the highest, if it follows the one below it. A leftover ends before its successor
 * begins; what does not go further than that was put there by somebody else, or is damaged through and through, and is
 * kept aside.
 */
async function chosen(
  { disk, dir, onError }: Recovery,
  segments: readonly number[],
  limitOf: (path: string) => number | undefined,
) {
  const read = (segment: number) => readSegment(disk, dir, segment, 'own', limitOf(segmentPath(dir, segment)));
  let found: Segment | undefined;
  for (const segment of [...segments].reverse()) {
    const below = await read(segment);
    if (!below) continue;
    if (found && found.image.n > below.image.n) {
      await retire(disk, below);
      break;
    }
    if (found) {
      onError(corrupt({ file: found.image.file, offset: 0 }));
      await retire(disk, found);
      await dismiss(disk, dir, found.image.segment, true);
    }
    found = below;
  }
  return found;
}

/**
 * Reads the log as its owner.
 *
 * @param cut Bytes of a refused group that may still be there.
 * @param cutOff Cuts off a torn tail; remembers it when that fails.
 */
export async function recover(
  recovery: Recovery,
  cut: Cut | undefined,
  cutOff: (torn: Cut) => Promise<void>,
): Promise<Segment> {
  const { disk, dir, fence, now, onError } = recovery;
  const segments = segmentsIn(dir);
  if (!segments.length) {
    // The folders themselves are names in a folder: what is written into them counts only once these are durable.
    for (const folder of [dirname(dir), dir]) await syncFolder(disk, folder);
    await writeSnapshot(disk, dir, { segment: 1, fence, now: now(), runs: none(), count: 0, removals: [] });
    segments.push(1);
  }
  let found = await chosen(recovery, segments, (path) => (cut?.path === path ? cut.length : undefined));
  if (!found)
    throw new StepfastError('STORE_UNAVAILABLE', `The log of "${dir}" was removed while the store was opened.`, {
      file: dir,
    });
  const { segment } = found.image;
  const { path } = found;
  try {
    if (found.end === 'torn') await cutOff({ path, length: found.image.length });
    report(found.image, onError);
    if (found.image.losses.length) {
      const damaged = found;
      found = await rewriteSound(recovery, damaged);
      await retire(disk, damaged);
    }
    const { quarantined, lostState } = found.image;
    const kept = new Set([...quarantined.values(), ...lostState.values()].map((damage) => damage.file));
    for (const leftover of segments.filter((each) => each < segment))
      await dismiss(disk, dir, leftover, kept.has(`${LOG}/${segmentName(leftover)}${CORRUPT}`));
    return found;
  } catch (error) {
    await retire(disk, found);
    throw error;
  }
}
