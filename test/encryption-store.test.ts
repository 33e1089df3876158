import { describe, expect, it } from 'vitest';
import { memoryMedium, memoryStore } from '../adapters/memory/index.js';
import { type EncryptionOptions, encryption } from '../plugins/encryption/index.js';
import type { Json, Store } from '../src/index.js';
import { newEvent } from '../src/testing/conformance/env.js';
import { claim, commit, keyBytes, keyVault, look, newRun, now, openStore, plugin, started } from './encryption-kit.js';

// Pins: what the wrapper around a store promises besides being a store: order, counters, isolation of what can not be
// opened, and that nothing at rest can be moved, changed or driven by who has no key.

/** A memory store that shows what it was asked, and the medium below. */
function spied(medium = memoryMedium()) {
  const store = memoryStore({ medium });
  const { commit, state } = store;
  const calls: string[] = [];
  store.commit = (batch) => {
    calls.push(batch.starts?.[0]?.runId ?? Object.keys(batch).sort().join());
    return commit(batch);
  };
  const onRead: (() => Promise<unknown>)[] = [];
  store.state = async (key) => {
    const row = await state(key);
    if (!key.startsWith('stepfast:')) await onRead.shift()?.();
    return row;
  };
  return { store, calls, onRead, medium, commitBehind: commit };
}

const wrap = (store: Store, options?: Parameters<typeof plugin>[0]) => plugin(options).store!(store);
const opened = (medium = memoryMedium(), options?: Parameters<typeof plugin>[0], owner = 'a') =>
  openStore(wrap(memoryStore({ medium }), options), owner);
const code = (code: string) => expect.objectContaining({ code });
const add = (key: string, by: number) => ({ kind: 'increment', key, by }) as const;
const set = (key: string, value: Json) => ({ kind: 'set', key, value }) as const;

describe('order', () => {
  it('R11: batches reach the store in the order in which they were asked for, however large they are', async () => {
    const { store, calls } = spied();
    const sealed = await openStore(wrap(store));
    calls.length = 0;
    const sizes = [2_000_000, 10, 500_000, 1, 100_000];
    await Promise.all(
      sizes.map((size, index) =>
        commit(sealed, { starts: [newRun(`r${index}`, { entries: [started('x'.repeat(size))] })] }),
      ),
    );
    expect(calls).toEqual(['r0', 'r1', 'r2', 'r3', 'r4']);
  });

  it('R11: a batch is handed on while the one before is under way, so that both can share a transaction', async () => {
    const { store, commitBehind } = spied();
    const sealed = await openStore(wrap(store));
    let release = () => {};
    const blocked = new Promise<void>((resolve) => (release = resolve));
    const seen: string[] = [];
    let both = () => {};
    const arrived = new Promise<void>((resolve) => (both = resolve));
    store.commit = async (batch) => {
      if (seen.push(batch.starts![0]!.runId) === 2) both();
      await blocked;
      return commitBehind(batch);
    };
    const commits = ['a', 'b'].map((runId) => commit(sealed, { starts: [newRun(runId)] }));
    await arrived;
    expect(seen).toEqual(['a', 'b']);
    release();
    await Promise.all(commits);
  });

  it('R11: a batch that can not be sealed fails alone', async () => {
    const vault = keyVault();
    const sealed = await opened(undefined, vault.options);
    const lost = sealed.commit({ now, starts: [newRun('lost', { tags: ['user:42'] })] });
    const kept = commit(sealed, { starts: [newRun('kept')] });
    await expect(lost).rejects.toEqual(code('KEY_MISSING'));
    await kept;
    expect((await sealed.list({ limit: 9 })).runs.map(({ row }) => row.runId)).toEqual(['kept']);
  });
});

