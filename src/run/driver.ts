import type { Dispatch } from '../door/dispatch.js';
import type { AnyJob } from '../door/job.js';
import type { Start } from '../door/start.js';
import type { StateHost } from '../door/state.js';
import { StepfastError } from '../errors.js';
import { LIMITS } from '../limits.js';
import type { Platform } from '../platform.js';
import { digestOf } from '../replay/digest.js';
import { isOutcome, type JournalEntry } from '../store/journal.js';
import type {
  Batch,
  CommitOutcome,
  DueRun,
  EventRow,
  RunChange,
  RunRow,
  RunState,
  Store,
  StoredRun,
} from '../store/store.js';
import { type Codec, sameJson } from '../values/codec.js';
import { durationMs } from '../values/duration.js';
import type { RetryOptions } from '../values/retry.js';
import { createAftermath, followings } from './aftermath.js';
import { readEnds } from './children.js';
import { createCommits } from './commits.js';
import { createFunctions, type Late, lostBy } from './functions.js';
import { countUp } from './increments.js';
import {
  type Draft,
  emptyDraft,
  hear,
  isOffered,
  isSameState,
  liveRunOf,
  openWaits,
  startable,
  stateOf,
} from './live-run.js';
import { createPass } from './pass.js';
import { createRecorder } from './recorder.js';
import { upgradeOf } from './upgrade.js';

/*
 * One run in one engine: feeds the replay with what happened, commits what the handler asks for, enters functions.
 *
 * D1. Work is done in rounds, one at a time. A round gathers facts (ended functions, events, passed instants), lets the
 *     handler react to each in memory, and makes one commit of it all (spec R11).
 * D2. A function is entered only after the commit that the round made, or a confirmation of the fence: nothing outside
 *     is caused by what might not be durable. A crash before the commit replays to where the journal ends.
 * D3. Whenever a commit does not come back as `committed`, memory is ahead of the store: the pass is dropped and built
 *     again from the journal. Facts of functions stay until they are durable, so no completed step runs twice.
 * D4. A claim is part of the first commit of a round, never a commit of its own.
 * D5. A run that has ended and is to be followed by something (aftermath.ts) is driven on, one commit for each thing.
 */

/** What a driver needs from its engine. */
export interface DriverHost {
  readonly platform: Platform;
  readonly codec: Codec;
  readonly owner: string;
  readonly leaseMs: number;
  readonly alwaysReplays: boolean;
  readonly retry: RetryOptions | undefined;
  /** A commit of this engine for the run, with what is to be written along with it. */
  commit(change: RunChange, parts?: Pick<Batch, 'state' | 'starts' | 'events'>): Promise<CommitOutcome>;
  readonly start: Start;
  readonly dispatch: Dispatch;
  /** Shared state as it is, and writes to it that are commits of their own. */
  readonly state: StateHost;
  /** Entries of the run have become durable. */
  committed(runId: string, job: string, entries: readonly JournalEntry[]): void;
  /** Where the store shares a database with the app. */
  readonly transact?: Store['transact'];
  load(runId: string): Promise<StoredRun | undefined>;
  /** Waits for its turn; a suspect (spec F5) enters alone. Resolves with what to call when the function has ended. */
  enter(isSuspect: boolean): Promise<() => void>;
  concurrency(queue: string): number;
  rate(queue: string): RunChange['rate'];
  /** Something that people can see has changed. */
  changed(runId: string, row?: RunRow): void;
  /** What functions return after their run was ended from outside. */
  readonly late: { keep(runId: string, late: Late): void; take(runId: string): Late };
  /** The driver rests until its `nextAt`. */
  rests(driver: Driver): void;
  /** `no-slot`: its queue is full, though not by runs of this engine. `lost`: another context has, or had, the run. */
  gone(driver: Driver, why?: 'no-slot' | 'lost', retryAt?: number): void;
  /** The run was replayed and there is nothing to do for it here. */
  idle(row: RunRow): void;
  blocked(row: RunRow, error: Error): void;
  report(error: unknown): void;
}

export type Driver = ReturnType<typeof createDriver>;

