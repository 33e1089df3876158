import type { StepfastError } from '../errors.js';
import { LIMITS } from '../limits.js';
import type { FunctionCommand, Verdict } from '../replay/command.js';
import { type Digest, digestOf } from '../replay/digest.js';
import type { Ask, Ending, Replay } from '../replay/replay.js';
import type { StateChange } from '../store/batch.js';
import type { JournalEntry, RecordedError } from '../store/journal.js';
import type { EventRow, OpenWait, RunRow, StoredRun } from '../store/rows.js';
import type { DueRun } from '../store/store.js';
import type { Json } from '../values/json.js';
import { LazyMap, LazySet } from '../values/lazy-map.js';
import type { Outcome } from './attempt.js';
import type { LogLine } from './log.js';
import { createOffers, type Offers } from './offers.js';

/*
 * A run in the memory of the engine that drives it.
 */

/** What became of a function that was entered, until a commit has made it durable. */
export interface Fact {
  readonly ask: Ask;
  readonly attempt: number;
  readonly at: number;
  readonly outcome: Outcome;
  /** What the function wrote to the shared state: committed with its result. */
  readonly state: readonly StateChange[];
  /** What failed is not tried again, whatever the policy says. */
  readonly isFinal?: boolean;
}

/** An increment by a step whose number its function asks for: journaled, so that no other attempt counts it again. */
export interface Increment {
  readonly ask: Ask;
  readonly nth: number;
  readonly change: Extract<StateChange, { readonly kind: 'increment' }>;
  readonly resolve: (value: number) => void;
  readonly reject: (error: unknown) => void;
}

/** How a child run ended. */
export type ChildEnd = { readonly at: number } & ({ readonly value: Json } | { readonly error: RecordedError });

/** One round's commit in the making. */
export interface Draft {
  readonly now: number;
  readonly entries: JournalEntry[];
  readonly takes: { readonly seq: number; readonly untaken?: true }[];
  readonly unless: OpenWait[];
  readonly facts: Set<Fact>;
  /** Writes to the shared state, and which fact each belongs to. */
  readonly state: StateChange[];
  readonly stateFacts: Fact[];
  counted?: readonly Increment[];
  /** The entries become the whole journal. */
  isReset?: true;
  /** Outcomes that the handler hears of after the commit. */
  readonly later: (() => void)[];
}

/** A function in flight. */
export interface Running {
  /** Aborts it: what it comes to is not recorded. */
  readonly end: (reason: unknown) => void;
  /** What it comes to in any case. */
  readonly late: Promise<Outcome>;
  /** Whether a simulated clock has moved on without it: nobody waits for it any more. */
  readonly hangs: (() => boolean) | undefined;
}

export interface LiveRun {
  row: RunRow;
  digest: Digest;
  /** The pass: a handler that replays, or has caught up. Absent while the handler backs off. */
  replay: Replay | undefined;
  ending: Ending | undefined;
  /** Asked for in this pass, without an outcome. */
  readonly asks: Map<string, Ask>;
  /** Asked for as well, and not to be begun or settled yet: recorded outcomes come first (spec R7). */
  behind: readonly Ask[];
  /** Functions that were entered and have not ended: they belong to the driver, not to a pass (spec R6). */
  readonly running: Map<string, Running>;
  /** Where the journal ended when they were asked for first: no pass may put them before what was recorded since (spec R7). */
  readonly begun: Map<string, number>;
  /**
   * Those of them that have lost a race which no commit has decided yet: should it not happen, they are in flight as before.
   * Also waits, and functions that have ended since.
   */
  readonly losers: Map<string, Running | undefined>;
  facts: Fact[];
  /** Of functions that count no more (ended from outside, timed out, lost a race): for who undoes them (spec F7, F9). */
  readonly late: Map<string, Promise<Outcome>>;
  /** Lost a race in this pass. */
  readonly withdrawn: Set<string>;
  /** Steps of this pass that can be undone. */
  readonly undos: Map<string, FunctionCommand>;
  readonly offers: Offers;
  /** What waits with `match` or `schema` say of them, by wait and event. */
  readonly verdicts: Map<string, Verdict>;
  /** Ends of children, by run id; and of which the end is to be read. */
  readonly ended: Map<string, ChildEnd>;
  readonly news: Set<string>;
  /** What a function last said of how far it is, and whether the journal must say so, too (spec F5). */
  progress: Json | undefined;
  progressed: Ask | undefined;
  /** The store can not keep what the handler has returned. */
  unkept: StepfastError | undefined;
  /** Increments whose numbers are waited for. */
  increments: Increment[];
  /** Lines for the next commit, and how many the handler has written, those in the journal included. */
  logs: LogLine[];
  handlerLogs: number;
  /** How many of its lines came before it asked for something, where any were still to be recorded then. */
  readonly said: Map<string, number>;
  /** It was told that no more are kept. */
  isLogFull: boolean;
  /** Outcomes that are durable and that the handler has not heard of: told in the next turn. */
  readonly feeds: (() => void)[];
  /** During a round: uses of the state by the handler, which go on when its commit is durable. */
  held?: (() => void)[] | undefined;
  /** Why the code does not fit the journal (spec R5). */
  fault: Error | undefined;
  /** The handler has, or may have, something to say. */
  isStirred: boolean;
  /** Somebody must look again at this instant. */
  nextAt: number;
  isOwner: boolean;
  /** When the store last said so. */
  confirmedAt: number;
  /** The answer that held the events for the open waits was lost: the next commit asks for them. */
  isBlind: boolean;
  /** How long to be patient when the store fails next. */
  backoffMs: number;
  /** The owner before died while a function was in flight. */
  isInterrupted: boolean;
}

/** A run as it is taken up. */
export function liveRunOf({ row, journal }: StoredRun, { offers, interrupted }: Omit<DueRun, 'row'>): LiveRun {
  const digest = digestOf(journal);
  const run: LiveRun = {
    row,
    digest,
    replay: undefined,
    ending: undefined,
    asks: new Map(),
    behind: [],
    running: new Map(),
    begun: new LazyMap(),
    losers: new LazyMap(),
    facts: [],
    late: new LazyMap(),
    withdrawn: new LazySet(),
    undos: new LazyMap(),
    offers: createOffers(),
    verdicts: new LazyMap(),
    ended: new LazyMap(),
    news: new LazySet(),
    progress: row.progress,
    progressed: undefined,
    unkept: undefined,
    increments: [],
    logs: [],
    handlerLogs: digest.handlerLogs,
    said: new LazyMap(),
    isLogFull: false,
    feeds: [],
    fault: undefined,
    isStirred: false,
    nextAt: Infinity,
    isOwner: false,
    confirmedAt: 0,
    isBlind: false,
    backoffMs: LIMITS.backoffMs,
    // Between two attempts to undo a step nothing was cut off.
    isInterrupted: interrupted && !(row.undoing && row.dueAt !== 0),
  };
  hear(run, row, offers);
  return run;
}

/** Takes note of what the store has told: events that may be taken, children that have ended. */
export function hear(run: LiveRun, { ended = [] }: Pick<RunRow, 'ended'>, offers: readonly EventRow[] = []): void {
  for (const event of offers) run.offers.add(event);
  for (const childId of ended) if (!run.ended.has(childId)) run.news.add(childId);
}

/** An empty commit. */
export const emptyDraft = (now: number): Draft => ({
  now,
  entries: [],
  takes: [],
  unless: [],
  facts: new LazySet(),
  later: [],
  state: [],
  stateFacts: [],
});
