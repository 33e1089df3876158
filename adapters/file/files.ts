import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { crc32 } from 'node:zlib';
import { StepfastError } from '../../src/errors.js';
import { type Disk, FOLDER_MODE } from './disk.js';

/*
 * Files and folders, carefully. Names are hashes or numbers that this store makes: text of users never becomes a path
 * (spec B). Links, pipes and devices in the place of a file are refused, so that nothing outside the folder is touched.
 * Untested on Windows: there `O_NOFOLLOW` is absent (`lstat` alone guards) and modes mean little.
 */

const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_APPEND } = fs.constants;
// Opening a pipe would wait for its other end for ever; NONBLOCK makes it return, and the check after refuses it.
const SAFELY = (fs.constants.O_NOFOLLOW ?? 0) | (fs.constants.O_NONBLOCK ?? 0);

export const READ = O_RDONLY | SAFELY;
export const CREATE = O_WRONLY | O_CREAT | O_EXCL | SAFELY;
export const APPEND = O_RDWR | O_APPEND | SAFELY;
export const APPEND_OR_CREATE = APPEND | O_CREAT;

export const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException | undefined)?.code;

/** A name that is safe on every file system and the same for the same text only. */
export const hashName = (text: string): string => {
  const bytes = Buffer.from(text);
  // Halves of surrogate pairs are all alike in UTF-8.
  if (bytes.toString() !== text) return `${createHash('sha256').update(text, 'utf16le').digest('hex')}u`;
  return createHash('sha256').update(bytes).digest('hex');
};

/** The checksum of a value as it is written. */
export const sumOf = (value: unknown): string => crc32(JSON.stringify(value)).toString(16).padStart(8, '0');

/** A name that nobody can guess or plant beforehand. */
export const freshName = (): string => randomBytes(12).toString('hex');

/** Whether a call of the disk failed for want of space. */
export const isFull = (error: unknown): boolean => /^(ENOSPC|EDQUOT|EFBIG)$/.test(codeOf(error) ?? '');

/** What a failed call of the disk means to a caller. A typed error passes through. */
export function storeError(error: unknown, doing: string, file: string): StepfastError {
  if (error instanceof StepfastError) return error;
  const code = codeOf(error);
  const options = { cause: error };
  if (isFull(error))
    return new StepfastError(
      'QUOTA_EXCEEDED',
      `The disk is full (${code} while ${doing} "${file}"). Nothing of this commit was kept; free some space and try again.`,
      { file },
      options,
    );
  return new StepfastError(
    'STORE_UNAVAILABLE',
    `The store could not go on (${code ?? 'error'} while ${doing} "${file}"). What was acknowledged is kept; try again when the disk works.`,
    { file },
    options,
  );
}

const refuse = (path: string, what: string): never => {
  throw new StepfastError(
    'STORE_UNAVAILABLE',
    `"${path}" is ${what}, not a plain file of this store. Move it away; the store does not follow links.`,
    { file: path },
  );
};

/** Creates a folder, whatever the umask, or checks that what is there is one. */
export function ensureFolder(path: string): void {
  const found = fs.lstatSync(path, { throwIfNoEntry: false });
  if (found?.isDirectory()) return;
  if (found) refuse(path, 'not a folder');
  try {
    fs.mkdirSync(path, { mode: FOLDER_MODE });
    fs.chmodSync(path, FOLDER_MODE);
  } catch (error) {
    if (codeOf(error) !== 'EEXIST' || !fs.lstatSync(path).isDirectory()) throw error;
  }
}

/** Opens a regular file and nothing else. `undefined` when there is none. */
export async function openRegular(disk: Disk, path: string, flags: number): Promise<number | undefined> {
  const before = fs.lstatSync(path, { throwIfNoEntry: false });
  if (!before && !(flags & O_CREAT)) return undefined;
  if (before && !before.isFile()) refuse(path, before.isSymbolicLink() ? 'a link' : 'not a regular file');
  let fd: number;
  try {
    fd = await disk.open(path, flags);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    if (codeOf(error) === 'ELOOP') return refuse(path, 'a link');
    throw error;
  }
  if (!(await disk.stat(fd)).isFile()) {
    await disk.close(fd);
    return refuse(path, 'not a regular file');
  }
  return fd;
}

/** Reads `length` bytes at `position`; less only where the file ends. */
export async function readAt(disk: Disk, fd: number, position: number, length: number): Promise<Buffer> {
  const into = Buffer.allocUnsafe(length);
  let done = 0;
  while (done < length) {
    const count = await disk.read(fd, into, done, length - done, position + done);
    if (count === 0) break;
    done += count;
  }
  return into.subarray(0, done);
}

/** The whole of a regular file, or `undefined` when there is none. */
export async function readRegular(disk: Disk, path: string): Promise<Buffer | undefined> {
  const fd = await openRegular(disk, path, READ);
  if (fd === undefined) return undefined;
  try {
    return await readAt(disk, fd, 0, (await disk.stat(fd)).size);
  } finally {
    await disk.close(fd);
  }
}

/** Writes all bytes: a single call may write fewer than it was given (seen on full disks and signals). */
export async function writeAll(disk: Disk, fd: number, data: Buffer): Promise<void> {
  let done = 0;
  while (done < data.length) done += await disk.write(fd, data, done, data.length - done);
}

/** Makes what is in a file durable. */
export async function syncFile(disk: Disk, path: string): Promise<void> {
  const fd = await openRegular(disk, path, APPEND);
  if (fd === undefined) return;
  try {
    await disk.sync(fd);
  } finally {
    await disk.close(fd);
  }
}

/** Makes creations, renames and removals in a folder durable, where the platform can. */
export async function syncFolder(disk: Disk, path: string): Promise<void> {
  let fd: number | undefined;
  try {
    fd = await disk.open(path, O_RDONLY);
    await disk.sync(fd);
  } catch (error) {
    // Windows has no such call: it answers with one of these, and its file system journals names itself.
    if (!['EPERM', 'EISDIR', 'EACCES', 'EINVAL'].includes(codeOf(error) ?? '')) throw error;
  } finally {
    if (fd !== undefined) await disk.close(fd);
  }
}

/** Names in a folder that end so; none when the folder is not there. */
export function namesIn(path: string, ending: string): string[] {
  try {
    return fs.readdirSync(path).filter((name) => name.endsWith(ending));
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return [];
    throw error;
  }
}

/** Removes a file that may be gone already. */
export async function removeFile(disk: Disk, path: string): Promise<void> {
  try {
    await disk.unlink(path);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
  }
}

/** Something is there that is no file of a store. */
export const isForeign = (path: string): boolean => fs.lstatSync(path, { throwIfNoEntry: false })?.isFile() === false;
export const exists = (path: string): boolean =>
  // Asked for every commit: what is there is found by the first, at a fifth of the price; a link to nothing by the second.
  fs.existsSync(path) || fs.lstatSync(path, { throwIfNoEntry: false }) !== undefined;
