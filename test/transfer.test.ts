import { describe, expect, it } from 'vitest';
import { transfer } from '../plugins/transfer/index.js';
import type { RedactPlace } from '../src/engine/words.js';
import type { EngineOptions, ExportedRun, RunSnapshot, Stepfast } from '../src/index.js';
import { replay } from '../src/testing/replay.js';
import { type Medium, media, onEveryStore, type World, world } from './harness.js';

// Pins: an exported run is plain JSON that any store takes up where it stood; nothing it had recorded runs again; events
// and instants keep their meaning; redacted texts are gone; what is no exported run is refused before anything is written.

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

const moving = (
  w: World,
  define: (stepfast: Stepfast) => void = () => undefined,
  options: Partial<EngineOptions> = {},
) => w.engine(define, { ...options, use: [transfer()] });

/** Through text, as it travels in real life. */
const posted = (exported: ExportedRun): ExportedRun => JSON.parse(JSON.stringify(exported)) as ExportedRun;

const snapshot = async (engine: Stepfast, id: string) => (await engine.runs.get(id)) as RunSnapshot;

/** A step, a wait for two answers with the same key, a step. */
const asking = (w: World) => (stepfast: Stepfast) =>
  stepfast.job<{ user: string }>('ask', async ({ payload, step }) => {
    const first = await step.run('send', () => {
      w.log.push('send');
      return { at: new Date(0), to: payload.user };
    });
    const wait = (name: string) =>
      step.waitForEvent<string>('answer', {
        name,
        correlationKey: payload.user,
        timeout: '1 day',
        onTimeout: 'continue',
      });
    const answers: string[] = [];
    for (const name of ['one', 'two']) {
      const answer = await wait(name);
      answers.push(answer.timedOut ? 'none' : answer.payload);
    }
    await step.run('close', () => void w.log.push('close'));
    return { first, answers };
  });

const answer = (engine: Stepfast, payload: string) =>
  engine.dispatch('answer', payload, { correlationKey: 'ada' }).then(({ resumed }) => resumed);

