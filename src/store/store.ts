import type { StepfastError } from '../errors.js';
import type { Json } from '../values/json.js';
import type { JournalEntry } from './journal.js';

/*
 * The store contract: types and prose only. Eight methods; everything that changes anything is one `commit`.
 *
 * S1. A commit is atomic, and durable (as far as the store's `durability` promises) when its promise resolves.
 * S2. The journal and row of a run change only in a commit that names its present fence (`fence: 'any'` is for
 *     cancelling from any context, and is refused once the run has ended). A claim raises the fence by one.
 * S3. `commit` of a wait and `commit` of an event read and write the same records, so whichever comes second sees the
 *     first: the wait is offered the event, or the event wakes the wait. No clock, lock or message takes part.
 * S4. An event is never written into a journal by the store: it wakes runs, and their owner takes it.
 * S5. `seq` numbers what a store accepts (runs and events) in commit order; `acceptedAt` is the `now` of the commit.
 * S6. A store keeps no live reference: what it returns and what it was given share no mutable object with it. Values come back
 *     with the keys of their objects in the order they had: what is shared within a value is told by counting (codec.ts, C2).
 * S7. Hints of `watch` may be lost, doubled or late; truth is always read again.
 * S8. A commit whose promise rejects may or may not have happened (a lost response); one that resolves with anything
 *     but `committed` has changed nothing.
 * S9. The end of a run and the wait for it read and write the same rows, as S3: neither can miss the other.
 *
 * The rules of what a commit does are the same for every store, so they are written once: `transition.ts`, over the
 * few reads that a store offers (`Reads`). A store may do the same set-based (SQL); the conformance suite decides.
 */

/** The persisted statuses of a run; `blocked` is derived where it is seen and never stored. */
export type StoredStatus =
  | 'scheduled'
  | 'queued'
  | 'running'
  | 'retrying'
  | 'sleeping'
  | 'waiting'
  | 'completed'
  | 'failed'
  | 'cancelled';

/** A recorded expectation of an event, as far as the store must know it. */
export interface OpenWait {
  readonly id: readonly [name: string, occurrence: number];
  readonly events: readonly string[];
  readonly key?: string;
  /** Only events with a greater `seq` may be taken ... */
  readonly after: number;
  /** ... of each of `events` its own, where they are not all the same ... */
  readonly afters?: readonly number[];
  /** ... or events up to there that no run has taken, accepted at or after this instant. Absent: none. */
  readonly lookbackFrom?: number;
  /** An event accepted later does not fit. Absent: no deadline. */
  readonly deadline?: number;
}

/** The part of a run that its owner rewrites with each commit. */
export interface RunState {
  readonly status: StoredStatus;
  readonly version: number;
  /** Who drives, or last drove, the run. Absent: nobody; the next look of any context may claim it. */
  readonly owner?: string;
  /** When somebody must look at the run. Absent: only an event or a command can wake it. */
  readonly dueAt?: number;
  /** The run backs off until `dueAt`: when that was said, by the clock that said it. */
  readonly setAt?: number;
  readonly waits: readonly OpenWait[];
  /** The queue in which the run holds a slot. Absent: none held. */
  readonly slot?: string;
  /** Runs whose end wakes this one. */
  readonly awaits?: readonly string[];
  readonly startedAt?: number;
  readonly endedAt?: number;
  /** What the run last said of how far it is. */
  readonly progress?: Json;
  /** Steps of the run can be undone: when it ends from outside, it becomes `undoing`. */
  readonly undoable?: true;
  /** The run has ended, and what is to follow (undoing its steps, telling of its failure) is not done. */
  readonly undoing?: true;
  /** The handler may be about to ask for more: when the owner is gone, replay the run even if nothing is due. */
  readonly unsettled?: true;
}

/** Keeps other runs of its job with the same key from being started, as long as the run has not started, or ended. */
export interface Unique {
  readonly key: string;
  readonly until: 'start' | 'end';
}

/** One run, without its journal: small, and all that a store has to keep at hand. */
export interface RunRow extends RunState {
  readonly runId: string;
  readonly job: string;
  readonly queue: string;
  readonly idempotencyKey?: string;
  readonly parentId?: string;
  readonly tags?: readonly string[];
  /** Due runs with a greater one go first. Absent: 0. */
  readonly priority?: number;
  readonly unique?: Unique;
  /** Until when id and idempotency key are remembered, though the run be deleted. Absent: as long as the run is kept. */
  readonly keyUntil?: number;
  readonly createdAt: number;
  /** The store's sequence number at creation. */
  readonly seq: number;
  /** Grows with each owner. */
  readonly fence: number;
  /** Number of journal entries. */
  readonly length: number;
  /** Set by a dispatch that an open wait of this run may take, cleared by the next commit of its owner. */
  readonly woken?: true;
  /** Of the runs that this one awaits, those that have ended: kept until a commit no longer awaits them. */
  readonly ended?: readonly string[];
}

