import { describe, expect, it } from 'vitest';
import type { EngineOptions, RunSnapshot, Stepfast, Store } from '../src/index.js';
import { FORMAT_VERSION } from '../src/store/journal.js';
import { failureOf } from './bridge-kit.js';
import { media, onEveryStore, type World, world } from './harness.js';

/*
 * Pins: two releases of an app are open at once on one store (spec O6). The older one stops writing as soon as the newer one
 * has, tells its app once, and goes on reading; a run is driven only by code of its version or a later one.
 */

/** A store object of a release that writes this format. */
const ofFormat = (store: Store, format: number): Store => {
  const { open } = store;
  store.open = (options) => open.call(store, { ...options, format });
  return store;
};

const YOUNG = FORMAT_VERSION + 1;
const release = (
  w: World,
  format: number,
  define: (stepfast: Stepfast) => void,
  options: Partial<EngineOptions> = {},
) => w.engine(define, { store: ofFormat(w.store(), format), ...options });

const waits =
  (version = 1, log: string[] = []) =>
  (stepfast: Stepfast) =>
    void stepfast.job('waits', { version }, async ({ step }) => {
      await step.waitForEvent('go');
      return step.run('go', () => {
        log.push(`version ${version}`);
        return version;
      });
    });

const until = async (w: World, engine: Stepfast, runId: string, status: RunSnapshot['status']) => {
  for (;;) {
    const seen = await engine.runs.get(runId);
    if (seen?.status === status) return seen;
    await w.clock.advance('3s');
  }
};

describe.each(['memory', 'indexeddb'])('two releases that both drive (%s)', (name) => {
  it('O6: the older one is stopped by the newer, in the middle of a step, says so once, and still reads', async () => {
    const w = world(media[name]!);
    const outdated: { readonly code: string }[] = [];
    let aborted: unknown;
    let finish: () => void = () => undefined;
    let old: Stepfast | undefined;
    const inStep = new Promise<void>((entered) => {
      release(
        w,
        FORMAT_VERSION,
        (stepfast) => {
          old = stepfast;
          stepfast.job('work', async ({ step }) =>
            step.run('long', ({ signal }) => {
              w.log.push('old');
              entered();
              signal.addEventListener('abort', () => (aborted = signal.reason));
              return new Promise<string>((resolve) => (finish = () => resolve('old')));
            }),
          );
        },
        { onOutdated: (error) => void outdated.push(error) },
      );
    });
    await old!.start('work', undefined, { id: 'r' });
    await inStep;
    const young = release(w, YOUNG, (stepfast) => {
      stepfast.job('work', async ({ step }) =>
        step.run('long', () => {
          w.log.push('young');
          return 'young';
        }),
      );
    });
    await young.ready();
    expect(await failureOf(old!.dispatch('anything'))).toMatchObject({ code: 'STORE_TOO_NEW' });
    expect(outdated).toMatchObject([{ code: 'STORE_TOO_NEW' }]);
    expect(aborted).toBe(outdated[0]);
    finish();
    const { result } = await until(w, young, 'r', 'completed');
    expect(result).toBe('young');
    expect(w.log).toEqual(['old', 'young']);
    expect(await old!.runs.get('r')).toMatchObject({ status: 'completed', result: 'young' });
    expect(await failureOf(old!.start('work'))).toMatchObject({ code: 'STORE_TOO_NEW' });
    expect(await failureOf(old!.ready())).toMatchObject({ code: 'STORE_TOO_NEW' });
    await w.clock.advance('1h');
    expect(outdated.length).toBe(1);
    await old!.close();
  });

  it('O6, Q2: also where what it wants to write is only what a job says of its queue', async () => {
    const w = world(media[name]!);
    const outdated: unknown[] = [];
    const old = release(w, FORMAT_VERSION, waits(), { onOutdated: (error) => void outdated.push(error) });
    await old.ready();
    await w.clock.idle();
    await release(w, YOUNG, waits()).ready();
    old.job('late', { queue: { name: 'late', concurrency: 1 } }, () => 1);
    await w.clock.idle();
    await w.clock.advance('1m');
    expect(outdated).toMatchObject([{ code: 'STORE_TOO_NEW' }]);
    expect(w.errors).toEqual([]);
    await old.close();
  });

  it('O6: without onOutdated, onError hears of it, once', async () => {
    const w = world(media[name]!);
    const old = release(w, FORMAT_VERSION, waits());
    await old.start('waits', undefined, { id: 'r' });
    await until(w, old, 'r', 'waiting');
    await release(w, YOUNG, waits()).ready();
    await failureOf(old.dispatch('go'));
    await failureOf(old.dispatch('go'));
    const told = w.errors.filter((error) => (error as { code?: string }).code === 'STORE_TOO_NEW');
    expect(told.length).toBe(1);
  });

  it('O6: of two versions of a job that are open at once, the older never drives what the newer has begun', async () => {
    const w = world(media[name]!);
    const [old, young] = [w.engine(waits(1, w.log)), w.engine(waits(2, w.log))];
    await Promise.all([old.ready(), young.ready()]);
    for (const id of ['a', 'b', 'c']) await young.start('waits', undefined, { id });
    for (const id of ['a', 'b', 'c']) await until(w, old, id, 'waiting');
    await old.dispatch('go');
    for (const id of ['a', 'b', 'c']) expect((await until(w, old, id, 'completed')).result).toBe(2);
    expect(w.log).toEqual(['version 2', 'version 2', 'version 2']);
  });

  it('O6: what the older one has begun, the newer may go on with, and then keeps', async () => {
    const w = world(media[name]!);
    const old = w.engine(waits(1, w.log));
    await old.start('waits', undefined, { id: 'r' });
    await until(w, old, 'r', 'waiting');
    const young = w.engine(waits(2, w.log));
    await young.ready();
    await old.close();
    await young.dispatch('go');
    expect((await until(w, young, 'r', 'completed')).result).toBe(2);
  });
});

