import { type ErrorPlace, isStepfastError, StepfastError } from '../../src/errors.js';
import { isDue, stampOf } from '../../src/store/due.js';
import type { RunRow } from '../../src/store/rows.js';
import type { OpenOptions } from '../../src/store/store.js';
import type { Vault } from './seal.js';

/*
 * Runs that can not be opened here. They never stand in the way of those that can: a look for due work passes over them
 * until they change, or their key is back.
 */

/** Whether the error is about what was to be opened; a locked vault of the app, for instance, is not. */
export const isUnreadable = (error: unknown): error is StepfastError =>
  (['KEY_MISSING', 'STORE_CORRUPT', 'STORE_TOO_NEW'] as const).some((code) => isStepfastError(error, code));

/** The key that it is missing, if it is. */
export const keyIdsIn = ({ data }: StepfastError): string[] => {
  const { keyId } = (data ?? {}) as { readonly keyId?: string };
  return keyId === undefined ? [] : [keyId];
};

/** The same error, with what it is about. */
export function about({ code, message, data, cause }: StepfastError, place: Pick<ErrorPlace, 'runId' | 'data'>) {
  const at = { ...(data !== undefined && { data }), ...place };
  return new StepfastError(code, message.slice(0, -` [${code}]`.length), at, cause === undefined ? {} : { cause });
}

/** A run that looks are to pass over. */
interface Left {
  readonly stamp: string;
  /** Until one of these keys is back. */
  readonly keyIds: readonly string[];
  /** Or until it is due, by this row: it can be opened, and waits for events that can not (hidden.ts). */
  readonly row?: RunRow;
}

export type UnreadableRuns = ReturnType<typeof unreadableRuns>;

export function unreadableRuns(onError: OpenOptions['onError']) {
  const runs = new Map<string, Left>();
  const told = new Set<string>();
  /** Once: the runs and events of one missing key may be thousands, and each look finds them again. */
  const tell = (error: StepfastError, id: string) => {
    const [what = id] = keyIdsIn(error);
    if (!told.has(what)) onError(error);
    told.add(what);
  };
  return {
    tell,
    /** Remembers the run, and gives the error with its id. Throws what is not about the run. */
    add(row: RunRow, error: unknown): StepfastError {
      if (!isUnreadable(error)) throw error;
      const { runId, status, endedAt: cancelledAt } = row;
      runs.set(runId, { stamp: stampOf(row), keyIds: keyIdsIn(error) });
      // For who awaits its end: there is no more to know of it (src/run/children.ts).
      const isKnown = status === 'cancelled' && isStepfastError(error, 'KEY_MISSING');
      const named = about(error, { runId, ...(isKnown && { data: { ...(error.data as object), cancelledAt } }) });
      tell(named, runId);
      return named;
    },
    /** Passes over a run that can be opened. */
    leave: (runId: string, left: Left) => void runs.set(runId, left),
    delete: (runId: string) => void runs.delete(runId),
    /** Takes those off whose key is back, or whose time has come. Whether there were any. */
    async review(vault: Vault, now: number): Promise<boolean> {
      let isAny = false;
      for (const [runId, { keyIds, row }] of runs) {
        const back: string[] = [];
        for (const keyId of new Set(keyIds)) if (await vault.has(keyId)) back.push(keyId);
        if (back.length || (row && isDue(row, now))) {
          runs.delete(runId);
          isAny = true;
        }
        for (const keyId of back) told.delete(keyId);
      }
      return isAny;
    },
    /** What a look for due work is to pass over, with what the engine wants to. */
    skip(given: ReadonlyMap<string, string> | undefined): Map<string, string> {
      const all = new Map(given);
      for (const [runId, { stamp }] of runs) all.set(runId, stamp);
      return all;
    },
    /** The least instant at which one of them is due. */
    nextDueAt: () => [...runs.values()].reduce((least, { row }) => Math.min(least, row?.dueAt ?? Infinity), Infinity),
  };
}
