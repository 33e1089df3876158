import type { Identity, JournalEntry } from '../../../src/store/journal.js';
import type { EventRow, RunRow } from '../../../src/store/rows.js';
import type { Context } from './context.js';
import type { Payload } from './perform.js';
import { type Plan, type Program, type RunPlan, treeOf, type WaitPlan } from './plan.js';

/*
 * What is known of each run from having watched every commit: kept apart from the product's own reading of journals, and
 * written without it.
 */

export type EntryOf<K extends JournalEntry['kind']> = Extract<JournalEntry, { readonly kind: K }>;

export interface Shadow {
  readonly runId: string;
  row: RunRow;
  journal: readonly JournalEntry[];
  /** What was recorded before it was born: it is a fork. */
  copied: number;
  /** Of what it was copied from, something was taken back: what came after may have been asked for otherwise. */
  readonly isLoose: boolean;
  /** It was born as the only active one with its key. */
  isAlone: boolean;
  /** How much of the journal was looked at. */
  seen: number;
  program: number;
  /** Outcomes that count, by identity, with the number of the commit that recorded them. */
  outcomes: Map<string, { readonly entry: JournalEntry; readonly commit: number; readonly index: number }>;
  waits: Map<string, EntryOf<'wait-set'>>;
  sleeps: Map<string, EntryOf<'sleep-set'>>;
  children: Map<string, EntryOf<'child-set'>>;
  /** Steps that can be undone and may have happened, by the place of their beginning in the journal. */
  undos: Map<string, number>;
  /** Of these, those of which an attempt has timed out: whatever comes after, it may have happened. */
  unknown: Set<string>;
  undone: Map<string, { readonly kind: 'undone' | 'undo-failed'; readonly commit: number }>;
  failures: Map<
    string,
    { readonly count: number; readonly at: number; readonly retryAt: number; readonly commit: number }
  >;
  handlerFailures: number;
  interruptions: number;
  /** From when on the timeout of its job counts. */
  begunAt: number | undefined;
  /** Events it has taken, in all its generations. */
  readonly taken: Set<number>;
  readonly lastTaken: Map<string, number>;
  /** Context whose claim raised the fence last; absent: it was raised from outside. */
  holder: Context | undefined;
  /** Its ends: more than one when it was taken up again. */
  readonly ends: EntryOf<'completed' | 'failed' | 'cancelled'>[];
  /** How often it was taken up again from outside, in all its generations. */
  retries: number;
  /** Number of the commit that ended it. */
  endedBy: number | undefined;
  /** It was cancelled from outside, or with its parent. */
  isCancelledOutside: boolean;
  /** Code of a later version has given it up. */
  isAbandoned: boolean;
}

/** A map key of (namespace, name, occurrence). */
export const keyOfId = (namespace: 'step' | 'wait', [name, occurrence]: Identity): string =>
  `${namespace}/${name}/${occurrence}`;

export const namespaceOf = ({ kind }: JournalEntry): 'step' | 'wait' => (/^(wait|event)-/.test(kind) ? 'wait' : 'step');

/** Whether code had begun it before the claim that is looked at: what a job says of an earlier version is of such runs alone. */
export function isBegun({ journal, copied, seen }: Shadow): boolean {
  const before = journal.slice(0, seen);
  const claims = before.slice(copied).filter(({ kind }) => kind === 'claimed').length;
  const started = journal[0] as EntryOf<'started'>;
  const isRecorded = ({ kind }: JournalEntry) => /^(step|attempt|value|sleep|wait|child)-|^event-taken/.test(kind);
  const isAnew = copied === 0 && (started.generation ?? 0) > 0; // a copy has the number of what it was copied from
  return claims > 1 || isAnew || before.some(isRecorded);
}

/** Everything about one life of a run; what outlives `step.restart` stays. */
export const blankJournal = () => ({
  outcomes: new Map(),
  waits: new Map(),
  sleeps: new Map(),
  children: new Map(),
  undos: new Map(),
  unknown: new Set<string>(),
  undone: new Map(),
  failures: new Map(),
  handlerFailures: 0,
  interruptions: 0,
  begunAt: undefined,
});

