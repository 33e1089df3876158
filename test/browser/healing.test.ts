import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Chromium, chromium, launchChromium } from './engines/chromium.js';
import { until } from './engines/engine.js';
import { healing } from './healing.js';
import { call } from './ownership.js';
import { type Site, servePages } from './site.js';

/*
 * Pins spec D5 in a real Chromium: what becomes of runs when there is no space, which its protocol can bring about.
 */

healing(chromium);

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
