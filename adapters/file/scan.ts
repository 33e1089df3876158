import { FORMAT_VERSION } from '../../src/store/journal.js';
import { type Damage, tooNew } from './damage.js';
import { accept, acceptDamaged, attribute, type Image, quarantine, settle } from './image.js';
import { findRecord, guessKeys, guessTouched, type Header, lineEnd, stateOf } from './record.js';
import { loseState } from './shared.js';

/*
 * Reading a segment, believing nothing.
 *
 * A bad stretch is *torn* only if it can be the unfinished write of the last group: it is cut off by the end of the
 * file, or has blocks of zeros that a file system leaves where data never arrived, and no later group follows (a later
 * group was written after the sync of this one). Nothing of a torn group was acknowledged, so it may be cut off.
 * Everything else is *damage*: its bytes stay, the runs it hit are put aside, the shared values are lost, and somebody is
 * told.
 */

const SECTOR = 512;

/** Whether the zeros in these last bytes lie as a lost write leaves them: in whole sectors, or up to the end. */
function hasLostSectors(bytes: Buffer, at: number, base: number): boolean {
  let found = false;
  for (let from = bytes.indexOf(0, at); from >= 0; ) {
    let to = from;
    while (to < bytes.length && bytes[to] === 0) to++;
    const startsWell = from === at || (base + from) % SECTOR === 0;
    const endsWell = to === bytes.length || (base + to) % SECTOR === 0;
    if (!startsWell || !endsWell) return false;
    found = true;
    from = bytes.indexOf(0, to);
  }
  return found;
}

/** The last header in these bytes that can be believed. */
function lastHeader(bytes: Buffer, from: number): Header | undefined {
  let last: Header | undefined;
  for (let at = from; at < bytes.length; ) {
    const found = findRecord(bytes, at);
    if (found.kind === 'record' || found.kind === 'damaged') last = found.header;
    at = found.kind === 'record' || found.kind === 'damaged' ? found.end : lineEnd(bytes, at);
  }
  return last;
}

/** Lines that have to agree on a newer version. */
const AGREEING = 8;

/**
 * The version of a log to come, whose own checksum rules may be other ones. Where lines have a `head` whose checksum does
 * not fit, one flipped bit must not pass for a new version: only several lines that all say the same do.
 */
export function newerVersion(bytes: Buffer): number | undefined {
  const versions = new Set<unknown>();
  let lines = 0;
  try {
    for (let at = 0; at < bytes.length && lines < AGREEING; at = lineEnd(bytes, at), lines++) {
      const line = JSON.parse(bytes.toString('utf8', at, lineEnd(bytes, at))) as { v?: unknown; head?: unknown };
      versions.add(line.v);
      if (lines === 0 && line.head === undefined) break;
    }
  } catch {
    if (lines < 2) return undefined; // not a line of any version: damage
  }
  const [version] = versions;
  const isKnown = versions.size !== 1 || typeof version !== 'number' || version <= FORMAT_VERSION || lines === 1;
  return isKnown ? undefined : version;
}

/** Where garbage at `at` ends: with its line, or where zeros end before a sound record. */
function garbageEnd(bytes: Buffer, at: number): number {
  let to = at;
  while (bytes[to] === 0) to++;
  // Zeros are no part of a value: what follows them can only be a record of this log.
  return to > at && findRecord(bytes, to).kind === 'record' ? to : lineEnd(bytes, at);
}

export type ScanEnd = 'done' | 'torn' | 'rewritten';

/**
 * Reads on from `image.length`; `bytes` are what the file holds from there.
 *
 * @returns `torn` when unfinished bytes follow; `rewritten` when the file is not the one that was read before.
 */
export function scan(image: Image, bytes: Buffer, mode: 'own' | 'follow'): ScanEnd {
  const base = image.length;
  const first = base === 0;
  if (first && findRecord(bytes, 0).kind === 'garbage') {
    const version = newerVersion(bytes);
    if (version !== undefined) throw tooNew(image.file, version);
  }
  let last: Header | undefined;
  let lastFrom = -1;
  let damage: Damage | undefined;
  let end: ScanEnd = 'done';
  for (let at = 0; at < bytes.length; ) {
    const found = findRecord(bytes, at);
    const here: Damage = { file: image.file, offset: base + at };
    if (found.kind === 'too-new') throw tooNew(image.file, found.version);
    if (found.kind === 'record') {
      const { header, head } = found;
      const isFirst = image.length === 0 && !damage;
      if (!isFirst && (header.n <= image.n || header.f < image.fence)) {
        // Doubled, moved, or written by an owner of the past: nothing of it counts.
        if (mode === 'follow') return 'rewritten';
        damage = here;
        image.losses.push(here);
      } else {
        if (!isFirst && !damage && header.n === image.n + 1 && header.prev !== image.head) {
          if (mode === 'follow') return 'rewritten';
          damage = here;
          image.losses.push(here);
          for (const [runId] of header.runs) quarantine(image, { ...here, runId });
        }
        const state = stateOf(bytes, found);
        if (!isFirst && !damage && header.n > image.n + 1) image.losses.push(here);
        if (isFirst && !state.snapshot) {
          // What a segment begins with is gone, and perhaps more: at least the record before this one.
          image.losses.push(here);
          if (header.n > 1) image.missing.set(header.n - 1, here);
        }
        attribute(image, header, damage ?? here);
        accept(image, header, head, state, base + at, base + found.end);
        damage = undefined;
      }
      at = found.end;
      continue;
    }
    const to = found.kind === 'damaged' ? found.end : found.kind === 'cut' ? bytes.length : garbageEnd(bytes, at);
    if (lastFrom < 0) last = lastHeader(bytes, (lastFrom = to));
    const n = 'header' in found ? found.header.n : image.n + 1;
    const follows = last !== undefined && last.n > image.n;
    // A snapshot was whole before it got its name: what is missing of it was there once.
    const isSnapshot = mode === 'own' && (image.snapshotEnd === 0 || n <= image.snapshotEnd);
    // Right behind damage, what looks torn may be more of it: its bytes stay as well.
    const isSuspect = damage !== undefined && mode === 'own';
    if (!isSnapshot && !isSuspect && !(follows && last!.g > n)) {
      const isCut = found.kind === 'cut' || (found.kind === 'garbage' && bytes.at(-1) !== 10 && to === bytes.length);
      if (isCut || hasLostSectors(bytes, at, base) || (mode === 'follow' && !follows)) {
        end = 'torn';
        break;
      }
    }
    damage = here;
    image.losses.push(here);
    for (const [runId, key] of guessKeys(bytes.subarray(at, to))) image.keyHints.set(runId, key);
    if (found.kind === 'damaged') {
      attribute(image, found.header, here);
      acceptDamaged(image, found.header, found.head, here, base + to);
    } else if (!follows) {
      const touched = guessTouched(bytes.subarray(at, to));
      image.n++;
      for (const runId of touched?.runs ?? []) quarantine(image, { ...here, runId });
      for (const mark of touched?.marks ?? []) loseState(image, mark, here, image.n);
      if (!touched) image.missing.set(image.n, here);
    }
    image.length = base + to;
    at = to;
  }
  settle(image);
  image.tables.index();
  if (mode === 'follow') image.decided.clear(); // only an owner decides
  return end;
}
