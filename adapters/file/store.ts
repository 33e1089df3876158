import { join, resolve } from 'node:path';
import { StepfastError } from '../../src/errors.js';
import type { Batch, CommitOutcome } from '../../src/store/batch.js';
import { copyOf } from '../../src/store/copy.js';
import { selectByLane, withOffers } from '../../src/store/due.js';
import { FORMAT_VERSION } from '../../src/store/journal.js';
import type { OpenOptions, Store } from '../../src/store/store.js';
import { type Archive, createArchive } from './archive.js';
import { sweep, TEMPORARY } from './atomic-write.js';
import { copyBatch, prepare, released } from './batch.js';
import { nodeDisk } from './disk.js';
import { namesIn, storeError } from './files.js';
import { prepareFolder, refuseNewer } from './folder.js';
import { createFollower, type Follower } from './follower.js';
import { assertSender } from './format.js';
import { createGroup } from './group.js';
import { createGuest, lockedBy } from './guest.js';
import { createHints } from './hints.js';
import { assertSound } from './image.js';
import { checkOptions, type FileStoreInternals, type FileStoreOptions } from './options.js';
import { createOwnership } from './ownership.js';
import { type ReadSource, takeDownPage, takeDownRun } from './reader.js';
import { archivedRun } from './reads.js';
import { LOG, type Segment } from './segments.js';
import { type Service, serve } from './service.js';
import { stateOf } from './shared.js';
import { createTidy } from './tidy.js';
import { createTurn } from './turn.js';
import { folderChange } from './watch.js';

/*
 * The modes of the file store. One process drives a folder (`owner`); any other reads its log (`follower`) and commits
 * through the inbox, or under the lock for the length of one commit when nobody owns it (`guest`, spec O3).
 *
 * M1. One thing at a time (turn.ts): nobody sees memory that is ahead of the disk.
 * M2. Commits are written in groups (group.ts): one write and one sync for all that came meanwhile.
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
  let closing: Promise<void> | undefined;
  let ownerId = '';
  let format = FORMAT_VERSION;
  /** The latest instant that callers named: clocks are theirs. */
  let now = 0;
  let service: Service | undefined;
  let isClosed = false;

  const tell = (error: unknown) => onError(storeError(error, 'using', dir));
  const hints = createHints(tell);
  const assertOpen = () => {
    if (isClosed) throw closed();
  };

  const turn = createTurn(assertOpen, () => dir);
  const { alone } = turn;
  const ownership = createOwnership({
    disk,
    isStrict,
    compactAt,
    isEager: quietMs === 0,
    dir: () => dir,
    format: () => format,
    archive: () => archive!,
    now: () => now,
    owned: async () => follower?.close(),
    tell,
  });
  const { owner, take, own, disown } = ownership;

  // ---- reading ------------------------------------------------------------------------------------------------------

  const present = async (): Promise<Segment | undefined> => {
    const owned = owner();
    if (owned) return owned.segment();
    if (!follower) throw notOpen();
    return follower.segment();
  };

  const source = async (): Promise<ReadSource> => {
    const segment = await present();
    const from = owner();
    const onDamage = () => {
      if (from && from === owner() && !isClosed) void alone(() => from.close()).catch(tell);
    };
    return { disk, archive: archive!, segment, onDamage, onError: tell };
  };

  // ---- writing ------------------------------------------------------------------------------------------------------

  const tellChanged = (changed: ReadonlyMap<string, boolean>) => {
    for (const [runId, isOwn] of changed) hints.tell(runId, isOwn);
  };

  const group = createGroup(alone, async (waiting) => {
    if (!owner()) throw notOpen();
    now = waiting.at(-1)!.batch.now;
    tellChanged(await owner()!.flush(waiting));
    tidy.stirred();
  });

  const tidy = createTidy({
    owner: () => (service ? owner() : undefined),
    isClosed: () => isClosed,
    alone,
    quietMs,
    failed: (error, doing) => tell(storeError(error, doing, dir)),
  });

  // ---- who drives ---------------------------------------------------------------------------------------------------

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
    owner,
    take: () => take('passing'),
    own,
    disown,
    tell: tellChanged,
  });

  const commitForeign = async (batch: Batch, from: number, request: string): Promise<CommitOutcome> => {
    assertSender(from, format);
    await guest.refuseClaim(batch);
    return group.add(prepare(batch), { isForeign: true, request });
  };

  const prepareOnce = () => {
    if (archive) return;
    dir = prepareFolder(dir);
    archive = createArchive(disk, dir, tell);
    follower = createFollower(disk, dir);
  };

  /** Also where an earlier try has come to own the folder, and no further. */
  const drive = async () => {
    if (service) return;
    if (!owner()) {
      const taken = await take();
      if (taken.kind === 'held') throw lockedBy(dir, taken.holder);
      await own(taken.lock);
    }
    hints.unfollow();
    service = serve(disk, dir, commitForeign, tell);
    void service.look().catch(tell);
    tidy.stirred();
    await sweepLeftovers().catch(tell); // the next owner tries again
  };
  const sweepLeftovers = async () => {
    for (const folder of [dir, join(dir, LOG)])
      for (const name of namesIn(folder, TEMPORARY)) await sweep(disk, join(folder, name));
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
    if (!owner() && archive) hints.follow(dir);
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
    await ownership.end().catch((error) => {
      throw storeError(error, 'closing', dir);
    });
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
        if (open.mode === 'use' && !owner()) await follower!.segment();
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
      group.drop(closed());
      const leave = ownership.abandon(turn.isBusy() || tidy.isUnderWay() ? 'leaving' : 'released');
      const end = async () => {
        await tidy.over();
        await turn.over();
        await leave();
        await follower?.close();
      };
      void end().catch(tell);
    },
    async commit(batch) {
      assertOpen();
      return released(await (owner() && service ? group.add(prepare(batch)) : guest.commit(copyBatch(batch))));
    },
    due: (query) =>
      alone(async () => {
        const segment = await present();
        if (!owner() || !segment) return { runs: [], foreign: true };
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
