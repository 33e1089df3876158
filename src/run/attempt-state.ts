import { createState, type State, type StateHost } from '../door/state.js';
import { incrementKey } from '../replay/keys.js';
import type { Ask } from '../replay/replay.js';
import type { StateChange } from '../store/batch.js';
import type { StateRow } from '../store/rows.js';
import { sumOf } from '../values/sum.js';
import type { AttemptHost, Outcome } from './attempt.js';
import { notANumber } from './increments.js';

/*
 * The shared state as one attempt sees it (spec D8).
 *
 * What the function writes waits for its result and is committed with it, or not at all; reads see it before. Increments are
 * kept as deltas; only one whose number is asked for is committed at once, and journaled, so that a repeated attempt gets the
 * number and counts nothing again. Deltas that the attempt has not asked about are not in it: committed with it, they would
 * stay though the attempt fails, and another attempt may have others to add.
 */

/** @param check Throws when the attempt is over. */
export function attemptState(
  host: AttemptHost,
  ask: Ask,
  holder: string,
  check: () => void,
): {
  readonly state: State;
  /** What a function has come to that has returned, with what it wrote: a write that was refused, and that nobody awaited, fails it. */
  readonly withChanges: (outcome: Outcome) => readonly [Outcome, readonly StateChange[]];
} {
  const { run, platform } = host;
  let pending: StateChange[] = [];
  const numbers = new Map<string, number>();

  const isPresent = (row: StateRow | undefined) => (row?.expiresAt ?? Infinity) > platform.clock.now();
  /** The row as it would be with what was written before this change; absent: with all of it. */
  const read = async (key: string, until?: StateChange): Promise<StateRow | undefined> => {
    const stored = await host.state.read(key);
    let row = isPresent(stored) ? stored : undefined;
    for (const change of pending) {
      if (change === until) break;
      if (change.key === key) row = applied(row, change);
    }
    return row;
  };
  const commit: StateHost['commit'] = async (changes) => {
    if (changes.some(({ kind }) => kind === 'lock' || kind === 'unlock')) return host.state.commit(changes);
    pending.push(...changes);
    return changes.map(() => ({}));
  };
  const options = { ...host, read: (key: string) => read(key), losses: () => host.state.losses(), holder, check };
  const state = createState({ ...options, commit });

  /** The number that an increment gives, once it is asked for. */
  const numberOf = async (change: Extract<StateChange, { kind: 'increment' }>): Promise<number> => {
    check();
    const { key } = change;
    const earlier = pending.slice(0, pending.indexOf(change));
    if (earlier.some((other) => other.key === key && other.kind !== 'increment')) {
      // What it adds to is this attempt's own: nobody else counts there before the result is committed.
      const sum = sumOf((await read(key, change))?.value, change.by);
      if (sum === undefined) {
        pending = pending.filter((other) => other !== change); // refused here, and not once more with the result
        throw notANumber(change);
      }
      return sum;
    }
    const nth = (numbers.get(key) ?? 0) + 1;
    numbers.set(key, nth);
    pending = pending.filter((other) => other !== change);
    const known = run.digest.increments.get(ask.key)?.get(incrementKey({ key, nth }));
    if (known !== undefined) return known;
    return new Promise((resolve, reject) => {
      run.increments.push({ ask, nth, change, resolve, reject });
      host.pump();
    });
  };

  const increment: State['increment'] = (key, by, expiry) => {
    let change: StateChange | undefined;
    const take: StateHost['commit'] = async (changes) => {
      change = changes[0];
      return [{ value: 0 }];
    };
    const checked = createState({ ...options, commit: take }).increment(key, by, expiry);
    const counted = change;
    if (counted?.kind !== 'increment') return checked; // refused at the door
    pending.push(counted);
    let number: Promise<number> | undefined;
    return promised(() => (number ??= numberOf(counted)));
  };
  /** A refusal is for whoever awaits it, and never reaches the process as unhandled (spec R8). */
  const refusals = new Set<{ readonly error: unknown }>();
  const heardOrNot =
    <Given extends readonly unknown[], Value>(use: (...given: Given) => Promise<Value>) =>
    (...given: Given): Promise<Value> => {
      const answer = use(...given);
      if (!(answer instanceof Promise)) return answer; // a number that is to be asked for
      let refusal: { readonly error: unknown } | undefined;
      let isHeard = false;
      answer.catch((error: unknown) => {
        refusal = { error };
        if (!isHeard) refusals.add(refusal);
      });
      return promised(() => {
        isHeard = true;
        if (refusal) refusals.delete(refusal);
        return answer;
      });
    };
  const words = Object.entries({ ...state, increment }).map(([word, use]) => [word, heardOrNot(use as never)]);
  return {
    state: Object.fromEntries(words),
    withChanges(outcome) {
      const [refused] = refusals;
      return refused ? [{ ...refused, isUnknown: true }, []] : [outcome, pending];
    },
  };
}

const applied = (row: StateRow | undefined, change: StateChange): StateRow | undefined => {
  const { key } = change;
  if (change.kind === 'set') return { key, value: change.value, revision: 0, expiresAt: change.expiresAt };
  if (change.kind !== 'increment') return undefined;
  const value = sumOf(row?.value, change.by);
  // Refused with the result; until then it is what it was.
  return value === undefined ? row : { key, value, revision: 0, expiresAt: change.expiresAt ?? row?.expiresAt };
};

/** A promise that is made, or looked at, when somebody asks for its value. */
const promised = <Value>(ask: () => Promise<Value>): Promise<Value> => ({
  then: (resolve, reject) => ask().then(resolve, reject),
  catch: (reject) => ask().catch(reject),
  finally: (settle) => ask().finally(settle),
  [Symbol.toStringTag]: 'Promise',
});
