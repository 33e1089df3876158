import { defineEvent, type Stepfast } from 'stepfast';
import { z } from 'zod';
import type { Example } from './stage.js';

/*
 * A wizard of three pages with next, back and cancel, and a draft that is there after a reload, in any tab.
 */

const moved = defineEvent(
  'wizard.moved',
  z.discriminatedUnion('to', [
    z.object({ to: z.literal('next'), answer: z.string() }),
    z.object({ to: z.literal('back') }),
    z.object({ to: z.literal('cancel') }),
  ]),
);
type Move = { to: 'next'; answer: string } | { to: 'back' } | { to: 'cancel' };
const PAGES = ['name', 'address', 'confirm'];

export const wizard: Example = async ({ open, clock, say }) => {
  const define = (stepfast: Stepfast) => {
    stepfast.job<{ id: string }>('wizard', async ({ payload, step }) => {
      const answers: Record<string, string> = {};
      for (let page = 0; page < PAGES.length; ) {
        const name = PAGES[page]!;
        await step.run('draft', ({ state }) => state.set(`wizard:${payload.id}`, { page: name, answers }));
        const { payload: move } = await step.waitForEvent(moved, { correlationKey: payload.id });
        if (move.to === 'cancel') {
          await step.run('drop-draft', ({ state }) => state.delete(`wizard:${payload.id}`));
          return { cancelled: true as const };
        }
        if (move.to === 'next') answers[name] = move.answer;
        page += move.to === 'next' ? 1 : page > 0 ? -1 : 0;
      }
      await step.run('submit', ({ state }) => state.delete(`wizard:${payload.id}`));
      return answers;
    });
  };
  const move = async (app: Stepfast, id: string, ...moves: Move[]) => {
    for (const each of moves) await app.dispatch(moved, each, { correlationKey: id });
    await clock.idle();
  };

  const first = open(define);
  const run = await first.start('wizard', { id: 'w1' });
  await clock.idle();
  await move(first, 'w1', { to: 'next', answer: 'Ada' }, { to: 'next', answer: 'Londn' }, { to: 'back' });
  say('The tab is closed on the second page, and opened again a week later.');
  const app = open(define);
  await clock.advance('7 days');
  const draft = await app.state.get('wizard:w1');
  await move(app, 'w1', { to: 'next', answer: 'London' }, { to: 'next', answer: 'yes' });
  const other = await app.start('wizard', { id: 'w2' });
  await move(app, 'w2', { to: 'next', answer: 'Bob' }, { to: 'cancel' });
  return { draft, one: (await app.runs.get(run.id))!.result, two: await other.result() };
};
