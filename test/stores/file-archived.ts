import { existsSync } from 'node:fs';
import { expect } from 'vitest';
import type { Store } from '../../src/store/store.js';
import { compacted } from './file-compact.js';
import { freshDir } from './file-folders.js';
import { archivePath, committed, ended, openStore, startOf } from './file-kit.js';

// A folder with an archive, for tests of what becomes of ended runs.

export const runPath = (dir: string, runId: string) => archivePath(dir, 'runs', runId);
export const listed = async (store: Store) => (await store.list({ limit: 100 })).runs.map(({ row }) => row.runId);

/** A folder whose archive holds the ended runs a, b and c with a key each, and whose log holds the run `live`. */
export async function archivedRuns(): Promise<string> {
  const dir = freshDir();
  const { store } = await openStore({ dir });
  for (const runId of ['a', 'b', 'c']) await ended(store, runId, { idempotencyKey: `key ${runId}`, tags: ['t'] });
  await committed(store, startOf('live'));
  await store.close();
  await (await compacted(dir)).store.close();
  for (const runId of ['a', 'b', 'c']) expect(existsSync(runPath(dir, runId))).toBe(true);
  return dir;
}
