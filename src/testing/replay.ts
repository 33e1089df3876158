import { type AnyJob, checkJob } from '../door/job.js';
import type { State } from '../door/state.js';
import { checkReplayable } from '../engine/exported.js';
import { StepfastError } from '../errors.js';
import { digestOf, undosLeft } from '../replay/digest.js';
import { mismatch } from '../replay/mismatch.js';
import { type Ask, createReplay, type Turn } from '../replay/replay.js';
import { createStep } from '../replay/step.js';
import { undoMissing } from '../run/aftermath.js';
import { upgradeOf } from '../run/upgrade.js';
import { FORMAT_VERSION, type JournalEntry, namespaceOf } from '../store/journal.js';
import type { RunRow } from '../store/rows.js';
import { systemPlatform } from '../system.js';
import { checkOptions, checkPlain } from '../values/check.js';
import { createCodec } from '../values/codec.js';
import { standIn } from './stand-in.js';

/** What `runs.export` gives, as far as a replay needs it. */
export interface ReplayableRun {
  readonly format: number;
  readonly run: Pick<RunRow, 'runId' | 'job' | 'version' | 'createdAt' | 'tags'>;
  readonly journal: readonly JournalEntry[];
}

/** A word of the handler, as a report names it. */
export interface ReplayedAsk {
  readonly kind: string;
  readonly name: string;
  readonly occurrence: number;
}

/** How code fits a run that other code has begun. */
export interface ReplayReport {
  /** The code goes on where the run stands, asks for all that is recorded, and can undo what may be to be undone. */
  readonly fits: boolean;
  /** In words: which step, what is recorded, what the code asks for instead, what to do about it. */
  readonly problems: readonly string[];
  /** Recorded, and asked for again, in the order of asking. */
  readonly replayed: readonly ReplayedAsk[];
  /** New in the code, in front of what is recorded: they run before that is asked for. */
  readonly inserted: readonly ReplayedAsk[];
  /** What the run does or waits for next. */
  readonly next: readonly ReplayedAsk[];
  /** How the handler ended, if the journal takes it to its end. */
  readonly ending?: 'returned' | 'threw' | 'restarts';
}

const askedOf = ({ id: [name, occurrence], command: { kind } }: Ask): ReplayedAsk => ({ kind, name, occurrence });

export interface ReplayOptions {
  /**
   * What words that are new in the code would give, by their names, where others stand behind them that are recorded: results
   * of steps and calls, payloads of events. Default: `undefined`.
   */
  readonly results?: { readonly [name: string]: unknown };
  /** What the shared state holds, for a handler that reads it. Default: nothing. */
  readonly state?: { readonly [key: string]: unknown };
}

/** The shared state of one replay: what is written to it stays there, and every lock is free. */
function stateOf(values: { readonly [key: string]: unknown }): State {
  const rows = new Map(Object.entries(values));
  return {
    get: async <Value>(key: string) => rows.get(key) as Value | undefined,
    set: async (key, value) => void rows.set(key, value),
    delete: async (key) => void rows.delete(key),
    async increment(key, by = 1) {
      const sum = ((rows.get(key) ?? 0) as number) + by;
      rows.set(key, sum);
      return sum;
    },
    lock: async () => ({ token: 1, release: async () => undefined }),
  };
}

/** Nothing outside happens in a replay: what would do something, or depends on it, stays open. */
const nothing = () => new Promise<never>(() => undefined);

/** Of a run over which nothing is replayed. */
const NOTHING = { replayed: [], inserted: [], next: [] };

/** How long a handler that awaits something else between its steps is given. */
const PATIENCE_MS = 1_000;

/**
 * Replays a run that was exported from a real app against the code at hand, for an app's CI: does it still fit?
 *
 * Runs the handler, `migrate` included, over what is recorded; enters no step and writes nothing. What the handler reads of
 * the shared state is given with `options.state`.
 *
 * @param exported What `runs.export` of `stepfast/transfer` gave.
 * @throws {StepfastError} `INVALID_PAYLOAD` with the path of what is no part of an exported run; `STORE_TOO_NEW`; `UNKNOWN_JOB` when
 * the run is of another job.
 * @example expect(await replay(JSON.parse(file), checkout)).toMatchObject({ fits: true });
 */
