import type { AnyJob } from '../door/job.js';
import { createLanes } from '../door/queue.js';
import { StepfastError } from '../errors.js';
import { createDriver, type Driver } from '../run/driver.js';
import { createLateness } from '../run/functions.js';
import type { DriverHost } from '../run/host.js';
import type { CommitOutcome } from '../store/batch.js';
import type { RunRow } from '../store/rows.js';
import type { Store } from '../store/store.js';
import { createAlarm } from './alarm.js';
import { stopFamily } from './family.js';
import { createIntake, LIVENESS_MS } from './intake.js';
import { createSweep } from './sweep.js';
import { createTurns } from './turns.js';
import { createUnfit } from './unfit.js';

/*
 * Which runs are driven here, and when to look again. The truth about what is due is always asked of the store (intake.ts);
 * hints and timers only decide when to ask (spec Q4). Nothing polls while idle.
 */

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
  /** Hears of what the store did not do, and throws it on. */
  readonly refused: (error: unknown) => never;
  readonly changed: (runId: string, row?: RunRow) => void;
  readonly report: (error: unknown) => void;
}

export type Scheduler = ReturnType<typeof createScheduler>;

/** Finds due runs, drives them, and sets the one timer. */
export function createScheduler(options: SchedulerOptions) {
  const { platform, store, jobs, report } = options;
  const { clock } = platform;
  const drivers = new Map<string, Driver>();
  /** Those of which a look has to know: the others wait, as their rows say, and may be many. */
  const held = new Set<Driver>();
  const unfit = createUnfit(jobs, clock.now);
  const lanes = createLanes(jobs, clock);
  /** Driven by code that was replaced since: they are let go of as soon as they rest. */
  const replaced = new Set<string>();
  const alarm = createAlarm(clock, () => {
    const now = clock.now();
    for (const driver of held) if (driver.timerAt() <= now) void driver.pump();
    look();
  });
  const turns = createTurns();
  const intake = createIntake({
    ...options,
    ...{ drivers, held, unfit, lanes, alarm },
    create: (...given) => createDriver(host, ...given),
    commit: (change) => host.commit(change),
    rested: () => sweep.poke(),
  });
  const { look, later } = intake;

  /** Its run is to be taken up anew, by the code that is registered now. */
  const retire = (driver: Driver): void =>
    void driver.retire().then(
      look,
      later(() => retire(driver)), // held by us as it is, no look would find it
    );

  const sweep = createSweep({
    ...options,
    isIdle: () => !intake.isLooking() && ![...held].some((driver) => driver.isActive()),
  });

  const freed = () => {
    intake.freed();
    sweep.poke();
  };
  /** What was thought of a queue ends with a slot that was held here, and with nothing else. */
  const gaveBack = (row: RunRow | undefined) => row?.slot !== undefined && lanes.freed(row.slot);
  const stopChildren = (runId: string) => stopFamily(drivers, runId, options.changed);

  const host: DriverHost = {
    ...options,
    late: createLateness(),
    async commit(run, parts) {
      const before = drivers.get(run.runId)?.row();
      const now = clock.now();
      let outcome: CommitOutcome;
      try {
        outcome = await store.commit(Object.assign({ now, run }, parts));
      } catch (error) {
        return options.refused(error);
      }
      if (outcome.kind === 'no-slot') {
        // Known from here on: a slot that becomes free before the run is let go of ends it. Where other contexts hold them,
        // look again when they have committed something, or in a while (hints may be lost).
        const { retryAt = clock.now() + LIVENESS_MS } = outcome;
        lanes.fill(run.state!.slot!, retryAt, outcome.retryAt !== undefined, now);
      }
      if (outcome.kind === 'committed' && run.state && run.state.slot === undefined) gaveBack(before);
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
    limits: lanes.limits,
    works: (driver) => void held.add(driver),
    rests(driver) {
      if (!driver.isHeld()) held.delete(driver);
      alarm.ring(driver.nextAt());
      if (!driver.isActive()) {
        unfit.fits(driver.runId);
        freed();
      }
      intake.shows(driver);
      if (replaced.has(driver.runId) && !driver.isActive()) retire(driver);
    },
    gone(driver, why) {
      drivers.delete(driver.runId);
      held.delete(driver);
      if (why) unfit.forget(driver.runId);
      replaced.delete(driver.runId);
      intake.shows(driver);
      if (why === 'lost') look();
      if (why === 'no-slot') return intake.left(driver.row().queue);
      gaveBack(driver.row());
      freed();
    },
    idle: unfit.idle,
    blocked(row, error, journal) {
      const isNew = unfit.blocked(row, error, journal);
      options.changed(row.runId);
      if (isNew) report(error);
    },
  };

  const stop = () => {
    intake.close();
    alarm.close();
    sweep.close();
  };

  return {
    look,
    /** The registrations have changed: what was unfit may fit now. */
    refit(job: AnyJob, isReplaced: boolean) {
      intake.registered();
      unfit.clear(isReplaced ? undefined : job.name);
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
      intake.registered();
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
