import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type Disk, nodeDisk } from '../../adapters/file/disk.js';
import { createEnded } from '../../adapters/file/ended.js';
import type { RunRow } from '../../src/store/rows.js';
import { archivedRuns, listed, runPath } from './file-archived.js';
import { compacted, patience } from './file-compact.js';
import { freshDir, tempFolder } from './file-folders.js';
import { committed, completed, deleteOf, ended, keyPath, newRun, now, openStore } from './file-kit.js';
import { type Child, childScript, startChild } from './file-process.js';

/*
 * Pins: the index of ended runs tells the truth and does not grow for ever (spec Q6); a killed writer brings no deleted
 * run back (D1).
 */

const hasFiles = (dir: string, runId: string) =>
  existsSync(runPath(dir, runId)) || existsSync(keyPath(dir, `key ${runId}`));

/** For thousands of files and openings: what a sync makes durable is not lost when only a process ends. */
const unsynced: Disk = { ...nodeDisk, sync: async () => {}, datasync: async () => {} };

describe('the index of ended runs', () => {
  it('Q6: does not grow with runs that come and go, and is read alike by a process that has read an older one', async () => {
    const dir = freshDir();
    const { store: setup } = await openStore({ dir });
    const index = join(dir, 'ended.jsonl');
    const disk = unsynced;
    const ids = (round: number) => Array.from({ length: 200 }, (_, at) => `${round}:${at}`);
    await ended(setup, 'kept');
    await setup.close();
    const { store: reader } = await openStore({ dir }, 'use');
    const sizes: number[] = [];
    for (const round of [1, 2, 3]) {
      const { store } = await openStore({ dir }, 'drive', { disk, compactAt: 1e9 });
      await committed(store, {
        now,
        starts: ids(round).map((runId) => newRun(runId, { state: completed })),
      });
      await store.close();
      const { store: owner, errors } = await compacted(dir, { disk });
      expect((await reader.list({ limit: 1_000 })).runs).toHaveLength(201);
      const deletes = ids(round).map((runId) => ({ runId, fence: 0, fingerprint: '' }));
      await committed(owner, { now, deletes });
      await expect.poll(() => ids(round).filter((runId) => existsSync(runPath(dir, runId))), patience).toEqual([]);
      expect(await listed(owner)).toEqual(['kept']);
      expect(await listed(reader)).toEqual(['kept']);
      expect(errors).toEqual([]);
      await owner.close();
      sizes.push(statSync(index).size);
    }
    // One round is 400 lines, more than are ever kept of the past: a file that kept them all would grow with each.
    expect(sizes[2]).toBeLessThan(sizes[0]! * 1.5);
    expect(readFileSync(index, 'utf8').split('\n').length).toBeLessThan(400);
    const { store: last } = await openStore({ dir });
    expect(await listed(last)).toEqual(['kept']);
    await last.close();
    await reader.close();
  });

  it('is read from its start by who has read another one before, however alike the two are', async () => {
    const dir = tempFolder();
    const walk = (): AsyncIterable<RunRow> => {
      throw new Error('nothing is damaged here');
    };
    const owner = createEnded(nodeDisk, dir, walk, () => []);
    const reader = createEnded(nodeDisk, dir, walk, () => []);
    const row = (runId: string, seq: number): RunRow => ({
      ...{ runId, seq, job: 'job', queue: 'default', createdAt: now, fence: 0, length: 1 },
      ...completed,
    });
    await owner.add([row('a', 1), row('b', 2)]);
    expect([...(await reader.rows()).keys()]).toEqual(['a', 'b']);
    const many = Array.from({ length: 300 }, (_, index) => row(`x${index}`, 3));
    await owner.add(many);
    await owner.remove([row('b', 2), ...many]);
    await owner.add([row('c', 4)]);
    expect([...(await owner.rows()).keys()]).toEqual(['a', 'c']);
    expect([...(await reader.rows()).keys()]).toEqual(['a', 'c']);
  });

  it('D3: that is damaged where it says so does not bring a deleted run back into the list', async () => {
    const dir = await archivedRuns();
    const { store } = await openStore({ dir });
    await committed(store, deleteOf('b'));
    await expect.poll(() => hasFiles(dir, 'b')).toBe(false);
    await store.close();
    await (await compacted(dir)).store.close(); // from here on the index alone says so
    const index = join(dir, 'ended.jsonl');
    const text = readFileSync(index, 'utf8');
    const at = text.indexOf('"removed"');
    expect(at).toBeGreaterThan(0);
    for (let byte = at - 10; byte < at + 30; byte++) {
      const bytes = Buffer.from(text);
      bytes[byte]! ^= 1 << (byte % 3);
      writeFileSync(index, bytes);
      const reader = await openStore({ dir }, 'use');
      expect({ byte, is: await listed(reader.store) }).toEqual({ byte, is: ['live', 'c', 'a'] });
      await reader.store.close();
    }
  });
});

