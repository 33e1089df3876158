import { defineJob } from '../../../../src/index.js';
import { done, SEATS } from '../media.js';
import type { Flow } from '../stage.js';

/** Flows in which one run comes to its end. */
export const ofOneRun: readonly Flow[] = [
  {
    name: 'onboarding',
    words: ['run', 'waitForEvent', 'idempotent start'],
    jobs: () => [
      defineJob<{ userId: string }, string>('onboarding', async ({ payload, step }) => {
        const user = await step.run('create-user', ({ idempotencyKey }) => `${payload.userId} ${idempotencyKey}`);
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
  {
    name: 'timeout',
    words: ['waitForEvent', 'onTimeout'],
    jobs: () => [
      defineJob('timeout', async ({ step }) => {
        const first = await step.waitForEvent('never', { timeout: '1h', onTimeout: 'continue' });
        const second = await step.waitForEvent('never', { timeout: '1h' }).catch((error) => error.code);
        await step.run('give-up', () => undefined);
        return [first.timedOut, second];
      }),
    ],
    acts: [(stepfast) => stepfast.start('timeout', undefined, { id: 'r' })],
  },
  {
    name: 'early-event',
    words: ['event before wait', 'several events', 'match'],
    jobs: () => [
      defineJob('early-event', async ({ step }) => {
        await step.sleep('late', '1h');
        const first = await step.waitForEvent<number>(['a', 'b'], { correlationKey: 'k' });
        const second = await step.waitForEvent<number>('a', { correlationKey: 'k', match: (n: number) => n > 2 });
        return [first.name, first.payload, second.payload];
      }),
    ],
    acts: [
      (stepfast) => stepfast.start('early-event', undefined, { id: 'r' }),
      (stepfast) => stepfast.dispatch('b', 1, { correlationKey: 'k', idempotencyKey: 'e1' }),
      (stepfast) => stepfast.dispatch('a', 2, { correlationKey: 'k', idempotencyKey: 'e2' }),
      (stepfast) => stepfast.dispatch('a', 3, { correlationKey: 'k', idempotencyKey: 'e3' }),
    ],
  },
  {
    name: 'sleep',
    words: ['sleep', 'sleepUntil', 'delay'],
    jobs: () => [
      defineJob('sleep', async ({ step }) => {
        await step.sleep('a-week', '7 days');
        await step.sleepUntil('past', 0);
        await step.sleepUntil('new-year', '2027-01-01T00:00:00Z');
        return step.run('wake', () => 'awake');
      }),
    ],
    acts: [(stepfast) => stepfast.start('sleep', undefined, { id: 'r', delay: '1h' })],
  },
  {
    name: 'parallel',
    words: ['parallel', 'run', 'sleep', 'waitForEvent'],
    jobs: () => [
      defineJob('parallel', async ({ step }) => {
        const [a, b, , d] = await Promise.all([
          step.run('a', () => 'a'),
          step.run('b', async () => {
            await undefined;
            return 'b';
          }),
          step.sleep('c', '1m'),
          step.waitForEvent<string>('d'),
          step.run('same', () => 1),
          step.run('same', () => 2),
        ]);
        return [a, b, d.payload, await step.run('last', () => 'last')];
      }),
    ],
    acts: [
      (stepfast) => stepfast.start('parallel', undefined, { id: 'r' }),
      (stepfast) => stepfast.dispatch('d', 'd', { idempotencyKey: 'e' }),
    ],
  },
  {
    name: 'race',
    words: ['race', 'waitForEvent', 'sleep'],
    jobs: () => [
      defineJob('race', async ({ step }) => {
        const first = await step.race([step.waitForEvent<string>('go'), step.sleep('patience', '1h')]);
        const second = await step.race([step.waitForEvent<string>('go'), step.sleep('patience', '1h')]);
        await step.run('after', () => undefined);
        return [first?.payload, second];
      }),
    ],
    acts: [
      (stepfast) => stepfast.start('race', undefined, { id: 'r' }),
      (stepfast) => stepfast.dispatch('go', 'went', { idempotencyKey: 'e' }),
    ],
  },
  {
    name: 'retry',
    words: ['retry', 'StepError'],
    jobs: (world) => [
      defineJob('retry', async ({ step }) => {
        const flaky = await step.run('flaky', ({ idempotencyKey }) => {
          world.did(idempotencyKey);
          if (world.count(idempotencyKey) < 3) throw new Error('busy');
          return 'done';
        });
        const hopeless = await step
          .run(
            'hopeless',
            () => {
              throw new Error('never');
            },
            { retry: { maxAttempts: 2, initialDelay: '1m' } },
          )
          .catch((error) => error.cause.message);
        return [flaky, hopeless];
      }),
    ],
    acts: [(stepfast) => stepfast.start('retry', undefined, { id: 'r' })],
  },
  {
    name: 'made',
    words: ['now', 'uuid', 'random', 'log', 'progress'],
    jobs: () => [
      defineJob('made', async ({ step, log }) => {
        const made = [await step.now(), await step.random(), await step.uuid()];
        log.info('made');
        await step.run('tell', (context) => {
          context.log.info('telling', { made });
          context.progress(0.5);
        });
        return made;
      }),
    ],
    acts: [(stepfast) => stepfast.start('made', undefined, { id: 'r' })],
    // A step that was in flight at a crash says its lines again.
    view: async (stepfast) => [
      ...new Set(
        (await stepfast.runs.timeline('r')).flatMap(({ kind, message }) => (kind === 'logged' ? [message] : [])),
      ),
    ],
  },
  {
    name: 'restart',
    words: ['restart', 'waitForEvent', 'generation'],
    jobs: () => [
      defineJob<{ round: number; heard: string[] }, string[]>('restart', async ({ payload, step }) => {
        const { round, heard } = payload;
        const { payload: said } = await step.waitForEvent<string>('say', { correlationKey: 'k' });
        await step.run('hear', () => said);
        if (round < 2) return step.restart({ round: round + 1, heard: [...heard, said] });
        return [...heard, said];
      }),
    ],
    acts: [
      (stepfast) => stepfast.start('restart', { round: 0, heard: [] }, { id: 'r' }),
      (stepfast) => stepfast.dispatch('say', 'one', { correlationKey: 'k', idempotencyKey: 'e1' }),
      (stepfast) => stepfast.dispatch('say', 'two', { correlationKey: 'k', idempotencyKey: 'e2' }),
      (stepfast) => stepfast.dispatch('say', 'three', { correlationKey: 'k', idempotencyKey: 'e3' }),
    ],
  },
  {
    name: 'transaction',
    words: ['transaction'],
    media: ['indexeddb'],
    jobs: () => {
      /** One seat more: twice, if it were ever done twice. */
      const take = async (tx: IDBTransaction): Promise<number> => {
        const seats = tx.objectStore(SEATS);
        const taken = ((await done(seats.get('taken'))) ?? 0) + 1;
        await done(seats.put(taken, 'taken'));
        return taken;
      };
      return [
        defineJob('transaction', async ({ step }) => {
          const first = await step.transaction('take', [SEATS], take);
          await step.run('mail', () => 'sent');
          return [first, await step.transaction('take', [SEATS], take)];
        }),
      ];
    },
    acts: [(stepfast) => stepfast.start('transaction', undefined, { id: 'r' })],
  },
];
