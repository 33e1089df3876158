import type { Json } from '../values/json.js';

/*
 * The journal of one run: an append-only list of entries. Names and fields here are persisted for ever; a change
 * means a new FORMAT_VERSION, an upgrade function and a fixture.
 *
 * J1. The first entry is `started`; a terminal entry is `completed`, `failed` or `cancelled`. `retried` reopens a run.
 * J2. An outcome (`step-completed`, `step-failed`, `value-made`, `sleep-ended`, `event-taken`, `wait-timed-out`,
 *     `child-completed`, `child-failed`) is what replay settles a promise with; outcomes stand in the order in which the
 *     handler saw them, `before` excepted.
 * J3. Nothing is ever removed or rewritten: `retried` names the identities whose entries no longer count. Only
 *     `step.restart` puts a new journal in the place of the old one; its `started` says which generation it is.
 * J4. After the terminal entry come only entries of what follows an end: `undone` and its failures, log lines, `upgraded`,
 *     `retried`.
 */

/** The version of the records that this code writes. A store that holds a newer one answers `STORE_TOO_NEW`. */
export const FORMAT_VERSION = 1;

/** (name, occurrence): the second `x` of a run is `['x', 2]` and can not be confused with a user's `'x#2'`. */
export type Identity = readonly [name: string, occurrence: number];

