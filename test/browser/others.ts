import { describe, expect, it } from 'vitest';
import { conformance } from './conformance.js';
import { contexts } from './contexts.js';
import { type Driver, isWhole } from './engines/engine.js';
import { flow } from './flow.js';
import { healing } from './healing.js';
import { ownership } from './ownership.js';
import { releases } from './releases.js';

/*
 * What is shown of engines other than Chromium: all of it by `npm run test:browsers`; with `npm test` the conformance
 * suite, who owns a run, where engines live, and the flow with reloads.
 */

export function others(driver: Driver): void {
  if (!driver.find()) {
    const title = `${driver.name} is installed`;
    if (isWhole) it(title, () => expect.unreachable(`${driver.name} was not found`));
    else describe(driver.name, () => it.skip(`${title} (it was not found: left out)`));
    return;
  }
  flow(driver, isWhole ? undefined : ['a reload']);
  conformance(driver, ['page', 'worker']);
  ownership(driver);
  contexts(driver);
  if (!isWhole) return;
  healing(driver);
  releases(driver);
}
