import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { expect, it } from 'vitest';
import { memoryStore } from '../adapters/memory/index.js';
import { createStepfast, FatalError, type JobOptions, type Stepfast } from '../src/index.js';
import { freshFolder, media, onEveryStore, world } from './harness.js';

// Pins: spec Q6: ended runs are kept for their time and then swept, active ones for ever; `runs.delete`.

const ends = (stepfast: Stepfast, name: string, options: JobOptions = {}) => {
  stepfast.job<'completed' | 'failed' | 'cancelled'>(
    name,
    options as JobOptions<'completed' | 'failed' | 'cancelled'>,
    async ({ payload, step }) => {
      if (payload === 'failed') throw new FatalError('no');
      if (payload === 'cancelled') await step.waitForEvent('never');
    },
  );
};

/** One run of each end, named like it. */
const endAll = async (engine: Stepfast, job: string) => {
  for (const end of ['completed', 'failed', 'cancelled'] as const) {
    const run = await engine.start(job, end, { id: `${job} ${end}` });
    if (end === 'cancelled') await run.cancel();
    else await run.result().catch(() => undefined);
  }
};
const ids = async (engine: Stepfast, job?: string) =>
  (await engine.runs.list({ limit: 1_000, ...(job !== undefined && { job }) })).runs.map(({ id }) => id).sort();

