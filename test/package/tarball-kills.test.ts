import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, expect, it } from 'vitest';
import { freshProject } from './fresh-project.js';

/*
 * Pins: the first two promises of the README, on the packed tarball, in real processes that are killed with SIGKILL.
 * The oracle is a witness file that stepfast knows nothing of: lines are appended (and flushed) by the children. The
 * moments of the kills are drawn from a seed, counted in lines of the witness so that a slow machine is killed in the
 * same places; which statement a kill hits is left to chance.
 */

const seed = Number(process.env.STEPFAST_SEED ?? 25);
const seedSaid = `STEPFAST_SEED=${seed} npx vitest run test/package/tarball-kills.test.ts`;
const PATIENCE_MS = 30_000;
const project = freshProject();
const children = new Set<ChildProcess>();
afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
});
afterAll(project.remove);

/** mulberry32: 32 bits of state are enough to choose moments. */
function randomFrom(start: number) {
  let state = start;
  return (below: number): number => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

interface Line {
  /** Which life of the child wrote it: its process id. */
  readonly pid: number;
  readonly what: 'begins' | 'recorded' | 'started' | 'result' | 'dispatched' | 'timeline';
  readonly run: string;
  readonly step?: string;
  readonly key?: string;
  readonly attempt?: number;
  readonly value?: unknown;
}

const witnessOf = (file: string): Line[] =>
  !existsSync(file)
    ? []
    : readFileSync(file, 'utf8')
        .split('\n')
        .slice(0, -1)
        .map((line) => JSON.parse(line) as Line);

const common = `
  import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
  import { setTimeout as delay } from 'node:timers/promises';
  import { createStepfast } from 'stepfast';
  import { fileStore } from 'stepfast/file';
  const [, , dir, file] = process.argv;
  const fd = openSync(file, 'a');
  const say = (what, run, more) => {
    writeSync(fd, JSON.stringify({ pid: process.pid, what, run, ...more }) + '\\n');
    fsyncSync(fd);
  };
  const stepfast = createStepfast({ store: fileStore({ dir }) });
  /** A step with a side effect. */
  const witnessed = (step, run, name, work) =>
    step.run(name, async ({ attempt, idempotencyKey }) => {
      say('begins', run.id, { step: name, attempt, key: idempotencyKey });
      return work();
    });
  /** Says of each step that it is recorded as soon as that can be seen from outside. */
  const looks = new Map();
  let isOver = false;
  const watch = (handle) => {
    const known = new Set();
    const look = async () => {
      const steps = (await stepfast.runs.timeline(handle.id)).filter(({ kind }) => kind === 'step-completed');
      for (const { name, value } of steps) {
        if (known.has(name)) continue;
        known.add(name);
        say('recorded', handle.id, { step: name, value });
      }
      return steps.map(({ name }) => name);
    };
    looks.set(handle.id, look);
    handle.subscribe(() => look().catch((error) => isOver || console.error(error)));
  };
  const report = async (handle) => {
    const value = await handle.result();
    say('timeline', handle.id, { value: await looks.get(handle.id)() });
    say('result', handle.id, { value });
  };
  const end = () => {
    isOver = true;
    return stepfast.close();
  };
`;

interface Life {
  readonly ended: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
  readonly isOver: () => boolean;
  readonly complaint: () => string;
  readonly kill: () => void;
}
function live(script: string, ...args: string[]): Life {
  const child = spawn(process.execPath, [script, ...args], { cwd: project.dir, stdio: ['ignore', 'ignore', 'pipe'] });
  children.add(child);
  let complaint = '';
  let isOver = false;
  child.stderr.setEncoding('utf8').on('data', (text: string) => (complaint += text));
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) =>
    child.once('close', (code, signal) => {
      isOver = true;
      children.delete(child);
      resolve({ code, signal });
    }),
  );
  return { ended, isOver: () => isOver, complaint: () => complaint, kill: () => child.kill('SIGKILL') };
}

