import { describe, expect, it } from 'vitest';
import { defineJob, FatalError, type Step, type Stepfast, StepfastError } from '../src/index.js';
import type { DueRun } from '../src/store/store.js';
import { codeOf, gate, hands, kindsOf, never, settle, soon, unfit } from './hand-kit.js';

// Pins: which run goes next and when an engine looks again (spec Q2, Q4), whose run it is that is found (O1, F5), and what
// becomes of runs whose code, parent or store is gone (F9, O6, S8).

const LIVENESS_MS = 3_000;
const away = () => new StepfastError('STORE_UNAVAILABLE', 'Away.');
type World = ReturnType<typeof hands>;
const statuses = (h: World, ...ids: string[]) => ids.map((id) => h.row(id)!.status);

describe('when an engine looks', () => {
  it('Q4: a run that only works is looked for at its start and its end; an engine without anything to do waits for nothing', async () => {
    const h = hands();
    const engine = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        await step.run('a', () => 1);
        await step.run('b', () => 2);
      }),
    );
    await engine.ready();
    await settle();
    const before = engine.own.looks;
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect([statuses(h, 'r'), engine.own.looks - before, h.wanted()]).toEqual([['completed'], 2, []]);
    await h.advance(60_000);
    expect(engine.own.looks - before).toBe(2);
    await soon(engine.close());
  });

  it('Q4: an instant to come is waited for, in thirty days too; a wait without a deadline, and retention, are not', async () => {
    const month = 30 * 86_400_000;
    const ways = [
      [({ step }: { step: Step }) => step.sleep('nap', '30 days'), month],
      [({ step }: { step: Step }) => step.waitForEvent('go', { timeout: '30 days' }), month],
      [({ step }: { step: Step }) => step.waitForEvent('go'), undefined],
      [({ step }: { step: Step }) => step.run('a', () => 1), undefined],
    ] as const;
    for (const [handler, lasts] of ways) {
      const h = hands();
      const engine = h.engine((stepfast) => stepfast.job('job', handler as never));
      await engine.start('job');
      await settle();
      expect([h.wanted(), h.timers.size > 0]).toEqual([lasts === undefined ? [] : [lasts], true]);
      await soon(engine.close());
    }
  });

  it('Q4: nothing is looked for where no job is registered', async () => {
    const h = hands();
    const engine = h.engine();
    await engine.ready();
    h.wake();
    await settle();
    expect(engine.own.looks).toBe(0);
    await soon(engine.close());
  });

  it('Q4: sleeps end when they are due, the earliest first, with one timer', async () => {
    const h = hands();
    const log: string[] = [];
    const engine = h.engine((stepfast) =>
      stepfast.job<number>('job', async ({ payload, run, step }) => {
        await step.sleep('s', payload);
        log.push(run.id);
      }),
    );
    for (const [id, ms] of [
      ['long', 5_000],
      ['short', 1_000],
      ['middle', 3_000],
    ] as const)
      await engine.start('job', ms, { id });
    await settle();
    expect(h.wanted()).toEqual([1_000]);
    await h.advance(999);
    expect(log).toEqual([]);
    await h.advance(1);
    expect([log, h.wanted()]).toEqual([['short'], [2_000]]);
    await h.advance(2_000);
    await h.advance(2_000);
    expect([log, h.wanted()]).toEqual([['short', 'middle', 'long'], []]);
    await soon(engine.close());
  });

  it('Q4: one that others drive is looked after every few seconds; it is taken up when its owner is dead', async () => {
    const h = hands();
    const log: string[] = [];
    const define = (name: string) => (stepfast: Stepfast) =>
      stepfast.job('job', ({ step }) =>
        step.run('a', () => {
          log.push(name);
          return name === 'first' ? never() : name;
        }),
      );
    const first = h.engine(define('first'));
    await first.start('job', undefined, { id: 'r' });
    await settle();
    const second = h.engine(define('second'));
    await second.ready();
    await settle();
    expect([log, h.wanted()]).toEqual([['first'], [LIVENESS_MS]]);
    await h.advance(LIVENESS_MS);
    expect([log, h.wanted()]).toEqual([['first'], [LIVENESS_MS]]);
    first.own.abandon!();
    await h.advance(LIVENESS_MS);
    expect([log, statuses(h, 'r')]).toEqual([['first', 'second'], ['completed']]);
    await soon(second.close());
  });

  it.each([
    ['whose job is not registered', 1, undefined],
    ['of a later version', 2, 1],
  ])('R5, Q2: a run %s gives back the slot that a dead owner holds, and goes on where its code is', async (_, version, other) => {
    const h = hands();
    const queue = { name: 'q', concurrency: 1 };
    const define = (inside: () => unknown, at?: number) => (stepfast: Stepfast) => {
      if (at) stepfast.job('job', { queue, version: at }, ({ step }) => step.run('a', inside));
      stepfast.job('other', { queue }, () => 'done');
    };
    const first = h.engine(define(never, version));
    await first.start('job', undefined, { id: 'r' });
    await settle();
    first.own.abandon!();
    const second = h.engine(define(never, other));
    await second.start('other', undefined, { id: 'o' });
    await settle();
    expect(statuses(h, 'r', 'o')).toEqual(['queued', 'completed']);
    const { slot, owner, version: kept } = h.row('r')!;
    expect([slot, owner, kept]).toEqual([undefined, undefined, version]);
    expect(await second.runs.get('r')).toMatchObject({ status: 'blocked', error: { code: 'UNKNOWN_JOB' } });
    expect(h.kinds('r').slice(-2)).toEqual(['claimed', 'released']);
    await soon(second.close());
    const attempts: number[] = [];
    const third = h.engine((stepfast) => {
      const enter = ({ step }: { step: Step }) => step.run('a', ({ attempt }) => void attempts.push(attempt));
      stepfast.job('job', { queue, version }, enter);
    });
    await third.ready();
    await settle();
    expect([statuses(h, 'r'), attempts]).toEqual([['completed'], [2]]); // the interruption has counted
    await soon(third.close());
  });

  it('F5: crashes count also where a context without the job gives the slot back after each of them', async () => {
    const h = hands();
    let entered = 0;
    const define = (stepfast: Stepfast) =>
      stepfast.job('job', { maxInterruptions: 3 }, ({ step }) =>
        step.run('a', () => {
          entered++;
          return never();
        }),
      );
    for (let life = 0; life < 5; life++) {
      const engine = h.engine(define);
      if (!life) await engine.start('job', undefined, { id: 'r' });
      else await engine.ready();
      await settle();
      engine.own.abandon!();
      const stranger = h.engine((stepfast) => stepfast.job('other', () => 1));
      await stranger.ready();
      await settle();
      await soon(stranger.close());
    }
    expect([entered, statuses(h, 'r')]).toEqual([3, ['failed']]);
    expect(await h.engine().runs.get('r')).toMatchObject({ error: { code: 'CRASH_LOOP' } });
  });

  it('R5, Q4: slots that can not be given back now are tried again after a while, and their runs keep no others from the page', async () => {
    const h = hands();
    const dead = h.engine((stepfast) =>
      stepfast.job('old', { queue: { name: 'o', concurrency: 99 } }, ({ step }) => step.run('a', never)),
    );
    for (let index = 0; index < 40; index++) await dead.start('old', undefined, { id: `old-${index}` });
    await settle();
    dead.own.abandon!();
    const engine = h.engine((stepfast) => stepfast.job('job', ({ step }) => step.run('a', never)));
    engine.own.onCommit = async (batch, pass) => {
      if (batch.run?.runId.startsWith('old')) throw away();
      return pass();
    };
    for (const id of ['one', 'two']) await engine.start('job', undefined, { id });
    await settle(50);
    expect(statuses(h, 'one', 'two')).toEqual(['running', 'running']);
    const tried = () => engine.own.batches.filter(({ run }) => run?.runId.startsWith('old')).length;
    expect(tried()).toBe(40);
    await h.impatient();
    await settle(50);
    expect(tried()).toBe(80);
    engine.own.onCommit = undefined;
    await h.impatient();
    await settle(50);
    expect([tried(), statuses(h, 'old-0', 'old-39')]).toEqual([120, ['queued', 'queued']]);
    await soon(engine.close());
  });

  it('R5: a run that is sealed is left as it is by an engine without the plug-in', async () => {
    const h = hands();
    const engine = h.engine((stepfast) => stepfast.job('job', () => 'done'));
    const sealed = Array.from({ length: 40 }, (_, index) => {
      const row = { runId: `s${index}`, job: 'stepfast:sealed:x', version: 1, slot: 'q', owner: 'dead', queue: 'q' };
      return { row, offers: [], interrupted: true } as unknown as DueRun;
    });
    engine.own.onDue = async (pass, { skip, limit }) => {
      const page = await pass();
      const others = sealed.filter(({ row }) => !skip?.has(row.runId)); // they stand before all others
      return { ...page, runs: [...others, ...page.runs].slice(0, limit) };
    };
    await engine.start('job', undefined, { id: 'r' });
    await settle(20);
    expect(statuses(h, 'r')).toEqual(['completed']);
    expect(engine.own.batches.flatMap(({ run }) => run?.runId ?? [])).not.toContain('s0');
    expect(engine.own.looks).toBeLessThan(9);
    await soon(engine.close());
  });

  it('O3: where another process has the store, it is tried again every few seconds', async () => {
    const h = hands();
    const engine = h.engine((stepfast) => stepfast.job('job', () => 'done'));
    let isLocked = true;
    engine.own.onOpen = async (mode) => {
      if (isLocked && mode === 'drive') throw new StepfastError('STORE_LOCKED', 'Another has it.');
    };
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect([statuses(h, 'r'), engine.own.looks, h.wanted(), h.errors]).toEqual([['queued'], 0, [LIVENESS_MS], []]);
    isLocked = false;
    await h.advance(LIVENESS_MS);
    expect(statuses(h, 'r')).toEqual(['completed']);
    await soon(engine.close());
  });

  it('D5: a store that fails when it is asked is told, and asked again after a while; one that is closed is not', async () => {
    const h = hands();
    const engine = h.engine((stepfast) => stepfast.job('job', () => 'done'));
    let error: StepfastError | undefined = away();
    engine.own.onDue = async (pass) => {
      if (error) throw error;
      return pass();
    };
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect([statuses(h, 'r'), h.errors, [...h.patience.values()].map(({ ms }) => ms)]).toEqual([
      ...[['queued'], [codeOf('STORE_UNAVAILABLE')], [LIVENESS_MS]],
    ]);
    error = new StepfastError('CLOSED', 'Closed.');
    await h.impatient();
    expect([h.errors.length, h.patience.size]).toEqual([1, 0]);
    error = undefined;
    h.wake();
    await settle();
    expect(statuses(h, 'r')).toEqual(['completed']);
    await soon(engine.close());
  });

  it('D5, D3: a run that can not be read is told, keeps no other from going on, and is tried again', async () => {
    const h = hands();
    const engine = h.engine((stepfast) => stepfast.job('job', () => 'done'));
    let isBad = true;
    engine.own.onLoad = async (runId) => {
      if (isBad && runId === 'bad') throw away();
    };
    for (const id of ['bad', 'fine']) await engine.start('job', undefined, { id });
    await settle();
    expect(statuses(h, 'bad', 'fine')).toEqual(['queued', 'completed']);
    expect(new Set(h.errors.map((error) => (error as StepfastError).code))).toEqual(new Set(['STORE_UNAVAILABLE']));
    isBad = false;
    await h.impatient(LIVENESS_MS);
    expect(statuses(h, 'bad')).toEqual(['completed']);
    await soon(engine.close());
  });

  it('Q4: what is asked for while a look is under way is looked for once more, and once', async () => {
    const h = hands();
    const engine = h.engine((stepfast) => stepfast.job('job', () => 'done'));
    await engine.ready();
    await settle();
    const page = gate();
    engine.own.onDue = async (pass) => {
      const found = await pass();
      await page.promise;
      return found;
    };
    h.wake();
    await settle();
    const before = engine.own.looks;
    for (let times = 0; times < 3; times++) h.wake();
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect(engine.own.looks).toBe(before);
    page.open();
    await settle();
    expect([statuses(h, 'r'), engine.own.looks - before]).toEqual([['completed'], 2]); // and at its end
    await soon(engine.close());
  });

  it('Q4: an engine that closes while it looks takes nothing up', async () => {
    for (const where of ['due', 'load', 'failed'] as const) {
      const h = hands();
      const log: string[] = [];
      const engine = h.engine((stepfast) => stepfast.job('job', () => void log.push('entered')));
      await engine.ready();
      await settle();
      const held = gate();
      engine.own.onDue = async (pass) => {
        const page = await pass();
        if (where !== 'load') await held.promise;
        if (where === 'failed') throw away();
        return page;
      };
      engine.own.onLoad = async () => {
        if (where === 'load') await held.promise;
      };
      await engine.start('job', undefined, { id: 'r' });
      await settle();
      const closing = engine.close();
      held.open();
      await closing;
      await settle();
      expect([log, statuses(h, 'r'), h.errors, h.wanted(), h.patience.size]).toEqual([[], ['queued'], [], [], 0]);
    }
  });

  it('Q2: of more than a page all are taken up, oldest first', async () => {
    const h = hands();
    const log: string[] = [];
    const engine = h.engine((stepfast) =>
      stepfast.job('job', { queue: { name: 'q', concurrency: 100 } }, ({ run, step }) =>
        step.run('a', () => void log.push(run.id)),
      ),
    );
    const other = h.engine();
    const ids = Array.from({ length: 70 }, (_, nth) => `r${nth}`);
    for (const id of ids) await other.start('job', undefined, { id, queue: 'q', allowUnregistered: true });
    await engine.ready();
    await settle(200);
    expect(log).toEqual(ids);
    expect(h.wanted()).toEqual([]);
    await soon(engine.close());
  });
});