onEveryStore('retention', (medium) => {
  it('Q6: completed and cancelled runs are kept 7 days, failed ones 30, active ones for ever', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      ends(stepfast, 'job');
      stepfast.job('active', ({ step }) => step.waitForEvent('never'));
    });
    await engine.start('active', undefined, { id: 'active' });
    await endAll(engine, 'job');
    const all = ['active', 'job cancelled', 'job completed', 'job failed'];
    await w.clock.advance('7 days');
    expect(await ids(engine)).toEqual(all);
    await w.clock.advance('6h'); // the longest that a sweep is away
    expect(await ids(engine)).toEqual(['active', 'job failed']);
    expect(await engine.runs.get('job completed')).toBeUndefined();
    await w.clock.advance('22 days');
    expect(await ids(engine)).toEqual(['active', 'job failed']);
    await w.clock.advance('1 day');
    expect(await ids(engine)).toEqual(['active']);
    await w.clock.advance('30 days');
    expect(await engine.runs.get('active')).toMatchObject({ status: 'waiting' });
    expect(w.errors).toEqual([]);
  });

  it('Q6: what was closed for long is swept when it is opened', async () => {
    const w = world(medium);
    const define = (stepfast: Stepfast) => ends(stepfast, 'job');
    const before = w.engine(define);
    await endAll(before, 'job');
    await before.close();
    await w.clock.advance('8 days');
    const after = w.engine(define);
    await after.ready();
    await w.clock.idle();
    expect(await ids(after)).toEqual(['job failed']);
    await after.close();
    const again = w.engine(define);
    expect(await ids(again)).toEqual(['job failed']);
  });

  it('Q6: a job says how long its own runs are kept, for all ends or for each; Infinity keeps them', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      ends(stepfast, 'default');
      ends(stepfast, 'hour', { retention: '1h' });
      ends(stepfast, 'mixed', { retention: { completed: Infinity, failed: '1 day' } });
      ends(stepfast, 'forever', { retention: Infinity });
      ends(stepfast, 'longer', { retention: { completed: '20 days' } });
    });
    for (const job of ['default', 'hour', 'mixed', 'forever', 'longer']) await endAll(engine, job);
    await w.clock.advance('12h');
    expect(await ids(engine, 'hour')).toEqual([]);
    expect(await ids(engine)).toHaveLength(12);
    await w.clock.advance('8 days');
    expect(await ids(engine, 'default')).toEqual(['default failed']);
    expect(await ids(engine, 'mixed')).toEqual(['mixed completed']);
    expect(await ids(engine, 'forever')).toHaveLength(3);
    expect(await ids(engine, 'longer')).toEqual(['longer completed', 'longer failed']);
    await w.clock.advance('40 days');
    expect(await ids(engine)).toEqual(['forever cancelled', 'forever completed', 'forever failed', 'mixed completed']);
  });

  it('Q6: runs of jobs that are not registered here have the defaults', async () => {
    const w = world(medium);
    const before = w.engine((stepfast) => ends(stepfast, 'gone', { retention: '100 days' }));
    await endAll(before, 'gone');
    await before.close();
    await w.clock.advance('8 days');
    const after = w.engine((stepfast) => ends(stepfast, 'other'));
    await after.ready();
    await w.clock.idle();
    expect(await ids(after)).toEqual(['gone failed']);
  });

  it('Q6: many runs are swept in commits of 50', async () => {
    const w = world(medium);
    const define = (stepfast: Stepfast) => ends(stepfast, 'job', { retention: '1h' });
    const before = w.engine(define);
    await Promise.all(Array.from({ length: 120 }, () => before.start('job', 'completed')));
    await w.clock.idle();
    expect(await ids(before)).toHaveLength(120);
    await before.close();
    await w.clock.advance('2h');
    const after = w.engine(define);
    const commits = w.commits();
    await after.ready();
    await w.clock.idle();
    expect(await ids(after)).toEqual([]);
    expect(w.commits() - commits).toBe(3);
  });

  it('Q6: a store with nothing to sweep is not written to', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('active', ({ step }) => step.waitForEvent('never'));
    });
    await engine.start('active');
    await w.clock.idle();
    const commits = w.commits();
    await w.clock.advance('60 days');
    expect(w.commits()).toBe(commits);
  });

  it('Q6: nothing is swept while a function is in flight; it is once that has ended', async () => {
    const w = world(medium);
    let end: () => void = () => undefined;
    const define = (stepfast: Stepfast) => {
      ends(stepfast, 'job', { retention: '1h' });
      stepfast.job('busy', ({ step }) => step.run('go', () => new Promise<void>((resolve) => (end = resolve))));
    };
    const before = w.engine(define);
    await endAll(before, 'job');
    const { id } = await before.start('busy');
    await expect.poll(async () => (await before.runs.get(id))?.status).toBe('running');
    w.crash(before);
    w.clock.jump(w.clock.now() + 7_200_000);
    const after = w.engine(define);
    const first = end;
    await after.ready();
    await expect.poll(() => end !== first).toBe(true);
    expect(await ids(after, 'job')).toHaveLength(3);
    end();
    await expect.poll(async () => (await after.runs.get(id))?.status).toBe('completed');
    await w.clock.idle();
    expect(await ids(after, 'job')).toEqual([]);
  });

  it('Q6: a child is kept as long as its parent is active, however long ago it ended', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      const child = stepfast.job('child', { retention: '1h' }, () => 'grown up');
      stepfast.job('parent', { retention: '2 days' }, async ({ step }) => {
        await step.start(child);
        await step.waitForEvent('go');
      });
    });
    const parent = await engine.start('parent');
    await w.clock.advance('3 days');
    const [child] = (await engine.runs.list({ job: 'child' })).runs;
    expect(child).toMatchObject({ status: 'completed', parentId: parent.id });
    await engine.dispatch('go');
    await w.clock.advance('1 day');
    expect(await engine.runs.get(child!.id)).toBeUndefined();
    expect(await parent.status()).toBe('completed');
    await w.clock.advance('2 days');
    expect(await ids(engine)).toEqual([]);
  });

  it('Q6: children of an endless loop go when their time is over, but for those of its present round', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      const child = stepfast.job('child', () => 'grown up');
      stepfast.job<number>('loop', async ({ payload, step }) => {
        await step.call(child);
        await step.start(child, undefined, { name: 'apart' });
        if (payload === 3) await step.waitForEvent('go');
        await step.sleep('a day', '1 day');
        return step.restart(payload + 1);
      });
    });
    await engine.start('loop', 0, { id: 'loop' });
    await w.clock.advance('20 days');
    expect((await engine.runs.get('loop'))!.status).toBe('waiting');
    expect((await engine.runs.list({ job: 'child' })).runs).toHaveLength(2);
    await engine.dispatch('go');
    await w.clock.advance('30 days');
    expect((await engine.runs.list({ job: 'child' })).runs.length).toBeLessThan(20);
    expect((await engine.runs.get('loop'))!.status).toBe('sleeping');
    expect(w.errors).toEqual([]);
  });

  it('Q6: sweeping does not forget what an idempotency key was used for', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => ends(stepfast, 'job'));
    const first = await engine.start('job', 'completed', { idempotencyKey: 'k' });
    await w.clock.advance('10 days');
    expect(await ids(engine)).toEqual([]);
    expect(await engine.start('job', 'completed', { idempotencyKey: 'k' })).toMatchObject({
      id: first.id,
      created: false,
    });
    await expect(engine.start('job', 'failed', { idempotencyKey: 'k' })).rejects.toMatchObject({
      code: 'IDEMPOTENCY_CONFLICT',
    });
    await w.clock.advance('20 days');
    expect((await engine.start('job', 'completed', { idempotencyKey: 'k' })).created).toBe(true);
  });

  it('Q6: runs.delete deletes an ended run and its journal, is final, and may be said twice', async () => {
    const w = world(medium);
    const define = (stepfast: Stepfast) => ends(stepfast, 'job');
    const before = w.engine(define);
    await endAll(before, 'job');
    for (const id of await ids(before)) await before.runs.delete(id);
    for (const id of ['job completed', 'never was']) await before.runs.delete(id);
    expect(await ids(before)).toEqual([]);
    await expect(before.runs.timeline('job failed')).rejects.toMatchObject({ code: 'RUN_NOT_FOUND' });
    await expect(before.runs.retry('job failed')).rejects.toMatchObject({ code: 'RUN_NOT_FOUND' });
    w.crash(before);
    const after = w.engine(define);
    expect(await ids(after)).toEqual([]);
    expect(await after.runs.get('job completed')).toBeUndefined();
  });

  it('Q6: runs.delete refuses a run that has not ended, and leaves it as it is', async () => {
    const w = world(medium);
    const engine = w.engine((stepfast) => {
      stepfast.job('active', ({ step }) => step.waitForEvent<string>('go').then(({ payload }) => payload));
    });
    const run = await engine.start('active');
    await w.clock.idle();
    const later = await engine.start('active', undefined, { delay: '1h' });
    for (const { id } of [run, later])
      await expect(engine.runs.delete(id)).rejects.toMatchObject({ code: 'RUN_ACTIVE', runId: id });
    await engine.dispatch('go', 'on');
    expect(await run.result()).toBe('on');
    await engine.runs.delete(run.id);
    expect(await ids(engine)).toEqual([later.id]);
  });

  it('Q6, E12: a run that another one waits for is neither swept nor deleted before its result was read', async () => {
    const w = world(medium);
    const child = (stepfast: Stepfast) =>
      stepfast.job('child', { retention: '1h' }, ({ step }) =>
        step.waitForEvent<string>('go').then((go) => go.payload),
      );
    const both = (stepfast: Stepfast) => {
      child(stepfast);
      stepfast.job('parent', ({ step }) => step.call('child', undefined, { id: 'c' }));
    };
    const before = w.engine(both);
    await before.start('child', undefined, { id: 'c' }); // of nobody: the parent finds it there
    await before.start('parent', undefined, { id: 'p' });
    await w.clock.idle();
    w.crash(before);
    const without = w.engine(child);
    await without.dispatch('go', 'made');
    await w.clock.advance('1 day');
    expect((await without.runs.get('c'))!.status).toBe('completed');
    await expect(without.runs.delete('c')).rejects.toMatchObject({ code: 'RUN_ACTIVE', runId: 'c' });
    w.crash(without);
    const after = w.engine(both);
    await after.ready();
    await w.clock.idle();
    expect((await after.runs.get('p'))!.result).toBe('made');
    await after.runs.delete('c');
    expect(await ids(after)).toEqual(['p']);
  });
});