describe('the index of ended runs, cut off', () => {
  it('D3: lists what is there, also where as many lines of removed runs are left as are gone of others', async () => {
    const dir = await archivedRuns();
    const { store } = await openStore({ dir });
    await committed(store, deleteOf('b'));
    await expect.poll(() => hasFiles(dir, 'b')).toBe(false);
    await store.close();
    await (await compacted(dir)).store.close();
    const index = join(dir, 'ended.jsonl');
    const lines = readFileSync(index, 'utf8').split('\n');
    const isOf = (runId: string) => (line: string) => line.includes(`"row":{"runId":"${runId}"`);
    const kept = [lines[0]!, ...['a', 'b'].map((runId) => lines.find(isOf(runId))!)];
    writeFileSync(index, `${kept.join('\n')}\n`);
    const reader = await openStore({ dir }, 'use');
    expect(await listed(reader.store)).toEqual(['live', 'c', 'a']);
    await reader.store.close();
  });
});

it('D5: a disk that fails in the middle of a list fails it: a run that could not be read does not pass for none', async () => {
  const dir = await archivedRuns();
  let broken = false;
  const failing = () => Promise.reject(Object.assign(new Error('i/o'), { code: 'EIO' }));
  const disk: Disk = { ...nodeDisk, read: (...given) => (broken ? failing() : nodeDisk.read(...given)) };
  const { store } = await openStore({ dir }, 'use', { disk });
  expect(await listed(store)).toEqual(['live', 'c', 'b', 'a']);
  broken = true;
  await expect(store.list({ limit: 10 })).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
  await expect(store.load('a')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
  broken = false;
  expect(await listed(store)).toEqual(['live', 'c', 'b', 'a']);
  await store.close();
});

describe('a writer killed with SIGKILL', () => {
  const children: Child[] = [];
  afterAll(() => {
    for (const { process } of children) if (process.exitCode === null) process.kill('SIGKILL');
  });

  it('D1: brings no deleted run back, and loses no increment it acknowledged, in 15 lives on one folder', async () => {
    const script = childScript();
    const dir = freshDir();
    const deleted = new Set<string>();
    let counted = 0;
    for (let life = 0; life < 15; life++) {
      const child = startChild(script, 'churn', dir, String(life));
      children.push(child);
      await child.line(() => child.lines.length > 20 + ((life * 37) % 150));
      child.process.kill('SIGKILL');
      await child.ended;
      for (const line of child.lines) {
        const [word, of] = line.split(' ') as [string, string];
        if (word === 'deleted') deleted.add(of);
        if (word === 'counted') counted = Math.max(counted, Number(of));
      }
    }
    const { store, errors } = await openStore({ dir });
    expect(deleted.size).toBeGreaterThan(100);
    for (const runId of deleted) expect({ runId, is: await store.load(runId) }).toEqual({ runId, is: undefined });
    const still = new Set(await listed(store));
    expect([...deleted].filter((runId) => still.has(runId))).toEqual([]);
    const { value } = (await store.state('count')) as { value: number };
    expect(value).toBeGreaterThanOrEqual(counted);
    expect(value).toBeLessThanOrEqual(counted + 15);
    expect(errors).toEqual([]);
    await expect.poll(() => [...deleted].filter((runId) => hasFiles(dir, runId)), patience).toEqual([]);
    await store.close();
  }, 60_000);
});
