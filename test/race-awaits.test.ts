import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { HandlerContext, Stepfast } from '../src/index.js';
import { everyWay } from './crash-everywhere.js';

// Pins: spec R7 where a handler awaits something else (an import, a fetch) that takes longer on the replay than it did: what
// was decided stays decided, and a loser neither runs, nor is timed out, nor takes an event before that is known.

beforeEach(() => void vi.spyOn(console, 'warn').mockImplementation(() => undefined));
afterEach(() => void vi.restoreAllMocks());

type Step = HandlerContext<unknown>['step'];

/** Something else that is awaited: over at once in the first life, when the test says so in the second. */
function outside() {
  let open = (): void => undefined;
  let over = Promise.resolve();
  return {
    wait: () => over,
    slow: () =>
      void (over = new Promise((resolve) => {
        open = resolve;
      })),
    open: () => open(),
  };
}

const contests: readonly (readonly [
  title: string,
  race: (step: Step, load: () => Promise<void>, log: string[]) => Promise<unknown>,
])[] = [
  [
    'an event won over a sleep, and its branch is slower',
    (step, load) => {
      const approval = load().then(async () => (await step.waitForEvent('first')).name);
      return Promise.race([approval, step.sleep('patience', '1h').then(() => 'late')]);
    },
  ],
  [
    'an event won over a sleep in step.race, and its branch is slower',
    (step, load) => {
      const approval = load().then(async () => (await step.waitForEvent('first')).name);
      return step.race([approval, step.sleep('patience', '1h').then(() => 'late')]);
    },
  ],
  [
    'an event won over a wait that gives up for the run',
    (step, load) => {
      const approval = load().then(async () => (await step.waitForEvent('first')).name);
      return step.race([approval, step.waitForEvent('second', { timeout: '1h', onTimeout: 'cancel' })]);
    },
  ],
  [
    'an event won over another event, and a branch beside them is slower',
    async (step, load) => {
      const beside = load().then(() => step.run('beside', () => 1));
      const found = await step.race([step.waitForEvent('first'), step.waitForEvent('second')]);
      await beside;
      return found.name;
    },
  ],
  [
    'an event won over a step that was withdrawn, and is not entered again',
    (step, load, log) => {
      const loser = step.run('loser', async ({ signal }) => {
        log.push('loser');
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
        return 'loser';
      });
      const approval = load().then(async () => (await step.waitForEvent('first')).name);
      return step.race([loser, approval]);
    },
  ],
];

everyWay('a race beside something else that is awaited', (open) => {
  it.each(contests)('R7: %s on the replay', async (_, race) => {
    const w = open();
    const load = outside();
    const define = (stepfast: Stepfast) =>
      void stepfast.job('j', async ({ step }) => {
        const won = await race(step, load.wait, w.log);
        await step.run(`act on ${won}`, () => void w.log.push(`act on ${won}`));
        await step.waitForEvent('go');
        return won;
      });
    const engine = w.engine(define);
    await engine.start('j', undefined, { id: 'r' });
    await w.clock.idle();
    await engine.dispatch('first');
    await w.clock.idle();
    const before = [...w.log];
    expect(before.at(-1)).toBe('act on first');
    w.crash(engine);
    w.clock.jump(w.clock.now() + 2 * 3_600_000);
    load.slow();
    const next = w.engine(define);
    await next.ready();
    await next.dispatch('second');
    await next.dispatch('go');
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve, 1));
    load.open();
    await w.clock.idle();
    expect(await next.runs.get('r')).toMatchObject({ status: 'completed', result: 'first' });
    expect(w.log).toEqual(before);
    const kinds = (await next.runs.timeline('r')).map(({ kind }) => kind);
    expect(kinds, 'nothing was set aside').not.toContain('drift');
  });

  it('R7: a step that has lost is not entered again, where what was recorded before its race is asked for later', async () => {
    const w = open();
    const load = outside();
    let isLater = false;
    const define = (stepfast: Stepfast) =>
      void stepfast.job('j', async ({ step }) => {
        const settings = (isLater ? load.wait() : Promise.resolve()).then(() => step.run('settings', () => 1));
        if (!isLater) await settings;
        const loser = step.run('loser', ({ signal }) => {
          w.log.push('loser');
          return new Promise<string>((resolve) => signal.addEventListener('abort', () => resolve('loser')));
        });
        const won = await step.race([step.run('winner', () => 'winner'), loser]);
        await step.run('act', () => void w.log.push(`act on ${won}`));
        await settings;
        await step.waitForEvent('go');
        return won;
      });
    const engine = w.engine(define);
    await engine.start('j', undefined, { id: 'r' });
    await w.clock.idle();
    expect(w.log).toEqual(['loser', 'act on winner']);
    w.crash(engine);
    isLater = true;
    load.slow();
    const next = w.engine(define);
    await next.ready();
    await next.dispatch('go');
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve, 1));
    load.open();
    await w.clock.idle();
    expect(await next.runs.get('r')).toMatchObject({ status: 'completed', result: 'winner' });
    expect(w.log).toEqual(['loser', 'act on winner']);
  });
});