for (const name of ['memory', 'indexeddb'])
  it(`Q6: two contexts that sweep at once delete each run once, and nobody hears of it (${name})`, async () => {
    const w = world(media[name]!);
    const define = (stepfast: Stepfast) => ends(stepfast, 'job', { retention: '1h' });
    const before = w.engine(define);
    await Promise.all(Array.from({ length: 130 }, () => before.start('job', 'completed')));
    await w.clock.idle();
    await before.close();
    await w.clock.advance('2h');
    const tabs = [w.engine(define), w.engine(define)] as const;
    await Promise.all(tabs.map((tab) => tab.ready()));
    await w.clock.advance('12h'); // what one left to the other is found the next time
    expect(await ids(tabs[0])).toEqual([]);
    expect(w.errors).toEqual([]);
  });

it('Q6: a process whose runs have ended ends by itself, though the next sweep is hours away', async () => {
  const dir = freshFolder();
  const outfile = join(dir, 'ends.mjs');
  const root = join(import.meta.dirname, '..');
  await build({
    stdin: {
      contents: `
        import { createStepfast } from './src/index.ts';
        import { fileStore } from './adapters/file/index.ts';
        const stepfast = createStepfast({ store: fileStore({ dir: process.argv[2] }) });
        stepfast.job('quick', ({ step }) => step.run('go', () => 'done'));
        console.log(await (await stepfast.start('quick')).result());
      `,
      resolveDir: root,
    },
    bundle: true,
    platform: 'node',
    format: 'esm',
    outfile,
  });
  const { stdout } = await promisify(execFile)(process.execPath, [outfile, join(dir, 'store')], { timeout: 20_000 });
  expect(stdout).toBe('done\n'); // killed after the timeout, it would have been an error
});

