import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createFileStore } from '../../../adapters/file/store.js';
import { createSimulatedDisk, imageOf, restore } from './disk.js';
import type { Injector } from './faults.js';
import { gone, type Life, type Medium } from './media.js';

/*
 * The file store on a simulated disk. Every life has a folder of its own: at its death the next one gets what the disk
 * would have kept, so that nothing which is still under way in the dead one can reach it.
 */

const base = fs.existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
/** Small, so that flows of a few steps go through compaction and the archive as well. */
const COMPACT_AT = 3_000;

export function fileMedium(injector: Injector): Medium {
  const root = fs.mkdtempSync(join(base, 'stepfast-crash-'));
  let lives = 0;
  let dir = join(root, 'life-0');
  fs.mkdirSync(dir);
  let disk: ReturnType<typeof createSimulatedDisk> | undefined;
  return {
    open(life: Life) {
      disk ??= createSimulatedDisk(dir);
      const simulated = disk.use(injector, life, gone);
      return createFileStore({ dir }, { disk: simulated, compactAt: COMPACT_AT });
    },
    crashed(keep) {
      const image = imageOf(disk!, keep);
      dir = join(root, `life-${++lives}`);
      restore(image, dir);
      disk = undefined;
    },
    async leftovers() {
      // What an error left is swept by the next owner, temporary files once they are old.
      if (!leftIn(dir).length) return [];
      for (const name of fs.readdirSync(dir, { recursive: true, encoding: 'utf8' }))
        if (name.endsWith('.tmp')) fs.utimesSync(join(dir, name), 0, 0);
      const store = createFileStore({ dir });
      const errors: string[] = [];
      const onError = (error: unknown) => void errors.push(String(error));
      await store.open({ owner: 'sweeper', now: Date.UTC(2027, 0, 1), leaseMs: 15_000, mode: 'drive', onError });
      await store.close();
      return [...errors, ...leftIn(dir)];
    },
    dispose: () => fs.rmSync(root, { recursive: true, force: true }),
  };
}

/**
 * What no store that was closed in order leaves: temporary files (but in a folder of the archive, which is swept when it
 * is next written to), requests, answers, more than one lock.
 */
function leftIn(dir: string): string[] {
  const names = fs.readdirSync(dir, { recursive: true, encoding: 'utf8' });
  const isOdd = (name: string) =>
    /^[^/]*\.tmp$|^(log|lock|inbox|outbox)\/.*\.tmp$|\.corrupt$/.test(name) || /^(inbox|outbox)\/./.test(name);
  const several = (folder: string) => names.filter((name) => name.startsWith(`${folder}/`)).slice(1);
  const odd = new Set([...names.filter(isOdd), ...several('lock'), ...several('log')]);
  return [...odd].map((name) => name.replace(/[0-9a-f]{24}/, '<name>'));
}
