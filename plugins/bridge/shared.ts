import type { Stepfast } from '../../src/engine/engine.js';
import type { RunHandle } from '../../src/engine/runs.js';
import type { Scheduled } from '../../src/engine/words.js';
import type { Json } from '../../src/values/json.js';
import { sameJson } from '../../src/values/same.js';
import type { Packer } from './wire.js';

/*
 * What the clients of one engine share. Two windows of an app declare the same schedules and wait for the same runs, and so
 * does a page that was reloaded again and again: an engine takes each schedule once, and each run is waited for once.
 */

interface Declared {
  readonly declaration: Json;
  readonly scheduled: Scheduled;
  holders: number;
}

export interface Shared {
  /** Stopped when the last of those who declared it has stopped it, or is gone. */
  schedule(name: string, when: never, job: string, payload?: unknown, options?: object): Scheduled;
  result(handle: RunHandle): Promise<unknown>;
}

const createShared = (stepfast: Stepfast) => ({
  stepfast,
  schedules: new Map<string, Declared>(),
  results: new Map<string, Promise<unknown>>(),
});

/** Kept by engine, and gone with it: two engines share nothing. */
const byEngine = new WeakMap<Stepfast, ReturnType<typeof createShared>>();

export function sharedOf(stepfast: Stepfast, { codec }: Packer): Shared {
  const shared = byEngine.get(stepfast) ?? createShared(stepfast);
  byEngine.set(stepfast, shared);
  const { schedules, results } = shared;
  return {
    schedule(name, ...rest) {
      const declaration = codec.encode(rest);
      const found = schedules.get(name);
      const isSame = found !== undefined && sameJson(found.declaration, declaration);
      // Another declaration of a name in use is refused by the engine, in its own words.
      const entry = isSame ? found : { declaration, scheduled: stepfast.schedule(name, ...rest), holders: 0 };
      schedules.set(name, entry);
      entry.holders++;
      let isHeld = true;
      return {
        next: () => (isHeld ? entry.scheduled.next() : undefined),
        stop() {
          if (!isHeld) return;
          isHeld = false;
          if (--entry.holders > 0) return;
          schedules.delete(name);
          entry.scheduled.stop();
        },
      };
    },
    result(handle) {
      const found = results.get(handle.id);
      if (found) return found;
      const result = handle.result().finally(() => results.delete(handle.id));
      results.set(handle.id, result);
      return result;
    },
  };
}
