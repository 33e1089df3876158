import fs from 'node:fs';
import { join } from 'node:path';
import { FORMAT_VERSION } from '../../src/store/journal.js';
import type { RunRow } from '../../src/store/rows.js';
import { replaceFile } from './atomic-write.js';
import { tooNew } from './damage.js';
import type { Disk } from './disk.js';
import { APPEND_OR_CREATE, freshName, hashName, openRegular, readAt, sumOf, syncFolder, writeAll } from './files.js';
import type { Removal } from './record.js';

/*
 * `ended.jsonl`: the rows of the archive, for `list`. Lines are appended: a run that was archived, or one that was
 * removed. Every process reads on where it stopped.
 *
 * I1. When more lines are of the past than of runs that are there, the whole file is replaced by one without them. Its
 *     first line is a name of its own, by which a reader of the old file sees that it has to begin anew.
 * I2. A line says of a removed run up to which number (`seq`) it is gone, so the order of lines does not matter.
 * I3. It can be made again from the files of the archive, and is when a line of it is damaged, or when there is a file that
 *     it does not list.
 */

/** Lines of the past that are never worth a new file. */
const SLACK = 256;
const NAME_LENGTH = Buffer.byteLength(`{"v":${FORMAT_VERSION},"index":"${freshName()}"}\n`);

interface Line {
  readonly v: number;
  readonly sum?: string;
  readonly row?: RunRow;
  readonly removed?: Removal;
  /** Of the first line: a name that no other file had. */
  readonly index?: string;
}

export interface Ended {
  /** The rows of all runs that are listed. */
  rows(): Promise<ReadonlyMap<string, RunRow>>;
  add(rows: readonly RunRow[]): Promise<void>;
  /** Runs that are not to be listed any more. */
  remove(removals: readonly Removal[]): Promise<void>;
}

const lineOf = (of: { readonly row: RunRow } | { readonly removed: Removal }): string => {
  const [value] = Object.values(of);
  return `${JSON.stringify({ v: FORMAT_VERSION, sum: sumOf(value), ...of })}\n`;
};
const nameLine = () => `${JSON.stringify({ v: FORMAT_VERSION, index: freshName() })}\n`;

/**
 * @param walk All rows, as the files of the archive tell.
 * @param files The names of those files, which are hashes of run ids: none of them is opened.
 */
export function createEnded(
  disk: Disk,
  dir: string,
  walk: () => AsyncIterable<RunRow>,
  files: () => Iterable<string>,
): Ended {
  const path = join(dir, 'ended.jsonl');
  const known = new Map<string, RunRow>();
  let name: Buffer = Buffer.alloc(0);
  let length = 0;
  let lines = 0;
  let isDamaged = false;
  let last: Promise<unknown> = Promise.resolve();
  /** One at a time: each goes on where the one before has stopped. */
  const alone = <T>(body: () => Promise<T>): Promise<T> => {
    const result = last.then(body);
    last = result.catch(() => undefined); // the caller hears of it; the next one goes on
    return result;
  };

  const take = (text: string) => {
    const { v, sum, row, removed, index } = JSON.parse(text) as Line;
    if (v > FORMAT_VERSION) throw tooNew('ended.jsonl', v);
    const value = row ?? removed;
    if (!value && index !== undefined) return;
    if (!value || sumOf(value) !== sum) isDamaged = true;
    else if (row) known.set(row.runId, row);
    else if (removed && (known.get(removed.runId)?.seq ?? Infinity) <= removed.seq) known.delete(removed.runId);
  };

  const takeAll = (whole: string) => {
    for (const text of whole.split('\n'))
      try {
        if (text === '') continue;
        lines++;
        take(text);
      } catch (error) {
        if (!(error instanceof SyntaxError) && !(error instanceof TypeError)) throw error;
        isDamaged = true;
      }
  };

  const makeAgain = async () => {
    known.clear();
    for await (const row of walk()) known.set(row.runId, row);
    return known;
  };

  /** Whether every file of the archive is listed. */
  const isWhole = () => {
    const listed = new Set(Array.from(known.keys(), hashName));
    for (const file of files()) if (!listed.has(file)) return false;
    return true;
  };

  const forget = () => {
    known.clear();
    name = Buffer.alloc(0);
    length = lines = 0;
  };

  const readOn = async () => {
    const fd = await openRegular(disk, path, fs.constants.O_RDONLY);
    if (fd === undefined) return isWhole() ? known : makeAgain();
    try {
      const { size } = await disk.stat(fd);
      const start = await readAt(disk, fd, 0, Math.min(NAME_LENGTH, size));
      if (size < length || !start.equals(name)) {
        forget();
        name = start;
      }
      const bytes = await readAt(disk, fd, length, size - length);
      const whole = bytes.subarray(0, bytes.lastIndexOf(10) + 1);
      const wasDamaged = isDamaged;
      const isNew = length === 0;
      isDamaged = false;
      takeAll(whole.toString('utf8'));
      length += whole.length;
      // A line that is gone leaves no trace but the file that it should list.
      if (isNew && !isWhole()) isDamaged = true;
      if (isDamaged) await makeAgain();
      isDamaged ||= wasDamaged; // until the file is replaced
      return known;
    } catch (error) {
      forget(); // what could not be read whole is read anew
      throw error;
    } finally {
      await disk.close(fd);
    }
  };

  const append = async (added: readonly string[]) => {
    const fd = await openRegular(disk, path, APPEND_OR_CREATE);
    if (fd === undefined) return;
    try {
      await disk.chmod(fd, 0o600);
      // Else the line feed in front ends a line that a crash has cut off.
      const first = (await disk.stat(fd)).size === 0 ? nameLine() : '\n';
      await writeAll(disk, fd, Buffer.from(first + added.join('')));
      await disk.sync(fd);
    } finally {
      await disk.close(fd);
    }
    await syncFolder(disk, dir);
  };

  return {
    rows: () => alone(readOn),
    add: (rows) => alone(() => append(rows.map((row) => lineOf({ row })))),
    remove: (removals) =>
      alone(async () => {
        await readOn();
        const listed = removals.filter(({ runId, seq }) => (known.get(runId)?.seq ?? Infinity) <= seq);
        if (listed.length) await append(listed.map((removed) => lineOf({ removed })));
        await readOn();
        if (lines - known.size <= Math.max(known.size, SLACK) && !isDamaged) return;
        await replaceFile(disk, path, nameLine() + [...known.values()].map((row) => lineOf({ row })).join(''));
        isDamaged = false;
      }),
  };
}
