/*
 * Web Locks for tests in Node, as far as the IndexedDB store uses them: shared requests, held until their callback's
 * promise settles. Real browsers have the real ones; the suite in Chromium uses those.
 */

const held = new Set<{ readonly name: string }>();

const locks = {
  async request(name: string, _options: unknown, callback: (lock: unknown) => Promise<unknown>) {
    const lock = { name };
    held.add(lock);
    try {
      return await callback(lock);
    } finally {
      held.delete(lock);
    }
  },
  query: async () => ({ held: [...held].map(({ name }) => ({ name })), pending: [] }),
};

Object.defineProperty(globalThis, 'navigator', { value: { locks }, configurable: true });
