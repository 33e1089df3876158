import { unwrap } from 'idb';
import { StepfastError } from '../../src/errors.js';
import type { Batch } from '../../src/store/batch.js';
import type { SharedOutcome, SharedWork } from '../../src/store/store.js';
import { transition } from '../../src/store/transition.js';
import { assertFormat, storeError } from './schema.js';
import { type CommitHost, changedBy, FENCED, isOfTheDead, nameOf, scope } from './transaction.js';

/*
 * Rows of the app and a commit in one transaction, while a function of the app decides what the rows are.
 *
 * A transaction commits by itself once it has no request left. If the function awaits anything else, its rows would be
 * kept without ours, and no event would tell before it is too late. So a request of ours is always under way: between
 * two of them requests of the function must have ended, else it waits for something else, and all is aborted.
 *
 * W1. In the commit itself nothing is awaited but requests of the transaction, as everywhere.
 * W2. The outcome is told at `complete`, or at `abort`; idb's `done` is not that, it also hears of requests that failed
 *     and were forgiven.
 */

const endedBy = (what: string, cause?: unknown): StepfastError =>
  new StepfastError('TRANSACTION_ENDED', what, {}, cause ? { cause } : undefined);

const AWAITED_ELSE =
  'The function of a transaction awaited something that is no request of its transaction (a fetch, a timer, the end of the transaction): the browser would have committed half of it. Do that in a step before, and hand the result in. Nothing was kept.';

const COMMITTED =
  'The function of a transaction has committed it before the journal was written. What it wrote is kept, and can not be undone: see to those rows, and let it return instead. It is not tried again.';

/** Ended by the function, the transaction would be kept without the journal. */
function forbidCommit(tx: IDBTransaction): void {
  const commit = () => {
    throw endedBy(
      'The function of a transaction called commit(). It is committed together with the journal: return instead. Nothing was kept.',
    );
  };
  Object.defineProperty(tx, 'commit', { value: commit, configurable: true }); // else a proxy around it could not answer
}

/** The function while it runs, and what came of it in the end. */
interface Running {
  said?: { readonly batch: Batch } | { readonly error: unknown };
}

/**
 * Resolves when the function is settled, or has to be given up. A request of ours is under way all the time; the last one
 * has just succeeded then, and rejects when the transaction has been aborted.
 */
async function attend(tx: IDBTransaction, running: Running, keepAlive: () => Promise<unknown>): Promise<void> {
  let heard = 0;
  const hear = () => void heard++;
  // Success does not bubble, but on its way down the transaction hears of it.
  tx.addEventListener('success', hear, true);
  tx.addEventListener('error', hear, true);
  await keepAlive(); // what the function asks for in its first turn comes before the next one of ours
  while (!running.said) {
    heard = 0;
    await keepAlive();
    if (heard === 1) running.said ??= { error: endedBy(AWAITED_ELSE) }; // one is ours
  }
  // After a short wait for something else the transaction is there still, but not open to requests.
  const { error } = running.said as { readonly error?: unknown };
  if (nameOf(error) === 'TransactionInactiveError') running.said = { error: endedBy(AWAITED_ELSE, error) };
}

/** Whether it was still there to be aborted. */
function abort(tx: IDBTransaction): boolean {
  try {
    tx.abort();
    return true;
  } catch {
    return false; // it has ended already
  }
}

/** Why neither we nor the platform, but the function or one of its requests has undone the transaction. */
function undoneBy(running: Running, cause: DOMException | null): unknown {
  const { error } = (running.said ?? {}) as { readonly error?: unknown };
  // These only tell that the transaction has been aborted, not why.
  if (error !== undefined && !/^(Abort|TransactionInactive|InvalidState)Error$/.test(nameOf(error))) return error;
  return endedBy(
    cause
      ? `A request in the function of a transaction failed (${cause.name}: ${cause.message}), and has undone all of it. A failure that may be needs a handler of its own, with event.preventDefault(). Nothing was kept.`
      : 'The function of a transaction has aborted it. Nothing was kept.',
    cause ?? error,
  );
}

interface Deciding<Value> {
  readonly tx: IDBTransaction;
  readonly running: Running;
  readonly work: SharedWork<Value>;
  readonly births: number;
}

/** The whole of it but its end: any outcome other than `committed` is to be undone by the caller. */
async function decide<Value>(
  host: CommitHost,
  { reads, write, renew, meta }: ReturnType<typeof scope>,
  { tx, running, work, births }: Deciding<Value>,
): Promise<{ readonly outcome: SharedOutcome; readonly changed: readonly string[] }> {
  assertFormat(await meta.get('format'), 'minWriter', host.format());
  const settle = async () => work.batchOf(await work.body(tx as never));
  void settle().then(
    (batch) => (running.said ??= { batch }),
    (error: unknown) => (running.said ??= { error }),
  );
  await attend(tx, running, () => meta.get('format'));
  const said = running.said!;
  if ('error' in said) return { outcome: { kind: 'threw', error: said.error }, changed: [] };
  if (isOfTheDead(host, births, said.batch)) return { outcome: FENCED, changed: [] };
  const { outcome, writes } = await transition(reads, said.batch);
  if (outcome.kind !== 'committed') return { outcome, changed: [] };
  write(writes);
  renew(host.lease(said.batch.now));
  return { outcome, changed: changedBy(writes) };
}

/** Both or nothing: what `body` does to the app's object stores, and the batch made of what it returned. */
export async function transact<Value>(host: CommitHost, work: SharedWork<Value>): Promise<SharedOutcome> {
  const births = host.births();
  const wrapped = await host.begin(work.scope);
  wrapped.done.catch(() => undefined);
  const tx = unwrap(wrapped) as IDBTransaction;
  const isKept = new Promise<boolean>((tell) => {
    tx.addEventListener('complete', () => tell(true));
    tx.addEventListener('abort', () => tell(false));
  });
  forbidCommit(tx);
  const ours = scope(wrapped);
  const running: Running = {};
  let fault: unknown;
  const decided = await decide(host, ours, { tx, running, work, births }).catch(
    (error: unknown) => void (fault = error),
  );
  const isCommitted = decided?.outcome.kind === 'committed';
  const isUndone = !isCommitted && abort(tx);
  if (await isKept) {
    if (!isCommitted) throw endedBy(COMMITTED);
    if (decided.changed.length) host.onCommitted(new Set(decided.changed));
    return decided.outcome;
  }
  if (isUndone) {
    if (decided) return decided.outcome;
    throw storeError(fault);
  }
  const failure = ours.failures.find((error) => nameOf(error) !== 'AbortError');
  if (failure || /^(Quota|Unknown|Abort)/.test(nameOf(tx.error))) throw storeError(failure ?? tx.error);
  return { kind: 'threw', error: undoneBy(running, tx.error) };
}
