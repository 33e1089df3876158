import { isOutcome, type JournalEntry, type OutcomeEntry } from '../../../src/store/journal.js';
import { witness } from './perform.js';
import { formerName, type Plan, type Program, presentName, treeOf } from './plan.js';
import { keyOfId, presentKeys, type Shadow } from './shadow.js';

/*
 * The second oracle: the program, evaluated over what is recorded, without promises, replay or time. Each node is pending,
 * or over at a place in the order of outcomes; whatever the engines did, what is in the journal has to be something that
 * this small sequential machine permits.
 */

type Value = unknown;
type Evaluated =
  | { readonly kind: 'pending' }
  | { readonly kind: 'ok'; readonly at: number; readonly value: Value }
  | { readonly kind: 'error'; readonly at: number; readonly name: string };

interface Machine {
  readonly places: ReadonlyMap<string, { readonly place: number; readonly entry: OutcomeEntry }>;
  /** How often each name was asked for. */
  readonly asked: Map<string, number>;
  /** Identities that are asked for and pending. */
  readonly open: Set<string>;
  readonly seen: Set<string>;
  readonly problems: string[];
  /** Set aside by a replay that they had kept waiting for too long: they are there whenever they are asked for. */
  readonly aside: ReadonlySet<string>;
  /** Taken up again: what was undone may have been done otherwise. */
  readonly isRetried: boolean;
  /** A pass has ended before it heard of all that its steps did. */
  readonly hasThrown: boolean;
}

const pending: Evaluated = { kind: 'pending' };

/** Outcomes in the order in which the handler saw them. */
function order(journal: readonly JournalEntry[], counted: Shadow['outcomes']) {
  const keyOf = presentKeys(journal);
  const list: { readonly index: number; readonly key: string; readonly entry: OutcomeEntry }[] = [];
  for (const [index, entry] of journal.entries()) {
    if (!isOutcome(entry)) continue;
    const place = entry.before === undefined ? -1 : list.findIndex((other) => other.index === entry.before);
    list.splice(place < 0 ? list.length : place, 0, { index, key: keyOf(entry, index), entry });
  }
  return list.filter(({ key, entry }) => counted.get(key)?.entry === entry);
}
const setAside = (entry: JournalEntry): string[] =>
  entry.kind === 'drift'
    ? entry.ids.flatMap(([namespace, name, occurrence]) =>
        [name, presentName(name)].map((each) => keyOfId(namespace, [each, occurrence])),
      )
    : [];

const first = (results: readonly Evaluated[], ...kinds: Evaluated['kind'][]) =>
  results.reduce<Exclude<Evaluated, { kind: 'pending' }> | undefined>(
    (best, each) =>
      each.kind !== 'pending' && kinds.includes(each.kind) && !(best && best.at <= each.at) ? each : best,
    undefined,
  );

function evaluate(machine: Machine, plan: Plan, from: number, last?: Value): Evaluated {
  switch (plan.kind) {
    case 'pause':
      return { kind: 'ok', at: from, value: 'paused' };
    case 'throw':
      return { kind: 'ok', at: from, value: 'not thrown' };
    case 'seq':
      return inTurn(machine, plan.parts, from);
    case 'loop':
      return inTurn(machine, Array<Plan>(plan.times).fill(plan.body), from);
    case 'left':
      evaluate(machine, plan.body, from);
      return { kind: 'ok', at: from, value: 'left' };
    case 'all': {
      const results = plan.parts.map((part) => evaluate(machine, part, from));
      const failed = first(results, 'error');
      if (failed) return failed;
      if (results.some(({ kind }) => kind === 'pending')) return pending;
      const done = results as readonly Extract<Evaluated, { kind: 'ok' }>[];
      return { kind: 'ok', at: Math.max(...done.map(({ at }) => at)), value: done.map(({ value }) => value) };
    }
    case 'first':
    case 'race': {
      const results = plan.parts.map((part) => evaluate(machine, part, from));
      const won = first(results, 'ok', 'error');
      if (!won) return pending;
      if (plan.kind === 'race') withdraw(machine, plan.parts, results, won);
      return won.kind === 'ok' ? { ...won, value: [results.indexOf(won), won.value] } : won;
    }
    case 'try': {
      const body = evaluate(machine, plan.body, from);
      if (body.kind !== 'error') return body;
      const rescue = evaluate(machine, plan.rescue, body.at);
      return rescue.kind === 'ok' ? { ...rescue, value: { caught: rescue.value } } : rescue;
    }
    default:
      return leaf(machine, plan, from, last);
  }
}

function inTurn(machine: Machine, parts: readonly Plan[], from: number): Evaluated {
  const values: Value[] = [];
  let at = from;
  for (const part of parts) {
    const result = evaluate(machine, part, at, values.at(-1));
    if (result.kind !== 'ok') return result;
    at = result.at;
    values.push(result.value);
  }
  return { kind: 'ok', at, value: values };
}

/** A wait that has lost a `step.race` takes nothing more; a function in flight may end before a new pass knows better. */
function withdraw(
  { problems, isRetried, hasThrown }: Machine,
  parts: readonly Plan[],
  results: readonly Evaluated[],
  won: Evaluated,
): void {
  if (isRetried || hasThrown) return;
  for (const [index, result] of results.entries())
    if (result !== won && result.kind !== 'pending' && parts[index]!.kind === 'wait')
      problems.push('E11: the loser of a race has an outcome');
}

