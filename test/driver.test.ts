import { describe, expect, it } from 'vitest';
import { type Stepfast, StepfastError } from '../src/index.js';
import type { Batch } from '../src/store/batch.js';
import { away, codeOf, gate, type HandStore, hands, kindsOf, never, settle, soon, type World } from './hand-kit.js';

// Pins: one run in one engine (spec D1 to D5 of src/run/driver.ts): when it is called though nothing tells it to be, what it
// keeps from others while it rests, and what becomes of what it does when it is let go.

const statuses = (h: World, ...ids: string[]) => ids.map((id) => h.row(id)!.status);
/** The answer of the first commit that fits is held back; what comes of it is said by `answer`. */
function holds(store: HandStore, fits: (batch: Batch) => boolean) {
  const answered = gate<Error | undefined>();
  const held = { isHeld: false, answer: (error?: Error) => answered.open(error) };
  store.onCommit = async (batch, pass) => {
    if (held.isHeld || !fits(batch)) return pass();
    held.isHeld = true;
    const outcome = await pass();
    const error = await answered.promise;
    if (error) throw error;
    return outcome;
  };
  return held;
}
const has = (kind: string) => (batch: Batch) => kindsOf(batch).includes(kind);

describe('what comes while a commit is under way', () => {
  it.each([
    1_000, 1_001,
  ])('R7: an instant that has come is gone on with, and no timer is waited for (after %i ms)', async (ms) => {
    const h = hands();
    const engine = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        await step.sleep('s', 1_000);
        return 'over';
      }),
    );
    const held = holds(engine.own, has('sleep-set'));
    const run = await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect(held.isHeld).toBe(true);
    h.jump(ms);
    held.answer();
    expect(await soon(run.result())).toBe('over');
    await soon(engine.close());
  });

  it('D8: a number that is asked for is given', async () => {
    const h = hands();
    const inside = gate();
    const engine = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        const counts = step.run('counts', async ({ state }) => {
          await inside.promise;
          return state.increment('n');
        });
        await step.run('a', () => 1);
        await step.sleep('s', '1h');
        return counts;
      }),
    );
    const held = holds(engine.own, has('sleep-set'));
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    inside.open();
    await settle();
    held.answer();
    await settle();
    expect([await engine.state.get('n'), h.kinds('r').slice(-2)]).toEqual([1, ['state-incremented', 'step-completed']]);
    await soon(engine.close());
  });

  it('F8: a network that is back is not missed', async () => {
    const h = hands();
    const log: string[] = [];
    const engine = h.engine((stepfast) =>
      stepfast.job('job', ({ step }) => step.run('a', () => void log.push('a'), { when: 'online' })),
    );
    h.isOnline = false;
    const held = holds(engine.own, has('claimed'));
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect(held.isHeld).toBe(true);
    h.isOnline = true;
    h.wake();
    held.answer();
    await settle();
    expect([log, statuses(h, 'r')]).toEqual([['a'], ['completed']]);
    await soon(engine.close());
  });
});

