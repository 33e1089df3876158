import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { nodeDisk } from '../../adapters/file/disk.js';
import { fileStore } from '../../adapters/file/index.js';
import { createStepfast } from '../../src/index.js';
import { freshDir } from './file-folders.js';
import {
  committed,
  dispatchOf,
  linesOf,
  logPath as logOf,
  now,
  openStore,
  startOf,
  stepDone,
  stepOf,
} from './file-kit.js';

/*
 * Pins: what a torn or damaged log costs (spec D3), and that a newer one is left alone (D4).
 */

/** Thousands of openings: what they sync is not what these tests are about. */
const disk = { ...nodeDisk, sync: async () => {}, datasync: async () => {} };

/** A store with the runs a, b and c, two steps each, closed. */
async function threeRuns(): Promise<string> {
  const dir = freshDir();
  const { store } = await openStore({ dir });
  for (const runId of ['a', 'b', 'c']) await committed(store, startOf(runId, { idempotencyKey: `key ${runId}` }));
  for (const index of [1, 2]) for (const runId of ['a', 'b', 'c']) await committed(store, stepOf(runId, index));
  await store.close();
  return dir;
}

/** A folder with a changed copy of the log alone: nothing else is needed to open it. */
function changed(dir: string, change: (log: Buffer) => unknown): string {
  const copy = freshDir();
  mkdirSync(join(copy, 'log'), { recursive: true });
  const log = readFileSync(logOf(dir));
  const instead = change(log);
  writeFileSync(logOf(copy), Buffer.isBuffer(instead) ? instead : log);
  return copy;
}

async function look(dir: string) {
  const { store, errors } = await openStore({ dir }, 'drive', { disk });
  const lengths: Record<string, number | string> = {};
  for (const runId of ['a', 'b', 'c'])
    lengths[runId] = await store.load(runId).then(
      (run) => run?.journal.length ?? 0,
      (error: { code: string }) => error.code,
    );
  return { store, errors, lengths };
}

/** Flips a bit in the first step of b. */
const spoil = (log: Buffer) => void (log[linesOf(log)[5]! + 60]! ^= 1);

describe('D3: a damaged run, seen by an engine', () => {
  it('is blocked with STORE_CORRUPT, file and offset, alone and in lists; others go on', async () => {
    const dir = changed(await threeRuns(), spoil);
    const errors: unknown[] = [];
    const stepfast = createStepfast({ store: fileStore({ dir }), onError: (error) => errors.push(error) });
    stepfast.job('job', () => 'done');
    await stepfast.ready();
    const error = { code: 'STORE_CORRUPT', message: expect.stringContaining('log/00000001.jsonl') };
    const blocked = { id: 'b', job: 'job', status: 'blocked', error };
    expect(await stepfast.runs.get('b')).toMatchObject(blocked);
    for (const filter of [{}, { status: 'blocked' }, { job: 'job' }, { status: ['blocked', 'failed'] }] as const) {
      const { runs } = await stepfast.runs.list(filter);
      expect(runs.filter(({ id }) => id === 'b')).toMatchObject([blocked]);
    }
    for (const filter of [{ status: 'completed' }, { job: 'other' }, { tag: 'x' }] as const)
      expect((await stepfast.runs.list(filter)).runs.map(({ id }) => id)).not.toContain('b');
    const seen = await new Promise((resolve) => stepfast.runs.subscribe('b', resolve));
    expect(seen).toMatchObject(blocked);
    await expect(stepfast.runs.cancel('b')).rejects.toMatchObject({ code: 'STORE_CORRUPT', runId: 'b' });
    await expect(stepfast.runs.timeline('b')).rejects.toMatchObject({ code: 'STORE_CORRUPT' });
    expect(errors).toMatchObject([{ code: 'STORE_CORRUPT', runId: 'b', file: 'log/00000001.jsonl.corrupt' }]);
    await stepfast.close();
  });
});

