import { digestOf } from '../replay/digest.js';
import { isDue } from '../store/due.js';
import { isOutcome } from '../store/journal.js';
import type { RunState } from '../store/rows.js';
import { stateOfRow } from '../store/transition/scope.js';
import { durationMs } from '../values/duration.js';
import { createAdvance } from './advance.js';
import { type AftermathOptions, createAftermath, followings } from './aftermath.js';
import { readEnds } from './children.js';
import { type Functions, forgetGeneration } from './functions.js';
import { type Draft, emptyDraft, type LiveRun } from './live-run.js';
import { type Circumstances, isOffline, isSameState, openWaits, shownIn, startable, stateOf } from './questions.js';
import { isSetAside } from './upgrade.js';

/*
 * One round of one run: gathers facts (ended functions, events, passed instants), lets the handler react to each in memory,
 * makes one commit of it all (spec R11), and enters the functions that the commit allows.
 */

interface RoundOptions extends Omit<AftermathOptions, 'functions'> {
  readonly functions: Functions;
  /** The driver lets the run go: blocked, or (`lost`) nothing is left to be held. */
  leave(reason?: unknown, why?: 'lost'): void;
}

export function createRound(options: RoundOptions): () => Promise<void> {
  const { host, run, job, pass, recorder, commits, functions, going, leave } = options;
  const { platform, owner } = host;
  const { clock } = platform;
  const { commit, isFresh, isConfirmed } = commits;
  const version = job.options.version ?? 1;
  const { timeout } = job.options;
  const timeoutMs = timeout === undefined ? Infinity : durationMs(timeout, `timeout of job "${job.name}"`);
  const { advance, block } = createAdvance(options);
  const finish = createAftermath(options, (now) => stateOf(run, 0, circumstances(now, platform.isOnline())).state);

  /** Blocked, until it is claimed again. */
  const blockedFor = (now: number) => Math.max(0, now - (run.digest.blockedSince ?? now));
  const deadlineAt = (now: number) => (run.digest.begunAt ?? now) + timeoutMs + run.digest.blockedMs + blockedFor(now);
  const circumstances = (now: number, isOnline: boolean): Circumstances => ({
    now,
    owner,
    version,
    isOnline,
    deadline: deadlineAt(now),
    follows: run.digest.end && followings(run, job, now)[0],
  });

  /**
   * Taken up after a crash, a run is claimed before its handler is called, as it stood: what may crash may be the handler
   * itself, and only a claim that is durable counts that (spec F5). One of an earlier version may be upgraded instead.
   */
  const claimFirst = async (now: number): Promise<boolean> => {
    await functions.takeTurn();
    if (!going.isOver() && (await commit(emptyDraft(now), { ...stateOfRow(run.row), owner }))) return !going.isOver();
    functions.giveTurn();
    return false;
  };
  const isClaimedFirst = ({ isOwner, isInterrupted, row }: LiveRun) =>
    !isOwner && isInterrupted && row.version === version;

  /**
   * What makes the run `running` after this commit, beside functions that are in flight. A handler that has not heard yet
   * of what the commit records is at work: should it die, the next owner replays it. So is a function that has ended since
   * this round began: the next round records it, or the next owner runs it again. Nor does a handler give up its slot that
   * has ended, and whose end the next round records.
   */
  const atWork = (draft: Draft, starting: number): number => {
    const late = run.facts.filter((fact) => !draft.facts.has(fact)).length;
    const unheard = draft.later.length - (draft.counted?.length ?? 0); // numbers are told to functions, in flight or not
    const isEnding = run.ending && run.isStirred;
    return starting + unheard + late + (isEnding ? 1 : 0);
  };

  /** Begun anew (`step.restart`): held on, due at any time, and never mistaken for the journal before (the fence grows). */
  const restarted = ({ now }: Draft) => {
    const state: RunState = {
      status: 'running',
      version: Math.max(run.row.version, version), // code of a later one may have begun it anew
      owner,
      dueAt: 0,
      slot: run.row.queue,
      waits: [],
      startedAt: now,
    };
    return { state, nextAt: Infinity };
  };
  const begin = ({ entries }: Draft) => {
    pass.drop();
    run.digest = digestOf(entries);
    run.handlerLogs = 0;
    forgetGeneration(run);
    run.isStirred = true;
  };

  const needsCommit = (draft: Draft, state: RunState) => {
    if (draft.entries.length) return true;
    if (run.isOwner) return run.isBlind || !isSameState(run.row, state);
    // Not ours yet: claimed when there is something to do. A handler that may still ask for more is only listened to.
    // One that was woken is claimed: only a commit takes the mark off, and without it the next wake-up would not show.
    // So is one with a wait that its owner died before its handler asked for again.
    if (state.status === 'running' || run.row.woken) return true;
    const isShown = shownIn(run.row);
    if (state.waits.some(({ id }) => !isShown(id))) return true;
    return !run.row.unsettled && isDue(run.row, draft.now);
  };

  return async () => {
    if (run.digest.end) return finish();
    if (run.news.size) await readEnds(run, host);
    const now = clock.now();
    const draft = emptyDraft(now);
    if (!isSetAside(run, job)) recorder.checkLimits(draft, deadlineAt(now));
    if (!run.digest.end && isClaimedFirst(run) && !(await claimFirst(now))) return;
    if (!run.digest.end) await advance(draft);
    if (run.fault) return block(draft);
    recorder.checkWaits(draft);
    const isOnline = platform.isOnline();
    const starting = run.digest.end ? [] : startable(run, draft, isOnline);
    for (const ask of starting) recorder.begin(draft, ask);
    const next = draft.isReset
      ? restarted(draft)
      : stateOf(run, atWork(draft, starting.length), circumstances(now, isOnline));
    run.nextAt = next.nextAt;
    // Before the commit that says `running`: a run that only waits behind a suspect must not be blamed for its crashes.
    if ((starting.length || next.state.undoing) && !functions.hasTurn()) await functions.takeTurn();
    if (going.isOver()) return;
    if (run.isBlind) draft.unless.push(...openWaits(run).map(({ wait }) => wait));
    if (needsCommit(draft, next.state)) {
      if (!(await commit(draft, next.state))) return;
    } else if (!run.isOwner) {
      // Neither held nor due: the clock was set back since it was found. The next look tells when it will be.
      if (!run.row.unsettled) return leave(undefined, 'lost');
      host.idle(run.row);
    }
    functions.endLosers();
    for (const then of draft.later) then(); // durable, whether the fence is confirmed or not: a function may wait for its number
    if (starting.length && !isFresh() && !(await isConfirmed())) return;
    if (going.isOver()) return; // closed or lost while the commit was under way: nothing is entered any more
    run.facts = run.facts.filter((fact) => !draft.facts.has(fact));
    for (const ask of starting) if (ask.command.kind !== 'transaction') functions.enter(ask);
    for (const ask of starting) if (ask.command.kind === 'transaction' && !going.isOver()) await functions.share(ask);
    functions.watchNetwork(isOffline(run, isOnline));
    if (draft.isReset) return begin(draft);
    if (run.digest.end) run.isStirred = true;
    else if (host.alwaysReplays && draft.entries.some(isOutcome)) pass.restart();
  };
}
