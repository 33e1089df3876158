import { laneOf } from './due.js';
import type { EventRow, RunRow, StateRow } from './rows.js';
import type { ListQuery } from './store.js';
import { pairKey, pairsOf, type Reads, type StoreClock, type Writes } from './transition/scope.js';

/*
 * Rows and events of a store that fits in memory, with the indexes that `Reads` asks for. The memory store is nothing
 * else; the file store keeps one of these beside its log.
 */

const bySeq = (a: { readonly seq: number }, b: { readonly seq: number }): number => a.seq - b.seq;
const keyOf = (job: string, idempotencyKey: string): string => JSON.stringify([job, idempotencyKey]);

const dueAtOf = (row: RunRow): number => row.dueAt!;

/** A map of sets that forgets empty ones. */
class Index<T> {
  readonly #sets = new Map<string, Set<T>>();
  get(key: string): ReadonlySet<T> {
    return this.#sets.get(key) ?? new Set();
  }
  add(key: string, value: T): void {
    const set = this.#sets.get(key);
    if (set) set.add(value);
    else this.#sets.set(key, new Set([value]));
  }
  delete(key: string, value: T): void {
    const set = this.#sets.get(key);
    if (set?.delete(value) && set.size === 0) this.#sets.delete(key);
  }
}

/** Items in order of a number, then of `seq`: an array with binary search, whose shifts are cheap block moves. */
class Ordered<T extends { readonly seq: number }> {
  readonly items: T[];
  readonly #rank: (item: T) => number;
  constructor(rank: (item: T) => number, items: T[] = []) {
    this.#rank = rank;
    this.items = items.sort((a, b) => rank(a) - rank(b) || bySeq(a, b));
  }
  #find(item: T): number {
    const rank = this.#rank(item);
    let low = 0;
    let high = this.items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = this.items[middle]!;
      const order = this.#rank(other) - rank || other.seq - item.seq;
      if (order < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
  add(item: T): void {
    this.items.splice(this.#find(item), 0, item);
  }
  delete(item: T): void {
    const at = this.#find(item);
    if (this.items[at]?.seq === item.seq) this.items.splice(at, 1);
  }
  /** Puts an item of the same rank and `seq` in the place of this one. */
  replace(old: T, item: T): void {
    this.items[this.#find(old)] = item;
  }
}

/** In-memory tables: the reads of a transition, and `apply` for its writes. */
export class Tables implements Reads {
  readonly runs = new Map<string, RunRow>();
  readonly log = new Map<number, EventRow>();
  lastClock: StoreClock = { seq: 0 };
  readonly #keys = new Map<string, string>();
  readonly #waiting = new Index<string>();
  readonly #holding = new Index<string>();
  readonly #events = new Index<number>();
  readonly #eventIds = new Map<string, number>();
  readonly #eventKeys = new Map<string, number>();
  readonly #untaken = new Map<string, number>();
  readonly #awaiting = new Index<string>();
  readonly #children = new Index<string>();
  readonly #uniques = new Map<string, string>();
  /** By lane. */
  readonly #due = new Map<number, Ordered<RunRow>>();
  readonly #expiring = new Ordered<EventRow>((event) => event.expiresAt);
  readonly shared = new Map<string, StateRow>();
  readonly #expiringState = new Ordered<StateRow & { readonly seq: number }>((row) => row.expiresAt!);
  #isIndexed: boolean;

  constructor(isIndexed = true) {
    this.#isIndexed = isIndexed;
  }

  clock(): StoreClock {
    return this.lastClock;
  }
  run(runId: string): RunRow | undefined {
    return this.runs.get(runId);
  }
  runByKey(job: string, idempotencyKey: string): string | undefined {
    return this.#keys.get(keyOf(job, idempotencyKey));
  }
  runByUnique(job: string, key: string): string | undefined {
    return this.#uniques.get(keyOf(job, key));
  }
  #rows = (runIds: ReadonlySet<string>): RunRow[] => [...runIds].map((runId) => this.runs.get(runId)!);
  waiting(pair: string): RunRow[] {
    return this.#rows(this.#waiting.get(pair));
  }
  awaiting(runId: string): RunRow[] {
    return this.#rows(this.#awaiting.get(runId));
  }
  children(runId: string): RunRow[] {
    return this.#rows(this.#children.get(runId));
  }
  events(pair: string, after: number): EventRow[] {
    const found: EventRow[] = [];
    for (const seq of this.#events.get(pair)) if (seq > after) found.push(this.log.get(seq)!);
    return found.sort(bySeq);
  }
  event(seq: number): EventRow | undefined {
    return this.log.get(seq);
  }
  eventById(id: string): EventRow | undefined {
    return this.log.get(this.#eventIds.get(id) ?? -1);
  }
  eventByKey(pair: string, idempotencyKey: string): EventRow | undefined {
    return this.log.get(this.#eventKeys.get(JSON.stringify([pair, idempotencyKey])) ?? -1);
  }
  backlog(pair: string): number {
    return this.#untaken.get(pair) ?? 0;
  }
  expired(now: number): EventRow[] {
    return this.#expiring.items.slice(0, 8).filter((event) => event.expiresAt <= now);
  }
  slots(queue: string): number {
    return this.#holding.get(queue).size;
  }
  state(key: string): StateRow | undefined {
    return this.shared.get(key);
  }
  expiredState(now: number): string[] {
    return this.#expiringState.items
      .slice(0, 8)
      .filter(({ expiresAt }) => expiresAt! <= now)
      .map(({ key }) => key);
  }

  /** Rows with something due, by lane in their order; each ordered by (`dueAt`, `seq`). */
  dueRows(): (readonly RunRow[])[] {
    return [...this.#due].sort(([a], [b]) => a - b).map(([, { items }]) => items);
  }

  /** Writes what a committed transition decided. Journals are the caller's. */
  apply(writes: Writes): void {
    for (const { row } of writes.runs.values()) this.putRun(row);
    for (const event of writes.events.values()) this.putEvent(event);
    for (const seq of writes.drops) this.dropEvent(seq);
    for (const [key, row] of writes.state) this.putState(key, row);
    for (const runId of writes.deletes) this.dropRun(runId);
    this.lastClock = writes.clock;
  }

  /**
   * Indexes the runs from here on. Tables are made with indexes, or (`false`) without: who reads a log puts many rows of each
   * run, and is asked for none before it has read all of it.
   */
  index(): void {
    if (this.#isIndexed) return;
    this.#isIndexed = true;
    const lanes = new Map<number, RunRow[]>();
    for (const row of this.runs.values()) {
      this.#add(row);
      if (row.dueAt === undefined) continue;
      const lane = lanes.get(laneOf(row));
      if (lane) lane.push(row);
      else lanes.set(laneOf(row), [row]);
    }
    for (const [lane, rows] of lanes) this.#due.set(lane, new Ordered(dueAtOf, rows));
  }

  putRun(row: RunRow): void {
    const old = this.runs.get(row.runId);
    this.runs.set(row.runId, row);
    if (!this.#isIndexed || (old && this.#isIndexedAs(old, row))) return;
    if (old) this.#unindex(old);
    this.#add(row);
    if (row.dueAt === undefined) return;
    const lane = laneOf(row);
    const due = this.#due.get(lane) ?? new Ordered(dueAtOf);
    this.#due.set(lane, due);
    due.add(row);
  }

  /** To all indexes but that of what is due. */
  #add(row: RunRow): void {
    if (row.idempotencyKey !== undefined) this.#keys.set(keyOf(row.job, row.idempotencyKey), row.runId);
    for (const pair of pairsOf(row)) this.#waiting.add(pair, row.runId);
    for (const awaited of row.awaits ?? []) this.#awaiting.add(awaited, row.runId);
    if (row.parentId !== undefined) this.#children.add(row.parentId, row.runId);
    if (row.unique) this.#uniques.set(keyOf(row.job, row.unique.key), row.runId);
    if (row.slot !== undefined) this.#holding.add(row.slot, row.runId);
  }

  /** The common case, a step of a run that works on: the row takes the place of the one before. */
  #isIndexedAs(old: RunRow, row: RunRow): boolean {
    const isAlike =
      old.dueAt === row.dueAt &&
      laneOf(old) === laneOf(row) &&
      old.slot === row.slot &&
      old.unique?.key === row.unique?.key &&
      !(old.waits.length || row.waits.length || old.awaits || row.awaits);
    if (isAlike && row.dueAt !== undefined) this.#due.get(laneOf(row))!.replace(old, row);
    return isAlike;
  }

  /** Forgets a run that is kept elsewhere. */
  dropRun(runId: string): void {
    const row = this.runs.get(runId);
    if (!row) return;
    this.runs.delete(runId);
    if (!this.#isIndexed) return;
    this.#unindex(row);
    if (row.idempotencyKey !== undefined) this.#keys.delete(keyOf(row.job, row.idempotencyKey));
  }

  #unindex(row: RunRow): void {
    for (const pair of pairsOf(row)) this.#waiting.delete(pair, row.runId);
    for (const awaited of row.awaits ?? []) this.#awaiting.delete(awaited, row.runId);
    if (row.parentId !== undefined) this.#children.delete(row.parentId, row.runId);
    const unique = row.unique && keyOf(row.job, row.unique.key);
    if (unique && this.#uniques.get(unique) === row.runId) this.#uniques.delete(unique);
    if (row.slot !== undefined) this.#holding.delete(row.slot, row.runId);
    const lane = laneOf(row);
    const due = row.dueAt === undefined ? undefined : this.#due.get(lane);
    due?.delete(row);
    if (due?.items.length === 0) this.#due.delete(lane);
  }

  putState(key: string, row: StateRow | undefined): void {
    const old = this.shared.get(key);
    if (old?.expiresAt !== undefined) this.#expiringState.delete({ ...old, seq: old.revision });
    if (row) this.shared.set(key, row);
    else this.shared.delete(key);
    if (row?.expiresAt !== undefined) this.#expiringState.add({ ...row, seq: row.revision });
  }

  putEvent(event: EventRow): void {
    const pair = pairKey(event.name, event.key);
    const old = this.log.get(event.seq);
    this.log.set(event.seq, event);
    this.#count(pair, (event.taken ? 0 : 1) - (old && !old.taken ? 1 : 0));
    if (old) this.#expiring.delete(old);
    this.#expiring.add(event);
    if (old) return;
    this.#events.add(pair, event.seq);
    this.#eventIds.set(event.id, event.seq);
    if (event.idempotencyKey !== undefined)
      this.#eventKeys.set(JSON.stringify([pair, event.idempotencyKey]), event.seq);
  }

  dropEvent(seq: number): void {
    const event = this.log.get(seq);
    if (!event) return;
    const pair = pairKey(event.name, event.key);
    this.log.delete(seq);
    this.#expiring.delete(event);
    this.#events.delete(pair, seq);
    if (!event.taken) this.#count(pair, -1);
    if (this.#eventIds.get(event.id) === seq) this.#eventIds.delete(event.id);
    const key = event.idempotencyKey !== undefined && JSON.stringify([pair, event.idempotencyKey]);
    if (key && this.#eventKeys.get(key) === seq) this.#eventKeys.delete(key);
  }

  #count(pair: string, by: number): void {
    const count = (this.#untaken.get(pair) ?? 0) + by;
    if (count) this.#untaken.set(pair, count);
    else this.#untaken.delete(pair);
  }
}

/** Whether a row is asked for by a list query, its cursor included. */
export function fitsList(row: RunRow, query: ListQuery): boolean {
  const { status, job, tag, cursor, endedBefore } = query;
  return (
    (status === undefined || (typeof status === 'string' ? status === row.status : status.includes(row.status))) &&
    (job === undefined || job === row.job) &&
    (tag === undefined || (row.tags?.includes(tag) ?? false)) &&
    (cursor === undefined || row.seq < Number(cursor)) &&
    (endedBefore === undefined || (row.endedAt ?? Infinity) < endedBefore)
  );
}

/** One page of rows, newest first. */
export function listPage(rows: Iterable<RunRow>, query: ListQuery): { rows: RunRow[]; nextCursor?: string } {
  const fitting = [...rows].filter((row) => fitsList(row, query)).sort((a, b) => b.seq - a.seq);
  const page = fitting.slice(0, query.limit);
  return { rows: page, ...(fitting.length > page.length && { nextCursor: String(page.at(-1)!.seq) }) };
}
