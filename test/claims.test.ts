import { describe, expect, it } from 'vitest';
import type { HandlerContext, JobOptions, Stepfast } from '../src/index.js';
import type { Batch } from '../src/store/batch.js';
import { codeOf, gate, hands, kindsOf, left, never, settle, soon } from './hand-kit.js';

// Pins: what one round makes of a run (spec R11, D4, Q2, F5): whether it is claimed, what its row says while it is at work, and
// which functions are entered behind it.

type Context = HandlerContext<string>;
const job =
  (handler: (context: Context) => unknown, options: JobOptions = {}) =>
  (stepfast: Stepfast) =>
    stepfast.job('job', options, handler as never);
const fixed = { initialDelay: '1m', jitter: false } as const;
const ofRun = ({ own }: { readonly own: { readonly batches: readonly Batch[] } }) =>
  own.batches.filter(({ run }) => run !== undefined);
/** What the row says with the commit that has this entry. */
const stateWith = (engine: Parameters<typeof ofRun>[0], kind: string) =>
  ofRun(engine).find((batch) => kindsOf(batch).includes(kind))?.run?.state;
const schema = (validate: (value: unknown) => Promise<unknown>) => ({
  '~standard': {
    version: 1 as const,
    vendor: 'test',
    validate: async (value: unknown) => ({ value: await validate(value) }),
  },
});

/** The run `r`, whose context has died in its step `a`, and what takes it up. */
async function crashed(define: (isFirst: boolean) => (stepfast: Stepfast) => unknown) {
  const h = hands();
  const first = h.engine(define(true));
  await first.start('job', 'p', { id: 'r' });
  await settle();
  first.own.abandon!();
  const engine = h.engine(define(false));
  await engine.ready();
  await settle();
  return { h, engine };
}

describe('a claim', () => {
  it('D4: is part of the commit of what a run was taken up for', async () => {
    const h = hands();
    const define = job(async ({ step }) => (await step.waitForEvent('go')).payload);
    const first = h.engine(define);
    await first.start('job', 'p', { id: 'r' });
    await settle();
    await soon(first.close());
    await h.engine().dispatch('go');
    const second = h.engine(define);
    await second.ready();
    await settle();
    expect(ofRun(second).map((batch) => kindsOf(batch))).toEqual([['claimed', 'event-taken', 'completed']]);
    await soon(second.close());
  });

  it('E1: is made of a run whose row lacks a wait that its handler had not come to again', async () => {
    for (const isFirst of [true, false]) {
      const h = hands();
      let passes = 0;
      const define = job(
        async ({ step }) => {
          const nth = ++passes;
          const one = step.waitForEvent('one');
          await step.run('a', () => 1);
          if (nth === 2) await never();
          const two = step.waitForEvent('two');
          if (nth === 1) throw new Error('not yet');
          return (await (isFirst ? one : two)).payload;
        },
        { retry: fixed },
      );
      const first = h.engine(define);
      const run = await first.start('job', 'p', { id: 'r' });
      await settle();
      await h.advance(60_000);
      expect(h.row('r')).toMatchObject({ unsettled: true, waits: [{ id: ['one', 1] }] });
      await soon(first.close());
      const second = h.engine(define);
      await second.ready();
      await settle();
      expect(h.row('r')!.waits.map(({ id }) => id[0])).toEqual(['one', 'two']);
      await h.engine().dispatch(isFirst ? 'one' : 'two', 'came');
      await settle();
      expect(await second.runs.get(run.id)).toMatchObject({ status: 'completed', result: 'came' });
      await soon(second.close());
    }
  });

  it('Q4: is not made of a run that was due by a clock that was set back since: it is waited for', async () => {
    const h = hands();
    const define = job(({ step }) => step.sleep('s', '1h'));
    const first = h.engine(define);
    await first.start('job', 'p', { id: 'r' });
    await settle();
    await soon(first.close());
    h.jump(3_600_000);
    const second = h.engine(define);
    let isBack = false;
    second.own.onLoad = async () => {
      if (!isBack) h.jump(-1_800_000);
      isBack = true;
    };
    await second.ready();
    await settle();
    expect([ofRun(second), h.wanted()]).toEqual([[], [1_800_000]]);
    await h.advance(1_800_000);
    expect(h.row('r')!.status).toBe('completed');
    await soon(second.close());
  });

  it('F5: of a run that waits for its turn behind a suspect is not made by an engine that closes', async () => {
    const h = hands();
    const define = (stepfast: Stepfast) => {
      stepfast.job('job', ({ step }) => step.run('a', never));
      stepfast.job('beside', ({ step }) => step.run('b', never));
    };
    for (let lives = 0; lives < 2; lives++) {
      const engine = h.engine(define);
      if (!lives) await engine.start('job', 'p', { id: 'r' });
      else await engine.ready();
      await settle();
      engine.own.abandon!();
    }
    const engine = h.engine(define);
    await engine.ready();
    await settle();
    await engine.start('beside', undefined, { id: 'b' });
    await settle();
    expect([h.row('r')!.status, h.row('b')!.status]).toEqual(['running', 'queued']);
    await soon(engine.close());
    expect(h.kinds('b')).toEqual(['started']);
    expect(h.row('b')!.fence).toBe(0);
  });

  it('F5, Q4: of a run that only waits is made beside a suspect that is at work', async () => {
    const h = hands();
    const define = (stepfast: Stepfast) => {
      stepfast.job('job', ({ step }) => step.run('a', never));
      stepfast.job('waits', async ({ step }) => {
        await step.waitForEvent('go');
        await step.waitForEvent('more');
      });
    };
    for (let lives = 0; lives < 3; lives++) {
      const engine = h.engine(define);
      if (!lives) await engine.start('job', 'p', { id: 'r' });
      else await engine.ready();
      await settle();
      if (lives < 2) engine.own.abandon!();
      else {
        await engine.start('waits', undefined, { id: 'w' });
        await engine.dispatch('go');
        await settle();
        expect(h.row('w')!.waits).toMatchObject([{ id: ['more', 1] }]);
        await soon(engine.close());
      }
    }
  });
});

