import fs from 'node:fs';
import { join } from 'node:path';
import { tooNew } from './damage.js';
import { type Disk, FOLDER_MODE } from './disk.js';
import { ensureFolder, openRegular, READ, readAt } from './files.js';
import { segmentName } from './image.js';
import { INBOX, OUTBOX } from './inbox.js';
import { findRecord } from './record.js';
import { newerVersion } from './scan.js';
import { LOG, segmentPath, segmentsIn } from './segments.js';

/*
 * The folder of a store: `log/` and `lock/`, `inbox/` and `outbox/`, `runs/` and `keys/` (the archive). Made when
 * absent; a store of a newer format is refused before anything, the lock included, is written.
 */

const PEEK = 64 << 10;

/** Makes what is missing. @returns The real path: the folder may be reached by a link, nothing inside it. */
export function prepareFolder(dir: string): string {
  const made = fs.mkdirSync(dir, { recursive: true, mode: FOLDER_MODE });
  if (made !== undefined) fs.chmodSync(dir, FOLDER_MODE); // whatever the umask; a folder that was there keeps its mode
  const real = fs.realpathSync(dir);
  for (const name of [LOG, 'lock', INBOX, OUTBOX, 'runs', 'keys']) ensureFolder(join(real, name));
  return real;
}

/** @throws {StepfastError} `STORE_TOO_NEW` */
export async function refuseNewer(disk: Disk, dir: string): Promise<void> {
  const highest = segmentsIn(dir).at(-1);
  const fd = highest === undefined ? undefined : await openRegular(disk, segmentPath(dir, highest), READ);
  if (fd === undefined) return;
  try {
    const start = await readAt(disk, fd, 0, PEEK);
    const found = findRecord(start, 0);
    const version =
      found.kind === 'too-new' ? found.version : found.kind === 'garbage' ? newerVersion(start) : undefined;
    if (version !== undefined) throw tooNew(`${LOG}/${segmentName(highest!)}`, version);
  } finally {
    await disk.close(fd);
  }
}
