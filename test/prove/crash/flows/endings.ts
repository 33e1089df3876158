import { defineJob, FatalError } from '../../../../src/index.js';
import type { Flow, Sight } from '../stage.js';

const isIn =
  (status: 'completed' | 'failed'): Sight =>
  async (stepfast) =>
    (await stepfast.runs.get('r'))?.status === status;

/** Flows that end otherwise than by a result, and what follows. */
export const endings: readonly Flow[] = [
  {
    name: 'undo',
    words: ['undo', 'onFailed', 'FatalError'],
    jobs: (world) => [
      defineJob('undo', { onFailed: ({ error }) => world.did(`told ${error.message}`) }, async ({ step }) => {
        await step.run('flight', () => 'f1', { undo: ({ result }) => world.did(`undid ${result}`) });
        await step.run('hotel', () => 'h1', {
          undo: ({ idempotencyKey }) => {
            world.did(idempotencyKey);
            if (world.count(idempotencyKey) < 2) throw new Error('busy');
          },
        });
        throw new FatalError('sold out');
      }),
    ],
    acts: [(stepfast) => stepfast.start('undo', undefined, { id: 'r' })],
  },
  {
    name: 'cancel-mid-step',
    words: ['cancel', 'signal', 'undo'],
    jobs: (world) => [
      defineJob('cancel', async ({ step }) => {
        await step.run('book', () => 'b1', { undo: ({ result }) => world.did(`undid ${result}`) });
        await step.run(
          'hang',
          ({ signal }) =>
            new Promise((_, reject) => {
              signal.addEventListener('abort', reject);
              world.did('hung');
            }),
        );
      }),
    ],
    acts: [
      (stepfast) => stepfast.start('cancel', undefined, { id: 'r' }),
      { until: async (_, { count }) => count('hung') > 0 },
      (stepfast) => stepfast.runs.cancel('r'),
    ],
  },
  {
    name: 'cancel-parent',
    words: ['cancel', 'call', 'start'],
    jobs: () => [
      defineJob('parent', async ({ step }) => {
        await step.start('child', 'left');
        await step.call('child', 'awaited', { name: 'called' });
      }),
      defineJob('child', ({ step }) => step.waitForEvent('never')),
    ],
    acts: [
      (stepfast) => stepfast.start('parent', undefined, { id: 'r' }),
      { until: async (stepfast) => (await stepfast.runs.list()).runs.length === 3 },
      (stepfast) => stepfast.runs.cancel('r'),
    ],
  },
  {
    name: 'retry-a-run',
    words: ['runs.retry', 'handler failure'],
    jobs: (world) => [
      defineJob('fix', async ({ step }) => {
        await step.run('kept', () => 'kept');
        return step.run('broken', () => {
          if (!world.count('fixed')) throw new FatalError('broken');
          return 'works';
        });
      }),
    ],
    acts: [
      (stepfast) => stepfast.start('fix', undefined, { id: 'r' }),
      { until: isIn('failed') },
      'fix',
      async (stepfast) => {
        const run = await stepfast.runs.get('r');
        if (run?.status === 'failed') await stepfast.runs.retry('r');
      },
    ],
  },
  {
    name: 'fork-and-delete',
    words: ['runs.fork', 'runs.delete'],
    jobs: () => [
      defineJob('split', async ({ step }) => {
        const first = await step.run('first', () => 1);
        return [first, await step.run('second', () => 2)];
      }),
    ],
    acts: [
      (stepfast) => stepfast.start('split', undefined, { id: 'r', idempotencyKey: 'k' }),
      { until: isIn('completed') },
      async (stepfast) => {
        // Not idempotent by itself: a fork has an id of its own. Its user looks whether it is there.
        const { runs } = await stepfast.runs.list();
        if (runs.length === 1) await stepfast.runs.fork('r', { before: 'second' });
      },
      (stepfast) => stepfast.runs.delete('r'),
    ],
  },
];
