import type { StepfastError } from '../errors.js';
import type { Clock } from '../platform.js';
import type { Store } from '../store/store.js';
import { check, checkClock, checkInteger, checkOptions, checkStore } from '../values/check.js';
import { checkRetry, type RetryOptions } from '../values/retry.js';
import type { Plugin } from './plugin.js';
import { checkUse } from './use.js';

/** How an engine is made. */
export interface EngineOptions {
  /** Where runs are kept. Made for this engine, which closes it. */
  readonly store: Store;
  /** Time. Default: that of the platform. `stepfast/testing` has a simulated one. */
  readonly clock?: Clock;
  /** Plug-ins. The first one is nearest to the engine. Default: none. */
  readonly use?: readonly Plugin[];
  /** Hears of everything that went wrong and has no caller to tell: never payloads. Default: the console. */
  readonly onError?: (error: unknown) => void;
  /**
   * A newer release has written to the store: this engine drives and writes no more, and goes on reading. Called once, with
   * the error (`STORE_TOO_NEW`): the moment to offer a reload. Default: `onError` hears of it.
   */
  readonly onOutdated?: (error: StepfastError) => void;
  /** Retries of every step, unless job, start or step say otherwise. */
  readonly retry?: RetryOptions;
  /** How long the store's word that a run is ours is good for, in milliseconds. Default 15,000. */
  readonly leaseMs?: number;
  /**
   * Largest encoded value, in bytes: its JSON text in UTF-8 (of a text alone, without its quotes), to which bytes add a third
   * more than they are, and blobs their size. Default 1 MiB.
   */
  readonly maxValueBytes?: number;
  /** Most outcomes of steps, waits and sleeps in one run; one more fails it with `JOURNAL_FULL`. Default 10,000. */
  readonly maxOutcomes?: number;
  /** Most that one run may record in all, in bytes of JSON, blobs left out; then it fails with `JOURNAL_FULL`. Default 64 MiB. */
  readonly maxRunBytes?: number;
  /** `always` drops the handler at each outcome, so that every wake-up is a replay: for tests. Default `resume`. */
  readonly replay?: 'resume' | 'always';
}

const SIZES = ['maxValueBytes', 'maxOutcomes', 'maxRunBytes'] as const;
const OPTIONS = ['store', 'clock', 'use', 'onError', 'onOutdated', 'retry', 'leaseMs', ...SIZES, 'replay'];

/** @throws {StepfastError} `INVALID_OPTION` */
export function checkEngine(options: EngineOptions, clock: Clock): void {
  checkOptions(options, OPTIONS, 'The options of createStepfast');
  const { store, retry, replay = 'resume', onError, onOutdated, use = [] } = options;
  checkStore(store);
  checkClock(clock);
  for (const [option, fn] of Object.entries({ onError, onOutdated }))
    check(fn === undefined || typeof fn === 'function', option, fn, 'a function, or leave it out');
  check(['resume', 'always'].includes(replay), 'replay', replay, '"resume" or "always"');
  for (const size of SIZES) if (options[size] !== undefined) checkInteger(options[size], size, 1);
  checkRetry(retry);
  checkUse(use);
}