describe('queues', () => {
  const queue = (concurrency: number) => ({ name: 'q', concurrency });
  const working = (h: World, concurrency: number, more: object = {}) => {
    const ends = new Map<string, () => void>();
    const log: string[] = [];
    const define = (stepfast: Stepfast) =>
      stepfast.job('job', { queue: { ...queue(concurrency), ...more } }, ({ run, step }) =>
        step.run('a', () => {
          log.push(run.id);
          return new Promise<void>((resolve) => ends.set(run.id, resolve));
        }),
      );
    return { engine: h.engine(define), define, ends, log };
  };

  it('Q2: so many go at once; a slot that becomes free is taken at once, by the oldest', async () => {
    const h = hands();
    const { engine, ends, log } = working(h, 2);
    for (const id of ['a', 'b', 'c', 'd']) await engine.start('job', undefined, { id });
    await settle();
    expect([log, statuses(h, 'c', 'd')]).toEqual([
      ['a', 'b'],
      ['queued', 'queued'],
    ]);
    const looks = engine.own.looks;
    ends.get('b')!();
    await settle();
    expect([log, statuses(h, 'b', 'd')]).toEqual([
      ['a', 'b', 'c'],
      ['completed', 'queued'],
    ]);
    ends.get('a')!();
    ends.get('c')!();
    await settle();
    expect(log).toEqual(['a', 'b', 'c', 'd']);
    expect(engine.own.looks - looks).toBeLessThan(8);
    expect(h.wanted()).toEqual([]);
    await soon(engine.close());
  });

  it('Q2: another queue is no concern of it', async () => {
    const h = hands();
    const { engine, log } = working(h, 1);
    engine.job('other', ({ step }) => step.run('b', () => void log.push('other')));
    for (const id of ['a', 'b']) await engine.start('job', undefined, { id });
    await engine.start('other');
    await settle();
    expect(log).toEqual(['a', 'other']);
    await soon(engine.close());
  });

  it('Q2: what waits in a full queue does not hide the others from the next look', async () => {
    const h = hands();
    const { engine, log } = working(h, 1);
    engine.job('other', ({ step }) => step.run('b', () => void log.push('other')));
    const other = h.engine();
    for (let nth = 0; nth < 40; nth++)
      await other.start('job', undefined, { id: `r${nth}`, queue: 'q', allowUnregistered: true });
    await other.start('other', undefined, { allowUnregistered: true });
    await engine.ready();
    await settle(150);
    h.wake();
    await settle();
    expect(log).toEqual(['r0', 'other']);
    await soon(engine.close());
  });

  it('Q2: where other contexts hold the slots, it is asked again in a while, be there hints or not', async () => {
    const h = hands();
    const { engine, ends, log } = working(h, 1);
    await engine.start('job', undefined, { id: 'a' });
    await settle();
    const other = h.engine((stepfast) =>
      stepfast.job('other', { queue: queue(1) }, ({ run, step }) => step.run('b', () => void log.push(run.id))),
    );
    await other.start('other', undefined, { id: 'b' });
    await settle();
    expect([log, statuses(h, 'b'), h.wanted()]).toEqual([['a'], ['queued'], [LIVENESS_MS]]);
    expect(other.own.outcomes.filter((kind) => kind === 'no-slot')).toHaveLength(1);
    h.lostHints();
    ends.get('a')!();
    await settle();
    expect([log, statuses(h, 'a')]).toEqual([['a'], ['completed']]);
    await h.advance(LIVENESS_MS);
    expect([log, h.wanted()]).toEqual([['a', 'b'], []]);
    await soon(engine.close());
    await soon(other.close());
  });

  it('Q2: a hint that a slot may be free lets one run find out, and not all of them', async () => {
    const h = hands();
    const { engine, define, ends, log } = working(h, 1);
    await engine.start('job', undefined, { id: 'a' });
    await settle();
    const other = h.engine(define);
    for (const id of ['b', 'c', 'd']) await other.start('job', undefined, { id });
    await settle();
    const tries = other.own.outcomes.filter((kind) => kind === 'no-slot').length;
    other.own.tell('elsewhere', false);
    await settle();
    expect(other.own.outcomes.filter((kind) => kind === 'no-slot').length - tries).toBe(1);
    ends.get('a')!();
    await settle();
    expect([log.length, log[1] !== 'a']).toEqual([2, true]);
    await soon(engine.close());
    await soon(other.close());
  });

  it('Q2: a rate that is used up is waited for until it has room, and for no longer', async () => {
    const h = hands();
    const { engine, ends, log } = working(h, 5, { rateLimit: { limit: 1, per: '10s' } });
    for (const id of ['a', 'b', 'c']) await engine.start('job', undefined, { id });
    await settle();
    expect([log, h.wanted()]).toEqual([['a'], [10_000]]);
    ends.get('a')!();
    await settle();
    expect(log).toEqual(['a']);
    await h.advance(9_999);
    expect(log).toEqual(['a']);
    await h.advance(1);
    expect([log, h.wanted()]).toEqual([['a', 'b'], [10_000]]);
    await h.advance(10_000);
    expect(log).toEqual(['a', 'b', 'c']);
    await soon(engine.close());
  });

  it('Q2: a run that pauses gives its slot to the next, and waits for one again', async () => {
    const h = hands();
    const log: string[] = [];
    const open = gate();
    const engine = h.engine((stepfast) =>
      stepfast.job('job', { queue: queue(1) }, async ({ run, step }) => {
        await step.run('a', () => void log.push(`${run.id} a`));
        await step.sleep('s', 1_000);
        await step.run('b', async () => {
          log.push(`${run.id} b`);
          await open.promise;
        });
      }),
    );
    for (const id of ['x', 'y']) await engine.start('job', undefined, { id });
    await settle();
    expect(log).toEqual(['x a', 'y a']);
    await h.advance(1_000);
    expect(log).toEqual(['x a', 'y a', 'x b']);
    open.open();
    await settle();
    expect([log, statuses(h, 'x', 'y')]).toEqual([
      ['x a', 'y a', 'x b', 'y b'],
      ['completed', 'completed'],
    ]);
    await soon(engine.close());
  });
});

