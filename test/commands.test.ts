import { expect, it, vi } from 'vitest';
import { z } from 'zod';
import {
  EventTimeoutError,
  FatalError,
  type RunSnapshot,
  StepError,
  type Stepfast,
  StepfastError,
} from '../src/index.js';
import type { JournalEntry } from '../src/store/journal.js';
import { media, onEveryStore, type World, world } from './harness.js';

// Pins: spec F6, F9, Q1, V1 and V2: what can be asked of a run, and done to it, from outside.

const waiting = (stepfast: Stepfast) =>
  stepfast.job('waiting', async ({ step }) => {
    const { payload } = await step.waitForEvent('go');
    await step.run('after', () => undefined);
    return payload;
  });

/** A store, and a hint of it that does not say which run has changed: a folder that is watched tells no more. */
function hinted(w: World) {
  const store = w.store();
  const { watch } = store;
  let hint = () => {};
  store.watch = (listener) => {
    hint = () => listener(undefined, false);
    return watch.call(store, listener);
  };
  return { store, hint: () => hint() };
}

onEveryStore('cancel', (medium) => {
  it('a cancelled run is final: later events, timers and reloads revive nothing', async () => {
    const w = world(medium);
    const define = (stepfast: Stepfast) => {
      stepfast.job('patient', async ({ step }) => {
        w.log.push('pass');
        await Promise.race([step.waitForEvent('go'), step.sleep('nap', '1h')]);
        w.log.push('awake');
      });
    };
    const before = w.engine(define);
    const run = await before.start('patient');
    await w.clock.idle();
    await run.cancel();
    const cancelled = await before.runs.get(run.id);
    expect(cancelled).toMatchObject({ status: 'cancelled', endedAt: w.clock.now(), waitingFor: [] });
    expect(await before.dispatch('go')).toMatchObject({ resumed: [] });
    await w.clock.advance('2h');
    w.crash(before);
    const after = w.engine(define);
    await after.ready();
    await after.dispatch('go');
    await w.clock.advance('2h');
    expect(await after.runs.get(run.id)).toEqual(cancelled);
    expect((await after.runs.timeline(run.id)).at(-1)?.kind).toBe('cancelled');
    expect(w.log).toEqual(['pass']);
  });

  it('cancelling twice, or a run that has ended, changes nothing', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      waiting(stepfast);
      stepfast.job('quick', () => 'done');
    });
    const quick = await engine.start('quick');
    const run = await engine.start('waiting');
    await w.clock.idle();
    await quick.cancel();
    expect(await engine.runs.get(quick.id)).toMatchObject({ status: 'completed', result: 'done' });
    await run.cancel();
    const cancelled = await engine.runs.get(run.id);
    await w.clock.advance('1m');
    await engine.runs.cancel(run.id);
    expect(await engine.runs.get(run.id)).toEqual(cancelled);
  });

  it('a context that has not registered the job can cancel it', async () => {
    const w = world(medium);
    const before = w.engine(waiting);
    const { id } = await before.start('waiting');
    await w.clock.idle();
    await before.close();
    const stranger = w.engine();
    await stranger.runs.cancel(id);
    expect((await stranger.runs.get(id))?.status).toBe('cancelled');
    await stranger.close();
    const after = w.engine(waiting);
    expect((await after.dispatch('go')).resumed).toEqual([]);
    await w.clock.idle();
    expect((await after.runs.get(id))?.status).toBe('cancelled');
  });

  it('a blocked run can be cancelled', async () => {
    const w = world(medium);
    const engine = w.engine();
    const { id } = await engine.start('elsewhere', undefined, { allowUnregistered: true });
    expect((await engine.runs.get(id))?.status).toBe('blocked');
    await engine.runs.cancel(id);
    expect((await engine.runs.get(id))?.status).toBe('cancelled');
  });

  it('a run that is scheduled, retrying or sleeping does not start any more once it is cancelled', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('scheduled', () => void w.log.push('scheduled'));
      stepfast.job('sleeping', async ({ step }) => {
        await step.sleep('nap', '1h');
        w.log.push('sleeping');
      });
      stepfast.job('retrying', ({ step }) =>
        step.run('call', ({ attempt }) => {
          if (attempt > 1) w.log.push('retrying');
          throw new Error('no');
        }),
      );
    });
    const names = ['scheduled', 'sleeping', 'retrying'];
    for (const name of names)
      await engine.start(name, undefined, { id: name, ...(name === 'scheduled' && { delay: '1h' }) });
    await w.clock.idle();
    for (const name of names) {
      expect((await engine.runs.get(name))?.status).toBe(name);
      await engine.runs.cancel(name);
    }
    await w.clock.advance('1 day');
    expect(w.log).toEqual([]);
    for (const name of names) expect((await engine.runs.get(name))?.status).toBe('cancelled');
  });

  it('cancel aborts the signals in flight, and what the step returns later starts nothing', async () => {
    const w = world(medium);
    let settle: (value: string) => void = () => undefined;
    const signals: AbortSignal[] = [];
    const engine = w.engine((stepfast) => {
      stepfast.job('slow', async ({ step, signal }) => {
        signals.push(signal);
        await step.run('call', (context) => {
          signals.push(context.signal);
          return new Promise<string>((resolve) => (settle = resolve));
        });
        await step.run('next', () => void w.log.push('next'));
      });
    });
    const run = await engine.start('slow');
    await expect.poll(() => signals.length).toBe(2);
    expect(signals.map(({ aborted }) => aborted)).toEqual([false, false]);
    await run.cancel();
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, true]);
    settle('late');
    await w.clock.idle();
    expect(await run.status()).toBe('cancelled');
    expect(w.log).toEqual([]);
    expect((await engine.runs.timeline(run.id)).at(-1)?.kind).toBe('cancelled');
  });

  it('cancelling a run that is not there is refused with RUN_NOT_FOUND', async () => {
    const engine = world(medium).engine(waiting);
    await expect(engine.runs.cancel('nobody')).rejects.toMatchObject({ code: 'RUN_NOT_FOUND' });
  });
});

