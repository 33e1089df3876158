import { describe, expect, it, vi } from 'vitest';
import { memoryStore } from '../adapters/memory/index.js';
import type { Scheduler } from '../src/engine/scheduler.js';
import { createViews, type ListFilter } from '../src/engine/views.js';
import { StepfastError } from '../src/index.js';
import type { RunSnapshot } from '../src/run/inspect.js';
import type { NewRun } from '../src/store/batch.js';
import type { JournalEntry } from '../src/store/journal.js';
import type { RunRow, RunState } from '../src/store/rows.js';
import type { ListQuery } from '../src/store/store.js';
import { systemPlatform } from '../src/system.js';
import { createCodec } from '../src/values/codec.js';
import { codeOf, settle } from './hand-kit.js';

// Pins: runs as they are seen from outside, over a store alone: who drives them does not matter (spec V1, V2, R5, D3).

const now = 1_000_000;
type Entry = { readonly kind: JournalEntry['kind'] } & { readonly [field: string]: unknown };
const completed: Entry = { kind: 'completed', value: 'done' };

function open() {
  const store = memoryStore();
  const blocked = new Map<string, Error>();
  const patience = new Map<number, { readonly ms: number; readonly over: () => void }>();
  const errors: unknown[] = [];
  const queries: ListQuery[] = [];
  const loads: string[] = [];
  let count = 0;
  const world = {
    ...{ store, blocked, patience, errors, queries, loads },
    losses: 0,
    isClosed: false,
    driven: new Set<string>(),
    onLoad: undefined as ((runId: string) => Promise<void> | undefined) | undefined,
    async put(runId: string, state: Partial<RunState> = {}, more: Partial<NewRun> = {}, ...entries: readonly Entry[]) {
      const journal = [{ kind: 'started', payload: 'p' }, ...entries].map((entry) => ({ at: 1, ...entry }));
      const full: RunState = { status: 'waiting', version: 1, waits: [], ...state };
      const start: NewRun = {
        ...{ runId, job: 'job', version: 1, queue: 'q', entries: journal as unknown as JournalEntry[], state: full },
        ...more,
      };
      await store.commit({ now, starts: [start] });
    },
    /** The run goes on; who listens is told. */
    async change(runId: string, state: Partial<RunState>, ...entries: readonly Entry[]) {
      const { row } = (await store.load(runId))!;
      const append = entries.map((entry) => ({ at: 2, ...entry })) as unknown as JournalEntry[];
      const { status, version, waits, progress, startedAt, endedAt } = row;
      const full = { status, version, waits, progress, startedAt, endedAt, ...state };
      await store.commit({ now, run: { runId, fence: row.fence, append, state: full } });
      views.changed(runId);
      await settle(10);
    },
    async impatient() {
      for (const [id, { over }] of [...patience]) if (patience.delete(id)) over();
      await settle(10);
    },
  };
  const scheduler = {
    blockedBy: ({ runId }: RunRow) => blocked.get(runId),
    blockedRuns: () => blocked.keys(),
    drivesRun: (runId: string) => world.driven.has(runId),
  } as unknown as Scheduler;
  const list = store.list.bind(store);
  store.list = async (query) => {
    queries.push(query);
    return list(query);
  };
  const platform = systemPlatform();
  const views = createViews({
    platform: {
      ...platform,
      patience(ms, over) {
        const id = ++count;
        patience.set(id, { ms, over });
        return () => void patience.delete(id);
      },
    },
    codec: createCodec({ URL: platform.URL, blobs: true }),
    ...{ store, scheduler },
    open: async () => {
      await store.open({ owner: 'o', now, leaseMs: 1, mode: 'use', onError: () => undefined });
    },
    refuseClosed() {
      if (world.isClosed) throw new StepfastError('CLOSED', 'Closed.');
    },
    async load(runId) {
      loads.push(runId);
      await world.onLoad?.(runId);
      return store.load(runId);
    },
    losses: () => world.losses,
    report: (error) => void errors.push(error),
  });
  return Object.assign(world, { views });
}
const ids = ({ runs }: { readonly runs: readonly RunSnapshot[] }) => runs.map(({ id }) => id);
const damaged = (runId: string) => new StepfastError('STORE_CORRUPT', 'Bits are gone.', { runId, job: 'job' });

