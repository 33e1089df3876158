import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Browser, launchBrowser } from './chromium.js';
import { type Site, servePages } from './site.js';

/*
 * Pins: the window of the Electron demo, in Chromium: drafts are started and approved over the bridge, are there after a
 * reload, and an engine that is gone is told (spec O5). The other half is test/electron.test.ts.
 */

let browser: Browser;
let site: Site;
beforeAll(async () => {
  [browser, site] = await Promise.all([launchBrowser(), servePages('electron')]);
});
afterAll(async () => {
  await Promise.all([browser?.close(), site?.close()]);
});

it('O5: a draft is written, outlives a reload, is approved and published, all over the bridge', async () => {
  const page = await browser.open(`${site.origin}/electron`);
  await page.fill('input[name=title]', 'On ports');
  await page.click('form button');
  await page.waitForSelector('li[data-status=waiting]');
  await page.reload();
  await page.click('li[data-status=waiting] button');
  const done = await page.waitForSelector('li[data-status=completed]');
  expect(await done.textContent()).toBe('On ports: completed ');
  expect(await page.evaluate(() => desktop.published)).toEqual(['On ports']);
  await page.evaluate(() => desktop.stop());
  await page.waitForFunction(() => document.getElementById('problem')!.textContent!.includes('[PORT_LOST]'));
  await page.close();
});
