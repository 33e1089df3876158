import { Cron } from 'croner';
import type { Stepfast } from 'stepfast';
import { schedules } from 'stepfast/schedules';
import type { Example } from './stage.js';

/*
 * Mails that a trial is about to end: every morning at nine a schedule looks who is to be told. Mornings on which the app
 * was closed are made up for by one run, which knows how many it missed.
 */

export const trialDrip: Example = async ({ open, clock, say }) => {
  const ends = new Map([
    ['ada', Date.UTC(2026, 0, 5)],
    ['bob', Date.UTC(2026, 0, 12)],
  ]);
  const mails: string[] = [];
  const mornings: string[] = [];

  const define = (stepfast: Stepfast) => {
    stepfast.job('drip', async ({ step, run }) => {
      const { tick, missed } = run.schedule!;
      await step.run('note', () => void mornings.push(`${new Date(tick).toISOString().slice(0, 10)} missed ${missed}`));
      const due = await step.run('who', () =>
        [...ends].filter(([, end]) => end - tick < 3 * 86_400_000).map(([user]) => user),
      );
      for (const user of due)
        await step.run(`mail ${user}`, () => {
          ends.delete(user);
          mails.push(user);
        });
    });
    stepfast.schedule('trial-drip', { cron: '0 9 * * *', timezone: 'UTC' }, 'drip');
  };
  const options = () => ({ use: [schedules({ cron: Cron })] });

  const first = open(define, options());
  await first.ready();
  await clock.advance('36h');
  say(`Two mornings with the app open, ${mornings.length} runs. It is closed for a week.`);
  await first.close();
  await clock.advance('7 days');
  const app = open(define, options());
  await app.ready();
  await clock.advance('1h');
  return { mails, mornings };
};
