import { writeSync } from 'node:fs';
import { createFileStore } from '../../../adapters/file/store.js';
import { createStepfast } from '../../../src/index.js';

/*
 * A process that is killed: it starts runs of an engine on a folder, and says on standard output, a line at a time, what
 * its caller may rely on. Nothing it says was said before it was acknowledged.
 *
 *   S run            the start of this run is acknowledged
 *   D run value      the dispatch of this event is acknowledged
 *   E run step       the function of this step is entered
 *   C run step value the commit that holds this step's outcome is on disk
 *   F run value      the run has completed
 *   N life value     an increment of the number of this process is acknowledged
 */

const [, , dir, life = '0', mode = 'one'] = process.argv;
// Not `process.stdout`: where its reader is slow, that keeps lines in memory, and a kill loses them.
const say = (...words: readonly (string | number)[]) => void writeSync(1, `${words.join(' ')}\n`);
const STEPS = 3;

const store = createFileStore({ dir: dir!, wait: mode === 'two' }, { compactAt: 30_000 });
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

const stepfast = createStepfast({ store, onError: (error) => console.error(error) });
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

for (let number = 0; ; number++) {
  const key = `${life}:${number}`;
  const run = await stepfast.start('work', number, { idempotencyKey: key });
  say('S', run.id, key);
  const receipt = await stepfast.dispatch('go', `word-${key}`, { correlationKey: run.id, idempotencyKey: key });
  say('D', run.id, receipt.id, `word-${key}`);
  say('N', life, await stepfast.state.increment(`life-${life}`));
  if (number % 3 === 2) await new Promise((resolve) => setTimeout(resolve, 1));
}
