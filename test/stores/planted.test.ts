import { expect, it } from 'vitest';
import { type MemoryMedium, memoryMedium, memoryStore } from '../../adapters/memory/index.js';
import type { Batch } from '../../src/store/batch.js';
import type { JournalEntry } from '../../src/store/journal.js';
import type { DueRun, Store, StoreListener } from '../../src/store/store.js';
import { conformanceCases, runConformance } from '../../src/testing/conformance.js';
import { isOurs } from '../../src/values/check.js';

// Pins: faults that a store of one's own may have, planted in a good one, and the cases of the suite that notice them.

/** What is different about a store with a fault. */
type Fault = (good: Store, medium: MemoryMedium) => Partial<Store>;

const MOST_ENTRIES = 2_000;
const MOST_OFFERS = 100;

const byTime = (journal: readonly JournalEntry[]) => [...journal].sort((a, b) => a.at - b.at);
const cut = (journal: readonly JournalEntry[]) => journal.slice(0, MOST_ENTRIES);

const reading =
  (look: (journal: readonly JournalEntry[]) => readonly JournalEntry[]): Fault =>
  (good) => ({
    async load(runId) {
      const run = await good.load(runId);
      return run && { ...run, journal: look(run.journal) };
    },
  });

const ORDER = 'a journal comes back in the order of its commits, whatever its entries say of the time';
const MANY_ENTRIES = 'a journal of 10,000 entries loads whole, and is listed whole';
const MANY_OFFERS = 'E7: a wait is offered 1,000 events, as many as its pair may hold';
const GIVEN = 'E8: a repeated event is told what the first was given, where its schema has made something else of it';

const OUTSIDE =
  'F9: a change from outside leaves the version and the start of a run as they are, whatever it was told of them';
const PLUGIN =
  'E4: an event that has not gone through the plug-in that has written a run is not for that run, nor the other way round';
const RATE = 'Q2: a rate counts within the time that it names, short or long';
const heardOf = (what: string) => `S7: a listener hears of ${what}, by its own context and by another`;
const OWN = 'S7: a driver is told which changes are its own; that anything may have changed is not';
const NOT_OWN = 'S7: what another context has done to a run is not told as its own, whoever owns the run';
const READABLE = 'S7: what a listener is told of a run can be read by then';
const BEFORE_OPEN = 'S7: a listener that came before its store was opened hears';
const PAGES = 'every page of a list is narrowed as the first is: by status, by job, by tag, and by all of them';
const LANES = 'Q2: within a priority what is timed goes before what is queued, woken or backs off, on every page';
const MANY_LANES = 'Q2: lanes of many runs come one after the other';
const AFTER_CLOSE = 'after close every call is refused';
const OLDER = 'whatever is in a commit of an older release, alone or with others, it is refused';
const DRIVERS = 'O1, O3: as many contexts drive a medium at once as its stores say';
const BLOBS = 'D7: a store that says that it keeps blobs keeps them';
const WORDS = 'D6: a store says what it can do in the words of the contract, opened or not';

/** The runs that a batch names: who is woken, or cancelled with its parent, is not among them. */
const namedBy = ({ run, starts = [], deletes = [] }: Batch) => [run, ...starts, ...deletes].map((each) => each?.runId);

/** The batch of the last commit on each medium. */
const lastOn = new WeakMap<MemoryMedium, Batch>();

/** Tells only what passes `look`: a store in memory commits, and tells, within the call. */
const telling =
  (look: (told: Parameters<StoreListener>, batch: Batch) => Parameters<StoreListener> | undefined): Fault =>
  (good, medium) => ({
    commit(batch) {
      lastOn.set(medium, batch);
      return good.commit(batch);
    },
    watch: (listener) =>
      good.watch((...told) => {
        const passed = look(told, lastOn.get(medium)!);
        if (passed) listener(...passed);
      }),
  });

