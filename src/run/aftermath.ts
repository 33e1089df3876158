import type { AnyJob } from '../door/job.js';
import { StepError, StepfastError } from '../errors.js';
import { LIMITS } from '../limits.js';
import type { Platform } from '../platform.js';
import type { FunctionCommand } from '../replay/command.js';
import { undosLeft } from '../replay/digest.js';
import { stepKeyOf, undoAttemptOf } from '../replay/keys.js';
import { type Identity, identityKey, type JournalEntry } from '../store/journal.js';
import type { RunState } from '../store/rows.js';
import type { Codec } from '../values/codec.js';
import type { Json } from '../values/json.js';
import { callUndo } from './attempt.js';
import type { Commits } from './commits.js';
import { type Functions, lateResult } from './functions.js';
import type { DriverHost } from './host.js';
import { refuseIncrements } from './increments.js';
import { errorOf } from './inspect.js';
import { emptyDraft, type LiveRun } from './live-run.js';
import type { Pass } from './pass.js';
import { isHeldBack, retryAt } from './questions.js';
import type { Recorder } from './recorder.js';
import { upgradeOf } from './upgrade.js';

/*
 * What follows the end of a run: its steps are undone in reverse order (spec F7), then `onFailed` is told (spec F6).
 * The status is final already; all of this is journaled behind it, one commit each, at least once.
 *
 * U1. What can be undone was recorded before it was entered (`undo-set`, in the commit that went before), so that any
 *     context knows from the journal alone that something is left to do. The functions themselves come from replaying
 *     the handler: where the code no longer has one, the run is blocked, never silently left as it is.
 */

/** Under this name `onFailed` stands in the journal, beside the steps that are undone. */
const TOLD: Identity = ['stepfast:onFailed', 1];
const TOLD_KEY = identityKey('step', TOLD);

/** One thing that is to be done. */
export interface Following {
  readonly key: string;
  readonly id: Identity;
  readonly retryAt: number;
}

/** What is left, next first. */
export function followings({ digest }: Pick<LiveRun, 'digest'>, job: AnyJob, now: number): Following[] {
  if (!digest.end || digest.end.kind === 'completed') return [];
  const ends = new Map(digest.outcomes.map(({ key, index }) => [key, index]));
  // By its end, or (of unknown outcome) by its beginning.
  const placeOf = (key: string) => ends.get(key) ?? digest.undos.get(key)!.index;
  const keys = undosLeft(digest).sort((a, b) => placeOf(b) - placeOf(a));
  const left = keys.map((key) => ({ key, id: digest.undos.get(key)!.id }));
  if (digest.end.kind === 'failed' && job.options.onFailed && !digest.undone.has(TOLD_KEY))
    left.push({ key: TOLD_KEY, id: TOLD });
  return left.map((each) => ({ ...each, retryAt: retryAt(digest.undoFailures.get(each.key), now) }));
}

export interface AftermathOptions {
  readonly host: DriverHost;
  readonly run: LiveRun;
  readonly job: AnyJob;
  readonly pass: Pass;
  readonly recorder: Recorder;
  readonly commits: Commits;
  /** Aborts when the run is lost, cancelled or let go. */
  readonly signal: ReturnType<Platform['newAbort']>;
  /** The run is let go. */
  readonly going: { readonly promise: Promise<void>; isOver(): boolean };
  /** A suspect (spec F5) undoes with nothing else of its context in flight: it waits for its turn. */
  readonly functions: Pick<Functions, 'stop' | 'takeTurn' | 'watchNetwork'>;
  pump(): void;
  leave(reason?: unknown): void;
}

type Followed = Extract<JournalEntry, { readonly kind: 'undone' | 'undo-failed' | 'undo-attempt-failed' }>;

