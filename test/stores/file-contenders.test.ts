import { mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { nodeDisk } from '../../adapters/file/disk.js';
import { type Acquired, acquire, readHolder } from '../../adapters/file/lock.js';
import { tempFolder } from './file-folders.js';
import { openStore } from './file-kit.js';
import { type Child, childScript, startChild } from './file-process.js';

/*
 * Pins spec O3 for processes that are really stopped: a contender that stands still before any one of its calls to the
 * disk, for as long as others please, never owns the folder together with one of them; nor is an owner that stands still
 * taken for a dead one.
 */

const MOST_CALLS = 40;

/** A folder of locks as the contender finds it. */
const BEFORE = {
  'that nobody has owned': () => undefined,
  'that was released': (folder: string) => holderIn(folder, { state: 'released', pid: process.pid }),
} as const;
const holderIn = (folder: string, more: object) =>
  writeFileSync(join(folder, '5.json'), JSON.stringify({ v: 1, token: 't', host: 'here', ...more }));

const take = (folder: string) => acquire(nodeDisk, folder);
const release = async (taken: Acquired) => {
  if (taken.kind === 'acquired') await taken.lock.release();
};

/** What others do meanwhile: the last one of them that may hold it. */
const MEANWHILE = {
  'one takes it': take,
  'one takes it and gives it back': async (folder: string) => {
    const taken = await take(folder);
    await release(taken);
    return taken;
  },
  'three take it, one after the other': async (folder: string) => {
    for (let n = 0; n < 2; n++) await release(await take(folder));
    return take(folder);
  },
  'so long that the one who takes it clears away what was begun': async (folder: string) => {
    const longAgo = Date.now() / 1000 - 3_600;
    for (const name of readdirSync(folder)) utimesSync(join(folder, name), longAgo, longAgo);
    return take(folder);
  },
} as const;

const cases = Object.keys(BEFORE).flatMap((before) =>
  Object.keys(MEANWHILE).map((meanwhile) => [before, meanwhile] as const),
);

describe.runIf(process.platform !== 'win32')('O3: a process that is stopped', () => {
  const script = childScript('file-contender.ts');

  it.each(cases)('before any call to the disk, as it takes a lock %s, while %s', async (before, meanwhile) => {
    const folders = Array.from({ length: MOST_CALLS }, () => {
      const folder = join(tempFolder(), 'lock');
      mkdirSync(folder);
      BEFORE[before as keyof typeof BEFORE](folder);
      return folder;
    });
    const contender = startChild(script, ...folders.map((folder, n) => JSON.stringify([folder, n + 1])));
    let stops = 0;
    for (const [n, folder] of folders.entries()) {
      const said = (kind: RegExp) => contender.line((line) => kind.test(line) && line.startsWith(`${n} `));
      if (!(await said(/ /)).includes(' stops ')) {
        expect(await said(/ /), 'nobody else was there').toBe(`${n} holds true`);
        continue;
      }
      stops++;
      const other = await MEANWHILE[meanwhile as keyof typeof MEANWHILE](folder);
      // It says that it stops before it does: on a busy machine the first of these may come too soon.
      const goOn = setInterval(() => contender.process.kill('SIGCONT'), 20);
      const end = await said(/ (holds|is|fails)/);
      clearInterval(goOn);
      const where = contender.lines.find((line) => line.startsWith(`${n} stops`));
      const othersHold = other.kind === 'acquired' && other.lock.isHeld() && (await isHeldIn(folder));
      expect([`${n} holds true`, `${n} is refused`], where).toContain(end);
      expect(end.endsWith('true'), `${where}: ${end}, and another holds it: ${othersHold}`).toBe(!othersHold);
    }
    await contender.ended;
    expect(stops).toBeGreaterThanOrEqual(10);
    expect(stops, 'it was stopped before each of its calls').toBeLessThan(MOST_CALLS);
  });

  it('owns the folder still, however long it stands still, and goes on', async () => {
    const dir = join(tempFolder(), 'store');
    const owner: Child = startChild(childScript(), 'hold', dir);
    await owner.line((line) => line === 'ready');
    owner.process.kill('SIGSTOP');
    await expect(openStore({ dir })).rejects.toMatchObject({ code: 'STORE_LOCKED', pid: owner.pid });
    const { store } = await openStore({ dir }, 'use');
    expect((await store.load('held'))?.journal).toHaveLength(1);
    owner.process.kill('SIGCONT');
    const event = { id: 'id', name: 'e', payload: 1, ttlMs: 60_000, maxBacklog: 10 };
    expect((await store.commit({ now: Date.now(), events: [event] })).kind).toBe('committed');
    await store.close();
    owner.process.kill('SIGKILL');
    await owner.ended;
  });
});

/** Whether what stands in the folder says so: the file may be there, and say that it was given back. */
const isHeldIn = async (folder: string) => (await readHolder(nodeDisk, folder))?.holder.state === 'held';
