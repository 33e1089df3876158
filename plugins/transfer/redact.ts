import type { PluginHost } from '../../src/engine/plugin.js';
import type { ExportOptions, RedactPlace } from '../../src/engine/words.js';
import type { RecordedError } from '../../src/store/journal.js';
import { check } from '../../src/values/check.js';
import { type Codec, createCodec } from '../../src/values/codec.js';
import { HIDDEN, hidden, hiddenError, isConstant } from './hide.js';
import type { Visit } from './parts.js';

/** What `redact` and the format make of a run's parts on their way out. */
export function visitFor(
  redact: ExportOptions['redact'],
  { platform, codec }: Pick<PluginHost, 'platform' | 'codec'>,
  blobs: boolean,
): Visit {
  if (redact === true) return hiding;
  const plain = blobs ? refusingBlobs(codec, createCodec({ URL: platform.URL, maxBytes: Infinity })) : keeping;
  return redact ? asking(redact, codec, plain) : plain;
}

const same = <T>(part: T): T => part;

/** As it is. */
export const keeping: Visit = { value: same, text: same, option: same, number: same, error: same };

/** A key or a tag of two runs must not become the same text: they are left out. */
const hiding: Visit = {
  value: hidden,
  text: () => HIDDEN,
  option: (_, { kind }) => (kind === 'tag' ? HIDDEN : undefined),
  number: same,
  error: hiddenError,
};

const nameOf = ({ kind, name }: RedactPlace) => (name === undefined ? `the ${kind}` : `the ${kind} of "${name}"`);

/** A `Blob` or a `File` can not go into JSON: refused with its path. */
function refusingBlobs(codec: Codec, strict: Codec): Visit {
  const value: Visit['value'] = (json, place) => {
    strict.encode(codec.decode(json), nameOf(place));
    return json;
  };
  const error: Visit['error'] = (recorded) => {
    for (const [{ name }, live] of levels(recorded, alive(recorded, codec)))
      strict.encode(live.data, nameOf({ kind: 'data', name }));
    return recorded;
  };
  return { ...keeping, value, error };
}

type LiveError = Error & { data?: unknown; errors?: readonly LiveError[] };

/** Also what it carries and is no error, as one that has it for its data: to be visited like all others. */
const alive = (recorded: RecordedError, codec: Codec): LiveError => codec.decodeError(asErrors(recorded));
const asErrors = ({ isValue: _, cause, errors, ...rest }: RecordedError): RecordedError => ({
  ...rest,
  ...(cause && { cause: asErrors(cause) }),
  ...(errors && { errors: errors.map(asErrors) }),
});

/** An error and all that it carries, recorded and alive. */
function levels(recorded: RecordedError, live: LiveError): [RecordedError, LiveError][] {
  return [
    [recorded, live],
    ...(recorded.cause ? levels(recorded.cause, live.cause as LiveError) : []),
    ...(recorded.errors ?? []).flatMap((each, index) => levels(each, live.errors![index]!)),
  ];
}

/** What the function of the user says, made sure to fit. */
function asking(ask: (value: unknown, place: RedactPlace) => unknown, codec: Codec, plain: Visit): Visit {
  const said = (place: RedactPlace) => `What redact gave for ${nameOf(place)}`;
  const textOf = (answer: unknown, place: RedactPlace): string => {
    check(typeof answer === 'string' && answer !== '', said(place), answer, 'a text that is not empty');
    return answer;
  };
  const optionOf = (answer: unknown, place: RedactPlace) => (answer === undefined ? answer : textOf(answer, place));
  const value: Visit['value'] = (json, place) =>
    plain.value(codec.encode(ask(codec.decode(json), place), said(place)), place);

  /** Encoded as a whole: objects that it shares with what it carries stay shared. */
  const error: Visit['error'] = (recorded) => {
    const root = alive(recorded, codec);
    const set = (live: object, key: string, value: unknown) =>
      Object.defineProperty(live, key, { value, configurable: true, writable: true });
    for (const [{ name, message, stack, data, code }, live] of levels(recorded, root)) {
      const text = ask(message, { kind: 'error', name });
      check(typeof text === 'string', said({ kind: 'error', name }), text, 'a text');
      set(live, 'message', text);
      const place = { kind: 'stack', name } as const;
      set(live, 'stack', stack === undefined ? undefined : optionOf(ask(stack, place), place));
      const coded = { kind: 'code', name } as const;
      if (!isConstant(code)) set(live, 'code', optionOf(ask(code, coded), coded));
      if (data === undefined) continue;
      const of = { kind: 'data', name } as const;
      const answer = ask(live.data, of);
      codec.encode(answer, said(of)); // `encodeError` would leave out what does not fit
      set(live, 'data', answer);
    }
    return plain.error(withIdentity(codec.encodeError(root), recorded));
  };
  return {
    value,
    error,
    text(text, place) {
      const answer = ask(text, place);
      if (place.kind === 'key') return textOf(answer, place);
      check(typeof answer === 'string', said(place), answer, 'a text');
      return answer;
    },
    option: (text, place) => optionOf(ask(text, place), place),
    number(number, place) {
      const answer = ask(number, place);
      check(Number.isFinite(answer), said(place), answer, 'a finite number');
      return answer as number;
    },
  };
}

/** An error that was alive no longer says which step it is of. */
const withIdentity = ({ cause, errors, ...rest }: RecordedError, was: RecordedError): RecordedError => ({
  ...rest,
  ...(was.identity && { identity: was.identity }),
  ...(was.isValue && { isValue: true }),
  ...(cause && { cause: withIdentity(cause, was.cause!) }),
  ...(errors && { errors: errors.map((each, index) => withIdentity(each, was.errors![index]!)) }),
});
