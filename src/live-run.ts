import type { Digest } from './digest.js';
import type { JournalEntry } from './journal.js';
import type { Ask, Ending, Replay } from './replay.js';
import type { EventRow, OpenWait, RunRow, RunState } from './store.js';
import { mayTake, pairKey } from './transition.js';

/*
 * A run in the memory of the engine that drives it, and the questions that can be answered from there alone: which
 * event fits, what is due, which functions may start, what the row says next. Nothing here changes anything.
 */

type WaitSet = Extract<JournalEntry, { readonly kind: 'wait-set' }>;

/** What became of a function that was entered, until a commit has made it durable. */
export interface Fact {
  readonly ask: Ask;
  readonly attempt: number;
  readonly at: number;
  readonly outcome: { readonly value: unknown } | { readonly error: unknown };
}

/** One round's commit in the making. */
export interface Draft {
  readonly now: number;
  readonly entries: JournalEntry[];
  readonly takes: { readonly seq: number; readonly untaken?: true }[];
  readonly unless: OpenWait[];
  readonly facts: Set<Fact>;
  /** Outcomes that the handler hears of after the commit. */
  readonly later: (() => void)[];
}

export interface LiveRun {
  row: RunRow;
  digest: Digest;
  /** The pass: a handler that replays, or has caught up. Absent while the handler backs off. */
  replay: Replay | undefined;
  ending: Ending | undefined;
  /** Asked for in this pass, without an outcome. */
  readonly asks: Map<string, Ask>;
  /** Functions that were entered and have not ended: they belong to the driver, not to a pass (spec R6). */
  readonly running: Map<string, { readonly end: (reason: unknown) => void }>;
  facts: Fact[];
  /** Events that open waits may take, as last read. */
  readonly offers: Map<number, EventRow>;
  /** Outcomes that are durable and that the handler has not heard of: told in the next turn. */
  readonly feeds: (() => void)[];
  /** Why the code does not fit the journal (spec R5). */
  fault: Error | undefined;
  /** The handler has, or may have, something to say. */
  isStirred: boolean;
  isOwner: boolean;
  /** The owner before died while a function was in flight. */
  isInterrupted: boolean;
}

/** A wait as the store has to know it. */
export function openWait({ row, digest }: LiveRun, { id, events, key, deadline, lookbackFrom }: WaitSet): OpenWait {
  const lastTaken = events.map((name) => digest.lastTaken.get(pairKey(name, key)) ?? 0);
  return { id, events, key, deadline, lookbackFrom, after: Math.max(row.seq, Math.min(...lastTaken)) };
}

/** Waits that are asked for and recorded, in the order of asking (spec E10). */
export const openWaits = (run: LiveRun): { readonly ask: Ask; readonly set: WaitSet; readonly wait: OpenWait }[] =>
  [...run.asks.values()].flatMap((ask) => {
    const set = ask.command.kind === 'wait' && run.digest.waits.get(ask.key);
    return set ? [{ ask, set, wait: openWait(run, set) }] : [];
  });

/** The oldest offered event that a wait may take and the run has not taken (spec E3). */
export function offered({ row, digest, offers }: LiveRun, wait: OpenWait): EventRow | undefined {
  let oldest: EventRow | undefined;
  for (const event of offers.values())
    if (!digest.takenSeqs.has(event.seq) && mayTake(wait, event, row.runId) && event.seq < (oldest?.seq ?? Infinity))
      oldest = event;
  return oldest;
}

/** Something whose instant has come. */
export interface Due {
  readonly at: number;
  readonly ask: Ask;
  readonly wait?: OpenWait;
  readonly event?: EventRow;
}

