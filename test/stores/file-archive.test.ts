import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join, sep } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type Disk, nodeDisk } from '../../adapters/file/disk.js';
import type { Store } from '../../src/store/store.js';
import { freshDir } from './file-folders.js';
import {
  archivePath,
  cancelOf,
  committed,
  completed,
  dispatchOf,
  endOf,
  keyPath,
  now,
  openStore,
  running,
  startOf,
  stepDone,
  stepOf,
} from './file-kit.js';
import { type Child, childScript, startChild } from './file-process.js';

/*
 * Pins: compaction keeps everything, wherever it is interrupted; ended runs cost a start-up nothing; a killed writer
 * loses nothing it acknowledged (spec D1).
 */

const archived = (dir: string, runId: string) => archivePath(dir, 'runs', runId);
const segments = (dir: string) => readdirSync(join(dir, 'log')).filter((name) => name.endsWith('.jsonl'));

/** Twenty ended runs with keys, a cancelled one, three live ones, events; big enough to be compacted. */
async function fill(store: Store): Promise<void> {
  for (let index = 0; index < 20; index++) {
    const runId = `ended ${index}`;
    await committed(store, startOf(runId, { idempotencyKey: `key ${index}`, tags: ['old'] }));
    await committed(store, stepOf(runId, 1));
    await committed(store, endOf(runId));
  }
  for (const runId of ['x', 'y', 'z']) {
    await committed(store, startOf(runId, { idempotencyKey: `key ${runId}` }));
    for (let index = 1; index <= 4; index++) await committed(store, stepOf(runId, index));
  }
  for (const id of ['e1', 'e2']) await committed(store, dispatchOf(id, 'k'));
}

async function assertAllThere(store: Store): Promise<void> {
  for (let index = 0; index < 20; index++) {
    const run = await store.load(`ended ${index}`);
    expect(run?.row).toMatchObject({ runId: `ended ${index}`, status: 'completed', length: 3 });
    expect(run?.journal.map(({ kind }) => kind)).toEqual(['started', 'step-completed', 'completed']);
  }
  for (const runId of ['x', 'y', 'z']) expect((await store.load(runId))?.journal).toHaveLength(5);
  const seen: string[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await store.list({ limit: 7, ...(cursor !== undefined && { cursor }) });
    seen.push(...page.runs.map(({ row }) => row.runId));
    cursor = page.nextCursor;
    if (cursor === undefined) break;
  }
  expect(seen).toEqual(['z', 'y', 'x', ...Array.from({ length: 20 }, (_, index) => `ended ${19 - index}`)]);
  expect((await store.list({ limit: 100, tag: 'old', status: 'completed' })).runs).toHaveLength(20);
  expect((await store.list({ limit: 100, status: 'running' })).runs).toHaveLength(3);
}

async function assertKnown(store: Store): Promise<void> {
  for (const key of ['3', 'x']) {
    const again = await committed(store, startOf(`new ${key}`, { idempotencyKey: `key ${key}` }));
    expect(again.starts).toEqual([{ kind: 'exists', runId: key === 'x' ? 'x' : 'ended 3' }]);
  }
  expect((await committed(store, startOf('ended 4'))).starts).toEqual([{ kind: 'exists', runId: 'ended 4' }]);
  expect((await committed(store, dispatchOf('e1', 'k'))).events[0]?.kind).toBe('deduplicated');
  expect((await store.commit(cancelOf('ended 5'))).kind).toBe('ended');
}

/** Whether the log, in whatever segment, still tells of an ended run. */
function holdsEnded(dir: string): boolean {
  try {
    return readFileSync(join(dir, 'log', segments(dir).sort().at(-1)!), 'utf8').includes('"ended ');
  } catch {
    return true; // replaced between the two looks: look again
  }
}

/** A filled store all of whose ended runs are in the archive alone. */
async function compacted(dir: string) {
  const { store, errors } = await openStore({ dir }, 'drive', { compactAt: 1_000 });
  await fill(store);
  for (let index = 0; holdsEnded(dir); index++) {
    expect(index, 'events until the log is compacted again').toBeLessThan(3_000);
    await committed(store, dispatchOf(`filler ${index}`, `other ${index}`));
  }
  return { store, errors };
}

