import { type Command, type FunctionCommand, functionOf } from '../replay/command.js';
import { type Digest, type Failures, undosLeft } from '../replay/digest.js';
import type { Ask } from '../replay/replay.js';
import { isAhead } from '../store/due.js';
import type { Identity, JournalEntry } from '../store/journal.js';
import type { EventRow, OpenWait, RunRow, RunState } from '../store/rows.js';
import { hears, mayTake, pairKey } from '../store/transition/scope.js';
import { blobsIn } from '../values/same.js';
import type { ChildEnd, Draft, LiveRun } from './live-run.js';

/*
 * What can be answered from a run in memory alone: which event fits, what is due, which functions may start, what the
 * row says next. Nothing here changes anything.
 */

type WaitSet = Extract<JournalEntry, { readonly kind: 'wait-set' }> & { readonly index: number };

/** A wait as the store has to know it. */
export function openWait({ row, digest }: LiveRun, { id, events, key, deadline, lookbackFrom }: WaitSet): OpenWait {
  const afters = events.map((name) => {
    const pair = pairKey(name, key);
    const [oldest] = digest.left.get(pair) ?? [];
    const last = digest.lastTaken.get(pair) ?? 0;
    return Math.max(row.seq, oldest === undefined ? last : Math.min(last, oldest - 1));
  });
  const after = Math.min(...afters);
  const differs = afters.some((each) => each > after);
  return { id, events, key, deadline, lookbackFrom, after, ...(differs && { afters }) };
}

/** A wait that is asked for and recorded. */
export interface AskedWait {
  readonly ask: Ask;
  readonly set: WaitSet;
  readonly wait: OpenWait;
}

/**
 * What is asked for, if anything of its kind is recorded: most runs have none, and this is asked several times a round. With
 * what is held back: as the row has it, which is to be woken for it.
 */
const asksOf = ({ asks, behind }: LiveRun, recorded: ReadonlyMap<string, unknown>, isRow = false): Ask[] =>
  recorded.size ? [...asks.values(), ...(isRow ? behind : [])] : [];

/** Waits that are asked for and recorded, in the order of asking (spec E10). */
export const openWaits = (run: LiveRun, isRow?: boolean): AskedWait[] =>
  asksOf(run, run.digest.waits, isRow).flatMap((ask) => {
    const set = ask.command.kind === 'wait' && run.digest.waits.get(ask.key);
    return set ? [{ ask, set, wait: openWait(run, set) }] : [];
  });

/** Children that are started and whose end is asked for. */
export const openChildren = (run: LiveRun, isRow?: boolean): { readonly ask: Ask; readonly runId: string }[] =>
  asksOf(run, run.digest.children, isRow).flatMap((ask) => {
    const set = run.digest.children.get(ask.key);
    return set ? [{ ask, runId: set.runId }] : [];
  });

/** Where the verdict of a wait on an event is kept. */
export const verdictKey = ({ ask }: AskedWait, event: EventRow): string => `${ask.key}:${event.seq}`;

/** Whether this run has taken the event; those before its start are marked in the store alone. */
const isTaken = ({ takenSeqs, lastTaken, left }: Digest, row: RunRow, { seq, name, key }: EventRow): boolean => {
  if (takenSeqs.has(seq) || seq <= row.seq) return takenSeqs.has(seq);
  const pair = pairKey(name, key);
  return seq <= (lastTaken.get(pair) ?? 0) && !left.get(pair)?.includes(seq);
};

/** Offered events that a wait hears of by name and key, and that the run has not taken, oldest first. */
const heard = ({ row, digest, offers }: LiveRun, { wait }: AskedWait): EventRow[] =>
  offers.of(wait.events, wait.key).filter((event) => !isTaken(digest, row, event) && hears(wait, event, row.runId));
/** Of these, the ones that came in time. */
const candidates = (run: LiveRun, asked: AskedWait): EventRow[] =>
  heard(run, asked).filter((event) => mayTake(asked.wait, event, run.row.runId));

