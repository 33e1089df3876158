import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { z } from 'zod';
import {
  createStepfast,
  type Duration,
  defineJob,
  type Step,
  type Stepfast,
  type StepfastError,
} from '../src/index.js';
import { onEveryStore, type World, world } from './harness.js';

// Pins: spec section 9. Every refusal has a code, quotes what it refuses, says what to do, and has written nothing.

/** What a refusal must say. */
interface Refusal {
  readonly code: string;
  /** The offending value, option or path, as the message quotes it. */
  readonly quotes: readonly string[];
  /** What to do. */
  readonly advice?: RegExp;
}

const expectRefusal = (error: unknown, { code, quotes, advice = /Give|Use|Leave|Convert|Store|Register/ }: Refusal) => {
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({ code, name: 'StepfastError' });
  const { message } = error as StepfastError;
  expect(message).toMatch(new RegExp(`\\[${code}\\]$`));
  for (const quote of quotes) expect(message).toContain(quote);
  expect(message).toMatch(advice);
};

/** What `call` throws or rejects with. */
const thrownBy = async (call: () => unknown): Promise<unknown> => {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was refused');
};

/** Refused by a call, and nothing was written. */
const expectRefused = async (w: World, engine: Stepfast, call: () => unknown, refusal: Refusal) => {
  await engine.ready();
  await w.clock.idle();
  const before = await engine.runs.list();
  const commits = w.commits();
  expectRefusal(await thrownBy(call), refusal);
  await w.clock.idle();
  expect(w.commits()).toBe(commits);
  expect(await engine.runs.list()).toEqual(before);
};

/** Refused inside a handler: the run is blocked (R5), no code of the user hears of it, nothing is written. */
const expectBlocked = async (w: World, ask: (step: Step) => unknown, refusal: Refusal) => {
  const engine = w.engine((stepfast) => {
    stepfast.job('asks', async ({ step }) => {
      try {
        await ask(step);
      } catch {
        w.log.push('catch');
      } finally {
        w.log.push('finally');
      }
    });
  });
  await engine.start('asks', undefined, { id: 'asks' });
  await w.clock.idle();
  const run = await engine.runs.get('asks');
  expect(run?.status).toBe('blocked');
  expectRefusal(Object.assign(new Error(run?.error?.message), run?.error), refusal);
  expect(w.log).toEqual([]);
  expect(w.commits()).toBe(1);
  expect((await engine.runs.timeline('asks')).map(({ kind }) => kind)).toEqual(['started']);
};

const as = <T>(value: unknown) => value as T;
const tooLong = 'n'.repeat(257);
const badNames: readonly (readonly [title: string, name: unknown, quote: string])[] = [
  ['an empty one', '', '""'],
  ['one of 257 characters', tooLong, 'nnnnnnnn'],
  ['one that the library reserves', 'stepfast:done', '"stepfast:done"'],
  ['a number', 42, '42'],
  ['null', null, 'null'],
  ['nothing', undefined, 'undefined'],
];
const badDurations: readonly (readonly [value: unknown, quote: string])[] = [
  ['', '""'],
  [' ', '" "'],
  ['soon', '"soon"'],
  ['24 parsecs', '"24 parsecs"'],
  ['1h30m', '"1h30m"'],
  ['-1h', '"-1h"'],
  ['NaN', '"NaN"'],
  [-1, '-1'],
  [Number.NaN, 'NaN'],
  [Number.POSITIVE_INFINITY, 'Infinity'],
  [null, 'null'],
  [true, 'true'],
  [5n, '5'],
  [{}, 'an object'],
  [[1], 'an array'],
  [new Date(0), 'an object'],
];
const badInstants: readonly (readonly [value: unknown, quote: string])[] = [
  [new Date(Number.NaN), 'an object'],
  [Number.NaN, 'NaN'],
  [Number.POSITIVE_INFINITY, 'Infinity'],
  [9e15, '9000000000000000'],
  ['', '""'],
  ['tomorrow', '"tomorrow"'],
  ['24h', '"24h"'],
  ['2026-03-01', '"2026-03-01"'],
  ['2026-03-01T09:00:00', '"2026-03-01T09:00:00"'],
  ['2026-02-30T09:00:00Z', '"2026-02-30T09:00:00Z"'],
  [null, 'null'],
  [true, 'true'],
  [{}, 'an object'],
];

class Account {
  id = 1;
}
const badValues: readonly (readonly [title: string, value: unknown])[] = [
  ['a function', () => 1],
  ['a symbol', Symbol('s')],
  ['a class instance', new Account()],
  ['a promise', Promise.resolve(1)],
];

const working = (w: World) =>
  w.engine((stepfast) => {
    stepfast.job('work', async ({ payload, step }) => {
      await step.run('note', () => void w.log.push('work'));
      return payload;
    });
  });

let warn: ReturnType<typeof vi.spyOn>;
beforeEach(() => {
  warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
});
afterEach(() => vi.restoreAllMocks());
const warnings = () => warn.mock.calls.map((call: unknown[]) => String(call[0]));

