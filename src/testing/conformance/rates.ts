import type { CommitOutcome, RunChange } from '../../store/batch.js';
import type { Store } from '../../store/store.js';
import type { Json } from '../../values/json.js';
import {
  caseGroup,
  claim,
  commit,
  load,
  newRun,
  now,
  refused,
  rowOf,
  running,
  spoiled,
  start,
  waiting,
} from './env.js';
import { equal, hostileStrings, range } from './kit.js';

const { cases, fact } = caseGroup('rates');

/** The cases about how many slots a queue gives out within a time (spec Q2: `rateLimit`; Q4). */
export const rates = cases;

const perMs = 1000;

const takes = (runId: string, limit: number, over: Partial<RunChange> = {}, slot = 'queue'): RunChange =>
  claim(runId, 0, 'a', { state: running('a', { slot }), rate: { limit, perMs }, ...over });

/** What starts a run and claims it with a slot, again and again: the kind of the outcome, or when to try again. */
const taker = (store: Store, prefix = 'r') => {
  let count = 0;
  return async (limit: number, at = now, slot?: string): Promise<CommitOutcome['kind'] | number | undefined> => {
    const runId = `${prefix}${count++}`;
    await start(store, runId);
    const outcome = await store.commit({ now: at, run: takes(runId, limit, {}, slot) });
    return outcome.kind === 'no-slot' ? outcome.retryAt : outcome.kind;
  };
};

const lanes = (...value: readonly { readonly [option: string]: Json }[]) =>
  ({ kind: 'set', key: 'stepfast:lanes', value }) as const;

fact('Q2: a queue gives out no more slots within a time than its rate allows', async ({ open }) => {
  const store = await open();
  const taken = taker(store);
  equal(await taken(2), 'committed', 'the first');
  equal(await taken(2, now + 10), 'committed', 'the second');
  await start(store, 'r');
  const before = await load(store, 'r');
  const outcome = await store.commit({ now: now + 20, run: takes('r', 2) });
  equal(outcome, { kind: 'no-slot', retryAt: now + perMs }, 'the outcome of the third');
  equal(await load(store, 'r'), before, 'the third run');
});

fact('Q2: the time of a rate slides: each slot counts for as long, from its own instant on', async ({ open }) => {
  const store = await open();
  const taken = taker(store);
  for (const at of [now, now + 400]) equal(await taken(2, at), 'committed', `at ${at - now}`);
  equal(await taken(2, now + 999), now + perMs, 'one millisecond before the first is over');
  equal(await taken(2, now + 1000), 'committed', 'when the first is over');
  equal(await taken(2, now + 1001), now + 400 + perMs, 'when to try again then');
  equal(await taken(2, now + 1400), 'committed', 'when the second is over');
  equal(await taken(2, now + 1400), now + 2000, 'when to try again after it');
  equal(await taken(2, now + 9000), 'committed', 'long afterwards');
  equal(await taken(2, now + 9000), 'committed', 'a second one long afterwards');
  equal(await taken(2, now + 9000), now + 10_000, 'a third one long afterwards');
});

fact('Q2: a rate counts within the time that it names, short or long', async ({ open }) => {
  const store = await open();
  for (const perMs of [1, 50, 60_000, 30 * 86_400_000]) {
    const slot = `queue ${perMs}`;
    const rate = { limit: 1, perMs };
    const taken = async (runId: string, at: number, over: Partial<RunChange> = { rate }) => {
      await start(store, runId);
      const run = claim(runId, 0, 'a', { state: running('a', { slot }), ...over });
      const outcome = await store.commit({ now: at, run });
      return outcome.kind === 'no-slot' ? outcome.retryAt : outcome.kind;
    };
    equal(await taken(`first ${perMs}`, now), 'committed', `the first within ${perMs} ms`);
    equal(await taken(`early ${perMs}`, now + perMs - 1), now + perMs, `one too early within ${perMs} ms`);
    equal(await taken(`next ${perMs}`, now + perMs), 'committed', `the next within ${perMs} ms`);
    await commit(store, { state: [lanes({ job: 'job', queue: slot, rate })] });
    const unknowing = { defaultConcurrency: 8 };
    const at = now + 2 * perMs;
    equal(await taken(`unknowing ${perMs}`, at - 1, unknowing), at, `one that is told of ${perMs} ms, too early`);
    equal(await taken(`unknowing next ${perMs}`, at, unknowing), 'committed', `one that is told of ${perMs} ms`);
  }
});

