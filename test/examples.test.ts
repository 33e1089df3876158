import { readdirSync } from 'node:fs';
import { expect, it } from 'vitest';
import { examples } from '../demo/examples/index.js';
import type { Stage } from '../demo/examples/stage.js';
import type { Stepfast } from '../src/index.js';
import { onEveryStore, type World, world } from './harness.js';

/*
 * The worked flows of demo/examples, from real products, on every store and in both replay modes.
 */

const outcomes: { readonly [name: string]: unknown } = {
  onboarding: { status: 'completed', result: { onboarded: true }, mails: ['ada@example.com'], unlocked: true },
  checkout: {
    good: 'completed',
    bad: 'failed',
    ledger: ['reserved', 'charged', 'shipped', '---', 'reserved', 'charged', 'refunded', 'freed', 'told: ship'],
  },
  upload: { status: 'completed', result: 'a file of some length', sent: 6 },
  'offline-form': { sent: ['bridge 7: rust', 'bridge 8: fine'], completed: 2 },
  approval: { asked: ['manager', 'director'], result: { by: 'director', approved: true } },
  'trial-drip': {
    mails: ['ada', 'bob'],
    mornings: ['2026-01-01 missed 0', '2026-01-02 missed 0', '2026-01-09 missed 6'],
  },
  'device-flow': { status: 'completed', result: { token: 't0ken' }, asked: [5, 10, 20, 30] },
  pairing: {
    late: [],
    one: { paired: true, with: 'phone', by: 'code.typed' },
    two: { paired: false },
    codes: 4,
  },
  'import-rows': { status: 'completed', result: [9_989, 11], progress: 1, last: 10_000 },
  subscription: { status: 'completed', result: { months: 12 }, charges: 12, sameRun: true, isSmall: true },
  'fan-out': { status: 'completed', result: { done: 99, of: 100 }, isWithinFive: true },
  wizard: {
    draft: { page: 'address', answers: { name: 'Ada', address: 'Londn' } },
    one: { name: 'Ada', address: 'London', confirm: 'yes' },
    two: { cancelled: true },
  },
};

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
