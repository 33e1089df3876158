import type { CommitOutcome } from '../../store/batch.js';
import type { RunState } from '../../store/rows.js';
import {
  caseGroup,
  claim,
  claimed,
  commit,
  ended,
  leaseMs,
  load,
  now,
  refused,
  rowOf,
  running,
  start,
  stepped,
  waiting,
} from './env.js';
import { check, equal, range } from './kit.js';

const { cases, fact } = caseGroup('fences');

/** The cases about who may write to a run (spec O1; rule S2). */
export const fences = cases;

const cancelled = { kind: 'cancelled', at: now } as const;

fact('a new run has fence 0, and a claim raises it by one', async ({ open }) => {
  const store = await open();
  await start(store, 'r');
  equal((await rowOf(store, 'r')).fence, 0, 'the fence before');
  equal((await commit(store, { run: claim('r', 0) })).fence, 1, 'the fence told');
  equal((await rowOf(store, 'r')).fence, 1, 'the fence kept');
});

fact('a commit without raise keeps the fence', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const { fence } = await commit(store, { run: { runId: 'r', fence: 1, append: [stepped('s')], state: running() } });
  equal([fence, (await rowOf(store, 'r')).fence], [1, 1], 'the fence told and kept');
});

fact('a commit with a stale fence is refused, hears the present one and changes nothing', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const before = await load(store, 'r');
  const outcome = await refused(store, { run: claim('r', 0, 'b') }, 'fenced');
  equal(outcome, { kind: 'fenced', fence: 1 }, 'the outcome');
  equal(await load(store, 'r'), before, 'the run');
});

fact(
  'a claim that has read a shorter journal is refused, though the fence is the same, and changes nothing',
  async ({ open }) => {
    const store = await open();
    await claimed(store, 'r');
    const { length } = await rowOf(store, 'r');
    await commit(store, { run: { runId: 'r', fence: 1, append: [stepped('s')], state: running() } });
    const before = await load(store, 'r');
    const stale = { ...claim('r', 1, 'b'), length };
    equal(await refused(store, { run: stale }, 'fenced'), { kind: 'fenced', fence: 1 }, 'the outcome');
    equal(await load(store, 'r'), before, 'the run');
    equal(
      (await commit(store, { run: { ...stale, length: length + 1 } })).fence,
      2,
      'the fence of one that has read it all',
    );
  },
);

fact(
  'O1: a claim of a run that was found at rest is refused once its owner is at work, though that has written nothing to its journal',
  async ({ open }) => {
    const store = await open();
    for (const [runId, state] of [
      ['running', running()],
      ['unsettled', waiting([], { unsettled: true, dueAt: now })],
    ] as const) {
      await claimed(store, runId);
      const { length } = (await load(store, runId)).row;
      const to = (state: RunState) => commit(store, { run: { runId, fence: 1, append: [], state } });
      const found = claim(runId, 1, 'b', { length, resting: true });
      await to(state);
      equal(await refused(store, { run: found }, 'fenced'), { kind: 'fenced', fence: 1 }, 'the outcome');
      await to(waiting([]));
      equal((await commit(store, { run: found })).fence, 2, 'the fence of one that finds it at rest still');
    }
  },
);

fact('a commit with a fence that nobody holds yet is refused', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const run = { runId: 'r', fence: 2, append: [stepped('s')], state: running() };
  equal(await refused(store, { run }, 'fenced'), { kind: 'fenced', fence: 1 }, 'the outcome');
});

fact('a commit to a run that is not there is fenced with 0', async ({ open }) => {
  const store = await open();
  for (const fence of [0, 1, 'any'] as const)
    equal(
      await refused(store, { run: { ...claim('r', 0), fence } }, 'fenced'),
      { kind: 'fenced', fence: 0 },
      `fence ${fence}`,
    );
  equal(await store.load('r'), undefined, 'the run');
});

fact('any context cancels a run that somebody else drives', async ({ open, openOther }) => {
  const store = await open();
  const other = await openOther();
  await claimed(store, 'r');
  const run = { runId: 'r', fence: 'any', raise: true, append: [cancelled], state: ended('cancelled') } as const;
  equal((await commit(other, { run })).fence, 2, 'the fence');
  const { row, journal } = await load(store, 'r');
  equal([row.status, row.fence, journal.at(-1)], ['cancelled', 2, cancelled], 'the run');
});