const judges = ({ ask }: AskedWait) => ask.command.kind === 'wait' && ask.command.judge;

/** Events that a wait has to look into before it is known whether it takes them. */
export const unjudged = (run: LiveRun): { readonly asked: AskedWait; readonly event: EventRow }[] =>
  openWaits(run).flatMap((asked) =>
    judges(asked)
      ? candidates(run, asked).flatMap((event) => (run.verdicts.has(verdictKey(asked, event)) ? [] : { asked, event }))
      : [],
  );

/** The oldest offered event that a wait takes (spec E3, E9). */
export function offered(run: LiveRun, asked: AskedWait): EventRow | undefined {
  for (const event of candidates(run, asked)) {
    if (!judges(asked)) return event;
    const verdict = run.verdicts.get(verdictKey(asked, event));
    if (verdict?.kind === 'fits') return { ...event, payload: verdict.payload };
  }
  return undefined;
}

/** Older events of the same pair that are left for another wait, now for the first time. */
export const passedOver = (run: LiveRun, asked: AskedWait, { seq, name, key }: EventRow): number[] => {
  const last = Math.max(run.row.seq, run.digest.lastTaken.get(pairKey(name, key)) ?? 0);
  const isNew = (event: EventRow) => event.name === name && event.seq < seq && event.seq > last;
  return heard(run, asked).flatMap((event) => (isNew(event) ? event.seq : []));
};

/** Which waits the row shows: for others no event wakes the run, and the store was not asked for their events. */
export function shownIn({ waits }: RunRow): (id: Identity) => boolean {
  const shown = new Set(waits.map(({ id }) => JSON.stringify(id)));
  return (id) => shown.has(JSON.stringify(id));
}

/** Something whose instant has come. */
export interface Due {
  readonly at: number;
  readonly ask: Ask;
  readonly asked?: AskedWait;
  readonly event?: EventRow;
  readonly child?: ChildEnd & { readonly runId: string };
}

/** Whether something has come that a wait, or a call of a child, is to be told of, or asked about. */
export const isOffered = (run: LiveRun): boolean =>
  unjudged(run).length > 0 ||
  openWaits(run).some((asked) => offered(run, asked) !== undefined) ||
  openChildren(run).some(({ runId: childId }) => run.ended.has(childId));

/** Whether there is anything that an instant, an event or the end of a child could settle: most rounds of most runs have none. */
export const mayBeDue = ({ digest: { sleeps, waits, children } }: LiveRun): boolean =>
  sleeps.size + waits.size + children.size > 0;

/** The earliest of events, ends of children, sleeps and deadlines; what came before a timer on equal instants (spec E5, R7). */
export function nextDue(run: LiveRun, draft: Draft): Due | undefined {
  const { sleeps } = run.digest;
  // What this very commit records has no event looked up and no timer set yet.
  const isNew = new Set<unknown>(
    draft.entries.map((entry) => /^(wait|sleep)-set$/.test(entry.kind) && 'id' in entry && entry.id),
  );
  let best: Due | undefined;
  const isTimer = (due: Due) => !due.event && !due.child;
  const isBefore = (due: Due, other: Due) =>
    // Of two events the store has said which came first; clocks have not (spec E3).
    due.event && other.event
      ? due.event.seq < other.event.seq
      : due.at < other.at || (due.at === other.at && isTimer(other) && !isTimer(due));
  const consider = (due: Due) => {
    if (!best || isBefore(due, best)) best = due;
  };
  for (const ask of asksOf(run, sleeps)) {
    const sleep = sleeps.get(ask.key);
    if (sleep && !isNew.has(sleep.id) && sleep.dueAt <= draft.now) consider({ at: sleep.dueAt, ask });
  }
  for (const { ask, runId } of openChildren(run)) {
    const end = run.ended.get(runId);
    if (end) consider({ at: end.at, ask, child: { ...end, runId } });
  }
  const isShown = shownIn(run.row);
  for (const asked of openWaits(run)) {
    const { ask, set, wait } = asked;
    // Nor has one that the row does not show: its handler backed off, and the store was not asked for its events.
    if (isNew.has(set.id) || !isShown(set.id)) continue;
    // What memory has may lack the oldest: this commit asks for them all (`unless`), and nothing is taken before.
    const event = run.isBlind ? undefined : offered(run, asked);
    if (event) consider({ at: event.acceptedAt, ask, asked, event });
    else if (wait.deadline !== undefined && wait.deadline <= draft.now) consider({ at: wait.deadline, ask, asked });
  }
  return best;
}

