import type { Codec } from './codec.js';
import { attemptOf, digestOf, extend } from './digest.js';
import { durationMs } from './duration.js';
import { type ErrorCode, StepfastError } from './errors.js';
import { type AnyJob, validate } from './job.js';
import { isOutcome, type JournalEntry, type OutcomeEntry, type RecordedError } from './journal.js';
import {
  type Draft,
  type Due,
  type Fact,
  isSameState,
  type LiveRun,
  nextDue,
  offered,
  openWaits,
  startable,
  stateOf,
} from './live-run.js';
import type { Platform } from './platform.js';
import { type Ask, createReplay, type Ending } from './replay.js';
import { type RetryOptions, type RetryPolicy, resolveRetry, retryDelayMs } from './retry.js';
import { createStep, mismatch } from './step.js';
import type { CommitOutcome, DueRun, EventRow, RunChange, RunRow, RunState, StoredRun } from './store.js';

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
  /** `hasNoSlot`: its queue is full, though not by runs of this engine. */
  gone(driver: Driver, hasNoSlot: boolean): void;
  /** The run was replayed and there is nothing to do for it here. */
  idle(row: RunRow): void;
  blocked(row: RunRow, error: Error): void;
  report(error: unknown): void;
}

/** Named limits of one run (spec R7, R12). */
export const LIMITS = { outcomes: 10_000, openWaits: 1_000, stallMs: 2_000, backoffMs: 1_000, maxBackoffMs: 30_000 };

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
  };
  const started = stored.journal[0] as Extract<JournalEntry, { kind: 'started' }>;
  const startRetry = started.retry === undefined ? undefined : (codec.decode(started.retry) as RetryOptions);
  const runAbort = platform.newAbort();
  let isOwner = false;
  let isInterrupted = due.interrupted;
  let isGone = false;
  let isPumping = false;
  /** The handler has, or may have, something to say. */
  let isStirred = false;
  /** An outcome is committed before the handler hears of it: what it asked for in reaction was bad. */
  let isCareful = false;
  /** Outcomes that are durable and that the handler has not heard of: told in the next turn. */
  const feeds: (() => void)[] = [];
  let fault: Error | undefined;
  let drift: Extract<JournalEntry, { kind: 'drift' }> | undefined;
  let undoPatience: (() => void) | undefined;
  /** Held while functions are in flight: a suspect (spec F5) has its context to itself. */
  let turn: (() => void) | undefined;
  let confirmedAt = 0;
  let nextAt = Infinity;
  let backoffMs = LIMITS.backoffMs;

  const hold = () => clock.hold?.() ?? (() => undefined);
  const place = { runId, job: jobName };
  const policyOf = (options?: RetryOptions): RetryPolicy =>
    resolveRetry(options, startRetry, job.options.retry, host.retry);
  const addOffers = (events: readonly EventRow[]) => {
    for (const event of events) run.offers.set(event.seq, event);
  };
  addOffers(due.offers);

  // ---- the pass -----------------------------------------------------------------------------------------------------

  const dropPass = () => {
    feeds.length = 0;
    run.replay?.drop();
    undoPatience?.();
    run.replay = run.ending = fault = drift = undefined;
    run.asks.clear();
  };

  const startPass = () => {
    const { digest, row } = run;
    const { createdAt, tags = [] } = row;
    const context = {
      payload: codec.decode(started.payload) as never,
      step: createStep(() => pass, codec, platform.warn),
      run: { id: runId, job: jobName, createdAt, tags },
      signal: runAbort.signal,
    };
    const pass = createReplay({
      ...digest,
      hop: platform.hop,
      invoke: () => job.handler(context),
      check: (ask) => mismatch(ask, digest.shapes.get(ask.key), digest.waits.get(ask.key)),
      onAsk: () => {
        if (run.replay !== pass) return;
        platform.warn(
          `Job "${jobName}" awaits something else between its steps. Put it into a step: what is not recorded runs again at each replay.`,
        );
        stir();
      },
    });
    run.replay = pass;
    isStirred = true;
  };

  const restart = () => {
    dropPass();
    isStirred = true;
  };

  const stir = () => {
    isStirred = true;
    void pump();
  };

  /** Lets the handler react, and records what it asks for. */
  const react = async (draft: Draft) => {
    isStirred = false;
    const pass = run.replay!;
    for (const feed of feeds.splice(0)) feed();
    const turn = await pass.turn();
    const isEnding = turn.ending && !run.ending;
    run.ending ??= turn.ending;
    fault ??= turn.fault;
    if (fault) return;
    for (const ask of turn.opened) {
      run.asks.set(ask.key, ask);
      open(draft, ask);
    }
    if (isEnding) warnUnawaited();
    undoPatience?.();
    undoPatience = undefined;
    if (turn.isStalled)
      undoPatience = platform.patience(LIMITS.stallMs, () => {
        const { ids, slack } = pass.skip();
        drift = { kind: 'drift', at: clock.now(), ids: ids.map(({ key }) => JSON.parse(key)), slack };
        stir();
      });
  };

  const warnUnawaited = () => {
    const names = [...run.asks.values()].flatMap(({ id, command }) => (command.kind === 'run' ? `"${id[0]}"` : []));
    if (names.length)
      platform.warn(`Job "${jobName}" ended without awaiting ${names.join(', ')}: finished first, results unused.`);
  };

  const open = (draft: Draft, { key, id, command }: Ask) => {
    const at = draft.now;
    if (command.kind === 'sleep' && !run.digest.sleeps.has(key))
      record(draft, { kind: 'sleep-set', at, id, dueAt: command.until(at) });
    if (command.kind !== 'wait' || run.digest.waits.has(key)) return;
    const { events, key: correlationKey, onTimeout, timeoutMs, lookbackMs } = command;
    const isRival = ({ set }: { readonly set: { readonly key?: string; readonly events: readonly string[] } }) =>
      set.key === correlationKey && set.events.some((name) => events.includes(name));
    if (openWaits(run).some(isRival))
      platform.warn(`Job "${jobName}" has two open waits on one event and key: they are served in order of asking.`);
    record(draft, {
      kind: 'wait-set',
      at,
      id,
      events,
      key: correlationKey,
      deadline: timeoutMs === undefined ? undefined : at + timeoutMs,
      onTimeout,
      lookbackFrom: lookbackMs === undefined ? undefined : Math.max(0, at - lookbackMs),
    });
  };

  // ---- what is recorded ---------------------------------------------------------------------------------------------

  const record = (draft: Draft, entry: JournalEntry) => {
    claim(draft);
    draft.entries.push(entry);
    extend(run.digest, [entry]);
  };

  /** The first entry of a commit that takes the run over says so. */
  const claim = (draft: Draft) => {
    if (isOwner || draft.entries.length) return;
    const interrupted = isInterrupted || undefined;
    const entry = { kind: 'claimed', at: draft.now, owner, fence: run.row.fence + 1, interrupted } as const;
    draft.entries.push(entry);
    extend(run.digest, [entry]);
  };

  const fail = (draft: Draft, error: unknown) =>
    record(draft, { kind: 'failed', at: draft.now, error: codec.encodeError(error) });

  /** Records an outcome and lets the handler react to it: now, or (spec R11) after the commit. */
  const settle = async (draft: Draft, { key }: Ask, entry: OutcomeEntry, isLater = false) => {
    if (run.digest.outcomes.length >= LIMITS.outcomes)
      return exceed(draft, 'JOURNAL_FULL', `${LIMITS.outcomes} outcomes`);
    record(draft, entry);
    run.asks.delete(key);
    const feed = () => run.replay?.feed(key, entry);
    if (isLater) {
      draft.later.push(() => {
        feeds.push(feed);
        isStirred = true;
      });
      return;
    }
    feed();
    await react(draft);
  };

  /** Functions that ended, in the order in which they did. */
  const takeFacts = async (draft: Draft, isLater: boolean) => {
    for (const fact of run.facts) {
      if (fault || run.digest.end || draft.later.length) return; // later: the handler hears of one at a time (spec R7)
      draft.facts.add(fact);
      const { ask, attempt, at, outcome } = fact;
      const { id, key } = ask;
      const last = run.digest.shapes.get(key);
      const isKnown = last?.kind === 'attempt-failed' && last.at === at && last.attempt === attempt;
      if (isKnown || run.digest.outcomeKeys.has(key)) continue; // committed already: only the response was lost
      const position = { at, id, attempt, ...run.replay!.position() };
      if ('value' in outcome) {
        const value = outcome.value as never;
        await settle(draft, ask, { kind: 'step-completed', ...position, value }, isLater);
        continue;
      }
      const error = codec.encodeError(outcome.error);
      const { retry } = (ask.command as Extract<Ask['command'], { kind: 'run' }>).options;
      const failures = (run.digest.failures.get(key)?.count ?? 0) + 1;
      const delayMs = retryDelay(outcome.error, policyOf(retry), failures);
      if (delayMs === undefined) await settle(draft, ask, { kind: 'step-failed', ...position, error }, isLater);
      else record(draft, { kind: 'attempt-failed', at, id, attempt, error, retryAt: at + delayMs });
    }
  };

  /** The delay before the next attempt; `undefined`: there is none (spec F1, F3). */
  const retryDelay = (error: unknown, policy: RetryPolicy, failures: number): number | undefined => {
    const { code, after } = (error ?? {}) as { readonly [key: string]: unknown };
    if (failures >= policy.maxAttempts || isNamed(error, 'FatalError')) return undefined;
    if (code === 'NOT_SERIALIZABLE' || code === 'VALUE_TOO_LARGE') return undefined;
    if (after !== undefined && isNamed(error, 'RetryableError'))
      try {
        return durationMs(after, 'RetryableError.after');
      } catch (invalid) {
        host.report(invalid); // the step failed, whatever is wrong with its wish: the policy decides
      }
    return retryDelayMs(policy, failures, platform.random());
  };

  const takeDue = async (draft: Draft) => {
    while (!fault && !run.ending && !run.digest.end) {
      const next = nextDue(run, draft);
      if (!next) return;
      await settleDue(draft, next);
    }
  };

  const settleDue = async (draft: Draft, { ask, wait, event }: Due) => {
    const position = { at: draft.now, id: ask.id, ...run.replay!.position() };
    if (!wait) return settle(draft, ask, { kind: 'sleep-ended', ...position });
    if (event) {
      const { seq, id: eventId, name, key, payload, acceptedAt } = event;
      draft.takes.push({ seq, untaken: seq <= wait.after || undefined });
      const taken = { seq, eventId, event: name, key, payload, acceptedAt };
      return settle(draft, ask, { kind: 'event-taken', ...position, ...taken });
    }
    // Up to the last event that was offered, all were looked at: only a later one may overtake the timeout (spec E5).
    const seen = [...run.offers.keys()];
    draft.unless.push({ ...wait, lookbackFrom: undefined, after: Math.max(wait.after, ...seen) });
    const entry = { kind: 'wait-timed-out', ...position, deadline: wait.deadline! } as const;
    if (run.digest.waits.get(ask.key)!.onTimeout !== 'cancel') return settle(draft, ask, entry);
    record(draft, entry);
    record(draft, { kind: 'cancelled', at: draft.now });
  };

  /** The handler has settled and its steps are finished (spec R8). */
  const end = async (draft: Draft, ending: Ending) => {
    const at = draft.now;
    try {
      if (ending.kind === 'threw') throw ending.error;
      const value = await validate(job.options.result, ending.value, `The result of job "${jobName}"`);
      record(draft, { kind: 'completed', at, value: codec.encode(value, `the result of job "${jobName}"`) });
    } catch (thrown) {
      const error = codec.encodeError(thrown);
      const attempt = (run.digest.handlerFailures?.count ?? 0) + 1;
      const isFinal = ending.kind === 'returned' || carriesFailure(error);
      const delayMs = isFinal ? undefined : retryDelay(thrown, policyOf(), attempt);
      if (delayMs === undefined) return fail(draft, thrown);
      record(draft, { kind: 'handler-failed', at, attempt, error, retryAt: at + delayMs });
      dropPass();
    }
  };

  // ---- rounds -------------------------------------------------------------------------------------------------------

  const round = async (): Promise<void> => {
    const now = clock.now();
    const draft: Draft = { now, entries: [], takes: [], unless: [], facts: new Set(), later: [] };
    checkLimits(draft);
    if (!run.digest.end) await advance(draft);
    if (fault) return block(draft);
    const starting = run.digest.end ? [] : startable(run, draft);
    const next = stateOf(run, { now, owner, version: job.options.version ?? 1, starting: starting.length });
    nextAt = next.nextAt;
    // Before the commit that says `running`: a run that only waits behind a suspect must not be blamed for its crashes.
    if (starting.length) turn ??= await host.enter(isSuspect());
    if (isGone) return giveTurn();
    if (needsCommit(draft, next.state)) {
      if (!(await commit(draft, next.state))) return;
    } else if (!isOwner) host.idle(run.row);
    else if (starting.length && clock.now() - confirmedAt >= host.leaseMs && !(await confirm())) return;
    for (const then of draft.later) then();
    for (const ask of starting) enter(ask);
    if (run.digest.end) leave();
    else if (host.alwaysReplays && draft.entries.some(isOutcome)) restart();
  };

  const isSuspect = () => run.digest.interruptions + (isInterrupted ? 1 : 0) >= SUSPECT;

  const needsCommit = (draft: Draft, state: RunState) => {
    if (draft.entries.length) return true;
    if (isOwner) return !isSameState(run.row, state);
    // Not ours yet: claimed when there is something to do. A handler that may still ask for more is only listened to.
    return state.status === 'running' || (!run.row.unsettled && (run.row.dueAt ?? Infinity) <= draft.now);
  };

  const checkLimits = (draft: Draft) => {
    const { digest } = run;
    const limit = job.options.maxInterruptions ?? 10;
    if (!isOwner && isInterrupted && digest.interruptions + 1 >= limit)
      return fail(
        draft,
        new StepfastError(
          'CRASH_LOOP',
          `The run was interrupted ${limit} times in a row without progress. Find what crashes, then call runs.retry.`,
          place,
        ),
      );
    if (openWaits(run).length > LIMITS.openWaits) exceed(draft, 'TOO_MANY_WAITS', `${LIMITS.openWaits} open waits`);
  };

  const exceed = (draft: Draft, code: ErrorCode, what: string) =>
    fail(draft, new StepfastError(code, `The run has more than ${what}. Split the job in two.`, place));

  /** Brings the handler to where the facts are. */
  const advance = async (draft: Draft) => {
    if (!run.replay) {
      if ((run.digest.handlerFailures?.retryAt ?? 0) > draft.now) {
        isStirred = false; // the handler backs off
        return;
      }
      startPass();
    }
    if (drift) record(draft, drift);
    drift = undefined;
    if (isStirred) await react(draft);
    // A run that was interrupted since its last progress does not fold: its handler may be what crashes (spec R11).
    if (run.facts.length && (isCareful || run.digest.interruptions > 0)) {
      const hasFault = fault !== undefined;
      fault = undefined;
      isCareful = false;
      await takeFacts(draft, true);
      if (hasFault) draft.later.splice(0, Infinity, restart); // a new pass finds the fault again
      return;
    }
    if (!fault) await takeFacts(draft, false);
    if (!fault) await takeDue(draft);
    if (fault || run.digest.end || !run.ending || run.running.size || startable(run, draft).length) return;
    await end(draft, run.ending);
  };

  /** One atomic commit of the round. False: it did not happen, and memory was set back to what is durable. */
  const commit = async (draft: Draft, state: RunState): Promise<boolean> => {
    claim(draft);
    const { entries: append, takes, unless } = draft;
    const { row } = run;
    const raise = isOwner ? undefined : true;
    const concurrency = state.slot === undefined ? undefined : host.concurrency(row.queue);
    const change = { runId, fence: row.fence, raise, append, state, takes, unless, concurrency } as const;
    const outcome = await host.commit(change as RunChange);
    if (outcome.kind === 'committed') {
      run.row = rowWith(row, state, { fence: outcome.fence, length: row.length + append.length });
      isOwner = true;
      isInterrupted = false;
      confirmedAt = draft.now;
      backoffMs = LIMITS.backoffMs;
      run.facts = run.facts.filter((fact) => !draft.facts.has(fact));
      addOffers(outcome.offers);
      for (const { seq } of takes) run.offers.delete(seq);
      host.changed(runId, run.row);
      return true;
    }
    if (outcome.kind === 'overtaken') {
      addOffers(outcome.offers);
      rebuild();
      isStirred = true;
    } else leave(lost(runId), outcome.kind === 'no-slot');
    return false;
  };

  const confirm = async () => {
    const outcome = await host.commit({ runId, fence: run.row.fence, append: [] });
    if (outcome.kind !== 'committed') leave(lost(runId));
    confirmedAt = clock.now();
    return !isGone;
  };

  /** Sets memory back to what is durable (D3). */
  const rebuild = () => {
    dropPass();
    nextAt = Infinity;
    run.digest = digestOf(run.digest.entries.slice(0, run.row.length));
  };

  /** The code does not fit the journal: outcomes are kept, the run is let go for a context whose code fits (spec R5). */
  const block = async (draft: Draft) => {
    const error = fault!;
    rebuild();
    if (run.facts.length) {
      // A bad command fails alone: the outcome that led to it is committed first, without it.
      isCareful = isStirred = true;
      return;
    }
    if (run.running.size) return; // their outcomes are recorded as they come
    if (isOwner) await letGo(draft.now, []);
    host.blocked(run.row, error);
    leave(error);
  };

  /** Leaves the run to whoever looks next. */
  const letGo = async (now: number, append: readonly JournalEntry[]) => {
    const { version, waits, startedAt, fence, length } = run.row;
    const state: RunState = { version, waits, startedAt, status: 'queued', dueAt: now };
    const outcome = await host.commit({ runId, fence, append, state });
    if (outcome.kind === 'committed') run.row = rowWith(run.row, state, { fence, length: length + append.length });
  };

  // ---- functions ----------------------------------------------------------------------------------------------------

  const enter = (ask: Ask) => {
    const { key, id } = ask;
    const { fn } = ask.command as Extract<Ask['command'], { kind: 'run' }>;
    const { signal, abort } = platform.newAbort();
    const attempt = attemptOf(run.digest, key, ask.released);
    const release = hold();
    const end = (reason: unknown) => {
      abort(reason);
      release();
    };
    run.running.set(key, { end });
    const call = async (): Promise<Fact['outcome']> => {
      try {
        const value = await fn({ attempt, idempotencyKey: idempotencyKeyOf(runId, id), signal });
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
    isStirred ||
    nextAt <= clock.now() ||
    openWaits(run).some(({ wait }) => offered(run, wait) !== undefined);

  const pump = async (): Promise<void> => {
    if (isPumping || isGone) return;
    isPumping = true;
    const release = hold();
    try {
      do await round();
      while (!isGone && isDue());
    } catch (error) {
      trouble(error);
    } finally {
      isPumping = false;
      if (isGone || run.row.slot === undefined) giveTurn();
      if (!isGone) host.rests(driver);
      release();
    }
  };

  /** The store failed, and whether the commit happened is unknown: look again later, go on from what is durable (D5). */
  const trouble = (error: unknown) => {
    rebuild();
    if ((error as { readonly code?: unknown }).code === 'CLOSED') return leave(error);
    host.report(error);
    platform.patience(backoffMs, () => void recover().catch(trouble));
    backoffMs = Math.min(backoffMs * 2, LIMITS.maxBackoffMs);
  };

  const recover = async () => {
    const found = isGone ? undefined : await host.load(runId);
    const isClaimed = !isOwner && found?.row.owner === owner && found.row.fence === run.row.fence + 1;
    if (!found || found.row.endedAt !== undefined || (found.row.fence !== run.row.fence && !isClaimed)) {
      host.changed(runId);
      return leave(lost(runId));
    }
    isOwner ||= isClaimed;
    run.row = found.row;
    run.digest = digestOf(found.journal);
    stir();
  };

  const giveTurn = () => {
    turn?.();
    turn = undefined;
  };

  const leave = (reason?: unknown, hasNoSlot = false) => {
    if (isGone) return;
    isGone = true;
    dropPass();
    giveTurn();
    runAbort.abort(reason);
    for (const { end } of run.running.values()) end(reason);
    host.gone(driver, hasNoSlot);
  };

  const isActive = () => run.row.slot !== undefined || isPumping;

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
    /** A look found the run due or woken. */
    wake(row: RunRow, events: readonly EventRow[]) {
      if (isPumping) {
        addOffers(events);
        return;
      }
      if (row.fence !== run.row.fence) return leave(lost(runId));
      run.row = row;
      addOffers(events);
      isStirred ||= !run.replay;
      void pump();
    },
    /** Another context has changed the run: whether it is still ours is asked of the store. */
    verify(): void {
      if (isOwner && run.running.size) void confirm().catch(host.report);
    },
    /** Lets the run go without counting as an interruption: for `close` (spec F5). */
    async release(): Promise<void> {
      const isHeld = !isGone && isOwner && run.row.slot !== undefined;
      leave(new StepfastError('CLOSED', `The engine that drove run ${runId} is closing.`, place));
      if (isHeld) await letGo(clock.now(), [{ kind: 'released', at: clock.now() }]);
    },
  };
  return driver;
}

/** Whether an error is of this class or a subclass, of this or another copy of the library. */
const isNamed = (error: unknown, name: string): boolean => {
  for (let proto = error; proto instanceof Object; proto = Object.getPrototypeOf(proto))
    if (Object.hasOwn(proto, 'name') && (proto as { readonly name?: unknown }).name === name) return true;
  return false;
};

const lost = (runId: string) =>
  new StepfastError('LEASE_LOST', `Run ${runId} was ended from outside, or another context drives it now.`, { runId });

/** A row after a commit: everything that the state does not name is gone. */
const rowWith = (row: RunRow, state: RunState, counts: Pick<RunRow, 'fence' | 'length'>): RunRow => {
  const { runId, job, queue, idempotencyKey, parentId, tags, createdAt, seq } = row;
  return { runId, job, queue, idempotencyKey, parentId, tags, createdAt, seq, ...state, ...counts };
};

/** Whether an error is, or carries, a failure that is recorded: trying the handler again would repeat it (spec F2). */
const carriesFailure = ({ code, cause, errors = [] }: RecordedError): boolean =>
  code === 'STEP_FAILED' || code === 'EVENT_TIMEOUT' || [...errors, ...(cause ? [cause] : [])].some(carriesFailure);

/** Run, generation and identity as one text that fits into an HTTP header; injective, as each part is escaped. */
const idempotencyKeyOf = (runId: string, [name, occurrence]: readonly [string, number]): string => {
  const safe = (text: string) => encodeURIComponent(JSON.stringify(text).slice(1, -1));
  return `${safe(runId)}/0/${safe(name)}/${occurrence}`;
};
