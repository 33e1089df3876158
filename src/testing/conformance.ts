import type { Store } from '../store/store.js';
import { check as checkGiven } from '../values/check.js';
import { addressed } from './conformance/addressed.js';
import { atomicity } from './conformance/atomicity.js';
import { capabilities } from './conformance/capabilities.js';
import { cascades } from './conformance/cascades.js';
import { children } from './conformance/children.js';
import { awaitingBatches } from './conformance/children-batches.js';
import { copies } from './conformance/copies.js';
import { counters } from './conformance/counters.js';
import { deletions } from './conformance/deletions.js';
import { dueWork } from './conformance/due.js';
import { type ConformanceCase, type ConformanceEnv, leaseMs, type Medium, now } from './conformance/env.js';
import { events } from './conformance/events.js';
import { fences } from './conformance/fences.js';
import { hints } from './conformance/hints.js';
import { check } from './conformance/kit.js';
import { life } from './conformance/life.js';
import { lists } from './conformance/list.js';
import { locks } from './conformance/locks.js';
import { ownedWork } from './conformance/owners.js';
import { priorities } from './conformance/priority.js';
import { rates } from './conformance/rates.js';
import { releases } from './conformance/releases.js';
import { remembered } from './conformance/remembered.js';
import { restarts } from './conformance/restarts.js';
import { slots } from './conformance/slots.js';
import { starts } from './conformance/starts.js';
import { sharedState } from './conformance/state.js';
import { takes } from './conformance/takes.js';
import { undoings } from './conformance/undoing.js';
import { uniqueKeys } from './conformance/unique.js';
import { values } from './conformance/values.js';
import { waits } from './conformance/waits.js';
import { wholes } from './conformance/whole.js';

/*
 * The suite that every store passes. It needs no test runner and no platform beyond timers: `runConformance` runs it
 * in a page, `storeConformance` registers it with the `describe` and `it` of a runner.
 */

export type { ConformanceCase, ConformanceEnv, Medium } from './conformance/env.js';

/** Makes a new, empty medium; what it returns gives a new store object over that medium with each call. */
export type FreshMedium = () => Medium | Promise<Medium>;

/** Every case, in the order in which they are best read. */
export const conformanceCases: readonly ConformanceCase[] = [
  ...starts,
  ...uniqueKeys,
  ...copies,
  ...fences,
  ...atomicity,
  ...events,
  ...addressed,
  ...waits,
  ...takes,
  ...dueWork,
  ...priorities,
  ...ownedWork,
  ...slots,
  ...rates,
  ...children,
  ...awaitingBatches,
  ...cascades,
  ...undoings,
  ...restarts,
  ...sharedState,
  ...counters,
  ...locks,
  ...deletions,
  ...remembered,
  ...values,
  ...wholes,
  ...lists,
  ...life,
  ...hints,
  ...releases,
  ...capabilities,
];

/** Why a store is not asked for some cases, by the name of the case. */
export type ConformanceSkips = { readonly [name: string]: string };

/** The two functions of a test runner that the suite needs; those of Vitest, Jest, Mocha and `node:test` fit. */
export interface ConformanceRunner {
  readonly describe: (name: string, body: () => void) => unknown;
  readonly it: (name: string, body: () => Promise<void>, timeoutMs?: number) => unknown;
}

export type ConformanceResult = {
  readonly kind: 'passed' | 'skipped' | 'failed';
  readonly group: string;
  readonly name: string;
} & (
  | { readonly kind: 'passed' }
  | { readonly kind: 'skipped'; readonly reason: string }
  | { readonly kind: 'failed'; readonly error: unknown }
);

const timeoutMs = 60_000;

