import { describe, expect, it } from 'vitest';
import { type HandlerContext, type QueueOptions, type Stepfast, StepfastError } from '../src/index.js';
import { gate, type HandStore, hands, kindsOf, never, settle, soon } from './hand-kit.js';

// Pins: who is found a slot, and how often the store is asked for one (spec Q2): of more than a page, behind a page of a full
// queue, where others hold slots, and when one becomes free while nobody looks.

const LIVENESS_MS = 3_000;
type World = ReturnType<typeof hands>;
type Handler = (context: HandlerContext<undefined>) => unknown;
const refusals = ({ own }: { own: HandStore }) => own.outcomes.filter((kind) => kind === 'no-slot').length;

/** A job `job` of the queue `q`, whose runs say when they work; they are at it until their gate is opened, and wait then. */
function working(queue: Omit<QueueOptions, 'name'>) {
  const h = hands();
  const log: string[] = [];
  const ends = new Map<string, () => void>();
  const handler: Handler = async ({ run, step }) => {
    await step.run('a', () => {
      log.push(run.id);
      return new Promise<void>((resolve) => ends.set(run.id, resolve));
    });
    await step.waitForEvent('go');
  };
  const define = (stepfast: Stepfast) => {
    stepfast.job('job', { queue: { name: 'q', ...queue } }, handler);
    stepfast.job('other', ({ run, step }) =>
      step.run('b', () => {
        log.push(run.id);
        return never();
      }),
    );
  };
  const engine = h.engine(define);
  const start = async (...ids: string[]) => {
    for (const id of ids) await engine.start('job', undefined, { id });
    await settle();
  };
  /** Of `job` in the queue, by one who has no code for it. */
  const left = async (h: World, ids: readonly string[], more: object = {}) => {
    for (const id of ids)
      await h.engine().start('job', undefined, { id, queue: 'q', allowUnregistered: true, ...more });
  };
  return { h, engine, define, log, ends, start, left };
}
const named = (count: number) => Array.from({ length: count }, (_, nth) => `r${nth}`);

describe('runs that were left', () => {
  it('Q2: are all entered where there are slots, however many and though none ends', async () => {
    const { h, engine, log, left } = working({ concurrency: 100 });
    await left(h, named(70));
    await engine.ready();
    await settle(200);
    expect(log).toEqual(named(70));
    expect(h.wanted()).toEqual([]);
  });

  it('Q2: no more than there are slots, of which the store does not have to say so', async () => {
    const { h, engine, log, left } = working({ concurrency: 2 });
    await left(h, named(5));
    await engine.ready();
    await settle();
    h.wake();
    await settle();
    expect([log, refusals(engine)]).toEqual([['r0', 'r1'], 0]);
  });

  it('Q2: of another queue are found behind a page of one that this look has filled', async () => {
    const { h, engine, log, left } = working({ concurrency: 2 });
    await left(h, named(40));
    await h.engine().start('other', undefined, { id: 'o', allowUnregistered: true });
    await engine.ready();
    await settle(120);
    expect(log).toEqual(['r0', 'r1', 'o']);
  });

  it('Q2: are found behind many that are being claimed', async () => {
    const { h, engine, log, left } = working({ concurrency: 100 });
    const held = gate();
    engine.own.onCommit = async (batch, pass) => {
      if (batch.run?.runId.startsWith('r')) await held.promise;
      return pass();
    };
    await left(h, named(40));
    await engine.ready();
    await settle();
    await engine.start('other', undefined, { id: 'o' });
    await settle();
    expect(log).toEqual(['o']);
    held.open();
    await settle();
    expect(log.length).toBe(41);
  });

  it('Q2, F5: one that holds a slot is taken up, though those before it would fill the queue', async () => {
    const { h, define, engine, log, start, left } = working({ concurrency: 1 });
    await start('dead');
    engine.own.abandon!();
    await left(h, ['first'], { priority: 1 });
    const next = h.engine(define);
    await next.ready();
    await settle();
    expect([log, h.row('first')!.status]).toEqual([['dead', 'dead'], 'queued']);
  });
});

