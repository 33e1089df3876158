import { describe, expect, it } from 'vitest';
import { defineJob, FatalError, type HandlerContext, type Stepfast } from '../src/index.js';
import { gate, type HandStore, hands, kindsOf, never, settle, soon } from './hand-kit.js';

// Pins: what a look brings of a run that is in memory already (spec O1, E1, F9, O6): others have gone on with it, the look is
// older than what is known here, its parent was cancelled, its code was replaced.

type World = ReturnType<typeof hands>;
const statuses = (h: World, ...ids: string[]) => ids.map((id) => h.row(id)!.status);
const job = (handler: (context: HandlerContext<undefined>) => unknown) => (stepfast: Stepfast) =>
  stepfast.job('job', handler as never);
/** Everybody but this engine counts as dead from here on. */
const alone = (h: World) => h.medium.owners.clear();

/** The next look finds what another has sent, and is told of only when `open` is called: the run has gone on since. */
function stalePage(own: HandStore, other: Stepfast, goOn: () => void) {
  const page = gate();
  let isStale = false;
  own.onDue = async (pass) => {
    if (isStale) return pass();
    isStale = true;
    await other.dispatch('go', 'came');
    const found = await pass();
    goOn();
    await settle();
    await page.promise;
    return found;
  };
  return page;
}

describe('a run that others have gone on with', () => {
  it('O1: is taken up anew: nothing that it has heard there is heard here as if it were the first', async () => {
    const h = hands();
    const log: string[] = [];
    const define = (name: string) =>
      job(async ({ step }) => {
        for (const nth of [1, 2]) log.push(`${name} ${nth}: ${(await step.waitForEvent('go')).payload}`);
      });
    const first = h.engine(define('first'));
    await first.start('job', undefined, { id: 'r' });
    await settle();
    h.lostHints();
    const second = h.engine(define('second'));
    await second.ready();
    await second.dispatch('go', 'a');
    await h.advance(10_000);
    await second.ready();
    await settle();
    expect([log, h.row('r')!.fence]).toEqual([['second 1: a'], 2]);
    second.own.abandon!();
    await h.engine().dispatch('go', 'b');
    await first.ready();
    await settle();
    expect([log.slice(1), statuses(h, 'r')]).toEqual([['first 1: a', 'first 2: b'], ['completed']]);
    expect(new Set(first.own.outcomes)).toEqual(new Set(['committed']));
    await soon(first.close());
  });

  /** A run that awaits something else, whose owner was taken for dead and is not: another context listens to it. */
  const listened = async () => {
    const h = hands();
    const log: string[] = [];
    const [outside, asks] = [gate(), gate()];
    const hop = { isHeld: false, release: (): void => undefined };
    let passes = 0;
    const define = (name: string) =>
      job(async ({ step }) => {
        const isFirst = name === 'other' && ++passes === 1;
        void step.waitForEvent('go');
        void (isFirst ? asks.promise : Promise.resolve()).then(() => step.waitForEvent('more'));
        await step.run('a', () => void log.push(`${name} a`));
        await (isFirst ? never() : outside.promise);
        await step.run('b', () => void log.push(`${name} b`));
        log.push(`${name} heard ${(await step.waitForEvent('later')).payload}`);
      });
    const owner = h.engine(define('owner'));
    await owner.start('job', undefined, { id: 'r' });
    await settle();
    expect(h.row('r')).toMatchObject({ unsettled: true, fence: 1 });
    alone(h);
    const other = h.engine(
      define('other'),
      {},
      {
        hop(callback) {
          if (hop.isHeld) hop.release = () => void setImmediate(callback);
          else setImmediate(callback);
        },
      },
    );
    await other.ready();
    await settle();
    h.lostHints();
    return { h, log, outside, owner, other, asks, hop };
  };

  it('R11, D4: that awaits something else is only listened to: nothing is written', async () => {
    const { h, log, other } = await listened();
    expect([log, h.row('r')!.fence, other.own.batches.filter(({ run }) => run)]).toEqual([['owner a'], 1, []]);
    await soon(other.close());
  });

  it('Q4, R7: and is not read again when it is woken, nor takes the event before it has asked for what came before', async () => {
    const { h, other, asks } = await listened();
    let loads = 0;
    other.own.onLoad = async () => void loads++;
    await other.dispatch('go');
    await settle();
    const taken = () => h.kinds('r').filter((kind) => kind === 'event-taken').length;
    expect([loads, taken(), h.row('r')!.fence]).toEqual([0, 0, 2]);
    expect(h.row('r')!.waits.map(({ events }) => events)).toEqual([['go']]);
    asks.open();
    await settle();
    expect([loads, taken(), h.row('r')!.fence]).toEqual([0, 1, 2]);
    await soon(other.close());
  });

  it('Q4: and hides no other, however many there are', async () => {
    const h = hands();
    const define = (stepfast: Stepfast) => {
      stepfast.job('listens', async ({ step }) => {
        const event = step.waitForEvent('go');
        await step.run('a', () => 1);
        await never();
        await event;
      });
      stepfast.job('other', () => 'done');
    };
    const first = h.engine(define);
    for (let nth = 0; nth < 40; nth++) await first.start('listens');
    await settle(120);
    await soon(first.close());
    const second = h.engine(define);
    await h.engine().start('other', undefined, { id: 'r', allowUnregistered: true });
    await second.ready();
    await settle(120);
    expect([statuses(h, 'r'), second.own.looks < 10]).toEqual([['completed'], true]);
    await soon(second.close());
  });

  it('O1: also where it was only listened to here, and its owner has gone on under the fence of before', async () => {
    const { h, log, outside, owner, other } = await listened();
    outside.open();
    await settle();
    expect([log, h.row('r')!.fence]).toEqual([['owner a', 'owner b'], 1]);
    owner.own.abandon!();
    await other.dispatch('later', 'c');
    await settle();
    expect([log.slice(2), new Set(other.own.outcomes)]).toEqual([['other heard c'], new Set(['committed'])]);
    await soon(other.close());
  });

  it('E1: also where that is found while a round is under way, of which nothing is written', async () => {
    const { h, log, outside, owner, other, asks, hop } = await listened();
    hop.isHeld = true;
    asks.open();
    await settle();
    const release = hop.release;
    hop.isHeld = false;
    outside.open();
    await settle();
    owner.own.abandon!();
    await h.engine().dispatch('later', 'c');
    await other.ready();
    await settle();
    expect(log).toEqual(['owner a', 'owner b']);
    release();
    await settle();
    expect(log.slice(2)).toEqual(['other heard c']);
    await soon(other.close());
  });
});

