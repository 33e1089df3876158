import { describe, expect, it } from 'vitest';
import type { Command } from '../src/replay/command.js';
import { digestOf } from '../src/replay/digest.js';
import { mismatch } from '../src/replay/mismatch.js';
import { eventNames, waitCommand, waitName } from '../src/replay/wait.js';
import { identityKey, type JournalEntry } from '../src/store/journal.js';
import type { EventRow, RunRow } from '../src/store/rows.js';
import {
  hears,
  holderOf,
  holdsUnique,
  mayTake,
  pairKey,
  pairsOf,
  rowWith,
  Scope,
  stateOfRow,
} from '../src/store/transition/scope.js';
import { perform } from '../src/store/transition/work.js';
import { createCodec } from '../src/values/codec.js';

// Pins: the small functions that say what fits what, alone: asks and what is recorded (spec R5), waits and events (E2 to
// E9), runs and the unique keys they hold (Q2).

const at = 1_000;
const codec = createCodec();

describe('an ask and what is recorded', () => {
  const id = ['x', 1] as const;
  const recordedAs = (...entries: readonly object[]) =>
    digestOf([
      { kind: 'started', at, payload: null },
      ...entries.map((entry) => ({ at, id, ...entry })),
    ] as JournalEntry[]);
  const done = { kind: 'step-completed', attempt: 1, asked: 1, value: null };
  const recorded = {
    'a step that runs a function': done,
    'a transaction': { ...done, word: 'transaction' },
    'the start of a child run': { ...done, word: 'start' },
    'the dispatch of an event': { ...done, word: 'dispatch' },
    'a call of a child run': { kind: 'child-set', runId: 'child', job: 'job' },
    'a recorded value': { kind: 'value-made', asked: 1, word: 'now', value: 1 },
    'a sleep': { kind: 'sleep-set', dueAt: at },
  };
  const words: { readonly [said: string]: string } = {
    'a step that runs a function': 'run',
    'a transaction': 'transaction',
    'the start of a child run': 'start',
    'the dispatch of an event': 'dispatch',
    'a call of a child run': 'call',
    'a recorded value': 'make',
    'a sleep': 'sleep',
  };
  const ask = (kind: string, more: object = {}) => {
    const command = { kind, ...more } as unknown as Command;
    return { key: identityKey(kind === 'wait' ? 'wait' : 'step', id), id, command };
  };

  for (const [was, entry] of Object.entries(recorded))
    for (const [is, kind] of Object.entries(words))
      it(`R5: ${was} and ${is} ${was === is ? 'fit' : 'do not, and both are named'}`, () => {
        const error = mismatch(ask(kind), recordedAs(entry));
        if (was === is) return expect(error).toBeUndefined();
        expect(error).toMatchObject({ code: 'REPLAY_MISMATCH', step: 'x' });
        expect(error!.message).toContain(
          `"x" (occurrence 1) was recorded as ${was}, but the handler now asks for ${is}.`,
        );
      });

  const set = { kind: 'wait-set', events: ['a'], key: 'k', onTimeout: 'fail' };
  const taken = {
    kind: 'event-taken',
    asked: 1,
    seq: 5,
    eventId: 'e',
    event: 'a',
    key: 'k',
    payload: null,
    acceptedAt: at,
  };

  it('R5: a wait fits by its events, in their order, and its key', () => {
    const over = recordedAs(set, taken);
    expect(mismatch(ask('wait', { events: ['a'], key: 'k' }), over)).toBeUndefined();
    for (const other of [
      { events: ['b'], key: 'k' },
      { events: ['a'] },
      { events: ['a'], key: 'l' },
      { events: ['a', 'a'], key: 'k' },
    ])
      expect(mismatch(ask('wait', other), over)?.message).toContain('a wait for ["a"] with correlation key "k", but');
    expect(mismatch(ask('wait', { events: ['b'] }), over)!.message).toContain('["b"] with correlation key absent');
  });

  it('R5: one that is open fits as well; of a fork, one that was settled before whatever its key', () => {
    const same = ask('wait', { events: ['a'], key: 'k' });
    const other = ask('wait', { events: ['a'], key: 'other' });
    expect([mismatch(same, recordedAs(set)), mismatch(other, recordedAs(set))?.code]).toEqual([
      ...[undefined, 'REPLAY_MISMATCH'],
    ]);
    const fork = (...entries: readonly object[]) => ({ ...recordedAs(...entries), isFork: true });
    expect(mismatch(other, fork(set, taken))).toBeUndefined(); // the key may name the run that it was copied from
    for (const digest of [recordedAs(set, taken), fork(set)])
      expect(mismatch(other, digest)?.code).toBe('REPLAY_MISMATCH');
    expect(mismatch(ask('wait', { events: ['b'], key: 'k' }), fork(set, taken))?.code).toBe('REPLAY_MISMATCH');
  });

  it('R5: one of which only the outcome is known fits by that it is a wait', () => {
    expect(mismatch(ask('wait', { events: ['b'] }), recordedAs(taken))).toBeUndefined();
    const key = identityKey('wait', id);
    const wrong = mismatch({ ...ask('sleep'), key }, recordedAs(taken));
    expect(wrong!.message).toContain(
      'a wait for undefined with correlation key absent, but the handler now asks for a sleep',
    );
  });

  it('R5: what is not recorded fits', () => {
    expect(mismatch(ask('run'), recordedAs())).toBeUndefined();
  });
});

