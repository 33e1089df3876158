import { describe, expect, it } from 'vitest';
import { FatalError, type Stepfast, StepfastError } from '../src/index.js';
import type { Batch, CommitOutcome } from '../src/store/batch.js';
import { codeOf, gate, hands, kindsOf, never, settle, soon } from './hand-kit.js';

// Pins: runs commanded from outside (spec F6, F9, Q1, Q6): what each command writes, of whom it asks, and what it says where
// it can not be done.

const fatal = () => {
  throw new FatalError('no way');
};

describe('cancel', () => {
  it('F9: ends a run for good, whoever drives it, and once', async () => {
    const h = hands();
    const engine = h.engine((stepfast) => stepfast.job('job', ({ step }) => step.run('a', never)));
    const run = await engine.start('job', undefined, { id: 'r' });
    await settle();
    const before = h.row('r')!;
    h.jump(500);
    await run.cancel();
    expect(h.row('r')).toMatchObject({
      ...{ status: 'cancelled', endedAt: h.clock.now(), version: 1, startedAt: before.startedAt, waits: [] },
      ...{ fence: before.fence + 1 },
    });
    expect(h.journal('r').at(-1)).toEqual({ kind: 'cancelled', at: h.clock.now() });
    const commits = engine.own.batches.length;
    await engine.runs.cancel('r');
    expect(engine.own.batches.length).toBe(commits);
    await expect(engine.runs.cancel('none')).rejects.toMatchObject({ code: 'RUN_NOT_FOUND', runId: 'none' });
    await soon(engine.close());
  });

  it('F9: of a run that has ended meanwhile changes nothing; a store that fails is told', async () => {
    const h = hands();
    const engine = h.engine((stepfast) => stepfast.job('job', ({ step }) => step.waitForEvent('go')));
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    const other = h.engine();
    engine.own.onCommit = async (batch, pass) => {
      if (kindsOf(batch).includes('cancelled')) await other.runs.cancel('r');
      return pass();
    };
    await engine.runs.cancel('r');
    expect(h.kinds('r').filter((kind) => kind === 'cancelled')).toHaveLength(1);
    engine.own.onCommit = async () => {
      throw new StepfastError('STORE_UNAVAILABLE', 'Away.');
    };
    await engine.start('job').catch(() => undefined);
    await h
      .engine((stepfast) => stepfast.job('job', ({ step }) => step.waitForEvent('go')))
      .start('job', undefined, { id: 's' });
    await expect(engine.runs.cancel('s')).rejects.toEqual(codeOf('STORE_UNAVAILABLE'));
    engine.own.onCommit = undefined;
    await soon(engine.close());
  });
});