describe('a look that is older than what is known here', () => {
  it('R1: takes nothing back of what was recorded since: no step runs again, though a commit is refused then', async () => {
    const h = hands();
    const log: string[] = [];
    const [inside, outside] = [gate(), gate()];
    const engine = h.engine(
      job(async ({ step }) => {
        const go = step.waitForEvent('go');
        void step.waitForEvent('never');
        await step.run('a', async () => {
          await inside.promise;
          log.push('a');
        });
        await go;
        await outside.promise; // something else: no look brings it on
        for (const name of ['b', 'c', 'd', 'e']) await step.run(name, () => void log.push(name));
        await step.run('f', ({ state, attempt }) => {
          log.push(`f ${attempt}`);
          if (attempt === 1) void state.increment('text');
        });
      }),
    );
    const other = h.engine();
    await engine.state.set('text', 'no number');
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    h.lostHints();
    const page = stalePage(engine.own, other, inside.open);
    await engine.ready();
    await settle();
    page.open();
    await settle();
    expect([log, statuses(h, 'r')]).toEqual([['a'], ['waiting']]);
    outside.open();
    await h.advance(60_000);
    expect([log, statuses(h, 'r')]).toEqual([['a', 'b', 'c', 'd', 'e', 'f 1', 'f 2'], ['completed']]);
    await soon(engine.close());
  });

  it('O1: nor of a run that has begun anew since', async () => {
    const h = hands();
    const inside = gate();
    const engine = h.engine((stepfast) =>
      stepfast.job<number>('job', async ({ payload, step }) => {
        if (payload) return Promise.race(['more', 'other'].map((name) => step.waitForEvent(name)));
        void step.waitForEvent('go');
        await step.run('a', () => inside.promise);
        return step.restart(1);
      }),
    );
    const other = h.engine();
    const run = await engine.start('job', 0, { id: 'r' });
    await settle();
    const before = h.row('r')!;
    h.lostHints();
    const page = stalePage(engine.own, other, inside.open);
    await engine.ready();
    await settle();
    expect(h.row('r')).toMatchObject({ fence: 2, length: before.length }); // of another journal
    page.open();
    await settle();
    await engine.dispatch('more', 'anew');
    expect(await soon(run.result())).toMatchObject({ payload: 'anew' });
    expect(new Set(engine.own.outcomes)).toEqual(new Set(['committed']));
    await soon(engine.close());
  });

  it('Q4: what is in memory is not read again when it is woken', async () => {
    const h = hands();
    const engine = h.engine(
      job(async ({ step }) => {
        await step.waitForEvent('go');
        await step.waitForEvent('more');
      }),
    );
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    let loads = 0;
    engine.own.onLoad = async () => void loads++;
    await engine.dispatch('go');
    await settle();
    expect([loads, h.row('r')!.waits.map(({ events }) => events)]).toEqual([0, [['more']]]);
    await soon(engine.close());
  });
});

