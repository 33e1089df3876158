import { afterAll, beforeAll, describe, expect, it, type TestContext } from 'vitest';
import { type Driver, type Engine, type Skill, type Tab, until } from './engines/engine.js';
import type { App } from './pages/tab.js';
import { type Site, servePages } from './site.js';

/*
 * Pins spec O1 and O2 in a real browser: whatever becomes of the tab that drives a run, another one takes the run over,
 * and the one before writes nothing any more. The tests assert the takeover; the times are measured, and printed.
 */

type Answer<Method extends keyof App> = Awaited<ReturnType<App[Method]>>;

/** Calls a method of `app` in the page. */
export const call = <Method extends keyof App>(
  tab: Tab,
  method: Method,
  ...args: Parameters<App[Method]>
): Promise<Answer<Method>> => tab.evaluate(`app.${method}(...${JSON.stringify(args)})`);

interface Case {
  readonly title: string;
  /** The owner's engine is in a worker of its page, which may tell it what becomes of the page. */
  readonly host?: 'worker' | 'worker&tells' | 'worker&bridge';
  readonly needs?: readonly Skill[];
  /** What becomes of the tab that drives the run. */
  befalls(owner: Tab, site: Site): Promise<unknown>;
  /** How it comes back, if it does. */
  returns?(owner: Tab): Promise<unknown>;
}

const nowhere = (site: Site) => `${site.origin}/nothing`;

const CASES: readonly Case[] = [
  { title: 'released', befalls: (owner) => call(owner, 'close') },
  { title: 'closed', befalls: (owner) => owner.close() },
  { title: 'crashed', needs: ['crash'], befalls: (owner) => owner.crash!() },
  { title: 'reloaded', befalls: (owner) => owner.reload() },
  {
    title: 'navigated away',
    befalls: (owner, site) => owner.load(nowhere(site)),
    returns: (owner) => owner.back(),
  },
  {
    title: 'navigated away, engine in a worker',
    host: 'worker',
    befalls: (owner, site) => owner.load(nowhere(site)),
    returns: (owner) => owner.back(),
  },
  {
    title: 'navigated away, engine in a worker that its page tells',
    host: 'worker&tells',
    befalls: (owner, site) => owner.load(nowhere(site)),
    returns: (owner) => owner.back(),
  },
  {
    title: 'navigated away, engine in a worker over the bridge',
    host: 'worker&bridge',
    befalls: (owner, site) => owner.load(nowhere(site)),
    returns: (owner) => owner.back(),
  },
  {
    title: 'frozen',
    needs: ['freeze', 'thaw'],
    befalls: (owner) => owner.freeze!(),
    returns: (owner) => owner.thaw!(),
  },
  {
    title: 'stopped without a word',
    needs: ['suspend', 'wake'],
    befalls: (owner) => owner.suspend!(),
    returns: (owner) => owner.wake!(),
  },
];

declare module 'vitest' {
  interface TaskMeta {
    /** How long it took until another tab had taken over. */
    takenOverAfterMs?: number;
  }
}

export function ownership(driver: Driver): void {
  describe(driver.name, () => ownershipIn(driver));
}

