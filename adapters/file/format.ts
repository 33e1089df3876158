import { join } from 'node:path';
import { StepfastError } from '../../src/errors.js';
import { replaceFile } from './atomic-write.js';
import { corrupt } from './damage.js';
import type { Disk } from './disk.js';
import { readRegular } from './files.js';

/*
 * `format.json`: the least format that code must write, to write into this folder (spec O6). There is none until a release
 * of a greater format than the first has owned it. Read and written by who holds the lock; requests of others say their own.
 */

const FILE = 'format.json';

async function minWriterOf(disk: Disk, dir: string): Promise<number> {
  const bytes = await readRegular(disk, join(dir, FILE));
  if (!bytes) return 1;
  try {
    const { minWriter } = JSON.parse(bytes.toString('utf8')) as { readonly minWriter?: unknown };
    if (Number.isInteger(minWriter)) return minWriter as number;
  } catch {
    // told below: it is replaced as a whole, so this is damage
  }
  throw corrupt({ file: FILE, offset: 0 });
}

/** Refuses a writer of this format where newer code has owned the folder. */
function assertWriter(format: number, minWriter: number): void {
  if (format >= minWriter) return;
  throw new StepfastError(
    'STORE_TOO_NEW',
    `A newer release of stepfast writes to this folder (format ${minWriter}, this one writes ${format}). Start the newer code; nothing was changed.`,
  );
}

/** For the owner: refuses a request of a release that writes less than it does, or more than it knows. */
export function assertSender(from: number, format: number): void {
  assertWriter(from, format);
  if (from <= format) return;
  throw new StepfastError(
    'OUTDATED',
    `The process that owns this folder is of an older release of stepfast (format ${format}) than this one (${from}). Stop it, or start it anew; nothing was changed.`,
  );
}

/** For who holds the lock: refuses itself, or keeps older code from writing from now on. */
export async function claimFormat(disk: Disk, dir: string, format: number): Promise<void> {
  const minWriter = await minWriterOf(disk, dir);
  assertWriter(format, minWriter);
  if (format > minWriter) await replaceFile(disk, join(dir, FILE), JSON.stringify({ v: 1, minWriter: format }));
}
