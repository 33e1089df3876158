import { isStepfastError, StepfastError } from '../errors.js';
import type { Platform } from '../platform.js';
import { endOf } from '../replay/glance.js';
import type { StoredRun } from '../store/rows.js';
import type { Codec } from '../values/codec.js';
import type { LiveRun } from './live-run.js';

interface ChildrenHost {
  readonly platform: Platform;
  readonly codec: Codec;
  load(runId: string): Promise<StoredRun | undefined>;
}

/** Of a run that was cancelled and whose key is gone, the store can tell that much (stepfast/encryption). */
function unread(error: unknown) {
  const { data } = isStepfastError(error, 'KEY_MISSING') ? error : {};
  const { cancelledAt: at } = (data ?? {}) as { readonly cancelledAt?: number };
  if (at === undefined) throw error;
  return { row: { endedAt: at }, journal: [{ kind: 'cancelled', at }] } as const;
}

/** How children that have ended did so. */
export async function readEnds(run: LiveRun, { load, platform, codec }: ChildrenHost): Promise<void> {
  for (const childId of run.news) {
    const child = await load(childId).catch(unread);
    const end = child && endOf(child.journal);
    const at = child?.row.endedAt ?? platform.clock.now();
    if (end?.kind === 'completed') run.ended.set(childId, { at, value: end.value });
    else if (!child || end) {
      const why = child ? 'was cancelled' : 'is not there any more';
      const error = new StepfastError('RUN_CANCELLED', `The child run ${childId} ${why}.`, { runId: childId });
      run.ended.set(childId, { at, error: end?.kind === 'failed' ? end.error : codec.encodeError(error) });
    }
    run.news.delete(childId);
  }
}
