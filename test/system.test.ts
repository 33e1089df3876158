import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { systemPlatform } from '../src/system.js';

// Pins: what the platform gives, alone, and where some of it is missing: a browser without Node, Node without a page, plain
// http, production (spec Q4, F8, R9).

const given = (value: unknown) => value as never;
/** What was loaded anew: nothing of other tests, and of other engines, is in it. */
const fresh = async () => {
  vi.resetModules();
  return (await import('../src/system.js')).systemPlatform;
};
const macrotask = () => new Promise<void>((resolve) => setImmediate(resolve));

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

describe('the clock', () => {
  let start = 0;
  beforeEach(() => {
    vi.useFakeTimers({ now: 1_000_000 });
    start = Date.now();
  });
  const setBack = (ms: number) => vi.setSystemTime(Date.now() - ms);
  /** A timer, and after how much time of the clock it called back. */
  const timerAt = (ms: number, isIdle?: boolean) => {
    const { clock } = systemPlatform();
    const fired: number[] = [];
    const undo = clock.setTimer(start + ms, () => void fired.push(Date.now() - start), isIdle);
    return { fired, undo };
  };

  it('shows the time, and calls back at the instant, once; at one that is past as soon as it can', () => {
    expect(systemPlatform().clock.now()).toBe(start);
    const timers = [timerAt(5), timerAt(-5), timerAt(0)];
    vi.advanceTimersByTime(0);
    expect(timers.map(({ fired }) => fired)).toEqual([[], [0], [0]]);
    vi.advanceTimersByTime(4);
    expect(timers[0]!.fired).toEqual([]);
    vi.advanceTimersByTime(300_000);
    expect(timers.map(({ fired }) => fired)).toEqual([[5], [0], [0]]);
  });

  it('looks at the time once a minute, and calls back at the instant though it is no whole minute', () => {
    const asked = vi.spyOn(globalThis, 'setTimeout');
    const { fired } = timerAt(150_000);
    vi.advanceTimersByTime(149_999);
    expect(fired).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(fired).toEqual([150_000]);
    expect(asked.mock.calls.map(([, ms]) => ms)).toEqual([60_000, 60_000, 30_000]);
  });

  it('Q4: set forward, a timer that is due by it ends at the next look, and one that is not ends sooner', () => {
    const [short, long] = [timerAt(100_000), timerAt(3_600_000)];
    vi.setSystemTime(start + 3_500_000);
    vi.advanceTimersByTime(59_999);
    expect(short.fired).toEqual([]);
    vi.advanceTimersByTime(1);
    expect([short.fired, long.fired]).toEqual([[3_560_000], []]);
    vi.advanceTimersByTime(39_999);
    expect(long.fired).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(long.fired).toEqual([3_600_000]);
  });

  it('Q4: a timer that is a second early waits for the clock; set back by more, it has taken its time', () => {
    const asked = vi.spyOn(globalThis, 'setTimeout');
    const slow = timerAt(3_000);
    setBack(1_000);
    vi.advanceTimersByTime(3_000);
    expect(slow.fired).toEqual([]);
    vi.advanceTimersByTime(1_000);
    expect(slow.fired).toEqual([3_000]);
    expect(asked.mock.calls.map(([, ms]) => ms)).toEqual([3_000, 1_000]); // it does not spin meanwhile
    start = Date.now();
    const back = timerAt(3_000);
    setBack(1_001);
    vi.advanceTimersByTime(2_999);
    expect(back.fired).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(back.fired).toEqual([1_999]);
  });

  it('Q4: set back by a day while a timer of minutes runs, it ends after its minutes', () => {
    const { fired } = timerAt(150_000);
    vi.advanceTimersByTime(90_000);
    setBack(86_400_000);
    vi.advanceTimersByTime(59_999);
    expect(fired).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(fired).toEqual([150_000 - 86_400_000]);
  });

  it('an undone timer never calls back, before its first look and after it', () => {
    const [one, two] = [timerAt(150_000), timerAt(150_000)];
    one.undo();
    vi.advanceTimersByTime(100_000);
    two.undo();
    vi.advanceTimersByTime(200_000);
    expect([one.fired, two.fired, vi.getTimerCount()]).toEqual([[], [], 0]);
  });

  it('Q4: who asked is told of a clock that was set back by more than a second, once for each time', () => {
    const { clock, onWake } = systemPlatform();
    const woken = vi.fn();
    const undo = onWake(woken);
    clock.setTimer(start + 86_400_000, () => undefined);
    const toldAfter = (ms: number) => {
      woken.mockClear();
      setBack(ms);
      vi.advanceTimersByTime(60_000);
      return woken.mock.calls.length;
    };
    expect([toldAfter(0), toldAfter(1_000), toldAfter(1)]).toEqual([0, 0, 1]);
    expect([toldAfter(500), toldAfter(500), toldAfter(1), toldAfter(0)]).toEqual([0, 0, 1, 0]);
    undo();
    expect(toldAfter(50_000)).toBe(0);
  });

  it('Q4: who asked twice and takes one back is told still; who is told may take itself back', () => {
    const { clock, onWake } = systemPlatform();
    clock.setTimer(start + 86_400_000, () => undefined);
    const woken = vi.fn();
    const undos = [onWake(woken), onWake(woken)];
    undos[0]!();
    const last = vi.fn();
    const undoSelf = onWake(() => undoSelf());
    const undoLast = onWake(last);
    setBack(5_000);
    vi.advanceTimersByTime(60_000);
    expect([woken.mock.calls.length, last.mock.calls.length]).toEqual([1, 1]);
    undos[1]!();
    undoLast();
  });

  it('a timer of which nothing hangs keeps no process alive, at each of its looks; others do, and a browser has none', () => {
    const unref = vi.fn();
    const callbacks: (() => void)[] = [];
    const asking = vi.spyOn(globalThis, 'setTimeout').mockImplementation(
      given((callback: () => void) => {
        callbacks.push(callback);
        return { unref };
      }),
    );
    timerAt(150_000);
    expect(unref).not.toHaveBeenCalled();
    timerAt(150_000, true);
    expect(unref).toHaveBeenCalledTimes(1);
    callbacks[1]!();
    expect(unref).toHaveBeenCalledTimes(2);
    asking.mockReturnValue(given(7));
    expect(() => timerAt(150_000, true)).not.toThrow();
  });
});