describe('counters', () => {
  it('D8: an increment that another context overtakes is counted once, on what the other has left', async () => {
    const { store, onRead, medium } = spied();
    const sealed = await openStore(wrap(store));
    const other = await opened(medium, {}, 'b');
    for (let round = 0; round < 3; round++) onRead.push(() => commit(other, { state: [add('n', 10)] }));
    const { state } = await commit(sealed, { state: [add('n', 1)] });
    expect(state).toEqual([{ value: 31 }]);
    expect(await other.state('n')).toMatchObject({ key: 'n', value: 31 });
  });

  it('D8: increments beside a run change are made with it, or not at all', async () => {
    const { store, onRead, medium } = spied();
    const sealed = await openStore(wrap(store));
    const other = await opened(medium, {}, 'b');
    await commit(sealed, { starts: [newRun('r')], state: [set('n', 5)] });
    onRead.push(() => commit(other, { state: [add('n', 100)] }));
    const { fence, state } = await commit(sealed, { run: claim('r'), state: [add('n', 1), add('n', 2)] });
    expect([fence, state]).toEqual([1, [{ value: 106 }, { value: 108 }]]);
    const stale = { now, run: claim('r'), state: [add('n', 1)] };
    expect(await sealed.commit(stale)).toEqual({ kind: 'fenced', fence: 1 });
    expect((await sealed.state('n'))?.value).toBe(108);
    expect((await sealed.load('r'))?.journal).toHaveLength(2);
  });

  it('D8: a hundred increments of four contexts at once are all counted', async () => {
    const medium = memoryMedium();
    const stores = await Promise.all(['a', 'b', 'c', 'd'].map((owner) => opened(medium, {}, owner)));
    const outcomes = await Promise.all(
      Array.from({ length: 100 }, (_, index) => commit(stores[index % 4]!, { state: [add('n', 1)] })),
    );
    expect((await stores[0]!.state('n'))?.value).toBe(100);
    const sums = outcomes.map(({ state }) => state[0]!.value!).sort((a, b) => a - b);
    expect(sums).toEqual(Array.from({ length: 100 }, (_, index) => index + 1));
  });

  it('D8: a set after an increment, asked for at once, has the last word', async () => {
    const sealed = await opened();
    await Promise.all([commit(sealed, { state: [add('n', 1)] }), commit(sealed, { state: [set('n', 'last')] })]);
    expect((await sealed.state('n'))?.value).toBe('last');
  });

  it('D8: an increment that is overtaken for ever gives up, and says that it may be tried again', async () => {
    const { store, medium, onRead } = spied();
    const sealed = await openStore(wrap(store));
    const other = await opened(medium, {}, 'b');
    for (let round = 0; round < 200; round++) onRead.push(() => commit(other, { state: [set('n', round)] }));
    await expect(sealed.commit({ now, state: [add('n', 1)] })).rejects.toEqual(code('STORE_UNAVAILABLE'));
    expect(onRead.length).toBe(100);
  });
});

