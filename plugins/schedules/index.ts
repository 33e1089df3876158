import type { AnyJob } from '../../src/door/job.js';
import { checkStart } from '../../src/door/start.js';
import type { Plugin, PluginHost } from '../../src/engine/plugin.js';
import type { Schedule, Scheduled, ScheduleOptions, ScheduleStartOptions } from '../../src/engine/words.js';
import { isStepfastError, StepfastError } from '../../src/errors.js';
import { check, checkName, checkOptions } from '../../src/values/check.js';
import { isObject, nameOf } from '../../src/values/kinds.js';
import { type Clockwork, createClockwork } from './clockwork.js';
import { type CronClass, ruleOf } from './rule.js';

export type { Schedule, Scheduled, ScheduleOptions, ScheduleStartOptions } from '../../src/engine/words.js';
export type { CronClass } from './rule.js';

/** What `schedules` is made with. */
export interface SchedulesOptions {
  /** `Cron` of the package croner (version 11). Needed for `cron` alone: who uses `every` does not load it. */
  readonly cron?: CronClass;
}

/** What `schedules` adds to the engine. */
export interface SchedulesWords {
  readonly schedule: Schedule;
}

const START_OPTIONS: readonly unknown[] = [
  'queue',
  'priority',
  'tags',
  'retry',
] satisfies (keyof ScheduleStartOptions)[];

/**
 * Starts runs on time, while a context that has the job registered is open, and makes up for what was missed:
 *
 * - Ticks that pass while everything is closed (or asleep) make one run when it is opened again, that of the last tick.
 *   The job finds its schedule, tick and the number of missed ones in `run.schedule`.
 * - Each tick starts one run, in however many tabs and processes the schedule is declared.
 * - The last tick is kept in the store under the name of the schedule. A release that changes `every` or `cron` goes on
 *   from there by the new rule; without the call no more runs are started.
 * - A tick whose start is refused (say, its payload no longer fits the schema) is reported to `onError`. It counts as
 *   missed at the next one.
 * - A clock that is set back starts no tick twice. One that is set forward starts, once, what is due by it; when it is
 *   corrected, the schedule goes on by the right time.
 * - Of a `cron`, no more than 1,000 missed ticks are counted.
 *
 * Daylight saving is as croner has it. A pattern with a single second, minute and hour (`30 2 * * *`) is a time of day: it
 * ticks once a day, right after the gap when its time is left out, and at the first of two when its time comes twice. Any
 * other pattern (`0,30 * * * *`, `30 2,14 * * *`) ticks whenever the wall clock fits: never in a gap, twice in an overlap.
 *
 * @throws {StepfastError} `INVALID_OPTION`.
 * @example
 * import { Cron } from 'croner';
 * const stepfast = createStepfast({ store: indexedDBStore(), use: [schedules({ cron: Cron })] });
 * stepfast.schedule('digest', { cron: '0 9 * * MON-FRI', timezone: 'Europe/Vienna' }, sendDigest);
 */
export function schedules(options: SchedulesOptions = {}): Plugin<SchedulesWords> {
  checkOptions(options, ['cron'], 'The options of schedules');
  const { cron } = options;
  check(cron === undefined || typeof cron === 'function', 'cron', cron, 'the class `Cron` of the package croner');
  let clockwork: Clockwork | undefined;
  return {
    name: 'schedules',
    words(host) {
      check(clockwork === undefined, 'An entry of use', 'schedules', 'each engine a schedules() of its own');
      clockwork = createClockwork(host);
      return { schedule: declaring(host, clockwork, cron) as Schedule };
    },
    registered: () => clockwork?.retry(),
    opened: () => clockwork?.open(),
    closed: () => clockwork?.close(),
  };
}

/** `stepfast.schedule`: checks everything at the call, writes nothing, and opens the engine, as any call does. */
const declaring =
  ({ platform, codec, open, report }: PluginHost, clockwork: Clockwork, cron: CronClass | undefined) =>
  (name: string, when: ScheduleOptions, given: string | AnyJob, payload?: unknown, options = {}): Scheduled => {
    if (clockwork.isClosed()) throw new StepfastError('CLOSED', 'This engine is closed. Create a new one to go on.');
    checkName(name, 'a schedule');
    const rule = ruleOf(when, cron, () => new Promise<void>(platform.hop));
    const job = nameOf(given);
    checkName(job, 'a job');
    check(isObject(options), 'The options of schedule', options, 'an object');
    for (const [option, value] of Object.entries(options)) {
      const wanted = `no such option: runs of a schedule take ${START_OPTIONS.join(', ')} alone`;
      check(START_OPTIONS.includes(option), `${option} of schedule "${name}"`, value, wanted);
    }
    checkStart(options);
    const encoded = codec.encode(payload, `the payload of schedule "${name}"`);
    if (clockwork.has(name))
      throw new StepfastError(
        'INVALID_NAME',
        `Schedule "${name}" is declared already in this engine. Give one another name, or call stop() of the first.`,
      );
    const added = clockwork.add({ name, rule, job, payload: encoded, options });
    // Behind the registrations of this turn: with a job it is opened for driving.
    void Promise.resolve()
      .then(open)
      .catch((error: unknown) => {
        if (!isStepfastError(error, 'CLOSED')) report(error);
      });
    return added;
  };
