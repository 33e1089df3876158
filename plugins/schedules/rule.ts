import type { ScheduleOptions } from '../../src/engine/words.js';
import { StepfastError } from '../../src/errors.js';
import { check, checkOptions, quoted } from '../../src/values/check.js';
import { durationMs } from '../../src/values/duration.js';
import { isObject } from '../../src/values/kinds.js';

/*
 * When a schedule ticks: instants out of a rule and nothing else. Ticks are never stored ahead, so a rule may change.
 */

/** What `croner` exports as `Cron`, as far as it is needed. */
export type CronClass = new (
  pattern: string,
  options: { readonly timezone: string; readonly mode: '5-or-6-parts' },
) => { nextRun(after: Date): Date | null };

/** The ticks of a schedule. `anchor`: when it was first declared. */
export interface Rule {
  /** The first tick later than `after`. */
  next(after: number, anchor: number): number | undefined;
  /** Of the ticks later than `from`, up to `to`: the last one, and how many there are (of `cron`: up to `MAX_COUNT`). */
  span(from: number, to: number, anchor: number): Promise<Span | undefined>;
  /** Whether instants can be told without an anchor. */
  readonly isAnchored: boolean;
}

export interface Span {
  readonly last: number;
  readonly count: number;
}

/** More missed ticks of a `cron` than this are not counted: each costs a tenth of a millisecond to find. */
export const MAX_COUNT = 1_000;
/** So many are looked for before others get their turn: 5 ms. */
const SLICE = 50;
const MIN_EVERY_MS = 1_000;

/** Reads the rule that a schedule was declared with, or refuses it. */
export function ruleOf(when: ScheduleOptions, cron: CronClass | undefined, pause: () => Promise<void>): Rule {
  check(isObject(when), 'The second argument of schedule', when, '{ every } or { cron }');
  checkOptions(when, ['every', 'cron', 'timezone'], 'The second argument of schedule');
  const { every, timezone = 'UTC' } = when;
  check((every === undefined) !== (when.cron === undefined), 'every beside cron', every, 'one of every and cron');
  if (when.cron !== undefined) return cronRule(checkCron(when.cron, timezone, cron), pause);
  check(when.timezone === undefined, 'timezone beside every', when.timezone, 'a timezone with cron alone');
  const everyMs = durationMs(every, 'every');
  check(everyMs >= MIN_EVERY_MS, 'every', every, 'a duration of at least one second');
  return everyRule(everyMs);
}

/** Every so many milliseconds, counted from the anchor. */
function everyRule(everyMs: number): Rule {
  const countTo = (at: number, anchor: number) => Math.floor((at - anchor) / everyMs);
  return {
    isAnchored: true,
    next: (after, anchor) => anchor + (countTo(after, anchor) + 1) * everyMs,
    async span(from, to, anchor) {
      const count = countTo(to, anchor) - countTo(from, anchor);
      return count > 0 ? { last: anchor + countTo(to, anchor) * everyMs, count } : undefined;
    },
  };
}

type NextRun = (after: number) => number | undefined;

/** Looks at both before the library does: it takes dates, nicknames and an empty zone, and finds a bad zone only later. */
function checkCron(pattern: unknown, timezone: unknown, Cron: CronClass | undefined): NextRun {
  check(
    Cron !== undefined,
    'cron',
    pattern,
    '`schedules({ cron: Cron })` the class `Cron` of the package croner, or use `every`',
  );
  const fields = typeof pattern === 'string' ? pattern.trim().split(/\s+/).length : 0;
  check(fields === 5 || fields === 6, 'cron', pattern, 'five fields, or six with seconds, such as "0 9 * * MON-FRI"');
  check(typeof timezone === 'string' && /^[a-z]/i.test(timezone), 'timezone', timezone, 'an IANA name, such as "UTC"');
  const refused = (option: string, value: unknown, wanted: string) => (cause: unknown) => {
    throw new StepfastError('INVALID_OPTION', `${option} is ${quoted(value)}. Give ${wanted}.`, {}, { cause });
  };
  const attempt = <T>(make: () => T, refuse: (cause: unknown) => never): T => {
    try {
      return make();
    } catch (cause) {
      return refuse(cause);
    }
  };
  const made = attempt(
    () => new Cron(pattern as string, { timezone, mode: '5-or-6-parts' }),
    refused('cron', pattern, 'a pattern that croner reads, such as "0 9 * * MON-FRI"'),
  );
  const nextRun: NextRun = (after) => {
    const at = made.nextRun(new Date(after))?.getTime();
    return at !== undefined && at > after ? at : undefined;
  };
  const first = attempt(() => nextRun(0), refused('timezone', timezone, 'an IANA name, such as "Europe/Vienna"'));
  check(first !== undefined, 'cron', pattern, 'a pattern that some day fits');
  return nextRun;
}

/** What a pattern says, in a time zone. */
function cronRule(next: NextRun, pause: () => Promise<void>): Rule {
  /** Of the ticks up to `to`, the last; `tick` is one of them. */
  const lastTick = (tick: number, to: number): number => {
    let [before, after] = [tick - 1, to];
    while (after - before > 1) {
      const middle = Math.floor((before + after) / 2);
      if ((next(middle) ?? Infinity) <= to) before = middle;
      else after = middle;
    }
    return next(before)!;
  };
  return {
    isAnchored: false,
    next,
    async span(from, to) {
      let last: number | undefined;
      let count = 0;
      for (let at = next(from); at !== undefined && at <= to; at = next(at)) {
        last = at;
        if (++count === MAX_COUNT) return { last: lastTick(at, to), count };
        if (count % SLICE === 0) await pause();
      }
      return last === undefined ? undefined : { last, count };
    },
  };
}
