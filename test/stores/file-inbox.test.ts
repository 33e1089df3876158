import { existsSync, mkdirSync, readdirSync, readFileSync, unlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { createArchive } from '../../adapters/file/archive.js';
import { replaceFile } from '../../adapters/file/atomic-write.js';
import { prepare } from '../../adapters/file/batch.js';
import { decide, type Waiting } from '../../adapters/file/decide.js';
import { type Disk, nodeDisk } from '../../adapters/file/disk.js';
import { emptyImage, type Image } from '../../adapters/file/image.js';
import { acquire } from '../../adapters/file/lock.js';
import type { FileStoreInternals } from '../../adapters/file/options.js';
import { serve } from '../../adapters/file/service.js';
import type { Batch, CommitOutcome } from '../../src/store/batch.js';
import type { Store } from '../../src/store/store.js';
import { freshDir } from './file-folders.js';
import { committed, dispatchOf, now, openStore, startOf } from './file-kit.js';

/*
 * Pins: what one process asks of the owner is accepted in the order of asking (spec O3), as on every store: `the oldest`
 * event (E3) and the first in a queue (Q2) are what was asked for first.
 */

const asked = (dir: string) => readdirSync(join(dir, 'inbox')).filter((name) => name.endsWith('.json'));

/** A disk on which all that is done with messages takes longer the earlier it is begun: the last comes first. */
function reversed(): Disk {
  let delay = 60;
  const late = (path: string) => {
    if (!/[/\\](inbox|outbox)[/\\]/.test(path)) return;
    delay = Math.max(0, delay - 3);
    return new Promise((resolve) => setTimeout(resolve, delay));
  };
  return {
    ...nodeDisk,
    open: async (path, flags) => {
      await late(path);
      return nodeDisk.open(path, flags);
    },
    rename: async (from, to) => {
      await late(to);
      await nodeDisk.rename(from, to);
    },
  };
}

const ids = Array.from({ length: 12 }, (_, index) => `${index}`);
/** Events and starts by turns, all asked for in one turn. */
const askAll = (store: Store) =>
  Promise.all(ids.map((id, index) => committed(store, index % 2 ? startOf(id) : dispatchOf(id))));
const seqs = (store: Store, outcomes: Awaited<ReturnType<typeof askAll>>) =>
  Promise.all(outcomes.map(async ({ events }, index) => events[0]?.seq ?? (await store.load(ids[index]!))!.row.seq));
const idOf = ({ starts, events }: Batch) => starts?.[0]?.runId ?? events?.[0]?.id;

/** A process that holds the folder and answers nobody yet. */
async function silentOwner(dir: string) {
  const taken = await acquire(nodeDisk, join(dir, 'lock'));
  if (taken.kind === 'held') throw new Error('somebody else holds it');
  return taken.lock;
}

it('E3, O3: what was asked for in one turn, without waiting, is accepted in the order of asking', async () => {
  const dir = freshDir();
  const { store: driver } = await openStore({ dir });
  const { store: guest } = await openStore({ dir }, 'use', { disk: reversed() });
  const found = await seqs(guest, await askAll(guest));
  expect(found).toEqual([...found].sort((a, b) => a - b));
  expect(asked(dir)).toEqual([]);
  await guest.close();
  await driver.close();
});

it('E3, O3: also by an owner that finds all of it at once, and reads the last first', async () => {
  const dir = freshDir();
  const { store: guest } = await openStore({ dir }, 'use');
  const lock = await silentOwner(dir);
  const all = askAll(guest);
  await expect.poll(() => asked(dir), { timeout: 10_000 }).toHaveLength(ids.length);
  const accepted: unknown[] = [];
  const commit = async (batch: Batch): Promise<CommitOutcome> => {
    accepted.push(idOf(batch));
    return { kind: 'committed', events: [], starts: [], offers: [], ended: [], state: [] } as never;
  };
  const service = serve(reversed(), dir, commit, (error) => expect(error).toBeUndefined());
  await service.look();
  await all;
  expect(accepted).toEqual(ids);
  await service.stop();
  await lock.release();
  await guest.close();
});

it('E3, O3: also when the owner is gone before it answers, and the process commits itself', async () => {
  const dir = freshDir();
  const { store: guest } = await openStore({ dir }, 'use', { disk: reversed() });
  const lock = await silentOwner(dir);
  const all = askAll(guest);
  await expect.poll(() => asked(dir), { timeout: 10_000 }).toHaveLength(ids.length);
  await lock.release();
  const late = committed(guest, dispatchOf('late')); // may not overtake them because the lock is free now
  const found = [...(await seqs(guest, await all)), (await late).events[0]!.seq];
  expect(found).toEqual([...found].sort((a, b) => a - b));
  expect(asked(dir)).toEqual([]);
  await guest.close();
});

it('O3: the order holds though the clock is set back', async () => {
  const dir = freshDir();
  const { store: guest } = await openStore({ dir }, 'use');
  const lock = await silentOwner(dir);
  let at = Date.now();
  const clock = vi.spyOn(Date, 'now').mockImplementation(() => (at -= 60_000));
  const all = askAll(guest);
  await expect.poll(() => asked(dir), { timeout: 10_000 }).toHaveLength(ids.length);
  clock.mockRestore();
  const sent = asked(dir).sort();
  const batches = sent.map((name) => JSON.parse(readFileSync(join(dir, 'inbox', name), 'utf8')).batch as Batch);
  expect(batches.map(idOf)).toEqual(ids);
  await lock.release();
  await all;
  await guest.close();
});

it('O3: a burst of one process does not fill the inbox, and is answered as a whole', async () => {
  const dir = freshDir();
  const { store: guest } = await openStore({ dir }, 'use');
  const lock = await silentOwner(dir);
  const all = Promise.all(Array.from({ length: 200 }, (_, index) => committed(guest, dispatchOf(`${index}`))));
  await expect.poll(() => asked(dir).length, { timeout: 10_000 }).toBe(64);
  await guest.load('nobody'); // a turn later there are no more
  expect(asked(dir)).toHaveLength(64);
  await lock.release();
  const { store: driver } = await openStore({ dir, wait: true });
  const found = (await all).map(({ events }) => events[0]!.seq);
  expect(found).toEqual([...found].sort((a, b) => a - b));
  await guest.close();
  await driver.close();
});

it('D8, O3: what one owner has answered before it died is not committed again by the next, though it is asked for still', async () => {
  const dir = freshDir();
  let takeOut = (): void => undefined;
  const gate = new Promise<void>((resolve) => {
    takeOut = resolve;
  });
  const slow: Disk = {
    ...nodeDisk,
    unlink: async (path) => {
      if (/[/\\]inbox[/\\]/.test(path)) await gate;
      await nodeDisk.unlink(path);
    },
  };
  const { store: guest } = await openStore({ dir }, 'use', { disk: slow });
  const lock = await silentOwner(dir);
  const counted = committed(guest, { now, state: [{ kind: 'increment', key: 'n', by: 1 }] });
  await expect.poll(() => asked(dir), { timeout: 10_000 }).toHaveLength(1);
  const [name] = asked(dir);
  const outcome = { kind: 'committed', fence: 0, starts: [], events: [], state: [], ended: [], offers: [] };
  await replaceFile(nodeDisk, join(dir, 'outbox', name!), JSON.stringify({ outcome }), { durable: false });
  await new Promise((resolve) => setTimeout(resolve, 300)); // it is read
  await lock.release();
  const { store: next } = await openStore({ dir, wait: true });
  await expect.poll(() => asked(dir), { timeout: 10_000 }).toEqual([]);
  takeOut();
  expect(await counted).toMatchObject({ kind: 'committed' });
  expect(await next.state('n')).toBeUndefined();
  expect(readdirSync(join(dir, 'outbox')).filter((each) => each.endsWith('.json'))).toEqual([]);
  await guest.close();
  await next.close();
});

it('D8, O3: what the next owner has answered, while it was not yet known that there is one, is not asked for again', async () => {
  const dir = freshDir();
  let isGated = false;
  let sent = 0;
  let goOn = (): void => undefined;
  const gate = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  const slow: Disk = {
    ...nodeDisk,
    link: async (from, to) => {
      if (isGated) await gate; // it has found nobody, and is about to take the lock
      await nodeDisk.link(from, to);
    },
    rename: (from, to) => {
      if (/[/\\]inbox[/\\]/.test(to)) sent++;
      return nodeDisk.rename(from, to);
    },
  };
  const { store: guest } = await openStore({ dir }, 'use', { disk: slow });
  const lock = await silentOwner(dir);
  const counted = committed(guest, { now, state: [{ kind: 'increment', key: 'n', by: 1 }] });
  await expect.poll(() => asked(dir), { timeout: 10_000 }).toHaveLength(1);
  isGated = true;
  await lock.release();
  await new Promise((resolve) => setTimeout(resolve, 500)); // the guest looks, and is held at the gate
  const { store: next } = await openStore({ dir, wait: true });
  await expect.poll(() => asked(dir), { timeout: 10_000 }).toEqual([]);
  goOn();
  expect((await counted).state).toMatchObject([{ value: 1 }]);
  await guest.close();
  expect(sent).toBe(1);
  expect(await next.state('n')).toMatchObject({ value: 1 });
  await next.close();
});

/** An owner that has committed what it is asked for, and dies before it answers. */
async function mute(dir: string, internals: FileStoreInternals = {}) {
  const never = new Promise<never>(() => undefined);
  const disk: Disk = {
    ...nodeDisk,
    rename: (from, to) => (/[/\\]outbox[/\\]/.test(to) ? never : nodeDisk.rename(from, to)),
  };
  return (await openStore({ dir }, 'drive', { ...internals, disk })).store;
}
const increment: Batch = { now, state: [{ kind: 'increment', key: 'n', by: 1 }] };

it.each([
  ['the next owner', 'drive'],
  ['its sender, where nobody owns the folder', undefined],
] as const)('D8, O3: a request that is decided, and not answered, is not decided again by %s', async (_, next) => {
  const dir = freshDir();
  const { store: guest } = await openStore({ dir }, 'use');
  const owner = await mute(dir);
  const outcomes = Promise.all([committed(guest, increment), committed(guest, increment)]);
  await expect.poll(async () => (await owner.state('n'))?.value, { timeout: 10_000 }).toBe(2);
  owner.abandon!();
  const store = next && (await openStore({ dir, wait: true })).store;
  expect((await outcomes).map(({ state }) => state)).toEqual([[{ value: 1 }], [{ value: 2 }]]);
  expect((await guest.state('n'))?.value).toBe(2);
  await guest.close();
  await store?.close();
});

it('D8, O3: nor where the log was compacted in between; what was answered is forgotten by then', async () => {
  const dir = freshDir();
  const { store: guest } = await openStore({ dir }, 'use');
  const { store: first } = await openStore({ dir });
  for (let n = 0; n < 3; n++) await committed(guest, increment);
  await first.close();
  const owner = await mute(dir, { compactAt: 1 });
  const outcome = committed(guest, increment);
  await expect.poll(async () => (await owner.state('n'))?.value, { timeout: 10_000 }).toBe(4);
  const segments = () => readdirSync(join(dir, 'log'));
  const [before] = segments();
  for (let n = 0; n < 20; n++) await committed(owner, startOf(`${n}`));
  await expect.poll(segments, { timeout: 10_000 }).not.toContain(before);
  const [segment] = segments();
  expect(
    readFileSync(join(dir, 'log', segment!), 'utf8')
      .match(/"asked":(\[\[.*?\]\])/)?.[1]
      ?.match(/"value"/g),
  ).toHaveLength(1);
  owner.abandon!();
  const { store: next } = await openStore({ dir, wait: true });
  expect((await outcome).state).toEqual([{ value: 4 }]);
  expect((await next.state('n'))?.value).toBe(4);
  await guest.close();
  await next.close();
});

it('D8, O3: nor where more are decided without an answer than are remembered for long', async () => {
  const dir = freshDir();
  const guests = await Promise.all(Array.from({ length: 17 }, async () => (await openStore({ dir }, 'use')).store));
  const owner = await mute(dir);
  const outcomes = Promise.all(
    guests.flatMap((guest) => Array.from({ length: 64 }, () => committed(guest, increment))),
  );
  await expect.poll(async () => (await owner.state('n'))?.value, { timeout: 20_000 }).toBe(1_088);
  owner.abandon!();
  const { store: next } = await openStore({ dir, wait: true });
  const counted = (await outcomes).map(({ state }) => (state[0] as { value: number }).value);
  expect(new Set(counted)).toEqual(new Set(Array.from({ length: 1_088 }, (_, index) => index + 1)));
  expect((await next.state('n'))?.value).toBe(1_088);
  await Promise.all([next, ...guests].map((store) => store.close()));
}, 60_000);

it('D8, O3: nor where the log is damaged, so that its sender writes it anew before it commits by itself', async () => {
  const dir = freshDir();
  const owner = await mute(dir);
  await committed(owner, startOf('damaged'));
  const { store: guest } = await openStore({ dir }, 'use');
  const outcome = committed(guest, increment);
  await expect.poll(async () => (await owner.state('n'))?.value, { timeout: 10_000 }).toBe(1);
  owner.abandon!();
  const [segment] = readdirSync(join(dir, 'log'));
  const log = readFileSync(join(dir, 'log', segment!), 'utf8');
  writeFileSync(join(dir, 'log', segment!), log.replace('"runId":"damaged"', '"runId":"dAmaged"'));
  expect((await outcome).state).toEqual([{ value: 1 }]);
  expect((await guest.state('n'))?.value).toBe(1);
  expect(readdirSync(join(dir, 'inbox'))).toEqual([]);
  await guest.close();
});

it('answers whose senders have died are swept while their owner lives', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  const dir = freshDir();
  const { store } = await openStore({ dir });
  const answer = join(dir, 'outbox', 'of-a-dead-process.json');
  writeFileSync(answer, '{}');
  utimesSync(answer, 0, 0);
  vi.advanceTimersByTime(600_000);
  vi.useRealTimers();
  await expect.poll(() => existsSync(answer), { timeout: 10_000 }).toBe(false);
  await store.close();
});