export interface StoredRun {
  readonly row: RunRow;
  readonly journal: readonly JournalEntry[];
}

export interface EventRow {
  readonly seq: number;
  readonly id: string;
  readonly name: string;
  readonly key?: string;
  readonly payload: Json;
  readonly given?: Json;
  readonly acceptedAt: number;
  readonly expiresAt: number;
  /** Addressed to this run alone. */
  readonly runId?: string;
  readonly idempotencyKey?: string;
  /** The runs that had an open matching wait when it was accepted. */
  readonly resumed: readonly string[];
  /** Some run has taken it. */
  readonly taken?: true;
}

/**
 * A run to be created. Nothing is created when the id, or (job, idempotencyKey), is already there or remembered, or when
 * a run of the job holds the same unique key.
 */
export interface NewRun {
  readonly runId: string;
  readonly job: string;
  readonly version: number;
  readonly queue: string;
  readonly idempotencyKey?: string;
  readonly parentId?: string;
  readonly tags?: readonly string[];
  readonly priority?: number;
  readonly unique?: Unique;
  readonly keyUntil?: number;
  /** When the run is first due. Absent: at once. */
  readonly dueAt?: number;
  /** Its journal to begin with: one entry, or those of the run it was copied from. */
  readonly entries: readonly JournalEntry[];
  /** Of a copy of a run that has ended. Absent: `queued`, or `scheduled` when it is due later. */
  readonly state?: RunState;
  /** A run that holds the unique key and has not started is given this entry and due instant instead (debounce). */
  readonly moves?: JournalEntry;
  /** Where a run that holds the unique key answers: its idempotency key (or id) is remembered with this, up to then. */
  readonly merged?: { readonly fingerprint: string; readonly until: number };
}

/** An event to be accepted. A known `id`, or a known `idempotencyKey` on its pair, gives the first receipt again. */
export interface NewEvent {
  readonly id: string;
  readonly name: string;
  readonly key?: string;
  readonly payload: Json;
  /** The payload as it was given, where its schema has made something else of it: a repeated one may equal either. */
  readonly given?: Json;
  readonly ttlMs: number;
  readonly idempotencyKey?: string;
  readonly runId?: string;
  /** More untaken events than this on one pair: refused with `EVENT_BACKLOG_FULL`. */
  readonly maxBacklog: number;
}

/** The transition of one run. */
export interface RunChange {
  readonly runId: string;
  /** The fence the caller holds or, for a claim, last saw. `'any'`: whatever it is, unless the run has ended. */
  readonly fence: number | 'any';
  /** Refuse (`fenced`) when the journal has another length: a claim must have read all that the owner before wrote. */
  readonly length?: number;
  /** Raises the fence by one (claim, cancel, retry of an ended run). */
  readonly raise?: true;
  /** `append` becomes the whole journal: what was there is gone. */
  readonly reset?: true;
  readonly append: readonly JournalEntry[];
  /** Replaces the row's state. Absent with `append: []`: the fence is confirmed and nothing changes. */
  readonly state?: RunState;
  /** `seq` of events that `append` takes. `untaken`: refuse when another run has taken it (lookback). */
  readonly takes?: readonly { readonly seq: number; readonly untaken?: true }[];
  /** Refuse (`overtaken`) when an event fits one of these: the condition of a timeout. */
  readonly unless?: readonly OpenWait[];
  /** Refuse (`no-slot`) when this many other runs hold a slot of `state.slot`. */
  readonly concurrency?: number;
  /** Refuse (`no-slot`) when the queue has given out `limit` slots within the last `perMs`. */
  readonly rate?: { readonly limit: number; readonly perMs: number };
  /** The key of a run that is taken up again: refused (`fenced`) while another run of its job holds it. */
  readonly unique?: Unique;
}

/** A value that all runs of the store share. Keys that begin with `stepfast:` are the library's own. */
export interface StateRow {
  readonly key: string;
  readonly value: Json;
  /** From then on it counts as absent. Absent: never. */
  readonly expiresAt?: number;
  /** Number of the write: grows with each, in the whole store. */
  readonly revision: number;
  /** Of a lock: how often it was given out, and to whom, if it is held. */
  readonly token?: number;
  readonly holder?: string;
}

