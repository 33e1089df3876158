// What the disk itself can do, by the calls that a store would make. Records are 200 bytes, as those of the floor.
import fs from 'node:fs';
import { join } from 'node:path';

const RECORD = Buffer.from(`${'r'.repeat(199)}\n`);
const call = (start) =>
  new Promise((resolve, reject) => start((error, value) => (error ? reject(error) : resolve(value))));
const now = () => performance.now();

/** Repeats `body` for about `ms`; operations per second. */
async function rate(ms, body, operations = 1) {
  await body();
  let count = 0;
  const start = now();
  while (now() - start < ms) {
    const made = body();
    if (made) await made;
    count += operations;
  }
  return (count / (now() - start)) * 1000;
}

const inFile = async (dir, use) => {
  const path = join(dir, `raw-${process.pid}`);
  const fd = fs.openSync(path, 'a', 0o600);
  try {
    return await use(fd, path);
  } finally {
    fs.closeSync(fd);
    fs.rmSync(path);
  }
};

/** append + fdatasync, one record at a time. */
export const sync = (dir, ms) =>
  inFile(dir, (fd) =>
    rate(ms, () => {
      fs.writeSync(fd, RECORD);
      fs.fdatasyncSync(fd);
    }),
  );

/** The same on the thread pool. */
export const pool = (dir, ms) =>
  inFile(dir, (fd) =>
    rate(ms, async () => {
      await call((done) => fs.write(fd, RECORD, 0, RECORD.length, null, done));
      await call((done) => fs.fdatasync(fd, done));
    }),
  );

/** The record copied into the system's cache by a call that does not wait, and only the flush on the thread pool. */
export const mixed = (dir, ms) =>
  inFile(dir, (fd) =>
    rate(ms, async () => {
      fs.writeSync(fd, RECORD);
      await call((done) => fs.fdatasync(fd, done));
    }),
  );

/** So long, in ms, a process that does something computes between two flushes. */
const PACE = 0.1;

/** As `mixed`, after a tenth of a millisecond of work each; the work is left out of the rate. */
export const paced = (dir, ms) =>
  inFile(dir, async (fd) => {
    let count = 0;
    let spent = 0;
    const end = now() + ms;
    while (now() < end) {
      for (const start = now(); now() - start < PACE; );
      const start = now();
      fs.writeSync(fd, RECORD);
      await call((done) => fs.fdatasync(fd, done));
      spent += now() - start;
      count++;
    }
    return (count / spent) * 1000;
  });

/** 100 records in one write, one flush for all of them. */
export const group = (dir, ms) =>
  inFile(dir, (fd) =>
    rate(
      ms,
      async () => {
        for (let index = 0; index < 100; index++) fs.writeSync(fd, RECORD);
        await call((done) => fs.fdatasync(fd, done));
      },
      100,
    ),
  );

/** A whole file put in the place of another: written, flushed, renamed, and the folder flushed. */
export const replace = (dir, ms) =>
  rate(ms, async () => {
    const path = join(dir, `whole-${process.pid}`);
    const fd = await call((done) => fs.open(`${path}.tmp`, 'w', 0o600, done));
    await call((done) => fs.write(fd, RECORD, 0, RECORD.length, null, done));
    await call((done) => fs.fsync(fd, done));
    await call((done) => fs.close(fd, done));
    await call((done) => fs.rename(`${path}.tmp`, path, done));
    const folder = await call((done) => fs.open(dir, 'r', done));
    await call((done) => fs.fsync(folder, done));
    await call((done) => fs.close(folder, done));
  });

export const RAW = { sync, pool, mixed, paced, group, replace };
