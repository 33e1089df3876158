import { isStepfastError, StepfastError } from '../errors.js';
import { endOf } from '../replay/glance.js';
import { FORMAT_VERSION, type JournalEntry, type RecordedError } from '../store/journal.js';
import { isOurs, isText, MAX_NAME, quoted } from '../values/check.js';
import type { Codec } from '../values/codec.js';
import type { Json } from '../values/json.js';
import type { ExportedRow, ExportedRun } from './words.js';

/*
 * Whether something is an exported run: looked at field by field before anything of it is stored. A field that is not
 * known here is refused too: it may mean something.
 */

type Check = (value: unknown) => boolean;
type Fields<T> = { readonly [Field in keyof T]-?: Check };
type EntryOf<K extends JournalEntry['kind']> = Extract<JournalEntry, { readonly kind: K }>;
/** The compiler sees to it that no kind and no field is forgotten. */
type Kinds = { readonly [K in JournalEntry['kind']]: Fields<Omit<EntryOf<K>, 'kind' | 'at'>> };

const text: Check = (value) => typeof value === 'string';
const name: Check = (value) => isText(value, MAX_NAME) && !isOurs(value);
const id: Check = (value) => isText(value, MAX_NAME);
/** Of any length. */
const filled: Check = (value) => isText(value, Infinity);
const number: Check = (value) => Number.isFinite(value);
const count: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
const positive: Check = (value) => count(value) && value !== 0;
const yes: Check = (value) => value === true;
const oneOf =
  (...values: readonly unknown[]): Check =>
  (value) =>
    values.includes(value);
const maybe =
  (check: Check): Check =>
  (value) =>
    value === undefined || check(value);
const list =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(check);
const tuple =
  (...checks: readonly Check[]): Check =>
  (value) =>
    Array.isArray(value) && value.length === checks.length && checks.every((check, index) => check(value[index]));
/** The first field that does not fit, `undefined` if all do. */
function misfit(value: object, fields: { readonly [field: string]: Check }): string | undefined {
  for (const field of Object.keys(value)) if (!Object.hasOwn(fields, field)) return field;
  return Object.keys(fields).find((field) => !fields[field]!((value as { [field: string]: unknown })[field]));
}
const isObject = (value: unknown): value is { readonly [key: string]: unknown } =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const object =
  (fields: { readonly [field: string]: Check }): Check =>
  (value) =>
    isObject(value) && misfit(value, fields) === undefined;

const namespace = oneOf('step', 'wait');
const identity = tuple(text, positive);
const namespaced = tuple(namespace, text, positive);
const word = maybe(oneOf('dispatch', 'start', 'call', 'transaction'));
const STATUSES = 'scheduled queued running retrying sleeping waiting completed failed cancelled'.split(' ');

const waitFields = {
  id: identity,
  events: list(name),
  key: maybe(filled),
  lookbackFrom: maybe(number),
  deadline: maybe(number),
} satisfies Fields<ExportedRow['waits'][number]>;

function fieldsFor(codec: Codec) {
  const attempt = (use: () => unknown) => {
    try {
      use();
      return true;
    } catch (error) {
      if (isStepfastError(error, 'VALUE_TOO_LARGE')) throw error; // unchanged, but from an engine with another limit
      return false; // whoever asks says where
    }
  };
  const value: Check = (json) =>
    json !== undefined && attempt(() => codec.encode(codec.decode(json as Json), 'a value of the exported run'));
  const hasErrorShape: Check = (given) => object(errorFields)(given);
  const errorFields: Fields<RecordedError> = {
    name: text,
    message: text,
    code: maybe((code) => text(code) || number(code)),
    stack: maybe(text),
    data: () => true, // decoded with the error
    isValue: maybe(yes),
    cause: maybe(hasErrorShape),
    errors: maybe(list(hasErrorShape)),
    step: maybe(text),
    identity: maybe(namespaced),
  };
  const error: Check = (given) => hasErrorShape(given) && attempt(() => codec.decodeError(given as RecordedError));
  const outcome = { id: identity, asked: count, before: maybe(count) };
  const failedAttempt = { id: identity, attempt: positive, error };
  const entries: Kinds = {
    started: {
      payload: value,
      given: maybe(value),
      retry: maybe(value),
      nonce: maybe(text),
      generation: maybe(count),
      floors: maybe(list(tuple(text, count))),
      left: maybe(list(tuple(text, list(count)))),
      schedule: maybe(object({ name, tick: number, missed: count })),
      forkedFrom: maybe(object({ runId: id, before: text })),
    },
    rescheduled: { payload: value, given: maybe(value), dueAt: number },
    imported: { from: maybe(id) },
    claimed: { owner: text, fence: count, interrupted: maybe(yes) },
    released: { blocked: maybe(yes) },
    'step-completed': { ...outcome, attempt: positive, value, word },
    'step-failed': { ...outcome, attempt: positive, error, word, isUnknown: maybe(yes) },
    'value-made': { ...outcome, word: oneOf('now', 'uuid', 'random'), value },
    'sleep-ended': outcome,
    'event-taken': {
      ...outcome,
      seq: count,
      eventId: text,
      event: name,
      key: maybe(text),
      payload: value,
      acceptedAt: number,
      over: maybe(list(count)),
    },
    'wait-timed-out': { ...outcome, deadline: number },
    'child-completed': { ...outcome, runId: id, value },
    'child-failed': { ...outcome, runId: id, error },
    'attempt-failed': { ...failedAttempt, retryAt: number, word, isUnknown: maybe(yes) },
    'child-set': { id: identity, runId: id, job: name },
    'undo-set': { id: identity, idempotencyKey: maybe(text), isUnknown: maybe(yes) },
    undone: { id: identity, attempt: positive },
    'undo-attempt-failed': { ...failedAttempt, retryAt: number },
    'undo-failed': failedAttempt,
    logged: {
      level: oneOf('debug', 'info', 'warn', 'error'),
      message: text,
      data: maybe(value),
      id: maybe(identity),
      earlier: maybe(yes),
    },
    'state-incremented': { id: identity, key: text, nth: count, value: number },
    progressed: { id: identity },
    'event-skipped': { id: identity, seq: count, eventId: text, event: name, reason: text },
    'sleep-set': { id: identity, dueAt: number },
    'wait-set': { ...waitFields, onTimeout: oneOf('fail', 'continue', 'cancel') },
    'handler-failed': { attempt: positive, error, retryAt: number },
    drift: { ids: list(namespaced), slack: number },
    upgraded: {
      from: positive,
      to: positive,
      payload: maybe(value),
      renames: maybe(list(tuple(text, text))),
      forgets: maybe(list(text)),
    },
    retried: { forgets: list(namespaced), rejoins: maybe(list(namespaced)) },
    completed: { value },
    failed: { error },
    cancelled: {},
  };
  const row: Fields<ExportedRow> = {
    runId: id,
    job: name,
    queue: name,
    version: positive,
    status: oneOf(...STATUSES),
    createdAt: number,
    startedAt: maybe(number),
    endedAt: maybe(number),
    dueAt: maybe(number),
    waits: list(object(waitFields)),
    awaits: maybe(list(id)),
    progress: maybe(value),
    undoable: maybe(yes),
    undoing: maybe(yes),
    idempotencyKey: maybe(text),
    keyUntil: maybe(number),
    parentId: maybe(id),
    tags: maybe(list(filled)),
    priority: maybe((given) => Number.isSafeInteger(given)),
    unique: maybe(object({ key: text, until: oneOf('start', 'end') })),
  };
  return { entries, row };
}