describe('whose run it is', () => {
  const plain = (log: string[], name: string) => (stepfast: Stepfast) =>
    stepfast.job('job', ({ step }) => step.run('a', () => void log.push(name)));

  it('O1: one that another has claimed between the look and the reading is left to it', async () => {
    const h = hands();
    const log: string[] = [];
    const engine = h.engine(plain(log, 'slow'));
    const other = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        await step.run('a', () => void log.push('fast'));
        await step.waitForEvent('go');
      }),
    );
    let isIn = false;
    engine.own.onLoad = async () => {
      if (isIn) return;
      isIn = true;
      await other.ready();
      await settle();
    };
    await engine.start('job', undefined, { id: 'r' });
    await settle(150);
    expect([log, h.row('r')!.fence]).toEqual([['fast'], 1]);
    expect(engine.own.batches.filter(({ run }) => run)).toEqual([]);
    await soon(engine.close());
    await soon(other.close());
  });

  it('O1, E3: one whose owner has gone on between the look and the reading is looked for anew', async () => {
    const h = hands();
    const log: string[] = [];
    const define = (name: string) => (stepfast: Stepfast) =>
      stepfast.job('job', async ({ step }) => {
        await step.waitForEvent('first');
        log.push(name);
        await step.waitForEvent('second');
      });
    const owner = h.engine(define('owner'));
    await owner.start('job', undefined, { id: 'r' });
    await settle();
    const engine = h.engine(define('late'));
    await engine.ready();
    await settle();
    let isIn = false;
    engine.own.onLoad = async () => {
      if (isIn) return;
      isIn = true;
      await owner.own.onDue?.(async () => ({ runs: [], foreign: false }), {} as never);
      await settle(100);
    };
    const looks = engine.own.looks;
    await owner.dispatch('first');
    await settle(200);
    expect(h.kinds('r').filter((kind) => kind === 'event-taken')).toHaveLength(1);
    expect(engine.own.looks).toBeGreaterThan(looks);
    expect(h.row('r')).toMatchObject({ status: 'waiting' });
    await soon(engine.close());
    await soon(owner.close());
  });

  it('F6, Q4: a command to a run that is driven anew by the time it is heard of leaves that alone', async () => {
    const h = hands();
    const log: string[] = [];
    let isBad = true;
    const engine = h.engine((stepfast) =>
      stepfast.job('job', ({ step }) =>
        step.run('a', ({ signal }) => {
          if (isBad) throw new FatalError('once');
          signal.addEventListener('abort', () => log.push('aborted'));
          return never();
        }),
      ),
    );
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    isBad = false;
    const answer = gate();
    engine.own.onCommit = async (batch, pass) => {
      const outcome = await pass();
      if (kindsOf(batch).includes('retried')) await answer.promise;
      return outcome;
    };
    const retrying = engine.runs.retry('r');
    h.wake();
    await settle();
    expect(statuses(h, 'r')).toEqual(['running']);
    answer.open();
    await retrying;
    await settle();
    expect([log, statuses(h, 'r'), h.row('r')!.fence]).toEqual([[], ['running'], 3]);
    await engine.runs.cancel('r');
    expect(log).toEqual(['aborted']); // at once: it is driven here
    await soon(engine.close());
  });

  it('S8: of runs that the store has lost nothing is done any more; runs of the same ids are others', async () => {
    const h = hands();
    const reasons: unknown[] = [];
    const engine = h.engine((stepfast) =>
      stepfast.job('job', ({ step }) =>
        step.run('a', ({ signal }) => {
          signal.addEventListener('abort', () => reasons.push(signal.reason));
          return never();
        }),
      ),
    );
    for (const id of ['r', 's']) await engine.start('job', undefined, { id });
    await settle();
    const { medium } = h;
    medium.tables.apply({
      ...{ runs: new Map(), events: new Map(), drops: new Set(), state: new Map() },
      ...{ deletes: new Set(['r', 's']), clock: { seq: 0 } },
    });
    medium.journals.clear();
    engine.own.tell(undefined, true);
    await settle();
    expect(reasons).toEqual(['r', 's'].map((runId) => expect.objectContaining({ code: 'LEASE_LOST', runId })));
    expect(String(reasons[0])).toContain('lost run r');
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect([statuses(h, 'r'), h.kinds('r')]).toEqual([['running'], ['started', 'claimed']]);
    await soon(engine.close());
  });

  it('F5, O1: a word that anything may have changed has each run that is at work confirmed', async () => {
    const h = hands();
    const engine = h.engine((stepfast) => stepfast.job('job', ({ step }) => step.run('a', never)));
    for (const id of ['r', 's']) await engine.start('job', undefined, { id });
    await settle();
    const confirmed = async (runId: string | undefined) => {
      const before = engine.own.batches.length;
      engine.own.tell(runId, false);
      await settle();
      return engine.own.batches.slice(before).map(({ run }) => run!.runId);
    };
    expect(await confirmed(undefined)).toEqual(['r', 's']);
    expect(await confirmed('s')).toEqual(['s']);
    expect(await confirmed('elsewhere')).toEqual([]);
    await soon(engine.close());
  });

  it('R5: one that does not fit is told once, and let alone though others try it in vain as well', async () => {
    const h = hands();
    await h.engine().start('job', undefined, { id: 'r', allowUnregistered: true });
    const define = (stepfast: Stepfast) => stepfast.job('job', { version: 2, migrate: unfit, timeout: '1d' }, () => 1);
    const engines = [h.engine(define), h.engine(define)];
    for (const engine of engines) await engine.ready();
    await settle(200);
    await h.advance(60_000);
    expect(h.errors.map((error) => (error as StepfastError).code)).toEqual(['MIGRATION_FAILED', 'MIGRATION_FAILED']);
    expect(h.kinds('r').filter((kind) => kind === 'released').length).toBeLessThan(3);
    for (const engine of engines) await soon(engine.close());
  });
});

