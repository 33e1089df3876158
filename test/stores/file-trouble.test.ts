import { readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { type Disk, nodeDisk } from '../../adapters/file/disk.js';
import { fileStore } from '../../adapters/file/index.js';
import { createStepfast, FatalError } from '../../src/index.js';
import type { Batch } from '../../src/store/batch.js';
import { gate } from '../hand-kit.js';
import { archivedRuns, listed } from './file-archived.js';
import { freshDir } from './file-folders.js';
import { committed, dispatchOf, now, openStore, startOf } from './file-kit.js';

/*
 * Pins: what becomes of a folder, and of the processes that share it, when the world does what it should not (spec O1, O3, D5).
 */

const failed = (code: string) => Object.assign(new Error(code), { code });
const add: Batch = { now, state: [{ kind: 'increment', key: 'n', by: 1 }] };

describe.each(['removed', 'moved'] as const)('a folder that is %s under its owner', (how) => {
  it('O1, D1: and made anew by another, has one owner: the first one is refused, and leaves the lock alone', async () => {
    const dir = freshDir();
    const first = await openStore({ dir });
    await committed(first.store, startOf('a'));
    if (how === 'removed') rmSync(dir, { recursive: true });
    else renameSync(dir, `${dir}.away`);
    const second = await openStore({ dir });
    await expect(first.store.commit(startOf('b'))).rejects.toMatchObject({ code: 'STORE_LOCKED' });
    await first.store.close();
    await committed(second.store, startOf('c'));
    await expect(openStore({ dir })).rejects.toMatchObject({ code: 'STORE_LOCKED', pid: process.pid });
    await second.store.close();
  });
});

it('D5: a folder that can not be looked at for a while is told of once, and brings no process down', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  try {
    const dir = freshDir();
    const driver = await openStore({ dir });
    const { store, errors } = await openStore({ dir }, 'use');
    const unwatch = store.watch(() => undefined);
    const log = join(dir, 'log');
    for (let times = 0; times < 2; times++) {
      renameSync(log, `${log}.away`);
      writeFileSync(log, '');
      vi.advanceTimersByTime(3_000);
      rmSync(log);
      renameSync(`${log}.away`, log);
      vi.advanceTimersByTime(1_000);
      expect(errors).toHaveLength(times + 1);
    }
    expect(errors[0]).toMatchObject({ code: 'STORE_UNAVAILABLE' });
    unwatch();
    await store.close();
    await driver.store.close();
  } finally {
    vi.useRealTimers();
  }
});

/** A disk on which calls at paths that fit fail while it is broken. */
function breakable(fits: RegExp, code: string) {
  const broken = { is: false };
  const check = (path: string) => {
    if (broken.is && fits.test(path)) throw failed(code);
  };
  const disk: Disk = {
    ...nodeDisk,
    async open(path, flags) {
      check(path);
      return nodeDisk.open(path, flags);
    },
  };
  return { broken, disk };
}

describe('a request of another process', () => {
  it('D8, D5: is decided once, however often its answer can not be written, and that is told once', async () => {
    const dir = freshDir();
    const { broken, disk } = breakable(/[/\\]outbox[/\\]/, 'ENOSPC');
    const driver = await openStore({ dir }, 'drive', { disk });
    const guest = await openStore({ dir }, 'use');
    broken.is = true;
    const asked = guest.store.commit(add);
    await expect.poll(() => driver.errors.length, { timeout: 5_000 }).toBe(1);
    await new Promise((resolve) => setTimeout(resolve, 2_500)); // two more looks
    expect((await driver.store.state('n'))?.value).toBe(1);
    expect(driver.errors).toEqual([expect.objectContaining({ code: 'QUOTA_EXCEEDED' })]);
    broken.is = false;
    expect((await asked).kind).toBe('committed');
    expect((await driver.store.state('n'))?.value).toBe(1);
    expect(readdirSync(join(dir, 'inbox'))).toEqual([]);
    await guest.store.close();
    await driver.store.close();
  });

  it('D5, E3: that can not be read for a moment is read later, and what stands behind it comes behind it', async () => {
    const dir = freshDir();
    const { broken, disk } = breakable(/[/\\]inbox[/\\]\w+\.json$/, 'EMFILE');
    const driver = await openStore({ dir }, 'drive', { disk });
    const guest = await openStore({ dir }, 'use');
    broken.is = true;
    const asked = Promise.all(['a', 'b', 'c'].map((id) => committed(guest.store, dispatchOf(id))));
    await expect.poll(() => driver.errors.length, { timeout: 5_000 }).toBeGreaterThan(0);
    broken.is = false;
    const seqs = (await asked).map(({ events }) => events[0]!.seq);
    expect(seqs).toEqual([...seqs].sort((a, b) => a - b));
    for (const error of driver.errors) expect(error.code).toBe('STORE_UNAVAILABLE');
    await guest.store.close();
    await driver.store.close();
  });
});

it('D5: a run that could not be read when the list of ended runs was made again is in the next list', async () => {
  const dir = await archivedRuns();
  rmSync(join(dir, 'ended.jsonl'));
  const { broken, disk } = breakable(/[/\\]runs[/\\]/, 'EIO');
  const { store } = await openStore({ dir }, 'use', { disk });
  broken.is = true;
  await expect(store.list({ limit: 10 })).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
  broken.is = false;
  expect(await listed(store)).toEqual(['live', 'c', 'b', 'a']);
  await store.close();
});

it('O3: a run that is taken up again twice, from processes that do not drive, is so once, and nobody hears of a lock', async () => {
  const dir = freshDir();
  const driver = createStepfast({ store: fileStore({ dir }) });
  let tries = 0;
  const inside = gate<string>();
  driver.job('job', ({ step }) =>
    step.run('step', () => {
      if (++tries === 1) throw new FatalError('broken');
      return inside.promise;
    }),
  );
  const handle = await driver.start('job', undefined, { id: 'r' });
  await expect(handle.result()).rejects.toMatchObject({ code: 'STEP_FAILED' });
  const guests = [0, 1].map(() => createStepfast({ store: fileStore({ dir }) }));
  const asked = await Promise.all(guests.map(async (guest) => guest.runs.get('r')));
  expect(asked.map((run) => run?.status)).toEqual(['failed', 'failed']);
  await Promise.all([guests[0]!.runs.retry('r'), guests[0]!.runs.retry('r'), guests[1]!.runs.retry('r')]);
  inside.open('works');
  expect([await handle.result(), tries]).toEqual(['works', 2]);
  for (const engine of [...guests, driver]) await engine.close();
});
