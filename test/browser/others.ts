import { describe, expect, it } from 'vitest';
import { conformance } from './conformance.js';
import type { Driver } from './engines/engine.js';
import { flow } from './flow.js';
import { ownership } from './ownership.js';

/*
 * What is shown of engines other than Chromium: all of it by `npm run test:browsers`, with `npm test` the flow with
 * reloads. The conformance suite takes two minutes there.
 */

export const isWhole = process.env.STEPFAST_BROWSERS === 'all';

export function others(driver: Driver): void {
  if (!driver.find()) {
    const title = `${driver.name} is installed`;
    if (isWhole) it(title, () => expect.unreachable(`${driver.name} was not found`));
    else describe(driver.name, () => it.skip(`${title} (it was not found: left out)`));
    return;
  }
  flow(driver, isWhole ? undefined : ['a reload']);
  if (!isWhole) return;
  conformance(driver, ['page', 'worker']);
  ownership(driver);
}
