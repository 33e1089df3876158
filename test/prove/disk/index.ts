import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createFileStore } from '../../../adapters/file/store.js';
import { createStepfast } from '../../../src/index.js';
import { simulatedClock } from '../../../src/testing/clock.js';
import { defineFlows } from '../../golden/flows.js';
import type { Proof, Proving, Technique } from '../technique.js';
import { type Looked, look, NOW, put, quickDisk, readFolder, restore, workFolder } from './bench.js';
import { faults } from './faults.js';
import { isLockKept, judge } from './judge.js';
import { cuts, flips, lines, type Mutant, stretches, type Thing, wholeFiles } from './mutants.js';
import { type Facts, type Folder, factsOf } from './oracle.js';
import { randomOf } from './random.js';

/*
 * Every file of the golden stores damaged in every way that disks, crashes and people do it, on a real file system; the
 * oracle (oracle.ts, judge.ts) reads the sound files by itself.
 */

const PATIENCE_MS = 10_000;
const COUNT = 20_000;
const golden = join(process.cwd(), 'test', 'golden');

/** A store with a long log behind its snapshot: the golden one, gone on with by an engine. */
async function grown(from: Folder, dir: string): Promise<Folder> {
  restore(dir, from);
  const clock = simulatedClock({ now: NOW });
  const store = createFileStore({ dir }, { disk: quickDisk });
  const stepfast = createStepfast({ store, clock, onError: () => undefined });
  defineFlows(stepfast, { isMaking: false, entered: () => undefined });
  await stepfast.ready();
  for (const id of ['waits:1', 'races:1']) await stepfast.dispatch('golden.go', 'go', { correlationKey: id });
  await stepfast.state.set('golden:plain', 'changed');
  await stepfast.state.delete('golden:map');
  await stepfast.runs.delete('cancelled:1');
  await clock.advance('2h');
  store.abandon!();
  await stepfast.close().catch(() => undefined);
  const folder = readFolder(dir);
  return new Map([...folder].filter(([path]) => !/^(in|out)box\//.test(path)));
}

function plant(dir: string, path: string, thing: Thing, sound: Buffer): void {
  const at = join(dir, path);
  rmSync(at, { force: true });
  mkdirSync(dirname(at), { recursive: true });
  if (thing === 'folder') mkdirSync(at);
  else if (thing === 'pipe') execFileSync('mkfifo', [at]);
  else {
    put(`${dir}-outside`, 'target', sound);
    symlinkSync(join(`${dir}-outside`, 'target'), at);
  }
}

interface Bench {
  readonly dir: string;
  readonly base: Folder;
  readonly truth: Facts;
}

const withPatience = async (work: Promise<Looked>): Promise<Looked | undefined> => {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), PATIENCE_MS);
  });
  const first = await Promise.race([work, late]);
  clearTimeout(timer);
  return first;
};

/** Damages, opens, judges; now and then goes on, and opens again. */
async function tryOut({ dir, base, truth }: Bench, mutant: Mutant, isDeep: boolean): Promise<string[]> {
  restore(dir, base);
  for (const [path, bytes] of mutant.files)
    if (typeof bytes === 'string') plant(dir, path, bytes, base.get(path)!);
    else put(dir, path, bytes);
  const looked = await withPatience(look(dir, truth));
  if (!looked) return ['the store hangs'];
  const wrong = judge(mutant, base, truth, looked, dir);
  if (existsSync(`${dir}-outside/target`)) {
    const path = [...mutant.files.keys()][0]!;
    if (!readFileSync(`${dir}-outside/target`).equals(base.get(path)!)) wrong.push('a file outside was changed');
    rmSync(`${dir}-outside`, { recursive: true });
  }
  if (isDeep && !looked.refused) {
    const entries = [{ kind: 'started', at: NOW, payload: 'fresh' }] as const;
    const start = { runId: 'fresh', job: 'fresh', version: 1, queue: 'q', dueAt: NOW, entries };
    const outcome = await looked.store.commit({ now: NOW, starts: [start] }).catch((error: Error) => error);
    if (!('kind' in outcome) || outcome.kind !== 'committed')
      wrong.push(`other work does not go on: ${JSON.stringify(outcome)}`);
    await looked.store.close();
    const again = await withPatience(look(dir, truth));
    if (!again || again.refused) wrong.push(`it does not open again: ${again?.refused?.message}`);
    else {
      if (!(await again.store.load('fresh').catch(() => undefined)))
        wrong.push('what was committed after the damage is gone');
      for (const fact of truth.keys())
        if (
          !fact.startsWith('key ') &&
          again.seen.get(fact) !== looked.seen.get(fact) &&
          !isLockKept(again.seen.get(fact), looked.seen.get(fact)!)
        )
          wrong.push(`${fact} changes from one open to the next`);
      await again.store.close();
    }
  } else looked.store.abandon!();
  if (({} as { polluted?: unknown }).polluted !== undefined) wrong.push('Object.prototype is polluted');
  return wrong;
}

