import type { Json } from './json.js';

/*
 * What is kept of the payload of a deleted run: enough to tell an equal start from another one (spec Q1), and nothing
 * that a payload could be read from. Not for secrets: two payloads that somebody chose can be made to agree.
 */

/** A JSON text that does not depend on the order of keys. */
export const canonical = (value: Json): string => {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([key, each]) => `${JSON.stringify(key)}:${canonical(each)}`).join()}}`;
};

/** 64 bits of a JSON value, as 16 hexadecimal digits: two multiplicative hashes, mixed at the end (after cyrb53). */
export function fingerprintOf(value: Json): string {
  const text = canonical(value);
  let a = 0xdeadbeef;
  let b = 0x41c6ce57;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    a = Math.imul(a ^ code, 0x9e3779b1);
    b = Math.imul(b ^ code, 0x5f356495);
  }
  const mixed = (x: number, y: number) => Math.imul(x ^ (x >>> 16), 0x85ebca6b) ^ Math.imul(y ^ (y >>> 13), 0xc2b2ae35);
  return [mixed(a, b), mixed(b, a)].map((half) => (half >>> 0).toString(16).padStart(8, '0')).join('');
}
