import type { JournalEntry } from '../../store/journal.js';
import type { Store } from '../../store/store.js';
import type { Json } from '../../values/json.js';
import {
  caseGroup,
  claim,
  claimed,
  commit,
  dispatch,
  due,
  eventsOf,
  load,
  newEvent,
  newRun,
  now,
  openWait,
  running,
  start,
  started,
  stepped,
  wait,
} from './env.js';
import { equal, hostileStrings, range } from './kit.js';

const { cases, fact } = caseGroup('journals and values');

/** The cases about what was given coming back exactly, and as a copy (spec D7; rule S6). */
export const values = cases;

const nested = (depth: number): Json =>
  range(depth).reduce<Json>((inner, level) => (level % 2 ? [inner] : { a: inner }), 1);

/** Own keys that are names of the prototype: an object literal would set the prototype instead. */
const keyed = (text: string): Json => JSON.parse(text);

const corpus: { readonly [kind: string]: Json } = {
  'empty things': ['', [], {}, [[]], [{}], { '': '' }, [null], null],
  'booleans and nulls': [true, false, null, { a: null, b: false }],
  'numbers at the edges': [
    0,
    1,
    -1,
    0.1,
    0.30000000000000004,
    1e21,
    1e-7,
    5e-324,
    1.7976931348623157e308,
    2 ** 53,
    -(2 ** 53) - 2,
    now,
  ],
  'strings that look like something else': [
    'null',
    'true',
    '1',
    '{}',
    '[]',
    '"',
    '\\',
    '\\u0000',
    '2026-01-01T00:00:00.000Z',
  ],
  'control characters': range(32).map((code) => String.fromCharCode(code)),
  'unicode of all planes': [
    '\u00e9',
    'e\u0301',
    '\u{1f600}',
    '\u{10ffff}',
    '\ufffe',
    '\uffff',
    '\u2028\u2029',
    '\ufeff',
  ],
  'lone surrogates': ['\ud800', '\udfff', 'a\ud83dz', '\ude00\ud83d', { '\ud800': '\udc00' }],
  'own keys that are names of prototypes': keyed(
    '{"__proto__":{"x":1},"constructor":{"prototype":{}},"toString":1,"hasOwnProperty":null}',
  ),
  'an own __proto__ key deep inside': keyed('[{"a":{"__proto__":[1],"b":{"__proto__":null}}}]'),
  'keys that are numbers': keyed('{"2":"b","1":"a","-1":"c","01":"d","1.5":"e"}'),
  'two hundred levels': nested(200),
  'hostile strings as values and keys': hostileStrings.map((text) =>
    keyed(`{${JSON.stringify(text)}:${JSON.stringify(text)}}`),
  ),
};

for (const [kind, value] of Object.entries(corpus))
  fact(`${kind} come back as they were given`, async ({ open }) => {
    const store = await open();
    await start(store, 'r', { entries: [started(value)] });
    await commit(store, { run: claim('r', 0, 'a', { append: [stepped('s', value)] }) });
    await dispatch(store, 'e', { payload: value });
    const expected = [started(value), stepped('s', value)];
    equal((await load(store, 'r')).journal, expected, 'the journal');
    equal((await eventsOf(store))[0]?.payload, value, 'the payload of the event');
    equal((await dispatch(store, 'e', { payload: 0 })).payload, value, 'the payload in a repeated receipt');
    await store.close();
    equal((await load(await open(), 'r')).journal, expected, 'the journal when opened again');
  });

fact(
  'the keys of objects keep their order, by which what is shared in a value is told apart (rule S6, spec D7)',
  async ({ open }) => {
    const value = { zebra: 1, a: { mm: [{ y: 1, b: 2 }], c: 3 }, bb: 4, '': 5 };
    const text = JSON.stringify(value);
    const inOrder = (found: unknown, what: string) => equal(JSON.stringify(found), text, what);
    const store = await open();
    await start(store, 'r', { entries: [started(value)] });
    await commit(store, {
      run: claim('r', 0, 'a', { append: [stepped('s', value)], state: running('a', { progress: value }) }),
      state: [{ kind: 'set', key: 'k', value }],
    });
    await dispatch(store, 'e', { payload: value });
    await store.close();
    const again = await open();
    const { row, journal } = await load(again, 'r');
    const [first, second] = journal as readonly { readonly payload?: Json; readonly value?: Json }[];
    inOrder(first?.payload, 'the payload of the run');
    inOrder(second?.value, 'the value of a step');
    inOrder(row.progress, 'the progress in the row');
    inOrder((await again.state('k'))?.value, 'a value of the shared state');
    inOrder((await eventsOf(again))[0]?.payload, 'the payload of an event');
  },
);

