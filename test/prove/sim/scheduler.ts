import type { Random } from './random.js';

/*
 * What happens next, and when: one thread, one time. Everything that may happen is a task, and which of those that are
 * ready goes next is a choice of the seed. Between two choices every promise that can go on has done so: microtasks stay
 * real, and are as deterministic as the program is.
 */

/** A context in which tasks run: none of a frozen one does until it is thawed, none of a dead one ever. */
export interface Life {
  readonly name: string;
  state: 'live' | 'frozen' | 'dead';
  /** Tasks that have become ready while it was frozen. */
  parked: Task[];
}

interface Task {
  /** Absent: of the world outside, which is never frozen. */
  readonly life: Life | undefined;
  readonly label: string;
  readonly run: () => void;
}

interface Timer {
  readonly at: number;
  readonly order: number;
  readonly task: Task;
}

/** What only happens when nothing else does: the other timers of a context come before it, however busy the world is. */
export const PATIENCE = 'patience';

export type Scheduler = ReturnType<typeof createScheduler>;

/**
 * Resolves when every microtask that is queued now, and all that they queue, have run: Node looks at this queue only
 * when the other one is empty. A hundred times cheaper than a turn of the event loop.
 */
const drained = () => new Promise<void>((resolve) => process.nextTick(resolve));

export function createScheduler(random: Random, log: ((line: string) => void) | undefined) {
  const ready: Task[] = [];
  const timers: Timer[] = [];
  let now = Date.UTC(2026, 0, 1);
  let order = 0;
  let choices = 0;

  const enqueue = (task: Task) => {
    if (task.life?.state === 'dead') return;
    if (task.life?.state === 'frozen') task.life.parked.push(task);
    else ready.push(task);
  };
  const soon = (life: Life | undefined, label: string, run: () => void) => enqueue({ life, label, run });
  const after = (life: Life | undefined, ms: number, label: string, run: () => void): (() => void) => {
    if (life?.state === 'dead') return () => undefined;
    const timer: Timer = { at: now + Math.max(0, Math.ceil(ms)), order: ++order, task: { life, label, run } };
    let at = timers.length;
    while (at > 0 && timers[at - 1]!.at > timer.at) at--;
    timers.splice(at, 0, timer);
    return () => {
      const found = timers.indexOf(timer);
      if (found >= 0) timers.splice(found, 1);
      for (const list of [ready, life?.parked ?? []]) {
        const queued = list.indexOf(timer.task);
        if (queued >= 0) list.splice(queued, 1);
      }
    };
  };
  /** Timers whose time has come are ready: in which order they are called is a choice, as with all that is ready. */
  const fire = () => {
    while (timers[0] && timers[0].at <= now) enqueue(timers.shift()!.task);
  };
  const forget = (life: Life, list: Task[]) => {
    const kept = list.filter((task) => task.life !== life);
    list.splice(0, Infinity, ...kept);
  };

  return {
    now: () => now,
    choices: () => choices,
    soon,
    after,
    freeze(life: Life) {
      life.state = 'frozen';
      life.parked.push(...ready.filter((task) => task.life === life));
      forget(life, ready);
    },
    thaw(life: Life) {
      life.state = 'live';
      ready.push(...life.parked.splice(0));
    },
    kill(life: Life) {
      life.state = 'dead';
      life.parked = [];
      forget(life, ready);
      for (let at = timers.length - 1; at >= 0; at--) if (timers[at]!.task.life === life) timers.splice(at, 1);
    },
    /** Something of this context is ready, but for what has lost its patience. */
    isBusy: (life: Life) => ready.some((task) => task.life === life && task.label !== PATIENCE),
    /** Nothing is ready, whatever timers there are. */
    isIdle: () => ready.length === 0 && !(timers[0] && timers[0].at <= now),
    nextTimerAt: () => timers[0]?.at,
    drained,
    /**
     * One choice: a ready task, or (when none is, or the seed is in a hurry) the next instant that a timer waits for.
     * False: nothing is left that could ever happen by itself, or not before `until`.
     */
    async choose({ hurry, until = Infinity }: { hurry: number; until?: number }): Promise<boolean> {
      fire();
      const isHurried = ready.length > 0 && timers.length > 0 && random.chance(hurry);
      if (!ready.length || isHurried) {
        const at = timers[0]?.at;
        if (at === undefined || at > until) {
          if (!ready.length) return false;
        } else {
          now = Math.max(now, at);
          fire();
        }
      }
      if (!ready.length) return true; // what is due is of somebody who is frozen
      choices++;
      const at = random.below(ready.length);
      const task = ready[at]!;
      ready[at] = ready.at(-1)!;
      ready.pop();
      if (random.chance(0.1)) now += random.below(4);
      log?.(`${task.life?.name ?? 'world'}: ${task.label}`);
      task.run();
      await drained();
      return true;
    },
  };
}
