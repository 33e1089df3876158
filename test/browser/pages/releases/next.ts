import { FORMAT_VERSION } from '../../../../src/store/journal.js';
import { startApp } from './shell.js';

/* The release of tomorrow: the same job as the first, with a stepfast that writes another format. */
startApp({
  name: 'next',
  format: FORMAT_VERSION + 1,
  define(stepfast, effect) {
    stepfast.job('flow', { version: 1 }, async ({ step, run }) => {
      const prepared = await step.run('prepare', () => effect(run.id, 'prepare'));
      await step.waitForEvent('go', { correlationKey: run.id });
      return [prepared, await step.run('finish', () => effect(run.id, 'finish'))];
    });
  },
});
