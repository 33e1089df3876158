import { StepfastError } from '../../src/errors.js';
import type { CommitOutcome } from '../../src/store/batch.js';
import { copyOf } from '../../src/store/copy.js';
import { selectByLane, withOffers } from '../../src/store/due.js';
import { FORMAT_VERSION, type JournalEntry } from '../../src/store/journal.js';
import type { DuePage, OpenOptions, Store, StoreListener } from '../../src/store/store.js';
import { listPage, Tables } from '../../src/store/tables.js';
import { type Transition, transition } from '../../src/store/transition.js';
import { check, checkOptions } from '../../src/values/check.js';
import { isReadable } from '../../src/values/same.js';

/*
 * The smallest store, the one to read first. Nothing outlives the process: for tests, and for pages that have no
 * storage at all.
 *
 * M1. Everything is done in the call itself, before anything is awaited: tables in memory answer at once, so a transition
 *     over them decides at once, and nothing can come between. The promise is for the caller alone.
 */

/** What several memory stores share: the medium that a file or a database is for the others. */
export interface MemoryMedium {
  readonly tables: Tables;
  readonly journals: Map<string, JournalEntry[]>;
  readonly owners: Set<string>;
  readonly listeners: Set<(runId: string, by: Store) => void>;
  /** The least format that code must write, to write here. */
  minWriter: number;
}

/** A medium for `memoryStore({ medium })`, so that several engines, or one after another, see the same runs. */
export function memoryMedium(): MemoryMedium {
  return {
    tables: new Tables(),
    journals: new Map(),
    owners: new Set(),
    listeners: new Set(),
    minWriter: 1,
  };
}

/** A `Blob` or `File` stays the one it is: nobody can change it, and Node 20 makes a `Blob` of each `File` that it clones. */
const copy = <T>(value: T): T => copyOf(value, (leaf: object) => (isReadable(leaf) ? leaf : structuredClone(leaf)));

/** An outcome as its caller gets it: only events, and what is awaited, are in the tables as well. */
const released = (outcome: CommitOutcome): CommitOutcome => {
  const isShared =
    outcome.kind === 'overtaken' ||
    (outcome.kind === 'committed' && outcome.offers.length + outcome.events.length + outcome.ended.length > 0);
  return isShared ? copy(outcome) : outcome;
};

/**
 * A store in memory: nothing survives the process.
 *
 * @param options.medium What to keep runs in; share one to let several engines see the same runs. Default: a new one.
 * @example const stepfast = createStepfast({ store: memoryStore() });
 */
export function memoryStore(options: { readonly medium?: MemoryMedium } = {}): Store {
  checkOptions(options, ['medium'], 'The options of memoryStore');
  const { medium = memoryMedium() } = options;
  check(medium?.tables instanceof Tables, 'medium', medium, 'what memoryMedium() has made');
  const { tables, journals, owners, listeners } = medium;
  const mine = new Set<(runId: string, by: Store) => void>();
  let owner: string | undefined;
  let onError: (error: unknown) => void = () => undefined;
  let format = FORMAT_VERSION;
  let isClosed = false;

  const leave = () => {
    isClosed = true;
    if (owner !== undefined) owners.delete(owner);
    for (const listener of mine) listeners.delete(listener);
  };
  const assertOpen = () => {
    if (isClosed) throw new StepfastError('CLOSED', 'The memory store is closed. Create a new one to go on.');
  };
  const assertWriter = () => {
    if (format >= medium.minWriter) return;
    if (owner !== undefined) owners.delete(owner); // its runs are others' now
    throw new StepfastError(
      'STORE_TOO_NEW',
      `A newer release writes to this store (format ${medium.minWriter}, this one writes ${format}). Load the newer code; nothing was changed.`,
    );
  };
  const stored = (runId: string) => {
    const row = tables.run(runId);
    return row && { row, journal: journals.get(runId) ?? [] };
  };

  const store: Store = {
    name: 'memory',
    capabilities: { durability: 'none', owners: 'many', blobs: true },
    async open(open: OpenOptions) {
      assertOpen();
      owner = open.owner;
      onError = open.onError;
      format = open.format ?? FORMAT_VERSION;
      if (open.mode === 'drive') {
        assertWriter();
        medium.minWriter = format;
      }
      owners.add(owner);
    },
    async close() {
      leave();
    },
    abandon: leave,
    async commit(given) {
      assertOpen();
      assertWriter();
      const { outcome, writes } = transition(tables, copy(given)) as Transition; // M1, S6
      if (outcome.kind !== 'committed') return released(outcome);
      tables.apply(writes);
      for (const [runId, { append, reset }] of writes.runs) {
        const journal = journals.get(runId);
        if (journal && !reset) journal.push(...append);
        else journals.set(runId, [...append]);
      }
      for (const runId of writes.deletes) journals.delete(runId);
      for (const runId of [...writes.runs.keys(), ...writes.deletes])
        for (const listener of listeners) listener(runId, store);
      return released(outcome);
    },
    async due(query) {
      assertOpen();
      const picked = selectByLane(tables.dueRows(), query, (id) => owners.has(id));
      return copy(withOffers(tables, picked, query.now) as DuePage); // M1, S6
    },
    async load(runId) {
      assertOpen();
      return copy(stored(runId));
    },
    async list(query) {
      assertOpen();
      const { rows, ...rest } = listPage(tables.runs.values(), query);
      return copy({ runs: rows.map((row) => stored(row.runId)!), ...rest });
    },
    async state(key) {
      assertOpen();
      return copy(tables.state(key));
    },
    watch(listener: StoreListener) {
      const hear = (runId: string, by: Store) => {
        try {
          listener(runId, by === store);
        } catch (error) {
          onError(error); // a listener is not part of the commit that it hears of
        }
      };
      listeners.add(hear);
      mine.add(hear);
      return () => {
        listeners.delete(hear);
        mine.delete(hear);
      };
    },
  };
  return store;
}
