import { describe, expect, it } from 'vitest';
import type { Command } from '../src/replay/command.js';
import type { Ask } from '../src/replay/replay.js';
import { type Draft, emptyDraft, type Fact, type LiveRun, liveRunOf } from '../src/run/live-run.js';
import { createOffers } from '../src/run/offers.js';
import {
  type Circumstances,
  isOffered,
  isOffline,
  isSameState,
  mayBeDue,
  nextDue,
  offered,
  openChildren,
  openWait,
  openWaits,
  passedOver,
  retryAt,
  shownIn,
  startable,
  stateOf,
  unjudged,
} from '../src/run/questions.js';
import { SKEW_MS } from '../src/store/due.js';
import { identityKey, type JournalEntry } from '../src/store/journal.js';
import type { EventRow, RunRow } from '../src/store/rows.js';
import type { Json } from '../src/values/json.js';

// Pins: what is answered from a run in memory alone: which event fits, what is due first, which functions may start, what
// the row says next (spec E3 to E10, R7, R8, F8).

const at = 1_000;
type Given = { readonly kind: JournalEntry['kind'] } & { readonly [field: string]: unknown };
const row = (over: Partial<RunRow> = {}): RunRow => ({
  ...{ runId: 'r', job: 'job', queue: 'q', createdAt: at, seq: 1, fence: 1, length: 1, version: 1 },
  ...{ status: 'waiting', waits: [] },
  ...over,
});
const event = (seq: number, over: object = {}): EventRow => ({
  ...{ seq, id: `e${seq}`, name: 'a', payload: seq, acceptedAt: at, expiresAt: at + 9_000, resumed: [] },
  ...over,
});

/** A run with these entries, which asks for these, and was offered these events. */
function live(
  entries: readonly Given[],
  asks: readonly Ask[] = [],
  offers: readonly EventRow[] = [],
  over = {},
  more = {},
): LiveRun {
  const journal = [{ kind: 'started', at, payload: null, ...more }, ...entries.map((entry) => ({ at, ...entry }))];
  const stored = { row: row({ length: journal.length, ...over }), journal: journal as unknown as JournalEntry[] };
  const run = liveRunOf(stored, { offers, interrupted: false });
  for (const ask of asks) run.asks.set(ask.key, ask);
  return run;
}
const asked = (kind: string, name: string, more: object = {}): Ask => {
  const namespace = kind === 'wait' ? 'wait' : 'step';
  const command = { kind, ...(kind === 'run' && { fn: () => undefined }), ...more } as unknown as Command;
  const id = [name, 1] as const;
  return {
    namespace,
    id,
    key: identityKey(namespace, id),
    command,
    settle: () => undefined,
    released: 0,
    since: undefined,
  };
};
const wait = (name: string, more: object = {}): Given => ({
  ...{ kind: 'wait-set', id: [name, 1], events: ['a'], onTimeout: 'fail' },
  ...more,
});
const sleep = (name: string, dueAt: number): Given => ({ kind: 'sleep-set', id: [name, 1], dueAt });
const child = (name: string): Given => ({ kind: 'child-set', id: [name, 1], runId: `run of ${name}`, job: 'job' });
const taken = (seq: number, more: object = {}): Given => ({
  ...{
    kind: 'event-taken',
    id: ['before', 1],
    asked: 1,
    seq,
    eventId: `e${seq}`,
    event: 'a',
    payload: null,
    acceptedAt: at,
  },
  ...more,
});
const seqs = (events: readonly EventRow[]) => events.map(({ seq }) => seq);

describe('offers', () => {
  it('are found by names and key, oldest first, each once, until they are taken', () => {
    const offers = createOffers();
    expect(offers.of(['a'], undefined)).toEqual([]);
    for (const each of [event(7), event(3), event(5, { name: 'b' }), event(4, { key: 'k' }), event(3)])
      offers.add(each);
    expect(seqs(offers.of(['a'], undefined))).toEqual([3, 7]);
    expect(seqs(offers.of(['a', 'b', 'c'], undefined))).toEqual([3, 5, 7]);
    expect([seqs(offers.of(['a'], 'k')), seqs(offers.of(['b'], 'k'))]).toEqual([[4], []]);
    expect([offers.delete(3), offers.delete(3), offers.delete(99)]).toEqual([true, false, false]);
    expect(seqs(offers.of(['a'], undefined))).toEqual([7]);
    offers.clear();
    expect([offers.of(['a'], undefined), offers.delete(7)]).toEqual([[], false]);
  });
});