fact(
  'F9: a change from outside leaves the version and the start of a run as they are, whatever it was told of them',
  async ({ open, openOther }) => {
    const store = await open();
    const other = await openOther();
    await start(store, 'begun');
    await commit(store, { run: claim('begun', 0, 'a', { state: running('a', { version: 3, startedAt: now - 7 }) }) });
    await start(store, 'new', { version: 2 });
    const stale = [{ version: 1 }, { version: 9, startedAt: now + 7 }];
    const told = async (runId: string) => {
      const { version, startedAt } = await rowOf(store, runId);
      return [version, startedAt];
    };
    for (const state of [...stale.map((each) => ({ ...waiting([]), ...each })), { ...ended('cancelled'), ...stale[1] }])
      for (const runId of ['begun', 'new']) {
        await commit(other, { run: { runId, fence: 'any', append: [cancelled], state } });
        equal(await told(runId), runId === 'new' ? [2, undefined] : [3, now - 7], `"${runId}", ${state.status}`);
      }
  },
);

fact('the owner of a run that somebody else cancelled is fenced', async ({ open, openOther }) => {
  const store = await open();
  const other = await openOther();
  await claimed(store, 'r');
  await commit(other, {
    run: { runId: 'r', fence: 'any', raise: true, append: [cancelled], state: ended('cancelled') },
  });
  const late = { runId: 'r', fence: 1, append: [stepped('s')], state: running() };
  equal(await refused(store, { run: late }, 'fenced'), { kind: 'fenced', fence: 2 }, 'the outcome');
});

fact('a run that has ended is not cancelled any more', async ({ open }) => {
  const store = await open();
  for (const status of ['completed', 'failed', 'cancelled'] as const) {
    await start(store, status);
    await commit(store, { run: claim(status, 0, 'a', { state: ended(status) }) });
    const before = await load(store, status);
    const run = { runId: status, fence: 'any', raise: true, append: [cancelled], state: ended('cancelled') } as const;
    equal(await refused(store, { run }, 'ended'), { kind: 'ended', status }, 'the outcome');
    equal(await load(store, status), before, 'the run');
  }
});

fact('of many concurrent cancels of one run one ends it', async ({ open, openOther }) => {
  const stores = [await open(), await openOther()];
  await claimed(stores[0]!, 'r');
  const run = { runId: 'r', fence: 'any', raise: true, append: [cancelled], state: ended('cancelled') } as const;
  const outcomes = await Promise.all(range(16).map((index) => stores[index % 2]!.commit({ now, run })));
  equal(outcomes.filter(({ kind }) => kind === 'committed').length, 1, 'the number of commits');
  equal(outcomes.filter(({ kind }) => kind === 'ended').length, 15, 'the number of refusals');
  equal(
    (await load(stores[0]!, 'r')).journal.filter(({ kind }) => kind === 'cancelled').length,
    1,
    'cancelled entries',
  );
});

fact('a run that has ended is reopened by who knows its fence', async ({ open }) => {
  const store = await open();
  await start(store, 'r');
  await commit(store, { run: claim('r', 0, 'a', { state: ended('failed') }) });
  const state = { status: 'queued', version: 1, dueAt: now, waits: [] } as const;
  const run = {
    runId: 'r',
    fence: 1,
    raise: true,
    append: [{ kind: 'retried', at: now, forgets: [] }],
    state,
  } as const;
  equal((await commit(store, { run })).fence, 2, 'the fence');
  const row = await rowOf(store, 'r');
  equal([row.status, row.endedAt, row.owner], ['queued', undefined, undefined], 'the row');
});

fact('a confirmation of the fence changes nothing', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const before = await load(store, 'r');
  equal((await commit(store, { run: { runId: 'r', fence: 1, append: [] } })).fence, 1, 'the fence told');
  equal(await load(store, 'r'), before, 'the run');
});

fact('a confirmation of a stale fence is refused', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  equal(
    await refused(store, { run: { runId: 'r', fence: 0, append: [] } }, 'fenced'),
    { kind: 'fenced', fence: 1 },
    'the outcome',
  );
});