onEveryStore('runs that are moved', (medium) => {
  it('an ended run is the same in another store, and adds that it was imported', async () => {
    const here = world(medium);
    const there = world(medium);
    const from = moving(here, asking(here));
    const { id } = await from.start('ask', { user: 'ada' }, { tags: ['vip'], idempotencyKey: 'ask:ada' });
    await here.clock.idle();
    await answer(from, 'yes');
    await answer(from, 'no');
    await here.clock.idle();
    const exported = await from.runs.export(id);
    expect(posted(exported)).toEqual(exported);
    expect(exported).toMatchObject({ stepfast: 1, format: 1, run: { runId: id, status: 'completed', waits: [] } });

    const to = moving(there);
    expect(await to.runs.import(posted(exported))).toEqual({ id, created: true });
    expect(await to.runs.get(id)).toEqual(await from.runs.get(id));
    const [was, is] = [await from.runs.timeline(id), await to.runs.timeline(id)];
    const without = (line: object) => ({ ...line, owner: '' });
    expect(is.slice(0, -1).map(without)).toEqual(was.map(without));
    expect(is.at(-1)).toEqual({ kind: 'imported', at: there.clock.now() });
    expect((await to.runs.list({ tag: 'vip' })).runs).toHaveLength(1);
    const again = await to.start('ask', { user: 'ada' }, { idempotencyKey: 'ask:ada', allowUnregistered: true });
    expect(again).toMatchObject({ id, created: false });
    expect(here.log).toEqual(['send', 'close']);
  });

  it('an active run goes on where it stood: recorded steps stay, and no owner comes along', async () => {
    const here = world(medium);
    const there = world(medium);
    const from = moving(here, asking(here));
    const { id } = await from.start('ask', { user: 'ada' });
    await here.clock.idle();
    await answer(from, 'yes');
    await here.clock.advance('2h');
    const exported = posted(await from.runs.export(id));
    const claimed = exported.journal.filter((entry) => entry.kind === 'claimed');
    expect(claimed.map(({ owner }) => owner)).toEqual(['owner 1']);
    expect(exported.run).not.toHaveProperty('owner');
    expect(exported.run.waits).toMatchObject([{ events: ['answer'], key: 'ada' }]);

    const to = moving(there, asking(there));
    await to.runs.import(exported);
    await there.clock.idle();
    expect(await snapshot(to, id)).toMatchObject({ status: 'waiting', waitingFor: [{ correlationKey: 'ada' }] });
    expect(await answer(to, 'maybe')).toEqual([id]);
    await there.clock.idle();
    expect(await snapshot(to, id)).toMatchObject({
      status: 'completed',
      result: { first: { at: new Date(0), to: 'ada' }, answers: ['yes', 'maybe'] },
    });
    expect(there.log).toEqual(['close']);
    expect(there.errors).toEqual([]);
  });

  it('E3: only events that this store accepts from the import on are taken, whatever their numbers were elsewhere', async () => {
    const here = world(medium);
    const there = world(medium);
    const from = moving(here, asking(here));
    for (let count = 0; count < 20; count++) await from.dispatch('something else'); // so that numbers here are high
    const { id } = await from.start('ask', { user: 'ada' });
    await here.clock.idle();
    await answer(from, 'yes');
    await here.clock.idle();
    const exported = posted(await from.runs.export(id));

    const to = moving(there, asking(there));
    expect(await answer(to, 'too early')).toEqual([]);
    await to.runs.import(exported);
    await there.clock.idle();
    expect((await snapshot(to, id)).status).toBe('waiting');
    const seqs = (run: ExportedRun) => run.journal.flatMap((entry) => (entry.kind === 'event-taken' ? entry.seq : []));
    const [taken] = seqs(exported) as [number];
    for (let seq = 3; seq < taken; seq++) await to.dispatch('something else');
    expect(await answer(to, 'no')).toEqual([id]);
    await there.clock.idle();
    expect((await snapshot(to, id)).result).toMatchObject({ answers: ['yes', 'no'] });
    expect(seqs(await to.runs.export(id))).toEqual([taken, taken]); // the same number, another event
  });

  it('E1: an event that comes between the import and the first look of its code is taken', async () => {
    const here = world(medium);
    const there = world(medium);
    const from = moving(here, asking(here));
    const { id } = await from.start('ask', { user: 'ada' });
    await here.clock.idle();
    const early = moving(there);
    await early.runs.import(posted(await from.runs.export(id)));
    expect(await answer(early, 'yes')).toEqual([id]);
    await early.close();
    const to = moving(there, asking(there));
    await to.ready();
    await there.clock.idle();
    await answer(to, 'no');
    await there.clock.idle();
    expect((await snapshot(to, id)).result).toMatchObject({ answers: ['yes', 'no'] });
  });

  it('E5: deadlines, sleeps and retries keep their instants', async () => {
    const here = world(medium);
    const there = world(medium);
    const define = (w: World) => (stepfast: Stepfast) => {
      asking(w)(stepfast);
      stepfast.job('nap', ({ step }) => step.sleep('nap', '10h'));
      const retry = { initialDelay: '5h', maxDelay: '5h', jitter: false } as const;
      stepfast.job('flaky', ({ step }) =>
        step.run(
          'try',
          ({ attempt }) => {
            w.log.push(`attempt ${attempt}`);
            if (attempt === 1) throw new Error('not yet');
            return attempt;
          },
          { retry },
        ),
      );
    };
    const from = moving(here, define(here));
    const start = here.clock.now();
    for (const job of ['ask', 'nap', 'flaky']) await from.start(job, { user: 'ada' }, { id: job });
    await from.start('nap', undefined, { id: 'later', startAt: start + 20 * HOUR });
    await here.clock.idle();
    there.clock.jump(start + 2 * HOUR);
    const to = moving(there, define(there));
    for (const id of ['ask', 'nap', 'flaky', 'later']) await to.runs.import(posted(await from.runs.export(id)));
    await there.clock.idle();
    expect(await snapshot(to, 'ask')).toMatchObject({ status: 'waiting', waitingFor: [{ deadline: start + DAY }] });
    expect(await snapshot(to, 'nap')).toMatchObject({ status: 'sleeping' });
    expect(await snapshot(to, 'flaky')).toMatchObject({ status: 'retrying' });
    expect(await snapshot(to, 'later')).toMatchObject({ status: 'scheduled', createdAt: start });
    await there.clock.advance('50h');
    expect(await snapshot(to, 'flaky')).toMatchObject({ result: 2, endedAt: start + 5 * HOUR });
    expect(await snapshot(to, 'nap')).toMatchObject({ status: 'completed', endedAt: start + 10 * HOUR });
    expect(await snapshot(to, 'later')).toMatchObject({ startedAt: start + 20 * HOUR, endedAt: start + 30 * HOUR });
    expect(await snapshot(to, 'ask')).toMatchObject({ status: 'completed', endedAt: start + 2 * DAY });
    expect(there.log).toEqual(['attempt 2', 'close']);
  });

  it('F6: a run that failed elsewhere is retried here, and its recorded steps are reused', async () => {
    const here = world(medium);
    const there = world(medium);
    const define = (w: World, isBroken: boolean) => (stepfast: Stepfast) =>
      stepfast.job('pay', { retry: { maxAttempts: 1 } }, async ({ step }) => {
        await step.run('reserve', () => void w.log.push('reserve'));
        return step.run('charge', () => {
          if (isBroken) throw new TypeError('no card', { cause: new Error('deep') });
          return 'charged';
        });
      });
    const from = moving(here, define(here, true));
    const { id } = await from.start('pay');
    await here.clock.idle();
    const to = moving(there, define(there, false));
    await to.runs.import(posted(await from.runs.export(id)));
    await there.clock.idle();
    expect(await to.runs.get(id)).toEqual(await from.runs.get(id));
    await to.runs.retry(id);
    await there.clock.idle();
    expect(await snapshot(to, id)).toMatchObject({ status: 'completed', result: 'charged' });
    expect([here.log, there.log]).toEqual([['reserve'], []]);
  });

  it('F7: what was left to undo elsewhere is undone here', async () => {
    const here = world(medium);
    const there = world(medium);
    const define = (w: World) => (stepfast: Stepfast) =>
      stepfast.job('book', async ({ step }) => {
        await step.run('room', () => 'room 7', { undo: () => void w.log.push('undo room') });
        await step.waitForEvent('go');
      });
    const from = moving(here, define(here));
    const { id } = await from.start('book');
    await here.clock.idle();
    await from.close();
    const without = moving(here); // no code that could undo
    await without.runs.cancel(id);
    const exported = posted(await without.runs.export(id));
    expect(exported.run).toMatchObject({ status: 'cancelled', undoing: true });
    const to = moving(there, define(there));
    await to.runs.import(exported);
    await there.clock.idle();
    expect(there.log).toEqual(['undo room']);
    const after = await snapshot(to, id);
    expect(after.status).toBe('cancelled');
    expect(after).not.toHaveProperty('undoing');
  });

  it('R2, F7: under another id it undoes what was done elsewhere under the key of there, and what it does itself under its own', async () => {
    const here = world(medium);
    const there = world(medium);
    const define = (w: World) => (stepfast: Stepfast) =>
      stepfast.job('book', async ({ step }) => {
        const undo = ({ idempotencyKey }: { readonly idempotencyKey: string }) => void w.log.push(idempotencyKey);
        await step.run('room', () => undefined, { undo });
        await step.waitForEvent('go');
        await step.run('table', () => undefined, { undo });
        await step.waitForEvent('never');
      });
    const from = moving(here, define(here));
    await from.start('book', undefined, { id: 'old' });
    await here.clock.idle();
    const to = moving(there, define(there));
    await to.runs.import(posted(await from.runs.export('old')), { id: 'new' });
    await to.dispatch('go', undefined);
    await there.clock.idle();
    await to.runs.import(posted(await to.runs.export('new')), { id: 'newer' });
    await to.runs.cancel('newer');
    await there.clock.idle();
    expect(there.log).toEqual(['new/0/table/1/undo', 'old/0/room/1/undo']);
    expect((await to.runs.timeline('newer')).filter(({ kind }) => kind === 'imported')).toMatchObject([
      ...[{ from: 'old' }, { from: 'new' }],
    ]);
  });

  it('E12: a parent that is imported after its child gets the result of the child', async () => {
    const here = world(medium);
    const there = world(medium);
    const define = (w: World) => (stepfast: Stepfast) => {
      const child = stepfast.job('child', async ({ step }) => (await step.waitForEvent<string>('go')).payload);
      stepfast.job('parent', async ({ step }) => `the child said ${await step.call(child, undefined)}`);
      void w;
    };
    const from = moving(here, define(here));
    const { id } = await from.start('parent');
    await here.clock.idle();
    const child = (await from.runs.list({ job: 'child' })).runs[0]!.id;
    const to = moving(there, define(there));
    for (const each of [child, id]) await to.runs.import(posted(await from.runs.export(each)));
    await there.clock.idle();
    await to.dispatch('go', 'hello');
    await there.clock.idle();
    expect(await snapshot(to, id)).toMatchObject({ status: 'completed', result: 'the child said hello' });
  });

  it('Q1: the same run again is not created again, another one under its id or key is refused', async () => {
    const here = world(medium);
    const there = world(medium);
    const from = moving(here, asking(here));
    const { id } = await from.start('ask', { user: 'ada' }, { idempotencyKey: 'ask:ada' });
    await here.clock.idle();
    const early = posted(await from.runs.export(id));
    await answer(from, 'yes');
    await here.clock.idle();
    const late = posted(await from.runs.export(id));

    const to = moving(there, asking(there));
    expect(await to.runs.import(early)).toEqual({ id, created: true });
    await there.clock.idle();
    expect(await to.runs.import(early)).toEqual({ id, created: false });
    await expect(to.runs.import(late)).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT', runId: id });
    const renamed = { ...early, run: { ...early.run, runId: 'other' } };
    await expect(to.runs.import(renamed)).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
    expect(await to.runs.import(late, { id: 'copy' })).toEqual({ id: 'copy', created: true });
    expect(await to.runs.import(late, { id: 'copy' })).toEqual({ id: 'copy', created: false });
    await there.clock.idle();
    expect(await answer(to, 'no')).toEqual(expect.arrayContaining([id, 'copy']));
    await there.clock.idle();
    expect((await snapshot(to, 'copy')).result).toMatchObject({ answers: ['yes', 'no'] });
    // Where it came from, it is the same run too, and has gone on since.
    expect(await from.runs.import(early)).toEqual({ id, created: false });
  });

  it('Q1: a run that was deleted here comes back under a new id alone, while it is remembered', async () => {
    const w = world(medium);
    const engine = moving(w, (stepfast) => void stepfast.job('quick', () => 'done'));
    const { id } = await engine.start('quick', undefined, { id: 'quick' });
    await w.clock.idle();
    const exported = posted(await engine.runs.export(id));
    await engine.runs.delete(id);
    await expect(engine.runs.import(exported)).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
    expect(await engine.runs.import(exported, { id: 'back' })).toEqual({ id: 'back', created: true });
    expect(await snapshot(engine, 'back')).toMatchObject({ status: 'completed', result: 'done' });
  });

  it('Q1: an id is remembered here as where it comes from, when its run is deleted, and so is one that the import gives', async () => {
    const here = world(medium);
    const there = world(medium);
    const define = (stepfast: Stepfast) => void stepfast.job('charge', () => 'done');
    const from = moving(here, define);
    await from.start('charge', 1, { id: 'order' });
    await here.clock.idle();
    const exported = posted(await from.runs.export('order'));

    const to = moving(there, define);
    await to.runs.import(exported);
    await to.runs.import(exported, { id: 'copy' });
    for (const id of ['order', 'copy']) {
      await to.runs.delete(id);
      expect((await to.start('charge', 1, { id })).created, id).toBe(false);
      const again = to.runs.import(exported, id === 'copy' ? { id } : {});
      await expect(again, id).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
    }
    await there.clock.advance('31d');
    for (const id of ['order', 'copy']) expect((await to.start('charge', 1, { id })).created, id).toBe(true);
  });

  it('E3: a wait with lookback takes what was dispatched here before the import, any other does not', async () => {
    const here = world(medium);
    const there = world(medium);
    const define = (stepfast: Stepfast) => {
      stepfast.job('plain', ({ step }) => step.waitForEvent('go'));
      stepfast.job('back', ({ step }) => step.waitForEvent('go', { lookback: 'any' }));
    };
    const from = moving(here, define);
    const to = moving(there, define);
    await to.dispatch('go', 'before');
    for (const job of ['plain', 'back']) {
      await from.start(job, undefined, { id: job });
      await here.clock.idle();
      await to.runs.import(posted(await from.runs.export(job)));
      await there.clock.idle();
    }
    expect((await snapshot(to, 'plain')).status).toBe('waiting');
    expect((await snapshot(to, 'back')).result).toMatchObject({ payload: 'before' });
  });

  it('Q6: the time that an ended run is kept counts from its import', async () => {
    const here = world(medium);
    const there = world(medium);
    const from = moving(here, (stepfast) => void stepfast.job('quick', () => 'done'));
    const { id } = await from.start('quick');
    await here.clock.idle();
    const exported = posted(await from.runs.export(id));
    there.clock.jump(here.clock.now() + 100 * DAY);
    const to = moving(there, (stepfast) => void stepfast.job('quick', () => 'done'));
    await to.runs.import(exported);
    await there.clock.advance('6 days');
    expect(await snapshot(to, id)).toMatchObject({ status: 'completed', endedAt: here.clock.now() });
    await there.clock.advance('2 days');
    expect(await to.runs.get(id)).toBeUndefined();
  });
});

