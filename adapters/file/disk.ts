import fs from 'node:fs';

/*
 * The few calls by which this store touches the disk, as a seam: tests count and fail them. Callbacks rather than
 * `fs/promises`, whose handles cost about a third of the speed of small appends.
 */

/**
 * What the store asks of a disk. Every call is on the thread pool, so a slow disk does not block the event loop; except a
 * small write, which only copies into the system's cache (measured: 2 µs, where a hop through the pool costs 28) and is made
 * durable by the `datasync` that follows.
 */
export interface Disk {
  open(path: string, flags: number): Promise<number>;
  close(fd: number): Promise<void>;
  /** Appends or writes at the present position; may write less than asked for. */
  write(fd: number, data: Buffer, offset: number, length: number): Promise<number>;
  read(fd: number, into: Buffer, offset: number, length: number, position: number): Promise<number>;
  sync(fd: number): Promise<void>;
  datasync(fd: number): Promise<void>;
  truncate(fd: number, length: number): Promise<void>;
  stat(fd: number): Promise<fs.Stats>;
  chmod(fd: number, mode: number): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  link(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
}

type Done<T> = (error: NodeJS.ErrnoException | null, value?: T) => void;

const call = <T>(start: (done: Done<T>) => void): Promise<T> =>
  new Promise((resolve, reject) => {
    start((error, value) => {
      if (error) reject(error);
      else resolve(value as T);
    });
  });

const SMALL_WRITE = 65_536;

export const FILE_MODE = 0o600;
export const FOLDER_MODE = 0o700;

/** The disk of this machine. */
export const nodeDisk: Disk = {
  open: (path, flags) => call<number>((done) => fs.open(path, flags, FILE_MODE, done)),
  close: (fd) => call<void>((done) => fs.close(fd, done)),
  write: async (fd, data, offset, length) =>
    length <= SMALL_WRITE
      ? fs.writeSync(fd, data, offset, length)
      : call<number>((done) => fs.write(fd, data, offset, length, null, done)),
  read: (fd, into, offset, length, position) =>
    call<number>((done) => fs.read(fd, into, offset, length, position, done)),
  sync: (fd) => call<void>((done) => fs.fsync(fd, done)),
  datasync: (fd) => call<void>((done) => fs.fdatasync(fd, done)),
  truncate: (fd, length) => call<void>((done) => fs.ftruncate(fd, length, done)),
  stat: (fd) => call<fs.Stats>((done) => fs.fstat(fd, done)),
  chmod: (fd, mode) => call<void>((done) => fs.fchmod(fd, mode, done)),
  rename: (from, to) => call<void>((done) => fs.rename(from, to, done)),
  link: (from, to) => call<void>((done) => fs.link(from, to, done)),
  unlink: (path) => call<void>((done) => fs.unlink(path, done)),
};
