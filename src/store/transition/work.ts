/*
 * Reads that may have to be waited for, without a promise where there is nothing to wait for: most stores hold what a
 * transition reads in memory, and a promise for each read was a third of what a commit cost there.
 */

export type Awaitable<T> = T | PromiseLike<T>;

/** What may stop in the middle to wait for something. A function of it is a generator: `yield* read(...)`. */
export type Work<T> = Generator<PromiseLike<unknown>, T, unknown>;

export const isPromise = (value: unknown): value is PromiseLike<unknown> =>
  typeof (value as { readonly then?: unknown } | undefined)?.then === 'function';

/** What was found: at once, or when it is there. */
export function* read<T>(found: Awaitable<T>): Work<T> {
  return (isPromise(found) ? yield found : found) as T;
}

/** Does the work: at once as long as nothing has to be waited for, and then when that has come. */
export function perform<T>(work: Work<T>): Awaitable<T> {
  const step = work.next();
  return step.done ? step.value : goOn(work, step.value);
}

async function goOn<T>(work: Work<T>, first: PromiseLike<unknown>): Promise<T> {
  for (let waited = first; ; ) {
    const step = await waited.then(
      (value) => work.next(value),
      (error) => work.throw(error),
    );
    if (step.done) return step.value;
    waited = step.value;
  }
}