/** The earliest of events, sleeps and deadlines; an event before a timer on equal instants (spec E5, R7). */
export function nextDue(run: LiveRun, draft: Draft): Due | undefined {
  // What this very commit records has no event looked up and no timer set yet.
  const isNew = new Set<unknown>(draft.entries.map((entry) => 'id' in entry && entry.id));
  let best: Due | undefined;
  const consider = (due: Due) => {
    if (!best || due.at < best.at || (due.at === best.at && due.event && !best.event)) best = due;
  };
  for (const ask of run.asks.values()) {
    const sleep = ask.command.kind === 'sleep' && run.digest.sleeps.get(ask.key);
    if (sleep && !isNew.has(sleep.id) && sleep.dueAt <= draft.now) consider({ at: sleep.dueAt, ask });
  }
  for (const { ask, set, wait } of openWaits(run)) {
    if (isNew.has(set.id)) continue;
    const event = offered(run, wait);
    if (event) consider({ at: event.acceptedAt, ask, wait, event });
    else if (wait.deadline !== undefined && wait.deadline <= draft.now) consider({ at: wait.deadline, ask, wait });
  }
  return best;
}

const retryAt = ({ digest }: LiveRun, key: string) => digest.failures.get(key)?.retryAt ?? 0;

/** Steps that are asked for and not in flight. */
const idleSteps = (run: LiveRun): Ask[] =>
  [...run.asks.values()].filter(({ key, command }) => command.kind === 'run' && !run.running.has(key));

/** Functions to enter after this commit. Once the handler has settled, pending retries are withdrawn (spec R8). */
export const startable = (run: LiveRun, { now, facts }: Draft): Ask[] =>
  idleSteps(run).filter(
    ({ key }) =>
      !run.facts.some((fact) => fact.ask.key === key && !facts.has(fact)) &&
      (run.ending ? !run.digest.failures.has(key) : retryAt(run, key) <= now),
  );

/** The row as the next commit leaves it, and when the driver has to look again. */
export function stateOf(
  run: LiveRun,
  {
    now,
    owner,
    version,
    starting,
  }: { readonly now: number; readonly owner: string; readonly version: number; readonly starting: number },
): { readonly state: RunState; readonly nextAt: number } {
  const { row, digest, asks, replay } = run;
  const base = { version: Math.max(row.version, version), startedAt: row.startedAt ?? now };
  if (digest.end) return { state: { ...base, status: digest.end.kind, waits: [], endedAt: now }, nextAt: Infinity };
  const waits = openWaits(run).map(({ wait }) => wait);
  const retries = run.ending ? [] : idleSteps(run).map(({ key }) => retryAt(run, key));
  if (!replay && digest.handlerFailures) retries.push(digest.handlerFailures.retryAt);
  const sleeps = [...asks.values()].flatMap(({ key, command }) =>
    command.kind === 'sleep' ? (digest.sleeps.get(key)?.dueAt ?? []) : [],
  );
  const instants = [...retries, ...sleeps, ...waits.flatMap(({ deadline }) => deadline ?? [])];
  const held = { ...base, owner, waits };
  if (run.running.size || starting || (replay && !asks.size)) {
    // Due at any time, whatever a clock that ran ahead has said: it is looked at once its owner is dead.
    const nextAt = Math.min(...instants.filter((instant) => instant > now));
    return { state: { ...held, status: 'running', dueAt: 0, slot: row.queue }, nextAt };
  }
  const status = retries.length ? 'retrying' : sleeps.length ? 'sleeping' : 'waiting';
  const nextAt = Math.min(...instants);
  const unsettled = replay?.isQuiet() || undefined;
  const dueAt = unsettled ? Math.min(now, nextAt) : nextAt < Infinity ? nextAt : undefined;
  return { state: { ...held, status, dueAt, unsettled }, nextAt };
}

/** Whether a commit of this state would change nothing that matters. */
export const isSameState = (row: RunRow, state: RunState): boolean =>
  !row.woken &&
  row.status === state.status &&
  row.slot === state.slot &&
  row.owner === state.owner &&
  row.unsettled === state.unsettled &&
  (row.dueAt === state.dueAt || state.unsettled === true) &&
  JSON.stringify(row.waits) === JSON.stringify(state.waits);