/** Does one of the things that follow, and tells how it went; `undefined`: the code for it is not there. */
async function follow(
  { host, run, job, recorder }: AftermathOptions,
  { key, id }: Following,
  attempt: number,
  signal: AbortSignal,
  late: Json | undefined,
): Promise<Followed | undefined> {
  const { codec, platform, report } = host;
  const { digest } = run;
  const command = run.undos.get(key);
  const call = key === TOLD_KEY ? () => tell(run, job, codec, signal) : command && undoOf(command);
  if (!call) return undefined;

  function undoOf({ undo }: FunctionCommand) {
    const outcome = digest.outcomes.find((recorded) => recorded.key === key)?.entry;
    const value = outcome?.kind === 'step-completed' ? outcome.value : late;
    const result = value === undefined ? undefined : codec.decode(value);
    const idempotencyKey = `${stepKeyOf(run, key, id)}/undo`;
    return () => callUndo({ run, codec, platform }, undo!, id, { result, attempt, idempotencyKey, signal });
  }

  const outcome = await call();
  const at = platform.clock.now();
  if ('value' in outcome) return { kind: 'undone', at, id, attempt };
  const error = codec.encodeError(outcome.error);
  const delayMs = recorder.retryDelay(outcome.error, command?.retry, (digest.undoFailures.get(key)?.count ?? 0) + 1);
  if (delayMs !== undefined) return { kind: 'undo-attempt-failed', at, id, attempt, error, retryAt: at + delayMs };
  const { runId } = run.row;
  const place = { runId, job: job.name, ...(key !== TOLD_KEY && { step: id[0] }) };
  const said = `${wordsFor(key, id, job)} failed for good at attempt ${attempt}: ${error.message}`;
  report(new StepError('STEP_FAILED', said, place, { cause: outcome.error }));
  return { kind: 'undo-failed', at, id, attempt, error };
}

const wordsFor = (key: string, [name]: Identity, job: AnyJob) =>
  key === TOLD_KEY ? `onFailed of job "${job.name}"` : `The undo of step "${name}"`;

async function tell({ row, digest }: LiveRun, job: AnyJob, codec: Codec, signal: AbortSignal) {
  const { runId: id, createdAt, tags = [] } = row;
  const { end } = digest;
  const error = errorOf((end as Extract<JournalEntry, { kind: 'failed' }>).error);
  const payload = codec.decode(digest.payload) as never;
  try {
    return {
      value: await job.options.onFailed!({ run: { id, job: job.name, createdAt, tags }, payload, error, signal }),
    };
  } catch (thrown) {
    return { error: thrown };
  }
}

/** The code at hand lacks what would undo a step. */
export const undoMissing = (jobName: string, [name]: Identity): StepfastError =>
  new StepfastError(
    'REPLAY_MISMATCH',
    `Step "${name}" of job "${jobName}" is to be undone, and the code at hand has no undo for it, or does not come to it (a step in front has no outcome, or failed). Give it its undo where it is reached, and the run goes on.`,
    { job: jobName, step: name },
  );

/**
 * Makes what drives a run on after its end: call it for each thing that is left.
 *
 * @param stateAt What the row of a run that has ended says at an instant.
 */