describe('a run that rests', () => {
  it('V3: looks that find it again read the file anew that it has said, and commit nothing for it', async () => {
    const h = hands();
    const engine = h.engine((stepfast) =>
      stepfast.job('job', ({ step }) =>
        step.run('a', ({ progress }) => {
          progress(new Blob(['half']));
          return never();
        }),
      ),
    );
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    const { length } = engine.own.batches;
    engine.own.onDue = async (pass) => {
      const found = { row: structuredClone(h.row('r')!), offers: [], interrupted: false };
      return { ...(await pass()), runs: [found] };
    };
    const { looks } = engine.own;
    for (let times = 0; times < 3; times++) {
      h.wake();
      await settle();
    }
    expect([engine.own.looks > looks, engine.own.batches.length - length]).toEqual([true, 0]);
    engine.own.onDue = undefined;
    await soon(engine.close());
  });

  it('F5: leaves the context to a suspect: what it had in flight is over', async () => {
    const h = hands();
    const log: string[] = [];
    const inside = gate();
    const define = (dies: boolean) => (stepfast: Stepfast) => {
      stepfast.job('job', ({ step }) => step.run('a', () => (dies ? never() : void log.push('suspect'))));
      stepfast.job('beside', async ({ step }) => {
        await step.run('b', () => inside.promise);
        await step.waitForEvent('go');
      });
    };
    for (let lives = 0; lives < 2; lives++) {
      const engine = h.engine(define(true));
      if (!lives) await engine.start('job', undefined, { id: 'r' });
      else await engine.ready();
      await settle();
      engine.own.abandon!();
    }
    const engine = h.engine(define(false));
    engine.own.onDue = async (pass) => {
      const page = await pass();
      return { ...page, runs: page.runs.filter(({ row }) => row.runId !== 'r') };
    };
    await engine.start('beside', undefined, { id: 'b' });
    await settle();
    engine.own.onDue = undefined;
    h.wake();
    await settle();
    expect([log, statuses(h, 'b')]).toEqual([[], ['running']]);
    inside.open();
    await settle();
    expect([log, statuses(h, 'b', 'r')]).toEqual([['suspect'], ['waiting', 'completed']]);
    await soon(engine.close());
  });

  it('R7: is called for by a timer of its engine, to the millisecond, where it awaits something else and no look finds it', async () => {
    const h = hands();
    const log: string[] = [];
    const engine = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        void step.sleep('s', '1m').then(() => log.push('over'));
        await step.run('a', () => 1);
        await never();
      }),
    );
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect([h.row('r')!.unsettled, h.wanted()]).toEqual([true, [60_000]]);
    await h.advance(59_999);
    expect(log).toEqual([]);
    await h.advance(1);
    expect(log).toEqual(['over']);
    await soon(engine.close());
  });

  it('F9: has no signal aborted when it ends by itself', async () => {
    const h = hands();
    let signal: AbortSignal | undefined;
    const engine = h.engine((stepfast) =>
      stepfast.job('job', (context) => {
        signal = context.signal as AbortSignal;
        return context.step.run('a', () => 1);
      }),
    );
    const run = await engine.start('job');
    await soon(run.result());
    await settle();
    expect(signal!.aborted).toBe(false);
    await soon(engine.close());
  });

  it('Q4: calls for nothing while others go on with it', async () => {
    const h = hands();
    const log: string[] = [];
    const define = (name: string) => (stepfast: Stepfast) =>
      stepfast.job('job', async ({ step }) => {
        await step.sleep('s', '1h');
        await step.run('a', () => {
          log.push(name);
          return never();
        });
      });
    const first = h.engine(define('first'));
    await first.start('job', undefined, { id: 'r' });
    await settle();
    const second = h.engine(define('second'));
    await second.ready();
    await settle();
    h.lostHints();
    h.jump(3_600_000 + 10_000);
    await second.ready(); // it is found by who comes first
    await settle();
    expect(log).toEqual(['second']);
    await first.ready();
    await settle();
    expect(h.wanted().filter((ms) => ms <= 0)).toEqual([]);
    await h.advance(10_000);
    expect([log, new Set(first.own.outcomes)]).toEqual([['second'], new Set(['committed'])]);
    await soon(second.close());
    await soon(first.close());
  });
});

describe('a round that lasts', () => {
  it('Q4, F7: is not called for again and again: an undo, whatever is looked for meanwhile', async () => {
    const h = hands();
    const engine = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        await step.run('a', () => 1, { undo: never });
        await step.waitForEvent('go');
      }),
    );
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    await engine.runs.cancel('r');
    await settle();
    h.wake();
    await settle();
    expect([h.row('r')!.undoing, h.wanted()]).toEqual([true, []]);
    await soon(engine.close());
  });

  it('Q4, D5: nor is one whose store fails, though the clock was set back since', async () => {
    const h = hands();
    const engine = h.engine((stepfast) => stepfast.job('job', ({ step }) => step.run('a', () => 1)));
    engine.own.onCommit = async (batch, pass) => {
      if (has('step-completed')(batch)) throw away();
      return pass();
    };
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    h.jump(-600_000);
    h.wake();
    await settle();
    expect([statuses(h, 'r'), h.wanted()]).toEqual([['running'], []]);
    await soon(engine.close());
  });
});

