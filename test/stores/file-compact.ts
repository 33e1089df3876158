import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { FileStoreInternals } from '../../adapters/file/store.js';
import { committed, now, type Opened, openStore, setOf } from './file-kit.js';

/** For what takes as long as the disk takes. */
export const patience = { timeout: 30_000, interval: 10 };

export const segmentsIn = (dir: string): string[] =>
  readdirSync(join(dir, 'log')).filter((name) => name.endsWith('.jsonl'));

/** A store whose log was compacted as soon as it was open. */
export async function compacted(dir: string, internals: FileStoreInternals = {}, at = now): Promise<Opened> {
  const [before] = segmentsIn(dir).slice(-1);
  const opened = await openStore({ dir }, 'drive', { ...internals, compactAt: 1 }, at);
  await expect.poll(() => segmentsIn(dir).filter((name) => name === before), patience).toEqual([]);
  await committed(opened.store, { ...setOf('compacted', 1), now: at }); // its turn comes when the new segment is in use
  return opened;
}

/** Ways for an owner to come to its end, each followed by a look at what the next one finds. */
export const endings = {
  closes: (store) => store.close(),
  crashes: async (store) => store.abandon?.(),
} satisfies Record<string, (store: Opened['store']) => Promise<void>>;
