import type { Technique } from '../technique.js';
import { REGRESSIONS } from './regressions.js';
import { simulate } from './simulate.js';
import { createTally } from './tally.js';

/** Seeds from 1 on until this is over: on a slower machine fewer, but never others. */
const BUDGET_MS = 120_000;
/** All of them are known to be clean: what comes after is for `--minutes`. */
const FIXED_SEEDS = 20_000;
/** Each so many seeds one is run twice: everything that happens must happen again. */
const TWICE = 100;

const logOf = async (seed: number): Promise<string> => {
  const lines: string[] = [];
  await simulate(seed, { log: (line) => lines.push(line) });
  return lines.join('\n');
};

/** Whether a seed says the same, word for word, when it is run again. */
export async function isDeterministic(seed: number): Promise<boolean> {
  const first = await logOf(seed);
  return first === (await logOf(seed));
}

export const technique: Technique = {
  title: 'simulation',
  async prove({ budgetMs, firstSeed, part, say }) {
    const until = performance.now() + (budgetMs ?? BUDGET_MS);
    const last = budgetMs === undefined ? firstSeed + FIXED_SEEDS : Infinity;
    const tally = createTally();
    const violations: string[] = [];
    const run = async (seed: number) => {
      const simulated = await simulate(seed);
      const [wrong] = simulated.wrongs;
      if (wrong !== undefined) {
        say(`seed ${seed}: ${wrong}`);
        violations.push(`${wrong.split('\n')[0]} (npm run sim -- --seed ${seed} --trace)`);
      }
      return simulated;
    };
    const regressions = REGRESSIONS.filter((_, index) => index % part.of === part.index);
    for (const { seed } of regressions) await run(seed);
    let seed = firstSeed + part.index;
    for (; seed < last && performance.now() < until && violations.length < 20; seed += part.of) {
      tally.take(await run(seed));
      if (seed % TWICE === 0 && !(await isDeterministic(seed)))
        violations.push(`seed ${seed} does not say the same when it is run again`);
      if (tally.seeds() % 500 === 0) {
        say(`simulation: ${tally.seeds()} seeds`);
        await new Promise<void>((resolve) => setImmediate(resolve)); // the runner may want to stop this process
      }
    }
    return {
      cases: tally.seeds() + regressions.length,
      seeds: seed - part.index - firstSeed,
      violations,
      counts: tally.counts(),
      interesting: tally.interesting(),
    };
  },
};