describe('what the row says while its run is at work', () => {
  it.each([
    ['and nothing else is', false],
    ['and another is entered', true],
  ])('Q2: a function that has ended while the round was under way is recorded by the next (%s): its slot is kept', async (_, isNext) => {
    const h = hands();
    const [inside, looked] = [gate(), gate()];
    const engine = h.engine(
      job(async ({ step }) => {
        void step.run('slow', () => inside.promise);
        await step.waitForEvent('go', { schema: schema(() => looked.promise) });
        if (isNext) await step.run('next', () => 1);
        await step.waitForEvent('more');
      }),
    );
    await engine.start('job', 'p', { id: 'r' });
    await engine.dispatch('go');
    await settle();
    inside.open();
    await settle();
    looked.open();
    await settle();
    expect(stateWith(engine, 'event-taken')).toMatchObject({ status: 'running', slot: 'default' });
    expect(h.row('r')!.status).toBe('waiting');
    await soon(engine.close());
  });

  it('F5, Q2: an interrupted handler that is to hear of an outcome is at work, also beside another attempt', async () => {
    const inside = gate();
    const { h, engine } = await crashed((isFirst) =>
      job(
        ({ step }) => {
          void step.waitForEvent('go', { match: () => false });
          return Promise.all([
            step.run('fails', async ({ attempt }) => {
              await (isFirst ? never() : inside.promise);
              if (attempt < 3) throw new Error('not yet');
            }),
            step.run('a', () => (isFirst ? never() : inside.promise.then(() => settle(1)))),
          ]);
        },
        { retry: { initialDelay: 0 } },
      ),
    );
    const held = gate();
    engine.own.onCommit = async (batch, pass) => {
      if (batch.run) await held.promise;
      return pass();
    };
    await engine.dispatch('go');
    await settle();
    inside.open(); // while a commit is under way: the next round hears of both
    await settle();
    held.open();
    await settle();
    const both = ofRun(engine).find((batch) => /attempt-failed,step-completed/.test(`${kindsOf(batch)}`));
    expect(both!.run!.state).toMatchObject({ status: 'running', slot: 'default' });
    expect(h.row('r')!.status).toBe('completed');
    await soon(engine.close());
  });

  it('F5, Q2: one whose step backs off is not', async () => {
    const { engine } = await crashed((isFirst) =>
      job(({ step }) => step.run('a', () => (isFirst ? never() : Promise.reject(new Error('not yet')))), {
        retry: fixed,
      }),
    );
    expect(stateWith(engine, 'attempt-failed')).toMatchObject({ status: 'retrying' });
    expect(stateWith(engine, 'attempt-failed')!.slot).toBeUndefined();
    await soon(engine.close());
  });

  it.each([
    ['attempt-failed', true],
    ['step-completed', false],
  ] as const)('R8, Q2: nor does it give up its slot whose end the next round records, behind %s', async (kind, fails) => {
    const inside = gate();
    const { h, engine } = await crashed((isFirst) =>
      job(({ step }) => {
        const slow = async () => {
          await (isFirst ? never() : inside.promise);
          if (fails) throw new Error('not yet');
        };
        void step.waitForEvent('go');
        if (isFirst) return step.run('slow', slow);
        void step.run('slow', slow);
        return 'early';
      }),
    );
    inside.open();
    await settle();
    expect(stateWith(engine, kind)).toMatchObject({ status: 'running', slot: 'default' });
    expect(h.row('r')!.status).toBe('completed');
    await soon(engine.close());
  });

  it('D8, Q2: one that waits is not, though a number is counted with that for what has ended', async () => {
    const h = hands();
    const engine = h.engine(
      job(async ({ step }) => {
        await step.run('a', ({ state }) => void state.increment('n').catch(() => undefined));
        await step.waitForEvent('go');
      }),
    );
    await engine.start('job', 'p', { id: 'r' });
    await settle();
    expect(ofRun(engine).map((batch) => kindsOf(batch))[1]).toEqual([
      'step-completed',
      'wait-set',
      'state-incremented',
    ]);
    expect(stateWith(engine, 'wait-set')).toMatchObject({ status: 'waiting' });
    expect(h.row('r')!.slot).toBeUndefined();
    await soon(engine.close());
  });

  it('R11, O6: one that begins anew is, and is of the later version at once', async () => {
    const h = await left(({ step }) => step.waitForEvent('go'));
    const second = h.engine(job(({ step }) => step.waitForEvent('anew'), { version: 2, upgrade: 'restart' }));
    await second.ready();
    await settle();
    expect(ofRun(second)[0]!.run).toMatchObject({ reset: true, state: { status: 'running', version: 2, dueAt: 0 } });
    await soon(second.close());
  });
});

