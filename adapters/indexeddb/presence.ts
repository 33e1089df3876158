import { pings } from './pings.js';
import type { Lease } from './schema.js';

/*
 * Who is alive. An owner holds a Web Lock for as long as its context lives; the browser frees it at a crash. Where there
 * are no Web Locks (plain http) it keeps a lease. That is liveness, not safety: what an owner may write is decided by
 * the fence of each run.
 *
 * P1. A page that is left in an orderly way says so in localStorage, synchronously: the end of a visit must not count
 *     as a crash. IndexedDB is not touched in `pagehide` (work begun there has broken the next load in Safari), and a
 *     note that is lost with a killed browser costs an interruption, nothing more. For an engine in a dedicated worker, served
 *     over the bridge, its page does so.
 * P2. A page in the back/forward cache, or frozen, counts as gone. Its lock is freed, and taken again when it comes back.
 * P3. A worker hears of neither, and keeps its lock. `locks.query()`, asked every few seconds by who sees due work of
 *     others, makes Chromium drop a cached page; a frozen one does not answer (pings.ts).
 *     In WebKit it is told before by its page that it may go (`beforeunload`): a transaction that is begun as the page goes
 *     can not even be undone, for the worker is stopped before the database has said that it has begun.
 * P4. Who sees due work of others queues for their locks, so as to hear at once when one is freed. Nothing rests on it:
 *     in Chromium such a request may wait ten minutes for a cached page. Owners hold theirs shared, who queues asks for
 *     it alone: held alone for a moment, by who is being told, a lock says that its owner is gone.
 * P5. What a page commits in the moment in which it goes may be durable, with nobody left to tell the others. It tells them
 *     before: they look now, and once more when such a commit is over.
 * P6. Work of the dead is left to a visible tab, for a moment, by hidden ones.
 * P7. After `Clear-Site-Data` Chromium gives documents that are open, and those that come later, lock managers of their own:
 *     each side sees no lock of the other. So contexts greet each other by message as they come. Who answers while no lock
 *     of it is to be seen, nor ever was, is apart, and alive for as long as it answers. One whose lock was seen shares our
 *     lock manager: it has answered, and gone.
 */

/** Notes of pages that have left: as many are kept. */
const MAX_NOTES = 500;
/** How long a hidden tab leaves work of the dead to a visible one. It looks again after three seconds. */
const YIELD_MS = 2_000;
/** By then a commit that was under way when its page went is there, or is not. */
const SETTLED_MS = 1_000;

const storage = (): Storage | undefined => {
  try {
    return globalThis.localStorage;
  } catch {
    return undefined; // forbidden here: a left page then looks like a crashed one
  }
};
const page = (): Document | undefined => globalThis.document;

/** In a worker, which has no localStorage, its page keeps the notes, if the engine is served to it (plugins/bridge/notes.ts). */
interface PageNotes {
  readonly own: Set<string>;
  readonly left: Set<string>;
  readonly changed?: () => void;
}
const NOTES = Symbol.for('stepfast.notes');
const pageNotes = (): PageNotes | undefined => {
  if (page()) return undefined;
  return ((globalThis as { [NOTES]?: PageNotes })[NOTES] ??= { own: new Set(), left: new Set() });
};
const noteInPage = (key: string, change: 'add' | 'delete') => {
  const notes = pageNotes();
  notes?.own[change](key);
  notes?.changed?.();
};

export interface PresenceOptions {
  readonly name: string;
  /** Whether messages reach others. */
  readonly hasChannel: boolean;
  post(message: unknown): void;
  isCommitting(): boolean;
  /** Somebody has gone, or this page is back: look again. */
  onChange(): void;
  /** Called in `freeze` and `resume`; before, where it may be that `freeze` comes. */
  pause(): void;
  onFreeze(): void;
  onThaw(): void;
}

export interface Presence {
  /** Whether this platform can tell by locks. If not, the caller keeps leases. */
  readonly hasLocks: boolean;
  /** Resolves when the others can see the owner. */
  enter(owner: string): Promise<void>;
  leave(): void;
  /** Tells of owners other than this one whether they can go on with their runs. */
  living(leases: readonly Lease[], now: number): Promise<(owner: string) => boolean>;
  /** Whether the owner's page was left in an orderly way. */
  hasLeft(owner: string): boolean;
  hear(message: unknown): void;
}

