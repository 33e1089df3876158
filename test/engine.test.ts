import { describe, expect, it } from 'vitest';
import { defineJob, type EngineOptions, FatalError, StepfastError } from '../src/index.js';
import { codeOf, gate, hands, never, settle, soon } from './hand-kit.js';

// Pins: one engine (spec B, O1, O3, O6, D5): what it is made with, how it opens and closes, and what it hears of its store.

const error = (code: ConstructorParameters<typeof StepfastError>[0]) => new StepfastError(code, 'Said by the store.');
const quick = defineJob('job', {}, () => 'done');

describe('an engine is made', () => {
  it('B: with options that fit; what does not is quoted, and the store is free for another', () => {
    const h = hands();
    const store = h.store();
    const wrong: readonly (readonly [object, RegExp])[] = [
      [{ stores: 1 }, /createStepfast.*stores|stores.*createStepfast/],
      [{ onError: 1 }, /onError.*a function/],
      [{ onOutdated: 'x' }, /onOutdated.*a function/],
      [{ replay: 'never' }, /replay.*"resume" or "always"/],
      [{ replay: null }, /replay is null.*"resume" or "always"/],
      [{ store: { ...store, watch: undefined } }, /^store is an object\. Give a store/],
      [{ store: { ...store, capabilities: undefined } }, /^store is an object\. Give a store/],
      [{ maxValueBytes: 0 }, /maxValueBytes/],
      [{ maxOutcomes: 1.5 }, /maxOutcomes/],
      [{ maxRunBytes: -1 }, /maxRunBytes/],
      [{ retry: { maxAttempts: 0 } }, /maxAttempts/],
      [{ use: {} }, /use.*a list of plug-ins/],
    ];
    for (const [options, said] of wrong) {
      expect(() => h.engine(undefined, { store, ...options } as EngineOptions)).toThrow(codeOf('INVALID_OPTION'));
      expect(() => h.engine(undefined, { store, ...options } as EngineOptions)).toThrow(said);
    }
    expect(() => h.engine(undefined, { store, leaseMs: 0 })).toThrow(/leaseMs/);
    expect(() => h.engine(undefined, { store: {} as never })).toThrow(/^store is.*memoryStore\(\)/);
    expect(() => h.engine(undefined, { store }, { clock: {} as never })).toThrow(/^clock is.*leave it out/);
    const setTimer = () => () => undefined;
    expect(() => h.engine(undefined, { store }, { clock: { setTimer } as never })).toThrow(/^clock is.*leave it out/);
    const fine = {
      store,
      replay: 'always',
      leaseMs: 1,
      maxValueBytes: 1,
      maxOutcomes: 1,
      maxRunBytes: 1,
      use: [],
    } as const;
    expect(() => h.engine(undefined, { ...fine, onError: () => 1, onOutdated: () => 1, retry: {} })).not.toThrow();
    expect(() => h.engine(undefined, { store })).toThrow(codeOf('INVALID_OPTION'));
    expect(() => h.engine(undefined, { store })).toThrow(/given to another engine/);
  });

  it('B: whose options were refused, or whose plug-in was, has taken no store', () => {
    const h = hands();
    const store = h.store();
    const broken = new Error('not configured');
    const words = () => {
      throw broken;
    };
    for (const refused of [{ use: [{ name: 'x', words }] }, { use: [{ name: 'x', store: words }] }, { leaseMs: -1 }])
      expect(() => h.engine(undefined, { store, ...refused })).toThrow();
    expect(() => h.engine(undefined, { store })).not.toThrow();
    expect(() => h.engine(undefined, { store, use: [{ name: 'x', words }] })).toThrow(/given to another engine/);
  });

  it('B: with values up to so many bytes', async () => {
    const h = hands();
    const engine = h.engine((stepfast) => stepfast.register(quick), { maxValueBytes: 20 });
    await expect(soon(engine.start(quick, 'x'.repeat(30) as never))).rejects.toEqual(codeOf('VALUE_TOO_LARGE'));
    await soon(engine.start(quick, 'x' as never));
    await soon(engine.close());
  });

  it('B: where nobody wants to hear of errors, the platform does; one that throws breaks nothing', async () => {
    const h = hands();
    const told: unknown[] = [];
    const engine = h.engine(
      (stepfast) => stepfast.register(quick),
      { onError: undefined as never },
      { report: (each) => void told.push(each) },
    );
    engine.own.onDue = () => Promise.reject(error('STORE_UNAVAILABLE'));
    await engine.start(quick);
    await settle();
    expect(told).toEqual([codeOf('STORE_UNAVAILABLE')]);
    await soon(engine.close());
    const other = h.engine((stepfast) => stepfast.register(quick), {
      onError: () => {
        throw new Error('mine');
      },
    });
    other.own.onDue = () => Promise.reject(error('STORE_UNAVAILABLE'));
    await other.start(quick, undefined, { id: 'r' });
    await settle();
    other.own.onDue = undefined;
    await h.impatient();
    expect(h.row('r')!.status).toBe('completed');
    await soon(other.close());
  });
});

