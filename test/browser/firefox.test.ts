import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from './engines/engine.js';
import { firefox, launchFirefox } from './engines/firefox.js';
import { others } from './others.js';
import { runsOutOfSpace } from './quota.js';
import { type Site, servePages } from './site.js';

others(firefox);

describe.runIf(firefox.find())('firefox', () => {
  let engine: Engine;
  let site: Site;
  beforeAll(async () => {
    [engine, site] = await Promise.all([launchFirefox({ quotaKiB: 50 * 1024 }), servePages('tab', 'nothing')]);
  });
  afterAll(async () => {
    await Promise.all([engine?.close(), site?.close()]);
  });

  it('D5: a run that finds no space is paused with a typed error, and goes on when there is space again', async () => {
    const tab = await engine.open(`${site.origin}/nothing`);
    // Four of the ten megabytes that the site has are taken by a database of the app's own.
    const took = await tab.evaluate(`new Promise((resolve, reject) => {
      const opening = indexedDB.open('ballast');
      opening.onerror = () => reject(opening.error);
      opening.onupgradeneeded = () => opening.result.createObjectStore('ballast');
      opening.onsuccess = () => {
        const writing = opening.result.transaction('ballast', 'readwrite');
        for (let n = 0; n < 64; n++)
          writing.objectStore('ballast').put(crypto.getRandomValues(new Uint8Array(65_536)), n);
        writing.onabort = () => reject(writing.error);
        writing.oncomplete = () => {
          opening.result.close();
          resolve(true);
        };
      };
    })`);
    expect(took).toBe(true);
    await runsOutOfSpace(tab, site, 15, async () => {
      const gone = await tab.evaluate(`new Promise((resolve, reject) => {
        const deleting = indexedDB.deleteDatabase('ballast');
        deleting.onerror = () => reject(deleting.error);
        deleting.onsuccess = () => resolve(true);
      })`);
      expect(gone).toBe(true);
    });
    await tab.close();
  });
});
