/*
 * What both directions of the codec (codec.ts) agree on: how deep they go, and what kind of thing an object is.
 */

/** Objects may be nested this deep: neither direction can overflow the stack. */
export const MAX_DEPTH = 200;
/** Message and stack of a recorded error are cut off here, in characters. */
export const MAX_ERROR_TEXT = 8_192;
/** `cause` and `errors` of a recorded error are followed this deep ... */
export const MAX_CAUSE_DEPTH = 8;
/** ... and to this many errors in all. */
export const MAX_CAUSES = 64;

export type Bag = Record<PropertyKey, unknown>;

/** The classes of typed arrays, in full: a tag in a damaged file can ask for no other part of the global object. */
export const VIEWS = /^(((Big)?(Int|Uint)\d+|Float(16|32|64)|Uint8Clamped)Array|DataView)$/;

export const tagOf = (value: unknown): string => Object.prototype.toString.call(value).slice(8, -1);
export const isError = (value: unknown): value is object => value instanceof Error || tagOf(value) === 'Error';
export const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null;
