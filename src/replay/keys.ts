import type { Identity } from '../store/journal.js';
import type { RunRow } from '../store/rows.js';
import type { Digest } from './digest.js';
import { generationsUsed } from './forget.js';

/*
 * Which attempt of a step this is, and under which key all of them are made (spec R2).
 */

/** The generation of the journal that `step.restart` puts in the place of this one: no key of this one is used again. */
export const nextGeneration = (digest: Digest): number => digest.generation + generationsUsed(digest) + 1;

/** Generation and name that an idempotency key has of a step (spec R2): those of all its attempts, whatever it is called now. */
export function originOf(
  digest: Digest,
  key: string,
  [name, occurrence]: Identity,
): [generation: number, id: Identity] {
  const { name: first, beyond } = digest.names.get(name) ?? { name, beyond: 0 };
  return [digest.generation + beyond + (digest.generations.get(key) ?? 0), [first, occurrence]];
}

/** Run, generation and identity as one text that fits into an HTTP header; injective, as each part is escaped. */
export const idempotencyKeyOf = (runId: string, generation: number, [name, occurrence]: Identity): string => {
  const safe = (text: string) =>
    /^[\w.-]*$/.test(text) ? text : encodeURIComponent(JSON.stringify(text).slice(1, -1));
  return `${safe(runId)}/${generation}/${safe(name)}/${occurrence}`;
};

/**
 * The key of all attempts of a step: it stays what it was when `migrate` gives the step another name, and, of what a copy of
 * a run was given, what it was there.
 */
export function stepKeyOf(
  { row, digest }: { readonly row: Pick<RunRow, 'runId'>; readonly digest: Digest },
  key: string,
  id: Identity,
): string {
  const undo = digest.undos.get(key);
  return undo?.idempotencyKey ?? idempotencyKeyOf(undo?.runId ?? row.runId, ...originOf(digest, key, id));
}

/** The attempt number of a function that is entered now: every failure and every interruption since it was asked for. */
export function attemptOf(digest: Digest, key: string, released: number): number {
  const since = released ? (digest.outcomes[released - 1]?.index ?? 0) : 0;
  return 1 + (digest.failures.get(key)?.count ?? 0) + interruptionsSince(digest, since);
}

/** With these an attempt to undo is over, or has yet to begin. */
const OVER: ReadonlySet<string> = new Set(['failed', 'cancelled', 'undone', 'undo-failed']);

/** That of one which undoes: every failure of undoing, and every interruption since the one before was over (spec R2). */
export function undoAttemptOf(digest: Digest, key: string): number {
  const isOver = digest.entries.map(({ kind }) => OVER.has(kind));
  return 1 + (digest.undoFailures.get(key)?.count ?? 0) + interruptionsSince(digest, isOver.lastIndexOf(true));
}

const interruptionsSince = ({ interruptedAt }: Digest, since: number): number =>
  interruptedAt.filter((index) => index > since).length;

/** Under which the number of an increment of a step is found. */
export const incrementKey = ({ key, nth }: { readonly key: string; readonly nth: number }): string =>
  JSON.stringify([key, nth]);
