import type { Json } from '../../src/values/json.js';
import { unreadableFile } from '../../src/values/same.js';

/*
 * Values as the text that is sealed, and bytes as text. JSON alone would lose the blobs that some stores keep as live
 * leaves of a value, so they follow it as bytes: `<json>\n<blobs>`. JSON as it is written here has no line feed.
 */

interface KeptBlob {
  /** Where it stands in the tree. */
  readonly path: readonly (string | number)[];
  readonly type: string;
  readonly bytes: string;
  /** Of a file. */
  readonly name?: string;
  readonly lastModified?: number;
}

type Place = readonly [path: readonly (string | number)[], blob: Blob];

/** `fromCharCode` takes its arguments from the stack: so many fit everywhere. */
const CHUNK = 8_192;

export function toBase64(bytes: Uint8Array): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += CHUNK) text += String.fromCharCode(...bytes.subarray(at, at + CHUNK));
  return btoa(text);
}

/** Throws for what is no base64. */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  const found = atob(text);
  const bytes = new Uint8Array(found.length);
  for (let at = 0; at < bytes.length; at++) bytes[at] = found.charCodeAt(at);
  return bytes;
}

const isBlob = (value: object): value is Blob => /^\[object (Blob|File)\]$/.test(Object.prototype.toString.call(value));

/** A copy that shares nothing which can be changed; a clone by the platform would make blobs of files (Node 20). */
export function copyOf<Value>(value: Value): Value {
  if (typeof value !== 'object' || value === null || isBlob(value)) return value;
  if (Array.isArray(value)) return value.map(copyOf) as Value;
  // Not assigned: a key `__proto__` is data.
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, copyOf(inner)])) as Value;
}

function* blobsIn(value: unknown, path: readonly (string | number)[] = []): Generator<Place> {
  if (typeof value !== 'object' || value === null) return;
  if (isBlob(value)) yield [path, value];
  else for (const [key, inner] of Object.entries(value)) yield* blobsIn(inner, [...path, key]);
}

const refuseFile = (cause: unknown): never => {
  throw unreadableFile(cause);
};

/** @param blobs Whether the value may hold some: looking for them takes time. */
export async function toText(value: unknown, blobs: boolean): Promise<string> {
  const json = JSON.stringify(value);
  const places = blobs ? [...blobsIn(value)] : [];
  if (!places.length) return json;
  const kept = places.map(async ([path, blob]): Promise<KeptBlob> => {
    const { name, lastModified } = blob as Partial<File>;
    const bytes = toBase64(new Uint8Array(await blob.arrayBuffer().catch(refuseFile)));
    return { path, type: blob.type, bytes, ...(name !== undefined && { name, lastModified: lastModified! }) };
  });
  return `${json}\n${JSON.stringify(await Promise.all(kept))}`;
}

export function fromText(text: string): Json {
  const [json, kept] = text.split('\n') as [string, string?];
  const value = JSON.parse(json) as Json;
  for (const blob of kept === undefined ? [] : (JSON.parse(kept) as KeptBlob[])) {
    const { path, type, bytes, name, lastModified } = blob;
    const parts = [fromBase64(bytes)];
    const made =
      name === undefined ? new Blob(parts, { type }) : new File(parts, name, { type, lastModified: lastModified! });
    const holder = path.slice(0, -1).reduce((inner: unknown, key) => (inner as { [key: string]: unknown })[key], value);
    (holder as { [key: string | number]: unknown })[path.at(-1)!] = made;
  }
  return value;
}
