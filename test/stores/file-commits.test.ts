import { execFileSync } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Disk, nodeDisk } from '../../adapters/file/disk.js';
import { fileStore } from '../../adapters/file/index.js';
import { pairKey } from '../../src/store/transition/scope.js';
import { freshDir } from './file-folders.js';
import { committed, dispatchOf, now, openStore, startOf, stepDone, stepOf } from './file-kit.js';

/*
 * Pins: one write for all commits that come together, refusal as a whole when the disk refuses (spec D5), and that
 * nothing but the store's own files is made or followed (spec B, O3).
 */

const filesOf = (dir: string) =>
  readdirSync(dir, { recursive: true, withFileTypes: true }).map((entry) => ({
    path: join(entry.parentPath, entry.name),
    mode: lstatSync(join(entry.parentPath, entry.name)).mode & 0o777,
    isFolder: entry.isDirectory(),
  }));

const failing = (code: string) => Object.assign(new Error(`${code}: no`), { code });

describe('group commit', () => {
  it('shares one write among the commits that come while another is under way', async () => {
    let writes = 0;
    const disk: Disk = {
      ...nodeDisk,
      write(...given) {
        writes++;
        return nodeDisk.write(...given);
      },
    };
    const { store } = await openStore({ dir: freshDir() }, 'drive', { disk });
    writes = 0;
    await Promise.all(Array.from({ length: 100 }, (_, index) => store.commit(startOf(`run ${index}`))));
    expect(writes).toBe(1);
    writes = 0;
    for (let index = 1; index <= 10; index++) await committed(store, stepOf('run 0', index));
    expect(writes).toBe(10);
    await store.close();
  });

  it('writes all bytes, also when the disk takes a few at a time', async () => {
    const dir = freshDir();
    const disk: Disk = {
      ...nodeDisk,
      write: (fd, data, offset, length) => nodeDisk.write(fd, data, offset, Math.min(length, 7)),
    };
    const { store } = await openStore({ dir }, 'drive', { disk });
    await committed(store, startOf('a'));
    await committed(store, stepOf('a', 1));
    await store.close();
    const after = await openStore({ dir });
    expect((await after.store.load('a'))?.journal).toHaveLength(2);
    expect(after.errors).toEqual([]);
    await after.store.close();
  });

  it('shows nobody what is not on disk yet', async () => {
    let hold: Promise<void> | undefined;
    const disk: Disk = {
      ...nodeDisk,
      async write(...given) {
        await hold;
        return nodeDisk.write(...given);
      },
    };
    const { store } = await openStore({ dir: freshDir() }, 'drive', { disk });
    let release = () => {};
    hold = new Promise<void>((resolve) => (release = resolve));
    const order: string[] = [];
    const commit = store.commit(startOf('a')).then(() => order.push('commit'));
    const load = store.load('a').then((run) => order.push(`load ${run?.row.runId}`));
    await new Promise((resolve) => setImmediate(resolve));
    expect(order).toEqual([]);
    release();
    await Promise.all([commit, load]);
    expect(order).toEqual(['commit', 'load a']);
    await store.close();
  });
});

describe('a disk that refuses', () => {
  it.each([
    ['ENOSPC', 'QUOTA_EXCEEDED'],
    ['EDQUOT', 'QUOTA_EXCEEDED'],
    ['EIO', 'STORE_UNAVAILABLE'],
  ])('with %s in the middle of a write refuses all of the group with %s, keeps nothing, and works again later', async (errno, code) => {
    const dir = freshDir();
    let broken = false;
    let parts = 0;
    const disk: Disk = {
      ...nodeDisk,
      async write(fd, data, offset, length) {
        if (!broken) return nodeDisk.write(fd, data, offset, length);
        if (parts++ % 2) throw failing(errno);
        return nodeDisk.write(fd, data, offset, Math.ceil(length * 0.7)); // whole lines of the group get through
      },
      truncate: (fd, length) => (broken ? Promise.reject(failing('EIO')) : nodeDisk.truncate(fd, length)),
    };
    const { store } = await openStore({ dir }, 'drive', { disk });
    await committed(store, startOf('a'));
    broken = true;
    const group = [
      store.commit(stepOf('a', 1)),
      store.commit(startOf('b')),
      store.commit(startOf('c')),
      store.commit(dispatchOf('e')),
    ];
    for (const refused of await Promise.allSettled(group))
      expect(refused).toMatchObject({ status: 'rejected', reason: { code, cause: { code: errno } } });
    expect((await store.load('a'))?.journal).toHaveLength(1);
    expect(await store.load('b')).toBeUndefined();
    await expect(store.commit(startOf('b'))).rejects.toMatchObject({ name: 'StepfastError' });
    broken = false;
    const again = await committed(store, startOf('b'));
    expect(again.starts).toEqual([{ kind: 'created', runId: 'b' }]);
    expect((await committed(store, dispatchOf('e'))).events[0]?.kind).toBe('accepted');
    await committed(store, stepOf('a', 1));
    await store.close();
    const after = await openStore({ dir });
    expect((await after.store.load('a'))?.journal).toHaveLength(2);
    expect((await after.store.load('b'))?.journal).toHaveLength(1);
    expect(await after.store.load('c')).toBeUndefined();
    expect(after.errors).toEqual([]);
    await after.store.close();
  });

  it('refuses a value that is nested too deep alone, not its neighbours', async () => {
    const { store } = await openStore({ dir: freshDir() });
    let deep: unknown = 0;
    for (let level = 0; level < 50_000; level++) deep = [deep];
    const bad = store.commit(startOf('bad', { entries: [{ kind: 'started', at: now, payload: deep as never }] }));
    const good = store.commit(startOf('good'));
    await expect(bad).rejects.toMatchObject({ code: 'NOT_SERIALIZABLE' });
    expect((await good).kind).toBe('committed');
    await store.close();
  });
});

