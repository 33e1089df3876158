import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { isStepfastError, type Stepfast, type WaitOptions } from '../src/index.js';
import { onEveryStore, type World, world } from './harness.js';

// Pins: spec E1-E8, E10, E11 (one wait for the first of several), R6 (waiting is no error), F2 (a timed-out wait is not
// retried by running the handler again).

const HOUR = 60 * 60_000;

beforeEach(() => void vi.spyOn(console, 'warn').mockImplementation(() => undefined));
afterEach(() => void vi.restoreAllMocks());

/** A job that waits once for `go` and returns what came. */
const waiter = (options: WaitOptions & { before?: string } = {}) => {
  const { before, ...wait } = options;
  return (stepfast: Stepfast) => {
    stepfast.job<{ key?: string } | undefined>('waiter', async ({ payload, step }) => {
      if (before) await step.waitForEvent(before);
      const correlated = payload?.key === undefined ? {} : { correlationKey: payload.key };
      const event = await step.waitForEvent('go', { ...correlated, ...wait, onTimeout: 'continue' });
      return event.timedOut ? `timed out at ${event.deadline}` : event.payload;
    });
  };
};
const resultOf = async (engine: Stepfast, id: string) => {
  const run = await engine.runs.get(id);
  return run?.status === 'completed' ? run.result : run?.status;
};
/** The app is closed for a while: `meanwhile` happens in a context that has no jobs. */
async function closeFor(w: World, engine: Stepfast, meanwhile: (sender: Stepfast) => Promise<void>): Promise<void> {
  w.crash(engine);
  const sender = w.engine();
  await meanwhile(sender);
  await sender.close();
}

