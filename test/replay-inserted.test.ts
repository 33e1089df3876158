import { expect, it } from 'vitest';
import { defineJob, type Handler } from '../src/index.js';
import type { StoredRun } from '../src/store/rows.js';
import { replay } from '../src/testing/replay.js';
import { hands, settle, soon } from './hand-kit.js';

/*
 * Pins: `replay` of an exported run against code that asks for something new in front of what is recorded (spec R4): it runs
 * first, and what stands behind it is asked for then. What is renamed or removed is told from that.
 */

type Flow = Handler<unknown, unknown>;

/** What `first`, then `second`, have left of a run that goes on to wait. */
async function recorded(): Promise<Parameters<typeof replay>[0]> {
  const h = hands();
  const engine = h.engine((stepfast) =>
    stepfast.job('flow', async ({ step }) => {
      await step.run('first', () => 1);
      await step.run('second', () => 2);
      await step.waitForEvent('paid');
    }),
  );
  await engine.start('flow', null, { id: 'r' });
  await settle();
  const stored = (await engine.own.load('r')) as StoredRun;
  await soon(engine.close());
  return { format: 1, run: stored.row, journal: stored.journal };
}
const over = async (flow: Flow, options?: Parameters<typeof replay>[2]) =>
  replay(await recorded(), defineJob('flow', flow), options);

it.each<[string, Flow]>([
  ['a step', ({ step }) => step.run('new', () => 0)],
  ['a sleep', ({ step }) => step.sleep('new', '1h')],
  ['a made value', ({ step }) => step.uuid()],
  ['a call', ({ step }) => step.call('other', null, { name: 'new' })],
  ['a start', ({ step }) => step.start('other', null, { name: 'new' })],
  ['a dispatch', ({ step }) => step.dispatch('told', null, { name: 'new' })],
  ['a wait', ({ step }) => step.waitForEvent('new', { correlationKey: 'k' })],
])('R4: %s in front of recorded steps fits, and is told', async (_, word) => {
  const report = await over(async (context) => {
    await word(context);
    const sum = (await context.step.run('first', () => 1)) + (await context.step.run('second', () => 2));
    if (sum !== 3) throw new Error('not what is recorded');
    await context.step.waitForEvent('paid');
  });
  expect(report).toMatchObject({ fits: true, problems: [], inserted: [{ occurrence: 1 }], next: [{ name: 'paid' }] });
  expect(report.replayed.map(({ name }) => name)).toEqual(['first', 'second']);
});

it('R4, R7: one that stands beside what is recorded is no reason to pass over that', async () => {
  const report = await over(async ({ step }) => {
    const behind = async () => {
      await step.run('new', () => 0);
      return step.run('first', () => 1);
    };
    await Promise.all([behind(), step.run('second', () => 2)]);
    await step.waitForEvent('paid');
  });
  expect(report).toMatchObject({ fits: true, problems: [], inserted: [{ name: 'new' }] });
});

it('a step under another name is no inserted one: what was recorded is named', async () => {
  const report = await over(async ({ step }) => {
    await step.run('erste', () => 1);
    await step.run('second', () => 2);
    await step.waitForEvent('paid');
  });
  expect(report).toMatchObject({ fits: false, inserted: [{ name: 'erste' }] });
  expect(report.problems).toEqual([expect.stringMatching(/"first".*does not ask for it any more/)]);
});

it('what a new step gives can be said, and has to be where the handler needs it', async () => {
  const flow: Flow = async ({ step }) => {
    const { name } = await step.run('user', () => ({ name: 'Ada' }));
    await step.run('first', () => name.length);
    await step.run('second', () => 2);
    await step.waitForEvent('paid');
  };
  const unsaid = await over(flow);
  expect(unsaid.fits).toBe(false);
  expect(unsaid.problems[0]).toMatch(/^The handler throws.*The run does not know "user": say with `results`/);
  expect(await over(flow, { results: { user: { name: 'Ada' } } })).toMatchObject({ fits: true, problems: [] });
});

it('F7: a step that was undone and is to run again is none that the code has lost', async () => {
  const h = hands();
  let isDown = true;
  const job = defineJob('flow', { retry: { maxAttempts: 1 } }, async ({ step }) => {
    await step.run('reserve', () => 1, { undo: () => undefined });
    await step.run('mail', () => 2);
    await step.run('ship', () => {
      if (isDown) throw new Error('down');
    });
  });
  const engine = h.engine((stepfast) => stepfast.register(job));
  await engine.start('flow', null, { id: 'r' });
  await settle();
  isDown = false;
  await soon(engine.close());
  const other = h.engine();
  await other.runs.retry('r');
  const { row, journal } = (await other.own.load('r')) as StoredRun;
  expect(row.status).toBe('queued');
  const report = await replay({ format: 1, run: row, journal }, job);
  expect(report).toMatchObject({ fits: true, problems: [], inserted: [{ name: 'reserve' }] });
  await soon(other.close());
});

it('an open wait that the code does not ask for is named: nothing would wake the run', async () => {
  const report = await over(async ({ step }) => {
    await step.run('first', () => 1);
    await step.run('second', () => 2);
    await step.waitForEvent('settled');
  });
  expect(report).toMatchObject({ fits: false, next: [{ name: 'settled' }] });
  expect(report.problems).toEqual([expect.stringMatching(/^wait "paid" \(occurrence 1\) is open, and job "flow"/)]);
});
