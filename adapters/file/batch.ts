import { StepfastError } from '../../src/errors.js';
import type { Batch, CommitOutcome, NewRun } from '../../src/store/batch.js';
import { copyOf } from '../../src/store/copy.js';
import type { JournalEntry } from '../../src/store/journal.js';

/*
 * What crosses the border between callers and this store shares no object with either side (store rule S6).
 *
 * B1. Journal entries become text at the door and stay text: they go to the log as they are, and memory keeps none of
 *     them. Copying them whole, and encoding them again for the log, was a quarter of the store's own time.
 * B2. Everything else of a batch is small, may stay in memory (states, events, shared values), and is copied.
 */

/** A batch on its way into the log, with the text of each of its journal entries. */
export interface Prepared {
  readonly batch: Batch;
  readonly texts: ReadonlyMap<JournalEntry, string>;
}

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
export const copyBatch = (batch: Batch): Batch => encoding(() => JSON.parse(JSON.stringify(batch)) as Batch);

/** Takes over a batch. @throws {StepfastError} `NOT_SERIALIZABLE` when a value is nested too deep to be written. */
export const prepare = (batch: Batch): Prepared => encoding(() => takeOver(batch));

function takeOver({ now, run, state, starts, events, deletes }: Batch): Prepared {
  const texts = new Map<JournalEntry, string>();
  const keep = (entry: JournalEntry): JournalEntry => {
    const own = { ...entry };
    texts.set(own, JSON.stringify(entry));
    return own;
  };
  const changed = ({ append, ...rest }: NonNullable<typeof run>) =>
    Object.assign(copyOf(rest), { append: append.map(keep) });
  const born = ({ entries, moves, ...rest }: NewRun): NewRun =>
    Object.assign(copyOf(rest), { entries: entries.map(keep) }, moves && { moves: keep(moves) });
  const batch: Batch = {
    now,
    ...(run && { run: changed(run) }),
    ...(state && { state: copyOf(state) }),
    ...(starts && { starts: starts.map(born) }),
    ...(events && { events: copyOf(events) }),
    ...(deletes && { deletes: copyOf(deletes) }),
  };
  return { batch, texts };
}

/** An outcome as its caller gets it: only what memory holds as well needs a copy. */
export function released(outcome: CommitOutcome): CommitOutcome {
  const isShared =
    outcome.kind === 'overtaken' ||
    (outcome.kind === 'committed' &&
      (outcome.offers.length > 0 || outcome.events.length > 0 || outcome.ended.length > 0));
  return isShared ? copyOf(outcome) : outcome;
}