describe('a slot that becomes free', () => {
  it('Q2: by a run that pauses is given to the next, also beside a queue that has room', async () => {
    const { engine, log, ends, start } = working({ concurrency: 1 });
    await start('a', 'b');
    await engine.start('other', undefined, { id: 'o' });
    await settle();
    expect(log).toEqual(['a', 'o']);
    ends.get('a')!();
    await settle();
    expect(log).toEqual(['a', 'o', 'b']);
  });

  it('Q2: while a look is under way that still counted it as taken, and no look before has', async () => {
    const h = hands();
    const log: string[] = [];
    const [outside, inside, page] = [gate(), gate(), gate()];
    const queue = { name: 'q', concurrency: 1 };
    const engine = h.engine((stepfast) => {
      stepfast.job('held', { queue }, async ({ step }) => {
        const event = step.waitForEvent('go');
        await step.run('a', () => 1);
        await outside.promise; // something else: it goes on by itself
        await step.run('b', () => inside.promise);
        await event;
      });
      stepfast.job('next', { queue }, ({ step }) => step.run('c', () => void log.push('next')));
    });
    await engine.start('held', undefined, { id: 'r' });
    await engine.start('next', undefined, { delay: '1m' });
    await settle();
    await engine.ready();
    await settle();
    outside.open();
    await settle();
    expect(h.row('r')).toMatchObject({ status: 'running', slot: 'q' });
    engine.own.onDue = async (pass) => {
      const found = await pass();
      await page.promise;
      return found;
    };
    await h.advance(60_000);
    inside.open();
    await settle();
    expect([log, h.row('r')!.status]).toEqual([[], 'waiting']);
    page.open();
    await settle();
    expect(log).toEqual(['next']);
  });

  it('Q2: of ours, in a queue that was thought to be held by others, is taken by who was refused', async () => {
    const { h, engine, define, log, ends, start } = working({ concurrency: 3 });
    const other = h.engine(define);
    for (const id of ['x', 'y']) await other.start('job', undefined, { id });
    await settle();
    await start('a', 'b');
    expect([log, refusals(engine)]).toEqual([['x', 'y', 'a'], 1]);
    h.lostHints();
    ends.get('a')!();
    await settle();
    expect(log).toEqual(['x', 'y', 'a', 'b']);
  });

  it('Q2: by two others at once is found out with one word of it', async () => {
    const { h, engine, log, start } = working({ concurrency: 2 });
    const inside = gate();
    const queue = { name: 'q', concurrency: 2 };
    const other = h.engine((stepfast) =>
      stepfast.job('elsewhere', { queue }, ({ step }) => step.run('a', () => inside.promise)),
    );
    for (let nth = 0; nth < 2; nth++) await other.start('elsewhere');
    await settle();
    await start('a', 'b', 'c');
    h.lostHints();
    inside.open();
    await settle();
    expect(log).toEqual([]);
    engine.own.tell('elsewhere', false);
    await settle();
    expect(log.length).toBe(2);
  });

  it('Q2: while a run is let go of that was refused one is taken by it', async () => {
    const h = hands();
    const log: string[] = [];
    const [outside, inside] = [gate(), gate()];
    const queue = { name: 'q', concurrency: 2 };
    const engine = h.engine((stepfast) => {
      stepfast.job('held', { queue }, async ({ step }) => {
        void step.waitForEvent('go');
        await step.run('a', () => 1);
        await outside.promise;
        await step.run('b', () => void log.push('b'));
      });
      stepfast.job('works', { queue }, async ({ step }) => {
        await step.run('c', () => inside.promise);
        await step.waitForEvent('go');
      });
    });
    const other = h.engine((stepfast) => stepfast.job('elsewhere', { queue }, ({ step }) => step.run('d', never)));
    await engine.start('held', undefined, { id: 'r' });
    await settle();
    await engine.start('works', undefined, { id: 'w' });
    await other.start('elsewhere');
    await settle();
    h.lostHints();
    const letting = gate();
    let isLetGo = false;
    engine.own.onCommit = async (batch, pass) => {
      if (batch.run?.runId === 'r' && batch.run.state && !batch.run.state.owner) {
        isLetGo = true;
        await letting.promise;
      }
      return pass();
    };
    outside.open();
    await settle();
    expect([refusals(engine), isLetGo]).toEqual([1, true]);
    inside.open();
    await settle();
    letting.open();
    await settle();
    expect(log).toEqual(['b']);
  });
});

