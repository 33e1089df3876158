import type { Mix } from './mix.js';
import type { Simulated } from './simulate.js';

/*
 * A simulator that is too tame proves nothing: of the seeds in which something interesting could happen, it has to happen
 * in one of twenty at least (scripts/prove.mjs).
 */

interface Interesting {
  readonly what: string;
  readonly could: (mix: Mix, counts: Simulated['counts']) => boolean;
}

const always = () => true;
const aimed = (_: Mix, counts: Simulated['counts']) => counts.has('dispatches about a deadline');
const lively = ({ kill, freeze, close }: Mix) => kill + freeze + close > 0;

/** Counters of the simulation that have to move. */
export const INTERESTING: readonly Interesting[] = [
  { what: 'takeovers', could: ({ kill, freeze, close }) => kill + close + freeze > 0 },
  { what: 'interruptions', could: ({ kill }) => kill > 0 },
  { what: 'functions entered again', could: ({ kill }) => kill > 0 },
  { what: 'late owners refused', could: ({ owners, isCalm }) => owners > 1 && !isCalm },
  { what: 'zombies refused', could: ({ freeze, presumeDead }) => freeze > 0 && presumeDead > 0.3 },
  { what: 'answers lost', could: ({ loseAnswer }) => loseAnswer > 0.02 },
  { what: 'calls that failed', could: ({ failBefore }) => failBefore > 0.02 },
  { what: 'notices dropped', could: ({ dropHint, owners }) => dropHint > 0 && owners > 1 },
  { what: 'clocks set', could: ({ jump }) => jump > 0 },
  { what: 'requests repeated', could: lively },
  { what: 'duplicates recognised', could: always },
  { what: 'starts recognised', could: always },
  { what: 'events before their wait', could: always },
  { what: 'commits overtaken by an event', could: aimed },
  { what: 'timeouts', could: always },
  { what: 'timeouts that beat an event', could: aimed },
  { what: 'attempts that failed', could: always },
  { what: 'handlers that threw', could: always },
  { what: 'restarts', could: always },
  { what: 'steps undone', could: always },
  { what: 'children that ended', could: always },
  { what: 'children cancelled', could: (_, counts) => counts.has('children started') && counts.has('runs cancelled') },
  { what: 'runs cancelled', could: always },
  { what: 'retries from outside', could: always },
  { what: 'upgrades', could: ({ old }) => old > 0 },
  { what: 'upgrades: restart', could: ({ old, upgrade }) => old > 0 && upgrade === 'restart' },
  { what: 'upgrades: abandon', could: ({ old, upgrade }) => old > 0 && upgrade === 'abandon' },
  { what: 'names changed', could: ({ old, upgrade }) => old > 0 && upgrade === 'migrate' },
  { what: 'upgrades: migrate', could: ({ old, upgrade }) => old > 0 && upgrade === 'migrate' },
  { what: 'runs kept waiting by a rate', could: ({ rate }) => rate !== undefined },
  { what: 'forks', could: ({ forks }) => forks === true },
  { what: 'starts merged', could: ({ unique }) => unique !== undefined },
  {
    what: 'children that were there',
    could: ({ unique }, counts) => unique !== undefined && counts.has('children started'),
  },
  { what: 'runs put off', could: ({ unique }) => typeof unique === 'object' },
  { what: 'runs given up', could: ({ kill, maxInterruptions }) => kill > 0 && maxInterruptions < 4 },
  { what: 'runs out of time', could: ({ timeoutMs }) => timeoutMs > 0 },
  { what: 'jobs told of a failure', could: ({ tells }) => tells },
  { what: 'events from before the run', could: always },
  { what: 'events for one run', could: always },
  { what: 'runs refused a slot', could: ({ concurrency, owners }) => concurrency < 3 && owners > 1 },
];

/** Sums up seeds: in how many each counter moved, and could have. */
export function createTally() {
  const sums = new Map<string, [happened: number, could: number]>(INTERESTING.map(({ what }) => [what, [0, 0]]));
  let seeds = 0;
  let choices = 0;
  let commits = 0;
  return {
    take({ mix, counts, ...simulated }: Simulated) {
      seeds++;
      choices += simulated.choices;
      commits += simulated.commits;
      for (const { what, could } of INTERESTING) {
        if (!could(mix, counts)) continue;
        const sum = sums.get(what)!;
        sum[1]++;
        if (counts.has(what)) sum[0]++;
      }
    },
    counts: (): Record<string, number> => ({ seeds, choices, commits }),
    interesting: () => Object.fromEntries(sums),
    seeds: () => seeds,
  };
}
