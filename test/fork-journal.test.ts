import { expect, it } from 'vitest';
import { forkJournal } from '../src/engine/fork.js';
import type { JournalEntry } from '../src/store/journal.js';

// Pins: the journal that a fork begins with, entry by entry, alone (spec F6): what had an outcome before a step, and nothing else.

const at = 1_000;
type Given = { readonly kind: JournalEntry['kind'] } & { readonly [field: string]: unknown };
const id = (name: string, occurrence = 1) => ({ id: [name, occurrence] });
const done = (name: string, more: object = {}): Given => ({
  ...{ kind: 'step-completed', ...id(name), attempt: 1, asked: 1, value: name },
  ...more,
});
const error = { name: 'Error', message: 'no' };
const failed = (name: string): Given => ({ kind: 'step-failed', ...id(name), attempt: 1, asked: 1, error });
const attempt = (name: string): Given => ({ kind: 'attempt-failed', ...id(name), attempt: 1, error, retryAt: at });
const started: Given = { kind: 'started', payload: 'p' };
const retried = (...forgets: readonly unknown[]): Given => ({ kind: 'retried', forgets });

const journalOf = (...given: readonly Given[]) => given.map((entry) => ({ at, ...entry })) as unknown as JournalEntry[];
/** What is left of these entries, behind the start, in a fork before `cut`. */
const rest = (...given: readonly Given[]) =>
  forkJournal(journalOf(started, ...given), { runId: 'r', before: 'cut', at: 7 }).slice(1);
const begins = (said: object | undefined, ...given: readonly Given[]) =>
  forkJournal(journalOf(...given, done('cut')), {
    runId: 'r',
    before: 'cut',
    at: 7,
    ...(said && { said: said as never }),
  })[0];

it('F6: it begins at present, as the copy of another run, with what that was given', () => {
  const forkedFrom = { runId: 'r', before: 'cut' };
  expect(begins(undefined, { ...started, nonce: 'n', retry: { maxAttempts: 2 } })).toEqual({
    ...{ kind: 'started', at: 7, payload: 'p', retry: { maxAttempts: 2 }, forkedFrom },
  });
  expect(begins({ payload: 'new', given: 'raw' }, { ...started, given: 'old' })).toEqual({
    ...{ kind: 'started', at: 7, payload: 'new', given: 'raw', forkedFrom },
  });
  expect(begins({ payload: 'new' }, { ...started, given: 'old' })).toEqual({
    kind: 'started',
    at: 7,
    payload: 'new',
    forkedFrom,
  });
});

it('F6, Q2: the payload is the one that counts in the end; as it was given, where it is still that', () => {
  const payloadOf = (...given: readonly Given[]) => {
    const { payload, ...more } = begins(undefined, ...given) as unknown as { payload: unknown; given?: unknown };
    return 'given' in more ? [payload, more.given] : [payload];
  };
  expect(payloadOf({ ...started, given: 'raw' })).toEqual(['p', 'raw']);
  const later: Given = { kind: 'rescheduled', payload: 'later', given: 'raw later', dueAt: 5 };
  expect(payloadOf({ ...started, given: 'raw' }, later)).toEqual(['later', 'raw later']);
  expect(payloadOf({ ...started, given: 'raw' }, { ...later, given: undefined })).toEqual(['later']);
  expect(payloadOf(started, later, { ...later, payload: 'last', given: 'raw last' })).toEqual(['last', 'raw last']);
  const migrated: Given = { kind: 'upgraded', from: 1, to: 2, payload: 'migrated' };
  expect(payloadOf({ ...started, given: 'raw' }, migrated)).toEqual(['migrated']);
  expect(payloadOf({ ...started, given: 'raw' }, { kind: 'claimed', owner: 'o', fence: 1, given: 'x' })).toEqual([
    'p',
    'raw',
  ]);
});

it('F6: what came before the step is kept: outcomes, and what belongs to them', () => {
  const wait: Given = { kind: 'wait-set', ...id('w'), events: ['e'], onTimeout: 'fail' };
  const taken: Given = {
    kind: 'event-taken',
    ...id('w'),
    asked: 1,
    seq: 1,
    eventId: 'e1',
    event: 'e',
    payload: 1,
    acceptedAt: at,
  };
  const kept = [
    { kind: 'claimed', owner: 'o', fence: 1 },
    { kind: 'undo-set', ...id('a') },
    attempt('a'),
    done('a'),
    wait,
    taken,
    { kind: 'sleep-set', ...id('s'), dueAt: 5 },
    { kind: 'sleep-ended', ...id('s'), asked: 3 },
    failed('f'),
    { kind: 'drift', ids: [['step', 'x', 1]], slack: 0 },
  ] as const;
  expect(rest(...kept, done('cut'), done('after'))).toEqual(journalOf(...kept.slice(1)));
});

