import type { Random } from './random.js';

/*
 * Programs that a seed makes up: trees of everything a handler can ask for. The same tree is performed with `step` by the
 * handler (perform.ts) and evaluated over what was recorded by the model (model.ts).
 */

export type Plan =
  | RunPlan
  | WaitPlan
  | { readonly kind: 'sleep'; readonly name: string; readonly ms: number }
  | { readonly kind: 'value'; readonly word: 'now' | 'uuid' | 'random' }
  | { readonly kind: 'send'; readonly name: string; readonly event: string; readonly key: Keyed }
  | { readonly kind: 'call' | 'begin'; readonly name: string; readonly plan: number }
  /** Awaits something that is no step. */
  | { readonly kind: 'pause' }
  /** The handler throws at its first passes. */
  | { readonly kind: 'throw'; readonly name: string; readonly times: number }
  | { readonly kind: 'seq' | 'all' | 'first'; readonly parts: readonly Plan[] }
  /** `step.race` over leaves. */
  | { readonly kind: 'race'; readonly parts: readonly Plan[] }
  | { readonly kind: 'try'; readonly body: Plan; readonly rescue: Plan }
  | { readonly kind: 'loop'; readonly times: number; readonly body: Plan }
  /** Begun, and not waited for. */
  | { readonly kind: 'left'; readonly body: Plan };

export interface RunPlan {
  readonly kind: 'run';
  readonly name: string;
  readonly ms: number;
  /** So many executions fail. */
  readonly fails: number;
  readonly maxAttempts: number;
  readonly isFatal: boolean;
  readonly timeoutMs?: number;
  readonly undo?: 'once' | 'fails';
  /** Adds to a shared value; `asked`: and uses the sum. */
  readonly adds?: 'told' | 'asked';
  readonly isOnline: boolean;
}

/** Of the run itself; one that all runs share; none. */
export type Keyed = 'own' | 'shared' | 'none';

export interface WaitPlan {
  readonly kind: 'wait';
  readonly name: string;
  readonly events: readonly string[];
  readonly key: Keyed;
  readonly timeoutMs?: number;
  readonly onTimeout: 'fail' | 'continue' | 'cancel';
  /** Takes only payloads whose number is even. */
  readonly isPicky: boolean;
  /** Takes what came before the run was started, too. */
  readonly lookback?: 'any' | number;
}

export interface Program {
  readonly parts: Plan;
  /** What version 2 of the job does behind that. */
  readonly addition?: Plan;
  /** How often it begins anew. */
  readonly restarts: number;
  /** Version 2 of the job has other names for some of it. */
  readonly isRenamed?: boolean;
}

export const EVENTS = ['a', 'b', 'c'] as const;

/** Longer than any simulation. */
export const TTL_MS = 3_650 * 86_400_000;

const DURATIONS = [1, 50, 900, 5_000, 20_000, 60_000] as const;

/** All programs of a seed; a call names one of a greater number, so that none calls itself. */
export function programsOf(random: Random, count: number): readonly Program[] {
  return Array.from({ length: count }, (_, index) => programOf(random, index, count));
}

/** All of a program, as a version of the job performs it. */
export function treeOf({ parts, addition, isRenamed }: Program, version: number): Plan {
  if (version < 2) return parts;
  const present = isRenamed ? renamed(parts) : parts;
  return addition ? { kind: 'seq', parts: [present, addition] } : present;
}

/** What a recorded name is in version 2: every other one is new. */
export const presentName = (name: string): string => (/^[swzdk]\d*[13579]$/.test(name) ? `${name}n` : name);
/** The other way round. */
export const formerName = (name: string): string => name.replace(/n$/, '');

function renamed(plan: Plan): Plan {
  if ('parts' in plan) return { ...plan, parts: plan.parts.map(renamed) };
  if (plan.kind === 'try') return { ...plan, body: renamed(plan.body), rescue: renamed(plan.rescue) };
  if (plan.kind === 'loop' || plan.kind === 'left') return { ...plan, body: renamed(plan.body) };
  return 'name' in plan ? { ...plan, name: presentName(plan.name) } : plan;
}

/** What `migrate` says of all runs: names that one has not come to are passed over. */
export function renamesOf(programs: readonly Program[]): Record<string, string> {
  const names = programs.flatMap(({ parts }) =>
    [...JSON.stringify(parts).matchAll(/"name":"(\w+)"/g)].map(([, name]) => name!),
  );
  return Object.fromEntries(names.flatMap((name) => (presentName(name) === name ? [] : [[name, presentName(name)]])));
}

/**
 * Some programs leave steps running, which nobody waits for when the handler ends. None that awaits something else: what it
 * has not come to by then may have been what decided a race that it left, whose loser is then entered again.
 */
