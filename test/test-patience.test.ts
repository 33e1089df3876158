import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { memoryStore } from '../adapters/memory/index.js';
import { createStepfast, defineJob, FatalError, type Stepfast } from '../src/index.js';
import { crashEverywhere, failingStore, type SimulatedClock, simulatedClock, testRun } from '../src/testing/index.js';

// Pins: real time in stepfast/testing. What is only slow is waited for, what hangs is told, and nothing that was not played
// to its end counts as played (spec R7).

const real = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const never = () => new Promise<never>(() => undefined);

let sent: string[] = [];
const mailing = defineJob('mailing', async ({ step }) => {
  await real(5);
  await step.run('look', () => undefined);
  await real(20); // a request between two steps
  await step.run('mail', () => void sent.push('mail'));
  return 'sent';
});

beforeEach(() => {
  vi.spyOn(console, 'warn').mockImplementation(() => undefined);
});
afterEach(() => {
  vi.restoreAllMocks();
});
const told = () => vi.mocked(console.warn).mock.calls.map(([said]) => String(said));

describe('a handler that awaits something else between its steps', () => {
  it('R7: testRun plays it to its end', async () => {
    const run = await testRun(mailing);
    expect(run).toMatchObject({ status: 'completed', result: 'sent' });
    expect(run.entered).toEqual(['look', 'mail']);
  });

  it('R7: so does a module that is loaded for the first time', async () => {
    const lazy = defineJob('lazy', async ({ step }) => {
      await step.run('look', () => undefined);
      const { digit } = await import(`data:text/javascript,export const digit = ${7};`);
      return step.run('use', () => digit);
    });
    expect(await testRun(lazy)).toMatchObject({ status: 'completed', result: 7 });
  });

  it('R7: crashEverywhere comes to the steps behind it, and finds what is wrong with them', async () => {
    const played = crashEverywhere(mailing, () => {
      sent = [];
      return { effects: () => sent };
    });
    await expect(played).rejects.toMatchObject({ code: 'NOT_CRASH_SAFE' });
    await expect(played).rejects.toThrow('"mail"');
  });

  it('R7: crashEverywhere finds it safe where it is, each time', async () => {
    const safe = defineJob('safe', async ({ step }) => {
      await real(1);
      await step.run('a', () => 1);
      await real(2);
      return step.run('b', () => 2);
    });
    const first = await crashEverywhere(safe);
    expect(first.repeated).toEqual(['a', 'b']);
    expect(await crashEverywhere(safe)).toEqual(first);
  });

  it('R7: advance comes to the sleep behind it', async () => {
    const clock = simulatedClock();
    const engine = createStepfast({ store: memoryStore(), clock });
    engine.job('naps', async ({ step }) => {
      await step.run('look', () => undefined);
      await real(20);
      await step.sleep('nap', '1h');
    });
    const run = await engine.start('naps');
    await clock.advance('2h');
    expect(await run.status()).toBe('completed');
    await engine.close();
  });

  it('R7: what it awaits beside an open wait is given time before the play is over', async () => {
    const beside = defineJob('beside', async ({ step }) => {
      const mail = async () => {
        await real(20);
        await step.run('mail', () => void sent.push('mail'));
      };
      await Promise.all([step.waitForEvent('never'), mail()]);
    });
    const run = await testRun(beside);
    expect(run).toMatchObject({ status: 'waiting', entered: ['mail'] });
    const played = crashEverywhere(beside, () => {
      sent = [];
      return { effects: () => sent };
    });
    await expect(played).rejects.toMatchObject({ code: 'NOT_CRASH_SAFE' });
  });
});

describe('a handler that is replayed to find the undo of a step', () => {
  it('F7: is given the time that it takes to come to that step', async () => {
    const undone = vi.fn();
    const trip = defineJob('trip', async ({ step }) => {
      await real(20);
      await step.run('book', () => undefined, { undo: undone });
      throw new FatalError('no');
    });
    const { repeated } = await crashEverywhere(trip);
    expect(repeated).toEqual(['book', 'undo of book']);
    expect(undone).toHaveBeenCalled();
  });
});

