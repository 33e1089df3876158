// A process that onboards a user. Killed at any moment and started again, it goes on where it was.
import { appendFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { createStepfast } from 'stepfast';
import { fileStore } from 'stepfast/file';

const [dir, effectsFile, mailMs] = process.argv.slice(2);
const stepfast = createStepfast({ store: fileStore({ dir }) });

/** One line for each call of the outside world, in a file that stepfast knows nothing of. */
function witness(step, what, { attempt, idempotencyKey }) {
  appendFileSync(effectsFile, `${JSON.stringify({ step, what, attempt, idempotencyKey, pid: process.pid })}\n`);
  console.log(`${step} ${what}, attempt ${attempt}`);
}

async function createUser(user, context) {
  witness('create-user', 'begins', context);
  await delay(150);
  witness('create-user', 'done', context);
  return user;
}

async function sendVerificationEmail(_email, context) {
  witness('send-verification-email', 'begins', context);
  await delay(Number(mailMs));
  witness('send-verification-email', 'done', context);
}

async function unlockAccount(_userId, context) {
  witness('unlock-account', 'begins', context);
  await delay(150);
  witness('unlock-account', 'done', context);
}

const userOnboarding = stepfast.job('userOnboarding', async ({ payload, step }) => {
  const { userId, email } = payload;

  const user = await step.run('create-user', (context) => createUser({ id: userId, email }, context));
  await step.run('send-verification-email', (context) => sendVerificationEmail(user.email, context));

  const event = await step.waitForEvent('email.verified', {
    correlationKey: `user:${userId}`,
    timeout: '24h',
    onTimeout: 'fail',
  });

  await step.run('unlock-account', (context) => unlockAccount(event.payload.userId, context));
  return { onboarded: true };
});

// The same call in every life of the process: the key makes it the same run.
const payload = { userId: '42', email: 'ada@example.com' };
const onboarding = await stepfast.start(userOnboarding, payload, { idempotencyKey: 'onboard:42' });
console.log(onboarding.created ? `starts run ${onboarding.id}` : `goes on with run ${onboarding.id}`);

let isWaiting = false;
onboarding.subscribe(({ status, waitingFor: [wait] }) => {
  if (status !== 'waiting' || isWaiting) return;
  isWaiting = true;
  console.log(`waits for ${wait.events.join(' or ')} (${wait.correlationKey})`);
});

console.log(`result ${JSON.stringify(await onboarding.result())}`);
await stepfast.close();
