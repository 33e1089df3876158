import { describe, expect, it } from 'vitest';
import { defineJob, FatalError, type Stepfast, type StepfastError } from '../src/index.js';
import type { DueRun } from '../src/store/store.js';
import { away, codeOf, gate, hands, kindsOf, never, settle, soon, unfit, type World } from './hand-kit.js';

// Pins: whose run it is that is found (spec O1, F5), and what becomes of runs whose code, parent or store is gone (F9, O6, S8).

const statuses = (h: World, ...ids: string[]) => ids.map((id) => h.row(id)!.status);

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
