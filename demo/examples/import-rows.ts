import type { Stepfast } from 'stepfast';
import type { Example } from './stage.js';

/*
 * 10,000 rows are imported in batches. The counters in the shared state are exact, though the tab crashes in the middle
 * and a batch fails twice: what a step counts is committed with its result, or not at all.
 */

const ROWS = 10_000;
const BATCH = 500;

export const importRows: Example = async ({ open, clock, say }) => {
  let crashes = 1;
  let failures = 2;
  let crash: () => void = () => undefined;

  const define = (stepfast: Stepfast) => {
    stepfast.job<{ from: string }>('import', async ({ step }) => {
      for (let from = 0; from < ROWS; from += BATCH)
        await step.run('batch', async ({ state, progress }) => {
          const bad = Array.from({ length: BATCH }, (_, index) => from + index).filter((row) => row % 997 === 0).length;
          await state.set('import:last', from + BATCH);
          void state.increment('import:rows', BATCH - bad);
          void state.increment('import:refused', bad);
          if (from === 3_000 && failures-- > 0) throw new Error('the connection broke');
          if (from === 6_000 && crashes-- > 0) return crash();
          progress((from + BATCH) / ROWS);
        });
      return step.run('count', async ({ state }) => [
        await state.get('import:rows'),
        await state.get('import:refused'),
      ]);
    });
  };

  const first = open(define);
  const crashed = new Promise<void>((resolve) => {
    crash = () => {
      open(() => undefined); // kills the engine that is open
      resolve();
      return new Promise<never>(() => undefined) as never;
    };
  });
  const { id } = await first.start('import', { from: 'customers.csv' });
  await clock.idle();
  await clock.advance('1m');
  await crashed;
  const app = open(define);
  await app.ready();
  await clock.advance('1m');
  const { status, result, progress } = (await app.runs.get(id))!;
  say(`${String(progress)} of the import is done.`);
  return { status, result, progress, last: await app.state.get('import:last') };
};