describe('one run', () => {
  it('V1: is seen as it is; one that is not there is not', async () => {
    const w = open();
    await w.put('r', { status: 'completed', endedAt: 5 }, { tags: ['t'] }, completed);
    expect(await w.views.get('r')).toMatchObject({
      id: 'r',
      status: 'completed',
      result: 'done',
      payload: 'p',
      tags: ['t'],
    });
    expect(await w.views.status('r')).toBe('completed');
    expect((await w.views.timeline('r')).map(({ kind }) => kind)).toEqual(['started', 'completed']);
    expect((await w.views.found('r')).row.runId).toBe('r');
    expect(await w.views.get('none')).toBeUndefined();
    for (const each of ['status', 'timeline', 'found', 'result'] as const) {
      await expect(w.views[each]('none')).rejects.toMatchObject({ code: 'RUN_NOT_FOUND', runId: 'none' });
      await expect(w.views[each]('none')).rejects.toThrow('"none"');
    }
  });

  it('B: is asked for by an id', async () => {
    const w = open();
    for (const each of ['get', 'status', 'timeline', 'found', 'load', 'result'] as const)
      await expect(w.views[each]('')).rejects.toEqual(codeOf('INVALID_ID'));
    await expect(w.views.get(1 as never)).rejects.toThrow('runId');
    expect(() => w.views.subscribe('', () => undefined)).toThrow(codeOf('INVALID_ID'));
    expect(() => w.views.subscribe('', () => undefined)).toThrow('runId');
    expect(() => w.views.subscribe('r', 1 as never)).toThrow(codeOf('INVALID_OPTION'));
    expect(() => w.views.subscribe('r', 1 as never)).toThrow(/listener.*a function/);
    expect(w.loads).toEqual([]);
  });

  it('R5: one that can not go on here is blocked, as seen from here', async () => {
    const w = open();
    await w.put('r');
    w.blocked.set('r', new StepfastError('UNKNOWN_JOB', 'Not here.'));
    expect(await w.views.get('r')).toMatchObject({ status: 'blocked', error: { code: 'UNKNOWN_JOB' } });
  });

  it('D3: of one that is damaged, or another engine’s to read, that much can be told; whatever else fails is thrown', async () => {
    const w = open();
    await w.put('sealed', { status: 'running' }, { job: 'stepfast:sealed' });
    await w.put('r');
    w.onLoad = async (runId) => {
      if (runId === 'damaged') throw damaged('damaged');
      if (runId === 'r') throw damaged('another');
      if (runId === 'away') throw new StepfastError('STORE_UNAVAILABLE', 'Away.', { runId });
    };
    expect(await w.views.get('damaged')).toMatchObject({
      id: 'damaged',
      status: 'blocked',
      error: { code: 'STORE_CORRUPT' },
    });
    expect(await w.views.get('sealed')).toMatchObject({
      id: 'sealed',
      status: 'blocked',
      error: { code: 'MISSING_PLUGIN' },
    });
    await expect(w.views.get('r')).rejects.toMatchObject({ code: 'STORE_CORRUPT', runId: 'another' });
    await expect(w.views.get('away')).rejects.toEqual(codeOf('STORE_UNAVAILABLE'));
    await expect(w.views.found('sealed')).rejects.toEqual(codeOf('MISSING_PLUGIN'));
  });
});

