import { StepfastError } from '../../src/errors.js';
import type { JournalEntry } from '../../src/journal.js';
import type { Batch, CommitOutcome } from '../../src/store.js';

/*
 * What crosses the border between callers and this store shares no object with either side (store rule S6).
 *
 * B1. Journal entries become text at the door and stay text: they go to the log as they are, and memory keeps none of
 *     them. Copying them whole, and encoding them again for the log, was a quarter of the store's own time.
 * B2. Everything else of a batch is small, may stay in memory (states, events), and is copied by way of JSON.
 */

/** A batch on its way into the log, with the text of each of its journal entries. */
export interface Prepared {
  readonly batch: Batch;
  readonly texts: ReadonlyMap<JournalEntry, string>;
}

/** What is kept is JSON, so nothing is lost. */
export const copy = <T>(value: T): T => JSON.parse(JSON.stringify(value)) as T;

/** What a failed encoding means: the batch's own fault. `undefined` for any other failure. */
export const notSerializable = (error: unknown): StepfastError | undefined =>
  error instanceof RangeError || error instanceof TypeError
    ? new StepfastError(
        'NOT_SERIALIZABLE',
        'A value of this commit can not be written as JSON (nested too deep?). Nothing of it was kept.',
        {},
        { cause: error },
      )
    : undefined;

const encoding = <T>(body: () => T): T => {
  try {
    return body();
  } catch (error) {
    throw notSerializable(error) ?? error;
  }
};

/** A batch for another process. @throws {StepfastError} `NOT_SERIALIZABLE` */
export const copyBatch = (batch: Batch): Batch => encoding(() => copy(batch));

/** Takes over a batch. @throws {StepfastError} `NOT_SERIALIZABLE` when a value is nested too deep to be written. */
export const prepare = (batch: Batch): Prepared => encoding(() => takeOver(batch));

function takeOver({ now, run, starts, events }: Batch): Prepared {
  const texts = new Map<JournalEntry, string>();
  const keep = (entry: JournalEntry): JournalEntry => {
    const own = { ...entry };
    texts.set(own, JSON.stringify(entry));
    return own;
  };
  const withText = <T extends { readonly append: readonly JournalEntry[] }>({ append, ...rest }: T) =>
    ({ ...copy(rest), append: append.map(keep) }) as unknown as T;
  const batch: Batch = {
    now,
    ...(run && { run: withText(run) }),
    ...(starts && { starts: starts.map(({ entry, ...rest }) => ({ ...copy(rest), entry: keep(entry) })) }),
    ...(events && { events: copy(events) }),
  };
  return { batch, texts };
}

/** An outcome as its caller gets it: only events that memory holds as well need a copy. */
export function released(outcome: CommitOutcome): CommitOutcome {
  const isShared =
    outcome.kind === 'overtaken' ||
    (outcome.kind === 'committed' && (outcome.offers.length > 0 || outcome.events.length > 0));
  return isShared ? copy(outcome) : outcome;
}
