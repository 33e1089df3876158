import 'fake-indexeddb/auto';
import './fake-locks.js';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe } from 'vitest';
import { fileStore } from '../adapters/file/index.js';
import { indexedDBStore } from '../adapters/indexeddb/index.js';
import { memoryMedium, memoryStore } from '../adapters/memory/index.js';
import { createStepfast, type EngineOptions, type Stepfast, type Store } from '../src/index.js';
import { type SimulatedClock, simulatedClock } from '../src/testing/clock.js';

/*
 * What the behaviour tests share: a world with one medium and one clock, in which engines come, crash and come again.
 */

/** Makes a new empty medium; each call of the result is another context on it. */
export type Medium = () => () => Store;

const folders: string[] = [];
let databases = 0;

/** Every store that the library ships, each with a fresh medium. */
export const media: Readonly<Record<string, Medium>> = {
  memory: () => {
    const medium = memoryMedium();
    return () => memoryStore({ medium });
  },
  indexeddb: () => {
    const name = freshName();
    return () => indexedDBStore({ name });
  },
  file: () => {
    const dir = freshFolder();
    return () => fileStore({ dir });
  },
};

/** A folder that is gone after the test. */
export function freshFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'stepfast-'));
  folders.push(folder);
  return folder;
}

export const freshName = (): string => `stepfast-test-${process.pid}-${++databases}`;

/** Runs the same tests on every store. */
export function onEveryStore(title: string, tests: (medium: Medium) => void): void {
  for (const [name, medium] of Object.entries(media)) describe(`${title} (${name})`, () => tests(medium));
}

/** One medium, one clock, any number of engines one after another (or, where the store allows, at once). */
export interface World {
  readonly clock: SimulatedClock;
  /** Commits of every engine so far, as the stores saw them. */
  readonly commits: () => number;
  readonly errors: unknown[];
  /** What steps did: `log.push(...)` in step functions, outlives crashes. */
  readonly log: string[];
  engine(define?: (stepfast: Stepfast) => void, options?: Partial<EngineOptions>): Stepfast;
  /** The context of this engine dies: nothing is released, nothing is flushed. */
  crash(stepfast: Stepfast): void;
  store(): Store;
  /** Whether several engines drive runs of one store. */
  readonly isShared: boolean;
}

const worlds: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of worlds.splice(0)) await end();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

export function world(medium: Medium): World {
  const open = medium();
  const clock = simulatedClock({ patience: '3s' }); // many tests let a step hang, and move on
  const errors: unknown[] = [];
  const engines = new Map<Stepfast, Store>();
  let commits = 0;
  const store = () => {
    const made = open();
    const { commit } = made;
    made.commit = (batch) => {
      commits++;
      return commit.call(made, batch);
    };
    return made;
  };
  worlds.push(async () => {
    for (const engine of engines.keys()) await engine.close();
  });
  return {
    clock,
    commits: () => commits,
    errors,
    log: [],
    engine(define = () => undefined, options = {}) {
      const made = options.store ?? store();
      const engine = createStepfast({ clock, onError: (error) => errors.push(error), ...options, store: made });
      engines.set(engine, made);
      define(engine);
      return engine;
    },
    crash(engine) {
      const found = engines.get(engine)!;
      engines.delete(engine);
      found.abandon!();
      void engine.close().catch(() => undefined); // its timers must not outlive the test; its store is gone already
    },
    store,
    get isShared() {
      return open().capabilities.owners === 'many';
    },
  };
}
