import { describe, expect, it, vi } from 'vitest';
import { memoryStore } from '../adapters/memory/index.js';
import { createDispatch } from '../src/door/dispatch.js';
import type { AnyJob, JobOptions } from '../src/door/job.js';
import { assertReadable } from '../src/door/readable.js';
import { CHILD_OPTIONS, checkStart, createStart, fingerprintOfRun, lostBy, recordedAs } from '../src/door/start.js';
import type { Platform } from '../src/platform.js';
import type { Batch, CommitOutcome, RunChange } from '../src/store/batch.js';
import type { JournalEntry } from '../src/store/journal.js';
import type { RunRow, StoredRun } from '../src/store/rows.js';
import { simulatedClock } from '../src/testing/clock.js';
import { createCodec } from '../src/values/codec.js';
import { fingerprintOf } from '../src/values/fingerprint.js';

// Pins: what a start and a dispatch hand to the store, in one commit, and what they make of its answer (spec Q1, Q2, E1, E8,
// R11, Q4).

const now = 1_000;
const DAY = 86_400_000;
const given = (value: unknown) => value as never;
const schema = (make: (value: never) => unknown) => ({
  '~standard': { version: 1 as const, vendor: 'test', validate: (value: unknown) => ({ value: make(given(value)) }) },
});
const job = (options: JobOptions = {}, name = 'mail'): AnyJob => given({ name, options, handler: () => 1 });
const change: RunChange = { runId: 'parent', fence: 1, append: [] };
const saying = (code: string, said: string, place: object = {}) =>
  expect.objectContaining({ code, message: expect.stringContaining(said), ...place });

/** The ways in, over a store in memory; `answers` stand for what the store would say to the next commits. */
function ways(...jobs: AnyJob[]) {
  const clock = simulatedClock({ now });
  const store = memoryStore();
  const batches: Partial<Batch>[] = [];
  const answers: (CommitOutcome | 'twice')[] = [];
  const warnings: string[] = [];
  const look = vi.fn();
  let count = 0;
  const newId = () => `id${++count}`;
  const platform = given({ clock, newId, warn: (text: string) => warnings.push(text) }) as Platform;
  const commit = async (parts: Omit<Batch, 'now'>) => {
    batches.push(parts);
    const answer = answers.shift();
    if (answer && answer !== 'twice') return answer;
    const batch = { now: clock.now(), ...parts };
    if (answer) await store.commit(batch);
    return store.commit(batch);
  };
  const host = { platform, codec: createCodec(), commit, look };
  const known = new Map((jobs.length ? jobs : [job()]).map((each) => [each.name, each]));
  const loads: { answer?: StoredRun | undefined } = {};
  const load = async (runId: string) => ('answer' in loads ? loads.answer : store.load(runId));
  const start = createStart({ ...host, jobs: known, load });
  return { clock, store, batches, answers, warnings, look, loads, start, dispatch: createDispatch(host) };
}
const committed = (parts: Partial<Extract<CommitOutcome, { kind: 'committed' }>>): CommitOutcome => ({
  ...{ kind: 'committed', fence: 1, offers: [], ended: [], state: [], starts: [], events: [] },
  ...parts,
});
const started = (payload: unknown, more: object = {}) => ({ kind: 'started', at: now, payload, ...more });
const newRun = (more: object = {}) => ({
  ...{ runId: 'id1', job: 'mail', version: 1, queue: 'default', entries: [started(null)] },
  ...more,
});

