import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { buildSync } from 'esbuild';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { type ConnectOptions, connectStepfast } from '../plugins/bridge/index.js';
import { failureOf, until } from './bridge-kit.js';
import { freshFolder } from './harness.js';

/*
 * Pins: an engine in a real thread of its own, driven from here over the thread's port (spec O5), lost with its thread.
 */

const folder = mkdtempSync(join(tmpdir(), 'stepfast-thread-'));
const script = join(folder, 'engine-thread.mjs');
beforeAll(() => {
  const entry = join(import.meta.dirname, 'fixtures/engine-thread.ts');
  const shape = { bundle: true, platform: 'node', format: 'esm', target: 'node20' } as const;
  buildSync({ entryPoints: [entry], outfile: script, ...shape });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const threads: Worker[] = [];
afterEach(async () => {
  for (const thread of threads.splice(0)) await thread.terminate();
});

function engineThread(dir: string, options: ConnectOptions = {}) {
  const thread = new Worker(script, { workerData: { dir } });
  threads.push(thread);
  const did: string[] = [];
  thread.on('message', (message: { did?: string }) => void (message.did && did.push(message.did)));
  return { thread, did, remote: connectStepfast(thread, options) };
}

it('O5: a run started from here is driven in the thread, and outlives it; the lost port is noticed', async () => {
  const dir = freshFolder();
  const lost: { readonly code: string }[] = [];
  const first = engineThread(dir, { onLost: (error) => void lost.push(error) });
  const payload = {
    items: new Map([
      ['a', 1],
      ['b', 2],
    ]),
  };
  const handle = await first.remote.start('order', payload, { idempotencyKey: 'order:1' });
  await until(first.remote.runs, handle.id, 'waiting');
  const result = failureOf(handle.result());
  const exit = new Promise((resolve) => first.thread.once('exit', resolve));
  first.thread.postMessage({ stop: true });
  await exit;
  expect(await result).toMatchObject({ code: 'PORT_LOST' });
  expect(lost).toMatchObject([{ code: 'PORT_LOST' }]);

  const second = engineThread(dir);
  const again = await second.remote.start('order', payload, { idempotencyKey: 'order:1' });
  expect([again.id, again.created]).toEqual([handle.id, false]);
  const at = new Date(86_400_000);
  await second.remote.dispatch('paid', { at });
  expect(await again.result()).toEqual({ total: 3, at });
  expect([first.did, second.did]).toEqual([['add up'], []]);
  await second.remote.close();
});

it('O5: a thread that is terminated in the middle of it all is a lost port', async () => {
  const { thread, remote } = engineThread(freshFolder(), { onLost: () => undefined });
  const handle = await remote.start('order', { items: new Map() });
  const result = failureOf(handle.result());
  await until(remote.runs, handle.id, 'waiting');
  await thread.terminate();
  expect(await result).toMatchObject({ code: 'PORT_LOST' });
});

it('O5: a thread that is given up by its client goes on, and another client finds the run', async () => {
  const { thread, remote } = engineThread(freshFolder());
  const { id } = await remote.start('order', { items: new Map() });
  const before = thread.listenerCount('message');
  await remote.close();
  expect(thread.listenerCount('message')).toBe(before - 1);
  const next = connectStepfast(thread);
  await until(next.runs, id, 'waiting');
  await next.close();
});
