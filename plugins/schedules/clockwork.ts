import type { PluginHost } from '../../src/engine/plugin.js';
import type { ScheduleStartOptions } from '../../src/engine/words.js';
import { isStepfastError, StepfastError } from '../../src/errors.js';
import type { Json } from '../../src/values/json.js';
import type { Rule } from './rule.js';
import { dueTick, firstKept, type Kept, keptAfter, nextTick, rewound } from './ticks.js';

/*
 * The schedules of one engine: one timer for the nearest tick, and a look at each wake-up of the page.
 *
 * W1. A run and the record of its tick are one commit, conditional on the record as it was read: two contexts, or a crash
 *     at any point, start it once. The idempotency key of name and tick guards what the record has forgotten.
 * W2. A tick that can not be started here is left in the record: another context, other code or the next tick takes it.
 */

/** A schedule that was declared here. */
export interface Declared {
  readonly name: string;
  readonly rule: Rule;
  readonly job: string;
  /** As it was encoded when the schedule was declared. */
  readonly payload: Json;
  readonly options: ScheduleStartOptions;
}

interface Entry extends Declared {
  /** As last read or written. */
  kept: Kept | undefined;
  /** Nothing is to be done before. */
  lookAt: number;
  /** Of the look that found the clock set back, until what is due by that is started, or left to others. */
  lived: number | undefined;
  /** A tick that could not be started here. */
  refused: number | undefined;
  isStopped: boolean;
}

/** A timer is no longer than this: a clock that was corrected is found out without the store being asked. */
const MAX_TIMER_MS = 86_400_000;
/** After a failure of the store: when to try again at first, and at most. Real time: no clock mends a store. */
const RETRY_MS = 5_000;
const MAX_RETRY_MS = 300_000;
const MAX_LOOKS = 32;
/** So long ago, at most, a clock was set back of which that is heard: a timer of a hidden page looks every other minute. */
const NOTICED_MS = 120_000;

const keyOf = (name: string) => `stepfast:schedule:${name}`;

/** The start itself was refused: trying again before something changes would not help. */
const REFUSALS = /^(INVALID_|NOT_SERIALIZABLE$|VALUE_TOO_LARGE$|UNKNOWN_JOB$)/;

export type Clockwork = ReturnType<typeof createClockwork>;

