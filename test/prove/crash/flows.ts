import { defineJob } from '../../../src/index.js';
import type { Flow } from './stage.js';

export const flows: readonly Flow[] = [
  {
    name: 'onboarding',
    words: ['run', 'waitForEvent', 'timeout', 'idempotent start'],
    jobs: (world) => [
      defineJob<{ userId: string }, string>('onboarding', async ({ payload, step }) => {
        const user = await step.run('create-user', ({ idempotencyKey }) => {
          world.did('created');
          return `${payload.userId}/${idempotencyKey.split('/').at(-1)}`;
        });
        await step.run('send-mail', () => undefined);
        const event = await step.waitForEvent<{ by: string }>('verified', {
          correlationKey: payload.userId,
          timeout: '24h',
          onTimeout: 'fail',
        });
        await step.run('unlock', async () => {
          await undefined;
        });
        return `${user} ${event.payload.by}`;
      }),
    ],
    acts: [
      (stepfast) => stepfast.start('onboarding', { userId: '42' }, { id: 'r', idempotencyKey: 'k' }),
      (stepfast) => stepfast.dispatch('verified', { by: 'ada' }, { correlationKey: '42', idempotencyKey: 'e' }),
    ],
  },
];
