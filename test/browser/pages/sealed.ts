import { indexedDBStore } from '../../../adapters/indexeddb/index.js';
import { encryption } from '../../../plugins/encryption/index.js';
import { createStepfast } from '../../../src/index.js';

/*
 * An app that hands everything it has to the store. The secrets come from outside, when they are used: a browser keeps
 * the scripts of pages in its profile, too.
 */

const tools = {
  async play(db: string, isSealed: boolean, secret: Readonly<Record<string, string>>): Promise<string> {
    const key = crypto.getRandomValues(new Uint8Array(32));
    const indexKey = crypto.getRandomValues(new Uint8Array(32));
    const stepfast = createStepfast({
      store: indexedDBStore({ name: db }),
      use: isSealed ? [encryption({ key, indexKey })] : [],
      onError: () => undefined,
      retry: { maxAttempts: 1 },
    });
    const job = stepfast.job<string>('job', async ({ step, log, state }) => {
      log.info(secret.log!);
      await state.set(secret.stateKey!, secret.stateValue!);
      await step.run('works', ({ progress }) => {
        progress(secret.progress!);
        return secret.result!;
      });
      await step.run('fails', () => Promise.reject(new Error(secret.error!))).catch(() => undefined);
      const event = await step.waitForEvent<string>('event', { correlationKey: secret.correlationKey! });
      return [event.payload, secret.output!];
    });
    const run = await stepfast.start(job, secret.payload!, {
      idempotencyKey: secret.idempotencyKey!,
      tags: [secret.tag!],
    });
    await stepfast.dispatch('event', secret.event!, { correlationKey: secret.correlationKey! });
    await stepfast.dispatch('event', secret.untaken!, { correlationKey: `${secret.correlationKey!} of nobody` });
    const result = await run.result();
    await stepfast.close();
    return JSON.stringify(result);
  },
};

Object.assign(globalThis, { app: tools });
