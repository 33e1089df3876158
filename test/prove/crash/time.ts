import type { Clock } from '../../../src/platform.js';

/*
 * Time in the hands of one case: clock, real patience, and what is under way. Nothing here waits for a real timer, so a
 * case takes as long as its work.
 */

interface Timer {
  readonly at: number;
  readonly callback: () => void;
}

/** So many turns of the event loop without an end of what is under way, and it hangs: a function that waits for its signal. */
const HANGS = 100;
/** Then it goes round in circles, or a call of the store never ends. */
const MAX_TURNS = 20_000;
const macrotask = () => new Promise<void>((resolve) => setImmediate(resolve));

export interface CaseTime {
  readonly clock: Clock;
  /** Real time in the platform of the engine: passes when nothing else goes on. */
  patience(ms: number, callback: () => void): () => void;
  /** Counts as under way until the promise settles. */
  during<T>(work: () => Promise<T>): Promise<T>;
  /** Resolves when nothing happens any more at this instant. Throws when `isOver`. */
  quiet(): Promise<void>;
  /** Moves to the next due instant. False: there is none. */
  skip(): boolean;
  /** The context is gone: nobody waits for it any more. */
  forget(): void;
}

export function createTime(check: () => void): CaseTime {
  let now = Date.UTC(2026, 0, 1);
  let last = 0;
  let held = 0;
  let busy = 0;
  let life = 0;
  const timers = new Map<number, Timer>();
  const patient = new Map<number, () => void>();

  const take = <Key, Value>(map: Map<Key, Value>, key: Key): Value => {
    const value = map.get(key)!;
    map.delete(key);
    return value;
  };
  const earliest = () => {
    let found: [number, Timer] | undefined;
    for (const entry of timers) if (!found || entry[1].at < found[1].at) found = entry;
    return found;
  };
  const counted = (add: (by: number) => void) => {
    const mine = life;
    let isOn = true;
    add(1);
    return () => {
      if (isOn && mine === life) add(-1);
      isOn = false;
    };
  };

  return {
    clock: {
      now: () => now,
      setTimer(at, callback, isIdle) {
        const id = ++last;
        if (!isIdle) timers.set(id, { at, callback }); // what may as well not happen does not
        return () => void timers.delete(id);
      },
      hold: () => counted((by) => void (held += by)),
    },
    patience(_, callback) {
      const id = ++last;
      patient.set(id, callback);
      return () => void patient.delete(id);
    },
    async during(work) {
      const release = counted((by) => void (busy += by));
      try {
        return await work();
      } finally {
        release();
      }
    },
    async quiet() {
      let hanging = 0;
      let turns = 0;
      for (let calm = 0; calm < 3; ) {
        await macrotask();
        check();
        if (++turns > MAX_TURNS) throw new Error(`it never comes to rest (${held} held, ${busy} calls under way)`);
        hanging = held > 0 && busy === 0 ? hanging + 1 : 0;
        if (busy > 0 || (held > 0 && hanging < HANGS)) calm = 0;
        else if (++calm === 3 && patient.size) {
          const [id] = patient.keys();
          take(patient, id!)();
          calm = hanging = 0;
        }
      }
    },
    skip() {
      const first = earliest();
      if (!first) return false;
      now = Math.max(now, first[1].at);
      for (let next: [number, Timer] | undefined = first; next && next[1].at <= now; next = earliest())
        take(timers, next[0]).callback();
      return true;
    },
    forget() {
      life++;
      held = busy = 0;
      timers.clear();
      patient.clear();
    },
  };
}
