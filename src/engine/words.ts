import type { Job } from '../door/job.js';
import type { StartOptions } from '../door/start.js';
import { StepfastError } from '../errors.js';
import type { JournalEntry } from '../store/journal.js';
import type { OpenWait, RunRow } from '../store/rows.js';
import type { Duration } from '../values/duration.js';
import type { RunHandle } from './runs.js';

/*
 * Words of the engine that come with a plug-in. Their types are always there; who has not imported the plug-in does not
 * pay for what they do, and is told what to import.
 */

/** When a schedule ticks: one of `every` and `cron`. */
export type ScheduleOptions =
  | {
      /** At least a second, counted from when the schedule was first declared on the store. */
      readonly every: Duration;
      readonly cron?: undefined;
      readonly timezone?: undefined;
    }
  | {
      /** Five fields (minute, hour, day of month, month, day of week), or six with seconds before them. */
      readonly cron: string;
      /** An IANA name, such as `Europe/Vienna`. Default: `UTC`, so that all contexts of a store agree. */
      readonly timezone?: string;
      readonly every?: undefined;
    };

/** What the runs of a schedule are started with; their ids, keys and times come from the ticks. */
export type ScheduleStartOptions = Pick<StartOptions, 'queue' | 'priority' | 'tags' | 'retry'>;

/** A schedule, as this engine has it. */
export interface Scheduled {
  /** The first tick later than now. `undefined`: none, not known before the store is open (`every`), or stopped. */
  next(): Date | undefined;
  /** Starts no more runs from here; its name can be declared again. Other contexts are not stopped. */
  stop(): void;
}

/** `stepfast.schedule`. */
export interface Schedule {
  /**
   * Starts a run of the job at each tick. Ticks that were missed while no context was open make one run.
   *
   * Needs the plug-in of `stepfast/schedules`, and says there what it promises.
   *
   * @param name 1 to 256 characters; under it the last tick is kept in the store, so it must not change.
   * @throws {StepfastError} `MISSING_PLUGIN`, `INVALID_NAME` (also when this engine has it already), `INVALID_OPTION`,
   * `INVALID_DURATION`, `NOT_SERIALIZABLE`, `VALUE_TOO_LARGE`, `CLOSED`.
   * @example stepfast.schedule('tidy up', { every: '1h' }, tidy, { folder: 'drafts' });
   */
  <Payload, Result, Input>(
    name: string,
    when: ScheduleOptions,
    job: Job<Payload, Result, Input>,
    ...rest: undefined extends Input
      ? [payload?: NoInfer<Input>, options?: ScheduleStartOptions]
      : [payload: NoInfer<Input>, options?: ScheduleStartOptions]
  ): Scheduled;
  (name: string, when: ScheduleOptions, job: string, payload?: unknown, options?: ScheduleStartOptions): Scheduled;
}

/**
 * A run as it travels: plain JSON, to be kept in a file, attached to a report, imported into another store, or handed to
 * `replay` of `stepfast/testing`.
 *
 * Values stand as stores keep them: JSON as it is, anything else as `{ "$": [tag, ...] }` (a `Date`, a `Map`). All instants
 * are epoch milliseconds. Owners of the run are called `owner 1`, `owner 2` and so on. Numbers of events (`seq`) and
 * fences are those of the store it comes from, and mean nothing in another.
 */
export interface ExportedRun {
  /** The version of this frame. */
  readonly stepfast: 1;
  /** The version of what is in it: that of the journal. A greater one than known here is refused with `STORE_TOO_NEW`. */
  readonly format: number;
  readonly run: ExportedRow;
  /** All that happened, in order; the first entry is `started`. */
  readonly journal: readonly JournalEntry[];
}

type OfItsStore = 'owner' | 'slot' | 'seq' | 'fence' | 'length' | 'woken' | 'ended' | 'unsettled' | 'setAt' | 'waits';

