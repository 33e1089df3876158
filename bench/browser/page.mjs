// In the page: what the database of the browser can do by itself, and what stepfast and code on Dexie make of it.
import Dexie from 'dexie';
import { createStepfast } from '../../dist/index.js';
import { indexedDBStore } from '../../dist/indexeddb.js';

const NOTE = 'a result as small as those of most steps: '.padEnd(64, '.');
const now = () => performance.now();

function openRaw(name) {
  const request = indexedDB.open(name, 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore('runs', { keyPath: 'id' });
    request.result.createObjectStore('journal', { keyPath: ['id', 'index'] });
  };
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** One step's commit, as thin as it can be: the row is read, the row and an entry of the journal are written. */
function rawCommit(db, id, index) {
  const tx = db.transaction(['runs', 'journal'], 'readwrite', { durability: 'relaxed' });
  const runs = tx.objectStore('runs');
  runs.get(id).onsuccess = ({ target }) => {
    const { result } = target;
    runs.put({ id, length: (result?.length ?? 0) + 1, status: 'running', at: Date.now() });
    tx.objectStore('journal').put({ id, index, kind: 'step-completed', value: { n: index, note: NOTE } });
    tx.commit();
  };
  return new Promise((resolve, reject) => {
    tx.oncomplete = () => resolve();
    tx.onerror = tx.onabort = () => reject(tx.error);
  });
}

class DexieStore extends Dexie {
  constructor(name) {
    super(name, { chromeTransactionDurability: 'relaxed' });
    this.version(1).stores({ runs: 'id', journal: '[id+index]' });
  }
  commit(id, index) {
    const [runs, journal] = [this.table('runs'), this.table('journal')];
    return this.transaction('rw', runs, journal, async () => {
      const row = await runs.get(id);
      await runs.put({ id, length: (row?.length ?? 0) + 1, status: 'running', at: Date.now() });
      await journal.put({ id, index, kind: 'step-completed', value: { n: index, note: NOTE } });
    });
  }
}

/** Runs of so many steps, with nothing but steps. */
function stepfastRuns(name) {
  const stepfast = createStepfast({ store: indexedDBStore({ name }) });
  const job = stepfast.job('run', { queue: { name: 'bench', concurrency: 200 } }, async ({ payload, step }) => {
    for (let index = 0; index < payload; index++) await step.run(`step-${index}`, () => ({ n: index, note: NOTE }));
    return payload;
  });
  return { stepfast, job };
}

/** B1: one commit at a time, in batches of 20 that take turns; milliseconds a commit of each batch. */
async function oneByOne(batches) {
  const size = 20;
  const raw = await openRaw(`raw-${now()}`);
  const dexie = new DexieStore(`dexie-${now()}`);
  const { stepfast, job } = stepfastRuns(`stepfast-${now()}`);
  await stepfast.ready();
  const found = { raw: [], Dexie: [], 'stepfast IndexedDB': [] };
  let at = 0;
  for (let batch = -2; batch < batches; batch++) {
    const note = (engine, ms) => batch >= 0 && found[engine].push(ms / size);
    let start = now();
    for (let index = 0; index < size; index++) await rawCommit(raw, 'run', at + index);
    note('raw', now() - start);
    start = now();
    for (let index = 0; index < size; index++) await dexie.commit('run', at + index);
    note('Dexie', now() - start);
    // Start, claim and end are commits as well: what a run of one step more than `size` takes above one of one step.
    const timed = async (steps) => {
      const began = now();
      const handle = await stepfast.start(job, steps);
      if ((await handle.result()) !== steps) throw new Error('a wrong result');
      return now() - began;
    };
    const short = await timed(1);
    note('stepfast IndexedDB', (await timed(size + 1)) - short);
    at += size;
  }
  if ((await dexie.table('journal').count()) !== at) throw new Error('Dexie has lost something');
  await stepfast.close();
  return found;
}

/** B2: 100 runs commit a step at once; commits in a second. Raw: each in a transaction of its own. */
async function atOnce(batches) {
  const count = 100;
  const steps = 5;
  const raw = await openRaw(`raw-${now()}`);
  const { stepfast, job } = stepfastRuns(`stepfast-${now()}`);
  await stepfast.ready();
  const found = { raw: [], 'stepfast IndexedDB': [] };
  const all = (body) => Promise.all(Array.from({ length: count }, (_, i) => body(i)));
  for (let batch = -1; batch < batches; batch++) {
    const note = (engine, ms, commits) => batch >= 0 && found[engine].push(((count * commits) / ms) * 1000);
    let start = now();
    await all(async (run) => {
      for (let index = 0; index < steps; index++) await rawCommit(raw, `run-${run}`, index);
    });
    note('raw', now() - start, steps);
    start = now();
    const results = await all(async () => (await stepfast.start(job, steps)).result());
    note('stepfast IndexedDB', now() - start, steps + 2); // its start and its claim
    if (results.some((result) => result !== steps)) throw new Error('a wrong result');
  }
  await stepfast.close();
  return found;
}

/** B3: `prepare` leaves a run with so many finished steps waiting; a page that is loaded with its name takes it on by itself. */
function resuming(name) {
  const stepfast = createStepfast({ store: indexedDBStore({ name }) });
  let entered = 0;
  let reached;
  const next = new Promise((resolve) => {
    reached = resolve;
  });
  stepfast.job('long', async ({ payload, step }) => {
    for (let index = 0; index < payload; index++)
      await step.run(`step-${index}`, () => {
        entered++;
        return { n: index, note: NOTE };
      });
    await step.waitForEvent('go');
    return step.run('next', () => {
      reached(now());
      return entered;
    });
  });
  return { stepfast, next };
}

async function prepare(name, steps) {
  const { stepfast } = resuming(name);
  const handle = await stepfast.start('long', steps, { id: 'long' });
  while ((await handle.status()) !== 'waiting') await new Promise((resolve) => setTimeout(resolve, 20));
}

/** Milliseconds from where the page asks for its script to the next step, and how many steps ran again. */
async function resume(name) {
  const { stepfast, next } = resuming(name);
  await stepfast.dispatch('go');
  const ms = (await next) - globalThis.scriptStart;
  const again = await (await stepfast.start('long', 1_000, { id: 'long' })).result();
  return { ms, again };
}

const toResume = location.hash.slice(1);
Object.assign(globalThis, { bench: { oneByOne, atOnce, prepare, resumed: toResume ? resume(toResume) : undefined } });
