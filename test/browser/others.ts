import { describe, it } from 'vitest';
import { bridge } from './bridge.js';
import { conformance } from './conformance.js';
import { contexts } from './contexts.js';
import type { Driver } from './engines/engine.js';
import { flow } from './flow.js';
import { healing } from './healing.js';
import { ownership } from './ownership.js';
import { releases } from './releases.js';

/*
 * What is shown of engines other than Chromium: the flow, the conformance suite, who owns a run, where engines
 * live and are used over the bridge, what heals, and several releases. One that is missing is left out.
 */

export function others(driver: Driver): void {
  if (!driver.find()) {
    describe(driver.name, () => it.skip(`${driver.name} is installed (it was not found: left out)`));
    return;
  }
  flow(driver);
  conformance(driver, ['page', 'worker']);
  ownership(driver);
  contexts(driver);
  bridge(driver);
  healing(driver);
  releases(driver);
}