fact('a string of 1 MiB comes back whole', async ({ open }) => {
  const store = await open();
  const text = '0123456789\u00e9\u{1f600}\ud800'.repeat(75_000);
  await start(store, 'r', { entries: [started(text)] });
  await dispatch(store, 'e', { payload: text });
  await store.close();
  const again = await open();
  equal((await load(again, 'r')).journal, [started(text)], 'the journal');
  equal((await eventsOf(again))[0]?.payload === text, true, 'whether the payload of the event is equal');
});

fact('an array of 20,000 elements comes back whole', async ({ open }) => {
  const store = await open();
  const value = range(20_000).map((index) => (index % 3 ? index : { [`k${index}`]: `${index}` }));
  await start(store, 'r', { entries: [started(value)] });
  equal((await load(store, 'r')).journal, [started(value)], 'the journal');
});

fact('every kind of journal entry comes back as it was given', async ({ open }) => {
  const store = await open();
  const at = now;
  const id = ['s', 2] as const;
  const error = {
    name: 'Error',
    message: 'no',
    code: 'E',
    stack: 's',
    data: { a: 1 },
    cause: { name: 'A', message: '' },
  };
  const append: readonly JournalEntry[] = [
    { kind: 'claimed', at, owner: 'a', fence: 1, interrupted: true },
    { kind: 'step-completed', at, id, asked: 3, before: 4, attempt: 2, value: { v: [] } },
    { kind: 'step-failed', at, id, asked: 3, attempt: 2, error: { ...error, errors: [error], step: 's' } },
    { kind: 'sleep-set', at, id, dueAt: at + 5 },
    { kind: 'sleep-ended', at, id, asked: 0 },
    { kind: 'wait-set', at, id, events: ['e', 'f'], key: 'k', deadline: at, onTimeout: 'continue', lookbackFrom: 0 },
    { kind: 'event-taken', at, id, asked: 1, seq: 9, eventId: 'e', event: 'n', key: 'k', payload: [1], acceptedAt: at },
    { kind: 'wait-timed-out', at, id, asked: 1, deadline: at },
    { kind: 'attempt-failed', at, id, attempt: 1, error, retryAt: at + 1, isUnknown: true },
    { kind: 'handler-failed', at, attempt: 1, error, retryAt: at + 1 },
    { kind: 'drift', at, ids: [['wait', 'w', 1]], slack: 0 },
    { kind: 'retried', at, forgets: [['step', 's', 2]] },
    { kind: 'released', at },
    { kind: 'value-made', at, id, asked: 1, word: 'uuid', value: 'u' },
    { kind: 'child-set', at, id, runId: 'c', job: 'j' },
    { kind: 'child-completed', at, id, asked: 1, runId: 'c', value: [1] },
    { kind: 'child-failed', at, id, asked: 1, runId: 'c', error },
    { kind: 'undo-set', at, id },
    { kind: 'undo-set', at, id, idempotencyKey: 'r/0/a/1', isUnknown: true },
    { kind: 'undo-attempt-failed', at, id, attempt: 1, error, retryAt: at + 1 },
    { kind: 'undo-failed', at, id, attempt: 2, error },
    { kind: 'undone', at, id, attempt: 3 },
    { kind: 'logged', at, level: 'warn', message: 'm', data: { d: 1 }, id },
    { kind: 'logged', at, level: 'info', message: 'm', earlier: true },
    { kind: 'state-incremented', at, id, key: 'k', nth: 1, value: 2.5 },
    { kind: 'progressed', at, id },
    { kind: 'event-skipped', at, id, seq: 3, eventId: 'e', event: 'n', reason: 'r' },
    { kind: 'rescheduled', at, payload: [1], given: [2], dueAt: at + 1 },
    { kind: 'imported', at, from: 'r' },
    { kind: 'released', at, blocked: true },
    { kind: 'failed', at, error },
    { kind: 'cancelled', at },
    { kind: 'completed', at, value: null },
  ];
  const first: JournalEntry = {
    kind: 'started',
    at,
    payload: 1,
    given: { g: 1 },
    retry: { maxAttempts: 2 },
    generation: 2,
    floors: [['["event"]', 4]],
    left: [['["event"]', [2, 3]]],
    schedule: { name: 's', tick: 7, missed: 1 },
    forkedFrom: { runId: 'f', before: 'b' },
  };
  await start(store, 'r', { entries: [first] });
  await commit(store, { run: claim('r', 0, 'a', { append }) });
  await store.close();
  equal((await load(await open(), 'r')).journal, [first, ...append], 'the journal');
});

