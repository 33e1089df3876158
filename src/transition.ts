import type { JournalEntry } from './journal.js';
import type {
  Batch,
  CommitOutcome,
  DuePage,
  DueQuery,
  DueRun,
  EventOutcome,
  EventRow,
  NewEvent,
  OpenWait,
  RunChange,
  RunRow,
  RunState,
  StartOutcome,
} from './store.js';

/*
 * What a commit does, once for all stores: a function from a batch and what the store holds to the outcome and the
 * rows to write. A store calls it inside its own atomic scope (a transaction, or one batch at a time) and then writes
 * everything in `Writes`, or nothing when the outcome is not `committed`.
 *
 * T1. All checks come before any write, and later parts of a batch see the rows that earlier parts have written.
 * T2. `seq` is given here, from the store's last one: it grows with the order of commits, and alone gives order (spec E3).
 *     `acceptedAt` is the instant of the commit, as deadlines are: a clock that ran ahead and was corrected leaves no
 *     trace (spec E5, Q4).
 * T3. A run is woken by an event, never written: only `woken` and `dueAt` of its row change (spec E4).
 */

type Awaitable<T> = T | PromiseLike<T>;

/** The last sequence number that a store has given out. */
export interface StoreClock {
  readonly seq: number;
}

/** The reads a store offers inside its atomic scope. */
export interface Reads {
  clock(): Awaitable<StoreClock>;
  run(runId: string): Awaitable<RunRow | undefined>;
  /** The id of the run started with this key. */
  runByKey(job: string, idempotencyKey: string): Awaitable<string | undefined>;
  /** Runs with an open wait on the pair. */
  waiting(pair: string): Awaitable<readonly RunRow[]>;
  /** Events of the pair with a greater `seq`, ascending. */
  events(pair: string, after: number): Awaitable<readonly EventRow[]>;
  event(seq: number): Awaitable<EventRow | undefined>;
  eventById(id: string): Awaitable<EventRow | undefined>;
  eventByKey(pair: string, idempotencyKey: string): Awaitable<EventRow | undefined>;
  /** How many events of the pair nobody has taken. */
  backlog(pair: string): Awaitable<number>;
  /** A few events that expired at or before this instant. */
  expired(now: number): Awaitable<readonly EventRow[]>;
  /** How many runs hold a slot of the queue. */
  slots(queue: string): Awaitable<number>;
}

/** What a committed batch writes. */
export interface Writes {
  readonly runs: Map<string, { row: RunRow; append: readonly JournalEntry[] }>;
  readonly events: Map<number, EventRow>;
  /** `seq` of events to delete. */
  readonly drops: Set<number>;
  clock: StoreClock;
}

/** Name and correlation key as one map key; an absent key matches only an absent key (spec E2). */
export const pairKey = (name: string, key: string | undefined): string =>
  JSON.stringify(key === undefined ? [name] : [name, key]);

/** Every pair that the open waits of a run listen to. */
export const pairsOf = ({ waits }: RunRow): string[] =>
  waits.length ? [...new Set(waits.flatMap((wait) => wait.events.map((name) => pairKey(name, wait.key))))] : [];

/** A row after a commit: what it was born with, and everything else as the state says. */
export function rowWith(row: RunRow, state: RunState, counts: Pick<RunRow, 'fence' | 'length'>): RunRow {
  const { runId, job, queue, idempotencyKey, parentId, tags, createdAt, seq } = row;
  const born = { runId, job, queue, createdAt, seq };
  const given = {
    ...(idempotencyKey !== undefined && { idempotencyKey }),
    ...(parentId !== undefined && { parentId }),
    ...(tags && { tags }),
  };
  return { ...born, ...given, ...state, ...counts };
}

/** Whether this wait of this run may take the event (spec E3, E4, E5). */
export function mayTake(wait: OpenWait, event: EventRow, runId: string): boolean {
  return (
    wait.events.includes(event.name) &&
    wait.key === event.key &&
    (event.runId === undefined || event.runId === runId) &&
    (wait.deadline === undefined || event.acceptedAt <= wait.deadline) &&
    (event.seq > wait.after ||
      (wait.lookbackFrom !== undefined && !event.taken && event.acceptedAt >= wait.lookbackFrom))
  );
}

