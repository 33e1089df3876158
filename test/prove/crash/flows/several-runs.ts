import { schedules } from '../../../../plugins/schedules/index.js';
import { defineJob } from '../../../../src/index.js';
import type { Flow } from '../stage.js';

/** Flows of several runs: children, queues, schedules, shared state. */
export const ofSeveralRuns: readonly Flow[] = [
  {
    name: 'call',
    words: ['call', 'parallel'],
    jobs: () => [
      defineJob('parent', async ({ step }) => {
        const [one, two] = await Promise.all([
          step.call('child', 1),
          step.call('child', -1, { name: 'bad' }).catch((error) => error.cause.message),
        ]);
        return [one, two, await step.run('own', () => 'own')];
      }),
      defineJob<number, number>('child', async ({ payload, step }) => {
        await step.sleep('nap', '1m');
        if (payload < 0) throw new Error('no');
        return step.run('double', () => payload * 2);
      }),
    ],
    acts: [(stepfast) => stepfast.start('parent', undefined, { id: 'r', retry: { maxAttempts: 1 } })],
  },
  {
    name: 'start-and-dispatch',
    words: ['start', 'dispatch'],
    jobs: () => [
      defineJob('parent', async ({ step }) => {
        const { id } = await step.start('child');
        const { resumed } = await step.dispatch('go', 'went', { correlationKey: 'k' });
        return [id.length > 0, resumed.length <= 1];
      }),
      defineJob('child', async ({ step }) => (await step.waitForEvent('go', { correlationKey: 'k' })).payload),
    ],
    acts: [(stepfast) => stepfast.start('parent', undefined, { id: 'r' })],
  },
  {
    name: 'state',
    words: ['state', 'increment', 'set', 'lock'],
    jobs: () => [
      defineJob<number>('count', async ({ payload, step }) => {
        await step.run('add', async ({ state }) => {
          void state.increment('delta', payload);
          await state.set(`seen:${payload}`, true);
        });
        return step.run('ask', async ({ state }) => (await state.increment('asked')) > 0);
      }),
    ],
    acts: [
      (stepfast) => stepfast.start('count', 1, { id: 'a' }),
      (stepfast) => stepfast.start('count', 10, { id: 'b' }),
      (stepfast) => stepfast.state.set('own', 'value'),
    ],
    view: async ({ state }) => Promise.all(['delta', 'asked', 'seen:1', 'seen:10', 'own'].map((key) => state.get(key))),
  },
  {
    name: 'queue',
    words: ['queue', 'concurrency', 'rateLimit', 'priority'],
    jobs: () => [
      defineJob<number, number>(
        'narrow',
        { queue: { name: 'narrow', concurrency: 1, rateLimit: { limit: 2, per: '1m' } } },
        async ({ payload, step }) => {
          await step.run('work', () => undefined);
          await step.sleep('nap', '10s');
          return step.run('more', () => payload);
        },
      ),
    ],
    acts: [0, 1, 2].map((n) => (stepfast) => stepfast.start('narrow', n, { id: `r${n}`, priority: n })),
  },
  {
    name: 'debounce-and-singleton',
    words: ['debounce', 'singleton'],
    jobs: () => [
      defineJob<string, string>(
        'save',
        { queue: { name: 'save', debounce: { key: () => 'draft', delay: '10s' } } },
        ({ payload, step }) => step.run('save', () => payload),
      ),
      defineJob<string, string>(
        'sync',
        { queue: { name: 'sync', singleton: { key: () => 'all' } } },
        async ({ payload, step }) => {
          await step.sleep('nap', '1m');
          return payload;
        },
      ),
    ],
    acts: [
      (stepfast) => stepfast.start('save', 'a'),
      (stepfast) => stepfast.start('save', 'ab'),
      (stepfast) => stepfast.start('sync', 'first'),
      (stepfast) => stepfast.start('sync', 'second'),
    ],
  },
  {
    name: 'schedule',
    words: ['schedule'],
    use: () => [schedules()],
    jobs: () => [
      defineJob('digest', async ({ step, run }) => step.run('send', () => [run.schedule?.tick, run.schedule?.missed])),
      defineJob('anchor', ({ step }) => step.sleep('a-while', '150m')),
    ],
    opened: (stepfast, [digest]) => void stepfast.schedule('hourly', { every: '1h' }, digest as never),
    acts: [(stepfast) => stepfast.start('anchor', undefined, { id: 'r' })],
  },
  {
    name: 'upgrade',
    words: ['version', 'migrate', 'rename'],
    jobs: ({ version }) => [
      version === 1
        ? defineJob<{ plan: string }>('grow', async ({ step }) => {
            await step.run('old-name', () => 'kept');
            await step.waitForEvent('go');
            return 'code of version 1';
          })
        : defineJob<{ plan: string }>(
            'grow',
            {
              version: 2,
              migrate: () => ({ payload: { plan: 'new' }, rename: { 'old-name': 'new-name' } }),
            },
            async ({ payload, step }) => {
              const kept = await step.run('new-name', () => 'anew');
              await step.waitForEvent('go');
              return [payload.plan, kept, await step.run('more', () => 'more')];
            },
          ),
    ],
    acts: [
      (stepfast) => stepfast.start('grow', { plan: 'old' }, { id: 'r' }),
      { until: async (stepfast) => (await stepfast.runs.get('r'))?.status === 'waiting' },
      2,
      (stepfast) => stepfast.dispatch('go', undefined, { idempotencyKey: 'e' }),
    ],
  },
];
