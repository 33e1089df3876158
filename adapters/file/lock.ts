import fs from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { StepfastError } from '../../src/errors.js';
import { isOld, replaceFile, sweep, TEMPORARY, writeTemporary } from './atomic-write.js';
import type { Disk } from './disk.js';
import {
  CREATE,
  codeOf,
  exists,
  freshName,
  isFull,
  namesIn,
  readRegular,
  removeFile,
  syncFolder,
  writeAll,
} from './files.js';

/*
 * Who drives the folder: generation files `lock/<n>.json`, the highest n owns, and n is the fence of its records.
 *
 * L1. To own is to have created the file n+1 (by `link`, which fails if the name is there) after finding the owner n
 *     released or provably dead. A contender paused between look and link finds its name taken, or, if the winner of
 *     n+1 has gone on to n+2 and removed it, finds a higher one when it looks again after its link: it then withdraws.
 * L2. Nobody removes or renames the highest file. Only a winner removes lower ones. Where something else has, the token in
 *     the file tells its owner, who writes nothing more, and leaves the file to whoever it belongs to.
 * L3. Provably dead: same host and process namespace, and another boot, or no such process, or another start time of
 *     that pid. Silence or age proves nothing: a process may be stopped for a day and go on.
 * L4. An old file without bytes is nobody's: a loss of power took them. A young one may be (where there are no links) of one
 *     who has yet to write them; was he stopped for so long there, he withdraws when he finds a higher one.
 */

export interface Holder {
  readonly v: 1;
  readonly token: string;
  readonly pid: number;
  readonly host: string;
  /** Clock ticks after boot at which the process began (Linux): tells a pid that was given out again. */
  readonly startTime?: string;
  readonly bootId?: string;
  /** The process namespace (Linux): a pid of another container says nothing here. */
  readonly namespace?: string;
  /** `leaving`: an owner dropped by a test still has a write under way. `passing`: held for the length of one commit. */
  readonly state: 'held' | 'leaving' | 'passing' | 'released';
}

const STATES: readonly unknown[] = ['held', 'leaving', 'passing', 'released'] satisfies Holder['state'][];

export interface Lock {
  /** Grows with each owner of the folder. */
  readonly fence: number;
  /** Whether this is still the highest generation, and ours; two looks at names, cheap enough for every group commit. */
  isHeld(): boolean;
  release(): Promise<void>;
  /** Marks the lock at once, without waiting for the disk. */
  drop(state: 'leaving' | 'released'): void;
}

export type Acquired =
  | { readonly kind: 'acquired'; readonly lock: Lock }
  | { readonly kind: 'held'; readonly holder: Holder };

const textOf = (path: string): string | undefined => {
  try {
    return fs.readFileSync(path, 'utf8');
  } catch {
    return undefined; // not Linux, or no such process: the caller knows which of the two it asks about
  }
};

/** Field 22 of /proc/<pid>/stat; the name in field 2 may hold blanks and brackets, so count from its end. */
const fieldsOf = (pid: number): readonly string[] => {
  const stat = textOf(`/proc/${pid}/stat`) ?? '';
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
};
const startTimeOf = (pid: number): string | undefined => fieldsOf(pid)[19];

function namespaceOf(): string | undefined {
  try {
    return fs.readlinkSync('/proc/self/ns/pid');
  } catch {
    return undefined; // not Linux
  }
}

/** What tells this process from all others: asked for once, for it stays as long as the process. */
let own: Pick<Holder, 'startTime' | 'bootId' | 'namespace'> | undefined;

function describeSelf(state: Holder['state'] = 'held'): Holder {
  if (!own) {
    const startTime = startTimeOf(process.pid);
    const bootId = textOf('/proc/sys/kernel/random/boot_id')?.trim();
    const namespace = namespaceOf();
    own = {
      ...(startTime !== undefined && { startTime }),
      ...(bootId !== undefined && { bootId }),
      ...(namespace !== undefined && { namespace }),
    };
  }
  return { v: 1, token: freshName(), pid: process.pid, host: hostname(), state, ...own };
}

