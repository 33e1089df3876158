import { describe, expect, it } from 'vitest';
import type { State, StepfastError } from '../src/index.js';
import { LIMITS } from '../src/limits.js';
import type { FunctionCommand, StepContext } from '../src/replay/command.js';
import { idempotencyKeyOf, stepKeyOf } from '../src/replay/keys.js';
import type { Ask } from '../src/replay/replay.js';
import { beginAttempt, callUndo, type Outcome } from '../src/run/attempt.js';
import { countUp, refuseIncrements } from '../src/run/increments.js';
import { type Draft, emptyDraft, liveRunOf } from '../src/run/live-run.js';
import type { StateChange } from '../src/store/batch.js';
import { identityKey, type JournalEntry } from '../src/store/journal.js';
import type { RunRow, StateRow } from '../src/store/rows.js';
import { systemPlatform } from '../src/system.js';
import { createCodec } from '../src/values/codec.js';
import { codeOf, gate, hands, never, settle } from './hand-kit.js';

// Pins: one attempt of one step, alone: what its function is called with, when it counts as over, and what it writes to the
// shared state (A2, spec D8, F8, R2, V3).

const codec = createCodec({ URL, blobs: true });
type Entry = { readonly kind: JournalEntry['kind'] } & { readonly [field: string]: unknown };

function open(...entries: readonly Entry[]) {
  const h = hands();
  const at = h.clock.now();
  const platform = { ...systemPlatform(h.clock), warn: (message: string) => void h.warnings.push(message) };
  const journal = [{ kind: 'started', payload: null }, ...entries].map((entry) => ({
    at,
    ...entry,
  })) as unknown as JournalEntry[];
  const row = { runId: 'r', waits: [], length: journal.length } as unknown as RunRow;
  const run = liveRunOf({ row, journal }, { offers: [], interrupted: false });
  const rows = new Map<string, Omit<StateRow, 'key'>>();
  const commits: (readonly StateChange[])[] = [];
  const state = {
    read: async (key: string) => {
      const found = rows.get(key);
      return found && { key, ...found };
    },
    async commit(changes: readonly StateChange[]) {
      commits.push(changes);
      return [{ token: 7 }];
    },
    losses: () => 0,
  };
  let pumps = 0;
  const host = { platform, codec, state, run, pump: () => void pumps++ };
  const world = {
    ...{ h, run, rows, commits, host, platform },
    pumps: () => pumps,
    ask(name: string, more: Partial<FunctionCommand> = {}): Ask {
      const id = [name, 1] as const;
      const command = { kind: 'run', fn: () => undefined, ...more } as never;
      return {
        namespace: 'step',
        id,
        key: identityKey('step', id),
        command,
        settle: () => undefined,
        released: 0,
        since: undefined,
      };
    },
    /** Begins an attempt of `a` with this function. */
    begin(fn: (context: StepContext) => unknown, more: Partial<FunctionCommand> = {}, attempt = 1) {
      const ended: { outcome: Outcome; changes: readonly StateChange[] }[] = [];
      const inner = { runId: 'r', createdAt: 1, confirm: {} as never };
      const begun = beginAttempt(host, world.ask('a', { fn: fn as never, ...more }), {
        ...{ attempt, inner },
        done: (outcome, changes) => void ended.push({ outcome, changes }),
      });
      return { ...begun, ended, last: () => ended.at(-1) };
    },
  };
  return world;
}
const key = identityKey('step', ['a', 1]);

describe('an idempotency key', () => {
  it('R2: is run, generation, step and occurrence, as a text that fits into a header, and no two are the same', () => {
    expect(idempotencyKeyOf('run-1', 0, ['charge.card', 2])).toBe('run-1/0/charge.card/2');
    const odd = ['a b', 'a/b', 'a%2Fb', 'ä', '"', '', 'a\nb', '\ud800'];
    const keys = odd.flatMap((name) => [idempotencyKeyOf(name, 0, ['x', 1]), idempotencyKeyOf('x', 0, [name, 1])]);
    expect(new Set(keys).size).toBe(keys.length);
    for (const each of keys) expect(each).toMatch(/^[\x21-\x7e]*$/);
    expect(idempotencyKeyOf('a b', 1, ['c', 1])).toBe('a%20b/1/c/1');
  });

  it('R2, O6: stays what it was under another name', () => {
    const { run } = open({ kind: 'upgraded', from: 1, to: 2, renames: [['old', 'a']] });
    expect(stepKeyOf(run, key, ['a', 1])).toBe('r/0/old/1');
  });
});

