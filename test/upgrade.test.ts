import { describe, expect, it } from 'vitest';
import { defineJob, type JobOptions, type MigratedRun, type StepfastError } from '../src/index.js';
import { digestOf } from '../src/replay/digest.js';
import { isSetAside, upgradeOf } from '../src/run/upgrade.js';
import type { JournalEntry } from '../src/store/journal.js';
import type { RunRow } from '../src/store/rows.js';
import { createCodec } from '../src/values/codec.js';

// Pins: what becomes of a run when code of a later version takes it up, alone (spec O6).

const codec = createCodec({ URL, blobs: true });
const at = 7;
type Entry = { readonly kind: JournalEntry['kind'] } & { readonly [field: string]: unknown };
const done = (name: string, value: unknown = name, occurrence = 1): Entry => ({
  ...{ kind: 'step-completed', id: [name, occurrence], attempt: 1, asked: 1, value: codec.encode(value, '') },
});
const failed: Entry = { kind: 'failed', error: { name: 'Error', message: 'm' } };
const plain = [done('a'), done('b')];

/** What this job makes of a run of version 1 with these entries. */
function upgraded(options: JobOptions<never>, entries: readonly Entry[] = plain, version = 1, startedAt?: number) {
  const started = { kind: 'started', payload: codec.encode(new Date(5), '') };
  const journal = [started, ...entries].map((entry) => ({ at: 1, ...entry })) as unknown as JournalEntry[];
  const row = { runId: 'r', job: 'job', version, startedAt } as unknown as RunRow;
  const job = defineJob('job', options as JobOptions, () => 1);
  return upgradeOf({ row, digest: digestOf(journal) }, job, codec, at);
}
const entry = { kind: 'upgraded', at, from: 1, to: 2 } as const;
const migrating = (migration: unknown, entries: readonly Entry[] = plain) =>
  upgraded({ version: 2, migrate: () => migration as never }, entries);
const refusal = (migration: unknown, entries: readonly Entry[] = plain): StepfastError => {
  try {
    migrating(migration, entries);
  } catch (error) {
    return error as StepfastError;
  }
  throw new Error('it was taken');
};

describe('the policy of a job', () => {
  it('O6: is asked only by code of a later version', () => {
    expect(upgraded({})).toBeUndefined();
    expect(upgraded({ version: 1, upgrade: 'block' })).toBeUndefined();
    expect(upgraded({ version: 2, upgrade: 'block' }, plain, 2)).toBeUndefined();
    expect(upgraded({ version: 2, upgrade: 'block' }, plain, 3)).toBeUndefined();
    expect(upgraded({ version: 2 })).toEqual({ entry, then: 'continue' });
    expect(upgraded({ version: 3 }, plain, 2)).toEqual({ entry: { ...entry, from: 2, to: 3 }, then: 'continue' });
  });

  it("O6: sets a run aside that it leaves alone, begins anew or ends, while it is nobody's", () => {
    const aside = (options: JobOptions<never>, version = 1, isOwner = false) =>
      isSetAside(
        { row: { version, startedAt: 1 }, digest: digestOf([]), isOwner } as never,
        defineJob('job', options as JobOptions, () => 1),
      );
    for (const upgrade of ['block', 'restart', 'abandon'] as const) {
      expect(aside({ version: 2, upgrade })).toBe(true);
      expect([aside({ version: 2, upgrade }, 2), aside({ version: 2, upgrade }, 3), aside({ upgrade })]).toEqual([
        ...[false, false, false],
      ]);
      expect(aside({ version: 2, upgrade }, 1, true)).toBe(false);
    }
    const going = [{ version: 2 }, { version: 2, upgrade: 'continue' }, { version: 2, migrate: () => ({}) }] as const;
    expect(going.map((options) => aside(options))).toEqual([false, false, false]);
  });

  it('O6: says whether the run goes on, begins anew, is given up, or is left alone', () => {
    for (const upgrade of ['continue', 'restart', 'abandon'] as const)
      expect(upgraded({ version: 2, upgrade })).toEqual({ entry, then: upgrade });
    const block = () => upgraded({ version: 2, upgrade: 'block' });
    expect(block).toThrow(expect.objectContaining({ code: 'UPGRADE_BLOCKED' }));
    expect(block).toThrow(/Version 1 .*version 2.*upgrade: "block"/);
  });

  it('O6: has nothing to say of a run that no code has begun, but for its payload', () => {
    for (const upgrade of ['continue', 'restart', 'abandon', 'block'] as const)
      expect(upgraded({ version: 2, upgrade }, [])).toEqual({ entry, then: 'continue' });
    const { entry: asked } = upgraded({ version: 2, migrate: () => ({ payload: 'new' }) }, [])!;
    expect(asked).toMatchObject({ payload: 'new' });
    expect(upgraded({ version: 2, upgrade: 'abandon' }, [], 1, 5)?.then, 'begun, with nothing recorded').toBe(
      'abandon',
    );
  });

  it('O6: has nothing to say of a run that has ended, but for the names that its steps have by now', () => {
    for (const upgrade of ['continue', 'restart', 'abandon', 'block'] as const)
      expect(upgraded({ version: 2, upgrade }, [...plain, failed])).toBeUndefined();
    expect(migrating({ rename: { a: 'x' } }, [...plain, failed])).toMatchObject({ entry: { renames: [['a', 'x']] } });
  });

  it('O6: another policy than migrate does not ask migrate', () => {
    const migrate = () => {
      throw new Error('asked');
    };
    expect(upgraded({ version: 2, upgrade: 'continue', migrate })).toEqual({ entry, then: 'continue' });
    expect(() => upgraded({ version: 2, upgrade: 'migrate', migrate })).toThrow(
      expect.objectContaining({ cause: new Error('asked') }),
    );
    expect(() => upgraded({ version: 2, migrate })).toThrow(expect.objectContaining({ cause: new Error('asked') }));
  });
});

