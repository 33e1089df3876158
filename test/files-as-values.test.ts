import { expect, it } from 'vitest';
import type { Stepfast } from '../src/index.js';
import { media, world } from './harness.js';

// Pins: spec D7 and R3 for a `File`: it comes back as one, with its name, wherever a value is kept in memory. Node 20 makes a
// `Blob` of what it clones.

const file = (name: string) => new File(['hello'], name, { type: 'text/plain', lastModified: 5 });
const shown = async (given: unknown) => {
  const { name, type, lastModified } = given as File;
  return [given instanceof File, name, type, lastModified, await (given as File).text()];
};
const asGiven = (name: string) => [true, name, 'text/plain', 5, 'hello'];

for (const replay of ['resume', 'always'] as const)
  it(`D7: a File in a payload, a result, an event and the state stays one, also deep inside (${replay})`, async () => {
    const w = world(media.memory!);
    const define = (stepfast: Stepfast) =>
      void stepfast.job<{ files: File[] }>('upload', async ({ payload, step }) => {
        const { picked } = await step.run('pick', () => ({ picked: new Map([['one', file('picked')]]) }));
        const event = await step.waitForEvent<File>('sent');
        return Promise.all([payload.files[0], picked.get('one'), event.payload].map(shown));
      });
    const first = w.engine(define, { replay });
    const run = await first.start('upload', { files: [file('given')] });
    await first.state.set('k', [file('kept')]);
    await w.clock.advance('1s');
    w.crash(first);

    const engine = w.engine(define, { replay });
    await engine.dispatch('sent', file('sent'));
    await w.clock.advance('1m');
    const { status, result } = (await engine.runs.get(run.id))!;
    expect({ status, result }).toEqual({ status: 'completed', result: ['given', 'picked', 'sent'].map(asGiven) });
    expect(await shown(((await engine.state.get('k')) as File[])[0])).toEqual(asGiven('kept'));
    expect(w.errors).toEqual([]);
  });
