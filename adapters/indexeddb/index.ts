import { openDB } from 'idb';
import { StepfastError } from '../../src/errors.js';
import type { OpenOptions, RunRow, Store, StoredRun, StoreListener } from '../../src/store.js';
import { fitsList } from '../../src/tables.js';
import { selectDue, withOffers } from '../../src/transition.js';
import { presence } from './presence.js';
import {
  assertFormat,
  createStores,
  type Database,
  type Lease,
  type RunRecord,
  type Schema,
  STORE_NAMES,
  type StoreName,
  storeError,
  type WriteTx,
} from './schema.js';
import { committer, eventsBy, leaseKey } from './transaction.js';

/** How `indexedDBStore` keeps its runs. */
export interface IndexedDBStoreOptions {
  /** Name of the database; contexts of one origin that name the same share its runs. Default: `'stepfast'`. */
  readonly name?: string;
  /**
   * `'relaxed'`: what was acknowledged outlives a crash of the browser. `'strict'`: also a loss of power; commits
   * take about half as long again. Default: `'relaxed'`.
   */
  readonly durability?: 'relaxed' | 'strict';
}

/** Rows looked at in one go when looking for due runs. */
const PAGE = 64;

const chunksOf = (runId: string): IDBKeyRange => IDBKeyRange.bound([runId], [runId, Infinity]);

/** A transaction for reading. Its requests tell of a failure; its end has nobody listening, and must not be "unhandled". */
function reading<Names extends StoreName[]>(db: Database, ...names: Names) {
  const tx = db.transaction(names);
  tx.done.catch(() => undefined);
  return tx;
}

const stored = ({ row, tail }: RunRecord, chunks: readonly StoredRun['journal'][]): StoredRun => ({
  row,
  journal: [...chunks.flat(), ...tail],
});

/**
 * A store in the browser's IndexedDB, shared by all pages and workers of the origin.
 *
 * @throws {StepfastError} from its methods: `STORE_UNAVAILABLE` where there is no IndexedDB or it fails,
 * `QUOTA_EXCEEDED` when the site may not store more, `STORE_TOO_NEW` when newer code has written the database.
 * @example const stepfast = createStepfast({ store: indexedDBStore({ name: 'my-app' }) });
 */