describe('retry', () => {
  const failing = (log: string[], more: (stepfast: Stepfast) => unknown = () => undefined) => {
    const h = hands();
    const broken = { is: true };
    const engine = h.engine((stepfast) => {
      stepfast.job('job', async ({ step }) => {
        await step.run('a', () => void log.push('a'));
        await step.run('b', () => {
          log.push('b');
          if (broken.is) fatal();
        });
        await step.run('c', () => void log.push('c'));
      });
      more(stepfast);
    });
    return { h, engine, broken };
  };

  it('F6: takes a failed run up again: what was completed is kept, what has failed is tried anew', async () => {
    const log: string[] = [];
    const { h, engine, broken } = failing(log);
    const run = await engine.start('job', undefined, { id: 'r' });
    await settle();
    const before = h.row('r')!;
    expect(before.status).toBe('failed');
    broken.is = false;
    h.jump(500);
    const held = gate();
    engine.own.onCommit = async (batch, pass) => {
      if (batch.run?.state?.status === 'running') await held.promise;
      return pass();
    };
    await run.retry();
    expect(h.row('r')).toMatchObject({
      status: 'queued',
      dueAt: h.clock.now(),
      fence: before.fence + 1,
      startedAt: before.startedAt,
    });
    expect(h.row('r')).not.toHaveProperty('endedAt');
    expect(h.row('r')).not.toHaveProperty('undoable');
    expect(h.journal('r').at(-1)).toEqual({ kind: 'retried', at: h.clock.now(), forgets: [['step', 'b', 1]] });
    held.open();
    await settle();
    expect([log, h.row('r')!.status]).toEqual([['a', 'b', 'b', 'c'], 'completed']);
    await soon(engine.close());
  });

  it('F6: with from, that step and all that came after it is done again, each forgotten once', async () => {
    const log: string[] = [];
    const { h, engine, broken } = failing(log);
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    broken.is = false;
    await engine.runs.retry('r', { from: 'a' });
    expect(h.journal('r').find(({ kind }) => kind === 'retried')).toMatchObject({
      forgets: [
        ['step', 'a', 1],
        ['step', 'b', 1],
      ],
    });
    await settle();
    expect(log).toEqual(['a', 'b', 'a', 'b', 'c']);
    await soon(engine.close());
  });

  it('F6: with from, a failure before it is forgotten as well, for the run could not come to it', async () => {
    const h = hands();
    const log: string[] = [];
    let isBad = true;
    const engine = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        const one = step.run('one', () => {
          log.push('one');
          if (isBad) fatal();
        });
        await step.run('two', () => void log.push('two'));
        await one;
      }),
    );
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    isBad = false;
    await engine.runs.retry('r', { from: 'two' });
    await settle();
    const forgets = h.journal('r').flatMap((entry) => (entry.kind === 'retried' ? entry.forgets : []));
    expect(forgets.map(([, name]) => name).sort()).toEqual(['one', 'two']);
    expect([log, h.row('r')!.status]).toEqual([['one', 'two', 'one', 'two'], 'completed']);
    await soon(engine.close());
  });

  it('F6: is refused for one that has not failed, or whose steps are being undone; a bad option is quoted', async () => {
    const h = hands();
    const undoing = gate();
    const engine = h.engine((stepfast) => {
      stepfast.job('waits', ({ step }) => step.waitForEvent('go'));
      stepfast.job('undone', async ({ step }) => {
        await step.run('a', () => 1, { undo: () => undoing.promise });
        await step.run('b', fatal);
      });
    });
    const waits = await engine.start('waits', undefined, { id: 'w' });
    await engine.start('undone', undefined, { id: 'u' });
    await settle();
    await expect(waits.retry()).rejects.toMatchObject({ code: 'RUN_NOT_FAILED', runId: 'w' });
    await expect(waits.retry()).rejects.toThrow('waiting');
    await expect(engine.runs.retry('u')).rejects.toMatchObject({ code: 'RUN_ACTIVE', runId: 'u' });
    await expect(engine.runs.retry('u')).rejects.toThrow(/failed.*retried.*undone/);
    await expect(engine.runs.retry('none')).rejects.toEqual(codeOf('RUN_NOT_FOUND'));
    await expect(engine.runs.retry('u', { form: 'a' } as never)).rejects.toThrow(/retry.*form|form.*retry/);
    undoing.open();
    await settle();
    await expect(engine.runs.retry('u', { from: 'x' })).rejects.toEqual(codeOf('INVALID_OPTION'));
    await expect(engine.runs.retry('u', { from: 'x' })).rejects.toThrow(/from.*"x".*run u/);
    expect(h.kinds('u')).not.toContain('retried');
    await engine.runs.retry('u');
    expect(h.kinds('u')).toContain('retried');
    await soon(engine.close());
  });

  it('F6, F7: what follows an end and is no undo, as telling of it, does not keep a run from being taken up', async () => {
    const h = hands();
    const engine = h.engine((stepfast) => stepfast.job('job', { onFailed: never }, ({ step }) => step.run('a', fatal)));
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect(h.row('r')).toMatchObject({ status: 'failed', undoing: true });
    await engine.runs.retry('r');
    expect(h.kinds('r')).toContain('retried');
    await soon(engine.close());
  });

  it('F7: a step whose undo was given up is still done: should the run be cancelled, it is undone', async () => {
    const h = hands();
    const log: string[] = [];
    let isBad = true;
    const engine = h.engine((stepfast) =>
      stepfast.job('job', async ({ step }) => {
        await step.run('a', () => 1, {
          undo: () => {
            log.push('undo a');
            if (isBad) fatal();
          },
        });
        await step.run('b', () => (isBad ? fatal() : never()));
      }),
    );
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    expect([log, h.row('r')!.undoing]).toEqual([['undo a'], undefined]);
    isBad = false;
    const held = gate();
    engine.own.onCommit = async (batch, pass) => {
      if (batch.run?.state?.status === 'running') await held.promise;
      return pass();
    };
    await engine.runs.retry('r');
    expect(h.row('r')).toMatchObject({ status: 'queued', undoable: true });
    await engine.runs.cancel('r');
    held.open();
    await settle();
    expect([log, h.row('r')!.status]).toEqual([['undo a', 'undo a'], 'cancelled']);
    await soon(engine.close());
  });

  it('F6, E12: a call whose child has been taken up again awaits that child once more; one that is over is called anew', async () => {
    for (const fate of ['goes on', 'completed', 'failed', 'deleted'] as const) {
      const h = hands();
      let isBad = true;
      const open = gate();
      const engine = h.engine((stepfast) => {
        stepfast.job('child', async ({ step }) => {
          await step.run('c', () => (isBad ? fatal() : open.promise));
          return 'child';
        });
        stepfast.job('parent', ({ step }) => step.call('child'));
      });
      await engine.start('parent', undefined, { id: 'p' });
      await settle();
      const [child] = (await engine.runs.list({ job: 'child' })).runs;
      isBad = fate === 'failed';
      if (fate === 'deleted') await engine.runs.delete(child!.id);
      else if (fate !== 'failed') await engine.runs.retry(child!.id);
      if (fate === 'completed') open.open();
      await settle();
      await engine.runs.retry('p');
      isBad = false;
      open.open();
      await settle();
      expect([fate, h.row('p')!.status]).toEqual([fate, 'completed']);
      const retried = h.journal('p').find(({ kind }) => kind === 'retried')!;
      const isBack = fate === 'goes on' || fate === 'completed';
      expect([fate, 'rejoins' in retried]).toEqual([fate, isBack]);
      expect((await engine.runs.list({ job: 'child' })).runs).toHaveLength(isBack || fate === 'deleted' ? 1 : 2);
      await soon(engine.close());
    }
  });

  it('Q2: a run of a singleton is not taken up while another is active, whose key it then holds again', async () => {
    const h = hands();
    let isBad = true;
    const singleton = { name: 'q', singleton: true } as const;
    const engine = h.engine((stepfast) =>
      stepfast.job('job', { queue: singleton }, ({ step }) => step.run('a', () => (isBad ? fatal() : never()))),
    );
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    isBad = false;
    await engine.start('job', undefined, { id: 's' });
    await settle();
    const refused = engine.runs.retry('r');
    await expect(refused).rejects.toMatchObject({ code: 'RUN_ACTIVE', runId: 'r' });
    await expect(engine.runs.retry('r')).rejects.toThrow(/retried.*[Aa]nother run/);
    expect(h.kinds('r')).not.toContain('retried');
    await engine.runs.cancel('s');
    await engine.runs.retry('r');
    await settle();
    expect(h.row('r')).toMatchObject({ status: 'running', unique: { until: 'end' } });
    expect(await engine.start('job', undefined, { id: 't' })).toMatchObject({ id: 'r', created: false });
    await soon(engine.close());
  });

  it('F6: one that another was faster with is done once, in silence', async () => {
    const h = hands();
    const log: string[] = [];
    const { h: world, engine, broken } = failing(log);
    void h;
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    broken.is = false;
    const other = world.engine();
    engine.own.onCommit = async (batch, pass) => {
      if (kindsOf(batch).includes('retried')) await other.runs.retry('r');
      return pass();
    };
    await engine.runs.retry('r');
    await settle();
    expect(world.kinds('r').filter((kind) => kind === 'retried')).toHaveLength(1);
    expect(world.row('r')!.status).toBe('completed');
    await soon(engine.close());
  });
});

