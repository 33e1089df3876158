import { dirname, join } from 'node:path';
import { StepfastError } from '../../src/errors.js';
import { FORMAT_VERSION } from '../../src/store/journal.js';
import type { RunRow, StoredRun } from '../../src/store/rows.js';
import { replaceFile, sweep, TEMPORARY } from './atomic-write.js';
import { corrupt, tooNew } from './damage.js';
import type { Disk } from './disk.js';
import { createEnded } from './ended.js';
import {
  ensureFolder,
  exists,
  hashName,
  isForeign,
  namesIn,
  readRegular,
  removeFile,
  storeError,
  sumOf,
  syncFolder,
} from './files.js';
import { keyText } from './image.js';
import type { Removal } from './record.js';

/*
 * Ended runs, out of the log: one readable file a run, one small file an idempotency key, and an index line for `list`.
 *
 * A1. Compaction writes them before the log forgets the run, each as a whole, so a crash between leaves a run in both
 *     places and the log's copy counts; writing one again changes nothing. Nothing here is read when a store opens.
 * A2. A run is deleted by a record of the log, and by nothing else. Until that record is on disk, nothing is removed
 *     here; from then on nothing that is here of the run counts (`Image.removed`), whatever a crash leaves of it.
 * A3. The log forgets that record only after what is left was removed and the folders were synced: then there is
 *     nothing that could count. What a crash between leaves is removed again, for the record says all that it takes.
 * A4. An id may be used again, so a removal names the last `seq` that it is about: a file of a later life is left alone.
 *     A key's file is left alone when it leads to another run, or to a later life with the same key.
 * A5. Writing and removing never overlap (owner.ts): between the look at a file and its removal nobody replaces it.
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
  /** Whether there may be something to remove. Two looks at names. */
  mayHold(removal: Removal): boolean;
  /**
   * Removes what is left of deleted runs; told of what could not be, it goes on with the others.
   *
   * @param isFinal The log is about to forget them: also makes durable what was removed earlier.
   * @returns Those of which nothing is left.
   */
  remove<T extends Removal>(removals: readonly T[], isFinal: boolean): Promise<ReadonlySet<T>>;
  /** The file of a run, relative to the store's folder, as errors name it. */
  fileOf(runId: string): string;
  /** The rows of all ended runs, those that the log says are deleted included. */
  rows(): Promise<ReadonlyMap<string, RunRow>>;
}

interface RunFile extends StoredRun {
  readonly v: number;
  readonly runId: string;
  readonly sum: string;
}

interface KeyFile {
  readonly v: number;
  /** Of the three below: a key that leads to a run that is not there would start a second one. */
  readonly sum: string;
  readonly job: string;
  readonly idempotencyKey: string;
  readonly runId: string;
}