fact('Q2: what was refused does not count against the rate', async ({ open }) => {
  const store = await open();
  const taken = taker(store);
  equal(await taken(1), 'committed', 'the first');
  for (const at of [now + 1, now + 500, now + 999]) equal(await taken(1, at), now + perMs, `at ${at - now}`);
  equal(await taken(1, now + 1000), 'committed', 'the next');
});

fact('Q2: a claim that is refused for another reason does not count against the rate', async ({ open }) => {
  const store = await open();
  const taken = taker(store);
  await start(store, 'r');
  await refused(store, { run: takes('r', 1), ...spoiled }, 'refused');
  await refused(store, { run: takes('r', 1, { fence: 7 }) }, 'fenced');
  await refused(store, { run: takes('r', 1, { concurrency: 0 }) }, 'no-slot');
  equal(await taken(1), 'committed', 'the first');
});

fact('Q2: a slot that was given back still counts against the rate', async ({ open }) => {
  const store = await open();
  const taken = taker(store);
  await start(store, 'r');
  await commit(store, { run: takes('r', 1) });
  await commit(store, { run: { runId: 'r', fence: 1, append: [], state: waiting([]) } });
  equal(await taken(1, now + 5), now + perMs, 'the next');
});

fact('Q2: a run that keeps its slot takes no other from the rate', async ({ open }) => {
  const store = await open();
  await start(store, 'r');
  await commit(store, { run: takes('r', 1) });
  for (const fence of range(3).map((index) => index + 1)) await commit(store, { run: takes('r', 1, { fence }) });
  const without = { runId: 'r', fence: 4, append: [], state: waiting([]), rate: { limit: 1, perMs } };
  equal((await commit(store, { run: without })).fence, 4, 'the fence of a commit that needs no slot');
});

fact('Q2: a limit that was lowered counts what was given out before', async ({ open }) => {
  const store = await open();
  const taken = taker(store);
  for (const at of [now, now + 100, now + 200]) equal(await taken(3, at), 'committed', `at ${at - now}`);
  equal(await taken(1, now + 300), now + 200 + perMs, 'with a limit of 1');
  equal(await taken(2, now + 300), now + 100 + perMs, 'with a limit of 2');
  equal(await taken(4, now + 300), 'committed', 'with a limit of 4');
});

fact('Q2: rates are counted for each queue on its own', async ({ open }) => {
  const store = await open();
  const taken = taker(store);
  const queues = ['queue', 'queue ', 'Queue', ...hostileStrings];
  for (const slot of queues) equal(await taken(1, now, slot), 'committed', JSON.stringify(slot));
  for (const slot of queues) equal(await taken(1, now + 1, slot), now + perMs, `${JSON.stringify(slot)} again`);
});

fact('Q2: concurrency and rate are both kept, and only the rate tells when to try again', async ({ open }) => {
  const store = await open();
  for (const runId of ['a', 'b', 'c']) await start(store, runId);
  await commit(store, { run: takes('a', 2, { concurrency: 1 }) });
  const busy = await refused(store, { run: takes('b', 2, { concurrency: 1 }) }, 'no-slot');
  equal(busy, { kind: 'no-slot' }, 'the outcome for concurrency');
  await commit(store, { run: { runId: 'a', fence: 1, append: [], state: waiting([]) } });
  await commit(store, { run: takes('b', 2, { concurrency: 1 }) });
  const { runId, fence } = await rowOf(store, 'b');
  await commit(store, { run: { runId, fence, append: [], state: waiting([]) } });
  const late = await refused(store, { run: takes('c', 2, { concurrency: 1 }) }, 'no-slot');
  equal(late, { kind: 'no-slot', retryAt: now + perMs }, 'the outcome for the rate');
});