describe('a start', () => {
  it('that says nothing is a run with a new id, as soon as may be', async () => {
    const { start, batches, look } = ways();
    expect(await start('mail', null)).toStrictEqual({ runId: 'id1', created: true });
    expect(batches).toStrictEqual([{ starts: [newRun()] }]);
    expect(look).toHaveBeenCalledTimes(1);
  });

  it('hands in all that it was given', async () => {
    const { start, batches } = ways();
    const tags = ['a', 'b'];
    const retry = { maxAttempts: Infinity };
    const options = {
      id: 'r',
      idempotencyKey: 'k',
      idempotencyTtl: '1h',
      queue: 'q',
      delay: '2s',
      priority: 3,
    } as const;
    await start('mail', { a: undefined }, { ...options, tags, retry });
    const payload = { a: { $: ['undefined'] } };
    const entry = started(payload, { nonce: 'id1', retry: { maxAttempts: { $: ['number', 'Infinity'] } } });
    expect(batches).toStrictEqual([
      {
        starts: [
          newRun({
            ...{ runId: 'r', queue: 'q', dueAt: now + 2_000, priority: 3, tags, idempotencyKey: 'k' },
            ...{ keyUntil: now + 3_600_000, entries: [entry] },
          }),
        ],
      },
    ]);
    expect(batches[0]?.starts?.[0]?.tags).not.toBe(tags);
  });

  it('Q4: is due at an instant only where that is ahead', async () => {
    const { start, batches } = ways();
    for (const options of [{ startAt: now + 1 }, { startAt: now }, { startAt: now - 5 }, { delay: 0 }, { tags: [] }])
      await start('mail', null, options);
    expect(batches.map((batch) => batch.starts?.[0])).toStrictEqual([
      newRun({ dueAt: now + 1 }),
      ...[2, 3, 4, 5].map((count) => newRun({ runId: `id${count}` })),
    ]);
  });

  it('has what its job says of starts, where it does not say it itself', async () => {
    const lane = job({ version: 3, queue: { name: 'q', priority: 2 } });
    const { start, batches } = ways(lane);
    await start(lane, null);
    await start(lane, null, { priority: 0, queue: 'p' });
    expect(batches.map((batch) => batch.starts?.[0])).toStrictEqual([
      newRun({ version: 3, queue: 'q', priority: 2 }),
      newRun({ runId: 'id2', version: 3, queue: 'p' }),
    ]);
  });

  it('Q2: that is debounced comes later, and says how it moves one that is to come', async () => {
    const lane = job({ queue: { name: 'q', debounce: { delay: 50, key: given((to: string) => to) } } });
    const { start, batches, look } = ways(lane);
    expect(await start('mail', 'ada')).toEqual({ runId: 'id1', created: true });
    const first = newRun({
      ...{ queue: 'q', dueAt: now + 50, unique: { key: 'debounce:ada', until: 'start' } },
      ...{ entries: [started('ada')], moves: { kind: 'rescheduled', at: now, payload: 'ada', dueAt: now + 50 } },
    });
    expect(batches).toStrictEqual([{ starts: [first] }]);
    expect(await start('mail', 'ada', { delay: 20 })).toEqual({ runId: 'id1', created: false });
    expect(look).toHaveBeenCalledTimes(2); // it is due at another instant now
    await start('mail', 'ada', { delay: 90 });
    expect(batches.slice(1).map((batch) => batch.starts?.[0]?.dueAt)).toEqual([now + 50, now + 90]);
  });

  it('Q1, Q2: that another run may answer says what it is to be known by, if it has an id or a key', async () => {
    const lane = job({ queue: { name: 'q', singleton: true } });
    const { start, batches, look } = ways(lane);
    const unique = { key: 'singleton:', until: 'end' };
    await start('mail', 'x');
    for (const options of [{}, { id: 'r' }, { idempotencyKey: 'k' }])
      expect(await start('mail', 'y', options)).toEqual({ runId: 'id1', created: false });
    expect(look).toHaveBeenCalledTimes(1);
    const merged = { fingerprint: fingerprintOf(['mail', 'y']), until: now + 30 * DAY };
    const [, plain, byId, byKey] = batches.map((batch) => batch.starts?.[0]);
    expect(plain).toStrictEqual(newRun({ runId: 'id2', queue: 'q', unique, entries: [started('y')] }));
    expect(byId).toMatchObject({ unique, merged, keyUntil: now + 30 * DAY });
    expect(byKey).toMatchObject({ unique, merged, keyUntil: now + 30 * DAY });
    const schedule = { name: 's', tick: 5, missed: 0 };
    await start('mail', 'y', {}, { key: 'stepfast:s', schedule });
    const tick = newRun({ runId: 'id5', queue: 'q', unique, idempotencyKey: 'stepfast:s' });
    expect(batches[4]).toStrictEqual({ starts: [{ ...tick, entries: [started('y', { schedule })] }] });
  });

  it('goes into one commit with what made it', async () => {
    const { start, batches, answers } = ways();
    const state = [{ kind: 'delete', key: 'k' }] as const;
    answers.push(committed({ starts: [{ kind: 'created', runId: 'id1' }] }));
    await start('mail', null, {}, { parentId: 'parent', run: change, state });
    expect(batches).toStrictEqual([{ starts: [newRun({ parentId: 'parent' })], run: change, state }]);
  });

  it('of a job that is not here is refused, unless another context may have it', async () => {
    const { start, batches } = ways();
    await expect(start('other', null)).rejects.toEqual(
      saying('UNKNOWN_JOB', 'Job "other" is not registered here. Register it, or start it with allowUnregistered'),
    );
    await expect(start('other', null)).rejects.toMatchObject({ job: 'other' });
    await expect(start('other', null, {}, { parentId: 'p' })).rejects.toEqual(
      saying('UNKNOWN_JOB', 'Job "other" is not registered here. Register it, or load this run where it is'),
    );
    await expect(start('', null)).rejects.toEqual(saying('INVALID_NAME', 'The name of a job is ""'));
    await expect(start(given(null), null)).rejects.toEqual(saying('INVALID_NAME', 'The name of a job is null'));
    await expect(start('mail', null, given({ tag: 1 }))).rejects.toEqual(saying('INVALID_OPTION', '"tag"'));
    expect(batches).toEqual([]);
    expect((await start('other', null, { allowUnregistered: true })).created).toBe(true);
    expect(batches).toStrictEqual([{ starts: [newRun({ job: 'other' })] }]);
  });

  it('is refused with a payload that can not be kept, before anything is written', async () => {
    const { start, batches } = ways(job(), job({ payload: schema(() => () => 1) }, 'made'));
    await expect(start('mail', { a: () => 1 })).rejects.toEqual(
      saying('NOT_SERIALIZABLE', 'Can not store the payload of job "mail": $.a'),
    );
    await expect(start('made', 1)).rejects.toEqual(
      saying('NOT_SERIALIZABLE', 'Can not store the payload of job "made": $ is a function'),
    );
    expect(batches).toEqual([]);
  });

  it('R11: is recorded as its schema has made it, and as it was given where that differs', async () => {
    const { start, batches } = ways(job({ payload: schema((text: string) => text.trim()) }));
    for (const text of [' a ', 'a']) await start('mail', text);
    expect(batches.map((batch) => batch.starts?.[0]?.entries)).toStrictEqual([
      [started('a', { given: ' a ' })],
      [started('a')],
    ]);
    const refusing = job({ payload: given({ '~standard': { validate: () => ({ issues: [{ message: 'no' }] }) } }) });
    await expect(ways(refusing).start('mail', 1)).rejects.toEqual(
      saying('INVALID_PAYLOAD', 'The payload of job "mail" does not fit its schema at $: `issues`'),
    );
  });
});