describe('what can not be opened', () => {
  it('D3: runs whose key is gone do not keep others from the page of due work', async () => {
    const vault = keyVault('user:42');
    const errors: unknown[] = [];
    const sealed = await openStore(wrap(memoryStore(), vault.options), 'a', (error) => errors.push(error));
    const gone = Array.from({ length: 70 }, (_, index) => newRun(`gone${index}`, { tags: ['user:42'] }));
    await commit(sealed, { starts: [...gone, newRun('kept')] });
    vault.keys.delete('user:42');
    const page = await look(sealed, 32);
    expect(page.runs.map(({ row }) => row.runId)).toEqual(['kept']);
    expect(errors).toEqual([code('KEY_MISSING')]);
    expect(errors[0]).toMatchObject({ data: { keyId: 'user:42' } });
    vault.asked.length = 0;
    await look(sealed, 32);
    expect(vault.asked).toEqual(['user:42']);
    vault.keys.set('user:42', keyBytes(100));
    expect((await look(sealed, 32)).runs).toHaveLength(32);
  });

  it('D3: a run of which one entry was changed is left out, and the others go on', async () => {
    const medium = memoryMedium();
    const sealed = await opened(medium);
    await commit(sealed, { starts: [newRun('bad'), newRun('good')] });
    const entry = medium.journals.get('bad')![0] as unknown as { sealed: string };
    entry.sealed = entry.sealed.replace(/^1\..{30}/, (text) => `${text.slice(0, -1)}${text.endsWith('A') ? 'B' : 'A'}`);
    await expect(sealed.load('bad')).rejects.toEqual(expect.objectContaining({ code: 'STORE_CORRUPT', runId: 'bad' }));
    expect((await look(sealed)).runs.map(({ row }) => row.runId)).toEqual(['good']);
    const { runs } = await sealed.list({ limit: 9 });
    expect(runs.map(({ row, journal }) => [row.runId, row.job, journal[0]])).toEqual([
      ['good', 'job', started('payload of good')],
      ['bad', 'job', { kind: 'started', at: now, payload: { $: ['undefined'] } }],
    ]);
  });

  it('D3: an event that was moved to another id is not taken for that one', async () => {
    const medium = memoryMedium();
    const sealed = await opened(medium);
    const event = (id: string) => ({ id, name: 'event', payload: id, ttlMs: 1_000, maxBacklog: 9 });
    await commit(sealed, { events: [event('one'), event('two')] });
    const [one, two] = [...medium.tables.log.values()];
    medium.tables.putEvent({ ...one!, payload: two!.payload });
    await expect(sealed.commit({ now, events: [event('one')] })).rejects.toEqual(code('STORE_CORRUPT'));
  });

  it('D3: an entry of another run is not taken for one of this', async () => {
    const medium = memoryMedium();
    const sealed = await opened(medium);
    await commit(sealed, { starts: [newRun('one'), newRun('two')] });
    medium.journals.set('one', [...medium.journals.get('two')!]);
    await expect(sealed.load('one')).rejects.toEqual(code('STORE_CORRUPT'));
    expect((await sealed.load('two'))?.journal).toEqual([started('payload of two')]);
  });

  it('D3: a value under another key of the state is not taken for one of this', async () => {
    const medium = memoryMedium();
    const sealed = await opened(medium);
    await commit(sealed, { state: [set('one', 1), set('two', 2)] });
    const [one, two] = [...medium.tables.shared.values()].filter(({ key }) => !key.startsWith('stepfast:'));
    medium.tables.putState(one!.key, { ...one!, value: two!.value });
    await expect(sealed.state('one')).rejects.toEqual(code('STORE_CORRUPT'));
    expect((await sealed.state('two'))?.value).toBe(2);
  });

  it('D4: what a newer version has sealed is refused, untouched', async () => {
    const medium = memoryMedium();
    const sealed = await opened(medium);
    await commit(sealed, { starts: [newRun('r')] });
    const entry = medium.journals.get('r')![0] as unknown as { sealed: string };
    entry.sealed = entry.sealed.replace(/^1/, '2');
    await expect(sealed.load('r')).rejects.toEqual(code('STORE_TOO_NEW'));
  });

  it('O1: an owner whose key is gone is told that the run is not its own; nothing is written', async () => {
    const vault = keyVault('user:42');
    const sealed = await opened(undefined, vault.options);
    await commit(sealed, { starts: [newRun('r', { tags: ['user:42'] })] });
    await commit(sealed, { run: claim('r') });
    vault.keys.clear();
    expect(await sealed.commit({ now, run: claim('r', 1) })).toEqual({ kind: 'fenced', fence: 0 });
    vault.keys.set('user:42', keyBytes(100));
    expect((await sealed.load('r'))?.row.fence).toBe(1);
  });

  it('R5: the slot that a dead owner has left in a run whose key is gone is given back, and nothing else is changed', async () => {
    const medium = memoryMedium();
    const vault = keyVault('user:42');
    const sealed = await opened(medium, vault.options);
    const wait = { id: ['event', 1], events: ['event'], key: 'secret', after: 0 } as const;
    const state = { status: 'running', version: 1, owner: 'dead', dueAt: 0, waits: [wait], slot: 'queue' } as const;
    await commit(sealed, { starts: [newRun('r', { tags: ['user:42'] }), newRun('other')] });
    await commit(sealed, { run: claim('r', 0, { state: { ...state, progress: 'half' } }) });
    const turn = claim('other', 0, { state: { ...state, owner: 'a', waits: [] }, concurrency: 1 });
    expect(await sealed.commit({ now, run: turn })).toEqual({ kind: 'no-slot' });
    vault.keys.clear();
    expect((await look(sealed)).runs.map(({ row }) => row.runId)).toEqual(['other']);
    const kept = medium.journals.get('r')!.slice(-2) as unknown as { readonly kind: string; readonly sealed: string }[];
    expect(kept.map((entry) => [entry.kind, entry.sealed.split('.').at(-1)])).toEqual([
      ['claimed', 'k1'],
      ['released', 'k1'],
    ]);
    await commit(sealed, { run: turn });
    vault.keys.set('user:42', keyBytes(100));
    const { row, journal } = (await sealed.load('r'))!;
    expect(row).toMatchObject({ status: 'queued', fence: 2, waits: [wait], progress: 'half', tags: ['user:42'] });
    expect(row.slot).toBeUndefined();
    expect(journal.slice(-2)).toMatchObject([
      { kind: 'claimed', owner: 'a', fence: 2, interrupted: true },
      { kind: 'released', blocked: true },
    ]);
  });

  it('R5: so is that of a run whose key is dropped while it is driven here', async () => {
    const vault = keyVault('user:42');
    const sealed = await opened(undefined, vault.options);
    const state = { status: 'running', version: 1, owner: 'a', dueAt: 0, waits: [], slot: 'queue' } as const;
    await commit(sealed, { starts: [newRun('r', { tags: ['user:42'] }), newRun('other')] });
    await commit(sealed, { run: claim('r', 0, { state }) });
    vault.keys.clear();
    const next = {
      runId: 'r',
      fence: 1,
      append: [{ kind: 'progressed', at: now, id: ['a', 1] }],
      state,
    } as const;
    for (let time = 0; time < 2; time++)
      expect(await sealed.commit({ now, run: next })).toEqual({ kind: 'fenced', fence: 0 });
    await commit(sealed, { run: claim('other', 0, { state, concurrency: 1 }) });
    vault.keys.set('user:42', keyBytes(100));
    const { row, journal } = (await sealed.load('r'))!;
    expect([row.status, row.fence, row.slot]).toEqual(['queued', 2, undefined]);
    expect(journal.map(({ kind }) => kind)).toEqual(['started', 'claimed', 'claimed', 'released']);
    expect(journal[2]).not.toHaveProperty('interrupted');
  });

  it('R5: so is that of one that was about to end, though a row that has ended names no owner', async () => {
    const vault = keyVault('user:42');
    const sealed = await opened(undefined, vault.options);
    const state = { status: 'running', version: 1, owner: 'a', dueAt: 0, waits: [], slot: 'queue' } as const;
    await commit(sealed, { starts: [newRun('r', { tags: ['user:42'] }), newRun('other')] });
    await commit(sealed, { run: claim('r', 0, { state }) });
    vault.keys.clear();
    const append = [{ kind: 'completed', at: now, value: 'done' }] as const;
    const end = {
      runId: 'r',
      fence: 1,
      append,
      state: { status: 'completed', version: 1, waits: [], endedAt: now },
    } as const;
    expect(await sealed.commit({ now, run: end })).toEqual({ kind: 'fenced', fence: 0 });
    await commit(sealed, { run: claim('other', 0, { state, concurrency: 1 }) });
    vault.keys.set('user:42', keyBytes(100));
    expect((await sealed.load('r'))?.row).toMatchObject({ status: 'queued', fence: 2 });
  });

  it('R5, D5: a slot that can not be given back now is told of, keeps nobody from the look, and is tried again', async () => {
    const vault = keyVault('user:42');
    const store = memoryStore({ medium: memoryMedium() });
    const errors: unknown[] = [];
    const sealed = await openStore(wrap(store, vault.options), 'a', (error) => errors.push(error));
    const state = { status: 'running', version: 1, owner: 'dead', dueAt: 0, waits: [], slot: 'queue' } as const;
    await commit(sealed, { starts: [newRun('r', { tags: ['user:42'] }), newRun('other')] });
    await commit(sealed, { run: claim('r', 0, { state }) });
    vault.keys.clear();
    const { commit: inner } = store;
    let tries = 0;
    store.commit = async () => {
      tries++;
      throw new Error('away');
    };
    const at = (later: number) =>
      sealed.due({ now: now + later, owner: 'a', jobs: { job: 1 }, limit: 9, graceMs: 5_000 });
    for (const later of [0, 1, 2_999]) {
      const { runs, nextDueAt } = await at(later);
      expect([runs.map(({ row }) => row.runId), nextDueAt]).toEqual([['other'], now + 3_000]);
    }
    expect([tries, errors.length]).toEqual([1, 2]); // the key that is missing, and the commit that failed
    store.commit = inner;
    await at(3_000);
    expect((await store.load('r'))?.row).toMatchObject({ status: 'queued', fence: 2 });
  });

  it('F9: a run whose key is gone can be ended from outside', async () => {
    const vault = keyVault('user:42');
    const sealed = await opened(undefined, vault.options);
    await commit(sealed, { starts: [newRun('r', { tags: ['user:42'] })] });
    vault.keys.clear();
    const state = { status: 'cancelled', version: 1, waits: [], endedAt: now } as const;
    const run = { runId: 'r', fence: 'any', raise: true, append: [{ kind: 'cancelled', at: now }], state } as const;
    await commit(sealed, { run });
    vault.keys.set('user:42', keyBytes(100));
    expect((await sealed.load('r'))?.journal.map(({ kind }) => kind)).toEqual(['started', 'cancelled']);
  });

  it('a vault that fails is not a key that is gone: the look fails, and the next one works', async () => {
    const vault = keyVault('user:42');
    let isLocked = false;
    const keys = async (keyId: string) => {
      if (isLocked) throw new Error('the vault is locked');
      return vault.keys.get(keyId);
    };
    const sealed = await opened(undefined, { ...vault.options, keys });
    await commit(sealed, { starts: [newRun('r', { tags: ['user:42'] })] });
    isLocked = true;
    await expect(look(sealed)).rejects.toThrow('the vault is locked');
    await expect(sealed.list({ limit: 9 })).rejects.toThrow('the vault is locked');
    isLocked = false;
    expect((await look(sealed)).runs).toHaveLength(1);
  });
});