describe('a torn log', () => {
  it('cut at any byte of its last record recovers to the state before it, and goes on', async () => {
    const dir = await threeRuns();
    const log = readFileSync(logOf(dir));
    const last = linesOf(log).at(-1)!;
    for (let size = last; size < log.length; size++) {
      const copy = changed(dir, () => {});
      truncateSync(logOf(copy), size);
      const { store, errors, lengths } = await look(copy);
      expect({ size, lengths, errors }).toEqual({ size, lengths: { a: 3, b: 3, c: 2 }, errors: [] });
      if (size % 32) {
        store.abandon?.(); // the cut itself is all that the other sizes are about
        continue;
      }
      await committed(store, stepOf('c', 2));
      await store.close();
      const again = await look(copy);
      expect(again.lengths).toEqual({ a: 3, b: 3, c: 3 });
      expect(again.errors).toEqual([]);
      await again.store.close();
    }
  });

  it('whose last record has blocks that never arrived recovers to the state before it', async () => {
    const dir = freshDir();
    const { store } = await openStore({ dir });
    await committed(store, startOf('a'));
    const before = statSync(logOf(dir)).size;
    const payload = 'x'.repeat(4_000);
    const entry = { ...stepDone(1), value: payload } as ReturnType<typeof stepDone>;
    await committed(store, {
      now,
      run: { runId: 'a', fence: 0, append: [entry], state: { status: 'running', version: 1, waits: [] } },
    });
    await store.close();
    const from = Math.ceil(before / 512) * 512 + 512;
    const copy = changed(dir, (log) => void log.fill(0, from, from + 1_024));
    const after = await openStore({ dir: copy });
    expect((await after.store.load('a'))?.journal).toHaveLength(1);
    expect(after.errors).toEqual([]);
    await after.store.close();
  });
});

