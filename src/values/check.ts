import { type ErrorCode, StepfastError } from '../errors.js';
import { type Bag, isObject, isPlain } from './kinds.js';

/*
 * Refusals at the door: one shape for all of them, "X is V. Give Y.", thrown before anything is written (spec B).
 */

export const MAX_NAME = 256;
const MAX_QUOTE = 64;

/** A refused value as a message shows it: short, and never the inside of an object (spec V4). */
export function quoted(value: unknown): string {
  if (typeof value === 'string')
    return JSON.stringify(value.length > MAX_QUOTE ? `${value.slice(0, MAX_QUOTE)}...` : value);
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'bigint') return `${value}n`;
  try {
    if (Array.isArray(value)) return value.length ? 'an array' : 'an empty array';
  } catch {
    // It can not even be read: a proxy that was revoked.
  }
  return isObject(value) ? 'an object' : String(value);
}

/** Refuses an option unless `fits`. */
export function check(
  fits: boolean,
  option: string,
  value: unknown,
  wanted: string,
  code: ErrorCode = 'INVALID_OPTION',
): asserts fits {
  if (!fits) throw new StepfastError(code, `${option} is ${quoted(value)}. Give ${wanted}.`);
}

/** Refuses what is given and is no plain object: the entries of a Map, or what a class hides, would be ignored in silence. */
export function checkPlain(given: unknown, what: string): asserts given is object | undefined {
  check(given === undefined || isPlain(given), what, given, 'a plain object');
}

/**
 * Refuses what is not a plain object of options, and an option that there is not: misspelt, it would be ignored in silence.
 *
 * @param what As in "The options of start".
 */
export function checkOptions(given: unknown, known: readonly string[], what: string): void {
  checkPlain(given, what);
  for (const option of Object.keys(given ?? {}))
    check(known.includes(option), `An option in ${what[0]!.toLowerCase()}${what.slice(1)}`, option, known.join(', '));
}

const has = (value: unknown, methods: readonly string[]): boolean =>
  methods.every((method) => typeof (value as Bag | undefined)?.[method] === 'function');

/** Refuses what has not all that a clock has. */
export const checkClock = (clock: unknown): void =>
  check(has(clock, ['now', 'setTimer']), 'clock', clock, 'a clock, or leave it out');

const STORE = ['open', 'close', 'commit', 'due', 'load', 'list', 'state', 'watch'];

/** Refuses what has not all that a store has. */
export const checkStore = (store: unknown, what = 'store'): void => {
  const fits = has(store, STORE) && isObject((store as Bag).capabilities);
  check(fits, what, store, 'a store, for example memoryStore()');
};

export const isText = (value: unknown, max: number): value is string =>
  typeof value === 'string' && value !== '' && value.length <= max;

/** Names and keys of the library's own: an app can give none. */
export const isOurs = (name: string): boolean => name.startsWith('stepfast:');

/** Refuses a key that could be one of ours. */
export const checkOwn = (key: string, option: string): void =>
  check(!isOurs(key), option, key, 'one that does not start with "stepfast:"', 'INVALID_KEY');

/** The name of a job, step, event, wait or queue. */
export function checkName(name: unknown, what: string): asserts name is string {
  const fits = isText(name, MAX_NAME) && !isOurs(name);
  check(
    fits,
    `The name of ${what}`,
    name,
    `1 to ${MAX_NAME} characters, not starting with "stepfast:"`,
    'INVALID_NAME',
  );
}

/** An integer from `min` on. */
export const checkInteger = (value: unknown, option: string, min: number): void =>
  check(Number.isSafeInteger(value) && (value as number) >= min, option, value, `an integer of at least ${min}`);

/** An id or a key of the user: 1 to 256 characters, and otherwise data. */
export const checkText = (value: unknown, option: string, code: ErrorCode): void =>
  check(isText(value, MAX_NAME), option, value, `a text of 1 to ${MAX_NAME} characters`, code);

/** A correlation key is absent, or a text with at least one character. One that looks like a missing value is told. */
export function checkKey(key: unknown, warn: (message: string) => void): void {
  const wanted = 'a text that is not empty, or leave it out';
  check(key === undefined || isText(key, Infinity), 'correlationKey', key, wanted, 'INVALID_KEY');
  if (key !== undefined && /undefined|null|NaN(?!\w)|\[object/.test(key))
    warn(`The correlation key ${quoted(key)} looks like a value that was missing.`);
}