describe('events that can not be opened', () => {
  const lookback = { id: ['event', 1], events: ['event'], after: 9, lookbackFrom: 0 } as const;
  const waiting = { status: 'waiting', version: 1, owner: 'a', waits: [lookback] } as const;

  /** A run that looks back, an event that another run has taken, and one that can not be opened. */
  async function beside() {
    const { store, calls } = spied();
    const vault = keyVault('user:1');
    let own: string | undefined;
    const keyOf = ({ kind }: { readonly kind: string }) => (kind === 'event' ? own : undefined);
    const sealed = await openStore(wrap(store, { ...vault.options, keyOf }));
    await commit(sealed, { events: [newEvent('taken')] });
    own = 'user:1';
    await commit(sealed, { events: [newEvent('hidden')] });
    await commit(sealed, { starts: [newRun('r'), newRun('other')] });
    const claimed = await commit(sealed, { run: claim('r', 0, { state: waiting }) });
    const seq = claimed.offers[0]!.seq;
    await commit(sealed, { run: claim('other', 0, { takes: [{ seq }] }) });
    vault.keys.clear();
    calls.length = 0;
    return { sealed, calls, seq };
  }

  it('E3: what another run has taken is told without it, once', async () => {
    const { sealed, calls, seq } = await beside();
    const run = { runId: 'r', fence: 1, append: [], state: waiting, takes: [{ seq, untaken: true }] } as const;
    expect(await sealed.commit({ now, run })).toEqual({ kind: 'overtaken', offers: [] });
    expect(calls).toHaveLength(1);
  });

  it('E3: a wait passes over it, and what stands beside the wait is still asked for', async () => {
    const { sealed, seq } = await beside();
    const run = { runId: 'r', fence: 1, append: [], state: waiting, unless: [lookback] } as const;
    const takes = [{ seq, untaken: true }] as const;
    expect(await sealed.commit({ now, run: { ...run, takes } })).toEqual({ kind: 'overtaken', offers: [] });
    expect(await sealed.commit({ now, run })).toMatchObject({ kind: 'committed', offers: [] });
  });

  it('E5: one that can be opened overtakes the wait, whatever lies around it', async () => {
    const vault = keyVault('user:1');
    const keyOf = ({ kind, ...subject }: { readonly kind: string; readonly correlationKey?: string }) =>
      kind === 'event' && subject.correlationKey === undefined ? 'user:1' : undefined;
    const sealed = await opened(undefined, { ...vault.options, keyOf });
    const waits = [lookback, { ...lookback, id: ['keyed', 1], key: 'k' }] as const;
    await commit(sealed, { starts: [newRun('r')] });
    await commit(sealed, { run: claim('r', 0, { state: { ...waiting, waits } }) });
    await commit(sealed, { events: [newEvent('before'), newEvent('keyed', { key: 'k' }), newEvent('after')] });
    vault.keys.clear();
    const run = { runId: 'r', fence: 1, append: [], state: waiting, unless: waits } as const;
    const outcome = await sealed.commit({ now, run });
    expect(outcome).toMatchObject({ kind: 'overtaken', offers: [{ id: 'keyed', key: 'k' }] });
  });
});

