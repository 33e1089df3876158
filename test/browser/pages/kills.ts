import { indexedDBStore } from '../../../adapters/indexeddb/index.js';
import { createStepfast, type StoredRun } from '../../../src/index.js';

/*
 * A page whose browser is killed: it starts runs without end, and says to the server, a line at a time and in order, what
 * its user may rely on. The lines are those of test/prove/kills/writer.ts: nothing is said before it was acknowledged.
 */

const query = new URLSearchParams(location.search);
const name = query.get('db')!;
/** Names this page among all that ever were. */
const life = query.get('life')!;
const STEPS = 3;

/** One request at a time carries all lines that wait: so they arrive in their order. Fits into the head of a request. */
const LINES_AT_ONCE = 40;
const lines: string[] = [];
let isTelling = false;
async function tell(): Promise<void> {
  if (isTelling) return;
  isTelling = true;
  while (lines.length) {
    const said = lines.splice(0, LINES_AT_ONCE).map(encodeURIComponent).join('/');
    const { ok, status } = await fetch(`/effect/${life}/${said}`, { cache: 'no-store' });
    if (!ok) throw new Error(`the server answers ${status}`);
  }
  isTelling = false;
}
const say = (...words: readonly (string | number)[]): void => {
  lines.push(words.join(' '));
  void tell();
};
const report = (error: unknown) => say('X', String(error));

function openEngine() {
  const store = indexedDBStore({ name });
  const { commit } = store;
  // Between the engine and the store: an outcome is acknowledged when the store says so, and never before.
  store.commit = async (batch) => {
    const outcome = await commit.call(store, batch);
    if (outcome.kind === 'committed')
      for (const entry of batch.run?.append ?? []) {
        if (entry.kind === 'step-completed') say('C', batch.run!.runId, entry.id[0], String(entry.value));
        if (entry.kind === 'completed') say('F', batch.run!.runId, String(entry.value));
      }
    return outcome;
  };
  const stepfast = createStepfast({ store, onError: report });
  const options = { maxInterruptions: 1_000, queue: { name: 'q', concurrency: 4 } };
  stepfast.job<number, string>('work', options, async ({ payload, step, run }) => {
    for (let index = 1; index <= STEPS; index++)
      await step.run(`s${index}`, () => {
        say('E', run.id, `s${index}`);
        return payload + index;
      });
    const { payload: word } = await step.waitForEvent<string>('go', { correlationKey: run.id });
    return step.run('last', () => {
      say('E', run.id, 'last');
      return word;
    });
  });
  return stepfast;
}

const tools = {
  /** Everything that the database holds, read before any engine of this page has touched it. */
  async stored(): Promise<readonly StoredRun[]> {
    const store = indexedDBStore({ name });
    await store.open({ owner: `judge-${life}`, now: Date.now(), leaseMs: 10_000, mode: 'use', onError: report });
    const runs: StoredRun[] = [];
    for (let cursor: string | undefined; ; ) {
      const page = await store.list({ limit: 500, ...(cursor !== undefined && { cursor }) });
      runs.push(...page.runs);
      cursor = page.nextCursor;
      if (cursor === undefined) break;
    }
    await store.close();
    return runs;
  },

  /** Never ends: it is killed. */
  go(): void {
    const stepfast = openEngine();
    const loop = async () => {
      for (let number = 0; ; number++) {
        const key = `${life}:${number}`;
        const run = await stepfast.start('work', number, { idempotencyKey: key });
        say('S', run.id, key);
        const word = `word-${key}`;
        const receipt = await stepfast.dispatch('go', word, { correlationKey: run.id, idempotencyKey: key });
        say('D', run.id, receipt.id, word);
      }
    };
    loop().catch(report);
  },

  /** Goes on with all that is there; what these runs have come to, once they have ended. */
  async finish(runIds: readonly string[]): Promise<readonly string[]> {
    const stepfast = openEngine();
    await stepfast.ready();
    const resultOf = (runId: string): Promise<string> =>
      new Promise((resolve) => {
        stepfast.runs.subscribe(runId, ({ status, result, error }) => {
          if (status === 'completed') resolve(String(result));
          if (status === 'failed' || status === 'cancelled') resolve(`${status}: ${error?.message}`);
        });
      });
    const results = await Promise.all(runIds.map(resultOf));
    await stepfast.close();
    return results;
  },
};
(globalThis as { app?: unknown }).app = tools;
