import { type Identity, identityKey, type Namespace, type OutcomeEntry } from '../store/journal.js';
import type { Json } from '../values/json.js';
import { LazyMap, LazySet } from '../values/lazy-map.js';
import { type Command, functionOf } from './command.js';

/*
 * The heart: a journal and a handler in, settled promises and open asks out. Pure of time, stores and platforms.
 *
 * P1. An identity is (namespace, name, occurrence); occurrences count in the order in which this pass asks (spec R4).
 * P2. Recorded outcomes settle in the order in which they were recorded, each in a macrotask of its own where two are
 *     both asked for, so that races replay as they happened (spec R7).
 * P3. An outcome is released only when as many identities are asked for as when it was recorded. Then what the handler
 *     awaits between steps can not flip a race, nor swap two occurrences with an outcome recorded between their asks.
 *     Nor can what is new: what was open when outcomes were recorded that are still to come is not begun, nor settled,
 *     before them (`isBehind`). Of a function that left no trace nobody can tell whether it was in flight or is new code: it
 *     waits while fewer identities are asked for than there were, if among those was one that nothing is recorded of.
 * P4. What is asked for and has no recorded outcome is open: the owner executes it and feeds its outcome back. A live
 *     pass is a replay that has caught up; there is no second path.
 * P5. A fault (another kind under a known identity, bad arguments) stops the pass before anything new is executed. The
 *     promise of a faulty ask stays pending, like every promise of a pass that is dropped: no user code runs because of it.
 */

/** Something the handler asked for. */
export interface Ask {
  readonly namespace: Namespace;
  readonly id: Identity;
  readonly key: string;
  /** What it is, for its owner to execute. */
  readonly command: Command;
  /** Settles its promise with a recorded outcome. */
  readonly settle: (outcome: OutcomeEntry) => void;
  /** How many outcomes had been released when it was asked for. */
  readonly released: number;
  /** Journal index behind which it was open before this pass; `undefined`: it has left no trace. */
  readonly since: number | undefined;
}

/** How the handler ended. */
export type Ending =
  | { readonly kind: 'returned'; readonly value: unknown }
  | { readonly kind: 'threw'; readonly error: unknown }
  /** It asked to be begun anew with this payload. */
  | { readonly kind: 'restarts'; readonly payload: Json };

/** What a turn has left behind: nothing of the handler is running when it is given. */
export interface Turn {
  /** Asks without a recorded outcome that came up in this turn, or were held back before, in order (P3). */
  readonly opened: readonly Ask[];
  /** Those that are held back from now on, or still. */
  readonly behind: readonly Ask[];
  /** Keys of asks that lost a race, and are not asked for any more. */
  readonly withdrawn: readonly string[];
  readonly ending?: Ending;
  readonly fault?: Error;
  /** Something asked for is recorded, or held back, behind outcomes that the handler does not ask for. */
  readonly isStalled: boolean;
}

export interface ReplayOptions {
  /** Recorded outcomes in the order of their release, with their keys and journal indexes. */
  readonly outcomes: readonly Recorded[];
  /** Keys of outcomes that an earlier drift has set aside, and how many asks fewer this code makes. */
  readonly aside: ReadonlySet<string>;
  readonly slack: number;
  readonly hop: (callback: () => void) => void;
  /** Calls the user's handler. */
  readonly invoke: () => unknown;
  /** Finds what is wrong with an ask, given the journal. */
  readonly check: (ask: Ask) => Error | undefined;
  /** The journal index of the first entry that still counts of an identity, or where the journal ended when its function was asked for first. */
  readonly since: (key: string) => number | undefined;
  /** Nothing was forgotten of the journal: what left no trace may have been in flight, and is not done again. */
  readonly isWhole: boolean;
  /** Something was asked for, or withdrawn, or the handler ended, outside of a turn: it awaited something else. */
  readonly onAsk: () => void;
}

export interface Recorded {
  readonly key: string;
  readonly index: number;
  readonly entry: OutcomeEntry;
}

export type Replay = ReturnType<typeof createReplay>;

