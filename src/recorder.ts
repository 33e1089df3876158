import type { Codec } from './codec.js';
import { extend } from './digest.js';
import { durationMs } from './duration.js';
import { type ErrorCode, StepfastError } from './errors.js';
import { type AnyJob, validate } from './job.js';
import type { JournalEntry, OutcomeEntry, RecordedError } from './journal.js';
import { type Draft, type Due, type LiveRun, nextDue, openWaits } from './live-run.js';
import type { Platform } from './platform.js';
import type { Ask, Ending } from './replay.js';
import { type RetryOptions, type RetryPolicy, resolveRetry, retryDelayMs } from './retry.js';

/*
 * What happened to a run, as entries of its journal: what the handler opened, functions that ended, events, instants that
 * have passed, the end. Everything goes into the draft of one round; the driver commits it.
 *
 * N1. An entry is folded into the digest at once, so that the rest of the round sees it. If the commit does not happen,
 *     the driver sets the digest back to what is durable.
 */

/** Named limits of one run (spec R7, R12). */
export const LIMITS = { outcomes: 10_000, openWaits: 1_000, stallMs: 2_000, backoffMs: 1_000, maxBackoffMs: 30_000 };

interface RecorderOptions {
  readonly run: LiveRun;
  readonly job: AnyJob;
  readonly owner: string;
  readonly codec: Codec;
  readonly platform: Platform;
  /** Retry options of the start and of the engine. */
  readonly startRetry: RetryOptions | undefined;
  readonly retry: RetryOptions | undefined;
  /** Lets the handler react to what was fed to it. */
  react(draft: Draft): Promise<void>;
  report(error: unknown): void;
}

