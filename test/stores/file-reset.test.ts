import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { JournalEntry } from '../../src/store/journal.js';
import type { RunRow } from '../../src/store/rows.js';
import type { Store } from '../../src/store/store.js';
import { compacted, endings } from './file-compact.js';
import { freshDir } from './file-folders.js';
import {
  archivePath,
  committed,
  completed,
  ended,
  endOf,
  now,
  openStore,
  running,
  startOf,
  stepDone,
  stepOf,
} from './file-kit.js';

/*
 * Pins: a journal that begins anew (`step.restart`) reads back as it is now, wherever the run was before; what still has
 * something to undo is not archived; ended runs are listed by when they ended.
 */

const started = (round: number): JournalEntry => ({ kind: 'started', at: now, payload: { round } });
const resetOf = (runId: string, ...append: JournalEntry[]) =>
  ({ now, run: { runId, fence: 0, reset: true, append, state: running } }) as const;
const journalOf = async (store: Store, runId: string) => (await store.load(runId))?.journal;

describe('a journal that begins anew', () => {
  it.each(
    Object.entries(endings),
  )('reads back exactly when its owner %s, and when the log is compacted', async (_, end) => {
    const dir = freshDir();
    const first = await openStore({ dir });
    const expected: Record<string, JournalEntry[]> = {};
    const commitSteps = async (runId: string, count: number) => {
      for (let index = 1; index <= count; index++) await committed(first.store, stepOf(runId, index));
    };
    for (const runId of ['shorter', 'equal', 'longer', 'twice', 'again', 'only'])
      await committed(first.store, startOf(runId));
    for (const runId of ['shorter', 'equal', 'longer', 'twice', 'again']) await commitSteps(runId, 2);
    await committed(first.store, resetOf('shorter', started(2)));
    expected.shorter = [started(2)];
    await committed(first.store, resetOf('equal', started(2), stepDone(7), stepDone(8)));
    expected.equal = [started(2), stepDone(7), stepDone(8)];
    await committed(first.store, resetOf('longer', started(2), ...[4, 5, 6, 7].map(stepDone)));
    expected.longer = [started(2), ...[4, 5, 6, 7].map(stepDone)];
    for (const round of [2, 3]) await committed(first.store, resetOf('twice', started(round)));
    expected.twice = [started(3)];
    await committed(first.store, resetOf('again', started(2)));
    await commitSteps('again', 1);
    expected.again = [started(2), stepDone(1)];
    // In one group of commits, whose records lie side by side.
    await Promise.all([
      first.store.commit(stepOf('only', 1)),
      first.store.commit(resetOf('only', started(2))),
      first.store.commit(stepOf('only', 3)),
    ]);
    expected.only = [started(2), stepDone(3)];
    const check = async (store: Store) => {
      for (const [runId, journal] of Object.entries(expected)) {
        const run = await store.load(runId);
        expect({ runId, journal: run?.journal }).toEqual({ runId, journal });
        expect(run?.row.length).toBe(journal.length);
      }
    };
    await check(first.store);
    const { store: reader } = await openStore({ dir }, 'use');
    await check(reader);
    await reader.close();
    await end(first.store);
    for (const open of [() => openStore({ dir }), () => compacted(dir), () => openStore({ dir })]) {
      const { store, errors } = await open();
      await check(store);
      await committed(store, stepOf('again', expected.again!.length));
      expected.again!.push(stepDone(expected.again!.length));
      await check(store);
      expect(errors).toEqual([]);
      await end(store);
    }
  });

  it('is read from the archive without what it was before', async () => {
    const dir = freshDir();
    const { store } = await openStore({ dir });
    await committed(store, startOf('a'));
    await committed(store, stepOf('a', 1));
    await committed(store, resetOf('a', started(2)));
    await committed(store, endOf('a'));
    await store.close();
    const { store: after } = await compacted(dir);
    expect((await journalOf(after, 'a'))?.map(({ kind }) => kind)).toEqual(['started', 'completed']);
    expect(readFileSync(archivePath(dir, 'runs', 'a'), 'utf8')).not.toContain('step-completed');
    await after.close();
  });

  it.each([
    'in the commit that brings the run back',
    'in a later one',
  ])('does not get back what the archive holds when it is reset %s', async (when) => {
    const dir = freshDir();
    const { store: setup } = await openStore({ dir });
    await ended(setup, 'a');
    await setup.close();
    const { store } = await compacted(dir);
    const retried: JournalEntry = { kind: 'retried', at: now, forgets: [] };
    const append = [started(2), retried];
    if (when === 'in a later one') {
      const back = { runId: 'a', fence: 0, raise: true, append: [retried], state: running } as const;
      await committed(store, { now, run: back });
      expect((await journalOf(store, 'a'))?.map(({ kind }) => kind)).toEqual(['started', 'completed', 'retried']);
      await committed(store, { now, run: { runId: 'a', fence: 1, reset: true, append, state: running } });
    } else
      await committed(store, { now, run: { runId: 'a', fence: 0, raise: true, reset: true, append, state: running } });
    expect(await journalOf(store, 'a')).toEqual(append);
    await store.close();
    for (const open of [() => openStore({ dir }), () => compacted(dir), () => openStore({ dir })]) {
      const { store: after, errors } = await open();
      expect(await after.load('a')).toMatchObject({ row: { fence: 1, length: 2, status: 'running' }, journal: append });
      expect(errors).toEqual([]);
      await after.close();
    }
    const { store: last } = await openStore({ dir });
    const end = { runId: 'a', fence: 1, append: [stepDone(1)], state: completed };
    await committed(last, { now, run: end });
    await last.close();
    const archived = await compacted(dir);
    expect(await journalOf(archived.store, 'a')).toEqual([...append, stepDone(1)]);
    await archived.store.close();
  });
});

