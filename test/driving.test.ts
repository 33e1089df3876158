import { describe, expect, it } from 'vitest';
import { createDriving } from '../src/engine/driving.js';
import { StepfastError } from '../src/index.js';
import type { OpenOptions, Store } from '../src/store/store.js';
import { codeOf } from './hand-kit.js';

// Pins: opening a store for driving, alone: what keeps an engine from it, and for how long (spec O3, O6, D5).

function world(onOutdated?: (error: StepfastError) => void) {
  const w = {
    now: 1_000_000,
    /** What the store refuses to be driven with. */
    error: undefined as unknown,
    opened: [] as OpenOptions[],
    reported: [] as unknown[],
    halted: [] as unknown[],
  };
  const store = {
    async open(options: OpenOptions) {
      w.opened.push(options);
      if (options.mode === 'drive' && w.error) throw w.error;
    },
  } as unknown as Store;
  const driving = createDriving({
    ...{ store, owner: 'me', leaseMs: 5, onOutdated },
    clock: { now: () => w.now } as never,
    report: (error) => w.reported.push(error),
    halt: (error) => w.halted.push(error),
  });
  return Object.assign(w, { driving, modes: () => w.opened.map(({ mode }) => mode) });
}
const error = (code: 'STORE_TOO_NEW' | 'STORE_LOCKED' | 'QUOTA_EXCEEDED' | 'STORE_UNAVAILABLE' | 'CLOSED') =>
  new StepfastError(code, 'No.');

describe('a store', () => {
  it('is opened for driving once, with patience where that is asked for; for use alone as often as asked', async () => {
    const w = world();
    await w.driving.use();
    await w.driving.drive(true);
    await w.driving.drive();
    expect(await w.driving.tryDrive()).toBe(true);
    const opened = { owner: 'me', leaseMs: 5, now: 1_000_000 };
    expect(w.opened).toMatchObject([
      { ...opened, mode: 'use' },
      { ...opened, mode: 'drive', isPatient: true },
    ]);
    expect('isPatient' in w.opened[0]!).toBe(false);
  });

  it('O3: that another process drives is used through it, and tried again', async () => {
    const w = world();
    w.error = error('STORE_LOCKED');
    expect(await w.driving.tryDrive()).toBe(false);
    expect([w.reported, w.driving.rests()]).toEqual([[], false]);
    await expect(w.driving.drive()).rejects.toEqual(codeOf('STORE_LOCKED'));
    w.error = undefined;
    expect([await w.driving.tryDrive(), w.modes()]).toEqual([true, ['drive', 'drive', 'drive']]);
  });

  it('that fails otherwise fails its caller', async () => {
    const w = world();
    w.error = error('CLOSED');
    await expect(w.driving.tryDrive()).rejects.toEqual(codeOf('CLOSED'));
    expect(w.halted).toEqual([]);
  });
});

describe('a disk that takes nothing', () => {
  it.each([
    'QUOTA_EXCEEDED',
    'STORE_UNAVAILABLE',
  ] as const)('D5, Q4: %s is told; hints are let pass for two seconds', async (code) => {
    const w = world();
    expect(w.driving.rests()).toBe(false);
    w.error = error(code);
    expect([await w.driving.tryDrive(), w.reported]).toEqual([false, [w.error]]);
    const rests = (after: number) => {
      w.now = 1_000_000 + after;
      return w.driving.rests();
    };
    expect([rests(0), rests(1_999), rests(2_000), rests(60_000)]).toEqual([true, true, false, false]);
    expect(rests(-1)).toBe(false); // the clock was set back: not for as long as it takes to come there again
    w.now = 1_000_000;
    w.error = undefined;
    expect([await w.driving.tryDrive(), w.driving.rests()]).toEqual([true, false]);
  });
});

describe('O6: a newer release', () => {
  it('ends driving for good, which is told once', async () => {
    const told: unknown[] = [];
    const w = world((found) => void told.push(found));
    w.error = error('STORE_TOO_NEW');
    expect(await w.driving.tryDrive()).toBe(false);
    expect([told, w.halted, w.reported]).toEqual([[w.error], [w.error], []]);
    await expect(w.driving.drive()).rejects.toBe(w.error);
    expect(() => w.driving.refused(error('STORE_TOO_NEW'))).toThrow('No.');
    expect([told.length, w.halted.length, w.modes()]).toEqual([1, 1, ['drive']]);
  });

  it('is told to onError where nobody else listens, and a listener that throws is told of there', () => {
    const silent = world();
    expect(() => silent.driving.refused(error('STORE_TOO_NEW'))).toThrow('No.');
    expect(silent.reported).toEqual([codeOf('STORE_TOO_NEW')]);
    const thrown = new Error('mine');
    const loud = world(() => {
      throw thrown;
    });
    expect(() => loud.driving.refused(error('STORE_TOO_NEW'))).toThrow('No.');
    expect(loud.reported).toEqual([thrown]);
  });

  it('any other error of the store is only passed on', () => {
    const w = world();
    expect(() => w.driving.refused(error('QUOTA_EXCEEDED'))).toThrow('No.');
    expect([w.halted, w.reported]).toEqual([[], []]);
  });
});
