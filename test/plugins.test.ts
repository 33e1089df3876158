import { expect, it } from 'vitest';
import { memoryStore } from '../adapters/memory/index.js';
import { createStepfast, type JournalEntry, type Plugin, type Stepfast, type Store } from '../src/index.js';
import { onEveryStore, world } from './harness.js';

// Pins: spec section 2 (`use`) and B: plug-ins wrap the store, add words, hear of what is durable, and break nothing.

const quick = (stepfast: Stepfast) =>
  stepfast.job('quick', async ({ step }) => {
    await step.run('first', () => 1);
    return 2;
  });

onEveryStore('plug-ins', (medium) => {
  it('hear of every entry that driving a run has made durable, in order and once', async () => {
    const w = world(medium);
    const heard: (readonly [string, string, JournalEntry['kind']])[] = [];
    const listens: Plugin = {
      name: 'listens',
      committed: ({ runId, job, entries }) => {
        for (const { kind } of entries) heard.push([runId, job, kind]);
      },
    };
    const engine = w.engine(quick, { use: [listens] });
    await engine.start('quick', undefined, { id: 'r' });
    await w.clock.idle();
    const kinds = (await engine.runs.timeline('r')).map(({ kind }) => kind);
    expect(kinds).toContain('step-completed');
    expect(['started', ...heard.map(([, , kind]) => kind)]).toEqual(kinds);
    expect(heard.every(([runId, job]) => runId === 'r' && job === 'quick')).toBe(true);
  });

  it('stand between engine and store: the first is nearest to the engine', async () => {
    const w = world(medium);
    const seen: string[] = [];
    const wraps = (name: string): Plugin => ({
      name,
      store: (inner) => ({
        ...inner,
        commit: (batch) => {
          seen.push(name);
          return inner.commit(batch);
        },
      }),
    });
    const engine = w.engine(quick, { use: [wraps('outer'), { name: 'idle' }, wraps('inner')] });
    await engine.start('quick');
    expect(seen.slice(0, 2)).toEqual(['outer', 'inner']);
    await w.clock.idle();
    expect(seen).toHaveLength(2 * w.commits());
  });

  it('are told when the engine opens and when it closes, once each', async () => {
    const w = world(medium);
    const told: string[] = [];
    const tells: Plugin = {
      name: 'tells',
      words: () => {
        told.push('words');
        return {};
      },
      opened: () => void told.push('opened'),
      closed: () => void told.push('closed'),
    };
    const engine = w.engine(quick, { use: [tells] });
    expect(told).toEqual(['words']);
    await engine.ready();
    await engine.start('quick');
    await w.clock.idle();
    expect(told).toEqual(['words', 'opened']);
    await engine.close();
    await engine.close();
    expect(told).toEqual(['words', 'opened', 'closed']);
  });

  it('B: what a plug-in throws is reported, and neither run nor other plug-ins hear of it', async () => {
    const w = world(medium);
    const heard: string[] = [];
    const throws: Plugin = {
      name: 'throws',
      opened: () => {
        throw new Error('opened');
      },
      closed: () => {
        throw new Error('closed');
      },
      committed: () => {
        throw new Error('committed');
      },
    };
    const listens: Plugin = { name: 'listens', committed: ({ runId }) => void heard.push(runId) };
    const engine = w.engine(quick, { use: [throws, listens] });
    const run = await engine.start('quick');
    expect(await run.result()).toBe(2);
    await engine.close();
    expect(heard.length).toBeGreaterThan(0);
    const messages = new Set(w.errors.map((error) => (error as Error).message));
    expect(messages).toEqual(new Set(['opened', 'committed', 'closed']));
  });

  it('add words, which can start runs, commit and look', async () => {
    const w = world(medium);
    const greets: Plugin<{ greet(): Promise<string> }> = {
      name: 'greets',
      words: (host) => ({
        async greet() {
          const { runId } = await host.start('quick', undefined, {}, { key: 'stepfast:greet' });
          return runId;
        },
      }),
    };
    const engine = w.engine(quick, { use: [greets] }) as Stepfast & { greet(): Promise<string> };
    const runId = await engine.greet();
    expect(await engine.greet()).toBe(runId);
    await w.clock.idle();
    expect(await engine.runs.get(runId)).toMatchObject({ job: 'quick', status: 'completed' });
  });

  it('a word of a plug-in takes the place of the one that asks for it; groups of words are merged', async () => {
    const said: unknown[] = [];
    const schedules: Plugin = {
      name: 'schedules',
      words: () => ({ schedule: (name: string) => said.push(name) }),
    };
    const exports: Plugin = { name: 'exports', words: () => ({ runs: { export: async () => 'exported' } }) };
    const engine = world(medium).engine(quick, { use: [schedules, exports] });
    engine.schedule('nightly', { every: '1d' }, 'quick');
    expect(said).toEqual(['nightly']);
    expect(await engine.runs.export('r')).toBe('exported');
    await expect(engine.runs.import({} as never)).rejects.toMatchObject({ code: 'MISSING_PLUGIN' });
    expect((await engine.runs.list()).runs).toEqual([]);
  });
});

it('B: what is no plug-in is refused, with the hook that is none', () => {
  const made = (plugin: unknown) => () => createStepfast({ store: memoryStore(), use: [plugin as Plugin] });
  const refusal = (said: RegExp) =>
    expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringMatching(said) });
  for (const plugin of [null, 'x', {}, { name: '' }, { name: 5 }])
    expect(made(plugin)).toThrow(refusal(/entry of use.*Give a plug-in, with a name/));
  for (const hook of ['store', 'words', 'registered', 'opened', 'closed', 'committed'])
    expect(made({ name: 'x', [hook]: 5 })).toThrow(
      refusal(new RegExp(`^${hook} of plug-in "x" is 5. Give a function`)),
    );
});

it('a word whose plug-in is not used says what to import, and opens nothing', async () => {
  const store: Store = memoryStore();
  store.open = () => Promise.reject(new Error('opened'));
  const engine = createStepfast({ store });
  const asks = (entry: string) =>
    expect.objectContaining({
      code: 'MISSING_PLUGIN',
      message: expect.stringContaining(`Import it from "${entry}"`),
    });
  expect(() => engine.schedule('nightly', { cron: '0 3 * * *' }, 'quick')).toThrow(asks('stepfast/schedules'));
  await expect(engine.runs.export('r')).rejects.toEqual(asks('stepfast/transfer'));
  await expect(engine.runs.import({} as never)).rejects.toEqual(asks('stepfast/transfer'));
});

it.each([[5], [{}], [[{}]], [[null]]])('B: %j is no list of plug-ins', (use) => {
  const create = () => createStepfast({ store: memoryStore(), use: use as never });
  expect(create).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }));
});
