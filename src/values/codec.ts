import { StepfastError } from '../errors.js';
import type { RecordedError } from '../store/journal.js';
import { Reader } from './decode.js';
import { attempt, Writer } from './encode.js';
import type { Json } from './json.js';
import { haveSameBlobs, sameJson } from './same.js';

/*
 * Users' values <-> the plain JSON that stores keep (spec D7). Lossless or refused, never changed in silence.
 *
 * C1. JSON values are kept as they are, so that a person can read a journal. Everything else is `{ "$": [tag, ...] }`,
 *     and so is a user's object that has a key `$` of its own: the two can not be confused.
 * C2. Both directions number objects in the same pre-order; `{ "$": ["ref", n] }` is the n-th again. A store must
 *     therefore keep the order of keys.
 * C3. Errors are recorded leniently: reporting a failure must not fail because of what hangs on it.
 * C4. Tags are persisted for ever; they are the names of built-in classes, or lower-case words.
 */

/** Default limit of one encoded value. */
const MAX_VALUE_BYTES = 1_048_576;

/** Maps values and errors to what a store keeps, and back. */
export interface Codec {
  /**
   * The JSON tree of a value.
   *
   * @param what Names the value in messages, e.g. `'the payload'`.
   * @throws {StepfastError} `NOT_SERIALIZABLE` with the `path`, or `VALUE_TOO_LARGE`.
   */
  encode(value: unknown, what?: string): Json;
  /** The value of a tree: always fresh objects. Throws `STORE_CORRUPT` for what `encode` can not have made. */
  decode(json: Json): unknown;
  /**
   * Whether two trees are of equal values: whatever the order of their keys, and whatever of them is one object. Blobs are
   * read.
   */
  isSame(a: Json, b: Json): Promise<boolean>;
  /** Never throws; what can not be kept of an error is left out. */
  encodeError(error: unknown): RecordedError;
  decodeError(recorded: RecordedError): Error;
}

export interface CodecOptions {
  /** The platform's `URL`. Without it URLs are refused. */
  readonly URL?: (new (href: string) => unknown) | undefined;
  /** Of the JSON text in UTF-8 (of a text alone, without its quotes), with all of its blobs. Default: 1 MiB. */
  readonly maxBytes?: number | undefined;
  /** Pass `Blob` and `File` through as live leaves, for stores that can keep them. */
  readonly blobs?: boolean | undefined;
}

export function createCodec({ URL, blobs, maxBytes = MAX_VALUE_BYTES }: CodecOptions = {}): Codec {
  const platform = { URL, blobs };
  const writer = (what: string, isExact?: boolean, isApart?: boolean) =>
    new Writer({ URL, blobs, what, maxBytes, isExact, isApart });
  const decode = (json: Json): unknown => {
    try {
      return new Reader(platform).read(json, 0);
    } catch (cause) {
      const message = 'A stored value can not be read: it is damaged, or of a type unknown here.';
      throw new StepfastError('STORE_CORRUPT', message, {}, { cause });
    }
  };
  return {
    encode(value, what = 'the value') {
      let writing = writer(what);
      try {
        const json = writing.write(value, 0);
        if (writing.isSure) return json;
        writing = writer(what, true);
        return writing.write(value, 0);
      } catch (cause) {
        if (cause instanceof StepfastError) throw cause;
        return writing.refuse('can not be read', { cause }); // a getter or a proxy of the user that throws
      }
    },
    decode,
    async isSame(a, b) {
      const apart = (json: Json) => writer('', undefined, true).write(decode(json), 0);
      const isAlike = async (one: Json, other: Json) => sameJson(one, other) && haveSameBlobs(one, other);
      try {
        return (await isAlike(a, b)) || (await isAlike(apart(a), apart(b)));
      } catch {
        return false; // too large, once nothing in it is shared; or a blob that can not be read
      }
    },
    // It takes the number 0, as in `decodeError`, also when what was thrown is no error.
    encodeError: (error) =>
      attempt(() => writer('', true).record(error, 0, 0)) ?? { name: 'Error', message: 'unknown' },
    decodeError: (recorded) => decode({ $: ['Error', recorded as unknown as Json] }) as Error,
  };
}
