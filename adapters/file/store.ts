import { join, resolve } from 'node:path';
import { StepfastError } from '../../src/errors.js';
import type { Batch, CommitOutcome } from '../../src/store/batch.js';
import { copyOf } from '../../src/store/copy.js';
import { selectByLane, withOffers } from '../../src/store/due.js';
import { FORMAT_VERSION } from '../../src/store/journal.js';
import type { OpenOptions, Store } from '../../src/store/store.js';
import { type Archive, createArchive } from './archive.js';
import { sweep, TEMPORARY } from './atomic-write.js';
import { copyBatch, type Prepared, prepare, released } from './batch.js';
import { nodeDisk } from './disk.js';
import { namesIn, storeError } from './files.js';
import { prepareFolder, refuseNewer } from './folder.js';
import { createFollower, type Follower } from './follower.js';
import { assertSender, claimFormat } from './format.js';
import { createGuest, lockedBy } from './guest.js';
import { createHints } from './hints.js';
import { assertSound } from './image.js';
import { folderChange, type Service, serve } from './inbox.js';
import { acquire, type Lock } from './lock.js';
import { checkOptions, type FileStoreInternals, type FileStoreOptions } from './options.js';
import { createOwner, type Owner, type Waiting } from './owner.js';
import { type ReadSource, takeDownPage, takeDownRun } from './reader.js';
import { archivedRun } from './reads.js';
import { LOG, type Segment } from './segments.js';
import { stateOf } from './shared.js';
import { createTidy } from './tidy.js';
import { createTurn } from './turn.js';

/*
 * The modes of the file store. One process drives a folder (`owner`); any other reads its log (`follower`) and commits
 * through the inbox, or under the lock for the length of one commit when nobody owns it (`guest`, spec O3).
 *
 * M1. One thing at a time (turn.ts): nobody sees memory that is ahead of the disk.
 * M2. Batches that come while a group is written are the next group: one write and one sync for all of them.
 */

export type { FileStoreInternals, FileStoreOptions } from './options.js';

const COMPACT_AT = 4 << 20;
/** How long nothing was committed when a log that has grown is compacted. */
const QUIET_MS = 1_000;
const OWNER_LOOK_MS = 500;

const closed = () => new StepfastError('CLOSED', 'The file store is closed. Create a new one to go on.');
const notOpen = () => new StepfastError('STORE_UNAVAILABLE', 'The file store is not open. Call `open` first.');

