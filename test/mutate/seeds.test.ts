import { expect, test } from 'vitest';
import { REGRESSIONS } from '../prove/sim/regressions.js';
import { simulate } from '../prove/sim/simulate.js';

/** A part of the simulation, seed by seed, so that each mutant is shown those that reach it. */
const SEEDS = [...Array.from({ length: 150 }, (_, index) => index + 1), ...REGRESSIONS.map(({ seed }) => seed)];

test.each(SEEDS)('seed %i', async (seed) => {
  expect((await simulate(seed)).wrongs).toEqual([]);
});
