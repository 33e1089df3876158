import { type AnyJob, validate } from '../door/job.js';
import { isStepfastError } from '../errors.js';
import { LIMITS } from '../limits.js';
import { type FunctionCommand, functionOf } from '../replay/command.js';
import { extend } from '../replay/digest.js';
import { nextGeneration } from '../replay/keys.js';
import type { Ask, Ending } from '../replay/replay.js';
import type { JournalEntry, OutcomeEntry } from '../store/journal.js';
import { afterOf } from '../store/transition/scope.js';
import { perform } from '../store/transition/work.js';
import { createBounds } from './bounds.js';
import { carriesFailure, createRetries, isOutage } from './failures.js';
import type { DriverHost } from './host.js';
import { judge } from './judge.js';
import type { Draft, Fact, LiveRun } from './live-run.js';
import { linesIn, ofEarlier } from './log.js';
import { type Due, nextDue, openWaits, passedOver, unjudged } from './questions.js';

/*
 * What happened to a run, as entries of its journal: what the handler opened, functions that ended, events, ends of
 * children, instants that have passed, the end. Everything goes into the draft of one round; the driver commits it.
 *
 * N1. An entry is folded into the digest at once, so that the rest of the round sees it. If the commit does not happen,
 *     the driver sets the digest back to what is durable.
 */

interface RecorderOptions {
  readonly host: Pick<DriverHost, 'owner' | 'codec' | 'platform' | 'retry' | 'report' | 'maxOutcomes' | 'maxRunBytes'>;
  readonly run: LiveRun;
  readonly job: AnyJob;
  /** Lets the handler react to what was fed to it. */
  react(draft: Draft): Promise<void>;
}

export type Recorder = ReturnType<typeof createRecorder>;

