import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Driver, type Engine, type Tab, until } from './engines/engine.js';
import { call } from './ownership.js';
import { type Site, servePages } from './site.js';

/*
 * Pins: what becomes of runs when the site's data is cleared under a living tab (spec D5), and who is alive where there
 * are no Web Locks (O2).
 */

export function healing(driver: Driver): void {
  describe(driver.name, () => healingIn(driver));
}

function healingIn({ launch }: Driver): void {
  let engine: Engine;
  let site: Site;
  beforeAll(async () => {
    [engine, site] = await Promise.all([launch(), servePages('tab', 'nothing')]);
  });
  afterAll(async () => {
    await Promise.all([engine?.close(), site?.close()]);
  });

  it('D5: site data that is cleared under a living tab is reported, and the tab goes on with new runs', async () => {
    const tab = await engine.open(`${site.origin}/tab?db=cleared&tab=tab`);
    await call(tab, 'ready');
    const gone = await call(tab, 'start', 'sleep', { ms: 86_400_000 });
    await call(tab, 'until', gone, 'sleeping');
    await tab.evaluate(`fetch('/clear').then(() => true)`);
    await until(async () => (await call(tab, 'status', gone)) === null);
    expect((await call(tab, 'told')).errors.join('\n')).toContain('was deleted while in use');
    const next = await call(tab, 'start', 'sleep', { ms: 1 });
    await call(tab, 'until', next, 'completed');
    await tab.close();
  });

  it('O2: tabs that have loaded before and after `Clear-Site-Data`, which share no locks in Chromium, leave each other their runs', async () => {
    const nap = async (tab: Tab) => call(tab, 'until', await call(tab, 'start', 'sleep', { ms: 500 }), 'completed');
    const old = await engine.open(`${site.origin}/tab?db=split&tab=old`);
    await call(old, 'ready');
    await nap(old);
    await old.evaluate(`fetch('/clear').then(() => true)`);
    await nap(old);
    const release = site.hold('split-work-old.1');
    const runId = await call(old, 'start', 'work');
    await site.reached('split-work-old.1', 1);
    const next = await engine.open(`${site.origin}/tab?db=split&tab=next`);
    await call(next, 'ready');
    // Each looks for due work of others as it starts and ends its own.
    for (const tab of [old, next, old, next]) await nap(tab);
    expect(site.effects.filter((name) => name.startsWith('split-work-'))).toEqual(['split-work-old.1']);
    // Who has gone is found out by its silence.
    await old.crash!();
    expect((await call(next, 'until', runId, 'completed')).result).toEqual({ by: 'next.1' });
    release();
    await Promise.all([old.close(), next.close()]);
  });

  it('O2: without Web Locks (plain http) a run of a tab that was killed is taken over', async () => {
    const owner = await engine.open(`${site.plainOrigin}/tab?db=plain&tab=owner`);
    expect(await owner.evaluate('navigator.locks === undefined')).toBe(true);
    await call(owner, 'ready');
    const release = site.hold('plain-work-owner.1');
    const runId = await call(owner, 'start', 'work');
    await site.reached('plain-work-owner.1', 1);
    const other = await engine.open(`${site.plainOrigin}/tab?db=plain&tab=other`);
    await call(other, 'ready');
    await owner.crash!();
    expect((await call(other, 'until', runId, 'completed')).result).toEqual({ by: 'other.1' });
    release();
    await Promise.all([owner.close(), other.close()]);
  });
}
