import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { RunSnapshot, Stepfast } from '../src/index.js';
import { crashEverywhere, everyWay } from './crash-everywhere.js';
import { media, type World, world } from './harness.js';

// Pins: spec V3, V2, F5, F8: `log` is kept with the run and silent on replay; `progress` is seen, and resets what a crash
// loop counts.

beforeEach(() => void vi.spyOn(console, 'warn').mockImplementation(() => undefined));
afterEach(() => void vi.restoreAllMocks());

type Define = (stepfast: Stepfast) => void;

async function reload(w: World, engine: Stepfast, define: Define): Promise<Stepfast> {
  w.crash(engine);
  const next = w.engine(define);
  await next.ready();
  await w.clock.idle();
  return next;
}
const run = async (engine: Stepfast, id = 'r') => (await engine.runs.get(id))!;
const linesOf = async (engine: Stepfast, id = 'r') =>
  (await engine.runs.timeline(id)).filter(({ kind }) => kind === 'logged');
const said = async (engine: Stepfast) => (await linesOf(engine)).map(({ message }) => message);

/** A job that logs around everything a handler can wait for. */
const chatty: Define = (stepfast) => {
  stepfast.job('chatty', async ({ step, log }) => {
    log.info('begin');
    await step.run('work', ({ log: own }) => own.debug('in work'));
    log.info('worked');
    await Promise.all([
      step.sleep('nap', '1h').then(() => log.info('slept')),
      step.waitForEvent('go').then(({ payload }) => log.warn('went', payload)),
    ]);
    log.error('end', { at: new Date(0) });
  });
};

