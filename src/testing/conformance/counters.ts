import { caseGroup, change, claimed, load, newRun, now, running, stepped } from './env.js';
import { equal, range } from './kit.js';
import { add, refusedWith, remove, set, valueAt } from './state.js';

const { cases, fact } = caseGroup('counters');

/** The cases about increments of the shared state (spec D8). */
export const counters = cases;

fact('D8: an increment begins with 0, adds to a number, and tells the sum', async ({ open }) => {
  const store = await open();
  equal(await change(store, add('k', 5)), [{ value: 5 }], 'from nothing');
  equal(await change(store, add('k', -7.5)), [{ value: -2.5 }], 'from a number');
  equal(await change(store, add('k', 0)), [{ value: -2.5 }], 'by nothing');
  equal(await valueAt(store, 'k'), -2.5, 'the value');
});

fact('D8: several increments of one batch see each other', async ({ open }) => {
  const store = await open();
  const outcomes = await change(store, add('k', 1), add('other', 9), add('k', 2), set('k', 10), add('k', 3));
  equal(outcomes, [{ value: 1 }, { value: 9 }, { value: 3 }, {}, { value: 13 }], 'the outcomes');
  equal([await valueAt(store, 'k'), await valueAt(store, 'other')], [13, 9], 'the values');
  equal(await change(store, remove('k'), add('k', 4)), [{}, { value: 4 }], 'the outcomes after a deletion');
});

fact('D8: an increment of what is no number is refused with the whole batch', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const before = await load(store, 'r');
  for (const value of ['1', '', true, null, [], { a: 1 }]) {
    await change(store, set('text', value));
    await refusedWith(store, 'NOT_A_NUMBER', 1, {
      run: { runId: 'r', fence: 1, append: [stepped('s')], state: running() },
      state: [set('new', 1), add('text', 1), set('newer', 1)],
      starts: [newRun('x')],
    });
    equal(await valueAt(store, 'text'), value, 'the value');
  }
  equal(await load(store, 'r'), before, 'the run');
  equal([await store.state('new'), await store.state('newer')], [undefined, undefined], 'the other keys');
  equal(await store.load('x'), undefined, 'the started run');
});

fact('D8: -0, which JSON can not say, is counted with like 0', async ({ open }) => {
  const store = await open();
  await change(store, set('k', { $: ['number', '-0'] }));
  equal(await change(store, add('k', 3)), [{ value: 3 }], 'the outcome');
  equal(await valueAt(store, 'k'), 3, 'the value');
});

fact('D8: a sum that is no finite number is refused', async ({ open }) => {
  const store = await open();
  await change(store, set('k', Number.MAX_VALUE));
  await refusedWith(store, 'NOT_A_NUMBER', 0, { state: [add('k', Number.MAX_VALUE)] });
  equal(await valueAt(store, 'k'), Number.MAX_VALUE, 'the value');
});

fact('D8: an increment keeps the expiry of its value unless it gives one', async ({ open }) => {
  const store = await open();
  const expiry = async () => (await store.state('k'))?.expiresAt;
  await change(store, add('k', 1, now + 10));
  equal(await expiry(), now + 10, 'given to a new value');
  await change(store, add('k', 1));
  equal(await expiry(), now + 10, 'kept');
  await change(store, add('k', 1, now + 20));
  equal(await expiry(), now + 20, 'given to a value that had one');
  equal(await valueAt(store, 'k', now + 19), 3, 'the value');
});

fact('D8: 64 concurrent increments from two contexts are all counted', async ({ open, openOther }) => {
  const stores = [await open(), await openOther()];
  const told = await Promise.all(range(64).map(async (index) => (await change(stores[index % 2]!, add('k', 1)))[0]));
  equal(
    told.map((each) => each?.value).sort((a, b) => a! - b!),
    range(64).map((index) => index + 1),
    'the sums',
  );
  equal(await valueAt(stores[1]!, 'k'), 64, 'the value');
});
