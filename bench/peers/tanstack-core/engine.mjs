// @tanstack/workflow-core. Its package has a store in memory only, so the log is ours: one JSON line an event, group commit
// on the thread pool. The figure shows its engine on a good store; it is not something that its users can install.
import fs from 'node:fs';
import { createWorkflow, LogConflictError, runWorkflow } from '@tanstack/workflow-core';
import { createLog } from '../../floor.mjs';
import { journey } from '../../journey.mjs';

function openStore(dir, flush) {
  fs.mkdirSync(dir, { recursive: true });
  const log = createLog(`${dir}/events.jsonl`, flush);
  const states = new Map();
  const events = new Map();
  return {
    close: () => log.close(),
    getRunState: async (runId) => states.get(runId),
    async setRunState(runId, state) {
      states.set(runId, state);
      await log.append({ r: runId, state });
    },
    async deleteRun(runId) {
      states.delete(runId);
      events.delete(runId);
    },
    async appendEvent(runId, next, event) {
      const known = events.get(runId) ?? [];
      if (known.length !== next) throw new LogConflictError(runId, next, known[next]);
      events.set(runId, known);
      known.push(event);
      await log.append({ r: runId, event });
    },
    getEvents: async (runId) => [...(events.get(runId) ?? [])],
  };
}

const open = (flush) => async (dir) => {
  const runStore = openStore(dir, flush);
  const workflow = createWorkflow({ id: 'journey' }).handler((ctx) =>
    journey(
      ctx.input,
      (name, fn) => ctx.step(name, fn),
      (key) => ctx.waitForEvent(key),
    ),
  );
  const runs = new Map();
  const byKey = new Map();
  const drive = async (id, given) => {
    const run = runs.get(id);
    for await (const event of runWorkflow({ workflow, runStore, runId: id, outputSink: run.end, ...given })) {
      if (event.type === 'RUN_ERRORED') throw new Error(JSON.stringify(event));
    }
    run.isPaused = (await runStore.getRunState(id))?.status === 'paused';
  };
  return {
    async start(id, payload) {
      const run = { isPaused: false };
      run.ended = new Promise((resolve) => {
        run.end = resolve;
      });
      runs.set(id, run);
      if (payload.key) byKey.set(payload.key, id);
      void drive(id, { input: payload });
    },
    result: (id) => runs.get(id).ended,
    async dispatch(key, payload) {
      const id = byKey.get(key);
      while (!runs.get(id).isPaused) await new Promise(setImmediate);
      await drive(id, { signalDelivery: { signalId: key, name: key, payload } });
    },
    isWaiting: async (id) => runs.get(id).isPaused,
    close: async () => runStore.close(),
  };
};

export const engine = { flush: 'pool', durability: 'fsync a step, on the log store of the bench', open: open('pool') };
export const engineMemory = { flush: 'none', durability: 'none', open: open('none') };
