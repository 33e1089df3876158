import { describe, expect, it } from 'vitest';
import { checkReplayable, readExported } from '../src/engine/exported.js';
import { createCodec } from '../src/values/codec.js';

// Pins: every field of an exported run is looked at before anything of it is stored: what fits is taken as it is, what does
// not is refused by its path (spec B).

/** What a field may be, what it may not be, and whether it may be missing. The first that it may be stands in examples. */
interface Field {
  readonly good: readonly unknown[];
  readonly bad: readonly unknown[];
  readonly isOptional?: true;
}
type Fields = { readonly [field: string]: Field };

const long = 'x'.repeat(256);
const text: Field = { good: ['t', '', `${long}x`], bad: [7, null, {}, ['t']] };
const name: Field = { good: ['n', long], bad: ['', `${long}x`, 'stepfast:n', 7, null, ['n']] };
const id: Field = { good: ['i', long, 'stepfast:i'], bad: ['', `${long}x`, 7, null, ['i']] };
const filled: Field = { good: ['f', `${long}x`], bad: ['', 7, null, ['f']] };
const number: Field = { good: [5, 0, -1, 1.5], bad: ['5', null, {}, true] };
const count: Field = { good: [3, 0], bad: [-1, 1.5, 2 ** 53, '3', null] };
const positive: Field = { good: [2, 1], bad: [0, -1, 1.5, '2', null] };
const yes: Field = { good: [true], bad: [false, 1, 'true', null] };
const value: Field = { good: [{ a: 1 }, null, 0, 'v', [1]], bad: [{ $: ['ref', 99] }, { $: 1 }] };
const maybe = (field: Field): Field => ({ ...field, isOptional: true });
const oneOf = (...good: readonly unknown[]): Field => ({ good, bad: ['', 'other', 7, null, good] });
/** A list of these, of any length. */
const list = ({ good, bad }: Field): Field => ({
  good: [[good[0], good.at(-1)], []],
  bad: [...bad.map((each) => [good[0], each]), good[0], null, { 0: good[0], length: 1 }, 7],
});
/** A list of one each. */
const tuple = (...fields: readonly Field[]): Field => {
  const first = fields.map(({ good }) => good[0]);
  const put = (each: unknown, index: number) => first.map((other, at) => (at === index ? each : other));
  return {
    good: [first, ...fields.flatMap(({ good }, index) => good.map((each) => put(each, index)))],
    bad: [
      ...fields.flatMap((field, index) => field.bad.map((each) => put(each, index))),
      ...[first.slice(1), [...first, first[0]], [], null, 'x', { ...first }],
    ],
  };
};
const exampleOf = (fields: Fields) =>
  Object.fromEntries(Object.entries(fields).map(([key, { good }]) => [key, good[0]]));
const object = (fields: Fields): Field => {
  const first = exampleOf(fields) as { readonly [key: string]: unknown };
  const entries = Object.entries(fields);
  const without = (key: string) => Object.fromEntries(Object.entries(first).filter(([each]) => each !== key));
  const missing = (isOptional: boolean) => entries.filter(([, field]) => !!field.isOptional === isOptional);
  return {
    good: [
      first,
      ...entries.flatMap(([key, { good }]) => good.map((each) => ({ ...first, [key]: each }))),
      ...missing(true).map(([key]) => without(key)),
    ],
    bad: [
      ...entries.flatMap(([key, { bad }]) => bad.map((each) => ({ ...first, [key]: each }))),
      ...missing(false).map(([key]) => without(key)),
      ...[{ ...first, unknown: 1 }, [first], null, 7, 'x'],
    ],
  };
};

const namespace = oneOf('step', 'wait');
const identity = tuple(text, positive);
const namespaced = tuple(namespace, text, positive);
const errorFields: Fields = {
  name: text,
  message: text,
  code: { good: ['E', 7], bad: [null, {}, true], isOptional: true },
  stack: maybe(text),
  data: { good: [{ a: 1 }], bad: [{ $: ['ref', 99] }], isOptional: true },
  isValue: maybe(yes),
  step: maybe(text),
  identity: maybe(namespaced),
};
const inner = object(errorFields);
const plain = { name: 'Error', message: 'm' };
const error: Field = object({
  ...errorFields,
  cause: {
    good: [plain, { ...plain, cause: plain }],
    bad: [null, 'x', [plain], { name: 'Error' }, { ...plain, cause: { name: 1, message: '' } }, { ...plain, more: 1 }],
    isOptional: true,
  },
  errors: { good: [[plain, plain], []], bad: [null, plain, [plain, 'x'], [{ message: 'm' }]], isOptional: true },
});
const word = maybe(oneOf('dispatch', 'start', 'call', 'transaction'));
const waitFields: Fields = {
  ...{ id: identity, events: list(name), key: maybe(filled) },
  ...{ lookbackFrom: maybe(number), deadline: maybe(number) },
};
const outcome: Fields = { id: identity, asked: count, before: maybe(count) };
const failedAttempt: Fields = { id: identity, attempt: positive, error };

