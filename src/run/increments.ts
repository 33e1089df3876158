import { type StateHost, stateRefusal } from '../door/state.js';
import type { StepfastError } from '../errors.js';
import { incrementKey } from '../replay/keys.js';
import type { StateChange } from '../store/batch.js';
import { sumOf } from '../values/sum.js';
import type { Draft, LiveRun } from './live-run.js';
import type { Recorder } from './recorder.js';

/**
 * Increments of steps that wait for their numbers: one of each key in one commit, since each reads what it adds to, and
 * none of a key that this commit writes otherwise.
 */
export async function countUp(
  run: LiveRun,
  { state }: { readonly state: StateHost },
  { record }: Pick<Recorder, 'record'>,
  draft: Draft,
): Promise<void> {
  const keys = new Set(draft.state.map(({ key }) => key));
  for (const increment of [...run.increments]) {
    const { ask, nth, change } = increment;
    const { key } = change;
    if (run.losers.has(ask.key)) continue;
    const known = run.digest.increments.get(ask.key)?.get(incrementKey({ key, nth }));
    if (known !== undefined) {
      // Committed, and only the answer was lost.
      increment.resolve(known);
      run.increments = run.increments.filter((other) => other !== increment);
      continue;
    }
    if (keys.has(key)) continue;
    keys.add(key);
    const row = await state.read(key);
    const present = row && (row.expiresAt ?? Infinity) > draft.now ? row : undefined;
    run.increments = run.increments.filter((other) => other !== increment);
    const value = sumOf(present?.value, change.by);
    if (value === undefined) {
      increment.reject(notANumber(change));
      continue;
    }
    const expiresAt = change.expiresAt ?? present?.expiresAt;
    draft.state.push({ kind: 'set', key, value, expiresAt, ifRevision: present?.revision ?? 0 });
    draft.counted = [...(draft.counted ?? []), increment];
    record(draft, { kind: 'state-incremented', at: draft.now, id: ask.id, key, nth, value });
    draft.later.push(() => increment.resolve(value));
  }
}

/** Nobody counts for these any more: those of one step, or all. */
export function refuseIncrements(run: LiveRun, reason: () => unknown, key?: string): void {
  if (!run.increments.length) return;
  const isOver = ({ ask }: LiveRun['increments'][number]) => key === undefined || ask.key === key;
  const over = run.increments.filter(isOver);
  run.increments = run.increments.filter((each) => !isOver(each));
  for (const { reject } of over) reject(reason());
}

export const notANumber = (change: StateChange): StepfastError =>
  stateRefusal({ kind: 'refused', code: 'NOT_A_NUMBER', index: 0 }, [change]);