fact('a journal of 1,000 entries loads in order', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const entries = range(1000).map((index) => stepped(`s${index}`, index));
  await commit(store, { run: { runId: 'r', fence: 1, append: entries, state: running() } });
  await store.close();
  equal((await load(await open(), 'r')).journal.slice(2), entries, 'the journal');
});

fact('a journal of 300 commits loads in order', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r', 'other');
  const entries = range(300).map((index) => stepped(`s${index}`, index));
  for (const entry of entries)
    await commit(store, { run: { runId: 'r', fence: 1, append: [entry], state: running() } });
  equal((await load(store, 'r')).journal.slice(2), entries, 'the journal');
  await store.close();
  const again = await open();
  equal((await load(again, 'r')).journal.slice(2), entries, 'the journal when opened again');
  equal((await load(again, 'other')).journal.length, 2, 'the length of the other journal');
});

/** Changes everything inside that can be changed. */
const scribble = (value: unknown): void => {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return;
  for (const inner of Object.values(value)) scribble(inner);
  Object.assign(value, { scribbled: 'x' });
  if (Array.isArray(value)) value.length = 0;
};

/** Run `r` with waits, tags and values, an event, and a page of due work: everything that could be shared. */
async function fill(store: Store) {
  const payload = { list: [1, { a: 2 }] };
  const starts = [newRun('r', { tags: ['t'], entries: [started(payload)] })];
  await commit(store, { starts });
  const append = [stepped('s', { b: [3] })];
  const waits = [openWait({ events: ['event', 'other'] })];
  const run = claim('r', 0, 'a', { append, state: { ...running(), status: 'waiting', waits } });
  await commit(store, { run });
  const events = [newEvent('e', { payload: { c: [4] } })];
  await commit(store, { events });
  return { starts, run, events };
}

const everything = async (store: Store) =>
  structuredClone([await load(store, 'r'), await due(store), await store.list({ limit: 9 })]);

fact('changing what was given changes nothing stored', async ({ open }) => {
  const store = await open();
  const given = await fill(store);
  const before = await everything(store);
  scribble(given);
  equal(await everything(store), before, 'what is stored');
});

fact('changing what was given before the commit is done changes nothing stored', async ({ open }) => {
  const store = await open();
  const payload = { a: [1] };
  const starts = [newRun('r', { tags: ['t'], entries: [started(payload)] })];
  const promise = store.commit({ now, starts });
  scribble(starts[0]!.entries);
  scribble(starts[0]!.tags);
  await promise;
  const { row, journal } = await load(store, 'r');
  equal([row.tags, journal], [['t'], [started({ a: [1] })]], 'what is stored');
});

fact('changing what was loaded changes nothing stored', async ({ open }) => {
  const store = await open();
  await fill(store);
  const before = await everything(store);
  scribble(await load(store, 'r'));
  equal(await everything(store), before, 'what is stored');
});

fact('changing a page of runs or of due work changes nothing stored', async ({ open }) => {
  const store = await open();
  await fill(store);
  const before = await everything(store);
  scribble(await store.list({ limit: 9 }));
  scribble(await due(store));
  equal(await everything(store), before, 'what is stored');
});

fact('changing an outcome changes nothing stored', async ({ open }) => {
  const store = await open();
  await fill(store);
  await claimed(store, 'other');
  const before = await everything(store);
  scribble(await wait(store, 'other', openWait()));
  scribble(await dispatch(store, 'e'));
  const after = await everything(store);
  equal(after.slice(0, 1), before.slice(0, 1), 'the run');
  equal((await eventsOf(store))[0]?.payload, { c: [4] }, 'the payload of the event');
  equal((await dispatch(store, 'e')).resumed, ['r'], 'the receipt');
});
