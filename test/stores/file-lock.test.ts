import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { type Disk, nodeDisk } from '../../adapters/file/disk.js';
import { fileStore } from '../../adapters/file/index.js';
import { acquire, isGone, readHolder } from '../../adapters/file/lock.js';
import { createStepfast } from '../../src/index.js';
import { freshDir } from './file-folders.js';
import { cancelOf, committed, dispatchOf, now, openStore, startOf, stepOf } from './file-kit.js';
import { type Child, childScript, startChild } from './file-process.js';

/*
 * Pins: one owner of a folder, taken over only from a provably dead one; everybody else commits through it (spec O3).
 */

const script = childScript();
const children: Child[] = [];
const child = (...args: string[]) => {
  const started = startChild(script, ...args);
  children.push(started);
  return started;
};
afterAll(() => {
  for (const { process } of children) if (process.exitCode === null) process.kill('SIGKILL');
});

const freshLock = () => {
  const folder = join(freshDir(), 'lock');
  mkdirSync(folder, { recursive: true });
  return folder;
};
const deferred = () => {
  let release = () => {};
  const promise = new Promise<void>((resolve) => (release = resolve));
  return { promise, release };
};

it.each([
  '{"v":1,"token":"t","pid":1e999,"host":"h","state":"held"}',
  '{"v":1,"token":"t","pid":1,"host":"h","state":"hexd"}',
])('D3: a lock that makes no sense is refused with its name: %s', async (text) => {
  const dir = freshDir();
  mkdirSync(join(dir, 'lock'), { recursive: true });
  writeFileSync(join(dir, 'lock', '1.json'), text);
  await expect(openStore({ dir })).rejects.toMatchObject({ code: 'STORE_LOCKED', file: join(dir, 'lock', '1.json') });
});

