import { describe, expect, it } from 'vitest';
import type { Batch, CommitOutcome, NewEvent, NewRun, RunChange } from '../src/store/batch.js';
import type { JournalEntry } from '../src/store/journal.js';
import type { RunState } from '../src/store/rows.js';
import { Tables } from '../src/store/tables.js';
import { type Transition, transition } from '../src/store/transition.js';

// Pins: what a commit answers and writes, alone, where the conformance suite of stores does not look (spec E1 to E12, Q1,
// Q2, D8): what stores share, so that each of them does the same.

const now = 1_000;
const started: JournalEntry = { kind: 'started', at: now, payload: null };
const run = (runId: string, more: Partial<NewRun> = {}): NewRun => ({
  ...{ runId, job: 'job', version: 1, queue: 'q', entries: [started] },
  ...more,
});
const event = (id: string, more: Partial<NewEvent> = {}): NewEvent => ({
  ...{ id, name: 'a', payload: id, ttlMs: 500, maxBacklog: 10 },
  ...more,
});
const change = (runId: string, state: Partial<RunState> = {}, more: Partial<RunChange> = {}): RunChange => ({
  ...{ runId, fence: 'any', append: [], state: { status: 'running', version: 1, waits: [], ...state } },
  ...more,
});
const waits = (name = 'w', more: object = {}) => [{ id: [name, 1] as const, events: ['a'], after: 0, ...more }];

function store() {
  const tables = new Tables();
  /** The writes of the last commit, whether they count or not. */
  const last: { writes?: Transition['writes'] } = {};
  const commit = (batch: Partial<Batch>): CommitOutcome => {
    const { outcome, writes } = transition(tables, { now, ...batch }) as Transition;
    last.writes = writes;
    if (outcome.kind === 'committed') tables.apply(writes);
    return outcome;
  };
  const committed = (batch: Partial<Batch>) => {
    const outcome = commit(batch);
    if (outcome.kind !== 'committed') throw new Error(`${outcome.kind}`);
    return outcome;
  };
  const start = (...starts: NewRun[]) => committed({ starts }).starts;
  return { tables, last, commit, committed, start, row: (runId: string) => tables.run(runId) };
}

describe('a start', () => {
  it('writes the row that was asked for, and nothing that it does not say', () => {
    const { start, row } = store();
    const asked = { idempotencyKey: undefined, priority: undefined, tags: ['x'], unique: undefined } as object;
    expect(start(run('r', asked))).toEqual([{ kind: 'created', runId: 'r' }]);
    expect(row('r')).toStrictEqual({
      ...{ runId: 'r', job: 'job', version: 1, queue: 'q', tags: ['x'], status: 'queued', dueAt: now, waits: [] },
      ...{ seq: 1, createdAt: now, fence: 0, length: 1 },
    });
    start(run('later', { dueAt: now + 1, unique: { key: 'k', until: 'end' } }));
    expect(row('later')).toMatchObject({ status: 'scheduled', dueAt: now + 1, unique: { key: 'k', until: 'end' } });
  });

  it('Q1: is known by its key within its own job, also from the same batch', () => {
    const { start } = store();
    const keyed = { idempotencyKey: 'k' };
    expect(start(run('a', keyed), run('b', { ...keyed, job: 'other' }), run('c', keyed), run('d'))).toEqual([
      { kind: 'created', runId: 'a' },
      { kind: 'created', runId: 'b' },
      { kind: 'exists', runId: 'a' },
      { kind: 'created', runId: 'd' },
    ]);
    expect(start(run('e', { ...keyed, job: 'other' }), run('f', { ...keyed, job: 'third' }))).toEqual([
      { kind: 'exists', runId: 'b' },
      { kind: 'created', runId: 'f' },
    ]);
  });

  it('Q1: that another run has answered is remembered until its instant, not beyond', () => {
    const { start, tables } = store();
    const unique = { key: 'u', until: 'end' } as const;
    start(run('holder', { unique }));
    const met = { kind: 'exists', runId: 'holder', isUnique: true };
    const merged = (until: number) => ({ unique, merged: { fingerprint: 'print', until } });
    expect(start(run('late', merged(now)))).toEqual([met]);
    expect([...tables.shared.keys()]).toEqual([]);
    expect(start(run('r', merged(now + 1)))).toEqual([met]);
    expect(start(run('s', { ...merged(now + 5), idempotencyKey: 'k' }))).toEqual([met]);
    const value = { runId: 'holder', fingerprint: 'print', isUnique: true };
    expect([...tables.shared.values()]).toMatchObject([
      { key: 'stepfast:run:r', value, expiresAt: now + 1 },
      { key: 'stepfast:key:["job","k"]', value, expiresAt: now + 5 },
    ]);
    expect(start(run('r'), run('other', { idempotencyKey: 'k' }))).toEqual([
      { kind: 'exists', ...value },
      { kind: 'exists', ...value },
    ]);
  });

  it('Q2, Q4: moves one that is to come, and takes the place of one that is due, be the clock set back since', () => {
    const unique = { key: 'u', until: 'start' } as const;
    const moves: JournalEntry = { kind: 'rescheduled', at: now, payload: 1, dueAt: now + 9 };
    const next = (runId: string) => run(runId, { unique, moves, dueAt: now + 9 });
    const coming = store();
    coming.start(run('first', { unique, dueAt: now + 5 }));
    expect(coming.start(next('second'))).toEqual([{ kind: 'moved', runId: 'first', isUnique: true }]);
    expect(coming.row('first')).toMatchObject({ dueAt: now + 9, length: 2, unique });
    expect(coming.last.writes?.runs.get('first')?.append).toEqual([moves]);
    const due = store();
    due.start(run('first', { unique }));
    expect(due.committed({ now: now - 500, starts: [next('second')] }).starts).toEqual([
      { kind: 'created', runId: 'second' },
    ]);
    expect([due.row('first')?.unique, due.row('first')?.dueAt]).toEqual([undefined, now]);
    expect(due.tables.runByUnique('job', 'u')).toBe('second');
  });
});