/** A sender that stands still when it would read its first answer; `goOn` lets it, `answer` is what it has not read. */
async function standing(dir: string) {
  let goOn = (): void => undefined;
  const gate = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  const slow: Disk = {
    ...nodeDisk,
    open: async (path, flags) => {
      if (/[/\\]outbox[/\\].*\.json$/.test(path) && existsSync(path)) await gate;
      return nodeDisk.open(path, flags);
    },
  };
  const { store } = await openStore({ dir }, 'use', { disk: slow });
  const answers = () => readdirSync(join(dir, 'outbox')).filter((name) => name.endsWith('.json'));
  const answer = async () => {
    await expect.poll(answers, { timeout: 10_000 }).toHaveLength(1);
    return join(dir, 'outbox', answers()[0]!);
  };
  return { store, goOn, answer };
}
const hoursAgo = (hours: number) => Date.now() / 1_000 - hours * 3_600;

it('D8, O3: the answer to a sender that stands still for hours waits for it, whoever owns the folder meanwhile', async () => {
  const dir = freshDir();
  const { store: first } = await openStore({ dir });
  const sender = await standing(dir);
  const counted = committed(sender.store, increment);
  const answer = await sender.answer();
  await first.close();
  utimesSync(answer, hoursAgo(23), hoursAgo(23));
  const { store: next } = await openStore({ dir }, 'drive', { compactAt: 1 });
  const segments = () => readdirSync(join(dir, 'log'));
  const [before] = segments();
  for (let n = 0; n < 20; n++) await committed(next, startOf(`${n}`));
  await expect.poll(segments, { timeout: 10_000 }).not.toContain(before);
  sender.goOn();
  expect((await counted).state).toEqual([{ value: 1 }]);
  expect((await next.state('n'))?.value).toBe(1);
  await sender.store.close();
  await next.close();
});

