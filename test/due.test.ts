import { describe, expect, it } from 'vitest';
import { isAhead, isDue, isLeftOver, laneOf, SKEW_MS, selectByLane, selectDue, stampOf } from '../src/store/due.js';
import type { RunRow } from '../src/store/rows.js';
import type { DueQuery } from '../src/store/store.js';

// Pins: which rows are due, and for whom, alone: to the millisecond (spec O1, O2, Q2, Q4).

const now = 1_000_000;
const row = (over: Partial<RunRow> = {}): RunRow => ({
  ...{ runId: 'r', job: 'job', queue: 'q', createdAt: 1, seq: 1, fence: 1, length: 3, version: 1 },
  ...{ status: 'sleeping', waits: [], dueAt: now },
  ...over,
});
const query = (over: Partial<DueQuery> = {}): DueQuery => ({
  ...{ now, owner: 'me', jobs: { job: 1 }, limit: 10, graceMs: 500 },
  ...over,
});
const alive = () => true;
const dead = () => false;
const picked = (rows: readonly RunRow[], over: Partial<DueQuery> = {}, isAlive = dead) =>
  selectDue(rows, query(over), isAlive).runs.map(({ row: { runId } }) => runId);

describe('an instant', () => {
  it('Q4: was set by a clock that was ahead if that is more than what clocks may differ by', () => {
    expect([isAhead(now + SKEW_MS, now), isAhead(now + SKEW_MS + 1, now), isAhead(undefined, now)]).toEqual([
      ...[false, true, false],
    ]);
  });

  it('Q4: is due when it comes; what is queued or woken, or backs off by a clock that was ahead, is due at once', () => {
    const later = { dueAt: now + 1 };
    expect([isDue(row(), now), isDue(row(later), now)]).toEqual([true, false]);
    expect(isDue(row({ ...later, status: 'queued' }), now)).toBe(true);
    expect(isDue(row({ ...later, woken: true }), now)).toBe(true);
    expect(isDue(row({ ...later, setAt: now + SKEW_MS + 1 }), now)).toBe(true);
    expect(isDue(row({ ...later, setAt: now }), now)).toBe(false);
  });

  it('Q2, Q4: stands in the lane of its priority, before those whose instants are not to be relied upon', () => {
    expect(laneOf(row())).toBe(-0.5);
    expect([{ status: 'queued' }, { woken: true }, { setAt: 5 }].map((over) => laneOf(row(over as never)))).toEqual([
      0, 0, 0,
    ]);
    expect(laneOf(row({ priority: 3 }))).toBe(-3.5);
    expect(laneOf(row({ priority: 3, status: 'queued' }))).toBe(-3);
  });
});

describe('a stamp', () => {
  it('changes with the fence, the journal and a wake-up', () => {
    const stamps = [{}, { fence: 2 }, { length: 4 }, { woken: true as const }].map((over) => stampOf(row(over)));
    expect(stamps).toEqual(['1:3:', '2:3:', '1:4:', '1:3:true']);
  });
});

describe('a run of a job that is not registered', () => {
  it('R5: is for nobody here, unless a dead owner has left it in a slot', () => {
    const left = row({ job: 'other', status: 'running', owner: 'x', slot: 'q' });
    expect(picked([left])).toEqual(['r']);
    expect(picked([{ ...left, job: 'job', version: 2 }])).toEqual(['r']);
    expect(selectDue([left], query(), dead).runs).toMatchObject([{ interrupted: true }]);
    expect(selectDue([left], query(), alive)).toStrictEqual({ runs: [], foreign: true });
    expect(picked([{ ...left, status: 'sleeping', dueAt: now - 501 }], {}, alive)).toEqual([]);
    expect(picked([{ ...left, owner: 'me' }])).toEqual([]);
    expect(picked([{ ...left, owner: undefined }])).toEqual([]);
    expect(picked([{ ...left, slot: undefined }])).toEqual([]);
    expect(picked([{ ...left, dueAt: undefined }])).toEqual([]);
  });
});