/** A write to the shared state. */
export type StateChange =
  | {
      readonly kind: 'set';
      readonly key: string;
      readonly value: Json;
      readonly expiresAt?: number;
      /** Refuse (`STATE_CHANGED`) unless the present row has this revision; 0: unless there is none. */
      readonly ifRevision?: number;
    }
  | { readonly kind: 'delete'; readonly key: string }
  /** Refused (`NOT_A_NUMBER`) unless the present value is a number; absent counts as 0. Keeps the expiry unless given. */
  | { readonly kind: 'increment'; readonly key: string; readonly by: number; readonly expiresAt?: number }
  /** Taken when nobody holds it, its time is over, or the same holder has it; never refused: the outcome tells. */
  | { readonly kind: 'lock'; readonly key: string; readonly holder: string; readonly expiresAt: number }
  /** Nothing when another has it by now. */
  | { readonly kind: 'unlock'; readonly key: string; readonly token: number };

export interface StateOutcome {
  /** After `increment`. */
  readonly value?: number;
  /** After `lock`, when it was taken: greater than any before. */
  readonly token?: number;
}

/**
 * A run to be deleted with its journal. Refused (`fenced`) unless it has ended, is not `undoing`, is awaited by no active
 * run, and has this fence.
 */
export interface Deletion {
  readonly runId: string;
  readonly fence: number;
  /** What tells its payload from another, for as long as its id and key are remembered. */
  readonly fingerprint: string;
}

/** Parts are decided in this order; all are written, or none. */
export interface Batch {
  readonly now: number;
  readonly run?: RunChange;
  readonly state?: readonly StateChange[];
  readonly starts?: readonly NewRun[];
  readonly events?: readonly NewEvent[];
  readonly deletes?: readonly Deletion[];
}

export interface StartOutcome {
  readonly kind: 'created' | 'exists' | 'moved';
  readonly runId: string;
  /** Of the payload of a start that is remembered: its run is deleted, or (`isUnique`) another run has answered it. */
  readonly fingerprint?: string;
  /** The run holds (where there is a fingerprint: held) the same unique key; its own id and idempotency key may be others. */
  readonly isUnique?: true;
}

export interface EventOutcome {
  readonly kind: 'accepted' | 'deduplicated';
  readonly id: string;
  readonly seq: number;
  readonly acceptedAt: number;
  readonly resumed: readonly string[];
  /** Of the first event, when deduplicated, for the caller to compare. */
  readonly payload?: Json;
  readonly given?: Json;
}

/** What became of a batch. Anything but `committed` has changed nothing. */
export type CommitOutcome =
  | {
      readonly kind: 'committed';
      /** The run's fence after the commit; 0 without `run`. */
      readonly fence: number;
      /**
       * Events that its open waits may take, oldest first: those of waits opened now, and all after a wake-up; with each,
       * the older ones of its pair that came too late for the wait (a clock was set back). With any, the run is due at
       * once, until a commit that is offered none: should its owner die, the next one looks.
       */
      readonly offers: readonly EventRow[];
      /** Of the runs that it awaits, those that have ended. */
      readonly ended: readonly string[];
      readonly state: readonly StateOutcome[];
      readonly starts: readonly StartOutcome[];
      readonly events: readonly EventOutcome[];
    }
  /** Another owner has the run, or there is no such run (`fence: 0`). */
  | { readonly kind: 'fenced'; readonly fence: number }
  /** `fence: 'any'` on a run that has ended. */
  | { readonly kind: 'ended'; readonly status: StoredStatus }
  | { readonly kind: 'overtaken'; readonly offers: readonly EventRow[] }
  /** `retryAt`: when the rate limit has room again. */
  | { readonly kind: 'no-slot'; readonly retryAt?: number }
  | {
      readonly kind: 'refused';
      readonly code: 'EVENT_BACKLOG_FULL' | 'RUN_NOT_FOUND' | 'NOT_A_NUMBER' | 'STATE_CHANGED';
      /** Which of the events, or of the state changes. */
      readonly index: number;
    };

/** What an engine asks when it looks for work. */
export interface DueQuery {
  readonly now: number;
  readonly owner: string;
  /** Jobs registered here, with their versions: only runs of these, up to that version, are returned. */
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
  /** How many contexts may drive runs of this store at once. */
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
   * does, when the store fails (S8); what `body` throws is an outcome. Other commits wait until it has ended.
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
