import fs from 'node:fs';
import { dirname, join } from 'node:path';
import type { Disk } from './disk.js';
import { CREATE, codeOf, freshName, removeFile, syncFolder, writeAll } from './files.js';

/*
 * A file is replaced as a whole or not at all: written under a fresh name in the same folder, synced, renamed, and the
 * folder synced. A crash before the rename leaves the old file and a `.tmp` that the next open sweeps; after it, the new.
 */

export const TEMPORARY = '.tmp';
const RENAME_TRIES = 6;

/** Creates a file under a fresh temporary name and returns its path, its bytes on disk when `sync`. */
export async function writeTemporary(
  disk: Disk,
  folder: string,
  text: string | Buffer,
  sync: boolean,
): Promise<string> {
  const path = join(folder, freshName() + TEMPORARY);
  const fd = await disk.open(path, CREATE);
  try {
    await disk.chmod(fd, 0o600); // independent of the umask
    await writeAll(disk, fd, typeof text === 'string' ? Buffer.from(text) : text);
    if (sync) await disk.sync(fd);
    await disk.close(fd);
  } catch (error) {
    await disk.close(fd).catch(() => undefined); // the first error says more
    await removeFile(disk, path).catch(() => undefined);
    throw error;
  }
  return path;
}

/** Renames over what is there. Windows answers EPERM, EBUSY or EACCES while a scanner or reader has the file open. */
export async function renameOver(disk: Disk, from: string, to: string): Promise<void> {
  for (let tries = 1; ; tries++)
    try {
      return await disk.rename(from, to);
    } catch (error) {
      const passing = process.platform === 'win32' && ['EPERM', 'EBUSY', 'EACCES'].includes(codeOf(error) ?? '');
      if (!passing || tries >= RENAME_TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 10 * 2 ** tries));
    }
}

/**
 * Replaces a file. `durable: false` skips the syncs, for messages between living processes; `folder: false` leaves the
 * folder's sync to a caller who replaces many.
 */
export async function replaceFile(
  disk: Disk,
  path: string,
  text: string | Buffer,
  { durable = true, folder = durable }: { readonly durable?: boolean; readonly folder?: boolean } = {},
): Promise<void> {
  const temporary = await writeTemporary(disk, dirname(path), text, durable);
  try {
    await renameOver(disk, temporary, path);
  } catch (error) {
    await removeFile(disk, temporary).catch(() => undefined);
    throw error;
  }
  if (folder) await syncFolder(disk, dirname(path));
}

const SWEEP_AGE_MS = 60_000;

/** Whether nobody can be about to finish an unfinished file: a young one may be a living contender's. */
export function isOld(path: string, ageMs = SWEEP_AGE_MS): boolean {
  const found = fs.lstatSync(path, { throwIfNoEntry: false });
  return found !== undefined && Date.now() - found.mtimeMs > ageMs;
}

/** Removes a file that a dead process left, once it is old enough. */
export async function sweep(disk: Disk, path: string, ageMs?: number): Promise<void> {
  if (isOld(path, ageMs)) await removeFile(disk, path);
}