describe('an attempt', () => {
  it('R2: gets its number and key; what it returns is encoded, and told once', async () => {
    const w = open();
    const seen: unknown[] = [];
    const { ended, late } = w.begin(
      ({ attempt, idempotencyKey }) => {
        seen.push(attempt, idempotencyKey);
        return new Date(5);
      },
      {},
      3,
    );
    await settle(3);
    expect(seen).toEqual([3, 'r/0/a/1']);
    expect(ended).toEqual([{ outcome: { value: codec.encode(new Date(5), '') }, changes: [] }]);
    expect(await late).toEqual(ended[0]!.outcome);
  });

  it('F1: what it throws, at once or later, is its outcome; so is a value that can not be kept', async () => {
    const w = open();
    const error = new Error('no');
    const thrown = w.begin(() => {
      throw error;
    });
    expect(thrown.ended).toEqual([]); // who has called it is to be back before anybody hears of it
    const rejected = w.begin(() => Promise.reject(error));
    const odd = w.begin(() => () => 1);
    await settle(3);
    for (const { ended } of [thrown, rejected]) expect(ended).toEqual([{ outcome: { error }, changes: [] }]);
    expect(odd.last()!.outcome).toEqual({ isUnknown: true, error: codeOf('NOT_SERIALIZABLE') });
    expect(String((odd.last()!.outcome as { error: unknown }).error)).toContain('what step "a" returned');
  });

  it('F8: is over when its timeout has passed: its signal says why, and it writes nothing more', async () => {
    const w = open();
    let context: StepContext | undefined;
    const inside = gate<number>();
    const { ended, late } = w.begin(
      (given) => {
        context = given;
        void given.state.set('before', 1);
        return inside.promise;
      },
      { timeoutMs: 1_000 },
      2,
    );
    const { signal } = context!;
    await w.h.advance(999);
    expect([ended, signal.aborted]).toEqual([[], false]);
    await w.h.advance(1);
    expect(ended).toEqual([{ outcome: { isUnknown: true, error: codeOf('STEP_TIMEOUT') }, changes: [] }]);
    const { error } = ended[0]!.outcome as { error: StepfastError };
    expect([error.step, signal.aborted, (signal as { reason?: unknown }).reason]).toEqual(['a', true, error]);
    expect(error.message).toMatch(/Attempt 2 of step "a"/);
    await expect(context!.state.set('k', 1)).rejects.toBe(error);
    expect(() => context!.progress(1)).toThrow(error);
    inside.open(5);
    await settle(3);
    expect([ended.length, await late, w.pumps()]).toEqual([1, { value: 5 }, 0]);
  });

  it('F8: one that has ended in time has no timeout any more, and writes nothing more either', async () => {
    const w = open();
    let context: StepContext | undefined;
    const { ended } = w.begin(
      (given) => {
        context = given;
        return 1;
      },
      { timeoutMs: 1_000 },
    );
    const { signal } = context!;
    await settle(3);
    expect(w.h.timers.size).toBe(0);
    await w.h.advance(5_000);
    expect([ended.length, signal.aborted]).toEqual([1, false]);
    await expect(context!.state.set('k', 1)).rejects.toMatchObject({ code: 'STEP_FAILED' });
    await expect(context!.state.set('k', 1)).rejects.toThrow(/attempt of step "a" is over/);
    expect(() => context!.progress(1)).toThrow('over');
  });

  it('F9: one that is ended from outside is told why; what it comes to is late, and no outcome', async () => {
    const w = open();
    let context: StepContext | undefined;
    const inside = gate<string>();
    const { ended, end, late } = w.begin(
      (given) => {
        context = given;
        return inside.promise;
      },
      { timeoutMs: 1_000 },
    );
    const reason = new Error('cancelled');
    end(reason);
    expect([context!.signal.aborted, (context!.signal as { reason?: unknown }).reason, w.h.timers.size]).toEqual([
      true,
      reason,
      0,
    ]);
    inside.open('late');
    expect([await late, ended]).toEqual([{ value: 'late' }, []]);
    await expect(context!.state.get('k')).rejects.toEqual(codeOf('STEP_FAILED'));
  });

  it('R8: what it asks for when it is over is refused, and is no unhandled rejection where nobody awaits it', async () => {
    const w = open();
    let context: StepContext | undefined;
    const { end } = w.begin((given) => {
      context = given;
      return never();
    });
    const unhandled: unknown[] = [];
    const hear = (error: unknown) => void unhandled.push(error);
    process.on('unhandledRejection', hear);
    try {
      const { state } = context!;
      end(new Error('over'));
      void state.set('k', 1);
      void state.get('k');
      await settle(5);
    } finally {
      process.off('unhandledRejection', hear);
    }
    expect(unhandled).toEqual([]);
  });

  it('V1, F5: says how far it is: what it said last is shown', async () => {
    const w = open();
    w.begin(({ progress }) => {
      progress({ done: 1 });
      progress(new Date(5));
      return never();
    });
    expect(w.run.progress).toEqual(codec.encode(new Date(5), ''));
    expect([w.run.progressed?.key, w.pumps()]).toEqual([key, 2]);
    const bad = open();
    const { last } = bad.begin(({ progress }) => progress(() => 1));
    await settle(3);
    expect(last()!.outcome).toEqual({ error: codeOf('NOT_SERIALIZABLE') });
    expect(String((last()!.outcome as { error: unknown }).error)).toContain('the progress of step "a"');
  });

  it('V3: its lines are kept with its name, up to the most that one run may have', () => {
    const w = open({ kind: 'logged', level: 'info', message: 'before', id: ['a', 1] });
    w.begin(({ log }) => {
      log.info('one');
      expect(log).toBe(log);
      return never();
    });
    expect(w.run.logs).toMatchObject([{ message: 'one', id: ['a', 1], at: w.h.clock.now() }]);
    w.begin(({ log }) => {
      for (let nth = 0; nth < LIMITS.logs + 5; nth++) log.info('more');
      return never();
    });
    expect(w.run.logs).toHaveLength(LIMITS.logs - 1);
    expect(w.h.warnings).toEqual([expect.stringMatching(/has 1000 log lines: no more are kept/)]);
  });

  it('F7: an undo is called with what the step came to, and may log', async () => {
    const w = open();
    const seen: unknown[] = [];
    const context = { result: 5, attempt: 2, idempotencyKey: 'k', signal: {} as AbortSignal };
    const undone = await callUndo(
      { run: w.run, codec, platform: w.platform },
      ({ result, attempt, idempotencyKey, log }) => {
        seen.push(result, attempt, idempotencyKey);
        log.warn('undoing');
        return () => 'not kept';
      },
      ['a', 1],
      context,
    );
    expect([seen, 'value' in undone]).toEqual([[5, 2, 'k'], true]);
    expect(w.run.logs).toMatchObject([{ level: 'warn', message: 'undoing', id: ['a', 1] }]);
    const error = new Error('no');
    const failed = callUndo(
      { run: w.run, codec, platform: w.platform },
      () => Promise.reject(error),
      ['a', 1],
      context,
    );
    expect(await failed).toEqual({ error });
  });
});

