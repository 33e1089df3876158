import fs from 'node:fs';
import { join, resolve } from 'node:path';
import { StepfastError } from '../../src/errors.js';
import type {
  Batch,
  CommitOutcome,
  ListQuery,
  OpenOptions,
  RunRow,
  Store,
  StoredRun,
  StoreListener,
} from '../../src/store.js';
import { listPage } from '../../src/tables.js';
import { selectDue, withOffers } from '../../src/transition.js';
import { type Archive, createArchive } from './archive.js';
import { sweep, TEMPORARY } from './atomic-write.js';
import { corrupt, tooNew } from './damage.js';
import { type Disk, nodeDisk } from './disk.js';
import { ensureFolder, namesIn, openRegular, READ, readAt, storeError } from './files.js';
import { createFollower, type Follower } from './follower.js';
import { assertSound, segmentName } from './image.js';
import { ask, folderChange, INBOX, OUTBOX, type Service, serve, watchFolder } from './inbox.js';
import { acquire, type Holder, type Lock, livingHolder } from './lock.js';
import { createOwner, encodingError, type Owner, type Waiting } from './owner.js';
import { findRecord } from './record.js';
import { newerVersion, readJournal } from './scan.js';
import { LOG, reading, type Segment, segmentPath, segmentsIn } from './segments.js';

/*
 * The modes of the file store. One process drives a folder (`owner`); any other reads its log (`follower`) and commits
 * through the inbox, or under the lock for the length of one commit when nobody owns it (spec O3).
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
const HINT_LOOK_MS = 1_000;
const PEEK = 64 << 10;
const ENDED = new Set(['completed', 'failed', 'cancelled']);

/** Rules out any object shared with a caller (store rule S6). What is kept is JSON, so nothing is lost. */
const copy = <T>(value: T): T => JSON.parse(JSON.stringify(value)) as T;

const lockedBy = (dir: string, holder: Holder): StepfastError =>
  new StepfastError(
    'STORE_LOCKED',
    `"${dir}" is driven by ${holder.pid === process.pid ? 'another store of this process' : 'another process'} (pid ${holder.pid} on "${holder.host}"). ` +
      'Stop it, pass `wait: true` to take over when it ends, or only start, dispatch, cancel and read from here.',
    { pid: holder.pid },
  );