/** What a sender hears whose answer was swept while it stood still, as is done after a day. */
async function hearsLate(dir: string, owner: 'the same owner' | 'the next owner' | 'nobody', batch: Batch) {
  const { store: first } = await openStore({ dir });
  const sender = await standing(dir);
  const outcome = sender.store.commit(batch);
  outcome.catch(() => undefined);
  const answer = await sender.answer();
  if (owner !== 'the same owner') await first.close();
  unlinkSync(answer);
  const next = owner === 'the next owner' ? (await openStore({ dir })).store : undefined;
  sender.goOn();
  const end = () => Promise.all([first, next, sender.store].map((each) => each?.close()));
  return { outcome, store: sender.store, end };
}

describe.each(['the same owner', 'the next owner', 'nobody'] as const)('an answer is gone, and %s drives', (owner) => {
  it('D8, S8: a change of the state is not made again, and its sender is told', async () => {
    const { outcome, store, end } = await hearsLate(freshDir(), owner, increment);
    await expect(outcome).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE', message: expect.stringContaining('"n"') });
    expect((await store.state('n'))?.value).toBe(1);
    await end();
  });

  it('E2, O5: an event or a start is asked for again, and is the same', async () => {
    const batch = { ...dispatchOf('e'), ...startOf('r', { idempotencyKey: 'k' }) };
    const { outcome, store, end } = await hearsLate(freshDir(), owner, batch);
    expect(await outcome).toMatchObject({ kind: 'committed', events: [{ kind: 'deduplicated', id: 'e' }] });
    expect((await store.list({ limit: 9 })).runs.map(({ row }) => row.runId)).toEqual(['r']);
    await end();
  });
});

