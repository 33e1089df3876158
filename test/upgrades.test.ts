import { expect, it, vi } from 'vitest';
import { defineJob, FatalError, type Handler, type JobOptions, type Stepfast } from '../src/index.js';
import { FORMAT_VERSION } from '../src/store/journal.js';
import { replay } from '../src/testing/replay.js';
import { onEveryStore, type World, world } from './harness.js';

/*
 * A client app can not keep its old code deployed: what becomes of runs that an earlier version has begun (spec O6, R5).
 */

type Options = JobOptions<{ readonly n: number }>;

/** Version 1: one step, then it waits. */
const first: Handler<{ readonly n: number }, unknown> = async ({ payload, step }) => {
  const made = await step.run('make', () => `made ${payload.n}`);
  const { payload: word } = await step.waitForEvent<string>('go');
  return [made, word];
};

const define =
  (handler: Handler<{ readonly n: number }, unknown>, options: Options = {}) =>
  (stepfast: Stepfast) => {
    stepfast.job('flow', { retry: { maxAttempts: 1 }, ...options }, handler);
  };

/** A run that version 1 has begun and left waiting. */
async function begun(w: World): Promise<void> {
  const old = w.engine(define(first));
  await old.start('flow', { n: 1 }, { id: 'r' });
  await w.clock.idle();
  await old.close();
}

const go = async (w: World, engine: Stepfast) => {
  await engine.dispatch('go', 'now');
  await w.clock.advance('10s');
  return (await engine.runs.get('r'))!;
};
const kinds = async (engine: Stepfast) => (await engine.runs.timeline('r')).map(({ kind }) => kind);

