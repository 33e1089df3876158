import type { AnyJob, Job } from '../door/job.js';
import { StepfastError } from '../errors.js';
import type { Batch } from '../store/batch.js';
import { isOutcome, type JournalEntry } from '../store/journal.js';
import type { Store } from '../store/store.js';
import { check } from '../values/check.js';
import { createCodec } from '../values/codec.js';
import { wrapStore } from './failing-store.js';
import type { Entering } from './fakes.js';
import { checkPlay, checkScenario, PLAY, type PlayOptions, type Scenario } from './scenario.js';
import { type App, createStage, openApp, type Played, type Stage } from './stage.js';

/*
 * A flow is played once for each way in which its context can die around a commit, and compared with a play in which
 * nothing happens.
 *
 * C1. A context that dies writes nothing more; what its functions had begun may still come to its end, as a request
 *     does that was under way.
 * C2. After a crash everything is done again from the beginning: the start, `play`, the events that were not accepted.
 * C3. The first play is made twice: a scenario that differs from itself could tell nothing.
 */

/** One death of the context. */
interface Death {
  readonly when: 'before' | 'after';
  /** The number of the commit since the app was opened. */
  readonly commit: number;
}

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
  /** Commits of the flow when nothing happens. */
  readonly commits: number;
  /** How often it was played with a crash, or with two. */
  readonly crashes: number;
  /** Steps that were in flight at some crash, and so were entered again: these have to be idempotent. */
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

/** What one play has come to, as text where it is compared. */
interface PlayedOut {
  readonly outcome: string;
  readonly effects: string;
  /** Commits of the last life. */
  readonly commits: number;
  /** How many of the deaths it came to. */
  readonly deaths: number;
  readonly again: readonly Entering[];
  /** Entered in more lives than one. */
  readonly repeated: readonly string[];
  readonly broke?: unknown;
  /** Its handlers had something to say after real time alone. */
  readonly isLate: boolean;
}

/** Text in which nothing is left that differs from play to play without meaning anything. */
const neutral = (text: string): string =>
  text
    .replace(/00000000-0000-4000-8000-\d{12}/g, '<uuid>')
    .replace(/\bid-\d+/g, '<id>')
    .replace(/at attempt \d+/g, 'at attempt <n>');

const codec = createCodec({ blobs: true });

const textOf = (value: unknown): string => neutral(JSON.stringify(codec.encode(value, 'effects')));

function outcomeOf({ snapshot, others }: Played): string {
  const of = ({ job, status, result, error, waitingFor }: Played['snapshot']) => {
    const { code, name, message, step } = error ?? {};
    const waits = status === 'waiting' && waitingFor.map(({ events, correlationKey }) => [events, correlationKey]);
    return textOf([job, status, result, code, name, message, step, waits]);
  };
  return [of(snapshot), ...others.map(of).sort()].join('\n');
}

/** Watches what one play enters and records, over all its lives. */
function createWitness() {
  const lives = new Map<string, Set<number>>();
  const last = new Map<string, Entering>();
  const recorded = new Set<string>();
  const again: Entering[] = [];
  const placeOf = (runId: string, [name, occurrence]: readonly [string, number], isUndo: boolean) =>
    JSON.stringify([runId, name, occurrence, isUndo]);
  return {
    again,
    entered(entering: Entering, life: number) {
      const { runId, name, occurrence, idempotencyKey, isUndo } = entering;
      last.set(placeOf(runId, [name, occurrence], isUndo), entering);
      lives.set(idempotencyKey, (lives.get(idempotencyKey) ?? new Set()).add(life));
      if (recorded.has(idempotencyKey)) again.push(entering);
    },
    committed({ run }: Batch) {
      for (const entry of run?.append ?? []) {
        const id = endOf(entry);
        const found = id && last.get(placeOf(run!.runId, id, entry.kind === 'undone'));
        if (found) recorded.add(found.idempotencyKey);
      }
    },
    repeated(): string[] {
      const names = [...last.values()]
        .filter(({ idempotencyKey }) => lives.get(idempotencyKey)!.size > 1)
        .map(({ name, isUndo }) => (isUndo ? `undo of ${name}` : name));
      return [...new Set(names)];
    },
  };
}

/** The step that has ended with this entry. */
const endOf = (entry: JournalEntry) => {
  if (entry.kind === 'undone') return entry.id;
  return isOutcome(entry) && entry.kind.startsWith('step-') ? entry.id : undefined;
};

