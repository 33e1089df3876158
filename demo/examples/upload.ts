import type { Stepfast } from 'stepfast';
import type { Example } from './stage.js';

/*
 * A file goes up in chunks, each a step: after a crash, or hours without a network, the chunks that arrived are not sent
 * again. (`when: 'online'` starts no attempt while the browser says that it is offline; here the server is away.)
 */

const CHUNK = 4;

export const upload: Example = async ({ open, clock, say }) => {
  const received: string[] = [];
  let isAway = false;

  const define = (stepfast: Stepfast) => {
    stepfast.job<{ file: Uint8Array }>('upload', async ({ payload, step }) => {
      const { file } = payload;
      const parts = Math.ceil(file.length / CHUNK);
      for (let part = 0; part < parts; part++)
        await step.run(
          'chunk',
          ({ progress }) => {
            if (isAway) throw new Error('no network');
            received.push(String.fromCharCode(...file.subarray(part * CHUNK, (part + 1) * CHUNK)));
            progress({ part: part + 1, parts });
          },
          { when: 'online', retry: { maxAttempts: Infinity, maxDelay: '5m' } },
        );
      return step.run('finish', () => received.join(''));
    });
  };

  const first = open(define);
  const file = new TextEncoder().encode('a file of some length');
  const { id } = await first.start('upload', { file });
  const unsubscribe = first.runs.subscribe(id, ({ progress }) => {
    if ((progress as { part: number } | undefined)?.part !== 2) return;
    isAway = true; // the train enters the tunnel
    unsubscribe(); // snapshots come when they are read: a late one must not lead back into it
  });
  await clock.advance('1h');
  say(`${received.length} chunks arrived before the tunnel. The tablet is switched off.`);
  isAway = false;
  const app = open(define);
  await app.ready();
  await clock.advance('10m');
  const { status, result } = (await app.runs.get(id))!;
  return { status, result, sent: received.length };
};
