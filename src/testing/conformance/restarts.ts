import type { RunChange } from '../../store/batch.js';
import type { JournalEntry } from '../../store/journal.js';
import type { Store } from '../../store/store.js';
import {
  caseGroup,
  claim,
  claimed,
  commit,
  dispatch,
  end,
  load,
  newEvent,
  now,
  openWait,
  refused,
  rowOf,
  running,
  spoiled,
  start,
  started,
  stepped,
  waiting,
} from './env.js';
import { equal, range } from './kit.js';

const { cases, fact } = caseGroup('journals begun anew');

/** The cases about a journal that is replaced as a whole (`step.restart`: spec section 2, R2; rule S2). */
export const restarts = cases;

const anew = (runId: string, append: readonly JournalEntry[], over: Partial<RunChange> = {}): RunChange => ({
  runId,
  fence: 1,
  reset: true,
  append,
  state: running(),
  ...over,
});
const more = (runId: string, ...append: JournalEntry[]): RunChange => ({ runId, fence: 1, append, state: running() });
const steps = (name: string, count: number) => range(count).map((index) => stepped(`${name} ${index}`, index));

/** The run has exactly these entries, and says so. */
async function has(store: Store, runId: string, entries: readonly JournalEntry[], when: string): Promise<void> {
  const { row, journal } = await load(store, runId);
  equal(journal, entries, `the journal ${when}`);
  equal(row.length, entries.length, `the length ${when}`);
}

fact('a journal that is begun anew is exactly what the commit gives', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r', 'other');
  await commit(store, { run: more('r', stepped('s'), stepped('t')) });
  const { fence } = await commit(store, { run: anew('r', [started('second')]) });
  equal(fence, 1, 'the fence');
  await has(store, 'r', [started('second')], 'at once');
  equal((await load(store, 'other')).journal.length, 2, 'the length of another journal');
  equal(
    (await store.list({ limit: 1, cursor: `${(await rowOf(store, 'other')).seq}` })).runs[0]?.journal.length,
    1,
    'listed',
  );
  await store.close();
  await has(await open(), 'r', [started('second')], 'when opened again');
});

fact('entries after a journal was begun anew follow its new ones', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await commit(store, { run: more('r', ...steps('old', 5)) });
  await commit(store, { run: anew('r', [started(1), stepped('first')]) });
  await commit(store, { run: more('r', stepped('second')) });
  const expected = [started(1), stepped('first'), stepped('second')];
  await has(store, 'r', expected, 'at once');
  await store.close();
  await has(await open(), 'r', expected, 'when opened again');
});

fact(
  'a journal of several hundred entries is begun anew, longer and shorter ones, again and again',
  async ({ open }) => {
    const first = await open();
    await claimed(first, 'r');
    for (const part of range(4)) await commit(first, { run: more('r', ...steps(`old ${part}`, 150)) });
    const rounds = [1, 700, 3, 300, 2].map((count, round) => [started(round), ...steps(`round ${round}`, count)]);
    for (const [round, entries] of rounds.entries()) {
      await commit(first, { run: anew('r', entries) });
      await has(first, 'r', entries, `of round ${round}`);
      await commit(first, { run: more('r', stepped(`after ${round}`)) });
      await has(first, 'r', [...entries, stepped(`after ${round}`)], `after round ${round}`);
    }
    await first.close();
    await has(await open(), 'r', [...rounds.at(-1)!, stepped('after 4')], 'when opened again');
  },
);

fact('a long journal that grew in many commits is begun anew', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  for (const entry of steps('old', 300)) await commit(store, { run: more('r', entry) });
  await commit(store, { run: anew('r', [started('new')]) });
  await has(store, 'r', [started('new')], 'at once');
  for (const entry of steps('new', 300)) await commit(store, { run: more('r', entry) });
  const expected = [started('new'), ...steps('new', 300)];
  await has(store, 'r', expected, 'grown again');
  await store.close();
  await has(await open(), 'r', expected, 'when opened again');
});

