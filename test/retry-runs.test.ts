import { expect, it } from 'vitest';
import { defineJob, FatalError, type HandlerContext, type StepError, type Stepfast } from '../src/index.js';
import { crashEverywhere, everyWay } from './crash-everywhere.js';
import type { World } from './harness.js';

// Pins: spec F6 for `runs.retry` of runs that have waits, children and steps beside one another.

const runsOf = async (stepfast: Stepfast, job: string) => (await stepfast.runs.list({ job })).runs;

/** A step that fails as long as the log does not say `mended`. */
const fragile = (w: World, name: string) => () => {
  w.log.push(name);
  if (!w.log.includes('mended')) throw new Error(`${name} is broken`);
  return name;
};

everyWay('runs.retry', (open) => {
  it('F6: keeps events that were taken, children that completed, made values and sleeps that are over', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const child = stepfast.job('child', ({ step }) => step.run('work', () => w.log.push('child')));
      stepfast.job('mixed', { retry: { maxAttempts: 1 } }, async ({ step }: HandlerContext<undefined>) => {
        const event = await step.waitForEvent<string>('go');
        const id = await step.uuid();
        const number = await step.call(child);
        await step.sleep('nap', '1h');
        await step.dispatch('told', id);
        const last = await step.run('last', fragile(w, 'last'));
        return [event.payload, event.id, id, number, last];
      });
    });
    const run = await engine.start('mixed');
    const { id } = await engine.dispatch('go', 'first');
    await w.clock.advance('1h');
    const failed = await engine.runs.get(run.id);
    expect(failed).toMatchObject({ status: 'failed', error: { step: 'last' } });
    const before = await engine.runs.timeline(run.id);
    const uuid = before.find(({ kind }) => kind === 'value-made')!.value;
    await engine.dispatch('go', 'second');
    w.log.push('mended');
    await run.retry();
    await w.clock.idle();
    expect(await run.result()).toEqual(['first', id, uuid, 1, 'last']);
    expect(w.log).toEqual(['child', 'last', 'mended', 'last']);
    expect(await runsOf(engine, 'child')).toHaveLength(1);
    const after = await engine.runs.timeline(run.id);
    expect(after.slice(0, before.length)).toEqual(before); // nothing is rewritten (rule J3)
    expect(after.slice(before.length).map(({ kind }) => kind)).toEqual([
      'retried',
      'claimed',
      'step-completed',
      'completed',
    ]);
  });

  it('F6: a failure that the error of another step carries is forgotten with it', async () => {
    const w = open();
    const ways = ['cause', 'rethrown', 'aggregate', 'fatal', 'plain', 'within'] as const;
    const engine = w.engine((stepfast) => {
      stepfast.job('carried', { retry: { maxAttempts: 1 } }, async ({ payload, step }: HandlerContext<string>) => {
        const first = await step.run('first', fragile(w, 'first')).catch((error: StepError) => error);
        return step.run('second', () => {
          if (typeof first === 'string') return payload;
          if (payload === 'rethrown') throw first;
          if (payload === 'plain') throw { message: 'second', cause: first };
          if (payload === 'within') throw new Error('second', { cause: { message: 'w', cause: first } });
          if (payload === 'aggregate') throw new AggregateError([new Error('another', { cause: first })]);
          if (payload === 'fatal') throw new FatalError('second', { cause: first });
          throw new Error('second', { cause: first });
        });
      });
    });
    const runs = await Promise.all(ways.map((way) => engine.start('carried', way)));
    await w.clock.idle();
    for (const run of runs) expect(await engine.runs.timeline(run.id)).not.toEqual([]);
    w.log.push('mended');
    for (const run of runs) {
      expect(await run.status()).toBe('failed');
      await run.retry();
    }
    await w.clock.idle();
    expect(await Promise.all(runs.map((run) => run.result()))).toEqual(ways);
  });

  it('F6: a child that has failed names its own steps: those of the parent with the same names are kept', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const child = stepfast.job('child', { retry: { maxAttempts: 1 } }, ({ step }: HandlerContext<undefined>) =>
        step.run('work', fragile(w, 'child')),
      );
      stepfast.job('parent', { retry: { maxAttempts: 1 } }, async ({ step }: HandlerContext<undefined>) => {
        await step.run('work', () => Promise.reject(new FatalError('ours'))).catch(() => w.log.push('ours'));
        return step.call(child);
      });
    });
    const run = await engine.start('parent');
    await w.clock.idle();
    w.log.push('mended');
    await run.retry();
    await w.clock.idle();
    expect(await run.result()).toBe('child');
    const retried = (await engine.runs.timeline(run.id)).find(({ kind }) => kind === 'retried');
    expect(retried).toMatchObject({ forgets: [['step', 'child', 1]] });
  });

  it('F6, Q6: a call that was open, and whose child was deleted since, starts another child', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const child = stepfast.job('child', ({ step }) => step.run('work', () => void w.log.push('child')));
      stepfast.job('parent', { retry: { maxAttempts: 1 } }, ({ step }: HandlerContext<undefined>) =>
        Promise.all([step.call(child, undefined, { delay: '1h' }), step.run('weak', fragile(w, 'weak'))]),
      );
    });
    const run = await engine.start('parent');
    await w.clock.advance('2h');
    const [first] = await runsOf(engine, 'child');
    expect([await run.status(), first!.status]).toEqual(['failed', 'completed']);
    await engine.runs.delete(first!.id);
    w.log.push('mended');
    await run.retry();
    await w.clock.advance('2h');
    expect(await run.status()).toBe('completed');
    expect((await runsOf(engine, 'child')).map(({ status }) => status)).toEqual(['completed']);
  });

  it('F6: what failed together is done again together: a step, a child and a wait', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const child = stepfast.job('child', { retry: { maxAttempts: 1 } }, ({ step }: HandlerContext<undefined>) =>
        step.run('work', fragile(w, 'child')),
      );
      stepfast.job('mixed', { retry: { maxAttempts: 1 } }, async ({ step }: HandlerContext<undefined>) => {
        const outcomes = await Promise.allSettled([
          step.run('step', fragile(w, 'step')),
          step.call(child),
          step.waitForEvent('go', { timeout: '1h' }),
          step.run('fine', () => w.log.push('fine')),
        ]);
        const reasons = outcomes.flatMap((each) => (each.status === 'rejected' ? [each.reason as Error] : []));
        if (reasons.length) throw new AggregateError(reasons, 'all in all');
        return outcomes.map((each) => (each as PromiseFulfilledResult<unknown>).value);
      });
    });
    const run = await engine.start('mixed');
    await w.clock.advance('1h');
    expect(await run.status()).toBe('failed');
    expect([...w.log].sort()).toEqual(['child', 'fine', 'step']);
    w.log.push('mended');
    await run.retry();
    await w.clock.advance('59m'); // the deadline is a new one
    const [, again] = [await run.status(), await engine.runs.get(run.id)];
    expect(again).toMatchObject({ status: 'waiting', waitingFor: [{ events: ['go'] }] });
    await engine.dispatch('go', 'now');
    await w.clock.idle();
    expect(await run.result()).toMatchObject(['step', 'child', { payload: 'now' }, expect.any(Number)]);
    expect(w.log.filter((line) => line === 'fine')).toHaveLength(1);
    expect((await runsOf(engine, 'child')).map(({ status }) => status)).toEqual(['completed', 'failed']);
  });

  it('F6, F7: what could not be undone is undone when the run, taken up again, is cancelled before anybody has it', async () => {
    const w = open();
    const define = (stepfast: Stepfast) => {
      stepfast.job('order', { retry: { maxAttempts: 1 } }, async ({ step }) => {
        const undo = () => {
          w.log.push('undo');
          if (!w.log.includes('mended')) throw new Error('not yet');
        };
        await step.run('reserve', () => w.log.push('reserve'), { undo });
        await step.run('charge', fragile(w, 'charge'));
      });
    };
    const first = w.engine(define);
    const run = await first.start('order', undefined, { id: 'o' });
    await w.clock.idle();
    expect(await run.status()).toBe('failed');
    expect(w.log).toEqual(['reserve', 'charge', 'undo']);
    await first.close();
    const stranger = w.engine();
    await stranger.runs.retry('o');
    await stranger.runs.cancel('o');
    expect(await stranger.runs.get('o')).toMatchObject({ status: 'cancelled', undoing: true });
    await stranger.close();
    w.log.push('mended');
    const after = w.engine(define);
    await after.ready();
    await w.clock.idle();
    expect(w.log).toEqual(['reserve', 'charge', 'undo', 'mended', 'undo']);
    expect(await after.runs.get('o')).not.toHaveProperty('undoing');
  });

  it('F6: a step that was between two attempts has a fresh budget as well, and can be named by from', async () => {
    for (const from of [undefined, 'weak']) {
      const w = open();
      const engine = w.engine((stepfast) => {
        stepfast.job('both', { retry: { maxAttempts: 3, jitter: false, initialDelay: '1s' } }, ({ step }) =>
          Promise.all([
            step.run('weak', () => {
              w.log.push('weak');
              throw new Error('weak');
            }),
            step.sleep('nap', '2s').then(() =>
              step.run('fatal', () => {
                if (!w.log.includes('mended')) throw new FatalError('no way');
              }),
            ),
          ]),
        );
      });
      const run = await engine.start('both');
      await w.clock.advance('1m');
      expect([await run.status(), w.log]).toEqual(['failed', ['weak', 'weak']]);
      w.log.push('mended');
      await engine.runs.retry(run.id, from === undefined ? {} : { from });
      await w.clock.advance('1h');
      // What has ended the run is forgotten in any case: kept, it would end it again.
      expect(w.log).toEqual(['weak', 'weak', 'mended', 'weak', 'weak', 'weak']);
      await engine.close();
    }
  });

  it('F6: retried from a step, also what has ended the run is tried again, though it was recorded before that', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      stepfast.job('parcel', { retry: { maxAttempts: 1 } }, async ({ step }: HandlerContext<undefined>) => {
        const charge = step.run('charge', fragile(w, 'charge'));
        await step.sleep('later', '1m');
        const label = await step.run('label', () => w.log.push('label'));
        return [label, await charge];
      });
    });
    const run = await engine.start('parcel', undefined, { id: 'r' });
    await w.clock.advance('2m');
    expect([await run.status(), w.log]).toEqual(['failed', ['charge', 'label']]);
    w.log.push('mended');
    await engine.runs.retry('r', { from: 'label' });
    await w.clock.idle();
    expect(await run.result()).toEqual([expect.any(Number), 'charge']);
    expect(w.log.slice(3).sort()).toEqual(['charge', 'label']);
  });

  it('F6: a failure inside a child is not mistaken for a step of the parent that has the same name', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const child = stepfast.job('child', { retry: { maxAttempts: 1 } }, ({ step }: HandlerContext<undefined>) =>
        step.run('work', fragile(w, 'child')),
      );
      stepfast.job('mixed', { retry: { maxAttempts: 1 } }, async ({ step }: HandlerContext<undefined>) => {
        const caught = await step.run('work', fragile(w, 'own')).catch(({ code }: StepError) => code);
        return [caught, await step.call(child)];
      });
    });
    const run = await engine.start('mixed');
    await w.clock.idle();
    expect(w.log).toEqual(['own', 'child']);
    w.log.push('mended');
    await run.retry();
    await w.clock.idle();
    expect(await run.result()).toEqual(['STEP_FAILED', 'child']); // what was caught stays as it was
    expect(w.log).toEqual(['own', 'child', 'mended', 'child']);
  });

  it('F6: from a step on, what is started and sent again is another child and another event', async () => {
    const w = open();
    let value = 0;
    const engine = w.engine((stepfast) => {
      stepfast.job<number>('child', async ({ payload }) => payload);
      stepfast.job('redone', { retry: { maxAttempts: 1 } }, async ({ step }: HandlerContext<undefined>) => {
        const made = await step.run('compute', () => ++value);
        const { id } = await step.start('child', made);
        await step.dispatch('made', made);
        await step.run('last', fragile(w, 'last'));
        return id;
      });
      stepfast.job('listens', async ({ step }: HandlerContext<undefined>) => {
        const first = await step.waitForEvent<number>('made', { name: 'first' });
        const second = await step.waitForEvent<number>('made', { name: 'second' });
        return [first.payload, second.payload];
      });
    });
    const listener = await engine.start('listens');
    const run = await engine.start('redone');
    await w.clock.idle();
    expect(await run.status()).toBe('failed');
    w.log.push('mended');
    await engine.runs.retry(run.id, { from: 'compute' });
    await w.clock.idle();
    expect(await run.status()).toBe('completed');
    expect(await listener.result()).toEqual([1, 2]);
    expect((await engine.runs.list({ job: 'child' })).runs.map(({ result }) => result)).toEqual([2, 1]);
  });

  it('F6, D8: from a step on, what has completed counts again, asked for its number or not; what has failed counts once', async () => {
    const w = open();
    let isBad = true;
    const engine = w.engine((stepfast) =>
      stepfast.job('counts', { retry: { maxAttempts: 1 } }, async ({ step }) => {
        await step.run('asked', async ({ state }) => void w.log.push(`asked ${await state.increment('asked')}`));
        await step.run('unasked', ({ state }) => void state.increment('unasked'));
        await step.run('bad', async ({ state }) => {
          w.log.push(`bad ${await state.increment('bad')}`);
          if (isBad) throw new Error('no');
        });
      }),
    );
    await engine.start('counts', undefined, { id: 'r' });
    await w.clock.idle();
    isBad = false;
    await engine.runs.retry('r', { from: 'asked' });
    await w.clock.idle();
    expect(w.log).toEqual(['asked 1', 'bad 1', 'asked 2', 'bad 1']);
    const values = await Promise.all(['asked', 'unasked', 'bad'].map((key) => engine.state.get(key)));
    expect(values).toEqual([2, 2, 1]);
  });

  it('F6: from a wait on, the events after it are waited for anew', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      stepfast.job('mixed', { retry: { maxAttempts: 1 } }, async ({ step }: HandlerContext<undefined>) => {
        const first = await step.waitForEvent<string>('go', { name: 'first' });
        const second = await step.waitForEvent<string>('go', { name: 'second' });
        await step.run('last', fragile(w, 'last'));
        return [first.payload, second.payload];
      });
    });
    const run = await engine.start('mixed');
    for (const payload of ['a', 'b']) await engine.dispatch('go', payload);
    await w.clock.idle();
    expect(await run.status()).toBe('failed');
    w.log.push('mended');
    await engine.runs.retry(run.id, { from: 'second' });
    await w.clock.idle();
    expect(await engine.runs.get(run.id)).toMatchObject({ status: 'waiting', waitingFor: [{ events: ['go'] }] });
    await engine.dispatch('go', 'c'); // 'b' is taken, for good (spec E4)
    await w.clock.idle();
    expect(await run.result()).toEqual(['a', 'c']);
  });

  it('F6, Q4: a step that fails at the very instant at which it failed before the retry has failed again (seed 533094)', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const retry = { maxAttempts: 2, initialDelay: '1h', jitter: false } as const;
      stepfast.job('beside', { retry }, async ({ step }: HandlerContext<undefined>) => {
        const slow = step.run('slow', () => {
          if (w.log.push('slow') < 20) throw new Error('not yet');
          return new Promise(() => undefined); // it is entered again and again, and nothing else gets its turn
        });
        await Promise.all([
          slow,
          step.run('fatal', () => {
            if (!w.log.includes('mended')) throw new FatalError('no');
          }),
        ]);
      });
    });
    const run = await engine.start('beside');
    await w.clock.idle();
    w.log.push('mended');
    await run.retry();
    await w.clock.idle();
    expect(await run.status()).toBe('retrying');
    expect(w.log).toEqual(['slow', 'mended', 'slow']);
  });

  it('F6, E5: a wait whose deadline has passed since the run failed is waited for anew; another keeps its deadline', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      stepfast.job('beside', { retry: { maxAttempts: 1 } }, async ({ step }: HandlerContext<undefined>) => {
        const wait = (name: string, timeout: '1h' | '5h') => step.waitForEvent<number>(name, { timeout });
        const [short, long, early] = await Promise.all([
          wait('short', '1h'),
          wait('long', '5h'),
          wait('early', '1h'),
          step.run('fragile', fragile(w, 'fragile')),
        ]);
        return [short.payload, long.payload, early.payload];
      });
    });
    const startedAt = w.clock.now();
    const run = await engine.start('beside');
    await w.clock.advance('30m');
    expect(await run.status()).toBe('failed');
    await engine.dispatch('early', 1); // in time for the wait that was open when the run failed
    await w.clock.advance('90m');
    await expect(engine.runs.retry(run.id, { from: 'nothing' })).rejects.toMatchObject({ code: 'INVALID_OPTION' });
    w.log.push('mended');
    await run.retry();
    await w.clock.advance('59m');
    const hour = 3_600_000;
    const { status, waitingFor } = (await engine.runs.get(run.id))!;
    expect([status, waitingFor.map(({ events, deadline }) => [events[0], deadline! - startedAt])]).toEqual([
      'waiting',
      [
        ['short', 3 * hour],
        ['long', 5 * hour],
      ],
    ]);
    await engine.dispatch('short', 2);
    await engine.dispatch('long', 3);
    await w.clock.idle();
    expect(await run.result()).toEqual([2, 3, 1]);
    expect(w.log).toEqual(['fragile', 'mended', 'fragile']);
  });

  it('F6: a sleep whose instant has passed since the run failed is slept anew, so that it is a time limit again', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      stepfast.job('limited', { retry: { maxAttempts: 1 } }, async ({ step }: HandlerContext<undefined>) =>
        step.race([
          step.run('ask', fragile(w, 'ask')),
          step.sleep('patience', '1h').then(() => 'no answer'),
          step.sleep('much patience', '40h').then(() => 'no answer at all'),
        ]),
      );
    });
    const run = await engine.start('limited', undefined, { id: 'r' });
    await w.clock.advance('1s');
    expect(await run.status()).toBe('failed');
    await w.clock.advance('1 day');
    await run.retry();
    await w.clock.idle();
    expect([await run.status(), w.log.splice(0)]).toEqual(['failed', ['ask', 'ask']]);
    w.log.push('mended');
    await run.retry();
    await w.clock.idle();
    expect(await run.result()).toBe('ask');
    const sleeps = (await engine.runs.timeline('r')).filter(({ kind }) => kind === 'sleep-set');
    expect(sleeps.map(({ name }) => name)).toEqual(['patience', 'much patience', 'patience']);
  });

  it('F6: retried from a step, what came after it waits and sleeps anew, and what was there before it goes on', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      stepfast.job('from', { retry: { maxAttempts: 1 } }, async ({ step }: HandlerContext<undefined>) => {
        const before = step.sleep('before', '10h').then(() => 'before');
        await step.run('first', () => w.log.push('first'));
        const won = await step.race([
          step.waitForEvent('never', { timeout: '7h', onTimeout: 'continue' }).then(() => 'never'),
          step.waitForEvent('go').then(() => 'event'),
          step.sleep('patience', '5h').then(() => 'patience'),
        ]);
        await step.run('last', fragile(w, 'last'));
        return [won, await before];
      });
    });
    const run = await engine.start('from', undefined, { id: 'r' });
    await engine.dispatch('go');
    await w.clock.advance('1h');
    expect([await run.status(), w.log.splice(0)]).toEqual(['failed', ['first', 'last']]);
    w.log.push('mended');
    await engine.runs.retry('r', { from: 'first' });
    await w.clock.advance(4.98 * 3_600_000);
    expect(await run.status()).toBe('sleeping');
    await w.clock.advance('2m');
    await w.clock.advance('4h'); // 10 hours after the start
    expect(await run.result()).toEqual(['patience', 'before']);
    expect(w.log.splice(1)).toEqual(['first', 'last']);
    const kinds = (await engine.runs.timeline('r')).filter(({ kind }) => /-set$/.test(kind));
    expect(kinds.map(({ name }) => name)).toEqual([
      'before',
      ...['never', 'go', 'patience'],
      ...['never', 'go', 'patience'],
    ]);
  });

  it('F6, F8: the timeout of a job that has passed is not held against the run that is retried', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      stepfast.job('slow', { timeout: '1h' }, async ({ step }: HandlerContext<undefined>) => {
        await step.waitForEvent('go');
        return 'done';
      });
    });
    const run = await engine.start('slow');
    await w.clock.advance('2h');
    expect((await engine.runs.get(run.id))!.error!.code).toBe('RUN_TIMEOUT');
    await run.retry();
    await w.clock.idle();
    await engine.dispatch('go');
    await w.clock.idle();
    expect(await engine.runs.get(run.id)).toMatchObject({ status: 'completed', result: 'done' });
  });
});

