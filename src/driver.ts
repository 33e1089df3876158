import type { Codec } from './codec.js';
import { attemptOf, digestOf } from './digest.js';
import { StepfastError } from './errors.js';
import type { AnyJob } from './job.js';
import { isOutcome, type JournalEntry } from './journal.js';
import {
  type Draft,
  type Fact,
  isSameState,
  type LiveRun,
  offered,
  openWaits,
  startable,
  stateOf,
} from './live-run.js';
import { createPass } from './pass.js';
import type { Platform } from './platform.js';
import { createRecorder, LIMITS } from './recorder.js';
import type { Ask } from './replay.js';
import type { RetryOptions } from './retry.js';
import type { CommitOutcome, DueRun, EventRow, RunChange, RunRow, RunState, StoredRun } from './store.js';
import { rowWith } from './transition.js';

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
 */

/** What a driver needs from its engine. */
export interface DriverHost {
  readonly platform: Platform;
  readonly codec: Codec;
  readonly owner: string;
  readonly leaseMs: number;
  readonly alwaysReplays: boolean;
  readonly retry: RetryOptions | undefined;
  commit(change: RunChange): Promise<CommitOutcome>;
  load(runId: string): Promise<StoredRun | undefined>;
  /** Waits for its turn; a suspect (spec F5) enters alone. Resolves with what to call when the function has ended. */
  enter(isSuspect: boolean): Promise<() => void>;
  concurrency(queue: string): number;
  /** Something that people can see has changed. */
  changed(runId: string, row?: RunRow): void;
  /** The driver rests until its `nextAt`. */
  rests(driver: Driver): void;
  /** `no-slot`: its queue is full, though not by runs of this engine. `lost`: another context has, or had, the run. */
  gone(driver: Driver, why?: 'no-slot' | 'lost'): void;
  /** The run was replayed and there is nothing to do for it here. */
  idle(row: RunRow): void;
  blocked(row: RunRow, error: Error): void;
  report(error: unknown): void;
}

/** So many interruptions in a row, and a run is driven with nothing else of its context in flight (spec F5). */
const SUSPECT = 2;

export type Driver = ReturnType<typeof createDriver>;