export function createRecorder({
  run,
  job,
  owner,
  codec,
  platform,
  startRetry,
  retry,
  react,
  report,
}: RecorderOptions) {
  const { runId, job: jobName } = run.row;
  const place = { runId, job: jobName };
  const policyOf = (step?: RetryOptions): RetryPolicy => resolveRetry(step, startRetry, job.options.retry, retry);

  const open = (draft: Draft, { key, id, command }: Ask) => {
    const at = draft.now;
    if (command.kind === 'sleep' && !run.digest.sleeps.has(key))
      record(draft, { kind: 'sleep-set', at, id, dueAt: command.until(at) });
    if (command.kind !== 'wait' || run.digest.waits.has(key)) return;
    const { events, key: correlationKey, onTimeout, timeoutMs, lookbackMs } = command;
    const isRival = ({ set }: { readonly set: { readonly key?: string; readonly events: readonly string[] } }) =>
      set.key === correlationKey && set.events.some((name) => events.includes(name));
    if (openWaits(run).some(isRival))
      platform.warn(`Job "${jobName}" has two open waits on one event and key: they are served in order of asking.`);
    record(draft, {
      kind: 'wait-set',
      at,
      id,
      events,
      key: correlationKey,
      deadline: timeoutMs === undefined ? undefined : at + timeoutMs,
      onTimeout,
      lookbackFrom: lookbackMs === undefined ? undefined : Math.max(0, at - lookbackMs),
    });
  };

  const record = (draft: Draft, entry: JournalEntry) => {
    claim(draft);
    draft.entries.push(entry);
    extend(run.digest, [entry]);
  };

  /** The first entry of a commit that takes the run over says so. */
  const claim = (draft: Draft) => {
    if (run.isOwner || draft.entries.length) return;
    const interrupted = run.isInterrupted || undefined;
    const entry = { kind: 'claimed', at: draft.now, owner, fence: run.row.fence + 1, interrupted } as const;
    draft.entries.push(entry);
    extend(run.digest, [entry]);
  };

  const fail = (draft: Draft, error: unknown) =>
    record(draft, { kind: 'failed', at: draft.now, error: codec.encodeError(error) });

  /** Records an outcome and lets the handler react to it: now, or (spec R11) after the commit. */
  const settle = async (draft: Draft, { key }: Ask, entry: OutcomeEntry, isLater = false) => {
    if (run.digest.outcomes.length >= LIMITS.outcomes)
      return exceed(draft, 'JOURNAL_FULL', `${LIMITS.outcomes} outcomes`);
    record(draft, entry);
    run.asks.delete(key);
    const index = run.digest.entries.length - 1;
    const feed = () => run.replay?.feed(key, entry, index);
    if (isLater) {
      draft.later.push(() => {
        run.feeds.push(feed);
        run.isStirred = true;
      });
      return;
    }
    feed();
    await react(draft);
  };

  /** Functions that ended, in the order in which they did. */
  const takeFacts = async (draft: Draft, isLater: boolean) => {
    for (const fact of run.facts) {
      if (run.fault || run.digest.end || draft.later.length) return; // later: the handler hears of one at a time (spec R7)
      draft.facts.add(fact);
      const { ask, attempt, at, outcome } = fact;
      const { id, key } = ask;
      const last = run.digest.shapes.get(key);
      const isKnown = last?.kind === 'attempt-failed' && last.at === at && last.attempt === attempt;
      if (isKnown || run.digest.outcomeKeys.has(key)) continue; // committed already: only the response was lost
      const position = { at, id, attempt, ...run.replay!.position(key) };
      if ('value' in outcome) {
        const value = outcome.value as never;
        await settle(draft, ask, { kind: 'step-completed', ...position, value }, isLater);
        continue;
      }
      const error = codec.encodeError(outcome.error);
      const { options } = ask.command as Extract<Ask['command'], { kind: 'run' }>;
      const failures = (run.digest.failures.get(key)?.count ?? 0) + 1;
      const delayMs = retryDelay(outcome.error, policyOf(options.retry), failures);
      if (delayMs === undefined) await settle(draft, ask, { kind: 'step-failed', ...position, error }, isLater);
      else record(draft, { kind: 'attempt-failed', at, id, attempt, error, retryAt: at + delayMs });
    }
  };

  /** The delay before the next attempt; `undefined`: there is none (spec F1, F3). */
  const retryDelay = (error: unknown, policy: RetryPolicy, failures: number): number | undefined => {
    const { code, after } = (error ?? {}) as { readonly [key: string]: unknown };
    if (failures >= policy.maxAttempts || isNamed(error, 'FatalError')) return undefined;
    if (code === 'NOT_SERIALIZABLE' || code === 'VALUE_TOO_LARGE') return undefined;
    if (after !== undefined && isNamed(error, 'RetryableError'))
      try {
        return durationMs(after, 'RetryableError.after');
      } catch (invalid) {
        report(invalid); // the step failed, whatever is wrong with its wish: the policy decides
      }
    return retryDelayMs(policy, failures, platform.random());
  };

  const takeDue = async (draft: Draft) => {
    while (!run.fault && !run.ending && !run.digest.end) {
      const next = nextDue(run, draft);
      if (!next) return;
      await settleDue(draft, next);
    }
  };

  const settleDue = async (draft: Draft, { ask, wait, event }: Due) => {
    const position = { at: draft.now, id: ask.id, ...run.replay!.position(ask.key) };
    if (!wait) return settle(draft, ask, { kind: 'sleep-ended', ...position });
    if (event) {
      const { seq, id: eventId, name, key, payload, acceptedAt } = event;
      draft.takes.push({ seq, untaken: seq <= wait.after || undefined });
      const taken = { seq, eventId, event: name, key, payload, acceptedAt };
      return settle(draft, ask, { kind: 'event-taken', ...position, ...taken });
    }
    // Up to the last event that was offered, all were looked at: only a later one may overtake the timeout (spec E5).
    const seen = [...run.offers.keys()];
    draft.unless.push({ ...wait, lookbackFrom: undefined, after: Math.max(wait.after, ...seen) });
    const entry = { kind: 'wait-timed-out', ...position, deadline: wait.deadline! } as const;
    if (run.digest.waits.get(ask.key)!.onTimeout !== 'cancel') return settle(draft, ask, entry);
    record(draft, entry);
    record(draft, { kind: 'cancelled', at: draft.now });
  };

  /** The handler has settled and its steps are finished (spec R8). `retries`: it threw, and is to be tried again. */
  const end = async (draft: Draft, ending: Ending): Promise<'retries' | undefined> => {
    const at = draft.now;
    try {
      if (ending.kind === 'threw') throw ending.error;
      const value = await validate(job.options.result, ending.value, `The result of job "${jobName}"`);
      record(draft, { kind: 'completed', at, value: codec.encode(value, `the result of job "${jobName}"`) });
      return undefined;
    } catch (thrown) {
      const error = codec.encodeError(thrown);
      const attempt = (run.digest.handlerFailures?.count ?? 0) + 1;
      const isFinal = ending.kind === 'returned' || carriesFailure(error);
      const delayMs = isFinal ? undefined : retryDelay(thrown, policyOf(), attempt);
      if (delayMs === undefined) {
        fail(draft, thrown);
        return undefined;
      }
      record(draft, { kind: 'handler-failed', at, attempt, error, retryAt: at + delayMs });
      return 'retries';
    }
  };

  const checkLimits = (draft: Draft) => {
    const { digest } = run;
    const limit = job.options.maxInterruptions ?? 10;
    if (!run.isOwner && run.isInterrupted && digest.interruptions + 1 >= limit)
      return fail(
        draft,
        new StepfastError(
          'CRASH_LOOP',
          `The run was interrupted ${limit} times in a row without progress. Find what crashes, then call runs.retry.`,
          place,
        ),
      );
    if (openWaits(run).length > LIMITS.openWaits) exceed(draft, 'TOO_MANY_WAITS', `${LIMITS.openWaits} open waits`);
  };

  const exceed = (draft: Draft, code: ErrorCode, what: string) =>
    fail(draft, new StepfastError(code, `The run has more than ${what}. Split the job in two.`, place));

  return { record, claim, open, takeFacts, takeDue, end, checkLimits };
}

/** Whether an error is of this class or a subclass, of this or another copy of the library. */
const isNamed = (error: unknown, name: string): boolean => {
  for (let proto = error; proto instanceof Object; proto = Object.getPrototypeOf(proto))
    if (Object.hasOwn(proto, 'name') && (proto as { readonly name?: unknown }).name === name) return true;
  return false;
};

/** Whether an error is, or carries, a failure that is recorded: trying the handler again would repeat it (spec F2). */
const carriesFailure = ({ code, cause, errors = [] }: RecordedError): boolean =>
  code === 'STEP_FAILED' || code === 'EVENT_TIMEOUT' || [...errors, ...(cause ? [cause] : [])].some(carriesFailure);