describe('what a wait is given', () => {
  const host = { codec, platform: { warn: () => undefined } as never };
  const make = (events: readonly string[], options: object = {}) => waitCommand(events, options, host);
  const refusal = (code: string, ...said: string[]) =>
    expect.objectContaining({ code, message: expect.stringMatching(said.join('.*')) });

  it('is refused by name, with what may be given', () => {
    expect(() => make([])).toThrow(refusal('INVALID_NAME', 'waitForEvent', 'an empty array', 'at least one'));
    expect(() => make(['ok', ''])).toThrow(refusal('INVALID_NAME', 'name of an event', '""'));
    expect(() => make(['a'], { onTimeout: 'explode' })).toThrow(
      refusal('INVALID_OPTION', 'onTimeout is "explode"', '"fail", "continue" or "cancel"'),
    );
    expect(() => make(['a'], { match: 'yes' })).toThrow(refusal('INVALID_OPTION', 'match is "yes"', 'a function'));
    expect(() => make(['a'], { schema: {} })).toThrow(refusal('INVALID_OPTION', 'schema'));
  });

  it('becomes a command without anything that it was not given', () => {
    expect(make(['a'])).toStrictEqual({ kind: 'wait', events: ['a'], onTimeout: 'fail' });
    expect(make(['a'], { correlationKey: 'k', timeout: 5, lookback: 'any' })).toStrictEqual({
      kind: 'wait',
      events: ['a'],
      onTimeout: 'fail',
      key: 'k',
      timeoutMs: 5,
      lookbackMs: Infinity,
    });
  });

  it('takes each of its options, and names a duration that is none', () => {
    expect(make(['a'], { onTimeout: 'cancel', lookback: '1h' })).toMatchObject({
      onTimeout: 'cancel',
      lookbackMs: 3_600_000,
    });
    expect(() => make(['a'], { timeout: 'soon' })).toThrow(refusal('INVALID_DURATION', '^timeout'));
    expect(() => make(['a'], { lookback: 'soon' })).toThrow(refusal('INVALID_DURATION', '^lookback'));
  });

  it('names it: after its event, or all of them; what is no name is left to be refused', () => {
    expect(waitName('a', eventNames('a'))).toBe('a');
    expect(waitName(['a', 'b'], eventNames(['a', 'b']))).toBe('["a","b"]');
    expect(waitName(['a', 5], ['a', 5 as never])).toBe('a');
    expect(waitName([5, 'a'], [5 as never, 'a'])).toBe(5);
  });

  it('E9: judges: what fits is kept as the schema made it, what does not is somebody else’s, and why not is told', async () => {
    const even = {
      '~standard': {
        version: 1,
        vendor: 'test',
        validate: (n: number) => (n < 0 ? { issues: [{ message: 'too small' }] } : { value: n * 10 }),
      },
    };
    const { judge } = make(['a'], { schema: even, match: (n: number) => n !== 20 });
    expect(await judge!(3)).toStrictEqual({ kind: 'fits', payload: 30 });
    expect(await judge!(2)).toStrictEqual({ kind: 'other' });
    expect(await judge!(-1)).toStrictEqual({ kind: 'refused', reason: 'does not fit its schema at $' });
    const says = (answer: unknown) => make(['a'], { match: () => answer }).judge!(1);
    for (const no of [undefined, null, 0, false]) expect(await says(no)).toStrictEqual({ kind: 'other' });
    await expect(says(Promise.resolve(true))).rejects.toThrow(/What match gave.*at once: true or false, not a promise/);
    const wide = make(['a'], {
      schema: { '~standard': { version: 1, vendor: 'test', validate: () => ({ value: () => 1 }) } },
    });
    await expect(wide.judge!(1)).rejects.toThrow('what the schema of a wait made of an event');
  });
});

const row = (over: Partial<RunRow> = {}): RunRow => ({
  ...{ runId: 'r', job: 'job', queue: 'q', createdAt: at, seq: 1, fence: 1, length: 3, version: 1 },
  ...{ status: 'waiting', waits: [] },
  ...over,
});
const event = (over: Omit<Partial<EventRow>, 'resumed'> = {}): EventRow => ({
  ...{ seq: 5, id: 'e', name: 'a', payload: null, acceptedAt: at, expiresAt: at + 1_000, resumed: [] },
  ...over,
});
const wait = { id: ['w', 1] as const, events: ['a'], after: 1 };