/** Whether the holder can no longer act. Anything short of proof is `false`. */
export function isGone(holder: Holder, self: Holder = describeSelf()): boolean {
  if (holder.state === 'released') return true;
  // The same boot is the same machine, whatever it is called by now; without it only the name tells.
  const isSameBoot = holder.bootId !== undefined && holder.bootId === self.bootId;
  if (!isSameBoot && holder.host !== self.host) return false;
  if (!isSameBoot && holder.bootId !== undefined && self.bootId !== undefined) return true;
  if (holder.namespace !== self.namespace) return false;
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    return codeOf(error) === 'ESRCH'; // EPERM: it lives, under another user
  }
  if (/^[ZX]$/.test(fieldsOf(holder.pid)[0]!)) return true; // killed, and its parent has not asked for its end yet
  if (holder.startTime === undefined) return false;
  const startTime = startTimeOf(holder.pid);
  return startTime !== undefined && startTime !== holder.startTime;
}

/** Names of generations have at most 15 digits. */
const MAX_GENERATION = 999_999_999_999_999;

const generationsIn = (folder: string): number[] =>
  namesIn(folder, '.json')
    .map((name) => (/^\d{1,15}\.json$/.test(name) ? Number.parseInt(name, 10) : 0))
    .filter((n) => n > 0)
    .sort((a, b) => a - b);

const fileOf = (folder: string, n: number): string => join(folder, `${n}.json`);

const unreadable = (file: string, cause?: unknown): StepfastError =>
  new StepfastError(
    'STORE_LOCKED',
    `The lock "${file}" can not be read, so nobody can tell whether its owner lives. Make sure that no other process uses the folder, then remove that file.`,
    { file },
    { cause },
  );

const NOBODY: Holder = { v: 1, token: '', pid: 0, host: '', state: 'released' };

/** The present generation and its holder; `undefined` when nobody ever owned the folder. */
export async function readHolder(disk: Disk, folder: string): Promise<{ n: number; holder: Holder } | undefined> {
  for (;;) {
    const n = generationsIn(folder).at(-1);
    if (n === undefined) return undefined;
    if (n >= MAX_GENERATION) throw unreadable(fileOf(folder, n)); // planted: nobody comes after it
    const text = await readRegular(disk, fileOf(folder, n));
    if (text === undefined) continue; // a winner has just removed it: there is a higher one
    if (text.every((byte) => byte === 0) && isOld(fileOf(folder, n))) return { n, holder: NOBODY }; // L4
    try {
      const holder = JSON.parse(text.toString('utf8')) as Holder;
      const { pid, token, host, state } = holder;
      const isKnown = STATES.includes(state) && typeof token === 'string' && typeof host === 'string';
      if (isKnown && Number.isSafeInteger(pid) && pid > 0) return { n, holder };
    } catch (error) {
      throw unreadable(fileOf(folder, n), error);
    }
    throw unreadable(fileOf(folder, n));
  }
}

/** Whether somebody lives who may drive the folder. */
export async function livingHolder(disk: Disk, folder: string): Promise<Holder | undefined> {
  const found = await readHolder(disk, folder);
  return found && !isGone(found.holder) ? found.holder : undefined;
}