describe('a damaged log', () => {
  it('costs the one run that a flipped bit hits, and says where, wherever in its record the bit is', async () => {
    const dir = await threeRuns();
    const log = readFileSync(logOf(dir));
    const starts = linesOf(log);
    const at = starts[5]!; // the first step of b
    expect(log.toString('utf8', at, starts[6])).toContain('"b"');
    for (let byte = at; byte < starts[6]! - 2; byte += 3) {
      const bit = byte % 8;
      const copy = changed(dir, (bytes) => void (bytes[byte]! ^= 1 << bit));
      const { store, errors, lengths } = await look(copy);
      expect({ byte, lengths }).toEqual({ byte, lengths: { a: 3, b: 'STORE_CORRUPT', c: 3 } });
      expect(errors.map(({ code, runId, file, offset }) => ({ code, runId, file, offset }))).toContainEqual({
        code: 'STORE_CORRUPT',
        runId: 'b',
        file: 'log/00000001.jsonl.corrupt',
        offset: at,
      });
      expect(readFileSync(`${logOf(copy)}.corrupt`).length).toBe(log.length);
      await store.close();
    }
  });

  it('keeps its bytes whole, also those behind a line of garbage that look like a write that never finished', async () => {
    const dir = await threeRuns();
    const log = readFileSync(logOf(dir));
    const lines = linesOf(log).filter((at) => at < log.length);
    const [garbageAt, lastAt] = lines.slice(-2) as [number, number];
    const last = Buffer.from(log.subarray(lastAt));
    last[0] = 0; // the last byte of a sector, as if the one before it had never been written
    const length = 1_023 - (garbageAt % 512);
    const garbage = Buffer.from(`${'x'.repeat(length - 1)}\n`);
    const damaged = Buffer.concat([log.subarray(0, garbageAt), garbage, last]);
    const copy = changed(dir, () => undefined);
    writeFileSync(logOf(copy), damaged);
    const { store, errors } = await look(copy);
    expect(errors.map(({ code }) => code)).toContain('STORE_CORRUPT');
    expect(readFileSync(`${logOf(copy)}.corrupt`).equals(damaged)).toBe(true);
    await store.close();
  });

  it('Q1, D3: of the record that started a run does not let its key start a second one, wherever the bit is', async () => {
    const dir = freshDir();
    const setup = await openStore({ dir });
    for (const runId of ['a', 'b', 'c'])
      await committed(setup.store, startOf(runId, { idempotencyKey: `key ${runId}` }));
    await committed(setup.store, stepOf('c', 1));
    await setup.store.close();
    const log = readFileSync(logOf(dir));
    for (const [runId, line] of [
      ['b', 2],
      ['c', 3],
    ] as const) {
      const at = linesOf(log)[line]!;
      const end = linesOf(log)[line + 1]!;
      // The texts of the id and the key themselves are all that leads from the one to the other.
      const texts = ['"runId":"', `"job":"`, `"idempotencyKey":"`].map((text) => log.indexOf(text, at));
      const isText = (byte: number) => texts.some((from) => byte >= from && byte < from + 30);
      for (let byte = at; byte < end - 2; byte += 3) {
        if (runId === 'b' && isText(byte)) continue;
        const copy = changed(dir, (bytes) => void (bytes[byte]! ^= 1 << (byte % 8)));
        const { store } = await openStore({ dir: copy }, 'drive', { disk });
        const again = startOf('another', { idempotencyKey: `key ${runId}` });
        const outcome = await store.commit(again).catch((error: { code: string }) => error.code);
        const started = typeof outcome === 'string' ? outcome : outcome.kind === 'committed' && outcome.starts[0];
        expect({ byte, started }).toEqual({ byte, started: { kind: 'exists', runId } });
        await store.close();
      }
    }
  });

  it('loses nothing when the bit is in the end of a line', async () => {
    const dir = await threeRuns();
    const starts = linesOf(readFileSync(logOf(dir)));
    for (const byte of [starts[6]! - 1, starts[6]! - 2]) {
      const copy = changed(dir, (bytes) => void (bytes[byte]! ^= 1));
      const { store, errors, lengths } = await look(copy);
      expect({ lengths, errors }).toEqual({ lengths: { a: 3, b: 3, c: 3 }, errors: [] });
      await store.close();
    }
  });

  it('never takes a flipped bit in the last, acknowledged record for a torn one', async () => {
    const dir = await threeRuns();
    const log = readFileSync(logOf(dir));
    const at = linesOf(log).at(-1)!;
    for (let byte = at; byte < log.length - 2; byte += 5) {
      const copy = changed(dir, (bytes) => void (bytes[byte]! ^= 1 << (byte % 8)));
      const { store, lengths } = await look(copy);
      expect({ byte, c: lengths.c }).toEqual({ byte, c: 'STORE_CORRUPT' });
      await store.close();
    }
  });

  it('names all runs of a stretch of several records', async () => {
    const dir = await threeRuns();
    const copy = changed(dir, (bytes) => {
      const starts = linesOf(bytes);
      bytes.fill(120, starts[4]! + 10, starts[6]! - 10); // first steps of a and b
    });
    const { store, lengths } = await look(copy);
    expect(lengths).toEqual({ a: 'STORE_CORRUPT', b: 'STORE_CORRUPT', c: 3 });
    await store.close();
  });

  it.each([
    ['zeros', () => 0],
    ['noise', (at: number) => [200, 1, 65, 255, 30, 128][at % 6]!],
  ])('of %s from one header to that of a later record does not pass for one record', async (_, byteAt) => {
    const dir = await threeRuns();
    const copy = changed(dir, (bytes) => {
      const [from, , last] = linesOf(bytes).slice(-3) as [number, number, number];
      const to = bytes.indexOf('"size"', last);
      for (let at = from + 60; at < to; at++) bytes[at] = byteAt(at);
    });
    const { store, errors, lengths } = await look(copy);
    expect(lengths).toEqual({ a: 'STORE_CORRUPT', b: 'STORE_CORRUPT', c: 'STORE_CORRUPT' });
    expect(errors.length).toBeGreaterThan(0);
    await store.close();
  });

  it('puts a run aside for good: nothing commits to it, wakes it, or starts it a second time', async () => {
    const dir = await threeRuns();
    const copy = changed(dir, (bytes) => void (bytes[linesOf(bytes)[5]! + 100]! ^= 4));
    for (const round of [1, 2, 3]) {
      const { store, errors, lengths } = await look(copy);
      expect({ round, lengths }).toEqual({
        round,
        lengths: { a: round === 1 ? 3 : round + 2, b: 'STORE_CORRUPT', c: 3 },
      });
      expect(errors.filter(({ runId }) => runId === 'b')).toHaveLength(1);
      await expect(store.commit(stepOf('b', 9))).rejects.toMatchObject({ code: 'STORE_CORRUPT', runId: 'b' });
      await expect(store.commit(startOf('b'))).rejects.toMatchObject({ code: 'STORE_CORRUPT' });
      const again = await committed(store, startOf('b2', { idempotencyKey: 'key b' }));
      expect(again.starts).toEqual([{ kind: 'exists', runId: 'b' }]);
      const due = await store.due({ now, owner: 'z', jobs: { job: 1 }, limit: 10, graceMs: 0 });
      expect(due.runs.map(({ row }) => row.runId)).not.toContain('b');
      await committed(store, stepOf('a', 2 + round));
      await store.close();
    }
  });

  it('keeps the other commits of one group when one of them is damaged', async () => {
    const dir = freshDir();
    const { store } = await openStore({ dir });
    await Promise.all(['a', 'b', 'c'].map((runId) => store.commit(startOf(runId))));
    await store.close();
    const copy = changed(dir, (bytes) => void (bytes[linesOf(bytes)[2]! + 5]! ^= 1));
    const { store: after, lengths } = await look(copy);
    expect(lengths).toEqual({ a: 1, b: 'STORE_CORRUPT', c: 1 });
    await after.close();
  });

  it('tells of a lost event that belonged to no run', async () => {
    const dir = freshDir();
    const { store } = await openStore({ dir });
    await committed(store, dispatchOf('one'));
    await committed(store, startOf('a'));
    await store.close();
    const copy = changed(dir, (bytes) => void (bytes[linesOf(bytes)[2]! - 20]! ^= 1));
    const { store: after, errors } = await openStore({ dir: copy });
    expect(errors).toMatchObject([{ code: 'STORE_CORRUPT', file: 'log/00000001.jsonl.corrupt' }]);
    await after.close();
  });

  it('ignores a line that stands there twice, and says so', async () => {
    const dir = await threeRuns();
    const copy = changed(dir, (log) => {
      const starts = linesOf(log);
      return Buffer.concat([log.subarray(0, starts[6]), log.subarray(starts[5], starts[6]), log.subarray(starts[6])]);
    });
    const { store, errors, lengths } = await look(copy);
    expect(lengths).toEqual({ a: 3, b: 3, c: 3 });
    expect(errors).toMatchObject([{ code: 'STORE_CORRUPT' }]);
    await store.close();
  });
});