export function createFileStore(options: FileStoreOptions, internals: FileStoreInternals = {}): Store {
  checkOptions(options);
  const { durability = 'strict', wait = false } = options;
  const {
    disk = nodeDisk,
    compactAt = COMPACT_AT,
    quietMs = internals.compactAt === undefined ? QUIET_MS : 0,
  } = internals;
  const isStrict = durability === 'strict';
  let dir = resolve(options.dir);
  let onError: (error: unknown) => void = () => undefined;
  let archive: Archive | undefined;
  let follower: Follower | undefined;
  let lock: Lock | undefined;
  let closing: Promise<void> | undefined;
  let owner: Owner | undefined;
  let ownerId = '';
  let format = FORMAT_VERSION;
  /** The latest instant that callers named: clocks are theirs. */
  let now = 0;
  let service: Service | undefined;
  let isClosed = false;
  let pending: Waiting[] = [];
  let isFlushQueued = false;
  /** How many commits were written together the last time. */
  let lastGroup = 0;
  /** A lock that could not be given back: while this process lives, nobody else would ever get it. */
  let unreleased: Lock | undefined;

  const tell = (error: unknown) => onError(storeError(error, 'using', dir));
  const hints = createHints(tell);
  const assertOpen = () => {
    if (isClosed) throw closed();
  };

  const turn = createTurn(assertOpen, () => dir);
  const { alone } = turn;

  // ---- reading ------------------------------------------------------------------------------------------------------

  const present = async (): Promise<Segment | undefined> => {
    if (owner) return owner.segment();
    if (!follower) throw notOpen();
    return follower.segment();
  };

  const source = async (): Promise<ReadSource> => {
    const segment = await present();
    const from = owner;
    const onDamage = () => {
      if (from && from === owner && !isClosed) void alone(() => from.close()).catch(tell);
    };
    return { disk, archive: archive!, segment, onDamage, onError: tell };
  };

  // ---- writing ------------------------------------------------------------------------------------------------------

  const tellChanged = (changed: ReadonlyMap<string, boolean>) => {
    for (const [runId, isOwn] of changed) hints.tell(runId, isOwn);
  };

  const flush = async () => {
    // Those who were answered together go on together, each in a macrotask of its own: wait for all of them.
    if (lastGroup > 1) await new Promise((resolve) => setImmediate(resolve));
    isFlushQueued = false;
    const group = pending;
    lastGroup = group.length;
    pending = [];
    if (!group.length) return;
    if (!owner) throw notOpen();
    now = group.at(-1)!.batch.now;
    tellChanged(await owner.flush(group));
    tidy.stirred();
  };

  const enqueue = (prepared: Prepared, isForeign?: true): Promise<CommitOutcome> =>
    new Promise((resolveCommit, reject) => {
      pending.push(Object.assign(prepared, { resolve: resolveCommit, reject }, isForeign && { isForeign }));
      if (isFlushQueued) return;
      isFlushQueued = true;
      alone(flush).catch((error) => {
        isFlushQueued = false;
        for (const item of pending.splice(0)) item.reject(error);
        reject(error);
      });
    });

  const tidy = createTidy({
    owner: () => (service ? owner : undefined),
    isClosed: () => isClosed,
    alone,
    quietMs,
    failed: (error, doing) => tell(storeError(error, doing, dir)),
  });

  // ---- who drives ---------------------------------------------------------------------------------------------------

  const giveBack = async (held: Lock) => {
    unreleased = held;
    await held.release();
    unreleased = undefined;
  };
  const take = async (state: 'held' | 'passing' = 'held') => {
    if (unreleased) await giveBack(unreleased);
    return acquire(disk, join(dir, 'lock'), { state });
  };

  const own = async (taken: Lock): Promise<Owner> => {
    await claimFormat(disk, dir, format).catch(async (error) => {
      await taken.release().catch(tell);
      throw error;
    });
    const compaction = { compactAt, isEager: quietMs === 0 };
    const given = { disk, dir, lock: taken, archive: archive!, isStrict, ...compaction };
    const made = createOwner({ ...given, now: () => now, onError: tell });
    try {
      await made.segment();
    } catch (error) {
      await made.close().catch(tell);
      await giveBack(taken).catch(tell);
      throw error;
    }
    lock = taken;
    owner = made;
    await follower?.close();
    return made;
  };

  const disown = async () => {
    const was = owner;
    const held = lock;
    owner = undefined;
    lock = undefined;
    await was?.close();
    if (held) await giveBack(held);
  };

  const guest = createGuest({
    disk,
    dir: () => dir,
    format: () => format,
    alone,
    assertOpen,
    rowOf: (runId) =>
      alone(async () => {
        const segment = await present();
        if (segment) assertSound(segment.image, runId);
        return segment?.image.tables.run(runId) ?? (await archivedRun(archive!, segment?.image, runId))?.row;
      }),
    owner: () => owner,
    take: () => take('passing'),
    own,
    disown,
    tell: tellChanged,
  });

  const commitForeign = async (batch: Batch, from: number): Promise<CommitOutcome> => {
    assertSender(from, format);
    await guest.refuseClaim(batch);
    return enqueue(prepare(batch), true);
  };

  const prepareOnce = () => {
    if (archive) return;
    dir = prepareFolder(dir);
    archive = createArchive(disk, dir, tell);
    follower = createFollower(disk, dir);
  };

  const drive = async () => {
    if (owner) return;
    const taken = await take();
    if (taken.kind === 'held') throw lockedBy(dir, taken.holder);
    await own(taken.lock);
    for (const folder of [dir, join(dir, LOG)])
      for (const name of namesIn(folder, TEMPORARY)) await sweep(disk, join(folder, name));
    hints.unfollow();
    service = serve(disk, dir, commitForeign, tell);
    void service.look().catch(tell);
    tidy.stirred();
  };

  const driveOrWait = async (isPatient: boolean) => {
    for (;;)
      try {
        return await alone(drive);
      } catch (error) {
        const { code, pid } = error as StepfastError;
        if (!wait || !isPatient || code !== 'STORE_LOCKED' || pid === undefined) throw error;
        await folderChange(join(dir, 'lock'), OWNER_LOOK_MS);
      }
  };

  const follow = () => {
    if (!owner && archive) hints.follow(dir);
  };

  const end = async () => {
    const finishing = tidy.finish();
    if (finishing) await finishing;
    if (isClosed) return; // given up meanwhile
    const serving = service;
    service = undefined; // before the last turn: requests that come now are the next owner's
    const last = alone(async () => undefined);
    await last.catch(() => undefined);
    isClosed = true;
    hints.stop();
    await serving?.stop();
    await tidy.over();
    await turn.over();
    await follower?.close();
    try {
      await disown();
      if (unreleased) await giveBack(unreleased);
    } catch (error) {
      unreleased?.drop('released'); // the last that can be done: a process that lives on must not keep it for ever
      throw storeError(error, 'closing', dir);
    }
  };

  return {
    name: 'file',
    capabilities: { durability: isStrict ? 'power' : 'process', owners: 'one', blobs: false },
    async open(open: OpenOptions) {
      ({ onError, now } = open);
      ownerId = open.owner;
      format = open.format ?? FORMAT_VERSION;
      await alone(async () => {
        prepareOnce();
        await refuseNewer(disk, dir);
        if (open.mode === 'use' && !owner) await follower!.segment();
      });
      if (open.mode === 'drive') await driveOrWait(open.isPatient === true);
      follow();
    },
    async close() {
      if (isClosed) return;
      await (closing ??= end());
    },
    abandon() {
      if (isClosed) return;
      isClosed = true;
      hints.stop();
      void service?.stop();
      for (const item of pending.splice(0)) item.reject(closed());
      const held = lock;
      held?.drop(turn.isBusy() || tidy.isUnderWay() ? 'leaving' : 'released');
      const end = async () => {
        await tidy.over();
        await turn.over();
        await owner?.close();
        await follower?.close();
        (lock ?? held)?.drop('released'); // an open under way may have taken it since
      };
      void end().catch(tell);
    },
    async commit(batch) {
      assertOpen();
      return released(await (owner && service ? enqueue(prepare(batch)) : guest.commit(copyBatch(batch))));
    },
    due: (query) =>
      alone(async () => {
        const segment = await present();
        if (!owner || !segment) return { runs: [], foreign: true };
        const { tables } = segment.image;
        now = query.now;
        // Only this engine can be alive: it holds the lock.
        const picked = selectByLane(tables.dueRows(), query, (id) => id === ownerId);
        return copyOf(await withOffers(tables, picked, query.now));
      }),
    async load(runId) {
      const read = await alone(async () => takeDownRun(await source(), runId));
      return read();
    },
    async list(query) {
      const read = await alone(async () => takeDownPage(await source(), query));
      return read();
    },
    state: (key) =>
      alone(async () => {
        const segment = await present();
        const row = segment && stateOf(segment.image, key, now);
        return row && copyOf(row);
      }),
    watch(listener) {
      const remove = hints.add(listener);
      follow();
      return remove;
    },
  };
}