/** Waits until the witness fits, or the process has ended. A run that stands still is told from a slow machine by patience. */
async function until(life: Life, file: string, fits: (lines: readonly Line[]) => boolean): Promise<void> {
  let [length, since] = [-1, Date.now()];
  while (!life.isOver()) {
    const lines = witnessOf(file);
    if (fits(lines)) return;
    if (lines.length !== length) [length, since] = [lines.length, Date.now()];
    if (Date.now() - since > PATIENCE_MS)
      throw new Error(
        `Nothing happened for ${PATIENCE_MS} ms. ${seedSaid}\n${JSON.stringify(lines.at(-1))}\n${life.complaint()}`,
      );
    await delay(2);
  }
}
const untilItEnds = (life: Life, file: string) => until(life, file, () => false).then(() => life.ended);

/**
 * No recorded step began again; what began again was in flight when its process was killed. Recorded is a step that the
 * timeline has shown, and one after which another step of its run has begun: functions wait for what came before them.
 */
function expectNothingTwice(lines: readonly Line[]): void {
  const faults: string[] = [];
  const recorded = new Map<string, unknown>();
  const begun = new Map<string, Line>();
  const latest = new Map<string, string>();
  for (const line of lines) {
    const name = `${line.run} ${line.step}`;
    if (line.what === 'begins') {
      const before = begun.get(name);
      const previous = latest.get(line.run);
      if (previous !== undefined && previous !== name && !recorded.has(previous)) recorded.set(previous, undefined);
      if (recorded.has(name)) faults.push(`${name} began again after it was recorded`);
      if (before?.pid === line.pid) faults.push(`${name} began twice in one life`);
      if (before && before.key !== line.key) faults.push(`${name} began again with another idempotency key`);
      if (before && before.attempt! >= line.attempt!) faults.push(`${name} began again with attempt ${line.attempt}`);
      begun.set(name, line);
      latest.set(line.run, name);
    }
    if (line.what === 'recorded') {
      const known = recorded.get(name) ?? line.value;
      if (!begun.has(name)) faults.push(`${name} was recorded without being called`);
      if (JSON.stringify(known) !== JSON.stringify(line.value)) faults.push(`${name} was ${known}, now ${line.value}`);
      recorded.set(name, line.value);
    }
  }
  expect(faults, seedSaid).toEqual([]);
  const shown = lines.filter(({ what }) => what === 'recorded');
  expect(new Set(shown.map(({ run, step }) => `${run} ${step}`)).size, 'every step was seen as recorded').toBe(
    begun.size,
  );
}

it('a process killed 15 times at random moments completes every run, and repeats no recorded step', async () => {
  const [kills, runs, steps] = [15, 24, 6];
  const random = randomFrom(seed);
  const [dir, file] = [join(project.dir, 'killed'), join(project.dir, 'killed.jsonl')];
  const script = project.write(
    'killed.mjs',
    `${common}
     const job = stepfast.job(
       'sum',
       { queue: { name: 'sums', concurrency: 3 }, maxInterruptions: 1000 },
       async ({ payload, step, run }) => {
         let sum = payload.number;
         for (let index = 1; index <= ${steps}; index++) {
           sum = await witnessed(step, run, 'add-' + index, async () => {
             await delay(index % 3);
             return sum + index;
           });
           if (index === 3) await step.sleep('rest', 5);
         }
         return sum;
       },
     );
     const handles = [];
     for (let number = 0; number < ${runs}; number++) {
       const handle = await stepfast.start(job, { number }, { idempotencyKey: 'sum ' + number });
       say('started', handle.id, { value: { number, created: handle.created } });
       watch(handle);
       handles.push(handle);
     }
     for (const handle of handles) await report(handle);
     await end();`,
  );

  for (let kill = 1; kill <= kills; kill++) {
    const life = live(script, dir, file);
    const before = witnessOf(file).filter(({ what }) => what === 'begins').length;
    // Some die while the store opens and recovers, some after a few steps.
    const [calls, pause] = [random(5), random(kill % 4 === 0 ? 200 : 8)];
    if (kill % 4 !== 0)
      await until(life, file, (lines) => lines.filter(({ what }) => what === 'begins').length > before + calls);
    await delay(pause);
    life.kill();
    const { signal } = await life.ended;
    expect(signal, `${seedSaid}, kill ${kill}: the process must not end by itself. ${life.complaint()}`).toBe(
      'SIGKILL',
    );
  }
  const last = live(script, dir, file);
  const { code } = await untilItEnds(last, file);
  expect(code, last.complaint()).toBe(0);

  const lines = witnessOf(file);
  expectNothingTwice(lines);
  const started = lines.filter(({ what }) => what === 'started');
  const ids = new Map(started.map(({ run, value }) => [(value as { number: number }).number, run]));
  expect(ids.size).toBe(runs);
  for (const { run, value } of started) expect(ids.get((value as { number: number }).number), seedSaid).toBe(run);
  const of = (run: string, what: Line['what']) => lines.filter((line) => line.run === run && line.what === what);
  const names = Array.from({ length: steps }, (_, index) => `add-${index + 1}`);
  for (const [number, run] of ids) {
    expect(of(run, 'started').filter(({ value }) => (value as { created: boolean }).created).length).toBeLessThan(2);
    expect(of(run, 'result').at(-1)?.value, seedSaid).toBe(number + (steps * (steps + 1)) / 2);
    expect(of(run, 'timeline').at(-1)?.value, seedSaid).toEqual(names);
    expect(new Set(of(run, 'begins').map(({ step }) => step))).toEqual(new Set(names));
    expect(of(run, 'begins').length, 'one more call for each kill at the most').toBeLessThanOrEqual(steps + kills);
  }
  expect(lines.filter(({ what }) => what === 'begins').length, 'no kill hit a step').toBeGreaterThan(runs * steps);
});

