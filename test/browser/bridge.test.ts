import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Browser, launchBrowser } from './chromium.js';
import { type Site, servePages } from './site.js';

/*
 * Pins: a page that has its engine in a dedicated worker and talks to it over the bridge (spec O5): a run survives the
 * reload of both, and a worker that is gone is noticed, though no event tells of it.
 */

let browser: Browser;
let site: Site;
beforeAll(async () => {
  [browser, site] = await Promise.all([launchBrowser(), servePages('bridge', 'bridge-engine')]);
});
afterAll(async () => {
  await Promise.all([browser?.close(), site?.close()]);
});

const openApp = (db: string) => browser.open(`${site.origin}/bridge?db=${db}`);
const isReady = (page: Page) => page.waitForFunction(() => 'bridged' in globalThis);
const times = (effect: string) => site.effects.filter((one) => one === effect).length;

it('O5: a run that was started over the bridge survives a reload of page and worker, and its values cross whole', async () => {
  const page = await openApp('reload');
  await isReady(page);
  const { id, created } = await page.evaluate(() => bridged.start());
  expect(created).toBe(true);
  await page.evaluate((id) => bridged.until(id, 'waiting'), id);
  await page.reload();
  await isReady(page);
  expect(await page.evaluate(() => bridged.start())).toEqual({ id, created: false });
  expect(await page.evaluate(() => bridged.codeOf('unknown'))).toBe('UNKNOWN_JOB');
  await page.evaluate((id) => bridged.until(id, 'waiting'), id);
  const seen = page.evaluate((id) => bridged.until(id, 'completed'), id);
  expect(await page.evaluate(() => bridged.pay())).toEqual([id]);
  expect(await seen).toBe('completed 1 0');
  expect([times('reload-reserve'), times('reload-ship')]).toEqual([1, 1]);
  await page.close();
});

it('O5: a step that was under way in the worker at the reload runs again, and its page hears of the end', async () => {
  const page = await openApp('step');
  await isReady(page);
  const release = site.hold('step-reserve');
  const { id } = await page.evaluate(() => bridged.start());
  await site.reached('step-reserve', 1);
  await page.reload();
  await isReady(page);
  await site.reached('step-reserve', 2);
  release();
  await page.evaluate((id) => bridged.until(id, 'waiting'), id);
  await page.close();
});

it('O5: a worker that was terminated answers no longer: PORT_LOST', async () => {
  const page = await openApp('gone');
  await isReady(page);
  await page.evaluate(() => bridged.worker.terminate());
  expect(await page.evaluate(() => bridged.codeOf('list'))).toBe('PORT_LOST');
  expect(await page.evaluate(() => bridged.lost)).toEqual(['PORT_LOST']);
  await page.close();
});
