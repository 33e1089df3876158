import { describe, expect, it } from 'vitest';
import type { Stepfast, Store } from '../src/index.js';
import { media, onEveryStore, world } from './harness.js';

// Pins: spec R11 (what a run costs, in commits, exactly), R12 (the journal's limit), Q4 (nothing polls while idle).

const START = 1;
const CLAIM = 1;

type Define = (stepfast: Stepfast) => void;
const job =
  (handler: Parameters<Stepfast['job']>[1]): Define =>
  (stepfast) =>
    void stepfast.job('work', handler as never);

onEveryStore('cost', (medium) => {
  for (const steps of [1, 10, 100])
    it(`${steps} steps in a row cost a commit each, besides start and claim`, async () => {
      const w = world(medium);
      const engine = w.engine((stepfast) => {
        stepfast.job('work', async ({ step }) => {
          for (let index = 0; index < steps; index++) await step.run(`step ${index}`, () => index);
          return steps;
        });
      });
      const run = await engine.start('work');
      await w.clock.idle();
      expect(await run.result()).toBe(steps);
      expect(w.commits()).toBe(START + CLAIM + steps);
    });

  it('a job without steps costs its start, and one commit that claims and completes it', async () => {
    const w = world(medium);
    const engine = w.engine(job(async () => 'done'));
    const run = await engine.start('work');
    await w.clock.idle();
    expect(await run.result()).toBe('done');
    expect(w.commits()).toBe(START + CLAIM);
  });

  it('the sleep after a step costs nothing extra, its end costs one commit', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('work', async ({ step }) => {
        await step.run('a', () => 1);
        await step.sleep('nap', '1h');
        return 'rested';
      });
    });
    const run = await engine.start('work');
    await w.clock.idle();
    expect(await run.status()).toBe('sleeping');
    expect(w.commits()).toBe(START + CLAIM + 1);
    await w.clock.advance('1h');
    expect(await run.result()).toBe('rested');
    expect(w.commits()).toBe(START + CLAIM + 1 + 1);
  });

  it('the wait after a step costs nothing extra, the event one commit, and taking it one', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('work', async ({ step }) => {
        await step.run('a', () => 1);
        return (await step.waitForEvent<string>('go')).payload;
      });
    });
    const run = await engine.start('work');
    await w.clock.idle();
    expect(await run.status()).toBe('waiting');
    expect(w.commits()).toBe(START + CLAIM + 1);
    await engine.dispatch('go', 'now');
    await w.clock.idle();
    expect(await run.result()).toBe('now');
    expect(w.commits()).toBe(START + CLAIM + 1 + 1 + 1);
  });

  it('a job that only waits costs four commits: start, wait, event, end', async () => {
    const w = world(medium);
    const engine = w.engine(job(async ({ step }) => (await step.waitForEvent('go')).payload));
    const run = await engine.start('work');
    await w.clock.idle();
    expect(w.commits()).toBe(2);
    await engine.dispatch('go', 'now');
    expect(w.commits()).toBeGreaterThanOrEqual(3);
    await w.clock.idle();
    expect(await run.result()).toBe('now');
    expect(w.commits()).toBe(4);
  });

  it('taking an event costs one commit after a reload as well', async () => {
    const w = world(medium);
    const define = job(async ({ step }) => (await step.waitForEvent('go')).payload);
    const before = w.engine(define);
    const { id } = await before.start('work');
    await w.clock.idle();
    w.crash(before);
    const after = w.engine(define);
    await after.ready();
    await w.clock.idle();
    expect(w.commits()).toBe(2);
    await after.dispatch('go', 'now');
    await w.clock.idle();
    expect(await after.runs.get(id)).toMatchObject({ status: 'completed', result: 'now' });
    expect(w.commits()).toBe(4);
  });

  it('a run that only sleeps costs three commits, however long it sleeps', async () => {
    const w = world(medium);
    const engine = w.engine(job(({ step }) => step.sleep('nap', '60 days')));
    const run = await engine.start('work');
    await w.clock.advance('59 days');
    expect(await run.status()).toBe('sleeping');
    expect(w.commits()).toBe(2);
    await w.clock.advance('1 day');
    expect(await run.status()).toBe('completed');
    expect(w.commits()).toBe(3);
  });

  it('a step after a sleep is claimed by the commit that ends the sleep', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('work', async ({ step }) => {
        await step.sleep('nap', '1h');
        return step.run('a', () => 'awake');
      });
    });
    const run = await engine.start('work');
    await w.clock.advance('1h');
    expect(await run.result()).toBe('awake');
    // start; claim and sleep; end of the sleep; outcome and end of the run.
    expect(w.commits()).toBe(4);
  });

  for (const parallel of [2, 8, 32])
    it(`${parallel} steps at once cost at most a commit each`, async () => {
      const w = world(medium);
      const engine = w.engine((stepfast) => {
        stepfast.job('work', async ({ step }) => {
          const names = Array.from({ length: parallel }, (_, index) => `step ${index}`);
          return (await Promise.all(names.map((name) => step.run(name, () => name)))).length;
        });
      });
      const run = await engine.start('work');
      await w.clock.idle();
      expect(await run.result()).toBe(parallel);
      expect(w.commits()).toBeLessThanOrEqual(START + CLAIM + parallel);
    });

  it('a failed attempt costs one commit, and its retry only that of its outcome', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('work', ({ step }) =>
        step.run('flaky', ({ attempt }) => {
          if (attempt === 1) throw new Error('not yet');
          return attempt;
        }),
      );
    });
    const run = await engine.start('work');
    await w.clock.advance('1m');
    expect(await run.result()).toBe(2);
    expect(w.commits()).toBeLessThanOrEqual(START + CLAIM + 1 + 1 + 1); // the retry may confirm or take its slot again
  });

  it('a start that joins a run and a dispatch that is deduplicated cost no step anything', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('work', ({ step }) => step.run('a', () => void w.log.push('a')));
    });
    const first = await engine.start('work', undefined, { idempotencyKey: 'once' });
    await w.clock.idle();
    const commits = w.commits();
    const second = await engine.start('work', undefined, { idempotencyKey: 'once' });
    await w.clock.idle();
    expect(second).toMatchObject({ id: first.id, created: false });
    expect(w.commits()).toBeLessThanOrEqual(commits + 1);
    expect(w.log).toEqual(['a']);
  });

  it('an idle engine neither commits nor looks for due work', async () => {
    const w = world(medium);
    const store: Store = w.store();
    const { due, commit } = store;
    let looks = 0;
    let commits = 0;
    store.due = (query) => {
      looks++;
      return due.call(store, query);
    };
    store.commit = (batch) => {
      commits++;
      return commit.call(store, batch);
    };
    const engine = w.engine(
      (stepfast) => {
        stepfast.job('waits', ({ step }) => step.waitForEvent('go'));
        stepfast.job('patient', ({ step }) => step.waitForEvent('go', { timeout: '24h' }));
        stepfast.job('sleeps', ({ step }) => step.sleep('nap', '30 days'));
      },
      { store },
    );
    const runs = [await engine.start('waits'), await engine.start('patient'), await engine.start('sleeps')];
    await w.clock.idle();
    expect(await Promise.all(runs.map((run) => run.status()))).toEqual(['waiting', 'waiting', 'sleeping']);
    const before = { looks, commits };
    for (let hour = 0; hour < 23; hour++) await w.clock.advance('1h');
    expect({ looks, commits }).toEqual(before);
    await w.clock.advance('2h');
    expect(await runs[1]!.status()).toBe('failed');
    expect(commits).toBe(before.commits + 1);
  });
});

