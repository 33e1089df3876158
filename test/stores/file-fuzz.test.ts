import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { nodeDisk } from '../../adapters/file/disk.js';
import type { Store } from '../../src/store/store.js';
import { compacted } from './file-compact.js';
import { freshDir } from './file-folders.js';
import {
  committed,
  completed,
  deleteOf,
  dispatchOf,
  ended,
  linesOf,
  logPath,
  newRun,
  now,
  openStore,
  running,
  setOf,
  startOf,
  stateOf,
  stepDone,
  stepOf,
} from './file-kit.js';

/*
 * Pins: whatever is damaged in a log that holds every kind of record, nothing is silently different (spec D3): each run
 * and each shared value is as it was, or answers `STORE_CORRUPT`, and somebody has been told.
 */

/** Thousands of openings: what they sync is not what these tests are about. */
const disk = { ...nodeDisk, sync: async () => {}, datasync: async () => {} };

const runs = ['a', 'b', 'c', 'd', 'gone', 'reused', 'batch 1', 'batch 2'];
const keys = ['k', 'l', 'unset', 'count', 'never'];

async function fill(store: Store): Promise<void> {
  for (const runId of ['a', 'b', 'c']) await committed(store, startOf(runId, { idempotencyKey: `key ${runId}` }));
  await committed(store, setOf('k', 1));
  await committed(store, setOf('unset', 1));
  await ended(store, 'gone');
  await ended(store, 'reused');
  await committed(store, stepOf('a', 1));
  await committed(store, deleteOf('gone'));
  await committed(store, { ...deleteOf('reused'), ...setOf('l', 2) });
  await committed(store, dispatchOf('e'));
  await committed(store, startOf('reused'));
  await committed(store, stepOf('reused', 1));
  await committed(store, {
    now,
    run: { runId: 'a', fence: 0, reset: true, append: [{ kind: 'started', at: now, payload: 2 }], state: running },
    state: [
      { kind: 'increment', key: 'count', by: 3 },
      { kind: 'delete', key: 'unset' },
    ],
  });
  await committed(store, {
    now,
    starts: [newRun('batch 1', { state: completed }), newRun('batch 2'), newRun('d', { parentId: 'a' })],
  });
  await committed(store, stepOf('b', 1));
  await committed(store, stateOf({ kind: 'increment', key: 'count', by: 4 }));
  await committed(store, stepOf('a', 3));
  for (const index of [2, 3, 4, 5, 6]) await committed(store, stepOf('c', index, { ...running, progress: index }));
}

type Seen = Record<string, string>;

async function look(store: Store): Promise<Seen> {
  const seen: Seen = {};
  const note = async (name: string, read: Promise<unknown>) => {
    seen[name] = await read.then(
      (value) => JSON.stringify(value) ?? 'absent',
      (error: { code: string }) => error.code,
    );
  };
  for (const runId of runs) await note(`run ${runId}`, store.load(runId));
  for (const key of keys) await note(`key ${key}`, store.state(key));
  return seen;
}

const differences = (truth: Seen, seen: Seen): string[] =>
  Object.keys(truth).filter((name) => truth[name] !== seen[name]);

/** A folder whose log holds all kinds of records, as they were written (`first`), or with a compaction before the end. */
async function folderOf(segment: 'first' | 'second') {
  const dir = freshDir();
  const { store } = await openStore({ dir }, 'drive', { disk });
  await fill(store);
  await store.close();
  if (segment === 'second') {
    const { store: after } = await compacted(dir, { disk });
    await committed(after, stepOf('b', 2));
    await committed(after, deleteOf('batch 1')); // which the archive holds
    await committed(after, setOf('l', 3));
    await committed(after, setOf('k', 3));
    await after.close();
  }
  const { store: last, errors } = await openStore({ dir }, 'drive', { disk });
  const truth = await look(last);
  await last.close();
  expect(errors).toEqual([]);
  const path = logPath(dir, segment === 'first' ? 1 : 2);
  const log = readFileSync(path);
  const withLog = (damaged: Buffer): string => {
    const copy = freshDir();
    mkdirSync(join(copy, 'log'), { recursive: true });
    writeFileSync(join(copy, path.slice(dir.length)), damaged);
    if (segment === 'second') cpSync(join(dir, 'runs'), join(copy, 'runs'), { recursive: true });
    return copy;
  };
  return { log, truth, withLog };
}

