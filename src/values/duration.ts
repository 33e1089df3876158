import ms from 'ms';
import { StepfastError } from '../errors.js';
import { check, quoted } from './check.js';

// Written out: `ms` has no types of its own, and those of `@types/ms` do not reach the users of this package.
type Unit =
  | 'Milliseconds'
  | 'Millisecond'
  | 'Msecs'
  | 'Msec'
  | 'Ms'
  | 'Seconds'
  | 'Second'
  | 'Secs'
  | 'Sec'
  | 'S'
  | 'Minutes'
  | 'Minute'
  | 'Mins'
  | 'Min'
  | 'M'
  | 'Hours'
  | 'Hour'
  | 'Hrs'
  | 'Hr'
  | 'H'
  | 'Days'
  | 'Day'
  | 'D'
  | 'Weeks'
  | 'Week'
  | 'W'
  | 'Years'
  | 'Year'
  | 'Yrs'
  | 'Yr'
  | 'Y';
type UnitAnyCase = Unit | Uppercase<Unit> | Lowercase<Unit>;

/** A length of time: milliseconds, or one number with one unit, such as `'24h'`, `'1.5 days'` or `'30s'`. */
export type Duration = number | `${number}` | `${number}${UnitAnyCase}` | `${number} ${UnitAnyCase}`;

/** No duration is longer than 100 years: what is, is a mistake in units. */
export const MAX_DURATION_MS = 100 * 365.25 * 86_400_000;

const MAX_TEXT = 64;
const MAX_INSTANT_MS = 8.64e15; // what a Date can hold
const ISO_INSTANT = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)$/;

/** Milliseconds of a `Duration`; `option` names it in the refusal (`INVALID_DURATION`). */
export function durationMs(value: unknown, option: string): number {
  const found =
    typeof value === 'string' && value && value.length <= MAX_TEXT ? ms(value as Parameters<typeof ms>[0]) : value;
  // Whole milliseconds: an instant made of it must fit an integer column. `+ 0` turns -0 into 0.
  if (typeof found === 'number' && found >= 0 && found <= MAX_DURATION_MS) return Math.round(found) + 0;
  throw new StepfastError(
    'INVALID_DURATION',
    `${option} is ${quoted(value)}, which is not a duration. Give milliseconds (0 or more, at most 100 years) or one number with one unit, such as "24h", "1 day" or "1.5h" (not "1h30m").`,
  );
}

/** A duration of at least a millisecond. */
export function positiveMs(value: unknown, option: string): number {
  const found = durationMs(value, option);
  check(found > 0, option, value, 'a duration that is longer than nothing', 'INVALID_DURATION');
  return found;
}

/** Epoch milliseconds of a `Date`, a number, or ISO 8601 text with an offset; else `INVALID_OPTION`. */
export function instantMs(value: unknown, option: string): number {
  const found =
    Object.prototype.toString.call(value) === '[object Date]'
      ? Number(value)
      : typeof value === 'string'
        ? parseInstant(value)
        : value;
  if (typeof found === 'number' && Math.abs(found) <= MAX_INSTANT_MS) return Math.round(found) + 0;
  throw new StepfastError(
    'INVALID_OPTION',
    `${option} is ${quoted(value)}, which is not an instant. Give a valid Date, epoch milliseconds, or ISO 8601 text with an offset, such as "2026-03-01T09:00:00Z".`,
  );
}

function parseInstant(text: string): number {
  // Engines differ on February 30th: some refuse it, some make it March 2nd. The date alone must survive the round trip.
  const day = text.slice(0, 10);
  return ISO_INSTANT.test(text) && new Date(day).toJSON()?.startsWith(day) ? Date.parse(text) : Number.NaN;
}