describe('exported runs in CI', () => {
  it('a run that was exported replays against its code, and shows where other code does not fit', async () => {
    const w = world(media.memory!);
    const engine = moving(w);
    const job = asking(w)(engine);
    const { id } = await engine.start('ask', { user: 'ada' });
    await w.clock.idle();
    const exported = posted(await engine.runs.export(id));
    expect(await replay(exported, job)).toMatchObject({
      fits: true,
      replayed: [{ name: 'send' }],
      next: [{ kind: 'wait', name: 'one' }],
    });
    const other = engine.job<{ user: string }>('other', async ({ step }) => step.sleep('send', '1h'));
    expect(await replay(exported, { ...other, name: 'ask' })).toMatchObject({ fits: false });
  });
});

/** Everything that can hold a secret, each with `secret` in it. */
const telling = (stepfast: Stepfast) =>
  stepfast.job<unknown, unknown>(
    'tell',
    { retry: { maxAttempts: 2, initialDelay: 1 } },
    async ({ payload, step, log }) => {
      log.info('secret line', { secret: 'secret data' });
      const value = await step.run('value', ({ progress, log }) => {
        progress({ at: 'secret place' });
        log.warn('secret warning');
        const shared = { text: 'secret shared' };
        const error = Object.assign(new TypeError('secret error', { cause: new Error('secret cause') }), {
          code: 'E_CODE',
          data: { why: 'secret why', shared },
        });
        return {
          text: 'secret text',
          list: ['secret', 1, null, true, undefined, Number.NaN, 10n],
          at: new Date(86_400_000),
          map: new Map<unknown, unknown>([
            ['secret a', 'secret b'],
            ['secret c', shared],
          ]),
          set: new Set(['secret d', 'secret e']),
          pattern: /secret/g,
          url: new URL('https://secret.example'),
          bytes: new TextEncoder().encode('secret bytes'),
          error,
          shared,
          dollar: { $: 'secret dollar' },
        };
      });
      await step.uuid();
      await step
        .run('fails', () => {
          throw Object.assign(new Error('secret failure', { cause: new RangeError('secret root') }), {
            data: { card: 'secret card' },
            code: 'secret@example.com',
          });
        })
        .catch(() => undefined);
      await step.waitForEvent('ask', { correlationKey: 'secret key' });
      return { payload, value };
    },
  );

