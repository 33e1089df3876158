import { cpSync, existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Disk, nodeDisk } from '../../adapters/file/disk.js';
import type { Store } from '../../src/store/store.js';
import { archivedRuns, listed, runPath } from './file-archived.js';
import { compacted, endings, patience, segmentsIn } from './file-compact.js';
import { freshDir } from './file-folders.js';
import {
  committed,
  deleteOf,
  dispatchOf,
  ended,
  endOf,
  keyPath,
  newRun,
  now,
  openStore,
  startOf,
  stepOf,
} from './file-kit.js';

/*
 * Pins: a deleted run does not come back (spec Q6, D2): not from the log, not from the archive, not after a crash at any
 * point between the record that says so and the removal of the last file.
 */

async function assertWithout(store: Store, runId: string): Promise<void> {
  expect(await store.load(runId)).toBeUndefined();
  expect(await listed(store)).toEqual(['live', 'c', 'b', 'a'].filter((other) => other !== runId));
  expect(await listed(store)).toEqual(['live', 'c', 'b', 'a'].filter((other) => other !== runId));
  expect(await store.commit(deleteOf(runId))).toEqual({ kind: 'fenced', fence: 0 });
}

const hasFiles = (dir: string, runId: string) =>
  existsSync(runPath(dir, runId)) || existsSync(keyPath(dir, `key ${runId}`));

/** For thousands of files and openings: what a sync makes durable is not lost when only a process ends. */
const unsynced: Disk = { ...nodeDisk, sync: async () => {}, datasync: async () => {} };

const failing = (code: string) => Object.assign(new Error(`${code}: no`), { code });

describe('a run that is deleted while the log holds it', () => {
  it.each(
    Object.entries(endings),
  )('Q6: is gone, with its key, when its owner %s and when the log is compacted', async (_, end) => {
    const dir = freshDir();
    const first = await openStore({ dir });
    for (const runId of ['a', 'b', 'c']) await ended(first.store, runId, { idempotencyKey: `key ${runId}` });
    await committed(first.store, startOf('live'));
    await committed(first.store, deleteOf('b'));
    await assertWithout(first.store, 'b');
    await end(first.store);
    for (const open of [() => openStore({ dir }), () => compacted(dir), () => openStore({ dir })]) {
      const { store, errors } = await open();
      await assertWithout(store, 'b');
      expect(errors).toEqual([]);
      await end(store);
    }
    const { store } = await openStore({ dir });
    expect((await committed(store, startOf('b2', { idempotencyKey: 'key b' }))).starts[0]?.kind).toBe('created');
    expect(hasFiles(dir, 'b')).toBe(false);
    await store.close();
  });

  it('Q1: leaves a tombstone where one was asked for, which outlives a restart and a compaction', async () => {
    const dir = freshDir();
    const first = await openStore({ dir });
    await ended(first.store, 'a', { idempotencyKey: 'key a', keyUntil: now + 1_000 });
    await committed(first.store, deleteOf('a'));
    await first.store.close();
    for (const open of [() => openStore({ dir }), () => compacted(dir)]) {
      const { store } = await open();
      const again = await committed(store, { now, starts: [newRun('a'), newRun('z', { idempotencyKey: 'key a' })] });
      const remembered = { kind: 'exists', runId: 'a', fingerprint: 'of a' };
      expect(again.starts).toEqual([remembered, remembered]);
      await store.close();
    }
    const { store } = await openStore({ dir });
    expect((await committed(store, { ...startOf('a'), now: now + 1_000 })).starts[0]?.kind).toBe('created');
    await store.close();
  });

  it('gives its id to a run that has nothing of it, also after a restart and a compaction', async () => {
    const dir = freshDir();
    const { store } = await openStore({ dir });
    await ended(store, 'a', { idempotencyKey: 'old' });
    await committed(store, deleteOf('a'));
    await committed(store, startOf('a', { idempotencyKey: 'new' }));
    for (const index of [1, 2]) await committed(store, stepOf('a', index));
    await store.close();
    for (const open of [() => openStore({ dir }), () => compacted(dir), () => openStore({ dir })]) {
      const opened = await open();
      const kinds = (await opened.store.load('a'))?.journal.map(({ kind }) => kind);
      expect(kinds).toEqual(['started', 'step-completed', 'step-completed']);
      expect(opened.errors).toEqual([]);
      await opened.store.close();
    }
    const last = await openStore({ dir });
    const starts = [newRun('x', { idempotencyKey: 'new' }), newRun('y', { idempotencyKey: 'old' })];
    const outcome = await committed(last.store, { now, starts });
    expect(outcome.starts.map(({ kind, runId }) => [kind, runId])).toEqual([
      ['exists', 'a'],
      ['created', 'y'],
    ]);
    await last.store.close();
  });

  it('is not archived by a compaction that was under way', async () => {
    const dir = freshDir();
    const { store: setup } = await openStore({ dir });
    for (const runId of ['a', 'b', 'c']) await ended(setup, runId, { idempotencyKey: `key ${runId}` });
    await committed(setup, startOf('live'));
    await setup.close();
    let go = () => {};
    const gate = new Promise<void>((resolve) => (go = resolve));
    let isHeld = false;
    const disk: Disk = {
      ...nodeDisk,
      async rename(from, to) {
        if (to.includes('/runs/')) {
          isHeld = true;
          await gate;
        }
        return nodeDisk.rename(from, to);
      },
    };
    const opening = openStore({ dir }, 'drive', { disk, compactAt: 1 });
    const { store, errors } = await opening;
    await expect.poll(() => isHeld).toBe(true);
    await committed(store, deleteOf('b')); // its row was taken down for the archive before
    go();
    await expect.poll(() => existsSync(join(dir, 'log', '00000002.jsonl'))).toBe(true);
    await expect.poll(() => hasFiles(dir, 'b')).toBe(false);
    await assertWithout(store, 'b');
    await store.close();
    const after = await openStore({ dir });
    await assertWithout(after.store, 'b');
    expect([...errors, ...after.errors]).toEqual([]);
    await after.store.close();
  });
});

