import {
  caseGroup,
  claimed,
  commit,
  due,
  eventsOf,
  ids,
  load,
  newEvent,
  now,
  openWait,
  running,
  start,
  stepped,
  wait,
} from './env.js';
import { check, equal, range } from './kit.js';

const { cases, fact } = caseGroup('whole');

/** The cases about much of one kind, and about its order: nothing is cut off, and nothing sorted by what it says itself. */
export const wholes = cases;

fact('a journal comes back in the order of its commits, whatever its entries say of the time', async ({ open }) => {
  const store = await open();
  await start(store, 'r');
  const instants = [now + 50, now - 1_000, now, now - 2_000, now + 50];
  const append = instants.map((at, index) => ({ ...stepped(`s${index}`), at }));
  const queued = { status: 'queued', version: 1, dueAt: now, waits: [] } as const;
  for (const entry of append) await commit(store, { run: { runId: 'r', fence: 0, append: [entry], state: queued } });
  const comes = async (each: typeof store, when: string) => {
    equal((await load(each, 'r')).journal.slice(1), append, `the journal ${when}`);
    equal((await each.list({ limit: 1 })).runs[0]!.journal.slice(1), append, `the listed journal ${when}`);
    const { journal } = (await due(each)).runs[0]!;
    if (journal) equal(journal.slice(1), append, `the journal of due work ${when}`);
  };
  await comes(store, 'at once');
  await store.close();
  await comes(await open(), 'when opened again');
});

fact('a journal of 10,000 entries loads whole, and is listed whole', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const entries = range(10_000).map((index) => stepped(`s${index}`));
  for (const part of range(10))
    await commit(store, {
      run: { runId: 'r', fence: 1, append: entries.slice(part * 1_000, (part + 1) * 1_000), state: running() },
    });
  await store.close();
  const again = await open();
  equal((await load(again, 'r')).journal.slice(2), entries, 'the journal');
  equal((await again.list({ limit: 1 })).runs[0]!.journal.length, 10_002, 'the length of the listed journal');
});

fact('E7: a wait is offered 1,000 events, as many as its pair may hold', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const events = range(1_000).map((index) => newEvent(`e${index}`));
  await commit(store, { events });
  const offers = await wait(store, 'r', openWait());
  equal(ids(offers), ids(events), 'the events that the commit of the wait is offered');
  await store.close();
  const again = await open('drive', 'b');
  const { runs } = await due(again, { owner: 'b' });
  check(runs.length === 1, 'a run that was offered events is not due');
  equal(ids(runs[0]!.offers), ids(events), 'the events that come with due work');
  equal(ids(await eventsOf(again)), ids(events), 'the events that another run is offered');
});