async function told(medium: Medium = media.memory!) {
  const w = world(medium);
  const engine = moving(w, telling);
  const options = { idempotencyKey: 'secret idempotency', tags: ['secret tag'] };
  const { id } = await engine.start('tell', { secret: 'secret payload' }, options);
  await w.clock.advance('1m');
  await engine.dispatch('ask', { secret: 'secret event' }, { correlationKey: 'secret key' });
  await w.clock.idle();
  expect((await snapshot(engine, id)).status).toBe('completed');
  return { w, engine, id };
}

describe('redacted exports', () => {
  it.each([[''], ['x'.repeat(257)], [5], [undefined]])('B: the id %j is refused', async (id) => {
    const engine = moving(world(media.memory!), telling);
    await expect(engine.runs.export(id as string)).rejects.toMatchObject({ code: 'INVALID_ID' });
  });

  it('V4: with redact: true no text of the user is left, and the shape is', async () => {
    const { w, engine, id } = await told();
    expect(JSON.stringify(await engine.runs.export(id))).toContain('secret');
    const exported = posted(await engine.runs.export(id, { redact: true }));
    const names = JSON.stringify(exported).replaceAll('"secret":', ''); // keys of objects are names, and stay
    expect(names).not.toContain('secret');
    expect(exported.run).not.toHaveProperty('idempotencyKey');

    const there = moving(world(media.memory!));
    await there.runs.import(exported);
    const { payload, result, progress, tags } = await snapshot(there, id);
    expect([payload, progress, tags]).toEqual([{ secret: '[redacted]' }, { at: '[redacted]' }, ['[redacted]']]);
    const { value } = result as { value: Record<string, unknown> };
    const shared = { text: '[redacted]' };
    expect(value).toMatchObject({
      text: '[redacted]',
      list: ['[redacted]', 1, null, true, undefined, Number.NaN, 10n],
      at: new Date(86_400_000),
      map: new Map<unknown, unknown>([
        ['[redacted]', '[redacted]'],
        ['[redacted] 2', shared],
      ]),
      set: new Set(['[redacted]', '[redacted] 2']),
      pattern: /[redacted]/g,
      url: new URL('redacted:'),
      bytes: new Uint8Array(12),
      error: { name: 'TypeError', message: '[redacted]', code: 'E_CODE', cause: { message: '[redacted]' } },
      shared,
      dollar: { $: '[redacted]' },
    });
    const { error } = value as { error: Error & { data: { shared: unknown } } };
    expect(error.data.shared).toBe(value.shared);
    const lines = (await there.runs.timeline(id)).filter(({ kind }) => kind === 'logged');
    expect(lines).toMatchObject([
      { message: '[redacted]', data: { secret: '[redacted]' } },
      { message: '[redacted]', name: 'value' },
    ]);
    expect(w.errors).toEqual([]);
  });

  it('V4: a function sees every part with its place, and what it gives takes its place', async () => {
    const { engine, id } = await told();
    const places: string[] = [];
    const mask = (value: unknown): unknown =>
      typeof value === 'string' ? value.replaceAll('secret', 'public') : value;
    const exported = await engine.runs.export(id, {
      redact(value, { kind, name }: RedactPlace) {
        places.push(name === undefined ? kind : `${kind} ${name}`);
        if (kind === 'payload') return { public: 'payload' };
        if (kind === 'stack') return undefined;
        return typeof value === 'string' ? mask(value) : { was: kind };
      },
    });
    expect(JSON.stringify(exported)).not.toContain('secret');
    expect([...new Set(places)].sort()).toEqual(
      [
        'payload',
        'result',
        'progress',
        'step value',
        'made uuid',
        'event ask',
        'key ask',
        'key idempotencyKey',
        'tag',
        'error Error',
        'stack Error',
        'error RangeError',
        'stack RangeError',
        'code Error',
        'data Error',
        'log',
        'log value',
        'log-data',
      ].sort(),
    );
    const there = moving(world(media.memory!));
    await there.runs.import(posted(exported));
    expect(await snapshot(there, id)).toMatchObject({
      payload: { public: 'payload' },
      result: { was: 'result' },
      progress: { was: 'progress' },
      tags: ['public tag'],
      attempts: [{ error: { message: 'public failure' } }, { error: { message: 'public failure' } }],
    });
    const failed = exported.journal.find((entry) => entry.kind === 'step-failed');
    expect(failed?.error).toMatchObject({
      message: 'public failure',
      data: { was: 'data' },
      cause: { name: 'RangeError', message: 'public root' },
    });
    expect(failed?.error).not.toHaveProperty('stack');
    expect(
      await there.start(
        'tell',
        { public: 'payload' },
        { idempotencyKey: 'public idempotency', allowUnregistered: true },
      ),
    ).toMatchObject({ id, created: false });
  });

  it('F6: an error that was redacted still says which step it is of, so that its run can be retried', async () => {
    const define = (isBroken: boolean) => (stepfast: Stepfast) =>
      stepfast.job('pay', { retry: { maxAttempts: 1 } }, ({ step }) =>
        step.run('charge', () => {
          if (isBroken) throw new Error('secret card');
          return 'charged';
        }),
      );
    const here = world(media.memory!);
    const from = moving(here, define(true));
    const { id } = await from.start('pay');
    await here.clock.idle();
    for (const redact of [true, (value: unknown) => (typeof value === 'string' ? 'hidden' : value)]) {
      const there = world(media.memory!);
      const to = moving(there, define(false));
      await to.runs.import(posted(await from.runs.export(id, { redact })));
      expect(JSON.stringify(await to.runs.timeline(id))).not.toContain('secret');
      expect((await snapshot(to, id)).error).toMatchObject({ code: 'STEP_FAILED', step: 'charge' });
      await to.runs.retry(id);
      await there.clock.idle();
      expect(await snapshot(to, id)).toMatchObject({ status: 'completed', result: 'charged' });
    }
  });

  it.each([
    ['a value that can not be stored', 'step', () => 0, 'NOT_SERIALIZABLE'],
    ['a promise', 'payload', Promise.resolve(1), 'NOT_SERIALIZABLE'],
    ['the data of an error that can not be stored', 'data', () => 0, 'NOT_SERIALIZABLE'],
    ['a message that is no text', 'error', undefined, 'INVALID_OPTION'],
    ['a key that is no text', 'key', 5, 'INVALID_OPTION'],
    ['an empty key', 'key', '', 'INVALID_OPTION'],
    ['a tag that is no text', 'tag', {}, 'INVALID_OPTION'],
    ['a log line that is no text', 'log', null, 'INVALID_OPTION'],
  ])('B: redact that gives %s is refused', async (_, kind, bad, code) => {
    const { engine, id } = await told();
    const redact = (value: unknown, place: RedactPlace) => (place.kind === kind ? bad : value);
    await expect(engine.runs.export(id, { redact })).rejects.toMatchObject({ code });
  });

  it('D7: a blob is refused with its path, unless redact replaces it', async () => {
    const w = world(media.memory!);
    const engine = moving(w, (stepfast) => {
      stepfast.job('photo', ({ step }) =>
        step.run('shoot', () => {
          const photo = new Blob(['secret'], { type: 'image/png' });
          const shared = { text: 'shared' };
          return { of: { photo }, shared, again: shared };
        }),
      );
    });
    const { id } = await engine.start('photo');
    await w.clock.idle();
    await expect(engine.runs.export(id)).rejects.toMatchObject({ code: 'NOT_SERIALIZABLE', path: '$.of.photo' });
    const asked = await engine.runs.export(id, { redact: () => 'no photo' });
    const hidden = await engine.runs.export(id, { redact: true });
    const [one, two] = [moving(world(media.memory!)), moving(world(media.memory!))];
    await one.runs.import(posted(asked));
    await two.runs.import(posted(hidden));
    expect((await snapshot(one, id)).result).toBe('no photo');
    const shared = { text: '[redacted]' };
    expect((await snapshot(two, id)).result).toEqual({ of: { photo: new ArrayBuffer(0) }, shared, again: shared });
  });
});