describe('a run that is deleted out of the archive', () => {
  it.each(
    Object.entries(endings),
  )('Q6: is gone at once, and with its files soon after, when its owner %s and when the log is compacted', async (_, end) => {
    const dir = await archivedRuns();
    const first = await openStore({ dir });
    await committed(first.store, deleteOf('b'));
    await assertWithout(first.store, 'b');
    const again = await committed(first.store, startOf('b2', { idempotencyKey: 'key b' }));
    expect(again.starts).toEqual([{ kind: 'created', runId: 'b2' }]);
    await committed(first.store, endOf('b2'));
    await committed(first.store, deleteOf('b2'));
    await expect.poll(() => hasFiles(dir, 'b')).toBe(false);
    await end(first.store);
    for (const open of [() => openStore({ dir }), () => compacted(dir), () => openStore({ dir })]) {
      const { store, errors } = await open();
      await assertWithout(store, 'b');
      const reader = await openStore({ dir }, 'use');
      expect(await listed(reader.store)).toEqual(['live', 'c', 'a']);
      await reader.store.close();
      expect(errors).toEqual([]);
      await end(store);
    }
    for (const runId of ['a', 'c']) expect(existsSync(runPath(dir, runId)) && hasFiles(dir, runId)).toBe(true);
  });

  it('does not come back from what a crash has left of it, and the next owner removes that', async () => {
    const dir = await archivedRuns();
    const kept = freshDir();
    cpSync(dir, kept, { recursive: true });
    const { store } = await openStore({ dir });
    await committed(store, deleteOf('b'));
    await expect.poll(() => hasFiles(dir, 'b')).toBe(false);
    store.abandon?.();
    /** What the disk holds when the crash came before any of these was changed. */
    const restore = (...parts: string[]) => {
      for (const part of parts) {
        rmSync(part, { force: true });
        cpSync(join(kept, part.slice(dir.length)), part);
      }
    };
    const index = join(dir, 'ended.jsonl');
    for (const parts of [
      [index],
      [index, runPath(dir, 'b')],
      [runPath(dir, 'b'), keyPath(dir, 'key b')],
      [index, keyPath(dir, 'key b')],
    ]) {
      restore(...parts);
      const reader = await openStore({ dir }, 'use');
      expect(await reader.store.load('b')).toBeUndefined();
      const page = await reader.store.list({ limit: 3 });
      expect(page.runs.map(({ row }) => row.runId)).toEqual(['live', 'c', 'a']);
      expect(page.nextCursor).toBeUndefined();
      await reader.store.close();
      const opened = await openStore({ dir });
      await assertWithout(opened.store, 'b');
      const again = await committed(opened.store, startOf('b2', { idempotencyKey: 'key b' }));
      expect(again.starts).toEqual([{ kind: 'created', runId: 'b2' }]);
      await committed(opened.store, endOf('b2'));
      await committed(opened.store, deleteOf('b2'));
      await expect.poll(() => hasFiles(dir, 'b')).toBe(false);
      expect(opened.errors).toEqual([]);
      opened.store.abandon?.();
    }
    restore(index, runPath(dir, 'b'), keyPath(dir, 'key b'));
    const opened = await compacted(dir); // forgets the record that says so, and so must have removed the rest
    expect(hasFiles(dir, 'b')).toBe(false);
    await opened.store.close();
    expect(readFileSync(join(dir, 'log', readdirSync(join(dir, 'log'))[0]!), 'utf8')).not.toContain('"removed"');
    const after = await openStore({ dir });
    await assertWithout(after.store, 'b');
    await after.store.close();
  });

  it('does not come back when the disk fails at any call of the removal and of the compaction after it', async () => {
    const archived = await archivedRuns();
    const log = freshDir();
    cpSync(archived, log, { recursive: true });
    const { store: deleting } = await openStore({ dir: log });
    await committed(deleting, deleteOf('b'));
    await deleting.close();
    for (let failAt = 1; ; failAt++) {
      const dir = freshDir();
      // The record says that b is deleted, and nothing is removed yet.
      cpSync(archived, dir, { recursive: true });
      for (const part of ['log', 'lock']) {
        rmSync(join(dir, part), { recursive: true });
        cpSync(join(log, part), join(dir, part), { recursive: true });
      }
      let calls = 0;
      const counted =
        <A extends unknown[], R>(run: (...given: A) => Promise<R>) =>
        (...given: A): Promise<R> =>
          ++calls === failAt ? Promise.reject(failing('EIO')) : run(...given);
      const { open, write, rename, unlink, stat, read } = nodeDisk;
      const disk: Disk = {
        ...nodeDisk,
        open: counted(open),
        write: counted(write),
        sync: counted(unsynced.sync),
        datasync: counted(unsynced.datasync),
        rename: counted(rename),
        unlink: counted(unlink),
        stat: counted(stat),
        read: counted(read),
      };
      const first = await openStore({ dir }, 'drive', { disk }).catch(() => undefined);
      const outcome = await first?.store.commit(deleteOf('c')).catch(() => undefined);
      const isSwept = () => ['b', 'c'].every((runId) => !hasFiles(dir, runId));
      if (first && outcome) await expect.poll(() => first.errors.length > 0 || isSwept(), patience).toBe(true);
      first?.store.abandon?.();
      const before = segmentsIn(dir).join();
      const second = await openStore({ dir }, 'drive', { disk, compactAt: 1 }).catch(() => undefined);
      const isCompacted = () => segmentsIn(dir).length === 1 && segmentsIn(dir).join() !== before;
      if (second) await expect.poll(() => second.errors.length > 0 || isCompacted(), patience).toBe(true);
      second?.store.abandon?.();
      const isOver = calls < failAt;
      calls = Number.NEGATIVE_INFINITY;
      for (const openAgain of [
        () => openStore({ dir }, 'drive', { disk: unsynced }),
        () => compacted(dir, { disk: unsynced }),
      ]) {
        const { store, errors } = await openAgain();
        expect({ failAt, b: await store.load('b') }).toEqual({ failAt, b: undefined });
        // Refused, or without an answer: then it may have happened (S8).
        const c = await store.load('c');
        if (outcome?.kind === 'committed') expect({ failAt, c }).toEqual({ failAt, c: undefined });
        expect(await listed(store)).toEqual(c ? ['live', 'c', 'a'] : ['live', 'a']);
        expect((await store.load('a'))?.journal).toHaveLength(2);
        expect(errors).toEqual([]);
        await store.close();
      }
      expect(hasFiles(dir, 'b')).toBe(false);
      if (isOver) break;
      expect(failAt).toBeLessThan(500);
    }
  }, 120_000);

  it('D5: stays whole when the commit that deletes it is refused by a full disk', async () => {
    const dir = await archivedRuns();
    let isFull = false;
    const disk: Disk = {
      ...nodeDisk,
      write: (...given) => (isFull ? Promise.reject(failing('ENOSPC')) : nodeDisk.write(...given)),
    };
    const { store } = await openStore({ dir }, 'drive', { disk });
    isFull = true;
    await expect(store.commit(deleteOf('b'))).rejects.toMatchObject({ code: 'QUOTA_EXCEEDED' });
    isFull = false;
    expect((await store.load('b'))?.journal).toHaveLength(2);
    await committed(store, dispatchOf('e'));
    await store.close();
    const after = await compacted(dir);
    expect(await listed(after.store)).toEqual(['live', 'c', 'b', 'a']);
    expect((await after.store.load('b'))?.journal).toHaveLength(2);
    expect(hasFiles(dir, 'b')).toBe(true);
    await after.store.close();
  });

  it('Q6: is not removed before the record that says so is durable, whatever the durability of the store', async () => {
    const dir = await archivedRuns();
    const calls: string[] = [];
    const disk: Disk = {
      ...nodeDisk,
      async datasync(fd) {
        await nodeDisk.datasync(fd);
        calls.push('datasync');
      },
      unlink(path) {
        if (path.endsWith('.json') && /^.(runs|keys)/.test(path.slice(dir.length))) calls.push('unlink');
        return nodeDisk.unlink(path);
      },
    };
    const { store } = await openStore({ dir, durability: 'relaxed' }, 'drive', { disk });
    await committed(store, stepOf('live', 1));
    expect(calls).toEqual([]);
    await committed(store, deleteOf('b'));
    await expect.poll(() => hasFiles(dir, 'b')).toBe(false);
    expect(calls).toEqual(['datasync', 'unlink', 'unlink']);
    await store.close();
  });

  it('gives its id and key to later runs, whose files are left alone by a removal that comes late', async () => {
    const dir = await archivedRuns();
    let isStuck = true;
    const disk: Disk = {
      ...nodeDisk,
      unlink: (path) =>
        isStuck && /runs|keys/.test(path.slice(dir.length)) && path.endsWith('.json')
          ? Promise.reject(failing('EIO'))
          : nodeDisk.unlink(path),
    };
    const { store, errors } = await openStore({ dir }, 'drive', { disk });
    for (const runId of ['a', 'b', 'c']) await committed(store, deleteOf(runId));
    await ended(store, 'a', { idempotencyKey: 'key a' }); // same id, same key
    await ended(store, 'b', { idempotencyKey: 'key c' }); // the key of another one
    await expect.poll(() => errors.length).toBeGreaterThan(0);
    await store.close();
    const first = await compacted(dir, { disk }); // archives the later runs over what could not be removed
    const loaded = async ({ store: from }: typeof first) => {
      const a = await from.load('a');
      const b = await from.load('b');
      return [a?.journal.length, a?.row.idempotencyKey, b?.journal.length, b?.row.idempotencyKey, await from.load('c')];
    };
    const expected = [2, 'key a', 2, 'key c', undefined];
    expect(await loaded(first)).toEqual(expected);
    await first.store.close();
    isStuck = false;
    for (const open of [() => openStore({ dir }), () => compacted(dir), () => openStore({ dir })]) {
      const after = await open();
      expect(await loaded(after)).toEqual(expected);
      expect(await listed(after.store)).toEqual(['b', 'a', 'live']);
      const starts = ['key a', 'key b', 'key c'].map((key, index) => newRun(`x${index}`, { idempotencyKey: key }));
      const { starts: found } = await committed(after.store, { now, starts });
      expect(found.map(({ kind, runId }) => `${kind} ${runId}`)).toEqual(['exists a', 'created x1', 'exists b']);
      await committed(after.store, endOf('x1'));
      await committed(after.store, deleteOf('x1'));
      await after.store.close();
    }
    expect(existsSync(runPath(dir, 'a')) && existsSync(runPath(dir, 'b'))).toBe(true);
    expect(existsSync(runPath(dir, 'c'))).toBe(false);
  });

  it('O3: goes with its files also when another process deletes it, whether the folder has an owner or not', async () => {
    const dir = await archivedRuns();
    const { store: guest } = await openStore({ dir }, 'use');
    await committed(guest, deleteOf('a'));
    expect(hasFiles(dir, 'a')).toBe(false);
    const { store } = await openStore({ dir });
    expect(await guest.commit(deleteOf('b', 7))).toEqual({ kind: 'fenced', fence: 0 });
    await committed(guest, deleteOf('b'));
    await expect.poll(() => hasFiles(dir, 'b')).toBe(false);
    expect(await listed(guest)).toEqual(['live', 'c']);
    expect(await listed(store)).toEqual(['live', 'c']);
    await guest.close();
    await store.close();
  });
});
