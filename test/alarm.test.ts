import { expect, it } from 'vitest';
import { createAlarm } from '../src/engine/alarm.js';
import { createTurns } from '../src/engine/turns.js';

// Pins: the one timer of an engine, alone (spec Q4), and who has functions in flight beside whom (F5).

/** A clock in the hands of the test: what was set on it, in order, and a hand to fire the latest. */
function handClock() {
  const timers: { at: number; isUnset: boolean; fire: () => void }[] = [];
  const clock = {
    time: 1_000,
    now: () => clock.time,
    setTimer(at: number, fire: () => void) {
      const timer = { at, isUnset: false, fire };
      timers.push(timer);
      return () => {
        timer.isUnset = true;
      };
    },
  };
  let rung = 0;
  const alarm = createAlarm(clock, () => rung++);
  return {
    clock,
    alarm,
    timers,
    rung: () => rung,
    open: () => timers.filter(({ isUnset }) => !isUnset).map(({ at }) => at),
  };
}

it('Q4: one timer, for the earliest instant that was asked for', () => {
  const { alarm, timers, open, rung } = handClock();
  alarm.ring(Infinity);
  expect(timers).toEqual([]);
  alarm.ring(2_000);
  alarm.ring(2_000);
  alarm.ring(3_000);
  expect([open(), timers.length]).toEqual([[2_000], 1]);
  alarm.ring(1_500);
  expect([open(), timers.length]).toEqual([[1_500], 2]);
  timers[1]!.fire();
  expect(rung()).toBe(1);
  alarm.ring(4_000); // it rang: a later one is the next
  expect(open()).toEqual([1_500, 4_000]);
});

it('Q4: a look says what there is to wait for, with what was asked for since it began', () => {
  const { alarm, open, timers } = handClock();
  alarm.ring(2_000);
  alarm.lookBegins();
  alarm.lookEnds(5_000);
  expect(open()).toEqual([5_000]);
  alarm.lookBegins();
  alarm.ring(6_000); // beside a timer that comes sooner
  alarm.lookEnds(Infinity);
  expect(open()).toEqual([6_000]);
  alarm.lookBegins();
  alarm.lookEnds(Infinity);
  expect([open(), timers.length]).toEqual([[], 3]);
});

it('Q4: it is set anew after each look: how long an instant is away depends on what the clock says by now', () => {
  const { alarm, timers, open } = handClock();
  alarm.lookEnds(5_000);
  alarm.lookEnds(5_000);
  expect([open(), timers.length]).toEqual([[5_000], 2]);
});

it('Q4: due, and not called, as the clock was set forward: whoever asks next sets it anew', () => {
  const { clock, alarm, open, timers } = handClock();
  alarm.ring(2_000);
  clock.time = 2_000;
  alarm.ring(9_000);
  expect([open(), timers.length]).toEqual([[2_000], 2]); // for the same instant: the new one fires at once
});

it('closed, it is silent', () => {
  handClock().alarm.close(); // also one that was never set
  const { alarm, open, timers } = handClock();
  alarm.ring(2_000);
  alarm.close();
  alarm.ring(1_500);
  alarm.lookEnds(1_200);
  expect([open(), timers.length]).toEqual([[], 1]);
});

it('F5: others are in flight together; a suspect waits for them, and they for it', async () => {
  const { take } = createTurns();
  const log: string[] = [];
  const enter = async (name: string, isSuspect = false) => {
    const give = await take(isSuspect);
    log.push(name);
    return give;
  };
  const soon = () => new Promise((resolve) => setImmediate(resolve));
  const [a, b] = await Promise.all([enter('a'), enter('b')]);
  const suspect = enter('suspect', true);
  const c = enter('c');
  await soon();
  expect(log).toEqual(['a', 'b']);
  a();
  await soon();
  expect(log).toEqual(['a', 'b']);
  b();
  const first = await suspect;
  const second = enter('second suspect', true);
  await soon();
  expect(log).toEqual(['a', 'b', 'suspect']);
  first();
  const given = await second;
  await soon();
  expect(log).toEqual(['a', 'b', 'suspect', 'second suspect']);
  given();
  (await c)();
  expect(log.at(-1)).toBe('c');
  await Promise.all([enter('d'), enter('e')]);
  expect(log.slice(-2)).toEqual(['d', 'e']);
});