fact('of 32 concurrent claims that expect one fence exactly one wins', async ({ open, owners, openOther }) => {
  const store = await open();
  const stores = owners === 'many' ? [store, await openOther()] : [store];
  await start(store, 'r');
  const outcomes = await Promise.all(
    range(32).map((index) => stores[index % stores.length]!.commit({ now, run: claim('r', 0, `owner ${index}`) })),
  );
  const winners = range(32).filter((index) => outcomes[index]!.kind === 'committed');
  equal(winners.length, 1, 'the number of winners');
  const { row, journal } = await load(store, 'r');
  equal([row.owner, row.fence, row.length, journal.length], [`owner ${winners[0]}`, 1, 2, 2], 'the run');
  const lost: CommitOutcome = { kind: 'fenced', fence: 1 };
  for (const outcome of outcomes) if (outcome.kind !== 'committed') equal(outcome, lost, 'the outcome of a loser');
});

fact('a fence grows by one with each of many claims in turn', async ({ open }) => {
  const store = await open();
  await start(store, 'r');
  for (const fence of range(20)) equal((await commit(store, { run: claim('r', fence) })).fence, fence + 1, 'the fence');
});

fact('a fence is never given twice, not even when the store is opened again', async ({ open }) => {
  for (const fence of range(4)) {
    const store = await open();
    if (fence === 0) await start(store, 'r');
    equal((await commit(store, { run: claim('r', fence) })).fence, fence + 1, 'the fence');
    await store.close();
  }
  const store = await open();
  equal((await rowOf(store, 'r')).fence, 4, 'the fence kept');
  for (const stale of range(4)) await refused(store, { run: claim('r', stale) }, 'fenced');
});

fact('a late commit of the owner before is refused after a takeover', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  await commit(store, { run: claim('r', 1, 'b') });
  const before = await load(store, 'r');
  const late = { runId: 'r', fence: 1, append: [stepped('s', 'late')], state: running('a') };
  equal(await refused(store, { run: late }, 'fenced'), { kind: 'fenced', fence: 2 }, 'the outcome');
  equal(await load(store, 'r'), before, 'the run');
});

fact(
  'a late commit of the owner before is refused after a takeover by another context',
  async ({ open, openOther }) => {
    const [old, next] = [await open(), await openOther()];
    await claimed(old, 'r');
    await commit(next, { run: claim('r', 1, 'b') });
    const late = { runId: 'r', fence: 1, append: [stepped('s', 'late')], state: running('a') };
    await refused(old, { run: late }, 'fenced');
    await commit(next, { run: { ...late, fence: 2, append: [stepped('s', 'new')], state: running('b') } });
    equal((await load(old, 'r')).journal.at(-1), stepped('s', 'new'), 'the last entry');
  },
  { owners: 'many' },
);

fact(
  'two contexts that claim runs at once get each run once',
  async ({ open, openOther }) => {
    const stores = [await open(), await openOther()];
    const runIds = range(30).map((index) => `r${index}`);
    for (const runId of runIds) await start(stores[0]!, runId);
    const won = await Promise.all(
      runIds.map(async (runId) => {
        const outcomes = await Promise.all(
          stores.map((store, index) => store.commit({ now, run: claim(runId, 0, 'ab'[index]) })),
        );
        return outcomes.filter(({ kind }) => kind === 'committed').length;
      }),
    );
    equal(
      won,
      runIds.map(() => 1),
      'the winners of each run',
    );
  },
  { owners: 'many' },
);

fact(
  'a run of a crashed owner is taken over by the next one',
  async ({ open }) => {
    const store = await open('drive', 'a');
    await claimed(store, 'r');
    store.abandon!();
    const next = await open('drive', 'b', { now: now + 10 * leaseMs });
    const { fence } = await rowOf(next, 'r');
    equal((await commit(next, { now: now + 10 * leaseMs, run: claim('r', fence, 'b') })).fence, 2, 'the fence');
  },
  { abandons: true },
);

fact('commits that the present owner makes at once all land, in the order in which it made them', async ({ open }) => {
  const store = await open();
  await claimed(store, 'r');
  const names = range(20).map((index) => `s${index}`);
  await Promise.all(
    names.map((name) => commit(store, { run: { runId: 'r', fence: 1, append: [stepped(name)], state: running() } })),
  );
  const found = (await load(store, 'r')).journal.flatMap((entry) =>
    entry.kind === 'step-completed' ? [entry.id[0]] : [],
  );
  equal(found, names, 'the steps in the journal');
  check((await rowOf(store, 'r')).length === 22, 'the length counts all');
});
