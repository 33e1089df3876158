import { createStepfast } from 'stepfast';
import { indexedDBStore } from 'stepfast/indexeddb';
import { clock } from './clock.js';
import { read, write } from './storage.js';
import { createUser, sendVerificationEmail, unlockAccount } from './world.js';

export const stepfast = createStepfast({ store: indexedDBStore({ name: 'stepfast-demo' }), clock });

export interface SignUp {
  readonly userId: string;
  readonly name: string;
  readonly email: string;
}

/** The steps that have an effect outside, in order. */
export const STEPS = ['create-user', 'send-verification-email', 'unlock-account'] as const;

const userOnboarding = stepfast.job<SignUp>('userOnboarding', async ({ payload, step, run }) => {
  const { userId, name, email } = payload;

  const user = await step.run('create-user', (context) => createUser(run.id, { id: userId, name, email }, context));
  await step.run('send-verification-email', (context) =>
    sendVerificationEmail(run.id, { to: user.email, name: user.name, userId }, clock.now(), context),
  );

  await step.waitForEvent<{ userId: string }>('email.verified', {
    correlationKey: `user:${userId}`,
    timeout: '24h',
    onTimeout: 'fail',
  });

  await step.run('unlock-account', (context) => unlockAccount(run.id, context));
  return { onboarded: true };
});

/** Starts a run for a new user; users are numbered, the first is 42. */
export async function signUp(name: string, email: string): Promise<string> {
  const userId = String(read('next-user', 42));
  write('next-user', Number(userId) + 1);
  const { id } = await stepfast.start(userOnboarding, { userId, name, email }, { idempotencyKey: `onboard:${userId}` });
  return id;
}

/** What a click on the link in the mail does. */
export const verify = (userId: string) =>
  stepfast.dispatch('email.verified', { userId }, { correlationKey: `user:${userId}` });
