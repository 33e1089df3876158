import type { Batch } from '../../store/batch.js';
import { FORMAT_VERSION } from '../../store/journal.js';
import {
  cancel,
  cancelling,
  caseGroup,
  claim,
  commit,
  deletion,
  due,
  dueIds,
  eventsOf,
  leaseMs,
  load,
  newEvent,
  newRun,
  now,
  running,
  start,
} from './env.js';
import { equal, rejects } from './kit.js';

const { cases, fact } = caseGroup('two releases');

/** The cases about code of two releases on one medium (spec O6, D4). */
export const releases = cases;

const older = { format: FORMAT_VERSION };
const newer = { format: FORMAT_VERSION + 1 };

fact(
  'once a newer release drives, every commit of an older one is refused whole, and it still reads',
  async ({ open }) => {
    const old = await open('use', 'old', older);
    await start(old, 'r');
    const young = await open('drive', 'young', newer);
    const all = {
      now,
      starts: [newRun('late')],
      state: [{ kind: 'set', key: 'k', value: 1 } as const],
    };
    await rejects(old.commit(all), 'STORE_TOO_NEW', 'a start');
    await rejects(old.commit({ now, run: { ...claim('r', 0), fence: 'any' } }), 'STORE_TOO_NEW', 'a change of a run');
    equal((await load(old, 'r')).row.fence, 0, 'the fence that the older one reads');
    equal([await old.load('late'), await old.state('k')], [undefined, undefined], 'what the older one was refused');
    await commit(young, { run: claim('r', 0) });
    equal((await load(old, 'r')).row.fence, 1, 'the fence when the newer one has claimed the run');
  },
);

fact('whatever is in a commit of an older release, alone or with others, it is refused', async ({ open }) => {
  const old = await open('use', 'old', older);
  for (const runId of ['r', 'ended']) await start(old, runId);
  await cancel(old, 'ended');
  const young = await open('drive', 'young', newer);
  const before = await load(young, 'r');
  const parts: { readonly [part: string]: Partial<Batch> } = {
    nothing: {},
    'a change from outside': { run: cancelling('r') },
    'a write to the state': { state: [{ kind: 'set', key: 'k', value: 1 }] },
    'a start': { starts: [newRun('s')] },
    'an event': { events: [newEvent('e')] },
    'a deletion': { deletes: [deletion('ended')] },
  };
  for (const [part, batch] of Object.entries(parts))
    await rejects(old.commit({ now, ...batch }), 'STORE_TOO_NEW', part);
  equal(
    [await load(young, 'r'), await young.load('s'), await young.state('k')],
    [before, undefined, undefined],
    'what is kept',
  );
  equal([(await load(young, 'ended')).row.status, await eventsOf(young)], ['cancelled', []], 'what is left');
  await young.close();
  const opening = { owner: 'old', now, leaseMs, mode: 'drive', onError: () => undefined, ...older } as const;
  await rejects(old.open(opening), 'STORE_TOO_NEW', 'opening again to drive');
});

fact(
  'an older release that drives is stopped at its next commit',
  async ({ open }) => {
    const old = await open('drive', 'old', older);
    await start(old, 'r');
    await commit(old, { run: { ...claim('r', 0), state: running('old', { unsettled: true }) } });
    const young = await open('drive', 'young', newer);
    equal(dueIds(await due(young, { owner: 'young' })), [], 'what is due while the older one is there');
    await rejects(old.commit({ now, run: { runId: 'r', fence: 1, append: [] } }), 'STORE_TOO_NEW', 'a confirmation');
    await rejects(old.commit({ now, run: claim('r', 1) }), 'STORE_TOO_NEW', 'a claim');
    equal(dueIds(await due(young, { owner: 'young' })), ['r'], 'what the newer one takes up');
  },
  { owners: 'many' },
);

fact('what a newer release demands outlives it, and an older one that comes later only reads', async ({ open }) => {
  const young = await open('drive', 'young', newer);
  await start(young, 'r');
  await young.close();
  await rejects(open('drive', 'old', older), 'STORE_TOO_NEW', 'opening to drive');
  const old = await open('use', 'old', older);
  equal((await load(old, 'r')).row.runId, 'r', 'the run that the older one reads');
  await rejects(old.commit({ now, starts: [newRun('late')] }), 'STORE_TOO_NEW', 'a commit while nobody drives');
  const again = await open('drive', 'young again', newer);
  await commit(again, { starts: [newRun('s')] });
});

fact('a release of the same format, or one that names none, is refused nothing', async ({ open }) => {
  const one = await open('drive', 'one', older);
  await start(one, 'r');
  await one.close();
  const two = await open();
  await commit(two, { run: claim('r', 0) });
  const three = await open('use', 'three', older);
  await start(three, 's');
});
