import { beforeEach, describe, expect, it } from 'vitest';
import { defineJob, FatalError, type StepfastError } from '../src/index.js';
import { type CrashReport, crashEverywhere, type Scenario } from '../src/testing/index.js';

// Pins: whom crashEverywhere blames: who changed the world once more, and nobody else.

let world: string[] = [];
const add = (what: string) => void world.push(what);
const fresh = (more: Partial<Scenario>) => ({ effects: () => world, ...more });

/** Plays it, and gives what was said of the effects, each sentence once. */
async function blamed(job: Parameters<typeof crashEverywhere>[0], more: Partial<Scenario> = {}) {
  const scenario = () => {
    world = [];
    return fresh(more);
  };
  const error = await crashEverywhere(job as never, scenario).then(
    () => undefined,
    (thrown: StepfastError) => thrown,
  );
  expect(error).toMatchObject({ code: 'NOT_CRASH_SAFE' });
  const { violations } = error!.data as CrashReport;
  const found = violations.filter(({ kind }) => kind === 'effects');
  return {
    said: [
      ...new Set(found.map(({ message }) => message.replace(/ The world ended as .*? instead of .*?\.(?= |$)/, ''))),
    ],
    steps: [...new Set(found.map(({ step }) => step))],
  };
}

beforeEach(() => {
  world = [];
});

describe('whom crashEverywhere blames', () => {
  it('the handler, for what it does between its steps', async () => {
    const job = defineJob('between', async ({ step }) => {
      await step.run('good', () => 1);
      add('by the handler');
      await step.run('better', () => 1);
    });
    const { said, steps } = await blamed(job as never);
    expect(said).toEqual([expect.stringMatching(/^Not in a step: what the handler .* Put it into a step\.$/)]);
    expect(steps).toEqual([undefined]);
  });

  it('onFailed, and no idempotencyKey, which it has not', async () => {
    const job = defineJob('fails', { onFailed: () => add('told') }, async () => {
      throw new FatalError('no');
    });
    const { said, steps } = await blamed(job as never);
    expect(said).toEqual([expect.stringMatching(/^Not idempotent: onFailed, entered twice\./)]);
    expect(said[0]).not.toContain('idempotencyKey');
    expect(steps).toEqual([undefined]);
  });

  it('of two steps at once the one that is not idempotent', async () => {
    const job = defineJob('both', async ({ step }) => {
      await Promise.all([step.run('good', ({ idempotencyKey }) => idempotencyKey), step.run('bad', () => add('bad'))]);
    });
    const { said, steps } = await blamed(job as never);
    expect(said).toEqual([expect.stringMatching(/^Not idempotent: "bad", entered twice\..*idempotencyKey/)]);
    expect(steps).toEqual(['bad']);
  });

  it('a step and the handler, where both are to blame', async () => {
    const job = defineJob('all', async ({ step }) => {
      add('by the handler');
      await step.run('bad', () => add('bad'));
    });
    const { said } = await blamed(job as never);
    expect(said.some((each) => each.includes('"bad", entered twice') && each.includes('the handler'))).toBe(true);
  });

  it('all who may be, where effects can not be looked at on the way: the step, and the handler', async () => {
    const job = defineJob('late', async ({ step }) => {
      await step.run('good', () => 1);
      add('by the handler');
    });
    const { said, steps } = await blamed(job as never, { effects: async () => world } as never);
    expect(said).not.toEqual([]);
    for (const each of said) expect(each).toContain('the handler');
    expect(steps).toEqual([undefined]);
  });

  it('nobody by name, where a step did something else at another attempt', async () => {
    const job = defineJob('counts', async ({ step }) => {
      await step.run('retried', ({ attempt }) => {
        add('once');
        if (attempt === 1) throw new Error('busy');
      });
    });
    const { said } = await blamed(job as never);
    expect(said).toContainEqual(expect.stringMatching(/^No step was entered twice\..*`attempt`/));
  });

  it('the scenario, where plays without a crash differ', async () => {
    let plays = 0;
    const job = defineJob('steady', ({ step }) => step.run('a', () => 1));
    const { said, steps } = await blamed(job as never, { effects: () => ++plays } as never);
    expect(said).toEqual([expect.stringMatching(/^The scenario differs from itself\. Give it as a function/)]);
    expect(steps).toEqual([undefined]);
  });

  it('a play that breaks before it comes to its crash is a violation', async () => {
    let plays = 0;
    const job = defineJob('breaks', ({ step }) => step.run('a', () => 1));
    const play = () => {
      if (plays > 4) throw new Error('no user comes'); // the first four are those without a crash, and those that die in the start
    };
    const scenario = () => {
      plays++;
      return { play };
    };
    await expect(crashEverywhere(job, scenario)).rejects.toThrow('no user comes');
  });
});
