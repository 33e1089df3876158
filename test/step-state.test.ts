import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { State, Stepfast } from '../src/index.js';
import { crashEverywhere, everyWay } from './crash-everywhere.js';
import type { World } from './harness.js';

// Pins: spec D8 within runs: what a step writes to the shared state is committed with its result, or not at all.

let warn: ReturnType<typeof vi.spyOn>;
beforeEach(() => {
  warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
});
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
/** Runs one step with this function to its end, and gives the engine. */
async function stepOf(
  w: World,
  fn: (state: State, attempt: number) => unknown,
  before?: (engine: Stepfast) => unknown,
) {
  const engine = w.engine((stepfast) =>
    stepfast.job('one', { retry: { maxAttempts: 3, initialDelay: '1s' } }, ({ step }) =>
      step.run('work', ({ state, attempt }) => fn(state, attempt)),
    ),
  );
  await before?.(engine);
  await engine.start('one', undefined, { id: 'r' });
  await w.clock.advance('1m');
  return engine;
}

everyWay('state within a step', (open) => {
  it('D8: an attempt sees what it has written: set, delete, increment, expiry', async () => {
    const w = open();
    const engine = await stepOf(
      w,
      async (state) => {
        const seen: unknown[] = [await state.get('old')];
        await state.set('a', { at: new Date(1) });
        seen.push(await state.get('a'));
        await state.delete('old');
        seen.push(await state.get('old'));
        void state.increment('n', 2);
        void state.increment('n', 3);
        seen.push(await state.get('n'));
        await state.set('soon', 1, { ttl: '1h' });
        await state.set('over', 1, { expiresAt: w.clock.now() });
        seen.push(await state.get('soon'), await state.get('over'));
        return seen;
      },
      (before) => before.state.set('old', 'old'),
    );
    expect((await run(engine)).result).toEqual(['old', { at: new Date(1) }, undefined, 5, 1, undefined]);
    const { state } = engine;
    expect([await state.get('a'), await state.get('old'), await state.get('n')]).toEqual([
      { at: new Date(1) },
      undefined,
      5,
    ]);
    await w.clock.advance('1h');
    expect(await state.get('soon')).toBeUndefined();
  });

  it('D8: nobody else sees it before the result is committed, in the same commit', async () => {
    const w = open();
    let finish = (): void => undefined;
    const engine = w.engine((stepfast) =>
      stepfast.job('one', ({ step }) =>
        step.run('work', async ({ state }) => {
          await state.set('a', 1);
          void state.increment('n');
          w.log.push('written');
          await new Promise<void>((resolve) => {
            finish = resolve;
          });
        }),
      ),
    );
    await engine.start('one', undefined, { id: 'r' });
    await expect.poll(() => w.log.length).toBe(1);
    expect([await engine.state.get('a'), await engine.state.get('n')]).toEqual([undefined, undefined]);
    const commits = w.commits();
    finish();
    await w.clock.idle();
    expect(w.commits() - commits).toBe(1);
    expect([await engine.state.get('a'), await engine.state.get('n')]).toEqual([1, 1]);
  });

  it('D8: what a failed attempt has written is dropped', async () => {
    const w = open();
    const engine = await stepOf(w, async (state, attempt) => {
      const seen = [await state.get('a'), await state.get('n')];
      await state.set('a', attempt);
      void state.increment('n', attempt);
      if (attempt < 3) throw new Error('no');
      return seen;
    });
    expect((await run(engine)).result).toEqual([undefined, undefined]);
    expect([await engine.state.get('a'), await engine.state.get('n')]).toEqual([3, 3]);
  });

  it('D8: increments of runs at once are all counted, whether the number is asked for or not', async () => {
    const w = open();
    const runs = 8;
    const engine = w.engine((stepfast) =>
      stepfast.job<number>('counts', ({ payload, step }) =>
        Promise.all([
          step.run('silent', ({ state }) => void state.increment('silent', payload)),
          step.run('asked', ({ state }) => state.increment('asked')),
          step.run('both', async ({ state }) => {
            void state.increment('both');
            return state.increment('both');
          }),
        ]),
      ),
    );
    const handles = await Promise.all(Array.from({ length: runs }, (_, at) => engine.start('counts', at)));
    const results = (await Promise.all(handles.map((handle) => handle.result()))) as [unknown, number, number][];
    const numbers = Array.from({ length: runs }, (_, at) => at + 1);
    expect(await engine.state.get('silent')).toBe((runs * (runs - 1)) / 2);
    expect(results.map(([, asked]) => asked).sort((a, b) => a - b)).toEqual(numbers); // each number once
    expect(await engine.state.get('both')).toBe(2 * runs);
  });

  it('D8: of one run, a delta and a number on one key in the same round are both counted', async () => {
    const w = open();
    let both = (): void => undefined;
    const together = new Promise<void>((resolve) => {
      both = resolve;
    });
    const engine = w.engine((stepfast) =>
      stepfast.job('two', ({ step }) =>
        Promise.all([
          step.run('silent', async ({ state }) => {
            w.log.push('silent');
            await together;
            void state.increment('n', 10);
          }),
          step.run('asked', async ({ state }) => {
            w.log.push('asked');
            await together;
            return state.increment('n');
          }),
          step.run('again', async ({ state }) => {
            w.log.push('again');
            await together;
            return state.increment('n');
          }),
        ]),
      ),
    );
    await engine.start('two', undefined, { id: 'r' });
    await expect.poll(() => w.log.length).toBe(3);
    both();
    await expect.poll(async () => (await run(engine)).status).toBe('completed');
    expect(await engine.state.get('n')).toBe(12);
  });

  it('D8: a number that was given is journaled: what fails or dies after it does not count again', async () => {
    const w = open();
    let isStuck = true;
    const define: Define = (stepfast) =>
      stepfast.job('ticket', { retry: { maxAttempts: 3, initialDelay: '1s' } }, ({ step }) =>
        step.run('work', async ({ state, attempt }) => {
          const numbers = [await state.increment('n'), await state.increment('n', 5), await state.increment('other')];
          w.log.push(`${attempt}: ${numbers}`);
          if (isStuck) await new Promise(() => undefined);
          if (attempt === 2) throw new Error('no');
          return numbers;
        }),
      );
    const before = w.engine(define);
    await before.state.set('n', 100);
    await before.start('ticket', undefined, { id: 'r' });
    await expect.poll(() => w.log.length).toBe(1);
    expect([await before.state.get('n'), await before.state.get('other')]).toEqual([106, 1]); // at once
    isStuck = false;
    const after = await reload(w, before, define);
    await w.clock.advance('1m');
    expect((await run(after)).result).toEqual([101, 106, 1]);
    expect([await after.state.get('n'), await after.state.get('other')]).toEqual([106, 1]);
    expect(w.log.map((line) => line.slice(3))).toEqual(['101,106,1', '101,106,1', '101,106,1']);
  });

  it('D8: an attempt that asks for another number than the one before gets its own', async () => {
    const w = open();
    const engine = await stepOf(w, async (state, attempt) => {
      const number = await state.increment(attempt === 1 ? 'a' : 'b', attempt);
      if (attempt === 1) throw new Error('no');
      return number;
    });
    expect((await run(engine)).result).toBe(2);
    expect([await engine.state.get('a'), await engine.state.get('b')]).toEqual([1, 2]);
  });

  it('D8: a number on top of what the attempt itself has set is the sum, and is kept with the result alone', async () => {
    const w = open();
    const engine = await stepOf(
      w,
      async (state, attempt) => {
        await state.set('n', 5);
        const numbers = [await state.increment('n'), await state.increment('n', 2)];
        await state.delete('m');
        numbers.push(await state.increment('m'));
        if (attempt < 3) throw new Error('no');
        return [...numbers, await state.get('n'), await state.get('m')];
      },
      (before) => before.state.set('m', 40),
    );
    expect((await run(engine)).result).toEqual([6, 8, 1, 8, 1]);
    expect([await engine.state.get('n'), await engine.state.get('m')]).toEqual([8, 1]);
  });

  it('D8: a number does not count in what the attempt has added before unasked; in the end each is counted once', async () => {
    const w = open();
    const engine = await stepOf(w, async (state, attempt) => {
      for (let row = 0; row < attempt; row++) void state.increment('n'); // an attempt that fails adds nothing
      const number = await state.increment('n', 10);
      const seen = await state.get('n');
      if (attempt < 3) throw new Error('no');
      return [number, seen];
    });
    expect((await run(engine)).result).toEqual([10, 13]);
    expect(await engine.state.get('n')).toBe(13);
  });

  it.each([
    ['its number asked for', async (state: State) => void (await state.increment('text'))],
    ['its number not asked for', async (state: State) => void state.increment('text')],
    [
      'on top of what it has set',
      async (state: State) => {
        await state.set('mine', 'text');
        await state.increment('mine');
      },
    ],
  ])('D8: an increment of something else (%s) fails the step with NOT_A_NUMBER, and nothing is written', async (_, fn) => {
    const w = open();
    const engine = await stepOf(
      w,
      async (state) => {
        await state.set('beside', 1);
        return fn(state);
      },
      (before) => before.state.set('text', 'text'),
    );
    const { status, attempts, error } = await run(engine);
    expect([status, error?.code]).toEqual(['failed', 'STEP_FAILED']);
    expect(new Set(attempts.map((each) => each.error.code))).toEqual(new Set(['NOT_A_NUMBER']));
    expect([await engine.state.get('text'), await engine.state.get('beside'), await engine.state.get('mine')]).toEqual([
      'text',
      undefined,
      undefined,
    ]);
  });

  it('D8: deltas and numbers are exact, whichever commit the app dies at', async () => {
    await crashEverywhere(open, {
      define: (stepfast) =>
        stepfast.job('exact', async ({ step }) => {
          await step.run('silent', ({ state }) => void state.increment('silent'));
          const number = await step.run('asked', ({ state }) => state.increment('asked'));
          await Promise.all([
            step.run('a', ({ state }) => void state.increment('both')),
            step.run('b', ({ state }) => state.increment('both')),
          ]);
          return number;
        }),
      async play(engine, w) {
        await engine.start('exact', undefined, { id: 'r' });
        await w.clock.idle();
      },
      async check(engine, _, where) {
        const { state } = engine;
        expect((await run(engine)).result, where).toBe(1);
        const values = [await state.get('silent'), await state.get('asked'), await state.get('both')];
        expect(values, where).toEqual([1, 1, 2]);
      },
    });
  });

  it('D8, B: keys and numbers are checked at the call, as outside', async () => {
    const w = open();
    const engine = await stepOf(w, async (state) => {
      const code = (work: Promise<unknown>) =>
        work.then(
          () => 'none',
          (error: { code: string }) => error.code,
        );
      return [
        await code(state.set('', 1)),
        await code(state.set('stepfast:x', 1)),
        await code(state.increment('n', Number.NaN)),
        await code(state.set('f', () => 1)),
      ];
    });
    expect((await run(engine)).result).toEqual(['INVALID_KEY', 'INVALID_KEY', 'INVALID_OPTION', 'NOT_SERIALIZABLE']);
  });

  it('D8: a lock that a step takes is its own again when it is repeated; others do not get it', async () => {
    const w = open();
    const engine = await stepOf(
      w,
      async (state, attempt) => {
        const lock = await state.lock('mail', { ttl: '1h' });
        w.log.push(`${lock ? 'held' : 'refused'} ${await engineOf().state.lock('mail', { ttl: '1h' })}`);
        if (attempt === 1) throw new Error('no');
        await lock!.release();
      },
      (before) => {
        engineOf = () => before;
      },
    );
    expect((await run(engine)).status).toBe('completed');
    expect(w.log).toEqual(['held undefined', 'held undefined']);
    expect(await engine.state.lock('mail', { ttl: '1h' })).toBeDefined();
  });

  it('D8: a lock excludes those who run at once in one step, and is free again once it is given back or over', async () => {
    const w = open();
    let inside = 0;
    let most = 0;
    const work = async (state: State) => {
      const lock = await state.lock('account', { ttl: '1m' });
      if (!lock) return 'busy';
      most = Math.max(most, ++inside);
      await state.get('nothing');
      inside--;
      await lock.release();
      return lock.token;
    };
    const engine = await stepOf(w, async (state) => {
      const first = await Promise.all([work(state), work(state), work(state)]);
      const again = [await work(state), await work(state)];
      const kept = await state.lock('account', { ttl: '1m' });
      const refused = [await state.lock('account', { ttl: '1m' }), await state.lock('other', { ttl: '1m' })];
      await kept!.release();
      const short = await state.lock('account', { ttl: 1 });
      w.clock.jump(w.clock.now() + 10);
      const after = await state.lock('account', { ttl: '1m' });
      await short!.release(); // over: it takes nothing from the one that came after
      const last = await state.lock('account', { ttl: '1m' });
      return [first, again, kept!.token, refused.map((one) => one?.token), after!.token, last === undefined];
    });
    expect(await run(engine)).toMatchObject({
      status: 'completed',
      result: [[1, 'busy', 'busy'], [2, 3], 4, [undefined, 1], 6, true],
    });
    expect(most).toBe(1);
  });

  it('D8: an increment that was refused to who asked is not refused once more with the result', async () => {
    const w = open();
    const engine = await stepOf(w, async (state) => {
      await state.set('text', 'text');
      const refused = await state.increment('text').then(
        () => 'incremented',
        (error) => error.code,
      );
      return [refused, await state.get('text')];
    });
    expect(await run(engine)).toMatchObject({ status: 'completed', result: ['NOT_A_NUMBER', 'text'] });
    expect(await engine.state.get('text')).toBe('text');
  });
});
let engineOf: () => Stepfast = () => {
  throw new Error('not set yet');
};