/** The run apart from its journal. What only its store can tell is left out. */
export interface ExportedRow extends Omit<RunRow, OfItsStore> {
  /** Open waits. */
  readonly waits: readonly Omit<OpenWait, 'after' | 'afters'>[];
}

/** What a value is that `redact` is called with; `name` says of which step, event, error or option. */
export interface RedactPlace {
  readonly kind:
    | 'payload'
    | 'result'
    | 'progress'
    /** What a step returned. */
    | 'step'
    /** What `step.uuid()`, `step.now()` or `step.random()` made. */
    | 'made'
    /** A number that `state.increment` gave to a step. */
    | 'state'
    /** What a child run returned. */
    | 'child'
    /** The payload of an event. */
    | 'event'
    /**
     * A correlation key (by event), a key of the shared state (`state`), an idempotency key or unique key: text, or `undefined`
     * to leave the latter two out.
     */
    | 'key'
    /** Text, or `undefined` to leave it out. */
    | 'tag'
    /** The message of an error, its stack, and what it carried: text, text or `undefined`, any value. */
    | 'error'
    | 'stack'
    | 'data'
    /** The code of an error, unless it is a constant (`ENOENT`): text, or `undefined` to leave it out. */
    | 'code'
    /** A log line, and its data; why an event was skipped: text, any value, text. */
    | 'log'
    | 'log-data'
    | 'reason';
  readonly name?: string;
}

export interface ExportOptions {
  /**
   * Called for each value, message and key; what it returns takes its place, and must fit there. `true`: every text in
   * them becomes `[redacted]`, bytes become zeros, and the shape stays. Names, ids, numbers, dates, keys of objects and
   * constants as codes of errors (`ENOENT`) stay. Code whose correlation keys are made of what was redacted no longer fits
   * the run.
   */
  readonly redact?: boolean | ((value: unknown, place: RedactPlace) => unknown);
}

export interface ImportOptions {
  /** An id of its own for the copy, which then has no idempotency key. Default: the id it had. */
  readonly id?: string;
}

/** Runs that leave their store, or come from another. Needs the plug-in of `stepfast/transfer`. */
export interface Transfer {
  /**
   * The run as it is now, without anything live in it.
   *
   * @throws {StepfastError} `MISSING_PLUGIN`, `INVALID_ID`, `RUN_NOT_FOUND`, `INVALID_OPTION`, and `NOT_SERIALIZABLE` for a `Blob`, with
   * its path: let `redact` replace it.
   * @example await upload(JSON.stringify(await stepfast.runs.export(runId, { redact: true })));
   */
  export(runId: string, options?: ExportOptions): Promise<ExportedRun>;
  /**
   * Creates the run in this store, as far as it had come. An active one is ready at once, and taken up where its job is
   * registered (anywhere else it shows as `blocked`): do not let two stores do the same work. Deadlines stay the instants they
   * were. Events that were dispatched here before are taken by waits with `lookback` alone. The id is remembered as long as
   * where it comes from; one that is given here for 30 days. Import children before the run that awaits them.
   *
   * @throws {StepfastError} `MISSING_PLUGIN`; `INVALID_PAYLOAD` with the path of what is wrong; `STORE_TOO_NEW`;
   * `INVALID_ID`; `IDEMPOTENCY_CONFLICT` when id or key belong to another run. The same run again gives `created: false`.
   */
  import(run: ExportedRun, options?: ImportOptions): Promise<Pick<RunHandle, 'id' | 'created'>>;
}

/** What is told in the place of a word whose plug-in is not used. */
const missingPlugin = (word: string, entry: string) =>
  new StepfastError(
    'MISSING_PLUGIN',
    `stepfast.${word} needs a plug-in. Import it from "${entry}" and hand it to createStepfast({ use: [...] }).`,
  );

/** What is called in the place of a word that returns a promise. */
export const missing = (word: string, entry: string) => async (): Promise<never> => {
  throw missingPlugin(word, entry);
};

/** What is called in the place of a word that returns at once. */
export const missingNow = (word: string, entry: string) => (): never => {
  throw missingPlugin(word, entry);
};
