/**
 * Calls what belongs to somebody else (a listener, a hook of a plug-in), and tells what it threw, or rejected with when it
 * was asynchronous: it breaks nothing here, and never reaches the process as unhandled (spec B).
 */
export function heard(call: () => unknown, failed: (error: unknown) => void): void {
  try {
    const result = call();
    if (typeof (result as { readonly then?: unknown } | undefined)?.then === 'function')
      (result as PromiseLike<unknown>).then(undefined, failed);
  } catch (error) {
    failed(error);
  }
}
