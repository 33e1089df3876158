import type { RecordedError } from '../../src/store/journal.js';
import type { Json } from '../../src/values/json.js';

/*
 * `redact: true`: values without their texts. Works on encoded values (src/values/codec.ts, C1-C4), so that shared references,
 * which are numbers of objects in order (C2), stay what they are: what had a number keeps one.
 */

export const HIDDEN = '[redacted]';

type Fields = { readonly [key: string]: Json };

/** An encoded value of the same shape, its texts hidden. Numbers, dates, booleans and keys of objects stay. */
export function hidden(json: Json): Json {
  if (typeof json === 'string') return HIDDEN;
  if (typeof json !== 'object' || json === null) return json;
  if (Array.isArray(json)) return json.map(hidden);
  const fields = json as Fields;
  return Object.hasOwn(fields, '$') ? { $: hiddenTag(fields.$ as Json[]) } : hiddenFields(fields);
}

// `fromEntries` defines, it does not assign: a key `__proto__` is data.
const hiddenFields = (fields: Fields): Json =>
  Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, hidden(value)]));

function hiddenTag([tag, first, ...rest]: Json[]): Json[] {
  switch (tag) {
    case 'undefined':
    case 'number':
    case 'bigint':
    case 'ref':
    case 'Date':
      return first === undefined ? [tag] : [tag, first, ...rest];
    case 'object':
    case 'null':
      return [tag, hiddenFields(first as Fields)];
    case 'Map': {
      const key = apart();
      return [tag, (first as Json[][]).map((entry) => [key(entry[0]!), hidden(entry[1]!)])];
    }
    case 'Set':
      return [tag, (first as Json[]).map(apart())];
    case 'RegExp':
      return [tag, HIDDEN, ...rest];
    case 'URL':
      return [tag, 'redacted:'];
    case 'Error':
      return [tag, hiddenError(first as unknown as RecordedError) as unknown as Json];
    case 'Blob':
    case 'File':
      return ['ArrayBuffer', ''];
    default: // bytes, in base64
      return [tag!, String(first).replace(/[^=]/g, 'A')];
  }
}

/** Texts that stay as many as they are: members of a set, keys of a map. */
function apart(): (json: Json) => Json {
  let count = 0;
  return (json) => (typeof json !== 'string' ? hidden(json) : ++count === 1 ? HIDDEN : `${HIDDEN} ${count}`);
}

/** What somebody wrote into code, not what somebody typed: `ENOENT`, 404. */
export const isConstant = (code: RecordedError['code']): boolean =>
  typeof code !== 'string' || /^[A-Z][A-Z0-9_]*$/.test(code);

/** Names and steps stay, and codes that are constants. */
export const hiddenError = ({ message: _, stack, data, cause, errors, ...rest }: RecordedError): RecordedError => ({
  ...rest,
  message: HIDDEN,
  ...(!isConstant(rest.code) && { code: HIDDEN }),
  ...(stack !== undefined && { stack: HIDDEN }),
  ...(cause && { cause: hiddenError(cause) }),
  ...(errors && { errors: errors.map(hiddenError) }),
  ...(data !== undefined && { data: hidden(data) }),
});
