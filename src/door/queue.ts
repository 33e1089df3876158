import { StepfastError } from '../errors.js';
import type { Clock } from '../platform.js';
import type { RunChange } from '../store/batch.js';
import type { Unique } from '../store/rows.js';
import type { LaneRow } from '../store/transition/state.js';
import { check, checkInteger, checkName, checkOptions, checkText } from '../values/check.js';
import { type Duration, durationMs, positiveMs } from '../values/duration.js';
import { isObject } from '../values/kinds.js';
import { sameJson } from '../values/same.js';
import type { AnyJob } from './job.js';

/*
 * Queues are lanes of a store, shared by all its contexts (spec Q2). The store decides who gets a slot; what is known
 * here only saves questions.
 */

/** The lane that runs of a job wait in, and how they start. */
export interface QueueOptions<Payload = unknown> {
  /** 1 to 256 characters. Jobs that name the same queue share it. */
  readonly name: string;
  /** So many of its runs have a function in flight at once, in all contexts together. Default 8. */
  readonly concurrency?: number;
  /** No more than `limit` (1 to 1,000) times within `per` a run of the queue begins, or goes on after a pause. */
  readonly rateLimit?: { readonly limit: number; readonly per: Duration };
  /** Of runs of this job; those with a greater one go first. An integer. Default 0. */
  readonly priority?: number;
  /**
   * A run starts `delay` after the last start with the same key, with the payload of that one: every start before it
   * gives the handle of the same run. `key` must be pure. Default: one key for all.
   */
  readonly debounce?: { readonly delay: Duration; key?(payload: Payload): string };
  /** While a run (with the same key) is active, a start gives that run, whatever the payload. `key` must be pure. */
  readonly singleton?: true | { key(payload: Payload): string };
}

/** Runs that one queue drives at once, unless it says otherwise. */
const DEFAULT_CONCURRENCY = 8;
/** The store keeps an instant for each. */
const MAX_RATE = 1_000;

/** The queue of a job, `default` where it names none. */
export const queueOf = (job: AnyJob | undefined): QueueOptions => {
  const queue = job?.options.queue;
  return typeof queue === 'object' ? queue : { name: queue ?? 'default' };
};

const OPTIONS = ['name', 'concurrency', 'rateLimit', 'priority', 'debounce', 'singleton'];

/** Refuses a queue that can not work; `of` names its options in the refusal. */
export function checkQueue(given: unknown, of: (option: string) => string): void {
  const queue = (typeof given === 'string' ? { name: given } : given) as QueueOptions;
  check(isObject(queue), of('queue'), queue, 'a name or an object of queue options');
  checkOptions(queue, OPTIONS, of('queue'));
  const { concurrency = 1, rateLimit, priority = 0, debounce, singleton } = queue;
  checkName(queue.name, of('the queue'));
  checkInteger(concurrency, of('queue.concurrency'), 1);
  checkPriority(priority, of('queue.priority'));
  const object = (option: string, value: unknown, ...known: string[]) => checkOptions(value, known, of(option));
  const aFunction = (option: string, value: unknown) =>
    check(typeof value === 'function', of(option), value, 'a function of the payload');
  if (rateLimit !== undefined) {
    object('queue.rateLimit', rateLimit, 'limit', 'per');
    checkInteger(rateLimit.limit, of('queue.rateLimit.limit'), 1);
    check(rateLimit.limit <= MAX_RATE, of('queue.rateLimit.limit'), rateLimit.limit, `at most ${MAX_RATE}`);
    positiveMs(rateLimit.per, of('queue.rateLimit.per'));
  }
  if (debounce !== undefined) {
    object('queue.debounce', debounce, 'delay', 'key');
    positiveMs(debounce.delay, of('queue.debounce.delay'));
    check(!singleton, of('queue.debounce'), debounce, 'debounce or singleton, not both');
  }
  if (debounce?.key !== undefined) aFunction('queue.debounce.key', debounce.key);
  if (singleton === undefined || singleton === true) return;
  object('queue.singleton', singleton, 'key');
  aFunction('queue.singleton.key', singleton.key);
}

export const checkPriority = (value: unknown, option: string): void =>
  check(Number.isSafeInteger(value), option, value, 'an integer');

/** Two jobs may share a queue, but must agree on what it is. */
export function checkShared(job: AnyJob, others: Iterable<AnyJob>): void {
  const mine = queueOf(job);
  for (const other of others) {
    const theirs = queueOf(other);
    if (other.name === job.name || theirs.name !== mine.name) continue;
    for (const option of ['concurrency', 'rateLimit'] as const) {
      const [a, b] = [mine, theirs].map((queue) => queue[option] && sayOf(queue[option]));
      if (a === undefined || b === undefined || a === b) continue;
      throw new StepfastError(
        'INVALID_OPTION',
        `queue.${option} of job "${job.name}" is ${a}, and ${b} in job "${other.name}". Give queue "${mine.name}" one ${option}.`,
        { job: job.name },
      );
    }
  }
}

