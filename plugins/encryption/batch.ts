import { isStepfastError, type StepfastError } from '../../src/errors.js';
import type { Batch, Deletion, NewEvent, NewRun, RunChange, StateChange } from '../../src/store/batch.js';
import type { RunRow } from '../../src/store/rows.js';
import type { Store } from '../../src/store/store.js';
import { LANES } from '../../src/store/transition/state.js';
import { checkText, isOurs } from '../../src/values/check.js';
import type { KeyRing } from './keys.js';
import { hashUnique, hashWait, keyIdOfRow, sealEntry, sealEvent, sealStart, sealState, unmarked } from './rows.js';
import { Bounded, type Vault } from './seal.js';

/*
 * Batches on their way into the store: which key each part is sealed with.
 */

/** Key ids of runs, and sealed keys of waits, that are kept at hand. */
const MAX_KEPT = 10_000;
const LOCK = 'stepfast:lock:';

/** What the app is asked which key to use for. */
export type KeySubject =
  | {
      readonly kind: 'run';
      readonly job: string;
      readonly runId: string;
      readonly tags: readonly string[];
      readonly parentId?: string;
    }
  | { readonly kind: 'event'; readonly name: string; readonly correlationKey?: string; readonly runId?: string }
  | { readonly kind: 'state'; readonly key: string };

export type KeyOf = (subject: KeySubject) => string | undefined;

/** A key of the shared state as the store has it. Those of the library stay readable: the transition looks for them. */
export async function stateKey(vault: Vault, key: string): Promise<string> {
  if (key.startsWith(LOCK)) return LOCK + (await vault.hash('lock', key.slice(LOCK.length)));
  return isOurs(key) ? key : vault.hash('state', key);
}

interface SealingOptions {
  readonly inner: Store;
  readonly ring: KeyRing;
  readonly keyOf: KeyOf | undefined;
  /** A driven run is let go for want of its key. */
  letGo(runId: string, error: StepfastError): void;
}

