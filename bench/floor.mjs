// The floor: the thinnest replay engine on one log with group commit. No retries, leases, timeouts, versions, checksums or
// recovery of torn lines; every run stays in memory. Nothing that keeps a promise about durability can be much faster, so
// the distance to it is what the features cost.
import fs from 'node:fs';
import { join } from 'node:path';

const fdatasync = (fd) => new Promise((resolve, reject) => fs.fdatasync(fd, (e) => (e ? reject(e) : resolve())));

/** Appends lines; those that come while a group is written are the next one. */
export function createLog(file, flush) {
  const fd = fs.openSync(file, 'a+', 0o600);
  let pending = [];
  let text = '';
  let isWriting = false;
  const sync = { sync: () => fs.fdatasyncSync(fd), pool: () => fdatasync(fd), none: () => undefined }[flush];
  const drain = async () => {
    isWriting = true;
    // What was asked for in this turn of the event loop is one group.
    await (pending.length > 1 || flush === 'sync' ? undefined : Promise.resolve());
    while (pending.length) {
      const group = pending;
      const lines = text;
      pending = [];
      text = '';
      fs.writeSync(fd, lines);
      const synced = sync();
      if (synced) await synced;
      for (const resolve of group) resolve();
      await new Promise(setImmediate); // all who were answered ask again before the next group
    }
    isWriting = false;
  };
  return {
    append(record) {
      text += `${JSON.stringify(record)}\n`;
      return new Promise((resolve) => {
        pending.push(resolve);
        if (!isWriting) {
          isWriting = true;
          queueMicrotask(drain);
        }
      });
    },
    read: () => fs.readFileSync(file, 'utf8'),
    close: () => fs.closeSync(fd),
  };
}

/** @param handler `({ payload, run, wait }) => Promise<result>` */
export function openFloor({ dir, flush = 'pool', handler }) {
  fs.mkdirSync(dir, { recursive: true });
  const log = createLog(join(dir, 'floor.jsonl'), flush);
  const runs = new Map();
  const events = new Map();
  const waits = new Map();

  const add = (id, payload) => {
    const run = { id, payload, steps: new Map(), result: undefined, end: undefined, isLive: false };
    run.ended = new Promise((resolve) => {
      run.end = resolve;
    });
    runs.set(id, run);
    return run;
  };

  const drive = async (run) => {
    run.isLive = true;
    const step = async (name, fn) => {
      const known = run.steps.get(name);
      if (known) return JSON.parse(known);
      const value = JSON.stringify(await fn());
      run.steps.set(name, value);
      await log.append({ r: run.id, s: name, v: value });
      return JSON.parse(value);
    };
    const wait = async (key) => {
      if (!run.steps.has(`wait ${key}`)) await log.append({ r: run.id, s: `wait ${key}`, v: 'null' });
      run.steps.set(`wait ${key}`, 'null');
      const payload = events.get(key) ?? (await new Promise((resolve) => waits.set(key, resolve)));
      return JSON.parse(payload);
    };
    const value = await handler({ payload: run.payload, run: step, wait });
    run.result = JSON.stringify(value);
    await log.append({ r: run.id, end: run.result });
    run.end(value);
  };

  for (const line of log.read().split('\n')) {
    if (!line) continue;
    const record = JSON.parse(line);
    const run = runs.get(record.r);
    if (record.p !== undefined) add(record.r, record.p).waits = undefined;
    else if (record.e !== undefined) events.set(record.e, record.v);
    else if (record.end !== undefined) {
      run.result = record.end;
      run.end(JSON.parse(record.end));
    } else {
      run.steps.set(record.s, record.v);
      if (record.s.startsWith('wait ')) waits.set(record.s.slice(5), run);
    }
  }
  // A run that waits is driven when its event comes, every other unfinished one at once.
  const asleep = new Set([...waits].flatMap(([key, run]) => (events.has(key) ? [] : [run])));
  for (const run of runs.values()) if (run.result === undefined && !asleep.has(run)) void drive(run);

  return {
    async start(id, payload) {
      const run = add(id, payload);
      await log.append({ r: id, p: payload });
      void drive(run);
    },
    result: (id) => runs.get(id).ended,
    async dispatch(key, payload) {
      const value = JSON.stringify(payload);
      await log.append({ e: key, v: value });
      events.set(key, value);
      const waiting = waits.get(key);
      waits.delete(key);
      if (typeof waiting === 'function') waiting(value);
      else if (waiting) void drive(waiting);
    },
    async isWaiting(_id, key) {
      return waits.has(key);
    },
    /** How many steps are recorded. */
    recorded: (id) => [...runs.get(id).steps.keys()].filter((name) => !name.startsWith('wait ')).length,
    close: () => log.close(),
  };
}