describe('children of a run that is cancelled', () => {
  const family = (h: World) => {
    const aborted: string[] = [];
    const define = (stepfast: Stepfast) => {
      stepfast.job('leaf', ({ run, step }) =>
        step.run('a', ({ signal }) => {
          signal.addEventListener('abort', () => aborted.push(run.id));
          return never();
        }),
      );
      stepfast.job('middle', ({ step }) => step.call('leaf'));
      stepfast.job('top', ({ step }) => step.call('middle'));
      stepfast.job('giving up', async ({ step }) => {
        await Promise.all([step.call('leaf'), step.waitForEvent('go', { timeout: '1m', onTimeout: 'cancel' })]);
      });
    };
    return { engine: h.engine(define), define, aborted };
  };
  const idOf = async (engine: Stepfast, job: string, parentId?: string) =>
    (await engine.runs.list({ job })).runs.find((run) => parentId === undefined || run.parentId === parentId)!.id;

  it('F9: are told so at once, and theirs, and nobody else’s', async () => {
    const h = hands();
    const { engine, aborted } = family(h);
    await engine.start('top', undefined, { id: 'p' });
    await engine.start('top', undefined, { id: 'other' });
    await engine.start('leaf', undefined, { id: 'free' });
    await settle();
    h.lostHints();
    const middle = await idOf(engine, 'middle', 'p');
    const leaf = await idOf(engine, 'leaf', middle);
    const seen: string[] = [];
    engine.runs.subscribe(leaf, ({ status }) => void seen.push(status));
    await settle();
    await engine.runs.cancel('p');
    await settle();
    expect([aborted, statuses(h, middle, leaf, 'free', 'other')]).toEqual([
      ...[[leaf], ['cancelled', 'cancelled', 'running', 'waiting']],
    ]);
    expect(seen).toEqual(['running', 'cancelled']);
    await soon(engine.close());
  });

  it('F9: also where the run has cancelled itself', async () => {
    const h = hands();
    const { engine, aborted } = family(h);
    await engine.start('giving up', undefined, { id: 'p' });
    await settle();
    h.lostHints();
    const leaf = await idOf(engine, 'leaf', 'p');
    await h.advance(60_000);
    expect([aborted, statuses(h, 'p', leaf)]).toEqual([[leaf], ['cancelled', 'cancelled']]);
    await soon(engine.close());
  });

  it('F9: where the run between is in nobody’s memory here, the store is asked', async () => {
    const h = hands();
    const { engine, aborted } = family(h);
    await engine.start('top', undefined, { id: 'p' });
    await engine.start('top', undefined, { id: 'other' });
    await settle();
    const leaf = await idOf(engine, 'leaf', await idOf(engine, 'middle', 'p'));
    engine.own.abandon!();
    const leaves = h.engine((stepfast) =>
      stepfast.job('leaf', ({ run, step }) =>
        step.run('a', ({ signal }) => {
          signal.addEventListener('abort', () => aborted.push(run.id));
          return never();
        }),
      ),
    );
    await leaves.ready();
    await settle();
    expect(h.row(leaf)).toMatchObject({ status: 'running', fence: 2 });
    h.lostHints();
    await leaves.runs.cancel('p');
    await settle();
    expect(aborted).toEqual([leaf]);
    await soon(leaves.close());
  });

  it('E12: who awaits a run hears of its end without waiting for anything else', async () => {
    const h = hands();
    const { engine } = family(h);
    engine.job('calls', async ({ step }) => step.call('quick'));
    engine.job('quick', ({ step }) => step.run('a', () => 'done'));
    const run = await engine.start('calls');
    await settle();
    h.lostHints();
    expect(await soon(run.result())).toBe('done');
    await soon(engine.close());
  });
});

