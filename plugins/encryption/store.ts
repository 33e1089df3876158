import type { StepfastError } from '../../src/errors.js';
import { givenBack } from '../../src/run/leave.js';
import type { Batch, CommitOutcome } from '../../src/store/batch.js';
import { stampOf } from '../../src/store/due.js';
import type { RunRow, StateRow, StoredRun } from '../../src/store/rows.js';
import type { DuePage, DueQuery, DueRun, ListPage, ListQuery, OpenOptions, Store } from '../../src/store/store.js';
import { isOurs } from '../../src/values/check.js';
import { createSealing, type KeyOf, stateKey } from './batch.js';
import { commitCounting } from './count.js';
import { hiddenEvents } from './hidden.js';
import type { KeyRing } from './keys.js';
import { verifyKeys } from './open.js';
import { marked, mergedPlace, openEvent, openRow, openRun, sealEntry, standIn, unmarked } from './rows.js';
import { createVault, type Hash, type Vault } from './seal.js';
import { copyOf } from './text.js';
import { isUnreadable, keyIdsIn, unreadableRuns } from './unreadable.js';

/*
 * A store around a store. Everything is sealed before `commit` of the inner store is called and opened after it has
 * answered: no WebCrypto is awaited inside a transaction, which IndexedDB would end behind our back.
 *
 * Y1. Batches reach the inner store in the order in which they were asked for, however long the sealing of each takes.
 * Y2. What can not be opened never stands in the way of what can: such runs are left out of the look for due work until
 *     they change or their key is back, and lists show of them what is readable. So it is with events: hidden.ts.
 * Y3. A run is never changed on the ground of a guess: an owner whose key is gone is told that the run is not its own any
 *     more (`fenced`); what is recorded, under the default key, is its end from outside, and that its slot was given back: the queue is others' too.
 */

export interface SealedStoreOptions {
  readonly ring: KeyRing;
  readonly hash: Hash;
  readonly keyOf: KeyOf | undefined;
  /** Makes the engine look for due work. */
  look(): void;
}

/** When a slot that could not be given back is tried again. */
const RETRY_MS = 3_000;

const FENCED: CommitOutcome = { kind: 'fenced', fence: 0 };

