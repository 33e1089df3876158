import type { Store } from '../../store/store.js';
import {
  caseGroup,
  claim,
  claimed,
  commit,
  dispatch,
  due,
  ended,
  eventsOf,
  ids,
  leaseMs,
  load,
  now,
  openWait,
  rowOf,
  running,
  start,
  stepped,
  wait,
} from './env.js';
import { check, equal, eventually, range, rejects } from './kit.js';

const { cases, fact } = caseGroup('life');

/** The cases about opening, closing, crashing, and several contexts on one medium (spec D6, O1-O3; rules S1, S7). */
export const life = cases;

/** Changes run `r` again and again until the hint is heard: single hints may be lost. */
async function heard(changes: Store, listens: () => boolean): Promise<void> {
  await eventually(async () => {
    await commit(changes, { run: { runId: 'r', fence: 1, append: [], state: running() } });
    return listens();
  }, 'a hint arrives');
}

fact('after close every call is refused', async ({ open }) => {
  const store = await open();
  await start(store, 'r');
  await store.close();
  await rejects(store.commit({ now }), 'CLOSED', 'commit');
  await rejects(due(store), 'CLOSED', 'due');
  await rejects(store.load('r'), 'CLOSED', 'load');
  await rejects(store.list({ limit: 1 }), 'CLOSED', 'list');
  await rejects(store.state('k'), 'CLOSED', 'state');
  await rejects(store.open({ owner: 'a', now, leaseMs, mode: 'drive', onError: () => undefined }), 'CLOSED', 'open');
});

fact('a store may be closed twice', async ({ open }) => {
  const store = await open();
  await Promise.all([store.close(), store.close()]);
  await store.close();
});

fact('close waits for the commits under way', async ({ open }) => {
  const store = await open();
  const commits = range(20).map((index) => start(store, `r${index}`));
  await store.close();
  await Promise.all(commits);
  equal((await (await open()).list({ limit: 100 })).runs.length, 20, 'the number of runs');
});

fact('closing one context leaves the other at work', async ({ open, openOther }) => {
  const [store, other] = [await open(), await openOther()];
  await start(other, 'before');
  await other.close();
  await start(store, 'after');
  equal(
    (await store.list({ limit: 9 })).runs.map(({ row }) => row.runId),
    ['after', 'before'],
    'the runs',
  );
});

fact('a store that is opened again sees everything', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r', 'waits');
  await commit(store, { run: { runId: 'r', fence: 1, append: [stepped('s', { a: 1 })], state: running() } });
  await wait(store, 'waits', openWait({ key: 'k', deadline: now + 9 }));
  await dispatch(store, 'e');
  const before = structuredClone([await load(store, 'r'), await load(store, 'waits'), await store.list({ limit: 9 })]);
  await store.close();
  const again = await open();
  equal([await load(again, 'r'), await load(again, 'waits'), await again.list({ limit: 9 })], before, 'the runs');
  equal(ids(await eventsOf(again)), ['e'], 'the events');
});

fact('a store that is opened twice goes on as it was', async ({ open }) => {
  const store = await open();
  await start(store, 'r');
  await store.open({ owner: 'a', now, leaseMs, mode: 'drive', onError: () => undefined });
  equal((await rowOf(store, 'r')).runId, 'r', 'the run');
});

fact('a context that only uses the store becomes a driver when it opens again', async ({ open }) => {
  const store = await open('use');
  await start(store, 'r');
  await store.open({ owner: 'a', now, leaseMs, mode: 'drive', onError: () => undefined });
  equal((await commit(store, { run: claim('r', 0) })).fence, 1, 'the fence');
});

fact('a context that only uses the store starts, dispatches, cancels and reads without a driver', async ({ open }) => {
  const store = await open('use');
  await start(store, 'r');
  equal((await dispatch(store, 'e')).kind, 'accepted', 'the event');
  const cancel = { runId: 'r', fence: 'any', raise: true, append: [], state: ended('cancelled') } as const;
  await commit(store, { run: cancel });
  equal((await rowOf(store, 'r')).status, 'cancelled', 'the status');
  equal((await store.list({ limit: 9 })).runs.length, 1, 'the number of runs');
});

fact('two contexts see the commits of each other at once', async ({ open, openOther }) => {
  const [store, other] = [await open(), await openOther()];
  for (const index of range(10)) {
    const [writer, reader] = index % 2 ? [store, other] : [other, store];
    await start(writer, `r${index}`);
    equal((await rowOf(reader, `r${index}`)).runId, `r${index}`, 'the run');
    equal((await reader.list({ limit: 1 })).runs[0]?.row.runId, `r${index}`, 'the newest run');
  }
});

fact('a context sees what another has appended to a run', async ({ open, openOther }) => {
  const [store, other] = [await open(), await openOther()];
  await claimed(store, 'r');
  equal((await load(other, 'r')).journal.length, 2, 'the length before');
  await commit(store, { run: { runId: 'r', fence: 1, append: [stepped('s')], state: running() } });
  equal(await load(other, 'r'), await load(store, 'r'), 'the run');
});

fact('media are apart from each other', async ({ open }) => {
  equal(await (await open()).list({ limit: 9 }), { runs: [] }, 'the runs of a fresh medium');
});

fact('200 concurrent commits on different runs all land', async ({ open, openOther }) => {
  const stores = [await open(), await openOther()];
  await Promise.all(range(200).map((index) => start(stores[index % 2]!, `r${index}`)));
  const { runs } = await stores[0]!.list({ limit: 300 });
  equal(runs.length, 200, 'the number of runs');
  equal(new Set(runs.map(({ row }) => row.seq)).size, 200, 'the number of sequence numbers');
});

