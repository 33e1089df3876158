import type { Dispatch } from '../door/dispatch.js';
import type { Start } from '../door/start.js';
import type { StateHost } from '../door/state.js';
import type { Platform } from '../platform.js';
import type { Batch, CommitOutcome, RunChange } from '../store/batch.js';
import type { JournalEntry } from '../store/journal.js';
import type { RunRow, StoredRun } from '../store/rows.js';
import type { Store } from '../store/store.js';
import type { Codec } from '../values/codec.js';
import type { RetryOptions } from '../values/retry.js';
import type { Driver } from './driver.js';
import type { Late } from './functions.js';

/** What a driver needs from its engine. */
export interface DriverHost {
  readonly platform: Platform;
  readonly codec: Codec;
  readonly owner: string;
  readonly leaseMs: number;
  readonly alwaysReplays: boolean;
  readonly retry: RetryOptions | undefined;
  readonly maxOutcomes: number;
  readonly maxRunBytes: number;
  /** A commit of this engine for the run, with what is to be written along with it. */
  commit(change: RunChange, parts?: Pick<Batch, 'state' | 'starts' | 'events'>): Promise<CommitOutcome>;
  readonly start: Start;
  readonly dispatch: Dispatch;
  /** Shared state as it is, and writes to it that are commits of their own. */
  readonly state: StateHost;
  /** Entries of the run have become durable. */
  committed(runId: string, job: string, entries: readonly JournalEntry[]): void;
  /** Where the store shares a database with the app. */
  readonly transact?: Store['transact'];
  load(runId: string): Promise<StoredRun | undefined>;
  /** Waits for its turn; a suspect (spec F5) enters alone. Resolves with what to call when the function has ended. */
  enter(isSuspect: boolean): Promise<() => void>;
  /** What a claim of a slot of the queue is to keep to. */
  limits(queue: string): Pick<RunChange, 'concurrency' | 'rate' | 'defaultConcurrency'>;
  /** Something that people can see has changed. */
  changed(runId: string, row?: RunRow): void;
  /** What functions return after their run was ended from outside. */
  readonly late: { keep(runId: string, late: Late): void; take(runId: string): Late; clear(): void };
  /** The driver begins a round. */
  works(driver: Driver): void;
  /** The driver rests until its `nextAt`. */
  rests(driver: Driver): void;
  /** `no-slot`: its queue is full, though not by runs of this engine. `lost`: another context has, or had, the run. */
  gone(driver: Driver, why?: 'no-slot' | 'lost'): void;
  /** The run was replayed and there is nothing to do for it here. */
  idle(row: RunRow): void;
  /** Its code does not fit this journal. */
  blocked(row: RunRow, error: Error, journal: readonly JournalEntry[]): void;
  report(error: unknown): void;
}