describe('other code for a job', () => {
  it('O6: is what its runs go on with: those that rest at once, those at work as soon as they rest', async () => {
    const h = hands();
    const log: string[] = [];
    const open = gate();
    const engine = h.engine((stepfast) => stepfast.job('bystander', ({ step }) => step.waitForEvent('go')));
    const jobOf = (name: string) =>
      defineJob<boolean>('job', async ({ payload, step }) => {
        if (payload) await step.run('a', () => open.promise);
        await step.waitForEvent('go');
        log.push(name);
      });
    engine.register(jobOf('old'));
    await engine.start('job', false, { id: 'rests' });
    await engine.start('job', true, { id: 'works' });
    await engine.start('bystander', undefined, { id: 'b' });
    await settle();
    const before = engine.own.batches.length;
    engine.register(jobOf('new'), { replace: true });
    await settle();
    expect([statuses(h, 'rests', 'works'), h.row('b')!.fence]).toEqual([['waiting', 'running'], 1]);
    expect(engine.own.batches.length).toBe(before); // nothing of that is written
    open.open();
    await settle();
    await engine.dispatch('go');
    await settle();
    expect(log).toEqual(['new', 'new']);
    expect(statuses(h, 'rests', 'works', 'b')).toEqual(['completed', 'completed', 'completed']);
    expect(h.row('b')!.fence).toBe(1);
    await soon(engine.close());
  });
});