describe('jobs', () => {
  it('B: are registered once under a name, unless they are to replace one', async () => {
    const h = hands();
    const engine = h.engine();
    engine.register(quick);
    engine.register(quick); // the same is no other
    const other = defineJob('job', {}, () => 'other');
    expect(() => engine.register(other)).toThrow(expect.objectContaining({ code: 'DUPLICATE_JOB', job: 'job' }));
    expect(() => engine.register(other)).toThrow(/Job "job" is registered already.*replace: true/);
    expect(() => engine.register(other, { replace: 1 } as never)).toThrow(/replace.*true or false/);
    expect(() => engine.register(other, { replaced: true } as never)).toThrow(
      /options of register.*replaced|replaced.*options of register/i,
    );
    expect(() => engine.register({} as never)).toThrow(StepfastError);
    engine.register(other, { replace: true });
    const run = await engine.start(other);
    expect(await soon(run.result())).toBe('other');
    await soon(engine.close());
    expect(() => engine.register(quick)).toThrow(codeOf('CLOSED'));
    expect(() => engine.job('more', () => 1)).toThrow(codeOf('CLOSED'));
  });

  it('R5: that come when the engine is open take up what was left for want of them', async () => {
    const h = hands();
    const engine = h.engine();
    await engine.start('job', undefined, { id: 'r', allowUnregistered: true });
    await settle();
    expect([h.row('r')!.status, engine.own.looks]).toEqual(['queued', 0]);
    engine.register(quick);
    await settle();
    expect(h.row('r')!.status).toBe('completed');
    await soon(engine.close());
  });
});