export function indexedDBStore(options: IndexedDBStoreOptions = {}): Store {
  const { name = 'stepfast', durability = 'relaxed' } = options;
  const listeners = new Set<StoreListener>();
  const here = presence(name, () => tell([undefined], false));
  let state: 'open' | 'closing' | 'gone' = 'open';
  let opened: OpenOptions | undefined;
  let connection: Promise<Database> | undefined;
  let channel: BroadcastChannel | undefined;
  let leasedUntil = 0;

  const tell = (runIds: Iterable<string | undefined>, isOwn: boolean) => {
    for (const runId of runIds)
      for (const listener of listeners)
        try {
          listener(runId, isOwn);
        } catch (error) {
          opened?.onError(error);
        }
  };
  const assertOpen = (isOpen: boolean) => {
    if (!isOpen) throw new StepfastError('CLOSED', `The store "${name}" is closed. Create a new one to go on.`);
  };

  const forget = (lost: Promise<Database> | undefined) => {
    if (lost === connection) connection = undefined;
    lost?.then(
      (db) => db.close(),
      () => undefined, // it never opened, and whoever asked for it has been told
    );
  };
  const upgrade = (db: Database) => {
    createStores(db);
    opened?.onError(
      new StepfastError('STORE_UNAVAILABLE', `The database "${name}" was deleted while in use. Its runs are gone.`),
    );
  };
  const connected = (): Promise<Database> => {
    assertOpen(state !== 'gone');
    if (connection) return connection;
    const drop = () => forget(mine);
    const mine = (async () => {
      if (!globalThis.indexedDB)
        throw new StepfastError(
          'STORE_UNAVAILABLE',
          'There is no IndexedDB here (switched off, or not a browser). Use memoryStore() from "stepfast/memory" to go on without durability, or fileStore() from "stepfast/file" in Node.',
        );
      // Another context that wants to delete the database, or to upgrade it, must not wait for us: `blocking`.
      const db = await openDB<Schema>(name, 1, { upgrade, blocking: drop, terminated: drop });
      try {
        assertFormat(await reading(db, 'meta').objectStore('meta').get('format'), 'minReader');
      } catch (error) {
        db.close();
        throw error;
      }
      return db;
    })();
    mine.catch(drop);
    return (connection = mine);
  };
  /** Runs `body` on the connection; once more on a new one if that proves dead. For what may be done twice. */
  const use = async <T>(body: (db: Database) => T | Promise<T>): Promise<T> => {
    for (let isLast = false; ; isLast = true) {
      const mine = connected();
      try {
        return await body(await mine);
      } catch (error) {
        const isDead = error instanceof DOMException && /^(InvalidState|Unknown|Abort)/.test(error.name);
        if (isDead) forget(mine);
        if (!isDead || isLast) throw storeError(error);
      }
    }
  };

  const lease = (now: number): Lease | undefined => {
    if (here.hasLocks || !opened) return undefined;
    return { owner: opened.owner, until: (leasedUntil = now + opened.leaseMs) };
  };
  const renew = async (now: number) => {
    if (!opened || leasedUntil - now > opened.leaseMs / 2) return;
    const renewed = lease(now);
    if (renewed) await use((db) => db.put('meta', renewed, leaseKey(renewed.owner)));
  };
  const living = async (db: Database, now: number): Promise<ReadonlySet<string>> => {
    if (here.hasLocks) return here.living();
    const range = IDBKeyRange.bound(leaseKey(''), leaseKey('\uffff'));
    const leases = (await reading(db, 'meta').objectStore('meta').getAll(range)) as Lease[];
    return new Set(leases.filter(({ until }) => until > now).map(({ owner }) => owner));
  };

  const commits = committer({
    begin: () => use((db): WriteTx => db.transaction(STORE_NAMES, 'readwrite', { durability })),
    lease,
    onCommitted(runIds) {
      tell(runIds, true);
      channel?.postMessage([...runIds]);
    },
  });

  const leave = () => {
    state = 'gone';
    here.leave();
    channel?.close();
    channel = undefined;
    listeners.clear();
    forget(connection);
  };

  return {
    name: 'indexeddb',
    capabilities: { durability: durability === 'strict' ? 'power' : 'process', owners: 'many', blobs: true },

    async open(next) {
      assertOpen(state === 'open');
      await use(() => (opened ? undefined : here.enter(next.owner)));
      if (state !== 'open') here.leave(); // closed meanwhile
      assertOpen(state === 'open');
      if (opened) return;
      opened = next;
      await renew(next.now);
      if (typeof BroadcastChannel === 'undefined') return;
      channel = new BroadcastChannel(`stepfast:${name}`);
      channel.onmessage = ({ data }: MessageEvent<unknown>) => {
        if (Array.isArray(data))
          tell(
            data.filter((runId) => typeof runId === 'string'),
            false,
          );
      };
    },

    async close() {
      if (state !== 'open') return;
      state = 'closing';
      await commits.idle();
      if (lease(0)) await use((db) => db.delete('meta', leaseKey(opened!.owner))).catch(opened!.onError);
      leave();
    },

    abandon: leave,

    async commit(batch) {
      assertOpen(state === 'open');
      try {
        return await commits.commit(structuredClone(batch)); // the caller may go on changing it while it waits its turn
      } catch (error) {
        throw storeError(error);
      }
    },

    async due(query) {
      assertOpen(state === 'open');
      await renew(query.now);
      return use(async (db) => {
        const rows: RunRow[] = [];
        let from: [number, number] = [-Infinity, 0];
        for (;;) {
          const range = IDBKeyRange.lowerBound(from, true);
          const page = await reading(db, 'runs').objectStore('runs').index('due').getAll(range, PAGE);
          rows.push(...page.map(({ row }) => row));
          // Asked after the rows were read: who has claimed one of them by then is seen.
          const alive = await living(db, query.now);
          const picked = selectDue(rows, query, (owner) => alive.has(owner) && !here.hasLeft(owner));
          const last = rows.at(-1);
          if (last && page.length === PAGE && picked.nextDueAt === undefined && picked.runs.length < query.limit) {
            from = [last.dueAt!, last.seq];
            continue;
          }
          const runs = picked.runs.map(({ row, interrupted }) => ({
            row,
            interrupted: interrupted && !here.hasLeft(row.owner!),
          }));
          const events = eventsBy(reading(db, 'events').objectStore('events').index('pair'));
          return withOffers({ events }, { ...picked, runs }, query.now);
        }
      });
    },

    async load(runId) {
      assertOpen(state === 'open');
      return use(async (db) => {
        const tx = reading(db, 'runs', 'spill');
        const [record, chunks] = await Promise.all([
          tx.objectStore('runs').get(runId),
          tx.objectStore('spill').getAll(chunksOf(runId)),
        ]);
        return record && stored(record, chunks);
      });
    },

    async list(query) {
      assertOpen(state === 'open');
      return use(async (db) => {
        const tx = reading(db, 'runs', 'spill');
        const range = query.cursor === undefined ? null : IDBKeyRange.upperBound(Number(query.cursor) || 0, true);
        const runs: StoredRun[] = [];
        let cursor = await tx.objectStore('runs').index('seq').openCursor(range, 'prev');
        for (; cursor; cursor = await cursor.continue()) {
          const record = cursor.value;
          if (!fitsList(record.row, query)) continue;
          if (runs.length >= query.limit) return { runs, nextCursor: String(runs.at(-1)!.row.seq) };
          const chunks = record.chunks ? await tx.objectStore('spill').getAll(chunksOf(record.row.runId)) : [];
          runs.push(stored(record, chunks));
        }
        return { runs };
      });
    },

    watch(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}