/** When a backoff is over: by now, where a clock that was ahead has set it (spec Q4). */
export const retryAt = (failures: Failures | undefined, now: number): number =>
  !failures || isAhead(failures.at, now) ? 0 : failures.retryAt;

/** Whether a step is asked for and not in flight; of calls, that their child is not started yet. */
const isIdle = ({ running, digest }: LiveRun, { key, command }: Ask): boolean =>
  functionOf(command) !== undefined && !running.has(key) && !digest.children.has(key);

/** What the platform and the job say, as far as the row depends on it. */
export interface Circumstances {
  readonly now: number;
  readonly owner: string;
  readonly version: number;
  readonly isOnline: boolean;
  /** When the run fails for taking too long. */
  readonly deadline: number;
  /** Its end is to be followed by something: next by this. */
  readonly follows?: { readonly key: string; readonly retryAt: number } | undefined;
}

/** What a step does only while there is a network, it takes back only then, too (spec F8). */
export const isHeldBack = (command: Command | undefined, isOnline: boolean): boolean =>
  !isOnline && (command as Partial<FunctionCommand> | undefined)?.isOnline === true;

/** Whether steps wait for the network. */
export const isOffline = (run: LiveRun, isOnline: boolean): boolean =>
  !isOnline && [...run.asks.values()].some((ask) => isIdle(run, ask) && isHeldBack(ask.command, isOnline));

/** Functions to enter after this commit. Once the handler has settled, pending retries are withdrawn (spec R8). */
export function startable(run: LiveRun, { now, facts }: Draft, isOnline: boolean): Ask[] {
  const { failures } = run.digest;
  const found: Ask[] = [];
  for (const ask of run.asks.values()) {
    if (!isIdle(run, ask) || isHeldBack(ask.command, isOnline)) continue;
    if (run.facts.some((fact) => fact.ask.key === ask.key && !facts.has(fact))) continue;
    if (run.ending ? !failures.has(ask.key) : retryAt(failures.get(ask.key), now) <= now) found.push(ask);
  }
  return found;
}

/** When steps that are asked for are due, as far as they do not wait for the network. */
function attemptsAt(run: LiveRun, { now, isOnline }: Circumstances): number[] {
  const { digest, asks, ending, replay } = run;
  const found: number[] = [];
  if (!ending)
    for (const ask of asks.values())
      if (isIdle(run, ask) && !isHeldBack(ask.command, isOnline))
        found.push(retryAt(digest.failures.get(ask.key), now));
  if (!replay && digest.handlerFailures) found.push(retryAt(digest.handlerFailures, now));
  return found;
}

/** The row as the next commit leaves it, and when the driver has to look again. */
export function stateOf(
  run: LiveRun,
  starting: number,
  around: Circumstances,
): { readonly state: RunState; readonly nextAt: number } {
  const { row, digest, progress } = run;
  // By assignment, here and below: in Node 20 a literal that goes on after a spread costs 5 to 25 µs.
  const state: Partial<Changing<RunState>> = {
    version: digest.end && !isUpgraded(run) ? row.version : Math.max(row.version, around.version),
    startedAt: row.startedAt ?? around.now,
  };
  if (progress !== undefined) state.progress = progress;
  if (undosLeft(digest).length) state.undoable = true;
  const nextAt = digest.end ? whenEnded(run, state, around) : whenActive(run, state, starting, around);
  return { state: state as RunState, nextAt };
}

