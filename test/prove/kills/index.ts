import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { createFileStore } from '../../../adapters/file/store.js';
import { createStepfast, type StoredRun } from '../../../src/index.js';
import { type Random, randomOf } from '../disk/random.js';
import type { Proof, Proving, Technique } from '../technique.js';
import { createOracle, type Oracle } from './oracle.js';

/*
 * Real processes killed with SIGKILL after a random life, on folders that they share one after the other, or two at a
 * time. The oracle is this process: it collects over pipes what was acknowledged, and in the end reads the folders.
 * What a kill does not show is power loss: the system's cache survives it.
 */

const KILLS = 1_000;
const LANES = 4;
/** Lives of one folder before it is judged. */
const LIVES = 25;
const [SHORTEST_MS, LONGEST_MS] = [40, 180];
/** Start-up of Node is no part of a life: it is counted from the first sign of it. */
const BOOT_PATIENCE_MS = 30_000;

interface Life {
  readonly child: ChildProcess;
  readonly begun: Promise<void>;
  readonly ended: Promise<NodeJS.Signals | number | null>;
  complaint: string;
}

const ended = (child: ChildProcess) =>
  new Promise<NodeJS.Signals | number | null>((resolve) =>
    child.on('close', (code, signal) => resolve(signal ?? code)),
  );

function live(script: string, dir: string, name: string, mode: string, oracle: Oracle): Life {
  // Advice for developers is no complaint: an id out of 64 letters may well contain `NaN`.
  const env = { ...process.env, NODE_ENV: 'production' };
  const child = spawn(process.execPath, [script, dir, name, mode], { stdio: ['ignore', 'pipe', 'pipe'], env });
  const hear = oracle.process();
  let rest = '';
  let begin = () => {};
  const begun = new Promise<void>((resolve) => {
    begin = resolve;
    setTimeout(resolve, BOOT_PATIENCE_MS).unref();
  });
  const life: Life = { child, begun, ended: ended(child), complaint: '' };
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    begin();
    const lines = (rest + text).split('\n');
    rest = lines.pop()!;
    for (const line of lines) hear(line);
  });
  child.stderr!.setEncoding('utf8').on('data', (text: string) => (life.complaint += text));
  child.on('close', () => begin());
  return life;
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Kills one folder's processes one after the other; with two, one is always left to contend. */
async function torment(script: string, dir: string, isTwo: boolean, kills: number, random: Random, oracle: Oracle) {
  const mode = isTwo ? 'two' : 'one';
  let next = 0;
  const begin = () => live(script, dir, `${next++}`, mode, oracle);
  const living = isTwo ? [begin(), begin()] : [begin()];
  for (let kill = 0; kill < kills; kill++) {
    const index = random.below(living.length);
    const life = living[index]!;
    // Counted from the first sign of life; the second of two may have nothing to say as long as the first one lives.
    await Promise.race(living.map(({ begun }) => begun));
    await pause(SHORTEST_MS + random.below(LONGEST_MS - SHORTEST_MS));
    life.child.kill('SIGKILL');
    const how = await life.ended;
    if (how !== 'SIGKILL') oracle.violation(`a process ended by itself (${how}): ${life.complaint.slice(0, 300)}`);
    if (life.complaint) oracle.violation(`a process reported: ${life.complaint.slice(0, 300)}`);
    if (kill + 1 < kills) living[index] = begin();
    else
      for (const other of living.filter((each) => each !== life)) {
        other.child.kill('SIGKILL');
        await other.ended;
      }
  }
}