describe('a store that has refused a slot', () => {
  it('Q2: is not asked again by each that ends here, where it was for the rate', async () => {
    const { engine, h, ends, start } = working({ concurrency: 5, rateLimit: { limit: 2, per: '1m' } });
    await start('a', 'b', 'c', 'd');
    expect(refusals(engine)).toBeGreaterThan(0);
    const before = refusals(engine);
    for (const id of ['a', 'b']) ends.get(id)!();
    await settle();
    expect([refusals(engine) - before, h.wanted()]).toEqual([0, [60_000]]);
  });

  it('Q4: is looked at again when its patience says so, and not before', async () => {
    const { h, engine, define, start } = working({ concurrency: 1 });
    const other = h.engine(define);
    await other.start('job', undefined, { id: 'x' });
    await settle();
    const looks = engine.own.looks;
    await start('a');
    expect([refusals(engine), h.wanted()]).toEqual([1, [LIVENESS_MS]]);
    expect(engine.own.looks - looks).toBeLessThan(3);
  });

  it('Q2: gives one at last to a run that was only listened to when it was refused', async () => {
    const h = hands();
    const log: string[] = [];
    const [outside, inside] = [gate(), gate()];
    const queue = { name: 'q', concurrency: 1 };
    const define = (isFirst: boolean) => (stepfast: Stepfast) => {
      stepfast.job('listened', { queue }, async ({ step }) => {
        void step.waitForEvent('go');
        await step.run('a', () => 1);
        await (isFirst ? never() : outside.promise);
        await step.run('b', () => void log.push('b'));
      });
      stepfast.job('busy', { queue }, ({ step }) => step.run('c', () => inside.promise));
    };
    const first = h.engine(define(true));
    await first.start('listened', undefined, { id: 'r' });
    await settle();
    await soon(first.close());
    const engine = h.engine(define(false));
    await engine.ready();
    await settle();
    await engine.start('busy', undefined, { id: 'busy' });
    await settle();
    outside.open();
    await settle();
    expect([log, refusals(engine)]).toEqual([[], 1]);
    inside.open();
    await settle();
    await h.advance(LIVENESS_MS);
    expect(log).toEqual(['b']);
  });
});

describe('a commit that is refused', () => {
  it('F9: has cancelled nobody: children are not told of an end that an event has overtaken', async () => {
    const h = hands();
    let signal: AbortSignal | undefined;
    const engine = h.engine((stepfast) => {
      stepfast.job('child', ({ step }) =>
        step.run('c', (context) => {
          signal = context.signal as AbortSignal;
          return never();
        }),
      );
      stepfast.job('job', async ({ step }) => {
        const child = step.call('child');
        await step.waitForEvent('go', { timeout: '1m', onTimeout: 'cancel' });
        await child;
      });
    });
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    let isOvertaken = false;
    engine.own.onCommit = async (batch, pass) => {
      if (isOvertaken || !kindsOf(batch).includes('cancelled')) return pass();
      isOvertaken = true;
      h.jump(-1); // it comes in time
      await h.engine().dispatch('go');
      h.jump(1);
      return pass();
    };
    h.lostHints();
    await h.advance(60_000);
    expect([isOvertaken, engine.own.outcomes.includes('overtaken')]).toEqual([true, true]);
    expect([h.row('r')!.status, signal!.aborted]).toEqual(['waiting', false]);
  });

  it('O6: by a store that a newer release writes to is told, also where the app shares its database', async () => {
    const h = hands();
    const store = h.store();
    const told: unknown[] = [];
    store.transact = async () => {
      throw new StepfastError('STORE_TOO_NEW', 'Newer.');
    };
    const engine = h.engine(
      (stepfast) => stepfast.job('job', ({ step }) => step.transaction('save', ['rows'], () => undefined)),
      { store, onOutdated: (error) => told.push(error) },
    );
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect(told).toEqual([expect.objectContaining({ code: 'STORE_TOO_NEW' })]);
  });
});

it('Q2, E12: a run that can not read how its child has ended takes no slot from others while it tries again', async () => {
  const h = hands();
  const engine = h.engine((stepfast) => {
    stepfast.job('child', () => 'done');
    stepfast.job('parent', { queue: { name: 'q', concurrency: 1 } }, ({ step }) =>
      step.call('child', null, { id: 'c' }),
    );
    stepfast.job('job', { queue: 'q' }, () => 'done');
  });
  let isMissing = true;
  engine.own.onLoad = async (runId) => {
    if (isMissing && h.row(runId)?.status === 'completed') throw new StepfastError('KEY_MISSING', 'No key.');
  };
  await engine.start('parent', undefined, { id: 'p' });
  await settle();
  expect([h.row('c')!.status, h.row('p')!.status]).toEqual(['completed', 'waiting']);
  await engine.start('job', undefined, { id: 'r' });
  await settle();
  expect(h.row('r')!.status).toBe('completed');
  isMissing = false;
  await h.impatient();
  await settle();
  expect(h.row('p')!.status).toBe('completed');
  await soon(engine.close());
});
