import type { Stepfast } from 'stepfast';
import type { Example } from './stage.js';

/*
 * Sign-up: the account is locked until the e-mail is verified, however often the app is closed meanwhile.
 */

export const onboarding: Example = async ({ open, clock, say }) => {
  const mails: string[] = [];
  const users = new Map<string, { readonly email: string; unlocked: boolean }>();

  const define = (stepfast: Stepfast) => {
    stepfast.job<{ userId: string; email: string }>('userOnboarding', async ({ payload, step }) => {
      const { userId, email } = payload;
      await step.run('create-user', () => void users.set(userId, { email, unlocked: false }));
      await step.run('send-verification-email', () => void mails.push(email));
      const event = await step.waitForEvent<{ userId: string }>('email.verified', {
        correlationKey: `user:${userId}`,
        timeout: '24h',
      });
      await step.run('unlock-account', () => {
        users.get(event.payload.userId)!.unlocked = true;
      });
      return { onboarded: true };
    });
  };

  const first = open(define);
  const payload = { userId: '42', email: 'ada@example.com' };
  const run = await first.start('userOnboarding', payload, { idempotencyKey: 'onboard:42' });
  await clock.idle();
  say('The mail is out. The tab crashes; an hour later the app is opened again.');
  const app = open(define);
  await clock.advance('1h');
  await app.dispatch('email.verified', { userId: '42' }, { correlationKey: 'user:42' });
  await clock.idle();
  const { status, result } = (await app.runs.get(run.id))!;
  return { status, result, mails, unlocked: users.get('42')!.unlocked };
};
