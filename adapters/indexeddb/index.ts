import { isStepfastError, StepfastError } from '../../src/errors.js';
import { withOffers } from '../../src/store/due.js';
import { FORMAT_VERSION } from '../../src/store/journal.js';
import type { OpenOptions, SharedWork, Store, StoreListener } from '../../src/store/store.js';
import { check, isOurs } from '../../src/values/check.js';
import { createChannel } from './channel.js';
import { connectionTo } from './connection.js';
import { createWarning, requestPersistence } from './eviction.js';
import { orFallback } from './fallback.js';
import { checkOptions, type IndexedDBStoreOptions } from './options.js';
import { type Presence, presence } from './presence.js';
import { createLoads, listRuns, pickDue } from './queries.js';
import { type Database, type Lease, raiseFormat, reading, STORE_NAMES, storeError, type WriteTx } from './schema.js';
import { transact } from './shared-work.js';
import { type CommitHost, committer, eventsBy, leaseKey } from './transaction.js';

/** An owner whose lease ran out so long ago is not asked about any more. */
const FORGOTTEN_MS = 86_400_000;
const leases = () => IDBKeyRange.bound(leaseKey(''), leaseKey('\uffff'));

export type { IndexedDBStoreOptions } from './options.js';
export { addStores } from './schema.js';

declare global {
  // The platform's own type where there is one: also users whose `lib` has no DOM can read the declarations.
  interface IDBDatabase {
    readonly name: string;
  }
}

const hasIndexedDB = (): boolean => {
  try {
    return Boolean(globalThis.indexedDB);
  } catch {
    return false; // forbidden here
  }
};

/**
 * A store in the browser's IndexedDB, shared by all pages and workers of the origin.
 *
 * @throws {StepfastError} from its methods: `STORE_UNAVAILABLE` where there is no IndexedDB or it fails,
 * `QUOTA_EXCEEDED` when the site may not store more, `STORE_TOO_NEW` when newer code has written the database.
 * @example const stepfast = createStepfast({ store: indexedDBStore({ name: 'my-app' }) });
 */
