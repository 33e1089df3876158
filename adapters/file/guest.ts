import { join } from 'node:path';
import { StepfastError } from '../../src/errors.js';
import type { Batch, CommitOutcome, RunChange } from '../../src/store/batch.js';
import type { RunRow } from '../../src/store/rows.js';
import { prepare } from './batch.js';
import type { Disk } from './disk.js';
import { storeError } from './files.js';
import { answered, isAsked, isKnown, type Request, requestNames, send, withdraw } from './inbox.js';
import { type Acquired, type Holder, type Lock, livingHolder } from './lock.js';
import type { Owner } from './owner.js';

/*
 * Commits of a store that does not drive (spec O3): start, dispatch, cancel.
 *
 * U1. A living owner is asked through its inbox, and its answer is the outcome. When nobody owns the folder, the lock is
 *     taken for the length of this one commit.
 * U2. When the owner dies before it answers, both are tried again: the ids in the batch make that the same run or event, and the
 *     name of the request the same change of the shared state.
 * U3. They are committed in the order of the calls (inbox.ts, B1). While an earlier one waits for its answer, a commit is
 *     asked for as well, though the lock be free by now; what has to be tried again waits until the earlier ones are over.
 * U4. What only a driver may do (claim a run, go on with one) is refused, here and again by the owner that is asked.
 * U5. Where neither request nor answer is there any more (the sender stood still for so long that its answer was swept), nobody
 *     can tell what came of it. Ids make asking again harmless; a change of the shared state is not asked for again, for it
 *     would count twice: the call rejects (spec D8, and S8 in store.ts).
 */

/**
 * So many of one process wait in the inbox at a time. Each looks for its answer whenever one comes (3,000 at once: 12 s),
 * and only a short folder is sure to be listed in one go, so that no request is seen without those before it.
 */
const MAX_REQUESTS = 64;

export interface GuestOptions {
  readonly disk: Disk;
  readonly dir: () => string;
  /** What this code writes. */
  readonly format: () => number;
  readonly alone: <T>(body: () => Promise<T>) => Promise<T>;
  readonly assertOpen: () => void;
  readonly rowOf: (runId: string) => Promise<RunRow | undefined>;
  /** The owner that this store has become meanwhile, if it has. */
  readonly owner: () => Owner | undefined;
  /** Takes the lock if it is free. */
  readonly take: () => Promise<Acquired>;
  readonly own: (lock: Lock) => Promise<Owner>;
  readonly disown: () => Promise<void>;
  readonly tell: (changed: ReadonlyMap<string, boolean>) => void;
}

export interface Guest {
  commit(batch: Batch): Promise<CommitOutcome>;
  /** Rejects when the batch goes on with a run, which only a driver may do. */
  refuseClaim(batch: Batch): Promise<void>;
}

export const lockedBy = (dir: string, { pid, host }: Holder): StepfastError =>
  new StepfastError(
    'STORE_LOCKED',
    `"${dir}" is driven by ${pid === process.pid ? 'another store of this process' : 'another process'} (pid ${pid} on "${host}"). ` +
      'Stop it, pass `wait: true` to take over when it ends, or only start, dispatch, cancel and read from here.',
    { pid },
  );

/** What is done to a run from outside: it claims nothing, and comes to nothing where somebody was faster. */
const isCommand = ({ fence, append }: RunChange): boolean =>
  fence === 'any' || append.some(({ kind }) => kind === 'retried');

/** Rejects for a batch of which nobody can tell whether it was committed, where committing it again would do more. */
function assertRepeatable({ state }: Batch): void {
  const [change] = state ?? [];
  if (!change) return;
  throw new StepfastError(
    'STORE_UNAVAILABLE',
    `This process stood still for so long that the answer to its request is gone: the change of "${change.key}" may or may not ` +
      'have happened. Read what is there before you repeat it.',
  );
}