const STARTED: Fields = {
  payload: value,
  given: maybe(value),
  retry: maybe(value),
  nonce: maybe(text),
  generation: maybe(count),
  floors: maybe(list(tuple(text, count))),
  left: maybe(list(tuple(text, list(count)))),
  schedule: maybe(object({ name, tick: number, missed: count })),
  forkedFrom: maybe(object({ runId: id, before: text })),
};
const ENTRIES: { readonly [kind: string]: Fields } = {
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
    ...{ seq: count, eventId: text, event: name, key: maybe(text), payload: value, acceptedAt: number },
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
    ...{ message: text, data: maybe(value), id: maybe(identity), earlier: maybe(yes) },
  },
  'state-incremented': { id: identity, key: text, nth: count, value: number },
  progressed: { id: identity },
  'event-skipped': { id: identity, seq: count, eventId: text, event: name, reason: text },
  'sleep-set': { id: identity, dueAt: number },
  'wait-set': { ...waitFields, onTimeout: oneOf('fail', 'continue', 'cancel') },
  'handler-failed': { attempt: positive, error, retryAt: number },
  drift: { ids: list(namespaced), slack: number },
  upgraded: {
    ...{ from: positive, to: positive, payload: maybe(value) },
    ...{ renames: maybe(list(tuple(text, text))), forgets: maybe(list(text)) },
  },
  retried: { forgets: list(namespaced), rejoins: maybe(list(namespaced)) },
  completed: { value },
  failed: { error },
  cancelled: {},
};
const ROW: Fields = {
  runId: id,
  job: name,
  queue: name,
  version: positive,
  status: oneOf('waiting', 'scheduled', 'queued', 'running', 'retrying', 'sleeping'),
  createdAt: number,
  startedAt: maybe(number),
  dueAt: maybe(number),
  waits: list(object(waitFields)),
  awaits: maybe(list(id)),
  progress: maybe(value),
  undoable: maybe(yes),
  idempotencyKey: maybe(text),
  keyUntil: maybe(number),
  parentId: maybe(id),
  tags: maybe(list(filled)),
  priority: { good: [-3, 0, 4], bad: [1.5, '1', null], isOptional: true },
  unique: maybe(object({ key: text, until: oneOf('start', 'end') })),
};

const codec = createCodec();
const at = 1_000;
const started = { kind: 'started', at, payload: null };
const row = { runId: 'r', job: 'j', queue: 'q', version: 1, status: 'waiting', createdAt: at, waits: [] };
const exportedOf = (run: object = row, journal: unknown = [started], more: object = {}): unknown => ({
  ...{ stepfast: 1, format: 1, run, journal },
  ...more,
});
/** Where it is refused, `undefined` if it is taken; it is taken as it is. */
function refusalOf(given: unknown): unknown {
  let read: unknown;
  try {
    read = readExported(given, codec);
  } catch (refused) {
    const { code, path } = refused as { readonly code: string; readonly path?: string };
    return [code, path];
  }
  expect(read).toEqual(given);
  return undefined;
}
const refused = (path: string) => ['INVALID_PAYLOAD', path];
const isEnd = (kind: string) => ['completed', 'failed', 'cancelled'].includes(kind);

/** Each field as good as it may be, as bad as it may not, missing, and one too many; `put` makes an exported run of them. */
function expectFields(fields: Fields, path: string, put: (record: object) => unknown): void {
  const first = exampleOf(fields) as { readonly [key: string]: unknown };
  expect(refusalOf(put(first))).toBeUndefined();
  for (const [key, { good, bad, isOptional }] of Object.entries(fields)) {
    for (const each of good)
      expect([key, each, refusalOf(put({ ...first, [key]: each }))]).toEqual([key, each, undefined]);
    for (const each of bad)
      expect([key, each, refusalOf(put({ ...first, [key]: each }))]).toEqual([key, each, refused(`${path}.${key}`)]);
    const { [key]: _, ...without } = first;
    expect([key, refusalOf(put(without))]).toEqual([key, isOptional ? undefined : refused(`${path}.${key}`)]);
  }
  expect(refusalOf(put({ ...first, unknown: 1 }))).toEqual(refused(`${path}.unknown`));
}

