import { describe, expect, it } from 'vitest';
import { stopFamily } from '../src/engine/family.js';
import { isStepfastError } from '../src/errors.js';
import type { Driver } from '../src/run/driver.js';

// Pins: whom the cancelling of a run stops of those that are driven here (spec F9).

/** Drivers that note what they are told. Each is given as its id, its parent, and whether it has ended. */
function family(...members: readonly (readonly [runId: string, parentId?: string, endedAt?: number])[]) {
  const stopped: [string, unknown][] = [];
  const verified: string[] = [];
  const told: string[] = [];
  const drivers = new Map(
    members.map(([runId, parentId, endedAt]) => {
      const driver = {
        runId,
        row: () => ({ runId, parentId, endedAt }),
        stop: (reason: unknown) => {
          stopped.push([runId, reason]);
          drivers.delete(runId); // as the engine does once a driver is stopped
        },
        verify: () => verified.push(runId),
      } as unknown as Driver;
      return [runId, driver] as const;
    }),
  );
  const cancel = (runId: string) => {
    stopFamily(drivers, runId, (each) => told.push(each));
    return { stopped: stopped.map(([id]) => id), told, verified };
  };
  return { cancel, stopped };
}

describe('cancelling a family', () => {
  it('F9: stops children and theirs, over all generations, whatever the order they are driven in, each once', () => {
    const { cancel } = family(['c', 'b'], ['b', 'a'], ['a', 'top'], ['a2', 'top'], ['d', 'c'], ['top']);
    const { stopped, told, verified } = cancel('top');
    expect(stopped).toEqual(['c', 'b', 'a', 'a2', 'd']);
    expect(told).toEqual(stopped);
    expect(verified).toEqual([]);
  });

  it('F9: a child that has ended is not stopped; who is not of the family goes on, and looks in the store if it has a parent', () => {
    const { cancel } = family(['top'], ['ended', 'top', 5], ['grandchild', 'ended'], ['alone'], ['other', 'elsewhere']);
    const { stopped, told, verified } = cancel('top');
    expect([stopped, told]).toEqual([[], []]);
    expect(verified).toEqual(['ended', 'grandchild', 'other']);
  });

  it('F9: the run itself need not be driven here, and is stopped by whoever cancels it', () => {
    const { cancel } = family(['kid', 'gone'], ['free']);
    expect(cancel('gone')).toEqual({ stopped: ['kid'], told: ['kid'], verified: [] });
    expect(family(['gone'], ['free']).cancel('gone')).toEqual({ stopped: [], told: [], verified: [] });
  });

  it('F9: who is stopped hears that its run is no longer its own, and why', () => {
    const { cancel, stopped } = family(['kid', 'top']);
    cancel('top');
    const reason = stopped[0]![1] as Error;
    expect(isStepfastError(reason, 'LEASE_LOST')).toBe(true);
    expect(reason.message).toContain('run top');
  });
});