describe('open waits', () => {
  it('E3: begin behind the start of their run, and behind what it has taken of a pair, but for what it left', () => {
    const set = (more: object = {}) => ({ id: ['w', 1], events: ['a', 'b'], onTimeout: 'fail', ...more }) as never;
    expect(openWait(live([], [], [], { seq: 4 }), set())).toStrictEqual({
      ...{ id: ['w', 1], events: ['a', 'b'], key: undefined, deadline: undefined, lookbackFrom: undefined, after: 4 },
    });
    const over = live([taken(9, { over: [6, 7] }), taken(8, { event: 'b' })], [], [], { seq: 4 });
    expect(openWait(over, set({ deadline: 50, lookbackFrom: 3, key: undefined }))).toMatchObject({
      ...{ after: 5, afters: [5, 8], deadline: 50, lookbackFrom: 3 },
    });
    expect(openWait(over, set({ key: 'k' }))).toMatchObject({ after: 4 });
  });

  it('E10: are those that are recorded and asked for, in the order of asking; of children likewise', () => {
    const entries = [wait('one'), wait('two'), wait('never'), child('kid'), child('unasked')];
    const run = live(entries, [asked('wait', 'two'), asked('wait', 'new'), asked('call', 'kid'), asked('wait', 'one')]);
    expect(openWaits(run).map(({ set }) => set.id[0])).toEqual(['two', 'one']);
    expect(openChildren(run).map(({ runId }) => runId)).toEqual(['run of kid']);
    expect(openWaits(live([], [asked('wait', 'one')]))).toEqual([]);
  });

  it('are shown in a row or not', () => {
    const isShown = shownIn(row({ waits: [{ id: ['w', 1], events: ['a'], after: 1 }] }));
    expect([isShown(['w', 1]), isShown(['w', 2])]).toEqual([true, false]);
  });
});

describe('the event that a wait takes', () => {
  const one = (run: LiveRun) => offered(run, openWaits(run)[0]!)?.seq;

  it('E3, E5, E7: is the oldest that came in time, is not over, and that the run has not taken', () => {
    const ask = asked('wait', 'w');
    expect(one(live([wait('w')], [ask], [event(5), event(4)]))).toBe(4);
    expect(one(live([taken(4), wait('w')], [ask], [event(5), event(4)]))).toBe(5);
    expect(one(live([wait('w', { deadline: at - 1 })], [ask], [event(4)]))).toBeUndefined();
    const over = live([wait('w')], [ask], [event(3, { expiresAt: at }), event(4, { expiresAt: at + 1 })]);
    expect(one(over), 'the store has offered it').toBe(3);
    over.offers.expire(at);
    expect(one(over)).toBe(4);
    over.offers.expire(at + 1);
    expect(one(over)).toBeUndefined();
    expect(one(live([wait('w')], [ask], [event(4, { runId: 'other' })]))).toBeUndefined();
    const left = live([taken(9, { over: [6] }), wait('w')], [ask], [event(7), event(6), event(9)]);
    expect(one(left)).toBe(6); // what was left for another wait; 7 counts as taken with 9
    const back = live([taken(9), wait('w', { lookbackFrom: 0 })], [ask], [event(1), event(9)]);
    expect(one(back)).toBe(1);
  });

  it('E3: is none that an earlier generation of the run has taken, but one that it left', () => {
    const ask = asked('wait', 'w');
    const anew = { generation: 1, floors: [['["a"]', 7]] };
    const left = { ...anew, left: [['["a"]', [3]]] };
    const taking = (more: object, ...events: EventRow[]) => one(live([wait('w')], [ask], events, {}, more));
    expect(taking(left, event(3))).toBe(3);
    expect(taking(left, event(5), event(7), event(8))).toBe(8);
    const back = (more: object, seq: number) =>
      one(live([wait('w', { lookbackFrom: 0 })], [ask], [event(seq)], { seq: 2 }, more));
    expect([back(anew, 5), back(anew, 7), back(anew, 8), back(anew, 1)]).toEqual([undefined, undefined, 8, 1]);
  });

  it('E9: is asked about first where the wait looks into it; what it made of the payload is what is taken', () => {
    const judge = async () => ({ kind: 'other' }) as const;
    const run = live([wait('w')], [asked('wait', 'w', { judge })], [event(4), event(5), event(6)]);
    expect(unjudged(run).map(({ event: { seq } }) => seq)).toEqual([4, 5, 6]);
    expect([one(run), isOffered(run)]).toEqual([undefined, true]);
    const { key } = asked('wait', 'w');
    run.verdicts.set(`${key}:4`, { kind: 'other' });
    run.verdicts.set(`${key}:5`, { kind: 'fits', payload: 'made' });
    expect(unjudged(run).map(({ event: { seq } }) => seq)).toEqual([6]);
    expect(offered(run, openWaits(run)[0]!)).toMatchObject({ seq: 5, payload: 'made' });
    expect(passedOver(run, openWaits(run)[0]!, event(5))).toEqual([4]);
    run.verdicts.set(`${key}:6`, { kind: 'refused', reason: 'no' });
    expect(unjudged(run)).toEqual([]);
    expect(unjudged(live([wait('w')], [asked('wait', 'w')], [event(4)]))).toEqual([]);
  });

  it('E3: leaves older ones of its pair to the next wait, each once', () => {
    const judge = async () => ({ kind: 'other' }) as const;
    const ask = asked('wait', 'w', { judge });
    const events = [event(3), event(4), event(5, { name: 'b' }), event(6)];
    const run = live([wait('w', { events: ['a', 'b'] })], [ask], events);
    expect(passedOver(run, openWaits(run)[0]!, event(6))).toEqual([3, 4]);
    expect(passedOver(run, openWaits(run)[0]!, event(5, { name: 'b' }))).toEqual([]);
    const again = live([taken(5, { over: [3, 4] }), wait('w')], [ask], [event(3), event(4), event(7), event(8)]);
    expect(passedOver(again, openWaits(again)[0]!, event(8))).toEqual([7]); // 3 and 4 were left before
  });
});

