import { type MemoryMedium, memoryStore } from '../../../adapters/memory/index.js';
import { StepfastError } from '../../../src/errors.js';
import type { Batch, CommitOutcome } from '../../../src/store/batch.js';
import type { Store, StoreListener } from '../../../src/store/store.js';
import type { Context } from './context.js';
import type { Mix } from './mix.js';
import type { Random } from './random.js';
import type { Scheduler } from './scheduler.js';

/*
 * The way between an engine and the medium: every call travels, is done in one piece when its turn comes, and its answer
 * travels back. On each leg it may be late, overtaken by others, or lost; the notices of other contexts likewise.
 */

export interface WireHost {
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly medium: MemoryMedium;
  /** Faults as they are now: all off once the storm is over. */
  readonly mix: () => Mix;
  readonly log: ((line: string) => void) | undefined;
  readonly count: (what: string) => void;
  /** Does a commit, and looks at what it did. */
  readonly commit: (context: Context, store: Store, batch: Batch) => Promise<CommitOutcome>;
  /** The answer to a commit has reached its engine. */
  readonly answered: (context: Context, batch: Batch, outcome: CommitOutcome, askedAt: number) => void;
}

/** A store as one context has it. `die`: the context is gone, and what it has sent may or may not arrive. */
export interface Wire {
  readonly store: Store;
  die(): void;
  /** The others stop, or start again, to take the context for alive. */
  presume(isAlive: boolean): void;
}

const failure = (what: string, how: string) => new StepfastError('STORE_UNAVAILABLE', `${what}: ${how}.`);

export function wireOf(host: WireHost, context: Context): Wire {
  const { scheduler, random, medium, mix, log, count } = host;
  const inner = memoryStore({ medium });
  /** Sent, and not arrived. */
  const underway = new Set<{ isLost: boolean }>();
  let isClosed = false;
  let whenQuiet: (() => void) | undefined;

  const delay = () => (random.chance(mix().slow) ? random.below(mix().slowMs) + 1 : 0);
  const travel = (life: Context | undefined, label: string, arrive: () => void) => {
    const ms = delay();
    if (ms) scheduler.after(life, ms, label, arrive);
    else scheduler.soon(life, label, arrive);
  };

  /** One call: there, done, and back. */
  const call = <T>(what: string, body: () => Promise<T>, heard: (answer: T) => void = () => undefined): Promise<T> => {
    if (isClosed) return Promise.reject(new StepfastError('CLOSED', 'The store is closed.'));
    const sent = { isLost: false };
    underway.add(sent);
    const failsBefore = random.chance(mix().failBefore);
    const losesAnswer = random.chance(mix().loseAnswer);
    return new Promise<T>((resolve, reject) => {
      const back = (label: string, settle: () => void) => travel(context, `${what} ${label}`, settle);
      const arrive = async () => {
        underway.delete(sent);
        if (!underway.size) whenQuiet?.();
        if (sent.isLost) return;
        if (failsBefore) {
          count('calls that failed');
          return back('failed', () => reject(failure(what, 'it failed')));
        }
        const answer = await body().then(
          (value) => ({ value }),
          (error: unknown) => ({ error }),
        );
        if ('error' in answer) return back('rejected', () => reject(answer.error));
        if (losesAnswer) {
          if (what === 'commit') count('answers lost');
          return back('answer lost', () => reject(failure(what, 'the answer was lost')));
        }
        back('answered', () => {
          heard(answer.value);
          resolve(answer.value);
        });
      };
      travel(undefined, `${context.name}: ${what} arrives`, () => void arrive());
    });
  };

  const hear = (listener: StoreListener) => (runId: string | undefined, isOwn?: boolean) => {
    if (isOwn) return listener(runId, true);
    if (random.chance(mix().dropHint)) return count('notices dropped');
    const told = () => listener(random.chance(0.1) ? undefined : runId, false);
    for (let copies = random.chance(mix().doubleHint) ? 2 : 1; copies > 0; copies--)
      if (random.chance(mix().delayHint)) scheduler.after(context, random.below(5_000), 'late notice', told);
      else scheduler.soon(context, `notice of ${runId}`, told);
  };

  const store: Store = {
    name: inner.name,
    capabilities: inner.capabilities,
    open: (options) =>
      call('open', () => {
        context.owner = options.owner;
        return inner.open(options);
      }),
    async close() {
      if (isClosed) return;
      isClosed = true;
      if (underway.size) await new Promise<void>((resolve) => (whenQuiet = resolve));
      await inner.close();
      log?.(`${context.name}: closed`);
    },
    commit(batch) {
      const given = structuredClone(batch);
      const askedAt = context.clock.now();
      return call(
        'commit',
        () => host.commit(context, inner, given),
        (outcome) => host.answered(context, given, outcome, askedAt),
      );
    },
    due: (query) =>
      call('due', async () => {
        const page = await inner.due(query);
        log?.(
          `  due for ${context.name} at ${query.now}: ${page.runs.map(({ row }) => row.runId)} next ${page.nextDueAt}`,
        );
        return page;
      }),
    load: (runId) => call('load', () => inner.load(runId)),
    list: (query) => call('list', () => inner.list(query)),
    state: (key) => call('state', () => inner.state(key)),
    watch: (listener) => inner.watch(hear(listener)),
  };

  return {
    store,
    die() {
      isClosed = true;
      for (const sent of underway) sent.isLost = random.chance(0.5);
      const leave = () => inner.abandon!();
      whenQuiet = leave;
      if (!underway.size) leave();
    },
    presume(isAlive) {
      if (context.owner === undefined) return;
      if (isAlive) medium.owners.add(context.owner);
      else medium.owners.delete(context.owner);
    },
  };
}
