/*
 * What both directions of the codec (codec.ts) agree on: how deep they go, and what kind of thing an object is.
 */

/** An object may stand inside of this many others: neither direction can overflow the stack. */
export const MAX_DEPTH = 200;
/** Message and stack of a recorded error are cut off here, in characters. */
export const MAX_ERROR_TEXT = 8_192;
/** `cause` and `errors` of a recorded error are followed this deep ... */
export const MAX_CAUSE_DEPTH = 8;
/** ... and to this many errors in all. */
export const MAX_CAUSES = 64;
/** Up to so many elements a typed array is searched for properties that hang on it. */
export const MAX_LISTED = 256;

const { getPrototypeOf } = Object;

export type Bag = Record<PropertyKey, unknown>;

/** The classes of typed arrays, in full: a tag in a damaged file can ask for no other part of the global object. */
export const VIEWS = /^(((Big)?(Int|Uint)\d+|Float(16|32|64)|Uint8Clamped)Array|DataView)$/;

export const tagOf = (value: unknown): string => Object.prototype.toString.call(value).slice(8, -1);
export const isError = (value: unknown): value is object => value instanceof Error || tagOf(value) === 'Error';
export const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null;

/** The name of what may be given by its name alone. Not checked. */
export const nameOf = (given: string | { readonly name: string }): string => (isObject(given) ? given.name : given);

/** `Object.prototype`, of any realm, or nothing at all. */
export const isRoot = (proto: object | null): boolean =>
  proto === null || (getPrototypeOf(proto) === null && Object.hasOwn(proto, 'hasOwnProperty'));

export function isPlain(value: unknown): value is object {
  try {
    return isObject(value) && isRoot(getPrototypeOf(value));
  } catch {
    return false; // it can not even be read: a proxy that was revoked
  }
}

/** The tag of a plain object or of an instance of a built-in class itself; a subclass has a longer chain. */
export function builtinOf(value: object): string | undefined {
  const tag = tagOf(value);
  const proto = getPrototypeOf(value);
  if (isRoot(proto)) return tag === 'Object' ? tag : undefined;
  let base = getPrototypeOf(proto);
  if (/^File|.Array$/.test(tag)) base = getPrototypeOf(base);
  return tag !== 'Object' && isRoot(base) && proto.constructor.name === tag ? tag : undefined;
}