describe('patience', () => {
  it('is real time, no longer than a timer may be, and may be taken back', () => {
    vi.useFakeTimers();
    const asked = vi.spyOn(globalThis, 'setTimeout');
    const { patience } = systemPlatform(given({ now: () => 0 }));
    const told = vi.fn();
    patience(50, told);
    patience(60, told)();
    const undos = [patience(2 ** 31, told), patience(-1, told)];
    expect(asked.mock.calls.map(([, ms]) => ms)).toEqual([50, 60, 2 ** 30, 0]);
    for (const undo of undos) undo();
    vi.advanceTimersByTime(49);
    expect(told).not.toHaveBeenCalled();
    vi.advanceTimersByTime(100);
    expect(told).toHaveBeenCalledOnce();
  });
});

describe('a macrotask', () => {
  const order = async (hop: (callback: () => void) => void) => {
    const told: string[] = [];
    hop(() => {
      told.push('first');
      void Promise.resolve().then(() => told.push('and what it queues'));
    });
    hop(() => told.push('second'));
    void Promise.resolve().then(() => told.push('microtask'));
    told.push('sync');
    for (let turns = 0; turns < 4; turns++) await macrotask();
    return told;
  };
  const inOrder = ['sync', 'microtask', 'first', 'and what it queues', 'second'];

  it('comes after all microtasks, each in its turn', async () => {
    expect(await order(systemPlatform().hop)).toEqual(inOrder);
  });

  it('is a message to oneself where there is no setImmediate, and a message of nobody is none', async () => {
    const channels: { onmessage?: () => void }[] = [];
    const { setImmediate: later } = globalThis;
    vi.stubGlobal(
      'MessageChannel',
      class {
        readonly port1: { onmessage?: () => void } = {};
        readonly port2 = { postMessage: () => void later(() => this.port1.onmessage?.()) };
        constructor() {
          channels.push(this.port1);
        }
      },
    );
    expect(typeof systemPlatform().hop).toBe('function');
    expect(channels).toEqual([]);
    vi.stubGlobal('setImmediate', undefined);
    const { hop } = systemPlatform();
    vi.stubGlobal('setImmediate', later);
    expect(channels).toHaveLength(1);
    expect(await order(hop)).toEqual(inOrder);
    expect(() => channels[0]!.onmessage!()).not.toThrow();
  });
});

describe('a page that is back', () => {
  it('is told of by its window and its document, until that is taken back', () => {
    const [page, document] = [new EventTarget(), new EventTarget()];
    vi.stubGlobal('addEventListener', page.addEventListener.bind(page));
    vi.stubGlobal('removeEventListener', page.removeEventListener.bind(page));
    const woken = vi.fn();
    const heard = () => {
      const told: string[] = [];
      for (const type of ['pageshow', 'online', 'visibilitychange', 'resume', 'pagehide'])
        for (const target of [page, document]) {
          woken.mockImplementation(() => told.push(type));
          target.dispatchEvent(new Event(type));
        }
      return told;
    };
    const worker = systemPlatform().onWake(woken); // has no document
    expect(heard()).toEqual(['pageshow', 'online']);
    worker();
    expect(heard()).toEqual([]);
    vi.stubGlobal('document', document);
    const undo = systemPlatform().onWake(woken);
    expect(heard()).toEqual(['pageshow', 'online', 'visibilitychange', 'resume']);
    undo();
    expect(heard()).toEqual([]);
  });

  it('is nothing that Node has, and taking it back does nothing', () => {
    vi.stubGlobal('addEventListener', undefined);
    const removed = vi.fn();
    vi.stubGlobal('removeEventListener', removed);
    systemPlatform().onWake(() => undefined)();
    expect(removed).not.toHaveBeenCalled();
  });
});