everyWay(
  'runs.retry over crashes',
  (open) => {
    it('F6, F7: a retry, with undone steps and a child, ends the same whichever commit the context dies at', async () => {
      await crashEverywhere(open, {
        define(stepfast, w) {
          const child = defineJob('child', { retry: { maxAttempts: 1 } }, ({ step }: HandlerContext<undefined>) =>
            step.run('work', fragile(w, 'child')),
          );
          stepfast.register(child);
          stepfast.job('mixed', { retry: { maxAttempts: 1 } }, async ({ step }: HandlerContext<undefined>) => {
            const key = await step.run('reserve', ({ idempotencyKey }) => idempotencyKey, {
              undo: ({ result }) => void w.log.push(`undo ${result}`),
            });
            const plain = await step.run('plain', ({ idempotencyKey }) => idempotencyKey);
            return [key, plain, await step.call(child)];
          });
        },
        async play(stepfast, w) {
          const run = await stepfast.start('mixed', undefined, { id: 'm' });
          await w.clock.idle();
          if ((await run.status()) !== 'failed') return;
          w.log.push('mended');
          await run.retry();
          await w.clock.idle();
        },
        async check(stepfast, w, where) {
          const result = ['m/1/reserve/1', 'm/0/plain/1', 'child'];
          expect(await stepfast.runs.get('m'), where).toMatchObject({ status: 'completed', result });
          const undone = w.log.filter((line) => line.startsWith('undo'));
          expect([...new Set(undone)], where).toEqual(['undo m/0/reserve/1']);
          expect(undone.length, where).toBeLessThanOrEqual(2);
          expect(
            (await runsOf(stepfast, 'child')).map(({ status }) => status),
            where,
          ).toEqual(['completed', 'failed']);
        },
      });
    });
  },
  { isLong: true },
);
