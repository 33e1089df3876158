import { isStepfastError, StepfastError } from '../errors.js';
import { LIMITS } from '../limits.js';
import { attemptOf } from '../replay/keys.js';
import type { Ask } from '../replay/replay.js';
import { beginAttempt, type Outcome } from './attempt.js';
import type { DriverHost } from './host.js';
import { refuseIncrements } from './increments.js';
import type { Fact, LiveRun, Running } from './live-run.js';
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

const isTimeout = (outcome: Outcome) => 'error' in outcome && isStepfastError(outcome.error, 'STEP_TIMEOUT');

interface FunctionsOptions {
  readonly host: DriverHost;
  readonly run: LiveRun;
  isGone(): boolean;
  pump(): void;
  /** The network is back, for steps, or an undo, that wait for it. */
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
  /** While a step, or an undo, waits for the network: listens for it no more. */
  let ignoreNetwork: (() => void) | undefined;

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
    const attempted = beginAttempt(attempts, ask, {
      attempt,
      inner: { runId, createdAt: run.row.createdAt, confirm },
      done(outcome, state) {
        run.running.delete(key);
        if (run.losers.has(key)) run.losers.set(key, undefined);
        if (!isGone()) run.facts.push({ ask, attempt, at: clock.now(), outcome, state });
        if (isTimeout(outcome)) keepLate(key, running);
        pump();
        release?.();
      },
    });
    const running: Running = {
      late: attempted.late,
      hangs: release?.hangs,
      end(reason) {
        attempted.end(reason);
        release?.();
      },
    };
    run.running.set(key, running);
  };

  /** Its attempt counts no more, but may still do what it was to do: who undoes the step waits for it (spec F7). */
  const keepLate = (key: string, { late, hangs }: Pick<Running, 'late' | 'hangs'>) => {
    if (run.digest.undos.has(key) && !hangs?.()) run.late.set(key, late);
  };
  const keepFact = ({ ask, outcome }: Fact) => {
    if (!isTimeout(outcome)) keepLate(ask.key, { late: Promise.resolve(outcome), hangs: undefined });
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

  const watchNetwork = (isNeeded: boolean) => {
    if (!isNeeded) return unwatch();
    const look = () => {
      if (platform.isOnline()) stir();
    };
    ignoreNetwork ??= platform.onWake(look);
    look(); // it may be back since this round began, and nobody listened
  };
  const unwatch = () => {
    ignoreNetwork?.();
    ignoreNetwork = undefined;
  };

  /** Their race is decided for good: they are told, and what they have come to meanwhile is nobody's. */
  const endLosers = () => {
    const { losers } = run;
    if (!losers.size) return;
    const lost = lostRace();
    const isLost = ({ ask }: Fact) => losers.has(ask.key);
    const over = run.facts.filter(isLost);
    over.forEach(keepFact);
    if (over.length) run.isStirred = true; // this round may have left the end of the run to the one that takes them
    run.facts = run.facts.filter((fact) => !isLost(fact));
    for (const [key, running] of losers) {
      if (running) keepLate(key, running);
      running?.end(lost);
      refuseIncrements(run, () => lost, key);
    }
    losers.clear();
  };

  /** Ends all that is in flight, without an outcome; what could be undone may still have one, late. */
  const stop = (reason: unknown): Late => {
    run.facts.forEach(keepFact);
    for (const inFlight of [run.running, run.losers]) {
      for (const [key, running] of inFlight) {
        if (running) keepLate(key, running);
        running?.end(reason);
      }
      inFlight.clear();
    }
    run.facts = [];
    giveTurn();
    unwatch();
    return run.late;
  };

  return { enter, share, endLosers, hasTurn, takeTurn, giveTurn, watchNetwork, stop };
}

/** The run begins anew: what is known of the generation before means nothing any more. */
export function forgetGeneration(run: LiveRun): void {
  // Nothing but losers of races is in flight then (spec R8), and they are told already: unless the answer was lost.
  const lost = lostRace();
  for (const { end } of run.running.values()) end(lost);
  refuseIncrements(run, () => lost);
  for (const known of [run.running, run.begun, run.late]) known.clear();
  run.facts = [];
  run.progress = undefined;
  // Its waits have the names of those before, and not their questions; what is there, the store offers again.
  run.verdicts.clear();
  run.offers.clear();
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

const lostRace = () => new Error('The step has lost a race.');