describe('a log of every kind of record', () => {
  it.each([
    ['first', 31],
    ['second', 29],
  ] as const)('in its %s segment: a flipped bit makes nothing silently different', async (segment, stride) => {
    const { log, truth, withLog } = await folderOf(segment);
    expect(truth).toMatchObject({ 'run gone': 'absent', 'key unset': 'absent', 'key never': 'absent' });
    const ends = new Set(linesOf(log).flatMap((start) => [start - 1, start - 2]));
    let hits = 0;
    for (let byte = 0; byte < log.length - 2; byte += stride) {
      const damaged = Buffer.from(log);
      damaged[byte]! ^= 1 << (byte % 8);
      const dir = withLog(damaged);
      const { store, errors } = await openStore({ dir }, 'drive', { disk });
      const seen = await look(store);
      const different = differences(truth, seen);
      expect({ byte, wrong: different.filter((name) => seen[name] !== 'STORE_CORRUPT') }).toEqual({ byte, wrong: [] });
      expect({ byte, isTold: errors.length > 0 }).toEqual({ byte, isTold: !ends.has(byte) });
      if (different.length) hits++;
      store.abandon?.();
      if (byte % 4) {
        rmSync(dir, { recursive: true });
        continue;
      }
      const again = await openStore({ dir }, 'drive', { disk });
      expect({ byte, again: await look(again.store) }).toEqual({ byte, again: seen });
      again.store.abandon?.();
    }
    expect(hits).toBeGreaterThan(30);
  });

  it('with a stretch of lost bytes makes nothing silently different', async () => {
    const { log, truth, withLog } = await folderOf('first');
    const starts = linesOf(log);
    for (let from = 1; from < starts.length - 3; from++)
      for (const count of [2, 3, 5]) {
        const to = starts[from + count] ?? log.length;
        const damaged = Buffer.from(log);
        damaged.fill(120, starts[from]! + 4, to - 4);
        const { store, errors } = await openStore({ dir: withLog(damaged) }, 'drive', { disk });
        const seen = await look(store);
        const wrong = differences(truth, seen).filter((name) => seen[name] !== 'STORE_CORRUPT');
        // What was never heard of, or not since it was deleted, is not missed.
        const text = Buffer.concat([log.subarray(0, starts[from]), log.subarray(to)]).toString('utf8');
        const known = wrong.filter((name) => {
          const id = name.slice(4);
          return text.includes(`["${id}",`, text.lastIndexOf(`"removed":[{"runId":"${id}"`));
        });
        expect({ from, count, known }).toEqual({ from, count, known: [] });
        expect(errors.length).toBeGreaterThan(0);
        store.abandon?.();
      }
  });

  it('cut at the start of any record holds exactly what was committed before it', async () => {
    const { log, truth, withLog } = await folderOf('first');
    const starts = linesOf(log);
    for (const start of starts.slice(1)) {
      const { store, errors } = await openStore({ dir: withLog(log.subarray(0, start + 30)) }, 'drive', { disk });
      expect(errors).toEqual([]);
      const seen = await look(store);
      expect(Object.values(seen)).not.toContain('STORE_CORRUPT');
      expect(differences(truth, seen)).not.toEqual([]);
      store.abandon?.();
    }
  });
});

it('D8: a value that was damaged and set again is as any other', async () => {
  const { log, withLog } = await folderOf('first');
  const damaged = Buffer.from(log);
  damaged[damaged.lastIndexOf('"count","value":7') + 16]! ^= 1;
  const dir = withLog(damaged);
  const { store } = await openStore({ dir }, 'drive', { disk });
  await expect(store.state('count')).rejects.toMatchObject({ code: 'STORE_CORRUPT' });
  await committed(store, setOf('count', 7));
  await committed(store, { now, run: { runId: 'b', fence: 0, append: [stepDone(9)], state: running } });
  await store.close();
  const { store: after, errors } = await openStore({ dir }, 'drive', { disk });
  expect(await after.state('count')).toMatchObject({ value: 7 });
  expect(errors).toEqual([]);
  await after.close();
});