export async function replay(exported: ReplayableRun, job: AnyJob, options: ReplayOptions = {}): Promise<ReplayReport> {
  checkOptions(options, ['results', 'state'], 'The options of replay');
  const { results = {}, state = {} } = options;
  for (const [option, given] of Object.entries({ results, state })) checkPlain(given, option);
  checkJob(job);
  const platform = systemPlatform();
  const codec = createCodec({ URL: platform.URL, blobs: true });
  if (exported?.format > FORMAT_VERSION)
    throw new StepfastError('STORE_TOO_NEW', `The run was exported by a newer stepfast (format ${exported.format}).`);
  checkReplayable(exported, codec);
  const { run: row } = exported;
  if (row.job !== job.name)
    throw new StepfastError('UNKNOWN_JOB', `The run is of job "${row.job}". Give that job, not "${job.name}".`);
  const digest = digestOf(exported.journal);
  const problems: string[] = [];
  const { version = 1 } = job.options;
  if (row.version > version)
    problems.push(
      `The run is of version ${row.version}, and job "${job.name}" of version ${version}: older code never takes it up.`,
    );
  try {
    const upgrade = upgradeOf({ row: row as RunRow, digest: { ...digest, end: undefined } }, job, codec, row.createdAt);
    if (upgrade?.then === 'abandon') problems.push('The run is cancelled: the job abandons runs of earlier versions.');
    if (upgrade && upgrade.then !== 'continue') return { fits: !problems.length, problems, ...NOTHING };
    if (upgrade) return replayOver(digestOf([...exported.journal, upgrade.entry]));
  } catch (error) {
    return { fits: false, problems: [(error as Error).message], ...NOTHING };
  }
  return replayOver(digest);

  async function replayOver(over: typeof digest): Promise<ReplayReport> {
    const replayed: ReplayedAsk[] = [];
    const inserted: ReplayedAsk[] = [];
    const asked = new Set<string>();
    const undoable = new Set<string>();
    const context = {
      payload: codec.decode(over.payload) as never,
      step: createStep({
        host: { codec, platform, start: nothing, dispatch: nothing },
        replay: () => pass,
        undoable: (key) => undoable.add(key),
      }),
      state: stateOf(state),
      log: { debug() {}, info() {}, warn() {}, error() {} },
      run: {
        id: row.runId,
        job: job.name,
        createdAt: row.createdAt,
        tags: row.tags ?? [],
        generation: over.generation,
        ...(over.schedule && { schedule: over.schedule }),
      },
      signal: platform.newAbort().signal,
    };
    const pass = createReplay({
      ...over,
      hop: platform.hop,
      invoke: () => job.handler(context),
      check(ask) {
        asked.add(ask.key);
        if (over.outcomeKeys.has(ask.key)) replayed.push(askedOf(ask));
        return mismatch(ask, over);
      },
      since: (key) => over.since.get(key),
      onAsk: () => wake(),
    });
    let wake: () => void = () => undefined;
    const stirred = () =>
      new Promise<boolean>((resolve) => {
        wake = () => resolve(true);
        platform.patience(PATIENCE_MS, () => resolve(false));
      });
    const opened = new Map<string, Ask>();
    /** What is recorded may be asked for behind what is new: that is settled, as it will be when it has run (spec R4). */
    const passesNew = (): boolean => {
      if (!pass.unasked().length) return false;
      const fresh = [...opened.values()].filter(({ key }) => !over.shapes.has(key));
      for (const ask of fresh) {
        opened.delete(ask.key);
        inserted.push(askedOf(ask));
        pass.feed(ask.key, standIn(ask, pass.position(), codec, results));
      }
      return fresh.length > 0;
    };
    let turn: Turn;
    let isMore = true;
    do {
      turn = await pass.turn();
      for (const ask of turn.opened) opened.set(ask.key, ask);
      for (const key of turn.withdrawn) opened.delete(key);
      const isSilent = !opened.size && !turn.ending && !turn.fault && !turn.isStalled;
      if (isSilent && (await stirred())) continue;
      if (!turn.fault && !turn.ending && passesNew()) continue;
      if (!turn.fault && turn.isStalled && (await stirred())) continue;
      if (turn.isStalled) for (const { entry } of pass.skip().ids) problems.push(unasked(entry, job.name));
      isMore = turn.isStalled && !turn.fault;
    } while (isMore);
    if (turn.fault) problems.push(turn.fault.message);
    const { ending } = turn;
    const left = turn.fault ? [] : pass.unasked();
    if (left.length && ending?.kind === 'threw') problems.push(thrownEarly(ending.error, inserted));
    for (const { entry } of left) {
      const problem = unasked(entry, job.name);
      if (!problems.includes(problem)) problems.push(problem);
    }
    if (!turn.fault && !over.end)
      for (const [key, { id }] of over.waits)
        if (!over.outcomeKeys.has(key) && !asked.has(key)) problems.push(unheard(id, job.name));
    // Its end may have come already, or may come: then the run is blocked (spec F7).
    if (!turn.fault && over.end?.kind !== 'completed')
      for (const key of undosLeft(over))
        if (!undoable.has(key)) problems.push(undoMissing(job.name, over.undos.get(key)!.id).message);
    const next = [...opened.values()].map(askedOf);
    return { fits: !problems.length, problems, replayed, inserted, next, ...(ending && { ending: ending.kind }) };
  }
}

const unasked = (entry: Extract<JournalEntry, { readonly asked: number }>, jobName: string): string => {
  const [name, occurrence] = entry.id;
  const what = namespaceOf(entry) === 'wait' ? 'wait' : 'step';
  return `${what} "${name}" (occurrence ${occurrence}) is recorded (${entry.kind}), and job "${jobName}" does not ask for it any more. If it was renamed, say so in migrate: its new name would run anew. If it was removed, its result is unused.`;
};

const thrownEarly = (error: unknown, inserted: readonly ReplayedAsk[]): string => {
  const said = `The handler throws before it has asked for all that is recorded: ${String(error)}`;
  const names = inserted.map(({ name }) => `"${name}"`).join(', ');
  return names ? `${said}. The run does not know ${names}: say with \`results\` what they give.` : said;
};

const unheard = ([name, occurrence]: readonly [string, number], jobName: string): string =>
  `wait "${name}" (occurrence ${occurrence}) is open, and job "${jobName}" does not ask for it any more: until something else wakes the run, nothing of the new code happens. Keep the wait, or say in migrate what it is called now.`;