describe('the limit of a journal', () => {
  const limit = 10_000;
  /** A run that records this many outcomes, up to its end. */
  const runOf = async (outcomes: number) => {
    const w = world(media.memory!);
    const engine = w.engine((stepfast) => {
      stepfast.job('long', async ({ step }) => {
        for (let index = 0; index < outcomes; index++) await step.sleepUntil('tick', 0);
        return 'done';
      });
    });
    await engine.start('long', undefined, { id: 'long' });
    while ((await engine.runs.get('long'))?.endedAt === undefined) await w.clock.idle();
    const timeline = await engine.runs.timeline('long');
    const recorded = timeline.filter(({ kind }) => kind === 'sleep-ended').length;
    return { w, engine, run: await engine.runs.get('long'), length: timeline.length, recorded };
  };

  it('10,000 outcomes fit', { timeout: 40_000 }, async () => {
    const { run, recorded } = await runOf(limit);
    expect(run).toMatchObject({ status: 'completed', result: 'done' });
    expect(recorded).toBe(limit);
  });

  it('the next one fails the run with JOURNAL_FULL, and the limit is quoted', { timeout: 40_000 }, async () => {
    const { w, engine, run, length, recorded } = await runOf(limit + 1);
    expect(run).toMatchObject({ status: 'failed', error: { code: 'JOURNAL_FULL' } });
    expect(run?.error?.message).toMatch(/10[,_]?000/);
    expect(recorded).toBe(limit);
    await w.clock.advance('1 day');
    expect(await engine.runs.timeline('long')).toHaveLength(length);
  });
});