/** Events that some of these waits may take, oldest first. */
export async function offersFor(
  reads: Pick<Reads, 'events'>,
  runId: string,
  waits: readonly OpenWait[],
  now: number,
): Promise<readonly EventRow[]> {
  const found = new Map<number, EventRow>();
  for (const wait of waits)
    for (const name of wait.events) {
      const after = wait.lookbackFrom === undefined ? wait.after : 0;
      for (const event of await reads.events(pairKey(name, wait.key), after))
        if (event.expiresAt > now && mayTake(wait, event, runId)) found.set(event.seq, event);
    }
  return [...found.values()].sort((a, b) => a.seq - b.seq);
}

/** Decides a batch. The caller writes `writes` when, and only when, the outcome is `committed`. */
export async function transition(reads: Reads, batch: Batch): Promise<{ outcome: CommitOutcome; writes: Writes }> {
  const writes: Writes = { runs: new Map(), events: new Map(), drops: new Set(), clock: await reads.clock() };
  const { now } = batch;
  const read = async (runId: string) => writes.runs.get(runId)?.row ?? (await reads.run(runId));
  const put = (row: RunRow, append: readonly JournalEntry[] = []) =>
    writes.runs.set(row.runId, { row, append: [...(writes.runs.get(row.runId)?.append ?? []), ...append] });
  const tick = () => (writes.clock = { seq: writes.clock.seq + 1 });
  // What this batch has written so far goes before what the store holds (T1).
  const fresh = (pair: string) =>
    [...writes.events.values()].filter((event) => pairKey(event.name, event.key) === pair);
  const view: Pick<Reads, 'events'> = {
    events: async (pair, after) => [
      ...(await reads.events(pair, after)).filter((event) => !writes.events.has(event.seq)),
      ...fresh(pair).filter((event) => event.seq > after),
    ],
  };

  let fence = 0;
  let offers: readonly EventRow[] = [];

  const change = async (run: RunChange): Promise<CommitOutcome | undefined> => {
    const row = await read(run.runId);
    if (!row) return { kind: 'fenced', fence: 0 };
    if (run.fence === 'any') {
      if (row.endedAt !== undefined) return { kind: 'ended', status: row.status };
    } else if (row.fence !== run.fence || row.length !== (run.length ?? row.length))
      return { kind: 'fenced', fence: row.fence };
    fence = row.fence + (run.raise ? 1 : 0);
    const state = run.state;
    if (!state) return undefined;
    const overtaking = await offersFor(reads, row.runId, run.unless ?? [], now);
    if (overtaking.length) return { kind: 'overtaken', offers: overtaking };
    for (const { seq, untaken } of run.takes ?? []) {
      const event = await reads.event(seq);
      if (untaken && event?.taken)
        return { kind: 'overtaken', offers: await offersFor(reads, row.runId, row.waits, now) };
      if (event && !event.taken) writes.events.set(seq, { ...event, taken: true });
    }
    if (state.slot !== undefined && state.slot !== row.slot && run.concurrency !== undefined)
      if ((await reads.slots(state.slot)) >= run.concurrency) return { kind: 'no-slot' };
    put(rowWith(row, state, { fence, length: row.length + run.append.length }), run.append);
    if (!state.waits.length) return undefined;
    const known = new Set(row.woken ? [] : row.waits.map((wait) => JSON.stringify(wait.id)));
    const opened = state.waits.filter((wait) => !known.has(JSON.stringify(wait.id)));
    offers = await offersFor(view, row.runId, opened, now);
    return undefined;
  };

  const dispatch = async (event: NewEvent, index: number): Promise<EventOutcome | CommitOutcome> => {
    const pair = pairKey(event.name, event.key);
    const { idempotencyKey } = event;
    const live = (found: EventRow | undefined) => (found && found.expiresAt > now ? found : undefined);
    const first =
      live([...writes.events.values()].find(({ id }) => id === event.id) ?? (await reads.eventById(event.id))) ??
      (idempotencyKey === undefined
        ? undefined
        : live(
            fresh(pair).find((other) => other.idempotencyKey === idempotencyKey) ??
              (await reads.eventByKey(pair, idempotencyKey)),
          ));
    if (first) {
      const { id, seq, acceptedAt, resumed, payload } = first;
      return { kind: 'deduplicated', id, seq, acceptedAt, resumed, payload };
    }
    if (event.runId !== undefined) {
      const row = await read(event.runId);
      if (!row || row.endedAt !== undefined) return { kind: 'refused', code: 'RUN_NOT_FOUND', index };
    }
    const change = fresh(pair).reduce((sum, { taken }) => sum + (taken ? -1 : 1), 0);
    if ((await reads.backlog(pair)) + change >= event.maxBacklog) {
      // The count may hold events that have expired and are not swept yet: look closely before refusing.
      const open = (await view.events(pair, 0)).filter((old) => !old.taken && old.expiresAt > now);
      if (open.length >= event.maxBacklog) return { kind: 'refused', code: 'EVENT_BACKLOG_FULL', index };
    }
    for (const old of await reads.expired(now)) writes.drops.add(old.seq);
    const { seq } = tick();
    const acceptedAt = now;
    const { ttlMs, maxBacklog: _, ...given } = event;
    const accepted: EventRow = { ...given, seq, acceptedAt, expiresAt: acceptedAt + ttlMs, resumed: [] };
    const candidates = new Map((await reads.waiting(pair)).map((row) => [row.runId, row]));
    for (const [runId, { row }] of writes.runs) candidates.set(runId, row);
    const resumed: string[] = [];
    for (const row of candidates.values()) {
      if (!row.waits.some((wait) => mayTake(wait, accepted, row.runId))) continue;
      resumed.push(row.runId);
      put({ ...row, woken: true, dueAt: Math.min(row.dueAt ?? now, now) });
    }
    writes.events.set(seq, { ...accepted, resumed });
    return { kind: 'accepted', id: event.id, seq, acceptedAt, resumed };
  };

  const refusal = batch.run && (await change(batch.run));
  if (refusal) return { outcome: refusal, writes };

  const starts: StartOutcome[] = [];
  for (const { entry, idempotencyKey, ...run } of batch.starts ?? []) {
    const known =
      (await read(run.runId))?.runId ??
      (idempotencyKey === undefined
        ? undefined
        : ([...writes.runs.values()].find(({ row }) => row.job === run.job && row.idempotencyKey === idempotencyKey)
            ?.row.runId ?? (await reads.runByKey(run.job, idempotencyKey))));
    starts.push(known === undefined ? { kind: 'created', runId: run.runId } : { kind: 'exists', runId: known });
    if (known !== undefined) continue;
    const { seq } = tick();
    const status = run.dueAt > now ? 'scheduled' : 'queued';
    const key = idempotencyKey !== undefined && { idempotencyKey };
    put({ ...run, ...key, seq, status, createdAt: entry.at, fence: 0, length: 1, waits: [] }, [entry]);
  }

  const events: EventOutcome[] = [];
  for (const [index, event] of (batch.events ?? []).entries()) {
    const done = await dispatch(event, index);
    if ('acceptedAt' in done) events.push(done);
    else return { outcome: done, writes };
  }
  return { outcome: { kind: 'committed', fence, offers, starts, events }, writes };
}