describe('an event', () => {
  it('E8: that is known is told as it was first accepted, with what was given then', () => {
    const { committed } = store();
    const keyed = { idempotencyKey: 'k' };
    const first = { ...keyed, payload: 'made', given: 'given' };
    expect(committed({ events: [event('e1', first), event('e2', { idempotencyKey: 'l' })] }).events).toEqual([
      { kind: 'accepted', id: 'e1', seq: 1, acceptedAt: now, resumed: [] },
      { kind: 'accepted', id: 'e2', seq: 2, acceptedAt: now, resumed: [] },
    ]);
    const told = { kind: 'deduplicated', acceptedAt: now, resumed: [] };
    const again = committed({ now: now + 1, events: [event('e3', keyed), event('e4', { idempotencyKey: 'l' })] });
    expect(again.events).toStrictEqual([
      { ...told, id: 'e1', seq: 1, payload: 'made', given: 'given' },
      { ...told, id: 'e2', seq: 2, payload: 'e2' },
    ]);
    expect(committed({ now: now + 500, events: [event('e5', keyed)] }).events).toMatchObject([{ kind: 'accepted' }]);
  });

  it('is for runs of its own kind: those that a plug-in has written hear of what has gone through it', () => {
    const { commit, start } = store();
    start(run('plain'), run('sealed', { job: 'stepfast:sealed' }), run('named', { job: 'my stepfast:' }));
    const to = (runId: string, name: string) =>
      commit({ events: [event('first'), event(`${runId} ${name}`, { name, runId })] });
    const refused = { kind: 'refused', code: 'RUN_NOT_FOUND', index: 1 };
    expect([to('sealed', 'a'), to('plain', 'stepfast:a'), to('nobody', 'a')]).toEqual([refused, refused, refused]);
    const kinds = [to('sealed', 'stepfast:a'), to('plain', 'a'), to('named', 'a stepfast:')].map(({ kind }) => kind);
    expect(kinds).toEqual(['committed', 'committed', 'committed']);
  });
});

