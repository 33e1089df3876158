import { defineJob, type HandlerContext } from 'stepfast';

/** A draft is written, waits for somebody's word (in any window, today or next month), and is published. */
export const publishing = (publish: (title: string, key: string) => void | Promise<void>) =>
  defineJob('publish', {}, async ({ payload, step, run }: HandlerContext<{ title: string }>) => {
    await step.waitForEvent('approved', { correlationKey: run.id });
    await step.run('publish', ({ idempotencyKey }) => publish(payload.title, idempotencyKey));
    return { published: payload.title };
  });
