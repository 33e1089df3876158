import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { outcomes } from '../example-outcomes.js';
import { launchChromium } from './engines/chromium.js';
import type { Engine, Tab } from './engines/engine.js';
import { type Site, servePages } from './site.js';

/*
 * The worked flows of demo/examples, with all words of the step language, in a real Chromium.
 */

let engine: Engine;
let site: Site;
let tab: Tab;
beforeAll(async () => {
  [engine, site] = await Promise.all([launchChromium(), servePages('examples')]);
  tab = await engine.open(`${site.origin}/examples`);
});
afterAll(async () => {
  await Promise.all([engine?.close(), site?.close()]);
});

describe.each(['resume', 'always'])("worked flows, replay: '%s'", (replay) => {
  it.each(Object.keys(outcomes))('%s', async (name) => {
    expect(await tab.evaluate(`app.play(${JSON.stringify(name)}, ${JSON.stringify(replay)})`)).toEqual(outcomes[name]);
  });
});
