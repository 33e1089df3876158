import { describe, expect, it } from 'vitest';
import type { FunctionCommand } from '../src/replay/command.js';
import type { Ask } from '../src/replay/replay.js';
import { createFunctions, lostBy } from '../src/run/functions.js';
import type { DriverHost } from '../src/run/host.js';
import { liveRunOf } from '../src/run/live-run.js';
import { identityKey, type JournalEntry } from '../src/store/journal.js';
import type { RunRow } from '../src/store/rows.js';
import { systemPlatform } from '../src/system.js';
import { createCodec } from '../src/values/codec.js';
import { gate, hands, never, settle } from './hand-kit.js';

// Pins: the functions of one run, alone: entered in turn, known until they have ended, and late afterwards (spec F5, F8, F9,
// R6).

const codec = createCodec({ URL, blobs: true });
const interrupted = { kind: 'claimed', owner: 'o', fence: 1, interrupted: true };

function open(entries: readonly object[] = [], isInterrupted = false) {
  const h = hands();
  const journal = [{ kind: 'started', payload: null }, ...entries].map((entry) => ({
    at: 1,
    ...entry,
  })) as unknown as JournalEntry[];
  const row = { runId: 'r', createdAt: 3, fence: 4, waits: [], length: journal.length, dueAt: 0 } as unknown as RunRow;
  const run = liveRunOf({ row, journal }, { offers: [], interrupted: isInterrupted });
  const log: string[] = [];
  const turns: { isSuspect: boolean }[] = [];
  const wakes = new Set<() => void>();
  let holds = 0;
  const clock = {
    ...h.clock,
    hold() {
      holds++;
      let isHeld = true;
      return () => {
        if (isHeld) holds--;
        isHeld = false;
      };
    },
  };
  const world = {
    ...{ h, run, log, turns, wakes },
    isGone: false,
    isOnline: false,
    holds: () => holds,
    ask(name: string, fn: FunctionCommand['fn'] = () => undefined, more: Partial<FunctionCommand> = {}): Ask {
      const id = [name, 1] as const;
      const ask = {
        namespace: 'step',
        id,
        key: identityKey('step', id),
        command: { kind: 'run', fn, ...more },
        settle: () => undefined,
        released: 0,
      } as never;
      return ask;
    },
  };
  const platform = {
    ...systemPlatform(clock),
    isOnline: () => world.isOnline,
    onWake(callback: () => void) {
      wakes.add(callback);
      return () => void wakes.delete(callback);
    },
  };
  const host = {
    ...{ platform, codec },
    async enter(isSuspect: boolean) {
      turns.push({ isSuspect });
      log.push('turn');
      return () => void log.push('given back');
    },
  } as unknown as DriverHost;
  const functions = createFunctions({
    ...{ host, run },
    isGone: () => world.isGone,
    pump: () => void log.push('pump'),
    stir: () => void log.push('stir'),
    lost: () => void log.push('lost'),
  });
  return Object.assign(world, { functions });
}
const keyOf = (name: string) => identityKey('step', [name, 1]);

describe('a turn', () => {
  it('F5: is taken once, and given back once', async () => {
    const { functions, log } = open();
    expect(functions.hasTurn()).toBe(false);
    functions.giveTurn();
    await functions.takeTurn();
    expect(functions.hasTurn()).toBe(true);
    await functions.takeTurn();
    functions.giveTurn();
    functions.giveTurn();
    expect([log, functions.hasTurn()]).toEqual([['turn', 'given back'], false]);
  });

  it('F5: is taken as a suspect by a run that was interrupted twice without progress, the last time counted or not', async () => {
    const isSuspect = async (entries: readonly object[], isInterrupted = false) => {
      const { functions, turns } = open(entries, isInterrupted);
      await functions.takeTurn();
      return turns[0]!.isSuspect;
    };
    expect([await isSuspect([]), await isSuspect([interrupted]), await isSuspect([], true)]).toEqual([
      false,
      false,
      false,
    ]);
    expect([await isSuspect([interrupted, interrupted]), await isSuspect([interrupted], true)]).toEqual([true, true]);
    const progressed = { kind: 'progressed', id: ['a', 1] };
    expect(await isSuspect([interrupted, interrupted, progressed])).toBe(false);
  });
});

