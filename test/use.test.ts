import { describe, expect, it } from 'vitest';
import { memoryStore } from '../adapters/memory/index.js';
import { heard } from '../src/engine/heard.js';
import type { Plugin, PluginHost } from '../src/engine/plugin.js';
import { checkUse, createUse } from '../src/engine/use.js';
import { missing, missingNow } from '../src/engine/words.js';
import type { Store } from '../src/store/store.js';
import { codeOf, settle } from './hand-kit.js';

// Pins: plug-ins as an engine holds them, alone (spec section 2): who wraps whom, whose words win, what is refused; and that
// what belongs to somebody else breaks nothing (B).

const host = {} as PluginHost;

describe('a call of what belongs to somebody else', () => {
  it('B: what it throws, or rejects with later, is told once, and goes nowhere else', async () => {
    const told: unknown[] = [];
    const call = (fn: () => unknown) => heard(fn, (error) => told.push(error));
    const thrown = [new Error('at once'), new Error('later'), new Error('of another kind')];
    call(() => {
      throw thrown[0];
    });
    expect(told).toEqual([thrown[0]]);
    call(() => Promise.reject(thrown[1]));
    call(() => ({ then: (_: unknown, failed: (error: unknown) => void) => failed(thrown[2]) }));
    await settle(2);
    expect(told).toHaveLength(3);
    expect(new Set(told)).toEqual(new Set(thrown));
  });

  it('B: whatever it returns does no harm', async () => {
    const told: unknown[] = [];
    for (const value of [undefined, null, 1, 'then', { then: 1 }, {}, Promise.resolve(1)])
      heard(
        () => value,
        (error) => told.push(error),
      );
    await settle(2);
    expect(told).toEqual([]);
  });
});

describe('what is used', () => {
  it('B: is a list of plug-ins with names, whose hooks are functions; what is wrong is quoted', () => {
    const fn = () => undefined;
    const hooks = { store: fn, words: fn, registered: fn, opened: fn, closed: fn, committed: fn };
    for (const use of [[], [{ name: 'a' }], [{ name: 'a', ...hooks }, { name: 'b' }], [{ name: 'a', more: 1 }]])
      expect(() => checkUse(use)).not.toThrow();
    for (const use of [undefined, {}, 'a', [undefined], [null], ['a'], [{}], [{ name: 1 }], [{ name: '' }], [fn]])
      expect(() => checkUse(use)).toThrow(codeOf('INVALID_OPTION'));
    expect(() => checkUse({})).toThrow(/\buse\b.*a list of plug-ins/);
    expect(() => checkUse([{}])).toThrow(/An entry of use.*a plug-in, with a name/);
    for (const hook of Object.keys(hooks)) {
      expect(() => checkUse([{ name: 'a' }, { name: 'b', [hook]: 1 }])).toThrow(codeOf('INVALID_OPTION'));
      expect(() => checkUse([{ name: 'b', [hook]: 'no function' }])).toThrow(
        new RegExp(
          `${hook} of plug-in "b".*a function, or leave it out.*no function|${hook} of plug-in "b".*no function`,
        ),
      );
    }
  });

  it('wraps the store, the first one nearest to the engine; who has nothing to wrap leaves it', () => {
    const wrap = (name: string): Plugin => ({ name, store: (inner) => ({ ...inner, name: `${name}(${inner.name})` }) });
    const { around } = createUse([wrap('a'), { name: 'none' }, wrap('b')], () => undefined);
    const store: Store = { ...memoryStore(), name: 'own' };
    expect(around(store).name).toBe('a(b(own))');
    expect(createUse([], () => undefined).around(store)).toBe(store);
    const nothing = { name: 'nothing', store: () => undefined } as unknown as Plugin;
    expect(createUse([nothing], () => undefined).around(store)).toBe(store);
    const rubbish = { name: 'rubbish', store: () => ({ name: 'half' }) } as unknown as Plugin;
    const using = () => createUse([wrap('a'), rubbish], () => undefined).around(store);
    expect(using).toThrow(/What store of plug-in "rubbish" gave.*\[INVALID_OPTION\]/);
  });

  it('adds words: groups of words are merged, all else is replaced, by the one that comes later', () => {
    const hosts: unknown[] = [];
    const words = (name: string, added: object): Plugin => ({
      name,
      words(given) {
        hosts.push(given);
        return added;
      },
    });
    const runs = { get: 1, export: 2 };
    const target = { runs, schedule: 'none', empty: null, flat: 1 };
    const use = createUse(
      [
        words('a', { runs: { export: 3, import: 4 }, extra: { x: 1 }, empty: { y: 1 }, flat: { z: 1 } }),
        { name: 'none' },
        words('b', { schedule: 'some', extra: { more: 2 }, runs: { import: 5 } }),
      ],
      () => undefined,
    );
    use.words(host, target);
    expect(target).toEqual({
      ...{ runs: { get: 1, export: 3, import: 5 }, schedule: 'some', empty: { y: 1 }, flat: { z: 1 } },
      ...{ extra: { x: 1, more: 2 } },
    });
    expect(target.runs).toBe(runs); // who holds the group has the words as well
    expect(hosts).toEqual([host, host]);
    createUse([words('c', { runs: 'gone' })], () => undefined).words(host, target);
    expect(target.runs).toBe('gone');
  });

  it('B: a word that throws at creation is thrown to the caller', () => {
    const broken: Plugin = {
      name: 'broken',
      words: () => {
        throw new Error('no words');
      },
    };
    expect(() => createUse([broken], () => undefined).words(host, {})).toThrow('no words');
  });

  it('B: hears of what happens, each of it; one that throws is told of, and the others hear of it as well', async () => {
    const log: string[] = [];
    const errors: unknown[] = [];
    const hears = (name: string, fails?: boolean): Plugin => {
      const say = (word: string) => () => {
        log.push(`${name} ${word}`);
        if (fails) throw new Error(word);
      };
      const hooks = { registered: say('registered'), opened: say('opened'), closed: say('closed') };
      return { name, ...hooks, committed: ({ runId }) => say(`committed ${runId}`)() };
    };
    const use = createUse([hears('a', true), { name: 'none' }, hears('b')], (error) => errors.push(error));
    use.registered();
    use.opened();
    use.closed();
    use.committed({ runId: 'r', job: 'job', entries: [] });
    const words = ['registered', 'opened', 'closed', 'committed r'];
    expect(log).toEqual(words.flatMap((word) => [`a ${word}`, `b ${word}`]));
    expect(errors).toEqual(words.map((word) => new Error(word)));
    const late = createUse(
      [{ name: 'late', opened: (async () => Promise.reject(new Error('late'))) as never }],
      (error) => errors.push(error),
    );
    late.opened();
    await settle(2);
    expect(errors.at(-1)).toEqual(new Error('late'));
    createUse([], () => undefined).committed({ runId: 'r', job: 'job', entries: [] });
  });
});

describe('a word whose plug-in is not used', () => {
  it('B: says which one it is, where to import it from, and what to do with it', async () => {
    const said = codeOf('MISSING_PLUGIN');
    const text = /stepfast\.runs\.export.*"stepfast\/transfer".*use/;
    const later = missing('runs.export', 'stepfast/transfer');
    await expect(later()).rejects.toEqual(said);
    await expect(later()).rejects.toThrow(text);
    const now = missingNow('runs.export', 'stepfast/transfer');
    expect(now).toThrow(said);
    expect(now).toThrow(text);
  });
});
