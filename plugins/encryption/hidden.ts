import type { Batch, CommitOutcome } from '../../src/store/batch.js';
import { isDue, stampOf } from '../../src/store/due.js';
import type { EventRow, OpenWait, RunRow, RunState } from '../../src/store/rows.js';
import type { DueRun, OpenOptions, Store } from '../../src/store/store.js';
import { mayTake } from '../../src/store/transition/scope.js';
import { markedFor, markOf, openEventRow } from './rows.js';
import { Bounded, type Vault } from './seal.js';
import { about, isUnreadable, keyIdsIn, type UnreadableRuns } from './unreadable.js';

/*
 * Events that can not be opened, and runs that would take them: such an event is not there, as far as an engine can see.
 * It stays in the store, untaken, until its key is back or its time is over.
 *
 * H1. No event that can be opened is hidden by one that can not: what is passed over are events, never names and keys.
 * H2. The store can not tell them apart: it answers `overtaken` to a wait that is to time out. It is asked again with waits
 *     that pass over these events. Who asked waits for that; batches that were handed on meanwhile come before (Y1).
 * H3. A run that rests is left due in the store, with a mark: for which hidden events, and when it is due apart from them.
 *     Looks leave it out until then, until it is woken, or a key is back; also those of a later process. The mark is written
 *     once the engine has been told of everything else: whatever is newer wakes the run.
 */

/** Runs whose hidden events are kept in mind. Of one that is forgotten, the next look tells. */
const MAX_KEPT = 10_000;

interface Hidden {
  /** Events that can not be opened, as far as they were seen. */
  readonly seqs: readonly number[];
  readonly keyIds: readonly string[];
  /** The last event that the engine was offered, or that was hidden from it. */
  readonly last: number;
}

export interface OpenedOffers {
  readonly events: readonly EventRow[];
  /** As they lie in the store. */
  readonly hidden: readonly EventRow[];
  /** Keys that are missing. */
  readonly keyIds: readonly string[];
}

type Committed = Extract<CommitOutcome, { readonly kind: 'committed' }>;

interface HiddenOptions {
  readonly inner: Store;
  readonly unreadable: UnreadableRuns;
  readonly onError: OpenOptions['onError'];
}

/** The wait, for events after this one alone. */
const past = ({ lookbackFrom: _, ...wait }: OpenWait, seq: number): OpenWait => ({
  ...wait,
  after: Math.max(wait.after, seq),
});

/** Whether nobody has to look at a run before an event comes, or its next instant: what is at work is due at any time. */
const isAtRest = ({ waits, dueAt = Infinity }: RunState, now: number): boolean => waits.length > 0 && dueAt > now;

export function hiddenEvents({ inner, unreadable, onError }: HiddenOptions) {
  const runs = new Bounded<Hidden>(MAX_KEPT);

  const open = async (vault: Vault, offers: readonly EventRow[]): Promise<OpenedOffers> => {
    const hidden: EventRow[] = [];
    const keyIds: string[] = [];
    const openOne = async (event: EventRow) => {
      try {
        return [await openEventRow(vault, event)];
      } catch (error) {
        if (!isUnreadable(error)) throw error;
        const { id } = event;
        unreadable.tell(about(error, { data: { ...(error.data as object | undefined), eventId: id } }), id);
        hidden.push(event);
        keyIds.push(...keyIdsIn(error));
        return [];
      }
    };
    const events = (await Promise.all(offers.map(openOne))).flat();
    return { events, hidden, keyIds };
  };
  const note = (runId: string, offers: readonly EventRow[], { hidden, keyIds }: OpenedOffers) => {
    const known = runs.get(runId) ?? { seqs: [], keyIds: [], last: 0 };
    if (!hidden.length && !known.seqs.length) return;
    runs.set(runId, {
      seqs: [...new Set([...known.seqs, ...hidden.map(({ seq }) => seq)])],
      keyIds: [...new Set([...known.keyIds, ...keyIds])],
      last: Math.max(known.last, ...offers.map(({ seq }) => seq)),
    });
  };

  return {
    open,
    forget: (runId: string) => runs.delete(runId),

    /** Notes what a look has found of a run. Whether it is to be left out (H3). */
    isLeftOut({ row, offers }: Pick<DueRun, 'row' | 'offers'>, opened: OpenedOffers, now: number): boolean {
      const { events, hidden, keyIds } = opened;
      runs.delete(row.runId); // a look is offered all
      note(row.runId, offers, opened);
      const mark = markOf(row);
      if (!mark || !hidden.length || events.some(({ seq }) => mark.seqs.includes(seq))) return false;
      const apart: RunRow = { ...row, dueAt: mark.dueAt ?? Infinity };
      if (isDue(apart, now)) return false;
      unreadable.leave(row.runId, { stamp: stampOf(row), keyIds, row: apart });
      return true;
    },

    /** Commits a change of a run, whatever hidden events stand against it (H2). */
    async commit(vault: Vault, given: Batch, send: (batch: Batch) => Promise<CommitOutcome>): Promise<CommitOutcome> {
      for (let batch = given; ; ) {
        const outcome = await send(batch);
        if (outcome.kind !== 'overtaken') return outcome;
        const run = batch.run!;
        const { runId, unless = [] } = run;
        const against = outcome.offers.filter((event) => unless.some((wait) => mayTake(wait, event, runId)));
        const { events } = await open(vault, against);
        if (events.length || !against.length) return outcome;
        batch = { ...batch, run: { ...run, unless: unless.map((wait) => past(wait, against.at(-1)!.seq)) } };
      }
    },

    /** After a commit, as it was sent: leaves the run due where events were hidden from it (H3). */
    async settle({ now, run }: Batch, { fence, offers }: Committed, opened: OpenedOffers): Promise<void> {
      if (!run?.state) return;
      const { runId, state } = run;
      note(runId, offers, opened);
      const hidden = runs.get(runId);
      if (!hidden || opened.events.length || !isAtRest(state, now)) return;
      const { seqs, keyIds, last } = hidden;
      const unless = state.waits.map((wait) => past(wait, last));
      const left = { ...state, dueAt: now, waits: markedFor(state.waits, { seqs, dueAt: state.dueAt }) };
      try {
        await inner.commit({ now, run: { runId, fence, append: [], state: left, unless } });
        unreadable.leave(runId, { stamp: '', keyIds }); // the next look tells the stamp
      } catch (error) {
        onError(error); // the run goes on all the same; with the next event that wakes it, these are offered again
      }
    },
  };
}
