import { describe, expect, it } from 'vitest';
import { type Stepfast, StepfastError } from '../src/index.js';
import type { SharedOutcome, SharedWork } from '../src/store/store.js';
import { codeOf, type HandStore, hands, settle, soon } from './hand-kit.js';

// Pins: `step.transaction` over a store that shares its database with the app, in the hands of the test: rows of the app and
// the outcome of the step are there together or not at all.

type World = ReturnType<typeof hands>;
type OnShare = (pass: () => Promise<SharedOutcome>) => Promise<SharedOutcome>;

/** A memory store with rows of the app beside it. */
function sharing(h: World, onShare: { call: OnShare } = { call: (pass) => pass() }) {
  const store: HandStore = h.store();
  const rows: unknown[] = [];
  const scopes: unknown[] = [];
  store.transact = async <Value>(work: SharedWork<Value>): Promise<SharedOutcome> => {
    scopes.push(work.scope);
    return onShare.call(async () => {
      const written: unknown[] = [];
      try {
        const value = await work.body({ put: (row: unknown) => written.push(row) } as never);
        const outcome = await store.commit(work.batchOf(value));
        if (outcome.kind === 'committed') rows.push(...written);
        return outcome;
      } catch (error) {
        return { kind: 'threw', error };
      }
    });
  };
  return { store, rows, scopes };
}
const put = (row: unknown) => (tx: unknown) => (tx as { put(row: unknown): void }).put(row);
const puts = (value: unknown) => (tx: unknown) => {
  put('row')(tx);
  return value;
};
const job =
  (log: string[], body: (tx: unknown, log: string[]) => unknown = put('row')) =>
  (stepfast: Stepfast) =>
    stepfast.job('job', { retry: { maxAttempts: 2, initialDelay: '1s', jitter: false } }, async ({ step }) => {
      const value = await step.transaction('save', ['rows'], (tx) => body(tx, log));
      log.push('told');
      return value;
    });