fact('a refused commit does not hold up the next ones', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const outcomes = await Promise.all(
    range(20).map((index) =>
      store.commit({ now, run: { runId: 'r', fence: index % 2, append: [stepped(`s${index}`)], state: running() } }),
    ),
  );
  equal(
    outcomes.map(({ kind }) => kind),
    range(20).map((index) => (index % 2 ? 'committed' : 'fenced')),
    'the outcomes',
  );
  equal((await rowOf(store, 'r')).length, 12, 'the length of the journal');
});

fact('a listener hears of changes of its own context', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const hints: (string | undefined)[] = [];
  store.watch((runId) => hints.push(runId));
  await heard(store, () => hints.some((runId) => runId === undefined || runId === 'r'));
});

fact('a listener hears of changes of another context', async ({ open, openOther }) => {
  const [store, other] = [await open(), await openOther()];
  await claimed(store, 'r');
  const hints: (string | undefined)[] = [];
  other.watch((runId) => hints.push(runId));
  await heard(store, () => hints.some((runId) => runId === undefined || runId === 'r'));
});

fact('a driver hears of an event that another context has dispatched to its run', async ({ open, openOther }) => {
  const [store, other] = [await open(), await openOther()];
  await claimed(store, 'r');
  await wait(store, 'r', openWait());
  const hints: (string | undefined)[] = [];
  store.watch((runId) => hints.push(runId));
  let count = 0;
  await eventually(async () => {
    await dispatch(other, `e${count++}`);
    return hints.some((runId) => runId === undefined || runId === 'r');
  }, 'a hint arrives');
});

fact('S7: a listener is not told that the change of another context is its own', async ({ open, openOther }) => {
  const [store, other] = [await open(), await openOther()];
  const hints: (boolean | undefined)[] = [];
  store.watch((_, isOwn) => hints.push(isOwn));
  let count = 0;
  await eventually(async () => {
    await start(other, `r${count++}`);
    return hints.length > 0;
  }, 'a hint arrives');
  check(!hints.includes(true), 'the change of another is told as its own');
});

fact('a listener that was taken off hears nothing more', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  let [gone, stays] = [0, 0];
  const stop = store.watch(() => gone++);
  stop();
  store.watch(() => stays++);
  await heard(store, () => stays > 0);
  equal(gone, 0, 'the hints heard');
  stop();
});

fact('a listener that throws breaks neither the commit nor other listeners', async ({ open }) => {
  const store = await open('drive', 'a', { onError: () => undefined });
  await claimed(store, 'r');
  let [thrown, hints] = [0, 0];
  store.watch(() => {
    thrown++;
    throw new Error('from a listener');
  });
  store.watch(() => hints++);
  await heard(store, () => thrown > 0 && hints > 0);
});

fact('an error of a listener is reported', async ({ open }) => {
  const errors: unknown[] = [];
  const store = await open('drive', 'a', { onError: (error) => errors.push(error) });
  await claimed(store, 'r');
  const error = new Error('from a listener');
  store.watch(() => {
    throw error;
  });
  await heard(store, () => errors.length > 0);
  const chain = [errors[0], (errors[0] as Error | undefined)?.cause];
  check(chain.includes(error), `the error itself is reported, or is the cause: ${errors[0]}`);
});

fact(
  'what was committed before a crash is there after it',
  async ({ open }) => {
    const store = await open('drive', 'a');
    await claimed(store, 'r');
    await commit(store, { run: { runId: 'r', fence: 1, append: [stepped('s', { a: 1 })], state: running() } });
    await dispatch(store, 'e');
    const before = structuredClone(await load(store, 'r'));
    store.abandon!();
    const again = await open('drive', 'b');
    equal(await load(again, 'r'), before, 'the run');
    equal(ids(await eventsOf(again)), ['e'], 'the events');
  },
  { abandons: true },
);

fact(
  'a commit that a crash cuts off is there as a whole or not at all',
  async ({ open }) => {
    for (const round of range(8)) {
      const store = await open('drive', `a${round}`);
      const runId = `r${round}`;
      await claimed(store, runId);
      const cut = store.commit({
        now,
        run: { runId, fence: 1, append: [stepped('s'), stepped('t')], state: running() },
        starts: [{ ...startOf(`x${round}`) }, { ...startOf(`y${round}`) }],
      });
      const settled = cut.then(
        ({ kind }) => kind,
        () => 'rejected',
      );
      for (let turn = 0; turn < round; turn++) await null;
      store.abandon!();
      const outcome = await settled;
      const again = await open('drive', `b${round}`);
      const { length } = await rowOf(again, runId);
      const found = [length, Boolean(await again.load(`x${round}`)), Boolean(await again.load(`y${round}`))];
      check([2, 4].includes(length), `half of the entries: ${length}`);
      equal(found, [length, length === 4, length === 4], 'the parts of the commit');
      if (outcome === 'committed') equal(length, 4, 'the length of what was acknowledged');
      await again.close();
    }
  },
  { abandons: true },
);

fact(
  'after a crash of its context every call is refused',
  async ({ open }) => {
    const store = await open();
    await start(store, 'r');
    store.abandon!();
    await rejects(store.commit({ now }), 'CLOSED', 'commit');
    await rejects(due(store), 'CLOSED', 'due');
    await rejects(store.load('r'), 'CLOSED', 'load');
    await rejects(store.list({ limit: 1 }), 'CLOSED', 'list');
    await rejects(store.state('k'), 'CLOSED', 'state');
    await rejects(store.open({ owner: 'a', now, leaseMs, mode: 'drive', onError: () => undefined }), 'CLOSED', 'open');
  },
  { abandons: true },
);

function startOf(runId: string) {
  return {
    runId,
    job: 'job',
    version: 1,
    queue: 'queue',
    dueAt: now,
    entries: [{ kind: 'started', at: now, payload: null }],
  } as const;
}
