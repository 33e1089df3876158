import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Driver, Engine, Skill, Tab } from './engines/engine.js';
import type { App } from './pages/releases/shell.js';
import { type Site, servePages } from './site.js';

/*
 * Pins spec O6 with real bundles of several releases of one app, in tabs of one browser, on one IndexedDB: no VersionError,
 * nothing hangs, and no run is driven by code of a lower version than it has.
 */

type Release = 'one' | 'two' | 'next';

export function releases(driver: Driver): void {
  describe(driver.name, () => releasesIn(driver));
}

interface Opened {
  readonly tab: Tab;
  call<Method extends keyof App>(
    method: Method,
    ...args: Parameters<App[Method]>
  ): Promise<Awaited<ReturnType<App[Method]>>>;
  /** Has looked for work since this was called: a run of its own has come to its end. */
  looked(): Promise<void>;
}

function releasesIn({ launch, skills, notDriven }: Driver): void {
  /** A test that says why it is left out where the engine can not be driven to what it needs. */
  const test = (title: string, needs: readonly Skill[], body: () => Promise<void>) => {
    const lacks = needs.find((need) => !skills.includes(need));
    if (lacks) it.skip(`${title} (not driven here: ${notDriven[lacks]})`);
    else it(title, body);
  };
  let engine: Engine;
  let site: Site;
  beforeAll(async () => {
    [engine, site] = await Promise.all([launch(), servePages('releases/one', 'releases/two', 'releases/next')]);
  });
  afterAll(async () => {
    await Promise.all([engine?.close(), site?.close()]);
  });

  let tabs = 0;
  const open = async (db: string, release: Release): Promise<Opened> => {
    const me = ++tabs;
    const tab = await engine.open(`${site.origin}/releases/${release}?db=${db}&me=${me}`);
    const call: Opened['call'] = (method, ...args) => tab.evaluate(`app.${method}(...${JSON.stringify(args)})`);
    let looks = 0;
    const looked = async () => {
      const id = `own-${me}-${++looks}`;
      expect(await call('start', id, `own-${me}`)).toBe(null);
      await call('until', id, 'completed');
    };
    return { tab, call, looked };
  };

  /** Who has entered which step of a run, in order: `prepare/one`. */
  const entered = (db: string, runId: string): string[] =>
    site.effects.flatMap((effect) => {
      const [of, run, ...what] = effect.split('/');
      return of === db && run === runId ? what.join('/') : [];
    });
  const quiet = { outdated: [], errors: [], unhandled: [] };
  const end = async (...opened: readonly Opened[]) => {
    for (const { call } of opened) expect(await call('told')).toEqual(quiet);
    await Promise.all(opened.map(({ tab }) => tab.close()));
  };

  it.each([
    ['the older one first', 'one', 'two'],
    ['the newer one first', 'two', 'one'],
  ] as const)('O6: two releases open one database, %s: both drive their runs, and are loaded again', async (_, a, b) => {
    const db = `both-${a}`;
    const [first, second] = [await open(db, a), await open(db, b)];
    for (const { call, looked } of [first, second]) {
      expect(await call('ready')).toBe(null);
      await looked();
    }
    for (const { tab, looked } of [first, second]) {
      await tab.reload();
      await looked();
    }
    await end(first, second);
  });

  it('O6: a run of the newer release is never driven by the older one, though it is alone and the run is due', async () => {
    const db = 'newer';
    const [old, young] = [await open(db, 'one'), await open(db, 'two')];
    const ids = Array.from({ length: 10 }, (_, n) => `run-${n}`);
    for (const id of ids) expect(await young.call('start', id)).toBe(null);
    for (const id of ids) await old.call('until', id, 'waiting');
    // Half of the events come while both are open, from the older one.
    for (const id of ids.slice(0, 5)) expect(await old.call('go', id)).toBe(null);
    for (const id of ids.slice(0, 5)) await old.call('until', id, 'completed');
    await young.tab.close();
    for (const id of ids.slice(5)) expect(await old.call('go', id)).toBe(null);
    for (const id of ids.slice(5)) await old.call('until', id, 'blocked');
    await old.looked();
    for (const id of ids.slice(5)) expect(entered(db, id)).toEqual(['prepare/two', 'check/two']);
    const again = await open(db, 'two');
    for (const id of ids) {
      expect(await again.call('until', id, 'completed')).toEqual(['prepare by two', 'check by two', 'finish by two']);
      expect(entered(db, id)).toEqual(['prepare/two', 'check/two', 'finish/two']);
    }
    await end(old, again);
  });

  test(
    'O6: what the older release has begun, the newer one goes on with, and keeps when the older one is back',
    ['crash'],
    async () => {
      const db = 'older';
      const old = await open(db, 'one');
      expect(await old.call('start', 'run')).toBe(null);
      await old.call('until', 'run', 'waiting');
      await old.tab.close();
      const young = await open(db, 'two');
      const release = site.hold(`${db}/run/finish/two`);
      expect(await young.call('go', 'run')).toBe(null);
      await site.reached(`${db}/run/finish/two`, 1);
      // In the middle of the last step its tab is gone, and only the older release is there.
      await young.tab.crash!();
      const back = await open(db, 'one');
      expect(await back.call('ready')).toBe(null);
      await back.looked();
      await back.looked();
      expect(entered(db, 'run')).toEqual(['prepare/one', 'check/two', 'finish/two']);
      release();
      const again = await open(db, 'two');
      expect(await again.call('until', 'run', 'completed')).toEqual([
        'prepare by one',
        'check by two',
        'finish by two',
      ]);
      expect(entered(db, 'run')).toEqual(['prepare/one', 'check/two', 'finish/two', 'finish/two']);
      await end(back, again);
    },
  );

  test(
    'O6: an older tab that is frozen in a step writes nothing when it thaws: the newer one has the run',
    ['freeze'],
    async () => {
      const db = 'frozen';
      const old = await open(db, 'one');
      const release = site.hold(`${db}/run/prepare/one`);
      expect(await old.call('start', 'run')).toBe(null);
      await site.reached(`${db}/run/prepare/one`, 1);
      const young = await open(db, 'two');
      expect(await young.call('ready')).toBe(null);
      await old.tab.freeze!();
      await young.call('until', 'run', 'waiting');
      const before = await young.call('timeline', 'run');
      release();
      await old.tab.thaw!();
      await old.looked();
      expect(await young.call('timeline', 'run')).toEqual(before);
      expect(await old.call('go', 'run')).toBe(null);
      const result = ['prepare by two', 'check by two', 'finish by two'];
      expect(await young.call('until', 'run', 'completed')).toEqual(result);
      expect(await old.call('until', 'run', 'completed')).toEqual(result);
      expect(entered(db, 'run')).toEqual(['prepare/one', 'prepare/two', 'check/two', 'finish/two']);
      await end(old, young);
    },
  );

  it('O6: a release that writes another format stops the older tab in its step, tells it once, and it reads on', async () => {
    const db = 'format';
    const old = await open(db, 'one');
    const release = site.hold(`${db}/run/prepare/one`);
    expect(await old.call('start', 'run')).toBe(null);
    await site.reached(`${db}/run/prepare/one`, 1);
    const young = await open(db, 'next');
    expect(await young.call('ready')).toBe(null);
    release(); // what the older one now has to say is refused
    expect(await young.call('until', 'run', 'waiting')).toBe(null);
    expect(await old.call('go', 'run')).toBe('STORE_TOO_NEW');
    expect(await old.call('start', 'other')).toBe('STORE_TOO_NEW');
    expect(await young.call('go', 'run')).toBe(null);
    const result = ['prepare by next', 'finish by next'];
    expect(await young.call('until', 'run', 'completed')).toEqual(result);
    expect(await old.call('until', 'run', 'completed'), 'it reads on').toEqual(result);
    expect(await old.call('told')).toEqual({ ...quiet, outdated: ['STORE_TOO_NEW'] });
    // Loaded again from an old cache: told again, once, and nothing hangs.
    await old.tab.reload();
    expect(await old.call('ready')).toBe('STORE_TOO_NEW');
    expect(await old.call('start', 'other')).toBe('STORE_TOO_NEW');
    expect(await old.call('until', 'run', 'completed')).toEqual(result);
    expect(await old.call('told')).toEqual({ ...quiet, outdated: ['STORE_TOO_NEW'] });
    expect(entered(db, 'run')).toEqual(['prepare/one', 'prepare/next', 'finish/next']);
    await old.tab.close();
    await young.looked();
    await end(young);
  });
}