export function createFileStore(options: FileStoreOptions, internals: FileStoreInternals = {}): Store {
  const { durability = 'strict', wait = false } = options;
  if (typeof options.dir !== 'string' || options.dir === '')
    throw new StepfastError(
      'INVALID_OPTION',
      `fileStore({ dir }) needs the path of a folder, got ${JSON.stringify(options.dir)}.`,
    );
  if (durability !== 'strict' && durability !== 'relaxed')
    throw new StepfastError(
      'INVALID_OPTION',
      `fileStore({ durability }) is 'strict' or 'relaxed', got ${JSON.stringify(durability)}.`,
    );
  const { disk = nodeDisk, compactAt = COMPACT_AT } = internals;
  let dir = resolve(options.dir);
  const listeners = new Set<StoreListener>();
  let onError: (error: unknown) => void = () => undefined;
  let archive: Archive | undefined;
  let follower: Follower | undefined;
  let lock: Lock | undefined;
  let owner: Owner | undefined;
  let ownerId = '';
  let service: Service | undefined;
  let unwatch: (() => void) | undefined;
  let isClosed = false;
  let isBusy = false;
  let turn: Promise<unknown> = Promise.resolve();
  let pending: Waiting[] = [];
  let isFlushQueued = false;
  let compaction: Promise<void> | undefined;

  const closed = () => new StepfastError('CLOSED', 'The file store is closed. Create a new one to go on.');
  const tell = (error: unknown) => onError(error);

  /** Runs alone: commits, and looks at memory, one after another, so that nobody sees what is not on disk yet. */
  const alone = <T>(body: () => Promise<T>): Promise<T> => {
    const result = turn.then(async () => {
      if (isClosed) throw closed();
      isBusy = true;
      try {
        return await body();
      } catch (error) {
        throw storeError(error, 'using', dir);
      } finally {
        isBusy = false;
      }
    });
    turn = result.catch(() => undefined); // the caller hears of it; the queue goes on
    return result;
  };

  const hint = (runId: string | undefined, isOwn = false) => {
    for (const listener of listeners)
      try {
        listener(runId, isOwn);
      } catch (error) {
        tell(error);
      }
  };

  const present = (): Promise<Segment | undefined> => {
    if (owner) return owner.segment();
    if (!follower) throw new StepfastError('STORE_UNAVAILABLE', 'The file store is not open. Call `open` first.');
    return follower.segment();
  };

  const flush = async () => {
    isFlushQueued = false;
    const group = pending;
    pending = [];
    if (!group.length) return;
    if (!owner) throw new StepfastError('STORE_UNAVAILABLE', 'The file store is not open. Call `open` first.');
    for (const [runId, isOwn] of await owner.flush(group)) hint(runId, isOwn);
    compactIfLarge();
  };

  const enqueue = (batch: Batch, isForeign?: true): Promise<CommitOutcome> =>
    new Promise((resolveCommit, reject) => {
      const waiting = { batch, resolve: resolveCommit, reject, ...(isForeign && { isForeign }) };
      pending.push(waiting);
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

  const prepare = async () => {
    if (archive) return;
    const made = fs.mkdirSync(dir, { recursive: true, mode: 0o700 });
    if (made !== undefined) fs.chmodSync(dir, 0o700); // whatever the umask; a folder that was there keeps its mode
    dir = fs.realpathSync(dir); // the folder itself may be reached by a link, nothing inside it
    for (const name of [LOG, 'lock', INBOX, OUTBOX, 'runs', 'keys']) ensureFolder(join(dir, name));
    archive = createArchive(disk, dir, tell);
    follower = createFollower(disk, dir);
  };

  /** A newer format is refused before anything, the lock included, is written. */
  const refuseNewer = async () => {
    const highest = segmentsIn(dir).at(-1);
    const fd = highest === undefined ? undefined : await openRegular(disk, segmentPath(dir, highest), READ);
    if (fd === undefined) return;
    try {
      const start = await readAt(disk, fd, 0, PEEK);
      const found = findRecord(start, 0);
      const version =
        found.kind === 'too-new' ? found.version : found.kind === 'garbage' ? newerVersion(start) : undefined;
      if (version !== undefined) throw tooNew(`${LOG}/${segmentName(highest!)}`, version);
    } finally {
      await disk.close(fd);
    }
  };

  const own = async (taken: Lock): Promise<Owner> => {
    const isStrict = durability === 'strict';
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

  const drive = async () => {
    if (owner) return;
    const taken = await acquire(disk, join(dir, 'lock'));
    if (taken.kind === 'held') throw lockedBy(dir, taken.holder);
    await own(taken.lock);
    for (const name of namesIn(join(dir, LOG), TEMPORARY)) await sweep(disk, join(dir, LOG, name));
    unwatch?.();
    unwatch = undefined;
    service = serve(disk, dir, commitForeign, tell);
    void service.look().catch(tell);
    compactIfLarge();
  };

  /** A driver's claim: only the owner may make it. */
  const refuseClaim = async (batch: Batch) => {
    const { run } = batch;
    if (!run || run.fence === 'any') return;
    const found = await rowOf(run.runId);
    if (!found || found.endedAt !== undefined) return;
    const holder = await livingHolder(disk, join(dir, 'lock'));
    if (holder) throw lockedBy(dir, holder);
    throw new StepfastError(
      'STORE_LOCKED',
      `Run "${run.runId}" can be driven only by a store opened to drive. Call \`ready()\` first.`,
    );
  };

  const rowOf = (runId: string): Promise<RunRow | undefined> =>
    alone(async () => {
      const segment = await present();
      if (segment) assertSound(segment.image, runId);
      return segment?.image.tables.run(runId) ?? (await archive!.read(runId))?.row;
    });

  const commitForeign = async (batch: Batch): Promise<CommitOutcome> => {
    await refuseClaim(batch);
    return enqueue(batch, true);
  };

  /** Without a driver of its own: under the lock for one commit, or through the inbox of the owner. */
  const commitAsGuest = async (batch: Batch): Promise<CommitOutcome> => {
    await refuseClaim(batch);
    for (;;) {
      const done = await alone(() => commitUnderLock(batch));
      if (done) return done;
      const answered = await ask(disk, dir, batch, async () => {
        if (isClosed) throw closed();
        return (await livingHolder(disk, join(dir, 'lock'))) !== undefined;
      });
      if (answered) return answered;
    }
  };

  const commitUnderLock = async (batch: Batch): Promise<CommitOutcome | undefined> => {
    const commit = async (mine: Owner, one: Batch) => {
      let settle: Pick<Waiting, 'resolve' | 'reject'>;
      const outcome = new Promise<CommitOutcome>((done, reject) => {
        settle = { resolve: done, reject };
      });
      outcome.catch(() => undefined); // heard below, when the flush is over
      for (const [runId, isOwn] of await mine.flush([{ batch: one, ...settle! }])) hint(runId, isOwn);
      return outcome;
    };
    if (owner) return commit(owner, batch); // it has become a driver meanwhile
    const taken = await acquire(disk, join(dir, 'lock'));
    if (taken.kind === 'held') return undefined;
    const mine = await own(taken.lock);
    try {
      return await commit(mine, batch);
    } finally {
      await disown();
    }
  };

  /** Takes down what is needed to read a run later, while memory and disk are known to agree. */
  const readerOf = (segment: Segment | undefined, runId: string): (() => Promise<StoredRun | undefined>) => {
    if (segment) assertSound(segment.image, runId);
    const row = segment?.image.tables.run(runId);
    if (!segment || !row) return () => archive!.read(runId);
    const ranges = [...(segment.image.places.get(runId)?.ranges ?? [])];
    const file = `${LOG}/${segment.path.slice(-14)}`;
    const from = owner;
    segment.readers++; // held from now on, also if the segment is replaced before the read begins
    return async () => {
      try {
        const journal = await reading(disk, segment, () => readJournal(disk, segment.fd, file, runId, ranges));
        if (journal.length !== row.length) throw corrupt({ runId, file, offset: ranges[0] ?? 0 });
        return { row: copy(row), journal };
      } catch (error) {
        // Damage since the scan: the next use reads the whole segment again and puts the run aside.
        if (from && from === owner && !isClosed) void alone(() => from.close()).catch(tell);
        throw storeError(error, 'reading', file);
      } finally {
        segment.readers--;
        if (segment.isRetired && segment.readers === 0) await disk.close(segment.fd).catch(tell);
      }
    };
  };

  const list = async (query: ListQuery) => {
    const { page, readers } = await alone(async () => {
      const segment = await present();
      const rows = new Map<string, RunRow>();
      const statuses = query.status === undefined ? undefined : [query.status].flat();
      if (!statuses || statuses.some((status) => ENDED.has(status)))
        for (const [runId, row] of await archive!.rows())
          if (!segment?.image.quarantined.has(runId)) rows.set(runId, row);
      for (const [runId, row] of segment?.image.tables.runs ?? []) rows.set(runId, row);
      const found = listPage(rows.values(), query);
      return { page: found, readers: found.rows.map((row) => readerOf(segment, row.runId)) };
    });
    const runs: StoredRun[] = [];
    for (const read of readers)
      try {
        const run = await read();
        if (run) runs.push(run);
      } catch (error) {
        tell(error); // one damaged run does not hide the others
      }
    return { runs, ...(page.nextCursor !== undefined && { nextCursor: page.nextCursor }) };
  };

  /** Hints for readers: the owner's writes show in the log's folder, its coming and going in the lock's. */
  const watchOthers = () => {
    if (owner || unwatch || !archive || listeners.size === 0) return;
    const onChange = () => hint(undefined);
    const stops = [watchFolder(join(dir, LOG), onChange), watchFolder(join(dir, 'lock'), onChange)];
    let seen = '';
    const timer = setInterval(() => {
      const highest = segmentsIn(dir).at(-1) ?? 0;
      const now = `${highest}:${fs.statSync(segmentPath(dir, highest), { throwIfNoEntry: false })?.size}`;
      if (seen !== '' && now !== seen) onChange();
      seen = now;
    }, HINT_LOOK_MS);
    timer.unref();
    unwatch = () => {
      clearInterval(timer);
      for (const stop of stops) stop();
    };
  };

  const stopWatching = () => {
    unwatch?.();
    unwatch = undefined;
    listeners.clear();
  };

  return {
    name: 'file',
    capabilities: { durability: durability === 'strict' ? 'power' : 'process', owners: 'one', blobs: false },
    async open(open: OpenOptions) {
      ({ onError } = open);
      ownerId = open.owner;
      await alone(async () => {
        await prepare();
        await refuseNewer();
        if (open.mode === 'use' && !owner) await follower!.segment();
      });
      for (;;) {
        if (open.mode === 'use') break;
        try {
          await alone(drive);
          break;
        } catch (error) {
          if (!wait || (error as StepfastError).code !== 'STORE_LOCKED' || (error as StepfastError).pid === undefined)
            throw error;
          await folderChange(join(dir, 'lock'), OWNER_LOOK_MS);
        }
      }
      watchOthers();
    },
    async close() {
      if (isClosed) return;
      const serving = service;
      service = undefined; // before the last turn: requests that come now are the next owner's
      const last = alone(async () => undefined);
      await last.catch(() => undefined);
      isClosed = true;
      stopWatching();
      await serving?.stop();
      await compaction;
      await turn;
      await follower?.close();
      await disown();
    },
    abandon() {
      if (isClosed) return;
      isClosed = true;
      stopWatching();
      void service?.stop();
      for (const item of pending.splice(0)) item.reject(closed());
      const held = lock;
      held?.drop(isBusy ? 'leaving' : 'released');
      const end = async () => {
        await turn;
        await owner?.close();
        await follower?.close();
        (lock ?? held)?.drop('released'); // an open under way may have taken it since
      };
      void end().catch(tell);
    },
    commit(batch) {
      if (isClosed) return Promise.reject(closed());
      let mine: Batch;
      try {
        mine = copy(batch);
      } catch (error) {
        return Promise.reject(encodingError(error, dir));
      }
      return (owner && service ? enqueue(mine) : commitAsGuest(mine)).then(copy);
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
      const read = await alone(async () => readerOf(await present(), runId));
      return read();
    },
    list,
    watch(listener) {
      listeners.add(listener);
      watchOthers();
      return () => {
        listeners.delete(listener);
        if (listeners.size > 0 || owner) return;
        unwatch?.();
        unwatch = undefined;
      };
    },
  };
}
