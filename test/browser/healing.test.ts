import { afterAll, beforeAll, it } from 'vitest';
import { type Chromium, chromium, launchChromium } from './engines/chromium.js';
import { healing } from './healing.js';
import { runsOutOfSpace } from './quota.js';
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

it('D5: a run that finds no space is paused with a typed error, and goes on when there is space again', async () => {
  // The quota is set before the first write: Chromium remembers for a while how much room there was.
  const tab = await browser.open(`${site.origin}/nothing`);
  const { origin } = site;
  await tab.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: 4_000_000 });
  await runsOutOfSpace(tab, site, 12, () => tab.send('Storage.overrideQuotaForOrigin', { origin }));
  await tab.close();
});