/** Changes with everything that can make a run fit to be driven: its owner, its journal, a wake-up. */
export const stampOf = (row: RunRow): string => `${row.fence}:${row.length}:${row.woken ?? ''}`;

/**
 * Picks what an engine should do next out of rows in order of (`dueAt`, `seq`). The caller may stop feeding rows once
 * it meets one that is due later than `query.now` and of a job of the query.
 */
export function selectDue(
  rows: Iterable<RunRow>,
  query: DueQuery,
  isAlive: (owner: string) => boolean,
): { runs: Omit<DueRun, 'offers'>[]; nextDueAt?: number; foreign: boolean } {
  const runs: Omit<DueRun, 'offers'>[] = [];
  let foreign = false;
  for (const row of rows) {
    const { dueAt, owner } = row;
    if (runs.length >= query.limit) break;
    if (dueAt === undefined || !(row.version <= (query.jobs[row.job] ?? 0))) continue;
    if (dueAt > query.now) return { runs, nextDueAt: dueAt, foreign };
    const isHeld = row.status === 'running' || row.unsettled;
    if (owner === query.owner && isHeld && !row.woken) continue;
    if (row.slot === undefined && query.full?.includes(row.queue)) continue;
    const left = query.skip?.get(row.runId);
    if (left !== undefined && left === stampOf(row)) continue;
    const mine = owner === undefined || owner === query.owner;
    if (!mine && isAlive(owner) && (isHeld || dueAt > query.now - query.graceMs)) {
      foreign = true;
      continue;
    }
    runs.push({ row, interrupted: row.status === 'running' && !mine });
  }
  return { runs, foreign };
}

/** The rest of a look for work: the events that each picked run may take. */
export async function withOffers(
  reads: Pick<Reads, 'events'>,
  picked: ReturnType<typeof selectDue>,
  now: number,
): Promise<DuePage> {
  const runs: DueRun[] = [];
  for (const run of picked.runs)
    runs.push({ ...run, offers: await offersFor(reads, run.row.runId, run.row.waits, now) });
  return { ...picked, runs };
}
