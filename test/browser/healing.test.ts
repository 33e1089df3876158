import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Chromium, launchChromium } from './engines/chromium.js';
import { until } from './engines/engine.js';
import { call } from './ownership.js';
import { type Site, servePages } from './site.js';

/*
 * Pins spec D5 in a real Chromium: what becomes of runs when there is no space, and when the site's data is cleared.
 */

let browser: Chromium;
let site: Site;
beforeAll(async () => {
  [browser, site] = await Promise.all([launchChromium(), servePages('tab', 'nothing')]);
});
afterAll(async () => {
  await Promise.all([browser?.close(), site?.close()]);
});

const errorsOf = async (tab: Parameters<typeof call>[0]) => (await call(tab, 'told')).errors.join('\n');

it('D5: a run that finds no space is paused with a typed error, and goes on when there is space again', async () => {
  // The quota is set before the first write: Chromium remembers for a while how much room there was.
  const tab = await browser.open(`${site.origin}/nothing`);
  const { origin } = site;
  await tab.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: 4_000_000 });
  await tab.load(`${site.origin}/tab?db=quota&tab=tab`);
  await call(tab, 'ready');
  const runId = await call(tab, 'start', 'fill', { parts: 12 });
  await until(async () => (await errorsOf(tab)).includes('[QUOTA_EXCEEDED]'));
  expect(['running', 'queued']).toContain(await call(tab, 'status', runId));
  const before = await call(tab, 'timeline', runId);
  await tab.send('Storage.overrideQuotaForOrigin', { origin });
  expect(await call(tab, 'until', runId, 'completed')).toEqual({ status: 'completed', result: 'full' });
  const after = await call(tab, 'timeline', runId);
  expect(after.slice(0, before.length)).toEqual(before);
  expect(after.filter((entry) => entry === 'step-completed part')).toHaveLength(12);
  await tab.close();
});

it('D5: site data that is cleared under a living tab is reported, and the tab goes on with new runs', async () => {
  const tab = await browser.open(`${site.origin}/tab?db=cleared&tab=tab`);
  await call(tab, 'ready');
  const gone = await call(tab, 'start', 'sleep', { ms: 86_400_000 });
  await call(tab, 'until', gone, 'sleeping');
  await tab.send('Storage.clearDataForOrigin', { origin: site.origin, storageTypes: 'indexeddb' });
  await until(async () => (await call(tab, 'status', gone)) === null);
  expect(await errorsOf(tab)).toContain('was deleted while in use');
  const next = await call(tab, 'start', 'sleep', { ms: 1 });
  await call(tab, 'until', next, 'completed');
  await tab.close();
});

it('O2: without Web Locks (plain http) a run of a tab that was killed is taken over', async () => {
  const plain = site.origin.replace('localhost', 'plain.test');
  const owner = await browser.open(`${plain}/tab?db=plain&tab=owner`);
  expect(await owner.evaluate('navigator.locks === undefined')).toBe(true);
  await call(owner, 'ready');
  const release = site.hold('plain-work-owner.1');
  const runId = await call(owner, 'start', 'work');
  await site.reached('plain-work-owner.1', 1);
  const other = await browser.open(`${plain}/tab?db=plain&tab=other`);
  await call(other, 'ready');
  await owner.crash();
  expect((await call(other, 'until', runId, 'completed')).result).toEqual({ by: 'other.1' });
  release();
  await Promise.all([owner.close(), other.close()]);
});