everyWay('log', (open) => {
  it('V3, V2: lines are in the timeline with level, message, data, time and the step that wrote them', async () => {
    const w = open();
    const engine = w.engine(chatty);
    await engine.start('chatty', undefined, { id: 'r' });
    await w.clock.idle();
    const began = w.clock.now();
    await engine.dispatch('go', 7);
    await w.clock.advance('1h');
    expect((await run(engine)).status).toBe('completed');
    expect(await linesOf(engine)).toEqual([
      { kind: 'logged', at: began, level: 'info', message: 'begin' },
      { kind: 'logged', at: began, level: 'debug', message: 'in work', name: 'work', occurrence: 1 },
      { kind: 'logged', at: began, level: 'info', message: 'worked' },
      { kind: 'logged', at: began, level: 'warn', message: 'went', data: 7 },
      { kind: 'logged', at: began + 3_600_000, level: 'info', message: 'slept' },
      { kind: 'logged', at: began + 3_600_000, level: 'error', message: 'end', data: { at: new Date(0) } },
    ]);
  });

  it('V2: what a step has said stands before its end, and after what came before it', async () => {
    const w = open();
    let failures = 1;
    const engine = w.engine((stepfast) => {
      stepfast.job('told', { retry: { initialDelay: '1s', jitter: false } }, async ({ step, log }) => {
        log.info('begin');
        await step.run('a', ({ log: own }) => own.info('in a'));
        log.info('between');
        await step.run('b', ({ log: own, attempt }) => {
          own.info(`in b ${attempt}`);
          if (failures-- > 0) throw new Error('once');
        });
        log.info('behind');
        await step.waitForEvent('go');
      });
    });
    await engine.start('told', undefined, { id: 'r' });
    await w.clock.advance('1s');
    const timeline = await engine.runs.timeline('r');
    expect(timeline.map(({ kind, name, message }) => message ?? `${kind} ${name ?? ''}`)).toEqual([
      ...['started ', 'claimed ', 'begin', 'in a', 'step-completed a', 'between'],
      ...['in b 1', 'attempt-failed b', 'in b 2', 'step-completed b', 'wait-set go', 'behind'],
    ]);
    expect(timeline.map(({ at }) => at)).toEqual(timeline.map(({ at }) => at).sort((one, other) => one - other));
  });

  it('V3: silent while replaying: reloads add no line', async () => {
    const w = open();
    let engine = w.engine(chatty);
    await engine.start('chatty', undefined, { id: 'r' });
    await w.clock.idle();
    for (let reloads = 0; reloads < 3; reloads++) engine = await reload(w, engine, chatty);
    expect(await said(engine)).toEqual(['begin', 'in work', 'worked']);
    await engine.dispatch('go');
    await w.clock.idle();
    for (let reloads = 0; reloads < 3; reloads++) engine = await reload(w, engine, chatty);
    await w.clock.advance('1h');
    expect(await said(engine)).toEqual(['begin', 'in work', 'worked', 'went', 'slept', 'end']);
  });

  it('V3: each line of the handler once, whichever commit the app dies at', async () => {
    await crashEverywhere(open, {
      define: chatty,
      async play(engine, w) {
        await engine.start('chatty', undefined, { id: 'r' });
        await engine.dispatch('go', undefined, { idempotencyKey: 'go' });
        await w.clock.advance('1h');
      },
      async check(engine, w, where) {
        await w.clock.advance('1h');
        const lines = (await linesOf(engine)).filter(({ name }) => name === undefined).map(({ message }) => message);
        expect([...lines].sort(), where).toEqual(['begin', 'end', 'slept', 'went', 'worked']);
        expect([lines[0], lines[1], lines.at(-1)], where).toEqual(['begin', 'worked', 'end']);
      },
    });
  });

  it('V3: lines of failed attempts are kept, and those of a handler that threw are not said again', async () => {
    const w = open();
    let passes = 0;
    const engine = w.engine((stepfast) =>
      stepfast.job('fails', { retry: { maxAttempts: 3, initialDelay: '1s' } }, async ({ step, log }) => {
        log.info('begin');
        await step.run('work', ({ attempt, log: own }) => {
          own.info(`attempt ${attempt}`);
          if (attempt < 3) throw new Error('no');
        });
        if (++passes < 3) throw new Error('handler');
        log.info('end');
      }),
    );
    await engine.start('fails', undefined, { id: 'r' });
    await w.clock.advance('1m');
    expect((await run(engine)).status).toBe('completed');
    expect(await said(engine)).toEqual(['begin', 'attempt 1', 'attempt 2', 'attempt 3', 'end']);
  });

  it('V3: at most 1,000 lines a run are kept; the run goes on', async () => {
    const w = open();
    const define: Define = (stepfast) =>
      stepfast.job('loud', async ({ step, log }) => {
        for (let line = 0; line < 600; line++) log.info(`${line}`);
        await step.run('work', ({ log: own }) => {
          for (let line = 600; line < 1_200; line++) own.info(`${line}`);
        });
        log.info('too late');
        await step.waitForEvent('go');
        log.info('far too late');
        return 'done';
      });
    const before = w.engine(define);
    await before.start('loud', undefined, { id: 'r' });
    await w.clock.idle();
    const after = await reload(w, before, define);
    await after.dispatch('go');
    await w.clock.idle();
    expect((await run(after)).result).toBe('done');
    expect(await said(after)).toEqual(Array.from({ length: 1_000 }, (_, line) => `${line}`));
  });

  it.each([
    ['a function', () => 1],
    ['a class instance', new (class Secret {})()],
    ['a promise', Promise.resolve()],
  ])('V3, B: data that can not be stored (%s) is left out, and the line says so; nothing fails', async (_, data) => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job('bad', async ({ step, log }) => {
        log.info('from the handler', { data });
        await step.run('work', ({ log: own }) => own.warn('from a step', [data]));
        log.info(42 as never);
        return 'done';
      }),
    );
    await engine.start('bad', undefined, { id: 'r' });
    await w.clock.idle();
    expect((await run(engine)).result).toBe('done');
    const lines = await linesOf(engine);
    expect(lines.map(({ message }) => message)).toEqual([
      expect.stringMatching(/^from the handler \(data left out: .*\$\.data.*\)$/),
      expect.stringMatching(/^from a step \(data left out: .*\$\[0\].*\)$/),
      '42',
    ]);
    for (const line of lines) expect(line).not.toHaveProperty('data');
  });

  it('V3: the last lines before step.restart are kept, and the next generation says all of its own', async () => {
    const w = open();
    const define: Define = (stepfast) =>
      stepfast.job<number>('anew', async ({ payload, step, log }) => {
        log.info(`begin ${payload}`);
        await step.run('work', () => undefined);
        log.info(`end ${payload}`);
        if (payload < 2) return step.restart(payload + 1);
        await step.waitForEvent('go');
        log.info('went');
      });
    const before = w.engine(define);
    await before.start('anew', 1, { id: 'r' });
    await w.clock.idle();
    expect(await said(before)).toEqual(['end 1', 'begin 2', 'end 2']);
    const after = await reload(w, before, define);
    await after.dispatch('go');
    await w.clock.idle();
    expect(await said(after)).toEqual(['end 1', 'begin 2', 'end 2', 'went']);
  });

  it('V3: a handler that was begun anew and still runs says nothing any more', async () => {
    const w = open();
    let late = (): void => undefined;
    const engine = w.engine((stepfast) =>
      stepfast.job<number>('anew', async ({ payload, step, log }) => {
        if (payload === 0) {
          late = () => log.info('late');
          return step.restart(1);
        }
        log.info('begin');
        await step.waitForEvent('go');
        log.info('end');
      }),
    );
    await engine.start('anew', 0, { id: 'r' });
    await w.clock.idle();
    for (let line = 0; line < 3; line++) late();
    await engine.dispatch('go');
    await w.clock.idle();
    expect(await said(engine)).toEqual(['begin', 'end']);
  });
});

