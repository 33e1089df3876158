import type { Job } from '../door/job.js';
import type { RunSnapshot, TimelineEntry } from '../run/inspect.js';
import type { Entering } from './fakes.js';
import { checkPlay, checkScenario, PLAY, type PlayOptions, type Scenario } from './scenario.js';
import { createStage, openApp } from './stage.js';

/** A run that was played to its end, or to where nothing happens any more. */
export interface TestedRun<Result = unknown> extends RunSnapshot<Result> {
  /** All that happened to the run, in order. */
  readonly timeline: readonly TimelineEntry[];
  /** The steps whose functions were entered, in order, once for each attempt; those of other jobs as well. */
  readonly entered: readonly string[];
  /** What went wrong and had no caller to tell. */
  readonly errors: readonly unknown[];
}

/**
 * Plays a job once, in memory and without waiting: sleeps, retries and timeouts take no time.
 *
 * Steps can be replaced and events fed by name. Ids, `step.uuid` and `step.random` are the same every time. A run that
 * fails is a result like any other; one that waits for what nobody does is `waiting`.
 *
 * @throws {StepfastError} `INVALID_OPTION`, what `start` refuses, `NOTHING_DUE` for a flow without end, and for one that is left at
 * work: what follows was not played.
 * @example
 * const run = await testRun(onboarding, {
 *   payload: { userId: '42', email: 'ada@example.com' },
 *   steps: { 'send-verification-email': () => undefined },
 *   events: { 'email.verified': { userId: '42' } },
 * });
 * expect(run).toMatchObject({ status: 'completed', result: { onboarded: true } });
 */
export async function testRun<Payload, Result, Input>(
  job: Job<Payload, Result, Input>,
  ...[scenario = {} as Scenario<Input>, options = {}]: undefined extends Input
    ? [scenario?: Scenario<NoInfer<Input>>, options?: PlayOptions]
    : [scenario: Scenario<NoInfer<Input>>, options?: PlayOptions]
): Promise<TestedRun<Result>> {
  checkScenario(job, scenario);
  checkPlay(options, PLAY);
  const entered: string[] = [];
  const errors: unknown[] = [];
  const stage = await createStage(job, scenario as Scenario<unknown>, options);
  const tell = ({ name, kind }: Entering) => {
    if (kind !== 'onFailed') entered.push(kind === 'undo' ? `undo ${name}` : name);
  };
  const app = openApp(
    stage,
    (store) => store,
    { entered: tell },
    (error) => void errors.push(error),
  );
  try {
    await app.play();
    const { snapshot, timeline } = await app.view();
    return { ...(snapshot as RunSnapshot<Result>), timeline, entered, errors };
  } finally {
    await app.stepfast.close();
    await stage.medium.dispose?.();
  }
}