describe('a start that is repeated', () => {
  it('Q1: gives the first run for the same payload, as it was given, and is refused for another', async () => {
    let made = 0;
    const { start, look, batches } = ways(job(), job({ payload: schema(() => ++made) }, 'other'));
    const keyed = { idempotencyKey: 'k' };
    expect(await start('mail', { a: 1, b: 2 }, { id: 'r' })).toEqual({ runId: 'r', created: true });
    expect(await start('mail', { b: 2, a: 1 }, { id: 'r' })).toEqual({ runId: 'r', created: false });
    await start('other', 'x', keyed);
    const ofOther = batches[2]!.starts![0]!.runId;
    expect(await start('other', 'x', keyed)).toEqual({ runId: ofOther, created: false });
    expect(look).toHaveBeenCalledTimes(2);
    const conflicts = [
      [start('mail', 'y', { id: 'r' }), 'id "r" was used before, with another payload or job. Use a new id'],
      [start('mail', 'y', { id: 'r', ...keyed }), 'id "r" was used before'],
      [start('other', { a: 1, b: 2 }, { id: 'r' }), 'id "r" was used before'],
      [
        start('other', 'y', keyed),
        `idempotencyKey "k" was used before, with another payload (run ${ofOther} of job "other"). Use a new idempotencyKey`,
      ],
      [start('other', 'y', { id: 'new', ...keyed }), 'idempotencyKey "k" was used before'],
    ] as const;
    for (const [call, said] of conflicts) await expect(call).rejects.toEqual(saying('IDEMPOTENCY_CONFLICT', said));
    await expect(start('other', 'y', keyed)).rejects.toMatchObject({ runId: ofOther, job: 'other' });
  });

  it('Q1: of a run that is gone is known by the print of its payload', async () => {
    const { start, answers } = ways();
    const remembered = (payload: string, more = {}): CommitOutcome =>
      committed({
        starts: [{ kind: 'exists', runId: 'gone', fingerprint: fingerprintOf(['mail', payload]), ...more }],
      });
    answers.push(
      remembered('x'),
      remembered('y'),
      remembered('x', { isUnique: true }),
      remembered('y', { isUnique: true }),
    );
    expect(await start('mail', 'x', { idempotencyKey: 'k' })).toEqual({ runId: 'gone', created: false });
    await expect(start('mail', 'x', { idempotencyKey: 'k' })).rejects.toEqual(saying('IDEMPOTENCY_CONFLICT', '"k"'));
    expect(await start('mail', 'x', { id: 'r' })).toEqual({ runId: 'gone', created: false });
    await expect(start('mail', 'x', { id: 'r' })).rejects.toEqual(saying('IDEMPOTENCY_CONFLICT', 'id "r" was used'));
  });

  it('Q1: by the store alone, for its answer was lost, is still the one that has created the run', async () => {
    const { start, answers, look } = ways();
    answers.push('twice', 'twice', 'twice');
    expect(await start('mail', 'x')).toEqual({ runId: 'id1', created: true });
    expect(await start('mail', 'x', { id: 'r' })).toEqual({ runId: 'r', created: true });
    expect(look).toHaveBeenCalledTimes(1);
    expect(await start('mail', 'x', { id: 'r' })).toEqual({ runId: 'r', created: false });
  });

  it('D3: is asked for once more where the run is gone meanwhile, and then it can not be read', async () => {
    const exists = committed({ starts: [{ kind: 'exists', runId: 'r' }] });
    const remembered = committed({ starts: [{ kind: 'exists', runId: 'r', fingerprint: 'of another' }] });
    const { start, answers, batches, loads } = ways();
    loads.answer = undefined;
    answers.push(exists);
    expect(await start('mail', 'x', { id: 'r' })).toEqual({ runId: 'r', created: true });
    expect(batches).toHaveLength(2);
    answers.push(exists, remembered);
    await expect(start('mail', 'x', { id: 'r' })).rejects.toEqual(saying('IDEMPOTENCY_CONFLICT', 'id "r"'));
    expect(batches).toHaveLength(4);
    answers.push(exists, exists);
    await expect(start('mail', 'x', { id: 'r' })).rejects.toEqual(
      saying('STORE_CORRUPT', 'Run r, which was started with this id or key', { runId: 'r' }),
    );
    expect(batches).toHaveLength(6);
  });

  it('of a run that a plug-in has written is refused where there is no such plug-in', async () => {
    const { start, answers, loads } = ways();
    const journal = [started('x')] as unknown as JournalEntry[];
    loads.answer = { row: given({ runId: 'r', job: 'stepfast:sealed' }), journal };
    answers.push(committed({ starts: [{ kind: 'exists', runId: 'r' }] }));
    await expect(start('mail', 'x', { id: 'r' })).rejects.toEqual(
      saying('MISSING_PLUGIN', 'Run r was written through a plug-in', { runId: 'r', job: 'stepfast:sealed' }),
    );
    expect(() => assertReadable({ runId: 'r', job: 'my stepfast:' } as RunRow)).not.toThrow();
  });
});

