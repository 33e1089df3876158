import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Driver, Engine, Tab } from './engines/engine.js';
import { type Site, servePages } from './site.js';

/*
 * Pins: a page that has its engine in a dedicated worker and talks to it over the bridge (spec O5): a run survives the
 * reload of both, and a worker that is gone is noticed, though no event tells of it.
 */

export function bridge(driver: Driver): void {
  describe(driver.name, () => bridgeIn(driver));
}

function bridgeIn({ launch }: Driver): void {
  let engine: Engine;
  let site: Site;
  beforeAll(async () => {
    [engine, site] = await Promise.all([launch(), servePages('bridge', 'bridge-engine')]);
  });
  afterAll(async () => {
    await Promise.all([engine?.close(), site?.close()]);
  });

  const openApp = (db: string) => engine.open(`${site.origin}/bridge?db=${db}`);
  const start = (page: Tab) => page.evaluate<{ id: string; created: boolean }>('app.start()');
  const until = (page: Tab, id: string, status: string) =>
    page.evaluate<string>(`app.until(${JSON.stringify(id)}, '${status}')`);
  const times = (effect: string) => site.effects.filter((one) => one === effect).length;

  it('O5: a run that was started over the bridge survives a reload of page and worker, and its values cross whole', async () => {
    const page = await openApp('reload');
    const { id, created } = await start(page);
    expect(created).toBe(true);
    await until(page, id, 'waiting');
    await page.reload();
    expect(await start(page)).toEqual({ id, created: false });
    expect(await page.evaluate(`app.codeOf('unknown')`)).toBe('UNKNOWN_JOB');
    await until(page, id, 'waiting');
    const seen = until(page, id, 'completed');
    expect(await page.evaluate('app.pay()')).toEqual([id]);
    expect(await seen).toBe('completed 1 0');
    expect([times('reload-reserve'), times('reload-ship')]).toEqual([1, 1]);
    await page.close();
  });

  it('O5: a step that was under way in the worker at the reload runs again, and its page hears of the end', async () => {
    const page = await openApp('step');
    const release = site.hold('step-reserve');
    const { id } = await start(page);
    await site.reached('step-reserve', 1);
    await page.reload();
    await site.reached('step-reserve', 2);
    release();
    await until(page, id, 'waiting');
    await page.close();
  });

  it('F5: reloads of a page whose worker is in a step are no crashes', async () => {
    const page = await openApp('reloads');
    const release = site.hold('reloads-reserve');
    const { id } = await start(page);
    for (let times = 1; times <= 4; times++) {
      await site.reached('reloads-reserve', times);
      await page.reload();
    }
    await site.reached('reloads-reserve', 5);
    release();
    await until(page, id, 'waiting');
    expect(await page.evaluate(`app.interruptions(${JSON.stringify(id)})`)).toBe(0);
    await page.close();
  });

  it('O5: a worker that was terminated answers no longer: PORT_LOST', async () => {
    const page = await openApp('gone');
    await page.evaluate('app.terminate()');
    expect(await page.evaluate(`app.codeOf('list')`)).toBe('PORT_LOST');
    expect(await page.evaluate('app.lost')).toEqual(['PORT_LOST']);
    await page.close();
  });
}
