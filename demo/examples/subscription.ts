import type { Stepfast } from 'stepfast';
import type { Example } from './stage.js';

/*
 * A subscription renews every month until it is cancelled: a loop without end, and a journal that stays small, because
 * each month begins the run anew.
 */

export const subscription: Example = async ({ open, clock, say }) => {
  const charges: string[] = [];

  const define = (stepfast: Stepfast) => {
    stepfast.job<{ user: string; month: number }>('subscription', async ({ payload, step }) => {
      const { user, month } = payload;
      await step.run('charge', ({ idempotencyKey }) => void charges.push(idempotencyKey));
      const cancelled = await step.waitForEvent('subscription.cancelled', {
        correlationKey: user,
        timeout: '30 days',
        onTimeout: 'continue',
      });
      if (!cancelled.timedOut) return { months: month };
      return step.restart({ user, month: month + 1 });
    });
  };

  let app = open(define);
  const { id } = await app.start('subscription', { user: 'ada', month: 1 }, { idempotencyKey: 'ada' });
  for (let month = 1; month < 12; month++) {
    await clock.advance('30 days');
    app = open(define);
    await app.ready();
    await clock.idle();
  }
  say(`After a year the journal holds ${(await app.runs.timeline(id)).length} entries.`);
  const again = await app.start('subscription', { user: 'ada', month: 1 }, { idempotencyKey: 'ada' });
  await app.dispatch('subscription.cancelled', undefined, { correlationKey: 'ada' });
  await clock.idle();
  const { status, result } = (await app.runs.get(id))!;
  const isSmall = (await app.runs.timeline(id)).length < 12;
  return { status, result, charges: new Set(charges).size, sameRun: again.id === id, isSmall };
};