it('D3: a damaged key file is refused, wherever its bit is flipped: it never leads to another run', async () => {
  const dir = freshDir();
  const { store } = await compacted(dir);
  const path = keyPath(dir, 'key 3');
  const sound = readFileSync(path);
  const again = () => store.commit(startOf('new 3', { idempotencyKey: 'key 3' }));
  const known = { kind: 'committed', starts: [{ kind: 'exists', runId: 'ended 3' }] };
  let refused = 0;
  for (let byte = 0; byte < sound.length; byte++) {
    const damaged = Buffer.from(sound);
    damaged[byte]! ^= 1;
    writeFileSync(path, damaged);
    const answer: object = await again().catch((error: { code: string; file: string }) => error);
    if ('starts' in answer)
      expect({ byte, answer }).toMatchObject({ byte, answer: known }); // white space alone
    else if (refused++ === 0) expect(answer).toMatchObject({ file: path.slice(dir.length + 1) });
  }
  expect(refused).toBeGreaterThan(sound.length / 2);
  writeFileSync(path, sound);
  expect(await again()).toMatchObject(known);
  await store.close();
});

it.each<[string, (path: string) => void]>([
  ['removed', (path) => rmSync(path)],
  ['emptied', (path) => writeFileSync(path, '')],
  [
    'shorter by lines',
    (path) => writeFileSync(path, `${readFileSync(path, 'utf8').split('\n').slice(0, 9).join('\n')}\n`),
  ],
])('D3: lists every ended run also when its index was %s', async (_, damage) => {
  const dir = freshDir();
  const { store } = await compacted(dir);
  await store.close();
  damage(join(dir, 'ended.jsonl'));
  const { store: after } = await openStore({ dir });
  await assertAllThere(after);
  await after.close();
});