onEveryStore('O6: upgrades', (medium) => {
  it.each([
    'abandon',
    'restart',
    'block',
  ] as const)('%s: a run that no code has begun is none of an earlier version: started where its job is not known, it runs', async (upgrade) => {
    const w = world(medium);
    const other = w.engine((stepfast) => stepfast.job('other', () => 1));
    await other.start('flow', { n: 1 }, { id: 'r', allowUnregistered: true });
    await w.clock.idle();
    await other.close();
    const engine = w.engine(define(first, { version: 2, upgrade }));
    await engine.ready();
    await w.clock.idle();
    expect(await go(w, engine)).toMatchObject({ status: 'completed', result: ['made 1', 'now'] });
  });

  it('continue (default): the new code goes on with what is recorded, and the timeline says so', async () => {
    const w = world(medium);
    await begun(w);
    let made = 0;
    const engine = w.engine(
      define(
        async ({ step }) => {
          await step.run('make', () => ++made);
          await step.waitForEvent('go');
          return step.run('new in version 2', () => 'yes');
        },
        { version: 2 },
      ),
    );
    expect(await go(w, engine)).toMatchObject({ status: 'completed', result: 'yes' });
    expect(made).toBe(0);
    const upgraded = (await engine.runs.timeline('r')).filter(({ kind }) => kind === 'upgraded');
    expect(upgraded).toMatchObject([{ from: 1, to: 2 }]);
  });

  it('restart: the run is begun anew with its payload, under its id', async () => {
    const w = world(medium);
    await begun(w);
    const engine = w.engine(
      define(async ({ payload, step, run }) => [run.generation, await step.run('make', () => payload.n + 1)], {
        version: 3,
        upgrade: 'restart',
      }),
    );
    expect(await go(w, engine)).toMatchObject({ status: 'completed', result: [1, 2], payload: { n: 1 } });
    expect(await kinds(engine)).toContain('upgraded');
  });

  it('abandon: the run is cancelled, and none of the new code runs', async () => {
    const w = world(medium);
    await begun(w);
    let calls = 0;
    const engine = w.engine(define(async () => ++calls, { version: 2, upgrade: 'abandon' }));
    expect(await go(w, engine)).toMatchObject({ status: 'cancelled' });
    expect(calls).toBe(0);
  });

  it('block: the run is blocked with the reason, nothing is written, and another release resumes it', async () => {
    const w = world(medium);
    await begun(w);
    const blocking = w.engine(define(first, { version: 2, upgrade: 'block' }));
    const blocked = await go(w, blocking);
    expect(blocked).toMatchObject({ status: 'blocked', error: { code: 'UPGRADE_BLOCKED' } });
    expect(blocked!.error!.message).toMatch(/^Run r of job "flow": Version 1 has begun it/);
    expect(await kinds(blocking)).not.toContain('upgraded');
    await blocking.close();
    const engine = w.engine(define(first, { version: 3 }));
    await engine.ready();
    await w.clock.idle();
    expect(await engine.runs.get('r')).toMatchObject({ status: 'completed', result: ['made 1', 'now'] });
  });

  it.each([
    ['block', { status: 'blocked', error: { code: 'UPGRADE_BLOCKED' } }],
    ['restart', { status: 'completed', result: ['again', 'now'] }],
    ['abandon', { status: 'cancelled' }],
    ['continue', { status: 'failed', error: { code: 'RUN_TIMEOUT' } }],
  ] as const)('%s: what becomes of a run that is older than the timeout of the new code', async (upgrade, expected) => {
    const w = world(medium);
    await begun(w);
    await w.clock.advance('5h');
    const flow: Handler<{ readonly n: number }, unknown> = async ({ step }) => {
      const made = await step.run('make', () => 'again');
      const { payload: word } = await step.waitForEvent<string>('go');
      return [made, word];
    };
    const engine = w.engine(define(flow, { version: 2, upgrade, timeout: '3h' }));
    expect(await go(w, engine)).toMatchObject(expected);
    await engine.close();
    if (upgrade !== 'block') return;
    const next = w.engine(define(flow, { version: 3 }));
    await next.ready();
    await w.clock.idle();
    expect(await next.runs.get('r')).toMatchObject({ status: 'completed', result: ['made 1', 'now'] });
  });

  it('migrate: a renamed step keeps its result, a forgotten one runs anew, the payload is the new one', async () => {
    const w = world(medium);
    await begun(w);
    const seen: unknown[] = [];
    const engine = w.engine(
      define(
        async ({ payload, step }) => {
          const made = await step.run('produce', () => 'again');
          const { payload: word } = await step.waitForEvent('go', { name: 'the word' });
          return [payload, made, word];
        },
        {
          version: 2,
          migrate(run) {
            seen.push(run);
            return { payload: { n: 7 }, rename: { make: 'produce', go: 'the word' } };
          },
        },
      ),
    );
    expect(await go(w, engine)).toMatchObject({ status: 'completed', result: [{ n: 7 }, 'made 1', 'now'] });
    expect(seen).toEqual([
      {
        id: 'r',
        version: 1,
        payload: { n: 1 },
        steps: [
          { name: 'make', occurrence: 1, value: 'made 1' },
          { name: 'go', occurrence: 1 },
        ],
      },
    ]);
  });

  it('migrate: what it did is recorded, and is not asked for again after a reload', async () => {
    const w = world(medium);
    await begun(w);
    let asked = 0;
    const second = define(
      async ({ step }) => {
        const made = await step.run('produce', () => 'again');
        await step.waitForEvent('go');
        await step.waitForEvent('end');
        return made;
      },
      {
        version: 2,
        migrate() {
          asked++;
          return { rename: { make: 'produce' } };
        },
      },
    );
    const one = w.engine(second);
    await go(w, one);
    w.crash(one);
    const two = w.engine(second);
    await two.dispatch('end');
    await w.clock.idle();
    expect(await two.runs.get('r')).toMatchObject({ status: 'completed', result: 'made 1' });
    expect(asked).toBe(1);
  });

  it.each([
    [
      'throws',
      () => {
        throw new Error('no idea');
      },
      'has thrown, which is the `cause`',
    ],
    ['renames to what is no name', () => ({ rename: { make: '' } }), 'name'],
    ['renames what is not recorded to what is no name', () => ({ rename: { nothing: 7 } }), 'name'],
    ['renames onto what is recorded', () => ({ rename: { make: 'go' } }), 'make'],
    ['makes one name of two', () => ({ rename: { one: 'both', two: 'both' } }), 'can not become one'],
    ['renames to what is renamed', () => ({ rename: { make: 'pack', pack: 'ship' } }), 'ask run.version'],
    ['renames to what is renamed, told later', () => ({ rename: { pack: 'ship', make: 'pack' } }), 'ask run.version'],
    ['forgets what are no names', () => ({ forget: 'make' }), 'forget'],
    ['renames by what is no plain object', () => ({ rename: new Map([['make', 'produce']]) }), 'rename'],
    ['gives a promise', () => Promise.resolve({ rename: { make: 'produce' } }), 'What it gave'],
    ['gives nothing', (): undefined => undefined, 'What it gave'],
  ] as const)('migrate that %s blocks the run, which goes on when it can', async (_, migrate, said) => {
    const w = world(medium);
    await begun(w);
    const broken = w.engine(define(first, { version: 2, migrate: migrate as never }));
    const run = await go(w, broken);
    expect(run).toMatchObject({ status: 'blocked', error: { code: 'MIGRATION_FAILED' } });
    expect(run.error!.message).toMatch(/^Run r of job "flow": migrate could not fit it to version 2/);
    expect(run.error!.message).toContain(said);
    await broken.close();
    const engine = w.engine(define(first, { version: 2 }));
    await engine.ready();
    await w.clock.idle();
    expect(await engine.runs.get('r')).toMatchObject({ status: 'completed' });
  });

  it('migrate: one name takes what another gives up, in any order, and so does a fork', async () => {
    const swaps = [
      { a: 'b', b: 'c' },
      { b: 'c', a: 'b' },
      { a: 'c', b: 'a' },
    ];
    for (const [index, rename] of swaps.entries()) {
      const w = world(medium);
      const id = `swap-${index}`;
      const names = (of: { readonly [name: string]: string }) => ['a', 'b'].map((name) => of[name] ?? name);
      const both =
        (list: readonly string[], version: string): Handler<{ n: number }, unknown> =>
        async ({ step }) => {
          const results: unknown[] = [];
          for (const [at, name] of list.entries()) results.push(await step.run(name, () => [version, at]));
          await step.waitForEvent('go');
          return results;
        };
      const old = w.engine(define(both(['a', 'b'], 'old')));
      await old.start('flow', { n: 1 }, { id });
      await w.clock.idle();
      w.crash(old);
      const engine = w.engine(define(both(names(rename), 'new'), { version: 2, migrate: () => ({ rename }) }));
      await engine.dispatch('go');
      await w.clock.idle();
      const { result } = (await engine.runs.get(id))!;
      expect(result).toEqual([
        ['old', 0],
        ['old', 1],
      ]);
      const fork = await engine.runs.fork(id, { before: names(rename)[1]! });
      await engine.dispatch('go');
      await w.clock.idle();
      expect(await fork.result()).toEqual([
        ['old', 0],
        ['new', 1],
      ]);
      w.crash(engine);
    }
  });

  it('migrate: names that a run has not come to are passed over, and a run that was never claimed goes on', async () => {
    const w = world(medium);
    await begun(w);
    const old = w.engine(define(first));
    await old.start('flow', { n: 2 }, { id: 'queued', startAt: w.clock.now() + 1_000 });
    w.crash(old);
    const later: Handler<{ n: number }, unknown> = async ({ step }) => {
      const made = await step.run('produce', () => 'made now');
      const { payload: word } = await step.waitForEvent('go', { name: 'the word' });
      return [made, word, await step.run('last', () => 'done')];
    };
    const migrate = () => ({ rename: { make: 'produce', go: 'the word', nothing: 'last' }, forget: ['never'] });
    const engine = w.engine(define(later, { version: 2, migrate }));
    await engine.ready();
    await w.clock.advance('1m');
    expect(await go(w, engine)).toMatchObject({ status: 'completed', result: ['made 1', 'now', 'done'] });
    await w.clock.idle();
    expect(await engine.runs.get('queued')).toMatchObject({
      status: 'completed',
      result: ['made now', 'now', 'done'],
    });
  });

  it('R2: a renamed step keeps its idempotency key, in flight and undone; what has the old name now has another', async () => {
    const w = world(medium);
    const keys: string[] = [];
    const enter = (context: { readonly idempotencyKey: string; readonly attempt?: number }) => {
      keys.push(context.idempotencyKey);
    };
    const old: Handler<{ n: number }, unknown> = async ({ step }) => {
      const made = step.run('make', enter, { undo: enter });
      await made;
      await step.run(
        'again',
        (context) => {
          enter(context);
          if (context.attempt < 2) throw new Error('once');
        },
        { retry: { maxAttempts: 2 } },
      );
      await step.run('pay', (context) => {
        enter(context);
        return new Promise(() => undefined);
      });
    };
    const before = w.engine(define(old));
    await before.start('flow', { n: 1 }, { id: 'r' });
    await w.clock.advance('1m');
    expect(keys.splice(0)).toEqual(['r/0/make/1', 'r/0/again/1', 'r/0/again/1', 'r/0/pay/1']);
    w.crash(before);
    const second: Handler<{ n: number }, unknown> = async ({ step }) => {
      await step.run('produce', enter, { undo: enter });
      await step.run('make', enter);
      await step.run('repeat', enter);
      await step.run('charge', enter);
      throw new FatalError('undo it');
    };
    const rename = { make: 'produce', again: 'repeat', pay: 'charge' };
    const middle = w.engine(define(second, { version: 2, migrate: () => ({ rename }) }));
    await middle.ready();
    await w.clock.idle();
    expect(keys.splice(0)).toEqual(['r/1/make/1', 'r/0/pay/1', 'r/0/make/1/undo']);
    await middle.close();
    const third: Handler<{ n: number }, unknown> = async ({ step }) => {
      await step.run('build', enter, { undo: enter });
      await step.run('make', enter);
      await step.run('repeat', enter);
      await step.run('charge', enter);
      await step.restart({ n: 2 });
    };
    const after = w.engine(define(third, { version: 3, migrate: () => ({ rename: { produce: 'build' } }) }));
    await after.runs.retry('r', { from: 'charge' });
    await vi.waitFor(() => expect(keys.length).toBeGreaterThan(5), 5_000);
    await after.runs.cancel('r');
    expect(new Set(keys).size, 'no key is used twice, but for undos').toBe(keys.length);
  });

  it('code of an earlier version leaves the run alone', async () => {
    const w = world(medium);
    const newer = w.engine(define(first, { version: 2 }));
    await newer.start('flow', { n: 1 }, { id: 'r' });
    await w.clock.idle();
    await newer.close();
    const older = w.engine(define(first));
    expect(await go(w, older)).toMatchObject({ status: 'blocked', error: { code: 'UNKNOWN_JOB' } });
  });
});