/** Another way to say that it is closed. */
const closedAs =
  (error: Error): Fault =>
  (good) => {
    const call =
      <Given, Answer>(method: (given: Given) => Promise<Answer>) =>
      (given: Given) =>
        method(given).catch((found) => {
          throw found.code === 'CLOSED' ? error : found;
        });
    return { commit: call(good.commit), due: call(good.due), load: call(good.load), state: call(good.state) };
  };

const asJson = (batch: Batch): Batch => JSON.parse(JSON.stringify(batch));

const faults: readonly (readonly [string, Fault, readonly string[]])[] = [
  ['sorts a journal by time', reading(byTime), [ORDER]],
  [
    'sorts the journals of a list by time',
    (good) => ({
      async list(query) {
        const page = await good.list(query);
        return { ...page, runs: page.runs.map((run) => ({ ...run, journal: byTime(run.journal) })) };
      },
    }),
    [ORDER],
  ],
  ['cuts a journal', reading(cut), [MANY_ENTRIES]],
  [
    'cuts the journals of a list',
    (good) => ({
      async list(query) {
        const page = await good.list(query);
        return { ...page, runs: page.runs.map((run) => ({ ...run, journal: cut(run.journal) })) };
      },
    }),
    [MANY_ENTRIES],
  ],
  [
    'cuts the offers of a commit',
    (good) => ({
      async commit(batch) {
        const outcome = await good.commit(batch);
        return outcome.kind === 'committed' ? { ...outcome, offers: outcome.offers.slice(0, MOST_OFFERS) } : outcome;
      },
    }),
    [MANY_OFFERS],
  ],
  [
    'cuts the offers of due work',
    (good) => ({
      async due(query) {
        const page = await good.due(query);
        return { ...page, runs: page.runs.map((run) => ({ ...run, offers: run.offers.slice(0, MOST_OFFERS) })) };
      },
    }),
    [MANY_OFFERS],
  ],
  [
    'forgets what an event was given as',
    (good) => ({
      commit: ({ events, ...batch }) =>
        good.commit({ ...batch, ...(events && { events: events.map(({ given: _, ...event }) => event) }) }),
    }),
    [GIVEN],
  ],
  [
    'lets a change from outside overwrite the version and the start of a run',
    (good, { tables }) => ({
      async commit(batch) {
        const outcome = await good.commit(batch);
        const { runId, fence, state } = batch.run ?? {};
        if (outcome.kind !== 'committed' || fence !== 'any' || !state) return outcome;
        const { version, startedAt } = state;
        tables.putRun({ ...tables.run(runId!)!, version, ...(startedAt !== undefined && { startedAt }) });
        return outcome;
      },
    }),
    [OUTSIDE],
  ],
  [
    'hands events of an engine without a plug-in to runs that one with it has written, and the other way round',
    (good, { tables }) => ({
      commit(batch) {
        const { run } = tables;
        tables.run = (runId) => {
          const row = run.call(tables, runId);
          const event = batch.events?.find((each) => each.runId === runId);
          const isOther = row && event && isOurs(row.job) !== isOurs(event.name);
          return isOther ? { ...row, job: event.name } : row;
        };
        const outcome = good.commit(batch);
        tables.run = run;
        return outcome;
      },
    }),
    [PLUGIN],
  ],
  [
    'knows one length of a rate',
    (good) => ({
      commit: ({ run, ...batch }) =>
        good.commit({
          ...batch,
          ...(run && { run: { ...run, ...(run.rate && { rate: { ...run.rate, perMs: 1000 } }) } }),
        }),
    }),
    [RATE],
  ],
  [
    'tells of its own commits only the runs that they name',
    telling(([runId, isOwn], batch) => (!isOwn || namedBy(batch).includes(runId) ? [runId, isOwn] : undefined)),
    [heardOf('a run that an event has woken')],
  ],
  [
    'tells nothing of deleted runs',
    telling((told, { deletes = [] }) => (deletes.some(({ runId }) => runId === told[0]) ? undefined : told)),
    [heardOf('a run that is deleted')],
  ],
  [
    'tells nothing of its own new runs',
    telling(([runId, isOwn], { starts = [] }) =>
      isOwn && starts.some((each) => each.runId === runId) ? undefined : [runId, isOwn],
    ),
    [heardOf('a run that is started')],
  ],
  ['never says that a change is its own', telling(([runId]) => [runId, false]), [OWN]],
  [
    'takes for its own what another has woken or cancelled in passing',
    telling(([runId, isOwn], batch) => [runId, isOwn || !namedBy(batch).includes(runId)]),
    [NOT_OWN],
  ],
  [
    'says of its own change that anything may have changed, by itself',
    telling(([, isOwn]) => [undefined, isOwn]),
    [OWN],
  ],
  [
    'tells of a run before it can be read',
    (good) => {
      const listeners = new Set<StoreListener>();
      return {
        commit(batch) {
          for (const { runId } of batch.starts ?? []) for (const listener of listeners) listener(runId, true);
          return good.commit(batch);
        },
        watch(listener) {
          listeners.add(listener);
          return good.watch(listener);
        },
      };
    },
    [READABLE],
  ],
  [
    'forgets its listeners when it is opened',
    (good) => {
      const stops = new Set<() => void>();
      return {
        async open(options) {
          await good.open(options);
          for (const stop of stops) stop();
        },
        watch(listener) {
          const stop = good.watch(listener);
          stops.add(stop);
          return stop;
        },
      };
    },
    [BEFORE_OPEN],
  ],
  [
    'narrows the first page of a list by tag, and no other',
    (good) => ({ list: ({ tag, ...query }) => good.list(query.cursor ? query : { ...query, tag }) }),
    [PAGES],
  ],
  [
    'narrows the first page of a list by status, and no other',
    (good) => ({ list: ({ status, ...query }) => good.list(query.cursor ? query : { ...query, status }) }),
    [PAGES],
  ],
  [
    'knows no lanes but priorities',
    (good) => ({
      async due(query) {
        const page = await good.due({ ...query, limit: 1e9 });
        const rank = ({ row }: DueRun) => row.priority ?? 0;
        const runs = [...page.runs].sort(
          (a, b) => rank(b) - rank(a) || a.row.dueAt! - b.row.dueAt! || a.row.seq - b.row.seq,
        );
        return { ...page, runs: runs.slice(0, query.limit) };
      },
    }),
    [LANES, MANY_LANES],
  ],
  ['rejects with an error of its own', closedAs(Object.assign(new Error('closed'), { code: 'CLOSED' })), [AFTER_CLOSE]],
  [
    'does not refuse events of an older release',
    (good, medium) => ({
      commit(batch) {
        const { minWriter } = medium;
        if (batch.events && !batch.starts && !batch.state && !batch.run) medium.minWriter = 0;
        const outcome = good.commit(batch);
        medium.minWriter = minWriter;
        return outcome;
      },
    }),
    [OLDER],
  ],
  [
    'says that it has one driver, and has many',
    (good) => ({ capabilities: { ...good.capabilities, owners: 'one' } }),
    [DRIVERS],
  ],
  ['says that it keeps blobs, and does not', (good) => ({ commit: (batch) => good.commit(asJson(batch)) }), [BLOBS]],
  [
    'says of its durability what nobody knows',
    (good) => ({ capabilities: { ...good.capabilities, durability: 'strict' as never } }),
    [WORDS],
  ],
];

// At once: what is not told of is waited for, ten seconds each time.
it.concurrent.each(faults)('the suite notices a store that %s', async (_, fault, by) => {
  const media = () => {
    const medium = memoryMedium();
    return () => {
      const good = memoryStore({ medium });
      return { ...good, ...fault(good, medium) };
    };
  };
  const skip = Object.fromEntries(conformanceCases.flatMap(({ name }) => (by.includes(name) ? [] : [[name, 'other']])));
  const results = await runConformance(media, { skip });
  expect(results.flatMap(({ kind, name }) => (kind === 'failed' ? [name] : []))).toEqual(by);
});
