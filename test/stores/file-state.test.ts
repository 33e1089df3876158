import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import type { Batch } from '../../src/store/batch.js';
import type { Store } from '../../src/store/store.js';
import { compacted, endings } from './file-compact.js';
import { freshDir } from './file-folders.js';
import { committed, completed as done, logPath, newRun, now, openStore, setOf, startOf, stateOf } from './file-kit.js';
import { type Child, childScript, startChild } from './file-process.js';

/*
 * Pins: shared values outlive their owner (spec D1, D8); another process changes them through the owner (O3).
 */

const started = { kind: 'started', at: now, payload: null } as const;
const increment = (key: string, by: number) => stateOf({ kind: 'increment', key, by });
const lock = (key: string, holder: string, expiresAt = now + 60_000) =>
  stateOf({ kind: 'lock', key, holder, expiresAt });

/** Each kind of change, more than once. */
async function fill(store: Store): Promise<void> {
  await committed(store, setOf('text', 'one'));
  await committed(store, setOf('text', 'two'));
  await committed(store, setOf('gone', 'soon'));
  await committed(store, increment('count', 2));
  await committed(store, increment('count', 3));
  await committed(
    store,
    stateOf({ kind: 'delete', key: 'gone' }, { kind: 'set', key: '__proto__', value: { a: [1] } }),
  );
  await committed(store, setOf('brief', 'till tomorrow', now + 86_400_000));
  await committed(store, lock('door', 'ada'));
  await committed(store, stateOf({ kind: 'unlock', key: 'door', token: 1 }));
  await committed(store, lock('door', 'ben'));
}

async function assertFilled(store: Store): Promise<void> {
  expect(await store.state('text')).toMatchObject({ key: 'text', value: 'two' });
  expect(await store.state('gone')).toBeUndefined();
  expect(await store.state('count')).toMatchObject({ value: 5 });
  expect(await store.state('__proto__')).toMatchObject({ key: '__proto__', value: { a: [1] } });
  expect(await store.state('brief')).toMatchObject({ value: 'till tomorrow', expiresAt: now + 86_400_000 });
  expect(await store.state('door')).toMatchObject({ token: 2, holder: 'ben', value: { heldUntil: now + 60_000 } });
}

describe('shared state', () => {
  it.each(
    Object.entries(endings),
  )('D8: is there again when its owner %s, and when its log is compacted', async (_, end) => {
    const dir = freshDir();
    const first = await openStore({ dir });
    await fill(first.store);
    await assertFilled(first.store);
    const revision = (await first.store.state('count'))?.revision;
    await end(first.store);
    const second = await openStore({ dir });
    await assertFilled(second.store);
    await end(second.store);
    const third = await compacted(dir);
    await assertFilled(third.store);
    await end(third.store);
    const { store, errors } = await openStore({ dir });
    await assertFilled(store);
    expect((await store.state('count'))?.revision).toBe(revision);
    const next = await committed(store, {
      ...increment('count', 1),
      state: [
        { kind: 'increment', key: 'count', by: 1 },
        { kind: 'lock', key: 'door', holder: 'cleo', expiresAt: now + 1 },
      ],
    });
    expect(next.state).toEqual([{ value: 6 }, {}]);
    expect((await store.state('count'))?.revision).toBeGreaterThan(revision!);
    expect([first, second, third].flatMap((opened) => opened.errors).concat(errors)).toEqual([]);
    await store.close();
  });

  it('D8: is read alike by the owner, by a process that follows it, and by one that finds no owner', async () => {
    const dir = freshDir();
    const { store } = await openStore({ dir });
    const { store: other } = await openStore({ dir }, 'use');
    expect(await other.state('count')).toBeUndefined();
    await fill(store);
    await assertFilled(other);
    await committed(store, increment('count', 1));
    expect(await other.state('count')).toMatchObject({ value: 6 });
    await committed(store, increment('count', -1));
    await store.close();
    await assertFilled(other);
    expect((await committed(other, increment('count', 10))).state).toEqual([{ value: 15 }]);
    expect(await other.state('count')).toMatchObject({ value: 15 });
    await other.close();
  });

  it('S6: shares no object with what was committed or read', async () => {
    const { store } = await openStore({ dir: freshDir() });
    const value = { list: [1] };
    const commit = committed(store, stateOf({ kind: 'set', key: 'k', value }));
    value.list.push(2);
    await commit;
    const row = await store.state('k');
    expect(row?.value).toEqual({ list: [1] });
    (row!.value as typeof value).list.push(3);
    expect((await store.state('k'))?.value).toEqual({ list: [1] });
    await store.close();
  });

  it('is not carried into the next segment once it has expired', async () => {
    const dir = freshDir();
    const { store } = await openStore({ dir });
    await committed(store, setOf('short-lived', 'x', now + 1_000));
    await committed(store, setOf('long-lived', 'y', now + 10_000));
    await store.close();
    const before = await compacted(dir, {}, now + 999);
    expect(await before.store.state('short-lived')).toMatchObject({ value: 'x' });
    await before.store.close();
    const after = await compacted(dir, {}, now + 1_000);
    expect(await after.store.state('short-lived')).toBeUndefined();
    expect(await after.store.state('long-lived')).toMatchObject({ value: 'y' });
    expect(readFileSync(logPath(dir, 3), 'utf8')).not.toContain('short-lived');
    expect([...before.errors, ...after.errors]).toEqual([]);
    await after.store.close();
  });
});

