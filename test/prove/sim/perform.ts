import type { HandlerContext } from '../../../src/door/job.js';
import { FatalError } from '../../../src/errors.js';
import type { StepContext, UndoContext } from '../../../src/replay/command.js';
import { type Keyed, type Plan, type Program, type RunPlan, TTL_MS, treeOf, type WaitPlan } from './plan.js';

/*
 * A program as a handler: the tree is walked, and each node asks for what it says. What it returns is made of nothing but
 * what the steps gave, so that the model can say what it has to be.
 */

export interface Payload {
  readonly plan: number;
  readonly round: number;
}

/** What a handler, and its functions, see of the world: the part that outlives every context. */
export interface Outside {
  readonly programs: readonly Program[];
  /** Of the job, where it runs. */
  readonly version: number;
  /** A function is entered, by this context. Counts executions of the identity, from 1. */
  entered(run: RunInfo, context: StepContext): number;
  undoes(run: RunInfo, context: UndoContext<unknown>): number;
  /** The job is told that a run has failed. */
  told(runId: string): number;
  /** A pass of the handler comes to this point: how often it did. */
  passes(run: RunInfo, name: string): number;
  delay(ms: number): Promise<void>;
}

export type RunInfo = HandlerContext<Payload>['run'];

/** What the handler had before its eyes when it asked: part of what the step gives, so that the model can compare. */
export function witness(last: unknown): string {
  let hash = 5381;
  for (const letter of JSON.stringify(last) ?? '') hash = (Math.imul(hash, 33) ^ letter.charCodeAt(0)) >>> 0;
  return `<${hash.toString(36)}`;
}

/** The key of events for a run. */
export const keyOf = (key: Keyed, runId: string): { readonly correlationKey?: string } =>
  key === 'none' ? {} : { correlationKey: key === 'own' ? runId : 'shared' };

const isCaught = (error: unknown) =>
  /^(STEP_FAILED|EVENT_TIMEOUT)$/.test(String((error as { readonly code?: unknown }).code));

export async function performRun(outside: Outside, context: HandlerContext<Payload>): Promise<unknown> {
  const { payload, step } = context;
  const program = outside.programs[payload.plan]!;
  const value = await perform(outside, context, treeOf(program, outside.version));
  if (payload.round < program.restarts) return step.restart({ ...payload, round: payload.round + 1 });
  return value;
}

async function perform(
  outside: Outside,
  context: HandlerContext<Payload>,
  plan: Plan,
  last?: unknown,
): Promise<unknown> {
  const { step, run } = context;
  const go = (part: Plan, before?: unknown) => perform(outside, context, part, before);
  switch (plan.kind) {
    case 'run':
    case 'wait':
    case 'sleep':
    case 'value':
    case 'send':
    case 'call':
    case 'begin':
      return shown(plan, await ask(outside, context, plan, last));
    case 'pause':
      await outside.delay(3);
      return 'paused';
    case 'throw':
      if (outside.passes(run, plan.name) <= plan.times) throw new Error(`thrown by ${plan.name}`);
      return 'not thrown';
    case 'seq': {
      const values: unknown[] = [];
      for (const part of plan.parts) values.push(await go(part, values.at(-1)));
      return values;
    }
    case 'loop': {
      const values: unknown[] = [];
      for (let nth = 0; nth < plan.times; nth++) values.push(await go(plan.body, values.at(-1)));
      return values;
    }
    case 'left':
      void go(plan.body).catch(() => undefined);
      return 'left';
    case 'all':
      return Promise.all(plan.parts.map((part) => go(part)));
    case 'first':
      return Promise.race(plan.parts.map(async (part, at) => [at, await go(part)]));
    case 'race': {
      // The losers are withdrawn by the promises of `step` themselves, so the value is worked out of who has won.
      const asked = plan.parts.map((part) => ask(outside, context, part));
      const winner = Promise.race(
        asked.map((each, at) =>
          each.then(
            () => at,
            () => at,
          ),
        ),
      );
      const value = await step.race(asked);
      const at = await winner;
      return [at, shown(plan.parts[at]!, value)];
    }
    case 'try':
      try {
        return await go(plan.body);
      } catch (error) {
        if (!isCaught(error)) throw error;
        return { caught: await go(plan.rescue) };
      }
  }
}

/** The promise of `step` itself: `step.race` knows its own. */
function ask(outside: Outside, { step, run }: HandlerContext<Payload>, plan: Plan, last?: unknown): Promise<unknown> {
  switch (plan.kind) {
    case 'run':
      return askRun(outside, { step, run }, plan, last);
    case 'wait':
      return askWait({ step, run }, plan);
    case 'sleep':
      return step.sleep(plan.name, plan.ms);
    case 'value':
      return step[plan.word]();
    case 'send':
      return step.dispatch(
        plan.event,
        { n: 0, by: plan.name },
        { ...keyOf(plan.key, run.id), name: plan.name, ttl: TTL_MS },
      );
    case 'call':
      return step.call('job', { plan: plan.plan, round: 0 }, { name: plan.name });
    case 'begin':
      return step.start('job', { plan: plan.plan, round: 0 }, { name: plan.name });
    default:
      throw new Error(`${plan.kind} is no leaf`);
  }
}

type Asking = Pick<HandlerContext<Payload>, 'step' | 'run'>;

function askRun(outside: Outside, { step, run }: Asking, plan: RunPlan, last: unknown): Promise<unknown> {
  const { name, ms, fails, maxAttempts, isFatal, timeoutMs, undo, adds, isOnline } = plan;
  const fn = async (context: StepContext) => {
    const execution = outside.entered(run, context);
    if (adds === 'told') void context.state.increment('told', 1);
    const sum = adds === 'asked' ? await context.state.increment('asked', 1) : undefined;
    if (ms) await outside.delay(ms);
    if (execution <= fails) throw isFatal ? new FatalError(`fatal ${name}`) : new Error(`failed ${name}`);
    return `${name}#${execution}${sum === undefined ? '' : `+${sum}`}${witness(last)}`;
  };
  const takeBack = (context: UndoContext<unknown>) => {
    const execution = outside.undoes(run, context);
    if (undo === 'fails' && execution === 1) throw new Error(`could not undo ${name}`);
  };
  return step.run(name, fn, {
    retry: { maxAttempts, initialDelay: 200, maxDelay: 5_000 },
    ...(timeoutMs && { timeout: timeoutMs }),
    ...(undo && { undo: takeBack }),
    ...(isOnline && { when: 'online' as const }),
  });
}

function askWait({ step, run }: Asking, plan: WaitPlan): Promise<unknown> {
  const { name, events, key, timeoutMs, onTimeout, isPicky, lookback } = plan;
  const given = events.length > 1 ? events : events[0]!;
  return step.waitForEvent<{ n: number }>(given, {
    name,
    ...keyOf(key, run.id),
    ...(timeoutMs && { timeout: timeoutMs }),
    onTimeout: onTimeout as 'fail',
    ...(lookback !== undefined && { lookback }),
    ...(isPicky && { match: ({ n }) => n % 2 === 0 }),
  });
}

/** What is made of the value of a leaf: without ids and instants, so that the model need not know them. */
function shown(plan: Plan, value: unknown): unknown {
  switch (plan.kind) {
    case 'wait': {
      const { timedOut, name, payload } = value as { timedOut: boolean; name: string; payload: unknown };
      return timedOut ? 'timed out' : { event: name, payload };
    }
    case 'sleep':
      return 'slept';
    case 'send':
      return 'sent';
    case 'begin':
      return 'begun';
    default:
      return value;
  }
}