describe('what is due next', () => {
  const draft = (now = at): Draft => emptyDraft(now);
  const shown = (...names: string[]) => ({
    waits: names.map((name) => ({ id: [name, 1] as const, events: ['a'], after: 1 })),
  });
  const due = (run: LiveRun, of = draft()) => {
    const found = nextDue(run, of);
    return found && [found.ask.id[0], found.at, found.event?.seq ?? found.child?.runId];
  };

  it('Q4: a sleep from its instant on, not before', () => {
    const run = live([sleep('s', at + 5)], [asked('sleep', 's')]);
    expect([due(run), due(run, draft(at + 5))]).toEqual([undefined, ['s', at + 5, undefined]]);
    expect(due(live([sleep('s', at)], []))).toBeUndefined();
  });

  it('E5: a deadline from its instant on; an event that came by then goes first', () => {
    const over = wait('w', { deadline: at });
    expect(due(live([over], [asked('wait', 'w')], [], shown('w')))).toEqual(['w', at, undefined]);
    expect(due(live([over], [asked('wait', 'w')], [event(4)], shown('w')))).toEqual(['w', at, 4]);
    expect(due(live([wait('w', { deadline: at + 1 })], [asked('wait', 'w')], [], shown('w')))).toBeUndefined();
  });

  it('R7: the earliest; of equal instants what came before a timer; of two events the one that the store took first', () => {
    const sleeps = live(
      [sleep('late', at - 1), sleep('early', at - 2)],
      [asked('sleep', 'late'), asked('sleep', 'early')],
    );
    expect(due(sleeps)).toEqual(['early', at - 2, undefined]);
    const asks = [asked('sleep', 's'), asked('wait', 'w')];
    expect(due(live([sleep('s', at), wait('w')], asks, [event(4)], shown('w')))).toEqual(['w', at, 4]);
    expect(due(live([sleep('s', at - 1), wait('w')], asks, [event(4)], shown('w')))).toEqual(['s', at - 1, undefined]);
    const two = [asked('wait', 'one'), asked('wait', 'two')];
    const events = [event(5, { acceptedAt: at - 9 }), event(4, { name: 'b' })];
    const both = live([wait('one'), wait('two', { events: ['b'] })], two, events, shown('one', 'two'));
    expect(due(both)).toEqual(['two', at, 4]); // whatever clocks said
    const first = live([wait('one'), wait('two', { events: ['b'] })], two, [event(3), events[1]!], shown('one', 'two'));
    expect(due(first)).toEqual(['one', at, 3]);
    const same = live([sleep('x', at), sleep('y', at)], [asked('sleep', 'y'), asked('sleep', 'x')]);
    expect(due(same)).toEqual(['y', at, undefined]); // in the order of asking
  });

  it('E12: the end of a child, once it is read', () => {
    const run = live([child('kid')], [asked('call', 'kid')]);
    expect(due(run)).toBeUndefined();
    run.ended.set('run of kid', { at: at - 3, value: 7 });
    expect(due(run)).toEqual(['kid', at - 3, 'run of kid']);
    expect(isOffered(run)).toBe(true);
  });

  it('is nothing where there is no sleep, wait or child', () => {
    const some = [[sleep('s', at)], [wait('w')], [child('kid')], [sleep('s', at), wait('w'), child('kid')]];
    expect([mayBeDue(live([])), ...some.map((entries) => mayBeDue(live(entries)))]).toEqual([
      false,
      true,
      true,
      true,
      true,
    ]);
  });

  it('is nothing that this very commit records, nor a wait that the row does not show', () => {
    const run = live(
      [sleep('s', at), wait('w', { deadline: at })],
      [asked('sleep', 's'), asked('wait', 'w')],
      [],
      shown('w'),
    );
    const of = draft();
    of.entries.push(run.digest.entries[1]!, run.digest.entries[2]!);
    expect(due(run, of)).toBeUndefined();
    expect(due(live([wait('w', { deadline: at })], [asked('wait', 'w')], [event(4)]))).toBeUndefined();
  });

  it('E5: takes no event where memory may lack the oldest', () => {
    const run = live([wait('w')], [asked('wait', 'w')], [event(4)], shown('w'));
    run.isBlind = true;
    expect(due(run)).toBeUndefined();
  });
});