it('F6: what was only begun begins anew; what was only said, or told of the run, is not taken over', () => {
  expect(
    rest(
      { kind: 'claimed', owner: 'o', fence: 1 },
      { kind: 'undo-set', ...id('a') },
      attempt('a'),
      { kind: 'wait-set', ...id('w'), events: ['e'], onTimeout: 'fail' },
      { kind: 'sleep-set', ...id('s'), dueAt: 5 },
      { kind: 'logged', level: 'info', message: 'm', ...id('b') },
      { kind: 'logged', level: 'info', message: 'm' },
      done('b'),
      { kind: 'progressed', ...id('b') },
      { kind: 'handler-failed', attempt: 1, error, retryAt: at },
      { kind: 'released' },
      done('cut'),
    ),
  ).toEqual(journalOf(done('b')));
});

it('F6: a step that was begun before the cut, and ended behind it, begins anew; nothing of what comes later is taken over', () => {
  const drift: Given = { kind: 'drift', ids: [['step', 'a', 1]], slack: 1 };
  const undoSet: Given = { kind: 'undo-set', ...id('a') };
  expect(rest(done('a'), undoSet, attempt('b'), done('cut'), done('b'), drift)).toEqual(journalOf(done('a')));
});

it('F6: the cut is where the step first appears, whatever of it comes first', () => {
  const before = [done('a'), done('b')];
  for (const first of [attempt('cut'), { kind: 'undo-set', ...id('cut') }, done('cut'), failed('cut')] as Given[])
    expect(rest(...before, first, done('c'), done('cut', id('cut', 2)))).toEqual(journalOf(...before));
  expect(rest(done('a'), done('cut', id('cut', 2)), done('b'), done('cut'))).toEqual(journalOf(done('a')));
  const said: Given = { kind: 'logged', level: 'info', message: 'm', ...id('cut') };
  expect(rest(said, done('a'), done('cut'), done('b'))).toEqual(journalOf(done('a'))); // a line is not the step
  expect(rest(done('cut'), done('a'))).toEqual([]);
});

it('F6: a step that was forgotten since appears where it was done again; in no other place if it was not', () => {
  const forgotten = [
    done('a'),
    failed('cut'),
    done('b'),
    { kind: 'failed', error },
    retried(['step', 'cut', 1]),
  ] as Given[];
  expect(rest(...forgotten, done('c'), done('cut'))).toEqual(journalOf(done('a'), done('b'), done('c')));
  expect(rest(...forgotten, done('c'))).toEqual(journalOf(done('a')));
  const other = [
    done('a'),
    failed('cut'),
    done('b'),
    { kind: 'failed', error },
    retried(['step', 'other', 1]),
  ] as Given[];
  expect(rest(...other, done('cut'))).toEqual(journalOf(done('a')));
  const upgraded = (forgets?: readonly string[]): Given => ({
    kind: 'upgraded',
    from: 1,
    to: 2,
    ...(forgets && { forgets }),
  });
  expect(rest(done('a'), done('cut'), done('b'), upgraded(['cut']), done('c'), done('cut'))).toEqual(
    journalOf(done('a'), done('b'), done('c')),
  );
  for (const forgets of [['other'], undefined])
    expect(rest(done('a'), done('cut'), done('b'), upgraded(forgets), done('c'), done('cut', id('cut', 2)))).toEqual(
      journalOf(done('a')),
    );
  const twice = [done('a'), done('cut'), done('b'), done('cut', id('cut', 2)), retried(['step', 'cut', 1])] as Given[];
  expect(rest(...twice, done('c'), done('cut'))).toEqual(journalOf(done('a'), done('b'))); // the second still counts
});

it('F6: a run that has not recorded the step can not be forked before it', () => {
  const fork = () => forkJournal(journalOf(started, done('a')), { runId: 'r', before: 'cut', at: 7 });
  expect(fork).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }));
  for (const said of ['before', '"cut"', 'run r']) expect(fork).toThrow(said);
});

