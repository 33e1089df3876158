import { unwrap } from 'idb';
import type { Batch, CommitOutcome } from '../../src/store/batch.js';
import { laneOf } from '../../src/store/due.js';
import type { EventRow, StateRow } from '../../src/store/rows.js';
import { foreseen } from '../../src/store/transition/foreseen.js';
import {
  pairKey,
  pairsOf,
  type Reads,
  type RunWrite,
  type StoreClock,
  type Writes,
} from '../../src/store/transition/scope.js';
import { transition } from '../../src/store/transition.js';
import { isOurs } from '../../src/values/check.js';
import { assertFormat, chunksOf, type Lease, type RunRecord, type StoreName, type WriteTx } from './schema.js';

/*
 * Commits. A transaction costs much, a row little, so all commits that queue up while one transaction is under way
 * share the next.
 *
 * W1. Inside a transaction nothing is awaited but its own requests: it would end behind our back, in some engines only.
 * W2. A caller hears of its commit at the `complete` event, never at the success of a request.
 * W3. A batch that fails takes the whole group back; each is then tried in a transaction of its own.
 * W4. What may have happened (a connection lost at its end) is not tried again; the caller decides (S8).
 */

/** Most commits in one transaction: readers wait behind it. */
const MAX_GROUP = 128;
/** A tail of a journal is moved to a chunk when it holds as many entries, or as many characters. */
const MAX_TAIL = 64;
const MAX_TAIL_SIZE = 16_384;

/** `clock` and `format`, which are there from the first moment, and stand side by side. */
const HEAD = () => IDBKeyRange.bound('clock', 'format');

/** A journal of which nothing is written yet. */
const EMPTY: Pick<RunRecord, 'tail' | 'chunks' | 'size'> = { tail: [], chunks: 0, size: 0 };

type EventIndex = { getAll(range: IDBKeyRange): Promise<{ row: EventRow }[]> };

/** `Reads.events` over the index of that name. */
export const eventsBy =
  (index: EventIndex): Reads['events'] =>
  async (pair, after) =>
    (await index.getAll(IDBKeyRange.bound([pair, after], [pair, Infinity], true))).map(({ row }) => row);

