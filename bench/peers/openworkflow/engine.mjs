// openworkflow on its SQLite store, defaults. node:sqlite is compiled with synchronous=FULL: a step is two flushed commits.
import { mkdirSync } from 'node:fs';
import { OpenWorkflow } from 'openworkflow';
import { BackendSqlite } from 'openworkflow/sqlite';
import { journey } from '../../journey.mjs';

export const engine = {
  flush: 'sync',
  durability: '2 fsyncs a step (attempt row, then result row)',
  async open(dir, { concurrency = 100 } = {}) {
    mkdirSync(dir, { recursive: true });
    const backend = BackendSqlite.connect(`${dir}/openworkflow.db`);
    const client = new OpenWorkflow({ backend });
    const flow = client.defineWorkflow({ name: 'journey' }, ({ input, step }) =>
      journey(
        input,
        (name, fn) => step.run({ name }, fn),
        async (key) => (await step.waitForSignal({ signal: key })).data,
      ),
    );
    const worker = client.newWorker({ concurrency });
    await worker.start();
    const handles = new Map();
    return {
      async start(id, payload) {
        handles.set(id, await flow.run(payload, { idempotencyKey: id }));
      },
      result: (id) => handles.get(id).result(),
      async dispatch(key, data) {
        const { workflowRunIds } = await client.sendSignal({ signal: key, data });
        if (workflowRunIds.length !== 1) throw new Error(`the signal ${key} reached ${workflowRunIds.length} runs`);
      },
      // A signal that nobody waits for is dropped: the wait must be recorded first.
      async isWaiting(id) {
        const { data } = await backend.listStepAttempts({ workflowRunId: handles.get(id).workflowRun.id, limit: 100 });
        return data.some(({ kind, status }) => /signal/.test(kind) && status === 'running');
      },
      async close() {
        await worker.stop();
        await backend.stop();
      },
    };
  },
};
