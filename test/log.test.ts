import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { RunSnapshot, Stepfast } from '../src/index.js';
import { type LogLine, saidBefore } from '../src/run/log.js';
import type { JournalEntry } from '../src/store/journal.js';
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
      ...['in b 1', 'attempt-failed b', 'in b 2', 'step-completed b', 'behind', 'wait-set go'],
    ]);
    expect(timeline.map(({ at }) => at)).toEqual(timeline.map(({ at }) => at).sort((one, other) => one - other));
  });

  it('V2: what a handler has said stands before what it asks for then, and before the end', async () => {
    const w = open();
    const define: Define = (stepfast) => {
      stepfast.job('told', { retry: { jitter: false } }, async ({ payload, step, log }) => {
        log.info('top');
        const nap = step.sleep('nap', '1h');
        log.info('beside');
        await nap;
        log.info('up');
        await step.uuid();
        await step.run('booked', () => 1, { undo: () => undefined }); // in the turn of the uuid
        log.info('waits');
        const go = step.waitForEvent('go');
        log.info('for');
        const on = step.waitForEvent('on');
        log.info('both');
        await Promise.all([go, on]);
        log.debug('end');
        if (payload === 'fails') throw new RangeError('no');
      });
    };
    const engine = w.engine(define);
    for (const payload of ['ends', 'fails'])
      await engine.start('told', payload, { id: payload, retry: { maxAttempts: 1 } });
    await w.clock.advance('1h');
    await engine.dispatch('go');
    await engine.dispatch('on');
    await w.clock.idle();
    for (const [id, ...end] of [
      ['ends', 'completed '],
      ['fails', 'failed ', 'undone booked'],
    ] as const) {
      const timeline = await engine.runs.timeline(id);
      expect(timeline.map(({ kind, name, message }) => message ?? `${kind} ${name ?? ''}`)).toEqual([
        ...['started ', 'claimed ', 'top', 'sleep-set nap', 'beside', 'sleep-ended nap', 'up'],
        ...['value-made stepfast:uuid', 'undo-set booked', 'step-completed booked'],
        ...['waits', 'wait-set go', 'for', 'wait-set on', 'both', 'event-taken go', 'event-taken on', 'end', ...end],
      ]);
    }
    const before = await engine.runs.timeline('ends');
    const after = await reload(w, engine, define);
    expect(await after.runs.timeline('ends')).toEqual(before);
  });

  it('V2: a line that was said after a round had begun is no later than what stands behind it', async () => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job('slow', ({ log }) => {
        w.clock.jump(w.clock.now() + 5);
        log.info('said');
      }),
    );
    await engine.start('slow', undefined, { id: 'r' });
    await w.clock.idle();
    const instants = (await engine.runs.timeline('r')).map(({ at }) => at);
    expect(instants).toEqual([...instants].sort((one, other) => one - other));
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

  it('V3: what a handler says for the first time after it has thrown is kept, and what it said before that stands before it', async () => {
    const w = open();
    let passes = 0;
    const define: Define = (stepfast) =>
      stepfast.job('parses', { retry: { initialDelay: '1s' } }, async ({ step, log }) => {
        log.info('begin');
        await step.run('work', () => undefined);
        if (++passes < 3) {
          log.warn('parsing failed', { pass: passes });
          throw new Error('bad');
        }
        log.info('parsed');
        await step.waitForEvent('go');
        log.info('end');
      });
    const engine = w.engine(define);
    await engine.start('parses', undefined, { id: 'r' });
    await w.clock.advance('1m');
    const again = await reload(w, engine, define);
    await again.dispatch('go');
    await w.clock.idle();
    expect(await said(again)).toEqual(['begin', 'parsing failed', 'parsing failed', 'parsed', 'end']);
    const timeline = (await again.runs.timeline('r')).flatMap(({ kind, message }) =>
      message === 'parsing failed' || kind === 'handler-failed' ? [kind] : [],
    );
    expect(timeline).toEqual(['logged', 'handler-failed', 'logged', 'handler-failed']);
  });

  it('V3: what is said for the first time after a retry is kept, and what was said before it is not said again', async () => {
    const w = open();
    let isPaid = false;
    const define: Define = (stepfast) =>
      stepfast.job('pays', { retry: { maxAttempts: 1 } }, async ({ step, log }) => {
        log.info('begin');
        await step
          .run('pay', () => {
            if (!isPaid) throw new Error('declined');
          })
          .catch((error) => {
            log.error('not paid');
            throw error;
          });
        for (const name of ['a', 'b', 'c']) {
          await step.run(name, () => undefined);
          log.info('sent'); // the same words are another line each time
        }
        await step.waitForEvent('go');
        log.info('end');
      });
    let engine = w.engine(define);
    await engine.start('pays', undefined, { id: 'r' });
    await w.clock.idle();
    expect(await said(engine)).toEqual(['begin', 'not paid']);
    isPaid = true;
    await engine.runs.retry('r');
    await w.clock.idle();
    for (let reloads = 0; reloads < 2; reloads++) engine = await reload(w, engine, define);
    await engine.dispatch('go');
    await w.clock.idle();
    expect(await said(engine)).toEqual(['begin', 'not paid', 'sent', 'sent', 'sent', 'end']);
  });

  it('V3: the same, whichever commit the app dies at', async () => {
    let tries = 0;
    await crashEverywhere(open, {
      define: (stepfast) =>
        stepfast.job('tries', { retry: { initialDelay: '1s' } }, async ({ step, log }) => {
          log.info('begin');
          await step.run('work', () => void (tries = 0));
          if (++tries === 1) {
            log.warn('bad');
            throw new Error('bad');
          }
          log.info('good');
          await step.run('more', () => undefined);
          log.info('end');
        }),
      async play(engine, w) {
        await engine.start('tries', undefined, { id: 'r' });
        await w.clock.advance('1m');
      },
      async check(engine, _, where) {
        const lines = await said(engine);
        expect(lines, where).toEqual(expect.arrayContaining(['begin', 'good', 'end']));
        expect(new Set(lines).size, where).toBe(lines.length);
      },
    });
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

describe.each(['memory', 'indexeddb'] as const)('progress that is a file (%s)', (name) => {
  const file = (text: string) => ({ preview: new Blob([text], { type: 'text/plain' }) });
  const textOf = ({ progress }: RunSnapshot) => (progress as ReturnType<typeof file> | undefined)?.preview.text();

  /** A run that says how far it is whenever it is told to, in front of an engine that does not drive it. */
  const open = () => {
    const w = world(media[name]!);
    const inside: { say?: (text: string) => void; end?: () => void } = {};
    const define: Define = (stepfast) =>
      stepfast.job('slow', async ({ step }) => {
        await step.run('work', async ({ progress }) => {
          inside.say = (text) => progress(file(text));
          await new Promise<void>((end) => Object.assign(inside, { end }));
        });
        await step.waitForEvent('go');
      });
    const listen = (engine: Stepfast) => {
      const heard: Promise<string | undefined>[] = [];
      engine.runs.subscribe('r', (snapshot) => void heard.push(textOf(snapshot) ?? Promise.resolve(undefined)));
      return async () =>
        (await Promise.all(heard)).filter((text, at, all) => text !== undefined && text !== all[at - 1]);
    };
    return { w, inside, define, listen };
  };

  it('V1, V3: another one of the same size and type is stored, and told here and in other contexts', async () => {
    const { w, inside, define, listen } = open();
    const engine = w.engine(define);
    const other = w.engine();
    await engine.start('slow', undefined, { id: 'r' });
    const heard = [listen(engine), listen(other)];
    await expect.poll(() => inside.say).toBeDefined();
    for (const [at, text] of ['red', 'tan', 'red'].entries()) {
      inside.say!(text);
      const told = ['red', 'tan', 'red'].slice(0, at + 1);
      for (const texts of heard) await expect.poll(texts).toEqual(told);
      expect(await textOf(await run(other))).toBe(text);
    }
  });

  it('R12, V3: said and stored once: neither time, nor looks, nor a reload, commits or tells anything more', async () => {
    const { w, inside, define } = open();
    let engine = w.engine(define);
    const other = w.engine();
    await engine.start('slow', undefined, { id: 'r' });
    await expect.poll(() => inside.say).toBeDefined();
    inside.say!('red');
    await expect.poll(async () => textOf(await run(other))).toBe('red');
    for (const end of [() => undefined, inside.end!]) {
      end();
      await w.clock.idle();
      const told: RunSnapshot[] = [];
      const undo = other.runs.subscribe('r', (snapshot) => void told.push(snapshot));
      await expect.poll(() => told.length).toBe(1);
      const before = w.commits();
      await w.clock.advance('1h');
      expect([w.commits() - before, told.length]).toEqual([0, 1]);
      undo();
    }
    const before = await engine.runs.timeline('r');
    for (let reloads = 0; reloads < 3; reloads++) engine = await reload(w, engine, define);
    expect(await engine.runs.timeline('r')).toEqual(before);
    expect([(await run(engine)).status, await textOf(await run(engine))]).toEqual(['waiting', 'red']);
  });
});

it('V3: what was said before a turn is known once each, in any order; not what steps have said, nor an earlier generation', () => {
  const line = (message: string, more: object = {}) =>
    ({ kind: 'logged', at: 1, level: 'info', message, ...more }) as unknown as LogLine;
  const entries = [
    line('a'),
    line('twice'),
    line('of a step', { id: ['s', 1] }),
    line('twice'),
    line('earlier', { earlier: true }),
    line('with', { data: { n: 1 } }),
    { kind: 'retried', at: 1, forgets: [] },
    line('after'),
  ] as unknown as JournalEntry[];
  const isKnown = saidBefore({ entries, turnedAt: 6 });
  const asked = ['twice', 'a', 'a', 'twice', 'twice', 'of a step', 'earlier', 'with', 'after'];
  expect(asked.map((message) => isKnown(line(message)))).toEqual([
    ...[true, true, false, true, false, false, false, false, false],
  ]);
  expect([isKnown(line('with', { data: { n: 2 } })), isKnown(line('with', { data: { n: 1 }, at: 9 }))]).toEqual([
    false,
    true,
  ]);
});