function leaf(machine: Machine, plan: Plan, from: number, last: Value): Evaluated {
  const namespace = plan.kind === 'wait' ? 'wait' : 'step';
  const name = plan.kind === 'value' ? `stepfast:${plan.word}` : (plan as { readonly name: string }).name;
  const counter = `${namespace}/${name}`;
  const occurrence = (machine.asked.get(counter) ?? 0) + 1;
  machine.asked.set(counter, occurrence);
  const key = `${counter}/${occurrence}`;
  machine.seen.add(key);
  const found = machine.places.get(key);
  if (!found) {
    machine.open.add(key);
    return pending;
  }
  const { place, entry } = found;
  // A race whose winner was undone can go another way: what was asked for after it is then recorded before the new winner.
  if (place < from && !machine.aside.has(key) && !machine.isRetried)
    machine.problems.push(`R4: ${key} has outcome ${place}, and was asked for after ${from}`);
  const at = Math.max(from, place + 1);
  switch (entry.kind) {
    case 'step-completed':
    case 'value-made':
    case 'child-completed': {
      const { value } = entry;
      if (plan.kind === 'run' && !String(value).endsWith(witness(last)) && !machine.isRetried)
        machine.problems.push(
          `R7: ${key} was asked for by a handler that had seen something else than what is recorded`,
        );
      const said = plan.kind === 'send' ? 'sent' : plan.kind === 'begin' ? 'begun' : value;
      return { kind: 'ok', at, value: said };
    }
    case 'sleep-ended':
      return { kind: 'ok', at, value: 'slept' };
    case 'event-taken':
      return { kind: 'ok', at, value: { event: entry.event, payload: entry.payload } };
    case 'wait-timed-out':
      if (plan.kind === 'wait' && plan.onTimeout === 'continue') return { kind: 'ok', at, value: 'timed out' };
      return { kind: 'error', at, name };
    default:
      return { kind: 'error', at, name };
  }
}

function machineOf({ journal, outcomes: counted, isLoose }: Shadow) {
  const ordered = order(journal, counted);
  const outcomes = ordered.map(({ entry }) => entry);
  const machine: Machine = {
    places: new Map(ordered.map(({ key, entry }, place) => [key, { place, entry }])),
    asked: new Map(),
    open: new Set(),
    seen: new Set(),
    problems: [],
    aside: new Set(journal.flatMap(setAside)),
    isRetried: isLoose || journal.some(({ kind }) => kind === 'retried'),
    hasThrown: journal.some(({ kind }) => kind === 'handler-failed'),
  };
  return { machine, outcomes };
}

/**
 * The run has ended, and a step is to be undone that its handler does not ask for: taken up again, it went another way.
 * The code at hand lacks the undo, and the run is blocked (spec F7).
 */
export function isBlocked(program: Program, shadow: Shadow): boolean {
  const { machine } = machineOf(shadow);
  if (!machine.isRetried) return false;
  evaluate(machine, treeOf(program, shadow.row.version), 0);
  return [...shadow.undos.keys()].some((key) => !shadow.undone.has(key) && !machine.seen.has(key));
}

/** What the journal of a run has that its program does not permit. `waiting`: it is at rest. */
export function judge(program: Program, shadow: Shadow, state: 'waiting' | 'ended'): string[] {
  const { journal, runId, row } = shadow;
  const { machine, outcomes } = machineOf(shadow);
  const { places, isRetried } = machine;
  const result = evaluate(machine, treeOf(program, row.version), 0);
  const { problems } = machine;
  const said = () => problems.map((problem) => `${runId}: ${problem}`);
  // What was undone and done again may have another outcome, and lead elsewhere.
  for (const key of places.keys())
    if (!machine.seen.has(key) && !isRetried) problems.push(`R4: nobody asks for ${key}`);
  const end = journal.filter(({ kind }) => /^(completed|failed|cancelled)$/.test(kind)).at(-1);
  if (state === 'waiting') atRest(shadow, machine, result);
  else if (end?.kind === 'completed') {
    if (result.kind !== 'ok') problems.push(`completed, though it is ${JSON.stringify(result)}`);
    else if (JSON.stringify(result.value) !== JSON.stringify(end.value))
      problems.push(`R3: completed with ${JSON.stringify(end.value)}, which should be ${JSON.stringify(result.value)}`);
  } else if (end?.kind === 'failed') {
    const isThrown = /^thrown by /.test(end.error.message);
    // Given up from outside of its program, wherever it was.
    if (/^(CRASH_LOOP|RUN_TIMEOUT)$/.test(String(end.error.code))) return said();
    if (!isThrown && result.kind !== 'error')
      problems.push(`failed with ${end.error.message}, though it is ${result.kind}`);
    else if (result.kind === 'error' && formerName(String(end.error.step)) !== formerName(result.name))
      problems.push(`failed at ${end.error.step}, which should be ${result.name}`);
  } else if (
    end?.kind === 'cancelled' &&
    !shadow.isCancelledOutside &&
    !shadow.isAbandoned &&
    !isCancelledInside(program, outcomes, shadow)
  )
    problems.push('cancelled by nobody');
  return said();
}

/** A wait with `onTimeout: 'cancel'`, or its parent. */
function isCancelledInside(program: Program, outcomes: readonly OutcomeEntry[], { row }: Shadow): boolean {
  void program;
  return row.parentId !== undefined || outcomes.some(({ kind }) => kind === 'wait-timed-out');
}

/** What a run waits for is what its program asks for, and nothing else. */
function atRest({ row }: Shadow, { open, problems }: Machine, result: Evaluated): void {
  if (result.kind !== 'pending') problems.push(`waits, though it is ${JSON.stringify(result)}`);
  for (const { id } of row.waits) {
    const key = keyOfId('wait', id);
    if (!open.delete(key)) problems.push(`R4: waits for ${key}, which nobody asks for`);
  }
  void open;
}
