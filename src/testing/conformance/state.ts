import type { Batch, StateChange } from '../../store/batch.js';
import type { Store } from '../../store/store.js';
import type { Json } from '../../values/json.js';
import {
  caseGroup,
  change,
  claim,
  claimed,
  commit,
  load,
  newRun,
  now,
  openWait,
  refused,
  rowOf,
  running,
  spoiled,
  start,
  stateOf,
  stepped,
} from './env.js';
import { check, equal, hostileStrings, range } from './kit.js';

const { cases, fact } = caseGroup('shared state');

/** The cases about values that all runs of a store share (spec D8; rules S1, S6, T1). */
export const sharedState = cases;

export const set = (key: string, value: Json, over: { expiresAt?: number; ifRevision?: number } = {}): StateChange => ({
  kind: 'set',
  key,
  value,
  ...over,
});
export const remove = (key: string): StateChange => ({ kind: 'delete', key });
export const add = (key: string, by: number, expiresAt?: number): StateChange => ({
  kind: 'increment',
  key,
  by,
  ...(expiresAt !== undefined && { expiresAt }),
});

export const valueAt = async (store: Store, key: string, at = now) => (await stateOf(store, key, at))?.value;
const revisionOf = async (store: Store, key: string) => (await stateOf(store, key))?.revision ?? 0;

/** Commits, and expects that the change of this index is refused with this code. */
export async function refusedWith(store: Store, code: string, index: number, batch: Partial<Batch>): Promise<void> {
  equal(await refused(store, batch, 'refused'), { kind: 'refused', code, index }, 'the outcome');
}

fact('D8: an empty store has no value under any key', async ({ open }) => {
  const store = await open();
  for (const key of hostileStrings) equal(await store.state(key), undefined, JSON.stringify(key));
});

fact('D8: a value that was set is there, written over, and gone once deleted', async ({ open }) => {
  const store = await open();
  equal(await change(store, set('k', { a: [1] })), [{}], 'the outcome of the set');
  const row = await store.state('k');
  equal(row, { key: 'k', value: { a: [1] }, revision: row!.revision }, 'the row');
  await change(store, set('k', 'second'));
  equal(await valueAt(store, 'k'), 'second', 'the second value');
  equal(await change(store, remove('k')), [{}], 'the outcome of the deletion');
  equal(await store.state('k'), undefined, 'the row after it');
  equal(await change(store, remove('k')), [{}], 'the outcome of deleting nothing');
});

fact('D8: null is a value', async ({ open }) => {
  const store = await open();
  await change(store, set('k', null));
  equal(await valueAt(store, 'k'), null, 'the value');
  check((await revisionOf(store, 'k')) > 0, 'the revision is greater than 0');
});

fact('D8: a value expires at its instant, neither before nor later', async ({ open }) => {
  const store = await open();
  await change(store, set('k', 1, { expiresAt: now + 10 }));
  equal(await valueAt(store, 'k', now + 9), 1, 'the value one millisecond before');
  const batch = { state: [set('k', 2, { ifRevision: 0 })] };
  await refusedWith(store, 'STATE_CHANGED', 0, { now: now + 9, ...batch });
  equal(await valueAt(store, 'k', now + 10), undefined, 'the value at the instant');
  await commit(store, { now: now + 10, ...batch });
  equal(await valueAt(store, 'k', now + 1e9), 2, 'the value that was set at the instant');
});

fact('D8: a value that is set anew does not keep the expiry of the one before', async ({ open }) => {
  const store = await open();
  await change(store, set('k', 1, { expiresAt: now + 10 }));
  await change(store, set('k', 2));
  equal('expiresAt' in (await store.state('k'))!, false, 'whether it has an expiry');
  await change(store, set('k', 3, { expiresAt: now + 20 }));
  equal((await store.state('k'))?.expiresAt, now + 20, 'the new expiry');
});

fact('D8: what has expired goes away some time, and nothing else does', async ({ open }) => {
  const store = await open();
  const expired = range(30).map((index) => `expired ${index}`);
  await change(store, ...expired.map((key) => set(key, 1, { expiresAt: now + 10 })));
  await change(store, set('ahead', 1, { expiresAt: now + 12 }), set('for ever', 1));
  for (const round of range(30)) await commit(store, { now: now + 11, state: [set('other', round)] });
  for (const key of expired) equal(await store.state(key), undefined, key);
  equal([await valueAt(store, 'ahead', now + 11), await valueAt(store, 'for ever')], [1, 1], 'the others');
});

fact('D8: nothing goes away before its instant', async ({ open }) => {
  const store = await open();
  await change(store, set('k', 1, { expiresAt: now + 10 }));
  for (const round of range(5)) await commit(store, { now: now + 9, state: [set('other', round)] });
  equal((await store.state('k'))?.value, 1, 'the value');
});