describe('compaction', () => {
  it('keeps every run, event and key, for its owner, for a reader, and after a restart', async () => {
    const dir = freshDir();
    const { store, errors } = await compacted(dir);
    await assertAllThere(store);
    const { store: reader } = await openStore({ dir }, 'use');
    await assertAllThere(reader);
    await assertKnown(store);
    await store.close();
    await assertAllThere(reader);
    await reader.close();
    const after = await openStore({ dir });
    await assertAllThere(after.store);
    await assertKnown(after.store);
    expect([...errors, ...after.errors]).toEqual([]);
    expect(segments(dir)).toHaveLength(1);
    await after.store.close();
  });

  it('leaves a file that a person can read for each ended run', async () => {
    const dir = freshDir();
    const { store } = await compacted(dir);
    await store.close();
    const file = JSON.parse(readFileSync(archived(dir, 'ended 0'), 'utf8'));
    expect(file).toMatchObject({
      v: 1,
      runId: 'ended 0',
      row: { status: 'completed' },
      journal: [{ kind: 'started' }, {}, {}],
    });
  });

  it('loses nothing when the disk fails at any of its calls', async () => {
    for (let failAt = 1; ; failAt++) {
      const dir = freshDir();
      const setup = await openStore({ dir });
      await fill(setup.store);
      await setup.store.close();
      let calls = 0;
      let isCounting = false;
      const counted =
        <A extends unknown[], R>(run: (...given: A) => Promise<R>) =>
        (...given: A): Promise<R> => {
          if (isCounting && ++calls === failAt)
            return Promise.reject(Object.assign(new Error('EIO: no'), { code: 'EIO' }));
          return run(...given);
        };
      const { write, sync, rename, unlink, truncate, chmod } = nodeDisk;
      const disk: Disk = {
        ...nodeDisk,
        write: counted(write),
        sync: counted(sync),
        rename: counted(rename),
        unlink: counted(unlink),
        truncate: counted(truncate),
        chmod: counted(chmod),
      };
      const { store, errors } = await openStore({ dir }, 'drive', { disk, compactAt: 1_000_000 });
      await store.close();
      const again = await openStore({ dir }, 'drive', { disk, compactAt: 100 });
      isCounting = true; // compaction has just begun, in the background
      await expect.poll(() => again.errors.length > 0 || segments(dir).join() === '00000002.jsonl').toBe(true);
      await again.store.commit(stepOf('x', 5)).catch(() => committed(again.store, stepOf('x', 5)));
      isCounting = false;
      again.store.abandon?.();
      const after = await openStore({ dir });
      expect((await after.store.load('x'))?.journal).toHaveLength(6);
      for (let index = 0; index < 20; index++)
        expect((await after.store.load(`ended ${index}`))?.journal).toHaveLength(3);
      expect((await after.store.list({ limit: 100 })).runs).toHaveLength(23);
      expect([...errors, ...after.errors]).toEqual([]);
      await after.store.close();
      if (calls < failAt) break;
      if (failAt > 12) failAt += 20; // the many files of the archive are all alike
    }
  }, 60_000);

  it('brings a retried run back from the archive, with its journal, and archives it again', async () => {
    const dir = freshDir();
    const { store, errors } = await compacted(dir);
    const batch = {
      now,
      run: {
        runId: 'ended 0',
        fence: 0,
        raise: true,
        append: [{ kind: 'retried', at: now, forgets: [] }],
        state: running,
      },
    } as const;
    expect((await committed(store, batch)).fence).toBe(1);
    expect((await store.load('ended 0'))?.journal).toHaveLength(4);
    expect((await store.list({ limit: 100, status: 'running' })).runs).toHaveLength(4);
    await store.close();
    const { store: after } = await openStore({ dir }, 'drive', { compactAt: 1_000 });
    expect((await after.load('ended 0'))?.row).toMatchObject({ status: 'running', fence: 1, length: 4 });
    const end = {
      now,
      run: {
        runId: 'ended 0',
        fence: 1,
        append: [stepDone(2)],
        state: { status: 'failed', version: 1, waits: [], endedAt: now },
      },
    } as const;
    await committed(after, end);
    for (let index = 5; !readFileSync(archived(dir, 'ended 0'), 'utf8').includes('"failed"'); index++) {
      expect(index, 'steps until the log is compacted again').toBeLessThan(3_000);
      await committed(after, stepOf('y', index));
    }
    expect((await after.load('ended 0'))?.journal).toHaveLength(5);
    expect((await after.list({ limit: 100, status: 'failed' })).runs.map(({ row }) => row.runId)).toEqual(['ended 0']);
    expect(errors).toEqual([]);
    await after.close();
  });

  it('begins when nothing was committed for a while; beside commits only where the log has grown far beyond that', async () => {
    const segment = (dir: string) => Number.parseInt(segments(dir)[0]!, 10);
    const dir = freshDir();
    const { store } = await openStore({ dir }, 'drive', { compactAt: 8_000, quietMs: 300 });
    let count = 0;
    const step = async () => {
      if (count === 0) await committed(store, startOf('x'));
      else await committed(store, stepOf('x', count));
      count++;
    };
    while (statSync(join(dir, 'log', segments(dir)[0]!)).size < 16_000) await step();
    expect(segment(dir)).toBe(1);
    while (segment(dir) === 1) {
      await step();
      expect(count).toBeLessThan(3_000);
    }
    await store.close();
    const quiet = freshDir();
    const small = await openStore({ dir: quiet }, 'drive', { compactAt: 1_000, quietMs: 50 });
    await committed(small.store, startOf('x'));
    for (let index = 1; index <= 4; index++) await committed(small.store, stepOf('x', index));
    await expect.poll(() => segment(quiet)).toBe(2);
    await small.store.close();
    // What was compacted is not compacted again because somebody opens it.
    const again = await openStore({ dir: quiet }, 'drive', { compactAt: 1_000, quietMs: 50 });
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(segment(quiet)).toBe(2);
    expect((await again.store.load('x'))?.journal).toHaveLength(5);
    await again.store.close();
  });

  it.each([
    ['is gone', () => {}],
    ['is a link', (path: string) => symlinkSync('/etc/hostname', path)],
    ['is a folder', (path: string) => mkdirSync(path)],
    ['is cut off', (path: string, bytes: Buffer) => writeFileSync(path, bytes.subarray(0, 100))],
  ])('a run whose file %s is told of as damaged, in lists as well; others are listed', async (_, spoil) => {
    const dir = freshDir();
    await (await compacted(dir)).store.close();
    const path = archived(dir, 'ended 7');
    const bytes = readFileSync(path);
    rmSync(path);
    spoil(path, bytes);
    const { store, errors } = await openStore({ dir });
    const { runs, lost } = await store.list({ limit: 100 });
    expect(runs).toHaveLength(22);
    const file = path.slice(dir.length + 1);
    expect(lost).toMatchObject([{ code: 'STORE_CORRUPT', runId: 'ended 7', file }]);
    expect(errors).toEqual(lost);
    await store.close();
  });

  it('of a store with a damaged run keeps that run aside, and its bytes', async () => {
    const dir = freshDir();
    const setup = await openStore({ dir });
    await fill(setup.store);
    await setup.store.close();
    const log = join(dir, 'log', '00000001.jsonl');
    const bytes = readFileSync(log);
    bytes[bytes.indexOf('"ended 7"') + 120]! ^= 1;
    writeFileSync(log, bytes);
    const { store } = await openStore({ dir }, 'drive', { compactAt: 1_000 });
    await expect.poll(() => existsSync(archived(dir, 'ended 19'))).toBe(true);
    await fillMore(store);
    await expect(store.load('ended 7')).rejects.toMatchObject({ code: 'STORE_CORRUPT' });
    await store.close();
    const after = await openStore({ dir });
    await expect(after.store.load('ended 7')).rejects.toMatchObject({
      code: 'STORE_CORRUPT',
      file: 'log/00000001.jsonl.corrupt',
    });
    expect(readFileSync(`${log}.corrupt`).equals(bytes)).toBe(true);
    await after.store.close();
  });
});

