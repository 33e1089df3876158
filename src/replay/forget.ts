import { type Identity, identityKey, type JournalEntry, type Namespace, type RecordedError } from '../store/journal.js';
import type { Digest } from './digest.js';

/*
 * What no longer counts of a journal: forgotten by a retry, by an upgrade, or known under another name since. The
 * entries stay; only what they add up to changes.
 */

type EntryOf<K extends JournalEntry['kind']> = Extract<JournalEntry, { readonly kind: K }>;

const nameOf = (key: string) => (JSON.parse(key) as [Namespace, string, number])[1];

/** Every identity that is recorded. */
const keysOf = ({ shapes, undos }: Digest): string[] => [...new Set([...shapes.keys(), ...undos.keys()])];

/** Names that are recorded, of steps and waits. */
export const recordedNames = (digest: Digest): ReadonlySet<string> => new Set(keysOf(digest).map(nameOf));

/** How far idempotency keys of this journal go beyond its own generation, at most. */
export const generationsUsed = ({ generations, names }: Digest): number =>
  Math.max(0, ...generations.values()) + Math.max(0, ...[...names.values()].map(({ beyond }) => beyond));

/**
 * What is recorded under these names stands under others from here on, all at once: one may take the place of another. To
 * those outside it is still known by the first one (spec R2), also what was in flight and is not recorded; something new
 * under an old name has keys that were never used.
 */
export function rename(digest: Digest, renames: ReadonlyMap<string, string>): void {
  const { shapes, failures, sleeps, waits, children, undos, undone, undoFailures, generations, increments, since } =
    digest;
  const beyond = generationsUsed(digest) + 1;
  const known = [...renames].map(([from, to]) => [to, digest.names.get(from) ?? { name: from, beyond: 0 }] as const);
  for (const from of renames.keys()) digest.names.set(from, { name: from, beyond });
  for (const [to, own] of known) digest.names.set(to, own);
  const keyOf = (old: string) => {
    const [namespace, name, occurrence] = JSON.parse(old) as [Namespace, string, number];
    return identityKey(namespace, [renames.get(name) ?? name, occurrence]);
  };
  const maps: Map<string, unknown>[] = [
    ...[shapes, failures, sleeps, waits, children],
    ...[undos, undone, undoFailures, generations, increments, since],
  ];
  for (const map of maps) {
    const before = [...map];
    map.clear();
    for (const [key, value] of before) map.set(keyOf(key), renamedEntry(value, renames));
  }
  for (const set of [digest.outcomeKeys, digest.aside]) {
    const before = [...set];
    set.clear();
    for (const key of before) set.add(keyOf(key));
  }
  for (const [at, { key, index, entry }] of digest.outcomes.entries())
    digest.outcomes[at] = { key: keyOf(key), index, entry: renamedEntry(entry, renames) };
}

/** What is known of an identity, by its present name. */
const renamedEntry = <T>(value: T, renames: ReadonlyMap<string, string>): T => {
  const { id } = (value instanceof Object ? value : {}) as { readonly id?: Identity };
  const name = id && renames.get(id[0]);
  return name === undefined ? value : { ...value, id: [name, id![1]] };
};

/** What a retry names, and what was undone: it is no longer done (spec F7). Where undoing was given up, it still is. */
export const forgottenBy = ({ undone }: Digest, { forgets }: EntryOf<'retried'>): ReadonlySet<string> =>
  new Set([
    ...forgets.map(([namespace, ...id]) => identityKey(namespace, id)),
    ...[...undone.keys()].filter((key) => undone.get(key) === 'undone'),
  ]);

/** A retry takes the run up: what it names counts no more, and what is left has a fresh budget (spec F6). */
export function retried(digest: Digest, entry: EntryOf<'retried'>): void {
  const rejoined = new Set(entry.rejoins?.map(([namespace, ...id]) => identityKey(namespace, id)));
  for (const key of forgottenBy(digest, entry)) {
    const child = rejoined.has(key) && digest.children.get(key);
    if (child) digest.shapes.set(key, child);
    if (child) forgetOutcome(digest, key);
    else forget(digest, key);
  }
  forgetNames(digest);
  digest.undone.clear();
  digest.undoFailures.clear();
  digest.failures.clear(); // also of a step that was between two attempts
  digest.handlerFailures = undefined;
  digest.begunAt = digest.blockedSince = undefined;
  digest.blockedMs = 0;
  digest.end = undefined;
}

/** Done again, it starts another child, or sends another event: the key of the one before would find that. */
const hasSent = (digest: Digest, key: string): boolean => {
  const shape = digest.shapes.get(key);
  const word = shape?.kind === 'step-completed' && shape.word;
  return digest.children.has(key) || word === 'start' || word === 'dispatch';
};

