import type { AnyJob } from '../door/job.js';
import type { Lanes } from '../door/queue.js';
import { isReadable } from '../door/readable.js';
import { isStepfastError } from '../errors.js';
import { LIMITS } from '../limits.js';
import type { Platform } from '../platform.js';
import type { Driver } from '../run/driver.js';
import type { DriverHost } from '../run/host.js';
import { givenBack } from '../run/leave.js';
import type { StateChange } from '../store/batch.js';
import { isHeldBy, isKnown, stampOf } from '../store/due.js';
import type { StoredRun } from '../store/rows.js';
import type { DueRun, Store } from '../store/store.js';
import { LANES, type LaneRow } from '../store/transition/state.js';
import type { Alarm } from './alarm.js';
import { createLook } from './look.js';
import { slotsOf } from './slots.js';
import type { Unfit } from './unfit.js';

/*
 * What is due is found in the store, and taken up here, as much as there are slots for. Drivers go on while the store is
 * asked: most of what is kept here is what its answer can not know.
 */

/** While another context owns due work: how often to see whether it still lives. */
export const LIVENESS_MS = 3_000;
/** How long a living owner may leave a due run alone before others may take it. */
const GRACE_MS = 5_000;
const PAGE = 32;

interface IntakeOptions {
  readonly platform: Platform;
  readonly store: Store;
  readonly jobs: ReadonlyMap<string, AnyJob>;
  readonly owner: string;
  /** What is taken up is put here. */
  readonly drivers: Map<string, Driver>;
  /** Those that no look would find, as their rows stand in the store, or that are at work. */
  readonly held: ReadonlySet<Driver>;
  readonly unfit: Unfit;
  readonly lanes: Lanes;
  readonly alarm: Alarm;
  /** Opens the store for driving if it can. False: another process has it. */
  readonly drives: () => Promise<boolean>;
  readonly create: (job: AnyJob, stored: StoredRun, due: Omit<DueRun, 'row'>) => Driver;
  readonly commit: DriverHost['commit'];
  /** Hears of what the store did not do, and throws it on. */
  readonly refused: (error: unknown) => never;
  /** After a look that is not followed by another one. */
  readonly rested: () => void;
  readonly report: (error: unknown) => void;
}

