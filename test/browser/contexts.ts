import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Driver, type Engine, type Tab, until } from './engines/engine.js';
import { call } from './ownership.js';
import { type Site, servePages } from './site.js';

/*
 * Pins spec O2 for the places an engine can be in, and for pages that make one again and again, as StrictMode and hot
 * reload do: it drives there, and when it is gone nobody else waits for it.
 */

export function contexts(driver: Driver): void {
  describe(driver.name, () => contextsIn(driver));
}

/** For how long a service worker drives: as long as the documentation says. */
const SERVICE_WORKER_MS = 25_000;

function contextsIn({ name, launch }: Driver): void {
  let engine: Engine;
  let site: Site;
  beforeAll(async () => {
    [engine, site] = await Promise.all([launch(), servePages('tab', 'nothing')]);
  });
  afterAll(async () => {
    await Promise.all([engine?.close(), site?.close()]);
  });

  let databases = 0;
  /** Tabs on a new database. */
  const tabs = () => {
    const db = `contexts-${++databases}`;
    const opened: Tab[] = [];
    const open = async (tab: string, more = '', isReady = true) => {
      const made = await engine.open(`${site.origin}/tab?db=${db}&tab=${tab}${more}`);
      opened.push(made);
      if (isReady) await call(made, 'ready');
      return made;
    };
    return { db, open, end: () => Promise.all(opened.map((tab) => tab.close())) };
  };
  /** Who has begun the step, in order, by the requests that it made. */
  const begunBy = (db: string) =>
    site.effects.filter((one) => one.startsWith(`${db}-work-`)).map((one) => one.slice(`${db}-work-`.length));
  /** Locks of engines; that of a visible page tells nothing of engines. */
  const owners = async (tab: Tab) => (await call(tab, 'locks')).filter((lock) => !lock.endsWith(':visible'));

  it('O2: an engine that is closed and made anew on one page leaves no ghost owner', async () => {
    const { db, open, end } = tabs();
    const tab = await open('tab');
    const release = site.hold(`${db}-work-tab.1`);
    const runId = await call(tab, 'start', 'work');
    await site.reached(`${db}-work-tab.1`, 1);
    // As StrictMode and hot reload do: nobody waits for the one before to be gone.
    await tab.evaluate('void app.close(), app.ready()');
    await site.reached(`${db}-work-tab.1`, 2);
    release();
    await call(tab, 'until', runId, 'completed');
    await until(async () => (await owners(tab)).length === 1);
    await call(tab, 'close');
    await until(async () => (await call(tab, 'locks')).length === 0);
    expect((await call(tab, 'told')).errors).toEqual([]);
    await end();
  });

  it('O2: an engine that is closed in the turn in which it was made leaves no ghost owner', async () => {
    const { db, open, end } = tabs();
    const release = site.hold(`${db}-work-first.1`);
    const first = await open('first');
    const runId = await call(first, 'start', 'work');
    await site.reached(`${db}-work-first.1`, 1);
    const tab = await open('tab', '', false);
    // As StrictMode mounts: made, undone, and made again, all in one turn.
    await tab.evaluate('void app.ready().catch(() => undefined), void app.close(), app.ready()');
    await call(first, 'close');
    expect(await call(tab, 'until', runId, 'completed')).toEqual({ status: 'completed', result: { by: 'tab.1' } });
    release();
    expect(begunBy(db)).toEqual(['first.1', 'tab.1']);
    expect(await owners(tab)).toHaveLength(1);
    await call(tab, 'close');
    await until(async () => (await call(tab, 'locks')).length === 0);
    for (const one of [first, tab]) expect((await call(one, 'told')).errors).toEqual([]);
    await end();
  });

  it('B: a job whose code is replaced under a waiting run, as by hot reload, goes on with the new code', async () => {
    const { open, end } = tabs();
    const tab = await open('tab');
    const runId = await call(tab, 'start', 'wait', { key: 'a0' });
    await call(tab, 'until', runId, 'waiting');
    await call(tab, 'replace', 'wait', 'new');
    await call(tab, 'dispatchMany', ['a'], 1, true);
    expect((await call(tab, 'until', runId, 'completed')).result).toBe('new 0');
    const { worked, errors } = await call(tab, 'told');
    expect(worked).toEqual(['new a0']);
    expect(errors).toEqual([]);
    await end();
  });

  it('B: a run that is in a step when its code is replaced goes on with what it has begun, the next one is new', async () => {
    const { db, open, end } = tabs();
    const tab = await open('tab');
    const release = site.hold(`${db}-work-tab.1`);
    const runId = await call(tab, 'start', 'work');
    await site.reached(`${db}-work-tab.1`, 1);
    for (const text of ['once', 'twice']) await call(tab, 'replace', 'work', text);
    release();
    expect((await call(tab, 'until', runId, 'completed')).result).toEqual({ by: 'tab.1' });
    const next = await call(tab, 'start', 'work');
    expect((await call(tab, 'until', next, 'completed')).result).toEqual({ by: 'entered by twice', then: 'twice' });
    expect(begunBy(db), 'the step was entered once').toEqual(['tab.1']);
    expect(await owners(tab)).toHaveLength(1);
    expect((await call(tab, 'told')).errors).toEqual([]);
    await end();
  });

  it('O2: an engine in a SharedWorker outlives the tab that began it', async () => {
    const { db, open, end } = tabs();
    const first = await open('tab', '&host=shared');
    const release = site.hold(`${db}-work-tab-shared`);
    const runId = await call(first, 'start', 'work');
    await site.reached(`${db}-work-tab-shared`, 1);
    const second = await open('tab', '&host=shared');
    await first.close();
    release();
    expect((await call(second, 'until', runId, 'completed')).result).toEqual({ by: 'tab-shared' });
    expect(begunBy(db)).toHaveLength(1);
    await end();
  });

  it('O2: a service worker drives what is due when it is told to', async () => {
    const { db, open, end } = tabs();
    const page = await open('page');
    const release = site.hold(`${db}-work-page.1`);
    const runId = await call(page, 'start', 'work');
    await site.reached(`${db}-work-page.1`, 1);
    const worker = await open('sw', '&host=service');
    await call(page, 'close');
    await call(worker, 'drive', SERVICE_WORKER_MS);
    expect((await call(worker, 'until', runId, 'completed')).result).toEqual({ by: 'sw-service' });
    release();
    await end();
  });

  it('O2: a service worker whose time is over lets go of the step it is in, and a page goes on', async () => {
    const { db, open, end } = tabs();
    const page = await open('page');
    const releases = ['page.1', 'sw-service'].map((who) => site.hold(`${db}-work-${who}`));
    const runId = await call(page, 'start', 'work');
    await site.reached(`${db}-work-page.1`, 1);
    const worker = await open('sw', '&host=service');
    await call(page, 'close');
    await call(worker, 'drive', SERVICE_WORKER_MS);
    expect(begunBy(db)).toEqual(['page.1', 'sw-service']);
    expect(await owners(page)).toEqual([]);
    for (const release of releases) release();
    const next = await open('next');
    expect((await call(next, 'until', runId, 'completed')).result).toEqual({ by: 'next.1' });
    const claims = (await call(next, 'timeline', runId)).filter((entry) => entry.startsWith('claimed'));
    expect(claims, 'closed in order: nothing was interrupted').toEqual(['claimed', 'claimed', 'claimed']);
    for (const one of [page, next]) expect((await call(one, 'told')).errors).toEqual([]);
    await end();
  });

  it('O2: an engine in an iframe drives, and one whose iframe was removed is taken over', async () => {
    const { db, open, end } = tabs();
    const page = await open('page', '&host=iframe');
    const release = site.hold(`${db}-work-page-iframe.2`);
    const runId = await call(page, 'start', 'work');
    await site.reached(`${db}-work-page-iframe.2`, 1);
    const other = await open('other');
    await page.evaluate(`document.querySelector('iframe').remove()`);
    expect((await call(other, 'until', runId, 'completed')).result).toEqual({ by: 'other.1' });
    release();
    expect((await call(other, 'told')).errors).toEqual([]);
    await end();
  });

  it('D5: developers are warned once of a wait for more than 7 days, where the browser may delete it by then', async () => {
    const { open, end } = tabs();
    const tab = await open('tab');
    for (const days of [6, 8, 30]) {
      const runId = await call(tab, 'start', 'sleep', { ms: days * 86_400_000 });
      await call(tab, 'until', runId, 'sleeping');
      const warnings = (await call(tab, 'told')).warnings.filter((text) => text.includes('7 days'));
      expect(warnings, `after one of ${days} days`).toHaveLength(name === 'webkit' && days > 7 ? 1 : 0);
    }
    await end();
  });
}