export function createClockwork(host: PluginHost) {
  const { platform, store, codec } = host;
  const { clock } = platform;
  const entries = new Map<string, Entry>();
  /** Instants of the latest looks, ascending: what was due by them is done. */
  const looks: number[] = [];
  /** How much time may have passed since the clock was set back, if it was. */
  let unseenMs = NOTICED_MS;
  let isOpen = false;
  let isClosed = false;
  let isLooking = false;
  let looksAgain = false;
  let retryMs = RETRY_MS;
  let undoTimer: (() => void) | undefined;
  let undoRetry: (() => void) | undefined;
  let undoWake: (() => void) | undefined;

  /** Notes this look. Up to when all was done by this clock, and whether the clock was set back since the last one. */
  const noteLook = (now: number) => {
    const { length } = looks;
    while (looks.length && looks.at(-1)! > now) looks.pop();
    const lived = looks.at(-1) ?? now - unseenMs;
    unseenMs = NOTICED_MS;
    const wentBack = looks.length < length;
    looks.push(now);
    if (looks.length > MAX_LOOKS) looks.shift();
    return { lived, wentBack };
  };

  /** Something failed that may work again by itself. */
  const retryLater = () => {
    if (undoRetry) return;
    undoRetry = platform.patience(retryMs, () => {
      undoRetry = undefined;
      lookAnew();
    });
    retryMs = Math.min(retryMs * 2, MAX_RETRY_MS);
  };

  const refuse = (entry: Entry, tick: number, error: unknown) => {
    entry.refused = tick;
    if (isStepfastError(error, 'UNKNOWN_JOB')) return; // for a context that has it
    const said = `Schedule "${entry.name}" could not start its run of ${new Date(tick).toISOString()}`;
    const hint = 'Nothing is lost: the next tick, other code or another context makes up for it.';
    host.report(
      isStepfastError(error)
        ? new StepfastError(error.code, `${said}. ${hint}`, { job: entry.job }, { cause: error })
        : error,
    );
    if (!isStepfastError(error) || !REFUSALS.test(error.code)) retryLater();
  };

  /** Starts the run of a tick. False: another context was faster, so look again. */
  const fire = async (entry: Entry, kept: Kept, revision: number, due: { tick: number; missed: number }) => {
    const { name, job, payload, options } = entry;
    const next = keptAfter(kept, due.tick);
    const value = next as unknown as Json;
    try {
      await host.start(job, codec.decode(payload), options, {
        key: `${keyOf(name)}:${due.tick}`,
        schedule: { name, ...due },
        state: [{ kind: 'set', key: keyOf(name), value, ifRevision: revision }],
      });
    } catch (error) {
      if (isStepfastError(error, 'STATE_CHANGED')) return false;
      // The record was lost or set back, and this tick has started a run before, with what was then its payload.
      if (!isStepfastError(error, 'IDEMPOTENCY_CONFLICT')) {
        if (!isClosed) refuse(entry, due.tick, error);
        return true;
      }
    }
    entry.kept = next;
    return true;
  };

  /** Reads what is kept of a schedule, and starts what is due. False: look again. */
  const visit = async (entry: Entry, lived: number): Promise<boolean> => {
    const key = keyOf(entry.name);
    const row = await store.state(key);
    const now = clock.now();
    const found = row?.value as Kept | undefined;
    // A record that is gone was cleared with all the site's data: here it is known, and no tick is left out.
    const known = found ?? entry.kept ?? firstKept(now);
    const kept = found && found.until > now ? rewound(found, now, Math.min(lived, now)) : known;
    const revision = row?.revision ?? 0;
    const due = await dueTick(entry.rule, kept, now);
    if (isClosed || entry.isStopped) return true;
    entry.kept = kept;
    if (due && due.tick !== entry.refused && !(await fire(entry, kept, revision, due))) return false;
    if (!due && kept !== found) {
      const value = kept as unknown as Json;
      const outcome = await host.commit({ state: [{ kind: 'set', key, value, ifRevision: revision }] });
      if (outcome.kind !== 'committed') return false;
    }
    if (entry.refused === undefined) retryMs = RETRY_MS;
    if (entry.refused === undefined || kept === known) entry.lived = undefined;
    entry.lookAt = nextTick(entry.rule, entry.kept, now) ?? Infinity;
    return true;
  };

  const lookOnce = async () => {
    const now = clock.now();
    const { lived, wentBack } = noteLook(now);
    for (const entry of [...entries.values()]) {
      if (entry.lookAt > now && !wentBack) continue;
      entry.lived = Math.min(entry.lived ?? lived, lived);
      try {
        while (!isClosed && !entry.isStopped && !(await visit(entry, entry.lived)));
      } catch (error) {
        if (isClosed) return;
        entry.lookAt = Number.NEGATIVE_INFINITY;
        host.report(error);
        retryLater();
      }
    }
    arm();
  };

  const arm = () => {
    undoTimer?.();
    undoTimer = undefined;
    const now = clock.now();
    let at = Infinity;
    // Also what fell due while the others were looked at. One that failed waits for `retryLater`.
    for (const { lookAt } of entries.values()) if (lookAt > Number.NEGATIVE_INFINITY) at = Math.min(at, lookAt);
    if (isClosed || at === Infinity) return;
    const lastsMs = Math.min(at - now, MAX_TIMER_MS);
    undoTimer = clock.setTimer(now + lastsMs, () => {
      unseenMs = lastsMs; // as long as since the last look
      look();
    });
  };

  /** Calls that come while it looks become one more look. */
  const look = (): void => {
    if (!isOpen || isClosed) return;
    looksAgain = true;
    if (isLooking) return;
    isLooking = true;
    const release = clock.hold?.();
    const loop = async () => {
      while (looksAgain && !isClosed) {
        looksAgain = false;
        await lookOnce();
      }
    };
    void loop().finally(() => {
      isLooking = false;
      release?.();
    });
  };
  /** What could not be started may be by now. */
  const lookAnew = () => {
    for (const entry of entries.values()) {
      if (entry.refused !== undefined) entry.lookAt = Number.NEGATIVE_INFINITY;
      entry.refused = undefined;
    }
    look();
  };

  return {
    has: (name: string) => entries.has(name),
    add(declared: Declared) {
      const lookAt = Number.NEGATIVE_INFINITY;
      const entry: Entry = {
        ...declared,
        kept: undefined,
        lookAt,
        lived: undefined,
        refused: undefined,
        isStopped: false,
      };
      entries.set(entry.name, entry);
      look();
      return {
        next(): Date | undefined {
          const { rule, kept, isStopped } = entry;
          if (isClosed || isStopped || (rule.isAnchored && !kept)) return undefined;
          const at = nextTick(rule, kept ?? { anchor: 0, fired: [] }, clock.now());
          return at === undefined ? undefined : new Date(at);
        },
        stop() {
          if (entry.isStopped) return;
          entry.isStopped = true;
          entries.delete(entry.name);
          if (isOpen && !isLooking) arm();
        },
      };
    },
    open() {
      isOpen = true;
      undoWake = platform.onWake(look);
      look();
    },
    retry: lookAnew,
    isClosed: () => isClosed,
    close() {
      isClosed = true;
      undoTimer?.();
      undoRetry?.();
      undoWake?.();
    },
  };
}