export function createAftermath(options: AftermathOptions, stateAt: (now: number) => RunState): () => Promise<void> {
  const { host, run, job, pass, recorder, commits, signal, going, functions, pump, leave } = options;
  const { codec, platform, report } = host;
  const { clock } = platform;
  /** What was done, until a commit has made it durable: should that fail, nothing is done again. */
  let done: { readonly key: string; readonly attempt: number; readonly entry: Followed } | undefined;
  let isImpatient = false;
  let undoPatience: (() => void) | undefined;

  /** One step of what follows the end (D5); the run is left when nothing does. */
  const finish = async (): Promise<void> => {
    run.isStirred = false;
    const { runId } = run.row;
    const ended = () => new StepfastError('LEASE_LOST', `Run ${runId} has ended.`, { runId });
    if (run.running.size || run.facts.length) functions.stop(ended());
    refuseIncrements(run, ended);
    // What its functions told, and what its children came to, is nobody's any more: left, it would call for ever.
    run.progressed = undefined;
    run.news.clear();
    const now = clock.now();
    let next = followings(run, job, now)[0];
    if (!next && !run.row.undoing) return leave();
    run.nextAt = next?.retryAt ?? now;
    if (next && run.nextAt > now) return; // in the row already: the commit that set it said so
    if (next && !(await upgrade(now))) return;
    next = followings(run, job, now)[0]; // by its present name
    if (next && !(await findUndo(next))) return;
    const needsNetwork = next !== undefined && mustWait(next);
    functions.watchNetwork(needsNetwork);
    if (needsNetwork) return holdBack();
    if (next) await functions.takeTurn();
    if (going.isOver()) return;
    // Nothing is entered before the store has confirmed that it is ours to do, and has noted that it is under way.
    const entries = unsaid();
    if (!run.isOwner || !next || run.row.dueAt !== 0 || entries.length) {
      const at = clock.now();
      if (!(await commits.commit({ ...emptyDraft(at), entries }, stateAt(at))) || !next)
        return next ? undefined : leave();
    }
    const late = await Promise.race([lateResult(run.late.get(next.key), { platform }), going.promise]);
    if (going.isOver() || !(await commits.isConfirmed()) || going.isOver()) return;
    const attempt = undoAttemptOf(run.digest, next.key);
    const doing = isLooping()
      ? givenUp(next, clock.now())
      : (doneOf(next) ?? follow(options, next, attempt, signal.signal, late ?? undefined));
    const entry = await Promise.race([doing, going.promise]);
    if (!entry || going.isOver()) return;
    done = { key: next.key, attempt, entry };
    const draft = emptyDraft(clock.now());
    recorder.record(draft, entry);
    if (await commits.commit(draft, stateAt(draft.now))) run.isStirred = true;
  };

  const isLooping = () => run.digest.interruptions >= (job.options.maxInterruptions ?? 10);
  const doneOf = ({ key }: Following): Followed | undefined =>
    done?.key === key && done.attempt === undoAttemptOf(run.digest, key) ? done.entry : undefined;

  /** An undo waits for the network; what is to be recorded of one does not. */
  const mustWait = (next: Following) =>
    isHeldBack(run.undos.get(next.key), platform.isOnline()) && !isLooping() && !doneOf(next);
  /** Nothing of it is under way meanwhile, and the row says so: a crash from here on is not its fault. */
  const holdBack = async () => {
    run.nextAt = Infinity;
    const at = clock.now();
    if (run.isOwner && run.row.dueAt === 0) await commits.commit(emptyDraft(at), stateAt(at));
  };

  /** Recorded, and told by the commit that begins to undo: a run that the code does not fit is left as it is. */
  const unsaid = () => run.digest.entries.slice(run.row.length);
  const upgrade = async (now: number): Promise<boolean> => {
    if (unsaid().length) return true;
    try {
      const found = upgradeOf(run, job, codec, now);
      if (found) recorder.record(emptyDraft(now), found.entry);
      return true;
    } catch (error) {
      return block(error as Error);
    }
  };

  const block = async (error: Error): Promise<false> => {
    commits.rebuild();
    if (run.isOwner) await commits.letGo(clock.now(), []);
    host.blocked(run.row, error, run.digest.entries);
    leave(error);
    return false;
  };

  const givenUp = ({ key, id }: Following, at: number): Followed => {
    const said = `${wordsFor(key, id, job)} was interrupted too often. It is given up; find what crashes.`;
    const error = new StepfastError('CRASH_LOOP', said, { runId: run.row.runId, job: job.name, step: id[0] });
    report(error);
    return { kind: 'undo-failed', at, id, attempt: 1, error: codec.encodeError(error) };
  };

  /** The functions that undo come from the handler: it is replayed, and nothing that it asks for is done. */
  const findUndo = async (next: Following): Promise<boolean> => {
    if (next.id[0] === 'stepfast:onFailed' || run.undos.has(next.key)) return true;
    if (!run.replay) pass.start();
    pass.takeDrift();
    await pass.react(emptyDraft(clock.now()));
    if (run.undos.has(next.key)) {
      undoPatience?.();
      return true;
    }
    if (pass.isStalled() || mayAsk()) {
      run.nextAt = Infinity; // stirred again when it asks, or when replay has gone on without what is missing
      return false;
    }
    return block(run.fault ?? undoMissing(job.name, next.id));
  };

  /** The handler, or a branch of it that awaits something else, may be about to ask for more: as long as replay is patient. */
  const mayAsk = (): boolean => {
    if (isImpatient || run.fault || run.ending) return false;
    undoPatience ??= platform.patience(LIMITS.stallMs, () => {
      isImpatient = run.isStirred = true;
      pump();
    });
    return true;
  };

  return finish;
}
