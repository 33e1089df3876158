import { expect, it } from 'vitest';
import { FatalError, type StepContext, type Stepfast } from '../src/index.js';
import { everyWay } from './crash-everywhere.js';
import { fatal, kindsOf, logged } from './undo-kit.js';

// Pins: spec F7: what is undone when a run fails or is cancelled, in which order, and with what in hand.

everyWay('undo', (open) => {
  it('F7: of an attempt that timed out nobody knows what it did: it is undone, though the last one has failed', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      stepfast.job('order', async ({ step }) => {
        await step.run(...logged(w, 'a'));
        await step.run(
          'charge',
          ({ attempt }) => {
            w.log.push(`charge ${attempt}`);
            return attempt === 1 ? new Promise<string>(() => undefined) : fatal();
          },
          { timeout: '1s', undo: ({ result }) => void w.log.push(`undo charge ${result}`) },
        );
      });
    });
    await engine.start('order');
    await w.clock.advance('1h');
    expect(w.log).toEqual(['a', 'charge 1', 'charge 2', 'undo charge undefined', 'undo A']);
  });

  it('F7: one that returned has done its work, though what it returned, or wrote, could not be kept: it is undone', async () => {
    const losing: { readonly [why: string]: (context: StepContext) => unknown } = {
      'no value': () => () => undefined,
      'too large': () => 'x'.repeat(1_000),
      'no number': ({ state }) => void state.increment('word'),
    };
    for (const [why, effect] of Object.entries(losing)) {
      const w = open();
      const define = (stepfast: Stepfast) =>
        stepfast.job('order', async ({ step }) => {
          const undo = ({ result }: { result?: unknown }) => void w.log.push(`undo charge ${result}`);
          await step.run('charge', effect, { undo, retry: { maxAttempts: 1 } });
        });
      const engine = w.engine(define, { maxValueBytes: 500 });
      await engine.state.set('word', 'none');
      await engine.start('order', undefined, { id: 'r' });
      await w.clock.advance('1h');
      expect([(await engine.runs.get('r'))?.status, w.log], why).toEqual(['failed', ['undo charge undefined']]);
    }
  });

  it('F7: one that throws has not, whatever the code of its error, and whoever gave it that', async () => {
    const coded = (code: string) => () => {
      throw Object.assign(new FatalError('by itself'), { code });
    };
    const codes = ['STEP_TIMEOUT', 'NOT_SERIALIZABLE', 'VALUE_TOO_LARGE', 'NOT_A_NUMBER', 'STATE_CHANGED'];
    const throwing: { readonly [why: string]: (engine: Stepfast) => (context: StepContext) => unknown } = {
      ...Object.fromEntries(codes.map((code) => [code, () => coded(code)])),
      'refused at a door': (engine) => () => engine.start('order', 'x'.repeat(1_000)),
      'refused as a value of the state': () => (context) => context.state.set('k', 'x'.repeat(1_000)),
    };
    for (const [why, effect] of Object.entries(throwing)) {
      const w = open();
      const define = (stepfast: Stepfast) =>
        stepfast.job('order', async ({ step }) => {
          await step.run(...logged(w, 'a'));
          const undo = () => void w.log.push('undo charge');
          await step.run('charge', effect(stepfast), { undo, retry: { maxAttempts: 1 } });
        });
      const engine = w.engine(define, { maxValueBytes: 500 });
      await engine.start('order', undefined, { id: 'r' });
      await w.clock.advance('1h');
      expect([(await engine.runs.get('r'))?.status, w.log], why).toEqual(['failed', ['a', 'undo A']]);
    }
  });

  it('F7: nor of one that was cut off, by a crash or by close(): it is undone, whatever the next one comes to', async () => {
    for (const cutOff of ['crash', 'close'])
      for (const end of ['fails', 'is cancelled'] as const) {
        const w = open();
        const where = `${cutOff}, then ${end}`;
        let life = 1;
        const define = (s: Stepfast) =>
          s.job('pay', async ({ step }) => {
            const charge = () => {
              if (life === 1) return new Promise<never>(() => void w.log.push('begun'));
              if (end === 'fails') return fatal();
              throw new Error('busy');
            };
            const undo = ({ result }: { readonly result: unknown }) => void w.log.push(`undo ${result}`);
            await step.run('charge', charge, { retry: { initialDelay: '1h' }, undo });
          });
        const first = w.engine(define);
        await first.start('pay', undefined, { id: 'p' });
        await expect.poll(() => w.log).toEqual(['begun']);
        if (cutOff === 'crash') w.crash(first);
        else await first.close();
        life = 2;
        const second = w.engine(define);
        await second.ready();
        await w.clock.idle();
        if (end === 'is cancelled') await second.runs.cancel('p');
        await w.clock.idle();
        expect(w.log, where).toEqual(['begun', 'undo undefined']);
        expect(await kindsOf(second, 'p', /undone/), where).toEqual(['undone charge']);
      }
  });

  it('F7: a run that fails undoes its completed steps in reverse order; the one that failed is not undone', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      stepfast.job('order', async ({ step }) => {
        await step.run(...logged(w, 'a'));
        await step.run('plain', () => void w.log.push('plain'));
        await step.run(...logged(w, 'b'));
        await step.run('c', fatal, { undo: () => void w.log.push('undo c') });
      });
    });
    const run = await engine.start('order');
    await w.clock.idle();
    expect(w.log).toEqual(['a', 'plain', 'b', 'undo B', 'undo A']);
    const snapshot = await engine.runs.get(run.id);
    expect(snapshot).toMatchObject({ status: 'failed', error: { code: 'STEP_FAILED', step: 'c' } });
    expect(snapshot).not.toHaveProperty('undoing');
    expect((await engine.runs.timeline(run.id)).slice(-3)).toMatchObject([
      { kind: 'failed' },
      { kind: 'undone', name: 'b', attempt: 1, at: w.clock.now() },
      { kind: 'undone', name: 'a' },
    ]);
    await w.clock.advance('1 day');
    expect(w.log).toHaveLength(5);
    expect(w.errors).toEqual([]);
  });

  it('F7: a cancelled run undoes its completed steps in reverse order', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      stepfast.job('order', async ({ step }) => {
        await step.run(...logged(w, 'a'));
        await step.run(...logged(w, 'b'));
        await step.waitForEvent('never');
      });
    });
    const run = await engine.start('order');
    await w.clock.idle();
    await run.cancel();
    await w.clock.idle();
    expect(w.log).toEqual(['a', 'b', 'undo B', 'undo A']);
    expect(await engine.runs.get(run.id)).toMatchObject({ status: 'cancelled' });
    expect(await engine.runs.get(run.id)).not.toHaveProperty('undoing');
  });

  it('F7: a completed run undoes nothing, neither then nor when it is cancelled or its app reloaded', async () => {
    const w = open();
    const define = (stepfast: Stepfast) => {
      stepfast.job('order', async ({ step }) => {
        await step.run(...logged(w, 'a'));
        await step.run('b', fatal, { undo: () => void w.log.push('undo b') }).catch(() => undefined);
        return 'done';
      });
    };
    const before = w.engine(define);
    const run = await before.start('order', undefined, { id: 'o' });
    await w.clock.idle();
    await run.cancel();
    w.crash(before);
    const after = w.engine(define);
    await after.ready();
    await w.clock.advance('1 day');
    expect(await after.runs.get('o')).toMatchObject({ status: 'completed', result: 'done' });
    expect(w.log).toEqual(['a']);
  });

  it('F7: while it undoes, the status is final and the snapshot says so; the result is not waited for', async () => {
    const w = open();
    let end: () => void = () => undefined;
    const engine = w.engine((stepfast) => {
      stepfast.job('order', async ({ step }) => {
        await step.run('a', () => 1, {
          undo: () => {
            w.log.push('undoing');
            return new Promise<void>((resolve) => (end = resolve));
          },
        });
        await step.run('b', fatal);
      });
    });
    const run = await engine.start('order');
    await expect(run.result()).rejects.toMatchObject({ code: 'STEP_FAILED' });
    await expect.poll(() => w.log).toEqual(['undoing']);
    const snapshot = (await engine.runs.get(run.id))!;
    expect(snapshot).toMatchObject({ status: 'failed', undoing: true, error: { step: 'b' }, endedAt: w.clock.now() });
    await expect(engine.runs.delete(run.id)).rejects.toMatchObject({ code: 'RUN_ACTIVE' });
    await run.cancel(); // it has ended
    expect(await run.status()).toBe('failed');
    end();
    await w.clock.idle();
    const { undoing: _, ...rest } = snapshot;
    expect(await engine.runs.get(run.id)).toEqual(rest);
    await engine.runs.delete(run.id);
    expect(w.log).toEqual(['undoing']);
  });

  it('F7: an undo has the decoded result, the key of its step with /undo, its attempt, a signal and a log', async () => {
    const w = open();
    const seen: unknown[] = [];
    const define = (stepfast: Stepfast) => {
      stepfast.job('order', async ({ step }) => {
        await step.run('reserve', ({ idempotencyKey }) => ({ key: idempotencyKey, at: new Date(5), id: 7n }), {
          undo({ result, attempt, idempotencyKey, signal, log }) {
            log.info('taking it back', { id: result?.id });
            seen.push({ result, attempt, idempotencyKey, isAborted: signal.aborted });
          },
        });
        await step.waitForEvent('never');
      });
    };
    const before = w.engine(define);
    await before.start('order', undefined, { id: 'o' });
    await w.clock.idle();
    w.crash(before);
    const after = w.engine(define);
    await after.runs.cancel('o');
    await w.clock.idle();
    const key = 'o/0/reserve/1';
    const result = { key, at: new Date(5), id: 7n };
    expect(seen).toEqual([{ result, attempt: 1, idempotencyKey: `${key}/undo`, isAborted: false }]);
    const lines = (await after.runs.timeline('o')).filter(({ kind }) => kind === 'logged');
    expect(lines).toMatchObject([{ message: 'taking it back', data: { id: 7n }, name: 'reserve' }]);
  });

  it('F7: an attempt of unknown outcome is undone first, without a result', async () => {
    const w = open();
    const define = (stepfast: Stepfast) => {
      stepfast.job('order', async ({ step }) => {
        await step.run(...logged(w, 'a'));
        await step.run('b', () => new Promise<string>(() => w.log.push('b')), {
          undo: ({ result }) => void w.log.push(`undo b ${result}`),
        });
      });
    };
    const before = w.engine(define);
    await before.start('order', undefined, { id: 'o' });
    await expect.poll(() => w.log).toEqual(['a', 'b']);
    w.crash(before);
    const stranger = w.engine();
    await stranger.runs.cancel('o');
    await stranger.close();
    const after = w.engine(define);
    await after.ready();
    await w.clock.idle();
    expect(w.log).toEqual(['a', 'b', 'undo b undefined', 'undo A']);
    expect((await after.runs.get('o'))!.status).toBe('cancelled');
  });

  it('F9: the undo of an attempt in flight waits for its late result, and is handed it', async () => {
    const w = open();
    let end: (value: string) => void = () => undefined;
    const engine = w.engine((stepfast) => {
      stepfast.job('order', async ({ step }) => {
        await step.run('before', () => 1, { undo: () => void w.log.push('undo before') });
        await step.run('a', () => new Promise<string>((resolve) => (end = resolve)), {
          undo: ({ result }) => void w.log.push(`undo ${result}`),
        });
        w.log.push('after');
      });
    });
    const run = await engine.start('order');
    await expect.poll(() => end.length).toBe(1); // entered
    await run.cancel();
    await expect.poll(async () => (await engine.runs.get(run.id))!.undoing).toBe(true);
    expect(w.log).toEqual([]);
    w.log.push('ends');
    end('late');
    await w.clock.idle();
    expect(w.log).toEqual(['ends', 'undo late', 'undo before']);
    expect(await kindsOf(engine, run.id, /step|undone/)).toEqual([
      'step-completed before',
      'undone a',
      'undone before',
    ]);
  });

  it('F9: a late result that is an error, or none at all, is undone without a result', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      stepfast.job('order', async ({ payload, step }) => {
        const fn = ({ signal }: { readonly signal: AbortSignal }) =>
          new Promise((_, reject) => {
            w.log.push('entered');
            if (payload === 'rejects') signal.addEventListener('abort', () => reject(signal.reason));
          });
        await step.run('a', fn, { undo: ({ result }) => void w.log.push(`undo ${result}`) });
      });
    });
    for (const payload of ['rejects', 'hangs']) {
      w.log.length = 0;
      const run = await engine.start('order', payload);
      await expect.poll(() => w.log).toEqual(['entered']);
      await run.cancel();
      await expect.poll(() => w.log, { timeout: 20_000 }).toEqual(['entered', 'undo undefined']);
    }
  });

  it('F7: a step that waits for its next attempt has failed, and is not undone; one that may have begun it is', async () => {
    const w = open();
    const define = (stepfast: Stepfast) => {
      const retry = { initialDelay: '1m', jitter: false } as const;
      stepfast.job('order', { retry }, async ({ step }) => {
        await step.run(
          'a',
          ({ attempt }) => {
            if (attempt === 1) throw new Error('not yet');
            return new Promise(() => w.log.push('second'));
          },
          { undo: ({ result }) => void w.log.push(`undo ${result}`) },
        );
      });
    };
    const before = w.engine(define);
    await before.start('order', undefined, { id: 'waits' });
    await before.start('order', undefined, { id: 'began' });
    await w.clock.idle();
    await before.runs.cancel('waits');
    void w.clock.advance('1m');
    await expect.poll(() => w.log).toEqual(['second']);
    await before.runs.cancel('began');
    await expect.poll(() => w.log, { timeout: 20_000 }).toEqual(['second', 'undo undefined']); // it hangs: not for ever
    await w.clock.idle();
    expect(await kindsOf(before, 'waits', /undo/)).toEqual(['undo-set a']);
    expect(await kindsOf(before, 'began', /undo/)).toEqual(['undo-set a', 'undo-set a', 'undone a']);
  });

  it('F7: a step that was asked for and never begun is not undone', async () => {
    const w = open();
    const online = Object.getOwnPropertyDescriptor(globalThis, 'navigator');
    Object.defineProperty(globalThis, 'navigator', { value: { onLine: false }, configurable: true });
    try {
      const engine = w.engine((stepfast) => {
        stepfast.job('order', async ({ step }) => {
          await step.run(...logged(w, 'a'));
          await step.run('b', () => 'b', { when: 'online', undo: () => void w.log.push('undo b') });
        });
      });
      const run = await engine.start('order');
      await w.clock.idle();
      await run.cancel();
      await w.clock.idle();
      expect(w.log).toEqual(['a', 'undo A']);
    } finally {
      Object.defineProperty(globalThis, 'navigator', online!);
    }
  });

  it('F7: steps of a loop are undone one by one, the last first, each with its own result', async () => {
    const w = open();
    const keys: string[] = [];
    const engine = w.engine((stepfast) => {
      stepfast.job('order', async ({ step }) => {
        for (const part of ['x', 'y', 'z'])
          await step.run('part', () => part, {
            undo({ result, idempotencyKey }) {
              w.log.push(`undo ${result}`);
              keys.push(idempotencyKey);
            },
          });
        await step.run('end', fatal);
      });
    });
    const run = await engine.start('order', undefined, { id: 'o' });
    await w.clock.idle();
    expect(await run.status()).toBe('failed');
    expect(w.log).toEqual(['undo z', 'undo y', 'undo x']);
    expect(keys).toEqual([3, 2, 1].map((nth) => `o/0/part/${nth}/undo`));
    expect(await kindsOf(engine, 'o', /undone/)).toEqual(['undone part 3', 'undone part 2', 'undone part']);
  });

  it('F7, E11: the loser of a race is of unknown outcome, and undone in its place', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      stepfast.job('order', async ({ step }) => {
        const lost = step.run('lost', ({ signal }) => new Promise((_, no) => signal.addEventListener('abort', no)), {
          undo: ({ result }) => void w.log.push(`undo lost ${result}`),
        });
        await step.race([lost, step.waitForEvent('go')]);
        await step.run(...logged(w, 'b'));
        await step.run('c', fatal);
      });
    });
    await engine.start('order');
    await expect.poll(async () => (await engine.runs.list()).runs[0]!.waitingFor.length).toBe(1);
    await engine.dispatch('go');
    await expect.poll(() => w.log).toEqual(['b', 'undo B', 'undo lost undefined']);
  });

  it('F7, R8: parallel steps that are in flight when the handler fails are finished first, and undone as completed', async () => {
    const w = open();
    const ends: (() => void)[] = [];
    const engine = w.engine((stepfast) => {
      stepfast.job('order', async ({ step }) => {
        await step.run(...logged(w, 'first'));
        const slow = (name: string) =>
          step.run(name, () => new Promise<string>((resolve) => ends.push(() => resolve(name))), {
            undo: ({ result }) => void w.log.push(`undo ${result}`),
          });
        await Promise.all([slow('x'), slow('y'), step.run('bad', fatal)]);
      });
    });
    const run = await engine.start('order');
    await expect.poll(() => ends.length).toBe(2);
    for (const end of [...ends].reverse()) end();
    await w.clock.idle();
    expect(await run.status()).toBe('failed');
    expect(w.log).toEqual(['first', 'undo x', 'undo y', 'undo FIRST']); // y was the first to complete
  });

  it('F7: a failure that is caught undoes nothing before the run itself has failed', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      stepfast.job('order', async ({ step }) => {
        try {
          await step.run(...logged(w, 'a'));
          await step.run('bad', fatal);
        } catch {
          await step.run(...logged(w, 'b'));
        }
        await step.waitForEvent('go');
        throw new FatalError('in the end');
      });
    });
    const run = await engine.start('order');
    await w.clock.idle();
    expect(w.log).toEqual(['a', 'b']);
    await engine.dispatch('go');
    await w.clock.idle();
    expect(await run.status()).toBe('failed');
    expect(w.log).toEqual(['a', 'b', 'undo B', 'undo A']);
  });

  it('E6, F7: a wait whose timeout cancels the run undoes its steps', async () => {
    const w = open();
    const define = (stepfast: Stepfast) => {
      stepfast.job('order', async ({ step }) => {
        await step.run(...logged(w, 'a'));
        await step.waitForEvent('go', { timeout: '1h', onTimeout: 'cancel' });
      });
    };
    const before = w.engine(define);
    await before.start('order', undefined, { id: 'o' });
    await w.clock.idle();
    w.crash(before);
    await w.clock.advance('2h');
    const after = w.engine(define);
    await after.ready();
    await w.clock.idle();
    expect((await after.runs.get('o'))!.status).toBe('cancelled');
    expect(w.log).toEqual(['a', 'undo A']);
  });

  it('F7: a child that is cancelled with its parent undoes its own steps', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      const child = stepfast.job('child', async ({ step }) => {
        await step.run(...logged(w, 'child'));
        await step.waitForEvent('never');
      });
      stepfast.job('parent', async ({ step }) => {
        await step.run(...logged(w, 'parent'));
        await step.call(child);
      });
    });
    const run = await engine.start('parent');
    await w.clock.idle();
    await run.cancel();
    await w.clock.idle();
    expect([...w.log].sort()).toEqual(['child', 'parent', 'undo CHILD', 'undo PARENT']);
    for (const { status, undoing } of (await engine.runs.list()).runs)
      expect([status, undoing]).toEqual(['cancelled', undefined]);
  });

  it('R9, F7: a step that is asked for inside an undo is refused, and undo goes on', async () => {
    const w = open();
    const engine = w.engine((stepfast) => {
      stepfast.job('order', async ({ step }) => {
        await step.run('a', () => 1, {
          undo: () => step.run('nested', () => void w.log.push('nested')),
        });
        await step.run('b', fatal);
      });
    });
    const run = await engine.start('order');
    await w.clock.advance('1h');
    expect(w.log).toEqual([]);
    expect(await kindsOf(engine, run.id, /undo-failed/)).toEqual(['undo-failed a']);
    expect(w.errors).toMatchObject([{ step: 'a', cause: { code: 'NESTED_STEP' } }]);
  });
});