describe('an engine opens', () => {
  it('O3: its store for driving where it has jobs, for use where it has none, or another process drives', async () => {
    const h = hands();
    const modes: string[] = [];
    const opening = (isLocked: boolean) => async (mode: string) => {
      modes.push(mode);
      if (isLocked && mode === 'drive') throw error('STORE_LOCKED');
    };
    const driver = h.engine((stepfast) => stepfast.register(quick));
    driver.own.onOpen = opening(false);
    await driver.runs.list();
    await settle();
    expect(modes.splice(0)).toEqual(['drive']);
    const user = h.engine();
    user.own.onOpen = opening(false);
    await user.runs.list();
    await settle();
    expect(modes.splice(0)).toEqual(['use']);
    const guest = h.engine((stepfast) => stepfast.register(quick));
    guest.own.onOpen = opening(true);
    await guest.runs.list();
    expect([modes.slice(0, 2), h.errors]).toEqual([['drive', 'use'], []]);
    await expect(soon(guest.ready())).rejects.toEqual(codeOf('STORE_LOCKED'));
    for (const each of [driver, user, guest]) await soon(each.close());
  });

  it('D5: also where nothing can be written, which is told; any other failure is the caller’s, and tried anew', async () => {
    for (const code of ['QUOTA_EXCEEDED', 'STORE_UNAVAILABLE'] as const) {
      const h = hands();
      const engine = h.engine((stepfast) => stepfast.register(quick));
      engine.own.onOpen = async (mode) => {
        if (mode === 'drive') throw error(code);
      };
      expect((await soon(engine.runs.list())).runs).toEqual([]);
      expect(h.errors[0]).toEqual(codeOf(code));
      await soon(engine.close());
    }
    const h = hands();
    const engine = h.engine((stepfast) => stepfast.register(quick));
    engine.own.onOpen = async () => {
      throw error('STORE_CORRUPT');
    };
    await expect(soon(engine.runs.list())).rejects.toEqual(codeOf('STORE_CORRUPT'));
    engine.own.onOpen = undefined;
    const run = await engine.start(quick);
    expect(await soon(run.result())).toBe('done');
    await soon(engine.close());
  });

  it('O6: a store that a newer release writes to is read, and driven no more; the app is told once', async () => {
    const h = hands();
    const told: unknown[] = [];
    const engine = h.engine((stepfast) => stepfast.job('job', ({ step }) => step.run('a', never)), {
      onOutdated: (each) => {
        told.push(each);
        throw new Error('mine');
      },
    });
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    h.medium.minWriter = 999;
    for (let times = 0; times < 2; times++)
      await expect(soon(engine.state.set('k', 1))).rejects.toEqual(codeOf('STORE_TOO_NEW'));
    expect([told, h.errors]).toEqual([[codeOf('STORE_TOO_NEW')], [new Error('mine')]]);
    expect(await engine.runs.get('r')).toMatchObject({ status: 'running' });
    await expect(soon(engine.ready())).rejects.toEqual(codeOf('STORE_TOO_NEW'));
    const looks = engine.own.looks;
    h.wake();
    await settle();
    expect(engine.own.looks).toBe(looks);
    await soon(engine.close());
    const plain = h.engine();
    await expect(soon(plain.state.set('k', 1))).rejects.toEqual(codeOf('STORE_TOO_NEW'));
    expect(h.errors.at(-1)).toEqual(codeOf('STORE_TOO_NEW'));
    await soon(plain.close());
  });
});

it('O6: that a newer release has the store is told once by an engine that only looks, too, and it looks no more', async () => {
  const h = hands();
  const told: unknown[] = [];
  const engine = h.engine((stepfast) => stepfast.job('job', ({ step }) => step.waitForEvent('go')), {
    onOutdated: (each) => told.push(each),
  });
  await engine.start('job', undefined, { id: 'r' });
  await settle();
  engine.own.onDue = async () => {
    throw new StepfastError('STORE_TOO_NEW', 'Newer.');
  };
  for (let times = 0; times < 3; times++) {
    h.wake();
    await settle();
    await h.impatient(60_000);
  }
  expect([told, h.errors]).toEqual([[codeOf('STORE_TOO_NEW')], []]);
  await soon(engine.close());
});

