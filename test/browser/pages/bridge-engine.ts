import { indexedDBStore } from '../../../adapters/indexeddb/index.js';
import { serveStepfast } from '../../../plugins/bridge/index.js';
import { createStepfast, type HandlerContext } from '../../../src/index.js';

/*
 * A dedicated worker that has the engine. Its name is that of the database; what its steps do is asked of the server,
 * which counts.
 */

const effect = async (name: string): Promise<void> => {
  const response = await fetch(`/effect/${self.name}-${name}`);
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
};
const stepfast = createStepfast({ store: indexedDBStore({ name: self.name }) });
stepfast.job('order', {}, async ({ payload, step }: HandlerContext<{ items: Map<string, number> }>) => {
  await step.run('reserve', () => effect('reserve'));
  const { payload: paid } = await step.waitForEvent<{ at: Date }>('paid');
  await step.run('ship', () => effect('ship'));
  return { items: payload.items, at: paid.at };
});
serveStepfast(stepfast, self);
await stepfast.ready();
