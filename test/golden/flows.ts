import { defineJob, FatalError, type StandardSchema, type Stepfast } from '../../src/index.js';

/*
 * The jobs of the golden stores, and what must become of their runs. Flows may be added, with a new version; those of a
 * released version never change: stores of its format hold runs of them.
 *
 * `isMaking`: the store is being made. What hangs or fails then is what leaves a run half way; later it works.
 */

export interface Hooks {
  readonly isMaking: boolean;
  /** Hears of every function that is entered, as `run/step`. */
  entered(what: string): void;
  /** The code before a change: it is what the first engine of the making has. */
  readonly isOld?: boolean;
}

export const DAY = 86_400_000;
const never = new Promise<never>(() => undefined);
const QUEUE = { name: 'narrow', concurrency: 1 };

/** Values of all kinds that stores keep (spec D7). */
export const everything = () => {
  const cycle: { self?: unknown; readonly n: number } = { n: 1 };
  cycle.self = cycle;
  return {
    undefined: undefined,
    numbers: [Number.NaN, Number.POSITIVE_INFINITY, -0, 0.1],
    big: 12_345_678_901_234_567_890n,
    date: new Date(Date.UTC(2026, 0, 2)),
    pattern: /a+b/gi,
    url: new URL('https://example.com/a?b=c'),
    map: new Map<unknown, unknown>([['k', new Set([1, 'two'])]]),
    bytes: new Uint8Array([0, 1, 254, 255]),
    cycle,
    text: 'line\nbreak, "quotes", \u2028, \ud83d\ude00, NUL \u0000',
    keys: JSON.parse('{"__proto__":1,"constructor":2}') as unknown,
  };
};

const wholeNumber = {
  '~standard': {
    version: 1 as const,
    vendor: 'golden',
    validate: (value: unknown) =>
      Number.isInteger(value) ? { value } : { issues: [{ message: 'not a whole number' }] },
  },
};