describe('what an engine is asked', () => {
  it('O3: to be ready waits for a store that another process drives; any other call does not', async () => {
    const h = hands();
    const seen: unknown[] = [];
    const engine = h.engine((stepfast) => stepfast.register(quick));
    let isLocked = true;
    engine.own.onOpen = async (mode, { isPatient }) => {
      seen.push([mode, isPatient]);
      if (isLocked && mode === 'drive' && !isPatient) throw error('STORE_LOCKED');
    };
    await engine.runs.list();
    await settle();
    expect(seen.filter((each) => (each as unknown[])[1] !== undefined)).toEqual([]);
    isLocked = true;
    await soon(engine.ready());
    expect(seen.at(-1)).toEqual(['drive', true]);
    isLocked = false;
    const opened = seen.length;
    await soon(engine.ready());
    expect(seen.length).toBe(opened); // it drives already
    await soon(engine.close());
  });

  it('F9, V1: is heard of here at once, by functions and by who listens, hints or not', async () => {
    const h = hands();
    let signal: AbortSignal | undefined;
    const engine = h.engine((stepfast) =>
      stepfast.job('job', ({ step }) =>
        step.run('a', (context) => {
          signal = context.signal;
          return never();
        }),
      ),
    );
    await engine.start('job', undefined, { id: 'r' });
    await engine.start('elsewhere', undefined, { id: 's', allowUnregistered: true });
    await settle();
    const seen: string[] = [];
    for (const id of ['r', 's']) engine.runs.subscribe(id, ({ status }) => void seen.push(`${id} ${status}`));
    await settle();
    h.lostHints();
    seen.length = 0;
    await engine.runs.cancel('r');
    expect(signal!.aborted).toBe(true);
    await engine.runs.cancel('s');
    await settle();
    expect(seen).toEqual(['r cancelled', 's cancelled']);
    await soon(engine.close());
  });

  it('F6: a retry is no cancelling: children of the run go on', async () => {
    const h = hands();
    let isBad = true;
    let signal: AbortSignal | undefined;
    const engine = h.engine((stepfast) => {
      stepfast.job('child', ({ step }) =>
        step.run('c', (context) => {
          signal = context.signal;
          return never();
        }),
      );
      stepfast.job('job', async ({ step }) => {
        await step.start('child');
        await step.run('a', () => {
          if (isBad) throw new FatalError('no way');
          return never();
        });
      });
    });
    await engine.start('job', undefined, { id: 'r' });
    await settle();
    isBad = false;
    await engine.runs.retry('r');
    await settle();
    expect([signal!.aborted, h.row('r')!.status]).toEqual([false, 'running']);
    await soon(engine.close());
  });

  it('R4, R12: to replay at each outcome, and to record no more than so much', async () => {
    for (const replay of ['resume', 'always'] as const) {
      const h = hands();
      let calls = 0;
      const engine = h.engine(
        (stepfast) =>
          stepfast.job('job', async ({ step }) => {
            calls++;
            await step.run('a', () => 1);
            await step.run('b', () => 2);
          }),
        { replay },
      );
      await engine.start('job', undefined, { id: 'r' });
      await settle();
      expect([replay, calls, h.row('r')!.status]).toEqual([replay, replay === 'always' ? 2 : 1, 'completed']);
      await soon(engine.close());
    }
    for (const options of [{ maxOutcomes: 1 }, { maxRunBytes: 10 }]) {
      const h = hands();
      const engine = h.engine(
        (stepfast) =>
          stepfast.job('job', async ({ step }) => {
            for (const name of ['a', 'b', 'c']) await step.run(name, () => 'value');
          }),
        options,
      );
      const run = await engine.start('job');
      await expect(soon(run.result())).rejects.toEqual(codeOf('JOURNAL_FULL'));
      await soon(engine.close());
    }
  });
});

describe('what an engine hears of its store', () => {
  it('V1: changes by others, and by itself, are told to who listens; what it drives it knows better', async () => {
    const h = hands();
    const engine = h.engine((stepfast) => stepfast.job('job', ({ step }) => step.run('a', never)));
    await engine.start('job', undefined, { id: 'r' });
    await engine.start('elsewhere', undefined, { id: 's', allowUnregistered: true });
    await settle();
    const loads: string[] = [];
    engine.own.onLoad = async (runId) => void loads.push(runId);
    for (const id of ['r', 's']) engine.runs.subscribe(id, () => undefined);
    await settle();
    loads.length = 0;
    engine.own.tell('r', true);
    await settle();
    expect(loads).toEqual([]);
    engine.own.tell('s', true);
    await settle();
    expect(loads).toEqual(['s']);
    loads.length = 0;
    engine.own.tell('r', false);
    await settle();
    expect(loads).toEqual(['r']);
    await soon(engine.close());
  });

  it('S8: that all is lost is told to who waits for a run', async () => {
    const h = hands();
    const engine = h.engine((stepfast) => stepfast.job('job', ({ step }) => step.run('a', never)));
    const run = await engine.start('job', undefined, { id: 'r' });
    await settle();
    const result = run.result();
    engine.own.tell(undefined, true);
    await expect(soon(result)).rejects.toMatchObject({ code: 'RUN_NOT_FOUND', runId: 'r' });
    await soon(engine.close());
  });

  it('S8: a commit that failed may have happened: what is due is looked for', async () => {
    const h = hands();
    const engine = h.engine((stepfast) => stepfast.register(quick));
    await engine.ready();
    await settle();
    engine.own.onCommit = async (batch, pass) => {
      if (!batch.starts) return pass();
      await pass();
      h.lostHints();
      throw error('STORE_UNAVAILABLE');
    };
    await expect(soon(engine.start(quick, undefined, { id: 'r' }))).rejects.toEqual(codeOf('STORE_UNAVAILABLE'));
    await settle();
    expect(h.row('r')!.status).toBe('completed');
    await soon(engine.close());
  });

  it('D7: a change of the shared state that is refused says why', async () => {
    const h = hands();
    const engine = h.engine();
    await engine.state.set('k', 'text');
    expect(await engine.state.get('k')).toBe('text');
    await expect(soon(engine.state.increment('k'))).rejects.toEqual(codeOf('NOT_A_NUMBER'));
    expect(await engine.state.increment('n', 2)).toBe(2);
    engine.own.onCommit = async () => ({ kind: 'no-slot' });
    await expect(soon(engine.state.set('k', 1))).rejects.toBeInstanceOf(StepfastError);
    await soon(engine.close());
  });
});

