import { describe, expect, it, vi } from 'vitest';
import { memoryStore } from '../adapters/memory/index.js';
import { schedules } from '../plugins/schedules/index.js';
import { defineJob, FatalError, type StepfastError } from '../src/index.js';
import {
  crashEverywhere,
  failingStore,
  replay,
  runConformance,
  simulatedClock,
  storeConformance,
  testRun,
} from '../src/testing/index.js';

// Pins: what the plays and the failing store of stepfast/testing are given. What they can not use is refused by its name, and
// each engine of a play can have plug-ins of its own.

const plain = defineJob('plain', ({ step }) => step.run('a', () => 1));
const invalid = (said: string) => ({ code: 'INVALID_OPTION', message: expect.stringContaining(said) });

describe('what a play is given', () => {
  it.each([
    [{ start: { id: 'mine' } }, 'An option in the start of the scenario is "id"'],
    [{ start: { idempotencyKey: 'k' } }, 'An option in the start of the scenario is "idempotencyKey"'],
    [{ start: 5 }, 'The start of the scenario is 5'],
    [{ steps: null }, 'steps is null'],
    [{ events: 5 }, 'events is 5'],
    [{ steps: new Map([['a', () => 1]]) }, 'steps is an object. Give a plain object'],
    [{ undos: { a: 1 } }, 'undos["a"] is 1'],
    [{ jobs: ['x'] }, 'The job is "x"'],
    [{ jobs: [{ name: 'x' }] }, 'The options of job "x" is undefined'],
  ])('the scenario %j is refused', async (scenario, said) => {
    await expect(testRun(plain, scenario as never)).rejects.toMatchObject(invalid(said));
    await expect(crashEverywhere(plain, scenario as never)).rejects.toMatchObject(invalid(said));
  });

  it.each([
    [{ engine: 5 }, 'The engine of the play is 5'],
    [{ engine: null }, 'The engine of the play is null'],
    [{ engine: { clock: 1 } }, 'An option in the engine of the play is "clock"'],
    [{ engine: { onError: () => undefined } }, 'An option in the engine of the play is "onError"'],
    [{ engine: () => 5 }, 'The engine of the play is 5'],
    [{ store: {} }, 'store is an object'],
    [{ now: -1 }, 'now is -1. Give an instant from 1970 on'],
    [{ store: () => ({}) }, 'What store gave is an object'],
    [{ store: () => () => 5 }, 'store is 5'],
  ])('the options %j are refused', async (options, said) => {
    await expect(testRun(plain, {}, options as never)).rejects.toMatchObject(invalid(said));
    await expect(crashEverywhere(plain, {}, options as never)).rejects.toMatchObject(invalid(said));
  });

  it('crashEverywhere refuses a double that is neither true nor false', async () => {
    await expect(crashEverywhere(plain, {}, { double: 2 as never })).rejects.toMatchObject(invalid('double is 2'));
  });

  it('testRun refuses what crashEverywhere alone can do', async () => {
    await expect(testRun(plain, {}, { double: true } as never)).rejects.toMatchObject(invalid('"double"'));
  });

  it('other options of the start are passed on', async () => {
    const run = await testRun(plain, { start: { delay: '5h', tags: ['slow'] } });
    expect(run).toMatchObject({ status: 'completed', tags: ['slow'] });
    expect(run.startedAt! - run.createdAt).toBe(5 * 3_600_000);
  });
});

