import { describe, expect, it } from 'vitest';
import { StepfastError } from '../src/index.js';
import { LIMITS } from '../src/limits.js';
import { readEnds } from '../src/run/children.js';
import { createLateness, forgetGeneration, lateResult } from '../src/run/functions.js';
import { emptyDraft, hear, liveRunOf } from '../src/run/live-run.js';
import type { JournalEntry } from '../src/store/journal.js';
import type { EventRow, RunRow, StoredRun } from '../src/store/rows.js';
import { systemPlatform } from '../src/system.js';
import { createCodec } from '../src/values/codec.js';
import { codeOf, hands, settle } from './hand-kit.js';

// Pins: a run as it is taken up into memory, what it hears of there (spec E12, F5), and what functions return when their run
// has ended without them (F9).

const codec = createCodec({ URL, blobs: true });
type Entry = { readonly kind: JournalEntry['kind'] } & { readonly [field: string]: unknown };
const stored = (over: Partial<RunRow> = {}, ...entries: readonly Entry[]): StoredRun => ({
  row: { runId: 'r', job: 'job', status: 'waiting', waits: [], length: 1, fence: 1, ...over } as RunRow,
  journal: [{ kind: 'started', payload: null }, ...entries].map((entry) => ({
    at: 1,
    ...entry,
  })) as unknown as JournalEntry[],
});
const event = (seq: number): EventRow => ({
  ...{ seq, id: `e${seq}`, name: 'e', payload: seq, acceptedAt: 1, expiresAt: 9, resumed: [] },
});
const fresh = { offers: [], interrupted: false };

describe('a run that is taken up', () => {
  it('knows what its row and journal say, and nothing else', () => {
    const run = liveRunOf(stored({ progress: 'half' }, { kind: 'logged', level: 'info', message: 'm' }), fresh);
    expect(run).toMatchObject({
      ...{ progress: 'half', handlerLogs: 1, facts: [], increments: [], logs: [], feeds: [], nextAt: Infinity },
      ...{
        isOwner: false,
        isStirred: false,
        isBlind: false,
        isInterrupted: false,
        confirmedAt: 0,
        backoffMs: LIMITS.backoffMs,
      },
      ...{ replay: undefined, ending: undefined, fault: undefined, progressed: undefined },
    });
    for (const each of [run.asks, run.running, run.withdrawn, run.undos, run.verdicts, run.ended, run.news, run.late])
      expect(each.size).toBe(0);
  });

  it('E1, E12: hears of events that it may take, and of children that have ended, each until it has been read', () => {
    const run = liveRunOf(stored({ ended: ['a', 'b'] }), { offers: [event(2), event(1)], interrupted: false });
    expect(run.offers.of(['e'], undefined).map(({ seq }) => seq)).toEqual([1, 2]);
    expect([...run.news]).toEqual(['a', 'b']);
    run.news.clear();
    run.ended.set('a', { at: 1, value: 1 });
    hear(run, { ended: ['a', 'b'] }, [event(3)]);
    expect([[...run.news], run.offers.of(['e'], undefined).length]).toEqual([['b'], 3]);
    hear(run, {});
    expect(run.news.size).toBe(1);
  });

  it('F5: was interrupted where its owner has died at work; between two attempts to undo a step nothing was cut off', () => {
    const isInterrupted = (over: Partial<RunRow>, interrupted = true) =>
      liveRunOf(stored(over), { offers: [], interrupted }).isInterrupted;
    expect(isInterrupted({ dueAt: 0 })).toBe(true);
    expect(isInterrupted({ dueAt: 5 })).toBe(true);
    expect(isInterrupted({ undoing: true, dueAt: 0 })).toBe(true);
    expect(isInterrupted({ undoing: true, dueAt: 5 })).toBe(false);
    expect(isInterrupted({ dueAt: 0 }, false)).toBe(false);
    expect(isInterrupted({ undoing: true, dueAt: 0 }, false)).toBe(false);
  });

  it('J4: forgets what the generation before has told, when it begins anew', () => {
    const run = liveRunOf(stored({ progress: 'half' }), { offers: [event(1)], interrupted: false });
    run.facts = [{} as never];
    run.verdicts.set('k', { kind: 'other' });
    run.begun.set('k', 1);
    const ended: unknown[] = [];
    const late = Promise.resolve({ value: 1 });
    run.late.set('k', late);
    run.running.set('k', { late, hangs: undefined, end: (reason) => void ended.push(reason) });
    forgetGeneration(run);
    expect([run.begun.size, run.late.size, run.running.size]).toEqual([0, 0, 0]);
    expect(ended).toEqual([new Error('The step has lost a race.')]);
    expect([run.facts, run.progress, run.verdicts.size, run.offers.of(['e'], undefined)]).toEqual([
      [],
      undefined,
      0,
      [],
    ]);
    const { facts, ...draft } = emptyDraft(5);
    expect(draft).toEqual({ now: 5, entries: [], takes: [], unless: [], later: [], state: [], stateFacts: [] });
    expect([...facts]).toEqual([]);
  });
});