describe('a change of a run', () => {
  it('that leaves its state as it is answers its fence, and offers nothing', () => {
    const { committed, start } = store();
    start(run('r'));
    const { state: _, ...none } = change('r', {}, { raise: true });
    const outcome = { kind: 'committed', fence: 1, offers: [], ended: [], state: [], starts: [], events: [] };
    expect(committed({ run: none, events: [event('e')] })).toMatchObject({ ...outcome, events: [{ id: 'e' }] });
  });

  it('E5: is overtaken by an event that fits any of the waits which it says are over', () => {
    const { commit, committed, start } = store();
    start(run('r'));
    committed({ events: [event('e')] });
    const other = { id: ['v', 1] as const, events: ['b'], after: 0 };
    for (const unless of [
      [other, ...waits()],
      [...waits(), other],
    ])
      expect(commit({ run: change('r', {}, { unless }) })).toMatchObject({ kind: 'overtaken', offers: [{ id: 'e' }] });
    for (const unless of [[], [other], waits('w', { deadline: now - 1 })])
      expect(commit({ run: change('r', {}, { unless }) }).kind).toBe('committed');
  });

  it('E7: takes what there is: an event that was swept meanwhile is not made anew', () => {
    const { committed, start, tables } = store();
    start(run('r'));
    committed({ events: [event('e')] });
    committed({ run: change('r', {}, { takes: [{ seq: 2 }, { seq: 77 }] }) });
    expect([...tables.log.values()]).toMatchObject([{ id: 'e', taken: true }]);
  });

  it('Q2: counts against the rate of its queue when it is given a slot, not when it gives it back', () => {
    const { committed, start, tables } = store();
    start(run('r'));
    const rated = { rate: { limit: 1, perMs: 50 }, concurrency: 1 };
    committed({ run: change('r', { slot: 'q' }, rated) });
    expect([...tables.shared.values()]).toMatchObject([{ key: 'stepfast:rate:q', value: [now] }]);
    committed({ run: change('r', { slot: 'q' }, rated) });
    committed({ run: change('r', {}, rated) });
    expect([tables.shared.size, tables.slots('q')]).toEqual([1, 0]);
  });

  it('F9: that has ended before ends its children no more, nor tells anybody anew', () => {
    const { committed, start, row } = store();
    const cancelled = { status: 'cancelled', endedAt: now } as const;
    start(run('parent'), run('child', { parentId: 'parent' }), run('waiting'));
    committed({ run: change('waiting', { awaits: ['parent'] }) });
    committed({ run: change('parent', cancelled) });
    expect([row('child')?.status, row('waiting')?.ended]).toEqual(['cancelled', ['parent']]);
    committed({ run: change('child', {}, { fence: row('child')!.fence }) });
    committed({ run: change('parent', cancelled, { fence: 0, append: [started] }) });
    expect([row('child')?.status, row('waiting')?.ended]).toEqual(['running', ['parent']]);
    committed({ run: change('parent', {}, { fence: 0 }) });
    expect(row('waiting')?.ended).toEqual([]);
  });
});

describe('a deletion', () => {
  const over = { status: 'completed', endedAt: now } as const;

  it('E12: waits for those who await the run, and have not ended themselves', () => {
    const { committed, commit, start, row } = store();
    start(run('awaited'), run('waiting'));
    committed({ run: change('waiting', { awaits: ['awaited'] }) });
    committed({ run: change('awaited', over) });
    const deletes = [{ runId: 'awaited', fence: 0, fingerprint: 'f' }];
    expect(commit({ deletes })).toEqual({ kind: 'fenced', fence: 0 });
    committed({ run: change('waiting', { ...over, awaits: ['awaited'] }) });
    committed({ deletes });
    expect(row('awaited')).toBeUndefined();
  });

  it('Q1: is remembered until the instant that was promised, not from it on', () => {
    const remembered = (keyUntil: number) => {
      const { committed, start, tables } = store();
      start(run('r', { keyUntil, idempotencyKey: 'k' }));
      committed({ run: change('r', over) });
      committed({ deletes: [{ runId: 'r', fence: 0, fingerprint: 'f' }] });
      return [...tables.shared.values()].map(({ key, expiresAt }) => [key, expiresAt]);
    };
    expect(remembered(now + 1)).toEqual([
      ['stepfast:run:r', now + 1],
      ['stepfast:key:["job","k"]', now + 1],
    ]);
    expect([remembered(now), remembered(now - 1)]).toEqual([[], []]);
  });
});

describe('the shared state', () => {
  it('D8: what has expired is tidied away by a commit that writes to it, and by no other', () => {
    const { committed, tables } = store();
    committed({ state: [{ kind: 'set', key: 'old', value: 1, expiresAt: now + 1 }] });
    committed({ state: [{ kind: 'set', key: 'kept', value: 1, expiresAt: now + 9 }] });
    committed({ now: now + 5, starts: [run('r')] });
    expect([...tables.shared.keys()]).toEqual(['old', 'kept']);
    committed({ now: now + 5, state: [{ kind: 'set', key: 'new', value: 1 }] });
    expect([...tables.shared.keys()]).toEqual(['kept', 'new']);
  });

  it('D8: a value has an instant only where it is given one', () => {
    const { committed, tables } = store();
    committed({
      state: [
        { kind: 'set', key: 'a', value: 1 },
        { kind: 'increment', key: 'b', by: 2 },
        { kind: 'set', key: 'c', value: 1, expiresAt: now + 1 },
        { kind: 'increment', key: 'c', by: 1 },
      ],
    });
    expect([...tables.shared.values()]).toStrictEqual([
      { key: 'a', value: 1, revision: 1 },
      { key: 'b', value: 2, revision: 2 },
      { key: 'c', value: 2, expiresAt: now + 1, revision: 4 },
    ]);
  });
});