it('no acknowledged event is lost while the process that takes them is killed and another dispatches', async () => {
  const [kills, lanes, perLane] = [8, 4, 20];
  const random = randomFrom(seed + 1);
  const [dir, file] = [join(project.dir, 'events'), join(project.dir, 'events.jsonl')];
  const sent = join(project.dir, 'sent.jsonl');
  const taker = project.write(
    'taker.mjs',
    `${common}
     const job = stepfast.job(
       'collect',
       { queue: { name: 'lanes', concurrency: 4 }, maxInterruptions: 1000 },
       async ({ payload, step, run }) => {
         const items = [];
         for (let index = 1; index <= ${perLane}; index++) {
           const event = await step.waitForEvent('item', { correlationKey: payload.lane, timeout: '24h' });
           items.push(await witnessed(step, run, 'keep-' + index, () => event.payload));
         }
         return items;
       },
     );
     const handles = [];
     for (let lane = 0; lane < ${lanes}; lane++) {
       const handle = await stepfast.start(job, { lane: 'lane ' + lane }, { id: 'run of lane ' + lane });
       say('started', handle.id);
       watch(handle);
       handles.push(handle);
     }
     for (const handle of handles) await report(handle);
     await end();`,
  );
  const sender = project.write(
    'sender.mjs',
    `${common}
     for (let index = 1; index <= ${perLane}; index++)
       for (let lane = 0; lane < ${lanes}; lane++) {
         const value = lane + ':' + index;
         await stepfast.dispatch('item', value, { correlationKey: 'lane ' + lane });
         say('dispatched', 'run of lane ' + lane, { value });
         await delay((index * 7 + lane * 13) % 40);
       }
     await end();`,
  );

  let taking = live(taker, dir, file);
  await until(taking, file, (lines) => lines.filter(({ what }) => what === 'started').length === lanes);
  const sending = live(sender, dir, sent);
  const total = lanes * perLane;
  for (let kill = 1; kill <= kills; kill++) {
    const acknowledged = Math.floor((kill * total) / (kills + 1)) + random(4);
    await until(sending, sent, (lines) => lines.length >= acknowledged);
    await delay(random(10));
    taking.kill();
    const { signal } = await taking.ended;
    expect(signal, `${seedSaid}, kill ${kill}: ${taking.complaint()}`).toBe('SIGKILL');
    taking = live(taker, dir, file);
  }
  const sentEnd = await untilItEnds(sending, sent);
  expect(sentEnd.code, `the dispatching process ended badly: ${sending.complaint()}`).toBe(0);
  const taken = await untilItEnds(taking, file);
  expect(taken.code, taking.complaint()).toBe(0);

  const lines = witnessOf(file);
  expectNothingTwice(lines);
  const acknowledged = witnessOf(sent);
  expect(acknowledged).toHaveLength(total);
  for (let lane = 0; lane < lanes; lane++) {
    const run = `run of lane ${lane}`;
    const result = lines.filter((line) => line.run === run && line.what === 'result').at(-1)?.value;
    expect(result, seedSaid).toEqual(acknowledged.filter((line) => line.run === run).map(({ value }) => value));
  }
});