describe('closing', () => {
  it('F5: lets every run go, and tells what it can not', async () => {
    const h = hands();
    const engine = h.engine((stepfast) => stepfast.job('job', ({ step }) => step.run('a', never)));
    for (const id of ['r', 's']) await engine.start('job', undefined, { id });
    await settle();
    engine.own.onCommit = async (batch, pass) => {
      if (batch.run?.runId === 'r') throw away();
      return pass();
    };
    await soon(engine.close());
    expect([statuses(h, 'r', 's'), h.errors, h.wanted()]).toEqual([
      ['running', 'queued'],
      [codeOf('STORE_UNAVAILABLE')],
      [],
    ]);
  });
});

describe('the journal of a run that is taken up', () => {
  it('is not loaded where it has come with the look, and is loaded where it has not', async () => {
    const h = hands();
    const store = h.store();
    const { due, load } = store;
    const loaded: string[] = [];
    let comes = true;
    store.load = (runId) => {
      loaded.push(runId);
      return load(runId);
    };
    store.due = async (query) => {
      const page = await due(query);
      const with_ = async (run: DueRun) => ({ ...run, journal: (await load(run.row.runId))!.journal });
      return comes ? { ...page, runs: await Promise.all(page.runs.map(with_)) } : page;
    };
    const ran: unknown[] = [];
    const engine = h.engine((stepfast) => stepfast.job('job', ({ payload }) => void ran.push(payload)), { store });
    await engine.start('job', 1, { id: 'with' });
    await settle();
    expect([ran, loaded]).toEqual([[1], []]);
    comes = false;
    await engine.start('job', 2, { id: 'without' });
    await settle();
    expect([ran, loaded]).toEqual([[1, 2], ['without']]);
    await soon(engine.close());
  });
});

