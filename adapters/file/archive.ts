import fs from 'node:fs';
import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { FORMAT_VERSION } from '../../src/journal.js';
import type { RunRow, StoredRun } from '../../src/store.js';
import { replaceFile, sweep, TEMPORARY } from './atomic-write.js';
import { corrupt, tooNew } from './damage.js';
import type { Disk } from './disk.js';
import {
  APPEND_OR_CREATE,
  ensureFolder,
  exists,
  hashName,
  namesIn,
  openRegular,
  readAt,
  readRegular,
  syncFolder,
  writeAll,
} from './files.js';
import { keyText } from './image.js';

/*
 * Ended runs, out of the log: one readable file a run, one small file an idempotency key, and an index line for `list`.
 *
 * Compaction writes them before the log forgets the run, each as a whole, so a crash between leaves a run in both
 * places and the log's copy counts; writing one again changes nothing. Nothing here is read when a store opens.
 */

/** Files written at the same time: half of what the thread pool of Node takes, so that commits need not queue behind. */
const PARALLEL = 2;

export interface Archive {
  /** Cheap (one look at a name): a miss is the common case when a run is started. */
  has(runId: string): boolean;
  /** @throws {StepfastError} `STORE_CORRUPT` when the file is damaged, or is another run's. */
  read(runId: string): Promise<StoredRun | undefined>;
  runByKey(job: string, idempotencyKey: string): Promise<string | undefined>;
  /** Keeps these runs, durably. `isWanted` is asked between files, so that a closing store need not wait. */
  write(runs: AsyncIterable<StoredRun>, isWanted: () => boolean): Promise<void>;
  /** The rows of all ended runs. */
  rows(): Promise<ReadonlyMap<string, RunRow>>;
}

const sumOf = (value: unknown): string => crc32(JSON.stringify(value)).toString(16).padStart(8, '0');

interface RunFile extends StoredRun {
  readonly v: number;
  readonly runId: string;
  readonly sum: string;
}

