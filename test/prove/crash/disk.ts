import fs from 'node:fs';
import { join } from 'node:path';
import { type Disk, FILE_MODE, FOLDER_MODE } from '../../../adapters/file/disk.js';
import type { Action, Injector, Keep } from './faults.js';
import type { Life } from './media.js';

/*
 * A disk that can lose power. Files are real; what would be on the platter is kept beside them:
 *
 * K1. The bytes of a file count as durable as they were at its last sync.
 * K2. A name (created, renamed, linked, removed) counts as durable only by a sync of its folder; so does a folder's own.
 * K3. Calls that go past the seam (looks at names, making of folders) change nothing that K1 and K2 know of.
 */

const { O_CREAT } = fs.constants;

/** What is left of a folder: bytes of files, folders within. */
export type Image = Map<string, Buffer | Image>;

export interface SimulatedDisk {
  readonly root: string;
  /** Bytes that are durable, by the number of the file. */
  readonly bytes: Map<number, Buffer>;
  /** Names that are durable, by the path of the folder. */
  readonly names: Map<string, ReadonlyMap<string, number>>;
  use(injector: Injector, life: Life, gone: () => Error): Disk;
}

const broken = (code: 'broken' | 'full') =>
  Object.assign(new Error(`simulated ${code}`), { code: code === 'full' ? 'ENOSPC' : 'EIO' });

/** Others may be at work beside the store: what is gone before it is looked at has no name. */
const namesOf = (path: string): Map<string, number> => {
  const found = (name: string) => fs.lstatSync(join(path, name), { throwIfNoEntry: false });
  return new Map(
    fs.readdirSync(path).flatMap((name) => {
      const stat = found(name);
      return stat ? [[name, stat.ino] as const] : [];
    }),
  );
};

/** Everything that is there at the beginning counts as durable. */
function learn(path: string, { bytes, names }: Pick<SimulatedDisk, 'bytes' | 'names'>): void {
  names.set(path, namesOf(path));
  for (const entry of fs.readdirSync(path, { withFileTypes: true })) {
    const within = join(path, entry.name);
    if (entry.isDirectory()) learn(within, { bytes, names });
    else bytes.set(fs.lstatSync(within).ino, fs.readFileSync(within));
  }
}

export function createSimulatedDisk(root: string): SimulatedDisk {
  const bytes = new Map<number, Buffer>();
  const names = new Map<string, ReadonlyMap<string, number>>();
  learn(root, { bytes, names });

  const use: SimulatedDisk['use'] = (injector, life, gone) => {
    const paths = new Map<number, string>();
    const isFolder = (fd: number) => fs.statSync(paths.get(fd)!, { throwIfNoEntry: false })?.isDirectory() ?? false;
    /** Asks for a fault, and does it; an answer is left to the caller. */
    const meet = (operation: string): Action | undefined => {
      if (life.isOver) throw gone();
      const action = injector.meet(operation);
      if (action?.kind === 'fail') throw broken(action.code);
      if (action?.kind === 'die' && action.keep !== 'torn') life.die(action.keep);
      return action;
    };
    const through = async <T>(operation: string, call: () => T): Promise<T> => {
      meet(operation);
      return call();
    };
    const synced = (fd: number) => {
      const path = paths.get(fd)!;
      if (isFolder(fd)) {
        names.set(path, namesOf(path));
        return;
      }
      bytes.set(fs.fstatSync(fd).ino, fs.readFileSync(`/proc/self/fd/${fd}`));
    };
    return {
      async open(path, flags) {
        const isNew = Boolean(flags & O_CREAT) && !fs.existsSync(path);
        meet(isNew ? 'create' : 'open');
        const fd = fs.openSync(path, flags, FILE_MODE);
        paths.set(fd, path);
        if (isNew) bytes.delete(fs.fstatSync(fd).ino); // the number may be that of a file long gone
        return fd;
      },
      async close(fd) {
        paths.delete(fd);
        fs.closeSync(fd); // also when all is over: the number of the file would never be free again
        if (life.isOver) throw gone();
      },
      async write(fd, data, offset, length) {
        const action = meet('write');
        const isTorn = action?.kind === 'die';
        const count = isTorn || action?.kind === 'short' ? Math.max(isTorn ? 0 : 1, length >> 1) : length;
        fs.writeSync(fd, data, offset, count);
        if (isTorn) life.die('torn');
        return count;
      },
      read: (fd, into, offset, length, position) =>
        through('read', () => fs.readSync(fd, into, offset, length, position)),
      sync: (fd) => through(isFolder(fd) ? 'sync-folder' : 'sync', () => synced(fd)),
      datasync: (fd) => through('datasync', () => synced(fd)),
      truncate: (fd, length) => through('truncate', () => fs.ftruncateSync(fd, length)),
      stat: (fd) => through('stat', () => fs.fstatSync(fd)),
      chmod: (fd, mode) => through('chmod', () => fs.fchmodSync(fd, mode)),
      rename: (from, to) => through('rename', () => fs.renameSync(from, to)),
      link: (from, to) => through('link', () => fs.linkSync(from, to)),
      unlink: (path) => through('unlink', () => fs.unlinkSync(path)),
    };
  };
  return { root, bytes, names, use };
}

/** What the disk has after the death of the context. */
export function imageOf({ root, bytes, names }: SimulatedDisk, keep: Keep): Image {
  const present = (path: string): Image => {
    const image: Image = new Map();
    for (const entry of fs.readdirSync(path, { withFileTypes: true })) {
      const within = join(path, entry.name);
      if (entry.isDirectory()) image.set(entry.name, present(within));
      else if (keep === 'names') image.set(entry.name, bytes.get(fs.lstatSync(within).ino) ?? Buffer.alloc(0));
      else image.set(entry.name, fs.readFileSync(within));
    }
    return image;
  };
  /** A name whose bytes never were synced is there, and empty. */
  const durable = (path: string): Image => {
    const image: Image = new Map();
    for (const [name, ino] of names.get(path) ?? []) {
      const within = join(path, name);
      const isFolder = names.has(within) || fs.statSync(within, { throwIfNoEntry: false })?.isDirectory();
      image.set(name, isFolder ? durable(within) : (bytes.get(ino) ?? Buffer.alloc(0)));
    }
    return image;
  };
  return keep === 'synced' ? durable(root) : present(root);
}

/** Lays an image out as the folder of the next life. Whoever holds a lock in it belongs to a machine that was off since. */
export function restore(image: Image, path: string): void {
  fs.mkdirSync(path, { mode: FOLDER_MODE });
  for (const [name, content] of image) {
    const within = join(path, name);
    const isLock = /\/lock\/\d+\.json$/.test(within);
    if (content instanceof Map) restore(content, within);
    else fs.writeFileSync(within, isLock ? ownedBefore(content) : content, { mode: FILE_MODE });
    // What a dead process has left is old by the time that anybody looks.
    if (isLock || name.endsWith('.tmp')) fs.utimesSync(within, 0, 0);
  }
}

function ownedBefore(lock: Buffer): Buffer | string {
  try {
    return JSON.stringify({ ...JSON.parse(lock.toString('utf8')), bootId: 'before' });
  } catch {
    return lock; // cut off: the store has to tell
  }
}