/** Starts a pass of a handler over its recorded outcomes. Call `turn` first, and after each `feed`. */
export function createReplay(options: ReplayOptions) {
  const occurrences = new Map<string, number>();
  const pending = new Map<string, Ask>();
  const queue: Recorded[] = [];
  const aside = new LazyMap<string, Recorded>();
  for (const recorded of options.outcomes)
    if (options.aside.has(recorded.key)) aside.set(recorded.key, recorded);
    else queue.push(recorded);
  const recordedKeys = new Set(queue.map(({ key }) => key));

  let head = 0;
  let asked = 0;
  let released = 0;
  let slack = options.slack;
  let opened: Ask[] = [];
  let withdrawn: string[] = [];
  /** All that were withdrawn in this pass. */
  const lost = new LazySet<string>();
  let ending: Ending | undefined;
  let fault: Error | undefined;
  let isDead = false;
  let isTurning = false;
  /** Whether the handler asked for something since the last release: if not, it may still be about to. */
  let isQuiet = false;
  /** Whether functions without a trace are held back. */
  let isPatient = options.isWhole;

  /** Whether recorded outcomes come before whatever becomes of it (P3). Once the handler has ended, none is asked for any more. */
  const isBehind = ({ since, command }: Ask): boolean => {
    const next = queue[head];
    if (!next || ending) return false;
    if (since !== undefined && queue.some(({ index }, at) => at >= head && index > since)) return true;
    // One that has left no trace by then (its first failure came later) was asked for, where what is recorded up to there are fewer.
    const mayHaveBeen = ({ entry }: Recorded, at: number) =>
      at >= head && entry.asked - slack > Math.max(asked, at + 1);
    return isPatient && functionOf(command) !== undefined && queue.some(mayHaveBeen);
  };
  const isHeld = (key: string): boolean => opened.some((made) => made.key === key && isBehind(made));
  const isReady = (recorded: Recorded) => pending.has(recorded.key) && asked >= recorded.entry.asked - slack;
  const release = ({ key, entry }: Pick<Recorded, 'key' | 'entry'>) => {
    const ask = pending.get(key)!;
    pending.delete(key);
    released++;
    isQuiet = true;
    ask.settle(entry);
  };
  const releaseNext = () => {
    while (queue[head] && lost.has(queue[head]!.key)) head++;
    const next = queue[head];
    if (!next || !isReady(next)) return false;
    head++;
    release(next);
    return true;
  };

  function ask(
    namespace: Namespace,
    name: string,
    command: Command,
    settle: Ask['settle'],
    error?: Error,
  ): string | undefined {
    if (isDead || ending) return undefined;
    const counter = `${namespace} ${name}`; // no namespace has a blank in it
    const occurrence = (occurrences.get(counter) ?? 0) + 1;
    occurrences.set(counter, occurrence);
    const id = [name, occurrence] as const;
    const key = identityKey(namespace, id);
    const made: Ask = { namespace, id, key, command, settle, released, since: options.since(key) };
    asked++;
    isQuiet = false;
    fault ??= error ?? options.check(made);
    if (fault) {
      // P5: stays pending.
    } else {
      pending.set(key, made);
      const set = aside.get(key);
      if (set) release(set);
      else if (!recordedKeys.has(key)) opened.push(made);
    }
    if (!isTurning) options.onAsk();
    return key;
  }

  /** Nobody is to execute it any more. Nearly always there is nothing to look through: this is on the way of each step. */
  const closeAsk = (key: string): void => {
    if (opened.length) opened = opened.filter((made) => made.key !== key);
  };

  /** The loser of a race: what comes of it is not waited for any more, in this pass and, as races replay, in every one. */
  function withdraw(key: string): void {
    if (!pending.delete(key)) return;
    lost.add(key);
    closeAsk(key);
    withdrawn.push(key);
    if (!isTurning) options.onAsk();
  }

  function end(how: Ending): void {
    if (isDead || ending) return;
    ending = how;
    if (!isTurning) options.onAsk();
  }

  const hop = () => new Promise<void>((resolve) => options.hop(resolve));
  const start = async () => options.invoke();
  let isStarted = false;

  /** Lets the handler run until it has nothing left to do, releasing recorded outcomes in their order. */
  async function turn(): Promise<Turn> {
    isTurning = true;
    if (!isStarted) {
      isStarted = true;
      start().then(
        (value) => end({ kind: 'returned', value }),
        (error) => end({ kind: 'threw', error }),
      );
    }
    do await hop();
    while (!isDead && !fault && releaseNext());
    isTurning = false;
    const behind = opened.filter(isBehind);
    const result: Turn = {
      opened: behind.length ? opened.filter((made) => !behind.includes(made)) : opened,
      behind,
      withdrawn,
      isStalled: !ending && (behind.length > 0 || queue.slice(head).some(({ key }) => pending.has(key))),
      ...(ending && { ending }),
      ...(fault && { fault }),
    };
    opened = behind;
    withdrawn = [];
    return result;
  }

  return {
    ask,
    turn,
    withdraw,
    /** The arguments of something that is not asked for under a name are bad. */
    refuse(error: Error): void {
      if (isDead || ending) return;
      fault ??= error;
      if (!isTurning) options.onAsk();
    },
    /** The handler is to be begun anew: whatever it does from here on counts no more. */
    restart: (payload: Json): void => end({ kind: 'restarts', payload }),
    /** Where an outcome that comes now stands: fields of its entry. One that is not asked for yet comes last. */
    position: (key?: string) => ({
      asked,
      ...(queue[head] && (key === undefined || (pending.has(key) && !isHeld(key))) && { before: queue[head]!.index }),
    }),
    /** Settles an ask with a new outcome; one that this pass has not asked for yet waits until it is. Call `turn` next. */
    feed(key: string, entry: OutcomeEntry, index = -1): void {
      if (isDead || recordedKeys.has(key)) return;
      recordedKeys.add(key);
      const isNext = pending.has(key) && !isHeld(key);
      closeAsk(key); // asked for since the last turn, or held back, it is recorded by now (spec R1)
      if (isNext) release({ key, entry });
      else queue.push({ key, index, entry });
    },
    /** After the stall limit: goes on without the outcomes that are in the way, and tells which (spec R7). */
    skip(): { readonly ids: readonly Recorded[]; readonly slack: number } {
      isPatient = false;
      let wanted = queue.findIndex(({ key }, at) => at >= head && pending.has(key));
      if (wanted < 0 && !opened.some(isBehind)) return { ids: [], slack: 0 }; // it has lost a race since
      if (wanted < 0) wanted = queue.length;
      const skipped = queue.slice(head, wanted);
      for (const recorded of skipped) aside.set(recorded.key, recorded);
      head = wanted;
      if (!queue[wanted]) return { ids: skipped, slack: 0 };
      const short = Math.max(0, queue[wanted]!.entry.asked - slack - asked);
      slack += short;
      return { ids: skipped, slack: short };
    },
    /** Whether nothing was asked for since the last release, or something is held back: the handler may be awaiting something else. */
    isQuiet: () => (isQuiet || opened.some(isBehind)) && !ending,
    /** Recorded outcomes that were never asked for. */
    unasked: () => [...queue.slice(head), ...aside.values()].filter(({ key }) => !pending.has(key)),
    /** Forgets the handler: its promises stay pending and unreachable, so that memory is freed. */
    drop(): void {
      isDead = true;
      pending.clear();
    },
  };
}
