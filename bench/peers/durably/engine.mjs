// @coji/durably on better-sqlite3, set to synchronous=FULL: with the driver's own default a step would not be flushed.
import { mkdirSync } from 'node:fs';
import { createDurably, defineJob } from '@coji/durably';
import Database from 'better-sqlite3';
import { SqliteDialect } from 'kysely';
import { z } from 'zod';
import { journey } from '../../journey.mjs';

const job = defineJob({
  name: 'journey',
  input: z.object({ count: z.number() }),
  output: z.object({ sum: z.number() }),
  run: async (step, input) => ({ sum: await journey(input, (name, fn) => step.run(name, fn)) }),
});

export const engine = {
  flush: 'sync',
  durability: 'fsync a step (synchronous=FULL set by the bench)',
  async open(dir, { concurrency = 100 } = {}) {
    mkdirSync(dir, { recursive: true });
    const database = new Database(`${dir}/durably.db`);
    database.pragma('journal_mode = WAL');
    database.pragma('synchronous = FULL');
    const dialect = new SqliteDialect({ database });
    const options = { dialect, pollingIntervalMs: 10, maxConcurrentRuns: concurrency, jobs: { job } };
    const durably = createDurably(options);
    await durably.init();
    const ends = new Map();
    const outputs = new Map();
    durably.on('run:complete', ({ runId, output }) => {
      outputs.set(runId, output.sum);
      ends.get(runId)?.(output.sum);
    });
    const ids = new Map();
    return {
      async start(id, payload) {
        const { id: runId } = await durably.jobs.job.trigger(payload, { idempotencyKey: id });
        ids.set(id, runId);
      },
      result(id) {
        const runId = ids.get(id);
        if (outputs.has(runId)) return outputs.get(runId);
        return new Promise((resolve) => ends.set(runId, resolve));
      },
      close: () => durably.stop(),
    };
  },
};