async function* all(benches: readonly Bench[], seed: number, count: number): AsyncGenerator<readonly [Bench, Mutant]> {
  const random = randomOf(seed);
  const isFirst = seed === 1;
  let done = 0;
  for (const bench of benches) {
    const { base } = bench;
    const fixed = isFirst ? [...wholeFiles(base), ...lines(base)] : [];
    const share = Math.floor(count / benches.length);
    const rest = share - fixed.length;
    for (const mutant of [
      ...fixed,
      ...stretches(base, random, Math.floor(rest * 0.1)),
      ...cuts(base, random, Math.floor(rest * 0.25)),
    ]) {
      done++;
      yield [bench, mutant];
    }
  }
  for (const bench of benches)
    for (const mutant of flips(bench.base, random, Math.ceil((count - done) / benches.length))) yield [bench, mutant];
}

async function prove({ budgetMs, firstSeed, part, say }: Proving): Promise<Proof> {
  Error.stackTraceLimit = 0; // a damaged folder is told of by thousands of errors, and nobody reads their stacks
  const until = budgetMs === undefined ? Number.POSITIVE_INFINITY : Date.now() + budgetMs;
  const count = Number(process.env.PROVE_MUTANTS ?? COUNT);
  const root = workFolder();
  const violations: string[] = [];
  const counts = { mutants: 0, faults: 0 };
  const found = (line: string) => {
    violations.push(line);
    if (violations.length < 20) say(`disk: ${line}`);
  };
  const uncaught = (error: unknown) => void violations.push(`an error that nobody handles: ${String(error)}`);
  process.on('unhandledRejection', uncaught).on('uncaughtException', uncaught);
  const dir = join(root, 'store');
  mkdirSync(dir);
  cpSync(join(golden, 'v1', 'file'), dir, { recursive: true });
  const first = new Map([...readFolder(dir)].filter(([path]) => !path.startsWith('inbox/')));
  const benches = [first, await grown(first, dir)].map((base): Bench => ({ dir, base, truth: factsOf(base) }));

  for (const bench of benches) {
    const sound: Mutant = { title: 'nothing is damaged', files: new Map(), isHarmless: true };
    const wrong = await tryOut(bench, sound, true);
    if (wrong.length) throw new Error(`the oracle and the store do not agree on a sound folder: ${wrong.join('; ')}`);
  }
  let seed = firstSeed;
  let drawn = 0;
  do {
    for await (const [bench, mutant] of all(benches, seed, count)) {
      if (drawn++ % part.of !== part.index) continue;
      const wrong = await tryOut(bench, mutant, counts.mutants % 32 === 0);
      counts.mutants++;
      for (const each of wrong) found(`${isGrown(bench, benches)}${mutant.title}: ${each}`);
      if (violations.length > 200) break;
      if (counts.mutants % 2_000 === 0) say(`disk: ${counts.mutants} mutants, ${violations.length} violations`);
      if (Date.now() > until) break;
    }
    seed++;
  } while (budgetMs !== undefined && Date.now() < until && violations.length < 200);
  // They have no chance in them: tried when the first seed was.
  if (firstSeed === 1)
    for (const bench of benches) counts.faults += await faults(bench, part, (line) => void violations.push(line));
  rmSync(root, { recursive: true, force: true });
  return { cases: counts.mutants + counts.faults, violations, seeds: seed - firstSeed, counts };
}

const isGrown = (bench: Bench, benches: readonly Bench[]) => (bench === benches[0] ? '' : 'grown ');

export const technique: Technique = { title: 'damaged files', prove };