onEveryStore('which event a wait takes', (medium) => {
  it('R4: a wait is named by its event, one for several by all of them, in their order', async () => {
    const w = world(medium);
    const define = (stepfast: Stepfast) =>
      void stepfast.job('names', async ({ step }) => {
        const all = [
          step.waitForEvent(['a', 'b']),
          step.waitForEvent('a'),
          step.waitForEvent(['a']),
          step.waitForEvent(['b', 'a'], { name: 'own' }),
        ];
        return (await Promise.all(all)).map(({ name }) => name);
      });
    const engine = w.engine(define);
    await engine.start('names', undefined, { id: 'r' });
    await w.clock.idle();
    const waits = (await engine.runs.timeline('r')).filter(({ kind }) => kind === 'wait-set');
    expect(waits.map((entry) => 'name' in entry && [entry.name, entry.occurrence])).toEqual([
      ['["a","b"]', 1],
      ['a', 1],
      ['["a"]', 1],
      ['own', 1],
    ]);
    for (let n = 0; n < 4; n++) await engine.dispatch('a');
    await w.clock.idle();
    expect(await engine.runs.get('r')).toMatchObject({ status: 'completed', result: ['a', 'a', 'a', 'a'] });
  });

  it('an event dispatched while the run waits resumes it, and the receipt names the run', async () => {
    const w = world(medium);
    const engine = w.engine(waiter());
    await engine.start('waiter', undefined, { id: 'r' });
    await w.clock.idle();
    const receipt = await engine.dispatch('go', { at: new Date(5) });
    expect(receipt).toEqual({ id: expect.any(String), deduplicated: false, resumed: ['r'] });
    await w.clock.idle();
    expect(await resultOf(engine, 'r')).toEqual({ at: new Date(5) });
  });

  it('an event dispatched after the start but before the wait is reached is not lost', async () => {
    const w = world(medium);
    const engine = w.engine(waiter({ before: 'first' }));
    await engine.start('waiter', undefined, { id: 'r' });
    await w.clock.idle();
    expect((await engine.dispatch('go', 'early')).resumed).toEqual([]);
    await engine.dispatch('first');
    await w.clock.idle();
    expect(await resultOf(engine, 'r')).toBe('early');
  });

  it('the oldest matching event is taken first', async () => {
    const w = world(medium);
    const engine = w.engine(waiter({ before: 'first' }));
    await engine.start('waiter', undefined, { id: 'r' });
    for (const payload of ['one', 'two', 'three']) await engine.dispatch('go', payload);
    await engine.dispatch('first');
    await w.clock.idle();
    expect(await resultOf(engine, 'r')).toBe('one');
  });

  it('an event from before the start of the run is not taken', async () => {
    const w = world(medium);
    const engine = w.engine(waiter());
    await engine.dispatch('go', 'old');
    await engine.start('waiter', undefined, { id: 'r' });
    await w.clock.idle();
    expect(await resultOf(engine, 'r')).toBe('waiting');
    await engine.dispatch('go', 'new');
    await w.clock.idle();
    expect(await resultOf(engine, 'r')).toBe('new');
  });

  it("lookback: 'any' takes an earlier event that no run has taken", async () => {
    const w = world(medium);
    const engine = w.engine(waiter({ lookback: 'any' }));
    await engine.dispatch('go', 'one');
    await engine.dispatch('go', 'two');
    await w.clock.advance('20 days');
    for (const id of ['a', 'b', 'c']) {
      await engine.start('waiter', undefined, { id });
      await w.clock.idle();
    }
    expect(await resultOf(engine, 'a')).toBe('one');
    expect(await resultOf(engine, 'b')).toBe('two');
    expect(await resultOf(engine, 'c')).toBe('waiting');
  });

  it('a lookback of a duration reaches that far back and no further', async () => {
    const w = world(medium);
    const engine = w.engine(waiter({ lookback: '2h' }));
    await engine.dispatch('go', 'three hours old');
    await w.clock.advance('1h');
    await engine.dispatch('go', 'two hours old');
    await w.clock.advance('1h');
    await engine.dispatch('go', 'one hour old');
    await w.clock.advance('1h');
    for (const id of ['a', 'b', 'c']) {
      await engine.start('waiter', undefined, { id });
      await w.clock.idle();
    }
    expect(await resultOf(engine, 'a')).toBe('two hours old');
    expect(await resultOf(engine, 'b')).toBe('one hour old');
    expect(await resultOf(engine, 'c')).toBe('waiting');
  });

  it('with a lookback, events after the start are still offered to every run', async () => {
    const w = world(medium);
    const engine = w.engine(waiter({ lookback: 'any' }));
    for (const id of ['a', 'b']) await engine.start('waiter', undefined, { id });
    await w.clock.idle();
    const { resumed } = await engine.dispatch('go', 'for all');
    expect([...resumed].sort()).toEqual(['a', 'b']);
    await w.clock.idle();
    expect(await resultOf(engine, 'a')).toBe('for all');
    expect(await resultOf(engine, 'b')).toBe('for all');
  });

  it('name and key are compared as a pair: an absent key is only equal to an absent key, and nothing is joined', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job<{ event: string; key?: string }>('pair', async ({ payload: { event, key }, step }) => {
        return (await step.waitForEvent(event, key === undefined ? {} : { correlationKey: key })).payload;
      });
    });
    const pairs: [event: string, key?: string][] = [
      ['a'],
      ['a', 'b'],
      ['a', 'B'],
      ['a', ' b'],
      ['a:b'],
      ['a', 'b:c'],
      ['a:b', 'c'],
      ['a","b'],
      ['a', 'undefined'],
      ['a', '1'],
    ];
    for (const [at, [event, key]] of pairs.entries())
      await engine.start('pair', key === undefined ? { event } : { event, key }, { id: `r${at}` });
    await w.clock.advance('1m'); // more than a queue's worth of runs
    for (const [at, [event, key]] of pairs.entries()) {
      const { resumed } = await engine.dispatch(event, at, key === undefined ? {} : { correlationKey: key });
      expect(resumed).toEqual([`r${at}`]);
    }
    await w.clock.idle();
    for (const at of pairs.keys()) expect(await resultOf(engine, `r${at}`)).toBe(at);
  });

  it('one event is taken by every run that waits for it, by each once', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('twice', async ({ step }) => {
        const first = await step.waitForEvent('go');
        const second = await step.waitForEvent('go');
        return [first.payload, second.payload];
      });
    });
    for (const id of ['a', 'b', 'c']) await engine.start('twice', undefined, { id });
    await w.clock.idle();
    expect([...(await engine.dispatch('go', 1)).resumed].sort()).toEqual(['a', 'b', 'c']);
    await w.clock.idle();
    for (const id of ['a', 'b', 'c']) expect(await resultOf(engine, id)).toBe('waiting');
    await engine.dispatch('go', 2);
    await w.clock.idle();
    for (const id of ['a', 'b', 'c']) expect(await resultOf(engine, id)).toEqual([1, 2]);
  });

  it('a run takes each event once also after a crash between two waits', async () => {
    const w = world(medium);
    const define = (stepfast: Stepfast) => {
      stepfast.job('twice', async ({ step }) => {
        const first = await step.waitForEvent('go');
        const second = await step.waitForEvent('go');
        return [first.payload, second.payload];
      });
    };
    const engine = w.engine(define);
    await engine.start('twice', undefined, { id: 'r' });
    await w.clock.idle();
    await engine.dispatch('go', 1);
    await w.clock.idle();
    w.crash(engine);
    const after = w.engine(define);
    await after.ready();
    await w.clock.idle();
    expect(await resultOf(after, 'r')).toBe('waiting');
    await after.dispatch('go', 2);
    await w.clock.idle();
    expect(await resultOf(after, 'r')).toEqual([1, 2]);
  });

  it('waits of one run on one pair are served in the order of asking', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('queue', async ({ step }) => {
        const waits = ['a', 'b', 'c'].map((name) => step.waitForEvent('go', { name, correlationKey: 'k' }));
        return (await Promise.all(waits)).map(({ payload }) => payload);
      });
    });
    await engine.start('queue', undefined, { id: 'r' });
    await w.clock.idle();
    for (const payload of [1, 2, 3]) {
      await engine.dispatch('go', payload, { correlationKey: 'k' });
      if (payload === 1) await w.clock.idle();
    }
    await w.clock.idle();
    expect(await resultOf(engine, 'r')).toEqual([1, 2, 3]);
    expect(vi.mocked(console.warn).mock.calls.flat().join()).toContain('queue');
  });

  it('one wait for several events takes the first of them, and says which', async () => {
    const w = world(medium);
    const define = (stepfast: Stepfast) => {
      stepfast.job('either', async ({ step }) => {
        const first = await step.waitForEvent<string>(['yes', 'no'], { correlationKey: 'k' });
        const second = await step.waitForEvent<string>(['yes', 'no'], { correlationKey: 'k' });
        return [first, second].map(({ name, payload, correlationKey }) => [name, payload, correlationKey]);
      });
    };
    const engine = w.engine(define);
    await engine.start('either', undefined, { id: 'r' });
    await w.clock.idle();
    await engine.dispatch('maybe', 0, { correlationKey: 'k' });
    await engine.dispatch('no', 'other key');
    await engine.dispatch('no', 1, { correlationKey: 'k' });
    await engine.dispatch('yes', 2, { correlationKey: 'k' });
    await w.clock.idle();
    expect(await resultOf(engine, 'r')).toEqual([
      ['no', 1, 'k'],
      ['yes', 2, 'k'],
    ]);
  });

  it('a wait for several events does not take an older event of the other name twice, or skip it', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('mixed', async ({ step }) => {
        const b = await step.waitForEvent('b');
        const either = [await step.waitForEvent(['a', 'b'], { name: 'one' })];
        either.push(await step.waitForEvent(['a', 'b'], { name: 'two' }));
        return [b, ...either].map(({ payload }) => payload);
      });
    });
    await engine.start('mixed', undefined, { id: 'r' });
    await engine.dispatch('a', 'a1');
    await engine.dispatch('b', 'b1');
    await engine.dispatch('b', 'b2');
    await w.clock.idle();
    expect(await resultOf(engine, 'r')).toEqual(['b1', 'a1', 'b2']);
  });

  it('an event addressed to one run is taken by no other', async () => {
    const w = world(medium);
    const engine = w.engine(waiter());
    for (const id of ['a', 'b']) await engine.start('waiter', undefined, { id });
    await w.clock.idle();
    expect((await engine.dispatch('go', 'for b', { runId: 'b' })).resumed).toEqual(['b']);
    await w.clock.idle();
    expect(await resultOf(engine, 'a')).toBe('waiting');
    expect(await resultOf(engine, 'b')).toBe('for b');
  });

  it('an event addressed to a run must still match in name and key', async () => {
    const w = world(medium);
    const engine = w.engine(waiter());
    await engine.start('waiter', { key: 'k' }, { id: 'r' });
    await w.clock.idle();
    expect((await engine.dispatch('go', 1, { runId: 'r' })).resumed).toEqual([]);
    expect((await engine.dispatch('no', 1, { runId: 'r', correlationKey: 'k' })).resumed).toEqual([]);
    await w.clock.idle();
    expect(await resultOf(engine, 'r')).toBe('waiting');
  });

  it('an event for an unknown or ended run is refused with RUN_NOT_FOUND, and nothing is stored', async () => {
    const w = world(medium);
    const engine = w.engine(waiter({ lookback: 'any' }));
    await expect(engine.dispatch('go', 'lost', { runId: 'r' })).rejects.toMatchObject({ code: 'RUN_NOT_FOUND' });
    const run = await engine.start('waiter', undefined, { id: 'r' });
    await w.clock.idle();
    expect(await resultOf(engine, 'r')).toBe('waiting');
    await run.cancel();
    await expect(engine.dispatch('go', 'late', { runId: 'r' })).rejects.toMatchObject({ code: 'RUN_NOT_FOUND' });
  });

  it('an event for nobody is stored and resumes nobody', async () => {
    const w = world(medium);
    const engine = w.engine();
    expect((await engine.dispatch('go')).resumed).toEqual([]);
  });
});

