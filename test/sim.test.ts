import { expect, test, vi } from 'vitest';
import { isDeterministic } from './prove/sim/index.js';
import { REGRESSIONS } from './prove/sim/regressions.js';
import { simulate } from './prove/sim/simulate.js';

/*
 * A small part of `npm run prove -- sim`, and that it is worth something: it says the same each time, and notices a store
 * that is not what it promises.
 */

const SEEDS = 100;
vi.setConfig({ testTimeout: 240_000 });

const brokenBy = async (tamper: NonNullable<Parameters<typeof simulate>[1]>['tamper'] & {}): Promise<string[]> => {
  const said: string[] = [];
  for (let seed = 1; seed <= SEEDS && !said.length; seed++) said.push(...(await simulate(seed, { tamper })).wrongs);
  return said;
};

test('O1, R1, E1: whatever engines, clocks and stores suffer, nothing recorded is lost or done twice', async () => {
  for (let seed = 1; seed <= SEEDS; seed++)
    expect({ seed, wrongs: (await simulate(seed)).wrongs }).toEqual({ seed, wrongs: [] });
});

test('seeds that have found something find it no more', async () => {
  for (const { seed, found } of REGRESSIONS)
    expect({ seed, found, wrongs: (await simulate(seed)).wrongs }).toEqual({ seed, found, wrongs: [] });
});

test('a seed says the same, word for word, when it is run again', async () => {
  for (const seed of [1, 2, 3, 50, 99])
    expect({ seed, same: await isDeterministic(seed) }).toEqual({ seed, same: true });
});

test('O1: a store that lets late owners write is noticed', async () => {
  const said = await brokenBy((batch, row) => {
    const { run } = batch;
    if (!run || !row || run.fence === 'any') return batch;
    const { length: _, ...rest } = run;
    return { ...batch, run: { ...rest, fence: row.fence } };
  });
  expect(said.join('\n')).toMatch(/I-fence|R1|J4/);
});

test('Q2: a store that gives out more slots than a queue has is noticed', async () => {
  const said = await brokenBy((batch) => {
    const { concurrency: _, ...run } = batch.run ?? { runId: '', fence: 0, append: [] };
    return batch.run ? { ...batch, run } : batch;
  });
  expect(said.join('\n')).toMatch(/Q2/);
});
