import { stateRefusal } from '../door/state.js';
import type { StepfastError } from '../errors.js';
import { LIMITS } from '../limits.js';
import { digestOf, extend } from '../replay/digest.js';
import type { CommitOutcome, RunChange } from '../store/batch.js';
import { isAtWork, isDue, isLeftOver } from '../store/due.js';
import type { JournalEntry } from '../store/journal.js';
import type { RunRow, RunState } from '../store/rows.js';
import { rowWith } from '../store/transition/scope.js';
import { blobsIn, sameJson } from '../values/same.js';
import { forgetGeneration } from './functions.js';
import type { DriverHost } from './host.js';
import { leftState } from './leave.js';
import { type Draft, type Fact, hear, type LiveRun } from './live-run.js';
import { asSaid, linesIn, ofEarlier } from './log.js';
import type { Pass } from './pass.js';
import { isOffered } from './questions.js';
import type { Recorder } from './recorder.js';

/*
 * The commits of one driven run, and what becomes of memory when one does not happen.
 */

interface CommitsOptions {
  readonly host: DriverHost;
  readonly run: LiveRun;
  readonly jobName: string;
  readonly pass: Pick<Pass, 'drop'>;
  readonly recorder: Pick<Recorder, 'claim'>;
  /** The run is not ours any more, or can not be now. */
  leave(why: 'no-slot' | 'lost'): void;
}

export type Commits = ReturnType<typeof createCommits>;