describe('a child whose parent is cancelled', () => {
  it('F9, F7: while the commit is under way that ends it is followed by what follows its end', async () => {
    const h = hands();
    const log: string[] = [];
    const engine = h.engine((stepfast) => {
      stepfast.job('child', { onFailed: () => void log.push('told') }, async ({ step }) => {
        await step.run('a', () => 1, { undo: () => void log.push('undone') });
        throw new FatalError('of the child');
      });
      stepfast.job('job', ({ step }) => step.call('child'));
    });
    const answer = gate();
    engine.own.onCommit = async (batch, pass) => {
      const outcome = await pass();
      if (kindsOf(batch).includes('failed')) await answer.promise;
      return outcome;
    };
    await engine.start('job', undefined, { id: 'p' });
    await settle();
    const { id } = (await engine.runs.list({ job: 'child' })).runs[0]!;
    expect(statuses(h, id, 'p')).toEqual(['failed', 'waiting']);
    h.lostHints();
    await engine.runs.cancel('p');
    await settle();
    answer.open();
    await settle();
    expect([log, h.row(id)!.undoing]).toEqual([['undone', 'told'], undefined]);
    await soon(engine.close());
  });
});

describe('other code for a run that rests', () => {
  const replacing = (name: string, log: string[], fails = false) =>
    defineJob('job', { retry: { initialDelay: '1m', jitter: false } }, async ({ step }) => {
      const undo = () => {
        log.push(`${name} undoes`);
        if (fails) throw new Error('not yet');
      };
      const event = step.waitForEvent('go');
      await step.run('a', () => 1, { undo });
      if (name === 'old') await never();
      await event;
    });

  it('O6: takes it up at once, also where it awaited something else and was held', async () => {
    const h = hands();
    const engine = h.engine((stepfast) => stepfast.register(replacing('old', [])));
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect(h.row('r')!.unsettled).toBe(true);
    engine.register(replacing('new', []), { replace: true });
    await settle();
    await engine.dispatch('go');
    await settle();
    expect([statuses(h, 'r'), h.kinds('r').filter((kind) => kind === 'claimed').length]).toEqual([['completed'], 2]);
    expect(h.journal('r').filter((entry) => !entry.kind)).toEqual([]);
    await soon(engine.close());
  });

  it('O6, F7: undoes what the code of before could not', async () => {
    const h = hands();
    const log: string[] = [];
    const engine = h.engine((stepfast) => stepfast.register(replacing('old', log, true)));
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    await engine.runs.cancel('r');
    await settle();
    expect(log).toEqual(['old undoes']);
    engine.register(replacing('new', log), { replace: true });
    await h.advance(60_000);
    expect([log, h.row('r')!.undoing]).toEqual([['old undoes', 'new undoes'], undefined]);
    await soon(engine.close());
  });
});
