import { describe, expect, it } from 'vitest';
import { LIMITS } from '../src/limits.js';
import { hands, never, settle, soon } from './hand-kit.js';

// Pins: which runs an engine keeps in memory (spec R6): all that are at work, and no more than so many that wait.

describe('what is kept in memory', () => {
  it('R6: is no more than so many runs that wait: one is dropped for the next, and replayed when something comes', async () => {
    const { resident } = LIMITS;
    LIMITS.resident = 2;
    try {
      const h = hands();
      const passes: string[] = [];
      const engine = h.engine((stepfast) => {
        stepfast.job('works', ({ step }) => step.run('a', never));
        stepfast.job('ends', () => 'done');
        stepfast.job('waits', async ({ run, step }) => {
          passes.push(run.id);
          await step.waitForEvent('go', { correlationKey: run.id });
        });
      });
      await engine.start('works', undefined, { id: 'w' });
      await engine.start('waits', undefined, { id: 'a' });
      await settle();
      for (let nth = 0; nth < 3; nth++) await engine.start('ends');
      await settle();
      await engine.dispatch('go', undefined, { correlationKey: 'elsewhere' });
      passes.length = 0;
      await engine.start('waits', undefined, { id: 'b' });
      await settle();
      await engine.dispatch('go', undefined, { correlationKey: 'b' });
      await settle();
      expect([passes, h.row('b')!.status]).toEqual([['b'], 'completed']);
      for (const id of ['c', 'd']) {
        await engine.start('waits', undefined, { id });
        await settle();
      }
      passes.length = 0;
      await engine.dispatch('go', undefined, { correlationKey: 'c' });
      await settle();
      expect([passes, h.row('c')!.status, h.row('w')!.status]).toEqual([['c'], 'completed', 'running']);
      await soon(engine.close());
    } finally {
      LIMITS.resident = resident;
    }
  });

  it('R6: is all that is at work, however little may wait', async () => {
    const { resident } = LIMITS;
    LIMITS.resident = 1;
    try {
      const h = hands();
      const engine = h.engine((stepfast) => stepfast.job('job', ({ step }) => step.run('a', never)));
      for (const id of ['r', 's', 't']) await engine.start('job', 'p', { id });
      await settle();
      expect([['r', 's', 't'].map((id) => h.row(id)!.status), h.errors]).toEqual([
        ['running', 'running', 'running'],
        [],
      ]);
      await soon(engine.close());
    } finally {
      LIMITS.resident = resident;
    }
  });

  it('R6: is not taken up by runs that have ended', async () => {
    const { resident } = LIMITS;
    LIMITS.resident = 3;
    try {
      const h = hands();
      let passes = 0;
      const engine = h.engine((stepfast) => {
        stepfast.job('ends', ({ step }) => step.run('a', () => 1));
        stepfast.job('waits', async ({ step }) => {
          passes++;
          await step.waitForEvent('go');
        });
      });
      await engine.start('waits', undefined, { id: 'r' });
      for (let nth = 0; nth < 10; nth++) await engine.start('ends');
      await settle();
      for (let nth = 0; nth < 10; nth++) {
        await engine.start('ends');
        await settle();
      }
      await engine.dispatch('go');
      await settle();
      expect(h.row('r')!.status).toBe('completed');
      expect(passes).toBeLessThan(3);
      await soon(engine.close());
    } finally {
      LIMITS.resident = resident;
    }
  });
});
