import { expect, it } from 'vitest';
import { memoryMedium, memoryStore } from '../../adapters/memory/index.js';
import type { JournalEntry } from '../../src/store/journal.js';
import type { Store } from '../../src/store/store.js';
import { conformanceCases, runConformance } from '../../src/testing/conformance.js';

// Pins: faults that a store of one's own may have, planted in a good one, and the cases of the suite that notice them.

/** What is different about a store with a fault. */
type Fault = (good: Store) => Partial<Store>;

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
];

it.each(faults)('the suite notices a store that %s', async (_, fault, by) => {
  const media = () => {
    const medium = memoryMedium();
    return () => {
      const good = memoryStore({ medium });
      return { ...good, ...fault(good) };
    };
  };
  const skip = Object.fromEntries(conformanceCases.flatMap(({ name }) => (by.includes(name) ? [] : [[name, 'other']])));
  const results = await runConformance(media, { skip });
  expect(results.flatMap(({ kind, name }) => (kind === 'failed' ? [name] : []))).toEqual(by);
});
