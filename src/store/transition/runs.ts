import type { CommitOutcome, RunChange } from '../batch.js';
import { isAtWork } from '../due.js';
import type { EventRow, OpenWait, RunRow, RunState } from '../rows.js';
import { holderOf, mayTake, offersFor, rowWith, type Scope, storedEvents } from './scope.js';
import { laneOf, takeRate } from './state.js';
import { read, type Work } from './work.js';

/** What a committed change of a run answers. */
interface Changed {
  readonly fence: number;
  readonly offers: readonly EventRow[];
  readonly ended: readonly string[];
}

/** The transition of one run, and what its end means for those around it. */
export function* changeRun(scope: Scope, run: RunChange): Work<CommitOutcome | Changed> {
  const { reads, now, writes } = scope;
  const row = yield* scope.run(run.runId);
  if (!row) return { kind: 'fenced', fence: 0 };
  if (run.fence === 'any') {
    if (row.endedAt !== undefined) return { kind: 'ended', status: row.status };
  } else if (row.fence !== run.fence || row.length !== (run.length ?? row.length) || (run.resting && isAtWork(row)))
    return { kind: 'fenced', fence: row.fence };
  const fence = row.fence + (run.raise ? 1 : 0);
  const { state } = run;
  const ended = row.ended ?? [];
  if (!state) return { fence, offers: [], ended };
  const unless = run.unless ?? [];
  if (unless.length) {
    const heard = yield* offersFor(storedEvents(reads), row.runId, unless, now);
    // With those that came too late for these waits: the run leaves them to its next one.
    if (heard.some((event) => unless.some((wait) => mayTake(wait, event, row.runId))))
      return { kind: 'overtaken', offers: heard };
  }
  for (const { seq, untaken } of run.takes ?? []) {
    const event = yield* read(reads.event(seq));
    if (untaken && event?.taken)
      return { kind: 'overtaken', offers: yield* offersFor(storedEvents(reads), row.runId, row.waits, now) };
    if (event && !event.taken) writes.events.set(seq, Object.assign({}, event, { taken: true } as const));
  }
  if (state.slot !== undefined && state.slot !== row.slot) {
    const { concurrency, rate } = yield* laneOf(scope, state.slot, run);
    if (concurrency !== undefined && (yield* read(reads.slots(state.slot))) >= concurrency) return { kind: 'no-slot' };
    const refused = rate && (yield* takeRate(scope, state.slot, rate));
    if (refused) return refused;
  }
  if (run.unique && (yield* holderOf(scope, row.job, run.unique)) !== undefined)
    return { kind: 'fenced', fence: row.fence };
  const length = run.append.length + (run.reset ? 0 : row.length);
  const opened = state.waits.length ? openedBy(row, state, run.raise) : [];
  const offers = opened.length
    ? yield* offersFor((pair, after) => scope.events(pair, after), row.runId, opened, now)
    : [];
  const before = run.unique ? { ...row, unique: run.unique } : row;
  const born = rowWith(before, leftOver(row, state, run, now), { fence, length });
  // Should its owner die before it takes them, nothing else would tell the next one to look.
  const next = offers.length ? { ...born, dueAt: Math.min(born.dueAt ?? now, now) } : born;
  scope.put(next, run.append, run.reset);
  if (state.endedAt !== undefined && row.endedAt === undefined) yield* tellEnd(scope, next);
  if (state.endedAt === undefined && row.endedAt !== undefined) yield* takeBackEnd(scope, next);
  return { fence, offers, ended };
}

/**
 * Waits whose events this run was not offered yet: new ones, and all of them where it was woken, or has a new owner: what
 * was offered to the one before, since the new one has looked, nobody would tell it.
 */
function openedBy(row: RunRow, { waits }: RunState, isClaimed: true | undefined): readonly OpenWait[] {
  const known = new Set(row.woken || isClaimed ? [] : row.waits.map((wait) => JSON.stringify(wait.id)));
  return waits.filter((wait) => !known.has(JSON.stringify(wait.id)));
}

/**
 * Of the runs that a written one awaits, those that are known to have ended, or are found so when first awaited; one
 * that is not there counts as ended. Comes after the starts of the batch: a run may await what it starts.
 */
export function* noteEnded(scope: Scope, runId: string): Work<readonly string[]> {
  const row = yield* scope.run(runId);
  if (!row?.awaits || row.endedAt !== undefined) return [];
  const before = yield* read(scope.reads.run(runId));
  const ended: string[] = [];
  for (const awaited of row.awaits) {
    if (before?.ended?.includes(awaited)) ended.push(awaited);
    else if (!before?.awaits?.includes(awaited)) {
      const child = yield* scope.run(awaited);
      if (!child || child.endedAt !== undefined) ended.push(awaited);
    }
  }
  // Not journaled yet: the run stays due until a commit no longer awaits them (spec E12).
  if (ended.length) scope.wake({ ...row, ended });
  return ended;
}

/**
 * A run that is ended from outside may have steps to undo: whoever can, does (spec F7), and who drives it first. What its owner
 * has made of it since it was read stays.
 */
const leftOver = (
  row: RunRow,
  given: RunState,
  { fence }: Pick<RunChange, 'fence'>,
  now: number,
): RunState & Pick<RunRow, 'woken'> => {
  if (fence !== 'any') return given;
  const state = { ...given, version: row.version, startedAt: row.startedAt };
  if (state.endedAt === undefined || !row.undoable) return state;
  // A function that is in flight is waited for where it is: another who undoes at once would do so before it has ended (spec F9).
  const owner = row.status === 'running' ? row.owner : undefined;
  return Object.assign(state, { undoing: true, dueAt: now, woken: true } as const, owner !== undefined && { owner });
};

/** A run that is taken up again has not ended, for those who await it and have not noted it yet. */
function* takeBackEnd(scope: Scope, { runId }: RunRow): Work<void> {
  for (const parent of yield* scope.awaiting(runId))
    if (parent.ended?.includes(runId)) scope.put({ ...parent, ended: parent.ended.filter((each) => each !== runId) });
}

/** Wakes those who await the end of this run; its children do not outlive its being cancelled (spec E12, F9). */
function* tellEnd(scope: Scope, { runId, status }: RunRow): Work<void> {
  const { now } = scope;
  for (const parent of yield* scope.awaiting(runId)) {
    if (parent.endedAt !== undefined || parent.ended?.includes(runId)) continue;
    scope.wake({ ...parent, ended: [...(parent.ended ?? []), runId] });
  }
  if (status !== 'cancelled') return;
  for (const child of yield* scope.children(runId)) {
    if (child.endedAt !== undefined) continue;
    const { version, startedAt } = child;
    const state: RunState = { status: 'cancelled', version, startedAt, waits: [], endedAt: now };
    const counts = { fence: child.fence + 1, length: child.length + 1 };
    const next = rowWith(child, leftOver(child, state, { fence: 'any' }, now), counts);
    scope.put(next, [{ kind: 'cancelled', at: now }]);
    yield* tellEnd(scope, next);
  }
}
