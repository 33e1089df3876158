import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { conformanceCases } from '../../src/testing/conformance.js';
import type { Driver, Engine } from './engines/engine.js';
import type { SuiteResult } from './pages/lab.js';
import { type Site, servePages } from './site.js';

/*
 * The conformance suite in a real browser, where Web Locks tell who is alive: in a page, in a dedicated worker,
 * and in a page that has to go on with the IndexedDB of an iframe.
 */

const PLACES = {
  page: `lab.runSuite('page')`,
  worker: 'lab.suiteInWorker()',
  'page whose own IndexedDB is dead': 'lab.suiteInFrames()',
};
export type Place = keyof typeof PLACES;

export function conformance(driver: Driver, places: readonly Place[]): void {
  describe(driver.name, () => {
    let engine: Engine;
    let site: Site;
    beforeAll(async () => {
      [engine, site] = await Promise.all([driver.launch({ inMemory: true }), servePages('lab')]);
    });
    afterAll(async () => {
      await Promise.all([engine?.close(), site?.close()]);
    });

    it('D5: a page whose own IndexedDB dies for good goes on with that of an iframe', async () => {
      const tab = await engine.open(`${site.origin}/lab`);
      const found = await tab.evaluate(`lab.heals('healed')`);
      expect(found).toEqual({ frames: 1, runs: ['run-1', 'run-2'] });
      await tab.close();
    });

    /** In one tab, at the same time: a tab behind another one has slow timers. */
    const runAll = async () => {
      const tab = await engine.open(`${site.origin}/lab`);
      const run = async (place: Place) => [place, await tab.evaluate<readonly SuiteResult[]>(PLACES[place])] as const;
      const results = new Map(await Promise.all(places.map(run)));
      await tab.close();
      return results;
    };
    let running: ReturnType<typeof runAll> | undefined;

    describe.each(places)('IndexedDB store in a %s', (place) => {
      let results: readonly SuiteResult[] = [];
      beforeAll(async () => {
        results = (await (running ??= runAll())).get(place)!;
      }, 400_000);
      it.each(conformanceCases.map(({ name }) => name))('%s', (name) => {
        const result = results.find((one) => one.name === name);
        expect(result?.kind, result?.detail).toBe('passed');
      });
    });
  });
}
