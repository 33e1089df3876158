import { describe, expect, it } from 'vitest';
import { StepfastError } from '../src/index.js';
import { failingStore, storeConformance } from '../src/testing/index.js';
import { media, onEveryStore, world } from './harness.js';

// Pins: spec D5 with the failing store of stepfast/testing, and that store itself.

const code = (name: string) => expect.objectContaining({ code: name });

onEveryStore('a failing store', (medium) => {
  const open = () => {
    const w = world(medium);
    const store = failingStore(w.store());
    const engine = w.engine((stepfast) => void stepfast.job('greet', ({ step }) => step.run('say', () => 'hello')), {
      store,
    });
    return { w, store, engine };
  };

  it('D5: a full disk refuses the start as a whole, and the next one after it is healed succeeds', async () => {
    const { w, store, engine } = open();
    store.fail({ error: 'QUOTA_EXCEEDED', lasts: 'until-healed' });
    for (let tries = 0; tries < 2; tries++)
      await expect(engine.start('greet', undefined, { id: 'r' })).rejects.toEqual(code('QUOTA_EXCEEDED'));
    expect(await engine.runs.get('r')).toBeUndefined();
    store.heal();
    const run = await engine.start('greet', undefined, { id: 'r' });
    expect(run.created).toBe(true);
    expect(await w.clock.skipUntil(run.result())).toBe('hello');
  });

  it('D5, O3: where nothing can be written, what is there can be read; once it can, all goes on', async () => {
    const w = world(medium);
    const before = w.engine(
      (stepfast) => void stepfast.job('waits', ({ step }) => step.waitForEvent('go', { timeout: '1s' })),
    );
    await before.start('waits', undefined, { id: 'r' });
    await before.state.set('k', 'v');
    await w.clock.idle();
    await before.close();
    await w.clock.advance('1m');
    const store = w.store();
    const { open } = store;
    let isFull = true;
    store.open = async (options) => {
      if (isFull && options.mode === 'drive') throw new StepfastError('QUOTA_EXCEEDED', 'The disk is full.');
      return open.call(store, options);
    };
    const engine = w.engine(
      (stepfast) => void stepfast.job('waits', ({ step }) => step.waitForEvent('go', { timeout: '1s' })),
      {
        store,
      },
    );
    expect(await engine.runs.get('r')).toMatchObject({ status: 'waiting' });
    expect((await engine.runs.list()).runs).toHaveLength(1);
    expect((await engine.runs.timeline('r')).length).toBeGreaterThan(1);
    expect(await engine.state.get('k')).toBe('v');
    await expect(engine.ready()).rejects.toEqual(code('QUOTA_EXCEEDED'));
    expect(w.errors).toContainEqual(code('QUOTA_EXCEEDED'));
    isFull = false;
    await w.clock.advance('10s');
    expect(await engine.runs.get('r')).toMatchObject({ status: 'failed', error: { code: 'EVENT_TIMEOUT' } });
  });

  it('D5, Q4: where driving fails, it is tried every few seconds, however often the store tells of changes', async () => {
    const w = world(medium);
    const store = w.store();
    const { open, watch } = store;
    let hint = () => {};
    let tries = 0;
    store.watch = (listener) => {
      hint = () => listener(undefined, false);
      return watch.call(store, listener);
    };
    store.open = async (options) => {
      if (options.mode !== 'drive') return open.call(store, options);
      // Trying leaves files behind for a moment, in a folder that this very store looks at.
      if (++tries < 500) queueMicrotask(hint);
      throw new StepfastError('QUOTA_EXCEEDED', 'The disk is full.');
    };
    const engine = w.engine((stepfast) => void stepfast.job('greet', () => 'hello'), { store });
    await engine.runs.list();
    await w.clock.advance('10s');
    expect(tries).toBeGreaterThan(2);
    expect(tries).toBeLessThan(9);
    expect(w.errors).toHaveLength(tries);
  });

  it('S8: a commit whose answer is lost has happened', async () => {
    const { w, store, engine } = open();
    store.fail({ when: 'after' });
    await expect(engine.start('greet', undefined, { id: 'r' })).rejects.toEqual(code('STORE_UNAVAILABLE'));
    const run = await engine.start('greet', undefined, { id: 'r' });
    expect(run.created).toBe(false);
    expect(await w.clock.skipUntil(run.result())).toBe('hello');
  });

  it('the second of some calls fails, once, with the error that was given', async () => {
    const { w, store, engine } = open();
    await engine.ready();
    await w.clock.idle();
    const before = store.calls('list');
    store.fail({ on: ['load', 'list'], at: 2, error: new Error('no') });
    expect(await engine.runs.get('r')).toBeUndefined();
    await expect(engine.runs.list()).rejects.toThrow('no');
    expect(await engine.runs.get('r')).toBeUndefined();
    expect([store.calls('load'), store.calls('list') - before, store.calls('open')]).toEqual([2, 1, 1]);
    expect(store.calls()).toBeGreaterThanOrEqual(4);
  });
});

describe('faults that make no sense', () => {
  it.each([
    [{ on: 'close' as never }, 'on is "close"'],
    [{ at: 0 }, 'at is 0'],
    [{ when: 'during' as never }, 'when is "during"'],
    [{ lasts: 'long' as never }, 'lasts is "long"'],
    [{ error: 7 as never }, 'error is 7'],
  ])('%j is refused', (fault, said) => {
    const store = failingStore(media.memory!()());
    expect(() => store.fail(fault)).toThrow(said);
    expect(() => failingStore(store, [fault])).toThrow(said);
  });

  it('so is what is no store', () => {
    for (const store of [{}, null, undefined]) expect(() => failingStore(store as never)).toThrow('Give a store');
  });
});

storeConformance(
  'unharmed failing',
  () =>
    (
      (open) => () =>
        failingStore(open())
    )(media.memory!()),
  { describe, it },
);