it.each<[option: string, options: object, code: string]>([
  ['retention', { retention: 'soon' }, 'INVALID_DURATION'],
  ['retention', { retention: null }, 'INVALID_DURATION'],
  ['retention', { retention: -1 }, 'INVALID_DURATION'],
  ['retention.completed', { retention: { completed: 'soon' } }, 'INVALID_DURATION'],
  ['retention', { retention: { done: '1d' } }, 'INVALID_OPTION'],
  ['timeout', { timeout: 0 }, 'INVALID_DURATION'],
  ['timeout', { timeout: 'soon' }, 'INVALID_DURATION'],
  ['onFailed', { onFailed: 'mail' }, 'INVALID_OPTION'],
  ['migrate', { migrate: {} }, 'INVALID_OPTION'],
  ['upgrade', { upgrade: 'explode' }, 'INVALID_OPTION'],
  ['upgrade', { upgrade: 'migrate' }, 'INVALID_OPTION'],
  ['payload', { payload: 'text' }, 'INVALID_OPTION'],
  ['payload', { payload: null }, 'INVALID_OPTION'],
  ['result', { result: {} }, 'INVALID_OPTION'],
])('B: a bad %s of a job is refused: %j', (option, options, code) => {
  const define = () => createStepfast({ store: memoryStore() }).job('bad', options, () => undefined);
  expect(define).toThrow(expect.objectContaining({ code, message: expect.stringContaining(`${option} of job "bad"`) }));
});

it('good options of a job are taken', () => {
  const stepfast = createStepfast({ store: memoryStore() });
  const migrate = () => ({ rename: { old: 'new' }, forget: ['x'] });
  const good: JobOptions[] = [
    { timeout: '1h', onFailed: () => undefined, retention: 0 },
    { upgrade: 'restart', retention: {} },
    { migrate, version: 2 },
    { migrate, upgrade: 'migrate', retention: { cancelled: 0 } },
  ];
  for (const [index, options] of good.entries()) stepfast.job(`good${index}`, options, () => undefined);
});