export function createRecorder({ host, run, job, react }: RecorderOptions) {
  const { owner, codec, platform } = host;
  const { job: jobName } = run.row;
  const { retryDelay } = createRetries({ host, run, job });
  const bounds = createBounds({ host, run, job, fail: (draft, error) => fail(draft, error) });

  const open = (draft: Draft, { key, id, command }: Ask) => {
    const at = draft.now;
    const said = run.said.get(key) ?? 0;
    if (command.kind === 'sleep' && !run.digest.sleeps.has(key))
      record(draft, { kind: 'sleep-set', at, id, dueAt: command.until(at) }, said);
    if (command.kind !== 'wait' || run.digest.waits.has(key)) return;
    const { events, key: correlationKey, onTimeout, timeoutMs, lookbackMs } = command;
    const isRival = ({ set }: { readonly set: { readonly key?: string; readonly events: readonly string[] } }) =>
      set.key === correlationKey && set.events.some((name) => events.includes(name));
    if (openWaits(run).some(isRival))
      platform.warn(`Job "${jobName}" has two open waits on one event and key: they are served in order of asking.`);
    run.offers.expire(at);
    const deadline = timeoutMs === undefined ? undefined : at + timeoutMs;
    const lookbackFrom = lookbackMs === undefined ? undefined : Math.max(0, at - lookbackMs);
    const entry = { kind: 'wait-set', at, id, events, key: correlationKey, deadline, onTimeout, lookbackFrom } as const;
    record(draft, entry, said);
  };

  /** A function is entered after this commit: from then on what can be undone may have happened. */
  const begin = (draft: Draft, { key, id, command }: Ask) => {
    if (functionOf(command)?.undo && !run.digest.undos.has(key))
      record(draft, { kind: 'undo-set', at: draft.now, id }, run.said.get(key) ?? 0);
  };

  /** @param said So many lines of the handler come before it; all that are known, where it was not asked for earlier (spec V2). */
  const record = (draft: Draft, entry: JournalEntry, said = Infinity) => {
    claim(draft);
    while (run.logs.length && run.digest.handlerLogs < said) {
      const line = run.logs.shift()!;
      add(draft, { ...line, at: Math.min(line.at, entry.at) }); // the instant of an entry is that of its round
    }
    add(draft, entry);
  };
  const add = (draft: Draft, entry: JournalEntry) => {
    draft.entries.push(entry);
    extend(run.digest, [entry]);
  };

  /** The first entry of a commit that takes the run over says so. */
  const claim = (draft: Draft) => {
    if (run.isOwner || draft.entries.length) return;
    const interrupted = run.isInterrupted || undefined;
    add(draft, { kind: 'claimed', at: draft.now, owner, fence: run.row.fence + 1, interrupted });
  };

  const fail = (draft: Draft, error: unknown) =>
    record(draft, { kind: 'failed', at: draft.now, error: codec.encodeError(error) });

  /**
   * Records an outcome and lets the handler react to it: now, or (spec R11) after the commit. A promise only where there is
   * something to wait for, as below: this is called for each step.
   */
  const settle = (draft: Draft, { key }: Ask, entry: OutcomeEntry, isLater = false): Promise<void> | undefined => {
    if (bounds.isFull(draft)) return undefined;
    record(draft, entry);
    run.asks.delete(key);
    run.begun.delete(key);
    const index = run.digest.entries.length - 1;
    const feed = () => run.replay?.feed(key, entry, index);
    if (isLater) {
      draft.later.push(() => {
        run.feeds.push(feed);
        run.isStirred = true;
      });
      return undefined;
    }
    feed();
    return react(draft);
  };

  /** A value that is made on the spot is recorded with whatever this commit is about. */
  const make = async (draft: Draft, ask: Ask) => {
    const { word, make: made } = ask.command as Extract<Ask['command'], { kind: 'make' }>;
    const position = { at: draft.now, id: ask.id, ...run.replay!.position(ask.key) };
    await settle(draft, ask, { kind: 'value-made', ...position, word, value: made() });
  };

  /** Functions that ended, in the order in which they did. */
  const takeFacts = async (draft: Draft, isLater: boolean) => {
    for (const fact of run.facts) {
      if (run.fault || run.digest.end || draft.later.length) return; // later: the handler hears of one at a time (spec R7)
      draft.facts.add(fact);
      const { key } = fact.ask;
      const last = run.digest.failures.get(key); // not one before a retry, which may have been at the same instant
      const isKnown = last?.at === fact.at && last.attempt === fact.attempt;
      // Committed already, and only the response was lost; or nobody waits for it any more.
      const isOver = run.digest.outcomeKeys.has(key) || run.digest.children.has(key) || run.withdrawn.has(key);
      const reacting = !isKnown && !isOver && takeFact(draft, fact, isLater);
      if (reacting) await reacting;
    }
  };

  const takeFact = (draft: Draft, fact: Fact, isLater: boolean): Promise<void> | undefined => {
    const { ask, attempt, at, outcome } = fact;
    const { id, key } = ask;
    const { kind, retry: own, job: child } = ask.command as FunctionCommand;
    const word = kind === 'run' ? undefined : kind;
    const position = { at, id, attempt, word, ...run.replay!.position(key) };
    if ('value' in outcome) {
      for (const change of fact.state) {
        draft.state.push(change);
        draft.stateFacts.push(fact);
      }
      const value = outcome.value as never;
      if (kind !== 'call')
        return settle(draft, ask, Object.assign({ kind: 'step-completed' } as const, position, { value }), isLater);
      record(draft, { kind: 'child-set', at, id, runId: childId(value), job: child! });
      return undefined;
    }
    // No fault of the step, and no attempt of it: the store failed under one of our own words (spec D5), or this context
    // has not registered the job of a child, so that the run waits for one that has (spec R5).
    const isStranger = kind !== 'run' && isStepfastError(outcome.error, 'UNKNOWN_JOB');
    if (isStranger || (kind !== 'run' && isOutage(outcome.error))) {
      run.facts = run.facts.filter((each) => each !== fact);
      if (!isStranger) throw outcome.error;
      run.fault = outcome.error as Error;
      return undefined;
    }
    const { isUnknown } = outcome;
    const error = codec.encodeError(outcome.error);
    const failures = (run.digest.failures.get(key)?.count ?? 0) + 1;
    const delayMs = fact.isFinal ? undefined : retryDelay(outcome.error, own, failures);
    if (delayMs === undefined)
      return settle(draft, ask, { kind: 'step-failed', ...position, error, isUnknown }, isLater);
    record(draft, { kind: 'attempt-failed', at, id, attempt, word, error, retryAt: at + delayMs, isUnknown });
    return undefined;
  };
  const childId = (value: never) => (codec.decode(value) as { readonly id: string }).id;

  const takeDue = async (draft: Draft) => {
    while (!run.fault && !run.ending && !run.digest.end) {
      const open = unjudged(run);
      if (open.length) for (const refusal of await judge(run, host, open, draft.now)) record(draft, refusal);
      const next = nextDue(run, draft);
      if (!next) return;
      await settleDue(draft, next);
    }
  };

  const settleDue = (draft: Draft, { ask, asked, event, child }: Due): Promise<void> | undefined => {
    const position = { at: draft.now, id: ask.id, ...run.replay!.position(ask.key) };
    if (child) {
      const { runId: childRun } = child;
      if ('value' in child)
        return settle(draft, ask, { kind: 'child-completed', ...position, runId: childRun, value: child.value });
      return settle(draft, ask, { kind: 'child-failed', ...position, runId: childRun, error: child.error });
    }
    if (!asked) return settle(draft, ask, { kind: 'sleep-ended', ...position });
    const { wait } = asked;
    if (event) {
      const { seq, id: eventId, name, key, payload, acceptedAt } = event;
      draft.takes.push({ seq, untaken: seq <= afterOf(wait, name) || undefined });
      const over = passedOver(run, asked, event);
      const taken = { seq, eventId, event: name, key, payload, acceptedAt, over: over.length ? over : undefined };
      return settle(draft, ask, Object.assign({ kind: 'event-taken' } as const, position, taken));
    }
    // Up to the last of its name that was offered, all were looked at: only a later one may overtake the timeout (spec E5).
    // Of another name there may be earlier ones: too late for this wait, and to be left for the next.
    const seen = (name: string) => run.offers.of([name], wait.key).map(({ seq }) => seq);
    const afters = wait.events.map((name) => Math.max(afterOf(wait, name), ...seen(name)));
    const looked = { ...wait, lookbackFrom: undefined, afters };
    draft.unless.push(run.isBlind ? wait : looked);
    const entry = { kind: 'wait-timed-out', ...position, deadline: wait.deadline! } as const;
    if (run.digest.waits.get(ask.key)!.onTimeout !== 'cancel') return settle(draft, ask, entry);
    record(draft, entry);
    record(draft, { kind: 'cancelled', at: draft.now });
    return undefined;
  };

  /** The handler has settled and its steps are finished (spec R8). `retries`: it threw, and is to be tried again. */
  const end = async (draft: Draft, ending: Ending): Promise<'retries' | undefined> => {
    const at = draft.now;
    if (ending.kind === 'restarts') {
      restart(draft, ending.payload);
      return undefined;
    }
    try {
      if (ending.kind === 'threw') throw ending.error;
      if (run.unkept) throw run.unkept;
      const value = await perform(
        validate(job.options.result, ending.value, `The result of job "${jobName}"`, 'the run has failed'),
      );
      record(draft, { kind: 'completed', at, value: codec.encode(value, `the result of job "${jobName}"`) });
      return undefined;
    } catch (thrown) {
      const error = codec.encodeError(thrown);
      const attempt = (run.digest.handlerFailures?.count ?? 0) + 1;
      const isFinal = ending.kind === 'returned' || carriesFailure(error);
      const delayMs = isFinal ? undefined : retryDelay(thrown, undefined, attempt);
      if (delayMs === undefined) {
        fail(draft, thrown);
        return undefined;
      }
      record(draft, { kind: 'handler-failed', at, attempt, error, retryAt: at + delayMs });
      return 'retries';
    }
  };

  /** A new journal in the place of the old one: it remembers the start, and which events were taken. */
  const restart = (draft: Draft, payload: Extract<Ending, { kind: 'restarts' }>['payload']) => {
    const { digest } = run;
    const started = digest.entries[0] as Extract<JournalEntry, { kind: 'started' }>;
    const { floors: _, left: _left, forkedFrom: _copied, ...first } = started;
    const floors = [...digest.lastTaken].slice(-LIMITS.carried);
    const left = floors.flatMap(([pair]) => {
      const seqs = digest.left.get(pair);
      return seqs ? [[pair, seqs.slice(-LIMITS.carried)] as const] : [];
    });
    const lines = linesIn(draft.entries).map(ofEarlier); // said in the journal before, they are told in this one
    const anew: JournalEntry = {
      ...first,
      at: draft.now,
      payload,
      given: first.given ?? first.payload,
      generation: nextGeneration(digest),
      ...(floors.length && { floors }),
      ...(left.length && { left }),
    };
    draft.entries.splice(0, Infinity, anew, ...lines);
    draft.isReset = true;
  };

  return {
    record,
    claim,
    open,
    begin,
    make,
    restart,
    takeFacts,
    takeDue,
    end,
    retryDelay,
    ...bounds,
  };
}
