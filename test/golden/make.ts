import 'fake-indexeddb/auto';
import '../fake-locks.js';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nodeDisk } from '../../adapters/file/disk.js';
import { requestNames, send } from '../../adapters/file/inbox.js';
import { createFileStore } from '../../adapters/file/store.js';
import { indexedDBStore } from '../../adapters/indexeddb/index.js';
import { createStepfast, type Stepfast, type Store } from '../../src/index.js';
import { FORMAT_VERSION } from '../../src/store/journal.js';
import { simulatedClock } from '../../src/testing/clock.js';
import { BEGUN, ends, events } from './ends.js';
import { defineFlows, everything } from './flows.js';
import { dumpDatabase } from './idb.js';

/*
 * `npm run golden` makes the golden stores of the present format, in test/golden/v<N>/: a folder of the file
 * store, and a dump of the IndexedDB store. What is there is never written over: released formats are for ever.
 */

Error.stackTraceLimit = 0; // stacks would tell where this was made
const errors: unknown[] = [];

/** Leaves runs in every state, by engines that end one after the other. */
async function play(open: () => Store): Promise<void> {
  const clock = simulatedClock({ now: BEGUN });
  const engineOf = (isOld: boolean, only?: readonly string[]) => {
    const store = open();
    const stepfast = createStepfast({ store, clock, onError: (error) => void errors.push(error) });
    const hooks = { isMaking: true, isOld, entered: () => undefined };
    defineFlows(stepfast, hooks, only ?? Object.keys(ends).flatMap((id) => jobOf(id) ?? []));
    return { stepfast, store };
  };

  const first = engineOf(true);
  await begin(first.stepfast);
  await clock.idle();
  await finishSome(first.stepfast);
  await clock.idle();
  await first.stepfast.close();

  clock.jump(BEGUN + 3_600_000); // while all is closed: what hangs would make every tick of a living engine slow
  const second = engineOf(false);
  await second.stepfast.ready();
  await clock.idle();
  await second.stepfast.runs.fork('completed:1', { before: 'b' }); // beside those with names
  second.store.abandon!();
  await second.stepfast.close().catch(() => undefined);

  const third = engineOf(false, ['child']);
  await third.stepfast.dispatch('golden.child', 'making', { correlationKey: 'child:2' });
  await clock.idle();
  await third.stepfast.close();

  const last = engineOf(false, []);
  await last.stepfast.dispatch('golden.go', 'while nobody looked', { correlationKey: 'waits:woken' });
  await last.stepfast.close();
}

const JOBS: Readonly<Record<string, string>> = { completed: 'straight', copy: 'straight', failed: 'doomed' };
/** The job of a run that is started at the beginning; `late` is registered nowhere yet. */
const jobOf = (id: string): string | undefined => {
  const word = id.split(':')[0]!;
  if (word === 'late') return undefined;
  return JOBS[word] ?? { cancelled: 'waits', scheduled: 'straight' }[word] ?? word;
};

async function begin(stepfast: Stepfast): Promise<void> {
  const { state } = stepfast;
  await state.set('golden:plain', 'text');
  await state.set('golden:map', new Map([['k', new Date(0)]]));
  await state.set('golden:counter', 40);
  await state.set('golden:gone', 1);
  await state.delete('golden:gone');
  await state.set('golden:short', 'for a day', { ttl: '1d' });
  await state.lock('golden:lock', { ttl: '30d' });
  await (await state.lock('golden:free', { ttl: '30d' }))?.release();

  const start = (id: string, payload?: unknown, more = {}) => stepfast.start(jobOf(id)!, payload, { id, ...more });
  await start('completed:1', 1, { idempotencyKey: 'golden:completed', tags: ['golden'] });
  await start('copy:1', 1);
  await start('kinds:1', everything());
  for (const id of ['failed:1', 'failed:2']) await start(id);
  await start('cancelled:1');
  await start('scheduled:1', 5, { delay: '1d' });
  const slow = await start('slow:1', 'one');
  await new Promise<void>((resolve) => slow.subscribe(({ progress }) => progress === 0.5 && resolve()));
  await start('slow:2', 'two');
  await start('slow:3', 'three', { priority: 5 });
  for (const id of ['flaky:1', 'sleepy:1', 'waits:1', 'waits:woken', 'timesOut:1', 'picky:1', 'races:1', 'changed:1'])
    await start(id);
  await stepfast.start('late', 'at last', { id: 'late:1', allowUnregistered: true });
  for (const n of [1, 2]) await start(`parent:${n}`, `child:${n}`);
  await start('saga:1', 'fails');
  await start('saga:2', 'hangs');
  await start('counts:1');
  await start('loop:1', { round: 1 });
  await start('grows:1', { n: 7 });
  await start('throws:1');
  await start('catches:1');
  await start('calm:1', 'first');
  await stepfast.start('calm', 'second');
  await start('solo:1');
  await stepfast.start('solo', 'the same run again');
  await stepfast.start('straight', 1, { id: 'deleted:1', idempotencyKey: 'golden:deleted' });

  for (const { name, payload, of } of events) await stepfast.dispatch(name, payload, of);
  for (const [name, payload] of [
    ['early', 'early'],
    ['stored', 'stored'],
  ] as const)
    await stepfast.dispatch(`golden.${name}`, payload, { correlationKey: 'waits:woken' });
  for (const number of [3, 'not a number']) await stepfast.dispatch('golden.number', number);
}

async function finishSome(stepfast: Stepfast): Promise<void> {
  await stepfast.runs.cancel('cancelled:1');
  await stepfast.runs.retry('failed:2');
  await stepfast.runs.delete('deleted:1');
}

/** A request that nobody has answered: its sender and its owner are gone. */
async function leaveRequest(dir: string): Promise<void> {
  const event = { id: 'golden-inboxed', name: 'golden.inboxed', payload: 'in the inbox', ttlMs: 1e12, maxBacklog: 10 };
  await send(nodeDisk, dir, { id: requestNames()(), v: 1, batch: { now: BEGUN, events: [event] } });
}

/** Nothing tells of the machine: the last lock names a host, and is released. */
function anonymise(dir: string): void {
  for (const name of readdirSync(join(dir, 'lock'))) {
    const path = join(dir, 'lock', name);
    const { v, token, state } = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
    if (state !== 'released') throw new Error(`${path} is ${String(state)}`);
    writeFileSync(path, JSON.stringify({ v, token, pid: 1, host: 'golden', state }));
  }
}

const target = join(process.cwd(), 'test', 'golden', `v${FORMAT_VERSION}`);
if (existsSync(target)) throw new Error(`${target} is there. A released format never changes: raise FORMAT_VERSION.`);
const folder = mkdtempSync(join(tmpdir(), 'golden-'));
const dir = join(folder, 'file');
await play(() => createFileStore({ dir }, { compactAt: 20_000 }));
await leaveRequest(dir);
anonymise(dir);
await play(() => indexedDBStore({ name: 'golden' }));
writeFileSync(join(folder, 'indexeddb.json'), `${JSON.stringify(await dumpDatabase('golden'))}\n`);
for (const error of errors) console.error('reported while making:', error);
mkdirSync(join(target, '..'), { recursive: true });
renameSync(folder, target);
rmSync(folder, { recursive: true, force: true });
process.exit();
