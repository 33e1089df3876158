import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { EventRow, RunRow, StateRow } from '../src/store/rows.js';
import type { ListQuery } from '../src/store/store.js';
import { fitsList, listPage, Tables } from '../src/store/tables.js';
import { pairKey } from '../src/store/transition/scope.js';

// Pins: the tables that stores keep in memory: whatever is asked of them says what was written last, and nothing of what
// was before (spec E2, Q1, Q2, Q6, D8).

const at = 1_000;
const row = (runId: string, more: Partial<RunRow> = {}): RunRow => ({
  ...{ runId, job: 'job', queue: 'q', createdAt: at, seq: 1, fence: 1, length: 1, version: 1 },
  ...{ status: 'sleeping', waits: [], dueAt: at },
  ...more,
});
const event = (seq: number, more: Partial<EventRow> = {}): EventRow => ({
  ...{ seq, id: `e${seq}`, name: 'a', payload: seq, acceptedAt: at, expiresAt: at + 50, resumed: [] },
  ...more,
});
const shared = (key: string, revision: number, more: Partial<StateRow> = {}): StateRow => ({
  ...{ key, value: revision, revision, expiresAt: at + 50 },
  ...more,
});
const pair = pairKey('a', undefined);
const tablesOf = (...rows: (RunRow | EventRow)[]) => {
  const tables = new Tables();
  for (const each of rows) 'runId' in each && 'job' in each ? tables.putRun(each) : tables.putEvent(each as EventRow);
  return tables;
};
const ids = (rows: readonly { readonly runId: string }[]) => rows.map(({ runId }) => runId);
const seqs = (events: readonly EventRow[]) => events.map(({ seq }) => seq);