describe('an exported run', () => {
  it('B: each field of its row is looked at', () => {
    expectFields(ROW, '$.run', (record) => exportedOf(record));
  });

  it('B: each field of its first entry is looked at', () => {
    expectFields({ at: number, ...STARTED }, '$.journal[0]', (record) =>
      exportedOf(row, [{ kind: 'started', ...record }]),
    );
  });

  it.each(Object.entries(ENTRIES))('B: each field of an entry %s is looked at', (kind, fields) => {
    const run = isEnd(kind) ? { ...row, status: kind, endedAt: at } : row;
    expectFields({ at: number, ...fields }, '$.journal[1]', (record) =>
      exportedOf(run, [started, { kind, ...record }]),
    );
  });

  it('B: an error is looked at as deep as it goes', () => {
    for (const each of inner.good) {
      const cause = { ...plain, cause: each, errors: [each] };
      expect(
        refusalOf(exportedOf(row, [started, { kind: 'handler-failed', at, attempt: 1, retryAt: 1, error: cause }])),
      ).toBe(undefined);
    }
    for (const each of inner.bad.filter((bad) => bad !== undefined))
      for (const bad of [
        { ...plain, cause: { ...plain, cause: each } },
        { ...plain, errors: [plain, each] },
      ])
        expect([
          bad,
          refusalOf(exportedOf(row, [started, { kind: 'handler-failed', at, attempt: 1, retryAt: 1, error: bad }])),
        ]).toEqual([bad, refused('$.journal[1].error')]);
  });

  it('B: is an object with a version of its own and of its records, a row and a journal', () => {
    for (const given of [undefined, null, 7, '{}', [], [exportedOf()], () => 1, 1n])
      expect(refusalOf(given)).toEqual(refused('$'));
    const circle: { [key: string]: unknown } = {};
    circle.self = circle;
    expect(refusalOf(circle)).toEqual(refused('$'));
    for (const field of ['stepfast', 'format'])
      for (const version of [undefined, null, 0, -1, 1.5, '1'])
        expect(refusalOf(exportedOf(row, [started], { [field]: version }))).toEqual(refused(`$.${field}`));
    for (const run of [null, 'r', [row]]) expect(refusalOf(exportedOf(run as never))).toEqual(refused('$.run'));
    expect(refusalOf({ stepfast: 1, format: 1, journal: [started] })).toEqual(refused('$.run'));
  });

  it('B: begins with its start, has no other, and has entries of known kinds alone', () => {
    for (const journal of [null, 'x', {}, [], 7])
      expect(refusalOf(exportedOf(row, journal))).toEqual(refused('$.journal'));
    for (const entry of [null, 'started', [], 7]) {
      expect(refusalOf(exportedOf(row, [entry]))).toEqual(refused('$.journal[0]'));
      expect(refusalOf(exportedOf(row, [started, entry]))).toEqual(refused('$.journal[1]'));
    }
    const cases = [[{ kind: 'imported', at }], [started, started], [started, { kind: 'x', at }]];
    const paths = cases.map((journal) => refusalOf(exportedOf(row, journal)));
    expect(paths).toEqual(['$.journal[0].kind', '$.journal[1].kind', '$.journal[1].kind'].map(refused));
    for (const kind of ['toString', '__proto__', 7, null, ['imported'], undefined])
      expect(refusalOf(exportedOf(row, [started, { kind, at }]))).toEqual(refused('$.journal[1].kind'));
  });

  it('B: says what it refuses, and what to give instead', () => {
    const read = () => readExported(exportedOf({ ...row, version: 'two' }), codec);
    expect(read).toThrow('$.run.version of the exported run is "two"');
    expect(read).toThrow('runs.export');
  });

  it('V4: shows nothing that the app has put there', () => {
    const read = () => readExported(exportedOf(row, [{ ...started, payload: { $: 'a secret' } }]), codec);
    expect(read).toThrow('$.journal[0].payload of the exported run can not be read.');
    expect(read).not.toThrow('secret');
  });

  it('D7: says of a value that is over the limit here what it is, not that it was changed', () => {
    const small = createCodec({ maxBytes: 100 });
    const read = () => readExported(exportedOf(row, [{ ...started, payload: 'secret '.repeat(40) }]), small);
    expect(read).toThrow(expect.objectContaining({ code: 'VALUE_TOO_LARGE' }));
    expect(read).toThrow('a value of the exported run: $ goes over the limit of 100 bytes');
    expect(read).not.toThrow('secret');
  });

  it('D4: of a newer format is refused as such, and says which', () => {
    const read = (more: object) => () => readExported(exportedOf(row, [started], more), codec);
    const tooNew = (said: string) =>
      expect.objectContaining({ code: 'STORE_TOO_NEW', message: expect.stringContaining(said) });
    expect(read({ format: 2 })).toThrow(tooNew('format 2'));
    expect(read({ stepfast: 3 })).toThrow(tooNew('stepfast 3'));
  });

  it('is copied: what becomes of what was given changes nothing', () => {
    const given = exportedOf({ ...row, tags: ['a'] }) as { run: { tags: string[] } };
    const read = readExported(given, codec);
    given.run.tags.push('b');
    expect(read.run.tags).toEqual(['a']);
  });
});

