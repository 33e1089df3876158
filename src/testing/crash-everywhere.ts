import type { AnyJob, Job } from '../door/job.js';
import { StepfastError } from '../errors.js';
import type { RunStatus } from '../run/inspect.js';
import type { Batch } from '../store/batch.js';
import type { Store } from '../store/store.js';
import { check } from '../values/check.js';
import { compare, type Death, failure, neverGoesOn, type PlayedOut, wordsOf } from './crash-report.js';
import { wrapStore } from './failing-store.js';
import { checkPlay, checkScenario, PLAY, type PlayOptions, type Scenario } from './scenario.js';
import { type App, createStage, openApp, type Played, type Stage } from './stage.js';
import { createWitness, textOf, type Witness } from './witness.js';

/*
 * A flow is played once for each way in which its context can die around a commit, and compared with a play in which
 * nothing happens.
 *
 * C1. A context that dies writes nothing more; what its functions had begun may still come to its end, as a request
 *     does that was under way.
 * C2. After a crash everything is done again from the beginning: the start, `play`, the events that were not accepted.
 * C3. The first play is made twice: a scenario that differs from itself could tell nothing.
 */

export interface CrashViolation {
  /** Where the context died, in words. */
  readonly crash: string;
  /**
   * `outcome`: the flow ended otherwise. `entered-again`: a function whose outcome was recorded was entered again.
   * `effects`: the outside world ended otherwise. `broke`: the flow could not go on.
   */
  readonly kind: 'outcome' | 'entered-again' | 'effects' | 'broke';
  /** The step that is to blame, where one can be named. */
  readonly step?: string;
  readonly message: string;
}

export interface CrashReport {
  /**
   * How the run stands when nothing happens: `waiting` for an event that the scenario does not send is no end of it. Absent where
   * it could not be told.
   */
  readonly status?: RunStatus | undefined;
  /** Commits of the flow when nothing happens. */
  readonly commits: number;
  /** How often it was played with a crash, or with two. */
  readonly crashes: number;
  /** Steps that were in flight at some crash, and so were entered again: these have to be idempotent. Undos and `onFailed` as well. */
  readonly repeated: readonly string[];
  /** None, if the promise resolved. */
  readonly violations: readonly CrashViolation[];
}

export interface CrashOptions extends PlayOptions {
  /** Let the context die once more at every commit after the first crash. Some ten times the plays. Default: false. */
  readonly double?: boolean;
}

const gone = () =>
  new StepfastError('STORE_UNAVAILABLE', 'The context has crashed: nothing reaches the store any more.');

function outcomeOf({ snapshot, others }: Played): string {
  const of = ({ job, status, result, error, waitingFor }: Played['snapshot']) => {
    const { code, name, message, step } = error ?? {};
    const waits = status === 'waiting' && waitingFor.map(({ events, correlationKey }) => [events, correlationKey]);
    return textOf([job, status, result, code, name, message, step, waits]);
  };
  return [of(snapshot), ...others.map(of).sort()].join('\n');
}

function standOf({ snapshot, others }: Played): Pick<PlayedOut, 'status' | 'blocked'> {
  const still = [snapshot, ...others].find(({ status }) => status === 'blocked');
  return { status: snapshot.status, blocked: still && `job "${still.job}": ${still.error?.message}` };
}

/** One life of the app, which ends around a commit, or when nothing happens any more. */
async function live(stage: Stage, number: number, witness: Witness, death?: Death) {
  const life = { isOver: false, commits: 0, isCounting: true };
  let within: Store | undefined;
  const die = (): never => {
    witness.look();
    life.isOver = true;
    within!.abandon!();
    void app.stepfast.close().catch(() => undefined); // it is gone: nobody is told what it meets on its way
    throw gone();
  };
  const around = (store: Store) => {
    check(typeof store.abandon === 'function', 'store', store.name, 'one that has `abandon`, so that it can crash');
    within = store;
    return wrapStore(store, async (name, given, call) => {
      if (life.isOver) throw gone();
      if (name !== 'commit' && name !== 'transact') return call();
      if (life.isCounting) life.commits++;
      const isLast = life.isCounting && life.commits === death?.commit;
      if (isLast && death.when === 'before') die();
      const answer = await call();
      if (name === 'commit' && (answer as { readonly kind: string }).kind === 'committed')
        witness.committed(given as Batch);
      return isLast ? die() : answer;
    });
  };
  const watch = witness.watch(number, () => life.isOver);
  const app: App = openApp(stage, around, watch, () => undefined);
  let ended: { readonly played: Played } | { readonly broke: unknown } | undefined;
  try {
    await app.play();
    life.isCounting = false;
    if (!life.isOver) ended = { played: await app.view() };
  } catch (broke) {
    if (!life.isOver) ended = { broke };
  }
  await app.stepfast.close();
  return { ended, commits: life.commits };
}

/** How a scenario is played. */
interface Direction {
  readonly deaths: readonly Death[];
  readonly lingers: boolean;
  /** Looks at the world around each function. */
  readonly looks?: boolean;
}

