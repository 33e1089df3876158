import { StepfastError } from '../../src/errors.js';
import type { CommitOutcome, StateChange } from '../../src/store/batch.js';
import type { StateRow } from '../../src/store/rows.js';
import type { Json } from '../../src/values/json.js';
import { sumOf } from '../../src/values/sum.js';

/*
 * A store can not add to a number that it can not read: an increment is read, added to here, and set on the condition
 * that nobody has written the row since; else once more.
 */

/** Somebody wins each round, so that this is reached only among very many contexts. */
const MAX_TRIES = 100;
/** No row has this revision: a change on this condition is refused. */
const NEVER = -1;

interface Counting {
  readonly now: number;
  /** The changes as the engine has asked for them, and as they go to the store, increments excepted. */
  readonly given: readonly StateChange[];
  readonly sealed: readonly StateChange[];
  /** The row of a change's key as it lies in the store, with its value opened. */
  read(index: number): Promise<StateRow | undefined>;
  sealValue(index: number, value: Json): Promise<StateChange & { readonly kind: 'set' }>;
  commit(changes: readonly StateChange[]): Promise<CommitOutcome>;
}

/** A value as it will stand when a change is reached, by what this batch does before. */
interface Known {
  readonly value: Json | undefined;
  readonly expiresAt?: number | undefined;
}

interface Round {
  readonly changes: StateChange[];
  /** By index: the sum of an increment. */
  readonly sums: Map<number, number>;
  /** The increment whose sum is no finite number. */
  readonly misfit: number | undefined;
}

async function prepare(counting: Counting): Promise<Round> {
  const { now, given, sealed } = counting;
  const known = new Map<string, Known>();
  const changes = [...sealed];
  const sums = new Map<number, number>();
  for (const [index, change] of given.entries()) {
    const { key } = change;
    if (change.kind === 'set') known.set(key, change);
    if (change.kind === 'delete') known.set(key, { value: undefined });
    if (change.kind === 'lock') known.set(key, { value: {} });
    if (change.kind !== 'increment') continue;
    const earlier = known.get(key);
    const row = earlier ?? (await counting.read(index));
    const live = row && (row.expiresAt ?? Infinity) > now ? row : undefined;
    const value = sumOf(live?.value, change.by);
    if (value === undefined) {
      changes[index] = { kind: 'set', key: sealed[index]!.key, value: null, ifRevision: NEVER };
      return { changes, sums, misfit: index };
    }
    const { expiresAt = live?.expiresAt } = change;
    const set = await counting.sealValue(index, value);
    changes[index] = {
      ...set,
      ...(expiresAt !== undefined && { expiresAt }),
      ...(!earlier && { ifRevision: (live as StateRow | undefined)?.revision ?? 0 }),
    };
    known.set(key, { value, expiresAt });
    sums.set(index, value);
  }
  return { changes, sums, misfit: undefined };
}

/** Commits a batch with increments. */
export async function commitCounting(counting: Counting): Promise<CommitOutcome> {
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const { changes, sums, misfit } = await prepare(counting);
    const outcome = await counting.commit(changes);
    if (outcome.kind === 'committed') {
      const state = outcome.state.map((each, index) => (sums.has(index) ? { value: sums.get(index)! } : each));
      return { ...outcome, state };
    }
    if (outcome.kind !== 'refused' || outcome.code !== 'STATE_CHANGED') return outcome;
    if (outcome.index === misfit) return { ...outcome, code: 'NOT_A_NUMBER' };
    if (!sums.has(outcome.index)) return outcome;
  }
  throw new StepfastError(
    'STORE_UNAVAILABLE',
    `A shared number was written by others ${MAX_TRIES} times while it was to be incremented. Nothing was stored; try again.`,
  );
}
