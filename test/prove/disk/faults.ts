import type { Disk } from '../../../adapters/file/disk.js';
import { createFileStore } from '../../../adapters/file/store.js';
import type { Proving } from '../technique.js';
import { asTold, look, NOW, quickDisk, restore, type Told } from './bench.js';
import type { Facts, Folder } from './oracle.js';

/*
 * The disk itself fails: at its first call, its second, ... until the scenario is over without meeting a failure (as
 * SQLite's I/O-error loops do), once or from then on, with each of these errors. When it works again, everything that was
 * acknowledged is there, and what was refused is there as a whole or not at all.
 */

const ERRORS = ['EIO', 'ENOSPC', 'EACCES', 'EMFILE', 'EROFS'] as const;
const ALLOWED = new Set(['QUOTA_EXCEEDED', 'STORE_UNAVAILABLE', 'STORE_LOCKED', 'STORE_CORRUPT', 'CLOSED']);

interface Failing {
  readonly disk: Disk;
  hasFailed(): boolean;
  heal(): void;
}

function failing(at: number, code: string, isForEver: boolean): Failing {
  let calls = 0;
  let isHealed = false;
  let failures = 0;
  const disk = { ...quickDisk };
  for (const name of Object.keys(disk) as (keyof Disk)[]) {
    if (name === 'close') continue; // what is open is let go of also by a disk that fails
    const inner = disk[name] as (...given: unknown[]) => Promise<unknown>;
    const outer = async (...given: unknown[]) => {
      const fails = ++calls === at || (isForEver && calls > at);
      if (!fails || isHealed) return inner(...given);
      failures++;
      throw Object.assign(new Error(`${code}: simulated, ${name}`), { code });
    };
    Object.assign(disk, { [name]: outer });
  }
  return { disk, hasFailed: () => failures > 0, heal: () => void (isHealed = true) };
}

const startOf = (runId: string) => ({
  now: NOW,
  starts: [
    {
      runId,
      job: 'fresh',
      version: 1,
      queue: 'q',
      dueAt: NOW,
      entries: [{ kind: 'started', at: NOW, payload: runId }] as const,
    },
  ],
});

/** Opens, commits two runs, the second after the disk works again, and closes. */
async function play(dir: string, { disk, heal }: Failing): Promise<{ acknowledged: string[]; told: Told[] }> {
  const acknowledged: string[] = [];
  const told: Told[] = [];
  const store = createFileStore({ dir }, { disk });
  const attempt = async (work: () => Promise<unknown>, runId?: string) => {
    try {
      await work();
      if (runId !== undefined) acknowledged.push(runId);
    } catch (error) {
      told.push(asTold(error));
    }
  };
  const onError = (error: unknown) => void told.push(asTold(error));
  const open = () => store.open({ owner: 'prover', now: NOW, leaseMs: 1_000, mode: 'drive', onError });
  await attempt(open);
  await attempt(() => store.commit(startOf('one')), 'one');
  await attempt(() => store.list({ limit: 1_000 }));
  heal();
  await attempt(open);
  await attempt(() => store.commit(startOf('two')), 'two');
  if (!acknowledged.includes('two'))
    told.push({ message: 'the disk works again, and the store does not', code: 'BROKEN' });
  await attempt(() => store.close());
  return { acknowledged, told };
}

export async function faults(
  { dir, base, truth }: { readonly dir: string; readonly base: Folder; readonly truth: Facts },
  part: Proving['part'],
  violation: (line: string) => void,
): Promise<number> {
  let cases = 0;
  for (const code of ERRORS)
    for (const isForEver of [false, true])
      for (let at = 1 + part.index; ; at += part.of) {
        const where = `${code} at call ${at}${isForEver ? ' and after' : ''}`;
        restore(dir, base);
        const failed = failing(at, code, isForEver);
        const { acknowledged, told } = await play(dir, failed);
        if (!failed.hasFailed()) break;
        cases++;
        for (const each of told)
          if (!ALLOWED.has(each.code ?? '')) violation(`${where}: ${each.code ?? 'no code'}: ${each.message}`);
        const { seen, refused, store, told: after } = await look(dir, truth);
        if (refused) violation(`${where}: it does not open again: ${refused.message}`);
        for (const [fact, value] of truth)
          if (!refused && seen.get(fact) !== value) violation(`${where}: ${fact} is ${seen.get(fact)?.slice(0, 60)}`);
        for (const each of after) violation(`${where}: reported afterwards: ${each.message}`);
        for (const runId of acknowledged)
          if (!seen.has(`run ${runId}`)) violation(`${where}: run ${runId} was acknowledged and is lost`);
        await store.close();
      }
  return cases;
}