describe('a commit that does not happen', () => {
  it('D3: is told as the loss of the run that it would have changed, or as a fault of the store', async () => {
    const lost = saying('LEASE_LOST', 'Run parent was ended from outside, or another', { runId: 'parent' });
    expect(lostBy({ kind: 'fenced', fence: 2 }, change)).toEqual(lost);
    expect(lostBy({ kind: 'ended', status: 'failed' }, change)).toEqual(lost);
    const fault = (kind: string) => saying('STORE_UNAVAILABLE', `The store answered "${kind}"`);
    expect(lostBy({ kind: 'fenced', fence: 2 }, undefined)).toEqual(fault('fenced'));
    expect(lostBy({ kind: 'no-slot' }, change)).toEqual(fault('no-slot'));
    const { start, dispatch, answers } = ways();
    answers.push({ kind: 'fenced', fence: 2 }, { kind: 'ended', status: 'failed' });
    await expect(start('mail', 1, {}, { run: change })).rejects.toEqual(lost);
    await expect(dispatch('paid', 1, {}, { run: change })).rejects.toEqual(lost);
    const refused = { kind: 'refused', code: 'STATE_CHANGED', index: 0 } as const;
    answers.push(refused, refused, { kind: 'no-slot' });
    const state = [{ kind: 'delete', key: 'k' }] as const;
    await expect(start('mail', 1, {}, { state })).rejects.toEqual(saying('STATE_CHANGED', 'The shared value "k"'));
    await expect(start('mail', 1)).rejects.toEqual(fault('refused'));
    await expect(dispatch('paid', 1)).rejects.toEqual(fault('no-slot'));
  });
});