export function createIntake(options: IntakeOptions) {
  const { platform, store, jobs, owner, drivers, held, unfit, lanes, alarm, report } = options;
  const { clock } = platform;
  let isClosed = false;
  /** The store has been opened for driving. */
  let isDriving = false;
  /** Due work was left in the store for want of a slot or of room on the page. */
  let hasMore = false;
  /** A slot has become free since the last look began: what that look was told of as full may not be. */
  let isFreed = false;
  /** How often jobs were registered, and of how many of these times the store knows what they say of their queues. */
  let registrations = 1;
  let told = 0;
  /** Runs that a look has left out as woken already: a second wake-up, behind the commit under way, looks like the first. */
  const leftOut = new Set<string>();
  /** Runs whose slots are being given back. */
  const returning = new Map<string, string>();

  /** The store has failed: it is told, and `again` is called after a while, for nothing else would bring it up. */
  const later =
    (again: () => void) =>
    (error: unknown): undefined => {
      if (isClosed) return;
      report(error);
      platform.patience(LIVENESS_MS, again);
    };

  /** The journal of a run that is to be taken up here. */
  const read = async ({ row, offers, journal }: DueRun): Promise<StoredRun | undefined> => {
    if (drivers.get(row.runId)?.wake(row, offers) || !jobs.has(row.job)) return undefined;
    return journal ? { row, journal } : store.load(row.runId);
  };

  const oldestAtRest = (): Driver | undefined => {
    for (const driver of drivers.values()) if (!held.has(driver)) return driver;
    return undefined;
  };
  const takeUp = ({ row, offers, interrupted }: DueRun, stored: StoredRun | undefined) => {
    const job = jobs.get(row.job);
    if (!job || !stored || stored.row.fence !== row.fence || isClosed || drivers.has(row.runId)) return;
    if (unfit.isStill(stored)) return;
    // Gone on with meanwhile: the events that came with it are those for the waits that it had.
    if (stored.row.length !== row.length) return look();
    if (drivers.size >= LIMITS.resident) oldestAtRest()?.leave();
    const driver = options.create(job, stored, { offers, interrupted });
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
    options.commit(givenBack(row, owner, clock.now(), interrupted)).then(over, later(over));
  };

  /** What the store would find, and a look is not to: what is being taken up here has not been claimed yet. */
  const leaveOut = (): ReadonlyMap<string, string> => {
    const skip = new Map([...unfit.skip, ...returning]);
    for (const driver of held) {
      const row = driver.row();
      // The store leaves what it sees held by us, unless somebody has woken it.
      if (!row.woken && isHeldBy(row, owner)) continue;
      skip.set(driver.runId, stampOf(row));
      if (row.woken) leftOut.add(driver.runId);
    }
    return skip;
  };

  /** What is said of queues is written over where it is damaged. */
  const ifDamaged = (error: unknown): { value?: undefined; revision?: undefined } => {
    if (isStepfastError(error, 'STORE_CORRUPT')) return {};
    throw error;
  };
  /**
   * Other contexts may drive runs of our queues without the code that says what these are (spec Q2): it is kept for them,
   * before anything is driven by it.
   */
  const tell = async () => {
    const news = registrations; // a job that is registered meanwhile is told of by the next look
    if (told === news) return;
    const known = (await store.state(LANES).catch(ifDamaged)) ?? { value: [], revision: 0 };
    const value = lanes.told(known.value as unknown as readonly LaneRow[] | undefined);
    if (isClosed) return;
    if (value) {
      const change = { kind: 'set', key: LANES, value, ifRevision: known.revision } as unknown as StateChange;
      const outcome = await store.commit({ now: clock.now(), state: [change] }).catch(options.refused);
      if (outcome.kind !== 'committed') return looks.again(); // another context was faster
    }
    told = news;
  };

  const lookOnce = async () => {
    const failed = later(look);
    if (jobs.size === 0) return;
    alarm.lookBegins();
    isFreed = false;
    isDriving = await options.drives();
    if (!isDriving) return alarm.ring(clock.now() + LIVENESS_MS);
    await tell();
    const versions = Object.fromEntries([...jobs].map(([name, job]) => [name, job.options.version ?? 1]));
    const filled = lanes.full();
    const slots = slotsOf(lanes, held);
    const query = { now: clock.now(), owner, jobs: versions, limit: PAGE, graceMs: GRACE_MS };
    const page = await store.due({ ...query, skip: leaveOut(), full: slots.full }).catch(options.refused);
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
    for (const driver of held) next = Math.min(next, driver.timerAt());
    // An earlier timer has replaced that one. Also of a queue that is no longer full: it was when the store was asked.
    for (const until of [...filled.values(), ...lanes.full().values()]) next = Math.min(next, until);
    alarm.lookEnds(page.foreign ? Math.min(next, clock.now() + LIVENESS_MS) : next);
  };

  const looks = createLook({
    platform,
    once: lookOnce,
    failed: (error) => isStepfastError(error, 'CLOSED') || later(look)(error),
    rested() {
      if (isDriving) options.rested();
    },
  });
  const { look } = looks;

  return {
    /** Asks the store for due work. */
    look,
    isLooking: looks.isLooking,
    /** The registrations have changed: what they say of their queues may be new to the store. */
    registered: () => void registrations++,
    later,
    /** There is room here for another run: due work that was left for want of it is looked for. */
    freed(): void {
      isFreed = true;
      if (hasMore) look();
    },
    /** A run could not be taken up, for its queue is full. */
    left(queue: string): void {
      hasMore = true;
      const until = lanes.full().get(queue);
      if (until === undefined) look();
      else alarm.ring(until);
    },
    /** The row of a driver, as memory has it, no longer hides a wake-up. */
    shows({ runId, row }: Driver): void {
      const { waits, awaits } = row();
      if (leftOut.delete(runId) && (waits.length || awaits)) look();
    },
    close(): void {
      isClosed = true;
      looks.close();
    },
  };
}