onEveryStore('O6, F7: runs that ended before code of the later version has claimed them', (medium) => {
  type Undone = { readonly result: unknown };
  /** Steps of these names, each with its undo, then a wait. */
  const steps =
    (w: World, names: readonly string[], said: string): Handler<{ readonly n: number }, unknown> =>
    async ({ payload, step }) => {
      for (const name of names)
        await step.run(name, () => `${name} ${payload.n}`, {
          undo: ({ result }: Undone) => void w.log.push(`${said} ${name}: ${result}, ${payload.n}`),
        });
      await step.waitForEvent('go');
      return w.log.push('went on');
    };
  const left = async (w: World, options: Options = {}) => {
    const old = w.engine(define(steps(w, ['a', 'old'], 'first'), options));
    await old.start('flow', { n: 1 }, { id: 'r' });
    await w.clock.idle();
    await old.close();
  };
  const migrate = () => ({ rename: { old: 'new' }, payload: { n: 2 } });
  const isOver = async (engine: Stepfast) => !(await engine.runs.get('r'))!.undoing;

  it('F7: one that is cancelled is migrated when it is taken up to be undone, once', async () => {
    const w = world(medium);
    await left(w);
    let asked = 0;
    const migrateOnce = () => {
      asked++;
      return migrate();
    };
    const second = define(steps(w, ['a', 'new'], 'second'), { version: 2, migrate: migrateOnce });
    const one = w.engine(second);
    await one.ready();
    await one.runs.cancel('r');
    await expect.poll(() => w.log.length).toBeGreaterThan(0);
    w.crash(one);
    const two = w.engine(second);
    await two.ready();
    await w.clock.advance('10s');
    await expect.poll(() => isOver(two)).toBe(true);
    expect([...new Set(w.log)]).toEqual(['second new: old 1, 2', 'second a: a 1, 2']);
    const timeline = (await two.runs.timeline('r')).filter(({ kind }) => /cancelled|upgraded|undone/.test(kind));
    expect(timeline.map(({ kind, name }) => [kind, name])).toEqual([
      ['cancelled', undefined],
      ['upgraded', undefined],
      ['undone', 'new'],
      ['undone', 'a'],
    ]);
    expect(await two.runs.get('r')).toMatchObject({ status: 'cancelled', payload: { n: 2 } });
    expect(asked).toBe(1);
  });

  it('F6, R1: one that fails as it is claimed is migrated, by whoever undoes it or takes it up again', async () => {
    const w = world(medium);
    const ran = (name: string) => () => w.log.push(name);
    const named = (name: string): Handler<{ readonly n: number }, unknown> => {
      return async ({ payload, step }) => {
        await step.run('a', ran('a'), { undo: () => void w.log.push('undo a') });
        await step.run(name, ran(name));
        await step.waitForEvent('go', { timeout: '1h', onTimeout: 'continue' });
        return payload.n;
      };
    };
    const old = w.engine(define(named('old'), { timeout: '30m' }));
    await old.start('flow', { n: 1 }, { id: 'r' });
    await w.clock.idle();
    await old.close();
    await w.clock.advance('1h');
    const told: unknown[] = [];
    const onFailed = ({ payload }: { readonly payload: unknown }) => void told.push(payload);
    const engine = w.engine(define(named('new'), { version: 2, migrate, timeout: '30m', onFailed }));
    await engine.ready();
    await w.clock.idle();
    await expect.poll(() => isOver(engine)).toBe(true);
    expect(await engine.runs.get('r')).toMatchObject({ status: 'failed', error: { code: 'RUN_TIMEOUT' } });
    expect(told).toEqual([{ n: 2 }]);
    await engine.runs.retry('r');
    await w.clock.idle();
    await engine.dispatch('go'); // its deadline had passed: it is waited for anew
    await w.clock.idle();
    expect(await engine.runs.get('r')).toMatchObject({ status: 'completed', result: 2 });
    expect(w.log).toEqual(['a', 'old', 'undo a', 'a']);
    expect((await kinds(engine)).filter((kind) => kind === 'upgraded')).toHaveLength(1);
  });

  it('R1: where nothing is to follow its end, it is migrated when it is taken up again', async () => {
    const w = world(medium);
    await begun(w);
    await w.clock.advance('1h');
    const engine = w.engine(
      define(async ({ step }) => [await step.run('produce', () => 'again'), (await step.waitForEvent('go')).payload], {
        version: 2,
        migrate: () => ({ rename: { make: 'produce' } }),
        timeout: '30m',
      }),
    );
    expect(await go(w, engine)).toMatchObject({ status: 'failed', error: { code: 'RUN_TIMEOUT' } });
    await engine.runs.retry('r');
    await w.clock.idle();
    expect(await engine.runs.get('r')).toMatchObject({ status: 'completed', result: ['made 1', 'now'] });
  });

  it('F7: what `migrate` forgets is undone all the same, and forgotten should the run be taken up again', async () => {
    const w = world(medium);
    await left(w, { timeout: '30m' });
    await w.clock.advance('1h');
    const options = { version: 2, migrate: () => ({ forget: ['a', 'old'] }), timeout: '30m' } as const;
    const engine = w.engine(define(steps(w, ['a', 'old'], 'second'), options));
    await engine.ready();
    await w.clock.idle();
    await expect.poll(() => isOver(engine)).toBe(true);
    expect(w.log.splice(0)).toEqual(['second old: old 1, 1', 'second a: a 1, 1']);
    await engine.runs.retry('r');
    expect(await go(w, engine)).toMatchObject({ status: 'completed' });
    const done = (await engine.runs.timeline('r')).filter(({ kind }) => kind === 'step-completed');
    expect(done.map(({ name }) => name)).toEqual(['a', 'old', 'a', 'old']);
  });

  it('F7, R5: a migrate that fails blocks, nothing is undone, and the run goes on when it can', async () => {
    const w = world(medium);
    await left(w);
    const wrong = () => ({ rename: { old: 'a' } });
    const broken = w.engine(define(steps(w, ['a', 'new'], 'broken'), { version: 2, migrate: wrong }));
    await broken.ready();
    await broken.runs.cancel('r');
    await w.clock.idle();
    const run = { status: 'blocked', undoing: true, error: { code: 'MIGRATION_FAILED' } };
    expect(await broken.runs.get('r')).toMatchObject(run);
    expect(w.log).toEqual([]);
    await broken.close();
    const engine = w.engine(define(steps(w, ['a', 'new'], 'third'), { version: 3, migrate }));
    await engine.ready();
    await w.clock.idle();
    await expect.poll(() => isOver(engine)).toBe(true);
    expect(w.log).toEqual(['third new: old 1, 2', 'third a: a 1, 2']);
  });

  it.each([
    'continue',
    'restart',
    'abandon',
    'block',
  ] as const)('F7: %s: a cancelled run is undone by what is recorded, under the names that it has', async (upgrade) => {
    const w = world(medium);
    await left(w);
    const stranger = w.engine();
    await stranger.runs.cancel('r');
    await stranger.close();
    const engine = w.engine(define(steps(w, ['a', 'old'], 'second'), { version: 2, upgrade }));
    await engine.ready();
    await w.clock.advance('10s');
    await expect.poll(() => isOver(engine)).toBe(true);
    expect(w.log).toEqual(['second old: old 1, 1', 'second a: a 1, 1']);
    expect(await engine.runs.get('r')).toMatchObject({ status: 'cancelled' });
  });
});

