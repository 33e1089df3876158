// stepfast as an app uses it: the built package, public entries, default options.
import { createStepfast } from 'stepfast';
import { fileStore } from 'stepfast/file';
import { memoryStore } from 'stepfast/memory';
import { journey } from '../journey.mjs';

async function open(store, { concurrency } = {}) {
  const stepfast = createStepfast({ store });
  const queue = concurrency && { queue: { name: 'bench', concurrency } };
  const job = stepfast.job('journey', { ...queue }, ({ payload, step }) =>
    journey(
      payload,
      (name, fn) => step.run(name, fn),
      async (key) => (await step.waitForEvent('verified', { correlationKey: key })).payload,
    ),
  );
  await stepfast.ready();
  const handles = new Map();
  return {
    async start(id, payload) {
      handles.set(id, await stepfast.start(job, payload, { id }));
    },
    /** @param payload To take a run up that another process has started: the same start gives the same run. */
    async result(id, payload) {
      const handle = handles.get(id) ?? (await stepfast.start(job, payload, { id }));
      return handle.result();
    },
    dispatch: (key, payload) => stepfast.dispatch('verified', payload, { correlationKey: key }),
    isWaiting: async (id) => (await stepfast.runs.get(id)).status === 'waiting',
    recorded: async (id) => (await stepfast.runs.timeline(id)).filter(({ kind }) => kind === 'step-completed').length,
    close: () => stepfast.close(),
  };
}

export const stepfastFile = {
  flush: 'pool',
  durability: 'fsync before a step resolves',
  open: (dir, options) => open(fileStore({ dir }), options),
};
export const stepfastRelaxed = {
  flush: 'none',
  durability: 'in the file before a step resolves, without fsync',
  open: (dir, options) => open(fileStore({ dir, durability: 'relaxed' }), options),
};
export const stepfastMemory = {
  flush: 'none',
  durability: 'none',
  open: (_dir, options) => open(memoryStore(), options),
};
