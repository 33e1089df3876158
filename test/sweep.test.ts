import { expect, it } from 'vitest';
import { memoryStore } from '../adapters/memory/index.js';
import { createSweep } from '../src/engine/sweep.js';
import { type AnyJob, defineJob, type JobOptions, StepfastError } from '../src/index.js';
import type { Batch } from '../src/store/batch.js';
import type { JournalEntry } from '../src/store/journal.js';
import type { StoredStatus } from '../src/store/rows.js';
import { systemPlatform } from '../src/system.js';
import { codeOf, settle } from './hand-kit.js';

// Pins: which ended runs are deleted, when, and in what portions, alone (spec Q6).

const DAY = 86_400_000;
const SWEEP_MS = 6 * 3_600_000;
const start = 100 * DAY;

interface Ended {
  readonly job?: string;
  readonly status?: StoredStatus;
  readonly endedAt?: number | undefined;
  readonly parentId?: string;
  readonly undoing?: true;
  readonly entries?: readonly object[];
  /** Of its first entry. */
  readonly started?: object;
}

function open(jobs: { readonly [name: string]: JobOptions } = {}) {
  const store = memoryStore();
  const commit = store.commit.bind(store);
  const timers = new Map<
    number,
    { readonly at: number; readonly fire: () => void; readonly isIdle: boolean | undefined }
  >();
  const changed: string[] = [];
  const errors: unknown[] = [];
  const batches: Batch[] = [];
  let count = 0;
  const world = {
    ...{ store, timers, changed, errors, batches },
    now: start,
    isIdle: true,
    holds: 0,
    onDelete: undefined as ((batch: Batch) => Promise<void> | 'refuse') | undefined,
    /** A run that has ended, by default more than seven days ago. */
    async put(runId: string, { job = 'job', status = 'completed', ...more }: Ended = {}) {
      const {
        endedAt = 'endedAt' in more ? undefined : world.now - 7 * DAY - 1,
        entries = [],
        started,
        ...rest
      } = more;
      const { undoing, ...born } = rest;
      const state = { status, version: 1, waits: [], endedAt, ...(undoing && { undoing, dueAt: 0 }) };
      const journal = [{ kind: 'started', at: 1, payload: null, ...started }, ...entries] as unknown as JournalEntry[];
      await commit({
        now: world.now,
        starts: [{ runId, job, version: 1, queue: 'q', entries: journal, state, ...born }],
      });
    },
    left: async () => (await store.list({ limit: 500 })).runs.map(({ row }) => row.runId).sort(),
    async poke() {
      sweep.poke();
      await settle(200);
    },
  };
  store.commit = async (batch) => {
    batches.push(batch);
    const said = await world.onDelete?.(batch);
    return said === 'refuse' ? { kind: 'fenced', fence: 0 } : commit(batch);
  };
  const clock = {
    now: () => world.now,
    setTimer(at: number, fire: () => void, isIdle?: boolean) {
      const id = ++count;
      timers.set(id, { at, fire, isIdle });
      return () => void timers.delete(id);
    },
    hold() {
      world.holds++;
      return () => void world.holds--;
    },
  };
  const sweep = createSweep({
    platform: systemPlatform(clock),
    store,
    jobs: new Map<string, AnyJob>(
      Object.entries(jobs).map(([name, options]) => [name, defineJob(name, options, () => 1)]),
    ),
    isIdle: () => world.isIdle,
    changed: (runId) => void changed.push(runId),
    report: (error) => void errors.push(error),
  });
  return Object.assign(world, { sweep, clock });
}

it('Q6: completed and cancelled runs are kept for seven days, failed ones for thirty, to the millisecond; active ones for ever', async () => {
  const w = open();
  for (const [status, days] of [
    ['completed', 7],
    ['cancelled', 7],
    ['failed', 30],
  ] as const)
    for (const [name, more] of [
      ['kept', 0],
      ['over', 1],
    ] as const)
      await w.put(`${status} ${name}`, { status, endedAt: start - days * DAY - more });
  await w.put('waiting', { status: 'waiting', endedAt: undefined });
  await w.poke();
  expect(await w.left()).toEqual(['cancelled kept', 'completed kept', 'failed kept', 'waiting']);
  expect(w.changed.sort()).toEqual(['cancelled over', 'completed over', 'failed over']);
  expect([w.errors, w.holds]).toEqual([[], 0]);
});

