import { defineJob, type Stepfast } from 'stepfast';
import type { Example } from './stage.js';

/*
 * A hundred thumbnails are made by a hundred child runs, five at a time, in whatever order; one that fails for good does
 * not spoil the others.
 */

export const fanOut: Example = async ({ open, clock, say }) => {
  let atOnce = 0;
  let most = 0;

  const thumbnail = defineJob<{ photo: number }, string>(
    'thumbnail',
    { queue: { name: 'thumbnails', concurrency: 5 }, retry: { maxAttempts: 2 } },
    ({ payload, step }) =>
      step.run('shrink', async () => {
        most = Math.max(most, ++atOnce);
        await new Promise((resolve) => setTimeout(resolve, 1));
        atOnce--;
        if (payload.photo === 13) throw new Error('not a photo');
        return `thumb-${payload.photo}.webp`;
      }),
  );

  const define = (stepfast: Stepfast) => {
    stepfast.register(thumbnail);
    stepfast.job<{ photos: number }>('album', async ({ payload, step }) => {
      const photos = Array.from({ length: payload.photos }, (_, photo) => photo);
      const made = await Promise.allSettled(photos.map((photo) => step.call(thumbnail, { photo })));
      return { done: made.filter(({ status }) => status === 'fulfilled').length, of: photos.length };
    });
  };

  const app = open(define);
  const { id } = await app.start('album', { photos: 100 });
  await clock.advance('1m');
  const { status, result } = (await app.runs.get(id))!;
  say(`Never more than ${most} at once.`);
  return { status, result, isWithinFive: most <= 5 };
};
