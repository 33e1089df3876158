import { AsyncLocalStorage } from 'node:async_hooks';
import { expect, it, vi } from 'vitest';
import { memoryStore } from '../adapters/memory/index.js';
import { createStepfast } from '../src/index.js';
import { simulatedClock } from '../src/testing/index.js';
import { media } from './harness.js';

// Pins: spec R9 between engines, and that an engine that is gone costs its process nothing.

it('R9: an engine inside the step of another is outside of it, and its own steps do not nest either', async () => {
  const clock = simulatedClock();
  const inner = createStepfast({ store: media.memory!()(), clock });
  inner.job('inner', async ({ step }) => {
    const nested = step.run('holds', async () => {
      await undefined;
      return step.run('nested', () => 1);
    });
    return nested.catch((error) => error.cause.code);
  });
  const outer = createStepfast({ store: media.memory!()(), clock });
  outer.job('outer', async ({ step }) => {
    const seen = await step.run('play', async () => (await inner.start('inner')).result());
    return [seen, await step.run('own', () => 'own')];
  });
  const run = await outer.start('outer');
  expect(await clock.skipUntil(run.result())).toEqual(['NESTED_STEP', 'own']);
  await outer.close();
  await inner.close();
});

it('O1: a store is one engine’s: another is refused it, also when the first is closed, and a refused one keeps none', async () => {
  const store = memoryStore();
  expect(() => createStepfast({ store, leaseMs: -1 })).toThrow('leaseMs');
  const engine = createStepfast({ store });
  const refusal = expect.objectContaining({
    code: 'INVALID_OPTION',
    message: expect.stringContaining('another engine'),
  });
  expect(() => createStepfast({ store })).toThrow(refusal);
  expect(await engine.state.increment('n')).toBe(1); // nothing has happened to it
  await engine.close();
  expect(() => createStepfast({ store })).toThrow(refusal);
});

/** The core as a process loads it first, with every `AsyncLocalStorage` that it makes. */
async function freshCore(
  use: (core: typeof import('../src/index.js'), made: readonly Counting[]) => Promise<void>,
  Made = Counting,
) {
  const made: Counting[] = [];
  const Counted = class extends Made {
    constructor() {
      super();
      made.push(this);
    }
  };
  vi.resetModules();
  const find = vi.spyOn(process, 'getBuiltinModule').mockReturnValue({ AsyncLocalStorage: Counted } as never);
  try {
    await use(await import('../src/index.js'), made);
    expect(find).toHaveBeenCalled();
  } finally {
    find.mockRestore();
  }
}

/** Tells whether it is on: as long as it is, Node calls it at every promise of the process. */
class Counting extends AsyncLocalStorage<unknown> {
  isOn = false;
  override run(store: unknown, callback: (...args: never[]) => unknown, ...args: never[]): never {
    this.isOn = true;
    return super.run(store, callback, ...args) as never;
  }
  override disable(): void {
    this.isOn = false;
    super.disable();
  }
}

it('engines that come and go leave nothing behind that every promise pays for', () =>
  freshCore(async (core, made) => {
    for (let engines = 0; engines < 5; engines++)
      await core.createStepfast({ store: media.memory!()(), clock: simulatedClock() }).close();
    expect(made).toHaveLength(1);
  }));

it('promises pay for R9 only while functions of steps are in flight', () =>
  freshCore(async (core, made) => {
    const clock = simulatedClock();
    const engine = core.createStepfast({ store: media.memory!()(), clock });
    const seen: unknown[] = [];
    let finish = (): void => undefined;
    engine.job('two', async ({ step }) => {
      const long = step.run('long', () => new Promise<void>((resolve) => (finish = resolve)));
      await step.run('short', async () => undefined);
      seen.push(made[0]!.isOn); // the long one is in flight
      await step.run('throws', () => Promise.reject(new core.FatalError('no'))).catch(() => undefined);
      finish();
      await long;
      seen.push(made[0]!.isOn);
      const undone = step.run('undone', () => undefined, { undo: () => void seen.push(made[0]!.isOn) });
      await undone;
      throw new core.FatalError('undo it');
    });
    const run = await engine.start('two');
    await clock.idle();
    expect([await run.status(), seen, made[0]!.isOn]).toEqual(['failed', [true, false, true], false]);
    await engine.close();
  }));

/** Since Node 24, what was called keeps its context, however often the storage is switched off. */
class Lasting extends Counting {
  override disable(): void {
    this.isOn = false;
  }
}

it.each([
  ['called', 'call'],
  ['started', 'start'],
] as const)('R9: a run that another has %s is outside of that step, whatever else is in flight by then', async (_, word) =>
  freshCore(async (core) => {
    const engine = core.createStepfast({ store: media.memory!()() });
    let end: (() => void) | undefined;
    engine.job('busy', ({ step }) => step.run('long', () => new Promise<void>((resolve) => (end = resolve))));
    engine.job('child', async ({ step }) => {
      await step.run('first', () => engine.start('busy').then(() => vi.waitUntil(() => end !== undefined)));
      return Promise.all([step.run('left', () => 'left'), step.run('right', () => 'right')]);
    });
    engine.job('parent', ({ step }) => step[word]('child', undefined, { id: 'c' }).then(() => 'parent'));
    await engine.start('parent');
    const ended = () => engine.runs.get('c').then((run) => run?.result ?? run?.error?.message);
    await expect.poll(ended).toEqual(['left', 'right']);
    end!();
    await engine.close();
  }, Lasting));
