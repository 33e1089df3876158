import type { Stepfast } from 'stepfast';
import type { Example } from './stage.js';

/*
 * An offline form: every report is kept at once and sent when the server can be reached, in order, one at a time, once.
 */

export const offlineForm: Example = async ({ open, clock, say }) => {
  const server = new Map<string, string>();
  const order: string[] = [];
  let isReachable = false;

  const define = (stepfast: Stepfast) => {
    stepfast.job<{ text: string }>(
      'send-report',
      { queue: { name: 'reports', concurrency: 1 }, retry: { maxAttempts: Infinity, maxDelay: '1m' } },
      async ({ payload, step }) => {
        await step.run('post', ({ idempotencyKey }) => {
          if (!isReachable) throw new Error('offline');
          if (!server.has(idempotencyKey)) order.push(payload.text);
          server.set(idempotencyKey, payload.text);
        });
      },
    );
  };

  const first = open(define);
  for (const text of ['bridge 7: rust', 'bridge 8: fine'])
    await first.start('send-report', { text }, { idempotencyKey: text });
  await first.start('send-report', { text: 'bridge 8: fine' }, { idempotencyKey: 'bridge 8: fine' }); // a second tap
  await clock.advance('2h');
  say(`${(await first.runs.list({ job: 'send-report' })).runs.length} reports wait in the phone.`);
  const app = open(define);
  await app.ready();
  isReachable = true;
  await clock.advance('5m');
  const { runs } = await app.runs.list({ status: 'completed' });
  return { sent: order.sort(), completed: runs.length };
};