/** One life of the app, which ends around a commit, or when nothing happens any more. */
async function live(stage: Stage, number: number, witness: ReturnType<typeof createWitness>, death?: Death) {
  const life = { isOver: false, commits: 0, isCounting: true };
  let within: Store | undefined;
  const die = (): never => {
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
  const entered = (entering: Entering) => {
    if (!life.isOver) witness.entered(entering, number);
  };
  const app: App = openApp(stage, around, entered, () => undefined);
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

/**
 * Plays a scenario from an empty medium, with these deaths one after the other. What is thrown is no matter of the flow: the
 * scenario or the options are bad.
 */
async function playThrough(
  job: AnyJob,
  scenarioOf: () => Scenario<unknown>,
  options: PlayOptions,
  deaths: readonly Death[],
  lingers: boolean,
): Promise<PlayedOut> {
  const scenario = scenarioOf();
  checkScenario(job, scenario);
  const stage = await createStage(job, scenario, options, lingers);
  const witness = createWitness();
  try {
    for (let died = 0; ; died++) {
      const { ended, commits } = await live(stage, died, witness, deaths[died]);
      if (!ended) continue;
      const { again } = witness;
      const seen = { commits, deaths: died, again, repeated: witness.repeated(), isLate: stage.patience.isNeeded };
      if ('broke' in ended) return { ...seen, outcome: '', effects: '', broke: ended.broke };
      try {
        const effects = scenario.effects ? textOf(await scenario.effects()) : '';
        return { ...seen, outcome: outcomeOf(ended.played), effects };
      } catch (broke) {
        return { ...seen, outcome: '', effects: '', broke };
      }
    }
  } finally {
    await stage.medium.dispose?.();
  }
}

const wordsOf = (deaths: readonly Death[]): string => {
  const words = deaths.map(({ when, commit }) => `${when} commit ${commit}`);
  return `crash ${words.join(', and in the next life ')}`;
};

const MAX_QUOTE = 300;
const cut = (text: string): string => (text.length > MAX_QUOTE ? `${text.slice(0, MAX_QUOTE)}...` : text);

/** How a play differs from the one in which nothing happened. */
function compare(reference: PlayedOut, found: PlayedOut, crash: string): CrashViolation[] {
  const violations: CrashViolation[] = found.again.map(({ name, isUndo }) => ({
    crash,
    kind: 'entered-again',
    step: name,
    message: `${isUndo ? 'The undo of step' : 'Step'} "${name}" was entered again after its outcome had been recorded.`,
  }));
  if (found.broke !== undefined) {
    const said = found.broke instanceof Error ? found.broke.message : String(found.broke);
    return [...violations, { crash, kind: 'broke', message: `The flow could not go on: ${said}` }];
  }
  const { repeated } = found;
  const suspects = repeated.map((name) => `"${name}"`).join(', ');
  if (found.outcome !== reference.outcome)
    violations.push({
      crash,
      kind: 'outcome',
      ...(repeated.length === 1 && { step: repeated[0]! }),
      message: `The flow ended otherwise${suspects && `, after ${suspects} had been entered twice`}: ${cut(found.outcome)} instead of ${cut(reference.outcome)}.`,
    });
  if (found.effects !== reference.effects)
    violations.push({
      crash,
      kind: 'effects',
      ...(repeated.length === 1 && { step: repeated[0]! }),
      message: `${suspects ? `Not idempotent: ${suspects}, entered twice.` : 'No step was entered twice, and still:'} The world ended as ${cut(found.effects)} instead of ${cut(reference.effects)}. Hand the step's idempotencyKey to what it calls, or let it see first whether it was done.`,
    });
  return violations;
}

/** Every death in a life of so many commits. */
const deathsIn = (commits: number): Death[] =>
  Array.from({ length: commits }, (_, index) => index + 1).flatMap((commit) => [
    { when: 'before', commit },
    { when: 'after', commit },
  ]);

const SHOWN = 10;

/** What is thrown: the violations, in words. The report itself is its `data`. */
function failure(report: CrashReport): StepfastError {
  const { violations, crashes } = report;
  const lines = violations.slice(0, SHOWN).map(({ crash, message }) => `- ${crash}: ${message}`);
  if (violations.length > SHOWN) lines.push(`- and ${violations.length - SHOWN} more`);
  const said = `${violations.length} violations in ${crashes} crashes:\n${lines.join('\n')}\n`;
  return new StepfastError('NOT_CRASH_SAFE', said, { data: report });
}

/**
 * Crashes a flow just before, and just after, each of its commits, opens the app again, plays on to the end, and compares
 * with a play in which nothing happens: the same status and result, no step entered again whose outcome was recorded,
 * and the same `effects` outside.
 *
 * @param scenario What the flow is given. A function is called for each play: make there what stands in for the outside
 * world, so that every play finds it new.
 * @returns What was tried. @throws {StepfastError} `NOT_CRASH_SAFE`: every violation in words, the report as `data`.
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
  const scenarioOf = (typeof scenario === 'function' ? scenario : () => scenario) as () => Scenario<unknown>;
  let lingers = true;
  const play = (deaths: readonly Death[]) => playThrough(job, scenarioOf, options, deaths, lingers);
  const violations: CrashViolation[] = [];
  const repeated = new Set<string>();
  let crashes = 0;

  const reference = await play([]);
  if (reference.broke && !reference.again.length) throw reference.broke;
  lingers = reference.isLate;
  violations.push(...compare(reference, reference.broke ? reference : await play([]), 'no crash'));
  const crash = async (deaths: readonly Death[]): Promise<number> => {
    const found = await play(deaths);
    if (found.deaths < deaths.length) return 0; // it ended sooner than that
    crashes++;
    for (const name of found.repeated) repeated.add(name);
    violations.push(...compare(reference, found, wordsOf(deaths)));
    return found.commits;
  };
  const isSteady = !violations.length;
  for (const first of isSteady ? deathsIn(reference.commits) : []) {
    const commits = await crash([first]);
    for (const second of options.double ? deathsIn(commits) : []) await crash([first, second]);
  }
  const report: CrashReport = { commits: reference.commits, crashes, repeated: [...repeated], violations };
  if (violations.length) throw failure(report);
  return report;
}
