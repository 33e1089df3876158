import { createFileStore } from '../../adapters/file/store.js';
import { committed, endOf, now, startOf, stepOf } from './file-kit.js';

/*
 * A process of its own for the tests of locks, inbox and kills: `node child.mjs <task> <dir> [argument]`. It says on
 * standard output what has been acknowledged.
 */

const [, , task, dir, argument = ''] = process.argv;
const say = (line: string) => void process.stdout.write(`${line}\n`);
const open = async (mode: 'drive' | 'use', compactAt?: number) => {
  const store = createFileStore({ dir: dir! }, compactAt === undefined ? {} : { compactAt });
  await store.open({
    owner: `child ${process.pid}`,
    now,
    leaseMs: 10_000,
    mode,
    onError: (error) => console.error(error),
  });
  return store;
};

if (task === 'hold') {
  const store = await open('drive');
  await committed(store, startOf('held'));
  say('ready');
  setInterval(() => {}, 1_000);
}

if (task === 'write') {
  // Small steps of many runs, ended after a few, with compaction all the time: a kill finds it anywhere.
  const store = await open('drive', 20_000);
  say('ready');
  const lane = async (name: string) => {
    for (let run = 0; ; run++) {
      const runId = `${argument}:${name}:${run}`;
      await committed(store, startOf(runId, { idempotencyKey: runId }));
      say(`${runId} 1`);
      for (let index = 1; index <= 3; index++) {
        await committed(store, stepOf(runId, index));
        say(`${runId} ${index + 1}`);
      }
      await committed(store, endOf(runId));
      say(`${runId} 5`);
    }
  };
  await Promise.all(['a', 'b', 'c'].map(lane));
}

if (task === 'guest') {
  const store = await open('use');
  const outcome = await committed(store, {
    now,
    events: [{ id: argument, name: 'e', payload: argument, ttlMs: 60_000, maxBacklog: 10 }],
  });
  say(JSON.stringify(outcome.events[0]));
  await store.close();
}