/** Decides one batch, without an owner. */
async function decideAlone(dir: string, image: Image, waiting: Pick<Waiting, 'isForeign' | 'request'>) {
  const archive = createArchive(nodeDisk, dir, (error) => expect(error).toBeUndefined());
  const refused: unknown[] = [];
  const place = { dir, archive, isStrict: true, fence: 1 };
  const rest = { resolve: () => undefined, reject: (error: unknown) => void refused.push(error) };
  await decide(place, image, [{ ...prepare(increment), ...waiting, ...rest }]);
  return refused;
}
/** With one request in its inbox. */
function withRequest(name: string) {
  const dir = freshDir();
  mkdirSync(join(dir, 'inbox'), { recursive: true });
  writeFileSync(join(dir, 'inbox', `${name}.json`), '{}');
  const image = emptyImage(1, 'log/00000001.jsonl');
  image.tables.index();
  return { dir, image };
}

it('D8, O3: a request that was read, and taken back before it was decided, is left to its sender', async () => {
  const { dir, image } = withRequest('there');
  expect(await decideAlone(dir, image, { isForeign: true, request: 'gone' })).toMatchObject([{ code: 'CLOSED' }]);
  expect(image.tables.state('n')).toBeUndefined();
  expect(await decideAlone(dir, image, { isForeign: true, request: 'there' })).toEqual([]);
  expect(image.tables.state('n')).toMatchObject({ value: 1 });
});

it('what was decided of requests is forgotten once they are answered, above a bound', async () => {
  const { dir, image } = withRequest('asked');
  for (const id of ['asked', 'answered', 'taken']) image.decided.set(id, { kind: 'committed' } as never);
  image.mostDecided = 3;
  await decideAlone(dir, image, { request: 'another' });
  expect([...image.decided.keys()]).toEqual(['asked']);
  expect(image.mostDecided).toBeGreaterThan(1_000);
});