describe('fork', () => {
  const two =
    (log: string[], more: object = {}) =>
    (stepfast: Stepfast) =>
      stepfast.job<string>('job', more, async ({ payload, step }) => {
        await step.run('a', () => void log.push(`a ${payload}`), { undo: () => void log.push('undo a') });
        await step.run('b', () => void log.push(`b ${payload}`));
        await step.waitForEvent('go');
      });

  it('F6: starts a run of the same job, version, queue, tags and priority, which has what came before the step', async () => {
    const h = hands();
    const log: string[] = [];
    const engine = h.engine(two(log, { version: 3 }));
    await engine.start('job', 'p', { id: 'r', tags: ['t'], priority: 5, queue: 'q' });
    await settle();
    const before = h.row('r');
    const handle = await engine.runs.fork('r', { before: 'b' });
    await settle();
    expect([handle.created, handle.id === 'r', await handle.status()]).toEqual([true, false, 'waiting']);
    expect(h.row(handle.id)).toMatchObject({ job: 'job', version: 3, queue: 'q', tags: ['t'], priority: 5 });
    expect(log).toEqual(['a p', 'b p', 'b p']);
    expect(h.row('r')).toEqual(before);
    const plain = await engine.start('job', 'x', { id: 's' });
    await settle();
    await plain.cancel();
    await settle();
    const other = await engine.runs.fork('s', { before: 'b', payload: 'new' });
    await settle();
    expect(h.row(other.id)).not.toHaveProperty('tags');
    expect(h.row(other.id)).not.toHaveProperty('priority');
    expect(log.slice(3)).toEqual(['a x', 'b x', 'undo a', 'a new', 'b new']);
    await soon(engine.close());
  });

  it('F6: is refused where something of the run is under way, or there is no such step; options are checked', async () => {
    const h = hands();
    const undoing = gate();
    const engine = h.engine((stepfast) => {
      stepfast.job('works', ({ step }) => step.run('a', never));
      stepfast.job('undone', async ({ step }) => {
        await step.run('a', () => 1, { undo: () => undoing.promise });
        await step.run('b', fatal);
      });
      stepfast.job('sleeps', ({ step }) => step.sleep('s', '1h'));
      stepfast.job('retries', ({ step }) => step.run('a', () => Promise.reject(new Error('not yet'))));
    });
    for (const job of ['works', 'undone', 'sleeps', 'retries']) await engine.start(job, undefined, { id: job });
    await settle();
    for (const runId of ['works', 'undone']) {
      await expect(engine.runs.fork(runId, { before: 'a' })).rejects.toMatchObject({ code: 'RUN_ACTIVE', runId });
      await expect(engine.runs.fork(runId, { before: 'a' })).rejects.toThrow(/forked.*waits for something/);
    }
    expect((await engine.runs.fork('sleeps', { before: 's' })).created).toBe(true);
    expect((await engine.runs.fork('retries', { before: 'a' })).created).toBe(true);
    await expect(engine.runs.fork('sleeps', { before: 'x' })).rejects.toThrow(/before.*"x".*run sleeps/);
    await expect(engine.runs.fork('none', { before: 'x' })).rejects.toEqual(codeOf('RUN_NOT_FOUND'));
    await expect(engine.runs.fork('sleeps', { after: 'x' } as never)).rejects.toThrow(/fork.*after|after.*fork/);
    await expect(engine.runs.fork('sleeps', undefined as never)).rejects.toThrow('before is undefined');
    undoing.open();
    await settle();
    expect((await engine.runs.fork('undone', { before: 'b' })).created).toBe(true);
    await soon(engine.close());
  });

  it('F6, R5: a run that can not go on here can be forked', async () => {
    const h = hands();
    const first = h.engine();
    await first.start('job', 'p', { id: 'r', allowUnregistered: true });
    const waits = h.engine((stepfast) => stepfast.job('job', ({ step }) => step.run('a', never)));
    await waits.ready();
    await settle();
    waits.own.abandon!();
    const engine = h.engine((stepfast) => stepfast.job('job', { version: 2, upgrade: 'block' }, () => 1));
    await engine.ready();
    await settle();
    expect((await engine.runs.get('r'))!.status).toBe('blocked');
    expect(h.row('r')!.status).toBe('queued');
    await expect(engine.runs.fork('r', { before: 'a' })).rejects.toThrow('recorded');
    await soon(engine.close());
  });

  it('F7: what it was given is undone should it be cancelled before anybody has claimed it; one that was given nothing has nothing', async () => {
    const h = hands();
    const log: string[] = [];
    const engine = h.engine(two(log));
    await engine.start('job', 'p', { id: 'r' });
    await settle();
    const other = h.engine();
    await soon(engine.close());
    const fork = await other.runs.fork('r', { before: 'b' });
    const at = h.clock.now();
    expect(h.row(fork.id)).toMatchObject({ status: 'queued', undoable: true, dueAt: at, waits: [], version: 1 });
    const none = await other.runs.fork('r', { before: 'a' });
    expect(h.row(none.id)).not.toHaveProperty('undoable');
    expect(h.row(none.id)).toMatchObject({ status: 'queued', dueAt: at });
    await fork.cancel();
    const next = h.engine(two(log));
    await next.ready();
    await settle();
    expect([...log].sort()).toEqual(['a p', 'a p', 'b p', 'b p', 'undo a']);
    await soon(next.close());
  });

  it('Q2: a run of a singleton is not forked while another is active; a store that refuses is told', async () => {
    const h = hands();
    const engine = h.engine((stepfast) =>
      stepfast.job('job', { queue: { name: 'q', singleton: true } }, async ({ step }) => {
        await step.run('a', () => 1);
        await step.waitForEvent('go');
      }),
    );
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    await expect(engine.runs.fork('r', { before: 'a' })).rejects.toMatchObject({ code: 'RUN_ACTIVE' });
    await expect(engine.runs.fork('r', { before: 'a' })).rejects.toThrow(/forked.*[Aa]nother run/);
    await engine.runs.cancel('r');
    const fork = await engine.runs.fork('r', { before: 'a' });
    expect(h.row(fork.id)).toMatchObject({ unique: { until: 'end' } });
    await engine.runs.cancel(fork.id);
    engine.own.onCommit = async () => ({ kind: 'fenced', fence: 1 });
    await expect(engine.runs.fork('r', { before: 'a' })).rejects.toBeInstanceOf(StepfastError);
    engine.own.onCommit = undefined;
    await soon(engine.close());
  });
});

