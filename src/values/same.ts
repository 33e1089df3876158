import { StepfastError } from '../errors.js';
import type { Json } from './json.js';
import { isObject } from './kinds.js';

const { hasOwn, keys } = Object;

/** Deep equality of two encoded values, whatever the order of their keys. */
export function sameJson(a: Json, b: Json): boolean {
  if (a === b) return true;
  if (!isObject(a) || !isObject(b) || Array.isArray(a) !== Array.isArray(b)) return false;
  const found = keys(a);
  const same = (key: string) => hasOwn(b, key) && sameJson(a[key as never], b[key as never]);
  return found.length === keys(b).length && found.every(same);
}

/** A `Blob`, as far as it is needed here. */
type Readable = { arrayBuffer(): Promise<ArrayBuffer> };
export const isReadable = (json: unknown): json is Readable =>
  typeof (json as Partial<Readable>).arrayBuffer === 'function';
/** All that a tree holds, in an order of its own. */
export const blobsIn = (json: Json): readonly Readable[] => {
  if (!isObject(json)) return [];
  if (isReadable(json)) return [json];
  return keys(json)
    .sort()
    .flatMap((key) => blobsIn(json[key as never]));
};

/** Whether the blobs of two trees that are alike otherwise, their sizes too, hold the same bytes. */
export async function haveSameBlobs(a: Json, b: Json): Promise<boolean> {
  const others = blobsIn(b);
  for (const [index, blob] of blobsIn(a).entries()) {
    const [own, other] = await Promise.all(
      [blob, others[index]!].map(async (each) => new Uint8Array(await each.arrayBuffer())),
    );
    if (own!.some((byte, at) => byte !== other![at])) return false;
  }
  return true;
}

/** What a store says of a `Blob` or `File` that it can not read: it will not be better the next time. */
export const unreadableFile = (cause: unknown): StepfastError =>
  new StepfastError(
    'NOT_SERIALIZABLE',
    'A Blob or File can not be read, and so not be stored: was its file changed or removed since it was picked? Nothing of the commit was kept.',
    {},
    { cause },
  );