onEveryStore('two releases, one after the other', (medium) => {
  it('O6: an older release that is opened later reads, drives nothing, and says so', async () => {
    const w = world(medium);
    const young = release(w, YOUNG, waits(1, w.log));
    await young.start('waits', undefined, { id: 'r' });
    await until(w, young, 'r', 'waiting');
    await young.dispatch('go');
    await until(w, young, 'r', 'completed');
    await young.start('waits', undefined, { id: 's' });
    await young.close();
    const outdated: unknown[] = [];
    const old = release(w, FORMAT_VERSION, waits(1, w.log), { onOutdated: (error) => void outdated.push(error) });
    expect((await old.runs.get('r'))!.result).toBe(1);
    expect(outdated).toMatchObject([{ code: 'STORE_TOO_NEW' }]);
    expect(await failureOf(old.start('waits'))).toMatchObject({ code: 'STORE_TOO_NEW' });
    expect(await failureOf(old.ready())).toMatchObject({ code: 'STORE_TOO_NEW' });
    await w.clock.advance('1h');
    expect(w.log).toEqual(['version 1']);
    expect(outdated.length).toBe(1);
    expect(w.errors).toEqual([]);
    await old.close();
    const again = release(w, YOUNG, waits(1, w.log));
    await again.dispatch('go');
    await until(w, again, 's', 'completed');
  });
});

describe('two releases (file)', () => {
  it('O3, O6: a newer release is told by the older owner of the folder that it is outdated, and takes over from it', async () => {
    const w = world(media.file!);
    const old = release(w, FORMAT_VERSION, waits());
    await old.start('waits', undefined, { id: 'r' });
    const outdated: unknown[] = [];
    const young = release(w, YOUNG, waits(), { onOutdated: (error) => void outdated.push(error) });
    expect(await failureOf(young.start('waits'))).toMatchObject({ code: 'OUTDATED' });
    expect(outdated).toEqual([]);
    await old.close();
    await young.dispatch('go');
    await until(w, young, 'r', 'completed');
  });

  it('O3, O6: a request of an older release is refused by the newer owner', async () => {
    const w = world(media.file!);
    const old = release(w, FORMAT_VERSION, () => undefined);
    await old.runs.list();
    const young = release(w, YOUNG, waits());
    await young.ready();
    expect(await failureOf(old.dispatch('go'))).toMatchObject({ code: 'STORE_TOO_NEW' });
    expect((await old.runs.list()).runs).toEqual([]);
  });

  it('O6: an older version of a job in another process starts nothing of the newer, and drives none of it', async () => {
    const w = world(media.file!);
    const old = w.engine(waits(1, w.log));
    await old.ready();
    const young = w.engine(waits(2, w.log));
    await young.start('waits', undefined, { id: 'r' });
    await young.dispatch('go', undefined, { runId: 'r' });
    await w.clock.advance('1m');
    expect(await old.runs.get('r')).toMatchObject({ status: 'blocked' });
    await old.close();
    expect((await until(w, young, 'r', 'completed')).result).toBe(2);
    expect(w.log).toEqual(['version 2']);
  });
});
