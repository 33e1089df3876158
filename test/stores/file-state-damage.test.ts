import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { describe, expect, it } from 'vitest';
import { nodeDisk } from '../../adapters/file/disk.js';
import type { Batch } from '../../src/store/batch.js';
import type { Store } from '../../src/store/store.js';
import { compacted } from './file-compact.js';
import { freshDir } from './file-folders.js';
import { committed, linesOf, logPath, now, openStore, setOf, stateOf } from './file-kit.js';

/*
 * Pins: damage of a shared value is told to whoever uses it, and to nobody else (spec D3); it ends where nothing depends
 * on what was lost.
 */

/** Thousands of openings: what they sync is not what these tests are about. */
const disk = { ...nodeDisk, sync: async () => {}, datasync: async () => {} };

const increment = (key: string, by: number) => stateOf({ kind: 'increment', key, by });
const lock = (key: string, holder: string, expiresAt = now + 60_000) =>
  stateOf({ kind: 'lock', key, holder, expiresAt });

describe('a torn or damaged record of shared state', () => {
  /** A folder with a changed copy of the log alone: nothing else is needed to open it. */
  const changed = (log: Buffer, change: (log: Buffer) => void) => {
    const dir = freshDir();
    const copy = Buffer.from(log);
    change(copy);
    mkdirSync(dirname(logPath(dir)), { recursive: true });
    writeFileSync(logPath(dir), copy);
    return dir;
  };

  /** A log of these batches, and where the line of each begins; the line 0 is the snapshot. */
  const logOf = async (...batches: Batch[]) => {
    const dir = freshDir();
    const { store } = await openStore({ dir });
    for (const batch of batches) await committed(store, batch);
    await store.close();
    const log = readFileSync(logPath(dir));
    return { log, starts: linesOf(log) };
  };

  const flip = (byte: number) => (log: Buffer) => void (log[byte]! ^= 1 << (byte % 8));
  const look = (store: Store, key: string) =>
    store.state(key).then(
      (row) => row?.value,
      (error: { code: string }) => error.code,
    );

  it('D3: cut at any byte, is as if it had not been, and the store goes on', async () => {
    const { log, starts } = await logOf(setOf('a', 1), setOf('b', 1), {
      now,
      state: [
        { kind: 'set', key: 'a', value: 2 },
        { kind: 'delete', key: 'b' },
      ],
    });
    for (let size = starts[3]!; size < log.length; size++) {
      const dir = changed(log, () => {});
      truncateSync(logPath(dir), size);
      const { store, errors } = await openStore({ dir }, 'drive', { disk });
      expect({ size, a: await look(store, 'a'), b: await look(store, 'b'), errors }).toEqual({
        size,
        a: 1,
        b: 1,
        errors: [],
      });
      if (size % 16 === 0) {
        expect((await committed(store, increment('a', 9))).state).toEqual([{ value: 10 }]);
        await store.close();
        const again = await openStore({ dir }, 'drive', { disk });
        expect(await look(again.store, 'a')).toBe(10);
        expect(again.errors).toEqual([]);
        await again.store.close();
      } else store.abandon?.();
    }
  });

  it.each([
    ['in the middle of the log', 3],
    ['at its end', 5],
  ])('D3: %s, is told to whoever uses its key, wherever the bit is, and to nobody else', async (_, line) => {
    const key = line === 3 ? 'b' : 'd';
    const { log, starts } = await logOf(setOf('a', 1), setOf('b', 1), setOf('b', 2), setOf('c', 3), setOf('d', 4));
    for (let byte = starts[line]!; byte < (starts[line + 1] ?? log.length) - 2; byte += 3) {
      const dir = changed(log, flip(byte));
      const { store, errors } = await openStore({ dir }, 'drive', { disk });
      const expected = { a: 1, b: 2, c: 3, d: 4, [key]: 'STORE_CORRUPT' };
      for (const each of ['a', 'b', 'c', 'd'])
        expect({ byte, each, is: await look(store, each) }).toEqual({ byte, each, is: expected[each] });
      expect(errors, `byte ${byte}`).toMatchObject([
        { code: 'STORE_CORRUPT', file: 'log/00000001.jsonl.corrupt', offset: starts[line] },
      ]);
      expect(errors[0]?.message).toContain(`"${key}"`);
      await expect(store.commit(increment(key, 1))).rejects.toMatchObject({ code: 'STORE_CORRUPT' });
      await committed(store, increment('a', 1));
      store.abandon?.();
    }
  });

  it('D3: stays told after a restart and a compaction, until the value is set or deleted', async () => {
    const { log, starts } = await logOf(setOf('a', 1), setOf('b', 2), setOf('c', 3));
    const dir = changed(log, flip(starts[2]! + 200));
    for (const open of [() => openStore({ dir }), () => openStore({ dir }), () => compacted(dir)]) {
      const { store, errors } = await open();
      expect(await look(store, 'b')).toBe('STORE_CORRUPT');
      expect(errors).toMatchObject([{ code: 'STORE_CORRUPT', file: 'log/00000001.jsonl.corrupt' }]);
      const reader = await openStore({ dir }, 'use');
      expect(await look(reader.store, 'b')).toBe('STORE_CORRUPT');
      await reader.store.close();
      await store.close();
    }
    const { store } = await openStore({ dir });
    const conditional = stateOf({ kind: 'set', key: 'b', value: 9, ifRevision: 0 });
    await expect(store.commit(conditional)).rejects.toMatchObject({ code: 'STORE_CORRUPT' });
    await committed(store, setOf('b', 10));
    expect((await committed(store, increment('b', 1))).state).toEqual([{ value: 11 }]);
    await store.close();
    for (const open of [() => openStore({ dir }), () => compacted(dir)]) {
      const after = await open();
      expect(await look(after.store, 'b')).toBe(11);
      expect(after.errors).toEqual([]);
      await after.store.close();
    }
    expect(readFileSync(`${logPath(dir)}.corrupt`)).toHaveLength(log.length);
  });

  it('D3: costs nothing any more when a later record has written the key', async () => {
    const { log, starts } = await logOf(setOf('a', 1), setOf('b', 2), setOf('b', 3), setOf('c', 4));
    for (let byte = starts[2]!; byte < starts[3]! - 2; byte += 3) {
      const { store, errors } = await openStore({ dir: changed(log, flip(byte)) }, 'drive', { disk });
      expect({ byte, b: await look(store, 'b') }).toEqual({ byte, b: 3 });
      expect(errors).toMatchObject([{ code: 'STORE_CORRUPT' }]);
      store.abandon?.();
    }
  });

  it('D3: costs nothing that had expired, no deletion, and no token of a lock', async () => {
    const { log, starts } = await logOf(
      setOf('a', 1),
      setOf('brief', 2, now + 1_000),
      lock('door', 'ada'),
      stateOf({ kind: 'unlock', key: 'door', token: 1 }),
      lock('door', 'ben', now + 2_000),
      stateOf({ kind: 'delete', key: 'a' }),
      setOf('c', 4),
    );
    const damaged = changed(log, (bytes) => {
      for (const line of [2, 5, 6]) flip(bytes.indexOf('"state":{', starts[line]) + 12)(bytes);
    });
    const { store, errors } = await openStore({ dir: damaged });
    expect(errors).toHaveLength(3);
    expect(await look(store, 'a')).toBeUndefined();
    expect(await look(store, 'brief')).toBe('STORE_CORRUPT');
    await expect(store.commit(lock('door', 'cleo', now + 9_000))).rejects.toMatchObject({ code: 'STORE_CORRUPT' });
    await store.close();
    const later = await compacted(damaged, {}, now + 2_000);
    expect(await look(later.store, 'brief')).toBeUndefined();
    const taken = await committed(later.store, { ...lock('door', 'cleo', now + 9_000), now: now + 2_000 });
    expect(taken.state).toEqual([{ token: 3 }]);
    await later.store.close();
  });

  it('D8: of which nothing can be said, costs all older values; tokens grow beyond every one that was given out', async () => {
    const { log, starts } = await logOf(lock('door', 'ada'), setOf('a', 1), setOf('b', 2));
    const damaged = changed(log, (bytes) => void bytes.fill(120, starts[3]! + 5, bytes.length - 5));
    const { store, errors } = await openStore({ dir: damaged });
    expect([await look(store, 'a'), await look(store, 'b')]).toEqual(['STORE_CORRUPT', undefined]);
    expect(errors.length).toBeGreaterThan(0);
    const late = { ...lock('door', 'ben', now + 99_000), now: now + 60_000 };
    expect((await committed(store, late)).state[0]?.token).toBeGreaterThan(1_000);
    await store.close();
  });
});
