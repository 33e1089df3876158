import { createCodec } from '../../values/codec.js';
import type { Json } from '../../values/json.js';
import {
  caseGroup,
  claim,
  claimed,
  commit,
  dispatch,
  eventsOf,
  leaseMs,
  load,
  newRun,
  now,
  running,
  start,
  started,
  stepped,
} from './env.js';
import { check, equal, rejects } from './kit.js';

const { cases, fact } = caseGroup('capabilities');

/** The cases about what a store says that it can do (spec D6). */
export const capabilities = cases;

fact('D6: a store says what it can do in the words of the contract, opened or not', async ({ unopened, open }) => {
  const store = unopened();
  const said = { ...store.capabilities };
  const { durability, owners, blobs } = said;
  check(typeof store.name === 'string' && store.name !== '', 'it has a name');
  check(['none', 'process', 'power'].includes(durability), `durability: ${durability}`);
  check(['one', 'many'].includes(owners), `owners: ${owners}`);
  equal(typeof blobs, 'boolean', 'the type of blobs');
  const opened = await open();
  equal({ ...opened.capabilities }, said, 'what another says that is open');
});

fact('O1, O3: as many contexts drive a medium at once as its stores say', async ({ open, owners }) => {
  const store = await open();
  await claimed(store, 'r');
  if (owners === 'one') await rejects(open('drive', 'b'), 'STORE_LOCKED', 'a second one that is opened to drive');
  const other = await open(owners === 'one' ? 'use' : 'drive', 'b');
  await start(other, 's');
  const take = { run: claim('s', 0, 'b') };
  if (owners === 'one')
    await rejects(other.commit({ now, ...take }), 'STORE_LOCKED', 'a claim by one that does not drive');
  else await commit(other, take);
  await commit(store, { run: { runId: 'r', fence: 1, append: [stepped('s')], state: running() } });
  await store.close();
  await other.open({ owner: 'b', now, leaseMs, mode: 'drive', onError: () => undefined });
  const { fence } = (await load(other, 's')).row;
  await commit(other, { run: claim('s', fence, 'b') });
});

interface Readable {
  readonly type: string;
  text(): Promise<string>;
}
const platform = globalThis as { readonly Blob?: new (parts: string[], options: object) => Readable };

fact('D7: a store that says that it keeps blobs keeps them', async ({ open }) => {
  const store = await open();
  const { Blob } = platform;
  if (!store.capabilities.blobs || !Blob) return; // no engine hands it one
  const type = 'text/plain';
  const codec = createCodec({ blobs: true });
  const value = codec.encode({ blob: new Blob(['a blob'], { type }) });
  await commit(store, {
    starts: [newRun('r', { entries: [started(value)] })],
    state: [{ kind: 'set', key: 'k', value }],
  });
  await commit(store, {
    run: claim('r', 0, 'a', { append: [stepped('s', value)], state: running('a', { progress: value }) }),
  });
  await dispatch(store, 'e', { payload: value });
  await store.close();
  const again = await open();
  const { row, journal } = await load(again, 'r');
  const [first, second] = journal as readonly { readonly payload?: Json; readonly value?: Json }[];
  const found = {
    'the payload of the run': first?.payload,
    'the value of a step': second?.value,
    'the progress in the row': row.progress,
    'a value of the shared state': (await again.state('k'))?.value,
    'the payload of an event': (await eventsOf(again))[0]?.payload,
  };
  for (const [what, json] of Object.entries(found)) {
    const { blob } = codec.decode(json!) as { readonly blob: Readable };
    equal([await blob.text(), blob.type], ['a blob', type], what);
  }
});
