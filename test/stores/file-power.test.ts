import fs from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { TEMPORARY } from '../../adapters/file/atomic-write.js';
import { type Disk, nodeDisk } from '../../adapters/file/disk.js';
import { createFileStore } from '../../adapters/file/store.js';
import { FORMAT_VERSION } from '../../src/store/journal.js';
import { freshFolder } from '../harness.js';
import { createSimulatedDisk, imageOf, restore } from '../prove/crash/disk.js';
import { createInjector, DISK_MODES } from '../prove/crash/faults.js';
import { committed, now, openStore, startOf, stepOf } from './file-kit.js';

// Pins: what a simulated disk has found in the file store (spec D1, D5, O3). All of it is tried at every operation by
// `npm run prove -- crash`.

const gone = () => new Error('gone');
const life = {
  isOver: false,
  die(): never {
    throw gone();
  },
};

it('D1: the first commit to a new folder survives a loss of power, folders and all', async () => {
  const root = freshFolder();
  const disk = createSimulatedDisk(root);
  const { store } = await openStore({ dir: root }, 'drive', {
    disk: disk.use(createInjector(DISK_MODES, []), life, gone),
  });
  await committed(store, startOf('r'));
  const after = join(freshFolder(), 'after');
  restore(imageOf(disk, 'synced'), after);
  const { store: next, errors } = await openStore({ dir: after });
  expect((await next.load('r'))?.row.runId).toBe('r');
  expect(errors).toEqual([]);
  await next.close();
  await store.close();
});

it('O6: the least format that may write is still that one after a loss of power', async () => {
  const root = freshFolder();
  const onError = () => undefined;
  const options = { owner: 'a', now, leaseMs: 10_000, mode: 'drive', onError } as const;
  const disk = createSimulatedDisk(root);
  const internals = { disk: disk.use(createInjector(DISK_MODES, []), life, gone) };
  const { store: first } = await openStore({ dir: root }, 'drive', internals);
  await committed(first, startOf('before'));
  await first.close();
  const newer = createFileStore({ dir: root }, internals);
  await newer.open({ ...options, format: FORMAT_VERSION + 1 });
  await committed(newer, startOf('r'));
  const after = join(freshFolder(), 'after');
  restore(imageOf(disk, 'synced'), after);
  await newer.close();
  const older = createFileStore({ dir: after });
  await expect(older.open(options)).rejects.toMatchObject({ code: 'STORE_TOO_NEW' });
  await older.close();
});

/** A disk on which no file can be made while it is broken. */
function breakable() {
  const broken = { is: false };
  const disk: Disk = {
    ...nodeDisk,
    async open(path, flags) {
      if (broken.is && flags & fs.constants.O_CREAT) throw Object.assign(new Error('i/o'), { code: 'EIO' });
      return nodeDisk.open(path, flags);
    },
  };
  return { broken, disk };
}

it('O3: a lock that could not be given back is given back before the next try: the process does not lock itself out', async () => {
  const { broken, disk } = breakable();
  const dir = freshFolder();
  let links = 0;
  // Broken from the moment at which the lock is there: neither can the log be begun, nor the lock be given back.
  const link: Disk['link'] = async (from, to) => {
    await nodeDisk.link(from, to);
    broken.is = ++links === 1;
  };
  const store = createFileStore({ dir }, { disk: { ...disk, link } });
  const errors: unknown[] = [];
  const onError = (error: unknown) => void errors.push(error);
  const open = () => store.open({ owner: 'a', now, leaseMs: 10_000, mode: 'drive', onError });
  const unavailable = expect.objectContaining({ code: 'STORE_UNAVAILABLE' });
  await expect(open()).rejects.toEqual(unavailable);
  expect(errors).toEqual([unavailable]);
  await expect(open()).rejects.toEqual(unavailable);
  broken.is = false;
  await open();
  await committed(store, startOf('r'));
  await store.close();
});

it('D5: a store whose lock can not be given back at its end says so with a code, and lets go of it all the same', async () => {
  const { broken, disk } = breakable();
  const dir = freshFolder();
  const { store } = await openStore({ dir }, 'drive', { disk });
  await committed(store, startOf('r'));
  broken.is = true;
  await expect(store.close()).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
  const { store: next } = await openStore({ dir });
  expect(await next.load('r')).toBeDefined();
  await next.close();
});

it('D1: a segment whose name was not made durable, because that failed, is before anything in it is acknowledged', async () => {
  const root = freshFolder();
  const simulated = createSimulatedDisk(root);
  const within = simulated.use(createInjector(DISK_MODES, []), life, gone);
  let isNamed = false;
  const disk: Disk = {
    ...within,
    async rename(from, to) {
      await within.rename(from, to);
      isNamed = to.endsWith('.jsonl');
    },
    async sync(fd) {
      if (isNamed) {
        isNamed = false;
        throw Object.assign(new Error('i/o'), { code: 'EIO' });
      }
      await within.sync(fd);
    },
  };
  const store = createFileStore({ dir: root }, { disk });
  const open = () => store.open({ owner: 'a', now, leaseMs: 10_000, mode: 'drive', onError: () => undefined });
  await expect(open()).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
  await open();
  await committed(store, startOf('r'));
  const after = join(freshFolder(), 'after');
  restore(imageOf(simulated, 'synced'), after);
  await store.close();
  const { store: next } = await openStore({ dir: after });
  expect((await next.load('r'))?.row.runId).toBe('r');
  await next.close();
});

it('D5: a store drives though a leftover can not be removed while it is opened', async () => {
  const dir = freshFolder();
  const { store: first } = await openStore({ dir });
  await committed(first, startOf('r'));
  await first.close();
  const leftover = join(dir, 'log', `left${TEMPORARY}`);
  fs.writeFileSync(leftover, '');
  fs.utimesSync(leftover, 0, 0);
  const unlink: Disk['unlink'] = async (path) => {
    if (path === leftover) throw Object.assign(new Error('i/o'), { code: 'EIO' });
    await nodeDisk.unlink(path);
  };
  const { store, errors } = await openStore({ dir }, 'drive', { disk: { ...nodeDisk, unlink } });
  expect(errors).toEqual([expect.objectContaining({ code: 'STORE_UNAVAILABLE' })]);
  await committed(store, stepOf('r', 1));
  await store.close();
});

it('O3: a lock is given back though the log can not be closed', async () => {
  const dir = freshFolder();
  const broken = { is: false };
  const close: Disk['close'] = async (fd) => {
    await nodeDisk.close(fd);
    if (broken.is) throw Object.assign(new Error('i/o'), { code: 'EIO' });
  };
  const { store } = await openStore({ dir }, 'drive', { disk: { ...nodeDisk, close } });
  await committed(store, startOf('r'));
  broken.is = true;
  await expect(store.close()).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
  const { store: next } = await openStore({ dir });
  await committed(next, stepOf('r', 1));
  await next.close();
});
