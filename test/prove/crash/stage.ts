import type { AnyJob } from '../../../src/door/job.js';
import { createEngine, type Stepfast } from '../../../src/engine/engine.js';
import type { Plugin } from '../../../src/engine/plugin.js';
import { isStepfastError } from '../../../src/errors.js';
import type { Batch } from '../../../src/store/batch.js';
import { isOutcome } from '../../../src/store/journal.js';
import type { Store } from '../../../src/store/store.js';
import { systemPlatform } from '../../../src/system.js';
import { wrapStore } from '../../../src/testing/failing-store.js';
import { type Entering, withFakes } from '../../../src/testing/fakes.js';
import { type Ending, endOf, neutral, say } from './ending.js';
import { createInjector, type Fault, type Keep } from './faults.js';
import { gone, type Life, type Medium, type MediumKind } from './media.js';
import { createTime } from './time.js';

/*
 * One case: a flow on a fresh medium, with faults. Its user does one act after the other; what was not acknowledged is
 * done again, what was is not. The world outside (what functions did) is kept beside the store and outlives every life.
 */

/** What functions of the flow do outside. */
export interface World {
  /** The version of the code at hand. */
  version: number;
  /** Says that something was done; the same thing may be said again by the same step alone. */
  did(what: string): void;
  /** How often that was said so far, in all lives. */
  count(what: string): number;
}

/** Whether the flow has got as far as the next act presupposes. */
export type Sight = (stepfast: Stepfast, world: World) => Promise<boolean>;

/**
 * Something that the user does. `until`: lets time pass from one due instant to the next until that is seen, because a
 * store that fails for long keeps a run from its start; `fix`: mends the world (`fixed` has been done); a number: deploys
 * the code of that version.
 */
export type Act = 'fix' | number | { readonly until: Sight } | ((stepfast: Stepfast) => Promise<unknown>);

export interface Flow {
  readonly name: string;
  /** What of the step language it uses. */
  readonly words: readonly string[];
  /** Default: all. */
  readonly media?: readonly string[];
  readonly use?: () => readonly Plugin[];
  readonly jobs: (world: World) => readonly AnyJob[];
  /** Done whenever the app is opened. */
  readonly opened?: (stepfast: Stepfast, jobs: readonly AnyJob[]) => void;
  readonly acts: readonly Act[];
  /** What else has to be the same in the end. */
  readonly view?: (stepfast: Stepfast) => Promise<unknown>;
}

const MAX_LIVES = 8;
const MAX_SKIPS = 60;
const MAX_TRIES = 40;
/** What a store that fails, or a context that goes, may say. */
const EXPECTED = ['STORE_UNAVAILABLE', 'QUOTA_EXCEEDED', 'CLOSED', 'LEASE_LOST'];

const macrotask = () => new Promise<void>((resolve) => setImmediate(resolve));