/** The reads of a transition inside one transaction, and the writing of what it decided. */
export function scope(tx: WriteTx) {
  const runs = tx.objectStore('stepfast:runs');
  const events = tx.objectStore('stepfast:events');
  const state = tx.objectStore('stepfast:state');
  const meta = tx.objectStore('stepfast:meta');
  /** What has been read or written so far, also that something is not there. */
  const records = new Map<string, RunRecord | undefined>();
  const values = new Map<string, StateRow | undefined>();
  const slots = new Map<string, number>();
  let clock: StoreClock | undefined;

  /** Writes: nobody awaits them, and a promise for each cost as much as the write. The end tells, `failures` why. */
  const native = unwrap(tx) as IDBTransaction;
  const into = (name: StoreName) => native.objectStore(name);
  const failures: unknown[] = [];
  native.addEventListener('error', ({ target }) => {
    const { source, error } = target as IDBRequest<unknown>;
    if (isOurs((source as IDBObjectStore).name)) failures.push(error);
  });
  const keep = (record: RunRecord) => {
    records.set(record.row.runId, record);
    return record.row;
  };
  /** The newest: one of the same id or key that has expired may not be swept yet. */
  const newest = async (index: 'id' | 'key', key: IDBValidKey) =>
    (await events.index(index).openCursor(IDBKeyRange.only(key), 'prev'))?.value.row;

  const reads: Reads = {
    clock: async () => (clock ??= (await meta.get('clock')) as StoreClock),
    async run(runId) {
      if (!records.has(runId)) records.set(runId, await runs.get(runId));
      return records.get(runId)?.row;
    },
    runByKey: (job, key) => runs.index('key').getKey([job, key]),
    runByUnique: (job, key) => runs.index('unique').getKey([job, key]),
    waiting: async (pair) => (await runs.index('pairs').getAll(pair)).map(keep),
    awaiting: async (runId) => (await runs.index('awaits').getAll(runId)).map(keep),
    children: async (runId) => (await runs.index('parent').getAll(runId)).map(keep),
    events: eventsBy(events.index('pair')),
    event: async (seq) => (await events.get(seq))?.row,
    eventById: (id) => newest('id', id),
    eventByKey: (pair, key) => newest('key', [pair, key]),
    backlog: (pair) => events.index('untaken').count(pair),
    expired: async (now) =>
      (await events.index('expires').getAll(IDBKeyRange.upperBound(now), 8)).map(({ row }) => row),
    async slots(queue) {
      if (!slots.has(queue)) slots.set(queue, await runs.index('slot').count(queue));
      return slots.get(queue)!;
    },
    async state(key) {
      if (!values.has(key)) values.set(key, await state.get(key));
      return values.get(key);
    },
    expiredState: (now) => state.index('expires').getAllKeys(IDBKeyRange.upperBound(now), 8),
  };

  /** Deletes the chunks of a journal. */
  const clear = (runId: string) => void into('stepfast:spill').delete(chunksOf(runId));
  const countSlot = (queue: string | undefined, change: 1 | -1) => {
    const count = queue === undefined ? undefined : slots.get(queue);
    if (count !== undefined) slots.set(queue!, count + change);
  };
  const putRun = ({ row, append, reset }: RunWrite) => {
    const old = records.get(row.runId);
    countSlot(old?.row.slot, -1);
    countSlot(row.slot, 1);
    if (reset && old?.chunks) clear(row.runId);
    let { tail, chunks, size } = reset || !old ? EMPTY : old;
    tail = [...tail, ...append];
    size += JSON.stringify(append).length;
    if (tail.length >= MAX_TAIL || size > MAX_TAIL_SIZE) {
      into('stepfast:spill').put(tail, [row.runId, chunks++]);
      tail = [];
      size = 0;
    }
    const record = { row, rank: laneOf(row), tail, chunks, size, pairs: pairsOf(row) };
    keep(record);
    into('stepfast:runs').put(record);
  };
  const write = (writes: Writes) => {
    for (const runId of writes.deletes) {
      clear(runId);
      countSlot(records.get(runId)?.row.slot, -1);
      records.set(runId, undefined);
      into('stepfast:runs').delete(runId);
    }
    for (const written of writes.runs.values()) putRun(written);
    for (const row of writes.events.values()) {
      const pair = pairKey(row.name, row.key);
      into('stepfast:events').put({ row, pair, ...(!row.taken && { untaken: pair }) });
    }
    for (const seq of writes.drops) into('stepfast:events').delete(seq);
    for (const [key, row] of writes.state) {
      values.set(key, row);
      if (row) into('stepfast:state').put(row);
      else into('stepfast:state').delete(key);
    }
    if (writes.clock !== clock) into('stepfast:meta').put((clock = writes.clock), 'clock');
  };

  /** What every commit needs of the store itself, in one request: the clock, and the format, which is returned. */
  const head = async (): Promise<unknown> => {
    const [found, format] = await meta.getAll(HEAD());
    clock = found as StoreClock;
    return format;
  };

  const renew = (lease: Lease | undefined) => {
    if (lease) into('stepfast:meta').put(lease, leaseKey(lease.owner));
  };

  return { reads, write, renew, head, meta, failures };
}

/** The runs that others are told of. */
export const changedBy = ({ runs, deletes }: Writes): string[] => [...runs.keys(), ...deletes];

export const nameOf = (error: unknown): string => (error as Error | undefined)?.name ?? '';

interface Queued {
  readonly batch: Batch;
  readonly births: number;
  readonly pausedMs: number;
  readonly resolve: (outcome: CommitOutcome) => void;
  readonly reject: (error: unknown) => void;
}

export interface CommitHost {
  /** A new transaction, for immediate use; over these object stores of the app as well. */
  begin(names?: readonly string[]): Promise<WriteTx>;
  /** To be renewed along with the commits, where leases are in use. */
  lease(now: number): Lease | undefined;
  /** What this code writes. */
  format(): number;
  onCommitted(runIds: ReadonlySet<string>): void;
  /** The page was about to be frozen, and the transaction was undone for that. */
  wasFrozen(tx: IDBTransaction): boolean;
  /** Grows when the database is another one than before. */
  births(): number;
  /** For how long nothing was begun, in all. */
  pausedMs(): number;
}

