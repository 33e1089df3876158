import { sumOf } from '../../values/sum.js';
import type { CommitOutcome, RunChange, StateChange, StateOutcome } from '../batch.js';
import { isAhead } from '../due.js';
import type { RunRow } from '../rows.js';
import type { Scope } from './scope.js';
import type { Work } from './work.js';

/** Under these keys of the shared state a deleted run is remembered (spec Q1). */
export const tombstoneKeys = ({ runId, job, idempotencyKey }: Pick<RunRow, 'runId' | 'job' | 'idempotencyKey'>) => [
  `stepfast:run:${runId}`,
  ...(idempotencyKey === undefined ? [] : [`stepfast:key:${JSON.stringify([job, idempotencyKey])}`]),
];

/** One write to the shared state (spec D8). */
export function* changeState(
  scope: Scope,
  change: StateChange,
  index: number,
): Work<StateOutcome | (CommitOutcome & { kind: 'refused' })> {
  const { key } = change;
  const row = yield* scope.state(key);
  const refuse = (code: 'STATE_CHANGED' | 'NOT_A_NUMBER') => ({ kind: 'refused', code, index }) as const;
  switch (change.kind) {
    case 'set': {
      const { value, expiresAt, ifRevision } = change;
      if (ifRevision !== undefined && ifRevision !== (row?.revision ?? 0)) return refuse('STATE_CHANGED');
      scope.putState({ key, value, ...(expiresAt !== undefined && { expiresAt }) });
      return {};
    }
    case 'delete':
      scope.writes.state.set(key, undefined);
      return {};
    case 'increment': {
      const { expiresAt = row?.expiresAt } = change;
      const value = sumOf(row?.value, change.by);
      if (value === undefined) return refuse('NOT_A_NUMBER');
      scope.putState({ key, value, ...(expiresAt !== undefined && { expiresAt }) });
      return { value };
    }
    case 'lock': {
      // The token has to grow after the lock has expired too: its row stays, only the holder goes.
      const { heldUntil = 0, setAt } = (row?.value ?? {}) as { readonly heldUntil?: number; readonly setAt?: number };
      const isHeld = heldUntil > scope.now && !isAhead(setAt, scope.now);
      if (row?.holder !== undefined && row.holder !== change.holder && isHeld) return {};
      const token = (row?.token ?? 0) + 1;
      scope.putState({ key, value: { heldUntil: change.expiresAt, setAt: scope.now }, token, holder: change.holder });
      return { token };
    }
    case 'unlock':
      if (row?.token === change.token) scope.putState({ key, value: {}, token: change.token });
      return {};
  }
}

/** Under this key of the shared state is what jobs say of their queues: a list of `LaneRow`. */
export const LANES = 'stepfast:lanes';

/** What a job says of its queue, for contexts that have not registered it. Persisted for ever. */
export interface LaneRow extends Pick<RunChange, 'concurrency' | 'rate'> {
  readonly job: string;
  readonly queue: string;
}

/** What a queue allows, where the context that takes a slot does not know it (spec Q2). */
export function* laneOf(
  scope: Scope,
  queue: string,
  { concurrency, rate, defaultConcurrency }: RunChange,
): Work<Pick<RunChange, 'concurrency' | 'rate'>> {
  if (defaultConcurrency === undefined) return { concurrency, rate } as RunChange;
  const said = ((yield* scope.state(LANES))?.value ?? []) as unknown as readonly LaneRow[];
  const lane: Partial<LaneRow> = Object.assign({}, ...said.filter((each) => each.queue === queue));
  return {
    concurrency: concurrency ?? lane.concurrency ?? defaultConcurrency,
    rate: rate ?? lane.rate,
  } as RunChange;
}

/** Counts a slot that is given out against the rate of its queue (spec Q2). */
export function* takeRate(
  scope: Scope,
  queue: string,
  { limit, perMs }: NonNullable<RunChange['rate']>,
): Work<CommitOutcome | undefined> {
  const key = `stepfast:rate:${queue}`;
  const { now } = scope;
  const given = ((yield* scope.state(key))?.value ?? []) as readonly number[];
  // What a clock that ran ahead has left does not count (spec Q4); what came a moment before us, by a clock a little ahead, does.
  const recent = given.filter((at) => at > now - perMs && !isAhead(at, now)).sort((a, b) => a - b);
  if (recent.length >= limit) return { kind: 'no-slot', retryAt: recent[recent.length - limit]! + perMs };
  scope.putState({ key, value: [...recent, now], expiresAt: Math.max(now, ...recent) + perMs });
  return undefined;
}