describe('delete', () => {
  it('Q6: takes a run that has ended away, for good; of one that is not there there is nothing to do', async () => {
    const h = hands();
    const engine = h.engine((stepfast) => stepfast.job('job', () => 'done'));
    await engine.start('job', 'p', { id: 'r' });
    await settle();
    await engine.runs.delete('r');
    expect([h.row('r'), await engine.runs.get('r')]).toEqual([undefined, undefined]);
    const commits = engine.own.batches.length;
    await engine.runs.delete('r');
    expect(engine.own.batches.length).toBe(commits);
    // Its id is remembered, with what it was given.
    expect(await engine.start('job', 'p', { id: 'r' })).toMatchObject({ id: 'r', created: false });
    await expect(engine.start('job', 'other', { id: 'r' })).rejects.toEqual(codeOf('IDEMPOTENCY_CONFLICT'));
    await soon(engine.close());
  });

  it('Q6, F7: is refused for one that is active, whose steps are being undone, or whose end somebody has yet to read', async () => {
    const h = hands();
    const engine = h.engine((stepfast) => {
      stepfast.job('waits', ({ step }) => step.waitForEvent('go'));
      stepfast.job('undone', async ({ step }) => {
        await step.run('a', () => 1, { undo: never });
        await step.run('b', fatal);
      });
      stepfast.job('child', () => 'child');
    });
    for (const job of ['waits', 'undone']) await engine.start(job, undefined, { id: job });
    await settle();
    for (const [runId, advice] of [
      ['waits', /deleted.*Cancel it, or wait until it has ended/],
      ['undone', /is failed.*deleted\. Wait until its steps are undone/],
    ] as const) {
      await expect(engine.runs.delete(runId)).rejects.toMatchObject({ code: 'RUN_ACTIVE', runId });
      await expect(engine.runs.delete(runId)).rejects.toThrow(advice);
    }
    await soon(engine.close());
    const parents = h.engine((stepfast) => {
      stepfast.job('child', () => 'child');
      stepfast.job('parent', ({ step }) => step.call('child'));
    });
    parents.own.onCommit = async (batch, pass) => {
      if (kindsOf(batch).includes('child-completed')) throw new StepfastError('STORE_UNAVAILABLE', 'Away.');
      return pass();
    };
    await parents.start('parent', undefined, { id: 'p' });
    await settle();
    const [child] = (await parents.runs.list({ job: 'child' })).runs;
    expect(child!.status).toBe('completed');
    await expect(parents.runs.delete(child!.id)).rejects.toMatchObject({ code: 'RUN_ACTIVE', runId: child!.id });
    await expect(parents.runs.delete(child!.id)).rejects.toThrow(/deleted.*has not read it/);
    await soon(parents.close());
  });

  it('Q6: one that is taken up while it is deleted stays; one that was changed and has ended again goes', async () => {
    const h = hands();
    const engine = h.engine((stepfast) =>
      stepfast.job<boolean>('job', ({ payload, step }) => step.run('a', () => (payload ? fatal() : 1))),
    );
    const other = h.engine();
    for (const [id, payload] of [
      ['failed', true],
      ['gone', true],
    ] as const)
      await engine.start('job', payload, { id });
    await settle();
    let asked = 0;
    const deleting = ({ deletes }: Batch) => deletes !== undefined;
    engine.own.onCommit = async (batch, pass) => {
      if (deleting(batch) && ++asked === 1) {
        await other.runs.retry('failed');
        await settle(); // and it fails once more
      }
      return pass();
    };
    await engine.runs.delete('failed');
    expect([asked, h.row('failed')]).toEqual([2, undefined]);
    engine.own.onCommit = async (batch, pass) => {
      if (deleting(batch)) await other.runs.delete('gone');
      return pass();
    };
    await engine.runs.delete('gone');
    expect(h.row('gone')).toBeUndefined();
    engine.own.onCommit = async (batch, pass): Promise<CommitOutcome> =>
      deleting(batch) ? { kind: 'no-slot' } : pass();
    await engine.start('job', false, { id: 's' });
    await settle();
    await expect(engine.runs.delete('s')).rejects.toBeInstanceOf(StepfastError);
    await soon(engine.close());
  });

  it('Q6, F7: one whose steps begin to be undone while it is deleted is refused as such', async () => {
    const h = hands();
    const engine = h.engine((stepfast) => stepfast.job('job', () => 1));
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    engine.own.onCommit = async ({ deletes }, pass) => {
      if (!deletes) return pass();
      const row = h.row('r')!;
      h.medium.tables.apply({
        ...{
          runs: new Map([['r', { row: { ...row, undoing: true }, append: [] }]]),
          events: new Map(),
          drops: new Set(),
        },
        ...{ state: new Map(), deletes: new Set(), clock: { seq: 99 } },
      } as never);
      return pass();
    };
    await expect(engine.runs.delete('r')).rejects.toThrow(/Wait until its steps are undone/);
    await soon(engine.close());
  });
});

