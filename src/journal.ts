import type { Json } from './json.js';

/*
 * The journal of one run: an append-only list of entries. Names and fields here are persisted for ever; a change
 * means a new FORMAT_VERSION, an upgrade function and a fixture.
 *
 * J1. The first entry is `started`; a terminal entry is `completed`, `failed` or `cancelled`. `retried` reopens a run.
 * J2. An outcome (`step-completed`, `step-failed`, `sleep-ended`, `event-taken`, `wait-timed-out`) is what replay
 *     settles a promise with; outcomes stand in the order in which the handler saw them, `before` excepted.
 * J3. Nothing is ever removed or rewritten: `retried` names the identities whose entries no longer count.
 */

/** The version of the records that this code writes. A store that holds a newer one answers `STORE_TOO_NEW`. */
export const FORMAT_VERSION = 1;

/** (name, occurrence): the second `x` of a run is `['x', 2]` and can not be confused with a user's `'x#2'`. */
export type Identity = readonly [name: string, occurrence: number];

/** Steps, sleeps, children and sends share the namespace `step`; waits have their own. */
export type Namespace = 'step' | 'wait';

/** An error as it is kept: never the live object. */
export interface RecordedError {
  readonly name: string;
  readonly message: string;
  readonly code?: string | number;
  readonly stack?: string;
  readonly data?: Json;
  readonly cause?: RecordedError;
  readonly errors?: readonly RecordedError[];
  /** The step or wait whose final failure this is. */
  readonly step?: string;
  readonly identity?: readonly [Namespace, string, number];
}

/** Fields of every outcome. */
interface Outcome {
  readonly at: number;
  readonly id: Identity;
  /** How many identities the handler had asked for when this outcome reached it: replay waits for as many. */
  readonly asked: number;
  /** Journal index of the recorded outcome that had not been released yet when this one was: replay puts it first. */
  readonly before?: number;
}

export type OutcomeEntry =
  | (Outcome & { readonly kind: 'step-completed'; readonly attempt: number; readonly value: Json })
  | (Outcome & { readonly kind: 'step-failed'; readonly attempt: number; readonly error: RecordedError })
  | (Outcome & { readonly kind: 'sleep-ended' })
  | (Outcome & {
      readonly kind: 'event-taken';
      readonly seq: number;
      readonly eventId: string;
      readonly event: string;
      readonly key?: string;
      readonly payload: Json;
      readonly acceptedAt: number;
    })
  | (Outcome & { readonly kind: 'wait-timed-out'; readonly deadline: number });

export type JournalEntry =
  | OutcomeEntry
  | {
      readonly kind: 'started';
      readonly at: number;
      readonly payload: Json;
      /** The payload as given, when the job's schema changed it. */
      readonly given?: Json;
      readonly retry?: Json;
    }
  | {
      readonly kind: 'claimed';
      readonly at: number;
      readonly owner: string;
      readonly fence: number;
      /** The owner before died while a function of the run was in flight. */
      readonly interrupted?: true;
    }
  | { readonly kind: 'released'; readonly at: number }
  | {
      readonly kind: 'attempt-failed';
      readonly at: number;
      readonly id: Identity;
      readonly attempt: number;
      readonly error: RecordedError;
      readonly retryAt: number;
    }
  | { readonly kind: 'sleep-set'; readonly at: number; readonly id: Identity; readonly dueAt: number }
  | {
      readonly kind: 'wait-set';
      readonly at: number;
      readonly id: Identity;
      readonly events: readonly string[];
      readonly key?: string;
      readonly deadline?: number;
      readonly onTimeout: 'fail' | 'continue' | 'cancel';
      /** Earliest `acceptedAt` of events older than the run that it may take; absent: none. */
      readonly lookbackFrom?: number;
    }
  | {
      readonly kind: 'handler-failed';
      readonly at: number;
      readonly attempt: number;
      readonly error: RecordedError;
      readonly retryAt: number;
    }
  | {
      readonly kind: 'drift';
      readonly at: number;
      /** Recorded outcomes that the present code did not ask for: replay no longer waits for them. */
      readonly ids: readonly (readonly [Namespace, string, number])[];
      /** How many asks fewer than recorded replay waits for from here on. */
      readonly slack: number;
    }
  | {
      readonly kind: 'retried';
      readonly at: number;
      /** Identities whose failures and outcomes so far no longer count. */
      readonly forgets: readonly (readonly [Namespace, string, number])[];
    }
  | { readonly kind: 'completed'; readonly at: number; readonly value: Json }
  | { readonly kind: 'failed'; readonly at: number; readonly error: RecordedError }
  | { readonly kind: 'cancelled'; readonly at: number };

/** Whether replay settles a promise with this entry. */
export const isOutcome = (entry: JournalEntry): entry is OutcomeEntry => 'asked' in entry;

/** The namespace an entry's identity belongs to. */
export const namespaceOf = (entry: { readonly kind: string }): Namespace =>
  entry.kind[0] === 'w' || entry.kind[0] === 'e' ? 'wait' : 'step';

/** An identity as a map key. JSON text is injective, joined text is not. */
export const identityKey = (namespace: Namespace, id: Identity): string => JSON.stringify([namespace, ...id]);
