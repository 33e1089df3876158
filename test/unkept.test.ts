import { expect, it } from 'vitest';
import { memoryStore } from '../adapters/memory/index.js';
import { type Stepfast, StepfastError } from '../src/index.js';
import type { Batch } from '../src/store/batch.js';
import { media, world } from './harness.js';

// Pins: spec F3 and D7 where a store finds out at the commit that it can not keep something: a file that was changed since it
// was picked. What holds it has failed for good; nothing else has, and no slot is held for it.

/** A store that can not keep files of this name. */
function picky() {
  const store = memoryStore();
  const { commit } = store;
  const holds = (value: unknown): boolean =>
    value instanceof File
      ? value.name === 'changed'
      : typeof value === 'object' && value !== null && Object.values(value).some(holds);
  store.commit = async (batch: Batch) => {
    if (holds(batch)) throw new StepfastError('NOT_SERIALIZABLE', 'A File can not be read.');
    return commit.call(store, batch);
  };
  return store;
}
const changed = () => new File(['x'], 'changed');

const open = (define: (stepfast: Stepfast) => unknown) => {
  const w = world(media.memory!);
  return { w, engine: w.engine((stepfast) => void define(stepfast), { store: picky() }) };
};

it('F3: a step that returns it has failed, is not entered again, and what ended beside it without a file has not', async () => {
  const { w, engine } = open((stepfast) =>
    stepfast.job('upload', async ({ step }) => {
      const results = await Promise.allSettled([
        step.run('bad', () => {
          w.log.push('bad');
          return { file: changed() };
        }),
        step.run('good', () => ({ file: new File(['y'], 'fine') })),
        step.run('plain', () => 5),
      ]);
      return results.map((each) => (each.status === 'fulfilled' ? 'kept' : each.reason.cause.code));
    }),
  );
  const run = await engine.start('upload');
  await w.clock.idle();
  expect((await engine.runs.get(run.id))?.result).toEqual(['NOT_SERIALIZABLE', expect.anything(), 'kept']);
  expect(w.log).toEqual(['bad']);
});

it('a run that returns it has failed', async () => {
  const { w, engine } = open((stepfast) => stepfast.job('upload', () => changed()));
  const run = await engine.start('upload');
  await w.clock.idle();
  expect(await engine.runs.get(run.id)).toMatchObject({ status: 'failed', error: { code: 'NOT_SERIALIZABLE' } });
});

it('a step that tells it as its progress goes on without', async () => {
  const { w, engine } = open((stepfast) =>
    stepfast.job('upload', ({ step }) =>
      step.run('a', async ({ progress }) => {
        progress(changed());
        await new Promise((resolve) => setTimeout(resolve, 0));
        return 'done';
      }),
    ),
  );
  const run = await engine.start('upload');
  await expect.poll(async () => (await engine.runs.get(run.id))?.status).toBe('completed');
  await w.clock.idle();
  expect((await engine.runs.get(run.id))?.result).toBe('done');
});

it('a step that logs it goes on without the line', async () => {
  const { w, engine } = open((stepfast) =>
    stepfast.job('upload', ({ step }) =>
      step.run('a', ({ log }) => {
        log.info('picked', changed());
        log.info('and so on');
        return 'done';
      }),
    ),
  );
  const run = await engine.start('upload');
  await expect.poll(async () => (await engine.runs.get(run.id))?.status).toBe('completed');
  await w.clock.idle();
  const lines = (await engine.runs.timeline(run.id)).filter(({ kind }) => kind === 'logged');
  expect(lines.map(({ message }) => message)).toEqual(['and so on']);
});

it('who starts, dispatches or sets it is told so, and nothing is kept', async () => {
  const { engine } = open((stepfast) => stepfast.job('upload', () => 1));
  const refusal = { code: 'NOT_SERIALIZABLE' };
  await expect(engine.start('upload', changed())).rejects.toMatchObject(refusal);
  await expect(engine.dispatch('done', changed())).rejects.toMatchObject(refusal);
  await expect(engine.state.set('key', changed())).rejects.toMatchObject(refusal);
  expect((await engine.runs.list()).runs).toEqual([]);
});
