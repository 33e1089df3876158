import { describe } from 'vitest';
import type { Stepfast } from '../src/index.js';
import { type Medium, media, onEveryStore, type World, world } from './harness.js';

/*
 * What may happen to an app at any commit, tried out at each: its context dies just before the commit, or just after.
 */

/** Makes a new empty world; its engines are made with the options of the variant. */
export type Open = () => World;

/**
 * Runs the same tests on every store, live and with a handler that is replayed at every outcome (spec R6).
 *
 * @param options.isLong Replayed on the memory store alone: what is committed does not depend on it.
 */
export function everyWay(
  title: string,
  tests: (open: Open, medium: Medium) => void,
  { isLong = false }: { readonly isLong?: boolean } = {},
): void {
  const opening = (medium: Medium, replay: 'resume' | 'always') => (): World => {
    const w = world(medium);
    return { ...w, engine: (define, options) => w.engine(define, { replay, ...options }) };
  };
  onEveryStore(title, (medium) => {
    tests(opening(medium, 'resume'), medium);
    if (medium !== media.memory && isLong) return;
    describe('replayed at every step', () => tests(opening(medium, 'always'), medium));
  });
}

/** An app that is opened again after every crash. */
export interface Scenario {
  readonly define: (stepfast: Stepfast, w: World) => void;
  /** What its user does each time it is opened, from the beginning: all of it must bear to be repeated. */
  readonly play: (stepfast: Stepfast, w: World) => Promise<void>;
  /** What must be true in the end. `where` says which crash it was, for messages. */
  readonly check: (stepfast: Stepfast, w: World, where: string) => Promise<void>;
}

/** An engine whose context dies around its commit number `at`. */
function mortalEngine(w: World, define: (stepfast: Stepfast) => void, at: number, when: 'before' | 'after') {
  const store = w.store();
  const { commit } = store;
  const life = { isOver: false };
  let commits = 0;
  const die = (): never => {
    if (!life.isOver) w.crash(engine);
    life.isOver = true;
    throw new Error('the context is gone');
  };
  store.commit = async (batch) => {
    const isLast = ++commits === at;
    if (isLast && when === 'before') die();
    const outcome = await commit.call(store, batch);
    return isLast ? die() : outcome;
  };
  const engine = w.engine(define, { store });
  return { engine, life };
}

/**
 * Plays a scenario in as many worlds as it has commits, twice: the context dies before, or after, that commit, and the
 * app is opened again. Returns how many commits the scenario has when nothing happens.
 *
 * @param options.deaths How often in a row the context dies there. Default 1.
 */
export async function crashEverywhere(
  open: Open,
  { define, play, check }: Scenario,
  { deaths = 1 }: { readonly deaths?: number } = {},
): Promise<number> {
  let commits = 0;
  for (const when of ['before', 'after'] as const)
    for (let at = 1, died = 1; died > 0; at++) {
      const w = open();
      died = 0;
      for (let death = 0; death < deaths && died === death; death++) {
        const { engine, life } = mortalEngine(w, (stepfast) => define(stepfast, w), at, when);
        // What the user did when the context died was not answered; it is done again below.
        await play(engine, w).catch((error: unknown) => {
          if (!life.isOver) throw error;
        });
        if (life.isOver) died++;
        else await engine.close();
      }
      const engine = w.engine((stepfast) => define(stepfast, w));
      await play(engine, w);
      await w.clock.idle();
      await check(engine, w, died ? `crash ${when} commit ${at}` : 'no crash');
      await engine.close();
      if (!died) commits = at - 1;
    }
  return commits;
}
