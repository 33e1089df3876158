import { startApp } from './shell.js';

/* The release of today: a step more before the wait. */
startApp({
  name: 'two',
  define(stepfast, effect) {
    stepfast.job('flow', { version: 2 }, async ({ step, run }) => {
      const prepared = await step.run('prepare', () => effect(run.id, 'prepare'));
      const checked = await step.run('check', () => effect(run.id, 'check'));
      await step.waitForEvent('go', { correlationKey: run.id });
      return [prepared, checked, await step.run('finish', () => effect(run.id, 'finish'))];
    });
  },
});