/** Creates a file that is complete from its first moment; false: the name is taken, or it has to be tried again. */
async function createWhole(disk: Disk, folder: string, path: string, text: string): Promise<boolean> {
  const temporary = await writeTemporary(disk, folder, text, true);
  try {
    await disk.link(temporary, path);
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    if (codeOf(error) === 'ENOENT') return false; // stopped for so long here that a winner has swept the temporary file
    if (!['EPERM', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP', 'EMLINK'].includes(codeOf(error) ?? '')) throw error;
    return await createExclusively(disk, path, text); // no links on this file system (FAT, some network ones)
  } finally {
    await removeFile(disk, temporary).catch(() => undefined); // what came of the link counts; the next winner sweeps
  }
  return true;
}

async function createExclusively(disk: Disk, path: string, text: string): Promise<boolean> {
  let fd: number;
  try {
    fd = await disk.open(path, CREATE);
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw error;
  }
  try {
    await writeAll(disk, fd, Buffer.from(text));
    await disk.sync(fd);
  } finally {
    await disk.close(fd);
  }
  return true;
}

/**
 * Takes the lock if nobody living holds it.
 *
 * @param options.state What it is taken for.
 * @param options.beforeLink Test hook: a contender is paused here, between its look and its link.
 */
export async function acquire(
  disk: Disk,
  folder: string,
  { state, beforeLink }: { readonly state?: 'held' | 'passing'; readonly beforeLink?: () => Promise<void> } = {},
): Promise<Acquired> {
  const self = describeSelf(state);
  for (let looks = 0; ; ) {
    const found = await readHolder(disk, folder);
    const isBrief = found?.holder.state === 'leaving' || (found?.holder.state === 'passing' && ++looks < MOST_LOOKS);
    if (isBrief && !isGone(found!.holder, self)) {
      await new Promise((resolve) => setTimeout(resolve, LEAVING_LOOK_MS));
      continue;
    }
    if (found && !isGone(found.holder, self)) return { kind: 'held', holder: found.holder };
    const fence = (found?.n ?? 0) + 1;
    const path = fileOf(folder, fence);
    await beforeLink?.();
    if (!(await createWhole(disk, folder, path, JSON.stringify(self)))) continue;
    const lock = holding(disk, folder, fence, self);
    try {
      await syncFolder(disk, folder);
      const generations = generationsIn(folder);
      if (generations.at(-1) !== fence) {
        await removeFile(disk, path); // late: owners after this generation have come, and removed the one before me
        continue;
      }
      for (const n of generations) if (n < fence) await removeFile(disk, fileOf(folder, n));
      for (const name of namesIn(folder, TEMPORARY)) await sweep(disk, join(folder, name));
    } catch (error) {
      lock.drop('released'); // else this process, which lives, would hold it and not know
      throw error;
    }
    return { kind: 'acquired', lock };
  }
}

/** How often to look whether the last write of a dropped owner has ended: a matter of milliseconds. */
const LEAVING_LOOK_MS = 5;
/** One that holds it for a single commit, and was stopped in the middle, is waited for no longer than so many looks. */
const MOST_LOOKS = 400;

function holding(disk: Disk, folder: string, fence: number, self: Holder): Lock {
  const path = fileOf(folder, fence);
  /** Of the file as it was found last to be ours. */
  let inode: number | undefined;
  /** The name alone does not tell: a folder that was removed or moved, and made anew, counts from 1 again. */
  const isMine = () => {
    const found = fs.lstatSync(path, { throwIfNoEntry: false });
    if (!found) return false;
    // Another file, since it was marked; or by the whim of a file system that numbers its files anew.
    if (found.ino !== inode && textOf(path)?.includes(self.token)) inode = found.ino;
    return found.ino === inode;
  };
  const isHeld = () => isMine() && !exists(fileOf(folder, fence + 1));
  const marked = (as: Holder['state']) => JSON.stringify({ ...self, state: as });
  /** A full disk still takes what fits where something is: here a word that is longer by a few letters (spec D5). */
  const writeOver = (as: Holder['state']) => {
    if (isHeld()) fs.writeFileSync(path, marked(as), { flag: 'r+' });
  };
  return {
    fence,
    isHeld,
    async release() {
      if (!isHeld()) return;
      await replaceFile(disk, path, marked('released')).catch((error: unknown) => {
        if (!isFull(error)) throw error;
        writeOver('released');
      });
    },
    drop(state) {
      const temporary = join(folder, freshName() + TEMPORARY);
      if (!isHeld()) return;
      try {
        fs.writeFileSync(temporary, marked(state), { mode: 0o600, flag: 'wx' });
        fs.renameSync(temporary, path);
      } catch (error) {
        fs.rmSync(temporary, { force: true });
        if (!isFull(error)) throw error;
        writeOver(state);
      }
    },
  };
}
