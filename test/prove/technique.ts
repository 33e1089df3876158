/*
 * What `npm run prove` is made of. Each technique is a folder of test/prove with an `index.ts` that exports one as
 * `technique`; it runs in a process of its own, and tells what it tried and what was broken.
 */

export interface Proving {
  /** How long to go on, in milliseconds. `undefined`: the technique's own fixed amount of work. */
  readonly budgetMs: number | undefined;
  /** The first seed that was not used before. Techniques without chance ignore it. */
  readonly firstSeed: number;
  /** Which of how many equal parts of the work this process does, from 0. */
  readonly part: { readonly index: number; readonly of: number };
  /** Progress and findings, for people: goes to standard error. */
  say(line: string): void;
}

export interface Proof {
  /** How many cases were really run. Never padded: what does not apply is not counted. */
  readonly cases: number;
  /** One line for each: what was broken, and the command that shows it again. */
  readonly violations: readonly string[];
  /** Seeds used up, from `firstSeed`, by this part and the others. 0 for techniques without chance. */
  readonly seeds: number;
  /** How often something interesting happened, of how often it could have: too seldom, and nothing was proved. */
  readonly interesting?: Readonly<Record<string, readonly [happened: number, could: number]>>;
  /** Counters worth printing: how often what is interesting happened. */
  readonly counts: Readonly<Record<string, number>>;
}

export interface Technique {
  /** As in the table: a few words. */
  readonly title: string;
  prove(options: Proving): Promise<Proof>;
}