describe('a handle', () => {
  it('V1: is all of that for one run', async () => {
    const h = hands();
    const engine = h.engine((stepfast) =>
      stepfast.job<string>('job', async ({ payload, step }) => {
        if (payload === 'bad') await step.run('a', fatal);
        return (await step.waitForEvent('go')).payload;
      }),
    );
    const run = await engine.start('job', 'fine');
    const seen: string[] = [];
    const undo = run.subscribe(({ status }) => void seen.push(status));
    await settle();
    expect([await run.status(), run.created]).toEqual(['waiting', true]);
    await engine.dispatch('go', 'word');
    expect(await soon(run.result())).toBe('word');
    await settle();
    expect([seen[0] !== undefined, seen.at(-1)]).toEqual([true, 'completed']);
    undo();
    const bad = await engine.start('job', 'bad');
    await expect(soon(bad.result())).rejects.toThrow('no way');
    await bad.retry();
    await settle();
    expect(h.kinds(bad.id)).toContain('retried');
    await bad.retry();
    const again = await engine.start('job', 'other');
    await again.cancel();
    expect(await again.status()).toBe('cancelled');
    await expect(engine.runs.export('r')).rejects.toThrow(/runs\.export.*stepfast\/transfer/);
    await expect(engine.runs.import({} as never)).rejects.toThrow(/runs\.import.*stepfast\/transfer/);
    await soon(engine.close());
  });
});