describe('plug-ins', () => {
  it('hear of the life of the engine, and of what has become durable', async () => {
    const h = hands();
    const log: unknown[] = [];
    const plugin = {
      name: 'p',
      registered: () => void log.push('registered'),
      opened: () => void log.push('opened'),
      closed: () => void log.push('closed'),
      committed: ({ runId, job, entries }: { runId: string; job: string; entries: readonly { kind: string }[] }) =>
        void log.push([runId, job, entries.map(({ kind }) => kind)]),
      words: (host: { start: unknown; look: unknown }) => ({
        extra: typeof host.start === 'function' && typeof host.look === 'function',
      }),
    };
    const engine = h.engine((stepfast) => stepfast.register(quick), { use: [plugin as never] });
    expect((engine as unknown as { extra: boolean }).extra).toBe(true);
    await engine.start(quick, undefined, { id: 'r' });
    await settle();
    await soon(engine.close());
    expect(log).toEqual(['registered', 'opened', ['r', 'job', ['claimed', 'completed']], 'closed']);
    log.length = 0;
    const unused = h.engine(undefined, { use: [plugin as never] });
    await soon(unused.close());
    expect(log).toEqual([]);
    expect(() => h.engine().schedule('s', { every: '1h' }, quick)).toThrow(/schedule.*stepfast\/schedules/);
  });
});

describe('an engine closes', () => {
  it('B: once; every call from then on says so; who waits is told', async () => {
    const h = hands();
    const engine = h.engine((stepfast) => stepfast.job('job', ({ step }) => step.waitForEvent('go')));
    const run = await engine.start('job', undefined, { id: 'r' });
    await settle();
    const result = run.result();
    result.catch(() => undefined);
    await settle();
    await soon(Promise.all([engine.close(), engine.close()]));
    await expect(soon(result)).rejects.toEqual(codeOf('CLOSED'));
    for (const call of [
      () => engine.ready(),
      () => engine.start('job'),
      () => engine.start('a job that is not registered'),
      () => engine.dispatch('go'),
      () => engine.runs.get('r'),
      () => engine.runs.list(),
      () => engine.state.get('k'),
    ])
      await expect(soon(call())).rejects.toEqual(codeOf('CLOSED'));
    await expect(soon(engine.ready())).rejects.toThrow(/engine is closed.*Create a new one/);
    expect(h.errors).toEqual([]);
    const looks = engine.own.looks;
    h.wake();
    await settle();
    expect(engine.own.looks).toBe(looks);
    const never = h.engine();
    await soon(never[Symbol.asyncDispose]());
    await expect(soon(never.ready())).rejects.toEqual(codeOf('CLOSED'));
  });

  it('B: also while it opens, and where that fails', async () => {
    for (const fails of [false, true]) {
      const h = hands();
      const engine = h.engine((stepfast) => stepfast.register(quick));
      const held = gate();
      engine.own.onOpen = async () => {
        await held.promise;
        if (fails) throw error('STORE_CORRUPT');
      };
      const listing = engine.runs.list();
      listing.catch(() => undefined);
      const closing = engine.close();
      held.open();
      await soon(closing);
      expect([fails, h.errors]).toEqual([fails, []]);
    }
  });
});
