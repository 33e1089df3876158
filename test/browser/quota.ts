import { expect } from 'vitest';
import { type Tab, until } from './engines/engine.js';
import { call } from './ownership.js';
import type { Site } from './site.js';

/** A run of this tab that writes parts of half a megabyte, more than there is room for, and what becomes of it when there is room (spec D5). */
export async function runsOutOfSpace(
  tab: Tab,
  site: Site,
  parts: number,
  makeRoom: () => Promise<unknown>,
): Promise<void> {
  await tab.load(`${site.origin}/tab?db=quota&tab=tab`);
  await call(tab, 'ready');
  const runId = await call(tab, 'start', 'fill', { parts });
  await until(async () => (await call(tab, 'told')).errors.join('\n').includes('[QUOTA_EXCEEDED]'));
  expect(['running', 'queued']).toContain(await call(tab, 'status', runId));
  const before = await call(tab, 'timeline', runId);
  await makeRoom();
  expect(await call(tab, 'until', runId, 'completed')).toEqual({ status: 'completed', result: 'full' });
  const after = await call(tab, 'timeline', runId);
  expect(after.slice(0, before.length)).toEqual(before);
  expect(after.filter((entry) => entry === 'step-completed part')).toHaveLength(parts);
}