everyWay('progress', (open) => {
  it('V3: the snapshot shows what a step last said, and subscribers hear of it', async () => {
    const w = open();
    let next = (): void => undefined;
    const define: Define = (stepfast) =>
      stepfast.job('slow', async ({ step }) => {
        await step.run('work', async ({ progress }) => {
          for (const done of [0.25, 0.5]) {
            progress({ done, at: new Date(0) });
            await new Promise<void>((resolve) => {
              next = resolve;
            });
          }
        });
        await step.waitForEvent('go');
      });
    const engine = w.engine(define);
    const heard: unknown[] = [];
    const handle = await engine.start('slow', undefined, { id: 'r' });
    const unsubscribe = handle.subscribe((snapshot: RunSnapshot) => void heard.push(snapshot.progress));
    await expect.poll(async () => (await run(engine)).progress).toEqual({ done: 0.25, at: new Date(0) });
    await expect.poll(() => heard).toContainEqual({ done: 0.25, at: new Date(0) });
    next();
    await expect.poll(() => heard).toContainEqual({ done: 0.5, at: new Date(0) });
    expect(await run(engine)).toMatchObject({ status: 'running', progress: { done: 0.5 } });
    next();
    await w.clock.idle();
    const after = await reload(w, engine, define);
    expect(await run(after)).toMatchObject({ status: 'waiting', progress: { done: 0.5 } });
    unsubscribe();
  });

  it.each([
    ['says how far it is, is not taken for poisonous', true, { status: 'completed', result: 'done' }],
    ['says nothing, is', false, { status: 'failed', error: { code: 'CRASH_LOOP' } }],
  ])('F5: progress resets the count of interruptions: a slow step that %s', async (_, progresses, wanted) => {
    const w = open();
    let begun = 0;
    const stuck = new Set([1, 2, 3, 4, 5]);
    const define: Define = (stepfast) =>
      stepfast.job('slow', { maxInterruptions: 3 }, async ({ step }) =>
        step.run('work', async ({ progress }) => {
          const nth = ++begun;
          if (progresses) progress(nth);
          if (stuck.has(nth)) await new Promise(() => undefined);
          return 'done';
        }),
      );
    let engine = w.engine(define);
    await engine.start('slow', undefined, { id: 'r' });
    for (const nth of stuck) {
      if (progresses) await expect.poll(async () => (await run(engine)).progress).toBe(nth);
      else await expect.poll(() => begun).toBe(Math.min(nth, 3));
      w.crash(engine);
      engine = w.engine(define);
      await engine.ready();
    }
    await expect.poll(() => run(engine)).toMatchObject(wanted);
  });

  it('a value that can not be stored fails the attempt that says it, not the engine', async () => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job('bad', ({ step }) => step.run('work', ({ progress }) => progress(() => 1))),
    );
    await engine.start('bad', undefined, { id: 'r' });
    await w.clock.idle();
    expect(await run(engine)).toMatchObject({ status: 'failed', attempts: [{ error: { code: 'NOT_SERIALIZABLE' } }] });
  });
});

it('V3: a commit whose answer is lost doubles no line, of handler or step', { timeout: 60_000 }, async () => {
  for (let at = 2; at <= 5; at++) {
    const w = world(media.memory!);
    const store = w.store();
    const { commit } = store;
    let commits = 0;
    store.commit = async (batch) => {
      const outcome = await commit.call(store, batch);
      if (++commits === at) throw new Error('the answer is lost');
      return outcome;
    };
    const engine = w.engine(
      (stepfast) =>
        stepfast.job<number>('anew', async ({ payload, step, log }) => {
          log.info(`begin ${payload}`);
          await step.run('work', ({ log: own }) => own.info(`work ${payload}`));
          if (payload < 1) return step.restart(payload + 1);
          await step.run('more', ({ log: own }) => own.info('more'));
          log.info('end');
          return 'done';
        }),
      { store },
    );
    await engine.start('anew', 0, { id: 'r' });
    await expect
      .poll(async () => (await run(engine)).status, { timeout: 10_000, message: `at ${at}` })
      .toBe('completed');
    expect(await said(engine), `at ${at}`).toEqual(['work 0', 'begin 1', 'work 1', 'more', 'end']);
  }
});