onEveryStore('deadlines', (medium) => {
  it.each([
    ['a millisecond before', HOUR - 1, 'came'],
    ['at', HOUR, 'came'],
    ['a millisecond after', HOUR + 1, 'timeout'],
  ])('an event accepted %s the deadline: %s', async (_, afterMs, expected) => {
    for (const isClosed of [false, true]) {
      const w = world(medium);
      const define = waiter({ timeout: '1h' });
      let engine = w.engine(define);
      await engine.start('waiter', undefined, { id: 'r' });
      await w.clock.idle();
      const deadline = w.clock.now() + HOUR;
      if (isClosed) {
        await closeFor(w, engine, async (sender) => {
          await w.clock.advance(afterMs);
          await sender.dispatch('go', 'came');
          await w.clock.advance('3h');
        });
        engine = w.engine(define);
        await engine.ready();
      } else {
        w.clock.jump(w.clock.now() + afterMs); // fires nothing: the event is there before any timer
        await engine.dispatch('go', 'came');
        await w.clock.idle();
        await w.clock.advance('3h');
      }
      await w.clock.idle();
      expect(await resultOf(engine, 'r')).toBe(expected === 'came' ? 'came' : `timed out at ${deadline}`);
    }
  });

  it('a deadline is an instant: closing the app for a week changes neither it nor the outcome', async () => {
    const w = world(medium);
    const define = waiter({ timeout: '24h' });
    const engine = w.engine(define);
    await engine.start('waiter', undefined, { id: 'r' });
    await w.clock.idle();
    const deadline = w.clock.now() + 24 * HOUR;
    expect((await engine.runs.get('r'))?.waitingFor).toEqual([{ events: ['go'], deadline }]);
    await closeFor(w, engine, () => w.clock.advance('23h'));
    const second = w.engine(define);
    await second.ready();
    await w.clock.idle();
    expect((await second.runs.get('r'))?.waitingFor).toEqual([{ events: ['go'], deadline }]);
    await closeFor(w, second, () => w.clock.advance('7 days'));
    const third = w.engine(define);
    await third.ready();
    await w.clock.idle();
    expect(await resultOf(third, 'r')).toBe(`timed out at ${deadline}`);
  });

  it('an event that comes after the deadline, while the app was closed, is left for another wait', async () => {
    const w = world(medium);
    const define = (stepfast: Stepfast) => {
      stepfast.job('again', async ({ step }) => {
        const first = await step.waitForEvent('go', { name: 'first', timeout: '1h', onTimeout: 'continue' });
        const second = await step.waitForEvent('go', { name: 'second' });
        return [first.timedOut, second.payload];
      });
    };
    const engine = w.engine(define);
    await engine.start('again', undefined, { id: 'r' });
    await w.clock.idle();
    await closeFor(w, engine, async (sender) => {
      await w.clock.advance('2h');
      await sender.dispatch('go', 'late');
    });
    const after = w.engine(define);
    await after.ready();
    await w.clock.idle();
    expect(await resultOf(after, 'r')).toEqual([true, 'late']);
  });

  it("onTimeout: 'continue' gives { timedOut: true, deadline }, and 'fail' is the default", async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('both', async ({ step }) => {
        const first = await step.waitForEvent('a', { timeout: '1m', onTimeout: 'continue' });
        const second = await step.waitForEvent('b', { timeout: '1m' }).catch((error) => error);
        return [first, isStepfastError(second, 'EVENT_TIMEOUT'), second.name];
      });
    });
    await engine.start('both', undefined, { id: 'r' });
    await w.clock.idle();
    const deadline = w.clock.now() + 60_000;
    await w.clock.advance('2m');
    expect(await resultOf(engine, 'r')).toEqual([{ timedOut: true, deadline }, true, 'EventTimeoutError']);
  });

  it('a timed-out wait that nobody catches fails the run at once, with the error of the wait', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('strict', { retry: { maxAttempts: 9 } }, async ({ step }) => {
        w.log.push('handler');
        await step.waitForEvent('go', { name: 'approval', timeout: '1h', onTimeout: 'fail' });
      });
    });
    const run = await engine.start('strict', undefined, { id: 'r' });
    await w.clock.advance('1h');
    expect(await engine.runs.get('r')).toMatchObject({
      status: 'failed',
      error: { code: 'EVENT_TIMEOUT', name: 'EventTimeoutError', step: 'approval' },
    });
    await expect(run.result()).rejects.toMatchObject({ code: 'EVENT_TIMEOUT' });
    expect(w.log).toEqual(['handler']);
    expect((await engine.runs.timeline('r')).map(({ kind }) => kind)).not.toContain('handler-failed');
  });

  it('an error that carries the timed-out wait in its cause fails the run at once as well', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('wrapped', async ({ step }) => {
        w.log.push('handler');
        try {
          await step.waitForEvent('go', { timeout: '1h' });
        } catch (cause) {
          throw new Error('no approval', { cause });
        }
      });
    });
    await engine.start('wrapped', undefined, { id: 'r' });
    await w.clock.advance('1h');
    expect(await engine.runs.get('r')).toMatchObject({ status: 'failed', error: { message: 'no approval' } });
    expect(w.log).toEqual(['handler']);
  });

  it("onTimeout: 'cancel' ends the run and runs no more code of it", async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('brief', async ({ step }) => {
        try {
          await step.waitForEvent('go', { timeout: '1h', onTimeout: 'cancel' });
          w.log.push('then');
        } catch {
          w.log.push('catch');
        } finally {
          w.log.push('finally');
        }
      });
    });
    const run = await engine.start('brief', undefined, { id: 'r' });
    await w.clock.advance('1h');
    expect(await run.status()).toBe('cancelled');
    await expect(run.result()).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
    expect((await engine.dispatch('go')).resumed).toEqual([]);
    await w.clock.idle();
    expect(w.log).toEqual([]);
  });

  it('a timed-out wait takes the same branch on every pass', async () => {
    const w = world(medium);
    const define = (stepfast: Stepfast) => {
      stepfast.job('branch', async ({ step }) => {
        let way = 'none';
        try {
          await step.waitForEvent('go', { timeout: '1h' });
          way = 'event';
        } catch {
          way = 'timeout';
        } finally {
          w.log.push(way);
        }
        await step.waitForEvent('end');
        return way;
      });
    };
    const engine = w.engine(define);
    await engine.start('branch', undefined, { id: 'r' });
    await w.clock.advance('1h');
    expect(w.log).toEqual(['timeout']);
    w.crash(engine);
    const after = w.engine(define);
    await after.dispatch('go');
    await after.dispatch('end');
    await w.clock.idle();
    expect(await resultOf(after, 'r')).toBe('timeout');
    expect(w.log).toEqual(['timeout', 'timeout']);
  });

  it('an event taken in time leaves no timer behind that could end the wait again', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('quick', async ({ step }) => {
        const event = await step.waitForEvent('go', { timeout: '1h', onTimeout: 'cancel' });
        await step.sleep('long', '10h');
        return event.payload;
      });
    });
    await engine.start('quick', undefined, { id: 'r' });
    await w.clock.idle();
    await engine.dispatch('go', 'in time');
    await w.clock.advance('11h');
    expect(await resultOf(engine, 'r')).toBe('in time');
  });
});