describe('runs that rest beside events that can not be opened', () => {
  const wait = { id: ['event', 1], events: ['event'], after: 0 } as const;
  const waiting = { status: 'waiting', version: 1, owner: 'a', waits: [wait] } as const;

  /** A run that waits, and has been told that there is nothing for it: two events are hidden. */
  async function atRest() {
    const vault = keyVault('user:1', 'user:2');
    let own: string | undefined;
    const keyOf = ({ kind }: { readonly kind: string }) => (kind === 'event' ? own : undefined);
    const { store, medium } = spied();
    const options = { ...vault.options, keyOf };
    const sealed = await openStore(wrap(store, options));
    const send = async (id: string, keyId?: string) => {
      own = keyId;
      await commit(sealed, { events: [newEvent(id)] });
    };
    await commit(sealed, { starts: [newRun('r')] });
    for (const keyId of ['user:1', 'user:2']) await send(keyId, keyId);
    const taken = [...vault.keys];
    vault.keys.clear();
    const offered = async (store = sealed, at = now) => {
      const { runs, nextDueAt } = await store.due({ now: at, owner: 'a', jobs: { job: 1 }, limit: 9, graceMs: 5_000 });
      return [runs.map(({ offers }) => offers.map(({ id }) => id)), nextDueAt];
    };
    return {
      sealed,
      store,
      send,
      offered,
      another: () => opened(medium, options, 'b'),
      giveBack: (index: number) => void vault.keys.set(...taken[index]!),
      change: (over: object = {}, fence = 1) =>
        commit(sealed, { run: { runId: 'r', fence, append: [], state: { ...waiting, ...over } } }),
    };
  }

  it('looks of any context leave them out until they are due for something else', async () => {
    const { sealed, another, offered } = await atRest();
    const dueAt = now + 100;
    await commit(sealed, { run: claim('r', 0, { state: { ...waiting, dueAt } }) });
    for (const store of [sealed, await another()]) {
      expect(await offered(store)).toEqual([[], dueAt]);
      expect(await offered(store, dueAt)).toEqual([[[]], undefined]);
      expect(await offered(store, dueAt)).toEqual([[[]], undefined]);
    }
  });

  it('E1: once one of the keys is back they are found by every look, until that event is taken', async () => {
    const { sealed, another, offered, giveBack } = await atRest();
    await commit(sealed, { run: claim('r', 0, { state: waiting }) });
    expect(await offered()).toEqual([[], undefined]);
    giveBack(1);
    for (const store of [sealed, sealed, await another()])
      expect(await offered(store)).toEqual([[['user:2']], undefined]);
  });

  it('E1: an event that comes later is found by every look', async () => {
    const { sealed, another, offered, send } = await atRest();
    await commit(sealed, { run: claim('r', 0, { state: waiting }) });
    await offered();
    await send('open');
    for (const store of [sealed, sealed, await another()])
      expect(await offered(store)).toEqual([[['open']], undefined]);
  });

  it('E1: what a commit has told its owner of is found by looks, should the owner not come to take it', async () => {
    const { sealed, offered, send } = await atRest();
    await send('open');
    const { offers } = await commit(sealed, { run: claim('r', 0, { state: waiting }) });
    expect(offers.map(({ id }) => id)).toEqual(['open']);
    for (let look = 0; look < 2; look++) expect(await offered()).toEqual([[['open']], undefined]);
  });

  it('E1: an event that comes between a commit and its mark is not lost', async () => {
    const { sealed, store, send, change, offered } = await atRest();
    await commit(sealed, { run: claim('r', 0, { state: waiting }) });
    const { commit: inner } = store;
    let changes = 0;
    store.commit = async (batch) => {
      const outcome = await inner(batch);
      if (batch.run && ++changes === 1) await send('open');
      return outcome;
    };
    await change();
    expect(changes).toBe(2);
    expect(await offered()).toEqual([[['open']], undefined]);
  });

  it('R5: a run that waits beside them is due, as it is seen, when it is due apart from them, or is woken', async () => {
    const { sealed, send } = await atRest();
    await commit(sealed, { run: claim('r', 0, { state: waiting }) });
    const seen = async () => (await sealed.load('r'))!.row;
    expect((await seen()).dueAt).toBeUndefined();
    await send('open');
    expect(await seen()).toMatchObject({ woken: true, dueAt: now });
  });

  it('O1: one that is at work keeps its slot, and is not due', async () => {
    const { sealed, change, offered } = await atRest();
    await commit(sealed, { run: claim('r', 0, { state: { ...waiting, status: 'running', slot: 'queue', dueAt: 0 } }) });
    await change({ status: 'running', slot: 'queue', dueAt: 0 });
    expect(await offered()).toEqual([[], undefined]);
    expect((await sealed.load('r'))?.row).toMatchObject({ status: 'running', slot: 'queue', dueAt: 0 });
  });
});