export function indexedDBStore(options: IndexedDBStoreOptions = {}): Store {
  checkOptions(options);
  const { database, durability = 'relaxed', persist, fallback } = options;
  if (fallback && !hasIndexedDB()) return fallback();
  const { fallback: _, ...own } = options;
  if (fallback) return orFallback(indexedDBStore(own), fallback);
  const name = options.name ?? (typeof database === 'object' ? database.name : 'stepfast');
  const listeners = new Set<StoreListener>();
  let state: 'open' | 'closing' | 'gone' = 'open';
  let opened: OpenOptions | undefined;
  let leasedUntil = 0;
  let isOutdated = false;
  /** Who is alive, by the name of the database: known with the first connection. */
  let here: Presence | undefined;
  const hereIn = (db: Database): Presence =>
    (here ??= presence({
      name: db.name,
      hasChannel: typeof BroadcastChannel !== 'undefined',
      post: channel.post,
      isCommitting: () => commits.isBusy() || shared.size > 0,
      onChange: () => tell([undefined], false),
      pause,
      onFreeze() {
        freeze();
        channel.away(true);
      },
      onThaw() {
        thaw();
        channel.away(false);
      },
    }));

  const tell = (runIds: Iterable<string | undefined>, isOwn: boolean) => {
    for (const runId of runIds)
      for (const listener of listeners)
        try {
          listener(runId, isOwn);
        } catch (error) {
          opened?.onError(error);
        }
  };
  const channel = createChannel((message) => {
    if (!Array.isArray(message)) return here?.hear(message);
    tell(
      message.filter((runId) => typeof runId === 'string'),
      false,
    );
  });
  const assertOpen = (isOpen: boolean) => {
    if (!isOpen) throw new StepfastError('CLOSED', `The store "${name}" is closed. Create a new one to go on.`);
  };

  const { use, end, pause, freeze, thaw, wasFrozen, pausedMs, births } = connectionTo({
    name,
    database,
    onDropped: () => tell([undefined], false),
    onReborn(found) {
      leasedUntil = 0;
      opened?.onError(
        new StepfastError('STORE_UNAVAILABLE', `The database "${found}" was deleted while in use. Its runs are gone.`),
      );
      tell([undefined], true);
    },
    // Held on to, its runs would be nobody's: it can neither go on with them nor say so in the database (spec O2).
    onGone: () => here?.leave(),
  });

  const lease = (now: number): Lease | undefined => {
    if (!opened || here?.hasLocks || isOutdated) return undefined;
    return { owner: opened.owner, until: (leasedUntil = now + opened.leaseMs) };
  };
  const renew = async (now: number) => {
    if (!opened || leasedUntil - now > opened.leaseMs / 2) return;
    const renewed = lease(now);
    if (renewed) await use((db) => db.put('stepfast:meta', renewed, leaseKey(renewed.owner)));
  };
  const endLease = async () => {
    if (lease(0)) await use((db) => db.delete('stepfast:meta', leaseKey(opened!.owner))).catch(opened!.onError);
  };
  const livingIn = async (db: Database, now: number): Promise<(owner: string) => boolean> => {
    const { hasLocks, living } = hereIn(db);
    if (hasLocks) return living([], now);
    const meta = reading(db, 'stepfast:meta').objectStore('stepfast:meta');
    return living((await meta.getAll(leases())) as Lease[], now);
  };
  /** Leases of those who have long been gone without a word. */
  const sweepLeases = async (db: Database, now: number) => {
    if (hereIn(db).hasLocks) return;
    const tx = db.transaction('stepfast:meta', 'readwrite');
    for (const lease of (await tx.store.getAll(leases())) as Lease[])
      if (lease.until < now - FORGOTTEN_MS) void tx.store.delete(leaseKey(lease.owner)).catch(() => undefined); // `done` tells
    await tx.done;
  };

  const host: CommitHost = {
    begin: (names = []) =>
      use((db): WriteTx => {
        for (const name of names)
          check(
            db.objectStoreNames.contains(name as never) && !isOurs(name),
            'The scope of a transaction',
            name,
            `names of the app's own object stores in "${db.name}"`,
          );
        return db.transaction([...STORE_NAMES, ...(names as never[])], 'readwrite', { durability });
      }),
    lease,
    wasFrozen,
    births,
    pausedMs,
    format: () => opened?.format ?? FORMAT_VERSION,
    onCommitted(runIds) {
      tell(runIds, true);
      channel.post([...runIds]);
    },
  };
  /** What only an open store does. One that is too old drives no more: its runs are others' now (spec O6). */
  const guarded = async <Value>(work: () => Promise<Value>): Promise<Value> => {
    assertOpen(state === 'open');
    try {
      return await work();
    } catch (cause) {
      const error = storeError(cause);
      if (isStepfastError(error, 'STORE_TOO_NEW') && !isOutdated) {
        await endLease();
        isOutdated = true;
        here?.leave();
      }
      throw error;
    }
  };
  const commits = committer(host);
  const load = createLoads(use);
  const warn = createWarning();
  const shared = new Set<Promise<unknown>>();

  const leave = () => {
    state = 'gone';
    here?.leave();
    channel.close();
    listeners.clear();
    end();
  };

  return {
    name: 'indexeddb',
    capabilities: { durability: durability === 'strict' ? 'power' : 'process', owners: 'many', blobs: true },

    async open(next) {
      assertOpen(state === 'open');
      await use(async (db) => {
        if (next.mode === 'drive') await raiseFormat(db, next.format ?? FORMAT_VERSION);
        if (opened) return;
        await sweepLeases(db, next.now);
        channel.open(db.name);
        await hereIn(db).enter(next.owner);
      });
      if (state !== 'open') leave(); // closed meanwhile
      assertOpen(state === 'open');
      if (opened) return;
      opened = next;
      if (persist) requestPersistence(next.onError);
      await renew(next.now);
    },

    async close() {
      if (state !== 'open') return;
      state = 'closing';
      await Promise.allSettled([commits.idle(), ...shared]);
      await endLease();
      leave();
    },

    abandon: leave,

    commit: (batch) =>
      guarded(async () => {
        warn(batch.run?.state?.dueAt, batch.now);
        return commits.commit(structuredClone(batch)); // the caller may go on changing it while it waits its turn
      }),

    due: (query) =>
      guarded(async () => {
        await renew(query.now);
        return use(async (db) => {
          const { hasLeft } = hereIn(db);
          const picked = await pickDue(db, query, () => livingIn(db, query.now));
          const runs = picked.runs.map((run) => ({ ...run, interrupted: run.interrupted && !hasLeft(run.row.owner!) }));
          const events = eventsBy(reading(db, 'stepfast:events').objectStore('stepfast:events').index('pair'));
          return withOffers({ events }, { ...picked, runs }, query.now);
        });
      }),

    async load(runId) {
      assertOpen(state === 'open');
      return load(runId);
    },

    async list(query) {
      assertOpen(state === 'open');
      return use((db) => listRuns(db, query));
    },

    async state(key) {
      assertOpen(state === 'open');
      return use((db) => reading(db, 'stepfast:state').objectStore('stepfast:state').get(key));
    },

    watch(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },

    ...(database && {
      transact: <Value>(work: SharedWork<Value>) =>
        guarded(async () => {
          const working = transact(host, work);
          shared.add(working);
          try {
            return await working;
          } finally {
            shared.delete(working);
          }
        }),
    }),
  };
}