onEveryStore('limits of a run', (medium) => {
  it('E3, R12: as many waits as a run may have take the events of all of them, dispatched at once', async () => {
    const w = world(medium);
    const waits = Array.from({ length: 1_000 }, (_, index) => `key ${index}`);
    const engine = w.engine((stepfast) =>
      stepfast.job('poll', async ({ step }) => {
        const events = waits.map((correlationKey) => step.waitForEvent<number>('signed', { correlationKey }));
        return (await Promise.all(events)).map(({ payload }) => payload);
      }),
    );
    await engine.start('poll', undefined, { id: 'r' });
    await w.clock.idle();
    const sent = waits.map((correlationKey, index) => engine.dispatch('signed', index, { correlationKey }));
    await Promise.all(sent);
    while ((await engine.runs.get('r'))?.endedAt === undefined) await w.clock.idle();
    expect(await engine.runs.get('r')).toMatchObject({ status: 'completed', result: waits.map((_, index) => index) });
  });

  it('R12: both limits of a journal are the app’s to set: outcomes, and what is recorded in all', async () => {
    const define = (stepfast: Stepfast) =>
      void stepfast.job<{ steps: number; size: number }>('loop', async ({ payload, step }) => {
        for (let n = 0; n < payload.steps; n++) await step.run('part', () => 'x'.repeat(payload.size));
        await step.waitForEvent('go');
        return 'done';
      });
    const w = world(medium);
    const engine = w.engine(define, { maxOutcomes: 5, maxRunBytes: 20_000 });
    const run = async (id: string, payload: { steps: number; size: number }) => {
      await engine.start('loop', payload, { id });
      await w.clock.idle();
      return (await engine.runs.get(id))!;
    };
    expect(await run('fits', { steps: 4, size: 4_000 })).toMatchObject({ status: 'waiting' });
    const long = await run('long', { steps: 6, size: 1 });
    expect(long).toMatchObject({ status: 'failed', error: { code: 'JOURNAL_FULL' } });
    expect(long.error!.message).toContain('5 outcomes');
    const large = await run('large', { steps: 4, size: 9_000 });
    expect(large).toMatchObject({ status: 'failed', error: { code: 'JOURNAL_FULL' } });
    expect(large.error!.message).toContain('20000 bytes');
    w.crash(engine);
    const next = w.engine(define, { maxOutcomes: 5, maxRunBytes: 20_000 });
    await next.dispatch('go');
    await w.clock.idle();
    expect(await next.runs.get('fits'), 'counted the same when it is read').toMatchObject({ status: 'completed' });
  });
});