async function fillMore(store: Store): Promise<void> {
  for (let index = 5; index < 60; index++) await committed(store, stepOf('y', index));
}

describe('the archive', () => {
  it('is not read when a store opens, however many runs it holds', async () => {
    const dir = freshDir();
    const { store } = await compacted(dir);
    await store.close();
    const opened: string[] = [];
    const disk: Disk = {
      ...nodeDisk,
      open(path, flags) {
        opened.push(path);
        return nodeDisk.open(path, flags);
      },
    };
    const { store: after } = await openStore({ dir }, 'drive', { disk });
    await after.due({ now, owner: 'a', jobs: { job: 1 }, limit: 10, graceMs: 0 });
    await committed(after, startOf('new', { idempotencyKey: 'new' }));
    await after.list({ limit: 10, status: 'running' });
    expect(opened.length).toBeGreaterThan(0);
    expect(opened.filter((path) => /runs|keys|ended/.test(path.slice(dir.length)))).toEqual([]);
    await after.close();
  });

  it('answers for a damaged or exchanged file with its name, and for the others as ever', async () => {
    const dir = freshDir();
    const { store, errors } = await compacted(dir);
    const file = archived(dir, 'ended 1');
    writeFileSync(file, readFileSync(file, 'utf8').replace('"result": 1', '"result": 2'));
    writeFileSync(archived(dir, 'ended 2'), readFileSync(archived(dir, 'ended 3')));
    writeFileSync(archived(dir, 'ended 4'), '{"v":2}');
    await expect(store.load('ended 1')).rejects.toMatchObject({
      code: 'STORE_CORRUPT',
      runId: 'ended 1',
      file: file.slice(dir.length + 1),
    });
    await expect(store.load('ended 2')).rejects.toMatchObject({ code: 'STORE_CORRUPT' });
    await expect(store.load('ended 4')).rejects.toMatchObject({ code: 'STORE_TOO_NEW' });
    expect((await store.load('ended 3'))?.journal).toHaveLength(3);
    const page = await store.list({ limit: 100 });
    expect(page.runs).toHaveLength(20);
    expect(errors.map(({ code }) => code).sort()).toEqual(['STORE_CORRUPT', 'STORE_CORRUPT', 'STORE_TOO_NEW']);
    await store.close();
  });

  it('D3: files that other programs leave in its folders are none of its own', async () => {
    const dir = freshDir();
    const { store } = await compacted(dir);
    await store.close();
    for (const place of ['.DS_Store', 'runs/.DS_Store', 'runs/notes.json', 'keys/.DS_Store', 'log/.DS_Store'])
      writeFileSync(join(dir, place), 'x');
    writeFileSync(join(archived(dir, 'ended 3'), '..', 'Thumbs.json'), 'x');
    rmSync(join(dir, 'ended.jsonl'));
    const after = await openStore({ dir });
    await assertAllThere(after.store);
    expect(after.errors).toEqual([]);
    await after.store.close();
  });

  it('lists its runs also when its index is damaged', async () => {
    const dir = freshDir();
    const { store } = await compacted(dir);
    await store.close();
    const index = join(dir, 'ended.jsonl');
    writeFileSync(index, readFileSync(index, 'utf8').replaceAll('completed', 'complexed'));
    const after = await openStore({ dir });
    await assertAllThere(after.store);
    await after.store.close();
  });
});

