// The first part of the demo: a run that outlives the process that began it. Real processes, a real SIGKILL.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { createStepfast } from 'stepfast';
import { fileStore } from 'stepfast/file';
import { timelineLines } from './timeline.mjs';

/** Long enough to be killed in the middle, however slow the machine is. */
const HANGING_MS = 600_000;
const PATIENCE_MS = 60_000;

const fileOf = (name) => fileURLToPath(new URL(name, import.meta.url));

/** Starts a process, shows what it says, and lets one wait for a line of it. */
function start(label, file, ...args) {
  const child = spawn(process.execPath, [fileOf(file), ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = [];
  let look = () => undefined;
  createInterface({ input: child.stdout }).on('line', (line) => {
    console.log(`   ${label.padEnd(8)} │ ${line}`);
    lines.push(line);
    look();
  });
  let isOver = false;
  const over = new Promise((resolve) =>
    child.once('close', (code, signal) => {
      isOver = true;
      look();
      resolve({ code, signal });
    }),
  );
  const line = (start) =>
    new Promise((resolve, reject) => {
      const refuse = (why) => {
        clearTimeout(patience);
        reject(new Error(`The ${label} process ${why} before it said "${start}".`));
      };
      const patience = setTimeout(refuse, PATIENCE_MS, `took more than ${PATIENCE_MS / 1_000} s`);
      look = () => {
        const found = lines.find((each) => each.startsWith(start));
        if (found === undefined) return isOver && refuse('ended');
        clearTimeout(patience);
        resolve(found);
      };
      look();
    });
  return { line, over, kill: () => child.kill('SIGKILL'), pid: child.pid };
}

const linesOf = (file) =>
  readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

/** What was promised, each with what came of it. */
function promises({ run, timeline, witnesses, receipt, deadPid }) {
  const said = (step, what) => witnesses.filter((line) => line.step === step && line.what === what);
  const steps = [...new Set(witnesses.map(({ step }) => step))];
  const mails = said('send-verification-email', 'begins');
  const recorded = timeline.filter(({ kind }) => kind === 'step-completed').map(({ name }) => name);
  return [
    ['the run is completed', run.status === 'completed' && run.result?.onboarded === true],
    ['all three steps were done', steps.length === 3 && steps.every((step) => said(step, 'done').length === 1)],
    ['each is recorded once', recorded.length === 3 && new Set(recorded).size === 3],
    [
      'no completed step ran twice',
      said('create-user', 'begins').length === 1 && said('unlock-account', 'begins').length === 1,
    ],
    ['the interrupted step ran again, as attempt 2', mails.map(({ attempt }) => attempt).join() === '1,2'],
    ['with the same idempotency key', mails.length === 2 && mails[0].idempotencyKey === mails[1].idempotencyKey],
    ['in another process', mails[0]?.pid === deadPid && mails[1]?.pid !== deadPid],
    ['the event went to the waiting run', receipt.resumed.join() === run.id],
  ];
}

/** Plays it; false when anything was not as promised. */
export async function playNode() {
  const folder = mkdtempSync(join(tmpdir(), 'stepfast-demo-'));
  const [dir, effects] = [join(folder, 'store'), join(folder, 'effects.txt')];
  const children = [];
  const startChild = (...args) => {
    const child = start(...args);
    children.push(child);
    return child;
  };
  try {
    console.log('\n1. Worker A begins, and is killed in the middle of its second step.\n');
    const a = startChild('worker A', 'worker.mjs', dir, effects, String(HANGING_MS));
    await a.line('send-verification-email begins');
    a.kill();
    await a.over;
    const killed = { kind: 'killed', at: Date.now(), detail: `SIGKILL, in the middle of send-verification-email` };
    console.log('   worker A ✝ SIGKILL');

    console.log('\n2. Worker B takes over: the user is not created again, the mail is.\n');
    const b = startChild('worker B', 'worker.mjs', dir, effects, '400');
    await b.line('waits for');

    console.log('\n3. A third process tells of the click in the mail, while B lives.\n');
    const verify = startChild('verify', 'verify.mjs', dir);
    const receipt = JSON.parse((await verify.line('receipt')).slice('receipt '.length));
    await verify.over;
    await b.line('result');
    const { code } = await b.over;
    if (code !== 0) throw new Error(`Worker B ended with exit code ${code}.`);

    const stepfast = createStepfast({ store: fileStore({ dir }) });
    const [run] = (await stepfast.runs.list()).runs;
    const timeline = await stepfast.runs.timeline(run.id);
    await stepfast.close();
    console.log(`\nThe timeline of run ${run.id}\n`);
    for (const line of timelineLines([...timeline, killed])) console.log(`   ${line}`);

    const witnesses = linesOf(effects);
    console.log('\nWhat the outside world has seen (counted in a file that stepfast does not know)\n');
    for (const step of new Set(witnesses.map((line) => line.step))) {
      const count = (what) => witnesses.filter((line) => line.step === step && line.what === what).length;
      console.log(`   ${step.padEnd(24)} begun ${count('begins')}×, done ${count('done')}×`);
    }
    const checks = promises({ run, timeline, witnesses, receipt, deadPid: a.pid });
    console.log('\nWhat was promised\n');
    for (const [promise, isKept] of checks) console.log(`   ${isKept ? '✓' : '✗ NOT KEPT:'} ${promise}`);
    return checks.every(([, isKept]) => isKept);
  } finally {
    for (const child of children) child.kill();
    await Promise.all(children.map(({ over }) => over));
    rmSync(folder, { recursive: true, force: true });
  }
}