describe('rows of one lane', () => {
  it('are read up to the first whose instant is ahead; of others each is looked at', () => {
    const timed = [row(), row({ runId: 'later', dueAt: now + 5 }), row({ runId: 'behind', dueAt: now + 9 })];
    expect(selectDue(timed, query(), dead)).toStrictEqual({
      runs: [{ row: timed[0], interrupted: false }],
      foreign: false,
      nextDueAt: now + 5,
      isOver: true,
    });
    const backing = [
      row({ runId: 'a', status: 'retrying', setAt: now, dueAt: now + 9 }),
      row({ runId: 'b', status: 'retrying', setAt: now, dueAt: now + 5 }),
      row({ runId: 'c', status: 'retrying', setAt: now }),
    ];
    expect(selectDue(backing, query(), dead)).toStrictEqual({
      runs: [{ row: backing[2], interrupted: false }],
      foreign: false,
      nextDueAt: now + 5,
    });
  });

  it('say of no instant that there is none', () => {
    expect(selectDue([], query(), dead)).toStrictEqual({ runs: [], foreign: false });
    expect(selectDue([row()], query(), dead)).not.toHaveProperty('nextDueAt');
  });

  it('O6: of a job that is not here, of a later version of it, or without an instant, are nobody’s here', () => {
    const rows = [
      row({ job: 'other' }),
      row({ version: 2 }),
      row({ dueAt: undefined as never }),
      row({ runId: 'mine' }),
    ];
    expect(picked(rows)).toEqual(['mine']);
    expect(picked([row({ dueAt: undefined as never, status: 'queued' })])).toEqual([]);
    expect(picked([row({ version: 2 })], { jobs: { job: 3 } })).toEqual(['r']);
  });

  it('are as many as were asked for', () => {
    const rows = ['a', 'b', 'c'].map((runId) => row({ runId }));
    expect([picked(rows, { limit: 2 }), picked(rows, { limit: 0 })]).toEqual([['a', 'b'], []]);
  });

  it('Q2: without a slot are left where their queue is full', () => {
    expect(picked([row(), row({ runId: 'held', slot: 'q' })], { full: ['q'] })).toEqual(['held']);
    expect(picked([row()], { full: ['p'] })).toEqual(['r']);
  });

  it('are left out as long as they are what was left, and no longer', () => {
    const skip = new Map([['r', stampOf(row())]]);
    expect([picked([row()], { skip }), picked([row({ woken: true })], { skip })]).toEqual([[], ['r']]);
    expect(picked([row({ runId: 'other' })], { skip })).toEqual(['other']);
  });
});

describe('owners', () => {
  const running = { status: 'running', dueAt: 0 } as const;

  it('O1: what this one is at is its own, until it is woken', () => {
    for (const over of [running, { unsettled: true }, { undoing: true }] as const)
      expect(picked([row({ owner: 'me', ...over })])).toEqual([]);
    expect(picked([row({ owner: 'me', ...running, woken: true })])).toEqual(['r']);
    expect(picked([row({ owner: 'me' })])).toEqual(['r']);
  });

  it('O2: a living one keeps what it is at, and a while what is due', () => {
    const other = (over: object) => selectDue([row({ owner: 'other', ...over })], query(), alive);
    for (const over of [running, { unsettled: true }, { undoing: true }])
      expect(other(over)).toMatchObject({ runs: [], foreign: true });
    expect(other({ dueAt: now })).toMatchObject({ runs: [], foreign: true });
    expect(other({ dueAt: now - 499 })).toMatchObject({ runs: [], foreign: true });
    expect(other({ dueAt: now - 500 })).toMatchObject({ runs: [{ interrupted: false }], foreign: false });
    expect(other({ dueAt: now + 1, status: 'queued' })).toMatchObject({
      runs: [{ interrupted: false }],
      foreign: false,
    });
  });

  it('F5: a dead one was interrupted where it ran, or undid', () => {
    const left = (over: object) => selectDue([row({ owner: 'other', ...over })], query(), dead).runs[0]?.interrupted;
    expect([left(running), left({ undoing: true }), left({}), left({ unsettled: true })]).toEqual([
      true,
      true,
      false,
      false,
    ]);
    expect(selectDue([row({ ...running })], query(), dead).runs).toMatchObject([{ interrupted: false }]);
  });
});

describe('lanes', () => {
  const lanes = [
    [row({ runId: 'a' }), row({ runId: 'b', dueAt: now + 7 })],
    [row({ runId: 'c', owner: 'other', status: 'running' }), row({ runId: 'd', dueAt: now + 3 })],
    [row({ runId: 'e' })],
  ];
  const chosen = (limit: number) => {
    const { runs, ...rest } = selectByLane(lanes, query({ limit }), alive);
    return { ids: runs.map(({ row: { runId } }) => runId), ...rest };
  };

  it('Q2: are taken in their order, as many as were asked for; the earliest instant is told when all were seen', () => {
    expect(chosen(10)).toStrictEqual({ ids: ['a', 'e'], foreign: true, nextDueAt: now + 3 });
    expect(chosen(2)).toStrictEqual({ ids: ['a', 'e'], foreign: true });
    expect(chosen(1)).toStrictEqual({ ids: ['a'], foreign: false }); // the next lane is not looked at
  });
});

it('F9: a run that was ended from outside is not held by the owner that it names, until that begins to undo', () => {
  const row = (over: Partial<RunRow>) => ({ runId: 'r', owner: 'a', ...over }) as RunRow;
  expect(isLeftOver(row({ undoing: true, woken: true }))).toBe(true);
  expect([{}, { undoing: true }, { woken: true }].map((over) => isLeftOver(row(over as never)))).toEqual([
    false,
    false,
    false,
  ]);
});