describe('a transaction', () => {
  it('is one commit with its outcome, at the fence of its run, which goes on with what it returned', async () => {
    const h = hands();
    const log: string[] = [];
    const { store, rows, scopes } = sharing(h);
    const engine = h.engine(job(log, puts(new Date(5))), { store });
    const run = await engine.start('job', undefined, { id: 'r' });
    expect(await soon(run.result())).toEqual(new Date(5));
    expect([rows, scopes, log]).toEqual([['row'], [['rows']], ['told']]);
    expect(h.kinds('r')).toEqual(['started', 'claimed', 'step-completed', 'completed']);
    expect(h.journal('r')[2]).toMatchObject({ id: ['save', 1], attempt: 1, word: 'transaction', at: h.clock.now() });
    expect(h.row('r')).toMatchObject({ fence: 1, length: 4 });
    await soon(engine.close());
  });

  it('that throws leaves nothing, and is an attempt that failed', async () => {
    const h = hands();
    const log: string[] = [];
    const { store, rows } = sharing(h);
    const body = (tx: unknown) => {
      put('row')(tx);
      log.push('tried');
      if (log.length === 1) throw new Error('not yet');
      return 'done';
    };
    const engine = h.engine(job(log, body), { store });
    const run = await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect([rows, h.kinds('r').at(-1)]).toEqual([[], 'attempt-failed']);
    expect(h.journal('r').at(-1)).toMatchObject({ word: 'transaction', attempt: 1, error: { message: 'not yet' } });
    await h.advance(1_000);
    expect([await soon(run.result()), rows, log]).toEqual(['done', ['row'], ['tried', 'tried', 'told']]);
    await soon(engine.close());
  });

  it('whose value can not be kept leaves nothing, and says what it was', async () => {
    const h = hands();
    const { store, rows } = sharing(h);
    const engine = h.engine(
      job(
        [],
        puts(() => 1),
      ),
      { store },
    );
    const run = await engine.start('job', undefined, { id: 'r' });
    await expect(soon(run.result())).rejects.toThrow(/what transaction "save" returned/);
    expect(rows).toEqual([]);
    await soon(engine.close());
  });

  it('of a run that another has taken leaves nothing, and the run is left', async () => {
    const h = hands();
    const log: string[] = [];
    const other = h.engine();
    const shared = sharing(h, {
      call: async (pass) => {
        h.lostHints();
        await other.runs.cancel('r');
        return pass();
      },
    });
    const engine = h.engine(job(log), { store: shared.store });
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect([shared.rows, log, h.kinds('r')]).toEqual([[], [], ['started', 'claimed', 'cancelled']]);
    await soon(engine.close());
  });

  it('of a run that another has cancelled is not the end of it: what it has done before is undone here, at once', async () => {
    const h = hands();
    const log: string[] = [];
    const other = h.engine();
    const shared = sharing(h, {
      call: async (pass) => {
        h.lostHints();
        await other.runs.cancel('r');
        return pass();
      },
    });
    const engine = h.engine(
      (stepfast) =>
        stepfast.job('job', async ({ step }) => {
          await step.run('a', () => 1, { undo: () => void log.push('undo a') });
          await step.transaction('save', ['rows'], put('row'));
        }),
      { store: shared.store },
    );
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect([shared.rows, log]).toEqual([[], ['undo a']]);
    await soon(engine.close());
  });

  it('is not done again where a commit behind it is not taken', async () => {
    const h = hands();
    const log: string[] = [];
    const { store, rows } = sharing(h);
    const engine = h.engine(
      (stepfast) =>
        stepfast.job('job', { retry: { maxAttempts: 2, initialDelay: '1s', jitter: false } }, async ({ step }) => {
          const value = await step.transaction('save', ['rows'], puts('saved'));
          await step.run('wants', ({ attempt, state }) => {
            log.push(`${value} ${attempt}`);
            if (attempt === 1) void state.increment('text');
          });
          return value;
        }),
      { store },
    );
    await engine.state.set('text', 'no number');
    const run = await engine.start('job', undefined, { id: 'r' });
    await settle();
    await h.advance(1_000);
    expect([await soon(run.result()), rows, log]).toEqual(['saved', ['row'], ['saved 1', 'saved 2']]);
    await soon(engine.close());
  });

  it('R9: is over for the platform when it has ended, however it did', async () => {
    const h = hands();
    const { store } = sharing(h);
    let inside = 0;
    const over = {
      inStep<T>(fn: () => T): T {
        inside++;
        return fn();
      },
      leaveStep: () => void inside--,
    };
    let tries = 0;
    const body = () => {
      if (++tries === 1) throw new Error('not yet');
      return inside;
    };
    const engine = h.engine(job([], body), { store }, over);
    const run = await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect([tries, inside]).toEqual([1, 0]);
    await h.advance(1_000);
    expect([await soon(run.result()), inside]).toEqual([1, 0]);
    await soon(engine.close());
  });

  it('of object stores that are not there is a fault of the code: the run waits for other code', async () => {
    const h = hands();
    const { store } = sharing(h, {
      call: async () => {
        throw new StepfastError('INVALID_OPTION', 'No object store "rows".');
      },
    });
    const engine = h.engine(job([]), { store });
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect(await engine.runs.get('r')).toMatchObject({
      status: 'blocked',
      error: { code: 'INVALID_OPTION', step: 'save' },
    });
    expect(h.errors).toEqual([
      expect.objectContaining({ code: 'INVALID_OPTION', runId: 'r', job: 'job', step: 'save' }),
    ]);
    await soon(engine.close());
  });

  it('that its function has ended without the journal is not entered again: the step has failed', async () => {
    const h = hands();
    const log: string[] = [];
    const shared = sharing(h, {
      call: async () => {
        log.push('entered');
        throw new StepfastError('TRANSACTION_ENDED', 'Committed by the function.');
      },
    });
    const engine = h.engine(job(log), { store: shared.store });
    const run = await engine.start('job', undefined, { id: 'r' });
    await expect(soon(run.result())).rejects.toMatchObject({ code: 'STEP_FAILED', cause: codeOf('TRANSACTION_ENDED') });
    await h.impatient();
    await h.advance(3_600_000);
    expect([log, h.errors, h.kinds('r')]).toEqual([['entered'], [], ['started', 'claimed', 'step-failed', 'failed']]);
    await soon(engine.close());
  });

  it('whose store fails is tried again as any commit is, and is done once where only its answer was lost', async () => {
    for (const isDone of [false, true]) {
      const h = hands();
      const log: string[] = [];
      let isLost = false;
      const shared = sharing(h, {
        call: async (pass) => {
          if (isLost) return pass();
          isLost = true;
          if (isDone) await pass();
          throw new StepfastError('STORE_UNAVAILABLE', 'Away.');
        },
      });
      const engine = h.engine(job(log, puts('done')), { store: shared.store });
      const run = await engine.start('job', undefined, { id: 'r' });
      await settle();
      expect(h.errors).toEqual([codeOf('STORE_UNAVAILABLE')]);
      await h.impatient(1_000);
      expect([await soon(run.result()), shared.rows, log]).toEqual(['done', ['row'], ['told']]);
      await soon(engine.close());
    }
  });

  it('takes nothing from who listens: its end is seen, and events that come with it are heard', async () => {
    const h = hands();
    const { store } = sharing(h);
    const committed: string[] = [];
    const plugin = {
      name: 'p',
      committed: ({ entries }: { entries: readonly { kind: string }[] }) =>
        void committed.push(...entries.map(({ kind }) => kind)),
    };
    const engine = h.engine(
      (stepfast) =>
        stepfast.job('job', async ({ step }) => {
          const event = step.waitForEvent('go');
          await step.transaction('save', ['rows'], put('row'));
          return (await event).payload;
        }),
      { store, use: [plugin as never] },
    );
    const run = await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect(committed.filter((kind) => kind === 'step-completed')).toHaveLength(1);
    expect(h.kinds('r').length).toBe(h.row('r')!.length);
    await engine.dispatch('go', 'came');
    expect(await soon(run.result())).toBe('came');
    await soon(engine.close());
  });
});
