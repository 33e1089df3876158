import type { Batch } from '../store/batch.js';
import { isOutcome, type JournalEntry } from '../store/journal.js';
import { createCodec } from '../values/codec.js';
import type { Entering, Watch } from './fakes.js';

/*
 * Watches what a play enters and records, over all its lives; and, if it is asked to, who changes the world outside.
 */

/** Who changed the world though that had been done, or may have been. */
export interface Blame {
  /** Functions that changed it when they were entered in another life again. */
  readonly functions: readonly string[];
  /** It changed while no function was in flight. */
  readonly isBetween: boolean;
}

export type Witness = ReturnType<typeof createWitness>;

/** As reports name it: a step by its name alone. */
export const nameOf = ({ kind, name }: Entering): string =>
  kind === 'onFailed' ? 'onFailed' : kind === 'undo' ? `undo of ${name}` : name;

const placeOf = (runId: string, [name, occurrence]: readonly [string, number], isStep: boolean) =>
  JSON.stringify([runId, name, occurrence, isStep]);

/** The function that has ended with this entry. */
const endOf = (entry: JournalEntry) => {
  if (entry.kind === 'undone') return entry.id;
  return isOutcome(entry) && entry.kind.startsWith('step-') ? entry.id : undefined;
};

/** @param effects What the world looks like, if it is to be looked at around each function. */
export function createWitness(effects?: () => unknown) {
  const lives = new Map<string, Set<number>>();
  const last = new Map<string, Entering>();
  const recorded = new Set<string>();
  const again: Entering[] = [];
  const inFlight = new Set<Entering>();
  const changers = new Set<string>();
  const isRepeated = ({ idempotencyKey }: Entering) => lives.get(idempotencyKey)!.size > 1;
  let isBetween = false;
  let seen = lookAt(effects);

  /** Whatever has changed since the last look was changed by one of these, or else between the steps. */
  const look = (suspects: Iterable<Entering> = inFlight) => {
    const now = seen === undefined ? undefined : lookAt(effects);
    if (now === seen) return;
    seen = now;
    const found = [...suspects];
    if (!found.length) isBetween = true;
    for (const each of found) if (isRepeated(each)) changers.add(nameOf(each));
  };
  const watch = (life: number, isOver: () => boolean): Watch => ({
    entered(entering) {
      if (isOver()) return;
      look();
      const { kind, runId, name, occurrence, idempotencyKey } = entering;
      last.set(placeOf(runId, [name, occurrence], kind === 'step'), entering);
      lives.set(idempotencyKey, (lives.get(idempotencyKey) ?? new Set()).add(life));
      if (recorded.has(idempotencyKey)) again.push(entering);
      inFlight.add(entering);
    },
    called: (entering) => look(lives.has(entering.idempotencyKey) ? [entering] : undefined),
    left(entering) {
      look();
      inFlight.delete(entering);
    },
  });
  return {
    again,
    watch,
    committed({ run }: Batch) {
      for (const entry of run?.append ?? []) {
        const id = endOf(entry);
        const found = id && last.get(placeOf(run!.runId, id, entry.kind !== 'undone'));
        if (found) recorded.add(found.idempotencyKey);
      }
    },
    /** A life is over, or the play. */
    look: () => look(),
    repeated: (): string[] => [...new Set([...last.values()].filter(isRepeated).map(nameOf))],
    /** Nothing, where the world could not be looked at. */
    blame: (): Blame | undefined => (seen === undefined ? undefined : { functions: [...changers], isBetween }),
  };
}

/** The world as text; `undefined` where it can not be seen on the way: it takes time, or is not ready to be looked at. */
function lookAt(effects: (() => unknown) | undefined): string | undefined {
  try {
    const found = effects?.();
    if (typeof (found as Promise<unknown> | undefined)?.then !== 'function') return effects && textOf(found);
    (found as Promise<unknown>).then(undefined, () => undefined); // what it rejects with is told in the end
  } catch {
    // Nor is what it throws on the way of any interest before the end.
  }
  return undefined;
}

/** Text in which nothing is left that differs from play to play without meaning anything. */
const neutral = (text: string): string =>
  text
    .replace(/00000000-0000-4000-8000-\d{12}/g, '<uuid>')
    .replace(/\bid-\d+/g, '<id>')
    .replace(/at attempt \d+/g, 'at attempt <n>');

const codec = createCodec({ blobs: true });

export const textOf = (value: unknown): string => neutral(JSON.stringify(codec.encode(value, 'effects')));