describe('the function of a step', () => {
  it('R9: is one while it runs, also after an await, and until it is left', async () => {
    const platform = systemPlatform();
    const { inStep, leaveStep, isInStep } = platform;
    expect(isInStep()).toBe(false);
    let isAfter: boolean | undefined;
    const over = inStep(async () => {
      expect(isInStep()).toBe(true);
      await macrotask();
      isAfter = isInStep();
      return 'given';
    });
    expect(isInStep()).toBe(false);
    expect([await over, isAfter]).toEqual(['given', true]);
    leaveStep();
    expect(isInStep()).toBe(false);
  });

  it('R9: is none of another engine, and one that throws is over', async () => {
    const [one, other] = [systemPlatform(), systemPlatform()];
    const seen: boolean[] = [];
    await one.inStep(async () => {
      seen.push(one.isInStep(), other.isInStep());
      await macrotask();
      seen.push(one.isInStep(), other.isInStep());
    });
    one.leaveStep();
    expect(seen).toEqual([true, false, true, false]);
    const throwing = () =>
      one.inStep(() => {
        throw new Error('own');
      });
    expect(throwing).toThrow('own');
    one.leaveStep();
    expect(one.isInStep()).toBe(false);
  });

  it('R9: what it causes and is not its own is outside of it, also after an await; behind that it is inside again', async () => {
    const { inStep, outOfStep, leaveStep, isInStep } = systemPlatform();
    const seen: boolean[] = [];
    await inStep(async () => {
      const outside = outOfStep(async () => {
        seen.push(isInStep());
        await macrotask();
        seen.push(isInStep());
      });
      seen.push(isInStep());
      await outside;
      seen.push(isInStep());
    });
    leaveStep();
    expect(seen).toEqual([false, true, false, true]);
    expect(outOfStep(() => 'given')).toBe('given');
  });

  it('R9: one that is left takes nothing from another that is in flight', async () => {
    const { inStep, leaveStep, isInStep } = systemPlatform();
    const seen: boolean[] = [];
    const slow = inStep(async () => {
      await macrotask();
      await macrotask();
      seen.push(isInStep());
    });
    inStep(() => undefined);
    leaveStep();
    await slow;
    leaveStep();
    expect(seen).toEqual([true]);
  });

  /** Stands for what Node has, and notes what is asked of it. */
  function contexts() {
    const told: string[] = [];
    class AsyncLocalStorage {
      #store: unknown;
      constructor() {
        told.push('made');
      }
      run(store: unknown, fn: () => unknown) {
        told.push(store ? 'inside' : 'outside');
        this.#store = store;
        return fn();
      }
      getStore = () => this.#store;
      disable() {
        told.push('off');
        this.#store = undefined;
      }
    }
    const getBuiltinModule = (name: string) => (name === 'node:async_hooks' ? { AsyncLocalStorage } : undefined);
    return { told, node: { ...process, getBuiltinModule } };
  }

  it('R9: costs nothing while none is in flight: one context for all engines, which is off then', async () => {
    const make = await fresh();
    const { told, node } = contexts();
    vi.stubGlobal('process', node);
    const [one, other] = [make(), make()];
    expect(told).toEqual(['made']);
    one.outOfStep(() => undefined);
    expect(told).toEqual(['made']);
    one.inStep(() => undefined);
    other.inStep(() => other.outOfStep(() => undefined));
    one.leaveStep();
    expect(told).toEqual(['made', 'inside', 'inside', 'outside']);
    other.leaveStep();
    other.outOfStep(() => undefined);
    vi.unstubAllGlobals();
    expect(told).toEqual(['made', 'inside', 'inside', 'outside', 'off']);
  });

  it.each([
    ['a browser', undefined],
    ['a bundle that has a process of its own', {}],
    ['a Node that does not give it', { getBuiltinModule: () => undefined }],
  ])('R9: in %s it is known until its first await', async (_, node) => {
    const make = await fresh();
    vi.stubGlobal('process', node);
    const { inStep, outOfStep, leaveStep, isInStep } = make();
    vi.unstubAllGlobals();
    const seen: boolean[] = [];
    await inStep(async () => {
      seen.push(isInStep(), outOfStep(isInStep), isInStep());
      await null;
      seen.push(isInStep());
    });
    leaveStep();
    expect([seen, isInStep()]).toEqual([[true, false, true, false], false]);
  });
});