describe('runs', () => {
  it('Q2: are due by lane, then by instant, then by age', () => {
    const tables = tablesOf(
      ...[row('later', { dueAt: at + 2 }), row('young', { seq: 7 }), row('old', { seq: 2 })],
      ...[
        row('first', { priority: 3 }),
        row('queued', { status: 'queued', dueAt: at + 9 }),
        row('early', { dueAt: 5 }),
      ],
      row('never', { dueAt: undefined as never }),
    );
    expect(tables.dueRows().map(ids)).toEqual([['first'], ['early', 'old', 'young', 'later'], ['queued']]);
    tables.putRun(row('first', { priority: 3, dueAt: undefined as never }));
    tables.putRun(row('early', { dueAt: at + 1 }));
    tables.putRun(row('old', { seq: 2, status: 'queued', dueAt: 1 }));
    expect(tables.dueRows().map(ids)).toEqual([
      ['young', 'early', 'later'],
      ['old', 'queued'],
    ]);
    for (const runId of ['young', 'early', 'later', 'old', 'queued']) tables.dropRun(runId);
    expect(tables.dueRows()).toEqual([]);
  });

  it('are shown as they were written last, be everything that is looked up the same', () => {
    const tables = tablesOf(row('r'), row('s', { seq: 2 }));
    tables.putRun(row('r', { fence: 7, length: 9 }));
    tables.putRun(row('s', { seq: 2, dueAt: undefined as never, status: 'waiting' }));
    tables.putRun(row('s', { seq: 2, dueAt: undefined as never, status: 'waiting', length: 5 }));
    expect(tables.dueRows()).toEqual([[row('r', { fence: 7, length: 9 })]]);
    expect([tables.run('r')?.length, tables.run('s')?.length]).toEqual([9, 5]);
  });

  it('are looked up by each thing that changes alone', () => {
    const waits = [{ id: ['w', 1] as const, events: ['a'], after: 0 }];
    const dueAt = undefined as never;
    const plain = row('r', { dueAt });
    const seen = (tables: Tables) => [
      ...[tables.dueRows().map(ids), ids(tables.waiting(pair)), ids(tables.awaiting('x')), tables.slots('q')],
      tables.runByUnique('job', 'u'),
    ];
    const changes: Partial<RunRow>[] = [
      ...[{ waits }, { awaits: ['x'] }, { slot: 'q' }, { unique: { key: 'u', until: 'end' } as const }, { dueAt: at }],
      ...[
        { dueAt: at, status: 'queued' as const },
        { dueAt: at, priority: 2 },
      ],
    ];
    for (const change of changes) {
      const changed = { ...plain, ...change };
      for (const before of [plain, row('r', { dueAt: at }), { ...plain, waits, awaits: ['x'] }]) {
        expect(seen(tablesOf(before, changed))).toEqual(seen(tablesOf(changed)));
        expect(seen(tablesOf(changed, before))).toEqual(seen(tablesOf(before)));
      }
    }
    expect(seen(tablesOf({ ...plain, waits }))).toEqual([[], ['r'], [], 0, undefined]);
    expect(seen(tablesOf({ ...plain, dueAt: at, awaits: ['x'], slot: 'q' }))).toEqual([
      [['r']],
      [],
      ['r'],
      1,
      undefined,
    ]);
  });

  it('are found by what they wait for, await, hold and are children of, as long as they do', () => {
    const waits = [{ id: ['w', 1] as const, events: ['a', 'b'], key: 'k', after: 0 }];
    const tables = tablesOf(row('r', { waits, awaits: ['x', 'y'], slot: 'q', parentId: 'p' }), row('s', { slot: 'q' }));
    const found = () =>
      [
        ...[pairKey('a', 'k'), pairKey('b', 'k'), pair].map((each) => tables.waiting(each)),
        ...['x', 'y', 'r'].map((runId) => tables.awaiting(runId)),
        tables.children('p'),
      ].map(ids);
    expect(found()).toEqual([['r'], ['r'], [], ['r'], ['r'], [], ['r']]);
    expect(tables.slots('q')).toBe(2);
    tables.putRun(row('r', { awaits: ['y'], slot: 'other', parentId: 'p' }));
    expect(found()).toEqual([[], [], [], [], ['r'], [], ['r']]);
    expect([tables.slots('q'), tables.slots('other'), tables.slots('none')]).toEqual([1, 1, 0]);
    tables.dropRun('r');
    tables.dropRun('nobody');
    expect([found().flat(), tables.slots('other'), tables.run('r')]).toEqual([[], 0, undefined]);
  });

  it('Q1: are known by the keys of their jobs, until they are dropped', () => {
    const tables = tablesOf(row('r', { idempotencyKey: 'k' }), row('s', { job: 'other', idempotencyKey: 'k' }));
    const known = () => [tables.runByKey('job', 'k'), tables.runByKey('other', 'k'), tables.runByKey('job', 'l')];
    expect(known()).toEqual(['r', 's', undefined]);
    tables.dropRun('r');
    expect(known()).toEqual([undefined, 's', undefined]);
  });

  it('Q2: hold a unique key of their job until another one holds it, or none', () => {
    const unique = { key: 'u', until: 'start' } as const;
    const tables = tablesOf(row('first', { unique }), row('second', { unique, seq: 2 }));
    expect(tables.runByUnique('job', 'u')).toBe('second');
    tables.putRun(row('first')); // it has lost the key before: that of the other stays
    expect([tables.runByUnique('job', 'u'), tables.runByUnique('other', 'u')]).toEqual(['second', undefined]);
    tables.putRun(row('second', { seq: 2 }));
    expect(tables.runByUnique('job', 'u')).toBeUndefined();
  });
});