describe('the lock', () => {
  it('is won by one of many contenders that all saw it free', async () => {
    const folder = freshLock();
    const gate = deferred();
    let arrived = 0;
    const pause = () => {
      if (++arrived === 8) gate.release();
      return gate.promise;
    };
    const outcomes = await Promise.all(
      Array.from({ length: 8 }, () => acquire(nodeDisk, folder, { beforeLink: pause })),
    );
    expect(outcomes.filter(({ kind }) => kind === 'acquired')).toHaveLength(1);
  });

  it('is not won by a contender that slept between its look and its link, however many owners came since', async () => {
    for (const owners of [1, 2, 3]) {
      const folder = freshLock();
      const dead = { v: 1, token: 't', pid: 1, host: 'here', state: 'released' };
      writeFileSync(join(folder, '5.json'), JSON.stringify(dead));
      const asleep = deferred();
      const paused = deferred();
      let pauses = 0;
      const sleeper = acquire(nodeDisk, folder, {
        async beforeLink() {
          if (pauses++) return;
          paused.release();
          await asleep.promise;
        },
      });
      await paused.promise;
      let last = await acquire(nodeDisk, folder);
      for (let next = 1; next < owners; next++) {
        if (last.kind === 'acquired') await last.lock.release();
        last = await acquire(nodeDisk, folder);
      }
      asleep.release();
      expect((await sleeper).kind).toBe('held');
      expect(last.kind === 'acquired' && last.lock.isHeld()).toBe(true);
      expect(readdirSync(folder)).toEqual([`${5 + owners}.json`]);
    }
  });

  it('grows a fence with each owner, which its records carry', async () => {
    const dir = freshDir();
    for (const fence of [1, 2, 3]) {
      const { store } = await openStore({ dir });
      await committed(store, startOf(`run ${fence}`));
      await store.close();
      const lines = readFileSync(join(dir, 'log', '00000001.jsonl'), 'utf8')
        .trim()
        .split('\n');
      expect(JSON.parse(lines.at(-1)!)).toMatchObject({ f: fence });
    }
  });

  it('believes a holder dead only on proof', async () => {
    const folder = freshLock();
    const taken = await acquire(nodeDisk, folder);
    expect(taken.kind).toBe('acquired');
    const { holder } = (await readHolder(nodeDisk, folder))!;
    const gone = child('nothing', folder);
    await gone.ended;
    expect(isGone(holder)).toBe(false);
    expect(isGone({ ...holder, token: 'another store of this process' })).toBe(false);
    expect(isGone({ ...holder, pid: gone.pid })).toBe(true);
    const { bootId: _, ...unknown } = holder; // of the same boot it is this machine, under another name
    expect(isGone({ ...unknown, pid: gone.pid, host: 'elsewhere' })).toBe(false);
    expect(isGone({ ...holder, state: 'released' })).toBe(true);
    if (holder.startTime !== undefined) {
      expect(isGone({ ...holder, startTime: '1' })).toBe(true);
      expect(isGone({ ...holder, bootId: 'another' })).toBe(true);
      expect(isGone({ ...holder, pid: gone.pid, namespace: 'another container' })).toBe(false);
    }
  });

  it('that was planted with the last name there is, is refused by that name', async () => {
    const folder = freshLock();
    const name = '999999999999999.json';
    writeFileSync(join(folder, name), JSON.stringify({ v: 1, token: 't', pid: 1, host: 'h', state: 'released' }));
    await expect(acquire(nodeDisk, folder)).rejects.toMatchObject({
      code: 'STORE_LOCKED',
      message: expect.stringContaining(name),
    });
  });

  it('that can not be read is nobody else’s to take', async () => {
    const dir = freshDir();
    mkdirSync(join(dir, 'lock'), { recursive: true });
    writeFileSync(join(dir, 'lock', '3.json'), '{"pid":');
    await expect(openStore({ dir })).rejects.toMatchObject({ code: 'STORE_LOCKED' });
    expect(readFileSync(join(dir, 'lock', '3.json'), 'utf8')).toBe('{"pid":');
  });

  it.each(['', '\0\0\0\0'])('D1: whose bytes a loss of power took is nobody’s: %j', async (bytes) => {
    const folder = freshLock();
    const path = join(folder, '3.json');
    writeFileSync(path, bytes);
    // As long as it is young, somebody may be about to write it.
    await expect(acquire(nodeDisk, folder)).rejects.toMatchObject({ code: 'STORE_LOCKED', file: path });
    utimesSync(path, 0, 0);
    const taken = await acquire(nodeDisk, folder);
    expect(taken).toMatchObject({ kind: 'acquired', lock: { fence: 4 } });
    expect(readdirSync(folder)).toEqual(['4.json']);
  });

  it('taken away from under its owner stops it before it writes', async () => {
    const dir = freshDir();
    const { store } = await openStore({ dir });
    await committed(store, startOf('a'));
    writeFileSync(join(dir, 'lock', '2.json'), '{}');
    await expect(store.commit(stepOf('a', 1))).rejects.toMatchObject({ code: 'STORE_LOCKED' });
    expect((await store.load('a'))?.journal).toHaveLength(1);
    await store.close();
  });

  it('is refused with the pid of a living owner, waited for on request, and taken over when that process is killed', async () => {
    const dir = freshDir();
    const holder = child('hold', dir);
    await holder.line((line) => line === 'ready');
    await expect(openStore({ dir })).rejects.toMatchObject({ code: 'STORE_LOCKED', pid: holder.pid });
    let isOpen = false;
    const waiting = openStore({ dir, wait: true }).then((opened) => {
      isOpen = true;
      return opened;
    });
    const reader = await openStore({ dir }, 'use');
    expect((await reader.store.load('held'))?.journal).toHaveLength(1);
    expect(isOpen).toBe(false);
    holder.process.kill('SIGKILL');
    const { store } = await waiting;
    await committed(store, stepOf('held', 1));
    expect((await reader.store.load('held'))?.journal).toHaveLength(2);
    await reader.store.close();
    await store.close();
  });
});

describe('an engine whose store waits for the folder', () => {
  it('O3: reads, dispatches and closes meanwhile; only ready() waits, and hears of the end', async () => {
    const dir = freshDir();
    const holder = child('hold', dir);
    await holder.line((line) => line === 'ready');
    const engine = createStepfast({ store: fileStore({ dir, wait: true }), onError: () => undefined });
    engine.job('job', () => 1);
    const ready = engine.ready().then(
      () => 'ready',
      (error: { readonly code?: string }) => error.code,
    );
    expect((await engine.runs.get('held'))?.id).toBe('held');
    expect(await engine.runs.get('nobody')).toBeUndefined();
    await engine.close();
    expect(await ready).toBe('CLOSED');
  });
});

describe('a lock that is held for one commit', () => {
  it('O3: is waited for by who wants to drive', async () => {
    const folder = freshLock();
    const passing = await acquire(nodeDisk, folder, { state: 'passing' });
    const driver = acquire(nodeDisk, folder);
    await new Promise((resolve) => setTimeout(resolve, 20));
    if (passing.kind === 'acquired') await passing.lock.release();
    expect((await driver).kind).toBe('acquired');
  });
});

