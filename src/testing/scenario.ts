import { type AnyJob, checkJob } from '../door/job.js';
import type { StartOptions } from '../door/start.js';
import type { Stepfast } from '../engine/engine.js';
import type { EngineOptions } from '../engine/options.js';
import type { StepContext, UndoContext } from '../replay/command.js';
import type { TimelineEntry } from '../run/inspect.js';
import { check, checkOptions, checkPlain } from '../values/check.js';
import type { Duration } from '../values/duration.js';
import type { SimulatedClock } from './clock.js';
import type { FreshMedium } from './conformance.js';

/*
 * A flow as a test plays it: what it is given, what stands in for its steps, which events come, and where.
 */

/** Stands in for the function of a step. */
export type StepFake = (context: StepContext) => unknown;

/** Stands in for what undoes a step. */
export type UndoFake = (context: UndoContext) => unknown;

/** A wait that has opened, as what feeds it is told. */
export interface OpenedWait {
  /** The run that waits. */
  readonly runId: string;
  /** Of the wait, and how manieth of that name. */
  readonly name: string;
  readonly occurrence: number;
  readonly events: readonly string[];
  readonly correlationKey?: string;
  readonly deadline?: number;
}

interface ScenarioParts {
  /** Called in the place of the functions of steps, by the name of the step. Steps that are not named run as they are. */
  readonly steps?: { readonly [name: string]: StepFake };
  /**
   * Called in the place of what undoes steps, by the name of the step. The undo of a step that is faked, and not named here,
   * does nothing: there is nothing to undo.
   */
  readonly undos?: { readonly [name: string]: UndoFake };
  /**
   * What is dispatched as soon as a wait for an event of that name opens: the payload, or a function that makes it. Once
   * for each wait; a wait for other events is left to its timeout.
   */
  readonly events?: { readonly [name: string]: unknown };
  /** The other jobs that the flow calls or starts. */
  readonly jobs?: readonly AnyJob[];
  /** Options of the start. The id is `run`. */
  readonly start?: Omit<StartOptions, 'id' | 'idempotencyKey' | 'allowUnregistered'>;
  /** What else happens once the run is started: other events, a cancel. After a crash it is done again from the beginning. */
  readonly play?: (stepfast: Stepfast, clock: SimulatedClock) => unknown;
  /**
   * What the outside world looks like in the end: mails sent, rows written, as data. Where that is not what it should be, it is
   * asked on the way as well, to see whose work it is: let it only look.
   */
  readonly effects?: () => unknown;
}

/** What a flow is given when it is played in a test, and what stands in for the world around it. */
export type Scenario<Payload = undefined> = ScenarioParts &
  (undefined extends Payload ? { readonly payload?: Payload } : { readonly payload: Payload });

/** Where a scenario is played. */
export interface PlayOptions {
  /** Makes a new, empty medium for each play, as for the conformance suite. Default: memory. */
  readonly store?: FreshMedium;
  /** When it begins, in epoch milliseconds, 0 or more. Default: 2026-01-01T00:00:00Z. */
  readonly now?: number;
  /**
   * How long, in real time, work is waited for of which nothing is heard. A step that is in flight that long counts as
   * hanging: the clock moves on to its timeout, and a warning says so. Where nothing is due, or where a handler awaits
   * something else between its steps, the play is refused (`NOTHING_DUE`). Default `'4s'`.
   */
  readonly patience?: Duration;
  /**
   * Other options of the engine, such as `use` and `retry`. A function is called for each engine that is made, after each
   * crash as well: for plug-ins of which each engine needs one of its own, such as `schedules()`.
   */
  readonly engine?: PlayEngine | (() => PlayEngine);
}

/** What an engine of a play can be given. */
export type PlayEngine = Pick<EngineOptions, 'use' | 'retry' | 'maxValueBytes' | 'replay'>;

/** The run that a scenario starts. */
export const RUN_ID = 'run';

const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null;

export function checkScenario(job: AnyJob, scenario: ScenarioParts): void {
  check(typeof job?.handler === 'function', 'job', job, 'a job: what defineJob or stepfast.job returned');
  check(isObject(scenario), 'scenario', scenario, 'an object, such as { payload }');
  checkOptions(scenario, ['payload', 'steps', 'undos', 'events', 'jobs', 'start', 'play', 'effects'], 'The scenario');
  const { steps, undos, events, start, play, effects, jobs = [] } = scenario;
  for (const [option, given] of Object.entries({ steps, undos, events })) checkPlain(given, option);
  for (const [option, fakes] of Object.entries({ steps, undos }))
    for (const [name, fake] of Object.entries(fakes ?? {}))
      check(typeof fake === 'function', `${option}["${name}"]`, fake, 'a function');
  checkOptions(start, START, 'The start of the scenario');
  check(play === undefined || typeof play === 'function', 'play', play, 'a function');
  check(effects === undefined || typeof effects === 'function', 'effects', effects, 'a function');
  check(Array.isArray(jobs), 'jobs', jobs, 'an array of jobs');
  for (const each of jobs) checkJob(each);
}

/** What options of a play there are; `crashEverywhere` has more. */
export const PLAY = ['store', 'now', 'patience', 'engine'];
const ENGINE = ['use', 'retry', 'maxValueBytes', 'replay'];
const START = ['idempotencyTtl', 'queue', 'startAt', 'delay', 'priority', 'tags', 'retry'];

export function checkPlay(options: PlayOptions, known: readonly string[]): void {
  checkOptions(options, known, 'The options of a play');
  const { store, engine } = options;
  check(store === undefined || typeof store === 'function', 'store', store, 'a function that makes a new medium');
  if (typeof engine !== 'function') checkOptions(engine, ENGINE, 'The engine of the play');
}

/** The options of one engine more. */
export function engineOf({ engine = {} }: PlayOptions): PlayEngine {
  if (typeof engine !== 'function') return engine;
  const made = engine();
  checkOptions(made, ENGINE, 'The engine of the play');
  return made ?? {};
}

/** An event that is to be dispatched for a wait. */
export interface Feed {
  /** The same for the same wait, also after a crash. */
  readonly key: string;
  readonly event: string;
  readonly wait: OpenedWait;
}

/** Which of a run's open waits want an event that the scenario has. */
export function feedsOf(
  runId: string,
  timeline: readonly TimelineEntry[],
  waitingFor: readonly { readonly events: readonly string[]; readonly correlationKey?: string }[],
  events: { readonly [name: string]: unknown },
): Feed[] {
  const open = new Map<string, Feed>();
  const generation = timeline[0]?.generation ?? 0;
  for (const [index, entry] of timeline.entries()) {
    const { kind, name = '', occurrence = 1 } = entry;
    const id = JSON.stringify([name, occurrence]);
    if (kind === 'event-taken' || kind === 'wait-timed-out') open.delete(id);
    if (kind !== 'wait-set') continue;
    const set = entry as unknown as { events: string[]; key?: string; deadline?: number };
    const event = set.events.find((each) => Object.hasOwn(events, each));
    const isOpen = waitingFor.some(
      (wait) => wait.correlationKey === set.key && JSON.stringify(wait.events) === JSON.stringify(set.events),
    );
    if (event === undefined || !isOpen) continue;
    const wait: OpenedWait = {
      runId,
      name,
      occurrence,
      events: set.events,
      ...(set.key !== undefined && { correlationKey: set.key }),
      ...(set.deadline !== undefined && { deadline: set.deadline }),
    };
    open.set(id, { key: `${runId}/${generation}/${index}`, event, wait });
  }
  return [...open.values()];
}
