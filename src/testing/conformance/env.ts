import type {
  Batch,
  CommitOutcome,
  Deletion,
  EventOutcome,
  NewEvent,
  NewRun,
  RunChange,
  StateChange,
  StateOutcome,
} from '../../store/batch.js';
import type { JournalEntry } from '../../store/journal.js';
import type { EventRow, OpenWait, RunRow, RunState, StateRow, StoredRun } from '../../store/rows.js';
import type { DuePage, DueQuery, OpenOptions, Store } from '../../store/store.js';
import type { Json } from '../../values/json.js';
import { check, equal } from './kit.js';

/*
 * The surroundings of one case: stores on one fresh medium, and short words for the batches that an engine would send.
 */

/** What stores keep runs in. Called, it gives a new store object over it: another context, such as a second tab. */
export interface Medium {
  (): Store;
  /** Removes the medium at the end of a case. */
  dispose?(): void | Promise<void>;
}

/** What a case is given. Stores that it opens are closed for it. */
export interface ConformanceEnv {
  /** The instant that the case calls now. */
  readonly now: number;
  readonly owners: 'one' | 'many';
  /** Opens another context on the medium of the case. Default: mode `drive`, owner `a`. */
  open(mode?: OpenOptions['mode'], owner?: string, options?: Partial<OpenOptions>): Promise<Store>;
  /** Opens a second context: a driver where the store allows several, else one that only uses the store. */
  openOther(owner?: string): Promise<Store>;
  /** Another context on the medium of the case, which the case itself opens. */
  unopened(): Store;
}

/** One fact about stores. */
export interface ConformanceCase {
  readonly group: string;
  /** A sentence, unique in the suite: also what `skip` names. */
  readonly name: string;
  /** Runs only where several contexts may drive (`capabilities.owners`). */
  readonly owners?: 'many';
  /** Runs only where the store can `abandon`. */
  readonly abandons?: true;
  readonly run: (env: ConformanceEnv) => Promise<void>;
}

type Limits = Pick<ConformanceCase, 'owners' | 'abandons'>;

/** Collects the cases of one group. */
export function caseGroup(group: string): {
  readonly cases: ConformanceCase[];
  readonly fact: (name: string, run: ConformanceCase['run'], limits?: Limits) => void;
} {
  const cases: ConformanceCase[] = [];
  return { cases, fact: (name, run, limits = {}) => void cases.push({ group, name, run, ...limits }) };
}

export const now = 1_750_000_000_000;
export const leaseMs = 15_000;
const day = 86_400_000;

export const started = (payload: Json = null): JournalEntry => ({ kind: 'started', at: now, payload });

export const stepped = (name: string, value: Json = null): JournalEntry => ({
  kind: 'step-completed',
  at: now,
  id: [name, 1],
  asked: 1,
  attempt: 1,
  value,
});

export const newRun = (runId: string, over: Partial<NewRun> = {}): NewRun => ({
  runId,
  job: 'job',
  version: 1,
  queue: 'queue',
  dueAt: now,
  entries: [started()],
  ...over,
});

export const newEvent = (id: string, over: Partial<NewEvent> = {}): NewEvent => ({
  id,
  name: 'event',
  payload: id,
  ttlMs: 30 * day,
  maxBacklog: 1000,
  ...over,
});

export const openWait = (over: Partial<OpenWait> = {}): OpenWait => ({
  id: ['event', 1],
  events: ['event'],
  after: 0,
  ...over,
});

export const running = (owner = 'a', over: Partial<RunState> = {}): RunState => ({
  status: 'running',
  version: 1,
  owner,
  dueAt: now,
  waits: [],
  ...over,
});

export const waiting = (waits: readonly OpenWait[], over: Partial<RunState> = {}): RunState => ({
  status: 'waiting',
  version: 1,
  owner: 'a',
  waits,
  ...over,
});

export const ended = (status: 'completed' | 'failed' | 'cancelled' = 'completed'): RunState => ({
  status,
  version: 1,
  waits: [],
  endedAt: now,
});

export const claim = (runId: string, fence: number, owner = 'a', over: Partial<RunChange> = {}): RunChange => ({
  runId,
  fence,
  raise: true,
  append: [{ kind: 'claimed', at: now, owner, fence: fence + 1 }],
  state: running(owner),
  ...over,
});

/** The owner of a run (fence 1) takes an event. */
export const take = (runId: string, seq: number, untaken = false) => ({
  runId,
  fence: 1,
  append: [],
  state: running(),
  takes: [{ seq, ...(untaken && { untaken }) }],
});

/** The owner of a run (fence 1) says that its waits have timed out. */
export const timedOut = (runId: string, unless: readonly OpenWait[]) => ({
  runId,
  fence: 1,
  append: [],
  state: running(),
  unless,
});

/** The owner of a run (fence 1) puts it to sleep, and releases it unless it says who it is. */
export const slept = (runId: string, dueAt: number, owner?: string) => ({
  runId,
  fence: 1,
  append: [],
  state: { status: 'sleeping', version: 1, waits: [], dueAt, ...(owner !== undefined && { owner }) } as const,
});

export type Committed = Extract<CommitOutcome, { kind: 'committed' }>;

