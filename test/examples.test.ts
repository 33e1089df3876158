import { readdirSync } from 'node:fs';
import { expect, it } from 'vitest';
import { examples } from '../demo/examples/index.js';
import type { Stage } from '../demo/examples/stage.js';
import type { Stepfast } from '../src/index.js';
import { outcomes } from './example-outcomes.js';
import { onEveryStore, type World, world } from './harness.js';

/*
 * The worked flows of demo/examples, from real products, on every store and in both replay modes.
 */

function stageOf(w: World, replay: 'resume' | 'always'): Stage {
  let app: Stepfast | undefined;
  return {
    clock: w.clock,
    say: () => undefined,
    open(define, options = {}) {
      if (app) w.crash(app);
      app = w.engine(define, { replay, ...options });
      return app;
    },
  };
}

it('every example file has an outcome here', () => {
  const files = readdirSync(new URL('../demo/examples', import.meta.url))
    .map((file) => file.replace(/\.ts$/, ''))
    .filter((name) => name !== 'index' && name !== 'stage');
  expect(Object.keys(examples).sort()).toEqual(files.sort());
  expect(Object.keys(outcomes).sort()).toEqual(files.sort());
});

for (const replay of ['resume', 'always'] as const)
  onEveryStore(`worked flows, replay: '${replay}'`, (medium) => {
    for (const [name, example] of Object.entries(examples))
      it(name, async () => {
        const w = world(medium);
        expect(await example(stageOf(w, replay))).toEqual(outcomes[name]);
      });
  });
