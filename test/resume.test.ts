import { expect, it } from 'vitest';
import { onEveryStore, world } from './harness.js';

// Pins: spec R1, R2, R3, R4, R6, R12 as a user sees them after a crash.

onEveryStore('resume', (medium) => {
  it('a run interrupted between two steps resumes at the second, with what the first returned', async () => {
    const w = world(medium);
    let isStuck = true;
    const define = (stepfast: ReturnType<typeof w.engine>) => {
      stepfast.job('two', async ({ step }) => {
        const first = await step.run('first', () => {
          w.log.push('first');
          return { at: new Date(0), list: [1n] };
        });
        return step.run('second', async ({ attempt, idempotencyKey }) => {
          w.log.push(`second ${attempt} ${idempotencyKey}`);
          if (isStuck) await new Promise(() => undefined);
          return first;
        });
      });
    };
    const before = w.engine(define);
    const run = await before.start('two', undefined, { id: 'r1' });
    await expect.poll(() => w.log.length).toBe(2);
    w.crash(before);
    isStuck = false;
    const after = w.engine(define);
    await after.ready();
    await w.clock.idle();
    expect(await after.runs.get(run.id)).toMatchObject({
      status: 'completed',
      result: { at: new Date(0), list: [1n] },
    });
    expect(w.log).toEqual(['first', 'second 1 r1/0/second/1', 'second 2 r1/0/second/1']);
    const kinds = (await after.runs.timeline('r1')).map(({ kind }) => kind);
    expect(kinds).toEqual(['started', 'claimed', 'step-completed', 'claimed', 'step-completed', 'completed']);
  });

  it('a value is a copy of what was stored, on the first pass and on replay', async () => {
    const w = world(medium);
    const seen: unknown[] = [];
    const live = { list: [1] };
    const define = (stepfast: ReturnType<typeof w.engine>) => {
      stepfast.job('copy', async ({ step }) => {
        const value = await step.run('make', () => live);
        expect(value).not.toBe(live);
        seen.push(structuredClone(value));
        value.list.push(2);
        await step.waitForEvent('go');
        return value;
      });
    };
    const before = w.engine(define);
    await before.start('copy', undefined, { id: 'c' });
    await w.clock.idle();
    live.list.push(99);
    w.crash(before);
    const after = w.engine(define);
    await after.dispatch('go');
    await w.clock.idle();
    expect((await after.runs.get('c'))?.result).toEqual({ list: [1, 2] });
    expect(seen).toEqual([{ list: [1] }, { list: [1] }]);
  });

  it('neither catch nor finally of the user runs because of a wait, a sleep, a retry or a crash', async () => {
    const w = world(medium);
    const define = (stepfast: ReturnType<typeof w.engine>) => {
      stepfast.job('guarded', async ({ step }) => {
        try {
          await step.sleep('nap', '1h');
          await step.waitForEvent('go');
          return await step.run('flaky', ({ attempt }) => {
            if (attempt < 3) throw new Error('not yet');
            return 'done';
          });
        } catch (error) {
          w.log.push('catch');
          throw error;
        } finally {
          w.log.push('finally');
        }
      });
    };
    const before = w.engine(define);
    await before.start('guarded', undefined, { id: 'g' });
    await w.clock.advance('2h');
    expect((await before.runs.get('g'))?.status).toBe('waiting');
    w.crash(before);
    expect(w.log).toEqual([]);
    const after = w.engine(define);
    await after.dispatch('go');
    await w.clock.advance('1m');
    expect(await after.runs.get('g')).toMatchObject({ status: 'completed', result: 'done' });
    expect(w.log).toEqual(['finally']);
  });

  it('a thousand reloads add nothing to the journal of a waiting run', async () => {
    const w = world(medium);
    const define = (stepfast: ReturnType<typeof w.engine>) => {
      stepfast.job('patient', async ({ step }) => {
        await step.run('once', () => void w.log.push('once'));
        return (await step.waitForEvent<string>('go', { correlationKey: 'k' })).payload;
      });
    };
    let engine = w.engine(define);
    await engine.start('patient', undefined, { id: 'p' });
    await w.clock.idle();
    const length = (await engine.runs.timeline('p')).length;
    const commits = w.commits();
    for (let reload = 0; reload < 1_000; reload++) {
      w.crash(engine);
      engine = w.engine(define);
      await engine.ready();
    }
    await w.clock.idle();
    expect(w.commits()).toBe(commits);
    expect((await engine.runs.timeline('p')).length).toBe(length);
    await engine.dispatch('go', 'now', { correlationKey: 'k' });
    await w.clock.idle();
    expect(await engine.runs.get('p')).toMatchObject({ status: 'completed', result: 'now' });
    expect(w.log).toEqual(['once']);
  });
});