onEveryStore('runs.retry', (medium) => {
  it('reuses completed steps, forgets the failure, and says so in the timeline', async () => {
    const w = world(medium);
    let isBroken = true;
    const define = (stepfast: Stepfast) => {
      stepfast.job('two', { retry: { maxAttempts: 1 } }, async ({ step }) => {
        const first = await step.run('first', () => w.log.push('first'));
        return step.run('second', ({ idempotencyKey }) => {
          w.log.push(idempotencyKey);
          if (isBroken) throw new Error('broken');
          return { first };
        });
      });
    };
    const before = w.engine(define);
    const run = await before.start('two', undefined, { id: 'r' });
    await w.clock.idle();
    const failed = await before.runs.get('r');
    expect(failed).toMatchObject({ status: 'failed', error: { code: 'STEP_FAILED', step: 'second' } });
    isBroken = false;
    await run.retry();
    await w.clock.idle();
    const done = await before.runs.get('r');
    expect(done).toMatchObject({ status: 'completed', result: { first: 1 } });
    expect(done).not.toHaveProperty('error');
    expect(w.log).toEqual(['first', 'r/0/second/1', 'r/0/second/1']);
    expect((await before.runs.timeline('r')).map(({ kind }) => kind)).toContain('retried');
    w.crash(before);
    const after = w.engine(define);
    expect(await after.runs.get('r')).toEqual(done);
  });

  it('gives a fresh budget of attempts', async () => {
    const w = world(medium);
    let calls = 0;
    const engine = w.engine((stepfast) => {
      stepfast.job('flaky', { retry: { maxAttempts: 3 } }, ({ step }) =>
        step.run('call', () => {
          calls++;
          throw new Error('no');
        }),
      );
    });
    const run = await engine.start('flaky');
    await w.clock.advance('10m');
    expect(calls).toBe(3);
    await run.retry();
    await w.clock.advance('10m');
    expect(calls).toBe(6);
    expect(await run.status()).toBe('failed');
  });

  it('revives a run that failed by an error of its handler', async () => {
    const w = world(medium);
    let isBroken = true;
    const engine = w.engine((stepfast) => {
      stepfast.job('clumsy', { retry: { maxAttempts: 2 } }, async ({ step }) => {
        await step.run('once', () => void w.log.push('once'));
        if (isBroken) throw new Error('broken');
        return 'done';
      });
    });
    const run = await engine.start('clumsy');
    await w.clock.advance('10m');
    expect(await run.status()).toBe('failed');
    isBroken = false;
    await run.retry();
    await w.clock.idle();
    expect(await run.result()).toBe('done');
    expect(w.log).toEqual(['once']);
  });

  it('keeps a failure that was caught before, and forgets those recorded after the first that ended the run', async () => {
    const w = world(medium);
    let isBroken = true;
    const engine = w.engine((stepfast) => {
      stepfast.job('three', { retry: { maxAttempts: 1 } }, async ({ step }) => {
        const attempt = (name: string) =>
          step.run(name, () => {
            w.log.push(name);
            if (isBroken) throw new Error(name);
            return name;
          });
        const caught = await attempt('caught').catch(() => 'fallback');
        const reason = await attempt('cause').catch((error: unknown) => error);
        const after = await attempt('after').catch(() => 'fallback');
        if (reason instanceof Error) throw new Error('all in all', { cause: reason });
        return [caught, reason, after];
      });
    });
    const run = await engine.start('three');
    await w.clock.idle();
    expect(await run.status()).toBe('failed');
    isBroken = false;
    await run.retry();
    await w.clock.idle();
    expect(await run.result()).toEqual(['fallback', 'cause', 'after']);
    expect(w.log).toEqual(['caught', 'cause', 'after', 'cause', 'after']);
  });

  it('keeps the caught failure of an earlier step that has the same name as the one that ended the run', async () => {
    const w = world(medium);
    let isBroken = true;
    const engine = w.engine((stepfast) => {
      stepfast.job('same', { retry: { maxAttempts: 1 } }, async ({ step }) => {
        const call = (place: string) =>
          step.run('call', () => {
            w.log.push(place);
            if (isBroken) throw new Error(place);
            return place;
          });
        const first = await call('first').catch(() => 'fallback');
        await step.run(`after ${first}`, () => void w.log.push(`after ${first}`));
        return [first, await call('second')];
      });
    });
    const run = await engine.start('same');
    await w.clock.idle();
    expect(await run.status()).toBe('failed');
    isBroken = false;
    await run.retry();
    await w.clock.advance('1m');
    expect(await engine.runs.get(run.id)).toMatchObject({ status: 'completed', result: ['fallback', 'second'] });
    expect(w.log).toEqual(['first', 'after fallback', 'second', 'second']);
  });

  it('forgets every failure that an AggregateError carries', async () => {
    const w = world(medium);
    let isBroken = true;
    const engine = w.engine((stepfast) => {
      stepfast.job('any', ({ step }) =>
        Promise.any(
          ['a', 'b'].map((name) =>
            step.run(name, () => {
              w.log.push(name);
              if (isBroken) throw new FatalError(name);
              return name;
            }),
          ),
        ),
      );
    });
    const run = await engine.start('any');
    await w.clock.idle();
    expect(await run.status()).toBe('failed');
    isBroken = false;
    await run.retry();
    await w.clock.idle();
    expect(await run.status()).toBe('completed');
    expect([...w.log].sort()).toEqual(['a', 'a', 'b', 'b']);
  });

  it('arms a timed-out wait again, with a deadline of its own', async () => {
    const w = world(medium);
    const define = (stepfast: Stepfast) => {
      stepfast.job('late', async ({ step }) => {
        await step.run('once', () => void w.log.push('once'));
        return (await step.waitForEvent<string>('go', { timeout: '1h' })).payload;
      });
    };
    const before = w.engine(define);
    const run = await before.start('late');
    await w.clock.advance('3h');
    await expect(run.result()).rejects.toMatchObject({ code: 'EVENT_TIMEOUT' });
    await run.retry();
    await w.clock.idle();
    expect(await before.runs.get(run.id)).toMatchObject({
      status: 'waiting',
      waitingFor: [{ events: ['go'], deadline: w.clock.now() + 3_600_000 }],
    });
    w.crash(before);
    const after = w.engine(define);
    expect((await after.dispatch('go', 'now')).resumed).toEqual([run.id]);
    await w.clock.idle();
    expect(await after.runs.get(run.id)).toMatchObject({ status: 'completed', result: 'now' });
    expect(w.log).toEqual(['once']);
  });

  it('with from, does that step and what came after it again', async () => {
    const w = world(medium);
    let isBroken = true;
    const engine = w.engine((stepfast) => {
      stepfast.job('four', { retry: { maxAttempts: 1 } }, async ({ step }) => {
        for (const name of ['a', 'b', 'c']) await step.run(name, () => void w.log.push(name));
        await step.run('d', () => {
          w.log.push('d');
          if (isBroken) throw new Error('no');
        });
      });
    });
    const { id } = await engine.start('four');
    await w.clock.idle();
    isBroken = false;
    await engine.runs.retry(id, { from: 'b' });
    await w.clock.idle();
    expect((await engine.runs.get(id))?.status).toBe('completed');
    expect(w.log.join('')).toBe('abcdbcd');
  });

  it('with from, refuses a step that the run does not have, and the run stays failed', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('fatal', ({ step }) =>
        step.run('a', () => {
          throw new FatalError('no');
        }),
      );
    });
    const { id } = await engine.start('fatal');
    await w.clock.idle();
    await expect(engine.runs.retry(id, { from: 'nowhere' })).rejects.toMatchObject({ code: 'INVALID_OPTION' });
    expect((await engine.runs.get(id))?.status).toBe('failed');
  });

  it('is refused with RUN_NOT_FAILED for a run that is active, completed or cancelled', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      waiting(stepfast);
      stepfast.job('quick', () => undefined);
    });
    const active = await engine.start('waiting');
    const completed = await engine.start('quick');
    const cancelled = await engine.start('waiting');
    await cancelled.cancel();
    await w.clock.idle();
    for (const run of [active, completed, cancelled])
      await expect(run.retry()).rejects.toMatchObject({ code: 'RUN_NOT_FAILED' });
    await expect(engine.runs.retry('nobody')).rejects.toMatchObject({ code: 'RUN_NOT_FOUND' });
    expect(await active.status()).toBe('waiting');
  });

  it('may come from a context without the job; one that has it goes on', async () => {
    const w = world(medium);
    let isBroken = true;
    const define = (stepfast: Stepfast) => {
      stepfast.job('flaky', { retry: { maxAttempts: 1 } }, ({ step }) =>
        step.run('call', () => {
          if (isBroken) throw new Error('no');
          return 'done';
        }),
      );
    };
    const before = w.engine(define);
    const { id } = await before.start('flaky');
    await w.clock.idle();
    await before.close();
    isBroken = false;
    const stranger = w.engine();
    await stranger.runs.retry(id);
    expect((await stranger.runs.get(id))?.status).toBe('blocked');
    await stranger.close();
    const after = w.engine(define);
    await after.ready();
    await w.clock.idle();
    expect(await after.runs.get(id)).toMatchObject({ status: 'completed', result: 'done' });
  });
});

