import { FatalError, type Stepfast } from 'stepfast';
import type { Example } from './stage.js';

/*
 * Checkout: stock, money, parcel. When the parcel can not be sent, the money goes back and the stock is freed, in
 * reverse order, and each taking back survives a crash of its own.
 */

export const checkout: Example = async ({ open, clock, say }) => {
  const ledger: string[] = [];

  const define = (stepfast: Stepfast) => {
    stepfast.job<{ orderId: string; canShip: boolean }>(
      'checkout',
      { onFailed: ({ error }) => void ledger.push(`told: ${error.step}`) },
      async ({ payload, step }) => {
        await step.run('reserve', () => void ledger.push('reserved'), {
          undo: () => void ledger.push('freed'),
        });
        await step.run(
          'charge',
          ({ idempotencyKey }) => {
            ledger.push('charged');
            return { receipt: idempotencyKey };
          },
          { undo: ({ result }) => void ledger.push(result ? 'refunded' : 'asked the bank, then refunded') },
        );
        await step.run('ship', () => {
          if (!payload.canShip) throw new FatalError('no carrier goes there');
          ledger.push('shipped');
        });
        return 'thank you';
      },
    );
  };

  const app = open(define);
  const good = await app.start('checkout', { orderId: 'A', canShip: true });
  await clock.idle();
  ledger.push('---');
  const bad = await app.start('checkout', { orderId: 'B', canShip: false });
  await clock.advance('1m');
  say(`Order A ${await good.status()}, order B ${await bad.status()}.`);
  return { good: await good.status(), bad: await bad.status(), ledger };
};