describe('children that have ended', () => {
  const read = async (children: { readonly [runId: string]: StoredRun | undefined }) => {
    const h = hands();
    const run = liveRunOf(stored({ ended: Object.keys(children) }), fresh);
    await readEnds(run, { load: async (runId) => children[runId], platform: systemPlatform(h.clock), codec });
    return { h, run, ended: Object.fromEntries(run.ended) };
  };

  it('E12: are told by their own last word: what they returned, why they failed, or that they were cancelled', async () => {
    const error = { name: 'TypeError', message: 'why' };
    const { run, ended } = await read({
      done: stored({ endedAt: 5 }, { kind: 'completed', value: 'v' }),
      failed: stored({ endedAt: 6 }, { kind: 'failed', error }),
      cancelled: stored({ endedAt: 7 }, { kind: 'cancelled' }),
    });
    expect(ended).toMatchObject({
      ...{
        done: { at: 5, value: 'v' },
        failed: { at: 6, error },
        cancelled: { at: 7, error: { code: 'RUN_CANCELLED' } },
      },
    });
    expect((ended.cancelled as { error: { message: string } }).error.message).toContain(
      'child run cancelled was cancelled',
    );
    expect([run.news.size, 'error' in ended.done!]).toEqual([0, false]);
  });

  it('E12: one that is not there any more was cancelled, as far as its parent can tell; one that goes on again has no end', async () => {
    const { h, run, ended } = await read({
      gone: undefined,
      again: stored({}, { kind: 'failed', error: { name: 'Error', message: 'm' } }, { kind: 'retried', forgets: [] }),
    });
    expect(Object.keys(ended)).toEqual(['gone']);
    expect(ended.gone).toMatchObject({ at: h.clock.now(), error: { code: 'RUN_CANCELLED' } });
    expect((ended.gone as { error: { message: string } }).error.message).toContain(
      'child run gone is not there any more',
    );
    expect(run.news.size).toBe(0);
  });

  it('D5: where one can not be read, it is still to be', async () => {
    const run = liveRunOf(stored({ ended: ['child'] }), fresh);
    const load = async () => {
      throw new StepfastError('STORE_UNAVAILABLE', 'Away.');
    };
    await expect(readEnds(run, { load, platform: systemPlatform(), codec })).rejects.toEqual(
      codeOf('STORE_UNAVAILABLE'),
    );
    expect([...run.news]).toEqual(['child']);
  });

  it('E12: one that can not be opened was cancelled where the store can tell that, and is asked for again where it can not', async () => {
    const read = async (error: StepfastError) => {
      const run = liveRunOf(stored({ ended: ['child'] }), fresh);
      const load = async () => {
        throw error;
      };
      await readEnds(run, { load, platform: systemPlatform(), codec });
      return [...run.ended.values()];
    };
    const missing = (data: object) => new StepfastError('KEY_MISSING', 'No key.', { data: data as never });
    expect(await read(missing({ cancelledAt: 7 }))).toMatchObject([{ at: 7, error: { code: 'RUN_CANCELLED' } }]);
    for (const error of [missing({ keyId: 'k' }), new StepfastError('KEY_MISSING', 'No key.')])
      await expect(read(error)).rejects.toBe(error);
    await expect(read(new StepfastError('STORE_CORRUPT', 'Damaged.', { data: { cancelledAt: 7 } }))).rejects.toEqual(
      codeOf('STORE_CORRUPT'),
    );
  });
});

describe('what functions return when their run has ended without them', () => {
  const late = (name: string) => new Map([[name, Promise.resolve({ value: name })]]);

  it('F9: is kept for who undoes them, and handed out once', () => {
    const lateness = createLateness();
    const first = late('a');
    lateness.keep('r', first);
    lateness.keep('s', late('b'));
    expect([lateness.take('r'), lateness.take('r').size, lateness.take('s').size]).toEqual([first, 0, 1]);
    lateness.keep('r', late('a'));
    lateness.keep('r', new Map()); // nothing is in flight any more
    expect(lateness.take('r').size).toBe(0);
    lateness.keep('r', late('a'));
    lateness.clear();
    expect(lateness.take('r').size).toBe(0);
  });

  it('F9, R12: of so many runs, the latest', () => {
    const lateness = createLateness();
    for (let nth = 0; nth <= LIMITS.late; nth++) lateness.keep(`r${nth}`, late('a'));
    lateness.keep('r1', late('b')); // it counts as new again
    lateness.keep('one more', late('a'));
    expect(['r0', 'r1', 'r2', 'r3', 'one more'].map((runId) => lateness.take(runId).size)).toEqual([0, 1, 0, 1, 1]);
  });

  it('F9: is waited for, but not for ever; a failure is no result', async () => {
    const waits: { ms: number; over: () => void; isUndone: boolean }[] = [];
    const platform = {
      ...systemPlatform(),
      patience(ms: number, over: () => void) {
        const wait = { ms, over, isUndone: false };
        waits.push(wait);
        return () => {
          wait.isUndone = true;
        };
      },
    };
    expect(await lateResult(undefined, { platform })).toBeUndefined();
    expect(waits).toEqual([]);
    expect(await lateResult(Promise.resolve({ value: 5 }), { platform })).toBe(5);
    expect(await lateResult(Promise.resolve({ error: new Error('no') }), { platform })).toBeUndefined();
    expect(waits.map(({ ms, isUndone }) => [ms, isUndone])).toEqual([
      [LIMITS.lateMs, true],
      [LIMITS.lateMs, true],
    ]);
    let said: unknown = 'nothing yet';
    void lateResult(new Promise(() => undefined), { platform }).then((value) => (said = value));
    await settle(3);
    expect(said).toBe('nothing yet');
    waits.at(-1)!.over();
    await settle(3);
    expect(said).toBeUndefined();
  });
});
