import { type MemoryMedium, memoryMedium, memoryStore } from '../adapters/memory/index.js';
import { createStepfast, type EngineOptions, type Stepfast, type Store } from '../src/index.js';
import type { Batch } from '../src/store/batch.js';
import { type SimulatedClock, simulatedClock } from '../src/testing/clock.js';

export const never = () => new Promise<never>(() => undefined);
export const until = async (fact: () => unknown) => {
  while (!(await fact())) await new Promise((resolve) => setTimeout(resolve, 1));
};
export const quiet = { onError: () => undefined };

export interface World {
  readonly medium: MemoryMedium;
  readonly clock: SimulatedClock;
  engine(options?: Partial<EngineOptions>): Stepfast & { readonly own: Store };
}
export function newWorld(): World {
  const medium = memoryMedium();
  const clock = simulatedClock();
  return {
    medium,
    clock,
    engine(options = {}) {
      const own = options.store ?? memoryStore({ medium });
      return Object.assign(createStepfast({ clock, ...quiet, ...options, store: own }), { own });
    },
  };
}

export const kindsOf = ({ run }: Batch) => (run?.append ?? []).map(({ kind }) => kind);
