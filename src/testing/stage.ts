import { memoryMedium, memoryStore } from '../../adapters/memory/index.js';
import type { AnyJob } from '../door/job.js';
import { createEngine, type Stepfast } from '../engine/engine.js';
import { StepfastError } from '../errors.js';
import { LIMITS } from '../limits.js';
import type { RunSnapshot, TimelineEntry } from '../run/inspect.js';
import type { Store } from '../store/store.js';
import { systemPlatform } from '../system.js';
import { check } from '../values/check.js';
import { durationMs } from '../values/duration.js';
import { durationText, PATIENCE, type StageClock, stageClock } from './clock.js';
import type { Medium } from './conformance.js';
import { type Entering, type Watch, withFakes, wordsFor } from './fakes.js';
import { engineOf, type Feed, feedsOf, type PlayOptions, RUN_ID, type Scenario } from './scenario.js';

/*
 * One play of a scenario: a medium and a clock, on which contexts come, die and come again. Ids are counted and chance is
 * always the same, so that two plays differ by nothing but what happens in them.
 */

/** What every context of a play shares, and a crash leaves alone. */
export interface Stage {
  readonly job: AnyJob;
  readonly scenario: Scenario<unknown>;
  readonly options: PlayOptions;
  readonly clock: StageClock;
  readonly medium: Medium;
  readonly fed: Map<string, { readonly payload: unknown; isAccepted: boolean }>;
  /** Functions of the present life that were entered and have not settled. */
  readonly inFlight: Set<Entering>;
  readonly patience: Patience;
  newId(): number;
}

/** How real time is given where nothing is due on the clock. */
interface Patience {
  /** With runs that are at work, as far as anybody knows. */
  readonly ms: number;
  /** With runs that wait: their handlers may await something else beside. */
  readonly lingerMs: number;
  /** It was worth while to linger. */
  isNeeded: boolean;
}

/** One life of the app on the stage. */
export interface App {
  readonly stepfast: Stepfast;
  /** Starts the run, does what the scenario does besides, and lets time pass until nothing happens any more. */
  play(): Promise<void>;
  view(): Promise<Played>;
}

/** What a play came to. */
export interface Played {
  readonly snapshot: RunSnapshot;
  readonly timeline: readonly TimelineEntry[];
  /** Every other run there is. */
  readonly others: readonly RunSnapshot[];
}

/** So many due instants, and a flow is taken for one without end. */
const MAX_SKIPS = 500;

/** Long beside a request in a test, short beside a test. */
const LINGER_MS = 250;

/** An engine itself is patient with steps that hang, and that it is to undo: in real time, and a little is left for the rest. */
const LATE_MS = LIMITS.lateMs + 1_000;

const freshMemory = () => {
  const medium = memoryMedium();
  return () => memoryStore({ medium });
};

/** @param lingers Whether runs that wait are given real time, at the end of the play. */
export async function createStage(
  job: AnyJob,
  scenario: Scenario<unknown>,
  options: PlayOptions,
  lingers = true,
): Promise<Stage> {
  const { now, store = freshMemory, patience = PATIENCE } = options;
  const inFlight = new Set<Entering>();
  const passes = () => {
    const names = [...new Set([...inFlight].map(wordsFor))].join(', ');
    console.warn(
      `stepfast: Nothing was heard of ${names || 'a run'} for ${durationText(patience)} of real time, and the clock moves on, as if it hung. If it is only slow, give the play more \`patience\`, or a fake.`,
    );
  };
  const clock = stageClock({ patience, ...(now !== undefined && { now }) }, passes);
  const ms = durationMs(patience, 'patience');
  let ids = 0;
  const medium = await store();
  check(typeof medium === 'function', 'What store gave', medium, 'a function that opens the store');
  return {
    job,
    scenario,
    options,
    clock,
    medium,
    fed: new Map(),
    inFlight,
    patience: { ms, lingerMs: lingers ? LINGER_MS : 0, isNeeded: false },
    newId: () => ++ids,
  };
}

/** Whether a run that has not ended waits for something from outside, and for nothing else as far as anybody knows. */
const isAtRest = ({ status }: RunSnapshot): boolean => status === 'waiting' || status === 'blocked';

/** A run that is at work, and comes to nothing. */
function stuckIn(active: readonly RunSnapshot[], { inFlight, options }: Stage): StepfastError {
  const { id, job, status, undoing } = active.find((run) => !isAtRest(run)) ?? active[0]!;
  const { patience = PATIENCE } = options;
  const names = [...inFlight].filter(({ runId }) => runId === id).map(wordsFor);
  const why = names.length
    ? `${names.join(', ')} is in flight, and has no timeout that would end it`
    : 'its handler awaits something that is no step, or the store does not answer';
  return new StepfastError(
    'NOTHING_DUE',
    `Run "${id}" of job "${job}" is ${undoing ? 'being undone' : status}, and does not come to rest, though it was given ${durationText(patience)} of real time: ${why}. What follows was not played. Put what it awaits into a step that has a fake, or give the play more \`patience\`.`,
    { job, runId: id },
  );
}

