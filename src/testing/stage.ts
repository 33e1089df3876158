import { memoryMedium, memoryStore } from '../../adapters/memory/index.js';
import type { AnyJob } from '../door/job.js';
import { createEngine, type Stepfast } from '../engine/engine.js';
import { StepfastError } from '../errors.js';
import type { RunSnapshot, TimelineEntry } from '../run/inspect.js';
import type { Store } from '../store/store.js';
import { systemPlatform } from '../system.js';
import { checkOptions } from '../values/check.js';
import { type SimulatedClock, simulatedClock } from './clock.js';
import type { Medium } from './conformance.js';
import { type Entering, type Feed, feedsOf, type PlayOptions, RUN_ID, type Scenario, withFakes } from './scenario.js';

/*
 * One play of a scenario: a medium and a clock, on which contexts come, die and come again. Ids are counted and chance is
 * always the same, so that two plays differ by nothing but what happens in them.
 */

/** What every context of a play shares, and a crash leaves alone. */
export interface Stage {
  readonly job: AnyJob;
  readonly scenario: Scenario<unknown>;
  readonly options: PlayOptions;
  readonly clock: SimulatedClock;
  readonly medium: Medium;
  readonly fed: Map<string, { readonly payload: unknown; isAccepted: boolean }>;
  newId(): number;
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

const freshMemory = () => {
  const medium = memoryMedium();
  return () => memoryStore({ medium });
};

export async function createStage(job: AnyJob, scenario: Scenario<unknown>, options: PlayOptions): Promise<Stage> {
  checkOptions(options, ['store', 'now', 'engine', 'double'], 'The options of a play');
  const { now, store = freshMemory } = options;
  const clock = simulatedClock(now === undefined ? {} : { now });
  let ids = 0;
  return { job, scenario, options, clock, medium: await store(), fed: new Map(), newId: () => ++ids };
}

/**
 * Opens the app. `around` stands between the engine and the store, nearest to the engine; `entered` hears of every
 * function of the jobs.
 */
export function openApp(
  stage: Stage,
  around: (store: Store) => Store,
  entered: (entering: Entering) => void,
  report: (error: unknown) => void,
): App {
  const { clock, scenario, options } = stage;
  const platform = {
    ...systemPlatform(clock),
    newId: () => `id-${stage.newId()}`,
    newUuid: () => `00000000-0000-4000-8000-${String(stage.newId()).padStart(12, '0')}`,
    random: () => 0.5,
    warn: () => undefined,
  };
  const { use = [] } = options.engine ?? {};
  const stepfast = createEngine(platform, {
    ...options.engine,
    store: stage.medium(),
    clock,
    use: [{ name: 'stage', store: around }, ...use],
    onError: report,
  });
  for (const job of [stage.job, ...(scenario.jobs ?? [])])
    stepfast.register(withFakes(job, scenario.steps ?? {}, entered));

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
  const rest = async () => {
    await clock.idle();
    for (let skips = 0; ; ) {
      const { runs } = await stepfast.runs.list({ limit: 1_000 });
      const active = runs.filter(({ endedAt, undoing }) => endedAt === undefined || undoing);
      if (await feedAll(active)) {
        await clock.idle();
        continue;
      }
      if (!active.length) return;
      if (!(await clock.skip())) return;
      if (++skips > MAX_SKIPS)
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