describe('what waits until nothing else is to be done', () => {
  it('Q6: ended runs are swept when no function is in flight and no look is under way', async () => {
    const h = hands();
    const inside = gate();
    const store = h.store();
    const list = store.list.bind(store);
    let lists = 0;
    store.list = (query) => {
      lists++;
      return list(query);
    };
    const engine = h.engine(
      (stepfast) => {
        stepfast.job('job', ({ step }) => step.run('a', () => inside.promise));
        stepfast.job('rests', ({ step }) => step.waitForEvent('go'));
      },
      { store },
    );
    await engine.start('rests');
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect([statuses(h, 'r'), lists]).toEqual([['running'], 0]);
    inside.open();
    await settle();
    expect(lists).toBeGreaterThan(0); // one that only waits is no hindrance
    await soon(engine.close());
  });

  it('O3, Q6: who does not drive the store sweeps nothing', async () => {
    const h = hands();
    const store = h.store();
    const list = store.list.bind(store);
    let lists = 0;
    store.list = (query) => {
      lists++;
      return list(query);
    };
    const engine = h.engine((stepfast) => stepfast.job('job', () => 1), { store });
    store.onOpen = async (mode) => {
      if (mode === 'drive') throw new StepfastError('STORE_LOCKED', 'Another has it.');
    };
    await engine.state.get('k');
    await settle();
    expect(lists).toBe(0);
    await soon(engine.close());
  });
});

