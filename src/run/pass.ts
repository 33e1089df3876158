import type { AnyJob } from '../door/job.js';
import { createState, type State } from '../door/state.js';
import { LIMITS } from '../limits.js';
import type { Platform } from '../platform.js';
import { functionOf } from '../replay/command.js';
import { mismatch } from '../replay/mismatch.js';
import { type Ask, createReplay, type Ending } from '../replay/replay.js';
import { createStep } from '../replay/step.js';
import type { JournalEntry } from '../store/journal.js';
import type { DriverHost } from './host.js';
import { withLazy } from './lazy.js';
import type { Draft, LiveRun } from './live-run.js';
import { createLog, keepLine, type Log, saidBefore } from './log.js';
import { placed } from './placed.js';

/*
 * The handler of a run, live in memory: started over its recorded outcomes, told of new ones, dropped when memory must be
 * set back. One pass for each life of the process, unless it threw, was dropped, or lost its fence (spec R11).
 */

interface PassOptions {
  readonly host: DriverHost;
  readonly run: LiveRun;
  readonly job: AnyJob;
  /** Aborts when the run is lost, cancelled or let go. */
  readonly abort: ReturnType<Platform['newAbort']>;
  /** The handler asked for something. */
  opened(draft: Draft, ask: Ask): void;
  /** It asked for a value that is made on the spot. */
  made(draft: Draft, ask: Ask): Promise<void>;
  /** A round is wanted, though nobody has asked for one. */
  pump(): void;
}

export type Pass = ReturnType<typeof createPass>;

