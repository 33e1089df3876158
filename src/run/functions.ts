import { StepfastError } from '../errors.js';
import { LIMITS } from '../limits.js';
import { attemptOf } from '../replay/digest.js';
import type { Ask } from '../replay/replay.js';
import { beginAttempt, type Outcome } from './attempt.js';
import type { DriverHost } from './host.js';
import type { LiveRun } from './live-run.js';
import { isOffline } from './questions.js';
import { shareStep } from './shared-step.js';

/*
 * The functions of one driven run: entered when the driver says so, and known until they have ended.
 *
 * They belong to the driver, not to a pass (spec R6). What one returns after its run was ended from outside is late: it
 * is not recorded any more, but whoever undoes the step in this context is handed it (spec F9).
 */

/** What functions of runs that were ended from outside have returned, or will. */
export type Late = ReadonlyMap<string, Promise<Outcome>>;

const NOTHING: Late = new Map();

/** Keeps what is late until it is asked for; the oldest is forgotten where nobody asks. */
export function createLateness() {
  const kept = new Map<string, Late>();
  return {
    keep(runId: string, late: Late) {
      kept.delete(runId);
      if (late.size) kept.set(runId, late);
      if (kept.size > LIMITS.late) kept.delete(kept.keys().next().value!);
    },
    take(runId: string): Late {
      const late = kept.get(runId) ?? NOTHING;
      kept.delete(runId);
      return late;
    },
    clear: () => kept.clear(),
  };
}

/** So many interruptions in a row, and a run is driven with nothing else of its context in flight (spec F5). */
const SUSPECT = 2;

interface FunctionsOptions {
  readonly host: DriverHost;
  readonly run: LiveRun;
  isGone(): boolean;
  pump(): void;
  /** The network is back, for steps that wait for it. */
  stir(): void;
  /** The fence was found raised. */
  lost(): void;
}

export type Functions = ReturnType<typeof createFunctions>;

export function createFunctions({ host, run, isGone, pump, stir, lost }: FunctionsOptions) {
  const { platform } = host;
  const { clock } = platform;
  const { runId } = run.row;
  /** Held while functions are in flight: a suspect has its context to itself. */
  let turn: (() => void) | undefined;
  /** While a step waits for the network. */
  let undoOnline: (() => void) | undefined;

  const isSuspect = () => run.digest.interruptions + (run.isInterrupted ? 1 : 0) >= SUSPECT;
  const takeTurn = async () => {
    turn ??= await host.enter(isSuspect());
  };
  const hasTurn = () => turn !== undefined;
  const giveTurn = () => {
    turn?.();
    turn = undefined;
  };

  const attempts = { platform, codec: host.codec, state: host.state, run, pump };

  const enter = (ask: Ask) => {
    const { key } = ask;
    const attempt = attemptOf(run.digest, key, ask.released);
    const release = clock.hold?.();
    const confirm = { runId, fence: run.row.fence, append: [] };
    const { end, late } = beginAttempt(attempts, ask, {
      attempt,
      inner: { runId, createdAt: run.row.createdAt, confirm },
      done(outcome, state) {
        run.running.delete(key);
        if (!isGone() && !run.withdrawn.has(key)) run.facts.push({ ask, attempt, at: clock.now(), outcome, state });
        pump();
        release?.();
      },
    });
    const stop = (reason: unknown) => {
      end(reason);
      release?.();
    };
    run.running.set(key, { end: stop, late });
  };

  /** The outcome is committed with the app's rows: here and now, for the next round may not come before it. */
  const share = async (ask: Ask) => {
    const release = clock.hold?.();
    try {
      if (!(await shareStep(host, run, ask, attemptOf(run.digest, ask.key, ask.released)))) lost();
    } finally {
      release?.();
    }
  };

  const watchNetwork = (isOnline: boolean) => {
    if (!isOffline(run, isOnline)) return unwatch();
    const look = () => {
      if (platform.isOnline()) stir();
    };
    undoOnline ??= platform.onWake(look);
    look(); // it may be back since this round began, and nobody listened
  };
  const unwatch = () => {
    undoOnline?.();
    undoOnline = undefined;
  };

  /** Ends all that is in flight, without an outcome; what could be undone may still have one, late. */
  const stop = (reason: unknown): Late => {
    const late = new Map<string, Promise<Outcome>>();
    for (const { ask, outcome } of run.facts) late.set(ask.key, Promise.resolve(outcome));
    for (const [key, running] of run.running) {
      late.set(key, running.late);
      running.end(reason);
    }
    for (const key of late.keys()) if (!run.digest.undos.has(key)) late.delete(key);
    run.running.clear();
    run.facts = [];
    giveTurn();
    unwatch();
    return late;
  };

  return { enter, share, hasTurn, takeTurn, giveTurn, watchNetwork, stop };
}

/** What a function returned late. One that does not end in time is undone without its result. */
export async function lateResult(late: Promise<Outcome> | undefined, host: Pick<DriverHost, 'platform'>) {
  if (!late) return undefined;
  let undoPatience: (() => void) | undefined;
  const patience = new Promise<Outcome>((resolve) => {
    undoPatience = host.platform.patience(LIMITS.lateMs, () => resolve({ error: undefined }));
  });
  const outcome = await Promise.race([late, patience]);
  undoPatience?.();
  return 'value' in outcome ? outcome.value : undefined;
}

export const lostBy = (runId: string): StepfastError =>
  new StepfastError('LEASE_LOST', `Run ${runId} was ended from outside, or another context drives it now.`, { runId });