describe('lists', () => {
  it('B: a filter that is none is refused before anything is read', async () => {
    const w = open();
    const list = (filter?: unknown, cursor?: unknown) => w.views.list(filter as ListFilter, cursor as string);
    const refused = [
      [{ statuss: 'running' }, /list.*statuss|statuss.*list/],
      [{ job: '' }, /job/],
      [{ job: 1 }, /job/],
      [{ tag: '' }, /tag/],
      [{ limit: 0 }, /limit.*1/],
      [{ limit: 1.5 }, /limit/],
      [{ limit: 1_001 }, /limit.*1000|limit.*1,000/],
      [{ status: 'gone' }, /status.*gone.*running, retrying/],
      [{ status: ['running', 'gone'] }, /status.*gone/],
    ] as const;
    for (const [filter, said] of refused) {
      await expect(list(filter)).rejects.toEqual(codeOf('INVALID_OPTION'));
      await expect(list(filter)).rejects.toThrow(said);
    }
    for (const cursor of ['', 'x', '1x', 'x1', 1, null]) {
      await expect(list({}, cursor)).rejects.toEqual(codeOf('INVALID_OPTION'));
      await expect(list({}, cursor)).rejects.toThrow(/cursor.*what the page before returned/);
    }
    expect(w.queries).toEqual([]);
    await list({ limit: 1_000 });
    await list({}, '12');
    await list();
    expect(w.queries.map(({ limit, cursor }) => [limit, cursor])).toEqual([
      [1_000, undefined],
      [100, '12'],
      [100, undefined],
    ]);
  });

  it('V1: give pages, newest first, by status, job and tag', async () => {
    const w = open();
    const every = [
      'scheduled',
      'queued',
      'running',
      'retrying',
      'sleeping',
      'waiting',
      'completed',
      'failed',
      'cancelled',
    ] as const;
    for (const status of every) await w.put(status, { status });
    await w.put('other', {}, { job: 'other', tags: ['t'] });
    const first = await w.views.list({ limit: 4 });
    expect([ids(first), typeof first.cursor]).toEqual([['other', 'cancelled', 'failed', 'completed'], 'string']);
    const rest = await w.views.list({}, first.cursor);
    expect([ids(rest), 'cursor' in rest]).toEqual([[...every].slice(0, 6).reverse(), false]);
    for (const status of every) expect(ids(await w.views.list({ status, job: 'job' }))).toEqual([status]);
    expect(ids(await w.views.list({ status: ['running', 'failed'] }))).toEqual(['failed', 'running']);
    expect([ids(await w.views.list({ job: 'other' })), ids(await w.views.list({ tag: 't' }))]).toEqual([
      ['other'],
      ['other'],
    ]);
    expect((await w.views.list({ status: [] })).runs).toHaveLength(0);
  });

  it('R5: one that is blocked here is in no list of its stored status', async () => {
    const w = open();
    for (const runId of ['a', 'b', 'c']) await w.put(runId);
    w.blocked.set('c', new Error('no')).set('b', new Error('no'));
    expect(ids(await w.views.list({ status: 'waiting' }))).toEqual(['a']);
    expect(ids(await w.views.list())).toEqual(['c', 'b', 'a']);
    // A page that holds nothing of what is asked for is passed over.
    expect(ids(await w.views.list({ status: 'waiting', limit: 1 }))).toEqual(['a']);
    const page = await w.views.list({ status: 'blocked', limit: 1 });
    expect([ids(page), ids(await w.views.list({ status: 'blocked', limit: 1 }, page.cursor))]).toEqual([['c'], ['b']]);
  });

  it('R5: blocked ones are found among those that are active, and those that have ended and can not be undone here', async () => {
    const w = open();
    const over = { status: 'failed', endedAt: 5, undoing: true, dueAt: 0 } as const;
    await w.put('over', over, { tags: ['t'] });
    await w.put('fine', { status: 'completed', endedAt: 5 });
    await w.put('active');
    await w.put('waits');
    await w.put('other', over, { job: 'other' });
    for (const runId of ['over', 'active', 'other', 'gone']) w.blocked.set(runId, new Error('no'));
    const blocked = async (filter: object = {}, cursor?: string) =>
      ids(await w.views.list({ status: 'blocked', ...filter }, cursor));
    expect((await blocked()).sort()).toEqual(['active', 'other', 'over']);
    expect((await blocked({ job: 'job' })).sort()).toEqual(['active', 'over']);
    expect(await blocked({ tag: 't' })).toEqual(['over']);
    expect(await blocked({}, '99')).toEqual(['active']); // they are on the first page
    expect(w.queries.at(-1)!.status).toEqual(['scheduled', 'queued', 'running', 'retrying', 'sleeping', 'waiting']);
    // Together with their stored status each is there once.
    expect((await blocked({ status: ['blocked', 'failed'] })).sort()).toEqual(['active', 'other', 'over']);
    expect((await blocked({ status: ['blocked', 'completed'] })).sort()).toEqual(['active', 'fine', 'other', 'over']);
    const { blockedBy } = { blockedBy: w.blocked };
    blockedBy.delete('over');
    expect((await blocked()).sort()).toEqual(['active', 'other']);
  });

  it('R5: one that was blocked and is so no more is not among them', async () => {
    const w = open();
    await w.put('over', { status: 'failed', endedAt: 5 });
    w.blocked.set('over', undefined as never);
    expect(ids(await w.views.list({ status: 'blocked' }))).toEqual([]);
  });

  it('D3: what can not be read is shown as damaged, and hides nothing else', async () => {
    const w = open();
    await w.put('a');
    await w.put('sealed', { status: 'running' }, { job: 'stepfast:sealed', tags: ['t'] });
    const list = w.store.list;
    w.store.list = async (query) => ({ ...(await list(query)), lost: [damaged('lost')] });
    const { runs } = await w.views.list();
    expect(runs.map(({ id, status }) => [id, status])).toEqual([
      ['lost', 'blocked'],
      ['sealed', 'blocked'],
      ['a', 'waiting'],
    ]);
    expect(runs[1]).toMatchObject({
      job: 'stepfast:sealed',
      tags: ['t'],
      createdAt: 1,
      error: { code: 'MISSING_PLUGIN' },
    });
    expect(ids(await w.views.list({ status: 'waiting' }))).toEqual(['a']);
    w.store.list = list;
    await w.put('odd', {}, { entries: [{ kind: 'started', at: 1, payload: { $: ['nothing', 1] } }] as never });
    const [odd] = (await w.views.list()).runs;
    expect(odd).toMatchObject({ id: 'odd', job: 'job', status: 'blocked', error: { code: 'STORE_CORRUPT' } });
    w.store.list = async () => ({ runs: [{ row: (await w.store.load('a'))!.row }] as never });
    await expect(w.views.list()).rejects.toThrow(TypeError); // a fault of ours is none of the data
  });
});

