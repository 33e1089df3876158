import type { AnyJob } from '../door/job.js';
import { isStepfastError, StepfastError } from '../errors.js';
import { LIMITS } from '../limits.js';
import { isAhead } from '../store/due.js';
import type { EventRow, RunRow, StoredRun } from '../store/rows.js';
import type { DueRun } from '../store/store.js';
import { createCommits } from './commits.js';
import { createFunctions, lostBy } from './functions.js';
import type { DriverHost } from './host.js';
import { refuseIncrements } from './increments.js';
import { hear, liveRunOf } from './live-run.js';
import { createPass } from './pass.js';
import { isOffered } from './questions.js';
import { createRecorder } from './recorder.js';
import { createRound } from './round.js';

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

export type Driver = ReturnType<typeof createDriver>;

/** Takes up a run that is due. Nothing is written until the handler has been replayed and fits its journal. */
export function createDriver(host: DriverHost, job: AnyJob, stored: StoredRun, due: Omit<DueRun, 'row'>) {
  const { platform } = host;
  const { clock } = platform;
  const { runId, job: jobName } = stored.row;
  const run = liveRunOf(stored, due);
  for (const [key, late] of host.late.take(runId)) run.late.set(key, late);
  const runAbort = platform.newAbort();
  let isGone = false;
  let isPumping = false;
  let pumping = Promise.resolve();
  /** A commit may or may not have happened: nothing is done before the store has told. */
  let isTroubled = false;
  /** Or what is to be read can not be read for want of a key: nothing was to be committed, and no slot is taken. */
  let isUnread = false;
  /** Something outside has changed that no row shows. */
  let isAwake = false;
  /** What a look found while a round was under way. */
  let seen: RunRow | undefined;
  /** What the clock said at the last round. */
  let roundAt = 0;
  /** While the handler awaits something else between its steps, and nothing that it has asked for is open. */
  let stopAwaiting: (() => void) | undefined;
  /** Resolves when the run is let go: nothing is waited for any more. */
  let tellGone: () => void = () => undefined;
  const gone = new Promise<void>((resolve) => {
    tellGone = resolve;
  });

  const pass = createPass({
    host,
    run,
    job,
    abort: runAbort,
    opened: (draft, ask) => recorder.open(draft, ask),
    made: (draft, ask) => recorder.make(draft, ask),
    pump: () => void pump(),
  });
  const recorder = createRecorder({ host, run, job, react: (draft) => pass.react(draft) });

  const commits = createCommits({
    host,
    run,
    jobName,
    pass,
    recorder,
    leave: (why) => leave(lostBy(runId), why),
  });
  const functions = createFunctions({
    host,
    run,
    isGone: () => isGone,
    pump: () => void pump(),
    stir: () => stir(),
    lost: () => leave(lostBy(runId), 'lost'),
  });
  const round = createRound({
    host,
    run,
    job,
    pass,
    recorder,
    commits,
    functions,
    signal: runAbort,
    going: { promise: gone, isOver: () => isGone },
    pump: () => void pump(),
    leave: (reason, why) => leave(reason, why),
  });

  const stir = () => {
    isAwake = true;
    void pump();
  };

  const isCalled = () =>
    run.facts.length > 0 ||
    run.isStirred ||
    run.nextAt <= clock.now() ||
    isAwake ||
    run.news.size > 0 ||
    run.increments.length > 0 ||
    run.progressed !== undefined ||
    // A handler that has settled takes nothing any more, however long its functions are still in flight (spec R8).
    (!run.ending && !run.digest.end && isOffered(run));

  /** Another has it; or, where it is only listened to, what is replayed here is not all of its journal. */
  const isOutrun = (row: RunRow) => row.fence > run.row.fence || (!run.isOwner && row.length > run.row.length);

  const pump = (): Promise<void> => {
    if (!isPumping && !isGone && !isTroubled) pumping = rounds();
    return pumping;
  };

  const rounds = async (): Promise<void> => {
    isPumping = true;
    host.works(driver);
    const release = clock.hold?.();
    try {
      do {
        isAwake = false;
        roundAt = clock.now();
        run.held = [];
        await round();
        for (const resume of run.held.splice(0)) resume();
      } while (!isGone && isCalled());
    } catch (error) {
      trouble(error);
    } finally {
      isPumping = false;
      run.held = undefined;
      if (seen && isOutrun(seen)) leave(lostBy(runId), 'lost');
      seen = undefined;
      if (isGone || run.row.slot === undefined) functions.giveTurn();
      if (!isGone) host.rests(driver);
      stopAwaiting?.();
      // A simulated clock gives it real time; any other has nothing to be told.
      const awaits = run.replay && !run.ending && !run.digest.end && !run.asks.size;
      stopAwaiting = awaits ? clock.hold?.() : undefined;
      release?.();
    }
  };

  /** The store failed, and whether the commit happened is unknown: look again later, go on from what is durable (D5). */
  const trouble = (error: unknown) => {
    if (isGone) return; // what a run that was let go meets on its way out is nobody's any more
    commits.rebuild();
    if ((error as { readonly code?: unknown }).code === 'CLOSED') return leave(error);
    host.report(error);
    if (isStepfastError(error, 'NOT_SERIALIZABLE') && commits.giveUp(error)) return platform.hop(() => void pump());
    isTroubled = true;
    isUnread = isStepfastError(error, 'KEY_MISSING');
    platform.patience(run.backoffMs, () => void recover().catch(trouble));
    run.backoffMs = Math.min(run.backoffMs * 2, LIMITS.maxBackoffMs);
  };
  const recover = async () => {
    if (isGone) return;
    if (!(await commits.reread())) {
      host.changed(runId);
      return leave(lostBy(runId), 'lost');
    }
    isTroubled = false;
    void pump();
  };

  const leave = (reason?: unknown, why?: 'no-slot' | 'lost') => {
    if (isGone) return;
    isGone = true;
    tellGone();
    pass.drop();
    stopAwaiting?.();
    if (reason) runAbort.abort(reason); // not when it has ended by itself, or is only put out of memory
    host.late.keep(runId, functions.stop(reason));
    refuseIncrements(run, () => reason);
    host.gone(driver, why);
  };

  const isActive = () => run.row.slot !== undefined || isPumping || (isTroubled && !isUnread);

  const driver = {
    runId,
    pump,
    leave,
    row: () => run.row,
    nextAt: () => run.nextAt,
    /** Holds a slot, or is about to. */
    isActive,
    /** No look of this engine would find it again, was it put out of memory. */
    isHeld: () => isActive() || isTroubled || run.row.unsettled || run.row.undoing,
    /**
     * When to pump it by the engine's own timer: instants that its row, held by us, does not show as due. Not while it is
     * at work: a round that lasts (an undo, a turn that is waited for) would call again and again for what it does. At once
     * where the clock was ahead at the last round: what backs off since then does no longer (spec Q4).
     */
    timerAt() {
      if (!driver.isHeld() || isPumping || isTroubled) return Infinity;
      return isAhead(roundAt, clock.now()) ? 0 : run.nextAt;
    },
    /** A look found the run due or woken. False: it is no longer ours, and to be taken up anew. */
    wake(row: RunRow, events: readonly EventRow[]): boolean {
      const isBusy = isPumping || isTroubled;
      if (!isBusy && isOutrun(row)) {
        leave(lostBy(runId));
        return false;
      }
      seen = row; // a round under way may be about to claim it, or to find out; if not, it is left behind it
      hear(run, row, events);
      // The look may have read the row before our last commit: only a row that fits memory is taken over.
      const isSame = row.fence === run.row.fence && row.length === run.row.length;
      // What was said last is known better here, and a file that was read anew would be said again.
      if (isSame) run.row = { ...(isBusy ? run.row : row), woken: row.woken, progress: run.row.progress };
      void pump();
      return true;
    },
    /** Another context has changed the run: whether it is still ours is asked of the store. */
    verify(): void {
      if (run.isOwner && (run.running.size || run.row.undoing)) void commits.confirm().catch(host.report);
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
      if (isHeld) await commits.letGo(clock.now(), []);
    },
    /** Lets the run go without counting as an interruption: for `close` (spec F5). */
    async release(): Promise<void> {
      leave(new StepfastError('CLOSED', `The engine that drove run ${runId} is closing.`, { runId, job: jobName }));
      await pumping; // the commit under way is part of what is let go
      if (run.isOwner && (run.row.slot !== undefined || run.row.undoing) && !isTroubled)
        await commits.letGo(clock.now(), [{ kind: 'released', at: clock.now() }]);
    },
  };
  return driver;
}
