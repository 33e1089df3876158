import { expect, it } from 'vitest';
import { z } from 'zod';
import { forkJournal } from '../src/engine/fork.js';
import { FatalError, type Stepfast } from '../src/index.js';
import type { Batch } from '../src/store/batch.js';
import type { JournalEntry } from '../src/store/journal.js';
import type { Store } from '../src/store/store.js';
import { wrapStore } from '../src/testing/failing-store.js';
import { onEveryStore, world } from './harness.js';

// Pins: spec F6 for `runs.fork`: a new run with the steps of another up to a step.

onEveryStore('fork', (medium) => {
  const three = (log: string[]) => (stepfast: Stepfast) => {
    stepfast.job<string>('three', async ({ payload, step, run }) => {
      const say = (name: string) =>
        step.run(name, () => {
          log.push(`${name}:${payload}`);
          return `${name} of ${run.id} with ${payload}`;
        });
      return [await say('a'), await say('b'), await say('b'), await say('c')];
    });
  };

  it('Q2: a run of a singleton is not forked while it is active, and is once it has ended', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('single', { queue: { name: 'q', singleton: true } }, async ({ step }) => {
        await step.run('a', () => 1);
        await step.waitForEvent('go');
      });
    });
    const { id } = await engine.start('single');
    await w.clock.idle();
    await expect(engine.runs.fork(id, { before: 'a' })).rejects.toMatchObject({ code: 'RUN_ACTIVE' });
    expect((await engine.runs.list()).runs).toHaveLength(1);
    await engine.dispatch('go');
    await w.clock.idle();
    expect((await engine.runs.fork(id, { before: 'a' })).created).toBe(true);
  });

  it('F6: what comes before the step is reused, also where it was recorded behind it: done again after a retry', async () => {
    const w = world(medium);
    let isBad = true;
    const engine = w.engine((stepfast) => {
      stepfast.job('order', async ({ step }) => {
        await step.run('charge', () => void w.log.push('charge'), { undo: () => void w.log.push('refund') });
        await step.run('b', () => void w.log.push('b'));
        await step.run('c', () => {
          if (isBad) throw new FatalError('no');
          w.log.push('c');
        });
        await step.run('d', () => {
          if (w.log.includes('end')) throw new FatalError('no');
        });
      });
    });
    await engine.start('order', undefined, { id: 'old' });
    await w.clock.idle();
    isBad = false;
    await engine.runs.retry('old');
    await w.clock.idle();
    expect(w.log.splice(0)).toEqual(['charge', 'b', 'refund', 'charge', 'c']);
    w.log.push('end'); // the fork fails, and undoes what it was given
    const fork = await engine.runs.fork('old', { before: 'b' });
    await w.clock.idle();
    expect([await fork.status(), w.log]).toEqual(['failed', ['end', 'b', 'c', 'refund']]);
  });

  it('F6, R4: the same of a step that a later release has put before it', async () => {
    const w = world(medium);
    const job = (version: number) => (stepfast: Stepfast) =>
      stepfast.job('grown', { version }, async ({ step }) => {
        const say = (name: string) => step.run(name, () => void w.log.push(name));
        await say('a');
        if (version > 1) await say('inserted');
        await say('b');
        await step.waitForEvent('go');
        await say('c');
      });
    const first = w.engine(job(1));
    await first.start('grown', undefined, { id: 'old' });
    await w.clock.idle();
    await first.close();
    const engine = w.engine(job(2));
    await engine.dispatch('go');
    await w.clock.idle();
    expect(w.log.splice(0)).toEqual(['a', 'b', 'inserted', 'c']);
    await engine.runs.fork('old', { before: 'b' });
    await w.clock.idle();
    expect(w.log).toEqual(['b']);
  });

  it('F7: a fork that fails undoes what was undone in the other run, and done again', async () => {
    const w = world(medium);
    let isBad = true;
    const engine = w.engine((stepfast) => {
      stepfast.job('undone', async ({ step, run }) => {
        const undo = () => void w.log.push(`undo in ${run.id}`);
        await step.run('a', () => void w.log.push(`a in ${run.id}`), { undo });
        await step.run('b', () => {
          if (isBad) throw new FatalError('no');
        });
      });
    });
    await engine.start('undone', undefined, { id: 'old' });
    await w.clock.idle();
    isBad = false;
    await engine.runs.retry('old');
    await w.clock.idle();
    expect(w.log.splice(0)).toEqual(['a in old', 'undo in old', 'a in old']);
    isBad = true;
    const fork = await engine.runs.fork('old', { before: 'b' });
    await w.clock.idle();
    expect([await fork.status(), w.log]).toEqual(['failed', [`undo in ${fork.id}`]]);
  });

  it('F6, F7: forked before a step that was undone and done again, what came before it is reused', async () => {
    const w = world(medium);
    let isBad = true;
    const engine = w.engine((stepfast) => {
      stepfast.job('undone', async ({ step }) => {
        for (const name of ['a', 'b'])
          await step.run(name, () => void w.log.push(name), { undo: () => void w.log.push(`undo ${name}`) });
        await step.run('after', () => void w.log.push('after'));
        await step.run('c', () => {
          if (isBad) throw new FatalError('no');
        });
      });
    });
    await engine.start('undone', undefined, { id: 'old' });
    await w.clock.idle();
    isBad = false;
    await engine.runs.retry('old');
    await w.clock.idle();
    expect(w.log.splice(0)).toEqual(['a', 'b', 'after', 'undo b', 'undo a', 'a', 'b']);
    const fork = await engine.runs.fork('old', { before: 'b' });
    await w.clock.idle();
    expect([await fork.status(), w.log.splice(0)]).toEqual(['completed', ['b', 'after']]);
    await engine.runs.fork('old', { before: 'a' });
    await w.clock.idle();
    expect(w.log).toEqual(['a', 'b', 'after']);
  });

  it('R2, F7: a fork undoes what it was given under the key that this was done under, and what it does itself under its own', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('keys', async ({ step, run }) => {
        for (const name of ['a', 'b'])
          await step.run(name, ({ idempotencyKey }) => void w.log.push(idempotencyKey), {
            undo: ({ idempotencyKey }) => void w.log.push(idempotencyKey),
          });
        await step.run('c', () => {
          if (run.id !== 'old') throw new FatalError('no');
        });
      });
    });
    await engine.start('keys', undefined, { id: 'old' });
    await w.clock.idle();
    expect(w.log.splice(0)).toEqual(['old/0/a/1', 'old/0/b/1']);
    const { id } = await engine.runs.fork('old', { before: 'b' });
    await w.clock.idle();
    expect(w.log.splice(0)).toEqual([`${id}/0/b/1`, `${id}/0/b/1/undo`, 'old/0/a/1/undo']);
    await engine.runs.retry(id);
    await w.clock.idle();
    expect(w.log.splice(0, 2)).toEqual([`${id}/1/a/1`, `${id}/1/b/1`]);
    expect(w.log).toEqual([`${id}/1/b/1/undo`, `${id}/1/a/1/undo`]);
  });

  it('F6, F8: the timeout of a job counts from the first claim of a fork, also of one that was begun anew; then from its restart', async () => {
    const w = world(medium);
    const define = (stepfast: Stepfast) =>
      stepfast.job<number>('loops', { timeout: '1h' }, async ({ payload, step }) => {
        await step.run('a', () => undefined);
        if (payload === 1) return step.restart(2);
        await step.run('b', () => undefined);
        await step.waitForEvent('go');
        return step.restart(3);
      });
    const before = w.engine(define);
    await before.start('loops', 1, { id: 'old' });
    await w.clock.idle();
    await before.close();
    const without = w.engine();
    const { id } = await without.runs.fork('old', { before: 'b' });
    await without.close();
    await w.clock.advance('2h');
    const after = w.engine(define);
    await after.ready();
    await w.clock.idle();
    const statusOf = async (run: string) => (await after.runs.get(run))!.status;
    expect([await statusOf('old'), await statusOf(id)]).toEqual(['failed', 'waiting']);
    await w.clock.advance('30m');
    await after.dispatch('go', undefined);
    await w.clock.advance('59m');
    expect(await statusOf(id)).toBe('waiting');
    await w.clock.advance('1m');
    expect((await after.runs.get(id))!.error!.code).toBe('RUN_TIMEOUT');
  });

  it('F6, R5: waits that were over by then fit, though their key names the run that was forked', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('waits', async ({ step, run }) => {
        const first = await step.waitForEvent<string>('go', { correlationKey: `first:${run.id}` });
        await step.waitForEvent('go', {
          name: 'late',
          correlationKey: `late:${run.id}`,
          timeout: '1h',
          onTimeout: 'continue',
        });
        const last = await step.waitForEvent<string>('go', { name: 'last', correlationKey: `last:${run.id}` });
        return [first.payload, last.payload];
      });
    });
    await engine.start('waits', undefined, { id: 'old' });
    await engine.dispatch('go', 'one', { correlationKey: 'first:old' });
    await w.clock.advance('2h');
    await engine.dispatch('go', 'two', { correlationKey: 'last:old' });
    await w.clock.idle();
    const fork = await engine.runs.fork('old', { before: 'last' });
    await engine.dispatch('go', 'three', { correlationKey: `last:${fork.id}` });
    await w.clock.idle();
    expect(await engine.runs.get(fork.id)).toMatchObject({ status: 'completed', result: ['one', 'three'] });
    const whole = await engine.runs.fork('old', { before: 'late' });
    w.crash(engine);
    const after = w.engine((stepfast) => {
      stepfast.job('waits', async ({ step }) => step.waitForEvent('other', { name: 'go' }));
    });
    await after.ready();
    await w.clock.idle();
    expect(await after.runs.get(whole.id)).toMatchObject({ status: 'blocked', error: { code: 'REPLAY_MISMATCH' } });
  });

  it.each([
    'resume',
    'always',
  ] as const)('F6: the steps before are reused, the step itself and later ones run anew; the other run stays (replay: %s)', async (replay) => {
    const w = world(medium);
    const engine = w.engine(three(w.log), { replay });
    await engine.start('three', 'x', { id: 'old', tags: ['t'], idempotencyKey: 'k' });
    await w.clock.idle();
    const before = await engine.runs.get('old');
    w.log.length = 0;
    const fork = await engine.runs.fork('old', { before: 'b' });
    expect(fork.created).toBe(true);
    expect(await fork.result()).toEqual([
      'a of old with x',
      `b of ${fork.id} with x`,
      `b of ${fork.id} with x`,
      `c of ${fork.id} with x`,
    ]);
    expect(w.log).toEqual(['b:x', 'b:x', 'c:x']);
    expect(await engine.runs.get('old')).toEqual(before);
    expect(await engine.runs.get(fork.id)).toMatchObject({ job: 'three', payload: 'x', tags: ['t'] });
    const timeline = await engine.runs.timeline(fork.id);
    expect(timeline[0]).toMatchObject({ kind: 'started', forkedFrom: { runId: 'old', before: 'b' } });
    expect(timeline.slice(0, 3).map(({ kind, name }) => [kind, name])).toEqual([
      ['started', undefined],
      ['step-completed', 'a'],
      ['claimed', undefined],
    ]);
    const first = await engine.runs.fork('old', { before: 'a' });
    expect(await first.result()).toEqual(['a', 'b', 'b', 'c'].map((name) => `${name} of ${first.id} with x`));
  });

  it('F6: a fork with another payload gives it to what runs anew, checked by the schema of the job', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('typed', { payload: z.object({ n: z.coerce.number() }) }, async ({ payload, step }) => {
        const a = await step.run('a', () => payload.n);
        const b = await step.run('b', () => payload.n);
        return [a, b];
      });
    });
    await engine.start('typed', { n: 1 }, { id: 'old' });
    await w.clock.idle();
    const fork = await engine.runs.fork('old', { before: 'b', payload: { n: '2' } });
    expect(await fork.result()).toEqual([1, 2]);
    expect(await engine.runs.get(fork.id)).toMatchObject({ payload: { n: 2 } });
    const bad = engine.runs.fork('old', { before: 'b', payload: { n: 'two' } });
    await expect(bad).rejects.toMatchObject({ code: 'INVALID_PAYLOAD' });
    expect((await engine.runs.list()).runs).toHaveLength(2);
  });

  it('F6: a failed run is forked before the step that failed, with a fresh budget; a fork is forked again', async () => {
    const w = world(medium);
    let fails = 3;
    const engine = w.engine((stepfast) => {
      stepfast.job('flaky', { retry: { maxAttempts: 2, jitter: false } }, async ({ step }) => {
        const a = await step.run('a', () => w.log.push('a'));
        const b = await step.run('b', ({ attempt }) => {
          w.log.push(`b${attempt}`);
          if (fails-- > 0) throw new Error('no');
          return 'b';
        });
        return [a, b];
      });
    });
    const old = await engine.start('flaky');
    await w.clock.advance('1m');
    expect(await old.status()).toBe('failed');
    const fork = await engine.runs.fork(old.id, { before: 'b' });
    await w.clock.advance('1m');
    expect(await fork.result()).toEqual([1, 'b']);
    expect(w.log).toEqual(['a', 'b1', 'b2', 'b1', 'b2']);
    const again = await engine.runs.fork(fork.id, { before: 'b' });
    expect(await again.result()).toEqual([1, 'b']);
    expect((await engine.runs.timeline(again.id))[0]).toMatchObject({ forkedFrom: { runId: fork.id, before: 'b' } });
    expect(await old.status()).toBe('failed');
  });

  it('F6, O3: a fork that is asked of the store once more, because the first answer was lost, is that fork', async () => {
    const w = world(medium);
    const again = {
      name: 'again',
      store: (store: Store) =>
        wrapStore(store, async (name, given, call) => {
          const first = await call();
          return name === 'commit' && (given as Batch).starts?.[0]?.runId !== 'old' && (given as Batch).starts
            ? call()
            : first;
        }),
    };
    const engine = w.engine(three(w.log), { use: [again] });
    const old = await engine.start('three', 'x', { id: 'old' });
    await old.result();
    const fork = await engine.runs.fork('old', { before: 'c' });
    expect(await fork.result()).toHaveLength(4);
    expect(w.log.filter((line) => line.startsWith('c'))).toHaveLength(2);
  });

  it('F6: a waiting run may be forked; its wait and deadline begin anew, its event is its own', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('waits', async ({ step }) => {
        const a = await step.run('a', () => w.log.push('a'));
        const event = await step.waitForEvent<string>('go', { timeout: '1h' });
        return [a, event.payload];
      });
    });
    const old = await engine.start('waits');
    await w.clock.advance('30m');
    const fork = await engine.runs.fork(old.id, { before: 'go' });
    await w.clock.advance('31m');
    expect(await old.status()).toBe('failed');
    expect(await engine.runs.get(fork.id)).toMatchObject({
      status: 'waiting',
      waitingFor: [{ deadline: w.clock.now() + 29 * 60_000 }],
    });
    await engine.dispatch('go', 'late');
    expect(await fork.result()).toEqual([1, 'late']);
    expect(w.log).toEqual(['a']);
    const third = await engine.runs.fork(fork.id, { before: 'go' });
    await w.clock.idle();
    expect(await third.status()).toBe('waiting'); // events from before it was started are not for it (spec E3)
  });

  it('F6: what ran beside the step and had not ended begins anew; what had ended first wins a race again', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('beside', async ({ step }) => {
        const nap = step.sleep('nap', '1 day').then(() => 'nap');
        const winner = await Promise.race([step.run('quick', () => 'quick'), nap]);
        const last = await step.run('last', () => `last ${w.log.push('last')}`);
        return [winner, last, await nap];
      });
    });
    const old = await engine.start('beside');
    await w.clock.advance('1h');
    expect(await old.status()).toBe('sleeping');
    const fork = await engine.runs.fork(old.id, { before: 'last' });
    await w.clock.advance('23h');
    expect(await old.result()).toEqual(['quick', 'last 1', 'nap']);
    expect(await fork.status()).toBe('sleeping');
    await w.clock.advance('1h');
    expect(await fork.result()).toEqual(['quick', 'last 2', 'nap']);
  });

  it('F6: what a retry has forgotten is not reused', async () => {
    const w = world(medium);
    let fails = true;
    const engine = w.engine((stepfast) => {
      stepfast.job('retried', async ({ step }) => {
        const read = () =>
          step.run('read', () => {
            if (fails) throw new FatalError('no');
            return 'read';
          });
        const a = await step.run('a', () => w.log.push('a'));
        const b = await read();
        return [a, b, await step.run('c', () => w.log.push('c'))];
      });
    });
    const old = await engine.start('retried');
    await w.clock.idle();
    fails = false;
    await engine.runs.retry(old.id);
    expect(await old.result()).toEqual([1, 'read', 2]);
    const fork = await engine.runs.fork(old.id, { before: 'c' });
    expect(await fork.result()).toEqual([1, 'read', 3]);
    const early = await engine.runs.fork(old.id, { before: 'read' });
    expect(await early.result()).toEqual([1, 'read', 4]);
    expect(w.log).toEqual(['a', 'c', 'c', 'c']);
  });

  it('F6: a fork outlives a crash, and is a run like any other', async () => {
    const w = world(medium);
    const define = three(w.log);
    const before = w.engine(define);
    await before.start('three', 'x', { id: 'old' });
    await w.clock.idle();
    await before.close();
    const stranger = w.engine(); // has no job: it starts the fork, and another context drives it
    const { id } = await stranger.runs.fork('old', { before: 'c' });
    w.crash(stranger);
    w.log.length = 0;
    const after = w.engine(define);
    await after.ready();
    await w.clock.idle();
    expect(await after.runs.get(id)).toMatchObject({ status: 'completed', result: { 0: 'a of old with x' } });
    expect(w.log).toEqual(['c:x']);
  });

  it('R1, F6: a fork of a run that `migrate` has fitted to new code has its steps under their present names', async () => {
    const w = world(medium);
    const say = (name: string) => () => w.log.push(name);
    const old = w.engine((stepfast) => {
      stepfast.job('moved', async ({ step }) => {
        await step.run('odd', say('odd'));
        await step.run('old', say('old'));
        await step.run('gone', say('gone'));
        await step.waitForEvent('go');
      });
    });
    await old.start('moved', undefined, { id: 'r' });
    await w.clock.idle();
    await old.close();
    const migrate = () => ({ rename: { old: 'new', go: 'the word' }, forget: ['gone'] });
    const engine = w.engine((stepfast) => {
      stepfast.job('moved', { version: 2, migrate }, async ({ step }) => {
        const odd = await step.run('odd', say('odd again'));
        const done = await step.run('new', say('new'));
        const gone = await step.run('gone', say('gone again'));
        await step.waitForEvent('go', { name: 'the word' });
        return [odd, done, gone, await step.run('last', say('last'))];
      });
    });
    await engine.dispatch('go');
    await w.clock.idle();
    expect(await (await engine.runs.fork('r', { before: 'last' })).result()).toEqual([1, 2, 4, 6]);
    expect(w.log.splice(0)).toEqual(['odd', 'old', 'gone', 'gone again', 'last', 'last']);
    const early = await engine.runs.fork('r', { before: 'the word' }); // first recorded before the step that was forgotten
    await engine.dispatch('go');
    expect(await early.result()).toEqual([1, 2, 1, 2]);
    expect(w.log.splice(0)).toEqual(['gone again', 'last']);
    await engine.runs.fork('r', { before: 'gone' });
    await w.clock.idle();
    expect(w.log.splice(0)).toEqual(['gone again']);
    await engine.runs.fork('r', { before: 'new' });
    await w.clock.idle();
    expect(w.log).toEqual(['new', 'gone again']);
    await expect(engine.runs.fork('r', { before: 'old' })).rejects.toMatchObject({ code: 'INVALID_OPTION' });
  });

  it('F7: a fork that is cancelled before anybody has taken it up undoes the steps that it was given', async () => {
    const w = world(medium);
    const define = (stepfast: Stepfast) => {
      stepfast.job('undoable', async ({ step }) => {
        const undo = ({ result }: { readonly result: unknown }) => void w.log.push(`undo ${result}`);
        await step.run('a', () => 'A', { undo });
        await step.run('b', () => 'B', { undo });
        await step.waitForEvent('go');
      });
    };
    const before = w.engine(define);
    await before.start('undoable', undefined, { id: 'old' });
    await w.clock.idle();
    await before.close();
    const stranger = w.engine(); // has no job: nobody takes the fork up
    const fork = await stranger.runs.fork('old', { before: 'b' });
    await fork.cancel();
    const bare = await stranger.runs.fork('old', { before: 'a' });
    await bare.cancel();
    expect(await stranger.runs.get(bare.id)).not.toHaveProperty('undoing');
    expect(await stranger.runs.get(fork.id)).toMatchObject({ status: 'cancelled', undoing: true });
    await stranger.close();
    const after = w.engine(define);
    await after.ready();
    await w.clock.idle();
    expect(w.log).toEqual(['undo A']);
    expect(await after.runs.get(fork.id)).not.toHaveProperty('undoing');
    expect(await after.runs.get('old')).toMatchObject({ status: 'waiting' });
  });

  it.each([
    ['a swap', { a: 'b', b: 'a' }],
    ['a chain', { a: 'b', b: 'c' }],
  ])('F7, O6: a fork behind %s of names has what is done, and not what was undone', async (_, rename) => {
    const w = world(medium);
    const undoing = (name: string) => ({
      undo() {
        w.log.push(`undo ${name}`);
        if (name === 'first') throw new FatalError('can not be undone');
      },
    });
    const first = (stepfast: Stepfast) => {
      stepfast.job('j', async ({ step }) => {
        await step.run('a', () => w.log.push('first'), undoing('first'));
        await step.run('b', () => w.log.push('second'), undoing('second'));
        await step.waitForEvent('go');
      });
    };
    const old = w.engine(first);
    await old.start('j', undefined, { id: 'r' });
    await w.clock.idle();
    await old.close();
    let isBad = true;
    const engine = w.engine((stepfast) => {
      stepfast.job('j', { version: 2, migrate: () => ({ rename }) }, async ({ step }) => {
        await step.run(rename.a, () => w.log.push('first'), undoing('first'));
        await step.run(rename.b, () => w.log.push('second'), undoing('second'));
        await step.waitForEvent('go');
        await step.run('last', () => {
          if (isBad) throw new FatalError('no');
        });
        await step.waitForEvent('never');
      });
    });
    await engine.dispatch('go');
    await w.clock.idle();
    expect(w.log.splice(0)).toEqual(['first', 'second', 'undo second', 'undo first']);
    isBad = false;
    const fork = await engine.runs.fork('r', { before: 'last' });
    await w.clock.idle();
    expect(w.log.splice(0)).toEqual(['second']); // the other one is done: nobody could undo it
    await engine.dispatch('go');
    await w.clock.idle();
    await fork.cancel();
    await w.clock.idle();
    expect(w.log).toEqual(['undo second', 'undo first']);
  });

  it('F6: a blocked run may be forked', async () => {
    const w = world(medium);
    const before = w.engine(three(w.log));
    await before.start('three', 'x', { id: 'old' });
    await w.clock.idle();
    await before.close();
    const other = w.engine((stepfast) => {
      stepfast.job<string>('three', async ({ step }) => {
        await step.run('a', () => 1);
        await step.run('b', () => 2);
        await step.sleep('c', '1h');
      });
    });
    const blocked = await other.runs.fork('old', { before: 'c' });
    await w.clock.idle();
    expect(await blocked.status()).toBe('sleeping');
    await other.runs.cancel(blocked.id);
    await other.close();
    const third = w.engine((stepfast) => {
      stepfast.job<string>('three', ({ step }) => step.sleep('a', '1h'));
    });
    const unfit = await third.runs.fork('old', { before: 'c' });
    await w.clock.idle();
    expect(await unfit.status()).toBe('blocked');
    const fork = await third.runs.fork(unfit.id, { before: 'a' });
    await w.clock.idle();
    expect(await fork.status()).toBe('sleeping');
  });

  it('B: a fork of nothing, before nothing, or of a run that is under way is refused', async () => {
    const w = world(medium);
    let end: () => void = () => undefined;
    const engine = w.engine((stepfast) => {
      three(w.log)(stepfast);
      stepfast.job('busy', ({ step }) => step.run('go', () => new Promise<void>((resolve) => (end = resolve))));
    });
    await engine.start('three', 'x', { id: 'old' });
    await w.clock.idle();
    await expect(engine.runs.fork('nobody', { before: 'a' })).rejects.toMatchObject({ code: 'RUN_NOT_FOUND' });
    for (const before of ['d', '', undefined, 5])
      await expect(engine.runs.fork('old', { before: before as string })).rejects.toMatchObject({
        code: 'INVALID_OPTION',
        message: expect.stringContaining('before'),
      });
    await expect(engine.runs.fork('old', undefined as never)).rejects.toMatchObject({ code: 'INVALID_OPTION' });
    const busy = await engine.start('busy');
    await expect.poll(() => busy.status()).toBe('running');
    const early = engine.runs.fork(busy.id, { before: 'go' });
    await expect(early).rejects.toMatchObject({ code: 'RUN_ACTIVE', runId: busy.id });
    const later = await engine.start('three', 'y', { delay: '1h' });
    await expect(engine.runs.fork(later.id, { before: 'a' })).rejects.toMatchObject({ code: 'RUN_ACTIVE' });
    end();
    await busy.result();
    expect((await engine.runs.list()).runs).toHaveLength(3);
  });
});

