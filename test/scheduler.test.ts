import { describe, expect, it } from 'vitest';
import { type Step, type Stepfast, StepfastError } from '../src/index.js';
import type { DueRun } from '../src/store/store.js';
import { away, codeOf, gate, hands, never, settle, soon, type World } from './hand-kit.js';

// Pins: which run goes next and when an engine looks again (spec Q2, Q4).

const LIVENESS_MS = 3_000;
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

  it('Q2, R8: what a handler asks for while it waits for an event as well, and its queue is full, is done once there is a slot', async () => {
    const h = hands();
    const inside = gate();
    const engine = h.engine((stepfast) => {
      stepfast.job('holds', { queue: queue(1) }, ({ step }) => step.run('a', () => inside.promise));
      stepfast.job('waits', { queue: queue(1) }, ({ step }) => {
        const late = settle(20).then(() => step.run('b', () => 'late'));
        return Promise.race([step.waitForEvent('go'), late]);
      });
    });
    const run = await engine.start('waits', undefined, { id: 'r' });
    await engine.start('holds', undefined, { id: 'holder' });
    await settle();
    expect(statuses(h, 'holder', 'r')).toEqual(['running', 'queued']);
    inside.open();
    expect(await soon(run.result())).toBe('late');
    await soon(engine.close());
  });

  it('Q2: the slot of a run that is cancelled here is given to the next at once, though others hold the rest', async () => {
    const h = hands();
    const { engine, define, log } = working(h, 2);
    await engine.start('job', undefined, { id: 'ours' });
    await settle();
    const other = h.engine(define);
    await other.start('job', undefined, { id: 'theirs' });
    await settle();
    const third = h.engine(define);
    await third.start('job', undefined, { id: 'next' });
    await settle();
    expect([log, statuses(h, 'next')]).toEqual([['ours', 'theirs'], ['queued']]);
    h.lostHints();
    await engine.runs.cancel('ours');
    await settle();
    expect(log).toEqual(['ours', 'theirs', 'next']);
    for (const each of [engine, other, third]) await soon(each.close());
  });

  it('Q2: contexts do not call each other for a run that awaits something else, as long as its queue is full', async () => {
    const h = hands();
    const inside = gate();
    const define = (stepfast: Stepfast) => {
      stepfast.job('holds', { queue: queue(1) }, ({ step }) => step.run('a', () => inside.promise));
      stepfast.job('waits', { queue: queue(1) }, async ({ step }) => {
        // Longer than it takes to be claimed: until then it waits.
        const late = settle(20).then(() => step.run('b', () => 1));
        await Promise.race([step.waitForEvent('go'), late]);
      });
    };
    const [holder, ...others] = [h.engine(define), h.engine(define), h.engine(define)];
    await holder!.start('holds', undefined, { id: 'holder' });
    await settle();
    await Promise.all(others.map((each) => each.ready()));
    await others[0]!.start('waits', undefined, { id: 'r' });
    await settle(2_000);
    expect([holder!, ...others].flatMap(({ own }) => own.batches).length).toBeLessThan(100);
    inside.open();
    await settle();
    await h.advance(LIVENESS_MS);
    expect(statuses(h, 'holder', 'r')).toEqual(['completed', 'completed']);
    for (const each of [holder!, ...others]) await soon(each.close());
  });

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

  it('Q2, Q4: a rate is not waited for by the clock of before, where it was set back before the refusal was heard', async () => {
    const h = hands();
    const { engine, ends, log } = working(h, 5, { rateLimit: { limit: 1, per: '10s' } });
    await engine.start('job', undefined, { id: 'a' });
    await settle();
    engine.own.onCommit = async (_batch, pass) => {
      const outcome = await pass();
      if (outcome.kind === 'no-slot') h.jump(-3_600_000);
      return outcome;
    };
    await engine.start('job', undefined, { id: 'b' });
    await settle();
    await h.advance(10_000);
    expect(log).toEqual(['a', 'b']);
    for (const end of ends.values()) end();
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
