import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { type ErrorCode, StepfastError } from '../../src/errors.js';
import type { Batch, CommitOutcome } from '../../src/store/batch.js';
import { replaceFile } from './atomic-write.js';
import type { Disk } from './disk.js';
import { exists, namesIn, readRegular, removeFile, sumOf } from './files.js';
import { folderChange } from './watch.js';

/*
 * Commits of processes that do not own the folder: `inbox/<id>.json` asks, `outbox/<id>.json` answers.
 *
 * The owner commits, answers, and removes the request, in this order: a crash before the answer leaves a request that the next
 * owner commits again, and the ids in it (made by the sender) make that the same event or run. A change of the shared state has
 * no id: its record in the log names the request, and what came of it (`Asked`, record.ts), which is known as long as the
 * request lies in the inbox. A request that is answered is only removed, and who takes the answer removes the request first.
 * The sender gives up a request only when its owner is provably dead, and then commits itself. None of these files needs a
 * sync: they matter to living processes only. The owner's side is in service.ts.
 *
 * B1. What one process asks is committed in the order of asking: it sends one request after the other, so that none is seen
 *     before an earlier one, their names sort in that order, and the owner commits in the order of the names.
 */

export const INBOX = 'inbox';
export const OUTBOX = 'outbox';

/** Only while somebody waits for an answer. */
const ANSWER_LOOK_MS = 100;

/** What an owner says to a request. */
export type Reply =
  | { readonly outcome: CommitOutcome }
  | { readonly error: { readonly code: ErrorCode; readonly message: string; readonly place: object } };

/** Names for the requests of one process, which sort in the order in which they were made; nobody can guess one beforehand. */
export function requestNames(): () => string {
  let last = 0;
  return () => {
    // The time, and a count below the millisecond: also where a thousand are made in one, or the clock is set back.
    last = Math.max(last + 1, Date.now() * 1_024);
    return last.toString(16).padStart(13, '0') + randomBytes(6).toString('hex').slice(1);
  };
}

/** A commit that is asked for, under its name. Sent again it has the same name, and so its place in the order. */
export interface Request {
  readonly id: string;
  /** The format that the sender writes. */
  readonly v: number;
  readonly batch: Batch;
}

const requestFile = (dir: string, id: string) => join(dir, INBOX, `${id}.json`);

/** Asks the owner to commit. */
export const send = (disk: Disk, dir: string, request: Request): Promise<void> =>
  replaceFile(disk, requestFile(dir, request.id), JSON.stringify({ ...request, sum: sumOf(request.batch) }), {
    durable: false,
  });

/** What an owner has said to a request, if it has. */
async function saidTo(disk: Disk, dir: string, id: string): Promise<CommitOutcome | undefined> {
  const reply = await takeReply(disk, dir, id);
  if (!reply || 'outcome' in reply) return reply?.outcome;
  const { code, message, place } = reply.error;
  throw new StepfastError(code, message.slice(0, -(code.length + 3)), place);
}

/** Takes a request back, under the lock. What an owner has said to it meanwhile is the outcome. */
export async function withdraw(disk: Disk, dir: string, id: string): Promise<CommitOutcome | undefined> {
  await removeFile(disk, requestFile(dir, id));
  return saidTo(disk, dir, id);
}

const answerFile = (dir: string, id: string) => join(dir, OUTBOX, `${id}.json`);

/** Whether it is in the inbox. */
export const isAsked = (dir: string, id: string): boolean => exists(requestFile(dir, id));

/** The names of all that are in the inbox, found by one look. */
export const askedIn = (dir: string): ReadonlySet<string> =>
  new Set(namesIn(join(dir, INBOX), '.json').map((name) => name.slice(0, -'.json'.length)));

/** Whether an owner is to see a request yet, or has answered it: the answer comes before the request goes. */
export const isKnown = (dir: string, id: string): boolean => isAsked(dir, id) || exists(answerFile(dir, id));

/**
 * Waits for what the owner says to a request.
 *
 * @param isOwned Whether the owner still lives.
 * @returns The owner's outcome; `undefined` when it died before it answered, or the answer is lost (guest.ts, U5). The request
 * stays until it is withdrawn: for the next owner, it stands before those that came after it.
 */
export async function answered(
  disk: Disk,
  dir: string,
  id: string,
  isOwned: () => Promise<boolean>,
): Promise<CommitOutcome | undefined> {
  try {
    for (;;) {
      // Both asked before the look at the answer: one that came before the death, or before the request was removed, is seen.
      const isAlive = await isOwned();
      const isThere = isAsked(dir, id);
      const said = await saidTo(disk, dir, id);
      if (said) return said;
      if (!isAlive || !isThere) return undefined;
      const changed = folderChange(join(dir, OUTBOX), ANSWER_LOOK_MS);
      if (exists(answerFile(dir, id))) continue; // came before the watch began
      await changed;
    }
  } catch (error) {
    await removeFile(disk, requestFile(dir, id)); // nobody waits for it any more
    throw error;
  }
}

async function takeReply(disk: Disk, dir: string, id: string): Promise<Reply | undefined> {
  const bytes = await readRegular(disk, answerFile(dir, id));
  if (!bytes) return undefined;
  await removeFile(disk, requestFile(dir, id)); // first: one without an answer is committed again by the next owner
  await removeFile(disk, answerFile(dir, id));
  return JSON.parse(bytes.toString('utf8')) as Reply;
}