describe('what is no exported run', () => {
  const at = (target: unknown, path: readonly (string | number)[]) =>
    path.reduce((found, key) => (found as Record<string | number, unknown>)[key], target) as Record<string, unknown>;
  /** The paths of everything in a value. */
  const pathsOf = (value: unknown, path: readonly string[] = []): (readonly string[])[] =>
    typeof value === 'object' && value
      ? Object.entries(value).flatMap(([key, each]) => [[...path, key], ...pathsOf(each, [...path, key])])
      : [];

  it('B: whatever is changed in one, import takes it or refuses it by name, and never half', async () => {
    const { engine, id } = await told();
    const exported = posted(await engine.runs.export(id));
    const w = world(media.memory!);
    const to = moving(w);
    await to.ready();
    let refused = 0;
    for (const path of pathsOf(exported))
      for (const bad of [undefined, null, -1, 'x', {}, { $: ['ref', 99] }]) {
        const changed = posted(exported);
        const holder = at(changed, path.slice(0, -1));
        if (bad === undefined) delete holder[path.at(-1)!];
        else holder[path.at(-1)!] = bad;
        const before = w.commits();
        const outcome = await to.runs.import(changed, { id: `copy ${w.commits()}` }).catch((error) => error);
        if (!('code' in outcome)) continue;
        refused++;
        expect(outcome, `${path.join('.')} = ${JSON.stringify(bad)}`).toMatchObject({ code: 'INVALID_PAYLOAD' });
        expect(outcome.path).toMatch(/^\$/);
        expect(w.commits()).toBe(before);
      }
    expect(refused).toBeGreaterThan(400);
    for (const run of (await to.runs.list({ limit: 1_000 })).runs) expect(run.status).toBe('completed');
  });

  it.each([
    ['nothing', undefined, '$'],
    ['a text', '{}', '$'],
    ['a list', [], '$'],
    ['an empty object', {}, '$.stepfast'],
    ['no run', { stepfast: 1, format: 1, journal: [] }, '$.run'],
  ])('B: %s', async (_, given, path) => {
    const to = moving(world(media.memory!));
    const refusal = { code: 'INVALID_PAYLOAD', path };
    await expect(to.runs.import(given as never)).rejects.toMatchObject(refusal);
  });

  it.each([
    ['no entries', (run: ExportedRun) => ({ ...run, journal: [] }), '$.journal'],
    ['two beginnings', (run: ExportedRun) => ({ ...run, journal: [...run.journal, run.journal[0]] }), /\.kind$/],
    [
      'a kind that is unknown',
      (run: ExportedRun) => ({ ...run, journal: [...run.journal, { kind: 'x', at: 0 }] }),
      /\.kind$/,
    ],
    [
      'a field too much',
      (run: ExportedRun) => ({ ...run, journal: [{ ...run.journal[0], asked: 1 }] }),
      '$.journal[0].asked',
    ],
    [
      'an end that it does not have',
      (run: ExportedRun) => ({ ...run, run: { ...run.run, status: 'failed' } }),
      '$.run.status',
    ],
    [
      'no end, though it has one',
      (run: ExportedRun) => ({ ...run, run: { ...run.run, status: 'waiting' } }),
      '$.run.status',
    ],
  ])('B: a run with %s', async (_, change, path) => {
    const { engine, id } = await told();
    const changed = change(await engine.runs.export(id)) as ExportedRun;
    const refusal = { code: 'INVALID_PAYLOAD', path: typeof path === 'string' ? path : expect.stringMatching(path) };
    await expect(engine.runs.import(changed, { id: 'x' })).rejects.toMatchObject(refusal);
  });

  it('D4: a run of a newer format is refused as such', async () => {
    const { engine, id } = await told();
    const exported = await engine.runs.export(id);
    for (const newer of [{ format: 2 }, { stepfast: 2 as never }])
      await expect(engine.runs.import({ ...exported, ...newer }, { id: 'x' })).rejects.toMatchObject({
        code: 'STORE_TOO_NEW',
      });
  });

  it('B: ids, options, runs that are not there, and an engine without the plug-in', async () => {
    const { w, engine, id } = await told();
    const exported = await engine.runs.export(id);
    await expect(engine.runs.import(exported, { id: '' })).rejects.toMatchObject({ code: 'INVALID_ID' });
    await expect(engine.runs.export('nobody')).rejects.toMatchObject({ code: 'RUN_NOT_FOUND', runId: 'nobody' });
    await expect(engine.runs.export(id, { redact: 'all' as never })).rejects.toMatchObject({ code: 'INVALID_OPTION' });
    const without = w.engine();
    const refusal = { code: 'MISSING_PLUGIN', message: expect.stringContaining('stepfast/transfer') };
    await expect(without.runs.export(id)).rejects.toMatchObject(refusal);
    await expect(without.runs.import(exported)).rejects.toMatchObject(refusal);
  });
});
