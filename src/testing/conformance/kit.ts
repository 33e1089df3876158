import { type ErrorCode, isStepfastError } from '../../errors.js';

/*
 * What the conformance cases are written with: assertions of their own, so that they run in a page as well as under
 * any test runner.
 */

function show(value: unknown): string {
  if (typeof value === 'bigint') return `${value}n`;
  if (value === undefined || typeof value === 'function' || typeof value === 'symbol') return String(value);
  if (typeof value === 'number') return Object.is(value, -0) ? '-0' : String(value);
  const text = JSON.stringify(value);
  return text.length > 300 ? `${text.slice(0, 300)}... (${text.length} characters)` : text;
}

const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null;

/** The path of the first difference, or `undefined`. Tells `NaN`, `-0`, `undefined` and an absent key apart. */
function difference(actual: unknown, expected: unknown, path: string): string | undefined {
  if (Object.is(actual, expected)) return undefined;
  const here = `at ${path}: expected ${show(expected)}, got ${show(actual)}`;
  if (!isObject(actual) || !isObject(expected) || Array.isArray(actual) !== Array.isArray(expected)) return here;
  const [a, b] = [new Map(Object.entries(actual)), new Map(Object.entries(expected))];
  if (Array.isArray(actual) && Array.isArray(expected) && actual.length !== expected.length)
    return `at ${path}: expected ${expected.length} elements, got ${actual.length}: ${show(actual)}`;
  for (const key of b.keys()) if (!a.has(key)) return `at ${path}: ${show(key)} is missing`;
  for (const [key, value] of a) {
    if (!b.has(key)) return `at ${path}: unexpected ${show(key)}: ${show(value)}`;
    const found = difference(value, b.get(key), `${path}[${show(key)}]`);
    if (found !== undefined) return found;
  }
  const plain = Array.isArray(actual) ? Array.prototype : Object.prototype;
  const isPlain = (value: object) => [plain, null].includes(Object.getPrototypeOf(value));
  return isPlain(actual) || !isPlain(expected) ? undefined : `at ${path}: not a plain object`;
}

/** Throws unless `fact` holds. */
export function check(fact: boolean, sentence: string): asserts fact {
  if (!fact) throw new Error(sentence);
}

/** Throws unless both are deeply equal, key order aside. */
export function equal(actual: unknown, expected: unknown, what: string): void {
  const found = difference(actual, expected, '$');
  if (found !== undefined) throw new Error(`${what}: ${found}`);
}

/** Throws unless the promise rejects with this code, as engines look for it: in a `StepfastError`, of whichever copy. */
export async function rejects(promise: Promise<unknown>, code: ErrorCode, what: string): Promise<void> {
  let found: unknown;
  try {
    await promise;
  } catch (error) {
    found = error;
  }
  check(found instanceof Error, `${what}: expected a rejection with ${code}, but it resolved`);
  equal((found as Error & { code?: unknown }).code, code, `${what} (rejected with ${found.message})`);
  check(isStepfastError(found, code), `${what}: rejected with no StepfastError, but with ${found}`);
}

/** Looks again and again until `look` gives something: for what a store does in the background, such as hints. */
export async function eventually<T>(look: () => T | Promise<T>, what: string): Promise<NonNullable<T>> {
  for (let pause = 1, waited = 0; ; waited += pause, pause = Math.min(pause * 2, 100)) {
    const found = await look();
    if (found) return found;
    check(waited < 10_000, `${what}: not within 10 s`);
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

/** `0 .. count - 1`. */
export const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

/** Strings that a store must keep as data: as ids, names, keys, owners. All different. */
export const hostileStrings: readonly string[] = [
  '../x',
  '..\\x',
  '..',
  '.',
  '/',
  '/etc/passwd',
  'C:\\x',
  'a/b',
  'a:b',
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'hasOwnProperty',
  'length',
  'undefined',
  'null',
  'NaN',
  'true',
  '0',
  '-0',
  '1',
  '01',
  '1e3',
  ' ',
  ' x ',
  'x',
  'X',
  'x.',
  'x ',
  'CON',
  'nul.txt',
  'a\0b',
  'a',
  '\n',
  'a\r\nb',
  '\u2028',
  '\ufeffx',
  '\ud800',
  '\udc00x',
  '\u{1f600}',
  '\u{1f468}\u200d\u{1f469}\u200d\u{1f467}',
  '\u00e9',
  'e\u0301',
  '\u0130',
  'i\u0307',
  '\u202eabc',
  'Z\u0351\u036b\u0343',
  "'; DROP TABLE runs; --",
  "' OR 1=1 --",
  '%00',
  '%s%n',
  '$' + '{7*7}',
  '<script>alert(1)</script>',
  '"',
  '\\',
  '["a","b"]',
  '{"a":1}',
  '*',
  '?',
  '~',
  '-rf',
  'x#2',
  '\u6f22\u5b57',
  '\u0645\u0631\u062d\u0628\u0627',
  'a'.repeat(256),
  `${'a'.repeat(255)}b`,
  '\u{1f600}'.repeat(128),
];

/** Pairs that joined text would take for each other. */
export const lookalikePairs: readonly (readonly [string, string])[] = [
  ['a', 'b:c'],
  ['a:b', 'c'],
  ['a","b', 'c'],
  ['a', 'b","c'],
  ['a\0b', 'c'],
  ['a', 'b\0c'],
  ['a/b', 'c'],
  ['a', 'b/c'],
];
