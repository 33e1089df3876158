import { defineEvent, type Stepfast } from 'stepfast';
import { z } from 'zod';
import type { Example } from './stage.js';

/*
 * An approval that goes to the manager, and to the director when the manager has said nothing for three days.
 */

const decided = defineEvent('expense.decided', z.object({ by: z.string(), approved: z.boolean() }));

export const approval: Example = async ({ open, clock, say }) => {
  const asked: string[] = [];

  const define = (stepfast: Stepfast) => {
    stepfast.job<{ expenseId: string }>('approve-expense', async ({ payload, step, log }) => {
      for (const person of ['manager', 'director']) {
        await step.run('ask', () => void asked.push(person));
        const answer = await step.waitForEvent(decided, {
          correlationKey: payload.expenseId,
          match: ({ by }) => by === person,
          timeout: '3 days',
          onTimeout: 'continue',
        });
        if (!answer.timedOut) return answer.payload;
        log.info(`${person} said nothing until ${new Date(answer.deadline).toISOString()}`);
      }
      return { by: 'nobody', approved: false };
    });
  };

  const first = open(define);
  const { id } = await first.start('approve-expense', { expenseId: 'e1' });
  await clock.advance('3 days');
  say('Three days of silence. The director is asked; meanwhile the manager comes back, too late.');
  const app = open(define);
  await app.dispatch(decided, { by: 'manager', approved: false }, { correlationKey: 'e1' });
  await app.dispatch(decided, { by: 'director', approved: true }, { correlationKey: 'e1' });
  await clock.idle();
  return { asked, result: (await app.runs.get(id))!.result };
};
