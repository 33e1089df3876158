/*
 * Who is alive. An owner holds a Web Lock for as long as its context lives; the browser frees it at a crash. That is
 * liveness, not safety: what an owner may write is decided by the fence of each run.
 *
 * P1. A page that is left in an orderly way says so in localStorage, synchronously: the end of a visit must not count
 *     as a crash. IndexedDB is not touched in `pagehide` (work begun there has broken the next load in Safari), and a
 *     note that is lost with a killed browser costs an interruption, nothing more.
 * P2. A page in the back/forward cache counts as gone. Its lock is freed, and taken again when it comes back.
 */

/** Notes of pages that have left: as many are kept. */
const MAX_NOTES = 50;

const storage = (): Storage | undefined => {
  try {
    return globalThis.localStorage;
  } catch {
    return undefined; // forbidden here: a left page then looks like a crashed one
  }
};

export interface Presence {
  /** Whether this platform can tell by locks. If not, the caller keeps leases. */
  readonly hasLocks: boolean;
  /** Resolves when the others can see the owner. */
  enter(owner: string): Promise<void>;
  leave(): void;
  /** The owners that hold their lock now. */
  living(): Promise<ReadonlySet<string>>;
  /** Whether the owner's page was left in an orderly way. */
  hasLeft(owner: string): boolean;
}

export function presence(name: string, onReturn: () => void): Presence {
  const locks = globalThis.navigator?.locks as LockManager | undefined;
  const prefix = `stepfast:${name}:`;
  const noted = `${prefix}left:`;
  let present: string | undefined;
  let isHidden = false;
  let release: (() => void) | undefined;

  const hide = () => {
    isHidden = true;
    try {
      if (present !== undefined) storage()?.setItem(noted + present, String(Date.now()));
    } catch {
      // full: as if there were none
    }
    release?.();
    release = undefined;
  };
  const show = (event: PageTransitionEvent) => {
    if (event.persisted && present !== undefined) void enter(present).then(onReturn, onReturn);
  };
  const enter = (owner: string) => {
    present = owner;
    isHidden = false;
    storage()?.removeItem(noted + owner);
    return new Promise<void>((entered, failed) => {
      if (!locks) return entered();
      // Shared, so that it is granted at once whatever else holds it.
      const hold = () =>
        new Promise<void>((free) => {
          entered();
          if (isHidden) return free(); // left before it was granted
          release?.();
          release = free;
        });
      locks.request(prefix + owner, { mode: 'shared' }, hold).catch(failed);
    });
  };

  return {
    hasLocks: locks !== undefined,
    async enter(owner) {
      globalThis.addEventListener?.('pagehide', hide);
      globalThis.addEventListener?.('pageshow', show);
      const notes = storage();
      const keys = Object.keys(notes ?? {}).filter((key) => key.startsWith(noted));
      keys.sort((a, b) => Number(notes!.getItem(b)) - Number(notes!.getItem(a)));
      for (const key of keys.slice(MAX_NOTES)) notes!.removeItem(key);
      await enter(owner);
    },
    leave() {
      globalThis.removeEventListener?.('pagehide', hide);
      globalThis.removeEventListener?.('pageshow', show);
      present = undefined;
      isHidden = true;
      release?.();
    },
    async living() {
      const { held = [] } = (await locks?.query()) ?? {};
      return new Set(held.flatMap((lock) => (lock.name?.startsWith(prefix) ? [lock.name.slice(prefix.length)] : [])));
    },
    hasLeft: (owner) => storage()?.getItem(noted + owner) != null,
  };
}
