import type { Json } from '../values/json.js';
import type { JournalEntry } from './journal.js';

/*
 * What a store keeps, apart from journals (journal.ts): runs, events, and values of the shared state. Types and prose only.
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