onEveryStore('how long events live', (medium) => {
  it('an event lives 30 days from its acceptance, unless ttl says otherwise', async () => {
    const w = world(medium);
    const engine = w.engine(waiter({ before: 'first' }));
    for (const id of ['in time', 'too late']) {
      await engine.start('waiter', { key: id }, { id });
      await w.clock.idle();
      await engine.dispatch('go', 'kept', { correlationKey: id });
      await w.clock.advance(30 * 24 * HOUR - (id === 'in time' ? 1 : 0));
      await engine.dispatch('first', undefined, { runId: id });
      await w.clock.idle();
      expect(await resultOf(engine, id)).toBe(id === 'in time' ? 'kept' : 'waiting');
    }
  });

  it('ttl shortens or lengthens that life', async () => {
    const w = world(medium);
    const engine = w.engine(waiter({ before: 'first' }));
    for (const id of ['short', 'long']) await engine.start('waiter', { key: id }, { id });
    await w.clock.idle();
    await engine.dispatch('go', 'short', { correlationKey: 'short', ttl: '1m' });
    await engine.dispatch('go', 'long', { correlationKey: 'long', ttl: '60 days' });
    await w.clock.advance('40 days');
    await engine.dispatch('first');
    await w.clock.idle();
    expect(await resultOf(engine, 'short')).toBe('waiting');
    expect(await resultOf(engine, 'long')).toBe('long');
  });

  it('an event that a waiting run was woken by is taken though its ttl is over when the app is opened', async () => {
    // E5: the outcome does not depend on when the app is opened again.
    const w = world(medium);
    const define = waiter({ timeout: '50 days' });
    const engine = w.engine(define);
    await engine.start('waiter', undefined, { id: 'r' });
    await w.clock.idle();
    await closeFor(w, engine, async (sender) => {
      expect((await sender.dispatch('go', 'kept')).resumed).toEqual(['r']);
      await w.clock.advance('29 days');
    });
    const after = w.engine(define);
    await after.ready();
    await w.clock.idle();
    expect(await resultOf(after, 'r')).toBe('kept');
  });

  it('the 1,001st untaken event of a pair is refused with EVENT_BACKLOG_FULL; other pairs and taken ones do not count', async () => {
    const w = world(medium);
    const engine = w.engine(waiter());
    await Promise.all(Array.from({ length: 1_000 }, (_, at) => engine.dispatch('go', at, { correlationKey: 'k' })));
    const more = () => engine.dispatch('go', 'more', { correlationKey: 'k' });
    await expect(more()).rejects.toMatchObject({ code: 'EVENT_BACKLOG_FULL' });
    await expect(engine.dispatch('go')).resolves.toMatchObject({ deduplicated: false });
    await expect(more()).rejects.toThrow('1000');
    await w.clock.advance('30 days');
    await expect(more()).resolves.toMatchObject({ deduplicated: false });
  });

  it('events that were taken make room', async () => {
    const w = world(medium);
    const engine = w.engine(waiter({ lookback: 'any' }));
    await Promise.all(Array.from({ length: 1_000 }, (_, at) => engine.dispatch('go', at)));
    await expect(engine.dispatch('go')).rejects.toMatchObject({ code: 'EVENT_BACKLOG_FULL' });
    await engine.start('waiter', undefined, { id: 'r' });
    await w.clock.idle();
    expect(await resultOf(engine, 'r')).toBe(0);
    await expect(engine.dispatch('go')).resolves.toMatchObject({ deduplicated: false });
    await expect(engine.dispatch('go')).rejects.toMatchObject({ code: 'EVENT_BACKLOG_FULL' });
  });
});

