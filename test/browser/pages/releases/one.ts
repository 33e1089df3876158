import { startApp } from './shell.js';

/* The release of last month. */
startApp({
  name: 'one',
  define(stepfast, effect) {
    stepfast.job('flow', { version: 1 }, async ({ step, run }) => {
      const prepared = await step.run('prepare', () => effect(run.id, 'prepare'));
      await step.waitForEvent('go', { correlationKey: run.id });
      return [prepared, await step.run('finish', () => effect(run.id, 'finish'))];
    });
  },
});
