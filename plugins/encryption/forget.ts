import type { PluginHost } from '../../src/engine/plugin.js';
import { StepfastError } from '../../src/errors.js';
import type { RunRow, RunState } from '../../src/store/rows.js';
import { checkText } from '../../src/values/check.js';
import { KEY_TAG } from './rows.js';

/*
 * Removing what a dropped key leaves: runs that nobody can read, which would lie in the store, and on its lists, for ever.
 */

const PAGE = 100;

/** Ends and deletes one run. False: somebody else has changed it meanwhile. */
async function remove({ commit, platform }: PluginHost, row: RunRow): Promise<boolean> {
  const { runId, version, startedAt } = row;
  const at = platform.clock.now();
  const ended: RunState = { status: 'cancelled', version, waits: [], startedAt, endedAt: at };
  let { fence } = row;
  if (row.endedAt === undefined) {
    const append = [{ kind: 'cancelled', at }] as const;
    const outcome = await commit({ run: { runId, fence: 'any', raise: true, append, state: ended } });
    if (outcome.kind !== 'committed') return false;
    fence = outcome.fence;
  }
  if (row.undoing || row.undoable) {
    // What was to follow the end can not: it would need what is forgotten.
    const state = { ...ended, ...(row.endedAt !== undefined && { status: row.status, endedAt: row.endedAt }) };
    const outcome = await commit({ run: { runId, fence, raise: true, append: [], state } });
    if (outcome.kind !== 'committed') return false;
    fence = outcome.fence;
  }
  return (await commit({ deletes: [{ runId, fence, fingerprint: '' }] })).kind === 'committed';
}

/** Removes every run under this key, whether or not the key is still there. Resolves with their number. */
export async function forget(host: PluginHost, keyId: string): Promise<number> {
  checkText(keyId, 'keyId', 'INVALID_OPTION');
  await host.open();
  for (let removed = 0; ; ) {
    const before = removed;
    const { runs } = await host.store.list({ tag: KEY_TAG + keyId, limit: PAGE });
    for (const { row } of runs) if (await remove(host, row)) removed++;
    if (!runs.length) return removed;
    if (removed === before)
      throw new StepfastError(
        'STORE_UNAVAILABLE',
        'Runs under this key change all the time. Stop their jobs, then forget it again.',
      );
  }
}
