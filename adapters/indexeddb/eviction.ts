/*
 * Whether the browser may delete what is stored. All may when the disk is full; WebKit also deletes what a site has
 * stored when its user has not come back for seven days, unless the site was granted persistent storage.
 */

const WEEK_MS = 7 * 86_400_000;

/** The platform's own answer is not waited for: Firefox asks the user. */
export function requestPersistence(onError: (error: unknown) => void): void {
  globalThis.navigator?.storage?.persist?.().catch(onError);
}

const isProduction = (): boolean => {
  try {
    return process.env.NODE_ENV === 'production';
  } catch {
    return false; // a page without a bundler: somebody is developing
  }
};

/** For developers: says once that a run waits for longer than WebKit keeps the data of a site that nobody visits. */
export function createWarning(): (dueAt: number | undefined, now: number) => void {
  let isOver = !/^Apple/.test((globalThis.navigator as Navigator | undefined)?.vendor ?? '') || isProduction();
  const warn = (isPersistent = false) => {
    if (!isPersistent)
      console.warn(
        'stepfast: a run waits for more than 7 days. Safari deletes what a site has stored when it was not visited for 7 days, unless it was granted persistent storage: give indexedDBStore `persist: true`.',
      );
  };
  return (dueAt, now) => {
    if (isOver || dueAt === undefined || dueAt - now <= WEEK_MS) return;
    isOver = true;
    const persisted = globalThis.navigator.storage?.persisted?.();
    if (persisted) void persisted.then(warn, () => warn());
    else warn();
  };
}