describe('what is not entered', () => {
  it('R12: what is asked for in reaction to the last outcome that a run may have', async () => {
    const h = hands();
    const log: string[] = [];
    const inside = gate();
    const engine = h.engine(
      job(({ step }) =>
        Promise.all([
          step.run('a', () => inside.promise).then(() => step.run('next', () => void log.push('entered'))),
          step.run('b', () => inside.promise),
        ]),
      ),
      { maxOutcomes: 1 },
    );
    await engine.start('job', 'p', { id: 'r' });
    await settle();
    inside.open();
    await settle();
    expect([log, h.row('r')!.status]).toEqual([[], 'failed']);
    await soon(engine.close());
  });

  it('F8: a handler whose run is out of time when it is taken up', async () => {
    const h = hands();
    const log: string[] = [];
    const define = job(
      ({ step }) => {
        log.push('called');
        return step.waitForEvent('go');
      },
      { timeout: '1m' },
    );
    const first = h.engine(define);
    await first.start('job', 'p', { id: 'r' });
    await settle();
    await soon(first.close());
    h.jump(60_000);
    const second = h.engine(define);
    await second.ready();
    await settle();
    expect([log, await second.runs.get('r')]).toMatchObject([['called'], { error: codeOf('RUN_TIMEOUT') }]);
    await soon(second.close());
  });

  it('F5: nothing is asked of the store about a run that rests, though its answer comes late', async () => {
    const h = hands();
    const engine = h.engine(job(({ step }) => step.waitForEvent('go')));
    engine.own.onCommit = async (batch, pass) => {
      const outcome = await pass();
      if (kindsOf(batch).includes('wait-set')) h.jump(60_000);
      return outcome;
    };
    await engine.start('job', 'p', { id: 'r' });
    await settle();
    expect(ofRun(engine).map((batch) => kindsOf(batch))).toEqual([['claimed', 'wait-set']]);
    await soon(engine.close());
  });
});