fact('Q4: a clock that ran ahead and was set back freezes no queue', async ({ open }) => {
  const store = await open();
  const taken = taker(store);
  const day = 86_400_000;
  for (const _ of range(2)) equal(await taken(2, now + day), 'committed', 'while the clock runs ahead');
  for (const _ of range(2)) equal(await taken(2, now), 'committed', 'once it is set back');
  equal(await taken(2, now + 1), now + perMs, 'the limit after that');
  equal(await taken(2, now + perMs), 'committed', 'when the time is over');
});

fact('Q2: a slot given out a moment later by the clock of another counts', async ({ open }) => {
  const store = await open();
  const taken = taker(store);
  equal(await taken(2, now + 3), 'committed', 'the first, by a clock a little ahead');
  equal(await taken(2, now), 'committed', 'the second');
  equal(await taken(2, now + 1), now + perMs, 'the third, when the second is over');
  equal(await taken(2, now + perMs), 'committed', 'when the second is over');
  equal(await taken(2, now + perMs), now + 3 + perMs, 'when the first is over');
});

fact('Q2: a rate is still kept when the store is opened again', async ({ open }) => {
  const store = await open();
  const taken = taker(store);
  equal(await taken(1), 'committed', 'the first');
  await store.close();
  const again = await open();
  const takenAgain = taker(again, 'again ');
  equal(await takenAgain(1, now + 1), now + perMs, 'the second');
  equal(await takenAgain(1, now + perMs), 'committed', 'the third');
});

fact('Q2: who does not know what a queue allows keeps to what is said of it', async ({ open }) => {
  const store = await open();
  const rated = { job: 'rated', queue: 'queue', rate: { limit: 2, perMs } };
  const full = { job: 'full', queue: 'queue', concurrency: 1 };
  const [before, behind] = ['before', 'behind'].map((job) => ({
    ...rated,
    ...full,
    job,
    queue: 'other',
    concurrency: 9,
  }));
  await commit(store, { state: [lanes(before!, rated, full, behind!)] });
  await commit(store, { starts: ['a', 'b', 'c'].map((runId) => newRun(runId)) });
  const unknowing = (runId: string, over: Partial<RunChange> = {}) =>
    claim(runId, 0, 'a', { state: running('a', { slot: 'queue' }), defaultConcurrency: 8, ...over });
  await commit(store, { run: unknowing('a') });
  equal(await refused(store, { run: unknowing('b') }, 'no-slot'), { kind: 'no-slot' }, 'the outcome for concurrency');
  await commit(store, { run: unknowing('b', { concurrency: 2 }) }); // what it knows goes first
  const late = await refused(store, { run: unknowing('c', { concurrency: 3 }) }, 'no-slot');
  equal(late, { kind: 'no-slot', retryAt: now + perMs }, 'the outcome for the rate');
  await commit(store, { run: unknowing('c', { concurrency: 3, rate: { limit: 3, perMs } }) });
});

fact('Q2: where nothing is said of a queue, the default is kept; who gives none asks for nothing', async ({ open }) => {
  const store = await open();
  await commit(store, { starts: ['a', 'b', 'c'].map((runId) => newRun(runId)) });
  const unknowing = (runId: string, most?: number) =>
    claim(runId, 0, 'a', { state: running('a', { slot: 'queue' }), ...(most && { defaultConcurrency: most }) });
  await commit(store, { run: unknowing('a', 1) });
  await refused(store, { run: unknowing('b', 1) }, 'no-slot');
  await commit(store, { state: [lanes({ job: 'full', queue: 'queue', concurrency: 1 })] });
  await commit(store, { run: unknowing('b') });
  await refused(store, { run: unknowing('c', 8) }, 'no-slot');
});

fact('Q2: of many concurrent claims no more get a slot than the rate allows', async ({ open, owners, openOther }) => {
  const store = await open();
  const stores = owners === 'many' ? [store, await openOther()] : [store];
  const runIds = range(16).map((index) => `c${index}`);
  await commit(store, { starts: runIds.map((runId) => newRun(runId)) });
  const outcomes = await Promise.all(
    runIds.map((runId, index) => stores[index % stores.length]!.commit({ now, run: takes(runId, 3) })),
  );
  equal(outcomes.filter(({ kind }) => kind === 'committed').length, 3, 'the number of slots');
  const told = outcomes.filter((each) => each.kind === 'no-slot' && each.retryAt === now + perMs);
  equal(told.length, 13, 'the number of refusals');
});