export function createPass({ host, run, job, abort, opened, made, pump }: PassOptions) {
  const { codec, platform } = host;
  const { runId, job: jobName } = run.row;
  let drift: Extract<JournalEntry, { kind: 'drift' }> | undefined;
  let undoPatience: (() => void) | undefined;
  let unheard = new Map<object, string>();

  const drop = () => {
    run.feeds.length = 0;
    run.held &&= [];
    run.replay?.drop();
    run.handlerLogs = run.digest.handlerLogs + run.logs.filter(({ id }) => !id).length;
    undoPatience?.();
    run.replay = run.ending = run.fault = drift = undefined;
    run.asks.clear();
    run.behind = [];
    run.withdrawn.clear();
    run.undos.clear();
    run.said.clear();
  };

  /** On replay the first lines are those that the journal has: counted, but for those from before a retry, which are compared. */
  const handlerLog = (isLive: () => boolean) => {
    const isKnown = saidBefore(run.digest);
    let count = 0;
    return createLog({
      codec,
      now: platform.clock.now,
      write(line) {
        if (!isLive()) return; // a dropped pass that still runs, because it awaits something else: the next one says it
        if (isKnown(line)) return;
        if (++count > run.handlerLogs && !run.digest.end && keepLine(run, platform, line)) run.handlerLogs = count;
      },
    });
  };

  const durable = async <T>(use: () => Promise<T>): Promise<T> => {
    if (run.held) await new Promise<void>((resolve) => run.held!.push(resolve));
    return use();
  };
  let state: State | undefined;
  const handlerState = () =>
    createState({
      // The handler may see an outcome before it is durable; the state is asked when the commit that carries it is.
      read: (key) => durable(() => host.state.read(key)),
      commit: (changes) => durable(() => host.state.commit(changes)),
      losses: () => host.state.losses(),
      codec,
      platform,
      check(word) {
        if (word === 'increment')
          platform.warn(
            `Job "${jobName}" increments outside of a step: it counts again at each replay. Do it in a step.`,
          );
      },
    });

  const start = () => {
    const { digest, row } = run;
    const { createdAt, tags = [] } = row;
    const { schedule, generation } = digest;
    let log: Log | undefined;
    unheard = new Map();
    const given = {
      payload: codec.decode(digest.payload) as never,
      step: createStep({
        host,
        replay: () => replay,
        undoable: (key, command) => void run.undos.set(key, command),
        unheard,
      }),
      run: { id: runId, job: jobName, createdAt, tags, generation, ...(schedule && { schedule }) },
    };
    const context = withLazy(given, {
      state: () => (state ??= handlerState()),
      log: () => (log ??= handlerLog(() => run.replay === replay)),
      signal: () => abort.signal,
    });
    const replay = createReplay({
      outcomes: digest.outcomes,
      aside: digest.aside,
      slack: digest.slack,
      hop: platform.hop,
      invoke: () => platform.outOfStep(() => job.handler(context)),
      check(ask) {
        if (run.logs.length) run.said.set(ask.key, run.handlerLogs);
        return mismatch(ask, digest);
      },
      since: (key) => digest.since.get(key) ?? run.begun.get(key),
      isWhole: digest.isWhole,
      onAsk: () => {
        platform.warn(
          `Job "${jobName}" awaits something else between its steps. Put it into a step: what is not recorded runs again at each replay.`,
        );
        stir();
      },
    });
    run.replay = replay;
    run.isStirred = true;
  };

  const restart = () => {
    drop();
    run.isStirred = true;
  };

  const stir = () => {
    run.isStirred = true;
    pump();
  };

  /** Of steps in flight also those that somebody looked at, such as the losers of `Promise.race` (spec R8). */
  const warnUnawaited = ({ kind }: Ending) => {
    const inFlight = [...run.asks.values()].flatMap(({ id, command }) => (functionOf(command) ? id[0] : []));
    // A handler that threw may have been about to await them.
    const names = new Set(kind === 'threw' ? inFlight : [...unheard.values(), ...inFlight]);
    if (names.size)
      platform.warn(
        `Job "${jobName}" ended ${kind === 'threw' ? 'before the end of' : 'without awaiting'} "${[...names].join('", "')}". Steps are finished first, sleeps withdrawn; results and failures go unused.`,
      );
  };

  const withdraw = (keys: readonly string[]) => {
    for (const key of keys) {
      run.withdrawn.add(key);
      run.asks.delete(key);
      run.losers.set(key, run.running.get(key));
      run.running.delete(key);
    }
  };

  /** Lets the handler react, and records what it asks for. */
  const react = async (draft: Draft): Promise<void> => {
    run.isStirred = false;
    const replay = run.replay!;
    for (const feed of run.feeds.splice(0)) feed();
    const turn = await replay.turn();
    if (run.replay !== replay) return; // let go of meanwhile: nobody is to be patient with it
    const isEnding = turn.ending && !run.ending;
    run.ending ??= turn.ending;
    run.fault ??= turn.fault && placed(turn.fault, run.row);
    run.behind = turn.behind;
    withdraw(turn.withdrawn);
    setPatience(turn.isStalled);
    if (run.fault) return;
    for (const ask of turn.opened) {
      run.asks.set(ask.key, ask);
      // Of all else the journal has it.
      if (functionOf(ask.command) && !run.begun.has(ask.key)) run.begun.set(ask.key, run.digest.entries.length - 1);
    }
    if (run.digest.end) return;
    const makes: Ask[] = [];
    for (const ask of turn.opened) {
      if (ask.command.kind === 'make') makes.push(ask);
      else opened(draft, ask);
    }
    if (isEnding) warnUnawaited(run.ending!);
    for (const ask of makes) if (!run.fault && !run.digest.end && !run.ending) await made(draft, ask);
  };

  const setPatience = (isStalled: boolean) => {
    undoPatience?.();
    undoPatience = undefined;
    if (isStalled)
      undoPatience = platform.patience(LIMITS.stallMs, () => {
        const { ids, slack } = run.replay!.skip();
        if (ids.length || slack)
          drift = { kind: 'drift', at: platform.clock.now(), ids: ids.map(({ key }) => JSON.parse(key)), slack };
        undoPatience = undefined;
        stir();
      });
  };

  /** What this pass has set aside, once. */
  const takeDrift = () => {
    const taken = drift;
    drift = undefined;
    return taken;
  };

  return { start, drop, restart, react, takeDrift, isStalled: () => undoPatience !== undefined };
}
