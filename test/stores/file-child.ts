import { createFileStore } from '../../adapters/file/store.js';
import type { Batch } from '../../src/store/batch.js';
import { committed, deleteOf, ended, endOf, now, startOf, stateOf, stepOf } from './file-kit.js';

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

if (task === 'churn') {
  // Runs that come and go, some of them by way of the archive, and a counter beside them.
  const store = await open('drive', 20_000);
  const lane = async (name: string, keeps: number) => {
    const kept: string[] = [];
    for (let run = 0; ; run++) {
      const runId = `${argument}:${name}:${run}`;
      await ended(store, runId, { idempotencyKey: runId });
      kept.push(runId);
      const { state } = await committed(store, stateOf({ kind: 'increment', key: 'count', by: 1 }));
      say(`counted ${state[0]!.value}`);
      if (kept.length < keeps) continue;
      const old = kept.shift()!;
      await committed(store, deleteOf(old));
      say(`deleted ${old}`);
    }
  };
  await Promise.all([lane('a', 1), lane('b', 5), lane('c', 10)]);
}

if (task === 'commit') {
  const store = await open('use');
  const batch = JSON.parse(argument) as Batch;
  say(JSON.stringify(await store.commit(batch)));
  const key = batch.state?.[0]?.key;
  say(JSON.stringify((key !== undefined && (await store.state(key))) || null));
  await store.close();
}
