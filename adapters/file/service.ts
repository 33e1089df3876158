import { join } from 'node:path';
import { StepfastError } from '../../src/errors.js';
import type { Batch, CommitOutcome } from '../../src/store/batch.js';
import { FORMAT_VERSION } from '../../src/store/journal.js';
import { replaceFile, sweep, TEMPORARY } from './atomic-write.js';
import type { Disk } from './disk.js';
import { codeOf, exists, isFull, namesIn, readRegular, removeFile, storeError, sumOf } from './files.js';
import { INBOX, OUTBOX, type Reply } from './inbox.js';
import { watchFolder } from './watch.js';

/*
 * The owner's side of the inbox (inbox.ts).
 *
 * B2. A request is decided once, and while it lies in the inbox. Where its answer can not be written (a full disk), the answer
 *     alone is tried again; the next owner finds in the log what this one has decided.
 * B3. A request that can not be read for the moment is left for the next look, and those behind it are with it (B1).
 */

const REQUEST = /^[0-9a-f]{24}\.json$/;

/** `fs.watch` misses changes on some file systems, so the owner also looks by a timer that keeps no process alive. */
const LOOK_MS = 1_000;

/** What the dead leave behind would pile up in the folders of an owner that lives long. */
const SWEEP_MS = 600_000;

/** An answer is taken at once, or its sender is dead. One that has stood still for longer does without (guest.ts, U5). */
const ANSWER_AGE_MS = 86_400_000;

export interface Service {
  /** Handles what is there now. */
  look(): Promise<void>;
  stop(): Promise<void>;
}

const unreadable = (name: string, cause: unknown) =>
  new StepfastError(
    'STORE_CORRUPT',
    `The request "${name}" could not be read.`,
    { file: `${INBOX}/${name}` },
    { cause },
  );
const unanswered = (name: string, cause: unknown) =>
  new StepfastError(
    isFull(cause) ? 'QUOTA_EXCEEDED' : 'STORE_UNAVAILABLE',
    `A request of another process is decided, and its answer could not be written (${codeOf(cause) ?? 'error'}). ` +
      'It is written when the disk takes it.',
    { file: `${OUTBOX}/${name}` },
    { cause },
  );

function batchIn(bytes: Buffer): { readonly v: number; readonly batch: Batch } {
  const { v, sum, batch } = JSON.parse(bytes.toString('utf8')) as { v: number; sum: string; batch: Batch };
  // What a later format counts into its sum is not known here: it is refused by its version.
  if (v <= FORMAT_VERSION && sumOf(batch) !== sum) throw new Error('its checksum does not fit');
  return { v, batch };
}

/**
 * Serves the inbox.
 *
 * @param commit Decides, also about the format that the sender writes; a rejection with `CLOSED` leaves the request, if it is
 * still there, to the next owner.
 */
export function serve(
  disk: Disk,
  dir: string,
  commit: (batch: Batch, format: number, request: string) => Promise<CommitOutcome>,
  onError: (error: unknown) => void,
): Service {
  const underWay = new Map<string, Promise<void>>();
  /** Answers that are not in the outbox yet. */
  const decided = new Map<string, Reply>();
  let isStopped = false;
  /** All that were found so far are read. */
  let read: Promise<unknown> = Promise.resolve();

  /** Read side by side, but handed on only when those before are. */
  const readInTurn = async (name: string) => {
    const reading = readRegular(disk, join(dir, INBOX, name)).catch((error: unknown) => {
      throw storeError(error, 'reading', `${INBOX}/${name}`);
    });
    read = Promise.all([read, reading]);
    await read;
    return reading;
  };

  /** `undefined`: it was withdrawn, or is left to the next owner. */
  const decide = async (name: string): Promise<Reply | undefined> => {
    const bytes = await readInTurn(name);
    if (!bytes) return undefined;
    try {
      const { batch, v } = batchIn(bytes);
      return { outcome: await commit(batch, v, name.slice(0, -'.json'.length)) };
    } catch (thrown) {
      const error = thrown instanceof StepfastError ? thrown : unreadable(name, thrown);
      if (error.code === 'CLOSED') return undefined;
      const { code, message, name: _, stack: __, cause: ___, ...place } = error;
      return { error: { code, message, place } };
    }
  };

  const handle = async (name: string) => {
    const [request, answer] = [join(dir, INBOX, name), join(dir, OUTBOX, name)];
    const isTold = decided.has(name);
    // The owner before has answered, and died before it took the request out.
    if (!isTold && exists(answer)) return removeFile(disk, request);
    const reply = decided.get(name) ?? (await decide(name));
    if (!reply) return;
    decided.set(name, reply);
    try {
      await replaceFile(disk, answer, JSON.stringify(reply), { durable: false });
      await removeFile(disk, request);
      decided.delete(name);
    } catch (error) {
      if (!isTold) throw unanswered(name, error);
    }
  };

  const look = async () => {
    const names = isStopped ? [] : namesIn(join(dir, INBOX), '.json').sort();
    const there = new Set(names);
    for (const name of decided.keys()) if (!there.has(name)) decided.delete(name); // nobody waits for it any more
    const failures = new Set<unknown>();
    for (const name of names) {
      if (!REQUEST.test(name) || underWay.has(name)) continue;
      const work = handle(name)
        .catch((error) => void failures.add(error)) // one for all that could not be read behind it
        .finally(() => {
          underWay.delete(name);
          if (!underWay.size) read = Promise.resolve();
        });
      underWay.set(name, work);
    }
    await Promise.all(underWay.values());
    for (const error of failures) onError(error);
  };
  const tryLook = () => void look().catch(onError);

  const sweepOld = async () => {
    for (const folder of [INBOX, OUTBOX])
      for (const name of namesIn(join(dir, folder), TEMPORARY)) await sweep(disk, join(dir, folder, name));
    for (const name of namesIn(join(dir, OUTBOX), '.json')) await sweep(disk, join(dir, OUTBOX, name), ANSWER_AGE_MS);
  };

  const unwatch = watchFolder(join(dir, INBOX), tryLook);
  const trySweep = () => void sweepOld().catch(onError);
  const timers = [setInterval(tryLook, LOOK_MS), setInterval(trySweep, SWEEP_MS)];
  for (const timer of timers) timer.unref();
  trySweep();
  return {
    look,
    async stop() {
      isStopped = true;
      unwatch();
      timers.forEach(clearInterval);
      await Promise.all(underWay.values());
    },
  };
}