/** Everything that the folder holds, read by a store of this process; then the runs are gone on with to their end. */
async function inspect(dir: string, oracle: Oracle): Promise<void> {
  const errors: unknown[] = [];
  const store = createFileStore({ dir });
  await store.open({
    owner: 'judge',
    now: Date.now(),
    leaseMs: 10_000,
    mode: 'drive',
    onError: (error) => errors.push(error),
  });
  const runs: StoredRun[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await store.list({ limit: 500, ...(cursor !== undefined && { cursor }) });
    runs.push(...page.runs);
    cursor = page.nextCursor;
    if (cursor === undefined) break;
  }
  const numbers = new Map<string, unknown>();
  for (const life of oracle.lives()) numbers.set(life, (await store.state(`life-${life}`))?.value);
  await store.close();
  oracle.judge(runs, numbers);
  const stepfast = createStepfast({ store: createFileStore({ dir }), onError: (error) => errors.push(error) });
  const hear = oracle.process();
  stepfast.job<number, string>(
    'work',
    { maxInterruptions: 1_000, queue: { name: 'q', concurrency: 8 } },
    async ({ payload, step, run }) => {
      for (let index = 1; index <= 3; index++)
        await step.run(`s${index}`, () => {
          hear(`E ${run.id} s${index}`);
          return payload + index;
        });
      const { payload: word } = await step.waitForEvent<string>('go', { correlationKey: run.id });
      return step.run('last', () => {
        hear(`E ${run.id} last`);
        return word;
      });
    },
  );
  await stepfast.ready();
  for (const [runId, word] of oracle.dispatched()) {
    const handle = await stepfast.runs.get(runId);
    if (!handle) continue; // told of already
    const result = await Promise.race([resultOf(stepfast, runId), pause(60_000).then(() => 'nothing, for a minute')]);
    if (result !== word) oracle.violation(`run ${runId} ended with ${String(result)}, not ${word}`);
  }
  await stepfast.close();
  for (const error of errors) oracle.violation(`reported by the store: ${String(error)}`);
  for (const name of ['log', 'lock', 'inbox', 'outbox']) {
    const found = existsSync(join(dir, name)) ? readdirSync(join(dir, name)) : [];
    if (name === 'log' || name === 'lock') {
      const files = found.filter((file) => !file.endsWith('.tmp'));
      if (files.length !== 1) oracle.violation(`leftovers in ${name}: ${files.join(', ')}`);
    }
    oracle.leftovers(found.filter((file) => file.endsWith('.tmp')).length);
  }
}

async function resultOf(stepfast: ReturnType<typeof createStepfast>, runId: string): Promise<unknown> {
  for (;;) {
    const run = await stepfast.runs.get(runId);
    if (run?.status === 'completed') return run.result;
    if (run?.status === 'failed' || run?.status === 'cancelled') return `${run.status}: ${run.error?.message}`;
    await pause(5);
  }
}

async function prove({ budgetMs, firstSeed, say }: Proving): Promise<Proof> {
  const until = budgetMs === undefined ? Number.POSITIVE_INFINITY : Date.now() + budgetMs;
  const total = Number(process.env.PROVE_KILLS ?? KILLS);
  const root = mkdtempSync(join(tmpdir(), 'stepfast-kills-'));
  const script = join(root, 'writer.mjs');
  const entry = join(process.cwd(), 'test', 'prove', 'kills', 'writer.ts');
  await build({
    entryPoints: [entry],
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    outfile: script,
  });
  const violations: string[] = [];
  const counts = { kills: 0, folders: 0, starts: 0, outcomes: 0, events: 0, 'in flight': 0, swept: 0, numbers: 0 };
  let seed = firstSeed;
  let planned = 0;
  const lane = async () => {
    while ((budgetMs !== undefined || planned < total) && Date.now() < until && violations.length < 50) {
      const mine = seed++;
      const kills = Math.min(LIVES, budgetMs === undefined ? total - planned : LIVES);
      planned += kills;
      const isTwo = mine % 2 === 0;
      const dir = join(root, `seed-${mine}`);
      mkdirSync(dir);
      const oracle = createOracle(
        (line) => void violations.push(`seed ${mine}, ${isTwo ? 'two processes' : 'one process'}: ${line}`),
      );
      try {
        await torment(script, dir, isTwo, kills, randomOf(mine), oracle);
        await inspect(dir, oracle);
      } catch (error) {
        oracle.violation(`the folder can not be read: ${String(error)}`);
      }
      const seen = oracle.counts();
      counts.kills += kills;
      counts.folders++;
      for (const name of ['starts', 'outcomes', 'events', 'in flight', 'swept', 'numbers'] as const)
        counts[name] += seen[name];
      rmSync(dir, { recursive: true, force: true });
      say(`kills: ${counts.kills}, ${violations.length} violations`);
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  rmSync(root, { recursive: true, force: true });
  if (!counts['in flight']) violations.push('no kill hit a run in flight: too tame to prove anything');
  return { cases: counts.kills, violations, seeds: seed - firstSeed, counts };
}

export const technique: Technique = { title: 'kill -9 of Node', prove };