describe('a run that has ended', () => {
  it('F7: stays at hand while its steps are undone, and is archived after that', async () => {
    const dir = freshDir();
    const { store: setup } = await openStore({ dir });
    await committed(setup, startOf('undone'));
    const undoing = { ...completed, status: 'failed', undoing: true, dueAt: now + 5 } as const;
    await committed(setup, { now, run: { runId: 'undone', fence: 0, append: [stepDone(1)], state: undoing } });
    await setup.close();
    const { store } = await compacted(dir);
    expect(existsSync(archivePath(dir, 'runs', 'undone'))).toBe(false);
    const due = await store.due({ now: now + 5, owner: 'a', jobs: { job: 1 }, limit: 10, graceMs: 0 });
    expect(due.runs.map(({ row }: { row: RunRow }) => row.runId)).toEqual(['undone']);
    expect(await store.commit({ now, deletes: [{ runId: 'undone', fence: 0, fingerprint: '' }] })).toMatchObject({
      kind: 'fenced',
    });
    const done = { ...completed, status: 'failed' } as const;
    await committed(store, { now, run: { runId: 'undone', fence: 0, append: [], state: done } });
    await store.close();
    const { store: after } = await compacted(dir);
    expect(existsSync(archivePath(dir, 'runs', 'undone'))).toBe(true);
    expect((await after.load('undone'))?.journal).toHaveLength(2);
    await after.close();
  });

  it('Q6: is listed by when it ended, wherever it is kept', async () => {
    const dir = freshDir();
    const { store: setup } = await openStore({ dir });
    const endAt = async (store: Store, runId: string, endedAt: number) => {
      await committed(store, startOf(runId));
      await committed(store, { now, run: { runId, fence: 0, append: [], state: { ...completed, endedAt } } });
    };
    for (const index of [1, 2, 3]) await endAt(setup, `archived ${index}`, now + index);
    await setup.close();
    const { store } = await compacted(dir);
    for (const index of [1, 2, 3]) await endAt(store, `live ${index}`, now + index);
    const endedBy = async (endedBefore: number) =>
      (await store.list({ limit: 10, endedBefore })).runs.map(({ row }) => row.runId);
    expect(await endedBy(now + 3)).toEqual(['live 2', 'live 1', 'archived 2', 'archived 1']);
    expect(await endedBy(now + 1)).toEqual([]);
    expect(await endedBy(now + 9)).toHaveLength(6);
    await store.close();
  });

  it('E12: is known to whoever begins to await it, also out of the archive', async () => {
    const dir = freshDir();
    const { store: setup } = await openStore({ dir });
    await ended(setup, 'child', { parentId: 'parent' });
    await setup.close();
    const { store } = await compacted(dir);
    await committed(store, startOf('parent'));
    const waiting = { ...running, status: 'waiting', awaits: ['child'] } as const;
    const { ended: found } = await committed(store, {
      now,
      run: { runId: 'parent', fence: 0, append: [], state: waiting },
    });
    expect(found).toEqual(['child']);
    const cancel = {
      runId: 'parent',
      fence: 'any',
      raise: true,
      append: [],
      state: { ...completed, status: 'cancelled' },
    } as const;
    await committed(store, { now, run: cancel });
    expect((await store.load('child'))?.row.status).toBe('completed');
    await store.close();
  });
});