describe('a function', () => {
  it('R6: that has ended is a fact, until then it is known to be in flight', async () => {
    const w = open([
      { kind: 'attempt-failed', id: ['a', 1], attempt: 1, error: { name: 'Error', message: 'm' }, retryAt: 1 },
    ]);
    const inside = gate<number>();
    const inner: unknown[] = [];
    const ask = w.ask('a', (_, given) => {
      inner.push(given);
      return inside.promise;
    });
    w.functions.enter(ask);
    expect([[...w.run.running.keys()], w.run.facts, w.holds()]).toEqual([[keyOf('a')], [], 1]);
    expect(inner).toEqual([{ runId: 'r', createdAt: 3, confirm: { runId: 'r', fence: 4, append: [] } }]);
    w.h.jump(50);
    inside.open(5);
    await settle(3);
    expect(w.run.facts).toEqual([{ ask, attempt: 2, at: w.h.clock.now(), outcome: { value: 5 }, state: [] }]);
    expect([w.run.running.size, w.log, w.holds()]).toEqual([0, ['pump'], 0]);
  });

  it('F9: whose run is let go of, leaves no fact', async () => {
    const w = open();
    w.functions.enter(w.ask('a'));
    w.isGone = true;
    await settle(3);
    expect([w.run.facts, w.run.running.size, w.holds()]).toEqual([[], 0, 0]);
  });

  it('E11: that has lost a race is in flight until that is decided: then it is told, and what it came to is nobody’s', async () => {
    const w = open();
    const signals: AbortSignal[] = [];
    for (const name of ['ended', 'hangs', 'other'])
      w.functions.enter(
        w.ask(name, ({ signal }) => {
          signals.push(signal);
          return name === 'hangs' ? never() : name;
        }),
      );
    for (const key of ['ended', 'hangs'].map(keyOf)) {
      w.run.losers.set(key, w.run.running.get(key));
      w.run.running.delete(key);
    }
    await settle(3);
    const named = () => [w.run.facts.map(({ ask }) => ask.key), signals.map(({ aborted }) => aborted), w.holds()];
    expect(named()).toEqual([['ended', 'other'].map(keyOf), [false, false, false], 1]);
    w.functions.endLosers();
    expect(named()).toEqual([[keyOf('other')], [false, true, false], 0]);
    expect(w.run.losers.size).toBe(0);
  });

  it('E11: that has lost a race ends the round that left the end of the run to its fact, and no other', async () => {
    for (const name of ['lost', 'other']) {
      const w = open([{ kind: 'undo-set', id: ['other', 1] }]);
      w.functions.enter(w.ask(name, () => name));
      await settle(3);
      w.run.isStirred = false;
      w.run.losers.set(keyOf('lost'), undefined);
      w.functions.endLosers();
      expect([name, w.run.isStirred, w.run.facts.length]).toEqual([name, name === 'lost', name === 'lost' ? 0 : 1]);
      expect([...w.run.late.keys()]).toEqual([]); // what has an outcome that counts is not late
    }
  });

  it('E11: that has lost a race is told so where it waits for a number', async () => {
    const w = open();
    const rejected: unknown[] = [];
    const change = { kind: 'increment', key: 'n', by: 1 } as const;
    const asked = (name: string) =>
      ({
        ask: w.ask(name),
        nth: 1,
        change,
        resolve: () => undefined,
        reject: (why: unknown) => rejected.push(why),
      }) as never;
    w.run.increments = [asked('lost'), asked('other')];
    w.run.losers.set(keyOf('lost'), undefined);
    w.functions.endLosers();
    expect(rejected).toEqual([new Error('The step has lost a race.')]);
    expect(w.run.increments.length).toBe(1);
  });

  it('F7: what has run out of time is late as its function is, and a loser that has ended as it ended', async () => {
    const w = open([
      { kind: 'undo-set', id: ['slow', 1] },
      { kind: 'undo-set', id: ['lost', 1] },
    ]);
    const inside = gate<string>();
    w.functions.enter(w.ask('slow', () => inside.promise, { timeoutMs: 5 }));
    w.functions.enter(w.ask('lost', () => 'came'));
    w.run.losers.set(keyOf('lost'), w.run.running.get(keyOf('lost')));
    w.run.running.delete(keyOf('lost'));
    await settle(3);
    await w.h.advance(5);
    const late = w.functions.stop(new Error('why'));
    inside.open('charged');
    expect(await late.get(keyOf('slow'))).toEqual({ value: 'charged' });
    expect(await late.get(keyOf('lost'))).toEqual({ value: 'came' });
  });

  it('F9: is told when it is stopped; it is late where it can be undone, and forgotten where it can not', async () => {
    const w = open([
      { kind: 'undo-set', id: ['a', 1] },
      { kind: 'undo-set', id: ['b', 1] },
    ]);
    const inside = gate<string>();
    const signals: AbortSignal[] = [];
    const entering = (name: string, result: unknown) => {
      w.functions.enter(
        w.ask(name, ({ signal }) => {
          signals.push(signal);
          return result;
        }),
      );
    };
    entering('b', 'ended');
    entering('d', 'ended');
    await settle(3);
    entering('a', inside.promise);
    entering('c', never());
    await w.functions.takeTurn();
    const reason = new Error('why');
    const late = w.functions.stop(reason);
    expect(signals.map(({ aborted }) => aborted)).toEqual([false, false, true, true]);
    expect((signals[2] as { reason?: unknown }).reason).toBe(reason);
    expect([[...late.keys()].sort(), w.run.running.size, w.run.facts, w.holds()]).toEqual([
      [keyOf('a'), keyOf('b')],
      0,
      [],
      0,
    ]);
    expect([w.functions.hasTurn(), w.log.at(-1)]).toEqual([false, 'given back']);
    inside.open('late');
    expect([await late.get(keyOf('a')), await late.get(keyOf('b'))]).toEqual([{ value: 'late' }, { value: 'ended' }]);
    expect(w.run.facts).toEqual([]);
  });
});

describe('the network', () => {
  it('F8: is listened to as long as a step waits for it, by one listener', () => {
    const w = open();
    w.functions.watchNetwork(true);
    w.functions.watchNetwork(true);
    expect([w.wakes.size, w.log]).toEqual([1, []]);
    for (const wake of w.wakes) wake();
    expect(w.log).toEqual([]); // woken, and still there is none
    w.isOnline = true;
    for (const wake of w.wakes) wake();
    expect(w.log).toEqual(['stir']);
    w.functions.watchNetwork(false);
    w.functions.watchNetwork(false);
    expect([w.wakes.size, w.log]).toEqual([0, ['stir']]);
  });

  it('F8: that came back before anybody listened is seen at once; nobody listens for a run that has stopped', () => {
    const w = open();
    w.isOnline = true;
    w.functions.watchNetwork(true);
    expect([w.log, w.wakes.size]).toEqual([['stir'], 1]);
    w.functions.stop(undefined);
    expect(w.wakes.size).toBe(0);
  });
});

it('F5: who has lost a run says which one', () => {
  expect(lostBy('r')).toMatchObject({ code: 'LEASE_LOST', runId: 'r' });
  expect(lostBy('r').message).toMatch(/Run r was ended from outside, or another context drives it now/);
});
