import { describe, expect, it } from 'vitest';
import { defineJob, FatalError } from '../src/index.js';
import { testRun } from '../src/testing/index.js';
import { media } from './harness.js';

// Pins: one play of a flow with stepfast/testing: fakes for steps, events that are fed, time that is skipped.

const onboarding = defineJob<{ userId: string }, string>('onboarding', async ({ payload, step }) => {
  const user = await step.run('create-user', (): { name: string } => {
    throw new Error('there is no server here');
  });
  await step.sleep('a-while', '3 days');
  const { payload: said } = await step.waitForEvent<{ by: string }>('verified', {
    correlationKey: payload.userId,
    timeout: '1 day',
    onTimeout: 'fail',
  });
  await step.run('unlock', () => undefined);
  return `${user.name}, by ${said.by}`;
});

const ada = { payload: { userId: '42' }, steps: { 'create-user': () => ({ name: 'ada' }) } };

describe('testRun', () => {
  it('plays a flow with faked steps, fed events and skipped time', async () => {
    const run = await testRun(onboarding, { ...ada, events: { verified: { by: 'mail' } } });
    expect(run).toMatchObject({ status: 'completed', result: 'ada, by mail' });
    expect(run.endedAt! - run.createdAt).toBe(3 * 86_400_000);
    expect(run.entered).toEqual(['create-user', 'unlock']);
    expect(run.timeline.map(({ kind }) => kind)).toContain('event-taken');
    expect(run.errors).toEqual([]);
  });

  it('an event that is not given lets the wait time out', async () => {
    const run = await testRun(onboarding, ada);
    expect(run).toMatchObject({ status: 'failed', error: { code: 'EVENT_TIMEOUT' } });
    expect(run.endedAt! - run.createdAt).toBe(4 * 86_400_000);
  });

  it('a function makes each payload out of the wait', async () => {
    const poll = defineJob('poll', async ({ step }) => {
      const answers: unknown[] = [];
      for (let round = 0; round < 3; round++) {
        const { payload } = await step.waitForEvent(['yes', 'no'], { correlationKey: `k${round}` });
        answers.push(payload);
      }
      return answers;
    });
    const run = await testRun(poll, {
      events: { no: (wait: { occurrence: number; correlationKey?: string }) => [wait.occurrence, wait.correlationKey] },
    });
    expect(run.result).toEqual([
      [1, 'k0'],
      [2, 'k1'],
      [3, 'k2'],
    ]);
  });

  it('a wait that nothing answers and no timeout ends leaves the run waiting', async () => {
    const stuck = defineJob('stuck', ({ step }) => step.waitForEvent('go', { correlationKey: 'k' }));
    expect(await testRun(stuck)).toMatchObject({
      status: 'waiting',
      waitingFor: [{ events: ['go'], correlationKey: 'k' }],
    });
  });

  it('fakes reach the steps of children, are retried, and undone', async () => {
    const child = defineJob('child', ({ step }) => step.run('deep', () => 'real'));
    const parent = defineJob('parent', async ({ step }) => {
      await step.run('book', () => 'real', { undo: () => undefined });
      return step.call(child);
    });
    let tries = 0;
    const deep = () => {
      if (++tries < 3) throw new Error('busy');
      throw new FatalError('no');
    };
    const run = await testRun(parent, { jobs: [child], steps: { deep, book: () => 'faked' } });
    expect(run.status).toBe('failed');
    expect(run.entered).toEqual(['book', 'deep', 'deep', 'deep', 'undo book']);
  });

  it('what is made by chance is the same every time, on every store', async () => {
    const chance = defineJob('chance', async ({ step }) => [await step.random(), await step.uuid(), await step.now()]);
    const runs = [];
    for (const store of Object.values(media)) runs.push(await testRun(chance, {}, { store }));
    expect(runs.map(({ status }) => status)).toEqual(['completed', 'completed', 'completed']);
    expect(new Set(runs.map(({ result }) => JSON.stringify(result))).size).toBe(1);
  });

  it('play does what else happens: here, somebody cancels after an hour', async () => {
    const run = await testRun(onboarding, {
      ...ada,
      async play(stepfast, clock) {
        await clock.advance('1h');
        await stepfast.runs.cancel('run');
      },
    });
    expect(run).toMatchObject({ status: 'cancelled' });
    expect(run.endedAt! - run.createdAt).toBe(3_600_000);
  });

  it('a flow without end is told', async () => {
    const forever = defineJob('forever', async ({ step }) => {
      await step.sleep('a-day', '1 day');
      return step.restart();
    });
    await expect(testRun(forever)).rejects.toMatchObject({ code: 'NOTHING_DUE' });
  });

  it.each([
    [{ steps: { a: 'b' } }, 'steps["a"] is "b"'],
    [{ play: 1 }, 'play is 1'],
    [{ effects: {} }, 'effects is an object'],
    [{ jobs: {} }, 'jobs is an object'],
    [null, 'scenario is null'],
  ])('the scenario %j is refused', async (scenario, said) => {
    await expect(testRun(onboarding, scenario as never)).rejects.toThrow(said);
  });
});