onEveryStore('bad input', (medium) => {
  describe('names', () => {
    for (const [title, name, quote] of badNames) {
      const refusal: Refusal = { code: 'INVALID_NAME', quotes: [quote], advice: /Give 1 to 256 characters/ };

      it(`of a job: ${title} is refused where it is defined`, async () => {
        const w = world(medium);
        const engine = working(w);
        await expectRefused(w, engine, () => engine.job(as<string>(name), async () => 1), refusal);
        expectRefusal(await thrownBy(() => defineJob(as<string>(name), async () => 1)), refusal);
      });

      it(`of a job: ${title} is refused by start`, async () => {
        const w = world(medium);
        const engine = working(w);
        await expectRefused(w, engine, () => engine.start(as<string>(name), 1, { allowUnregistered: true }), refusal);
      });

      it(`of an event: ${title} is refused by dispatch`, async () => {
        const w = world(medium);
        const engine = working(w);
        await expectRefused(w, engine, () => engine.dispatch(as<string>(name), 1), refusal);
      });

      it(`of a step: ${title} blocks the run`, async () => {
        await expectBlocked(world(medium), (step) => step.run(as<string>(name), () => 1), refusal);
      });

      it(`of a sleep: ${title} blocks the run`, async () => {
        await expectBlocked(world(medium), (step) => step.sleep(as<string>(name), '1h'), refusal);
      });

      it(`of an event: ${title} blocks a run that waits for it`, async () => {
        await expectBlocked(world(medium), (step) => step.waitForEvent(as<string>(name)), refusal);
        await expectBlocked(
          world(medium),
          (step) => step.waitForEvent(['a', as<string>(name)], { name: 'w' }),
          refusal,
        );
      });

      if (name !== undefined)
        it(`of a wait: ${title} blocks the run`, async () => {
          await expectBlocked(world(medium), (step) => step.waitForEvent('fine', { name: as<string>(name) }), refusal);
        });
    }

    it('R5: of which no text can be made, for want of a prototype: blocks the run', async () => {
      const name = as<string>(Object.create(null));
      const refusal: Refusal = { code: 'INVALID_NAME', quotes: ['an object'], advice: /Give 1 to 256 characters/ };
      const asks: readonly ((step: Step) => unknown)[] = [
        (step) => step.run(name, () => 1),
        (step) => step.sleep(name, '1h'),
        (step) => step.sleepUntil(name, 1),
        (step) => step.waitForEvent('fine', { name }),
        (step) => step.dispatch('fine', 1, { name }),
      ];
      for (const ask of asks) await expectBlocked(world(medium), ask, refusal);
    });

    it('a wait for none of no events blocks the run', async () => {
      const refusal = { code: 'INVALID_NAME', quotes: ['an empty array'], advice: /Give at least one/ };
      await expectBlocked(world(medium), (step) => step.waitForEvent([]), refusal);
    });

    it('of 256 characters, and names that JavaScript has plans for, are names like any other', async () => {
      const w = world(medium);
      for (const name of ['n'.repeat(256), '__proto__', 'constructor', 'hasOwnProperty', '../x', 'a\0b', 'x#2', ' ']) {
        const engine = w.engine((stepfast) => {
          stepfast.job(name, async ({ step }) => {
            const first = await step.run(name, () => name);
            const { payload } = await step.waitForEvent<string>(name, { correlationKey: name });
            return [first, payload];
          });
        });
        const run = await engine.start(name, undefined, { idempotencyKey: name });
        await w.clock.idle();
        const { resumed } = await engine.dispatch(name, 'came', { correlationKey: name, idempotencyKey: name });
        expect(resumed).toEqual([run.id]);
        await w.clock.idle();
        expect(await engine.runs.get(run.id)).toMatchObject({ job: name, status: 'completed', result: [name, 'came'] });
        w.crash(engine);
      }
    });
  });

  describe('jobs that are not there', () => {
    it('starting a job that is not registered here is refused', async () => {
      const w = world(medium);
      const engine = working(w);
      const refusal = { code: 'UNKNOWN_JOB', quotes: ['"wrok"', 'allowUnregistered'], advice: /Register/ };
      await expectRefused(w, engine, () => engine.start('wrok', 1), refusal);
      const elsewhere = defineJob('wrok', async () => 1);
      await expectRefused(w, engine, () => engine.start(elsewhere, undefined), refusal);
    });

    it('with allowUnregistered it is queued for a context that has the job', async () => {
      const w = world(medium);
      const here = w.engine();
      const run = await here.start('work', 'later', { allowUnregistered: true });
      await w.clock.idle();
      expect((await here.runs.get(run.id))?.endedAt).toBeUndefined();
      await here.close();
      const there = working(w);
      await there.ready();
      await w.clock.idle();
      expect(await there.runs.get(run.id)).toMatchObject({ status: 'completed', result: 'later' });
    });
  });

  describe('payloads and schemas', () => {
    it('a payload that fails its schema is refused with the issues of the schema, and is not quoted', async () => {
      const w = world(medium);
      const engine = w.engine((stepfast) => {
        const payload = z.object({ userId: z.string(), age: z.number() });
        stepfast.job('typed', { payload }, async () => 1);
      });
      const wrong = { userId: 4711, age: 'hunter2' };
      const refusal = { code: 'INVALID_PAYLOAD', quotes: ['"typed"', '$.userId, $.age'], advice: /schema/ };
      await expectRefused(w, engine, () => engine.start('typed', wrong), refusal);
      const error = (await thrownBy(() => engine.start('typed', wrong))) as StepfastError;
      expect(error.issues).toMatchObject([{ path: ['userId'] }, { path: ['age'] }]);
      expect(error.message).not.toMatch(/4711|hunter2/);
    });

    it('a payload that fits its schema arrives as the schema left it', async () => {
      const w = world(medium);
      const engine = w.engine((stepfast) => {
        const payload = z.object({ at: z.string().transform((text) => new Date(text)), size: z.number().default(3) });
        stepfast.job('typed', { payload }, async (context) => context.payload);
      });
      const run = await engine.start('typed', { at: '2026-03-01T00:00:00Z' });
      await w.clock.idle();
      expect(await run.result()).toEqual({ at: new Date('2026-03-01T00:00:00Z'), size: 3 });
      const again = await engine.start('typed', { at: '2026-03-01T00:00:00Z' }, { id: run.id });
      expect(again).toMatchObject({ id: run.id, created: false });
    });

    it('a result that fails its schema fails the run', async () => {
      const w = world(medium);
      const engine = w.engine((stepfast) => {
        stepfast.job('typed', { result: z.string(), retry: { maxAttempts: 1 } }, async () => 42 as never);
      });
      const run = await engine.start('typed', undefined);
      await w.clock.idle();
      expect((await engine.runs.get(run.id))?.status).toBe('failed');
    });
  });

  describe('values', () => {
    for (const [title, value] of badValues) {
      const inside = { user: { name: 'ada', onClick: value } };
      const refusal = { code: 'NOT_SERIALIZABLE', quotes: ['$.user.onClick'], advice: /Convert|leave it out/ };

      it(`${title} in a payload is refused with its path`, async () => {
        const w = world(medium);
        const engine = working(w);
        await expectRefused(w, engine, () => engine.start('work', inside), refusal);
        expect(await thrownBy(() => engine.start('work', inside))).toMatchObject({ path: '$.user.onClick' });
        expect(await thrownBy(() => engine.start('work', [[value]]))).toMatchObject({ path: '$[0][0]' });
      });

      it(`${title} in the payload of an event is refused with its path`, async () => {
        const w = world(medium);
        const engine = working(w);
        await expectRefused(w, engine, () => engine.dispatch('done', inside), refusal);
      });

      it(`${title} in what a step returns fails the step without retry`, async () => {
        const w = world(medium);
        const engine = w.engine((stepfast) => {
          stepfast.job('returns', async ({ step }) => {
            try {
              await step.run('make', () => {
                w.log.push('make');
                return inside;
              });
              return 'kept';
            } catch (error) {
              const { code, cause } = error as StepfastError & { cause: StepfastError };
              return { code, cause: cause.code, message: cause.message };
            }
          });
        });
        const run = await engine.start('returns');
        await w.clock.advance('1 day');
        const { result, attempts } = (await engine.runs.get(run.id))!;
        expect(result).toMatchObject({ code: 'STEP_FAILED', cause: 'NOT_SERIALIZABLE' });
        expect((result as StepfastError).message).toContain('$.user.onClick');
        expect(attempts).toHaveLength(1);
        expect(w.log).toEqual(['make']);
      });

      it(`${title} in what a handler returns fails the run`, async () => {
        const w = world(medium);
        const engine = w.engine((stepfast) => {
          stepfast.job('returns', async () => {
            w.log.push('returns');
            return inside;
          });
        });
        const run = await engine.start('returns');
        await w.clock.advance('1 day');
        const { status, error } = (await engine.runs.get(run.id))!;
        expect({ status, code: error?.code }).toEqual({ status: 'failed', code: 'NOT_SERIALIZABLE' });
        expect(error?.message).toContain('$.user.onClick');
        expect(w.log).toEqual(['returns']);
      });
    }

    it('a value over 1 MiB is refused, and the limit is quoted', async () => {
      const w = world(medium);
      const engine = working(w);
      const large = { text: 'x'.repeat(2 ** 20 + 1) };
      const refusal = { code: 'VALUE_TOO_LARGE', quotes: ['1048576', '$.text'], advice: /Store a reference/ };
      await expectRefused(w, engine, () => engine.start('work', large), refusal);
      await expectRefused(w, engine, () => engine.dispatch('done', large), refusal);
    });

    it('the limit is a matter of the engine', async () => {
      const w = world(medium);
      const engine = w.engine((stepfast) => void stepfast.job('work', async () => 1), { maxValueBytes: 200 });
      const refusal = { code: 'VALUE_TOO_LARGE', quotes: ['200 bytes', '$'] };
      await expectRefused(w, engine, () => engine.start('work', 'x'.repeat(201)), refusal);
      await expect(engine.start('work', 'x'.repeat(100))).resolves.toMatchObject({ created: true });
    });

    it('a step that returns more than the limit fails without retry', async () => {
      const w = world(medium);
      const engine = w.engine((stepfast) => {
        stepfast.job('returns', ({ step }) =>
          step.run('make', () => {
            w.log.push('make');
            return 'x'.repeat(2 ** 20 + 1);
          }),
        );
      });
      const run = await engine.start('returns');
      await w.clock.advance('1 day');
      const error = (await thrownBy(() => run.result())) as Error & { cause: StepfastError };
      expect(error).toMatchObject({ code: 'STEP_FAILED', cause: { code: 'VALUE_TOO_LARGE' } });
      expect(error.cause.message).toContain('1048576');
      expect(w.log).toEqual(['make']);
    });

    it('a key named __proto__ is data', async () => {
      const w = world(medium);
      const engine = working(w);
      const payload = JSON.parse('{"__proto__": {"polluted": true}}');
      const run = await engine.start('work', payload);
      await w.clock.idle();
      const result = (await run.result()) as object;
      expect(JSON.stringify(result)).toBe('{"__proto__":{"polluted":true}}');
      expect(Object.getPrototypeOf(result)).toBe(Object.prototype);
      expect(({} as { polluted?: true }).polluted).toBeUndefined();
    });
  });

  describe('durations and instants', () => {
    it('a ttl of nothing is refused: the event would be over before anybody could take it', async () => {
      const w = world(medium);
      const engine = working(w);
      const refusal: Refusal = { code: 'INVALID_DURATION', quotes: ['ttl', '0'], advice: /Give/ };
      await expectRefused(w, engine, () => engine.dispatch('done', 1, { ttl: 0 }), refusal);
    });

    for (const [value, quote] of badDurations) {
      const title = `the duration ${quote}${quote === 'an object' ? ` (${JSON.stringify(value)})` : ''}`;
      const refusal = (option: string): Refusal => ({
        code: 'INVALID_DURATION',
        quotes: [option, quote],
        advice: /Give/,
      });

      it(`${title} is refused at the call, wherever it is given`, async () => {
        const w = world(medium);
        const engine = working(w);
        const duration = as<Duration>(value);
        await expectRefused(w, engine, () => engine.start('work', 1, { delay: duration }), refusal('delay'));
        await expectRefused(w, engine, () => engine.dispatch('done', 1, { ttl: duration }), refusal('ttl'));
        for (const option of ['initialDelay', 'maxDelay']) {
          const retry = { [option]: duration };
          const said = refusal(`retry.${option}`);
          await expectRefused(w, engine, () => engine.start('work', 1, { retry }), said);
          expectRefusal(await thrownBy(() => createStepfast({ store: w.store(), retry })), said);
        }
        const leaseMs = value as number;
        expectRefusal(await thrownBy(() => createStepfast({ store: w.store(), leaseMs })), refusal('leaseMs'));
        const nothing = await thrownBy(() => createStepfast({ store: w.store(), leaseMs: 0 }));
        expectRefusal(nothing, { code: 'INVALID_DURATION', quotes: ['leaseMs', '0'], advice: /longer than nothing/ });
      });

      it(`${title} is refused where a job is defined`, async () => {
        const w = world(medium);
        const engine = working(w);
        for (const option of ['initialDelay', 'maxDelay']) {
          const retry = { [option]: as<Duration>(value) };
          const define = () => engine.job('other', { retry }, async () => 1);
          await expectRefused(w, engine, define, refusal(`retry.${option}`));
        }
      });

      it(`${title} blocks a run that asks for it`, async () => {
        const duration = as<Duration>(value);
        await expectBlocked(world(medium), (step) => step.sleep('nap', duration), refusal('"nap"'));
        await expectBlocked(world(medium), (step) => step.waitForEvent('e', { timeout: duration }), refusal('timeout'));
        await expectBlocked(
          world(medium),
          (step) => step.waitForEvent('e', { lookback: duration }),
          refusal('lookback'),
        );
        await expectBlocked(
          world(medium),
          (step) => step.run('s', () => 1, { retry: { initialDelay: duration } }),
          refusal('retry.initialDelay'),
        );
      });
    }

    for (const [value, quote] of badInstants) {
      const title = `the instant ${quote}${quote === 'an object' ? ` (${String(value)})` : ''}`;
      const refusal = (option: string): Refusal => ({
        code: 'INVALID_OPTION',
        quotes: [option, quote],
        advice: /Give/,
      });

      it(`${title} is refused at the call, and blocks a run that asks for it`, async () => {
        const w = world(medium);
        const engine = working(w);
        await expectRefused(w, engine, () => engine.start('work', 1, { startAt: value as Date }), refusal('startAt'));
        await expectBlocked(world(medium), (step) => step.sleepUntil('nap', value as Date), refusal('"nap"'));
      });
    }

    it('good ones are taken: a Date, epoch milliseconds, ISO 8601 with offset, ms texts and numbers', async () => {
      const w = world(medium);
      const engine = working(w);
      const at = w.clock.now() + 3_600_000;
      const iso = new Date(at).toISOString();
      const good = [
        { startAt: new Date(at) },
        { startAt: at },
        { startAt: iso },
        { startAt: iso.replace('Z', '+00:00') },
        { delay: '1h' },
        { delay: '60 minutes' },
        { delay: 3_600_000 },
      ] as const;
      const started = await Promise.all(good.map((options) => engine.start('work', 1, options)));
      await w.clock.advance(3_599_999);
      for (const run of started) expect(await run.status()).toBe('scheduled');
      await w.clock.advance(1);
      for (const run of started) expect(await run.status()).toBe('completed');
    });
  });

  describe('options', () => {
    const bad: readonly (readonly [title: string, call: (engine: Stepfast) => unknown, quotes: readonly string[]])[] = [
      ['a version of 0', (e) => e.job('j', { version: 0 }, async () => 1), ['version', '0']],
      [
        'a version that can not be counted on',
        (e) => e.job('j', { version: 2 ** 53 }, async () => 1),
        ['version', '9007'],
      ],
      ['a version of 1.5', (e) => e.job('j', { version: 1.5 }, async () => 1), ['version', '1.5']],
      ['a handler that is no function', (e) => e.job('j', as<() => 1>('handler')), ['"j"', '"handler"']],
      ['options that are null', (e) => e.job('j', as<object>(null), async () => 1), ['"j"', 'null']],
      ['no interruptions at all', (e) => e.job('j', { maxInterruptions: 0 }, async () => 1), ['maxInterruptions', '0']],
      [
        'a queue without slots',
        (e) => e.job('j', { queue: { name: 'q', concurrency: 0 } }, async () => 1),
        ['queue.concurrency', '0'],
      ],
      ['a payload that is no schema', (e) => e.job('j', { payload: as<undefined>({}) }, async () => 1), ['payload']],
      ['zero attempts', (e) => e.start('work', 1, { retry: { maxAttempts: 0 } }), ['retry.maxAttempts', '0']],
      ['NaN attempts', (e) => e.start('work', 1, { retry: { maxAttempts: Number.NaN } }), ['retry.maxAttempts', 'NaN']],
      ['a factor below 1', (e) => e.start('work', 1, { retry: { factor: 0.5 } }), ['retry.factor', '0.5']],
      ['a jitter of "yes"', (e) => e.start('work', 1, { retry: { jitter: as('yes') } }), ['retry.jitter', '"yes"']],
      ['a retry that is a number', (e) => e.start('work', 1, { retry: as(5) }), ['retry', '5']],
      ['a retry of 0', (e) => e.start('work', 1, { retry: as(0) }), ['retry', '0']],
      ['tags that are a text', (e) => e.start('work', 1, { tags: as('a') }), ['tags', '"a"']],
      ['an empty tag', (e) => e.start('work', 1, { tags: ['ok', ''] }), ['tags', '""']],
      ['startAt and delay together', (e) => e.start('work', 1, { startAt: 1, delay: 1 }), ['startAt', 'delay']],
      ['a limit of 0', (e) => e.runs.list({ limit: 0 }), ['limit', '0']],
      ['a limit of "10"', (e) => e.runs.list({ limit: as('10') }), ['limit', '"10"']],
      ['a status that does not exist', (e) => e.runs.list({ status: as('done') }), ['status', '"done"']],
      ['a cursor that is none', (e) => e.runs.list({}, '../x'), ['cursor', '"../x"']],
    ];
    for (const [title, call, quotes] of bad)
      it(`${title} is refused with the name of the option and its value`, async () => {
        const w = world(medium);
        const engine = working(w);
        await expectRefused(w, engine, () => call(engine), { code: 'INVALID_OPTION', quotes, advice: /Give/ });
      });

    it('an engine is refused its bad options where it is made', async () => {
      const w = world(medium);
      const store = w.store();
      const cases = [
        [undefined, ['store', 'undefined']],
        [{}, ['store', 'undefined']],
        [{ store: 'memory' }, ['store', '"memory"']],
        [{ store, retry: { maxAttempts: -1 } }, ['retry.maxAttempts', '-1']],
        [{ store, replay: 'sometimes' }, ['replay', '"sometimes"']],
        [{ store, maxValueBytes: 'big' }, ['maxValueBytes', '"big"']],
        [{ store, maxValueBytes: Number.NaN }, ['maxValueBytes', 'NaN']],
        [{ store, maxOutcomes: 0 }, ['maxOutcomes', '0']],
        [{ store, maxRunBytes: '1 GB' }, ['maxRunBytes', '"1 GB"']],
        [{ store, onError: 'log' }, ['onError', '"log"']],
        [{ store, clock: {} }, ['clock']],
      ] as const;
      const accepted: unknown[] = [];
      for (const [options, quotes] of cases) {
        const error = await thrownBy(() => createStepfast(as(options))).catch(() => accepted.push(quotes));
        if (error instanceof Error) expectRefusal(error, { code: 'INVALID_OPTION', quotes, advice: /Give/ });
      }
      expect(accepted).toEqual([]);
    });

    it('an onTimeout that does not exist, and a step without a function, block the run', async () => {
      const refusal = (...quotes: string[]) => ({ code: 'INVALID_OPTION', quotes, advice: /Give/ });
      await expectBlocked(
        world(medium),
        (step) => step.waitForEvent('e', { onTimeout: as('explode') }),
        refusal('onTimeout', '"explode"'),
      );
      await expectBlocked(world(medium), (step) => step.run('s', as(undefined)), refusal('"s"', 'undefined'));
      await expectBlocked(
        world(medium),
        (step) => step.run('s', () => 1, { retry: { maxAttempts: 0 } }),
        refusal('retry.maxAttempts', '0'),
      );
    });

    it('a start may ask for endless attempts', async () => {
      const w = world(medium);
      const engine = w.engine((stepfast) => {
        stepfast.job('stubborn', ({ step }) =>
          step.run('try', ({ attempt }) => {
            if (attempt < 8) throw new Error('not yet');
            return attempt;
          }),
        );
      });
      const retry = { maxAttempts: Number.POSITIVE_INFINITY, initialDelay: 10, factor: undefined };
      const run = await engine.start('stubborn', undefined, { retry });
      await w.clock.advance('1h');
      expect(await engine.runs.get(run.id)).toMatchObject({ status: 'completed', result: 8 });
      expect(w.errors).toEqual([]);
    });
  });

  describe('keys and ids', () => {
    for (const [title, key, quote] of [
      ['an empty correlation key', '', '""'],
      ['a correlation key that is a number', 42, '42'],
      ['a correlation key that is null', null, 'null'],
    ] as const) {
      const refusal = { code: 'INVALID_KEY', quotes: ['correlationKey', quote], advice: /or leave it out/ };

      it(`${title} is refused by dispatch and blocks a wait`, async () => {
        const w = world(medium);
        const engine = working(w);
        const correlationKey = as<string>(key);
        await expectRefused(w, engine, () => engine.dispatch('done', 1, { correlationKey }), refusal);
        await expectBlocked(world(medium), (step) => step.waitForEvent('done', { correlationKey }), refusal);
      });
    }

    for (const [title, id, quote] of [
      ['an empty run id', '', '""'],
      ['a run id of 257 characters', 'i'.repeat(257), 'iiii'],
      ['a run id that is a number', 42, '42'],
    ] as const)
      it(`${title} is refused by start, dispatch and everything that names a run`, async () => {
        const w = world(medium);
        const engine = working(w);
        const runId = as<string>(id);
        const refusal = { code: 'INVALID_ID', quotes: [quote], advice: /Give a text of 1 to 256 characters/ };
        await expectRefused(w, engine, () => engine.start('work', 1, { id: runId }), refusal);
        await expectRefused(w, engine, () => engine.dispatch('done', 1, { runId }), refusal);
        const { runs } = engine;
        for (const call of [
          () => runs.get(runId),
          () => runs.timeline(runId),
          () => runs.subscribe(runId, () => undefined),
          () => runs.cancel(runId),
          () => runs.retry(runId),
          () => runs.fork(runId, { before: 'step' }),
          () => runs.delete(runId),
        ])
          await expectRefused(w, engine, call, refusal);
      });

    it('a subscription without a function is refused', async () => {
      const w = world(medium);
      const engine = working(w);
      const refusal = { code: 'INVALID_OPTION', quotes: ['undefined'], advice: /Give a function/ };
      await expectRefused(w, engine, () => engine.runs.subscribe('r', as<() => void>(undefined)), refusal);
    });

    it('an idempotency key that is empty or too long is refused', async () => {
      const w = world(medium);
      const engine = working(w);
      const refusal = { code: 'INVALID_KEY', quotes: ['idempotencyKey'], advice: /Give a text of 1 to 256 characters/ };
      for (const idempotencyKey of ['', 'k'.repeat(257), as<string>(42)]) {
        await expectRefused(w, engine, () => engine.start('work', 1, { idempotencyKey }), refusal);
        await expectRefused(w, engine, () => engine.dispatch('done', 1, { idempotencyKey }), refusal);
      }
    });

    const hostile = [
      '../x',
      '..',
      '.',
      '/etc/passwd',
      'a/b',
      'a\\b',
      'C:\\x',
      'CON',
      'a\0b',
      '\0',
      '__proto__',
      'constructor',
      'toString',
      ' ',
      '%2e%2e%2f',
      'x.json',
      'X.JSON',
      '*',
      "'; DROP TABLE runs; --",
      '\ud800',
      '\ud801',
      '\ufffd',
      'é',
      'e\u0301',
      '🙂'.repeat(128),
      'i'.repeat(256),
    ];
    it('any other run id is data: each names its own run, also after a crash', async () => {
      const w = world(medium);
      const define = (stepfast: Stepfast) =>
        void stepfast.job('work', async ({ payload, step }) => {
          await step.waitForEvent('go');
          return payload;
        });
      const before = w.engine(define);
      for (const id of hostile) {
        const run = await before.start('work', { id }, { id });
        expect(run).toMatchObject({ id, created: true });
        expect(await before.start('work', { id }, { id })).toMatchObject({ id, created: false });
      }
      await w.clock.idle();
      w.crash(before);
      const engine = w.engine(define);
      for (const id of hostile) {
        expect(await engine.runs.get(id)).toMatchObject({ id, status: 'waiting', payload: { id } });
        expect((await engine.runs.timeline(id)).map(({ kind }) => kind)).toEqual(['started', 'claimed', 'wait-set']);
      }
      expect((await engine.runs.list()).runs.map(({ id }) => id)).toEqual([...hostile].reverse());
      for (const [index, id] of hostile.entries())
        if (index % 2) await engine.runs.cancel(id);
        else expect((await engine.dispatch('go', index, { runId: id })).resumed).toEqual([id]);
      await w.clock.idle();
      for (const [index, id] of hostile.entries())
        expect(await engine.runs.get(id)).toMatchObject(
          index % 2 ? { status: 'cancelled' } : { status: 'completed', result: { id } },
        );
      expect(await engine.runs.get('x')).toBeUndefined();
    });

    it('hostile correlation keys and idempotency keys are data as well', async () => {
      const w = world(medium);
      const engine = w.engine((stepfast) => {
        stepfast.job<string>('work', async ({ payload, step }) => {
          const event = await step.waitForEvent<string>('go', { correlationKey: payload });
          return [event.payload, event.correlationKey];
        });
      });
      const started = new Map<string, string>();
      for (const key of hostile) {
        const run = await engine.start('work', key, { idempotencyKey: key });
        expect(run.created).toBe(true);
        started.set(key, run.id);
      }
      await w.clock.idle();
      for (const key of hostile) {
        const options = { correlationKey: key, idempotencyKey: key };
        const receipt = await engine.dispatch('go', key, options);
        expect(receipt).toMatchObject({ deduplicated: false, resumed: [started.get(key)] });
        expect(await engine.dispatch('go', key, options)).toMatchObject({ id: receipt.id, deduplicated: true });
      }
      await w.clock.idle();
      for (const [key, id] of started)
        expect(await engine.runs.get(id)).toMatchObject({ status: 'completed', result: [key, key] });
    });

    for (const key of ['user:undefined', 'user:null', 'user:NaN', 'user:[object Object]']) {
      it(`the correlation key "${key}" draws a warning in development, and works`, async () => {
        const w = world(medium);
        const engine = working(w);
        await engine.dispatch('done', 1, { correlationKey: key });
        expect(warnings()).toEqual([expect.stringContaining(JSON.stringify(key))]);
      });

      it(`a wait for the correlation key "${key}" draws a warning in development, and works`, async () => {
        const w = world(medium);
        const engine = w.engine((stepfast) => {
          stepfast.job('waits', ({ step }) => step.waitForEvent('done', { correlationKey: key }));
        });
        const run = await engine.start('waits');
        await w.clock.idle();
        expect(await run.status()).toBe('waiting');
        expect(warnings()).toContainEqual(expect.stringContaining(JSON.stringify(key)));
      });
    }

    it('an ordinary correlation key draws no warning', async () => {
      const w = world(medium);
      const engine = w.engine((stepfast) => {
        stepfast.job('waits', ({ step }) => step.waitForEvent('done', { correlationKey: 'user:42' }));
      });
      await engine.start('waits');
      await engine.dispatch('done', 1, { correlationKey: 'user:42' });
      await w.clock.idle();
      expect(warnings()).toEqual([]);
    });
  });

  describe('two jobs, one name', () => {
    it('the second is refused', async () => {
      const w = world(medium);
      const engine = working(w);
      const refusal = { code: 'DUPLICATE_JOB', quotes: ['"work"', 'replace: true'], advice: /Give one another name/ };
      await expectRefused(w, engine, () => engine.job('work', async () => 2), refusal);
      await expectRefused(w, engine, () => engine.register(defineJob('work', async () => 2)), refusal);
      const run = await engine.start('work', 'first');
      await w.clock.idle();
      expect(await run.result()).toBe('first');
    });

    it('replace is true or false, and a text replaces nothing', async () => {
      const engine = working(world(medium));
      const register = () =>
        engine.register(
          defineJob('work', async () => 'other'),
          { replace: as('no') },
        );
      expectRefusal(await thrownBy(register), { code: 'INVALID_OPTION', quotes: ['replace', '"no"'], advice: /Give/ });
    });

    it('with replace the new code is what runs from then on', async () => {
      const w = world(medium);
      const engine = working(w);
      await engine.ready();
      engine.register(
        defineJob('work', async () => 'replaced'),
        { replace: true },
      );
      const run = await engine.start('work', 'first');
      await w.clock.idle();
      expect(await run.result()).toBe('replaced');
      expect(w.log).toEqual([]);
    });
  });

  describe('use after close', () => {
    it('every call is refused, close alone may be repeated', async () => {
      const w = world(medium);
      const engine = w.engine((stepfast) => void stepfast.job('waits', ({ step }) => step.waitForEvent('go')));
      const run = await engine.start('waits');
      await w.clock.idle();
      const result = run.result();
      const commits = w.commits();
      await engine.close();
      const closing = w.commits() - commits;
      await expect(result).rejects.toMatchObject({ code: 'CLOSED' });
      const refusal = { code: 'CLOSED', quotes: ['closed'], advice: /Create a new one/ };
      const calls: (() => unknown)[] = [
        () => engine.ready(),
        () => engine.job('late', () => undefined),
        () => engine.register(defineJob('late', () => undefined)),
        () => engine.start('waits'),
        () => engine.dispatch('go'),
        () => engine.runs.get(run.id),
        () => engine.runs.list(),
        () => engine.runs.timeline(run.id),
        () => engine.runs.cancel(run.id),
        () => engine.runs.retry(run.id),
        () => engine.runs.subscribe(run.id, () => undefined),
        () => run.subscribe(() => undefined),
        () => run.status(),
        () => run.result(),
        () => run.cancel(),
        () => run.retry(),
      ];
      for (const call of calls) expectRefusal(await thrownBy(call), refusal);
      await engine.close();
      expect(w.commits() - commits).toBe(closing);
      const other = w.engine();
      expect((await other.runs.list()).runs).toMatchObject([{ id: run.id, status: 'waiting' }]);
    });

    it('an engine that was never used closes and refuses as well', async () => {
      const w = world(medium);
      const engine = working(w);
      await engine.close();
      expectRefusal(await thrownBy(() => engine.start('work', 1)), { code: 'CLOSED', quotes: [], advice: /Create/ });
      expect(w.commits()).toBe(0);
    });
  });

  it('an event for nobody is stored, and taken by a run that may look back', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('waits', async ({ step }) => (await step.waitForEvent('go', { lookback: 'any' })).payload);
    });
    expect(await engine.dispatch('go', 'early')).toMatchObject({ deduplicated: false, resumed: [] });
    const run = await engine.start('waits');
    await w.clock.idle();
    expect(await run.result()).toBe('early');
  });

  it('a run that is not there is refused by what commands it, and is undefined to what looks', async () => {
    const w = world(medium);
    const engine = working(w);
    const refusal = { code: 'RUN_NOT_FOUND', quotes: ['"nobody"'], advice: /There is no/ };
    expect(await engine.runs.get('nobody')).toBeUndefined();
    await expectRefused(w, engine, () => engine.runs.timeline('nobody'), refusal);
    await expectRefused(w, engine, () => engine.runs.cancel('nobody'), refusal);
    await expectRefused(w, engine, () => engine.runs.retry('nobody'), refusal);
    expectRefusal(await thrownBy(() => engine.dispatch('go', 1, { runId: 'nobody' })), refusal);
  });

  describe('listeners that throw', () => {
    it('are reported, and break neither the run nor other listeners', async () => {
      const w = world(medium);
      const engine = working(w);
      const run = await engine.start('work', 'done', { delay: '1h' });
      const seen: string[] = [];
      let thrown = 0;
      run.subscribe(() => {
        thrown++;
        throw new Error(`listener ${thrown}`);
      });
      engine.runs.subscribe(run.id, ({ status }) => void seen.push(status));
      await expect.poll(() => seen).toEqual(['scheduled']);
      await w.clock.advance('1h');
      await expect.poll(() => seen.at(-1)).toBe('completed');
      expect(await run.result()).toBe('done');
      await expect.poll(() => w.errors.length).toBe(thrown);
      expect(thrown).toBeGreaterThan(1);
      expect(w.errors).toContainEqual(new Error('listener 1'));
    });

    it('an onError that throws breaks nothing either', async () => {
      const w = world(medium);
      let heard = 0;
      const engine = w.engine(
        (stepfast) => void stepfast.job('work', ({ step }) => step.run('note', () => void w.log.push('work'))),
        {
          onError: () => {
            heard++;
            throw new Error('onError');
          },
        },
      );
      const run = await engine.start('work', undefined, { delay: 1 });
      run.subscribe(() => {
        throw new Error('listener');
      });
      await expect.poll(() => heard).toBe(1);
      await w.clock.advance('1h');
      expect(await run.status()).toBe('completed');
      expect(w.log).toEqual(['work']);
    });
  });
});