describe('a run that is let go', () => {
  const counting = async () => {
    const h = hands();
    const heard: unknown[] = [];
    const signals: AbortSignal[] = [];
    const inside = gate();
    const engine = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        void step.run('counts', async ({ state, signal }) => {
          signals.push(signal as AbortSignal);
          await inside.promise;
          await state.increment('n').catch((error: unknown) => heard.push(error));
        });
        await step.run('a', () => 1);
        await step.sleep('s', '1h');
      }),
    );
    const held = holds(engine.own, has('sleep-set'));
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    inside.open();
    await settle();
    expect(held.isHeld).toBe(true);
    return { h, engine, heard, signals, held };
  };

  it('F9, D8: refuses numbers that its functions wait for, and says why', async () => {
    const { engine, heard, held } = await counting();
    await engine.runs.cancel('r');
    await settle();
    expect(heard).toEqual([codeOf('LEASE_LOST')]);
    held.answer();
    await soon(engine.close());
  });

  it('D5: has nobody to tell that its commit has failed since', async () => {
    const { h, engine, held } = await counting();
    await engine.runs.cancel('r');
    held.answer(away());
    await settle();
    expect([h.errors, h.patience.size]).toEqual([[], 0]);
    await soon(engine.close());
  });

  it('F5: by an engine that closes tells its functions so', async () => {
    const { engine, signals, held, heard } = await counting();
    const closing = engine.close();
    held.answer();
    await soon(closing);
    const closed = expect.objectContaining({ code: 'CLOSED', runId: 'r', job: 'job' });
    expect([signals.map(({ reason }) => reason), heard]).toEqual([[closed], [closed]]);
    expect(String(signals[0]!.reason)).toContain('The engine that drove run r is closing');
  });

  it('D5: by a store that was closed under it is let go without a word', async () => {
    const { h, engine, signals, held } = await counting();
    held.answer(new StepfastError('CLOSED', 'The store is closed.'));
    await settle();
    expect([h.errors, h.patience.size, signals[0]!.reason]).toEqual([[], 0, codeOf('CLOSED')]);
    await soon(engine.close());
  });

  it('D5: while its store fails is not asked for again', async () => {
    const { h, engine, held } = await counting();
    held.answer(away());
    await settle();
    expect(h.errors).toHaveLength(1);
    await engine.runs.cancel('r');
    await settle();
    let loads = 0;
    engine.own.onLoad = async () => void loads++;
    await h.impatient();
    expect([loads, statuses(h, 'r')]).toEqual([0, ['cancelled']]);
    await soon(engine.close());
  });

  it('F9: hands what its functions return late to who undoes them, though it hears of its end twice', async () => {
    const h = hands();
    const results: unknown[] = [];
    const inside = gate<string>();
    const engine = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        void step.run('slow', () => inside.promise, { undo: ({ result }) => void results.push(result) });
        await step.run('a', () => 1);
        await step.sleep('s', '1h');
      }),
    );
    const told = gate();
    const looked = gate();
    let isOut = false;
    engine.own.onCommit = async (batch, pass) => {
      if (!has('sleep-set')(batch)) return pass();
      await told.promise; // cancelled first: this one is refused
      return pass();
    };
    engine.own.onDue = async (pass) => {
      if (isOut) await looked.promise;
      return pass();
    };
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    isOut = true;
    await engine.runs.cancel('r');
    told.open();
    await settle();
    inside.open('late');
    looked.open();
    await settle();
    expect([results, engine.own.outcomes.includes('fenced')]).toEqual([['late'], true]);
    await soon(engine.close());
  });
});