describe('migrate', () => {
  it('O6: is told what the run has recorded, as it was given', () => {
    let told: MigratedRun | undefined;
    const waits: Entry = { kind: 'wait-set', id: ['w', 1], events: ['e'], onTimeout: 'fail' };
    const taken: Entry = {
      kind: 'event-taken',
      id: ['w', 1],
      asked: 1,
      seq: 1,
      eventId: 'e1',
      event: 'e',
      payload: codec.encode(new Date(6), ''),
      acceptedAt: 1,
    };
    const child: Entry = {
      kind: 'child-completed',
      id: ['c', 1],
      asked: 1,
      runId: 'x',
      value: codec.encode('end', ''),
    };
    const undone: Entry = {
      kind: 'step-failed',
      id: ['f', 1],
      attempt: 1,
      asked: 1,
      error: { name: 'Error', message: 'm' },
    };
    const migrate = (run: MigratedRun) => {
      told = run;
      return {};
    };
    upgraded({ version: 2, migrate }, [
      done('a', new Date(7)),
      done('a', null, 2),
      waits,
      taken,
      child,
      undone,
      { kind: 'sleep-set', id: ['s', 1], dueAt: 5 },
    ]);
    expect(told).toMatchObject({ id: 'r', version: 1, payload: new Date(5) });
    expect(told!.steps.filter(({ name }) => name !== 's' && name !== 'f')).toStrictEqual([
      { name: 'a', occurrence: 1, value: new Date(7) },
      { name: 'a', occurrence: 2, value: null },
      { name: 'w', occurrence: 1, value: new Date(6) },
      { name: 'c', occurrence: 1, value: 'end' },
    ]);
    expect(told!.steps.filter(({ name }) => name === 's' || name === 'f').every((step) => !('value' in step))).toBe(
      true,
    );
  });

  it('O6: gives a payload, new names, and names that no longer count, each or none of them', () => {
    expect(migrating({})).toStrictEqual({ entry: { ...entry, renames: [], forgets: [] }, then: 'continue' });
    expect(migrating({ payload: new Date(9) })!.entry).toStrictEqual({
      ...{ ...entry, renames: [], forgets: [], payload: codec.encode(new Date(9), '') },
    });
    expect(migrating({ payload: null })!.entry.payload).toBeNull();
    const bare = Object.assign(Object.create(null), { forget: ['b'], rename: Object.create(null) });
    expect(migrating(bare)!.entry).toMatchObject({ renames: [], forgets: ['b'] });
    expect(migrating({ rename: { a: 'x' }, forget: ['b', 'never'] })!.entry).toMatchObject({
      ...{ renames: [['a', 'x']], forgets: ['b'] },
    });
  });

  it('O6: the same renames fit every run: one that has not come to the step keeps them, one that knows the new name passes', () => {
    expect(migrating({ rename: { z: 'y' } })!.entry.renames).toEqual([['z', 'y']]);
    expect(migrating({ rename: { z: 'a' } })!.entry.renames).toEqual([]);
    const renamed: Entry = { kind: 'upgraded', from: 0, to: 1, renames: [['old', 'x']] };
    expect(migrating({ rename: { old: 'x' } }, [done('b'), renamed])!.entry.renames).toEqual([]);
    expect(migrating({ rename: { a: 'b', b: 'a' } })!.entry.renames).toEqual([
      ['a', 'b'],
      ['b', 'a'],
    ]);
  });

  it('O6: what it says is checked; where it is wrong, nothing is changed, and the reason is told', () => {
    const wrong: readonly (readonly [unknown, RegExp])[] = [
      [undefined, /What it gave.*a plain object, at once/],
      [null, /What it gave.*a plain object/],
      ['text', /What it gave.*a plain object/],
      [Promise.resolve({}), /What it gave.*a plain object, at once/],
      [Promise.reject(new Error('late')), /What it gave.*a plain object, at once/], // and heard, or the process would end
      [[], /What it gave.*a plain object/],
      [new Map(), /What it gave.*a plain object/],
      [{ renames: {} }, /what it gave.*renames/],
      [{ rename: [] }, /rename .*a plain object/],
      [{ rename: new Map() }, /rename .*a plain object/],
      [{ forget: 'a' }, /forget .*an array of names/],
      [{ forget: { a: 1 } }, /forget .*an array of names/],
      [{ rename: { a: '' } }, /"a" in rename/],
      [{ rename: { a: 1 } }, /"a" in rename/],
      [{ rename: { a: 'b' } }, /rename of "a" .*"b".*a new name that nothing is recorded under/],
      [{ rename: { y: 'x', z: 'x' } }, /rename of "y" .*"x".*two can not become one/],
      [{ rename: { a: 'z', z: 'y' } }, /rename of "a" .*"z".*run\.version/],
      [{ payload: () => 1 }, /the payload that migrate of job "job" gave/],
    ];
    for (const [migration, said] of wrong) {
      const error = refusal(migration);
      expect(error).toMatchObject({ code: 'MIGRATION_FAILED' });
      expect(error.message).toMatch(said);
      expect(error.message).toMatch(/migrate could not fit it to version 2: .*Nothing was changed/s);
      expect(error.cause).toBeInstanceOf(Error);
    }
  });

  it('O6: a chain of names is clear where the run has recorded both', () => {
    expect(migrating({ rename: { a: 'b', b: 'c' } })!.entry.renames).toEqual([
      ['a', 'b'],
      ['b', 'c'],
    ]);
    expect(migrating({ rename: { y: 'z', z: 'w' } })!.entry.renames).toEqual([
      ['y', 'z'],
      ['z', 'w'],
    ]);
  });

  it('O6: what it throws is the reason, whatever it is', () => {
    const throwing = (thrown: unknown) => () =>
      upgraded({
        version: 2,
        migrate: () => {
          throw thrown;
        },
      });
    expect(throwing(new Error('mine'))).toThrow(
      expect.objectContaining({ code: 'MIGRATION_FAILED', cause: new Error('mine') }),
    );
    expect(throwing(new Error('mine')), 'which may quote a payload').toThrow(
      /^migrate could not fit it to version 2: it has thrown, which is the `cause`/,
    );
    expect(throwing(undefined)).toThrow(expect.objectContaining({ code: 'MIGRATION_FAILED' }));
  });
});