it('F6: outcomes that were handed out in another order than they were recorded keep that order', () => {
  const done = (name: string, asked: number, before?: number) =>
    ({
      kind: 'step-completed',
      at: 0,
      id: [name, 1],
      asked,
      attempt: 1,
      value: name,
      ...(before !== undefined && { before }),
    }) as const;
  const journal: JournalEntry[] = [
    { kind: 'started', at: 0, payload: null },
    { kind: 'claimed', at: 0, owner: 'o', fence: 1 },
    done('first', 3), // 2
    done('second', 3), // 3
    { kind: 'claimed', at: 0, owner: 'p', fence: 2 },
    done('third', 3, 2), // before `first`
    done('fourth', 3, 3), // between `first` and `second`
    { kind: 'logged', at: 0, level: 'info', message: 'm', id: ['cut', 1] },
    done('cut', 4),
    { kind: 'completed', at: 0, value: null },
  ];
  const fork = forkJournal(journal, { runId: 'r', before: 'cut', at: 7 });
  expect(fork).toEqual([
    { kind: 'started', at: 7, payload: null, forkedFrom: { runId: 'r', before: 'cut' } },
    done('first', 3),
    done('second', 3),
    done('third', 3, 1),
    done('fourth', 3, 2),
  ]);
  // `first` is forgotten by a retry: `third` still comes before all, `fourth` before `second`.
  const retried: JournalEntry[] = [
    ...journal.slice(0, 7),
    { kind: 'failed', at: 0, error: { name: 'Error', message: '' } },
    { kind: 'retried', at: 0, forgets: [['step', 'first', 1]] },
    done('cut', 4),
  ];
  expect(forkJournal(retried, { runId: 'r', before: 'cut', at: 7 }).slice(1)).toEqual([
    done('second', 3),
    done('third', 3, 1),
    done('fourth', 3, 1),
  ]);
});
