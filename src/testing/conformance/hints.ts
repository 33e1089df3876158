import type { Store } from '../../store/store.js';
import { cancel, caseGroup, commit, dispatch, leaseMs, newRun, now, openWait, remove, start, waiting } from './env.js';
import { check, equal, eventually, range } from './kit.js';

const { cases, fact } = caseGroup('hints');

/**
 * The cases about what `watch` tells (rule S7). A single hint may be lost, so what is to be heard of is done again and
 * again, to one run after the other.
 */
export const hints = cases;

interface Hint {
  readonly runId: string | undefined;
  readonly isOwn: boolean | undefined;
}

/** Prepares what comes to a run, and gives the id of that run, and how to make it come. */
type Scene = (by: Store, runId: string) => Promise<readonly [runId: string, act: () => Promise<unknown>]>;

/** Runs that wait are copies: nobody has to claim those first. Their owner is `a`, who listens. */
const scenes: { readonly [what: string]: Scene } = {
  'a run that is started': async (by, runId) => [runId, () => start(by, runId)],
  'a run that an event has woken': async (by, runId) => {
    await start(by, runId, { state: waiting([openWait({ events: [runId] })]) });
    return [runId, () => dispatch(by, runId, { name: runId })];
  },
  'a run that the end of another has woken': async (by, runId) => {
    await start(by, `awaited ${runId}`);
    await start(by, runId, { state: waiting([], { awaits: [`awaited ${runId}`] }) });
    return [runId, () => cancel(by, `awaited ${runId}`)];
  },
  'a run that is cancelled': async (by, runId) => {
    await start(by, runId);
    return [runId, () => cancel(by, runId)];
  },
  'a run that is cancelled with the parent of its parent': async (by, runId) => {
    const [first, parentId] = [`first of ${runId}`, `parent of ${runId}`];
    const state = waiting([]);
    await commit(by, {
      starts: [newRun(first), newRun(parentId, { parentId: first, state }), newRun(runId, { parentId, state })],
    });
    return [runId, () => cancel(by, first)];
  },
  'a run that is deleted': async (by, runId) => {
    await start(by, runId);
    await cancel(by, runId);
    return [runId, () => remove(by, runId)];
  },
};

/** Plays a scene, with runs of this name, until the listener hears of it. Gives all that was heard of them, or of any. */
async function heard(listens: Store, by: Store, scene: Scene, name: string): Promise<readonly Hint[]> {
  const found: Hint[] = [];
  let round = 0;
  await eventually(async () => {
    const [runId, act] = await scene(by, `${name} ${round++}`);
    listens.watch((told, isOwn) => {
      if (told === undefined || told === runId) found.push({ runId: told, isOwn });
    });
    await act();
    return found.length > 0;
  }, 'a hint arrives');
  return found;
}

/** Starts runs until this is so. */
async function until(by: Store, name: string, isSo: () => boolean): Promise<void> {
  let round = 0;
  await eventually(async () => {
    await start(by, `${name} ${round++}`);
    return isSo();
  }, 'a hint arrives');
}

for (const [what, scene] of Object.entries(scenes))
  fact(`S7: a listener hears of ${what}, by its own context and by another`, async ({ open, openOther }) => {
    const [store, other] = [await open(), await openOther()];
    await heard(store, store, scene, 'own');
    await heard(store, other, scene, 'of another');
    await heard(other, store, scene, 'of the driver');
  });

fact('S7: a driver is told which changes are its own; that anything may have changed is not', async ({ open }) => {
  const store = await open();
  for (const [what, scene] of Object.entries(scenes))
    for (const { runId, isOwn } of await heard(store, store, scene, what))
      if (runId !== undefined) equal(isOwn, true, `whether ${what} is told as its own`);
      else check(!isOwn, `${what}: told, as its own, that all is gone`);
});

fact(
  'S7: what another context has done to a run is not told as its own, whoever owns the run',
  async ({ open, openOther }) => {
    const [store, other] = [await open(), await openOther()];
    for (const [what, scene] of Object.entries(scenes))
      for (const { isOwn } of await heard(store, other, scene, what)) check(!isOwn, `${what} is told as its own`);
  },
);

fact('S7: what a listener is told of a run can be read by then', async ({ open, openOther }) => {
  const [store, other] = [await open(), await openOther()];
  const seen: Promise<readonly [runId: string, isThere: boolean]>[] = [];
  store.watch((runId) => {
    if (runId !== undefined) seen.push(store.load(runId).then((run) => [runId, run !== undefined]));
  });
  for (const [name, by] of [
    ['own', store],
    ['of another', other],
  ] as const) {
    await Promise.all(range(10).map((index) => start(by, `one of many ${name} ${index}`)));
    await heard(store, by, scenes['a run that is started']!, name);
  }
  for (const [runId, isThere] of await Promise.all(seen)) equal(isThere, true, `whether "${runId}" is there`);
});

fact('S7: a listener that came before its store was opened hears', async ({ unopened, openOther }) => {
  const store = unopened();
  let count = 0;
  store.watch(() => count++);
  await store.open({ owner: 'a', now, leaseMs, mode: 'drive', onError: () => undefined });
  const other = await openOther();
  for (const [name, by] of Object.entries({ own: store, 'of another': other })) {
    count = 0;
    await until(by, name, () => count > 0);
  }
});

fact('S7: a listener hears on when its store, which only used the medium, is opened to drive', async ({ open }) => {
  const store = await open('use');
  let count = 0;
  store.watch(() => count++);
  await start(store, 'before');
  await store.open({ owner: 'a', now, leaseMs, mode: 'drive', onError: () => undefined });
  count = 0;
  await until(store, 'after', () => count > 0);
});
