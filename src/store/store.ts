import type { StepfastError } from '../errors.js';
import type { Batch, CommitOutcome } from './batch.js';
import type { JournalEntry } from './journal.js';
import type { EventRow, RunRow, StateRow, StoredRun, StoredStatus } from './rows.js';

/*
 * The store contract: types and prose only. Eight methods; everything that changes anything is one `commit`.
 *
 * S1. A commit is atomic, and durable (as far as the store's `durability` promises) when its promise resolves.
 * S2. The journal and row of a run change only in a commit that names its present fence (`fence: 'any'` is for
 *     cancelling from any context, and is refused once the run has ended). A claim raises the fence by one, and finds the run as
 *     it was read (`length`, `resting`), or is refused.
 * S3. `commit` of a wait and `commit` of an event read and write the same records, so whichever comes second sees the
 *     first: the wait is offered the event, or the event wakes the wait. No clock, lock or message takes part.
 * S4. An event is never written into a journal by the store: it wakes runs, and their owner takes it.
 * S5. `seq` numbers what a store accepts (runs and events) in commit order; `acceptedAt` is the `now` of the commit.
 * S6. A store keeps no live reference: what it returns and what it was given share no mutable object with it. Values come back
 *     with the keys of their objects in the order they had: what is shared within a value is told by counting (codec.ts, C2).
 * S7. Hints of `watch` may be lost, doubled or late; truth is always read again. None is early: what it tells of can be read.
 * S8. A commit whose promise rejects may or may not have happened (a lost response); one that resolves with anything
 *     but `committed` has changed nothing.
 * S9. The end of a run and the wait for it read and write the same rows, as S3: neither can miss the other.
 *
 * The rules of what a commit does are the same for every store, so they are written once: `transition.ts`, over the
 * few reads that a store offers (`Reads`). A store may do the same set-based (SQL); the conformance suite decides.
 */

/** What an engine asks when it looks for work. */
export interface DueQuery {
  readonly now: number;
  readonly owner: string;
  /**
   * Jobs registered here, with their versions: only runs of these, up to that version, are returned; and any that a dead owner
   * has left in a slot, which is to be given back.
   */
  readonly jobs: { readonly [job: string]: number };
  readonly limit: number;
  /** A due run of a living owner that does nothing about it is offered to others after this long. */
  readonly graceMs: number;
  /** Runs that this context can do nothing about, with their `stampOf` then: left out until it changes. */
  readonly skip?: ReadonlyMap<string, string>;
  /** Queues without a free slot: runs that would need one there are left out. */
  readonly full?: readonly string[];
}

export interface DueRun {
  readonly row: RunRow;
  /** Events its open waits may take, oldest first. */
  readonly offers: readonly EventRow[];
  /** Its owner died, or left without releasing it, while the run was `running`. */
  readonly interrupted: boolean;
  /** The whole journal as it was with the row, where the store has read it with that: it need not be loaded. */
  readonly journal?: readonly JournalEntry[];
}

export interface DuePage {
  /** In the order of their lanes (`laneOf`), then oldest `dueAt`, then by `seq`. Never a run that `owner` itself is running, unless it was woken. */
  readonly runs: readonly DueRun[];
  /** The least `dueAt` after `now` of a run of these jobs; may be absent when `runs` is as long as the limit. */
  readonly nextDueAt?: number;
  /** Another living owner has due work: look again in a few seconds. */
  readonly foreign: boolean;
}

export interface ListQuery {
  readonly status?: StoredStatus | readonly StoredStatus[] | undefined;
  readonly job?: string | undefined;
  readonly tag?: string | undefined;
  /** Only runs that ended before this instant. */
  readonly endedBefore?: number;
  readonly limit: number;
  /** `nextCursor` of the page before. */
  readonly cursor?: string;
}

export interface ListPage {
  /** Newest first (by `seq`); a page stays where it is when runs are added. */
  readonly runs: readonly StoredRun[];
  /**
   * Active, or of unknown status, and damaged (spec D3): what `load` of them rejects with, `runId` in it, and `job` where
   * that is known. Those that are put aside come with the first page, what is found while reading with its page.
   */
  readonly lost?: readonly StepfastError[];
  readonly nextCursor?: string;
}

