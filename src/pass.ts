import type { Codec } from './codec.js';
import type { AnyJob } from './job.js';
import type { JournalEntry } from './journal.js';
import type { Draft, LiveRun } from './live-run.js';
import type { Platform } from './platform.js';
import { LIMITS } from './recorder.js';
import { type Ask, createReplay } from './replay.js';
import { createStep, mismatch } from './step.js';

/*
 * The handler of a run, live in memory: started over its recorded outcomes, told of new ones, dropped when memory must be
 * set back. One pass for each life of the process, unless it threw, was dropped, or lost its fence (spec R11).
 */

interface PassOptions {
  readonly run: LiveRun;
  readonly job: AnyJob;
  readonly codec: Codec;
  readonly platform: Platform;
  readonly started: Extract<JournalEntry, { readonly kind: 'started' }>;
  /** Aborts when the run is lost, cancelled or let go. */
  readonly abort: ReturnType<Platform['newAbort']>;
  /** The handler asked for something. */
  opened(draft: Draft, ask: Ask): void;
  /** A round is wanted, though nobody has asked for one. */
  pump(): void;
}

export function createPass({ run, job, codec, platform, started, abort, opened, pump }: PassOptions) {
  const { runId, job: jobName } = run.row;
  let drift: Extract<JournalEntry, { kind: 'drift' }> | undefined;
  let undoPatience: (() => void) | undefined;

  const drop = () => {
    run.feeds.length = 0;
    run.replay?.drop();
    undoPatience?.();
    run.replay = run.ending = run.fault = drift = undefined;
    run.asks.clear();
  };

  const start = () => {
    const { digest, row } = run;
    const { createdAt, tags = [] } = row;
    const context = {
      payload: codec.decode(started.payload) as never,
      step: createStep(() => replay, codec, platform.warn),
      run: { id: runId, job: jobName, createdAt, tags },
      get signal() {
        return abort.signal;
      },
    };
    const replay = createReplay({
      ...digest,
      hop: platform.hop,
      invoke: () => job.handler(context),
      check: (ask) => mismatch(ask, digest.shapes.get(ask.key), digest.waits.get(ask.key)),
      onAsk: () => {
        if (run.replay !== replay) return;
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

  const warnUnawaited = () => {
    const names = [...run.asks.values()].flatMap(({ id, command }) => (command.kind === 'run' ? `"${id[0]}"` : []));
    if (names.length)
      platform.warn(`Job "${jobName}" ended without awaiting ${names.join(', ')}: finished first, results unused.`);
  };

  /** Lets the handler react, and records what it asks for. */
  const react = async (draft: Draft) => {
    run.isStirred = false;
    const replay = run.replay!;
    for (const feed of run.feeds.splice(0)) feed();
    const turn = await replay.turn();
    const isEnding = turn.ending && !run.ending;
    run.ending ??= turn.ending;
    run.fault ??= turn.fault;
    if (run.fault) return;
    for (const ask of turn.opened) {
      run.asks.set(ask.key, ask);
      opened(draft, ask);
    }
    if (isEnding) warnUnawaited();
    undoPatience?.();
    undoPatience = undefined;
    if (turn.isStalled)
      undoPatience = platform.patience(LIMITS.stallMs, () => {
        const { ids, slack } = replay.skip();
        drift = { kind: 'drift', at: platform.clock.now(), ids: ids.map(({ key }) => JSON.parse(key)), slack };
        stir();
      });
  };

  /** What this pass has set aside, once. */
  const takeDrift = () => {
    const taken = drift;
    drift = undefined;
    return taken;
  };

  return { start, drop, restart, react, takeDrift };
}
