import type { AnyJob } from '../door/job.js';
import { createLanes } from '../door/queue.js';
import { isReadable } from '../door/readable.js';
import { isStepfastError, StepfastError } from '../errors.js';
import { LIMITS } from '../limits.js';
import { createDriver, type Driver } from '../run/driver.js';
import { createLateness } from '../run/functions.js';
import type { DriverHost } from '../run/host.js';
import { givenBack } from '../run/leave.js';
import type { CommitOutcome } from '../store/batch.js';
import { isHeldBy, isKnown, stampOf } from '../store/due.js';
import type { RunRow, StoredRun } from '../store/rows.js';
import type { DueRun, Store } from '../store/store.js';
import { createAlarm } from './alarm.js';
import { stopFamily } from './family.js';
import { createLook } from './look.js';
import { slotsOf } from './slots.js';
import { createSweep } from './sweep.js';
import { createTurns } from './turns.js';
import { createUnfit } from './unfit.js';

/*
 * Which run goes next, and when to look again. The truth about what is due is always asked of the store; hints and
 * timers only decide when to ask (spec Q4). Nothing polls while idle.
 */

/** While another context owns due work: how often to see whether it still lives. */
const LIVENESS_MS = 3_000;
/** How long a living owner may leave a due run alone before others may take it. */
const GRACE_MS = 5_000;
const PAGE = 32;

interface SchedulerOptions
  extends Pick<
    DriverHost,
    | 'platform'
    | 'codec'
    | 'owner'
    | 'leaseMs'
    | 'alwaysReplays'
    | 'retry'
    | 'maxOutcomes'
    | 'maxRunBytes'
    | 'start'
    | 'dispatch'
    | 'state'
    | 'committed'
  > {
  readonly store: Store;
  readonly jobs: ReadonlyMap<string, AnyJob>;
  /** Opens the store for driving if it can. False: another process has it. */
  readonly drives: () => Promise<boolean>;
  /** Hears of each commit that the store did not take, and throws it on. */
  readonly refused: (error: unknown) => never;
  readonly changed: (runId: string, row?: RunRow) => void;
  readonly report: (error: unknown) => void;
}

export type Scheduler = ReturnType<typeof createScheduler>;