onEveryStore('runs seen from outside', (medium) => {
  it('runs.get of a run that is not there is undefined', async () => {
    const engine = world(medium).engine(waiting);
    expect(await engine.runs.get('nobody')).toBeUndefined();
  });

  it('runs.list filters by status, job and tag, newest first', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      waiting(stepfast);
      stepfast.job('quick', () => undefined);
      stepfast.job('fatal', () => {
        throw new FatalError('no');
      });
    });
    await engine.start('waiting', undefined, { id: 'w1', tags: ['eu', 'big'] });
    await engine.start('quick', undefined, { id: 'q1', tags: ['eu'] });
    await engine.start('fatal', undefined, { id: 'f1' });
    await engine.start('quick', undefined, { id: 'q2', tags: ['us'] });
    await engine.start('waiting', undefined, { id: 'w2' });
    await engine.runs.cancel('w2');
    await w.clock.idle();
    const ids = async (filter?: Parameters<Stepfast['runs']['list']>[0]) =>
      (await engine.runs.list(filter)).runs.map(({ id }) => id);
    expect(await ids()).toEqual(['w2', 'q2', 'f1', 'q1', 'w1']);
    expect(await ids({ status: 'failed' })).toEqual(['f1']);
    expect(await ids({ status: ['completed', 'cancelled'] })).toEqual(['w2', 'q2', 'q1']);
    expect(await ids({ job: 'waiting' })).toEqual(['w2', 'w1']);
    expect(await ids({ tag: 'eu' })).toEqual(['q1', 'w1']);
    expect(await ids({ tag: 'eu', job: 'waiting', status: 'waiting' })).toEqual(['w1']);
    expect(await ids({ job: 'nothing of that name' })).toEqual([]);
  });

  it('the cursor of runs.list gives every run once, also when runs are added in between', async () => {
    const w = world(medium);
    const engine = w.engine(waiting);
    for (let run = 1; run <= 7; run++) await engine.start('waiting', undefined, { id: `r${run}` });
    const seen: string[] = [];
    let cursor: string | undefined;
    let pages = 0;
    do {
      const page = await engine.runs.list({ job: 'waiting', limit: 3 }, cursor);
      expect(page.runs.length).toBeLessThanOrEqual(3);
      seen.push(...page.runs.map(({ id }) => id));
      cursor = page.cursor;
      await engine.start('waiting', undefined, { id: `added${++pages}` });
    } while (cursor !== undefined && pages < 10);
    expect(seen).toEqual(['r7', 'r6', 'r5', 'r4', 'r3', 'r2', 'r1']);
  });

  it.each([0, -1, 1.5, 1_001, Number.NaN])('runs.list refuses a limit of %s', async (limit) => {
    const engine = world(medium).engine(waiting);
    await expect(engine.runs.list({ limit })).rejects.toMatchObject({ code: 'INVALID_OPTION' });
  });

  it('V2: the timeline has what errors carried, and the retry options of the start, as they were given', async () => {
    const data = new Map<string, unknown>([['at', new Date(5)]]);
    data.set('self', data);
    const inner = Object.assign(new Error('inner'), { data });
    const engine = world(medium).engine((stepfast) => {
      stepfast.job('fails', async ({ step }) => {
        await step.run('a', () => {
          const cause = new AggregateError([inner, 'thrown'], 'several');
          throw Object.assign(new FatalError('no', { cause }), { code: 'E_NO', data: { of: inner.data, big: 5n } });
        });
      });
    });
    const retry = { maxAttempts: Number.POSITIVE_INFINITY };
    const { id } = await engine.start('fails', undefined, { retry });
    await expect.poll(async () => (await engine.runs.get(id))!.status).toBe('failed');
    const timeline = await engine.runs.timeline(id);
    expect(timeline[0]).toMatchObject({ kind: 'started', retry });
    const error = {
      name: 'FatalError',
      message: 'no',
      code: 'E_NO',
      stack: expect.stringContaining('FatalError: no'),
      data: { of: data, big: 5n },
      cause: {
        name: 'AggregateError',
        message: 'several',
        stack: expect.any(String),
        errors: [
          { name: 'Error', message: 'inner', stack: expect.any(String), data },
          { name: 'Error', message: 'thrown', data: 'thrown' },
        ],
      },
    };
    expect(timeline.find(({ kind }) => kind === 'step-failed')!.error).toEqual(error);
    expect(timeline.at(-1)).toMatchObject({ kind: 'failed', error: { code: 'STEP_FAILED', step: 'a', cause: error } });
  });

  it('the timeline tells the start, claims, attempts, sleeps, waits, events and the end, in order and with times', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job<{ n: number }>('all', async ({ payload, step }) => {
        await step.run('flaky', ({ attempt }) => {
          if (attempt === 1) throw new Error('not yet');
          return payload.n;
        });
        await step.sleep('nap', '1h');
        const { payload: answer } = await step.waitForEvent<string>('go', { correlationKey: 'k', timeout: '1 day' });
        return answer;
      });
    });
    const start = w.clock.now();
    const { id } = await engine.start('all', { n: 1 }, { retry: { jitter: false } });
    await w.clock.advance('2h');
    await engine.dispatch('go', 'yes', { correlationKey: 'k' });
    await w.clock.idle();
    const timeline = await engine.runs.timeline(id);
    expect(timeline.filter(({ kind }) => kind !== 'claimed')).toMatchObject([
      { kind: 'started', at: start, payload: { n: 1 } },
      { kind: 'attempt-failed', at: start, name: 'flaky', attempt: 1, error: { message: 'not yet' } },
      { kind: 'step-completed', at: start + 1_000, name: 'flaky', occurrence: 1, attempt: 2, value: 1 },
      { kind: 'sleep-set', at: start + 1_000, name: 'nap', dueAt: start + 3_601_000 },
      { kind: 'sleep-ended', at: start + 3_601_000, name: 'nap' },
      { kind: 'wait-set', at: start + 3_601_000, name: 'go', deadline: start + 90_001_000 },
      { kind: 'event-taken', at: start + 7_200_000, name: 'go', payload: 'yes' },
      { kind: 'completed', at: start + 7_200_000, value: 'yes' },
    ]);
    expect(timeline[1]).toMatchObject({ kind: 'claimed', at: start });
  });

  it('a handle tells status and result, also one that was got by starting again', async () => {
    const w = world(medium);
    const engine = w.engine(waiting);
    const run = await engine.start('waiting', undefined, { id: 'r' });
    const again = await engine.start('waiting', undefined, { id: 'r' });
    const results = Promise.all([run.result(), again.result()]);
    await w.clock.idle();
    expect(await again.status()).toBe('waiting');
    await engine.dispatch('go', { at: new Date(0) });
    expect(await results).toEqual([{ at: new Date(0) }, { at: new Date(0) }]);
    expect(await run.status()).toBe('completed');
    expect(await run.result()).toEqual({ at: new Date(0) });
  });

  it('result rejects with the error that ended the run: its code, name and message', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      waiting(stepfast);
      stepfast.job('step', ({ step }) =>
        step.run('call', () => {
          throw new FatalError('no');
        }),
      );
      stepfast.job('own', () => {
        throw Object.assign(new FatalError('mine'), { code: 'E_MINE' });
      });
      stepfast.job('late', ({ step }) => step.waitForEvent('never', { timeout: '1h' }));
    });
    const result = async (job: string) => {
      const run = await engine.start(job);
      const result = run.result().catch((error: unknown) => error);
      await w.clock.advance('1h');
      return result;
    };
    expect(await result('step')).toMatchObject({ name: 'StepError', code: 'STEP_FAILED', cause: { message: 'no' } });
    expect(await result('own')).toMatchObject({ name: 'FatalError', code: 'E_MINE', message: 'mine' });
    expect(await result('late')).toMatchObject({ name: 'EventTimeoutError', code: 'EVENT_TIMEOUT' });
    const run = await engine.start('waiting');
    const cancelled = run.result().catch((error: unknown) => error);
    await run.cancel();
    expect(await cancelled).toMatchObject({ code: 'RUN_CANCELLED', runId: run.id });
    expect(await run.result().catch((error: unknown) => error)).toMatchObject({ code: 'RUN_CANCELLED' });
  });

  it.each([
    ['StepError', StepError],
    ['EventTimeoutError', EventTimeoutError],
    ['FatalError', FatalError],
  ] as const)('result() rejects with a %s that is one, also once everything was reloaded', async (how, kind) => {
    const w = world(medium);
    const define = (stepfast: Stepfast) => {
      stepfast.job('fails', { retry: { maxAttempts: 1 } }, async ({ step }) => {
        if (how === 'FatalError') throw new FatalError('no');
        if (how === 'StepError') await step.run('s', () => Promise.reject(new TypeError('no')));
        await step.waitForEvent('never', { timeout: '1s' });
      });
    };
    const before = w.engine(define);
    await before.start('fails', undefined, { id: 'r' });
    await w.clock.advance('2s');
    w.crash(before);
    const again = await w.engine(define).start('fails', undefined, { id: 'r' });
    const error = await again.result().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(kind);
    expect(error).toMatchObject({ name: how });
    expect(error instanceof StepfastError).toBe(how !== 'FatalError');
    if (how === 'StepError') expect((error as Error).cause).toBeInstanceOf(TypeError);
  });

  it('V1: who listens in the engine that does it hears of a child that is cancelled with its parent, a start, a move', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('child', ({ step }) => step.waitForEvent('never'));
      stepfast.job('parent', ({ step }) => step.call('child', undefined, { id: 'child' }));
      stepfast.job('later', () => undefined);
      stepfast.job<number>('moved', { queue: { name: 'moved', debounce: { delay: '1m' } } }, () => undefined);
    });
    const heard = (id: string) => {
      const seen: RunSnapshot[] = [];
      engine.runs.subscribe(id, (snapshot) => seen.push(snapshot));
      return seen;
    };
    await engine.start('parent', undefined, { id: 'parent' });
    await w.clock.idle();
    const child = heard('child');
    const later = heard('later');
    await w.clock.idle();
    await engine.runs.cancel('parent');
    await engine.start('later', undefined, { id: 'later', delay: '1h' });
    const { id } = await engine.start('moved', 1);
    const moved = heard(id);
    await w.clock.idle();
    await engine.start('moved', 2);
    await w.clock.idle();
    expect(child.map(({ status }) => status)).toEqual(['waiting', 'cancelled']);
    expect(later.map(({ status }) => status)).toEqual(['scheduled']);
    expect(moved.at(-1)?.payload).toBe(2);
  });

  it('V1: who listens to a run hears nothing of changes elsewhere, whatever the store can say of them', async () => {
    const w = world(medium);
    const { store, hint } = hinted(w);
    const engine = w.engine(waiting, { store });
    const run = await engine.start('waiting');
    await w.clock.idle();
    const seen: RunSnapshot[] = [];
    run.subscribe((snapshot) => seen.push(snapshot));
    await expect.poll(() => seen.length).toBe(1);
    for (let round = 0; round < 5; round++) {
      await engine.dispatch('unrelated', round);
      hint();
      await w.clock.idle();
    }
    expect(seen).toHaveLength(1);
    await engine.dispatch('go');
    await expect.poll(() => seen.at(-1)?.status).toBe('completed');
    const { length } = seen;
    hint();
    await w.clock.idle();
    expect(seen).toHaveLength(length);
  });

  it('V1: who listens hears that a run can not go on here, and that it begins anew, though its row be the same', async () => {
    const w = world(medium);
    const before = w.engine(waiting);
    const { id } = await before.start('waiting', undefined, { delay: '1m' });
    await before.close();
    const { store, hint } = hinted(w);
    const { load } = store;
    let generation = 0;
    store.load = async (runId) => {
      const run = await load.call(store, runId);
      return run && { ...run, journal: [{ ...run.journal[0]!, generation } as JournalEntry] };
    };
    const engine = w.engine(() => undefined, { store });
    const seen: string[] = [];
    engine.runs.subscribe(id, ({ status }) => seen.push(status));
    await expect.poll(() => seen).toEqual(['scheduled']);
    generation = 1;
    hint();
    await expect.poll(() => seen).toEqual(['scheduled', 'scheduled']);
    await w.clock.advance('2m');
    hint();
    await expect.poll(() => seen.at(-1)).toBe('blocked');
    expect(seen).toHaveLength(3);
  });

  it('subscribe gives the present snapshot, then each change up to the end, and nothing once undone', async () => {
    const w = world(medium);
    const engine = w.engine(waiting);
    const run = await engine.start('waiting');
    await w.clock.idle();
    const seen: RunSnapshot[] = [];
    const undone: RunSnapshot[] = [];
    const unsubscribe = run.subscribe((snapshot) => seen.push(snapshot));
    const leave = engine.runs.subscribe(run.id, (snapshot) => undone.push(snapshot));
    await expect.poll(() => seen.length).toBe(1);
    await expect.poll(() => undone.length).toBe(1);
    expect(seen[0]).toMatchObject({ status: 'waiting', waitingFor: [{ events: ['go'] }] });
    leave();
    await engine.dispatch('go', 'now');
    await expect.poll(() => seen.at(-1)?.status).toBe('completed');
    expect(seen.at(-1)).toEqual(await engine.runs.get(run.id));
    expect(seen[0]?.status).toBe('waiting'); // a snapshot is a value: it does not change afterwards
    expect(undone).toHaveLength(1);
    unsubscribe();
  });

  it('V1: a subscriber in another context gets no snapshot twice in a row', async () => {
    const w = world(medium);
    const engine = w.engine(waiting);
    await engine.start('waiting', undefined, { id: 'r' });
    await w.clock.idle();
    const other = w.engine();
    const seen: RunSnapshot[] = [];
    other.runs.subscribe('r', (snapshot) => seen.push(snapshot));
    await expect.poll(() => seen.length).toBe(1);
    await other.dispatch('go', 'now');
    await w.clock.idle();
    await expect.poll(() => seen.at(-1)?.status).toBe('completed');
    for (const [index, snapshot] of seen.entries()) expect(snapshot).not.toEqual(seen[index - 1]);
  });

  it('a listener that throws is reported, and breaks neither the run nor other listeners', async () => {
    const w = world(medium);
    const engine = w.engine(waiting);
    const run = await engine.start('waiting');
    const seen: string[] = [];
    run.subscribe(() => {
      throw new Error('listener');
    });
    run.subscribe(({ status }) => seen.push(status));
    await w.clock.idle();
    await engine.dispatch('go');
    await w.clock.idle();
    await expect.poll(() => seen.at(-1)).toBe('completed');
    expect(w.errors).toContainEqual(expect.objectContaining({ message: 'listener' }));
  });

  it('after close() every call is refused with CLOSED, and closing again is fine', async () => {
    const w = world(medium);
    const engine = w.engine(waiting);
    const run = await engine.start('waiting', undefined, { id: 'r' });
    await w.clock.idle();
    const pending = run.result().catch((error: unknown) => error);
    await engine.close();
    await engine.close();
    const calls = [
      () => engine.ready(),
      () => engine.start('waiting'),
      () => engine.dispatch('go'),
      () => engine.runs.get('r'),
      () => engine.runs.list(),
      () => engine.runs.timeline('r'),
      () => engine.runs.cancel('r'),
      () => engine.runs.retry('r'),
      () => run.status(),
      () => run.result(),
      () => run.cancel(),
      () => run.retry(),
    ];
    for (const call of calls) await expect(call()).rejects.toMatchObject({ code: 'CLOSED' });
    expect(await pending).toMatchObject({ code: 'CLOSED' });
    const after = w.engine(waiting);
    expect((await after.runs.list()).runs.map(({ id, status }) => [id, status])).toEqual([['r', 'waiting']]);
  });

  it('closing an engine that was never used is fine, and leaves it closed', async () => {
    const engine = world(medium).engine(waiting);
    await engine.close();
    await expect(engine.ready()).rejects.toMatchObject({ code: 'CLOSED' });
  });
});