function ownershipIn({ name, launch, skills, notDriven, limits = {} }: Driver): void {
  /** A test that says why it is left out, where the engine can not be driven to what it needs, or has a limit there. */
  const test = (title: string, needs: readonly Skill[], body: (context: TestContext) => Promise<void>) => {
    const lacks = needs.find((need) => !skills.includes(need));
    const limit = limits[title.split(':')[0]!];
    if (lacks) it.skip(`${title} (not driven here: ${notDriven[lacks]})`);
    else if (limit) it.skip(`${title} (a limit here: ${limit})`);
    else it(title, body);
  };
  let engine: Engine;
  let site: Site;
  const measured: string[] = [];
  beforeAll(async () => {
    [engine, site] = await Promise.all([launch(), servePages('tab', 'nothing')]);
  });
  afterAll(async () => {
    if (measured.length) console.log([`${name}: the owner was ..., taken over after`, ...measured].join('\n  '));
    await Promise.all([engine?.close(), site?.close()]);
  });

  let databases = 0;
  /** Tabs on a new database. */
  const tabs = () => {
    const db = `${name}-${++databases}`;
    const opened: Tab[] = [];
    const open = async (tab: string, more = '') => {
      const made = await engine.open(`${site.origin}/tab?db=${db}&tab=${tab}${more}`);
      opened.push(made);
      await call(made, 'ready');
      return made;
    };
    return { db, open, end: () => Promise.all(opened.map((tab) => tab.close())) };
  };
  /** Who has begun the step, in order, by the requests that it made. */
  const begunBy = (db: string) =>
    site.effects.filter((one) => one.startsWith(`${db}-work-`)).map((one) => one.slice(`${db}-work-`.length));

  describe('O2: the owner of a run in the middle of a step', () => {
    for (const { title, host, needs, befalls, returns } of CASES)
      test(`${title}: another tab takes the run over`, needs ?? [], async ({ task }) => {
        const { db, open, end } = tabs();
        const owner = await open('owner', host ? `&host=${host}` : '');
        const me = host ? 'owner-worker' : 'owner.1';
        const release = site.hold(`${db}-work-${me}`);
        const runId = await call(owner, 'start', 'work');
        await site.reached(`${db}-work-${me}`, 1);
        const other = await open('other');
        expect(await call(other, 'status', runId)).toBe('running');
        const seen = call(other, 'until', runId, 'completed');
        seen.catch(() => undefined); // awaited below, where the test comes so far
        if (needs?.length) await owner.prepare?.();
        const since = performance.now();
        await befalls(owner, site);
        await until(() => begunBy(db).length > 1);
        const afterMs = performance.now() - since;
        task.meta.takenOverAfterMs = afterMs;
        measured.push(`${title.padEnd(56)} ${(afterMs / 1000).toFixed(2)} s`);
        const next = begunBy(db)[1]!;
        expect(next).not.toBe(me);
        expect(await seen).toEqual({ status: 'completed', result: { by: next } });
        const before = await call(other, 'timeline', runId);
        expect(before.filter((entry) => entry === 'step-completed work')).toHaveLength(1);

        // The one before comes back, and what it was waiting for answers.
        release();
        await returns?.(owner);
        if (returns && !host) {
          expect(await call(owner, 'until', runId, 'completed')).toEqual({ status: 'completed', result: { by: next } });
          // A commit that is asked for later is made later: whatever it had to say by then, it has tried to.
          const later = await call(owner, 'start', 'sleep', { ms: 1 });
          await call(owner, 'until', later, 'completed');
        }
        expect(await call(other, 'timeline', runId)).toEqual(before);
        expect(begunBy(db)).toHaveLength(2);
        // A page that was frozen inside a transaction holds up the others, until the browser ends it after two minutes.
        expect((await call(other, 'told')).errors).toEqual([]);
        if (returns && !host) expect((await call(owner, 'told')).errors).toEqual([]);
        await end();
      });
  });

  test(
    'V1, a page in the back/forward cache: it keeps its place there while others commit, and sees all of it when it is back',
    [],
    async () => {
      const { open, end } = tabs();
      const page = await open('page');
      const other = await open('other');
      const waiting = (key: string) => call(other, 'start', 'wait', { key });
      const before = await waiting('a0');
      await call(page, 'until', before, 'waiting');
      await page.load(nowhere(site));
      await call(other, 'dispatchMany', ['a'], 1, true);
      await call(other, 'until', before, 'completed');
      await page.back();
      expect((await call(page, 'told')).shows.at(-1)).toBe('from the cache');
      await call(page, 'until', before, 'completed');
      // Nothing but what the other says tells of this one.
      const after = await waiting('b0');
      const seen = call(page, 'until', after, 'completed');
      await call(other, 'dispatchMany', ['b'], 1, true);
      await seen;
      for (const tab of [page, other]) expect((await call(tab, 'told')).errors).toEqual([]);
      await end();
    },
  );

  test('O2: a visible tab is preferred to a hidden one', ['show', 'crash'], async () => {
    const { db, open, end } = tabs();
    const owner = await open('owner');
    const release = site.hold(`${db}-work-owner.1`);
    const runId = await call(owner, 'start', 'work');
    await site.reached(`${db}-work-owner.1`, 1);
    const hidden = await open('hidden');
    const visible = await open('visible');
    await until(async () => (await hidden.evaluate('document.visibilityState')) === 'hidden');
    expect(await visible.evaluate('document.visibilityState')).toBe('visible');
    await owner.crash!();
    expect((await call(visible, 'until', runId, 'completed')).result).toEqual({ by: 'visible.1' });
    release();
    await end();
  });

  it('E4: of 1,000 events from two tabs, while runs register, each resumes one run once', async () => {
    const { open, end } = tabs();
    const [one, two] = [await open('one'), await open('two')];
    const prefixes = ['a', 'b'];
    const [, , ids, more] = await Promise.all([
      call(one, 'startMany', 'a', 500),
      call(two, 'startMany', 'b', 500),
      call(one, 'dispatchMany', prefixes, 500, true),
      call(two, 'dispatchMany', prefixes, 500, false),
    ]);
    expect(new Set([...ids, ...more]).size).toBe(1_000);
    const workedIn = async () => [...(await call(one, 'told')).worked, ...(await call(two, 'told')).worked];
    await until(async () => (await workedIn()).length >= 1_000);
    await until(async () => (await call(one, 'count', 'waiting')) + (await call(one, 'count', 'running')) === 0);
    expect(await call(two, 'count', 'completed')).toBe(1_000);
    const worked = await workedIn();
    expect(worked).toHaveLength(1_000);
    expect(new Set(worked).size).toBe(1_000);
    for (const tab of [one, two]) expect((await call(tab, 'told')).errors).toEqual([]);
    await end();
  });

  test('Q4: a hidden tab acts on a deadline that has passed when it is shown', ['show'], async () => {
    const { open, end } = tabs();
    const tab = await open('tab', '&clock');
    const runId = await call(tab, 'start', 'sleep', { ms: 86_400_000 });
    await call(tab, 'until', runId, 'sleeping');
    const front = await engine.open(nowhere(site));
    await until(async () => (await tab.evaluate('document.visibilityState')) === 'hidden');
    await call(tab, 'shift', 86_400_001);
    expect(await call(tab, 'status', runId), 'its timer is set for tomorrow').toBe('sleeping');
    await tab.show!();
    await call(tab, 'until', runId, 'completed');
    await front.close();
    await end();
  });

  it('Q4: a sleep of 30 days does not end early', async () => {
    const { open, end } = tabs();
    const tab = await open('tab');
    const runId = await call(tab, 'start', 'sleep', { ms: 30 * 86_400_000 });
    await call(tab, 'until', runId, 'sleeping');
    const other = await call(tab, 'start', 'sleep', { ms: 50 });
    await call(tab, 'until', other, 'completed');
    expect(await call(tab, 'status', runId)).toBe('sleeping');
    expect((await call(tab, 'told')).longTimers, 'the browser would fire them at once').toBe(0);
    await end();
  });
}