export function leaving(random: Random, program: Program): Program {
  const { parts } = program;
  if (parts.kind !== 'seq' || !random.chance(0.25) || JSON.stringify(program).includes('"pause"')) return program;
  const run = (_: unknown, index: number): RunPlan => ({
    kind: 'run',
    name: `s${800 + index}`,
    ms: random.pick([0, 5, 300, 3_000, 20_000]),
    fails: random.chance(0.2) ? 1 : 0,
    maxAttempts: random.between(1, 2),
    isFatal: false,
    ...(random.chance(0.3) && { undo: 'once' as const }),
    isOnline: false,
  });
  const runs = Array.from({ length: random.between(1, 3) }, run);
  const body: Plan =
    runs.length > 1 && random.chance(0.7) ? { kind: 'race', parts: runs } : { kind: 'seq', parts: runs };
  const at = random.between(0, parts.parts.length);
  return {
    ...program,
    parts: { kind: 'seq', parts: [...parts.parts.slice(0, at), { kind: 'left', body }, ...parts.parts.slice(at)] },
  };
}

function programOf(random: Random, index: number, count: number): Program {
  let names = 0;
  const fresh = (letter: string) => `${letter}${++names}`;
  const ms = () => random.pick(DURATIONS);
  const words: ('now' | 'uuid' | 'random')[] = ['now', 'uuid', 'random'];

  const run = (): RunPlan => ({
    kind: 'run',
    name: fresh('s'),
    ms: random.chance(0.4) ? 0 : random.pick([0, 5, 300, 3_000]),
    fails: random.chance(0.3) ? random.between(1, 4) : 0,
    maxAttempts: random.between(1, 4),
    isFatal: random.chance(0.05),
    ...(random.chance(0.1) && { timeoutMs: random.pick([100, 2_000]) }),
    ...(random.chance(0.25) && { undo: random.chance(0.8) ? ('once' as const) : ('fails' as const) }),
    ...(random.chance(0.2) && { adds: random.pick(['told', 'asked'] as const) }),
    isOnline: random.chance(0.1),
  });
  const wait = (): WaitPlan => (random.chance(0.3) ? backward() : forward(['own', 'own', 'own', 'shared', 'none']));
  const backward = (): WaitPlan => ({
    ...forward(['shared', 'none']),
    lookback: random.chance(0.7) ? ('any' as const) : ms(),
  });
  const forward = (keys: readonly Keyed[]): WaitPlan => ({
    kind: 'wait',
    name: fresh('w'),
    events: random.chance(0.3) ? ['a', 'b'].slice(0, 2) : [random.pick(EVENTS)],
    key: random.pick(keys),
    ...(random.chance(0.55) && { timeoutMs: ms() }),
    onTimeout: random.pick(['fail', 'continue', 'continue', 'cancel']),
    isPicky: random.chance(0.15),
  });
  const leaf = (): Plan => {
    const kind = random.below(23);
    if (kind < 8) return run();
    if (kind < 13) return wait();
    if (kind < 16) return { kind: 'sleep', name: fresh('z'), ms: random.chance(0.01) ? 2 ** 31 + 5 : ms() };
    if (kind === 16)
      return {
        kind: 'send',
        name: fresh('d'),
        event: random.pick(EVENTS),
        key: random.pick(['own', 'shared', 'none']),
      };
    if (kind === 17 && index + 1 < count) return child('call');
    if (kind > 17 && kind < 21 && index + 1 < count) return child(random.pick(['call', 'begin']));
    // Their names are not ours to choose: one of each, so that the order of asking is that of the tree.
    const word = words.pop();
    return word ? { kind: 'value', word } : run();
  };
  const child = (kind: 'call' | 'begin'): Plan => ({
    kind,
    name: fresh('k'),
    plan: random.between(index + 1, count - 1),
  });
  const several = <T>(make: () => T) => Array.from({ length: random.between(2, 3) }, make);
  /**
   * What begins a branch of a race is recorded, and nothing in one depends on anything but what is recorded: so that the
   * journal tells who has won.
   */
  const branch = (depth: number): Plan => ({
    kind: 'seq',
    parts: [leaf(), ...(random.chance(0.4) ? [tree(depth, true)] : [])],
  });
  const tree = (depth: number, isRecorded: boolean): Plan => {
    const kind = depth > 0 ? random.below(16) : 0;
    if (kind < 7 || (isRecorded && kind < 9)) return leaf();
    if (kind === 7) return { kind: 'pause' };
    if (kind === 8) return { kind: 'throw', name: fresh('t'), times: random.between(1, 2) };
    if (kind === 9) return { kind: 'seq', parts: several(() => tree(depth - 1, isRecorded)) };
    if (kind === 10) return { kind: 'all', parts: several(() => tree(depth - 1, isRecorded)) };
    if (kind === 11) return { kind: 'first', parts: several(() => branch(depth - 1)) };
    if (kind <= 13) return { kind: 'race', parts: several(leaf) };
    if (kind === 14) return { kind: 'loop', times: random.between(2, 3), body: { kind: 'seq', parts: several(leaf) } };
    return { kind: 'try', body: tree(depth - 1, true), rescue: leaf() };
  };
  return {
    parts: { kind: 'seq', parts: Array.from({ length: random.between(1, 4) }, () => tree(2, false)) },
    ...(random.chance(0.5) && { addition: leaf() }),
    restarts: random.chance(0.15) ? random.between(1, 2) : 0,
  };
}