describe('a writer killed with SIGKILL', () => {
  const children: Child[] = [];
  afterAll(() => {
    for (const { process } of children) if (process.exitCode === null) process.kill('SIGKILL');
  });

  it('loses nothing it acknowledged, in 25 lives on one folder', async () => {
    const script = childScript();
    const dir = freshDir();
    const acknowledged = new Map<string, number>();
    for (let life = 0; life < 25; life++) {
      const child = startChild(script, 'write', dir, String(life));
      children.push(child);
      // Killed after a number of acknowledgements that differs from life to life.
      await child.line(() => child.lines.length > 20 + ((life * 37) % 150));
      child.process.kill('SIGKILL');
      await child.ended;
      for (const line of child.lines.slice(1)) {
        const at = line.lastIndexOf(' ');
        acknowledged.set(line.slice(0, at), Number(line.slice(at + 1)));
      }
    }
    const { store, errors } = await openStore({ dir });
    expect(acknowledged.size).toBeGreaterThan(200);
    for (const [runId, length] of acknowledged) {
      const run = await store.load(runId);
      expect({ runId, found: run?.journal.length }).toEqual({
        runId,
        found: expect.toSatisfy((n: number) => n === length || n === length + 1),
      });
      expect(run?.row.length).toBe(run?.journal.length);
    }
    expect(errors).toEqual([]);
    await store.close();
  }, 60_000);
});

describe('Q6: owners that live too shortly for a quiet moment', () => {
  const sizeOf = (dir: string) =>
    readdirSync(join(dir, 'log')).reduce((sum, name) => sum + statSync(join(dir, 'log', name)).size, 0);
  const live = async (dir: string, life: number, runs = 40) => {
    const { store, errors } = await openStore({ dir }, 'drive', { compactAt: 10_000, quietMs: 60_000 });
    for (let n = 0; n < runs; n++) {
      const runId = `run-${life}-${n}`;
      await store.commit(startOf(runId, { idempotencyKey: runId }));
      await store.commit({
        now,
        run: { runId, fence: 0, append: [{ kind: 'completed', at: now, value: n }], state: completed },
      });
    }
    return { store, errors };
  };

  it('do not leave a log that grows for ever', async () => {
    const dir = freshDir();
    const sizes: number[] = [];
    for (let life = 0; life < 12; life++) {
      const { store, errors } = await live(dir, life);
      await store.close();
      expect(errors).toEqual([]);
      sizes.push(sizeOf(dir));
    }
    expect(Math.max(...sizes)).toBeLessThan(60_000);
    expect(sizes.filter((size, index) => size < (sizes[index - 1] ?? 0)).length).toBeGreaterThan(1);
    const { store } = await live(dir, 12, 0);
    expect((await store.list({ limit: 1_000 })).runs).toHaveLength(480);
    await store.close();
  });

  it('go on where the one before was cut short: what it has archived is not written again', async () => {
    const dir = freshDir();
    const { store } = await live(dir, 0);
    await store.close();
    let written = 0;
    const counting = (limit: number): Disk => ({
      ...nodeDisk,
      rename: async (from, to) => {
        if (to.includes(`${sep}runs${sep}`) && ++written > limit)
          throw Object.assign(new Error('cut short'), { code: 'EIO' });
        return nodeDisk.rename(from, to);
      },
    });
    const first = await openStore({ dir }, 'drive', { compactAt: 100, disk: counting(15) });
    await expect.poll(() => first.errors.length).toBeGreaterThan(0);
    await first.store.close();
    const kept = readdirSync(join(dir, 'runs'), { recursive: true }).filter((name) =>
      String(name).endsWith('.json'),
    ).length;
    expect(kept).toBeGreaterThan(10);
    written = 0;
    const second = await openStore({ dir }, 'drive', { compactAt: 100, disk: counting(Number.POSITIVE_INFINITY) });
    await expect.poll(() => sizeOf(dir), { timeout: 10_000 }).toBeLessThan(1_000);
    expect(written).toBe(40 - kept);
    expect((await second.store.list({ limit: 1_000 })).runs).toHaveLength(40);
    expect((await second.store.load('run-0-7'))?.journal.at(-1)).toMatchObject({ kind: 'completed', value: 7 });
    await second.store.close();
  });
});