describe('what an attempt writes to the shared state', () => {
  it('A1: waits for its result, and is committed with it or not at all; it sees it before', async () => {
    const w = open();
    w.rows.set('old', { value: 1, revision: 1 });
    const seen: unknown[] = [];
    const { last } = w.begin(async ({ state }) => {
      seen.push(await state.get('old'), await state.get('new'));
      await state.set('new', 'mine', { ttl: '1m' });
      await state.set('other', 5);
      await state.delete('old');
      seen.push(await state.get('old'), await state.get('new'), await state.get('other'));
      await state.set('new', 'again');
      seen.push(await state.get('new'));
      expect(state).toBe(state);
    });
    await settle(5);
    expect(seen).toEqual([1, undefined, undefined, 'mine', 5, 'again']);
    expect(last()!.changes).toEqual([
      { kind: 'set', key: 'new', value: 'mine', expiresAt: w.h.clock.now() + 60_000 },
      { kind: 'set', key: 'other', value: 5 },
      { kind: 'delete', key: 'old' },
      { kind: 'set', key: 'new', value: 'again' },
    ]);
    expect(w.commits).toEqual([]);
    const failed = w.begin(async ({ state }) => {
      await state.set('new', 1);
      throw new Error('no');
    });
    await settle(5);
    expect(failed.last()!.changes).toEqual([]);
  });

  it('A1, D7: a value whose time is over is not seen, be it stored or its own', async () => {
    const w = open();
    const now = w.h.clock.now();
    w.rows.set('over', { value: 1, revision: 1, expiresAt: now });
    w.rows.set('still', { value: 2, revision: 1, expiresAt: now + 1 });
    const seen: unknown[] = [];
    w.begin(async ({ state }) => {
      seen.push(await state.get('over'), await state.get('still'));
      await state.set('own', 3, { ttl: 10 });
      w.h.jump(9);
      seen.push(await state.get('own'), await state.get('still'));
      w.h.jump(1);
      seen.push(await state.get('own'));
      void state.increment('over', 5);
      seen.push(await state.get('over')); // it counts from nothing
    });
    await settle(5);
    expect(seen).toEqual([undefined, 2, 3, undefined, undefined, 5]);
  });

  it('D8: an increment that nobody asks about is a delta, committed with the result; it is seen before', async () => {
    const w = open();
    w.rows.set('n', { value: 10, revision: 1, expiresAt: w.h.clock.now() + 50 });
    w.rows.set('text', { value: 'text', revision: 1 });
    const seen: unknown[] = [];
    const { last } = w.begin(async ({ state }) => {
      void state.increment('n');
      void state.increment('n', 5);
      void state.increment('fresh', 2, { ttl: 10 });
      void state.increment('text');
      seen.push(await state.get('n'), await state.get('fresh'), await state.get('text'));
      w.h.jump(50);
      seen.push(await state.get('n'), await state.get('fresh'));
    });
    await settle(5);
    expect(seen).toEqual([15 + 1, 2, 'text', 6, undefined]);
    expect(last()!.changes).toMatchObject([
      { kind: 'increment', key: 'n', by: 1 },
      { kind: 'increment', key: 'n', by: 5 },
      { kind: 'increment', key: 'fresh', by: 2, expiresAt: expect.any(Number) },
      { kind: 'increment', key: 'text', by: 1 },
    ]);
    expect([w.run.increments, w.pumps()]).toEqual([[], 0]);
  });

  it('D8: one whose number is asked for is counted at once, each by its place, and no more with the result', async () => {
    const w = open();
    const seen: unknown[] = [];
    const { last } = w.begin(async ({ state }) => {
      const one = state.increment('n');
      void state.increment('m', 9);
      seen.push(await one, await state.increment('n', 2));
      await state.increment('m', 1).finally(() => seen.push('finally'));
      seen.push(await state.increment('m', 0).catch(() => 'refused'));
    });
    const next = async (value: number) => {
      await settle(3);
      const [asked] = w.run.increments.splice(0);
      asked!.resolve(value);
      return [asked!.change.key, asked!.nth, asked!.change.by, asked!.ask.key];
    };
    expect(await next(1)).toEqual(['n', 1, 1, key]);
    expect(await next(3)).toEqual(['n', 2, 2, key]);
    expect(await next(10)).toEqual(['m', 1, 1, key]);
    await settle(3);
    w.run.increments.splice(0)[0]!.reject(new Error('no'));
    await settle(3);
    expect(seen).toEqual([1, 3, 'finally', 'refused']);
    expect(last()!.changes).toMatchObject([{ kind: 'increment', key: 'm', by: 9 }]);
    expect(w.pumps()).toBe(4);
  });

  it('D8: another attempt gets the numbers of the one before, and counts nothing again', async () => {
    const w = open(
      { kind: 'state-incremented', id: ['a', 1], key: 'n', nth: 1, value: 41 },
      { kind: 'state-incremented', id: ['a', 1], key: 'n', nth: 2, value: 42 },
      { kind: 'state-incremented', id: ['b', 1], key: 'm', nth: 1, value: 50 },
    );
    const seen: unknown[] = [];
    const { ended } = w.begin(async ({ state }) => {
      seen.push(await state.increment('n'), await state.increment('n'));
      seen.push(await state.increment('m'));
    });
    await settle(5);
    expect([seen, w.run.increments.length, ended.length]).toEqual([[41, 42], 1, 0]);
  });

  it('D8: one that adds to what the attempt has written itself is its own until then', async () => {
    const w = open();
    w.rows.set('n', { value: 10, revision: 1 });
    const seen: unknown[] = [];
    const { last } = w.begin(async ({ state }) => {
      await state.set('n', 5);
      void state.increment('n', 1);
      const asked = state.increment('n', 2);
      void state.increment('n', 100);
      seen.push(await asked, await state.get('n'));
      await state.set('text', 'text');
      const refused = state.increment('text');
      await refused.catch((error) => seen.push(error.code));
      await state.delete('gone');
      seen.push(await state.increment('gone', 3));
    });
    await settle(8);
    expect(seen).toEqual([8, 108, 'NOT_A_NUMBER', 3]);
    expect(last()!.changes.map(({ kind, key: of }) => [kind, of])).toEqual([
      ['set', 'n'],
      ['increment', 'n'],
      ['increment', 'n'],
      ['increment', 'n'],
      ['set', 'text'],
      ['delete', 'gone'],
      ['increment', 'gone'],
    ]);
    expect(w.run.increments).toEqual([]);
  });

  it('D7: a lock is taken and given back at once, by the step as its holder', async () => {
    const w = open();
    const { last } = w.begin(async ({ state }) => {
      await state.set('k', 1);
      const lock = await state.lock('l', { ttl: '1m' });
      await lock!.release();
    });
    await settle(5);
    expect(w.commits).toMatchObject([
      [{ kind: 'lock', key: 'stepfast:lock:l', holder: 'r/0/a/1' }],
      [{ kind: 'unlock', key: 'stepfast:lock:l', token: 7 }],
    ]);
    expect(last()!.changes).toHaveLength(1);
  });

  it('B: what is refused at the door is refused at once, and an increment is like a promise', async () => {
    const w = open();
    const seen: unknown[] = [];
    w.begin(async ({ state }) => {
      await state.increment('n', Number.NaN).catch((error) => seen.push(error.code));
      await state.increment('', 1).catch((error) => seen.push(error.code));
      const pending = state.increment('n');
      seen.push(Object.prototype.toString.call(pending));
    });
    await settle(5);
    expect(seen).toEqual(['INVALID_OPTION', 'INVALID_KEY', '[object Promise]']);
    expect(w.run.increments).toEqual([]);
  });

  it.each<[string, (state: State) => Promise<unknown>, string]>([
    ['a value that can not be kept', (state) => state.set('k', () => 1), 'NOT_SERIALIZABLE'],
    ['an empty key', (state) => state.delete(''), 'INVALID_KEY'],
    ['an increment by no number', (state) => state.increment('k', Number.NaN), 'INVALID_OPTION'],
    ['a lock without a duration', (state) => state.lock('k', {} as never), 'INVALID_DURATION'],
  ])('D8, R8: %s that nobody awaits fails the attempt, and is no unhandled rejection', async (_, use, code) => {
    const w = open();
    const { last } = w.begin(async ({ state }) => {
      void state.set('kept', 1);
      void use(state);
      await settle(2);
      return 'done';
    });
    await settle(9);
    expect(last()).toMatchObject({ outcome: { error: { code } }, changes: [] });
  });

  it('D8: one that the function has heard of is its own affair, however late it asks', async () => {
    const w = open();
    const seen: unknown[] = [];
    const { last } = w.begin(async ({ state }) => {
      void state.set('kept', 1);
      const early = state.set('', 1).catch((error) => seen.push(error.code));
      const late = state.set('', 2);
      await early;
      await settle(2);
      await late.then(undefined, (error) => seen.push(error.code));
      await Promise.allSettled([state.delete('')]).then(([each]) => seen.push(each!.status));
      await state
        .get('')
        .finally(() => seen.push('over'))
        .catch(() => undefined);
      return 'done';
    });
    await settle(9);
    expect(seen).toEqual(['INVALID_KEY', 'INVALID_KEY', 'rejected', 'over']);
    expect(last()).toMatchObject({ outcome: { value: 'done' }, changes: [{ key: 'kept' }] });
  });
});

