import type { AnyJob, HandlerContext } from '../door/job.js';
import type { StepContext, StepOptions, UndoContext } from '../replay/command.js';
import type { Step } from '../replay/language.js';
import type { StepFake, UndoFake } from './scenario.js';

/*
 * A job as it is played: with fakes in the place of functions, and somebody who watches what is entered.
 */

/** A function of a job that is entered: that of a step or of its undoing, or `onFailed`, under the name that the journal has for it. */
export interface Entering {
  readonly runId: string;
  readonly name: string;
  readonly occurrence: number;
  readonly idempotencyKey: string;
  readonly kind: 'step' | 'undo' | 'onFailed';
}

/** As messages name it. */
export const wordsFor = ({ kind, name }: Entering): string =>
  kind === 'onFailed' ? 'onFailed' : kind === 'undo' ? `the undo of step "${name}"` : `step "${name}"`;

/** Hears of each function before it is called, when the call is back, and when what it gave has settled. */
export interface Watch {
  entered(entering: Entering): void;
  called?(entering: Entering): void;
  left?(entering: Entering): void;
}

/** What stands in for functions, by the names of their steps. */
export interface Fakes {
  readonly steps?: { readonly [name: string]: StepFake } | undefined;
  readonly undos?: { readonly [name: string]: UndoFake } | undefined;
}

/** What stands in for the undo of a step; where the step is faked, what it did was not done, and its own undo is not called. */
function undoOf(name: string, { steps = {}, undos = {} }: Fakes, own: UndoFake): UndoFake {
  if (Object.hasOwn(undos, name)) return undos[name]!;
  return Object.hasOwn(steps, name) ? () => undefined : own;
}

/** The job with fakes in the place of its steps' functions. */
export function withFakes(job: AnyJob, fakes: Fakes, watch: Watch): AnyJob {
  const { steps = {} } = fakes;
  const watched = async <Value>(entering: Entering, call: () => Value): Promise<Awaited<Value>> => {
    watch.entered(entering);
    try {
      const answer = call();
      watch.called?.(entering);
      return await answer;
    } finally {
      watch.left?.(entering);
    }
  };
  const dressed = (step: Step, runId: string): Step => {
    const occurrences = new Map<string, number>();
    const run = (name: string, fn: StepFake, options?: StepOptions) => {
      if (typeof fn !== 'function') return step.run(name, fn, options); // the real one says what is wrong
      const occurrence = (occurrences.get(name) ?? 0) + 1;
      occurrences.set(name, occurrence);
      const place = { runId, name, occurrence };
      const chosen = Object.hasOwn(steps, name) ? steps[name]! : fn;
      const play = (context: StepContext) =>
        watched({ ...place, idempotencyKey: context.idempotencyKey, kind: 'step' }, () => chosen(context));
      const undone = typeof options?.undo === 'function' && undoOf(name, fakes, options.undo);
      const undo = undone && {
        undo: (context: UndoContext) =>
          watched({ ...place, idempotencyKey: context.idempotencyKey, kind: 'undo' }, () => undone(context)),
      };
      return step.run(name, play, options && { ...options, ...undo });
    };
    return { ...step, run: run as Step['run'] };
  };
  const { onFailed } = job.options;
  const told = onFailed && {
    onFailed(context: Parameters<typeof onFailed>[0]) {
      const { id: runId } = context.run;
      const place = { runId, name: 'stepfast:onFailed', occurrence: 1, idempotencyKey: `${runId}/onFailed` };
      return watched({ ...place, kind: 'onFailed' }, () => onFailed(context));
    },
  };
  return {
    ...job,
    // Time is skipped by the month: what has ended must still be there to be looked at.
    options: { ...job.options, ...told, retention: Infinity },
    handler: (context: HandlerContext<never>) =>
      job.handler({ ...context, step: dressed(context.step, context.run.id) }),
  };
}