/** Commits, and expects `committed`. */
export async function commit(store: Store, batch: Partial<Batch>): Promise<Committed> {
  const outcome = await store.commit({ now, ...batch });
  check(outcome.kind === 'committed', `the commit was not accepted: ${JSON.stringify(outcome)}`);
  return outcome;
}

/** Commits, and expects any other outcome. */
export async function refused(
  store: Store,
  batch: Partial<Batch>,
  kind: CommitOutcome['kind'],
): Promise<CommitOutcome> {
  const outcome = await store.commit({ now, ...batch });
  equal(outcome.kind, kind, 'the kind of the outcome');
  return outcome;
}

export const start = (store: Store, runId: string, over: Partial<NewRun> = {}): Promise<Committed> =>
  commit(store, { starts: [newRun(runId, over)] });

/** Starts runs and claims each: their fence is 1 then. */
export async function claimed(store: Store, ...runIds: string[]): Promise<void> {
  await commit(store, { starts: runIds.map((runId) => newRun(runId)) });
  for (const runId of runIds) await commit(store, { run: claim(runId, 0) });
}

/** The owner of a claimed run (fence 1) opens these waits. Gives the events offered to it. */
export async function wait(store: Store, runId: string, ...waits: OpenWait[]): Promise<readonly EventRow[]> {
  return (await commit(store, { run: { runId, fence: 1, append: [], state: waiting(waits) } })).offers;
}

/** The owner of a claimed run (fence 1) awaits the end of these runs. */
export const awaitEnds = (store: Store, runId: string, ...awaits: string[]): Promise<Committed> =>
  commit(store, { run: { runId, fence: 1, append: [], state: waiting([], { awaits }) } });

/** The owner of a claimed run (fence 1) ends it. */
export const end = (store: Store, runId: string, status?: Parameters<typeof ended>[0]): Promise<Committed> =>
  commit(store, { run: { runId, fence: 1, append: [], state: ended(status) } });

export const cancelling = (runId: string): RunChange => ({
  runId,
  fence: 'any',
  raise: true,
  append: [{ kind: 'cancelled', at: now }],
  state: ended('cancelled'),
});

/** Any context cancels a run. */
export const cancel = (store: Store, runId: string): Promise<Committed> => commit(store, { run: cancelling(runId) });

export const deletion = (runId: string, fence = 1): Deletion => ({ runId, fence, fingerprint: `of ${runId}` });

/** Deletes runs whose fence is 1. */
export const remove = (store: Store, ...runIds: string[]) =>
  commit(store, { deletes: runIds.map((runId) => deletion(runId)) });

/** Runs that have ended: their fence is 1. */
export async function over(store: Store, ...runs: readonly (NewRun | string)[]): Promise<void> {
  for (const run of runs.map((each) => (typeof each === 'string' ? newRun(each) : each))) {
    await commit(store, { starts: [run] });
    await commit(store, { run: claim(run.runId, 0, 'a', { state: ended() }) });
  }
}

/** A part that gets every batch refused, with `RUN_NOT_FOUND`: what else is in it must leave no trace. */
export const spoiled = { events: [newEvent('spoils', { runId: 'nobody' })] };

/** Writes to the shared state. */
export const change = async (store: Store, ...state: StateChange[]): Promise<readonly StateOutcome[]> =>
  (await commit(store, { state })).state;

/** The row of a key of the shared state, unless its time is over. */
export async function stateOf(store: Store, key: string, at = now): Promise<StateRow | undefined> {
  const row = await store.state(key);
  return row && (row.expiresAt ?? Infinity) > at ? row : undefined;
}

export async function dispatch(
  store: Store,
  id: string,
  over: Partial<NewEvent> = {},
  at = now,
): Promise<EventOutcome> {
  return (await commit(store, { now: at, events: [newEvent(id, over)] })).events[0]!;
}

export const ids = (events: readonly { readonly id: string }[]): string[] => events.map((event) => event.id);

/** Every living event of a pair, as a new run that looks at all of them is offered. */
export async function eventsOf(store: Store, name = 'event', key?: string, at = now): Promise<readonly EventRow[]> {
  const runId = `looks at ${name} of ${key ?? 'no key'} at ${at}`;
  await claimed(store, runId);
  const looks = openWait({ events: [name], ...(key !== undefined && { key }) });
  const run = { runId, fence: 1, append: [], state: waiting([looks]) };
  const { offers } = await commit(store, { now: at, run });
  await commit(store, { run: { runId, fence: 1, append: [], state: ended() } });
  return offers;
}

export async function load(store: Store, runId: string): Promise<StoredRun> {
  const run = await store.load(runId);
  check(run !== undefined, `run ${JSON.stringify(runId)} is not in the store`);
  return run;
}

export const rowOf = async (store: Store, runId: string): Promise<RunRow> => (await load(store, runId)).row;

export const due = (store: Store, over: Partial<DueQuery> = {}): Promise<DuePage> =>
  store.due({ now, owner: 'a', jobs: { job: 1 }, limit: 100, graceMs: 5_000, ...over });

export const dueIds = (page: DuePage): string[] => page.runs.map(({ row }) => row.runId);