describe('numbers that are asked for', () => {
  const change = (key: string, by = 1, more: object = {}) => ({ kind: 'increment', key, by, ...more }) as const;
  const asking = (w: ReturnType<typeof open>, name: string, of: ReturnType<typeof change>, nth = 1) => {
    const said: { value?: number; error?: unknown } = {};
    w.run.increments.push({
      ...{ ask: w.ask(name), nth, change: of },
      resolve: (value) => void (said.value = value),
      reject: (error) => void (said.error = error),
    });
    return said;
  };
  const count = async (w: ReturnType<typeof open>, draft: Draft = emptyDraft(w.h.clock.now())) => {
    const recorded: JournalEntry[] = [];
    await countUp(w.run, w.host, { record: (_, entry) => void recorded.push(entry) }, draft);
    const tell = () => {
      for (const then of draft.later) then();
    };
    return { draft, recorded, tell };
  };

  it('D8: are written with what was there, and told when they are durable', async () => {
    const w = open();
    const now = w.h.clock.now();
    w.rows.set('n', { value: 40, revision: 3, expiresAt: now + 5 });
    w.rows.set('over', { value: 40, revision: 4, expiresAt: now });
    const said = [
      asking(w, 'a', change('n', 2)),
      asking(w, 'b', change('over')),
      asking(w, 'c', change('fresh', 7, { expiresAt: 99 })),
    ];
    const { draft, recorded, tell } = await count(w);
    expect(draft.state).toEqual([
      { kind: 'set', key: 'n', value: 42, expiresAt: now + 5, ifRevision: 3 },
      { kind: 'set', key: 'over', value: 1, expiresAt: undefined, ifRevision: 0 },
      { kind: 'set', key: 'fresh', value: 7, expiresAt: 99, ifRevision: 0 },
    ]);
    expect(recorded).toMatchObject([
      { kind: 'state-incremented', at: now, id: ['a', 1], key: 'n', nth: 1, value: 42 },
      { id: ['b', 1], key: 'over', value: 1 },
      { id: ['c', 1], key: 'fresh', value: 7 },
    ]);
    expect([draft.counted?.length, w.run.increments, said]).toEqual([3, [], [{}, {}, {}]]);
    tell();
    expect(said).toEqual([{ value: 42 }, { value: 1 }, { value: 7 }]);
  });

  it('D8: of one key one at a time, and none of a key that the commit writes otherwise', async () => {
    const w = open();
    asking(w, 'a', change('n'));
    asking(w, 'a', change('n'), 2);
    asking(w, 'b', change('m'));
    const draft = emptyDraft(w.h.clock.now());
    draft.state.push({ kind: 'delete', key: 'm' });
    const { recorded } = await count(w, draft);
    expect(recorded).toMatchObject([{ key: 'n', nth: 1 }]);
    expect(w.run.increments.map(({ change: { key: of }, nth }) => [of, nth])).toEqual([
      ['n', 2],
      ['m', 1],
    ]);
    expect(draft.counted).toHaveLength(1);
  });

  it('D8: one that is recorded already is told, and not counted again', async () => {
    const w = open({ kind: 'state-incremented', id: ['a', 1], key: 'n', nth: 1, value: 41 });
    const known = asking(w, 'a', change('n'));
    const other = asking(w, 'a', change('n'), 2);
    const { draft, recorded } = await count(w);
    expect([known, other, recorded.length, draft.state.length, w.run.increments]).toEqual([
      { value: 41 },
      {},
      1,
      1,
      [],
    ]);
  });

  it('D8: what is no number is refused, and keeps no other from being counted', async () => {
    const w = open();
    w.rows.set('text', { value: 'text', revision: 1 });
    const refused = asking(w, 'a', change('text'));
    asking(w, 'b', change('n'));
    const { draft } = await count(w);
    expect(refused.error).toMatchObject({ code: 'NOT_A_NUMBER' });
    expect(String(refused.error)).toContain('"text"');
    expect([draft.state.map(({ key: of }) => of), w.run.increments]).toEqual([['n'], []]);
  });

  it('R8: those of one step, or all, are refused when nobody counts for them any more', async () => {
    const w = open();
    const [a, b] = [asking(w, 'a', change('n')), asking(w, 'b', change('n'))];
    const reasons: unknown[] = [];
    const reason = () => {
      reasons.push(new Error(`${reasons.length}`));
      return reasons.at(-1);
    };
    refuseIncrements(w.run, reason, key);
    expect([a.error, b, w.run.increments.length]).toEqual([reasons[0], {}, 1]);
    refuseIncrements(w.run, reason);
    refuseIncrements(w.run, reason);
    expect([b.error, w.run.increments, reasons.length]).toEqual([reasons[1], [], 2]);
  });
});