/** What the app has put there: not for messages, which end up in logs. */
const IS_OF_APP = /\.(payload|given|value|error|progress)$/;

function refuse(path: string, value: unknown): never {
  const shown = IS_OF_APP.test(path) ? 'can not be read' : `is ${quoted(value)}`;
  const message = `${path} of the exported run ${shown}. Give what runs.export made, unchanged.`;
  throw new StepfastError('INVALID_PAYLOAD', message, { path });
}

/** A copy of what is an exported run, or the refusal of what is not. */
export function readExported(given: unknown, codec: Codec): ExportedRun {
  const copy = copyOf(given);
  if (!isObject(copy)) refuse('$', given);
  const { stepfast, format, run, journal } = copy;
  for (const [field, version, known] of [
    ['stepfast', stepfast, 1],
    ['format', format, FORMAT_VERSION],
  ] as const) {
    if (!positive(version)) refuse(`$.${field}`, version);
    if ((version as number) > known)
      throw new StepfastError(
        'STORE_TOO_NEW',
        `The run was exported by a newer stepfast (${field} ${version}; known here: ${known}). Update stepfast to import it.`,
      );
  }
  const fields = fieldsFor(codec);
  if (!isObject(run)) refuse('$.run', run);
  const wrong = misfit(run, fields.row);
  if (wrong !== undefined) refuse(`$.run.${wrong}`, run[wrong]);
  checkJournal(journal, fields.entries);
  const exported = copy as unknown as ExportedRun;
  const { status, endedAt, undoing } = exported.run;
  const end = endOf(exported.journal);
  const isEnded = STATUSES.indexOf(status) >= STATUSES.indexOf('completed');
  if (isEnded ? end?.kind !== status : end) refuse('$.run.status', status);
  if (isEnded !== (endedAt !== undefined)) refuse('$.run.endedAt', endedAt);
  if (undoing && !isEnded) refuse('$.run.undoing', undoing);
  return exported;
}

/** Plain data of its own; `undefined` for what is none. */
function copyOf(given: unknown): unknown {
  try {
    return JSON.parse(JSON.stringify(given));
  } catch {
    return undefined; // a cycle, a bigint, a getter that throws: refused by the caller
  }
}

function checkJournal(journal: unknown, entries: Kinds): void {
  if (!Array.isArray(journal) || !journal.length) refuse('$.journal', journal);
  for (const [index, entry] of journal.entries()) {
    const path = `$.journal[${index}]`;
    if (!isObject(entry)) refuse(path, entry);
    const { kind } = entry;
    const known = typeof kind === 'string' && Object.hasOwn(entries, kind);
    if (!known || (kind === 'started') !== (index === 0)) refuse(`${path}.kind`, kind);
    const bad = misfit(entry, { kind: text, at: number, ...entries[kind as JournalEntry['kind']] });
    if (bad !== undefined) refuse(`${path}.${bad}`, entry[bad]);
  }
}

/** Refuses what `replay` of `stepfast/testing` can not read: of the row it needs little. */
export function checkReplayable(given: unknown, codec: Codec): void {
  if (!isObject(given)) refuse('$', given);
  const { format, run, journal } = given;
  if (!positive(format)) refuse('$.format', format);
  if (!isObject(run)) refuse('$.run', run);
  const { row, entries } = fieldsFor(codec);
  for (const field of ['runId', 'job', 'version', 'createdAt', 'tags'] as const)
    if (!row[field](run[field])) refuse(`$.run.${field}`, run[field]);
  checkJournal(journal, entries);
}