fact('a claim that has read the journal before it was begun anew is refused', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await commit(store, { run: more('r', ...steps('old', 4)) });
  const { length } = await rowOf(store, 'r');
  await commit(store, { run: anew('r', [started(1), stepped('s')]) });
  const stale = { ...claim('r', 1, 'b'), length };
  equal(await refused(store, { run: stale }, 'fenced'), { kind: 'fenced', fence: 1 }, 'the outcome');
  equal((await commit(store, { run: { ...stale, length: 2 } })).fence, 2, 'the fence of one that has read it anew');
  await has(store, 'r', [started(1), stepped('s'), ...claim('r', 1, 'b').append], 'after the claim');
});

fact('a journal is begun anew by the claim of the next owner', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await commit(store, { run: { ...claim('r', 1, 'b'), reset: true, append: [started('b')] } });
  const { row, journal } = await load(store, 'r');
  equal([row.fence, row.owner, row.length, journal], [2, 'b', 1, [started('b')]], 'the run');
  await refused(store, { run: anew('r', [started('late')]) }, 'fenced');
  await has(store, 'r', [started('b')], 'after a late one of the owner before');
});

fact('a journal that is begun anew keeps what the run was born with', async ({ open }) => {
  const store = await open();
  await start(store, 'r', { idempotencyKey: 'k', parentId: 'p', tags: ['t'], priority: 3, keyUntil: now + 9 });
  await commit(store, { run: claim('r', 0) });
  const before = await rowOf(store, 'r');
  await commit(store, { run: anew('r', [started('new')]) });
  equal(await rowOf(store, 'r'), { ...before, length: 1 }, 'the row');
});

fact('a journal that is begun anew with a commit that is refused stays as it was', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await commit(store, { run: more('r', ...steps('old', 3)) });
  const before = await load(store, 'r');
  await refused(store, { run: anew('r', [started('new')]), ...spoiled }, 'refused');
  await refused(store, { run: anew('r', [started('new')], { fence: 0 }) }, 'fenced');
  equal(await load(store, 'r'), before, 'the run');
  await commit(store, { run: more('r', stepped('next')) });
  await has(store, 'r', [...before.journal, stepped('next')], 'after the next commit');
});

fact('a wake-up in the same batch does not undo that a journal is begun anew', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await commit(store, { run: more('r', ...steps('old', 3)) });
  const state = waiting([openWait()], { awaits: ['nobody'] });
  const { events } = await commit(store, { run: anew('r', [started('new')], { state }), events: [newEvent('e')] });
  equal(events[0]?.resumed, ['r'], 'the runs told');
  await has(store, 'r', [started('new')], 'at once');
  const { woken, ended } = await rowOf(store, 'r');
  equal([woken, ended], [true, ['nobody']], 'the marks');
  await dispatch(store, 'f');
  await has(store, 'r', [started('new')], 'after another wake-up');
});

fact('a run that has begun anew ends and is listed with its last journal', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await commit(store, { run: more('r', ...steps('old', 3)) });
  await commit(store, { run: anew('r', [started('new')]) });
  await end(store, 'r');
  await has(store, 'r', [started('new')], 'at the end');
  await store.close();
  const again = await open();
  equal((await again.list({ status: 'completed', limit: 9 })).runs, [await load(again, 'r')], 'the list');
  await has(again, 'r', [started('new')], 'when opened again');
});

fact(
  'a journal that was begun anew before a crash is so after it',
  async ({ open }) => {
    const store = await open('drive', 'a');
    await claimed(store, 'r');
    await commit(store, { run: more('r', ...steps('old', 3)) });
    await commit(store, { run: anew('r', [started('new')]) });
    await commit(store, { run: more('r', stepped('s')) });
    store.abandon!();
    await has(await open('drive', 'b'), 'r', [started('new'), stepped('s')], 'after the crash');
  },
  { abandons: true },
);