/**
 * What is known of a run, or a lock, was read in a database that is no more: in another one the fence of a run, or the token of
 * somebody else's lock, may be the same (spec O1, D8).
 */
export function isOfTheDead(host: CommitHost, births: number, { run, state = [] }: Batch): boolean {
  if (!births || births === host.births()) return false;
  return (run !== undefined && run.fence !== 'any') || state.some(({ kind }) => kind === 'unlock');
}
export const FENCED: CommitOutcome = { kind: 'fenced', fence: 0 };

/** Runs commits in the order in which they were asked for, as few transactions as possible. */
export function committer(host: CommitHost): {
  commit(batch: Batch): Promise<CommitOutcome>;
  isBusy(): boolean;
  idle(): Promise<void>;
} {
  const queue: Queued[] = [];
  let pumping: Promise<void> | undefined;

  const attempt = async (group: readonly Queued[]): Promise<void> => {
    const outcomes: CommitOutcome[] = [];
    const changed = new Set<string>();
    let thrown: unknown;
    let causes: unknown[] = [];
    let aborted: unknown;
    let isAgain = false;
    try {
      const tx = await host.begin();
      const done = tx.done.catch((error: unknown) => (aborted = error));
      const { reads, write, renew, head, failures } = scope(tx);
      try {
        // All that is known to be needed is asked for at once: one after the other, each waits for the one before.
        const known = group.map(({ batch }) => foreseen(batch));
        const [format] = await Promise.all([
          head(),
          ...known.flatMap((each) => each.runs.map(reads.run)),
          ...known.flatMap((each) => each.state.map(reads.state)),
        ]);
        assertFormat(format, 'minWriter', host.format());
        for (const { batch, births, pausedMs } of group) {
          if (isOfTheDead(host, births, batch)) {
            outcomes.push(FENCED);
            continue;
          }
          // Held over while its page was frozen or cached, it happens now: not when it was asked for (spec E5, D8).
          const now = batch.now + host.pausedMs() - pausedMs;
          const { outcome, writes } = await transition(reads, { ...batch, now });
          outcomes.push(outcome);
          if (outcome.kind !== 'committed') continue;
          write(writes);
          for (const runId of changedBy(writes)) changed.add(runId);
        }
        renew(host.lease(group[0]!.batch.now));
        tx.commit(); // by itself it would only begin once every request has been answered
      } catch (error) {
        thrown = error;
        try {
          tx.abort(); // else the writes before a failed one would be kept
        } catch {
          // it has ended already, which `done` tells
        }
      }
      await done;
      isAgain = host.wasFrozen(unwrap(tx) as IDBTransaction);
      causes = [aborted, failures[0], thrown];
    } catch (error) {
      for (const { reject } of group) reject(error);
      return;
    }
    if (isAgain) return attempt(group); // begins when the page is back
    if (!causes.some(Boolean)) {
      for (const [index, { resolve }] of group.entries()) resolve(outcomes[index]!);
      if (changed.size) host.onCommitted(changed);
      return;
    }
    // `AbortError` only tells that there is a cause. One that was named means that nothing of the group was kept.
    const cause = causes.find((error) => error && nameOf(error) !== 'AbortError') ?? thrown ?? aborted;
    if (group.length > 1 && aborted && !/^(Abort|Unknown)/.test(nameOf(cause)))
      for (const one of group) await attempt([one]);
    else for (const { reject } of group) reject(cause);
  };

  const pump = async () => {
    await undefined; // whatever else is asked for in this turn joins the first group
    while (queue.length) await attempt(queue.splice(0, MAX_GROUP));
    pumping = undefined;
  };

  return {
    commit: (batch) =>
      new Promise((resolve, reject) => {
        queue.push({ batch, births: host.births(), pausedMs: host.pausedMs(), resolve, reject });
        pumping ??= pump();
      }),
    isBusy: () => pumping !== undefined,
    idle: async () => pumping,
  };
}

export const leaseKey = (owner: string): string => `lease:${owner}`;
