import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Driver, Engine, Tab } from './engines/engine.js';
import { type Site, servePages } from './site.js';

/*
 * Pins: the onboarding flow goes on after a reload, and after SIGKILL of the browser, in each of its states; recorded
 * steps do not run again; a wait that ran out while the app was closed fails; tabs share runs.
 */

type Page = Tab & { readonly url: string };
type Start = { readonly id: string; readonly created: boolean };
type End = { readonly result: unknown; readonly code: unknown };

const start = (page: Page) => page.evaluate<Start>('app.start()');
const dispatch = (page: Page) => page.evaluate<string[]>('app.dispatch()');
const until = (page: Page, id: string, status: 'waiting' | 'completed' | 'failed') =>
  page.evaluate<End>(`app.until(${JSON.stringify(id)}, '${status}')`);
const done = { onboarded: true, email: 'ada@example.com', by: '42' };

const INTERRUPTIONS = ['a reload', 'a closed and reopened tab', 'SIGKILL of the browser'] as const;

export function flow(driver: Driver): void {
  describe(driver.name, () => flowIn(driver));
}

function flowIn(driver: Driver): void {
  let engine: Engine;
  let site: Site;
  beforeAll(async () => {
    [engine, site] = await Promise.all([driver.launch(), servePages('flow')]);
  });
  afterAll(async () => {
    await Promise.all([engine?.close(), site?.close()]);
  });

  const openUrl = async (url: string): Promise<Page> => Object.assign(await engine.open(url), { url });
  const openApp = (db: string, more = '') => openUrl(`${site.origin}/flow?db=${db}${more}`);
  const times = (effect: string) => site.effects.filter((one) => one === effect).length;

  /** What befalls the page, and the page that comes after. */
  const again = async (title: (typeof INTERRUPTIONS)[number], page: Page): Promise<Page> => {
    if (title === 'a reload') return page.reload().then(() => page);
    if (title === 'SIGKILL of the browser') await engine.restart!();
    else await page.close();
    return openUrl(page.url);
  };

  describe.each(INTERRUPTIONS)('after %s', (title) => {
    const db = (state: string) => `${title.replaceAll(' ', '-')}-${state}`;

    it('a step that was in flight runs again, and the flow goes on', async () => {
      const name = db('step');
      let page = await openApp(name);
      const release = site.hold(`${name}-create-user`);
      const { id } = await start(page);
      await site.reached(`${name}-create-user`, 1);
      page = await again(title, page);
      await site.reached(`${name}-create-user`, 2);
      release();
      await until(page, id, 'waiting');
      expect(times(`${name}-send-verification-email`)).toBe(1);
      await page.close();
    });

    it('a step that was recorded does not run again when the next one was in flight', async () => {
      const name = db('second');
      let page = await openApp(name);
      const release = site.hold(`${name}-send-verification-email`);
      const { id } = await start(page);
      await site.reached(`${name}-send-verification-email`, 1);
      page = await again(title, page);
      await site.reached(`${name}-send-verification-email`, 2);
      release();
      await until(page, id, 'waiting');
      expect(times(`${name}-create-user`)).toBe(1);
      await page.close();
    });

    it('a waiting run still waits, and an event completes it', async () => {
      const name = db('waiting');
      let page = await openApp(name);
      const { id } = await start(page);
      await until(page, id, 'waiting');
      page = await again(title, page);
      await until(page, id, 'waiting');
      expect(await dispatch(page)).toEqual([id]);
      expect((await until(page, id, 'completed')).result).toEqual(done);
      for (const effect of ['create-user', 'send-verification-email', 'unlock-account'])
        expect(times(`${name}-${effect}`), effect).toBe(1);
      await page.close();
    });

    it('an event that was taken stays taken while the step behind it runs again', async () => {
      const name = db('third');
      let page = await openApp(name);
      const { id } = await start(page);
      await until(page, id, 'waiting');
      const release = site.hold(`${name}-unlock-account`);
      await dispatch(page);
      await site.reached(`${name}-unlock-account`, 1);
      page = await again(title, page);
      await site.reached(`${name}-unlock-account`, 2);
      release();
      expect((await until(page, id, 'completed')).result).toEqual(done);
      expect(times(`${name}-create-user`)).toBe(1);
      await page.close();
    });

    it('a completed run is there with its result, and starting it again gives the same one', async () => {
      const name = db('completed');
      let page = await openApp(name);
      const { id } = await start(page);
      await until(page, id, 'waiting');
      await dispatch(page);
      await until(page, id, 'completed');
      const before = site.effects.length;
      page = await again(title, page);
      expect((await until(page, id, 'completed')).result).toEqual(done);
      expect(await start(page)).toEqual({ id, created: false });
      expect(site.effects).toHaveLength(before);
      await page.close();
    });

    it('a wait whose time ran out meanwhile fails the run', async () => {
      const name = db('timeout');
      let page = await openApp(name, '&timeout=1500');
      const { id } = await start(page);
      await until(page, id, 'waiting');
      page = await again(title, page);
      expect(await until(page, id, 'failed')).toMatchObject({ code: 'EVENT_TIMEOUT' });
      expect(times(`${name}-unlock-account`)).toBe(0);
      await page.close();
    });
  });

  it('two tabs that start the same run at once get one run, and its steps run once', async () => {
    const [one, two] = await Promise.all([openApp('both'), openApp('both')]);
    const starts = await Promise.all([start(one), start(two)]);
    expect(new Set(starts.map(({ id }) => id)).size).toBe(1);
    expect(starts.filter(({ created }) => created)).toHaveLength(1);
    const { id } = starts[0]!;
    await Promise.all([until(one, id, 'waiting'), until(two, id, 'waiting')]);
    expect(times('both-create-user')).toBe(1);
    await Promise.all([one.close(), two.close()]);
  });

  it('an event dispatched in another tab completes the run, and both tabs see it', async () => {
    const [one, two] = await Promise.all([openApp('other'), openApp('other')]);
    const { id } = await start(one);
    await until(two, id, 'waiting');
    expect(await dispatch(two)).toEqual([id]);
    for (const page of [one, two]) expect((await until(page, id, 'completed')).result).toEqual(done);
    expect(times('other-unlock-account')).toBe(1);
    await Promise.all([one.close(), two.close()]);
  });

  it('when the tab that drives a run is closed in the middle of a step, another tab takes the run over', async () => {
    const driver = await openApp('takeover');
    const release = site.hold('takeover-create-user');
    const { id } = await start(driver);
    await site.reached('takeover-create-user', 1);
    const other = await openApp('takeover');
    await driver.close();
    await site.reached('takeover-create-user', 2);
    release();
    await until(other, id, 'waiting');
    expect(times('takeover-send-verification-email')).toBe(1);
    await other.close();
  });
}
