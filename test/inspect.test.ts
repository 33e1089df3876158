import { describe, expect, it } from 'vitest';
import { StepfastError } from '../src/index.js';
import { errorOf, lostSnapshotOf, snapshotOf, timelineOf } from '../src/run/inspect.js';
import { asSaid, createLog, type LogLine, linesIn, ofEarlier } from '../src/run/log.js';
import type { JournalEntry, RecordedError } from '../src/store/journal.js';
import type { RunRow, StoredRun } from '../src/store/rows.js';
import { createCodec } from '../src/values/codec.js';

// Pins: what people see of a run, out of what is stored of it (spec V1, V2), and what is kept of what it says (V3).

const codec = createCodec({ URL, blobs: true });
type Entry = { readonly kind: JournalEntry['kind'] } & { readonly [field: string]: unknown };
const row = (over: Partial<RunRow> = {}): RunRow => ({
  ...{ runId: 'r', job: 'job', queue: 'q', createdAt: 3, seq: 1, fence: 1, length: 1, version: 1 },
  ...{ status: 'waiting', waits: [] },
  ...over,
});
const run = (over: Partial<RunRow>, ...entries: readonly Entry[]): StoredRun => ({
  row: row(over),
  journal: [{ kind: 'started', payload: codec.encode({ at: new Date(5) }, '') }, ...entries].map((entry, nth) => ({
    ...{ at: nth },
    ...entry,
  })) as unknown as JournalEntry[],
});
const error: RecordedError = { name: 'TypeError', message: 'why' };
const rich: RecordedError = { ...error, code: 'E', step: 'a', stack: 'TypeError: why\n    at there' };

describe('a snapshot', () => {
  it('V1: has what is there, and no member for what is not', () => {
    expect(snapshotOf(run({}), codec)).toStrictEqual({
      ...{ id: 'r', job: 'job', status: 'waiting', payload: { at: new Date(5) }, attempts: [], waitingFor: [] },
      ...{ createdAt: 3, tags: [] },
    });
    const all = {
      tags: ['t'],
      progress: codec.encode(new Date(6), ''),
      undoing: true,
      startedAt: 0,
      endedAt: 0,
      parentId: 'p',
    } as const;
    expect(snapshotOf(run(all), codec)).toMatchObject({
      ...{ tags: ['t'], progress: new Date(6), undoing: true, startedAt: 0, endedAt: 0, parentId: 'p' },
    });
  });

  it('V1: has the result of a run that has completed, and the error of one that has failed', () => {
    const completed = snapshotOf(
      run({ status: 'completed' }, { kind: 'completed', value: codec.encode(new Date(7), '') }),
      codec,
    );
    expect([completed.result, 'error' in completed]).toEqual([new Date(7), false]);
    const failed = snapshotOf(run({ status: 'failed' }, { kind: 'failed', error: rich }), codec);
    expect(failed.error).toStrictEqual({ ...rich });
    expect('result' in failed).toBe(false);
    expect(snapshotOf(run({ status: 'failed' }, { kind: 'failed', error }), codec).error).toStrictEqual({ ...error });
    const cancelled = snapshotOf(run({ status: 'cancelled' }, { kind: 'cancelled' }), codec);
    expect(['error' in cancelled, 'result' in cancelled]).toEqual([false, false]);
    expect('error' in snapshotOf(run({}, { kind: 'failed', error }, { kind: 'retried', forgets: [] }), codec)).toBe(
      false,
    );
  });

  it('R5: says first why it can not go on, be it failed as well', () => {
    const why = new StepfastError('UNKNOWN_JOB', 'Not here.', { step: 's' });
    const seen = snapshotOf(run({ status: 'failed' }, { kind: 'failed', error }), codec, why);
    expect(seen).toMatchObject({ status: 'blocked', error: { code: 'UNKNOWN_JOB', step: 's' } });
    expect(seen.error!.message).toContain('Not here.');
  });

  it('V1: lists every attempt that failed, the last as well, oldest first', () => {
    const { attempts } = snapshotOf(
      run(
        {},
        { kind: 'attempt-failed', id: ['a', 2], attempt: 1, error: rich, retryAt: 9 },
        { kind: 'step-completed', id: ['b', 1], attempt: 1, value: 1, asked: 1 },
        { kind: 'step-failed', id: ['a', 2], attempt: 2, error, asked: 1 },
        { kind: 'undo-attempt-failed', id: ['a', 2], attempt: 1, error, retryAt: 9 },
      ),
      codec,
    );
    expect(attempts).toStrictEqual([
      { step: 'a', attempt: 1, error: { ...rich }, at: 1 },
      { step: 'a', attempt: 2, error: { ...error }, at: 3 },
    ]);
  });

  it('V1: says what it waits for: events with key and deadline, and children', () => {
    const waits = [
      { id: ['w', 1], events: ['e', 'f'], after: 1 },
      { id: ['w', 2], events: ['e'], after: 1, key: '', deadline: 0 },
    ] as const;
    expect(snapshotOf(run({ waits, awaits: ['child'] }), codec).waitingFor).toStrictEqual([
      { events: ['e', 'f'] },
      { events: ['e'], correlationKey: '', deadline: 0 },
      { events: [], runId: 'child' },
    ]);
  });

  it('D3: of a run that is damaged there is nothing but that', () => {
    const lost = lostSnapshotOf(new StepfastError('STORE_CORRUPT', 'Bits.', { runId: 'r', job: 'job' }), codec);
    expect(lost).toMatchObject({ id: 'r', job: 'job', status: 'blocked', error: { code: 'STORE_CORRUPT' } });
    expect(lost).toMatchObject({ payload: undefined, attempts: [], waitingFor: [], createdAt: 0, tags: [] });
    expect(lostSnapshotOf(new StepfastError('STORE_CORRUPT', 'Bits.', { runId: 'r' }), codec).job).toBe('');
  });

  it('V1: an error is shown without what it carried', () => {
    expect(errorOf({ ...rich, data: { x: 1 }, cause: error })).toStrictEqual({ ...rich });
    expect(errorOf({ ...error, code: '', step: '', stack: '' })).toStrictEqual({
      ...error,
      code: '',
      step: '',
      stack: '',
    });
  });
});