describe('a full disk', () => {
  it('D5: keeps nobody from closing, and the folder from nobody', async () => {
    const dir = freshDir();
    let isFull = false;
    const disk: Disk = {
      ...nodeDisk,
      write: (...given) =>
        isFull ? Promise.reject(Object.assign(new Error('full'), { code: 'ENOSPC' })) : nodeDisk.write(...given),
    };
    const { store } = await openStore({ dir }, 'drive', { disk });
    await committed(store, startOf('r'));
    isFull = true;
    await expect(store.commit(startOf('s'))).rejects.toMatchObject({ code: 'QUOTA_EXCEEDED' });
    await store.close();
    expect((await readHolder(nodeDisk, join(dir, 'lock')))?.holder.state).toBe('released');
    const after = await openStore({ dir });
    expect((await after.store.load('r'))?.journal).toHaveLength(1);
    await after.store.close();
  });
});

describe('a guest whose disk is full', () => {
  it('D5: is told so, in words that have a code', async () => {
    const dir = freshDir();
    const { store: owner } = await openStore({ dir });
    const full = Object.assign(new Error('full'), { code: 'ENOSPC' });
    const disk: Disk = { ...nodeDisk, write: () => Promise.reject(full) };
    const { store: guest } = await openStore({ dir }, 'use', { disk });
    await expect(guest.commit(dispatchOf('e'))).rejects.toMatchObject({ code: 'QUOTA_EXCEEDED' });
    await guest.close();
    await owner.close();
  });
});

describe.runIf(process.platform === 'linux')('a process that is dead for sure', () => {
  const self = async () => {
    const folder = freshLock();
    await acquire(nodeDisk, folder);
    return (await readHolder(nodeDisk, folder))!.holder;
  };

  it('O3: one that was killed, and whose parent has not asked for its end', async () => {
    const { startTime: _, ...mine } = await self();
    const parent = spawn('sh', ['-c', 'sleep 0 & echo $!; exec sleep 30']); // what it has become asks for nothing
    const [pid] = (await once(parent.stdout, 'data')) as [Buffer];
    const isDead = () => isGone({ ...mine, pid: Number(String(pid)) });
    await vi.waitFor(() => expect(isDead()).toBe(true), 10_000);
    expect(isGone({ ...mine, pid: parent.pid! })).toBe(false);
    parent.kill('SIGKILL');
  });

  it('O3: one of this boot, though the machine has another name by now', async () => {
    const mine = await self();
    const gone = { ...mine, pid: 2 ** 22 + 1 };
    expect(isGone({ ...gone, host: 'elsewhere' })).toBe(true);
    const { bootId: _, ...unknown } = gone;
    expect(isGone({ ...unknown, host: 'elsewhere' })).toBe(false);
  });
});

