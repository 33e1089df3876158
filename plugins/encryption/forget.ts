import type { PluginHost } from '../../src/engine/plugin.js';
import { StepfastError } from '../../src/errors.js';
import type { RunRow, RunState } from '../../src/store/rows.js';
import { checkText } from '../../src/values/check.js';
import { KEY_TAG } from './rows.js';

/*
 * Removing what a dropped key leaves: runs that nobody can read, which would lie in the store, and on its lists, for ever.
 */

const PAGE = 100;
/** Whose end is awaited is deleted when that was read. So long, and in such steps, it is waited for: in real time. */
const WAIT_MS = 2_000;
const STEP_MS = 100;

/**
 * `awaited`: another run has yet to read how it ended (spec E12). `changed`: somebody else has written it meanwhile.
 */
type Fate = 'removed' | 'awaited' | 'changed';

/** Ends one run, with nothing to follow: that would need what is forgotten. Its fence then, or `undefined` for `changed`. */
async function end({ commit }: PluginHost, row: RunRow, ended: RunState): Promise<number | undefined> {
  const { runId } = row;
  let { fence } = row;
  if (row.endedAt === undefined) {
    const append = [{ kind: 'cancelled', at: ended.endedAt! }] as const;
    const outcome = await commit({ run: { runId, fence: 'any', raise: true, append, state: ended } });
    if (outcome.kind !== 'committed') return undefined;
    fence = outcome.fence;
  }
  if (!row.undoing && !row.undoable) return fence;
  const outcome = await commit({ run: { runId, fence, raise: true, append: [], state: ended } });
  return outcome.kind === 'committed' ? outcome.fence : undefined;
}

/** Ends and deletes one run. */
async function remove(host: PluginHost, row: RunRow): Promise<Fate> {
  const { runId, version, startedAt, endedAt = host.platform.clock.now() } = row;
  const status = row.endedAt === undefined ? 'cancelled' : row.status;
  const ended: RunState = { status, version, waits: [], startedAt, endedAt };
  const fence = await end(host, row, ended);
  if (fence === undefined) return 'changed';
  const outcome = await host.commit({ deletes: [{ runId, fence, fingerprint: '' }] });
  if (outcome.kind === 'committed') return 'removed';
  if (outcome.kind !== 'fenced' || outcome.fence !== fence) return 'changed';
  // Who awaits it can not read what it returned, but that it was cancelled. It is never read by anybody else.
  const state: RunState = { ...ended, status: 'cancelled' };
  if (status !== 'cancelled') await host.commit({ run: { runId, fence, raise: true, append: [], state } });
  return 'awaited';
}

/** Goes once through all that is there. */
async function removeAll(host: PluginHost, keyId: string): Promise<Record<Fate, number>> {
  const fates = { removed: 0, awaited: 0, changed: 0 };
  for (let cursor: string | undefined; ; ) {
    const place = { tag: KEY_TAG + keyId, limit: PAGE, ...(cursor !== undefined && { cursor }) };
    const { runs, nextCursor } = await host.store.list(place);
    for (const { row } of runs) fates[await remove(host, row)]++;
    if (nextCursor === undefined) return fates;
    cursor = nextCursor;
  }
}

/** Removes every run under this key, whether or not the key is still there. Resolves with their number. */
export async function forget(host: PluginHost, keyId: string): Promise<number> {
  checkText(keyId, 'keyId', 'INVALID_OPTION');
  await host.open();
  for (let removed = 0, waitedMs = 0; ; ) {
    const fates = await removeAll(host, keyId);
    removed += fates.removed;
    if (fates.removed) continue; // one of them may have awaited another
    if (!fates.awaited && !fates.changed) return removed;
    host.look(); // whoever awaits them is due
    if (waitedMs < WAIT_MS) {
      await new Promise<void>((resolve) => host.platform.patience(STEP_MS, resolve));
      waitedMs += STEP_MS;
    } else if (!fates.changed) return removed;
    else
      throw new StepfastError(
        'STORE_UNAVAILABLE',
        'Runs under this key change all the time. Stop their jobs, then forget it again.',
      );
  }
}
