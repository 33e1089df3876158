import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encryption } from './encryption.js';
import { until } from './engines/engine.js';
import { launchWebKit, type WebKit, webkit } from './engines/webkit.js';
import { others } from './others.js';
import { call } from './ownership.js';
import { type Site, servePages } from './site.js';

others(webkit);
if (webkit.find()) encryption(webkit);

describe.runIf(webkit.find())('webkit', () => {
  let engine: WebKit;
  let site: Site;
  beforeAll(async () => {
    [engine, site] = await Promise.all([launchWebKit(), servePages('tab')]);
  });
  afterAll(async () => {
    await Promise.all([engine?.close(), site?.close()]);
  });

  it('D5: when the process behind IndexedDB dies, runs go on without a reload, and nothing is lost', async () => {
    const url = `${site.origin}/tab?db=lost&tab=tab`;
    const tab = await engine.open(url);
    await call(tab, 'ready');
    const asleep = await call(tab, 'start', 'sleep', { ms: 86_400_000 });
    await call(tab, 'until', asleep, 'sleeping');
    const waiting = await call(tab, 'start', 'wait', { key: 'a0' });
    await call(tab, 'until', waiting, 'waiting');
    engine.killStorage();
    // What was under way may or may not have happened: the caller is told, and asks again.
    const dispatched = () =>
      call(tab, 'dispatchMany', ['a'], 1, true).then(
        () => true,
        (error) => void expect(String(error)).toContain('[STORE_UNAVAILABLE]'),
      );
    await until(async () => (await dispatched()) === true);
    await call(tab, 'until', waiting, 'completed');
    const next = await call(tab, 'start', 'sleep', { ms: 1 });
    await call(tab, 'until', next, 'completed');
    expect(await tab.evaluate(`document.querySelectorAll('iframe').length`), 'healed by an iframe').toBe(1);

    await tab.close();
    const other = await engine.open(url);
    await call(other, 'ready');
    expect(await call(other, 'status', asleep)).toBe('sleeping');
    expect(await call(other, 'status', waiting)).toBe('completed');
    expect(await call(other, 'status', next)).toBe('completed');
    await other.close();
  });
});