/** Names that an upgrade forgets, once its run has not ended (or is taken up again). */
export const forgetNames = (digest: Digest): void => {
  const names = digest.forgotten.splice(0);
  if (names.length) for (const key of keysOf(digest)) if (names.includes(nameOf(key))) forget(digest, key);
};

/** Entries of this identity so far no longer count. */
function forget(digest: Digest, key: string): void {
  const isAnew = hasSent(digest, key) || digest.undone.get(key) === 'undone';
  if (isAnew) digest.generations.set(key, (digest.generations.get(key) ?? 0) + 1);
  // With its result, what it has added without asking was committed: done again, it counts again either way (spec D8).
  if (isAnew || digest.shapes.get(key)?.kind === 'step-completed') digest.increments.delete(key);
  digest.children.delete(key);
  digest.undos.delete(key);
  digest.sleeps.delete(key);
  digest.waits.delete(key);
  digest.failures.delete(key);
  digest.shapes.delete(key);
  digest.since.delete(key);
  forgetOutcome(digest, key);
}

function forgetOutcome(digest: Digest, key: string): void {
  digest.outcomeKeys.delete(key);
  const at = digest.outcomes.findIndex((recorded) => recorded.key === key);
  if (at >= 0) digest.outcomes.splice(at, 1);
}

type Id = readonly [Namespace, string, number];

/**
 * What `runs.retry` has to forget (spec F6).
 *
 * @param from The name of a step: it runs again, and all that came after it.
 */
export function forgetsFor(digest: Digest, from: string | undefined, now: number): readonly Id[] {
  const again = from === undefined ? failuresOf(digest) : doneFrom(digest, from);
  return [...again.map(({ key }) => JSON.parse(key) as Id), ...begunAnew(digest, from, now, again[0]?.index)];
}

/** The same with and without `from`. `failed`: what is forgotten only for having failed. */
export function retryOf(digest: Digest, from: string | undefined, now: number) {
  const again = from === undefined ? [] : forgetsFor(digest, from, now);
  const known = new Set(again.map((id) => JSON.stringify(id)));
  const failed = forgetsFor(digest, undefined, now).filter((id) => !known.has(JSON.stringify(id)));
  return { forgets: [...again, ...failed], failed };
}

/** A step or a wait to forget, and where its outcome stands, if it has one. */
interface Forgotten {
  readonly key: string;
  readonly index?: number;
}

/**
 * Failures that led to the end of the run, and those that were recorded after the first of them. Also those that the error of
 * a step carries, as it was recorded: what the handler is given of it names them no more. Not what a child tells of its own steps.
 */
function failuresOf({ outcomes, end }: Digest): readonly Forgotten[] {
  const reachable = new Set<string>();
  const errors = new Map(
    outcomes.map(({ key, entry }) => [key, entry.kind === 'step-failed' ? entry.error : undefined]),
  );
  const collect = (error: RecordedError | undefined) => {
    if (!error) return;
    const key = error.identity && JSON.stringify(error.identity);
    if (key && !reachable.has(key)) {
      reachable.add(key);
      collect(errors.get(key));
    }
    collect(error.cause);
    error.errors?.forEach(collect);
  };
  collect(end?.kind === 'failed' ? end.error : undefined);
  const failures = outcomes.filter(({ entry }) => /^(step-failed|child-failed|wait-timed-out)$/.test(entry.kind));
  const first = failures.findIndex(({ key }) => reachable.has(key));
  return first < 0 ? [] : failures.slice(first);
}

/** Outcomes from this step on. What is between two attempts has no place among them, and comes after them all. */
function doneFrom({ outcomes, outcomeKeys, failures }: Digest, from: string): readonly Forgotten[] {
  const first = outcomes.findIndex(({ entry }) => entry.id[0] === from);
  const open = [...failures.keys()].filter((key) => !outcomeKeys.has(key) && (first >= 0 || nameOf(key) === from));
  return [...(first < 0 ? [] : outcomes.slice(first)), ...open.map((key) => ({ key }))];
}

/**
 * Waits and sleeps that begin anew, having no outcome: those that came after the step from which all runs again, and those
 * whose instants have passed, unseen, since the run failed on something else.
 */
function begunAnew(
  { waits, sleeps, outcomeKeys }: Digest,
  from: string | undefined,
  now: number,
  after = Infinity,
): readonly Id[] {
  const isAnew = (key: string, index: number, until = Infinity) =>
    !outcomeKeys.has(key) && (until <= now || nameOf(key) === from || (from !== undefined && index > after));
  const keys = [
    ...[...waits].flatMap(([key, { index, deadline }]) => (isAnew(key, index, deadline) ? key : [])),
    ...[...sleeps].flatMap(([key, { index, dueAt }]) => (isAnew(key, index, dueAt) ? key : [])),
  ];
  return keys.map((key) => JSON.parse(key) as Id);
}