export function createSealing({ inner, ring, keyOf, letGo }: SealingOptions) {
  const keyIds = new Bounded<string>(MAX_KEPT);
  const waits = new Bounded<Promise<string>>(MAX_KEPT);

  const isDefault = (keyId: string) => keyId === ring.current || ring.previous.includes(keyId);
  const keyIdFor = (subject: KeySubject): string | undefined => {
    // What the library keeps belongs to nobody: forgotten with a person, it would take a schedule along.
    if (subject.kind === 'state' && isOurs(subject.key)) return undefined;
    const keyId = keyOf?.(subject);
    if (keyId === undefined) return undefined;
    checkText(keyId, 'What keyOf returned', 'INVALID_OPTION');
    return isDefault(keyId) ? ring.current : keyId;
  };
  const remember = (row: RunRow) => {
    const keyId = keyIdOfRow(row);
    if (keyId !== undefined) keyIds.set(row.runId, keyId);
  };
  /** The key for what is written of a run now: its own, or the default one, whichever that was when it was started. */
  const keyIdOfRun = async (runId: string): Promise<string> => {
    let keyId = keyIds.get(runId);
    if (keyId === undefined) {
      const stored = await inner.load(runId);
      keyId = stored && keyIdOfRow(stored.row);
      if (stored) remember(stored.row);
    }
    return keyId === undefined || isDefault(keyId) ? ring.current : keyId;
  };
  /** Seals under the key of a run or, when that is gone, under the default key. */
  const withFallback = async <T>(keyId: string, seal: (keyId: string) => Promise<T>): Promise<T> => {
    try {
      return await seal(keyId);
    } catch (error) {
      if (keyId === ring.current || !isStepfastError(error, 'KEY_MISSING')) throw error;
      return seal(ring.current);
    }
  };

  const sealChange = async (vault: Vault, run: RunChange): Promise<RunChange> => {
    const { runId, append, state, unless, unique } = run;
    const job = unique && (await inner.load(runId))?.row.job;
    const key = job !== undefined && (await hashUnique(vault, unmarked(job), unique!.key));
    const keyId = await keyIdOfRun(runId);
    const seal = async (keyId: string): Promise<RunChange> => {
      const [entries, next, none] = await Promise.all([
        Promise.all(append.map((entry) => sealEntry(vault, keyId, runId, entry))),
        state && sealState(vault, keyId, runId, state, waits),
        unless && Promise.all(unless.map((wait) => hashWait(vault, wait))),
      ]);
      const single = key && { unique: { ...unique!, key } };
      return { ...run, append: entries, ...(next && { state: next }), ...(none && { unless: none }), ...single };
    };
    return run.fence === 'any' ? withFallback(keyId, seal) : seal(keyId);
  };
  /** `undefined`: the key is gone, and who drives the run has to let it go. */
  const sealOrLetGo = async (vault: Vault, run: RunChange): Promise<RunChange | undefined> => {
    try {
      return await sealChange(vault, run);
    } catch (error) {
      if (run.fence === 'any' || !isStepfastError(error, 'KEY_MISSING')) throw error;
      keyIds.delete(run.runId);
      letGo(run.runId, error);
      return undefined;
    }
  };
  const sealNew = async (vault: Vault, given: NewRun): Promise<NewRun> => {
    const { job, runId, tags = [], parentId } = given;
    const own = keyIdFor({ kind: 'run', job, runId, tags, ...(parentId !== undefined && { parentId }) });
    const keyId = own ?? (parentId === undefined ? ring.current : await keyIdOfRun(parentId));
    return sealStart(vault, keyId, !isDefault(keyId), given, waits);
  };
  const sealNewEvent = (vault: Vault, event: NewEvent): Promise<NewEvent> => {
    const { name, key, runId } = event;
    const place = { ...(key !== undefined && { correlationKey: key }), ...(runId !== undefined && { runId }) };
    return sealEvent(vault, keyIdFor({ kind: 'event', name, ...place }) ?? ring.current, event);
  };
  const sealStateChange = async <Change extends StateChange>(vault: Vault, change: Change): Promise<Change> => {
    if (change.key === LANES) return change; // read by transitions: names and numbers of queues
    const key = await stateKey(vault, change.key);
    if (change.kind !== 'set') return { ...change, key };
    const keyId = keyIdFor({ kind: 'state', key: change.key }) ?? ring.current;
    return { ...change, key, value: await vault.seal(keyId, ['state', key], change.value) };
  };
  const sealDeletion = async (vault: Vault, { runId, fence, fingerprint }: Deletion): Promise<Deletion> => {
    const seal = (keyId: string) => vault.seal(keyId, ['deleted', runId], fingerprint);
    return { runId, fence, fingerprint: await withFallback(await keyIdOfRun(runId), seal) };
  };

  return {
    remember,
    sealStateChange,
    /** `undefined`: the key of the run that it changes is gone. */
    async sealBatch(vault: Vault, batch: Batch): Promise<Batch | undefined> {
      const { now, run, state, starts, events, deletes } = batch;
      const [changed, changes, born, said, gone] = await Promise.all([
        run && sealOrLetGo(vault, run),
        state && Promise.all(state.map((each) => sealStateChange(vault, each))),
        starts && Promise.all(starts.map((each) => sealNew(vault, each))),
        events && Promise.all(events.map((each) => sealNewEvent(vault, each))),
        deletes && Promise.all(deletes.map((each) => sealDeletion(vault, each))),
      ]);
      for (const { runId } of deletes ?? []) keyIds.delete(runId); // another may be started under its id
      if (run && !changed) return undefined;
      return {
        now,
        ...(changed && { run: changed }),
        ...(changes && { state: changes }),
        ...(born && { starts: born }),
        ...(said && { events: said }),
        ...(gone && { deletes: gone }),
      };
    },
  };
}