describe('a process that does not own the folder', () => {
  it('dispatches through the living owner and gets the real receipt', async () => {
    const dir = freshDir();
    const { store, errors } = await openStore({ dir });
    const wait = { id: ['e', 1] as const, events: ['e'], after: 0 };
    await committed(store, startOf('a'));
    await committed(store, {
      ...stepOf('a', 1),
      run: { ...stepOf('a', 1).run!, state: { status: 'waiting', version: 1, waits: [wait] } },
    });
    const heard: unknown[] = [];
    store.watch((runId, isOwn) => heard.push([runId, isOwn]));
    const guest = child('guest', dir, 'event-1');
    const receipt = JSON.parse(await guest.line((line) => line.startsWith('{')));
    expect(receipt).toMatchObject({ kind: 'accepted', id: 'event-1', resumed: ['a'] });
    await guest.ended;
    expect(heard).toEqual([['a', false]]);
    expect(readdirSync(join(dir, 'inbox'))).toEqual([]);
    expect(readdirSync(join(dir, 'outbox'))).toEqual([]);
    expect(errors).toEqual([]);
    await store.close();
  });

  it('commits under the lock when nobody owns the folder, and gives the lock back', async () => {
    const dir = freshDir();
    const { store } = await openStore({ dir }, 'use');
    const outcomes = await Promise.all([
      store.commit(startOf('a')),
      store.commit(dispatchOf('e')),
      store.commit(startOf('b')),
    ]);
    expect(outcomes.map(({ kind }) => kind)).toEqual(['committed', 'committed', 'committed']);
    expect((await store.load('a'))?.journal).toHaveLength(1);
    const { store: driver } = await openStore({ dir });
    expect(await committed(driver, dispatchOf('e'))).toMatchObject({ events: [{ kind: 'deduplicated', id: 'e' }] });
    await driver.close();
    await store.close();
  });

  it('may start and cancel, but not drive', async () => {
    const dir = freshDir();
    const { store: driver } = await openStore({ dir });
    const { store: guest } = await openStore({ dir }, 'use');
    await committed(guest, startOf('a'));
    await expect(guest.commit(stepOf('a', 1))).rejects.toMatchObject({ code: 'STORE_LOCKED', pid: process.pid });
    await committed(guest, cancelOf('a'));
    expect((await guest.commit(cancelOf('a'))).kind).toBe('ended');
    expect((await driver.load('a'))?.row.status).toBe('cancelled');
    await expect(guest.open({ owner: 'g', now, leaseMs: 1, mode: 'drive', onError: () => {} })).rejects.toMatchObject({
      code: 'STORE_LOCKED',
    });
    const refused = { now, events: [{ id: 'x', name: 'e', payload: 1, ttlMs: 1, maxBacklog: 1, runId: 'nobody' }] };
    expect(await guest.commit(refused)).toMatchObject({ kind: 'refused', code: 'RUN_NOT_FOUND' });
    await driver.close();
    await guest.open({ owner: 'g', now, leaseMs: 1, mode: 'drive', onError: () => {} });
    await committed(guest, startOf('b'));
    await guest.close();
  });

  it('commits itself, once, when the owner dies before it answers', async () => {
    const dir = freshDir();
    const holder = child('hold', dir);
    await holder.line((line) => line === 'ready');
    holder.process.kill('SIGSTOP');
    const { store } = await openStore({ dir }, 'use');
    const dispatched = committed(store, dispatchOf('only-once'));
    await expect.poll(() => readdirSync(join(dir, 'inbox')).filter((name) => name.endsWith('.json'))).toHaveLength(1);
    holder.process.kill('SIGKILL');
    expect((await dispatched).events[0]).toMatchObject({ kind: 'accepted', id: 'only-once' });
    expect((await committed(store, dispatchOf('only-once'))).events[0]).toMatchObject({ kind: 'deduplicated' });
    expect(readdirSync(join(dir, 'inbox'))).toEqual([]);
    await store.close();
  });

  it('D3: is told so when its request was damaged on the way, and nothing of it is committed', async () => {
    const dir = freshDir();
    const { store: driver, errors } = await openStore({ dir });
    const disk = {
      ...nodeDisk,
      rename: async (from: string, to: string) => {
        if (to.includes('inbox')) writeFileSync(from, readFileSync(from, 'utf8').replace('"of":"sent"', '"of":"bent"'));
        await nodeDisk.rename(from, to);
      },
    };
    const { store: guest } = await openStore({ dir }, 'use', { disk });
    await expect(guest.commit(dispatchOf('sent'))).rejects.toMatchObject({ code: 'STORE_CORRUPT' });
    expect(await driver.commit(dispatchOf('sent'))).toMatchObject({ events: [{ kind: 'accepted', id: 'sent' }] });
    expect(errors).toEqual([]);
    await guest.close();
    await driver.close();
  });

  it('finds its event once when the owner died between its commit and its answer', async () => {
    const dir = freshDir();
    let isDying = false;
    const hung = new Promise<never>(() => {});
    const disk = {
      ...nodeDisk,
      rename: (from: string, to: string) => (isDying && to.includes('outbox') ? hung : nodeDisk.rename(from, to)),
    };
    const owner = await openStore({ dir }, 'drive', { disk });
    isDying = true;
    const { store } = await openStore({ dir }, 'use');
    const dispatched = committed(store, dispatchOf('e'));
    await expect.poll(() => readFileSync(join(dir, 'log', '00000001.jsonl'), 'utf8').includes('"id":"e"')).toBe(true);
    owner.store.abandon?.();
    expect((await dispatched).events[0]).toMatchObject({ kind: 'deduplicated', id: 'e', seq: 1 });
    await store.close();
  });

  it('hears that something changed', async () => {
    const dir = freshDir();
    const { store: driver } = await openStore({ dir });
    const { store: guest } = await openStore({ dir }, 'use');
    const heard = new Promise((resolve) => guest.watch(resolve));
    await committed(driver, startOf('a'));
    expect(await heard).toBeUndefined();
    await guest.close();
    await driver.close();
  });
});