describe('ids', () => {
  it('are 21 characters of 6 random bits each, no bit used twice, and random bytes are asked for once for 64', () => {
    let asked = 0;
    const bytes: number[] = [];
    const getRandomValues = (into: Uint8Array) => {
      asked++;
      for (let index = 0; index < into.length; index++) bytes.push((into[index] = (index * 7 + asked) & 255));
      return into;
    };
    vi.stubGlobal('crypto', { getRandomValues });
    const { newId } = systemPlatform();
    expect(asked).toBe(0);
    const ids = Array.from({ length: 130 }, newId);
    expect(asked).toBe(3);
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    const spelt = bytes.map((byte) => alphabet[byte % 64]).join('');
    expect(ids.map(({ length }) => length)).toEqual(ids.map(() => 21));
    expect(spelt.startsWith(ids.join(''))).toBe(true);
  });

  it('a UUID is what the platform makes, or of random bytes on plain http, which has none', () => {
    const { newUuid } = systemPlatform();
    const shape = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
    expect(newUuid()).toMatch(shape);
    vi.stubGlobal('crypto', { randomUUID: () => 'of the platform' });
    expect(newUuid()).toBe('of the platform');
    const filled = (byte: (index: number) => number) => {
      vi.stubGlobal('crypto', { getRandomValues: (into: Uint8Array) => into.map((_, index) => byte(index)) });
      return newUuid();
    };
    expect(filled(() => 255)).toBe('ffffffff-ffff-4fff-bfff-ffffffffffff');
    expect(filled(() => 0)).toBe('00000000-0000-4000-8000-000000000000');
    expect(filled((index) => index)).toBe('00010203-0405-4607-8809-0a0b0c0d0e0f');
  });
});

describe('a signal', () => {
  it('is made when it is asked for, and is one', () => {
    const made = vi.fn();
    vi.stubGlobal(
      'AbortController',
      class extends AbortController {
        constructor() {
          super();
          made();
        }
      },
    );
    const abort = systemPlatform().newAbort();
    systemPlatform().newAbort().abort('nobody asked');
    expect(made).not.toHaveBeenCalled();
    const { signal } = abort;
    expect([signal === abort.signal, signal.aborted, made.mock.calls.length]).toEqual([true, false, 1]);
    abort.abort('why');
    abort.abort('again');
    expect([signal.aborted, (signal as AbortSignal & { reason: unknown }).reason]).toEqual([true, 'why']);
  });

  it('is aborted for the first reason where that came before it was asked for', () => {
    const abort = systemPlatform().newAbort();
    abort.abort('why');
    abort.abort('again');
    const told = vi.fn();
    const signal = abort.signal as globalThis.AbortSignal;
    signal.addEventListener('abort', told);
    expect([signal.aborted, signal.reason, abort.signal === signal]).toEqual([true, 'why', true]);
    expect(told).not.toHaveBeenCalled();
  });
});

describe('the network', () => {
  it.each([
    [{ onLine: false }, false],
    [{ onLine: true }, true],
    [{}, true],
    [undefined, true],
  ])('F8: is there unless the platform says no: %o', (navigator, isOnline) => {
    vi.stubGlobal('navigator', navigator);
    expect(systemPlatform().isOnline()).toBe(isOnline);
  });
});

describe('who develops', () => {
  it('is warned, also where there is no process to ask; production is silent', () => {
    const warned = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
    const { warn } = systemPlatform();
    vi.stubEnv('NODE_ENV', 'development');
    warn('look');
    expect(warned.mock.calls).toEqual([['stepfast: look']]);
    vi.stubEnv('NODE_ENV', 'production');
    warn('look');
    expect(warned).toHaveBeenCalledTimes(1);
    vi.stubGlobal('process', undefined);
    warn('in a page');
    vi.unstubAllGlobals();
    expect(warned.mock.lastCall).toEqual(['stepfast: in a page']);
  });

  it('hears of errors that nobody else hears of, in production as well', () => {
    const reported = vi.spyOn(console, 'error').mockImplementation(() => undefined);
    vi.stubEnv('NODE_ENV', 'production');
    const error = new Error('own');
    systemPlatform().report(error);
    expect(reported.mock.calls).toEqual([['stepfast:', error]]);
  });
});

it('what else the platform gives: random numbers, URLs, and the clock that is handed in', () => {
  const clock = given({ now: () => 7 });
  const { random, URL: Made, clock: own } = systemPlatform(clock);
  const numbers = Array.from({ length: 50 }, random);
  expect([numbers.every((each) => each >= 0 && each < 1), new Set(numbers).size > 1]).toEqual([true, true]);
  expect([`${new Made('https://a.b/c')}`, own]).toEqual(['https://a.b/c', clock]);
});