describe('what is written by the store itself', () => {
  it('Q2: a debounced start reaches the run that holds the key, and is read there', async () => {
    const sealed = await opened();
    const unique = { key: 'basket', until: 'start' } as const;
    const moves = { kind: 'rescheduled', at: now, payload: 'newer', dueAt: now + 20 } as const;
    await commit(sealed, { starts: [newRun('first', { unique, dueAt: now + 10 })] });
    const again = newRun('second', { unique, moves, dueAt: now + 20 });
    expect((await commit(sealed, { starts: [again] })).starts).toEqual([
      { kind: 'moved', runId: 'first', isUnique: true },
    ]);
    const { row, journal } = (await sealed.load('first'))!;
    expect(journal.at(-1)).toEqual(moves);
    expect(row.unique).toEqual(unique);
  });

  it('Q1: what tells the payload of a deleted run is given back as it was handed in', async () => {
    const sealed = await opened();
    const run = newRun('r', { idempotencyKey: 'once', keyUntil: now + 1_000 });
    await commit(sealed, { starts: [run] });
    await commit(sealed, {
      run: claim('r', 0, { state: { status: 'completed', version: 1, waits: [], endedAt: now } }),
    });
    await commit(sealed, { deletes: [{ runId: 'r', fence: 1, fingerprint: 'print' }] });
    const { starts } = await commit(sealed, { starts: [newRun('other', { idempotencyKey: 'once' })] });
    expect(starts).toEqual([{ kind: 'exists', runId: 'r', fingerprint: 'print' }]);
  });

  it('Q1: so is what tells the payload of a start that another run has answered', async () => {
    const sealed = await opened();
    const unique = { key: 'u', until: 'end' } as const;
    await commit(sealed, { starts: [newRun('r', { unique })] });
    for (const given of [{ idempotencyKey: 'once' }, {}]) {
      const again = newRun('again', { ...given, unique, merged: { fingerprint: 'print', until: now + 1_000 } });
      await commit(sealed, { starts: [again] });
      const { starts } = await commit(sealed, { starts: [again] });
      expect(starts).toEqual([{ kind: 'exists', runId: 'r', fingerprint: 'print', isUnique: true }]);
    }
  });

  it('E8: an event as it was given is sealed with it, and told when the event is dispatched again', async () => {
    const medium = memoryMedium();
    const sealed = await opened(medium);
    const event = newEvent('e', { payload: 'made', given: 'a secret', idempotencyKey: 'once' });
    await commit(sealed, { events: [event] });
    expect(JSON.stringify([...medium.tables.log.values()])).not.toContain('secret');
    const { events } = await commit(sealed, { events: [{ ...event, id: 'again' }] });
    expect(events).toMatchObject([{ kind: 'deduplicated', id: 'e', payload: 'made', given: 'a secret' }]);
  });

  it('F9: the journal of a child that ends with its parent can be read', async () => {
    const sealed = await opened();
    await commit(sealed, { starts: [newRun('p'), newRun('c', { parentId: 'p', tags: ['t'] })] });
    const state = { status: 'cancelled', version: 1, waits: [], endedAt: now } as const;
    await commit(sealed, { run: { runId: 'p', fence: 'any', raise: true, append: [], state } });
    const { row, journal } = (await sealed.load('c'))!;
    expect([row.status, row.tags, journal.at(-1)]).toEqual(['cancelled', ['t'], { kind: 'cancelled', at: now }]);
  });

  it('D8: a lock is given out, held and given back, under a name that can not be read', async () => {
    const medium = memoryMedium();
    const sealed = await opened(medium);
    const key = 'stepfast:lock:mailbox';
    const lock = (holder: string) => ({ kind: 'lock', key, holder, expiresAt: now + 10 }) as const;
    expect((await commit(sealed, { state: [lock('a')] })).state).toEqual([{ token: 1 }]);
    expect((await commit(sealed, { state: [lock('b')] })).state).toEqual([{}]);
    expect(await sealed.state(key)).toMatchObject({ key, token: 1, holder: 'a', value: { heldUntil: now + 10 } });
    await commit(sealed, { state: [{ kind: 'unlock', key, token: 1 }] });
    expect((await commit(sealed, { state: [lock('b')] })).state).toEqual([{ token: 2 }]);
    expect([...medium.tables.shared.keys()].filter((each) => each.includes('mailbox'))).toEqual([]);
  });
});

