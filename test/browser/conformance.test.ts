import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { conformanceCases } from '../../src/testing/conformance.js';
import { type Browser, launchBrowser } from './chromium.js';
import type { SuiteResult } from './pages/lab.js';
import { type Site, servePages } from './site.js';

/*
 * The conformance suite in a real Chromium, where Web Locks tell who is alive: in a page, and in a dedicated worker.
 */

let browser: Browser;
let site: Site;
const results: { [where: string]: readonly SuiteResult[] } = {};

beforeAll(async () => {
  [browser, site] = await Promise.all([launchBrowser(), servePages('lab')]);
  const page = await browser.open(`${site.origin}/lab`);
  results.page = await page.evaluate(() => lab.runSuite('page'));
  results.worker = await page.evaluate(() => lab.suiteInWorker());
});
afterAll(async () => {
  await Promise.all([browser?.close(), site?.close()]);
});

describe.each(['page', 'worker'])('IndexedDB store in a %s', (where) => {
  it.each(conformanceCases.map(({ name }) => name))('%s', (name) => {
    const result = results[where]?.find((one) => one.name === name);
    expect(result?.kind, result?.detail).toBe('passed');
  });
});