onEveryStore('starting twice', (medium) => {
  const keep = (stepfast: Stepfast) => {
    stepfast.job<unknown>('keep', ({ payload }) => payload);
    stepfast.job<unknown>('other', ({ payload }) => payload);
  };
  const count = async (engine: Stepfast) => (await engine.runs.list()).runs.length;

  it.each([
    ['idempotency key', { idempotencyKey: 'k' }],
    ['id', { id: 'k' }],
    ['idempotency key and id', { id: 'i', idempotencyKey: 'k' }],
  ])('the same %s and an equal payload give the same run', async (_, options) => {
    const w = world(medium);
    const engine = w.engine(keep);
    const payload = () => ({ user: { id: 1n, at: new Date(0) }, list: [1, { a: undefined, b: Number.NaN }] });
    const first = await engine.start('keep', payload(), options);
    expect(first.created).toBe(true);
    expect(await engine.start('keep', payload(), options)).toMatchObject({ id: first.id, created: false });
    await w.clock.idle();
    const ended = await engine.start('keep', payload(), options);
    expect(ended).toMatchObject({ id: first.id, created: false });
    expect(await ended.result()).toEqual(payload());
    expect(await count(engine)).toBe(1);
  });

  it('the order of keys in the payload does not count, at any depth', async () => {
    const engine = world(medium).engine(keep);
    const first = await engine.start('keep', { a: 1, b: [{ c: 2, d: 3 }] }, { idempotencyKey: 'k' });
    const again = await engine.start('keep', { b: [{ d: 3, c: 2 }], a: 1 }, { idempotencyKey: 'k' });
    expect(again).toMatchObject({ id: first.id, created: false });
  });

  it.each([
    ['another value', { a: 1 }, { a: 2 }],
    ['another type of the same text', { a: 1 }, { a: '1' }],
    ['a date and its text', new Date(0), new Date(0).toISOString()],
    ['another order of a list', [1, 2], [2, 1]],
    ['one key more', { a: 1 }, { a: 1, b: 1 }],
    ['nothing', { a: 1 }, undefined],
  ])('the same key or id with another payload is refused, and nothing is written: %s', async (_, first, second) => {
    const engine = world(medium).engine(keep);
    for (const options of [{ idempotencyKey: 'k' }, { id: 'i' }]) {
      await engine.start('keep', first, options);
      const runs = await count(engine);
      await expect(engine.start('keep', second, options)).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
      expect(await count(engine)).toBe(runs);
    }
  });

  it('the same idempotency key for another job is another run, the same id is not', async () => {
    const engine = world(medium).engine(keep);
    const first = await engine.start('keep', 1, { idempotencyKey: 'k' });
    const other = await engine.start('other', 1, { idempotencyKey: 'k' });
    expect(other.created).toBe(true);
    expect(other.id).not.toBe(first.id);
    await engine.start('keep', 1, { id: 'i' });
    await expect(engine.start('other', 1, { id: 'i' })).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
  });

  it('a crash, or days, do not make it forgotten', async () => {
    const w = world(medium);
    const before = w.engine(keep);
    const first = await before.start('keep', 1, { idempotencyKey: 'k' });
    await w.clock.idle();
    w.crash(before);
    await w.clock.advance('29 days');
    const after = w.engine(keep);
    expect(await after.start('keep', 1, { idempotencyKey: 'k' })).toMatchObject({ id: first.id, created: false });
    await expect(after.start('keep', 2, { idempotencyKey: 'k' })).rejects.toMatchObject({
      code: 'IDEMPOTENCY_CONFLICT',
    });
  });

  it('ten starts at once make one run', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('once', ({ step }) => step.run('once', () => void w.log.push('once')));
    });
    const runs = await Promise.all(
      Array.from({ length: 10 }, () => engine.start('once', undefined, { idempotencyKey: 'k' })),
    );
    expect(runs.filter(({ created }) => created)).toHaveLength(1);
    expect(new Set(runs.map(({ id }) => id)).size).toBe(1);
    await w.clock.idle();
    expect(w.log).toEqual(['once']);
  });

  it('payloads are compared as given, before a schema transforms them', async () => {
    const w = world(medium);
    let made = 0;
    const engine = w.engine((stepfast) => {
      stepfast.job(
        'mail',
        {
          payload: z.object({
            email: z.string().transform((text) => text.toLowerCase()),
            token: z.number().default(() => ++made),
          }),
        },
        ({ payload }) => payload,
      );
    });
    const first = await engine.start('mail', { email: 'Ada@Example.com' }, { idempotencyKey: 'k' });
    // The transform gives another token each time; the payload as given is the same.
    const again = await engine.start('mail', { email: 'Ada@Example.com' }, { idempotencyKey: 'k' });
    expect(again).toMatchObject({ id: first.id, created: false });
    expect(await again.result()).toEqual({ email: 'ada@example.com', token: 1 });
    // Equal once transformed, different as given.
    await expect(
      engine.start('mail', { email: 'ada@example.com', token: 1 }, { idempotencyKey: 'k' }),
    ).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
  });

  it('a payload that its schema refuses starts nothing, and says what is wrong', async () => {
    const engine = world(medium).engine((stepfast) => {
      stepfast.job('mail', { payload: z.object({ email: z.string() }) }, ({ payload }) => payload);
    });
    const refused = engine.start('mail', { email: 42 }, { idempotencyKey: 'k' });
    await expect(refused).rejects.toMatchObject({ code: 'INVALID_PAYLOAD', issues: [{ path: ['email'] }] });
    expect(await count(engine)).toBe(0);
    expect((await engine.start('mail', { email: 'a@b' }, { idempotencyKey: 'k' })).created).toBe(true);
  });
});

it('Q4: who awaits the result of a run that is driven here reads nothing for it', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    const w = world(media.memory!);
    const store = w.store();
    const load = vi.spyOn(store, 'load');
    const engine = w.engine((stepfast) => void waiting(stepfast), { store });
    const run = await engine.start('waiting');
    const result = run.result();
    while ((await run.status()) !== 'waiting') await new Promise<void>((resolve) => setImmediate(resolve));
    const before = load.mock.calls.length;
    await vi.advanceTimersByTimeAsync(60_000);
    expect(load.mock.calls.length).toBe(before);
    await engine.dispatch('go', 'came');
    expect(await result).toBe('came');
  } finally {
    vi.useRealTimers();
  }
});