describe('events', () => {
  it('are found the same where they were indexed only when all were there', () => {
    const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
    const wait = fc.constantFrom('a', 'b').map((name) => ({ id: ['w', 1] as const, events: [name], after: 0 }));
    const change = fc.record({
      runId: fc.constantFrom('r', 's', 't', 'u'),
      isDropped: fc.boolean(),
      priority: maybe(fc.nat({ max: 2 })),
      dueAt: maybe(fc.constantFrom(0, at, at + 1)),
      slot: maybe(fc.constantFrom('q', 'other')),
      awaits: maybe(fc.array(fc.constantFrom('r', 's'), { maxLength: 1 })),
      waits: fc.array(wait, { maxLength: 1 }),
    });
    const seqOf = { r: 4, s: 3, t: 2, u: 1 } as const;
    fc.assert(
      fc.property(fc.array(change), fc.array(change), (before, after) => {
        const [always, late] = [new Tables(), new Tables(false)];
        const play = (changes: typeof before) => {
          for (const { runId, isDropped, ...more } of changes)
            for (const tables of [always, late])
              if (isDropped) tables.dropRun(runId);
              else {
                const own = { idempotencyKey: `key ${runId}`, unique: { key: runId, until: 'end' }, parentId: 'p' };
                tables.putRun(row(runId, { seq: seqOf[runId as 'r'], ...own, ...(more as object) } as never));
              }
        };
        const seen = (tables: Tables) => ({
          due: tables.dueRows().map(ids),
          waiting: ['a', 'b'].map((name) => ids(tables.waiting(pairKey(name, undefined))).sort()),
          awaiting: ['r', 's'].map((runId) => ids(tables.awaiting(runId)).sort()),
          children: ids(tables.children('p')).sort(),
          slots: ['q', 'other'].map((queue) => tables.slots(queue)),
          keys: ['r', 's', 't', 'u'].map((runId) => tables.runByKey('job', `key ${runId}`)),
          uniques: ['r', 's', 't', 'u'].map((runId) => tables.runByUnique('job', runId)),
        });
        play(before);
        expect(late.dueRows()).toEqual([]);
        for (let times = 0; times < 2; times++) late.index();
        expect(seen(late)).toEqual(seen(always));
        play(after);
        expect(seen(late)).toEqual(seen(always));
      }),
    );
  });

  it('E3: of a pair are told oldest first, those behind a number only', () => {
    const tables = tablesOf(event(5), event(3), event(9), event(4, { key: 'k' }), event(6, { name: 'b' }));
    expect([0, 3, 8, 9].map((after) => seqs(tables.events(pair, after)))).toEqual([[3, 5, 9], [5, 9], [9], []]);
    expect(seqs(tables.events(pairKey('a', 'k'), 0))).toEqual([4]);
    tables.dropEvent(5);
    tables.dropEvent(99);
    expect([seqs(tables.events(pair, 0)), tables.event(5), tables.event(9)?.id]).toEqual([[3, 9], undefined, 'e9']);
  });

  it('E7: nobody has taken are counted, whatever becomes of them', () => {
    const tables = tablesOf(event(1), event(2), event(3, { taken: true }), event(4, { key: 'k' }));
    const counts = () => [pair, pairKey('a', 'k'), pairKey('b', undefined)].map((each) => tables.backlog(each));
    expect(counts()).toEqual([2, 1, 0]);
    tables.putEvent(event(1, { taken: true }));
    tables.putEvent(event(1, { taken: true, resumed: ['r'] }));
    tables.putEvent(event(2, { resumed: ['r'] }));
    expect(counts()).toEqual([1, 1, 0]);
    tables.dropEvent(1);
    tables.dropEvent(3);
    expect(counts()).toEqual([1, 1, 0]);
    tables.dropEvent(2);
    tables.dropEvent(4);
    expect(counts()).toEqual([0, 0, 0]);
    tables.putEvent(event(5));
    expect(counts()).toEqual([1, 0, 0]);
  });

  it('E8: are known by id and by idempotency key of their pair: the newest of these', () => {
    const same = { id: 'same', idempotencyKey: 'k' };
    const tables = tablesOf(event(1, same), event(2, same), event(3, { ...same, id: 'other', key: 'c' }), event(4));
    const known = () =>
      [tables.eventById('same'), tables.eventByKey(pair, 'k'), tables.eventByKey(pairKey('a', 'c'), 'k')].map(
        (found) => found?.seq,
      );
    expect([known(), tables.eventById('none'), tables.eventByKey(pair, 'none')]).toEqual([
      ...[[2, 2, 3], undefined, undefined],
    ]);
    tables.putEvent(event(1, { ...same, taken: true }));
    expect(known()).toEqual([2, 2, 3]);
    tables.dropEvent(1);
    tables.dropEvent(4);
    expect(known()).toEqual([2, 2, 3]);
    tables.dropEvent(2);
    expect(known()).toEqual([undefined, undefined, 3]);
    tables.putEvent(event(5, { ...same, id: 'new' })); // the number of the one before is not in its way
    expect(known()).toEqual([undefined, 5, 3]);
    tables.putEvent(event(2, { id: 'back' }));
    expect(known()).toEqual([undefined, 5, 3]);
  });

  it('E7: that expire first are told first, a few at a time, from their instant on', () => {
    const tables = tablesOf(...Array.from({ length: 12 }, (_, index) => event(index + 1, { expiresAt: at - index })));
    expect(seqs(tables.expired(at))).toEqual([12, 11, 10, 9, 8, 7, 6, 5]);
    expect([seqs(tables.expired(at - 10)), tables.expired(at - 12)]).toEqual([[12, 11], []]);
    for (const seq of [12, 11, 10, 9, 8, 7, 6]) tables.dropEvent(seq);
    tables.putEvent(event(5, { expiresAt: at - 4, taken: true }));
    tables.putEvent(event(4, { expiresAt: at + 4 }));
    expect(tables.expired(at).map(({ seq, taken }) => [seq, taken])).toEqual([
      [5, true],
      [3, undefined],
      [2, undefined],
      [1, undefined],
    ]);
  });
});