export function presence(options: PresenceOptions): Presence {
  const { name, hasChannel, post, isCommitting, onChange, pause, onFreeze, onThaw } = options;
  const locks = globalThis.navigator?.locks as LockManager | undefined;
  const prefix = `stepfast:${name}:`;
  const noted = `${prefix}left:`;
  const visible = `${prefix}visible`;
  const asked = pings(post);
  let present: string | undefined;
  let isAway = false;
  /** Gives up every lock that is held or asked for. */
  let release = () => undefined as unknown;
  let stopShowing: (() => void) | undefined;
  let settling: ReturnType<typeof setTimeout> | undefined;
  /** Owners whose locks are queued for. */
  const awaited = new Map<string, AbortController>();
  /** Who has answered while its lock was nowhere to be seen (P7). */
  const apart = new Set<string>();
  /** Locks that were once to be seen. */
  const seen = new Set<string | undefined>();
  /** When the dead were first seen to be dead. */
  const deadSince = new Map<string, number>();

  /** A lock held until the returned function is called; shared, so that it is granted at once whatever else holds it. */
  const hold = (lock: string, granted: () => void, failed: (error: unknown) => void) => {
    let free = () => undefined as unknown;
    const held = new Promise<void>((resolve) => {
      free = resolve;
    });
    locks!
      .request(lock, { mode: 'shared' }, () => {
        granted();
        return held;
      })
      .catch(failed);
    return () => free();
  };
  const show = () => {
    stopShowing?.();
    stopShowing =
      locks && !isAway && present !== undefined && page()?.visibilityState === 'visible'
        ? hold(visible, nothing, nothing)
        : undefined;
  };

  const hide = () => {
    isAway = true;
    if (isCommitting()) post({ leaving: true });
    try {
      if (present !== undefined) storage()?.setItem(noted + present, String(Date.now()));
    } catch {
      // full: as if there were none
    }
    letGo();
  };
  const letGo = () => {
    release();
    show();
    for (const waiting of awaited.values()) waiting.abort();
    awaited.clear();
  };
  const back = () => {
    if (isAway && present !== undefined) void enter(present).then(onChange, onChange);
  };
  const enter = (owner: string) => {
    present = owner;
    isAway = false;
    storage()?.removeItem(noted + owner);
    noteInPage(noted + owner, 'add');
    if (!locks) return Promise.resolve();
    asked.greet();
    return new Promise<void>((entered, failed) => {
      release();
      release = hold(prefix + owner, entered, failed);
      show();
    }).then(() => post({ here: owner }));
  };
  /** The locks that owners hold, and visible tabs. */
  const heldNames = async () => {
    const { held = [] } = (await locks?.query()) ?? {};
    const names = new Set(held.filter(({ mode }) => mode === 'shared').map((lock) => lock.name));
    for (const lock of names) seen.add(lock);
    return names;
  };
  const meet = async (owner: string) => {
    const lock = prefix + owner;
    if ((await heldNames()).has(lock)) apart.delete(owner);
    else if (!seen.has(lock)) apart.add(owner);
  };

  const freeze = () => {
    hide(); // says what is to be said
    onFreeze();
  };
  const resume = () => {
    onThaw();
    back();
  };
  // A page that goes into the back/forward cache is frozen there, which only Chromium says.
  const pagehide = ({ persisted }: PageTransitionEvent) => (persisted ? freeze() : hide());
  const pageshow = ({ persisted }: PageTransitionEvent) => {
    if (persisted) resume();
  };

  const listen = (on: 'addEventListener' | 'removeEventListener') => {
    globalThis[on]?.('pagehide', pagehide as EventListener);
    globalThis[on]?.('pageshow', pageshow as EventListener);
    if (!page()) globalThis[on]?.('beforeunload', pause);
    page()?.[on]('freeze', freeze);
    page()?.[on]('resume', resume);
    page()?.[on]('visibilitychange', show);
  };

  /** A page has gone in the middle of a commit (P5). */
  const othersLeave = () => {
    clearTimeout(settling);
    settling = setTimeout(onChange, SETTLED_MS);
    onChange();
  };
  /** Hears of the end of an owner at once (P4). */
  const waitFor = (owner: string) => {
    if (!locks || isAway || present === undefined || awaited.has(owner)) return;
    const waiting = new AbortController();
    awaited.set(owner, waiting);
    locks
      .request(prefix + owner, { signal: waiting.signal }, () => {
        awaited.delete(owner);
        onChange();
      })
      .catch(nothing); // no longer waited for
  };
  const yields = (owner: string, isAnyVisible: boolean): boolean => {
    if (!isAnyVisible || page()?.visibilityState !== 'hidden') return false;
    const since = deadSince.get(owner) ?? performance.now();
    deadSince.set(owner, since);
    return performance.now() - since < YIELD_MS;
  };

  return {
    hasLocks: locks !== undefined,
    async enter(owner) {
      listen('addEventListener');
      const notes = storage();
      const keys = Object.keys(notes ?? {}).filter((key) => key.startsWith(noted));
      keys.sort((a, b) => Number(notes!.getItem(b)) - Number(notes!.getItem(a)));
      for (const key of keys.slice(MAX_NOTES)) notes!.removeItem(key);
      await enter(owner);
    },
    leave() {
      clearTimeout(settling);
      listen('removeEventListener');
      if (present !== undefined) noteInPage(noted + present, 'delete');
      present = undefined;
      isAway = true;
      letGo();
    },
    async living(leases, now) {
      const names = await heldNames();
      const until = new Map(leases.map((lease) => [lease.owner, lease.until]));
      /** A lease that ran out may only have been late: timers of hidden pages are. Who answers is alive. */
      const mayLive = (owner: string) =>
        locks
          ? names.has(prefix + owner) || apart.has(owner)
          : until.has(owner) && (hasChannel || until.get(owner)! > now);
      return (owner) => {
        if (owner === present) return true;
        // By a lock that is known; a note may be of a page that only used the engine, and left it behind.
        if ((!locks && hasLeftNote(owner)) || !mayLive(owner) || (hasChannel && asked.isSilent(owner)))
          return yields(owner, names.has(visible));
        deadSince.delete(owner);
        pageNotes()?.left.delete(noted + owner); // its page is back from the cache
        if (!apart.has(owner)) waitFor(owner);
        return true;
      };
    },
    hasLeft: (owner) => hasLeftNote(owner) || pageNotes()?.left.has(noted + owner) === true,
    hear(message) {
      if ((message as { readonly leaving?: unknown } | null)?.leaving) othersLeave();
      const other = asked.hear(message, isAway ? undefined : present);
      if (locks && other !== undefined) meet(other).catch(nothing);
    },
  };

  function hasLeftNote(owner: string): boolean {
    return storage()?.getItem(noted + owner) != null;
  }
}

const nothing = (): undefined => undefined;