describe('the end of an exported run', () => {
  const ends = [
    { kind: 'completed', at, value: 1 },
    { kind: 'failed', at, error: plain },
    { kind: 'cancelled', at },
  ];
  const ended = (status: string) => ({ ...row, status, endedAt: at });

  it('B: is the one that its journal has', () => {
    for (const end of ends) {
      expect(refusalOf(exportedOf(ended(end.kind), [started, end]))).toBeUndefined();
      expect(refusalOf(exportedOf(ended(end.kind), [started]))).toEqual(refused('$.run.status'));
      for (const other of ends.filter(({ kind }) => kind !== end.kind))
        expect(refusalOf(exportedOf(ended(end.kind), [started, other]))).toEqual(refused('$.run.status'));
    }
  });

  it.each([
    'scheduled',
    'queued',
    'running',
    'retrying',
    'sleeping',
    'waiting',
  ])('B: is none of a run that is %s', (status) => {
    expect(refusalOf(exportedOf({ ...row, status }))).toBeUndefined();
    for (const end of ends)
      expect(refusalOf(exportedOf({ ...row, status }, [started, end]))).toEqual(refused('$.run.status'));
    expect(refusalOf(exportedOf(ended(status)))).toEqual(refused('$.run.endedAt'));
    const again = [started, ends[1], { kind: 'retried', at, forgets: [] }];
    expect(refusalOf(exportedOf({ ...row, status }, again))).toBeUndefined();
  });

  it('B: has its instant; only behind it there is something to undo', () => {
    const journal = [started, ends[2]];
    expect(refusalOf(exportedOf({ ...row, status: 'cancelled' }, journal))).toEqual(refused('$.run.endedAt'));
    expect(refusalOf(exportedOf({ ...ended('cancelled'), endedAt: '5' }, journal))).toEqual(refused('$.run.endedAt'));
    expect(refusalOf(exportedOf({ ...ended('cancelled'), undoing: true }, journal))).toBeUndefined();
    expect(refusalOf(exportedOf({ ...ended('cancelled'), undoing: false }, journal))).toEqual(refused('$.run.undoing'));
    expect(refusalOf(exportedOf({ ...row, undoing: true }))).toEqual(refused('$.run.undoing'));
  });
});

describe('what can be replayed', () => {
  const pathOf = (given: unknown) => {
    try {
      return checkReplayable(given, codec);
    } catch (error) {
      return (error as { readonly path: string }).path;
    }
  };

  it('needs a format, who the run is, and a journal that can be read; nothing else of its row', () => {
    const run = { runId: 'r', job: 'j', version: 1, createdAt: at };
    expect(pathOf({ format: 1, run, journal: [started] })).toBeUndefined();
    expect(
      pathOf({ format: 9, run: { ...run, tags: ['t'], more: 1, status: 'x' }, journal: [started] }),
    ).toBeUndefined();
    for (const given of [undefined, null, 'x', []]) expect(pathOf(given)).toBe('$');
    for (const format of [undefined, 0, '1']) expect(pathOf({ format, run, journal: [started] })).toBe('$.format');
    for (const bad of [undefined, null, 'r', [run]])
      expect(pathOf({ format: 1, run: bad, journal: [started] })).toBe('$.run');
    for (const field of ['runId', 'job', 'version', 'createdAt', 'tags'])
      expect(pathOf({ format: 1, run: { ...run, [field]: null }, journal: [started] })).toBe(`$.run.${field}`);
    expect(pathOf({ format: 1, run, journal: [] })).toBe('$.journal');
    expect(pathOf({ format: 1, run, journal: [started, { kind: 'sleep-set', at, id: ['s', 1] }] })).toBe(
      '$.journal[1].dueAt',
    );
  });
});