describe('what does not come', () => {
  const stuck = defineJob('stuck', async ({ step }) => {
    await step.run('look', () => undefined);
    await never();
  });
  const patience = '100ms';

  it('a handler that awaits what never comes is refused, with what to do', async () => {
    const refusal = {
      code: 'NOTHING_DUE',
      message: expect.stringMatching(/Run "run" of job "stuck" is running.*patience/s),
    };
    await expect(testRun(stuck, {}, { patience })).rejects.toMatchObject(refusal);
    await expect(crashEverywhere(stuck, {}, { patience })).rejects.toMatchObject(refusal);
  });

  it('so is one that would be ended by the timeout of its job: what follows its await was never played', async () => {
    const timed = defineJob('stuck', { timeout: '1h' }, async () => never());
    await expect(crashEverywhere(timed, {}, { patience })).rejects.toMatchObject({ code: 'NOTHING_DUE' });
  });

  it('a step that hangs and has no timeout is refused by its name', async () => {
    const hangs = defineJob('hangs', ({ step }) => step.run('fetch', never));
    await expect(testRun(hangs, {}, { patience })).rejects.toThrow(/"fetch".*\[NOTHING_DUE\]/s);
  });

  it('a play that hangs after a crash alone is a violation', async () => {
    let lives = 0;
    const moody = defineJob('moody', async ({ step }) => {
      if (++lives > 1) await never();
      await step.run('look', () => undefined);
    });
    const played = crashEverywhere(
      moody,
      () => {
        lives = 0;
        return {};
      },
      { patience },
    );
    await expect(played).rejects.toMatchObject({ code: 'NOT_CRASH_SAFE' });
    await expect(played).rejects.toThrow('is running');
  });

  it('a child that is left at work is refused, though its parent has ended', async () => {
    const parent = defineJob('parent', async ({ step }) => void (await step.start(stuck)));
    await expect(testRun(parent, { jobs: [stuck] }, { patience })).rejects.toThrow('of job "stuck" is running');
  });

  it('F9: a step that hangs while its run is cancelled is undone, once the engine expects no late result of it any more', async () => {
    const hangs = defineJob('hangs', ({ step }) => step.run('book', never, { undo: () => undefined }));
    const play = async (stepfast: Stepfast, clock: SimulatedClock) => {
      await clock.idle();
      await stepfast.runs.cancel('run');
    };
    const run = await testRun(hangs, { play }, { patience });
    expect(run).toMatchObject({ status: 'cancelled', entered: ['book', 'undo book'] });
    expect(run.undoing).toBeUndefined();
  });

  it('a store that fails, and is tried again in real time, is waited for', async () => {
    const flaky = () => {
      const inner = memoryStore();
      return () => failingStore(inner, [{ at: 3 }]);
    };
    const one = defineJob('one', ({ step }) => step.run('a', () => 1));
    expect(await testRun(one, {}, { store: flaky })).toMatchObject({ status: 'completed', result: 1 });
  });
});

describe('a step that is slow, and one that hangs', () => {
  const slow = (work: () => Promise<unknown>) =>
    defineJob('slow', ({ step }) => step.run('work', work, { timeout: '1h', retry: { maxAttempts: 1 } }));

  it('F8: real work is not skipped over, as long as the patience lasts', async () => {
    const run = await testRun(
      slow(() => real(300)),
      {},
      { patience: '10s' },
    );
    expect(run).toMatchObject({ status: 'completed' });
    expect(told()).toEqual([]);
  });

  it('F8: a step that hangs comes to its timeout once the patience is over, and that is told by its name', async () => {
    const run = await testRun(slow(never), {}, { patience: '50ms' });
    expect(run).toMatchObject({ status: 'failed', error: { code: 'STEP_FAILED' } });
    expect(run.attempts).toMatchObject([{ error: { code: 'STEP_TIMEOUT' } }]);
    expect(told()).toEqual([expect.stringMatching(/"work".*patience/s)]);
  });

  it('Q3: a patience in milliseconds is told with its unit', async () => {
    await testRun(slow(never), {}, { patience: 50 });
    expect(told()).toEqual([expect.stringContaining('for 50 ms of real time')]);
  });

  it('F8: a clock of its own has the same patience, and tells of its end once', async () => {
    const clock = simulatedClock({ patience: '50ms' });
    const engine = createStepfast({ store: memoryStore(), clock });
    engine.register(slow(never));
    const run = await engine.start('slow');
    await clock.advance('30m');
    await clock.advance('30m');
    expect((await engine.runs.get(run.id))!.attempts).toMatchObject([{ error: { code: 'STEP_TIMEOUT' } }]);
    expect(told()).toEqual([expect.stringContaining('simulatedClock({ patience })')]);
    await engine.close();
  });

  it('Q3: a patience that is no duration is refused', async () => {
    const patience = 'long' as never;
    expect(() => simulatedClock({ patience })).toThrow(expect.objectContaining({ code: 'INVALID_DURATION' }));
    await expect(testRun(slow(never), {}, { patience })).rejects.toMatchObject({ code: 'INVALID_DURATION' });
  });
});
