import type { Json } from './json.js';

/**
 * A stored number and what is added to it; nothing stored counts as 0. `undefined`: it is no number, or the sum is none
 * that can be counted with. `-0`, which JSON can not say (codec.ts, C1), is a number like any other.
 */
export function sumOf(stored: Json | undefined, by: number): number | undefined {
  const [tag, text] = (stored as { readonly $?: readonly Json[] } | null | undefined)?.$ ?? [];
  const before = stored === undefined || (tag === 'number' && text === '-0') ? 0 : stored;
  const sum = typeof before === 'number' ? before + by : Number.NaN;
  return Number.isFinite(sum) ? sum : undefined;
}
