import { isStepfastError, StepfastError } from '../../src/errors.js';
import { stampOf } from '../../src/store/due.js';
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

const keyIdIn = ({ data }: StepfastError): string | undefined =>
  (data as { readonly keyId?: string } | undefined)?.keyId;

/** The same error, with the run that it is about. */
function about(runId: string, { code, message, data, cause }: StepfastError): StepfastError {
  const place = { runId, ...(data !== undefined && { data }) };
  return new StepfastError(code, message.slice(0, -` [${code}]`.length), place, cause === undefined ? {} : { cause });
}

export function unreadableRuns(onError: OpenOptions['onError']) {
  const runs = new Map<string, { readonly stamp: string; readonly keyId: string | undefined }>();
  const told = new Set<string>();
  /** Once: the runs of one missing key may be thousands, and each look finds them again. */
  const tell = (error: StepfastError, runId: string) => {
    const what = keyIdIn(error) ?? runId;
    if (!told.has(what)) onError(error);
    told.add(what);
  };
  return {
    tell,
    /** Remembers the run, and gives the error with its id. Throws what is not about the run. */
    add(row: RunRow, error: unknown): StepfastError {
      if (!isUnreadable(error)) throw error;
      const { runId } = row;
      runs.set(runId, { stamp: stampOf(row), keyId: keyIdIn(error) });
      const named = about(runId, error);
      tell(named, runId);
      return named;
    },
    delete: (runId: string) => void runs.delete(runId),
    /** Takes those off whose key is back. */
    async review(vault: Vault): Promise<void> {
      for (const [runId, { keyId }] of runs) {
        if (keyId === undefined || !(await vault.has(keyId))) continue;
        runs.delete(runId);
        told.delete(keyId);
      }
    },
    /** What a look for due work is to pass over, with what the engine wants to. */
    skip(given: ReadonlyMap<string, string> | undefined): Map<string, string> {
      const all = new Map(given);
      for (const [runId, { stamp }] of runs) all.set(runId, stamp);
      return all;
    },
  };
}
