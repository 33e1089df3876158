import { createStepfast, type Stepfast } from 'stepfast';
import { indexedDBStore } from 'stepfast/indexeddb';
import { simulatedClock } from 'stepfast/testing';
import { examples } from '../../../demo/examples/index.js';
import type { Stage } from '../../../demo/examples/stage.js';

/*
 * The worked flows of demo/examples, each on a database of its own. Time is simulated, all else is the browser's.
 */

const tools = {
  async play(name: string, replay: 'resume' | 'always'): Promise<unknown> {
    const database = `example-${name}-${replay}`;
    const clock = simulatedClock();
    let app: { readonly engine: Stepfast; abandon(): void } | undefined;
    const kill = () => {
      app?.abandon();
      void app?.engine.close().catch(() => undefined); // its store is gone already
    };
    const stage: Stage = {
      clock,
      say: () => undefined,
      open(define, options = {}) {
        kill();
        const store = indexedDBStore({ name: database });
        const engine = createStepfast({ clock, replay, ...options, store });
        app = { engine, abandon: () => store.abandon!() };
        define(engine);
        return engine;
      },
    };
    const outcome = await examples[name]!(stage);
    kill();
    return outcome;
  },
};

(globalThis as { app?: unknown }).app = tools;