describe('options of a start', () => {
  it('are taken where they fit', () => {
    const dates = [new Date(5), 5, '2026-01-01T00:00:00Z'].map((startAt) => ({ startAt }));
    const all = { id: 'r', idempotencyKey: 'k', idempotencyTtl: 0, queue: 'q', priority: -1, tags: ['x'], retry: {} };
    for (const options of [{}, all, { delay: 5 }, { allowUnregistered: true }, ...dates])
      expect(() => checkStart(options)).not.toThrow();
    expect(() => checkStart(given({ name: 'child', ...all, delay: 1 }), 'The options', CHILD_OPTIONS)).not.toThrow();
    expect(() => checkStart({ allowUnregistered: true }, 'The options of step.call', CHILD_OPTIONS)).toThrow(
      saying('INVALID_OPTION', 'An option in the options of step.call is "allowUnregistered"'),
    );
  });

  it.each<[object, string, string]>([
    [{ tag: 1 }, 'INVALID_OPTION', 'An option in the options of start is "tag"'],
    [{ id: '' }, 'INVALID_ID', 'id is ""'],
    [{ idempotencyKey: 5 }, 'INVALID_KEY', 'idempotencyKey is 5'],
    [{ idempotencyKey: 'stepfast:a' }, 'INVALID_KEY', 'idempotencyKey is "stepfast:a". Give one that does not start'],
    [{ idempotencyTtl: 'long' }, 'INVALID_DURATION', 'idempotencyTtl is "long"'],
    [{ retry: { attempts: 1 } }, 'INVALID_OPTION', '"attempts"'],
    [{ queue: '' }, 'INVALID_NAME', 'The name of a queue is ""'],
    [{ priority: 0.5 }, 'INVALID_OPTION', 'priority is 0.5'],
    [{ tags: 'x' }, 'INVALID_OPTION', 'tags is "x". Give an array of texts'],
    [{ tags: ['x', ''] }, 'INVALID_OPTION', 'An entry of tags is ""'],
    [{ startAt: 5, delay: 5 }, 'INVALID_OPTION', 'startAt beside delay is 5. Give one of startAt and delay'],
    [{ startAt: 'soon' }, 'INVALID_OPTION', 'startAt is "soon"'],
    [{ delay: 'soon' }, 'INVALID_DURATION', 'delay is "soon"'],
    [{ allowUnregistered: 1 }, 'INVALID_OPTION', 'allowUnregistered is 1. Give true or false'],
  ])('are refused: %j', (options, code, said) => {
    expect(() => checkStart(options)).toThrow(saying(code, said));
  });
});

