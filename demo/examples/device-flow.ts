import { FatalError, type Stepfast } from 'stepfast';
import type { Example } from './stage.js';

/*
 * The OAuth device flow (RFC 8628): show a code, then ask every few seconds whether it was entered; `slow_down` makes
 * the pauses longer. The waiting survives a restart of the app, and ends when the code does.
 */

type Answer = { error: 'authorization_pending' | 'slow_down' | 'access_denied' } | { token: string };

export const deviceFlow: Example = async ({ open, clock, say }) => {
  const answers: Answer[] = [
    { error: 'authorization_pending' },
    { error: 'slow_down' },
    { error: 'authorization_pending' },
    { token: 't0ken' },
  ];
  const askedAt: number[] = [];

  const define = (stepfast: Stepfast) => {
    stepfast.job('sign-in', async ({ step }) => {
      const code = await step.run('get-code', () => ({ userCode: 'WDJB-MJHT', interval: 5, expiresIn: 900 }));
      const begun = await step.now();
      let interval = code.interval;
      while ((await step.now()) - begun < code.expiresIn * 1_000) {
        await step.sleep('interval', interval * 1_000);
        const answer = await step.run('poll', async () => {
          askedAt.push(clock.now());
          return answers.shift()!;
        });
        if ('token' in answer) return { token: answer.token };
        if (answer.error === 'slow_down') interval += 5;
        if (answer.error === 'access_denied') throw new FatalError('The user said no.');
      }
      throw new FatalError('The code has expired.');
    });
  };

  const first = open(define);
  const start = clock.now();
  const { id } = await first.start('sign-in');
  await clock.advance('6s');
  say('The app is restarted while the user looks for the phone.');
  const app = open(define);
  await app.ready();
  await clock.advance('1m');
  const { status, result } = (await app.runs.get(id))!;
  return { status, result, asked: askedAt.map((at) => (at - start) / 1_000) };
};
