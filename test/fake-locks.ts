/*
 * Web Locks for tests in Node, as far as the IndexedDB store uses them: requests, shared ones or not, held until their
 * callback's promise settles, in the order in which they were made. Real browsers have the real ones; the suite in Chromium uses those.
 */

interface LockRequest {
  readonly name: string;
  readonly isShared: boolean;
  grant(): void;
}
interface Options {
  readonly mode?: string;
  readonly signal?: AbortSignal;
}

const described = ({ name, isShared }: LockRequest) => ({ name, mode: isShared ? 'shared' : 'exclusive' });

/** A lock manager. Contexts of one origin share one, but for those in front of and behind a `Clear-Site-Data` in Chromium. */
export function lockManager() {
  const held = new Set<LockRequest>();
  const queued: LockRequest[] = [];

  /** As the platform does: the first of the queue goes, and nobody overtakes another of the same name. */
  function grantWhatCanBe() {
    const passed = new Set<string>();
    for (const request of [...queued]) {
      const { name, isShared } = request;
      const others = [...held].filter((one) => one.name === name);
      const isFree = isShared ? others.every((one) => one.isShared) : others.length === 0;
      if (isFree && !passed.has(name)) {
        queued.splice(queued.indexOf(request), 1);
        held.add(request);
        request.grant();
      } else passed.add(name);
    }
  }

  return {
    async request(name: string, options: Options, callback: (lock: unknown) => unknown) {
      let request!: LockRequest;
      await new Promise<void>((grant, reject) => {
        request = { name, isShared: options.mode === 'shared', grant };
        queued.push(request);
        options.signal?.addEventListener('abort', () => {
          if (!queued.includes(request)) return;
          queued.splice(queued.indexOf(request), 1);
          reject(options.signal!.reason);
          grantWhatCanBe();
        });
        grantWhatCanBe();
      });
      try {
        return await callback({ name });
      } finally {
        held.delete(request);
        grantWhatCanBe();
      }
    },
    query: async () => ({ held: [...held].map(described), pending: queued.map(described) }),
  };
}

Object.defineProperty(globalThis, 'navigator', { value: { locks: lockManager() }, configurable: true });