describe('shared state and other processes', () => {
  const script = childScript();
  const children: Child[] = [];
  const guest = async (dir: string, batch: Partial<Batch>) => {
    const child = startChild(script, 'commit', dir, JSON.stringify({ now, ...batch }));
    children.push(child);
    const outcome = JSON.parse(await child.line((line) => line.startsWith('{')));
    await child.ended;
    return { outcome, state: JSON.parse(child.lines.at(-1)!) };
  };
  afterAll(() => {
    for (const { process } of children) if (process.exitCode === null) process.kill('SIGKILL');
  });

  it('O3, D8: increments through the living owner, gets the sum, and reads it', async () => {
    const dir = freshDir();
    const { store, errors } = await openStore({ dir });
    await committed(store, increment('count', 40));
    const { outcome, state } = await guest(dir, { state: [{ kind: 'increment', key: 'count', by: 2 }] });
    expect(outcome).toMatchObject({ kind: 'committed', fence: 0, state: [{ value: 42 }], ended: [] });
    expect(state).toMatchObject({ key: 'count', value: 42 });
    expect(await store.state('count')).toMatchObject({ value: 42 });
    expect(await guest(dir, { state: [{ kind: 'set', key: 'count', value: 1, ifRevision: 1 }] })).toMatchObject({
      outcome: { kind: 'refused', code: 'STATE_CHANGED', index: 0 },
    });
    expect(errors).toEqual([]);
    await store.close();
    const { store: after } = await openStore({ dir });
    expect(await after.state('count')).toMatchObject({ value: 42 });
    await after.close();
  });

  it('O3, D8: increments in a folder that nobody owns', async () => {
    const dir = freshDir();
    expect((await guest(dir, increment('count', 2))).outcome).toMatchObject({ state: [{ value: 2 }] });
    expect((await guest(dir, increment('count', 3))).state).toMatchObject({ value: 5 });
  });

  it('O3: every part of a batch goes through the inbox as it is', async () => {
    const dir = freshDir();
    const { store, errors } = await openStore({ dir });
    await committed(store, startOf('old'));
    await committed(store, {
      now,
      run: { runId: 'old', fence: 'any', raise: true, append: [], state: { ...done, status: 'cancelled' } },
    });
    await committed(store, startOf('later', { dueAt: now + 1_000, unique: { key: 'u', until: 'start' } }));
    const moved = { kind: 'drift', at: now, ids: [], slack: 0 } as const;
    const { outcome } = await guest(dir, {
      state: [{ kind: 'lock', key: 'door', holder: 'me', expiresAt: now + 5 }],
      starts: [
        newRun('copy', {
          state: { ...done, status: 'failed' },
          entries: [started, moved],
          priority: 7,
          keyUntil: now + 9,
          tags: ['t'],
        }),
        newRun('moving', { dueAt: now + 9_000, unique: { key: 'u', until: 'start' }, moves: moved }),
      ],
      deletes: [{ runId: 'old', fence: 1, fingerprint: 'f' }],
    });
    expect(outcome).toEqual({
      kind: 'committed',
      fence: 0,
      offers: [],
      ended: [],
      state: [{ token: 1 }],
      starts: [
        { kind: 'created', runId: 'copy' },
        { kind: 'moved', runId: 'later', isUnique: true },
      ],
      events: [],
    });
    await store.close();
    const { store: after } = await openStore({ dir });
    expect(await after.load('old')).toBeUndefined();
    expect(await after.load('copy')).toMatchObject({
      row: { status: 'failed', endedAt: now, priority: 7, keyUntil: now + 9, tags: ['t'], length: 2 },
      journal: [started, moved],
    });
    expect(await after.load('later')).toMatchObject({
      row: { status: 'scheduled', dueAt: now + 9_000, length: 2 },
      journal: [{ kind: 'started' }, moved],
    });
    expect(errors).toEqual([]);
    await after.close();
  });
});

it('D1: a commit of very many runs reads back', async () => {
  const dir = freshDir();
  const { store } = await openStore({ dir });
  const ids = Array.from({ length: 5_000 }, (_, index) => `${index}`.padStart(256, 'x'));
  await committed(store, { now, starts: ids.map((runId) => newRun(runId)) });
  await committed(store, setOf('after', 1));
  await store.close();
  const { store: after, errors } = await openStore({ dir });
  expect((await after.load(ids.at(-1)!))?.journal).toHaveLength(1);
  expect(await after.state('after')).toMatchObject({ value: 1 });
  expect(errors).toEqual([]);
  await after.close();
});