onEveryStore('stepfast/testing: replay of an exported run against new code', (medium) => {
  const exported = async (w: World) => {
    await begun(w);
    return stored(w);
  };
  const stored = async (w: World) => {
    const store = w.store();
    await store.open({ owner: 'reader', now: 0, leaseMs: 1, mode: 'use', onError: () => undefined });
    const { row, journal } = (await store.load('r'))!;
    await store.close();
    return JSON.parse(JSON.stringify({ stepfast: 1, format: FORMAT_VERSION, run: row, journal }));
  };

  it('the same code fits, and the report says what is next', async () => {
    const report = await replay(await exported(world(medium)), defineJob('flow', first));
    expect(report).toEqual({
      fits: true,
      problems: [],
      replayed: [{ kind: 'run', name: 'make', occurrence: 1 }],
      inserted: [],
      next: [{ kind: 'wait', name: 'go', occurrence: 1 }],
    });
  });

  it('F7: an undo that the code no longer has is named, unless the run has completed', async () => {
    const w = world(medium);
    const order = (undo: object) =>
      defineJob('flow', async ({ step }) => {
        await step.run('make', () => 1, undo);
        await step.waitForEvent('go');
      });
    const engine = w.engine((stepfast) => stepfast.register(order({ undo: () => undefined })));
    await engine.start('flow', undefined, { id: 'r' });
    await w.clock.idle();
    const waiting = await stored(w);
    expect(await replay(waiting, order({ undo: () => undefined }))).toMatchObject({ fits: true, problems: [] });
    const problems = [expect.stringMatching(/"make".*no undo/)];
    expect(await replay(waiting, order({}))).toMatchObject({ fits: false, problems });
    await engine.dispatch('go');
    await w.clock.idle();
    expect(await replay(await stored(w), order({}))).toMatchObject({ fits: true });
  });

  it('a removed step is named in words', async () => {
    const job = defineJob('flow', async ({ step }) => step.waitForEvent('go'));
    const report = await replay(await exported(world(medium)), job);
    expect(report.fits).toBe(false);
    expect(report.problems.join()).toContain('step "make" (occurrence 1)');
  });

  it('a changed kind is quoted with both shapes', async () => {
    const job = defineJob('flow', async ({ step }) => step.sleep('make', '1s'));
    const report = await replay(await exported(world(medium)), job);
    expect(report).toMatchObject({ fits: false });
    expect(report.problems.join()).toMatch(/recorded as a step that runs a function.*asks for a sleep/);
  });

  it('code that throws before it asks for what is recorded does not fit', async () => {
    const job = defineJob('flow', async () => {
      throw new Error('left out');
    });
    const report = await replay(await exported(world(medium)), job);
    expect(report).toMatchObject({ fits: false, ending: 'threw' });
    expect(report.problems.join()).toMatch(/throws.*left out/);
    expect(report.problems.join()).toContain('step "make" (occurrence 1)');
  });

  it('O6: code of a lower version than that of the run does not fit', async () => {
    const run = await exported(world(medium));
    const report = await replay({ ...run, run: { ...run.run, version: 2 } }, defineJob('flow', first));
    expect(report).toMatchObject({ fits: false });
    expect(report.problems.join()).toContain('version 2');
  });

  it('the handler sees the tick of its schedule, and what is no exported run is refused', async () => {
    const run = await exported(world(medium));
    const schedule = { name: 'daily', tick: 5, missed: 2 };
    const [started, ...rest] = run.journal;
    const seen: unknown[] = [];
    const job = defineJob('flow', (context) => {
      seen.push(context.run.schedule);
      return first(context as never);
    });
    await replay({ ...run, journal: [{ ...started, schedule }, ...rest] }, job);
    expect(seen).toEqual([schedule]);
  });

  it('B: what is no exported run is refused with the path of what is wrong, and never fits', async () => {
    const run = await exported(world(medium));
    const { format: _, ...unversioned } = run;
    const { run: _row, ...headless } = run;
    const { kind: _kind, ...kindless } = run.journal[1]!;
    const [started] = run.journal;
    for (const [bad, path] of [
      [null, '$'],
      [undefined, '$'],
      ['run', '$'],
      [{}, '$.format'],
      [unversioned, '$.format'],
      [headless, '$.run'],
      [{ ...run, run: { ...run.run, version: 'one' } }, '$.run.version'],
      [{ ...run, run: { ...run.run, tags: [5] } }, '$.run.tags'],
      [{ ...run, journal: [] }, '$.journal'],
      [{ ...run, journal: [started, null] }, '$.journal[1]'],
      [{ ...run, journal: [started, kindless] }, '$.journal[1].kind'],
    ] as const)
      await expect(replay(bad as never, defineJob('flow', first)), path).rejects.toMatchObject({
        code: 'INVALID_PAYLOAD',
        path,
      });
    const newer = replay({ ...run, format: 99 }, defineJob('flow', first));
    await expect(newer).rejects.toMatchObject({ code: 'STORE_TOO_NEW' });
  });

  it('migrate takes part, and no step is entered', async () => {
    const entered: string[] = [];
    const job = defineJob(
      'flow',
      { version: 2, migrate: () => ({ rename: { make: 'produce' } }) },
      async ({ step }) => {
        await step.run('produce', () => entered.push('produce'));
        return Promise.all([step.waitForEvent('go'), step.run('more', () => entered.push('more'))]);
      },
    );
    const report = await replay(await exported(world(medium)), job);
    expect(report).toMatchObject({ fits: true, next: [{ name: 'go' }, { kind: 'run', name: 'more' }] });
    expect(entered).toEqual([]);
  });

  it('what the handler reads of the shared state is given to it', async () => {
    const job = defineJob('flow', async ({ step, state }) => {
      await step.run('make', () => 1);
      const more = (await state.get<number>('more')) ?? 0;
      if ((await state.increment('more')) !== more + 1) return 'no';
      if (more === 7) await step.waitForEvent('go');
      return more;
    });
    const run = await exported(world(medium));
    expect(await replay(run, job, { state: { more: 7 } })).toMatchObject({ fits: true, next: [{ name: 'go' }] });
    expect(await replay(run, job)).toMatchObject({ ending: 'returned', next: [] });
    await expect(replay(run, job, { states: {} } as never)).rejects.toMatchObject({ code: 'INVALID_OPTION' });
  });
});