describe('waits and events', () => {
  it('E2: a pair without a key is none with any', () => {
    expect([pairKey('a', undefined), pairKey('a', 'k')]).toEqual(['["a"]', '["a","k"]']);
    expect(pairsOf(row())).toEqual([]);
    const waits = [
      { ...wait, events: ['a', 'b'], key: 'k' },
      { ...wait, key: 'k' },
    ];
    expect(pairsOf(row({ waits }))).toEqual(['["a","k"]', '["b","k"]']);
  });

  it('E3, E5: after its instant, by its deadline; before it only what nobody took, where it looks back', () => {
    expect(hears(wait, event({ seq: 1 }), 'r')).toBe(false);
    expect(hears(wait, event({ seq: 2 }), 'r')).toBe(true);
    const back = { ...wait, after: 9, lookbackFrom: at };
    expect(hears(back, event(), 'r')).toBe(true);
    expect(hears(back, event({ acceptedAt: at - 1 }), 'r')).toBe(false);
    expect(hears(back, event({ taken: true }), 'r')).toBe(false);
    expect(hears(wait, event({ runId: 'other' }), 'r')).toBe(false);
    expect(mayTake({ ...wait, deadline: at }, event(), 'r')).toBe(true);
    expect(mayTake({ ...wait, deadline: at - 1 }, event(), 'r')).toBe(false);
  });
});

describe('rows', () => {
  it('Q2: a unique key is held until the run ends, or until it begins', () => {
    const held = (until: 'end' | 'start', state: Partial<RunRow>) => holdsUnique({ key: 'k', until }, row(state));
    expect([held('end', {}), held('end', { endedAt: at })]).toEqual([true, false]);
    expect([held('start', { status: 'scheduled' }), held('start', { status: 'queued' })]).toEqual([true, false]);
  });

  it('a row after a commit has nothing that is `undefined`, and what it was born with', () => {
    const state = { status: 'queued', version: 1, waits: [], dueAt: at } as const;
    const next = rowWith(row({ tags: ['t'], unique: { key: 'k', until: 'start' } }), state, { fence: 2, length: 4 });
    expect(next).toStrictEqual({ ...row({ tags: ['t'] }), ...state, fence: 2, length: 4 });
  });

  it('what its owner writes of an active row is all but what it was born with, and what others tell it', () => {
    const owned: Partial<RunRow> = {
      ...({
        status: 'running',
        version: 2,
        owner: 'me',
        dueAt: 5,
        setAt: 4,
        waits: [],
        slot: 'q',
        awaits: ['c'],
      } as const),
      ...({ startedAt: 3, progress: { done: 1 }, undoable: true, unsettled: true } as const),
    };
    const others = { tags: ['t'], priority: 1, parentId: 'p', woken: true, ended: ['c'] } as const;
    expect(stateOfRow(row({ ...owned, ...others }))).toEqual(owned);
    expect(stateOfRow(row({ ...owned, endedAt: 9 })).endedAt).toBe(9);
  });
});

describe('what a batch has written so far', () => {
  const reads = { events: () => [event({ seq: 2 })], waiting: () => [], runByUnique: () => 'stored' };
  const scope = () => new Scope(reads as never, at, { seq: 9 });

  it('events of a pair are those of the store and of the batch, later than asked for', () => {
    const over = scope();
    for (const [seq, name] of [
      [5, 'a'],
      [6, 'b'],
      [7, 'a'],
    ] as const)
      over.writes.events.set(seq, event({ seq, name }));
    const found = (after: number) =>
      (perform(over.events(pairKey('a', undefined), after)) as EventRow[]).map(({ seq }) => seq);
    expect(found(0)).toEqual([2, 5, 7]);
    expect(found(5)).toEqual([2, 7]); // what the store gives is its own word
    expect(over.fresh(pairKey('b', undefined)).map(({ seq }) => seq)).toEqual([6]);
  });

  it('E4: who waits for a pair is who waits for it now', () => {
    const over = scope();
    over.put(row({ waits: [wait] }));
    over.put(row({ runId: 'other', waits: [{ ...wait, events: ['b'] }] }));
    const waiting = (name: string) =>
      (perform(over.waiting(pairKey(name, undefined))) as RunRow[]).map(({ runId }) => runId);
    expect([waiting('a'), waiting('b'), waiting('c')]).toEqual([['r'], ['other'], []]);
  });

  it('Q2: who holds a unique key is one of its job in the batch, or in the store', () => {
    const over = scope();
    const holder = (key: string, job = 'job') => perform(holderOf(over, job, { key, until: 'end' }));
    over.put(row({ unique: { key: 'k', until: 'end' } }));
    expect([holder('k'), holder('l'), holder('k', 'other')]).toEqual(['r', 'stored', 'stored']);
  });
});