describe('who listens to a run', () => {
  const listening = async (w: ReturnType<typeof open>, runId = 'r') => {
    const seen: RunSnapshot[] = [];
    const undo = w.views.subscribe(runId, (snapshot) => void seen.push(snapshot));
    await settle(10);
    return { seen, undo, statuses: () => seen.map(({ status }) => status) };
  };

  it('V1: gets the present snapshot, then one for each change, and nothing for what is no change, or not its own', async () => {
    const w = open();
    await w.put('r');
    await w.put('other');
    const { seen, undo } = await listening(w);
    const count = async (act: () => unknown) => {
      const before = seen.length;
      await act();
      await settle(10);
      return seen.length - before;
    };
    expect(seen).toHaveLength(1);
    expect(await count(() => w.views.changed(undefined))).toBe(0);
    expect(await count(() => w.change('other', { status: 'running' }))).toBe(0);
    expect(await count(() => w.change('r', {}, { kind: 'claimed', owner: 'o', fence: 1 }))).toBe(0);
    for (const state of [
      { status: 'running' },
      { progress: 'half' },
      { waits: [{ id: ['w', 1], events: ['e'], after: 1 }] },
      { startedAt: 7 },
    ] as const)
      expect(await count(() => w.change('r', state))).toBe(1);
    const error = { name: 'Error', message: 'm' };
    expect(
      await count(() => w.change('r', {}, { kind: 'attempt-failed', id: ['a', 1], attempt: 1, error, retryAt: 5 })),
    ).toBe(1);
    expect(await count(() => w.change('r', {}, { kind: 'rescheduled', payload: 'new', dueAt: 5 }))).toBe(1);
    w.blocked.set('r', new Error('no'));
    expect(await count(() => w.views.changed('r'))).toBe(1);
    w.blocked.set('r', new Error('no, for another reason'));
    expect(await count(() => w.views.changed(undefined))).toBe(1);
    w.blocked.set('r', new Error('no, for another reason')); // with another stack
    expect(await count(() => w.views.changed('r'))).toBe(0);
    w.blocked.clear();
    expect(
      await count(() =>
        w.change('r', { status: 'failed', endedAt: 9, undoing: true, dueAt: 0 }, { kind: 'failed', error }),
      ),
    ).toBe(1);
    expect(await count(() => w.change('r', { status: 'failed', endedAt: 9 }))).toBe(1);
    expect(await count(() => w.change('r', { status: 'failed', endedAt: 10 }))).toBe(1);
    undo();
    expect(await count(() => w.change('r', { status: 'failed', endedAt: 11 }))).toBe(0);
  });

  it('V1: hears of another blob of the same size and type, and not of the same one, read anew at each look', async () => {
    const w = open();
    const blob = (text: string) => ({ $: ['Blob', new Blob([text]), 3, '', null] }) as never;
    await w.put('r', { progress: blob('red') });
    const { seen } = await listening(w);
    const count = async (act: () => unknown) => {
      const before = seen.length;
      await act();
      await settle(20);
      return seen.length - before;
    };
    for (let looks = 0; looks < 3; looks++) expect(await count(() => w.views.changed(undefined))).toBe(0);
    expect(await count(() => w.change('r', { progress: blob('tan') }))).toBe(1);
    expect(await count(() => w.change('r', { progress: blob('tan') }))).toBe(0);
    expect(await count(() => w.change('r', {}, { kind: 'rescheduled', payload: blob('red'), dueAt: 5 }))).toBe(1);
    expect(await count(() => w.change('r', {}, { kind: 'rescheduled', payload: blob('tan'), dueAt: 5 }))).toBe(1);
    expect(w.errors).toEqual([]);
  });

  it('V1: a blob that can not be read counts as another one; who stops listening while it is read is told nothing', async () => {
    const w = open();
    await w.put('r', { progress: { $: ['Blob', new Blob(['red']), 3, '', null] } as never });
    const { seen, undo } = await listening(w);
    const reading = vi.spyOn(Blob.prototype, 'arrayBuffer').mockRejectedValue(new Error('changed since'));
    w.views.changed('r');
    await settle(20);
    expect([seen.length, w.errors]).toEqual([2, []]);
    reading.mockImplementation(async () => {
      undo();
      throw new Error('changed since');
    });
    w.views.changed('r');
    await settle(20);
    expect([seen.length, w.errors]).toEqual([2, []]);
    reading.mockRestore();
  });

  it('V1: hears that a run begins anew under its id', async () => {
    const w = open();
    await w.put('r');
    const { seen } = await listening(w);
    const { row } = (await w.store.load('r'))!;
    const { status, version, waits } = row;
    const append = [{ kind: 'started', at: 1, payload: 'p', generation: 1 }] as const;
    await w.store.commit({
      now,
      run: { runId: 'r', fence: 0, raise: true, reset: true, append, state: { status, version, waits } },
    });
    w.views.changed('r');
    await settle(10);
    expect(seen).toHaveLength(2);
  });

  it('V1: hears of a run that is not there yet once it is; of one that is damaged, too', async () => {
    const w = open();
    const { statuses } = await listening(w);
    w.views.changed('r');
    await settle(10);
    expect(statuses()).toEqual([]);
    await w.put('r');
    w.views.changed('r');
    await settle(10);
    w.onLoad = async () => {
      throw damaged('r');
    };
    w.views.changed('r');
    await settle(10);
    w.views.changed('r');
    await settle(10);
    expect(statuses()).toEqual(['waiting', 'blocked']);
  });

  it('V1: changes while it is being read make one more read, whose snapshot is the latest', async () => {
    const w = open();
    await w.put('r');
    let go: (() => void) | undefined;
    w.onLoad = () => new Promise<void>((resolve) => (go = resolve));
    const { statuses } = await listening(w);
    await w.change('r', { status: 'running' });
    await w.change('r', { status: 'retrying' });
    await w.change('r', { status: 'sleeping' });
    expect(w.loads).toEqual(['r']);
    go!();
    await settle(10);
    go!();
    await settle(10);
    expect([w.loads.length, statuses()]).toEqual([2, ['sleeping']]);
    w.onLoad = undefined;
    await w.change('r', { status: 'waiting' });
    expect(statuses()).toEqual(['sleeping', 'waiting']);
  });

  it('V1: is told nothing more once that is undone, also of what was being read', async () => {
    const w = open();
    await w.put('r');
    let go: (() => void) | undefined;
    w.onLoad = () => new Promise<void>((resolve) => (go = resolve));
    const { seen, undo } = await listening(w);
    const other = await listening(w);
    undo();
    undo();
    go!();
    w.onLoad = undefined;
    await settle(10);
    await w.change('r', { status: 'running' });
    expect([seen.length, other.seen.length > 0]).toEqual([0, true]);
    w.loads.length = 0;
    other.undo();
    await w.change('r', { status: 'waiting' });
    expect(w.loads).toEqual([]);
  });

  it('B, D5: what a listener throws is told, and so is a store that fails: the next change is heard all the same', async () => {
    const w = open();
    await w.put('r');
    let calls = 0;
    w.views.subscribe('r', () => {
      calls++;
      throw new Error('mine');
    });
    await settle(10);
    expect([calls, w.errors]).toEqual([1, [new Error('mine')]]);
    w.onLoad = async () => {
      throw new StepfastError('STORE_UNAVAILABLE', 'Away.');
    };
    await w.change('r', { status: 'running' });
    expect(w.errors.at(-1)).toEqual(codeOf('STORE_UNAVAILABLE'));
    w.onLoad = async () => {
      throw new StepfastError('CLOSED', 'Closed.');
    };
    await w.change('r', { status: 'retrying' });
    expect(w.errors).toHaveLength(2);
    w.onLoad = undefined;
    await w.change('r', { status: 'sleeping' });
    expect([calls, w.errors.length]).toEqual([2, 3]);
    w.isClosed = true;
    expect(() => w.views.subscribe('r', () => undefined)).toThrow(codeOf('CLOSED'));
  });
});

