import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildSync } from 'esbuild';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { fileStore } from '../adapters/file/index.js';
import { createStepfast } from '../src/index.js';
import { freshFolder } from './harness.js';
import { startChild } from './stores/file-process.js';

/*
 * Pins: a Node process that closes its engine when it is asked to stop lets its runs and its folder go: the next one goes on
 * at once, and no interruption is counted (spec F5, O3). The library installs no handler of its own: a killed process is an
 * interruption.
 */

const folder = mkdtempSync(join(tmpdir(), 'stepfast-service-'));
const script = join(folder, 'service.mjs');
beforeAll(() => {
  const entry = join(import.meta.dirname, 'fixtures/service.ts');
  const shape = { bundle: true, platform: 'node', format: 'esm', target: 'node20' } as const;
  buildSync({ entryPoints: [entry], outfile: script, ...shape });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** One life of the process: until its step is under way, then the signal, then its end. */
async function life(dir: string, signal: NodeJS.Signals, ...more: string[]) {
  const child = startChild(script, dir, ...more);
  await child.line((line) => line === 'working');
  child.process.kill(signal);
  await child.ended;
  return child.process;
}

const holders = (dir: string) => {
  const names = readdirSync(join(dir, 'lock')).filter((name) => name.endsWith('.json'));
  return names.map((name) => JSON.parse(readFileSync(join(dir, 'lock', name), 'utf8')).state);
};

/** What the store says of the run when nobody drives it. */
async function seen(dir: string) {
  const reader = createStepfast({ store: fileStore({ dir }) });
  const timeline = await reader.runs.timeline('one');
  await reader.close();
  const claims = timeline.filter(({ kind }) => kind === 'claimed');
  return { claims: claims.length, interrupted: claims.filter(({ interrupted }) => interrupted).length };
}

it.each([
  'SIGTERM',
  'SIGINT',
] as const)('O3: closed on %s, again and again: nothing is counted, the folder is free', async (signal) => {
  const dir = freshFolder();
  for (let lives = 1; lives <= 3; lives++) {
    const { exitCode } = await life(dir, signal, 'clean');
    expect(exitCode).toBe(0);
    expect(holders(dir)).toEqual(['released']);
    // `maxInterruptions` of the job is 1: one that were counted would end the run at the next claim.
    expect(await seen(dir)).toEqual({ claims: lives, interrupted: 0 });
  }
});

it('O3: the library installs no signal handler: without one a signal kills, and that is an interruption', async () => {
  const dir = freshFolder();
  const { signalCode } = await life(dir, 'SIGTERM');
  expect(signalCode).toBe('SIGTERM');
  expect(holders(dir)).toEqual(['held']);
  const engine = createStepfast({ store: fileStore({ dir }), onError: () => undefined });
  engine.job('serve', { maxInterruptions: 1 }, () => 'never');
  const handle = await engine.start('serve', undefined, { id: 'one' });
  await expect(handle.result()).rejects.toMatchObject({ code: 'CRASH_LOOP' });
  await engine.close();
});

it('O3: close that is called twice is one close: neither has ended before the folder is given back', async () => {
  const dir = freshFolder();
  const engine = createStepfast({ store: fileStore({ dir }) });
  engine.job('job', ({ step }) => step.run('a', () => new Promise<void>((resolve) => setTimeout(resolve, 50))));
  await engine.start('job');
  const first = engine.close();
  await engine.close();
  expect(holders(dir)).toEqual(['released']);
  await first;
});
