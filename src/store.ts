import type { JournalEntry } from './journal.js';
import type { Json } from './json.js';

/*
 * The store contract: types and prose only. Seven methods; everything that changes anything is one `commit`.
 *
 * S1. A commit is atomic, and durable (as far as the store's `durability` promises) when its promise resolves.
 * S2. The journal and row of a run change only in a commit that names its present fence (`fence: 'any'` is for
 *     cancelling from any context, and is refused once the run has ended). A claim raises the fence by one.
 * S3. `commit` of a wait and `commit` of an event read and write the same records, so whichever comes second sees the
 *     first: the wait is offered the event, or the event wakes the wait. No clock, lock or message takes part.
 * S4. An event is never written into a journal by the store: it wakes runs, and their owner takes it.
 * S5. `seq` numbers what a store accepts (runs and events) in commit order; `acceptedAt` is the `now` of the commit.
 * S6. A store keeps no live reference: what it returns and what it was given share no mutable object with it.
 * S7. Hints of `watch` may be lost, doubled or late; truth is always read again.
 * S8. A commit whose promise rejects may or may not have happened (a lost response); one that resolves with anything
 *     but `committed` has changed nothing.
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
  readonly waits: readonly OpenWait[];
  /** The queue in which the run holds a slot. Absent: none held. */
  readonly slot?: string;
  readonly startedAt?: number;
  readonly endedAt?: number;
  /** The handler may be about to ask for more: when the owner is gone, replay the run even if nothing is due. */
  readonly unsettled?: true;
}

/** One run, without its journal: small, and all that a store has to keep at hand. */
export interface RunRow extends RunState {
  readonly runId: string;
  readonly job: string;
  readonly queue: string;
  readonly idempotencyKey?: string;
  readonly parentId?: string;
  readonly tags?: readonly string[];
  readonly createdAt: number;
  /** The store's sequence number at creation. */
  readonly seq: number;
  /** Grows with each owner. */
  readonly fence: number;
  /** Number of journal entries. */
  readonly length: number;
  /** Set by a dispatch that an open wait of this run may take, cleared by the next commit of its owner. */
  readonly woken?: true;
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

/** A run to be created. Nothing is created when the id, or (job, idempotencyKey), is already there. */
export interface NewRun {
  readonly runId: string;
  readonly job: string;
  readonly version: number;
  readonly queue: string;
  readonly idempotencyKey?: string;
  readonly parentId?: string;
  readonly tags?: readonly string[];
  /** When the run is first due: now, or the start time ahead. */
  readonly dueAt: number;
  /** Its first journal entry. */
  readonly entry: JournalEntry;
}

/** An event to be accepted. A known `id`, or a known `idempotencyKey` on its pair, gives the first receipt again. */
export interface NewEvent {
  readonly id: string;
  readonly name: string;
  readonly key?: string;
  readonly payload: Json;
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
  readonly append: readonly JournalEntry[];
  /** Replaces the row's state. Absent with `append: []`: the fence is confirmed and nothing changes. */
  readonly state?: RunState;
  /** `seq` of events that `append` takes. `untaken`: refuse when another run has taken it (lookback). */
  readonly takes?: readonly { readonly seq: number; readonly untaken?: true }[];
  /** Refuse (`overtaken`) when an event fits one of these: the condition of a timeout. */
  readonly unless?: readonly OpenWait[];
  /** Refuse (`no-slot`) when this many other runs hold a slot of `state.slot`. */
  readonly concurrency?: number;
}

export interface Batch {
  readonly now: number;
  readonly run?: RunChange;
  readonly starts?: readonly NewRun[];
  readonly events?: readonly NewEvent[];
}

export interface StartOutcome {
  readonly kind: 'created' | 'exists';
  readonly runId: string;
}

export interface EventOutcome {
  readonly kind: 'accepted' | 'deduplicated';
  readonly id: string;
  readonly seq: number;
  readonly acceptedAt: number;
  readonly resumed: readonly string[];
  /** Of the first event, when deduplicated, for the caller to compare. */
  readonly payload?: Json;
}

/** What became of a batch. Anything but `committed` has changed nothing. */
export type CommitOutcome =
  | {
      readonly kind: 'committed';
      /** The run's fence after the commit; 0 without `run`. */
      readonly fence: number;
      /** Events that its open waits may take, oldest first: those of waits opened now, and all after a wake-up. */
      readonly offers: readonly EventRow[];
      readonly starts: readonly StartOutcome[];
      readonly events: readonly EventOutcome[];
    }
  /** Another owner has the run, or there is no such run (`fence: 0`). */
  | { readonly kind: 'fenced'; readonly fence: number }
  /** `fence: 'any'` on a run that has ended. */
  | { readonly kind: 'ended'; readonly status: StoredStatus }
  | { readonly kind: 'overtaken'; readonly offers: readonly EventRow[] }
  | { readonly kind: 'no-slot' }
  | { readonly kind: 'refused'; readonly code: 'EVENT_BACKLOG_FULL' | 'RUN_NOT_FOUND'; readonly index: number };

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
}

export interface DuePage {
  /** Oldest `dueAt` first, then by `seq`. Never a run that `owner` itself is running, unless it was woken. */
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
  readonly limit: number;
  /** `nextCursor` of the page before. */
  readonly cursor?: string;
}

export interface ListPage {
  /** Newest first (by `seq`); a page stays where it is when runs are added. */
  readonly runs: readonly StoredRun[];
  readonly nextCursor?: string;
}

export interface OpenOptions {
  /** This engine instance. The store announces it as alive until `close`, or until its process or page is gone. */
  readonly owner: string;
  readonly now: number;
  readonly leaseMs: number;
  /** `drive`: runs will be claimed. `use`: only start, dispatch, cancel, read. */
  readonly mode: 'drive' | 'use';
  /** Hears of what the store repaired, quarantined or could not do in the background. */
  readonly onError: (error: unknown) => void;
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

/** Where journals are kept. Implement these seven methods and run the conformance suite of `stepfast/testing`. */
export interface Store {
  readonly name: string;
  readonly capabilities: StoreCapabilities;
  /** Opens, recovers, announces the owner. Called again with `mode: 'drive'` it becomes a driver, or fails. */
  open(options: OpenOptions): Promise<void>;
  /** Ends the announcement and waits for commits under way. Every later call rejects with `CLOSED`. */
  close(): Promise<void>;
  commit(batch: Batch): Promise<CommitOutcome>;
  due(query: DueQuery): Promise<DuePage>;
  load(runId: string): Promise<StoredRun | undefined>;
  list(query: ListQuery): Promise<ListPage>;
  /**
   * Calls back with ids of runs that changed, in this or another context. `undefined`: anything may have. `isOwn`: by a
   * commit of this very store object, which its engine knows of already.
   */
  watch(listener: StoreListener): () => void;
  /** Lets go of everything at once, as a crash of the context would. For tests. */
  abandon?(): void;
}