/** Runs one case on a fresh medium. Gives the reason when what the store declares rules the case out. */
async function runCase(one: ConformanceCase, freshMedium: FreshMedium): Promise<string | undefined> {
  const medium = await freshMedium();
  const opened: Store[] = [];
  let first: Store | undefined = medium();
  const { owners } = first.capabilities;
  const reason =
    one.owners === 'many' && owners === 'one'
      ? 'one context at a time drives this store'
      : one.abandons && !first.abandon
        ? 'this store has no abandon()'
        : undefined;
  const unopened = (): Store => {
    const store = first ?? medium();
    first = undefined;
    opened.push(store); // also one that could not be opened has something to let go of
    return store;
  };
  const open: ConformanceEnv['open'] = async (mode = 'drive', owner = 'a', options = {}) => {
    const store = unopened();
    const onError = (error: unknown) => void background.push(error);
    await store.open({ owner, now, leaseMs, mode, onError, ...options });
    return store;
  };
  const background: unknown[] = [];
  const openOther: ConformanceEnv['openOther'] = (owner = 'b') => open(owners === 'many' ? 'drive' : 'use', owner);
  try {
    if (reason === undefined) await one.run({ now, owners, open, openOther, unopened });
    // A store that had to report something in the background of a case that provokes nothing is not well.
    if (background.length) throw background[0];
  } finally {
    for (const store of opened.reverse()) await store.close();
    await medium.dispose?.();
  }
  return reason;
}

const checkMedium = (freshMedium: FreshMedium): void =>
  checkGiven(
    typeof freshMedium === 'function',
    'freshMedium',
    freshMedium,
    'a function that makes a new, empty medium',
  );

function checkSkips(skip: ConformanceSkips): void {
  const names = new Set(conformanceCases.map(({ name }) => name));
  for (const name of Object.keys(skip)) check(names.has(name), `"${name}" in \`skip\` is not a conformance case`);
}

/** Runs the suite without a test runner, in a page for instance, one case after the other. */
export async function runConformance(
  freshMedium: FreshMedium,
  options: { readonly skip?: ConformanceSkips; readonly onResult?: (result: ConformanceResult) => void } = {},
): Promise<readonly ConformanceResult[]> {
  const { skip = {}, onResult } = options;
  checkMedium(freshMedium);
  checkSkips(skip);
  const results: ConformanceResult[] = [];
  for (const one of conformanceCases) {
    const { group, name } = one;
    let result: ConformanceResult;
    try {
      const reason = Object.hasOwn(skip, name) ? skip[name]! : await runCase(one, freshMedium);
      result = reason === undefined ? { kind: 'passed', group, name } : { kind: 'skipped', group, name, reason };
    } catch (error) {
      result = { kind: 'failed', group, name, error };
    }
    results.push(result);
    onResult?.(result);
  }
  return results;
}

/**
 * Registers the suite with a test runner.
 *
 * @param options.skip Reasons by case name; a skipped case shows its reason. A name that is no case is refused.
 * @example
 * import { describe, it } from 'vitest';
 * storeConformance('memory', () => { const medium = memoryMedium(); return () => memoryStore({ medium }); }, { describe, it });
 */
export function storeConformance(
  name: string,
  freshMedium: FreshMedium,
  options: ConformanceRunner & { readonly skip?: ConformanceSkips },
): void {
  const { describe, it, skip = {} } = options ?? {};
  const isRunner = typeof describe === 'function' && typeof it === 'function';
  checkGiven(isRunner, 'The test runner', options, '{ describe, it }');
  checkMedium(freshMedium);
  checkSkips(skip);
  describe(`${name} store`, () => {
    for (const group of new Set(conformanceCases.map((one) => one.group)))
      describe(group, () => {
        for (const one of conformanceCases.filter((each) => each.group === group)) {
          const given = Object.hasOwn(skip, one.name) ? skip[one.name] : undefined;
          // A rest parameter keeps the function's length 0: runners take a named one for a callback.
          const body = async (...context: readonly unknown[]) => {
            const reason = given ?? (await runCase(one, freshMedium));
            const test = context[0] as { skip?: (reason: string) => unknown } | undefined;
            if (reason !== undefined) await test?.skip?.(reason);
          };
          it(given === undefined ? one.name : `${one.name} (skipped: ${given})`, body, timeoutMs);
        }
      });
  });
}