describe('functions to enter', () => {
  const failed = (name: string, retry: number): Given => ({
    ...{ kind: 'attempt-failed', id: [name, 1], attempt: 1, error: { name: 'Error', message: 'm' }, retryAt: retry },
  });
  const names = (run: LiveRun, isOnline = true, of = emptyDraft(at)) =>
    startable(run, of, isOnline).map(({ id }) => id[0]);

  it('F1: are those that are asked for, not in flight, and not between two attempts', () => {
    const run = live(
      [failed('later', at + 1), failed('now', at), child('called')],
      ['free', 'busy', 'later', 'now']
        .map((name) => asked('run', name))
        .concat(asked('call', 'called'), asked('sleep', 's')),
    );
    run.running.set(asked('run', 'busy').key, {} as never);
    expect(names(run)).toEqual(['free', 'now']);
    run.ending = { kind: 'returned', value: null };
    expect(names(run)).toEqual(['free']); // pending retries are withdrawn (spec R8)
  });

  it('F8: wait for the network, if they say so', () => {
    const run = live([], [asked('run', 'a'), asked('run', 'b', { isOnline: true })]);
    expect([names(run, true), names(run, false)]).toEqual([['a', 'b'], ['a']]);
    expect([isOffline(run, true), isOffline(run, false)]).toEqual([false, true]);
    expect(isOffline(live([], [asked('run', 'a')]), false)).toBe(false);
  });

  it('are none that have ended, and are not recorded by this commit', () => {
    const ask = asked('run', 'a');
    const run = live([], [ask]);
    const fact: Fact = { ask, attempt: 1, at, outcome: { value: null }, state: [] };
    run.facts.push(fact);
    expect(names(run)).toEqual([]);
    const of = emptyDraft(at);
    of.facts.add(fact);
    expect(names(run, true, of)).toEqual(['a']);
    run.facts = [{ ...fact, ask: asked('run', 'other') }];
    expect(names(run)).toEqual(['a']);
  });

  it('Q4: a backoff that was set by a clock that was ahead is over', () => {
    const failures = { count: 1, attempt: 1, at, retryAt: at + 9, error: {} as never };
    expect([retryAt(undefined, at), retryAt(failures, at), retryAt(failures, at - SKEW_MS - 1)]).toEqual([
      0,
      at + 9,
      0,
    ]);
  });
});