fact('D8: what has expired and is set again in the same commit stays', async ({ open }) => {
  const store = await open();
  await change(store, set('k', 1, { expiresAt: now + 10 }), set('counter', 5, { expiresAt: now + 10 }));
  const at = now + 20;
  const { state } = await commit(store, { now: at, state: [set('k', 2), add('counter', 1)] });
  equal(state, [{}, { value: 1 }], 'the outcomes');
  await commit(store, { now: at, state: [set('other', 1)] });
  equal([await valueAt(store, 'k', at), await valueAt(store, 'counter', at)], [2, 1], 'the values');
  equal('expiresAt' in (await store.state('counter'))!, false, 'whether the counter expires as the one before did');
});

fact('D8: a set that expects a revision is refused unless the value has it', async ({ open }) => {
  const store = await open();
  await refusedWith(store, 'STATE_CHANGED', 0, { state: [set('k', 'x', { ifRevision: 1 })] });
  await change(store, set('k', 1, { ifRevision: 0 }));
  const first = await revisionOf(store, 'k');
  for (const ifRevision of [0, first - 1, first + 1])
    await refusedWith(store, 'STATE_CHANGED', 0, { state: [set('k', 'x', { ifRevision })] });
  await change(store, set('k', 2, { ifRevision: first }));
  await refusedWith(store, 'STATE_CHANGED', 0, { state: [set('k', 'x', { ifRevision: first })] });
  equal(await valueAt(store, 'k'), 2, 'the value');
});

fact('D8: a value that was deleted and set again has another revision', async ({ open }) => {
  const store = await open();
  await change(store, set('k', 1));
  const ifRevision = await revisionOf(store, 'k');
  await change(store, remove('k'));
  await refusedWith(store, 'STATE_CHANGED', 0, { state: [set('k', 'x', { ifRevision })] });
  await change(store, set('k', 1, { ifRevision: 0 }));
  await refusedWith(store, 'STATE_CHANGED', 0, { state: [set('k', 'x', { ifRevision })] });
});

fact('D8: the revision grows with each write in the whole store, also when it is opened again', async ({ open }) => {
  const first = await open();
  const revisions: number[] = [];
  for (const write of [set('a', 1), set('b', 1), set('a', 1), add('c', 1), add('c', 0), set('b', 2)]) {
    await change(first, write);
    revisions.push(await revisionOf(first, write.key));
  }
  await first.close();
  const again = await open();
  for (const write of [set('d', 1), set('a', 2)]) {
    await change(again, write);
    revisions.push(await revisionOf(again, write.key));
  }
  for (const index of range(revisions.length - 1))
    check(revisions[index + 1]! > revisions[index]!, `the revision does not grow: ${revisions}`);
});

fact('D8: of many concurrent sets that expect one revision exactly one wins', async ({ open, openOther }) => {
  const stores = [await open(), await openOther()];
  await change(stores[0]!, set('k', 0));
  const ifRevision = await revisionOf(stores[1]!, 'k');
  const outcomes = await Promise.all(
    range(16).map((index) => stores[index % 2]!.commit({ now, state: [set('k', `${index}`, { ifRevision })] })),
  );
  const winners = range(16).filter((index) => outcomes[index]!.kind === 'committed');
  equal([winners.length, await valueAt(stores[0]!, 'k')], [1, `${winners[0]}`], 'the winners and the value');
});

fact('D8: a step and its writes to the state are one commit', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const run = { runId: 'r', fence: 1, append: [stepped('s')], state: running() };
  const { fence, state } = await commit(store, { run, state: [set('k', 1), add('n', 2)], starts: [newRun('x')] });
  equal([fence, state], [1, [{}, { value: 2 }]], 'the outcome');
  equal([await valueAt(store, 'k'), await valueAt(store, 'n')], [1, 2], 'the values');
  equal([(await rowOf(store, 'r')).length, (await rowOf(store, 'x')).length], [3, 1], 'the lengths of the journals');
});

fact('D8: a step that is refused writes nothing to the state', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r', 'over');
  await change(store, set('kept', 1), set('number', 1));
  const state = [set('kept', 2), add('number', 1), set('new', 1), remove('kept')];
  const change_ = { runId: 'r', append: [stepped('s')], state: running() };
  await commit(store, {
    run: { runId: 'over', fence: 1, append: [], state: { status: 'failed', version: 1, waits: [], endedAt: now } },
  });
  await refused(store, { run: { ...change_, fence: 0 }, state }, 'fenced');
  await refused(store, { run: { ...change_, runId: 'over', fence: 'any' }, state }, 'ended');
  await refused(store, { run: { ...change_, fence: 1 }, state, ...spoiled }, 'refused');
  const busy = { ...change_, fence: 1, state: running('a', { slot: 'q' }), concurrency: 0 };
  await refused(store, { run: busy, state }, 'no-slot');
  equal([await valueAt(store, 'kept'), await valueAt(store, 'number')], [1, 1], 'the values');
  equal(await store.state('new'), undefined, 'the new key');
});