describe('what the suite, a replay and a clock are given', () => {
  it('a medium is a function, also where no case has been run yet', async () => {
    const runner = { describe: vi.fn(), it: vi.fn() };
    for (const medium of [undefined, {}, memoryStore()] as never[]) {
      expect(() => storeConformance('x', medium, runner)).toThrow(expect.objectContaining(invalid('freshMedium is')));
      await expect(runConformance(medium)).rejects.toMatchObject(invalid('freshMedium is'));
    }
    expect(runner.describe).not.toHaveBeenCalled();
    for (const odd of [undefined, {}, { describe: vi.fn() }] as never[])
      expect(() => storeConformance('x', () => memoryStore, odd)).toThrow(
        expect.objectContaining(invalid('The test runner is')),
      );
  });

  it('results and state of a replay are objects', async () => {
    for (const odd of [null, 5, 'x', new Map()] as never[]) {
      await expect(replay({} as never, plain, { results: odd })).rejects.toMatchObject(invalid('results is'));
      await expect(replay({} as never, plain, { state: odd })).rejects.toMatchObject(invalid('state is'));
    }
  });

  it('what is skipped to is a promise', async () => {
    const clock = simulatedClock();
    for (const odd of [undefined, () => 1, {}] as never[])
      await expect(clock.skipUntil(odd)).rejects.toMatchObject(invalid('The promise is'));
  });
});

describe('the engines of a play', () => {
  it('a function makes the options of each, so that each has a schedules() of its own', async () => {
    const makes = vi.fn(() => ({ use: [schedules()] }));
    const report = await crashEverywhere(plain, {}, { engine: makes });
    // Two plays without a crash, and two lives in each of the others.
    expect(makes).toHaveBeenCalledTimes(2 + 2 * report.crashes);
    expect(await testRun(plain, {}, { engine: makes })).toMatchObject({ status: 'completed' });
  });

  it('one that can not be made is no violation: the error is thrown as it is', async () => {
    const use = [schedules()];
    const error = await crashEverywhere(plain, {}, { engine: { use } }).catch((thrown: StepfastError) => thrown);
    expect(error).toMatchObject(invalid('each engine a schedules() of its own'));
  });
});

describe('a faked step that can be undone', () => {
  const trip = defineJob('trip', async ({ step }) => {
    const undo = () => {
      throw new Error('there is no bank here');
    };
    await step.run('charge', undo, { undo });
    throw new FatalError('no');
  });

  it('F7: its own undo is not called, and recorded as done', async () => {
    const run = await testRun(trip, { steps: { charge: () => 'c1' } });
    expect(run).toMatchObject({ status: 'failed', entered: ['charge', 'undo charge'], errors: [] });
    expect(run.timeline.filter(({ kind }) => kind === 'undone')).toMatchObject([{ name: 'charge' }]);
  });

  it('F7: an undo can be faked by the name of its step, and is given what the step returned', async () => {
    const refund = vi.fn();
    await testRun(trip, { steps: { charge: () => 'c1' }, undos: { charge: ({ result }) => void refund(result) } });
    expect(refund.mock.calls).toEqual([['c1']]);
  });

  it('F7: the undo of a step that runs as it is can be faked alone', async () => {
    const real = vi.fn();
    const book = defineJob('book', async ({ step }) => {
      await step.run('book', () => 'b1', { undo: real });
      throw new FatalError('no');
    });
    await testRun(book);
    expect(real).toHaveBeenCalledOnce();
    const faked = vi.fn();
    await testRun(book, { undos: { book: faked } });
    expect(real).toHaveBeenCalledOnce();
    expect(faked).toHaveBeenCalledOnce();
  });

  it('F7: where there is nothing to undo, a fake is not called', async () => {
    const faked = vi.fn();
    const run = await testRun(plain, { undos: { a: faked } });
    expect(run.status).toBe('completed');
    expect(faked).not.toHaveBeenCalled();
  });
});

describe('the faults of a failing store', () => {
  it.each([[5], [null], [{}], ['at']])('a list of them that is %j is refused', (faults) => {
    expect(() => failingStore(memoryStore(), faults as never)).toThrow(expect.objectContaining(invalid('faults is')));
  });

  it('so is a code that there is not, and a call', () => {
    const store = failingStore(memoryStore());
    expect(() => store.fail({ error: 'NOPE' as never })).toThrow(expect.objectContaining(invalid('error is "NOPE"')));
    expect(() => store.calls('zz' as never)).toThrow(expect.objectContaining(invalid('call is "zz"')));
  });
});
