import type { NewRun } from '../../store/batch.js';
import type { Store } from '../../store/store.js';
import {
  caseGroup,
  claim,
  commit,
  ended,
  load,
  newRun,
  now,
  over,
  remove,
  rowOf,
  start,
  started,
  stepped,
} from './env.js';
import { equal } from './kit.js';

const { cases, fact } = caseGroup('remembered runs');

/** The cases about what is remembered of deleted runs (spec Q1). */
export const remembered = cases;

const startOutcome = async (store: Store, runId: string, given: Partial<NewRun> = {}, at = now) =>
  (await commit(store, { now: at, starts: [newRun(runId, given)] })).starts[0]!;

fact('Q1: id and key of a deleted run are remembered with its fingerprint up to their instant', async ({ open }) => {
  const store = await open();
  await over(store, newRun('r', { idempotencyKey: 'k', keyUntil: now + 100 }));
  await remove(store, 'r');
  const known = { kind: 'exists', runId: 'r', fingerprint: 'of r' };
  for (const at of [now, now + 99]) {
    equal(await startOutcome(store, 'r', {}, at), known, `by id, ${at - now} ms later`);
    equal(await startOutcome(store, 'x', { idempotencyKey: 'k' }, at), known, `by key, ${at - now} ms later`);
  }
  equal([await store.load('r'), await store.load('x')], [undefined, undefined], 'the runs');
  const at = now + 100;
  equal(await startOutcome(store, 'x', { idempotencyKey: 'k' }, at), { kind: 'created', runId: 'x' }, 'by key, then');
  equal(await startOutcome(store, 'r', {}, at), { kind: 'created', runId: 'r' }, 'by id, then');
});

fact('Q1: a deleted run that had no key is remembered by its id alone', async ({ open }) => {
  const store = await open();
  await over(store, newRun('r', { keyUntil: now + 100 }));
  await remove(store, 'r');
  equal(await startOutcome(store, 'x'), { kind: 'created', runId: 'x' }, 'a start without a key');
  equal((await startOutcome(store, 'r')).kind, 'exists', 'a start with its id');
});

fact('Q1: the key of a deleted run is remembered for its job alone', async ({ open }) => {
  const store = await open();
  await over(store, newRun('r', { idempotencyKey: 'k', keyUntil: now + 100 }));
  await remove(store, 'r');
  const given = { idempotencyKey: 'k', job: 'other' };
  equal(await startOutcome(store, 'x', given), { kind: 'created', runId: 'x' }, 'the outcome');
});

fact('Q1: what is remembered of deleted runs is there when the store is opened again', async ({ open }) => {
  const store = await open();
  await over(store, newRun('r', { idempotencyKey: 'k', keyUntil: now + 100 }), newRun('forgotten'));
  await remove(store, 'r', 'forgotten');
  await store.close();
  const again = await open();
  const known = { kind: 'exists', runId: 'r', fingerprint: 'of r' };
  equal(await startOutcome(again, 'r'), known, 'by id');
  equal(await startOutcome(again, 'x', { idempotencyKey: 'k' }), known, 'by key');
  equal(await startOutcome(again, 'forgotten'), { kind: 'created', runId: 'forgotten' }, 'the other one');
});

fact('Q1: a deleted run whose time to be remembered is over, or was never given, is forgotten', async ({ open }) => {
  const store = await open();
  await over(
    store,
    newRun('never', { idempotencyKey: 'never' }),
    newRun('over', { idempotencyKey: 'over', keyUntil: now }),
  );
  await remove(store, 'never', 'over');
  for (const runId of ['never', 'over']) {
    const given = { idempotencyKey: runId };
    equal(await startOutcome(store, `other ${runId}`, given), { kind: 'created', runId: `other ${runId}` }, 'by key');
    equal(await startOutcome(store, runId), { kind: 'created', runId }, 'by id');
  }
});

fact('Q1: a run is remembered as long as it is kept, whatever its instant says', async ({ open }) => {
  const store = await open();
  await over(store, newRun('r', { idempotencyKey: 'k', keyUntil: now + 1 }));
  const at = now + 1000;
  equal(await startOutcome(store, 'r', {}, at), { kind: 'exists', runId: 'r' }, 'by id');
  equal(await startOutcome(store, 'x', { idempotencyKey: 'k' }, at), { kind: 'exists', runId: 'r' }, 'by key');
});

fact('Q1: the time for which a run is remembered outlives the commits of its owner', async ({ open }) => {
  const store = await open();
  await start(store, 'r', { keyUntil: now + 7 });
  await commit(store, { run: claim('r', 0) });
  equal((await rowOf(store, 'r')).keyUntil, now + 7, 'the instant');
});

fact('Q1: a run is created anew under an id that is forgotten, and nothing of the first is left', async ({ open }) => {
  const store = await open();
  await start(store, 'r', { tags: ['old'], idempotencyKey: 'k', entries: [started('old'), stepped('old')] });
  await commit(store, { run: claim('r', 0, 'a', { append: [stepped('s')], state: ended('failed') }) });
  await remove(store, 'r');
  await start(store, 'r', { entries: [started('new')] });
  const { row, journal } = await load(store, 'r');
  equal(journal, [started('new')], 'the journal');
  equal([row.length, row.fence, row.tags, row.endedAt, row.status], [1, 0, undefined, undefined, 'queued'], 'the row');
  await commit(store, { run: claim('r', 0, 'a', { append: [stepped('t')] }) });
  await store.close();
  equal((await load(await open(), 'r')).journal, [started('new'), stepped('t')], 'the journal when opened again');
});