describe('values', () => {
  it('D7: blobs and files are sealed with the value that holds them', async () => {
    const medium = memoryMedium();
    const sealed = await opened(medium);
    const file = new File(['the words of the file'], 'a.txt', { type: 'text/plain', lastModified: 42 });
    const blob = new Blob([new Uint8Array([0, 255, 128])]);
    const payload = {
      list: [{ $: ['File', file, file.size, file.type, file.name] }],
      $: ['Blob', blob],
    } as unknown as Json;
    await commit(sealed, { starts: [newRun('r', { entries: [started(payload)] })] });
    expect(JSON.stringify(medium.journals.get('r'))).not.toContain('a.txt');
    const [entry] = (await sealed.load('r'))!.journal as unknown as [{ payload: { list: { $: File[] }[]; $: Blob[] } }];
    const kept = entry.payload.list[0]!.$[1]!;
    expect([kept.name, kept.type, kept.lastModified, await kept.text()]).toEqual([
      'a.txt',
      'text/plain',
      42,
      'the words of the file',
    ]);
    expect([...new Uint8Array(await entry.payload.$[1]!.arrayBuffer())]).toEqual([0, 255, 128]);
  });

  it('the same value is sealed to another text each time, the same key to the same hash', async () => {
    const medium = memoryMedium();
    const sealed = await opened(medium);
    const entries = [started('equal')];
    await commit(sealed, { starts: [newRun('r', { entries, tags: ['t'] }), newRun('s', { entries, tags: ['t'] })] });
    const [r, s] = ['r', 's'].map((runId) => medium.tables.run(runId)!);
    expect(r!.tags![0]).toBe(s!.tags![0]);
    expect(r!.tags![1]).not.toBe(s!.tags![1]);
    const texts = ['r', 's'].map((runId) => (medium.journals.get(runId)![0] as unknown as { sealed: string }).sealed);
    expect(texts[0]).not.toBe(texts[1]);
  });

  it('one text has other hashes as a tag, a correlation key and a key of the state', async () => {
    const medium = memoryMedium();
    const sealed = await opened(medium);
    const event = { id: 'e', name: 'event', key: 'ada', payload: null, ttlMs: 1_000, maxBacklog: 9 };
    await commit(sealed, {
      starts: [newRun('r', { tags: ['ada'], idempotencyKey: 'ada' })],
      events: [event],
      state: [set('ada', 1)],
    });
    const { tags, idempotencyKey } = medium.tables.run('r')!;
    const [state] = [...medium.tables.shared.keys()].filter((key) => !key.startsWith('stepfast:'));
    const hashes = [tags![0], idempotencyKey, [...medium.tables.log.values()][0]!.key, state];
    expect(new Set(hashes).size).toBe(4);
    for (const hash of hashes) expect(hash).toMatch(/^[\w-]{43}$/);
  });
});

describe('contexts without the plug-in', () => {
  it('R5: they find nothing to drive', async () => {
    const medium = memoryMedium();
    const sealed = await opened(medium);
    await commit(sealed, { starts: [newRun('r')] });
    const plain = await openStore(memoryStore({ medium }), 'b');
    expect((await look(plain)).runs).toEqual([]);
    expect((await look(sealed)).runs).toHaveLength(1);
  });

  it('D4: a store that holds runs in plain text is refused', async () => {
    const medium = memoryMedium();
    const plain = await openStore(memoryStore({ medium }));
    await commit(plain, { starts: [newRun('r')] });
    await expect(opened(medium, {}, 'b')).rejects.toEqual(code('INVALID_OPTION'));
    expect([...medium.tables.shared.keys()]).toEqual([]);
  });

  it('two contexts that open a new store at once agree on it', async () => {
    const medium = memoryMedium();
    const stores = await Promise.all(['a', 'b', 'c'].map((owner) => opened(medium, {}, owner)));
    await commit(stores[0]!, { starts: [newRun('r')] });
    expect((await stores[2]!.load('r'))?.journal).toEqual([started('payload of r')]);
  });

  it('what else the inner store can do is not reached around the encryption', () => {
    const inner = { ...memoryStore(), transact: () => Promise.reject(new Error('plain')) };
    expect(Object.keys(wrap(inner))).not.toContain('transact');
  });
});