/** Registers the jobs. */
export function defineFlows(stepfast: Stepfast, hooks: Hooks, only?: readonly string[]): void {
  const { isMaking, entered, isOld } = hooks;
  const hangs = () => (isMaking ? never : undefined);
  type Id = { readonly id: string };
  const note = <Value>(run: Id, name: string, value: Value): Value => {
    entered(`${run.id}/${name}`);
    return value;
  };
  const fails = (what: string) => {
    if (isMaking) throw Object.assign(new Error(what), { stack: `Error: ${what}`, code: 'E_GOLDEN' });
  };

  const jobs = [
    defineJob<number>('straight', async ({ payload, step, run }) => {
      const a = await step.run('a', () => note(run, 'a', payload + 1));
      return step.run('b', () => note(run, 'b', a * 2));
    }),
    defineJob<unknown>('kinds', async ({ payload, step, run }) => {
      const kept = await step.run('keep', () => note(run, 'keep', payload));
      await step.waitForEvent('golden.kinds');
      return kept;
    }),
    defineJob('doomed', { retry: { maxAttempts: 1 } }, async ({ step, run }) => {
      await step.run('reserve', () => note(run, 'reserve', 'seat 1'));
      return step.run('charge', () => {
        note(run, 'charge', undefined);
        if (isMaking) throw Object.assign(new FatalError('card refused'), { stack: 'FatalError: card refused' });
        return 'paid';
      });
    }),
    defineJob<string, string>('slow', { queue: QUEUE }, async ({ payload, step, run, log }) => {
      await step.run('first', () => note(run, 'first', 1));
      log.info('half way', { of: run.id });
      await step.run('long', async ({ progress }) => {
        note(run, 'long', undefined);
        progress(0.5);
        await hangs();
      });
      return payload;
    }),
    defineJob('flaky', async ({ step, run }) => {
      await step.run('sound', () => note(run, 'sound', undefined));
      const retry = { initialDelay: '1h', factor: 1, maxDelay: '1h', jitter: false, maxAttempts: 3 } as const;
      return step.run(
        'unsound',
        ({ attempt }) => {
          note(run, 'unsound', undefined);
          fails(`attempt ${attempt}`);
          return `attempt ${attempt}`;
        },
        { retry },
      );
    }),
    defineJob('sleepy', async ({ step, run }) => {
      const [now, uuid, random] = [await step.now(), await step.uuid(), await step.random()];
      await step.run('before', () => note(run, 'before', undefined));
      await step.sleep('night', '2d');
      const after = await step.run('after', () => note(run, 'after', 'awake'));
      return { now, uuid, random, after };
    }),
    defineJob('waits', async ({ step, run }) => {
      const early = await step.waitForEvent<string>('golden.early', { correlationKey: run.id });
      const kept = await step.run('kept', () => note(run, 'kept', early.payload));
      const { payload } = await step.waitForEvent<string>('golden.go', { correlationKey: run.id, timeout: '10d' });
      const stored = await step.waitForEvent<string>('golden.stored', { correlationKey: run.id });
      return [kept, payload, stored.payload];
    }),
    defineJob('timesOut', async ({ step, run }) => {
      await step.run('before', () => note(run, 'before', undefined));
      return step.waitForEvent('golden.never', { timeout: '2d', onTimeout: 'continue' });
    }),
    defineJob('picky', async ({ step }) => {
      const only = { schema: wholeNumber as StandardSchema<number>, match: (n: number) => n > 10 };
      const { payload } = await step.waitForEvent('golden.number', only);
      return payload;
    }),
    defineJob('races', async ({ step, run }) => {
      const lost = step.waitForEvent('golden.lost', { correlationKey: run.id });
      const won = await step.race([lost, step.run('won', () => note(run, 'won', 'step'))]);
      const { payload } = await step.waitForEvent('golden.go', { correlationKey: run.id });
      return [won, payload];
    }),
    defineJob<string>('late', async ({ payload, step, run }) => step.run('only', () => note(run, 'only', payload))),
    defineJob('changed', async ({ step, run }) => {
      await step.run('before', () => note(run, 'before', undefined));
      // The code between, which is not loaded any more, asked for a step of this name.
      if (isMaking && !isOld) await step.run('pause', () => 'of another kind');
      else await step.sleep('pause', '1h');
      return step.run('after', () => note(run, 'after', 'fits again'));
    }),
    defineJob('child', async ({ step, run }) => {
      const { payload } = await step.waitForEvent<string>('golden.child', { correlationKey: run.id });
      return step.run('work', () => note(run, 'work', `child of ${payload}`));
    }),
    defineJob<string>('parent', async ({ payload, step, run }) => {
      await step.run('before', () => note(run, 'before', undefined));
      const unwatched = await step.start('straight', 1, { name: 'aside', id: `${run.id}/aside` });
      const done = await step.call('child', undefined, { id: payload });
      return [done, unwatched.id];
    }),
    defineJob<string>('saga', { retry: { maxAttempts: 1 } }, async ({ payload, step, run }) => {
      const undo = (name: string) => ({
        retry: { initialDelay: '1h', maxAttempts: 5, jitter: false } as const,
        undo: async () => {
          note(run, `undo ${name}`, undefined);
          if (name === 'flight' && payload === 'fails') fails('airline is closed');
          if (name === 'flight' && payload === 'hangs') await hangs();
        },
      });
      await step.run('flight', () => note(run, 'flight', 'F1'), undo('flight'));
      await step.run('hotel', () => note(run, 'hotel', 'H1'), undo('hotel'));
      await step.run('pay', () => {
        note(run, 'pay', undefined);
        throw Object.assign(new FatalError('no money'), { stack: 'FatalError: no money' });
      });
    }),
    defineJob('counts', async ({ step, run }) => {
      const nth = await step.run('count', async ({ state }) => {
        note(run, 'count', undefined);
        await state.set('golden:written by a step', run.id);
        return state.increment('golden:counter');
      });
      await step.dispatch('golden.said', { nth }, { correlationKey: 'all' });
      await step.sleep('rest', '1d');
      return nth;
    }),
    defineJob<{ readonly round: number }>('loop', async ({ payload, step, run }) => {
      await step.run('turn', () => note(run, `turn ${payload.round}`, undefined));
      if (payload.round < 3) return step.restart({ round: payload.round + 1 });
      const { payload: word } = await step.waitForEvent('golden.go', { correlationKey: run.id });
      return [payload.round, word];
    }),
    defineJob<{ readonly n: number; readonly unit?: string }>(
      'grows',
      isMaking && isOld
        ? { version: 1 }
        : { version: 2, migrate: () => ({ payload: { n: 1, unit: 'kg' }, rename: { weigh: 'measure' } }) },
      async ({ payload, step, run }) => {
        const name = isMaking && isOld ? 'weigh' : 'measure';
        const n = await step.run(name, () => note(run, name, payload.n));
        await step.sleep('rest', '1h');
        await step.sleep('rest', '1d');
        return `${n} ${payload.unit}`;
      },
    ),
    defineJob('throws', { retry: { initialDelay: '1h', jitter: false } }, async ({ step, run }) => {
      await step.run('before', () => note(run, 'before', undefined));
      fails('outside of a step');
      return 'passed';
    }),
    defineJob<string>('calm', { queue: { name: 'calm', debounce: { delay: '1d' } } }, async ({ payload, step, run }) =>
      step.run('only', () => note(run, 'only', payload)),
    ),
    defineJob('solo', { queue: { name: 'solo', singleton: true } }, async ({ step, run }) => {
      const { payload } = await step.waitForEvent('golden.go', { correlationKey: run.id });
      return payload;
    }),
    defineJob('catches', { retry: { maxAttempts: 1 } }, async ({ step, run }) => {
      const said = await step
        .run('bad', () => {
          note(run, 'bad', undefined);
          throw Object.assign(new Error('bad'), { stack: 'Error: bad' });
        })
        .catch((error: Error) => error.message);
      await step.sleep('rest', '1d');
      return said;
    }),
  ];
  for (const job of jobs) if (!only || only.includes(job.name)) stepfast.register(job);
}
