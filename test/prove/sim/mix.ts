import type { Random } from './random.js';

/*
 * What a seed has in store: how many contexts, which faults, how often. The seed draws this too, so that some are calm,
 * some suffer from one thing alone, and some from everything at once.
 */

export interface Mix {
  /** No fault of any kind: what is done is done once. */
  readonly isCalm: boolean;
  readonly owners: number;
  /** Acts of the world while faults are on. */
  readonly acts: number;
  /** Share of choices that are acts. */
  readonly actShare: number;
  /** Share of choices that let time pass although something is ready. */
  readonly hurry: number;
  /** Of a call of the store: it fails, and nothing happened; it happened, and the answer is lost. */
  readonly failBefore: number;
  readonly loseAnswer: number;
  /** Of calls and of answers: they take a while, of up to so many milliseconds. */
  readonly slow: number;
  readonly slowMs: number;
  /** Of notices between contexts. */
  readonly dropHint: number;
  readonly doubleHint: number;
  readonly delayHint: number;
  /** Weights of acts, 0: never. */
  readonly freeze: number;
  readonly kill: number;
  readonly close: number;
  readonly jump: number;
  readonly offline: number;
  /** Of freezes: the others take the frozen one for dead. */
  readonly presumeDead: number;
  /** Clocks run at different rates, and apart from the beginning. */
  readonly skew: number;
  readonly leaseMs: number;
  readonly replay: 'resume' | 'always';
  readonly concurrency: number;
  /** Contexts that lack one of the jobs. */
  readonly partial: number;
  /** Contexts with the release before: version 1 of the job, where the others have version 2. */
  readonly old: number;
  /** A run that was interrupted so often in a row is given up. */
  readonly maxInterruptions: number;
  /** Of the job: its runs fail when they take longer. 0: they may take for ever. */
  readonly timeoutMs: number;
  /** The job is told of runs that failed. */
  readonly tells: boolean;
  /** Of the queue: so many runs take a slot in so many milliseconds. */
  readonly rate?: { readonly limit: number; readonly per: number };
  /** Runs with one program have one key: while one is active a start gives it, or puts it off by so many milliseconds. */
  readonly unique?: 'singleton' | { readonly debounceMs: number };
  /** Users fork runs. */
  readonly forks?: boolean;
  /** What version 2 of the job makes of runs of version 1. */
  readonly upgrade: 'continue' | 'restart' | 'abandon' | 'block' | 'migrate';
}

/** Drawn apart from the rest, and mostly off: a seed without them is what it was before there were any. */
export function extrasOf(random: Random): Pick<Mix, 'rate' | 'upgrade'> {
  const rate = random.chance(0.12) && { limit: random.between(1, 3), per: random.pick([300, 5_000, 60_000]) };
  const upgrade = random.pick(['continue', 'continue', 'restart', 'abandon', 'block', 'migrate'] as const);
  return { ...(rate && { rate }), upgrade };
}

/** Drawn apart once more, for the same reason. */
export function moreOf(random: Random): Pick<Mix, 'unique' | 'forks'> {
  const unique =
    random.chance(0.15) && (random.chance(0.6) ? 'singleton' : { debounceMs: random.pick([10, 1_000, 20_000]) });
  return { ...(unique && { unique }), forks: random.chance(0.2) };
}

export function mixOf(random: Random): Mix {
  const isCalm = random.chance(0.12);
  const mayKill = random.chance(0.6);
  /** Half of the faults are off in a seed; the others come between rarely and often. */
  const share = (least: number, most: number) =>
    !isCalm && random.chance(0.5) ? least * (most / least) ** random.next() : 0;
  return {
    isCalm,
    owners: random.between(1, 4),
    acts: random.between(10, 40),
    actShare: 0.01 * 30 ** random.next(),
    hurry: random.chance(0.5) ? 0.1 * random.next() : 0,
    failBefore: share(0.005, 0.15),
    loseAnswer: share(0.005, 0.15),
    slow: share(0.05, 0.6),
    slowMs: random.pick([20, 500, 20_000]),
    dropHint: share(0.1, 1),
    doubleHint: share(0.1, 0.5),
    delayHint: share(0.1, 0.9),
    freeze: share(0.5, 3),
    kill: mayKill ? share(0.5, 3) : 0,
    close: share(0.3, 1.5),
    jump: share(0.5, 2),
    offline: share(0.5, 2),
    presumeDead: random.chance(0.7) ? random.next() : 0,
    skew: share(0.2, 1),
    leaseMs: random.pick([500, 5_000, 15_000]),
    replay: random.chance(0.2) ? 'always' : 'resume',
    concurrency: random.pick([1, 1, 2, 3, 8]),
    partial: share(0.1, 0.6),
    old: random.chance(0.5) ? share(0.2, 0.8) : 0,
    maxInterruptions: random.chance(0.3) ? random.between(1, 3) : 1_000,
    timeoutMs: random.chance(0.08) ? random.pick([20_000, 120_000, 3_600_000]) : 0,
    tells: random.chance(0.4),
    upgrade: 'continue',
  };
}
