import 'fake-indexeddb/auto';
import './fake-locks.js';
import { cpSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { fileStore } from '../adapters/file/index.js';
import { indexedDBStore } from '../adapters/indexeddb/index.js';
import { createStepfast, type Stepfast, type Store } from '../src/index.js';
import { simulatedClock } from '../src/testing/clock.js';
import { BEGUN, type End, ends, events, values } from './golden/ends.js';
import { defineFlows } from './golden/flows.js';
import { type Dump, restoreDatabase } from './golden/idb.js';
import { freshFolder, freshName } from './harness.js';

/*
 * Pins: the present code opens the stores of every released format, which hold runs in every state, loses nothing of
 * them, and finishes each: right result, and no recorded step is entered again (spec D4, R1, E5).
 */

const golden = join(import.meta.dirname, 'golden');
const versions = readdirSync(golden).filter((name) => /^v\d+$/.test(name));

/** A copy of a golden store; each call of the result is another context on it. */
const copies: Readonly<Record<string, (version: string) => Promise<() => Store>>> = {
  async file(version) {
    const dir = join(freshFolder(), 'store');
    cpSync(join(golden, version, 'file'), dir, { recursive: true });
    return () => fileStore({ dir });
  },
  async indexeddb(version) {
    const name = freshName();
    await restoreDatabase(name, JSON.parse(readFileSync(join(golden, version, 'indexeddb.json'), 'utf8')) as Dump);
    return () => indexedDBStore({ name });
  },
};

/** Two hours after the making began: an hour after the last engine was gone. */
const OPENED = BEGUN + 7_200_000;

const ofEach = async <T>(read: (id: string, end: End) => T | Promise<T>) => {
  const seen: Record<string, T> = {};
  for (const [id, end] of Object.entries(ends)) seen[id] = await read(id, end);
  return seen;
};
const expected = <T>(of: (end: End) => T) => Object.fromEntries(Object.entries(ends).map(([id, end]) => [id, of(end)]));

function engineOn(store: Store) {
  const clock = simulatedClock({ now: OPENED });
  const errors: unknown[] = [];
  const entered: string[] = [];
  const stepfast = createStepfast({ store, clock, onError: (error) => void errors.push(error) });
  const define = () => defineFlows(stepfast, { isMaking: false, entered: (what) => void entered.push(what) });
  return { stepfast, clock, errors, entered, define };
}

/** All that the runs wait for. */
async function giveEvents(stepfast: Stepfast): Promise<void> {
  const go = ['waits:1', 'races:1', 'loop:1', 'solo:1'];
  for (const id of go) await stepfast.dispatch('golden.go', 'go', { correlationKey: id });
  await stepfast.dispatch('golden.child', 'go', { correlationKey: 'child:1' });
  await stepfast.dispatch('golden.number', 42);
  await stepfast.dispatch('golden.kinds');
  await stepfast.runs.retry('failed:2');
}

describe.each(versions)('the golden stores %s', (version) => {
  describe.each(Object.keys(copies))('%s', (kind) => {
    it('D4: are read as they were left, before anything drives them', async () => {
      const open = await copies[kind]!(version);
      const store = open();
      const { stepfast, errors } = engineOn(store);
      await stepfast.runs.get('completed:1');
      expect(await ofEach(async (id) => (await store.load(id))?.row.status)).toEqual(expected(({ rests }) => rests));
      const listed = await stepfast.runs.list({ limit: 1_000 });
      expect(listed.runs.map(({ id }) => id)).toEqual(expect.arrayContaining(Object.keys(ends)));
      for (const [key, value] of Object.entries(values)) expect(await stepfast.state.get(key)).toEqual(value);
      expect((await stepfast.runs.get('slow:3'))?.progress).toBe(0.5);
      expect((await stepfast.runs.get('saga:1'))?.undoing).toBe(true);
      expect((await stepfast.runs.get('failed:1'))?.error).toMatchObject({ code: 'STEP_FAILED', step: 'charge' });
      expect((await stepfast.runs.get('completed:1'))?.tags).toEqual(['golden']);
      expect(errors).toEqual([]);
      await stepfast.close();
    });

    it('R1: every run is finished with the right result, and no recorded step is entered again', async () => {
      const open = await copies[kind]!(version);
      const { stepfast, clock, errors, entered, define } = engineOn(open());
      define();
      await stepfast.ready();
      const made = (await stepfast.runs.timeline('sleepy:1')).filter((entry) => entry.kind === 'value-made');
      const [now, uuid, random] = made.map(({ value }) => value);
      await giveEvents(stepfast);
      await clock.advance('3d');
      const snapshots = await ofEach(async (id) => (await stepfast.runs.get(id))!);
      expect(await ofEach((id) => snapshots[id]?.status)).toEqual(expected(({ ends: end }) => end));
      expect(await ofEach((id) => snapshots[id]?.error?.code)).toEqual(expected(({ code }) => code));
      const results = await ofEach((id) => snapshots[id]?.result);
      expect(results['sleepy:1']).toEqual({ now, uuid, random, after: 'awake' });
      expect({ ...results, 'sleepy:1': undefined }).toEqual(expected(({ result }) => result));
      expect(await ofEach((id) => snapshots[id]?.undoing)).toEqual(expected(() => undefined));
      const ofRun = (id: string) =>
        entered.filter((what) => what.startsWith(`${id}/`) && !(what.split('/aside/')[1] && !id.endsWith('/aside')));
      expect(await ofEach((id) => ofRun(id).map((what) => what.slice(id.length + 1)))).toEqual(
        expected(({ enters = [] }) => enters),
      );
      expect(errors).toEqual([]);
      await stepfast.close();
    });

    it('Q1, E8: remembers deleted runs, idempotency keys, events and locks', async () => {
      const open = await copies[kind]!(version);
      const { stepfast, clock, errors, entered, define } = engineOn(open());
      define();
      for (const [id, key] of [
        ['completed:1', 'golden:completed'],
        ['deleted:1', 'golden:deleted'],
      ] as const) {
        const again = await stepfast.start('straight', 1, { idempotencyKey: key });
        expect({ id: again.id, created: again.created }).toEqual({ id, created: false });
        const other = stepfast.start('straight', 2, { idempotencyKey: key });
        await expect(other).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
      }
      expect(await stepfast.runs.get('deleted:1')).toBeUndefined();
      for (const { name, payload, of } of events)
        expect(await stepfast.dispatch(name, payload, of)).toMatchObject({ deduplicated: true });
      expect(await stepfast.state.lock('golden:lock', { ttl: '1h' })).toBeUndefined();
      expect((await stepfast.state.lock('golden:free', { ttl: '1h' }))?.token).toBe(2);
      expect(await stepfast.state.increment('golden:counter')).toBe(42);
      await clock.advance('31d');
      expect(await stepfast.state.get('golden:short')).toBeUndefined();
      expect((await stepfast.state.lock('golden:lock', { ttl: '1h' }))?.token).toBe(2);
      expect(entered.filter((what) => what.startsWith('completed:1/'))).toEqual([]);
      expect(errors).toEqual([]);
      await stepfast.close();
    });
  });

  it('O3: a request that was left in the inbox of the file store is committed by the next owner, once', async () => {
    const open = await copies.file!(version);
    const request = { id: 'golden-inboxed', name: 'golden.inboxed', payload: 'in the inbox', ttlMs: 1, maxBacklog: 10 };
    const store = open();
    await store.open({
      owner: 'o',
      now: OPENED,
      leaseMs: 1_000,
      mode: 'drive',
      onError: (error) => expect(error).toBeUndefined(),
    });
    const isCommitted = async () => {
      const batch = { now: OPENED, events: [{ ...request, maxBacklog: 0 }] };
      const outcome = await store.commit(batch);
      return outcome.kind === 'committed' && outcome.events[0]?.kind === 'deduplicated';
    };
    await expect.poll(isCommitted).toBe(true);
    await store.close();
  });
});

it('D4: there is a golden store of the format that this code writes', () => {
  expect(existsSync(join(golden, 'v1', 'indexeddb.json'))).toBe(true);
  expect(versions.length).toBeGreaterThan(0);
});