/**
 * Opens the app. `around` stands between the engine and the store, nearest to the engine; `watched` hears of every
 * function of the jobs.
 */
export function openApp(
  stage: Stage,
  around: (store: Store) => Store,
  watched: Watch,
  report: (error: unknown) => void,
): App {
  const { clock, scenario, options, inFlight, patience } = stage;
  inFlight.clear();
  const platform = {
    ...systemPlatform(clock),
    newId: () => `id-${stage.newId()}`,
    newUuid: () => `00000000-0000-4000-8000-${String(stage.newId()).padStart(12, '0')}`,
    random: () => 0.5,
    warn: () => undefined,
  };
  const given = engineOf(options);
  const { use = [] } = given;
  const stepfast = createEngine(platform, {
    ...given,
    store: stage.medium(),
    clock,
    use: [{ name: 'stage', store: around }, ...use],
    onError: report,
  });
  const watch = {
    entered(entering: Entering) {
      inFlight.add(entering);
      watched.entered(entering);
    },
    called: (entering: Entering) => watched.called?.(entering),
    left(entering: Entering) {
      inFlight.delete(entering);
      watched.left?.(entering);
    },
  };
  for (const job of [stage.job, ...(scenario.jobs ?? [])]) stepfast.register(withFakes(job, scenario, watch));

  const feed = async ({ key, event, wait }: Feed): Promise<boolean> => {
    const made = stage.fed.get(key);
    if (made?.isAccepted) return false;
    const given = scenario.events![event];
    const fed = made ?? { payload: typeof given === 'function' ? await given(wait) : given, isAccepted: false };
    stage.fed.set(key, fed);
    const { runId, correlationKey } = wait;
    const pair = correlationKey === undefined ? {} : { correlationKey };
    await stepfast.dispatch(event, fed.payload, { ...pair, runId, idempotencyKey: `stage/${key}` });
    fed.isAccepted = true;
    return true;
  };
  /** Dispatches what open waits are to get. False: there is none that was not dispatched before. */
  const feedAll = async (active: readonly RunSnapshot[]): Promise<boolean> => {
    let hasFed = false;
    for (const { id, waitingFor } of active) {
      if (!waitingFor.some(({ events }) => events.length) || !scenario.events) continue;
      const feeds = feedsOf(id, await stepfast.runs.timeline(id), waitingFor, scenario.events);
      for (const each of feeds) hasFed = (await feed(each)) || hasFed;
    }
    return hasFed;
  };
  const activeRuns = async () => {
    const { runs } = await stepfast.runs.list({ limit: 1_000 });
    return runs.filter(({ endedAt, undoing }) => endedAt === undefined || undoing);
  };
  /** Nothing is due on the clock. Whether, given real time, something has happened all the same. */
  const goesOn = async (): Promise<boolean> => {
    const active = await activeRuns();
    if (!active.every(isAtRest)) {
      const isUndoing = active.some(({ undoing }) => undoing);
      const ms = isUndoing ? Math.max(patience.ms, LATE_MS) : patience.ms;
      if ((isUndoing || !clock.isHanging()) && (await clock.stirs(ms))) return true;
      throw stuckIn(active, stage);
    }
    if (!active.length || !patience.lingerMs || !(await clock.stirs(patience.lingerMs))) return false;
    patience.isNeeded = true;
    return true;
  };
  const rest = async () => {
    await clock.idle();
    for (let skips = 0; ; ) {
      const active = await activeRuns();
      if (await feedAll(active)) {
        await clock.idle();
        continue;
      }
      if (!active.length) return;
      if (clock.isHanging() && !stage.inFlight.size) throw stuckIn(active, stage);
      if (await clock.skipOn()) skips++;
      else if (await goesOn()) await clock.idle();
      else return;
      if (skips > MAX_SKIPS)
        throw new StepfastError(
          'NOTHING_DUE',
          `The flow goes on and on: ${MAX_SKIPS} due instants, and no end. Give a scenario in which it ends.`,
        );
    }
  };

  return {
    stepfast,
    async play() {
      await stepfast.start(stage.job.name, scenario.payload, { ...scenario.start, id: RUN_ID });
      await scenario.play?.(stepfast, clock);
      await rest();
    },
    async view() {
      const snapshot = (await stepfast.runs.get(RUN_ID))!;
      const { runs } = await stepfast.runs.list({ limit: 1_000 });
      const others = runs.filter(({ id }) => id !== RUN_ID);
      return { snapshot, timeline: await stepfast.runs.timeline(RUN_ID), others };
    },
  };
}
