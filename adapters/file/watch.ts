import fs from 'node:fs';

/*
 * Who hears of a change in a folder. `fs.watch` misses some on some file systems: whoever uses this looks by a timer as well.
 */

/** Calls back when something in the folder may have changed. Never keeps the process alive. */
export function watchFolder(folder: string, onChange: () => void): () => void {
  try {
    const watcher = fs.watch(folder, { persistent: false }, onChange);
    watcher.on('error', () => watcher.close()); // the timers beside it still look
    return () => watcher.close();
  } catch {
    return () => undefined; // no watches left, or none on this file system: the timers beside it still look
  }
}

/** Resolves after a while, or as soon as the folder changes. */
export function folderChange(folder: string, waitMs: number): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      unwatch();
      resolve();
    };
    const timer = setTimeout(done, waitMs);
    const unwatch = watchFolder(folder, done);
  });
}