describe('D3: what is gone as a whole is told of', () => {
  it.each<[string, (log: Buffer) => Buffer]>([
    ['an empty log', () => Buffer.alloc(0)],
    ['a log of zeros', (log) => Buffer.alloc(log.length)],
    ['a log that ends in its first record', (log) => log.subarray(0, 100)],
    ['a log without its first record', (log) => log.subarray(linesOf(log)[1])],
    ['a log without its first two records', (log) => log.subarray(linesOf(log)[2])],
  ])('%s', async (_, change) => {
    const dir = await threeRuns();
    const copy = changed(dir, change);
    const damaged = readFileSync(logOf(copy));
    const { store, errors } = await look(copy);
    expect(errors[0]).toMatchObject({ code: 'STORE_CORRUPT', file: 'log/00000001.jsonl.corrupt' });
    expect(readFileSync(`${logOf(copy)}.corrupt`)).toEqual(damaged);
    await committed(store, startOf('goes on'));
    await store.close();
  });

  it('a record of an event alone, in the middle of a log', async () => {
    const dir = freshDir();
    const { store } = await openStore({ dir });
    for (const id of ['one', 'two', 'three']) await committed(store, dispatchOf(id));
    await store.close();
    const copy = changed(dir, (log) => {
      const starts = linesOf(log);
      return Buffer.concat([log.subarray(0, starts[2]), log.subarray(starts[3])]);
    });
    const after = await openStore({ dir: copy });
    expect(after.errors).toMatchObject([{ code: 'STORE_CORRUPT' }]);
    await after.store.close();
  });

  it('a record of zeros before the last one does not pass for part of the last one', async () => {
    const dir = await threeRuns();
    const copy = changed(dir, (log) => {
      const starts = linesOf(log);
      log.fill(0, starts.at(-2)!, starts.at(-1)!); // the second step of b
    });
    const { store, errors, lengths } = await look(copy);
    expect(lengths).toEqual({ a: 3, b: 'STORE_CORRUPT', c: 3 });
    expect(errors.length).toBeGreaterThan(0);
    await store.close();
  });
});