fact('D8: a set that is refused leaves its run as it was', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const before = await load(store, 'r');
  const run = { runId: 'r', fence: 1, append: [stepped('s')], state: running('a', { waits: [openWait()] }) };
  await refusedWith(store, 'STATE_CHANGED', 1, { run, state: [set('k', 1), set('k', 2, { ifRevision: 0 })] });
  equal(await load(store, 'r'), before, 'the run');
  equal(await store.state('k'), undefined, 'the key');
});

fact('D8: state is written without any run', async ({ open }) => {
  const store = await open('use');
  const outcome = await commit(store, { state: [set('k', 1)] });
  equal([outcome.fence, await valueAt(store, 'k')], [0, 1], 'the fence and the value');
});

fact('D8: what one context sets another sees at once', async ({ open, openOther }) => {
  const stores = [await open(), await openOther()];
  for (const index of range(10)) {
    await change(stores[index % 2]!, set('k', index));
    equal(await valueAt(stores[(index + 1) % 2]!, 'k'), index, 'the value');
  }
  await change(stores[0]!, remove('k'));
  equal(await stores[1]!.state('k'), undefined, 'the value after its deletion');
});

fact('D8: values, expiries and revisions are there when the store is opened again', async ({ open }) => {
  const store = await open();
  await change(
    store,
    set('k', { a: [1, { b: null }] }),
    set('e', 1, { expiresAt: now + 50 }),
    add('n', 3),
    set('x', 1),
  );
  await change(store, remove('x'));
  const rows = (from: Store) => Promise.all(['k', 'e', 'n', 'x'].map((key) => from.state(key)));
  const before = structuredClone(await rows(store));
  await store.close();
  const again = await open();
  equal(await rows(again), before, 'the rows');
  equal(await change(again, add('n', 1)), [{ value: 4 }], 'a sum that goes on');
});

fact(
  'D8: values that were set before a crash are there after it',
  async ({ open }) => {
    const store = await open('drive', 'a');
    await change(store, set('k', 'v'), add('n', 2));
    store.abandon!();
    const again = await open('drive', 'b');
    equal([await valueAt(again, 'k'), await valueAt(again, 'n')], ['v', 2], 'the values');
  },
  { abandons: true },
);

fact('D8: hostile strings are keys like any other', async ({ open }) => {
  const store = await open();
  for (const [index, key] of hostileStrings.entries()) await change(store, set(key, index));
  for (const [index, key] of hostileStrings.entries()) equal(await valueAt(store, key), index, JSON.stringify(key));
  await store.close();
  const again = await open();
  for (const [index, key] of hostileStrings.entries())
    equal(await change(again, add(key, 1), remove(key)), [{ value: index + 1 }, {}], JSON.stringify(key));
  for (const key of hostileStrings) equal(await again.state(key), undefined, JSON.stringify(key));
});

fact('D8: long keys are told apart by their last character', async ({ open }) => {
  const store = await open();
  const keys = ['x', 'y', '\u00e9', '\u{1f600}'].map((last) => 'k'.repeat(1000) + last);
  for (const [index, key] of keys.entries()) await change(store, set(key, index));
  for (const [index, key] of keys.entries()) equal(await valueAt(store, key), index, `the key of index ${index}`);
});

fact('D8: the keys of runs and of the state are apart', async ({ open }) => {
  const store = await open();
  await start(store, 'same');
  equal(await store.state('same'), undefined, 'the value');
  await change(store, set('same', 1), set('other', 1));
  equal(await store.load('other'), undefined, 'the run');
  await commit(store, { run: claim('same', 0) });
  equal([await valueAt(store, 'same'), (await rowOf(store, 'same')).fence], [1, 1], 'the value and the run');
});

fact('S6: a value of the state is shared with nobody', async ({ open }) => {
  const store = await open();
  const value: { list: Json[] } = { list: [1, { a: 2 }] };
  const promise = store.commit({ now, state: [set('k', value)] });
  value.list.push('changed before the commit was done');
  await promise;
  value.list.push('changed after it');
  const row = await store.state('k');
  const read = row!.value as { list: unknown[] };
  equal(read, { list: [1, { a: 2 }] }, 'the value');
  read.list.push('changed by a reader');
  Object.assign(row!, { revision: 0 });
  equal(await valueAt(store, 'k'), { list: [1, { a: 2 }] }, 'the value after it was changed by a reader');
  check((await revisionOf(store, 'k')) > 0, 'the revision is as it was');
});