/** Wraps a store. Only the members of the contract are passed on: what else the inner one can do would go around us. */
export function sealedStore(inner: Store, { ring, hash, keyOf, look }: SealedStoreOptions): Store {
  let onError: OpenOptions['onError'] = () => undefined;
  let openedAt = 0;
  let owner = '';
  /** The store was made anew, and another context was faster with another key. */
  let locked: unknown;
  /** The last batch that was handed on, or has failed before. */
  let turn: Promise<unknown> = Promise.resolve();
  const unreadable = unreadableRuns((error) => onError(error));
  const hidden = hiddenEvents({ inner, unreadable, onError: (error) => onError(error) });
  const letGo = (runId: string, error: Parameters<typeof unreadable.tell>[0]) => unreadable.tell(error, runId);
  const { remember, sealBatch, sealStateChange } = createSealing({ inner, ring, keyOf, letGo });
  const newVault = () => createVault(ring, hash, inner.capabilities.blobs);

  // ---- the way out ----------------------------------------------------------------------------------------------------

  const opened = async (vault: Vault, stored: StoredRun): Promise<StoredRun> => {
    try {
      const run = await openRun(vault, stored);
      remember(stored.row);
      return run;
    } catch (error) {
      throw unreadable.add(stored.row, error);
    }
  };
  /** Without its journal, which is opened when it is loaded: one that can not be opened is to be blocked, not left out. */
  const openDue = async (vault: Vault, { journal: _, ...run }: DueRun, query: DueQuery): Promise<DueRun[]> => {
    try {
      const [row, opened] = await Promise.all([openRow(vault, run.row), hidden.open(vault, run.offers)]);
      remember(run.row);
      return hidden.isLeftOut(run, opened, query.now) ? [] : [{ ...run, row, offers: opened.events }];
    } catch (error) {
      unreadable.add(run.row, error);
      // Its owner has died, or it would not be here; one of ours is given back by the commit that finds it unreadable.
      if (run.row.slot !== undefined && run.row.owner !== query.owner)
        await giveBack(vault, run, query).catch((failure: unknown) => {
          onError(failure);
          const again: RunRow = { ...run.row, status: 'sleeping', dueAt: query.now + RETRY_MS };
          unreadable.leave(run.row.runId, {
            stamp: stampOf(run.row),
            keyIds: keyIdsIn(error as StepfastError),
            row: again,
          });
        });
      return [];
    }
  };
  /** The slot of a run that can not be opened (spec R5). What is sealed in its row stays as it is. */
  const giveBack = async (
    vault: Vault,
    { row, interrupted }: Pick<DueRun, 'row' | 'interrupted'>,
    { owner, now }: Pick<DueQuery, 'owner' | 'now'>,
  ) => {
    const run = givenBack(row, owner, now, interrupted);
    const append = await Promise.all(run.append.map((entry) => sealEntry(vault, ring.current, row.runId, entry)));
    await inner.commit({ now, run: { ...run, append } }); // refused: somebody else has taken it meanwhile
  };
  const openOutcome = async (
    vault: Vault,
    batch: Batch,
    sealed: Batch | undefined,
    outcome: CommitOutcome,
  ): Promise<CommitOutcome> => {
    if (outcome.kind === 'overtaken') return { ...outcome, offers: (await hidden.open(vault, outcome.offers)).events };
    if (outcome.kind !== 'committed') return outcome;
    const starts = outcome.starts.map(async (each, index) => {
      const { runId, fingerprint, isUnique } = each;
      if (fingerprint === undefined) return each;
      const place = isUnique ? mergedPlace(batch.starts![index]!) : (['deleted', runId] as const);
      return { ...each, fingerprint: (await vault.open(place, fingerprint)) as string };
    });
    const events = outcome.events.map(async (each) => {
      const { id, payload } = each;
      if (payload === undefined) return each;
      const { payload: opened, given } = await openEvent(vault, { id, payload });
      return { ...each, payload: opened, ...(given !== undefined && { given }) };
    });
    const [opened, ...rest] = await Promise.all([
      hidden.open(vault, outcome.offers),
      Promise.all(starts),
      Promise.all(events),
    ]);
    await hidden.settle(sealed!, outcome, opened);
    return { ...outcome, offers: opened.events, starts: rest[0], events: rest[1] };
  };
  const readState = async (vault: Vault, key: string): Promise<StateRow | undefined> => {
    const at = await stateKey(vault, key);
    const row = await inner.state(at);
    // What a transition writes by itself: locks, counters, and the remembrance of deleted runs.
    const isPlain = row?.token !== undefined || (isOurs(key) && typeof row?.value !== 'string');
    return row && { ...row, key, ...(!isPlain && { value: await vault.open(['state', at], row.value) }) };
  };

  // ---- commits ----------------------------------------------------------------------------------------------------------

  const isCounting = ({ state = [] }: Batch) => state.some(({ kind }) => kind === 'increment');

  const commitSealed = (vault: Vault, batch: Batch, sealed: Batch): Promise<CommitOutcome> => {
    if (!isCounting(batch)) return hidden.commit(vault, sealed, (each) => inner.commit(each));
    const given = batch.state!;
    const count = (each: Batch) =>
      commitCounting({
        now: batch.now,
        given,
        sealed: each.state!,
        read: (index) => readState(vault, given[index]!.key),
        sealValue: (index, value) => sealStateChange(vault, { kind: 'set', key: given[index]!.key, value }),
        commit: (state) => inner.commit({ ...each, state }),
      });
    return hidden.commit(vault, sealed, count);
  };

  /** A run that is driven here, and whose key is gone, is anybody's again. */
  const leave = async (vault: Vault, { now, run }: Batch): Promise<CommitOutcome> => {
    const { runId, fence } = run!;
    const row = (await inner.load(runId))?.row;
    if (row && row.fence === fence && row.owner === owner && row.slot !== undefined)
      await giveBack(vault, { row, interrupted: false }, { owner, now });
    return FENCED;
  };
  const commit = (given: Batch): Promise<CommitOutcome> => {
    const batch = copyOf(given); // S6; at once, for the caller may change it while this is sealed
    const vault = newVault();
    const sealing = sealBatch(vault, batch);
    sealing.catch(() => undefined); // its turn has not come yet: whoever waits for that hears of it
    const handed = turn
      .then(() => {
        if (locked) throw locked;
        return sealing;
      })
      .then((sealed) => ({ sealed, outcome: sealed ? commitSealed(vault, batch, sealed) : leave(vault, batch) }));
    // A batch that counts may be handed on several times; others are on their way once they are handed on (Y1).
    turn = (isCounting(batch) ? handed.then(({ outcome }) => outcome) : handed).then(
      () => undefined,
      () => undefined, // its caller hears of it, the queue goes on
    );
    for (const { runId } of batch.deletes ?? []) {
      unreadable.delete(runId);
      hidden.forget(runId);
    }
    return handed.then(async ({ sealed, outcome }) => {
      const opened = await openOutcome(vault, batch, sealed, await outcome);
      if (batch.events || batch.starts) await recall(vault, batch.now);
      return opened;
    });
  };
  /** The engine looks after what wakes somebody; here after any start and dispatch, once a key is back. */
  const recall = (vault: Vault, now: number) =>
    unreadable.review(vault, now).then(
      (isBack) => isBack && look(),
      () => undefined, // a vault that fails: the next look says so, and this batch is committed
    );

  // ---- looks ------------------------------------------------------------------------------------------------------------

  const due = async (query: DueQuery): Promise<DuePage> => {
    const vault = newVault();
    const jobs = Object.fromEntries(Object.entries(query.jobs).map(([job, version]) => [marked(job), version]));
    await unreadable.review(vault, query.now);
    for (;;) {
      const page = await inner.due({ ...query, jobs, skip: unreadable.skip(query.skip) });
      const runs = await Promise.all(page.runs.map((run) => openDue(vault, run, query)));
      // Those that can not be opened have kept others from the page: again, without them.
      if (runs.some(({ length }) => !length)) continue;
      const nextDueAt = Math.min(page.nextDueAt ?? Infinity, unreadable.nextDueAt());
      return { ...page, runs: runs.flat(), ...(nextDueAt < Infinity && { nextDueAt }) };
    }
  };
  const list = async (query: ListQuery): Promise<ListPage> => {
    const vault = newVault();
    const { tag, job, ...rest } = query;
    const hashed = tag === undefined ? undefined : await vault.hash('tag', tag);
    const place = { ...(hashed !== undefined && { tag: hashed }), ...(job !== undefined && { job: marked(job) }) };
    const page = await inner.list({ ...rest, ...place });
    const shown = (stored: StoredRun) =>
      opened(vault, stored).catch((error: unknown) => {
        if (isUnreadable(error)) return standIn(stored, error);
        throw error;
      });
    const lost = page.lost?.map((error) =>
      Object.assign(error, error.job !== undefined && { job: unmarked(error.job) }),
    );
    return { ...page, runs: await Promise.all(page.runs.map(shown)), ...(lost && { lost }) };
  };

  return {
    name: inner.name,
    capabilities: inner.capabilities,
    async open(options) {
      await inner.open(options);
      ({ onError, owner, now: openedAt } = options);
      await verifyKeys(inner, ring, newVault(), openedAt);
    },
    async close() {
      await turn;
      await inner.close();
    },
    ...(inner.abandon && { abandon: () => inner.abandon!() }),
    commit,
    due,
    async load(runId) {
      const stored = await inner.load(runId);
      return stored && opened(newVault(), stored);
    },
    list,
    state: (key) => readState(newVault(), key),
    watch: (listener) =>
      inner.watch((runId, isOwn) => {
        // All that it held is gone: also what keys are checked by, before anything is written under another.
        if (isOwn && runId === undefined)
          turn = turn
            .then(() => verifyKeys(inner, ring, newVault(), openedAt))
            .catch((error) => {
              locked = error;
              onError(error);
            });
        listener(runId, isOwn);
      }),
  };
}