/** Steps, sleeps, children and sends share the namespace `step`; waits have their own. */
export type Namespace = 'step' | 'wait';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** An error as it is kept: never the live object. */
export interface RecordedError {
  readonly name: string;
  readonly message: string;
  readonly code?: string | number;
  readonly stack?: string;
  readonly data?: Json;
  /** Carried by another error, and no error itself: `data` is what it is. */
  readonly isValue?: true;
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

/** What a step does, where it does not run a function of the user. */
export type StepWord = 'dispatch' | 'start' | 'call' | 'transaction';

/** Values that are made once and recorded with whatever is committed next. */
export type MadeWord = 'now' | 'uuid' | 'random';

export type OutcomeEntry =
  | (Outcome & {
      readonly kind: 'step-completed';
      readonly attempt: number;
      readonly value: Json;
      readonly word?: StepWord | undefined;
    })
  | (Outcome & {
      readonly kind: 'step-failed';
      readonly attempt: number;
      readonly error: RecordedError;
      readonly word?: StepWord | undefined;
      readonly isUnknown?: true | undefined;
    })
  | (Outcome & { readonly kind: 'value-made'; readonly word: MadeWord; readonly value: Json })
  | (Outcome & { readonly kind: 'sleep-ended' })
  | (Outcome & {
      readonly kind: 'event-taken';
      readonly seq: number;
      readonly eventId: string;
      readonly event: string;
      readonly key?: string;
      readonly payload: Json;
      readonly acceptedAt: number;
      /** Older events of the pair that were passed over (`match`) now: a later wait has to look at them again. */
      readonly over?: readonly number[] | undefined;
    })
  | (Outcome & { readonly kind: 'wait-timed-out'; readonly deadline: number })
  | (Outcome & { readonly kind: 'child-completed'; readonly runId: string; readonly value: Json })
  | (Outcome & { readonly kind: 'child-failed'; readonly runId: string; readonly error: RecordedError });

export type JournalEntry =
  | OutcomeEntry
  | {
      readonly kind: 'started';
      readonly at: number;
      readonly payload: Json;
      /** The payload as given, when the job's schema changed it. */
      readonly given?: Json;
      readonly retry?: Json;
      /** Tells a start that a store was asked for twice, its answer being lost, from another one of the same id. */
      readonly nonce?: string;
      /** How often the run was begun anew before (`step.restart`). Absent: never. */
      readonly generation?: number;
      /** Events that earlier generations have taken: all of a pair up to `floors`, but for what they left. */
      readonly floors?: readonly (readonly [pair: string, seq: number])[];
      readonly left?: readonly (readonly [pair: string, seqs: readonly number[]])[];
      /** The tick of a schedule that started the run, and how many before it were missed. */
      readonly schedule?: { readonly name: string; readonly tick: number; readonly missed: number };
      /** The run it is a copy of, up to this step; what `step.restart` begins is none. */
      readonly forkedFrom?: { readonly runId: string; readonly before: string };
    }
  /** A start with the same debounce key, before the run began: its payload is the one that counts. */
  | {
      readonly kind: 'rescheduled';
      readonly at: number;
      readonly payload: Json;
      readonly given?: Json;
      readonly dueAt: number;
    }
  /** `from`: the id that it had, where it was given another one. */
  | { readonly kind: 'imported'; readonly at: number; readonly from?: string }
  | {
      readonly kind: 'claimed';
      readonly at: number;
      readonly owner: string;
      readonly fence: number;
      /** The owner before died while a function of the run was in flight. */
      readonly interrupted?: true;
    }
  /** `blocked`: until the next claim no code at hand could go on with the run. */
  | { readonly kind: 'released'; readonly at: number; readonly blocked?: true }
  /** `isUnknown`: it may have done all it was to do: given up waiting for; or it returned, with what could not be kept. */
  | {
      readonly kind: 'attempt-failed';
      readonly at: number;
      readonly id: Identity;
      readonly attempt: number;
      readonly error: RecordedError;
      readonly retryAt: number;
      readonly word?: StepWord | undefined;
      readonly isUnknown?: true | undefined;
    }
  /** A child run was started, and its end is awaited. */
  | {
      readonly kind: 'child-set';
      readonly at: number;
      readonly id: Identity;
      readonly runId: string;
      readonly job: string;
    }
  /** The step can be undone: from here on it counts as begun. */
  | {
      readonly kind: 'undo-set';
      readonly at: number;
      readonly id: Identity;
      /** In a fork, of what was done in the other run: its key there, and whether an attempt of it is of unknown outcome. */
      readonly idempotencyKey?: string;
      readonly isUnknown?: true;
    }
  | { readonly kind: 'undone'; readonly at: number; readonly id: Identity; readonly attempt: number }
  | {
      readonly kind: 'undo-attempt-failed';
      readonly at: number;
      readonly id: Identity;
      readonly attempt: number;
      readonly error: RecordedError;
      readonly retryAt: number;
    }
  /** Given up: what the step has done stays done, and somebody has to look at it. */
  | {
      readonly kind: 'undo-failed';
      readonly at: number;
      readonly id: Identity;
      readonly attempt: number;
      readonly error: RecordedError;
    }
  /** A line of the job's log. `id`: of the step that wrote it; absent: the handler itself. */
  | {
      readonly kind: 'logged';
      readonly at: number;
      readonly level: LogLevel;
      readonly message: string;
      readonly data?: Json;
      readonly id?: Identity;
      /** Written by the generation before: the last that it said, before `step.restart` began this journal. */
      readonly earlier?: true;
    }
  /** The `nth` increment of a shared value whose number the step has asked for: its next attempt gets the same number. */
  | {
      readonly kind: 'state-incremented';
      readonly at: number;
      readonly id: Identity;
      readonly key: string;
      readonly nth: number;
      readonly value: number;
    }
  /** The function of a run that was interrupted before has told how far it is. */
  | { readonly kind: 'progressed'; readonly at: number; readonly id: Identity }
  /** An event that fits the wait, but whose payload its schema refuses: left for others (spec E9). */
  | {
      readonly kind: 'event-skipped';
      readonly at: number;
      readonly id: Identity;
      readonly seq: number;
      readonly eventId: string;
      readonly event: string;
      readonly reason: string;
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
  /** Code of a later version took the run up. */
  | {
      readonly kind: 'upgraded';
      readonly at: number;
      readonly from: number;
      readonly to: number;
      /** What `migrate` made of it: payload, new names by old ones, names that no longer count. */
      readonly payload?: Json;
      readonly renames?: readonly (readonly [from: string, to: string])[];
      readonly forgets?: readonly string[];
    }
  | {
      readonly kind: 'retried';
      readonly at: number;
      /** Identities whose failures and outcomes so far no longer count. */
      readonly forgets: readonly (readonly [Namespace, string, number])[];
      /** Of these, calls whose child has been taken up again since: its end is awaited once more, no other is started. */
      readonly rejoins?: readonly (readonly [Namespace, string, number])[];
    }
  | { readonly kind: 'completed'; readonly at: number; readonly value: Json }
  | { readonly kind: 'failed'; readonly at: number; readonly error: RecordedError }
  | { readonly kind: 'cancelled'; readonly at: number };

/** Whether replay settles a promise with this entry. */
export const isOutcome = (entry: JournalEntry): entry is OutcomeEntry => 'asked' in entry;

/** The namespace an entry's identity belongs to: `wait-...` and `event-...` are of waits. */
export const namespaceOf = (entry: { readonly kind: string }): Namespace =>
  entry.kind[0] === 'w' || entry.kind[0] === 'e' ? 'wait' : 'step';

/** An identity as a map key. JSON text is injective, joined text is not. */
export const identityKey = (namespace: Namespace, id: Identity): string => JSON.stringify([namespace, ...id]);