describe('the shared state', () => {
  it('D8: is what was put last, and is forgotten when it is taken away', () => {
    const tables = new Tables();
    tables.putState('a', shared('a', 1));
    tables.putState('b', shared('b', 2, { expiresAt: undefined as never }));
    tables.putState('a', shared('a', 3, { expiresAt: at + 90 }));
    expect([tables.state('a')?.value, tables.state('b')?.value, tables.state('c')]).toEqual([3, 2, undefined]);
    expect([tables.expiredState(at + 89), tables.expiredState(at + 90)]).toEqual([[], ['a']]);
    tables.putState('a', undefined);
    tables.putState('none', undefined);
    expect([tables.expiredState(at + 90), [...tables.shared.keys()]]).toEqual([[], ['b']]);
    tables.putState('b', undefined);
    expect(tables.shared.size).toBe(0);
  });

  it('D8: that expires first is told first, a few keys at a time', () => {
    const tables = new Tables();
    for (let index = 0; index < 12; index++)
      tables.putState(`k${index}`, shared(`k${index}`, index + 1, { expiresAt: at - index }));
    expect(tables.expiredState(at)).toEqual(['k11', 'k10', 'k9', 'k8', 'k7', 'k6', 'k5', 'k4']);
    expect(tables.expiredState(at - 10)).toEqual(['k11', 'k10']);
  });
});

describe('what a commit has decided', () => {
  it('is written: runs, events and state, and what is taken away of them', () => {
    const tables = tablesOf(row('gone'), event(1));
    expect(tables.clock()).toEqual({ seq: 0 });
    tables.putState('gone', shared('gone', 2));
    const writes = {
      runs: new Map([['r', { row: row('r'), append: [] }]]),
      events: new Map([[3, event(3)]]),
      drops: new Set([1]),
      state: new Map([
        ['s', shared('s', 4)],
        ['gone', undefined],
      ]),
      deletes: new Set(['gone']),
      clock: { seq: 4 },
    };
    tables.apply(writes);
    expect([
      [...tables.runs.keys()],
      seqs([...tables.log.values()]),
      [...tables.shared.keys()],
      tables.clock(),
    ]).toEqual([...[['r'], [3], ['s'], { seq: 4 }]]);
  });
});

describe('a list of runs', () => {
  const fits = (query: Partial<ListQuery>, more: Partial<RunRow> = {}) =>
    fitsList(row('r', { seq: 5, tags: ['x'], ...more }), { limit: 9, ...query });

  it('is of those that have all that was asked for', () => {
    const no: Partial<ListQuery>[] = [
      ...[
        { status: 'failed' as const },
        { status: ['failed' as const] },
        { job: 'other' },
        { tag: 'y' },
        { cursor: '5' },
      ],
      ...[{ endedBefore: at }, { status: [] }],
    ];
    expect(no.map((query) => fits(query))).toEqual(no.map(() => false));
    const yes: Partial<ListQuery>[] = [
      ...[{}, { status: 'sleeping' as const }, { status: ['failed' as const, 'sleeping' as const] }, { job: 'job' }],
      ...[{ tag: 'x' }, { cursor: '6' }],
    ];
    expect(yes.map((query) => fits(query))).toEqual(yes.map(() => true));
    expect([fits({ tag: 'x' }, { tags: undefined as never }), fits({ job: 'job', tag: 'y' })]).toEqual([false, false]);
    const ended = [at - 1, at].map((endedAt) => fits({ endedBefore: at }, { endedAt }));
    expect(ended).toEqual([true, false]);
  });

  it('is told in pages, newest first, and the last one says that it is', () => {
    const rows = [3, 1, 4, 2].map((seq) => row(`r${seq}`, { seq }));
    const page = (query: Partial<ListQuery>) => {
      const { rows: found, ...rest } = listPage(rows, { limit: 3, ...query });
      return [ids(found), rest];
    };
    expect(page({})).toStrictEqual([['r4', 'r3', 'r2'], { nextCursor: '2' }]);
    expect(page({ cursor: '2' })).toStrictEqual([['r1'], {}]);
    expect(page({ limit: 4 })).toStrictEqual([['r4', 'r3', 'r2', 'r1'], {}]);
    expect(page({ job: 'other' })).toStrictEqual([[], {}]);
  });
});
