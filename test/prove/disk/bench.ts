import fs, {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Disk } from '../../../adapters/file/disk.js';
import { createFileStore } from '../../../adapters/file/store.js';
import type { Store } from '../../../src/index.js';
import type { Facts, Folder } from './oracle.js';

/*
 * A folder that is damaged, opened and put right again, thousands of times: only what differs is written anew.
 */

/**
 * Real files, without syncs (power loss is not what this technique is about) and without the thread pool, whose hops
 * would be most of the time of thousands of openings.
 */
export const quickDisk: Disk = {
  open: async (path, flags) => fs.openSync(path, flags, 0o600),
  close: async (fd) => fs.closeSync(fd),
  write: async (fd, data, offset, length) => fs.writeSync(fd, data, offset, length),
  read: async (fd, into, offset, length, position) => fs.readSync(fd, into, offset, length, position),
  sync: async () => {},
  datasync: async () => {},
  truncate: async (fd, length) => fs.ftruncateSync(fd, length),
  stat: async (fd) => fs.fstatSync(fd),
  chmod: async (fd, mode) => fs.fchmodSync(fd, mode),
  rename: async (from, to) => fs.renameSync(from, to),
  link: async (from, to) => fs.linkSync(from, to),
  unlink: async (path) => fs.unlinkSync(path),
};

export const NOW = Date.UTC(2026, 0, 1, 2);

export interface Told {
  readonly code?: string;
  readonly message: string;
  readonly file?: string;
}

export function filesIn(dir: string, under = ''): string[] {
  return readdirSync(join(dir, under), { withFileTypes: true }).flatMap((entry) => {
    const path = under === '' ? entry.name : `${under}/${entry.name}`;
    return entry.isDirectory() ? filesIn(dir, path) : [path];
  });
}

export const readFolder = (dir: string): Map<string, Buffer> =>
  new Map(filesIn(dir).map((path) => [path, readFileSync(join(dir, path))]));

/** A folder in memory, where there is one: `/dev/shm` is a real file system without a disk. */
export function workFolder(): string {
  const base = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
  return mkdtempSync(join(base, 'stepfast-prove-'));
}

export function put(dir: string, path: string, bytes: Buffer): void {
  mkdirSync(dirname(join(dir, path)), { recursive: true });
  writeFileSync(join(dir, path), bytes);
}

const same = (dir: string, path: string, bytes: Buffer): boolean => {
  const found = lstatSync(join(dir, path), { throwIfNoEntry: false });
  return !!found?.isFile() && found.size === bytes.length && readFileSync(join(dir, path)).equals(bytes);
};

/** Makes the folder what it was. */
export function restore(dir: string, base: Folder): void {
  for (const path of filesIn(dir)) if (!base.has(path)) rmSync(join(dir, path), { recursive: true, force: true });
  for (const [path, bytes] of base) {
    if (same(dir, path, bytes)) continue;
    rmSync(join(dir, path), { recursive: true, force: true });
    put(dir, path, bytes);
  }
}

/** Files of the base, of those named, that are not what they were. */
export const changedFiles = (dir: string, base: Folder, fits: (path: string) => boolean): string[] =>
  [...base].filter(([path, bytes]) => fits(path) && !same(dir, path, bytes)).map(([path]) => path);

export interface Looked {
  /** The open was refused. */
  readonly refused?: Told;
  readonly seen: Map<string, string>;
  /** What `onError` has heard, and what reading has thrown. */
  readonly told: Told[];
  readonly store: Store;
}

export const asTold = (error: unknown): Told => error as Told;

/** Opens the folder and asks for every fact. */
export async function look(dir: string, truth: Facts, disk: Disk = quickDisk): Promise<Looked> {
  const told: Told[] = [];
  const seen = new Map<string, string>();
  const store = createFileStore({ dir }, { disk });
  try {
    const onError = (error: unknown) => void told.push(asTold(error));
    await store.open({ owner: 'prover', now: NOW, leaseMs: 1_000, mode: 'drive', onError });
  } catch (error) {
    return { refused: asTold(error), seen, told, store };
  }
  await readFacts(store, truth, seen, told);
  return { seen, told, store };
}

export async function readFacts(store: Store, truth: Facts, seen: Map<string, string>, told: Told[]): Promise<void> {
  const thrown = (error: unknown) => {
    told.push(asTold(error));
    return asTold(error).code ?? `not a StepfastError: ${String(error)}`;
  };
  try {
    const page = await store.list({ limit: 10_000 });
    for (const { row, journal } of page.runs) seen.set(`run ${row.runId}`, JSON.stringify([row, journal]));
  } catch (error) {
    seen.set('list', thrown(error));
  }
  // Asked in one commit, as none of them is there to write anything; where that is refused, one by one.
  await askTogether(store, truth, seen).catch(() => undefined);
  for (const fact of truth.keys()) {
    const [kind, ...rest] = fact.split(' ');
    const name = rest.join(' ');
    if (seen.has(fact)) continue;
    try {
      if (kind === 'run') {
        const run = await store.load(name);
        seen.set(fact, run ? 'not listed' : 'absent');
      } else if (kind === 'value') {
        const row = await store.state(name);
        seen.set(fact, row ? JSON.stringify(row) : 'absent');
      } else if (kind === 'event') {
        const outcome = await store.commit({ now: NOW, events: [probeOf(name)] });
        seen.set(fact, outcome.kind === 'committed' ? 'known' : 'absent');
      } else seen.set(fact, await ownerOfKey(store, rest[0]!, rest.slice(1).join(' ')));
    } catch (error) {
      seen.set(fact, thrown(error));
    }
  }
}

/** Known ones are recognised; others are refused, so that nothing is written. */
const probeOf = (id: string) => ({ id, name: 'probe', payload: null, ttlMs: 1, maxBacklog: -1 });

/** All events: where one is missing the whole commit is refused, and nothing is known. */
async function askTogether(store: Store, truth: Facts, seen: Map<string, string>): Promise<void> {
  const facts = [...truth.keys()].filter((fact) => fact.startsWith('event '));
  const events = facts.map((fact) => probeOf(fact.slice('event '.length)));
  const outcome = await store.commit({ now: NOW, events });
  if (outcome.kind === 'committed') for (const fact of facts) seen.set(fact, 'known');
}

async function ownerOfKey(store: Store, job: string, idempotencyKey: string): Promise<string> {
  const entries = [{ kind: 'started', at: NOW, payload: null }] as const;
  const start = {
    runId: `a probe of ${job} ${idempotencyKey}`,
    job,
    version: 1,
    queue: 'q',
    idempotencyKey,
    dueAt: NOW,
    entries,
  };
  const outcome = await store.commit({ now: NOW, starts: [start] });
  if (outcome.kind !== 'committed') return outcome.kind;
  return outcome.starts[0]!.kind === 'exists' ? outcome.starts[0]!.runId : 'started a second one';
}