export interface OpenOptions {
  /** This engine instance. The store announces it as alive until `close`, or until its process or page is gone. */
  readonly owner: string;
  readonly now: number;
  readonly leaseMs: number;
  /** `drive`: runs will be claimed. `use`: only start, dispatch, cancel, read. */
  readonly mode: 'drive' | 'use';
  /** A store that only one context can drive, and that was made to wait for it, waits now; else it refuses. */
  readonly isPatient?: boolean;
  /** Hears of what the store repaired, quarantined or could not do in the background. */
  readonly onError: (error: unknown) => void;
  /**
   * The format that this release writes. Default `FORMAT_VERSION`. A store keeps the greatest that a driver has named, in
   * one commit; from then on it refuses with `STORE_TOO_NEW`, whole and inside its transaction, each commit of a release
   * that writes less, and its `open` with mode `drive`. Reading, and `open` with mode `use`, go on. Its owner counts as gone
   * from its first such commit, so that others take its runs up.
   */
  readonly format?: number;
}

export interface StoreCapabilities {
  /** Whether what was acknowledged outlives the process (`process`), or power loss (`power`), or neither. */
  readonly durability: 'none' | 'process' | 'power';
  /**
   * How many contexts may drive runs of this store at once. `one`: while one does, `open` of another to drive is refused with
   * `STORE_LOCKED`, and so is a claim.
   */
  readonly owners: 'one' | 'many';
  /** Values may hold `Blob` and `File`. */
  readonly blobs: boolean;
}

export type StoreListener = (runId: string | undefined, isOwn?: boolean) => void;

/** Rows of the app and a commit, kept both or not at all (`step.transaction`). */
export interface SharedWork<Value> {
  /** What of the app's data `body` touches, named as the store's database does; IndexedDB: names of object stores. */
  readonly scope: readonly string[];
  /**
   * The app's part. Given the transaction of the store (its own kind: `IDBTransaction`, ...), it awaits nothing but that,
   * neither commits it nor ends it otherwise, and may run again when the commit fails.
   */
  readonly body: (tx: never) => Value | PromiseLike<Value>;
  /** The commit, out of what `body` returned. Synchronous: the transaction can not wait for anything else. */
  readonly batchOf: (value: Value) => Batch;
}

/** Anything but `committed` has changed nothing, of the app's data neither. */
export type SharedOutcome =
  | CommitOutcome
  /** `body` or `batchOf` threw this, or `body` broke the rules of the transaction (`TRANSACTION_ENDED`). */
  | { readonly kind: 'threw'; readonly error: unknown };

/** Where journals are kept. Implement these eight methods and run the conformance suite of `stepfast/testing`. */
export interface Store {
  readonly name: string;
  readonly capabilities: StoreCapabilities;
  /** Opens, recovers, announces the owner. Called again with `mode: 'drive'` it becomes a driver, or fails. */
  open(options: OpenOptions): Promise<void>;
  /** Ends the announcement and waits for commits under way. Every later call rejects with `CLOSED`. */
  close(): Promise<void>;
  commit(batch: Batch): Promise<CommitOutcome>;
  due(query: DueQuery): Promise<DuePage>;
  /** @throws {StepfastError} `STORE_CORRUPT`, with its `runId`, when the run is damaged (spec D3). */
  load(runId: string): Promise<StoredRun | undefined>;
  list(query: ListQuery): Promise<ListPage>;
  /** A value of the shared state. One that has expired may still be returned: the caller looks at `expiresAt`. */
  state(key: string): Promise<StateRow | undefined>;
  /**
   * Only where the store shares a database with the app: `body` and the batch in one transaction. It rejects as `commit`
   * does, when the store fails (S8), and with `TRANSACTION_ENDED` when `body` has committed its rows without the batch; what
   * `body` throws is an outcome. Other commits wait until it has ended.
   */
  transact?<Value>(work: SharedWork<Value>): Promise<SharedOutcome>;
  /**
   * Calls back with ids of runs that changed, in this or another context. `undefined`: anything may have. `isOwn`: by a
   * commit of this very store object, which its engine knows of already; beside `undefined`: all that there was is gone
   * (the site's data was cleared), and another store of the same name is in its place.
   */
  watch(listener: StoreListener): () => void;
  /** Lets go of everything at once, as a crash of the context would. For tests. */
  abandon?(): void;
}