it('F7: what was undone and left is not there; what was undone and done again is done', () => {
  const undoSet: Given = { kind: 'undo-set', ...id('a') };
  const undo = [
    { kind: 'undo-attempt-failed', ...id('a'), attempt: 1, error, retryAt: at },
    { kind: 'undone', ...id('a'), attempt: 2 },
  ] as const;
  const ended: Given = { kind: 'failed', error };
  expect(rest(undoSet, done('a'), done('b'), ended, ...undo, retried(), done('cut'))).toEqual(journalOf(done('b')));
  const copied = { ...undoSet, idempotencyKey: 'r/1/a/1' };
  expect(rest(undoSet, done('a'), done('b'), ended, ...undo, retried(), undoSet, done('a'), done('cut'))).toEqual(
    journalOf(copied, done('b'), copied, done('a')),
  );
  expect(rest(undoSet, done('a'), done('b'), done('cut'), ended, ...undo)).toEqual(journalOf(done('b')));
  const givenUp: Given = { kind: 'undo-failed', ...id('a'), attempt: 1, error };
  expect(rest(undoSet, done('a'), ended, givenUp, retried(), done('cut'))).toEqual(
    journalOf({ ...undoSet, idempotencyKey: 'r/0/a/1' }, done('a')),
  );
});

it('R2, F7: what can be undone keeps the key that it was done under, whatever it is called now; and that nobody knows', () => {
  const undoSet = (name: string, more: object = {}): Given => ({ kind: 'undo-set', ...id(name), ...more });
  const migrated: Given = { kind: 'upgraded', from: 1, to: 2, renames: [['a', 'new']] };
  expect(rest(undoSet('a'), done('a'), migrated, undoSet('a'), done('a'), done('cut'))).toEqual(
    journalOf(
      ...[undoSet('new', { idempotencyKey: 'r/0/a/1' }), done('new', { value: 'a' })],
      ...[undoSet('a', { idempotencyKey: 'r/1/a/1' }), done('a')],
    ),
  );
  const ofOther = undoSet('a', { idempotencyKey: 'other/0/b/1' });
  expect(rest(ofOther, done('a'), done('cut'))).toEqual(journalOf(ofOther, done('a')));
  const claimed: Given = { kind: 'claimed', owner: 'o', fence: 2, interrupted: true };
  expect(rest(undoSet('a'), claimed, failed('a'), done('cut'))).toEqual(
    journalOf(undoSet('a', { idempotencyKey: 'r/0/a/1', isUnknown: true }), failed('a')),
  );
});

it('F7: a step that was undone appears where it was done again; given up, it is still where it was', () => {
  const end: Given = { kind: 'failed', error };
  const undone = (name: string): Given => ({ kind: 'undone', ...id(name), attempt: 1 });
  const both = [done('a'), done('cut'), end, undone('cut'), undone('a'), retried()];
  expect(rest(...both, done('a'), done('cut'), done('b'))).toEqual(journalOf(done('a')));
  const twice = [...both, done('a'), done('cut'), end, undone('cut'), retried()];
  expect(rest(...twice, done('b'), done('cut'))).toEqual(journalOf(done('a'), done('b')));
  // What came after it then, and was not undone, comes after it now: the handler hears of it later.
  const first = [done('cut'), done('b'), end, undone('cut'), retried()];
  expect(rest(...first, done('cut', { before: 2 }), done('c'))).toEqual([]);
  const givenUp: Given = { kind: 'undo-failed', ...id('cut'), attempt: 1, error };
  expect(rest(done('a'), done('cut'), done('b'), end, givenUp, retried(), done('c'))).toEqual(journalOf(done('a')));
});

it('F6, O6: the copy has the names of the present from the beginning, and is asked about none of them again', () => {
  const upgraded = (renames: readonly (readonly [string, string])[], more: object = {}): Given => ({
    ...{ kind: 'upgraded', from: 1, to: 2, renames },
    ...more,
  });
  expect(rest(done('a'), done('b'), upgraded([['a', 'x']]), done('a', { value: 'later' }), done('cut'))).toEqual(
    journalOf(done('a', { ...id('x'), value: 'a' }), done('b'), done('a', { value: 'later' })),
  );
  // The cut by its present name, and names of names.
  expect(rest(done('a'), done('b'), done('old'), upgraded([['old', 'cut']]), done('c'))).toEqual(
    journalOf(done('a'), done('b')),
  );
  const said: Given = { kind: 'logged', level: 'info', message: 'of the handler', id: undefined };
  expect(rest(said, done('a'), upgraded([['a', 'x']]), done('cut'))).toEqual(
    journalOf(done('a', { ...id('x'), value: 'a' })),
  );
  const twice = [done('a'), upgraded([['a', 'x']]), upgraded([['x', 'y']]), done('cut')];
  expect(rest(...twice)).toEqual(journalOf(done('a', { ...id('y'), value: 'a' })));
  const [drift] = rest(
    {
      kind: 'drift',
      ids: [
        ['step', 'a', 1],
        ['wait', 'b', 2],
      ],
      slack: 1,
    },
    upgraded([['a', 'x']]),
    done('cut'),
  );
  expect(drift).toMatchObject({
    kind: 'drift',
    ids: [
      ['step', 'x', 1],
      ['wait', 'b', 2],
    ],
    slack: 1,
  });
});