onEveryStore('idempotencyKey on dispatch', (medium) => {
  it('the same key and payload give the first receipt, and the event is taken once', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('collect', async ({ step }) => {
        const first = await step.waitForEvent('go');
        const second = await step.waitForEvent('go');
        return [first.payload, second.payload];
      });
    });
    await engine.start('collect', undefined, { id: 'r' });
    await w.clock.idle();
    const first = await engine.dispatch('go', { a: 1, b: 2 }, { idempotencyKey: 'i' });
    await w.clock.idle();
    const again = await engine.dispatch('go', { b: 2, a: 1 }, { idempotencyKey: 'i' });
    expect(again).toEqual({ ...first, deduplicated: true });
    await w.clock.idle();
    expect(await resultOf(engine, 'r')).toBe('waiting');
    await engine.dispatch('go', 'other');
    await w.clock.idle();
    expect(await resultOf(engine, 'r')).toEqual([{ a: 1, b: 2 }, 'other']);
  });

  it('two dispatches at once with one key are one event', async () => {
    const w = world(medium);
    const engine = w.engine();
    const receipts = await Promise.all([1, 2, 3].map(() => engine.dispatch('go', 'same', { idempotencyKey: 'i' })));
    expect(new Set(receipts.map(({ id }) => id)).size).toBe(1);
    expect(receipts.filter(({ deduplicated }) => !deduplicated).length).toBe(1);
  });

  it('the same key with another payload is an IDEMPOTENCY_CONFLICT', async () => {
    const w = world(medium);
    const engine = w.engine();
    await engine.dispatch('go', 1, { idempotencyKey: 'i' });
    await expect(engine.dispatch('go', '1', { idempotencyKey: 'i' })).rejects.toMatchObject({
      code: 'IDEMPOTENCY_CONFLICT',
    });
  });

  it('E8: and for another run: what was sent to one is nothing that the other has', async () => {
    const w = world(medium);
    const engine = w.engine(waiter());
    for (const id of ['r', 's']) await engine.start('waiter', undefined, { id });
    const send = (runId?: string) => engine.dispatch('go', 1, { idempotencyKey: 'i', runId });
    const first = await send('r');
    for (const other of ['s', undefined]) await expect(send(other)).rejects.toThrow('for another run');
    await w.clock.idle();
    expect(await send('r')).toEqual({ ...first, deduplicated: true });
    expect(await resultOf(engine, 's')).toBe('waiting');
  });

  it('the key counts per name and correlation key', async () => {
    const w = world(medium);
    const engine = w.engine();
    await engine.dispatch('go', 1, { idempotencyKey: 'i' });
    const others = [
      await engine.dispatch('other', 2, { idempotencyKey: 'i' }),
      await engine.dispatch('go', 3, { idempotencyKey: 'i', correlationKey: 'k' }),
    ];
    expect(others.map(({ deduplicated }) => deduplicated)).toEqual([false, false]);
  });

  it('the key is remembered for the life of the event, also when it was taken, and after a reload', async () => {
    const w = world(medium);
    const define = waiter();
    const engine = w.engine(define);
    await engine.start('waiter', undefined, { id: 'r' });
    await w.clock.idle();
    const { id } = await engine.dispatch('go', 1, { idempotencyKey: 'i', ttl: '1h' });
    await w.clock.idle();
    w.crash(engine);
    const after = w.engine(define);
    await w.clock.advance(HOUR - 1);
    expect(await after.dispatch('go', 1, { idempotencyKey: 'i' })).toMatchObject({ id, deduplicated: true });
    await w.clock.advance(1);
    expect(await after.dispatch('go', 2, { idempotencyKey: 'i' })).toMatchObject({ deduplicated: false });
  });
});

onEveryStore('refusals at dispatch', (medium) => {
  it.each([
    ['an empty name', '', {}, 'INVALID_NAME'],
    ['a name of the library', 'stepfast:child', {}, 'INVALID_NAME'],
    ['an empty correlation key', 'go', { correlationKey: '' }, 'INVALID_KEY'],
    ['a ttl that is no duration', 'go', { ttl: 'soon' as '1h' }, 'INVALID_DURATION'],
    ['an empty run id', 'go', { runId: '' }, 'INVALID_ID'],
  ])('%s is refused', async (_, name, options, code) => {
    const w = world(medium);
    const engine = w.engine();
    await expect(engine.dispatch(name, undefined, options)).rejects.toMatchObject({ code });
    expect(w.commits()).toBe(0);
  });

  it('a payload that can not be stored is refused with its path', async () => {
    const w = world(medium);
    const engine = w.engine();
    await expect(engine.dispatch('go', { user: { onClick: () => 1 } })).rejects.toMatchObject({
      code: 'NOT_SERIALIZABLE',
      path: '$.user.onClick',
    });
  });
});