/** Finds due runs, drives them, and sets the one timer. */
export function createScheduler(options: SchedulerOptions) {
  const { platform, store, jobs, owner, report } = options;
  const { clock } = platform;
  const drivers = new Map<string, Driver>();
  const unfit = createUnfit(jobs, clock.now);
  const lanes = createLanes(jobs, clock);
  let isClosed = false;
  /** The store has been opened for driving. */
  let isDriving = false;
  /** Due work was left in the store for want of a slot or of room on the page. */
  let hasMore = false;
  /** A slot has become free since the last look began: what that look was told of as full may not be. */
  let isFreed = false;
  /** Runs that a look has left out as woken already: a second wake-up, behind the commit under way, looks like the first. */
  const leftOut = new Set<string>();
  /** Runs whose slots are being given back. */
  const returning = new Map<string, string>();
  /** Driven by code that was replaced since: they are let go of as soon as they rest. */
  const replaced = new Set<string>();
  const alarm = createAlarm(clock, () => {
    const now = clock.now();
    for (const driver of drivers.values()) if (driver.timerAt() <= now) void driver.pump();
    look();
  });
  const turns = createTurns();

  /** The store has failed: it is told, and `again` is called after a while, for nothing else would bring it up. */
  const later =
    (again: () => void) =>
    (error: unknown): undefined => {
      if (isClosed) return;
      report(error);
      platform.patience(LIVENESS_MS, again);
    };

  /** A slot of ours is free: due work that was left for want of one is looked for. */
  const freed = (driver: Driver) => {
    lanes.freed(driver.row().queue);
    isFreed = true;
    if (hasMore) look();
    sweep.poke();
  };

  /** Its row, as memory has it, no longer hides a wake-up. */
  const shows = ({ runId, row }: Driver) => {
    const { waits, awaits } = row();
    if (leftOut.delete(runId) && (waits.length || awaits)) look();
  };

  /** Its run is to be taken up anew, by the code that is registered now. */
  const retire = (driver: Driver): void =>
    void driver.retire().then(
      look,
      later(() => retire(driver)), // held by us as it is, no look would find it
    );

  const sweep = createSweep({
    ...options,
    isIdle: () => !looks.isLooking() && ![...drivers.values()].some((driver) => driver.isActive()),
  });

  const stopChildren = (runId: string) => stopFamily(drivers, runId, options.changed);

  const host: DriverHost = {
    ...options,
    late: createLateness(),
    async commit(run, parts) {
      let outcome: CommitOutcome;
      try {
        outcome = await store.commit(Object.assign({ now: clock.now(), run }, parts));
      } catch (error) {
        return options.refused(error);
      }
      if (outcome.kind === 'no-slot') {
        // Known from here on: a slot that becomes free before the run is let go of ends it. Where other contexts hold them,
        // look again when they have committed something, or in a while (hints may be lost).
        const { retryAt = clock.now() + LIVENESS_MS } = outcome;
        lanes.fill(run.state!.slot!, retryAt, outcome.retryAt !== undefined);
      }
      if (outcome.kind === 'committed' && run.raise && run.state?.slot !== undefined && lanes.freed(run.state.slot))
        look();
      const end =
        outcome.kind === 'committed' && run.append.find(({ kind }) => /^(completed|failed|cancelled)$/.test(kind));
      if (end && end.kind === 'cancelled') stopChildren(run.runId);
      if (end) look(); // whoever awaits it is due now
      return outcome;
    },
    load: (runId) => store.load(runId),
    /** Asked each time: a store may turn out to be another one when it is opened. */
    get transact(): DriverHost['transact'] {
      return store.transact && ((work) => store.transact!(work).catch(options.refused));
    },
    enter: turns.take,
    concurrency: lanes.concurrency,
    rate: lanes.rate,
    rests(driver) {
      alarm.ring(driver.nextAt());
      if (!driver.isActive()) freed(driver);
      shows(driver);
      if (replaced.has(driver.runId) && !driver.isActive()) retire(driver);
    },
    gone(driver, why) {
      drivers.delete(driver.runId);
      if (why) unfit.forget(driver.runId);
      replaced.delete(driver.runId);
      shows(driver);
      if (why === 'lost') look();
      if (why !== 'no-slot') return freed(driver);
      hasMore = true;
      const until = lanes.full().get(driver.row().queue);
      if (until === undefined) look();
      else alarm.ring(until);
    },
    idle: unfit.idle,
    blocked(row, error, journal) {
      unfit.blocked(row, error, journal);
      options.changed(row.runId);
      report(error);
    },
  };

  /** The journal of a run that is to be taken up here. */
  const read = async ({ row, offers, journal }: DueRun): Promise<StoredRun | undefined> => {
    if (drivers.get(row.runId)?.wake(row, offers) || !jobs.has(row.job)) return undefined;
    return journal ? { row, journal } : store.load(row.runId);
  };

  const takeUp = ({ row, offers, interrupted }: DueRun, stored: StoredRun | undefined) => {
    const job = jobs.get(row.job);
    if (!job || !stored || stored.row.fence !== row.fence || isClosed || drivers.has(row.runId)) return;
    if (unfit.isStill(stored)) return;
    // Gone on with meanwhile: the events that came with it are those for the waits that it had.
    if (stored.row.length !== row.length) return look();
    if (drivers.size >= LIMITS.resident) [...drivers.values()].find((driver) => !driver.isHeld())?.leave();
    const driver = createDriver(host, job, stored, { offers, interrupted });
    drivers.set(row.runId, driver);
    void driver.pump();
  };

  /** Code of its job, or of its version, is not here. One that is sealed can not be written by an engine without the plug-in. */
  const giveBack = ({ row, interrupted }: DueRun) => {
    looks.again(); // it may have kept others from the page
    if (!isReadable(row)) return unfit.idle(row);
    returning.set(row.runId, stampOf(row));
    const over = () => {
      returning.delete(row.runId);
      lanes.freed(row.slot!);
      look();
    };
    host.commit(givenBack(row, owner, clock.now(), interrupted)).then(over, later(over));
  };

  const lookOnce = async () => {
    const failed = later(look);
    if (jobs.size === 0) return;
    alarm.lookBegins();
    isFreed = false;
    isDriving = await options.drives();
    if (!isDriving) return alarm.ring(clock.now() + LIVENESS_MS);
    const versions = Object.fromEntries([...jobs].map(([name, job]) => [name, job.options.version ?? 1]));
    const filled = lanes.full();
    const slots = slotsOf(lanes, drivers.values());
    // What is being taken up has not been claimed yet: the store would return it again.
    const left = new Map([...unfit.skip, ...returning]);
    for (const driver of drivers.values()) {
      const row = driver.row();
      // The store leaves what it sees held by us, unless somebody has woken it.
      if (!driver.isHeld() || !(row.woken || !isHeldBy(row, owner))) continue;
      left.set(driver.runId, stampOf(row));
      if (row.woken) leftOut.add(driver.runId);
    }
    const query = {
      now: clock.now(),
      owner,
      jobs: versions,
      limit: PAGE,
      graceMs: GRACE_MS,
      skip: left,
      full: slots.full,
    };
    const page = await store.due(query);
    if (isClosed) return;
    const taken: DueRun[] = [];
    for (const run of page.runs)
      if (!isKnown(run.row, versions)) giveBack(run);
      else if (slots.take(run.row)) taken.push(run);
    // Read together, for a store may make every read wait for a write; taken up in their order (spec Q2).
    const found = await Promise.all(taken.map((run) => read(run).catch(failed)));
    for (const [index, run] of taken.entries())
      try {
        takeUp(run, found[index]);
      } catch (error) {
        failed(error);
      }
    const isPage = page.runs.length === PAGE;
    hasMore = isPage || slots.isAnyFull();
    if ((isPage && slots.mayHaveRoom()) || (isFreed && hasMore)) looks.again();
    let next = page.nextDueAt ?? Infinity;
    for (const driver of drivers.values()) next = Math.min(next, driver.timerAt());
    // An earlier timer has replaced that one. Also of a queue that is no longer full: it was when the store was asked.
    for (const until of [...filled.values(), ...lanes.full().values()]) next = Math.min(next, until);
    alarm.lookEnds(page.foreign ? Math.min(next, clock.now() + LIVENESS_MS) : next);
  };

  const looks = createLook({
    platform,
    once: lookOnce,
    failed: (error) => isStepfastError(error, 'CLOSED') || later(look)(error),
    rested() {
      if (isDriving) sweep.poke();
    },
  });
  /** Asks the store for due work. */
  const { look } = looks;

  const stop = () => {
    isClosed = true;
    looks.close();
    alarm.close();
    sweep.close();
  };

  return {
    look,
    /** The registrations have changed: what was unfit may fit now. */
    refit(job: AnyJob) {
      unfit.clear();
      for (const driver of drivers.values()) {
        if (driver.row().job !== job.name) continue;
        if (driver.isActive()) replaced.add(driver.runId);
        else retire(driver);
      }
    },
    blockedBy: unfit.blockedBy,
    drivesRun: (runId: string) => drivers.has(runId),
    blockedRuns: unfit.runs,
    /** Another context has changed this run, or (`undefined`) any. */
    hint(runId: string | undefined) {
      for (const driver of runId === undefined ? drivers.values() : [drivers.get(runId)]) driver?.verify();
      lanes.stir();
      look();
    },
    /**
     * Ends what this engine does for a run that a command has raised to this fence, and for its children if it was
     * cancelled. Found due, the run may be driven anew by the time the command hears that it was done: that goes on.
     */
    stop(runId: string, fence: number, isCancelled: boolean) {
      const driver = drivers.get(runId);
      if (driver && driver.row().fence < fence)
        driver.leave(new StepfastError('LEASE_LOST', `Run ${runId} was ended or taken up again from outside.`));
      if (isCancelled) stopChildren(runId);
    },
    /** The store has lost its runs: what is known of them could pass for a later one of the same id. */
    lost() {
      const reason = (runId: string) => new StepfastError('LEASE_LOST', `The store has lost run ${runId}.`, { runId });
      for (const driver of [...drivers.values()]) driver.leave(reason(driver.runId));
      host.late.clear();
      unfit.clear();
      look();
    },
    /** Drives no more, and lets go of everything without a word to the store. */
    halt(reason: unknown) {
      stop();
      for (const driver of [...drivers.values()]) driver.leave(reason);
    },
    async close() {
      stop();
      await Promise.all([...drivers.values()].map((driver) => driver.release().catch(report)));
    },
  };
}