it('Q6: a job may say for itself how long: for all ends, or for each', async () => {
  const days = (count: number) => start - count * DAY - 1;
  const w = open({
    brief: { retention: '1d' },
    long: { retention: '20d' },
    ever: { retention: Infinity },
    each: { retention: { completed: '1d', failed: Infinity } },
  });
  for (const job of ['brief', 'long', 'ever', 'each', 'unknown'])
    for (const age of [1, 8, 21]) await w.put(`${job} ${age}`, { job, endedAt: days(age) });
  for (const age of [8, 31]) await w.put(`each failed ${age}`, { job: 'each', status: 'failed', endedAt: days(age) });
  for (const age of [1, 8])
    await w.put(`each cancelled ${age}`, { job: 'each', status: 'cancelled', endedAt: days(age) });
  await w.put('brief failed 1', { job: 'brief', status: 'failed', endedAt: days(1) });
  await w.poke();
  expect(await w.left()).toEqual(
    [
      'each cancelled 1',
      'each failed 31',
      'each failed 8',
      'ever 1',
      'ever 21',
      'ever 8',
      'long 1',
      'long 8',
      'unknown 1',
    ].sort(),
  );
});

it('Q6, F7: what is still to be undone stays; so does a copy that came here later', async () => {
  const w = open();
  await w.put('undoing', { status: 'cancelled', undoing: true });
  const imported = (at: number) => ({ entries: [{ kind: 'imported', at }] });
  await w.put('new', imported(start - 7 * DAY + 1));
  await w.put('old', imported(start - 7 * DAY));
  await w.put('undone since', { status: 'cancelled', entries: [{ kind: 'undone', at: start - 1 }] });
  await w.poke();
  expect(await w.left()).toEqual(['new', 'undoing']);
});

it('Q6, E12: children stay as long as their parent may have to read how they ended', async () => {
  const w = open();
  const active = { status: 'waiting', endedAt: undefined } as const;
  await w.put('active', active);
  await w.put('undoing', { status: 'cancelled', endedAt: start, undoing: true });
  await w.put('ended', { endedAt: start });
  await w.put('damaged', active);
  await w.put('sealed', active);
  for (const parentId of ['active', 'undoing', 'ended', 'damaged', 'sealed', 'gone'])
    for (const name of ['a', 'b']) await w.put(`of ${parentId} ${name}`, { parentId });
  const load = w.store.load.bind(w.store);
  const loaded: string[] = [];
  w.store.load = async (runId) => {
    loaded.push(runId);
    if (runId === 'damaged') throw new StepfastError('STORE_CORRUPT', 'Bits are gone.', { runId });
    if (runId === 'sealed') throw new StepfastError('KEY_MISSING', 'No key.', { runId });
    return load(runId);
  };
  await w.poke();
  const kept = ['active', 'damaged', 'sealed', 'undoing'].flatMap((parent) => [`of ${parent} a`, `of ${parent} b`]);
  expect(await w.left()).toEqual(['active', 'damaged', 'ended', 'sealed', 'undoing', ...kept].sort());
  expect([w.errors, new Set(loaded).size]).toEqual([[], loaded.length]); // each parent is read once
});

it('Q6, E12: of a parent that was begun anew, those stay that came since, or that its journal names', async () => {
  const w = open();
  w.now = start - 20 * DAY;
  const child = (parentId: string) => ({ parentId, endedAt: w.now, started: { at: w.now } });
  for (const name of ['before', 'named']) await w.put(name, child('parent'));
  await w.put('other', child('first'));
  w.now += DAY;
  const at = w.now;
  for (const name of ['since', 'awaited']) await w.put(name, child('parent'));
  const entries = ['named', 'awaited'].map((runId) => ({ kind: 'child-set', at, id: [runId, 1], runId, job: 'job' }));
  const active = { status: 'waiting', endedAt: undefined, entries } as const;
  await w.put('first', active);
  await w.put('parent', { ...active, started: { generation: 2, at } });
  w.now = start;
  await w.poke();
  expect(await w.left()).toEqual(['awaited', 'first', 'named', 'other', 'parent', 'since']);
});

it('Q6, D5: where a parent can not be read for now, it is told, and tried again with the next sweep', async () => {
  const w = open();
  await w.put('child', { parentId: 'parent' });
  const load = w.store.load.bind(w.store);
  w.store.load = async () => {
    throw new StepfastError('STORE_UNAVAILABLE', 'The disk is away.');
  };
  await w.poke();
  expect([await w.left(), w.errors, w.holds]).toEqual([['child'], [codeOf('STORE_UNAVAILABLE')], 0]);
  w.store.load = load;
  await w.poke();
  expect(await w.left()).toEqual(['child']);
  w.now += SWEEP_MS;
  await w.poke();
  expect(await w.left()).toEqual([]);
});

it('Q6: they go in small commits, each with the fences that were read', async () => {
  const w = open();
  for (let nth = 0; nth < 120; nth++) await w.put(`r${nth}`);
  await w.poke();
  expect(await w.left()).toEqual([]);
  const deleting = w.batches.filter(({ deletes }) => deletes);
  expect(deleting.map(({ deletes }) => deletes!.length)).toEqual([50, 50, 20]);
  expect(deleting.every(({ now, deletes }) => now === start && deletes!.every(({ fence }) => fence === 0))).toBe(true);
  expect(w.changed).toHaveLength(120);
});

