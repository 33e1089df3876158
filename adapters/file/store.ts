import { join, resolve } from 'node:path';
import { StepfastError } from '../../src/errors.js';
import type { Batch, CommitOutcome, OpenOptions, Store } from '../../src/store.js';
import { selectDue, withOffers } from '../../src/transition.js';
import { type Archive, createArchive } from './archive.js';
import { sweep, TEMPORARY } from './atomic-write.js';
import { copy, copyBatch, type Prepared, prepare, released } from './batch.js';
import { type Disk, nodeDisk } from './disk.js';
import { namesIn, storeError } from './files.js';
import { prepareFolder, refuseNewer } from './folder.js';
import { createFollower, type Follower } from './follower.js';
import { createGuest, lockedBy } from './guest.js';
import { createHints } from './hints.js';
import { assertSound } from './image.js';
import { folderChange, type Service, serve } from './inbox.js';
import { acquire, type Lock } from './lock.js';
import { createOwner, type Owner, type Waiting } from './owner.js';
import { type ReadSource, takeDownPage, takeDownRun } from './reader.js';
import { LOG, type Segment } from './segments.js';
import { createTurn } from './turn.js';

/*
 * The modes of the file store. One process drives a folder (`owner`); any other reads its log (`follower`) and commits
 * through the inbox, or under the lock for the length of one commit when nobody owns it (`guest`, spec O3).
 *
 * M1. One thing at a time (turn.ts): nobody sees memory that is ahead of the disk.
 * M2. Batches that come while a group is written are the next group: one write and one sync for all of them.
 */

export interface FileStoreOptions {
  /** Folder of the store. Created (0700) with everything in it when absent; no other program should write there. */
  readonly dir: string;
  /**
   * `strict`: what was acknowledged survives power loss (one sync for all commits that come together).
   * `relaxed`: it survives the end of the process, and a power loss may cost the latest. Default: `strict`.
   */
  readonly durability?: 'strict' | 'relaxed';
  /** When another process drives the folder: wait for its end instead of rejecting with `STORE_LOCKED`. Default: false. */
  readonly wait?: boolean;
}

/** Seams and limits that only tests set. */
export interface FileStoreInternals {
  readonly disk?: Disk;
  readonly compactAt?: number;
}

const COMPACT_AT = 4 << 20;
const OWNER_LOOK_MS = 500;

function checkOptions({ dir, durability = 'strict' }: FileStoreOptions): void {
  if (typeof dir !== 'string' || dir === '')
    throw new StepfastError(
      'INVALID_OPTION',
      `fileStore({ dir }) needs the path of a folder, got ${JSON.stringify(dir)}.`,
    );
  if (durability !== 'strict' && durability !== 'relaxed')
    throw new StepfastError(
      'INVALID_OPTION',
      `fileStore({ durability }) is 'strict' or 'relaxed', got ${JSON.stringify(durability)}.`,
    );
}

const closed = () => new StepfastError('CLOSED', 'The file store is closed. Create a new one to go on.');
const notOpen = () => new StepfastError('STORE_UNAVAILABLE', 'The file store is not open. Call `open` first.');