describe('who waits for a result', () => {
  const watch = (promise: Promise<unknown>) => {
    const said: { value?: unknown; error?: unknown } = {};
    promise.then(
      (value) => (said.value = value),
      (error) => (said.error = error),
    );
    return said;
  };

  it('V1: gets what the handler returned, or the error that ended the run', async () => {
    const w = open();
    await w.put('completed', { status: 'completed', endedAt: 5 }, {}, completed);
    await w.put(
      'failed',
      { status: 'failed', endedAt: 5 },
      {},
      { kind: 'failed', error: { name: 'TypeError', message: 'why' } },
    );
    await w.put('cancelled', { status: 'cancelled', endedAt: 5 }, {}, { kind: 'cancelled' });
    expect(await w.views.result('completed')).toBe('done');
    await expect(w.views.result('failed')).rejects.toMatchObject({ name: 'TypeError', message: 'why' });
    await expect(w.views.result('cancelled')).rejects.toMatchObject({ code: 'RUN_CANCELLED', runId: 'cancelled' });
    await expect(w.views.result('cancelled')).rejects.toThrow('cancelled');
    expect(w.patience.size).toBe(0);
  });

  it('V1: hears of the end when it comes; of a change that is none it reads nothing where it is told so', async () => {
    const w = open();
    await w.put('r');
    const said = watch(w.views.result('r'));
    await settle(10);
    expect([said, w.loads.length, w.patience.size]).toEqual([{}, 1, 1]);
    const { row } = (await w.store.load('r'))!;
    w.views.changed('r', row);
    await settle(10);
    expect(w.loads).toHaveLength(1);
    w.views.changed('r'); // whatever it was
    await settle(10);
    expect([w.loads.length, w.patience.size]).toEqual([2, 1]);
    await w.change('r', { status: 'completed', endedAt: 5 }, completed);
    expect([said, w.patience.size]).toEqual([{ value: 'done' }, 0]);
    w.loads.length = 0;
    w.views.changed('r');
    expect(w.loads).toEqual([]); // nobody listens any more
  });

  it('V1: is told by the row of one that has ended', async () => {
    const w = open();
    await w.put('r');
    const said = watch(w.views.result('r'));
    await settle(10);
    const { row } = (await w.store.load('r'))!;
    await w.store.commit({
      ...{ now },
      run: {
        runId: 'r',
        fence: 0,
        append: [{ at: 2, ...completed }] as never,
        state: { status: 'completed', version: 1, waits: [], endedAt: 5 },
      },
    });
    w.views.changed('r', { ...row, endedAt: 5 });
    await settle(10);
    expect(said).toEqual({ value: 'done' });
  });

  it('Q4: looks again after a while where hints may be lost; what is driven here is not read for it', async () => {
    const w = open();
    await w.put('r');
    const said = watch(w.views.result('r'));
    await settle(10);
    expect([...w.patience.values()].map(({ ms }) => ms)).toEqual([3_000]);
    w.driven.add('r');
    await w.impatient();
    await w.impatient();
    expect([w.loads.length, w.patience.size]).toEqual([1, 1]);
    expect([...w.patience.values()].map(({ ms }) => ms)).toEqual([3_000]);
    w.driven.clear();
    await w.impatient();
    expect([w.loads.length, w.patience.size, said]).toEqual([2, 1, {}]);
    await w.change('r', { status: 'completed', endedAt: 5 }, completed);
    expect([said, w.patience.size]).toEqual([{ value: 'done' }, 0]);
  });

  it('V1: a run that is taken up again has no result yet; one that is undone has its end', async () => {
    const w = open();
    const error = { name: 'Error', message: 'why' };
    await w.put(
      'again',
      { status: 'queued', dueAt: 1 },
      {},
      { kind: 'failed', error },
      { kind: 'retried', forgets: [] },
    );
    const said = watch(w.views.result('again'));
    await w.put('undone', { status: 'failed', endedAt: 5, undoing: true, dueAt: 0 }, {}, { kind: 'failed', error });
    await expect(w.views.result('undone')).rejects.toThrow('why');
    await settle(10);
    expect(said).toEqual({});
  });

  it('S8: a run that the store has lost is not another of the same id', async () => {
    const w = open();
    await w.put('r');
    const said = watch(w.views.result('r'));
    await settle(10);
    w.losses++;
    w.views.changed(undefined);
    await settle(10);
    expect(said.error).toMatchObject({ code: 'RUN_NOT_FOUND', runId: 'r' });
  });

  it('D5: a store that fails is told to who waits, and nothing is left behind', async () => {
    const w = open();
    w.onLoad = async () => {
      throw new StepfastError('STORE_UNAVAILABLE', 'Away.');
    };
    await expect(w.views.result('r')).rejects.toEqual(codeOf('STORE_UNAVAILABLE'));
    expect(w.patience.size).toBe(0);
  });
});