export function createGuest(options: GuestOptions): Guest {
  const { disk, dir, alone, assertOpen, rowOf, take, own, disown, tell } = options;
  const holder = () => livingHolder(disk, join(dir(), 'lock'));

  const refuseClaim = async ({ run }: Batch) => {
    if (!run || isCommand(run)) return;
    const found = await rowOf(run.runId);
    if (!found || found.endedAt !== undefined) return;
    const living = await holder();
    if (living) throw lockedBy(dir(), living);
    throw new StepfastError(
      'STORE_LOCKED',
      `Run "${run.runId}" can be driven only by a store opened to drive. Call \`ready()\` first.`,
    );
  };

  const commitBy = async (owner: Owner, batch: Batch, request?: string): Promise<CommitOutcome> => {
    const { promise, resolve, reject } = settleable<CommitOutcome>();
    promise.catch(() => undefined); // heard below, when the flush is over
    tell(await owner.flush([{ ...prepare(batch), resolve, reject, request }]));
    return promise;
  };

  /** Takes a request back, to commit it here, unless it is answered. */
  const takeBack = async ({ id, batch }: Request): Promise<CommitOutcome | undefined> => {
    const isThere = isAsked(dir(), id);
    const said = await withdraw(disk, dir(), id);
    if (!said && !isThere) assertRepeatable(batch);
    return said;
  };

  /**
   * `undefined`: somebody else holds the lock.
   *
   * @param request So it stands in the inbox, and keeps its place there for whoever owns the folder next.
   */
  const commitUnderLock = async (batch: Batch, request?: Request): Promise<CommitOutcome | undefined> => {
    const commitAs = async (owner: Owner) =>
      (request && (await takeBack(request))) ?? commitBy(owner, batch, request?.id);
    const mine = options.owner();
    if (mine) return commitAs(mine);
    const taken = await take();
    if (taken.kind === 'held') return undefined;
    const owner = await own(taken.lock);
    try {
      const outcome = await commitAs(owner);
      await owner.sweep(() => true); // nobody else would before the next driver comes
      return outcome;
    } finally {
      await disown();
    }
  };

  const nextName = requestNames();
  /** How many wait for an answer. */
  let waiting = 0;
  /** Of the last commits: it is over, and so are all before it. */
  const overs: Promise<unknown>[] = [];

  const commit = async (batch: Batch, earlier: Promise<unknown> | undefined): Promise<CommitOutcome> => {
    if (overs.length >= MAX_REQUESTS) await overs.shift();
    await refuseClaim(batch);
    const request = { id: nextName(), v: options.format(), batch };
    const done = await alone(async () => {
      const outcome = waiting === 0 ? await commitUnderLock(batch) : undefined;
      if (outcome) return outcome;
      await send(disk, dir(), request); // in this turn: none overtakes another
      waiting++;
      return undefined;
    });
    if (done) return done;
    try {
      return await answeredOrDone(request, earlier);
    } finally {
      waiting--;
    }
  };

  /** Waits for the answer; where there is no owner any more, it is committed here once those before it are over. */
  const answeredOrDone = async (request: Request, earlier: Promise<unknown> | undefined): Promise<CommitOutcome> => {
    const isOwned = async () => {
      assertOpen();
      return (await holder()) !== undefined;
    };
    for (;;) {
      const said = await answered(disk, dir(), request.id, isOwned);
      if (said) return said;
      await earlier;
      const done = await alone(async () => {
        const outcome = await commitUnderLock(request.batch, request);
        if (outcome || isKnown(dir(), request.id)) return outcome;
        assertRepeatable(request.batch);
        return send(disk, dir(), request).then(() => undefined);
      });
      if (done) return done;
    }
  };

  return {
    refuseClaim,
    commit(batch) {
      const earlier = overs.at(-1);
      const outcome = commit(batch, earlier);
      const over = () => earlier;
      overs.push(outcome.then(over, over));
      return outcome.catch((error: unknown) => {
        throw storeError(error, 'asking the owner of', dir());
      });
    },
  };
}

function settleable<T>() {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((done, failed) => {
    resolve = done;
    reject = failed;
  });
  return { promise, resolve, reject };
}
