import type { Json } from '../values/json.js';
import type { JournalEntry } from './journal.js';
import type { EventRow, OpenWait, RunRow, RunState, StoredStatus, Unique } from './rows.js';

/*
 * What a commit is given, and what comes of it. Types and prose only; what it does: transition.ts.
 */

/**
 * A run to be created. Nothing is created when the id, or (job, idempotencyKey), is already there or remembered, or when
 * a run of the job holds the same unique key.
 */
export interface NewRun
  extends Pick<
    RunRow,
    'runId' | 'job' | 'version' | 'queue' | 'idempotencyKey' | 'parentId' | 'tags' | 'priority' | 'unique' | 'keyUntil'
  > {
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
  /** Refuse (`fenced`) when somebody is at work on it by now: a claim has found it at rest, and neither fence nor length tells. */
  readonly resting?: true;
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
  /**
   * What is not given of `concurrency` and `rate` is as the shared state says under `stepfast:lanes` (`LaneRow` in
   * transition/state.ts); the concurrency is this one where nothing is said.
   */
  readonly defaultConcurrency?: number;
  /** The key of a run that is taken up again: refused (`fenced`) while another run of its job holds it. */
  readonly unique?: Unique;
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
  readonly runId?: string;
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