describe('the row as the next commit leaves it', () => {
  const around = (over: Partial<Circumstances> = {}): Circumstances => ({
    ...{ now: at, owner: 'me', version: 2, isOnline: true, deadline: Infinity },
    ...over,
  });
  /** With a handler that has asked, and rests. */
  const resting = (run: LiveRun, isQuiet = false) => {
    run.replay = { isQuiet: () => isQuiet } as never;
    return run;
  };

  it('of a run whose functions are in flight is running, holds its slot, and is due at any time', () => {
    const run = resting(live([sleep('s', at + 7)], [asked('sleep', 's'), asked('run', 'a')]));
    const { state, nextAt } = stateOf(run, 1, around({ deadline: at + 9 }));
    expect(state).toMatchObject({ status: 'running', owner: 'me', dueAt: 0, slot: 'q', version: 2, startedAt: at });
    expect(nextAt).toBe(at + 7);
    expect(stateOf(run, 1, around({ deadline: at + 5 })).nextAt).toBe(at + 5);
    const now = resting(live([sleep('s', at)], [asked('sleep', 's')]));
    expect(stateOf(now, 1, around({ deadline: at + 9 })).nextAt).toBe(at + 9); // what is due is taken by this round
    for (const absent of ['progress', 'awaits']) expect(state).not.toHaveProperty(absent);
    expect(stateOf(resting(live([])), 0, around()).state.status).toBe('running'); // it has asked for nothing yet
  });

  it('of one that waits says for what, and until when', () => {
    const asks = [asked('wait', 'w'), asked('sleep', 's'), asked('call', 'kid')];
    const run = resting(live([wait('w', { deadline: at + 8 }), sleep('s', at + 6), child('kid')], asks));
    const { state, nextAt } = stateOf(run, 0, around());
    expect(state).toMatchObject({
      status: 'sleeping',
      dueAt: at + 6,
      awaits: ['run of kid'],
      waits: [{ id: ['w', 1] }],
    });
    expect([nextAt, 'slot' in state, 'setAt' in state, 'unsettled' in state]).toEqual([at + 6, false, false, false]);
    const plain = stateOf(resting(live([wait('w')], [asked('wait', 'w')])), 0, around());
    expect([plain.state.status, plain.state.dueAt, plain.nextAt]).toEqual(['waiting', undefined, Infinity]);
    expect(stateOf(resting(live([wait('w')], [asked('wait', 'w')])), 0, around({ deadline: at + 3 })).state.dueAt).toBe(
      at + 3,
    );
  });

  it('E2: is due at once where something has come that it was not told of yet, or a handler may be about to ask', () => {
    const come = stateOf(resting(live([wait('w')], [asked('wait', 'w')], [event(4)])), 0, around());
    expect([come.state.dueAt, come.nextAt]).toEqual([at, Infinity]);
    const quiet = stateOf(resting(live([wait('w')], [asked('wait', 'w')]), true), 0, around());
    expect(quiet.state).toMatchObject({ unsettled: true, dueAt: at });
    const offline = stateOf(resting(live([], [asked('run', 'a', { isOnline: true })])), 0, around({ isOnline: false }));
    expect(offline.state).toMatchObject({ status: 'waiting', unsettled: true, dueAt: at });
  });

  it('Q4: of one that backs off says when that was set', () => {
    const error = { name: 'Error', message: 'm' };
    const entry: Given = { kind: 'attempt-failed', id: ['a', 1], attempt: 1, error, retryAt: at + 4 };
    const { state } = stateOf(resting(live([entry], [asked('run', 'a')])), 0, around());
    expect(state).toMatchObject({ status: 'retrying', dueAt: at + 4, setAt: at });
    const handler: Given = { kind: 'handler-failed', attempt: 1, error, retryAt: at + 6 };
    expect(stateOf(live([handler]), 0, around()).state).toMatchObject({ status: 'retrying', dueAt: at + 6, setAt: at });
    const again = resting(live([handler, wait('w')], [asked('wait', 'w')]));
    expect(stateOf(again, 0, around()).state.status).toBe('waiting'); // it is being tried
    const over = resting(live([entry], [asked('run', 'a')]));
    over.ending = { kind: 'returned', value: null };
    expect(stateOf(over, 0, around()).state.status).toBe('waiting'); // pending retries are withdrawn (spec R8)
  });

  it('F8: of one whose undo waits for the network says that nothing is under way', () => {
    const run = live([{ kind: 'cancelled' }]);
    run.undos.set('k', { isOnline: true, fn: () => 1 } as never);
    const dueAt = (isOnline: boolean, retryAt: number) =>
      stateOf(run, 0, around({ isOnline, follows: { key: 'k', retryAt } })).state.dueAt;
    expect([dueAt(true, at), dueAt(false, at), dueAt(false, 0), dueAt(false, at + 5)]).toEqual([0, at, at, at + 5]);
  });

  it('F7: of one that has ended is held on as long as something follows', () => {
    const ended = (over: Partial<Circumstances> = {}) => stateOf(live([{ kind: 'cancelled' }]), 0, around(over));
    expect(ended().state).toEqual({ version: 1, startedAt: at, status: 'cancelled', waits: [], endedAt: at });
    expect(ended().nextAt).toBe(Infinity);
    expect(ended({ follows: { key: 'k', retryAt: at } }).state).toMatchObject({ owner: 'me', undoing: true, dueAt: 0 });
    expect(ended({ follows: { key: 'k', retryAt: at } }).state).not.toHaveProperty('setAt');
    expect(ended({ follows: { key: 'k', retryAt: at + 5 } }).state).toMatchObject({
      undoing: true,
      dueAt: at + 5,
      setAt: at,
    });
    expect(ended({ follows: { key: 'k', retryAt: at + 5 } }).nextAt).toBe(at + 5);
  });

  it('O6: has a later version once code of it says what is undone', () => {
    const entries: Given[] = [{ kind: 'cancelled' }, { kind: 'upgraded', from: 1, to: 2 }];
    const version = (length: number, upTo = entries) =>
      stateOf(live(upTo, [], [], { length }), 0, around()).state.version;
    expect([version(2), version(3), version(2, entries.slice(0, 1)), version(1, entries.slice(0, 1))]).toEqual([
      2, 1, 1, 1,
    ]);
  });

  it('keeps what is known: version, start, progress, and that steps can be undone', () => {
    const run = live([{ kind: 'undo-set', id: ['a', 1] }], [asked('run', 'a')], [], {
      version: 5,
      startedAt: 7,
      progress: 1,
    });
    expect(stateOf(resting(run), 1, around()).state).toMatchObject({
      version: 5,
      startedAt: 7,
      progress: 1,
      undoable: true,
    });
    expect(stateOf(resting(live([])), 1, around()).state).not.toHaveProperty('undoable');
  });

  it('is the same as before where nothing of it matters', () => {
    const waits = [{ id: ['w', 1] as const, events: ['a'], after: 1 }];
    const state = { status: 'waiting', version: 1, owner: 'me', dueAt: 5, waits } as const;
    const same = (over: Partial<RunRow>, other: object = {}) =>
      isSameState(row({ ...state, ...over }), { ...state, ...other });
    expect(same({})).toBe(true);
    for (const over of [
      { woken: true },
      { status: 'sleeping' },
      { slot: 'q' },
      { owner: 'other' },
      { dueAt: 6 },
    ] as const)
      expect(same(over)).toBe(false);
    for (const over of [
      { unsettled: true },
      { undoing: true },
      { undoable: true },
      { waits: [] },
      { awaits: ['c'] },
    ] as const)
      expect(same(over)).toBe(false);
    expect(same({ progress: 1 })).toBe(false);
    const blob = () => ({ half: { $: ['Blob', new Blob(['a']), 1, '', null] } }) as never;
    const said: Json = blob();
    expect([same({ progress: said }, { progress: said }), same({ progress: said }, { progress: blob() })]).toEqual([
      true,
      false,
    ]);
    expect(same({ progress: { done: 1 } }, { progress: { done: 1 } })).toBe(true);
    expect(same({ unsettled: true, dueAt: 6 }, { unsettled: true })).toBe(true); // due at once, either way
  });
});
