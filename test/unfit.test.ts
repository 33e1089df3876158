import { expect, it } from 'vitest';
import { createUnfit } from '../src/engine/unfit.js';
import { defineJob, StepfastError } from '../src/index.js';
import { stampOf } from '../src/store/due.js';
import type { JournalEntry } from '../src/store/journal.js';
import type { RunRow } from '../src/store/rows.js';

// Pins: which runs a context leaves alone, how long, and what it says of them, alone (spec R5).

const now = 1_000;
const row = (over: Partial<RunRow> = {}): RunRow => ({
  ...{ runId: 'r', job: 'job', queue: 'q', createdAt: 1, seq: 1, fence: 2, length: 3, version: 1 },
  ...{ status: 'queued', waits: [], dueAt: now },
  ...over,
});
const entry = (kind: JournalEntry['kind'], more: object = {}) => ({ kind, at: 1, ...more }) as unknown as JournalEntry;
const journal = [entry('started'), entry('claimed'), entry('sleep-set')];
const error = new Error('does not fit');

const open = (version?: number) => createUnfit(new Map([['job', defineJob('job', { version }, () => 1)]]), () => now);

it('R5: a run that does not fit is left alone, and says why, until something has changed of it', () => {
  const unfit = open();
  expect([unfit.blockedBy(row()), [...unfit.runs()], [...unfit.skip]]).toEqual([undefined, [], []]);
  unfit.blocked(row(), error, journal);
  expect(unfit.blockedBy(row())).toBe(error);
  expect([...unfit.runs()]).toEqual(['r']);
  expect([...unfit.skip]).toEqual([['r', stampOf(row())]]);
  for (const over of [{ fence: 3 }, { length: 4 }, { woken: true }] as const)
    expect(unfit.blockedBy(row(over))).toBeUndefined();
  expect(unfit.blockedBy(row({ runId: 'other' }))).toBeUndefined();
});

it('R5: others that have tried it in vain change nothing; whatever else is recorded does', () => {
  const unfit = open();
  unfit.blocked(row(), error, journal);
  const tried = row({ fence: 4, length: 5 });
  const again = [...journal, entry('claimed'), entry('released')];
  expect(unfit.isStill({ row: tried, journal: again })).toBe(true);
  expect(unfit.blockedBy(tried)).toBe(error); // as it is now
  expect(unfit.skip.get('r')).toBe(stampOf(tried));
  const isStill = (over: Partial<RunRow>, ...more: JournalEntry[]) =>
    unfit.isStill({ row: row({ fence: 9, ...over }), journal: [...journal, ...more] });
  expect(isStill({}, entry('upgraded'))).toBe(false);
  expect(isStill({}, entry('sleep-ended'), entry('claimed'))).toBe(false);
  expect(isStill({ slot: 'q' })).toBe(false); // one of them has died at it
  expect(isStill({ runId: 'other' })).toBe(false);
  expect(
    unfit.isStill({ row: row({ fence: 9 }), journal: [entry('started', { generation: 1 }), ...journal.slice(1)] }),
  ).toBe(false);
  expect(unfit.skip.get('r')).toBe(stampOf(tried));
  expect(unfit.isStill({ row: tried, journal: [entry('started', { generation: 0 }), ...again.slice(1)] })).toBe(true);
});

it('Q4: one that has nothing to be done is left out of looks and not shown as blocked, until somebody listens no more', () => {
  const unfit = open();
  unfit.idle(row());
  expect(unfit.skip.get('r')).toBe(stampOf(row()));
  expect([unfit.blockedBy(row()), [...unfit.runs()]]).toEqual([undefined, []]);
  unfit.forget('r');
  expect(unfit.skip.size).toBe(0);
  unfit.blocked(row(), error, journal);
  unfit.forget('r');
  expect([unfit.skip.size, unfit.blockedBy(row())]).toEqual([0, error]);
});

it('R5: other registrations may fit all', () => {
  const unfit = open();
  unfit.blocked(row(), error, journal);
  unfit.idle(row({ runId: 'idle' }));
  unfit.clear();
  expect([unfit.skip.size, [...unfit.runs()], unfit.blockedBy(row())]).toEqual([0, [], undefined]);
  expect(unfit.isStill({ row: row(), journal })).toBe(false);
});

it('R5: a job that comes to them may fit its own runs, and those that are in want of one; no others', () => {
  const unfit = open();
  unfit.blocked(row(), error, journal);
  unfit.blocked(row({ runId: 'wants' }), new StepfastError('UNKNOWN_JOB', 'No such job.'), journal);
  unfit.blocked(row({ runId: 'own', job: 'added' }), error, journal);
  unfit.idle(row({ runId: 'idle', job: 'added' }));
  unfit.clear('added');
  expect([[...unfit.skip.keys()], [...unfit.runs()], unfit.blockedBy(row())]).toEqual([['r'], ['r'], error]);
  unfit.clear('job');
  expect([unfit.skip.size, [...unfit.runs()]]).toEqual([0, []]);
});

it('R5: the same of a run is told once, unless something was recorded meanwhile, or it fitted, or it is another run', () => {
  const unfit = open();
  const tells = (over: Partial<RunRow> = {}, found = error, ...more: JournalEntry[]) =>
    unfit.blocked(row(over), found, [...journal, ...more]);
  expect(tells()).toBe(true);
  unfit.clear();
  expect([tells({ fence: 9 }, new Error('does not fit'), entry('claimed')), tells({ runId: 'b' })]).toEqual([
    false,
    true,
  ]);
  expect([tells({}, new Error('other')), tells({}, new TypeError('other')), tells()]).toEqual([true, true, true]);
  expect([tells({}, error, entry('sleep-ended')), tells({ seq: 2 })]).toEqual([true, true]);
  unfit.fits('r');
  expect([tells({ seq: 2 }), tells({ runId: 'b' })]).toEqual([true, false]);
});

it('R5: a due run whose job, or version of it, is not registered here says so', () => {
  const unfit = open();
  const missing = (over: Partial<RunRow>) => unfit.blockedBy(row(over));
  expect(missing({ job: 'other' })).toMatchObject({ code: 'UNKNOWN_JOB', runId: 'r', job: 'other' });
  expect(missing({ job: 'other' })!.message).toMatch('registered job "other"');
  expect(missing({ version: 2 })).toMatchObject({ code: 'UNKNOWN_JOB', runId: 'r', job: 'job' });
  expect(missing({ version: 2 })!.message).toMatch('registered version 2 of job "job"');
  expect(open(2).blockedBy(row({ version: 2 }))).toBeUndefined();
  expect(open(3).blockedBy(row({ version: 2 }))).toBeUndefined();
  expect(open(2).blockedBy(row({ version: 3 }))).toMatchObject({ code: 'UNKNOWN_JOB' });
});

it('R5: only where somebody would have to take it up now', () => {
  const other = (over: Partial<RunRow>) => open().blockedBy(row({ job: 'other', ...over }));
  expect(other({ status: 'sleeping', dueAt: now })).toBeDefined();
  expect(other({ status: 'sleeping', dueAt: now + 1 })).toBeUndefined();
  expect(other({ status: 'waiting', dueAt: undefined })).toBeUndefined();
  expect(other({ status: 'waiting', dueAt: undefined, woken: true })).toBeUndefined();
  expect(other({ status: 'running', dueAt: 0 })).toBeUndefined(); // another context is at it
  expect(other({ status: 'failed', endedAt: 5, undoing: true, dueAt: 0 })).toBeUndefined();
});