it('F6, O6: what was forgotten by the names of before stays forgotten', () => {
  const renames = [['a', 'x']] as const;
  const upgraded: Given = { kind: 'upgraded', from: 1, to: 2, renames };
  const ended: Given = { kind: 'failed', error };
  const both = [done('a'), done('b'), ended, retried(['step', 'a', 1])];
  expect(rest(...both, upgraded, done('cut'))).toEqual(journalOf(done('b')));
  const gone: Given = { kind: 'upgraded', from: 1, to: 2, forgets: ['a'] };
  expect(rest(done('a'), done('b'), gone, { ...upgraded, from: 2, to: 3 }, done('cut'))).toEqual(journalOf(done('b')));
  const plain: Given = { kind: 'upgraded', from: 1, to: 2 };
  expect(rest(done('a'), plain, { ...upgraded, from: 2, to: 3 }, done('cut'))).toEqual(
    journalOf(done('a', { ...id('x'), value: 'a' })),
  );
});

it('F6, E12: a child whose end is awaited once more is still its child under another name', () => {
  const call: Given = { kind: 'child-set', ...id('a'), runId: 'child', job: 'job' };
  const childFailed: Given = { kind: 'child-failed', ...id('a'), asked: 1, runId: 'child', error };
  const childDone: Given = { kind: 'child-completed', ...id('a'), asked: 1, runId: 'child', value: 'late' };
  const again: Given = { ...retried(['step', 'a', 1]), rejoins: [['step', 'a', 1]] };
  const upgraded: Given = { kind: 'upgraded', from: 1, to: 2, renames: [['a', 'x']] };
  const entries = [call, childFailed, { kind: 'failed', error } as Given, again, childDone];
  expect(rest(...entries, upgraded, done('cut'))).toEqual(
    journalOf({ ...call, ...id('x') }, { ...childDone, ...id('x') }),
  );
});

it('R7: outcomes that the handler heard of in another order than they were recorded in keep that order', () => {
  const journal = [
    done('first'), // index 1
    { kind: 'undo-set', ...id('gone') },
    done('second'), // 3
    done('third', { before: 1 }),
    done('fourth', { before: 3 }), // between the first and the second
    done('cut'),
  ] as Given[];
  expect(rest(...journal)).toEqual(
    journalOf(done('first'), done('second'), done('third', { before: 1 }), done('fourth', { before: 2 })),
  );
  const backwards = [done('first'), done('second', { before: 1 }), done('third', { before: 2 })] as Given[];
  expect(rest(...backwards, done('cut'))).toEqual(journalOf(...backwards));
  const [, ...others] = rest(
    ...journal.slice(0, 5),
    { kind: 'failed', error },
    retried(['step', 'first', 1]),
    done('cut'),
  );
  expect(others).toEqual(journalOf(done('third', { before: 1 }), done('fourth', { before: 1 })));
});

it('F6, O6: what was forgotten under an earlier name is forgotten under the present one', () => {
  const renames: Given = { kind: 'upgraded', from: 1, version: 2, renames: [['old', 'cut']] };
  const namesOf = (...given: readonly Given[]) =>
    rest(...given).map((entry) => ('id' in entry ? entry.id![0] : entry.kind));
  const ended: Given = { kind: 'failed', error };
  const again = retried(['step', 'old', 1]);
  expect(namesOf(done('a'), failed('old'), ended, again, done('b'), done('old'), renames)).toEqual(['a', 'b']);
  const forgets: Given = { kind: 'upgraded', from: 1, version: 2, forgets: ['old'] };
  const later = { ...renames, from: 2, version: 3 };
  expect(namesOf(done('a'), done('old'), forgets, done('b'), done('old'), later)).toEqual(['a', 'b']);
});