export function createArchive(disk: Disk, dir: string, onError: (error: unknown) => void): Archive {
  const pathOf = (kind: 'runs' | 'keys', name: string) => join(dir, kind, name.slice(0, 2), `${name}.json`);
  const relative = (path: string) => path.slice(dir.length + 1).replaceAll('\\', '/');
  const runPath = (runId: string) => pathOf('runs', hashName(runId));
  const keyPath = (job: string, idempotencyKey: string) => pathOf('keys', hashName(keyText(job, idempotencyKey)));

  /** A file of this archive, if its text reads and its version is known. */
  const parse = async <T extends { readonly v: number }>(path: string, runId?: string): Promise<T | undefined> => {
    const place = { file: relative(path), offset: 0, ...(runId !== undefined && { runId }) };
    if (isForeign(path)) throw corrupt(place); // a link or a folder was put there: nothing is read through it
    const bytes = await readRegular(disk, path);
    if (!bytes) return undefined;
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

  const readKey = async (path: string): Promise<KeyFile | undefined> => {
    const file = await parse<KeyFile>(path);
    if (file && file.sum !== sumOf([file.job, file.idempotencyKey, file.runId]))
      throw corrupt({ file: relative(path), offset: 0 });
    return file;
  };

  const put = async (path: string, value: unknown, folders: Set<string>) => {
    const folder = dirname(path);
    ensureFolder(dirname(folder));
    ensureFolder(folder);
    await replaceFile(disk, path, `${JSON.stringify(value, null, 2)}\n`, { folder: false });
    folders.add(folder);
  };

  /** A compaction that a closing store has cut short left it here: what it has done need not be done again. */
  const isThere = async (path: string, sum: string, read: () => Promise<string | undefined>) =>
    exists(path) && (await read().catch(() => undefined)) === sum; // damaged, it is written anew

  const putRun = async (run: StoredRun, folders: Set<string>) => {
    const { row, journal } = run;
    const { runId, job, idempotencyKey } = row;
    const sum = sumOf([row, journal]);
    const path = runPath(runId);
    const sumOfRun = async () => {
      const found = await readFile(path, runId);
      return found && sumOf([found.row, found.journal]);
    };
    if (await isThere(path, sum, sumOfRun)) folders.add(dirname(path));
    else await put(path, { v: FORMAT_VERSION, runId, sum, row, journal }, folders);
    if (idempotencyKey === undefined) return;
    const keySum = sumOf([job, idempotencyKey, runId]);
    const ofKey = keyPath(job, idempotencyKey);
    if (await isThere(ofKey, keySum, async () => (await readKey(ofKey))?.sum)) folders.add(dirname(ofKey));
    else await put(ofKey, { v: FORMAT_VERSION, sum: keySum, job, idempotencyKey, runId }, folders);
  };

  /** Its own folders and files alone: other programs leave theirs where people look (`.DS_Store`, `Thumbs.db`). */
  const shards = () => namesIn(join(dir, 'runs'), '').filter((name) => /^[0-9a-f]{2}$/.test(name));
  const runFiles = (shard: string) =>
    namesIn(join(dir, 'runs', shard), '.json').filter((name) => /^[0-9a-f]{64}u?\.json$/.test(name));

  /** The index can be made again from the files it lists. */
  async function* walk(): AsyncGenerator<RunRow> {
    for (const shard of shards())
      for (const name of runFiles(shard))
        try {
          const run = await readFile(join(dir, 'runs', shard, name));
          if (run) yield run.row;
        } catch (error) {
          if (!(error instanceof StepfastError)) throw error; // of the disk, which may work again
          onError(error);
        }
  }
  const files = function* () {
    for (const shard of shards()) for (const name of runFiles(shard)) yield name.slice(0, -'.json'.length);
  };
  const ended = createEnded(disk, dir, walk, files);

  const removeRun = async ({ runId, seq, key }: Removal) => {
    const path = runPath(runId);
    const row = exists(path) ? (await readFile(path, runId))?.row : undefined;
    const later = row && row.seq > seq ? row : undefined;
    const isKept = key && later?.job === key[0] && later.idempotencyKey === key[1];
    const ofKey = key && !isKept ? keyPath(...key) : undefined;
    if (ofKey && exists(ofKey) && (await readKey(ofKey))?.runId === runId) await removeFile(disk, ofKey);
    if (row && !later) await removeFile(disk, path);
  };

  return {
    has: (runId) => exists(runPath(runId)),
    read: (runId) => readFile(runPath(runId), runId),
    async runByKey(job, idempotencyKey) {
      const path = keyPath(job, idempotencyKey);
      if (!exists(path)) return undefined;
      const file = await readKey(path);
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
      if (rows.length) await ended.add(rows);
    },
    mayHold: ({ runId, key }) => exists(runPath(runId)) || (key !== undefined && exists(keyPath(...key))),
    async remove<T extends Removal>(removals: readonly T[], isFinal: boolean) {
      const done = new Set<T>();
      const folders = new Set<string>();
      // First: a run that is still listed here may still have its file, one that has none is listed nowhere.
      if (removals.length) await ended.remove(removals);
      for (const removal of removals)
        try {
          await removeRun(removal);
          done.add(removal);
          folders.add(dirname(runPath(removal.runId)));
          if (removal.key) folders.add(dirname(keyPath(...removal.key)));
        } catch (error) {
          onError(storeError(error, 'removing', relative(runPath(removal.runId))));
        }
      if (isFinal) for (const folder of folders) if (exists(folder)) await syncFolder(disk, folder);
      return done;
    },
    fileOf: (runId) => relative(runPath(runId)),
    rows: () => ended.rows(),
  };
}