it('Q6: what has to stay keeps nothing from being found that comes after it; a clock that counts no work will do', async () => {
  const w = open();
  Object.assign(w.clock, { hold: undefined });
  await w.put('parent', { status: 'waiting', endedAt: undefined });
  for (let nth = 0; nth < 20; nth++) await w.put(`first ${nth}`);
  for (let nth = 0; nth < 70; nth++) await w.put(`child ${nth}`, { parentId: 'parent' });
  for (let nth = 0; nth < 20; nth++) await w.put(`last ${nth}`);
  await w.poke();
  expect([(await w.left()).length, w.changed.length, w.timers.size]).toEqual([71, 40, 1]);
});

it('Q6: one that somebody takes up meanwhile stays, and does not keep the others', async () => {
  const w = open();
  for (const runId of ['a', 'b', 'c']) await w.put(runId);
  w.onDelete = ({ deletes = [] }) => (deletes.some(({ runId }) => runId === 'b') ? 'refuse' : Promise.resolve());
  await w.poke();
  expect([await w.left(), w.changed.sort(), w.errors]).toEqual([['b'], ['a', 'c'], []]);
  expect(w.batches).toHaveLength(4); // all of them, and then each once
});

it('Q6: none follows the one before sooner than in six hours, and then by itself; nothing is missed if the process ends', async () => {
  const w = open();
  await w.poke();
  expect([...w.timers.values()]).toMatchObject([{ at: start + SWEEP_MS, isIdle: true }]);
  await w.put('r');
  w.now += SWEEP_MS - 1;
  await w.poke();
  expect(await w.left()).toEqual(['r']);
  w.now += 1;
  [...w.timers.values()][0]!.fire();
  await settle(100);
  expect(await w.left()).toEqual([]);
  expect([...w.timers.values()].map(({ at }) => at)).toEqual([w.now + SWEEP_MS]); // one timer, and no other
  await w.put('later');
  w.now -= 1; // a clock that was set back a little counts on; one that was set back far begins anew
  await w.poke();
  expect(await w.left()).toEqual(['later']);
  w.now -= 2 * DAY;
  await w.put('back');
  await w.poke();
  expect(await w.left()).toEqual(['later']);
});

it('Q6: it gives way to everything else, and goes on when there is nothing else', async () => {
  const w = open();
  for (let nth = 0; nth < 60; nth++) await w.put(`r${nth}`);
  w.isIdle = false;
  await w.poke();
  expect([(await w.left()).length, w.batches.length]).toEqual([60, 0]);
  w.isIdle = true;
  w.onDelete = async () => {
    w.isIdle = false; // something comes while the first portion is deleted
  };
  await w.poke();
  expect([(await w.left()).length, w.timers.size, w.holds]).toEqual([10, 0, 0]);
  w.onDelete = undefined;
  w.isIdle = true;
  await w.poke();
  expect([await w.left(), w.timers.size]).toEqual([[], 1]);
});

it('Q6: it gives way also within what a job says of its own', async () => {
  const w = open({ job: { retention: '1d' } });
  for (let nth = 0; nth < 60; nth++) await w.put(`r${nth}`);
  w.onDelete = async () => {
    w.isIdle = false;
  };
  await w.poke();
  expect([(await w.left()).length, w.timers.size]).toEqual([10, 0]);
});

it('Q6: what makes it idle again before it has stopped lets it go on by itself; two never sweep at once', async () => {
  const w = open();
  for (let nth = 0; nth < 60; nth++) await w.put(`r${nth}`);
  const list = w.store.list.bind(w.store);
  let lists = 0;
  w.store.list = async (query) => {
    lists++;
    w.sweep.poke();
    return list(query);
  };
  let asked = 0;
  Object.defineProperty(w, 'isIdle', { get: () => ++asked !== 4 }); // once, in the middle
  await w.poke();
  expect(await w.left()).toEqual([]);
  expect(lists).toBeLessThan(8);
  expect(w.timers.size).toBe(1);
});

it('Q6: an engine that closes sweeps no more, and what it meets on its way out is told to nobody', async () => {
  const w = open();
  await w.put('r');
  const list = w.store.list.bind(w.store);
  w.store.list = async () => {
    w.sweep.close();
    throw new Error('closing');
  };
  await w.poke();
  expect([w.errors, w.timers.size, w.holds]).toEqual([[], 0, 0]);
  w.store.list = list;
  await w.poke();
  expect(await w.left()).toContain('r');

  const quiet = open();
  quiet.store.list = async () => {
    throw new StepfastError('CLOSED', 'The store is closed.');
  };
  await quiet.poke();
  expect([quiet.errors, quiet.timers.size]).toEqual([[], 1]);
  quiet.sweep.close();
  expect(quiet.timers.size).toBe(0);

  const between = open();
  for (let nth = 0; nth < 60; nth++) await between.put(`r${nth}`);
  between.onDelete = async () => between.sweep.close();
  await between.poke();
  expect([(await between.left()).length, between.timers.size]).toEqual([10, 0]);
});
