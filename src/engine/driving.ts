import { isStepfastError, type StepfastError } from '../errors.js';
import type { Clock } from '../platform.js';
import type { Store } from '../store/store.js';
import { heard } from './heard.js';

/*
 * Opening the store, and what keeps an engine from driving: another process (spec O3), a newer release (O6), a disk that
 * takes nothing (D5).
 */

/** How long a disk that has refused to be driven on is left alone by hints: each try would leave something behind on it. */
const REST_MS = 2_000;

interface DrivingOptions {
  readonly store: Store;
  readonly owner: string;
  readonly leaseMs: number;
  readonly clock: Clock;
  readonly report: (error: unknown) => void;
  readonly onOutdated: ((error: StepfastError) => void) | undefined;
  /** Newer code writes here: nothing is driven any more. */
  readonly halt: (error: unknown) => void;
}

export function createDriving({ store, owner, leaseMs, clock, report, onOutdated, halt }: DrivingOptions) {
  let isDriving = false;
  /** Why this engine drives no more. */
  let outdated: unknown;
  /** When a disk that is full has last refused to be driven on. */
  let failedAt = Number.NEGATIVE_INFINITY;

  /** Passes the error of a store on. One that says that this release is too old ends all driving (spec O6). */
  const refused = (error: unknown): never => {
    if (!outdated && isStepfastError(error, 'STORE_TOO_NEW')) {
      outdated = error;
      halt(error);
      heard(() => (onOutdated ?? report)(error), report);
    }
    throw error;
  };
  const openAs = (mode: 'drive' | 'use', isPatient?: true) =>
    store.open({ owner, now: clock.now(), leaseMs, mode, onError: report, ...(isPatient && { isPatient }) });
  const drive = async (isPatient?: true) => {
    if (outdated) throw outdated;
    if (isDriving) return;
    await openAs('drive', isPatient).catch(refused);
    isDriving = true;
  };

  return {
    refused,
    use: () => openAs('use'),
    drive,
    /** Drives if it can; where another process does, this one uses the store through it (spec O3). */
    async tryDrive(): Promise<boolean> {
      try {
        await drive();
        return true;
      } catch (error) {
        if (outdated || isStepfastError(error, 'STORE_LOCKED')) return false;
        // A full disk, or one that can only be read: what is there can be seen, and driving is tried again at each look (D5).
        if (!isStepfastError(error, 'QUOTA_EXCEEDED') && !isStepfastError(error, 'STORE_UNAVAILABLE')) throw error;
        failedAt = clock.now();
        report(error);
        return false;
      }
    },
    /** Whether hints are let pass: the disk has just refused. */
    rests: () => !isDriving && clock.now() >= failedAt && clock.now() < failedAt + REST_MS,
  };
}