export const shadowOf = (row: RunRow, journal: readonly JournalEntry[], source?: Shadow): Shadow => ({
  runId: row.runId,
  copied: source ? journal.length : 0,
  isLoose:
    source !== undefined &&
    (source.isLoose || source.journal.some(({ kind }) => /^(retried|handler-failed|drift|undone)$/.test(kind))),
  row,
  journal,
  isAlone: row.unique?.until === 'end',
  seen: 0,
  program: ((journal[0] as EntryOf<'started'>).payload as unknown as Payload).plan,
  ...blankJournal(),
  taken: new Set(),
  lastTaken: new Map(),
  holder: undefined,
  ends: [],
  retries: 0,
  endedBy: undefined,
  isCancelledOutside: false,
  isAbandoned: false,
});

/** Everything that is known of a run, under the names that it has from here on. */
export function rename(shadow: Shadow, renames: ReadonlyMap<string, string>): void {
  const present = (key: string) => {
    const [namespace, name = '', occurrence] = key.split('/');
    return [namespace, renames.get(name) ?? name, occurrence].join('/');
  };
  const { outcomes, waits, sleeps, children, undos, undone, failures, unknown } = shadow;
  for (const map of [outcomes, waits, sleeps, children, undos, undone, failures] as Map<string, unknown>[]) {
    const entries = [...map];
    map.clear();
    for (const [key, value] of entries) map.set(present(key), value);
  }
  const keys = [...unknown];
  unknown.clear();
  for (const key of keys) unknown.add(present(key));
}

/** The keys of identities in a journal, by their present names. */
export function presentKeys(journal: readonly JournalEntry[]): (entry: JournalEntry, index: number) => string {
  return (entry, index) => {
    const [name, occurrence] = (entry as { readonly id: Identity }).id;
    let present = name;
    for (const later of journal.slice(index + 1))
      if (later.kind === 'upgraded') present = new Map(later.renames ?? []).get(present) ?? present;
    return keyOfId(namespaceOf(entry), [present, occurrence]);
  };
}

/** The nodes of a program by the names they are recorded under. */
export type Nodes = ReadonlyMap<string, Plan>;

export function nodesOf(program: Program): Nodes {
  const found = new Map<string, Plan>();
  const walk = (plan: Plan): void => {
    if ('name' in plan) found.set(plan.name, plan);
    if ('parts' in plan) for (const part of plan.parts) walk(part);
    if ('body' in plan) walk(plan.body);
    if ('rescue' in plan) walk(plan.rescue);
  };
  for (const version of [1, 2]) walk(treeOf(program, version));
  return found;
}

export const runNode = (nodes: Nodes, name: string): RunPlan | undefined => {
  const node = nodes.get(name);
  return node?.kind === 'run' ? node : undefined;
};
export const waitNode = (nodes: Nodes, name: string): WaitPlan | undefined => {
  const node = nodes.get(name);
  return node?.kind === 'wait' ? node : undefined;
};

/** Events that a wait of this run may take, by the words of the promises alone (spec E2-E5). */
export function eligible(
  shadow: Shadow,
  wait: EntryOf<'wait-set'>,
  isPicky: boolean,
  { events, takers }: { readonly events: Iterable<EventRow>; readonly takers: ReadonlySet<number> },
): EventRow[] {
  const { lookbackFrom = Infinity } = wait;
  const found: EventRow[] = [];
  for (const event of events)
    if (
      wait.events.includes(event.name) &&
      wait.key === event.key &&
      (event.seq > shadow.row.seq || (event.acceptedAt >= lookbackFrom && !takers.has(event.seq))) &&
      !shadow.taken.has(event.seq) &&
      event.acceptedAt <= (wait.deadline ?? Infinity) &&
      (event.runId === undefined || event.runId === shadow.runId) &&
      !(isPicky && (event.payload as { readonly n: number }).n % 2 !== 0)
    )
      found.push(event);
  return found.sort((a, b) => a.seq - b.seq);
}
