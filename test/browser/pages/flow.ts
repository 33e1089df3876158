import { indexedDBStore } from '../../../adapters/indexeddb/index.js';
import { createStepfast, type RunSnapshot } from '../../../src/index.js';

/*
 * A small app with the onboarding flow, started again by each load of the page. What its steps do is asked of the
 * server, which counts. `?db=` names the database, `?timeout=` the patience of the wait.
 */

const query = new URLSearchParams(location.search);
const effect = async (name: string): Promise<void> => {
  const response = await fetch(`/effect/${query.get('db')}-${name}`);
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
};

const errors: string[] = [];
const stepfast = createStepfast({
  store: indexedDBStore({ name: query.get('db')! }),
  onError: (error) => errors.push(String(error)),
});

const userOnboarding = stepfast.job<{ userId: string; email: string }>('userOnboarding', async ({ payload, step }) => {
  const { userId, email } = payload;
  const user = await step.run('create-user', async () => {
    await effect('create-user');
    return { id: userId, email };
  });
  await step.run('send-verification-email', () => effect('send-verification-email'));
  const event = await step.waitForEvent<{ userId: string }>('email.verified', {
    correlationKey: `user:${userId}`,
    timeout: Number(query.get('timeout') ?? 86_400_000),
    onTimeout: 'fail',
  });
  await step.run('unlock-account', () => effect('unlock-account'));
  return { onboarded: true, email: user.email, by: event.payload.userId };
});

const tools = {
  errors,
  start: async (): Promise<{ id: string; created: boolean }> => {
    const payload = { userId: '42', email: 'ada@example.com' };
    const { id, created } = await stepfast.start(userOnboarding, payload, { idempotencyKey: 'onboard:42' });
    return { id, created };
  },
  dispatch: (): Promise<readonly string[]> =>
    stepfast.dispatch('email.verified', { userId: '42' }, { correlationKey: 'user:42' }).then(({ resumed }) => resumed),
  /** Resolves when the run is seen in that status. */
  until: (
    runId: string,
    status: RunSnapshot['status'],
  ): Promise<{ result: unknown; code: unknown; attempts: number }> =>
    new Promise((resolve) => {
      stepfast.runs.subscribe(runId, (snapshot) => {
        if (snapshot.status !== status) return;
        resolve({ result: snapshot.result, code: snapshot.error?.code, attempts: snapshot.attempts.length });
      });
    }),
};

declare global {
  var app: typeof tools;
}
globalThis.app = tools;
await stepfast.ready();