export function createFileStore(options: FileStoreOptions, internals: FileStoreInternals = {}): Store {
  checkOptions(options);
  const { durability = 'strict', wait = false } = options;
  const { disk = nodeDisk, compactAt = COMPACT_AT } = internals;
  const isStrict = durability === 'strict';
  let dir = resolve(options.dir);
  let onError: (error: unknown) => void = () => undefined;
  let archive: Archive | undefined;
  let follower: Follower | undefined;
  let lock: Lock | undefined;
  let owner: Owner | undefined;
  let ownerId = '';
  let service: Service | undefined;
  let isClosed = false;
  let pending: Waiting[] = [];
  let isFlushQueued = false;
  let compaction: Promise<void> | undefined;

  const tell = (error: unknown) => onError(error);
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
    isFlushQueued = false;
    const group = pending;
    pending = [];
    if (!group.length) return;
    if (!owner) throw notOpen();
    tellChanged(await owner.flush(group));
    compactIfLarge();
  };

  const enqueue = (prepared: Prepared, isForeign?: true): Promise<CommitOutcome> =>
    new Promise((resolveCommit, reject) => {
      pending.push({ ...prepared, resolve: resolveCommit, reject, ...(isForeign && { isForeign }) });
      if (isFlushQueued) return;
      isFlushQueued = true;
      alone(flush).catch((error) => {
        isFlushQueued = false;
        for (const item of pending.splice(0)) item.reject(error);
        reject(error);
      });
    });

  const compactIfLarge = () => {
    const at = owner;
    if (compaction || !at?.isLarge() || !service) return;
    compaction = at
      .compact(alone, () => !isClosed && owner === at)
      .catch(async (error) => {
        if (isClosed) return;
        tell(storeError(error, 'compacting', dir));
        await alone(() => at.close()).catch(tell); // read again before the next write: damage is then found and put aside
      })
      .finally(() => {
        compaction = undefined;
      });
  };

  // ---- who drives ---------------------------------------------------------------------------------------------------

  const own = async (taken: Lock): Promise<Owner> => {
    const made = createOwner({ disk, dir, lock: taken, archive: archive!, isStrict, compactAt, onError: tell });
    try {
      await made.segment();
    } catch (error) {
      await made.close().catch(tell);
      await taken.release().catch(tell);
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
    await held?.release();
  };

  const guest = createGuest({
    disk,
    dir: () => dir,
    alone,
    assertOpen,
    rowOf: (runId) =>
      alone(async () => {
        const segment = await present();
        if (segment) assertSound(segment.image, runId);
        return segment?.image.tables.run(runId) ?? (await archive!.read(runId))?.row;
      }),
    owner: () => owner,
    own,
    disown,
    tell: tellChanged,
  });

  const commitForeign = async (batch: Batch): Promise<CommitOutcome> => {
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
    const taken = await acquire(disk, join(dir, 'lock'));
    if (taken.kind === 'held') throw lockedBy(dir, taken.holder);
    await own(taken.lock);
    for (const name of namesIn(join(dir, LOG), TEMPORARY)) await sweep(disk, join(dir, LOG, name));
    hints.unfollow();
    service = serve(disk, dir, commitForeign, tell);
    void service.look().catch(tell);
    compactIfLarge();
  };

  const driveOrWait = async () => {
    for (;;)
      try {
        return await alone(drive);
      } catch (error) {
        const { code, pid } = error as StepfastError;
        if (!wait || code !== 'STORE_LOCKED' || pid === undefined) throw error;
        await folderChange(join(dir, 'lock'), OWNER_LOOK_MS);
      }
  };

  const follow = () => {
    if (!owner && archive) hints.follow(dir);
  };

  return {
    name: 'file',
    capabilities: { durability: isStrict ? 'power' : 'process', owners: 'one', blobs: false },
    async open(open: OpenOptions) {
      ({ onError } = open);
      ownerId = open.owner;
      await alone(async () => {
        prepareOnce();
        await refuseNewer(disk, dir);
        if (open.mode === 'use' && !owner) await follower!.segment();
      });
      if (open.mode === 'drive') await driveOrWait();
      follow();
    },
    async close() {
      if (isClosed) return;
      const serving = service;
      service = undefined; // before the last turn: requests that come now are the next owner's
      const last = alone(async () => undefined);
      await last.catch(() => undefined);
      isClosed = true;
      hints.stop();
      await serving?.stop();
      await compaction;
      await turn.over();
      await follower?.close();
      await disown();
    },
    abandon() {
      if (isClosed) return;
      isClosed = true;
      hints.stop();
      void service?.stop();
      for (const item of pending.splice(0)) item.reject(closed());
      const held = lock;
      held?.drop(turn.isBusy() ? 'leaving' : 'released');
      const end = async () => {
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
        // Only this engine can be alive: it holds the lock.
        const picked = selectDue(tables.dueRows(), query, (id) => id === ownerId);
        return copy(await withOffers(tables, picked, query.now));
      }),
    async load(runId) {
      const read = await alone(async () => takeDownRun(await source(), runId));
      return read();
    },
    async list(query) {
      const read = await alone(async () => takeDownPage(await source(), query));
      return read();
    },
    watch(listener) {
      const remove = hints.add(listener);
      follow();
      return remove;
    },
  };
}