describe('a timeline', () => {
  const entryOf = (entry: Entry) => timelineOf(run({}, entry), codec)[1];
  it('V2: tells each entry with its name, and values as they were given; what is for replay alone is left out', () => {
    const value = codec.encode(new Date(8), '');
    expect(entryOf({ kind: 'step-completed', id: ['a', 2], attempt: 1, value, asked: 1 })).toStrictEqual({
      ...{ kind: 'step-completed', at: 1, name: 'a', occurrence: 2, attempt: 1, value: new Date(8), asked: 1 },
    });
    expect(entryOf({ kind: 'claimed', owner: 'o', fence: 1 })).toStrictEqual({
      kind: 'claimed',
      at: 1,
      owner: 'o',
      fence: 1,
    });
    expect(entryOf({ kind: 'logged', level: 'info', message: 'm', data: value })).toMatchObject({ data: new Date(8) });
    expect(entryOf({ kind: 'logged', level: 'info', message: 'm' })).not.toHaveProperty('data');
    const started: Entry = {
      ...{
        kind: 'started',
        payload: value,
        given: value,
        nonce: 'n',
        floors: [],
        left: [],
        retry: codec.encode({ maxAttempts: 2 }, ''),
      },
    };
    expect(entryOf(started)).toStrictEqual({ kind: 'started', at: 1, payload: new Date(8), retry: { maxAttempts: 2 } });
    expect(entryOf({ kind: 'cancelled' })).toStrictEqual({ kind: 'cancelled', at: 1 });
  });

  it('V2: tells all that an error carried, at every depth', () => {
    const deep: RecordedError = {
      ...{ ...rich, data: codec.encode({ on: new Date(9) }, '') },
      cause: { ...error, data: codec.encode(new Date(10), '') },
      errors: [error, { ...error, data: codec.encode(new Date(11), '') }],
    };
    expect(entryOf({ kind: 'failed', error: deep })!.error).toEqual({
      ...{ ...rich, data: { on: new Date(9) } },
      cause: { ...error, data: new Date(10) },
      errors: [error, { ...error, data: new Date(11) }],
    });
    const plain = entryOf({ kind: 'failed', error })!.error as object;
    expect(Object.keys(plain).sort()).toEqual(['message', 'name']);
  });
});

describe('a log', () => {
  const open = (id?: readonly [string, number]) => {
    const lines: LogLine[] = [];
    return { lines, log: createLog({ codec, now: () => 7, write: (line) => lines.push(line) }, id as never) };
  };
  it('V3: keeps each line with its level, instant and step', () => {
    const { lines, log } = open(['a', 1]);
    for (const level of ['debug', 'info', 'warn', 'error'] as const) log[level](`a ${level}`);
    expect(lines).toStrictEqual(
      ['debug', 'info', 'warn', 'error'].map((level) => ({
        kind: 'logged',
        at: 7,
        level,
        message: `a ${level}`,
        id: ['a', 1],
      })),
    );
    const handlers = open();
    handlers.log.info('m', new Date(5));
    expect(handlers.lines).toStrictEqual([
      { kind: 'logged', at: 7, level: 'info', message: 'm', data: codec.encode(new Date(5), '') },
    ]);
    handlers.log.info('m', null);
    expect(handlers.lines[1]).toHaveProperty('data', null);
  });

  it('V3: never fails: what can not be kept is left out, and the line says so; a long one is cut, and what is no text is quoted', () => {
    const { lines, log } = open();
    log.info('m', () => 1);
    expect(lines[0]).not.toHaveProperty('data');
    expect(lines[0]!.message).toMatch(/^m \(data left out: .*the data of a log line.*\)$/);
    log.info('x'.repeat(5_000));
    expect(lines[1]!.message).toBe('x'.repeat(4_096));
    log.info({ a: 1 } as never);
    log.info(undefined as never);
    expect(lines.slice(2).map(({ message }) => message)).toEqual([expect.stringContaining('a'), 'undefined']);
    expect(lines.every(({ message }) => typeof message === 'string')).toBe(true);
  });

  it('J3: lines are told from other entries, and marked where the journal was begun anew', () => {
    const line: LogLine = { kind: 'logged', at: 1, level: 'info', message: 'm' };
    expect(linesIn([line, { kind: 'cancelled', at: 1 }])).toEqual([line]);
    expect(ofEarlier(line)).toStrictEqual({ ...line, earlier: true });
    expect(asSaid(ofEarlier(line))).toStrictEqual(line);
  });
});
