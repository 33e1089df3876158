import { expect, it } from 'vitest';
import type { Batch, NewRun, RunChange } from '../src/store/batch.js';
import { foreseen } from '../src/store/transition/foreseen.js';

// Pins: what a store that is answered late can ask for before it decides a batch: all rows that are looked up by a name alone.

const start = (runId: string, idempotencyKey?: string) =>
  ({ runId, job: 'job', ...(idempotencyKey !== undefined && { idempotencyKey }) }) as NewRun;

it('is nothing where nothing is looked up', () => {
  expect(foreseen({ now: 1 })).toEqual({ runs: [], state: [] });
  expect(foreseen({ now: 1, events: [], deletes: [] } as Batch)).toEqual({ runs: [], state: [] });
});

it('is the run that is changed, those that are started, and by what deleted ones are remembered (spec Q1)', () => {
  const batch: Batch = {
    now: 1,
    run: { runId: 'r', fence: 1, append: [] } as RunChange,
    starts: [start('a'), start('b', 'k')],
  };
  expect(foreseen(batch)).toEqual({
    runs: ['r', 'a', 'b'],
    state: ['stepfast:run:a', 'stepfast:run:b', 'stepfast:key:["job","k"]'],
  });
});

it('is what jobs say of their queues, where a slot is taken by who does not know it (spec Q2)', () => {
  const run = { runId: 'r', fence: 1, append: [], defaultConcurrency: 8 } as RunChange;
  expect(foreseen({ now: 1, run })).toEqual({ runs: ['r'], state: ['stepfast:lanes'] });
});

it('is each key of the shared state that is written (spec D8)', () => {
  const state = [
    { kind: 'set', key: 'one', value: 1 },
    { kind: 'delete', key: 'two' },
  ] as const;
  expect(foreseen({ now: 1, state })).toEqual({ runs: [], state: ['one', 'two'] });
});
