import { expect, it, vi } from 'vitest';
import { createStepfast } from '../src/index.js';
import { simulatedClock } from '../src/testing/index.js';
import { media } from './harness.js';

// Pins: spec R9 between engines, and that an engine that is gone costs its process nothing.

it('R9: an engine inside the step of another is outside of it, and its own steps do not nest either', async () => {
  const clock = simulatedClock();
  const inner = createStepfast({ store: media.memory!()(), clock });
  inner.job('inner', async ({ step }) => {
    const nested = step.run('holds', async () => {
      await undefined;
      return step.run('nested', () => 1);
    });
    return nested.catch((error) => error.cause.code);
  });
  const outer = createStepfast({ store: media.memory!()(), clock });
  outer.job('outer', async ({ step }) => {
    const seen = await step.run('play', async () => (await inner.start('inner')).result());
    return [seen, await step.run('own', () => 'own')];
  });
  const run = await outer.start('outer');
  expect(await clock.skipUntil(run.result())).toEqual(['NESTED_STEP', 'own']);
  await outer.close();
  await inner.close();
});

it('engines that come and go leave nothing behind that every promise pays for', async () => {
  const { AsyncLocalStorage } = process.getBuiltinModule('node:async_hooks');
  let made = 0;
  const Counting = class extends AsyncLocalStorage<unknown> {
    constructor() {
      super();
      made++;
    }
  };
  vi.resetModules();
  const find = vi.spyOn(process, 'getBuiltinModule').mockReturnValue({ AsyncLocalStorage: Counting } as never);
  try {
    const fresh = await import('../src/index.js');
    for (let engines = 0; engines < 5; engines++)
      await fresh.createStepfast({ store: media.memory!()(), clock: simulatedClock() }).close();
    expect(find).toHaveBeenCalled();
    expect(made).toBe(1);
  } finally {
    find.mockRestore();
  }
});