everyWay('state of the handler', (open) => {
  it('D8: outside of a step it is live: reads are fresh, writes are there at once', async () => {
    const w = open();
    const define: Define = (stepfast) =>
      stepfast.job('live', async ({ step, state }) => {
        await state.set('here', 'set');
        await step.waitForEvent('go');
        return state.get('now');
      });
    const before = w.engine(define);
    await before.start('live', undefined, { id: 'r' });
    await expect.poll(() => before.state.get('here')).toBe('set');
    await expect.poll(async () => (await run(before)).status).toBe('waiting');
    await before.state.set('now', 1);
    const after = await reload(w, before, define);
    await after.state.set('now', 2);
    await after.dispatch('go');
    await expect.poll(async () => (await run(after)).result).toBe(2);
    expect(warn.mock.calls.map((call: unknown[]) => String(call[0])).join()).not.toContain('increments');
  });

  it('D8: an increment there works, and warns in dev that it counts again', async () => {
    const w = open();
    const engine = w.engine((stepfast) => stepfast.job('live', ({ state }) => state.increment('n')));
    await engine.start('live', undefined, { id: 'r' });
    await expect.poll(async () => (await run(engine)).status).toBe('completed');
    expect(await engine.state.get('n')).toBeGreaterThanOrEqual(1);
    expect(warn.mock.calls.map((call: unknown[]) => String(call[0]))).toContainEqual(
      expect.stringContaining('increments outside of a step'),
    );
  });

  it('D8: the handler sees what its steps have written, as soon as it has their results', async () => {
    const w = open();
    const engine = w.engine((stepfast) =>
      stepfast.job('one', async ({ step, state }) => {
        const seen: unknown[] = [];
        for (const round of [1, 2]) {
          await step.run('work', async (inner) => {
            await inner.state.set('value', round);
            void inner.state.increment('count', 10);
          });
          seen.push(await state.get('value'), await state.get('count'));
        }
        await state.set('value', 'last');
        return [...seen, await state.get('value')];
      }),
    );
    const { id } = await engine.start('one');
    await w.clock.idle();
    expect(await run(engine, id)).toMatchObject({ status: 'completed' });
    // Each replay reads anew, as it is then: only the last read of each pass is sure.
    const { result } = (await run(engine, id)) as { result: unknown[] };
    expect([result.slice(2), await engine.state.get('count')]).toEqual([[2, 20, 'last'], 20]);
  });

  it('D8: a write of the handler does not outlive an outcome before it that was not stored', async () => {
    const w = open();
    const store = w.store();
    const { commit } = store;
    let isBroken = false;
    const written: string[] = [];
    store.commit = async (batch) => {
      if (batch.run?.append.some(({ kind }) => kind === 'step-completed') && !isBroken) {
        isBroken = true;
        throw new Error('the disk is gone');
      }
      for (const { key } of batch.state ?? []) written.push(isBroken ? key : `early ${key}`);
      return commit.call(store, batch);
    };
    const engine = w.engine(
      (stepfast) =>
        stepfast.job('one', async ({ step, state }) => {
          await step.run('work', () => 1);
          await state.set('after', 1);
        }),
      { store },
    );
    const { id } = await engine.start('one');
    await expect.poll(() => engine.runs.get(id), { timeout: 5_000 }).toMatchObject({ status: 'completed' });
    expect([isBroken, new Set(written)]).toEqual([true, new Set(['after'])]);
  });
});