/** Takes up a run that is due. Nothing is written until the handler has been replayed and fits its journal. */
export function createDriver(host: DriverHost, job: AnyJob, stored: StoredRun, due: Omit<DueRun, 'row'>) {
  const { platform, owner } = host;
  const { clock } = platform;
  const { runId, job: jobName } = stored.row;
  const run = liveRunOf(stored, due);
  run.late = host.late.take(runId);
  const { timeout } = job.options;
  const timeoutMs = timeout === undefined ? Infinity : durationMs(timeout, `timeout of job "${jobName}"`);
  const runAbort = platform.newAbort();
  let isGone = false;
  let isPumping = false;
  let pumping = Promise.resolve();
  /** A commit may or may not have happened: nothing is done before the store has told. */
  let isTroubled = false;
  /** An outcome is committed before the handler hears of it: what it asked for in reaction was bad. */
  let isCareful = false;
  /** Something outside has changed that no row shows. */
  let isAwake = false;
  /** Resolves when the run is let go: nothing is waited for any more. */
  let tellGone: () => void = () => undefined;
  const gone = new Promise<void>((resolve) => {
    tellGone = resolve;
  });
  const going = { promise: gone, isOver: () => isGone };

  const hold = () => clock.hold?.() ?? (() => undefined);

  const pass = createPass({
    ...host,
    run,
    job,
    abort: runAbort,
    opened: (draft, ask) => recorder.open(draft, ask),
    made: (draft, ask) => recorder.make(draft, ask),
    pump: () => void pump(),
  });
  const recorder = createRecorder({
    ...host,
    run,
    job,
    react: (draft) => pass.react(draft),
    report: (error) => host.report(error),
  });

  const commits = createCommits({
    host,
    run,
    jobName,
    pass,
    recorder,
    leave: (why, retryAt) => leave(lostBy(runId), why, retryAt),
  });
  const { commit, confirm, letGo, rebuild } = commits;
  const functions = createFunctions({
    host,
    run,
    isGone: () => isGone,
    pump: () => void pump(),
    stir: () => stir(),
    lost: () => leave(lostBy(runId), 'lost'),
  });
  const finish = createAftermath({
    ...host,
    run,
    job,
    pass,
    recorder,
    commits,
    signal: runAbort,
    going,
    functions,
    stateAt: (now) => stateOf(run, 0, circumstances(now)).state,
    blocked: (row, error) => host.blocked(row, error),
    report: (error) => host.report(error),
    leave: (reason) => leave(reason),
  });

  // ---- rounds -------------------------------------------------------------------------------------------------------

  /** Blocked, until it is claimed again. */
  const blockedFor = (now: number) => Math.max(0, now - (run.digest.blockedSince ?? now));
  const circumstances = (now: number) => ({
    now,
    owner,
    version: job.options.version ?? 1,
    isOnline: platform.isOnline(),
    deadline: (run.digest.begunAt ?? now) + timeoutMs + run.digest.blockedMs + blockedFor(now),
    followsAt: run.digest.end && followings(run, job)[0]?.retryAt,
  });

  const round = async (): Promise<void> => {
    if (run.digest.end) return finish();
    await readEnds(run, host);
    const now = clock.now();
    const draft = emptyDraft(now);
    recorder.checkLimits(draft, circumstances(now).deadline);
    if (!run.digest.end) await advance(draft);
    if (run.fault) return block(draft);
    const { isOnline } = circumstances(now);
    const starting = run.digest.end || draft.isReset ? [] : startable(run, draft, isOnline);
    for (const ask of starting) recorder.begin(draft, ask);
    // A handler that has not heard yet of what this commit records is at work: should it die, the next owner replays it.
    const atWork = starting.length + draft.later.length;
    const next = draft.isReset ? restarted(draft) : stateOf(run, atWork, circumstances(now));
    run.nextAt = next.nextAt;
    // Before the commit that says `running`: a run that only waits behind a suspect must not be blamed for its crashes.
    if (starting.length || next.state.undoing) await functions.takeTurn();
    if (isGone) return functions.giveTurn();
    if (run.isBlind) draft.unless.push(...openWaits(run).map(({ wait }) => wait));
    if (needsCommit(draft, next.state)) {
      if (!(await commit(draft, next.state))) return;
    } else if (!run.isOwner) {
      // Neither held nor due: the clock was set back since it was found. The next look tells when it will be.
      if (!run.row.unsettled && !run.digest.end) return leave(undefined, 'lost');
      host.idle(run.row);
    } else if (starting.length && clock.now() - run.confirmedAt >= host.leaseMs && !(await confirm())) return;
    if (isGone) return; // closed or lost while the commit was under way: nothing is entered any more
    run.facts = run.facts.filter((fact) => !draft.facts.has(fact));
    for (const then of draft.later) then();
    for (const ask of starting) if (ask.command.kind !== 'transaction') functions.enter(ask);
    for (const ask of starting) if (ask.command.kind === 'transaction' && !isGone) await functions.share(ask);
    functions.watchNetwork(isOnline);
    if (draft.isReset) return begin(draft);
    if (run.digest.end) run.isStirred = true;
    else if (host.alwaysReplays && draft.entries.some(isOutcome)) pass.restart();
  };

  /** Begun anew (`step.restart`): held on, due at any time, and never mistaken for the journal before (the fence grows). */
  const restarted = ({ now }: Draft) => {
    const { version } = run.row;
    const state: RunState = {
      status: 'running',
      version,
      owner,
      dueAt: 0,
      slot: run.row.queue,
      waits: [],
      startedAt: now,
    };
    return { state, nextAt: Infinity };
  };
  const forgetGeneration = () => {
    run.facts = [];
    run.progress = undefined;
    // Its waits have the names of those before, and not their questions; what is there, the store offers again.
    run.verdicts.clear();
    run.offers.clear();
  };
  const begin = ({ entries }: Draft) => {
    pass.drop();
    run.digest = digestOf(entries);
    run.handlerLogs = 0;
    forgetGeneration();
    run.isStirred = true;
  };

  const stir = () => {
    run.isStirred ||= !run.replay;
    isAwake = true;
    void pump();
  };

  const needsCommit = (draft: Draft, state: RunState) => {
    if (draft.entries.length) return true;
    if (run.isOwner) return run.isBlind || !isSameState(run.row, state);
    // Not ours yet: claimed when there is something to do. A handler that may still ask for more is only listened to.
    return state.status === 'running' || (!run.row.unsettled && (run.row.dueAt ?? Infinity) <= draft.now);
  };

  /** Code of a later version takes the run up: what its job wants of that. True: there is nothing to replay. */
  const upgrade = (draft: Draft): boolean => {
    try {
      const found = upgradeOf(run, job, host.codec, draft.now);
      if (!found) return false;
      recorder.record(draft, found.entry);
      if (found.then === 'abandon') recorder.record(draft, { kind: 'cancelled', at: draft.now });
      if (found.then === 'restart') {
        recorder.restart(draft, run.digest.payload);
        draft.entries.push(found.entry);
      }
      return found.then !== 'continue';
    } catch (error) {
      run.fault = error as Error;
      return true;
    }
  };

  /** Brings the handler to where the facts are. */
  const advance = async (draft: Draft) => {
    if (!run.isOwner && upgrade(draft)) return;
    if (!run.replay) {
      if ((run.digest.handlerFailures?.retryAt ?? 0) > draft.now) {
        run.isStirred = false; // the handler backs off
        return;
      }
      pass.start();
    }
    const drift = pass.takeDrift();
    if (drift) recorder.record(draft, drift);
    if (run.isStirred) await pass.react(draft);
    if (run.progressed && run.digest.interruptions > 0)
      recorder.record(draft, { kind: 'progressed', at: draft.now, id: run.progressed.id });
    run.progressed = undefined;
    // A run that was interrupted since its last progress does not fold: its handler may be what crashes (spec R11).
    if (run.facts.length && (isCareful || run.digest.interruptions > 0)) {
      const hasFault = run.fault !== undefined;
      run.fault = undefined;
      isCareful = false;
      await recorder.takeFacts(draft, true);
      if (hasFault) draft.later.splice(0, Infinity, pass.restart); // a new pass finds the fault again
      return;
    }
    if (!run.fault) await recorder.takeFacts(draft, false);
    if (!run.fault) await recorder.takeDue(draft);
    if (!run.fault && !run.digest.end) await countUp(run, host, recorder, draft);
    if (run.fault || run.digest.end || !run.ending || run.running.size) return;
    if (startable(run, draft, circumstances(draft.now).isOnline).length) return;
    if ((await recorder.end(draft, run.ending)) === 'retries') pass.drop();
  };

  /** The code does not fit the journal: outcomes are kept, the run is let go for a context whose code fits (spec R5). */
  const block = async (draft: Draft) => {
    const error = run.fault!;
    rebuild();
    run.progressed = undefined;
    for (const { reject } of run.increments.splice(0)) reject(error);
    if (run.facts.length) {
      // A bad command fails alone: the outcome that led to it is committed first, without it.
      isCareful = run.isStirred = true;
      return;
    }
    if (run.running.size) return; // their outcomes are recorded as they come
    // Also a slot that a dead owner left: a run that can not go on must not keep others of its queue waiting.
    if (run.isOwner || run.row.slot !== undefined)
      await letGo(draft.now, [{ kind: 'released', at: draft.now, blocked: true }]);
    host.blocked(run.row, error);
    leave(error);
  };

  // ---- life ---------------------------------------------------------------------------------------------------------

  const isDue = () =>
    run.facts.length > 0 ||
    run.isStirred ||
    run.nextAt <= clock.now() ||
    isAwake ||
    run.news.size > 0 ||
    run.increments.length > 0 ||
    run.progressed !== undefined ||
    // A handler that has settled takes nothing any more, however long its functions are still in flight (spec R8).
    (!run.ending && !run.digest.end && isOffered(run));

  const pump = (): Promise<void> => {
    if (!isPumping && !isGone && !isTroubled) pumping = rounds();
    return pumping;
  };

  const rounds = async (): Promise<void> => {
    isPumping = true;
    const release = hold();
    try {
      do {
        isAwake = false;
        await round();
      } while (!isGone && isDue());
    } catch (error) {
      if (!isGone) trouble(error); // what a run that was let go meets on its way out is nobody's any more
    } finally {
      isPumping = false;
      if (isGone || run.row.slot === undefined) functions.giveTurn();
      if (!isGone) host.rests(driver);
      release();
    }
  };

  /** The store failed, and whether the commit happened is unknown: look again later, go on from what is durable (D5). */
  const trouble = (error: unknown) => {
    if (isGone) return;
    rebuild();
    if ((error as { readonly code?: unknown }).code === 'CLOSED') return leave(error);
    isTroubled = true;
    host.report(error);
    platform.patience(run.backoffMs, () => void recover().catch(trouble));
    run.backoffMs = Math.min(run.backoffMs * 2, LIMITS.maxBackoffMs);
  };

  const recover = async () => {
    const found = isGone ? undefined : await host.load(runId);
    // By the commit whose answer was lost: claimed, or (it was ours already) begun anew.
    const isClaimed = found?.row.owner === owner && found.row.fence === run.row.fence + 1;
    const isAnew = isClaimed && run.isOwner;
    const isOver = found?.row.endedAt !== undefined && !found.row.undoing;
    if (!found || isOver || (found.row.fence !== run.row.fence && !isClaimed)) {
      host.changed(runId);
      return leave(lostBy(runId), 'lost');
    }
    if (isAnew) forgetGeneration();
    // Said already, and only the answer was lost.
    const said = found.journal.slice(isAnew ? 0 : run.row.length);
    run.logs = run.logs.filter((line) => !said.some((entry) => sameJson(entry as never, line as never)));
    if (isClaimed) run.isInterrupted = false;
    run.isOwner ||= isClaimed;
    run.isBlind = run.isOwner;
    run.row = found.row;
    run.digest = digestOf(found.journal);
    run.handlerLogs = run.digest.handlerLogs;
    hear(run, found.row);
    isTroubled = false;
    run.isStirred = true;
    void pump();
  };

  const leave = (reason?: unknown, why?: 'no-slot' | 'lost', retryAt?: number) => {
    if (isGone) return;
    isGone = true;
    tellGone();
    pass.drop();
    if (reason) runAbort.abort(reason); // not when it has ended by itself, or is only put out of memory
    host.late.keep(runId, functions.stop(reason));
    for (const { reject } of run.increments.splice(0)) reject(reason ?? lostBy(runId));
    host.gone(driver, why, retryAt);
  };

  const isActive = () => run.row.slot !== undefined || isPumping || isTroubled;

  const driver = {
    runId,
    pump,
    leave,
    row: () => run.row,
    nextAt: () => run.nextAt,
    /** Holds a slot, or is about to. */
    isActive,
    /** No look of this engine would find it again, was it put out of memory. */
    isHeld: () => isActive() || run.row.unsettled || run.row.undoing,
    /** When to pump it by the engine's own timer: instants that its row, held by us, does not show as due. */
    timerAt: () => (driver.isHeld() ? run.nextAt : Infinity),
    /** A look found the run due or woken. False: it is no longer ours, and to be taken up anew. */
    wake(row: RunRow, events: readonly EventRow[]): boolean {
      const isBusy = isPumping || isTroubled;
      if (!isBusy && row.fence > run.row.fence) {
        leave(lostBy(runId));
        return false;
      }
      hear(run, row, events);
      // The look may have read the row before our last commit: only a row that fits memory is taken over.
      const isSame = row.fence === run.row.fence && row.length === run.row.length;
      if (isSame) run.row = isBusy ? { ...run.row, woken: row.woken } : row;
      run.isStirred ||= !isBusy && !run.replay;
      void pump();
      return true;
    },
    /** Another context has changed the run: whether it is still ours is asked of the store. */
    verify(): void {
      if (run.isOwner && (run.running.size || run.row.undoing)) void confirm().catch(host.report);
    },
    /** The run was cancelled with its parent, unless a commit under way has ended it before: then it is still ours. */
    stop(reason: unknown): void {
      if (isPumping || isTroubled) driver.verify();
      else leave(reason);
    },
    /** Lets a run that holds no slot be taken up anew, also by this engine. */
    async retire(): Promise<void> {
      const isHeld = run.isOwner && (run.row.unsettled || run.row.undoing);
      leave();
      if (isHeld) await letGo(clock.now(), []);
    },
    /** Lets the run go without counting as an interruption: for `close` (spec F5). */
    async release(): Promise<void> {
      if (isGone) return;
      leave(new StepfastError('CLOSED', `The engine that drove run ${runId} is closing.`, { runId, job: jobName }));
      await pumping; // the commit under way is part of what is let go
      if (run.isOwner && (run.row.slot !== undefined || run.row.undoing) && !isTroubled)
        await letGo(clock.now(), [{ kind: 'released', at: clock.now() }]);
    },
  };
  return driver;
}