describe('why a function is stopped', () => {
  it('F9: says that its run was ended from outside, or with which other run', async () => {
    const h = hands();
    const reasons: StepfastError[] = [];
    const engine = h.engine((stepfast) => {
      stepfast.job('child', ({ step }) =>
        step.run('a', ({ signal }) => {
          signal.addEventListener('abort', () => reasons.push(signal.reason as StepfastError));
          return never();
        }),
      );
      stepfast.job('job', ({ step }) => step.call('child'));
    });
    await engine.start('child', undefined, { id: 'alone' });
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    await engine.runs.cancel('alone');
    await engine.runs.cancel('r');
    await settle();
    expect(reasons).toEqual([codeOf('LEASE_LOST'), codeOf('LEASE_LOST')]);
    expect(reasons.map(({ message }) => message)).toEqual([
      expect.stringContaining('Run alone was ended or taken up again from outside'),
      expect.stringContaining('cancelled with run r'),
    ]);
    await soon(engine.close());
  });
});

describe('a run that is woken while a commit of it is under way', () => {
  it('E1: is not lost, though it is held here and the look that came with it has left it out', async () => {
    const h = hands();
    const engine = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        void step.run('a', () => 1).then(never); // it may be about to ask for something: its row is held
        return (await step.waitForEvent<number>('tick', { match: (n: number) => n % 2 === 0 })).payload;
      }),
    );
    const run = await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect(statuses(h, 'r')).toEqual(['waiting']);
    const answer = gate();
    let holds = true;
    engine.own.onCommit = async (batch, pass) => {
      const outcome = await pass();
      if (holds && batch.run?.state) await answer.promise;
      return outcome;
    };
    await engine.dispatch('tick', 1);
    await settle();
    expect(h.row('r')!.woken).toBeUndefined(); // taken note of, and the answer is under way
    holds = false;
    await engine.dispatch('tick', 2);
    await settle();
    answer.open();
    expect(await soon(run.result())).toBe(2);
    await soon(engine.close());
  });
});