describe('what is made on disk', () => {
  it('is 0700 and 0600 whatever the umask', async () => {
    for (const mask of [0o000, 0o022, 0o777]) {
      const dir = freshDir();
      const before = process.umask(mask);
      try {
        const { store } = await openStore({ dir }, 'drive', { compactAt: 1 });
        await committed(store, startOf('a', { idempotencyKey: 'k' }));
        await committed(store, {
          ...stepOf('a', 1),
          run: { ...stepOf('a', 1).run!, state: { status: 'completed', version: 1, waits: [], endedAt: now } },
        });
        await committed(store, startOf('b'));
        await expect
          .poll(() => existsSync(join(dir, 'ended.jsonl')) && readdirSync(join(dir, 'log')))
          .not.toContain('00000001.jsonl');
        const guest = await openStore({ dir }, 'use');
        await committed(guest.store, dispatchOf('e'));
        await guest.store.close();
        await store.close();
      } finally {
        process.umask(before);
      }
      expect(lstatSync(dir).mode & 0o777).toBe(0o700);
      const made = filesOf(dir);
      expect(made.length).toBeGreaterThan(8);
      for (const { path, mode, isFolder } of made)
        expect({ path, mode }).toEqual({ path, mode: isFolder ? 0o700 : 0o600 });
    }
  });

  it('never has a name that a user chose, and stays in the folder', async () => {
    const dir = freshDir();
    const outside = () => readdirSync(dirname(dir));
    const { store } = await openStore({ dir }, 'drive', { compactAt: 1 });
    const ids = [
      '../x',
      '..\\x',
      'a\0b',
      'CON',
      'a/b',
      '/etc/x',
      'C:\\x',
      '.',
      '..',
      ' ',
      'x.',
      'X',
      'x',
      'e\u0301',
      '\u00e9',
      '\ud800',
      '__proto__',
      'constructor',
      '"},"head":"',
      '\n',
      'y'.repeat(256),
    ];
    for (const id of ids) {
      await committed(store, startOf(id, { job: id, idempotencyKey: id }));
      await committed(store, {
        now,
        run: {
          runId: id,
          fence: 0,
          append: [stepDone(1)],
          state: { status: 'completed', version: 1, waits: [], endedAt: now },
        },
      });
      await committed(store, { now, events: [{ id, name: id, key: id, payload: id, ttlMs: 1_000, maxBacklog: 10 }] });
    }
    await store.close();
    expect(outside()).toEqual(['store']);
    for (const { path, isFolder } of filesOf(dir))
      if (!isFolder) expect(path.slice(dir.length)).toMatch(/^[/a-z0-9.]+$/);
    const after = await openStore({ dir });
    for (const id of ids) {
      expect((await after.store.load(id))?.row).toMatchObject({ runId: id, job: id, idempotencyKey: id });
      expect((await committed(after.store, startOf(`second ${id}`, { job: id, idempotencyKey: id }))).starts).toEqual([
        { kind: 'exists', runId: id },
      ]);
    }
    expect(pairKey('a', 'b')).not.toBe(pairKey('a,b', undefined));
    await after.store.close();
  });

  it('is never reached through a planted link or pipe', async () => {
    const dir = freshDir();
    const target = join(dirname(dir), 'target');
    writeFileSync(target, 'mine');
    mkdirSync(join(dir, 'log'), { recursive: true });
    symlinkSync(target, join(dir, 'log', '00000001.jsonl'));
    await expect(openStore({ dir })).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    const piped = freshDir();
    mkdirSync(join(piped, 'log'), { recursive: true });
    execFileSync('mkfifo', [join(piped, 'log', '00000001.jsonl')]);
    await expect(openStore({ dir: piped })).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    const linked = freshDir();
    mkdirSync(linked, { recursive: true });
    symlinkSync(dirname(dir), join(linked, 'runs'));
    await expect(openStore({ dir: linked })).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    expect(readFileSync(target, 'utf8')).toBe('mine');
  });

  it('keeps nothing alive and no lock after close', async () => {
    const dir = freshDir();
    const handles = () =>
      process.getActiveResourcesInfo().filter((kind) => kind === 'FSEventWrap' || kind === 'FSReqCallback');
    const before = handles();
    const { store } = await openStore({ dir });
    store.watch(() => {});
    await committed(store, startOf('a'));
    await store.close();
    expect(handles()).toEqual(before);
    const next = await openStore({ dir });
    await next.store.close();
    await expect(next.store.commit(startOf('b'))).rejects.toMatchObject({ code: 'CLOSED' });
  });

  it('is refused options that make no sense', () => {
    const bad = [
      undefined,
      {},
      { dir: '' },
      { dir: 'a\0b' },
      { dir: 10n },
      { dir: 'x', wait: 5 },
      { dir: 'x', durability: 'never' },
    ];
    for (const options of bad)
      expect(() => fileStore(options as never)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }));
  });
});