export function createArchive(disk: Disk, dir: string, onError: (error: unknown) => void): Archive {
  const pathOf = (kind: 'runs' | 'keys', name: string) => join(dir, kind, name.slice(0, 2), `${name}.json`);
  const relative = (path: string) => path.slice(dir.length + 1).replaceAll('\\', '/');
  const index = join(dir, 'ended.jsonl');
  const known = new Map<string, RunRow>();
  let indexed = 0;

  /** A file of this archive, if its text reads and its version is known. */
  const parse = async <T extends { readonly v: number }>(path: string, runId?: string): Promise<T | undefined> => {
    const bytes = await readRegular(disk, path);
    if (!bytes) return undefined;
    const place = { file: relative(path), offset: 0, ...(runId !== undefined && { runId }) };
    let value: T;
    try {
      value = JSON.parse(bytes.toString('utf8')) as T;
    } catch {
      throw corrupt(place);
    }
    if (typeof value?.v !== 'number') throw corrupt(place);
    if (value.v > FORMAT_VERSION) throw tooNew(place.file, value.v);
    return value;
  };

  const readFile = async (path: string, runId?: string): Promise<StoredRun | undefined> => {
    const file = await parse<RunFile>(path, runId);
    if (!file) return undefined;
    const { row, journal } = file;
    const fits = (runId === undefined || file.runId === runId) && row?.runId === file.runId;
    if (!fits || sumOf([row, journal]) !== file.sum)
      throw corrupt({ file: relative(path), offset: 0, ...(runId !== undefined && { runId }) });
    return { row, journal };
  };

  const put = async (path: string, value: unknown, folders: Set<string>) => {
    const folder = dirname(path);
    ensureFolder(dirname(folder));
    ensureFolder(folder);
    await replaceFile(disk, path, `${JSON.stringify(value, null, 2)}\n`, { folder: false });
    folders.add(folder);
  };

  const putRun = async (run: StoredRun, folders: Set<string>) => {
    const { row, journal } = run;
    const { runId, job, idempotencyKey } = row;
    const sum = sumOf([row, journal]);
    await put(pathOf('runs', hashName(runId)), { v: FORMAT_VERSION, runId, sum, row, journal }, folders);
    if (idempotencyKey === undefined) return;
    const path = pathOf('keys', hashName(keyText(job, idempotencyKey)));
    await put(path, { v: FORMAT_VERSION, job, idempotencyKey, runId }, folders);
  };

  const appendIndex = async (rows: readonly RunRow[]) => {
    const fd = await openRegular(disk, index, APPEND_OR_CREATE);
    if (fd === undefined) return;
    try {
      await disk.chmod(fd, 0o600);
      // The blank line in front ends a line that a crash has cut off.
      const lines = rows.map((row) => `${JSON.stringify({ v: FORMAT_VERSION, sum: sumOf(row), row })}\n`);
      await writeAll(disk, fd, Buffer.from(`\n${lines.join('')}`));
      await disk.sync(fd);
    } finally {
      await disk.close(fd);
    }
    await syncFolder(disk, dir);
  };

  /** The index can be made again from the files it lists. */
  const walk = async () => {
    for (const shard of namesIn(join(dir, 'runs'), ''))
      for (const name of namesIn(join(dir, 'runs', shard), '.json'))
        try {
          const run = await readFile(join(dir, 'runs', shard, name));
          if (run) known.set(run.row.runId, run.row);
        } catch (error) {
          onError(error);
        }
  };

  return {
    has: (runId) => exists(pathOf('runs', hashName(runId))),
    read: (runId) => readFile(pathOf('runs', hashName(runId)), runId),
    async runByKey(job, idempotencyKey) {
      const path = pathOf('keys', hashName(keyText(job, idempotencyKey)));
      if (!exists(path)) return undefined;
      const file = await parse<{ v: number; job: string; idempotencyKey: string; runId: string }>(path);
      if (file && (file.job !== job || file.idempotencyKey !== idempotencyKey))
        throw corrupt({ file: relative(path), offset: 0 });
      return file?.runId;
    },
    async write(runs, isWanted) {
      const folders = new Set<string>();
      const rows: RunRow[] = [];
      const failures: unknown[] = [];
      const underWay = new Set<Promise<void>>();
      for await (const run of runs) {
        if (!isWanted() || failures.length) break;
        const work = putRun(run, folders)
          .then(
            () => void rows.push(run.row),
            (error) => void failures.push(error),
          )
          .finally(() => underWay.delete(work));
        underWay.add(work);
        if (underWay.size >= PARALLEL) await Promise.race(underWay);
      }
      await Promise.all(underWay);
      if (failures.length) throw failures[0];
      for (const folder of folders) {
        await syncFolder(disk, folder);
        for (const name of namesIn(folder, TEMPORARY)) await sweep(disk, join(folder, name));
      }
      if (folders.size)
        for (const kind of ['runs', 'keys']) if (exists(join(dir, kind))) await syncFolder(disk, join(dir, kind));
      if (rows.length) await appendIndex(rows);
    },
    async rows() {
      const fd = await openRegular(disk, index, fs.constants.O_RDONLY);
      if (fd === undefined) return known;
      try {
        const bytes = await readAt(disk, fd, indexed, Math.max(0, (await disk.stat(fd)).size - indexed));
        const whole = bytes.subarray(0, bytes.lastIndexOf(10) + 1);
        indexed += whole.length;
        let isDamaged = false;
        for (const line of whole.toString('utf8').split('\n')) {
          if (line === '') continue;
          try {
            const { v, sum, row } = JSON.parse(line) as { v: number; sum: string; row: RunRow };
            if (v > FORMAT_VERSION) throw tooNew('ended.jsonl', v);
            if (sumOf(row) === sum) known.set(row.runId, row);
            else isDamaged = true;
          } catch (error) {
            if (!(error instanceof SyntaxError) && !(error instanceof TypeError)) throw error;
            isDamaged = true;
          }
        }
        if (isDamaged) await walk();
        return known;
      } finally {
        await disk.close(fd);
      }
    },
  };
}