/** Takes up a run that is due. Nothing is written until the handler has been replayed and fits its journal. */
export function createDriver(host: DriverHost, job: AnyJob, stored: StoredRun, due: Omit<DueRun, 'row'>) {
  const { platform, codec, owner } = host;
  const { clock } = platform;
  const { runId, job: jobName } = stored.row;
  const run: LiveRun = {
    row: stored.row,
    digest: digestOf(stored.journal),
    replay: undefined,
    ending: undefined,
    asks: new Map(),
    running: new Map(),
    facts: [],
    offers: new Map(),
    feeds: [],
    fault: undefined,
    isStirred: false,
    isOwner: false,
    isInterrupted: due.interrupted,
  };
  const started = stored.journal[0] as Extract<JournalEntry, { kind: 'started' }>;
  const startRetry = started.retry === undefined ? undefined : (codec.decode(started.retry) as RetryOptions);
  const runAbort = platform.newAbort();
  let isGone = false;
  let isPumping = false;
  let pumping = Promise.resolve();
  /** A commit may or may not have happened: nothing is done before the store has told. */
  let isTroubled = false;
  /** The answer that held the events for the open waits was lost: the next commit asks for them. */
  let isBlind = false;
  /** An outcome is committed before the handler hears of it: what it asked for in reaction was bad. */
  let isCareful = false;
  /** Held while functions are in flight: a suspect (spec F5) has its context to itself. */
  let turn: (() => void) | undefined;
  let confirmedAt = 0;
  let nextAt = Infinity;
  let backoffMs = LIMITS.backoffMs;

  const hold = () => clock.hold?.() ?? (() => undefined);
  const addOffers = (events: readonly EventRow[]) => {
    for (const event of events) run.offers.set(event.seq, event);
  };
  addOffers(due.offers);

  const pass = createPass({
    ...host,
    run,
    job,
    started,
    abort: runAbort,
    opened: (draft, ask) => recorder.open(draft, ask),
    pump: () => void pump(),
  });
  const recorder = createRecorder({
    ...host,
    run,
    job,
    startRetry,
    react: (draft) => pass.react(draft),
    report: (error) => host.report(error),
  });

  // ---- rounds -------------------------------------------------------------------------------------------------------

  const round = async (): Promise<void> => {
    const now = clock.now();
    const draft: Draft = { now, entries: [], takes: [], unless: [], facts: new Set(), later: [] };
    recorder.checkLimits(draft);
    if (!run.digest.end) await advance(draft);
    if (run.fault) return block(draft);
    const starting = run.digest.end ? [] : startable(run, draft);
    const next = stateOf(run, { now, owner, version: job.options.version ?? 1, starting: starting.length });
    nextAt = next.nextAt;
    // Before the commit that says `running`: a run that only waits behind a suspect must not be blamed for its crashes.
    if (starting.length) turn ??= await host.enter(isSuspect());
    if (isGone) return giveTurn();
    if (isBlind) draft.unless.push(...openWaits(run).map(({ wait }) => wait));
    if (needsCommit(draft, next.state)) {
      if (!(await commit(draft, next.state))) return;
    } else if (!run.isOwner) {
      // Neither held nor due: the clock was set back since it was found. The next look tells when it will be.
      if (!run.row.unsettled && !run.digest.end) return leave(undefined, 'lost');
      host.idle(run.row);
    } else if (starting.length && clock.now() - confirmedAt >= host.leaseMs && !(await confirm())) return;
    if (isGone) return; // closed or lost while the commit was under way: nothing is entered any more
    run.facts = run.facts.filter((fact) => !draft.facts.has(fact));
    for (const then of draft.later) then();
    for (const ask of starting) enter(ask);
    if (run.digest.end) leave();
    else if (host.alwaysReplays && draft.entries.some(isOutcome)) pass.restart();
  };

  const isSuspect = () => run.digest.interruptions + (run.isInterrupted ? 1 : 0) >= SUSPECT;

  const needsCommit = (draft: Draft, state: RunState) => {
    if (draft.entries.length) return true;
    if (run.isOwner) return isBlind || !isSameState(run.row, state);
    // Not ours yet: claimed when there is something to do. A handler that may still ask for more is only listened to.
    return state.status === 'running' || (!run.row.unsettled && (run.row.dueAt ?? Infinity) <= draft.now);
  };

  /** Brings the handler to where the facts are. */
  const advance = async (draft: Draft) => {
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
    if (run.fault || run.digest.end || !run.ending || run.running.size || startable(run, draft).length) return;
    if ((await recorder.end(draft, run.ending)) === 'retries') pass.drop();
  };

  /** One atomic commit of the round. False: it did not happen, and memory was set back to what is durable. */
  const commit = async (draft: Draft, state: RunState): Promise<boolean> => {
    recorder.claim(draft);
    const { entries: append, takes, unless } = draft;
    const { row } = run;
    const raise = run.isOwner ? undefined : true;
    const concurrency = state.slot === undefined ? undefined : host.concurrency(row.queue);
    // An owner that lives may have gone on since its journal was read: its fence alone does not tell.
    const length = run.isOwner ? undefined : row.length;
    const change = { runId, fence: row.fence, length, raise, append, state, takes, unless, concurrency } as const;
    const outcome = await host.commit(change as RunChange);
    isBlind = false;
    if (outcome.kind === 'committed') {
      run.row = rowWith(row, state, { fence: outcome.fence, length: row.length + append.length });
      run.isOwner = true;
      run.isInterrupted = false;
      confirmedAt = draft.now;
      backoffMs = LIMITS.backoffMs;
      addOffers(outcome.offers);
      for (const { seq } of takes) run.offers.delete(seq);
      host.changed(runId, run.row);
      return true;
    }
    if (outcome.kind === 'overtaken') {
      addOffers(outcome.offers);
      rebuild();
      run.isStirred = true;
    } else {
      // Left as held by us, nobody would look at it again as long as we live.
      if (outcome.kind === 'no-slot' && run.isOwner && run.row.unsettled) await letGo(clock.now(), []);
      leave(lost(runId), outcome.kind === 'no-slot' ? 'no-slot' : 'lost');
    }
    return false;
  };

  const confirm = async () => {
    const outcome = await host.commit({ runId, fence: run.row.fence, append: [] });
    if (outcome.kind !== 'committed') leave(lost(runId), 'lost');
    confirmedAt = clock.now();
    return !isGone;
  };

  /** Sets memory back to what is durable (D3). */
  const rebuild = () => {
    pass.drop();
    nextAt = Infinity;
    run.digest = digestOf(run.digest.entries.slice(0, run.row.length));
  };

  /** The code does not fit the journal: outcomes are kept, the run is let go for a context whose code fits (spec R5). */
  const block = async (draft: Draft) => {
    const error = run.fault!;
    rebuild();
    if (run.facts.length) {
      // A bad command fails alone: the outcome that led to it is committed first, without it.
      isCareful = run.isStirred = true;
      return;
    }
    if (run.running.size) return; // their outcomes are recorded as they come
    // Also a slot that a dead owner left: a run that can not go on must not keep others of its queue waiting.
    if (run.isOwner || run.row.slot !== undefined) await letGo(draft.now, []);
    host.blocked(run.row, error);
    leave(error);
  };

  /** Leaves the run to whoever looks next. */
  const letGo = async (now: number, append: readonly JournalEntry[]) => {
    const { version, waits, startedAt, fence, length } = run.row;
    const state: RunState = { version, waits, startedAt, status: 'queued', dueAt: now };
    const interrupted = run.isInterrupted || undefined;
    const claimed: JournalEntry = { kind: 'claimed', at: now, owner, fence: fence + 1, interrupted };
    const entries = run.isOwner ? append : [claimed, ...append];
    const raise = run.isOwner ? undefined : true;
    const outcome = await host.commit({ runId, fence, length, raise, append: entries, state });
    if (outcome.kind !== 'committed') return;
    run.row = rowWith(run.row, state, { fence: outcome.fence, length: length + entries.length });
  };

  // ---- functions ----------------------------------------------------------------------------------------------------

  const enter = (ask: Ask) => {
    const { key, id } = ask;
    const { fn } = ask.command as Extract<Ask['command'], { kind: 'run' }>;
    const abort = platform.newAbort();
    const attempt = attemptOf(run.digest, key, ask.released);
    const release = hold();
    const end = (reason: unknown) => {
      abort.abort(reason);
      release();
    };
    run.running.set(key, { end });
    const call = async (): Promise<Fact['outcome']> => {
      try {
        const value = await fn({
          attempt,
          idempotencyKey: idempotencyKeyOf(runId, id),
          get signal() {
            return abort.signal;
          },
        });
        return { value: codec.encode(value, `what step "${id[0]}" returned`) };
      } catch (error) {
        return { error };
      }
    };
    void call().then((outcome) => {
      run.running.delete(key);
      if (!isGone) run.facts.push({ ask, attempt, at: clock.now(), outcome });
      void pump();
      release();
    });
  };

  // ---- life ---------------------------------------------------------------------------------------------------------

  const isDue = () =>
    run.facts.length > 0 ||
    run.isStirred ||
    nextAt <= clock.now() ||
    // A handler that has settled takes nothing any more, however long its functions are still in flight (spec R8).
    (!run.ending && openWaits(run).some(({ wait }) => offered(run, wait) !== undefined));

  const pump = (): Promise<void> => {
    if (!isPumping && !isGone && !isTroubled) pumping = rounds();
    return pumping;
  };

  const rounds = async (): Promise<void> => {
    isPumping = true;
    const release = hold();
    try {
      do await round();
      while (!isGone && isDue());
    } catch (error) {
      if (!isGone) trouble(error); // what a run that was let go meets on its way out is nobody's any more
    } finally {
      isPumping = false;
      if (isGone || run.row.slot === undefined) giveTurn();
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
    platform.patience(backoffMs, () => void recover().catch(trouble));
    backoffMs = Math.min(backoffMs * 2, LIMITS.maxBackoffMs);
  };

  const recover = async () => {
    const found = isGone ? undefined : await host.load(runId);
    const isClaimed = !run.isOwner && found?.row.owner === owner && found.row.fence === run.row.fence + 1;
    if (!found || found.row.endedAt !== undefined || (found.row.fence !== run.row.fence && !isClaimed)) {
      host.changed(runId);
      return leave(lost(runId), 'lost');
    }
    if (isClaimed) run.isInterrupted = false;
    run.isOwner ||= isClaimed;
    isBlind = run.isOwner;
    run.row = found.row;
    run.digest = digestOf(found.journal);
    isTroubled = false;
    run.isStirred = true;
    void pump();
  };

  const giveTurn = () => {
    turn?.();
    turn = undefined;
  };

  const leave = (reason?: unknown, why?: 'no-slot' | 'lost') => {
    if (isGone) return;
    isGone = true;
    pass.drop();
    giveTurn();
    if (reason) runAbort.abort(reason); // not when it has ended by itself, or is only put out of memory
    for (const { end } of run.running.values()) end(reason);
    host.gone(driver, why);
  };

  const isActive = () => run.row.slot !== undefined || isPumping || isTroubled;

  const driver = {
    runId,
    pump,
    leave,
    row: () => run.row,
    nextAt: () => nextAt,
    /** Holds a slot, or is about to. */
    isActive,
    /** When to pump it by the engine's own timer: instants that its row, held by us, does not show as due. */
    timerAt: () => (isActive() || run.row.unsettled ? nextAt : Infinity),
    /** A look found the run due or woken. False: it is no longer ours, and to be taken up anew. */
    wake(row: RunRow, events: readonly EventRow[]): boolean {
      const isBusy = isPumping || isTroubled;
      if (!isBusy && row.fence > run.row.fence) {
        leave(lost(runId));
        return false;
      }
      addOffers(events);
      // The look may have read the row before our last commit: only a row that fits memory is taken over.
      const isSame = row.fence === run.row.fence && row.length === run.row.length;
      if (isSame) run.row = isBusy ? { ...run.row, woken: row.woken } : row;
      run.isStirred ||= !isBusy && !run.replay;
      void pump();
      return true;
    },
    /** Another context has changed the run: whether it is still ours is asked of the store. */
    verify(): void {
      if (run.isOwner && run.running.size) void confirm().catch(host.report);
    },
    /** Lets a run that holds no slot be taken up anew, also by this engine. */
    async retire(): Promise<void> {
      const isHeld = run.isOwner && run.row.unsettled;
      leave();
      if (isHeld) await letGo(clock.now(), []);
    },
    /** Lets the run go without counting as an interruption: for `close` (spec F5). */
    async release(): Promise<void> {
      if (isGone) return;
      leave(new StepfastError('CLOSED', `The engine that drove run ${runId} is closing.`, { runId, job: jobName }));
      await pumping; // the commit under way is part of what is let go
      if (run.isOwner && run.row.slot !== undefined && !isTroubled)
        await letGo(clock.now(), [{ kind: 'released', at: clock.now() }]);
    },
  };
  return driver;
}

const lost = (runId: string) =>
  new StepfastError('LEASE_LOST', `Run ${runId} was ended from outside, or another context drives it now.`, { runId });

/** Run, generation and identity as one text that fits into an HTTP header; injective, as each part is escaped. */
const idempotencyKeyOf = (runId: string, [name, occurrence]: readonly [string, number]): string => {
  const safe = (text: string) => encodeURIComponent(JSON.stringify(text).slice(1, -1));
  return `${safe(runId)}/0/${safe(name)}/${occurrence}`;
};