export function createCommits({ host, run, jobName, pass, recorder, leave }: CommitsOptions) {
  const { owner } = host;
  const { clock } = host.platform;
  const { runId } = run.row;
  /** A commit under way begins the run anew, with a greater fence: what is said of the one before tells nothing. */
  let isRaising = false;

  /** One atomic commit of the round. False: it did not happen, and memory was set back to what is durable. */
  const commit = async (draft: Draft, state: RunState): Promise<boolean> => {
    recorder.claim(draft);
    const logs = run.logs.splice(0).map(draft.isReset ? ofEarlier : asSaid);
    draft.entries.push(...logs);
    extend(run.digest, logs);
    const { entries: append, takes, unless } = draft;
    const { row } = run;
    const reset = draft.isReset;
    const raise = run.isOwner && !reset ? undefined : true;
    // An owner that lives may have gone on since its journal was read: its fence alone does not tell.
    const length = run.isOwner ? undefined : row.length;
    // Left alone for long by an owner that lives, it may be gone on with by now, and nothing is written of a step that is entered.
    const resting = run.isOwner || isAtWork(row) ? undefined : true;
    const change = { runId, fence: row.fence, length, resting, raise, reset, append, state, takes, unless };
    // Only who takes a slot is held to what its queue allows.
    if (state.slot !== undefined && state.slot !== row.slot) Object.assign(change, host.limits(row.queue));
    const parts = draft.state.length ? { state: draft.state } : undefined;
    const at = clock.now();
    let outcome: CommitOutcome;
    isRaising = raise === true;
    try {
      outcome = await host.commit(change as RunChange, parts);
    } catch (error) {
      takeBack(draft);
      throw error;
    } finally {
      isRaising = false;
    }
    run.isBlind = false;
    if (outcome.kind === 'committed') {
      const counts = { fence: outcome.fence, length: append.length + (reset ? 0 : row.length) };
      const due = outcome.offers.length > 0 && { dueAt: Math.min(state.dueAt ?? draft.now, draft.now) };
      adopt(Object.assign(rowWith(row, state, counts), due), at);
      hear(run, outcome, outcome.offers);
      for (const { seq } of takes) run.offers.delete(seq);
      if (due && !isOffered(run)) run.isStirred = true; // it takes none of them: the row must not stay due
      host.committed(runId, jobName, append);
      return true;
    }
    takeBack(draft);
    if (outcome.kind === 'overtaken') {
      // Another run may have taken what this one looked back for: forgotten, and asked for anew.
      const lost = takes.filter(({ untaken, seq }) => untaken && run.offers.delete(seq));
      run.isBlind = lost.length > 0;
      hear(run, {}, outcome.offers);
      rebuild();
      run.isStirred = true;
    } else if (outcome.kind === 'refused') {
      refuse(draft, outcome);
      rebuild();
      run.isStirred = true;
    } else {
      // Left as held by us, or as waiting for what its handler waits for no more, nobody would look at it again.
      const isFound = !run.row.unsettled && isDue(run.row, at);
      if (outcome.kind === 'no-slot' && run.isOwner && !isFound) await letGo(clock.now(), []);
      leave(outcome.kind === 'no-slot' ? 'no-slot' : 'lost');
    }
    return false;
  };

  /** What a commit that did not happen, or may not have, was to carry: asked for only once. */
  const takeBack = ({ counted = [] }: Draft) => void run.increments.push(...counted);

  const adopt = (row: RunRow, at: number) => {
    run.row = row;
    run.isOwner = true;
    run.isInterrupted = false;
    run.confirmedAt = at;
    run.backoffMs = LIMITS.backoffMs;
    host.changed(runId, row);
  };

  /** The store did not take a write to the shared state: the attempt that wanted it has failed. */
  const refuse = (draft: Draft, refused: Extract<CommitOutcome, { kind: 'refused' }>) => {
    const fact = draft.stateFacts[refused.index];
    failWith(stateRefusal(refused, draft.state), (each) => each === fact);
  };
  const failWith = (error: unknown, isMeant: (fact: Fact) => boolean) => {
    const outcome = { error, isUnknown: true } as const; // it has returned
    run.facts = run.facts.map((each) => (isMeant(each) ? { ...each, outcome } : each));
  };

  /**
   * The store can not keep something of a commit, however often it is asked: a file that was changed since it was picked. What
   * holds such a thing has failed. False: nothing does.
   */
  const giveUp = (error: StepfastError): boolean => {
    const isLost = ({ outcome }: Fact) => 'value' in outcome && blobsIn(outcome.value).length > 0;
    const lines = run.logs.filter(({ data = null }) => !blobsIn(data).length);
    const isFound = run.facts.some(isLost) || run.progress !== run.row.progress || lines.length < run.logs.length;
    if (!isFound && run.unkept) return false;
    failWith(error, isLost);
    run.progress = run.row.progress;
    run.logs = lines;
    if (!isFound) run.unkept = error;
    run.isStirred = true;
    return true;
  };

  const confirm = async () => {
    const at = clock.now();
    const { fence } = run.row;
    const outcome = await host.commit({ runId, fence, append: [] });
    if (outcome.kind === 'committed') run.confirmedAt = at;
    else if (run.row.fence === fence && !isRaising) leave('lost');
    return outcome.kind === 'committed';
  };

  /** Whether the store's word that the run is ours is fresh (spec F5): an answer may be old when it comes. */
  const isFresh = () => {
    const ageMs = clock.now() - run.confirmedAt;
    return ageMs >= 0 && ageMs < host.leaseMs; // below 0: the clock was set back
  };
  const isConfirmed = async () => {
    while (!isFresh()) if (!(await confirm())) return false;
    return true;
  };

  /** Sets memory back to what is durable (D3). */
  const rebuild = () => {
    pass.drop();
    // Who lost a race that is not decided after all is in flight as before: entered again, it would do its work twice.
    for (const [key, running] of run.losers) if (running) run.running.set(key, running);
    run.losers.clear();
    run.nextAt = Infinity;
    const { entries } = run.digest;
    run.digest = digestOf(entries.slice(0, run.row.length));
    run.handlerLogs = run.digest.handlerLogs;
    // What functions have said, they have said once; the handler says it again.
    run.logs = [...linesIn(entries.slice(run.row.length)).map(asSaid), ...run.logs].filter(({ id }) => id);
  };

  /** After a commit whose answer was lost: memory as the store has it. False: the run is not ours any more. */
  const reread = async (): Promise<boolean> => {
    const found = await host.load(runId);
    // By the commit whose answer was lost: claimed, or (it was ours already) begun anew.
    const isClaimed = found?.row.owner === owner && found.row.fence === run.row.fence + 1 && !isLeftOver(found.row);
    const isAnew = isClaimed && run.isOwner;
    const isOver = found?.row.endedAt !== undefined && !found.row.undoing;
    if (!found || isOver || (found.row.fence !== run.row.fence && !isClaimed)) return false;
    if (isAnew) forgetGeneration(run);
    // Said already, and only the answer was lost.
    const said = linesIn(found.journal.slice(isAnew ? 0 : run.row.length)).map(asSaid);
    run.logs = run.logs.filter((line) => !said.some((entry) => sameJson(entry as never, line as never)));
    if (isClaimed) run.isInterrupted = false;
    run.isOwner ||= isClaimed;
    run.isBlind = run.isOwner;
    run.row = found.row;
    run.digest = digestOf(found.journal);
    run.handlerLogs = run.digest.handlerLogs;
    hear(run, found.row);
    return true;
  };

  /** Leaves the run to whoever looks next. */
  const letGo = async (now: number, append: readonly JournalEntry[]) => {
    const { fence, length } = run.row;
    const state = leftState(run.row, run.digest.end !== undefined, now);
    const interrupted = run.isInterrupted || undefined;
    const claimed: JournalEntry = { kind: 'claimed', at: now, owner, fence: fence + 1, interrupted };
    const entries = run.isOwner ? append : [claimed, ...append];
    const raise = run.isOwner ? undefined : true;
    const outcome = await host.commit({ runId, fence, length, raise, append: entries, state });
    if (outcome.kind !== 'committed') return;
    run.row = rowWith(run.row, state, { fence: outcome.fence, length: length + entries.length });
  };

  return { commit, giveUp, confirm, isFresh, isConfirmed, letGo, rebuild, reread };
}