describe('what stands above the log and does not follow it', () => {
  it.each([
    ['garbage', () => Buffer.from('junk\n')],
    ['nothing', () => Buffer.alloc(0)],
    ['a copy that is cut off', (log: Buffer) => log.subarray(0, linesOf(log)[4])],
  ])('D3: %s, is put aside and told of; the log below counts, and stays', async (_, made) => {
    const dir = await threeRuns();
    const stray = made(readFileSync(logOf(dir)));
    writeFileSync(logOf(dir, 2), stray);
    const { store, errors } = await openStore({ dir });
    for (const runId of ['a', 'b', 'c']) expect((await store.load(runId))?.journal).toHaveLength(3);
    expect(errors).toMatchObject([{ code: 'STORE_CORRUPT' }]);
    await committed(store, startOf('d'));
    await store.close();
    expect(readFileSync(`${logOf(dir, 2)}.corrupt`).equals(stray)).toBe(true);
    const after = await openStore({ dir });
    expect((await after.store.load('d'))?.journal).toHaveLength(1);
    expect(after.errors).toEqual([]);
    await after.store.close();
  });
});

describe('a log of a newer version', () => {
  it('D4: is refused and left untouched also when its checksums are none that this code knows', async () => {
    const dir = await threeRuns();
    const log = readFileSync(logOf(dir), 'utf8').replaceAll('{"v":1,', '{"v":2,');
    writeFileSync(logOf(dir), log);
    for (const mode of ['drive', 'use'] as const)
      await expect(openStore({ dir }, mode)).rejects.toMatchObject({ code: 'STORE_TOO_NEW' });
    expect(readFileSync(logOf(dir), 'utf8')).toBe(log);
  });

  it.each(['{"v":2,"anything":"else"}\n', '{"v":99}\n'])('is refused and left untouched: %s', async (line) => {
    const dir = await threeRuns();
    writeFileSync(logOf(dir, 2), line);
    const files = readdirSync(dir, { recursive: true }).sort();
    for (const mode of ['drive', 'use'] as const)
      await expect(openStore({ dir }, mode)).rejects.toMatchObject({ code: 'STORE_TOO_NEW' });
    expect(readdirSync(dir, { recursive: true }).sort()).toEqual(files);
    expect(readFileSync(logOf(dir, 2), 'utf8')).toBe(line);
    expect(existsSync(logOf(dir, 1))).toBe(true);
  });
});

describe('a log that somebody removes under its owner', () => {
  it.each([
    ['at the next commit', true],
    ['when it closes', false],
  ])('D1: is written anew %s, with all that it held, and that is told', async (_, commits) => {
    const dir = await threeRuns();
    const { store, errors } = await openStore({ dir });
    await committed(store, dispatchOf('kept'));
    unlinkSync(logOf(dir));
    expect((await store.load('a'))?.journal).toHaveLength(3); // what is open can be read
    if (commits) await committed(store, stepOf('a', 3));
    if (commits) await committed(store, startOf('new'));
    // What is acknowledged is on disk before it closes: a process that is killed here has lost nothing.
    const files = readdirSync(join(dir, 'log')).map((name) => readFileSync(join(dir, 'log', name), 'utf8'));
    expect(files.some((text) => text.includes('"new"'))).toBe(commits);
    await store.close();
    expect(errors).toMatchObject([{ code: 'STORE_UNAVAILABLE', file: expect.stringMatching(/log\/\d+\.jsonl/) }]);
    const after = await openStore({ dir });
    expect(after.errors).toEqual([]);
    expect((await after.store.load('a'))?.journal).toHaveLength(commits ? 4 : 3);
    expect((await after.store.load('c'))?.journal).toHaveLength(3);
    expect(await after.store.load('new')).toEqual(commits ? expect.anything() : undefined);
    const again = await after.store.commit(dispatchOf('kept'));
    expect(again).toMatchObject({ events: [{ kind: 'deduplicated' }] });
    await after.store.close();
  });
});