function createCase(flow: Flow, kind: MediumKind, faults: readonly Fault[]) {
  const injector = createInjector(kind.modes, faults);
  const medium: Medium = kind.fresh(injector);
  let current: { isOver: boolean; readonly stepfast?: Stepfast } | undefined;
  const time = createTime(() => {
    if (current?.isOver) throw gone();
  });
  const entered = new Map<string, number>();
  const acknowledged = new Set<string>();
  const last = new Map<string, string>();
  const again: string[] = [];
  const errors: string[] = [];
  const said = new Map<string, number>();
  const world: World = {
    version: 1,
    did: (what) => void said.set(what, (said.get(what) ?? 0) + 1),
    count: (what) => said.get(what) ?? 0,
  };
  let ids = 0;
  let commits = 0;

  const placeOf = (runId: string, id: readonly [string, number], isUndo: boolean) =>
    JSON.stringify([runId, id, isUndo]);
  const hear = ({ run }: Batch) => {
    for (const entry of run?.append ?? []) {
      const isUndo = entry.kind === 'undone';
      if (!isUndo && !(isOutcome(entry) && entry.kind.startsWith('step-'))) continue;
      const key = last.get(placeOf(run!.runId, entry.id, isUndo));
      if (key !== undefined) acknowledged.add(key);
    }
  };
  /** Taken up again: what failed may be entered again, also when nobody hears that this was committed. */
  const forgive = ({ run }: Batch) => {
    for (const entry of run?.append ?? [])
      if (entry.kind === 'retried')
        for (const [, ...id] of entry.forgets) acknowledged.delete(last.get(placeOf(run!.runId, id, false)) ?? '');
  };
  const enter = (life: Life, { runId, name, occurrence, idempotencyKey, kind }: Entering) => {
    if (life.isOver || kind === 'onFailed') return;
    last.set(placeOf(runId, [name, occurrence], kind === 'undo'), idempotencyKey);
    const key = neutral(idempotencyKey);
    entered.set(key, (entered.get(key) ?? 0) + 1);
    if (acknowledged.has(idempotencyKey)) again.push(key);
  };

  /** Counts what is under way, and hears what was acknowledged. */
  const watched = (store: Store) =>
    wrapStore(store, async (name, given, call) => {
      if (name === 'commit') forgive(given as Batch);
      const answer = await time.during(call);
      if (name === 'commit') commits++;
      if (name === 'commit' && (answer as { kind: string }).kind === 'committed') hear(given as Batch);
      return answer;
    });

  const open = () => {
    const state = { isOver: false };
    const life: Life = Object.assign(state, {
      die(keep: Keep): never {
        if (!state.isOver) {
          state.isOver = true;
          medium.crashed(keep);
          time.forget();
          store.abandon!();
          void stepfast.close().catch(() => undefined); // it is gone: nobody hears what it meets on its way
        }
        throw gone();
      },
    });
    const store = medium.open(life);
    const platform = {
      ...systemPlatform(time.clock),
      patience: time.patience,
      newId: () => `id-${++ids}`,
      newUuid: () => `00000000-0000-4000-8000-${String(++ids).padStart(12, '0')}`,
      random: () => 0.5,
      warn: () => undefined,
    };
    const onError = (error: unknown) => {
      if (!state.isOver && !EXPECTED.some((code) => isStepfastError(error, code as never))) errors.push(String(error));
    };
    const use = [{ name: 'case', store: watched }, ...(flow.use?.() ?? [])];
    const stepfast = createEngine(platform, { store, clock: time.clock, use, onError });
    const jobs = flow.jobs(world).map((job) => withFakes(job, {}, { entered: (entering) => enter(life, entering) }));
    for (const job of jobs) stepfast.register(job);
    flow.opened?.(stepfast, jobs);
    current = Object.assign(state, { stepfast });
    return { stepfast, store, life };
  };
  type App = ReturnType<typeof open>;

  const insist = async <T>(app: App, act: () => Promise<T>): Promise<T> => {
    for (let tries = 1; ; tries++)
      try {
        return await act();
      } catch (error) {
        if (app.life.isOver || tries > MAX_TRIES || !/UNAVAILABLE|QUOTA/.test(String(error))) throw error;
        await macrotask();
      }
  };
  /** A close that fails tells so with a code, and is over all the same. */
  const shut = async ({ stepfast, life }: App) => {
    await stepfast.close().catch((error: unknown) => {
      if (!life.isOver && !EXPECTED.some((code) => isStepfastError(error, code as never))) throw error;
    });
  };
  const lookOut = async (app: App, until: Sight) => {
    for (let skips = 0; ; skips++) {
      await time.quiet();
      if (await insist(app, () => until(app.stepfast, world))) return;
      if (skips === MAX_SKIPS || !time.skip()) throw new Error('it does not get as far as its user waits for');
    }
  };
  /** @returns The app that goes on: another one after a deployment. */
  const perform = async (app: App, act: Act): Promise<App> => {
    if (typeof act === 'function') await insist(app, () => act(app.stepfast));
    if (typeof act === 'object') await lookOut(app, act.until);
    await time.quiet();
    if (act === 'fix') world.did('fixed');
    if (typeof act !== 'number') return app;
    world.version = act;
    await shut(app);
    if (app.life.isOver) throw gone();
    return open();
  };
  const rest = async (app: App) => {
    let before = '';
    await insist(app, () => app.stepfast.ready()); // else time could pass before the app has looked
    for (let skips = 0; ; skips++) {
      await time.quiet();
      const { runs } = await insist(app, () => app.stepfast.runs.list({ limit: 1_000 }));
      const on = runs.filter(({ endedAt, undoing }) => endedAt === undefined || undoing);
      if (!on.length) return;
      const now = say(on);
      const isMoving = time.skip() || now !== before;
      if (isMoving && skips < MAX_SKIPS) before = now;
      else
        throw new Error(`it does not come to an end: ${on.map(({ id, status }) => `${id} is ${status}`).join(', ')}`);
    }
  };
  const see = async (app: App) => {
    injector.heal();
    await time.quiet();
    const { runs } = await insist(app, () => app.stepfast.runs.list({ limit: 1_000 }));
    const stored = await insist(app, () => app.store.list({ limit: 1_000 }));
    const view = await insist(app, async () => flow.view?.(app.stepfast));
    await shut(app);
    if (app.life.isOver) throw gone();
    return { runs, stored: stored.runs, view };
  };

  /** Plays the flow through, whatever strikes. Rejects when it can not be brought to its end. */
  const play = async (): Promise<Ending> => {
    let done = 0;
    for (let lives = 0; lives < MAX_LIVES; lives++) {
      let app = open();
      try {
        for (; done < flow.acts.length; done++) app = await perform(app, flow.acts[done]!);
        await rest(app);
        const { runs, stored, view } = await see(app);
        const { struck, deaths, counts } = injector;
        const left = [...(await medium.leftovers()), ...said.keys()].sort();
        const seen = { ...endOf(runs, stored), view: say(view), left: say(left) };
        return { ...seen, entered, again, errors, commits, struck, deaths, counts };
      } catch (error) {
        if (!current!.isOver) throw error;
      }
    }
    throw new Error('it dies and dies');
  };
  return {
    play,
    async end() {
      await current?.stepfast?.close().catch(() => undefined);
      medium.dispose();
    },
  };
}

/** Plays one case; what it met on its way is in the ending. */
export async function playCase(flow: Flow, kind: MediumKind, faults: readonly Fault[]): Promise<Ending> {
  const { play, end } = createCase(flow, kind, faults);
  try {
    return await play();
  } finally {
    await end();
  }
}
