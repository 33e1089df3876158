import { expect, it } from 'vitest';
import type { Stepfast } from '../src/index.js';
import { crashEverywhere, everyWay } from './crash-everywhere.js';
import type { World } from './harness.js';
import { fatal, kindsOf, logged } from './undo-kit.js';

// Pins: spec F7 and R1 over crashes: each undo happens, and none that is recorded happens again.

everyWay(
  'undo over crashes',
  (open) => {
    const job = (w: World, stepfast: Stepfast) =>
      stepfast.job('order', async ({ step }) => {
        await step.run(...logged(w, 'a'));
        await step.run(...logged(w, 'b'));
        const { payload } = await step.waitForEvent<string>('end');
        if (payload === 'fail') fatal();
      });
    /** Each undo at least once, in order, and never again once it is recorded: at most one was in flight. */
    const expectUndone = async (stepfast: Stepfast, w: World, status: string, where: string) => {
      const snapshot = await stepfast.runs.get('o');
      expect(snapshot, where).toMatchObject({ status });
      expect(snapshot, where).not.toHaveProperty('undoing');
      const undone = w.log.filter((line) => line.startsWith('undo'));
      expect(
        undone.filter((line, index) => line !== undone[index - 1]),
        where,
      ).toEqual(['undo B', 'undo A']);
      expect(undone.length, where).toBeLessThanOrEqual(3);
      expect(await kindsOf(stepfast, 'o', /undone/), where).toEqual(['undone b', 'undone a']);
    };

    it('F7: whichever commit the context of a failing run dies at, each undo happens, and none that is recorded again', async () => {
      await crashEverywhere(open, {
        define: (stepfast, w) => void job(w, stepfast),
        async play(stepfast, w) {
          await stepfast.start('order', undefined, { id: 'o' });
          await stepfast.dispatch('end', 'fail', { idempotencyKey: 'e' });
          await w.clock.idle();
        },
        check: (stepfast, w, where) => expectUndone(stepfast, w, 'failed', where),
      });
    });

    it('F7: the same for a run that is cancelled', async () => {
      await crashEverywhere(open, {
        define: (stepfast, w) => void job(w, stepfast),
        async play(stepfast, w) {
          const run = await stepfast.start('order', undefined, { id: 'o' });
          await w.clock.idle();
          await run.cancel();
          await w.clock.idle();
        },
        check: (stepfast, w, where) => expectUndone(stepfast, w, 'cancelled', where),
      });
    });

    it('F7: the same when it dies there three times in a row', async () => {
      const scenario = {
        define: (stepfast: Stepfast, w: World) => void job(w, stepfast),
        async play(stepfast: Stepfast, w: World) {
          await stepfast.start('order', undefined, { id: 'o' });
          await stepfast.dispatch('end', 'fail', { idempotencyKey: 'e' });
          await w.clock.idle();
        },
        async check(stepfast: Stepfast, w: World, where: string) {
          expect(await kindsOf(stepfast, 'o', /undone/), where).toEqual(['undone b', 'undone a']);
          const undone = w.log.filter((line) => line.startsWith('undo'));
          expect([...new Set(undone)], where).toEqual(['undo B', 'undo A']);
          expect(undone.length, where).toBeLessThanOrEqual(2 + 3);
        },
      };
      await crashEverywhere(open, scenario, { deaths: 3 });
    });
  },
  { isLong: true },
);