describe('what is recorded of a payload', () => {
  it('E3: is known at once, so that calls of one turn keep their order, unless a schema takes its time', async () => {
    const codec = createCodec();
    expect(recordedAs(codec, undefined, 1, 'payload')).toStrictEqual({ payload: 1 });
    expect(
      recordedAs(
        codec,
        schema((value) => value),
        1,
        'payload',
      ),
    ).toStrictEqual({ payload: 1 });
    const slow = given({ '~standard': { validate: async () => ({ value: 2 }) } });
    expect(await recordedAs(codec, slow, 1, 'payload')).toStrictEqual({ payload: 2, given: 1 });
  });

  it('Q1: is remembered of a deleted run as it was given', () => {
    const run = (entry: object) => ({ row: { job: 'mail' }, journal: [entry] }) as unknown as StoredRun;
    expect(fingerprintOfRun(run({ payload: 'made' }))).toBe(fingerprintOf(['mail', 'made']));
    expect(fingerprintOfRun(run({ payload: 'made', given: 'x' }))).toBe(fingerprintOf(['mail', 'x']));
  });
});

describe('a dispatch', () => {
  const paid = { name: 'paid', schema: schema((text: string) => text.trim()) };
  const newEvent = (more: object = {}) => ({
    ...{ id: 'id1', name: 'paid', payload: 1, ttlMs: 30 * DAY, maxBacklog: 1_000 },
    ...more,
  });

  it('hands in all that it was given, in one commit with what sends it', async () => {
    const { dispatch, batches, look, answers } = ways();
    expect(await dispatch('paid', 1)).toStrictEqual({ id: 'id1', deduplicated: false, resumed: [] });
    const options = { correlationKey: 'c', idempotencyKey: 'k', ttl: '1h' } as const;
    await dispatch(paid, ' x ', options);
    await dispatch(paid, ' y ');
    answers.push(committed({ events: [{ kind: 'accepted', id: 'own', seq: 9, acceptedAt: now, resumed: ['r'] }] }));
    const receipt = await dispatch('paid', 1, { runId: 'r' }, { id: 'own', run: change });
    expect(receipt).toStrictEqual({ id: 'own', deduplicated: false, resumed: ['r'] });
    const keyed = { key: 'c', idempotencyKey: 'k', ttlMs: 3_600_000, payload: 'x', given: ' x ' };
    expect(batches).toStrictEqual([
      { events: [newEvent()] },
      { events: [newEvent({ id: 'id2', ...keyed })] },
      { events: [newEvent({ id: 'id3', payload: 'y' })] },
      { events: [newEvent({ id: 'own', runId: 'r' })], run: change },
    ]);
    expect(look).toHaveBeenCalledTimes(1); // somebody waits for the last one
  });

  it('E8: that is repeated gives the first receipt for the same payload, and is refused for another', async () => {
    let made = 0;
    const other = { name: 'other', schema: schema(() => ++made) };
    const same = { name: 'same', schema: schema(() => 'made') };
    const { dispatch } = ways();
    const key = { idempotencyKey: 'k' };
    const again = { id: 'id1', deduplicated: true, resumed: [] };
    await dispatch('paid', { a: 1 }, key);
    expect(await dispatch('paid', { a: 1 }, key)).toEqual(again);
    await expect(dispatch('paid', { a: 2 }, key)).rejects.toEqual(
      saying('IDEMPOTENCY_CONFLICT', 'idempotencyKey "k" was used before, with another payload (event "paid")'),
    );
    for (const type of [other, same]) await dispatch(type, 'x', key);
    expect(await dispatch(other, 'x', key)).toMatchObject({ deduplicated: true }); // it was given the same
    expect(await dispatch(same, 'y', key)).toMatchObject({ deduplicated: true }); // it comes to the same
    await expect(dispatch(other, 'y', key)).rejects.toEqual(saying('IDEMPOTENCY_CONFLICT', '"k"'));
    expect(await dispatch('none', undefined, key)).toMatchObject({ deduplicated: false });
    expect(await dispatch('none', undefined, key)).toMatchObject({ deduplicated: true });
    await expect(dispatch('none', null, key)).rejects.toEqual(saying('IDEMPOTENCY_CONFLICT', '"k"'));
  });

  it('E8: nor is what was sent to one run, or to all, the same as what is sent to another', async () => {
    const { dispatch, store } = ways();
    await store.commit({ now, starts: ['r', 's'].map((runId) => newRun({ runId }) as never) });
    for (const [name, first, others] of [
      ['to r', 'r', ['s', undefined]],
      ['to all', undefined, ['r']],
    ] as const) {
      const to = (runId?: string) => dispatch(name, 'x', { idempotencyKey: 'k', runId });
      await to(first);
      for (const other of others)
        await expect(to(other)).rejects.toEqual(
          saying('IDEMPOTENCY_CONFLICT', `with another payload or for another run (event "${name}")`),
        );
      expect(await to(first)).toMatchObject({ deduplicated: true });
    }
  });

  it('R2: by an id of its own is the same dispatch, whatever the payload', async () => {
    const { dispatch } = ways();
    for (const payload of [1, 2])
      expect(await dispatch('paid', payload, {}, { id: 'own' })).toEqual({
        id: 'own',
        deduplicated: false,
        resumed: [],
      });
  });

  it('is refused where the store refuses it, with what for', async () => {
    const { dispatch, answers } = ways();
    await expect(dispatch('paid', 1, { runId: 'r' })).rejects.toEqual(
      saying('RUN_NOT_FOUND', 'There is no active run "r" for event "paid". Nothing was stored.', { runId: 'r' }),
    );
    answers.push({ kind: 'refused', code: 'EVENT_BACKLOG_FULL', index: 0 });
    const error = await dispatch('paid', 1).catch((caught: unknown) => caught);
    expect(error).toEqual(saying('EVENT_BACKLOG_FULL', '1000 events "paid" with this correlation key'));
    expect(error).not.toHaveProperty('runId');
  });

  it.each<[unknown, object, string, string]>([
    ['', {}, 'INVALID_NAME', 'The name of an event is ""'],
    [{ name: 'stepfast:a' }, {}, 'INVALID_NAME', 'The name of an event is "stepfast:a"'],
    [
      'paid',
      { key: 'k' },
      'INVALID_OPTION',
      'An option in the options of dispatch is "key". Give correlationKey, idem',
    ],
    ['paid', { correlationKey: '' }, 'INVALID_KEY', 'correlationKey is ""'],
    ['paid', { idempotencyKey: '' }, 'INVALID_KEY', 'idempotencyKey is ""'],
    ['paid', { runId: '' }, 'INVALID_ID', 'runId is ""'],
    ['paid', { ttl: 'long' }, 'INVALID_DURATION', 'ttl is "long"'],
  ])('of %j with %j is refused', async (event, options, code, said) => {
    const { dispatch, batches } = ways();
    await expect(dispatch(given(event), 1, options)).rejects.toEqual(saying(code, said));
    expect(batches).toEqual([]);
  });

  it('of a payload that can not be kept, or does not fit, is refused and names its event', async () => {
    const { dispatch, warnings } = ways();
    await expect(dispatch('paid', () => 1)).rejects.toEqual(
      saying('NOT_SERIALIZABLE', 'Can not store the payload of event "paid"'),
    );
    await expect(dispatch(paid, given(5))).rejects.toEqual(saying('INVALID_PAYLOAD', 'The payload of event "paid"'));
    expect(warnings).toEqual([]);
    await dispatch('paid', 1, { correlationKey: 'user-undefined' });
    expect(warnings).toEqual([expect.stringContaining('"user-undefined"')]);
  });
});