const rateOf = ({ limit, per }: NonNullable<QueueOptions['rateLimit']>): NonNullable<RunChange['rate']> => ({
  limit,
  perMs: durationMs(per, 'rateLimit.per'),
});

const sayOf = (option: NonNullable<QueueOptions['concurrency' | 'rateLimit']>): string =>
  typeof option === 'number' ? String(option) : `${option.limit} in ${durationMs(option.per, 'per')} ms`;

/** How long a start is put off, and what keeps other starts out. */
export function placeOf(
  job: AnyJob | undefined,
  payload: () => unknown,
): { readonly delayMs: number; readonly unique?: Unique } {
  const { debounce, singleton } = queueOf(job);
  const keyOf = (kind: string, key: ((payload: unknown) => string) | undefined) => {
    const what = `The ${kind} key of job "${job?.name}"`;
    let found: unknown;
    try {
      found = key?.(payload());
    } catch (cause) {
      const said = `${what} could not be made: its function has thrown, which is its \`cause\`. Nothing was written.`;
      throw new StepfastError('INVALID_KEY', said, {}, { cause });
    }
    if (key) checkText(found, what, 'INVALID_KEY');
    return `${kind}:${found ?? ''}`;
  };
  if (debounce)
    return {
      delayMs: durationMs(debounce.delay, 'queue.debounce.delay'),
      unique: { key: keyOf('debounce', debounce.key), until: 'start' },
    };
  if (!singleton) return { delayMs: 0 };
  const key = singleton === true ? undefined : singleton.key;
  return { delayMs: 0, unique: { key: keyOf('singleton', key), until: 'end' } };
}

/**
 * So often a queue that counts as full is tried because others have committed something. Where what they commit is that they have
 * found it full as well, they would call each other for as long as it is.
 */
const MAX_REFUSALS = 8;

export type Lanes = ReturnType<typeof createLanes>;

/** What an engine knows of the queues: what its jobs say of them, and which are full for a while. */
export function createLanes(jobs: ReadonlyMap<string, AnyJob>, clock: Clock) {
  const full = new Map<
    string,
    { readonly until: number; readonly since: number; readonly isRate: boolean; readonly refusals: number }
  >();
  /** Queues of which one slot may be free again. */
  const stirred = new Set<string>();
  const clear = (queue: string) => {
    full.delete(queue);
    stirred.delete(queue);
  };
  const find = <K extends 'concurrency' | 'rateLimit'>(queue: string, option: K): QueueOptions[K] => {
    for (const job of jobs.values()) {
      const own = queueOf(job);
      if (own.name === queue && own[option]) return own[option];
    }
    return undefined;
  };
  return {
    concurrency: (queue: string) => find(queue, 'concurrency') ?? DEFAULT_CONCURRENCY,
    /** What a claim is to keep to. */
    limits(queue: string): Pick<RunChange, 'concurrency' | 'rate' | 'defaultConcurrency'> {
      const concurrency = find(queue, 'concurrency');
      const found = find(queue, 'rateLimit');
      const known = { concurrency, rate: found && rateOf(found) };
      const isAll = concurrency && found;
      return (isAll ? known : Object.assign(known, { defaultConcurrency: DEFAULT_CONCURRENCY })) as RunChange;
    },
    /** What is to be known of the jobs here elsewhere, with what was `said` of others. `undefined`: nothing new. */
    told(said: readonly LaneRow[] | undefined): readonly LaneRow[] | undefined {
      const own = [...jobs.values()].flatMap((job): LaneRow[] => {
        const { name: queue, concurrency, rateLimit } = queueOf(job);
        const rate = rateLimit && { rate: rateOf(rateLimit) };
        return concurrency || rate ? [{ job: job.name, queue, ...(concurrency && { concurrency }), ...rate }] : [];
      });
      const all = [...(said ?? []).filter(({ job }) => !jobs.has(job)), ...own].sort((a, b) =>
        a.job < b.job ? -1 : 1,
      );
      return sameJson(all as never, said as never) ? undefined : all;
    },
    /** Until then the queue counts as full: others hold its slots, or its rate is used up. `since`: when that was asked. */
    fill(queue: string, until: number, isRate: boolean, since: number) {
      full.set(queue, { until, since, isRate, refusals: (full.get(queue)?.refusals ?? 0) + 1 });
      stirred.delete(queue);
    },
    /** A slot of ours is free, or one was given to us: what was thought of others is over. True: something was. */
    freed(queue: string) {
      const isThought = full.get(queue)?.isRate === false;
      if (isThought) clear(queue);
      return isThought;
    },
    /** Other contexts have committed something, perhaps the end of what held a slot: one run at a time finds out. */
    stir() {
      for (const [queue, { isRate, refusals }] of full) if (!isRate && refusals <= MAX_REFUSALS) stirred.add(queue);
    },
    stirred,
    /** Queues that count as full, and until when. Not by a clock that has been set back since (spec Q4). */
    full(): ReadonlyMap<string, number> {
      const now = clock.now();
      for (const [queue, { until, since }] of full) if (until <= now || since > now) clear(queue);
      return new Map([...full].map(([queue, { until }]) => [queue, until]));
    },
  };
}