function whenEnded({ row, digest, undos }: LiveRun, state: Partial<Changing<RunState>>, around: Circumstances): number {
  const { now, owner, isOnline, follows } = around;
  state.status = digest.end!.kind;
  state.waits = [];
  state.endedAt = row.endedAt ?? digest.end!.at;
  if (!follows) return Infinity;
  const { key, retryAt: at } = follows;
  state.owner = owner;
  state.undoing = true;
  // Due at any time while something of it is under way, as below; one that waits for the network is not.
  state.dueAt = at > now ? at : isHeldBack(undos.get(key), isOnline) ? now : 0;
  if (state.dueAt) state.setAt = now;
  return at;
}

function whenActive(run: LiveRun, state: Partial<Changing<RunState>>, starting: number, around: Circumstances): number {
  const { now, owner, isOnline, deadline } = around;
  const { row, digest, asks, behind, replay } = run;
  state.owner = owner;
  const shown = openWaits(run, true);
  state.waits = shown.map(({ wait }) => wait);
  const children = openChildren(run, true).map(({ runId }) => runId);
  if (children.length) state.awaits = [...new Set(children)];
  const retries = attemptsAt(run, around);
  const sleeps = asksOf(run, digest.sleeps).flatMap(({ key }) => digest.sleeps.get(key) ?? []);
  const waits = behind.length ? openWaits(run) : shown;
  const timers = [
    ...sleeps.map(({ dueAt, index }) => ({ at: dueAt, index })),
    ...waits.map(({ set: { deadline: at = Infinity, index } }) => ({ at, index })),
  ];
  if (run.running.size || starting || (replay && !asks.size && !behind.length)) {
    state.status = 'running';
    // Due at any time, whatever a clock that ran ahead has said: it is looked at once its owner is dead.
    state.dueAt = 0;
    state.slot = row.queue;
    // What this commit records is told in the next round at the earliest (`nextDue`), though its instant may have passed.
    const soon = timers.filter(({ at, index }) => at > now || index >= row.length).map(({ at }) => at);
    return Math.min(...soon, ...[...retries, deadline].filter((at) => at > now));
  }
  const instants = [...retries, ...timers.map(({ at }) => at), deadline];
  state.status = retries.length ? 'retrying' : sleeps.length ? 'sleeping' : 'waiting';
  const nextAt = Math.min(...instants);
  // A step that waits for the network: who looks next replays the run, and sees whether there is one.
  if (replay?.isQuiet() || isOffline(run, isOnline)) state.unsettled = true;
  // What has come and is not told yet must be found by who looks next, should this owner die before.
  const lookAt = state.unsettled || isOffered(run) ? Math.min(now, nextAt) : nextAt;
  if (lookAt < Infinity) state.dueAt = lookAt;
  if (retries.length) state.setAt = now;
  return nextAt;
}

/** Whether the next commit says that code of a later version took the run up. */
const isUpgraded = ({ row, digest }: LiveRun) =>
  digest.entries.slice(row.length).some(({ kind }) => kind === 'upgraded');

type Changing<T> = { -readonly [K in keyof T]: T[K] };

/** Whether a commit of this state would change nothing that matters. */
export const isSameState = (row: RunRow, state: RunState): boolean =>
  !row.woken &&
  row.status === state.status &&
  row.slot === state.slot &&
  row.owner === state.owner &&
  row.unsettled === state.unsettled &&
  row.undoing === state.undoing &&
  row.undoable === state.undoable &&
  (row.dueAt === state.dueAt || state.unsettled === true) &&
  // As text, two blobs are alike: they are said only if they are the very ones of the row.
  (row.progress === state.progress || !blobsIn(state.progress!).length) &&
  JSON.stringify([row.waits, row.awaits ?? [], row.progress]) ===
    JSON.stringify([state.waits, state.awaits ?? [], state.progress]);