describe('refusals', () => {
  const given = { key: keyBytes(1), indexKey: keyBytes(9) };
  const aes = (length: number, usages: KeyUsage[]) =>
    crypto.subtle.generateKey({ name: 'AES-GCM', length }, false, usages) as Promise<CryptoKey>;

  it('B: keys of the wrong length or kind are refused with the option, and never shown', async () => {
    const password = 'hunter2 hunter2 hunter2 hunter2!' as never;
    const refused: readonly EncryptionOptions[] = [
      { ...given, key: password },
      { ...given, key: undefined as never },
      { ...given, key: new Uint8Array(16) },
      { ...given, key: new ArrayBuffer(32) as never },
      { ...given, key: await aes(128, ['encrypt', 'decrypt']) },
      { ...given, key: await aes(256, ['encrypt']) },
      { ...given, indexKey: undefined as never },
      { ...given, indexKey: new Uint8Array(31) },
      { ...given, indexKey: await aes(256, ['encrypt', 'decrypt']) },
      { ...given, previous: { old: password } },
      { ...given, previous: new Map([['old', keyBytes(2)]]) as never },
      { ...given, previous: { default: keyBytes(2) } },
      { ...given, keyId: '' },
      { ...given, keyOf: () => 'x' },
      { ...given, keys: 'x' as never },
      undefined as never,
    ];
    for (const bad of refused) {
      let thrown: unknown;
      try {
        encryption(bad);
      } catch (error) {
        thrown = error;
      }
      expect(thrown).toEqual(code('INVALID_OPTION'));
      expect(String(thrown)).not.toContain('hunter2');
    }
  });

  it('B: a key that a function gives is checked when it is there', async () => {
    await expect(opened(undefined, { key: async () => new Uint8Array(5) })).rejects.toEqual(code('INVALID_OPTION'));
    await expect(opened(undefined, { key: async () => undefined })).rejects.toEqual(code('KEY_MISSING'));
    await expect(opened(undefined, { indexKey: () => undefined })).rejects.toEqual(code('KEY_MISSING'));
  });

  it('keys may be CryptoKeys that nobody can export, and given by functions', async () => {
    const usages: KeyUsage[] = ['deriveKey'];
    const index = await crypto.subtle.importKey('raw', keyBytes(9) as Uint8Array<ArrayBuffer>, 'HKDF', false, usages);
    const key = await aes(256, ['encrypt', 'decrypt']);
    const medium = memoryMedium();
    const sealed = await opened(medium, { key, indexKey: index });
    await commit(sealed, { starts: [newRun('r', { idempotencyKey: 'once' })] });
    const again = await opened(medium, { key: async () => key, indexKey: async () => keyBytes(9) }, 'b');
    const { starts } = await commit(again, { starts: [newRun('s', { idempotencyKey: 'once' })] });
    expect(starts).toEqual([{ kind: 'exists', runId: 'r' }]);
  });

  it('bytes of a key that are overwritten after it was given do not change it', async () => {
    const medium = memoryMedium();
    const bytes = keyBytes(1);
    const own = plugin({ key: bytes });
    bytes.fill(0);
    await commit(await openStore(own.store!(memoryStore({ medium }))), { starts: [newRun('r')] });
    expect((await (await opened(medium, {}, 'b')).load('r'))?.journal).toEqual([started('payload of r')]);
  });

  it('D4: another key under a known id, or another index key, is refused before anything is written', async () => {
    const medium = memoryMedium();
    await commit(await opened(medium), { starts: [newRun('r')] });
    const before = structuredClone([medium.tables.runs, medium.tables.shared, medium.journals]);
    for (const options of [
      { key: keyBytes(2) },
      { indexKey: keyBytes(8) },
      { key: keyBytes(3), keyId: 'k2', previous: { k1: keyBytes(2) } },
    ])
      await expect(opened(medium, options, 'b')).rejects.toEqual(code('KEY_MISSING'));
    expect([medium.tables.runs, medium.tables.shared, medium.journals]).toEqual(before);
  });

  it('B: what keyOf returns is checked', async () => {
    const sealed = await opened(undefined, { keyOf: () => 42 as never, keys: () => undefined });
    await expect(sealed.commit({ now, starts: [newRun('r')] })).rejects.toEqual(code('INVALID_OPTION'));
  });
});

it('V3: keyOf is not asked for what the library keeps in the state: to forget a person stops no schedule', async () => {
  const asked: unknown[] = [];
  const vault = new Map([['user:42', keyBytes(3)]]);
  const keyOf = (subject: unknown) => {
    asked.push(subject);
    return 'user:42';
  };
  const sealed = await opened(undefined, { keyOf, keys: (keyId) => vault.get(keyId) });
  await commit(sealed, { state: [set('stepfast:schedule:nightly', 'tick'), set('draft', 'own')] });
  vault.clear();
  expect(asked).toEqual([{ kind: 'state', key: 'draft' }]);
  expect(await sealed.state('stepfast:schedule:nightly')).toMatchObject({ value: 'tick' });
  await expect(sealed.state('draft')).rejects.toEqual(code('KEY_MISSING'));
});

it('Q2: what jobs say of their queues stays readable, for the transition looks for it', async () => {
  const medium = memoryMedium();
  const sealed = await opened(medium);
  const lanes = [{ job: 'full', queue: 'queue', concurrency: 1 }];
  await commit(sealed, { state: [set('stepfast:lanes', lanes)], starts: [newRun('a'), newRun('b')] });
  expect(await sealed.state('stepfast:lanes')).toMatchObject({ value: lanes });
  const state = { status: 'running', version: 1, owner: 'a', dueAt: 0, waits: [], slot: 'queue' } as const;
  await commit(sealed, { run: claim('a', 0, { state, defaultConcurrency: 8 }) });
  const outcome = await sealed.commit({ now, run: claim('b', 0, { state, defaultConcurrency: 8 }) });
  expect(outcome).toEqual({ kind: 'no-slot' });
});