/**
 * Plays a scenario from an empty medium, with these deaths one after the other. What is thrown is no matter of the flow: the
 * scenario or the options are bad.
 */
async function playThrough(
  job: AnyJob,
  scenarioOf: () => Scenario<unknown>,
  options: PlayOptions,
  { deaths, lingers, looks = false }: Direction,
): Promise<PlayedOut> {
  const scenario = scenarioOf();
  checkScenario(job, scenario);
  const stage = await createStage(job, scenario, options, lingers);
  const witness = createWitness(looks ? scenario.effects : undefined);
  try {
    for (let died = 0; ; died++) {
      const { ended, commits } = await live(stage, died, witness, deaths[died]);
      if (!ended) continue;
      witness.look();
      const { again } = witness;
      const isLate = stage.patience.isNeeded;
      const blame = witness.blame();
      const seen = { commits, deaths: died, again, repeated: witness.repeated(), isLate, blame };
      if ('broke' in ended) return { ...seen, outcome: '', effects: '', broke: ended.broke };
      try {
        const effects = scenario.effects ? textOf(await scenario.effects()) : '';
        return { ...seen, ...standOf(ended.played), outcome: outcomeOf(ended.played), effects };
      } catch (broke) {
        return { ...seen, outcome: '', effects: '', broke };
      }
    }
  } finally {
    await stage.medium.dispose?.();
  }
}

/** Every death in a life of so many commits. */
const deathsIn = (commits: number): Death[] =>
  Array.from({ length: commits }, (_, index) => index + 1).flatMap((commit) => [
    { when: 'before', commit },
    { when: 'after', commit },
  ]);

/**
 * Crashes a flow just before, and just after, each of its commits, opens the app again, plays on to the end, and compares
 * with a play in which nothing happens: the same status and result, no step entered again whose outcome was recorded,
 * and the same `effects` outside.
 *
 * @param scenario What the flow is given. A function is called for each play: make there what stands in for the outside
 * world, so that every play finds it new.
 * @returns What was tried, and how the flow stands when nothing happens: look at its `status`. @throws {StepfastError} `NOT_CRASH_SAFE`: every violation in words, the report as `data`. What
 * `testRun` throws, if the first play, in which nothing happens, can not be made.
 * @example
 * await crashEverywhere(order, () => {
 *   const charges = new Map<string, number>();
 *   return {
 *     payload: { total: 12 },
 *     steps: { charge: ({ idempotencyKey }) => void charges.set(idempotencyKey, 12) },
 *     effects: () => [...charges.values()],
 *   };
 * });
 */
export async function crashEverywhere<Payload, Result, Input>(
  job: Job<Payload, Result, Input>,
  ...[scenario = {} as Scenario<Input>, options = {}]: undefined extends Input
    ? [scenario?: Scenario<NoInfer<Input>> | (() => Scenario<NoInfer<Input>>), options?: CrashOptions]
    : [scenario: Scenario<NoInfer<Input>> | (() => Scenario<NoInfer<Input>>), options?: CrashOptions]
): Promise<CrashReport> {
  checkPlay(options, [...PLAY, 'double']);
  const { double = false } = options;
  check(typeof double === 'boolean', 'double', double, 'true or false');
  const scenarioOf = (typeof scenario === 'function' ? scenario : () => scenario) as () => Scenario<unknown>;
  let lingers = true;
  const play = (deaths: readonly Death[], looks = false) =>
    playThrough(job, scenarioOf, options, { deaths, lingers, looks });
  const violations: CrashViolation[] = [];
  const repeated = new Set<string>();
  let crashes = 0;

  const reference = await play([]);
  if (reference.broke && !reference.again.length) throw reference.broke;
  lingers = reference.isLate;
  /** Plays it, and says how it differs; where the world does, it is played once more, to see whose work that is. */
  const judge = async (deaths: readonly Death[], given?: PlayedOut): Promise<PlayedOut> => {
    const found = given ?? (await play(deaths));
    const isOther = found.deaths > 0 && found.broke === undefined && found.effects !== reference.effects;
    const { blame } = isOther ? await play(deaths, true) : {};
    violations.push(...compare(reference, { ...found, blame }, wordsOf(deaths)));
    return found;
  };
  const crash = async (deaths: readonly Death[]): Promise<number> => {
    const found = await judge(deaths);
    if (found.deaths < deaths.length) return 0; // it ended sooner than that
    crashes++;
    for (const name of found.repeated) repeated.add(name);
    return found.commits;
  };
  if (reference.blocked !== undefined) violations.push(neverGoesOn(reference.blocked));
  else await judge([], reference.broke ? reference : undefined);
  const isSteady = !violations.length;
  for (const first of isSteady ? deathsIn(reference.commits) : []) {
    const commits = await crash([first]);
    for (const second of double ? deathsIn(commits) : []) await crash([first, second]);
  }
  const { commits, status } = reference;
  const report: CrashReport = { status, commits, crashes, repeated: [...repeated], violations };
  if (violations.length) throw failure(report);
  return report;
}
