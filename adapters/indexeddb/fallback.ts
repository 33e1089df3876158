import type { Store, StoreListener } from '../../src/store/store.js';

/*
 * Where there is an IndexedDB that may not be used (site data blocked, a sandboxed frame), only opening it shows that.
 */

/** What the engines say: a `SecurityError`, Chromium where site data is blocked, old Firefox in private windows. */
const isForbidden = (error: unknown): boolean => {
  const { name, message } = ((error as Error | undefined)?.cause ?? {}) as Partial<Error>;
  return name === 'SecurityError' || /denied permission|did not allow mutations/.test(String(message));
};

/** The store, or another one in its place once it turns out to be forbidden. Never for any other failure: there may be runs. */
export function orFallback(own: Store, fallback: () => Store): Store {
  let store = own;
  const watched = new Map<StoreListener, () => void>();
  const watch = (listener: StoreListener) => void watched.set(listener, store.watch(listener));
  return {
    get name() {
      return store.name;
    },
    get capabilities() {
      return store.capabilities;
    },
    async open(options) {
      try {
        await store.open(options);
      } catch (error) {
        if (store !== own || !isForbidden(error)) throw error;
        own.abandon?.();
        store = fallback();
        for (const listener of watched.keys()) watch(listener);
        await store.open(options);
      }
    },
    close: () => store.close(),
    abandon: () => store.abandon?.(),
    commit: (batch) => store.commit(batch),
    due: (query) => store.due(query),
    load: (runId) => store.load(runId),
    list: (query) => store.list(query),
    state: (key) => store.state(key),
    // The fallback shares nothing with the app, and says so where it is asked for.
    get transact() {
      return store.transact?.bind(store) as NonNullable<Store['transact']>;
    },
    watch(listener) {
      watch(listener);
      return () => {
        watched.get(listener)?.();
        watched.delete(listener);
      };
    },
  };
}
